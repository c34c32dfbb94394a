"""The card as a page of its own: in a portal's frame, or where a form without JavaScript leads.

The card's device lives in the only cookie of the edge, partitioned by the embedding site, and is
set by nothing but the form's post. A browser that keeps no cookie gets a new device with each
click, and can wait nowhere for a ticket's time: so a new device also goes through the page's
address and its form, beside the ticket, as long as that is needed. It is believed there only
together with a ticket of its own, which ends with its 15 minutes and its network: nobody can make
others vote with a device by a link. A device that came in a cookie is in no address.

A counted press takes its receipt along to the page that says so: for a link to it, and because
counts are up to a second old, so that the vote is counted where the count does not have it yet. A
held press has one just the same.

Every address in it is relative, and so is the way back: it works under any path that a proxy mounts
the edge at. The cookie's path is the edge's own; such a proxy has to rewrite it (nginx:
proxy_cookie_path / /its-path/).

The page is not compressed: it may hold a device's token.
"""

import contextlib
import math
import secrets
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import hdrs, web

from antifraud.challenge import Finding
from antifraud.signals import VOUCHED
from voting.ballot import Outcome, Position
from voting.campaign import Campaign, Candidate, Identity, Phase, Rules
from voting.device import VALID_SECONDS, DeviceToken
from voting.edge.answers import FOR_GOOD, headers, problem, public_headers, word_of
from voting.edge.bodies import CLICK_RULE, FORM_TYPES, is_click, read_body
from voting.edge.campaigns import campaign_of, candidate_of
from voting.edge.card_words import SAID, WORDS, choices_of, colour_of, said_of_phase
from voting.edge.compressed import Body, answer
from voting.edge.devices import device_state
from voting.edge.likes import Tap, cast_tap, dwell_of
from voting.edge.media import media_origin, picture
from voting.edge.origins import is_allowed
from voting.edge.parts import EDGE, Edge
from voting.edge.sender import sender_of
from voting.edge.site import colours
from voting.edge.site.render import frame_ancestors, policy, render, root_of, templates
from voting.edge.site.static import digest_of
from voting.pseudonyms import Place
from voting.store_line import StoreDown

_COOKIE = "dianzan-device"


async def get_card(request: web.Request) -> web.Response:
    """GET /embed/v1/card/{campaign}/{candidate}[?lang=&theme=&color=]."""
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    candidate = candidate_of(request, campaign)
    if candidate is None:
        return problem("unknown-candidate")
    if candidate.withdrawn:
        words = WORDS[choices_of(request.query).lang]
        return _page(request, campaign, candidate, state="withdrawn", message=words["withdrawn"])
    now, query = time.time(), request.query
    kept = request.cookies.get(_COOKIE, "")
    place = edge.client_address.place(sender_of(request))
    held = _device_of(edge, campaign, place, kept, query, now)
    token = edge.mint.verify(held, campaign, now)
    liked, left = False, _quota(campaign.rules)
    if token is not None:
        with contextlib.suppress(StoreDown):  # the card can still be shown
            all_liked, left = await device_state(edge, campaign, token)
            liked = candidate.id in all_liked
    phase = campaign.phase_at(edge.ballot_boxes.store_now_us())
    lang = choices_of(query).lang
    # Only our own words come back out of the query, and a ticket that we wrote for this device.
    message = said_of_phase(campaign, phase, lang) or SAID[lang].get(query.get("said", ""))
    receipt = query.get("receipt", "")
    own = _vote_of(edge, campaign, receipt)
    ticket = query.get("ticket", "")
    waiting = _waiting_seconds(edge, ticket, token, place, now)
    if waiting is None:
        ticket = ""
    elif phase is Phase.OPEN:
        message = WORDS[lang]["wait" if waiting else "now"].format(waiting)
    return _page(
        request,
        campaign,
        candidate,
        state=_state(campaign, phase, token, liked, left),
        message=message,
        left=left if phase is Phase.OPEN and left else None,
        ticket=ticket,
        device="" if held == kept else held,
        waiting=waiting if phase is Phase.OPEN else None,
        receipt="" if own is None else receipt,
        own=own,
    )


def _vote_of(edge: Edge, campaign: Campaign, receipt: str) -> Position | None:
    """The vote of which the address says that it was just counted."""
    opened = edge.receipts.open(receipt)
    return opened[1] if opened is not None and opened[0] == campaign.number else None


def _state(
    campaign: Campaign, phase: Phase, token: DeviceToken | None, liked: bool, left: int | None
) -> str:
    """What stands where the button is: a name in WORDS, "like" for the button itself."""
    if liked:
        return "liked"
    if phase is not Phase.OPEN:
        return phase
    if campaign.rules.identity is Identity.REQUIRED and (token is None or token.rung < VOUCHED):
        return "identity"
    return "like" if left is None or left > 0 else "spent"


def _quota(rules: Rules) -> int | None:
    """How many likes a new device has today; None = no limit."""
    quotas = [n for n in (rules.candidates_per_day, rules.likes_per_campaign) if n]
    return min(quotas, default=None)


