"""A public notice is put up by two persons, word for word as they saw it, and stays as it was."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tally import audit, proposals
from tally.campaigns.campaign_changes import Change, apply
from tally.campaigns.notice import Fields, read_facts
from tally.campaigns.notice_proposals import (
    content_of,
    content_of_withdrawal,
    list_put_up,
    notice_of,
    sha256_of,
)
from tally.holds import Action, Case, decide
from tally.proposal_kinds import CannotBeDone
from tally.proposals import (
    Outcome,
    approve,
    list_proposals,
    look_now,
    propose,
    read_proposal,
    reject,
    seen,
)
from tally.tallies import read_campaign
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.console import console  # noqa: F401  # a fixture
from tests.decided import Poll, counted
from tests.integration.conftest import running_edge
from tests.staff_members import add_person
from voting.campaign import microseconds
from voting.catalog import catalog_version, load_campaigns
from voting.changes import Kind
from voting.notices import notice_from_json, notice_to_json

SHANGHAI = ZoneInfo("Asia/Shanghai")
PAGE = "/campaigns/spring/notice"


def now_there():
    return datetime.now(SHANGHAI)


def fields(**values):
    today = now_there().date()
    return Fields(**{"issuer": "评选办公室", "contact": "张老师 010-1", "dated": today} | values)


class Office:
    """A campaign with votes, and the two who put notices up."""

    def __init__(self, postgres):
        self.postgres = postgres

    async def begun(self, *, rules=None, closed_for=timedelta(hours=2), struck=True, **columns):
        self.li = await add_person(self.postgres, "li")
        self.wang = await add_person(self.postgres, "wang", "admin")
        closes_at = datetime.now(UTC) - closed_for
        await add_campaign(
            self.postgres, "spring", rules=rules or {"counts": "live"}, closes_at=closes_at,
            opens_at=closes_at - timedelta(days=20), **columns,
        )  # fmt: skip
        self.poll = Poll(self.postgres, None)
        self.poll.builder.at_us = microseconds(min(closes_at, datetime.now(UTC))) - 60_000_000
        await self.poll.add([*counted(30, 1), *counted(20, 2), *counted(10, 3)])
        await self.all_is_in()
        await self.poll.flag(range(30, 48))
        await self.poll.flag(range(5))
        if struck:
            await decide(self.postgres, Case(1), Action.STRIKE, by="王", reason="x")
        return self

    async def all_is_in(self):
        """Nothing that was cast by now is missing in the database."""
        await self.postgres.execute("UPDATE watermarks SET at = now()")

    async def content(self, **values):
        facts = await read_facts(self.postgres, await read_campaign(self.postgres, "spring"))
        return content_of(facts, fields(**values), datetime.now(UTC))

    async def propose(self, content=None, by=None):
        answer = await propose(
            self.postgres, "notice", campaign=1, content=content or await self.content(),
            reason="核查已完成", by=by or self.li,
        )  # fmt: skip
        assert answer.done, answer
        return answer.number

    async def approve(self, number, by=None):
        shown = await look_now(self.postgres, await read_proposal(self.postgres, number))
        return await approve(self.postgres, number, by=by or self.wang, shown=seen(shown))

    async def put_up(self, **values):
        answer = await self.approve(await self.propose(await self.content(**values)))
        assert answer.done, answer
        return answer.said

    async def take_back(self, number, why="数据有误"):
        content = await content_of_withdrawal(self.postgres, "spring", number, why=why)
        return await self.approve(await self.propose(content))

    async def notices(self):
        return (await load_campaigns(self.postgres))["spring"].notices


@pytest.fixture
async def office(postgres):
    return await Office(postgres).begun()


# Two persons, one text.


async def test_what_is_put_up_is_the_text_that_both_saw(office, postgres):
    number = await office.propose()
    proposed = notice_of((await read_proposal(postgres, number)).content)
    version = await catalog_version(postgres)
    answer = await office.approve(number)
    assert (answer.outcome, answer.said) == (Outcome.DONE, "notice spring/1")
    (up,) = await office.notices()
    assert (up.number, up.notice) == (1, proposed)
    assert "剔除 18 票" in up.notice.as_text()
    assert await catalog_version(postgres) == version + 1
    row = await postgres.fetchrow("SELECT published_by, approved_by FROM notices")
    assert tuple(row) == ("li", "wang")
    told = [row async for row in audit.rows(postgres)][-2]
    assert (told.actor, told.action, told.subject) == ("li", "notice.put-up", "notice spring/1")
    said = json.loads(told.details)
    assert (said["approved_by"], said["sha256"]) == ("wang", sha256_of(proposed))
    assert (await audit.verify(postgres)).broken_at is None


async def test_nobody_puts_up_what_they_proposed_themselves(office, postgres):
    number = await office.propose()
    assert (await office.approve(number, by=office.li)).outcome is Outcome.OWN
    assert (await reject(postgres, number, by=office.wang, reason="再核对")).done
    assert (await office.approve(number)).outcome is Outcome.SETTLED
    assert await office.notices() == ()


@pytest.mark.parametrize("role", ["viewer", "office"])
async def test_who_looks_on_neither_proposes_nor_agrees(office, postgres, role):
    looker = await add_person(postgres, "looker", role)
    answer = await propose(
        postgres, "notice", campaign=1, content=await office.content(), reason="x", by=looker
    )
    assert answer.outcome is Outcome.NOT_ALLOWED
    number = await office.propose()
    assert (await office.approve(number, by=looker)).outcome is Outcome.NOT_ALLOWED


async def _decision(office):
    await decide(office.postgres, Case(2), Action.STRIKE, by="王", reason="x")


async def _hold(office):
    await decide(office.postgres, Case(2), Action.HOLD, by="王", reason="x")


async def _name(office):
    await office.postgres.execute("UPDATE candidates SET name = '改名' WHERE number = 2")


async def _withdrawal(office):
    await office.postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE number = 1")


async def _title(office):
    await office.postgres.execute("UPDATE campaigns SET title = '夏天的活动'")


@pytest.mark.parametrize("moved", [_decision, _hold, _name, _withdrawal, _title])
async def test_a_text_that_is_not_true_any_more_has_to_be_drafted_anew(office, postgres, moved):
    number = await office.propose()
    shown = seen(await look_now(postgres, await read_proposal(postgres, number)))
    await moved(office)
    answer = await approve(postgres, number, by=office.wang, shown=shown)
    assert (answer.outcome, "drafted anew" in answer.said) == (Outcome.IMPOSSIBLE, True)
    with pytest.raises(CannotBeDone, match="drafted anew"):
        await look_now(postgres, await read_proposal(postgres, number))
    assert await office.notices() == ()
    await office.put_up()
    assert len(await office.notices()) == 1


async def test_another_notice_put_up_meanwhile_is_looked_at_first(office, postgres):
    one, other = await office.propose(), await office.propose()
    shown = seen(await look_now(postgres, await read_proposal(postgres, other)))
    assert (await office.approve(one)).done
    answer = await approve(postgres, other, by=office.wang, shown=shown)
    assert answer.outcome is Outcome.GROUND_CHANGED
    assert (await office.approve(other)).said == "notice spring/2"


async def test_two_put_up_at_once_do_not_become_one(office, postgres, postgres_dsn):
    numbers = [await office.propose(), await office.propose()]
    shown = seen(await look_now(postgres, await read_proposal(postgres, numbers[0])))
    other = await asyncpg.connect(postgres_dsn)
    try:
        answers = await asyncio.gather(
            *(
                approve(connection, number, by=office.wang, shown=shown)
                for connection, number in zip((postgres, other), numbers, strict=True)
            )
        )
    finally:
        await other.close()
    # The text is the same; the second one's number is not the one that was shown any more.
    assert {answer.outcome for answer in answers} == {Outcome.DONE, Outcome.GROUND_CHANGED}
    assert len(await office.notices()) == 1


async def test_a_text_that_is_too_long_is_refused(office, postgres, monkeypatch):
    content = await office.content()
    monkeypatch.setattr(proposals, "CONTENT_BYTES_MAX", 500)
    answer = await propose(
        postgres, "notice", campaign=1, content=content, reason="x", by=office.li
    )
    assert (answer.outcome, "too large" in answer.said) == (Outcome.IMPOSSIBLE, True)


async def test_while_votes_come_in_a_notice_says_what_was_when_it_was_drafted(postgres):
    office = await Office(postgres).begun(closed_for=timedelta(days=-3))
    number = await office.propose()
    await office.poll.add(counted(50, 2, seed=9))
    assert (await office.approve(number)).done
    (up,) = await office.notices()
    assert up.notice.sums == (60, 18, 42)
    number = await office.propose()
    await decide(postgres, Case(2), Action.STRIKE, by="王", reason="x")
    with pytest.raises(CannotBeDone, match="drafted anew"):
        await office.approve(number)


@pytest.mark.parametrize("missing", [{"issuer": " "}, {"contact": ""}, {"dated": None}])
async def test_no_blank_is_put_up(office, missing):
    with pytest.raises(CannotBeDone, match="filled in first"):
        await office.content(**missing)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"issuer": "评\u202e选"}, r"U\+202E"),
        ({"contact": "长" * 121}, "too long"),
        ({"begins": datetime(2026, 1, 1).date(), "days": 5}, "over already"),
    ],
)
async def test_what_does_not_do_is_said(office, wrong, why):
    with pytest.raises(CannotBeDone, match=why):
        await office.content(**wrong)


async def test_votes_that_are_not_in_the_database_yet_are_waited_for(office, postgres):
    await postgres.execute("UPDATE watermarks SET at = $1", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(CannotBeDone, match="not in the database yet"):
        await office.content()


async def test_of_a_rehearsal_nothing_is_put_up(office, postgres):
    content = await office.content()
    await postgres.execute("UPDATE campaigns SET is_test = true")
    answer = await propose(
        postgres, "notice", campaign=1, content=content, reason="x", by=office.li
    )
    assert (answer.outcome, "rehearsal" in answer.said) == (Outcome.IMPOSSIBLE, True)


async def test_objections_are_told_of_by_number_alone(office, postgres):
    await postgres.execute(
        "INSERT INTO objections (campaign, received_from, text, entered_by, answer, answered_by,"
        " answered_at) VALUES (1, '刘某某', '票不对', 'li', '已复核', 'li', now()),"
        " (1, '赵某某', '票不对', 'li', NULL, NULL, NULL)"
    )
    await office.put_up()
    text = (await office.notices())[0].notice.as_text()
    assert "已收到异议 2 件，其中已答复 1 件" in text
    assert "某某" not in text


# What was put up stays.


async def test_a_notice_is_taken_back_by_a_further_one_and_once(office, postgres):
    await office.put_up()
    assert (await office.take_back(1)).said == "notice spring/2"
    first, second = await office.notices()
    assert (first.notice.withdraws, second.notice.withdraws) == (None, 1)
    text = second.notice.as_text()
    assert "第 1 号公告，自本公告发布之日起撤回" in text
    assert "撤回原因：数据有误" in text
    assert "18" not in text, "it says no number of the one that it takes back"
    for number in (1, 2, 7):
        with pytest.raises(CannotBeDone):
            await office.take_back(number)
    assert [(one.number, one.withdrawn) for one in await list_put_up(postgres, 1)] == [
        (2, False), (1, True),
    ]  # fmt: skip
    for action in [row.action async for row in audit.rows(postgres)][-2:-1]:
        assert action == "notice.withdrawn"


async def test_two_proposals_to_take_it_back_take_it_back_once(office, postgres):
    await office.put_up()
    content = await content_of_withdrawal(postgres, "spring", 1, why="数据有误")
    one, other = await office.propose(content), await office.propose(content)
    assert (await office.approve(one)).done
    with pytest.raises(CannotBeDone, match="already"):
        await office.approve(other)


@pytest.mark.parametrize(
    "statement", ["UPDATE notices SET at = now()", "DELETE FROM notices", "TRUNCATE notices"]
)
async def test_the_table_only_grows(office, postgres, statement):
    await office.put_up()
    with pytest.raises(asyncpg.PostgresError):
        await postgres.execute(statement)
    assert len(await office.notices()) == 1


async def test_what_is_stored_is_read_as_it_was(office):
    await office.put_up()
    (up,) = await office.notices()
    again = notice_from_json(json.loads(json.dumps(notice_to_json(up.notice))))
    assert again == up.notice


async def test_whoever_asked_for_news_is_told_without_a_number(office, postgres):
    await postgres.execute(
        "INSERT INTO destinations (shown_as, form, address, events, made_by)"
        " VALUES ('办公室', 'webhook', 'https://office.example.cn', '{notice}', 'li')"
    )
    await office.put_up()
    await office.take_back(1)
    rows = await postgres.fetch("SELECT subject, content FROM outbox ORDER BY subject")
    assert [row["subject"] for row in rows] == ["spring/1", "spring/2"]
    told = json.loads(rows[0]["content"])
    assert told["sha256"] == sha256_of((await office.notices())[0].notice)
    assert set(told) == {"campaign", "title", "number", "withdraws", "sha256", "at"}


# Counts stay blind.


def _clock(**shift):
    return (now_there() + timedelta(**shift)).strftime("%H:%M")


BLIND = {
    "staff, over": ({"counts": "staff"}, timedelta(hours=2), "staff alone"),
    "staff, open": ({"counts": "staff"}, timedelta(days=-3), "staff alone"),
    "after the close, open": ({"counts": "after-close"}, timedelta(days=-3), "from the close on"),
    "daily, open": ({"counts": "daily"}, timedelta(days=-3), "once a day"),
}


@pytest.mark.parametrize("case", BLIND)
async def test_a_notice_is_not_put_up_before_its_counts_are_public(postgres, case):
    rules, closed_for, why = BLIND[case]
    office = await Office(postgres).begun(rules=rules, closed_for=closed_for)
    with pytest.raises(CannotBeDone, match=why):
        await office.content()


async def test_where_counts_come_once_a_day_a_notice_waits_for_its_hour(postgres):
    # The hour before which it closed has not come yet.
    rules = {"counts": "daily", "counts_daily_at": _clock(hours=1)}
    office = await Office(postgres).begun(rules=rules, struck=False)
    with pytest.raises(CannotBeDone, match=f"once a day: these from .* {_clock(hours=1)} on"):
        await office.content()
    # It was an hour ago, and the close before it.
    rules = {"counts": "daily", "counts_daily_at": _clock(hours=-1)}
    await postgres.execute("UPDATE campaigns SET rules = $1", json.dumps(rules))
    await office.put_up()
    # A decision since is in no counts that the public saw.
    await decide(postgres, Case(1), Action.STRIKE, by="王", reason="x")
    with pytest.raises(CannotBeDone, match="once a day"):
        await office.content()


@pytest.mark.parametrize("counts", ["staff", "after-close", "daily"])
async def test_what_was_proposed_before_counts_were_hidden_is_refused_then(postgres, counts):
    office = await Office(postgres).begun(closed_for=timedelta(days=-3))
    number = await office.propose()
    shown = seen(await look_now(postgres, await read_proposal(postgres, number)))
    await _visibility(postgres, counts)
    answer = await approve(postgres, number, by=office.wang, shown=shown)
    assert (answer.outcome, "would show counts" in answer.said) == (Outcome.IMPOSSIBLE, True)
    assert await office.notices() == ()


async def test_a_notice_without_numbers_may_be_put_up_while_counts_are_hidden(office, postgres):
    await office.put_up()
    await _visibility(postgres, "staff")
    assert (await office.take_back(1)).done


async def _visibility(postgres, counts):
    change = Change(Kind.VISIBILITY, {"counts": counts, "counts_daily_at": _clock(hours=1),
                                      "order": "random"}, None, "原因")  # fmt: skip
    await apply(
        postgres, "spring", change, by="li", role="admin", made_from=None, approved_by="wang"
    )


# The public page.


@pytest.fixture
async def edge_of(tmp_path, valkey_url, postgres_dsn):
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        yield edge


async def read(edge, path=PAGE):
    async with edge.http.get(edge.url + path) as answer:
        return answer.status, await answer.text()


async def shown(edge, text, path=PAGE, seconds=5):
    """Within 2 s, and a busy machine's 3 more."""

    async def found():
        status, page = await read(edge, path)
        return status == 200 and text in page and page

    return await wait_until_async(found, seconds=seconds, what=f"{text!r} on {path}")


