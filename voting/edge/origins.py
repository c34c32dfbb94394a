"""Which pages may hand in likes."""

from aiohttp import hdrs, web

from voting.campaign import Campaign
from voting.edge.answers import allow, headers, problem
from voting.edge.parts import EDGE, Edge
from voting.edge.sender import Sender, sender_of

_ORIGIN_CHARACTERS_MAX = 300
"""No host's name is longer, and answers are remembered by the origins that may read them."""


def is_allowed(edge: Edge, sender: Sender, campaign: Campaign | None) -> bool:
    """Whether the page that sent this may: no Origin at all (not a browser, or a page of ours by
    GET), one of the campaign's portals (of any campaign where that is not known yet), or the edge
    itself. "null" is foreign: any sandboxed frame can have it."""
    origin = sender.origin
    if origin is None:
        return True
    if campaign is not None:
        if origin in campaign.origins:
            return True
    elif any(origin in known.origins for known in edge.catalog.campaigns.values()):
        return True
    if origin in edge.settings.public_origins:
        return True
    if edge.settings.public_origins:
        return False
    # Nobody has said how we are called: then it is as the browser addressed us.
    return len(origin) <= _ORIGIN_CHARACTERS_MAX and origin in (
        f"https://{sender.host}",
        f"http://{sender.host}",
    )


def allowed_origin(edge: Edge, sender: Sender, campaign: Campaign | None = None) -> str | None:
    """The page's origin where it may read an answer of ours, else None."""
    return sender.origin if is_allowed(edge, sender, campaign) else None


async def preflight(request: web.Request) -> web.Response:
    """OPTIONS of the POST routes: for portals that send application/json."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or not is_allowed(request.app[EDGE], sender_of(request), None):
        return problem("wrong-origin")
    made = headers("text/plain")
    allow(made, origin)
    made[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "POST"
    made[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Content-Type"
    made[hdrs.ACCESS_CONTROL_MAX_AGE] = "7200"
    return web.Response(status=204, headers=made)
