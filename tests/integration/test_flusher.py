"""`flush` against real servers: nothing lost, nothing doubled, whatever goes away."""

import asyncio
import tempfile
import time
from datetime import date
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from deploy.local.servers import EmbeddedPostgres, EmbeddedValkey
from tally import flusher, patience
from tally.flusher import flush
from tally.migrate import migrate
from tally.store import JournalConflict
from tests.conftest import captured_logs, running, wait_until, wait_until_async
from tests.journal_builder import JournalBuilder, write
from voting import journal
from voting.journal import ENTRY_FIELD, JournalError, journal_key
from voting.settings import load_settings


@pytest.fixture
def events(monkeypatch):
    """What the flusher logs."""
    return captured_logs(monkeypatch, flusher, patience)


class Running:
    """A flusher in this process."""

    def __init__(self, valkey_url, postgres_dsn, **settings):
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.registry = CollectorRegistry()
        settings = load_settings(
            valkey_url=valkey_url,
            postgres_dsn=postgres_dsn,
            **{"flush_every_ms": 10, **settings},
        )
        self.task = asyncio.create_task(
            flush(settings, self.stop, self._set_ready, self.registry), name="flusher"
        )

    def _set_ready(self):
        assert not self.ready.is_set(), "ready is said once"
        self.ready.set()

    def metric(self, name):
        return self.registry.get_sample_value(f"dianzan_flush_{name}")

    async def end(self, within_seconds=5.0):
        self.stop.set()
        await asyncio.wait_for(self.task, within_seconds)


@pytest.fixture
async def start(valkey_url, postgres_dsn):
    """Starts flushers on the test's servers; none is left behind."""
    started = []

    def start(**settings):
        started.append(
            Running(**{"valkey_url": valkey_url, "postgres_dsn": postgres_dsn, **settings})
        )
        return started[-1]

    yield start
    for one in started:
        one.stop.set()
        one.task.cancel()
    await asyncio.gather(*(one.task for one in started), return_exceptions=True)


async def nobody_holds_the_shard(connection):
    """Postgres lets a lock go when it sees its holder's connection gone: soon, not at once."""
    return not await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    )


async def wait_for_votes(connection, votes):
    async def there():
        return await connection.fetchval("SELECT count(*) FROM votes") == votes

    await wait_until_async(there, what=f"{votes} votes in Postgres")


async def wait_for_event(events, name, times=1):
    async def said():
        return sum(event["event"] == name for event in events) >= times

    await wait_until_async(said, what=f"the event {name}")


async def test_what_is_in_the_journal_comes_into_postgres(start, valkey, postgres):
    builder = JournalBuilder()
    await write(valkey, [builder.entry(3, builder.refusals(2)) for _ in range(5)])
    running_flusher = start()
    await wait_for_votes(postgres, 15)
    await write(valkey, [builder.entry(2)])
    await wait_for_votes(postgres, 17)
    await running_flusher.end()

    assert await postgres.fetchval("SELECT sum(counted + held) FROM tallies") == 17
    assert await postgres.fetchval("SELECT sum(ballots) FROM refusals") == 30
    watermark = await postgres.fetchrow("SELECT epoch, entry, seq FROM watermarks")
    assert tuple(watermark) == (1, 5, 17)
    assert running_flusher.metric("votes_total") == 17
    assert running_flusher.metric("batches_total") >= 2
    assert running_flusher.metric("batch_seconds_count") == running_flusher.metric("batches_total")


async def test_a_backlog_of_many_batches_comes_whole_and_the_next_flusher_goes_on(
    start, valkey, postgres, monkeypatch
):
    monkeypatch.setattr(flusher, "BATCH_VOTES", 100)
    builder = JournalBuilder()
    sizes = [1 + (7 * n) % 64 for n in range(300)]
    await write(valkey, [builder.entry(size) for size in sizes[:200]])
    first = start()
    await wait_for_votes(postgres, sum(sizes[:200]))
    await first.end()
    assert first.metric("batches_total") >= sum(sizes[:200]) / 100

    builder.new_epoch()
    await write(valkey, [builder.entry(size) for size in sizes[200:]])
    second = start()
    await wait_for_votes(postgres, sum(sizes))
    await second.end()
    assert second.metric("votes_total") == sum(sizes[200:])
    assert await postgres.fetchval("SELECT count(DISTINCT seq) FROM votes") == sum(sizes)


