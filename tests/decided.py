"""Votes, flags and decisions for tests, put straight into the database and the hot state."""

from collections import Counter
from datetime import date
from random import Random
from zoneinfo import ZoneInfo

import numpy as np

from antifraud.flags import DETECTORS_VERSION, Flag
from antifraud.screen import Decision
from tally.cases import FoundFlag, add_flags
from tally.holds import State
from tally.rows import Batch
from tally.store import ShardStore
from tally.vote_arrays import vote_ids
from tests.journal_builder import JournalBuilder, make_vote
from voting.campaign import moment_at
from voting.journal import head_key, tally_key


def counted(number, candidate=1, seed=0):
    """So many votes that count, for one candidate."""
    random = Random(seed)
    return [make_vote(random, candidate, Decision.COUNT) for _ in range(number)]


_FIELDS = {State.COUNTED: "", State.HELD: "h", State.STRUCK: "s"}


class Poll:
    """A campaign's votes, in Postgres and in the hot state's tally, as flusher and function would
    leave them."""

    def __init__(self, connection, valkey, campaign=1, campaign_id="spring", shard=0, seed=0):
        self.connection, self.valkey = connection, valkey
        self.campaign, self.campaign_id, self.shard = campaign, campaign_id, shard
        self.builder = JournalBuilder(seed, shard=shard)
        self.positions = []
        """(day, shard, epoch, seq) of every vote, in order."""
        self.votes = []

    async def add(self, votes, **fields):
        """One more entry; its votes' indices in `positions`."""
        at_us = self.builder.at_us + int(fields.get("seconds", 0.001) * 1e6)
        at = moment_at(at_us, ZoneInfo("Asia/Shanghai"))
        fields = {"campaign": self.campaign, "day": at.date(), **fields}
        built = self.builder.entry(votes, **fields)
        entry = built.placed.entry
        store = ShardStore(self.connection, self.shard)
        await store.open()
        await store.add_entries(Batch([built.placed]))
        first = len(self.positions)
        for seq, vote in enumerate(entry.votes(), entry.first_seq):
            self.positions.append((entry.day, entry.shard, entry.epoch, seq))
            self.votes.append(vote)
        if self.valkey is not None:
            await self.valkey.hsetnx(head_key(self.shard), "epoch", built.id.epoch)
            await self.valkey.hset(head_key(self.shard), "seq", self.builder.seq)
            for vote in entry.votes():
                field = f"{_FIELDS[State(vote.verdict)]}{vote.candidate}"
                await self.valkey.hincrby(tally_key(self.shard, self.campaign_id), field, 1)
        return range(first, len(self.positions))

    def found(self, indices, **fields):
        """A detector's flag on these votes."""
        indices = sorted(indices)
        days, shards, epochs, seqs = zip(*(self.positions[n] for n in indices), strict=True)
        candidates = [self.votes[n].candidate for n in indices]
        flag = Flag(
            **{
                "rules": ("test-rule",),
                "version": DETECTORS_VERSION,
                "kinds": ("agent", "dwell"),
                "evidence": {"votes": len(indices), "agent_ratio": 21.5},
                "sentence": "这里随便取两票，手机型号相同的机会是平常的 21 倍。",
                "candidates": dict(Counter(candidates)),
                "score": 5.0,
                "votes": vote_ids(np.array(shards), np.array(epochs), np.array(seqs)),
                **fields,
            }
        )
        return FoundFlag(
            flag,
            np.array([(day - date(1970, 1, 1)).days for day in days]),
            np.array(candidates),
        )

    async def flag(self, indices, **fields):
        """Flag these votes; the flag's number."""
        (added,) = await add_flags(self.connection, self.campaign, [self.found(indices, **fields)])
        return added.number

    async def states(self):
        """State of every vote by index, out of the database."""
        rows = await self.connection.fetch(
            "SELECT v.day, v.shard, v.epoch, v.seq, coalesce(s.state, v.verdict) AS state"
            " FROM votes v LEFT JOIN vote_state s USING (day, shard, epoch, seq)"
            " WHERE campaign = $1",
            self.campaign,
        )
        by_position = {tuple(row)[:4]: State(row["state"]) for row in rows}
        return [by_position[position] for position in self.positions]


async def sums(connection, table, campaign):
    """(candidate, state) -> votes, out of `tallies` or `minutes`."""
    kinds = ("counted", "held", "struck") if table == "tallies" else ("counted", "held")
    found = Counter()
    for row in await connection.fetch(f"SELECT * FROM {table} WHERE campaign = $1", campaign):
        for kind in kinds:
            found[row["candidate"], State[kind.upper()]] += row[kind]
    if table == "minutes":
        await assert_minutes_add_up(connection)
    return +found


async def assert_minutes_add_up(connection):
    """`minute_totals` holds the sums of `minutes`, and of nothing else."""
    kept = await connection.fetch("SELECT * FROM minute_totals ORDER BY campaign, minute")
    summed = await connection.fetch(
        "SELECT campaign, minute, sum(counted)::int, sum(held)::int FROM minutes"
        " GROUP BY campaign, minute ORDER BY campaign, minute"
    )
    assert [tuple(row) for row in kept] == [tuple(row) for row in summed]


async def hot_sums(valkey, shard, campaign_id):
    """The same out of the hot state."""
    kinds = {"": State.COUNTED, "h": State.HELD, "s": State.STRUCK}
    found = Counter()
    for field, votes in (await valkey.hgetall(tally_key(shard, campaign_id))).items():
        text = field.decode()
        if text.startswith("r"):
            continue
        kind = text.rstrip("0123456789")
        found[int(text[len(kind) :]), kinds[kind]] += int(votes)
    assert all(votes >= 0 for votes in found.values())
    return +found
