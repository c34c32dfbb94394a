"""Pages and downloads of votes by day. For reviewers and admins: they see counts whatever the
campaign hides from the public, so no blind mode is broken by a file. Each download is written into
the audit log before its first byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import date
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tally import audit
from tally.console import pages
from tally.console.parts import Reviewing, Staff, campaign_asked, console_of, limiter
from tally.console.problems import problem
from tally.delivery.exports import (
    Busy,
    Slots,
    csv_votes,
    exports_folder,
    list_days,
    parquet_votes,
    sweep,
)
from voting.campaign import Campaign

router = APIRouter()

_slots = Slots()
_GONE_ASKED_EVERY_SECONDS = 1.0


@router.get("/exports")
@limiter.limit("120/minute")
async def get_campaigns_to_export(request: Request, staff: Reviewing) -> Response:
    """Every campaign, rehearsals too; straight to the only one."""
    async with console_of(request).pool.acquire() as connection:
        rows = await connection.fetch("SELECT id, title, is_test FROM campaigns ORDER BY number")
    if len(rows) == 1:
        return pages.back(f"/campaigns/{rows[0]['id']}/exports")
    return pages.render(request, "exports_all.html", staff=staff, campaigns=rows)


@router.get("/campaigns/{campaign}/exports")
@limiter.limit("120/minute")
async def get_exports(request: Request, staff: Reviewing, campaign: str) -> Response:
    async with console_of(request).pool.acquire() as connection:
        of = await campaign_asked(connection, campaign)
        days = await list_days(connection, of)
    return pages.render(
        request, "exports.html", staff=staff, section="/exports", campaign=of, days=days
    )


@router.get("/campaigns/{campaign}/exports/{day}/votes.csv")
@limiter.limit("20/minute")
async def get_csv(request: Request, staff: Reviewing, campaign: str, day: date) -> Response:
    """A day's votes as CSV, while they are read."""
    of = await _wanted(request, campaign, day)
    with ExitStack() as held:
        try:
            held.enter_context(_slots.taken())
        except Busy:
            return _busy(request)
        await _write_down(request, staff, of, day, "csv")
        pieces = csv_votes(console_of(request).pool.acquire, of, day)
        first = await anext(pieces)  # what fails, fails before anything is said
        return _Download(
            _after(first, pieces), held.pop_all(), _name(of, day, "csv"), "text/csv; charset=utf-8"
        )


@router.get("/campaigns/{campaign}/exports/{day}/votes.parquet")
@limiter.limit("20/minute")
async def get_parquet(request: Request, staff: Reviewing, campaign: str, day: date) -> Response:
    """A day's votes as Parquet, built before it is sent."""
    of = await _wanted(request, campaign, day)
    with ExitStack() as held:
        try:
            held.enter_context(_slots.taken())
        except Busy:
            return _busy(request)
        await _write_down(request, staff, of, day, "parquet")
        console = console_of(request)
        folder = exports_folder(console.settings.data_dir)
        await asyncio.to_thread(sweep, folder)
        building = asyncio.create_task(parquet_votes(console.pool.acquire, of, day, folder))
        try:
            while not building.done():
                await asyncio.wait({building}, timeout=_GONE_ASKED_EVERY_SECONDS)
                if await request.is_disconnected() or console.stopping.is_set():
                    return Response(status_code=499)  # nobody reads it
            built = building.result()
        finally:
            if not building.done():
                building.cancel()
                await asyncio.wait({building})
        held.callback(built.close)
        return _Download(
            built.read(),
            held.pop_all(),
            _name(of, day, "parquet"),
            "application/vnd.apache.parquet",
            size=built.size,
        )


class _Download(StreamingResponse):
    """A file on its way; whatever way it ends, what it holds is given back."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        held: ExitStack,
        name: str,
        media_type: str,
        *,
        size: int | None = None,
    ) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        if size is not None:
            headers["Content-Length"] = str(size)
        super().__init__(pieces, media_type=media_type, headers=headers)
        self._held = held
        self._pieces: Any = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A reader that went away leaves the pieces where they are: the query ends here.
            with self._held:
                await asyncio.shield(self._pieces.aclose())


async def _after(first: bytes, pieces: Any) -> AsyncIterator[bytes]:
    try:
        yield first
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()


async def _wanted(request: Request, campaign: str, day: date) -> Campaign:
    """The campaign, if it has votes of this day; else HTTPException."""
    async with console_of(request).pool.acquire() as connection:
        of = await campaign_asked(connection, campaign)
        if day not in {known.day for known in await list_days(connection, of)}:
            raise HTTPException(404)
    return of


async def _write_down(
    request: Request, staff: Staff, campaign: Campaign, day: date, form: str
) -> None:
    async with console_of(request).pool.acquire() as connection, connection.transaction():
        await audit.append(
            connection,
            actor=staff.name,
            role=staff.role,
            action="export.votes",
            subject=f"{campaign.id} {day.isoformat()}",
            details={"form": form},
        )


def _busy(request: Request) -> Response:
    _ = pages.translator_of(request)
    why = _("Two exports are under way: wait for one of them to end.")
    return problem(request, 429, why=why)


def _name(campaign: Campaign, day: date, suffix: str) -> str:
    return f"{campaign.id}-votes-{day.isoformat()}.{suffix}"
