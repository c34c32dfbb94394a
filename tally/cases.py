"""Flags in the database: what detectors claim about votes, as cases that staff can go through.

A vote is listed in one flag at most. What is found again is known already; what is found again
with more votes becomes a flag that continues the first one: they are one case, decided together.

Owner: `watch` adds them, one pass at a time. Staff read them by case_files.py.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import asyncpg
import numpy as np
from numpy.typing import NDArray

from antifraud.flags import Flag, rank_effect
from tally.store import SQL
from tally.vote_arrays import dates_of, positions_of, vote_ids

SAME_CASE_SHARE = 0.3
"""What shares so much of its votes, or so much of the case's, with a case is that case."""
CONTINUES_FROM_VOTES = 10
"""Fewer new votes of a known case wait for more."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundFlag:
    """A detector's flag, with what the database needs to know of each of its votes."""

    flag: Flag
    days: NDArray[np.int64]
    """Campaign day of each vote, in days since 1970."""
    candidates: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AddedFlag:
    """A flag that was not there before."""

    number: int
    votes: int
    score: float


async def add_flags(
    connection: asyncpg.Connection, campaign: int, found: Sequence[FoundFlag]
) -> list[AddedFlag]:
    """Write down what is new in these flags, in one transaction; the numbers that it got.

    The connection must be in no transaction. Whoever calls again after a crash adds nothing
    twice: votes that are listed already are recognised.
    """
    if not found:
        return []
    async with connection.transaction():
        # Decisions and flags are numbered by one at a time.
        await connection.execute(SQL["lock_decisions"])
        known = await _KnownVotes.read(connection, campaign, [one.days for one in found])
        tallies = dict(await connection.fetch(SQL["read_all_votes"], campaign))
        added = []
        for one in sorted(found, key=lambda one: -len(one.flag.votes)):
            case, is_new = known.place(one.flag.votes)
            if not is_new.any() or (case is not None and is_new.sum() < CONTINUES_FROM_VOTES):
                continue
            added.append(await _add_flag(connection, campaign, one, is_new, case, tallies))
            known = known.and_(one.flag.votes[is_new], case or added[-1].number)
    return added


async def _add_flag(
    connection: asyncpg.Connection,
    campaign: int,
    found: FoundFlag,
    is_new: NDArray[np.bool_],
    case: int | None,
    tallies: Mapping[int, int],
) -> AddedFlag:
    flag = found.flag
    votes, days = flag.votes[is_new], found.days[is_new]
    candidates = Counter(found.candidates[is_new].tolist())
    number: int = await connection.fetchval(
        SQL["add_flag"],
        campaign,
        case,
        list(flag.rules),
        flag.version,
        list(flag.kinds),
        json.dumps(flag.evidence, ensure_ascii=False),
        flag.sentence,
        flag.score,
        flag.automatic,
        len(votes),
        json.dumps(candidates),
        json.dumps(rank_effect({**dict.fromkeys(candidates, 0), **tallies}, candidates)),
    )
    await connection.executemany(
        SQL["add_flag_votes"],
        [(number, *place, seqs) for place, seqs in _by_place(votes, days).items()],
    )
    return AddedFlag(number, len(votes), flag.score)


def _by_place(
    votes: NDArray[np.int64], days: NDArray[np.int64]
) -> dict[tuple[date, int, int], list[int]]:
    """(day, shard, epoch) -> seqs, ascending."""
    shards, epochs, seqs = positions_of(votes)
    places, which = np.unique(np.stack([days, shards, epochs], axis=1), axis=0, return_inverse=True)
    listed = {}
    for n, (day, shard, epoch) in enumerate(places.tolist()):
        listed[dates_of([day])[0], shard, epoch] = np.sort(seqs[which == n]).tolist()
    return listed


class _KnownVotes:
    """The votes of a campaign that are listed in flags, and in which case."""

    def __init__(self, votes: NDArray[np.int64], cases: NDArray[np.int64]) -> None:
        order = np.argsort(votes, kind="stable")
        self._votes, self._cases = votes[order], cases[order]
        self._sizes = Counter(self._cases.tolist())

    @classmethod
    async def read(
        cls, connection: asyncpg.Connection, campaign: int, days: Iterable[NDArray[np.int64]]
    ) -> "_KnownVotes":
        """Those of these days: nothing else can be shared."""
        wanted = dates_of(np.unique(np.concatenate(list(days))).tolist())
        votes, cases = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for row in await connection.fetch(SQL["read_flag_votes"], campaign, wanted):
            seqs = np.asarray(row["seqs"], np.int64)
            votes.append(
                vote_ids(np.full_like(seqs, row["shard"]), np.full_like(seqs, row["epoch"]), seqs)
            )
            cases.append(np.full_like(seqs, row["case_of"]))
        return cls(np.concatenate(votes), np.concatenate(cases))

    def place(self, votes: NDArray[np.int64]) -> tuple[int | None, NDArray[np.bool_]]:
        """(the case that these votes belong to, if any; which of them are listed nowhere)."""
        if not len(self._votes):
            return None, np.ones(len(votes), bool)
        at = np.minimum(np.searchsorted(self._votes, votes), len(self._votes) - 1)
        listed = self._votes[at] == votes
        case, shared = max(
            Counter(self._cases[at[listed]].tolist()).items(),
            key=lambda item: item[1],
            default=(None, 0),
        )
        if case is None or shared < SAME_CASE_SHARE * min(len(votes), self._sizes[case]):
            return None, ~listed
        return case, ~listed

    def and_(self, votes: NDArray[np.int64], case: int) -> "_KnownVotes":
        """With these as well."""
        return _KnownVotes(
            np.concatenate([self._votes, votes]),
            np.concatenate([self._cases, np.full_like(votes, case)]),
        )
