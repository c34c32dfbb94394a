"""Trees by RFC 6962: vectors that others publish, and properties against its text in Python."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.log.merkle import GrowingTree, right_edge
from tests.naive_tree import path, proof, tree_hash
from voting.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MerkleError,
    TileId,
    consistency_ranges,
    hash_leaf,
    hashes_of,
    inclusion_ranges,
    is_consistent,
    read_tile_path,
    root_by_inclusion,
    tile_path,
    tiles_of,
)

# The tree of eight leaves that implementations of Certificate Transparency are tested with.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    # (leaf, size): audit path
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
PROOFS = {
    # (old, new): consistency proof
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def grown(entries, chunks=None):
    """A tree of these entries, and all of its tiles as they were last written."""
    tree, tiles, at = GrowingTree(), {}, 0
    for chunk in chunks or [len(entries)]:
        hashes = b"".join(map(hash_leaf, entries[at : at + chunk]))
        for tile in tree.append(hashes):
            assert len(tile.content) == tile.width * HASH_BYTES
            tiles[tile.id] = tile.content
        at += chunk
    return tree, tiles


def proven(ranges, tiles):
    """The proof, out of no more of the tiles than it says that it needs."""
    needed = {tile: tiles[tile][: width * HASH_BYTES] for tile, width in tiles_of(ranges).items()}
    return hashes_of(ranges, needed)


def test_empty_tree_has_the_hash_of_nothing():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert GrowingTree().root() == EMPTY_ROOT == bytes.fromhex(empty)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_that_others_publish(size):
    tree, _ = grown(ENTRIES[:size])
    assert tree.root().hex() == ROOTS[size - 1] == tree_hash(ENTRIES[:size]).hex()


def test_proofs_are_those_that_others_publish():
    _, tiles = grown(ENTRIES)
    for (leaf, size), wanted in PATHS.items():
        found = proven(inclusion_ranges(leaf, size), tiles)
        assert [each.hex() for each in found] == wanted, (leaf, size)
    for (old, new), wanted in PROOFS.items():
        found = proven(consistency_ranges(old, new), tiles)
        assert [each.hex() for each in found] == wanted, (old, new)


def entries_of(size):
    return [number.to_bytes(4, "big") for number in range(size)]


sizes = st.one_of(
    st.integers(1, 40),
    st.integers(200, 1_100),
    st.sampled_from([255, 256, 257, 511, 512, 513, 1023, 1024, 1025]),
)


@given(sizes, st.data())
def test_tree_is_the_same_in_whatever_chunks_it_grew_and_wherever_it_was_read_again(size, data):
    entries = entries_of(size)
    whole, tiles = grown(entries)
    assert whole.root() == tree_hash(entries)
    cut = data.draw(st.integers(0, size))
    first, held = grown(entries[:cut], [cut // 2, cut - cut // 2])
    assert first.root() == tree_hash(entries[:cut])
    # From its tiles, those that are longer by now too.
    for source in (held, tiles):
        again = GrowingTree(cut, {tile: source[tile] for tile in right_edge(cut)})
        assert again.root() == first.root()
        later = {
            tile.id: tile.content for tile in again.append(b"".join(map(hash_leaf, entries[cut:])))
        }
        assert again.root() == whole.root()
        assert held | later == tiles


@given(sizes, st.data())
def test_every_leaf_has_a_proof_that_gives_the_root_and_no_other_leaf_has_it(size, data):
    entries = entries_of(size)
    _, tiles = grown([*entries, *entries_of(data.draw(st.integers(0, 300)))])
    index = data.draw(st.integers(0, size - 1))
    found = proven(inclusion_ranges(index, size), tiles)
    root = tree_hash(entries)
    assert found == path(index, entries)
    leaf = hash_leaf(entries[index])
    assert root_by_inclusion(leaf, index, size, found) == root
    assert root_by_inclusion(hash_leaf(b"another"), index, size, found) != root
    if size > 1:
        other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index))
        with contextlib.suppress(MerkleError):  # its proof may have another length
            assert root_by_inclusion(leaf, other, size, found) != root
        for wrong in (found[:-1], [*found, bytes(32)]):
            with pytest.raises(MerkleError):
                root_by_inclusion(leaf, index, size, wrong)


@given(sizes, st.data())
def test_every_tree_proves_that_it_begins_with_each_earlier_one(new, data):
    entries = entries_of(new)
    old = data.draw(st.integers(0, new))
    _, tiles = grown(entries)
    old_root, new_root = tree_hash(entries[:old]), tree_hash(entries)
    found = proven(consistency_ranges(old, new), tiles)
    if 0 < old < new:
        assert found == proof(old, entries)
    assert is_consistent(old, old_root, new, new_root, found)
    assert not is_consistent(old, old_root, new, new_root, [*found, bytes(32)])
    assert not is_consistent(old, bytes(32), new, new_root, found)
    if old:
        assert not is_consistent(old, old_root, new, bytes(32), found)
    for place in range(len(found)):
        turned = [*found[:place], bytes(32), *found[place + 1 :]]
        assert not is_consistent(old, old_root, new, new_root, turned)


def test_what_is_not_in_the_tree_has_no_proof():
    for index, size in ((0, 0), (8, 8), (-1, 8)):
        with pytest.raises(MerkleError):
            inclusion_ranges(index, size)
        with pytest.raises(MerkleError):
            root_by_inclusion(bytes(32), index, size, [])
    with pytest.raises(MerkleError):
        consistency_ranges(9, 8)
    assert not is_consistent(9, bytes(32), 8, bytes(32), [])
    _, tiles = grown(ENTRIES)
    with pytest.raises(MerkleError):
        hashes_of(inclusion_ranges(3, 9), tiles)
    with pytest.raises(MerkleError):
        hashes_of(inclusion_ranges(3, 8), {})


def test_a_tree_is_not_begun_on_tiles_that_do_not_hold_it():
    with pytest.raises(KeyError):
        GrowingTree(7, {})
    with pytest.raises(ValueError, match="too short"):
        GrowingTree(7, {TileId(0, 0): bytes(6 * HASH_BYTES)})


# https://c2sp.org/tlog-tiles: "1234067" is "x001/x234/067".
@pytest.mark.parametrize(
    ("number", "width", "wanted"),
    [
        (0, 256, "000"),
        (0, 1, "000.p/1"),
        (67, 256, "067"),
        (273, 112, "273.p/112"),
        (1000, 256, "x001/000"),
        (1234067, 256, "x001/x234/067"),
        (1234067, 255, "x001/x234/067.p/255"),
    ],
)
def test_tiles_have_the_paths_of_c2sp(number, width, wanted):
    assert tile_path(number, width) == wanted
    assert read_tile_path(wanted) == (number, width)


@given(st.integers(0, 2**40), st.integers(1, 256))
def test_every_tile_is_found_by_its_path(number, width):
    assert read_tile_path(tile_path(number, width)) == (number, width)


@pytest.mark.parametrize(
    "path",
    [
        "", "0", "00", "0000", "x000/000", "x1/000", "1000", "001/000", "000.p", "000.p/",
        "000.p/0", "000.p/256", "000.p/01", "000.p/1/", "/000", "000/", "x001/x234/067/",
        "..", "x001/../067", "００１", "x" * 1000, "x001/" * 12 + "000", "000.p/1.p/1",
    ],
)  # fmt: skip
def test_a_path_that_is_not_a_tile_s_one_path_is_none(path):
    assert read_tile_path(path) is None
