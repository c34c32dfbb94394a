"""Every page of the console in a real browser: three widths, two languages, a picture of each.

Pictures go to build/screenshots/ as <page>-<width>.png, in Chinese.
"""

import re
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pyotp
import pytest
from playwright.async_api import Page, expect

from antifraud.screen import Decision
from tally.console.parts import Role
from tally.delivery import outbox
from tally.log.integrator import integrate
from tests.assertions import Portal, add_keys
from tests.browser.chromium import Watched, chromium, needs_chromium, watched
from tests.campaign_folders import people, write_folder
from tests.campaigns import add_campaign
from tests.console import PASSWORD, PASSWORD_HASH, console  # noqa: F401  # a fixture
from tests.decided import Poll
from tests.journal_builder import make_vote
from tests.logged import KEYS
from tests.publications import add_publication
from voting.ballot import Outcome
from voting.intake.demo import import_demo
from voting.journal import Refusal

pytestmark = needs_chromium

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
SIZES = {390: 844, 1280: 900, 1920: 1080}
LANGUAGES = {"zh": "zh-CN", "en": "en"}
TOUCHED_AT_WIDTH = 390
TOUCH_PX_MIN = 40

CASE = "/campaigns/demo/flags/1"
PAGES = {
    # Area: {name of its picture: (role, address)}
    "live": {
        "campaigns": (Role.VIEWER, "/campaigns"),
        "live": (Role.VIEWER, "/campaigns/demo?range=15m"),
        "live-candidates": (Role.VIEWER, "/campaigns/demo/candidates"),
        "live-candidate": (Role.VIEWER, "/campaigns/demo/candidates/zhang-heng"),
        "hall": (Role.VIEWER, "/campaigns/demo/hall"),
        "parts": (Role.VIEWER, "/parts"),
    },
    "cases": {
        "flags": (Role.REVIEWER, "/campaigns/demo/flags?show=all"),
        "flags-none": (Role.VIEWER, "/campaigns/demo/flags?candidate=nobody"),
        "flag": (Role.ADMIN, CASE),
        "flag-as-viewer": (Role.VIEWER, CASE),
        "flags-preview": (Role.REVIEWER, "/campaigns/demo/flags/preview?case=1&action=release"),
        "proposals": (Role.ADMIN, "/proposals"),
        "proposals-settled": (Role.ADMIN, "/proposals?show=settled"),
        "proposal-strike": (Role.ADMIN, "/proposals/1"),
        "proposal-quota": (Role.ADMIN, "/proposals/2"),
        "objections": (Role.OFFICE, "/campaigns/demo/objections"),
        "objection": (Role.REVIEWER, "/campaigns/demo/objections/1"),
        "notice": (Role.OFFICE, "/campaigns/demo/notice"),
    },
    "control": {
        "control": (Role.ADMIN, "/control"),
        "control-campaign": (Role.ADMIN, "/control/demo"),
        "control-history": (Role.ADMIN, "/control/demo/history"),
        "control-candidates": (Role.ADMIN, "/control/demo/candidates"),
        "control-candidate": (Role.ADMIN, "/control/demo/candidates/shen-kuo"),
        "control-cards": (Role.ADMIN, "/control/demo/preview"),
        "change-pause": (Role.ADMIN, "/control/demo/change/paused"),
        "change-quota": (Role.ADMIN, "/control/demo/change/quota"),
        "change-visibility": (Role.ADMIN, "/control/demo/change/visibility"),
        "change-extend": (Role.ADMIN, "/control/demo/change/extended"),
        "change-candidate": (
            Role.ADMIN,
            "/control/demo/change/candidate-corrected?candidate=shen-kuo",
        ),
        "import": (Role.ADMIN, "/imports"),
    },
    "delivery": {
        "publications": (Role.OFFICE, "/campaigns/demo/publications"),
        "publications-admin": (Role.ADMIN, "/campaigns/demo/publications"),
        "exports": (Role.ADMIN, "/campaigns/demo/exports"),
        "destinations": (Role.ADMIN, "/destinations"),
        "outbox": (Role.ADMIN, "/outbox"),
        "office-keys": (Role.ADMIN, "/office-keys"),
        "office-api": (Role.ADMIN, "/office/v1/"),
    },
    "accounts": {
        "sign-in": (None, "/sign-in"),
        "account": (Role.ADMIN, "/account"),
        "staff": (Role.ADMIN, "/staff"),
        "audit": (Role.ADMIN, "/audit"),
    },
    "problems": {
        "not-found": (Role.ADMIN, "/nowhere"),
        "not-allowed": (Role.VIEWER, "/staff"),
        "link-void": (None, "/set-up?token=none"),
    },
}

