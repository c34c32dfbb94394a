"""The like card at work on a challenge, in a real browser: in a worker, beside the page, and on a
phone without power."""

import base64
import contextlib
import json
import os
import re

import pytest
from aiohttp import web
from playwright.async_api import expect

from antifraud import challenge
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.browser.stand_in import POLICY, StandIn
from tests.browser.test_widget import LIKED, READY, Card, portal, serving, serving_app
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

WORKING = "正在验证，请稍候…"
HOPELESS_BITS = 31
"""Nobody solves these while a test runs."""

NOTE_WORKERS = """
globalThis.workers = [];
const Real = globalThis.Worker;
globalThis.Worker = class extends Real {
  constructor(url) { super(url); workers.push(String(url).slice(0, 5)); }
};
"""
NO_WORKERS = "delete globalThis.Worker;"


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


def challenging(bits=16):
    server = StandIn()
    server.challenge_bits = bits
    return server


async def test_new_device_solves_its_challenge_and_then_likes(browser):
    server = challenging()
    async with portal(browser, server, before=NOTE_WORKERS) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.proof_gate.clear()
        await card.button.click()
        await card.shows(LIKED, 1)
        await expect(card.note).to_have_text(WORKING)
        await expect(card.said).to_have_text(WORKING)
        await expect(card.button).to_have_attribute("aria-busy", "true")
        await expect(card.host.locator(".card")).to_have_attribute("data-state", "working")
        assert server.asked_for("/likes") == [], "not before it may"
        server.proof_gate.set()
        await expect(card.said).to_contain_text("点赞成功")
        await card.shows(LIKED, 1)
        await expect(card.note).to_be_hidden()
        [like] = server.asked_for("/likes")
        assert like["token"] == "token-1-proven"
        assert server.counts["zhang-heng"] == 1
        assert await seen.page.evaluate("workers") == ["http:"], "its own file: no blob is needed"
        assert seen.complaints == []
        # It is the same device when it comes again, and has nothing to solve.
        await seen.page.reload()
        await Card(seen.page, "zu-chongzhi").button.click()
        await Card(seen.page, "zu-chongzhi").shows(LIKED, 1)
        assert len(server.asked_for("/devices")) == len(server.asked_for("/devices/proof")) == 1


async def test_like_that_is_challenged_is_sent_again_with_the_same_click(browser):
    async with portal(browser) as (server, seen):
        card, other = Card(seen.page), Card(seen.page, "zu-chongzhi")
        await card.is_ready()
        await card.button.click()
        await card.shows(LIKED, 1)
        server.unproven.add("token-1")
        await other.button.click()
        await expect(other.said).to_contain_text("点赞成功")
        await other.shows(LIKED, 1)
        _, refused, counted = server.asked_for("/likes")
        assert refused["click"] == counted["click"]
        assert (refused["token"], counted["token"]) == ("token-1", "token-1-proven")
        assert len(server.asked_for("/devices/proof")) == 1
        assert seen.own_complaints() == []


async def test_cards_tapped_together_share_one_piece_of_work(browser):
    server = challenging()
    async with portal(browser, server) as (server, seen):
        cards = [Card(seen.page, id_) for id_ in ("zhang-heng", "zu-chongzhi", "shen-kuo")]
        await cards[0].is_ready()
        server.proof_gate.clear()
        for card in cards:
            await card.button.click()
        for card in cards:
            await card.host.scroll_into_view_if_needed()
            await expect(card.note).to_have_text(WORKING)
        server.proof_gate.set()
        for card in cards:
            await card.host.scroll_into_view_if_needed()
            await expect(card.said).to_contain_text("点赞成功")
        assert len(server.asked_for("/devices")) == len(server.asked_for("/devices/proof")) == 1
        assert len(server.asked_for("/likes")) == 3


async def test_what_is_handed_in_is_the_schemes_payload(browser):
    server = challenging(12)
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        await Card(seen.page).button.click()
        await expect(Card(seen.page).said).to_contain_text("点赞成功")
        [proof] = server.asked_for("/devices/proof")
        payload = json.loads(base64.b64decode(proof["solution"]))
        assert set(payload) == {"challenge", "solution"}
        assert set(payload["challenge"]) == {"parameters", "signature"}
        assert set(payload["solution"]) >= {"counter", "derivedKey"}
        assert not proof["slow"]


