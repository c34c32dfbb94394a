"""A campaign's numbers as they are looked on: what they are, and who is asked for them."""

import asyncio
import contextlib
import itertools
import time
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import redis.asyncio as redis

from antifraud.networks import NetworkClass
from antifraud.screen import Decision
from tally import live_view
from tally.live_view import (
    SPANS,
    Live,
    Numbers,
    Range,
    Source,
    Sums,
    Trend,
    rank,
    read_candidate_flags,
    read_course,
    read_hot_numbers,
    read_networks,
    read_stored_numbers,
    read_trends,
    steps,
)
from tally.tallies import UnknownCampaign, read_campaign
from tests.campaigns import add_campaign
from tests.conftest import OneShard, wait_until_async
from tests.decided import counted
from tests.journal_builder import make_vote
from voting.ballot import Outcome
from voting.campaign import Campaign, Candidate, VotingWindow, microseconds
from voting.journal import tally_key

KEY = tally_key(0, "spring")
SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.fixture
async def campaign(poll, postgres):
    return await read_campaign(postgres, "spring")


@pytest.fixture
async def pool(postgres_dsn):
    async with asyncpg.create_pool(postgres_dsn, min_size=0, max_size=3, timeout=2) as pool:
        yield pool


class Counting:
    """A Valkey client that counts how often it is asked for something."""

    def __init__(self, valkey):
        self.valkey = valkey
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self.valkey, name)

    def pipeline(self, **options):
        self.asked += 1
        return self.valkey.pipeline(**options)


@pytest.fixture
def store(valkey):
    return Counting(valkey)


