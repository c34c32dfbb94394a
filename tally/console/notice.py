"""The public notice: a draft to fill in and to print, its text, and the list that it names."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import IO, Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from tally.campaigns.notice import (
    DAYS_MAX,
    FIELD_CHARACTERS_MAX,
    Fields,
    copy_struck,
    draft,
    place_change,
    read_facts,
)
from tally.console import pages
from tally.console.flags import newest_campaign, page_of
from tally.console.parts import Answering, SignedIn, campaign_asked, console_of, limiter

router = APIRouter()

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
    """The draft as it prints, with a form for what has to be filled in."""
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        facts = await read_facts(connection, campaign)
    said = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in asdict(fields).items()
        if value
    }
    return pages.render(
        request,
        "notice.html",
        staff=staff,
        **page_of(campaign),
        facts=facts,
        fields=fields,
        notice=draft(facts, fields),
        place_change=place_change,
        days_max=DAYS_MAX,
        field_max=FIELD_CHARACTERS_MAX,
        as_text=f"/campaigns/{campaign.id}/notice.txt?{urlencode(said)}",
    )


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
