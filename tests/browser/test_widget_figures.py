"""What the widget costs a slow phone: main-thread time on a processor slowed down four times.

`make figures` runs it."""

import pytest
from playwright.async_api import expect

from tests.browser.chromium import chromium, needs_chromium, watched
from tests.browser.stand_in import StandIn
from tests.browser.test_widget import Card, serving
from tests.browser.test_widget_pages import thousands

pytestmark = [needs_chromium, pytest.mark.figures]

SLOWED = 4
ROUNDS_MAX = 15
FIRST_CARD_MS = 200

_READY = """
() => new Promise((done) => {
  const script = document.createElement('script');
  script.src = 'embed/v1/like.js';
  document.head.append(script);
  const first = document.querySelector('like-card');
  const look = () => {
    const root = first.shadowRoot;
    if (root && root.querySelector('article:not([hidden]) [aria-disabled=false]')) done();
    else setTimeout(look, 16);
  };
  look();
})
"""


async def busy_ms(browser, server, enough=0.0):
    """Main-thread time from the script's tag to the first card that takes a tap: the least of some
    rounds, for neighbours on this machine can only make it more; `enough` ends them."""
    found = []
    async with serving(server) as url:
        while len(found) < ROUNDS_MAX and min(found, default=enough + 1) > enough:
            async with watched(browser, width=390, height=844) as seen:
                await seen.page.route("**/*", _without_the_script)
                await seen.page.goto(url)
                await seen.page.unroute_all()
                session = await seen.context.new_cdp_session(seen.page)
                # Of the thread's own clock: other processes on this machine are not the widget's.
                await session.send("Performance.enable", {"timeDomain": "threadTicks"})
                await session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
                before = await _task_ms(session)
                await seen.page.evaluate(_READY)
                found.append(await _task_ms(session) - before)
                await expect(
                    Card(seen.page, server.campaign.candidates[0].id).button
                ).to_be_visible()
    return min(found)


async def _without_the_script(route):
    """The page as it is before: what it costs by itself is not the widget's."""
    if route.request.url.endswith("like.js"):
        await route.fulfill(body="", content_type="text/javascript")
    else:
        await route.continue_()


async def _task_ms(session):
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return 1e3 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")


@pytest.mark.parametrize("cards", ["twelve", "thousands"])
async def test_first_card_takes_a_tap_after_little_main_thread_time_on_a_slow_phone(cards):
    server = StandIn() if cards == "twelve" else StandIn(thousands())
    async with chromium() as browser:
        # Thousands of candidates are a list of a megabyte to read: that is not the first card's.
        most = FIRST_CARD_MS if cards == "twelve" else 4 * FIRST_CARD_MS
        spent = await busy_ms(browser, server, 0.75 * most)
    print(f"\n{cards} cards, processor slowed {SLOWED} times: {spent:.0f} ms of the main thread")
    assert spent < most
