"""Putting a notice up takes two persons: one proposes its text, another agrees to just that text.

    drafted ──► proposed, with the text ──► agreed to: in `notices`, and on every edge within 2 s

The text is kept with the proposal, so that nothing but what the two saw is put up. Where what it
says has moved since (a decision, a name, and after the close any number) it is put up no more, and
has to be proposed anew. Notices are never changed: a newer one replaces an older one, and one is
taken back by a further one that says so.

Counts stay blind: a notice with numbers is put up only where the public may see the counts of the
moment that its numbers are of (voting/visibility.py), and the edge asks that once more whenever it
shows one.

Known weakness: while a campaign is open its counts move with every vote; a notice then says what
they were when it was drafted. What people type into its title and its fields may be anything,
numbers included: that is for the second person to see. More than CONTENT_BYTES_MAX of text
(some 750 candidates with struck votes and long names) is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from tally import audit
from tally.campaigns import campaign_changes
from tally.campaigns.campaign_changes import UnknownCampaign
from tally.campaigns.notice import (
    FIELD_CHARACTERS_MAX,
    Facts,
    Fields,
    draft,
    gather_facts,
    read_facts,
    withdrawal,
)
from tally.canonical import canonical
from tally.delivery import outbox
from tally.proposal_kinds import CannotBeDone, Content, Kind, Person
from tally.store import SQL as STORE_SQL
from tally.store import read_queries
from tally.translated import N_, Translate
from tally.written import tidy, unfit
from voting.campaign import Campaign, Visibility, microseconds, moment_at
from voting.changes import lock_changes
from voting.intake.text import on_one_line
from voting.notices import Notice, PublicNotice, notice_from_json, notice_to_json
from voting.visibility import is_blind, publication_hours

SQL = read_queries(Path(__file__).with_suffix(".sql"))

NOTICES_MAX = 50
"""Of one campaign: every edge holds them all."""
WHY_CHARACTERS_MAX = 500


class Now(NamedTuple):
    """A campaign as whoever puts a notice up has to know it."""

    campaign: Campaign
    """Without candidates."""
    at: datetime
    notices: int
    """How many were put up."""


# Proposing.


def content_of(facts: Facts, fields: Fields, now: datetime) -> Content:
    """What to propose where these facts are to be put up. Raises CannotBeDone: something is not
    filled in, or the time has not come."""
    fields = _sound(fields)
    if not (fields.issuer and fields.contact and fields.dated):
        raise CannotBeDone(
            N_("who signs, whom to write to and the day of the notice have to be filled in first")
        )
    notice = draft(facts, fields)
    check_counts(facts, now)
    _check_period(facts.campaign, notice, now)
    return {
        "campaign": facts.campaign.id,
        "notice": notice_to_json(notice),
        "made_from": facts.ground,
    }


async def content_of_withdrawal(
    connection: asyncpg.Connection, campaign_id: str, number: int, *, why: str
) -> Content:
    """What to propose where notice `number` is to be taken back, for this reason that the public is
    told. Whoever signed it signs this too. Raises CannotBeDone."""
    now = await read_now(connection, campaign_id)
    await _check_standing(connection, now, number)
    why = on_one_line(tidy(why, WHY_CHARACTERS_MAX))
    if not why:
        raise CannotBeDone(N_("say for the public why the notice is taken back"))
    if (fault := unfit(why, WHY_CHARACTERS_MAX)) is not None:
        raise fault
    row = await connection.fetchrow(SQL["read_notice"], now.campaign.number, number)
    notice = withdrawal(
        now.campaign,
        PublicNotice(number, row["at"], notice_from_json(json.loads(row["content"]))),
        why=why,
        dated=now.at.date(),
    )
    return {"campaign": campaign_id, "notice": notice_to_json(notice), "made_from": ""}


def notice_of(content: Content) -> Notice:
    """The text that is proposed."""
    stored: Mapping[str, Any] = content["notice"]
    return notice_from_json(stored)


def sha256_of(notice: Notice) -> str:
    """Of everything that a notice says, as it is stored."""
    return hashlib.sha256(canonical(notice_to_json(notice))).hexdigest()


def _sound(fields: Fields) -> Fields:
    """The same, tidied; CannotBeDone where something in it cannot be seen or is too long."""

    def sound(text: str) -> str:
        text = on_one_line(tidy(text, FIELD_CHARACTERS_MAX))
        if (fault := unfit(text, FIELD_CHARACTERS_MAX)) is not None:
            raise fault
        return text

    return replace(
        fields,
        issuer=sound(fields.issuer),
        contact=sound(fields.contact),
        title=sound(fields.title),
    )


def check_counts(facts: Facts, now: datetime) -> None:
    """CannotBeDone where these numbers are not to be seen in public yet, or are not all there."""
    campaign, zone = facts.campaign, facts.campaign.window.zone
    closes_at = campaign.window.closes_at
    if now >= closes_at and not facts.closed:
        raise CannotBeDone(N_("votes of the last minutes are not in the database yet"))
    if not is_blind(campaign, facts.counts_as_of, microseconds(now)):
        return
    match campaign.rules.counts:
        case Visibility.AFTER_CLOSE:
            raise CannotBeDone(
                N_("it would show counts that the public sees from the close on, {at}"),
                at=f"{closes_at.astimezone(zone):%Y-%m-%d %H:%M}",
            )
        case Visibility.DAILY:
            raise CannotBeDone(
                N_("it would show counts that the public sees once a day: these from {at} on"),
                at=f"{_first_hour_of(facts):%Y-%m-%d %H:%M}",
            )
        case _:
            raise CannotBeDone(N_("it would show counts, and they are shown to staff alone"))


def _check_period(campaign: Campaign, notice: Notice, now: datetime) -> None:
    if notice.ends is not None and notice.ends < now.astimezone(campaign.window.zone).date():
        raise CannotBeDone(N_("the period for objections would be over already"))


def _first_hour_of(facts: Facts) -> datetime:
    """The first hour at which the public sees these numbers: while the campaign is open, whatever
    they will be, those of the close."""
    campaign = facts.campaign
    as_of = facts.counts_as_of if facts.closed else campaign.window.closes_at
    _, first = publication_hours(campaign, microseconds(as_of) - 1)
    return moment_at(first, campaign.window.zone)


# Agreeing.


async def look(connection: asyncpg.Connection, content: Content, hold: bool) -> Content:
    """What agreeing to it would put up, and under which number. With `hold` nobody decides on
    votes, changes a campaign or puts a notice up before the transaction ends."""
    if hold:
        await lock_changes(connection)
        await connection.execute(STORE_SQL["lock_decisions"])
    now = await read_now(connection, str(content.get("campaign", "")))
    if now.notices >= NOTICES_MAX:
        raise CannotBeDone(N_("this campaign has too many notices already"))
    notice = notice_of(content)
    if notice.withdraws is not None:
        await _check_standing(connection, now, notice.withdraws)
    else:
        facts = await _facts_of(connection, now.campaign)
        check_counts(facts, now.at)
        _check_period(now.campaign, notice, now.at)
        if facts.ground != content["made_from"]:
            raise CannotBeDone(
                N_("what the notice says has moved since: it has to be drafted anew")
            )
    return {"number": now.notices + 1, "sha256": sha256_of(notice)}


async def execute(
    connection: asyncpg.Connection, content: Content, proposed_by: Person, approved_by: Person
) -> str:
    """Put it up, in the transaction that settles the proposal; `look` held what it saw."""
    now = await read_now(connection, content["campaign"])
    notice, number = notice_of(content), now.notices + 1
    subject = f"{now.campaign.id}/{number}"
    at = await connection.fetchval(
        SQL["add_notice"],
        now.campaign.number,
        number,
        json.dumps(content["notice"], ensure_ascii=False),
        proposed_by.name,
        approved_by.name,
    )
    # Every edge asks for it each second, and loads the catalog when it has moved.
    await connection.execute(SQL["move_catalog"])
    told: dict[str, Any] = {
        "campaign": now.campaign.id,
        "title": now.campaign.title,
        "number": number,
        "withdraws": notice.withdraws,
        "sha256": sha256_of(notice),
        "at": at.astimezone(now.campaign.window.zone).isoformat(timespec="seconds"),
    }
    await outbox.add(connection, outbox.Event.NOTICE, subject, told)
    await audit.append(
        connection,
        actor=proposed_by.name,
        role=proposed_by.role,
        action="notice.put-up" if notice.withdraws is None else "notice.withdrawn",
        subject=f"notice {subject}",
        details={
            "title": notice.title,
            "sha256": told["sha256"],
            "withdraws": notice.withdraws,
            "reason": content["reason"],
            "approved_by": approved_by.name,
        },
    )
    return f"notice {subject}"


def describe(content: Content, _: Translate) -> str:
    """One line for whoever is to agree."""
    notice, campaign = content.get("notice", {}), content.get("campaign", "?")
    if notice.get("withdraws") is not None:
        return _("Take notice {n} of {campaign} back", n=notice["withdraws"], campaign=campaign)
    return _("Put up in {campaign}: {title}", campaign=campaign, title=notice.get("title", "?"))


KIND = Kind(execute=execute, describe=describe, look=look)
"""Proposals of kind "notice"."""


# Reading.


class PutUp(NamedTuple):
    """One notice as staff see it in the list."""

    number: int
    at: datetime
    title: str
    withdraws: int | None
    withdrawn: bool
    published_by: str
    approved_by: str


async def list_put_up(connection: asyncpg.Connection, campaign: int) -> list[PutUp]:
    """Those of a campaign (by its number), the newest first."""
    return [PutUp(**row) for row in await connection.fetch(SQL["list_put_up"], campaign)]


async def read_now(connection: asyncpg.Connection, campaign_id: str) -> Now:
    """CannotBeDone where of this campaign nothing is put up."""
    try:
        found = await campaign_changes.read_campaign(connection, campaign_id)
    except UnknownCampaign:
        raise CannotBeDone(N_("there is no such campaign any more")) from None
    if found.is_test:
        raise CannotBeDone(N_("it is a rehearsal: nothing of it is published"))
    campaign = Campaign(found.number, found.id, found.title, found.window, found.rules)
    row = await connection.fetchrow(SQL["count_notices"], found.number)
    return Now(campaign, row["now"].astimezone(found.window.zone), row["notices"])


async def _check_standing(connection: asyncpg.Connection, now: Now, number: int) -> None:
    """CannotBeDone where there is no such notice that could be taken back."""
    rows = await list_put_up(connection, now.campaign.number)
    found = next((one for one in rows if one.number == number), None)
    if found is None or found.withdraws is not None:
        raise CannotBeDone(N_("there is no such notice"))
    if found.withdrawn:
        raise CannotBeDone(N_("the notice was taken back already"))


async def _facts_of(connection: asyncpg.Connection, campaign: Campaign) -> Facts:
    if connection.is_in_transaction():
        return await gather_facts(connection, campaign)
    return await read_facts(connection, campaign)