async def test_solution_that_came_to_nothing_is_followed_by_another(browser):
    server = challenging(12)
    server.next_proofs = ["challenge", "challenge"]
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        await Card(seen.page).button.click()
        await expect(Card(seen.page).said).to_contain_text("点赞成功")
        assert len(server.asked_for("/devices/proof")) == 3
        assert len({proof["solution"] for proof in server.asked_for("/devices/proof")}) == 3


async def test_solution_that_is_refused_ends_with_a_fresh_challenge_from_the_like(browser):
    """The network changed on the way: the like asks for what is needed now."""
    server = challenging(12)
    server.next_proofs = ["refused"]
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        await Card(seen.page).button.click()
        await expect(Card(seen.page).said).to_contain_text("点赞成功")
        first, second = server.asked_for("/likes")
        assert first["click"] == second["click"]
        assert server.counts["zhang-heng"] == 1


async def test_solution_for_which_there_is_no_room_is_sent_again_and_not_made_anew(browser):
    server = challenging(12)
    server.next_proofs = ["overloaded", "store-down", "throttled"]
    server.retry_after = 1
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        await Card(seen.page).button.click()
        await expect(Card(seen.page).said).to_contain_text("点赞成功")
        first, *again = server.asked_for("/devices/proof")
        assert again == [first] * 3


async def test_solution_for_which_there_will_be_no_room_in_time_is_given_up(browser):
    """A challenge is valid for two minutes."""
    server = challenging(12)
    server.next_proofs = ["overloaded"]
    server.retry_after = 115
    async with portal(browser, server) as (server, seen):
        await Card(seen.page).is_ready()
        await Card(seen.page).button.click()
        await expect(Card(seen.page).said).to_contain_text("点赞成功")
        first, second = server.asked_for("/devices/proof")
        assert first["solution"] != second["solution"]


async def test_better_token_of_another_tab_is_not_overwritten_by_one_that_came_to_nothing(browser):
    server = challenging(12)
    server.next_proofs = ["refused"]
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        server.proof_gate.clear()
        await card.button.click()
        await wait_until_async(lambda: _is(len(server.asked_for("/devices/proof")) == 1))
        server.liked["from-the-other-tab"] = server.liked["token-1"]
        await seen.page.evaluate(
            """() => {
              const all = JSON.parse(localStorage.dianzan);
              for (const key of Object.keys(all)) all[key] = 'from-the-other-tab';
              localStorage.dianzan = JSON.stringify(all);
            }"""
        )
        server.proof_gate.set()
        await expect(card.said).to_contain_text("点赞成功")
        assert [like["token"] for like in server.asked_for("/likes")] == ["from-the-other-tab"]
        assert len(server.asked_for("/devices")) == 1


async def test_service_that_takes_no_solution_is_not_asked_for_ever(browser):
    server = challenging(8)
    server.next_proofs = ["refused"] * 50
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_contain_text("验证未完成")
        await card.shows(READY, 0)
        assert len(server.asked_for("/devices/proof")) <= 4
        assert len(server.asked_for("/likes")) <= 3


async def test_without_workers_the_page_solves_it_in_slices_and_stays_alive(browser):
    server = challenging(19)
    watch = """
    globalThis.longest = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) longest = Math.max(longest, entry.duration);
    }).observe({ type: 'longtask', buffered: false });"""
    async with portal(browser, server, before=NO_WORKERS) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.page.evaluate(watch)
        begun = await seen.page.evaluate("performance.now()")
        await card.button.click()
        await expect(card.said).to_contain_text("点赞成功")
        assert server.counts["zhang-heng"] == 1
        took = await seen.page.evaluate("performance.now()") - begun
        # In one piece it would be nearly all of it, on any machine.
        assert await seen.page.evaluate("longest") < max(200, took / 2)
        assert seen.complaints == []


@contextlib.asynccontextmanager
async def strict_portal(browser, server, policy, before=""):
    """(its origin, watched page): a page of another origin whose policy is this; {home} is where
    the service is."""
    async with serving(server) as home, watched(browser) as seen:
        await seen.page.add_init_script(before)

        async def page(_):
            return web.Response(
                text=f'<meta charset="utf-8"><script src="{home}embed/v1/like.js"></script>'
                '<like-card campaign="demo" candidate="zhang-heng"></like-card>',
                content_type="text/html",
                headers={"Content-Security-Policy": policy.replace("{home}", home)},
            )

        app = web.Application()
        app.router.add_get("/", page)
        async with serving_app(app) as url:
            server.portals.add(url.rstrip("/"))
            await seen.page.goto(url)
            yield seen


