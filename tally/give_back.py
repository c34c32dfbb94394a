"""What Postgres has and the hot state lost comes back.

A replica that is promoted, or a store that starts on a file that lacks its end, may be behind
Postgres: it does not remember some of today's likes, so who gave them could give them again, and
its sums are too low. `give_back` tells a shard who liked; `mend_sums` brings its sums to what
Postgres and the journal say. Both may be run again at any time and by several at once: a like whose
position is there is not given a second time, and sums are compared anew each time.

What is not given back: how much of their limits devices and networks had used (they begin unused),
and days that are over, which nobody looks at.

Weakness: between the failover and the end of this a device may like again what it liked already.
Such pairs with one click are counted (`GivenBack.again`); with another click they are two votes
like any others. With DIANZAN_ACK=replica nothing is lost that anybody was told of, and Postgres has
nothing that a replica has not.
"""

import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import redis.asyncio as redis

from tally.hot_functions import call_loaded
from tally.reconcile import Off, reconcile
from tally.store import SQL, read_queries
from voting.ballot import Outcome
from voting.campaign import Campaign
from voting.catalog import load_campaigns
from voting.function_library import read_library
from voting.hot_state import HotState
from voting.journal import GRACE_US, day_key, head_key, life_key, tally_key

_SQL = read_queries(Path(__file__).with_name("give_back.sql"))
LIBRARY, _VERSION = read_library("give_back")
GIVE_BACK, FOLLOW = f"give_back_{_VERSION}", f"follow_{_VERSION}"
_ROW = struct.Struct(">qH6sHBI")
"""Device, then a like as a device-day record has it: candidate, click, epoch, seq of 40 bits."""
_AT_ONCE = 500
"""Likes in one call: about 1 ms of the store's time."""


class Reached(NamedTuple):
    """How far a shard is: in the hot state, or in Postgres."""

    epoch: int
    seq: int


class GivenBack(NamedTuple):
    """What came of it."""

    behind: int
    """How many seqs the hot state was behind Postgres."""
    given: int
    """Likes of today that its records lacked."""
    again: int
    """Of those given, the ones whose click was counted a second time meanwhile."""


async def reached(valkey: redis.Redis, shard: int) -> Reached:
    """Where the hot state's head is; (0, 0) of an empty one. Raises redis' errors."""
    asked: Any = valkey.hmget(head_key(shard), ["epoch", "seq"])
    epoch, seq = await asked
    return Reached(int(epoch or 0), int(seq or 0))


async def give_back(
    connection: asyncpg.Connection,
    valkey: redis.Redis,
    shard: int,
    after: Reached,
    until: Reached,
) -> GivenBack:
    """Tell the shard of the likes behind `after` that Postgres has up to `until`, and let its
    positions go on behind that. The connection must be in no transaction. Raises redis' errors
    where nobody knows how far it came: again from the start."""
    here = (*after, *until)
    given = again = 0
    seconds, micros = await valkey.time()
    now_us = seconds * 1_000_000 + micros
    for campaign in (await load_campaigns(connection)).values():
        today = campaign.window.day_at(now_us).date
        limited = bool(campaign.rules.likes_per_campaign)
        if limited and after.seq == 0:
            await _give_lives(connection, valkey, shard, campaign, today, until)
        # A little after midnight the day before is still read.
        for day in sorted({campaign.window.day_at(now_us - GRACE_US).date, today}):
            keys = (day_key(shard, campaign.id, day), life_key(shard, campaign.id))
            lost = _lost_likes(connection, shard, campaign, day, here)
            async with aclosing(lost) as pieces:
                async for likes in pieces:
                    answer = await call_loaded(
                        valkey, LIBRARY, GIVE_BACK, 2, *keys, int(limited), likes
                    )
                    given += int(answer[0])
                    again += int(answer[1])
    await call_loaded(valkey, LIBRARY, FOLLOW, 1, head_key(shard), *until)
    return GivenBack(max(0, until.seq - after.seq), given, again)


