"""What live pages cost: `python -m tally.console.costs [--votes 10000000]`.

Starts a service of its own (`dianzan up` in a folder that goes again), fills the roll-ups of a
campaign of 31 days and 750 candidates as if these votes had come, and asks the real console for
its pages and updates, one request at a time. Prints medians and worst cases in milliseconds, as a
line of JSON on stdout; two to three minutes, most of it filling. Times are the client's, on the
same machine: the server's are a little shorter.
"""

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import redis.asyncio as redis

from voting.journal import tally_key

DAYS = 31
CANDIDATES = 750
CAMPAIGN = "costs"
PAGE_MS_MAX = 300
UPDATE_MS_MAX = 100
_ROUNDS = 9

_CAMPAIGN = """
INSERT INTO campaigns (number, id, title, time_zone, opens_at, closes_at, rules, limits, origins,
                       channels)
SELECT coalesce(max(number), 0) + 1, $1, '“科技之光”网络点赞（测量）', 'Asia/Shanghai',
       date_trunc('minute', now()) - make_interval(days => $2),
       date_trunc('minute', now()) + interval '1 day', '{}', '{}', '{}', '{}'
FROM campaigns RETURNING number
"""
_CANDIDATES = """
INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel, title,
                        summary)
SELECT $1::smallint, n, 'c' || n, n,
       substr('王李张刘陈杨黄赵吴周', 1 + n % 10, 1) || substr('建国志强秀英丽华伟敏静磊军洋勇艳杰涛明超', 1 + (n * 7) % 20, 1)
           || CASE WHEN n % 3 = 0 THEN '' ELSE substr('平安乐山川海天宇文武', 1 + (n * 3) % 10, 1) END,
       '某某研究院第' || (1 + n % 40) || '研究所',
       CASE WHEN n % 5 = 0 THEN '中国某某学会' || (1 + n % 60) ELSE '某某省科学技术协会' || (1 + n % 31) END,
       CASE WHEN n % 5 = 0 THEN '全国学会' ELSE '省级科协' END, '研究员', '事迹'
FROM generate_series(1, $2) AS n
"""  # noqa: E501
# Zipf over candidates, more by day than by night; what is left of a fraction comes by chance.
_MINUTES = """
WITH weights AS (
    SELECT n, power(n, -0.6) / sum(power(n, -0.6)) OVER () AS weight
    FROM generate_series(1, $3::integer) AS n
), likes AS (
    SELECT minute, n, floor(
        $2::float * weight / ($4::float * 1440)
        * (1 - 0.8 * cos(2 * pi() * (4 + extract(hour FROM minute)) / 24))
        + random()
    )::integer AS votes
    FROM generate_series(date_trunc('minute', now()) - make_interval(days => $4::integer),
                         date_trunc('minute', now()), interval '1 minute') AS minute
    CROSS JOIN weights
)
INSERT INTO minutes (campaign, minute, candidate, counted, held)
SELECT $1::smallint, minute, n, votes, (random() < 0.02)::integer FROM likes WHERE votes > 0
"""
_MINUTE_TOTALS = """
INSERT INTO minute_totals SELECT campaign, minute, sum(counted), sum(held)
FROM minutes WHERE campaign = $1 GROUP BY campaign, minute
"""
_TALLIES = """
INSERT INTO tallies (campaign, candidate, counted, held, struck)
SELECT campaign, candidate, sum(counted), sum(held), candidate % 7
FROM minutes WHERE campaign = $1 GROUP BY campaign, candidate
"""
_REFUSALS = """
INSERT INTO refusals SELECT campaign, candidate, outcome, (counted * share)::bigint + 1
FROM tallies, (VALUES (4, 0.06), (6, 0.03), (7, 0.008)) AS _ (outcome, share) WHERE campaign = $1
"""
_HOURLY_MIX = """
INSERT INTO hourly_mix
SELECT campaign, hour, class, (votes * share)::bigint, (votes * share * 0.02)::bigint
FROM (SELECT campaign, date_trunc('hour', minute) AS hour, sum(counted + held) AS votes
      FROM minute_totals WHERE campaign = $1 GROUP BY 1, 2) AS hours,
     (VALUES (0, 0.06), (1, 0.61), (2, 0.22), (3, 0.08), (4, 0.02), (5, 0.01)) AS _ (class, share)
"""


async def fill(
    connection: asyncpg.Connection,
    valkey: redis.Redis,
    *,
    votes: int,
    campaign_id: str = CAMPAIGN,
    candidates: int = CANDIDATES,
    days: int = DAYS,
) -> int:
    """A campaign with about so many votes in the roll-ups and in the hot state; its number. There
    are no rows of votes: no live page reads them."""
    campaign: int = await connection.fetchval(_CAMPAIGN, campaign_id, days)
    await connection.execute(_CANDIDATES, campaign, candidates)
    await connection.execute(_MINUTES, campaign, float(votes), candidates, days, timeout=600)
    for statement in (_MINUTE_TOTALS, _TALLIES, _REFUSALS, _HOURLY_MIX):
        await connection.execute(statement, campaign, timeout=600)
    await connection.execute("ANALYZE minutes, minute_totals", timeout=600)
    await connection.execute("UPDATE catalog SET version = version + 1")
    sums: dict[str, int] = {}
    for row in await connection.fetch("SELECT * FROM tallies WHERE campaign = $1", campaign):
        for kind, name in (("", "counted"), ("h", "held"), ("s", "struck")):
            sums[f"{kind}{row['candidate']}"] = row[name]
    for row in await connection.fetch("SELECT * FROM refusals WHERE campaign = $1", campaign):
        sums[f"r{row['candidate']}:{row['outcome']}"] = row["ballots"]
    await valkey.execute_command(  # type: ignore[no-untyped-call]
        "HSET", tally_key(0, campaign_id), *(word for pair in sums.items() for word in pair)
    )
    return campaign


