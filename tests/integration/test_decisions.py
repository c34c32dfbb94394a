"""Decisions against real servers: at once, at odds, and with a crash between any two steps."""

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest
from redis.exceptions import ConnectionError as StoreAway

from antifraud.screen import Decision
from tally import adjudications
from tally.adjudications import AdjudicationError, HotTallies, Ordered, replay
from tally.holds import (
    WATCH,
    Action,
    Case,
    DecisionError,
    OneFlag,
    State,
    decide,
)
from tally.rows import Batch
from tally.store import ShardStore
from tally.tallies import read_campaign, read_hot_tally, read_tally
from tests.conftest import OneShard
from tests.decided import Poll, counted, hot_sums, sums
from tests.integration.test_tallies import flush_all
from tests.journal_builder import JournalBuilder, make_vote, write
from voting.campaign import microseconds, moment_at
from voting.journal import (
    ENTRY_FIELD,
    Adjudication,
    Delta,
    EntryId,
    JournalError,
    head_key,
    journal_key,
    tally_key,
    unpack_entry,
)


async def test_a_decision_is_recorded_and_moves_everything_that_follows_from_it(poll, postgres):
    votes = await poll.add([*counted(5, 1), *counted(3, 2)])
    flag = await poll.flag(list(votes)[2:7])
    decided = await decide(postgres, Case(flag), Action.STRIKE, by="王老师", reason="同一台手机")
    assert decided.number == 1
    assert decided.deltas == (Delta(1, -3, 0, 3), Delta(2, -2, 0, 2))
    row = await postgres.fetchrow("SELECT * FROM decisions")
    assert (row["action"], row["flag"], row["decided_by"], row["reason"]) == (
        "strike", flag, "王老师", "同一台手机",
    )  # fmt: skip
    assert (row["votes"], row["moved"]) == (5, 5)
    (listed,) = await postgres.fetch("SELECT * FROM decision_votes")
    assert (listed["from_state"], listed["to_state"]) == (State.COUNTED, State.STRUCK)
    assert listed["seqs"] == [3, 4, 5, 6, 7]
    assert await poll.states() == [State.COUNTED] * 2 + [State.STRUCK] * 5 + [State.COUNTED]
    tally = await read_tally(postgres, "spring")
    assert (tally.received, tally.counted, tally.struck) == (8, 3, 5)


async def test_a_dry_run_says_what_would_move_and_moves_nothing(poll, postgres):
    votes = await poll.add(counted(5))
    flag = await poll.flag(votes)
    tried = await decide(
        postgres, Case(flag), Action.HOLD, by="王老师", reason="看看", dry_run=True
    )
    assert (tried.number, tried.moved, tried.deltas) == (None, 5, (Delta(1, -5, 5, 0),))
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0
    assert await poll.states() == [State.COUNTED] * 5


async def test_votes_that_are_there_already_are_spoken_of_and_not_moved(poll, postgres):
    votes = await poll.add(counted(5))
    flag = await poll.flag(votes)
    await decide(postgres, Case(flag), Action.RELEASE, by="王老师", reason="一家人")
    assert await poll.states() == [State.COUNTED] * 5
    assert await postgres.fetchval("SELECT count(*) FROM adjudications") == 0
    # ... so that `watch` leaves them alone from now on.
    assert await decide(postgres, OneFlag(flag), Action.HOLD, by=WATCH, reason="自动") is None
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 1


@pytest.mark.parametrize(
    ("flag", "by", "reason"), [(9, "王老师", "x"), (1, " ", "x"), (1, "王老师", "")]
)
async def test_a_decision_without_flag_name_or_reason_is_refused(poll, postgres, flag, by, reason):
    await poll.flag(await poll.add(counted(3)))
    with pytest.raises(DecisionError):
        await decide(postgres, Case(flag), Action.HOLD, by=by, reason=reason)
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0


