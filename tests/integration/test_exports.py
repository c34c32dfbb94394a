"""Votes by day as files: what is in them, what never is, and what a large or broken one costs."""

import asyncio
import contextlib
import csv
import io
import json
import os
import threading
import time
from collections import Counter
from datetime import UTC, timedelta
from random import Random

import asyncpg
import duckdb
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud.screen import Decision
from tally.console import exports as pages_of_exports
from tally.delivery import exports
from tally.delivery.exports import (
    DWELL_STEPS_CENTISECONDS,
    FORMULA_STARTS,
    TOKEN_AGE_STEPS_SECONDS,
    Busy,
    Slots,
    csv_votes,
    exports_folder,
    formula_safe,
    list_days,
    parquet_votes,
    sweep,
)
from tally.holds import Action, OneFlag, decide
from tally.tallies import read_campaign
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.console import console  # noqa: F401  # a fixture
from tests.decided import Poll, counted
from tests.journal_builder import DAY, make_vote

COLUMNS = [
    "at", "candidate_number", "candidate", "name", "state", "verdict", "score_millinats",
    "reasons", "rules_version", "network_class", "user_agent_class", "token_level",
    "challenge_solved", "token_age_from_seconds", "dwell_from_ms",
]  # fmt: skip


@pytest.fixture
async def pool(postgres_dsn):
    async with asyncpg.create_pool(postgres_dsn, min_size=0, max_size=4) as pool:
        yield pool


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


async def read_csv(pool, campaign, day=DAY):
    pieces = [piece async for piece in csv_votes(pool.acquire, campaign, day)]
    text = b"".join(pieces).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


async def read_parquet(pool, campaign, folder, day=DAY):
    built = await parquet_votes(pool.acquire, campaign, day, folder)
    assert names_in(folder) == [], "it has no name any more"
    path = folder / "read.parquet"
    content = b"".join([piece async for piece in built.read()])
    assert len(content) == built.size
    path.write_bytes(content)
    try:
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            found = db.execute(f"SELECT * FROM '{path}'")
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        path.unlink()


def varied(number, seed=1):
    """Votes as they come, of every kind, for four candidates."""
    random = Random(seed)
    return [
        make_vote(random, random.randint(1, 4))._replace(
            network_class=random.randint(0, 5),
            token_level=random.choice((1, 2, 0x11, 0x12, 0x31)),
            reasons=bytes(random.choice((0, 1, 33, 40, 200)) for _ in range(3)),
            dwell_centiseconds=random.choice((0, 7, 120, 65_535)),
        )
        for _ in range(number)
    ]


# What is in a file.


async def test_both_files_have_every_vote_of_the_day_in_its_present_state_and_words(
    poll, postgres, pool, tmp_path
):
    votes = varied(300)
    some = await poll.add(votes[:200])
    await poll.add(votes[200:], seconds=60)
    await poll.add(counted(50), seconds=86_400)
    flag = await poll.flag(some[:40])
    await decide(postgres, OneFlag(flag), Action.STRIKE, by="li", reason="一个脚本")
    campaign = await read_campaign(postgres, "spring")
    in_csv = await read_csv(pool, campaign)
    in_parquet = await read_parquet(pool, campaign, tmp_path / "made")
    assert list(in_csv[0]) == COLUMNS
    assert list(in_parquet[0]) == COLUMNS
    assert len(in_csv) == len(in_parquet) == 300

    struck = {*some[:40]}
    wanted = Counter(
        (
            vote.candidate,
            "struck" if n in struck else ("held" if vote.verdict == Decision.HOLD else "counted"),
            "held" if vote.verdict == Decision.HOLD else "counted",
            vote.score,
            vote.token_age_seconds >= 86_400 * 7,
        )
        for n, vote in enumerate(votes)
    )
    for rows in (in_csv, in_parquet):
        found = Counter(
            (
                int(row["candidate_number"]),
                row["state"],
                row["verdict"],
                int(row["score_millinats"]),
                int(row["token_age_from_seconds"]) == 86_400 * 7,
            )
            for row in rows
        )
        assert found == wanted
    row = in_csv[0]
    assert row["candidate"] == f"c{int(row['candidate_number']):03}"
    assert row["name"] == f"候选人{row['candidate_number']}"
    # Both say the same, but for how times and nothing are written.
    for one, other in zip(in_csv, in_parquet, strict=True):
        there = other["at"].replace(tzinfo=UTC) + timedelta(hours=8)
        assert one["at"] == there.strftime("%Y-%m-%d %H:%M:%S")
        for name in set(COLUMNS) - {"at", "challenge_solved", "dwell_from_ms"}:
            assert one[name] == str(other[name]), name
        assert one["challenge_solved"] == str(int(other["challenge_solved"]))
        assert one["dwell_from_ms"] == str(other["dwell_from_ms"] or "")


