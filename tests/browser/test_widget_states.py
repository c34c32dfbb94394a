"""What a card and a button say and look like in each state: Chinese and English, light and dark, on
a phone and on a desk; and axe-core finds nothing in any."""

import dataclasses

import pytest
from playwright.async_api import expect

from tests.browser.axe import faults, needs_axe
from tests.browser.chromium import SCREENSHOTS, chromium, needs_chromium, watched
from tests.browser.stand_in import StandIn, demo_campaign
from tests.browser.test_widget import Card, portal, serving

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

BOTH = (
    '<like-card campaign="demo" candidate="zhang-heng"{more}></like-card>\n'
    '<like-button campaign="demo" candidate="zu-chongzhi" name="祖冲之"{more}></like-button>'
)
LOOKS = [
    pytest.param("zh-CN", "light", 390, id="zh-light-390"),
    pytest.param("en", "dark", 1280, id="en-dark-1280"),
]


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


async def nothing(server, seen, card, button):
    pass


async def tap_both(server, seen, card, button):
    await card.button.click()
    await button.button.click()


async def tap_and_reload(server, seen, card, button):
    await tap_both(server, seen, card, button)
    await expect(card.said).not_to_be_empty()
    await expect(button.said).not_to_be_empty()
    await seen.page.reload()


async def tap_offline(server, seen, card, button):
    await seen.context.set_offline(True)
    await tap_both(server, seen, card, button)


def refused(outcome):
    def arrange(server):
        server.next_outcomes = [outcome, outcome]

    return arrange


def in_phase(phase, because=None):
    def arrange(server):
        server.phase, server.paused_because = phase, because

    return arrange


def last_two(server):
    server.quota = 2


def challenged(server):
    server.challenge_bits = 10
    server.proof_gate.clear()


def withdrawn(server):
    people = server.campaign.candidates
    gone = [dataclasses.replace(one, withdrawn=True) for one in people]
    server.campaign = demo_campaign(candidates=tuple(gone))
    server.counts = {}


def as_usual(server):
    pass


STATES = [
    # name, arrange, act, where it is said: in Chinese and in English
    ("ready", as_usual, nothing, "label", "点赞", "Like"),
    (
        "counted",
        as_usual,
        tap_both,
        "said",
        "点赞成功 · 今日还可点赞",
        "Your like counts · ",
    ),
    ("repeated", as_usual, tap_and_reload, "label", "今日已点赞", "Liked today"),
    ("last", last_two, tap_and_reload, "hint", "今日点赞次数已用完", "No likes left today"),
    ("quota", refused("quota-spent"), tap_both, "note", "今日点赞次数已用完", "No likes left"),
    ("closed", in_phase("closed"), nothing, "label", "点赞已结束", "Likes are closed"),
    ("not-open", in_phase("not-open"), nothing, "label", "点赞尚未开始", "Likes are not open yet"),
    ("paused", in_phase("paused", "系统维护"), nothing, "label", "点赞暂停中", "Likes are paused"),
    ("throttled", refused("throttled"), tap_both, "note", "点赞太快，请", "Too fast: again in"),
    ("refused", refused("refused"), tap_both, "note", "本次点赞未被接受", "not accepted"),
    ("busy", refused("store-down"), tap_both, "note", "服务繁忙", "Busy: please"),
    ("login", refused("identity-required"), tap_both, "note", "请先登录", "Please sign in"),
    ("working", challenged, tap_both, "note", "正在验证", "Checking"),
    ("offline", as_usual, tap_offline, "note", "网络不通，稍后自动重试", "No network: your like"),
    ("withdrawn", withdrawn, nothing, "label", "已退出", "Withdrawn"),
]


