"""How every part of the installation does: processes by their heartbeats, servers by asking them.

`look_at_parts` waits a second or two at most and raises nothing for a server that is away: that is
what it is asked for.
"""

import asyncio
import contextlib
import enum
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import asyncpg
import redis.asyncio as redis

from tally.patience import POSTGRES_AWAY, VALKEY_AWAY
from tally.store import read_queries
from voting.campaign import moment_at
from voting.heartbeat import EVERY_SECONDS, Facts, Part
from voting.hot_state import HotState
from voting.journal import head_key

_SQL = read_queries(Path(__file__).with_name("parts.sql"))

SLOW_AFTER_SECONDS = 3 * EVERY_SECONDS
DOWN_AFTER_SECONDS = 6 * EVERY_SECONDS
"""Of silence."""
LAG_SLOW_SECONDS = 5.0
"""An acknowledged like is promised to be in Postgres within that."""
LOOK_SLOW_SECONDS = 30.0
"""Since `watch` looked at the journal, which it does every five."""
PING_SLOW_MS = 100.0
STORE_FULL_SHARE = 0.8
_ASK_SECONDS = 2.0

Acquire = Callable[[], AbstractAsyncContextManager[Any]]
"""Gives a connection to Postgres, such as `pool.acquire`."""


class PartState(enum.StrEnum):
    """How a part does."""

    OK = "ok"
    SLOW = "slow"
    """It is there, and not as it should be: late, nearly full, cut off from what it needs."""
    DOWN = "down"
    NEVER = "never"
    """Nobody has heard of it within a day."""


POSTGRES, STORE = "postgres", "store"
"""Names of the servers among the parts."""

ORDER = (Part.EDGE, STORE, Part.FLUSH, POSTGRES, Part.WATCH, Part.PUBLISH, Part.CONSOLE)
"""Along the way of a vote."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part, as it was found."""

    name: str
    instance: str
    """Empty where there is one for all, or none was seen."""
    state: PartState
    since: datetime | None
    """OK: when it was started; else when it was last known to be well. None = not known."""
    facts: Facts = field(default_factory=dict)
    """Plain figures by name; `why` where the state is not OK: a word of WHY."""


WHY = (
    "silent",
    "stopped",
    "away",
    "store-away",
    "lag",
    "looks-late",
    "memory",
    "append-only-file",
    "standby",
    "slow-answer",
)
"""What a part can be SLOW or DOWN for."""


class Beat(NamedTuple):
    """What a process said of itself last."""

    name: str
    instance: str
    at: datetime
    silent_seconds: float
    facts: Facts


class Lag(NamedTuple):
    """What Postgres lacks of the journal."""

    votes: int
    seconds: float


def status_of(beat: Beat, lag: Lag | None = None) -> PartStatus:
    """How a process does. `lag`: of the flusher, whose own word may be out of date."""
    facts = dict(beat.facts)
    if lag is not None and beat.name == Part.FLUSH:
        facts |= {"lag_votes": lag.votes, "lag_seconds": round(lag.seconds, 1)}
    state, why = PartState.OK, ""
    if beat.silent_seconds > SLOW_AFTER_SECONDS:
        state = PartState.DOWN if beat.silent_seconds > DOWN_AFTER_SECONDS else PartState.SLOW
        why = "stopped" if facts.get("stopped") else "silent"
    elif facts.get("stopped"):
        state, why = PartState.SLOW, "stopped"
    elif facts.get("store_connected") is False:
        state, why = PartState.SLOW, "store-away"
    elif _above(facts.get("lag_seconds"), LAG_SLOW_SECONDS):
        state, why = PartState.SLOW, "lag"
    elif _above(facts.get("looked_seconds_ago"), LOOK_SLOW_SECONDS):
        state, why = PartState.SLOW, "looks-late"
    since = _moment(facts.pop("started_at", None)) if state is PartState.OK else beat.at
    if why:
        facts["why"] = why
    return PartStatus(beat.name, beat.instance, state, since, facts)


def _above(value: object, limit: float) -> bool:
    return isinstance(value, int | float) and value > limit


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def processes(beats: list[Beat], lag: Lag | None = None) -> list[PartStatus]:
    """Every process, those that were never seen too. Of edges that were stopped in order nothing
    is said while another one is there: somebody runs fewer of them."""
    alive = {beat.name for beat in beats if not beat.facts.get("stopped")}
    found = [
        status_of(beat, lag)
        for beat in beats
        if not (beat.facts.get("stopped") and beat.name in alive)
    ]
    seen = {status.name for status in found}
    found += [
        PartStatus(part, "", PartState.NEVER, None) for part in Part if part.value not in seen
    ]
    return found


