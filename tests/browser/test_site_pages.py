"""The public pages in a real browser: their looks in light and dark, on a phone and a desk, with
axe-core; finding candidates; and all of it without a script.

Pictures go to build/screenshots/ as site-<page>-<width>-<scheme>.png.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.axe import faults, needs_axe
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.public_campaigns import add_public_campaign
from voting.journal import tally_key

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
PAGES = {
    "campaign": "/campaigns/spring",
    "candidate": "/campaigns/spring/candidates/c001",
    "withdrawn": "/campaigns/spring/candidates/c007",
    "ranking": "/campaigns/spring/ranking",
    "rules": "/campaigns/spring/rules",
    "privacy": "/campaigns/spring/privacy",
    "found": "/campaigns/spring?q=%E5%A4%A9%E6%96%87",
    "nobody": "/campaigns/spring?q=zzz",
    "yellow": "/campaigns/yellow",
    "yellow-candidate": "/campaigns/yellow/candidates/c002",
    "yellow-ranking": "/campaigns/yellow/ranking",
    "rehearsal": "/campaigns/rehearsal",
}
"""What is looked at: the colour of "yellow" cannot be read on white, and its counts are hidden;
"rehearsal" has nothing that a campaign may do without, and is paused."""


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def site(tmp_path, valkey, valkey_url, postgres_dsn, postgres):
    await add_public_campaign(postgres, candidates=60, photos=4)
    await add_public_campaign(
        postgres,
        "yellow",
        candidates=24,
        photos=4,
        rules={"counts": "after-close"},
        page={"colour": "#ffd400"},
        closes_at=datetime.now(UTC) + timedelta(days=12),
    )
    await add_public_campaign(
        postgres,
        "rehearsal",
        candidates=5,
        photos=0,
        title="一项名称很长很长的活动：它没有封面、没有介绍，也没有 photos，名称却要占去三四行",
        is_test=True,
        paused_because="机房检修，预计一小时后恢复",
        page=dict.fromkeys(("lead", "about", "cover", "contact", "organiser"), ""),
    )
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE id = 'c007'")
    await postgres.execute("UPDATE catalog SET version = version + 1")
    for n in range(1, 61):
        await valkey.hset(tally_key(0, "spring"), str(n), n // 2 * 1_234)
    async with running_edge(tmp_path, valkey_url, postgres_dsn, challenge="off") as edge:
        yield edge


_MISSING = """
  [...document.querySelectorAll('.person .like, like-button')]
    .filter((one) => {
      const { top, bottom } = one.getBoundingClientRect();
      return top < 900 && bottom > 0 && !one.closest('[hidden]');
    })
    .map((one) => one.closest('like-button') || one)
    .filter((one) => !one.shadowRoot || !one.shadowRoot.querySelector('button'))
    .map((one) => one.outerHTML)
"""


async def steady(page):
    """All that is near has come: pictures, and the widget's buttons."""

    async def ready():
        return await page.evaluate(_MISSING) == []

    await wait_until_async(ready, seconds=30, what="the buttons of the cards that are seen")


@needs_axe
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_pages_fit_complain_of_nothing_and_axe_finds_nothing(site, browser, width, scheme):
    PICTURES.mkdir(parents=True, exist_ok=True)
    options = {"width": width, "height": 844, "color_scheme": scheme}
    async with watched(browser, **options) as seen:
        for name, path in PAGES.items():
            await seen.page.goto(site.url + path)
            await steady(seen.page)
            # The video's file is not there, and its page says so by itself. Asked before pictures
            # and axe, which put styles of their own into the page.
            complaints = [text for text in seen.own_complaints() if "video" not in text.lower()]
            assert complaints == [], name
            for person in (await seen.page.locator(".person").all())[3:9:5]:
                await person.scroll_into_view_if_needed()  # so that its picture is on ours
                await steady(seen.page)
            await seen.page.evaluate("scrollTo(0, 0)")
            wide = await seen.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide"
            await seen.page.screenshot(
                path=PICTURES / f"site-{name}-{width}-{scheme}.png",
                full_page=True,
                clip={"x": 0, "y": 0, "width": width, "height": 2_400},
            )
            assert await faults(seen.page) == [], name
            seen.complaints.clear()


async def test_one_finds_by_typing_and_by_channel(site, browser):
    campaign = site.parts.catalog.campaigns["spring"]
    here = [candidate for candidate in campaign.candidates if not candidate.withdrawn]
    async with watched(browser, width=390, height=844) as seen:
        page = seen.page
        await page.goto(f"{site.url}/campaigns/spring")
        shown = page.locator(".person:not([hidden])")
        found = page.locator("#found")
        await expect(shown).to_have_count(len(here))
        await expect(found).to_have_text(f"{len(here)} 位")
        wanted = [c for c in here if "天文台" in c.organisation]
        await page.get_by_role("searchbox").fill("天文")
        await expect(shown).to_have_count(len(wanted))
        await expect(found).to_have_text(f"找到 {len(wanted)} 位")
        channel = wanted[0].channel
        chip = page.get_by_role("navigation", name="推荐渠道").get_by_role("link", name=channel)
        await chip.click()
        both = [c for c in wanted if c.channel == channel]
        await expect(shown).to_have_count(len(both))
        await expect(chip).to_have_attribute("aria-current", "true")
        assert page.url.endswith("/campaigns/spring"), "nothing was loaded anew"
        await page.get_by_role("searchbox").fill("没有这个人")
        await expect(page.locator(".nobody")).to_be_visible()
        await page.locator(".nobody a").click()
        await expect(shown).to_have_count(len(here))
        assert seen.own_complaints() == []


