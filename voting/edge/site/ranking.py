"""GET /campaigns/{campaign}/ranking: who has how many likes, where that is public.

The board decides, as for every path: where it has no counts there is no ranking. Equal counts share
a rank, and stand in the order of the list.
"""

import time
from datetime import datetime
from typing import Any, NamedTuple

from aiohttp import web

from voting.campaign import Campaign, Candidate, Visibility
from voting.edge.answers import problem
from voting.edge.board import Published
from voting.edge.campaigns import campaign_of
from voting.edge.parts import EDGE
from voting.edge.site.kept import STATES
from voting.edge.site.moments import Standing, chinese, standing
from voting.edge.site.render import SHORT, kept_page, policy, state_of

STANDS_SECONDS = 5.0
"""A ranking stands so long: counts move each second, and 750 rows take a while."""
ROWS_MAX = 2_000
"""So many are listed; who is behind them is on the own page, and in the counts."""


class Row(NamedTuple):
    """One candidate in the ranking."""

    rank: int
    candidate: Candidate
    likes: int
    share: float
    """Of all likes, 0 to 1."""
    of_most: float
    """Of the first one's likes, 0 to 1."""


class Rankings:
    """What each campaign's ranking is made from: the counts as they were published up to
    `STANDS_SECONDS` ago."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Campaign, float, Published]] = {}

    def counts_of(
        self, campaign: Campaign, published: Published | None, now: float
    ) -> Published | None:
        """What to show instead of what is published now. Where that is hidden, or the campaign is
        in another state, nothing older is."""
        if published is None or published.counts is None:
            self._held.pop(campaign.id, None)
            return published
        held = self._held.get(campaign.id)
        if held is not None and held[0] is campaign and 0 <= now - held[1] < STANDS_SECONDS:
            return held[2]
        self._held[campaign.id] = (campaign, now, published)
        return published


RANKINGS = web.AppKey("rankings", Rankings)


def standing_counts(request: web.Request, campaign: Campaign) -> Published | None:
    """What pages that are kept show of the counts."""
    return request.app[RANKINGS].counts_of(
        campaign, request.app[EDGE].board.published(campaign), time.monotonic()
    )


async def get_ranking(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    published = standing_counts(request, campaign)
    stands = standing(campaign, edge.ballot_boxes.store_now_us())
    return kept_page(
        request,
        "ranking.html",
        made_from=(
            state_of(request, campaign),
            request.app[STATES].number_of(f"counts of {campaign.id}", published),
            "".join(stands),
        ),
        make_values=lambda: _values(campaign, published, stands),
        policy=policy(frames="'self' *"),
        cache=SHORT,
        surrogate_key=f"campaign-{campaign.id} counts-{campaign.id}",
    )


def _values(campaign: Campaign, published: Published | None, stands: Standing) -> dict[str, Any]:
    hidden = published is None or published.counts is None
    counts = {} if published is None else published.counts or {}
    rows = [] if hidden else ranked(campaign, counts)
    return {
        "campaign": campaign,
        "standing": stands,
        "hidden": hidden,
        "when_shown": when_shown(campaign),
        "rows": rows,
        "people": len(campaign.standing),
        "total": total_of(campaign, counts),
        "as_of": _moment(published),
    }


def _moment(published: Published | None) -> datetime | None:
    as_of = published.as_of if published else None
    return datetime.fromisoformat(as_of) if as_of else None


def ranked(campaign: Campaign, counts: dict[int, int]) -> list[Row]:
    """Who is in the campaign, the most likes first; ROWS_MAX at most."""
    people = [(counts.get(c.number, 0), c) for c in campaign.standing]
    people.sort(key=lambda one: -one[0])  # stable: equal ones stay in listed order
    total = total_of(campaign, counts)
    most = people[0][0] if people else 0
    rows: list[Row] = []
    for place, (likes, candidate) in enumerate(people[:ROWS_MAX], 1):
        rank = rows[-1].rank if rows and rows[-1].likes == likes else place
        rows.append(
            Row(
                rank,
                candidate,
                likes,
                likes / total if total else 0.0,
                likes / most if most else 0.0,
            )
        )
    return rows


def total_of(campaign: Campaign, counts: dict[int, int]) -> int:
    """Likes of all who are in the campaign."""
    return sum(counts.get(c.number, 0) for c in campaign.standing)


def when_shown(campaign: Campaign) -> str:
    """A sentence: when the counts are public."""
    rules = campaign.rules
    if rules.counts is Visibility.LIVE:
        return "点赞数实时公布。"
    if rules.counts is Visibility.DAILY:
        at = rules.counts_daily_at.isoformat("minutes")
        return f"点赞数每天 {at} 公布一次，两次公布之间不变。"
    if rules.counts is Visibility.AFTER_CLOSE:
        return f"点赞数在活动结束（{chinese(campaign, campaign.window.closes_at)}）后公布。"
    return "本活动期间不公布点赞数，结果由主办单位公布。"
