"""Who should know is told once when something begins and once when it ends, restarts included."""

import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tally.accounts.sealing import Seal
from tally.delivery import alerts, outbox
from tally.delivery.alerts import Alerts, State, disk, lags, parts_down, reconciliation, tell
from tally.delivery.destinations import add_destination, check_destination, set_disabled
from tally.delivery.outbox import WANTED, Event
from tally.disks import disk_of
from tally.parts import PartState, PartStatus
from tests.campaigns import add_campaign
from tests.conftest import OneShard
from tests.decided import counted
from voting.settings import load_settings

NOW = datetime(2026, 7, 5, 12, tzinfo=UTC)
DOWN = State({"flush a": {"part": "flush"}})


@pytest.fixture
def settings(tmp_path):
    # The disk of the machine that tests may be as full as it likes.
    return load_settings(
        data_dir=tmp_path, alert_disk_percent=99, alert_flag_places=3, alert_flag_votes=50,
        console_origin="https://console.example.cn",
    )  # fmt: skip


class Told:
    """Destinations, and what they are told."""

    def __init__(self, postgres, settings):
        self.postgres, self.seal = postgres, Seal.load_or_make(settings.console_key_path)

    async def add(self, events=WANTED):
        new = check_destination(
            shown_as="群", form="webhook", address="https://a.example/hook", secret="",
            events=events, private=False,
        )  # fmt: skip
        return await add_destination(self.postgres, self.seal, new, "li")

    async def letters(self, destination=None):
        rows = await self.postgres.fetch(
            "SELECT destination, event, subject, content FROM outbox ORDER BY made_at, subject"
        )
        return [
            (row["event"], row["subject"])
            for row in rows
            if destination in (None, row["destination"])
        ]


@pytest.fixture
def told(postgres, settings):
    return Told(postgres, settings)


@pytest.fixture
async def look(postgres_dsn, valkey, settings, monkeypatch):
    """A look by a publisher that has just been started."""
    monkeypatch.setattr(alerts, "QUIET_AT_START_SECONDS", 0)
    pool = asyncpg.create_pool(postgres_dsn, min_size=0, max_size=2)

    async def look():
        return await Alerts(settings, pool.acquire, OneShard(valkey)).look()

    async with pool:
        yield look


# Beginning and end.


async def test_a_state_is_told_when_it_begins_and_when_it_ends_and_then_may_begin_again(
    told, postgres
):
    number = await told.add()
    later = NOW + timedelta(minutes=7)
    assert await tell(postgres, Event.PART_DOWN, DOWN, NOW) == 1
    assert await tell(postgres, Event.PART_DOWN, DOWN, later) == 0
    assert await tell(postgres, Event.PART_DOWN, State(), later) == 1
    assert await tell(postgres, Event.PART_DOWN, State(), later) == 0
    assert await tell(postgres, Event.PART_DOWN, DOWN, later) == 1
    assert await told.letters(number) == [
        ("part-down", "flush a since 2026-07-05T12:00:00+00:00"),
        ("part-back", "flush a since 2026-07-05T12:00:00+00:00"),
        ("part-down", "flush a since 2026-07-05T12:07:00+00:00"),
    ]


async def test_what_is_between_well_and_wrong_changes_nothing(told, postgres):
    await told.add()
    between = State(between={"flush a"})
    assert await tell(postgres, Event.LAG, between, NOW) == 0
    await tell(postgres, Event.LAG, DOWN, NOW)
    assert await tell(postgres, Event.LAG, between, NOW) == 0
    assert await tell(postgres, Event.LAG, State(known=False), NOW) == 0
    assert await tell(postgres, Event.LAG, State(well=set()), NOW) == 0
    assert await tell(postgres, Event.LAG, State(well={"flush a"}), NOW) == 1


async def test_who_comes_while_it_is_on_hears_of_it_and_of_its_end(told, postgres):
    first = await told.add()
    await tell(postgres, Event.PART_DOWN, DOWN, NOW)
    second = await told.add()
    await tell(postgres, Event.PART_DOWN, DOWN, NOW + timedelta(minutes=1))
    await tell(postgres, Event.PART_DOWN, State(), NOW + timedelta(minutes=2))
    assert await told.letters(first) == await told.letters(second)
    assert len(await told.letters(second)) == 2


