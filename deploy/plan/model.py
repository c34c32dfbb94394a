"""Demand and unit figures -> how many of each part, and which gives out first. No I/O, no clock.

Each stage is as many servers as keep it at most `busy_at_most` busy at the peak; what a like waits
there is M/M/1's mean, service / (1 - busy): rather too long for even service, too short for a
crowd that comes in bursts within the second. Costs per like are those of a saturated service with
full batches; below saturation batches are smaller and a like costs up to twice as much, while
there is room. Stages share nothing in this model: parts that share a core are slower.
"""

import math

import msgspec

from deploy.plan.figures import UnitFigure

SHARDS_MAX = 64
"""What this version runs; a shard has one journal, so one flusher at a time."""

Figures = dict[str, UnitFigure]


class Demand(msgspec.Struct, frozen=True):
    """What is to come: likes in all, over so many days, at most `peak` a second."""

    likes: float
    days: int
    peak: float


class Stage(msgspec.Struct, frozen=True):
    """One part of the service at the peak."""

    name: str
    one_carries: float
    """Likes a second of one of it, fully busy."""
    wanted: int
    busy: float
    """Share of its time, at the peak, with `wanted` of it."""
    waits_ms: float | None
    """Mean time of a like in it; None where no voter waits for it."""
    most: int | None
    """How many of it this version can run; None = as many as wanted."""

    @property
    def within(self) -> bool:
        return self.most is None or self.wanted <= self.most

    @property
    def carries(self) -> float | None:
        """Likes a second that the most of it carry fully busy; None where there is no most."""
        return None if self.most is None else self.most * self.one_carries


class Plan(msgspec.Struct, frozen=True):
    """All parts, and what lies on disks, in memory and on the wire."""

    demand: Demand
    stages: list[Stage]
    store_memory_gb: float
    store_disk_gb: float
    postgres_disk_gb: float
    in_mbit_s: float
    out_mbit_s: float
    connections: float
    edge_memory_gb: float

    @property
    def cores(self) -> int:
        return sum(stage.wanted for stage in self.stages)

    @property
    def within(self) -> bool:
        """Whether this version can run it."""
        return all(stage.within for stage in self.stages)

    @property
    def bottleneck(self) -> Stage:
        """What gives out first as the peak grows: of the parts that there cannot be ever more of,
        the one that carries least."""
        limited = [stage for stage in self.stages if stage.carries is not None]
        return min(limited, key=lambda stage: stage.carries or 0)


def peak_of(likes: float, days: int, figures: Figures) -> float:
    """Likes a second of the busiest hour of a mean day; a final evening is higher: say it."""
    return likes / days * figures["daily_peak_share"].value / 3600


def plan(demand: Demand, figures: Figures) -> Plan:
    """What this demand needs. ValueError where the peak is below the mean rate."""
    if demand.peak < demand.likes / (demand.days * 86_400):
        raise ValueError("the peak is below the mean: so many likes do not fit into these days")
    of = {name: figure.value for name, figure in figures.items()}
    per_like_us = (
        of["edge_us"]
        + of["new_devices_per_like"] * of["device_us"]
        + of["counts_per_like"] * of["counts_us"]
    )
    stages = [
        _stage("edge (cores)", 1e6 / per_like_us, demand, of, voters_wait=True),
        _stage(
            "store (shards)",
            # One batch is in flight at a time and its fsync is waited for.
            1e6 / (of["store_us"] + of["fsync_ms"] * 1000 / _BATCH),
            demand,
            of,
            voters_wait=True,
            most=SHARDS_MAX,
        ),
        _stage("flusher (tasks)", of["flush_rows_per_s"], demand, of, most=SHARDS_MAX),
        _stage("Postgres (cores)", 1e6 / of["postgres_us"], demand, of),
        _stage("watch (cores)", 1e6 / of["watch_us"], demand, of, most=1),
        _stage("log (cores)", of["log_rows_per_s"], demand, of, most=1),
    ]
    connections = demand.peak / of["likes_per_device_day"] * of["connection_seconds"]
    device_days = demand.likes / demand.days / of["likes_per_device_day"]
    return Plan(
        demand=demand,
        stages=stages,
        store_memory_gb=device_days * of["device_day_bytes"] * of["hot_days"] / 1e9,
        # A rewrite keeps both files until it is done.
        store_disk_gb=2 * demand.likes / demand.days * of["hot_days"] * of["aof_bytes"] / 1e9,
        postgres_disk_gb=demand.likes * of["postgres_bytes"] / 1e9,
        in_mbit_s=demand.peak * of["request_bytes"] * 8 / 1e6,
        out_mbit_s=demand.peak * of["answer_bytes"] * 8 / 1e6,
        connections=connections,
        edge_memory_gb=connections * of["connection_kb"] / 1e6,
    )


_BATCH = 64
"""Likes of a batch at the peak; at saturation they are more."""


def _stage(
    name: str,
    one_carries: float,
    demand: Demand,
    of: dict[str, float],
    *,
    voters_wait: bool = False,
    most: int | None = None,
) -> Stage:
    wanted = max(1, math.ceil(demand.peak / (one_carries * of["busy_at_most"])))
    busy = demand.peak / (one_carries * wanted)
    return Stage(
        name=name,
        one_carries=one_carries,
        wanted=wanted,
        busy=busy,
        waits_ms=1000 / one_carries / (1 - busy) if voters_wait else None,
        most=most,
    )