def store_status(
    info: dict[str, Any], ping_ms: float, now: datetime, instance: str = ""
) -> PartStatus:
    """How the store, or one server of it, does, out of what INFO says."""
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    facts: Facts = {"ping_ms": round(ping_ms, 1), "memory_bytes": used}
    if most:
        facts["memory_share"] = round(used / most, 3)
    state, why = PartState.OK, ""
    if info.get("aof_enabled") == 0 or "err" in (
        info.get("aof_last_write_status"),
        info.get("aof_last_bgrewrite_status"),
    ):
        state, why = PartState.SLOW, "append-only-file"
    elif most and used > STORE_FULL_SHARE * most:
        state, why = PartState.SLOW, "memory"
    elif ping_ms > PING_SLOW_MS:
        state, why = PartState.SLOW, "slow-answer"
    if why:
        facts["why"] = why
    started = now - timedelta(seconds=int(info.get("uptime_in_seconds", 0)))
    return PartStatus(STORE, instance, state, started if state is PartState.OK else None, facts)


class HotHead(NamedTuple):
    """Where one shard's journal is, by the store itself."""

    shard: int
    epoch: int
    seq: int
    now_us: int


def lag_of(heads: list[HotHead], marks: list[tuple[int, int, int, datetime]]) -> Lag | None:
    """What the database lacks; None where it was never flushed into, or the store is away."""
    known = {shard: (seq, at) for shard, _, seq, at in marks}
    votes, seconds, found = 0, 0.0, False
    for head in heads:
        if head.shard not in known:
            continue
        found = True
        seq, at = known[head.shard]
        if head.seq > seq:
            votes += head.seq - seq
            seconds = max(seconds, (moment_at(head.now_us) - at).total_seconds())
    return Lag(votes, max(0.0, seconds)) if found else None


async def look_at_parts(acquire: Acquire, hot: HotState) -> list[PartStatus]:
    """Every part, in ORDER. Where Postgres is away there is no word of the processes: they are left
    out rather than said to be down.

    Who starts after everything stood still finds the old heartbeats of all others: an alarm should
    wait half a minute from its own start on.
    """
    by_server: dict[redis.Redis, list[int]] = {}
    for shard in hot.shards:
        by_server.setdefault(hot.of(shard), []).append(shard)
    asked = [
        _ask_store(valkey, shards, _instance(shards) if len(by_server) > 1 else "")
        for valkey, shards in by_server.items()
    ]
    servers, (postgres, beats, marks) = await asyncio.gather(
        asyncio.gather(*asked), _ask_postgres(acquire)
    )
    heads = [head for _, its_heads in servers for head in its_heads]
    found = [postgres, *(status for status, _ in servers)]
    if beats is not None:
        found += processes(beats, lag_of(heads, marks))
    place = {str(name): n for n, name in enumerate(ORDER)}
    return sorted(found, key=lambda status: (place.get(status.name, 99), status.instance))


def _instance(shards: list[int]) -> str:
    """What a server of several is called: by what is on it."""
    return f"shard {', '.join(map(str, shards))}"


async def _ask_store(
    valkey: redis.Redis, shards: list[int], instance: str
) -> tuple[PartStatus, list[HotHead]]:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            began = time.monotonic()
            await cast(Awaitable[Any], valkey.ping())
            ping_ms = (time.monotonic() - began) * 1000
            async with valkey.pipeline(transaction=False) as pipeline:
                pipeline.time()
                pipeline.info()
                for shard in shards:
                    pipeline.hmget(head_key(shard), ["epoch", "seq"])
                (seconds, micro), info, *heads = await pipeline.execute()
    except (*VALKEY_AWAY, TimeoutError, OSError):
        return PartStatus(STORE, instance, PartState.DOWN, None, {"why": "away"}), []
    now_us = seconds * 1_000_000 + micro
    return store_status(info, ping_ms, moment_at(now_us), instance), [
        HotHead(shard, int(epoch or 0), int(seq or 0), now_us)
        for shard, (epoch, seq) in zip(shards, heads, strict=True)
    ]


async def _ask_postgres(
    acquire: Acquire,
) -> tuple[PartStatus, list[Beat] | None, list[tuple[int, int, int, datetime]]]:
    try:
        async with asyncio.timeout(_ASK_SECONDS), acquire() as connection:
            began = time.monotonic()
            server = await connection.fetchrow(_SQL["read_server"])
            ping_ms = (time.monotonic() - began) * 1000
            beats = await connection.fetch(_SQL["read_beats"])
            marks = await connection.fetch(_SQL["read_marks"])
    except (*POSTGRES_AWAY, asyncpg.PostgresError):
        return PartStatus(POSTGRES, "", PartState.DOWN, None, {"why": "away"}), None, []
    facts: Facts = {"ping_ms": round(ping_ms, 1)}
    state = PartState.OK
    if server["is_standby"]:
        state, facts["why"] = PartState.SLOW, "standby"
    elif ping_ms > PING_SLOW_MS:
        state, facts["why"] = PartState.SLOW, "slow-answer"
    since = server["started_at"].astimezone(UTC) if state is PartState.OK else None
    return (
        PartStatus(POSTGRES, "", state, since, facts),
        [
            Beat(
                row["name"],
                row["instance"],
                row["at"],
                row["silent"].total_seconds(),
                _facts(row["facts"]),
            )
            for row in beats
        ],
        [tuple(row) for row in marks],
    )


def _facts(text: str) -> Facts:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}
