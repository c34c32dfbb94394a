"""The office API, under /office/v1: what the selection office's programs ask.

    Authorization: Bearer dzk_...

Keys and scopes: tally/delivery/office_keys.py. Answers carry an ETag; who sends it back in
If-None-Match gets 304 as long as nothing changed. Errors are application/problem+json. Its own
description, and only its own, is at /office/v1/openapi.json; for people at /office/v1/.

Routes are limited by key. Keys that are made up or revoked are answered 401 WRONG_KEYS_PER_MINUTE
times for an address, then 429 without being looked at; keys that were good before are looked at all
the same, so that one forgotten program does not lock out its neighbours. What a key lacks the scope
for is counted by key too, before its route is.
"""

import asyncio
import functools
import hashlib
import io
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import asyncpg
from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tally.campaigns import objections
from tally.console import pages
from tally.console.guard import OFFICE_API
from tally.console.limits import InMemory, address_key
from tally.console.parts import console_of, limiter
from tally.console.problems import problem
from tally.delivery.office_keys import KEYS_MAX, OfficeKey, Scope, find_key, hash_of
from tally.store import read_queries
from tally.tallies import UnknownCampaign, read_campaign, read_tally
from tally.translated import N_
from voting.campaign import Campaign, Visibility, microseconds, moment_at
from voting.visibility import publication_hours

SQL = read_queries(Path(__file__).with_name("office.sql"))

KEY_LIMIT = "600/minute"
FILES_LIMIT = "120/minute"
WRITE_LIMIT = "30/minute"
PUBLIC_LIMIT = "60/minute"
WRONG_KEYS_PER_MINUTE = 30
NO_SCOPE_LIMIT = "60/minute"
LISTED_MAX = 100
ARCHIVE_PIECE_BYTES = 2**20
UNPACKED_ARCHIVE_BYTES_MAX = 64 * 2**20
"""Of an archive that a single file is taken out of."""
_UNPACKING_AT_ONCE = 2
_CACHE = "private, no-cache"
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OfficeProblem(Exception):
    """An answer that is none: status, why, and headers of it."""

    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


class _OfficeRoute(APIRoute):
    """A route whose problems are said in this API's own words."""

    def get_route_handler(self) -> _Handler:
        handle = super().get_route_handler()

        async def handle_office(request: Request) -> Response:
            try:
                return await handle(request)
            except OfficeProblem as error:
                return problem(request, error.status, why=error.why, headers=error.headers)
            except RequestValidationError as error:
                where = {".".join(map(str, fault["loc"])): fault["msg"] for fault in error.errors()}
                why = "; ".join(f"{place}: {said}" for place, said in list(where.items())[:10])
                return problem(request, 422, why=why)

        return handle_office


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not allowed"])
    status: int = Field(examples=[403])
    detail: str = Field(examples=["this key has no scope tally:read"])


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status, text in (
        (401, "No key, or one that is not known or not valid any more"),
        (403, "The key lacks the scope"),
        (404, "There is no such thing"),
        (422, "The request is not understood"),
        (429, "Too many requests; Retry-After says when to come back"),
        (503, "The database is away; Retry-After says when to come back"),
    )
}
_PROBLEMS[304] = {"description": "Nothing changed since the ETag in If-None-Match"}

router = APIRouter(prefix=OFFICE_API, route_class=_OfficeRoute, responses=_PROBLEMS)


# Whose key it is.

_wrong_keys = FixedWindowRateLimiter(MemoryStorage())
_WRONG_KEYS = RateLimitItemPerMinute(WRONG_KEYS_PER_MINUTE)
_good_before: set[bytes] = set()
"""SHA-256 of keys that were good when they were last shown here."""
_without_scope = InMemory(NO_SCOPE_LIMIT)
_bearer = HTTPBearer(auto_error=False, description="A key of the office API: dzk_...")


