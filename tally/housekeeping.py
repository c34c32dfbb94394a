"""Housekeeping of the hot state: old days are let go, the append-only file is kept short.

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


async def rewrite_long_file(valkey: redis.Redis, rewrite_bytes: int) -> bool:
    """Ask the store to write its append-only file anew where it grew by so much since it was
    written last; whether it was asked. A store whose administration is not ours is left to those
    whose it is. Known cost: the store forks (milliseconds of stall per GB), and memory that is
    written meanwhile is copied."""
    try:
        about = await valkey.info("persistence")
        grown = about.get("aof_current_size", 0) - about.get("aof_base_size", 0)
        if grown < rewrite_bytes or about.get("aof_rewrite_in_progress"):
            return False
        await valkey.bgrewriteaof()
    except redis.ResponseError:
        return False
    return True
