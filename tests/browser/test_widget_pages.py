"""The widget among what pages and browsers do to it: other tabs, the back button, storage that is
denied, strict policies, portals that are not listed, logins, old web views, thousands of cards."""

import asyncio
import re

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium, watched
from tests.browser.stand_in import POLICY, StandIn, demo_campaign
from tests.browser.test_widget import (
    LIKED,
    READY,
    TODAY,
    Card,
    foreign_portal,
    portal,
    serving,
    serving_app,
)
from tests.conftest import wait_until_async
from voting.campaign import Candidate

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

THOUSANDS = 3_000


@pytest.fixture(scope="module")
async def browser():
    async with chromium(back_forward_cache=True) as browser:
        yield browser


def until(condition):
    async def is_so():
        return condition()

    return wait_until_async(is_so)


def like_button(page, candidate="zhang-heng"):
    card = Card(page, candidate)
    card.host = page.locator(f"like-button[candidate={candidate}]")
    card.button = card.host.locator("button")
    card.note = card.host.locator(".note")
    card.said = card.host.get_by_role("status")
    return card


# ---- the button alone ----


async def test_button_alone_needs_no_list_of_people_where_the_page_names_them(browser):
    server = StandIn()
    server.cards = '<like-button campaign="demo" candidate="zhang-heng" name="张衡"></like-button>'
    async with portal(browser, server) as (server, seen):
        button = like_button(seen.page)
        await button.is_ready()
        await expect(seen.page.get_by_role("button", name=re.compile("点赞.*张衡"))).to_have_count(
            1
        )
        await button.button.click()
        await button.shows(LIKED, 1)
        await seen.page.reload()
        await button.shows(TODAY, 1)
        assert server.asked_for("/candidates") == []
        assert seen.complaints == []


async def test_button_without_a_name_asks_for_that_one_person(browser):
    server = StandIn()
    server.cards = '<like-button campaign="demo" candidate="zhang-heng"></like-button>'
    async with portal(browser, server) as (server, seen):
        await expect(seen.page.get_by_role("button", name=re.compile("点赞.*张衡"))).to_have_count(
            1
        )
        assert len(server.asked_for("/candidates")) == 1


async def test_like_is_told_to_the_page_as_an_event(browser):
    async with portal(browser) as (server, seen):
        await Card(seen.page).is_ready()
        await seen.page.evaluate(
            """() => {
              window.told = [];
              document.addEventListener('like', ({ detail, target }) =>
                told.push({ ...detail, on: target.localName }));
            }"""
        )
        server.next_outcomes = ["quota-spent"]
        await Card(seen.page).button.click()
        await until(lambda: server.next_outcomes == [])
        await Card(seen.page).shows(READY, 0)
        await Card(seen.page).button.click()
        await expect(Card(seen.page).said).to_contain_text("点赞成功")
        told = await seen.page.evaluate("told")
        common = {"candidate": "zhang-heng", "on": "like-card"}
        receipt = server.receipt_of(server.asked_for("/likes")[-1]["click"])
        assert told == [
            common | {"outcome": "quota-spent", "likes": None, "receipt": None},
            common | {"outcome": "counted", "likes": 1, "receipt": receipt},
        ]


# ---- sharing ----


async def share_button(seen):
    button = seen.page.locator("like-card").first.get_by_role("button", name="分享")
    await expect(button).to_be_visible()
    return button


async def test_card_is_shared_by_the_browsers_own_sheet_where_there_is_one(browser):
    sheet = "navigator.share = async (what) => { window.shared = what; };"
    server = StandIn()
    server.attributes = {"share": "/candidates/zhang-heng"}
    async with portal(browser, server, before=sheet) as (server, seen):
        await Card(seen.page).button.first.wait_for()
        await (await share_button(seen)).click()
        shared = await seen.page.evaluate("shared")
        assert shared["title"] == "张衡"
        assert "张衡" in shared["text"]
        assert shared["url"].endswith("/candidates/zhang-heng")
        assert server.asked_for("/likes") == [], "sharing has nothing to do with likes"


