"""The pages of cases and proposals: what they show, what their forms do, and who may."""

import html
import re

import pytest

from tally.accounts import staff
from tally.case_decisions import content_of
from tally.holds import WATCH, Action, Case, OneFlag, State, decide
from tally.proposals import propose
from tally.tallies import read_campaign
from tests.campaigns import add_campaign
from tests.console import console  # noqa: F401  # a fixture
from tests.decided import counted

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"
BASE = "/campaigns/spring/flags"


@pytest.fixture
async def cases(poll, postgres, console):  # noqa: F811
    """Three cases: one that moves places, one that does not, one of another kind."""
    await poll.add([*counted(30, 1), *counted(20, 2), *counted(10, 3)])
    await poll.flag(range(30, 48), rules=("lockstep",))
    await poll.flag(range(5), rules=("burst",), kinds=("dwell",))
    await poll.flag(range(50, 52), rules=("burst",), kinds=("age",))
    console.poll = poll
    return console


async def text_of(answer):
    return html.unescape(await answer.text())


def shown_in(text, action):
    """What the page's form hands back for an action."""
    found = re.search(rf'name="shown-{action}" value="([0-9a-f]*)"', text)
    return {f"shown-{action}": found[1]}


async def test_the_queue_begins_with_what_moves_places_and_filters(cases):
    async with cases.client_as("viewer") as client:
        text = await text_of(await client.get(BASE))
        assert re.findall(r">#(\d)</strong>", text) == ["1", "2", "3"]
        text = await text_of(await client.get(f"{BASE}?rule=burst"))
        assert re.findall(r">#(\d)</strong>", text) == ["2", "3"]
        for asked in ("c002", "2", "候选人2"):
            text = await text_of(await client.get(BASE, params={"candidate": asked}))
            assert re.findall(r">#(\d)</strong>", text) == ["1"]
        text = await text_of(await client.get(f"{BASE}?candidate=nobody"))
        assert "没有符合条件的案卷" in text
        assert "没有待决的案卷" not in text


async def test_decided_cases_leave_the_open_queue_and_stand_in_the_other(cases, postgres):
    await decide(postgres, Case(1), Action.STRIKE, by="王老师", reason="x")
    async with cases.client_as("viewer") as client:
        for show, numbers in (("open", ["2", "3"]), ("decided", ["1"]), ("all", ["1", "2", "3"])):
            text = await text_of(await client.get(f"{BASE}?show={show}"))
            assert sorted(re.findall(r">#(\d)</strong>", text)) == numbers


async def test_an_empty_queue_says_so_in_both_languages(console, poll):  # noqa: F811
    async with console.client_as("viewer") as client:
        assert "没有待决的案卷" in await text_of(await client.get(BASE))
    async with console.client_as("viewer", **{"Accept-Language": "en"}) as client:
        assert "Nothing waits for a decision" in await text_of(await client.get(BASE))


async def test_a_case_shows_its_evidence_places_votes_and_source_of_networks(cases, postgres):
    await decide(postgres, OneFlag(1), Action.HOLD, by=WATCH, reason="两种证据")
    async with cases.client_as("viewer", **{"Accept-Language": "en"}) as client:
        answer = await client.get(f"{BASE}/1")
        text = await text_of(answer)
    assert answer.status == 200
    for said in (
        "Same phone model", "× 21.5", "by the rules alone", "IP Geolocation by DB-IP",
        "https://db-ip.com", "Course", "Phone models", "From the card to the tap",
        "votes in lockstep",
    ):  # fmt: skip
        assert said in text
    assert text.count('class="mono small"') == 18, "each of its votes is in the sample"
    assert "<svg" in text


async def test_a_case_that_is_small_beside_the_others_has_a_course_of_its_own(cases, poll):
    async with cases.client_as("viewer", **{"Accept-Language": "en"}) as client:
        assert (await text_of(await client.get(f"{BASE}/1"))).count('aria-label="Course"') == 2
        await poll.add(counted(500, 4, seed=6))
        # Wide and narrow, the case's and the others'.
        assert (await text_of(await client.get(f"{BASE}/1"))).count('aria-label="Course"') == 4


async def test_a_later_flag_of_a_case_leads_to_the_case(cases, poll):
    more = await poll.add(counted(12, 2, seed=3))
    await poll.flag([*range(30, 48), *more])
    async with cases.client_as("viewer") as client:
        for path in (f"{BASE}/4", "/flags/4"):
            answer = await client.get(path)
            assert (answer.status, answer.headers["Location"]) == (303, f"{BASE}/1")
        assert (await client.get("/flags")).headers["Location"] == BASE


