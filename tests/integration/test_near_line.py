"""The desk holds what Postgres holds, each vote once, and finds where a flag's votes lie."""

import asyncio
import threading
from datetime import UTC, date, datetime, timedelta
from random import Random

import duckdb
import numpy as np
import pytest

from antifraud import detectors
from antifraud.flags import Flag
from tally import near_line
from tally.day_files import day_file, kept_days
from tally.near_line import Desk
from tally.vote_arrays import positions_of, vote_ids
from tests.campaigns import add_campaign
from tests.decided import Poll
from tests.journal_builder import make_vote
from voting.campaign import microseconds

COLUMNS = (
    *("at_us", "day", "campaign", "candidate", "device", "network", "network_wide", "asn"),
    *("network_class", "user_agent_class", "tls_hash", "token_age_seconds", "token_level"),
    *("dwell_centiseconds", "score"),
)


@pytest.fixture
async def poll(postgres):
    await add_campaign(postgres, "spring", candidates=750)
    poll = Poll(postgres, None)
    poll.builder.at_us = microseconds(datetime.now(UTC) - timedelta(hours=1))
    return poll


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "history")
    yield desk
    desk.close()


async def in_thread(do, *arguments):
    return await asyncio.to_thread(do, *arguments)


def on_desk(desk, days=None):
    """vote -> its columns."""
    with desk._votes(days):
        rows = desk._db.execute(f"SELECT vote, {', '.join(COLUMNS)} FROM all_votes").fetchall()
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(rows), "no vote is there twice"
    return found


async def in_postgres(postgres):
    found = {}
    for row in await postgres.fetch("SELECT * FROM votes"):
        (vote,) = vote_ids(*(np.array([row[name]]) for name in ("shard", "epoch", "seq"))).tolist()
        at_us = microseconds(row["at"])
        day = (row["day"] - date(1970, 1, 1)).days
        found[vote] = (at_us, day, *(row[name] for name in COLUMNS[2:]))
    return found


def some(number, seed=0):
    random = Random(seed)
    return [make_vote(random) for _ in range(number)]


@pytest.mark.parametrize("young_max", [3, 200_000])
async def test_every_vote_comes_once_with_every_column_as_postgres_has_it(
    desk, poll, postgres, monkeypatch, young_max
):
    monkeypatch.setattr(near_line, "YOUNG_VOTES_MAX", young_max)
    other = Poll(postgres, None, shard=1, seed=5)
    other.builder.at_us = poll.builder.at_us
    total = 0
    for step in range(4):
        await poll.add(some(5, step))
        await other.add(some(step, 10 + step))
        total += 5 + step
        assert await desk.copy_recent(postgres, in_thread) == 5 + step
        assert on_desk(desk) == await in_postgres(postgres)
        poll.builder.new_epoch(-2 if step == 1 else 0)
    assert await desk.copy_recent(postgres, in_thread) == 0
    assert len(on_desk(desk)) == total


async def test_many_rows_are_cut_into_arrays_as_they_come(desk, poll, postgres, monkeypatch):
    monkeypatch.setattr(near_line, "_TAKEN_AT_ONCE", 100)
    await poll.add(some(4_000))
    assert await desk.copy_recent(postgres, in_thread) == 4_000
    assert on_desk(desk) == await in_postgres(postgres)


async def test_what_is_older_than_two_hours_goes_with_its_file(
    desk, poll, postgres, tmp_path, monkeypatch
):
    monkeypatch.setattr(near_line, "YOUNG_VOTES_MAX", 1)
    poll.builder.at_us -= 3_600_000_000
    await poll.add(some(4))
    await desk.copy_recent(postgres, in_thread)
    await poll.add(some(3, 1), seconds=7_000)
    await desk.copy_recent(postgres, in_thread)
    assert len(on_desk(desk)) == 7
    await poll.add(some(2, 2), seconds=600)
    await desk.copy_recent(postgres, in_thread)
    assert len(on_desk(desk)) == 5
    assert len(list((tmp_path / "history" / "recent").glob("*.parquet"))) == 2


async def test_a_desk_that_is_opened_late_copies_two_hours_back_over_midnight(desk, poll, postgres):
    # 23:30 of the campaign's day, and 00:20 of the next.
    poll.builder.at_us = microseconds(datetime(2026, 7, 5, 15, 30, tzinfo=UTC))
    await poll.add(some(3), seconds=-7_200)
    await poll.add(some(4, 1), seconds=7_200)
    await poll.add(some(5, 2), seconds=3_000)
    assert await postgres.fetchval("SELECT count(DISTINCT day) FROM votes") == 2
    assert await desk.copy_recent(postgres, in_thread) == 9


