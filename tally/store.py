"""What this package asks of Postgres; the statements are in queries.sql.

`ShardStore` is one shard's writing side: it belongs to whoever holds the shard's lock.
"""

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import asyncpg

from tally.rows import COLUMNS, Batch, Placed, first_difference
from voting.campaign import microseconds, moment_at
from voting.journal import Closing, Entry, EntryId, JournalError


def read_queries(path: Path) -> dict[str, str]:
    """Name -> statement, out of a file of `-- name: x` blocks."""
    _, *blocks = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.M)
    return {
        name: re.sub(r"^--.*\n", "", block, flags=re.M).strip().removesuffix(";")
        for name, block in zip(blocks[::2], blocks[1::2], strict=True)
    }


SQL = read_queries(Path(__file__).with_name("queries.sql"))


@contextlib.asynccontextmanager
async def held_lock(
    connection: asyncpg.Connection, lock: str, unlock: str, *of: object
) -> AsyncIterator[None]:
    """Hold a lock of the session, by its two statements; whoever has it is waited for."""
    try:
        await connection.execute(lock, *of)
    except BaseException:
        # Nobody knows whether it was given just now. With the connection it is not.
        connection.terminate()
        raise
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(unlock, *of)


class JournalConflict(JournalError):
    """The journal and the database hold different votes under one position. One of them is not
    what it was; nobody but a person can say which. Nothing was written."""


class Watermark(NamedTuple):
    """How far one shard's journal is in the database. All of it commits with the rows."""

    epoch: int
    entry: int
    """Number of the last entry flushed within the epoch, -1 = none."""
    seq: int
    """Of the last vote flushed, 0 = none. Goes on over epochs."""
    at_us: int
    """Store's time up to which nothing is missing; never goes back."""

    @property
    def id(self) -> EntryId:
        return EntryId(self.epoch, self.entry)


class Gap(NamedTuple):
    """A new epoch whose first vote does not follow the last one: votes were lost with the store
    that held them (positive), or the store forgot votes that we have (negative)."""

    before: EntryId
    after: EntryId
    votes: int
    seq: int
    """Of the last vote before."""


class Added(NamedTuple):
    """What became of a batch."""

    watermark: Watermark
    votes: int
    """Rows inserted; those of replayed entries were there before."""
    gaps: list[Gap]


