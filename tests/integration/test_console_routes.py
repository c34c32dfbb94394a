"""Every route of the console: who may use it, how often, and what browsers may do with the answer.

A new route fails here until it is in ROUTES.
"""

import re

import aiohttp
import pytest
from fastapi.routing import iter_route_contexts

from tally.console.guard import HEADERS, OFFICE_API
from tally.console.limits import InMemory, limiter
from tally.console.parts import Role
from tests.console import console  # noqa: F401  # a fixture

PUBLIC = frozenset({None, *Role})
"""Whoever comes."""
KEY = frozenset()
"""Nobody by a session: clients of the office's interface, by a key."""
SIGNED_IN = frozenset(Role)
VIEWING = frozenset({Role.VIEWER, Role.REVIEWER, Role.ADMIN})
REVIEWING = frozenset({Role.REVIEWER, Role.ADMIN})
ADMIN = frozenset({Role.ADMIN})
ANSWERING = frozenset({Role.REVIEWER, Role.ADMIN, Role.OFFICE})
OFFICE = frozenset({Role.OFFICE, Role.ADMIN})

ROUTES = {
    # sign_in.py, oidc.py
    "GET /healthz": PUBLIC,
    "HEAD /healthz": PUBLIC,
    "GET /sign-in": PUBLIC,
    "POST /sign-in": PUBLIC,
    "GET /sign-in/code": PUBLIC,
    "POST /sign-in/code": PUBLIC,
    "GET /sign-in/enrol": PUBLIC,
    "POST /sign-in/enrol": PUBLIC,
    "GET /sign-in/oidc": PUBLIC,
    "GET /sign-in/oidc/callback": PUBLIC,
    "GET /set-up": PUBLIC,
    "POST /set-up": PUBLIC,
    "POST /sign-out": PUBLIC,
    "POST /sign-out-everywhere": SIGNED_IN,
    "GET /language/{language}": PUBLIC,
    # accounts.py
    "GET /account": SIGNED_IN,
    "POST /account/password": SIGNED_IN,
    "POST /account/authenticator": SIGNED_IN,
    "POST /account/enrol": SIGNED_IN,
    "GET /staff": ADMIN,
    "POST /staff": ADMIN,
    "POST /staff/{number}/role": ADMIN,
    "POST /staff/{number}/disable": ADMIN,
    "POST /staff/{number}/enable": ADMIN,
    "POST /staff/{number}/reset": ADMIN,
    # live.py
    "GET /": SIGNED_IN,
    "GET /campaigns": VIEWING,
    "GET /campaigns/{campaign_id}": VIEWING,
    "GET /campaigns/{campaign_id}/candidates": VIEWING,
    "GET /campaigns/{campaign_id}/candidates/{candidate_id}": VIEWING,
    "GET /campaigns/{campaign_id}/hall": VIEWING,
    "GET /campaigns/{campaign_id}/stream": VIEWING,
    "GET /parts": VIEWING,
    "GET /parts/stream": VIEWING,
    # control.py, control_import.py
    "GET /control": VIEWING,
    "GET /control/{campaign_id}": VIEWING,
    "GET /control/{campaign_id}/history": VIEWING,
    "GET /control/{campaign_id}/candidates": VIEWING,
    "GET /control/{campaign_id}/candidates/{candidate_id}": VIEWING,
    "GET /control/{campaign_id}/preview": VIEWING,
    "GET /photos/{photo_id}": VIEWING,
    "GET /control/{campaign_id}/change/{kind}": ADMIN,
    "POST /control/{campaign_id}/change/{kind}": ADMIN,
    "GET /imports": ADMIN,
    "POST /imports": ADMIN,
    "GET /imports/{job_id}": ADMIN,
    "POST /imports/{job_id}": ADMIN,
    "GET /imports/{job_id}/photos/{photo_id}": ADMIN,
    # flags.py, proposal_pages.py, objections.py, notice.py
    "GET /flags": VIEWING,
    "GET /flags/{number}": VIEWING,
    "GET /campaigns/{campaign_id}/flags": VIEWING,
    "GET /campaigns/{campaign_id}/flags/preview": REVIEWING,
    "GET /campaigns/{campaign_id}/flags/{number}": VIEWING,
    "POST /campaigns/{campaign_id}/flags/decide": REVIEWING,
    "POST /campaigns/{campaign_id}/flags/{number}/comments": REVIEWING,
    "GET /proposals": VIEWING,
    "GET /proposals/{number}": VIEWING,
    "POST /proposals/{number}/approve": REVIEWING,
    "POST /proposals/{number}/reject": REVIEWING,
    "POST /proposals/{number}/withdraw": REVIEWING,
    "GET /objections": ANSWERING,
    "GET /objections/{number}": ANSWERING,
    "GET /campaigns/{campaign_id}/objections": ANSWERING,
    "POST /campaigns/{campaign_id}/objections": ANSWERING,
    "GET /campaigns/{campaign_id}/objections/{number}": ANSWERING,
    "POST /campaigns/{campaign_id}/objections/{number}/answer": ANSWERING,
    "POST /campaigns/{campaign_id}/objections/{number}/forget": ADMIN,
    "GET /notice": SIGNED_IN,
    "GET /campaigns/{campaign_id}/notice": SIGNED_IN,
    "POST /campaigns/{campaign_id}/notice": REVIEWING,
    "POST /campaigns/{campaign_id}/notice/{number}/withdraw": REVIEWING,
    "GET /campaigns/{campaign_id}/notice.txt": SIGNED_IN,
    "GET /campaigns/{campaign_id}/notice/struck.csv": ANSWERING,
    # audit_pages.py
    "GET /audit": REVIEWING,
    "POST /audit/verify": REVIEWING,
    # delivery.py
    "GET /publications": SIGNED_IN,
    "GET /campaigns/{campaign}/publications": SIGNED_IN,
    "GET /campaigns/{campaign}/publications/{number}/archive.zip": SIGNED_IN,
    "POST /campaigns/{campaign}/publications/final": REVIEWING,
    "GET /destinations": ADMIN,
    "POST /destinations": ADMIN,
    "POST /destinations/{number}/test": ADMIN,
    "POST /destinations/{number}/disable": ADMIN,
    "POST /destinations/{number}/enable": ADMIN,
    "GET /outbox": ADMIN,
    "POST /outbox/{letter}/again": ADMIN,
    "GET /office-keys": ADMIN,
    "POST /office-keys": ADMIN,
    "POST /office-keys/{key}/revoke": ADMIN,
    # exports.py
    "GET /exports": REVIEWING,
    "GET /campaigns/{campaign}/exports": REVIEWING,
    "GET /campaigns/{campaign}/exports/{day}/votes.csv": REVIEWING,
    "GET /campaigns/{campaign}/exports/{day}/votes.parquet": REVIEWING,
    # office.py
    "GET /office/v1/": PUBLIC,
    "GET /office/v1/openapi.json": PUBLIC,
    "GET /office/v1/campaigns": KEY,
    "GET /office/v1/campaigns/{campaign}/publications": KEY,
    "GET /office/v1/campaigns/{campaign}/publications/latest": KEY,
    "GET /office/v1/campaigns/{campaign}/publications/{number}": KEY,
    "GET /office/v1/campaigns/{campaign}/publications/{number}/archive.zip": KEY,
    "GET /office/v1/campaigns/{campaign}/publications/{number}/files/{name:path}": KEY,
    "GET /office/v1/campaigns/{campaign}/tally": KEY,
    "GET /office/v1/campaigns/{campaign}/checkpoints": KEY,
    "GET /office/v1/campaigns/{campaign}/objections": KEY,
    "GET /office/v1/campaigns/{campaign}/objections/{number}": KEY,
    "POST /office/v1/campaigns/{campaign}/objections": KEY,
}

