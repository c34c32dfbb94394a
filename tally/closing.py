"""The end of a campaign, as each shard's journal holds it: an entry with no like behind it.

When a campaign closes is `closes_at` in Postgres, and the ballot box turns likes away from that
moment on. `keep_closings` follows: once it has passed, each shard gets its `close` entry, so that a
seal can cover exactly what came before; and where somebody extends the window afterwards, an entry
that opens it again, which stays in the journal for everybody to see. Whoever calls it, how often,
and with what crash in between makes no difference: the store does nothing that is done.

Closing early is nothing else: `closes_at` becomes now (campaigns/campaign_changes.py), and then
this.

Weakness: an edge of a version before this one, during an upgrade, knows the window alone. And where
the store's clock goes back behind `closes_at`, its entry keeps the shard closed all the same.
"""

import contextlib
import struct
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast

import asyncpg
import redis.asyncio as redis
from redis.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, ResponseError

from tally.delivery import outbox
from tally.hot_functions import call_loaded
from tally.patience import VALKEY_AWAY, Guard
from tally.store import read_queries
from voting.campaign import microseconds, moment_at
from voting.function_library import read_library
from voting.hot_state import HotState
from voting.journal import CLOSING_LAYOUT, EntryId, closed_field, head_key, journal_key

_SQL = read_queries(Path(__file__).with_name("closing.sql"))
_ORDER = struct.Struct(">BBHHBQ")
_APPLIED, _DONE, _EARLY = 0, 1, 2

LIBRARY, _VERSION = read_library("closing")
FUNCTION = f"close_{_VERSION}"


class ClosingError(Exception):
    """The store refuses the entry, and will tomorrow; nothing was changed."""


class Closed(NamedTuple):
    """A shard that takes no more likes of a campaign."""

    entry: EntryId
    """Of the journal; whatever came before it is before it in the journal too."""
    new: bool
    """False: it was closed already."""


class Kept(NamedTuple):
    """What `keep_closings` wrote, as (campaign, shard)."""

    closed: list[tuple[int, int]]
    reopened: list[tuple[int, int]]


class FlushedClosing(NamedTuple):
    """The last word of one shard's journal on a campaign, as Postgres has it."""

    shard: int
    entry: EntryId
    seq: int
    """Of the last vote before it, whatever campaign that is of."""
    at: datetime
    closed: bool


async def close(
    valkey: redis.Redis,
    shard: int,
    campaign: int,
    *,
    epoch_floor: int,
    not_before_us: int = 0,
) -> Closed | None:
    """Close the campaign with this number on this shard; None where `not_before_us` has not come
    by the store's clock. `epoch_floor`: the highest epoch that Postgres knows.

    Raises redis' errors where nobody knows what came of it: ask again. ClosingError.
    """
    status, entry = await _order(valkey, shard, campaign, True, epoch_floor, not_before_us)
    return None if status == _EARLY else Closed(EntryId.parse(entry), status == _APPLIED)


async def reopen(valkey: redis.Redis, shard: int, campaign: int, *, epoch_floor: int) -> bool:
    """Take likes again, by an entry that says so; False where it was open. Raises as `close`."""
    status, _ = await _order(valkey, shard, campaign, False, epoch_floor, 0)
    return status == _APPLIED


async def is_closed(valkey: redis.Redis, shard: int, campaign: int) -> EntryId | None:
    """The entry that closed it; None where it is open."""
    asked = valkey.hget(head_key(shard), closed_field(campaign))
    entry = await cast(Awaitable[bytes | None], asked)
    return EntryId.parse(entry) if entry else None


async def keep_closings(
    connection: asyncpg.Connection,
    hot: HotState,
    *,
    guard: Guard = contextlib.nullcontext,
) -> Kept:
    """Bring all shards' journals what Postgres says of each campaign's end. Must not be called in
    a transaction. Cheap where nothing changed: one statement and one HMGET a shard.

    Raises as `close`, and asyncpg's errors; what was written before stays. `guard` is around each
    campaign of each shard.
    """
    kept = Kept([], [])
    campaigns = await connection.fetch(_SQL["list_closing_times"])
    if not campaigns:
        return kept
    away: Exception | None = None
    for shard in hot.shards:
        try:
            await _keep_shard(connection, hot, shard, campaigns, kept, guard)
        except VALKEY_AWAY as why:
            away = why  # the others get theirs
    if away is not None:
        raise away
    return kept


