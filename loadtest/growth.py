"""What becomes of a like's cost as the work grows: with a million devices of the day in the store,
with a second worker of the edge; and how much of it is the fsync before the answer.

The day's hashes are filled beside the edge, by the layouts that voting/journal.py draws, for a
million devices by HTTP would take minutes. Weakness: the devices that like meanwhile are new ones,
so what is in the way of a look-up grows, while records of the filled-in devices are not read again.

A hash that has outgrown its table moves to a larger one bit by bit, with every command that touches
it; a million devices have just begun that. It passes, so the rounds come after it, and what a like
costs meanwhile stands in the details (`just_filled_us`: of one run, with servers that are new).
"""

import contextlib
import random
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from loadtest.processes import Cores, pin, running_on
from loadtest.report import Figure, median_of
from loadtest.service import CAMPAIGN, CANDIDATES, ServiceError, running_service
from loadtest.stacks import Stack, cost_ratios, cost_us, medians, service_stack
from loadtest.voters import Report

_PER_SECOND = 22_000
"""Likes that a core of 2026 takes, about: how much to prepare for the first round."""

_FEW, _MANY, _TWO_WORKERS = "few-devices", "many-devices", "two-workers"

# A device-day record: when its limit is free again, then each like (candidate, click, epoch, seq
# in two parts). A network's: when its limit is free again, and 20 times its limit.
_RECORD_HEAD = struct.Struct(">Q")
_LIKE = struct.Struct(">H6sHBI")
_NETWORK = struct.Struct(">QQ")
_ID_BYTES = 8
"""Of a device, and of a network."""
_LIKES_MOST = 10
_RECORDS = 1_000
"""Different ones. They are used again and again; the store keeps a copy for each device."""
_WRITTEN_AT_ONCE = 2_000
_GROWTH_MOST = 1.1
"""A day that has grown further since it was filled is filled anew before the next round."""


