"""Voters: a lean load generator for POST /v1/likes, in a process of its own.

    python -m loadtest.voters < order.json > report.json
    python -m loadtest.voters --in-step     says "ready" and begins at the next line of stdin

Closed loop: every connection sends the next like as soon as it has the answer to the last one;
that finds out how much a server can do. Open loop: the moments of sending are fixed beforehand
(Poisson, as independent people come) and a latency counts from the intended moment, so a server
that stalls is not let off by a generator that waits politely; that finds out how it feels.

One request at a time on a connection, prebuilt bytes, an answer read no further than its status
and length: about 15 us of CPU per like on a machine where aiohttp's answer costs 100. The report
says what it was. Loopback only, unless the order allows another host by name.
"""

import asyncio
import collections
import contextlib
import http.client
import ipaddress
import itertools
import json
import math
import random
import signal
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from loadtest.crowds import (
    HOST,
    ORIGIN,
    address_of,
    build_get,
    build_post,
    build_request,
    build_requests,
    plan_likes,
    with_another_click,
)
from loadtest.histograms import fold
from loadtest.mixes import KINDS, OVERLOADED
from loadtest.processes import Clock

_HEAD_BYTES_MAX = 16_384
_DRAIN_SECONDS_MAX = 5.0
_TICK_SECONDS = 0.001
_RECONNECTS_MAX = 1_000
_CONNECT_AT_ONCE = 64
_KINDS = tuple(KINDS)
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_LIKES, _AGAIN, _COUNTS, _COUNTS_KNOWN = map(
    _NUMBER.__getitem__, ("likes", "again", "counts", "counts-known")
)
_MADE_LATE = ("repeats", "again", "counts", "counts-known")
_REPEATS_HELD = 4_096
"""Acknowledged likes that wait to be repeated."""


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What to do."""

    port: int
    campaign: str
    candidates: list[str]
    tokens_file: str
    """One device token a line."""
    first_token: int = 0
    seed: int = 1
    host: str = "127.0.0.1"
    likes_per_device: tuple[int, int] = (1, 10)
    devices: int | None = None
    """So many devices, and no more likes than they give; None = as many as there is time for."""
    connections: int = 128
    rate_per_second: float | None = None
    """Open loop at this rate; None = closed loop."""
    requests_max: int = 1_000_000
    """Prepared beforehand, some 800 bytes each; the run ends when they are used up."""
    warm_up_seconds: float = 1.0
    """Not measured."""
    seconds: float = 5.0
    """Measured, or less if the requests are used up before."""
    mix: dict[str, float] = msgspec.field(default_factory=lambda: {"likes": 1.0})
    """Kind of request, out of loadtest.mixes -> its weight."""
    rate_to_per_second: float | None = None
    """Open loop: the rate goes evenly from rate_per_second to this one over the measured time."""
    allowed: str | None = None
    """A host beyond loopback that its operator has named."""
    host_header: str = HOST
    origin: str = ORIGIN
    watched: dict[str, list[int]] = {}
    """Group -> pids whose CPU time is read when the measuring begins and when it ends."""


class KindReport(msgspec.Struct):
    """What was measured of one kind of request."""

    statuses: dict[int, int]
    histogram: str
    """HDR, microseconds, encoded."""


class SecondReport(msgspec.Struct):
    """One second of intended moments."""

    answers: int
    refused: int
    """503."""
    unexpected: int
    histogram: str


class Report(msgspec.Struct):
    """What happened. `measured` things are of the time after the warm-up."""

    measured_seconds: float
    measured_answers: dict[int, int]
    """By status."""
    cpu_us: dict[str, float]
    """CPU time per measured answer of each watched group, microseconds."""
    own_cpu_us: float
    """CPU time of this generator per measured answer."""
    busy: list[float]
    """Share of the measured time that each core of the machine was busy, whoever kept it so."""
    devices: int
    """How many tokens were used, from `first_token` on."""
    p50_ms: float = 0
    """From sending, in an open loop from the intended moment, to the whole answer."""
    p90_ms: float = 0
    p99_ms: float = 0
    max_ms: float = 0
    refused_p50_ms: float = 0
    """The same of the answers 503 alone."""
    refused_p99_ms: float = 0
    answers: dict[int, int] = {}
    """By status, over the whole run."""
    accepted: dict[str, int] = {}
    """Likes answered with 201 per candidate, over the whole run."""
    lost: int = 0
    """Requests whose connection ended before their answer, or that had none at the end."""
    kinds: dict[str, KindReport] = {}
    seconds: dict[int, SecondReport] = {}
    """Whole second since the measuring began -> what was sent in it."""
    own_busy: float = 0
    """Share of the measured time that this process was on a core."""
    send_lag_p99_ms: float = 0
    """Open loop: actual less intended moment where a connection was free; this generator's own
    delay. Its clock ticks once a millisecond, so about 1 is the best that there is."""
    interrupted: bool = False

    @property
    def per_second(self) -> float:
        """Measured answers a second, whatever their status."""
        return sum(self.measured_answers.values()) / self.measured_seconds


class BadAnswer(Exception):
    """The server sent what is not an answer, or not framed by a length."""


def read_answer(received: bytes) -> tuple[int, int] | None:
    """(status, bytes of the whole answer) of the answer that `received` begins with; None while
    it is not all there; BadAnswer."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        if len(received) > _HEAD_BYTES_MAX:
            raise BadAnswer("a head without an end")
        return None
    if not received.startswith(b"HTTP/1.1 ") or not received[9:12].isdigit():
        raise BadAnswer(repr(received[:40]))
    status = int(received[9:12])
    if status in (204, 304):
        return status, head_end + 4
    at = received.find(b"\r\nContent-Length: ", 0, head_end)
    if at < 0:
        at = received[:head_end].lower().find(b"\r\ncontent-length: ")
        if at < 0:
            raise BadAnswer("an answer without Content-Length")
    length = received[at + 18 : received.index(b"\r\n", at + 18)]
    if not length.isdigit():
        raise BadAnswer(f"Content-Length: {length!r}")
    whole = head_end + 4 + int(length)
    return (status, whole) if len(received) >= whole else None


