"""Tallies out of Postgres and out of the hot state, and the commands that show them."""

import asyncio
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from urllib.request import urlopen

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from antifraud.screen import Decision
from tally.flusher import Flusher, FlusherMetrics
from tally.tallies import TallyError, UnknownCampaign, read_campaign, read_hot_tally, read_tally
from tests.campaigns import add_campaign
from tests.conftest import OneShard, wait_until_async
from tests.journal_builder import JournalBuilder, make_vote, write
from voting.ballot import Outcome
from voting.journal import Refusal, tally_key


async def flush_all(valkey_url, postgres_dsn):
    stop = asyncio.Event()
    stop.set()
    await Flusher(
        postgres_dsn=postgres_dsn,
        valkey_url=valkey_url,
        stop=stop,
        ready=lambda: None,
        metrics=FlusherMetrics(CollectorRegistry()),
    ).run()


async def fill(valkey, postgres):
    """Two campaigns' votes in the journal; 7 counted, 2 held and 6 refused are of "spring"."""
    spring = await add_campaign(postgres, "spring", candidates=3)
    other = await add_campaign(postgres, "autumn", candidates=3)
    builder = JournalBuilder()
    votes = [make_vote(builder.random, 1, Decision.COUNT) for _ in range(5)]
    votes += [make_vote(builder.random, 3, Decision.COUNT) for _ in range(2)]
    votes += [make_vote(builder.random, 3, Decision.HOLD) for _ in range(2)]
    refusals = [Refusal(1, Outcome.THROTTLED, 4), Refusal(2, Outcome.QUOTA_SPENT, 2)]
    await write(
        valkey,
        [
            builder.entry(votes, refusals, campaign=spring),
            builder.entry(votes[:3], refusals, campaign=other),
        ],
    )
    return builder


