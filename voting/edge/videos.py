"""GET /v1/videos/...: videos out of the data folder, whole or in ranges.

A file is read in pieces, in threads, and no faster than its reader takes them. Readers are bounded:
who comes when there are too many is told to come back, and one who takes next to nothing is cut
off. Known weakness: so many slow readers keep others from the videos, and from nothing else; in
front of a large public stands a CDN or an object store (DIANZAN_MEDIA_URL).
"""

import asyncio
import os
import re
from typing import NamedTuple

import structlog
from aiohttp import hdrs, web

from voting.campaign import Video
from voting.edge.answers import FOR_GOOD, public_headers, public_problem
from voting.edge.media import VIDEO_TYPES, etag_of, is_known
from voting.edge.parts import EDGE
from voting.media_files import video_path

log = structlog.get_logger()

READERS_MAX = 64
"""Of one worker at once; each takes a piece of memory."""
PIECE_BYTES = 256 << 10
_PIECE_SECONDS_MAX = 30.0
"""In which a reader takes a piece: 8 kB a second are no stream any more."""
_FIRST_POSITION = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


class Span(NamedTuple):
    """The bytes that are asked for: [begin, end)."""

    begin: int
    end: int


class OutOfRange(Exception):
    """A range that has no byte of the file."""


class Readers:
    """How many there are."""

    def __init__(self) -> None:
        self.now = 0


READERS = web.AppKey("video_readers", Readers)


def span_of(asked: str | None, size: int) -> Span | None:
    """The one range that a Range header asks for; None where it asks for none, or for what may be
    answered by the whole file: several ranges, other units, nonsense. Raises OutOfRange."""
    found = _FIRST_POSITION.fullmatch(asked.strip()) if asked else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        suffix = int(found[2])
        if suffix == 0:
            raise OutOfRange
        return Span(max(0, size - suffix), size)
    begin = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if last < begin and found[2]:
        return None
    if begin >= size:
        raise OutOfRange
    return Span(begin, min(last + 1, size))


async def get_video(request: web.Request) -> web.StreamResponse:
    """GET /v1/videos/{video}.mp4 or .mov, of a candidate; an id never changes what it shows."""
    edge = request.app[EDGE]
    video = edge.catalog.videos.get(request.match_info["video"])
    if video is None or video.kind != request.match_info["kind"]:
        return public_problem("not-found" if edge.catalog.read else "store-down")
    path = str(video_path(edge.settings.media_path, video.id, video.kind))
    try:
        # First of all: of a lost file nobody is to hear that it is there, or that it is the same.
        descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as why:
        log.error("video-not-there", path=path, why=why.strerror)
        return public_problem("not-found")
    try:
        return await _answer(request, video, path, descriptor)
    finally:
        os.close(descriptor)


async def _answer(
    request: web.Request, video: Video, path: str, descriptor: int
) -> web.StreamResponse:
    made = public_headers(VIDEO_TYPES[video.kind], FOR_GOOD)
    made[hdrs.ETAG] = etag = etag_of(video.id)
    made[hdrs.ACCEPT_RANGES] = "bytes"
    if is_known(request, etag):
        return web.Response(status=304, headers=made)
    span = None
    # A range of another state of the file than the client has would be put behind what it has.
    if request.method == "GET" and request.headers.get(hdrs.IF_RANGE, etag) == etag:
        try:
            span = span_of(request.headers.get(hdrs.RANGE), video.size_bytes)
        except OutOfRange:
            refusal = public_problem("wrong-range")
            refusal.headers[hdrs.CONTENT_RANGE] = f"bytes */{video.size_bytes}"
            return refusal
    begin, end = span or Span(0, video.size_bytes)
    made[hdrs.CONTENT_LENGTH] = str(end - begin)
    if span is not None:
        made[hdrs.CONTENT_RANGE] = f"bytes {begin}-{end - 1}/{video.size_bytes}"
    answer = web.StreamResponse(status=200 if span is None else 206, headers=made)
    if request.method == "HEAD":
        return answer
    readers = request.app[READERS]
    if readers.now >= READERS_MAX:
        return public_problem("overloaded")
    readers.now += 1
    try:
        return await _send(request, answer, path, descriptor, begin, end)
    finally:
        readers.now -= 1


async def _send(
    request: web.Request,
    answer: web.StreamResponse,
    path: str,
    descriptor: int,
    begin: int,
    end: int,
) -> web.StreamResponse:
    try:
        await answer.prepare(request)
        while begin < end:
            piece = await asyncio.to_thread(
                os.pread, descriptor, min(PIECE_BYTES, end - begin), begin
            )
            if not piece:
                log.error("video-cut-off", path=path)
                break
            begin += len(piece)
            async with asyncio.timeout(_PIECE_SECONDS_MAX):
                await answer.write(piece)
    except (ConnectionError, TimeoutError):
        pass  # the client hung up, or takes nothing
    except OSError as why:
        log.error("video-not-read", path=path, why=why.strerror)
    if begin < end and request.transport is not None:
        # What was promised does not come: an end of the connection says so, and nothing else can.
        request.transport.abort()
    return answer
