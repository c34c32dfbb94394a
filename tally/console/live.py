"""Live pages: a campaign's numbers, its candidates, the hall's big screen, the parts.

Each page is whole as it comes; what changes on it is made of blocks, a template each, that are sent
again when they differ: over one stream of server-sent events, or to whoever asks again each few
seconds (`once=1`). A block is made once for all who look at the same thing.
"""

import asyncio
import contextlib
import enum
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

import asyncpg
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from markupsafe import Markup
from starlette.types import Receive, Scope, Send

from antifraud.networks import NetworkClass
from tally.console import charts, pages
from tally.console.parts import (
    Role,
    SignedIn,
    Staff,
    Viewing,
    console_of,
    limiter,
    still_signed_in,
)
from tally.live_view import (
    Course,
    Kept,
    Live,
    Range,
    Ranked,
    Snapshot,
    Source,
    read_candidate_flags,
)
from tally.parts import PartState, PartStatus
from tally.patience import POSTGRES_AWAY, VALKEY_AWAY
from tally.reconcile import JournalError, NotComparable, Reconciliation, reconcile
from tally.tallies import UnknownCampaign
from tally.translated import N_, Translate
from voting.ballot import Outcome
from voting.campaign import Campaign, Visibility

router = APIRouter()

STREAMS_OF_ONE_MAX = 12
STREAMS_MAX = 200
SESSION_ASKED_EVERY_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 10.0
BLOCKS_KEPT_MAX = 400
TOP = 10
HALL_TOP = 20
RECONCILED_EVERY_SECONDS = 30.0
NETWORKS_OVER = timedelta(hours=24)

# Names for people. The key of each is a word of the code.

RANGES = {
    Range.QUARTER: N_("15 minutes"),
    Range.HOUR: N_("Hour"),
    Range.DAY: N_("Day"),
    Range.WEEK: N_("Week"),
    Range.MONTH: N_("Month"),
}
OUTCOMES = {
    Outcome.QUOTA_SPENT: N_("day's likes used up"),
    Outcome.CHALLENGE: N_("asked for proof"),
    Outcome.THROTTLED: N_("too fast"),
    Outcome.REFUSED: N_("refused by the rules"),
    Outcome.CLOSED: N_("after the close"),
    Outcome.NOT_OPEN: N_("before the opening"),
    Outcome.PAUSED: N_("while paused"),
    Outcome.CLICK_REUSED: N_("click used twice"),
}
NETWORKS = {
    NetworkClass.UNKNOWN: N_("unknown"),
    NetworkClass.MOBILE: N_("mobile carriers"),
    NetworkClass.HOME: N_("homes"),
    NetworkClass.CAMPUS: N_("campuses"),
    NetworkClass.DATACENTRE: N_("datacentres"),
    NetworkClass.PRIVATE: N_("private addresses"),
}
PARTS = {
    "edge": N_("Edge"),
    "store": N_("Hot state"),
    "flush": N_("Flusher"),
    "postgres": N_("Postgres"),
    "watch": N_("Watch"),
    "publish": N_("Publisher"),
    "console": N_("Console"),
}
STATES = {
    PartState.OK: ("good", N_("well")),
    PartState.SLOW: ("warn", N_("slow")),
    PartState.DOWN: ("bad", N_("down")),
    PartState.NEVER: ("", N_("never seen")),
}
WHYS = {
    "silent": N_("It has said nothing for a while."),
    "stopped": N_("It was stopped in order."),
    "away": N_("It does not answer."),
    "store-away": N_("It does not reach the hot state."),
    "lag": N_("Votes wait longer than promised to be stored."),
    "looks-late": N_("It has not looked at the journal for a while."),
    "memory": N_("Its memory is nearly full."),
    "append-only-file": N_("It does not write its file as it must: likes could be lost."),
    "standby": N_("It is a standby and takes no writes."),
    "slow-answer": N_("It answers late."),
}
FACTS = {
    # What a heartbeat or a server tells -> how it reads. Others are not shown.
    "waiting": N_("{n} ballots waiting"),
    "connections": N_("{n} connections"),
    "counted": N_("{n} votes since its start"),
    "lag_votes": N_("{n} votes not stored yet"),
    "lag_seconds": N_("{n} s behind"),
    "looked_seconds_ago": N_("last look {n} s ago"),
    "ping_ms": N_("answers within {n} ms"),
    "memory_bytes": N_("{n} MB of memory"),
    "memory_share": N_("{n} of what it may have"),
}
SORTS = {
    # Of the table of candidates: name in the address -> (column's index, its order at first).
    "rank": (0, "up"),
    "number": (1, "up"),
    "name": (2, "up"),
    "unit": (3, "up"),
    "channel": (4, "up"),
    "counted": (5, "down"),
    "share": (6, "down"),
    "trend": (7, "down"),
    "held": (8, "down"),
}