STRICT = (
    "default-src 'none'; script-src {home}; style-src {home}; img-src {home}; connect-src {home}"
)


@pytest.mark.parametrize(
    ("more", "allowed"), [("; worker-src blob:", True), ("", False)], ids=["blob", "no worker"]
)
async def test_portal_of_another_origin_gets_a_worker_out_of_a_blob_if_its_policy_allows(
    browser, more, allowed
):
    server = challenging()
    async with strict_portal(browser, server, STRICT + more, NOTE_WORKERS) as seen:
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.said).to_contain_text("点赞成功")
        assert server.counts["zhang-heng"] == 1
        assert await seen.page.evaluate("workers") == ["blob:"]
        refused = [text for text in seen.own_complaints() if "worker" in text.lower()]
        assert seen.own_complaints() == refused, "nothing but the browser's own word on the policy"
        assert (refused == []) is allowed


async def test_what_solves_comes_only_with_the_first_challenge_and_is_pinned(browser):
    async with portal(browser) as (server, seen):
        await Card(seen.page).is_ready()
        names = await seen.page.evaluate("Object.keys(window)")
        await Card(seen.page).button.click()
        await Card(seen.page).shows(LIKED, 1)
        assert await seen.page.locator("script[src*=like-work]").count() == 0
        server.unproven.add("token-1")
        await Card(seen.page, "zu-chongzhi").button.click()
        await expect(Card(seen.page, "zu-chongzhi").said).to_contain_text("点赞成功")
        script = seen.page.locator("script[src*=like-work]")
        assert (await script.get_attribute("integrity")).startswith("sha256-")
        assert await seen.page.evaluate("Object.keys(window)") == names, "nothing global"


async def test_solver_that_does_not_come_leaves_the_tap_for_later(browser):
    server = challenging(12)
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.page.route(re.compile("like-work"), lambda route: route.abort())
        await card.button.click()
        await expect(card.note).to_have_text("网络不通，稍后自动重试")
        await card.shows(READY, 0)
        await seen.page.unroute_all()
        await seen.page.clock.run_for(5_000)
        await expect(card.said).to_contain_text("点赞成功")
        assert server.counts["zhang-heng"] == 1


async def test_phone_that_needs_too_long_takes_the_slow_way(browser):
    server = challenging(HOPELESS_BITS)
    async with portal(browser, server) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_have_text(WORKING)
        await seen.page.clock.run_for(7_000)
        assert server.asked_for("/devices/proof") == []
        await seen.page.clock.run_for(1_500)
        await expect(card.note).to_have_text(re.compile("正在验证，(约需|还需) [0-9]+ 秒"))
        await expect(card.said).to_have_text(re.compile("正在验证，约需 10 秒|请稍候"))
        assert server.asked_for("/likes") == []
        [asked] = server.asked_for("/devices/proof")
        assert asked == {"campaign": "demo", "token": "token-1", "slow": True}
        said = await card.said.inner_text()
        await expect(card.note).to_have_text(re.compile("还需 [0-9]+ 秒"))
        assert await card.said.inner_text() == said, "a count-down is not read out"

        async def handed_in():
            await seen.page.clock.run_for(1_000)
            return len(server.asked_for("/devices/proof")) == 2

        await wait_until_async(handed_in, seconds=15)
        await expect(card.said).to_contain_text("点赞成功")
        assert server.asked_for("/devices/proof")[1]["slow"] is True
        assert server.counts["zhang-heng"] == 1


async def test_phone_that_says_it_is_weak_does_not_try_for_long(browser):
    weak = "Object.defineProperty(navigator, 'deviceMemory', { value: 0.5 });"
    async with portal(browser, challenging(HOPELESS_BITS), before=weak) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_have_text(WORKING)
        await seen.page.clock.run_for(3_500)
        await wait_until_async(lambda: _is(len(server.asked_for("/devices/proof")) == 1))


