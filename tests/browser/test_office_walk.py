"""The whole of it, as people do it: from the first account to a result that anybody can verify.

Two persons at two browsers before the real service, and the public on its edge. One test, because
each step stands on the ones before; what fails names its step.
"""

import asyncio
import contextlib
import json
import re
import zipfile
from collections import Counter
from datetime import date
from pathlib import Path

import aiohttp
import asyncpg
import numpy as np
import pytest
from playwright.async_api import Page, expect

from antifraud.flags import DETECTORS_VERSION, Flag
from tally.cases import FoundFlag, add_flags
from tally.holds import State
from tally.verify import run as verify
from tally.vote_arrays import vote_ids
from tests.acceptance.conftest import Service, a_service
from tests.browser.chromium import chromium, needs_chromium, watched
from tests.browser.staff import StaffMember, _, staff_member
from tests.conftest import wait_until_async

pytestmark = needs_chromium
expect.set_options(timeout=15_000)

CAMPAIGN = "demo"
BOUGHT, LIKED = "zu-chongzhi", "zhang-heng"
BOUGHT_VOTES, LIKED_VOTES = 30, 20
WHY_PAUSED = "机房检修，约一小时"


class Public:
    """People on the edge: one who looks at a page, and devices that can like."""

    def __init__(
        self, edge: str, http: aiohttp.ClientSession, visitor: Page, tokens: list[str]
    ) -> None:
        self.edge, self.http, self.visitor = edge, http, visitor
        self._tokens = iter(enumerate(tokens))

    async def like(self, candidate: str) -> tuple[int, dict]:
        """One more device's like: status and answer."""
        number, token = next(self._tokens)
        answer = await self.http.post(
            f"{self.edge}/v1/likes",
            json={
                "token": token,
                "campaign": CAMPAIGN,
                "candidate": candidate,
                "click": f"click-{number:05}",
            },
            headers={"X-Forwarded-For": f"10.0.{number // 200}.{number % 200}"},
        )
        return answer.status, await answer.json(content_type=None)

    async def likes(self, number: int, candidate: str) -> list[str]:
        """So many at once; their receipts."""
        answers = await asyncio.gather(*(self.like(candidate) for _ in range(number)))
        assert {status for status, _ in answers} == {201}, answers
        return [answer["receipt"] for _, answer in answers]

    async def reads(self, candidate: str, count: int) -> None:
        """Until the public's count is this one."""

        async def is_shown():
            async with self.http.get(f"{self.edge}/v1/campaigns/{CAMPAIGN}/counts") as answer:
                return (await answer.json())["counts"][candidate] == count

        await wait_until_async(is_shown, 15, f"{candidate} with {count} likes")

    async def reads_on_the_card(self, text: str | None) -> None:
        """Until the candidate's card says this above its button; None = nothing."""

        async def is_said():
            await self.visitor.goto(f"{self.edge}/embed/v1/card/{CAMPAIGN}/{LIKED}")
            said = await self.visitor.get_by_role("status").all_inner_texts()
            return text in "".join(said) if text else said == []

        await wait_until_async(is_said, 15, f"a card that says {text}")

    async def sees_the_close(self) -> None:
        """Until the edge knows of it: within 2 s, is promised."""

        async def is_closed():
            async with self.http.get(f"{self.edge}/v1/campaigns/{CAMPAIGN}") as answer:
                campaign = await answer.json()
                return campaign["closes_at"] <= campaign["server_time"]

        await wait_until_async(is_closed, 15, "the close")


