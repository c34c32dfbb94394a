"""/embed/ in a real browser: choosing, copying, and what was copied at work on a page of another
origin; then every page that stands beside it, with axe-core.

Pictures go to build/screenshots/ as <page>-<width>-<scheme>.png.
"""

import re
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.browser.axe import faults, needs_axe
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from tests.integration.test_embed_page import HOSTILE, Texts, changed
from voting.intake.demo import import_demo

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
ROUTES = ("card", "button", "wall", "iframe", "form", "image")


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


class Portal:
    """A site on another origin, which has one page: what was pasted into it."""

    def __init__(self):
        self.url = ""
        self.pasted = ""
        self.policy = ""

    async def page(self, _):
        text = f"<!doctype html><html lang=zh><title>新闻</title><main>{self.pasted}</main></html>"
        return web.Response(
            text=text,
            content_type="text/html",
            headers={"Content-Security-Policy": f"default-src 'none'; {self.policy}"},
        )

    async def paste(self, edge, route, query=""):
        """What /embed/ shows for this route, and no more allowed than what it says is needed."""
        async with edge.http.get(f"{edge.url}/embed/?route={route}{query}") as answer:
            texts = Texts(await answer.text()).texts
        self.pasted, self.policy = texts[f"html-{route}"], texts[f"policy-{route}"]


