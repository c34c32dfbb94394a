"""Tally: votes per candidate, and the sum that always holds.

From Postgres (where an acknowledged like is within seconds) or from the hot state (where it is at
once). Both are folds over the same journal: at rest they are the same numbers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from tally.store import SQL
from voting.campaign import Campaign, moment_at
from voting.catalog import load_campaigns
from voting.hot_state import HotState
from voting.journal import JournalError, parse_tally_field, tally_key


class UnknownCampaign(LookupError):
    """The database has no campaign of this id."""


class TallyError(Exception):
    """The sums do not fit the catalog, or cannot be read. Never rounded away."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One campaign's votes up to a moment."""

    campaign: str
    as_of: datetime
    """In the campaign's zone. Nothing older than this is missing."""
    counted: int
    held: int
    """Set aside until staff decide."""
    struck: int
    """Taken out by a decision."""
    refused: int
    """Ballots turned away by quota, limit or verdict. Repeats are none: they are the same like."""
    counts: dict[str, int]
    """Candidate id -> votes counted, every candidate in listed order, zeros included. They sum to
    `counted`."""

    @property
    def received(self) -> int:
        """By construction, so that the published sum cannot be wrong by itself."""
        return self.counted + self.held + self.struck + self.refused

    def as_json(self) -> dict[str, Any]:
        """As `dianzan tally --json` prints it."""
        return {
            "campaign": self.campaign,
            "as_of": self.as_of.isoformat(timespec="milliseconds"),
            "received": self.received,
            "counted": self.counted,
            "held": self.held,
            "struck": self.struck,
            "refused": self.refused,
            "counts": self.counts,
        }


async def read_campaign(connection: asyncpg.Connection, campaign_id: str) -> Campaign:
    """Raises UnknownCampaign."""
    campaigns = await load_campaigns(connection)
    if campaign_id not in campaigns:
        known = ", ".join(sorted(campaigns)) or "none"
        raise UnknownCampaign(f"no campaign {campaign_id!r}; known: {known}")
    return campaigns[campaign_id]


async def read_tally(source: str | asyncpg.Connection, campaign_id: str) -> Tally:
    """The tally out of Postgres, by a DSN or a connection that is in no transaction: one moment's
    state, held and struck votes included. Raises UnknownCampaign, TallyError."""
    if isinstance(source, str):
        connection = await asyncpg.connect(source)
        try:
            return await read_tally(connection, campaign_id)
        finally:
            await connection.close()
    campaign = await read_campaign(source, campaign_id)
    async with source.transaction(isolation="repeatable_read", readonly=True):
        rows = await source.fetch(SQL["read_tallies"], campaign.number)
        refused = await source.fetchval(SQL["read_refused"], campaign.number)
        as_of = await source.fetchval(SQL["read_as_of"])
    return _tally(
        campaign,
        as_of=as_of or datetime.fromtimestamp(0, UTC),
        counted={row["candidate"]: row["counted"] for row in rows},
        held=sum(row["held"] for row in rows),
        struck=sum(row["struck"] for row in rows),
        refused=refused,
    )


async def read_hot_tally(hot: HotState, campaign: Campaign) -> Tally:
    """The tally out of the hot state, each shard's as of one moment. Raises TallyError."""
    moments = []
    sums: Counter[str] = Counter()
    counted: Counter[int] = Counter()
    for shard in hot.shards:
        # A transaction: the time and the sums are of the same instant.
        async with hot.of(shard).pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.hgetall(tally_key(shard, campaign.id))
            (seconds, microseconds), fields = await pipeline.execute()
        moments.append(seconds * 1_000_000 + microseconds)
        for field, ballots in fields.items():
            try:
                found = parse_tally_field(field)
            except JournalError as why:
                raise TallyError(f"{tally_key(shard, campaign.id)}: {why}") from why
            sums[found.kind] += int(ballots)
            if found.kind == "":
                counted[found.candidate] += int(ballots)
    return _tally(
        campaign,
        as_of=moment_at(min(moments)),
        counted=counted,
        held=sums["h"],
        struck=sums["s"],
        refused=sums["r"],
    )


def _tally(
    campaign: Campaign,
    *,
    as_of: datetime,
    counted: Mapping[int, int],
    held: int,
    struck: int,
    refused: int,
) -> Tally:
    ids = {candidate.number: candidate.id for candidate in campaign.candidates}
    unknown = sorted(counted.keys() - ids.keys())
    if unknown:
        raise TallyError(f"campaign {campaign.id} has votes for unknown candidates {unknown}")
    return Tally(
        campaign=campaign.id,
        as_of=as_of.astimezone(campaign.window.zone),
        counted=sum(counted.values()),
        held=held,
        struck=struck,
        refused=refused,
        counts={id_: counted.get(number, 0) for number, id_ in ids.items()},
    )
