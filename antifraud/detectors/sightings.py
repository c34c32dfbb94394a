"""Sighting: a cell of votes that a detector cannot explain; Votes: one candidate's, as arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Baselines, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Votes for one candidate, one array a fact; names as in seen.sql."""

    vote: Ints
    us: Ints
    """Microseconds."""
    net: Ints
    wide: Ints
    cls: Ints
    u: Ints
    d: Ints
    a: Ints
    stack: Ints
    """Index in Baselines.stacks, its length for a rare one; -1 = not known."""
    h: Ints
    vh: Ints

    def __len__(self) -> int:
        return len(self.vote)

    def pick(self, rows: NDArray[np.bool_] | Ints) -> "Votes":
        return Votes(*(getattr(self, name)[rows] for name in _FACTS))


_FACTS = ("vote", "us", "net", "wide", "cls", "u", "d", "a", "stack", "h", "vh")

COLUMNS = "vote, us, net, wide, cls, u, d, a, tls, h, vh"
"""What a query must select for `votes_of`."""


def whole(column: NDArray[np.generic]) -> Ints:
    """64 bits, signed: pseudonyms above 2^63 come as negative numbers, one to one."""
    if column.dtype == np.uint64:
        return column.view(np.int64)
    return np.asarray(column, np.int64)


def votes_of(found: dict[str, NDArray[np.generic]], baselines: Baselines) -> Votes:
    """Out of DuckDB's columns."""
    facts = {name: whole(found[name]) for name in COLUMNS.split(", ")}
    tls = facts.pop("tls")
    facts["stack"] = np.where(tls > 0, baselines.stack_index(tls), -1)
    return Votes(**facts)


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What a detector sees: a cell of votes for one candidate that asks for an explanation."""

    rule: str
    candidate: int
    facts: dict[str, int]
    """What the votes of the cell have in common: a name of `Votes` -> its value."""
    surprise: float
    """Nats."""
    votes: int
    """How many are in the cell."""

    def rows(self, votes: Votes) -> NDArray[np.bool_]:
        """Which of these votes are in the cell."""
        found = np.ones(len(votes), bool)
        for name, value in self.facts.items():
            found &= getattr(votes, name) == value
        return found

    @property
    def network(self) -> dict[str, int]:
        """The facts that say where from."""
        return {name: value for name, value in self.facts.items() if name in NETWORKS}


NETWORKS = ("net", "wide")