async def test_the_page_says_so_where_there_is_none(office, edge_of):
    await edge_of.wait_for_campaign("spring")
    status, page = await read(edge_of)
    assert (status, "本活动尚未发布公告" in page) == (200, True)
    for path in (f"{PAGE}/1", f"{PAGE}/0", f"{PAGE}/01", f"{PAGE}/x", "/campaigns/winter/notice"):
        assert (await read(edge_of, path))[0] == 404, path


async def test_an_edge_shows_it_within_seconds_and_older_ones_stay(office, edge_of):
    await edge_of.wait_for_campaign("spring")
    await office.put_up(title="第一份公告")
    page = await shown(edge_of, "第一份公告")
    for said in (
        "剔除 18 票", "第 2 名 → 第 3 名", "评选办公室", "张老师 010-1", "如何提出异议",
        "进行中", '"og:title" content="第一份公告"', '"og:type" content="article"',
    ):  # fmt: skip
        assert said in page, said
    await office.put_up(title="第二份公告")
    page = await shown(edge_of, "第二份公告")
    assert "第一份公告" in page, "in the list"
    old = await shown(edge_of, "取代", f"{PAGE}/1")
    assert "第一份公告" in old
    assert "第 2 号公告</a>取代" in old
    assert 'content="noindex"' in old
    assert (await office.take_back(2)).done
    page = await shown(edge_of, "撤回原因：数据有误")
    assert "已撤回" in page
    old = await shown(edge_of, "撤回，不再作为依据", f"{PAGE}/2")
    assert "第二份公告" in old, "what was taken back can be read"
    assert "第 3 号公告" in await shown(edge_of, "现行公告为", f"{PAGE}/1")


