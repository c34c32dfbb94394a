"""GET /: the demo portal, an invented news site that embeds the demo campaign in every way but
the wall, to which it links; where there is no demo, the campaigns that are open."""

import random
import secrets
from typing import Any, NamedTuple

from aiohttp import web

from voting.campaign import Campaign, Candidate, Order, Phase
from voting.edge.answers import problem
from voting.edge.media import ShownPicture, media_origin, picture
from voting.edge.parts import EDGE, Edge
from voting.edge.site.embed import public_campaigns
from voting.edge.site.render import kept_page, page, policy, root_of, state_of, within_budget

DEMO_CAMPAIGN = "demo"


class Shown(NamedTuple):
    """A candidate as the portal shows one before, or without, the script."""

    candidate: Candidate
    picture: ShownPicture | None


async def get_home(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    campaign = edge.catalog.campaigns.get(DEMO_CAMPAIGN) if edge.settings.demo else None
    candidates = [] if campaign is None else list(campaign.standing)
    if campaign is not None and candidates:
        return within_budget(
            request, "home", lambda: _demo_portal(request, edge, campaign, candidates)
        )
    if not edge.catalog.read:
        return problem("store-down")
    groups = _by_phase(edge)
    states = [(state_of(request, each), name) for name, of in groups for each in of]
    return kept_page(
        request,
        "campaigns.html",
        made_from=(str(states),),
        make_values=lambda: {"groups": groups},
        policy=policy(),
    )


def _demo_portal(
    request: web.Request, edge: Edge, campaign: Campaign, candidates: list[Candidate]
) -> web.Response:
    if campaign.rules.order is Order.RANDOM:
        random.shuffle(candidates)  # nobody is always first
    root, media_url = root_of(request), edge.settings.media_url
    said = policy(scripts=True, forms="'self'", media=media_origin(edge.settings))
    return page(
        request,
        "demo_portal.html",
        policy=f"{said}; frame-src 'self'",
        campaign=campaign,
        people=[Shown(each, picture(campaign, each.photo, root, media_url)) for each in candidates],
        # Each way is shown with somebody else.
        ways=_ways(candidates),
        click=secrets.token_urlsafe(16),
    )


def _ways(candidates: list[Candidate]) -> dict[str, Candidate]:
    ways = ("button", "frame", "form", "image")
    return {way: candidates[n % len(candidates)] for n, way in enumerate(ways)}


def _by_phase(edge: Edge) -> list[tuple[str, list[Campaign]]]:
    """Heading and campaigns; the first group is there even where it is empty, and says so."""
    now_us = edge.ballot_boxes.store_now_us()
    groups: dict[str, list[Any]] = {"正在进行": [], "即将开始": [], "已经结束": []}
    headings = {
        Phase.OPEN: "正在进行",
        Phase.PAUSED: "正在进行",
        Phase.NOT_OPEN: "即将开始",
        Phase.CLOSED: "已经结束",
    }
    for campaign in public_campaigns(edge):
        groups[headings[campaign.phase_at(now_us)]].append(campaign)
    return list(groups.items())
