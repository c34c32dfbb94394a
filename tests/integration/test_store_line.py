"""The connections to a store whose primary can change, with real servers."""

import asyncio
import contextlib
import signal

import pytest
import redis.asyncio as redis

from tests.conftest import wait_until_async
from tests.topologies import HOST, PATIENCE_SECONDS, Node, fail_over, free_ports, started
from voting.hot_state import HotState
from voting.journal import head_key
from voting.store_line import StoreDown, StoreLine, StoreMoved
from voting.store_lines import StoreLines

COUNTING = """#!lua name=counting
redis.register_function('count', function(keys) return redis.call('INCR', keys[1]) end)
"""
KEYS = [head_key(shard) for shard in range(2)]


@contextlib.asynccontextmanager
async def running(line):
    task = asyncio.create_task(line.run())
    try:
        await connected(line)
        yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def connected(line):
    async def now():
        return line.connected

    await wait_until_async(now, PATIENCE_SECONDS, what="the store")


async def waited_out(ask):
    """The answer, after the store was away."""

    async def answer():
        with contextlib.suppress(StoreDown, redis.ConnectionError):
            return [await ask()]

    return (await wait_until_async(answer, PATIENCE_SECONDS, what="an answer"))[0]


async def test_in_a_cluster_each_shard_is_found_and_found_again_after_it_moved(cluster):
    one, two, *_ = cluster
    url = f"cluster://{HOST}:{two.port},{HOST}:{one.port}"
    lines = StoreLines(url, 2, library=COUNTING)
    async with running(lines), HotState(url, 2) as hot:
        for shard, home in enumerate((one, two)):
            assert lines.of(shard).replid.decode() == await home.replication("master_replid")
            assert await lines.of(shard).ask("FCALL", "count", 1, KEYS[shard]) == 1
            assert await hot.of(shard).incr(KEYS[shard]) == 2

        slot, name = await one.tell("CLUSTER KEYSLOT", KEYS[0]), await two.tell("CLUSTER MYID")
        await one.tell("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)

        async def moved():
            return await one.tell("CLUSTER COUNTKEYSINSLOT", slot) == 0

        await wait_until_async(moved, PATIENCE_SECONDS, what="the move of a slot")
        with pytest.raises(StoreMoved, match="MOVED"):
            await lines.of(0).ask("FCALL", "count", 1, KEYS[0])
        with pytest.raises(redis.ConnectionError):
            await hot.of(0).incr(KEYS[0])
        assert lines.of(1).connected
        assert await waited_out(lambda: lines.of(0).ask("FCALL", "count", 1, KEYS[0])) == 3
        assert lines.of(0).replid.decode() == await two.replication("master_replid")
        assert await waited_out(lambda: hot.of(0).incr(KEYS[0])) == 4


async def test_in_a_cluster_a_line_leaves_a_primary_that_was_demoted(cluster):
    one, _, _, replica, *_ = cluster
    line = StoreLine(f"cluster://{HOST}:{one.port}", library=COUNTING)
    async with running(line):
        first = line.replid
        await line.ask("FCALL", "count", 1, KEYS[0])
        await one.tell("WAIT", 1, 0)
        await replica.tell("CLUSTER FAILOVER", "TAKEOVER")

        async def elsewhere():
            return line.connected and line.replid != first

        # Nobody calls it meanwhile, and nobody closes its connection.
        await wait_until_async(elsewhere, PATIENCE_SECONDS, what="the new primary")
        assert line.replid.decode() == await replica.replication("master_replid")
        assert await line.ask("FCALL", "count", 1, KEYS[0]) == 2


async def test_behind_sentinels_the_new_primary_is_found(pair, tmp_path):
    first, second = pair
    (port,) = free_ports(1)
    sentinel = Node(tmp_path / "sentinel", port, sentinel_of=first.port)
    # The first one who is asked is away.
    url = f"sentinel://{HOST}:1,{HOST}:{port}/likes"
    line = StoreLine(url, library=COUNTING)
    async with started(sentinel), HotState(url, 1) as hot, running(line):

        async def knows_the_replica():
            return await sentinel.tell("SENTINEL REPLICAS", "likes")

        assert await line.ask("FCALL", "count", 1, KEYS[0]) == 1
        assert await hot.of(0).incr(KEYS[0]) == 2
        await wait_until_async(knows_the_replica, PATIENCE_SECONDS, what="the sentinel")
        await first.tell("WAIT", 1, 0)
        first.process.kill()

        async def gone():
            return not line.connected

        await wait_until_async(gone, what="the loss")
        await fail_over(sentinel)
        assert await waited_out(lambda: line.ask("FCALL", "count", 1, KEYS[0])) == 3
        assert await waited_out(lambda: hot.of(0).incr(KEYS[0])) == 4
        assert line.replid.decode() == await second.replication("master_replid")


async def test_a_line_that_waits_for_replicas_answers_nothing_that_none_has(pair):
    first, second = pair
    line = StoreLine(
        f"redis://{HOST}:{first.port}", timeout_seconds=8, library=COUNTING, on_replicas=True
    )
    async with running(line):
        assert await line.ask("FCALL", "count", 1, KEYS[0]) == 1
        second.process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreDown, match="no replica"):
            await line.ask("FCALL", "count", 1, KEYS[0])
        # A question is no like: it is answered.
        assert await line.ask("GET", KEYS[0]) == b"2"
        second.process.send_signal(signal.SIGCONT)
        assert await waited_out(lambda: line.ask("FCALL", "count", 1, KEYS[0])) >= 3


async def test_a_line_that_waits_for_replicas_is_not_content_with_a_store_that_keeps_nothing(
    tmp_path,
):
    (port,) = free_ports(1)
    async with started(Node(tmp_path / "careless", port, "appendonly no")):
        line = StoreLine(f"redis://{HOST}:{port}", on_replicas=True)
        with pytest.raises(StoreDown, match="WAITAOF"):
            await line._connect()
