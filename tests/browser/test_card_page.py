"""The card page in a real browser without JavaScript: alone, in a portal's frame, behind a portal's
form, and under a path of a portal's own; in every state, with axe-core.

Pictures go to build/screenshots/ as card-<state>-<width>-<scheme>-<language>.png.
"""

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium, watched
from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
CARD = "/embed/v1/card/spring/c001"
NO_SCRIPT = {"java_script_enabled": False}
SITE = "http://portal.localhost"


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@contextlib.asynccontextmanager
async def serving(handler):
    """A server on a free port of the loopback; its port."""
    runner = web.AppRunner(web.Application())
    runner.app.router.add_route("*", "/{path:.*}", handler)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def page_of(html):
    async def handle(_):
        return web.Response(
            text=f"<!doctype html><meta charset=utf-8>{html}", content_type="text/html"
        )

    return handle


@pytest.fixture
async def portals(tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge, the base of a portal that is listed, and what that portal's page is made from."""
    shown = {"html": ""}

    async def handle(request):
        return await page_of(shown["html"])(request)

    async with serving(handle) as port:
        portal = f"{SITE}:{port}"
        await add_campaign(postgres, "spring", origins=(portal,))
        async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
            yield edge, portal, shown


async def test_card_in_a_portals_frame_takes_a_like_and_knows_it_after_a_reload(browser, portals):
    edge, portal, shown = portals
    shown["html"] = f'<iframe src="{edge.url}{CARD}?theme=light" width="320" height="640"></iframe>'
    async with watched(browser, 390, 800, **NO_SCRIPT) as seen:
        await seen.page.goto(portal)
        card = seen.page.frame_locator("iframe")
        await card.get_by_role("button", name="点赞").click()
        await expect(card.get_by_role("status")).to_contain_text("点赞成功")
        await expect(card.locator(".like")).to_contain_text("今日已点赞")
        await seen.page.reload()
        await expect(card.locator(".like")).to_contain_text("今日已点赞")
        await expect(card.get_by_role("button")).to_have_count(0)
        [cookie] = await seen.context.cookies()
        assert cookie["path"] == "/embed/v1/card/spring"
        assert seen.complaints == []
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}


async def test_a_portals_plain_form_leads_to_the_card_that_says_what_became_of_it(browser, portals):
    edge, portal, shown = portals
    shown["html"] = (
        f'<form method="post" action="{edge.url}{CARD}?lang=en&amp;theme=dark">'
        "<button>Like</button></form>"
    )
    async with watched(browser, 390, 800, **NO_SCRIPT) as seen:
        for said in ("Your like is counted", "You have liked this candidate today already"):
            await seen.page.goto(portal)
            await seen.page.get_by_role("button").click()
            await expect(seen.page.get_by_role("status")).to_contain_text(said)
            assert re.search(
                r"c001\?said=\w+(&receipt=[\w-]{22})?&lang=en&theme=dark$", seen.page.url
            )
        assert await seen.page.locator("html").get_attribute("data-theme") == "dark"
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}


async def test_a_portal_that_is_not_listed_shows_no_card_and_hands_in_no_like(browser, portals):
    edge, _, _ = portals
    frame = f'<iframe src="{edge.url}{CARD}"></iframe>'
    form = f'<form method="post" action="{edge.url}{CARD}"><button>Like</button></form>'
    async with serving(page_of(frame + form)) as port, watched(browser, 390, 800) as seen:
        await seen.page.goto(f"http://stranger.localhost:{port}")
        await expect(seen.page.frame_locator("iframe").locator(".card")).to_have_count(0)
        assert any("frame-ancestors" in text for text in seen.complaints), seen.complaints
        async with seen.page.expect_response(re.compile("/card/spring/c001")) as answered:
            await seen.page.get_by_role("button").click()
        assert (await answered.value).status == 403
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {}


async def test_card_works_under_a_path_of_the_portals_own(browser, portals):
    """As a proxy does that takes its path away and rewrites the cookie's."""
    edge, _, _ = portals

    async def pass_on(request):
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("content-length", "transfer-encoding", "accept-encoding")
        }
        async with edge.http.request(
            request.method,
            edge.url + request.path_qs.removeprefix("/likes"),
            data=await request.read(),
            headers=headers,
            allow_redirects=False,
        ) as answer:
            passed = web.Response(status=answer.status, body=await answer.read())
            for name in ("Content-Type", "Location", "Content-Security-Policy", "Set-Cookie"):
                for value in answer.headers.getall(name, ()):
                    passed.headers.add(name, value.replace("Path=/", "Path=/likes/"))
            return passed

    async with serving(pass_on) as port, watched(browser, 390, 800, **NO_SCRIPT) as seen:
        base = f"http://127.0.0.1:{port}/likes"
        await seen.page.goto(f"{base}{CARD}?lang=en&theme=dark&color=0a7d4f")
        press = seen.page.get_by_role("button", name="Like")
        assert await press.evaluate("e => e.getBoundingClientRect().height") >= 44
        await press.click()
        await expect(seen.page.get_by_role("status")).to_contain_text("Your like is counted")
        path, _, asked = seen.page.url.partition("?")
        assert path == base + CARD
        assert re.fullmatch(
            r"said=counted&receipt=[\w-]{22}&lang=en&theme=dark&color=0a7d4f", asked
        )
        await seen.page.goto(f"{base}{CARD}")
        await expect(seen.page.locator(".like")).to_contain_text("今日已点赞")
        colours = "getComputedStyle(document.querySelector('.like')).backgroundColor"
        assert await seen.page.evaluate(colours) != "rgba(0, 0, 0, 0)", "the style sheets are there"
        links = await seen.page.locator(".more a").evaluate_all("all => all.map(a => a.href)")
        assert links == [
            f"{base}/campaigns/spring/candidates/c001",
            f"{base}/campaigns/spring/rules",
        ]
        assert seen.complaints == []


