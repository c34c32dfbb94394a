"""One connection to the store for the vote path: packed commands out, replies in order back.

redis-py costs 75 to 155 us of CPU per call, several times a whole vote; here a batch costs one
write and one callback, with hiredis doing the bytes. Everything off the vote path uses redis-py.

Owner: one `StoreLine` per process. `run()` keeps it connected; while it is not, `call` says so at
once. A reply that is late closes the line, since replies have no ids: what was in flight is then
neither known to have happened nor known not to have. The same click, sent again, finds out.
"""

import asyncio
import collections
import contextlib
import ssl as tls
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import structlog

log = structlog.get_logger()

OnReply = Callable[[Any], None]
Word = bytes | str | int

_BACK_OFF_FIRST_SECONDS = 0.05
_BACK_OFF_MAX_SECONDS = 1.0


def _pack(words: tuple[Word, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # stub: a tuple of one
    return packed


class StoreDown(Exception):
    """The store did not answer, or not with what was asked for."""


class _Protocol(asyncio.Protocol):
    """Bytes of one connection <-> replies in the order of the calls."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: collections.deque[OnReply] = collections.deque()
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports do not derive from asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                on_reply = self._waiting.popleft()
                # One caller's mistake must not cost the others the connection.
                try:
                    on_reply(reply)
                except Exception:
                    log.exception("store-reply-mishandled")
        except (hiredis.ProtocolError, IndexError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        down = StoreDown("the connection to the store was lost")
        while self._waiting:
            with contextlib.suppress(Exception):
                self._waiting.popleft()(down)
        if not self.lost.done():
            self.lost.set_result(None)

    def call(self, packed: bytes, on_reply: OnReply) -> None:
        assert self.transport is not None
        self._waiting.append(on_reply)
        self.transport.write(packed)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class StoreLine:
    """A connection to the store that comes back by itself."""

    def __init__(self, url: str, *, timeout_seconds: float = 2.0, library: str = "") -> None:
        """`library`: source of a function library that must be loaded; its first line names it.
        `url`: redis://, rediss:// or unix://, with user, password and db as redis-py reads them."""
        self._url = urlsplit(url)
        if self._url.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"{self._url.scheme}:// is no scheme of a store: redis, rediss, unix")
        self._timeout_seconds = timeout_seconds
        self._library = library
        self._protocol: _Protocol | None = None
        self.replid = b""
        """Replication id of the server at the other end, learned at each connect."""

    @property
    def connected(self) -> bool:
        protocol = self._protocol
        return protocol is not None and protocol.transport is not None

    def call(self, *words: Word, on_reply: OnReply) -> None:
        """Send one command; `on_reply` gets the reply, a hiredis.ReplyError, or StoreDown. It is
        called exactly once, never before this returns. StoreDown is raised where there is no
        connection: then nothing was sent."""
        protocol = self._protocol
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise StoreDown("not connected to the store")
        deadline = asyncio.get_running_loop().call_later(self._timeout_seconds, protocol.abort)

        def answered(reply: Any) -> None:
            deadline.cancel()
            on_reply(reply)

        protocol.call(_pack(words), answered)

    async def ask(self, *words: Word) -> Any:
        """One command, awaited; StoreDown where it fails in any way."""
        return await self._ask(self.call, *words)

    def drop(self) -> None:
        """Close the connection; `run` makes a new one and greets it."""
        if self._protocol is not None:
            self._protocol.abort()

    async def run(self) -> None:
        """Keep connected until cancelled. Says so once when the store is away and once when it is
        back."""
        back_off = _BACK_OFF_FIRST_SECONDS
        away = False
        try:
            while True:
                try:
                    async with asyncio.timeout(self._timeout_seconds + 5):
                        protocol = await self._connect()
                except (OSError, StoreDown, TimeoutError) as why:
                    if not away:
                        log.warning("store-away", why=str(why) or type(why).__name__)
                        away = True
                    await asyncio.sleep(back_off)
                    back_off = min(back_off * 2, _BACK_OFF_MAX_SECONDS)
                    continue
                log.info("store-connected", replid=self.replid.decode(), after_loss=away)
                self._protocol = protocol
                away, back_off = False, _BACK_OFF_FIRST_SECONDS
                await asyncio.shield(protocol.lost)
                away = True
                log.warning("store-lost")
        finally:
            self.drop()

    async def _connect(self) -> _Protocol:
        loop = asyncio.get_running_loop()
        url = self._url
        if url.scheme == "unix":
            _, protocol = await loop.create_unix_connection(_Protocol, url.path)
        else:
            _, protocol = await loop.create_connection(
                _Protocol,
                url.hostname or "127.0.0.1",
                url.port or 6379,
                ssl=tls.create_default_context() if url.scheme == "rediss" else None,
            )
        try:
            await self._greet(protocol)
        except BaseException:
            protocol.abort()
            raise
        return protocol

    async def _greet(self, protocol: _Protocol) -> None:
        def call(*words: Word, on_reply: OnReply) -> None:
            protocol.call(_pack(words), on_reply)

        url = self._url
        if url.password:
            user = [unquote(url.username)] if url.username else []
            await self._ask(call, "AUTH", *user, unquote(url.password))
        in_path = "" if url.scheme == "unix" else url.path.strip("/")
        if database := in_path or "".join(parse_qs(url.query).get("db", [])):
            await self._ask(call, "SELECT", database)
        info = await self._ask(call, "INFO", "replication")
        fields = dict(line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line)
        if fields.get(b"role") != b"master":
            raise StoreDown("this server is a replica: a vote can only be cast at the primary")
        if self._library:
            name = self._library.partition("\n")[0].partition("name=")[2].strip()
            if not await self._ask(call, "FUNCTION", "LIST", "LIBRARYNAME", name):
                try:
                    await self._ask(call, "FUNCTION", "LOAD", self._library)
                except StoreDown as why:
                    # Another worker was faster.
                    if "already exists" not in str(why):
                        raise
        self.replid = fields[b"master_replid"]

    @staticmethod
    async def _ask(call: Callable[..., None], *words: Word) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_reply(reply: Any) -> None:
            if not answer.done():
                answer.set_result(reply)

        call(*words, on_reply=on_reply)
        reply = await answer
        if isinstance(reply, hiredis.ReplyError):
            raise StoreDown(str(reply))
        if isinstance(reply, StoreDown):
            raise reply
        return reply
