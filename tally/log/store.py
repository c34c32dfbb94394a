"""The verifiable logs in Postgres: how they grow, and what is read of them for publications.

A `LogWriter` is one log's writing side within one transaction of whoever holds the logs' lock
(integrator.py). Leaves, tiles and head are written together or not at all.
"""

import struct
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import asyncpg

from tally.log.keys import LogKeys
from tally.log.leaves import (
    RULING_BYTES,
    VOTE_BYTES,
    LoggedVote,
    Ruling,
    VoteLeaves,
    bundle,
    unbundle,
)
from tally.log.merkle import GrowingTree, Tile, right_edge
from tally.store import read_queries
from voting.log_reader import Log, Runs, read_tiles
from voting.merkle import ENTRIES_LEVEL, TILE_HEIGHT, TILE_WIDTH, TileId, hash_leaf

LOG_SQL = read_queries(Path(__file__).with_name("store.sql"))

RECORD_BYTES = {Log.VOTES: VOTE_BYTES, Log.RULINGS: RULING_BYTES}

_RANGE_RUNS_MAX = 1_024
"""Bounds what is read to find one vote's leaf."""
_PENDING_BYTES = 16 << 20
_BUNDLES_READ = 256
_RANGES_OPENED = 4_096
_LEAVES_OPENED = 16_384

POSTGRES_EPOCH_US = 946_684_800_000_000
"""What a timestamp of its binary format counts from, in epoch microseconds."""
_OPENED_ROW = struct.Struct(">2x4xq4xq4x2x2s4x2x6s")
"""seq, at, the last 2 bytes of candidate, the last 6 of click."""
_SEQ = attrgetter("seq")


class LogConflict(Exception):
    """The log is not what it was when it was signed, or would not be what it is. Nobody but a
    person can say why; nothing was written."""


class Head(NamedTuple):
    """A log at one moment."""

    size: int
    root: bytes
    at: datetime
    """Up to when nothing is missing."""
    decision: int = 0
    """Of rulings: the last decision that is in it."""


class LoggedRange(NamedTuple):
    """Votes of one campaign that became neighbouring leaves."""

    start: int
    shard: int
    epoch: int
    run_seqs: list[int]
    run_leaves: list[int]


