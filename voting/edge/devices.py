"""Devices: a token for a browser, what it must do for it, and what it has liked today."""

import math
import time
from typing import NamedTuple, TypeVar

import pydantic
from aiohttp import web

from antifraud.challenge import Finding
from voting import journal
from voting.campaign import Campaign
from voting.device import DeviceToken
from voting.edge.answers import Answer, allow, json_answer, overloaded, refusal
from voting.edge.bodies import (
    DeviceProofRequest,
    DeviceRequest,
    DeviceStateRequest,
    parse,
    read_body,
)
from voting.edge.origins import allowed_origin, is_allowed
from voting.edge.parts import EDGE, Edge
from voting.edge.sender import Sender, sender_of
from voting.identity import Refused
from voting.store_line import StoreDown

Wanted = TypeVar("Wanted", bound=pydantic.BaseModel)


async def post_device(request: web.Request) -> web.Response:
    """POST /v1/devices: a token for a device that has none, or for a person whom a portal vouches
    for."""
    body = await _read(request)
    if not isinstance(body, bytes):
        return body
    return new_device(request.app[EDGE], body, sender_of(request)).response()


def new_device(edge: Edge, body: bytes, sender: Sender) -> Answer:
    """The answer to a body of POST /v1/devices."""
    wanted = _parse(edge, DeviceRequest, body, sender)
    if isinstance(wanted, Answer):
        return wanted
    campaign = _campaign(edge, sender, wanted.campaign)
    if isinstance(campaign, Answer):
        return campaign
    now = time.time()
    place = edge.client_address.place(sender)
    agent_class = edge.client_address.client(sender).user_agent_class
    if wanted.identity is None:
        issued = edge.issuing.issue(campaign, place, agent_class, now, slow=wanted.slow)
    else:
        vouched = edge.vouching.device(campaign, wanted.identity, place, agent_class, now)
        if isinstance(vouched, Refused):
            return refusal("bad-identity", detail=vouched.detail, origin=sender.origin)
        issued = vouched
    if issued is None:
        return overloaded(sender.origin)
    view = edge.views.make(now, issued.device.device_id)
    answer = {"token": issued.token, "level": issued.level, "view": view}
    if issued.challenge is not None:
        answer["challenge"] = issued.challenge
    return json_answer(answer, status=201, origin=sender.origin)


async def post_device_state(request: web.Request) -> web.Response:
    """POST /v1/devices/state: what this device liked today."""
    body = await _read(request)
    if not isinstance(body, bytes):
        return body
    return (await _state(request.app[EDGE], body, sender_of(request))).response()


async def _state(edge: Edge, body: bytes, sender: Sender) -> Answer:
    wanted = _parse(edge, DeviceStateRequest, body, sender)
    if isinstance(wanted, Answer):
        return wanted
    campaign = _campaign(edge, sender, wanted.campaign)
    if isinstance(campaign, Answer):
        return campaign
    origin = sender.origin
    now = time.time()
    token = edge.mint.verify(wanted.token, campaign, now)
    if token is None:
        return refusal("bad-token", origin=origin)
    try:
        liked, remaining = await device_state(edge, campaign, token)
    except StoreDown:
        return refusal("store-down", origin=origin)
    view = edge.views.make(now, token.device_id)
    return json_answer({"liked": liked, "remaining_today": remaining, "view": view}, origin=origin)


async def device_state(
    edge: Edge, campaign: Campaign, token: DeviceToken
) -> tuple[list[str], int | None]:
    """(ids of the candidates whose likes of today are used up, remaining_today)."""
    box = edge.ballot_boxes.of(token.shard)
    if box is None:
        raise StoreDown("a shard that this edge does not know yet")
    device = edge.pseudonyms.device(token.device_id, campaign.id)
    day = campaign.window.day_at(box.store_now_us())
    record = await box.device_day(campaign, device, day)
    _, likes = journal.unpack_device_day(record, token.shard)
    numbers = [like.candidate for like in likes]
    rules = campaign.rules
    liked = [
        candidate.id
        for candidate in campaign.candidates
        if numbers.count(candidate.number) >= rules.likes_per_candidate_per_day
    ]
    quotas = []
    if rules.candidates_per_day:
        quotas.append(rules.candidates_per_day - len(set(numbers)))
    if rules.likes_per_campaign:
        given = await box.likes_in_campaign(campaign, device)
        quotas.append(rules.likes_per_campaign - given)
    return liked, max(0, min(quotas)) if quotas else None


class _Proof(NamedTuple):
    """A well-formed request with a token that is one of ours."""

    wanted: DeviceProofRequest
    token: DeviceToken
    now: float


