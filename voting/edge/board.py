"""The board: what the public may see of the counts right now, made anew each second.

One policy for every path: whoever shows a count asks the board, and where the campaign hides its
counts the board does not have them.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from voting.ballot import Position
from voting.ballot_box import BallotBox, Snapshot
from voting.campaign import Campaign, Visibility, microseconds, moment_at
from voting.edge.live_catalog import DATABASE_AWAY, LiveCatalog
from voting.journal import counted_sums
from voting.store_line import StoreDown

_REFRESH_EVERY_SECONDS = 1.0
_LIVE = Visibility.LIVE


@dataclass(frozen=True, slots=True)
class Published:
    """The counts of one campaign as the public sees them."""

    as_of_us: int
    epoch: int
    seq: int
    counts: dict[int, int] | None
    """By Candidate.number; None where they are hidden."""
    body: bytes
    """The answer of GET counts."""
    etag: str

    def likes(self, candidate: int, own: Position | None = None) -> int | None:
        """What the candidate's card shows to a device whose vote has this position: the count,
        plus one while that does not include the vote yet. None where counts are hidden."""
        if self.counts is None:
            return None
        likes = self.counts.get(candidate, 0)
        if own is None or own.epoch < self.epoch:
            return likes
        return likes + (own.epoch > self.epoch or own.seq > self.seq)


class Board:
    """Published counts by campaign id; empty until the first refresh."""

    def __init__(self, catalog: LiveCatalog, box: BallotBox) -> None:
        self._catalog = catalog
        self._box = box
        self._published: dict[str, Published] = {}
        self._made_from: dict[str, tuple[Campaign, object]] = {}

    def published(self, campaign: Campaign) -> Published | None:
        """None where nothing is known yet: the store was away since the start. What was published
        under another state of the campaign stands only where the present one hides nothing."""
        published = self._published.get(campaign.id)
        if published is None or campaign.rules.counts is _LIVE:
            return published
        if self._made_from[campaign.id][0] is not campaign:
            return _hidden(0, None)
        return published

    def likes(self, campaign: Campaign, candidate: int, own: Position | None) -> int | None:
        """Published.likes of what is published; None also where nothing is known."""
        published = self.published(campaign)
        return None if published is None else published.likes(candidate, own)

    async def follow(self) -> None:
        """Refresh each second, and when the catalog changes, until cancelled. While the store is
        away the last state stands."""
        while True:
            self._catalog.changed.clear()
            await self.refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_EVERY_SECONDS):
                    await self._catalog.changed.wait()

    async def refresh(self) -> None:
        for campaign in list(self._catalog.campaigns.values()):
            try:
                await self._refresh_one(campaign)
            except (StoreDown, *DATABASE_AWAY):
                continue  # the line and the catalog say so themselves

    async def _refresh_one(self, campaign: Campaign) -> None:
        visibility = campaign.rules.counts
        if visibility is Visibility.STAFF:
            self._publish(campaign, None, lambda: _hidden(0, None))
            return
        snapshot = await self._box.snapshot(campaign.id)
        if visibility is Visibility.LIVE or (
            visibility is Visibility.AFTER_CLOSE and snapshot.at_us >= campaign.window.closes_at_us
        ):
            # An unchanged count is not written anew, but its as_of never gets old. The counts are
            # part of it: a decision of the staff moves them, up or down, without a new vote.
            counts = counted_sums(snapshot.sums)
            made_from = (snapshot.epoch, snapshot.seq, snapshot.at_us // 10_000_000, counts)
            self._publish(campaign, made_from, lambda: _published_live(campaign, snapshot, counts))
        elif visibility is Visibility.DAILY:
            await self._refresh_daily(campaign, snapshot.at_us)
        else:
            closes_at = campaign.window.closes_at
            self._publish(campaign, closes_at, lambda: _hidden(snapshot.at_us, closes_at))

    async def _refresh_daily(self, campaign: Campaign, now_us: int) -> None:
        """Counts as of the last publication hour, out of Postgres: they are the same on every
        edge and after every restart."""
        last, upcoming = publication_hours(campaign, now_us)
        if last < campaign.window.opens_at_us:
            upcoming_at = moment_at(upcoming, campaign.window.zone)
            self._publish(campaign, upcoming, lambda: _hidden(now_us, upcoming_at))
            return
        if self._stands(campaign, last):
            return
        found = await self._catalog.published_until(campaign, last)
        if found is not None:
            counts, epoch, seq = found
            self._publish(campaign, last, lambda: _published(campaign, last, epoch, seq, counts))
        elif campaign.id not in self._published:
            self._publish(campaign, None, lambda: _hidden(now_us, None))

    def _publish(
        self, campaign: Campaign, made_from: object, make: Callable[[], Published]
    ) -> None:
        if not self._stands(campaign, made_from):
            self._published[campaign.id] = make()
            self._made_from[campaign.id] = (campaign, made_from)

    def _stands(self, campaign: Campaign, made_from: object) -> bool:
        made = self._made_from.get(campaign.id)
        return made is not None and made[0] is campaign and made[1] == made_from


def publication_hours(campaign: Campaign, now_us: int) -> tuple[int, int]:
    """(last, next) moment of the day's publication hour around now, epoch microseconds."""
    zone = campaign.window.zone
    now = moment_at(now_us, zone)
    at = datetime.combine(now.date(), campaign.rules.counts_daily_at, zone)
    last = at if at <= now else at - timedelta(days=1)
    return microseconds(last), microseconds(last + timedelta(days=1))


def _published_live(campaign: Campaign, snapshot: Snapshot, counts: dict[int, int]) -> Published:
    return _published(campaign, snapshot.at_us, snapshot.epoch, snapshot.seq, counts)


def _published(
    campaign: Campaign, as_of_us: int, epoch: int, seq: int, counts: dict[int, int]
) -> Published:
    shown = {c.id: counts.get(c.number, 0) for c in campaign.candidates if not c.withdrawn}
    as_of = moment_at(as_of_us, campaign.window.zone).isoformat(timespec="milliseconds")
    body = json.dumps({"as_of": as_of, "counts": shown}, separators=(",", ":")).encode()
    # Weak, and of the counts alone: as long as no count moves, a cache may keep its copy.
    digest = hashlib.blake2b(repr(shown).encode(), digest_size=9).hexdigest()
    return Published(as_of_us, epoch, seq, counts, body, f'W/"{digest}"')


def _hidden(as_of_us: int, visible_from: datetime | None) -> Published:
    shown_at = visible_from.isoformat() if visible_from else None
    body = json.dumps({"counts": None, "visible_from": shown_at}, separators=(",", ":")).encode()
    return Published(as_of_us, 0, 0, None, body, f'W/"hidden-{shown_at}"')
