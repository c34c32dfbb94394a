"""GET /campaigns/{campaign}/privacy: what is kept of whoever likes, why, how long, whom to ask.

Its numbers are the code's own, so that it cannot say other ones. What it says in words was written
beside the code that does it (device, pseudonyms, journal, identity); who keeps something new says
so in privacy.html.
"""

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from voting.campaign import Campaign, Identity
from voting.device import VALID_SECONDS
from voting.edge.answers import problem
from voting.edge.campaigns import campaign_of
from voting.edge.media import media_origin
from voting.edge.parts import EDGE
from voting.edge.site.render import kept_page, policy, state_of
from voting.settings import Settings

HOT_DAYS = 4
"""What each device liked on a day stays so long where the next like asks for it; the same number
as tally.housekeeping.DAYS_KEPT, which a test holds."""
_CACHE = "public, max-age=60, stale-while-revalidate=600"
_DAY_SECONDS = 86_400


async def get_privacy(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    return kept_page(
        request,
        "privacy.html",
        made_from=(state_of(request, campaign),),
        make_values=lambda: _values(campaign, edge.settings),
        policy=policy(frames="'self' *"),
        cache=_CACHE,
        surrogate_key=f"campaign-{campaign.id}",
    )


def _values(campaign: Campaign, settings: Settings) -> dict[str, Any]:
    return {
        "campaign": campaign,
        "token_days": VALID_SECONDS // _DAY_SECONDS,
        "hot_days": HOT_DAYS,
        "media_host": urlsplit(media_origin(settings)).netloc,
        "vouched": bool(campaign.portal_keys) or campaign.rules.identity is Identity.REQUIRED,
    }
