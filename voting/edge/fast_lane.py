"""The fast lane: the hot requests answered straight from their bytes, all others by aiohttp.

A connection begins in the lane. Each request is looked at by itself: a well-formed, wholly framed
`POST /v1/likes`, `POST /v1/devices`, `POST /v1/devices/proof` or
`GET /v1/campaigns/{campaign}/counts` is answered here; every other one is fed byte for byte to an
aiohttp connection that stands behind this one and is made when it is first needed. Once aiohttp has
answered, the next request is looked at again.

Both ways work with the same functions on the same facts (`read_tap`, `put_tap`, `answer_tap`,
`new_device`, `proven_device`, `counts_answer`), so they differ in speed alone; a property test
holds them together, and DIANZAN_FAST_LANE=off leaves aiohttp alone.

Whose turn it is: never do both have a request of one connection at a time, so answers cannot
overtake each other. While ballots of this connection are on their way, a request for aiohttp waits
in `_held` and nothing more is read; while aiohttp works, all that comes is aiohttp's. To know where
its requests end, the lane frames them itself (heads.py) and takes the next request back only if
aiohttp agrees that the last one is whole. Where the two might ever disagree (an upgrade,
a head or a chunk that heads.py does not take) the connection is aiohttp's for good.

In an overload, when the ballot box is full, only some are looked at, to be refused (503); the rest
wait in their order, whatever they ask for. How long is bounded by the cap on connections: 10,000
of them at 20,000 likes a second wait half a second. With DIANZAN_FAST_LANE=off all are refused at
once.

Owner: one `FastLane` per edge process. Where a client hangs up with a like on its way, the vote
stands, and the same click finds its answer later.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec
import structlog

from voting.ballot import Cast
from voting.edge import protocol
from voting.edge.answers import LAST, Answer, refusal
from voting.edge.bodies import USUAL_JSON_TYPES
from voting.edge.client_facts import Client
from voting.edge.compressed import accepts_gzip
from voting.edge.counts import counts_answer
from voting.edge.devices import new_device, proven_device
from voting.edge.heads import HEAD_END, ChunkedBody, Head, read_head
from voting.edge.likes import Tap, answer_tap, put_tap, read_tap
from voting.edge.parts import Edge
from voting.edge.protocol import BODY_BYTES_MAX, EdgeProtocol
from voting.edge.sender import Sender, peer_address
from voting.pseudonyms import Place
from voting.remembered import remember

log = structlog.get_logger()

PIPELINED_MAX = 32
"""Requests of one connection whose answers are on their way; what comes after them waits."""

_HEAD_BYTES_MAX = 16_384
"""A longer head is aiohttp's, which has limits of its own and says so."""

_CAME_BYTES_MAX = 65_536
"""Received on one connection and not looked at yet; more is not read."""

_REFUSED_AT_MOST = 2_500
"""Likes refused for overload in a second. Reading and refusing one costs half as much as counting
one, so whoever refuses all that is too much soon does nothing else; this keeps it to 5 % of a
core. What comes beyond waits on its connection until there is room."""
_REFUSALS_EVERY_SECONDS = 0.01

_HEADS_KNOWN = 4_096
"""Who likes once likes again, and its head is the same: looking it up costs 0.5 us, reading it 5.
Some 2 kB each, and 5 at most, for longer heads are read anew."""
_HEAD_BYTES_KNOWN_MAX = 2_048

_LIKE, _DEVICE, _PROOF, _ELSE = "likes", "devices", "proof", ""
_ROUTES = {b"/v1/likes": _LIKE, b"/v1/devices": _DEVICE, b"/v1/devices/proof": _PROOF}
_COUNTS = re.compile(rb"/v1/campaigns/([a-z0-9-]+)/counts")


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A head, and what the lane makes of it."""

    sender: Sender
    place: Place | None
    """Where it comes from; of likes alone."""
    client: Client | None
    """The program that sent it; of likes alone."""
    route: str
    """_LIKE, _DEVICE, _PROOF, "/" and a campaign's id (its counts), or _ELSE: not for the lane."""
    body_bytes: int
    chunked: bool
    if_none_match: str | None
    gzip: bool
    """Whether its client takes gzip; of counts alone, no other answer of the lane is compressed."""