@needs_axe
@pytest.mark.parametrize(("lang", "theme", "width"), LOOKS)
@pytest.mark.parametrize(
    ("state", "arrange", "act", "where", "chinese", "english"), STATES, ids=[s[0] for s in STATES]
)
async def test_state_is_said_seen_and_accessible(
    browser, state, arrange, act, where, chinese, english, lang, theme, width
):
    server = StandIn()
    server.lang = lang
    server.attributes = {"theme": theme}
    server.cards = BOTH.format(more=f' theme="{theme}"')
    server.retry_after = 30
    arrange(server)
    # Without motion no colour is half-way when axe looks.
    options = {"width": width, "height": 800, "reduced_motion": "reduce"}
    async with portal(browser, server, **options) as (server, seen):
        card = Card(seen.page)
        button = Card(seen.page, "zu-chongzhi")
        button.host = seen.page.locator("like-button")
        button.button, button.note = button.host.locator("button"), button.host.locator(".note")
        button.said = button.host.get_by_role("status")
        await expect(card.host.locator("h3")).to_have_text("张衡")
        await act(server, seen, card, button)
        text = english if lang == "en" else chinese
        for one in (card, button):
            place = one.said if where == "said" else one.host.locator("." + where)
            await expect(place).to_contain_text(text)
        assert await faults(seen.page) == []
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = f"widget-{state}-{lang[:2]}-{theme}-{width}.png"
        await seen.page.screenshot(path=SCREENSHOTS / name)
        box = await button.button.bounding_box()
        assert box["height"] >= 44


@pytest.mark.parametrize(
    ("phase", "because", "chinese", "english"),
    [
        ("not-open", None, "7月1日 08:00 开始", "Opens 1 Jul, 08:00"),
        ("closed", None, "8月1日 00:00 结束", "Ended 1 Aug, 00:00"),
        ("paused", "系统维护<b>", "系统维护<b>", "系统维护<b>"),
    ],
)
@pytest.mark.parametrize("lang", ["zh-CN", "en"])
async def test_card_says_when_it_opens_when_it_ended_and_why_it_is_paused(
    browser, phase, because, chinese, english, lang
):
    server = StandIn()
    server.lang = lang
    in_phase(phase, because)(server)
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        told = english if lang == "en" else chinese
        await expect(card.host.locator(".hint")).to_have_text(told)
        await card.button.dispatch_event("click")
        await expect(card.note).to_contain_text(told)
        await expect(card.said).to_contain_text(told)
        assert server.asked_for("/likes") == []


async def test_page_that_is_open_when_likes_open_takes_likes_without_a_reload(browser):
    server = StandIn()
    server.phase = "not-open"
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.shows("点赞尚未开始", 0)
        server.phase = "open"
        await seen.page.clock.run_for(6_000)
        await card.is_ready()
        await card.button.click()
        await card.shows("已点赞", 1)
        server.phase, server.paused_because = "paused", "核查"
        await seen.page.clock.run_for(6_000)
        await expect(card.button).to_have_attribute("aria-disabled", "true")
        await expect(card.host.locator(".hint")).to_have_text("核查")


@needs_axe
@pytest.mark.parametrize("lang", ["zh-CN", "en"])
@pytest.mark.parametrize(
    ("element", "attributes", "stays"),
    [("like-card", {}, True), ("like-button", {}, False), ("like-button", {"receipt": ""}, True)],
)
async def test_counted_like_has_a_link_to_its_receipt_and_nothing_moves_for_it(
    browser, element, attributes, stays, lang
):
    server = StandIn(mount="/likes")
    server.lang = lang
    server.element, server.attributes = element, attributes
    async with (
        serving(server) as url,
        watched(browser, 390, 844, reduced_motion="reduce") as seen,
    ):
        await seen.page.goto(f"{url}likes/")
        host = seen.page.locator(f"{element}[candidate=zhang-heng]")
        link = host.get_by_role("link", name="Receipt" if lang == "en" else "回执")
        await expect(host.locator("button")).to_have_attribute("aria-disabled", "false")
        await expect(link).to_have_count(0)
        before = await host.bounding_box()
        await host.locator("button").click()
        await expect(link).to_be_visible()
        receipt = server.receipt_of(server.asked_for("/likes")[-1]["click"])
        assert await link.evaluate("(a) => [a.href, a.target, a.rel]") == [
            f"{url}likes/receipt?receipt={receipt}",
            "_blank",
            "noopener",
        ]
        assert await host.bounding_box() == before
        assert await link.evaluate("(a) => a.getBoundingClientRect().height") >= 24
        assert await faults(seen.page) == []
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = f"widget-receipt-{element}-{'line' if stays else 'note'}-{lang[:2]}.png"
        await seen.page.screenshot(path=SCREENSHOTS / name)
        # A button alone has no room for it: it goes with the message, but not from under a reader.
        running = await link.evaluate("(a) => a.getAnimations().map((one) => one.animationName)")
        assert running == ([] if stays else ["fade"])
        await link.focus()
        assert await link.evaluate("(a) => a.getAnimations().length") == 0
        await host.locator("button").click()
        await expect(host.locator("button")).to_contain_text("oday" if lang == "en" else "今日")
        await expect(link).to_be_visible()  # the first one's, for a repeated like has none
        assert (await link.get_attribute("href")).endswith(receipt)


