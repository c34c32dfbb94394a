"""The widget on pages that were not made for it: links round buttons, cards that come later,
logins, other scripts, firewalls."""

import pytest
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium
from tests.browser.stand_in import POLICY, StandIn
from tests.browser.test_widget import LIKED, READY, Card, portal
from tests.browser.test_widget_pages import like_button, share_button, until

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

ADD = """(id) => {
  const card = document.createElement('like-card');
  card.setAttribute('campaign', 'demo');
  card.setAttribute('candidate', id);
  document.querySelector('.grid').prepend(card);
}"""
ONE = '<like-card campaign="demo" candidate="zhang-heng"{}></like-card>'


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


async def test_tap_on_a_button_inside_a_link_likes_and_leads_nowhere(browser):
    server = StandIn()
    server.cards = (
        '<a href="elsewhere"><like-button campaign="demo" candidate="zhang-heng" name="张衡">'
        "</like-button></a>"
    )
    async with portal(browser, server) as (server, seen):
        button, here = like_button(seen.page), seen.page.url
        await expect(button.button).to_have_attribute("aria-disabled", "false")
        await button.button.click()
        await expect(button.said).to_contain_text("点赞成功")
        assert seen.page.url == here
        assert server.counts["zhang-heng"] == 1


@pytest.mark.parametrize(("phase", "hidden"), [("closed", False), ("open", True)])
async def test_card_that_is_added_later_is_there_soon_where_nothing_else_moves(
    browser, phase, hidden
):
    server = StandIn()
    server.phase, server.cards = phase, ONE.format("")
    if hidden:
        server.counts = None
    async with portal(browser, server) as (server, seen):
        await expect(Card(seen.page).host.locator("h3")).to_have_text("张衡")
        await seen.page.clock.run_for(1_000)
        await seen.page.evaluate(ADD, "zu-chongzhi")
        await seen.page.clock.run_for(5_000)
        await expect(Card(seen.page, "zu-chongzhi").host.locator("h3")).to_have_text("祖冲之")


async def test_card_with_a_name_asks_for_its_person_all_the_same(browser):
    server = StandIn()
    server.cards = ONE.format(' name="张衡"')
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        await expect(Card(seen.page).host.locator("h3")).to_have_text("张衡")


LOGIN_PAGE = "<!doctype html><title>登录</title>" + "登录 " * 30_000


@pytest.mark.parametrize("answer", ["go", LOGIN_PAGE, ""], ids=["redirect", "page", "nobody"])
async def test_where_nobody_is_logged_in_a_tap_is_an_anonymous_like_and_a_look_makes_no_device(
    browser, answer
):
    server = StandIn()
    server.logged_in, server.attributes = answer, {"identity": "/me"}
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.page.clock.run_for(6_000)
        assert server.asked_for("/devices") == []
        await card.button.click()
        await card.shows(LIKED, 1)
        assert server.asked_for("/devices") == [{"campaign": "demo"}]
        assert seen.own_complaints() == []


async def test_identity_that_the_page_sets_later_or_takes_away_holds_from_then_on(browser):
    server = StandIn()
    server.identities["says-u7"] = "token-of-u7"
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        for change, token in (
            ("e.setAttribute('identity', 'says-u7')", "token-of-u7"),
            ("e.removeAttribute('identity')", "token-1"),
        ):
            await card.host.evaluate(f"(e) => {{ {change}; }}")
            await expect(card.button).to_have_attribute("aria-disabled", "false")
            await card.button.click()
            await expect(card.said).to_contain_text("点赞成功")
            assert server.asked_for("/likes")[-1]["token"] == token


async def test_elements_that_the_first_build_lacks_are_defined_beside_it(browser):
    server = StandIn()
    button = '<like-button campaign="demo" candidate="zu-chongzhi" name="祖冲之"></like-button>'
    server.cards = '<script src="embed/v1.0/like.js"></script>' + ONE.format("") + button
    async with portal(browser, server, before="window.self = {};") as (_, seen):
        await Card(seen.page).is_ready()
        second = like_button(seen.page, "zu-chongzhi")
        await expect(second.button).to_have_attribute("aria-disabled", "false")
        await second.button.click()
        await expect(second.said).to_contain_text("点赞成功")


async def test_refusal_by_a_firewall_is_said_and_takes_the_like_back(browser):
    server = StandIn()
    server.next_outcomes = ["firewall"]
    async with portal(browser, server) as (_, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_contain_text("服务繁忙")
        await card.shows(READY, 0)


async def test_campaign_that_takes_no_likes_says_so_where_the_reason_cannot_be_loaded(browser):
    server = StandIn()
    server.phase = "closed"
    # So a page's policy of trusted types takes it.
    server.policy = POLICY + "; require-trusted-types-for 'script'"
    async with portal(browser, server) as (_, seen):
        await Card(seen.page).shows("暂不可点赞", 0)


async def test_count_ahead_of_its_answer_is_one_more_than_at_the_tap_whatever_comes_meanwhile(
    browser,
):
    server = StandIn()
    server.counts["zhang-heng"] = 11
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready(11)
        server.gate.clear()
        await card.button.click()
        await card.shows(LIKED, 12)
        asked = len(server.asked_for("/counts"))
        server.counts["zhang-heng"] = 12  # the like's own; its answer is on the way
        await seen.page.clock.run_for(6_000)
        await until(lambda: len(server.asked_for("/counts")) > asked)
        await seen.page.clock.run_for(100)
        await card.shows(LIKED, 12)
        server.counts["zhang-heng"] = 11  # the stand-in counts it now
        server.gate.set()
        await expect(card.said).to_contain_text("点赞成功")
        await card.shows(LIKED, 12)
        assert seen.complaints == []


async def test_hidden_page_and_a_page_without_cards_ask_for_nothing_more(browser):
    server = StandIn()
    server.cards = ONE.format("")
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        asked = len(server.asked)
        await seen.page.evaluate("document.querySelector('like-card').remove()")
        await seen.page.clock.run_for(61_000)
        assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("why", "copied"), [("NotAllowedError", True), ("AbortError", False)], ids=["cannot", "closed"]
)
async def test_card_is_copied_where_the_browsers_sheet_does_not_open(browser, why, copied):
    before = f"""navigator.share = () => Promise.reject(new DOMException('', '{why}'));
        delete Navigator.prototype.clipboard;
        addEventListener('copy', () => {{ window.copied = String(getSelection()); }});"""
    server = StandIn()
    server.attributes = {"share": "http://["}  # no address: then the page's own
    async with portal(browser, server, before=before) as (_, seen):
        button = await share_button(seen)
        await button.click()
        note = seen.page.locator("like-card").first.locator(".row .note")
        if copied:
            await expect(note).to_contain_text("已复制")
            assert await button.evaluate("(b) => b.getRootNode().activeElement === b")
        else:
            await expect(note).to_have_text("")
        assert seen.complaints == []
