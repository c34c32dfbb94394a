"""The public rules page, and the changes that it and the campaign's data tell of."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tally.campaigns.campaign_changes import Change, apply
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from voting.campaign import (
    Campaign,
    Limits,
    Order,
    Rules,
    Visibility,
    VotingWindow,
    microseconds,
)
from voting.catalog import load_campaigns
from voting.changes import _SHOWN_IN_PUBLIC, STAFF_ONLY, Kind
from voting.edge.site.render import fill
from voting.edge.site.rules import _FIELDS, _KINDS, rules_in_words, values


async def make(connection, kind, values=None, candidate=None, reason="有原因"):
    return await apply(
        connection,
        "spring",
        Change(kind, values or {}, candidate, reason),
        by="staff-member",
        role="admin",
        made_from=None,
        approved_by="wang",
    )


def render(campaign, now):
    return fill(
        "rules.html", root="../../", campaign=campaign, **values(campaign, microseconds(now))
    )


async def fetch(edge, path):
    async with edge.http.get(edge.url + path) as answer:
        return answer, (await answer.read()).decode()


async def test_the_rules_page_says_the_rules_in_force_and_what_was_changed(edge, postgres):
    answer, page = await fetch(edge, "/campaigns/spring/rules")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "每台设备每天最多为 3 位候选人点赞。" in page
    assert "点赞数实时公布。" in page
    assert "规则与名单自活动开始后没有变更。" in page
    values = {
        "likes_per_candidate_per_day": "2",
        "candidates_per_day": "0",
        "likes_per_campaign": "9",
    }
    await make(postgres, Kind.QUOTA, values, reason="主办方调整")
    await make(postgres, Kind.CANDIDATE_WITHDRAWN, candidate="c002", reason="本人申请")
    await make(postgres, Kind.PAUSED, reason="机房检修，约一小时")

    async def shown():
        return "暂停中" in (await fetch(edge, "/campaigns/spring/rules"))[1]

    await wait_until_async(shown, seconds=2, what="the changes on the page")
    _, page = await fetch(edge, "/campaigns/spring/rules")
    _, card = await fetch(edge, "/embed/v1/card/spring/c001")
    assert "点赞暂停中：机房检修，约一小时" in card
    status, told = await edge.like(await edge.token())
    assert (status, told["outcome"], told["detail"]) == (403, "paused", "机房检修，约一小时")
    for text in (
        "每台设备每天可为同一位候选人点赞 2 次。",
        "活动期间每台设备最多点赞 9 次。",
        "点赞暂停中：机房检修，约一小时",
        "每天人数：3 → 不限",
        "候选人退出</b> 候选人2（c002）",
        "原因：本人申请",
    ):
        assert text in page, text
    assert page.index("机房检修") < page.index("本人申请") < page.index("主办方调整")


async def test_the_campaigns_data_tell_the_changes_the_newest_first(edge, postgres):
    _, body = await fetch(edge, "/v1/campaigns/spring")
    assert (json.loads(body)["changes"], json.loads(body)["changes_in_all"]) == ([], 0)
    assert json.loads(body)["paused_because"] is None
    await make(postgres, Kind.CANDIDATE_CORRECTED, {"name": "改名", "summary": "改过"}, "c001")
    await make(postgres, Kind.PAUSED, reason="检修")

    async def told():
        return json.loads((await fetch(edge, "/v1/campaigns/spring"))[1])["changes_in_all"] == 2

    await wait_until_async(told, seconds=2, what="the changes in the campaign's data")
    campaign = json.loads((await fetch(edge, "/v1/campaigns/spring"))[1])
    assert (campaign["paused"], campaign["paused_because"]) == (True, "检修")
    paused, corrected = campaign["changes"]
    assert (paused["kind"], paused["reason"], paused["candidate"]) == ("paused", "检修", None)
    assert corrected["fields"] == {
        "name": {"was": "候选人1", "became": "改名"},
        "summary": {"was": None, "became": None},
    }
    assert datetime.fromisoformat(paused["at"]).utcoffset() == timedelta(hours=8)
    # Who did it is nobody's business outside.
    assert "staff-member" not in json.dumps(campaign)


async def test_a_campaigns_data_stay_small_whatever_was_corrected(edge, postgres):
    await postgres.execute(
        "INSERT INTO campaign_changes SELECT n, now(), 1, 'candidate-corrected', 1, '{}', '{}',"
        " '更正', 'import', NULL, true FROM generate_series(1, 3000) AS n"
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def told():
        return json.loads((await fetch(edge, "/v1/campaigns/spring"))[1])["changes_in_all"] == 3000

    await wait_until_async(told, seconds=3, what="the changes in the campaign's data")
    assert len(json.loads((await fetch(edge, "/v1/campaigns/spring"))[1])["changes"]) == 100
    assert "另有更早的变更 1000 项。" in (await fetch(edge, "/campaigns/spring/rules"))[1]


async def test_an_unknown_campaign_has_no_rules(edge):
    answer, _ = await fetch(edge, "/campaigns/winter/rules")
    assert answer.status == 404


async def test_markup_in_a_reason_or_a_name_is_text(postgres):
    await add_campaign(postgres)
    hostile = "<script>alert(1)</script>"
    await make(postgres, Kind.CANDIDATE_CORRECTED, {"name": hostile}, "c001", reason=hostile)
    await make(postgres, Kind.PAUSED, reason=hostile)
    page = render((await load_campaigns(postgres))["spring"], datetime.now(UTC))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 5


def campaign(**changes):
    from zoneinfo import ZoneInfo

    zone = ZoneInfo("Asia/Shanghai")
    opens = datetime(2026, 7, 1, tzinfo=zone)
    values = {
        "number": 1,
        "id": "a",
        "title": "甲",
        "window": VotingWindow(opens, opens + timedelta(days=31), zone),
    }
    return Campaign(**values | changes)


@pytest.mark.parametrize("counts", list(Visibility))
@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("quota", [0, 7])
def test_every_rule_has_its_words_in_both_languages(counts, order, quota):
    rules = Rules(2, quota, quota, order, counts)
    words = rules_in_words(campaign(rules=rules, limits=Limits()))
    assert all(one.zh.endswith("。") and one.en.endswith(".") for one in words)
    assert ("7" in "".join(one.zh for one in words)) == bool(quota)
    assert "30" in "".join(one.zh for one in words)


def test_every_public_kind_and_field_of_a_change_has_its_words():
    assert set(_KINDS) == set(Kind) - STAFF_ONLY
    assert set(_FIELDS) >= _SHOWN_IN_PUBLIC | {"summary", "photo"}


def test_a_rehearsal_says_that_it_is_one():
    now = datetime(2026, 7, 2, tzinfo=UTC)
    assert "测试活动" in render(campaign(is_test=True), now)
    assert "测试活动" not in render(campaign(), now)