class LogWriter:
    """One log that grows."""

    def __init__(
        self, campaign: int, log: Log, head: Head, tree: GrowingTree, last_bundle: bytes
    ) -> None:
        self.campaign, self.log = campaign, log
        self.decision = head.decision
        self._saved = head
        self._tree = tree
        self._last_bundle = last_bundle
        """The entries after the last whole bundle, as they are stored."""
        self._pending: dict[TileId, Tile] = {}
        self._pending_bytes = 0

    @classmethod
    async def open(cls, connection: asyncpg.Connection, campaign: int, log: Log) -> "LogWriter":
        """Raises LogConflict where the stored tiles do not give the stored root."""
        head = await read_head(connection, campaign, log)
        wanted = right_edge(head.size)
        tiles = await read_tiles(
            connection,
            campaign,
            log,
            [*wanted, TileId(ENTRIES_LEVEL, head.size >> TILE_HEIGHT)],
        )
        name = f"the log {log.word} of campaign {campaign}"
        try:
            tree = GrowingTree(head.size, tiles)
        except (KeyError, ValueError):
            raise LogConflict(f"{name} lacks tiles at its end") from None
        if tree.root() != head.root:
            raise LogConflict(f"{name} has tiles that do not give its root")
        entries = tiles.get(TileId(ENTRIES_LEVEL, head.size >> TILE_HEIGHT), b"")
        if len(entries) != head.size % TILE_WIDTH * (2 + RECORD_BYTES[log]):
            raise LogConflict(f"{name} lacks entries at its end")
        return cls(campaign, log, head, tree, entries)

    @property
    def size(self) -> int:
        return self._tree.size

    def append(self, records: Sequence[bytes]) -> int:
        """Take in entries; the index of the first one."""
        start = self._tree.size
        self._keep(self._tree.append(b"".join([hash_leaf(record) for record in records])))
        step = TILE_WIDTH * (2 + RECORD_BYTES[self.log])
        content = self._last_bundle + bundle(records)
        number = start >> TILE_HEIGHT
        bundles = []
        for at in range(0, len(content), step):
            entries = content[at : at + step]
            width = len(entries) // (2 + RECORD_BYTES[self.log])
            bundles.append(Tile(TileId(ENTRIES_LEVEL, number), width, entries))
            number += 1
        self._keep(bundles)
        self._last_bundle = content[len(content) // step * step :]
        return start

    async def save_tiles(self, connection: asyncpg.Connection, *, all_of_them: bool) -> None:
        """Write what is waiting, or only where that is much."""
        if not self._pending or not (all_of_them or self._pending_bytes > _PENDING_BYTES):
            return
        tiles = list(self._pending.values())
        self._pending, self._pending_bytes = {}, 0
        status = await connection.execute(
            LOG_SQL["add_tiles"],
            self.campaign,
            self.log,
            [tile.id.level for tile in tiles],
            [tile.id.number for tile in tiles],
            [tile.width for tile in tiles],
            [tile.content for tile in tiles],
        )
        if status != f"INSERT 0 {len(tiles)}":
            raise LogConflict(
                f"the log {self.log.word} of campaign {self.campaign} has longer tiles than leaves"
            )

    async def save(self, connection: asyncpg.Connection) -> None:
        """Write all that is waiting, and the head."""
        await self.save_tiles(connection, all_of_them=True)
        head = self._saved
        if (self.size, self.decision) == (head.size, head.decision):
            return
        root = self._tree.root()
        status = await connection.execute(
            LOG_SQL["grow_log"],
            self.campaign,
            self.log,
            self.size,
            root,
            self.decision,
            head.size,
        )
        if status != "UPDATE 1":
            raise LogConflict(
                f"somebody else appends to the log {self.log.word} of campaign {self.campaign}"
            )
        self._saved = Head(self.size, root, head.at, self.decision)

    def _keep(self, tiles: Sequence[Tile]) -> None:
        for tile in tiles:
            self._pending[tile.id] = tile
            self._pending_bytes += len(tile.content)


async def read_head(connection: asyncpg.Connection, campaign: int, log: Log) -> Head:
    """LookupError where the campaign has no log yet."""
    row = await connection.fetchrow(LOG_SQL["read_log"], campaign, log)
    if row is None:
        raise LookupError(f"campaign {campaign} has no log yet")
    return Head(row["size"], bytes(row["root"]), row["at"], row["decision"])


async def root_at(connection: asyncpg.Connection, campaign: int, log: Log, size: int) -> bytes:
    """The root of the log's first `size` leaves. LogConflict where its tiles do not give it."""
    tiles = await read_tiles(connection, campaign, log, right_edge(size))
    try:
        return GrowingTree(size, tiles).root()
    except (KeyError, ValueError):
        raise LogConflict(f"the log {log.word} of campaign {campaign} lacks tiles") from None


async def add_ranges(
    connection: asyncpg.Connection, campaign: int, ranges: Sequence[LoggedRange]
) -> None:
    """Say which votes became which leaves; a range of very many runs is cut into several."""
    rows = []
    for each in ranges:
        start = each.start
        for at in range(0, len(each.run_seqs), _RANGE_RUNS_MAX):
            seqs = each.run_seqs[at : at + _RANGE_RUNS_MAX]
            leaves = each.run_leaves[at : at + _RANGE_RUNS_MAX]
            last = seqs[-1] + leaves[-1] - 1
            rows.append(
                (campaign, start, each.shard, each.epoch, seqs[0], last, sum(leaves), seqs, leaves)
            )
            start += sum(leaves)
    await connection.executemany(LOG_SQL["add_range"], rows)


async def find_leaves(
    connection: asyncpg.Connection, campaign: int, shard: int, epoch: int, seqs: Sequence[int]
) -> list[int]:
    """The leaves that these votes, ascending, became. LogConflict where one is in no range."""
    rows = await connection.fetch(
        LOG_SQL["read_ranges_between"], campaign, shard, epoch, seqs[0], seqs[-1]
    )
    leaves: list[int] = []
    ranges = iter(rows)
    to_seq, runs = -1, None
    for seq in seqs:
        while seq > to_seq:
            row = next(ranges, None)
            if row is None:
                break
            to_seq = row["to_seq"]
            runs = Runs(row["start"], row["run_seqs"], row["run_leaves"])
        leaf = None if runs is None else runs.leaf(seq)
        if leaf is None:
            raise LogConflict(
                f"campaign {campaign} has no leaf for the vote at shard {shard}, epoch {epoch}, "
                f"seq {seq}"
            )
        leaves.append(leaf)
    return leaves


class VoteDays:
    """Finds the days on which a shard's votes lie: `votes` is kept by campaign day, and around
    midnight, or where campaigns are in different zones, neighbouring votes lie in several."""

    def __init__(self, connection: asyncpg.Connection, days: Sequence[date]) -> None:
        self._connection = connection
        self._days = list(days)

    @classmethod
    async def list(cls, connection: asyncpg.Connection) -> "VoteDays":
        rows = await connection.fetch(LOG_SQL["list_vote_days"])
        return cls(connection, [row["day"] for row in rows])

    async def first_after(self, shard: int, epoch: int, seq: int) -> tuple[int, int] | None:
        """The next vote's (epoch, seq) after this one; None where there is none yet."""
        row = await self._connection.fetchrow(
            LOG_SQL["find_first_after"], self._days, shard, epoch, seq
        )
        return None if row is None else (row["epoch"], row["seq"])

    async def copy(
        self, query: str, shard: int, epoch: int, from_seq: int, to_seq: int, *more: int
    ) -> bytes:
        """The rows of these positions by a query of ours, day by day, as COPY gives them."""
        days = await self._connection.fetch(
            LOG_SQL["find_days_between"], self._days, shard, epoch, from_seq, to_seq
        )
        collected = _Collected()
        for (day,) in days:
            await self._connection.copy_from_query(
                LOG_SQL[query],
                day,
                shard,
                epoch,
                from_seq,
                to_seq,
                *more,
                output=collected.add,
                format="binary",
            )
            collected.end_day()
        return collected.rows()


class _Collected:
    """Takes what COPYs give, one after the other."""

    _OPENING, _CLOSING = 19, 2
    """Bytes: signature, flags and length of an extension that there never is; the end's mark."""

    def __init__(self) -> None:
        self._days: list[bytes] = []
        self._chunks: list[bytes] = []

    async def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def end_day(self) -> None:
        self._days.append(b"".join(self._chunks)[self._OPENING : -self._CLOSING])
        self._chunks.clear()

    def rows(self) -> bytes:
        """All rows, side by side."""
        return b"".join(self._days)


# What a publication takes along.


async def read_records(
    connection: asyncpg.Connection, campaign: int, log: Log, size: int
) -> AsyncIterator[list[bytes]]:
    """The entries of a log's first `size` leaves, in order, at most 65,536 at a time."""
    bundles = -(-size // TILE_WIDTH)
    left = size
    for first in range(0, bundles, _BUNDLES_READ):
        rows = await connection.fetch(
            LOG_SQL["read_bundles"], campaign, log, first, min(bundles, first + _BUNDLES_READ)
        )
        content = b"".join([row["content"] for row in rows])
        records = unbundle(content, RECORD_BYTES[log])[:left]
        if len(records) != min(left, _BUNDLES_READ * TILE_WIDTH):
            raise LogConflict(f"the log {log.word} of campaign {campaign} lacks entries")
        left -= len(records)
        yield records


async def read_rulings(
    connection: asyncpg.Connection, campaign: int, size: int
) -> AsyncIterator[list[Ruling]]:
    """The first `size` rulings, in order, some at a time."""
    async for records in read_records(connection, campaign, Log.RULINGS, size):
        yield [Ruling.unpack(record) for record in records]


async def open_ranges(
    connection: asyncpg.Connection, keys: LogKeys, campaign: int, size: int
) -> AsyncIterator[bytes]:
    """What opens a campaign's first `size` leaves (leaves.py), in order, side by side: 36 bytes
    each, a range of the log at a time. About 5 us a leaf. After the close only: it tells whom
    each receipt is for. Raises LogConflict where a vote is not in the database any more."""
    leaves = VoteLeaves(campaign, keys.campaign_salts(campaign))
    days = await VoteDays.list(connection)
    at = 0
    while at < size:
        rows = await connection.fetch(
            LOG_SQL["list_ranges_before"], campaign, size, at, _RANGES_OPENED
        )
        # Ranges of one shard and epoch follow each other: one read for many of them, for at a
        # quiet hour each step of the integrator leaves a range of one vote.
        ranges = _up_to(rows, _LEAVES_OPENED)
        votes = {
            place: await _votes_between(days, campaign, *place, from_seq, to_seq)
            for place, (from_seq, to_seq) in _spans(ranges).items()
        }
        for row in ranges:
            if row["start"] != at:
                break
            place = row["shard"], row["epoch"]
            first = bisect_left(votes[place], row["from_seq"], key=_SEQ)
            opened = votes[place][first : first + row["leaves"]]
            if len(opened) != row["leaves"] or opened[-1].seq != row["to_seq"]:
                raise LogConflict(f"campaign {campaign} lacks votes of the range at leaf {at}")
            at += len(opened)
            yield b"".join(leaves.openings(*place, opened[: len(opened) - max(0, at - size)]))
        else:
            if ranges:
                continue
        raise LogConflict(f"campaign {campaign} has no range that begins at leaf {at}")


def _up_to(rows: Sequence[asyncpg.Record], leaves_max: int) -> list[asyncpg.Record]:
    """The first of these ranges, so many leaves and up to one range more."""
    taken, leaves = [], 0
    for row in rows:
        taken.append(row)
        leaves += row["leaves"]
        if leaves >= leaves_max:
            break
    return taken


def _spans(ranges: Sequence[asyncpg.Record]) -> dict[tuple[int, int], tuple[int, int]]:
    """(shard, epoch) -> first and last seq of these ranges, which ascend."""
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for row in ranges:
        place = row["shard"], row["epoch"]
        from_seq = spans[place][0] if place in spans else row["from_seq"]
        spans[place] = from_seq, row["to_seq"]
    return spans


async def _votes_between(
    days: VoteDays, campaign: int, shard: int, epoch: int, from_seq: int, to_seq: int
) -> list[LoggedVote]:
    rows = await days.copy("copy_votes_to_open", shard, epoch, from_seq, to_seq, campaign)
    votes = [
        LoggedVote(seq, at_us + POSTGRES_EPOCH_US, candidate, click)
        for seq, at_us, candidate, click in _OPENED_ROW.iter_unpack(rows)
    ]
    votes.sort(key=_SEQ)  # days follow each other, their seqs may not
    return votes
