"""What staff see of flags: the queue of cases, and everything about one.

A case is a flag and the flags that continue it. It is open until a person decides on it, and again
when more votes of it are found after that.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from antifraud.flags import places, rank_effect
from tally.holds import LEADS_TO, WATCH, Action, State
from tally.store import SQL
from voting.campaign import Campaign

States = dict[int, dict[int, dict[State, int]]]
"""Case -> Candidate.number -> votes of the case by where they are."""


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
    candidates: dict[int, int]
    """Candidate.number -> how many of the votes are theirs."""

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
    flag: int
    """Of the case, or of this flag alone."""
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
    def main(self) -> FlagOfCase:
        """The flag with the most votes: what it says is said of most of them."""
        return max(self.flags, key=lambda flag: flag.votes)

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
    most, then those with the most votes.

    Where the votes are follows from the decisions, whose sums are known; only those of flags on
    which nothing was decided yet are read, 3 us each."""
    cases = await _read(connection, campaign, None, open_only=not closed)
    return sorted(cases, key=lambda case: (-case.places_moved, -case.votes, case.number))


async def read_case(connection: asyncpg.Connection, campaign: Campaign, flag: int) -> CaseFile:
    """The case that a flag belongs to. Raises UnknownFlag."""
    first = await connection.fetchval(SQL["read_case_of_flag"], flag, campaign.number)
    if first is None:
        raise UnknownFlag(f"campaign {campaign.id} has no flag {flag}")
    (case,) = await _read(connection, campaign, first, open_only=False)
    return case


async def sum_states(connection: asyncpg.Connection, campaign: int, cases: Sequence[int]) -> States:
    """Of those of the campaign's cases that have these numbers: case -> candidate -> votes by where
    they are now. May be a part of a transaction."""
    flags, decisions = await _flags_and_decisions(connection, campaign, list(cases))
    return await _states(connection, flags, decisions)


async def _flags_and_decisions(
    connection: asyncpg.Connection, campaign: int, only: list[int] | None
) -> tuple[dict[int, list[FlagOfCase]], dict[int, list[TakenDecision]]]:
    """By case."""
    flags, decisions = defaultdict(list), defaultdict(list)
    for row in await connection.fetch(SQL["read_flags"], campaign, only):
        case, _, *facts = row
        flags[case].append(_flag(row["number"], facts))
    for case, *facts in await connection.fetch(SQL["read_case_decisions"], campaign, only):
        decisions[case].append(TakenDecision(*facts))
    return flags, decisions


async def _read(
    connection: asyncpg.Connection, campaign: Campaign, only: int | None, *, open_only: bool
) -> list[CaseFile]:
    flags, decisions = await _flags_and_decisions(
        connection, campaign.number, None if only is None else [only]
    )
    if open_only:
        for case in list(flags):
            # Open is told by flags and decisions alone: the votes of the others are not read.
            if not CaseFile("", tuple(flags[case]), tuple(decisions[case]), {}, {}, {}).open:
                del flags[case]
    states = await _states(connection, flags, decisions)
    counted = dict(await connection.fetch(SQL["read_counted"], campaign.number))
    return [
        _case(campaign, tuple(flags[case]), tuple(decisions[case]), states[case], counted)
        for case in flags
    ]


def known_states(
    flags: Sequence[FlagOfCase], decisions: Sequence[TakenDecision]
) -> dict[int, State]:
    """Flag number -> where all its votes are, for flags of one case where that follows from the
    decisions on it, oldest first; a flag that is not here has to be asked of the votes.

    It follows because a decision says of how many votes it speaks, and holds.py of which: a
    person's of all that it was about, `watch`'s of those among them that no person has spoken of,
    and of these, where it releases, of the held ones. The sum tells whether it was about the whole
    case or one flag of it."""
    known: dict[int, State] = {}
    by_person: set[int] = set()
    for decision in decisions:
        there = {flag.number: flag.votes for flag in flags if flag.at < decision.at}
        action = Action(decision.action)
        if decision.by != WATCH:
            whole = decision.votes == sum(there.values())
            spoken = set(there) if whole else {decision.flag}
            by_person |= spoken
        else:
            free = there.keys() - by_person
            spoken = _spoken_by_watch(decision, {n: there[n] for n in free}, known)
            if not spoken:
                for number in free:
                    known.pop(number, None)
        known |= dict.fromkeys(spoken, LEADS_TO[action])
    return known


def _spoken_by_watch(
    decision: TakenDecision, free: dict[int, int], known: dict[int, State]
) -> set[int]:
    """Of the flags that no person has spoken of (number -> votes) those whose votes are all in the
    wanted state after it; none where that cannot be told."""
    one = decision.flag
    if decision.action == Action.HOLD:
        if decision.votes == sum(free.values()):
            return set(free)
        return {one} if decision.votes == free.get(one) else set()
    held = {number for number in free if known.get(number) is State.HELD}
    if one in held:
        return {one} if decision.votes == free[one] else held
    # A flag with no held votes of its own: it was about the whole case.
    return held if one not in free or known.get(one) is State.COUNTED else set()


async def _states(
    connection: asyncpg.Connection,
    flags: dict[int, list[FlagOfCase]],
    decisions: dict[int, list[TakenDecision]],
) -> States:
    """Case -> candidate -> votes by where they are now."""
    votes: defaultdict[int, Counter[tuple[int, State]]] = defaultdict(Counter)
    case_of, asked = {}, []
    for case, of_case in flags.items():
        known = known_states(of_case, decisions.get(case, []))
        for flag in of_case:
            case_of[flag.number] = case
            if flag.number not in known:
                asked.append(flag.number)
                continue
            for candidate, number in flag.candidates.items():
                votes[case][candidate, known[flag.number]] += number
    if asked:
        by_verdict = await connection.fetch(SQL["sum_flags_by_verdict"], asked)
        for flag_number, candidate, verdict, number in by_verdict:
            votes[case_of[flag_number]][candidate, State(verdict)] += number
        spoken = await connection.fetch(SQL["sum_spoken_of_flags"], asked)
        for flag_number, candidate, verdict, state, number in spoken:
            votes[case_of[flag_number]][candidate, State(verdict)] -= number
            votes[case_of[flag_number]][candidate, State(state)] += number
    states: States = {case: {} for case in flags}
    for case, of_states in votes.items():
        for (candidate, state), number in sorted(of_states.items()):
            if number:
                states[case].setdefault(candidate, {})[state] = number
    return states


def _flag(number: int, facts: list[Any]) -> FlagOfCase:
    at, rules, version, kinds, evidence, sentence, score, automatic, votes, candidates = facts
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
        {int(candidate): number for candidate, number in json.loads(candidates).items()},
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