@pytest.fixture(scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service():
    """The demo campaign, and nobody who could sign in."""
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8", DIANZAN_CHALLENGE="off") as service:
        service.up()
        yield service


@pytest.fixture
async def public(service, browser):
    path = service.folder / "tokens"
    made = service.dianzan("devices", "mint", 100, "--campaign", CAMPAIGN, "--out", path)
    assert made.returncode == 0, made.stderr
    async with aiohttp.ClientSession() as http, watched(browser) as seen:
        yield Public(service.ready["edge"], http, seen.page, path.read_text().split())
        assert seen.complaints == []


@pytest.fixture
async def database(service):
    connection = await asyncpg.connect(service.ready["postgres"])
    yield connection
    await connection.close()


@pytest.mark.timeout(240)
async def test_from_the_first_account_to_a_result_that_anybody_can_verify(
    service, browser, public, database, tmp_path
):
    console = service.ready["console"]
    async with (
        staff_member(browser, console, "li") as li,
        staff_member(browser, console, "wang", 390, 844) as wang,
    ):
        await get_in(service, li)
        await wang.set_up(link_of(service, wang))

        receipt = await watch_a_like_arrive(li, public)
        await public.likes(BOUGHT_VOTES, BOUGHT)
        await public.likes(LIKED_VOTES, LIKED)
        await public.reads(BOUGHT, BOUGHT_VOTES)

        case = await flag(database, BOUGHT)
        await hold_and_release(li, case, public)
        await strike(li, wang, case, public)
        await pause_and_resume(li, public)
        await close(li, wang, public)

        published = await publish_finally(li, wang)
        folder = await download(li, published, tmp_path)
        assert await states(database) == sums_of(folder)
        assert_only_as_it_is_it_holds(service, folder)
        assert publish_by_hand(service, tmp_path / "a", "--number", published)["kind"] == "final"
        assert publish_by_hand(service, tmp_path / "b", "--now")["kind"] == "provisional"
        await check_receipt(public, receipt)
        await read_the_audit_log(service, li)


def link_of(service: Service, member: StaffMember) -> str:
    """Of a new account for them, as `dianzan staff add` prints it."""
    made = service.dianzan("staff", "add", member.name, "--role", "admin")
    assert made.returncode == 0, made.stderr
    # With port 0 the command does not know where the console is.
    return member.console + re.search(r"/set-up\S+", made.stdout)[0]


async def get_in(service: Service, li: StaffMember) -> None:
    """The first account there is: set up, out again, and in by password and code."""
    link = link_of(service, li)
    enrolled_with = await li.set_up(link)
    await li.sign_out()
    await li.page.goto(link)
    await expect(li.page.locator("main")).to_contain_text(
        _("This link was used already, or is too old. Ask an admin for a new one.")
    )
    await li.enter_password("falsch geraten, aber lang genug")
    await expect(li.page.get_by_role("alert")).to_be_visible()
    await li.enter_password()
    # A code that was seen over somebody's shoulder is worth nothing; the next one is.
    await li.enter_code("Sign in", enrolled_with)
    await expect(li.page.get_by_role("alert")).to_have_text(
        _("This code is not right, or was used before. Wait for the next one.")
    )
    await li.enter_code("Sign in", li.code(1))
    await li.is_in()


async def watch_a_like_arrive(li: StaffMember, public: Public) -> str:
    """On a page that is open already; the like's receipt."""
    await li.go(f"/campaigns/{CAMPAIGN}")
    counted = li.page.locator(".main-figure dd")
    await expect(counted).to_have_text("0")
    await li.page.evaluate("document.documentElement.dataset.same = 'page'")
    [receipt] = await public.likes(1, LIKED)
    await expect(counted).to_have_text("1", timeout=5_000)
    await expect(li.page.locator("html")).to_have_attribute("data-same", "page")
    return receipt


async def flag(database: asyncpg.Connection, candidate: str) -> str:
    """What `watch` would write, had it found all votes of this candidate bought; the case's
    address."""

    async def all_there():
        rows = await database.fetch(
            "SELECT day, shard, epoch, seq, candidate, v.campaign FROM votes AS v"
            " JOIN candidates AS c ON (c.campaign, c.number) = (v.campaign, v.candidate)"
            " WHERE c.id = $1",
            candidate,
        )
        return rows if len(rows) == BOUGHT_VOTES else None

    rows = await wait_until_async(all_there, 15, "all votes in Postgres")
    found = FoundFlag(
        Flag(
            rules=("burst",),
            version=DETECTORS_VERSION,
            kinds=("client",),
            evidence={"votes": len(rows), "agent_ratio": 21.5},
            sentence="这里随便取两票，手机型号相同的机会是平常的 21 倍。",
            candidates={rows[0]["candidate"]: len(rows)},
            score=5.0,
            votes=vote_ids(*(np.array([row[n] for row in rows]) for n in (1, 2, 3))),
        ),
        np.array([(row["day"] - date(1970, 1, 1)).days for row in rows]),
        np.array([row["candidate"] for row in rows]),
    )
    [added] = await add_flags(database, rows[0]["campaign"], [found])
    return f"/campaigns/{CAMPAIGN}/flags/{added.number}"


async def hold_and_release(li: StaffMember, case: str, public: Public) -> None:
    """One person may: nothing is lost by it."""
    await li.go(f"/campaigns/{CAMPAIGN}/flags")
    await li.page.locator(f"main a[href='{case}']").first.click()
    await expect(li.page.locator("main")).to_contain_text("手机型号相同的机会是平常的 21 倍")
    await li.give_reason("机型太集中，先搁置")
    await li.press("Hold them")
    await li.is_told("Decided: the votes are held.")
    await public.reads(BOUGHT, 0)
    await li.give_reason("核实是同一批校园机，放回")
    await li.press("Count them")
    await li.is_told("Decided: the votes count.")
    await public.reads(BOUGHT, BOUGHT_VOTES)


async def strike(li: StaffMember, wang: StaffMember, case: str, public: Public) -> None:
    """Two persons have to."""
    await li.go(case)
    await li.give_reason("买票，有转账截图")
    await li.press("Propose to strike them")
    await li.is_told("Proposed. Now somebody else has to agree.")
    proposal = li.page.url
    await expect(li.page.get_by_role("button", name=_("Agree, and do it"))).to_have_count(0)
    status, said = await li.try_to_agree(proposal)
    assert status in (403, 409)
    assert _("You proposed it yourself: somebody else has to agree.") in said
    await public.reads(BOUGHT, BOUGHT_VOTES)
    await wang.go(f"/campaigns/{CAMPAIGN}/flags")
    await wang.agree(proposal)
    await public.reads(BOUGHT, 0)


async def change(li: StaffMember, ask: str, reason: str, *, button: str | None = None) -> None:
    """Of the campaign: three steps, each a page."""
    await li.go(f"/control/{CAMPAIGN}")
    await li.follow(ask, exact=False)
    await li.give_reason(reason)
    await li.press("Show what will happen")
    await expect(li.page.locator("main")).to_contain_text(reason)
    await li.press(button or ask)


async def pause_and_resume(li: StaffMember, public: Public) -> None:
    """What stands on the card follows within seconds."""
    await change(li, "Pause", WHY_PAUSED)
    await li.is_told("Done. It is in force within 2 seconds.")
    await public.reads_on_the_card(WHY_PAUSED)
    status, answer = await public.like(LIKED)
    assert (status, answer["outcome"]) == (403, "paused")
    await change(li, "Resume", "检修完毕")
    await public.reads_on_the_card(None)
    await public.likes(1, LIKED)


async def close(li: StaffMember, wang: StaffMember, public: Public) -> None:
    """Early, so that two persons have to; after that no like is taken."""
    await change(li, "Close now", "活动提前结束", button="Propose it")
    await li.is_told("Proposed: it is done when a second person agrees.")
    waiting = li.page.locator("main a[href^='/proposals/']")
    await expect(waiting).to_have_count(1)
    await wang.agree(li.console + await waiting.get_attribute("href"))
    await public.sees_the_close()
    status, answer = await public.like(LIKED)
    assert (status, answer["outcome"]) == (403, "closed")


async def publish_finally(li: StaffMember, wang: StaffMember) -> str:
    """Once the service has sealed the close; the final publication's number."""

    async def number_of(kind: str) -> str | None:
        await li.go(f"/campaigns/{CAMPAIGN}/publications")
        row = li.page.locator("tbody tr", has=li.page.locator(".badge", has_text=_(kind)))
        return await row.locator("td").first.inner_text() if await row.count() else None

    await wait_until_async(lambda: number_of("at the close"), 30, "the seal of the close")
    await li.give_reason("公示期满，无异议")
    await li.press("Propose final publication")
    await li.is_told("Proposed. Now somebody else has to agree.")
    await wang.go("/proposals")
    final = wang.page.locator("tbody tr").first.get_by_role("link").first
    await wang.agree(wang.console + await final.get_attribute("href"))
    return await wait_until_async(lambda: number_of("final"), 30, "the final publication")


async def download(li: StaffMember, number: str, into: Path) -> Path:
    """The publication as the page hands it out, unpacked."""
    archive = f"/campaigns/{CAMPAIGN}/publications/{number}/archive.zip"
    async with li.page.expect_download() as coming:
        await li.page.locator(f"a[href='{archive}']").click()
    downloaded = await coming.value
    folder = into / Path(downloaded.suggested_filename).stem
    with zipfile.ZipFile(await downloaded.path()) as packed:
        packed.extractall(folder)
    return folder


async def states(database: asyncpg.Connection) -> dict[str, Counter]:
    """Candidate -> state -> votes, counted anew from the rows."""
    found: dict[str, Counter] = {}
    for row in await database.fetch(
        "SELECT c.id, coalesce(s.state, v.verdict) AS state, count(*) FROM votes AS v"
        " JOIN candidates AS c ON (c.campaign, c.number) = (v.campaign, v.candidate)"
        " LEFT JOIN vote_state AS s USING (day, shard, epoch, seq) GROUP BY 1, 2"
    ):
        found.setdefault(row["id"], Counter())[State(row["state"]).name.lower()] = row["count"]
    return found


def sums_of(folder: Path) -> dict[str, Counter]:
    """The same as it was published."""
    tally = json.loads((folder / "tally.json").read_text())
    assert tally["kind"] == "final"
    return {
        one["id"]: +Counter({kind: one[kind] for kind in ("counted", "held", "struck")})
        for one in tally["candidates"]
        if one["counted"] + one["held"] + one["struck"]
    }


def assert_only_as_it_is_it_holds(service: Service, folder: Path) -> dict:
    """With one byte of any of its files flipped the folder does not hold; what is said of it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 10
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with contextlib.redirect_stdout(None):
            assert verify(folder, None, False) == 1, f"{path} was flipped, and it holds"
        if path == files[0]:
            assert service.dianzan("verify", folder).returncode == 1
        path.write_bytes(whole)
    checked = service.dianzan("verify", folder, "--json")
    assert checked.returncode == 0, checked.stdout
    return json.loads(checked.stdout)


def publish_by_hand(service: Service, folder: Path, *which: str) -> dict:
    """With the log, now that it is closed: the verifier counts every candidate from the leaves."""
    made = service.dianzan("publish", "--campaign", CAMPAIGN, *which, "--out", folder, "--with-log")
    assert made.returncode == 0, made.stderr
    told = assert_only_as_it_is_it_holds(service, folder)
    assert "log" in told["held"]
    return told


async def check_receipt(public: Public, receipt: str) -> None:
    """As the voter does, on the edge's page."""
    page = public.visitor
    await page.goto(f"{public.edge}/receipt")
    await page.get_by_label("回执编号").fill(receipt)
    await page.get_by_role("button", name="查询").click()
    await expect(page.locator("#found")).to_contain_text("已写入公开账本")


async def read_the_audit_log(service: Service, li: StaffMember) -> None:
    """All of it is in there, and the chain holds."""
    await li.go("/audit?action=case.")
    for action in ("case.hold", "case.release", "case.strike"):
        await expect(li.page.get_by_role("cell", name=action, exact=True)).to_have_count(1)
    await li.press("Verify the chain")
    checked = service.dianzan("audit", "verify")
    assert checked.returncode == 0, checked.stderr
    rows, hash_ = checked.stdout.split()
    await expect(li.page.get_by_role("status")).to_contain_text(rows)
    await expect(li.page.locator("main")).to_contain_text(hash_)
