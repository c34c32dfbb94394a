"""Public data of a campaign: its rules and its candidates."""

import time
from typing import Any

from aiohttp import hdrs, web

from voting.campaign import Campaign, Candidate, Order, moment_at
from voting.edge.answers import (
    dumps,
    headers,
    problem,
    public_headers,
    public_problem,
    window_members,
)
from voting.edge.compressed import Body, answer, vary_by_encoding
from voting.edge.parts import EDGE

_CACHE = "public, max-age=5, stale-while-revalidate=30"
_JSON = "application/json; charset=utf-8"
_SEED_LENGTH_MAX = 64
_ONLY_MAX = 50
_CHANGES_TOLD_MAX = 100
"""A page asks for this each few seconds, and a list of 750 corrections would be 100 kB."""


async def get_campaign(request: web.Request) -> web.Response:
    """GET /v1/campaigns/{campaign}: rules, window, quotas, visibility, origins, server time."""
    campaign = campaign_of(request)
    if campaign is None:
        return public_problem(request.app[EDGE].catalog.unknown)
    rules = campaign.rules
    now = moment_at(request.app[EDGE].ballot_boxes.store_now_us(), campaign.window.zone)
    told = dumps(
        {
            "id": campaign.id,
            "title": campaign.title,
            **window_members(campaign),
            "paused": campaign.paused_because is not None,
            "paused_because": campaign.paused_because,
            "test": campaign.is_test,
            # Public by every card's frame-ancestors too: so a page can say that it is not listed.
            "origins": campaign.origins,
            "rules": {
                "likes_per_candidate_per_day": rules.likes_per_candidate_per_day,
                "candidates_per_day": rules.candidates_per_day or None,
                "likes_per_campaign": rules.likes_per_campaign or None,
                "order": rules.order,
                "identity": rules.identity,
            },
            "limits": {
                "per_device": str(campaign.limits.per_device),
                "per_network": str(campaign.limits.per_network),
            },
            "counts": rules.counts,
            "counts_daily_at": rules.counts_daily_at.isoformat("minutes")
            if rules.counts == "daily"
            else None,
            "candidates": len(campaign.standing),
            **changes_members(campaign),
            "server_time": now.isoformat(timespec="milliseconds"),
        }
    )
    made = public_headers(_JSON, "public, max-age=1", f"campaign-{campaign.id}")
    return answer(request, Body(told), made)


async def get_candidates(request: web.Request) -> web.Response:
    """GET /v1/campaigns/{campaign}/candidates[?order=random|listed&seed=...][?only=id,id]."""
    campaign = campaign_of(request)
    if campaign is None:
        return public_problem(request.app[EDGE].catalog.unknown)
    # Who shows the list asks for the campaign's own order: `rules.order` in GET campaign.
    order = request.query.get("order", Order.LISTED)
    # The same seed gives the same order: a visitor's list does not jump. Without one the order is
    # another each minute, so that caches keep a copy and nobody is always first. What a widget asks
    # for is the listed order, the same for all, and shuffles for its visitor.
    seed = request.query.get("seed")
    if order not in (Order.LISTED, Order.RANDOM) or len(seed or "") > _SEED_LENGTH_MAX:
        return public_problem(
            "malformed", detail="order: listed or random; seed: at most 64 characters"
        )
    edge = request.app[EDGE]
    encoded, now = edge.encoded_candidates, time.time()
    made = public_headers(
        _JSON,
        _CACHE,
        f"campaign-{campaign.id}",
        f"candidates-{campaign.id}",
    )
    if order == Order.RANDOM and seed is not None:
        vary_by_encoding(made)
        return web.Response(body=encoded.shuffled_by(campaign, seed, now), headers=made)
    if order == Order.RANDOM:
        return answer(request, encoded.shuffled(campaign, now), made)
    only = request.query.get("only")
    if only is None:
        body, etag = encoded.listed(campaign, now)
    else:
        ids = set(only.split(","))
        if len(ids) > _ONLY_MAX:
            return public_problem("malformed", detail=f"only: at most {_ONLY_MAX} ids")
        body, etag = encoded.some(campaign, ids, now)
    made[hdrs.ETAG] = etag
    if etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
        vary_by_encoding(made)
        return web.Response(status=304, headers=made)
    return answer(request, body, made)


async def get_health(_: web.Request) -> web.Response:
    """GET /healthz: this process answers."""
    return web.Response(body=b'{"alive":true}', headers=headers("application/json"))


async def get_ready(request: web.Request) -> web.Response:
    """GET /readyz: 200 where a vote could be taken now, else 503."""
    if request.app[EDGE].ready:
        return web.Response(body=b'{"ready":true}', headers=headers("application/json"))
    return problem("store-down")


def changes_members(campaign: Campaign) -> dict[str, Any]:
    """What was changed since the opening, the newest first; the rules page has all of it."""
    zone = campaign.window.zone
    newest = campaign.changes[: -_CHANGES_TOLD_MAX - 1 : -1]
    return {
        "changes": [
            {
                "at": change.at.astimezone(zone).isoformat(timespec="seconds"),
                "kind": change.kind,
                "candidate": change.candidate,
                "fields": {
                    field.name: {"was": field.was, "became": field.became}
                    for field in change.fields
                },
                "reason": change.reason,
            }
            for change in newest
        ],
        "changes_in_all": len(campaign.changes),
    }


def campaign_of(request: web.Request) -> Campaign | None:
    return request.app[EDGE].catalog.campaigns.get(request.match_info["campaign"])


def candidate_of(request: web.Request, campaign: Campaign) -> Candidate | None:
    """Who is in the campaign, or was (`withdrawn`)."""
    return campaign.by_id.get(request.match_info["candidate"])
