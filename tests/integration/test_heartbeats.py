"""Who is there and how they do: heartbeats of real processes, and what is made of them."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from tally import flusher, parts, watch
from tally.parts import (
    Beat,
    HotHead,
    Lag,
    PartState,
    lag_of,
    look_at_parts,
    processes,
    status_of,
    store_status,
)
from tests.campaigns import add_campaign
from tests.conftest import OneShard, captured_logs, wait_until_async
from tests.integration.conftest import running_edge
from voting import heartbeat
from voting.heartbeat import Heartbeat, Part, beating
from voting.settings import load_settings

NOW = datetime(2026, 7, 5, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A word at each chance to say one."""
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)


async def beats(connection):
    rows = await connection.fetch("SELECT name, instance, at, facts FROM parts")
    return {row["name"]: (row["instance"], row["at"], json.loads(row["facts"])) for row in rows}


async def said(connection, part, condition=lambda facts: True):
    """Its facts, as soon as it has said some that fit."""

    async def found():
        known = await beats(connection)
        return known[part][2] if part in known and condition(known[part][2]) else None

    return await wait_until_async(found, what=f"a word of {part}")


def beat(silent=0.0, name="edge", instance="here/0", **facts):
    facts = {"started_at": NOW.isoformat(), **facts}
    return Beat(name, instance, NOW - timedelta(seconds=silent), silent, facts)


# Processes say it.


async def test_an_edge_says_what_it_has_done_since_its_start(edge, postgres):
    before = await said(postgres, "edge")
    assert before["counted"] == 0
    token = await edge.token()
    assert (await edge.like(token))[0] == 201
    facts = await said(postgres, "edge", lambda facts: facts["counted"] == 1)
    assert facts["store_connected"] is True
    assert facts["connections"] >= 1
    assert facts["waiting"] == 0
    assert datetime.fromisoformat(facts["started_at"]) <= datetime.now(UTC)


async def test_a_beat_that_must_wait_keeps_the_edge_from_nothing(edge, postgres, postgres_dsn):
    """Somebody holds the table: the catalog and the likes go on, an import is served in time."""
    holder = await asyncpg.connect(postgres_dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE parts IN ACCESS EXCLUSIVE MODE")
            for n in range(3):
                await add_campaign(postgres, f"held-{n}")
                async with asyncio.timeout(5):
                    await edge.wait_for_campaign(f"held-{n}")
            assert (await edge.like(await edge.token()))[0] == 201
    finally:
        await holder.close()
    await said(postgres, "edge")


async def test_an_edge_serves_a_database_that_has_no_such_table_yet(
    tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch
):
    logs = captured_logs(monkeypatch, heartbeat)
    await postgres.execute("DROP TABLE parts")
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        assert (await edge.like(await edge.token()))[0] == 201
        await add_campaign(postgres, "autumn")
        await edge.wait_for_campaign("autumn")
    assert [entry["event"] for entry in logs] == ["heartbeat-unwritten"], "said once"


@pytest.mark.parametrize(
    ("name", "run", "fact"),
    [("flush", flusher.flush, "lag_seconds"), ("watch", watch.watch, "looked_seconds_ago")],
)
async def test_flusher_and_watch_say_how_late_they_are_and_when_they_stop(
    tmp_path, valkey_url, postgres_dsn, postgres, name, run, fact
):
    settings = load_settings(data_dir=tmp_path, valkey_url=valkey_url, postgres_dsn=postgres_dsn)
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop, lambda: None, CollectorRegistry()))
    try:
        facts = await said(postgres, name)
        assert facts[fact] < 10
        assert "stopped" not in facts
    finally:
        stop.set()
        await asyncio.wait_for(running, 15)
    assert (await beats(postgres))[name][2]["stopped"] is True


async def test_who_stands_by_says_nothing(postgres, postgres_dsn):
    async with beating(postgres_dsn, Heartbeat(Part.FLUSH, "here", lambda: None)):
        async with beating(postgres_dsn, Heartbeat(Part.WATCH, "here", dict)):
            await said(postgres, "watch")
        assert "flush" not in await beats(postgres)


async def test_a_database_that_is_away_is_waited_for_and_hurts_nobody(postgres, postgres_dsn):
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with beating(nowhere, Heartbeat(Part.CONSOLE, "here", dict)):
        await asyncio.sleep(0)
    async with beating(postgres_dsn, Heartbeat(Part.CONSOLE, "here", dict)):
        first = await said(postgres, "console")
        await postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await postgres.execute("DELETE FROM parts")
        assert await said(postgres, "console") == first


async def test_facts_that_fail_hurt_nobody(postgres_dsn, monkeypatch):
    logs = captured_logs(monkeypatch, heartbeat)

    def broken():
        raise ZeroDivisionError

    async with beating(postgres_dsn, Heartbeat(Part.CONSOLE, "here", broken)):

        async def logged():
            return logs

        await wait_until_async(logged, what="a word in the log")


async def test_words_of_long_ago_are_removed(postgres, postgres_dsn):
    await postgres.execute(
        "INSERT INTO parts VALUES ('edge', 'gone', now() - interval '25 hours', '{}'),"
        " ('edge', 'lately', now() - interval '23 hours', '{}')"
    )
    async with beating(postgres_dsn, Heartbeat(Part.CONSOLE, "here", dict)):
        await said(postgres, "console")

        async def swept():
            rows = await postgres.fetch("SELECT instance FROM parts ORDER BY instance")
            return [row["instance"] for row in rows] == ["here", "lately"]

        await wait_until_async(swept, what="the sweep")


