"""Which TLS fingerprints each kind of user agent is seen with, as `watch` found in clean votes.

A script may send a phone's User-Agent; its TLS is still its library's. `watch` puts into the store,
per class of user agent that is common enough, the hashes of the fingerprints that it comes with;
each edge reads them now and then. An agent that is not there is common with nobody: nothing is said
of it. Known weakness: a browser's new version is unlike its agent until it is common; that alone
challenges nobody (antifraud/heuristics.py).
"""

import asyncio
import contextlib
import struct
from typing import NoReturn

import structlog

from voting import journal
from voting.store_line import StoreDown, StoreLine

log = structlog.get_logger()

READ_EVERY_SECONDS = 60.0


class KnownFingerprints:
    """One edge's copy, of what shard 0 has; empty until that has some."""

    def __init__(self, line: StoreLine) -> None:
        self._line = line
        self._by_agent: dict[int, frozenset[int]] = {}

    def unlike(self, agent_class: int, tls_hash: int) -> bool:
        """Whether this agent is never seen with this fingerprint, and with others often."""
        known = self._by_agent.get(agent_class)
        return known is not None and tls_hash not in known

    async def refresh(self) -> None:
        """Read them anew; StoreDown where the store does not answer."""
        reply = await self._line.ask("HGETALL", journal.fingerprints_key(0))
        try:
            self._by_agent = {
                int(agent): frozenset(struct.unpack(f">{len(packed) // 4}I", packed))
                for agent, packed in zip(reply[::2], reply[1::2], strict=True)
            }
        except (ValueError, struct.error) as why:
            log.error("fingerprints-unread", why=str(why))

    async def follow(self) -> NoReturn:
        """Again and again until cancelled; while the store is away, what was read stays."""
        while True:
            with contextlib.suppress(StoreDown):
                await self.refresh()
            await asyncio.sleep(READ_EVERY_SECONDS)
