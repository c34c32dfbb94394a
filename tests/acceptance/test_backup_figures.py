"""How long it takes to come back. Nothing is held against a clock: what was measured is printed.

DIANZAN_VOTES=10000000 pytest -m slow tests/acceptance/test_backup_figures.py -s
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import numpy as np
import pytest
import redis.asyncio as redis

from deploy.local.servers import EmbeddedPostgres
from tally.rows import Batch, Placed
from tally.store import ShardStore
from tests.acceptance.conftest import PROGRAM, a_service
from tests.acceptance.test_nothing_is_lost import CAMPAIGN, import_campaign, tally
from tests.conftest import wait_until
from voting.journal import VOTE, Entry, EntryId, day_key

VOTES = int(os.environ.get("DIANZAN_VOTES", "300000"))
DAYS, CANDIDATES, LIKES_OF_A_DEVICE = 10, 744, 5
"""A tenth of the votes is of today: those the hot state is told of, one by one."""
_OF_AN_ENTRY, _OF_A_BATCH = 64, 4_096
_VOTE = np.dtype(
    [
        ("device", "V8"), ("networks", "V16"), ("candidate", ">u2"), ("click", "V6"),
        ("asn", ">u4"), ("classes", ">u2"), ("tls", ">u4"), ("age", ">u4"), ("level", "u1"),
        ("dwell", ">u2"), ("rules", ">u2"), ("score", ">i2"), ("reasons", "V3"), ("verdict", "u1"),
    ]
)  # fmt: skip
"""A packed vote."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