@pytest.mark.parametrize(
    "path", ["/flags/99", f"{BASE}/99", "/campaigns/winter/flags", "/proposals/9", f"{BASE}/0"]
)
async def test_what_is_not_there_is_not_found(cases, path):
    async with cases.client_as("admin") as client:
        assert (await client.get(path)).status in (404, 422)


@pytest.mark.parametrize("number", ["2147483648", "99999999999999999999", "x"])
async def test_a_number_that_no_flag_has_is_bad_input_and_no_error_of_ours(cases, number):
    async with cases.client_as("viewer") as client:
        assert (await client.get(f"{BASE}/{number}")).status in (404, 422)


async def test_a_flag_of_another_campaign_is_not_shown_under_this_one(cases, postgres):
    await add_campaign(postgres, "autumn")
    async with cases.client_as("admin") as client:
        assert (await client.get("/campaigns/autumn/flags/1")).status == 404
        answer = await client.get("/campaigns/autumn/flags/preview?action=hold&case=1")
        assert answer.status == 409
        answer = await client.post(
            "/campaigns/autumn/flags/decide", {"action": "hold", "case": "1", "reason": "x"}
        )
    assert answer.status == 409
    assert await cases.poll.states() == [State.COUNTED] * 60


# Deciding.


async def test_a_reviewer_holds_and_releases_alone_as_was_shown(cases, postgres):
    async with cases.client_as("reviewer") as client:
        for action, state in (("hold", State.HELD), ("release", State.COUNTED)):
            page = await text_of(await client.get(f"{BASE}/1"))
            form = {"action": action, "case": "1", "reason": "复核", **shown_in(page, action)}
            answer = await client.post(f"{BASE}/decide", form)
            assert answer.status == 303
            assert answer.headers["Location"].startswith(f"{BASE}/1?said=case-")
            assert (await cases.poll.states())[30:48] == [state] * 18
        page = await text_of(await client.get(answer.headers["Location"]))
        assert "已决定：这些票计入。" in page
        row = await postgres.fetchrow("SELECT decided_by, reason FROM decisions WHERE number = 1")
        assert tuple(row) == (client.staff.name, "复核")


async def test_a_strike_is_proposed_and_done_when_a_second_person_agrees(cases, postgres):
    async with cases.client_as("reviewer") as client:
        page = await text_of(await client.get(f"{BASE}/1"))
        form = {"action": "strike", "case": "1", "reason": "刷票", **shown_in(page, "strike")}
        answer = await client.post(f"{BASE}/decide", form)
        assert answer.headers["Location"] == "/proposals/1?said=proposed"
        assert await cases.poll.states() == [State.COUNTED] * 60
        own = await text_of(await client.get("/proposals/1"))
        assert "须由另一人同意" in own
        assert "/approve" not in own
        assert (await client.post("/proposals/1/approve", {"shown": "x"})).status == 409
        assert "提议 1 待复核" in await text_of(await client.get(BASE))
    async with cases.client_as("reviewer") as second:
        page = await text_of(await second.get("/proposals/1"))
        assert "−18" in page
        shown = re.search(r'name="shown" value="([0-9a-f]+)"', page)[1]
        answer = await second.post("/proposals/1/approve", {"shown": shown})
        assert answer.headers["Location"] == "/proposals/1?said=proposal-approved"
        assert (await cases.poll.states())[30:48] == [State.STRUCK] * 18
        case = await text_of(await second.get(f"{BASE}/1"))
        assert f"{client.staff.name} 提议，{second.staff.name} 同意" in case
        # It is not settled once more.
        assert (await second.post("/proposals/1/approve", {"shown": shown})).status == 409
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 1


async def test_nobody_agrees_with_themselves_in_another_browser(cases, postgres):
    li = await cases.add_staff("reviewer", "li")
    async with cases.client_as(li) as one, cases.client_as(li) as other:
        page = await text_of(await one.get(f"{BASE}/1"))
        form = {"action": "strike", "case": "1", "reason": "x", **shown_in(page, "strike")}
        await one.post(f"{BASE}/decide", form)
        page = await text_of(await one.get("/proposals/1"))
        answer = await other.post("/proposals/1/approve", {"shown": "x"})
        assert answer.status == 409
        assert "须由另一人同意" in await text_of(answer)
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0