async def test_reasons_networks_and_agents_are_named_unknown_ones_too(poll, postgres, pool):
    vote = counted(1)[0]._replace(
        reasons=bytes((1, 40, 250)), network_class=3, user_agent_class=1, token_level=0x12
    )
    odd = vote._replace(reasons=bytes(3), network_class=77, user_agent_class=40, token_level=1)
    await poll.add([vote])
    await poll.add([odd], seconds=5)
    first, second = await read_csv(pool, await read_campaign(postgres, "spring"))
    assert first["reasons"] == "network-limit dwell-below-0.8s reason-250"
    assert (first["network_class"], first["user_agent_class"]) == ("campus", "automation")
    assert (first["token_level"], first["challenge_solved"]) == ("2", "1")
    assert (second["reasons"], second["network_class"]) == ("", "class-77")
    assert (second["user_agent_class"], second["challenge_solved"]) == ("phone-8", "0")


@pytest.mark.parametrize(
    ("column", "steps", "scale", "field"),
    [
        ("token_age_seconds", TOKEN_AGE_STEPS_SECONDS, 1, "token_age_from_seconds"),
        ("dwell_centiseconds", DWELL_STEPS_CENTISECONDS, 10, "dwell_from_ms"),
    ],
)
async def test_times_are_told_in_steps_only(poll, postgres, pool, column, steps, scale, field):
    values = sorted({*steps, *(step + 1 for step in steps), *(step - 1 for step in steps[1:])})
    base = counted(1)[0]
    for value in values:
        await poll.add([base._replace(**{column: value})], seconds=2)
    rows = await read_csv(pool, await read_campaign(postgres, "spring"))
    floors = [max(step for step in steps if step <= value) * scale for value in values]
    assert [int(row[field] or 0) for row in rows] == floors


async def test_nothing_of_a_file_leads_to_a_person(poll, postgres, pool, tmp_path):
    votes = varied(50)
    await poll.add(votes)
    campaign = await read_campaign(postgres, "spring")
    rows = [*await read_csv(pool, campaign), *await read_parquet(pool, campaign, tmp_path / "made")]
    text = json.dumps(rows, default=str)
    stored = await postgres.fetch("SELECT * FROM votes")
    for row in stored:
        for name in ("device", "click", "network", "network_wide", "asn", "tls_hash"):
            assert str(row[name]) not in text, name
    for vote in votes:
        for secret in (vote.device, vote.click, vote.network, vote.network_wide):
            assert secret.hex() not in text
    hidden = {"device", "click", "network", "network_wide", "asn", "tls_hash", "position", "seq"}
    assert not hidden & set(COLUMNS)


async def test_the_order_of_rows_does_not_say_in_which_order_votes_came(poll, postgres, pool):
    votes = varied(200)
    await poll.add(votes)
    campaign = await read_campaign(postgres, "spring")
    rows = await read_csv(pool, campaign)
    other = Poll(postgres, None, campaign=2, campaign_id="autumn", shard=5)
    await add_campaign(postgres, "autumn", candidates=4)
    await other.add(votes[::-1])
    backwards = await read_csv(pool, await read_campaign(postgres, "autumn"))
    assert rows == backwards


@pytest.mark.parametrize("start", FORMULA_STARTS)
async def test_a_name_that_a_sheet_would_run_is_text(poll, postgres, pool, start):
    name = f'{start}cmd|"/c calc"!A1,\n"'.replace("\0", "")
    await postgres.execute("UPDATE candidates SET name = $1 WHERE number = 1", name)
    await poll.add(counted(2, 1))
    rows = await read_csv(pool, await read_campaign(postgres, "spring"))
    assert len(rows) == 2
    for row in rows:
        assert row["name"].replace("\r", "") == formula_safe(name).replace("\r", "")
        if name.startswith(FORMULA_STARTS):
            assert row["name"].startswith("'")


@given(st.text())
def test_no_text_is_a_formula_and_none_is_lost(text):
    safe = formula_safe(text)
    assert not safe.startswith(FORMULA_STARTS)
    assert safe.removeprefix("'") in (
        text.replace("\0", ""),
        text.replace("\0", "").removeprefix("'"),
    )


