"""How much of its time an edge spends on pages that are made for one request alone.

Likes are taken on the same loop. What nobody else asks for (a search, any colour at /embed/, an
address that there is not) cannot be kept, and costs its sender nothing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from aiohttp import web

_SHARE = 0.05
"""Of the process's time, for each kind of page: some 10 pages a second at 5 ms each."""
_BURST_SECONDS = 0.5
"""Of work, at once."""


class Budget:
    """Time for one kind of page: `burst_seconds` of work at once, refilled evenly at `share` (GCRA,
    with what each page did cost). Measured, because a search among 65,000 candidates costs a
    thousand times one among 12. Known weakness: who asks for enough of a kind leaves others none of
    it; what is kept, and all that a script asks for, goes on."""

    def __init__(
        self,
        share: float = _SHARE,
        burst_seconds: float = _BURST_SECONDS,
        now: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        """`now`: a clock; `worked`: this thread's processor time, which a busy machine does not
        stretch."""
        self._share = share
        self._burst_seconds = burst_seconds
        self._now = now
        self._worked = worked
        self._full_at = 0.0

    @property
    def spent(self) -> bool:
        """Whether there is nothing left right now."""
        return (self._full_at - self._now()) * self._share >= self._burst_seconds

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Charge the work that is done inside, which must not await."""
        began = self._worked()
        try:
            yield
        finally:
            cost = self._worked() - began
            self._full_at = max(self._full_at, self._now()) + cost / self._share


class Budgets:
    """One for each kind of page, so that searches leave receipts their own."""

    def __init__(self, make: Callable[[], Budget] = Budget) -> None:
        self._make = make
        self._by_kind: dict[str, Budget] = {}

    def of(self, kind: str) -> Budget:
        """`kind` is one of the code's own words: they are few."""
        budget = self._by_kind.get(kind)
        if budget is None:
            budget = self._by_kind[kind] = self._make()
        return budget


BUDGETS = web.AppKey("budgets", Budgets)
