"""How unlike a crowd's the mix of a set of votes is: four questions, each about another fact.

    agent   do two random votes share a phone model far more often than usual?
    dwell   is the time from the card to the tap spread as people spread, at whatever speed?
    age     the same of the age of fresh tokens
    stack   do the TLS stacks belong to the phones that are claimed?

All work on counts of many sets at once, one set a row. "Spread as people spread" is asked after
moving the baseline to where it fits best: a crowd in a hurry (colleagues told to vote at noon, a
link passed round in chats) is faster than usual and still spreads by a factor of two or more,
while programs wait "two seconds". What is unknown takes no part.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Baselines, collision
from antifraud.detectors.buckets import (
    AGE_BUCKETS,
    AGENTS,
    CLASSES,
    DWELL_BUCKETS,
    FRESH_BUCKETS,
    product,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HURRY = range(-16, 9)
"""Dwell: up to sixteen times faster than the baseline, four times slower."""
_FRESH_HURRY = range(-8, 7)
_ANYTHING = 0.02
"""Part of the fitted baseline that is spread evenly: some people do anything."""


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """Figures of sets of votes, one set a row. NaN where nothing is known."""

    votes: Ints
    agent_ratio: Floats
    """How many times more often than usual two random votes share a phone model."""
    dwell_misfit: Floats
    """Kullback-Leibler divergence in nats from the best-fitting human spread, bias taken off."""
    age_misfit: Floats
    stack_misfit: Floats
    """The same of TLS stacks, from those of the phones that are claimed."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Votes of each set by class, phone model, dwell, token age and TLS stack."""

    cls: Floats
    agent: Floats
    dwell: Floats
    age: Floats
    stack: Floats
    stack_expected: Floats
    """What the claimed phones of the votes whose TLS is known let expect."""


def count(
    sets: int,
    row: Ints,
    cls: Ints,
    agent: Ints,
    dwell: Ints,
    age: Ints,
    tls: Ints,
    baselines: Baselines,
) -> Counts:
    """Counts of `sets` sets; `row` says in which one each vote is."""

    def table(column: Ints, buckets: int) -> Floats:
        flat = np.bincount(row * buckets + column, minlength=sets * buckets)
        return flat.reshape(sets, buckets).astype(np.float64)

    known = tls > 0
    stacks = baselines.stack.shape[1]
    stack = np.bincount(
        row[known] * stacks + baselines.stack_index(tls[known]), minlength=sets * stacks
    ).reshape(sets, stacks)
    claimed = np.bincount(row[known] * AGENTS + agent[known], minlength=sets * AGENTS)
    return Counts(
        table(cls, CLASSES),
        table(agent, AGENTS),
        table(dwell, DWELL_BUCKETS),
        table(age, AGE_BUCKETS),
        stack.astype(np.float64),
        product(claimed.reshape(sets, AGENTS).astype(np.float64), baselines.stack),
    )


def judge_mix(counts: Counts, baselines: Baselines) -> Mix:
    """The figures of each set against the baselines of its own mix of network classes."""
    votes = counts.cls.sum(axis=1)
    weights = counts.cls / np.maximum(votes, 1)[:, None]
    usual_agent = product(weights, baselines.agent)
    usual_dwell = product(weights, baselines.dwell)
    usual_age = product(weights, baselines.age)
    return Mix(
        votes.astype(np.int64),
        _ratio(counts.agent, usual_agent),
        _misfit(counts.dwell[:, 1:], usual_dwell[:, 1:], _HURRY),
        _age_misfit(counts.age[:, :FRESH_BUCKETS], usual_age[:, :FRESH_BUCKETS]),
        _divergence(counts.stack, counts.stack_expected),
    )


def _ratio(counts: Floats, usual: Floats) -> Floats:
    known = counts[:, 1:]
    votes = known.sum(axis=1)
    pairs = votes * (votes - 1)
    same = (known * (known - 1)).sum(axis=1) / np.maximum(pairs, 1)
    return np.where(pairs > 0, same / np.maximum(collision(usual), 1e-9), np.nan)


_SETS_AT_ONCE = 256


def _misfit(counts: Floats, usual: Floats, shifts: range) -> Floats:
    parts = [
        _misfit_of_few(
            counts[first : first + _SETS_AT_ONCE], usual[first : first + _SETS_AT_ONCE], shifts
        )
        for first in range(0, len(counts), _SETS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _misfit_of_few(counts: Floats, usual: Floats, shifts: range) -> Floats:
    """Sets by shifts by buckets at once."""
    votes = counts.sum(axis=1)
    shares = counts / np.maximum(votes, 1)[:, None]
    buckets = counts.shape[1]
    source = np.arange(buckets)[None, :] - np.array(shifts)[:, None]
    inside = (source >= 0) & (source < buckets)
    moved = usual[:, source.clip(0, buckets - 1)] * inside
    moved /= np.maximum(moved.sum(axis=2, keepdims=True), 1e-12)
    moved = (1 - _ANYTHING) * moved + _ANYTHING / buckets
    fit = np.einsum("ib,isb->is", shares, np.log(moved))
    best = fit.argmax(axis=1)
    rows = np.arange(len(counts))
    effective = (1 - (1 - moved[rows, best]) ** votes[:, None]).sum(axis=1)
    misfit = _entropy(shares) - fit[rows, best] - _bias(effective, votes)
    return np.where(votes > 0, misfit, np.nan)


def _age_misfit(counts: Floats, usual: Floats) -> Floats:
    """Among fresh tokens: how many are younger than the look at the card (which does not move with
    any hurry), and how the others' leads spread."""
    votes = counts.sum(axis=1)
    share = counts[:, 0] / np.maximum(votes, 1)
    usual_share = usual[:, 0] / np.maximum(usual.sum(axis=1), 1e-12)
    usual_share = (1 - _ANYTHING) * usual_share + _ANYTHING
    younger = np.where(
        share > usual_share,
        share * np.log(np.maximum(share, 1e-12) / usual_share)
        + (1 - share) * np.log(np.maximum(1 - share, 1e-12) / (1 - usual_share)),
        0.0,
    )
    rest = _misfit(counts[:, 1:], usual[:, 1:], _FRESH_HURRY)
    total = younger + (1 - share) * np.maximum(np.nan_to_num(rest), 0.0)
    return np.where(votes > 0, total, np.nan)


def _divergence(counts: Floats, expected: Floats) -> Floats:
    votes = counts.sum(axis=1)
    shares = counts / np.maximum(votes, 1)[:, None]
    usual = expected / np.maximum(expected.sum(axis=1), 1e-12)[:, None]
    usual = (1 - _ANYTHING) * usual + _ANYTHING / counts.shape[1]
    fit = (shares * np.log(usual)).sum(axis=1)
    effective = (1 - (1 - usual) ** votes[:, None]).sum(axis=1)
    return np.where(votes > 0, _entropy(shares) - fit - _bias(effective, votes), np.nan)


def _entropy(shares: Floats) -> Floats:
    """Minus the entropy."""
    result: Floats = (shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)
    return result


def _bias(effective: Floats, votes: Floats) -> Floats:
    """What chance alone adds to a divergence: (buckets in use - 1) / 2n (Miller 1955)."""
    result: Floats = (effective - 1) / (2 * np.maximum(votes, 1))
    return result