def packed_votes(random, number):
    """So many counted votes with what cannot be compressed drawn at random; candidates by Zipf."""
    votes = np.zeros(number, _VOTE)
    devices = random.bytes(8 * (number // LIKES_OF_A_DEVICE + 1))
    networks = random.bytes(16 * (number // LIKES_OF_A_DEVICE + 1))
    votes["device"] = np.repeat(np.frombuffer(devices, "V8"), LIKES_OF_A_DEVICE)[:number]
    votes["networks"] = np.repeat(np.frombuffer(networks, "V16"), LIKES_OF_A_DEVICE)[:number]
    weights = np.arange(1, CANDIDATES + 1) ** -0.9
    # Of a device's likes each is for another candidate.
    draws = random.choice(CANDIDATES, number, p=weights / weights.sum())
    votes["candidate"] = (draws + 17 * np.arange(number) % CANDIDATES) % CANDIDATES + 1
    votes["click"] = np.frombuffer(random.bytes(6 * number), "V6")
    votes["asn"] = random.integers(1, 60_000, number)
    votes["classes"] = random.integers(0, 6, number)
    votes["tls"] = random.integers(0, 40, number)
    votes["age"] = random.integers(0, 86_400, number)
    votes["level"] = 1
    votes["dwell"] = random.integers(50, 3_000, number)
    return votes.tobytes()


async def fill(dsn, votes):
    """The votes and their sums, as the flusher brings them, over DAYS days of which today is the
    last."""
    random = np.random.default_rng(7)
    connection = await asyncpg.connect(dsn)
    store = ShardStore(connection, 0)
    await store.open()
    number = await connection.fetchval("SELECT number FROM campaigns WHERE id = $1", CAMPAIGN)
    now = datetime.now(ZoneInfo("Asia/Shanghai"))
    placed, seq, entries = [], 1, 0
    for ago in reversed(range(DAYS)):
        day = now.date() - timedelta(days=ago)
        begun = datetime.combine(day, datetime.min.time(), now.tzinfo)
        lasted = min(timedelta(days=1), now - begun)
        packed = packed_votes(random, votes // DAYS)
        step = _OF_AN_ENTRY * VOTE.size
        for at in range(0, len(packed), step):
            moment = begun + lasted * (at / len(packed))
            at_us = int(moment.astimezone(UTC).timestamp() * 1e6)
            part = packed[at : at + step]
            entry = Entry(0, 1, number, day, at_us, seq, part, ())
            placed.append(Placed(EntryId(1, entries), entry))
            seq += entry.vote_count
            entries += 1
            if len(placed) * _OF_AN_ENTRY >= _OF_A_BATCH:
                await store.add_entries(Batch(placed))
                placed = []
    if placed:
        await store.add_entries(Batch(placed))
    await connection.close()


def with_postgres_alone(service, act):
    """Run `act(dsn)` on the database of a service that is stopped."""
    server = EmbeddedPostgres(service.data_dir)
    server.prepare()
    process = subprocess.Popen(
        server.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(server.is_ready, 60, "Postgres")
        asyncio.run(act(server.url))
    finally:
        process.send_signal(server.stop_signal)
        process.wait(60)


def told(service, votes):
    """The tally, once Postgres and the hot state hold all votes."""

    def whole():
        flushed, hot = tally(service), tally(service, "--hot")
        del flushed["as_of"], hot["as_of"]
        return flushed if flushed == hot and flushed["counted"] == votes else None

    return wait_until(whole, 1_200, "both tallies to be whole")


def leaves_in(service):
    async def read():
        connection = await asyncpg.connect(service.ready["postgres"])
        try:
            return await connection.fetchval(
                "SELECT coalesce(sum(size), 0) FROM logs WHERE log = 0"
            )
        finally:
            await connection.close()

    return asyncio.run(read())


def devices_of_the_last_day(service):
    """How many devices liked on it, as Postgres has it and as the hot state remembers it."""

    async def read():
        connection = await asyncpg.connect(service.ready["postgres"])
        try:
            day = await connection.fetchval("SELECT max(day) FROM votes")
            devices = await connection.fetchval(
                "SELECT count(DISTINCT device) FROM votes WHERE day = $1", day
            )
        finally:
            await connection.close()
        async with redis.Redis.from_url(service.ready["valkey"]) as valkey:
            return devices, await valkey.hlen(day_key(0, CAMPAIGN, day))

    return asyncio.run(read())


class Stopwatch:
    def __init__(self):
        self.seconds = {}

    def time(self, what, act):
        begun = time.monotonic()
        done = act()
        self.seconds[what] = round(time.monotonic() - begun, 1)
        print(f"{what}: {self.seconds[what]} s", flush=True)
        return done


def run(service, *arguments):
    done = subprocess.run(
        [PROGRAM, *arguments], env=service.environment, cwd=service.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_votes_come_back_from_a_backup_with_their_sums_and_their_log(tmp_path):
    assert _VOTE.itemsize == VOTE.size
    watch = Stopwatch()
    backup = tmp_path / "backup"
    store = {"DIANZAN_STORE_MEMORY_MB": "4096"}
    with a_service(**store) as original:
        original.up()
        import_campaign(original, tmp_path)
        original.stop()
        shutil.rmtree(original.data_dir / "valkey")
        watch.time("fill", lambda: with_postgres_alone(original, lambda dsn: fill(dsn, VOTES)))
        original.up()
        before = watch.time("its own empty store is told", lambda: told(original, VOTES))
        watch.time(
            "the log has every vote",
            lambda: wait_until(lambda: leaves_in(original) >= VOTES, 1_200, "every leaf"),
        )
        watch.time("backup", lambda: run(original, "backup", "--out", backup, "--with-keys"))
    manifest = json.loads((backup / "manifest.json").read_text())
    size = sum(each["bytes"] for each in manifest["files"].values())
    with a_service(**store) as copy:
        watch.time("restore", lambda: run(copy, "restore", backup))
        watch.time("up", copy.up)
        assert watch.time("its empty store is told", lambda: told(copy, VOTES)) == before
        assert leaves_in(copy) == VOTES
        # Who liked today is known again, each of them.
        devices, remembered = devices_of_the_last_day(copy)
        assert remembered == devices > 0
    back = sum(watch.seconds[what] for what in ("restore", "up", "its empty store is told"))
    print(f"{VOTES:,} votes, {size / 1e6:,.0f} MB: all back after {back:.0f} s")
