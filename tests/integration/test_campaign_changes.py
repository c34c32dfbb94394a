"""What staff change of a campaign: in one transaction, by one person or two, in the open."""

import asyncio
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tally import audit
from tally.campaigns.campaign_changes import (
    BY_IMPORT,
    FIELD_TITLES,
    KIND,
    TITLES,
    WHEN,
    Change,
    ChangeRefused,
    NeedsSecondPerson,
    StaleChange,
    State,
    UnknownCampaign,
    apply,
    content_of,
    list_candidates,
    look,
    read_campaign,
    read_candidate,
    read_changes,
)
from tally.proposal_kinds import CannotBeDone, Person
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from voting.catalog import catalog_version, load_campaigns
from voting.changes import (
    CANDIDATE_FIELDS,
    PAGE_FIELDS,
    Kind,
    Recorded,
    lock_changes,
    moved,
    record,
    window_facts,
)

HOUR = timedelta(hours=1)
LI = Person(1, "li", "李老师", "admin")
WANG = Person(2, "wang", "王老师", "admin")
PERSON = {
    "id": "c-new",
    "name": "新人",
    "organisation": "研究所",
    "unit": "北京市",
    "channel": "省级",
    "title": "研究员",
    "summary": "做了很多工作。",
}


def now():
    return datetime.now(UTC)


@pytest.fixture
async def before(postgres):
    await add_campaign(postgres, opens_at=now() + HOUR, closes_at=now() + 24 * HOUR)
    return postgres


@pytest.fixture
async def opened(postgres):
    await add_campaign(postgres)
    return postgres


@pytest.fixture
async def after(postgres):
    await add_campaign(postgres, opens_at=now() - 9 * HOUR, closes_at=now() - HOUR)
    return postgres


async def make(connection, kind, values=None, candidate=None, *, reason="有原因", **options):
    options = {"by": "li", "role": "admin", "made_from": None, **options}
    change = Change(kind, values or {}, candidate, reason)
    return await apply(connection, "spring", change, **options)


async def everything(connection):
    tables = ("campaigns", "candidates", "campaign_changes", "catalog", "audit_log", "outbox")
    return {
        table: [
            tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
        ]
        for table in tables
        if table != "catalog"
    } | {"catalog": await catalog_version(connection)}


async def test_a_change_is_written_with_who_why_and_what_it_was(opened):
    version = await catalog_version(opened)
    applied = await make(opened, Kind.PAUSED, reason="机房检修，约一小时")
    assert (applied.number, applied.campaign.paused_because) == (1, "机房检修，约一小时")
    assert await catalog_version(opened) == version + 1
    (entry,) = await read_changes(opened, 1)
    assert (entry.kind, entry.changed_by, entry.approved_by) == (Kind.PAUSED, "li", None)
    assert entry.was == {"paused_because": None}
    assert entry.became == {"paused_because": "机房检修，约一小时"}
    assert entry.in_public
    row = await opened.fetchrow("SELECT * FROM audit_log")
    assert (row["actor"], row["role"], row["action"]) == ("li", "admin", "campaign.paused")
    assert row["subject"] == "campaign spring"
    assert json.loads(row["details"])["change"] == 1
    assert (await audit.verify(opened)).broken_at is None


async def test_the_list_of_changes_only_grows(opened):
    await make(opened, Kind.PAUSED)
    for statement in ("UPDATE campaign_changes SET reason = ''", "DELETE FROM campaign_changes"):
        with pytest.raises(asyncpg.RaiseError, match="only grows"):
            await opened.execute(statement)