async def test_card_is_copied_to_be_pasted_where_the_browser_has_no_sheet(browser):
    none = "delete Navigator.prototype.share; delete Navigator.prototype.clipboard;"
    server = StandIn()
    server.attributes = {"share": ""}
    async with portal(browser, server, before=none) as (_, seen):
        await seen.page.evaluate(
            "document.addEventListener('copy', () => { window.copied = String(getSelection()); })"
        )
        await (await share_button(seen)).click()
        await expect(seen.page.locator("like-card").first.locator(".row .note")).to_contain_text(
            "已复制"
        )
        assert seen.complaints == []


# ---- tabs, reloads, the back button ----


async def test_two_tabs_that_like_at_once_are_one_device(browser):
    """Both ask for a token; the one that is kept first is both tabs'. (Within the milliseconds in
    which a browser tells one tab of the other's storage they would be two.)"""
    server = _Paced()
    async with portal(browser, server) as (server, seen):
        other = await seen.context.new_page()
        await other.goto(seen.page.url)
        cards = [Card(seen.page), Card(other, "zu-chongzhi")]
        for card in cards:
            await card.is_ready()
            await card.button.click()
        await until(lambda: len(server.asked_for("/devices")) == 2)
        server.may_mint.release()
        await until(lambda: len(server.asked_for("/likes")) == 1)
        server.may_mint.release()
        for card in cards:
            await expect(card.said).to_contain_text("点赞成功")
        assert len({like["token"] for like in server.asked_for("/likes")}) == 1
        await seen.page.reload()
        await Card(seen.page).shows(TODAY, 1)
        await Card(seen.page, "zu-chongzhi").shows(TODAY, 1)


class _Paced(StandIn):
    """Tokens are given when a test says so, one by one."""

    def __init__(self):
        super().__init__()
        self.may_mint = asyncio.Semaphore(0)

    async def _devices(self, request):
        await self.may_mint.acquire()
        return await super()._devices(request)


async def test_page_out_of_the_browsers_memory_asks_what_is_new(browser):
    server = StandIn()
    async with serving(server) as url, watched(browser) as seen:
        await seen.page.goto(url)
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        await seen.page.evaluate("window.kept = true")
        await seen.page.goto(url + "elsewhere")
        [token] = server.liked
        server.liked[token]["zu-chongzhi"] = "click-of-another-tab"
        server.counts["zhang-heng"] = 8
        await seen.page.go_back(wait_until="commit")
        assert await seen.page.evaluate("window.kept"), "it was in the cache: no part of it hinders"
        await card.shows(TODAY, 8)
        await Card(seen.page, "zu-chongzhi").shows(TODAY, 0)


async def test_like_on_its_way_when_the_page_is_left_counts_once_when_it_comes_back(browser):
    server = StandIn()
    async with serving(server) as url, watched(browser) as seen:
        await seen.page.goto(url)
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        await expect(card.said).to_contain_text("点赞成功")
        other = Card(seen.page, "zu-chongzhi")
        server.gate.clear()
        await other.button.click()
        await until(lambda: len(server.asked_for("/likes")) == 2)
        await seen.page.goto(url + "elsewhere")
        server.gate.set()
        await seen.page.go_back(wait_until="commit")
        await other.host.scroll_into_view_if_needed()
        await expect(other.button).to_have_attribute("aria-pressed", "true")
        await until(lambda: server.counts["zu-chongzhi"] == 1)
        assert len({like["click"] for like in server.asked_for("/likes")}) == 2


@pytest.mark.parametrize(
    "denied",
    [
        "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); };",
        "Storage.prototype.getItem = () => 'no JSON {';",
        "Object.defineProperty(window, 'localStorage', { value: null });",
    ],
    ids=["full", "spoilt", "missing"],
)
async def test_whatever_is_wrong_with_storage_the_page_has_one_device(browser, denied):
    async with portal(browser, before=denied) as (server, seen):
        for candidate in ("zhang-heng", "zu-chongzhi"):
            card = Card(seen.page, candidate)
            await card.is_ready()
            await card.button.click()
            await card.shows(LIKED, 1)
        assert len(server.asked_for("/devices")) == 1
        assert seen.complaints == []


# ---- identities ----


