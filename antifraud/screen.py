"""screen(): Signals -> Verdict, the half that needs no store.

The store's function adds the weights of what only it knows and draws the final conclusion by the
same bands: `conclude` is that rule in Python, and a property test holds the two together.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from antifraud.heuristics import (
    CELL_CODE,
    CELL_WEIGHT_MAX,
    HEURISTICS,
    NETWORK_LIMIT_CODE,
    NEW_DEVICES_CODE,
    RULES,
    RULES_VERSION,
    STORE_WEIGHTS,
    Rules,
    StoreWeights,
)
from antifraud.signals import Signals

SCORE_LIMIT = 32_000
"""Scores are stored in 16 bits."""


class Decision(enum.IntEnum):
    """What to do with a ballot. The numbers are stored with the vote."""

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
    """Milli-nats, the prior included, within +-SCORE_LIMIT."""
    reasons: bytes
    """Three reason codes, the weightiest first, 0 = none. What speaks for a vote is none."""
    rules: int = RULES_VERSION


def screen_by(rules: Rules) -> Callable[[Signals], Verdict]:
    """A judge by these rules."""
    caps = {family: round(1000 * nats) for family, nats in rules.family_caps_nats.items()}
    # Weightiest first: so are the reasons, with no sorting while a like waits.
    table = sorted(
        (
            (round(1000 * rules.weights_nats[rule.name]), rule.code, caps.get(rule.family), rule)
            for rule in HEURISTICS
            if rules.weights_nats.get(rule.name)
        ),
        key=lambda row: (-row[0], row[1]),
    )
    rows = [(rule.holds, weight, code, rule.family, cap) for weight, code, cap, rule in table]
    prior, version = round(1000 * rules.prior_nats), rules.version
    # Most votes of a crowd are alike, and so are their verdicts.
    made: dict[tuple[int, bytes], Verdict] = {}

    def judge(signals: Signals) -> Verdict:
        score, reasons = prior, b""
        capped: dict[str, int] | None = None
        for holds, weight, code, family, cap in rows:
            if not holds(signals):
                continue
            if cap is not None:
                if capped is None:
                    capped = {}
                before = capped.get(family, 0)
                capped[family] = min(cap, before + weight)
                score += capped[family] - before
            else:
                score += weight
            if weight > 0 and len(reasons) < 3:
                reasons += _BYTES[code]
        key = (score, reasons)
        verdict = made.get(key)
        if verdict is None:
            bounded = max(-SCORE_LIMIT, min(SCORE_LIMIT, score))
            verdict = made[key] = Verdict(bounded, reasons.ljust(3, b"\0"), version)
        return verdict

    return judge


_BYTES = [bytes((code,)) for code in range(256)]

screen = screen_by(RULES)
"""Judge one request by what the edge knows of it, by the rules in force. Pure; says nothing about
limits."""


class Conclusion(NamedTuple):
    """What the store makes of a ballot that no limit and no quota turned away."""

    decision: Decision
    score: int
    reasons: bytes


def conclude(
    score: int,
    reasons: bytes = bytes(3),
    *,
    proven: bool = False,
    slowly: bool = False,
    challenges: bool = True,
    over_limit: bool = False,
    over_new_devices: bool = False,
    cell_weight: int = 0,
    bands: Bands = BANDS,
    weights: StoreWeights = STORE_WEIGHTS,
) -> Conclusion:
    """The final conclusion, as the function draws it.

    `proven`: the device has solved a challenge, and is not asked for another; `slowly`: by waiting
    (LOW_END), which costs a cheat next to nothing, so that its vote is held where others are
    challenged. `challenges`: whether there are any; where not, one becomes a hold.
    `over_limit`: above its network's limit of votes. `over_new_devices`: a new device's first vote,
    above its network's rate of them. `cell_weight`: milli-nats that `watch` gave to the cell that
    the ballot is in, 0 = to none; CELL_WEIGHT_MAX of them count.
    """
    codes = b""
    if over_limit:
        score += weights.network_limit
        codes += _BYTES[NETWORK_LIMIT_CODE]
    if cell_weight > 0:
        score += min(cell_weight, CELL_WEIGHT_MAX)
        codes += _BYTES[CELL_CODE]
    if over_new_devices:
        score += weights.new_devices
        codes += _BYTES[NEW_DEVICES_CODE]
    score = max(-SCORE_LIMIT, min(SCORE_LIMIT, score))
    if score >= bands.refuse:
        decision = Decision.REFUSE
    elif score >= bands.hold or over_limit:
        decision = Decision.HOLD
    elif score >= bands.challenge or over_new_devices:
        if proven:
            decision = Decision.HOLD if slowly else Decision.COUNT
        else:
            decision = Decision.CHALLENGE if challenges else Decision.HOLD
    else:
        decision = Decision.COUNT
    return Conclusion(decision, score, (codes + reasons)[:3])