async def test_days_are_the_campaign_s_own(poll, postgres):
    await poll.add(counted(3))
    await poll.add(counted(5), seconds=86_400)
    days = await list_days(postgres, await read_campaign(postgres, "spring"))
    assert [(one.day, one.counted) for one in days] == [(DAY + timedelta(days=1), 5), (DAY, 3)]


# Who gets one, and what is written down.


async def test_a_download_is_written_into_the_audit_log(console, poll, postgres):  # noqa: F811
    await poll.add(counted(3))
    async with console.client_as("reviewer") as client:
        page = await (await client.get("/campaigns/spring/exports")).text()
        assert "/campaigns/spring/exports/2026-07-05/votes.csv" in page
        for form in ("csv", "parquet"):
            path = f"/campaigns/spring/exports/2026-07-05/votes.{form}"
            async with client.session.get(path) as answer:
                assert answer.status == 200
                assert answer.headers["Cache-Control"] == "no-store"
                name = f"spring-votes-2026-07-05.{form}"
                assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
                assert len(await answer.read()) > 100
        staff = client.staff
    rows = await postgres.fetch("SELECT * FROM audit_log ORDER BY number")
    assert [(row["actor"], row["action"], row["subject"], row["details"]) for row in rows] == [
        (staff.name, "export.votes", "spring 2026-07-05", '{"form":"csv"}'),
        (staff.name, "export.votes", "spring 2026-07-05", '{"form":"parquet"}'),
    ]
    assert names_in(exports_folder(console.settings.data_dir)) == []


async def test_nobody_else_gets_one_whatever_the_campaign_hides(console, postgres):  # noqa: F811
    await add_campaign(postgres, rules={"counts": "staff"})
    await Poll(postgres, None).add(counted(3))
    for role, status in (("viewer", 403), ("office", 403), (None, 303), ("admin", 200)):
        async with console.client_as(role) as client:
            for path in ("exports", f"exports/{DAY}/votes.csv", f"exports/{DAY}/votes.parquet"):
                answer = await client.get(f"/campaigns/spring/{path}")
                assert answer.status == status, (role, path)


async def test_a_day_without_votes_and_a_day_that_is_none_are_not_there(console, poll):  # noqa: F811
    await poll.add(counted(3))
    async with console.client_as("admin") as client:
        for path, status in (
            ("spring/exports/2026-07-04/votes.csv", 404),
            ("winter/exports/2026-07-05/votes.csv", 404),
            ("spring/exports/today/votes.csv", 422),
        ):
            assert (await client.get(f"/campaigns/{path}")).status == status, path


async def test_so_many_at_once_and_no_more(console, poll, monkeypatch):  # noqa: F811
    await poll.add(counted(3))
    slots = Slots(1)
    monkeypatch.setattr(pages_of_exports, "_slots", slots)
    path = "/campaigns/spring/exports/2026-07-05/votes.csv"
    async with console.client_as("admin") as client:
        with slots.taken():
            answer = await client.get(path)
            assert answer.status == 429
            assert "已有两个导出正在进行" in await answer.text()
        for _ in range(3):
            assert (await client.get(path)).status == 200


def test_a_slot_is_given_back_whatever_happens():
    slots = Slots(1)
    with contextlib.suppress(ZeroDivisionError), slots.taken():
        raise ZeroDivisionError
    with slots.taken(), pytest.raises(Busy), slots.taken():
        pass


# Large, slow and broken ones.

LARGE = 200_000


@pytest.fixture
async def large_day(postgres):
    """A day of so many votes, quickly made."""
    await add_campaign(postgres, candidates=50)
    await postgres.execute(
        "CREATE TABLE votes_20260705 PARTITION OF votes"
        " FOR VALUES FROM ('2026-07-05') TO ('2026-07-06')"
    )
    await postgres.execute(
        "INSERT INTO votes SELECT '2026-07-05', 0, 1, n,"
        " timestamptz '2026-07-05 00:00+08' + n * interval '86400 seconds' / $1::bigint, 1,"
        " 1 + n % 50, n * 7919, n * 104729, n, n, n, n % 6, n % 256, n, n * 37 % 1000000, 17,"
        " n * 31 % 65536, 3, n % 8000 - 4000, 33 << 16, 2 * (n % 50 = 0)::int"
        " FROM generate_series(1, $1::bigint) AS n",
        LARGE,
    )
    await postgres.execute(
        "INSERT INTO minute_totals VALUES (1, timestamptz '2026-07-05 12:00+08', $1, 0)", LARGE
    )
    return await read_campaign(postgres, "spring")