class Page(enum.StrEnum):
    """Which page a stream is for: it has that page's blocks."""

    OVERVIEW = "overview"
    CANDIDATES = "candidates"
    CANDIDATE = "candidate"
    HALL = "hall"


_RangeAsked = Annotated[Range, Query(alias="range")]


# What is looked on in this process.


class TooManyStreams(Exception):
    """Somebody, or all together, look at more pages at once than is meant."""


@dataclass(slots=True)
class Showing:
    """What the live pages of one application share."""

    live: Live
    blocks: dict[tuple[object, ...], tuple[object, str]] = field(default_factory=dict)
    """What was made last of a block: (of which look, text)."""
    streams: Counter[int] = field(default_factory=Counter)
    """By staff number."""
    reconciled: Kept[dict[str, "Reconciled"]] = field(
        default_factory=lambda: Kept(RECONCILED_EVERY_SECONDS)
    )

    def block(self, key: tuple[object, ...], version: object, make: Callable[[], str]) -> str:
        """The block under this key as of this very object, made where it was not yet."""
        known = self.blocks.get(key)
        if known is None or known[0] is not version:
            if len(self.blocks) >= BLOCKS_KEPT_MAX:
                self.blocks.clear()
            known = self.blocks[key] = (version, make())
        return known[1]

    @contextlib.contextmanager
    def one_more(self, staff: Staff) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self.streams[staff.number] >= STREAMS_OF_ONE_MAX or self.streams.total() >= STREAMS_MAX:
            raise TooManyStreams
        self.streams[staff.number] += 1
        try:
            yield
        finally:
            self.streams[staff.number] -= 1
            self.streams += Counter()  # zeros go


def showing_of(request: Request) -> Showing:
    """Made when somebody looks for the first time."""
    state = request.app.state
    if not hasattr(state, "showing"):
        console = console_of(request)
        state.showing = Showing(Live(console.pool.acquire, console.hot, console.stopping))
    showing: Showing = state.showing
    return showing


async def _snapshot(request: Request, campaign_id: str) -> Snapshot:
    try:
        return await (await showing_of(request).live.look(campaign_id)).now()
    except UnknownCampaign:
        raise HTTPException(404) from None


# Pages.


@router.get("/")
@limiter.limit("120/minute")
async def get_home(request: Request, staff: SignedIn) -> Response:
    """To the campaign that matters now; the office, whose numbers are the published ones, to its
    own pages."""
    if staff.role is Role.OFFICE:
        own = next((one.path for one in pages.NAVIGATION if staff.role in one.roles), "/account")
        return RedirectResponse(own, 303)
    campaign = newest_open(await showing_of(request).live.campaigns(), datetime.now().astimezone())
    return RedirectResponse(f"/campaigns/{campaign.id}" if campaign else "/campaigns", 303)


def newest_open(campaigns: Mapping[str, Campaign], now: datetime) -> Campaign | None:
    """Of those that are open the one that opened last, a test only where there is no other; None
    where none is open."""
    open_ = [c for c in campaigns.values() if c.window.opens_at <= now < c.window.closes_at]
    return max(
        open_, key=lambda campaign: (not campaign.is_test, campaign.window.opens_at), default=None
    )


