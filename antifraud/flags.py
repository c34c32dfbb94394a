"""Flag: what a detector claims about a set of votes, with its evidence, for people to decide on.

A flag names votes, never a candidate: votes for somebody can be stuffed by a rival who wants them
struck. Two independent kinds of evidence are enough to set the votes aside at once, one kind asks
the staff.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DETECTORS_VERSION = 1
"""Stored with every flag: which detectors, with which thresholds and weights."""

PRIOR_NATS = -4.6
"""Log-odds that a vote of which nothing is known is stuffed: one in a hundred."""

KIND_NATS: Mapping[str, tuple[float, float]] = {
    "client": (3.0, 6.0),
    "dwell": (3.0, 6.0),
    "age": (3.0, 6.0),
    "network": (2.0, 3.5),
    "pace": (2.0, 4.6),
    "repeat": (2.0, 4.6),
}
"""Families of evidence -> log-odds where it is (only just enough, strong).

They count as independent because each is another fact about a vote: what it was sent with (phone
model and TLS stack are one family: whoever has one kind of phone has one kind of stack), the time
from the card to the tap, the age or hour of the token, the network it came from, how evenly the
votes follow each other, how often one phone came back with a new token. The last three weigh less:
shared addresses, rhythms and forgetful browsers have honest causes more often.

Two strong kinds of the first three end at -4.6 + 6 + 6 = 7.4, above the 6 at which silence no
longer releases a vote, and so does a strong one with a strong rhythm (6.0). One strong kind ends
at 1.4, two weak ones at 1.4 as well, a strong and a weak one at 4.4.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Flag:
    """A claim about `votes`, as of `version` of the detectors."""

    rules: tuple[str, ...]
    """Names of the detectors that found it."""
    version: int
    kinds: tuple[str, ...]
    """Families of evidence (keys of KIND_NATS), each counted once."""
    evidence: dict[str, float | int | str]
    """The figures behind it, by name; ready for JSON."""
    sentence: str
    """The same for people, one sentence in Chinese."""
    candidates: dict[int, int]
    """Candidate.number -> how many of `votes` are theirs."""
    score: float
    """Log-odds in nats that such a vote is stuffed, prior included."""
    votes: NDArray[np.int64]
    """Values of the column `vote`, ascending."""

    @property
    def automatic(self) -> bool:
        """Whether the votes may be held without waiting for the staff."""
        return len(self.kinds) >= 2


class RankEffect(dict[int, int]):
    """Candidate.number -> places gained (positive) by leaving the flagged votes out; only those
    whose place changes."""


def places(tallies: Mapping[int, int]) -> dict[int, int]:
    """Candidate.number -> place from 1 by votes; equals share the better place."""
    ordered = sorted(tallies.items(), key=lambda item: (-item[1], item[0]))
    place_of: dict[int, int] = {}
    place, votes_before = 0, math.inf
    for number, (candidate, votes) in enumerate(ordered, 1):
        if votes < votes_before:
            place, votes_before = number, votes
        place_of[candidate] = place
    return place_of


def rank_effect(tallies: Mapping[int, int], flagged: Mapping[int, int]) -> RankEffect:
    """What leaving the flagged votes out does to the places.

    `tallies` counts every vote, the flagged ones included; `flagged` is Flag.candidates.
    """
    with_them = places(tallies)
    without = places(
        {candidate: votes - flagged.get(candidate, 0) for candidate, votes in tallies.items()}
    )
    return RankEffect(
        {
            candidate: with_them[candidate] - without[candidate]
            for candidate in tallies
            if with_them[candidate] != without[candidate]
        }
    )


def score_of(kinds: Iterable[tuple[str, float]]) -> float:
    """Nats of a flag: the prior and each kind of evidence once.

    `strength` of a kind runs from 0 (only just enough) to 1 (strong) between the two weights.
    """
    score = PRIOR_NATS
    for kind, strength in kinds:
        weak, strong = KIND_NATS[kind]
        score += weak + (strong - weak) * min(1.0, max(0.0, strength))
    return round(score, 3)
