"""Pages of the edge: the card for an iframe, its form without JavaScript, the demo portal.

The card's device lives in the only cookie of the edge, partitioned by the embedding site, and is
set by nothing but the form's post. A browser that keeps no cookie gets a new device with each post,
and can wait nowhere for a ticket's time: so a new device also goes through the page's address and
its form, beside the ticket, as long as that is needed. It is believed there only together with a
ticket of its own, which ends with its 15 minutes and its network: nobody can make others vote with
a device by a link. A device that came in a cookie is in no address.
"""

import contextlib
import math
import random
import secrets
import time
from collections.abc import Mapping
from importlib.resources import files
from urllib.parse import parse_qsl, urlencode

import jinja2
from aiohttp import hdrs, web

from antifraud.challenge import Finding
from voting.ballot import Outcome
from voting.campaign import Campaign, Order
from voting.device import VALID_SECONDS, DeviceToken
from voting.edge.answers import PROBLEMS, headers, problem, word_of
from voting.edge.bodies import CLICK_RULE, FORM_TYPES, is_click, read_body
from voting.edge.campaigns import campaign_of, candidate_of
from voting.edge.devices import device_state
from voting.edge.encoded import shown
from voting.edge.likes import Tap, cast_tap, dwell_of
from voting.edge.origins import is_allowed
from voting.edge.parts import EDGE, Edge
from voting.edge.sender import sender_of
from voting.pseudonyms import Place
from voting.store_line import StoreDown

