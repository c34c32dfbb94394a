"""What a connection takes in the edge on which nothing happens, and whether likes are counted while
the edge holds ten thousand of them.

Memory is the edge process's own (PSS); what the kernel holds for a socket is not in it. The same
connections are looked at again and again: first as they are opened, then when the fast lane has
answered a request on each, and at last when aiohttp has, which stays behind a connection that it
has served once.
"""

import contextlib
import itertools
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil

from loadtest.crowds import build_get
from loadtest.processes import Cores, pss_bytes, running_on
from loadtest.report import Figure
from loadtest.service import CAMPAIGN, ServiceError, running_service, until
from loadtest.stacks import CONNECTIONS, service_stack
from loadtest.voters import read_answer

_PER_SECOND = 22_000
_SECONDS = 2.0
_FILES_SPARE = 1_024
"""For what else this process and the edge have open, the load's connections among it."""
_ASKED_AT_ONCE = 128
_ANSWER_SECONDS_MAX = 20.0
_ACCEPTED_SECONDS_MAX = 5.0
_RESETS = struct.pack("ii", 1, 0)
"""SO_LINGER: closed at once, so that no port has to wait for its next use."""

_COUNTS = build_get(f"/v1/campaigns/{CAMPAIGN}/counts")
_HEALTH = build_get("/healthz")


def measure_idle(folder: Path, cores: Cores, *, connections: int = 10_000) -> list[Figure]:
    """Figures of the edge's memory per idle connection, and of how many it holds while likes are
    counted. Fewer connections where this process may not open so many files."""
    with (
        running_on({cores.other}),
        _files_for(connections) as held,
        running_service(
            folder,
            settings={"DIANZAN_EDGE_CONNECTIONS_MAX": str(held + 2 * CONNECTIONS)},
        ) as service,
    ):
        stack = service_stack("idle", service, cores, per_second=_PER_SECOND, seconds=_SECONDS)
        edge = [psutil.Process(pid) for pid in stack.watched["edge"]]
        with _opened(service.port, 1) as first:
            # What the first request ever brings is no connection's.
            for request in (_COUNTS, _HEALTH):
                _ask(first, request)
        before = pss_bytes(edge)
        grown_kb: dict[str, float] = {}

        def look(state: str) -> None:
            grown_kb[state] = (pss_bytes(edge) - before) / held / 1e3

        with _opened(service.port, held) as idle:
            # Silent ones stay for 10 s, the others for 75.
            until(
                lambda: sum(each.num_fds() for each in edge) >= held,
                _ACCEPTED_SECONDS_MAX,
                f"{held} accepted connections",
            )
            look("silent")
            _ask(idle, _COUNTS)
            look("lane")
            _ask(idle, _HEALTH)
            look("aiohttp")
            report = stack.load(_SECONDS, seed=1)
            still_held = sum(map(_is_open, idle))
            kept = stack.checked()
    return [
        Figure(
            "idle-connection",
            f"memory of the edge per idle connection ({held:,}), served once in the lane (PSS)",
            "kB",
            [grown_kb["lane"]],
            12,
            details={
                "wanted": connections,
                "held": held,
                "silent_kb": grown_kb["silent"],
                "served_by_aiohttp_too_kb": grown_kb["aiohttp"],
                "edge_before_mb": before / 1e6,
            },
        ),
        Figure(
            "idle-held",
            "idle connections held while likes were counted",
            "",
            [still_held],
            details={
                "likes": kept,
                "likes_per_s": report.per_second,
                "p99_ms": report.p99_ms,
                "edge_us": report.cpu_us["edge"],
            },
        ),
    ]


@contextlib.contextmanager
def _files_for(connections: int) -> Iterator[int]:
    """As many open files as that takes, or as the system grants; how many connections it is then.
    The service inherits it."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES_SPARE
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if granted <= _FILES_SPARE:
        raise OSError(f"{granted} open files are too few to hold connections beside them")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, granted), hard))
    try:
        yield granted - _FILES_SPARE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@contextlib.contextmanager
def _opened(port: int, connections: int) -> Iterator[list[socket.socket]]:
    """So many connections, on which nothing was sent yet."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(connections):
            one = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS_MAX)
            )
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
            opened.append(one)
        yield opened


def _ask(connections: list[socket.socket], request: bytes) -> None:
    """Send it on each and read the answer; ServiceError where one is not 200."""
    waiting = iter(connections)
    while batch := list(itertools.islice(waiting, _ASKED_AT_ONCE)):
        for one in batch:
            one.sendall(request)
        for one in batch:
            received = b""
            while (answer := read_answer(received)) is None:
                chunk = one.recv(65_536)
                if not chunk:
                    raise ServiceError("the edge ended a connection that was to stay idle")
                received += chunk
            if answer != (200, len(received)):
                raise ServiceError(f"200 was expected: {received[:200]!r}")


def _is_open(one: socket.socket) -> bool:
    """Whether the other end holds it too: nothing has come, not even its end."""
    one.setblocking(False)
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