async def _keep_shard(
    connection: asyncpg.Connection,
    hot: HotState,
    shard: int,
    campaigns: list[asyncpg.Record],
    kept: Kept,
    guard: Guard,
) -> None:
    valkey = hot.of(shard)
    fields = [closed_field(row["number"]) for row in campaigns]
    asked = valkey.hmget(head_key(shard), fields)
    entries = await cast(Awaitable[list[bytes | None]], asked)
    seconds, micros = await valkey.time()
    now = moment_at(seconds * 1_000_000 + micros, UTC)
    for row, entry in zip(campaigns, entries, strict=True):
        async with guard(f"end of campaign {row['number']} on shard {shard}"):
            if (row["closes_at"] <= now) != (entry is not None):
                await _keep(connection, hot, shard, row["number"], kept)


async def _keep(
    connection: asyncpg.Connection, hot: HotState, shard: int, campaign: int, kept: Kept
) -> None:
    valkey = hot.of(shard)
    # The row is held while the store writes: nobody extends a window that is being closed. Should
    # we die before the commit, it is closed all the same, and the news of it is not sent.
    async with connection.transaction():
        row = await connection.fetchrow(_SQL["lock_closing_time"], campaign)
        closes_at: datetime = row["closes_at"]
        floor: int = await connection.fetchval(_SQL["highest_epoch"])
        seconds, micros = await valkey.time()
        if closes_at <= moment_at(seconds * 1_000_000 + micros, UTC):
            due_us = microseconds(closes_at)
            closed = await close(valkey, shard, campaign, epoch_floor=floor, not_before_us=due_us)
            if closed is not None and closed.new:
                kept.closed.append((campaign, shard))
                if not row["is_test"] and await _closed_on_others(hot, shard, campaign):
                    await outbox.add(
                        connection,
                        outbox.Event.CLOSED,
                        f"{row['id']}/{row['version']}",
                        {"campaign": row["id"], "closed_at": closes_at.isoformat()},
                    )
        elif await reopen(valkey, shard, campaign, epoch_floor=floor):
            kept.reopened.append((campaign, shard))
            if not row["is_test"]:
                # Where staff opened it again, their change has said so under the same subject.
                await outbox.add(
                    connection,
                    outbox.Event.REOPENED,
                    f"{row['id']}/{row['version']}",
                    {"campaign": row["id"], "closes_at": closes_at.isoformat()},
                )


async def _closed_on_others(hot: HotState, shard: int, campaign: int) -> bool:
    """Whether this is the last shard's end, which is the campaign's. One that is away is still to
    be closed: whoever does that comes last."""
    try:
        return all([await is_closed(hot.of(n), n, campaign) for n in hot.shards if n != shard])
    except VALKEY_AWAY:
        return False


async def flushed_closings(
    connection: asyncpg.Connection, campaign: int
) -> dict[int, FlushedClosing] | None:
    """By shard, if the flusher has passed a `close` entry of each and none that opens it again;
    None before. What Postgres holds then is all that this campaign got."""
    found = {
        row["shard"]: FlushedClosing(
            row["shard"], EntryId(row["epoch"], row["entry"]), row["seq"], row["at"], row["closed"]
        )
        for row in await connection.fetch(_SQL["read_closings"], campaign)
    }
    shards: int = await connection.fetchval(_SQL["count_shards"])
    passed = all(shard in found and found[shard].closed for shard in range(shards))
    return found if passed else None


async def _order(
    valkey: redis.Redis,
    shard: int,
    campaign: int,
    closed: bool,
    epoch_floor: int,
    not_before_us: int,
) -> tuple[int, bytes]:
    try:
        status, entry = await call_loaded(
            valkey,
            LIBRARY,
            *(FUNCTION, 2, head_key(shard), journal_key(shard)),
            _ORDER.pack(CLOSING_LAYOUT, shard, epoch_floor, campaign, closed, not_before_us),
        )
    except (OutOfMemoryError, ReadOnlyError, ClusterDownError):
        raise  # these pass
    except ResponseError as why:
        word = "close" if closed else "open again"
        raise ClosingError(
            f"shard {shard}: the store does not {word} campaign {campaign}: {why}"
        ) from why
    return int(status), entry
