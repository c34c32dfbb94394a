"""A client of bytes: exactly what a test writes is sent, and answers are read one by one."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class WireAnswer:
    """One answer; the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self):
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, sent):
        self.writer.write(sent)

    async def answer(self, *, to=b"GET", wait=10.0) -> WireAnswer:
        """The next final answer. EOFError where the connection ends first, TimeoutError where
        none comes."""
        async with asyncio.timeout(wait):
            status = 100
            while 100 <= status < 200:
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")[:-2]
                status = int(first.split(" ")[1])
            headers = {name.lower(): value for name, value in (x.split(": ", 1) for x in lines)}
            empty = to == b"HEAD" or status in (204, 304)
            length = 0 if empty else int(headers["content-length"])
            return WireAnswer(status, headers, await self.reader.readexactly(length))

    async def ask(self, sent, **options) -> WireAnswer:
        self.send(sent)
        return await self.answer(to=sent.split(b" ", 1)[0], **options)

    async def rest(self, wait=10.0) -> bytes:
        """All that comes until the connection ends."""
        got = b""
        async with asyncio.timeout(wait):
            with contextlib.suppress(ConnectionResetError):
                while chunk := await self.reader.read(65_536):
                    got += chunk
        return got

    def abort(self):
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def wired(edge) -> AsyncIterator[Wire]:
    """A connection to this edge, cut off at the end."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", edge.port))
    try:
        yield wire
    finally:
        wire.abort()


def post(path, body, *, more=b"", content_type=b"text/plain", version=b"1.1"):
    """A POST as the widget sends it. `more`: further lines of its head."""
    return b"POST %b HTTP/%b\r\nHost: x\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
        *(path, version, content_type, more),
        *(len(body), body),
    )


def chunked(path, body):
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (path, len(body), body)
    )


def get(path, more=b""):
    return b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, more)


def like_body(token, candidate, click, campaign="spring", **members):
    body = {"token": token, "campaign": campaign, "candidate": candidate, "click": click}
    return json.dumps(body | members).encode()


def like(token, candidate, click, campaign="spring", more=b""):
    return post(b"/v1/likes", like_body(token, candidate, click, campaign), more=more)


def minted(edge, campaign="spring"):
    """A new device's token, without a request."""
    found = edge.parts.catalog.campaigns[campaign]
    return edge.parts.mint.issue(found, time.time())