def etag_of(answer: bytes) -> str:
    """The ETag of a whole answer, however its name is spelled; nothing where it has none."""
    head = answer[: answer.index(b"\r\n\r\n") + 2]
    at = head.lower().find(b"\r\netag: ")
    return "" if at < 0 else head[at + 8 : head.index(b"\r\n", at + 8)].decode("latin-1")


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values do not exceed; NaN of none."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def poisson_times(rate_per_second: float, seconds: float, seed: int) -> "array[float]":
    """Moments in [0, seconds) of independent arrivals."""
    dice = random.Random(seed)
    times = array("d")
    now = dice.expovariate(rate_per_second)
    while now < seconds:
        times.append(now)
        now += dice.expovariate(rate_per_second)
    return times


def ramp_times(first: float, last: float, seconds: float, seed: int) -> "array[float]":
    """The same with a rate that goes evenly from `first` to `last`."""
    if first == last:
        return poisson_times(first, seconds, seed)
    total = (first + last) / 2 * seconds
    slope = (last - first) / seconds
    # Unit arrivals, moved to where the expected number so far is theirs.
    return array(
        "d",
        (
            min(seconds, 2 * n / (first + math.sqrt(first * first + 2 * slope * n)))
            for n in poisson_times(1, total, seed)
        ),
    )