async def test_nobody_is_told_where_nobody_wants_to_know(told, postgres):
    await told.add(events=["published"])
    assert await tell(postgres, Event.PART_DOWN, DOWN, NOW) == 0
    assert await told.letters() == []


# What is seen.


def status(state, name="flush", instance="a", **facts):
    return PartStatus(name, instance, state, NOW, facts)


def test_a_part_is_down_when_it_is_and_back_when_it_is_heard_of():
    found = parts_down(
        [
            status(PartState.DOWN, why="silent"),
            status(PartState.SLOW, "watch"),
            status(PartState.NEVER, "publish", ""),
            status(PartState.OK, "store", ""),
        ]
    )
    assert found.on.keys() == {"flush a"}
    assert found.well == {"store"}
    assert found.on["flush a"]["why"] == "silent"


@pytest.mark.parametrize(
    ("seconds", "on", "between"),
    [(61, {"log"}, set()), (60, set(), {"log"}), (31, set(), {"log"}), (30, set(), set())],
)
def test_a_lag_begins_above_its_limit_and_ends_at_half_of_it(seconds, on, between):
    found = lags({"log": seconds, "postgres": None, "odd": float("nan")}, 60)
    assert (set(found.on), found.between) == (on, between)


@pytest.mark.parametrize(
    ("used", "on", "between"), [(90, {"disk"}, set()), (88, set(), {"disk"}), (87, set(), set())]
)
def test_a_disk_is_nearly_full_at_its_limit_and_well_some_percent_below(used, on, between):
    found = disk(used * 2**20, (100 - used) * 2**20, 90)
    assert (set(found.on), found.between) == (on, between)


def test_reconciliation_is_off_by_the_publisher_s_word_alone():
    off = reconciliation([status(PartState.OK, "publish", reconciliation_off="spring: 1 apart")])
    assert off.on == {"sums": {"what": "spring: 1 apart"}}
    well = reconciliation([status(PartState.OK, "publish", reconciliation_off="")])
    assert (well.on, well.known) == ({}, True)
    for unknown in (
        status(PartState.OK, "publish"),
        status(PartState.DOWN, "publish", reconciliation_off=""),
        status(PartState.OK, "flush", reconciliation_off="x"),
    ):
        assert not reconciliation([unknown]).known


def test_a_disk_is_looked_at_before_its_folder_is_made(tmp_path):
    assert 0 < disk_of(tmp_path / "not" / "yet").used_share < 1


async def test_whatever_a_part_calls_itself_it_can_be_told_of(told, postgres):
    await told.add()
    found = parts_down([status(PartState.DOWN, instance="a\n\x00" + "b" * 500)])
    assert await tell(postgres, Event.PART_DOWN, found, NOW) == 1
    assert await tell(postgres, Event.PART_DOWN, found, NOW) == 0


# A look at the real thing.


async def test_a_silent_part_is_told_and_its_return_and_a_restart_tells_nothing_twice(
    told, postgres, look
):
    number = await told.add(events=["part-down"])
    beat = "INSERT INTO parts VALUES ('flush', 'host/0', now() - $1::interval, '{}')"
    again = " ON CONFLICT (name, instance) DO UPDATE SET at = excluded.at"
    await postgres.execute(beat, timedelta(seconds=2))
    await look()
    assert await told.letters(number) == []
    await postgres.execute(beat + again, timedelta(minutes=5))
    await look()
    await look()
    assert [event for event, _ in await told.letters(number)] == ["part-down"]
    # Forgotten is not back.
    await postgres.execute("DELETE FROM parts")
    await look()
    assert [event for event, _ in await told.letters(number)] == ["part-down"]
    await postgres.execute(beat + again, timedelta(seconds=2))
    await look()
    assert [event for event, _ in await told.letters(number)] == ["part-down", "part-back"]


async def test_right_after_the_start_old_heartbeats_are_no_alarm(told, postgres, look, monkeypatch):
    monkeypatch.setattr(alerts, "QUIET_AT_START_SECONDS", 45)
    await told.add()
    await postgres.execute("INSERT INTO parts VALUES ('flush', 'a', now() - interval '1 h', '{}')")
    await look()
    assert await told.letters() == []


