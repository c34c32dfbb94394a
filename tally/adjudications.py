"""What was decided in Postgres reaches the hot state: each shard's adjudications, in their order.

The hot state applies only the next number and says so where it has one already, so whoever is in
doubt sends again: after a crash between the commit of a decision and its call, after a lost answer,
or when two of us are at work.
"""

import struct
from collections.abc import Awaitable
from typing import NamedTuple, cast

import asyncpg
import redis.asyncio as redis
from redis.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, ResponseError

from tally.hot_functions import call_loaded
from tally.store import SQL
from voting.function_library import read_library
from voting.journal import ADJUDICATION_LAYOUT, DELTA, Delta, head_key, journal_key, tally_key

_ORDER = struct.Struct(">BBHHII")
_APPLIED, _DONE, _GAP = 0, 1, 2
_READ_AT_ONCE = 64
"""Adjudications; each holds a delta per candidate at most."""


LIBRARY, _VERSION = read_library("adjudicate")
FUNCTION = f"adjudicate_{_VERSION}"


class AdjudicationError(Exception):
    """The hot state does not take what Postgres has decided: they do not agree on what was
    applied, or its journal has come to an end. Nothing was changed."""


class Ordered(NamedTuple):
    """One decision's effect on one shard, as Postgres has it."""

    shard: int
    number: int
    decision: int
    campaign: int
    campaign_id: str
    deltas: tuple[Delta, ...]


class HotTallies:
    """One shard's tallies in the store, for adjudications alone."""

    def __init__(self, valkey: redis.Redis, shard: int) -> None:
        self._valkey = valkey
        self._shard = shard

    async def adjudicated(self) -> int:
        """Number of the last adjudication that was applied; 0 = none."""
        asked = self._valkey.hget(head_key(self._shard), "adjudicated")
        return int(await cast(Awaitable[bytes | None], asked) or 0)

    async def adjudicate(self, ordered: Ordered, epoch_floor: int) -> bool:
        """Apply it, if it is the next one; False where it was applied before. AdjudicationError
        where one before it is missing or the store refuses it. `epoch_floor`: the highest epoch
        that Postgres knows."""
        words = (
            FUNCTION,
            3,
            head_key(self._shard),
            journal_key(self._shard),
            tally_key(self._shard, ordered.campaign_id),
            _ORDER.pack(
                ADJUDICATION_LAYOUT,
                self._shard,
                epoch_floor,
                ordered.campaign,
                ordered.number,
                ordered.decision,
            ),
            b"".join(DELTA.pack(*delta) for delta in ordered.deltas),
        )
        try:
            answer = await call_loaded(self._valkey, LIBRARY, *words)
        except (OutOfMemoryError, ReadOnlyError, ClusterDownError):
            raise  # these pass
        except ResponseError as why:
            raise AdjudicationError(
                f"shard {self._shard}: the store refuses adjudication {ordered.number}: {why}"
            ) from why
        status, applied = map(int, answer)
        if status == _GAP:
            raise AdjudicationError(
                f"shard {self._shard}: adjudication {ordered.number} does not follow {applied}"
            )
        return status == _APPLIED


async def replay(connection: asyncpg.Connection, hot: HotTallies, shard: int) -> int:
    """Bring the hot state all that it lacks of this shard's adjudications; how many it applied.

    Raises AdjudicationError where the hot state has more than Postgres: a database that was set
    back. Nobody but a person can say which of them is right.
    """
    applied = 0
    newest = await connection.fetchval(SQL["last_adjudication"], shard)
    done = await hot.adjudicated()
    if done > newest:
        # Somebody else may have been faster with one that was decided in between.
        newest = await connection.fetchval(SQL["last_adjudication"], shard)
    if done > newest:
        raise AdjudicationError(
            f"shard {shard}: {done} adjudications were applied, Postgres has {newest}"
        )
    while done < newest:
        floor = await connection.fetchval(SQL["highest_epoch"])
        rows = await connection.fetch(SQL["read_adjudications"], shard, done, _READ_AT_ONCE)
        if not rows:
            raise AdjudicationError(f"shard {shard}: adjudication {done + 1} cannot be read")
        for row in rows:
            applied += await hot.adjudicate(_ordered(row), floor)
            done = row["number"]
    return applied


def _ordered(row: asyncpg.Record) -> Ordered:
    columns = row["candidates"], row["counted"], row["held"], row["struck"]
    return Ordered(
        row["shard"],
        row["number"],
        row["decision"],
        row["campaign"],
        row["campaign_id"],
        tuple(map(Delta._make, zip(*columns, strict=True))),
    )
