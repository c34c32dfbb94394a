"""Degrading on purpose: what gives way to what, and how fast a trouble is answered."""

import asyncio
import signal

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.wire import like, minted, wired

PATIENCE_SECONDS = 30


@pytest.mark.parametrize("lane", ["on", "off"])
async def test_nobody_joins_a_queue_that_does_not_move(
    tmp_path, own_store, postgres_dsn, postgres, lane
):
    """Long before the store's own time is up."""
    server, process = own_store
    await add_campaign(postgres, "spring")
    settings = {"fast_lane": lane, "store_timeout_ms": 120_000, "edge_queue_ms": 100}
    async with running_edge(tmp_path, server.url, postgres_dsn, **settings) as edge:
        box = edge.parts.ballot_boxes.of(0)
        tokens = [await edge.token() for _ in range(2)]
        process.send_signal(signal.SIGSTOP)
        first = asyncio.create_task(edge.like(tokens[0]))

        async def late():
            return box.late_batches

        await wait_until_async(late, PATIENCE_SECONDS, what="a batch that is late")
        status, body = await edge.like(tokens[1], click="click-0002")
        assert (status, body["outcome"]) == (503, "overloaded")
        assert not first.done()
        process.send_signal(signal.SIGCONT)
        assert (await first)[0] == 201
        assert box.late_batches == 0
        assert (await edge.like(tokens[1], click="click-0002"))[0] == 201


@pytest.mark.parametrize("lane", ["on", "off"])
async def test_a_store_that_hangs_is_answered_and_tried_again(
    tmp_path, own_store, postgres_dsn, postgres, lane
):
    """The first like when its time is up, further ones at once; one trial at a time, and when it
    answers again all goes on."""
    server, process = own_store
    await add_campaign(postgres, "spring")
    settings = {"fast_lane": lane, "store_timeout_ms": 300}
    async with running_edge(tmp_path, server.url, postgres_dsn, **settings) as edge:
        box = edge.parts.ballot_boxes.of(0)
        tokens = [await edge.token() for _ in range(2)]
        process.send_signal(signal.SIGSTOP)
        status, body = await edge.like(tokens[0], click="click-0001")
        assert (status, body["outcome"]) == (503, "store-down")
        # Its connection is given up, and another is tried meanwhile, which may take for ever.
        box.line._timeout_seconds = 3_600
        assert not box.line.connected
        status, body = await edge.like(tokens[1], click="click-0002")
        assert (status, body["outcome"]) == (503, "store-down")
        box.line._timeout_seconds = 10
        process.send_signal(signal.SIGCONT)
        for token, click in zip(tokens, ("click-0001", "click-0002"), strict=True):

            async def counted(token=token, click=click):
                return (await edge.like(token, click=click))[0] == 201

            await wait_until_async(counted, PATIENCE_SECONDS, what="the like")
        assert (await box.snapshot("spring")).sums == {b"1": 2}


@pytest.mark.parametrize("lane", ["on", "off"])
async def test_pages_and_tiles_give_way_to_likes(
    tmp_path, valkey_url, postgres_dsn, postgres, lane
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane=lane) as edge:

        async def status_of(path):
            async with edge.http.get(f"{edge.url}{path}") as answer:
                if answer.status == 503:
                    assert answer.headers["Retry-After"]
                    assert answer.headers["Cache-Control"] == "no-store"
                return answer.status

        reads = ("/campaigns/spring", "/v1/logs/spring/votes/checkpoint", "/sitemap.xml")
        before = [await status_of(path) for path in reads]
        assert 503 not in before
        edge.parts.loop_lag.seconds = 10.0
        assert [await status_of(path) for path in reads] == [503] * 3
        edge.parts.loop_lag.seconds = 10.0
        token = await edge.token()
        assert (await edge.like(token))[0] == 201
        for path in (
            "/healthz",
            "/v1/campaigns/spring",
            "/v1/campaigns/spring/counts",
            "/v1/campaigns/spring/candidates",
            "/embed/v1/card/spring/c001",
        ):
            edge.parts.loop_lag.seconds = 10.0
            assert await status_of(path) == 200, path
        # And when it has caught up, everything goes on.
        edge.parts.loop_lag.seconds = 0.0
        assert [await status_of(path) for path in reads] == before


async def test_the_loops_lag_is_seen(tmp_path, valkey_url, postgres_dsn, postgres):
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        lag = edge.parts.loop_lag

        async def behind():
            import time

            time.sleep(0.5)  # noqa: ASYNC251  # what a mistake would do
            await asyncio.sleep(0)
            return lag.behind

        await wait_until_async(behind, PATIENCE_SECONDS, what="its lag")

        async def caught_up():
            return not lag.behind

        await wait_until_async(caught_up, PATIENCE_SECONDS, what="its end")


async def test_everything_is_held_while_the_checks_are_in_trouble(
    tmp_path, valkey_url, postgres_dsn, postgres, dianzan
):
    """Also what would be challenged, or refused by its score; quotas and repeats go on."""
    await add_campaign(postgres, "spring", rules={"candidates_per_day": 2})
    async with running_edge(tmp_path, valkey_url, postgres_dsn, challenge="always") as edge:
        parts = edge.parts

        async def follows(wanted):
            async def does():
                return parts.catalog.campaigns["spring"].holds_all is wanted

            await wait_until_async(does, PATIENCE_SECONDS, what=f"holds_all = {wanted}")

        newcomer = await edge.token()
        assert (await edge.like(newcomer))[0] == 428
        words = ("--campaign", "spring", "--by", "li", "--reason", "探测规则误判")
        done = await dianzan("hold-all", *words)
        assert (done.code, done.out.strip()) == (0, "spring: likes are all held")
        await follows(True)
        assert (await edge.like(newcomer))[0] == 201
        assert (await edge.like(newcomer))[0] == 200, "a repeat"
        async with wired(edge) as wire:
            wire.send(like(minted(edge), "c002", "click-minted-1"))
            assert (await wire.answer(to=b"POST")).status == 201
        sums = (await parts.ballot_boxes.of(0).snapshot("spring")).sums
        assert sums == {b"h1": 1, b"h2": 1}
        assert (await dianzan("hold-all", *words, "--off")).code == 0
        await follows(False)
        assert (await edge.like(await edge.token()))[0] == 428
        rows = await postgres.fetch("SELECT actor, action FROM audit_log ORDER BY number")
        assert [tuple(row) for row in rows] == [
            ("li", "campaign.hold-all"),
            ("li", "campaign.hold-all-off"),
        ]
        assert (await dianzan("hold-all", *words[:-1], " ")).code == 2


async def test_what_may_do_harm_is_told_before(
    tmp_path, valkey_url, postgres_dsn, postgres, valkey
):
    """Clock and memory of the store, in the metrics that the alarms look at."""
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        assert (await edge.like(await edge.token()))[0] == 201
        gauge = edge.parts.metrics.gauge
        assert abs(gauge("dianzan_store_clock_offset_seconds")) < 5
        edge.parts.ballot_boxes.of(0).clock_offset_us = -7_000_000
        assert gauge("dianzan_store_clock_offset_seconds") == -7

        async def looked():
            return 0 < gauge("dianzan_store_memory_share") < 1

        await wait_until_async(looked, PATIENCE_SECONDS, what="a look at the memory")