@pytest.mark.parametrize(
    "table", ["flags", "flag_votes", "decisions", "decision_votes", "adjudications"]
)
async def test_what_was_claimed_and_decided_cannot_be_changed(poll, postgres, table):
    flag = await poll.flag(await poll.add(counted(3)))
    await decide(postgres, Case(flag), Action.HOLD, by="王老师", reason="x")
    column = (await postgres.fetchrow(f"SELECT * FROM {table}")).keys().__iter__().__next__()
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
    ):
        with pytest.raises(asyncpg.RaiseError, match="only grows"):
            await postgres.execute(statement)


async def test_deciders_and_flushers_at_once_neither_lock_each_other_out_nor_move_twice(
    poll, postgres, postgres_dsn, valkey
):
    random = Random(3)
    other = Poll(postgres, valkey, shard=1, seed=9)
    flags = []
    for one in (poll, other):
        for _ in range(2):
            some = [make_vote(random, random.randint(1, 4), Decision.COUNT) for _ in range(200)]
            flags.append(await one.flag(await one.add(some, seconds=30)))

    async def flush(one):
        """Goes on bringing votes for the same candidates and minutes."""
        connection = await asyncpg.connect(postgres_dsn)
        try:
            store = ShardStore(connection, one.shard)
            await store.open()
            for _ in range(25):
                votes = [make_vote(random, random.randint(1, 4)) for _ in range(50)]
                await store.add_entries(
                    Batch([one.builder.entry(votes, campaign=1, seconds=1).placed])
                )
        finally:
            await connection.close()

    async def judge(name, seed):
        choose = Random(seed)
        connection = await asyncpg.connect(postgres_dsn)
        try:
            for _ in range(25):
                flag, action = choose.choice(flags), choose.choice(list(Action))
                await decide(connection, Case(flag), action, by=name, reason="复核")
        finally:
            await connection.close()

    async def apply(shard):
        connection = await asyncpg.connect(postgres_dsn)
        try:
            for _ in range(40):
                await replay(connection, HotTallies(valkey, shard), shard)
        finally:
            await connection.close()

    await asyncio.wait_for(
        asyncio.gather(
            flush(poll), flush(other), judge("王老师", 1), judge("李老师", 2), apply(0), apply(0),
            apply(1),
        ),
        60,
    )  # fmt: skip
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 50
    assert await postgres.fetchval("SELECT max(number) FROM decisions") == 50
    rows = await postgres.fetch(
        "SELECT candidate, coalesce(s.state, v.verdict) AS state, count(*) AS votes FROM votes v"
        " LEFT JOIN vote_state s USING (day, shard, epoch, seq) GROUP BY 1, 2"
    )
    states = Counter({(row["candidate"], State(row["state"])): row["votes"] for row in rows})
    assert await sums(postgres, "tallies", 1) == states
    assert states.total() == 4 * 200 + 2 * 25 * 50


async def test_a_crash_at_any_statement_leaves_all_of_a_decision_or_nothing(
    poll, postgres, postgres_dsn, monkeypatch
):
    votes = await poll.add([*counted(4, 1), *counted(4, 2)])
    flag = await poll.flag(votes)
    before = await _everything(postgres)

    class Crash(Exception):
        pass

    executed = asyncpg.Connection.execute
    for dies_at in itertools.count():
        connection = await asyncpg.connect(postgres_dsn)
        steps = itertools.count()

        async def dying(self, *arguments, steps=steps, dies_at=dies_at, **options):
            if next(steps) == dies_at:
                raise Crash
            return await executed(self, *arguments, **options)

        monkeypatch.setattr(asyncpg.Connection, "execute", dying)
        try:
            await decide(connection, Case(flag), Action.HOLD, by="王老师", reason="x")
            break
        except Crash:
            pass
        finally:
            monkeypatch.setattr(asyncpg.Connection, "execute", executed)
            connection.terminate()
        assert await _everything(postgres) == before
    assert dies_at > 10, "it has as many steps"
    assert await poll.states() == [State.HELD] * 8
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 1


async def _everything(postgres):
    return {
        table: await postgres.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        for table in (
            "decisions", "decision_votes", "vote_state", "adjudications", "tallies", "minutes",
            "minute_totals",
        )
    }  # fmt: skip


