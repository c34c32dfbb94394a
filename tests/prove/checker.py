"""What was told against what is kept.

acknowledged  is a subset of  stored
stored        is a subset of  acknowledged + unknown
each click is stored once, for the candidate that it was sent for
the hot sums are the stored ones; the log has a leaf for each vote
"""

from collections import Counter
from dataclasses import dataclass, field

from tests.prove.clients import Told
from voting.pseudonyms import click_hash


@dataclass
class Findings:
    """What is wrong; all empty where nothing is."""

    lost: list[str] = field(default_factory=list)
    """Clicks that were acknowledged and are not stored."""
    doubled: list[int] = field(default_factory=list)
    """Hashes of clicks that are stored more than once."""
    foreign: list[tuple[int, str]] = field(default_factory=list)
    """(hash of the click, candidate) of what is stored and nobody sent, or for somebody else."""
    sums: list[str] = field(default_factory=list)
    """What differs of the sums and the log."""

    @property
    def none(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.sums)


@dataclass
class Kept:
    """What the service has."""

    votes: list[tuple[int, str]]
    """(hash of the click as stored, candidate) of each row."""
    stored: dict[str, int]
    """Candidate -> counted and held, by Postgres' sums."""
    hot: dict[str, int]
    """The same of the hot state."""
    leaves: int
    """Of the log of votes."""


def compare(told: Told, kept: Kept) -> Findings:
    findings = Findings()

    def hashed(clicks):
        return {
            (int.from_bytes(click_hash(click), "big"), candidate): click
            for click, candidate in clicks.items()
        }

    acknowledged, unknown = hashed(told.acknowledged), hashed(told.unknown)
    sent = acknowledged.keys() | unknown.keys()
    stored = Counter(kept.votes)
    findings.lost = sorted(click for key, click in acknowledged.items() if key not in stored)
    per_click = Counter(click for click, _ in kept.votes)
    findings.doubled = sorted(click for click, votes in per_click.items() if votes > 1)
    findings.foreign = sorted(key for key in stored if key not in sent)
    by_candidate = Counter(candidate for _, candidate in kept.votes)
    for name, sums in (("Postgres' sums", kept.stored), ("the hot sums", kept.hot)):
        off = {
            candidate: (sums.get(candidate, 0), by_candidate[candidate])
            for candidate in by_candidate.keys() | sums.keys()
            if sums.get(candidate, 0) != by_candidate[candidate]
        }
        if off:
            findings.sums.append(f"{name} differ from the rows: {dict(list(off.items())[:5])}")
    if kept.leaves != len(kept.votes):
        findings.sums.append(f"the log has {kept.leaves} leaves for {len(kept.votes)} votes")
    return findings