async def test_a_pause_is_in_force_on_an_edge_within_two_seconds_and_says_so(edge, postgres):
    async def answers(status, outcome):
        got, body = await edge.like(await edge.token())
        return (got, body["outcome"]) == (status, outcome)

    assert await answers(201, "counted")
    await make(postgres, Kind.PAUSED, reason="机房检修")
    await wait_until_async(lambda: answers(403, "paused"), seconds=2, what="the pause")
    await make(postgres, Kind.RESUMED)
    await wait_until_async(lambda: answers(201, "counted"), seconds=2, what="its end")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.EXTENDED, {"closes_at": "2027-01-01T00:00+08:00"}),
        (Kind.CLOSED, {}),
        (
            Kind.QUOTA,
            {
                "likes_per_candidate_per_day": "2",
                "candidates_per_day": "5",
                "likes_per_campaign": "0",
            },
        ),
        (Kind.VISIBILITY, {"counts": "staff", "counts_daily_at": "18:00", "order": "random"}),
        (Kind.LIMITS, {"per_device": "10/minute", "per_network": "100/minute"}),
    ],
)
async def test_what_could_favour_someone_takes_two_persons_while_it_is_open(opened, kind, values):
    await opened.execute("UPDATE campaigns SET closes_at = '2026-12-31T00:00+08:00'")
    untouched = await everything(opened)
    with pytest.raises(NeedsSecondPerson):
        await make(opened, kind, values)
    assert await everything(opened) == untouched
    applied = await make(opened, kind, values, approved_by="wang")
    (entry,) = await read_changes(opened, 1)
    assert (entry.changed_by, entry.approved_by, entry.in_public) == ("li", "wang", True)
    assert entry.became == applied.became != {}


@pytest.mark.parametrize("kind", [kind for kind, when in WHEN.items() if not when.two_persons])
async def test_all_else_takes_one(opened, kind):
    campaign = await read_campaign(opened, "spring")
    assert not campaign.needs_second_person(kind)


async def test_a_rehearsal_takes_one_person_and_cannot_become_the_real_thing_when_it_is_open(
    before,
):
    await make(before, Kind.TEST, {"is_test": "yes"})
    await make(before, Kind.OPENED)
    await make(before, Kind.CLOSED)
    assert (await read_campaign(before, "spring")).state is State.AFTER
    with pytest.raises(ChangeRefused, match="after the campaign has closed"):
        await make(before, Kind.TEST, {"is_test": "no"})
    assert (await load_campaigns(before))["spring"].is_test


@pytest.mark.parametrize("opened_how", ["at once", "at its time"])
async def test_what_was_open_as_a_rehearsal_stays_one_wherever_its_opening_is_moved_to(
    before, opened_how
):
    await make(before, Kind.TEST, {"is_test": "yes"})
    if opened_how == "at once":
        await make(before, Kind.OPENED)
    else:
        await before.execute("UPDATE campaigns SET opens_at = now() - interval '1 minute'")
    # As an import does it, which a rehearsal takes from one person.
    campaign = await read_campaign(before, "spring")
    assert campaign.state is State.OPEN
    moved_to = replace(campaign.window, opens_at=campaign.now + HOUR)
    changes = [Recorded(Kind.WINDOW, *moved(window_facts(campaign.window), window_facts(moved_to)))]
    async with before.transaction():
        await lock_changes(before)
        await before.execute("UPDATE campaigns SET opens_at = $1", moved_to.opens_at)
        await record(before, 1, changes, opened=True, reason="名单导入", changed_by="li")
    assert (await read_campaign(before, "spring")).state is State.BEFORE
    with pytest.raises(ChangeRefused, match="likes were taken before"):
        await make(before, Kind.TEST, {"is_test": "no"})
    assert (await load_campaigns(before))["spring"].is_test


async def test_a_rehearsal_that_never_opened_becomes_the_real_thing(before):
    await make(before, Kind.TEST, {"is_test": "yes"})
    window = {"opens_at": now() + 2 * HOUR, "closes_at": now() + 9 * HOUR}
    await make(before, Kind.WINDOW, {name: at.isoformat() for name, at in window.items()})
    await make(before, Kind.TEST, {"is_test": "no"})
    assert not (await load_campaigns(before))["spring"].is_test