class FailingStore:
    """A store that dies around the n-th call of its function: before it (nothing happened) or
    after it (it was done, and the answer is lost)."""

    def __init__(self, valkey, shard, call, *, persists):
        self._whole = HotTallies(valkey, shard)
        self._call, self._persists = call, persists
        self._calls = itertools.count()

    async def adjudicated(self):
        return await self._whole.adjudicated()

    async def adjudicate(self, ordered, floor):
        if next(self._calls) != self._call:
            return await self._whole.adjudicate(ordered, floor)
        if self._persists:
            await self._whole.adjudicate(ordered, floor)
        raise StoreAway("the store is gone")


@pytest.mark.parametrize("persists", [False, True])
@pytest.mark.parametrize("call", range(4))
async def test_a_crash_between_commit_and_hot_call_is_mended_by_the_next_replay(
    poll, postgres, valkey, call, persists
):
    votes = await poll.add([*counted(6, 1), *counted(3, 2)])
    flag = await poll.flag(votes)
    for action in (Action.HOLD, Action.STRIKE, Action.RELEASE, Action.HOLD):
        await decide(postgres, Case(flag), action, by="王老师", reason="x")
    with pytest.raises(StoreAway):
        await replay(postgres, FailingStore(valkey, 0, call, persists=persists), 0)
    applied = await replay(postgres, HotTallies(valkey, 0), 0)
    assert applied == 4 - call - persists
    assert await hot_sums(valkey, 0, "spring") == await sums(postgres, "tallies", 1)
    assert await valkey.xlen(journal_key(0)) == 4


async def test_two_that_replay_at_once_apply_each_once(poll, postgres, postgres_dsn, valkey):
    flag = await poll.flag(await poll.add(counted(6)))
    for action in 10 * (Action.HOLD, Action.RELEASE):
        await decide(postgres, Case(flag), action, by="王老师", reason="x")
    connections = [await asyncpg.connect(postgres_dsn) for _ in range(3)]
    try:
        applied = await asyncio.gather(
            *(replay(connection, HotTallies(valkey, 0), 0) for connection in connections)
        )
    finally:
        for connection in connections:
            await connection.close()
    assert sum(applied) == 20
    assert await hot_sums(valkey, 0, "spring") == await sums(postgres, "tallies", 1)


def order(number, *deltas):
    return Ordered(0, number, 7, 1, "spring", deltas)


async def test_only_the_next_number_is_applied(valkey):
    hot = HotTallies(valkey, 0)
    assert await hot.adjudicated() == 0
    with pytest.raises(AdjudicationError, match="adjudication 2 does not follow 0"):
        await hot.adjudicate(order(2, Delta(1, -1, 1, 0)), 0)
    assert await valkey.keys("{s0}*") == []
    assert await hot.adjudicate(order(1, Delta(1, 5, -5, 0), Delta(700, 0, 2, 3)), 0)
    assert not await hot.adjudicate(order(1, Delta(1, 5, -5, 0)), 0)
    assert await hot.adjudicate(order(2), 0)
    assert await hot.adjudicated() == 2
    assert await valkey.hgetall(tally_key(0, "spring")) == {
        b"1": b"5", b"h1": b"-5", b"h700": b"2", b"s700": b"3",
    }  # fmt: skip


