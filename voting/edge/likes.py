"""POST /v1/likes: parse, judge, cast, answer."""

import time

import msgspec
from aiohttp import hdrs, web

from antifraud.screen import screen
from antifraud.signals import Signals
from voting.ballot import Ballot, Cast, Outcome
from voting.campaign import Campaign, Candidate
from voting.device import DeviceToken
from voting.edge.answers import allow, like_answer, problem
from voting.edge.bodies import CLICK_RULE, decode_like, is_click, read_body
from voting.edge.origins import allowed_origin, is_allowed
from voting.edge.parts import EDGE, Edge
from voting.pseudonyms import click_hash

_CLOCKS_MAY_DIFFER_US = 15 * 60 * 1_000_000


class Tap(msgspec.Struct, frozen=True, gc=False):
    """A well-formed like of a verified device for a candidate that there is."""

    campaign: Campaign
    candidate: Candidate
    token: DeviceToken
    click: str
    origin: str | None


async def post_like(request: web.Request) -> web.StreamResponse:
    return await take_like(request.app[EDGE], request)


async def take_like(
    edge: Edge, request: web.Request, *, written: bool = False
) -> web.StreamResponse:
    """Parse, judge, cast, answer. `written`: see answers.WrittenAnswer."""
    tap = await read_tap(edge, request)
    if not isinstance(tap, Tap):
        return tap
    cast = await cast_like(edge, request, tap.campaign, tap.candidate, tap.token, tap.click)
    receipt = None
    if cast.position is not None and cast.outcome is not Outcome.REPEATED:
        receipt = edge.receipts.seal(cast.position, tap.campaign.number)
    published = edge.board.published(tap.campaign)
    likes = published.likes(tap.candidate.number, cast.position) if published else None
    return like_answer(
        cast, tap.campaign, tap.candidate, likes, receipt, tap.origin, written=written
    )


async def read_tap(edge: Edge, request: web.Request) -> Tap | web.Response:
    """What the request asks for, or the answer that refuses it."""

    def refuse(word: str, detail: str | None = None) -> web.Response:
        edge.metrics.problems[word] += 1
        origin = None if word == "wrong-origin" else allowed_origin(edge, request)
        return problem(word, detail=detail, origin=origin)

    body = await read_body(request)
    if not isinstance(body, bytes):
        edge.metrics.problems["body"] += 1
        allow(body.headers, allowed_origin(edge, request))
        return body
    try:
        like = decode_like(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        return refuse("malformed", str(why)[:200])
    if not is_click(like.click):
        return refuse("malformed", CLICK_RULE)
    campaign = edge.catalog.campaigns.get(like.campaign)
    if campaign is None:
        return refuse(edge.catalog.unknown)
    origin = request.headers.get(hdrs.ORIGIN)
    if (
        origin is not None
        and origin not in campaign.origins
        and not is_allowed(edge, request, campaign)
    ):
        return refuse("wrong-origin")
    token = edge.mint.verify(like.token, campaign, time.time())
    if token is None:
        return refuse("bad-token")
    candidate = campaign.by_id.get(like.candidate)
    if candidate is None or candidate.withdrawn:
        return refuse("unknown-candidate")
    return Tap(campaign, candidate, token, like.click, origin)


async def cast_like(
    edge: Edge,
    request: web.Request,
    campaign: Campaign,
    candidate: Candidate,
    token: DeviceToken,
    click: str,
) -> Cast:
    """Judge and cast one like of a verified device; every route to a like ends here."""
    state = _clearly_outside(edge, campaign)
    if state is not None:
        edge.metrics.outcomes[state] += 1
        return Cast(state)
    signals = Signals(
        token_age_seconds=max(0, int(time.time()) - token.issued_at),
        token_level=token.level,
    )
    ballot = Ballot(
        candidate=candidate.number,
        device=edge.pseudonyms.device(token.device_id, campaign.id),
        prefixes=edge.client_address.prefixes(request),
        click=click_hash(click),
    )
    cast = await edge.ballot_box.cast(campaign, ballot, signals, screen(signals))
    edge.metrics.outcomes[cast.outcome] += 1
    edge.metrics.again += cast.again
    return cast


def _clearly_outside(edge: Edge, campaign: Campaign) -> Outcome | None:
    """CLOSED or NOT_OPEN where no difference of clocks can matter: the store is spared a crowd
    that comes too late. Near the window's ends its clock decides."""
    now_us = edge.ballot_box.store_now_us()
    window = campaign.window
    if now_us > window.closes_at_us + _CLOCKS_MAY_DIFFER_US:
        return Outcome.CLOSED
    if now_us < window.opens_at_us - _CLOCKS_MAY_DIFFER_US:
        return Outcome.NOT_OPEN
    return None