async def _is(value):
    return value


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", "turn"), ("reduce", "none")])
async def test_work_is_shown_moving_only_to_those_who_want_motion(browser, motion, moves):
    server = challenging()
    server.proof_gate.clear()
    async with portal(browser, server, width=360, height=740, reduced_motion=motion) as (_, seen):
        card = Card(seen.page)
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_be_visible()
        name = await card.note.evaluate(
            "(note) => getComputedStyle(note, '::before').animationName"
        )
        assert name == moves
        if folder := os.environ.get("DIANZAN_SCREENSHOTS"):
            await card.host.scroll_into_view_if_needed()
            await seen.page.screenshot(path=f"{folder}/working-{motion}.png")
        server.proof_gate.set()
        await expect(card.said).to_contain_text("点赞成功")


async def test_like_says_how_long_the_card_was_seen(browser):
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        await seen.page.clock.run_for(3_000)
        await card.button.click()
        await card.shows(LIKED, 1)
        [like] = server.asked_for("/likes")
        assert like["view"] == "view-1"
        assert 3_000 <= like["dwell_ms"] < 20_000


async def test_like_carries_the_last_view_but_one_and_none_after_a_refusal(browser):
    """Of a key in use, and not so new that it cuts the time for which the card was seen."""
    async with portal(browser) as (server, seen):
        card = Card(seen.page)
        await card.is_ready()
        for views in (2, 3):
            server.view = f"view-{views}"

            async def read(views=views):
                await seen.page.clock.run_for(5_000)
                return server.views_given[-1] == f"view-{views}"

            await wait_until_async(read)
        given = server.views_given
        server.next_outcomes = ["refused"]
        await card.button.click()
        await expect(card.note).to_contain_text("未被接受")
        await card.button.click()
        await card.shows(LIKED, 1)
        await expect(card.said).to_contain_text("点赞成功")
        first, second = server.asked_for("/likes")
        assert first["view"] == given[-2]
        assert "view" not in second


async def test_real_edge_counts_the_like_of_a_card_that_worked_for_it(
    browser, tmp_path, valkey_url, postgres_dsn, postgres
):
    """The whole way on another origin's page: level 0, work, proof, vote."""
    edges = []

    async def page(_):
        return web.Response(
            text=f'<meta charset="utf-8"><script src="{edges[0].url}/embed/v1/like.js"></script>'
            '<like-card campaign="spring" candidate="c001"></like-card>',
            content_type="text/html",
        )

    app = web.Application()
    app.router.add_get("/", page)
    async with serving_app(app) as url, contextlib.AsyncExitStack() as stack:
        await add_campaign(postgres, "spring", origins=(url.rstrip("/"),))
        edge = await stack.enter_async_context(
            running_edge(tmp_path, valkey_url, postgres_dsn, challenge="always")
        )
        edges.append(edge)
        await edge.wait_for_campaign("spring")
        seen = await stack.enter_async_context(watched(browser))
        await seen.page.goto(url)
        card = Card(seen.page, "c001")
        await card.is_ready()
        await card.button.click()
        await expect(card.note).to_have_text(WORKING)
        await expect(card.said).to_contain_text("点赞成功")
        assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}
        assert seen.own_complaints() == []


async def test_real_card_page_lets_who_has_no_javascript_wait_and_press_again(
    browser, tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch
):
    monkeypatch.setattr(challenge, "SLOW_WAIT_SECONDS", 2)
    await add_campaign(postgres, "spring")
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn, challenge="always") as edge,
        watched(browser, 375, 812, java_script_enabled=False) as seen,
    ):
        await seen.page.goto(f"{edge.url}/embed/v1/card/spring/c001")
        press = seen.page.get_by_role("button", name="点赞")
        await press.click()
        said = seen.page.get_by_role("status")
        await expect(said).to_have_text(re.compile("请等待 [12] 秒，然后再按一次“点赞”"))
        if folder := os.environ.get("DIANZAN_SCREENSHOTS"):
            await seen.page.screenshot(path=f"{folder}/card-waiting.png", full_page=True)
        await press.click()
        await expect(said).to_have_text(re.compile("再按一次"))

        async def counted():
            # An impatient visitor presses all the time: the wait does not begin anew.
            await press.click()
            return "点赞成功" in await said.inner_text()

        await wait_until_async(counted)
        await expect(seen.page.locator(".like")).to_contain_text("今日已点赞")
        assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}
        assert seen.complaints == []


assert "worker" not in POLICY  # the demo page allows no blob, and needs none
