"""Heartbeats: each long-lived process says every few seconds that it is there, and how it does.

One row of `parts` for each, written over and over; who is silent is down (tally/parts.py tells).
A heartbeat is never worth what it reports on: where the database is away, slow or not migrated, it
is left out, said once in the log, and nothing else of the process notices.
"""

import asyncio
import contextlib
import enum
import json
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog

EVERY_SECONDS = 5.0
FORGOTTEN_AFTER_DAYS = 1
"""Rows of processes that have been silent so long are removed."""

_TIMEOUT_SECONDS = 1.0
_SWEEP_EVERY_SECONDS = 3600.0
_INSTANCE_MAX = 100

_BEAT = (
    "INSERT INTO parts AS p (name, instance, at, facts) VALUES ($1, $2, clock_timestamp(), $3)"
    " ON CONFLICT (name, instance) DO UPDATE SET at = excluded.at, facts = excluded.facts"
)
_SWEEP = "DELETE FROM parts WHERE at < clock_timestamp() - make_interval(days => $1)"

log = structlog.get_logger()

Facts = dict[str, int | float | bool | str | None]


class Part(enum.StrEnum):
    """The processes of an installation, as `dianzan` names them."""

    EDGE = "edge"
    FLUSH = "flush"
    WATCH = "watch"
    PUBLISH = "publish"
    CONSOLE = "console"


def instance_name(worker: int | str | None = None) -> str:
    """Where a process runs: its host, and which of several of its kind it is there. The same after
    a restart. Two hosts of one name are taken for one."""
    host = socket.gethostname() or "unnamed"
    return (host if worker is None else f"{host}/{worker}")[:_INSTANCE_MAX]


class Heartbeat:
    """One process's word of itself. Belongs to one task."""

    def __init__(self, part: Part, instance: str, facts: Callable[[], Facts | None]) -> None:
        """`facts` is asked at each beat: what there is to say, in plain JSON and without a secret;
        None = this process stands by and says nothing."""
        self._part = part
        self._instance = instance
        self._facts = facts
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._beaten_at = self._swept_at = -math.inf
        self._failing = False

    async def beat(self, connection: asyncpg.Connection) -> None:
        """Say it, where it is time again; costs nothing otherwise. Raises only what tells that the
        connection itself is lost."""
        now = time.monotonic()
        if now - self._beaten_at < EVERY_SECONDS:
            return
        facts = self._facts()
        if facts is None:
            return
        # Also where it fails: not at every turn of whoever calls.
        self._beaten_at = now
        await self._say(connection, facts)
        if now - self._swept_at >= _SWEEP_EVERY_SECONDS:
            self._swept_at = now
            await self._ask(connection, _SWEEP, FORGOTTEN_AFTER_DAYS)

    async def end(self, connection: asyncpg.Connection) -> None:
        """The last word at an orderly stop, so that it is not taken for a crash."""
        facts = self._facts()
        if facts is not None:
            await self._say(connection, {**facts, "stopped": True})

    async def _say(self, connection: asyncpg.Connection, facts: Facts) -> None:
        said = json.dumps({"started_at": self._started_at, **facts}, ensure_ascii=False)
        await self._ask(connection, _BEAT, self._part, self._instance, said)

    async def _ask(self, connection: asyncpg.Connection, statement: str, *words: Any) -> None:
        try:
            await connection.execute(statement, *words, timeout=_TIMEOUT_SECONDS)
        except (asyncpg.PostgresError, TimeoutError) as why:
            # A lock that somebody holds, a table that is not there yet: not our process's trouble.
            if not self._failing:
                log.warning("heartbeat-unwritten", why=f"{type(why).__name__}: {why}"[:300])
            self._failing = True
        else:
            self._failing = False


@contextlib.asynccontextmanager
async def beating(dsn: str, heartbeat: Heartbeat) -> AsyncIterator[None]:
    """Beat on a connection of its own as long as the block lasts; nothing that happens to it
    reaches the block."""
    task = asyncio.create_task(_beat_on(dsn, heartbeat), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _beat_on(dsn: str, heartbeat: Heartbeat) -> None:
    away = False
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=5, command_timeout=5)
            try:
                away = False
                await _beat_until_cancelled(connection, heartbeat)
            finally:
                connection.terminate()
        except Exception as why:
            if not away:
                log.warning("heartbeat-away", why=f"{type(why).__name__}: {why}"[:300])
            away = True
        await asyncio.sleep(EVERY_SECONDS)


async def _beat_until_cancelled(connection: asyncpg.Connection, heartbeat: Heartbeat) -> None:
    try:
        while True:
            await heartbeat.beat(connection)
            if connection.is_closed():
                raise ConnectionError("the database ended the session")
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await heartbeat.end(connection)
        raise