class ShardStore:
    """One shard's side of the database, over one connection of its own.

    Only `try_lock`'s winner may write; the lock lasts as long as the connection.
    """

    def __init__(self, connection: asyncpg.Connection, shard: int) -> None:
        self.connection = connection
        self._shard = shard
        self._days: set[date] = set()
        """Campaign days known to have their partition."""

    async def try_lock(self) -> bool:
        """Become the one that flushes this shard; False where another is."""
        locked: bool = await self.connection.fetchval(SQL["lock_shard"], self._shard)
        return locked

    async def unlock(self) -> None:
        await self.connection.execute(SQL["unlock_shard"], self._shard)

    async def open(self) -> Watermark:
        """Where this shard is; its row is made where it was never flushed."""
        await self.connection.execute(SQL["make_commits_durable"])
        await self.connection.execute(SQL["make_watermark"], self._shard)
        return _watermark(await self.connection.fetchrow(SQL["read_watermark"], self._shard))

    async def add_entries(self, batch: Batch) -> Added:
        """Bring whole entries, in the journal's order, into the database exactly once.

        Rows, roll-ups and watermark commit together or not at all. An entry at or before the
        watermark inserts nothing: its votes are compared byte for byte with the stored ones
        (refusals leave no rows to compare). Raises JournalConflict where they differ, JournalError
        where an entry is missing, misplaced or unreadable; then nothing of the batch is written.
        """
        await self._make_partitions(batch.days)
        gaps: list[Gap] = []
        try:
            async with self.connection.transaction():
                row = await self.connection.fetchrow(SQL["lock_watermark"], self._shard)
                watermark = _watermark(row)
                flushed = watermark.id
                replayed = 0
                for placed in batch.placed:
                    self._check_place(placed)
                    if placed.id <= flushed:
                        await self._compare(placed)
                        replayed += 1
                        continue
                    watermark, gap = follow(watermark, placed)
                    if gap is not None:
                        gaps.append(gap)
                new = Batch(batch.placed[replayed:]) if replayed else batch
                if new.placed:
                    await self._insert(new)
                    await self._move(watermark)
        except asyncpg.UniqueViolationError as why:
            # Behind the watermark, yet there already: somebody else's row under our position.
            raise JournalConflict(
                f"shard {self._shard}: a vote after the watermark {flushed} is in the database "
                f"already: {why.detail}"
            ) from why
        return Added(watermark, new.votes, gaps)

    async def advance_time(self, at_us: int) -> None:
        """Say that nothing older than this is missing. Going back is ignored."""
        await self.connection.execute(SQL["advance_watermark_time"], self._shard, moment_at(at_us))

    def _check_place(self, placed: Placed) -> None:
        if placed.entry.shard != self._shard or placed.entry.epoch != placed.id.epoch:
            raise JournalError(
                f"entry {placed.id} of shard {self._shard} says that it is of shard "
                f"{placed.entry.shard}, epoch {placed.entry.epoch}"
            )

    async def _compare(self, placed: Placed) -> None:
        entry = placed.entry
        if isinstance(entry, Closing):
            if await self.connection.fetchval(SQL["has_closing"], *_closing_row(placed, entry)):
                return
            raise JournalConflict(
                f"entry {placed.id}: this closing of campaign {entry.campaign} is not in the "
                "database, which has passed it"
            )
        if not isinstance(entry, Entry) or not entry.vote_count:
            return
        stored = _Collected()
        await self.connection.copy_from_query(
            SQL["read_votes"].format(columns=", ".join(COLUMNS)),
            entry.day,
            entry.shard,
            entry.epoch,
            entry.first_seq,
            entry.first_seq + entry.vote_count - 1,
            output=stored.add,
            format="binary",
        )
        difference = first_difference(entry, b"".join(stored.chunks))
        if difference is None:
            return
        # Which, not what: a pseudonym has no place in a log.
        at = difference.position
        where = f"entry {placed.id}: the vote at shard {at.shard}, epoch {at.epoch}, seq {at.seq}"
        if difference.column is None:
            raise JournalConflict(f"{where} is not in the database, which has passed it")
        raise JournalConflict(f"{where} differs from the database's in {difference.column}")

    async def _insert(self, batch: Batch) -> None:
        if batch.votes:
            await self.connection.copy_to_table(
                "votes", source=batch.rows, columns=list(COLUMNS), format="binary"
            )
            await self.connection.execute(SQL["add_minutes"], *batch.minutes)
        if batch.refusals:
            await self.connection.execute(SQL["add_refusals"], *batch.refusals)
        for placed in batch.closings:
            assert isinstance(placed.entry, Closing)
            await self.connection.execute(SQL["add_closing"], *_closing_row(placed, placed.entry))

    async def _move(self, watermark: Watermark) -> None:
        await self.connection.execute(
            SQL["move_watermark"],
            self._shard,
            watermark.epoch,
            watermark.entry,
            watermark.seq,
            moment_at(watermark.at_us),
        )

    async def _make_partitions(self, days: set[date]) -> None:
        """Each of these days' partition, and the next day's: at midnight it is there already."""
        if days <= self._days:
            return
        wanted = days | {day + timedelta(days=1) for day in days}
        async with self.connection.transaction():
            await self.connection.execute(SQL["lock_partitions"])
            present = {row["name"] for row in await self.connection.fetch(SQL["list_partitions"])}
            for day in sorted(wanted):
                name = f"votes_{day:%Y%m%d}"
                if name not in present:
                    await self.connection.execute(SQL["make_partition"], day)
        self._days |= days


class _Collected:
    """Takes what COPY gives."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    async def add(self, chunk: bytes) -> None:
        self.chunks.append(chunk)


def follow(watermark: Watermark, placed: Placed) -> tuple[Watermark, Gap | None]:
    """The watermark after one more entry, which must be the very next one.

    Within an epoch numbers and seqs are dense: anything else is a JournalError, for to go on would
    lose a vote in silence. A new epoch begins at number 0; where its seq does not continue, that
    is told as a Gap: the store that held those votes is gone, and waiting brings nothing back.
    """
    id_, entry = placed
    gap = None
    if id_.epoch == watermark.epoch:
        if id_.number != watermark.entry + 1:
            raise JournalError(
                f"entry {watermark.epoch}-{watermark.entry + 1} is missing: {id_} comes next"
            )
        if entry.first_seq != watermark.seq + 1:
            raise JournalError(
                f"entry {id_} begins with seq {entry.first_seq}, expected {watermark.seq + 1}"
            )
    elif id_.epoch > watermark.epoch:
        if id_.number != 0:
            raise JournalError(f"entry {id_.epoch}-0 is missing: {id_} comes after {watermark.id}")
        if entry.first_seq != watermark.seq + 1:
            gap = Gap(watermark.id, id_, entry.first_seq - watermark.seq - 1, watermark.seq)
    else:
        raise JournalError(f"entry {id_} comes after {watermark.id}")
    seq = entry.first_seq + entry.vote_count - 1
    return Watermark(*id_, seq, max(watermark.at_us, entry.at_us)), gap


def _closing_row(placed: Placed, entry: Closing) -> tuple[int, int, int, int, int, datetime, bool]:
    return (
        *(entry.campaign, entry.shard, *placed.id),
        *(entry.first_seq - 1, moment_at(entry.at_us), entry.closed),
    )


def _watermark(row: asyncpg.Record) -> Watermark:
    at: datetime = row["at"]
    return Watermark(row["epoch"], row["entry"], row["seq"], microseconds(at))