SAME_IN_BOTH = re.compile(
    # Names of things, and what is written the same in any language ...
    r"Postgres|SHA-256|CSV|Parquet|JSON|Webhook|OpenAPI|API|Dianzan|https?://\S*|Asia/Shanghai"
    r"|IP Geolocation by DB-IP|RouteViews|NRO|CC BY|openapi\.json|[0-9]+/minute|[a-z]+:(read|write)"
    r"|SEC…|office@example\.cn|case\.|flag 12"
    # ... and what somebody has entered here, or a program has.
    r"|\b(admin1|office1|reviewer1|viewer1|qian|zhao|new-zh|new-en|demo|spring)\b"
    r"|\bimport(ed list)?\b"
)
RECORDS = {"audit", "audit-verified"}
"""Pages whose tables show what is recorded, to the letter."""

LOOK = """([touchPx, records]) => {
    const shown = (element) => {
        const box = element.getBoundingClientRect();
        const style = getComputedStyle(element);
        return box.width > 1 && box.height > 1 && style.visibility !== "hidden"
            && !element.closest("[hidden], .hidden, .skip");
    };
    const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
    const nameOf = (element) => (element.getAttribute("aria-label")
        || [...(element.labels || [])].map((label) => label.textContent).join(" ")
        || element.textContent || element.querySelector?.("img[alt]")?.alt
        || element.title || "").trim();
    const called = (element) => `${element.tagName.toLowerCase()}`
        + ` ${element.getAttribute("name") || element.getAttribute("href") || element.className}`
        + ` "${nameOf(element).replace(/\\s+/g, " ").slice(0, 30)}"`;
    const controls = all("input:not([type=hidden]), select, textarea, button, a[href], summary");
    const lone = (element) => element.matches(
        "button, select, textarea, summary, a.button, nav a, header a,"
        + "input:not([type=checkbox], [type=radio], [type=file])");
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (parent.closest("code, pre, .mono, time, [lang]:not(html), script") !== null) continue;
        if (records && parent.closest("tbody") !== null) continue;
        const text = walker.currentNode.textContent.replace(/\\s+/g, " ").trim();
        if (text) texts.push(text);
    }
    for (const name of ["placeholder", "aria-label", "title", "alt", "data-label"]) {
        for (const element of document.querySelectorAll(`[${name}]`)) {
            if (element.closest(records ? "tbody" : "[lang]:not(html)") === null) {
                texts.push(element.getAttribute(name));
            }
        }
    }
    const wide = document.documentElement.clientWidth;
    const sticksOut = [...document.querySelectorAll("main *, header *, footer *")].filter(
        (element) => shown(element) && element.getBoundingClientRect().right > wide + 1
            && !element.closest(".scroll"));
    return {
        language: document.documentElement.lang,
        title: document.title,
        headings: all("h1").map((heading) => heading.textContent.trim()),
        overflow: document.documentElement.scrollWidth - wide,
        sticksOut: sticksOut.slice(0, 3).map(called),
        nameless: controls.filter((control) => !nameOf(control)).map((c) => c.outerHTML),
        small: controls.filter(lone)
            .map((control) => [called(control), control.getBoundingClientRect().height])
            .filter(([, height]) => height < touchPx)
            .map(([name, height]) => `${name}: ${height.toFixed(0)} px`),
        texts: [...new Set(texts)],
    };
}"""
"""What is to be known of the page that is open."""


