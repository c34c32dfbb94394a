"""How long the store stops at most while a day's hash grows to millions of devices, and while its
append-only file is rewritten.

A store of the bench's own, set up as the service's is. A device-day record is as long as one of 10
likes; 256 of them are written per command, as a full batch of likes does, and a probe asks for a
PING each millisecond. A wait counts from the question to the answer, so the disk is in it, and a
disk that is slow for once hides what the hash costs (and without fsync the kernel stops a writer
now and then for half a second to clear what has heaped up). So the hash grows without append-only
file; `calm` tells what the disk alone makes of as many writes to a small hash, with fsync.
"""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from loadtest.processes import Cores, end_input, pin, running_on
from loadtest.report import Figure
from loadtest.service import ServiceError, running_service
from loadtest.store import Store, running_store

_RECORD_BYTES = 8 + 10 * 15
_WRITTEN_AT_ONCE = 256
_DEVICE_DAY_BYTES = 260
_REWRITE_SECONDS_MAX = 300.0
_DEVICES = "devices"


@dataclass
class Probe:
    """The waits that a running probe tells of."""

    waits: list[tuple[float, float]] = field(default_factory=list)
    """(begun, milliseconds)"""

    def worst(self, since: float, until: float) -> tuple[float, float]:
        """The longest wait that began then; (since, 2) where none reached 2 ms."""
        waits = [wait for wait in self.waits if since <= wait[0] < until]
        return max(waits, key=lambda wait: wait[1], default=(since, 2.0))

    def over(self, ms: float, since: float, until: float) -> int:
        """How many waits were that long or longer."""
        return sum(1 for begun, waited in self.waits if since <= begun < until and waited >= ms)


def measure_stalls(folder: Path, cores: Cores, *, devices: int) -> list[Figure]:
    """The store alone on one core; who fills it and who asks are on the other."""
    with running_on({cores.other}), contextlib.ExitStack() as opened:
        with running_service(folder / "service") as service:
            stack = opened.enter_context(running_store(service.store(), folder / "store"))
        pin(stack.pid, {cores.measured})
        room = int(stack.client.info("memory")["maxmemory"]) or 1 << 40
        devices = min(devices, room // 2 // _DEVICE_DAY_BYTES)
        probe = opened.enter_context(_probe(stack.socket))
        return _measure(stack, probe, devices)


def _measure(store: Store, probe: Probe, devices: int) -> list[Figure]:
    client = store.client
    client.config_set("latency-monitor-threshold", 2)
    dice = random.Random(1)
    few = [dice.randbytes(8) for _ in range(_WRITTEN_AT_ONCE * 100)]
    with _phase(client, probe) as calm:
        for _ in range(10):
            for at in range(0, len(few), _WRITTEN_AT_ONCE):
                _write(client, "few", few[at : at + _WRITTEN_AT_ONCE], dice)
    at_counts: list[tuple[float, int]] = []
    begun = time.monotonic()
    client.config_set("appendonly", "no")
    with _phase(client, probe) as growing:
        for count in range(0, devices, _WRITTEN_AT_ONCE):
            at_counts.append((time.monotonic() - begun, count))
            _write(client, _DEVICES, [dice.randbytes(8) for _ in range(_WRITTEN_AT_ONCE)], dice)
    day_bytes = int(client.memory_usage(_DEVICES, samples=0) or 0)
    fields = int(client.hlen(_DEVICES))
    # The first file, written by a rewrite of its own.
    client.config_set("appendonly", "yes")
    _until_rewritten(client)
    with _phase(client, probe) as rewriting:
        _rewrite(client, few, dice)
    after = client.info()
    with _phase(client, probe) as forgetting:
        client.unlink(_DEVICES)
        time.sleep(0.2)
    details = {
        "devices": fields,
        "bytes_per_device_day": day_bytes / fields,
        "calm": calm,
        "growth": growing | {"at_devices": _count_at(at_counts, growing["worst_after_seconds"])},
        "rewrite": rewriting
        | {
            "fork_ms": after["latest_fork_usec"] / 1e3,
            "seconds": after["aof_last_rewrite_time_sec"],
            "copied_on_write_mb": after["aof_last_cow_size"] / 1e6,
        },
        "unlink": forgetting,
    }
    return [
        Figure(
            "stall-growth",
            f"worst wait for the store, a day growing to {fields / 1e6:.2g} M devices, in memory",
            "ms",
            [growing["worst_ms"]],
            details=details,
        ),
        Figure(
            "stall-rewrite",
            "the same during BGREWRITEAOF of that (fork, copy, fsync, hand-over)",
            "ms",
            [rewriting["worst_ms"]],
        ),
    ]


def _write(client: redis.Redis, key: str, devices: list[bytes], dice: random.Random) -> None:
    words: list[bytes] = []
    for device in devices:
        words += (device, dice.randbytes(_RECORD_BYTES))
    client.hset(key, items=words)


def _rewrite(client: redis.Redis, devices: list[bytes], dice: random.Random) -> None:
    """Rewrite the file while writes go on, every few milliseconds one command."""
    client.bgrewriteaof()

    def write_on() -> None:
        for _ in range(10):
            _write(client, "few", dice.sample(devices, _WRITTEN_AT_ONCE), dice)
            time.sleep(0.002)

    _until_rewritten(client, write_on)


def _until_rewritten(
    client: redis.Redis, meanwhile: Callable[[], None] = lambda: time.sleep(0.05)
) -> None:
    deadline = time.monotonic() + _REWRITE_SECONDS_MAX
    while True:
        info = client.info("persistence")
        if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]):
            break
        if time.monotonic() > deadline:
            raise ServiceError("the rewrite of the append-only file did not end in time")
        meanwhile()
    if info["aof_last_bgrewrite_status"] != "ok":
        raise ServiceError("the rewrite of the append-only file failed")


@contextlib.contextmanager
def _phase(client: redis.Redis, probe: Probe) -> Iterator[dict[str, Any]]:
    """What the probe saw meanwhile, and what the store says that it was busy with."""
    client.latency_reset()
    seen: dict[str, Any] = {}
    begun = time.monotonic()
    yield seen
    ended = time.monotonic()
    time.sleep(0.1)  # the probe's last lines
    seen["seconds"] = ended - begun
    worst_at, seen["worst_ms"] = probe.worst(begun, ended)
    seen["worst_after_seconds"] = worst_at - begun
    seen["waits_over_10_ms"] = probe.over(10, begun, ended)
    seen["store_says_ms"] = {
        event.decode() if isinstance(event, bytes) else str(event): worst
        for event, _, _, worst, *_ in client.latency_latest()
    }


def _count_at(at_counts: list[tuple[float, int]], moment: float) -> int:
    return max((count for at, count in at_counts if at <= moment), default=0)


@contextlib.contextmanager
def _probe(path: Path) -> Iterator[Probe]:
    """A probe in a process of its own, and a thread that reads what it tells."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.pings", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = process.stdout
    probe = Probe()

    def read() -> None:
        for line in told:
            begun, ms = line.split()
            probe.waits.append((float(begun), float(ms)))

    if told.readline() != "ready\n":
        raise ServiceError("the probe did not reach the store")
    with contextlib.suppress(PermissionError):
        # It shares its core with who fills the store, and must not wait for that one.
        os.setpriority(os.PRIO_PROCESS, process.pid, -10)
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        yield probe
    finally:
        end_input(process)
        reading.join(5)
        told.close()
