"""The audit log's page: search, a page at a time by number, and a look over the whole chain."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tally import audit
from tally.console import pages
from tally.console.parts import Reviewing, Staff, console_of, limiter

router = APIRouter()

ROWS_A_PAGE = 100
ZONE = ZoneInfo("Asia/Shanghai")
"""The log is the installation's, not one campaign's: days are those of the house."""
_TEXT_CHARACTERS_MAX = 60
_NUMBER_MAX = 2**63 - 1
_walking = asyncio.Lock()
"""Held while somebody's walk goes on: each keeps one of the console's few connections."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the search form says; "" = anything."""

    actor: str = ""
    action: str = ""
    """How it begins."""
    subject: str = ""
    """What is in it."""
    since: str = ""
    until: str = ""


@router.get("/audit")
@limiter.limit("120/minute")
async def get_audit(
    request: Request,
    staff: Reviewing,
    actor: str = "",
    action: str = "",
    subject: str = "",
    since: str = "",
    until: str = "",
    before: int | None = None,
) -> Response:
    asked = Asked(
        *(text.strip()[:_TEXT_CHARACTERS_MAX] for text in (actor, action, subject)),
        *(day.isoformat() if (day := pages.day_typed(text)) else "" for text in (since, until)),
    )
    return await _audit_page(request, staff, asked, before)


@router.post("/audit/verify")
@limiter.limit("6/minute")
async def post_verify(request: Request, staff: Reviewing) -> Response:
    """Walk the whole chain: half a minute for a million rows. One walk at a time."""
    if _walking.locked():
        return await _audit_page(request, staff, Asked(), None, busy=True)
    async with _walking, console_of(request).pool.acquire() as connection:
        verified = await audit.verify(connection)
    return await _audit_page(request, staff, Asked(), None, verified)


async def _audit_page(
    request: Request,
    staff: Staff,
    asked: Asked,
    before: int | None,
    verified: audit.Verified | None = None,
    *,
    busy: bool = False,
) -> Response:
    until = pages.day_typed(asked.until)
    async with console_of(request).pool.acquire() as connection:
        head = await audit.head(connection)
        rows = await connection.fetch(
            audit.SQL["find_audit"],
            asked.actor or None,
            asked.action or None,
            asked.subject or None,
            _midnight(pages.day_typed(asked.since)),
            _midnight(until + timedelta(days=1) if until and until < date.max else None),
            None if before is None else max(0, min(before, _NUMBER_MAX)),
            ROWS_A_PAGE + 1,
        )
    there_is_more = len(rows) > ROWS_A_PAGE
    rows = rows[:ROWS_A_PAGE]
    return pages.render(
        request,
        "audit.html",
        staff=staff,
        status=409 if busy else 200,
        busy=busy,
        asked=asked,
        rows=rows,
        head=head,
        verified=verified,
        older=_address(asked, rows[-1]["number"]) if there_is_more else None,
        newest=_address(asked, None) if before is not None else None,
    )


def _address(asked: Asked, before: int | None) -> str:
    said = {name: value for name, value in asdict(asked).items() if value}
    if before is not None:
        said["before"] = str(before)
    return "/audit" + (f"?{urlencode(said)}" if said else "")


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=ZONE)
