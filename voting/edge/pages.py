"""Pages of the edge: the card for an iframe, its form without JavaScript, the demo portal.

The card's device lives in the only cookie of the edge, partitioned by the embedding site, and is
set by nothing but the form's post.
"""

import contextlib
import random
import secrets
import time
from importlib.resources import files
from urllib.parse import parse_qsl, urlencode

import jinja2
from aiohttp import hdrs, web

from voting.ballot import Outcome
from voting.campaign import Campaign, Order
from voting.edge.answers import PROBLEMS, headers, problem, word_of
from voting.edge.bodies import CLICK_RULE, FORM_TYPES, is_click, read_body
from voting.edge.campaigns import campaign_of, candidate_of
from voting.edge.devices import LEVEL, device_state
from voting.edge.encoded import shown
from voting.edge.likes import Tap, cast_tap
from voting.edge.origins import is_allowed
from voting.edge.parts import EDGE
from voting.edge.sender import sender_of
from voting.store_line import StoreDown

DEMO_CAMPAIGN = "demo"
_COOKIE = "dianzan-device"
_COOKIE_SECONDS = 180 * 86_400
_SAID = {"counted": "点赞成功，感谢您的支持", "repeated": "今日已点赞"} | {
    word: title for word, (_, title) in PROBLEMS.items()
}

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("voting.edge"), autoescape=True, undefined=jinja2.StrictUndefined
)


async def get_portal(request: web.Request) -> web.Response:
    """GET /: the demo portal, where the demo campaign is there."""
    edge = request.app[EDGE]
    campaign = edge.catalog.campaigns.get(DEMO_CAMPAIGN) if edge.settings.demo else None
    if campaign is None:
        return problem("not-found")
    candidates = shown(campaign)
    if campaign.rules.order is Order.RANDOM:
        random.shuffle(candidates)  # nobody is always first
    text = _templates.get_template("portal.html").render(campaign=campaign, candidates=candidates)
    return _page(
        text,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    )


async def get_card(request: web.Request) -> web.Response:
    """GET /embed/v1/card/{campaign}/{candidate}: one card as a page of its own."""
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    candidate = candidate_of(request, campaign)
    if candidate is None:
        return problem("unknown-candidate")
    liked = False
    token = edge.mint.verify(request.cookies.get(_COOKIE, ""), campaign, time.time())
    if token is not None:
        with contextlib.suppress(StoreDown):  # the card can still be shown
            liked = candidate.id in (await device_state(edge, campaign, token))[0]
    # Only our own words come back out of the query.
    message = _SAID.get(request.query.get("said", ""))
    text = _templates.get_template("card.html").render(
        campaign=campaign,
        candidate=candidate,
        likes=edge.board.likes(campaign, candidate.number, None),
        click=secrets.token_urlsafe(16),
        liked=liked,
        message=message,
        photo_base="/v1/photos",
    )
    return _page(text, _card_policy(campaign))


async def post_card(request: web.Request) -> web.Response:
    """POST to the same path, form-encoded: a like without JavaScript; 303 back to the card."""
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    candidate = candidate_of(request, campaign)
    if candidate is None:
        return problem("unknown-candidate")
    sender = sender_of(request)
    if not is_allowed(edge, sender, campaign):
        return problem("wrong-origin")
    body = await read_body(request, FORM_TYPES)
    if isinstance(body, web.Response):
        return body
    click = dict(_form_fields(body)).get("click", "")
    if not is_click(click):
        return problem("malformed", detail=CLICK_RULE)
    now = time.time()
    held = request.cookies.get(_COOKIE, "")
    device = edge.known_devices.find(held, campaign, now)
    if device is None:
        held = edge.mint.issue(campaign, now, level=LEVEL)
        device = edge.known_devices.find(held, campaign, now)
        assert device is not None
    cast = await cast_tap(edge, Tap(campaign, candidate, device, click), sender)
    edge.metrics.count(cast)
    word = "counted" if cast.outcome is Outcome.HELD else word_of(cast.outcome)
    made = headers("text/plain")
    made[hdrs.LOCATION] = f"{request.path}?{urlencode({'said': word})}"
    # By hand: http.cookies knows Partitioned only from Python 3.14 on. A token is base64url.
    made[hdrs.SET_COOKIE] = (
        f"{_COOKIE}={held}; Max-Age={_COOKIE_SECONDS}; Path={_cookie_path(campaign)};"
        " Secure; HttpOnly; SameSite=None; Partitioned"
    )
    return web.Response(status=303, headers=made)


async def get_static(request: web.Request) -> web.Response:
    """GET /static/{name}: what the pages above need."""
    found = STATIC.get(request.match_info["name"])
    if found is None:
        return problem("not-found")
    content, content_type = found
    return web.Response(body=content, headers=headers(content_type, "public, max-age=300"))


def _page(text: str, policy: str) -> web.Response:
    made = headers("text/html; charset=utf-8")
    made["Content-Security-Policy"] = policy
    # Not no-referrer: it would make a form's Origin "null", which is foreign.
    made["Referrer-Policy"] = "strict-origin-when-cross-origin"
    return web.Response(body=text.encode(), headers=made)


def _cookie_path(campaign: Campaign) -> str:
    """A token is one campaign's: so is its cookie."""
    return f"/embed/v1/card/{campaign.id}"


def _card_policy(campaign: Campaign) -> str:
    return (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none';"
        f" form-action 'self'; frame-ancestors 'self' {' '.join(campaign.origins)}"
    )


def _form_fields(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), max_num_fields=16)
    except ValueError:
        return []


_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
}


def _read_static() -> dict[str, tuple[bytes, str]]:
    return {
        item.name: (item.read_bytes(), _TYPES[item.name.rpartition(".")[2]])
        for item in (files("voting.edge") / "static").iterdir()
    }


STATIC = _read_static()