async def test_identity_of_a_portal_is_one_device_and_nothing_of_it_is_kept(browser):
    server = StandIn()
    server.identities["signed-by-the-portal"] = "token-of-u7"
    server.attributes = {"identity": "signed-by-the-portal"}
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        assert server.asked_for("/devices") == [
            {"campaign": "demo", "identity": "signed-by-the-portal"}
        ]
        assert [like["token"] for like in server.asked_for("/likes")] == ["token-of-u7"]
        assert await seen.page.evaluate("localStorage.length") == 0
        await seen.page.reload()
        await card.shows(TODAY, 1)


async def test_identity_by_address_is_whoever_is_logged_in_and_nobody_is_an_anonymous_device(
    browser,
):
    server = StandIn()
    server.identities |= {"says-u7": "token-of-u7", "says-u8": "token-of-u8"}
    server.attributes = {"identity": "/me"}
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        for who, token in (("says-u7", "token-of-u7"), ("", "token-1"), ("says-u8", "token-of-u8")):
            server.logged_in = who
            await seen.page.reload()
            await card.is_ready(len(server.asked_for("/likes")))
            await card.button.click()
            await expect(card.said).to_contain_text("点赞成功")
            assert server.asked_for("/likes")[-1]["token"] == token
        server.logged_in = "says-u7"
        await seen.page.reload()
        await card.shows(TODAY, 3)


async def test_identity_that_is_refused_is_told_to_the_programmer_and_the_visitor_may_like(browser):
    server = StandIn()
    server.attributes = {"identity": "out-of-date"}
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        [complaint] = seen.own_complaints()
        assert "identity" in complaint
        assert "登录凭证无效" in complaint


# ---- other origins, other paths ----


async def test_page_of_an_origin_that_is_not_listed_is_told_so_once_in_the_console(browser):
    server = StandIn()
    server.portals.add("https://www.example.cn")
    async with foreign_portal(browser, server) as (origin, seen):
        await seen.page.goto(origin)
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_have_text("此页面未获准嵌入点赞")
        await card.shows("此页面未获准嵌入点赞", 0)
        await expect(card.button).to_have_attribute("aria-disabled", "true")
        told = [text for text in seen.own_complaints() if text.startswith("like: ")]
        [text] = told
        assert origin in text
        assert "demo" in text
        assert "https://www.example.cn" in text
        assert server.counts["zhang-heng"] == 0


async def test_widget_below_a_path_of_the_portals_own_finds_the_service_there(browser):
    server = StandIn(mount="/likes")
    async with serving(server) as url, watched(browser) as seen:
        await seen.page.goto(url + "likes/")
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        photo = card.host.locator("img")
        assert "/likes/v1/photos/" in await photo.get_attribute("src")
        assert await photo.evaluate("(image) => image.decode().then(() => image.naturalWidth)")
        assert seen.complaints == []


STRICT = (
    "default-src 'none'; script-src {home}; style-src {home}; img-src {home}; connect-src {home};"
    " base-uri 'none'; form-action 'none'"
)


async def test_strictest_policy_of_a_portal_is_enough_for_all_that_the_widget_does(browser):
    server = StandIn()
    server.attributes = {}
    async with serving(server) as home, watched(browser) as seen:

        async def page(_):
            return web.Response(
                text=f'<!doctype html><meta charset="utf-8"><html lang="en">'
                f'<script src="{home}embed/v1/like.js"></script>'
                '<like-card campaign="demo" candidate="zhang-heng" share></like-card>'
                '<like-button campaign="demo" candidate="zu-chongzhi"></like-button>',
                content_type="text/html",
                headers={"Content-Security-Policy": STRICT.replace("{home}", home)},
            )

        app = web.Application()
        app.router.add_get("/", page)
        async with serving_app(app) as url:
            server.portals.add(url.rstrip("/"))
            await seen.page.goto(url)
            card, button = Card(seen.page), like_button(seen.page, "zu-chongzhi")
            card.button = card.host.locator(".button")
            for one in (card, button):
                await expect(one.host.locator(".label")).to_have_text("Like")
                await expect(one.button).to_have_attribute("aria-disabled", "false")
                await one.button.click()
                await expect(one.said).to_contain_text("Your like counts")
            await expect(card.host.locator(".card")).to_have_css("border-top-width", "1px")
            await expect(card.host.get_by_role("button", name="Share")).to_be_visible()
            scripts = ("favicon",)
            assert [c for c in seen.own_complaints() if not any(s in c for s in scripts)] == []