DEMO_CAMPAIGN = "demo"
_COOKIE = "dianzan-device"
_SAID = {"counted": "点赞成功，感谢您的支持", "repeated": "今日已点赞"} | {
    word: title for word, (_, title) in PROBLEMS.items()
}
_WAIT = "请等待 {} 秒，然后再按一次「点赞」"
_NOW = "请再按一次「点赞」"

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
    return page(
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
    if candidate.withdrawn:
        text = _templates.get_template("withdrawn.html").render(
            campaign=campaign, candidate=candidate, photo_base="/v1/photos"
        )
        return page(text, _card_policy(campaign))
    liked, now = False, time.time()
    kept, query = request.cookies.get(_COOKIE, ""), request.query
    place = edge.client_address.place(sender_of(request))
    held = _device_of(edge, campaign, place, kept, query, now)
    token = edge.mint.verify(held, campaign, now)
    if token is not None:
        with contextlib.suppress(StoreDown):  # the card can still be shown
            liked = candidate.id in (await device_state(edge, campaign, token))[0]
    # Only our own words come back out of the query, and a ticket that we wrote for this device.
    message = _SAID.get(query.get("said", ""))
    if campaign.paused_because is not None:
        message = f"{_SAID['paused']}：{campaign.paused_because}"
    ticket = query.get("ticket", "")
    waiting = _waiting_seconds(edge, ticket, token, place, now)
    if waiting is None:
        ticket = ""
    else:
        message = _WAIT.format(waiting) if waiting else _NOW
    text = _templates.get_template("card.html").render(
        campaign=campaign,
        candidate=candidate,
        likes=edge.board.likes(campaign, candidate.number, None),
        click=secrets.token_urlsafe(16),
        view=edge.views.make(now),
        ticket=ticket,
        device="" if held == kept else held,
        waiting=waiting,
        liked=liked,
        message=message,
        photo_base="/v1/photos",
    )
    return page(text, _card_policy(campaign))


async def post_card(request: web.Request) -> web.Response:
    """POST to the same path, form-encoded: a like without JavaScript; 303 back to the card.

    Where a challenge is due, the card comes back with a ticket: pressed again once its wait is
    over, that stands for a solution (the slow way: PROVEN and LOW_END).
    """
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
    if candidate.withdrawn:
        made = headers("text/plain")
        made[hdrs.LOCATION] = request.path  # the card says so
        return web.Response(status=303, headers=made)
    body = await read_body(request, FORM_TYPES)
    if isinstance(body, web.Response):
        return body
    fields = dict(_form_fields(body))
    click = fields.get("click", "")
    if not is_click(click):
        return problem("malformed", detail=CLICK_RULE)
    now = time.time()
    place = edge.client_address.place(sender)
    client = edge.client_address.client(sender)
    kept = request.cookies.get(_COOKIE, "")
    held = _device_of(edge, campaign, place, kept, fields, now)
    device = edge.known_devices.find(held, campaign, now)
    if device is None:
        held = edge.issuing.issue_to_form(campaign, place, client.user_agent_class, now)
        device = edge.known_devices.find(held, campaign, now)
        assert device is not None
    cookieless = held != kept
    ticket = fields.get("ticket", "")
    checked = edge.issuing.check_ticket(ticket, device.token, place, now)
    if checked.finding is Finding.EARLY:
        return _back(request, campaign, held, "challenge", ticket, in_address=cookieless)
    if checked.finding is Finding.SOLVED:
        held, _ = edge.issuing.prove(device.token, now, slow=True)
        device = edge.known_devices.find(held, campaign, now)
        assert device is not None
    dwell, bad_view = dwell_of(edge, fields.get("view"), device.token, now)
    tap = Tap(campaign, candidate, device, click, place, client, None, dwell, bad_view)
    cast = await cast_tap(edge, tap)
    edge.metrics.count(cast)
    if cast.outcome is Outcome.CHALLENGE:
        ticket = edge.issuing.ticket_for(device.token, place, now)
        return _back(request, campaign, held, "challenge", ticket, in_address=cookieless)
    word = "counted" if cast.outcome is Outcome.HELD else word_of(cast.outcome)
    return _back(request, campaign, held, word)


def _back(
    request: web.Request,
    campaign: Campaign,
    held: str,
    word: str,
    ticket: str = "",
    *,
    in_address: bool = False,
) -> web.Response:
    """Back to the card, which says this word, with the device in its cookie; `in_address`: in the
    page's address too."""
    said = {"said": word} | ({"ticket": ticket} if ticket else {})
    if in_address:
        said["device"] = held
    made = headers("text/plain")
    made[hdrs.LOCATION] = f"{request.path}?{urlencode(said)}"
    # By hand: http.cookies knows Partitioned only from Python 3.14 on. A token is base64url.
    made[hdrs.SET_COOKIE] = (
        f"{_COOKIE}={held}; Max-Age={VALID_SECONDS}; Path={_cookie_path(campaign)};"
        " Secure; HttpOnly; SameSite=None; Partitioned"
    )
    return web.Response(status=303, headers=made)


def _device_of(
    edge: Edge,
    campaign: Campaign,
    place: Place,
    kept: str,
    sent: Mapping[str, str],
    now: float,
) -> str:
    """The token in the cookie, if it is one; else the one that was sent beside a ticket of its
    own, if it was."""
    if edge.mint.verify(kept, campaign, now) is not None:
        return kept
    held = sent.get("device", "")
    token = edge.mint.verify(held, campaign, now)
    if token is None:
        return kept
    checked = edge.issuing.check_ticket(sent.get("ticket", ""), token, place, now)
    return held if checked.finding in (Finding.EARLY, Finding.SOLVED) else kept


def _waiting_seconds(
    edge: Edge, ticket: str, token: DeviceToken | None, place: Place, now: float
) -> int | None:
    """How long this device has to wait with its ticket; None where it is none of its own."""
    if not ticket or token is None:
        return None
    checked = edge.issuing.check_ticket(ticket, token, place, now)
    if checked.finding is Finding.EARLY:
        return math.ceil(checked.wait_seconds)
    return 0 if checked.finding is Finding.SOLVED else None


async def get_static(request: web.Request) -> web.Response:
    """GET /static/{name}: what the pages above need."""
    found = STATIC.get(request.match_info["name"])
    if found is None:
        return problem("not-found")
    content, content_type = found
    return web.Response(body=content, headers=headers(content_type, "public, max-age=300"))


def page(text: str, policy: str) -> web.Response:
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
