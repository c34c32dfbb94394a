"""Whatever dies between whichever steps: in the end every vote is in Postgres once.

The real flusher on real servers; a crash is an exception raised between two of its steps, after
which nothing of that process runs any more but the closing of its connections.
"""

import asyncio
from collections import Counter

import asyncpg
import pytest
import redis.asyncio as redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from antifraud.screen import Decision
from tally import flusher
from tally.flusher import Flusher, FlusherMetrics, Journal
from tally.rows import Batch
from tally.store import ShardStore
from tests.conftest import wait_until_async
from tests.decided import assert_minutes_add_up
from tests.journal_builder import DAY, Built, JournalBuilder, write
from voting.journal import Closing


class Crash(Exception):
    """The process died here."""


class CrashPoint:
    """Dies at the n-th step that is taken; never where n is None."""

    def __init__(self) -> None:
        self.steps_left: int | None = None

    def step(self) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise Crash


@pytest.fixture
def crash_point(monkeypatch) -> CrashPoint:
    """Every step of a batch that changes something, before and after it."""
    point = CrashPoint()

    def breakable(owner, name):
        whole = getattr(owner, name)

        async def broken(self, *arguments):
            point.step()
            result = await whole(self, *arguments)
            point.step()
            return result

        monkeypatch.setattr(owner, name, broken)

    for name in ("open", "_make_partitions", "_insert", "_move", "add_entries", "advance_time"):
        breakable(ShardStore, name)
    breakable(Journal, "trim_before")
    monkeypatch.setattr(flusher, "BATCH_VOTES", 8)
    return point


async def clear(connection: asyncpg.Connection, valkey: redis.Redis) -> None:
    await valkey.flushall()
    for row in await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'votes'::regclass"
    ):
        await connection.execute(f"DROP TABLE {row['name']}")
    await connection.execute("ALTER TABLE closings DISABLE TRIGGER USER")
    await connection.execute(
        "TRUNCATE tallies, minutes, minute_totals, refusals, watermarks, closings"
    )
    await connection.execute("ALTER TABLE closings ENABLE TRIGGER USER")


async def wait_for_free_shard(connection: asyncpg.Connection) -> None:
    """Postgres notices a moment later that a writer's connection is gone."""

    async def free() -> bool:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        return await connection.fetchval(held) == 0

    await wait_until_async(free, what="the shard's lock to be free")


async def assert_all_there(connection: asyncpg.Connection, entries: list[Built]) -> None:
    """Rows, sums and watermark are those of these entries, each once."""
    rows, tallies, refusals, closings = {}, Counter(), Counter(), []
    for built in entries:
        entry = built.placed.entry
        if isinstance(entry, Closing):
            closings.append((*built.id, entry.first_seq - 1, entry.closed))
            continue
        for seq, vote in enumerate(entry.votes(), entry.first_seq):
            rows[entry.epoch, seq] = int.from_bytes(vote.device, "big", signed=True)
            tallies[vote.candidate, vote.verdict] += 1
        for refusal in entry.refusals:
            refusals[refusal.candidate, refusal.outcome.value] += refusal.ballots

    found = await connection.fetch("SELECT epoch, seq, device FROM votes")
    assert len(found) == len(rows)
    assert {(row["epoch"], row["seq"]): row["device"] for row in found} == rows
    for table in ("tallies", "minutes"):
        sums = Counter()
        for row in await connection.fetch(f"SELECT candidate, counted, held FROM {table}"):
            sums[row["candidate"], Decision.COUNT] += row["counted"]
            sums[row["candidate"], Decision.HOLD] += row["held"]
        assert +sums == tallies
    await assert_minutes_add_up(connection)
    found = await connection.fetch("SELECT candidate, outcome, ballots FROM refusals")
    assert Counter({(row[0], row[1]): row[2] for row in found}) == refusals
    found = await connection.fetch("SELECT epoch, entry, seq, closed FROM closings ORDER BY 1, 2")
    assert [tuple(row) for row in found] == closings
    watermark = await connection.fetchrow("SELECT epoch, entry, seq FROM watermarks")
    if entries:
        last = entries[-1].placed
        assert tuple(watermark) == (*last.id, last.entry.first_seq + last.entry.vote_count - 1)


def next_entry(builder: JournalBuilder, votes: int) -> Built:
    """So many votes; none and no refusal: the campaign closes."""
    if not votes:
        return builder.closing(closed=builder.number % 3 > 0)
    return builder.entry(votes, builder.refusals(votes % 3))


# What happens: entries come (votes of each, and whether the store starts anew before it), or a
# flusher runs and dies at its n-th step, or runs to its end (None).
entries = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from([None] * 9 + [0, -1, 2])), max_size=8
)
runs = st.one_of(st.none(), st.integers(0, 24))
histories = st.lists(st.tuples(entries, runs), max_size=8)
windows_bytes = st.sampled_from([1, 400, 1 << 20])


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories, windows_bytes)
async def test_any_history_of_crashes_ends_with_every_vote_once(
    crash_point, postgres, postgres_dsn, valkey, valkey_url, history, window_bytes
):
    await clear(postgres, valkey)
    builder = JournalBuilder(len(history))
    written: list[Built] = []

    async def run(steps_left: int | None) -> None:
        stop = asyncio.Event()
        stop.set()  # flush what is there, then end
        crash_point.steps_left = steps_left
        try:
            await Flusher(
                postgres_dsn=postgres_dsn,
                valkey_url=valkey_url,
                stop=stop,
                ready=lambda: None,
                metrics=FlusherMetrics(CollectorRegistry()),
                retain_bytes=window_bytes,
            ).run()
        except Crash:
            assert steps_left is not None
        finally:
            crash_point.steps_left = None
        await wait_for_free_shard(postgres)

    for coming, steps_left in [*history, ([], None)]:
        new = []
        for votes, seq_moves in coming:
            if seq_moves is not None:
                builder.new_epoch(max(seq_moves, -builder.seq))
            new.append(next_entry(builder, votes))
        written += new
        await write(valkey, new)
        await run(steps_left)

    await assert_all_there(postgres, written)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 12), st.one_of(st.none(), st.integers(0, 9))),
        max_size=10,
    ),
)
async def test_any_sequence_of_batches_replays_and_crashes_adds_each_entry_once(
    crash_point, postgres, postgres_dsn, valkey, sizes, batches
):
    """Each batch: how many flushed entries come again before it, how many entries it has, where
    its writer dies."""
    await clear(postgres, valkey)
    builder = JournalBuilder(len(sizes))
    built = [next_entry(builder, votes) for votes in sizes]

    async def add(chosen: list[Built], steps_left: int | None) -> None:
        connection = await asyncpg.connect(postgres_dsn)
        try:
            store = ShardStore(connection, 0)
            assert await store.try_lock()
            await store.open()
            crash_point.steps_left = steps_left
            await store.add_entries(Batch([one.placed for one in chosen]))
        except Crash:
            pass
        finally:
            crash_point.steps_left = None
            await connection.close()
        await wait_for_free_shard(postgres)

    for again, number, steps_left in [*batches, (len(built), 2 * len(built), None)]:
        last = await postgres.fetchval("SELECT entry FROM watermarks")
        flushed = -1 if last is None else last
        start = max(0, flushed + 1 - again)
        await add(built[start : start + number], steps_left)

    await assert_all_there(postgres, built)
    assert await postgres.fetchval("SELECT max(day) FROM votes") in (DAY, None)
