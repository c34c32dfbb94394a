"""What the service needs before and beside the votes: time to start, memory at rest, and the
store's memory per device and day."""

import time
from collections import Counter
from pathlib import Path

import redis

from loadtest.processes import Cores, pss_bytes, running_on
from loadtest.report import Figure
from loadtest.service import (
    CAMPAIGN,
    CANDIDATE_IDS,
    Service,
    ServiceError,
    running_service,
)
from loadtest.stacks import CONNECTIONS, check_tally, send
from loadtest.voters import Order, Report

LIKES_PER_DEVICE = 10
_PARTS = ("up", "edge", "flush", "watch", "publish", "console", "valkey-server", "postgres")


def measure_start_and_rest(folder: Path, *, rounds: int, idle_seconds: float) -> list[Figure]:
    """From the command to the ready line, on any core, and memory some time after a like."""
    with running_service(folder) as service:
        first_seconds = service.ready_seconds
        service.import_campaign()
        service.stop()
        ready_seconds = []
        for round_number in range(1, rounds + 1):
            service.start()
            ready_seconds.append(service.ready_seconds)
            if round_number < rounds:
                service.stop()
        report = _like(service, devices=1, likes=1, tokens=service.mint(1))
        time.sleep(idle_seconds)
        parts = memory_by_part(service)
    return [
        Figure(
            "start",
            "`dianzan up` until ready, warm",
            "s",
            ready_seconds,
            5,
            details={"first_start_seconds": first_seconds},
        ),
        Figure(
            "rest",
            f"memory of all processes, {idle_seconds:.0f} s after a like (PSS)",
            "MB",
            [sum(parts.values())],
            400,
            details={"mb": parts, "likes": sum(report.accepted.values())},
        ),
    ]


def measure_device_day(folder: Path, cores: Cores, *, devices: int) -> list[Figure]:
    """Memory of the store for a device that gave all its likes of a day, by likes over HTTP."""
    with running_on({cores.other}), running_service(folder) as service:
        service.pin_edge(cores.measured)
        service.import_campaign()
        tokens = service.mint(devices)
        store = service.store()
        before = int(store.info("memory")["used_memory"])
        report = _like(service, devices=devices, likes=LIKES_PER_DEVICE, tokens=tokens)
        after = int(store.info("memory")["used_memory"])
        key, fields = _largest_hash(store)
        if fields != devices:
            raise ServiceError(f"{devices} devices liked, and the largest hash has {fields}")
        day_bytes = _memory_usage(store, key)
        others = {
            str(other, "ascii", "replace"): _memory_usage(store, other)
            for other in store.scan_iter()
            if other != key
        }
        check_tally(service, Counter(report.accepted))
    return [
        Figure(
            "device-day",
            f"a device-day in the store, {LIKES_PER_DEVICE} likes ({devices:,} devices)",
            "bytes",
            [day_bytes / devices],
            240,
            details={
                "method": "MEMORY USAGE of the day's hash, SAMPLES 0, over its fields",
                "used_memory_grew_by_per_device": (after - before) / devices,
                "other_keys_bytes": others,
            },
        )
    ]


def _like(service: Service, *, devices: int, likes: int, tokens: Path) -> Report:
    report = send(
        Order(
            port=service.port,
            campaign=CAMPAIGN,
            candidates=CANDIDATE_IDS,
            tokens_file=str(tokens),
            devices=devices,
            likes_per_device=(likes, likes),
            connections=min(CONNECTIONS, devices),
            warm_up_seconds=0,
            seconds=120,
        )
    )
    if report.answers != {201: devices * likes} or report.lost:
        raise ServiceError(
            f"{devices * likes} likes were sent; answers {report.answers}, {report.lost} lost"
        )
    return report


def memory_by_part(service: Service) -> dict[str, float]:
    """MB per part of the service; whatever is none of them under "other"."""
    everything = {process.pid: process for process in service.processes()}
    parts = {"up": pss_bytes([everything.pop(next(iter(everything)))]) / 1e6}
    for part in _PARTS[1:]:
        members = [everything.pop(pid) for pid in service.pids(part) if pid in everything]
        parts[part] = pss_bytes(members) / 1e6
    parts["other"] = pss_bytes(everything.values()) / 1e6
    return parts


def _largest_hash(store: redis.Redis) -> tuple[bytes, int]:
    """The one that takes the most memory, and its fields."""
    key = max(store.scan_iter(_type="hash"), key=lambda key: _memory_usage(store, key))
    return key, int(store.hlen(key))


def _memory_usage(store: redis.Redis, key: bytes) -> int:
    return int(store.memory_usage(key, samples=0) or 0)
