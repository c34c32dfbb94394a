"""The public notice: a draft to fill in and to print, its text, the list that it names, and having
it put up or taken back, each of which takes a second person."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import IO, Annotated
from urllib.parse import urlencode

import asyncpg
from fastapi import APIRouter, Depends, Form, HTTPException, Path, Query, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from tally import proposals
from tally.campaigns.notice import (
    DAYS_MAX,
    FIELD_CHARACTERS_MAX,
    Fields,
    copy_struck,
    draft,
    read_facts,
)
from tally.campaigns.notice_proposals import (
    NOTICES_MAX,
    WHY_CHARACTERS_MAX,
    check_counts,
    content_of,
    content_of_withdrawal,
    list_put_up,
    read_now,
)
from tally.console import pages
from tally.console.flags import may_decide, newest_campaign, page_of
from tally.console.parts import (
    Answering,
    Reviewing,
    SignedIn,
    Staff,
    campaign_asked,
    console_of,
    limiter,
)
from tally.console.proposal_pages import REASON_CHARACTERS_MAX, REFUSALS, TYPED_CHARACTERS_MAX
from tally.proposal_kinds import CannotBeDone, Content
from tally.translated import N_, Translate
from voting.notices import place_change

router = APIRouter()

MOVED = N_(
    "What the notice says has moved since you looked. Nothing was proposed: look at the text below "
    "once more."
)
_Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_Text = Annotated[str, Query(max_length=FIELD_CHARACTERS_MAX)]
_Day = Annotated[str, Query(max_length=10)]


def _filled_in(
    issuer: _Text = "",
    contact: _Text = "",
    title: _Text = "",
    begins: _Day = "",
    days: Annotated[int, Query(ge=1, le=DAYS_MAX)] = 5,
    dated: _Day = "",
) -> Fields:
    """What the form has, out of the query."""
    return Fields(
        issuer.strip(),
        contact.strip(),
        title.strip(),
        pages.day_typed(begins),
        days,
        pages.day_typed(dated),
    )


_FilledIn = Annotated[Fields, Depends(_filled_in)]


@router.get("/notice")
@limiter.limit("60/minute")
async def get_newest_notice(request: Request, staff: SignedIn) -> Response:
    """That of the campaign that matters now."""
    campaign = await newest_campaign(request)
    return RedirectResponse(f"/campaigns/{campaign.id}/notice", 303)


@router.get("/campaigns/{campaign_id}/notice")
@limiter.limit("30/minute")
async def get_notice(
    request: Request, staff: SignedIn, campaign_id: str, fields: _FilledIn
) -> Response:
    """The draft as it prints, with a form for what has to be filled in; below it how it is put up,
    and what was."""
    return await _notice_page(request, staff, campaign_id, fields)


async def _notice_page(
    request: Request,
    staff: Staff,
    campaign_id: str,
    fields: Fields,
    *,
    status: int = 200,
    refusal: str = "",
    withdraw_refusal: str = "",
    reason: str = "",
) -> Response:
    console, _ = console_of(request), pages.translator_of(request)
    async with console.pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        facts = await read_facts(connection, campaign)
        put_up = await list_put_up(connection, campaign.number)
        not_yet = ""
        try:
            now = await read_now(connection, campaign.id)
            check_counts(facts, now.at)
        except CannotBeDone as why:
            not_yet = why.told(_)
    said = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in asdict(fields).items()
        if value
    }
    origins = console.settings.public_origins
    return pages.render(
        request,
        "notice.html",
        staff=staff,
        status=status,
        **page_of(campaign),
        facts=facts,
        fields=fields,
        notice=draft(facts, fields),
        place_change=place_change,
        days_max=DAYS_MAX,
        field_max=FIELD_CHARACTERS_MAX,
        as_text=f"/campaigns/{campaign.id}/notice.txt?{urlencode(said)}",
        may_propose=may_decide(staff),
        put_up=put_up,
        not_yet=not_yet,
        refusal=refusal,
        withdraw_refusal=withdraw_refusal,
        reason=reason,
        reason_max=REASON_CHARACTERS_MAX,
        why_max=WHY_CHARACTERS_MAX,
        public_base=origins[0] if origins else "",
    )


_Typed = Annotated[str, Form(max_length=FIELD_CHARACTERS_MAX)]
_TypedDay = Annotated[str, Form(max_length=10)]


@router.post("/campaigns/{campaign_id}/notice")
@limiter.limit("20/minute")
async def post_notice(
    request: Request,
    staff: Reviewing,
    campaign_id: str,
    made_from: Annotated[str, Form(max_length=64)] = "",
    issuer: _Typed = "",
    contact: _Typed = "",
    title: _Typed = "",
    begins: _TypedDay = "",
    days: Annotated[int, Form(ge=1, le=DAYS_MAX)] = 5,
    dated: _TypedDay = "",
    reason: Annotated[str, Form(max_length=TYPED_CHARACTERS_MAX)] = "",
) -> Response:
    """Propose to put up the text that these fields give: somebody else has to agree."""
    fields = _filled_in(issuer, contact, title, begins, days, dated)
    _ = pages.translator_of(request)
    refusal = ""
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        facts = await read_facts(connection, campaign)
        if facts.ground != made_from:
            refusal = _(MOVED)
        else:
            try:
                content = content_of(facts, fields, datetime.now(UTC))
                answer = await _propose(connection, staff, campaign.number, content, reason)
                if answer.done:
                    return pages.back(f"/proposals/{answer.number}", said="notice-proposed")
                refusal = _told(answer, _)
            except CannotBeDone as why:
                refusal = why.told(_)
    return await _notice_page(
        request, staff, campaign_id, fields, status=409, refusal=refusal, reason=reason
    )


@router.post("/campaigns/{campaign_id}/notice/{number}/withdraw")
@limiter.limit("20/minute")
async def post_withdraw_notice(
    request: Request,
    staff: Reviewing,
    campaign_id: str,
    number: _Number,
    why: Annotated[str, Form(max_length=2 * WHY_CHARACTERS_MAX)] = "",
) -> Response:
    """Propose a further notice that takes this one back, for a reason that the public is told."""
    _ = pages.translator_of(request)
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        if number > NOTICES_MAX:
            raise HTTPException(404)
        try:
            content = await content_of_withdrawal(connection, campaign.id, number, why=why)
            answer = await _propose(connection, staff, campaign.number, content, why)
            if answer.done:
                return pages.back(f"/proposals/{answer.number}", said="notice-proposed")
            refusal = _told(answer, _)
        except CannotBeDone as not_done:
            refusal = not_done.told(_)
    return await _notice_page(
        request, staff, campaign_id, Fields(), status=409, withdraw_refusal=refusal
    )


async def _propose(
    connection: asyncpg.Connection, staff: Staff, campaign: int, content: Content, reason: str
) -> proposals.Answer:
    return await proposals.propose(
        connection, "notice", campaign=campaign, content=content, reason=reason, by=staff.number
    )


def _told(answer: proposals.Answer, _: Translate) -> str:
    """Why it was not proposed."""
    return answer.why.told(_) if answer.why else _(REFUSALS[answer.outcome])


@router.get("/campaigns/{campaign_id}/notice.txt")
@limiter.limit("30/minute")
async def get_notice_text(
    request: Request, staff: SignedIn, campaign_id: str, fields: _FilledIn
) -> Response:
    """The same as plain text."""
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        facts = await read_facts(connection, campaign)
    notice = draft(facts, fields)
    return PlainTextResponse(notice.as_text(), headers={"Cache-Control": "no-store"})


@router.get("/campaigns/{campaign_id}/notice/struck.csv")
@limiter.limit("6/minute")
async def get_struck(request: Request, staff: Answering, campaign_id: str) -> Response:
    """The list whose hash the notice names. Through a file: whoever reads slowly holds no
    connection, and no snapshot of the database."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _pieces)
    try:
        async with console_of(request).pool.acquire() as connection:
            campaign = await campaign_asked(connection, campaign_id)

            async def write(piece: bytes) -> None:
                whole.write(piece)

            await copy_struck(connection, campaign, write)
    except BaseException:
        whole.close()
        raise
    return StreamingResponse(
        _pieces(whole),
        media_type="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{campaign.id}-struck.csv"',
            "Cache-Control": "no-store",
        },
    )


def _pieces(whole: IO[bytes]) -> Iterator[bytes]:
    """In a thread, by Starlette."""
    with whole:
        whole.seek(0)
        while piece := whole.read(256 * 1024):
            yield piece