async def test_what_two_struck_is_brought_back_by_a_proposal_only(cases, postgres):
    await decide(postgres, Case(1), Action.STRIKE, by="王老师", reason="x")
    async with cases.client_as("reviewer") as client:
        page = await text_of(await client.get(f"{BASE}/1"))
        form = {"action": "release", "case": "1", "reason": "误判", **shown_in(page, "release")}
        answer = await client.post(f"{BASE}/decide", form)
    assert answer.headers["Location"] == "/proposals/1?said=proposed"
    assert (await cases.poll.states())[30:48] == [State.STRUCK] * 18


@pytest.mark.parametrize("action", ["hold", "strike"])
async def test_what_was_not_shown_is_shown_again_and_not_done(cases, poll, postgres, action):
    async with cases.client_as("reviewer") as client:
        page = await text_of(await client.get(f"{BASE}/1"))
        more = await poll.add(counted(12, 2, seed=3))
        await poll.flag([*range(30, 48), *more])
        form = {"action": action, "case": "1", "reason": "我的理由", **shown_in(page, action)}
        answer = await client.post(f"{BASE}/decide", form)
        again = await text_of(answer)
        assert answer.status == 409
        assert "情况有变" in again
        assert "我的理由" in again, "nobody writes it twice"
        assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0
        assert await postgres.fetchval("SELECT count(*) FROM proposals") == 0
        answer = await client.post(f"{BASE}/decide", form | shown_in(again, action))
        assert answer.status == 303


async def test_a_proposal_whose_case_grew_says_so_and_wants_a_look(cases, poll, postgres):
    campaign = await read_campaign(postgres, "spring")
    li = await cases.add_staff("reviewer")
    content = content_of(campaign, [1], Action.STRIKE)
    await propose(postgres, "decide", campaign=1, content=content, reason="x", by=li.number)
    async with cases.client_as("reviewer") as client:
        before = await text_of(await client.get("/proposals/1"))
        assert "提议之后情况有变" not in before
        shown = re.search(r'name="shown" value="([0-9a-f]+)"', before)[1]
        more = await poll.add(counted(12, 2, seed=3))
        await poll.flag([*range(30, 48), *more])
        answer = await client.post("/proposals/1/approve", {"shown": shown})
        text = await text_of(answer)
        assert answer.status == 409
        assert "当时共 18 票、变动 18 票，现在共 30 票、变动 30 票" in text
        assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0
        shown = re.search(r'name="shown" value="([0-9a-f]+)"', text)[1]
        assert (await client.post("/proposals/1/approve", {"shown": shown})).status == 303


async def test_several_cases_are_shown_first_and_then_decided_together(cases, postgres):
    async with cases.client_as("reviewer") as client:
        page = await text_of(await client.get(f"{BASE}/preview?action=hold&case=1&case=2&case=2"))
        assert "搁置：2 个案卷，23 票" in page
        assert "20 → 2" in page, "likes of the second candidate"
        assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0
        form = [("action", "hold"), ("case", "1"), ("case", "2"), ("reason", "一起"),
                *shown_in(page, "hold").items()]  # fmt: skip
        answer = await client.post(f"{BASE}/decide", form)
        assert answer.headers["Location"] == f"{BASE}?said=case-held"
    rows = await postgres.fetch("SELECT flag, votes, moved FROM decisions ORDER BY flag")
    assert [tuple(row) for row in rows] == [(1, 18, 18), (2, 5, 5)]


async def test_more_cases_than_are_decided_together_are_refused(cases):
    async with cases.client_as("reviewer") as client:
        asked = "&".join(f"case={n}" for n in range(1, 60))
        assert (await client.get(f"{BASE}/preview?action=hold&{asked}")).status == 422
        form = [("action", "hold"), ("reason", "x"), *(("case", str(n)) for n in range(1, 60))]
        assert (await client.post(f"{BASE}/decide", form)).status == 409


async def test_without_a_reason_nothing_is_decided(cases, postgres):
    async with cases.client_as("reviewer") as client:
        for reason in ("", "   "):
            form = {"action": "hold", "case": "1", "reason": reason}
            answer = await client.post(f"{BASE}/decide", form)
            assert answer.status in (303, 422)
        assert (
            await client.post(
                f"{BASE}/decide", {"action": "hold", "case": "1", "reason": "长" * 2_001}
            )
        ).status == 422
        assert (
            await client.post(f"{BASE}/decide", {"action": "burn", "case": "1", "reason": "x"})
        ).status == 422
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0


