"""The edge's HTTP connections: aiohttp's, with the deadlines and limits that it lacks.

aiohttp 3.14 waits for a request's head as long as its client likes, logs a traceback for every
malformed request with the client's address in it, and has no cap on connections.
"""

import asyncio
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from voting.edge.answers import problem

log = structlog.get_logger()

HEAD_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 10.0
KEEP_ALIVE_SECONDS = 75.0
_FOREVER_SECONDS = 1e9
BODY_BYTES_MAX = 4_096
QUIET_SECONDS = 1.0
"""An edge that ends closes a connection on which nothing was asked for so long. Longer than a proxy
keeps an idle one (deploy/nginx: 500 ms): then it is the proxy who closes, and never we, under a
request that just left."""


class EdgeProtocol(RequestHandler):
    """One connection."""

    __slots__ = ("_last_body", "head_since")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.head_since = self._loop.time()
        self._last_body: StreamReader = EMPTY_PAYLOAD
        server = self._manager
        assert isinstance(server, EdgeServer)
        if len(server._connections) >= server.connections_max:
            server.connections_refused += 1
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)

    async def start(self) -> None:
        # Behind the fast lane a connection may be made for what a client sent before it hung up.
        if self._manager is not None:
            await super().start()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if not self._last_body.is_eof():
            # aiohttp tells the handler that runs. One that begins now would take the rest of its
            # body, which never comes, for a defect.
            self._last_body.set_exception(ConnectionResetError("the client hung up"))

    def data_received(self, data: bytes) -> None:
        body, requests = self._last_body, self._request_count
        awaited = not self._messages and not body.is_eof()
        super().data_received(data)
        if awaited and body.is_eof() and self._parser is not None:
            # Its request was taken from the queue before it was whole, which aiohttp's parser does
            # not see: it thinks from then on that one more waits, stops one short of a full queue,
            # and holds back what is pipelined behind that until more comes.
            self._parser.message_consumed()
            super().data_received(b"")
        if self._request_count > requests and self._messages:
            message, self._last_body = self._messages[-1]
            if isinstance(message, _ErrInfo) and not body.is_eof():
                # It broke in the middle of a body, for whose rest a handler would wait.
                body.set_exception(web.RequestPayloadError(message.message))
        # A head is awaited from its first byte on, until the request that it begins is there. One
        # that begins in the same segment as an earlier request's end is not seen to begin: the
        # keep-alive's end bounds it.
        if self._messages or self._request_in_progress:
            self.head_since = 0.0
        elif not self.head_since:
            self.head_since = self._loop.time()

    @property
    def waits(self) -> bool:
        """Whether it has answered all that came and waits for the next request."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages

    def has_whole(self, requests: int) -> bool:
        """Whether so many requests have come, and the last one is all there."""
        return self._request_count == requests and self._last_body.is_eof()

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp feeds its parser anew at each read of a body, whether anything was paused or not:
        # 5 % of a like.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse (4xx: no log, the client's matter) or a defect of
        ours (500: logged, without whose request it was)."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client hung up in the middle of its request
        if status >= 500:
            log.error("defect", path=request.path, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was under way already")
        answer = problem("malformed" if status < 500 else "defect", status=status)
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        why = kw.get("exc_info")
        if not isinstance(why, (web.RequestPayloadError, ConnectionError)):  # the client's matter
            log.error("connection-defect", exc_info=why)


class EdgeServer(web.Server):
    """Makes connections and ends those whose head does not come."""

    def __init__(self, handler: Any, *, connections_max: int, **options: Any) -> None:
        self.draining = False
        """Set when the edge ends: each answer is its connection's last, and says so."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request)
            if self.draining:
                answer.force_close()
            return answer

        super().__init__(
            handle,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=2.0,
            # A compressed body is refused; it must not be unpacked first.
            auto_decompress=False,
            access_log=None,
            **options,
        )
        self.connections_max = connections_max
        self.connections_refused = 0

    def __call__(self) -> RequestHandler:
        return EdgeProtocol(self, loop=self._loop, **self._kwargs)

    async def until_left(self, seconds: float) -> None:
        """Until nobody is connected, or so many seconds have passed."""
        deadline = self._loop.time() + seconds
        # aiohttp tells nobody when one is lost.
        while self.connections and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def behind(self) -> EdgeProtocol:
        """A connection behind one of the fast lane, which keeps the time for both."""
        ours = {**self._kwargs, "keepalive_timeout": _FOREVER_SECONDS}
        return EdgeProtocol(self, loop=self._loop, **ours)

    def end_late(self) -> None:
        """Close connections whose head is overdue. Called each second: one look over all of them
        is cheaper than a timer for each request."""
        overdue = self._loop.time() - HEAD_SECONDS_MAX
        for connection in self.connections:
            assert isinstance(connection, EdgeProtocol)
            since = connection.head_since
            if since and since < overdue and not connection._request_in_progress:
                connection.force_close()
