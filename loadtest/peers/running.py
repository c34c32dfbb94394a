"""The peers by name, and how one is started and ended."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from loadtest.peers.checks import ABSENT
from loadtest.processes import end_input


class Peer(NamedTuple):
    """One way to take the like, and where it keeps what it counted."""

    module: str
    what: str
    tally_key: str = "tally"
    journal_key: str = "journal"


PEERS = {
    "first-written": Peer("first_written", "FastAPI, pydantic, slowapi, redis-py: a call per step"),
    "redis-py": Peer("redis_py", "aiohttp, redis-py: a function call per like"),
    "nginx-lua": Peer("nginx_lua", "nginx, lua-nginx-module: a function call per like"),
    "go": Peer("go_like", "Go net/http, redigo: a function call per like"),
    "go-group-commit": Peer(
        "go_group",
        "Go net/http, redigo: our function, a call per batch",
        "{s0}:tally:peer",
        "{s0}:journal",
    ),
}


class PeerAbsent(Exception):
    """A program that the peer needs is not on this machine; the message says which."""


class PeerError(Exception):
    """The peer did not start; the message is what it said."""


class Running(NamedTuple):
    """A peer that serves."""

    port: int
    pids: list[int]
    """Its processes, whose CPU time is what it costs."""


@contextlib.contextmanager
def running_peer(module: str, environment: Mapping[str, str]) -> Iterator[Running]:
    """A peer of loadtest.peers, ended at the end. PeerAbsent, PeerError."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"loadtest.peers.{module}"],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            said = process.stderr.read().strip()
            if process.wait(10) == ABSENT:
                raise PeerAbsent(said)
            raise PeerError(f"the peer {module} did not start: {said[-500:]}")
        yield Running(**json.loads(line))
    finally:
        end_input(process)
        process.stdout.close()
        process.stderr.close()
