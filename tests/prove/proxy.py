"""A proxy between two parts that were told its address, in whose hands their connection is."""

import asyncio
import contextlib
import enum
import socket
import struct

_CHUNK = 65_536
_RESETS = struct.pack("ii", 1, 0)


class Way(enum.Enum):
    """What becomes of bytes."""

    PASS = "pass"
    DELAY = "delay"
    """Each piece waits."""
    SWALLOW = "swallow"
    """Nothing comes through in either direction, and nobody is told: a half-open connection."""
    ONE_WAY = "one way"
    """Requests arrive, answers do not."""
    REFUSE = "refuse"
    """Who connects is sent away; who is connected stays."""


class Proxy:
    """Listens on loopback, and passes on to a Unix socket or a port there."""

    def __init__(self, name: str, target: str | int) -> None:
        self.name = name
        self.port = 0
        self.way = Way.PASS
        self.delay_seconds = 0.0
        self._target = target
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Every connection is reset, on both sides, whatever is on its way."""
        for pair in list(self._pairs):
            for writer in pair:
                with contextlib.suppress(OSError, AttributeError):
                    taken = writer.get_extra_info("socket")
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
                writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            if self.way is Way.REFUSE:
                return
            if isinstance(self._target, int):
                opened = asyncio.open_connection("127.0.0.1", self._target)
            else:
                opened = asyncio.open_unix_connection(self._target)
            there, back = await opened
            pair = (writer, back)
            self._pairs.add(pair)
            try:
                await asyncio.gather(
                    self._pass_on(reader, back, answers=False),
                    self._pass_on(there, writer, answers=True),
                )
            finally:
                self._pairs.discard(pair)
                back.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while piece := await source.read(_CHUNK):
            if self.way is Way.DELAY:
                await asyncio.sleep(self.delay_seconds)
            if self.way is Way.SWALLOW or (self.way is Way.ONE_WAY and answers):
                continue
            sink.write(piece)
            await sink.drain()
        sink.transport.abort()