async def test_before_the_opening_rules_are_set_by_one_and_are_no_news(before):
    opens, closes = (now() + 5 * HOUR), (now() + 99 * HOUR)
    await make(
        before, Kind.WINDOW, {"opens_at": opens.isoformat(), "closes_at": closes.isoformat()}
    )
    await make(before, Kind.LIMITS, {"per_device": "10/minute", "per_network": "100/minute"})
    campaign = await read_campaign(before, "spring")
    assert campaign.window.opens_at == opens
    assert campaign.window.opens_at.tzinfo == ZoneInfo("Asia/Shanghai")
    assert str(campaign.limits.per_device) == "10/minute"
    assert [entry.in_public for entry in await read_changes(before, 1)] == [False, False]
    assert (await load_campaigns(before))["spring"].changes == ()


async def test_it_opens_at_once_and_closes_at_once(before):
    await make(before, Kind.OPENED)
    campaign = await read_campaign(before, "spring")
    assert campaign.state is State.OPEN
    assert campaign.now - campaign.window.opens_at < timedelta(seconds=20)
    await make(before, Kind.CLOSED, approved_by="wang")
    assert (await read_campaign(before, "spring")).state is State.AFTER


async def test_opening_again_leaves_a_mark_and_is_news(after):
    await after.execute(
        "INSERT INTO destinations (shown_as, form, address, events, made_by)"
        " VALUES ('办公室', 'webhook', 'https://office.example.cn', '{reopened}', 'li')"
    )
    later = {"closes_at": (now() + HOUR).isoformat()}
    with pytest.raises(NeedsSecondPerson):
        await make(after, Kind.REOPENED, later)
    applied = await make(after, Kind.REOPENED, later, approved_by="wang")
    (entry,) = await read_changes(after, 1, public_only=True)
    assert (entry.number, entry.kind) == (applied.number, Kind.REOPENED)
    assert await after.fetchval("SELECT subject FROM outbox") == f"spring/{applied.number}"
    (shown,) = (await load_campaigns(after))["spring"].changes
    assert (shown.kind, shown.reason) == ("reopened", "有原因")


TOO_SOON = (now() - timedelta(minutes=1)).isoformat()


@pytest.mark.parametrize(
    ("kind", "values", "candidate", "fault"),
    [
        (Kind.OPENED, {}, None, "kind: cannot be done while the campaign is open"),
        (Kind.REOPENED, {}, None, "kind: cannot be done while the campaign is open"),
        (Kind.TEST, {"is_test": "yes"}, None, "kind: cannot be done while"),
        (Kind.IMPORTED, {}, None, "kind: is not made one by one"),
        (Kind.RESUMED, {}, None, "kind: changes nothing"),
        (Kind.EXTENDED, {}, None, "closes_at: must be a date and time"),
        (Kind.EXTENDED, {"closes_at": "2029-07-01T08:00"}, None, "closes_at: has no time zone"),
        (Kind.EXTENDED, {"closes_at": TOO_SOON}, None, "closes_at: is not later than it was"),
        (Kind.EXTENDED, {"closes_at": "9999-12-31T23:59+00:00"}, None, "between 2000 and 2099"),
        (Kind.QUOTA, {}, None, "per_day: must be a whole number from 1 to 100; candidates_per_day"),
        (Kind.QUOTA, {"likes_per_candidate_per_day": "１"}, None, "must be a whole number from 1"),
        (
            Kind.VISIBILITY,
            {"counts": "never", "counts_daily_at": "25:00", "order": "random"},
            None,
            "counts: is none of the choices; counts_daily_at: must be an hour and minute",
        ),
        (Kind.LIMITS, {"per_device": "0/minute"}, None, "per_device: must be a rate"),
        (Kind.PORTAL_OFF, {"origin": "https://evil.example"}, None, "none of the portals that are"),
        (Kind.PORTAL_ON, {"origin": "https://www.example.cn"}, None, "that are off"),
        (Kind.CANDIDATE_WITHDRAWN, {}, "c999", "id: is not in the campaign"),
        (Kind.CANDIDATE_WITHDRAWN, {}, "c001\0", "id: must be 1 to 32 of"),
        (Kind.CANDIDATE_RETURNED, {}, "c001", "id: is in the campaign already"),
        (Kind.CANDIDATE_CORRECTED, {}, "c001", "kind: changes nothing"),
        (Kind.CANDIDATE_CORRECTED, {"name": " "}, "c001", "name: is empty"),
        (Kind.CANDIDATE_CORRECTED, {"name": "名" * 51}, "c001", "has more than 50 characters"),
        (Kind.CANDIDATE_CORRECTED, {"name": "a\x07b"}, "c001", "cannot be seen \\(U\\+0007\\)"),
        (Kind.CANDIDATE_CORRECTED, {"name": "a\u202eb"}, "c001", "cannot be seen \\(U\\+202E\\)"),
        (Kind.CANDIDATE_CORRECTED, {"photo": "\0"}, "c001", "photo: is not there"),
        (Kind.CANDIDATE_CORRECTED, {"name": "候选人2"}, "c001", "is the same person as c002"),
        (Kind.CANDIDATE_ADDED, {**PERSON, "id": "c002"}, None, "id: is 候选人2's already"),
        (Kind.CANDIDATE_ADDED, {**PERSON, "id": "../x"}, None, "id: must be 1 to 32 of"),
        (Kind.CANDIDATE_ADDED, {"id": "c9"}, None, "name: is empty; organisation: is empty"),
    ],
)
async def test_what_is_not_well_formed_or_not_now_is_refused_and_changes_nothing(
    opened, kind, values, candidate, fault
):
    untouched = await everything(opened)
    with pytest.raises(ChangeRefused, match=fault):
        await make(opened, kind, values, candidate, approved_by="wang")
    assert await everything(opened) == untouched