UNLIMITED = {"/healthz"}
"""Limited by address alone, as everything is, files under /static too."""


def routes_of(app):
    """(method and path, function) of every route."""
    for route in iter_route_contexts(app.routes):
        for method in sorted(route.methods or ()):
            yield f"{method} {route.path}", route.endpoint


def filled(path):
    """A path with something in its places that is nowhere."""
    return re.sub(r"\{[^}]+\}", "7", path)


async def ask(client, route):
    """(answer, its text where it ends)."""
    method, path = route.split(" ")
    async with client.session.request(
        method, filled(path), allow_redirects=False, data=b"" if method == "POST" else None
    ) as answer:
        ends = answer.content_type != "text/event-stream"
        return answer, await answer.text(errors="replace") if ends else ""


def test_every_route_is_in_the_table_and_no_other(console):  # noqa: F811
    assert {route for route, _ in routes_of(console.app)} == set(ROUTES)


def test_every_route_is_limited(console):  # noqa: F811
    for route, function in routes_of(console.app):
        if route.split(" ")[1] in UNLIMITED:
            continue
        assert limiter.is_on(function), (
            f"{route}: @limiter.limit belongs between route and function"
        )
        for limit in limiter._route_limits[f"{function.__module__}.{function.__name__}"]:
            a_minute = limit.limit.amount * 60 / limit.limit.get_expiry()
            assert a_minute <= 600, f"{route}: hardly a limit"


def test_no_two_routes_share_the_name_that_they_are_limited_by(console):  # noqa: F811
    functions = {function for _, function in routes_of(console.app)}
    assert len({f"{each.__module__}.{each.__name__}" for each in functions}) == len(functions)


