"""The floor under every server: a bare protocol on uvloop that finds where a request ends and
gives a fixed answer.

    python -m loadtest.peers.bare_protocol

It looks for the head's end and for the length of the body, and at nothing else; the answer has the
bytes and headers of a counted like. What it costs is the event loop's and the kernel's.
"""

import asyncio
from typing import cast

import uvloop

from loadtest.peers.bare_aiohttp import BODY, HEADERS
from loadtest.peers.serving import announce

_ANSWER = (
    b"HTTP/1.1 201 Created\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()).encode()
    + b"Date: Thu, 01 Jul 2027 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
_LENGTH = b"\r\nContent-Length: "


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._held = b""

    def data_received(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        while (head_end := data.find(b"\r\n\r\n")) >= 0:
            at = data.find(_LENGTH, 0, head_end)
            end = head_end + 4
            if at >= 0:
                end += int(data[at + len(_LENGTH) : data.index(b"\r\n", at + 2)])
            if end > len(data):
                break
            self._transport.write(_ANSWER)
            data = data[end:]
        self._held = data


async def _serve() -> None:
    ended = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", 0, backlog=4_096
    )
    async with server:
        announce(server.sockets[0].getsockname()[1], ended.set)
        await ended.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
