"""The table of heuristics: what speaks for a cheat, and how loudly.

Weights are log-odds in nats and add up, from a prior that says how rare a cheat is. Each belongs
to a family, and a family weighs no more than its cap: four facts about one client are not four
independent proofs. The table has a version, stored with every vote, so that a later recount knows
by which rules each one was judged.

Known weakness: whoever replays an honest browser's facts (its headers, its fingerprint, its time
to a tap, from an address in a home) is not seen here, nor are paid people. What holds those is
what only the store and `watch` see: how many there are, and how alike.

The facts of a request are its sender's to choose, so one alone never refuses a vote: it takes
several to challenge it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from antifraud.networks import NetworkClass
from antifraud.signals import (
    BAD_VIEW,
    LEVEL_BITS,
    NO_FETCH_METADATA,
    NO_LANGUAGE,
    OTHER_AGENT,
    OTHER_NETWORK,
    TLS_UNLIKE_AGENT,
    VOUCHED,
    Signals,
)
from antifraud.user_agents import AUTOMATION, UNKNOWN

RULES_VERSION = 3
"""1 was the version without heuristics: limits and quotas alone. 2 knew nobody whom a portal
vouches for."""

DAY_SECONDS = 86_400
FRESH_SECONDS = 5
FAST_CENTISECONDS, QUICK_CENTISECONDS = 80, 200

TOKEN_AGE_STEPS = (0, FRESH_SECONDS, DAY_SECONDS)
DWELL_STEPS = (0, 1, FAST_CENTISECONDS, QUICK_CENTISECONDS)
"""Where a rule on these facts changes its mind, from each of these values on: between two of them
all values are judged alike."""


class Heuristic(NamedTuple):
    """One reason to doubt a vote, or to trust it."""

    code: int
    """16 to 255, stored with the vote: never reuse one."""
    name: str
    weight_nats: float
    family: str
    holds: "_Test"
    oddity: int = 0
    """The bit of `Signals.oddities` that it rests on; where it has one, nothing else stored tells
    later whether it held, but its code among a vote's reasons."""


_Test = Callable[[Signals], bool]


def _odd(bit: int) -> tuple[_Test, int]:
    """The test of an oddity."""
    return lambda s: bool(s.oddities & bit), bit


def _in(network_class: NetworkClass) -> _Test:
    return lambda s: s.network_class == network_class


def _agent(agent_class: int) -> _Test:
    # Level 0 in a signal = nothing is known of it, its agent neither.
    return lambda s: s.user_agent_class == agent_class and s.token_level > 0


def _age(least: int, below: int) -> _Test:
    return lambda s: (
        least <= s.token_age_seconds < below and 0 < s.token_level & LEVEL_BITS < VOUCHED
    )


def _vouched(s: Signals) -> bool:
    return s.token_level & LEVEL_BITS == VOUCHED


def _dwell(least: int, below: int) -> _Test:
    return lambda s: least <= s.dwell_centiseconds < below


HEURISTICS: tuple[Heuristic, ...] = (
    # Where it comes from.
    Heuristic(16, "datacentre", +3.0, "network", _in(NetworkClass.DATACENTRE)),
    Heuristic(17, "moved-to-datacentre", +1.0, "network", *_odd(OTHER_NETWORK)),
    # An address that is no public one tells nothing: it is this house, a test, or everybody behind
    # a proxy that nobody declared. Nothing that others do there may be held against anyone.
    Heuristic(18, "private-network", -4.0, "house", _in(NetworkClass.PRIVATE)),
    # What it says it is.
    Heuristic(24, "automation", +4.0, "client", _agent(AUTOMATION)),
    Heuristic(25, "no-agent", +4.0, "client", _agent(UNKNOWN)),
    Heuristic(26, "no-language", +1.5, "client", *_odd(NO_LANGUAGE)),
    Heuristic(27, "no-fetch-metadata", +1.0, "client", *_odd(NO_FETCH_METADATA)),
    Heuristic(28, "tls-unlike-agent", +3.0, "client", *_odd(TLS_UNLIKE_AGENT)),
    Heuristic(29, "other-agent", +1.5, "client", *_odd(OTHER_AGENT)),
    # Its token.
    Heuristic(32, "token-fresh", +1.5, "token", _age(0, FRESH_SECONDS)),
    Heuristic(33, "token-new", +0.5, "token", _age(FRESH_SECONDS, DAY_SECONDS)),
    Heuristic(34, "token-matured", -1.5, "token", _age(DAY_SECONDS, 1 << 32)),
    # As much as a day's waiting, and no more: an account may be bought as well as a device, and a
    # portal's key may leak. Whom several oddities speak against is held like anybody else.
    Heuristic(35, "vouched", -1.5, "token", _vouched),
    # How it behaves. Dwell 0 = not known.
    Heuristic(40, "dwell-below-0.8s", +2.5, "behaviour", _dwell(1, FAST_CENTISECONDS)),
    Heuristic(
        41, "dwell-below-2s", +0.7, "behaviour", _dwell(FAST_CENTISECONDS, QUICK_CENTISECONDS)
    ),
    # Beyond doubt: no honest client makes one up.
    Heuristic(48, "bad-view", +30.0, "replay", *_odd(BAD_VIEW)),
)


class StoreWeights(NamedTuple):
    """Log-odds in milli-nats for what only the store's function can know."""

    network_limit: int = 1_500
    """The vote came above its network's limit (and is held for that at least)."""
    new_devices: int = 2_000
    """A new device's first vote, above its network's rate of new devices."""


STORE_WEIGHTS = StoreWeights()

NETWORK_LIMIT_CODE, NEW_DEVICES_CODE, CELL_CODE = 1, 2, 3
"""Reason codes of what the store adds; a cell's weight is `watch`'s. Those of HEURISTICS start
at 16."""

CELL_WEIGHT_MAX = 10_000
"""Milli-nats that a mark of `watch`'s can add: enough to hold a vote, alone not to refuse one."""

REASON_NAMES: Mapping[int, str] = {
    NETWORK_LIMIT_CODE: "network-limit",
    NEW_DEVICES_CODE: "new-devices",
    CELL_CODE: "cell",
} | {rule.code: rule.name for rule in HEURISTICS}


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that turns facts into a score: the table with its weights, as data."""

    version: int = RULES_VERSION
    prior_nats: float = -4.6
    """Log-odds that a vote of which nothing is known is a cheat: one in a hundred."""
    weights_nats: Mapping[str, float] = field(
        default_factory=lambda: {rule.name: rule.weight_nats for rule in HEURISTICS}
    )
    family_caps_nats: Mapping[str, float] = field(
        default_factory=lambda: {"network": 3.5, "client": 5.0}
    )
    """Family -> what it weighs at most. A family that is not here has no cap."""


RULES = Rules()
