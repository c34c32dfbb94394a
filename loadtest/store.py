"""A Valkey of the bench's own, set up exactly as the service sets up its own."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

_READY_SECONDS_MAX = 10.0
_MET_SECONDS_MAX = 30.0


class Store(NamedTuple):
    """A running server."""

    url: str
    pid: int
    socket: Path
    client: redis.Redis


@contextlib.contextmanager
def running_store(like: redis.Redis, folder: Path, *more: str) -> Iterator[Store]:
    """The binary and the configuration of the server behind `like`, with another folder and
    socket and `more` lines. Stopped at the end; its files are the caller's to remove."""
    info = like.info("server")
    folder.mkdir(mode=0o700, parents=True)
    path = folder / "valkey.sock"
    config = folder / "bench-valkey.conf"
    # Of two lines of one name the last one counts.
    lines = (Path(info["config_file"]).read_text(), f"dir {folder}", f"unixsocket {path}", *more)
    config.write_text("\n".join(lines) + "\n")
    with (folder / "valkey.log").open("wb") as log:
        process = subprocess.Popen(
            [info["executable"], str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    client = redis.Redis.from_url(f"unix://{path}")
    try:
        _until_it_answers(client)
        yield Store(f"unix://{path}", process.pid, path, client)
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@contextlib.contextmanager
def running_cluster(like: redis.Redis, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """A Cluster of two such servers on loopback, shard 0 on the one and shard 1 on the other: its
    address, and the processes. Nobody stands in for either."""
    ports = _free_ports(4)
    slots = [int(_cluster(like, "KEYSLOT", f"{{s{n}}}")) for n in range(2)]
    middle = max(slots)
    ranges = [(0, middle - 1), (middle, 16_383)]
    if slots[0] > slots[1]:
        ranges.reverse()
    with contextlib.ExitStack() as opened:
        nodes = [
            opened.enter_context(
                running_store(
                    like,
                    folder / f"{n}",
                    "cluster-enabled yes",
                    "bind 127.0.0.1",
                    f"port {ports[n]}",
                    f"cluster-port {ports[2 + n]}",
                )
            )
            for n in range(2)
        ]
        for node, (first, last) in zip(nodes, ranges, strict=True):
            _cluster(node.client, "ADDSLOTSRANGE", first, last)
        _cluster(nodes[0].client, "MEET", "127.0.0.1", ports[1], ports[3])
        deadline = time.monotonic() + _MET_SECONDS_MAX
        while not all(_is_whole(node.client) for node in nodes):
            if time.monotonic() > deadline:
                raise OSError("two servers did not become a Cluster")
            time.sleep(0.05)
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports[:2])
        yield f"cluster://{addresses}", [node.pid for node in nodes]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _is_whole(client: redis.Redis) -> bool:
    told = str(_cluster(client, "INFO"))
    return "cluster_state:ok" in told and "cluster_known_nodes:2" in told


def _cluster(client: Any, *words: object) -> Any:
    return client.execute_command("CLUSTER", *words)


def _until_it_answers(client: redis.Redis) -> None:
    deadline = time.monotonic() + _READY_SECONDS_MAX
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
