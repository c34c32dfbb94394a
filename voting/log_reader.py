"""What is read of the verifiable logs in Postgres: leaves by position, tiles, proofs.

Owner of what is written: tally/log/integrator.py. A log only grows, and so does each of its tiles:
a tile read after a checkpoint serves that checkpoint, whatever was appended in between.
"""

import enum
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from voting.ballot import Position
from voting.merkle import (
    Range,
    TileId,
    consistency_ranges,
    hashes_of,
    inclusion_ranges,
    tiles_of,
)

_FIND_RANGE = """
SELECT start, run_seqs, run_leaves FROM log_ranges
WHERE campaign = $1 AND shard = $2 AND epoch = $3 AND from_seq <= $4
ORDER BY from_seq DESC LIMIT 1
"""
_READ_TILES = """
SELECT wanted.level, wanted.number, tile.content
FROM unnest($3::smallint[], $4::bigint[]) AS wanted (level, number)
CROSS JOIN LATERAL (
    SELECT content FROM log_tiles
    WHERE campaign = $1 AND log = $2 AND level = wanted.level AND number = wanted.number
    LIMIT 1
) AS tile
"""
# One look into the index for each, whatever the planner knows of the table: as a plain join it took
# a new table of 40,000 tiles for a small one, and 32 ms instead of 1.


class Log(enum.IntEnum):
    """The two trees of each campaign."""

    VOTES = 0
    """Every vote, counted or held."""
    RULINGS = 1
    """What takes votes out and back in: verdicts that hold, and decisions."""

    @property
    def word(self) -> str:
        """As it stands in addresses and origins."""
        return self.name.lower()


class Runs:
    """Where in a range of positions one campaign's votes are, and which leaves they became."""

    def __init__(self, start: int, run_seqs: Sequence[int], run_leaves: Sequence[int]) -> None:
        self._seqs, self._leaves = run_seqs, run_leaves
        self._starts = [start]
        for leaves in run_leaves:
            self._starts.append(self._starts[-1] + leaves)

    def leaf(self, seq: int) -> int | None:
        """Index of the leaf that this vote became; None where it is not in the range."""
        run = bisect_right(self._seqs, seq) - 1
        if run < 0 or seq >= self._seqs[run] + self._leaves[run]:
            return None
        return self._starts[run] + seq - self._seqs[run]


async def find_leaf(connection: Any, campaign: int, position: Position) -> int | None:
    """Index of the leaf that a vote became; None where it is in no log (yet), or another
    campaign's."""
    row = await connection.fetchrow(
        _FIND_RANGE, campaign, position.shard, position.epoch, position.seq
    )
    return None if row is None else Runs(*row).leaf(position.seq)


async def read_tiles(
    connection: Any, campaign: int, log: Log, tiles: Iterable[TileId]
) -> dict[TileId, bytes]:
    """Those of the tiles that there are, each as long as it is by now."""
    wanted = list(tiles)
    rows = await connection.fetch(
        _READ_TILES,
        campaign,
        log,
        [tile.level for tile in wanted],
        [tile.number for tile in wanted],
    )
    return {TileId(row["level"], row["number"]): bytes(row["content"]) for row in rows}


async def prove_inclusion(
    connection: Any, campaign: int, log: Log, index: int, size: int
) -> list[bytes]:
    """The proof that leaf `index` is in the log's tree of `size`. About 3 ms. Raises MerkleError
    where the log has no such leaf, or is not as long."""
    return await _prove(connection, campaign, log, inclusion_ranges(index, size))


async def prove_consistency(
    connection: Any, campaign: int, log: Log, old: int, new: int
) -> list[bytes]:
    """The proof that the log's tree of size `new` begins with its tree of size `old`. Raises
    MerkleError where the log is not as long."""
    return await _prove(connection, campaign, log, consistency_ranges(old, new))


async def _prove(connection: Any, campaign: int, log: Log, ranges: Sequence[Range]) -> list[bytes]:
    tiles = await read_tiles(connection, campaign, log, tiles_of(ranges))
    return hashes_of(ranges, tiles)
