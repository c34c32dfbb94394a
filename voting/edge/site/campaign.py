"""GET /campaigns/{campaign}[?q=...&channel=...]: what it is about, its rules, and all candidates.

750 candidates are 0.6 MB of text. Cards are made in slices, once for each state of the campaign;
the page is put together out of them when the order changes (each minute) and compressed in another
thread; then it is answered as it is. While it is made, whoever asks waits for the same one.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web
from markupsafe import Markup

from voting.campaign import Campaign, Candidate, Order
from voting.edge.answers import problem
from voting.edge.campaigns import campaign_of
from voting.edge.compressed import Body
from voting.edge.media import media_origin, picture
from voting.edge.parts import EDGE
from voting.edge.site.kept import KEPT, KeptPage
from voting.edge.site.moments import chinese, clock, standing
from voting.edge.site.render import (
    SHORT,
    base_to_keep,
    fill,
    frame_ancestors,
    page_key,
    path_of,
    policy,
    public_base,
    root_of,
    send,
    state_of,
    templates,
    within_budget,
)
from voting.edge.site.rules import rules_in_words

ORDER_KEPT_SECONDS = 60
QUERY_CHARACTERS_MAX = 40
FOUND_MAX = 60
"""So many are shown of what a search finds: it costs its sender nothing to ask for all."""
_SLICE = 40
_RULES_SHOWN = 5
_CARD = templates.get_template("wall_card.html")


class Card(NamedTuple):
    """One candidate's card as HTML, and what a search looks at."""

    candidate: Candidate
    html: Markup
    words: str


