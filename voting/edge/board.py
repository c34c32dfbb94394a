"""The board: what the public may see of the counts right now, made anew each second.

One policy for every path: whoever shows a count asks the board, and where the campaign hides its
counts the board does not have them.
"""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from voting.ballot import Position
from voting.ballot_box import BallotBoxes, Snapshot
from voting.campaign import Campaign, Phase, Visibility, moment_at
from voting.edge.answers import dumps
from voting.edge.live_catalog import DATABASE_AWAY, LiveCatalog
from voting.journal import counted_sums
from voting.store_line import StoreDown
from voting.visibility import publication_hours

_REFRESH_EVERY_SECONDS = 1.0
_LIVE = Visibility.LIVE


Reached = tuple[tuple[int, int], ...]
"""(epoch, seq) up to which counts hold, of each shard."""


class _Counts(NamedTuple):
    """Counts as the public sees them, whatever the campaign's phase."""

    reached: Reached
    counts: dict[int, int] | None
    as_of: str | None
    said: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Published:
    """The counts of one campaign as the public sees them, and whether it takes likes."""

    campaign: Campaign
    phase: Phase
    reached: Reached
    counts: dict[int, int] | None
    """By Candidate.number; None where they are hidden."""
    as_of: str | None
    """The moment of the counts, RFC 3339; None where they are hidden."""
    body: bytes
    """The answer of GET counts."""
    etag: str
    """Weak, and of all but `as_of`: while no count moves and the campaign stays in its phase, a
    cache may keep its copy."""

    def likes(self, candidate: int, own: Position | None = None) -> int | None:
        """What the candidate's card shows to a device whose vote has this position: the count,
        plus one while that does not include the vote yet. None where counts are hidden."""
        if self.counts is None:
            return None
        likes = self.counts.get(candidate, 0)
        if own is None or own.shard >= len(self.reached):
            return likes
        return likes + ((own.epoch, own.seq) > self.reached[own.shard])


