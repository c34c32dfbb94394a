"""Baselines: what an honest crowd's phones, dwell times, token ages and TLS stacks look like, per
class of network.

Best taken from yesterday's votes without the flagged ones (`Found.baselines` of that run). Where
there is none they come from the votes at hand, robustly: a campaign has hundreds of candidates and
a stuffer pays for a few, so every candidate has one voice of limited weight, and what one
candidate has far more of than the middle ones have is cut off before the mean is taken. Known
weakness: with fewer than five candidates there is no middle to compare with, and then votes at
hand can only show what differs within them; pass yesterday's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.buckets import AGE_BUCKETS, AGENTS, CLASSES, DWELL_BUCKETS
from antifraud.networks import NetworkClass

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHRINK_VOTES = 500.0
"""A class of which fewer votes are known than this is judged mostly by the mix of all classes."""

CLASS_LEAST_SHARE = 0.03
"""Of all votes: a class with fewer has no mix of its own. Where hardly anybody is, a few stuffers
are most of who is there."""

STACKS_MAX = 512
"""So many TLS hashes are told apart, the most common ones; the rest counts as one rare stack."""

STACK_SHRINK_VOTES = 50.0
"""A phone model seen less often than this is expected to have the TLS stacks of all."""

_FLOOR = 1e-6
"""No bucket is impossible: a person can do anything once in a million."""


@dataclass(frozen=True, slots=True, eq=False)
class Baselines:
    """Shares that add up to 1 along the last axis; unknown (bucket 0 of agents and dwell) is no
    part of them."""

    agent: Floats
    """[class, user agent class]"""
    dwell: Floats
    """[class, dwell bucket]"""
    age: Floats
    """[class, token age bucket]"""
    stacks: Ints
    """TLS hashes that are told apart, ascending; 0 (unknown) is not one of them."""
    stack: Floats
    """[user agent class, index in `stacks`, and last the rare rest]"""
    votes: int
    """How many votes they rest on."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` reads it."""
        return {
            "votes": self.votes,
            "stacks": self.stacks.tolist(),
            **{
                name: [[round(share, 8) for share in row] for row in getattr(self, name).tolist()]
                for name in ("agent", "dwell", "age", "stack")
            },
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Baselines":
        """KeyError or ValueError where `given` is not what `as_dict` made."""
        stacks = np.asarray(given["stacks"], np.int64)
        shapes = {
            "agent": (CLASSES, AGENTS),
            "dwell": (CLASSES, DWELL_BUCKETS),
            "age": (CLASSES, AGE_BUCKETS),
            "stack": (AGENTS, len(stacks) + 1),
        }
        tables = {}
        for name, shape in shapes.items():
            table = np.asarray(given[name], np.float64)
            if table.shape != shape:
                raise ValueError(f"baseline {name!r} is {table.shape}, expected {shape}")
            tables[name] = table
        return cls(stacks=stacks, votes=int(given["votes"]), **tables)

    def stack_index(self, tls: Ints) -> Ints:
        """Place of each TLS hash in `stack`; the last one for what is rare."""
        return _index_in(self.stacks, tls)


@dataclass(frozen=True, slots=True, eq=False)
class Breakdown:
    """Votes by some columns of `seen`: one array a column, and how many votes."""

    columns: dict[str, Ints]
    votes: Ints

    def minus(self, other: "Breakdown") -> "Breakdown":
        """Without the votes of `other`, whose cells are all among these."""
        names = list(self.columns)
        both = {name: np.concatenate([self.columns[name], other.columns[name]]) for name in names}
        order = np.lexsort([both[name] for name in names])
        new = np.zeros(len(order), bool)
        new[:1] = True
        for name in names:
            column = both[name][order]
            new[1:] |= column[1:] != column[:-1]
        cell = np.cumsum(new) - 1
        signed = np.concatenate([self.votes, -other.votes])[order]
        first = order[new]
        left = np.bincount(cell, signed, len(first)).astype(np.int64)
        return Breakdown({name: both[name][first][left > 0] for name in names}, left[left > 0])


@dataclass(frozen=True, slots=True, eq=False)
class Breakdowns:
    """All that baselines are learned from, counted in one go."""

    agent: Breakdown
    dwell: Breakdown
    age: Breakdown
    stack: Breakdown

    def minus(self, other: "Breakdowns") -> "Breakdowns":
        return Breakdowns(
            self.agent.minus(other.agent),
            self.dwell.minus(other.dwell),
            self.age.minus(other.age),
            self.stack.minus(other.stack),
        )

    @property
    def total(self) -> int:
        return int(self.agent.votes.sum())


def breakdowns(db: duckdb.DuckDBPyConnection, votes: str = "seen") -> Breakdowns:
    """Of a table with the columns of seen.sql."""
    return Breakdowns(
        _breakdown(db, votes, "cls, c, u"),
        _breakdown(db, votes, "cls, c, d"),
        _breakdown(db, votes, "cls, c, a"),
        _breakdown(db, f"{votes} WHERE tls > 0", "c, u, tls"),
    )


def _breakdown(db: duckdb.DuckDBPyConnection, votes: str, columns: str) -> Breakdown:
    found = db.execute(f"SELECT {columns}, count(*) AS n FROM {votes} GROUP BY ALL").fetchnumpy()
    n = np.asarray(found.pop("n"), np.int64)
    return Breakdown({name: np.asarray(column, np.int64) for name, column in found.items()}, n)


def learn(counted: Breakdowns) -> Baselines:
    """Baselines out of what was counted."""
    place = _candidates(counted.age)
    stacks, stack = _stacks(counted.stack)
    return Baselines(
        agent=_mix(counted.agent, "u", AGENTS, place, known_from=1),
        dwell=_mix(counted.dwell, "d", DWELL_BUCKETS, place, known_from=1),
        age=_mix(counted.age, "a", AGE_BUCKETS, place, known_from=0),
        stacks=stacks,
        stack=stack,
        votes=counted.total,
    )


CANDIDATES_MAX = 2_048
"""Baselines are taken over the candidates with the most votes, at most so many: memory."""


def _candidates(counted: Breakdown) -> Ints:
    """Candidate.number -> row in the tables of `_mix`, -1 = too small to matter."""
    votes = np.bincount(counted.columns["c"], counted.votes, 1)
    numbers = np.argsort(-votes, kind="stable")[:CANDIDATES_MAX]
    place = np.full(len(votes), -1, np.int64)
    place[numbers] = np.arange(len(numbers))
    return place


def _mix(counted: Breakdown, column: str, buckets: int, place: Ints, *, known_from: int) -> Floats:
    """[class, bucket] shares of one column."""
    cls, bucket = counted.columns["cls"], counted.columns[column]
    row = place[counted.columns["c"]]
    used = (row >= 0) & (bucket >= known_from)
    counts = np.zeros((CLASSES, int(row.max(initial=-1)) + 1, buckets))
    np.add.at(counts, (cls[used], row[used], bucket[used]), counted.votes[used])
    # What comes out of rented servers is stuffing for the most part: people there are colleagues
    # behind their company's proxy, and look like everybody.
    counts[NetworkClass.DATACENTRE] = 0
    counts[few_votes(counts.sum(axis=(1, 2)))] = 0
    everybody = middle_share(counts.sum(axis=0))
    return np.stack([_shrunk(counts[one], everybody) for one in range(CLASSES)])


def few_votes(of_class: Floats, least_share: float = CLASS_LEAST_SHARE) -> NDArray[np.bool_]:
    """Which classes have too few votes for a mix of their own."""
    few: NDArray[np.bool_] = of_class < least_share * of_class.sum()
    return few


def _shrunk(counts: Floats, everybody: Floats) -> Floats:
    votes = float(counts.sum())
    mixed = (votes * middle_share(counts) + SHRINK_VOTES * everybody) / (votes + SHRINK_VOTES)
    mixed = np.maximum(mixed, _FLOOR)
    shares: Floats = mixed / mixed.sum()
    return shares


def middle_share(counts: Floats) -> Floats:
    """[candidate, bucket] votes -> the buckets' shares in the middle of the candidates.

    Winsorised: begins with the interquartile mean over candidates, then cuts each candidate's
    bucket at twice what that lets expect, with room for chance, and lets no candidate weigh more
    than five middle ones.
    """
    buckets = counts.shape[1]
    of_candidate = counts.sum(axis=1)
    enough = of_candidate >= 30
    if int(enough.sum()) < 5:
        total = counts.sum(axis=0)
        return total / total.sum() if total.sum() > 0 else np.full(buckets, 1.0 / buckets)
    counts, of_candidate = counts[enough], of_candidate[enough]
    ordered = np.sort(counts / of_candidate[:, None], axis=0)
    quarter = len(ordered) // 4
    shares = ordered[quarter : len(ordered) - quarter].mean(axis=0)
    weight = np.minimum(of_candidate, 5 * float(np.median(of_candidate)))
    for _ in range(3):
        expected = of_candidate[:, None] * shares
        cut = np.minimum(counts, 2 * expected + 3 * np.sqrt(expected) + 3)
        shares = ((cut / of_candidate[:, None]) * weight[:, None]).sum(axis=0)
        shares = shares / shares.sum()
    result: Floats = shares
    return result


def _stacks(counted: Breakdown) -> tuple[Ints, Floats]:
    """(TLS hashes told apart, their shares [user agent class, stack]).

    One candidate adds at most a hundredth of all to a (user agent, stack): a stuffer's own stack
    stays rare.
    """
    agent, tls = counted.columns["u"], counted.columns["tls"]
    votes = np.minimum(counted.votes, max(3, int(counted.votes.sum()) // 100)).astype(np.float64)
    hashes, place = np.unique(tls, return_inverse=True)
    of_stack = np.bincount(place, votes, len(hashes))
    common = np.argsort(-of_stack, kind="stable")[:STACKS_MAX]
    stacks = np.sort(hashes[common])
    index = _index_in(stacks, tls)
    joint = np.zeros((AGENTS, len(stacks) + 1))
    np.add.at(joint, (agent, index), votes)
    overall = joint.sum(axis=0) + _FLOOR
    overall = overall / overall.sum()
    shares = joint + STACK_SHRINK_VOTES * overall
    return stacks, shares / shares.sum(axis=1, keepdims=True)


def _index_in(stacks: Ints, tls: Ints) -> Ints:
    """Place of each TLS hash; len(stacks) for one that is not among them."""
    if len(stacks) == 0:
        return np.zeros(len(tls), np.int64)
    place = np.minimum(np.searchsorted(stacks, tls), len(stacks) - 1)
    return np.where(stacks[place] == tls, place, len(stacks))


def collision(shares: Floats) -> Floats:
    """Chance that two random votes fall into the same bucket, along the last axis."""
    result: Floats = (shares * shares).sum(axis=-1)
    return result


def mixture(shares: Floats, weights: Iterable[float] | Floats) -> Floats:
    """The mix of the classes by `weights` (need not add up to 1)."""
    weight = np.asarray(weights, np.float64)
    result: Floats = weight @ shares / max(float(weight.sum()), 1e-300)
    return result