STATES = {
    "open": {},
    "hidden": {"rules": {"counts": "staff", "candidates_per_day": 2}},
    "later": {"opens_at": timedelta(days=2)},
    "paused": {"paused_because": "机房检修，约一小时"},
    "over": {"closes_at": timedelta(days=-1), "opens_at": timedelta(days=-9)},
    "spent": {"rules": {"likes_per_campaign": 1}},
    "gone": {},
}
SAYS = {
    "open": {"zh": "今日还可点赞 3 次", "en": "3 likes left today"},
    "hidden": {"zh": "今日还可点赞 2 次", "en": "2 likes left today"},
    "later": {"zh": "点赞尚未开始，", "en": "Not open yet: opens on "},
    "paused": {"zh": "点赞暂停中：机房检修，约一小时", "en": "Paused: 机房检修，约一小时"},
    "over": {"zh": "结束", "en": "Closed on "},
    "spent": {"zh": "点赞次数已用完", "en": "No likes left"},
    "gone": {"zh": "这位候选人已退出", "en": "has withdrawn"},
}


@pytest.fixture
async def in_every_state(tmp_path, valkey_url, postgres_dsn, postgres):
    now = datetime.now(UTC)
    for state, made in STATES.items():
        moments = {name: now + made[name] for name in ("opens_at", "closes_at") if name in made}
        await add_campaign(postgres, state, **(made | moments))
    await postgres.execute(
        "UPDATE candidates SET name = '张衡', organisation = '洛阳灵台', title = '太史令',"
        " summary = '两度出任太史令，以漏水推动浑天仪，使它与天象同步；造候风地动仪。'"
    )
    await postgres.execute(
        "UPDATE candidates SET withdrawn_at = now()"
        " WHERE campaign = (SELECT number FROM campaigns WHERE id = 'gone')"
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        yield edge


async def complaints_of_axe(seen):
    debugger = await seen.context.new_cdp_session(seen.page)
    # The page's policy lets no script in at all; the debugger does.
    await debugger.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
    found = await seen.page.evaluate("axe.run()")
    return [
        (one["id"], node["target"], node.get("failureSummary"))
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "lang", "width"),
    [("light", "zh", 390), ("dark", "en", 390), ("light", "en", 1280), ("dark", "zh", 240)],
)
async def test_card_says_its_state_fits_and_axe_finds_nothing(
    browser, in_every_state, scheme, lang, width
):
    edge = in_every_state
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with watched(browser, width, 760, color_scheme=scheme) as seen:
        await seen.page.goto(f"{edge.url}/embed/v1/card/spent/c002?lang={lang}")
        await seen.page.locator("button").click()
        await expect(seen.page.locator(".like")).to_have_class("like liked")
        for state, says in SAYS.items():
            # Asked for by theme where the reader's own is the other, and by the reader's own.
            theme = {"open": f"&theme={scheme}", "hidden": "&theme=auto&color=ffdd00"}.get(
                state, ""
            )
            await seen.page.goto(f"{edge.url}/embed/v1/card/{state}/c001?lang={lang}{theme}")
            await expect(seen.page.locator("main")).to_contain_text(says[lang])
            assert await seen.page.locator("html").get_attribute("lang") == {"zh": "zh-CN"}.get(
                lang, lang
            )
            assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                state
            )
            assert await seen.page.locator("button, .more a").evaluate_all(
                "all => all.every(one => one.getBoundingClientRect().height >= 44)"
            )
            await seen.page.screenshot(
                path=PICTURES / f"card-{state}-{width}-{scheme}-{lang}.png", full_page=True
            )
            if AXE.exists():
                assert await complaints_of_axe(seen) == [], state
            assert seen.own_complaints() == []


async def test_card_prints_dark_on_white_and_without_what_is_for_fingers(browser, in_every_state):
    async with watched(browser, 390, 760, color_scheme="dark") as seen:
        await seen.page.goto(f"{in_every_state.url}/embed/v1/card/open/c001?theme=dark")
        await seen.page.emulate_media(media="print")
        await expect(seen.page.locator(".more")).to_be_hidden()
        assert (
            await seen.page.evaluate("getComputedStyle(document.querySelector('.like')).color")
            == "rgb(0, 0, 0)"
        )
        card = await seen.page.evaluate(
            "getComputedStyle(document.querySelector('.card')).backgroundColor"
        )
        assert card == "rgb(255, 255, 255)"