@pytest.fixture
async def portal():
    portal = Portal()
    app = web.Application()
    app.add_routes([web.get("/", portal.page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        # Another host and not only another port: to a browser that is another site.
        portal.url = f"http://localhost:{runner.addresses[0][1]}"
        yield portal
    finally:
        await runner.cleanup()


@pytest.fixture
async def edge(tmp_path, valkey_url, postgres_dsn, postgres, portal):
    """With a campaign that lists the portal, and likes without a wait."""
    await add_campaign(postgres, "spring", candidates=6, rules={}, origins=(portal.url,))
    async with running_edge(tmp_path, valkey_url, postgres_dsn, challenge="off") as running:
        yield running


@pytest.fixture
async def demo(tmp_path, valkey_url, postgres_dsn, postgres):
    await import_demo(postgres_dsn)
    async with running_edge(tmp_path, valkey_url, postgres_dsn, challenge="off") as running:
        yield running


async def test_choosing_changes_lines_preview_and_address(edge, browser):
    async with watched(browser, 1280, 900) as seen:
        page = seen.page
        await page.goto(f"{edge.url}/embed/")
        line, preview = page.locator("#html-card"), page.locator(".preview like-card")
        await expect(line).to_contain_text('candidate="c001"')
        await expect(page.locator(".route")).to_have_count(1)
        await expect(preview.locator("button")).to_be_visible()
        await page.get_by_label("查找候选人").fill("候选人2")
        await expect(page.locator("#candidate option")).to_have_count(1)
        await expect(line).to_contain_text('candidate="c002"')
        await page.get_by_label("明暗").select_option("深色")
        await expect(line).to_contain_text('theme="dark"')
        await page.get_by_label("颜色").fill("#0a5c36")
        await expect(page.locator("#css-card")).to_contain_text("--like-color: ")
        # The preview has the very rules that are shown.
        shown = re.search(
            "--like-color: (#[0-9a-f]{6})", await page.locator("#css-card").inner_text()
        )
        await expect(preview).to_have_css("--like-color", shown[1])
        await page.get_by_label("版本").select_option("newest")
        await expect(line).not_to_contain_text("integrity")
        await expect(preview).to_have_attribute("candidate", "c002")
        chosen = await line.inner_text()
        await page.get_by_label("查找候选人").fill("没有这个人")
        await expect(page.locator("#found")).to_have_text("没有找到")
        await expect(line).to_have_text(chosen)
        # The address is the choice: it can be sent to a colleague, or opened without a script.
        await page.reload()
        await expect(line).to_have_text(chosen)
        for way, route in (("iframe", "iframe"), ("表单", "form"), ("图片", "image")):
            await page.get_by_label(way, exact=True).check()
            await expect(page.locator(f"#html-{route}")).to_be_visible()
        await page.get_by_label("全部", exact=True).check()
        await expect(page.locator(".route")).to_have_count(len(ROUTES))
        assert seen.complaints == []


async def test_what_is_copied_is_what_is_shown(edge, browser):
    async with watched(browser, 1280, 900) as seen:
        page = seen.page
        await seen.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.goto(f"{edge.url}/embed/?route=button")
        await page.get_by_role("button", name="复制代码").first.click()
        await expect(page.locator("#state")).to_have_text("已复制到剪贴板")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == await page.locator("#html-button").inner_text()
        await expect(page.get_by_role("button", name="已复制")).to_be_visible()
        assert seen.complaints == []


async def test_where_there_is_no_clipboard_the_lines_are_selected(edge, browser):
    async with watched(browser, 1280, 900) as seen:
        page = seen.page
        await page.add_init_script(
            "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
        )
        await page.goto(f"{edge.url}/embed/?route=form")
        await page.get_by_role("button", name="复制代码").first.click()
        await expect(page.locator("#state")).to_contain_text("已")
        selected = await page.evaluate("getSelection().toString()")
        assert selected == await page.locator("#html-form").inner_text()


async def test_an_origin_is_looked_up_on_the_page(edge, browser, portal):
    async with watched(browser, 390, 844) as seen:
        page = seen.page
        await page.goto(f"{edge.url}/embed/?route=image")
        for typed, said in ((f"{portal.url}/news", "已登记"), ("example.cn", "没有登记")):
            await page.get_by_label("您的页面地址").fill(typed)
            await page.get_by_role("button", name="查一查").click()
            await expect(page.locator("#origin-said")).to_contain_text(said)
        assert seen.complaints == []


async def test_choosing_works_without_a_script(edge, browser):
    async with watched(browser, 390, 844, java_script_enabled=False) as seen:
        page = seen.page
        await page.goto(f"{edge.url}/embed/")
        await expect(page.locator(".route")).to_have_count(len(ROUTES))
        await page.get_by_label("候选人", exact=True).select_option("c003")
        await page.get_by_label("iframe", exact=True).check()
        await page.get_by_role("button", name="显示代码").click()
        await expect(page.locator("#html-iframe")).to_contain_text("/card/spring/c003?")
        await expect(page.locator(".route")).to_have_count(1)
        await expect(page.frame_locator(".preview iframe").get_by_role("button")).to_be_visible()
        await page.get_by_label("您的页面地址").fill("https://elsewhere.example")
        await page.get_by_role("button", name="查一查").click()
        await expect(page.locator("#origin-said")).to_contain_text("没有登记")
        await expect(page.locator("#html-iframe")).to_contain_text("/card/spring/c003?")


async def test_the_copied_lines_take_a_like_on_a_page_with_a_strict_policy(edge, browser, portal):
    """Each way, from /embed/ to the count, with no more allowed than /embed/ says is needed."""
    for number, route in enumerate(ROUTES, 1):
        await portal.paste(edge, route, f"&candidate=c00{number}&theme=light&color=%230a5c36")
        async with watched(browser, 1280, 900) as seen:
            page, name = seen.page, f"候选人{number}"
            await page.goto(portal.url)
            if route == "image":
                image = page.get_by_role("img", name=f"{name}的点赞数")
                await expect(image).to_be_visible()
                assert await image.evaluate("(image) => image.naturalWidth") > 20
                await image.click()
            place = {
                "card": page.locator("like-card"),
                "button": page.locator("like-button"),
                "wall": page.locator("like-wall").get_by_role("listitem").filter(has_text=name),
                "iframe": page.frame_locator("iframe"),
                "form": page,
                "image": page,
            }[route]
            await place.get_by_role("button", name=re.compile("点赞")).first.click()
            await edge.wait_for_counts("spring", {f"c00{number}": 1})
            if route in ("form", "image"):
                await expect(page.get_by_role("status")).to_contain_text("点赞成功")
            assert seen.complaints == [], route


async def test_without_a_script_the_copied_lines_lead_to_a_like(edge, browser, portal):
    for number, route in enumerate(ROUTES, 1):
        await portal.paste(edge, route, f"&candidate=c00{number}")
        async with watched(browser, 390, 844, java_script_enabled=False) as seen:
            page = seen.page
            await page.goto(portal.url)
            if route == "wall":
                await page.get_by_role("link").click()  # to the campaign's own page
                await expect(page.get_by_text(f"候选人{number}").first).to_be_visible()
                continue
            place = page.frame_locator("iframe") if route == "iframe" else page
            if route not in ("iframe", "form"):
                await page.get_by_role("link").click()
            await place.get_by_role("button", name=re.compile("点赞")).click()
            await edge.wait_for_counts("spring", {f"c00{number}": 1})


async def test_lines_on_a_page_that_is_not_listed_take_no_like(edge, browser, portal, postgres):
    await portal.paste(edge, "card", "&candidate=c002")
    await changed(edge, postgres, "UPDATE campaigns SET origins = '{https://other.example.cn}'")
    async with watched(browser, 1280, 900) as seen:
        await seen.page.goto(portal.url)
        await seen.page.locator("like-card").get_by_role("button").click()
        await expect(seen.page.locator("like-card").get_by_role("status")).not_to_be_empty()
        async with edge.http.get(f"{edge.url}/v1/campaigns/spring/counts") as answer:
            assert (await answer.json())["counts"]["c002"] == 0


async def test_hostile_names_are_text_here_and_where_they_are_pasted(
    edge, browser, portal, postgres
):
    await changed(edge, postgres, "UPDATE candidates SET name = $1, organisation = $1", HOSTILE)
    async with watched(browser, 1280, 900) as seen:
        page = seen.page
        page.on("dialog", lambda dialog: seen.complaints.append(f"dialog {dialog.message}"))
        await page.goto(f"{edge.url}/embed/?route=card")
        await expect(page.locator("#html-card")).to_contain_text("&lt;script&gt;")
        await expect(page.locator(".preview")).to_contain_text(HOSTILE)
        await page.get_by_label("全部", exact=True).check()
        await expect(page.locator(".route")).to_have_count(len(ROUTES))
        for route in ROUTES:
            await portal.paste(edge, route)
            await page.goto(portal.url)
            if route in ("card", "form"):
                await expect(page.locator("main")).to_contain_text(HOSTILE)
            elif route == "image":
                await expect(page.get_by_role("img")).to_have_attribute("alt", f"{HOSTILE}的点赞数")
        assert await page.evaluate("document.querySelectorAll('main script').length") <= 1
        assert seen.complaints == []


async def test_the_demo_portal_shows_every_way_and_leads_to_every_public_page(demo, browser):
    async with watched(browser, 1280, 900) as seen:
        page = seen.page
        await page.goto(demo.url)
        await expect(page.locator("like-card")).to_have_count(12)
        for tag in ("like-button", "iframe", "form"):
            place = page.locator(tag) if tag != "iframe" else page.frame_locator(tag)
            button = place.get_by_role("button", name=re.compile("点赞"))
            await page.locator(tag).scroll_into_view_if_needed()
            await expect(button).to_be_visible()
        image = page.locator(".figure img")
        assert await image.evaluate("(image) => image.naturalWidth") > 20
        addresses = await page.evaluate(
            "[...document.querySelectorAll('a[href]')].map((a) => a.href.split('#')[0])"
        )
        ours = sorted({each for each in addresses if each.startswith(demo.url)})
        for path in ("", "/ranking", "/rules", "/notice", "/privacy"):
            assert f"{demo.url}/campaigns/demo{path}" in ours
        for path in ("receipt", "embed/"):
            assert f"{demo.url}/{path}" in ours
        assert any("/campaigns/demo/candidates/" in each for each in ours)
        for address in ours:
            async with demo.http.get(address, headers={"Accept": "text/html"}) as answer:
                assert answer.status == 200, address
        assert seen.complaints == []
    async with watched(browser, 390, 844, java_script_enabled=False) as seen:
        page = seen.page
        await page.goto(demo.url)
        assert await page.locator("like-card > a").count() == 12
        await page.locator("form button").click()
        await expect(page.get_by_role("status")).to_contain_text("点赞成功")


PAGES = {
    "portal": "/",
    "embed": "/embed/",
    "embed-wall": "/embed/?route=wall&origin=www.example.cn",
    "receipt": "/receipt?receipt=nonsense",
    "error": "/campaigns/demo/nothing-here",
}


async def test_pages_fit_phones_and_screens(demo, browser):
    for width, height in ((390, 844), (1280, 900)):
        async with watched(browser, width, height) as seen:
            for name, path in PAGES.items():
                await look_at(seen.page, name, demo.url + path)
                sideways = await seen.page.evaluate("document.documentElement.scrollWidth")
                assert sideways <= width, (name, width)
            assert seen.own_complaints() == []


@pytest.mark.slow
async def test_pictures_of_the_pages_in_light_and_dark(demo, browser):
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width, height in ((390, 844), (1280, 900)):
        async with watched(browser, width, height) as seen:
            page = seen.page
            for name, path in PAGES.items():
                await look_at(page, name, demo.url + path)
                for card in await page.locator("like-card").all():  # they begin where they are near
                    await card.scroll_into_view_if_needed()
                for scheme in ("light", "dark"):
                    await page.emulate_media(color_scheme=scheme)
                    picture = PICTURES / f"{name}-{width}-{scheme}.png"
                    await page.screenshot(path=picture, full_page=True)


@needs_axe
async def test_axe_finds_nothing(demo, browser):
    async with watched(browser, 390, 844, reduced_motion="reduce") as seen:
        for name, path in PAGES.items():
            await look_at(seen.page, name, demo.url + path)
            for scheme in ("light", "dark"):
                await seen.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                assert await faults(seen.page) == [], (name, scheme)


async def look_at(page, name, address):
    """A page whose first card, if it has one, is there."""
    await page.goto(address)
    if name.startswith("embed"):
        await expect(page.locator(".copy").first).to_be_visible()
    if name in ("portal", "embed"):
        await page.locator("like-card").first.scroll_into_view_if_needed()
        await expect(page.locator("like-card .count").first).to_have_text("0")
        await page.evaluate("scrollTo(0, 0)")
