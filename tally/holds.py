"""Holds, releases and strikes: what staff and `watch` decide about votes, and what it moves.

`decide` is the one place where a vote's state changes. Rows of votes never do: a decision is
recorded beside them, with its reason, and can be undone only by another decision. Everything that
follows from it (vote_state, tallies, minutes, what the hot state is to apply) commits with it.

Two rules keep automatic and human decisions apart: `watch` only holds what is counted and releases
what is held, and never speaks of a vote that a person has spoken of.
"""

import enum
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from antifraud.heuristics import RULES_VERSION
from tally import audit
from tally.store import SQL
from tally.written import tidy, unseen_in
from voting.journal import Delta

WATCH = "watch"
"""Who decides where nobody does: the rules alone. No person's name."""

RELEASE_AFTER = timedelta(hours=20)
"""What nobody decided in this time is released ..."""
RELEASE_BELOW_NATS = 6.0
"""... where its score is below this. Above it silence releases nothing."""
RELEASED_AT_ONCE_MAX = 100_000
"""Votes of one decision of ours: bounds how long the tallies' rows are locked."""


class State(enum.IntEnum):
    """Where a vote is. The first two are its verdict's numbers: no vote starts in another."""

    COUNTED = 0
    HELD = 2
    STRUCK = 4


class Action(enum.StrEnum):
    """What a decision does."""

    HOLD = "hold"
    RELEASE = "release"
    STRIKE = "strike"


LEADS_TO = {
    Action.HOLD: State.HELD,
    Action.RELEASE: State.COUNTED,
    Action.STRIKE: State.STRUCK,
}
"""All states lead to all others, so every decision can be undone."""

_WATCH_MOVES = {
    # A vote that is held already is spoken of too: from now on the flag's score says how long.
    Action.HOLD: (State.COUNTED, State.HELD),
    Action.RELEASE: (State.HELD,),
    Action.STRIKE: (),
}


def speaks_of(state: State, action: Action, *, by: str, last_by: str | None) -> bool:
    """Whether a decision of `by` takes in a vote in this state, which the last decision on it was
    `last_by`'s (None: there was none). It then is in LEADS_TO[action]."""
    if by != WATCH:
        return True
    return last_by in (None, WATCH) and state in _WATCH_MOVES[action]


class DecisionError(ValueError):
    """A decision that cannot be taken; the message says why. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Case:
    """The votes of a flag and of every flag of the same case."""

    flag: int


@dataclass(frozen=True, slots=True)
class OneFlag:
    """The votes of this flag alone."""

    flag: int


@dataclass(frozen=True, slots=True)
class HeldAtOnce:
    """Votes of a campaign held by their own verdict, before a moment and below a score, of which
    no decision has spoken: RELEASED_AT_ONCE_MAX at most."""

    campaign: int
    before: datetime
    below_nats: float


Chosen = Case | OneFlag | HeldAtOnce


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision came to."""

    number: int | None
    """None: it was only tried (`dry_run`)."""
    campaign: int
    action: Action
    votes: int
    """How many it speaks of; those that were in the wanted state already are among them."""
    deltas: tuple[Delta, ...]
    """What moved, per candidate."""
    moved: int


class _Tried(Exception):
    """Ends the transaction of a dry run."""


STATEMENT_SECONDS = 600.0
"""What one statement of a decision may take: a connection of the console's gives up after 20 s,
which a million votes on a busy machine can need."""

BY_COMMAND = "command"
"""The role of whoever decides by `dianzan decide`: nobody asked them for an account."""
BY_RULES = "part"
"""The role of `watch`, a part of the installation."""
NAME_CHARACTERS_MAX, REASON_CHARACTERS_MAX = 100, 2_000


@dataclass(frozen=True, slots=True)
class Decider:
    """Who decides, as the records name them."""

    name: str
    role: str = BY_COMMAND
    second: str | None = None
    """Who agreed, where two were asked."""

    @property
    def recorded(self) -> str:
        """What `decisions.decided_by` holds; names of staff have no plus in them."""
        return f"{self.name}+{self.second}" if self.second else self.name