async def test_a_stop_flushes_what_is_there_and_frees_the_shard(start, valkey, postgres):
    one = start(flush_every_ms=60_000)
    await one.ready.wait()
    builder = JournalBuilder()

    async def idle():
        return await postgres.fetchval("SELECT at > to_timestamp(0) FROM watermarks")

    await wait_until_async(idle, what="the first look at an empty journal")
    await write(valkey, [builder.entry(3)])
    await one.end()
    assert await postgres.fetchval("SELECT count(*) FROM votes") == 3
    await wait_until_async(lambda: nobody_holds_the_shard(postgres))


async def test_a_stop_does_not_wait_for_a_server_that_hangs(
    start, valkey, postgres, events, monkeypatch
):
    monkeypatch.setattr(flusher, "_STOP_SECONDS", 0.3)
    one = start()
    await one.ready.wait()
    async with postgres.transaction():
        await postgres.execute("SELECT * FROM watermarks FOR UPDATE")
        await write(valkey, [JournalBuilder().entry(3)])

        async def hangs():
            return await postgres.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

        await wait_until_async(hangs, what="a batch that waits")
        await one.end(within_seconds=3)
    assert [event["event"] for event in events] == ["flusher-stopped-early"]

    second = start()
    await wait_for_votes(postgres, 3)
    await second.end()


async def test_a_second_flusher_stands_by_and_takes_over(start, valkey, postgres, events):
    builder = JournalBuilder()
    await write(valkey, [builder.entry(2)])
    first = start()
    await wait_for_votes(postgres, 2)
    second = start()
    await asyncio.wait_for(second.ready.wait(), 5)
    await write(valkey, [builder.entry(2)])
    await wait_for_votes(postgres, 4)
    assert second.metric("votes_total") == 0
    assert second.metric("lag_seconds") != second.metric("lag_seconds"), "NaN: it cannot know"

    await first.end()
    await write(valkey, [builder.entry(2)])
    await wait_for_votes(postgres, 6)
    assert second.metric("votes_total") == 2
    await second.end()
    assert [event["event"] for event in events] == ["flusher-stands-by", "flusher-took-over"]


async def test_a_standby_stops_at_once(start, postgres):
    first = start()
    await first.ready.wait()
    second = start()
    await second.ready.wait()
    await second.end(within_seconds=0.9)


async def test_flushed_entries_are_trimmed_down_to_the_window_only_after_their_commit(
    start, valkey, postgres, postgres_dsn
):
    builder = JournalBuilder()
    built = [builder.entry(200) for _ in range(160)]  # 11 kB each, 1.8 MB in all
    await write(valkey, built)

    blocker = await asyncpg.connect(postgres_dsn)
    try:
        one = start(journal_retain_mb=1)
        await one.ready.wait()
        async with blocker.transaction():
            await blocker.execute("SELECT * FROM watermarks FOR UPDATE")

            async def waits():
                return await blocker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

            await wait_until_async(waits, what="a batch that waits")
            assert await valkey.xlen(journal_key(0)) == 160
        await wait_for_votes(postgres, 32_000)
    finally:
        await blocker.close()

    async def trimmed():
        return await _retained_bytes(valkey) < 2**20 * 1.05

    await wait_until_async(trimmed, what="the window")
    assert await _retained_bytes(valkey) >= 2**20
    (newest,) = await valkey.xrevrange(journal_key(0), count=1)
    assert newest[0].decode() == str(built[-1].id)
    await one.end()

    # The next one finds the window as it is, and keeps to it.
    second = start(journal_retain_mb=1)
    await write(valkey, [builder.entry(200) for _ in range(80)])
    await wait_for_votes(postgres, 48_000)
    await second.end()
    assert 2**20 <= await _retained_bytes(valkey) < 2**20 * 1.05
    assert second.metric("lag_entries") == 0


