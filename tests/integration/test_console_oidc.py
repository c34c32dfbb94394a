"""Signing in by an identity provider, and all the ways in which that must fail."""

import pytest
from joserfc.jwk import RSAKey

from tally import audit
from tally.accounts import staff as accounts
from tests.console import PASSWORD, running_console
from tests.identity_provider import running_provider

BY = accounts.By("root", "command")


@pytest.fixture
async def provider():
    async with running_provider() as provider:
        yield provider


@pytest.fixture
async def console(provider, tmp_path, valkey_url, postgres_dsn, postgres):
    async with running_console(
        tmp_path,
        valkey_url,
        postgres_dsn,
        postgres,
        oidc_issuer=provider.url,
        oidc_client_id="console",
        oidc_client_secret="shh",
    ) as running:
        yield running


async def come_back(client, back="/"):
    """From the sign-in page to the provider and as far as its way back: that address."""
    away = await client.get("/sign-in/oidc", params={"back": back})
    assert away.status == 302, await away.text()
    there = await client.get(away.headers["Location"])
    return there.headers["Location"]


async def go_through(client, back="/"):
    # As a browser does it: sent by another site.
    return await client.get(await come_back(client, back), headers={"Sec-Fetch-Site": "cross-site"})


async def expect(console, name="li", role="reviewer", **columns):
    subject = columns.pop("oidc_subject", accounts.EXPECTED + name)
    return await accounts.add(console.connection, name, role, by=BY, oidc_subject=subject)


async def test_somebody_who_was_announced_gets_in_and_is_bound_for_good(console, provider):
    await expect(console)
    async with console.client() as client:
        answer = await go_through(client, back="/audit")
        assert answer.status == 200
        assert 'content="0;url=/audit"' in await answer.text(), "a page of ours asks for the next"
        assert (await client.get("/audit")).status == 200
    (asked,) = provider.asked
    assert len(asked["code_verifier"]) >= 43
    subject = await console.connection.fetchval("SELECT oidc_subject FROM staff")
    assert subject == "subject-1"
    actions = [row.action async for row in audit.rows(console.connection)]
    assert actions == ["staff.add", "staff.bind", "staff.sign-in"]
    # Whoever takes that name at the provider later is somebody else.
    provider.claims = {"sub": "subject-2", "preferred_username": "li"}
    async with console.client() as client:
        assert (await go_through(client)).status == 403
        assert (await client.get("/account")).status == 303


async def test_the_subject_counts_whatever_the_name_is_now(console, provider):
    await expect(console, oidc_subject="subject-1")
    provider.claims = {"sub": "subject-1", "preferred_username": "li.married"}
    async with console.client() as client:
        await go_through(client)
        assert (await client.get("/account")).status == 200


async def test_nobody_gets_an_account_by_coming(console, provider):
    await console.add_staff("admin", name="li")  # of that name, but not announced
    async with console.client() as client:
        answer = await go_through(client)
        assert answer.status == 403
        assert "没有您的账号" in await answer.text()
        assert (await client.get("/account")).status == 303
    assert await console.connection.fetchval("SELECT count(*) FROM staff") == 1


@pytest.mark.parametrize(
    "claims", [{"sub": "name:li"}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 300}]
)
async def test_a_subject_that_is_none_is_refused(console, provider, claims):
    await expect(console)
    provider.claims = claims
    async with console.client() as client:
        assert (await go_through(client)).status == 403
        assert (await client.get("/account")).status == 303


async def test_a_disabled_account_stays_out(console, provider):
    account = await expect(console, oidc_subject="subject-1")
    await accounts.disable(console.connection, account.number, by=BY)
    async with console.client() as client:
        assert (await go_through(client)).status == 403


async def test_such_an_account_has_no_password(console):
    await expect(console)
    async with console.client() as client:
        answer = await client.post("/sign-in", {"name": "li", "password": PASSWORD})
        assert answer.status == 403


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://other.example"},
        {"aud": "another-client"},
        {"nonce": "another"},
        {"exp": 1_700_000_000},
        {"sub": None},
    ],
    ids=str,
)
async def test_a_token_for_somebody_else_or_of_another_time_is_refused(console, provider, changed):
    await expect(console, oidc_subject="subject-1")
    provider.changed_claims = changed
    async with console.client() as client:
        answer = await go_through(client)
        assert answer.status == 403
        assert "登录失败" in await answer.text()
        assert (await client.get("/account")).status == 303


async def test_a_token_that_somebody_else_signed_is_refused(console, provider):
    await expect(console, oidc_subject="subject-1")
    provider.signing_key = RSAKey.generate_key(2048, parameters={"kid": "1"})
    async with console.client() as client:
        assert (await go_through(client)).status == 403
        assert (await client.get("/account")).status == 303


async def test_a_way_back_that_this_browser_did_not_begin_is_refused(console, provider):
    await expect(console, oidc_subject="subject-1")
    async with console.client() as attacker, console.client() as victim:
        theirs = await come_back(attacker)
        assert (await victim.get(theirs)).status == 403, "no state at all"
        await come_back(victim)
        assert (await victim.get(theirs)).status == 403, "another one's state"
        assert (await victim.get("/account")).status == 303


async def test_a_way_back_is_good_once(console, provider):
    await expect(console, oidc_subject="subject-1")
    async with console.client() as client:
        back = await come_back(client)
        assert (await client.get(back)).status == 200
        assert (await client.get(back)).status == 403


async def test_who_is_refused_there_is_told(console, provider):
    provider.refuses = True
    async with console.client() as client:
        answer = await go_through(client)
        assert answer.status == 403
        assert "登录失败" in await answer.text()


async def test_the_way_back_leads_to_pages_of_ours_alone(console, provider):
    await expect(console, oidc_subject="subject-1")
    async with console.client() as client:
        answer = await go_through(client, back="//evil.example")
        assert 'content="0;url=/"' in await answer.text()


async def test_a_provider_that_is_away_is_said(tmp_path, valkey_url, postgres_dsn, postgres):
    async with (
        running_console(
            tmp_path,
            valkey_url,
            postgres_dsn,
            postgres,
            oidc_issuer="http://127.0.0.1:9",
            oidc_client_id="console",
        ) as running,
        running.client() as client,
    ):
        assert "/sign-in/oidc" in await (await client.get("/sign-in")).text()
        answer = await client.get("/sign-in/oidc")
        assert answer.status == 503
        assert "身份提供方没有应答" in await answer.text()


async def test_without_a_provider_there_is_no_such_way(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    async with (
        running_console(tmp_path, valkey_url, postgres_dsn, postgres) as running,
        running.client() as client,
    ):
        assert (await client.get("/sign-in/oidc")).status == 404
        assert (await client.get("/sign-in/oidc/callback")).status == 404
        assert "/sign-in/oidc" not in await (await client.get("/sign-in")).text()