class Memory:
    """How much this process grew at most, MiB."""

    def __enter__(self):
        self.process, self.ended, self.peak = psutil.Process(), False, 0
        self.before = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while not self.ended:
            self.peak = max(self.peak, self.process.memory_info().rss - self.before)
            time.sleep(0.005)

    def __exit__(self, *why):
        self.ended = True
        self.thread.join()

    @property
    def grown_mb(self):
        return self.peak / 2**20


async def test_a_large_file_streams_through_little_memory(large_day, pool):
    size = 0
    with Memory() as memory:
        async for piece in csv_votes(pool.acquire, large_day, DAY):
            size += len(piece)
            assert len(piece) < 2 * 2**20
    assert size > 15 * 2**20
    assert memory.grown_mb < 12


async def test_a_slow_reader_is_waited_for_without_the_rest_piling_up(large_day, pool):
    pieces = csv_votes(pool.acquire, large_day, DAY)
    await anext(pieces)
    with Memory() as memory:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            await asyncio.sleep(0.05)
        size = sum([len(piece) async for piece in pieces])
    assert size > 15 * 2**20
    assert memory.grown_mb < 12


async def test_parquet_is_built_within_a_bound_of_memory(large_day, pool, tmp_path):
    # Once for what loading its libraries costs.
    (await parquet_votes(pool.acquire, large_day, DAY, tmp_path / "made")).close()
    with Memory() as memory:
        built = await parquet_votes(pool.acquire, large_day, DAY, tmp_path / "made")
        built.close()
    assert built.size > 200_000
    assert memory.grown_mb < 150


async def idle(postgres):
    """Whether nobody else asks this database for anything."""
    return not await postgres.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'active' AND pid <> pg_backend_pid()"
    )


async def test_who_stops_reading_ends_the_query(large_day, pool, postgres):
    pieces = csv_votes(pool.acquire, large_day, DAY)
    await anext(pieces)
    assert not await idle(postgres)
    began = time.monotonic()
    await pieces.aclose()
    assert time.monotonic() - began < 5
    await wait_until_async(lambda: idle(postgres), what="the end of the query")


async def test_a_download_that_is_cut_off_gives_everything_back(console, large_day, postgres):  # noqa: F811
    path = "/campaigns/spring/exports/2026-07-05/votes."
    async with console.client_as("admin") as client:
        for form in ("csv", "parquet", "csv", "parquet"):
            answer = await client.session.get(path + form)
            assert answer.status == 200
            await answer.content.read(1000)
            answer.close()

        async def given_back():
            free = pages_of_exports._slots._free == exports.AT_ONCE_MAX
            return free and await idle(postgres)

        await wait_until_async(given_back, 20, "the slot and the query")
    assert names_in(exports_folder(console.settings.data_dir)) == []


async def test_a_parquet_file_that_is_not_waited_for_leaves_nothing(large_day, pool, tmp_path):
    building = asyncio.create_task(parquet_votes(pool.acquire, large_day, DAY, tmp_path / "made"))

    async def begun():
        return (tmp_path / "made").exists() and names_in(tmp_path / "made")

    await wait_until_async(begun, what="the folder")
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert names_in(tmp_path / "made") == []


async def test_a_database_that_goes_away_ends_the_file_with_an_error(
    large_day, pool, postgres, tmp_path
):
    pieces = csv_votes(pool.acquire, large_day, DAY)
    await anext(pieces)
    await postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        async for _ in pieces:
            pass


async def test_time_is_bounded(large_day, pool, monkeypatch):
    monkeypatch.setattr(exports, "EXPORT_SECONDS_MAX", 0.2)
    pieces = csv_votes(pool.acquire, large_day, DAY)
    with pytest.raises(TimeoutError):
        async for _ in pieces:
            await asyncio.sleep(0.1)


def test_what_a_killed_process_left_is_swept_and_what_runs_is_not(tmp_path):
    for name in ("export-old", "export-new", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.duckdb").touch()
    os.utime(tmp_path / "export-old", (1, 1))
    os.utime(tmp_path / "other", (1, 1))
    sweep(tmp_path)
    assert names_in(tmp_path) == ["export-new", "other"]
    sweep(tmp_path / "nowhere")