class Wall:
    """The cards of each campaign, made once for each of its states."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Campaign, asyncio.Task[list[Card]]]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._channels: dict[str, tuple[Campaign, dict[str, int]]] = {}

    def turn(self, campaign: Campaign) -> asyncio.Lock:
        """One page of a campaign is put together at a time; a large one keeps no other waiting."""
        return self._turns.setdefault(campaign.id, asyncio.Lock())

    def channels(self, campaign: Campaign) -> dict[str, int]:
        """Those of its candidates, with their numbers, in the order of the list."""
        held = self._channels.get(campaign.id)
        if held is None or held[0] is not campaign:
            made = {name: number for number, name in enumerate(channels_of(campaign))}
            held = self._channels[campaign.id] = (campaign, made)
        return held[1]

    async def of(self, campaign: Campaign, root: str, media_url: str | None) -> list[Card]:
        """Those who are in the campaign, in listed order."""
        made = self._made.get(campaign.id)
        if made is None or made[0] is not campaign or _failed(made[1]):
            task = asyncio.create_task(_make_cards(campaign, root, media_url))
            made = self._made[campaign.id] = (campaign, task)
        return await asyncio.shield(made[1])


WALL = web.AppKey("wall", Wall)


def _failed(task: asyncio.Task[list[Card]]) -> bool:
    """What failed once is tried again by who asks next."""
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _make_cards(campaign: Campaign, root: str, media_url: str | None) -> list[Card]:
    channels = {name: n for n, name in enumerate(channels_of(campaign))}
    cards = []
    for number, candidate in enumerate(campaign.standing):
        if number % _SLICE == 0:
            await asyncio.sleep(0)  # likes are taken in between
        text = _CARD.render(
            campaign=campaign,
            candidate=candidate,
            channel=channels[candidate.channel],
            picture=picture(campaign, candidate.photo, root, media_url),
            root=root,
        )
        words = " ".join((candidate.name, candidate.organisation, candidate.title, candidate.unit))
        cards.append(Card(candidate, Markup(text), words.casefold()))  # noqa: S704
    return cards


def channels_of(campaign: Campaign) -> list[str]:
    """In the order of the list."""
    return list(dict.fromkeys(c.channel for c in campaign.standing))


async def get_campaign_page(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    wanted = _Wanted.of(request, campaign)
    if wanted.query:
        return await _found(request, campaign, wanted)
    page, body = await _page_of(request, campaign, wanted)
    return _answer(request, campaign, body, page.etag(public_base(request)))


async def _found(request: web.Request, campaign: Campaign, wanted: "_Wanted") -> web.Response:
    """What a search finds: nobody else asks for it, and it is not kept."""
    wall = request.app[WALL]
    cards = await wall.of(campaign, root_of(request), request.app[EDGE].settings.media_url)

    def make() -> web.Response:
        values = page_values(campaign, cards, wanted, *_moment(request, campaign))
        text = _render(request, values, public_base(request))
        return _answer(request, campaign, Body(text))

    return within_budget(request, "search", make)


async def _page_of(
    request: web.Request, campaign: Campaign, wanted: "_Wanted"
) -> tuple[KeptPage, Body]:
    """The page, and its body at this base: as they are kept, or made now, in turn."""
    kept, wall, base = request.app[KEPT], request.app[WALL], public_base(request)
    turn, now_us = _moment(request, campaign)
    key = page_key(request, "campaign", wanted)
    made_from = (state_of(request, campaign), turn, "".join(standing(campaign, now_us)))
    page = kept.find(key, made_from)
    if page is not None and (body := page.find(base)) is not None:
        return page, body
    async with wall.turn(campaign):
        page = known = kept.find(key, made_from)
        if page is None:
            media_url = request.app[EDGE].settings.media_url
            cards = await wall.of(campaign, root_of(request), media_url)
            page = await asyncio.to_thread(
                _make, request, lambda: page_values(campaign, cards, wanted, turn, now_us)
            )
        body = page.find(base)
        if body is None:
            body = page.make(base)
            if page.has_room:
                await asyncio.to_thread(_compress, body)
                page.keep(base, body)
        if known is None:
            # Only now: whoever found it before would compress it once more, and on the loop.
            kept.keep(key, made_from, page)
    return page, body


def _moment(request: web.Request, campaign: Campaign) -> tuple[int, int]:
    """(number of the order that the candidates stand in, the time as the store has it)."""
    turn = int(time.time()) // ORDER_KEPT_SECONDS if campaign.rules.order is Order.RANDOM else 0
    return turn, request.app[EDGE].ballot_boxes.store_now_us()


def _answer(request: web.Request, campaign: Campaign, body: Body, etag: str = "") -> web.Response:
    return send(
        request,
        body,
        policy=policy(
            scripts=True,
            frames=frame_ancestors(campaign),
            forms="'self'",
            media=media_origin(request.app[EDGE].settings),
        ),
        cache=SHORT,
        surrogate_key=f"campaign-{campaign.id}",
        etag=etag,
    )


class _Wanted(NamedTuple):
    """What a visitor without a script asks for; "" = all."""

    query: str
    channel: str

    @classmethod
    def of(cls, request: web.Request, campaign: Campaign) -> "_Wanted":
        """A channel that there is not is not asked for."""
        query = " ".join(request.query.get("q", "").split())[:QUERY_CHARACTERS_MAX]
        channel = request.query.get("channel", "")
        return cls(query, channel if channel in request.app[WALL].channels(campaign) else "")


def page_values(
    campaign: Campaign, cards: list[Card], wanted: _Wanted, turn: int, now_us: int
) -> dict[str, Any]:
    """What the template shows."""
    shown = cards
    if campaign.rules.order is Order.RANDOM:
        # Another order each minute, the same for all: caches keep a copy, and nobody is always
        # first.
        shown = random.Random(f"{campaign.id}-{turn}").sample(cards, len(cards))  # noqa: S311
    if wanted.channel:
        shown = [card for card in shown if card.candidate.channel == wanted.channel]
    if wanted.query:
        parts = wanted.query.casefold().split()
        shown = [card for card in shown if all(part in card.words for part in parts)]
    found = len(shown)
    if wanted.query:
        shown = shown[:FOUND_MAX]
    people_of = Counter(card.candidate.channel for card in cards)
    return {
        "campaign": campaign,
        "standing": standing(campaign, now_us),
        "opens": chinese(campaign, campaign.window.opens_at),
        "closes": chinese(campaign, campaign.window.closes_at),
        "clock": clock(campaign),
        "rules": rules_in_words(campaign)[:_RULES_SHOWN],
        "cards": Markup("".join(card.html for card in shown)),  # noqa: S704
        "found": found,
        "shown": len(shown),
        "people": len(cards),
        "wanted": wanted,
        "channels": [
            (number, name, people_of[name]) for number, name in enumerate(channels_of(campaign))
        ],
        "withdrawn": [candidate for candidate in campaign.candidates if candidate.withdrawn],
        "notice_at": chinese(campaign, campaign.notices[-1].at) if campaign.notices else "",
    }


def _render(request: web.Request, values: dict[str, Any], base: str) -> bytes:
    root = root_of(request)
    settings = request.app[EDGE].settings
    campaign: Campaign = values["campaign"]
    cover = campaign.page.cover
    return fill(
        "campaign.html",
        root=root,
        base=base,
        path=path_of(request),
        **values
        | {
            "cover": picture(campaign, cover, root, settings.media_url),
            "share": picture(campaign, cover, base, settings.media_url) if base else None,
        },
    ).encode()


def _make(request: web.Request, make_values: Callable[[], dict[str, Any]]) -> KeptPage:
    """In a thread: with 65,000 candidates it takes seconds, in which likes are taken."""
    return KeptPage(_render(request, make_values(), base_to_keep(request)))


def _compress(body: Body) -> None:
    """In a thread: compressing lets go of the interpreter, and takes 10 ms for 750 candidates."""
    _ = body.gzipped