async def test_the_tally_of_postgres_counts_every_candidate_and_no_other_campaign(
    valkey, valkey_url, postgres, postgres_dsn
):
    builder = await fill(valkey, postgres)
    await flush_all(valkey_url, postgres_dsn)
    tally = await read_tally(postgres, "spring")
    assert (tally.received, tally.counted, tally.held, tally.struck, tally.refused) == (
        15, 7, 2, 0, 6,
    )  # fmt: skip
    assert list(tally.counts.items()) == [("c001", 5), ("c002", 0), ("c003", 2)]
    assert tally.as_of.utcoffset() == timedelta(hours=8)
    # Flushed to the end: nothing is missing up to the store's time of that look.
    assert tally.as_of >= datetime.fromtimestamp(builder.at_us // 1_000_000, UTC)
    assert await read_tally(postgres_dsn, "spring") == tally


async def test_before_the_first_flush_a_tally_is_empty_and_says_that_it_knows_nothing(postgres):
    await add_campaign(postgres, candidates=2)
    tally = await read_tally(postgres, "spring")
    assert (tally.received, tally.counts) == (0, {"c001": 0, "c002": 0})
    assert tally.as_of.timestamp() == 0


async def test_an_unknown_campaign_is_an_error_that_names_the_known_ones(postgres):
    await add_campaign(postgres, "spring")
    with pytest.raises(UnknownCampaign, match="'winter'; known: spring"):
        await read_tally(postgres, "winter")


async def test_votes_for_a_candidate_that_the_catalog_does_not_know_are_never_left_out(postgres):
    number = await add_campaign(postgres, candidates=2)
    await postgres.execute("INSERT INTO tallies VALUES ($1, 9, 4, 0, 0)", number)
    with pytest.raises(TallyError, match=r"unknown candidates \[9\]"):
        await read_tally(postgres, "spring")


async def test_the_hot_tally_reads_every_kind_of_field(valkey, postgres):
    await add_campaign(postgres, candidates=3)
    campaign = await read_campaign(postgres, "spring")
    await valkey.hset(
        tally_key(0, "spring"),
        mapping={"1": 5, "3": 2, "h1": 3, "h2": 1, "s2": 6, "r1:6": 7, "r2:4": 1},
    )
    tally = await read_hot_tally(OneShard(valkey), campaign)
    assert (tally.counted, tally.held, tally.struck, tally.refused) == (7, 4, 6, 8)
    assert tally.counts == {"c001": 5, "c002": 0, "c003": 2}
    seconds, _ = await valkey.time()
    assert abs(tally.as_of.timestamp() - seconds) < 2
    assert tally.as_of.utcoffset() == timedelta(hours=8)

    await valkey.hset(tally_key(0, "spring"), "x1", 1)
    with pytest.raises(TallyError, match="x1"):
        await read_hot_tally(OneShard(valkey), campaign)


async def test_likes_given_at_the_edge_are_the_same_hot_and_in_postgres(
    edge, valkey, valkey_url, postgres, postgres_dsn
):
    for device in range(6):
        token = await edge.token()
        for candidate in range(device):  # three a day: the fourth is refused
            await edge.like(token, f"c{candidate + 1:03}")
    campaign = await read_campaign(postgres, "spring")
    hot = await read_hot_tally(OneShard(valkey), campaign)
    await flush_all(valkey_url, postgres_dsn)
    cold = await read_tally(postgres, "spring")
    assert hot.counted == 12
    assert hot.refused == 3
    for name in ("received", "counted", "held", "struck", "refused", "counts"):
        assert getattr(cold, name) == getattr(hot, name), name
    rows = await postgres.fetch("SELECT candidate, count(*) AS n FROM votes GROUP BY candidate")
    assert {f"c{row['candidate']:03}": row["n"] for row in rows} == {
        id_: n for id_, n in cold.counts.items() if n
    }


async def test_dianzan_tally_prints_the_json_of_the_contract(
    dianzan, valkey, valkey_url, postgres, postgres_dsn
):
    await fill(valkey, postgres)
    await flush_all(valkey_url, postgres_dsn)
    done = await dianzan("tally", "--campaign", "spring", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == (await read_tally(postgres, "spring")).as_json()
    assert done.out.count("\n") == 1

    table = await dianzan("tally", "--campaign", "spring")
    assert "received 15 = counted 7 + held 2 + struck 0 + refused 6" in table.out
    assert "c002" in table.out

    await valkey.hset(tally_key(0, "spring"), "2", 9)
    hot = await dianzan("tally", "--campaign", "spring", "--json", "--hot")
    assert json.loads(hot.out)["counts"] == {"c001": 0, "c002": 9, "c003": 0}


async def test_dianzan_tally_of_an_unknown_campaign_is_one_line_and_exit_code_2(dianzan, postgres):
    done = await dianzan("tally", "--campaign", "winter", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err == "dianzan: no campaign 'winter'; known: none\n"


@pytest.mark.parametrize("command", [("tally", "--campaign", "x"), ("flush",), ("migrate",)])
async def test_without_servers_a_command_says_what_is_missing(dianzan, tmp_path, command):
    done = await dianzan(*command, without=("DIANZAN_VALKEY_URL", "DIANZAN_POSTGRES_DSN"))
    assert (done.code, done.out) == (2, "")
    assert f"`dianzan up` is not running on the data folder {tmp_path}" in done.err
    assert "is not set" in done.err
    assert done.err.count("\n") == 1


async def test_dianzan_migrate_prints_what_it_applied(dianzan, postgres_server, environment):
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute("CREATE DATABASE fresh TEMPLATE template0")
    environment["DIANZAN_POSTGRES_DSN"] = postgres_server.url.replace("@/dianzan", "@/fresh")
    try:
        first, second = await dianzan("migrate"), await dianzan("migrate")
    finally:
        await admin.execute("DROP DATABASE fresh WITH (FORCE)")
        await admin.close()
    assert (first.code, first.out.splitlines()[0]) == (0, "0001_spine")
    assert (second.code, second.out) == (0, "")


async def test_dianzan_flush_announces_itself_serves_metrics_and_stops_on_sigterm(
    start, valkey, postgres
):
    await fill(valkey, postgres)
    read_end, write_end = os.pipe()
    process = await start("flush", "--ready-fd", str(write_end), pass_fds=(write_end,))
    os.close(write_end)
    with os.fdopen(read_end) as ready:
        announced = json.loads(await asyncio.to_thread(ready.readline))

    async def flushed():
        return await postgres.fetchval("SELECT count(*) FROM votes") == 12

    await wait_until_async(flushed, what="the votes")
    url = f"{announced['admin']}/metrics"

    async def told():
        metrics = await asyncio.to_thread(lambda: urlopen(url).read().decode())  # noqa: S310
        return "dianzan_flush_votes_total 12.0" in metrics and "dianzan_flush_lag_se" in metrics

    await wait_until_async(told, what="the metrics")
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in err


async def test_dianzan_flush_stops_when_its_starter_is_gone(start, postgres):
    read_end, write_end = os.pipe()
    process = await start("flush", "--lifeline-fd", str(read_end), pass_fds=(read_end,))
    os.close(read_end)

    async def at_work():
        return await postgres.fetchval("SELECT count(*) FROM watermarks") == 1

    await wait_until_async(at_work, what="the flusher")
    os.close(write_end)
    await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0


async def test_dianzan_flush_says_in_one_line_why_it_cannot_go_on(dianzan, valkey, postgres):
    builder = JournalBuilder()
    first, _, third = builder.entry(), builder.entry(), builder.entry()
    await write(valkey, [first, third])
    done = await dianzan("flush")
    assert (done.code, done.out) == (1, "")
    said = json.loads(done.err)
    assert said["event"] == "flusher-failed"
    assert said["why"] == "JournalError: entry 1-1 is missing: 1-2 comes next"
    assert said["process"] == "flush"
