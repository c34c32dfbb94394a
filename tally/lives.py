"""A process of which an installation has one, and what goes on in it: `watch` and `publish`.

Its background lives are one table of `Life`. It holds an advisory lock on a connection of its own;
a second one stands by and takes over when the first one ends, however that ends. Where a server is
away it waits, each life for itself.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, NamedTuple

import asyncpg
import structlog

from tally.patience import POSTGRES_AWAY, STANDBY_SECONDS, Reach, set_within

log = structlog.get_logger()


class Life(NamedTuple):
    """One thing that goes on in the background."""

    name: str
    step: Callable[[Any], Awaitable[None]]
    """Gets whose life it is."""
    every_seconds: float | None
    """The pause after a step; None = as the process' own setting says."""
    waits_out: tuple[type[Exception], ...]
    """What it tries again after; anything else ends the process, or its hold on the
    installation."""


class OnePerInstallation(ABC):
    """Lives while it holds its lock. `run` ends when `stop` is set."""

    name: ClassVar[str]
    """As logs call it."""
    lock: ClassVar[str]
    """The statement that tries to take the lock for the session, and the one that gives it back."""
    unlock: ClassVar[str]

    def __init__(
        self,
        *,
        postgres_dsn: str,
        stop: asyncio.Event,
        ready: Callable[[], None],
        every_seconds: float,
    ) -> None:
        """`every_seconds`: of lives that leave it open."""
        self._postgres_dsn = postgres_dsn
        self._stop = stop
        self._ready: Callable[[], None] | None = ready
        self._every_seconds = every_seconds
        self._postgres = Reach("postgres")

    @property
    @abstractmethod
    def lives(self) -> tuple[Life, ...]:
        """The table."""

    @abstractmethod
    def _begun(self, held: asyncpg.Connection) -> AbstractAsyncContextManager[None]:
        """What the lives need, opened, and closed when they have ended; `held` is the connection
        that holds the lock."""

    async def run(self) -> None:
        while True:
            try:
                await self._hold_installation()
                return
            except POSTGRES_AWAY as why:
                self._postgres.lost(why)
            if await set_within(self._stop, self._postgres.pause_seconds):
                return

    async def _hold_installation(self) -> None:
        """One connection's life: take the lock, then live as long as both last."""
        connection = await asyncpg.connect(self._postgres_dsn, timeout=10, command_timeout=60)
        try:
            if not await self._take_lock(connection):
                return
            self._say_ready()
            await self._live(connection)
            await connection.execute(self.unlock)
            await connection.close(timeout=1)
        finally:
            # Where something failed: no politeness towards a server that may hang.
            connection.terminate()

    async def _take_lock(self, connection: asyncpg.Connection) -> bool:
        """Wait until the installation is ours; False where a stop came first."""
        standing_by = False
        while not await connection.fetchval(self.lock):
            self._postgres.found()
            if not standing_by:
                log.info(f"{self.name}-stands-by")
            standing_by = True
            self._say_ready()
            if await set_within(self._stop, STANDBY_SECONDS):
                return False
        self._postgres.found()
        if standing_by:
            log.info(f"{self.name}-took-over")
        return True

    async def _live(self, held: asyncpg.Connection) -> None:
        """All lives, until a stop or until one of them ends by an error that waiting does not
        mend."""
        async with self._begun(held):
            ending = asyncio.Event()
            lives = [
                asyncio.create_task(self._keep(life, ending), name=life.name) for life in self.lives
            ]
            stopping = asyncio.create_task(self._stop.wait())
            try:
                done, _ = await asyncio.wait(
                    {*lives, stopping}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done - {stopping}:
                    task.result()
            finally:
                # Both: a client's cancelled read may come back as if nothing had happened (seen
                # with redis-py 8), and the life would go on.
                ending.set()
                for task in (*lives, stopping):
                    task.cancel()
                await asyncio.gather(*lives, stopping, return_exceptions=True)

    async def _keep(self, life: Life, ending: asyncio.Event) -> None:
        """One life: a step, a pause, until the end. Where a server is away it tries again, sooner
        at first, and says so once."""
        reach = Reach(f"{life.name}-server")
        every = self._every_seconds if life.every_seconds is None else life.every_seconds
        while not ending.is_set():
            try:
                await life.step(self)
                reach.found()
                pause = every
            except life.waits_out as why:
                reach.lost(why)
                pause = reach.pause_seconds
            await set_within(ending, pause)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for one step: between two of them nothing of the server's need wait."""
        connection = await asyncpg.connect(self._postgres_dsn, timeout=10, command_timeout=600)
        try:
            yield connection
            await connection.close(timeout=5)
        finally:
            connection.terminate()

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None
