"""screen(): Signals -> Verdict, the half that needs no store.

The store's function adds the weights of what only it knows and draws the final conclusion by the
same bands: `conclude` is that rule in Python, and a property test holds the two together.
"""

import enum
from typing import NamedTuple

import msgspec

from antifraud.heuristics import HEURISTICS, RULES_VERSION
from antifraud.signals import Signals

SCORE_LIMIT = 32_000
"""Scores are stored in 16 bits."""


class Decision(enum.IntEnum):
    """What to do with a ballot, by its score alone. The numbers are stored with the vote."""

    COUNT = 0
    CHALLENGE = 1
    HOLD = 2
    REFUSE = 3


class Bands(NamedTuple):
    """From which score (milli-nats) on a ballot is challenged, held, refused."""

    challenge: int = 1_500
    hold: int = 4_000
    refuse: int = 12_000


BANDS = Bands()


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """A partial score with the reasons that weighed most."""

    score: int
    """Milli-nats, within +-SCORE_LIMIT."""
    reasons: bytes
    """Three reason codes, the weightiest first, 0 = none."""
    rules: int = RULES_VERSION


CLEAN = Verdict(0, bytes(3))


def screen(signals: Signals) -> Verdict:
    """Judge one request by what the edge knows of it. Pure; says nothing about limits."""
    if not HEURISTICS:
        return CLEAN
    found = [rule for rule in HEURISTICS if rule.holds(signals)]
    if not found:
        return CLEAN
    score = round(1000 * sum(rule.weight_nats for rule in found))
    found.sort(key=lambda rule: -abs(rule.weight_nats))
    reasons = bytes(rule.code for rule in found[:3]).ljust(3, b"\0")
    return Verdict(max(-SCORE_LIMIT, min(SCORE_LIMIT, score)), reasons)


def conclude(score: int, bands: Bands, *, challenges: bool) -> Decision:
    """The decision for a final score. Where challenges are switched off, one becomes a hold."""
    if score >= bands.refuse:
        return Decision.REFUSE
    if score >= bands.hold:
        return Decision.HOLD
    if score >= bands.challenge:
        return Decision.CHALLENGE if challenges else Decision.HOLD
    return Decision.COUNT
