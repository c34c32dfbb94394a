"""The element on a portal's page under the portal's own domain: a browser, nginx, an edge."""

import pytest
from playwright.async_api import expect

from tests.assertions import Portal, add_keys
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from tests.nginx import needs_nginx, running_nginx

pytestmark = [needs_chromium, needs_nginx]
expect.set_options(timeout=15_000)

PAGE = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>门户</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'self'">
<script src="/likes/embed/v1/like.js" async></script></head>
<body><like-card campaign="spring" candidate="c001" {more}></like-card></body></html>"""


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def portal(tmp_path, valkey_url, postgres_dsn, postgres):
    """(edge, nginx, the portal that signs)."""
    signs = Portal()
    await add_campaign(postgres, "spring")
    await add_keys(postgres, signs)
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn, trusted_proxies="127.0.0.1") as edge,
        running_nginx(tmp_path / "n", edge.port) as nginx,
    ):
        nginx.page("page.html", PAGE.format(more=""))
        nginx.page("mine.html", PAGE.format(more='identity="/assertion.txt"'))
        nginx.page("assertion.txt", signs.vouch("openid-1"))
        yield edge, nginx


async def test_element_finds_its_way_below_the_mount_and_a_strict_policy_is_no_bar(browser, portal):
    edge, nginx = portal
    async with watched(browser) as seen:
        await seen.page.goto(f"{nginx.url}/page.html")
        button = seen.page.locator("like-card button").first
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")
        await edge.wait_for_counts("spring", {"c001": 1})
        await seen.page.reload()
        await expect(button).to_have_attribute("aria-pressed", "true")
        assert seen.own_complaints() == []
        assert await seen.context.cookies() == []


async def test_somebody_who_is_signed_in_likes_once_on_two_browsers(browser, portal):
    edge, nginx = portal
    for _ in range(2):
        async with watched(browser) as seen:
            await seen.page.goto(f"{nginx.url}/mine.html")
            button = seen.page.locator("like-card button").first
            await button.click()
            await expect(button).to_have_attribute("aria-pressed", "true")
            await edge.wait_for_counts("spring", {"c001": 1})
    sums = (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums
    assert sums == {b"1": 1}
    assert edge.parts.metrics.identities["https://www.example.cn", "vouched"] >= 2