async def sign_in(connection: asyncpg.Connection) -> str:
    """The cookie of a viewer of our own."""
    value = secrets.token_urlsafe(32)
    number = await connection.fetchval(
        "INSERT INTO staff (name, shown_as, role) VALUES ('costs', 'costs', 'viewer')"
        " RETURNING number"
    )
    await connection.execute(
        "INSERT INTO staff_sessions VALUES ($1, $2, now(), now(), true)",
        hashlib.sha256(value.encode()).digest(),
        number,
    )
    return value


async def measure(url: str, cookie: str) -> dict[str, dict[str, float]]:
    """Page or update -> median and worst of several, in milliseconds, and its size in kB. The first
    of each is the worst: it finds nothing made before."""
    campaign = f"/campaigns/{CAMPAIGN}"
    asked = {
        "overview": campaign,
        "overview, a month": f"{campaign}?range=month",
        "candidates": f"{campaign}/candidates",
        "candidate": f"{campaign}/candidates/c7",
        "candidate, a month": f"{campaign}/candidates/c7?range=month",
        "hall": f"{campaign}/hall",
        "parts": "/parts",
        "update: overview": f"{campaign}/stream?once=1",
        "update: candidates": f"{campaign}/stream?page=candidates&once=1",
        "update: candidate": f"{campaign}/stream?page=candidate&candidate=c7&range=day&once=1",
        "update: hall": f"{campaign}/stream?page=hall&once=1",
        "update: parts": "/parts/stream?once=1",
    }
    found = {}
    async with aiohttp.ClientSession(
        url,
        headers={"Sec-Fetch-Site": "same-origin", "Accept-Language": "zh-CN"},
        cookies={"dianzan-console": cookie},
        cookie_jar=aiohttp.CookieJar(unsafe=True),
    ) as session:
        for name, path in asked.items():
            took = []
            for _ in range(_ROUNDS):
                began = time.perf_counter()
                async with session.get(path, allow_redirects=False) as answer:
                    body = await answer.read()
                took.append((time.perf_counter() - began) * 1000)
                if answer.status != 200:
                    raise SystemExit(f"{path} answered {answer.status}")
                # A new look of the poll each time: what was made for the one before is of no use.
                await asyncio.sleep(1.05)
            found[name] = {
                "median_ms": round(statistics.median(took), 1),
                "worst_ms": round(max(took), 1),
                "kB": round(len(body) / 1000, 1),
            }
            _say(f"{name:24} {found[name]}")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _run(ready: dict[str, Any], votes: int) -> dict[str, Any]:
    connection = await asyncpg.connect(ready["postgres"])
    try:
        async with redis.Redis.from_url(ready["valkey"]) as valkey:
            began = time.monotonic()
            number = await fill(connection, valkey, votes=votes)
        filled = await connection.fetchrow(
            "SELECT (SELECT sum(counted + held)::bigint FROM tallies WHERE campaign = $1) AS votes,"
            " (SELECT count(*) FROM minutes WHERE campaign = $1) AS minutes",
            number,
        )
        _say(f"filled {dict(filled)} in {time.monotonic() - began:.0f} s")
        cookie = await sign_in(connection)
    finally:
        await connection.close()
    measured = await measure(ready["console"], cookie)
    missed = [
        name
        for name, figures in measured.items()
        if figures["median_ms"] > (UPDATE_MS_MAX if "update" in name else PAGE_MS_MAX)
    ]
    return {**dict(filled), "measured": measured, "missed": missed}


def main() -> None:
    parser = argparse.ArgumentParser(description="What live pages cost.")
    parser.add_argument("--votes", type=int, default=10_000_000)
    votes = parser.parse_args().votes
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        service = subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, Path(sys.executable).with_name("dianzan"), "up"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("DIANZAN_")},
                "DIANZAN_DATA_DIR": folder,
                "DIANZAN_DEMO": "false",
                **{f"DIANZAN_{name}_PORT": "0" for name in ("EDGE", "ADMIN", "CONSOLE")},
            },
        )
        try:
            assert service.stdout is not None
            line = service.stdout.readline()
            if not line:
                raise SystemExit("`dianzan up` did not start")
            print(json.dumps(asyncio.run(_run(json.loads(line), votes)), ensure_ascii=False))
        finally:
            service.terminate()
            service.wait(30)


if __name__ == "__main__":
    main()
