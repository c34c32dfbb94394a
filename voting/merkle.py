"""RFC 6962 Merkle trees: hashes, the tiles that hold them, proofs out of tiles. No I/O.

Leaf = SHA-256(0x00 || entry), inner node = SHA-256(0x01 || left || right); where a tree's size is
no power of two, its left part is the largest complete tree that fits. Nodes are kept in tiles as
C2SP tlog-tiles has them: tile (level, number) holds 256 hashes side by side, at level 0 of leaves,
at each level above of whole tiles below. The heights between follow from them: at most 255 hashes
of work for a tile.

A tree only grows, so a tile that has become longer since serves every smaller tree as well.

Sources: RFC 6962 section 2.1, RFC 9162 section 2.1 (proofs), https://c2sp.org/tlog-tiles.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_BYTES = 32
ENTRIES_LEVEL = -1
"""Where the entries themselves are kept, beside the tiles of their hashes."""

EMPTY_ROOT = sha256(b"").digest()

_LEAF, _NODE = b"\0", b"\1"
_TILE_PATH = re.compile(r"((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?")
_TILE_PATH_MAX = 29
"""Characters: longer ones name tiles that no log of ours comes to."""


class MerkleError(ValueError):
    """A proof that cannot be made of these tiles, or of a leaf that is not in the tree."""


class TileId(NamedTuple):
    """One tile of a log."""

    level: int
    number: int


Range = tuple[int, int]
"""Leaves [begin, end): what one hash of a proof stands for."""


def hash_leaf(entry: bytes) -> bytes:
    return sha256(_LEAF + entry).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()


def hash_complete(hashes: bytes) -> bytes:
    """The node above a power of two of neighbouring hashes, given side by side."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [
                sha256(_NODE + hashes[at : at + 2 * HASH_BYTES]).digest()
                for at in range(0, len(hashes), 2 * HASH_BYTES)
            ]
        )
    return hashes


def hash_row(nodes: Sequence[bytes]) -> bytes:
    """The node above neighbouring complete subtrees, the largest first; all of a tree: its root."""
    if not nodes:
        return EMPTY_ROOT
    *left, node = nodes
    for each in reversed(left):
        node = hash_children(each, node)
    return node


def split_ragged(hashes: bytes) -> list[bytes]:
    """The complete subtrees over any number of neighbouring hashes, the largest first."""
    nodes, at = [], 0
    while rest := (len(hashes) - at) // HASH_BYTES:
        end = at + (HASH_BYTES << (rest.bit_length() - 1))
        nodes.append(hash_complete(hashes[at:end]))
        at = end
    return nodes


# Which leaves each hash of a proof stands for.


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Of the proof that leaf `index` is in the tree of this size: PATH of RFC 6962."""
    if not 0 <= index < size:
        raise MerkleError(f"there is no leaf {index} in a tree of {size}")
    begin, end, ranges = 0, size, []
    while end - begin > 1:
        middle = begin + _left_of(end - begin)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Of the proof that the tree of size `new` begins with that of size `old`: PROOF of RFC 6962.
    None for an empty tree, which every tree begins with, and for the very same."""
    if not 0 <= old <= new:
        raise MerkleError(f"a tree of {new} cannot begin with one of {old}")
    if old in (0, new):
        return []
    begin, end, whole, ranges = 0, new, True, []
    while old != end:
        middle = begin + _left_of(end - begin)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin, whole = middle, False
    if not whole:
        ranges.append((begin, end))
    return ranges[::-1]


def tiles_of(ranges: Iterable[Range]) -> dict[TileId, int]:
    """The tiles that these hashes follow from, with how many of its hashes each must have."""
    widths: dict[TileId, int] = {}
    for each in ranges:
        for tile, first, count in _places(each):
            widths[tile] = max(widths.get(tile, 0), first + count)
    return widths


def hashes_of(ranges: Iterable[Range], tiles: Mapping[TileId, bytes]) -> list[bytes]:
    """One hash per range. About 1 ms for an inclusion proof, whatever the size. Raises MerkleError
    where a tile is missing or too short."""
    return [
        hash_row([_cut(tiles, tile, first, count) for tile, first, count in _places(each)])
        for each in ranges
    ]


def _left_of(size: int) -> int:
    """Leaves of the left part of a tree: the largest power of two below its size."""
    return 1 << ((size - 1).bit_length() - 1)


def _places(leaves: Range) -> Iterable[tuple[TileId, int, int]]:
    """Where the complete subtrees of a range lie: tile, first of its hashes, how many of them."""
    begin, end = leaves
    while begin < end:
        height = (end - begin).bit_length() - 1
        level, below = divmod(height, TILE_HEIGHT)
        number, first = divmod(begin >> (TILE_HEIGHT * level), TILE_WIDTH)
        yield TileId(level, number), first, 1 << below
        begin += 1 << height


def _cut(tiles: Mapping[TileId, bytes], tile: TileId, first: int, count: int) -> bytes:
    hashes = tiles.get(tile, b"")[first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(hashes) != count * HASH_BYTES:
        raise MerkleError(f"tile {tile.level}/{tile.number} is missing or too short")
    return hash_complete(hashes)


# What a proof proves.


def root_by_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` in which this leaf's hash is at `index`, if the proof is one:
    to be compared with the signed one. Raises MerkleError for a proof of another length.

    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise MerkleError(f"there is no leaf {index} in a tree of {size}")
    node, at, last = leaf, index, size - 1
    for each in proof:
        if last == 0:
            raise MerkleError("the proof is too long")
        if at & 1 or at == last:
            node = hash_children(each, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = hash_children(node, each)
        at, last = at >> 1, last >> 1
    if last:
        raise MerkleError("the proof is too short")
    return node


def is_consistent(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the new tree begins with the old one: RFC 9162 section
    2.1.4.2."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and old_root == (EMPTY_ROOT if old == 0 else new_root)
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)  # a complete tree is a node of the new one: it is left out
    if not hashes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    of_old = of_new = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            of_old, of_new = hash_children(each, of_old), hash_children(each, of_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            of_new = hash_children(of_new, each)
        at, last = at >> 1, last >> 1
    return last == 0 and of_old == old_root and of_new == new_root


# Tiles by path.


def tile_path(number: int, width: int = TILE_WIDTH) -> str:
    """The end of a tile's path: 1234067 is x001/x234/067, with .p/W where it has fewer than 256."""
    groups = [f"{number % 1000:03}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03}")
    path = "/".join(reversed(groups))
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def read_tile_path(path: str) -> tuple[int, int] | None:
    """(number, width) of a path; None for what `tile_path` would not write: each tile has one."""
    found = _TILE_PATH.fullmatch(path) if len(path) <= _TILE_PATH_MAX else None
    if found is None:
        return None
    number = int(found[1].replace("x", "").replace("/", ""))
    width = int(found[2] or TILE_WIDTH)
    return (number, width) if tile_path(number, width) == path else None
