"""Campaigns for tests, put straight into the database."""

import json
from datetime import UTC, datetime, timedelta


async def add_campaign(
    connection,
    campaign_id="spring",
    *,
    candidates=5,
    rules=None,
    limits=None,
    opens_at=None,
    closes_at=None,
    origins=("https://www.example.cn",),
    paused_because=None,
):
    """A campaign that opened an hour ago, with candidates c001, c002 ...; its number."""
    now = datetime.now(UTC)
    number = await connection.fetchval("SELECT coalesce(max(number), 0) + 1 FROM campaigns")
    await connection.execute(
        "INSERT INTO campaigns (number, id, title, time_zone, opens_at, closes_at, rules, limits,"
        " origins, channels, paused_because)"
        " VALUES ($1, $2, '春天的活动', 'Asia/Shanghai', $3, $4, $5, $6, $7, '{}', $8)",
        number,
        campaign_id,
        opens_at or now - timedelta(hours=1),
        closes_at or now + timedelta(days=30),
        json.dumps(rules or {"candidates_per_day": 3}),
        json.dumps(limits or {}),
        list(origins),
        paused_because,
    )
    await connection.executemany(
        "INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel,"
        " title, summary) VALUES ($1, $2, $3, $2, $4, '所', '单位', '省级', '研究员', '事迹')",
        [(number, n, f"c{n:03}", f"候选人{n}") for n in range(1, candidates + 1)],
    )
    await connection.execute("UPDATE catalog SET version = version + 1")
    return number
