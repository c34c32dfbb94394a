"""Clients that hang up in any moment, send too much, or meet a defect of ours: they pay for it
themselves, and nothing is left of them."""

import asyncio
import itertools
import random
import socket
import struct

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.wire import chunked, get, like, like_body, minted, post, wired
from voting.edge import app as edge_app
from voting.edge import fast_lane
from voting.edge.fast_lane import FastLane

COUNTS = get(b"/v1/campaigns/spring/counts")
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closed like this, a socket resets its connection."""


@pytest.fixture
async def edge_and_lane(monkeypatch, tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge with "spring", whose likes nothing limits, and its lane."""
    made = []
    monkeypatch.setattr(
        edge_app, "FastLane", lambda *a, **options: made.append(FastLane(*a, **options)) or made[0]
    )
    await add_campaign(
        postgres, rules={"candidates_per_day": 0}, limits={"per_network": "999999/second"}
    )
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as running:
        yield running, made[0]


@pytest.fixture
def edge(edge_and_lane):
    return edge_and_lane[0]


@pytest.fixture
def lane(edge_and_lane):
    return edge_and_lane[1]


async def until(condition, what):
    async def holds():
        return condition()

    await wait_until_async(holds, what=what)


@pytest.fixture
async def complaints(capfd):
    """What the event loop and the log have to complain about, asked for when all is over."""
    said = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: said.append(str(context)))
    capfd.readouterr()

    def asked():
        logged = "".join(capfd.readouterr())
        return said + [line for line in logged.splitlines() if "error" in line or "Trace" in line]

    yield asked
    loop.set_exception_handler(None)


_clicks = (f"click-{n:08}" for n in itertools.count())


def requests(edge):
    """One request of each kind, by its name."""
    token = minted(edge)

    def body():
        return like_body(token, "c001", next(_clicks))

    return {
        "like": post(b"/v1/likes", body()),
        "counts": COUNTS,
        "health": get(b"/healthz"),
        "expecting": post(b"/v1/likes", body(), more=b"Expect: 100-continue\r\n"),
        "chunked": chunked(b"/v1/likes", body()),
        "upgrade": post(b"/v1/likes", body(), more=b"Upgrade: h2c\r\nConnection: upgrade\r\n"),
        "last": post(b"/v1/likes", body(), more=b"Connection: close\r\n"),
        "old": post(b"/v1/likes", body(), version=b"1.0"),
        "foreign type": post(b"/v1/likes", body(), content_type=b"text/plain; a=b"),
        "nowhere": post(b"/nope", b"x" * 3_000),
        "large": post(b"/v1/likes", b"x" * 9_000),
        "malformed": b"GET / HTP/1.1\r\n\r\n",
    }


async def hang_up(edge, sent, how):
    """Connect, send, and hang up before the edge has looked at it."""
    with socket.socket() as client:
        client.connect(("127.0.0.1", edge.port))
        client.sendall(sent)
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif how == "half":
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            async with asyncio.timeout(10):
                while await asyncio.get_running_loop().sock_recv(client, 65_536):
                    pass


@pytest.mark.parametrize("how", ["reset", "close", "half"])
async def test_client_that_hangs_up_leaves_nothing_and_no_complaint(edge, lane, complaints, how):
    chance = random.Random(how)
    kinds = requests(edge)
    for first, second in itertools.product(("like", "counts", "health", ""), kinds):
        sent = kinds.get(first, b"") + kinds[second]
        # Whole, or in the middle of its head or of its body.
        for cut in (len(sent), chance.randrange(1, len(sent)), len(sent) - chance.randrange(1, 90)):
            await hang_up(edge, sent[:cut], how)
    await until(lambda: not lane.connections, "the end of all connections")
    await until(lambda: not edge.parts.ballot_boxes.of(0).waiting, "the end of all ballots")
    assert complaints() == []
    async with wired(edge) as wire:
        assert (await wire.ask(like(minted(edge), "c002", "click-after"))).status == 201


async def test_reset_after_answers_that_cannot_be_written_is_no_complaint(edge, lane, complaints):
    """The first answer fails to be written; what follows it in the segment is for aiohttp."""
    for n in range(10):
        with socket.create_connection(("127.0.0.1", edge.port)) as client:
            await until(lambda: lane.connections, "the connection")
            client.sendall(COUNTS + get(b"/healthz") * (1 + n % 2))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await until(lambda: not lane.connections, "its end")
    assert complaints() == []


