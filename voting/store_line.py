"""One connection to the store for the vote path: packed commands out, replies in order back.

redis-py costs 75 to 155 us of CPU per call, several times a whole vote; here a batch costs one
write and one callback, with hiredis doing the bytes. Everything off the vote path uses redis-py.

Owner: one `StoreLine` per process. `run()` keeps it connected; while it is not, `call` says so at
once. A reply that is late closes the line, since replies have no ids: what was in flight is then
neither known to have happened nor known not to have. The same click, sent again, finds out.

Where the primary can change (see store_address.py), it is looked for at each connect, and each
second the line makes sure that it still talks to the primary that it greeted.
"""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from typing import Any, cast

import hiredis
import structlog

from voting.journal import head_key
from voting.store_address import NoPrimary, StoreAddress

log = structlog.get_logger()

OnReply = Callable[[Any], None]
Word = bytes | str | int

_BACK_OFF_FIRST_SECONDS = 0.05
_BACK_OFF_MAX_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 1.0
_RESOLVE_SECONDS = 1.0
_MOVED = ("MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ", "READONLY ", "LOADING ", "MASTERDOWN ")
"""How an error begins that says: not here, or not now. Nothing was executed."""


def _pack(words: tuple[Word, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # stub: a tuple of one
    return packed


class StoreDown(Exception):
    """The store did not answer, or not with what was asked for."""


class StoreMoved(StoreDown):
    """It answered that this shard's primary is elsewhere, or not ready: nothing was executed, and
    the line looks for the primary. Make the call anew, do not repeat it: `replid` may be another
    then."""


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

    def call(self, packed: bytes, *on_replies: OnReply) -> None:
        """`packed`: as many commands as there are callbacks."""
        assert self.transport is not None
        self._waiting.extend(on_replies)
        self.transport.write(packed)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class StoreLine:
    """A connection to the store that comes back by itself."""

    def __init__(
        self,
        url: str | StoreAddress,
        *,
        shard: int = 0,
        timeout_seconds: float = 2.0,
        library: str = "",
        on_replicas: bool = False,
    ) -> None:
        """`library`: source of a function library that must be loaded; its first line names it.
        `on_replicas`: what a function wrote counts as answered only when it is on the disk of the
        primary and of one replica; with none there, half of `timeout_seconds` passes before each
        StoreDown, and calls behind it wait. NotAStore where the URL is none."""
        self._address = StoreAddress(url) if isinstance(url, str) else url
        self._shard = shard
        self._timeout_seconds = timeout_seconds
        self._library = library
        self._on_replicas = on_replicas
        # Together half of the deadline, which would close the line. WAITAOF alone takes a whole
        # second: a replica tells how far its disk is when it is asked, with what it knew before
        # the write, and is asked once. After WAIT it is asked a second time: 0.7 ms for both.
        each_ms = max(1, int(timeout_seconds * 250))
        self._acknowledge = _pack(("WAIT", 1, each_ms)) + _pack(("WAITAOF", 1, 1, each_ms))
        self._protocol: _Protocol | None = None
        self.replid = b""
        """Replication id of the server at the other end, learned at each connect."""

    @property
    def connected(self) -> bool:
        protocol = self._protocol
        return protocol is not None and protocol.transport is not None

    def call(self, *words: Word, on_reply: OnReply) -> None:
        """Send one command; `on_reply` gets the reply, a hiredis.ReplyError, StoreDown or
        StoreMoved. It is called exactly once, never before this returns. StoreDown is raised where
        there is no connection: then nothing was sent."""
        protocol = self._protocol
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise StoreDown("not connected to the store")
        deadline = asyncio.get_running_loop().call_later(self._timeout_seconds, protocol.abort)

        def answered(reply: Any) -> None:
            deadline.cancel()
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(_MOVED):
                reply = StoreMoved(str(reply))
                protocol.abort()
            on_reply(reply)

        if self._on_replicas and words[0] == "FCALL":
            self._call_on_replicas(protocol, _pack(words), answered)
        else:
            protocol.call(_pack(words), answered)

    def _call_on_replicas(self, protocol: _Protocol, packed: bytes, answered: OnReply) -> None:
        replies: list[Any] = []

        def acknowledged(counts: Any) -> None:
            reply = replies[0]
            kept = isinstance(counts, list) and min(counts) >= 1
            if not kept and not isinstance(reply, StoreDown | hiredis.ReplyError):
                reply = StoreDown(f"written, but perhaps on no replica's disk: {counts}")
            answered(reply)

        protocol.call(packed + self._acknowledge, replies.append, replies.append, acknowledged)

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
                    if not isinstance(why, NoPrimary):
                        self._address.mistrust()
                    if not away:
                        log.warning("store-away", why=str(why) or type(why).__name__)
                        away = True
                    await asyncio.sleep(back_off)
                    back_off = min(back_off * 2, _BACK_OFF_MAX_SECONDS)
                    continue
                log.info("store-connected", replid=self.replid.decode(), after_loss=away)
                self._protocol = protocol
                away, back_off = False, _BACK_OFF_FIRST_SECONDS
                await self._until_lost(protocol)
                away = True
                log.warning("store-lost")
        finally:
            self.drop()

    async def _until_lost(self, protocol: _Protocol) -> None:
        if self._address.asks is None:
            await asyncio.shield(protocol.lost)
            return
        while not protocol.lost.done():
            await asyncio.wait({protocol.lost}, timeout=_LOOK_EVERY_SECONDS)
            # Demoted, and perhaps promoted again, behind a connection that nothing closed.
            try:
                role, replid = await self._replication(self.call)
            except StoreDown:
                continue
            if (role, replid) != (b"master", self.replid):
                protocol.abort()

    async def _connect(self) -> _Protocol:
        loop = asyncio.get_running_loop()
        at = await self._address.resolve(self._shard, _RESOLVE_SECONDS)
        if at.path:
            _, protocol = await loop.create_unix_connection(_Protocol, at.path)
        else:
            _, protocol = await loop.create_connection(
                _Protocol, at.host, at.port, ssl=self._address.context()
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

        address = self._address
        if address.password:
            user = [address.user] if address.user else []
            await self._ask(call, "AUTH", *user, address.password)
        if address.database:
            await self._ask(call, "SELECT", address.database)
        role, replid = await self._replication(call)
        if role != b"master":
            raise StoreDown("this server is a replica: a vote can only be cast at the primary")
        if self._on_replicas:
            # A server that cannot do it, or keeps nothing on its disk, says so here.
            await self._ask(call, "WAITAOF", 1, 0, 1)
        if address.asks == "cluster":
            # Whether this node answers for the shard now; else we would come back at once.
            await self._ask(call, "EXISTS", head_key(self._shard))
        if self._library:
            name = self._library.partition("\n")[0].partition("name=")[2].strip()
            if not await self._ask(call, "FUNCTION", "LIST", "LIBRARYNAME", name):
                try:
                    await self._ask(call, "FUNCTION", "LOAD", self._library)
                except StoreDown as why:
                    # Another worker was faster.
                    if "already exists" not in str(why):
                        raise
        self.replid = replid

    @classmethod
    async def _replication(cls, call: Callable[..., None]) -> tuple[bytes, bytes]:
        """Role and replication id of the server at the other end."""
        info = await cls._ask(call, "INFO", "replication")
        fields = dict(line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line)
        return fields.get(b"role", b""), fields.get(b"master_replid", b"")

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
