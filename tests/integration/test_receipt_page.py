"""The page where a voter checks a receipt, in a real browser, with and without scripts."""

import hashlib
import json
import os
from random import Random

import pytest
from playwright.async_api import expect

from antifraud.screen import Decision
from tally.log.integrator import integrate, sign_grown
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.decided import Poll
from tests.journal_builder import make_vote
from tests.logged import KEYS
from voting.ballot import Position

pytestmark = needs_chromium
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def receipts(edge, postgres):
    """Of votes in a log of 12,345, the last of which is not in it yet."""
    poll = Poll(postgres, None)
    random = Random(1)
    votes = [make_vote(random, 1 + n % 5, Decision.COUNT) for n in range(12_345)]
    await poll.add(votes)
    await integrate(postgres, KEYS)
    await sign_grown(postgres, KEYS)
    await poll.add([make_vote(random, 1, Decision.COUNT)])
    positions = [Position(*position[1:]) for position in poll.positions]
    return edge.parts.receipts.seal(positions, 1)


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
async def test_voter_types_a_receipt_and_reads_what_became_of_it(
    edge, receipts, browser, width, height, scripts
):
    async with watched(browser, width, height, java_script_enabled=scripts) as seen:
        page = seen.page
        await page.goto(f"{edge.url}/receipt")
        field, found = page.get_by_label("回执编号"), page.locator("#found")
        await expect(found).to_contain_text("输入点赞后得到的回执编号")
        for receipt, said in (
            (receipts[-1], "已接受，尚未写入公开账本"),
            (receipts[0][:-1] + "!", "这不是本站发出的回执"),
            (receipts[8_000], "已写入公开账本"),
        ):
            await field.fill(receipt)
            await page.get_by_role("button", name="查询").click()
            await expect(found).to_contain_text(said)
            await expect(field).to_have_value(receipt)
            if scripts:
                # Nothing sticks out on a phone.
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
            if (folder := os.environ.get("DIANZAN_SCREENSHOTS")) and scripts:
                state = (await found.get_attribute("class")).split()[-1]
                await page.screenshot(path=f"{folder}/receipt-{state}-{width}.png", full_page=True)
        await expect(found).to_contain_text("第 8,001 条，共 12,345 条")
        await page.get_by_text("哈希值", exact=True).click()
        record = await page.locator(".hashes code").first.inner_text()
        leaf = await page.locator(".hashes code").nth(1).inner_text()
        assert hashlib.sha256(b"\0" + bytes.fromhex(record)).hexdigest() == leaf
        if scripts:
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.get_by_role("link", name="这条回执的证明").click()
        proof = json.loads(await page.locator("body").inner_text())
        assert (proof["index"], proof["record"]) == (8_000, record)
        assert seen.own_complaints() == []