async def test_votes_that_no_log_takes_are_a_lag(told, postgres, look):
    number = await told.add(events=["lag"])
    await postgres.execute("INSERT INTO watermarks VALUES (0, 1, 5, 100, now())")
    await postgres.execute(
        "INSERT INTO logs VALUES (1, 0, 9, decode(repeat('00', 32), 'hex'), now() - interval '5 m')"
    )
    await postgres.execute("INSERT INTO log_watermarks VALUES (0, 1, 100)")
    await look()
    assert await told.letters(number) == []
    await postgres.execute("UPDATE log_watermarks SET seq = 90")
    await look()
    ((event, subject),) = await told.letters(number)
    assert (event, subject.partition(" ")[0]) == ("lag", "log")
    await postgres.execute("UPDATE log_watermarks SET seq = 100")
    await look()
    assert [event for event, _ in await told.letters(number)] == ["lag", "lag-over"]


async def test_a_flag_of_high_effect_is_told_once_for_its_case(told, poll, postgres, look):
    number = await told.add()
    few = await poll.add(counted(10, 1))
    await poll.flag(few)
    await look()
    assert await told.letters(number) == []
    # The case goes on, and grows.
    more = await poll.add(counted(45, 1))
    await poll.flag([*few, *more])
    await look()
    await look()
    ((event, subject),) = await told.letters(number)
    assert (event, subject) == ("flag-of-high-effect", "flag 1")
    content = json.loads(await postgres.fetchval("SELECT content FROM outbox"))
    assert content["votes"] == 55
    assert content["campaign"] == "spring"
    assert content["url"] == "https://console.example.cn/flags/1"
    assert content["sentence"].startswith("这里随便取两票")


async def test_a_flag_that_moves_places_is_told_however_few_its_votes(told, poll, look):
    number = await told.add()
    await poll.add([*counted(10, 1), *counted(9, 2), *counted(8, 3), *counted(7, 4)])
    await poll.flag(range(5))
    await look()
    assert await told.letters(number) == [("flag-of-high-effect", "flag 1")]


async def test_of_a_rehearsal_s_flags_and_of_those_before_its_time_nobody_is_told(
    told, poll, postgres, look
):
    votes = await poll.add(counted(60, 1))
    await poll.flag(votes)
    number = await told.add()
    await look()
    assert await told.letters(number) == []
    await postgres.execute("UPDATE campaigns SET is_test = true")
    await poll.flag(await poll.add(counted(60, 2)))
    await look()
    assert await told.letters(number) == []


async def test_proposals_and_objections_are_told_without_what_they_say_of_people(
    told, postgres, look
):
    number = await told.add()
    await add_campaign(postgres)
    staff = await postgres.fetchval(
        "INSERT INTO staff (name, shown_as, role) VALUES ('li', '李', 'reviewer') RETURNING number"
    )
    await postgres.execute(
        "INSERT INTO proposals (campaign, kind, content, reason, proposed_by)"
        " VALUES (1, 'decide', '{}', '一个脚本', $1)",
        staff,
    )
    await postgres.execute(
        "INSERT INTO objections (campaign, received_from, text, entered_by)"
        " VALUES (1, '张三 13800000000', '我不服', 'li')"
    )
    await look()
    await look()
    assert set(await told.letters(number)) == {
        ("proposal-open", "proposal 1"),
        ("objection", "objection 1"),
    }
    said = " ".join(r["content"] for r in await postgres.fetch("SELECT content FROM outbox"))
    assert "一个脚本" in said
    assert "13800000000" not in said
    assert "我不服" not in said


async def test_letters_that_could_not_be_delivered_are_told_to_the_others(told, postgres, look):
    deaf, other = await told.add(), await told.add()
    await outbox.add(postgres, Event.PUBLISHED, "spring/1", {})
    await postgres.execute("UPDATE outbox SET given_up_at = now() WHERE destination = $1", deaf)
    await look()
    await look()
    assert [event for event, _ in await told.letters(deaf)] == ["published"]
    assert [event for event, _ in await told.letters(other)] == ["published", "dead-letters"]
    await set_disabled(postgres, deaf, disabled=True)
    await look()
    assert [event for event, _ in await told.letters(other)][2:] == ["dead-letters-gone"]
