"""POST /v1/likes: parse, judge, cast, answer."""

import asyncio
import time

import msgspec
from aiohttp import web

from antifraud.networks import NetworkClass
from antifraud.screen import screen
from antifraud.signals import (
    BAD_VIEW,
    OTHER_AGENT,
    OTHER_NETWORK,
    TLS_UNLIKE_AGENT,
    Signals,
)
from voting.ballot import Ballot, Cast, Outcome
from voting.ballot_box import OnCast
from voting.campaign import Campaign, Candidate, Identity, Phase
from voting.device import DeviceToken
from voting.edge.answers import WITHDRAWN, Answer, allow, like_answer, overloaded, refusal
from voting.edge.bodies import CLICK_RULE, decode_like, is_click, read_body
from voting.edge.client_facts import Client
from voting.edge.known_devices import Device
from voting.edge.origins import allowed_origin, is_allowed
from voting.edge.parts import EDGE, Edge
from voting.edge.sender import Sender, sender_of
from voting.pseudonyms import Place, click_hash
from voting.view import NoView

_OVERLOADED = Cast(Outcome.OVERLOADED)
_STORE_DOWN = Cast(Outcome.STORE_DOWN)
_CHALLENGE = Cast(Outcome.CHALLENGE)
_IDENTITY_REQUIRED = Cast(Outcome.IDENTITY_REQUIRED)
_SHUT = {
    Phase.NOT_OPEN: Outcome.NOT_OPEN,
    Phase.PAUSED: Outcome.PAUSED,
    Phase.CLOSED: Outcome.CLOSED,
}
_CLOCKS_MAY_DIFFER_US = 15 * 60 * 1_000_000


class Tap(msgspec.Struct, frozen=True, gc=False):
    """A well-formed like of a verified device for a candidate that there is."""

    campaign: Campaign
    candidate: Candidate
    device: Device
    click: str
    place: Place
    client: Client
    origin: str | None = None
    dwell_centiseconds: int = 0
    """From the card's appearance to the tap; 0 = not known."""
    bad_view: bool = False
    """It came with a `view` that was not its own."""


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
    place = edge.client_address.place(sender)
    client = edge.client_address.client(sender)
    tap = read_tap(edge, body, sender, place, client)
    if isinstance(tap, Answer):
        return tap
    return answer_tap(edge, tap, await cast_tap(edge, tap))


def read_tap(edge: Edge, body: bytes, sender: Sender, place: Place, client: Client) -> Tap | Answer:
    """What the request asks for, or the answer that refuses it."""
    if edge.ballot_boxes.full:
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
    now = time.time()
    device = edge.known_devices.find(like.token, campaign, now)
    if device is None:
        return _refuse(edge, sender, "bad-token")
    candidate = campaign.by_id.get(like.candidate)
    if candidate is None:
        return _refuse(edge, sender, "unknown-candidate")
    if candidate.withdrawn:
        return _refuse(edge, sender, "unknown-candidate", title=WITHDRAWN)
    dwell, bad_view = dwell_of(edge, like.view, device.token, now, told_ms=like.dwell_ms)
    return Tap(campaign, candidate, device, like.click, place, client, origin, dwell, bad_view)


def dwell_of(
    edge: Edge, view: str | None, token: DeviceToken, now: float, *, told_ms: float | None = None
) -> tuple[int, bool]:
    """(how long a card was seen before the tap, in centiseconds; whether its view is a bad one).

    What the page says, but no longer than since it got its view, which cannot be forged. At least
    1, for 0 means not known: without a view, nothing is."""
    seconds = edge.views.read(view, token.device_id, now) if view else NoView.UNKNOWN
    if isinstance(seconds, NoView):
        return 0, seconds is NoView.BAD
    if told_ms is not None and 0 <= told_ms < seconds * 1000:
        seconds = told_ms / 1000
    return min(max(1, round(seconds * 100)), 0xFFFF), False


