"""Looks at a campaign's logs as a sceptic would: everything is worked out again, the slow way."""

import hashlib
import hmac
import struct
from collections import Counter

from tally.holds import State
from tally.log.keys import LogKeys
from tally.log.leaves import Ruling
from tally.log.store import open_ranges, read_head, read_records
from tests.naive_tree import tree_hash
from voting.ballot import Position
from voting.log_reader import Log, find_leaf, prove_consistency, prove_inclusion
from voting.merkle import hash_leaf, is_consistent, root_by_inclusion

KEYS = LogKeys(name="dianzan-test", signing=b"s" * 32, salts=b"t" * 32)

_US = 1_000_000


def leaf_of(row, keys=KEYS):
    """The leaf of a row of `votes`, made by its description alone."""
    campaign_key = hmac.new(keys.salts, b"campaign" + struct.pack(">H", row["campaign"]), "sha256")
    position = struct.pack(">BHQ", row["shard"], row["epoch"], row["seq"])
    position = position[:3] + position[6:]
    salt = hmac.new(campaign_key.digest(), position, "sha256").digest()[:16]
    click = struct.pack(">Q", row["click"])[2:]
    committed = hashlib.sha256(salt + struct.pack(">H", row["candidate"]) + position + click)
    hour = int(row["at"].timestamp()) // 3600
    return struct.pack(">BHI", 1, row["campaign"], hour) + committed.digest()


async def records_of(connection, campaign, log):
    size = (await read_head(connection, campaign, log)).size
    records = []
    async for some in read_records(connection, campaign, log, size):
        records += some
    return records


async def fold(connection, campaign, votes):
    """(candidate, state) -> votes, by the rulings over the leaves; `votes`: their rows by leaf."""
    states = dict.fromkeys(votes, State.COUNTED)
    for record in await records_of(connection, campaign, Log.RULINGS):
        ruling = Ruling.unpack(record)
        assert ruling.leaf in states, "a ruling is on a vote that is in the log"
        assert (ruling.decision == 0) == (ruling.role == 0)
        states[ruling.leaf] = State(ruling.state)
    return Counter((votes[leaf]["candidate"], state) for leaf, state in states.items())


async def assert_log_is_sound(connection, campaign, random, keys=KEYS):
    """Every leaf is a vote's and every logged vote is a leaf, roots are those of RFC 6962, proofs
    prove; the rows of votes by leaf."""
    for log in Log:
        head = await read_head(connection, campaign, log)
        records = await records_of(connection, campaign, log)
        assert head.root == tree_hash(records)
        for index in random.sample(range(head.size), min(head.size, 5)):
            size = random.randint(index + 1, head.size)
            proof = await prove_inclusion(connection, campaign, log, index, size)
            leaf = hash_leaf(records[index])
            assert root_by_inclusion(leaf, index, size, proof) == tree_hash(records[:size])
        old = random.randint(0, head.size)
        proof = await prove_consistency(connection, campaign, log, old, head.size)
        old_root = tree_hash(records[:old])
        assert is_consistent(old, old_root, head.size, head.root, proof)
    records = await records_of(connection, campaign, Log.VOTES)
    watermarks = {
        row["shard"]: (row["epoch"], row["seq"])
        for row in await connection.fetch("SELECT * FROM log_watermarks")
    }
    votes = {}
    for row in await connection.fetch("SELECT * FROM votes"):
        position = Position(row["shard"], row["epoch"], row["seq"])
        index = await find_leaf(connection, campaign, position)
        logged = (position.epoch, position.seq) <= watermarks.get(position.shard, (0, 0))
        if row["campaign"] != campaign or not logged:
            assert index is None
            continue
        assert index not in votes, "one leaf, one vote"
        assert records[index] == leaf_of(row, keys)
        votes[index] = row
    assert sorted(votes) == list(range(len(records)))
    await _assert_openings_open(connection, campaign, records, votes, random, keys)
    return votes


async def _assert_openings_open(connection, campaign, records, votes, random, keys):
    size = random.randint(0, len(records))
    chunks = [chunk async for chunk in open_ranges(connection, keys, campaign, size)]
    openings = b"".join(chunks)
    assert len(openings) == size * 36
    for index in range(size):
        opening = openings[index * 36 : (index + 1) * 36]
        position, candidate, click, salt, hour = struct.unpack(">8s2s6s16s4s", opening)
        committed = hashlib.sha256(salt + candidate + position + click).digest()
        assert records[index] == struct.pack(">BH", 1, campaign) + hour + committed
        assert int.from_bytes(candidate, "big") == votes[index]["candidate"]


async def watched_sizes(connection, seen):
    """Remember every head ever seen: a size has one root."""
    for row in await connection.fetch("SELECT campaign, log, size, root FROM logs"):
        key = row["campaign"], row["log"], row["size"]
        assert seen.setdefault(key, bytes(row["root"])) == bytes(row["root"])


async def assert_sizes_had_one_root(connection, seen):
    """Every head that was seen is a head of the log as it is now."""
    for (campaign, log, size), root in seen.items():
        records = await records_of(connection, campaign, Log(log))
        assert tree_hash(records[:size]) == root