@pytest.mark.parametrize("role", ["viewer", "office"])
async def test_who_looks_on_decides_comments_and_settles_nothing(cases, postgres, role):
    async with cases.client_as(role) as client:
        for path, form in (
            (f"{BASE}/decide", {"action": "hold", "case": "1", "reason": "x"}),
            (f"{BASE}/1/comments", {"text": "x"}),
            ("/proposals/1/approve", {"shown": ""}),
            ("/proposals/1/reject", {"reason": "x"}),
            ("/proposals/1/withdraw", {}),
        ):
            assert (await client.post(path, form)).status == 403
    assert await cases.poll.states() == [State.COUNTED] * 60
    if role == "viewer":
        async with cases.client_as(role) as client:
            assert 'name="action"' not in await text_of(await client.get(f"{BASE}/1"))


# Texts of people.


async def test_html_in_what_people_write_stays_text(cases, poll, postgres):
    await postgres.execute("UPDATE candidates SET name = $1 WHERE number = 2", HTML)
    await postgres.execute("UPDATE staff SET shown_as = $1", HTML)
    li = await cases.add_staff("reviewer", shown_as=HTML)
    campaign = await read_campaign(postgres, "spring")
    await decide(postgres, Case(1), Action.HOLD, by=HTML[:100], reason=HTML)
    content = content_of(campaign, [1], Action.STRIKE)
    await propose(postgres, "decide", campaign=1, content=content, reason=HTML, by=li.number)
    async with cases.client_as("admin") as client:
        assert (await client.post(f"{BASE}/1/comments", {"text": HTML})).status == 303
        for path in (
            f"{BASE}?show=all",
            f"{BASE}?candidate={HTML}",
            f"{BASE}/1",
            f"{BASE}/preview?action=strike&case=1",
            "/proposals",
            "/proposals/1",
        ):
            raw = await (await client.get(path)).text()
            assert "<script>alert" not in raw, path
            assert "<img src=x" not in raw, path
        assert "&lt;script&gt;" in raw
        answer = await client.post("/proposals/1/reject", {"reason": HTML})
        raw = await (await client.get(answer.headers["Location"])).text()
        assert "<script>alert" not in raw


async def test_comments_are_shown_audited_and_bounded(cases, postgres):
    async with cases.client_as("reviewer") as client:
        await client.post(f"{BASE}/1/comments", {"text": "已与学校核对"})
        page = await text_of(await client.get(f"{BASE}/1"))
        assert "已与学校核对" in page
        assert client.staff.shown_as in page
        for text in ("", "  "):
            answer = await client.post(f"{BASE}/1/comments", {"text": text})
            assert answer.status in (303, 422)
        assert (await client.post(f"{BASE}/1/comments", {"text": "长" * 2_001})).status == 422
        await client.post(f"{BASE}/99/comments", {"text": "x"})
    assert await postgres.fetchval("SELECT count(*) FROM comments") == 1
    row = await postgres.fetchrow("SELECT action, subject FROM audit_log")
    assert tuple(row) == ("case.comment", "flag 1")


async def test_proposals_are_listed_refused_and_taken_back(cases, postgres):
    campaign = await read_campaign(postgres, "spring")
    li = await cases.add_staff("reviewer")
    for case in (1, 2):
        await propose(
            postgres, "decide", campaign=1, content=content_of(campaign, [case], Action.STRIKE),
            reason=f"案 {case}", by=li.number,
        )  # fmt: skip
    async with cases.client_as("admin") as client:
        text = await text_of(await client.get("/proposals"))
        assert "剔除案卷 #1 的 18 票" in text
        assert "剔除案卷 #2 的 5 票" in text
        answer = await client.post("/proposals/1/reject", {"reason": "  "})
        assert answer.status == 409
        assert "请填写理由" in await text_of(answer)
        answer = await client.post("/proposals/1/reject", {"reason": "证据不足"})
        assert answer.status == 303
        assert (await client.post("/proposals/2/withdraw")).status == 403
    async with cases.client_as(li) as client:
        assert (await client.post("/proposals/2/withdraw")).status == 303
        text = await text_of(await client.get("/proposals?show=settled"))
        assert "已驳回" not in await text_of(await client.get("/proposals"))
        assert "已驳回" in text
        assert "已撤回" in text
        assert "证据不足" in await text_of(await client.get("/proposals/1"))
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0


