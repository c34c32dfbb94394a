"""The end of a campaign against real servers: nothing behind the entry, whoever dies in between."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from redis.exceptions import ConnectionError as StoreAway

from tally import closing
from tally.closing import (
    ClosingError,
    close,
    flushed_closings,
    is_closed,
    keep_closings,
    reopen,
)
from tally.rows import Batch
from tally.store import JournalConflict, ShardStore
from tests.campaigns import add_campaign
from tests.conftest import OneShard
from tests.integration.test_tallies import flush_all
from tests.journal_builder import JournalBuilder, write
from voting.journal import (
    CLOSING_LAYOUT,
    ENTRY_FIELD,
    HEADER,
    Closing,
    EntryId,
    JournalError,
    head_key,
    journal_key,
    unpack_entry,
)


async def entries_of(valkey):
    return [unpack_entry(fields[ENTRY_FIELD]) for _, fields in await valkey.xrange(journal_key(0))]


async def set_closing_time(postgres, moment, campaign_id="spring"):
    await postgres.execute("UPDATE campaigns SET closes_at = $1 WHERE id = $2", moment, campaign_id)


async def test_a_closed_campaign_takes_no_like_whatever_the_window_says(edge, valkey):
    token = await edge.token()
    status, first = await edge.like(token, click="click-0001")
    assert status == 201
    closed = await close(valkey, 0, 1, epoch_floor=0)
    assert closed.new
    status, body = await edge.like(token, "c002")
    assert (status, body["outcome"]) == (403, "closed")
    # The click that was counted still gets its answer.
    again, body = await edge.like(token, click="click-0001")
    assert (again, body["outcome"], body["receipt"]) == (201, "counted", first["receipt"])
    assert [type(entry).__name__ for entry in await entries_of(valkey)] == ["Entry", "Closing"]

    assert await reopen(valkey, 0, 1, epoch_floor=0)
    assert (await edge.like(token, "c002"))[0] == 201
    entries = await entries_of(valkey)
    assert [type(entry).__name__ for entry in entries] == ["Entry", "Closing", "Closing", "Entry"]
    assert [entry.first_seq for entry in entries] == [1, 2, 2, 2]
    assert [entry.closed for entry in entries[1:3]] == [True, False]


async def test_one_campaign_that_closes_leaves_the_others_open(edge, postgres, valkey):
    await add_campaign(postgres, "autumn")
    await edge.wait_for_campaign("autumn")
    await close(valkey, 0, 1, epoch_floor=0)
    token = await edge.token("autumn")
    assert (await edge.like(token, campaign="autumn"))[0] == 201


async def test_closing_what_is_closed_and_opening_what_is_open_leaves_no_entry(valkey):
    assert not await reopen(valkey, 0, 7, epoch_floor=0)
    assert await valkey.keys("{s0}*") == []
    first = await close(valkey, 0, 7, epoch_floor=0)
    assert await close(valkey, 0, 7, epoch_floor=0) == first._replace(new=False)
    assert await is_closed(valkey, 0, 7) == first.entry
    assert await is_closed(valkey, 0, 8) is None
    assert await reopen(valkey, 0, 7, epoch_floor=0)
    assert not await reopen(valkey, 0, 7, epoch_floor=0)
    assert await is_closed(valkey, 0, 7) is None
    assert await valkey.xlen(journal_key(0)) == 2


async def test_nothing_is_closed_before_its_time_by_the_stores_clock(valkey):
    seconds, _ = await valkey.time()
    due_us = (seconds + 3_600) * 1_000_000
    assert await close(valkey, 0, 7, epoch_floor=0, not_before_us=due_us) is None
    assert await valkey.keys("{s0}*") == []
    assert await close(valkey, 0, 7, epoch_floor=0, not_before_us=(seconds - 1) * 1_000_000)


async def test_a_new_server_gets_a_new_epoch_by_a_closing_as_by_a_vote(edge, valkey):
    await edge.like(await edge.token())
    await valkey.hset(head_key(0), "replid", "00")  # as another server left it
    closed = await close(valkey, 0, 1, epoch_floor=5)
    assert closed.entry == EntryId(6, 0)
    await reopen(valkey, 0, 1, epoch_floor=5)
    await edge.like(await edge.token())
    found = [id_.decode() for id_, _ in await valkey.xrange(journal_key(0))]
    assert found == ["1-0", "6-0", "6-1", "6-2"]


async def test_a_journal_without_an_epoch_left_says_so_and_nothing_is_closed(valkey):
    await valkey.hset(head_key(0), mapping={"replid": "00", "epoch": 65_535})
    with pytest.raises(ClosingError, match="does not close campaign 7: EPOCHS"):
        await close(valkey, 0, 7, epoch_floor=0)
    assert await valkey.exists(journal_key(0)) == 0
    assert await is_closed(valkey, 0, 7) is None


@pytest.mark.parametrize(
    "packed",
    [
        HEADER.pack(CLOSING_LAYOUT, 0, 1, 7, 1, 0, 1, 0, 0) + b"x",
        HEADER.pack(CLOSING_LAYOUT, 0, 1, 7, 1, 0, 1, 0, 0)[:-1],
        HEADER.pack(CLOSING_LAYOUT, 0, 1, 7, 2, 0, 1, 0, 0),
    ],
)
def test_a_closing_of_another_form_is_no_entry(packed):
    with pytest.raises(JournalError):
        unpack_entry(packed)


async def test_the_flusher_writes_a_closing_once_and_knows_it_again(
    edge, valkey, valkey_url, postgres, postgres_dsn
):
    for _ in range(3):
        await edge.like(await edge.token())
    await close(valkey, 0, 1, epoch_floor=0)
    assert await flushed_closings(postgres, 1) is None
    for _ in range(2):  # the second one finds it as the journal's last entry, and compares it
        await flush_all(valkey_url, postgres_dsn)
    (row,) = await postgres.fetch("SELECT * FROM closings")
    entries = await entries_of(valkey)
    closed = entries[-1]
    assert isinstance(closed, Closing)
    assert (row["campaign"], row["shard"], row["seq"], row["closed"]) == (1, 0, 3, True)
    assert (row["epoch"], row["entry"]) == (1, len(entries) - 1)
    assert row["at"] == datetime.fromtimestamp(closed.at_us // 1_000_000, UTC) + timedelta(
        microseconds=closed.at_us % 1_000_000
    )
    flushed = await flushed_closings(postgres, 1)
    assert (flushed[0].entry, flushed[0].seq) == (EntryId(1, len(entries) - 1), 3)
    watermark = await postgres.fetchrow("SELECT epoch, entry, seq FROM watermarks")
    assert tuple(watermark) == (1, len(entries) - 1, 3)

    await reopen(valkey, 0, 1, epoch_floor=0)
    await flush_all(valkey_url, postgres_dsn)
    assert await flushed_closings(postgres, 1) is None, "it was opened again since"


async def test_a_closing_that_the_database_passed_and_has_not_stops_the_flusher(postgres):
    builder = JournalBuilder()
    store = ShardStore(postgres, 0)
    await store.open()
    await store.add_entries(Batch([builder.entry(2).placed]))
    closed = builder.closing()
    await postgres.execute("UPDATE watermarks SET entry = 1")
    with pytest.raises(JournalConflict, match="1-1: this closing of campaign 1 is not in"):
        await store.add_entries(Batch([closed.placed]))


async def test_what_closes_is_kept_as_postgres_says(edge, valkey, postgres):
    assert await keep_closings(postgres, OneShard(valkey)) == ([], [])
    await set_closing_time(postgres, datetime.now(UTC) - timedelta(seconds=1))
    assert await keep_closings(postgres, OneShard(valkey)) == ([(1, 0)], [])
    assert await keep_closings(postgres, OneShard(valkey)) == ([], [])
    await set_closing_time(postgres, datetime.now(UTC) + timedelta(hours=1))
    assert await keep_closings(postgres, OneShard(valkey)) == ([], [(1, 0)])
    assert await keep_closings(postgres, OneShard(valkey)) == ([], [])
    assert (await edge.like(await edge.token()))[0] == 201
    assert [type(entry).__name__ for entry in await entries_of(valkey)] == [
        "Closing", "Closing", "Entry",
    ]  # fmt: skip


async def test_without_a_campaign_there_is_nothing_to_close(valkey, postgres):
    assert await keep_closings(postgres, OneShard(valkey)) == ([], [])


async def test_a_campaign_that_cannot_be_closed_keeps_no_other_open(valkey, postgres, monkeypatch):
    past = datetime.now(UTC) - timedelta(seconds=1)
    for campaign in ("spring", "autumn"):
        await add_campaign(postgres, campaign, closes_at=past)
    whole, guarded, refused = closing.close, [], []

    async def close_all_but_spring(valkey, shard, campaign, **options):
        if campaign == 1:
            raise ClosingError("spring cannot be closed")
        return await whole(valkey, shard, campaign, **options)

    @contextlib.asynccontextmanager
    async def guard(what):
        guarded.append(what)
        try:
            yield
        except ClosingError as why:
            refused.append(str(why))

    monkeypatch.setattr(closing, "close", close_all_but_spring)
    with pytest.raises(ClosingError):
        await keep_closings(postgres, OneShard(valkey))
    assert await keep_closings(postgres, OneShard(valkey), guard=guard) == ([(2, 0)], [])
    assert refused == ["spring cannot be closed"]
    assert guarded == ["end of campaign 1 on shard 0", "end of campaign 2 on shard 0"]
    assert await is_closed(valkey, 0, 2)


async def test_a_store_that_lost_everything_is_told_again(valkey, postgres):
    await add_campaign(postgres, closes_at=datetime.now(UTC) - timedelta(seconds=1))
    await keep_closings(postgres, OneShard(valkey))
    await valkey.flushall()
    assert await keep_closings(postgres, OneShard(valkey)) == ([(1, 0)], [])


async def test_a_lost_answer_is_mended_by_asking_again(valkey, postgres, monkeypatch):
    await add_campaign(postgres, closes_at=datetime.now(UTC) - timedelta(seconds=1))
    whole = closing.call_loaded

    async def dying(*words):
        await whole(*words)
        raise StoreAway("the store is gone")

    monkeypatch.setattr(closing, "call_loaded", dying)
    with pytest.raises(StoreAway):
        await keep_closings(postgres, OneShard(valkey))
    monkeypatch.undo()
    assert await keep_closings(postgres, OneShard(valkey)) == ([], [])
    assert await is_closed(valkey, 0, 1)
    assert await valkey.xlen(journal_key(0)) == 1


async def test_a_window_that_is_being_extended_is_not_closed_meanwhile(
    valkey, postgres, postgres_dsn
):
    await add_campaign(postgres, closes_at=datetime.now(UTC) - timedelta(seconds=1))
    other = await asyncpg.connect(postgres_dsn)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM campaigns FOR UPDATE")
            keeping = asyncio.create_task(keep_closings(postgres, OneShard(valkey)))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await other.fetchval(waiting):
                assert not keeping.done()
                await asyncio.sleep(0.01)
            await set_closing_time(other, datetime.now(UTC) + timedelta(hours=1))
        assert await keeping == ([], [])
    finally:
        await other.close()
    assert await is_closed(valkey, 0, 1) is None


async def test_two_that_close_at_once_leave_one_entry(valkey, postgres, postgres_dsn):
    await add_campaign(postgres, closes_at=datetime.now(UTC) - timedelta(seconds=1))
    connections = [await asyncpg.connect(postgres_dsn) for _ in range(4)]
    try:
        await asyncio.gather(
            *(keep_closings(connection, OneShard(valkey)) for connection in connections)
        )
    finally:
        for connection in connections:
            await connection.close()
    assert await valkey.xlen(journal_key(0)) == 1


async def test_votes_behind_a_closing_are_flushed_as_they_came(
    valkey, valkey_url, postgres, postgres_dsn
):
    """Of another campaign, or of the same one opened again."""
    builder = JournalBuilder()
    await write(
        valkey,
        [
            builder.entry(3),
            builder.closing(),
            builder.entry(2, campaign=2),
            builder.closing(closed=False),
            builder.entry(4),
            builder.closing(campaign=2),
        ],
    )
    await flush_all(valkey_url, postgres_dsn)
    rows = await postgres.fetch(
        "SELECT campaign, entry, seq, closed FROM closings ORDER BY epoch, entry"
    )
    assert [tuple(row) for row in rows] == [(1, 1, 3, True), (1, 3, 5, False), (2, 5, 9, True)]
    assert await postgres.fetchval("SELECT count(*) FROM votes") == 9


async def test_who_wants_to_know_hears_of_the_close_and_of_what_follows_once(valkey, postgres):
    await postgres.execute(
        "INSERT INTO destinations (shown_as, form, address, events, made_by)"
        " VALUES ('办公室', 'webhook', 'https://office.example.cn', '{closed,reopened}', 'li')"
    )
    await add_campaign(postgres, closes_at=datetime.now(UTC) - timedelta(seconds=1))
    await add_campaign(postgres, "test", closes_at=datetime.now(UTC) - timedelta(seconds=1))
    await postgres.execute("UPDATE campaigns SET is_test = true WHERE id = 'test'")
    for _ in range(2):
        await keep_closings(postgres, OneShard(valkey))
    await set_closing_time(postgres, datetime.now(UTC) + timedelta(hours=1))
    for _ in range(2):
        await keep_closings(postgres, OneShard(valkey))
    rows = await postgres.fetch("SELECT event, subject FROM outbox ORDER BY event")
    assert [tuple(row) for row in rows] == [("closed", "spring/0"), ("reopened", "spring/0")]