async def test_message_of_a_button_in_a_line_of_text_is_whole_whatever_the_page_does_with_its_own(
    browser,
):
    server = StandIn()
    server.cards = (
        '<div class="news"><like-button campaign="demo" candidate="zhang-heng"'
        ' name="张衡" text-refused="这一次点赞没有被接受，请稍后再到活动主页试一次">'
        "</like-button></div>"
    )
    server.next_outcomes = ["refused"]
    async with portal(browser, server, width=390, height=800) as (_, seen):
        await seen.page.locator(".news").evaluate(
            """(news) => Object.assign(news.style, { whiteSpace: 'nowrap', letterSpacing: '9px',
              textTransform: 'uppercase', textIndent: '3em', wordSpacing: '9px' })"""
        )
        await seen.page.locator("like-button button").click()
        note = seen.page.locator("like-button .note")
        await expect(note).to_contain_text("请稍后再到活动主页试一次")
        looks = await note.evaluate(
            """(n) => { const s = getComputedStyle(n); return [n.scrollWidth <= n.clientWidth,
              s.whiteSpace, s.letterSpacing, s.textTransform, s.textIndent, s.wordSpacing]; }"""
        )
        assert looks == [True, "normal", "normal", "none", "0px", "0px"]


async def test_texts_of_a_card_are_replaced_by_its_attributes(browser):
    server = StandIn()
    server.attributes = {"text-like": "为他点赞", "text-counted": "谢谢", "text-left": "还剩 {}"}
    async with portal(browser, server) as (_, seen):
        card = Card(seen.page)
        await card.shows("为他点赞", 0)
        await card.button.click()
        await expect(card.said).to_have_text("谢谢 · 还剩 9")
        await expect(card.host.locator(".hint")).to_have_text("还剩 9")


async def test_language_of_the_element_goes_before_the_pages(browser):
    server = StandIn()
    server.attributes = {"lang": "en"}
    async with portal(browser, server) as (_, seen):
        card = Card(seen.page)
        await card.shows("Like", 0)
        await expect(card.host.locator("article")).to_have_attribute("lang", "en")
        await seen.page.evaluate(
            "document.querySelectorAll('like-card').forEach((card) => { card.lang = 'zh'; })"
        )
        await card.shows("点赞", 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_theme_auto_is_the_visitors_and_none_is_light(browser, scheme):
    for theme, dark in (("auto", scheme == "dark"), (None, False)):
        server = StandIn()
        server.attributes = {"theme": theme} if theme else {}
        async with portal(browser, server, color_scheme=scheme) as (_, seen):
            await Card(seen.page).is_ready()
            ground = await seen.page.evaluate(
                "getComputedStyle(document.querySelector('like-card').shadowRoot"
                ".querySelector('.card')).backgroundColor"
            )
            assert (ground != "rgb(255, 255, 255)") is dark


async def test_motion_can_be_switched_off_by_the_page(browser):
    server = StandIn()
    server.attributes = {"motion": "off"}
    async with portal(browser, server) as (_, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await card.shows("已点赞", 1)
        names = await card.button.evaluate(
            "(b) => ['svg', '.plus'].map((p) => getComputedStyle(b.querySelector(p)).animationName)"
        )
        assert names == ["none", "none"]


async def test_portal_styles_a_card_by_its_parts_and_properties(browser):
    async with portal(browser) as (_, seen):
        await seen.page.evaluate(
            """() => {
              const sheet = new CSSStyleSheet();
              sheet.replaceSync(`
                like-card { --like-color: rgb(0, 100, 60); }
                like-card::part(name) { color: rgb(1, 2, 3); }
                like-card::part(button) { border-radius: 3px; }`);
              document.adoptedStyleSheets = [sheet];
            }"""
        )
        card = Card(seen.page)
        await card.is_ready()
        await expect(card.host.locator("h3")).to_have_css("color", "rgb(1, 2, 3)")
        await expect(card.button).to_have_css("border-radius", "3px")
        await expect(card.button).to_have_css("border-color", "rgb(0, 100, 60)")