@pytest.mark.parametrize("reason", ["", "  ", "长" * 201, "a\0b", "a\nb"])
async def test_a_change_without_a_sound_reason_is_refused(opened, reason):
    with pytest.raises(ChangeRefused, match="reason"):
        await make(opened, Kind.PAUSED, reason=reason)


async def test_a_window_ends_after_it_begins_and_not_in_the_past(before):
    for opens, closes, fault in (
        (2 * HOUR, HOUR, "closes_at: must come after the opening"),
        (-HOUR, HOUR, "opens_at: is in the past"),
        (-2 * HOUR, -HOUR, "opens_at: is in the past; closes_at: is in the past"),
    ):
        values = {
            "opens_at": (now() + opens).isoformat(),
            "closes_at": (now() + closes).isoformat(),
        }
        with pytest.raises(ChangeRefused, match=fault):
            await make(before, Kind.WINDOW, values)


async def test_a_quota_that_fills_the_store_is_refused_as_in_an_import(opened):
    await opened.execute(
        "INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel,"
        " title, summary) SELECT 1, n, 'x' || n, n, 'x' || n, '', '', '', '', ''"
        " FROM generate_series(6, 120) AS n"
    )
    values = {
        "likes_per_candidate_per_day": "10",
        "candidates_per_day": "0",
        "likes_per_campaign": "0",
    }
    with pytest.raises(ChangeRefused, match="one device give 1200 likes a day; at most 1000"):
        await make(opened, Kind.QUOTA, values, approved_by="wang")


@pytest.mark.parametrize("campaign_id", ["winter", "", "spr\0ing", "x" * 500, "../spring"])
async def test_an_unknown_campaign_is_said(opened, campaign_id):
    with pytest.raises(UnknownCampaign):
        await read_campaign(opened, campaign_id)


async def test_candidates_have_a_history(opened):
    await make(opened, Kind.CANDIDATE_ADDED, {**PERSON, "summary": "第一段\n第二段"})
    await make(opened, Kind.CANDIDATE_CORRECTED, {"name": "辛人", "title": "研究员"}, "c-new")
    await make(opened, Kind.CANDIDATE_WITHDRAWN, candidate="c-new")
    await make(opened, Kind.CANDIDATE_RETURNED, candidate="c-new")
    candidate = await read_candidate(opened, 1, "c-new")
    assert (candidate.number, candidate.place, candidate.name) == (6, 6, "辛人")
    assert (candidate.summary, candidate.withdrawn_at) == ("第一段 第二段", None)
    history = await read_changes(opened, 1, candidate=6)
    assert [entry.kind for entry in reversed(history)] == [
        Kind.CANDIDATE_ADDED,
        Kind.CANDIDATE_CORRECTED,
        Kind.CANDIDATE_WITHDRAWN,
        Kind.CANDIDATE_RETURNED,
    ]
    assert (history[2].was, history[2].became) == ({"name": "新人"}, {"name": "辛人"})
    shown = (await load_campaigns(opened))["spring"].changes
    assert [(one.kind, one.candidate) for one in shown] == [
        ("candidate-added", "c-new"),
        ("candidate-corrected", "c-new"),
        ("candidate-withdrawn", "c-new"),
        ("candidate-returned", "c-new"),
    ]