@router.get("/campaigns")
@limiter.limit("120/minute")
async def get_campaigns(request: Request, staff: Viewing) -> Response:
    """All campaigns, the newest first."""
    campaigns = await showing_of(request).live.campaigns()
    now = datetime.now().astimezone()
    return pages.render(
        request,
        "live_list.html",
        staff=staff,
        campaigns=[
            (campaign, phase_of(campaign, now))
            for campaign in sorted(
                campaigns.values(), key=lambda one: one.window.opens_at, reverse=True
            )
        ],
    )


PHASES = {
    # Phase -> (badge, text)
    "before": ("info", N_("not open yet")),
    "open": ("good", N_("open")),
    "paused": ("warn", N_("paused")),
    "closed": ("", N_("closed")),
}


def phase_of(campaign: Campaign, now: datetime) -> tuple[str, str]:
    """Its badge: kind and text."""
    window = campaign.window
    if now < window.opens_at:
        return PHASES["before"]
    if now >= window.closes_at:
        return PHASES["closed"]
    return PHASES["paused" if campaign.paused_because is not None else "open"]


@router.get("/campaigns/{campaign_id}")
@limiter.limit("120/minute")
async def get_overview(
    request: Request, staff: Viewing, campaign_id: str, range_: _RangeAsked = Range.HOUR
) -> Response:
    view = await _view(request, campaign_id, Page.OVERVIEW, range_)
    return _page(request, "live.html", staff, view, ranges=RANGES)


@router.get("/campaigns/{campaign_id}/candidates")
@limiter.limit("120/minute")
async def get_candidates(
    request: Request,
    staff: Viewing,
    campaign_id: str,
    q: Annotated[str, Query(max_length=100)] = "",
    channel: Annotated[str, Query(max_length=200)] = "",
    unit: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[str, Query(max_length=20)] = "rank",
    way: Annotated[str, Query(max_length=4)] = "",
) -> Response:
    """All of them. Rows that a filter leaves out are there, hidden: the browser may show them."""
    view = await _view(request, campaign_id, Page.CANDIDATES)
    sort = sort if sort in SORTS else "rank"
    way = way if way in ("up", "down") else SORTS[sort][1]
    rows = sorted_rows(view.snapshot.ranking, sort, way)
    fits = {row.candidate.number for row in rows if is_asked_for(row, q, channel, unit)}
    candidates = view.snapshot.campaign.candidates
    return _page(
        request,
        "live_candidates.html",
        staff,
        view,
        rows=[(row, cells(row), row.candidate.number in fits) for row in rows],
        shown=len(fits),
        channels=sorted({one.channel for one in candidates if one.channel}),
        units=sorted({one.unit for one in candidates if one.unit}),
        asked={"q": q, "channel": channel, "unit": unit},
        sort=sort,
        way=way,
        sorts=SORTS,
        sign_of=sign_of,
        words_of=words_of,
    )


@router.get("/campaigns/{campaign_id}/candidates/{candidate_id}")
@limiter.limit("120/minute")
async def get_candidate(
    request: Request,
    staff: Viewing,
    campaign_id: str,
    candidate_id: str,
    range_: _RangeAsked = Range.DAY,
) -> Response:
    view = await _view(request, campaign_id, Page.CANDIDATE, range_, candidate_id)
    async with console_of(request).pool.acquire() as connection:
        flags = await read_candidate_flags(
            connection, view.snapshot.campaign, view.row.candidate.number
        )
    return _page(request, "live_candidate.html", staff, view, ranges=RANGES, flags=flags)


@router.get("/campaigns/{campaign_id}/hall")
@limiter.limit("120/minute")
async def get_hall(request: Request, staff: Viewing, campaign_id: str) -> Response:
    """The big screen."""
    view = await _view(request, campaign_id, Page.HALL)
    return _page(request, "live_hall.html", staff, view, now_ms=round(time.time() * 1000))


