"""The table of heuristics: what speaks for a cheat, and how loudly.

Weights are log-odds in nats and add up. The table has a version, stored with every vote, so that
a later recount knows by which rules each one was judged.
"""

from collections.abc import Callable
from typing import NamedTuple

from antifraud.signals import Signals


class Heuristic(NamedTuple):
    """One reason to doubt a vote."""

    code: int
    """1 to 255, stored with the vote: never reuse one."""
    name: str
    weight_nats: float
    holds: Callable[[Signals], bool]


RULES_VERSION = 1

HEURISTICS: tuple[Heuristic, ...] = ()
"""Empty in version 1: limits and quotas are judged by the store, and nothing else is weighed."""


class StoreWeights(NamedTuple):
    """Log-odds in milli-nats for what only the store's function can know."""

    network_limit: int = 1_500
    """The vote came above its network's limit."""


STORE_WEIGHTS = StoreWeights()

NETWORK_LIMIT_CODE = 1
"""Reason code of StoreWeights.network_limit; codes of HEURISTICS start at 16."""