async def test_like_that_came_with_the_end_of_its_connection_is_not_cast(edge, lane):
    async with wired(edge) as wire:
        await wire.ask(COUNTS)
        [connection] = lane.connections
        connection.data_received(like(minted(edge), "c001", "click-too-late"))
        connection.abort()
        assert await wire.rest() == b""
    assert edge.parts.metrics.in_lane == 1


async def test_defect_costs_its_own_connection_and_no_other(edge, lane, capfd, monkeypatch):
    read_tap = fast_lane.read_tap

    def break_on_one(edge, body, *facts):
        if b"click-defect" in body:
            raise ZeroDivisionError
        return read_tap(edge, body, *facts)

    monkeypatch.setattr(fast_lane, "read_tap", break_on_one)
    capfd.readouterr()
    async with wired(edge) as one, wired(edge) as broken, wired(edge) as other:
        await until(lambda: len(lane.connections) == 3, "the connections")
        one.send(like(minted(edge), "c001", "click-one"))
        broken.send(like(minted(edge), "c001", "click-defect") + COUNTS)
        other.send(like(minted(edge), "c001", "click-other"))
        assert [(await wire.answer()).status for wire in (one, other)] == [201, 201]
        assert await broken.rest() == b""
        assert (await other.ask(COUNTS)).status == 200
    assert "".join(capfd.readouterr()).count("connection-defect") == 1


async def test_defect_in_an_answer_ends_the_connection_that_would_wait_for_it(
    edge, lane, capfd, monkeypatch
):
    answer_tap = fast_lane.answer_tap

    def break_on_one(edge, tap, cast):
        if tap.click == "click-defect":
            raise ZeroDivisionError
        return answer_tap(edge, tap, cast)

    monkeypatch.setattr(fast_lane, "answer_tap", break_on_one)
    async with wired(edge) as broken, wired(edge) as other:
        broken.send(like(minted(edge), "c001", "click-defect"))
        other.send(like(minted(edge), "c001", "click-other"))
        assert (await other.answer()).status == 201
        assert await broken.rest(wait=5) == b""
    assert "connection-defect" in "".join(capfd.readouterr())
    assert edge.parts.ballot_boxes.of(0).waiting == 0


async def test_heads_are_kept_up_to_a_number_and_long_ones_not_at_all(edge, lane, monkeypatch):
    monkeypatch.setattr(fast_lane, "_HEADS_KNOWN", 16)
    token = minted(edge)
    async with wired(edge) as wire:
        for n in range(100):
            padded = b"X-Pad: %d%b\r\n" % (n, b"." * (3_000 if n % 2 else 10))
            answer = await wire.ask(like(token, "c001", "click-pad", more=padded))
            assert answer.status == 201
    assert edge.parts.metrics.in_lane == 100
    assert 8 <= len(lane.known) <= 16
    assert all(len(head) < 300 for head in lane.known)


async def test_head_above_the_limit_is_aiohttps_even_if_it_came_whole(edge, lane):
    """Its parser has limits of its own; what is long is not read, looked up or kept here."""
    more = b"".join(b"X-%d: %b\r\n" % (n, b"." * 5_000) for n in range(4))
    async with wired(edge) as wire:
        await wire.ask(COUNTS)
        [connection] = lane.connections
        connection.data_received(like(minted(edge), "c001", "click-huge", more=more))
        assert (await wire.answer()).status == 201
    assert len(lane.known) == 1
    assert edge.parts.metrics.by_aiohttp == 1


async def test_origin_longer_than_any_hosts_is_foreign_whatever_the_host_line_says(edge):
    statuses = []
    async with wired(edge) as wire:
        for size in (200, 2_000):
            host = b"a" * size
            sent = like(minted(edge), "c001", "click-long", more=b"Origin: http://%b\r\n" % host)
            answer = await wire.ask(sent.replace(b"Host: x", b"Host: " + host))
            statuses.append((answer.status, "access-control-allow-origin" in answer.headers))
    assert statuses == [(201, True), (403, False)]


async def test_requests_behind_a_body_that_came_late_are_all_answered(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    """By aiohttp alone, which keeps 32 requests at most and counts one when it is whole."""
    await add_campaign(postgres)
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane="off") as edge,
        wired(edge) as wire,
    ):
        sent = like(minted(edge), "c001", "click-late")
        head_end = sent.index(b"\r\n\r\n") + 4
        wire.send(sent[:head_end])
        await until(lambda: edge.parts.metrics.by_aiohttp, "the handler")
        wire.send(sent[head_end:] + COUNTS * 200)
        assert (await wire.answer(to=b"POST")).status == 201
        for _ in range(200):
            assert (await wire.answer()).status == 200