async def decide(
    connection: asyncpg.Connection,
    chosen: Chosen,
    action: Action,
    *,
    by: str | Decider,
    reason: str,
    rules: int = RULES_VERSION,
    dry_run: bool = False,
) -> Decided | None:
    """Take a decision about these votes, in one transaction; None where `watch` has nothing to
    say (a person's decision is recorded even where it moves nothing). What it did is in the audit
    log from the same moment on.

    Where the connection is in a transaction already, the decision is a part of it, and what is
    said here of a crash is true of the whole. Any number may call at once, flushers at work: they
    wait for each other in one order. Takes 10 to 20 us a vote; the tallies' rows are locked for
    the last part of it, and deciders wait for the end of the transaction. A crash at any point
    leaves all of it or nothing; what the hot state has not heard of by then it hears at the next
    replay (adjudications.py).

    Raises DecisionError for a flag that is not there, an empty name or reason.
    """
    decided: list[Decided] = []
    try:
        async with connection.transaction():
            decided = await decide_all(
                connection, [chosen], action, by=by, reason=reason, rules=rules
            )
            if dry_run:
                raise _Tried
    except _Tried:
        decided = [replace(one, number=None) for one in decided]
    return decided[0] if decided else None


async def decide_all(
    connection: asyncpg.Connection,
    chosen: Sequence[Chosen],
    action: Action,
    *,
    by: str | Decider,
    reason: str,
    rules: int = RULES_VERSION,
) -> list[Decided]:
    """The same decision about several sets of votes of one campaign, each recorded as its own; all
    of them or none. As `decide`, but the connection must be in a transaction: the tallies' rows
    are locked once, after all that takes long.

    Raises DecisionError, also where they are of several campaigns.
    """
    if isinstance(by, str):
        by = Decider(by, BY_RULES if by == WATCH else BY_COMMAND)
    by, reason = replace(by, name=by.name.strip()), tidy(reason, REASON_CHARACTERS_MAX)
    if not by.name or not reason:
        raise DecisionError("a decision needs a name and a reason")
    if by.recorded == WATCH and by.role != BY_RULES:
        raise DecisionError(f"{WATCH!r} is what the rules decide by themselves, not a person")
    if len(by.name) > NAME_CHARACTERS_MAX or len(reason) > REASON_CHARACTERS_MAX:
        raise DecisionError(
            f"at most {NAME_CHARACTERS_MAX} characters of a name and {REASON_CHARACTERS_MAX} of a "
            "reason are taken"
        )
    if which := unseen_in(reason):
        raise DecisionError(f"the reason holds a character that cannot be seen ({which})")
    # First of all, and to the end of the transaction: deciders go one by one, so that a vote is
    # never moved from a state that it has left. Flushers do not take this lock; with them we share
    # the order tallies, then minutes, each by its key.
    await connection.execute(SQL["lock_decisions"], timeout=STATEMENT_SECONDS)
    await connection.execute(SQL["make_this_commit_durable"])
    campaigns = {await _campaign_of(connection, one) for one in chosen}
    if len(campaigns) != 1:
        raise DecisionError("decisions that are taken together are about one campaign")
    (campaign,) = campaigns
    await connection.execute(SQL["make_decision_tables"])
    taken: list[tuple[Chosen, Decided]] = []
    for one in chosen:
        if taken:
            await connection.execute(SQL["clear_chosen"])
        decided = await _decide(connection, campaign, one, action, by.recorded, reason, rules)
        if decided is not None:
            taken.append((one, decided))
    if any(decided.moved for _, decided in taken):
        await connection.execute(SQL["move_tallies"], campaign, timeout=STATEMENT_SECONDS)
        await connection.execute(SQL["move_minutes"], campaign, timeout=STATEMENT_SECONDS)
    deltas: defaultdict[int, list[Delta]] = defaultdict(list)
    for number, *delta in await connection.fetch(SQL["read_moves"]):
        deltas[number].append(Delta(*delta))
    await connection.execute(SQL["drop_decision_tables"])
    whole = []
    for one, decided in taken:
        assert decided.number is not None, "it was taken"
        whole.append(replace(decided, deltas=tuple(deltas[decided.number])))
        await _tell(connection, one, whole[-1], by, reason)
    return whole