async def _retained_bytes(valkey):
    entries = await valkey.xrange(journal_key(0))
    return sum(len(fields[ENTRY_FIELD]) for _, fields in entries)


async def test_an_idle_flusher_says_up_to_when_nothing_is_missing(start, valkey, postgres):
    one = start()
    await one.ready.wait()
    moments = []

    async def moves():
        at = await postgres.fetchval("SELECT at FROM watermarks")
        if at not in moments:
            moments.append(at)
        return len(moments) > 2

    began = time.monotonic()
    await wait_until_async(moves, what="the watermark's time")
    assert moments == sorted(moments)
    assert time.monotonic() - began >= 0.9, "at most once a second"
    seconds, _ = await valkey.time()
    assert seconds - 3 <= moments[-1].timestamp() <= seconds + 1
    assert 0 <= one.metric("lag_seconds") < 3
    await one.end()


@pytest.mark.parametrize("votes", ["none", "steadily"])
async def test_a_flusher_lets_past_days_go(start, valkey, events, monkeypatch, votes):
    monkeypatch.setattr(flusher, "_TIDY_SECONDS", 0.1)
    builder = JournalBuilder()
    start()

    async def feed():
        # One vote for every look that the flusher takes: it never finds the journal empty.
        while True:
            await write(valkey, [builder.entry(1)])
            await asyncio.sleep(0.005)

    feeding = asyncio.create_task(feed() if votes == "steadily" else asyncio.sleep(0))
    days = [journal.day_key(0, "busy", date(2026, 7, day)) for day in range(1, 8)]
    for key in days:
        await valkey.hset(key, "device", "record")

    async def gone():
        return sorted(key.decode() for key in await valkey.keys("{s0}:day:*")) == days[-4:]

    async def told():
        return "past-days-unlinked" in {event["event"] for event in events}

    await wait_until_async(gone)
    # It says so once it has the store's answer, a moment after the keys are gone.
    await wait_until_async(told)
    feeding.cancel()


async def test_a_gap_within_an_epoch_stops_the_flusher_loudly(start, valkey, postgres):
    builder = JournalBuilder()
    first, _, third = builder.entry(2), builder.entry(2), builder.entry(2)
    await write(valkey, [first])
    one = start()
    await wait_for_votes(postgres, 2)
    await write(valkey, [third])
    with pytest.raises(JournalError, match="entry 1-1 is missing: 1-2 comes next"):
        await asyncio.wait_for(one.task, 5)
    assert await postgres.fetchval("SELECT count(*) FROM votes") == 2
    await wait_until_async(lambda: nobody_holds_the_shard(postgres))


async def test_a_gap_between_epochs_is_told_and_counted_and_the_rest_flushed(
    start, valkey, postgres, events
):
    builder = JournalBuilder()
    built = [builder.entry(4)]
    builder.new_epoch(-2)
    built.append(builder.entry(4))
    builder.new_epoch(+3)
    built.append(builder.entry(4))
    await write(valkey, built)
    one = start()
    await wait_for_votes(postgres, 12)
    await one.end()
    assert one.metric("gaps_total") == 2
    errors = [event for event in events if event["log_level"] == "error"]
    assert [(event["event"], event.get("votes")) for event in errors] == [
        ("journal-went-back", 2),
        ("journal-lost-votes", 3),
        ("hot-state-went-back", None),
    ]


async def test_a_journal_that_began_anew_under_old_positions_is_a_conflict_not_a_wait(
    start, valkey, postgres
):
    builder = JournalBuilder(seed=1)
    await write(valkey, [builder.entry(2) for _ in range(5)])
    one = start()
    await wait_for_votes(postgres, 10)
    # The store loses everything and its next votes get positions that were given out before: the
    # flusher reads after the watermark and would wait in vain.
    await valkey.flushall()
    await write(valkey, [JournalBuilder(seed=2).entry(2)])
    with pytest.raises(JournalConflict, match="entry 1-0: the vote at shard 0, epoch 1, seq 1"):
        await asyncio.wait_for(one.task, 5)


