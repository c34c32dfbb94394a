"""Live pages in a real browser: what comes, comes by itself; what stops is said to be old."""

import contextlib
import re

import pytest
from playwright.async_api import expect

from tally import live_view
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.console import console  # noqa: F401  # a fixture
from tests.integration.conftest import running_edge
from voting.journal import JournalError, tally_key

pytestmark = needs_chromium
KEY = tally_key(0, "spring")


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def spring(postgres, valkey):
    await add_campaign(postgres, "spring", candidates=30)
    await valkey.hset(KEY, mapping={str(n): 10 * n for n in range(1, 31)})
    return "/campaigns/spring"


@contextlib.asynccontextmanager
async def looking(browser, console, path, before=None, **options):  # noqa: F811
    """A viewer's page; nothing on it may break the console's policy."""
    cookie = await console.begin_session(await console.add_staff("viewer"))
    async with watched(browser, **options) as seen:
        await seen.context.add_cookies(
            [{"name": "dianzan-console", "value": cookie, "url": console.url}]
        )
        if before:
            await seen.page.add_init_script(before)
        await seen.page.goto(console.url + path)
        yield seen
        assert seen.own_complaints() == []


def streams(console):  # noqa: F811
    showing = getattr(console.app.state, "showing", None)
    return showing.streams.total() if showing else 0


async def wait_for_streams(console, number):  # noqa: F811
    async def so_many():
        return streams(console) == number

    await wait_until_async(so_many, what=f"{number} streams")


def names(page):
    return page.locator("#candidates tbody tr:visible td.name a")


async def test_a_like_is_on_the_page_within_two_seconds_without_a_reload(
    browser,
    console,  # noqa: F811
    spring,
    valkey_url,
    postgres_dsn,
    tmp_path,
):
    async with (
        running_edge(tmp_path / "edge", valkey_url, postgres_dsn) as edge,
        looking(browser, console, spring) as seen,
    ):
        counted = seen.page.locator(".main-figure dd")
        await expect(counted).to_have_text("4,650")
        await seen.page.evaluate("window.sameDocument = true")
        await wait_for_streams(console, 1)
        token = await edge.token()
        assert (await edge.like(token))[0] == 201
        await expect(counted).to_have_text("4,651", timeout=2_000)
        assert await seen.page.evaluate("window.sameDocument") is True


async def test_without_event_source_the_page_asks_again_and_again(
    browser,
    console,  # noqa: F811
    spring,
    valkey,
):
    async with looking(browser, console, spring, "delete window.EventSource") as seen:
        await valkey.hincrby(KEY, "1", 7)
        await expect(seen.page.locator(".main-figure dd")).to_have_text("4,657", timeout=6_000)
        assert streams(console) == 0
        await valkey.hincrby(KEY, "1", 1)
        await expect(seen.page.locator(".main-figure dd")).to_have_text("4,658", timeout=6_000)


async def test_a_refused_stream_is_made_up_for_by_asking(
    browser,
    console,  # noqa: F811
    spring,
    valkey,
    monkeypatch,
):
    monkeypatch.setattr("tally.console.live.STREAMS_MAX", 0)
    async with looking(browser, console, spring) as seen:
        await valkey.hincrby(KEY, "1", 7)
        await expect(seen.page.locator(".main-figure dd")).to_have_text("4,657", timeout=8_000)


async def test_numbers_that_are_not_renewed_are_marked_as_old_until_they_are(
    browser,
    console,  # noqa: F811
    spring,
    valkey,
    monkeypatch,
):
    async def unreadable(valkey, campaign_id):
        raise JournalError("the tally has a field of nobody's")

    async with looking(browser, console, spring) as seen:
        live, word = seen.page.locator(".live"), seen.page.locator(".stale-word")
        await wait_for_streams(console, 1)
        await expect(word).to_be_hidden()
        with monkeypatch.context() as broken:
            broken.setattr(live_view, "read_hot_numbers", unreadable)
            await expect(live).to_have_class(re.compile("stale"), timeout=10_000)
            await expect(word).to_contain_text("此后没有更新")
        await valkey.hincrby(KEY, "1", 7)
        await expect(live).not_to_have_class(re.compile("stale"))
        await expect(seen.page.locator(".main-figure dd")).to_have_text("4,657")


async def test_a_page_that_nobody_sees_keeps_no_connection(
    browser,
    console,  # noqa: F811
    spring,
):
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with looking(browser, console, spring) as seen:
        await wait_for_streams(console, 1)
        await seen.page.evaluate(hide, True)
        await wait_for_streams(console, 0)
        await seen.page.evaluate(hide, False)
        await wait_for_streams(console, 1)


async def test_an_ended_session_leads_to_the_sign_in_page(
    browser,
    console,  # noqa: F811
    spring,
    postgres,
    monkeypatch,
):
    monkeypatch.setattr("tally.console.live.SESSION_ASKED_EVERY_SECONDS", 0.2)
    async with looking(browser, console, spring) as seen:
        await wait_for_streams(console, 1)
        await postgres.execute("DELETE FROM staff_sessions")
        await seen.page.wait_for_url("**/sign-in**")