@router.get("/parts")
@limiter.limit("120/minute")
async def get_parts(request: Request, staff: Viewing) -> Response:
    """How every part of the installation does, and whether the sums hold."""
    blocks = await _parts_blocks(request)
    return pages.render(
        request,
        "live_parts.html",
        staff=staff,
        blocks={name: Markup(text) for name, text in blocks.items()},  # noqa: S704 (made here)
    )


# Streams.


@router.get("/campaigns/{campaign_id}/stream")
@limiter.limit("240/minute")
async def get_stream(
    request: Request,
    staff: Viewing,
    campaign_id: str,
    page: Page = Page.OVERVIEW,
    range_: _RangeAsked = Range.HOUR,
    candidate: Annotated[str, Query(max_length=100)] = "",
    once: bool = False,
) -> Response:
    """What changes on a page: a stream of events, or with `once` all of it as JSON."""

    async def blocks() -> dict[str, str]:
        view = await _view(request, campaign_id, page, range_, candidate)
        return view.blocks

    if once:
        return JSONResponse(await blocks())
    try:
        watched = await showing_of(request).live.look(campaign_id)
    except UnknownCampaign:
        raise HTTPException(404) from None
    return _stream(request, staff, blocks, watched.watched(), watched.next)


@router.get("/parts/stream")
@limiter.limit("240/minute")
async def get_parts_stream(request: Request, staff: Viewing, once: bool = False) -> Response:
    async def blocks() -> dict[str, str]:
        return await _parts_blocks(request)

    if once:
        return JSONResponse(await blocks())

    async def pause(seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return True

    return _stream(request, staff, blocks, contextlib.nullcontext(), pause)


def _stream(
    request: Request,
    staff: Staff,
    blocks: Callable[[], Awaitable[dict[str, str]]],
    watched: AbstractAsyncContextManager[object],
    pause: Callable[[float], Awaitable[bool]],
) -> Response:
    showing = showing_of(request)
    held = contextlib.ExitStack()
    try:
        held.enter_context(showing.one_more(staff))
    except TooManyStreams:
        raise HTTPException(429) from None
    return _Stream(_events(request, blocks, watched, pause), held)


class _Stream(StreamingResponse):
    """Ends what it holds however it ends: a client that went, a stop, an error."""

    def __init__(self, events: AsyncGenerator[bytes, None], held: contextlib.ExitStack) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            # For proxies that would gather it first.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._events, self._held = events, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._held:
                await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _events(
    request: Request,
    blocks: Callable[[], Awaitable[dict[str, str]]],
    watched: AbstractAsyncContextManager[object],
    pause: Callable[[float], Awaitable[bool]],
) -> AsyncGenerator[bytes, None]:
    """Blocks as they change, until the session ends or the process stops."""
    stopping = console_of(request).stopping
    sent: dict[str, str] = {}
    cells_sent: dict[str, list[str]] = {}
    asked_at = spoken_at = time.monotonic()
    yield b"retry: 2000\n\n"
    async with watched:
        while not stopping.is_set():
            now = time.monotonic()
            if now - asked_at >= SESSION_ASKED_EVERY_SECONDS:
                asked_at = now
                try:
                    if not await still_signed_in(request):
                        yield frame("signed-out", "")
                        return
                except (*POSTGRES_AWAY, asyncpg.PostgresError):
                    return  # nobody can say that the session is good
            try:
                found = await blocks()
            except (*POSTGRES_AWAY, *VALKEY_AWAY, asyncpg.PostgresError, JournalError):
                found = {}  # the page says that it is stale; it goes on when they are back
            except HTTPException:
                return  # the campaign is gone
            rows = found.pop("cells", None)
            changed = {name: text for name, text in found.items() if sent.get(name) != text}
            out = [frame(name, text) for name, text in changed.items() if name != "as-of"]
            if rows is not None:
                new = json.loads(rows)
                differing = {id_: row for id_, row in new.items() if cells_sent.get(id_) != row}
                if differing:
                    out.append(frame("cells", json.dumps(differing, ensure_ascii=False)))
                cells_sent = new
            if "as-of" in changed:
                out.append(frame("as-of", changed["as-of"]))
            sent.update(changed)
            if out:
                yield b"".join(out)
                spoken_at = now
            elif now - spoken_at >= KEEP_ALIVE_SECONDS:
                yield b": still here\n\n"
                spoken_at = now
            await pause(1.0)


def frame(event: str, text: str) -> bytes:
    """One server-sent event."""
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {event}\n{lines}\n".encode()


# Blocks.


class View(NamedTuple):
    """What one page of a campaign shows."""

    snapshot: Snapshot
    page: Page
    range: Range
    candidate: str
    blocks: dict[str, str]
    """Name -> inside of the element."""

    @property
    def row(self) -> Ranked:
        return next(row for row in self.snapshot.ranking if row.candidate.id == self.candidate)

    @property
    def address(self) -> str:
        """Where its stream is."""
        address = f"/campaigns/{self.snapshot.campaign.id}/stream?page={self.page}"
        if self.page in (Page.OVERVIEW, Page.CANDIDATE):
            address += f"&range={self.range}"
        if self.page is Page.CANDIDATE:
            address += f"&candidate={self.candidate}"
        return address


def _page(request: Request, template: str, staff: Staff, view: View, **context: Any) -> Response:
    now = datetime.now().astimezone()
    return pages.render(
        request,
        template,
        staff=staff,
        view=view,
        campaign=view.snapshot.campaign,
        phase=phase_of(view.snapshot.campaign, now),
        is_public=view.snapshot.campaign.rules.counts is Visibility.LIVE,
        blocks={n: Markup(text) for n, text in view.blocks.items()},  # noqa: S704 (made here)
        range=view.range,
        zone=view.snapshot.campaign.window.zone,
        **context,
    )


async def _view(
    request: Request,
    campaign_id: str,
    page: Page,
    range_: Range = Range.HOUR,
    candidate_id: str = "",
) -> View:
    """Raises 404 where there is no such campaign or candidate."""
    showing = showing_of(request)
    snapshot = await _snapshot(request, campaign_id)
    campaign = snapshot.campaign
    if page is Page.CANDIDATE and candidate_id not in campaign.by_id:
        raise HTTPException(404)
    language = pages.language_of(request)
    _ = pages.translator(language)
    context: dict[str, Any] = {
        "snapshot": snapshot,
        "campaign": campaign,
        "zone": campaign.window.zone,
        "outcomes": OUTCOMES,
        "is_hot": snapshot.source is Source.HOT,
        "signed_percent": signed_percent,
    }
    blocks: dict[str, str] = {}

    def add(name: str, version: object, *variant: object, **more: Any) -> None:
        key = (campaign.id, language, name, *variant)
        blocks[name] = showing.block(
            key,
            version,
            lambda: pages.fragment(
                request, f"live_{name}.html".replace("-", "_"), **context, **more
            ),
        )

    add("as-of", snapshot)
    if page is Page.OVERVIEW:
        course = await showing.live.course(campaign, range_)
        since = snapshot.at.replace(minute=0, second=0, microsecond=0) - NETWORKS_OVER
        networks = await showing.live.networks(campaign, since)
        parts = await showing.live.parts()
        add("numbers", snapshot, spark=_spark(snapshot, _))
        add("chart", course, range_, **_course(course, _))
        add("chart-table", course, range_, course=course)
        add("top", snapshot, rows=snapshot.ranking[:TOP], bar=charts.bar)
        add("outcomes", snapshot, **_outcomes(snapshot, _))
        add("networks", networks, **_networks(networks, _))
        add("health", parts, **_parts_context(parts))
    elif page is Page.CANDIDATES:
        add("sums", snapshot)
        blocks["cells"] = showing.block(
            (campaign.id, language, "cells"),
            snapshot,
            lambda: json.dumps(
                {row_id(row): cells(row) for row in snapshot.ranking}, ensure_ascii=False
            ),
        )
    elif page is Page.CANDIDATE:
        row = next(row for row in snapshot.ranking if row.candidate.id == candidate_id)
        course = await showing.live.course(campaign, range_, row.candidate.number)
        add("candidate-numbers", snapshot, candidate_id, row=row)
        add("chart", course, range_, candidate_id, **_course(course, _))
        add("chart-table", course, range_, candidate_id, course=course)
    else:
        add("hall-numbers", snapshot)
        add("hall-top", snapshot, rows=snapshot.ranking[:HALL_TOP], bar=charts.bar)
    return View(snapshot, page, range_, candidate_id, blocks)


def _spark(snapshot: Snapshot, _: Translate) -> Markup:
    return charts.spark(_("Likes a second over the last minutes"), snapshot.rates)


def _course(course: Course, _: Translate) -> dict[str, Any]:
    moments = [point.at for point in course.points]
    series = [
        charts.Series(_("counted"), [p.counted_a_minute for p in course.points], 1, filled=True),
        charts.Series(_("held"), [p.held_a_minute for p in course.points], 3),
    ]
    step = round(course.step / timedelta(minutes=1))
    described = _(
        "Likes a minute, counted and held, from {first} to {last} in steps of {step} minutes.",
        first=moments[0].strftime("%Y-%m-%d %H:%M") if moments else "–",
        last=course.until.strftime("%Y-%m-%d %H:%M"),
        step=step,
    )
    return {
        "course": course,
        "drawn": charts.course(_("Likes a minute"), described, moments, series),
        "legend": charts.legend([(one.label, one.colour) for one in series]),
        "described": described,
    }


def _outcomes(snapshot: Snapshot, _: Translate) -> dict[str, Any]:
    sums = snapshot.sums
    slices = [
        charts.Slice(_("counted"), sums.counted, 4),
        charts.Slice(_("held"), sums.held, 3),
        charts.Slice(_("struck"), sums.struck, 5),
        charts.Slice(_("refused"), sums.refused, 6),
    ]
    reasons = sorted(snapshot.refused_by.items(), key=lambda item: -item[1])
    return {
        "slices": slices,
        "drawn": charts.stack(_("What became of all that was received"), slices),
        "reasons": [(OUTCOMES.get(outcome, outcome.name), ballots) for outcome, ballots in reasons],
    }


def _networks(networks: list[tuple[NetworkClass, int, int]], _: Translate) -> dict[str, Any]:
    slices = [
        charts.Slice(_(NETWORKS[class_]), votes, 1 + (class_ - 1) % 6)
        for class_, votes, _held in networks
    ]
    return {
        "rows": [(one, held) for one, (_class, _votes, held) in zip(slices, networks, strict=True)],
        "total": sum(one.amount for one in slices),
        "drawn": charts.stack(_("Kinds of networks"), slices),
    }


def row_id(row: Ranked) -> str:
    return f"c{row.candidate.number}"


def cells(row: Ranked) -> list[str]:
    """What changes in a candidate's row: rank, counted, share, trend, held share."""
    return [
        str(row.rank),
        f"{row.sums.counted:,}",
        f"{100 * row.share:.2f} %",
        signed_percent(row.trend.change if row.trend else None),
        f"{100 * row.held_share:.1f} %",
    ]


def signed_percent(change: float | None) -> str:
    """+12 %, −3 %, 0 %; a dash where there is nothing to compare with."""
    if change is None:
        return "–"
    rounded = round(100 * change)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):,} %"


