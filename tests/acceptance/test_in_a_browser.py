"""The demo page and the card page of the real service, in a real browser."""

import json
import re

import pytest
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium, watched

pytestmark = needs_chromium
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


def hot_likes(service, candidate):
    told = service.dianzan("tally", "--campaign", "demo", "--json", "--hot")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)["counts"][candidate]


async def number_in(locator):
    await expect(locator).to_have_text(re.compile(r"^[\d,]+$"))
    return int((await locator.inner_text()).replace(",", ""))


@pytest.mark.parametrize(("width", "height"), [(375, 812), (1280, 900)])
async def test_like_on_the_demo_page_counts_and_is_known_after_a_reload(
    service, browser, width, height
):
    candidate = "zhang-heng" if width < 700 else "huang-daopo"
    async with watched(browser, width, height) as seen:
        await seen.page.goto(service.ready["edge"])
        card = seen.page.locator(f"like-card[candidate={candidate}]")
        button, count = card.locator("button"), card.locator(".count")
        await card.scroll_into_view_if_needed()  # a card begins when it is near
        before = await number_in(count)
        await expect(button).to_have_attribute("aria-pressed", "false")
        await button.click()
        await expect(button).to_contain_text("已点赞")
        await expect(card.get_by_role("status")).to_contain_text("点赞成功")
        await expect(count).to_have_text(str(before + 1))
        assert hot_likes(service, candidate) == before + 1
        await seen.page.reload()
        await card.scroll_into_view_if_needed()
        await expect(button).to_contain_text("今日已点赞")
        await expect(button).to_have_attribute("aria-pressed", "true")
        await expect(count).to_have_text(str(before + 1))
        picture = card.locator(".photo img")
        await picture.scroll_into_view_if_needed()
        await expect(picture).to_have_js_property("complete", True)
        assert await picture.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [
            480,
            600,
        ]
        assert seen.complaints == []


async def test_card_page_takes_a_like_without_javascript(service, browser):
    async with watched(browser, 375, 812, java_script_enabled=False) as seen:
        address = f"{service.ready['edge']}/embed/v1/card/demo/li-shizhen"
        await seen.page.goto(address)
        before = await number_in(seen.page.locator(".count"))
        await seen.page.get_by_role("button", name="点赞").click()
        await expect(seen.page.get_by_role("status")).to_contain_text("点赞成功")
        await expect(seen.page.locator(".like")).to_contain_text("今日已点赞")
        assert hot_likes(service, "li-shizhen") == before + 1
        await seen.page.goto(address)
        await expect(seen.page.locator(".like")).to_contain_text("今日已点赞")
        await expect(seen.page.get_by_role("button")).to_have_count(0)
        [cookie] = await seen.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["secure"]
        assert seen.complaints == []