@pytest.mark.parametrize("who", [None, *Role])
async def test_who_may_use_what(console, who):  # noqa: F811
    # So many routes in a second are more than strangers may ask for.
    object.__setattr__(console.app.state.console, "strangers", InMemory("100000/minute"))
    staff = await console.add_staff(who) if who else None
    for route, allowed in ROUTES.items():
        # Each with a session of its own: one of the routes ends it.
        async with console.client_as(staff) as client:
            answer, text = await ask(client, route)
        assert answer.status < 500, f"{route} as {who}: {answer.status} {text[-500:]}"
        to_sign_in = answer.headers.get("Location", "").startswith("/sign-in")
        is_problem = 'class="code"' in text or answer.content_type == "application/problem+json"
        if allowed is KEY:
            assert answer.status == 401, route
        elif allowed is PUBLIC:
            assert answer.status != 401, route
        elif who in allowed:
            assert answer.status != 401, route
            assert not (answer.status == 403 and is_problem), f"{who} is refused {route}"
            assert not to_sign_in, route
        elif who is None:
            assert to_sign_in or answer.status == 401, f"{route} is open to anybody"
        else:
            assert answer.status == 403, f"{route} is open to {who}: {answer.status}"


@pytest.mark.parametrize("who", [None, Role.ADMIN])
async def test_every_answer_has_its_headers(console, who):  # noqa: F811
    object.__setattr__(console.app.state.console, "strangers", InMemory("100000/minute"))
    staff = await console.add_staff(who) if who else None
    for route in (*ROUTES, "GET /static/console.css", "GET /nowhere", "PUT /sign-in"):
        async with console.client_as(staff) as client:
            answer, _ = await ask(client, route)
        own_policy = route.split(" ")[1].startswith(OFFICE_API)
        for name, value in HEADERS.items():
            if not own_policy:
                assert answer.headers.get(name) == value, f"{route}: {name}"
        if "/static/" not in route and not own_policy:
            assert answer.headers["Cache-Control"] == "no-store", route
        assert "Server" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers, "plain http has none"


async def test_no_page_has_anything_inline(console):  # noqa: F811
    staff = await console.add_staff(Role.ADMIN)
    for route, allowed in ROUTES.items():
        if not route.startswith("GET ") or allowed is KEY:
            continue
        async with console.client_as(staff) as client:
            _, text = await ask(client, route)
        assert not re.search(
            r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=|javascript:", text
        ), route


async def test_a_route_that_was_included_reaches_its_limit(console):  # noqa: F811
    async with console.client() as client:
        statuses = [(await client.get("/sign-in")).status for _ in range(61)]
        assert statuses == [200] * 60 + [429]
        refused = await client.get("/sign-in")
        assert refused.headers["Retry-After"] == "60"
        assert "请求过于频繁" in await refused.text()
        assert (await client.get("/set-up")).status == 403, "another route has a limit of its own"


async def test_who_is_signed_in_is_counted_as_oneself_not_by_address(console):  # noqa: F811
    async with console.client_as("viewer") as one, console.client_as("viewer") as other:
        for _ in range(120):
            assert (await one.get("/account")).status == 200
        assert (await one.get("/account")).status == 429
        assert (await other.get("/account")).status == 200


async def test_strangers_are_counted_before_any_route_is_reached(console):  # noqa: F811
    async with console.client("x" * 43) as client:
        statuses = [(await client.get("/account")).status for _ in range(121)]
    assert statuses == [303] * 120 + [429]


async def test_a_stranger_is_sent_to_sign_in_and_back(console):  # noqa: F811
    async with console.client() as client:
        answer = await client.get("/audit?actor=li&before=7")
        assert answer.status == 303
        assert answer.headers["Location"] == "/sign-in?back=%2Faudit%3Factor%3Dli%26before%3D7"


async def test_a_link_in_a_message_is_asked_for_once_more_from_our_own_page(console):  # noqa: F811
    async with console.client(**{"Sec-Fetch-Site": "cross-site"}) as client:
        answer = await client.get("/audit?actor=li")
        assert answer.status == 200
        assert 'http-equiv="refresh" content="0;url=/audit?actor=li"' in await answer.text()


async def test_an_address_outside_is_never_a_way_back(console):  # noqa: F811
    async with console.client() as client:
        for evil in ("//evil.example", "https://evil.example", "/\\evil.example"):
            answer = await client.get("/language/en", params={"back": evil})
            assert answer.headers["Location"] == "/"
            page = await client.get("/sign-in", params={"back": evil})
            assert 'name="back" value="/"' in await page.text()
        async with aiohttp.ClientSession() as session:
            raw = f"{console.url}//evil.example/x"
            async with session.get(raw, allow_redirects=False) as answer:
                assert answer.status == 404
                assert "back=//evil" not in await answer.text()
