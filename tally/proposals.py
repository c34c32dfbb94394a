"""Proposals: what one person of the staff wants done, and another has to agree to.

    propose ──► open ──► approve ──► executed, in the same transaction
                     ├─► reject      by another person
                     └─► withdraw    by whoever proposed it

Who it is, and what they may, is read in the transaction that acts on it, not out of a session:
whoever was disabled a moment ago settles nothing, and nothing of theirs is executed. Two who agree
at once execute once. What is executed is what the one who agreed was shown: where it would move
something else by then, it is refused, and has to be looked at once more.

Who makes somebody's account, or gives it a new password, could use it in their name: those two are
no two persons for HANDS_OFF. What a command at the machine did is nobody's of the staff.

Known weakness: two accounts of one human being are two persons here, and so are two whom a third
one gave their passwords a moment ago.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from tally import audit, case_decisions
from tally.campaigns import campaign_changes, imports, notice_proposals
from tally.proposal_kinds import CannotBeDone, Content, Kind, Person, seen
from tally.publishing import final_seal
from tally.store import read_queries
from tally.translated import N_
from tally.written import tidy, unfit

__all__ = [
    "KINDS",
    "Answer",
    "Outcome",
    "Proposal",
    "State",
    "approve",
    "list_proposals",
    "look_now",
    "propose",
    "read_person",
    "read_proposal",
    "reject",
    "seen",
    "withdraw",
]

SQL = read_queries(Path(__file__).with_suffix(".sql"))

KINDS: Mapping[str, Kind] = {
    "decide": case_decisions.KIND,
    "change": campaign_changes.KIND,
    "import": imports.KIND,
    "publish": final_seal.KIND,
    "notice": notice_proposals.KIND,
}
"""Everything that takes two persons."""

OPEN_MAX = 500
"""Proposals of one campaign that may wait at once."""
REASON_CHARACTERS_MAX = 2_000
HANDS_OFF = timedelta(days=7)
CONTENT_BYTES_MAX = 200_000


class State(enum.StrEnum):
    """Where a proposal is."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Outcome(enum.Enum):
    """What became of an attempt to propose or to settle. Nothing was written but where DONE."""

    DONE = "done"
    UNKNOWN = "unknown"
    """There is no such proposal."""
    SETTLED = "settled"
    """Somebody settled it before."""
    OWN = "own"
    """The same person who proposed it."""
    NOT_ALLOWED = "not-allowed"
    """Their role may not, or their account was disabled."""
    PROPOSER_GONE = "proposer-gone"
    """Whoever proposed it was disabled or may not any more: somebody else must propose it."""
    SAME_HAND = "same-hand"
    """One of the two made, reset or enabled the other's account, or gave it its role, within
    HANDS_OFF."""
    GROUND_CHANGED = "ground-changed"
    """It would move something else than what was shown."""
    NO_REASON = "no-reason"
    """None, or too long a one."""
    UNFIT_REASON = "unfit-reason"
    """`Answer.said` says what must not be in it."""
    TOO_MANY = "too-many"
    """OPEN_MAX wait already."""
    IMPOSSIBLE = "impossible"
    """`Answer.said` says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it."""

    outcome: Outcome
    number: int | None = None
    """The proposal's."""
    said: str = ""
    """What came of the execution, or why it was impossible."""
    why: CannotBeDone | None = None
    """The latter, for whoever reads another language."""

    @property
    def done(self) -> bool:
        return self.outcome is Outcome.DONE


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal, as it stands."""

    number: int
    at: datetime
    campaign: int
    campaign_id: str
    kind: str
    content: dict[str, Any]
    reason: str
    state: State
    proposed_by: int
    proposer_name: str
    proposer_shown_as: str
    settled_by: int | None
    settler_shown_as: str | None
    settled_at: datetime | None
    answer: str | None

    @property
    def ground(self) -> Content:
        """What it would have moved when it was proposed."""
        ground: Content = self.content.get("ground", {})
        return ground


async def propose(
    connection: asyncpg.Connection,
    kind: str,
    *,
    campaign: int,
    content: Content,
    reason: str,
    by: int,
) -> Answer:
    """Write down what person `by` (staff.number) wants done. May be a part of a transaction of the
    caller's. The content must be what the kind's functions read; what it would move now is looked
    at here and kept with it, under "ground", and so is the reason, under "reason". Raises KeyError
    for an unknown kind."""
    of_kind = KINDS[kind]
    reason = tidy(reason, REASON_CHARACTERS_MAX)
    if (no_reason := _no_reason(reason)) is not None:
        return no_reason
    try:
        async with connection.transaction():
            person = await _person(connection, by)
            if person is None or person.role not in of_kind.roles:
                return Answer(Outcome.NOT_ALLOWED)
            if await connection.fetchval(SQL["count_open_proposals"], campaign) >= OPEN_MAX:
                return Answer(Outcome.TOO_MANY)
            content = {**content, "reason": reason}
            content.pop("ground", None)
            if of_kind.look is not None:
                content["ground"] = await of_kind.look(connection, content, False)
            packed = json.dumps(content, ensure_ascii=False)
            if len(packed.encode()) > CONTENT_BYTES_MAX:
                raise CannotBeDone(N_("the proposal is too large"))
            number = await connection.fetchval(
                SQL["add_proposal"], campaign, kind, packed, reason, person.number
            )
            await _tell(connection, person, "made", number, {"kind": kind, **content})
            return Answer(Outcome.DONE, number)
    except CannotBeDone as why:
        return Answer(Outcome.IMPOSSIBLE, None, str(why), why)


async def approve(
    connection: asyncpg.Connection, number: int, *, by: int, shown: str = ""
) -> Answer:
    """Agree as person `by`, and do it: execution, the proposal's state and the audit entries are
    one transaction. `shown` is `seen()` of the ground that this person was shown (`look_now`);
    kinds whose content says it all need none.

    The connection must be in no transaction. A crash leaves the proposal open and nothing done, or
    all of it."""
    try:
        async with connection.transaction():
            proposal, person, refused = await _to_settle(connection, number, by)
            if proposal is None or person is None or refused is not None:
                return Answer(refused or Outcome.UNKNOWN, number)
            kind = KINDS[proposal.kind]
            proposer = await _person(connection, proposal.proposed_by)
            if proposer is None or proposer.role not in kind.roles:
                return Answer(Outcome.PROPOSER_GONE, number)
            # Both rows are held: nobody is reset between this and the end.
            if await connection.fetchval(
                SQL["are_in_one_hand"], proposer.name, person.name, HANDS_OFF
            ):
                return Answer(Outcome.SAME_HAND, number)
            if kind.look is not None:
                now = await kind.look(connection, proposal.content, True)
                if seen(now) != shown:
                    return Answer(Outcome.GROUND_CHANGED, number)
            said = await kind.execute(connection, proposal.content, proposer, person)
            await connection.execute(
                SQL["settle_proposal"], number, State.APPROVED, person.number, said
            )
            await _tell(
                connection, person, "approved", number, {"kind": proposal.kind, "said": said}
            )
            return Answer(Outcome.DONE, number, said)
    except CannotBeDone as why:
        return Answer(Outcome.IMPOSSIBLE, number, str(why), why)


async def reject(connection: asyncpg.Connection, number: int, *, by: int, reason: str) -> Answer:
    """Refuse it as another person, with a reason. The connection must be in no transaction."""
    reason = tidy(reason, REASON_CHARACTERS_MAX)
    if (no_reason := _no_reason(reason, number)) is not None:
        return no_reason
    async with connection.transaction():
        proposal, person, refused = await _to_settle(connection, number, by)
        if proposal is None or person is None or refused is not None:
            return Answer(refused or Outcome.UNKNOWN, number)
        await connection.execute(
            SQL["settle_proposal"], number, State.REJECTED, person.number, reason
        )
        await _tell(
            connection, person, "rejected", number, {"kind": proposal.kind, "reason": reason}
        )
        return Answer(Outcome.DONE, number)


async def withdraw(connection: asyncpg.Connection, number: int, *, by: int) -> Answer:
    """Take one's own proposal back. The connection must be in no transaction."""
    async with connection.transaction():
        proposal, person, refused = await _to_settle(connection, number, by)
        if proposal is None or person is None:
            return Answer(refused or Outcome.UNKNOWN, number)
        if refused is Outcome.SETTLED:
            return Answer(refused, number)
        if proposal.proposed_by != person.number:
            return Answer(Outcome.NOT_ALLOWED, number)
        await connection.execute(
            SQL["settle_proposal"], number, State.WITHDRAWN, person.number, None
        )
        await _tell(connection, person, "withdrawn", number, {"kind": proposal.kind})
        return Answer(Outcome.DONE, number)