@pytest.fixture
async def live(pool, store, monkeypatch):
    """With a poll each 50 ms that ends 200 ms after the last viewer."""
    monkeypatch.setattr(live_view, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(live_view, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(live_view, "_TOO_SOON_US", 0)
    stopping = asyncio.Event()
    live = Live(pool.acquire, OneShard(store), stopping)
    yield live
    stopping.set()
    await wait_until_async(lambda: _none(live), what="the end of polling")


async def _none(live):
    return live.polled == []


async def minutes_of(connection, *rows):
    """(minutes ago, candidate, counted, held): as the flusher would have summed them up."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for ago, candidate, votes, held in rows:
        at = now - timedelta(minutes=ago)
        await connection.execute(
            "INSERT INTO minutes VALUES (1, $1, $2, $3, $4)", at, candidate, votes, held
        )
        await connection.execute(
            "INSERT INTO minute_totals AS t VALUES (1, $1, $2, $3) ON CONFLICT (campaign, minute)"
            " DO UPDATE SET counted = t.counted + $2, held = t.held + $3",
            at, votes, held,
        )  # fmt: skip


async def complete(connection):
    """Postgres has everything up to now."""
    await connection.execute(
        "INSERT INTO watermarks VALUES (0, 1, 0, 0, now())"
        " ON CONFLICT (shard) DO UPDATE SET at = now()"
    )


def poll_of(*candidates, opens_at=None, zone=SHANGHAI):
    opens_at = opens_at or datetime(2026, 7, 1, tzinfo=zone)
    return Campaign(
        1,
        "x",
        "X",
        VotingWindow(opens_at, opens_at + timedelta(days=61), zone),
        candidates=tuple(Candidate(n, f"c{n}", "", "", "", "", "", "") for n in candidates),
    )


# Numbers.


async def test_hot_numbers_are_those_of_the_tally(valkey, campaign):
    fields = {"1": 10, "2": 5, "h1": 2, "s2": 1, "r1:6": 3, "r2:7": 4, "r2:6": 1}
    await valkey.hset(KEY, mapping=fields)
    numbers = await read_hot_numbers(OneShard(valkey), "spring")
    assert numbers.by_candidate == {1: Sums(10, 2, 0, 3), 2: Sums(5, 0, 1, 5)}
    assert numbers.in_all == Sums(15, 2, 1, 8)
    assert numbers.in_all.received == 26
    assert numbers.refused_by == {Outcome.THROTTLED: 4, Outcome.REFUSED: 4}
    assert abs(numbers.at_us / 1e6 - time.time()) < 5


async def test_stored_numbers_are_the_same_when_all_is_flushed(poll, postgres, valkey, campaign):
    random = Random(4)
    await poll.add([*counted(5), make_vote(random, 2, Decision.HOLD)])
    hot = await read_hot_numbers(OneShard(valkey), "spring")
    stored = await read_stored_numbers(postgres, campaign)
    assert stored.by_candidate == hot.by_candidate
    assert stored.in_all == Sums(5, 1, 0, 0)


async def test_nothing_received_is_nothing(valkey, postgres, campaign):
    numbers = await read_hot_numbers(OneShard(valkey), "spring")
    assert numbers.in_all == Sums()
    assert await read_stored_numbers(postgres, campaign) is None


def test_equal_counts_share_a_rank_and_are_listed_by_number():
    numbers = Numbers(0, {3: Sums(9), 1: Sums(5), 4: Sums(5), 2: Sums(1, 4)}, {})
    ranking = rank(poll_of(1, 2, 3, 4, 5), numbers)
    assert [(row.rank, row.candidate.number) for row in ranking] == [
        (1, 3), (2, 1), (2, 4), (4, 2), (5, 5),
    ]  # fmt: skip
    assert [row.share for row in ranking] == [0.45, 0.25, 0.25, 0.05, 0]
    assert [row.held_share for row in ranking] == [0, 0, 0, 0.8, 0]


def test_votes_for_an_unknown_number_are_in_the_sums_and_on_no_row():
    numbers = Numbers(0, {1: Sums(1), 9: Sums(3)}, {})
    assert [row.candidate.number for row in rank(poll_of(1), numbers)] == [1]
    assert numbers.in_all.counted == 4


async def test_trend_is_the_last_hour_against_the_hour_before(postgres, campaign):
    await minutes_of(
        postgres, (1, 1, 30, 9), (59, 1, 30, 0), (61, 1, 40, 0), (119, 1, 10, 0), (121, 1, 999, 0),
        (61, 2, 4, 0), (5, 3, 7, 0),
    )  # fmt: skip
    trends = await read_trends(postgres, campaign, datetime.now(UTC))
    assert trends == {1: Trend(60, 50), 2: Trend(0, 4), 3: Trend(7, 0)}
    assert [round(trends[n].change, 2) if trends[n].change is not None else None
            for n in (1, 2, 3)] == [0.2, -1, None]  # fmt: skip


async def test_networks_are_summed_since_the_hour_and_unknown_ones_are_unknown(postgres, campaign):
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rows = [(hour, 1, 60, 3), (hour - timedelta(hours=1), 1, 40, 1), (hour, 2, 50, 0),
            (hour, 99, 5, 1), (hour - timedelta(days=3), 1, 999, 9)]  # fmt: skip
    await postgres.executemany("INSERT INTO hourly_mix VALUES (1, $1, $2, $3, $4)", rows)
    assert await read_networks(postgres, campaign, hour - timedelta(hours=24)) == [
        (NetworkClass.MOBILE, 100, 4),
        (NetworkClass.HOME, 50, 0),
        (NetworkClass.UNKNOWN, 5, 1),
    ]


async def test_flags_of_a_candidate_are_one_for_each_case(poll, postgres, campaign):
    votes = await poll.add([*counted(60, 1), *counted(40, 2)])
    first = await poll.flag(votes[:20])
    await poll.flag(votes[60:])
    await poll.flag(votes[:60])
    (flag,) = await read_candidate_flags(postgres, campaign, 1)
    assert (flag.case, flag.votes) == (first, 60)
    assert [one.case for one in await read_candidate_flags(postgres, campaign, 3)] == []


# Courses.


@pytest.mark.parametrize("range_", Range)
def test_a_course_has_few_points_in_even_steps_that_midnight_begins(range_):
    until = datetime(2026, 7, 31, 15, 42, 30, tzinfo=SHANGHAI)
    opened = datetime(2026, 6, 1, tzinfo=SHANGHAI)
    found = steps(poll_of(1, opens_at=opened), range_, until)
    whole, step = SPANS[range_]
    assert len(found) <= 400
    assert abs(len(found) - whole / step) <= 1
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {step}
    midnights = [at for at in found if at.hour == at.minute == 0]
    assert len(midnights) == {Range.WEEK: 7, Range.DAY: 1}.get(range_, len(midnights))
    assert found[0].minute % (step / timedelta(minutes=1)) == 0
    assert timedelta(minutes=1) <= until - found[-1] <= step + timedelta(minutes=1)


@pytest.mark.parametrize("range_", Range)
def test_a_course_over_a_change_of_the_clock_loses_no_time(range_):
    zone = ZoneInfo("Europe/Berlin")
    opened = datetime(2026, 10, 20, tzinfo=zone)
    until = datetime(2026, 10, 25, 12, 30, tzinfo=zone)
    found = steps(poll_of(1, opens_at=opened, zone=zone), range_, until)
    seconds = [at.timestamp() for at in found]
    assert {b - a for a, b in itertools.pairwise(seconds)} == {SPANS[range_].step.total_seconds()}


def test_a_course_begins_with_the_campaign():
    opened = datetime(2026, 7, 31, 12, tzinfo=SHANGHAI)
    until = opened + timedelta(hours=3)
    found = steps(poll_of(1, opens_at=opened), Range.MONTH, until)
    assert found == [opened, opened + timedelta(hours=2)]
    assert steps(poll_of(1, opens_at=opened), Range.DAY, opened) == []


async def test_a_course_sums_every_minute_once_and_stops_where_postgres_does(postgres, campaign):
    await minutes_of(postgres, (3, 1, 4, 1), (3, 2, 6, 0), (2, 1, 5, 2), (40, 2, 9, 3))
    await complete(postgres)
    for range_ in (Range.HOUR, Range.DAY):
        course = await read_course(postgres, campaign, range_)
        assert (course.counted, course.held) == (24, 6)
        of_one = await read_course(postgres, campaign, range_, candidate=2)
        assert (of_one.counted, of_one.held) == (15, 3)
        assert [point.at for point in of_one.points] == [point.at for point in course.points]
    assert (await read_course(postgres, campaign, Range.QUARTER)).counted == 15
    by_minute = {
        point.at: point.counted
        for point in (await read_course(postgres, campaign, Range.HOUR)).points
    }
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    assert by_minute[now - timedelta(minutes=3)] in (10, 5)


async def test_a_step_that_is_not_over_is_measured_by_what_is_over_of_it(postgres, campaign):
    await minutes_of(postgres, *((ago, 1, 60, 0) for ago in range(1, 50)))
    await complete(postgres)
    for range_ in (Range.HOUR, Range.DAY):
        *_, before, last = (await read_course(postgres, campaign, range_)).points
        assert before.counted_a_minute == pytest.approx(60, rel=0.01)
        # All but the minute that runs, which has no votes here.
        assert 60 / 2.1 <= last.counted_a_minute <= 61


async def test_a_course_before_the_first_flush_is_empty(postgres, campaign):
    assert (await read_course(postgres, campaign, Range.DAY)).points == ()


# Who is asked, and when.


async def test_nobody_is_asked_while_nobody_looks(live, store, campaign):
    watched = await live.look("spring")
    assert (live.polled, store.asked) == ([], 0)
    async with watched.watched():
        assert await watched.next(5)
        assert live.polled == ["spring"]
    await wait_until_async(lambda: _none(live), what="the end of polling")
    asked = store.asked
    assert not await watched.next(0.3)
    assert store.asked == asked


async def test_one_poll_serves_all_who_look(live, store, campaign):
    async with contextlib.AsyncExitStack() as viewers:
        watched = await live.look("spring")
        for _ in range(20):
            await viewers.enter_async_context((await live.look("spring")).watched())
        before, looks = store.asked, watched.looks
        for _ in range(5):
            await watched.next(5)
        assert store.asked - before == watched.looks - looks
        assert watched.snapshot is (await live.look("spring")).snapshot


async def test_who_asks_now_and_then_keeps_the_poll_and_gets_its_last_look(live, store, campaign):
    watched = await live.look("spring")
    first = await watched.now()
    assert live.polled == ["spring"]
    await watched.next(5)
    assert await watched.now() is watched.snapshot
    assert watched.snapshot is not first
    await wait_until_async(lambda: _none(live), what="the end of polling")


async def test_a_like_is_in_the_next_look(live, valkey, campaign):
    watched = await live.look("spring")
    async with watched.watched():
        await watched.next(5)
        await valkey.hincrby(KEY, "3", 1)

        async def shown():
            return watched.snapshot.sums.counted == 1

        await wait_until_async(shown, 2, what="the like")
        assert watched.snapshot.ranking[0].candidate.number == 3


async def test_the_rate_follows_what_comes_whatever_is_decided_meanwhile(live, valkey, campaign):
    watched = await live.look("spring")
    await valkey.hset(KEY, mapping={"1": 100_000})
    assert (await watched.now()).rate is None, "one look says nothing of a rate"
    began = time.monotonic()
    async with watched.watched():
        while time.monotonic() - began < 1.2:
            await valkey.hincrby(KEY, "1", 20 - 500)
            await valkey.hincrby(KEY, "s1", 500)  # a strike moves, and is no like
            await watched.next(1)
    assert watched.snapshot is not None
    # Each look is moments after the one before, so how fast says nothing here. What was struck
    # would make it less than nothing.
    assert watched.snapshot.rate > 0
    assert all(rate >= 0 for rate in watched.snapshot.rates)


async def test_a_store_that_began_anew_gives_no_negative_rate(live, valkey, campaign):
    await valkey.hset(KEY, mapping={"1": 5_000})
    watched = await live.look("spring")
    async with watched.watched():
        for _ in range(3):
            await watched.next(5)
        await valkey.delete(KEY)
        for _ in range(4):
            await watched.next(5)
    assert all(rate >= 0 for rate in watched.snapshot.rates)


async def test_without_the_store_the_stored_votes_are_shown_and_said_to_be(
    poll, pool, postgres, campaign
):
    poll.builder.at_us = microseconds(datetime.now(UTC))
    await poll.add(counted(5))
    away = redis.Redis.from_url("redis://127.0.0.1:1")
    live = Live(pool.acquire, OneShard(away))
    try:
        snapshot = await (await live.look("spring")).now()
        assert snapshot.source is Source.POSTGRES
        assert (snapshot.sums.counted, snapshot.rate) == (5, None)
        complete_until = await postgres.fetchval("SELECT min(at) FROM watermarks")
        assert snapshot.at == complete_until
    finally:
        live.stopping.set()
        await wait_until_async(lambda: _none(live), what="the end of polling")
        await away.aclose()


async def test_without_postgres_the_numbers_go_on(live, pool, valkey, postgres, campaign):
    watched = await live.look("spring")
    await watched.now()
    live._past._seconds = live._catalog._seconds = 0  # nothing is kept for long

    def away():
        raise OSError("no route")

    live.acquire = away
    async with watched.watched():
        await valkey.hincrby(KEY, "3", 7)

        async def shown():
            return watched.snapshot.sums.counted == 7

        await wait_until_async(shown, 3, what="the likes")
    assert (watched.snapshot.source, watched.snapshot.rate is None) == (Source.HOT, False)


async def test_a_candidate_who_is_new_is_in_the_next_look(live, postgres, valkey, campaign):
    watched = await live.look("spring")
    assert len((await watched.now()).ranking) == 4
    await postgres.execute(
        "INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel,"
        " title, summary) VALUES (1, 9, 'c009', 9, '新人', '', '', '', '', '')"
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")
    async with watched.watched():

        async def there():
            return len(watched.snapshot.ranking) == 5

        await wait_until_async(there, 3, what="the candidate")


async def test_an_unknown_campaign_is_not_polled(live, postgres, campaign):
    with pytest.raises(UnknownCampaign):
        await live.look("autumn")
    await add_campaign(postgres, "autumn")

    async def known():
        return "autumn" in await live.campaigns()

    await wait_until_async(known, 3, what="the campaign")
    assert await live.look("autumn")