async def test_what_a_summary_said_is_not_said_in_public_when_it_is_corrected(opened):
    await make(opened, Kind.CANDIDATE_CORRECTED, {"summary": "改过", "name": "改名"}, "c001")
    (shown,) = (await load_campaigns(opened))["spring"].changes
    assert [tuple(one) for one in shown.fields] == [
        ("name", "候选人1", "改名"),
        ("summary", None, None),
    ]


async def test_a_withdrawn_number_is_never_anybody_elses(opened):
    await make(opened, Kind.CANDIDATE_WITHDRAWN, candidate="c005")
    await make(opened, Kind.CANDIDATE_ADDED, PERSON)
    with pytest.raises(ChangeRefused, match="候选人5's already"):
        await make(opened, Kind.CANDIDATE_ADDED, {**PERSON, "id": "c005", "name": "另一人"})
    assert [one.number for one in await list_candidates(opened, 1)] == [1, 2, 3, 4, 5, 6]


async def test_formulas_and_markup_are_names_like_others(opened):
    name = "=HYPERLINK(\"https://evil.example\")<script>alert('x')</script>"[:50]
    await make(opened, Kind.CANDIDATE_CORRECTED, {"name": name}, "c001")
    assert (await read_candidate(opened, 1, "c001")).name == name


async def test_a_portal_that_is_off_is_no_origin_of_the_campaign(opened):
    await opened.execute(
        "UPDATE campaigns SET origins = '{https://a.cn,https://b.cn,https://c.cn}'"
    )
    await make(opened, Kind.PORTAL_OFF, {"origin": "https://b.cn"})
    assert (await load_campaigns(opened))["spring"].origins == ("https://a.cn", "https://c.cn")
    (entry,) = await read_changes(opened, 1)
    assert entry.became == {"origin": "https://b.cn", "on": False}
    with pytest.raises(ChangeRefused, match="none of the portals that are on"):
        await make(opened, Kind.PORTAL_OFF, {"origin": "https://b.cn"})
    await make(opened, Kind.PORTAL_ON, {"origin": "https://b.cn"})
    assert (await load_campaigns(opened))["spring"].origins == (
        "https://a.cn", "https://b.cn", "https://c.cn",
    )  # fmt: skip


async def test_a_form_that_is_out_of_date_is_told_what_changed_since(opened):
    shown = await read_campaign(opened, "spring")
    await make(opened, Kind.CANDIDATE_WITHDRAWN, candidate="c001", made_from=shown.version)
    with pytest.raises(StaleChange) as stale:
        await make(opened, Kind.PAUSED, made_from=shown.version)
    assert [entry.kind for entry in stale.value.since] == [Kind.CANDIDATE_WITHDRAWN]
    assert (await read_campaign(opened, "spring")).paused_because is None


async def test_of_two_who_change_the_same_at_once_one_is_told(opened, postgres_dsn):
    connections = [await asyncpg.connect(postgres_dsn) for _ in range(8)]
    try:
        ended = await asyncio.gather(
            *(
                make(connection, Kind.CANDIDATE_ADDED, {**PERSON, "id": f"n{n}", "name": f"人{n}"},
                     made_from=0)
                for n, connection in enumerate(connections)
            ),
            return_exceptions=True,
        )  # fmt: skip
    finally:
        for connection in connections:
            await connection.close()
    assert sum(not isinstance(one, Exception) for one in ended) == 1
    assert sum(isinstance(one, StaleChange) for one in ended) == 7


