"""GET /embed/: for who programs a portal's pages. Choose, copy the lines, see them live.

The lines are made here and nowhere else: a script on the page asks for them anew
(`part=lines`) when a choice changes, and without a script the form does. Nothing of a choice is
kept; what is shown depends on the address alone. The live cards are real: who likes in them has
liked.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from markupsafe import Markup, escape

from voting.campaign import Campaign, Candidate, Phase
from voting.edge import widget
from voting.edge.answers import headers, problem
from voting.edge.counts import counts_answer
from voting.edge.media import media_origin
from voting.edge.parts import EDGE, Edge
from voting.edge.site.colours import DEFAULT
from voting.edge.site.kept import KEPT
from voting.edge.site.lines import (
    LANGUAGES,
    THEMES,
    Build,
    Choice,
    Route,
    lines,
    markup,
)
from voting.edge.site.render import (
    SHORT,
    page,
    policy,
    public_base,
    root_of,
    state_of,
    within_budget,
)

_COLOUR = re.compile(r"#[0-9a-f]{6}")
_SOMEWHERE = "https://likes.example.cn/"
"""What lines say where nobody knows how the service is called."""
_ORIGIN_CHARACTERS_MAX = 300
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORDER = {Phase.OPEN: 0, Phase.PAUSED: 1, Phase.NOT_OPEN: 2, Phase.CLOSED: 3}
_OF_COUNTS = ("Cache-Control", "ETag", "Vary", "Surrogate-Key", "Access-Control-Allow-Origin")


class Asked(NamedTuple):
    """The choice, and what of the query could not be taken."""

    choice: Choice
    missing: str
    """A candidate who was asked for and is not there; "" where all is well."""


class Origin(NamedTuple):
    """What somebody typed as the address of a page, and what became of it."""

    typed: str
    read: str
    """As a browser sends it; "" where it is no address of a page."""
    listed: bool


async def get_embed(request: web.Request) -> web.Response:
    """The whole page, or with `part=lines` what depends on the choice alone."""
    return within_budget(request, "embed", lambda: _answer(request, request.app[EDGE]))


def _answer(request: web.Request, edge: Edge) -> web.Response:
    if not edge.catalog.read:
        return problem("store-down")
    query = request.query
    campaigns = edge.catalog.campaigns
    wanted = query.get("campaign", "")
    if wanted and wanted not in campaigns:
        return problem("unknown-campaign")
    offered = public_campaigns(edge)
    campaign = campaigns[wanted] if wanted else next(iter(offered), None)
    asked = None if campaign is None else _asked(campaign, query.get("candidate", ""), query)
    if query.get("part") == "lines":
        if asked is None:
            return problem("unknown-candidate")
        template, values = "embed_parts.html", {}
    else:
        template, values = "embed.html", _around(request, edge, campaign, offered, asked)
    return page(
        request,
        template,
        policy=_policy(edge),
        cache=SHORT,
        campaign=campaign,
        asked=asked,
        origin=_origin(query.get("origin", ""), campaign),
        **_of_lines(request, edge, asked, query.get("route", "")),
        **values,
    )


async def get_embed_without_slash(_: web.Request) -> web.Response:
    """/embed: relative addresses of the page need the slash."""
    made = headers("text/plain", "public, max-age=300")
    made[hdrs.LOCATION] = "embed/"
    return web.Response(status=301, headers=made)


def public_campaigns(edge: Edge) -> list[Campaign]:
    """All but tests: those that are open first, then those that open next; the newest first."""
    now_us = edge.ballot_boxes.store_now_us()
    found = [each for each in edge.catalog.campaigns.values() if not each.is_test]
    return sorted(found, key=lambda each: (_ORDER[each.phase_at(now_us)], -each.number))


def _asked(campaign: Campaign, candidate_id: str, query: Mapping[str, str]) -> Asked | None:
    """None where the campaign has nobody. Whatever is not one of our words is as if not said."""
    candidates = campaign.standing
    if not candidates:
        return None
    candidate = campaign.by_id.get(candidate_id)
    missing = ""
    if candidate is None or candidate.withdrawn:
        missing = candidate.name if candidate else candidate_id[:64]
        candidate = candidates[0]
    theme, language = query.get("theme", ""), query.get("lang", "")
    return Asked(
        Choice(
            campaign,
            candidate,
            theme if theme in THEMES else THEMES[0],
            _colour(query.get("color", ""), campaign),
            language if language in LANGUAGES else "",
            query.get("build", "") != "newest",
        ),
        missing,
    )


def _colour(wanted: str, campaign: Campaign) -> str:
    """ "" where it is the elements' own."""
    colour = wanted.lower()
    if not _COLOUR.fullmatch(colour):
        colour = campaign.page.colour.lower()
    return colour if _COLOUR.fullmatch(colour) and colour != DEFAULT else ""


