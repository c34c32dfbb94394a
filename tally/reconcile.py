"""Reconciliation: the hot tally is what Postgres has, and what the journal holds after that.

    hot = Postgres at its watermark
          + the journal's votes and refusals between there and the hot tally's moment
          + the adjudications that only one of them has

Nothing is stopped for it and nothing is locked: Postgres is read first, in one transaction; then
the hot sums with the journal's end, in one; then the entries between, which never change. It finds
a damaged sum, a lost entry, a tally that somebody edited; of what both sides have wrong alike it
knows nothing (a recount from the log does).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg
import redis.asyncio as redis

from tally.store import read_queries
from voting.ballot import Outcome
from voting.campaign import Campaign, moment_at
from voting.hot_state import HotState
from voting.journal import (
    Adjudication,
    Entry,
    EntryId,
    JournalError,
    head_key,
    journal_key,
    parse_tally_field,
    read_entry,
    tally_key,
    unwrap_entry,
)

_SQL = read_queries(Path(__file__).with_name("reconcile.sql"))

ENTRIES_MAX = 20_000
"""Further behind than that the flusher is late, and that is the news; reading on would cost the
store more than it tells."""
_READ_AT_ONCE = 256
_KINDS = ("counted", "held", "struck")


class NotComparable(Exception):
    """Nothing can be said just now; the message says why. Ask again later."""


class Off(NamedTuple):
    """One sum that is not what it should be."""

    candidate: int
    kind: str
    """counted, held, struck, or refused: and the outcome's name."""
    hot: int
    expected: int
    """By Postgres and the journal."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was held against what, and what came of it."""

    campaign: str
    at: datetime
    """Moment of the hot sums, in the campaign's zone."""
    votes: int
    """In the hot state, in all; refusals are not among them."""
    in_journal: int
    """Of them those that Postgres did not have yet."""
    off: tuple[Off, ...]
    """Empty: all is as it should be. By candidate, then kind."""

    @property
    def holds(self) -> bool:
        return not self.off


_Sums = Counter[tuple[int, str]]


class _Hot(NamedTuple):
    now_us: int
    sums: _Sums
    adjudicated: int
    last: EntryId | None
    """The journal's last entry at that very moment."""


async def reconcile(
    connection: asyncpg.Connection, hot: HotState, campaign: Campaign
) -> Reconciliation:
    """Hold a campaign's hot sums against Postgres and the journal. The connection must be in no
    transaction. Raises NotComparable, JournalError for an entry that cannot be read, and what a
    server raises that is away. Costs the store one read of the tally and of what is not flushed."""
    expected: _Sums = Counter()
    hot_sums: _Sums = Counter()
    moments: list[int] = []
    in_journal = 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        marks = {
            shard: (
                await connection.fetchrow(_SQL["read_mark"], shard),
                await connection.fetchval(_SQL["read_adjudicated"], shard),
            )
            for shard in hot.shards
        }
        for row in await connection.fetch(_SQL["read_sums"], campaign.number):
            for kind in _KINDS:
                expected[row["candidate"], kind] += row[kind]
        for row in await connection.fetch(_SQL["read_refusals"], campaign.number):
            expected[row["candidate"], _refused(Outcome(row["outcome"]))] += row["ballots"]
    for shard, (mark, adjudicated) in marks.items():
        valkey = hot.of(shard)
        seen = await _read_hot(valkey, shard, campaign)
        moments.append(seen.now_us)
        hot_sums.update(seen.sums)
        flushed = EntryId(mark["epoch"], mark["entry"]) if mark is not None else EntryId(0, -1)
        in_journal += await _add_journal(valkey, shard, campaign, flushed, seen.last, expected)
        # Decisions reach Postgres first and the hot state a moment later; one that was taken since
        # we looked at Postgres may be in the hot state alone.
        await _add_deltas(connection, shard, campaign, adjudicated, seen.adjudicated, expected)
    return Reconciliation(
        campaign.id,
        moment_at(min(moments), campaign.window.zone),
        sum(sum_ for (_, kind), sum_ in hot_sums.items() if kind in _KINDS),
        in_journal,
        tuple(
            Off(*key, hot_sums[key], expected[key])
            for key in sorted(hot_sums.keys() | expected.keys())
            if hot_sums[key] != expected[key]
        ),
    )