async def _key_of(request: Request, _: Annotated[object, Depends(_bearer)] = None) -> OfficeKey:
    """Whose key was shown. Raises OfficeProblem."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    key = shown.strip() if scheme.lower() == "bearer" and shown.isascii() else ""
    headers = {"WWW-Authenticate": 'Bearer realm="office"'}
    if not key:
        raise OfficeProblem(401, "a key is needed: Authorization: Bearer dzk_...", headers)
    address = address_key(request)
    digest = hash_of(key)
    if digest not in _good_before and not _wrong_keys.test(_WRONG_KEYS, address):
        raise OfficeProblem(429, "too many wrong keys from this address")
    async with console_of(request).pool.acquire() as connection:
        found = await find_key(connection, key)
    if found is None:
        _good_before.discard(digest)
        _wrong_keys.hit(_WRONG_KEYS, address)
        raise OfficeProblem(401, "this key is not known, or was revoked", headers)
    if len(_good_before) < KEYS_MAX:
        _good_before.add(digest)
    request.state.office_key = found
    return found


def _with_scope(scope: Scope) -> Any:
    async def with_scope(key: Annotated[OfficeKey, Depends(_key_of)]) -> OfficeKey:
        if scope not in key.scopes:
            if not _without_scope.admits(key.id):
                raise OfficeProblem(429, "too often asked for what this key has no scope for")
            raise OfficeProblem(403, f"this key has no scope {scope.value}")
        return key

    return Depends(with_scope)


PublicationsReader = Annotated[OfficeKey, _with_scope(Scope.PUBLICATIONS_READ)]
TallyReader = Annotated[OfficeKey, _with_scope(Scope.TALLY_READ)]
LogReader = Annotated[OfficeKey, _with_scope(Scope.LOG_READ)]
ObjectionsReader = Annotated[OfficeKey, _with_scope(Scope.OBJECTIONS_READ)]
ObjectionsWriter = Annotated[OfficeKey, _with_scope(Scope.OBJECTIONS_WRITE)]


def limit_key(request: Request) -> str:
    """Counted by key; where none is needed, by address."""
    key = getattr(request.state, "office_key", None)
    return f"office key {key.id}" if key is not None else f"address {address_key(request)}"


# What is answered.


class _Model(BaseModel):
    model_config = ConfigDict(use_enum_values=True)


class CampaignOut(_Model):
    """A campaign."""

    id: str = Field(examples=["demo"])
    title: str = Field(examples=["科学家与工程师点赞活动"])
    time_zone: str = Field(description="Decides what a day is.", examples=["Asia/Shanghai"])
    opens_at: datetime
    closes_at: datetime
    candidates: int = Field(
        description="Those in the list, withdrawn ones left out.", examples=[750]
    )
    latest: int | None = Field(description="Number of the latest publication.", examples=[31])


class CampaignsOut(_Model):
    """All campaigns, rehearsals left out."""

    campaigns: list[CampaignOut]


class SumsOut(_Model):
    """received = counted + held + struck + refused."""

    received: int = Field(examples=[1_003_120])
    counted: int = Field(examples=[1_000_000])
    held: int = Field(description="Set aside until somebody decides.", examples=[2_000])
    struck: int = Field(description="Taken out by a decision.", examples=[1_000])
    refused: int = Field(description="Turned away by quota, limit or verdict.", examples=[120])


class PublicationOut(_Model):
    """What was published at one moment. All that counts is in the archive, under its signature;
    check it with dianzan verify."""

    campaign: str = Field(examples=["demo"])
    number: int = Field(description="From 1, without a gap.", examples=[31])
    kind: Literal["scheduled", "provisional", "close", "final"] = Field(
        description="scheduled: by the clock; provisional: by hand, one person's doing; close: by "
        "the service when the campaign has closed; final: two persons agreed to it."
    )
    at: datetime = Field(description="When it was made.")
    as_of: datetime = Field(description="Nothing older than this is missing.")
    approved_by_two: bool
    reopened_after_seal: bool = Field(description="Likes were taken again after an earlier seal.")
    manifest_sha256: str = Field(
        description="SHA-256 of manifest.json, hexadecimal.", examples=["9f86d081884c7d65" * 4]
    )
    previous_manifest_sha256: str | None = Field(description="Of the publication before.")
    archive_bytes: int = Field(examples=[73_112])
    sums: SumsOut


class PublicationsOut(_Model):
    """Newest first."""

    publications: list[PublicationOut]
    next_before: int | None = Field(
        description="Ask again with before= this for older ones; null: there are none."
    )


class FileOut(_Model):
    """A file of a publication."""

    name: str = Field(examples=["tally.json"])
    bytes: int = Field(examples=[20_480])


class PublicationFilesOut(PublicationOut):
    """One publication, with its files."""

    files: list[FileOut]


class TallyOut(_Model):
    """The tally of now: provisional and unsigned. What counts is what is published."""

    campaign: str = Field(examples=["demo"])
    provisional: Literal[True] = True
    signed: Literal[False] = False
    as_of: datetime = Field(description="To the second.")
    sums: SumsOut | None = Field(description="null where the campaign hides its counts now.")
    counts: dict[str, int] | None = Field(
        description="Candidate id -> likes counted, every candidate; null where the campaign hides "
        "its counts now.",
        examples=[{"zhang-heng": 3_120, "bi-sheng": 2_990}],
    )
    visible_from: datetime | None = Field(
        description="When hidden counts are shown, where that is known."
    )


class CheckpointOut(_Model):
    """A signed statement of a log's size and root, as in C2SP tlog-checkpoint."""

    size: int = Field(examples=[1_003_000])
    root: str = Field(description="SHA-256, hexadecimal.", examples=["ba7816bf8f01cfea" * 4])
    at: datetime
    note: str = Field(description="The signed note, to be checked with the publisher's key.")


