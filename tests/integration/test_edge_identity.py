"""People whom a portal vouches for, on a running edge: one identity is one device, whoever asks."""

import asyncio
import json
import time

import aiohttp
import pytest
from structlog.testing import capture_logs

from antifraud.limits import Rate
from antifraud.signals import PROVEN
from tests.assertions import PORTAL, Portal, add_keys
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from voting import journal
from voting.edge import issuing as issuing_module

ADDRESS, OTHER_ADDRESS = "203.0.113.7", "198.51.100.9"
SUBJECT = "openid-o6_bmjrPTlm6_2sgVt7hMZOPfL2M"


@pytest.fixture
def portal():
    return Portal()


@pytest.fixture(params=["on", "off"])
async def edge(request, tmp_path, valkey_url, postgres_dsn, postgres, portal):
    """An edge that challenges everybody else, with and without the fast lane; three likes a day."""
    await add_campaign(postgres, "spring")
    await add_campaign(postgres, "summer")
    for campaign in ("spring", "summer"):
        await add_keys(postgres, portal, campaign=campaign)
    async with running_edge(
        tmp_path,
        valkey_url,
        postgres_dsn,
        challenge="always",
        trusted_proxies="127.0.0.1",
        fast_lane=request.param,
    ) as running:
        yield running


async def post(edge, body, *, address=ADDRESS, path="/v1/devices", **headers):
    """(status, body, headers)."""
    sent = body if isinstance(body, (str, bytes)) else json.dumps(body)
    headers = {"Content-Type": "text/plain", "X-Forwarded-For": address} | headers
    async with edge.http.post(f"{edge.url}{path}", data=sent, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def identified(edge, assertion, campaign="spring", **options):
    return await post(edge, {"campaign": campaign, "identity": assertion}, **options)


async def token_for(edge, assertion, campaign="spring", **options):
    status, told, _ = await identified(edge, assertion, campaign, **options)
    assert status == 201, told
    return told["token"]


async def like(edge, token, candidate="c001", address=ADDRESS, **options):
    return await edge.like(token, candidate, headers={"X-Forwarded-For": address}, **options)


def opened(edge, token):
    return edge.parts.mint.open(token, time.time())


async def until_required(edge, postgres, portal, identity="required"):
    await add_keys(postgres, portal, identity=identity)

    async def known():
        return edge.parts.catalog.campaigns["spring"].rules.identity == identity

    await wait_until_async(known, what="the rule on the edge")


async def test_who_is_vouched_for_likes_at_once(edge, portal):
    status, told, headers = await identified(edge, portal.vouch(SUBJECT), Origin=PORTAL)
    assert (status, told["level"]) == (201, 3)
    assert set(told) == {"token", "level", "view"}
    assert headers["Access-Control-Allow-Origin"] == PORTAL
    assert opened(edge, told["token"]).level == 3 | PROVEN
    assert (await like(edge, told["token"]))[0] == 201
    assert edge.parts.metrics.identities == {(PORTAL, "vouched"): 1}
    shown = edge.parts.metrics.render().decode()
    assert f'dianzan_identities_total{{portal="{PORTAL}",result="vouched"}} 1.0' in shown


async def test_one_identity_is_one_like_on_every_browser_and_network(edge, portal):
    first = await token_for(edge, portal.vouch(SUBJECT))
    assert (await like(edge, first))[0] == 201
    second = await token_for(edge, portal.vouch(SUBJECT), address=OTHER_ADDRESS)
    status, told = await like(edge, second, address=OTHER_ADDRESS)
    assert (status, told["outcome"]) == (200, "repeated")
    assert opened(edge, second).device_id == opened(edge, first).device_id
    path = "/v1/devices/state"
    body = {"campaign": "spring", "token": second}
    status, told, _ = await post(edge, body, path=path)
    assert (told["liked"], told["remaining_today"]) == (["c001"], 2)
    another = await token_for(edge, portal.vouch("somebody else"))
    assert (await like(edge, another))[0] == 201


async def test_the_same_assertion_again_is_the_same_device(edge, portal):
    assertion = portal.vouch(SUBJECT)
    tokens = await asyncio.gather(*(token_for(edge, assertion) for _ in range(8)))
    assert len({opened(edge, token).device_id for token in tokens}) == 1
    statuses = await asyncio.gather(*(like(edge, token) for token in tokens))
    assert sorted(status for status, _ in statuses) == [200] * 7 + [201]


async def test_a_token_that_is_signed_anew_stays_what_it_is(edge, portal):
    token = await token_for(edge, portal.vouch(SUBJECT))
    status, told, _ = await post(edge, {"token": token}, path="/v1/devices/proof")
    assert (status, told["level"]) == (200, 3)
    assert opened(edge, told["token"]).device_id == opened(edge, token).device_id


async def test_the_same_person_is_another_device_in_another_campaign(edge, portal):
    spring = await token_for(edge, portal.vouch(SUBJECT))
    summer = await token_for(edge, portal.vouch(SUBJECT, "summer"), "summer")
    assert opened(edge, spring).device_id != opened(edge, summer).device_id
    status, told = await like(edge, spring, campaign="summer")
    assert (status, told["outcome"]) == (401, "bad-token")


async def test_assertions_that_are_none_are_refused_with_a_word_for_the_programmer(edge, portal):
    now = int(time.time())
    forger = Portal(PORTAL)
    for assertion, said in (
        (portal.vouch(SUBJECT, iat=now - 900, exp=now - 600), "expired"),
        (portal.vouch(SUBJECT, iat=now + 600, exp=now + 900), "begins in"),
        (portal.vouch(SUBJECT, "summer"), "aud"),
        (portal.vouch(SUBJECT, iss="https://evil.example"), "[portal.keys]"),
        (forger.vouch(SUBJECT), "signature"),
        (portal.vouch(SUBJECT, header={"alg": "none"}), "EdDSA"),
        ("", "compact JWT"),
        ("😀" * 100, "compact JWT"),
    ):
        status, told, headers = await identified(edge, assertion, Origin=PORTAL)
        assert (status, told["outcome"]) == (401, "bad-identity")
        assert said in told["detail"]
        assert SUBJECT not in json.dumps(told)
        assert headers["Access-Control-Allow-Origin"] == PORTAL
    results = dict(edge.parts.metrics.identities)
    assert results[PORTAL, "signature"] == 1
    assert results["", "unknown-portal"] == 1
    assert "vouched" not in {result for _, result in results}


@pytest.mark.parametrize("identity", [7, True, ["a"], {"a": 1}])
async def test_what_is_no_text_is_malformed(edge, identity):
    status, told, _ = await identified(edge, identity)
    assert (status, told["outcome"]) == (400, "malformed")


async def test_longest_assertion_fits_into_a_request(edge, portal):
    subject = "\U0001f600" * 200  # 2,400 characters where it is escaped
    assert len(portal.vouch(subject)) > 3_400
    assert (await identified(edge, portal.vouch(subject)))[0] == 201


async def test_a_foreign_page_gets_no_device_for_a_sound_assertion(edge, portal):
    for origin in ("https://evil.example", "null", PORTAL + ".evil.example"):
        status, told, headers = await identified(edge, portal.vouch(SUBJECT), Origin=origin)
        assert (status, told["outcome"]) == (403, "wrong-origin")
        assert "Access-Control-Allow-Origin" not in headers
    assert not edge.parts.metrics.identities


async def test_other_key_is_in_force_within_seconds_and_the_old_one_no_more(edge, postgres, portal):
    new = Portal()
    before = await token_for(edge, portal.vouch(SUBJECT))
    await add_keys(postgres, new)

    async def learned():
        keys = edge.parts.catalog.campaigns["spring"].portal_keys
        return keys == {PORTAL: new.public}

    await wait_until_async(learned, what="the new key on the edge")
    assert (await identified(edge, portal.vouch(SUBJECT)))[0] == 401
    # Who somebody is does not hang on the portal's key.
    after = await token_for(edge, new.vouch(SUBJECT))
    assert opened(edge, after).device_id == opened(edge, before).device_id


async def test_a_portal_that_is_switched_off_vouches_for_nobody(edge, postgres, portal):
    await postgres.execute("UPDATE campaigns SET origins_off = $1", [PORTAL])
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def refused():
        return (await identified(edge, portal.vouch(SUBJECT)))[0] == 401

    await wait_until_async(refused, what="the portal off on the edge")


async def test_people_of_a_portal_are_no_new_devices_of_their_network(
    tmp_path, valkey_url, postgres_dsn, postgres, portal, monkeypatch
):
    """Three hundred behind one address in a moment: all vote, and the next stranger there is asked
    for no more than before."""
    monkeypatch.setattr(issuing_module, "_AT_MOST", Rate(1_000_000, 1_000_000))
    await add_campaign(postgres, "spring", limits={"per_network": "9999/second"})
    await add_keys(postgres, portal)
    async with running_edge(
        tmp_path, valkey_url, postgres_dsn, challenge="adaptive", trusted_proxies="127.0.0.1"
    ) as edge:
        tokens = [await token_for(edge, portal.vouch(f"user {n}")) for n in range(300)]
        assert edge.parts.issuing._counts == {}
        told = [await like(edge, token) for token in tokens]
        assert {status for status, _ in told} == {201}
        sums = (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums
        assert sums == {b"1": 300}
        stranger = (await post(edge, {"campaign": "spring"}))[1]
        assert stranger["level"] == 1
        assert (await like(edge, stranger["token"]))[0] == 201


async def test_limits_of_a_network_hold_for_them_too(
    tmp_path, valkey_url, postgres_dsn, postgres, portal
):
    await add_campaign(postgres, "spring", limits={"per_network": "1/hour"})
    await add_keys(postgres, portal)
    async with running_edge(
        tmp_path, valkey_url, postgres_dsn, trusted_proxies="127.0.0.1"
    ) as edge:
        for n in range(4):
            assert (await like(edge, await token_for(edge, portal.vouch(f"user {n}"))))[0] == 201
        sums = (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums
        assert (sums[b"1"], sums[b"h1"]) == (1, 3)


async def test_detectors_and_the_votes_see_the_level(edge, portal, valkey):
    await like(edge, await token_for(edge, portal.vouch(SUBJECT)))
    ((_, fields),) = await valkey.xrevrange(journal.journal_key(0), count=1)
    (vote,) = journal.unpack_entry(fields[journal.ENTRY_FIELD]).votes()
    assert vote.token_level == 3 | PROVEN
    assert 35 not in vote.reasons  # what speaks for a vote is no reason


async def test_the_subject_is_nowhere(edge, portal, valkey, postgres):
    with capture_logs() as logs:
        assertion = portal.vouch(SUBJECT)
        token = await token_for(edge, assertion)
        await like(edge, token)
        await identified(edge, assertion[:-4] + "AAAA")
    seen = repr(logs) + edge.parts.metrics.render().decode()
    for key in await valkey.keys("*"):
        seen += repr(await valkey.dump(key))
    seen += repr(await postgres.fetch("SELECT * FROM campaigns"))
    assert SUBJECT not in seen
    assert assertion not in seen


# Floods.


async def test_signatures_that_are_wrong_are_soon_not_looked_at(edge, portal):
    """Of one network; its people come through by asking again, and all others are served."""
    forger = Portal(PORTAL)
    wrong = forger.vouch(SUBJECT)
    told = [await identified(edge, wrong) for _ in range(200)]
    statuses = [status for status, _, _ in told]
    assert statuses[:60] == [401] * 60
    assert 503 in statuses
    assert int(told[statuses.index(503)][2]["Retry-After"]) > 0
    right = portal.vouch(SUBJECT)

    async def vouched_for():
        return (await identified(edge, right))[0] == 201

    await wait_until_async(vouched_for, what="a look at an honest one")
    # From then on it needs none.
    assert {(await identified(edge, right))[0] for _ in range(30)} == {201}
    assert (await identified(edge, portal.vouch(SUBJECT), address=OTHER_ADDRESS))[0] == 201
    # What is wrong without a look at the signature is still said.
    assert (await identified(edge, portal.vouch(SUBJECT, "summer")))[0] == 401


async def test_past_its_bound_the_edge_looks_at_no_signature_and_likes_go_on(
    tmp_path, valkey_url, postgres_dsn, postgres, portal, monkeypatch
):
    monkeypatch.setattr(issuing_module, "_AT_MOST", Rate(2, 3_600_000_000))
    await add_campaign(postgres, "spring")
    await add_keys(postgres, portal)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        token = await token_for(edge, portal.vouch("a"))
        await token_for(edge, portal.vouch("b"))
        status, told, headers = await identified(edge, portal.vouch("c"))
        assert (status, told["outcome"]) == (503, "overloaded")
        assert headers["Retry-After"]
        assert (await edge.like(token))[0] == 201
        assert (await edge.like(await edge.token(), "c002"))[0] == 201


async def test_the_same_right_assertion_over_and_over_takes_the_looks_of_nobody(
    tmp_path, valkey_url, postgres_dsn, postgres, portal, monkeypatch
):
    monkeypatch.setattr(issuing_module, "_AT_MOST", Rate(2, 3_600_000_000))
    await add_campaign(postgres, "spring")
    await add_keys(postgres, portal)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        again = portal.vouch("a")
        tokens = [await token_for(edge, again) for _ in range(20)]
        assert len({opened(edge, token).device_id for token in tokens}) == 1
        await token_for(edge, portal.vouch("b"))


# A portal's word lasts a day.


def token_of_yesterday(edge, seconds=86_400):
    mint = edge.parts.mint
    campaign = edge.parts.catalog.campaigns["spring"]
    return mint.sign(mint.new(campaign, time.time() - seconds, level=3 | PROVEN))


async def test_token_of_a_portals_person_is_none_after_a_day_and_the_next_is_the_same_device(
    edge, portal
):
    token = token_of_yesterday(edge)
    for told in (
        await like(edge, token),
        (await post(edge, {"token": token}, path="/v1/devices/proof"))[:2],
        (await post(edge, {"campaign": "spring", "token": token}, path="/v1/devices/state"))[:2],
    ):
        assert (told[0], told[1]["outcome"]) == (401, "bad-token")
    fresh = token_of_yesterday(edge, 80_000)
    assert (await like(edge, fresh))[0] == 201
    # Signing it anew does not make it last.
    status, told, _ = await post(edge, {"token": fresh}, path="/v1/devices/proof")
    assert (status, told["level"]) == (200, 3)
    assert opened(edge, told["token"]).valid_until == opened(edge, fresh).valid_until


@pytest.mark.parametrize("identity", ["required", "optional"])
async def test_form_leads_whose_sign_in_has_ended_back_to_the_portal(
    edge, postgres, portal, identity
):
    await until_required(edge, postgres, portal, identity)
    url = f"{edge.url}/embed/v1/card/spring/c001"
    headers = {"Cookie": f"dianzan-device={token_of_yesterday(edge)}"}
    fields = {"click": "click-0001"}
    async with edge.http.post(url, data=fields, headers=headers, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "./c001?said=identity-ended")
        # The next press is a stranger's, and told as one.
        assert answer.headers["Set-Cookie"].startswith("dianzan-device=; Max-Age=0; Path=/embed/")
    async with aiohttp.ClientSession() as plain, plain.get(f"{url}?said=identity-ended") as answer:
        assert "请回到门户网站重新登录" in await answer.text()
    assert not (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums


# Campaigns in which only people whom a portal vouches for may like.


async def test_where_it_is_required_all_others_are_told_to_sign_in(edge, postgres, portal):
    anonymous = edge.parts.mint.issue(edge.parts.catalog.campaigns["spring"], time.time())
    assert (await like(edge, anonymous))[0] == 201
    await until_required(edge, postgres, portal)
    status, told = await like(edge, anonymous, "c002")
    assert (status, told["outcome"]) == (403, "identity-required")
    assert "登录" in told["title"]
    # Whatever the device is: a newcomer is not sent to solve what would not help.
    newcomer = (await post(edge, {"campaign": "spring"}))[1]
    assert (await like(edge, newcomer["token"]))[1]["outcome"] == "identity-required"
    assert (await like(edge, await token_for(edge, portal.vouch(SUBJECT))))[0] == 201
    async with edge.http.get(f"{edge.url}/v1/campaigns/spring") as answer:
        assert (await answer.json())["rules"]["identity"] == "required"
    shown = edge.parts.metrics.render().decode()
    assert 'dianzan_ballots_total{outcome="identity-required"} 2.0' in shown
    await until_required(edge, postgres, portal, "optional")
    assert (await like(edge, anonymous, "c002"))[0] == 201


async def test_the_form_says_so_too(edge, postgres, portal):
    await until_required(edge, postgres, portal)
    url = f"{edge.url}/embed/v1/card/spring/c001"
    async with edge.http.post(url, data={"click": "click-0001"}, allow_redirects=False) as answer:
        assert answer.status == 303
        assert "said=identity-required" in answer.headers["Location"]
        location = answer.headers["Location"]
    from urllib.parse import urljoin

    async with aiohttp.ClientSession() as plain, plain.get(urljoin(url, location)) as answer:
        assert "登录" in await answer.text()


async def test_click_that_was_counted_has_its_first_answer_after_strangers_are_shut_out(
    edge, postgres, portal
):
    stranger = edge.parts.mint.issue(edge.parts.catalog.campaigns["spring"], time.time())
    status, first = await like(edge, stranger, click="click-0001")
    assert status == 201
    await until_required(edge, postgres, portal)
    status, again = await like(edge, stranger, click="click-0001")
    assert (status, again["outcome"], again["receipt"]) == (201, "counted", first["receipt"])
    status, told = await like(edge, stranger, click="click-0002")
    assert (status, told["outcome"]) == (403, "identity-required")
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}


async def test_that_there_are_no_likes_is_said_before_that_somebody_must_sign_in(
    edge, postgres, portal
):
    await until_required(edge, postgres, portal)
    campaign = edge.parts.catalog.campaigns["spring"]
    strangers = [edge.parts.mint.issue(campaign, time.time(), level=level) for level in (0, 1)]
    for change, said in (
        ("paused_because = '检查'", "paused"),
        ("paused_because = NULL, closes_at = now() - interval '5 seconds'", "closed"),
        ("opens_at = now() - interval '2 days', closes_at = now() - interval '1 day'", "closed"),
        (
            "opens_at = now() + interval '5 minutes', closes_at = now() + interval '1 day'",
            "not-open",
        ),
    ):
        await postgres.execute(f"UPDATE campaigns SET {change} WHERE id = 'spring'")
        await postgres.execute("UPDATE catalog SET version = version + 1")
        before = edge.parts.catalog.campaigns["spring"]

        async def known(before=before):
            return edge.parts.catalog.campaigns["spring"] is not before

        await wait_until_async(known, what="the campaign's other state on the edge")
        for stranger in strangers:
            status, told = await like(edge, stranger)
            assert (status, told["outcome"]) == (403, said)
