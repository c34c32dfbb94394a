"""Devices on a running edge: their ladder, what they must do for it, and who tries to cheat."""

import asyncio
import base64
import contextlib
import json
import re
import time
from urllib.parse import urlencode, urljoin

import pytest
from structlog.testing import capture_logs

from antifraud.limits import Rate
from antifraud.networks import NetworkClass, prefixes_of
from antifraud.signals import LOW_END, PROVEN
from tests.campaigns import add_campaign
from tests.challenges import packed, solve
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from voting import keys as key_file
from voting.ballot import Outcome
from voting.device import Mint
from voting.edge import issuing as issuing_module
from voting.keys import Keys
from voting.pseudonyms import Place
from voting.store_line import StoreDown
from voting.view import NoView

ADDRESS, NEIGHBOUR, OTHER, STRANGER = "203.0.113.7", "203.0.113.8", "203.0.114.7", "2001:db8::1"
"""The neighbour is within the same /24."""
RENTED = "120.24.1.1"
"""A cloud's, by the built-in table of networks."""
CARD = "/embed/v1/card/spring/c001"


@pytest.fixture
def prompt(monkeypatch):
    """Nobody waits for a solution's time."""
    monkeypatch.setattr(issuing_module, "DWELL_SECONDS", 0.0)


@pytest.fixture(params=["on", "off"])
async def always(request, tmp_path, valkey_url, postgres_dsn, postgres, prompt):
    """An edge that challenges everybody, with and without the fast lane."""
    await add_campaign(postgres, "spring")
    async with running_edge(
        tmp_path,
        valkey_url,
        postgres_dsn,
        challenge="always",
        trusted_proxies="127.0.0.1",
        fast_lane=request.param,
    ) as edge:
        yield edge


