"""Devices: a token for a browser, and what it has liked today."""

import time
from typing import TypeVar

import pydantic
from aiohttp import web

from voting import journal
from voting.campaign import Campaign
from voting.device import DeviceToken
from voting.edge.answers import Answer, allow, json_answer, refusal
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
from voting.store_line import StoreDown

Wanted = TypeVar("Wanted", bound=pydantic.BaseModel)

LEVEL = 1
"""What a new device gets while challenges are off."""


async def post_device(request: web.Request) -> web.Response:
    """POST /v1/devices: a token for a device that has none."""
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
    token = edge.mint.issue(campaign, time.time(), level=LEVEL)
    return json_answer({"token": token, "level": LEVEL}, status=201, origin=sender.origin)


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
    token = edge.mint.verify(wanted.token, campaign, time.time())
    if token is None:
        return refusal("bad-token", origin=origin)
    try:
        liked, remaining = await device_state(edge, campaign, token)
    except StoreDown:
        return refusal("store-down", origin=origin)
    return json_answer({"liked": liked, "remaining_today": remaining}, origin=origin)


async def device_state(
    edge: Edge, campaign: Campaign, token: DeviceToken
) -> tuple[list[str], int | None]:
    """(ids of the candidates whose likes of today are used up, remaining_today)."""
    box = edge.ballot_box
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


async def post_device_proof(request: web.Request) -> web.Response:
    """POST /v1/devices/proof: a token for a solved challenge."""
    body = await _read(request)
    if not isinstance(body, bytes):
        return body
    return proven_device(request.app[EDGE], body, sender_of(request)).response()


def proven_device(edge: Edge, body: bytes, sender: Sender) -> Answer:
    """The answer to a body of POST /v1/devices/proof. As long as no challenge is set there is
    nothing to prove: a token that is one of ours comes back with the level that it has."""
    wanted = _parse(edge, DeviceProofRequest, body, sender)
    if isinstance(wanted, Answer):
        return wanted
    if not is_allowed(edge, sender, None):
        return refusal("wrong-origin")
    token = edge.mint.open(wanted.token, time.time())
    if token is None:
        return refusal("bad-token", origin=sender.origin)
    return json_answer({"token": wanted.token, "level": token.level}, origin=sender.origin)


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