class CheckpointsOut(_Model):
    """Newest first."""

    log: Literal["votes", "rulings"]
    checkpoints: list[CheckpointOut]
    next_before: int | None = Field(
        description="Ask again with before= this size for older ones; null: there are none."
    )


class ObjectionOut(_Model):
    """An objection of the public notice period, and its answer."""

    number: int = Field(examples=[7])
    at: datetime = Field(description="When it was written down.")
    candidate: str | None = Field(
        description="Id of the candidate whom it concerns, where it names one.",
        examples=["zhang-heng"],
    )
    received_from: str = Field(
        description='As they name themselves; "" = the name was deleted.', examples=["某大学"]
    )
    text: str = Field(examples=["对第 3 期的名次有异议……"])
    answer: str | None = Field(description="null: it waits.")
    answered_at: datetime | None = Field(description="When it was last answered.")


class ObjectionsOut(_Model):
    """Those that wait, the oldest first; or those that were answered, the newest first."""

    objections: list[ObjectionOut]
    next_after: int | None = Field(
        description="Ask again with after= this for more; null: there are none."
    )


class ObjectionIn(BaseModel):
    """What is handed in."""

    model_config = ConfigDict(extra="forbid")

    received_from: str = Field(
        min_length=1,
        max_length=objections.NAME_CHARACTERS_MAX,
        description="As they name themselves.",
        examples=["某大学"],
    )
    text: str = Field(
        min_length=1,
        max_length=objections.TEXT_CHARACTERS_MAX,
        examples=["对第 3 期的名次有异议……"],
    )
    candidate: str = Field(
        default="",
        max_length=64,
        description='Id of the candidate whom it concerns; "" = it names none.',
        examples=["zhang-heng"],
    )

    @field_validator("received_from", "text", "candidate")
    @classmethod
    def _is_text(cls, value: str) -> str:
        # What the database cannot hold, and what would garble a page or a log.
        if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t" for c in value):
            raise ValueError("holds a character that is no text")
        return value


CampaignId = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$", examples=["demo"])]
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=LISTED_MAX, description="So many at once at most.")]
OfKind = Annotated[
    Literal["scheduled", "provisional", "close", "final"] | None,
    Query(description="Only those of this kind: scheduled, provisional, close or final."),
]


