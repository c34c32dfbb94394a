"""Objections of the public notice period: written down, answered, kept, and names forgotten."""

import asyncio
import html
import json
import re

import asyncpg
import pytest

from tally import audit
from tally.campaigns import objections
from tally.campaigns.objections import Clerk, Refused
from tally.tallies import read_campaign
from tests.console import console  # noqa: F401  # a fixture
from tests.decided import counted

BASE = "/campaigns/spring/objections"
LI, OFFICE = Clerk("li", "reviewer"), Clerk("banwei", "office")


@pytest.fixture
async def campaign(poll, postgres):
    await poll.flag(await poll.add(counted(10)))
    return await read_campaign(postgres, "spring")


async def enter(postgres, campaign, **fields):
    return await objections.enter(
        postgres, campaign, **{"received_from": "王先生", "text": "请复核", "by": OFFICE, **fields}
    )


async def test_an_objection_waits_until_it_is_answered(campaign, postgres):
    number = await enter(postgres, campaign, candidate="c002", flag=1)
    one = await objections.read_objection(postgres, 1, number)
    assert (one.open, one.received_from, one.text) == (True, "王先生", "请复核")
    assert (one.candidate, one.flag, one.entered_by) == (2, 1, "banwei")
    assert await objections.counts(postgres, 1) == (1, 1)
    assert await objections.list_of_case(postgres, 1, 1) == [(number, False)]

    assert await objections.answer(postgres, campaign, number, text="已复核，无误。", by=LI) is None
    one = await objections.read_objection(postgres, 1, number)
    assert (one.open, one.answer, one.answered_by) == (False, "已复核，无误。", "li")
    assert await objections.counts(postgres, 1) == (1, 0)
    assert await objections.list_objections(postgres, 1) == []
    assert await objections.list_objections(postgres, 1, answered=True) == [one]


async def test_a_further_answer_stands_below_the_first_which_stays(campaign, postgres):
    number = await enter(postgres, campaign)
    await objections.answer(postgres, campaign, number, text="第一次答复", by=LI)
    await objections.answer(postgres, campaign, number, text="补充说明", by=OFFICE)
    one = await objections.read_objection(postgres, 1, number)
    assert re.fullmatch(r"第一次答复\n\n\[\d{4}-\d\d-\d\d banwei\]\n补充说明", one.answer)


async def test_two_who_answer_at_once_are_both_kept(campaign, postgres, postgres_dsn):
    number = await enter(postgres, campaign)
    others = [await asyncpg.connect(postgres_dsn) for _ in range(2)]
    try:
        await asyncio.gather(
            objections.answer(others[0], campaign, number, text="甲", by=LI),
            objections.answer(others[1], campaign, number, text="乙", by=OFFICE),
        )
    finally:
        for connection in others:
            await connection.close()
    answer = (await objections.read_objection(postgres, 1, number)).answer
    assert "甲" in answer
    assert "乙" in answer


async def test_the_audit_log_says_that_and_not_what(campaign, postgres):
    number = await enter(postgres, campaign, received_from="赵某某", text="我家的秘密")
    await objections.answer(postgres, campaign, number, text="答复赵某某", by=LI)
    await objections.forget_name(postgres, campaign, number, by=LI)
    rows = [row async for row in audit.rows(postgres)]
    assert [(row.actor, row.action) for row in rows] == [
        ("banwei", "objection.entered"),
        ("li", "objection.answered"),
        ("li", "objection.name-deleted"),
    ]
    assert {row.subject for row in rows} == {f"objection {number}"}
    assert not any("赵" in row.details or "秘密" in row.details for row in rows)
    assert len(json.loads(rows[0].details)["sha256"]) == 64


async def test_the_name_is_forgotten_after_the_answer_and_nothing_else(campaign, postgres):
    number = await enter(postgres, campaign)
    assert not await objections.forget_name(postgres, campaign, number, by=LI), "it waits still"
    await objections.answer(postgres, campaign, number, text="好", by=LI)
    assert await objections.forget_name(postgres, campaign, number, by=LI)
    one = await objections.read_objection(postgres, 1, number)
    assert (one.received_from, one.text, one.answer) == ("", "请复核", "好")
    assert not await objections.forget_name(postgres, campaign, number, by=LI), "only once"


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"received_from": "  "}, Refused.NO_NAME),
        ({"text": "\n"}, Refused.NO_TEXT),
        ({"text": "长" * 10_001}, Refused.TOO_LONG),
        ({"received_from": "长" * 201}, Refused.TOO_LONG),
        ({"candidate": "c999"}, Refused.UNKNOWN_CANDIDATE),
        ({"flag": 99}, Refused.UNKNOWN_FLAG),
        ({"received_from": "王\u202e先生"}, Refused.UNSEEN),
        ({"text": "第一行\n\a"}, Refused.UNSEEN),
    ],
)
async def test_what_makes_no_objection_is_refused_with_a_word(campaign, postgres, fields, refused):
    assert await enter(postgres, campaign, **fields) is refused
    assert await postgres.fetchval("SELECT count(*) FROM objections") == 0
    assert await postgres.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_there_is_an_end_to_how_many_and_how_long(campaign, postgres, monkeypatch):
    number = await enter(postgres, campaign)
    monkeypatch.setattr(objections, "OBJECTIONS_MAX", 1)
    assert await enter(postgres, campaign) is Refused.TOO_MANY
    monkeypatch.setattr(objections, "ANSWERS_CHARACTERS_MAX", 30)
    assert await objections.answer(postgres, campaign, number, text="好" * 20, by=LI) is None
    refused = await objections.answer(postgres, campaign, number, text="好" * 20, by=LI)
    assert refused is Refused.TOO_LONG