@dataclass
class Looked:
    """Pages that were looked at, and what is wrong with them."""

    console: str
    seen: Watched
    wrong: list[str] = field(default_factory=list)
    texts: dict[str, list[set[str]]] = field(default_factory=dict)
    """By page, in each language."""

    @property
    def page(self) -> Page:
        return self.seen.page

    async def speak(self, language: str) -> None:
        """Pages in this language from now on."""
        await self.seen.context.add_cookies(
            [{"name": "dianzan-language", "value": language, "url": self.console}]
        )

    async def look(self, name: str, language: str) -> None:
        """At the page that is open now, at each width. Call it for both languages."""
        for width, height in SIZES.items():
            await self.page.set_viewport_size({"width": width, "height": height})
            found = await self.page.evaluate(LOOK, [TOUCH_PX_MIN, name in RECORDS])
            self._note(f"{name} {language} {width}", found, LANGUAGES[language], width)
            if language == "zh":
                path = PICTURES / f"{name}-{width}.png"
                await self.page.screenshot(path=path, full_page=True)
        self.texts.setdefault(name, []).append(set(found["texts"]))
        self.wrong += [f"{name} {language}: {text}" for text in self.seen.own_complaints()]
        self.seen.complaints.clear()

    def all_wrong(self) -> list[str]:
        """... and what reads the same in both languages, though it is a word."""
        return self.wrong + [
            f"{name}: {text!r} is English in Chinese too"
            for name, (one, other) in self.texts.items()
            for text in sorted(one & other)
            if re.search("[A-Za-z]{3,}", SAME_IN_BOTH.sub("", text))
        ]

    def _note(self, what: str, found: dict, tag: str, width: int) -> None:
        if found["language"] != tag:
            self.wrong.append(f"{what}: lang is {found['language']!r}")
        if not any(found["headings"]) or not found["title"]:
            self.wrong.append(f"{what}: no heading, or no title")
        if found["overflow"] > 0:
            self.wrong.append(f"{what}: {found['overflow']} px too wide: {found['sticksOut']}")
        self.wrong += [f"{what}: without a name: {html}" for html in found["nameless"]]
        if width == TOUCHED_AT_WIDTH:
            self.wrong += [f"{what}: hard to hit: {control}" for control in found["small"]]


@pytest.fixture(scope="module")
async def browser():
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def office(console, postgres_dsn, postgres, valkey):  # noqa: F811
    """A console in the middle of a campaign: votes, cases, proposals, objections, publications."""
    await import_demo(postgres_dsn)
    await add_keys(postgres, Portal(), Portal("https://m.example.cn"), campaign="demo")
    await postgres.execute("UPDATE campaigns SET origins_off = '{https://m.example.cn}'")
    members = {
        role: await console.add_staff(role, f"{role}1", shown_as=name)
        for role, name in zip(
            Role, ("观察员小周", "裁定员老李", "管理员王芳", "遴选办"), strict=True
        )
    }
    await console.add_staff(Role.ADMIN, "zhao", shown_as="管理员赵敏", password_hash=PASSWORD_HASH)
    await vote(Poll(postgres, valkey, campaign_id="demo"))
    await integrate(postgres, KEYS)
    await decide(console, members)
    await deliver(console, postgres, members[Role.ADMIN])
    return console, members


async def vote(poll: Poll) -> None:
    """Two hours of likes, and two sets of them that somebody flagged."""
    dice = Random(7)
    poll.builder.at_us = int((datetime.now(UTC) - timedelta(hours=2)).timestamp() * 1e6)
    for _ in range(60):
        await poll.add(
            [a_like(dice, 1 + int(12 * dice.random() ** 2)) for _ in range(dice.randint(5, 25))],
            refusals=[Refusal(3, Outcome.QUOTA_SPENT, 2), Refusal(5, Outcome.THROTTLED, 1)],
            seconds=110,
        )
    bought = await poll.add([bot(dice, 2) for _ in range(120)], seconds=60)
    await poll.flag(
        bought,
        rules=("lockstep", "burst"),
        kinds=("client", "dwell", "network"),
        evidence={
            "votes": 120, "agent_ratio": 38.2, "dwell_misfit": 1.93, "datacentre_share": 0.861,
        },
        sentence="这 120 票里，任意两票来自同一手机型号的可能性是平常的 38 倍。",
        score=16.9,
    )  # fmt: skip
    await poll.flag(range(0, 60, 2), rules=("burst",), kinds=("dwell",), score=1.4)


