"""The load generator: how it frames answers, counts them, and tells a latency."""

import asyncio
import contextlib
import itertools
import json
import math
import re
import time
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.crowds import build_request, plan_likes
from loadtest.voters import (
    BadAnswer,
    Order,
    carry_out,
    percentile,
    poisson_times,
    read_answer,
)
from tests.conftest import wait_until_async

CANDIDATES = [f"c{number:03}" for number in range(1, 21)]
CREATED = b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"'


def test_an_answer_is_complete_at_its_last_byte_and_not_before():
    assert [read_answer(CREATED[:n]) for n in range(len(CREATED))] == [None] * len(CREATED)
    assert read_answer(CREATED) == (201, len(CREATED))
    assert read_answer(CREATED + b"HTTP/1.1 200") == (201, len(CREATED))


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
def test_the_length_is_found_however_it_is_spelled(name):
    answer = f"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\n{name}: 5\r\n\r\nnever".encode()
    assert read_answer(answer) == (503, len(answer))


def test_an_answer_without_a_body_ends_with_its_head():
    assert read_answer(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n") == (204, 38)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
    ],
)
def test_what_is_not_framed_by_a_length_is_no_answer(answer):
    with pytest.raises(BadAnswer):
        read_answer(answer)


def test_percentiles_are_nearest_ranks():
    ascending = [float(n) for n in range(1, 101)]
    assert [percentile(ascending, share) for share in (0.01, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0, 1, exclude_min=True))
def test_a_percentile_is_the_least_value_that_covers_its_share(ascending, share):
    found = percentile(ascending, share)
    needed = share * len(ascending)
    assert sum(value <= found for value in ascending) >= needed - 1e-9
    assert sum(value < found for value in ascending) < needed


def test_poisson_times_ascend_within_the_time_at_the_rate():
    times = list(poisson_times(1_000, 10, seed=1))
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 10
    assert abs(len(times) - 10_000) < 5 * 100  # five sigma
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    assert percentile(gaps, 0.5) == pytest.approx(math.log(2) / 1_000, rel=0.1)


class Likes:
    """A server that keeps every like and answers in pieces."""

    def __init__(self):
        self.port = 0
        self.open = 0
        self.bodies = []
        self.addresses = set()
        self.stalls_at = None
        self.stall_seconds = 0.0
        self.hangs_up_at = None
        self.status = b"201 Created"

    async def no_one(self):
        return not self.open

    async def connected(self, reader, writer):
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"Content-Length: (\d+)\r\n", head)[1])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                self.addresses.add(re.search(rb"X-Forwarded-For: (\S+)\r\n", head)[1])
                n = len(self.bodies)
                if n == self.stalls_at:
                    # All connections: this server is one thread.
                    asyncio.get_running_loop().call_soon(block_for, self.stall_seconds)
                if n == self.hangs_up_at:
                    break
                answer = b"HTTP/1.1 %b\r\nContent-Length: 7\r\n\r\n{} till" % self.status
                cut = n % len(answer)
                for piece in (answer[:cut], answer[cut:]):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # so that they leave one by one
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


def block_for(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@asynccontextmanager
async def likes_server():
    likes = Likes()
    server = await asyncio.start_server(likes.connected, "127.0.0.1", 0)
    likes.port = server.sockets[0].getsockname()[1]
    try:
        yield likes
    finally:
        server.close()
        await wait_until_async(likes.no_one, what="the end of all connections")


@pytest.fixture
async def likes():
    async with likes_server() as likes:
        yield likes


@pytest.fixture
def order(likes, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"token-{n}\n" for n in range(6_000)))

    def make(**options):
        return Order(
            port=likes.port,
            campaign="bench",
            candidates=CANDIDATES,
            tokens_file=str(tokens),
            **{"warm_up_seconds": 0, "seconds": 30, "connections": 7, **options},
        )

    return make


async def test_closed_loop_sends_every_like_once_and_ends_when_they_are_used_up(likes, order):
    report = await carry_out(order(requests_max=500))
    assert report.answers == {201: 500}
    # The last ones come after the end of the measured time: the sending of the last like.
    assert 490 <= report.measured_answers[201] <= 500
    assert report.lost == 0
    assert len({body["click"] for body in likes.bodies}) == len(likes.bodies) == 500
    accepted = Counter(body["candidate"] for body in likes.bodies)
    assert {c: n for c, n in report.accepted.items() if n} == dict(accepted)
    assert report.devices == len({body["token"] for body in likes.bodies})
    assert 0 < report.p50_ms <= report.p90_ms <= report.p99_ms <= report.max_ms < 30_000
    assert report.own_cpu_us > 0


