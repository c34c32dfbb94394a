"""Ballot and Outcome: what a device hands in, and what becomes of it."""

import enum

import msgspec

from voting.pseudonyms import Place


class Outcome(enum.IntEnum):
    """What became of a ballot. Every one of these is an ordinary day.

    The number is what the store's function answers and what the journal keeps with refusals.
    """

    COUNTED = 1
    HELD = 2
    """Counted only if released; the public is not told apart from COUNTED."""
    REPEATED = 3
    """This device has used up its likes for this candidate today."""
    QUOTA_SPENT = 4
    CHALLENGE = 5
    THROTTLED = 6
    REFUSED = 7
    """By verdict."""
    CLOSED = 8
    NOT_OPEN = 9
    PAUSED = 10
    CLICK_REUSED = 11
    """The click id was used for another candidate: a defect of the client."""
    OVERLOADED = 12
    """Too many ballots wait, or the store is nearly full: never cast."""
    STORE_DOWN = 13
    """The store did not answer in time. The ballot may or may not have been cast; the same click
    again finds out."""
    IDENTITY_REQUIRED = 14
    """The campaign counts only whom a portal vouches for, and nobody does for this device: never
    cast."""


VOTES = frozenset({Outcome.COUNTED, Outcome.HELD})
"""Outcomes that make a ballot a vote."""

REFUSALS = frozenset({Outcome.QUOTA_SPENT, Outcome.THROTTLED, Outcome.REFUSED})
"""Outcomes that the tally sums as refused, per candidate and reason."""


class Position(msgspec.Struct, frozen=True, gc=False, order=True):
    """One vote's place in the journal. (epoch, seq) only grows within a shard."""

    shard: int
    epoch: int
    seq: int


class Ballot(msgspec.Struct, frozen=True, gc=False):
    """What a device hands in, unjudged."""

    candidate: int
    """Candidate.number"""
    device: bytes
    """Pseudonym of the device in this campaign, 8 bytes."""
    place: Place
    """Where it came from. Goes no further than the edge's memory: the store and the journal get
    the day's pseudonyms of it."""
    click: bytes
    """Hash of the click id, 6 bytes."""


class Cast(msgspec.Struct, frozen=True, gc=False):
    """The store's answer to one ballot."""

    outcome: Outcome
    """COUNTED also where the same click was cast before, whatever became of it then."""
    position: Position | None = None
    """Of the vote; for REPEATED of the device's last vote for the candidate, if any is known."""
    remaining_today: int | None = None
    """The smallest of the quotas in force; None where there is none."""
    wait_ms: int = 0
    """THROTTLED: when to come back."""
    again: bool = False
    """The same click was cast before; this is its first answer again."""
    receipt: str | None = None
    """What stands for the position where others may see it."""
