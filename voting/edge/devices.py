"""Devices: a token for a browser, and what it has liked today."""

import time
from typing import TypeVar

import pydantic
from aiohttp import hdrs, web

from voting import journal
from voting.campaign import Campaign
from voting.device import DeviceToken
from voting.edge.answers import allow, json_answer, problem
from voting.edge.bodies import (
    DeviceProofRequest,
    DeviceRequest,
    DeviceStateRequest,
    parse,
    read_body,
)
from voting.edge.origins import allowed_origin, is_allowed
from voting.edge.parts import EDGE, Edge
from voting.store_line import StoreDown

Wanted = TypeVar("Wanted", bound=pydantic.BaseModel)

LEVEL = 1
"""What a new device gets while challenges are off."""


async def post_device(request: web.Request) -> web.Response:
    """POST /v1/devices: a token for a device that has none."""
    edge = request.app[EDGE]
    wanted = await _read(edge, request, DeviceRequest)
    if isinstance(wanted, web.Response):
        return wanted
    campaign = _campaign(edge, request, wanted.campaign)
    if isinstance(campaign, web.Response):
        return campaign
    token = edge.mint.issue(campaign, time.time(), level=LEVEL)
    return json_answer(
        {"token": token, "level": LEVEL}, status=201, origin=request.headers.get(hdrs.ORIGIN)
    )


async def post_device_state(request: web.Request) -> web.Response:
    """POST /v1/devices/state: what this device liked today."""
    edge = request.app[EDGE]
    wanted = await _read(edge, request, DeviceStateRequest)
    if isinstance(wanted, web.Response):
        return wanted
    campaign = _campaign(edge, request, wanted.campaign)
    if isinstance(campaign, web.Response):
        return campaign
    origin = request.headers.get(hdrs.ORIGIN)
    token = edge.mint.verify(wanted.token, campaign, time.time())
    if token is None:
        return problem("bad-token", origin=origin)
    try:
        liked, remaining = await device_state(edge, campaign, token)
    except StoreDown:
        return problem("store-down", origin=origin)
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
    """POST /v1/devices/proof: a token for a solved challenge. As long as no challenge is set there
    is nothing to prove: a token that is one of ours comes back with the level that it has."""
    edge = request.app[EDGE]
    wanted = await _read(edge, request, DeviceProofRequest)
    if isinstance(wanted, web.Response):
        return wanted
    if not is_allowed(edge, request, None):
        return problem("wrong-origin")
    origin = request.headers.get(hdrs.ORIGIN)
    token = edge.mint.open(wanted.token, time.time())
    if token is None:
        return problem("bad-token", origin=origin)
    return json_answer({"token": wanted.token, "level": token.level}, origin=origin)


def _campaign(edge: Edge, request: web.Request, campaign_id: str) -> Campaign | web.Response:
    campaign = edge.catalog.campaigns.get(campaign_id)
    if campaign is None:
        return problem(edge.catalog.unknown, origin=allowed_origin(edge, request))
    return campaign if is_allowed(edge, request, campaign) else problem("wrong-origin")


async def _read(edge: Edge, request: web.Request, wanted: type[Wanted]) -> Wanted | web.Response:
    body = await read_body(request)
    if not isinstance(body, web.Response):
        content = parse(wanted.model_validate_json, body)
        if not isinstance(content, web.Response):
            return content
        body = content
    allow(body.headers, allowed_origin(edge, request))
    return body
