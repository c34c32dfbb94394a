"""Watches the store: how full it is, and whether it is set up to keep what it answers."""

import asyncio

import structlog

from voting.ballot_box import BallotBox
from voting.store_line import StoreDown, StoreLine

log = structlog.get_logger()

_LOOK_EVERY_SECONDS = 1.0

# Setting, what it must be, and what happens otherwise.
_NEEDED = (
    ("appendfsync", "always", "a like that was answered can be lost with the power"),
    ("appendonly", "yes", "every like is lost when the store restarts"),
    ("maxmemory-policy", "noeviction", "a full store forgets who voted"),
)


async def watch_store(line: StoreLine, box: BallotBox, ceiling_percent: int) -> None:
    """Each second, until cancelled. While the store is away, nothing is known and nothing moves."""
    looked_at = b""
    while True:
        try:
            await _look_at_memory(line, box, ceiling_percent)
            if looked_at != line.replid:
                await _look_at_settings(line)
                looked_at = line.replid
        except StoreDown:
            pass
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _look_at_memory(line: StoreLine, box: BallotBox, ceiling_percent: int) -> None:
    """Refuse likes before the store must: near its memory's end the flusher's trim and a failover
    have to have room too."""
    info = await line.ask("INFO", "memory")
    fields = dict(row.split(b":", 1) for row in info.split(b"\r\n") if b":" in row)
    used, most = int(fields[b"used_memory"]), int(fields[b"maxmemory"])
    full = bool(most) and used * 100 >= most * ceiling_percent
    if full != box.refusing:
        log.warning("store-memory", refusing=full, used=used, maxmemory=most)
    box.refusing = full


async def _look_at_settings(line: StoreLine) -> None:
    """Say where a store of the operator's own would break our promises. Once per server."""
    try:
        held = {setting: (await line.ask("CONFIG", "GET", setting)) for setting, _, _ in _NEEDED}
        maxmemory = (await line.ask("CONFIG", "GET", "maxmemory"))[1]
    except (StoreDown, IndexError):
        return  # a managed store does not tell
    for setting, needed, harm in _NEEDED:
        if held[setting] and held[setting][1] != needed.encode():
            log.warning("store-careless", setting=setting, needed=needed, harm=harm)
    if maxmemory == b"0":
        log.warning(
            "store-careless",
            setting="maxmemory",
            needed="at most 45 % of the memory",
            harm="a store that outgrows its machine is killed, instead of likes being refused",
        )
