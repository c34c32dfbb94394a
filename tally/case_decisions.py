"""Decisions of the staff on cases: what they would move, who may take them, and taking them.

Hold and release are one reviewer's to say. What strikes votes, or takes votes back that were
struck, needs a second person: it goes by a proposal (proposals.py), whose kind is at the end. What
a decision would move is summed beforehand without a lock and without writing anything; it is what
the decision then moves, unless votes or decisions come between.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from antifraud.flags import places
from tally.case_files import CaseFile, States, sum_states
from tally.holds import (
    LEADS_TO,
    STATEMENT_SECONDS,
    WATCH,
    Action,
    Case,
    Decided,
    Decider,
    DecisionError,
    State,
    decide_all,
)
from tally.proposal_kinds import CannotBeDone, Content, Kind, Person, seen
from tally.store import SQL
from tally.translated import N_, Translate
from voting.campaign import Campaign

CASES_MAX = 50
"""Decided together."""
VOTES_MAX = 500_000
"""Of several cases that are decided together: about 10 s. One alone may have more."""


@dataclass(frozen=True, slots=True)
class Move:
    """What a decision does to one candidate."""

    candidate: int
    counted: int
    held: int
    struck: int
    likes: tuple[int, int]
    """Counted before and after."""
    place: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a person's decision on cases would move."""

    campaign: str
    cases: tuple[int, ...]
    action: Action
    votes: int
    """How many it speaks of."""
    moved: int
    needs_second: bool
    """Whether one person alone may not."""
    shown: str
    """What says that somebody was shown this."""
    moves: tuple[Move, ...]
    """Of each candidate whose sums move, by place."""
    others: tuple[Move, ...]
    """Of each other one whose place does."""


@dataclass(frozen=True, slots=True)
class NeedsSecond:
    """One person alone may not: it would move struck votes."""


@dataclass(frozen=True, slots=True)
class Changed:
    """It would move something else than what was shown."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """What moves, before anybody asks of places."""

    votes: int
    moved: int
    deltas: Counter[tuple[int, State]]

    def of(self, candidate: int) -> tuple[int, int, int]:
        counted, held, struck = (self.deltas.get((candidate, state), 0) for state in State)
        return counted, held, struck

    @property
    def moving(self) -> list[int]:
        return sorted({candidate for (candidate, _), votes in self.deltas.items() if votes})

    @property
    def struck(self) -> bool:
        """Whether votes become struck, or stop being it: two persons' word."""
        return any(votes for (_, state), votes in self.deltas.items() if state is State.STRUCK)

    @property
    def ground(self) -> Content:
        """What is agreed to. Places change by the minute and are no part of it."""
        return {
            "votes": self.votes,
            "moved": self.moved,
            "candidates": {str(candidate): list(self.of(candidate)) for candidate in self.moving},
        }


def _sums(states: States, action: Action) -> _Sums:
    """What the action moves where the votes of cases are as `states` says: the case's number ->
    candidate -> state -> votes."""
    wanted = LEADS_TO[action]
    deltas: Counter[tuple[int, State]] = Counter()
    votes = moved = 0
    for candidates in states.values():
        for candidate, of_candidate in candidates.items():
            for state, number in of_candidate.items():
                votes += number
                if state is not wanted:
                    moved += number
                    deltas[candidate, state] -= number
                    deltas[candidate, wanted] += number
    return _Sums(votes, moved, deltas)


async def _read_states(
    connection: asyncpg.Connection, campaign: int, cases: Sequence[int]
) -> States:
    wanted = sorted(set(cases))
    if not 0 < len(wanted) <= CASES_MAX:
        raise CannotBeDone(N_("1 to {n} cases are decided together"), n=CASES_MAX)
    found = await sum_states(connection, campaign, wanted)
    if len(found) < len(wanted):
        missing = min(set(wanted) - found.keys())
        raise CannotBeDone(N_("there is no case {n} in this campaign"), n=missing)
    votes = sum(
        sum(states.values()) for candidates in found.values() for states in candidates.values()
    )
    if len(found) > 1 and votes > VOTES_MAX:
        raise CannotBeDone(
            N_("these cases have {n} votes; at most {most} are decided together"),
            n=f"{votes:,}",
            most=f"{VOTES_MAX:,}",
        )
    return found


def previews_of_case(case: CaseFile, campaign: Campaign) -> dict[Action, tuple[int, bool, str]]:
    """Action -> (how many votes of the case it would move, whether it needs a second person, what
    `decide_alone` takes as `shown`)."""
    states = {case.number: {campaign.by_id[id_].number: of for id_, of in case.candidates.items()}}
    found = {}
    for action in Action:
        sums = _sums(states, action)
        found[action] = (sums.moved, sums.struck, seen(sums.ground))
    return found