async def _lost_likes(
    connection: asyncpg.Connection,
    shard: int,
    campaign: Campaign,
    day: date,
    here: tuple[int, int, int, int],
) -> AsyncGenerator[bytes]:
    """A day's lost likes, _AT_ONCE at a time, as the function wants them."""
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(_SQL["read_lost"], day, shard, campaign.number, *here)
        while rows := await cursor.fetch(_AT_ONCE):
            yield b"".join(
                _ROW.pack(
                    row["device"],
                    row["candidate"],
                    row["click"].to_bytes(6, "big"),
                    row["epoch"],
                    row["seq"] >> 32,
                    row["seq"] & 0xFFFFFFFF,
                )
                for row in rows
            )


async def _give_lives(
    connection: asyncpg.Connection,
    valkey: redis.Redis,
    shard: int,
    campaign: Campaign,
    today: date,
    until: Reached,
) -> None:
    """What devices gave on the days before, where nothing is known of them: of a store that is
    empty. Today's come with their records. Weakness: who liked before this came has less counted
    than it gave."""
    key = life_key(shard, campaign.id)
    rows = await connection.fetch(_SQL["read_lives"], campaign.number, shard, today, *until)
    for at in range(0, len(rows), _AT_ONCE):
        async with valkey.pipeline(transaction=False) as pipeline:
            for row in rows[at : at + _AT_ONCE]:
                device = row["device"].to_bytes(8, "big", signed=True)
                pipeline.hsetnx(key, device, str(row["likes"]))
            await pipeline.execute()


async def mend_sums(connection: asyncpg.Connection, hot: HotState, shard: int) -> int:
    """Raise the hot sums that are too low, on this shard: what is missing of a candidate's counts
    once, on whichever shard it stands. How many ballots that were. The connection must be in no
    transaction. Raises NotComparable, and what a server raises that is away; again later.

    Never lowers one: that would be something else than a loss, and is left to be looked at."""
    mended = 0
    async with _one_at_a_time(connection):
        for campaign in (await load_campaigns(connection)).values():
            first = (await reconcile(connection, hot, campaign)).off
            if not first:
                continue
            # Once more: only what is missing twice is missing.
            second = {
                (off.candidate, off.kind): off
                for off in (await reconcile(connection, hot, campaign)).off
            }
            missing = {
                _field(off): off.expected - off.hot
                for off in first
                if off.expected > off.hot
                and (again := second.get((off.candidate, off.kind))) is not None
                and again.expected - again.hot == off.expected - off.hot
            }
            if missing:
                # All or nothing. Where its answer is lost, the next comparison says what it did.
                async with hot.of(shard).pipeline(transaction=True) as pipeline:
                    for field, ballots in missing.items():
                        pipeline.hincrby(tally_key(shard, campaign.id), field, ballots)
                    await pipeline.execute()
                mended += sum(missing.values())
    return mended


@asynccontextmanager
async def _one_at_a_time(connection: asyncpg.Connection) -> AsyncIterator[None]:
    await connection.execute(_SQL["lock_sums"])
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(_SQL["unlock_sums"])


def _field(off: Off) -> str:
    """Of the tally hash, see journal.py."""
    kinds = {"counted": "", "held": "h", "struck": "s"}
    if off.kind in kinds:
        return f"{kinds[off.kind]}{off.candidate}"
    outcome = off.kind.partition(": ")[2].upper().replace("-", "_")
    return f"r{off.candidate}:{Outcome[outcome].value}"


async def rebuild(connection: asyncpg.Connection, hot: HotState) -> dict[int, GivenBack]:
    """Give back all of today's likes that Postgres has; what came of it, by shard. For a store that
    is empty, or damaged: nobody's likes are given twice."""
    return {
        row["shard"]: await give_back(
            connection,
            hot.of(row["shard"]),
            row["shard"],
            Reached(0, 0),
            Reached(row["epoch"], row["seq"]),
        )
        for row in await connection.fetch(SQL["read_watermarks"])
        if row["seq"]
    }