def _refuse(
    edge: Edge, sender: Sender, word: str, detail: str | None = None, title: str | None = None
) -> Answer:
    edge.metrics.problems[word] += 1
    origin = None if word == "wrong-origin" else allowed_origin(edge, sender)
    return refusal(word, title=title, detail=detail, origin=origin)


def _cast_of_newcomer(campaign: Campaign, now_us: int) -> Cast:
    """What becomes of the like of a device that has not solved its first challenge. It can have no
    vote yet whose answer it missed, so the store is spared; the order is the store's."""
    phase = campaign.phase_at(now_us)
    if phase is not Phase.OPEN:
        return Cast(_SHUT[phase])
    return _IDENTITY_REQUIRED if campaign.rules.identity is Identity.REQUIRED else _CHALLENGE


def put_tap(edge: Edge, tap: Tap, on_cast: OnCast) -> None:
    """Judge one like of a verified device and put it into the ballot box; every route to a like
    ends here.

    In this order: a click that was counted before has its first answer again; no likes now
    (closed, not open, paused); nobody vouches for the device, where somebody must; all else. The
    store tells, for it alone knows the clicks: so where identity is required, strangers' likes cost
    as much as others. Weakness: long after the close a counted click is told that it is closed.
    """
    campaign, box = tap.campaign, edge.ballot_boxes.of(tap.device.token.shard)
    if box is None:
        on_cast(_STORE_DOWN)  # at an edge that knows it, the same click counts
        return
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
    if not tap.device.token.rung and not campaign.holds_all:
        on_cast(_cast_of_newcomer(campaign, now_us))
        return
    signals = signals_of(edge, tap, now_us // 1_000_000)
    ballot = Ballot(
        tap.candidate.number,
        tap.device.pseudonym,
        tap.place,
        click_hash(tap.click),
    )
    box.put(campaign, ballot, signals, screen(signals), on_cast)


def signals_of(edge: Edge, tap: Tap, now_seconds: int) -> Signals:
    """The facts of a like, for judging."""
    token, client, network = tap.device.token, tap.client, tap.place.network
    oddities = client.oddities
    agent = client.user_agent_class
    if agent != token.user_agent_class and agent and token.user_agent_class:
        oddities |= OTHER_AGENT
    if network.network_class is _DATACENTRE and token.network_class not in _MAY_BE_DATACENTRE:
        oddities |= OTHER_NETWORK
    if client.tls_hash and edge.fingerprints.unlike(agent, client.tls_hash):
        oddities |= TLS_UNLIKE_AGENT
    if tap.bad_view:
        oddities |= BAD_VIEW
    return Signals(
        network.network_class,
        network.asn,
        agent,
        client.tls_hash,
        max(0, now_seconds - token.issued_at),
        token.level_at(now_seconds),
        tap.dwell_centiseconds,
        oddities,
    )


_DATACENTRE = NetworkClass.DATACENTRE
_MAY_BE_DATACENTRE = frozenset({NetworkClass.UNKNOWN, NetworkClass.DATACENTRE})


async def cast_tap(edge: Edge, tap: Tap) -> Cast:
    """The same, awaited."""
    answer: asyncio.Future[Cast] = asyncio.get_running_loop().create_future()

    def on_cast(cast: Cast) -> None:
        # Where its client hung up, nobody waits; the vote stands.
        if not answer.done():
            answer.set_result(cast)

    put_tap(edge, tap, on_cast)
    return await answer


def answer_tap(edge: Edge, tap: Tap, cast: Cast) -> Answer:
    """What the like's client is told."""
    if cast.outcome is Outcome.CHALLENGE:
        challenge = edge.issuing.challenge_for(tap.device.token, tap.place, time.time())
        if challenge is None:
            edge.metrics.count(_OVERLOADED)
            return overloaded(tap.origin)
        edge.metrics.count(cast)
        return refusal("challenge", origin=tap.origin, challenge=challenge)
    edge.metrics.count(cast)
    likes = edge.board.likes(tap.campaign, tap.candidate.number, cast.position)
    return like_answer(cast, tap.campaign, tap.candidate, likes, tap.origin)