@pytest.mark.parametrize("counts", ["staff", "daily"])
async def test_a_notice_is_not_shown_while_the_counts_are_hidden(office, edge_of, postgres, counts):
    await edge_of.wait_for_campaign("spring")
    await office.put_up(title="第一份公告")
    await shown(edge_of, "剔除 18 票")
    await _visibility(postgres, counts)
    for path in (PAGE, f"{PAGE}/1"):
        page = await shown(edge_of, "公告全文暂不显示", path)
        assert "18" not in page.split("<main")[1].split("</main")[0]
        assert "第一份公告" not in page
    await _visibility(postgres, "after-close")
    assert "第一份公告" in await shown(edge_of, "剔除 18 票")


async def test_the_page_is_kept_short_and_compressed(office, edge_of):
    await edge_of.wait_for_campaign("spring")
    await office.put_up()
    await shown(edge_of, "剔除 18 票")
    async with edge_of.http.get(edge_of.url + PAGE, headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Cache-Control"].startswith("public, max-age=5")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        page = await answer.text()
    assert not re.search(r'(href|src|action)="/', page), "the edge may be mounted under a path"


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>{{7*7}}'


async def test_hostile_texts_are_shown_as_text_everywhere(postgres, edge_of, console):  # noqa: F811
    office = await Office(postgres).begun()
    await postgres.execute(
        "UPDATE candidates SET name = $1, organisation = $1 WHERE number = 2", HOSTILE[:50]
    )
    await postgres.execute("UPDATE campaigns SET title = $1", HOSTILE)
    await edge_of.wait_for_campaign("spring")
    await office.put_up(title=HOSTILE, issuer=HOSTILE, contact=HOSTILE)
    assert (await office.take_back(1, why=HOSTILE)).done
    pages = [await shown(edge_of, "&lt;script&gt;", path) for path in (PAGE, f"{PAGE}/1")]
    async with console.client_as("admin") as client:
        for path in (PAGE, "/proposals/1", "/proposals/2", "/proposals?show=settled", "/audit"):
            answer = await client.get(path)
            assert answer.status == 200
            pages.append(await answer.text())
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert ">49" not in page


# The console.


async def test_one_proposes_in_the_console_and_another_puts_it_up(office, postgres, console):  # noqa: F811
    today = now_there().date().isoformat()
    asked = {"issuer": "评选办公室", "contact": "010-1", "title": "", "days": "7", "dated": today}
    async with console.client_as("reviewer") as client:
        page = await (await client.get(PAGE)).text()
        assert "请先在上面填写" in page
        page = await (await client.get(PAGE, params=asked)).text()
        made_from = page.split('name="made_from" value="')[1].split('"')[0]
        form = asked | {"made_from": made_from, "reason": "核查已完成"}
        for wrong, said in (
            ({"reason": " "}, "请填写理由"),
            ({"issuer": " "}, "须先填写发布单位"),
            ({"made_from": "0" * 64}, "数据有变动"),
        ):
            answer = await client.post(PAGE, form | wrong)
            assert (answer.status, said in await answer.text()) == (409, True), said
        answer = await client.post(PAGE, form)
        assert answer.status == 303
        proposal = answer.headers["Location"].partition("?")[0]
        page = await (await client.get(proposal)).text()
        assert "剔除 18 票" in page
        assert "这是您本人的提议：须由另一人同意。" in page
        shown = (await look_now(postgres, (await list_proposals(postgres))[0])) or {}
        own = await client.post(f"{proposal}/approve", {"shown": seen(shown)})
        assert own.status == 409
    async with console.client_as("admin") as client:
        page = await (await client.get(proposal)).text()
        assert 'class="sheet"' in page
        form = {"shown": page.split('name="shown" value="')[1].split('"')[0]}
        answer = await client.post(f"{proposal}/approve", form)
        assert answer.status == 303
        assert "已发布为第 1 号公告" in await (await client.get(proposal)).text()
        page = await (await client.get(PAGE)).text()
        assert "已发布的公告" in page
        answer = await client.post(f"{PAGE}/1/withdraw", {"why": " "})
        assert (answer.status, "请写明撤回原因" in await answer.text()) == (409, True)
        assert (await client.post(f"{PAGE}/1/withdraw", {"why": "数据有误"})).status == 303
        assert (await client.post(f"{PAGE}/9/withdraw", {"why": "x"})).status == 409
    assert len(await office.notices()) == 1, "to take it back takes a second person too"


async def test_the_console_says_when_it_cannot_be_put_up_yet(postgres, console):  # noqa: F811
    await Office(postgres).begun(rules={"counts": "after-close"}, closed_for=timedelta(days=-3))
    async with console.client_as("reviewer") as client:
        page = await (await client.get(PAGE)).text()
        assert "现在不能发布：" in page
        assert "之后才公布" in page
        assert "提议发布</button>" not in page
    async with console.client_as("viewer") as client:
        page = await (await client.get(PAGE)).text()
        assert "现在不能发布：" not in page, "who only looks on puts nothing up"