async def test_bytes_that_no_database_takes_are_bad_input_and_no_error_of_ours(cases, postgres):
    async with cases.client_as("admin") as client:
        page = await text_of(await client.get(f"{BASE}/1"))
        for path, form in (
            (f"{BASE}/decide", {"action": "hold", "case": "1", "reason": "a\0b"}),
            (f"{BASE}/decide", {"action": "strike", "case": "1", "reason": "a\0b"}),
            (f"{BASE}/1/comments", {"text": "a\0b"}),
            ("/campaigns/spring/objections", {"received_from": "a\0", "text": "b\0"}),
        ):
            shown = shown_in(page, form["action"]) if "action" in form else {}
            answer = await client.post(path, {**form, **shown})
            assert answer.status in (303, 400, 422), path
        assert (await client.post("/proposals/1/reject", {"reason": "a\0b"})).status < 500
        assert (await client.get(f"{BASE}?candidate=%00&rule=%00")).status == 200
        assert (await client.get("/campaigns/sp%00ring/flags")).status in (400, 404)


UNSEEN = "写了很久\u202e的理由"


async def test_a_decision_whose_reason_cannot_be_seen_is_not_taken_and_nothing_typed_is_lost(
    cases, postgres
):
    async with cases.client_as("reviewer") as client:
        for action in ("hold", "strike"):
            shown = shown_in(await text_of(await client.get(f"{BASE}/1")), action)
            form = {"action": action, "case": "1", **shown, "reason": UNSEEN}
            answer = await client.post(f"{BASE}/decide", form)
            text = await text_of(answer)
            assert answer.status == 422
            assert "看不见的字符（U+202E）" in text
            assert f">{UNSEEN}</textarea>" in text
            assert shown_in(text, action) == shown, "the same form, to be sent again"
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0
    assert await postgres.fetchval("SELECT count(*) FROM proposals") == 0


async def test_a_comment_that_cannot_be_seen_is_refused_and_stands_in_the_form_still(
    cases, postgres
):
    async with cases.client_as("reviewer") as client:
        answer = await client.post(f"{BASE}/1/comments", {"text": UNSEEN})
        text = await text_of(answer)
        assert answer.status == 422
        assert "看不见的字符（U+202E）" in text
        assert f">{UNSEEN}</textarea>" in text
        # A line's end counts as one in the field, and comes as two.
        await client.post(f"{BASE}/1/comments", {"text": "行\r\n" * 900 + "完"})
    assert await postgres.fetchval("SELECT text FROM comments") == "行\n" * 900 + "完"


async def test_a_refusal_that_cannot_be_seen_is_not_recorded_and_stands_in_the_form_still(
    cases, postgres
):
    campaign = await read_campaign(postgres, "spring")
    content = content_of(campaign, [1], Action.STRIKE)
    li = await cases.add_staff("reviewer")
    await propose(postgres, "decide", campaign=1, content=content, reason="x", by=li.number)
    async with cases.client_as("reviewer") as client:
        answer = await client.post("/proposals/1/reject", {"reason": UNSEEN})
        text = await text_of(answer)
        assert answer.status == 409
        assert "看不见的字符（U+202E）" in text
        assert f">{UNSEEN}</textarea>" in text
    assert await postgres.fetchval("SELECT state FROM proposals") == "open"


@pytest.mark.parametrize(
    ("language", "said"), [("zh", "须由其他人同意"), ("en", "somebody else has to agree")]
)
async def test_who_made_the_others_account_is_told_that_somebody_else_has_to_agree(
    cases, postgres, language, said
):
    campaign = await read_campaign(postgres, "spring")
    content = content_of(campaign, [1], Action.STRIKE)
    async with cases.client_as("admin", **{"Accept-Language": language}) as client:
        me = client.staff
        made = await staff.add(postgres, "zhao", "admin", by=staff.By(me.name, "admin"))
        await propose(postgres, "decide", campaign=1, content=content, reason="x", by=made.number)
        shown = re.search(
            r'name="shown" value="([0-9a-f]*)"', await text_of(await client.get("/proposals/1"))
        )
        answer = await client.post("/proposals/1/approve", {"shown": shown[1]})
        assert answer.status == 409
        text = await text_of(answer)
    assert said in text
    assert "7 " in text