class _OnItsWay(msgspec.Struct, gc=False):
    """One request that the lane has taken; its answer waits for those before it. Its connection
    forgets it when it is answered, or lost: so the collector need not see it."""

    connection: "LaneConnection"
    tap: Tap | None
    wire: bytes | None = None

    def landed(self, cast: Cast) -> None:
        """What became of the like is known."""
        connection = self.connection
        assert self.tap is not None
        try:
            self.wire = answer_tap(connection.lane.edge, self.tap, cast).wire()
            connection.send_answered()
        except Exception:
            connection.fail()  # its client would wait for ever


def _route(head: Head) -> str:
    if not head.plain or head.body_bytes is None:
        return _ELSE
    if head.method == b"POST":
        ours = head.content_type in USUAL_JSON_TYPES and 0 < head.body_bytes <= BODY_BYTES_MAX
        return _ROUTES.get(head.target, _ELSE) if ours else _ELSE
    if head.method == b"GET" and not head.body_bytes:
        counts = _COUNTS.fullmatch(head.target)
        return f"/{counts[1].decode()}" if counts else _ELSE
    return _ELSE


def key_of(peer: str) -> bytes:
    """What a peer's heads are remembered under, before their bytes."""
    return peer.encode() + b"\n"


class FastLane:
    """What all connections of one edge share."""

    def __init__(
        self, edge: Edge, make_behind: Callable[[], EdgeProtocol], *, connections_max: int
    ) -> None:
        """`make_behind` makes the aiohttp connection behind one of ours."""
        self.edge = edge
        self.make_behind = make_behind
        self.connections: set[LaneConnection] = set()
        self.connections_refused = 0
        self.draining = False
        self._connections_max = connections_max
        self._refusals_since = 0.0
        self._refusals = 0
        self._came: deque[LaneConnection] = deque()
        """Connections on which something came that was not looked at yet, in their order."""
        self._serving = False
        """`_serve_all` is at work, or called with the next turn of the loop."""
        self._coming_back = False
        """`_come_back` is called soon."""
        self.known: dict[bytes, _Known] = {}
        """By the peer's address, a line break and the head's bytes."""
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time

    def __call__(self) -> "LaneConnection":
        return LaneConnection(self)

    @property
    def full(self) -> bool:
        return len(self.connections) >= self._connections_max

    def came(self, connection: "LaneConnection") -> None:
        """Serve it when all that came with this turn of the loop has been received: one after the
        other they find the processor's caches warm, and not full of the kernel's reading. Saves 3 %
        of the edge's part of a like."""
        self._came.append(connection)
        self.go_on()

    def go_on(self) -> None:
        if self._came and not self._serving:
            self._serving = True
            self._loop.call_soon(self._serve_all)

    def _serve_all(self) -> None:
        came, box = self._came, self.edge.ballot_boxes
        while came:
            if box.full and not self._may_refuse():
                # They wait, at no cost, for the next answers of the store or for the next moment
                # in which some may be refused.
                if not self._coming_back:
                    self._coming_back = True
                    self._loop.call_later(_REFUSALS_EVERY_SECONDS, self._come_back)
                break
            connection = came.popleft()
            try:
                connection.serve_came()
            except Exception:
                # One connection's defect must not cost those behind it theirs.
                connection.fail()
        self._serving = False

    def _come_back(self) -> None:
        self._coming_back = False
        self.go_on()

    def _may_refuse(self) -> bool:
        """Whether one more request may be looked at to be refused for overload."""
        if self.edge.ballot_boxes.stand_still:
            return True  # none is counted that it could cost anything
        now = self.now()
        if now - self._refusals_since >= _REFUSALS_EVERY_SECONDS:
            self._refusals_since, self._refusals = now, 0
        self._refusals += 1
        return self._refusals <= _REFUSED_AT_MOST * _REFUSALS_EVERY_SECONDS

    def read(self, packed: bytes, peer: str) -> _Known | None:
        """What to make of a head, which is remembered; None = it is not understood here."""
        head = read_head(packed) if len(packed) <= _HEAD_BYTES_MAX else None
        if head is None:
            return None
        sender = Sender(
            peer,
            head.host,
            head.origin,
            head.forwarded_for,
            head.user_agent,
            head.accepts_language,
            head.fetch_metadata,
            head.tls_fingerprint,
        )
        route = _route(head)
        place = client = None
        gzip = False
        if route == _LIKE:
            addresses = self.edge.client_address
            place = addresses.place(sender)
            client = addresses.client(sender)
        elif route.startswith("/"):
            gzip = accepts_gzip(head.accept_encoding)
        known = _Known(
            sender,
            place,
            client,
            route,
            head.body_bytes or 0,
            head.body_bytes is None,
            head.if_none_match,
            gzip,
        )
        if len(packed) > _HEAD_BYTES_KNOWN_MAX:
            return known
        return remember(self.known, key_of(peer) + packed, known, _HEADS_KNOWN)

    def end_late(self) -> None:
        """Close what is overdue. Called each second: one look over all connections is cheaper
        than a timer for each request."""
        now = self.now()
        for connection in list(self.connections):
            connection.end_if_late(now)

    async def drain(self, seconds: float) -> None:
        """Let no connection go on: each one's next answer says that it is the last, and who asks
        for nothing is closed after a while. What is not over after so many seconds is broken off.
        Known weakness: a client that keeps an idle connection for longer than that while, and asks
        at the moment in which it is closed, must ask again."""
        self.draining = True
        began = self.now()
        deadline = began + seconds
        while self.connections and self.now() < deadline:
            quiet_since = self.now() - protocol.QUIET_SECONDS
            if quiet_since >= began:
                for connection in list(self.connections):
                    connection.end_if_idle(quiet_since)
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()


