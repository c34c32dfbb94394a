"""Where this edge looks into the verifiable logs: receipts, checkpoints, tiles.

Owner: one per edge process, with its own small pool of Postgres connections, so that whoever floods
it takes nothing from votes and catalog: so many questions a second, so many waiting, so many bytes
of tiles held, and above that OverAsked at once. Whoever floods it does take it from other askers.
"""

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

import asyncpg
import structlog

from antifraud.limits import PERIODS_US, Rate, take
from voting.ballot import Position
from voting.checkpoint import Checkpoint
from voting.edge.live_catalog import DATABASE_AWAY
from voting.log_reader import Log, find_leaf, read_tiles
from voting.merkle import (
    ENTRIES_LEVEL,
    HASH_BYTES,
    TILE_WIDTH,
    MerkleError,
    TileId,
    hash_leaf,
    hashes_of,
    inclusion_ranges,
    root_by_inclusion,
    tiles_of,
)

log = structlog.get_logger()

LEAVES_RATE = Rate(100, PERIODS_US["second"])
"""Proofs that one edge makes, about 1 ms of its core each."""
TILES_RATE = Rate(100, PERIODS_US["second"])
_WAITING_MAX = 32
_ASK_TIMEOUT_SECONDS = 2.0
_TILES_HELD_BYTES_MAX = 8 << 20
_CHECKPOINT_HELD_SECONDS = 1.0

_READ_CHECKPOINT = "SELECT checkpoint FROM logs WHERE campaign = $1 AND log = $2"
_READ_KEPT_CHECKPOINT = (
    "SELECT note FROM checkpoints WHERE campaign = $1 AND log = $2 ORDER BY size DESC LIMIT 1"
)
_READ_KEY = "SELECT verifier_key FROM log_identity"


class OverAsked(Exception):
    """More is asked than this edge answers: again in a moment."""


IN_VAIN = (OverAsked, *DATABASE_AWAY)
"""Where there is no answer now."""


class LogDamaged(Exception):
    """The stored log does not prove what was signed. Somebody has to look."""


@dataclass(frozen=True, slots=True)
class LoggedLeaf:
    """A vote's leaf, and the proof that it is in the signed tree."""

    index: int
    record: bytes
    proof: list[bytes]
    size: int
    note: str
    """The signed checkpoint of that size."""


