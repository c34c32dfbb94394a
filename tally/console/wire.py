"""What uvicorn leaves open: a deadline for a request's head and for its body. Without them whoever
opens connections and says nothing keeps them for ever, and the console has app.CONNECTIONS_MAX."""

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_WITHIN_SECONDS = 10.0
"""From the connection, or from the first byte after another answer, to the head's end."""
BODY_WITHIN_SECONDS = 30.0
BODY_BYTES_A_SECOND = 100_000
"""A larger body gets as much more time as it takes at this rate."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's, with HEAD_WITHIN_SECONDS: a connection that is late is closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._late is None:
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(HEAD_WITHIN_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def with_deadline(receive: Receive, headers: Headers) -> Receive:
    """`receive`, to which a body that is late is one whose sender went away."""
    said = headers.get("content-length", "")
    length = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0
    until = asyncio.get_running_loop().time() + BODY_WITHIN_SECONDS + length / BODY_BYTES_A_SECOND
    whole = False

    async def receive_in_time() -> Message:
        nonlocal whole
        if whole:
            return await receive()  # waits for the end of the connection: as long as it likes
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        whole = not message.get("more_body", False)
        return message

    return receive_in_time