def a_like(dice: Random, candidate: int):
    held = dice.random() < 0.05
    return make_vote(dice, candidate, Decision.HOLD if held else Decision.COUNT)._replace(
        network_class=dice.choice((0, 1, 1, 1, 2, 2, 3)),
        user_agent_class=32 + int(224 * dice.random() ** 2),
        token_age_seconds=int(2 ** (dice.random() * 20)),
        token_level=2,
        dwell_centiseconds=int(120 * 2 ** (dice.random() * 5)),
        rules=2,
        score=-3000,
        reasons=bytes(3),
    )


def bot(dice: Random, candidate: int):
    return a_like(dice, candidate)._replace(
        network_class=4,
        user_agent_class=77,
        dwell_centiseconds=195 + dice.randint(0, 15),
        score=1200,
    )


async def decide(console, members) -> None:  # noqa: F811
    """What staff did so far, by the pages' own forms."""
    reviewer, admin = members[Role.REVIEWER], members[Role.ADMIN]
    async with console.client_as(reviewer) as client:
        await decide_on(client, 2, "hold", "先搁置，等运营商核对")
        await sent(client, f"{CASE}/comments", text="已联系运营商，三天内答复。\n先不裁定。")
        await decide_on(client, 1, "strike", "机型与停留时间都不像真人，另有转账截图")
    async with console.client_as(admin) as client:
        await sent(
            client,
            "/campaigns/demo/objections",
            received_from="某学会秘书处",
            candidate="2",
            flag="1",
            text="我会推荐的候选人票数一夜之间少了一百多，请说明依据。",
        )
        await changed(client, "candidate-corrected", {"candidate": "shen-kuo"}, "职务有误",
                      **await entered(client, "shen-kuo"))  # fmt: skip
        await changed(client, "candidate-withdrawn", {"candidate": "guo-shoujing"}, "本人申请退出")
        await changed(client, "paused", {}, "机房检修，约一小时")
        await changed(client, "resumed", {}, "检修完毕")
    async with console.client_as(await console.add_staff(Role.ADMIN, "qian")) as client:
        await changed(client, "quota", {}, "原定每日十位偏少", likes_per_candidate_per_day="1",
                      candidates_per_day="12", likes_per_campaign="0")  # fmt: skip


async def sent(client, path, **fields) -> str:
    """A form, taken; where it led to."""
    answer = await client.post(path, fields)
    assert answer.status == 303, (path, answer.status, text_of(await answer.text()))
    return answer.headers["Location"]


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", html.partition("<main")[2]))


def fields_of(html: str) -> dict[str, str]:
    """The hidden fields of a page's forms."""
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', html))


async def decide_on(client, case, action, reason) -> None:
    page = await (await client.get(f"/campaigns/demo/flags/{case}")).text()
    fields = fields_of(page) | {"action": action, "reason": reason}
    await sent(client, "/campaigns/demo/flags/decide", **fields)


async def entered(client, candidate) -> dict[str, str]:
    """The form of a correction as it is filled, with another job."""
    page = await (
        await client.get(f"/control/demo/change/candidate-corrected?candidate={candidate}")
    ).text()
    fields = dict(re.findall(r'<input name="([a-z_]+)" value="([^"]*)"', page))
    fields["summary"] = re.search(r'<textarea name="summary"[^>]*>([^<]*)<', page)[1]
    del fields["reason"]
    return fields | {"title": "提举司天监事", "photo": fields_of(page)["photo"]}


