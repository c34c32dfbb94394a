"""The public notice: its numbers are the database's, and the same database gives the same text."""

import hashlib
import html
from datetime import UTC, date, datetime, timedelta

import pytest

from antifraud.flags import KIND_NATS
from antifraud.heuristics import RULES_VERSION
from tally.campaigns import notice
from tally.campaigns.notice import Fields, copy_struck, draft, read_facts
from tally.holds import Action, Case, Decider, decide
from tally.tallies import read_campaign
from tests.campaigns import add_campaign
from tests.console import console  # noqa: F401  # a fixture
from tests.decided import Poll, counted
from voting.campaign import microseconds

BASE = "/campaigns/spring/notice"
FIELDS = Fields(
    issuer="评选办公室", contact="张老师 010-1", begins=date(2026, 8, 1), days=7,
    dated=date(2026, 7, 31),
)  # fmt: skip


@pytest.fixture
async def struck(poll, postgres):
    """18 of 20 votes for c002 struck by two, 5 of 30 for c001 struck by a command, 2 held."""
    await poll.add([*counted(30, 1), *counted(20, 2), *counted(10, 3)])
    await poll.flag(range(30, 48), kinds=("client", "dwell"))
    await poll.flag(range(5), kinds=("age",))
    await poll.flag(range(50, 52))
    await decide(postgres, Case(1), Action.STRIKE, by=Decider("li", "reviewer", "wang"), reason="x")
    await decide(postgres, Case(2), Action.STRIKE, by="王老师", reason="x")
    await decide(postgres, Case(3), Action.HOLD, by="王老师", reason="x")
    return poll


async def facts_of(postgres, campaign="spring"):
    return await read_facts(postgres, await read_campaign(postgres, campaign))


async def test_numbers_before_and_after_are_those_of_the_tallies(struck, postgres):
    facts = await facts_of(postgres)
    assert (facts.before, facts.struck, facts.counted, facts.held) == (58, 23, 35, 2)
    assert [
        (one.number, one.before, one.struck, one.after, one.place_before, one.place_after)
        for one in facts.concerned
    ] == [(1, 30, 5, 25, 1, 1), (2, 20, 18, 2, 2, 3)]
    assert facts.moved == 1, "the third candidate's place, though no vote of theirs was struck"
    assert (facts.decisions, facts.cases, facts.persons) == (2, 2, 3)
    assert not facts.by_two, "one of them was decided by a command"
    assert facts.kinds == ("client", "dwell", "age")


async def test_the_text_says_all_of_it(struck, postgres):
    text = draft(await facts_of(postgres), FIELDS).as_text()
    for said in (
        "关于“春天的活动”网络点赞异常票核查情况的公告",
        "核查前有效点赞 58 票，剔除 23 票，核查后 35 票",
        "另有 2 票仍在核查",
        "共 2 项决定，涉及 2 组异常票，由 3 名工作人员作出。",
        "2\t候选人2（所）\t20\t18\t2\t第 2 名 → 第 3 名",
        "\t全部候选人合计\t58\t23\t35",
        "公示期为 2026 年 8 月 1 日至2026 年 8 月 7 日，共 7 天",
        "张老师 010-1",
        f"判票规则第 {RULES_VERSION} 版，检测规则第 1 版",
    ):
        assert said in text, said
    assert text.endswith("　　评选办公室\n　　2026 年 7 月 31 日\n")
    assert "王老师" not in text, "how many decided, not who"


async def test_the_same_database_gives_the_same_text(struck, postgres):
    texts = {draft(await facts_of(postgres), FIELDS).as_text() for _ in range(3)}
    assert len(texts) == 1
    # And without any field: nothing of it is the day on which somebody asks.
    texts = {draft(await facts_of(postgres), Fields()).as_text() for _ in range(2)}
    assert len(texts) == 1


async def test_two_persons_are_told_of_where_it_was_two_each_time(struck, postgres):
    await decide(postgres, Case(2), Action.RELEASE, by="王老师", reason="x")
    facts = await facts_of(postgres)
    assert (facts.by_two, facts.persons, facts.kinds) == (True, 2, ("client", "dwell"))
    text = draft(facts, FIELDS).as_text()
    assert "由 2 名工作人员作出，每一项均由一人提出、另一人复核同意" in text


async def test_what_was_brought_back_is_in_no_notice(struck, postgres):
    for case in (1, 2):
        await decide(postgres, Case(case), Action.RELEASE, by="王老师", reason="x")
    facts = await facts_of(postgres)
    assert (facts.concerned, facts.struck, facts.decisions) == ((), 0, 0)
    text = draft(facts, FIELDS).as_text()
    assert "没有剔除任何一票" in text
    assert "剔除清单为空" in text