# The pages.


async def test_the_office_writes_one_down_and_a_reviewer_answers_it(console, campaign):  # noqa: F811
    async with console.client_as("office") as client:
        answer = await client.post(
            BASE,
            {"received_from": "王先生", "text": "为什么剔除？", "candidate": "2", "flag": "#1"},
        )
        assert answer.headers["Location"] == f"{BASE}/1?said=objection-entered"
        text = html.unescape(await (await client.get(BASE)).text())
        assert "为什么剔除？" in text
        assert "候选人2" in text
    async with console.client_as("reviewer") as client:
        case = html.unescape(await (await client.get("/campaigns/spring/flags/1")).text())
        assert f"{BASE}/1" in case, "the case names it"
        assert (await client.post(f"{BASE}/1/answer", {"text": " "})).status == 400
        answer = await client.post(f"{BASE}/1/answer", {"text": "见公告第二节。"})
        assert answer.headers["Location"] == f"{BASE}/1?said=objection-answered"
        text = html.unescape(await (await client.get(f"{BASE}/1")).text())
        assert "见公告第二节。" in text
        assert "/forget" not in text
        assert (await client.post(f"{BASE}/1/forget")).status == 403
    async with console.client_as("admin") as client:
        assert (await client.post(f"{BASE}/1/forget")).status == 303
        assert "王先生" not in await (await client.get(f"{BASE}/1")).text()
        assert (await client.post(f"{BASE}/1/forget")).status == 409


async def test_who_only_looks_on_sees_no_names_of_people_outside(console, campaign, postgres):  # noqa: F811
    await enter(postgres, campaign, flag=1)
    async with console.client_as("viewer") as client:
        for path in (BASE, f"{BASE}/1"):
            assert (await client.get(path)).status == 403
        assert "objections/1" not in await (await client.get("/campaigns/spring/flags/1")).text()


async def test_what_was_refused_stands_in_the_form_still(console, campaign, postgres):  # noqa: F811
    async with console.client_as("reviewer") as client:
        for wrong in ({"candidate": "c999"}, {"flag": "99"}, {"flag": "9" * 12}, {"flag": "x"}):
            answer = await client.post(
                BASE, {"received_from": "王先生", "text": "<b>写了很久</b>", **wrong}
            )
            text = await answer.text()
            assert answer.status == 400
            assert "&lt;b&gt;写了很久" in text
    assert await postgres.fetchval("SELECT count(*) FROM objections") == 0


async def test_what_cannot_be_seen_is_named_and_what_was_typed_stands_in_the_form_still(
    console,  # noqa: F811
    campaign,
    postgres,
):
    await enter(postgres, campaign)
    async with console.client_as("reviewer") as client:
        for path, typed in (
            (BASE, {"received_from": "王\u202e先生", "text": "写了很久"}),
            (BASE, {"received_from": "王先生", "text": "写了\u202e很久"}),
            (f"{BASE}/1/answer", {"text": "写了\u202e很久"}),
        ):
            answer = await client.post(path, typed)
            text = await answer.text()
            assert answer.status == 400
            assert "看不见的字符（U+202E）" in text
            for each in typed.values():
                assert each in text
    assert await postgres.fetchval("SELECT count(*) FROM objections WHERE answer IS NULL") == 1


async def test_html_in_an_objection_stays_text(console, campaign, postgres):  # noqa: F811
    bad = "<script>alert(1)</script>"
    number = await enter(postgres, campaign, received_from=bad, text=bad)
    await objections.answer(postgres, campaign, number, text=bad, by=LI)
    async with console.client_as("admin") as client:
        for path in (f"{BASE}?show=answered", f"{BASE}/{number}"):
            assert bad not in await (await client.get(path)).text()


async def test_an_objection_of_another_campaign_is_not_found(console, campaign, postgres):  # noqa: F811
    from tests.campaigns import add_campaign

    await add_campaign(postgres, "autumn")
    await enter(postgres, campaign)
    async with console.client_as("admin") as client:
        assert (await client.get("/campaigns/autumn/objections/1")).status == 404
        answer = await client.post("/campaigns/autumn/objections/1/answer", {"text": "x"})
        assert answer.status == 404
        assert (await client.get(f"{BASE}/2147483648")).status in (404, 422)
        assert (await client.get("/objections/1")).headers["Location"] == f"{BASE}/1"
        assert (await client.get("/objections")).headers["Location"].endswith("/objections")
        assert (await client.get("/objections/9")).status == 404