def _page(
    request: web.Request,
    campaign: Campaign,
    candidate: Candidate,
    *,
    state: str,
    message: str | None,
    left: int | None = None,
    ticket: str = "",
    device: str = "",
    waiting: int | None = None,
    receipt: str = "",
    own: Position | None = None,
) -> web.Response:
    edge, choices = request.app[EDGE], choices_of(request.query)
    text = render(
        request,
        "card.html",
        campaign=campaign,
        candidate=candidate,
        picture=picture(campaign, candidate.photo, root_of(request), edge.settings.media_url),
        lang=choices.lang,
        words=WORDS[choices.lang],
        theme=choices.theme,
        colour=colour_of(campaign, choices),
        kept=urlencode(choices.kept),
        # Nobody's frame: then it has a ground of its own, and links that stay in it.
        alone=request.headers.get("Sec-Fetch-Dest") == "document",
        likes=None if candidate.withdrawn else edge.board.likes(campaign, candidate.number, own),
        click=secrets.token_urlsafe(16),
        view=edge.views.make(time.time()),
        state=state,
        message=message,
        left=left,
        ticket=ticket,
        device=device,
        waiting=waiting,
        receipt=receipt,
    )
    made = headers("text/html; charset=utf-8")
    made["Content-Security-Policy"] = policy(
        frames=frame_ancestors(campaign), forms="'self'", media=media_origin(edge.settings)
    )
    # Not no-referrer: it would make a form's Origin "null", which is foreign.
    made["Referrer-Policy"] = "strict-origin-when-cross-origin"
    made["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    return web.Response(body=text.encode(), headers=made)


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
        made[hdrs.LOCATION] = _address(candidate, choices_of(request.query).kept)  # it says so
        return web.Response(status=303, headers=made)
    body = await read_body(request, FORM_TYPES)
    if isinstance(body, web.Response):
        return body
    fields = dict(_form_fields(body))
    # A portal's own form has none: each press of it is another click.
    click = fields["click"] if "click" in fields else secrets.token_urlsafe(16)
    if not is_click(click):
        return problem("malformed", detail=CLICK_RULE)
    now = time.time()
    place = edge.client_address.place(sender)
    client = edge.client_address.client(sender)
    kept = request.cookies.get(_COOKIE, "")
    if edge.mint.has_ended(kept, campaign, now):
        # No stranger's device instead: what they like with it would be beside what they liked.
        return _back(request, campaign, candidate, None, "identity-ended")
    held = _device_of(edge, campaign, place, kept, fields, now)
    device = edge.known_devices.find(held, campaign, now)
    if device is None:
        held = edge.issuing.issue_to_form(
            campaign, place, client.user_agent_class, now, fields.get("click", "")
        )
        device = edge.known_devices.find(held, campaign, now)
        assert device is not None
    cookieless = held != kept
    ticket = fields.get("ticket", "")
    checked = edge.issuing.check_ticket(ticket, device.token, place, now)
    if checked.finding is Finding.EARLY:
        return _back(request, campaign, candidate, held, "challenge", ticket, in_address=cookieless)
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
        return _back(request, campaign, candidate, held, "challenge", ticket, in_address=cookieless)
    word = "counted" if cast.outcome is Outcome.HELD else word_of(cast.outcome)
    receipt = cast.receipt if word == "counted" else None
    return _back(request, campaign, candidate, held, word, receipt=receipt)


def _back(
    request: web.Request,
    campaign: Campaign,
    candidate: Candidate,
    held: str | None,
    word: str,
    ticket: str = "",
    *,
    receipt: str | None = None,
    in_address: bool = False,
) -> web.Response:
    """Back to the card, which says this word, with the device in its cookie (None: that is taken
    away); `in_address`: in the page's address too. `receipt`: of the vote that was counted."""
    said = {"said": word} | ({"ticket": ticket} if ticket else {})
    if receipt:
        said["receipt"] = receipt
    if in_address and held:
        said["device"] = held
    made = headers("text/plain")
    made[hdrs.LOCATION] = _address(candidate, {**said, **choices_of(request.query).kept})
    # By hand: http.cookies knows Partitioned only from Python 3.14 on. A token is base64url.
    made[hdrs.SET_COOKIE] = (
        f"{_COOKIE}={held or ''}; Max-Age={VALID_SECONDS if held else 0};"
        f" Path={_cookie_path(campaign)}; Secure; HttpOnly; SameSite=None; Partitioned"
    )
    return web.Response(status=303, headers=made)


def _address(candidate: Candidate, query: Mapping[str, str]) -> str:
    """The card's own, as seen from itself."""
    return f"./{quote(candidate.id)}" + (f"?{urlencode(query)}" if query else "")


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


async def get_colour(request: web.Request) -> web.Response:
    """GET /static/colour/{rrggbb}.css: the card's colours, as a file, since its policy allows no
    style in the page."""
    body, digest = _colour_sheet(request.match_info["colour"])
    cache = FOR_GOOD if request.query_string == digest else "public, max-age=300"
    return answer(request, body, public_headers("text/css; charset=utf-8", cache))


def _colour_digest(colour: str) -> str:
    return _colour_sheet(colour)[1]


templates.globals["colour_digest"] = _colour_digest


@lru_cache(maxsize=256)
def _colour_sheet(colour: str) -> tuple[Body, str]:
    """(style sheet, its digest)."""
    light, dark = (
        "".join(f"--{name.replace('_', '-')}:{value};" for name, value in scheme._asdict().items())
        for scheme in (colours.light(f"#{colour}"), colours.dark(f"#{colour}"))
    )
    sheet = (
        f":root{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
        f"@media print{{:root:root:root{{{light}}}}}\n"
    ).encode()
    return Body(sheet), digest_of(sheet)


def _cookie_path(campaign: Campaign) -> str:
    """A token is one campaign's: so is its cookie."""
    return f"/embed/v1/card/{campaign.id}"


def _form_fields(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), max_num_fields=16)
    except ValueError:
        return []