class _Gate:
    """Lets so many through."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._next_free_us = 0

    def admits(self) -> bool:
        now_us = time.monotonic_ns() // 1000
        admitted, self._next_free_us = take(self._rate, self._next_free_us, now_us)
        return admitted


class LogDesk:
    """Answers of the logs, as far as they are signed. All raise one of IN_VAIN."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None
        self._waiting = 0
        self._leaves_gate, self._tiles_gate = _Gate(LEAVES_RATE), _Gate(TILES_RATE)
        self._tiles: OrderedDict[tuple[int, Log, TileId], bytes] = OrderedDict()
        self._tiles_bytes = 0
        self._notes: dict[tuple[int, Log, bool], tuple[float, str | None]] = {}
        """A few per campaign: numbers of campaigns come out of our own receipts and catalog."""

    async def open(self) -> None:
        """Make ready; connects when the first question is asked."""
        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=2, command_timeout=_ASK_TIMEOUT_SECONDS, timeout=2
        )

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def leaf(self, campaign: int, position: Position) -> LoggedLeaf | None:
        """A vote's leaf in the last signed tree; None where it is not in it yet. About 3 ms of
        waiting and 1 ms of work. Raises LogDamaged too."""
        async with self._connection(self._leaves_gate) as connection:
            note = await self._note(connection, campaign, Log.VOTES, kept=False)
            if note is None:
                return None
            index = await find_leaf(connection, campaign, position)
            signed = Checkpoint.of_note(note)
            if index is None or index >= signed.size:
                return None
            ranges = inclusion_ranges(index, signed.size)
            bundle, place = divmod(index, TILE_WIDTH)
            wanted = tiles_of(ranges)
            entries = await self._read(
                connection, campaign, Log.VOTES, {TileId(ENTRIES_LEVEL, bundle): place + 1}
            )
            tiles = await self._read(connection, campaign, Log.VOTES, wanted)
        try:
            record = _entry(entries.get(TileId(ENTRIES_LEVEL, bundle), b""), place)
            proof = hashes_of(ranges, tiles)
            root = root_by_inclusion(hash_leaf(record), index, signed.size, proof)
        except MerkleError as why:
            root, said = None, str(why)
        else:
            said = "the proof does not give the signed root"
        if root != signed.root:
            # Rather no proof than a wrong one, which the voter would show to everybody.
            log.critical("log-damaged", campaign=campaign, leaf=index, size=signed.size, why=said)
            raise LogDamaged(said)
        return LoggedLeaf(index, record, proof, signed.size, note)

    async def checkpoint(self, campaign: int, log_: Log, *, kept: bool) -> str | None:
        """The last signed checkpoint, or the last one that is kept (hourly). None where there is
        none yet."""
        held = self._held_note(campaign, log_, kept)
        if held is not None:
            return held[1]
        async with self._connection(self._tiles_gate) as connection:
            return await self._note(connection, campaign, log_, kept=kept)

    async def tile(self, campaign: int, log_: Log, tile: TileId, width: int) -> bytes | None:
        """So many hashes of a tile, or entries of a bundle; None where it has not as many."""
        async with self._connection(self._tiles_gate) as connection:
            held = await self._read(connection, campaign, log_, {tile: width})
        content = held.get(tile)
        if content is None:
            return None
        end = _entries_end(content, width) if tile.level < 0 else width * HASH_BYTES
        return content[:end]

    async def verifier_key(self) -> str | None:
        """What checkpoints are checked with; None before the first one."""
        async with self._connection(self._tiles_gate) as connection:
            found: str | None = await connection.fetchval(_READ_KEY)
        return found

    @contextlib.asynccontextmanager
    async def _connection(self, gate: _Gate) -> AsyncIterator[asyncpg.Connection]:
        assert self._pool is not None, "open() comes first"
        if self._waiting >= _WAITING_MAX or not gate.admits():
            raise OverAsked
        self._waiting += 1
        try:
            async with self._pool.acquire(timeout=_ASK_TIMEOUT_SECONDS) as connection:
                yield connection
        finally:
            self._waiting -= 1

    async def _note(
        self, connection: asyncpg.Connection, campaign: int, log_: Log, *, kept: bool
    ) -> str | None:
        held = self._held_note(campaign, log_, kept)
        if held is not None:
            return held[1]
        query = _READ_KEPT_CHECKPOINT if kept else _READ_CHECKPOINT
        asked_at = time.monotonic()
        note: str | None = await connection.fetchval(query, campaign, log_)
        self._notes[campaign, log_, kept] = asked_at, note
        return note

    def _held_note(self, campaign: int, log_: Log, kept: bool) -> tuple[float, str | None] | None:
        """As it was within the last second, in which a crowd that comes for it costs one
        question; None where nobody asked."""
        held = self._notes.get((campaign, log_, kept))
        if held is None or time.monotonic() - held[0] >= _CHECKPOINT_HELD_SECONDS:
            return None
        return held

    async def _read(
        self,
        connection: asyncpg.Connection,
        campaign: int,
        log_: Log,
        widths: Mapping[TileId, int],
    ) -> dict[TileId, bytes]:
        """Tiles out of memory or Postgres. One that has grown since it was held is read again
        when more of it is needed: what it had then it has for ever."""
        tiles = {}
        for tile, width in widths.items():
            held = self._tiles.get((campaign, log_, tile))
            if held is not None and _width(held, tile) >= width:
                self._tiles.move_to_end((campaign, log_, tile))
                tiles[tile] = held
        missing = widths.keys() - tiles.keys()
        if missing:
            read = await read_tiles(connection, campaign, log_, missing)
            self._hold(campaign, log_, read.items())
            tiles |= {
                tile: content
                for tile, content in read.items()
                if _width(content, tile) >= widths[tile]
            }
        return tiles

    def _hold(self, campaign: int, log_: Log, tiles: Iterable[tuple[TileId, bytes]]) -> None:
        for tile, content in tiles:
            self._tiles_bytes -= len(self._tiles.pop((campaign, log_, tile), b""))
            self._tiles[campaign, log_, tile] = content
            self._tiles_bytes += len(content)
        while self._tiles_bytes > _TILES_HELD_BYTES_MAX:
            _, old = self._tiles.popitem(last=False)
            self._tiles_bytes -= len(old)


def _width(content: bytes, tile: TileId) -> int:
    """Hashes of a tile, entries of a bundle; all entries of a log are of one length."""
    if tile.level >= 0:
        return len(content) // HASH_BYTES
    return len(content) // (2 + int.from_bytes(content[:2], "big")) if content else 0


def _entries_end(content: bytes, width: int) -> int:
    return width * (2 + int.from_bytes(content[:2], "big"))


def _entry(content: bytes, place: int) -> bytes:
    """One entry of a bundle; MerkleError where it is not there."""
    begin, end = _entries_end(content, place), _entries_end(content, place + 1)
    if len(content) < end or not content:
        raise MerkleError("an entry is missing")
    return content[begin + 2 : end]