def sign_of(text: str) -> str:
    """The class of a cell that goes up or down."""
    return {"+": "up", "−": "down"}.get(text[:1], "")


def sorted_rows(ranking: tuple[Ranked, ...], sort: str, way: str) -> list[Ranked]:
    """By a column of the table. Who has no value there comes last; ties by number."""

    def value(row: Ranked) -> Any:
        change = row.trend.change if row.trend else None
        return {
            "rank": row.rank,
            "number": row.candidate.number,
            "name": row.candidate.name,
            "unit": row.candidate.unit,
            "channel": row.candidate.channel,
            "counted": row.sums.counted,
            "share": row.share,
            "trend": change,
            "held": row.held_share,
        }[sort]

    rows = sorted(ranking, key=lambda row: row.candidate.number)
    with_value = [row for row in rows if value(row) is not None]
    with_value.sort(key=value, reverse=way == "down")
    return with_value + [row for row in rows if value(row) is None]


def is_asked_for(row: Ranked, words: str, channel: str, unit: str) -> bool:
    """Whether the filters of the page let a candidate through, as the browser does it."""
    return (
        all(word in words_of(row) for word in words.lower().split())
        and channel in ("", row.candidate.channel)
        and unit in ("", row.candidate.unit)
    )


def words_of(row: Ranked) -> str:
    """What the search box looks through."""
    candidate = row.candidate
    return " ".join(
        (
            str(candidate.number),
            candidate.id,
            candidate.name,
            candidate.unit,
            candidate.organisation,
            candidate.channel,
        )
    ).lower()