async def changed(client, kind, about, reason, **fields) -> None:
    page = await (await client.get(f"/control/demo/change/{kind}", params=about)).text()
    made_from = fields_of(page)["made_from"]
    await sent(client, f"/control/demo/change/{kind}", step="do", made_from=made_from,
               reason=reason, **about, **fields)  # fmt: skip


async def deliver(console, postgres, admin) -> None:  # noqa: F811
    """What went out, and what did not."""
    await add_publication(postgres, 1, kind="provisional")
    await add_publication(postgres, 2, kind="close", counted=1234567)
    await add_publication(postgres, 3, kind="final", approved_by="wang", counted=1234560)
    async with console.client_as(admin) as client:
        made = await client.post(
            "/destinations",
            {
                "shown_as": "遴选办业务系统",
                "form": "webhook",
                "address": "https://hooks.example.cn/dianzan/a-rather-long-path/that-goes-on",
                "events": ["published", "closed"],
            },
        )
        assert made.status == 201
        made = await client.post(
            "/office-keys",
            {"shown_as": "遴选办统计程序", "scopes": ["publications:read", "tally:read"]},
        )
        assert made.status == 201
    async with postgres.transaction():
        for number in (1, 2, 3):
            await outbox.add(
                postgres, outbox.Event.PUBLISHED, f"demo/{number}", {"campaign": "demo"}
            )
    await postgres.execute(
        "UPDATE outbox SET given_up_at = now(), tries = 12,"
        " last_error = 'answered with status 503' WHERE subject = 'demo/1'"
    )


@pytest.mark.parametrize("area", PAGES)
async def test_page_fits_names_its_controls_and_speaks_one_language(office, browser, area):
    running, members = office
    wrong = []
    for role in dict.fromkeys(role for role, _ in PAGES[area].values()):
        async with watched(browser) as seen:
            looked = Looked(running.url, seen)
            if role is not None:
                await let_in(running, seen, members[role])
            for language in LANGUAGES:
                await looked.speak(language)
                for name, (whose, path) in PAGES[area].items():
                    if whose is role:
                        await seen.page.goto(running.url + path)
                        await looked.look(name, language)
        wrong += looked.all_wrong()
    assert not wrong, "\n" + "\n".join(wrong)


async def test_page_behind_a_form_does_too(office, browser, postgres, tmp_path):
    running, members = office
    await add_campaign(postgres, "spring")
    async with watched(browser) as seen, watched(browser) as outside:
        looked, door = Looked(running.url, seen), Looked(running.url, outside)
        await let_in(running, seen, members[Role.ADMIN])
        for language in LANGUAGES:
            await looked.speak(language)
            await door.speak(language)
            await come_in(door, language, await make_an_account(looked, language))
            await make_a_key(looked, language)
            await add_a_webhook(looked, language)
            await ask_for_a_change(looked, language)
            await upload(looked, language, tmp_path)
            await walk_the_chain(looked, language)
            for name in ("publications", "exports"):
                await looked.page.goto(f"{running.url}/{name}")
                await looked.look(f"{name}-of-all", language)
        wrong = looked.all_wrong() + door.all_wrong()
        assert not wrong, "\n" + "\n".join(wrong)


async def make_an_account(looked: Looked, language: str) -> str:
    """Its set-up link."""
    page = looked.page
    await page.goto(f"{looked.console}/staff")
    await page.locator("input[name=name]").fill(f"new-{language}")
    await page.locator("input[name=shown_as]").fill("新同事")
    await page.locator("main section button.primary").click()
    link = await page.locator(".secret").inner_text()
    await looked.look("staff-link", language)
    return link


