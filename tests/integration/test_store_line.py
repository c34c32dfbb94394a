"""The connections to a store whose primary can change, with real servers."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess

import pytest
import redis.asyncio as redis

from deploy.local.servers import EmbeddedValkey
from tests.conftest import wait_until_async
from voting.hot_state import HotState
from voting.journal import head_key
from voting.store_line import StoreDown, StoreLine, StoreMoved
from voting.store_lines import StoreLines

COUNTING = """#!lua name=counting
redis.register_function('count', function(keys) return redis.call('INCR', keys[1]) end)
"""
# An address of this process's own: ports that are free here are nobody else's in a moment.
HOST = str(ipaddress.IPv4Address("127.64.0.0") + os.getpid())
# A Sentinel that was not scheduled for two seconds does nothing for the next thirty.
PATIENCE_SECONDS = 60
KEYS = [head_key(shard) for shard in range(2)]


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


class Node:
    """One server of a few, on TCP; what it writes is on its disk before it is answered."""

    def __init__(self, folder, port, *more, sentinel_of=None):
        folder.mkdir()
        self.folder, self.port = folder, port
        if sentinel_of is None:
            config = [
                "appendonly yes",
                "appendfsync always",
                'save ""',
                "repl-diskless-sync-delay 0",
                f"replica-announce-ip {HOST}",
            ]
        else:
            config = [f"sentinel monitor likes {HOST} {sentinel_of} 1"]
        config += [f"port {port}", f"bind {HOST}", f"dir {folder}", *more]
        self._config = folder / "node.conf"
        self._config.write_text("\n".join(config))
        self._words = ["--sentinel"] if sentinel_of else []
        self.client = redis.Redis(host=HOST, port=port, decode_responses=True)

    def spawn(self):
        binary = EmbeddedValkey(self.folder, memory_mb=64).command()[0]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [binary, str(self._config), *self._words],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self):
        await wait_until_async(self._answers, what="a server")

    async def _answers(self):
        with contextlib.suppress(redis.RedisError, OSError):
            return await self.client.ping()

    async def stop(self):
        await self.client.aclose()
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(20)

    async def tell(self, *words):
        return await self.client.execute_command(*words)

    async def replication(self, field):
        return (await self.client.info("replication"))[field]


@contextlib.asynccontextmanager
async def started(*nodes):
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            node.spawn()
            stack.push_async_callback(node.stop)
        for node in nodes:
            await node.ready()
        yield nodes


async def in_sync(replica):
    async def synced():
        return await replica.replication("master_link_status") == "up"

    await wait_until_async(synced, what="a replica in sync")


@pytest.fixture
async def cluster(tmp_path_factory):
    """A primary with shard 0, another with shard 1, and a replica of the first."""
    ports = free_ports(6)
    folder = tmp_path_factory.mktemp("cluster")
    nodes = [
        Node(
            folder / f"{n}",
            ports[n],
            "cluster-enabled yes",
            f"cluster-announce-ip {HOST}",
            f"cluster-port {ports[3 + n]}",
        )
        for n in range(3)
    ]
    async with started(*nodes) as (one, two, replica):
        await one.tell("CLUSTER ADDSLOTSRANGE", 0, 11999)
        await two.tell("CLUSTER ADDSLOTSRANGE", 12000, 16383)
        for other in (1, 2):
            await one.tell("CLUSTER MEET", HOST, ports[other], ports[3 + other])
        names = [await node.tell("CLUSTER MYID") for node in nodes]

        async def met():
            infos = [await node.tell("CLUSTER INFO") for node in nodes]
            return all(
                info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"
                for info in infos
            )

        await wait_until_async(met, PATIENCE_SECONDS, what="a cluster")
        await replica.tell("CLUSTER REPLICATE", names[0])
        await in_sync(replica)
        yield nodes


@pytest.fixture
async def pair(tmp_path_factory):
    """A primary and its replica."""
    folder = tmp_path_factory.mktemp("pair")
    ports = free_ports(2)
    first = Node(folder / "first", ports[0])
    second = Node(folder / "second", ports[1], f"replicaof {HOST} {ports[0]}")
    async with started(first, second):
        await in_sync(second)
        # Only when its first file is whole has a replica anything on its disk.
        await first.tell("SET", "first", 1)
        await first.tell("WAITAOF", 1, 1, 0)
        yield first, second


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


async def fail_over(sentinel):
    async def begun():
        with contextlib.suppress(redis.ResponseError):
            return await sentinel.tell("SENTINEL FAILOVER", "likes")

    await wait_until_async(begun, PATIENCE_SECONDS, what="a failover")


async def test_in_a_cluster_each_shard_is_found_and_found_again_after_it_moved(cluster):
    one, two, _ = cluster
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
    one, _, replica = cluster
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