async def look_now(connection: asyncpg.Connection, proposal: Proposal) -> Content:
    """What it would move now; empty where the content says it all. Raises CannotBeDone."""
    look = KINDS[proposal.kind].look
    return {} if look is None else await look(connection, proposal.content, False)


async def read_proposal(connection: asyncpg.Connection, number: int) -> Proposal | None:
    """One of them."""
    row = await connection.fetchrow(SQL["read_proposal"], number)
    return None if row is None else _proposal(row)


async def list_proposals(
    connection: asyncpg.Connection,
    campaign: int | None = None,
    *,
    settled: bool = False,
    at_most: int = 200,
) -> list[Proposal]:
    """Those that wait, or those that were settled; the newest first."""
    rows = await connection.fetch(SQL["list_proposals"], campaign, not settled, at_most)
    return [_proposal(row) for row in rows]


async def read_person(connection: asyncpg.Connection, number: int) -> Person | None:
    """A person who may act now; None where there is none, or not any more. In a transaction that
    stays so to its end."""
    return await _person(connection, number)


def _no_reason(reason: str, number: int | None = None) -> Answer | None:
    """Why this is none; None where it is one."""
    if not reason or len(reason) > REASON_CHARACTERS_MAX:
        return Answer(Outcome.NO_REASON, number)
    why = unfit(reason, REASON_CHARACTERS_MAX)
    return None if why is None else Answer(Outcome.UNFIT_REASON, number, str(why), why)