async def test_devices_give_the_likes_that_were_ordered_from_addresses_of_their_own(likes, order):
    await carry_out(order(devices=30, likes_per_device=(4, 4), first_token=100))
    given_by = Counter(body["token"] for body in likes.bodies)
    assert given_by == {f"token-{n}": 4 for n in range(100, 130)}
    assert len(likes.addresses) == 30


async def test_proofs_alone_show_a_token_and_use_no_device(likes, order):
    report = await carry_out(order(mix={"proofs": 1.0}, requests_max=50, first_token=7))
    assert likes.bodies == [{"token": "token-7"}] * 50
    assert report.devices == 0
    assert set(report.accepted.values()) == {0}


async def test_only_201_is_accepted(likes, order):
    likes.status = b"503 Service Unavailable"
    report = await carry_out(order(requests_max=50))
    assert report.answers == {503: 50}
    assert set(report.accepted.values()) == {0}


async def test_a_connection_that_ends_loses_its_request_and_the_run_goes_on(likes, order):
    likes.hangs_up_at = 20
    report = await carry_out(order(requests_max=300, connections=1))
    assert report.lost == 1
    assert report.answers == {201: 299}


async def test_the_warm_up_is_counted_and_not_measured(likes, order):
    report = await carry_out(order(requests_max=20_000, warm_up_seconds=0.2, seconds=0.2))
    assert report.measured_seconds == pytest.approx(0.2, abs=0.15)
    assert 0 < sum(report.measured_answers.values()) < sum(report.answers.values())
    assert sum(report.answers.values()) == len(likes.bodies)


async def test_open_loop_counts_a_latency_from_the_intended_moment(likes, order):
    # While the server stands still for 0.3 s, 150 likes become due. With one connection a
    # generator that waits for answers would see one slow like.
    likes.stalls_at = 100
    likes.stall_seconds = 0.3
    report = await carry_out(order(rate_per_second=500, seconds=1, connections=1))
    sent = sum(report.answers.values())
    assert report.max_ms >= 290
    assert report.p90_ms > 30  # well over a tenth of all likes were due in the stall
    # Not all of them: what could not be sent by the end of the run stays unsent.
    assert 200 < sent <= len(poisson_times(500, 1, 1))


async def test_load_goes_to_loopback_only(order):
    with pytest.raises(ValueError, match="not loopback"):
        await carry_out(order(host="192.0.2.1"))


async def test_too_few_tokens_are_said_before_anything_is_sent(likes, order):
    with pytest.raises(ValueError, match="tokens are needed"):
        await carry_out(order(requests_max=500, first_token=5_990))
    assert not likes.bodies


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", CREATED + b"more"])
async def test_a_server_that_speaks_otherwise_is_an_error(order, answer, likes):
    async def connected(reader, writer):
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await reader.read()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    likes.port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(BadAnswer):
            await carry_out(order(requests_max=3, connections=1, seconds=0.5))
    finally:
        server.close()


def test_a_plan_gives_each_device_one_to_ten_likes_for_different_candidates():
    likes = list(plan_likes(744, seed=5, devices=3_000))
    by_device = {}
    for like in likes:
        by_device.setdefault(like.device, []).append(like.candidate)
    assert sorted(by_device) == list(range(3_000))
    assert all(len(set(liked)) == len(liked) for liked in by_device.values())
    assert {len(liked) for liked in by_device.values()} == set(range(1, 11))
    assert len(likes) / 3_000 == pytest.approx(5.5, rel=0.05)
    # Mixed: neighbours are rarely of one device.
    assert sum(a.device == b.device for a, b in itertools.pairwise(likes)) < 60


def test_candidates_are_drawn_by_zipf():
    drawn = Counter(
        like.candidate for like in plan_likes(744, seed=5, likes_per_device=(1, 1), devices=20_000)
    )
    first_ten = sum(drawn[place] for place in range(10)) / 20_000
    weights = [(rank + 1) ** -0.9 for rank in range(744)]
    assert first_ten == pytest.approx(sum(weights[:10]) / sum(weights), rel=0.05)


def test_a_plan_is_the_same_for_the_same_seed():
    assert list(plan_likes(50, seed=3, devices=40)) == list(plan_likes(50, seed=3, devices=40))
    assert list(plan_likes(50, seed=3, devices=40)) != list(plan_likes(50, seed=4, devices=40))


def test_a_request_is_as_long_as_a_browsers_and_framed_right():
    request = build_request("bench", "c017", "t" * 52, "00000001-00000042", "11.2.3.4")
    head, body = request.split(b"\r\n\r\n")
    assert 650 <= len(request) <= 900
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert json.loads(body) == {
        "token": "t" * 52,
        "campaign": "bench",
        "candidate": "c017",
        "click": "00000001-00000042",
    }
