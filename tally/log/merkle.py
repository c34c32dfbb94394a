"""A Merkle tree that grows, tile by tile. No I/O. Hashes and proofs are in voting/merkle.py."""

from collections.abc import Mapping
from typing import NamedTuple

from voting.merkle import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    TileId,
    hash_complete,
    hash_row,
    split_ragged,
)

_TILE_BYTES = TILE_WIDTH * HASH_BYTES


class Tile(NamedTuple):
    """A tile as it is now."""

    id: TileId
    width: int
    content: bytes


def right_edge(size: int) -> list[TileId]:
    """The tiles of a tree of this size that are not full: at most one a level."""
    edge, level = [], 0
    while size:
        if size % TILE_WIDTH:
            edge.append(TileId(level, size >> TILE_HEIGHT))
        size >>= TILE_HEIGHT
        level += 1
    return edge


class GrowingTree:
    """The right edge of a tree, which is all of it that appending and its root need: less than
    8 kB a level, one level for each factor of 256."""

    def __init__(self, size: int = 0, tiles: Mapping[TileId, bytes] | None = None) -> None:
        """`tiles`: those of `right_edge(size)`, which may be longer than the tree needs. Raises
        KeyError where one is missing, ValueError where it is too short."""
        self.size = size
        self._edge: list[bytes] = []
        """Per level the hashes of its last tile, fewer than 256."""
        held = {} if tiles is None else tiles
        level, nodes = 0, size
        while nodes:
            length = nodes % TILE_WIDTH * HASH_BYTES
            edge = b""
            if length:
                edge = held[TileId(level, nodes >> TILE_HEIGHT)][:length]
                if len(edge) != length:
                    raise ValueError(f"the last tile of level {level} is too short")
            self._edge.append(edge)
            nodes >>= TILE_HEIGHT
            level += 1

    def append(self, leaf_hashes: bytes) -> list[Tile]:
        """Take in leaves' hashes, given side by side; every tile that this changed, as it is then.
        About 0.6 us a leaf."""
        grown: list[Tile] = []
        level, nodes, hashes = 0, self.size, leaf_hashes
        self.size += len(leaf_hashes) // HASH_BYTES
        while hashes:
            if level == len(self._edge):
                self._edge.append(b"")
            content = self._edge[level] + hashes
            number = nodes >> TILE_HEIGHT
            full = len(content) // _TILE_BYTES
            above = []
            for each in range(full):
                tile = content[each * _TILE_BYTES : (each + 1) * _TILE_BYTES]
                grown.append(Tile(TileId(level, number + each), TILE_WIDTH, tile))
                above.append(hash_complete(tile))
            rest = content[full * _TILE_BYTES :]
            if rest:
                width = len(rest) // HASH_BYTES
                grown.append(Tile(TileId(level, number + full), width, rest))
            self._edge[level] = rest
            level, nodes, hashes = level + 1, number, b"".join(above)
        return grown

    def root(self) -> bytes:
        """SHA-256 of nothing where there is no leaf."""
        return hash_row([node for edge in reversed(self._edge) for node in split_ragged(edge)])