async def preview(
    connection: asyncpg.Connection, campaign: Campaign, cases: Sequence[int], action: Action
) -> Preview:
    """What this decision of a person on these cases (numbers of first flags) would move. Raises
    CannotBeDone for none, too many or unknown ones."""
    sums = _sums(await _read_states(connection, campaign.number, cases), action)
    counted: dict[int, int] = {candidate.number: 0 for candidate in campaign.candidates}
    counted |= dict(await connection.fetch(SQL["read_counted"], campaign.number))
    after = {candidate: votes + sums.of(candidate)[0] for candidate, votes in counted.items()}
    before_places, after_places = places(counted), places(after)

    def move(candidate: int) -> Move:
        return Move(
            candidate,
            *sums.of(candidate),
            (counted[candidate], after[candidate]),
            (before_places[candidate], after_places[candidate]),
        )

    def by_place(candidates: Iterable[int]) -> list[int]:
        return sorted(candidates, key=lambda candidate: (before_places[candidate], candidate))

    pushed = {one for one in counted if before_places[one] != after_places[one]}
    return Preview(
        campaign.id,
        tuple(sorted(set(cases))),
        action,
        sums.votes,
        sums.moved,
        sums.struck,
        seen(sums.ground),
        tuple(move(one) for one in by_place(sums.moving)),
        tuple(move(one) for one in by_place(pushed.difference(sums.moving))),
    )


async def decide_alone(
    connection: asyncpg.Connection,
    campaign: Campaign,
    cases: Sequence[int],
    action: Action,
    *,
    by: Decider,
    reason: str,
    shown: str | None = None,
) -> list[Decided] | NeedsSecond | Changed:
    """Take one reviewer's decision on cases: all of them or none, in one transaction. Nothing is
    decided where it would strike votes or bring struck ones back, or would move something else than
    what was `shown` (Preview.shown; None = whatever it moves).

    The connection must be in no transaction. Raises CannotBeDone."""
    try:
        async with connection.transaction():
            # As `decide_all` does before all else: from here on nothing comes between.
            await connection.execute(SQL["lock_decisions"], timeout=STATEMENT_SECONDS)
            sums = _sums(await _read_states(connection, campaign.number, cases), action)
            if shown is not None and seen(sums.ground) != shown:
                return Changed()
            if sums.struck:
                return NeedsSecond()
            chosen = [Case(case) for case in sorted(set(cases))]
            return await decide_all(connection, chosen, action, by=by, reason=reason)
    except DecisionError as why:
        raise CannotBeDone(str(why)) from why


# The kind of proposal. Content: {"campaign": number, "cases": [numbers], "action": "strike"}.


def content_of(campaign: Campaign, cases: Sequence[int], action: Action) -> dict[str, Any]:
    return {"campaign": campaign.number, "cases": sorted(set(cases)), "action": action.value}


async def _look(connection: asyncpg.Connection, content: Content, hold: bool) -> Content:
    if hold:
        # As `decide_all` does before all else: from here on nothing comes between.
        await connection.execute(SQL["lock_decisions"], timeout=STATEMENT_SECONDS)
    states = await _read_states(connection, content["campaign"], content["cases"])
    return _sums(states, Action(content["action"])).ground


async def _execute(
    connection: asyncpg.Connection, content: Content, proposed_by: Person, approved_by: Person
) -> str:
    action = Action(content["action"])
    by = Decider(proposed_by.name, proposed_by.role, approved_by.name)
    chosen = [Case(case) for case in content["cases"]]
    try:
        decided = await decide_all(connection, chosen, action, by=by, reason=content["reason"])
    except DecisionError as why:
        raise CannotBeDone(str(why)) from why
    numbers = ", ".join(str(one.number) for one in decided)
    return f"decision {numbers}: {sum(one.moved for one in decided)} votes moved"


def _describe(content: Content, _: Translate) -> str:
    cases = ", ".join(f"#{case}" for case in content["cases"])
    votes = f"{content.get('ground', {}).get('votes', 0):,}"
    match content["action"]:
        case Action.STRIKE:
            return _("Strike the {votes} votes of case {cases}", votes=votes, cases=cases)
        case Action.RELEASE:
            return _("Count the {votes} votes of case {cases} again", votes=votes, cases=cases)
        case _other:
            return _("Hold the {votes} votes of case {cases}", votes=votes, cases=cases)


KIND = Kind(execute=_execute, describe=_describe, look=_look)


_TWO = re.compile(r"([a-z0-9][a-z0-9._-]{0,31})\+([a-z0-9][a-z0-9._-]{0,31})")


def persons_of(decided_by: str) -> tuple[str, ...]:
    """The names in `decisions.decided_by`: one, or who proposed it and who agreed. None where the
    rules decided by themselves."""
    if decided_by == WATCH:
        return ()
    two = _TWO.fullmatch(decided_by)
    return two.groups() if two else (decided_by,)
