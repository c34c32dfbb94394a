"""Several shards: edges, flusher and tallies over one server, several, and a Cluster."""

import asyncio
import contextlib
import itertools
import signal
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tally.closing import flushed_closings, keep_closings
from tally.flusher import Flusher, FlusherMetrics, flush
from tally.reconcile import reconcile
from tally.tallies import read_campaign, read_hot_tally, read_tally
from tests.assertions import Portal, add_keys
from tests.campaigns import add_campaign
from tests.conftest import running, wait_until_async
from tests.integration.conftest import running_edge
from tests.topologies import HOST, PATIENCE_SECONDS, running_cluster
from voting.edge.app import EdgeError
from voting.hot_state import HotState
from voting.journal import JournalError, journal_key
from voting.settings import load_settings
from voting.shards import TooFewShards, declare_shards

SHARDS = 2


@pytest.fixture
async def hasty_cluster(tmp_path_factory):
    """One that replaces a primary after two seconds."""
    folder = tmp_path_factory.mktemp("cluster")
    async with running_cluster(folder, node_timeout_ms=2_000) as nodes:
        yield nodes


@pytest.fixture
async def spring(postgres):
    await declare_shards(postgres, SHARDS)
    return await add_campaign(postgres, "spring", rules={"candidates_per_day": 3})


async def tokens_by_shard(edge, each=3):
    """So many tokens of new devices for each shard."""
    found = {shard: [] for shard in range(SHARDS)}
    for _ in range(400):
        token = await edge.token()
        shard = edge.parts.mint.open(token, datetime.now(UTC).timestamp()).shard
        if len(found[shard]) < each:
            found[shard].append(token)
        if all(len(tokens) == each for tokens in found.values()):
            return found
    raise AssertionError(f"new devices are not spread: {found}")