async def come_in(door: Looked, language: str, link: str) -> None:
    """By a link, out again, and by the door: past each page that says no."""
    page, go_on = door.page, door.page.locator("main button.primary")
    code = page.locator("input[name=code]")
    await page.goto(link)
    await door.look("set-up", language)
    for password, name in (("123456789012", "set-up-refused"), (PASSWORD, "enrol")):
        for field_ in ("password", "again"):
            await page.locator(f"input[name={field_}]").fill(password)
        await go_on.click()
        await expect(code if name == "enrol" else page.get_by_role("alert")).to_be_visible()
        await door.look(name, language)
    authenticator = pyotp.TOTP((await page.locator(".secret").inner_text()).replace(" ", ""))
    await code.fill(authenticator.now())
    await go_on.click()
    await page.locator("header form button").click()
    await expect(page.get_by_role("status")).to_be_visible()
    await door.look("signed-out", language)
    for password, name in (("a wrong password", "sign-in-refused"), (PASSWORD, "sign-in-code")):
        await page.locator("input[name=name]").fill(f"new-{language}")
        await page.locator("input[name=password]").fill(password)
        await go_on.click()
        await expect(code if password == PASSWORD else page.get_by_role("alert")).to_be_visible()
        await door.look(name, language)
    await code.fill("000000")
    await go_on.click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await door.look("sign-in-code-refused", language)
    await page.context.clear_cookies()


async def make_a_key(looked: Looked, language: str) -> None:
    page = looked.page
    await page.goto(f"{looked.console}/office-keys")
    await page.locator("input[name=shown_as]").fill("遴选办统计程序")
    await page.locator("main button.primary").click()
    await expect(page.locator(".secret")).to_be_visible()
    await looked.look("office-key-made", language)


async def add_a_webhook(looked: Looked, language: str) -> None:
    page = looked.page
    await page.goto(f"{looked.console}/destinations")
    await page.locator("input[name=shown_as]").fill("遴选办业务系统")
    address = page.locator("input[name=address]")
    await address.fill("http://10.0.0.1/")
    await page.locator("input[name=events]").first.check()
    await page.locator("main button.primary").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await looked.look("destination-refused", language)
    await address.fill("https://hooks.example.cn/dianzan")
    await page.locator("main button.primary").click()
    await expect(page.locator(".secret")).to_be_visible()
    await looked.look("destination-added", language)


async def ask_for_a_change(looked: Looked, language: str) -> None:
    """What cannot be, and what can; it is not made."""
    page = looked.page
    await page.goto(f"{looked.console}/control/demo/change/quota")
    reason, most = page.locator("input[name=reason]"), page.locator("[name=candidates_per_day]")
    await reason.fill("原定每日十位偏少")
    for number, name in (("9999999", "change-refused"), ("12", "change-confirm")):
        await most.fill(number)
        await page.locator("main button.primary").click()
        await expect(
            page.locator("input[name=step][value=do]")
            if name == "change-confirm"
            else page.get_by_role("alert")
        ).to_be_attached()
        await looked.look(name, language)


async def upload(looked: Looked, language: str, folder: Path) -> None:
    """A list with faults, and one that could be imported."""
    page = looked.page
    for name, rows in (("import-faults", people(9)), ("import-new", people(9))):
        if name == "import-faults":
            rows[2]["姓名"], rows[4]["主要事迹"] = "", "<b>很长</b>" * 3_000
        write_folder(folder / f"{name}-{language}", rows, form="csv")
        packed = shutil.make_archive(
            str(folder / f"{name}-{language}"), "zip", folder / f"{name}-{language}"
        )
        await page.goto(f"{looked.console}/imports")
        await page.locator("input[type=file]").set_input_files(packed)
        await page.locator("main button.primary").click()
        await expect(page.locator("input[name=step][value=discard]")).to_be_attached()
        await looked.look(name, language)


async def walk_the_chain(looked: Looked, language: str) -> None:
    page = looked.page
    await page.goto(f"{looked.console}/audit")
    await page.locator(".page-head button").click()
    await expect(page.get_by_role("status")).to_be_visible()
    await looked.look("audit-verified", language)


async def let_in(running, seen: Watched, staff) -> None:
    cookie = await running.begin_session(staff)
    await seen.context.add_cookies(
        [{"name": "dianzan-console", "value": cookie, "url": running.url}]
    )
