"""What staff see of flags: the queue of cases, and everything about one.

A case is a flag and the flags that continue it. It is open until a person decides on it, and again
when more votes of it are found after that.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from antifraud.flags import places, rank_effect
from tally.holds import WATCH, State
from tally.store import SQL
from voting.campaign import Campaign


class UnknownFlag(LookupError):
    """The database has no flag of this number."""


@dataclass(frozen=True, slots=True)
class FlagOfCase:
    """One flag of a case."""

    number: int
    at: datetime
    rules: tuple[str, ...]
    version: int
    kinds: tuple[str, ...]
    evidence: dict[str, Any]
    sentence: str
    score: float
    automatic: bool
    votes: int

    def as_json(self) -> dict[str, Any]:
        return {
            "flag": self.number,
            "at": self.at.isoformat(timespec="seconds"),
            "rules": list(self.rules),
            "version": self.version,
            "kinds": list(self.kinds),
            "evidence": self.evidence,
            "sentence": self.sentence,
            "score": self.score,
            "automatic": self.automatic,
            "votes": self.votes,
        }


@dataclass(frozen=True, slots=True)
class TakenDecision:
    """One decision on a case."""

    number: int
    at: datetime
    action: str
    reason: str
    rules: int
    by: str
    votes: int
    moved: int

    def as_json(self) -> dict[str, Any]:
        return {
            "decision": self.number,
            "at": self.at.isoformat(timespec="seconds"),
            "action": self.action,
            "reason": self.reason,
            "rules": self.rules,
            "by": self.by,
            "votes": self.votes,
            "moved": self.moved,
        }


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One case, as it stands now."""

    campaign: str
    flags: tuple[FlagOfCase, ...]
    """The first one gives the case its number; the others continue it."""
    decisions: tuple[TakenDecision, ...]
    """Oldest first."""
    candidates: dict[str, dict[State, int]]
    """Candidate id -> votes of the case by state."""
    effect: dict[str, int]
    """Candidate id -> places gained where the case's votes are left out, lost where negative."""
    ranks: dict[str, tuple[int, int]]
    """Candidate id -> place with the case's votes and without; those of the case and those whose
    place changes."""

    @property
    def number(self) -> int:
        return self.flags[0].number

    @property
    def votes(self) -> int:
        return sum(flag.votes for flag in self.flags)

    @property
    def score(self) -> float:
        return max(flag.score for flag in self.flags)

    @property
    def open(self) -> bool:
        """Whether it waits for a person."""
        decided = max((d.at for d in self.decisions if d.by != WATCH), default=None)
        return decided is None or decided < self.flags[-1].at

    @property
    def places_moved(self) -> int:
        """How far the one moves whose place changes most."""
        return max(map(abs, self.effect.values()), default=0)

    def state(self, state: State) -> int:
        """How many of its votes are in this state."""
        return sum(states.get(state, 0) for states in self.candidates.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "flag": self.number,
            "campaign": self.campaign,
            "open": self.open,
            "votes": self.votes,
            "score": self.score,
            "counted": self.state(State.COUNTED),
            "held": self.state(State.HELD),
            "struck": self.state(State.STRUCK),
            "candidates": {id_: sum(states.values()) for id_, states in self.candidates.items()},
            "effect": self.effect,
            "ranks": {id_: list(ranks) for id_, ranks in self.ranks.items()},
            "flags": [flag.as_json() for flag in self.flags],
            "decisions": [decision.as_json() for decision in self.decisions],
        }


async def read_cases(
    connection: asyncpg.Connection, campaign: Campaign, *, closed: bool = False
) -> list[CaseFile]:
    """The campaign's open cases, `closed` ones too where asked for; those first that move places
    most, then those with the most votes. Takes about 5 us for each of their votes."""
    cases = await _read(connection, campaign, None, open_only=not closed)
    return sorted(cases, key=lambda case: (-case.places_moved, -case.votes, case.number))


async def read_case(connection: asyncpg.Connection, campaign: Campaign, flag: int) -> CaseFile:
    """The case that a flag belongs to. Raises UnknownFlag."""
    first = await connection.fetchval(SQL["read_case_of_flag"], flag, campaign.number)
    if first is None:
        raise UnknownFlag(f"campaign {campaign.id} has no flag {flag}")
    (case,) = await _read(connection, campaign, first, open_only=False)
    return case


async def _read(
    connection: asyncpg.Connection, campaign: Campaign, only: int | None, *, open_only: bool
) -> list[CaseFile]:
    flags, decisions = defaultdict(list), defaultdict(list)
    for row in await connection.fetch(SQL["read_flags"], campaign.number, only):
        case, _, *facts = row
        flags[case].append(_flag(row["number"], facts))
    for case, *facts in await connection.fetch(SQL["read_case_decisions"], campaign.number, only):
        decisions[case].append(TakenDecision(*facts))
    if open_only:
        for case in list(flags):
            # Open is told by flags and decisions alone: the votes of the others are not read.
            if not CaseFile("", tuple(flags[case]), tuple(decisions[case]), {}, {}, {}).open:
                del flags[case]
    states: defaultdict[int, defaultdict[int, dict[State, int]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for case, candidate, state, votes in await connection.fetch(SQL["sum_cases"], list(flags)):
        states[case][candidate][State(state)] = votes
    counted = dict(await connection.fetch(SQL["read_counted"], campaign.number))
    return [
        _case(campaign, tuple(flags[case]), tuple(decisions[case]), states[case], counted)
        for case in flags
    ]


def _flag(number: int, facts: list[Any]) -> FlagOfCase:
    at, rules, version, kinds, evidence, sentence, score, automatic, votes = facts
    return FlagOfCase(
        number,
        at,
        tuple(rules),
        version,
        tuple(kinds),
        json.loads(evidence),
        sentence,
        round(score, 3),
        automatic,
        votes,
    )


def _case(
    campaign: Campaign,
    flags: tuple[FlagOfCase, ...],
    decisions: tuple[TakenDecision, ...],
    states: dict[int, dict[State, int]],
    counted: dict[int, int],
) -> CaseFile:
    # With them: as if none of the case's votes were set aside.
    with_them = {candidate.number: 0 for candidate in campaign.candidates} | counted
    for candidate, of_state in states.items():
        with_them[candidate] = with_them.get(candidate, 0) + sum(
            votes for state, votes in of_state.items() if state is not State.COUNTED
        )
    flagged = {candidate: sum(of_state.values()) for candidate, of_state in states.items()}
    without = {candidate: n - flagged.get(candidate, 0) for candidate, n in with_them.items()}
    effect = rank_effect(with_them, flagged)
    before, after = places(with_them), places(without)
    ids = {candidate.number: candidate.id for candidate in campaign.candidates}
    return CaseFile(
        campaign.id,
        flags,
        decisions,
        {ids[number]: states[number] for number in sorted(states)},
        {ids[number]: moved for number, moved in effect.items()},
        {
            ids[number]: (before[number], after[number])
            for number in sorted({*states, *effect}, key=lambda number: before[number])
        },
    )
