"""A page that lies open for longer than a token of its portal's is good for."""

import pytest
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium
from tests.browser.stand_in import StandIn
from tests.browser.test_widget import LIKED, Card, portal
from tests.conftest import wait_until_async

pytestmark = needs_chromium
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as launched:
        yield launched


async def known(server):
    return "token-of-today" in server.liked


async def test_tap_on_a_page_whose_identity_has_ended_asks_the_portal_anew_and_counts(browser):
    server = StandIn()
    server.identities["says-u7"] = "token-of-today"
    server.attributes = {"identity": "/me"}
    server.logged_in = "says-u7"
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await wait_until_async(lambda: known(server), what="the first token")
        del server.liked["token-of-today"]
        server.identities["says-u7"] = "token-of-tomorrow"
        await card.button.click()
        await card.shows(LIKED, 1)
        sent = server.asked_for("/likes")
        assert [like["token"] for like in sent] == ["token-of-today", "token-of-tomorrow"]
        assert sent[0]["click"] == sent[1]["click"]