async def post(edge, path, body, address=ADDRESS):
    """(status, body, headers)."""
    sent = body if isinstance(body, (str, bytes)) else json.dumps(body)
    headers = {"Content-Type": "text/plain", "X-Forwarded-For": address}
    async with edge.http.post(f"{edge.url}{path}", data=sent, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def new(edge, address=ADDRESS, **members):
    """What a new device gets."""
    status, told, _ = await post(edge, "/v1/devices", {"campaign": "spring"} | members, address)
    assert status == 201, told
    return told


async def prove(edge, token, address=ADDRESS, **members):
    return await post(edge, "/v1/devices/proof", {"token": token} | members, address)


def token_of(edge, token):
    return edge.parts.mint.open(token, time.time())


def place(address=ADDRESS):
    return Place(prefixes_of(address))


def challenge_made(edge, token, seconds_ago, **how):
    """A challenge that this device got so long ago."""
    then = time.time() - seconds_ago
    return edge.parts.issuing.challenge_for(token_of(edge, token), place(), then, **how)


async def like(edge, token, candidate="c001", address=ADDRESS):
    return await edge.like(token, candidate, headers={"X-Forwarded-For": address})


async def test_device_climbs_from_nothing_to_a_vote(always):
    device = await new(always)
    assert device["level"] == 0
    status, refused = await like(always, device["token"])
    assert (status, refused["outcome"]) == (428, "challenge")
    for challenge in (device["challenge"], refused["challenge"]):
        assert set(challenge) == {"parameters", "signature"}
    status, told, _ = await prove(
        always, device["token"], solution=packed(solve(refused["challenge"]))
    )
    assert (status, told["level"]) == (200, 1)
    assert set(told) == {"token", "level", "view"}
    proven = token_of(always, told["token"])
    assert proven.level == 1 | PROVEN
    assert proven.device_id == token_of(always, device["token"]).device_id
    assert (await like(always, told["token"]))[0] == 201
    assert (await like(always, device["token"]))[0] == 428, "the old token stays what it was"


@pytest.mark.parametrize("form", [packed, lambda payload: payload], ids=["base64", "object"])
async def test_solution_serves_once_however_it_is_spelled(always, form):
    device = await new(always)
    solution = solve(device["challenge"])
    assert (await prove(always, device["token"], solution=form(solution)))[0] == 200
    for again in (packed, lambda payload: payload):
        status, told, _ = await prove(always, device["token"], solution=again(solution))
        assert (status, told["outcome"]) == (403, "refused")
    other = solve((await like(always, device["token"]))[1]["challenge"])
    assert (await prove(always, device["token"], solution=packed(other)))[0] == 200


async def test_of_solutions_handed_in_at_once_one_is_taken(always):
    device = await new(always)
    solution = packed(solve(device["challenge"]))
    told = await asyncio.gather(
        *(prove(always, device["token"], solution=solution) for _ in range(12))
    )
    assert sorted(status for status, _, _ in told) == [200] + [403] * 11


async def test_record_of_a_spent_solution_ends_when_the_challenge_has(always, valkey):
    device = await new(always)
    assert (await prove(always, device["token"], solution=solve(device["challenge"])))[0] == 200
    [key] = await valkey.keys("{s0}:spent:*")
    nonce = device["challenge"]["parameters"]["nonce"]
    assert key.decode() == f"{{s0}}:spent:{nonce}"
    assert 120 < await valkey.ttl(key) <= 240


async def test_solution_of_another_device_or_network_is_refused(always):
    device, other = await new(always), await new(always)
    solution = packed(solve(device["challenge"]))
    for token, address in (
        (other["token"], ADDRESS),
        (device["token"], OTHER),
        (device["token"], STRANGER),
    ):
        status, told, _ = await prove(always, token, address, solution=solution)
        assert (status, told["outcome"]) == (403, "refused")
    status, _, _ = await prove(always, device["token"], NEIGHBOUR, solution=solution)
    assert status == 200, "not spent, and good at the carrier's next address"


async def test_solution_out_of_date_gets_another_challenge(always):
    token = (await new(always))["token"]
    solution = solve(challenge_made(always, token, 125))
    status, told, _ = await prove(always, token, solution=packed(solution))
    assert (status, told["outcome"]) == (428, "challenge")
    assert (await prove(always, token, solution=packed(solve(told["challenge"]))))[0] == 200


ODD_SOLUTIONS = ["", "x", 1, -1.5, True, [], [1], {}, {"challenge": {}}, packed({}), "好" * 300]


@pytest.mark.parametrize("solution", ODD_SOLUTIONS, ids=range(len(ODD_SOLUTIONS)))
async def test_what_is_no_solution_is_malformed(always, solution):
    device = await new(always)
    status, told, _ = await prove(always, device["token"], solution=solution)
    assert (status, told["outcome"]) == (400, "malformed")
    assert "solution" in told["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"token":1}',
        b'{"token":null,"solution":"x"}',
        b'{"token":"x","slow":"yes"}',
        b'{"token":"x","slow":1}',
        b'{"token":"\xff"}',
        b'{"token":"\\ud800","solution":"\\ud800"}',
        b'{"token":"x","solution":' + b"[" * 2_000,
        b'{"token":"x","solution":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    ],
)
async def test_odd_bodies_get_a_clear_answer(always, body):
    status, told, _ = await post(always, "/v1/devices/proof", body)
    assert status in (400, 401), told
    assert told["outcome"] in ("malformed", "bad-token")


async def test_forged_truncated_future_and_foreign_tokens_are_bad(always, postgres):
    await add_campaign(postgres, "autumn")
    await always.wait_for_campaign("autumn")
    good = (await new(always))["token"]
    campaign = always.parts.catalog.campaigns["spring"]
    raw = bytearray(base64.urlsafe_b64decode(good))
    raw[22] = 1 | PROVEN  # the level byte
    bad = [
        "",
        good[:-1],
        good[:-4],
        good + "A",
        good.swapcase(),
        base64.urlsafe_b64encode(raw).decode(),
        Mint(Keys.make()).issue(campaign, time.time()),
        always.parts.mint.issue(campaign, time.time() + 3_600),
    ]
    for token in bad:
        assert (await prove(always, token))[0] == 401
        assert (await prove(always, token, solution=packed({})))[0] == 401
        assert (await like(always, token))[0] == 401
        state = {"token": token, "campaign": "spring"}
        assert (await post(always, "/v1/devices/state", state))[0] == 401
    status, _ = await always.like(good, "c001", campaign="autumn")
    assert status == 401
    assert (await post(always, "/v1/devices/state", {"token": good, "campaign": "autumn"}))[
        0
    ] == 401


async def test_without_a_solution_a_device_gets_a_challenge_or_what_its_age_has_earned(always):
    status, told, _ = await prove(always, (await new(always))["token"])
    assert (status, told["outcome"]) == (428, "challenge")
    campaign = always.parts.catalog.campaigns["spring"]
    mint, now = always.parts.mint, time.time()
    for made_at, level, rung in ((now, 1, 1), (now - 90_000, 1, 2), (now - 90_000, 1 | PROVEN, 2)):
        token = mint.issue(campaign, made_at, level=level)
        status, told, _ = await prove(always, token)
        assert (status, told["level"]) == (200, rung)
        assert token_of(always, told["token"]).level == level + rung - 1
    assert (await like(always, told["token"]))[0] == 201


async def test_slow_way_waits_rather_than_works(always):
    device = await new(always, slow=True)
    data = device["challenge"]["parameters"]["data"]
    assert data["wait"] >= 10
    status, told, headers = await prove(
        always, device["token"], solution=packed(solve(device["challenge"]))
    )
    assert (status, told["outcome"]) == (429, "throttled")
    assert 1 <= int(headers["Retry-After"]) <= data["wait"]
    token = device["token"]
    status, told, _ = await prove(always, token, slow=True)
    assert (status, told["challenge"]["parameters"]["data"]["wait"]) == (428, data["wait"])
    waited = solve(challenge_made(always, token, data["wait"] + 0.1, slow=True))
    status, told, _ = await prove(always, token, solution=packed(waited), slow=True)
    assert (status, told["level"]) == (200, 1)
    assert token_of(always, told["token"]).level == 1 | PROVEN | LOW_END
    assert (await like(always, told["token"]))[0] == 201


async def test_answer_to_a_solution_comes_a_second_and_a_half_after_the_challenge(
    always, monkeypatch
):
    monkeypatch.setattr(issuing_module, "DWELL_SECONDS", 1.5)
    begun = time.monotonic()
    device = await new(always)
    solution = packed(solve(device["challenge"]))
    assert (await prove(always, device["token"], solution=solution))[0] == 200
    assert 1.4 <= time.monotonic() - begun < 3
    old = challenge_made(always, device["token"], 5)
    begun = time.monotonic()
    assert (await prove(always, device["token"], solution=packed(solve(old))))[0] == 200
    assert time.monotonic() - begun < 1


async def test_too_many_solutions_at_a_time_are_told_to_come_back(always, monkeypatch):
    device = await new(always)
    solution = packed(solve(device["challenge"]))
    monkeypatch.setattr(issuing_module.ProofDesk, "WAITING_MAX", 0)
    status, told, headers = await prove(always, device["token"], solution=solution)
    assert (status, told["outcome"]) == (503, "overloaded")
    assert headers["Retry-After"]
    monkeypatch.undo()
    assert (await prove(always, device["token"], solution=solution))[0] == 200, "not spent"
    assert always.parts.proof_desk.waiting == 0


async def test_store_away_is_said_and_the_solution_is_good_when_it_is_back(always, monkeypatch):
    device = await new(always)
    solution = packed(solve(device["challenge"]))

    async def away(*_):
        raise StoreDown("away")

    with monkeypatch.context() as patch:
        patch.setattr(always.parts.ballot_boxes.of(0).line, "ask", away)
        status, told, headers = await prove(always, device["token"], solution=solution)
        assert (status, told["outcome"]) == (503, "store-down")
        assert headers["Retry-After"]
        assert (await new(always))["level"] == 0, "new devices need no store"
    assert (await prove(always, device["token"], solution=solution))[0] == 200
    assert always.parts.proof_desk.waiting == 0


async def test_solution_that_waits_is_refused_a_second_time_and_takes_no_place(always, monkeypatch):
    """Whoever hung up meanwhile is helped by another challenge."""
    device = await new(always)
    solution = packed(solve(device["challenge"]))
    monkeypatch.setattr(issuing_module, "DWELL_SECONDS", 60.0)
    asked = asyncio.create_task(prove(always, device["token"], solution=solution))
    await wait_until_async(lambda: _is(always.parts.proof_desk.waiting == 1))
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    for _ in range(3):
        status, told, _ = await prove(always, device["token"], solution=solution)
        assert (status, told["outcome"]) == (403, "refused")
        assert always.parts.proof_desk.waiting == 1
    monkeypatch.setattr(issuing_module, "DWELL_SECONDS", 0.0)
    other = packed(solve((await like(always, device["token"]))[1]["challenge"]))
    assert (await prove(always, device["token"], solution=other))[0] == 200


async def _is(value):
    return value


async def test_adaptive_mode_challenges_what_is_above_a_networks_capacity(
    tmp_path, valkey_url, postgres_dsn, postgres, prompt
):
    await add_campaign(postgres, "spring")
    async with running_edge(
        tmp_path, valkey_url, postgres_dsn, trusted_proxies="127.0.0.1", edge_workers=1
    ) as edge:
        assert edge.parts.settings.challenge == "adaptive"
        devices = [await new(edge, RENTED) for _ in range(4)]
        assert [device["level"] for device in devices] == [1, 1, 0, 0]
        assert token_of(edge, devices[0]["token"]).network_class == NetworkClass.DATACENTRE
        token, challenge = devices[2]["token"], devices[2]["challenge"]
        assert (await prove(edge, token, RENTED, solution=solve(challenge)))[0] == 200
        # Of documentation's addresses nobody knows who has them, as of a proxy's own.
        for address in (ADDRESS, "127.0.0.1") * 10:
            token = token_of(edge, (await new(edge, address))["token"])
            assert (token.network_class, token.level) == (NetworkClass.PRIVATE, 1)


async def test_challenges_off_ask_nothing_of_anybody(tmp_path, valkey_url, postgres_dsn, postgres):
    await add_campaign(postgres, "spring")
    async with running_edge(
        tmp_path, valkey_url, postgres_dsn, trusted_proxies="127.0.0.1", challenge="off"
    ) as edge:
        for _ in range(10):
            device = await new(edge, RENTED)
            assert device["level"] == 1
            assert "challenge" not in device
        status, told, _ = await prove(edge, device["token"], solution="x")
        assert (status, told["level"]) == (200, 1)
        unproven = edge.parts.mint.issue(
            edge.parts.catalog.campaigns["spring"], time.time(), level=0
        )
        status, told, _ = await prove(edge, unproven)
        assert (status, told["level"]) == (200, 1), "of a time when there were challenges"
        assert (await like(edge, told["token"]))[0] == 201


async def test_nothing_that_identifies_anybody_is_logged(always):
    with capture_logs() as logs:
        device = await new(always)
        solution = packed(solve(device["challenge"]))
        for token, address, said in (
            (device["token"], ADDRESS, solution),
            (device["token"], ADDRESS, solution),
            (device["token"], STRANGER, solution),
            (device["token"], ADDRESS, "x"),
            (device["token"][:-1], ADDRESS, solution),
        ):
            await prove(always, token, address, solution=said)
        await like(always, device["token"])
        await post(always, "/v1/devices", b"{")
    text = str(logs)
    for secret in (device["token"], ADDRESS, STRANGER, solution[:40], device["view"]):
        assert secret not in text


async def test_flood_of_token_requests_calls_no_store_and_is_counted_in_bounds(always, monkeypatch):
    monkeypatch.setattr(issuing_module, "_NETWORKS_MAX", 64)
    monkeypatch.setattr(issuing_module, "_AT_MOST", Rate(10_000, 1_000_000))

    line = always.parts.ballot_boxes.of(0).line
    call, asked = line.call, []

    def called(*words, **options):
        asked.append(words[0])
        return call(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(line, "call", called)
        for n in range(300):
            await new(always, f"2001:db8:{n:x}::1")
    # The edge's own looks at the store go on beside: once a second or rarer.
    assert not {"SET", "FCALL"} & set(asked)
    assert len(asked) < 100
    assert len(always.parts.issuing._counts) <= 64 + 3


async def test_flood_of_challenges_and_solutions_is_sent_away_and_votes_go_on(always, monkeypatch):
    parts = always.parts
    campaign, now = parts.catalog.campaigns["spring"], time.time()
    voter = parts.mint.issue(campaign, now, level=1)
    unproven = parts.mint.issue(campaign, now, level=0)
    device = await new(always)
    solution = solve(device["challenge"])
    again = (await like(always, device["token"]))[1]["challenge"]
    assert again == device["challenge"], "the same one costs nothing"
    # One an hour: with the first check, and the challenge above, all is spent.
    monkeypatch.setattr(issuing_module, "_AT_MOST", Rate(1, 3_600_000_000))
    status, _, _ = await prove(always, device["token"], OTHER, solution=solution)
    assert status == 403, "cheap to see, and no check"
    assert (await prove(always, device["token"], solution=solution))[0] == 200
    overloaded = parts.metrics._outcomes[Outcome.OVERLOADED]
    await prove(always, unproven)
    ballot = {"token": unproven, "campaign": "spring", "candidate": "c001", "click": "click-0001"}
    for status, told, headers in (
        await post(always, "/v1/devices", {"campaign": "spring"}),
        await prove(always, unproven, slow=True),
        await prove(always, device["token"], solution=solution),
        await post(always, "/v1/likes", ballot, OTHER),
    ):
        assert (status, told["outcome"]) == (503, "overloaded")
        assert "challenge" not in told
        assert headers["Retry-After"]
    assert parts.metrics._outcomes[Outcome.OVERLOADED] == overloaded + 1
    assert (await like(always, voter))[0] == 201


# Views.


async def test_views_come_with_devices_counts_candidates_and_the_card(always):
    device = await new(always)
    told = [device]
    status, proven, _ = await prove(always, device["token"], solution=solve(device["challenge"]))
    assert status == 200
    told.append(proven)
    state = {"token": device["token"], "campaign": "spring"}
    told.append((await post(always, "/v1/devices/state", state))[1])
    views, now = always.parts.views, time.time()
    mine, other = token_of(always, device["token"]).device_id, b"o" * 12
    for answer in told:
        assert 0 <= views.read(answer["view"], mine, now) < 10
        assert views.read(answer["view"], other, now) is NoView.BAD
    for path in ("/v1/campaigns/spring/counts", "/v1/campaigns/spring/candidates"):
        async with always.http.get(f"{always.url}{path}") as answer:
            view = (await answer.json())["view"]
        assert 0 <= views.read(view, other, now) < 15
    pages = []
    for _ in range(2):
        async with always.http.get(f"{always.url}{CARD}") as answer:
            pages.append(re.search(r'name="view" value="([^"]+)"', await answer.text())[1])
    assert pages[0] != pages[1]
    assert views.read(pages[0], other, time.time()) < 10


async def test_counts_keep_their_etag_while_their_view_is_made_anew(edge, monkeypatch):
    url = f"{edge.url}/v1/campaigns/spring/counts"
    seen = set()
    for _ in range(3):
        async with edge.http.get(url) as answer:
            etag, body = answer.headers["ETag"], await answer.json()
        seen.add((etag, body["view"]))
        edge.parts.encoded_counts._made.clear()  # as after a minute
        edge.parts.views._shared_at = 0.0
    assert len({etag for etag, _ in seen}) == 1
    assert len({view for _, view in seen}) == 3
    async with edge.http.get(url, headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304


# The card without JavaScript.


async def press(edge, cookie=None, address=ADDRESS, **fields):
    """(where it leads, the cookie)."""
    headers = {"Origin": edge.url, "X-Forwarded-For": address}
    headers |= {"Cookie": cookie} if cookie else {}
    async with edge.http.post(
        f"{edge.url}{CARD}",
        data={"click": "click-0001"} | fields,
        headers=headers,
        allow_redirects=False,
    ) as answer:
        assert answer.status == 303, await answer.text()
        leads_to = urljoin(CARD, answer.headers["Location"])
        return leads_to, answer.headers["Set-Cookie"].partition(";")[0]


async def shown(edge, location, cookie, address=ADDRESS):
    headers = {"Cookie": cookie, "X-Forwarded-For": address}
    async with edge.http.get(f"{edge.url}{location}", headers=headers) as answer:
        return await answer.text()


def ticket_in(text):
    found = re.search(r'name="ticket" value="([^"]+)"', text)
    return found and found[1]


async def test_card_without_javascript_asks_to_wait_and_to_press_again(always):
    location, cookie = await press(always)
    assert location.startswith(f"{CARD}?said=challenge&ticket=")
    page = await shown(always, location, cookie)
    assert re.search(r"请等待 \d+ 秒，然后再按一次“点赞”", page)
    ticket = ticket_in(page)
    again, cookie = await press(always, cookie, ticket=ticket)
    assert again == f"{CARD}?said=challenge&ticket={ticket}", (
        "too soon: the wait goes on, and does not begin anew"
    )
    device = token_of(always, cookie.partition("=")[2])
    assert device.level == 0
    waited = always.parts.issuing.ticket_for(device, place(), time.time() - 30)
    page = await shown(always, f"{CARD}?said=challenge&ticket={waited}", cookie)
    assert "请再按一次“点赞”" in page
    assert ticket_in(page) == waited
    counted, cookie = await press(always, cookie, ticket=waited)
    assert counted.startswith(f"{CARD}?said=counted&receipt=")
    proven = token_of(always, cookie.partition("=")[2])
    assert proven.level == 1 | PROVEN | LOW_END
    assert proven.device_id == device.device_id
    assert "今日已点赞" in await shown(always, counted, cookie)


@pytest.mark.parametrize("ticket", ["", "x", "A" * 28, "<script>", "好" * 28])
async def test_card_takes_no_ticket_that_is_not_its_own(always, ticket):
    location, cookie = await press(always, ticket=ticket)
    assert "said=challenge" in location
    page = await shown(always, f"{CARD}?said=challenge&ticket={ticket}", cookie)
    assert ticket_in(page) is None
    assert "<script>" not in page


async def test_ticket_of_another_device_or_network_begins_a_wait_of_its_own(always):
    _, cookie = await press(always)
    device = token_of(always, cookie.partition("=")[2])
    waited = always.parts.issuing.ticket_for(device, place(), time.time() - 30)
    for jar, address in ((None, ADDRESS), (cookie, OTHER)):
        # Another click: without a cookie the same one would be the same device.
        location, kept = await press(always, jar, address, ticket=waited, click="click-0002")
        assert "said=challenge" in location
        assert waited not in location
        assert token_of(always, kept.partition("=")[2]).level == 0
        assert ticket_in(await shown(always, location, kept, address))


def device_in(text):
    found = re.search(r'name="device" value="([^"]+)"', text)
    return found and found[1]


async def test_browser_that_keeps_no_cookie_waits_and_likes_as_one_device(always):
    location, cookie = await press(always)
    page = await shown(always, location, "")
    assert re.search(r"请等待 \d+ 秒", page)
    token, ticket = device_in(page), ticket_in(page)
    assert token == cookie.partition("=")[2]
    again, _ = await press(always, ticket=ticket, device=token)
    assert again == location, "too soon: the wait goes on, with the same device"
    waited = always.parts.issuing.ticket_for(token_of(always, token), place(), time.time() - 30)
    counted, cookie = await press(always, ticket=waited, device=token)
    assert counted.startswith(f"{CARD}?said=counted&receipt=")
    assert "device" not in counted, "it is in no address any more"
    proven = token_of(always, cookie.partition("=")[2])
    assert proven.device_id == token_of(always, token).device_id
    assert proven.level == 1 | PROVEN | LOW_END


async def test_browser_that_keeps_its_cookie_shows_its_device_nowhere(always):
    location, cookie = await press(always)
    assert device_in(await shown(always, location, cookie)) is None
    again, _ = await press(always, cookie)
    assert "device" not in again


async def test_device_of_a_link_is_taken_only_with_a_ticket_of_its_own_and_no_cookie(always):
    """Else one link would make all who follow it vote as one device."""
    token = (await new(always))["token"]
    device = token_of(always, token)
    ticket = always.parts.issuing.ticket_for(device, place(), time.time() - 30)
    _, mine = await press(always)
    for jar, address, fields in (
        (None, ADDRESS, {"device": token}),
        (None, ADDRESS, {"device": token, "ticket": "A" * 28}),
        (None, ADDRESS, {"device": "x", "ticket": ticket}),
        (None, OTHER, {"device": token, "ticket": ticket}),
        (mine, ADDRESS, {"device": token, "ticket": ticket}),
    ):
        _, cookie = await press(always, jar, address, **fields)
        assert token_of(always, cookie.partition("=")[2]).device_id != device.device_id
        query = urlencode({"said": "challenge", **fields})
        assert device_in(await shown(always, f"{CARD}?{query}", jar or "", address)) is None


async def test_form_makes_no_challenge_that_nobody_solves(always, monkeypatch):
    monkeypatch.setattr(always.parts.issuing._challenges, "make", None)
    assert "said=challenge" in (await press(always))[0]


# Keys that change while the edge runs.


async def test_keys_are_rotated_under_a_running_edge(edge):
    path = edge.parts.settings.keys_path
    watch = next(
        task.get_coro().cr_frame.f_locals["self"]
        for task in asyncio.all_tasks()
        if task.get_coro().__qualname__ == "KeyWatch.follow"
    )
    first = await edge.token()
    assert (await edge.like(first, "c001"))[0] == 201
    for key_id, seconds_ago in ((2, 200), (3, 100)):
        key_file.rotate(path, time.time() - seconds_ago)  # its minute is over
        watch.look()
        token = await edge.token()
        assert base64.urlsafe_b64decode(token)[1] == key_id
        assert (await edge.like(token, "c001"))[0] == 201
        # Known devices are not known for ever.
        assert (await edge.like(first, "c002"))[0] == (201 if key_id == 2 else 401)
    path.write_text("{}")
    watch.look()
    assert (await edge.like(await edge.token(), "c001"))[0] == 201


async def test_page_that_was_open_through_two_rotations_still_votes(edge):
    """Its view is by a key that nobody holds any more: then its dwell is not known."""
    token, views, keys = await edge.token(), edge.parts.views, edge.parts.views._keys
    view, now = views.make(time.time()), time.time()

    async def like_with(view, candidate):
        body = {"token": token, "campaign": "spring", "candidate": candidate, "view": view}
        return (await post(edge, "/v1/likes", body | {"click": f"click-{candidate}"}))[0]

    assert await like_with(view, "c001") == 201
    for seconds_ago in (200, 100):
        keys = keys.rotated(now - seconds_ago)
        views.learn(keys)
    assert views.read(view, None, now) is NoView.UNKNOWN
    assert await like_with(view, "c002") == 201
    assert await like_with(views.make(now)[:-1] + "!", "c004") == 403
    assert await like_with("", "c003") == 201