def _of_lines(request: web.Request, edge: Edge, asked: Asked | None, wanted: str) -> dict[str, Any]:
    """What the lines are shown with. Without a wanted route: all of them."""
    base, root = public_base(request) or _SOMEWHERE, root_of(request)
    chosen = Route(wanted) if wanted in set(Route) else None
    made: dict[str, Any] = {"route": chosen, "lines": [], "widget_colour": DEFAULT}
    if asked is not None:
        build, media = _build(), media_origin(edge.settings)
        made["lines"] = [
            (
                lines(route, asked.choice, base, build, media),
                # By the same function as what is copied, which escapes: what is seen is what works.
                Markup(markup(route, asked.choice, root)),  # noqa: S704
            )
            for route in ([chosen] if chosen else Route)
        ]
    return made


def _around(
    request: web.Request,
    edge: Edge,
    campaign: Campaign | None,
    offered: list[Campaign],
    asked: Asked | None,
) -> dict[str, Any]:
    """What the rest of the page is made of."""
    base = public_base(request) or _SOMEWHERE
    if campaign is not None and campaign not in offered:
        offered = [*offered, campaign]  # a test: shown to who knows its id
    return {
        "offered": offered,
        "options": "" if asked is None else _options(request, asked.choice),
        "build": _build(),
        "public_origin": "/".join(base.split("/", 3)[:3]),
        "media": media_origin(edge.settings),
        "counts": None if campaign is None else _counts(edge, campaign, base),
    }


def _options(request: web.Request, choice: Choice) -> Markup:
    """An <option> of each candidate. 750 of them take some milliseconds, in which no like is
    taken: made once for each state of a campaign."""
    campaign = choice.campaign
    made = request.app[KEPT].get(
        ("embed-options", campaign.id),
        (state_of(request, campaign),),
        lambda: "".join(_option(each) for each in campaign.standing).encode(),
    )
    value = f'value="{escape(choice.candidate.id)}"'
    return Markup(made.at("").plain.decode().replace(value, f"{value} selected", 1))  # noqa: S704


def _option(candidate: Candidate) -> str:
    words = f"{candidate.name} · {candidate.organisation} · {candidate.channel}"
    return f'<option value="{escape(candidate.id)}">{escape(words)}</option>\n'


def _counts(edge: Edge, campaign: Campaign, base: str) -> dict[str, Any]:
    """What a server of a portal's asks, and what it is answered right now."""
    address = f"{base}v1/campaigns/{campaign.id}/counts"
    answer = counts_answer(edge, campaign, None, gzip=True)
    fields = {} if answer is None else answer.headers.fields
    etag = fields.get("ETag", 'W/"..."')
    return {
        "address": shlex.quote(address),
        "if_none_match": shlex.quote(f"If-None-Match: {etag}"),
        "headers": [(name, fields[name]) for name in _OF_COUNTS if name in fields],
    }


def _origin(typed: str, campaign: Campaign | None) -> Origin | None:
    """Whether the page that somebody means is on the campaign's list; None where nobody asked."""
    typed = typed.strip()[:_ORIGIN_CHARACTERS_MAX]
    if not typed or campaign is None:
        return None
    read = origin_of(typed)
    return Origin(typed, read, read in campaign.origins)


def origin_of(typed: str) -> str:
    """The origin of a page as its browser sends it: without path, in small letters, without the
    usual port, in ASCII; https where nothing is said. "" for what is no address of a page."""
    if "://" not in typed:
        typed = f"https://{typed}"
    try:
        parts = urlsplit(typed)
        host, port = parts.hostname or "", parts.port
        host = host.encode("idna").decode()
    except (ValueError, UnicodeError):
        return ""
    if parts.scheme not in _DEFAULT_PORTS or not re.fullmatch(r"[a-z0-9:._-]+", host):
        return ""
    if ":" in host:
        host = f"[{host}]"
    own_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{own_port}"


def _build() -> Build:
    return Build(widget.NEWEST, widget.integrity(widget.NEWEST, "like.js"))


def _policy(edge: Edge) -> str:
    said = policy(scripts=True, forms="'self'", media=media_origin(edge.settings))
    return f"{said}; frame-src 'self'"
