"""Objections of the public notice period: what somebody outside holds against a result or a case,
and the answer they got.

Staff or the selection office write them down as they come in (by letter, mail or telephone). An
answer stays: a further one is put below it. The audit log says who did what and when, and the
SHA-256 of the text; names of people outside are not in it, for it can never forget them. Whoever
objected is known by the name that they gave, until it is deleted: nothing but the answer needs it.
"""

import enum
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from tally import audit
from tally.store import read_queries
from tally.written import tidy, unseen_in
from voting.campaign import Campaign
from voting.intake.text import on_one_line

SQL = read_queries(Path(__file__).with_suffix(".sql"))

NAME_CHARACTERS_MAX = 200
TEXT_CHARACTERS_MAX = 10_000
ANSWERS_CHARACTERS_MAX = 40_000
"""All answers to one objection together."""
OBJECTIONS_MAX = 100_000
"""Of one campaign."""


class Refused(enum.Enum):
    """Why something was not written down."""

    NO_NAME = "no-name"
    NO_TEXT = "no-text"
    TOO_LONG = "too-long"
    UNSEEN = "unseen"
    """A character in it cannot be seen: `tally.written.unseen_in` says which."""
    UNKNOWN_CANDIDATE = "unknown-candidate"
    UNKNOWN_FLAG = "unknown-flag"
    UNKNOWN = "unknown"
    """There is no such objection."""
    TOO_MANY = "too-many"


@dataclass(frozen=True, slots=True)
class Objection:
    number: int
    at: datetime
    campaign: int
    candidate: int | None
    flag: int | None
    received_from: str
    """"" = the name was deleted."""
    text: str
    entered_by: str
    answer: str | None
    answered_by: str | None
    """Of the last answer."""
    answered_at: datetime | None

    @property
    def open(self) -> bool:
        return self.answer is None


@dataclass(frozen=True, slots=True)
class Clerk:
    """Who writes it down or answers it."""

    name: str
    role: str


async def enter(
    connection: asyncpg.Connection,
    campaign: Campaign,
    *,
    received_from: str,
    text: str,
    candidate: str = "",
    flag: int | None = None,
    by: Clerk,
) -> int | Refused:
    """Write one down; its number. `candidate`: an id or a number, "" = it names none. The
    connection must be in no transaction."""
    received_from = on_one_line(tidy(received_from, NAME_CHARACTERS_MAX))
    text, candidate = tidy(text, TEXT_CHARACTERS_MAX), candidate.strip()
    if not received_from:
        return Refused.NO_NAME
    if not text:
        return Refused.NO_TEXT
    if len(received_from) > NAME_CHARACTERS_MAX or len(text) > TEXT_CHARACTERS_MAX:
        return Refused.TOO_LONG
    if unseen_in(received_from) or unseen_in(text):
        return Refused.UNSEEN
    numbered = None
    if candidate:
        numbered = next(
            (one.number for one in campaign.candidates if candidate in (one.id, str(one.number))),
            None,
        )
        if numbered is None:
            return Refused.UNKNOWN_CANDIDATE
    async with connection.transaction():
        if flag is not None and not await connection.fetchval(
            SQL["is_flag_of"], flag, campaign.number
        ):
            return Refused.UNKNOWN_FLAG
        if (await counts(connection, campaign.number))[0] >= OBJECTIONS_MAX:
            return Refused.TOO_MANY
        number: int = await connection.fetchval(
            SQL["add_objection"], campaign.number, numbered, flag, received_from, text, by.name
        )
        await _tell(connection, by, "entered", number, campaign.number, text)
    return number


async def answer(
    connection: asyncpg.Connection, campaign: Campaign, number: int, *, text: str, by: Clerk
) -> Refused | None:
    """Answer it; a further answer is put below those before, with its day. None: it was. The
    connection must be in no transaction."""
    text = tidy(text, TEXT_CHARACTERS_MAX)
    if not text:
        return Refused.NO_TEXT
    if unseen_in(text):
        return Refused.UNSEEN
    async with connection.transaction():
        row = await connection.fetchrow(SQL["lock_objection"], campaign.number, number)
        if row is None:
            return Refused.UNKNOWN
        whole = text
        if row["answer"] is not None:
            day = datetime.now(UTC).astimezone(campaign.window.zone).date()
            whole = f"{row['answer']}\n\n[{day.isoformat()} {by.name}]\n{text}"
        if len(text) > TEXT_CHARACTERS_MAX or len(whole) > ANSWERS_CHARACTERS_MAX:
            return Refused.TOO_LONG
        await connection.execute(SQL["answer_objection"], number, whole, by.name)
        await _tell(connection, by, "answered", number, campaign.number, text)
    return None


async def forget_name(
    connection: asyncpg.Connection, campaign: Campaign, number: int, *, by: Clerk
) -> bool:
    """Delete the name of whoever objected; whether it was: not before there is an answer. The
    connection must be in no transaction."""
    async with connection.transaction():
        forgotten = await connection.fetchval(SQL["forget_objector"], campaign.number, number)
        if forgotten is None:
            return False
        await _tell(connection, by, "name-deleted", number, campaign.number)
    return True


async def counts(connection: asyncpg.Connection, campaign: int) -> tuple[int, int]:
    """(how many objections a campaign has, how many of them wait for an answer)."""
    row = await connection.fetchrow(SQL["count_objections"], campaign)
    return row["all_of_them"], row["open"]


async def list_objections(
    connection: asyncpg.Connection,
    campaign: int,
    *,
    answered: bool = False,
    at_most: int = 50,
    after: int = 0,
) -> list[Objection]:
    """Those that wait, the oldest first; or those that were answered, the newest first. `after`
    that many."""
    rows = await connection.fetch(SQL["list_objections"], campaign, answered, at_most, after)
    return [Objection(*row) for row in rows]


async def list_of_case(
    connection: asyncpg.Connection, campaign: int, case: int
) -> list[tuple[int, bool]]:
    """(number, whether it is answered) of objections to a case."""
    rows = await connection.fetch(SQL["list_objections_to_case"], campaign, case)
    return [(row["number"], row["answered"]) for row in rows]


async def find_campaign(connection: asyncpg.Connection, number: int) -> str | None:
    """Id of the campaign that an objection is of."""
    campaign: str | None = await connection.fetchval(SQL["find_campaign_of_objection"], number)
    return campaign


async def read_objection(
    connection: asyncpg.Connection, campaign: int, number: int
) -> Objection | None:
    row = await connection.fetchrow(SQL["read_objection"], campaign, number)
    return None if row is None else Objection(*row)


async def _tell(
    connection: asyncpg.Connection,
    by: Clerk,
    did: str,
    number: int,
    campaign: int,
    text: str | None = None,
) -> None:
    """Into the audit log: that, not what."""
    details: dict[str, str | int] = {"campaign": campaign}
    if text is not None:
        details["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    await audit.append(
        connection,
        actor=by.name,
        role=by.role,
        action=f"objection.{did}",
        subject=f"objection {number}",
        details=details,
    )