async def test_a_past_day_is_written_whole_and_only_its_campaign_is_looked_at(
    desk, poll, postgres, tmp_path, monkeypatch
):
    day = date(2026, 7, 5)
    poll.builder.at_us = microseconds(datetime(2026, 7, 5, 4, tzinfo=UTC))
    await poll.add(some(30))
    await poll.add(some(7, 1), campaign=2)
    assert await desk.copy_day(postgres, in_thread, day) == 37
    assert kept_days(tmp_path / "history") == [day]
    assert on_desk(desk, [day]) == await in_postgres(postgres)
    assert desk.campaigns([day]) == [1, 2]
    seen = []

    def detect(db, *, baselines=None, learn_anew=True):
        (seen_votes,) = db.execute("SELECT count(*) FROM votes").fetchone()
        seen.append(seen_votes)
        return detectors.Found((), None)

    monkeypatch.setattr(near_line, "detect", detect)
    assert desk.detect(1, None, [day])[2] == 30
    assert desk.detect(2, None, [day])[2] == 7
    assert seen == [30, 7]


async def test_a_day_that_could_not_be_written_whole_is_not_there(
    desk, poll, postgres, tmp_path, monkeypatch
):
    poll.builder.at_us = microseconds(datetime(2026, 7, 5, 4, tzinfo=UTC))
    await poll.add(some(5))
    day = date(2026, 7, 5)
    day_file(tmp_path / "history", day).with_suffix(".unfinished").mkdir()
    with pytest.raises(duckdb.Error):
        await desk.copy_day(postgres, in_thread, day)
    assert kept_days(tmp_path / "history") == []


async def test_flags_come_with_day_and_candidate_of_each_of_their_votes(
    desk, poll, postgres, monkeypatch
):
    await poll.add(some(20))
    await desk.copy_recent(postgres, in_thread)
    listed = on_desk(desk)
    chosen = np.array(sorted(listed)[3:9], np.int64)

    def detect(db, *, baselines=None, learn_anew=True):
        flag = Flag(("x",), 1, ("agent",), {}, "。", {}, 1.0, chosen)
        return detectors.Found((flag,), None)

    monkeypatch.setattr(near_line, "detect", detect)
    ((found,), _, votes) = desk.detect(1, None)
    assert votes == 20
    for vote, day, candidate in zip(chosen, found.days, found.candidates, strict=True):
        assert (day, candidate) == (listed[vote][1], listed[vote][3])
    shards, epochs, seqs = positions_of(chosen)
    assert set(shards) == {0}
    assert set(epochs) == {1}
    assert seqs.tolist() == [4, 5, 6, 7, 8, 9]


def test_positions_go_through_one_number_over_their_whole_range():
    shard, epoch, seq = (
        np.array(some) for some in ([0, 0, 127], [0, 1, 65_535], [0, 7, 2**40 - 1])
    )
    ids = vote_ids(shard, epoch, seq)
    assert ids.tolist() == sorted(ids.tolist())
    assert (ids >= 0).all()
    for back, given in zip(positions_of(ids), (shard, epoch, seq), strict=True):
        assert back.tolist() == given.tolist()


async def test_a_pass_is_cut_short_from_another_thread(desk):
    """A stop must not wait for a query over all days."""
    started = threading.Event()

    def long():
        started.set()
        desk._db.execute(
            "SELECT count(*) FROM range(100000000) a, range(1000) b WHERE a.range % 7 = b.range % 5"
        ).fetchall()

    running = asyncio.create_task(in_thread(long))
    await asyncio.to_thread(started.wait)
    while not running.done():
        desk.interrupt()
        await asyncio.wait({running}, timeout=0.05)
    with pytest.raises(duckdb.InterruptException):
        await running


def test_the_folder_is_closed_to_others_and_a_desk_before_us_leaves_nothing(tmp_path):
    folder = tmp_path / "history"
    first = Desk(folder)
    (folder / "recent" / "1.parquet").write_bytes(b"x")
    second = Desk(folder)
    assert list((folder / "recent").glob("*.parquet")) == []
    assert folder.stat().st_mode & 0o077 == 0
    for desk in (first, second):
        desk.close()