def _refused(outcome: Outcome) -> str:
    return f"refused: {outcome.name.lower().replace('_', '-')}"


async def _read_hot(valkey: redis.Redis, shard: int, campaign: Campaign) -> _Hot:
    async with valkey.pipeline(transaction=True) as pipeline:
        pipeline.time()
        pipeline.hget(head_key(shard), "adjudicated")
        pipeline.hgetall(tally_key(shard, campaign.id))
        pipeline.xrevrange(journal_key(shard), count=1)
        (seconds, micro), adjudicated, fields, newest = await pipeline.execute()
    sums: _Sums = Counter()
    kinds = {"": "counted", "h": "held", "s": "struck"}
    for name, ballots in fields.items():
        found = parse_tally_field(name)
        kind = _refused(found.outcome) if found.outcome is not None else kinds[found.kind]
        sums[found.candidate, kind] += int(ballots)
    last = unwrap_entry(newest[0])[0] if newest else None
    return _Hot(seconds * 1_000_000 + micro, sums, int(adjudicated or 0), last)


async def _add_journal(
    valkey: redis.Redis,
    shard: int,
    campaign: Campaign,
    flushed: EntryId,
    last: EntryId | None,
    sums: _Sums,
) -> int:
    """Add what the journal has after Postgres' watermark and up to the hot sums' moment; how many
    votes of the campaign that are."""
    votes, entries, before = 0, 0, flushed
    while last is not None and before < last:
        start = f"({before}" if before.number >= 0 else "-"
        found = await valkey.xrange(
            journal_key(shard), min=start, max=str(last), count=_READ_AT_ONCE
        )
        if not found:
            break
        for id_, packed in map(unwrap_entry, found):
            # An entry is trimmed only behind the watermark, but that may have moved on since.
            follows = (
                id_.number == before.number + 1 if id_.epoch == before.epoch else not id_.number
            )
            if not follows:
                raise NotComparable(f"shard {shard}: entry {before} is not followed in the journal")
            before = id_
            votes += _add_entry(read_entry(id_, packed), campaign, sums)
        entries += len(found)
        if entries > ENTRIES_MAX:
            raise NotComparable(f"shard {shard}: more than {ENTRIES_MAX} entries are not flushed")
    return votes


def _add_entry(entry: object, campaign: Campaign, sums: _Sums) -> int:
    """Closings and adjudications add nothing here: the latter are in Postgres by their decision."""
    if isinstance(entry, Adjudication) or not isinstance(entry, Entry):
        return 0
    if entry.campaign != campaign.number:
        return 0
    for vote in entry.votes():
        sums[vote.candidate, "held" if vote.verdict else "counted"] += 1
    for refusal in entry.refusals:
        sums[refusal.candidate, _refused(refusal.outcome)] += refusal.ballots
    return entry.vote_count


async def _add_deltas(
    connection: asyncpg.Connection,
    shard: int,
    campaign: Campaign,
    stored: int,
    hot: int,
    sums: _Sums,
) -> None:
    """Take out what Postgres has decided and the hot state has not heard of, or the other way."""
    sign, first, last = (1, stored, hot) if hot > stored else (-1, hot, stored)
    if first == last:
        return
    rows = await connection.fetch(_SQL["read_deltas"], shard, first, last, campaign.number)
    for row in rows:
        for candidate, *moved in zip(
            row["candidates"], row["counted"], row["held"], row["struck"], strict=True
        ):
            for kind, votes in zip(_KINDS, moved, strict=True):
                sums[candidate, kind] += sign * votes


__all__ = ["JournalError", "NotComparable", "Off", "Reconciliation", "reconcile"]