class _Voter(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._held = b""
        self.transport: asyncio.Transport | None = None
        self.request = -1
        """Number of the request in flight."""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: int, due: float) -> None:
        self.request, self.due = request, due
        assert self.transport is not None
        self.transport.write(self._run.requests[request] or self._run.made_now(request))

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        try:
            answer = read_answer(data)
            if answer is None:
                self._held = data
                return
            status, whole = answer
            if whole != len(data) or self.request < 0:
                raise BadAnswer("more than was asked for")
        except BadAnswer as why:
            self._run.bad_answer = str(why)
            assert self.transport is not None
            self.transport.abort()
            return
        self._held = b""
        self._run.answered(self, status, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._run.left(self)


class _Run:
    """One order carried out."""

    def __init__(self, order: Order) -> None:
        if order.host != order.allowed and not ipaddress.ip_address(order.host).is_loopback:
            raise ValueError(f"{order.host} is not loopback: load goes nowhere else")
        self._order = order
        self._clock = Clock(order.watched)
        self._due: array[float] | None = None
        self._prepare()
        self._repeats = bool(order.mix.get("repeats") or order.mix.get("again"))
        self._to_repeat: collections.deque[int] = collections.deque(maxlen=_REPEATS_HELD)
        self._etag = ""
        # A column each, of everything that was measured.
        self._latency_kinds = array("B")
        self._latency_statuses = array("H")
        self._latency_dues = array("d")
        self._lags = array("d")
        self._interrupted = False
        self.bad_answer: str | None = None
        self._next = 0
        self._began = 0.0
        self._sending = False
        self._voters: set[_Voter] = set()
        # First in, first out: a crowd does not prefer the connections that are warm.
        self._idle: collections.deque[_Voter] = collections.deque()
        self._in_flight = 0
        self._lost = 0
        self._reconnects = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._measured_from = math.inf
        self._latencies = array("d")
        self._answers: collections.Counter[int] = collections.Counter()
        self._answers_before: collections.Counter[int] = collections.Counter()
        self._accepted = [0] * len(order.candidates)
        self._used_up = asyncio.Event()
        self._drained = asyncio.Event()

    def _prepare(self) -> None:
        """Every request that can be made beforehand."""
        order = self._order
        whole_seconds = order.warm_up_seconds + order.seconds
        count = order.requests_max
        if order.rate_per_second is not None:
            first = order.rate_per_second
            self._due = poisson_times(
                first,
                whole_seconds if order.rate_to_per_second is None else order.warm_up_seconds,
                order.seed,
            )
            if order.rate_to_per_second is not None:
                ramp = ramp_times(first, order.rate_to_per_second, order.seconds, order.seed)
                self._due.extend(order.warm_up_seconds + moment for moment in ramp)
            count = min(count, len(self._due))
        kinds = random.Random(order.seed).choices(
            list(order.mix), list(order.mix.values()), k=count
        )
        likes = list(
            itertools.islice(
                plan_likes(
                    len(order.candidates),
                    seed=order.seed,
                    likes_per_device=order.likes_per_device,
                    devices=order.devices or count + 1,
                ),
                kinds.count("likes"),
            )
        )
        self._devices = 1 + max((like.device for like in likes), default=-1)
        with Path(order.tokens_file).open() as file:
            # One at least: what is no like may show a token too.
            end = order.first_token + max(1, self._devices)
            tokens = [line.rstrip("\n") for line in itertools.islice(file, order.first_token, end)]
        if len(tokens) < self._devices:
            raise ValueError(
                f"{self._devices} tokens are needed from line {order.first_token} on, "
                f"{order.tokens_file} has {len(tokens)}"
            )
        spare_token = tokens[0] if tokens else "none"
        given = build_requests(
            likes,
            campaign=order.campaign,
            candidates=order.candidates,
            tokens=tokens,
            seed=order.seed,
            host=order.host_header,
            origin=order.origin,
            view=_view_in_the_counts(order) if likes else "",
        )
        liked = (like.candidate for like in likes)
        self.requests: list[bytes] = []
        self._kinds = array("B")
        self._candidates = array("H")
        for number, kind in enumerate(kinds):
            if kind == "likes":
                request = next(given, None)
                if request is None:
                    break  # the devices have given all that they have
            else:
                request = self._build(kind, number, spare_token)
            self.requests.append(request)
            self._kinds.append(_NUMBER[kind])
            self._candidates.append(next(liked) if kind == "likes" else 0)

    def _build(self, kind: str, number: int, token: str) -> bytes:
        """A request that is no like; nothing where it can be made only when it is sent."""
        order = self._order
        if kind in _MADE_LATE:
            return b""
        at = address_of(number, order.seed + 1)
        host, origin = order.host_header, order.origin
        if kind == "devices":
            return build_post("/v1/devices", f'{{"campaign":"{order.campaign}"}}', at, host, origin)
        if kind == "proofs":
            proof = f'{{"token":"{token}"}}'
            return build_post("/v1/devices/proof", proof, at, host, origin)
        if kind == "counts-whole":
            return build_get(f"/v1/campaigns/{order.campaign}/counts", host, origin)
        if kind == "malformed":
            return build_post("/v1/likes", '{"token":', at, host, origin)
        if kind == "wrong-path":
            return build_get("/v1/nothing-here", host, origin)
        unknown = kind == "unknown-candidate"
        return build_request(
            order.campaign,
            "nobody-of-this-name" if unknown else order.candidates[0],
            token if unknown else "A" * len(token),
            f"{order.seed:08x}-{number:08d}",
            at,
            host,
            origin,
        )

    def made_now(self, request: int) -> bytes:
        """A request that hangs on an answer that came before. While no like was acknowledged
        that could be repeated, counts are asked for in its place."""
        kind = self._kinds[request]
        if kind != _COUNTS_KNOWN:
            if kind != _COUNTS and self._to_repeat:
                like = self.requests[self._to_repeat.popleft()]
                return like if kind == _AGAIN else with_another_click(like)
            self._kinds[request] = _COUNTS
        order = self._order
        path = f"/v1/campaigns/{order.campaign}/counts"
        etag = self._etag if request % 2 or kind == _COUNTS_KNOWN else ""
        return build_get(path, order.host_header, order.origin, etag)

    async def connect(self) -> None:
        """Open every connection; OSError where nobody listens."""
        waiting = iter(range(self._order.connections))
        try:
            while batch := list(itertools.islice(waiting, _CONNECT_AT_ONCE)):
                await asyncio.gather(*(self._connect() for _ in batch))
        except BaseException:
            self._abort()
            raise

    def stop_early(self) -> None:
        """End the run now; what was measured is reported."""
        self._interrupted = True
        self._used_up.set()

    def _abort(self) -> None:
        for voter in list(self._voters):
            if voter.transport is not None:
                voter.transport.abort()

    async def carry_out(self) -> Report:
        order = self._order
        ticking = None
        try:
            self._sending = True
            self._began = time.perf_counter()
            if not order.warm_up_seconds:
                self._begin_measuring()
            if self._due is None:
                while self._idle:
                    self._send_next(self._idle.popleft())
            else:
                ticking = asyncio.create_task(self._tick())
            if order.warm_up_seconds:
                await self._until_used_up(order.warm_up_seconds)
                self._begin_measuring()
            await self._until_used_up(order.seconds)
            report = self._end_measuring()
            self._sending = False
            await self._drain()
        finally:
            self._sending = False
            for task in (ticking, *self._connecting):
                if task is not None:
                    task.cancel()
            self._abort()
        ascending = sorted(self._latencies)
        report.p50_ms, report.p90_ms, report.p99_ms, report.max_ms = (
            (percentile(ascending, share) if ascending else 0.0) * 1e3
            for share in (0.5, 0.9, 0.99, 1)
        )
        refused = sorted(
            latency
            for latency, status in zip(self._latencies, self._latency_statuses, strict=True)
            if status == OVERLOADED
        )
        if refused:
            report.refused_p50_ms = percentile(refused, 0.5) * 1e3
            report.refused_p99_ms = percentile(refused, 0.99) * 1e3
        report.answers = dict(self._answers)
        report.accepted = dict(zip(order.candidates, self._accepted, strict=True))
        report.lost = self._lost + self._in_flight
        report.send_lag_p99_ms = percentile(sorted(self._lags), 0.99) * 1e3 if self._lags else 0
        report.interrupted = self._interrupted
        self._fold_into(report)
        return report

    def _fold_into(self, report: Report) -> None:
        """Latencies by kind and by second. Recording while we run would cost 3 us for each."""
        by_kind: dict[int, list[float]] = collections.defaultdict(list)
        by_second: dict[int, list[float]] = collections.defaultdict(list)
        statuses: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        refused: collections.Counter[int] = collections.Counter()
        unexpected: collections.Counter[int] = collections.Counter()
        for latency, kind, status, due in zip(
            self._latencies,
            self._latency_kinds,
            self._latency_statuses,
            self._latency_dues,
            strict=True,
        ):
            second = int(due - self._measured_from)
            by_kind[kind].append(latency)
            by_second[second].append(latency)
            statuses[kind][status] += 1
            if status == OVERLOADED:
                refused[second] += 1
            elif status not in KINDS[_KINDS[kind]].expected:
                unexpected[second] += 1
        report.kinds = {
            _KINDS[kind]: KindReport(dict(statuses[kind]), fold(latencies))
            for kind, latencies in by_kind.items()
        }
        report.seconds = {
            second: SecondReport(
                len(latencies), refused[second], unexpected[second], fold(latencies)
            )
            for second, latencies in sorted(by_second.items())
        }

    def _end_measuring(self) -> Report:
        """A report of the measured time; what is known only after the last answer is left out."""
        seconds = time.perf_counter() - self._began - self._measured_from
        groups, own, idle_seconds = self._clock.groups(), self._clock.own(), self._clock.idle()
        answers = self._answers - self._answers_before
        count = answers.total()
        if not count and not self._interrupted:
            raise BadAnswer(self.bad_answer or "no answer came in the measured time")
        count = max(count, 1)
        return Report(
            own_busy=own / seconds,
            measured_seconds=seconds,
            measured_answers=dict(answers),
            cpu_us={name: used / count * 1e6 for name, used in groups.items()},
            own_cpu_us=own / count * 1e6,
            busy=[1 - min(1.0, idle / seconds) for idle in idle_seconds],
            devices=self._devices,
        )

    def _begin_measuring(self) -> None:
        self._answers_before = self._answers.copy()
        self._clock.start()
        self._measured_from = time.perf_counter() - self._began

    def answered(self, voter: _Voter, status: int, answer: bytes) -> None:
        now = time.perf_counter() - self._began
        request = voter.request
        kind = self._kinds[request]
        if voter.due >= self._measured_from:
            self._measured(now - voter.due, kind, status, voter.due)
        self._answers[status] += 1
        if status == 201 and kind == _LIKES:
            # A repeat that is answered with 201 adds nothing: it is of a like that was counted.
            self._accepted[self._candidates[request]] += 1
            if self._repeats:
                self._to_repeat.append(request)
        elif status == 200 and kind in (_COUNTS, _COUNTS_KNOWN):
            self._etag = etag_of(answer)
        voter.request = -1
        self._in_flight -= 1
        if not self._sending:
            if not self._in_flight:
                self._drained.set()
        elif self._due is None:
            self._send_next(voter)
        elif self._next < len(self._due) and self._due[self._next] <= now:
            self._send(voter, self._due[self._next])
        else:
            self._idle.append(voter)

    def _measured(self, latency: float, kind: int, status: int, due: float) -> None:
        self._latencies.append(latency)
        self._latency_kinds.append(kind)
        self._latency_statuses.append(status)
        self._latency_dues.append(due)

    def left(self, voter: _Voter) -> None:
        """The connection ended; another takes its place as long as there is something to send."""
        self._voters.discard(voter)
        if voter.request >= 0:
            self._lost += 1
            self._in_flight -= 1
            if not self._in_flight:
                self._drained.set()
        elif voter in self._idle:
            self._idle.remove(voter)
        if self._sending and self._reconnects < _RECONNECTS_MAX:
            self._reconnects += 1
            task = asyncio.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _send_next(self, voter: _Voter) -> None:
        if self._next < len(self.requests):
            self._send(voter, time.perf_counter() - self._began)
        else:
            self._used_up.set()

    def _send(self, voter: _Voter, due: float) -> None:
        self._in_flight += 1
        voter.send(self._next, due)
        self._next += 1

    async def _connect(self) -> None:
        try:
            _, voter = await asyncio.get_running_loop().create_connection(
                lambda: _Voter(self), self._order.host, self._order.port
            )
        except OSError:
            if not self._sending:
                raise  # nobody is there
            return
        self._voters.add(voter)
        if self._sending and self._due is None:
            self._send_next(voter)
        else:
            self._idle.append(voter)

    async def _tick(self) -> None:
        """Open loop: send what is due. What finds no free connection goes with the first that
        gets free, late, and its latency says so."""
        assert self._due is not None
        while self._sending and self._next < len(self.requests):
            now = time.perf_counter() - self._began
            while self._idle and self._next < len(self.requests) and self._due[self._next] <= now:
                self._lags.append(now - self._due[self._next])
                self._send(self._idle.popleft(), self._due[self._next])
            await asyncio.sleep(_TICK_SECONDS)
        self._used_up.set()

    async def _until_used_up(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._used_up.wait(), seconds)

    async def _drain(self) -> None:
        if self._in_flight:
            self._drained.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), _DRAIN_SECONDS_MAX)
        # What is still unanswered has waited at least so long.
        now = time.perf_counter() - self._began
        for voter in self._voters:
            if voter.request >= 0 and voter.due >= self._measured_from:
                self._measured(now - voter.due, self._kinds[voter.request], 0, voter.due)


