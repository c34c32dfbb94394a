"""The flusher: journal -> Postgres, exactly once.

Reads whole entries after the watermark that Postgres holds, commits rows, roll-ups and the new
watermark in one transaction (`ShardStore.add_entries`), and only then trims the journal, of which
the newest part stays for recovery. All state that matters is in Postgres: whoever comes next goes
on from the watermark, so it may die between any two lines.

One per shard, by an advisory lock on the very connection that writes; a second one waits as a hot
standby. Where Postgres or Valkey is away it keeps trying: the journal grows meanwhile and nothing
is lost. Where the journal is not what it should be (JournalError) it stops and says so, for to go
on would lose votes in silence.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple, TypeVar, cast

import asyncpg
import redis.asyncio as redis
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tally.housekeeping import rewrite_long_file, unlink_past_days
from tally.patience import (
    POSTGRES_AWAY,
    STANDBY_SECONDS,
    VALKEY_AWAY,
    Reach,
    connect_valkey,
    ended_in_time,
    set_within,
)
from tally.rows import Batch, Placed
from tally.store import ShardStore, Watermark
from voting.heartbeat import Facts, Heartbeat, Part, beating, instance_name
from voting.journal import EntryId, journal_key, read_entry, unwrap_entry
from voting.settings import Settings

BATCH_VOTES = 4_096
"""Of one transaction, at most, unless a single entry holds more."""

_ENTRIES_READ_MAX = 1_024
"""Of one read: bounds the memory that a change from small entries to large ones can cost."""

_TIDY_SECONDS = 600.0
_ADVANCE_SECONDS = 1.0
"""How often an idle flusher tells Postgres up to when nothing is missing."""
_STOP_SECONDS = 5.0
"""For the last flush after a stop."""

log = structlog.get_logger()

_First = TypeVar("_First")
_Second = TypeVar("_Second")


class FlusherMetrics:
    """What a flusher tells of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.votes = Counter(
            "dianzan_flush_votes", "Votes committed to Postgres.", registry=registry
        )
        self.batches = Counter(
            "dianzan_flush_batches", "Batches committed to Postgres.", registry=registry
        )
        self.batch_seconds = Histogram(
            "dianzan_flush_batch_seconds",
            "From a batch's first byte for Postgres to its commit.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        )
        self.gaps = Counter(
            "dianzan_flush_gaps",
            "New epochs whose first seq did not follow the last one: the store lost votes or "
            "forgot some that Postgres has.",
            registry=registry,
        )
        self.lag_entries = Gauge(
            "dianzan_flush_lag_entries",
            "Journal entries that were not in Postgres yet after the last read.",
            registry=registry,
        )
        self._complete_until_us: int | None = None
        Gauge(
            "dianzan_flush_lag_seconds",
            "Time since the moment up to which Postgres misses nothing; grows while a server is "
            "away, about a second when idle, NaN on a standby.",
            registry=registry,
        ).set_function(self._lag_seconds)

    def complete_until(self, at_us: int | None) -> None:
        """Postgres misses nothing older than this; None = another flusher knows."""
        self._complete_until_us = at_us

    @property
    def facts(self) -> Facts | None:
        """For its heartbeat; None on a standby."""
        if self._complete_until_us is None:
            return None
        return {"lag_seconds": round(self._lag_seconds(), 1)}

    def _lag_seconds(self) -> float:
        if self._complete_until_us is None:
            return math.nan
        # The store's clock against ours: wrong by what they differ.
        return max(0.0, time.time() - self._complete_until_us / 1e6)


class Read(NamedTuple):
    """One look at the journal."""

    now_us: int
    """The store's time before it: an entry older than this is in `entries`, or was seen before,
    or is past `count`."""
    entries: list[tuple[EntryId, bytes]]
    length: int
    """Entries in the stream, flushed ones included."""


class Journal:
    """One shard's stream, as the flusher sees it."""

    def __init__(self, valkey: redis.Redis, shard: int) -> None:
        self._valkey = valkey
        self._shard = shard
        self._key = journal_key(shard)

    async def read_after(self, after: EntryId, count: int) -> Read:
        """The next entries, `count` at most."""
        # XRANGE with an open start reads what XREAD would, and is the same command as the walk's.
        start = f"({after}" if after.number >= 0 else "-"
        async with self._valkey.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.xrange(self._key, min=start, count=count)
            pipeline.xlen(self._key)
            (seconds, microseconds), found, length = await pipeline.execute()
        return Read(seconds * 1_000_000 + microseconds, list(map(unwrap_entry, found)), length)

    async def last(self) -> tuple[EntryId, bytes] | None:
        found = await self._valkey.xrevrange(self._key, count=1)
        return unwrap_entry(found[0]) if found else None

    async def walk(self, until: EntryId, window: "RetainedWindow") -> None:
        """Measure all entries up to and with this one."""
        start = "-"
        while found := await self._valkey.xrange(self._key, min=start, max=str(until), count=512):
            for id_, packed in map(unwrap_entry, found):
                window.add(id_, len(packed))
                start = f"({id_}"

    async def tidy(self, rewrite_bytes: int) -> None:
        """Let days go that nobody needs any more, and keep the append-only file short enough to
        be loaded in time after a crash."""
        gone = await unlink_past_days(self._valkey, self._shard)
        if gone:
            log.info("past-days-unlinked", shard=self._shard, keys=gone)
        if await rewrite_long_file(self._valkey, rewrite_bytes):
            log.info("store-rewrite-asked", shard=self._shard)

    async def trim_before(self, first_kept: EntryId) -> None:
        await self._valkey.xtrim(self._key, minid=str(first_kept), approximate=False)


class _Look(NamedTuple):
    """What one read of the journal came to."""

    now_us: int
    batch: Batch
    sizes: list[tuple[EntryId, int]]
    """Of the batch's entries, in bytes."""
    length: int
    drained: bool
    """Nothing came after the batch when it was read."""
    stopping: bool
    """A stop had come before the read."""


@dataclass(slots=True)
class _Chunk:
    """Neighbouring entries, forgotten together."""

    last: EntryId
    size_bytes: int
    entries: int


class RetainedWindow:
    """The flushed entries that are still in the journal, by their bytes (Valkey's own overhead
    not counted). Known in 64 chunks or a few more, so that a journal of a million single votes
    costs no memory here; what is kept is `retain_bytes` and up to one chunk over it."""

    def __init__(self, retain_bytes: int) -> None:
        self._retain_bytes = retain_bytes
        self._chunk_bytes = max(1, retain_bytes // 64)
        self._chunks: deque[_Chunk] = deque()
        self._size_bytes = 0
        self.entries = 0

    def add(self, id_: EntryId, size_bytes: int) -> None:
        """One more flushed entry, the newest."""
        newest = self._chunks[-1] if self._chunks else None
        if newest is None or newest.size_bytes >= self._chunk_bytes:
            self._chunks.append(_Chunk(id_, size_bytes, 1))
        else:
            newest.last = id_
            newest.size_bytes += size_bytes
            newest.entries += 1
        self._size_bytes += size_bytes
        self.entries += 1

    def cut(self) -> EntryId | None:
        """Forget the oldest chunks that the window can do without; the first id to keep, or None
        where all stays. The newest entry always stays: the next flusher compares it."""
        last_cut = None
        while (
            len(self._chunks) > 1
            and self._size_bytes - self._chunks[0].size_bytes >= self._retain_bytes
        ):
            oldest = self._chunks.popleft()
            self._size_bytes -= oldest.size_bytes
            self.entries -= oldest.entries
            last_cut = oldest.last
        return EntryId(last_cut.epoch, last_cut.number + 1) if last_cut else None


class Flusher:
    """One shard's flusher. `run` ends when `stop` is set and what was there is flushed."""

    def __init__(
        self,
        *,
        postgres_dsn: str,
        valkey_url: str,
        stop: asyncio.Event,
        ready: Callable[[], None],
        metrics: FlusherMetrics,
        shard: int = 0,
        flush_every_seconds: float = 0.25,
        retain_bytes: int = 64 << 20,
        rewrite_bytes: int = 4 << 30,
    ) -> None:
        self._postgres_dsn = postgres_dsn
        self._valkey_url = valkey_url
        self._stop = stop
        self._ready: Callable[[], None] | None = ready
        self._metrics = metrics
        self._shard = shard
        self._flush_every_seconds = flush_every_seconds
        self._retain_bytes = retain_bytes
        self._rewrite_bytes = rewrite_bytes
        self._postgres = Reach("postgres")
        self._valkey = Reach("valkey")
        self._entries_wanted = 64

    async def run(self) -> None:
        valkey = connect_valkey(self._valkey_url)
        try:
            while True:
                try:
                    await self._hold_shard(Journal(valkey, self._shard))
                    break
                except POSTGRES_AWAY as why:
                    self._postgres.lost(why)
                # Without Postgres there is nothing that a stop should wait for.
                if await set_within(self._stop, self._postgres.pause_seconds):
                    break
        finally:
            await valkey.aclose()

    async def _hold_shard(self, journal: Journal) -> None:
        """One connection's life: take the lock, then flush as long as both last."""
        connection = await asyncpg.connect(self._postgres_dsn, timeout=10, command_timeout=60)
        try:
            store = ShardStore(connection, self._shard)
            if not await self._take_lock(store):
                return
            while True:
                try:
                    await self._follow_journal(store, journal)
                    break
                except VALKEY_AWAY as why:
                    self._valkey.lost(why)
                if await set_within(self._stop, self._valkey.pause_seconds):
                    break
            await store.unlock()
            await connection.close(timeout=1)
        finally:
            # Where something failed: no politeness towards a server that may hang. It gives up
            # the transaction and the lock when it sees the connection gone.
            connection.terminate()

    async def _take_lock(self, store: ShardStore) -> bool:
        """Wait until this shard is ours; False where a stop came first."""
        standing_by = False
        while not await store.try_lock():
            self._postgres.found()
            self._metrics.complete_until(None)
            if not standing_by:
                log.info("flusher-stands-by", shard=self._shard)
            standing_by = True
            self._say_ready()
            if await set_within(self._stop, STANDBY_SECONDS):
                return False
        if standing_by:
            log.info("flusher-took-over", shard=self._shard)
        return True

    async def _follow_journal(self, store: ShardStore, journal: Journal) -> None:
        """Flush until a stop, then until the journal is empty."""
        watermark = await store.open()
        self._metrics.complete_until(watermark.at_us)
        window = RetainedWindow(self._retain_bytes)
        if watermark.entry >= 0:
            await journal.walk(watermark.id, window)
        self._say_ready()
        compared: EntryId | None = None
        advanced_at = tidied_at = -math.inf
        ahead: _Look | None = None
        while True:
            look = ahead or await self._look(journal, watermark.id)
            ahead = None
            if look.batch.placed:
                last = look.batch.placed[-1].id
                if look.drained:
                    watermark = await self._flush_batch(store, look.batch)
                else:
                    # More is there: it is read and made ready while Postgres works.
                    watermark, ahead = await _both(
                        self._flush_batch(store, look.batch), self._look(journal, last)
                    )
                # Only after commit. From here on a crash costs nothing: what is not trimmed now is
                # trimmed by the next one, who measures the window anew.
                compared = last
                for id_, size_bytes in look.sizes:
                    window.add(id_, size_bytes)
                first_kept = window.cut()
                if first_kept is not None:
                    await journal.trim_before(first_kept)
            elif time.monotonic() - advanced_at >= _ADVANCE_SECONDS:
                compared = await self._compare_last(store, journal, watermark, compared)
                await store.advance_time(look.now_us)
                self._postgres.found()
                self._metrics.complete_until(look.now_us)
                advanced_at = time.monotonic()
            self._metrics.lag_entries.set(max(0, look.length - window.entries))
            if look.drained:
                if look.stopping:
                    return
                if time.monotonic() - tidied_at >= _TIDY_SECONDS:
                    await journal.tidy(self._rewrite_bytes)
                    tidied_at = time.monotonic()
                await set_within(self._stop, self._flush_every_seconds)

    async def _look(self, journal: Journal, after: EntryId) -> "_Look":
        """Read on, and make ready what Postgres is to get."""
        # Before the journal: what was there when the stop came gets flushed.
        stopping = self._stop.is_set()
        wanted = self._entries_wanted
        read = await journal.read_after(after, wanted)
        self._valkey.found()
        placed = take_batch(read.entries)
        batch = Batch(placed)
        for _ in batch.parts():
            # Lets the batch before this one be sent meanwhile.
            await asyncio.sleep(0)
        if placed:
            self._entries_wanted = min(
                _ENTRIES_READ_MAX, max(16, BATCH_VOTES * len(placed) // max(1, batch.votes))
            )
        return _Look(
            now_us=read.now_us,
            batch=batch,
            sizes=[(id_, len(packed)) for id_, packed in read.entries[: len(placed)]],
            length=read.length,
            drained=len(placed) == len(read.entries) < wanted,
            stopping=stopping,
        )

    async def _flush_batch(self, store: ShardStore, batch: Batch) -> Watermark:
        began = time.monotonic()
        added = await store.add_entries(batch)
        self._postgres.found()
        self._metrics.batch_seconds.observe(time.monotonic() - began)
        self._metrics.batches.inc()
        self._metrics.votes.inc(added.votes)
        self._metrics.complete_until(added.watermark.at_us)
        for gap in added.gaps:
            self._metrics.gaps.inc()
            log.error(
                "journal-lost-votes" if gap.votes > 0 else "journal-went-back",
                shard=self._shard,
                votes=abs(gap.votes),
                between=f"{gap.before} and {gap.after}",
            )
        return added.watermark

    async def _compare_last(
        self,
        store: ShardStore,
        journal: Journal,
        watermark: Watermark,
        compared: EntryId | None,
    ) -> EntryId | None:
        """Compare the journal's last entry with the database, where that was not done yet.

        Nothing comes after the watermark: either all is flushed, or this is another journal (a
        store that lost its data and began anew), whose entries we would wait for in vain.
        Raises JournalConflict then.
        """
        last = await journal.last()
        if last is None or last[0] == compared or last[0] > watermark.id:
            return compared
        await store.add_entries(Batch([_unpack(last)]))
        return last[0]

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None


async def _both(first: Awaitable[_First], second: Awaitable[_Second]) -> tuple[_First, _Second]:
    """Run both at once to their ends, also where one of them fails: whoever handles that may then
    use the connections again."""
    results = await asyncio.gather(first, second, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast(tuple[_First, _Second], results)


def take_batch(read: Sequence[tuple[EntryId, bytes]]) -> list[Placed]:
    """Whole entries from the front, BATCH_VOTES votes at most, one entry at least."""
    votes = 0

    def fits(placed: Placed) -> bool:
        nonlocal votes
        votes += placed.entry.vote_count
        return votes <= BATCH_VOTES or votes == placed.entry.vote_count

    return list(takewhile(fits, map(_unpack, read)))


def _unpack(read: tuple[EntryId, bytes]) -> Placed:
    return Placed(read[0], read_entry(*read))


async def flush(
    settings: Settings,
    stop: asyncio.Event,
    ready: Callable[[], None],
    registry: CollectorRegistry | None = None,
) -> None:
    """Flush until `stop` is set, then what is still there (5 s at most), and return.

    `ready` is called once, when it is at work or stands by. Both addresses must be set. Raises
    JournalError (JournalConflict) where going on would lose or double a vote, and asyncpg's errors
    where the database is not ours or not migrated; waits out everything else.
    """
    if settings.postgres_dsn is None or settings.valkey_url is None:
        raise ValueError("the flusher needs postgres_dsn and valkey_url")
    dsn = settings.postgres_dsn.get_secret_value()
    metrics = FlusherMetrics(registry or CollectorRegistry())
    flusher = Flusher(
        postgres_dsn=dsn,
        valkey_url=settings.valkey_url.get_secret_value(),
        stop=stop,
        ready=ready,
        metrics=metrics,
        flush_every_seconds=settings.flush_every_ms / 1000,
        retain_bytes=settings.journal_retain_mb << 20,
        rewrite_bytes=settings.store_rewrite_mb << 20,
    )
    async with beating(dsn, Heartbeat(Part.FLUSH, instance_name(), lambda: metrics.facts)):
        # What a stop finds in the journal is flushed in this time.
        if not await ended_in_time(flusher.run(), stop, _STOP_SECONDS):
            # The journal keeps the rest, and the next start goes on.
            log.warning("flusher-stopped-early")