@contextlib.asynccontextmanager
async def flushing(tmp_path, valkey_url, postgres_dsn, shards=SHARDS, only=(), **overrides):
    """`dianzan flush` in this process, at work or standing by; its end raises what it raised."""
    settings = load_settings(
        data_dir=tmp_path,
        valkey_url=valkey_url,
        postgres_dsn=postgres_dsn,
        shards=shards,
        flush_every_ms=20,
        **overrides,
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(flush(settings, stop, ready.set, CollectorRegistry(), only=only))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    assert task.done() or ready.is_set(), "neither ready nor at its end"
    try:
        yield task
    finally:
        waiting.cancel()
        stop.set()
        await asyncio.wait_for(task, 30)


async def stored(postgres_dsn, votes, seconds=PATIENCE_SECONDS):
    """The tally out of Postgres, once it has so many votes, held ones among them: all of a test's
    come from one address."""

    async def there():
        tally = await read_tally(postgres_dsn, "spring")
        return tally if tally.counted + tally.held >= votes else None

    return await wait_until_async(there, seconds, what=f"{votes} likes in Postgres")


async def test_likes_of_all_shards_are_one_tally_everywhere(
    tmp_path, valkey_url, postgres_dsn, postgres, spring
):
    async with running_edge(tmp_path, valkey_url, postgres_dsn, shards=SHARDS) as edge:
        tokens = await tokens_by_shard(edge)
        for shard, candidate in ((0, "c001"), (1, "c001"), (1, "c002")):
            for token in tokens[shard]:
                assert (await edge.like(token, candidate))[0] == 201
        # The device finds what it did, on its own shard.
        token = tokens[1][0]
        assert (await edge.like(token, "c001"))[0] == 200
        body = {"token": token, "campaign": "spring"}
        async with edge.http.post(f"{edge.url}/v1/devices/state", json=body) as answer:
            assert sorted((await answer.json())["liked"]) == ["c001", "c002"]
        await edge.wait_for_counts("spring", {"c001": 6, "c002": 3, "c003": 0})
        # One's own like is in the answer at once, and once only when it is published.
        assert (await edge.like(tokens[0][0], "c002"))[1]["likes"] == 4
        assert (await edge.like(tokens[1][0], "c003"))[1]["likes"] == 1

        async with flushing(tmp_path, valkey_url, postgres_dsn):
            tally = await stored(postgres_dsn, 11)
        campaign = await read_campaign(postgres, "spring")
        async with HotState(valkey_url, SHARDS) as hot:
            assert (await read_hot_tally(hot, campaign)).counts == tally.counts
            assert (await reconcile(postgres, hot, campaign)).off == ()
        assert (tally.counts["c001"], tally.counts["c002"], tally.counts["c003"]) == (6, 4, 1)
        by_shard = await postgres.fetch("SELECT shard, count(*) FROM votes GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in by_shard] == [(0, 4), (1, 7)]


async def test_a_shard_that_is_away_costs_the_others_nothing(
    tmp_path, valkey_url, own_store, postgres_dsn, spring
):
    server, process = own_store
    url = f"{valkey_url} {server.url}"
    async with running_edge(tmp_path, url, postgres_dsn, shards=SHARDS) as edge:
        tokens = await tokens_by_shard(edge)
        assert (await edge.like(tokens[1][0], "c001"))[0] == 201
        await edge.wait_for_counts("spring", {"c001": 1})
        process.kill()
        process.wait()
        status, body = await edge.like(tokens[1][1], "c001", click="click-while-away")
        assert (status, body["outcome"]) == (503, "store-down")
        assert (await edge.like(tokens[0][0], "c001"))[0] == 201
        async with edge.http.get(f"{edge.url}/readyz") as answer:
            assert answer.status == 200
        # What was published of the other shard stands, and new devices are not put on it.
        await edge.wait_for_counts("spring", {"c001": 2})
        opened = [edge.parts.mint.open(await edge.token(), datetime.now(UTC).timestamp())]
        opened += [
            edge.parts.mint.open(await edge.token(), datetime.now(UTC).timestamp())
            for _ in range(9)
        ]
        assert {token.shard for token in opened} == {0}
        with running(server):

            async def back():
                return (await edge.like(tokens[1][1], "c001", click="click-while-away"))[0] == 201

            await wait_until_async(back, PATIENCE_SECONDS, what="the like after its return")
            await edge.wait_for_counts("spring", {"c001": 3})


async def test_an_edge_that_does_not_know_a_shard_yet_sends_its_devices_elsewhere(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    """While shards are being added: a bad-token would make a browser somebody else."""
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        parts = edge.parts
        campaign = parts.catalog.campaigns["spring"]
        token = parts.mint.issue(campaign, datetime.now(UTC).timestamp(), shard=1)
        status, body = await edge.like(token)
        assert (status, body["outcome"]) == (503, "store-down")
        body = {"token": token, "campaign": "spring"}
        async with edge.http.post(f"{edge.url}/v1/devices/state", json=body) as answer:
            assert answer.status == 503


async def test_who_was_told_of_too_few_shards_does_not_start(
    tmp_path, valkey_url, postgres_dsn, spring
):
    with pytest.raises(EdgeError, match="there are votes on 2 shards: set DIANZAN_SHARDS to 2"):
        async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
            await edge.child.stop_event.wait()
    with pytest.raises(TooFewShards):
        async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1) as task:
            await task


async def test_people_of_a_portal_stay_where_their_votes_are_when_shards_are_added(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    portal = Portal()
    await add_campaign(postgres, "spring")
    await add_keys(postgres, portal, campaign="spring")

    async def token_of(edge, person):
        body = {"campaign": "spring", "identity": portal.vouch(person, "spring")}
        async with edge.http.post(f"{edge.url}/v1/devices", json=body) as answer:
            assert answer.status == 201, await answer.text()
            return (await answer.json())["token"]

    people = [f"person-{n}" for n in range(8)]
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        for person in people:
            assert (await edge.like(await token_of(edge, person)))[0] == 201
    await declare_shards(postgres, SHARDS)
    await add_campaign(postgres, "summer")
    await postgres.execute("UPDATE campaigns SET derived_shards = 2 WHERE id = 'summer'")
    await add_keys(postgres, portal, campaign="summer")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, shards=SHARDS) as edge:
        for person in people:
            assert (await edge.like(await token_of(edge, person)))[0] == 200


async def test_a_flusher_takes_over_each_shard_that_is_left(
    tmp_path, valkey_url, postgres_dsn, spring
):
    async with running_edge(tmp_path, valkey_url, postgres_dsn, shards=SHARDS) as edge:
        tokens = await tokens_by_shard(edge)
        with capture_logs() as logs:
            async with contextlib.AsyncExitStack() as stack:
                of_one = contextlib.AsyncExitStack()
                await of_one.enter_async_context(
                    flushing(tmp_path, valkey_url, postgres_dsn, only=(1,))
                )
                await stack.enter_async_context(flushing(tmp_path, valkey_url, postgres_dsn))
                assert (await edge.like(tokens[0][0]))[0] == 201
                assert (await edge.like(tokens[1][0]))[0] == 201
                await stored(postgres_dsn, 2)
                await of_one.aclose()
                assert (await edge.like(tokens[1][1]))[0] == 201
                await stored(postgres_dsn, 3)
        events = [(log["event"], log.get("shard")) for log in logs]
        assert ("flusher-stands-by", 1) in events
        assert ("flusher-took-over", 1) in events
        assert ("flusher-stands-by", 0) not in events


async def test_a_journal_that_is_wrong_stops_its_own_shard_alone(
    tmp_path, valkey, valkey_url, postgres_dsn, spring
):
    async with running_edge(tmp_path, valkey_url, postgres_dsn, shards=SHARDS) as edge:
        tokens = await tokens_by_shard(edge)
        await valkey.xadd(journal_key(0), {"e": b"\x63nonsense"}, id="1-0")
        with pytest.raises(JournalError), capture_logs() as logs:
            async with flushing(tmp_path, valkey_url, postgres_dsn):
                for token in tokens[1]:
                    assert (await edge.like(token))[0] == 201
                await stored(postgres_dsn, 3)
        assert ("shard-stopped", 0) in [(log["event"], log.get("shard")) for log in logs]


async def test_a_campaign_has_closed_when_its_last_shard_has(
    tmp_path, valkey_url, own_store, postgres_dsn, postgres, spring
):
    server, process = own_store
    url = f"{valkey_url} {server.url}"
    await postgres.execute(
        "INSERT INTO destinations (shown_as, form, address, events, made_by)"
        " VALUES ('办公室', 'webhook', 'https://office.example.cn', '{closed}', 'li')"
    )
    await postgres.execute(
        "UPDATE campaigns SET closes_at = $1", datetime.now(UTC) - timedelta(seconds=1)
    )

    async def news():
        return await postgres.fetchval("SELECT count(*) FROM outbox WHERE event = 'closed'")

    async with HotState(url, SHARDS) as hot:
        process.kill()
        process.wait()
        with pytest.raises(redis.ConnectionError):
            await keep_closings(postgres, hot)
        assert await news() == 0
        with running(server):
            assert (await keep_closings(postgres, hot)).closed == [(spring, 1)]
            assert await news() == 1
            async with flushing(tmp_path, url, postgres_dsn, only=(0,)):

                async def flushed():
                    return await postgres.fetchval("SELECT count(*) FROM closings")

                await wait_until_async(flushed, PATIENCE_SECONDS, what="shard 0's end")
                assert await flushed_closings(postgres, spring) is None
            async with flushing(tmp_path, url, postgres_dsn):

                async def all_flushed():
                    return await flushed_closings(postgres, spring)

                passed = await wait_until_async(all_flushed, PATIENCE_SECONDS, what="all ends")
                assert sorted(passed) == [0, 1]


async def test_postgres_never_has_what_no_replica_has(tmp_path, pair, postgres_dsn, postgres):
    first, second = pair
    await add_campaign(postgres, "spring")
    url = f"redis://{HOST}:{first.port}"
    async with running_edge(tmp_path, url, postgres_dsn) as edge:
        second.process.send_signal(signal.SIGSTOP)
        assert (await edge.like(await edge.token()))[0] == 201
        stop = asyncio.Event()
        flusher = Flusher(
            postgres_dsn=postgres_dsn,
            valkey_url=url,
            stop=stop,
            ready=lambda: None,
            metrics=FlusherMetrics(CollectorRegistry()),
            on_replicas=True,
        )
        with capture_logs() as logs:
            task = asyncio.create_task(flusher.run())

            async def said():
                return [log for log in logs if log["event"] == "valkey-away"]

            await wait_until_async(said, PATIENCE_SECONDS, what="what it waits for")
            assert await postgres.fetchval("SELECT count(*) FROM votes") == 0
            second.process.send_signal(signal.SIGCONT)
            await stored(postgres_dsn, 1)
        stop.set()
        await asyncio.wait_for(task, 30)


@pytest.mark.timeout(180)
async def test_a_shard_that_moves_in_a_cluster_neither_loses_nor_doubles_a_like(
    tmp_path, cluster, postgres_dsn, postgres, spring
):
    one, two, *_ = cluster
    url = f"cluster://{HOST}:{one.port},{HOST}:{two.port}"
    clicks = itertools.count()
    async with running_edge(tmp_path, url, postgres_dsn, shards=SHARDS) as edge:
        answers = []
        moving = asyncio.Event()

        async def like_again_and_again(candidate):
            """Until the move is over, a new device for each like; a 503 is tried again."""
            while not moving.is_set():
                token = await edge.token()
                click = f"click-{next(clicks):08}"
                status, _ = await edge.like(token, candidate, click=click)
                while status == 503:
                    status, _ = await edge.like(token, candidate, click=click)
                answers.append(status)

        likers = [asyncio.create_task(like_again_and_again(f"c{n:03}")) for n in range(1, 5)]
        slot = await one.tell("CLUSTER KEYSLOT", journal_key(0))
        name = await two.tell("CLUSTER MYID")

        async def some():
            return len(answers) > 40

        await wait_until_async(some, PATIENCE_SECONDS, what="likes before the move")
        await one.tell("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)

        async def moved():
            return await one.tell("CLUSTER COUNTKEYSINSLOT", slot) == 0

        await wait_until_async(moved, PATIENCE_SECONDS, what="the move of a slot")
        before = len(answers)

        async def some_more():
            return len(answers) > before + 40

        await wait_until_async(some_more, PATIENCE_SECONDS, what="likes after the move")
        moving.set()
        await asyncio.gather(*likers)
        assert set(answers) == {201}
        async with flushing(tmp_path, url, postgres_dsn):
            tally = await stored(postgres_dsn, len(answers))
        assert tally.counted + tally.held == len(answers)
        campaign = await read_campaign(postgres, "spring")
        async with HotState(url, SHARDS) as hot:
            assert (await read_hot_tally(hot, campaign)).counts == tally.counts


@pytest.mark.timeout(240)
async def test_a_primary_that_dies_in_a_cluster_loses_nothing_that_was_acknowledged(
    tmp_path, hasty_cluster, postgres_dsn, postgres
):
    """DIANZAN_ACK=replica; the other primaries elect its replica by themselves, and devices of
    their shards vote on meanwhile."""
    shards = 3
    await declare_shards(postgres, shards)
    await add_campaign(postgres, "spring", rules={"candidates_per_day": 3})
    first, _, _, replica, _, _ = hasty_cluster
    url = f"cluster://{','.join(f'{HOST}:{node.port}' for node in hasty_cluster)}"
    answers = {}
    over = asyncio.Event()
    clicks = itertools.count()
    async with (
        running_edge(tmp_path, url, postgres_dsn, shards=shards, ack="replica") as edge,
        flushing(tmp_path, url, postgres_dsn, shards=shards, ack="replica"),
    ):
        campaign = edge.parts.catalog.campaigns["spring"]

        async def like_again_and_again(shard):
            """A new device for each like, all on one shard; a 503 is tried again."""
            while not over.is_set():
                now = datetime.now(UTC).timestamp()
                token = edge.parts.mint.issue(campaign, now, shard=shard)
                click = f"click-{shard}-{next(clicks):08}"
                while True:
                    status, _ = await edge.like(token, "c001", click=click)
                    if status != 503:
                        break
                answers.setdefault(shard, []).append(status)
                # Enough of them, and room for the servers.
                await asyncio.sleep(0.02)

        likers = [
            asyncio.create_task(like_again_and_again(shard))
            for shard in range(shards)
            for _ in range(2)
        ]

        async def some(shard, more_than):
            return len(answers.get(shard, ())) > more_than

        for shard in range(shards):
            await wait_until_async(
                lambda shard=shard: some(shard, 10), PATIENCE_SECONDS, what=f"likes of {shard}"
            )
        first.process.kill()
        first.process.wait()
        before = len(answers[1])
        await wait_until_async(
            lambda: some(1, before + 10), PATIENCE_SECONDS, what="likes of the other shards"
        )

        async def promoted():
            return await replica.replication("role") == "master"

        await wait_until_async(promoted, PATIENCE_SECONDS, what="its replica in its place")
        # A server that comes back is its replica, without which nothing is acknowledged.
        first.spawn()
        before = len(answers[0])
        await wait_until_async(
            lambda: some(0, before + 10), 2 * PATIENCE_SECONDS, what="likes of its shard"
        )
        over.set()
        await asyncio.gather(*likers)
        statuses = [status for of_shard in answers.values() for status in of_shard]
        assert set(statuses) == {201}
        tally = await stored(postgres_dsn, len(statuses), 2 * PATIENCE_SECONDS)
        assert tally.counted + tally.held == len(statuses)
        async with HotState(url, shards) as hot:
            found = await reconcile(postgres, hot, await read_campaign(postgres, "spring"))
            assert found.off == ()


async def test_a_migration_with_more_shards_is_remembered_and_fewer_are_refused(
    dianzan, environment, postgres
):
    environment["DIANZAN_SHARDS"] = "3"
    assert (await dianzan("migrate")).code == 0
    assert await postgres.fetchval("SELECT shards FROM catalog") == 3
    environment["DIANZAN_SHARDS"] = "2"
    refused = await dianzan("migrate")
    assert refused.code != 0
    assert refused.err.strip() == "dianzan: there are votes on 3 shards: set DIANZAN_SHARDS to 3"
    with pytest.raises(asyncpg.CheckViolationError):
        await declare_shards(postgres, 65)
