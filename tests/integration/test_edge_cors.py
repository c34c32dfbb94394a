"""Who may read what, as one table: every public route is in it."""

import re

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from voting.edge.app import build_app

PORTAL, STRANGER = "https://www.example.cn", "https://evil.example"
PUBLIC = {
    "/v1/campaigns/{campaign}",
    "/v1/campaigns/{campaign}/candidates",
    "/v1/campaigns/{campaign}/counts",
    "/v1/campaigns/{campaign}/counts/{candidate}.{kind}",
    "/v1/photos/{photo}{size}.{kind}",
    "/v1/videos/{video}.{kind}",
    "/v1/receipts/{receipt}",
    "/v1/logs/key",
    "/v1/logs/{campaign}/{log}/checkpoint",
    "/v1/logs/{campaign}/{log}/tile/{level}/{tile}",
    "/embed/{version}/{name}",
}
"""Data and files that any page may read: `*`, so that a CDN keeps one copy."""
POSTS = {"/v1/likes", "/v1/devices", "/v1/devices/proof", "/v1/devices/state"}
"""Read by the campaign's portals, each by its exact name."""
FRAMED = {"/embed/v1/card/{campaign}/{candidate}"}
"""Shown in the frames of the campaign's portals."""
FILLS = {
    "campaign": "spring", "candidate": "c001", "kind": "svg", "photo": "0" * 16, "size": "",
    "video": "0" * 16, "receipt": "x", "log": "votes", "level": "0", "tile": "000", "version": "v1",
    "name": "like.js", "number": "1", "colour": "b8291a", "part": "1",
    "anything": "x",
}  # fmt: skip


def routes(edge):
    """(canonical path, methods) of all there is."""
    found = {}
    for resource in build_app(edge.parts).router.resources():
        found.setdefault(resource.canonical, set()).update(route.method for route in resource)
    return found


def filled(canonical):
    path = re.sub(r"\{(\w+)\}", lambda name: FILLS[name[1]], canonical)
    if "/photos/" in canonical:
        return path.replace(".svg", ".webp")
    return path.replace(".svg", ".mp4") if "/videos/" in canonical else path


async def test_every_public_get_says_who_may_read_it(edge):
    unknown = PUBLIC | FRAMED
    for canonical, methods in routes(edge).items():
        if "GET" not in methods and "*" not in methods:
            continue
        unknown.discard(canonical)
        for origin in (None, PORTAL, STRANGER, "null"):
            headers = {"Origin": origin} if origin else {}
            async with edge.http.get(
                edge.url + filled(canonical), headers=headers, allow_redirects=False
            ) as answer:
                allowed = answer.headers.get("Access-Control-Allow-Origin")
                credentials = answer.headers.get("Access-Control-Allow-Credentials")
            said = (canonical, origin, answer.status)
            assert answer.status < 500, said
            assert credentials is None, said
            if canonical in PUBLIC:
                assert allowed == "*", said
            elif canonical in FRAMED:
                assert allowed is None, f"it knows its reader's cookie: {said}"
            else:  # a page for everybody
                assert not canonical.startswith("/v1/"), f"put it into a table: {said}"
                assert allowed in (None, "*"), said
    assert not unknown, "these are in the table and are no routes"


@pytest.mark.parametrize("path", sorted(POSTS))
async def test_posts_are_for_the_campaigns_portals_alone(edge, path):
    body = {"campaign": "spring", "token": await edge.token(), "candidate": "c001"}
    body["click"] = "click-0001"
    for origin, status, allowed in (
        (None, {200, 201}, None),
        (PORTAL, {200, 201}, PORTAL),
        (edge.url, {200, 201}, edge.url),
        (STRANGER, {403}, None),
        ("null", {403}, None),
        (PORTAL.upper(), {403}, None),
        (f"{PORTAL}.evil.example", {403}, None),
        (f"{PORTAL}:8443", {403}, None),
    ):
        headers = {"Origin": origin} if origin else {}
        async with edge.http.post(edge.url + path, json=body, headers=headers) as answer:
            told = await answer.json(content_type=None)
            said = (origin, answer.status, told)
            assert answer.status in status, said
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed, said
            if allowed:
                assert answer.headers["Vary"] == "Origin"
            if answer.status == 403:
                assert told["outcome"] == "wrong-origin"
        async with edge.http.options(
            edge.url + path, headers=headers | {"Access-Control-Request-Method": "POST"}
        ) as answer:
            assert answer.status == (204 if allowed else 403), said
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed, said
            if allowed:
                assert answer.headers["Access-Control-Allow-Methods"] == "POST"
                assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"


async def test_every_post_is_in_the_table(edge):
    found = {path for path, methods in routes(edge).items() if "POST" in methods}
    assert found == POSTS | FRAMED


async def test_frames_and_forms_are_for_the_campaigns_portals_alone(edge, postgres):
    await add_campaign(postgres, "other", origins=("https://other.example",))
    await edge.wait_for_campaign("other")
    for campaign, portal in (("spring", PORTAL), ("other", "https://other.example")):
        card = f"{edge.url}/embed/v1/card/{campaign}/c001"
        async with edge.http.get(card) as answer:
            policy = answer.headers["Content-Security-Policy"]
            ancestors = re.search(r"frame-ancestors ([^;]+)", policy)[1].split()
            assert ancestors == ["'self'", portal]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["Cache-Control"] == "no-store"
    for origin, status in (
        (None, 303), (PORTAL, 303), (edge.url, 303), (STRANGER, 403), ("null", 403),
        ("https://other.example", 403),
    ):  # fmt: skip
        headers = {"Origin": origin} if origin else {}
        async with edge.http.post(
            f"{edge.url}/embed/v1/card/spring/c002", data={}, headers=headers, allow_redirects=False
        ) as answer:
            assert answer.status == status, origin
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_portal_that_is_switched_off_may_nothing_any_more(edge, postgres):
    await postgres.execute("UPDATE campaigns SET origins_off = origins")
    await postgres.execute("UPDATE catalog SET version = version + 1")
    async with edge.http.get(f"{edge.url}/v1/campaigns/spring") as answer:
        assert answer.status == 200

    async def known():
        return not edge.parts.catalog.campaigns["spring"].origins

    await wait_until_async(known, 5, "the portal that is off")
    async with edge.http.get(f"{edge.url}/v1/campaigns/spring") as answer:
        assert (await answer.json())["origins"] == []
    async with edge.http.get(f"{edge.url}/embed/v1/card/spring/c001") as answer:
        assert answer.headers["Content-Security-Policy"].endswith("frame-ancestors 'self'")
