"""`watch` against real servers: it sees, flags, holds and releases, and bears what servers do."""

import asyncio
import json
import math
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from antifraud import detectors
from antifraud.detectors import live
from antifraud.flags import DETECTORS_VERSION, Flag
from antifraud.screen import Decision
from deploy.local.servers import EmbeddedValkey
from tally import lives, near_line, patience
from tally import watch as watching
from tally.holds import WATCH, Action, Case, State, decide
from tally.tail import KnownCampaign, Tail
from tally.tallies import read_campaign, read_tally
from tests.campaigns import add_campaign
from tests.conftest import OneShard, captured_logs, running, wait_until_async
from tests.decided import Poll, hot_sums, sums
from tests.detector_crowds import START_US, Crowd
from tests.journal_builder import JournalBuilder, make_vote, write
from voting.campaign import microseconds
from voting.journal import CELL, capacity_key, cells_key, head_key, journal_key, tally_key
from voting.settings import load_settings


@pytest.fixture
def events(monkeypatch):
    """What the watch logs."""
    return captured_logs(monkeypatch, watching, lives, patience)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(watching, "LOOK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(watching, "REPLAY_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(watching, "RELEASE_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(
        watching,
        "_LIVES",
        tuple(
            life._replace(every_seconds=0.05 if life.name != "adjudications" else 0.02)
            for life in watching._LIVES
        ),
    )


class Running:
    """A watch in this process."""

    def __init__(self, folder, valkey_url, postgres_dsn, **settings):
        self.stop, self.ready = asyncio.Event(), asyncio.Event()
        self.registry = CollectorRegistry()
        settings = load_settings(
            data_dir=folder, valkey_url=valkey_url, postgres_dsn=postgres_dsn, **settings
        )
        self.task = asyncio.create_task(
            watching.watch(settings, self.stop, self._set_ready, self.registry), name="watch"
        )

    def _set_ready(self):
        assert not self.ready.is_set(), "ready is said once"
        self.ready.set()

    def metric(self, name):
        return self.registry.get_sample_value(f"dianzan_watch_{name}") or 0

    async def end(self, within_seconds=5.0):
        self.stop.set()
        await asyncio.wait_for(self.task, within_seconds)


@pytest.fixture
async def start(tmp_path, valkey_url, postgres_dsn):
    """Starts watches on the test's servers; none is left behind."""
    started = []

    def start(**settings):
        started.append(
            Running(
                **{
                    "folder": tmp_path,
                    "valkey_url": valkey_url,
                    "postgres_dsn": postgres_dsn,
                    **settings,
                }
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.stop.set()
        one.task.cancel()
    await asyncio.gather(*(one.task for one in started), return_exceptions=True)


@pytest.fixture
async def poll(postgres, valkey):
    await add_campaign(postgres, "spring", candidates=4)
    poll = Poll(postgres, valkey)
    poll.builder.at_us = microseconds(datetime.now(UTC) - timedelta(minutes=30))
    return poll


def detector(monkeypatch, wanted, *, automatic=True, score=5.0, fails=None):
    """In place of the real detectors: flags the votes of these candidates."""
    calls = []

    def detect(db, *, baselines=None, learn_anew=True):
        calls.append(baselines)
        if fails and fails(len(calls)):
            raise RuntimeError("a defect")
        found = db.execute(
            "SELECT vote, candidate FROM votes WHERE candidate IN"
            f" ({','.join(map(str, wanted))}) ORDER BY vote"
        ).fetchnumpy()
        flags = ()
        if len(found["vote"]):
            candidates, votes = np.unique(found["candidate"], return_counts=True)
            flags = (
                Flag(
                    rules=("stand-in",),
                    version=DETECTORS_VERSION,
                    kinds=("agent", "dwell") if automatic else ("agent",),
                    evidence={"votes": len(found["vote"])},
                    sentence="这批票太像了。",
                    candidates=dict(zip(candidates.tolist(), votes.tolist(), strict=True)),
                    score=score,
                    votes=np.asarray(found["vote"], np.int64),
                ),
            )
        return detectors.Found(flags, baselines or Learned())

    monkeypatch.setattr(near_line, "detect", detect)
    return calls


@dataclass
class Learned:
    """In place of Baselines."""

    votes: int = 0

    def as_dict(self):
        return {"votes": self.votes}


def counted(number, candidate=1, seed=0):
    random = Random(seed)
    return [make_vote(random, candidate, Decision.COUNT) for _ in range(number)]


async def both_agree(poll, shard=0):
    hot = await hot_sums(poll.valkey, shard, poll.campaign_id)
    return hot == await sums(poll.connection, "tallies", poll.campaign)


async def test_what_is_flagged_is_held_in_both_tallies_and_released_again(
    start, poll, postgres, monkeypatch
):
    detector(monkeypatch, [2])
    await poll.add([*counted(5, 1), *counted(40, 2)])
    one = start()

    async def held():
        tally = await read_tally(postgres, "spring")
        return tally.held == 40 and await both_agree(poll)

    await wait_until_async(held, what="the hold in both tallies")
    assert one.metric("flags_total") == 1
    assert one.metric("held_votes_total") == 40
    flag = await postgres.fetchrow("SELECT * FROM flags")
    assert (flag["votes"], json.loads(flag["candidates"])) == (40, {"2": 40})
    assert json.loads(flag["effect"]) == {"1": 1, "2": -1}
    decision = await postgres.fetchrow("SELECT * FROM decisions")
    assert (decision["decided_by"], decision["action"]) == (WATCH, "hold")

    await decide(postgres, Case(1), Action.RELEASE, by="王老师", reason="校园活动")

    async def released():
        tally = await read_tally(postgres, "spring")
        return tally.counted == 45 and await both_agree(poll)

    await wait_until_async(released, what="the release in both tallies")
    # More of what a person found honest is shown to people, not held.
    await poll.add(counted(20, 2, seed=5))

    async def continued():
        return await postgres.fetchval("SELECT count(*) FROM flags WHERE continues = 1") == 1

    await wait_until_async(continued, what="the case to be continued")
    await poll.add(counted(1, 1))  # one more pass
    passes = one.metric("pass_seconds_count")
    await wait_until_async(_true_when(lambda: one.metric("pass_seconds_count") > passes))
    assert (await read_tally(postgres, "spring")).held == 0
    await one.end()


def _true_when(condition):
    async def true():
        return condition()

    return true


async def test_the_same_case_is_flagged_once_and_its_growth_is_held_too(
    start, poll, postgres, monkeypatch
):
    detector(monkeypatch, [2])
    await poll.add(counted(40, 2))
    one = start()
    for more, flags in ((0, 1), (3, 1), (12, 2)):
        if more:
            await poll.add(counted(more, 2, seed=more))
        passes = one.metric("pass_seconds_count")
        await poll.add(counted(1, 1, seed=more))
        await wait_until_async(
            _true_when(lambda passes=passes: one.metric("pass_seconds_count") > passes)
        )

        async def as_many(flags=flags):
            return await postgres.fetchval("SELECT count(*) FROM flags") == flags

        await wait_until_async(as_many, what=f"{flags} flags")
    rows = await postgres.fetch("SELECT number, continues, votes FROM flags ORDER BY number")
    assert [tuple(row) for row in rows] == [(1, None, 40), (2, 1, 15)]

    async def all_held():
        return (await read_tally(postgres, "spring")).held == 55

    await wait_until_async(all_held)
    await one.end()


async def test_one_kind_of_evidence_asks_people_and_holds_nothing(
    start, poll, postgres, monkeypatch
):
    detector(monkeypatch, [2], automatic=False)
    await poll.add(counted(40, 2))
    one = start()

    async def flagged():
        return await postgres.fetchval("SELECT count(*) FROM flags")

    await wait_until_async(flagged, what="the flag")
    await one.end()
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0


async def test_what_a_crash_left_between_flag_and_hold_is_held_by_the_next(
    start, poll, postgres, monkeypatch
):
    detector(monkeypatch, [])
    votes = await poll.add(counted(40, 2))
    await poll.flag(votes)  # and then it died
    one = start()

    async def held():
        return (await read_tally(postgres, "spring")).held == 40

    await wait_until_async(held, what="the hold")
    await one.end()


async def test_what_nobody_decided_is_released_after_20_hours(start, poll, postgres, monkeypatch):
    detector(monkeypatch, [])
    poll.builder.at_us = microseconds(datetime.now(UTC) - timedelta(hours=21))
    held = [vote._replace(verdict=Decision.HOLD, score=4_500) for vote in counted(7, 2)]
    await poll.add(held)
    one = start()

    async def released():
        return (await read_tally(postgres, "spring")).counted == 7 and await both_agree(poll)

    await wait_until_async(released, what="the release")
    assert one.metric("released_votes_total") == 7
    await one.end()


async def test_a_detector_that_fails_costs_its_pass_and_nothing_else(
    start, poll, postgres, events, monkeypatch
):
    detector(monkeypatch, [2], fails=lambda call: call == 1)
    votes = await poll.add(counted(40, 2))
    one = start()
    await wait_until_async(_true_when(lambda: one.metric("failed_passes_total") == 1))

    async def held():
        return (await read_tally(postgres, "spring")).held == 40

    await wait_until_async(held, what="the next pass")
    assert "near-line-pass-failed" in {event["event"] for event in events}
    listed = await postgres.fetchval("SELECT sum(cardinality(seqs)) FROM flag_votes")
    assert listed == len(votes), "no vote came twice"
    await one.end()


async def test_a_second_watch_stands_by_and_takes_over(
    start, poll, postgres, events, tmp_path, monkeypatch
):
    detector(monkeypatch, [2])
    first = start()
    await asyncio.wait_for(first.ready.wait(), 5)
    second = start(folder=tmp_path / "second")
    await asyncio.wait_for(second.ready.wait(), 5)
    lag = second.metric("lag_seconds")
    assert math.isnan(lag), "it does not look"
    await first.end()
    await poll.add(counted(40, 2))

    async def held():
        return (await read_tally(postgres, "spring")).held == 40 and await both_agree(poll)

    await wait_until_async(held, what="the second one at work")
    await second.end()
    names = [event["event"] for event in events]
    assert names[0] == "watch-stands-by"
    assert "watch-took-over" in names


async def test_a_watch_whose_connection_is_cut_goes_on(start, poll, postgres, events, monkeypatch):
    detector(monkeypatch, [2])
    one = start()
    await asyncio.wait_for(one.ready.wait(), 5)
    await postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    )
    await poll.add(counted(40, 2))

    async def held():
        return (await read_tally(postgres, "spring")).held == 40 and await both_agree(poll)

    await wait_until_async(held, what="the hold")
    assert "postgres-away" in {event["event"] for event in events}
    await one.end()


async def test_while_valkey_is_away_decisions_are_taken_and_reach_it_when_it_is_back(
    start, postgres, events
):
    await add_campaign(postgres, "spring")
    poll = Poll(postgres, None)
    flag = await poll.flag(await poll.add(counted(40, 2)), kinds=("agent",))
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        server = EmbeddedValkey(Path(folder), memory_mb=64)
        with running(server) as process:
            one = start(valkey_url=server.url)
            await decide(postgres, Case(flag), Action.HOLD, by="王老师", reason="x")
            await wait_until_async(_true_when(lambda: one.metric("adjudications_total") == 1))
            process.kill()
            process.wait()
        await decide(postgres, Case(flag), Action.STRIKE, by="王老师", reason="x")
        names = {"adjudications-server-away", "tail-server-away"}
        await wait_until_async(_true_when(lambda: names <= {event["event"] for event in events}))
        with running(server):
            await wait_until_async(_true_when(lambda: one.metric("adjudications_total") == 2))
            async with redis.Redis.from_url(server.url) as valkey:
                assert await valkey.hget(tally_key(0, "spring"), "s2") == b"40"
                assert await valkey.hget(head_key(0), "adjudicated") == b"2"
            await one.end()


async def test_an_idle_watch_opens_no_desk(start, poll, tmp_path):
    one = start()
    await wait_until_async(_true_when(lambda: one.metric("look_seconds_count") > 3))
    assert not (tmp_path / "history").exists()
    await one.end()


async def test_a_hot_state_ahead_of_postgres_is_said_and_the_rest_goes_on(
    start, poll, postgres, valkey, events, monkeypatch
):
    detector(monkeypatch, [2], automatic=False)
    await valkey.hset(head_key(0), "adjudicated", 3)
    await poll.add(counted(40, 2))
    one = start()

    async def flagged():
        return await postgres.fetchval("SELECT count(*) FROM flags")

    await wait_until_async(flagged, what="the flag")
    await one.end()
    said = [event for event in events if event["event"] == "adjudications-at-odds"]
    assert len(said) == 1


async def test_the_real_detectors_find_a_planted_script_in_an_honest_crowd(start, postgres):
    """Two hours of 12,000 honest votes with a campus at noon, and 400 of one program."""
    crowd = Crowd(3, hours=2, candidates=60)
    crowd.add("crowd", 12_000)
    crowd.campus_burst(17, 300, at_hour=0.4, minutes=40)
    crowd.script(400, 41, at_hour=0.8, minutes=40)
    columns, groups = crowd.table(shuffle=False)
    await add_campaign(postgres, "spring", candidates=60)
    poll = Poll(postgres, None)
    begins_us = microseconds(datetime.now(UTC)) - 7_200_000_000
    minutes = (columns["at_us"] - START_US) // 60_000_000
    attack = set()
    for minute in range(int(minutes.max()) + 1):
        rows = np.flatnonzero(minutes == minute)
        if not len(rows):
            continue
        poll.builder.at_us = begins_us + minute * 60_000_000
        votes = [vote_of(columns, row, poll.builder.random) for row in rows]
        added = await poll.add(votes, seconds=1)
        attack |= {n for n, row in zip(added, rows, strict=True) if groups[row] == "attack"}
    one = start()
    await wait_until_async(_true_when(lambda: one.metric("pass_seconds_count")), 20)
    await one.end()
    states = await poll.states()
    set_aside = {n for n, state in enumerate(states) if state is State.HELD}
    assert len(set_aside & attack) >= 0.9 * len(attack)
    assert len(set_aside - attack) <= 0.01 * len(set_aside) + 1
    flag = await postgres.fetchrow("SELECT * FROM flags ORDER BY votes DESC LIMIT 1")
    assert flag["automatic"]
    assert len(flag["kinds"]) >= 2
    assert flag["sentence"].endswith("。")
    assert flag["sentence"].count("。") == 1


def vote_of(columns, row, random):
    """A row of the detectors' crowd as the journal would have it."""
    fact = {name: int(column[row]) for name, column in columns.items()}
    return make_vote(random, fact["candidate"], Decision.COUNT)._replace(
        **{name: fact[name].to_bytes(8, "big") for name in ("device", "network", "network_wide")},
        **{
            name: fact[name]
            for name in (
                *("asn", "network_class", "user_agent_class", "tls_hash", "token_age_seconds"),
                *("token_level", "dwell_centiseconds", "score"),
            )
        },
    )


# Days that are over.


async def test_a_day_that_is_over_becomes_a_file_and_teaches_what_a_crowd_looks_like(
    start, poll, postgres, tmp_path, monkeypatch
):
    calls = detector(monkeypatch, [2])
    monkeypatch.setattr(watching, "BASELINES_FROM_VOTES", 0)
    campaign = await read_campaign(postgres, "spring")
    yesterday = campaign.window.day_at(microseconds(datetime.now(UTC) - timedelta(days=1)))
    poll.builder.at_us = yesterday.starts_at_us + 3_600_000_000
    await poll.add([*counted(9, 1), *counted(40, 2)], day=yesterday.date)
    await postgres.execute("UPDATE watermarks SET at = now()")
    one = start()
    path = tmp_path / "history" / f"{yesterday.date}.parquet"

    async def learned():
        return await postgres.fetchrow("SELECT day, learned FROM baselines")

    row = await wait_until_async(learned, what="the baselines")
    assert row["day"] == yesterday.date
    assert path.exists()

    async def held():
        return (await read_tally(postgres, "spring")).held == 40

    await wait_until_async(held, what="what the look over the day found")
    await one.end()
    assert calls[0] is None
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing else is left"

    # The file is not written again, and the votes in it are looked at together with the next day's.
    written = path.stat().st_mtime_ns
    again = start()
    await wait_until_async(_true_when(lambda: again.metric("look_seconds_count") > 3))
    await again.end()
    assert path.stat().st_mtime_ns == written


# The tail.


class Loud:
    """In place of LiveCells: a cell of 30 votes is suspicious."""

    def __init__(self, baselines=None):
        self.baselines = baselines
        self.votes = []

    def add(self, campaign, day, at_us, votes):
        self.votes += [(at_us, vote) for vote in votes]

    def flagged(self, campaign, day, now_us):
        counts = {}
        for at_us, vote in self.votes:
            if at_us >= now_us - 600_000_000:
                key = int(vote["network"]).to_bytes(8, "big") + int(vote["candidate"]).to_bytes(
                    2, "big"
                )
                counts[key] = counts.get(key, 0) + 1
        return {key: live.CellMark(9_600, 0) for key, votes in counts.items() if votes >= 30}

    def capacities(self, campaign, day, per_network=None):
        assert per_network.burst > 0
        return {b"\0" * 8: 3} if self.votes else {}


async def test_a_burst_from_one_network_is_marked_and_its_next_votes_are_held(
    edge, start, valkey, postgres, monkeypatch
):
    monkeypatch.setattr(live, "LiveCells", Loud)
    one = start()
    for _ in range(30):
        await edge.like(await edge.token(), "c001")
    day = datetime.now(edge.parts.catalog.campaigns["spring"].window.zone).date()
    key = cells_key(0, "spring", day)

    async def marked():
        return await valkey.hgetall(key)

    marks = await wait_until_async(marked, what="the mark")
    assert list(marks.values()) == [CELL.pack(9_600, 0)]
    assert await valkey.hgetall(capacity_key(0, "spring", day)) == {b"\0" * 8: b"\x03"}
    status, body = await edge.like(await edge.token(), "c001")
    assert (status, body["outcome"]) == (201, "counted"), "the same answer as to a counted one"
    status, _ = await edge.like(await edge.token(), "c002")
    assert await valkey.hget(tally_key(0, "spring"), "h1") == b"1"
    assert await valkey.hget(tally_key(0, "spring"), "2") == b"1", "other candidates are not marked"
    assert one.metric("cells") == 1
    assert one.metric("votes_total") >= 30
    await one.end()


async def test_marks_that_hold_no_longer_are_taken_away_a_predecessors_too(
    start, poll, valkey, monkeypatch
):
    monkeypatch.setattr(live, "LiveCells", Loud)
    builder = JournalBuilder()
    builder.at_us = microseconds(datetime.now(UTC))
    day = datetime.now(UTC).date()
    key = cells_key(0, "spring", day)
    await valkey.hset(key, b"stale-cell", CELL.pack(9_600, 0))
    await write(valkey, [builder.entry(3, campaign=1, day=day)])
    one = start()

    async def gone():
        return not await valkey.exists(key)

    await wait_until_async(gone, what="the stale mark to go")
    await one.end()


async def test_what_is_older_than_two_hours_is_passed_over(start, poll, valkey, monkeypatch):
    monkeypatch.setattr(live, "LiveCells", Loud)
    builder = JournalBuilder()
    builder.at_us = microseconds(datetime.now(UTC) - timedelta(hours=3))
    old = [builder.entry(4, campaign=1) for _ in range(1_500)]
    builder.at_us = microseconds(datetime.now(UTC))
    await write(valkey, [*old, builder.entry(3, campaign=1)])
    one = start()
    await wait_until_async(_true_when(lambda: one.metric("votes_total") == 3))
    await one.end()


async def test_a_journal_that_was_trimmed_past_us_goes_on_with_what_is_left(
    start, poll, valkey, monkeypatch
):
    monkeypatch.setattr(live, "LiveCells", Loud)
    builder = JournalBuilder()
    builder.at_us = microseconds(datetime.now(UTC))
    await write(valkey, [builder.entry(2, campaign=1) for _ in range(5)])
    one = start()
    await wait_until_async(_true_when(lambda: one.metric("votes_total") == 10))
    later = [builder.entry(2, campaign=1) for _ in range(5)]
    async with valkey.pipeline(transaction=True) as pipeline:
        for entry in later:
            pipeline.xadd(journal_key(0), {"e": entry.packed}, id=str(entry.id))
        pipeline.xtrim(journal_key(0), maxlen=2, approximate=False)
        await pipeline.execute()
    await wait_until_async(_true_when(lambda: one.metric("votes_total") == 14))
    assert await valkey.xlen(journal_key(0)) == 2
    await one.end()


async def test_real_statistics_mark_a_burst_of_one_network_within_a_minute_of_its_first_votes(
    poll, valkey, postgres
):
    """Simulated time: the crowd's votes come over ten minutes, then one network's script."""

    class Known:
        async def known(self, number):
            return KnownCampaign(
                "spring", (await read_campaign(postgres, "spring")).limits.per_network
            )

    async def make_cells(_):
        return live.LiveCells()

    async def in_thread(do, *arguments):
        return do(*arguments)

    random = Random(4)
    builder = JournalBuilder(4)
    now_us = builder.at_us = microseconds(datetime.now(UTC)) - 660_000_000
    day = datetime.fromtimestamp(now_us // 1_000_000, UTC).date()

    class Clock:
        """The store, at the simulated time."""

        def __getattr__(self, name):
            return getattr(valkey, name)

        async def time(self):
            return divmod(now_us, 1_000_000)

    tail = Tail(OneShard(Clock()), Known(), make_cells, in_thread)

    def honest():
        return make_vote(random, random.randint(1, 4), Decision.COUNT)._replace(
            network_class=2,
            user_agent_class=32 + min(int(random.expovariate(0.05)), 200),
            tls_hash=random.randint(1, 6),
            token_age_seconds=int(random.lognormvariate(6, 2)),
            dwell_centiseconds=int(random.lognormvariate(6, 0.9)) % 60_000,
        )

    for _ in range(120):
        await write(
            valkey, [builder.entry([honest() for _ in range(20)], campaign=1, day=day, seconds=5)]
        )
        now_us = builder.at_us
        looked = await tail.look()
    assert looked.cells == 0, "an honest crowd is not marked"
    network = random.randbytes(8)
    first_us = builder.at_us
    while not looked.cells:
        script = [
            honest()._replace(
                network=network, candidate=1, user_agent_class=40, dwell_centiseconds=200,
                token_age_seconds=4, tls_hash=1,
            )
            for _ in range(10)
        ]  # fmt: skip
        await write(
            valkey,
            [builder.entry([honest() for _ in range(20)] + script, campaign=1, day=day, seconds=5)],
        )
        now_us = builder.at_us
        looked = await tail.look()
        assert builder.at_us - first_us <= 60_000_000, "a minute has passed"
    marks = await valkey.hgetall(cells_key(0, "spring", day))
    assert network + (1).to_bytes(2, "big") in marks
    assert all(CELL.unpack(mark)[0] > 5_000 for mark in marks.values())
