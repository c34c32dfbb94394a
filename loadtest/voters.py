"""Voters: a lean load generator for POST /v1/likes, in a process of its own.

    python -m loadtest.voters < order.json > report.json

Closed loop: every connection sends the next like as soon as it has the answer to the last one;
that finds out how much a server can do. Open loop: the moments of sending are fixed beforehand
(Poisson, as independent people come) and a latency counts from the intended moment, so a server
that stalls is not let off by a generator that waits politely; that finds out how it feels.

One request at a time on a connection, prebuilt bytes, an answer read no further than its status
and length: about 15 us of CPU per like on a machine where aiohttp's answer costs 100. The report
says what it was. Loopback only.
"""

import asyncio
import collections
import contextlib
import itertools
import math
import random
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from loadtest.crowds import build_requests, plan_likes
from loadtest.processes import Clock

_HEAD_BYTES_MAX = 16_384
_DRAIN_SECONDS_MAX = 5.0
_TICK_SECONDS = 0.001
_RECONNECTS_MAX = 1_000
_CONNECT_AT_ONCE = 64
_LOOPBACK = ("127.0.0.1", "::1")


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
    watched: dict[str, list[int]] = {}
    """Group -> pids whose CPU time is read when the measuring begins and when it ends."""


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
    answers: dict[int, int] = {}
    """By status, over the whole run."""
    accepted: dict[str, int] = {}
    """Likes answered with 201 per candidate, over the whole run."""
    lost: int = 0
    """Requests whose connection ended before their answer, or that had none at the end."""

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
        self.transport.write(self._run.requests[request])

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
        self._run.answered(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._run.left(self)


class _Run:
    """One order carried out."""

    def __init__(self, order: Order) -> None:
        if order.host not in _LOOPBACK:
            raise ValueError(f"{order.host} is not loopback: load goes nowhere else")
        self._order = order
        self._clock = Clock(order.watched)
        whole_seconds = order.warm_up_seconds + order.seconds
        self._due: array[float] | None = None
        count = order.requests_max
        if order.rate_per_second is not None:
            self._due = poisson_times(order.rate_per_second, whole_seconds, order.seed)
            count = min(count, len(self._due))
        likes = list(
            itertools.islice(
                plan_likes(
                    len(order.candidates),
                    seed=order.seed,
                    likes_per_device=order.likes_per_device,
                    devices=order.devices or count + 1,
                ),
                count,
            )
        )
        self._devices = 1 + max(like.device for like in likes)
        with Path(order.tokens_file).open() as file:
            tokens = [
                line.rstrip("\n")
                for line in itertools.islice(
                    file, order.first_token, order.first_token + self._devices
                )
            ]
        if len(tokens) < self._devices:
            raise ValueError(
                f"{self._devices} tokens are needed from line {order.first_token} on, "
                f"{order.tokens_file} has {len(tokens)}"
            )
        self._candidates = array("H", (like.candidate for like in likes))
        self.requests = list(
            build_requests(
                likes,
                campaign=order.campaign,
                candidates=order.candidates,
                tokens=tokens,
                seed=order.seed,
            )
        )
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

    async def carry_out(self) -> Report:
        order = self._order
        ticking = None
        try:
            waiting = iter(range(order.connections))
            while batch := list(itertools.islice(waiting, _CONNECT_AT_ONCE)):
                await asyncio.gather(*(self._connect() for _ in batch))
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
            for voter in list(self._voters):
                if voter.transport is not None:
                    voter.transport.abort()
        ascending = sorted(self._latencies)
        report.p50_ms, report.p90_ms, report.p99_ms, report.max_ms = (
            percentile(ascending, share) * 1e3 for share in (0.5, 0.9, 0.99, 1)
        )
        report.answers = dict(self._answers)
        report.accepted = dict(zip(order.candidates, self._accepted, strict=True))
        report.lost = self._lost + self._in_flight
        return report

    def _end_measuring(self) -> Report:
        """A report of the measured time; what is known only after the last answer is left out."""
        seconds = time.perf_counter() - self._began - self._measured_from
        groups, own, idle_seconds = self._clock.groups(), self._clock.own(), self._clock.idle()
        answers = self._answers - self._answers_before
        count = answers.total()
        if not count:
            raise BadAnswer(self.bad_answer or "no answer came in the measured time")
        return Report(
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

    def answered(self, voter: _Voter, status: int) -> None:
        now = time.perf_counter() - self._began
        if voter.due >= self._measured_from:
            self._latencies.append(now - voter.due)
        self._answers[status] += 1
        if status == 201:
            self._accepted[self._candidates[voter.request]] += 1
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
        while self._next < len(self.requests):
            now = time.perf_counter() - self._began
            while self._idle and self._next < len(self.requests) and self._due[self._next] <= now:
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
                self._latencies.append(now - voter.due)


async def carry_out(order: Order) -> Report:
    """One order, in this process. Raises OSError where nobody listens, BadAnswer where what
    answers does not speak HTTP as we read it."""
    run = _Run(order)
    report = await run.carry_out()
    if run.bad_answer is not None:
        raise BadAnswer(run.bad_answer)
    return report


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(carry_out(order))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