@dataclass(frozen=True, slots=True)
class _Day:
    """The hashes of a campaign's day in a running service's store."""

    store: redis.Redis
    devices_key: bytes
    networks_key: bytes
    devices: int
    """How many there should be when a round begins."""

    def fill(self, seed: int) -> None:
        """Bring it to `devices`, each in a network of its own, where it has fewer or far more.
        Nobody may be liking: who has liked before is forgotten, the tally is not touched."""
        if self.devices <= self.count() <= self.devices * _GROWTH_MOST:
            return
        dice = random.Random(seed)
        now_us = int(time.time()) * 1_000_000
        records = [_device_day(dice, now_us) for _ in range(_RECORDS)]
        networks = [_network(dice, now_us) for _ in range(_RECORDS)]
        self.store.unlink(self.devices_key, self.networks_key)
        for at in range(0, self.devices, _WRITTEN_AT_ONCE):
            count = min(_WRITTEN_AT_ONCE, self.devices - at)
            with self.store.pipeline(transaction=False) as pipeline:
                pipeline.hset(self.devices_key, items=_fields(dice, records, count))
                pipeline.hset(self.networks_key, items=_fields(dice, networks, count))
                pipeline.execute()

    def settle(self) -> None:
        """Bring to its end what a hash does about a table that it has outgrown. A look-up moves one
        bucket, of 7 fields; who is looked up is nobody."""
        dice = random.Random(0)
        for key in (self.devices_key, self.networks_key):
            for _ in range(0, self.devices // 2, _WRITTEN_AT_ONCE):
                self.store.hmget(key, [dice.randbytes(_ID_BYTES) for _ in range(_WRITTEN_AT_ONCE)])

    def count(self) -> int:
        return int(self.store.hlen(self.devices_key))

    def megabytes(self) -> float:
        """Memory of the whole store."""
        return float(self.store.info("memory")["used_memory"]) / 1e6


def measure_growth(
    folder: Path,
    cores: Cores,
    *,
    rounds: int,
    seconds: float,
    devices_many: int = 1_000_000,
    devices_few: int = 10_000,
) -> list[Figure]:
    """Figures of cost with many devices over few, and with two workers over one."""
    stacks: dict[str, Stack] = {}
    days: dict[str, _Day] = {}
    just_filled: dict[str, float] = {}
    sizes: dict[str, list[dict[str, float]]] = {}
    with running_on({cores.other}), contextlib.ExitStack() as opened:
        for name, workers, devices in (
            (_FEW, 1, devices_few),
            (_MANY, 1, devices_many),
            (_TWO_WORKERS, 2, devices_few),
        ):
            service = opened.enter_context(running_service(folder / name, workers=workers))
            stacks[name] = service_stack(
                name, service, cores, per_second=_PER_SECOND, seconds=(rounds + 1) * seconds + 1
            )
            # A worker is there to use a core that another one leaves free: each has its own.
            for pid in stacks[name].watched["edge"][1:]:
                pin(pid, {cores.other})
            # The first likes of the day make the hashes, under the names that the edge gives them.
            stacks[name].load(1, seed=1_000, rate_per_second=100)
            store = opened.enter_context(service.store())
            days[name] = _Day(store, _key_of("day", store), _key_of("net", store), devices)
            days[name].fill(0)
            just_filled[name] = cost_us(stacks[name].load(seconds, seed=2_000))
        for seed in range(1, rounds + 1):
            for name, stack in stacks.items():
                day = days[name]
                day.fill(seed)
                day.settle()
                before = day.count()
                stack.reports.append(stack.load(seconds, seed=seed))
                sizes.setdefault(name, []).append(
                    {
                        "devices_before": before,
                        "devices_after": day.count(),
                        "store_mb": day.megabytes(),
                    }
                )
        kept = {name: stack.checked() for name, stack in stacks.items()}
    seen = {
        name: _seen(stack.reports, cores)
        | {"just_filled_us": just_filled[name], "rounds": sizes[name], "kept": kept[name]}
        for name, stack in stacks.items()
    }
    few = stacks[_FEW].reports
    return [
        Figure(
            "growth-devices",
            f"CPU of edge + store per like, at {devices_many:,} devices over {devices_few:,}",
            "",
            cost_ratios(stacks[_MANY].reports, few),
            1.2,
            details={name: seen[name] for name in (_FEW, _MANY)},
        ),
        Figure(
            "growth-workers",
            "the same, with 2 workers of the edge, each on its core, over 1",
            "",
            cost_ratios(stacks[_TWO_WORKERS].reports, few),
            1.2,
            details={name: seen[name] for name in (_FEW, _TWO_WORKERS)},
        ),
    ]


def measure_fsync(folder: Path, cores: Cores, *, rounds: int, seconds: float) -> list[Figure]:
    """The figure of cost with an fsync before each answer over one each second."""
    seen: dict[str, list[Report]] = {"everysec": [], "always": []}
    with (
        running_on({cores.other}),
        running_service(folder) as service,
        service.store() as store,
    ):
        stack = service_stack(
            "fsync", service, cores, per_second=_PER_SECOND, seconds=2 * rounds * seconds
        )
        try:
            for seed in range(1, rounds + 1):
                for crowd, (policy, reports) in enumerate(seen.items()):
                    store.config_set("appendfsync", policy)
                    reports.append(stack.load(seconds, seed=1_000 * crowd + seed))
        finally:
            store.config_set("appendfsync", "always")
        kept = stack.checked()
    return [
        Figure(
            "fsync",
            "CPU of edge + store per like at full speed, fsync always over each second",
            "",
            cost_ratios(seen["always"], seen["everysec"]),
            1.25,
            details={policy: _seen(reports, cores) for policy, reports in seen.items()}
            | {"kept": kept},
        )
    ]


def _seen(reports: list[Report], cores: Cores) -> dict[str, Any]:
    cost = round(median_of([cost_us(report) for report in reports]), 3)
    return {"cost_us": cost, **medians(reports, cores)}


def _key_of(kind: str, store: redis.Redis) -> bytes:
    """The name of the hash, "day" or "net", of the only day on which anybody has liked."""
    found = list(store.scan_iter(match=f"{{s0}}:{kind}:{CAMPAIGN}:*"))
    if len(found) != 1:
        raise ServiceError(f"one key of kind {kind!r} was expected in the store, not {found}")
    return bytes(found[0])


def _fields(dice: random.Random, records: Sequence[bytes], count: int) -> list[bytes]:
    """So many new ids, each with a record, as HSET takes them."""
    words: list[bytes] = []
    for record in dice.choices(records, k=count):
        words += (dice.randbytes(_ID_BYTES), record)
    return words


def _device_day(dice: random.Random, now_us: int) -> bytes:
    """Of a device that gave 1 to 10 likes within the last hour, none of a journal that exists."""
    likes = [
        _LIKE.pack(candidate, dice.randbytes(6), 1, 0, dice.randrange(1, 1 << 20))
        for candidate in dice.sample(range(1, CANDIDATES + 1), dice.randint(1, _LIKES_MOST))
    ]
    return _RECORD_HEAD.pack(_moment(dice, now_us)) + b"".join(likes)


def _network(dice: random.Random, now_us: int) -> bytes:
    return _NETWORK.pack(_moment(dice, now_us), _moment(dice, now_us))


def _moment(dice: random.Random, now_us: int) -> int:
    """Within the hour before now."""
    return now_us - dice.randrange(3_600_000_000)
