"""The public notice (公告): the newest one, and each one before it as it was put up.

A notice has numbers. Where the campaign hides the counts of the moment that they are of (its
visibility was changed, or it was opened again), the page says that there is a notice and shows
neither its text nor its title until the counts are public again.
"""

from typing import Any, NamedTuple

from aiohttp import web

from voting.campaign import Campaign, Visibility, moment_at
from voting.edge.answers import problem
from voting.edge.campaigns import campaign_of
from voting.edge.media import picture
from voting.edge.parts import EDGE, Edge
from voting.edge.site.moments import chinese
from voting.edge.site.render import base_to_keep, kept_page, policy, state_of
from voting.notices import Notice, PublicNotice, chinese_day, place_change
from voting.visibility import is_blind


class Listed(NamedTuple):
    """One line of the list of notices."""

    number: int
    at: str
    title: str
    """"" = it is not shown now."""
    word: str
    """What became of it, as 已撤回; "" where it stands, or was replaced as a newer one came."""


class Period(NamedTuple):
    """When objections are taken."""

    begins: str
    ends: str
    word: str
    """尚未开始, 进行中 or 已结束."""


async def get_newest_notice(request: web.Request) -> web.Response:
    """GET /campaigns/{campaign}/notice."""
    return _answer(request, None)


async def get_notice(request: web.Request) -> web.Response:
    """GET /campaigns/{campaign}/notice/{number}."""
    return _answer(request, int(request.match_info["number"]))


def _answer(request: web.Request, number: int | None) -> web.Response:
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    if number is not None and number > len(campaign.notices):
        return problem("not-found")
    asked = (number or len(campaign.notices)) - 1
    now_us = edge.ballot_boxes.store_now_us()
    blind = [_is_hidden(edge, campaign, one.notice, now_us) for one in campaign.notices]
    today = moment_at(now_us, campaign.window.zone).date()
    base = base_to_keep(request)
    share = picture(campaign, campaign.page.cover, base, edge.settings.media_url) if base else None
    return kept_page(
        request,
        "notice.html",
        # The period for objections begins and ends with a day.
        made_from=(
            state_of(request, campaign),
            today.toordinal(),
            "".join("10"[one] for one in blind),
        ),
        make_values=lambda: {
            "campaign": campaign,
            "share": share,
            **(_values(campaign, asked, blind, now_us) if campaign.notices else {"shown": None}),
        },
        policy=policy(),
        surrogate_key=f"campaign-{campaign.id} notice-{campaign.id}",
    )


def _is_hidden(edge: Edge, campaign: Campaign, notice: Notice, now_us: int) -> bool:
    """By the rule, and by the board: while that has no counts nobody else shows any."""
    if is_blind(campaign, notice.counts_as_of, now_us):
        return True
    if notice.counts_as_of is None or campaign.rules.counts is Visibility.LIVE:
        return False
    published = edge.board.published(campaign)
    return published is None or published.counts is None


def _values(campaign: Campaign, asked: int, blind: list[bool], now_us: int) -> dict[str, Any]:
    shown = campaign.notices[asked]
    newest = campaign.notices[-1].number
    taken_back = _taken_back(campaign)
    return {
        "shown": shown,
        "notice": None if blind[asked] else shown.notice,
        "put_up": chinese(campaign, shown.at),
        "newest": newest,
        "replaced_by": shown.number + 1 if shown.number < newest else None,
        "withdrawn_by": taken_back.get(shown.number),
        "period": None if blind[asked] else _period(campaign, shown, now_us),
        "others": [
            Listed(
                one.number,
                chinese(campaign, one.at),
                "" if hidden else one.notice.title,
                "已撤回" if one.number in taken_back else "",
            )
            for one, hidden in zip(reversed(campaign.notices), reversed(blind), strict=True)
            if one is not shown
        ],
        "place_change": place_change,
    }


def _taken_back(campaign: Campaign) -> dict[int, int]:
    """Number of a notice -> number of the one that took it back."""
    return {
        one.notice.withdraws: one.number
        for one in campaign.notices
        if one.notice.withdraws is not None
    }


def _period(campaign: Campaign, shown: PublicNotice, now_us: int) -> Period | None:
    begins, ends = shown.notice.begins, shown.notice.ends
    if begins is None or ends is None:
        return None
    today = moment_at(now_us, campaign.window.zone).date()
    word = "尚未开始" if today < begins else "进行中" if today <= ends else "已结束"
    return Period(chinese_day(begins), chinese_day(ends), word)
