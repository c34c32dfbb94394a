"""POST /v1/likes: parse, judge, cast, answer."""

import asyncio
import time

import msgspec
from aiohttp import web

from antifraud.screen import screen
from antifraud.signals import Signals
from voting.ballot import Ballot, Cast, Outcome
from voting.ballot_box import OnCast
from voting.campaign import Campaign, Candidate
from voting.edge.answers import Answer, allow, like_answer, overloaded, refusal
from voting.edge.bodies import CLICK_RULE, decode_like, is_click, read_body
from voting.edge.known_devices import Device
from voting.edge.origins import allowed_origin, is_allowed
from voting.edge.parts import EDGE, Edge
from voting.edge.sender import Sender, sender_of
from voting.pseudonyms import Place, click_hash

_OVERLOADED = Cast(Outcome.OVERLOADED)
_CLOCKS_MAY_DIFFER_US = 15 * 60 * 1_000_000


class Tap(msgspec.Struct, frozen=True, gc=False):
    """A well-formed like of a verified device for a candidate that there is."""

    campaign: Campaign
    candidate: Candidate
    device: Device
    click: str
    origin: str | None = None


async def post_like(request: web.Request) -> web.Response:
    answer = await take_like(request.app[EDGE], request)
    return answer.response() if isinstance(answer, Answer) else answer


async def take_like(edge: Edge, request: web.Request) -> Answer | web.Response:
    """Parse, judge, cast, answer. The fast lane does the same by callbacks."""
    sender = sender_of(request)
    body = await read_body(request)
    if not isinstance(body, bytes):
        edge.metrics.problems["body"] += 1
        allow(body.headers, allowed_origin(edge, sender))
        return body
    tap = read_tap(edge, body, sender)
    if isinstance(tap, Answer):
        return tap
    return answer_tap(edge, tap, await cast_tap(edge, tap, sender))


def read_tap(edge: Edge, body: bytes, sender: Sender) -> Tap | Answer:
    """What the request asks for, or the answer that refuses it."""
    if edge.ballot_box.full:
        # Before anything is read: in an overload the likes that are taken pay for each look at
        # one that is not.
        edge.metrics.count(_OVERLOADED)
        return overloaded(allowed_origin(edge, sender))
    try:
        like = decode_like(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        return _refuse(edge, sender, "malformed", str(why)[:200])
    if not is_click(like.click):
        return _refuse(edge, sender, "malformed", CLICK_RULE)
    campaign = edge.catalog.campaigns.get(like.campaign)
    if campaign is None:
        return _refuse(edge, sender, edge.catalog.unknown)
    origin = sender.origin
    if (
        origin is not None
        and origin not in campaign.origins
        and not is_allowed(edge, sender, campaign)
    ):
        return _refuse(edge, sender, "wrong-origin")
    device = edge.known_devices.find(like.token, campaign, time.time())
    if device is None:
        return _refuse(edge, sender, "bad-token")
    candidate = campaign.by_id.get(like.candidate)
    if candidate is None or candidate.withdrawn:
        return _refuse(edge, sender, "unknown-candidate")
    return Tap(campaign, candidate, device, like.click, origin)


def _refuse(edge: Edge, sender: Sender, word: str, detail: str | None = None) -> Answer:
    edge.metrics.problems[word] += 1
    origin = None if word == "wrong-origin" else allowed_origin(edge, sender)
    return refusal(word, detail=detail, origin=origin)


def put_tap(edge: Edge, tap: Tap, place: Place, on_cast: OnCast) -> None:
    """Judge one like of a verified device and put it into the ballot box; every route to a like
    ends here."""
    campaign, token, box = tap.campaign, tap.device.token, edge.ballot_box
    now_us = box.store_now_us()
    # Where no difference of clocks can matter, the store is spared a crowd that comes too late;
    # near the window's ends its clock decides.
    window = campaign.window
    if now_us > window.closes_at_us + _CLOCKS_MAY_DIFFER_US:
        on_cast(Cast(Outcome.CLOSED))
        return
    if now_us < window.opens_at_us - _CLOCKS_MAY_DIFFER_US:
        on_cast(Cast(Outcome.NOT_OPEN))
        return
    signals = Signals(
        token_age_seconds=max(0, now_us // 1_000_000 - token.issued_at),
        token_level=token.level,
    )
    ballot = Ballot(
        tap.candidate.number,
        tap.device.pseudonym,
        place,
        click_hash(tap.click),
    )
    box.put(campaign, ballot, signals, screen(signals), on_cast)


async def cast_tap(edge: Edge, tap: Tap, sender: Sender) -> Cast:
    """The same, awaited."""
    answer: asyncio.Future[Cast] = asyncio.get_running_loop().create_future()

    def on_cast(cast: Cast) -> None:
        # Where its client hung up, nobody waits; the vote stands.
        if not answer.done():
            answer.set_result(cast)

    put_tap(edge, tap, edge.client_address.place(sender), on_cast)
    return await answer


def answer_tap(edge: Edge, tap: Tap, cast: Cast) -> Answer:
    """What the like's client is told."""
    edge.metrics.count(cast)
    likes = edge.board.likes(tap.campaign, tap.candidate.number, cast.position)
    return like_answer(cast, tap.campaign, tap.candidate, likes, tap.origin)
