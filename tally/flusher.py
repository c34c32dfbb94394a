"""The flusher: journal -> Postgres, exactly once.

Reads whole entries after the watermark that Postgres holds, commits rows, roll-ups and the new
watermark in one transaction (`ShardStore.add_entries`), and only then trims the journal, of which
the newest part stays for recovery. All state that matters is in Postgres: whoever comes next goes
on from the watermark, so it may die between any two lines.

One per shard, by an advisory lock on the very connection that writes; a second one waits as a hot
standby. A process runs those of all shards, or of some, side by side. Where Postgres or Valkey is
away it keeps trying: the journal grows meanwhile and nothing is lost. Where the journal is not what
it should be (JournalError) that shard stops and says so, for to go on would lose votes in silence.

With DIANZAN_ACK=replica nothing is committed that a failover could take back: what was read is on a
replica's disk first.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import NamedTuple, TypeVar, cast

import asyncpg
import redis.asyncio as redis
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tally.give_back import Reached, give_back, mend_sums, reached
from tally.housekeeping import rewrite_long_file, unlink_past_days
from tally.patience import (
    POSTGRES_AWAY,
    STANDBY_SECONDS,
    VALKEY_AWAY,
    Reach,
    ended_in_time,
    set_within,
)
from tally.reconcile import NotComparable
from tally.rows import Batch, Placed
from tally.store import Gap, ShardStore, Watermark
from voting.heartbeat import Facts, Heartbeat, Part, beating, instance_name
from voting.hot_state import HotState
from voting.journal import (
    EntryId,
    JournalError,
    flushed_key,
    journal_key,
    read_entry,
    unwrap_entry,
)
from voting.settings import Settings
from voting.shards import check_shards

BATCH_VOTES = 4_096
"""Of one transaction, at most, unless a single entry holds more."""

_ENTRIES_READ_MAX = 1_024
"""Of one read: bounds the memory that a change from small entries to large ones can cost."""

_TIDY_SECONDS = 600.0
_ADVANCE_SECONDS = 1.0
"""How often an idle flusher tells Postgres up to when nothing is missing."""
_REPLICA_MS = 1_000
"""How long one read waits for a replica's disk, twice at most."""
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
            "Times that the store came back with other votes than Postgres has: it lost some, or "
            "forgot some that Postgres has.",
            registry=registry,
        )
        self.given_back = Counter(
            "dianzan_flush_given_back",
            "Likes that the hot state had lost and Postgres had, given back to it.",
            registry=registry,
        )
        self.lag_entries: dict[int, int] = {}
        """By shard."""
        Gauge(
            "dianzan_flush_lag_entries",
            "Journal entries that were not in Postgres yet after the last read.",
            registry=registry,
        ).set_function(lambda: sum(self.lag_entries.values()))
        self._complete_until_us: dict[int, int] = {}
        """By shard that is ours."""
        Gauge(
            "dianzan_flush_lag_seconds",
            "Time since the moment up to which Postgres misses nothing, of the shard that is "
            "furthest behind; grows while a server is away, about a second when idle, NaN on a "
            "standby of all shards.",
            registry=registry,
        ).set_function(self._lag_seconds)

    def complete_until(self, shard: int, at_us: int | None) -> None:
        """Postgres misses nothing of the shard that is older than this; None = another flusher
        knows."""
        if at_us is None:
            self._complete_until_us.pop(shard, None)
            self.lag_entries.pop(shard, None)
        else:
            self._complete_until_us[shard] = at_us

    @property
    def facts(self) -> Facts | None:
        """For its heartbeat; None on a standby."""
        if not self._complete_until_us:
            return None
        return {"lag_seconds": round(self._lag_seconds(), 1)}

    def _lag_seconds(self) -> float:
        if not self._complete_until_us:
            return math.nan
        # The store's clock against ours: wrong by what they differ.
        return max(0.0, time.time() - min(self._complete_until_us.values()) / 1e6)


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

    def __init__(self, valkey: redis.Redis, shard: int, *, on_replicas: bool = False) -> None:
        """`on_replicas`: give nothing that is not on a replica's disk."""
        self.valkey = valkey
        self._shard = shard
        self._on_replicas = on_replicas
        self._key = journal_key(shard)

    async def read_after(self, after: EntryId, count: int) -> Read:
        """The next entries, `count` at most. With `on_replicas` redis.ConnectionError where no
        replica has them on its disk in time."""
        # XRANGE with an open start reads what XREAD would, and is the same command as the walk's.
        start = f"({after}" if after.number >= 0 else "-"
        async with self.valkey.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.xrange(self._key, min=start, count=count)
            pipeline.xlen(self._key)
            (seconds, microseconds), found, length = await pipeline.execute()
        if found and self._on_replicas:
            await self._until_on_replica(after)
        return Read(seconds * 1_000_000 + microseconds, list(map(unwrap_entry, found)), length)

    async def _until_on_replica(self, after: EntryId) -> None:
        async with self.valkey.pipeline(transaction=False) as pipeline:
            # Both wait for what this very connection wrote last, and are content at once where it
            # wrote nothing: so it writes, behind what was read.
            pipeline.set(flushed_key(self._shard), str(after))
            pipeline.execute_command("WAIT", 1, _REPLICA_MS)
            pipeline.execute_command("WAITAOF", 1, 1, _REPLICA_MS)
            _, replicas, (_, on_disk) = await pipeline.execute()
        if min(replicas, on_disk) < 1:
            raise redis.ConnectionError(
                f"no replica has the journal on its disk: {replicas} have it, {on_disk} on disk"
            )

    async def last(self) -> tuple[EntryId, bytes] | None:
        found = await self.valkey.xrevrange(self._key, count=1)
        return unwrap_entry(found[0]) if found else None

    async def walk(self, until: EntryId, window: "RetainedWindow") -> None:
        """Measure all entries up to and with this one."""
        start = "-"
        while found := await self.valkey.xrange(self._key, min=start, max=str(until), count=512):
            for id_, packed in map(unwrap_entry, found):
                window.add(id_, len(packed))
                start = f"({id_}"

    async def tidy(self, rewrite_bytes: int) -> None:
        """Let days go that nobody needs any more, and keep the append-only file short enough to
        be loaded in time after a crash."""
        gone = await unlink_past_days(self.valkey, self._shard)
        if gone:
            log.info("past-days-unlinked", shard=self._shard, keys=gone)
        if await rewrite_long_file(self.valkey, rewrite_bytes):
            log.info("store-rewrite-asked", shard=self._shard)

    async def trim_before(self, first_kept: EntryId) -> None:
        await self.valkey.xtrim(self._key, minid=str(first_kept), approximate=False)


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
        shards: int = 1,
        on_replicas: bool = False,
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
        self._shards = shards
        self._on_replicas = on_replicas
        self._flush_every_seconds = flush_every_seconds
        self._retain_bytes = retain_bytes
        self._rewrite_bytes = rewrite_bytes
        self._postgres = Reach("postgres")
        self._valkey = Reach("valkey")
        self._entries_wanted = 64
        self._gaps: list[Gap] = []
        """Of what the hot state is still to be given back."""
        self._sums_low = False
        """Something was given back, and the hot sums may lack it still."""

    async def run(self) -> None:
        # Of its own: a shard's server that hangs costs the others nothing.
        async with HotState(self._valkey_url, self._shards) as hot:
            self._hot = hot
            journal = Journal(hot.of(self._shard), self._shard, on_replicas=self._on_replicas)
            while True:
                try:
                    await self._hold_shard(journal)
                    break
                except POSTGRES_AWAY as why:
                    self._postgres.lost(why)
                # Without Postgres there is nothing that a stop should wait for.
                if await set_within(self._stop, self._postgres.pause_seconds):
                    break

    async def _hold_shard(self, journal: Journal) -> None:
        """One connection's life: take the lock, then flush as long as both last."""
        connection = await asyncpg.connect(self._postgres_dsn, timeout=10, command_timeout=60)
        try:
            await check_shards(connection, self._shards)
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
            self._metrics.complete_until(self._shard, None)
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
        if watermark.at_us:  # else nobody has looked yet, and the first look says it
            self._metrics.complete_until(self._shard, watermark.at_us)
        newest = await journal.last()
        if watermark.entry >= 0 and (newest is None or newest[0] < watermark.id):
            # A replica that was promoted, or a file without its end: before anybody casts.
            self._metrics.gaps.inc()
            after = await reached(journal.valkey, self._shard)
            await self._give_back(store, journal, after, Reached(watermark.epoch, watermark.seq))
        await self._give_back_gaps(store, journal)  # those that a store kept us from
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
                await self._give_back_gaps(store, journal)
                for id_, size_bytes in look.sizes:
                    window.add(id_, size_bytes)
                first_kept = window.cut()
                if first_kept is not None:
                    await journal.trim_before(first_kept)
            elif time.monotonic() - advanced_at >= _ADVANCE_SECONDS:
                compared = await self._compare_last(store, journal, watermark, compared)
                await store.advance_time(look.now_us)
                self._postgres.found()
                self._metrics.complete_until(self._shard, look.now_us)
                advanced_at = time.monotonic()
            self._metrics.lag_entries[self._shard] = max(0, look.length - window.entries)
            if look.drained:
                if look.stopping:
                    return
                if time.monotonic() - tidied_at >= _TIDY_SECONDS:
                    await journal.tidy(self._rewrite_bytes)
                    tidied_at = time.monotonic()
                if self._sums_low:
                    await self._mend_sums(store)
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
        self._metrics.complete_until(self._shard, added.watermark.at_us)
        for gap in added.gaps:
            self._metrics.gaps.inc()
            log.error(
                "journal-lost-votes" if gap.votes > 0 else "journal-went-back",
                shard=self._shard,
                votes=abs(gap.votes),
                between=f"{gap.before} and {gap.after}",
            )
        self._gaps += [gap for gap in added.gaps if gap.votes < 0]
        return added.watermark

    async def _give_back_gaps(self, store: ShardStore, journal: Journal) -> None:
        """An epoch began behind what Postgres has: the hot state lost what lies between. Should we
        die before, the sums stay too low for the publisher to complain of, and `rebuild-hot` mends
        them."""
        while self._gaps:
            gap = self._gaps[0]
            after = Reached(gap.before.epoch, gap.seq + gap.votes)
            await self._give_back(store, journal, after, Reached(gap.before.epoch, gap.seq))
            self._gaps.pop(0)

    async def _give_back(
        self, store: ShardStore, journal: Journal, after: Reached, until: Reached
    ) -> None:
        done = await give_back(store.connection, journal.valkey, self._shard, after, until)
        self._sums_low = True
        self._metrics.given_back.inc(done.given)
        log.error(
            "hot-state-went-back",
            shard=self._shard,
            behind=done.behind,
            given_back=done.given,
            counted_again=done.again,
        )

    async def _mend_sums(self, store: ShardStore) -> None:
        try:
            ballots = await mend_sums(store.connection, self._hot, self._shard)
        except (NotComparable, *VALKEY_AWAY) as why:
            # Another shard may be away, which holds up nothing else.
            log.debug("sums-not-mended-yet", shard=self._shard, why=str(why))
        else:
            self._sums_low = False
            log.info("hot-sums-mended", shard=self._shard, ballots=ballots)

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

    def stopped(self, why: JournalError) -> None:
        """It will not go on by itself; nobody need wait for it. Its lag grows from here on."""
        log.error("shard-stopped", shard=self._shard, why=str(why))
        self._say_ready()

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
    *,
    only: Sequence[int] = (),
) -> None:
    """Flush until `stop` is set, then what is still there (5 s at most), and return.

    `ready` is called once, when it is at work or stands by on each shard. `only`: on these shards
    alone. Both addresses must be set. Raises JournalError (JournalConflict) where going on would
    lose or double a vote - at the end, if other shards can go on -, TooFewShards, and asyncpg's
    errors where the database is not ours or not migrated; waits out everything else.
    """
    if settings.postgres_dsn is None or settings.valkey_url is None:
        raise ValueError("the flusher needs postgres_dsn and valkey_url")
    dsn = settings.postgres_dsn.get_secret_value()
    metrics = FlusherMetrics(registry or CollectorRegistry())
    shards = only or range(settings.shards)
    waiting = set(shards)

    def ready_on(shard: int) -> None:
        waiting.discard(shard)
        if not waiting:
            ready()

    flushers = [
        Flusher(
            postgres_dsn=dsn,
            valkey_url=settings.valkey_url.get_secret_value(),
            stop=stop,
            ready=partial(ready_on, shard),
            metrics=metrics,
            shard=shard,
            shards=settings.shards,
            on_replicas=settings.ack == "replica",
            flush_every_seconds=settings.flush_every_ms / 1000,
            retain_bytes=settings.journal_retain_mb << 20,
            rewrite_bytes=settings.store_rewrite_mb << 20,
        )
        for shard in shards
    ]
    async with beating(dsn, Heartbeat(Part.FLUSH, instance_name(), lambda: metrics.facts)):
        # What a stop finds in the journal is flushed in this time.
        if not await ended_in_time(_run_all(flushers), stop, _STOP_SECONDS):
            # The journal keeps the rest, and the next start goes on.
            log.warning("flusher-stopped-early")


async def _run_all(flushers: Sequence[Flusher]) -> None:
    """All of them, to their ends. A journal that is not what it should be stops its own shard
    alone; it is raised when the last one has ended. Everything else ends all."""
    stopped: list[JournalError] = []

    async def run(flusher: Flusher) -> None:
        try:
            await flusher.run()
        except JournalError as why:
            stopped.append(why)
            if len(flushers) > 1:
                flusher.stopped(why)

    running = [asyncio.create_task(run(flusher)) for flusher in flushers]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if stopped:
        raise stopped[0]
