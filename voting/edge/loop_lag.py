"""How late the event loop is: what everything on it waits before it has its turn.

Likes are answered on the same loop as pages, pictures and tiles of the log. Where it is behind, or
as many likes wait as may, those that only read are asked to come again (503 with Retry-After),
first of all what a cache keeps anyway. Never what a like needs: cards, counts, devices, receipts.
"""

import asyncio
import time

_EVERY_SECONDS = 0.05
_BEHIND_SECONDS = 0.15
"""So late on an average of some looks: a page of 20 ms does not make it so."""
_SMOOTHED_OVER = 8
YIELDING = ("/campaigns/", "/v1/logs/", "/v1/videos/", "/sitemap")
"""Paths, or how they begin, of what gives way; and the home page."""


class LoopLag:
    """One edge's."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Smoothed."""

    @property
    def behind(self) -> bool:
        return self.seconds > _BEHIND_SECONDS

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(_EVERY_SECONDS)
            late = max(0.0, time.monotonic() - began - _EVERY_SECONDS)
            self.seconds += (late - self.seconds) / _SMOOTHED_OVER


def yields(method: str, path: str) -> bool:
    """Whether this request gives way to likes."""
    return method in ("GET", "HEAD") and (path == "/" or path.startswith(YIELDING))