class LaneConnection(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_active_at",
        "_awaits_body",
        "_behind",
        "_blocked",
        "_body_left",
        "_came",
        "_chunks",
        "_fed",
        "_given_away",
        "_held",
        "_held_since",
        "_on_their_way",
        "_peer",
        "_peer_key",
        "_transport",
        "_unread_bytes",
        "_writing_paused",
        "lane",
    )

    def __init__(self, lane: FastLane) -> None:
        self.lane = lane
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._peer_key = b""
        self._active_at = 0.0
        """When its client last sent something, or took something of what it did not read yet."""
        self._came = b""
        """Received and not looked at yet."""
        self._held = b""
        """Looked at, and not served yet: the beginning of a request, or requests that wait."""
        self._held_since = 0.0
        """Since when a head, or a body, is awaited; 0 = none is."""
        self._awaits_body = False
        self._on_their_way: list[_OnItsWay] = []
        self._blocked = False
        """Nothing is read, and what is held waits until all that is on its way is answered."""
        self._writing_paused = False
        self._unread_bytes = 0
        """Of answers, that the kernel did not take yet when it was last looked at."""
        self._behind: EdgeProtocol | None = None
        self._fed = 0
        """Requests handed to it."""
        self._body_left = 0
        """Bytes of the last one that have not come yet."""
        self._chunks: ChunkedBody | None = None
        """The last one's body, where it comes in chunks and is not whole yet."""
        self._given_away = False
        """For good: all that comes is aiohttp's."""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        lane = self.lane
        if lane.full:
            lane.connections_refused += 1
            self._transport.abort()
            return
        self._peer = peer_address(transport.get_extra_info("peername"))
        self._peer_key = key_of(self._peer)
        self._active_at = self._held_since = lane.now()
        lane.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lane.connections.discard(self)
        self._came = self._held = b""
        self._on_their_way.clear()
        if self._behind is not None:
            self._behind.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._active_at = self.lane.now()
        if self._given_away:
            assert self._behind is not None
            self._behind.data_received(data)
        elif self._came:
            self._came += data
            if len(self._came) > _CAME_BYTES_MAX and self._transport is not None:
                self._transport.pause_reading()
        else:
            self._came = data
            self.lane.came(self)

    def serve_came(self) -> None:
        """Look at what was received."""
        data, self._came = self._came, b""
        if not data or self._transport is None or self._transport.is_closing():
            return  # the client hung up, or is not to be served any more
        if len(data) > _CAME_BYTES_MAX:
            self._transport.resume_reading()
        if self._given_away:
            assert self._behind is not None
            self._behind.data_received(data)
            return
        if self._held:
            data = self._held + data
            if self._blocked:
                self._held = data
                return
        self._take(data)

    def eof_received(self) -> None:
        self.serve_came()
        if self._behind is not None:
            self._behind.eof_received()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._unread_bytes = 0
        if self._behind is not None:
            self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._active_at = self.lane.now()  # who reads is there, though it sends nothing for long
        if self._behind is not None:
            self._behind.resume_writing()
        self._go_on()

    # One request after the other.

    def _take(self, data: bytes) -> None:
        """Serve what is whole in `data`, hold the rest."""
        at, known_heads, known = 0, self.lane.known, None
        while at < len(data):
            if self._body_left or self._chunks is not None:
                at = self._feed_body(data, at)
                continue
            head_end = data.find(HEAD_END, at) + len(HEAD_END)
            if head_end < len(HEAD_END):
                if len(data) - at > _HEAD_BYTES_MAX:
                    self._give_away(data[at:])
                    return
                known = None
                break
            head = data[at:head_end]
            known = known_heads.get(self._peer_key + head) or self.lane.read(head, self._peer)
            if known is None:
                self._give_away(data[at:])
                return
            if known.route and (self._behind is None or self._behind.waits):
                end = head_end + known.body_bytes
                if end > len(data):
                    break
                if self._writing_paused or len(self._on_their_way) >= PIPELINED_MAX:
                    self._block(data[at:])
                    return
                if self._serve(known, data[head_end:end]):
                    at = end
                    continue
            # It is aiohttp's, once all before it are answered.
            if self._on_their_way:
                self._block(data[at:])
                return
            self._fed += 1
            self._body_left = known.body_bytes
            self._chunks = ChunkedBody() if known.chunked else None
            if not self._feed(head, not (known.body_bytes or known.chunked)):
                self._give_away(data[head_end:])
                return
            at = head_end
        self._held = data[at:]
        if not self._held:
            self._held_since = 0.0
        elif at or not self._held_since or self._awaits_body is (known is None):
            self._held_since = self._active_at
            self._awaits_body = known is not None

    def _serve(self, known: _Known, body: bytes) -> bool:
        """Answer one request, now or when its ballot has landed; False = aiohttp must."""
        edge = self.lane.edge
        answer: Answer | None
        if known.route == _LIKE:
            assert known.place is not None
            assert known.client is not None
            tap = read_tap(edge, body, known.sender, known.place, known.client)
            if isinstance(tap, Tap):
                request = _OnItsWay(self, tap)
                self._on_their_way.append(request)
                edge.metrics.in_lane += 1
                put_tap(edge, tap, request.landed)
                return True
            answer = tap
        elif known.route == _DEVICE:
            answer = new_device(edge, body, known.sender)
        elif known.route == _PROOF:
            answer = proven_device(edge, body, known.sender)
            if answer is None:
                return False  # a solution: it waits for its time and for the store
        else:
            campaign = edge.catalog.campaigns.get(known.route[1:])
            if campaign is None:
                return False
            answer = counts_answer(edge, campaign, known.if_none_match, gzip=known.gzip)
            if answer is None:
                return False
        edge.metrics.in_lane += 1
        self._on_their_way.append(_OnItsWay(self, None, answer.wire()))
        self.send_answered()
        return True

    def send_answered(self) -> None:
        """Write the answers that are there and whose turn it is."""
        self.lane.go_on()
        ours, transport = self._on_their_way, self._transport
        if transport is None or transport.is_closing():
            ours.clear()  # the client hung up
            return
        while ours and (wire := ours[0].wire) is not None:
            del ours[0]
            if not ours and self.lane.draining:
                # Behind the first line; made here, for it is asked of no other like.
                wire = wire.replace(b"\r\n", b"\r\n" + LAST, 1)
            transport.write(wire)
        if not ours:
            if self.lane.draining:
                transport.close()
            elif self._blocked:
                self._go_on()

    def _block(self, rest: bytes) -> None:
        """Read no more until all that is on its way is answered and written."""
        self._held = rest
        self._blocked = True
        assert self._transport is not None
        self._transport.pause_reading()

    def _go_on(self) -> None:
        transport = self._transport
        if (
            self._blocked
            and not self._on_their_way
            and not self._writing_paused
            and transport is not None
            and not transport.is_closing()
        ):
            self._blocked = False
            transport.resume_reading()
            held, self._held = self._held, b""
            self._take(held)

    # Aiohttp behind.

    def _feed(self, data: bytes, ends: bool) -> bool:
        """Hand bytes of one request to aiohttp. `ends`: the request's last ones; then False =
        aiohttp does not see its end here, or has not begun it."""
        behind = self._behind
        if behind is None:
            behind = self._open_behind()
        behind.data_received(data)
        return not ends or behind.has_whole(self._fed)

    def _feed_body(self, data: bytes, at: int) -> int:
        """Hand on what of `data` from `at` on is the body of aiohttp's request; where it ends in
        `data`. Where aiohttp sees another end, all the rest is handed on."""
        chunks = self._chunks
        if chunks is None:
            end: int | None = min(at + self._body_left, len(data))
            assert end is not None
            self._body_left -= end - at
            ended = not self._body_left
        else:
            end = chunks.end_in(data, at)
            ended = chunks.ended
            if ended:
                self._chunks = None
        if end is None or not self._feed(data[at:end], ended):
            self._give_away(data[at if end is None else end :])
            return len(data)
        return end

    def _give_away(self, rest: bytes) -> None:
        """From here on all is aiohttp's, once what is on its way is answered."""
        if self._on_their_way:
            self._block(rest)
            return
        self._given_away = True
        self._held = b""
        behind = self._behind or self._open_behind()
        if rest:
            behind.data_received(rest)

    def _open_behind(self) -> EdgeProtocol:
        assert self._transport is not None
        behind = self._behind = self.lane.make_behind()
        behind.connection_made(self._transport)
        if self._writing_paused:
            behind.pause_writing()
        return behind

    # The end.

    def end_if_late(self, now: float) -> None:
        """Close where a head or a body is overdue, or nothing came and nothing was taken for long.
        Called each second: so what is unread is seen to shrink. Known weakness: who takes a little
        now and then stays, as one who asks for a little now and then does; connections are capped.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._came:
            return  # it is we who are late
        if self._writing_paused:
            # One large answer is written at once, and goes on being read without `resume_writing`.
            unread = transport.get_write_buffer_size()
            if unread < self._unread_bytes:
                self._active_at = now
            self._unread_bytes = unread
        if self._held_since and not self._blocked and not self._given_away:
            most = protocol.BODY_SECONDS_MAX if self._awaits_body else protocol.HEAD_SECONDS_MAX
            if now - self._held_since > most:
                if self._awaits_body:
                    transport.write(refusal("late").wire(LAST))
                transport.close()
        elif now - self._active_at > protocol.KEEP_ALIVE_SECONDS and (
            self._idle or self._writing_paused
        ):
            # Who does not read its answers either is gone for all we know.
            transport.abort() if self._writing_paused else transport.close()

    def end_if_idle(self, quiet_since: float) -> None:
        """Close where no request is under way, and nothing has come since then."""
        if self._transport is not None and self._idle and self._active_at <= quiet_since:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def fail(self) -> None:
        """A defect of ours: say so, and end this connection, whose state is not known any more."""
        log.exception("connection-defect")
        self.abort()

    @property
    def _idle(self) -> bool:
        """No whole request is under way here or behind."""
        return not (self._came or self._on_their_way) and (
            self._behind is None or self._behind.waits
        )
