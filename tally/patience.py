"""What the long-lived processes here have in common: they wait out servers that are away, and stop
in time whatever hangs."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import redis.asyncio as redis
import structlog
from redis.exceptions import ClusterDownError, ReadOnlyError

POSTGRES_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # A session that the server ended while we were idle: asyncpg stumbles over the message that
    # it had not asked for.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shuts down, starts up, ended our session
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby: the primary moved
    asyncpg.PostgresSystemError,
)
"""Passes by itself or when somebody mends the server: try again, on a new connection."""

VALKEY_AWAY = (redis.ConnectionError, redis.TimeoutError, ReadOnlyError, ClusterDownError)
"""The same for the store; a server that still loads is a ConnectionError."""

Guard = Callable[[str], AbstractAsyncContextManager[object]]
"""Gets a name and goes around what is done for one of several. It may take upon itself what is at
odds there, so that the others get theirs; contextlib.nullcontext lets it through."""

STANDBY_SECONDS = 1.0
"""How often one that stands by asks whether it is its turn."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

log = structlog.get_logger()


class Reach:
    """Whether a server answers, said once per change, and how long to wait before the next try."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._away = False
        self.pause_seconds = 0.0

    def lost(self, why: BaseException) -> None:
        if not self._away:
            log.warning(f"{self._server}-away", why=_one_line(why))
        self._away = True
        self.pause_seconds = min(
            _LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, self.pause_seconds * 2)
        )

    def found(self) -> None:
        if self._away:
            log.info(f"{self._server}-back")
        self._away = False
        self.pause_seconds = 0.0


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Pause, or less where the event comes; whether it has come."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


async def ended_in_time(
    life: Coroutine[Any, Any, None], stop: asyncio.Event, seconds: float
) -> bool:
    """Run it until it ends by itself, or is cut off `seconds` after `stop` was set; whether it
    ended by itself. Raises what it raises."""
    running = asyncio.create_task(life)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # A server that hangs must not hold up the stop.
        await asyncio.wait({running}, timeout=seconds)
        if running.done():
            await running
        return running.done()
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


def _one_line(why: BaseException) -> str:
    return " ".join(f"{type(why).__name__}: {why}".split())[:300]