async def test_a_journal_that_lost_its_flushed_tail_is_no_conflict(start, valkey, postgres):
    builder = JournalBuilder(seed=1)
    built = [builder.entry(2) for _ in range(5)]
    await write(valkey, built)
    one = start()
    await wait_for_votes(postgres, 10)
    await one.end()
    await valkey.delete(journal_key(0))
    await write(valkey, built[:3])
    second = start()
    await second.ready.wait()
    # It was told where Postgres is, and goes on behind that.
    builder.new_epoch(0)
    await write(valkey, [builder.entry(1)])
    await wait_for_votes(postgres, 11)
    await second.end()
    assert second.metric("gaps_total") == 1


async def test_a_foreign_entry_in_the_journal_stops_the_flusher(start, valkey):
    await valkey.xadd(journal_key(0), {"x": "y"}, id="1-0")
    with pytest.raises(JournalError, match="entry 1-0 has no field 'e'"):
        await asyncio.wait_for(start().task, 5)


async def test_a_database_that_is_not_migrated_is_an_error_not_a_wait(
    start, postgres_server, valkey
):
    one = start(postgres_dsn=postgres_server.url)
    with pytest.raises(asyncpg.UndefinedTableError):
        await asyncio.wait_for(one.task, 5)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        yield Path(folder)


async def test_while_postgres_is_away_the_journal_waits_and_nothing_is_lost(
    start, valkey, folder, events
):
    server = EmbeddedPostgres(folder)
    builder = JournalBuilder()
    with running(server) as process:
        await migrate(server.url)
        one = start(postgres_dsn=server.url)
        await write(valkey, [builder.entry(2)])
        connection = await asyncpg.connect(server.url)
        await wait_for_votes(connection, 2)
        process.kill()
        process.wait()
    connection.terminate()
    await write(valkey, [builder.entry(2) for _ in range(10)])
    await wait_for_event(events, "postgres-away")
    wait_until(lambda: not server.running(), what="Postgres to be gone")
    lag = one.metric("lag_seconds")
    await wait_until_async(_true_when(lambda: one.metric("lag_seconds") > lag + 0.5))
    assert not one.task.done()

    with running(server):
        connection = await asyncpg.connect(server.url)
        await wait_for_votes(connection, 22)
        await wait_for_event(events, "postgres-back")
        await connection.close()
        await one.end()
    # Once per change, however many tries there were.
    assert [event["event"] for event in events] == ["postgres-away", "postgres-back"]


async def test_while_valkey_is_away_the_flusher_keeps_its_shard_and_goes_on(
    start, postgres, folder, events
):
    server = EmbeddedValkey(folder, memory_mb=64)
    builder = JournalBuilder()
    with running(server) as process:
        one = start(valkey_url=server.url)
        client = redis.Redis.from_url(server.url)
        await write(client, [builder.entry(2)])
        await wait_for_votes(postgres, 2)
        await write(client, [builder.entry(2)])
        await client.aclose()
        process.kill()
        process.wait()
    await wait_for_event(events, "valkey-away")
    assert await postgres.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1

    with running(server):
        client = redis.Redis.from_url(server.url)
        await write(client, [builder.entry(2)])
        await wait_for_votes(postgres, 6)
        await client.aclose()
        await one.end()
    assert [event["event"] for event in events] == ["valkey-away", "valkey-back"]


async def test_a_stop_ends_a_flusher_whose_servers_are_away(start, folder, events):
    nowhere = folder / "nobody"
    one = start(
        valkey_url=f"unix://{nowhere}.sock", postgres_dsn=f"postgresql://a@/a?host={nowhere}"
    )
    await wait_for_event(events, "postgres-away")
    await one.end(within_seconds=1)
    assert not one.ready.is_set()


async def test_a_session_that_postgres_ends_is_taken_up_again(start, valkey, postgres, events):
    builder = JournalBuilder()
    await write(valkey, [builder.entry(2)])
    one = start()
    await wait_for_votes(postgres, 2)
    for _ in range(3):
        await postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
        await write(valkey, [builder.entry(2)])
        await wait_for_votes(postgres, builder.seq)
    await one.end()


def _true_when(condition):
    async def check():
        return condition()

    return check