async def test_changes_at_once_are_numbered_without_a_gap(opened, postgres_dsn):
    connections = [await asyncpg.connect(postgres_dsn) for _ in range(8)]
    try:
        await asyncio.gather(
            *(
                make(connection, Kind.CANDIDATE_ADDED, {**PERSON, "id": f"n{n}", "name": f"人{n}"})
                for n, connection in enumerate(connections)
            )
        )
    finally:
        for connection in connections:
            await connection.close()
    assert [entry.number for entry in await read_changes(opened, 1)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert sorted(one.number for one in await list_candidates(opened, 1)) == list(range(1, 14))


async def test_a_crash_at_any_statement_leaves_all_of_a_change_or_nothing(
    opened, postgres_dsn, monkeypatch
):
    untouched = await everything(opened)

    class Crash(Exception):
        pass

    whole = {
        name: getattr(asyncpg.Connection, name) for name in ("execute", "fetchval", "fetchrow")
    }
    for dies_at in itertools.count():
        connection = await asyncpg.connect(postgres_dsn)
        steps = itertools.count()
        for name, call in whole.items():

            async def dying(self, *arguments, call=call, steps=steps, dies_at=dies_at, **options):
                if next(steps) == dies_at:
                    raise Crash
                return await call(self, *arguments, **options)

            monkeypatch.setattr(asyncpg.Connection, name, dying)
        try:
            await make(connection, Kind.CLOSED, approved_by="wang")
            break
        except Crash:
            pass
        finally:
            for name, call in whole.items():
                monkeypatch.setattr(asyncpg.Connection, name, call)
            connection.terminate()
        assert await everything(opened) == untouched
    assert dies_at > 5, "it has as many steps"


async def test_a_proposal_shows_what_it_does_and_is_done_with_both_names(opened):
    await opened.execute("UPDATE campaigns SET closes_at = '2026-12-31T00:00+08:00'")
    change = Change(Kind.EXTENDED, {"closes_at": "2027-01-05T00:00+08:00"}, None, "台风延误")
    content = json.loads(json.dumps(content_of("spring", change)))
    content["ground"] = await KIND.look(opened, content, False)
    said = KIND.describe(content, lambda text: text)
    assert said == (
        "spring: Extended · Closes: 2026-12-31T00:00:00+08:00 → 2027-01-05T00:00:00+08:00"
    )
    async with opened.transaction():
        assert await KIND.look(opened, content, True) == content["ground"]
        await KIND.execute(opened, content, LI, WANG)
    (entry,) = await read_changes(opened, 1)
    assert (entry.changed_by, entry.approved_by, entry.reason) == ("li", "wang", "台风延误")


async def test_what_a_proposal_does_at_once_does_not_move_with_the_clock(opened):
    content = content_of("spring", Change(Kind.CLOSED, reason="提前结束"))
    first = await KIND.look(opened, content, False)
    assert first["becomes"] == {"closes_at": "now"}
    assert await KIND.look(opened, content, False) == first
    assert "Closes:" in KIND.describe({**content, "ground": first}, lambda text: text)


async def test_a_proposal_that_cannot_be_done_any_more_says_why(after):
    content = content_of("spring", Change(Kind.CLOSED, reason="提前结束"))
    with pytest.raises(CannotBeDone, match="after the campaign has closed"):
        await KIND.look(after, content, False)
    async with after.transaction():
        with pytest.raises(CannotBeDone):
            await KIND.execute(after, content, LI, WANG)


async def test_looking_changes_nothing(opened):
    untouched = await everything(opened)
    shown = await look(opened, "spring", Change(Kind.CANDIDATE_WITHDRAWN, {}, "c002", "本人要求"))
    assert shown["candidate_name"] == "候选人2"
    assert await everything(opened) == untouched


def test_every_kind_and_field_has_a_title():
    assert set(TITLES) == set(Kind)
    assert set(WHEN) == set(Kind) - BY_IMPORT
    assert set(FIELD_TITLES) >= {*CANDIDATE_FIELDS, *PAGE_FIELDS}
    assert set(FIELD_TITLES) >= {*PERSON, "photo", "closes_at", "counts", "per_device", "origin"}