async def test_the_cut_off_is_the_close_once_nothing_before_it_is_missing(postgres):
    closes_at = datetime(2026, 7, 31, 16, 0, tzinfo=UTC)
    await add_campaign(
        postgres, "spring", closes_at=closes_at, opens_at=closes_at - timedelta(days=31)
    )
    poll = Poll(postgres, None)
    poll.builder.at_us = microseconds(closes_at) - 10_000_000
    await poll.add(counted(5))
    text = draft(await facts_of(postgres), Fields()).as_text()
    assert "正在进行。本公告所列数据截至 2026 年 7 月 31 日 23:59。" in text
    await postgres.execute("UPDATE watermarks SET at = $1", closes_at + timedelta(seconds=3))
    text = draft(await facts_of(postgres), Fields()).as_text()
    assert "已于 2026 年 8 月 1 日 00:00 截止。" in text


async def test_a_withdrawn_candidate_has_no_place(struck, postgres):
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE number = 2")
    facts = await facts_of(postgres)
    assert [(one.number, one.place_before) for one in facts.concerned] == [(1, 1), (2, 0)]
    assert "已退出" in draft(facts, FIELDS).as_text()


# The list.


async def test_the_hash_is_of_the_list_that_can_be_had(struck, postgres):
    campaign = await read_campaign(postgres, "spring")
    facts = await read_facts(postgres, campaign)
    pieces = []

    async def take(piece):
        pieces.append(piece)

    await copy_struck(postgres, campaign, take)
    listed = b"".join(pieces)
    assert hashlib.sha256(listed).hexdigest() == facts.list_sha256
    assert facts.list_sha256 in draft(facts, FIELDS).as_text()
    header, *rows = listed.decode().splitlines()
    assert header == notice.LIST_HEADER
    assert rows == [
        *(f"2026-07-05,0,1,{seq},1,2" for seq in range(1, 6)),
        *(f"2026-07-05,0,1,{seq},2,1" for seq in range(31, 49)),
    ]


async def test_the_list_is_another_after_the_next_decision(struck, postgres):
    first = (await facts_of(postgres)).list_sha256
    assert (await facts_of(postgres)).list_sha256 == first
    await decide(postgres, Case(3), Action.STRIKE, by="王老师", reason="x")
    second = (await facts_of(postgres)).list_sha256
    assert second != first
    await decide(postgres, Case(3), Action.RELEASE, by="王老师", reason="x")
    assert (await facts_of(postgres)).list_sha256 == first


async def test_votes_of_another_campaign_are_in_no_list_of_this_one(struck, postgres):
    await add_campaign(postgres, "autumn")
    facts = await facts_of(postgres, "autumn")
    assert (facts.struck, facts.decisions, facts.concerned) == (0, 0, ())


# Texts of people.


async def test_a_title_with_quotes_is_quoted_within_quotes(struck, postgres):
    await postgres.execute("UPDATE campaigns SET title = '“最美科技工作者”网络点赞'")
    made = draft(await facts_of(postgres), FIELDS)
    assert made.title == "关于“‘最美科技工作者’网络点赞”异常票核查情况的公告"


def test_every_kind_of_evidence_has_its_words_for_the_public():
    assert notice._KINDS.keys() == KIND_NATS.keys()


async def test_the_page_prints_a_sheet_with_what_was_filled_in(struck, console):  # noqa: F811
    asked = {
        "issuer": "评选办公室", "contact": "<b>张</b>", "begins": "2026-08-01", "days": "7",
        "dated": "2026-07-31",
    }  # fmt: skip
    async with console.client_as("office") as client:
        answer = await client.get(BASE, params=asked)
        raw = await answer.text()
        assert answer.status == 200
        assert "<b>张" not in raw
        text = html.unescape(raw)
        assert "<b>张</b>" in text
        assert "第 2 名 → 第 3 名" in text
        assert 'class="sheet"' in text
        plain = await (await client.get(f"{BASE}.txt", params=asked)).text()
        assert plain.startswith("关于“春天的活动”网络点赞异常票核查情况的公告\n")
        assert "<b>张</b>" in plain
        listed = await client.get(f"{BASE}/struck.csv")
        assert listed.headers["Content-Type"].startswith("text/csv")
        assert hashlib.sha256((await listed.text()).encode()).hexdigest() in plain


@pytest.mark.parametrize(
    "asked", [{"days": "0"}, {"days": "61"}, {"issuer": "长" * 121}, {"days": "x"}]
)
async def test_fields_out_of_bounds_are_refused(struck, console, asked):  # noqa: F811
    async with console.client_as("admin") as client:
        assert (await client.get(BASE, params=asked)).status == 422
        assert (await client.get(BASE, params={"begins": "31.7."})).status == 200


async def test_who_only_looks_on_has_the_notice_and_not_the_list(struck, console):  # noqa: F811
    async with console.client_as("viewer") as client:
        assert (await client.get(BASE)).status == 200
        assert (await client.get(f"{BASE}/struck.csv")).status == 403
        assert (await client.get("/campaigns/winter/notice")).status == 404
