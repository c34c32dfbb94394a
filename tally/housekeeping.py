"""Housekeeping of the hot state: days that nobody needs any more are let go.

A day's hashes carry no TTL: a clock that jumps forward would make everybody a new voter. So a day
goes only when the journal has gone on over several later days, which one jump cannot bring about.
"""

from collections import defaultdict

import redis.asyncio as redis

from voting.journal import parse_day_key

DAYS_KEPT = 4
"""Of each campaign: today, yesterday (read after midnight), one to spare for a clock that was
wrong for a while, and one more."""


async def unlink_past_days(valkey: redis.Redis, shard: int, keep: int = DAYS_KEPT) -> list[str]:
    """Let all but the newest days of each campaign go; the keys that went. The caller has flushed
    the journal. UNLINK frees a hash of 3 million devices in the background (0.4 ms in front)."""
    days = defaultdict(list)
    async for key in valkey.scan_iter(match=f"{{s{shard}}}:*", count=500):
        name = key.decode()
        if parsed := parse_day_key(name):
            days[parsed.kind, parsed.campaign_id].append((parsed.date, name))
    past = [name for found in days.values() for _, name in sorted(found, reverse=True)[keep:]]
    if past:
        await valkey.unlink(*past)
    return past
