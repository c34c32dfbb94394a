"""Looking at passwords: each look takes 25 to 40 ms of a core and 19 MiB, so LOOKS_AT_ONCE at a
time, and WAITING_MAX behind them; who comes then is told to come again. A flood of sign-ins so
takes 40 MiB and two cores at most, in threads, and pages go on being served."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tally.accounts import credentials

LOOKS_AT_ONCE = 2
WAITING_MAX = 24
"""About half a second of waiting."""

_Found = TypeVar("_Found")


class Busy(Exception):
    """Too many look at passwords just now."""


class Hashing:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="password")
        self._waiting = 0

    async def check(self, password_hash: str | None, password: str) -> bool:
        """credentials.check_password; raises Busy."""
        return await self._look(lambda: credentials.check_password(password_hash, password))

    async def hash(self, password: str) -> str:
        """credentials.hash_password; raises Busy."""
        return await self._look(lambda: credentials.hash_password(password))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self, look: Callable[[], _Found]) -> _Found:
        if self._waiting >= LOOKS_AT_ONCE + WAITING_MAX:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, look)
        finally:
            self._waiting -= 1
