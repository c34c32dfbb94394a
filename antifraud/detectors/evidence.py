"""Evidence: what speaks against a set of votes, in families that are independent of each other.

Every threshold stands where honest crowds end and machines have not begun, as measured on crowds
of all the kinds that the rehearsal has (tuning seeds); the reason is beside each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Baselines, Floats, Ints
from antifraud.detectors.buckets import (
    AGE_BUCKETS,
    AGENTS,
    CLASSES,
    DWELL_BUCKETS,
    FRESH_BUCKETS,
    weighed,
)
from antifraud.detectors.crowd import Crowd
from antifraud.detectors.mix import Counts, judge_mix
from antifraud.detectors.sightings import Votes
from antifraud.networks import NetworkClass

LEAST_VOTES = 30
"""Below this a mix says nothing."""
AGENT_RATIO = 6.0
"""Friends and colleagues talk each other into phones: campuses reach 4, school classes 6. Company
phones reach 10 and a shop of one make 50, but no second family goes with them."""
STACK_MISFIT = 1.0
"""Nats. Chat groups and campuses stay below 0.4; the shop whose phones all use the browser of
their make reaches 1.1."""
DWELL_MISFIT = 0.6
"""Nats. Bursts of honest people stay below 0.4, "two seconds and a bit" (+-15 %) is at 1.7, a loop
with a fixed pause above 2."""
AGE_MISFIT = 0.8
"""Nats, among fresh tokens. Honest bursts stay below 0.65; tokens younger than the look at the card
are at 3 and more."""
ISSUE_RATIO = 8.0
"""How many times more often than usual two old tokens are of the same hour of issue."""
LEAD_RATIO = 5.0
"""The same of the leads of old tokens (half octaves)."""
PACE = 0.5
"""Variation of the gaps between votes, longest tenth left out: 0.8 where each comes when it comes
(Poisson), more where the day has its hours, 0.2 for a loop with a pause."""

REPEAT_LINES = 5
"""One line on which one make of phone keeps coming is a shop; five are not."""
REPEAT_VOTES = 6
"""Fresh tokens of one phone model on one line: more than a family or a private window has."""
REPEAT_SHARE = 0.5
"""Of the votes, those from such lines."""

LEAST_NATS = 30.0
"""A misfit must also be this many nats over all its votes: thirty votes fit anything badly."""

DATACENTRE_SHARE = 0.8
"""Of the votes, those from rented servers. One honest vote in a thousand comes from there."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Kinds (antifraud.flags.KIND_NATS) with their strength from 0 to 1, and the figures."""

    kinds: dict[str, float]
    figures: dict[str, float]


def weigh(votes: Votes, part: Floats, crowd: Crowd) -> Evidence:
    """The kinds of evidence in votes of which `part` (0 to 1 each) are the other source's."""
    total = max(float(part.sum()), 1e-9)
    baselines = crowd.baselines
    soft = _soft_counts(votes, part, baselines)
    mix = judge_mix(soft, baselines)
    figures = {
        "agent_ratio": float(mix.agent_ratio[0]),
        "tls_misfit": float(mix.stack_misfit[0]),
        "dwell_misfit": float(mix.dwell_misfit[0]),
        "age_misfit": float(mix.age_misfit[0]),
        "datacentre_share": float(soft.cls[0, NetworkClass.DATACENTRE]) / total,
    }
    kinds: dict[str, float] = {}

    def found(kind: str, figure: float, threshold: float) -> None:
        if figure > threshold:
            kinds[kind] = max(kinds.get(kind, 0.0), min(1.0, figure / threshold - 1))

    def misfit(kind: str, figure: float, threshold: float, known: float) -> None:
        # A fact that most of the votes do not carry says nothing about them.
        if known > total / 2 and known * figure > LEAST_NATS:
            found(kind, figure, threshold)

    agents, stacks = float(soft.agent[0, 1:].sum()), float(soft.stack.sum())
    fresh = float(soft.age[0, :FRESH_BUCKETS].sum())
    if agents > total / 2 and agents >= LEAST_VOTES:
        found("client", figures["agent_ratio"], AGENT_RATIO)
    misfit("client", figures["tls_misfit"], STACK_MISFIT, stacks)
    misfit("dwell", figures["dwell_misfit"], DWELL_MISFIT, float(soft.dwell[0, 1:].sum()))
    misfit("age", figures["age_misfit"], AGE_MISFIT, fresh)
    if total - fresh > total / 2 and total - fresh >= LEAST_VOTES:
        figures["lead_ratio"], figures["issue_ratio"] = crowd.old_ratios(votes, part)
        found("age", figures["lead_ratio"], LEAD_RATIO)
        found("age", figures["issue_ratio"], ISSUE_RATIO)
    figures["pace"] = pace(votes.us[part > 0.5])
    if figures["pace"] < PACE:
        kinds["pace"] = min(1.0, 2 * (1 - figures["pace"] / PACE))
    figures["repeat_share"] = _repeated(votes, part > 0.5)
    if figures["repeat_share"] > REPEAT_SHARE:
        kinds["repeat"] = figures["repeat_share"]
    if figures["datacentre_share"] > DATACENTRE_SHARE:
        kinds["network"] = 1.0
    return Evidence(
        kinds, {name: round(one, 3) for name, one in figures.items() if np.isfinite(one)}
    )


def _repeated(votes: Votes, rows: NDArray[np.bool_]) -> float:
    """Share of these votes that came with fresh tokens from one of REPEAT_LINES home lines or more
    on which one phone came REPEAT_VOTES times or more."""
    fresh = rows & (votes.cls == NetworkClass.HOME) & (votes.a < FRESH_BUCKETS) & (votes.net != 0)
    if int(fresh.sum()) < REPEAT_LINES * REPEAT_VOTES:
        return 0.0
    phone = votes.net[fresh] ^ (votes.u[fresh] << 20) ^ (votes.stack[fresh] << 40)
    _, first, times = np.unique(phone, return_index=True, return_counts=True)
    often = times >= REPEAT_VOTES
    lines = len(np.unique(votes.net[fresh][first[often]]))
    return float(times[often].sum()) / int(rows.sum()) if lines >= REPEAT_LINES else 0.0


def pace(us: Ints) -> float:
    """Variation (standard deviation over mean) of the gaps without the longest tenth; infinite
    where there are too few votes or they share their moments."""
    if len(us) < LEAST_VOTES:
        return float("inf")
    gaps = np.sort(np.diff(np.sort(us)).astype(np.float64))
    gaps = gaps[: len(gaps) - len(gaps) // 10]
    mean = gaps.mean()
    return float(gaps.std() / mean) if mean > 0 else float("inf")


def _soft_counts(votes: Votes, part: Floats, baselines: Baselines) -> Counts:
    def table(column: Ints, buckets: int, weight: Floats) -> Floats:
        return weighed(column, weight, buckets)[None, :]

    known = votes.stack >= 0
    stacks = baselines.stack.shape[1]
    claimed = table(votes.u[known], AGENTS, part[known])
    return Counts(
        table(votes.cls, CLASSES, part),
        table(votes.u, AGENTS, part),
        table(votes.d, DWELL_BUCKETS, part),
        table(votes.a, AGE_BUCKETS, part),
        table(votes.stack[known], stacks, part[known]),
        claimed @ baselines.stack,
    )