async def test_an_adjudication_is_an_entry_of_its_own_between_those_of_the_votes(
    edge, valkey, valkey_url, postgres, postgres_dsn
):
    """At a real edge: ids stay dense, seqs go on, and the flusher passes over."""
    for _ in range(3):
        await edge.like(await edge.token())
    await flush_all(valkey_url, postgres_dsn)
    rows = await postgres.fetch("SELECT day, shard, epoch, seq FROM votes ORDER BY seq")
    poll = Poll(postgres, None)
    poll.positions = [tuple(row) for row in rows]
    poll.votes = counted(3)
    flag = await poll.flag([0, 1])
    await decide(postgres, Case(flag), Action.HOLD, by="王老师", reason="x")
    await replay(postgres, HotTallies(valkey, 0), 0)
    for _ in range(2):  # the second flusher finds it as the journal's last entry, and compares it
        await flush_all(valkey_url, postgres_dsn)
    await edge.like(await edge.token())
    await flush_all(valkey_url, postgres_dsn)

    found = await valkey.xrange(journal_key(0))
    ids = [EntryId.parse(id_) for id_, _ in found]
    assert ids == [EntryId(1, n) for n in range(5)]
    entries = [unpack_entry(fields[ENTRY_FIELD]) for _, fields in found]
    adjudication = entries[3]
    assert isinstance(adjudication, Adjudication)
    assert adjudication == Adjudication(0, 1, 1, 1, adjudication.at_us, 4, 1, (Delta(1, -2, 2, 0),))
    assert [entry.first_seq for entry in entries] == [1, 2, 3, 4, 4]
    watermark = await postgres.fetchrow("SELECT epoch, entry, seq FROM watermarks")
    assert tuple(watermark) == (1, 4, 4)
    campaign = await read_campaign(postgres, "spring")
    hot, cold = (
        await read_hot_tally(OneShard(valkey), campaign),
        await read_tally(postgres, "spring"),
    )
    assert (hot.counted, hot.held) == (cold.counted, cold.held) == (2, 2)


async def test_what_staff_hold_leaves_the_public_counts_and_what_they_release_comes_back(
    edge, valkey, valkey_url, postgres, postgres_dsn
):
    for _ in range(3):
        await edge.like(await edge.token())
    await edge.wait_for_counts("spring", {"c001": 3})
    await flush_all(valkey_url, postgres_dsn)
    poll = Poll(postgres, None)
    poll.positions = [
        tuple(row) for row in await postgres.fetch("SELECT day, shard, epoch, seq FROM votes")
    ]
    poll.votes = counted(3)
    flag = await poll.flag([0, 1])
    for action, shown in ((Action.STRIKE, 1), (Action.RELEASE, 3)):
        await decide(postgres, Case(flag), action, by="王老师", reason="x")
        await replay(postgres, HotTallies(valkey, 0), 0)
        began = asyncio.get_running_loop().time()
        await edge.wait_for_counts("spring", {"c001": shown})
        assert asyncio.get_running_loop().time() - began < 3, "at the next refresh"


async def test_what_was_published_for_the_day_stays_as_it_was_whatever_is_decided_later(
    edge, postgres, valkey
):
    """Or an edge that starts anew would show other counts of the same hour than its brothers."""
    poll = Poll(postgres, None)
    hour_us = microseconds(datetime.now(UTC) - timedelta(hours=1)) // 3_600_000_000 * 3_600_000_000
    poll.builder.at_us = hour_us - 600_000_000
    day = edge.parts.catalog.campaigns["spring"].window.day_at(hour_us - 600_000_000).date
    early = await poll.add([*counted(5, 1), *counted(3, 2)], day=day)
    flags = [await poll.flag(list(early)[2:7])]
    await decide(postgres, Case(flags[0]), Action.HOLD, by="王老师", reason="早")
    # Taken before the hour: the table refuses such a change, for good reason.
    async with postgres.transaction():
        await postgres.execute("ALTER TABLE decisions DISABLE TRIGGER USER")
        await postgres.execute("UPDATE decisions SET at = $1", moment_at(hour_us - 1))
        await postgres.execute("ALTER TABLE decisions ENABLE TRIGGER USER")
    late = await poll.add([*counted(4, 1)], seconds=1_200, day=day)
    await ShardStore(postgres, 0).advance_time(microseconds(datetime.now(UTC)))

    campaign = edge.parts.catalog.campaigns["spring"]
    published = await edge.parts.catalog.published_until(campaign, hour_us)
    assert published == ({1: 2, 2: 1}, ((1, 8),))
    flags += [await poll.flag([0, 1]), await poll.flag(late)]
    for flag, action in (
        (0, Action.RELEASE),
        (1, Action.STRIKE),
        (2, Action.HOLD),
        (0, Action.STRIKE),
    ):
        await decide(postgres, Case(flags[flag]), action, by="王老师", reason="晚")
        assert await edge.parts.catalog.published_until(campaign, hour_us) == published


