"""What the flusher's side of Postgres promises: exactly once, and nothing swallowed."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from antifraud.screen import Decision
from tally.rows import Batch
from tally.store import JournalConflict, ShardStore
from tests.conftest import wait_until_async
from tests.journal_builder import DAY, Built, JournalBuilder, make_vote
from voting.ballot import Outcome
from voting.journal import EntryId, JournalError, Refusal


@pytest.fixture
async def store(postgres: asyncpg.Connection) -> ShardStore:
    store = ShardStore(postgres, 0)
    assert await store.try_lock()
    await store.open()
    return store


def batch(*entries: Built) -> Batch:
    return Batch([entry.placed for entry in entries])


async def everything(postgres: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """All that a batch can change."""
    return {
        table: await postgres.fetch(f"SELECT * FROM {table} ORDER BY {key}")
        for table, key in (
            ("votes", "day, shard, epoch, seq"),
            ("tallies", "1, 2"),
            ("minutes", "1, 2, 3"),
            ("minute_totals", "1, 2"),
            ("refusals", "1, 2, 3"),
            ("watermarks", "1"),
        )
    }


async def test_a_row_holds_every_field_of_its_vote(store, postgres):
    builder = JournalBuilder()
    built = [builder.entry(5), builder.entry(0), builder.entry(3, campaign=2)]
    await store.add_entries(batch(*built))

    rows = await postgres.fetch("SELECT * FROM votes ORDER BY seq")
    wanted = [
        (entry, seq, vote)
        for entry in (b.placed.entry for b in built)
        for seq, vote in enumerate(entry.votes(), entry.first_seq)
    ]
    assert len(rows) == len(wanted) == 8
    for row, (entry, seq, vote) in zip(rows, wanted, strict=True):
        fields = vote._asdict()
        for name in ("device", "click", "network", "network_wide"):
            fields[name] = int.from_bytes(fields[name], "big", signed=len(fields[name]) == 8)
        fields["reasons"] = int.from_bytes(fields["reasons"], "big")
        assert dict(row) == {
            **fields,
            "day": DAY,
            "shard": 0,
            "epoch": 1,
            "seq": seq,
            "at": datetime.fromtimestamp(0, UTC) + timedelta(microseconds=entry.at_us),
            "campaign": entry.campaign,
        }


async def test_totals_minutes_and_refusals_grow_with_the_rows(store, postgres):
    builder = JournalBuilder()
    counted, held = (make_vote(builder.random, 4, v) for v in (Decision.COUNT, Decision.HOLD))
    throttled = Refusal(4, Outcome.THROTTLED, 7)
    for _ in range(2):
        await store.add_entries(
            batch(
                builder.entry([counted, counted, held], [throttled]),
                builder.entry([counted], [throttled], seconds=60),
                builder.entry([], [Refusal(5, Outcome.REFUSED, 1)]),
            )
        )
    found = await everything(postgres)
    assert [tuple(row) for row in found["tallies"]] == [(1, 4, 6, 2, 0)]
    minutes = [(row["minute"].minute, row["counted"], row["held"]) for row in found["minutes"]]
    assert minutes == [(0, 2, 1), (1, 3, 1), (2, 1, 0)]
    in_all = [(row["minute"].minute, row["counted"], row["held"]) for row in found["minute_totals"]]
    assert in_all == minutes, "one candidate's are all there are"
    assert [tuple(row) for row in found["refusals"]] == [
        (1, 4, Outcome.THROTTLED.value, 28),
        (1, 5, Outcome.REFUSED.value, 2),
    ]
    (watermark,) = found["watermarks"]
    assert (watermark["epoch"], watermark["entry"], watermark["seq"]) == (1, 5, 8)


async def test_each_campaign_day_has_its_partition_and_the_next_one_is_made_ahead(store, postgres):
    builder = JournalBuilder()
    tomorrow = DAY + timedelta(days=1)
    await store.add_entries(batch(builder.entry(2), builder.entry(1, day=tomorrow)))
    sizes = await postgres.fetch(
        "SELECT tableoid::regclass::text AS name, count(*) FROM votes GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in sizes] == [("votes_20260705", 2), ("votes_20260706", 1)]
    assert await postgres.fetchval("SELECT to_regclass('votes_20260707') IS NOT NULL")
    # As good as one that Postgres made itself.
    assert await postgres.fetchval(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'votes_20260705'::regclass AND indisunique"
    )


@pytest.mark.parametrize("table", ["votes", "votes_20260705"])
@pytest.mark.parametrize("change", ["UPDATE {} SET candidate = 1", "DELETE FROM {}", "TRUNCATE {}"])
async def test_rows_never_change_not_even_by_their_partitions_name(store, postgres, table, change):
    await store.add_entries(batch(JournalBuilder().entry(2)))
    with pytest.raises(asyncpg.RaiseError, match="only grows"):
        await postgres.execute(change.format(table))
    assert await postgres.fetchval("SELECT count(*) FROM votes") == 2


async def test_a_new_day_does_not_wait_for_a_reader_of_the_votes(store, postgres, postgres_dsn):
    await store.add_entries(batch((builder := JournalBuilder()).entry(2)))
    reader = await asyncpg.connect(postgres_dsn)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM votes")
            await postgres.execute("SET lock_timeout = '1s'")
            await store.add_entries(batch(builder.entry(1, day=DAY + timedelta(days=9))))
            assert await reader.fetchval("SELECT count(*) FROM votes") == 3
    finally:
        await reader.close()


async def test_makers_of_the_same_partition_at_once_do_not_meet(postgres_dsn):
    connections = [await asyncpg.connect(postgres_dsn) for _ in range(4)]
    try:
        stores = [ShardStore(connection, n) for n, connection in enumerate(connections)]
        for store in stores:
            await store.open()
        added = await asyncio.gather(
            *(
                store.add_entries(batch(JournalBuilder(n, shard=n).entry(20)))
                for n, store in enumerate(stores)
            )
        )
        assert [one.votes for one in added] == [20] * 4
        assert await connections[0].fetchval("SELECT sum(counted + held) FROM tallies") == 80
    finally:
        for connection in connections:
            await connection.close()


async def test_a_replayed_entry_inserts_nothing(store, postgres):
    builder = JournalBuilder()
    built = [builder.entry(4, builder.refusals(2)) for _ in range(3)]
    await store.add_entries(batch(*built))
    before = await everything(postgres)

    assert (await store.add_entries(batch(*built))).votes == 0
    assert await everything(postgres) == before

    # Also where new ones follow in the same batch.
    added = await store.add_entries(batch(built[1], built[2], new := builder.entry(2)))
    assert added.votes == 2
    assert added.watermark.id == new.id
    assert len((await everything(postgres))["votes"]) == 14


@pytest.mark.parametrize("column", ["candidate", "device", "click", "verdict", "score", "reasons"])
async def test_a_replayed_vote_that_differs_is_a_conflict_that_says_where(store, postgres, column):
    builder = JournalBuilder()
    built = [builder.entry(4) for _ in range(3)]
    await store.add_entries(batch(*built))
    before = await everything(postgres)

    votes = list(built[1].placed.entry.votes())
    other = {
        "candidate": votes[2].candidate ^ 1,
        "device": bytes(8),
        "click": bytes(6),
        "verdict": Decision.HOLD if votes[2].verdict == Decision.COUNT else Decision.COUNT,
        "score": votes[2].score ^ 1,
        "reasons": bytes(3),
    }
    votes[2] = votes[2]._replace(**{column: other[column]})
    again = JournalBuilder()
    again.number, again.seq, again.at_us = 1, 4, built[0].placed.entry.at_us
    forged = again.entry(votes)

    with pytest.raises(
        JournalConflict,
        match=f"entry 1-1: the vote at shard 0, epoch 1, seq 7 differs .* in {column}",
    ):
        await store.add_entries(batch(built[0], forged, built[2], builder.entry(1)))
    assert await everything(postgres) == before


async def test_a_replayed_vote_that_the_database_does_not_have_is_a_conflict(store, postgres):
    builder = JournalBuilder()
    await store.add_entries(batch(builder.entry(4), builder.entry(4)))
    again = JournalBuilder()
    with pytest.raises(JournalConflict, match="epoch 1, seq 1 is not in the database"):
        await store.add_entries(batch(again.entry(1, day=DAY + timedelta(days=1))))


async def test_a_position_that_is_taken_behind_the_watermark_is_a_conflict(store, postgres):
    builder = JournalBuilder()
    built = [builder.entry(4), builder.entry(4)]
    await store.add_entries(batch(*built))
    await postgres.execute("UPDATE watermarks SET entry = 0, seq = 4")
    before = await everything(postgres)
    with pytest.raises(
        JournalConflict, match=r"in the database already: .*\(2026-07-05, 0, 1, 5\)"
    ):
        await store.add_entries(batch(built[1]))
    assert await everything(postgres) == before


async def test_a_missing_entry_stops_and_nothing_of_the_batch_is_written(store, postgres):
    builder = JournalBuilder()
    first, _, third = builder.entry(2), builder.entry(2), builder.entry(2)
    before = await everything(postgres)
    with pytest.raises(JournalError, match="entry 1-1 is missing: 1-2 comes next"):
        await store.add_entries(batch(first, third))
    assert await everything(postgres) == before


async def test_an_entry_of_another_shard_or_epoch_is_refused(store):
    with pytest.raises(JournalError, match="says that it is of shard 3"):
        await store.add_entries(batch(JournalBuilder(shard=3).entry()))
    misplaced = JournalBuilder().entry()
    with pytest.raises(JournalError, match=r"entry 2-0 .* epoch 1"):
        await store.add_entries(batch(Built(EntryId(2, 0), misplaced.packed)))


@pytest.mark.parametrize(("seq_moves", "told"), [(-2, -2), (0, None), (5, 5)])
async def test_a_new_epoch_is_flushed_and_its_gap_told(store, postgres, seq_moves, told):
    builder = JournalBuilder()
    old = builder.entry(4)
    builder.new_epoch(seq_moves)
    added = await store.add_entries(batch(old, builder.entry(3)))
    assert [gap.votes for gap in added.gaps] == ([] if told is None else [told])
    assert added.votes == 7
    assert await postgres.fetchval("SELECT count(*) FROM votes WHERE epoch = 2") == 3


async def test_the_watermarks_time_never_goes_back(store, postgres):
    builder = JournalBuilder()
    await store.add_entries(batch(builder.entry()))
    for at_us in (builder.at_us + 5_000_000, builder.at_us - 5_000_000):
        await store.advance_time(at_us)
    at = await postgres.fetchval("SELECT at FROM watermarks")
    assert at == datetime.fromtimestamp(builder.at_us / 1e6 + 5, UTC)
    assert (await store.add_entries(batch(builder.entry()))).watermark.at_us == int(
        at.timestamp() * 1e6
    )


async def test_only_one_at_a_time_has_a_shard_and_its_end_frees_it(store, postgres_dsn):
    second = await asyncpg.connect(postgres_dsn)
    third = await asyncpg.connect(postgres_dsn)
    try:
        assert not await ShardStore(second, 0).try_lock()
        assert await ShardStore(second, 1).try_lock()
        await store.unlock()
        assert await ShardStore(second, 0).try_lock()
        second.terminate()

        async def free():
            return await ShardStore(third, 0).try_lock()

        await wait_until_async(free, what="the lock of a connection that broke")
    finally:
        await second.close()
        await third.close()


async def test_a_server_that_answers_commits_too_early_is_told_not_to(postgres):
    await postgres.execute("SET synchronous_commit = off")
    await ShardStore(postgres, 0).open()
    assert await postgres.fetchval("SHOW synchronous_commit") == "on"
    await postgres.execute("SET synchronous_commit = remote_write")
    await ShardStore(postgres, 0).open()
    assert await postgres.fetchval("SHOW synchronous_commit") == "remote_write"
