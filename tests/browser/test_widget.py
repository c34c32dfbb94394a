"""The like card in a real browser, against a server that keeps the contract."""

import contextlib
import dataclasses
import re

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium, watched
from tests.browser.stand_in import StandIn, demo_campaign
from tests.conftest import wait_until_async
from voting.campaign import Candidate

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

READY, LIKED, TODAY = "点赞", "已点赞", "今日已点赞"


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


def serving(stand_in):
    return serving_app(stand_in.app())


@contextlib.asynccontextmanager
async def serving_app(app):
    """Its URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield "http://{}:{}/".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def portal(browser, stand_in=None, before=None, **options):
    """(stand-in, watched page with the portal open). `before` is a script that runs first."""
    stand_in = stand_in or StandIn()
    async with serving(stand_in) as url, watched(browser, **options) as seen:
        await seen.page.clock.install()  # it goes on by itself; a test may push it
        if before:
            await seen.page.add_init_script(before)
        await seen.page.goto(url)
        try:
            yield stand_in, seen
        finally:
            # Whoever waits at one is let go: the server's end would wait a minute for them.
            stand_in.gate.set()
            stand_in.proof_gate.set()


class Card:
    """One card as a visitor meets it."""

    def __init__(self, page, candidate="zhang-heng"):
        self.host = page.locator(f"like-card[candidate={candidate}]")
        self.button = self.host.locator("button")
        self.note = self.host.locator(".note")
        self.said = self.host.get_by_role("status")

    async def shows(self, label, count):
        await self.host.scroll_into_view_if_needed()  # its inside is made when it is near
        await expect(self.button.locator("span").first).to_have_text(label)
        await expect(self.host.locator(".count")).to_have_text("" if count is None else str(count))
        await expect(self.button).to_have_attribute(
            "aria-pressed", "true" if label in (LIKED, TODAY) else "false"
        )

    async def is_ready(self, count=0):
        await self.host.scroll_into_view_if_needed()
        await expect(self.button).to_have_attribute("aria-disabled", "false")
        await self.shows(READY, count)


async def test_like_shows_at_once_and_becomes_the_servers_count(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready(0)
        server.gate.clear()
        await card.button.click()
        await card.shows(LIKED, 1)
        assert server.counts["zhang-heng"] == 0, "shown before it was counted"
        server.counts["zhang-heng"] = 41  # others like meanwhile
        server.gate.set()
        await card.shows(LIKED, 42)
        await expect(card.said).to_contain_text("点赞成功")
        await expect(card.note).to_be_hidden()
        assert re.fullmatch(r"[A-Za-z0-9_-]{8,64}", server.asked_for("/likes")[0]["click"])


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("quota-spent", "今日点赞次数已用完"),
        ("overloaded", "服务繁忙"),
        ("store-down", "服务繁忙"),
        ("refused", "本次点赞未被接受"),
        ("challenge", "验证未完成"),
        ("defect", "服务繁忙"),
    ],
)
async def test_refused_like_goes_back_and_says_why(browser, outcome, said):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.next_outcomes = [outcome]
        server.gate.clear()
        await card.button.click()
        await card.shows(LIKED, 1)
        server.gate.set()
        await card.shows(READY, 0)
        await expect(card.note).to_contain_text(said)
        await expect(card.said).to_contain_text(said)


async def test_tap_after_an_unsure_answer_carries_the_same_click_after_a_sure_one_another(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.next_outcomes = ["store-down", "quota-spent"]
        for said in ("服务繁忙", "今日点赞次数已用完"):
            await card.button.click()
            await expect(card.note).to_contain_text(said)
        await card.button.click()
        await card.shows(LIKED, 1)
        first, second, third = (like["click"] for like in server.asked_for("/likes"))
        assert first == second != third


async def test_second_like_of_the_day_is_called_what_it_is(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        await card.button.click()
        await card.shows(TODAY, 1)
        await expect(card.said).to_have_text("今日已点赞")
        first, second = (like["click"] for like in server.asked_for("/likes"))
        assert first != second


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("closed", "点赞已结束"), ("not-open", "点赞尚未开始"), ("paused", "点赞暂停中")],
)
async def test_outside_the_window_every_card_says_so_and_sends_nothing(browser, outcome, said):
    async with portal(browser) as (server, seen):
        card, other = Card(seen.page), Card(seen.page, "zu-chongzhi")
        await card.is_ready()
        server.next_outcomes = [outcome]
        await card.button.click()
        await card.shows(said, 0)
        await other.shows(said, 0)
        await expect(card.said).to_contain_text(said)
        await expect(other.button).to_have_attribute("aria-disabled", "true")
        await other.button.dispatch_event("click")
        await card.button.dispatch_event("click")
        await other.shows(said, 0)
        assert len(server.asked_for("/likes")) == 1


async def test_throttled_says_the_wait_and_lets_the_same_click_through_when_it_is_over(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.next_outcomes, server.retry_after = ["throttled"], 3
        await card.button.click()
        await expect(card.note).to_have_text("点赞太快，请 3 秒后再试")
        await card.shows(READY, 0)
        await card.button.dispatch_event("click")
        await expect(card.note).to_have_text("点赞太快，请 2 秒后再试")
        await expect(card.said).to_have_text("点赞太快，请 3 秒后再试")
        await seen.page.clock.run_for(2_000)
        await expect(card.note).to_be_hidden()
        assert len(server.asked_for("/likes")) == 1
        await card.button.click()
        await card.shows(LIKED, 1)
        first, second = (like["click"] for like in server.asked_for("/likes"))
        assert first == second


async def test_tap_without_network_is_kept_and_sent_once_when_it_is_back(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.context.set_offline(True)
        await card.button.click()
        await expect(card.note).to_have_text("网络不通，稍后自动重试")
        await expect(card.said).to_have_text("网络不通，稍后自动重试")
        await card.shows(READY, 0)
        assert server.asked_for("/likes") == []
        await seen.context.set_offline(False)
        await card.shows(LIKED, 1)
        await expect(card.note).to_be_hidden()
        assert len(server.asked_for("/likes")) == 1


async def test_answer_lost_on_its_way_is_asked_for_again_with_the_same_click(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.cut_answers = 9  # Chromium itself may try a second time
        await card.button.click()
        await expect(card.note).to_have_text("网络不通，稍后自动重试")
        server.cut_answers = 0
        await seen.page.clock.run_for(5_000)  # by its own timer: the browser never was offline
        await card.shows(LIKED, 1)
        clicks = [like["click"] for like in server.asked_for("/likes")]
        assert len(clicks) >= 2
        assert len(set(clicks)) == 1
        assert server.counts["zhang-heng"] == 1


async def test_tap_that_could_not_be_sent_for_ten_minutes_is_dropped(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.context.set_offline(True)
        await card.button.click()
        await expect(card.note).to_have_text("网络不通，稍后自动重试")
        await seen.page.clock.fast_forward(600_001)
        await seen.context.set_offline(False)
        await expect(card.note).to_have_text("网络不通，请重新点赞")
        await card.shows(READY, 0)
        assert server.asked_for("/likes") == []


async def test_after_a_reload_the_card_knows_and_the_device_is_the_same(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        assert server.asked_for("/devices/state") == [], "no token, nothing to ask"
        await card.button.click()
        await card.shows(LIKED, 1)
        await seen.page.reload()
        await card.shows(TODAY, 1)
        await Card(seen.page, "zu-chongzhi").button.click()
        await Card(seen.page, "zu-chongzhi").shows(LIKED, 1)
        assert len(server.asked_for("/devices")) == 1
        assert list(await seen.page.evaluate("Object.keys(localStorage)")) == ["dianzan"]
        assert await seen.context.cookies() == []


async def test_where_storage_is_denied_the_device_lives_as_long_as_the_page(browser):
    denied = """Object.defineProperty(window, 'localStorage', {
        get() { throw new DOMException('denied', 'SecurityError'); } });"""
    async with portal(browser, before=denied) as (server, seen):
        for candidate in ("zhang-heng", "zu-chongzhi"):
            card = Card(seen.page, candidate)
            await card.is_ready()
            await card.button.click()
            await card.shows(LIKED, 1)
        assert len(server.asked_for("/devices")) == 1
        assert seen.complaints == []


async def test_token_that_the_service_no_longer_knows_is_replaced_once(browser):
    async with portal(browser) as (server, seen):
        await Card(seen.page).is_ready()
        await Card(seen.page).button.click()
        await Card(seen.page).shows(LIKED, 1)
        server.liked.clear()  # as if the keys had been changed
        card = Card(seen.page, "zu-chongzhi")
        await card.button.click()
        await card.shows(LIKED, 1)  # at once: the answer is still on its way

        async def answered():
            return len(server.asked_for("/likes")) == 3

        await wait_until_async(answered)
        _, refused, counted = server.asked_for("/likes")
        assert refused["click"] == counted["click"]
        assert refused["token"] != counted["token"]
        assert len(server.asked_for("/devices")) == 2


async def test_token_that_stays_bad_is_not_asked_for_again_and_again(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.liked = _Forgetful()
        await card.button.click()
        await expect(card.note).to_contain_text("设备凭证已失效")
        assert len(server.asked_for("/likes")) == 2
        assert len(server.asked_for("/devices")) == 2


class _Forgetful(dict):
    def __contains__(self, key):
        return False


async def test_one_page_asks_once_for_all_cards_and_for_counts_every_five_seconds(browser):
    async with portal(browser) as (server, seen):
        for candidate in server.campaign.candidates:
            await Card(seen.page, candidate.id).is_ready()
        assert len(server.asked_for("/candidates")) == 1
        card = Card(seen.page, "zu-chongzhi")
        await seen.page.clock.pause_at(await seen.page.evaluate("Date.now()") / 1000 + 1)
        server.counts["zu-chongzhi"] = 1
        asked = len(server.asked)

        async def asks_again():
            await seen.page.clock.run_for(100)
            return len(server.asked) > asked

        await wait_until_async(asks_again)
        await card.shows(READY, 1)
        asked = len(server.asked)
        server.counts["zu-chongzhi"] = 1234
        await seen.page.clock.run_for(4_000)
        await card.shows(READY, 1)
        await seen.page.clock.run_for(1_000)
        await card.shows(READY, "1,234")
        assert [path for path, _ in server.asked[asked:]] == ["/v1/campaigns/demo/counts"]
        assert len(server.asked_for("/candidates")) == 1


async def test_counts_are_those_of_this_refresh_and_not_of_the_browsers_own_cache(browser):
    """Which may show counts for ten seconds while it asks for the next ones."""
    server = StandIn()
    server.fresh_seconds = 60
    async with portal(browser, server) as (server, seen):
        cards = [Card(seen.page), Card(seen.page, "zu-chongzhi")]
        for card in cards:
            await card.is_ready()
        asked = len(server.asked_for("/counts"))
        server.counts |= {"zhang-heng": 7, "zu-chongzhi": 8}
        await seen.page.clock.run_for(5_100)
        await cards[0].shows(READY, 7)
        await cards[1].shows(READY, 8)
        assert len(server.asked_for("/counts")) == asked + 1, "one request for all of the page"


async def test_hidden_page_asks_for_nothing_and_goes_on_when_seen_again(browser):
    hide = """globalThis.hide = (hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange')); };
        globalThis.begun = 0;
        const fetch = globalThis.fetch;
        globalThis.fetch = (...what) => { begun += 1; return fetch(...what); };"""
    async with portal(browser, before=hide) as (server, seen):
        await Card(seen.page).is_ready()
        await seen.page.evaluate("hide(true)")
        # One may be under way already; it is the last.
        await seen.page.clock.run_for(10_000)
        begun = await seen.page.evaluate("begun")
        await seen.page.clock.run_for(60_000)
        assert await seen.page.evaluate("begun") == begun <= 3
        await seen.page.evaluate("hide(false)")
        await seen.page.clock.run_for(1_000)
        await wait_until_async(lambda: _true(len(server.asked) == begun + 1))


async def _true(value):
    return value


async def test_service_away_costs_the_page_nothing_and_the_cards_come_when_it_is_back(browser):
    server = StandIn()
    server.away = True
    async with portal(browser, server, before=_NOTE_REJECTIONS) as (server, seen):
        card = Card(seen.page)
        await wait_until_async(lambda: _true(len(server.asked) >= 2))
        await seen.page.clock.run_for(5_000)
        await wait_until_async(lambda: _true(len(server.asked) >= 4))
        await expect(card.button).to_have_attribute("aria-disabled", "true")
        await card.button.dispatch_event("click")
        assert seen.own_complaints() == []
        server.away = False
        await seen.page.evaluate("dispatchEvent(new Event('online'))")
        await seen.page.clock.run_for(5_000)
        await card.is_ready()
        assert server.asked_for("/likes") == []
        assert seen.own_complaints() == []


_NOTE_REJECTIONS = """
addEventListener('unhandledrejection', (event) => console.error('rejected', event.reason));
"""


async def test_page_with_the_strict_policy_complains_of_nothing(browser):
    async with portal(browser, before=_NOTE_REJECTIONS) as (_, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        await expect(card.host.locator(".card")).to_have_css("display", "flex")
        assert (
            await seen.page.evaluate(
                "Object.keys(window).filter((name) => /like|dianzan|campaign/i.test(name))"
            )
            == []
        )
        assert seen.complaints == []


async def test_hidden_counts_show_no_number_even_after_a_like(browser):
    server = StandIn()
    server.counts = None
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready(None)
        await card.button.click()
        await card.shows(LIKED, None)
        await expect(card.said).to_contain_text("点赞成功")


async def test_names_and_summaries_are_text_whatever_is_in_them(browser):
    hostile = "<img src=x onerror=\"document.title='taken'\">"
    person = Candidate(1, "__proto__", hostile, hostile, hostile, "甲", hostile, hostile)
    other = Candidate(2, "constructor", "乙", "", "", "甲", "", "")
    server = StandIn(demo_campaign(candidates=(person, other)))
    async with portal(browser, server) as (_, seen):
        card = Card(seen.page, "__proto__")
        await expect(card.host.get_by_role("heading")).to_have_text(hostile)
        await expect(card.host.locator("img")).to_have_count(0)
        await Card(seen.page, "constructor").button.click()
        await Card(seen.page, "constructor").shows(LIKED, 1)
        assert "taken" not in await seen.page.title()


async def test_card_of_somebody_who_is_not_in_the_campaign_hides_itself(browser):
    async with portal(browser) as (_, seen):
        await Card(seen.page).is_ready()
        await seen.page.evaluate(
            "document.querySelector('like-card').setAttribute('candidate', 'toString')"
        )
        await expect(seen.page.locator("like-card").first).to_be_hidden()


async def test_card_of_somebody_who_withdrew_says_so_and_takes_no_like(browser):
    first, second, *others = demo_campaign().candidates
    gone = dataclasses.replace(first, withdrawn=True)
    server = StandIn(demo_campaign(candidates=(gone, second, *others)))
    async with portal(browser, server) as (_, seen):
        await Card(seen.page, second.id).is_ready()
        await seen.page.evaluate(
            "(id) => document.querySelector('like-card').setAttribute('candidate', id)", first.id
        )
        card = Card(seen.page, first.id)
        await expect(card.button.locator("span").first).to_have_text("已退出")
        await expect(card.host.get_by_role("heading")).to_have_text(first.name)
        await expect(card.button).to_have_attribute("aria-disabled", "true")
        await card.button.dispatch_event("click")
        await expect(card.button.locator("span").first).to_have_text("已退出")
        assert server.asked_for("/likes") == []


async def test_like_of_somebody_who_withdrew_meanwhile_says_so(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.next_outcomes = ["unknown-candidate"]
        await card.button.click()
        await expect(card.note).to_have_text("已退出")
        await card.shows(READY, 0)


async def test_keyboard_reaches_the_button_shows_it_and_likes(browser):
    async with portal(browser, width=1280, height=900) as (_, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.page.locator(".go").focus()
        await seen.page.keyboard.press("Tab")
        await expect(card.button).to_be_focused()
        await expect(card.button).to_have_css("outline-style", "solid")
        await expect(card.button).to_have_css("outline-width", "3px")
        await seen.page.keyboard.press("Space")
        await card.shows(LIKED, 1)
        await expect(card.button).to_be_focused()
        receipt = card.host.get_by_role("link", name="回执")
        await expect(receipt).to_be_visible()
        await seen.page.keyboard.press("Tab")
        await expect(receipt).to_be_focused()
        await seen.page.keyboard.press("Tab")
        await seen.page.keyboard.press("Enter")
        await Card(seen.page, "zu-chongzhi").shows(LIKED, 1)


async def test_screen_reader_hears_whom_and_how_many(browser):
    async with portal(browser) as (_, seen):
        await Card(seen.page).is_ready()
        button = seen.page.get_by_role("button", name=re.compile("点赞.*张衡.*0"))
        await expect(button).to_have_count(1)
        await button.click()
        await expect(
            seen.page.get_by_role("button", name=re.compile("已点赞.*张衡.*1"), pressed=True)
        ).to_have_count(1)


async def test_buttons_are_large_and_legible_in_every_state(browser):
    async with portal(browser, width=360, height=740) as (server, seen):
        card, other = Card(seen.page), Card(seen.page, "zu-chongzhi")
        await card.is_ready()
        box = await card.button.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44
        await seen.page.emulate_media(reduced_motion="reduce")  # no colour half-way
        assert await _contrast(card.button) >= 4.5
        await card.button.click()
        await card.shows(LIKED, 1)
        assert await _contrast(card.button) >= 4.5
        server.next_outcomes = ["quota-spent", "closed"]
        await other.button.click()
        await expect(other.note).to_be_visible()
        assert await _contrast(other.note) >= 4.5
        await other.button.click()
        await other.shows("点赞已结束", 0)
        assert await _contrast(other.button) >= 4.5
        for part in (".role", ".summary"):
            assert await _contrast(card.host.locator(part), "rgb(255, 255, 255)") >= 4.5


async def _contrast(element, behind=None):
    """By the formula of WCAG 2."""
    colours = await element.evaluate(
        "(element) => ['color', 'backgroundColor'].map((name) => getComputedStyle(element)[name])"
    )
    text, ground = (_luminance(colour) for colour in (colours[0], behind or colours[1]))
    return (max(text, ground) + 0.05) / (min(text, ground) + 0.05)


def _luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", True), ("reduce", False)])
async def test_like_moves_only_for_those_who_want_motion(browser, motion, moves):
    async with portal(browser, reduced_motion=motion) as (_, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        names = await card.button.evaluate(
            "(b) => ['svg', '.plus'].map((p) => getComputedStyle(b.querySelector(p)).animationName)"
        )
        assert names == (["pop", "rise"] if moves else ["none", "none"])


@pytest.mark.parametrize("width", [320, 360, 375, 820, 1280])
async def test_page_fits_its_width_and_nothing_moves_while_cards_come(browser, width):
    note = """globalThis.shift = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) shift += entry.value;
    }).observe({ type: 'layout-shift', buffered: true });"""
    server = StandIn()
    server.away = True  # the cards stand empty first
    async with portal(browser, server, before=note, width=width, height=800) as (server, seen):
        await wait_until_async(lambda: _true(len(server.asked) >= 2))
        server.away = False
        await seen.page.locator("#cards").scroll_into_view_if_needed()
        await seen.page.clock.run_for(10_000)
        for candidate in server.campaign.candidates:
            await Card(seen.page, candidate.id).is_ready()
        assert await seen.page.evaluate("document.documentElement.scrollWidth") <= width
        cut = await seen.page.evaluate(
            """[...document.querySelectorAll('like-card')].filter((card) => {
              const box = card.getBoundingClientRect();
              const inside = [...card.shadowRoot.querySelectorAll('.summary, button')];
              return inside.some((part) => part.scrollHeight > part.clientHeight + 1
                || part.getBoundingClientRect().right > box.right);
            }).map((card) => card.getAttribute('candidate'))"""
        )
        assert cut == [], "no text is cut off"
        assert await seen.page.evaluate("shift") < 0.02


async def test_without_javascript_every_card_is_a_link_to_its_own_page(browser):
    async with portal(browser, java_script_enabled=False) as (server, seen):
        links = seen.page.locator("like-card > a")
        await expect(links).to_have_count(12)
        await expect(links.first).to_be_visible()
        assert await links.first.get_attribute("href") == "/embed/v1/card/demo/zhang-heng"
        assert server.asked == []


@contextlib.asynccontextmanager
async def foreign_portal(browser, server):
    """(its origin, watched page): a page on another origin that embeds one card of `server`."""
    async with serving(server) as home, watched(browser) as seen:

        async def page(_):
            return web.Response(
                text=f'<meta charset="utf-8"><script src="{home}embed/v1/like.js"></script>'
                '<like-card campaign="demo" candidate="zhang-heng"></like-card>',
                content_type="text/html",
            )

        app = web.Application()
        app.router.add_get("/", page)
        async with serving_app(app) as url:
            yield url.rstrip("/"), seen


async def test_card_on_a_portal_of_another_origin_likes_without_a_preflight(browser):
    server = StandIn()
    async with foreign_portal(browser, server) as (origin, seen):
        server.portals.add(origin)
        await seen.page.goto(origin)
        card = Card(seen.page)
        await card.is_ready()
        server.next_outcomes, server.retry_after = ["throttled"], 1
        await card.button.click()
        await expect(card.note).to_have_text("点赞太快，请 1 秒后再试")
        await expect(card.note).to_be_hidden()
        await card.button.click()
        await card.shows(LIKED, 1)
        await expect(card.host.locator(".card")).to_have_css("display", "flex")
        await seen.page.reload()
        await card.shows(TODAY, 1)
        assert seen.own_complaints() == []


async def test_card_on_a_page_that_the_campaign_does_not_know_counts_nothing(browser):
    server = StandIn()
    async with foreign_portal(browser, server) as (origin, seen):
        await seen.page.goto(origin)
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_have_text("此页面未获准嵌入点赞")
        await card.shows("此页面未获准嵌入点赞", 0)
        assert server.counts["zhang-heng"] == 0