async def _decide(
    connection: asyncpg.Connection,
    campaign: int,
    chosen: Chosen,
    action: Action,
    by: str,
    reason: str,
    rules: int,
) -> Decided | None:
    flag = None if isinstance(chosen, HeldAtOnce) else chosen.flag
    seconds = STATEMENT_SECONDS
    match chosen:
        case Case():
            await connection.execute(SQL["choose_case"], flag, timeout=seconds)
        case OneFlag():
            await connection.execute(SQL["choose_flag"], flag, timeout=seconds)
        case HeldAtOnce():
            await connection.execute(
                SQL["choose_held_at_once"],
                campaign,
                chosen.before,
                round(chosen.below_nats * 1000),
                RELEASED_AT_ONCE_MAX,
                timeout=seconds,
            )
    await connection.execute(SQL["analyze_chosen"])
    await connection.execute(
        SQL["speak_of_votes"],
        campaign,
        [state for state in State if speaks_of(state, action, by=by, last_by=None)],
        by == WATCH,
        WATCH,
        timeout=seconds,
    )
    wanted = LEADS_TO[action]
    counts = await connection.fetchrow(SQL["count_spoken"], wanted)
    votes, moved = counts["votes"], counts["moved"]
    if by == WATCH and not votes:
        return None
    number: int = await connection.fetchval(
        SQL["add_decision"], campaign, action, flag, reason, rules, by, votes, moved
    )
    await connection.execute(SQL["add_decision_votes"], number, wanted, timeout=seconds)
    await connection.execute(SQL["move_vote_state"], number, wanted, timeout=seconds)
    if moved:
        await connection.execute(SQL["sum_moves"], wanted, number)
        await connection.execute(SQL["add_adjudications"], number)
    return Decided(number, campaign, action, votes, (), moved)


async def _tell(
    connection: asyncpg.Connection, chosen: Chosen, decided: Decided, by: Decider, reason: str
) -> None:
    """Into the audit log."""
    at_once = isinstance(chosen, HeldAtOnce)
    subject = (
        f"campaign {chosen.campaign}" if isinstance(chosen, HeldAtOnce) else f"flag {chosen.flag}"
    )
    await audit.append(
        connection,
        actor=by.name,
        role=by.role,
        action=f"{'votes' if at_once else 'case'}.{decided.action}",
        subject=subject,
        details={
            "decision": decided.number,
            "campaign": decided.campaign,
            "votes": decided.votes,
            "moved": decided.moved,
            "reason": reason,
            **({"approved_by": by.second} if by.second else {}),
            "candidates": {
                str(delta.candidate): [delta.counted, delta.held, delta.struck]
                for delta in decided.deltas
            },
        },
    )


async def _campaign_of(connection: asyncpg.Connection, chosen: Chosen) -> int:
    if isinstance(chosen, HeldAtOnce):
        return chosen.campaign
    campaign: int | None = await connection.fetchval(SQL["read_flag_campaign"], chosen.flag)
    if campaign is None:
        raise DecisionError(f"there is no flag {chosen.flag}")
    return campaign


async def release_undecided(
    connection: asyncpg.Connection,
    campaign: int,
    now: datetime,
    *,
    before_seal: bool = False,
) -> list[Decided]:
    """Release what nobody decided: held by its own verdict or by `watch`, no person has spoken of
    it, RELEASE_AFTER ago, or whatever its age before a seal, and below RELEASE_BELOW_NATS (its
    flag's score, or the vote's own where it was held at once). The decisions, none where there is
    nothing to do."""
    before = now if before_seal else now - RELEASE_AFTER
    why = "before the seal" if before_seal else f"in {RELEASE_AFTER // timedelta(hours=1)} hours"
    reason = f"nobody decided {why}, and the score is below {RELEASE_BELOW_NATS:g}"
    decisions = []

    async def release(chosen: Chosen) -> Decided | None:
        decided = await decide(connection, chosen, Action.RELEASE, by=WATCH, reason=reason)
        if decided is not None:
            decisions.append(decided)
        return decided

    flags: Sequence[Any] = await connection.fetch(
        SQL["list_undecided_flags"], campaign, before, RELEASE_BELOW_NATS, WATCH
    )
    for row in flags:
        await release(OneFlag(row["number"]))
    # Until there are none: each decision speaks of what it takes, so none comes twice.
    while (
        decided := await release(HeldAtOnce(campaign, before, RELEASE_BELOW_NATS))
    ) is not None and decided.votes == RELEASED_AT_ONCE_MAX:
        pass
    return decisions