class Board:
    """Published counts by campaign id; empty until the first refresh."""

    def __init__(self, catalog: LiveCatalog, boxes: BallotBoxes) -> None:
        self._catalog = catalog
        self._boxes = boxes
        self._snapshots: dict[tuple[str, int], Snapshot] = {}
        """By campaign and shard; the last ones of a shard that is away stand."""
        self._published: dict[str, Published] = {}
        self._made_from: dict[str, tuple[Campaign, object, _Counts]] = {}

    def published(self, campaign: Campaign) -> Published | None:
        """None where nothing is known yet: the store was away since the start. What was published
        under another state of the campaign stands only where the present one hides nothing."""
        published = self._published.get(campaign.id)
        if published is None or campaign.rules.counts is _LIVE:
            return published
        if self._made_from[campaign.id][0] is not campaign:
            self._publish(campaign, _NOTHING, lambda: _hidden(None))
        return self._published[campaign.id]

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
            with contextlib.suppress(StoreDown, *DATABASE_AWAY):  # they say so themselves
                await self._refresh_counts(campaign)
            self._refresh_phase(campaign)

    def _refresh_phase(self, campaign: Campaign) -> None:
        """It moves where no count does, and is told while the store is away too."""
        published = self._published.get(campaign.id)
        if published is not None and (
            published.phase is not self._phase(campaign) or published.campaign is not campaign
        ):
            self._tell(campaign)

    async def _refresh_counts(self, campaign: Campaign) -> None:
        visibility = campaign.rules.counts
        if visibility is Visibility.STAFF:
            self._publish(campaign, None, lambda: _hidden(None))
            return
        snapshots = await self._snapshots_of(campaign.id)
        # The oldest: a shard that is away is not counted any further.
        at_us = min(snapshot.at_us for snapshot in snapshots)
        if visibility is Visibility.LIVE or (
            visibility is Visibility.AFTER_CLOSE and at_us >= campaign.window.closes_at_us
        ):
            # An unchanged count is not written anew, but its as_of never gets old. The counts are
            # part of it: a decision of the staff moves them, up or down, without a new vote.
            reached = tuple((snapshot.epoch, snapshot.seq) for snapshot in snapshots)
            counts = counted_sums(_sum_of(snapshots))
            made_from = (reached, at_us // 10_000_000, counts)
            self._publish(campaign, made_from, lambda: counts_at(campaign, at_us, reached, counts))
        elif visibility is Visibility.DAILY:
            await self._refresh_daily(campaign, at_us)
        else:
            closes_at = campaign.window.closes_at
            self._publish(campaign, closes_at, lambda: _hidden(closes_at))

    async def _refresh_daily(self, campaign: Campaign, now_us: int) -> None:
        """Counts as of the last publication hour, out of Postgres: they are the same on every
        edge and after every restart."""
        last, upcoming = publication_hours(campaign, now_us)
        if last < campaign.window.opens_at_us:
            upcoming_at = moment_at(upcoming, campaign.window.zone)
            self._publish(campaign, upcoming, lambda: _hidden(upcoming_at))
            return
        if self._stands(campaign, last):
            return
        found = await self._catalog.published_until(campaign, last)
        if found is not None:
            counts, reached = found
            self._publish(campaign, last, lambda: counts_at(campaign, last, reached, counts))
        elif campaign.id not in self._published:
            self._publish(campaign, None, lambda: _hidden(None))

    async def _snapshots_of(self, campaign_id: str) -> list[Snapshot]:
        """One of each shard. StoreDown where a shard is away and none is known of it, or all are:
        then it is the store that is away."""
        found = await asyncio.gather(
            *(box.snapshot(campaign_id) for box in self._boxes), return_exceptions=True
        )
        snapshots = []
        some_answered = any(isinstance(one, Snapshot) for one in found)
        for shard, one in enumerate(found):
            if isinstance(one, Snapshot):
                self._snapshots[campaign_id, shard] = one
            held = self._snapshots.get((campaign_id, shard))
            if held is None or not (some_answered and isinstance(one, Snapshot | StoreDown)):
                assert isinstance(one, BaseException)
                raise one
            snapshots.append(held)
        return snapshots

    def _publish(self, campaign: Campaign, made_from: object, make: Callable[[], _Counts]) -> None:
        if not self._stands(campaign, made_from):
            self._made_from[campaign.id] = (campaign, made_from, make())
            self._tell(campaign)

    def _tell(self, campaign: Campaign) -> None:
        """Publish the counts that are there, with the campaign's phase."""
        counts = self._made_from[campaign.id][2]
        self._published[campaign.id] = _published(campaign, self._phase(campaign), counts)

    def _phase(self, campaign: Campaign) -> Phase:
        return campaign.phase_at(self._boxes.store_now_us())

    def _stands(self, campaign: Campaign, made_from: object) -> bool:
        made = self._made_from.get(campaign.id)
        return made is not None and made[0] is campaign and made[1] == made_from


_NOTHING = object()
"""What hidden counts are made from where a campaign's new state hides them, until the next
refresh."""


def _sum_of(snapshots: Sequence[Snapshot]) -> Mapping[bytes, int]:
    if len(snapshots) == 1:
        return snapshots[0].sums
    sums: Counter[bytes] = Counter()
    for snapshot in snapshots:
        sums.update(snapshot.sums)
    return sums


def counts_at(
    campaign: Campaign, as_of_us: int, reached: Reached, counts: dict[int, int]
) -> _Counts:
    as_of = moment_at(as_of_us, campaign.window.zone).isoformat(timespec="milliseconds")
    # In the order of their ids, which share beginnings: 8 % less once compressed.
    shown = {
        id_: counts.get(candidate.number, 0)
        for id_, candidate in sorted(campaign.by_id.items())
        if not candidate.withdrawn
    }
    return _Counts(reached, counts, as_of, {"counts": shown})


def _hidden(visible_from: datetime | None) -> _Counts:
    shown_at = visible_from.isoformat() if visible_from else None
    return _Counts((), None, None, {"counts": None, "visible_from": shown_at})


def _published(campaign: Campaign, phase: Phase, counts: _Counts) -> Published:
    said = dumps(
        {
            **counts.said,
            "state": phase,
            "opens_at": campaign.window.opens_at.isoformat(),
            "closes_at": campaign.window.closes_at.isoformat(),
            "paused_because": campaign.paused_because if phase is Phase.PAUSED else None,
        }
    )
    digest = hashlib.blake2b(said, digest_size=9).hexdigest()
    if counts.as_of is not None:
        said = b'{"as_of":"%b",%b' % (counts.as_of.encode(), said[1:])
    return Published(
        campaign,
        phase,
        counts.reached,
        counts.counts,
        counts.as_of,
        said,
        f'W/"{digest}"',
    )
