"""Leaves byte by byte, held against their description made with the standard library alone."""

import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.log.leaves import (
    OPENING_BYTES,
    RULING_BYTES,
    VOTE_BYTES,
    LeafError,
    LoggedVote,
    Role,
    Ruling,
    VoteLeaves,
    bundle,
    unbundle,
)

KEY = bytes(range(32))
votes = st.builds(
    LoggedVote,
    seq=st.integers(0, 2**40 - 1),
    at_us=st.integers(0, 2**32 * 3_600_000_000 - 1),
    candidate=st.binary(min_size=2, max_size=2),
    click=st.binary(min_size=6, max_size=6),
)


@given(st.integers(1, 32_767), st.integers(0, 255), st.integers(0, 65_535), st.lists(votes))
def test_leaf_is_what_its_description_says_and_its_opening_opens_it(campaign, shard, epoch, cast):
    leaves = VoteLeaves(campaign, KEY)
    records = leaves.records(shard, epoch, cast)
    openings = leaves.openings(shard, epoch, cast)
    assert len(records) == len(openings) == len(cast)
    for vote, record, opening in zip(cast, records, openings, strict=True):
        position = struct.pack(">BHBI", shard, epoch, vote.seq >> 32, vote.seq & 0xFFFFFFFF)
        salt = hmac.new(KEY, position, "sha256").digest()[:16]
        hour = vote.at_us // 1_000_000 // 3600
        committed = hashlib.sha256(salt + vote.candidate + position + vote.click).digest()
        assert record == struct.pack(">BHI", 1, campaign, hour) + committed
        assert len(record) == VOTE_BYTES == 39
        assert opening == position + vote.candidate + vote.click + salt + struct.pack(">I", hour)
        assert len(opening) == OPENING_BYTES == 36


def test_votes_alike_have_leaves_unlike():
    same = [LoggedVote(seq, 0, b"\0\1", b"sixbyt") for seq in range(100)]
    assert len(set(VoteLeaves(1, KEY).records(0, 1, same))) == 100


@pytest.mark.parametrize(("shard", "epoch"), [(256, 0), (-1, 0), (0, 65_536), (0, -1)])
def test_position_that_has_no_place_is_refused(shard, epoch):
    with pytest.raises(LeafError):
        VoteLeaves(1, KEY).records(shard, epoch, [])


rulings = st.builds(
    Ruling,
    leaf=st.integers(0, 2**64 - 1),
    state=st.sampled_from([0, 2, 4]),
    decision=st.integers(0, 2**32 - 1),
    rules=st.integers(0, 2**32 - 1),
    at_ms=st.integers(0, 2**64 - 1),
    role=st.sampled_from(Role),
)


@given(rulings)
def test_ruling_reads_back(ruling):
    packed = ruling.pack()
    assert len(packed) == RULING_BYTES == 27
    assert packed[0] == 1
    assert Ruling.unpack(packed) == ruling


@pytest.mark.parametrize("record", [b"", bytes(27), b"\x02" + bytes(26), b"\x01" + bytes(27)])
def test_what_is_no_ruling_is_refused(record):
    with pytest.raises(LeafError):
        Ruling.unpack(record)


@given(st.lists(st.binary(min_size=27, max_size=27)))
def test_bundle_is_entries_each_after_its_length(records):
    content = bundle(records)
    assert content == b"".join(len(each).to_bytes(2, "big") + each for each in records)
    assert unbundle(content, 27) == records