async def _person(connection: asyncpg.Connection, number: int) -> Person | None:
    row = await connection.fetchrow(SQL["read_person"], number)
    if row is None or not row["active"]:
        return None
    return Person(row["number"], row["name"], row["shown_as"], row["role"])


async def _to_settle(
    connection: asyncpg.Connection, number: int, by: int
) -> tuple[Proposal | None, Person | None, Outcome | None]:
    """The proposal, locked; who settles it; and why they may not, if so."""
    # The proposal first, whatever its execution locks after it: whoever comes second waits here.
    state = await connection.fetchval(SQL["lock_proposal"], number)
    if state is None:
        return None, None, Outcome.UNKNOWN
    proposal = await read_proposal(connection, number)
    assert proposal is not None, "it is locked"
    person = await _person(connection, by)
    if person is None or person.role not in KINDS[proposal.kind].roles:
        return proposal, None, Outcome.NOT_ALLOWED
    if proposal.state is not State.OPEN:
        return proposal, person, Outcome.SETTLED
    if proposal.proposed_by == person.number:
        return proposal, person, Outcome.OWN
    return proposal, person, None


async def _tell(
    connection: asyncpg.Connection, person: Person, did: str, number: int, details: Content
) -> None:
    """Into the audit log, last of all."""
    await audit.append(
        connection,
        actor=person.name,
        role=person.role,
        action=f"proposal.{did}",
        subject=f"proposal {number}",
        details=dict(details),
    )


def _proposal(row: asyncpg.Record) -> Proposal:
    facts = dict(row)
    facts["content"] = json.loads(facts["content"])
    facts["state"] = State(facts["state"])
    return Proposal(**facts)