async def test_a_card_gets_its_button_when_it_comes_near_and_the_like_counts(site, browser):
    async with watched(browser, width=390, height=844) as seen:
        page = seen.page
        await page.goto(f"{site.url}/campaigns/spring")
        await steady(page)
        assert await page.locator("like-button").count() < 30
        last = page.locator(".person").last
        await last.scroll_into_view_if_needed()
        button = last.locator("like-button button")
        await expect(button).to_be_visible()
        name = await last.locator("h3").inner_text()
        await expect(page.get_by_role("button", name=name)).to_have_count(1)
        candidate = await last.get_attribute("id")
        before = int(candidate[1:]) // 2 * 1_234
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")
        await site.wait_for_counts("spring", {candidate: before + 1})
        # The rest of the card leads to the candidate.
        await last.click(position={"x": 60, "y": 60})
        await expect(page.locator("h1")).to_have_text(name)
        await expect(page.locator("like-button button")).to_have_attribute("aria-pressed", "true")
        assert [text for text in seen.own_complaints() if "video" not in text.lower()] == []


async def test_nothing_moves_while_a_page_comes_and_is_scrolled(site, browser):
    watch = """
      window.moved = 0;
      new PerformanceObserver((list) => {
        for (const one of list.getEntries()) if (!one.hadRecentInput) window.moved += one.value;
      }).observe({ type: 'layout-shift', buffered: true });
    """
    for width in (390, 1280):
        async with watched(browser, width=width, height=844) as seen:
            await seen.page.add_init_script(watch)
            for path in ("", "/candidates/c001"):
                await seen.page.goto(f"{site.url}/campaigns/spring{path}")
                await steady(seen.page)
                for _ in range(8):
                    await seen.page.mouse.wheel(0, 700)
                    await seen.page.evaluate("new Promise(requestAnimationFrame)")
                await steady(seen.page)
                assert await seen.page.evaluate("window.moved") < 0.02, (width, path)


async def test_without_a_script_one_finds_likes_and_reads(site, browser):
    async with watched(browser, width=390, height=844, java_script_enabled=False) as seen:
        page = seen.page
        await page.goto(f"{site.url}/campaigns/spring")
        await expect(page.locator(".person")).to_have_count(59)
        await page.get_by_role("searchbox").fill("天文")
        await page.get_by_role("button", name="查找").click()
        assert "q=" in page.url
        first = page.locator(".person").first
        assert "天文台" in await first.locator(".role").inner_text()
        name = await first.locator("h3").inner_text()
        await first.locator("h3 a").click()
        await expect(page.locator("h1")).to_have_text(name)
        candidate = page.url.rpartition("/")[2]
        await page.locator("like-button a").click()
        await page.get_by_role("button", name="点赞").click()
        await expect(page.get_by_text("点赞成功")).to_be_visible()
        await site.wait_for_counts("spring", {candidate: int(candidate[1:]) // 2 * 1_234 + 1})


async def test_one_reaches_everything_by_keyboard(site, browser):
    async with watched(browser, width=1280, height=900) as seen:
        page = seen.page
        await page.goto(f"{site.url}/campaigns/spring")
        await steady(page)
        await page.locator(".person").nth(8).scroll_into_view_if_needed()
        await page.locator(".person like-button button").first.wait_for()
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await expect(page.locator(".skip")).to_be_in_viewport()
        reached = set()
        for _ in range(30):
            await page.keyboard.press("Tab")
            reached.add(
                await page.evaluate(
                    "(() => { const at = document.activeElement;"
                    " return at.closest('li.person') ? at.tagName : at.className || at.tagName })()"
                )
            )
        assert {"site-name", "button quiet", "A", "LIKE-BUTTON"} <= reached


async def test_a_page_prints_as_paper(site, browser):
    async with watched(browser, width=1280, height=900, color_scheme="dark") as seen:
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name in ("campaign", "candidate", "rules"):
            await seen.page.goto(site.url + PAGES[name])
            await steady(seen.page)
            await seen.page.emulate_media(media="print", color_scheme="light")
            for what in (".site-head nav", "like-button", ".find"):
                for one in await seen.page.locator(what).all():
                    assert not await one.is_visible(), (name, what)
            printed = await seen.page.pdf(path=PICTURES / f"site-{name}.pdf", format="A4")
            assert printed.startswith(b"%PDF")
            await seen.page.emulate_media(media="screen", color_scheme="dark")