async def post_device_proof(request: web.Request) -> web.Response:
    """POST /v1/devices/proof: a better token for a solved challenge, or for its age; without a
    solution, where one is needed or the slow way is asked for, a new challenge (428)."""
    body = await _read(request)
    if not isinstance(body, bytes):
        return body
    edge, sender = request.app[EDGE], sender_of(request)
    proof = _read_proof(edge, body, sender)
    if isinstance(proof, _Proof):
        proof = _without_store(edge, proof, sender) or await _solved(edge, proof, sender)
    return proof.response()


def proven_device(edge: Edge, body: bytes, sender: Sender) -> Answer | None:
    """The answer to a body of POST /v1/devices/proof as far as it needs neither the store nor a
    wait; None where it does."""
    proof = _read_proof(edge, body, sender)
    return _without_store(edge, proof, sender) if isinstance(proof, _Proof) else proof


def _read_proof(edge: Edge, body: bytes, sender: Sender) -> _Proof | Answer:
    wanted = _parse(edge, DeviceProofRequest, body, sender)
    if isinstance(wanted, Answer):
        return wanted
    if not is_allowed(edge, sender, None):
        return refusal("wrong-origin")
    now = time.time()
    token = edge.mint.open(wanted.token, now)
    if token is None:
        return refusal("bad-token", origin=sender.origin)
    return _Proof(wanted, token, now)


def _without_store(edge: Edge, proof: _Proof, sender: Sender) -> Answer | None:
    """What needs no look at a solution; None where that is needed. With challenges off there is
    nothing to prove, whatever is handed in. In a flood of solutions they are sent away before
    anything is read of them."""
    wanted, token, now = proof
    challenges = edge.issuing.mode != "off"
    if challenges and wanted.solution is not None:
        return overloaded(sender.origin) if edge.issuing.checks_no_more else None
    if challenges and (wanted.slow or not token.rung):
        return _another_challenge(edge, proof, sender, slow=wanted.slow)
    return _better_token(edge, token, edge.issuing.renew(token, now), now, sender)


async def _solved(edge: Edge, proof: _Proof, sender: Sender) -> Answer:
    """The answer to a solution."""
    wanted, token, now = proof
    place = edge.client_address.place(sender)
    agent_class = edge.client_address.client(sender).user_agent_class
    checked = edge.issuing.check(wanted.solution, token, place, agent_class, now)
    origin, finding = sender.origin, checked.finding
    if finding is Finding.MALFORMED:
        return refusal("malformed", detail="solution: not one of our challenges", origin=origin)
    if finding is Finding.REFUSED:
        detail = "the solution is wrong, or of another device or network"
        return refusal("refused", detail=detail, origin=origin)
    if finding is Finding.UNCHECKED:
        return overloaded(origin)
    if finding is Finding.EARLY:
        wait_seconds = math.ceil(checked.wait_seconds)
        return refusal("throttled", origin=origin, retry_after_seconds=wait_seconds)
    if finding is not Finding.SOLVED:
        # Out of date, or found faster than a browser could: it was worth nothing, so here is
        # another one.
        return _another_challenge(edge, proof, sender, slow=wanted.slow)
    if edge.proof_desk.full:
        return overloaded(origin)
    try:
        first_time = await edge.proof_desk.spend(token.shard, checked)
    except StoreDown:
        return refusal("store-down", origin=origin)
    if not first_time:
        detail = "this solution was handed in before"
        return refusal("refused", detail=detail, origin=origin)
    proven = edge.issuing.prove(token, now, slow=checked.slow)
    return _better_token(edge, token, proven, now, sender)


def _another_challenge(edge: Edge, proof: _Proof, sender: Sender, *, slow: bool) -> Answer:
    place = edge.client_address.place(sender)
    challenge = edge.issuing.challenge_for(proof.token, place, proof.now, slow=slow)
    if challenge is None:
        return overloaded(sender.origin)
    return refusal("challenge", origin=sender.origin, challenge=challenge)


def _better_token(
    edge: Edge, token: DeviceToken, better: tuple[str, int], now: float, sender: Sender
) -> Answer:
    """The same device with what it has shown."""
    text, level = better
    view = edge.views.make(now, token.device_id)
    return json_answer({"token": text, "level": level, "view": view}, origin=sender.origin)


def _campaign(edge: Edge, sender: Sender, campaign_id: str) -> Campaign | Answer:
    campaign = edge.catalog.campaigns.get(campaign_id)
    if campaign is None:
        return refusal(edge.catalog.unknown, origin=allowed_origin(edge, sender))
    return campaign if is_allowed(edge, sender, campaign) else refusal("wrong-origin")


async def _read(request: web.Request) -> bytes | web.Response:
    body = await read_body(request)
    if not isinstance(body, bytes):
        allow(body.headers, allowed_origin(request.app[EDGE], sender_of(request)))
    return body


def _parse(edge: Edge, wanted: type[Wanted], body: bytes, sender: Sender) -> Wanted | Answer:
    return parse(wanted.model_validate_json, body, allowed_origin(edge, sender))