def _answer(request: Request, body: BaseModel, *, cache: str = _CACHE) -> Response:
    """The body with its ETag, or 304."""
    text = body.model_dump_json().encode()
    etag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": cache}
    if _has(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(text, media_type="application/json", headers=headers)


def _has(request: Request, etag: str) -> bool:
    """Whether the asker's copy is this one (weak comparison, RFC 9110), of what there is."""
    said = request.headers.get("if-none-match", "")
    return said.strip() == "*" or _names(request, etag)


def _names(request: Request, etag: str) -> bool:
    said = request.headers.get("if-none-match", "")
    return etag in [one.strip().removeprefix("W/") for one in said.split(",")]


# Routes.


@router.get(
    "/campaigns", response_model=CampaignsOut, summary=N_("Campaigns"), tags=["publications"]
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def list_campaigns(request: Request, key: PublicationsReader) -> Response:
    """All campaigns, with the number of each one's latest publication. Scope: publications:read."""
    async with console_of(request).pool.acquire() as connection:
        rows = await connection.fetch(SQL["list_campaigns"])
    listed = [CampaignOut(**dict(row)) for row in rows]
    return _answer(request, CampaignsOut(campaigns=listed))


async def _campaign(connection: asyncpg.Connection, campaign: str) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["find_campaign"], campaign)
    if row is None:
        raise OfficeProblem(404, "there is no campaign of this id")
    return row


@router.get(
    "/campaigns/{campaign}/publications",
    response_model=PublicationsOut,
    summary=N_("Publications of a campaign"),
    tags=["publications"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def list_publications(
    request: Request,
    key: PublicationsReader,
    campaign: CampaignId,
    before: Annotated[Number | None, Query(description="Only those below this number.")] = None,
    kind: OfKind = None,
    limit: Limit = 30,
) -> Response:
    """Newest first. Scope: publications:read."""
    async with console_of(request).pool.acquire() as connection:
        row = await _campaign(connection, campaign)
        rows = await connection.fetch(
            SQL["list_publications"], row["number"], before, kind, limit + 1
        )
    listed = [_publication(campaign, found) for found in rows[:limit]]
    older = listed[-1].number if len(rows) > limit else None
    return _answer(request, PublicationsOut(publications=listed, next_before=older))


def _publication(campaign: str, row: asyncpg.Record) -> PublicationOut:
    return PublicationOut(
        campaign=campaign,
        number=row["number"],
        kind=row["kind"],
        at=row["at"],
        as_of=row["as_of"],
        approved_by_two=row["approved_by"] is not None,
        reopened_after_seal=bool(row["reopened"]),
        manifest_sha256=bytes(row["manifest_hash"]).hex(),
        previous_manifest_sha256=row["previous"],
        archive_bytes=row["archive_bytes"],
        sums=SumsOut(
            **{kind: row[kind] for kind in ("received", "counted", "held", "struck", "refused")}
        ),
    )


async def find_publication(
    connection: asyncpg.Connection, campaign: int, number: int | None, kind: str | None = None
) -> asyncpg.Record | None:
    """One whose files are made; the latest where no number is given."""
    before = None if number is None else number + 1
    row = await connection.fetchrow(SQL["list_publications"], campaign, before, kind, 1)
    return row if row is not None and number in (None, row["number"]) else None


async def _found(
    connection: asyncpg.Connection, campaign: str, number: int | None, kind: str | None = None
) -> tuple[asyncpg.Record, asyncpg.Record]:
    of = await _campaign(connection, campaign)
    row = await find_publication(connection, of["number"], number, kind)
    if row is None:
        raise OfficeProblem(404, "there is no such publication, or its files are not made yet")
    return of, row


@router.get(
    "/campaigns/{campaign}/publications/latest",
    response_model=PublicationOut,
    summary=N_("The latest publication"),
    tags=["publications"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def get_latest_publication(
    request: Request,
    key: PublicationsReader,
    campaign: CampaignId,
    kind: OfKind = None,
) -> Response:
    """Of all, or of one kind. Scope: publications:read."""
    async with console_of(request).pool.acquire() as connection:
        _, row = await _found(connection, campaign, None, kind)
    return _answer(request, _publication(campaign, row))


@router.get(
    "/campaigns/{campaign}/publications/{number}",
    response_model=PublicationFilesOut,
    summary=N_("One publication, with the names of its files"),
    tags=["publications"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def get_publication(
    request: Request, key: PublicationsReader, campaign: CampaignId, number: Number
) -> Response:
    """Scope: publications:read."""
    async with console_of(request).pool.acquire() as connection:
        of, row = await _found(connection, campaign, number)
    async with _unpacking:
        archive = await _archive(request, of["number"], row)
        files = await asyncio.to_thread(_list_files, archive)
    found = _publication(campaign, row)
    return _answer(request, PublicationFilesOut(**found.model_dump(), files=files))


@router.get(
    "/campaigns/{campaign}/publications/{number}/archive.zip",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The folder as a zip"}},
    summary=N_("A publication as a zip"),
    tags=["publications"],
)
@limiter.limit(FILES_LIMIT, key_func=limit_key)
async def get_archive(
    request: Request, key: PublicationsReader, campaign: CampaignId, number: Number
) -> Response:
    """The whole folder: unpack it and check it with dianzan verify. Scope: publications:read."""
    async with console_of(request).pool.acquire() as connection:
        of, row = await _found(connection, campaign, number)
    return archive_answer(request, of, row)


def archive_name(campaign: str, number: int, kind: str) -> str:
    """What its download is called, without the end."""
    return f"{campaign}-{number:04}-{kind}"


def archive_answer(request: Request, campaign: asyncpg.Record, row: asyncpg.Record) -> Response:
    """The archive as a download. Its bytes never change: the manifest's hash is its ETag."""
    etag = f'"{bytes(row["manifest_hash"]).hex()}"'
    name = archive_name(campaign["id"], row["number"], row["kind"])
    headers = {
        "ETag": etag,
        "Cache-Control": _CACHE,
        "Content-Disposition": f'attachment; filename="{name}.zip"',
    }
    if _has(request, etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(row["archive_bytes"])
    pieces = _pieces(request, campaign["number"], row["number"], row["archive_bytes"])
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


async def _pieces(request: Request, campaign: int, number: int, size: int) -> AsyncIterator[bytes]:
    pool = console_of(request).pool
    for at in range(0, size, ARCHIVE_PIECE_BYTES):
        # A connection for each piece: a slow reader keeps none.
        async with pool.acquire() as connection:
            piece = await connection.fetchval(
                SQL["read_part_of_archive"], campaign, number, at + 1, ARCHIVE_PIECE_BYTES
            )
        yield bytes(piece)


_unpacking = asyncio.Semaphore(_UNPACKING_AT_ONCE)


async def _archive(request: Request, campaign: int, row: asyncpg.Record) -> bytes:
    if row["archive_bytes"] > UNPACKED_ARCHIVE_BYTES_MAX:
        raise OfficeProblem(404, "this archive is too large to look into: take it as a whole")
    pieces = _pieces(request, campaign, row["number"], row["archive_bytes"])
    return b"".join([piece async for piece in pieces])


def _list_files(archive: bytes) -> list[FileOut]:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        return [FileOut(name=info.filename, bytes=info.file_size) for info in packed.infolist()]


def _read_file(archive: bytes, name: str) -> bytes | None:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        return packed.read(name) if name in packed.namelist() else None


_MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@router.get(
    "/campaigns/{campaign}/publications/{number}/files/{name:path}",
    response_class=Response,
    responses={200: {"description": "The file's bytes, as they are in the archive"}},
    summary=N_("One file of a publication"),
    tags=["publications"],
)
@limiter.limit(FILES_LIMIT, key_func=limit_key)
async def get_publication_file(
    request: Request,
    key: PublicationsReader,
    campaign: CampaignId,
    number: Number,
    name: Annotated[str, Field(max_length=200, examples=["tally.json"])],
) -> Response:
    """Its bytes; what it is worth the manifest says, which only the archive can be checked with.
    Scope: publications:read."""
    async with console_of(request).pool.acquire() as connection:
        of, row = await _found(connection, campaign, number)
    pinned = bytes(row["manifest_hash"]) + name.encode(errors="replace")
    etag = f'"{hashlib.sha256(pinned).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": _CACHE}
    # Who names the tag had the file; who says "*" may not know that there is none.
    if _names(request, etag):
        return Response(status_code=304, headers=headers)
    async with _unpacking:
        archive = await _archive(request, of["number"], row)
        content = await asyncio.to_thread(_read_file, archive, name)
    if content is None:
        raise OfficeProblem(404, "this publication has no file of this name")
    if _has(request, etag):
        return Response(status_code=304, headers=headers)
    last = name.rpartition("/")[2]
    headers["Content-Disposition"] = f'attachment; filename="{last}"'
    media = _MEDIA_TYPES.get(last.rpartition(".")[2], "application/octet-stream")
    return Response(content, media_type=media, headers=headers)


@router.get(
    "/campaigns/{campaign}/tally",
    response_model=TallyOut,
    summary=N_("The tally of now"),
    tags=["tally"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def get_tally(request: Request, key: TallyReader, campaign: CampaignId) -> Response:
    """Provisional and unsigned: no result, and it may move either way. Where the campaign hides its
    counts (daily, after the close, staff only) it hides them here until the public sees the final
    ones. Scope: tally:read."""
    now = datetime.now(UTC)
    async with console_of(request).pool.acquire() as connection:
        of = await _whole_campaign(connection, campaign)
        hidden, shown_from = hidden_until(of, now)
        tally = None if hidden else await read_tally(connection, campaign)
    if tally is None:
        return _answer(
            request,
            TallyOut(
                campaign=campaign,
                as_of=now.replace(microsecond=0, second=0),
                sums=None,
                counts=None,
                visible_from=shown_from,
            ),
        )
    sums = SumsOut(
        received=tally.received,
        counted=tally.counted,
        held=tally.held,
        struck=tally.struck,
        refused=tally.refused,
    )
    return _answer(
        request,
        TallyOut(
            campaign=campaign,
            as_of=tally.as_of.replace(microsecond=0),
            sums=sums,
            counts=tally.counts,
            visible_from=None,
        ),
    )


def hidden_until(campaign: Campaign, now: datetime) -> tuple[bool, datetime | None]:
    """Whether the running counts are hidden from the office, and until when (None: not known).

    As from the public, with one step less: what the public sees daily, as of an hour, is in the
    publications; the running count is shown from the first such hour after the close."""
    visibility, window = campaign.rules.counts, campaign.window
    if visibility is Visibility.LIVE:
        return False, None
    if visibility is Visibility.STAFF:
        return True, None
    shown_from = window.closes_at
    if visibility is Visibility.DAILY:
        last, upcoming = publication_hours(campaign, window.closes_at_us)
        at_us = last if last == window.closes_at_us else upcoming
        shown_from = moment_at(at_us, window.zone)
    return microseconds(now) < microseconds(shown_from), shown_from


@router.get(
    "/campaigns/{campaign}/checkpoints",
    response_model=CheckpointsOut,
    summary=N_("Checkpoints of a log"),
    tags=["log"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def list_checkpoints(
    request: Request,
    key: LogReader,
    campaign: CampaignId,
    log: Annotated[
        Literal["votes", "rulings"],
        Query(description="votes: one leaf a vote; rulings: what takes votes out and back in."),
    ] = "votes",
    before: Annotated[int | None, Query(ge=0, le=2**62, description="Only smaller sizes.")] = None,
    limit: Limit = 30,
) -> Response:
    """Those that were kept: hourly, at each publication and at the close. A size has one root for
    ever: keep what you get, and compare. Scope: log:read."""
    async with console_of(request).pool.acquire() as connection:
        of = await _campaign(connection, campaign)
        number = ("votes", "rulings").index(log)
        rows = await connection.fetch(
            SQL["list_checkpoints"], of["number"], number, before, limit + 1
        )
    listed = [
        CheckpointOut(
            size=row["size"], root=bytes(row["root"]).hex(), at=row["at"], note=row["note"]
        )
        for row in rows[:limit]
    ]
    older = listed[-1].size if len(rows) > limit else None
    return _answer(request, CheckpointsOut(log=log, checkpoints=listed, next_before=older))


# Objections.


@router.get(
    "/campaigns/{campaign}/objections",
    response_model=ObjectionsOut,
    summary=N_("Objections of a campaign"),
    tags=["objections"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def list_objections(
    request: Request,
    key: ObjectionsReader,
    campaign: CampaignId,
    answered: Annotated[bool, Query(description="Those that were answered.")] = False,
    after: Annotated[int, Query(ge=0, le=10**6, description="Leave out so many.")] = 0,
    limit: Limit = 30,
) -> Response:
    """Those that wait for an answer, or those that have one. Scope: objections:read."""
    async with console_of(request).pool.acquire() as connection:
        of = await _whole_campaign(connection, campaign)
        found = await objections.list_objections(
            connection, of.number, answered=answered, at_most=limit + 1, after=after
        )
    listed = [_objection(of, each) for each in found[:limit]]
    more = after + limit if len(found) > limit else None
    return _answer(request, ObjectionsOut(objections=listed, next_after=more))


@router.get(
    "/campaigns/{campaign}/objections/{number}",
    response_model=ObjectionOut,
    summary=N_("One objection"),
    tags=["objections"],
)
@limiter.limit(KEY_LIMIT, key_func=limit_key)
async def get_objection(
    request: Request, key: ObjectionsReader, campaign: CampaignId, number: Number
) -> Response:
    """With its answer, where there is one. Scope: objections:read."""
    async with console_of(request).pool.acquire() as connection:
        of = await _whole_campaign(connection, campaign)
        found = await objections.read_objection(connection, of.number, number)
    if found is None:
        raise OfficeProblem(404, "there is no such objection")
    return _answer(request, _objection(of, found))


@router.post(
    "/campaigns/{campaign}/objections",
    response_model=ObjectionOut,
    status_code=201,
    summary=N_("Hand in an objection"),
    tags=["objections"],
)
@limiter.limit(WRITE_LIMIT, key_func=limit_key)
async def post_objection(
    request: Request, key: ObjectionsWriter, campaign: CampaignId, handed_in: ObjectionIn
) -> Response:
    """It then waits in the console for an answer. Handed in twice, there are two of it.
    Scope: objections:write."""
    async with console_of(request).pool.acquire() as connection:
        of = await _whole_campaign(connection, campaign)
        number = await objections.enter(
            connection,
            of,
            received_from=handed_in.received_from,
            text=handed_in.text,
            candidate=handed_in.candidate,
            by=objections.Clerk(f"office key {key.id}", "office"),
        )
        if isinstance(number, objections.Refused):
            raise OfficeProblem(*_REFUSED.get(number, (422, "it was not understood")))
        found = await objections.read_objection(connection, of.number, number)
    if found is None:
        raise OfficeProblem(404, "there is no such objection")
    body = _objection(of, found)
    where = f"{OFFICE_API}/campaigns/{of.id}/objections/{number}"
    return Response(body.model_dump_json(), 201, {"Location": where}, media_type="application/json")


_REFUSED = {
    objections.Refused.NO_NAME: (422, "received_from is empty"),
    objections.Refused.NO_TEXT: (422, "text is empty"),
    objections.Refused.TOO_LONG: (422, "received_from or text is too long"),
    objections.Refused.UNSEEN: (422, "received_from or text holds a character that is not seen"),
    objections.Refused.UNKNOWN_CANDIDATE: (422, "the campaign has no such candidate"),
    objections.Refused.TOO_MANY: (409, "the campaign has as many objections as it can take"),
}


def _objection(campaign: Campaign, found: objections.Objection) -> ObjectionOut:
    ids = {candidate.number: candidate.id for candidate in campaign.candidates}
    return ObjectionOut(
        number=found.number,
        at=found.at,
        candidate=None if found.candidate is None else ids.get(found.candidate),
        received_from=found.received_from,
        text=found.text,
        answer=found.answer,
        answered_at=found.answered_at,
    )


async def _whole_campaign(connection: asyncpg.Connection, campaign: str) -> Campaign:
    await _campaign(connection, campaign)
    try:
        return await read_campaign(connection, campaign)
    except UnknownCampaign:
        raise OfficeProblem(404, "there is no campaign of this id") from None


# Its own description.

_ABOUT = (
    "What the selection office's programs ask of the voting service: sealed publications of "
    "tallies, the running tally, checkpoints of the log, objections. Each request carries a key "
    "that an administrator of the service makes. Times are RFC 3339 with offset."
)


@functools.cache
def description() -> dict[str, Any]:
    """The OpenAPI document of these routes and no others. Not to be changed by who gets it."""
    return get_openapi(
        title="Dianzan office API",
        version="1",
        description=_ABOUT,
        routes=[route for route in router.routes if getattr(route, "include_in_schema", False)],
    )


@router.get("/openapi.json", include_in_schema=False)
@limiter.limit(PUBLIC_LIMIT, key_func=limit_key)
def get_openapi_document(request: Request) -> Response:
    """For programs; no key is needed to read what keys are for."""
    return JSONResponse(description(), headers={"Cache-Control": "public, max-age=300"})


@router.get("/", include_in_schema=False)
@limiter.limit(PUBLIC_LIMIT, key_func=limit_key)
def get_office_page(request: Request) -> Response:
    """The same for people."""
    return pages.render(request, "office_api.html", operations=operations(), scopes=list(Scope))


@functools.cache
def operations() -> list[dict[str, Any]]:
    """Every call of the API, as the page lists it."""
    listed = []
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            listed.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "text": operation.get("description", ""),
                    "tag": (operation.get("tags") or [""])[0],
                    "parameters": [
                        (one["name"], one.get("description", ""))
                        for one in operation.get("parameters", [])
                        if one["in"] == "query"
                    ],
                }
            )
    return listed