# ---- old web views ----

_OLD = """
for (const name of ['IntersectionObserver', 'AbortController', 'globalThis', 'queueMicrotask',
    'BigInt', 'WeakRef', 'structuredClone', 'ResizeObserver', 'CSSStyleSheet']) {
  Object.defineProperty(window, name, { value: undefined, configurable: true });
}
for (const [type, names] of [
  [Array.prototype, ['flat', 'flatMap', 'at', 'findLast', 'toSorted']],
  [Promise.prototype, ['finally']],
  [Promise, ['allSettled', 'any']],
  [String.prototype, ['replaceAll', 'matchAll', 'at', 'trimStart']],
  [Object, ['fromEntries', 'hasOwn', 'groupBy']],
  [Element.prototype, ['replaceChildren', 'toggleAttribute']],
  [Document.prototype, ['adoptedStyleSheets']],
  [ShadowRoot.prototype, ['adoptedStyleSheets', 'replaceChildren']],
]) for (const name of names) delete type[name];
"""


@pytest.mark.parametrize("lang", ["zh-CN", "en"])
async def test_old_web_view_without_what_came_after_es2017_shows_cards_and_likes(browser, lang):
    """Chromium of today with the newer things taken away, as far as that goes; that the files
    parse in an old one is said by acorn (tests/unit/test_widget_files.py)."""
    server = StandIn()
    server.lang = lang
    server.challenge_bits = 8
    async with portal(browser, server, before=_OLD) as (server, seen):
        card = Card(seen.page)
        label = card.host.locator(".label")
        await expect(label).to_have_text(READY if lang == "zh-CN" else "Like")
        await card.button.click()
        await expect(card.said).to_contain_text("点赞成功" if lang == "zh-CN" else "Your like")
        await seen.page.reload()
        await expect(label).to_have_text(TODAY if lang == "zh-CN" else "Liked today")
        assert seen.complaints == []


# ---- many ----


def thousands():
    people = tuple(
        Candidate(n, f"p{n}", f"候选人{n}", "某研究所", "某省", "科技", "研究员", "事迹。" * 8)
        for n in range(1, THOUSANDS + 1)
    )
    return demo_campaign(candidates=people)


async def test_thousands_of_cards_on_a_page_cost_three_requests_and_build_only_what_is_near(
    browser,
):
    server = StandIn(thousands())
    async with portal(browser, server) as (server, seen):
        await Card(seen.page, "p1").is_ready()
        built = (
            "Array.from(document.querySelectorAll('like-card')).filter((c) => c.shadowRoot).length"
        )
        assert await seen.page.evaluate(built) < 30
        await Card(seen.page, f"p{THOUSANDS}").is_ready()
        await Card(seen.page, f"p{THOUSANDS}").button.click()
        await Card(seen.page, f"p{THOUSANDS}").shows(LIKED, 1)
        assert await seen.page.evaluate(built) < 60
        assert len(server.asked_for("/candidates")) == 1
        asked = [path for path, _ in server.asked if path.endswith("/counts")]
        assert len(asked) <= 1 + len(server.views_given)
        assert seen.complaints == []


async def test_cards_that_nobody_sees_ask_for_nothing(browser):
    server = StandIn()
    server.cards = (
        '<p style="height:9000px">…</p>'
        '<like-card campaign="demo" candidate="zhang-heng"></like-card>'
    )
    server.policy = POLICY.replace("style-src", "style-src 'unsafe-inline'")
    async with portal(browser, server) as (server, seen):
        await seen.page.clock.run_for(20_000)
        assert server.asked == []
        await Card(seen.page).is_ready()
        assert len(server.asked_for("/counts")) == 1


# ---- the first build ----


async def test_first_build_still_works_where_pages_have_pinned_it(browser):
    server = StandIn()
    server.cards = (
        '<script src="embed/v1.0/like.js"></script>'
        '<like-card campaign="demo" candidate="zhang-heng"></like-card>'
    )
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        await seen.page.reload()
        await card.shows(TODAY, 1)