def _view_in_the_counts(order: Order) -> str:
    """The view that the page's counts bring, which its likes then carry; "" from a service that
    has none."""
    connection = http.client.HTTPConnection(order.host, order.port, timeout=1)
    try:
        connection.request("GET", f"/v1/campaigns/{order.campaign}/counts")
        counts = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()
    view = counts.get("view") if isinstance(counts, dict) else None
    return view if isinstance(view, str) else ""


async def carry_out(order: Order, *, in_step: bool = False) -> Report:
    """One order, in this process. Raises OSError where nobody listens, BadAnswer where what
    answers does not speak HTTP as we read it. SIGINT ends it early, with a report."""
    run = _Run(order)
    await run.connect()
    if in_step:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, run.stop_early)
        print("ready", file=sys.stderr, flush=True)
        await loop.run_in_executor(None, sys.stdin.buffer.readline)
    report = await run.carry_out()
    if run.bad_answer is not None:
        raise BadAnswer(run.bad_answer)
    return report


def main() -> None:
    in_step = "--in-step" in sys.argv[1:]
    asked = sys.stdin.buffer.readline() if in_step else sys.stdin.buffer.read()
    order = msgspec.json.decode(asked, type=Order)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(carry_out(order, in_step=in_step))
    except (BadAnswer, OSError, ValueError) as why:
        if not in_step:
            raise
        print(f"{type(why).__name__}: {why}", file=sys.stderr)
        sys.exit(1)
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