async def test_a_new_server_gets_a_new_epoch_by_an_adjudication_as_by_a_vote(
    edge, valkey, valkey_url, postgres, postgres_dsn
):
    await edge.like(await edge.token())
    await valkey.hset(head_key(0), "replid", "00")  # as another server left it
    assert await HotTallies(valkey, 0).adjudicate(order(1, Delta(1, -1, 1, 0)), 5)
    await edge.like(await edge.token())
    found = [id_.decode() for id_, _ in await valkey.xrange(journal_key(0))]
    assert found == ["1-0", "6-0", "6-1"]
    await flush_all(valkey_url, postgres_dsn)
    watermark = await postgres.fetchrow("SELECT epoch, entry, seq FROM watermarks")
    assert tuple(watermark) == (6, 1, 2)


async def test_a_store_that_lost_votes_tells_it_at_its_first_entry_an_adjudication_too(
    poll, postgres, valkey
):
    """A gap between epochs must not become a missing seq within one, which stops the flusher."""
    await poll.add(counted(5))
    store = ShardStore(postgres, 0)
    await valkey.hset(head_key(0), mapping={"replid": "00", "seq": 3})  # 4 and 5 are gone
    await HotTallies(valkey, 0).adjudicate(order(1, Delta(1, -1, 1, 0)), 1)
    ((id_, fields),) = await valkey.xrange(journal_key(0))
    builder = JournalBuilder()
    placed = builder.entry(1).placed._replace(
        id=EntryId.parse(id_), entry=unpack_entry(fields[ENTRY_FIELD])
    )
    added = await store.add_entries(Batch([placed]))
    assert [gap.votes for gap in added.gaps] == [-2]
    builder.epoch, builder.number, builder.seq = 2, 1, 3
    assert (await store.add_entries(Batch([builder.entry(2).placed]))).gaps == []


async def test_a_journal_without_an_epoch_left_says_so_and_nothing_is_written(valkey):
    await valkey.hset(head_key(0), mapping={"replid": "00", "epoch": 65_535})
    with pytest.raises(AdjudicationError, match="refuses adjudication 1: EPOCHS"):
        await HotTallies(valkey, 0).adjudicate(order(1, Delta(1, -1, 1, 0)), 0)
    assert await valkey.exists(journal_key(0), tally_key(0, "spring")) == 0
    assert await HotTallies(valkey, 0).adjudicated() == 0


async def test_a_hot_state_that_is_ahead_of_postgres_is_an_error_not_a_wait(poll, postgres, valkey):
    await HotTallies(valkey, 0).adjudicate(order(1, Delta(1, -1, 1, 0)), 0)
    with pytest.raises(AdjudicationError, match="1 adjudications were applied, Postgres has 0"):
        await replay(postgres, HotTallies(valkey, 0), 0)


async def test_two_versions_of_the_library_can_be_loaded_at_once(valkey):
    await HotTallies(valkey, 0).adjudicate(order(1), 0)
    other = adjudications.LIBRARY.replace(adjudications.FUNCTION[-10:], "0123456789")
    await valkey.function_load(other)
    await HotTallies(valkey, 0).adjudicate(order(2), 0)


async def test_an_entry_of_an_unknown_kind_stops_the_flusher(valkey, valkey_url, postgres_dsn):
    builder = JournalBuilder()
    whole = builder.entry(1)
    await write(valkey, [whole])
    await valkey.xadd(journal_key(0), {ENTRY_FIELD: b"\x04" + whole.packed[1:]}, id="1-1")
    with pytest.raises(JournalError, match="layout 4; this version reads 1, 2 and 3"):
        await flush_all(valkey_url, postgres_dsn)


@pytest.mark.parametrize("cut", [-1, 1])
async def test_an_adjudication_of_a_wrong_length_is_no_entry(valkey, cut):
    await HotTallies(valkey, 0).adjudicate(order(1, Delta(1, -1, 1, 0)), 0)
    ((_, fields),) = await valkey.xrange(journal_key(0))
    packed = fields[ENTRY_FIELD]
    with pytest.raises(JournalError, match="claims 1 deltas"):
        unpack_entry(packed[:cut] if cut < 0 else packed + b"x")
