"""Stores of several servers, out of the embedded binary: a Cluster, a pair, Sentinels."""

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess

import redis.asyncio as redis

from deploy.local.servers import EmbeddedValkey
from tests.conftest import wait_until_async

# An address of this process's own: ports that are free here are nobody else's in a moment.
HOST = str(ipaddress.IPv4Address("127.64.0.0") + os.getpid())
# A Sentinel that was not scheduled for two seconds does nothing for the next thirty.
PATIENCE_SECONDS = 60


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
            # Else Sentinels tell each other that they are at 127.0.0.1, and none is ever elected.
            config = [
                f"sentinel announce-ip {HOST}",
                f"sentinel monitor likes {HOST} {sentinel_of} 1",
            ]
        config += [f"port {port}", f"bind {HOST}", f"dir {folder}", *more]
        self._config = folder / "node.conf"
        self._config.write_text("\n".join(config))
        self._words = ["--sentinel"] if sentinel_of else []
        self.client = redis.Redis(host=HOST, port=port, decode_responses=True)

    def command(self):
        binary = EmbeddedValkey(self.folder, memory_mb=64).command()[0]
        return [binary, str(self._config), *self._words]

    def spawn(self):
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                self.command(),
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


async def told(node, *words):
    """Tell it until it does as it is told: it may not have heard of the others yet."""

    async def accepted():
        with contextlib.suppress(redis.ResponseError):
            return [await node.tell(*words)]

    await wait_until_async(accepted, PATIENCE_SECONDS, what=" ".join(map(str, words)))


@contextlib.asynccontextmanager
async def running_cluster(folder, *, node_timeout_ms=60_000):
    """Six servers: primaries of shard 0, 1 and 2, then their replicas in the same order. Where a
    primary is gone for longer than the timeout, the others elect its replica."""
    ports = free_ports(12)
    nodes = [
        Node(
            folder / f"{n}",
            ports[n],
            "cluster-enabled yes",
            f"cluster-node-timeout {node_timeout_ms}",
            # A replica that is a moment behind may stand in: there is no other.
            "cluster-replica-validity-factor 0",
            f"cluster-announce-ip {HOST}",
            f"cluster-port {ports[6 + n]}",
        )
        for n in range(6)
    ]
    async with started(*nodes):
        primaries, replicas = nodes[:3], nodes[3:]
        slots = [await nodes[0].tell("CLUSTER KEYSLOT", f"{{s{shard}}}") for shard in range(3)]
        ordered = sorted(range(3), key=lambda shard: slots[shard])
        starts = [0, *(slots[shard] for shard in ordered[1:]), 16_384]
        for shard, first, behind in zip(ordered, starts[:-1], starts[1:], strict=True):
            await primaries[shard].tell("CLUSTER ADDSLOTSRANGE", first, behind - 1)
        for n, other in enumerate(nodes[1:], 1):
            await nodes[0].tell("CLUSTER MEET", HOST, other.port, ports[6 + n])
        names = [await node.tell("CLUSTER MYID") for node in nodes]

        async def met():
            infos = [await node.tell("CLUSTER INFO") for node in nodes]
            return all(
                info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "6"
                for info in infos
            )

        await wait_until_async(met, PATIENCE_SECONDS, what="a cluster")
        for name, replica in zip(names, replicas, strict=False):
            await told(replica, "CLUSTER REPLICATE", name)
        for primary, replica in zip(primaries, replicas, strict=True):
            await in_sync(replica)
            # Only when its first file is whole has a replica anything on its disk.
            key = f"{{s{primaries.index(primary)}}}:first"
            await told(primary, "SET", key, 1)
            await primary.tell("WAITAOF", 1, 1, 0)
        yield nodes


@contextlib.asynccontextmanager
async def running_pair(folder):
    """A primary and its replica."""
    ports = free_ports(2)
    first = Node(folder / "first", ports[0])
    second = Node(folder / "second", ports[1], f"replicaof {HOST} {ports[0]}")
    async with started(first, second):
        await in_sync(second)
        # Only when its first file is whole has a replica anything on its disk.
        await first.tell("SET", "first", 1)
        await first.tell("WAITAOF", 1, 1, 0)
        yield first, second


async def fail_over(sentinel):
    async def begun():
        with contextlib.suppress(redis.ResponseError):
            return await sentinel.tell("SENTINEL FAILOVER", "likes")

    await wait_until_async(begun, PATIENCE_SECONDS, what="a failover")


async def connected_replica(sentinel):
    """Until this Sentinel knows who could stand in."""

    async def knows():
        return await sentinel.tell("SENTINEL REPLICAS", "likes")

    await wait_until_async(knows, PATIENCE_SECONDS, what="a sentinel that knows the replica")


async def in_touch(sentinels):
    """Until each of them can reach all: before that they elect nobody."""

    async def reach_all():
        for sentinel in sentinels:
            with contextlib.suppress(redis.ResponseError):
                said = await sentinel.tell("SENTINEL", "CKQUORUM", "likes")
                if said.startswith(f"OK {len(sentinels)} usable"):
                    continue
            return False
        return True

    await wait_until_async(reach_all, PATIENCE_SECONDS, what="Sentinels in touch")