# Parts.


class Reconciled(NamedTuple):
    """What reconciling a campaign came to."""

    campaign: Campaign
    found: Reconciliation | None
    why: str
    """Where nothing was found: why it could not be told."""


def _parts_context(parts: list[PartStatus]) -> dict[str, Any]:
    return {
        "parts": parts,
        "part_names": PARTS,
        "states": STATES,
        "whys": WHYS,
        "fact_names": FACTS,
        "shown_fact": shown_fact,
    }


def shown_fact(name: str, value: object) -> str:
    """A figure as people read it."""
    if name == "memory_bytes" and isinstance(value, int):
        return f"{value / 2**20:,.0f}"
    if name == "memory_share" and isinstance(value, float):
        return f"{100 * value:.1f} %"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def sum_name(kind: str, _: Translate) -> str:
    """What a sum of the reconciliation is called."""
    kind, _colon, reason = kind.partition(": ")
    known = {outcome.name.lower().replace("_", "-"): text for outcome, text in OUTCOMES.items()}
    return f"{_(kind)} ({_(known.get(reason, reason))})" if reason else _(kind)


async def _parts_blocks(request: Request) -> dict[str, str]:
    showing = showing_of(request)
    language = pages.language_of(request)
    parts = await showing.live.parts()
    try:
        reconciled = await showing.reconciled.get("", lambda: _reconcile(request))
    except (*POSTGRES_AWAY, asyncpg.PostgresError):
        reconciled = {}
    at = datetime.now().astimezone()
    return {
        "parts": showing.block(
            ("parts", language),
            parts,
            lambda: pages.fragment(request, "live_parts_table.html", **_parts_context(parts)),
        ),
        "reconciled": showing.block(
            ("reconciled", language),
            reconciled,
            lambda: pages.fragment(
                request,
                "live_reconciled.html",
                reconciled=list(reconciled.values()),
                sum_name=sum_name,
            ),
        ),
        "as-of": pages.fragment(request, "live_parts_as_of.html", at=at),
    }


async def _reconcile(request: Request) -> dict[str, Reconciled]:
    """Every campaign that is open or closed lately."""
    console = console_of(request)
    campaigns = await showing_of(request).live.campaigns()
    found = {}
    async with console.pool.acquire() as connection:
        for campaign in campaigns.values():
            try:
                one = Reconciled(campaign, await reconcile(connection, console.hot, campaign), "")
            except (*VALKEY_AWAY, NotComparable, JournalError) as why:
                one = Reconciled(campaign, None, f"{why}"[:200] or type(why).__name__)
            found[campaign.id] = one
    return found
