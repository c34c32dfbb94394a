"""The public notice in a real browser: on a phone, on a desk, in the dark, and on paper.

Pictures, and the paper as public-notice.pdf, go to build/screenshots/.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tally.campaigns.notice import Fields, read_facts
from tally.campaigns.notice_proposals import content_of
from tally.holds import Action, Case, Decider, decide
from tally.proposals import approve, look_now, propose, read_proposal, seen
from tally.tallies import read_campaign
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.campaigns import add_campaign
from tests.decided import Poll, counted
from tests.integration.conftest import running_edge
from tests.staff_members import add_person
from voting.campaign import microseconds

pytestmark = needs_chromium
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
A4_POINTS = (595, 842)
STRUCK = 14
"""Candidates with struck votes: more than one page of them."""


@pytest.fixture
async def put_up(tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge on which notice 2 stands, and the one before it can be read."""
    closes_at = datetime.now(UTC) - timedelta(hours=2)
    await add_campaign(
        postgres, "spring", rules={"counts": "live"}, closes_at=closes_at,
        opens_at=closes_at - timedelta(days=20), candidates=STRUCK + 3,
    )  # fmt: skip
    await postgres.execute(
        "UPDATE candidates SET organisation = '某某大学材料科学与工程研究院', name = '欧阳'||number"
    )
    poll = Poll(postgres, None)
    poll.builder.at_us = microseconds(closes_at) - 60_000_000
    for candidate in range(1, STRUCK + 1):
        votes = await poll.add(counted(60 + candidate, candidate, seed=candidate))
        case = await poll.flag(list(votes)[: 20 + candidate], kinds=("client", "dwell"))
        by = Decider("li", "reviewer", "wang")
        await decide(postgres, Case(case), Action.STRIKE, by=by, reason="同一台手机")
    await postgres.execute("UPDATE watermarks SET at = now()")
    li, wang = await add_person(postgres, "li"), await add_person(postgres, "wang")
    for _ in range(2):
        facts = await read_facts(postgres, await read_campaign(postgres, "spring"))
        fields = Fields(
            issuer="“最美科技工作者”评选委员会办公室",
            contact="张老师，010-12345678，notice@example.cn，北京市海淀区某某路 1 号",
            dated=datetime.now(closes_at.tzinfo).date(),
            days=7,
        )
        content = content_of(facts, fields, datetime.now(UTC))
        proposed = await propose(
            postgres, "notice", campaign=1, content=content, reason="核查完成", by=li
        )
        proposal = await read_proposal(postgres, proposed.number)
        shown = seen(await look_now(postgres, proposal))
        assert (await approve(postgres, proposed.number, by=wang, shown=shown)).done
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        await edge.wait_for_campaign("spring")
        yield edge


async def test_the_notice_reads_well_on_every_screen_and_prints_as_an_official_paper(
    put_up,
):
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser:
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")):
            async with watched(browser, width, 844, color_scheme=scheme) as seen_:
                page = seen_.page
                answer = await page.goto(f"{put_up.url}/campaigns/spring/notice")
                assert answer.ok
                sideways = "document.documentElement.scrollWidth - innerWidth"
                assert await page.evaluate(sideways) <= 0, "nothing sticks out"
                title = page.locator(".notice-sheet h1")
                assert await title.evaluate("e => getComputedStyle(e).textAlign") == "center"
                paragraph = page.locator(".notice-sheet > p:not(.notice-number)").first
                indent, size = await paragraph.evaluate(
                    "e => [getComputedStyle(e).textIndent, getComputedStyle(e).fontSize]"
                )
                assert float(indent[:-2]) == 2 * float(size[:-2]), "by two characters"
                sheet = await page.locator(".notice-sheet").bounding_box()
                signed = await page.locator(".signature div").bounding_box()
                room = sheet["x"] + sheet["width"] - signed["x"] - signed["width"]
                assert room < signed["x"] - sheet["x"] + 1, "to the right"
                await page.screenshot(
                    path=PICTURES / f"public-notice-{width}-{scheme}.png", full_page=True
                )
                await page.goto(f"{put_up.url}/campaigns/spring/notice/1")
                assert await page.locator(".notice-state").is_visible()
                await page.screenshot(
                    path=PICTURES / f"public-notice-replaced-{width}-{scheme}.png"
                )
                assert seen_.own_complaints() == []
        async with watched(browser, 1280, 900) as seen_:
            page = seen_.page
            await page.goto(f"{put_up.url}/campaigns/spring/notice")
            await page.emulate_media(media="print")
            for gone in ("header.site-head", "footer.site-foot", ".box", ".notice-list"):
                assert not await page.locator(gone).first.is_visible(), gone
            printed = await page.pdf(prefer_css_page_size=True)
            (PICTURES / "public-notice.pdf").write_bytes(printed)
    sizes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed))
    assert {(round(float(width)), round(float(height))) for width, height in sizes} == {A4_POINTS}