async def test_search_and_filter_show_what_fits_at_once_and_after_a_reload(
    browser,
    console,  # noqa: F811
    spring,
    postgres,
):
    await postgres.execute("UPDATE candidates SET channel = '学会' WHERE number > 20")
    await postgres.execute("UPDATE catalog SET version = version + 1")
    async with looking(browser, console, f"{spring}/candidates") as seen:
        page = seen.page
        count = page.locator("[data-count]")
        await expect(count).to_have_text("30")
        await page.fill("input[name=q]", "候选人2")
        await expect(count).to_have_text("11")
        await page.select_option("select[name=channel]", "学会")
        await expect(count).to_have_text("9")
        await expect(names(page)).to_have_count(9)
        await page.reload()
        await expect(page.locator("input[name=q]")).to_have_value("候选人2")
        await expect(count).to_have_text("9")
        await page.fill("input[name=q]", "nobody")
        await expect(page.get_by_text("没有符合条件的候选人。")).to_be_visible()
        await page.fill("input[name=q]", "")
        await page.select_option("select[name=channel]", "")
        await expect(names(page)).to_have_count(30)
        await page.press("input[name=q]", "Enter")
        await expect(names(page)).to_have_count(30)


async def test_the_table_sorts_where_it_stands_and_stays_sorted_as_numbers_come(
    browser,
    console,  # noqa: F811
    spring,
    valkey,
):
    async with looking(browser, console, f"{spring}/candidates", width=1280) as seen:
        page = seen.page
        await wait_for_streams(console, 1)
        first = names(page).first
        await expect(first).to_have_text("候选人30")
        await page.evaluate("window.sameDocument = true")
        head = page.locator("th", has_text="计入")
        await head.locator("a").click()
        await expect(head).to_have_attribute("aria-sort", "descending")
        await head.locator("a").click()
        await expect(first).to_have_text("候选人1")
        await head.locator("a").click()
        await valkey.hincrby(KEY, "7", 10_000)
        await expect(first).to_have_text("候选人7", timeout=4_000)
        await expect(page.locator("#c7 td").nth(5)).to_have_text("10,070")
        await page.locator("th", has_text="姓名").locator("a").click()
        assert await page.evaluate("window.sameDocument") is True
        assert "sort=name" in page.url


async def test_pages_work_without_a_script(browser, console, spring):  # noqa: F811
    async with looking(browser, console, f"{spring}/candidates", java_script_enabled=False) as seen:
        page = seen.page
        await page.fill("input[name=q]", "候选人2")
        await page.get_by_role("button", name="显示").click()
        await expect(names(page)).to_have_count(11)
        await page.locator("th", has_text="计入").locator("a").click()
        await expect(names(page)).to_have_count(11)
        assert "q=" in page.url


async def test_a_form_says_first_what_it_will_do(browser, console, spring):  # noqa: F811
    """The script's own part of it; what is said comes with each page."""
    async with looking(browser, console, f"{spring}/candidates") as seen:
        page = seen.page
        await page.evaluate("""() => {
            document.querySelector("main").insertAdjacentHTML("beforeend", `
              <template id="moves"><p>12 票将被剔除</p></template>
              <form data-confirm="#moves" action="/campaigns"><button name="way" value="x">
              剔除</button></form>`);
        }""")
        button = page.locator("form[data-confirm] button")
        await button.click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("12 票将被剔除")
        await dialog.get_by_role("button", name="取消").click()
        await expect(dialog).to_have_count(0)
        assert "/candidates" in page.url
        await button.click()
        await dialog.get_by_role("button", name="剔除").click()
        await page.wait_for_url("**/campaigns?way=x")


async def test_the_hall_fits_one_screen_and_its_clock_goes(
    browser,
    console,  # noqa: F811
    spring,
):
    async with looking(browser, console, f"{spring}/hall", width=1920, height=1080) as seen:
        page = seen.page
        await expect(page.locator(".hall-bars li")).to_have_count(20)
        # In one go: the list is renewed each second.
        lowest = await page.evaluate("""Math.max(
            ...[...document.querySelectorAll(".hall-bars li, .as-of")]
                .map((shown) => shown.getBoundingClientRect().bottom))""")
        assert 900 < lowest <= 1080
        assert await page.evaluate("document.documentElement.scrollHeight") <= 1080
        await expect(page.locator(".top")).to_be_hidden()
        clock = page.locator(".hall-clock")
        await expect(clock).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
        before = await clock.text_content()
        await expect(clock).not_to_have_text(before, timeout=3_000)


@pytest.mark.parametrize("width", [390, 1280, 1920])
async def test_no_page_is_wider_than_its_screen(browser, console, spring, width):  # noqa: F811
    async with looking(browser, console, "/campaigns", width=width, height=900) as seen:
        for path in ("/campaigns", spring, f"{spring}/candidates", f"{spring}/candidates/c007",
                     f"{spring}/hall", "/parts"):  # fmt: skip
            await seen.page.goto(console.url + path)
            over = await seen.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert over <= 0, path