# What is made of it.


@pytest.mark.parametrize(
    ("found", "state", "why"),
    [
        (beat(), PartState.OK, None),
        (beat(14), PartState.OK, None),
        (beat(16), PartState.SLOW, "silent"),
        (beat(31), PartState.DOWN, "silent"),
        (beat(stopped=True), PartState.SLOW, "stopped"),
        (beat(31, stopped=True), PartState.DOWN, "stopped"),
        (beat(store_connected=False), PartState.SLOW, "store-away"),
        (beat(store_connected=True), PartState.OK, None),
        (beat(name="flush", lag_seconds=4.9), PartState.OK, None),
        (beat(name="flush", lag_seconds=5.1), PartState.SLOW, "lag"),
        (beat(name="watch", looked_seconds_ago=31), PartState.SLOW, "looks-late"),
        (beat(31, store_connected=False), PartState.DOWN, "silent"),
    ],
)
def test_state_of_a_process(found, state, why):
    status = status_of(found)
    assert (status.state, status.facts.get("why")) == (state, why)
    assert status.since == (NOW if state is PartState.OK else found.at)


def test_a_flushers_lag_is_what_is_measured_now_whatever_it_said_last():
    status = status_of(beat(name="flush", lag_seconds=0.1), Lag(70_000, 12.0))
    assert (status.state, status.facts["why"]) == (PartState.SLOW, "lag")
    assert (status.facts["lag_votes"], status.facts["lag_seconds"]) == (70_000, 12.0)


def test_a_part_that_nobody_has_heard_of_is_said_to_be_missing():
    found = {status.name: status.state for status in processes([beat()])}
    assert found == {
        "edge": PartState.OK, "flush": PartState.NEVER, "watch": PartState.NEVER,
        "publish": PartState.NEVER, "console": PartState.NEVER,
    }  # fmt: skip


def test_an_edge_that_was_stopped_while_others_go_on_is_no_news():
    edges = [beat(), beat(500, instance="here/1", stopped=True), beat(500, instance="here/2")]
    found = [s for s in processes(edges) if s.name == "edge"]
    assert [(s.instance, s.state) for s in found] == [
        ("here/0", PartState.OK), ("here/2", PartState.DOWN),
    ]  # fmt: skip
    alone = [s for s in processes([beat(500, stopped=True)]) if s.name == "edge"]
    assert [s.state for s in alone] == [PartState.DOWN]


@pytest.mark.parametrize(
    ("info", "state", "why"),
    [
        ({}, PartState.OK, None),
        ({"used_memory": 79, "maxmemory": 100}, PartState.OK, None),
        ({"used_memory": 81, "maxmemory": 100}, PartState.SLOW, "memory"),
        ({"used_memory": 81, "maxmemory": 0}, PartState.OK, None),
        ({"aof_last_write_status": "err"}, PartState.SLOW, "append-only-file"),
        ({"aof_last_bgrewrite_status": "err"}, PartState.SLOW, "append-only-file"),
        ({"aof_enabled": 0}, PartState.SLOW, "append-only-file"),
    ],
)
def test_state_of_the_store(info, state, why):
    status = store_status({"uptime_in_seconds": 60, **info}, 1.0, NOW)
    assert (status.state, status.facts.get("why")) == (state, why)


def test_a_store_that_answers_late_is_slow():
    assert store_status({}, 200.0, NOW).facts["why"] == "slow-answer"


def test_lag_is_what_the_journal_has_and_the_database_lacks():
    now_us = int(NOW.timestamp()) * 1_000_000
    long_ago = NOW - timedelta(seconds=90)
    assert lag_of([HotHead(0, 1, 70, now_us)], [(0, 1, 50, long_ago)]) == Lag(20, 90.0)
    assert lag_of([HotHead(0, 1, 50, now_us)], [(0, 1, 50, long_ago)]) == Lag(0, 0.0)
    assert lag_of([HotHead(0, 1, 50, now_us)], []) is None
    assert lag_of([], [(0, 1, 50, long_ago)]) is None


async def test_every_part_is_looked_at_along_the_way_of_a_vote(edge, postgres, valkey):
    await said(postgres, "edge")
    found = await look_at_parts(lambda: contextlib.nullcontext(postgres), OneShard(valkey))
    assert [status.name for status in found] == [
        "edge", "store", "flush", "postgres", "watch", "publish", "console",
    ]  # fmt: skip
    states = {status.name: status.state for status in found}
    assert states["edge"] is states["postgres"] is PartState.OK
    store = found[1]
    assert store.facts["memory_bytes"] > 0
    assert abs((store.since - datetime.now(UTC)).total_seconds()) < 3600


async def test_servers_that_are_away_are_down_and_nothing_is_claimed_of_the_rest(
    postgres, valkey, monkeypatch
):
    monkeypatch.setattr(parts, "_ASK_SECONDS", 0.5)
    away = redis.Redis.from_url("redis://127.0.0.1:1")

    def no_postgres():
        raise OSError("no route")

    found = await look_at_parts(no_postgres, OneShard(away))
    assert [(s.name, s.state, s.facts["why"]) for s in found] == [
        ("store", PartState.DOWN, "away"),
        ("postgres", PartState.DOWN, "away"),
    ]
    await away.aclose()
