"""GET /campaigns/{campaign}/candidates/{candidate}: one candidate's story, pictures and video."""

from typing import Any

from aiohttp import web

from voting.campaign import Campaign, Candidate
from voting.edge.answers import problem
from voting.edge.campaigns import campaign_of, candidate_of
from voting.edge.media import media_origin, picture, video
from voting.edge.parts import EDGE
from voting.edge.site.moments import Standing, standing
from voting.edge.site.ranking import standing_counts, when_shown
from voting.edge.site.render import (
    base_to_keep,
    frame_ancestors,
    kept_page,
    policy,
    root_of,
    state_of,
)


async def get_candidate_page(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    candidate = candidate_of(request, campaign)
    if candidate is None:
        return problem("unknown-candidate")
    now_us = edge.ballot_boxes.store_now_us()
    # The board decides what of the counts is public, here as everywhere; what it showed stands for
    # some seconds, so that 750 pages are not made anew each second.
    published = None if candidate.withdrawn else standing_counts(request, campaign)
    likes = None if published is None else published.likes(candidate.number)
    stands = standing(campaign, now_us)
    return kept_page(
        request,
        "candidate.html",
        made_from=(state_of(request, campaign), -1 if likes is None else likes, "".join(stands)),
        make_values=lambda: _values(request, campaign, candidate, likes, stands),
        policy=policy(
            scripts=True,
            frames=frame_ancestors(campaign),
            forms="'self'",
            media=media_origin(edge.settings),
        ),
        surrogate_key=f"campaign-{campaign.id} counts-{campaign.id}",
    )


def _values(
    request: web.Request,
    campaign: Campaign,
    candidate: Candidate,
    likes: int | None,
    stands: Standing,
) -> dict[str, Any]:
    """Of who has withdrawn only who it was: nothing speaks for them any more."""
    media_url = request.app[EDGE].settings.media_url
    root, base = root_of(request), base_to_keep(request)
    gone = candidate.withdrawn
    more = (picture(campaign, photo, root, media_url) for photo in candidate.more_photos)
    return {
        "campaign": campaign,
        "candidate": candidate,
        "likes": likes,
        "when_shown": when_shown(campaign),
        "standing": stands,
        "portrait": picture(campaign, candidate.photo, root, media_url),
        "share": picture(campaign, candidate.photo, base, media_url) if base else None,
        "more": [] if gone else [one for one in more if one is not None],
        "video": None if gone else video(campaign, candidate.video, root, media_url),
    }
