"""Two ways through one connection: the fast lane and aiohttp behind it. Each request goes the way
that is meant for it, answers keep their order, and nobody waits or costs for ever."""

import asyncio

import pytest

from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from tests.lanes import later, only_connection, remember_lanes, wait_for
from tests.wire import chunked, get, like, like_body, minted, post, wired
from voting.edge import protocol
from voting.edge.fast_lane import PIPELINED_MAX

COUNTS = get(b"/v1/campaigns/spring/counts")
EXPECTS = b"Expect: 100-continue\r\n"
CANDIDATES = [f"c{n:03}" for n in range(1, 101)]


@pytest.fixture
def lanes(monkeypatch):
    """The lanes that edges of this test make, to look at their connections and their clock."""
    return remember_lanes(monkeypatch)


@pytest.fixture
async def crowded(lanes, tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge with "spring" and "autum", a hundred candidates each."""
    await add_campaign(postgres, "spring", candidates=len(CANDIDATES))
    await add_campaign(postgres, "autum", candidates=len(CANDIDATES))
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as running:
        yield running


def served(edge):
    """(requests answered in the lane, by aiohttp)"""
    return edge.parts.metrics.in_lane, edge.parts.metrics.by_aiohttp


async def test_each_request_of_a_connection_goes_its_own_way(crowded):
    async with wired(crowded) as wire:
        seen = []
        for sent in (
            get(b"/healthz"),
            like(minted(crowded), "c001", "click-way-1"),
            like(minted(crowded), "c002", "click-way-2"),
            like(minted(crowded), "c003", "click-way-3", more=EXPECTS),
            like(minted(crowded), "c004", "click-way-4"),
            post(b"/v1/devices", b'{"campaign":"spring"}'),
            post(b"/v1/devices", b'{"campaign":"spring"}', content_type=b"text/plain; a=b"),
            post(b"/v1/devices/proof", b'{"token":"%b"}' % minted(crowded).encode()),
            COUNTS,
        ):
            answer = await wire.ask(sent)
            seen.append((answer.status, *served(crowded)))
        assert seen == [
            (200, 0, 1),
            (201, 1, 1),
            (201, 2, 1),
            (201, 2, 2),
            (201, 3, 2),
            (201, 4, 2),
            (201, 4, 3),
            (200, 5, 3),
            (200, 6, 3),
        ]


async def test_chunked_like_is_aiohttps_and_the_next_one_is_answered_too(crowded):
    async with wired(crowded) as wire:
        body = like_body(minted(crowded), "c001", "click-chunk-1")
        assert (await wire.ask(chunked(b"/v1/likes", body))).status == 201
        assert served(crowded) == (0, 1)
        assert (await wire.ask(like(minted(crowded), "c002", "click-chunk-2"))).status == 201
        assert sum(served(crowded)) == 2


async def test_connection_with_a_head_that_the_lane_does_not_take_stays_aiohttps(crowded):
    async with wired(crowded) as wire:
        for n, more in enumerate((b"Upgrade: h2c\r\n", b"", b""), 1):
            sent = like(minted(crowded), "c001", f"click-odd-{n}", more=more)
            assert (await wire.ask(sent)).status == 201
            assert served(crowded) == (0, n)


async def test_pipelined_answers_keep_their_order_over_both_ways_and_two_campaigns(crowded):
    sent, wanted = [], []
    for n, candidate in enumerate(CANDIDATES[:30]):
        campaign = ("spring", "autum")[n % 2]
        more = EXPECTS if n % 7 == 3 else b""
        sent.append(like(minted(crowded, campaign), candidate, f"click-order-{n}", campaign, more))
        wanted.append(candidate)
    async with wired(crowded) as wire:
        wire.send(b"".join(sent))
        answers = [await wire.answer() for _ in sent]
    assert [(answer.status, answer.said["candidate"]) for answer in answers] == [
        (201, candidate) for candidate in wanted
    ]
    # What comes behind an odd one while aiohttp works on it is aiohttp's too.
    in_lane, by_aiohttp = served(crowded)
    assert in_lane >= 3
    assert by_aiohttp >= 4
    assert in_lane + by_aiohttp == len(sent)


async def test_more_pipelined_likes_than_the_lane_keeps_are_all_answered(crowded):
    assert len(CANDIDATES) > 3 * PIPELINED_MAX
    async with wired(crowded) as wire:
        wire.send(
            b"".join(
                like(minted(crowded), candidate, f"click-more-{candidate}")
                for candidate in CANDIDATES
            )
        )
        answers = [await wire.answer() for _ in CANDIDATES]
    assert [answer.said["candidate"] for answer in answers] == CANDIDATES
    assert served(crowded) == (len(CANDIDATES), 0)


async def test_client_that_does_not_read_is_not_read_from_until_it_does(crowded, lanes):
    asked = 30_000
    async with wired(crowded) as wire:
        wire.send(COUNTS * asked)
        connection = await only_connection(lanes[0])
        transport = connection._transport
        await wait_for(lambda: connection._blocked, "the edge to stop reading")
        assert not transport.is_reading()
        assert len(connection._held) <= 512 * 1024
        assert transport.get_write_buffer_size() <= 512 * 1024
        answered, _ = served(crowded)
        assert answered < asked
        for _ in range(asked):
            assert (await wire.answer()).status == 200
    assert served(crowded) == (asked, 0)


async def test_like_that_comes_in_two_pieces_gets_the_same_answer(crowded, lanes):
    sent = like(minted(crowded), "c001", "click-pieces")
    async with wired(crowded) as wire:
        whole = (await wire.ask(sent)).said
        connection = await only_connection(lanes[0])
        for at in range(1, len(sent)):
            wire.send(sent[:at])
            await wait_for(lambda at=at: len(connection._held) == at, f"{at} bytes")
            again = (await wire.ask(sent[at:])).said
            assert again["receipt"] == whole["receipt"]
            assert again.keys() == whole.keys()
    assert served(crowded) == (len(sent), 0)


async def test_client_that_hangs_up_costs_the_others_nothing_and_its_vote_stands(crowded):
    left, stays = minted(crowded), minted(crowded)
    async with wired(crowded) as leaving, wired(crowded) as staying:
        leaving.send(like(left, "c001", "click-leaves") + COUNTS)
        staying.send(like(stays, "c001", "click-stays"))
        while not served(crowded)[0]:  # a sleep would let the answers land
            await asyncio.sleep(0)
        leaving.abort()
        assert (await staying.answer()).status == 201
        assert (await staying.ask(like(left, "c001", "click-leaves"))).status == 201
    await crowded.wait_for_counts("spring", {"c001": 2})


@pytest.mark.parametrize(
    "before", [b"", COUNTS, get(b"/healthz"), COUNTS + get(b"/healthz")], ids=len
)
async def test_idle_connection_ends_after_the_keep_alive_and_not_before(crowded, lanes, before):
    lane = lanes[0]
    async with wired(crowded) as wire:
        wire.send(COUNTS + before)
        for _ in range(1 + before.count(b"GET")):
            await wire.answer()
        connection = await only_connection(lane)
        await wait_for(lambda: connection._idle, "the end of the last request")
        later(lane, protocol.KEEP_ALIVE_SECONDS - 5)
        assert not connection._transport.is_closing()
        assert len(lane.connections) == 1
        later(lane, 10)
        assert await wire.rest() == b""
        assert not lane.connections


@pytest.mark.parametrize("begun", [b"", b"POST /v1/li", like("t", "c001", "click-late")[:-200]])
async def test_head_that_is_late_ends_the_connection(crowded, lanes, begun):
    async with wired(crowded) as wire:
        wire.send(begun)
        connection = await only_connection(lanes[0])
        await wait_for(lambda: len(connection._held) == len(begun), "what was sent")
        later(lanes[0], protocol.HEAD_SECONDS_MAX - 1)
        assert not connection._transport.is_closing()
        later(lanes[0], 2)
        assert await wire.rest() == b""


@pytest.mark.parametrize("before", [False, True])
async def test_body_that_is_late_is_408_and_the_end(crowded, lanes, before):
    async with wired(crowded) as wire:
        if before:
            wire.send(like(minted(crowded), "c002", "click-early"))
            assert (await wire.answer()).status == 201
        begun = like(minted(crowded), "c001", "click-late")[:-5]
        wire.send(begun)
        connection = await only_connection(lanes[0])
        await wait_for(lambda: len(connection._held) == len(begun), "what was sent")
        later(lanes[0], protocol.BODY_SECONDS_MAX - 1)
        assert not connection._transport.is_closing()
        later(lanes[0], 2)
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert await wire.rest() == b""


async def test_stopping_edge_answers_the_likes_on_their_way_and_all_that_it_said_is_stored(
    lanes, tmp_path, valkey_url, postgres_dsn, postgres, valkey
):
    await add_campaign(postgres, "spring")
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn) as edge,
        wired(edge) as one,
        wired(edge) as many,
    ):
        await wait_for(lambda: len(lanes[0].connections) == 2, "both connections")
        one.send(like(minted(edge), "c001", "click-stop"))
        many.send(b"".join(like(minted(edge), "c001", f"click-stop-{n}") for n in range(20)))
        while served(edge)[0] < 21:  # a sleep would let the answers land
            await asyncio.sleep(0)
        edge.child.stop_event.set()
        got = await one.rest() + await many.rest()
    assert got.count(b"HTTP/1.1 201 ") == 21
    assert int(await valkey.hget("{s0}:tally:spring", "1")) == 21


async def test_setting_that_is_off_leaves_aiohttp_alone(
    lanes, tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane="off") as edge:
        async with wired(edge) as wire:
            assert (await wire.ask(COUNTS)).status == 200
            assert (await wire.ask(like(minted(edge), "c001", "click-off"))).status == 201
        assert served(edge) == (0, 2)
    assert not lanes


async def test_metrics_tell_the_lanes_apart(edge):
    async with wired(edge) as wire:
        for sent in (COUNTS, COUNTS, get(b"/healthz")):
            await wire.ask(sent)
    async with edge.http.get(edge.child.facts["admin"] + "/metrics") as answer:
        told = await answer.text()
    assert 'dianzan_requests_total{lane="fast"} 2.0' in told
    assert 'dianzan_requests_total{lane="aiohttp"} 1.0' in told


async def test_counts_that_are_known_already_are_304(edge):
    async with wired(edge) as wire:
        etag = (await wire.ask(COUNTS)).headers["etag"].encode()
        for more, status in (
            (b"If-None-Match: %b\r\n" % etag, 304),
            (b'If-None-Match: "other", %b\r\n' % etag, 304),
            (b'If-None-Match: "other"\r\n', 200),
        ):
            answer = await wire.ask(get(b"/v1/campaigns/spring/counts", more))
            assert answer.status == status
            assert answer.headers["etag"].encode() == etag
    assert served(edge) == (4, 0)


async def test_counts_of_an_unknown_campaign_are_aiohttps_404(edge):
    async with wired(edge) as wire:
        assert (await wire.ask(get(b"/v1/campaigns/none/counts"))).status == 404
    assert served(edge) == (0, 1)


async def test_too_many_likes_at_once_are_503_with_a_time_to_come_back(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, edge_waiting_max=1) as edge:
        async with wired(edge) as wire:
            for n in (1, 2, 3):
                wire.send(like(minted(edge), "c001", f"click-crowd-{n}"))
            answers = [await wire.answer() for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 503, 503]
        assert all("retry-after" in answer.headers for answer in answers[1:])
        assert served(edge) == (3, 0)


async def test_connections_above_the_cap_are_turned_away_and_counted(
    lanes, tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, edge_connections_max=2) as edge:
        async with wired(edge) as first, wired(edge) as second:
            assert (await first.ask(COUNTS)).status == 200
            assert (await second.ask(COUNTS)).status == 200
            async with wired(edge) as third:
                assert await third.rest() == b""
            assert lanes[0].connections_refused == 1
            assert (await first.ask(COUNTS)).status == 200
        await wait_for(lambda: not lanes[0].connections, "the connections to end")
        async with wired(edge) as fourth:
            assert (await fourth.ask(COUNTS)).status == 200
