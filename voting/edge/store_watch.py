"""Watches the store, each of its servers: how full it is, and whether it is set up to keep what it
answers."""

import asyncio
from collections.abc import Iterable

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


async def watch_stores(boxes: Iterable[BallotBox], ceiling_percent: int) -> None:
    """Each second, every server once, until cancelled. While one is away, nothing is known of it
    and nothing moves."""
    by_line: dict[StoreLine, list[BallotBox]] = {}
    for box in boxes:
        by_line.setdefault(box.line, []).append(box)
    async with asyncio.TaskGroup() as group:
        for line, held in by_line.items():
            group.create_task(_watch_store(line, held, ceiling_percent))


async def _watch_store(line: StoreLine, boxes: list[BallotBox], ceiling_percent: int) -> None:
    looked_at = b""
    while True:
        try:
            await _look_at_memory(line, boxes, ceiling_percent)
            if looked_at != line.replid:
                await _look_at_settings(line)
                looked_at = line.replid
        except StoreDown:
            pass
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _look_at_memory(line: StoreLine, boxes: list[BallotBox], ceiling_percent: int) -> None:
    """Refuse likes before the store must: near its memory's end the flusher's trim and a failover
    have to have room too."""
    info = await line.ask("INFO", "memory")
    fields = dict(row.split(b":", 1) for row in info.split(b"\r\n") if b":" in row)
    used, most = int(fields[b"used_memory"]), int(fields[b"maxmemory"])
    full = bool(most) and used * 100 >= most * ceiling_percent
    if full != boxes[0].refusing:
        log.warning("store-memory", refusing=full, used=used, maxmemory=most)
    for box in boxes:
        box.refusing = full
        box.memory_share = used / most if most else 0.0


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
