"""GET /campaigns/{campaign}[?q=...&channel=...]: what it is about, its rules, and all candidates.

750 candidates are 0.6 MB of text. Cards are made in slices, once for each state of the campaign;
the page is put together out of them when the order changes (each minute) and compressed in another
thread; then it is answered as it is. While it is made, whoever asks waits for the same one.
"""

import asyncio
import random
import time
from typing import Any, NamedTuple

from aiohttp import web
from markupsafe import Markup

from voting.campaign import Campaign, Candidate, Order
from voting.edge.answers import problem
from voting.edge.campaigns import campaign_of
from voting.edge.compressed import Body
from voting.edge.media import media_origin, picture
from voting.edge.parts import EDGE
from voting.edge.site.moments import chinese, clock, standing
from voting.edge.site.render import (
    KEPT,
    SHORT,
    fill,
    frame_ancestors,
    page_key,
    policy,
    public_base,
    root_of,
    send,
    templates,
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
        self.turn = asyncio.Lock()
        """One page is put together at a time."""

    async def of(self, campaign: Campaign, root: str, media_url: str | None) -> list[Card]:
        """Those who are in the campaign, in listed order."""
        made = self._made.get(campaign.id)
        if made is None or made[0] is not campaign:
            task = asyncio.create_task(_make_cards(campaign, root, media_url))
            made = self._made[campaign.id] = (campaign, task)
        return await asyncio.shield(made[1])


WALL = web.AppKey("wall", Wall)


async def _make_cards(campaign: Campaign, root: str, media_url: str | None) -> list[Card]:
    here = [candidate for candidate in campaign.candidates if not candidate.withdrawn]
    channels = {name: n for n, name in enumerate(channels_of(campaign))}
    cards = []
    for number, candidate in enumerate(here):
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
    return list(dict.fromkeys(c.channel for c in campaign.candidates if not c.withdrawn))


async def get_campaign_page(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    wanted = _Wanted.of(request, campaign)
    now_us = edge.ballot_box.store_now_us()
    turn = int(time.time()) // ORDER_KEPT_SECONDS if campaign.rules.order is Order.RANDOM else 0
    key = page_key(request, "campaign", wanted)
    made_from = (campaign, turn, "".join(standing(campaign, now_us)))
    kept, wall = request.app[KEPT], request.app[WALL]
    body = kept.find(key, made_from)
    if body is None:
        async with wall.turn:
            body = kept.find(key, made_from)
            if body is None:
                cards = await wall.of(campaign, root_of(request), edge.settings.media_url)
                values = page_values(campaign, cards, wanted, turn, now_us)
                body = kept.keep(key, made_from, _render(request, values))
                await asyncio.to_thread(_compress, body)
    return send(
        request,
        body,
        policy=policy(
            scripts=True,
            frames=frame_ancestors(campaign),
            forms="'self'",
            media=media_origin(edge.settings),
        ),
        cache=SHORT,
        surrogate_key=f"campaign-{campaign.id}",
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
        return cls(query, channel if channel in channels_of(campaign) else "")


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
    channels = channels_of(campaign)
    return {
        "campaign": campaign,
        "standing": standing(campaign, now_us),
        "opens": chinese(campaign, campaign.window.opens_at),
        "closes": chinese(campaign, campaign.window.closes_at),
        "clock": clock(campaign),
        "rules": rules_in_words(campaign)[:_RULES_SHOWN],
        "cards": Markup("").join(card.html for card in shown),
        "found": found,
        "shown": len(shown),
        "people": len(cards),
        "wanted": wanted,
        "channels": [
            (number, name, sum(card.candidate.channel == name for card in cards))
            for number, name in enumerate(channels)
        ],
        "withdrawn": [candidate for candidate in campaign.candidates if candidate.withdrawn],
        "notice_at": chinese(campaign, campaign.notices[-1].at) if campaign.notices else "",
        "cover": campaign.page.cover,
    }


def _render(request: web.Request, values: dict[str, Any]) -> bytes:
    root, base = root_of(request), public_base(request)
    settings = request.app[EDGE].settings
    campaign: Campaign = values["campaign"]
    cover = campaign.page.cover
    return fill(
        "campaign.html",
        root=root,
        base=base,
        path=request.rel_url.raw_path.lstrip("/"),
        **values
        | {
            "cover": picture(campaign, cover, root, settings.media_url),
            "share": picture(campaign, cover, base, settings.media_url) if base else None,
        },
    ).encode()


def _compress(body: Body) -> None:
    """In a thread: compressing lets go of the interpreter, and takes 10 ms for 750 candidates."""
    _ = body.gzipped
