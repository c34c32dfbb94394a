"""The publisher against real servers: what was recorded goes out, once, whatever servers do."""

import asyncio
import contextlib
import itertools
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from antifraud.screen import Decision
from tally import lives, patience, proposals
from tally.accounts.sealing import Seal
from tally.delivery.destinations import add_destination, check_destination
from tally.flusher import Flusher, FlusherMetrics
from tally.holds import Action, Case, decide
from tally.log.integrator import integrate
from tally.log.keys import LogKeys, LogKeysError
from tally.log.last_signed import LastSigned
from tally.publishing import final_seal, publication, publisher
from tally.publishing.publication import Asked, Kind, publish
from tally.publishing.publisher import last_due, run_publisher, scheduled_is_due
from tally.reconcile import NotComparable
from tally.verify import verify
from tests.campaigns import add_campaign
from tests.conftest import captured_logs, wait_until, wait_until_async
from tests.decided import counted
from tests.journal_builder import make_vote
from tests.logged import KEYS
from tests.receivers import receiver
from tests.staff_members import add_person
from voting.journal import journal_key, tally_key
from voting.settings import load_settings

SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def events(monkeypatch):
    """What the publisher logs."""
    return captured_logs(monkeypatch, publisher, lives, patience)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lives, "STANDBY_SECONDS", 0.05)
    monkeypatch.setattr(
        publisher,
        "_LIVES",
        tuple(life._replace(every_seconds=0.03) for life in publisher._LIVES),
    )


class Running:
    """A publisher in this process."""

    def __init__(self, folder, valkey_url, postgres_dsn, **settings):
        self.stop, self.ready = asyncio.Event(), asyncio.Event()
        self.folder = folder / "publications" / "spring"
        self.registry = CollectorRegistry()
        settings = load_settings(
            data_dir=folder, valkey_url=valkey_url, postgres_dsn=postgres_dsn, **settings
        )
        self.task = asyncio.create_task(
            run_publisher(settings, self.stop, self._set_ready, self.registry), name="publisher"
        )

    def _set_ready(self):
        assert not self.ready.is_set(), "ready is said once"
        self.ready.set()

    def metric(self, name, **labels):
        return self.registry.get_sample_value(f"dianzan_publish_{name}", labels) or 0

    async def end(self, within_seconds=6.0):
        self.stop.set()
        await asyncio.wait_for(self.task, within_seconds)


@pytest.fixture
async def start(tmp_path, valkey_url, postgres_dsn):
    """Starts publishers on the test's servers; none is left behind."""
    started = []
    (tmp_path / "secrets").mkdir(exist_ok=True)
    (tmp_path / "secrets" / "log.json").write_text(KEYS._text())

    def start(**settings):
        started.append(
            Running(
                **{
                    "folder": tmp_path,
                    "valkey_url": valkey_url,
                    "postgres_dsn": postgres_dsn,
                    **settings,
                }
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.stop.set()
        one.task.cancel()
    await asyncio.gather(*(one.task for one in started), return_exceptions=True)


@contextlib.asynccontextmanager
async def flushing(valkey_url, postgres_dsn):
    """A flusher at work."""
    stop = asyncio.Event()
    flusher = Flusher(
        postgres_dsn=postgres_dsn,
        valkey_url=valkey_url,
        stop=stop,
        ready=lambda: None,
        metrics=FlusherMetrics(CollectorRegistry()),
        flush_every_seconds=0.02,
    )
    task = asyncio.create_task(flusher.run())
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def log_holds(postgres, votes, log=0):
    async def there():
        return await postgres.fetchval(
            "SELECT size FROM logs WHERE campaign = 1 AND log = $1", log
        ) == votes  # fmt: skip

    await wait_until_async(there, what=f"{votes} leaves")


async def metric_is(running_, name, wanted, **labels):
    """It counts a moment after what it counts is committed."""

    async def counted_so():
        return running_.metric(name, **labels) == wanted

    await wait_until_async(counted_so, what=f"{name} = {wanted}")


async def publications(postgres):
    rows = await postgres.fetch(
        "SELECT number, kind, asked_by, approved_by FROM publications"
        " WHERE manifest_hash IS NOT NULL ORDER BY number"
    )
    return [tuple(row) for row in rows]


async def until_published(postgres, number):
    async def there():
        made = await publications(postgres)
        return len(made) >= number and made

    return await wait_until_async(there, what=f"publication {number}")


def holds(folder):
    report = verify(folder)
    assert report.ok, report.as_text()


async def until_written(folder):
    async def there():
        return folder.is_dir()

    await wait_until_async(there, what=str(folder))
    holds(folder)


async def set_window(postgres, closes_in):
    await postgres.execute(
        "UPDATE campaigns SET closes_at = now() + $1", timedelta(seconds=closes_in)
    )


async def test_votes_become_leaves_and_leaves_get_signed(poll, postgres, start):
    running_ = start()
    await poll.add(counted(30))
    await log_holds(postgres, 30)
    await decide(postgres, Case(await poll.flag(range(5))), Action.STRIKE, by="li", reason="同一台")
    await log_holds(postgres, 5, log=1)

    async def signed():
        note = await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 1")
        return note and note.split("\n")[1] == "5"

    await wait_until_async(signed, what="a checkpoint")
    assert running_.ready.is_set()
    await metric_is(running_, "leaves_total", 30)
    await metric_is(running_, "rulings_total", 5)
    await running_.end()


async def test_a_key_is_made_where_there_is_none(poll, postgres, start, tmp_path):
    (tmp_path / "secrets" / "log.json").unlink()
    running_ = start()
    await poll.add(counted(3))
    await log_holds(postgres, 3)
    made = LogKeys.load(tmp_path / "secrets" / "log.json")
    assert await postgres.fetchval("SELECT verifier_key FROM log_identity") == str(
        made.signer.verifier
    )
    await running_.end()


async def test_what_closes_is_closed_and_sealed_and_nobody_waits_for_a_decision(
    edge, postgres, valkey_url, postgres_dsn, start
):
    for n in range(3):
        assert (await edge.like(await edge.token(), f"c00{n + 1}"))[0] == 201
    async with flushing(valkey_url, postgres_dsn):
        running_ = start()
        await log_holds(postgres, 3)
        assert await publications(postgres) == []
        await set_window(postgres, 0)
        assert await until_published(postgres, 1) == [(1, "close", "publish", None)]
        await until_written(running_.folder / "1")
        tally = json.loads((running_.folder / "1" / "tally.json").read_bytes())
        assert (tally["counted"], len(tally["closings"])) == (3, 1)
        status, body = await edge.like(await edge.token())
        assert (status, body["outcome"]) == (403, "closed")
        await _look_often(running_)
        assert len(await publications(postgres)) == 1, "sealed once"

        # Opened again, and closed again: another seal, with the mark.
        await set_window(postgres, 3_600)

        async def opened():
            return await postgres.fetchval("SELECT count(*) FROM closings WHERE NOT closed")

        await wait_until_async(opened, what="an entry that opens it")
        await set_window(postgres, 0)
        await until_published(postgres, 2)
        await until_written(running_.folder / "2")
        tally = json.loads((running_.folder / "2" / "tally.json").read_bytes())
        assert len(tally["reopened_after_seal"]) == 1
        await running_.end()


async def _look_often(running_):
    """Let every life take some more steps."""
    lags = []

    async def looked():
        lags.append(running_.metric("lag_seconds"))
        return sum(after < before for before, after in itertools.pairwise(lags)) >= 5

    await wait_until_async(looked, what="five steps more")


async def test_held_votes_that_nobody_decided_on_count_in_the_seal(
    poll, postgres, valkey_url, postgres_dsn, start
):
    weak = [make_vote(poll.builder.random, 2, Decision.HOLD)._replace(score=3_000)] * 4
    strong = [make_vote(poll.builder.random, 2, Decision.HOLD)._replace(score=9_000)] * 2
    await poll.add([*weak, *strong])
    await postgres.execute(
        "INSERT INTO closings VALUES (1, 0, 1, 500, 6, now(), true)"
    )  # as if its journal had been flushed
    running_ = start()
    await set_window(postgres, -1)
    await until_published(postgres, 1)
    await until_written(running_.folder / "1")
    tally = json.loads((running_.folder / "1" / "tally.json").read_bytes())
    assert (tally["counted"], tally["held"]) == (4, 2)
    await running_.end()


async def test_a_rehearsal_is_closed_and_never_published(poll, postgres, start, events):
    await postgres.execute("UPDATE campaigns SET is_test = true")
    await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 500, 0, now(), true)")
    await poll.add(counted(2))
    running_ = start()
    await set_window(postgres, -1)
    await log_holds(postgres, 2)
    await _look_often(running_)
    assert await publications(postgres) == []
    assert not [event for event in events if event["event"] == "at-odds"]
    await running_.end()


# The final seal.


async def propose_final(postgres, by):
    content = {"campaign": "spring"}
    return await proposals.propose(
        postgres, "publish", campaign=1, content=content, reason="公示期已满", by=by
    )


async def agree(postgres, number, by):
    proposal = await proposals.read_proposal(postgres, number)
    shown = proposals.seen(await proposals.look_now(postgres, proposal))
    return await proposals.approve(postgres, number, by=by, shown=shown)


@pytest.fixture
async def two(postgres):
    return await add_person(postgres, "li"), await add_person(postgres, "wang", "admin")


async def test_the_final_seal_is_made_once_when_two_persons_agreed(
    poll, postgres, start, two, events
):
    li, wang = two
    await poll.add(counted(9))
    assert not (await propose_final(postgres, li)).done, "it has not closed yet"
    await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 500, 9, now(), true)")
    proposed = await propose_final(postgres, li)
    assert proposed.done, proposed
    assert not (await agree(postgres, proposed.number, li)).done, "not the same person"
    running_ = start()
    await log_holds(postgres, 9)
    assert await publications(postgres) == []
    assert (await agree(postgres, proposed.number, wang)).done
    assert await until_published(postgres, 1) == [(1, "final", "li", "wang")]
    await until_written(running_.folder / "1")
    await _look_often(running_)
    assert len(await publications(postgres)) == 1
    proposal = await proposals.read_proposal(postgres, proposed.number)
    assert proposal.answer == "publication 1"
    row = await postgres.fetchrow("SELECT * FROM audit_log WHERE action = 'publication.made'")
    assert (row["actor"], row["role"]) == ("li", "person")
    assert json.loads(row["details"])["approved_by"] == "wang"
    await running_.end()


async def _strike(poll, postgres, votes):
    chosen = Case(await poll.flag(votes[:2]))
    await decide(postgres, chosen, Action.STRIKE, by="li", reason="晚了一步")


async def _withdraw(poll, postgres, votes):
    # No vote moves, and everybody below gets another rank.
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE number = 1")
    await postgres.execute(
        "INSERT INTO campaign_changes (number, at, campaign, kind, candidate, was, became, reason,"
        " changed_by, in_public) VALUES (1, now(), 1, 'candidate-withdrawn', 1, '{}', '{}', '退出',"
        " 'li', true)"
    )


@pytest.mark.parametrize("happens", [_strike, _withdraw])
async def test_what_was_decided_on_since_is_not_what_two_persons_agreed_to(
    poll, postgres, start, two, happens
):
    li, wang = two
    votes = await poll.add(counted(9))
    await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 500, 9, now(), true)")
    proposed = await propose_final(postgres, li)
    assert (await agree(postgres, proposed.number, wang)).done
    await happens(poll, postgres, votes)
    running_ = start()

    async def answered():
        proposal = await proposals.read_proposal(postgres, proposed.number)
        return proposal.answer != final_seal.AGREED and proposal.answer

    answer = await wait_until_async(answered, what="an answer")
    assert answer.startswith("not made: votes were decided on, or the campaign changed")
    assert await publications(postgres) == []
    await running_.end()


async def test_a_final_seal_of_what_was_opened_again_is_answered_and_not_tried_for_ever(
    poll, postgres, start, two
):
    li, wang = two
    await poll.add(counted(9))
    await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 500, 9, now(), true)")
    proposed = await propose_final(postgres, li)
    assert (await agree(postgres, proposed.number, wang)).done
    await postgres.execute("UPDATE campaigns SET is_test = true")
    running_ = start()

    async def answered():
        return (await proposals.read_proposal(postgres, proposed.number)).answer.startswith("not")

    await wait_until_async(answered, what="an answer")
    await running_.end()


# By the clock.


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ((2026, 7, 5, 18, 0, 0), (2026, 7, 5, 18)),
        ((2026, 7, 5, 17, 59, 59), (2026, 7, 4, 18)),
        ((2026, 7, 5, 23, 59, 0), (2026, 7, 5, 18)),
        ((2026, 7, 1, 0, 0, 1), (2026, 6, 30, 18)),
    ],
)
def test_it_is_due_each_day_at_the_campaigns_hour_in_its_zone(now, due):
    now = datetime(*now, tzinfo=SHANGHAI)
    assert last_due(time(18), SHANGHAI, now.astimezone(UTC)) == datetime(*due, tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"scheduled_at": datetime(2026, 7, 5, 18, 0, 2, tzinfo=SHANGHAI)}, False),
        ({"scheduled_at": datetime(2026, 7, 4, 18, 0, 2, tzinfo=SHANGHAI)}, True),
        ({"imported_at": datetime(2026, 7, 5, 18, 30, tzinfo=SHANGHAI)}, False),
        ({"opens_at": datetime(2026, 7, 5, 18, 30, tzinfo=SHANGHAI)}, False),
        ({"opens_at": datetime(2026, 7, 6, tzinfo=SHANGHAI)}, False),
        ({"closes_at": datetime(2026, 7, 5, 18, 30, tzinfo=SHANGHAI)}, False),
        ({"rules": '{"counts_daily_at": "20:00"}'}, True),  # yesterday's
        ({"rules": '{"counts": "live"}'}, True),
        ({"rules": '{"counts": "daily"}'}, True),
        ({"rules": '{"counts": "after-close"}'}, False),
        ({"rules": '{"counts": "staff"}'}, False),
        (
            {
                "rules": '{"counts_daily_at": "20:00"}',
                "scheduled_at": datetime(2026, 7, 4, 20, 0, 1, tzinfo=SHANGHAI),
            },
            False,
        ),
    ],
)
def test_one_that_was_missed_is_made_up_for_once_and_none_for_before_its_time(change, wanted):
    campaign = {
        "now": datetime(2026, 7, 5, 19, tzinfo=SHANGHAI),
        "opens_at": datetime(2026, 7, 1, tzinfo=SHANGHAI),
        "closes_at": datetime(2026, 8, 1, tzinfo=SHANGHAI),
        "imported_at": datetime(2026, 6, 20, tzinfo=SHANGHAI),
        "rules": "{}",
        "time_zone": "Asia/Shanghai",
        "scheduled_at": None,
        **change,
    }
    assert scheduled_is_due(campaign) is wanted


async def test_the_days_publication_is_made_by_the_clock(poll, postgres, start):
    await poll.add(counted(4))
    hour = (datetime.now(SHANGHAI) - timedelta(minutes=2)).strftime("%H:%M")
    await postgres.execute(
        "UPDATE campaigns SET rules = $1, opens_at = now() - interval '3 days',"
        " imported_at = now() - interval '3 days'",
        json.dumps({"counts_daily_at": hour}),
    )
    running_ = start()
    assert await until_published(postgres, 1) == [(1, "scheduled", "publish", None)]
    await until_written(running_.folder / "1")
    await _look_often(running_)
    assert len(await publications(postgres)) == 1
    await metric_is(running_, "publications_total", 1, kind="scheduled")
    await running_.end()


async def test_counts_that_wait_for_the_close_do_not_go_out_before_it_and_checkpoints_do(
    poll, postgres, start
):
    await poll.add(counted(4))
    await postgres.execute(
        "UPDATE campaigns SET rules = $1, opens_at = now() - interval '3 days',"
        " imported_at = now() - interval '3 days'",
        json.dumps({"counts": "after-close", "counts_daily_at": "00:00"}),
    )
    running_ = start()
    await log_holds(postgres, 4)

    async def signed():
        note = await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 0")
        return note and note.split("\n")[1] == "4"

    await wait_until_async(signed, what="a checkpoint")
    await _look_often(running_)
    assert await publications(postgres) == []
    # By hand somebody may.
    await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 500, 4, now(), true)")
    await set_window(postgres, -1)
    assert (await until_published(postgres, 2))[1][1] == "close"
    await running_.end()


# News, folders, crashes, servers that are away.


async def test_news_of_it_reaches_whom_it_is_for(poll, postgres, start, tmp_path):
    async with receiver() as office:
        seal = Seal.load_or_make(tmp_path / "secrets" / "console.json")
        destination = check_destination(
            shown_as="office", form="webhook", address=office.url, secret="",
            events=["published"], private=True,
        )  # fmt: skip
        await add_destination(postgres, seal, destination, "li")
        running_ = start(private_destinations=True)
        made = await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))

        async def came():
            return office.received and running_.metric("letters_total", outcome="sent")

        await wait_until_async(came, what="the letter")
        (letter,) = office.received
        assert letter.json["content"]["manifest_sha256"] == made.made.manifest_hash.hex()
        await running_.end()


async def test_what_a_crash_left_is_finished_and_its_folder_written(
    poll, postgres, start, postgres_dsn
):
    await poll.add(counted(4))
    dying = await asyncpg.connect(postgres_dsn)
    async with publication.publishing(dying, 1):
        await publication.begin(dying, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    dying.terminate()
    assert await publications(postgres) == []
    running_ = start()
    assert await until_published(postgres, 1) == [(1, "provisional", "li", None)]
    await until_written(running_.folder / "1")
    await running_.end()


async def test_a_folder_that_was_lost_is_written_again(poll, postgres, start):
    await poll.add(counted(4))
    await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    running_ = start()
    await until_written(running_.folder / "1")
    manifest = (running_.folder / "1" / "manifest.json").read_bytes()
    (running_.folder / "1").rename(running_.folder / "moved")
    await until_written(running_.folder / "1")
    assert (running_.folder / "1" / "manifest.json").read_bytes() == manifest
    await running_.end()


async def test_a_folder_of_another_publication_under_its_number_is_told_and_kept(
    poll, postgres, start, events
):
    running_ = start()
    await log_holds(postgres, 0)
    folder = running_.folder / "1"

    async def said():
        return next((one for one in events if one.get("what") == str(folder)), None)

    # As it was handed out before the database was put back to an older copy.
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(b"{}")
    await poll.add(counted(4))
    await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    event = await wait_until_async(said, what="a word")
    assert "older copy" in event["why"]
    assert (folder / "manifest.json").read_bytes() == b"{}"
    await running_.end()


async def test_by_hand_it_works_beside_a_running_publisher(poll, postgres, start):
    running_ = start()
    for number in range(1, 4):
        await poll.add(counted(20, seed=number))
        await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
        await until_written(running_.folder / str(number))
    await running_.end()


async def test_a_second_publisher_stands_by_and_takes_over(poll, postgres, start, events):
    first = start()
    await poll.add(counted(3))
    await log_holds(postgres, 3)
    second = start()
    await asyncio.wait_for(second.ready.wait(), 5)
    wait_until(lambda: {"event": "publisher-stands-by", "log_level": "info"} in events)
    assert second.metric("leaves_total") == 0
    await first.end()
    await poll.add(counted(2, seed=3))
    await log_holds(postgres, 5)
    await metric_is(second, "leaves_total", 2)
    assert {"event": "publisher-took-over", "log_level": "info"} in events
    await second.end()


async def test_a_publisher_whose_connections_are_cut_goes_on(poll, postgres, start, events):
    running_ = start()
    await poll.add(counted(3))
    await log_holds(postgres, 3)
    await postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await poll.add(counted(4, seed=2))
    await log_holds(postgres, 7)
    assert not running_.task.done()
    await running_.end()


async def test_while_valkey_is_away_the_log_goes_on(
    poll, postgres, postgres_dsn, start, tmp_path, events
):
    running_ = start(valkey_url="unix:///nowhere/valkey.sock")
    await poll.add(counted(3))
    await log_holds(postgres, 3)
    await publish(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    await until_written(running_.folder / "1")
    assert any(event["event"] == "closings-server-away" for event in events)
    await running_.end()


async def test_a_log_at_odds_is_said_once_and_costs_the_others_nothing(
    poll, postgres, start, events
):
    others = LogKeys(name="dianzan-other", signing=b"o" * 32, salts=b"p" * 32)
    await poll.add(counted(3))
    await integrate(postgres, others)
    running_ = start()

    def said():
        return [e for e in events if e["event"] == "at-odds" and e["what"] == "log"]

    async def complained():
        return said() and running_.metric("at_odds") >= 1

    await wait_until_async(complained, what="a complaint")
    # The post goes out all the same.
    await postgres.execute(
        "INSERT INTO destinations (shown_as, form, address, events, made_by)"
        " VALUES ('office', 'webhook', 'http://127.0.0.1:9/', '{published}', 'li')"
    )
    await postgres.execute(
        "INSERT INTO outbox (destination, event, subject, content) VALUES (1, 'test', 'x', '{}')"
    )

    async def tried():
        return await postgres.fetchval("SELECT tries FROM outbox")

    await wait_until_async(tried, what="a try")
    assert len(said()) == 1
    assert "dianzan-other" in said()[0]["why"]
    await running_.end()


async def test_sums_that_differ_are_found_and_told(
    edge, postgres, valkey, valkey_url, postgres_dsn, start, events
):
    assert (await edge.like(await edge.token()))[0] == 201
    async with flushing(valkey_url, postgres_dsn):
        running_ = start()
        await log_holds(postgres, 1)

        async def told(wanted):
            facts = await postgres.fetchval("SELECT facts FROM parts WHERE name = 'publish'")
            return facts is not None and json.loads(facts).get("reconciliation_off") == wanted

        await wait_until_async(lambda: told(""), seconds=20, what="all is well")
        await valkey.hincrby(tally_key(0, "spring"), "1", 5)
        await wait_until_async(lambda: told("spring"), seconds=20, what="it is told")
        await metric_is(running_, "sums_off", 1)
        await running_.end()


async def test_one_campaign_that_cannot_be_compared_hides_no_other(
    edge, postgres, valkey, valkey_url, postgres_dsn, start, monkeypatch
):
    await add_campaign(postgres, "autumn")
    await edge.wait_for_campaign("autumn")
    assert (await edge.like(await edge.token()))[0] == 201
    assert (await edge.like(await edge.token("autumn"), campaign="autumn"))[0] == 201
    whole = publisher.reconcile

    async def not_now(connection, store, campaign):
        if campaign.id == "autumn":
            raise NotComparable("behind")
        return await whole(connection, store, campaign)

    monkeypatch.setattr(publisher, "reconcile", not_now)
    async with flushing(valkey_url, postgres_dsn):
        running_ = start()
        await log_holds(postgres, 1)
        await valkey.hincrby(tally_key(0, "spring"), "1", 5)
        await metric_is(running_, "sums_off", 1)
        await running_.end()


async def test_an_entry_that_nobody_can_read_is_told_as_what_it_is(
    edge, postgres, valkey, valkey_url, postgres_dsn, start, events
):
    async with flushing(valkey_url, postgres_dsn):
        assert (await edge.like(await edge.token()))[0] == 201
        running_ = start()
        await log_holds(postgres, 1)
    # The flusher is away: it is read by whoever compares.
    last = (await valkey.xrevrange(journal_key(0), count=1))[0][0].decode()
    epoch, number = map(int, last.split("-"))
    await valkey.xadd(journal_key(0), {"d": b"\xff damaged"}, id=f"{epoch}-{number + 1}")
    await metric_is(running_, "sums_off", 1)

    async def told():
        facts = await postgres.fetchval("SELECT facts FROM parts WHERE name = 'publish'")
        return facts is not None and json.loads(facts).get("reconciliation_off") == "spring"

    await wait_until_async(told, seconds=20, what="it is told")
    assert any(event["event"] == "journal-unreadable" for event in events)
    await running_.end()


async def test_what_is_at_odds_with_one_campaign_costs_the_others_nothing(
    poll, postgres, start, events
):
    await add_campaign(postgres, "autumn")
    await poll.add(counted(3))
    await integrate(postgres, KEYS)
    async with publication.publishing(postgres, 1):
        await publication.begin(postgres, KEYS, 1, Asked(Kind.PROVISIONAL, "li"))
    async with publication.publishing(postgres, 2):
        await publication.begin(postgres, KEYS, 2, Asked(Kind.PROVISIONAL, "li"))
    # Of spring neither the log nor the publication is what was signed.
    await postgres.execute(
        "INSERT INTO checkpoints VALUES (1, 0, 3, $1, now(), 'of another tree')", bytes(32)
    )
    await postgres.execute(
        "UPDATE publications SET content = jsonb_set(content, '{tally,logs,votes,size}', '99')"
        " WHERE campaign = 1"
    )
    running_ = start()

    async def others():
        return await postgres.fetchval(
            "SELECT manifest_hash IS NOT NULL FROM publications WHERE campaign = 2"
        ) and await postgres.fetchval(
            "SELECT checkpoint IS NOT NULL FROM logs WHERE campaign = 2 AND log = 0"
        )  # fmt: skip

    def said():
        return {event["what"] for event in events if event["event"] == "at-odds"}

    async def spring_is_told():
        return "checkpoint of dianzan-test/spring/votes" in said()

    await wait_until_async(others, what="the other campaign's")
    await wait_until_async(spring_is_told, what="spring's checkpoint is told")
    assert not any("autumn" in what or "campaign 2" in what for what in said())
    assert not running_.task.done()
    await running_.end()


async def test_a_database_that_was_put_back_is_known_at_the_first_look_and_nothing_is_signed(
    poll, postgres, start, tmp_path, events
):
    await poll.add(counted(3))
    keys = replace(KEYS, last_signed=tmp_path / "last-signed.json")
    LastSigned({"dianzan-test/spring/votes": (9, bytes(32))}, {}).save(keys)
    running_ = start()

    async def said():
        return [e for e in events if e["event"] == "at-odds" and "spring/votes" in e["what"]]

    (event,) = await wait_until_async(said, what="a word")
    assert "put back to an older copy" in event["why"]
    await log_holds(postgres, 3)
    await _look_often(running_)
    assert await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 0") is None
    assert await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 1") is not None
    await running_.end()


async def test_a_damaged_key_ends_it_with_a_word(start, tmp_path, poll):
    (tmp_path / "secrets" / "log.json").write_text("{")
    running_ = start()
    with pytest.raises(LogKeysError, match="damaged"):
        await running_.task


async def test_it_stops_in_time_whatever_hangs(poll, postgres, postgres_dsn, start, monkeypatch):
    asked = asyncio.Event()

    async def hang(*_, **__):
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(publisher, "keep_closings", hang)
    running_ = start()
    await asyncio.wait_for(asked.wait(), 5)
    began = asyncio.get_running_loop().time()
    await running_.end()
    assert asyncio.get_running_loop().time() - began < 5


async def test_as_a_process_it_says_that_it_serves_and_ends_in_order(
    valkey_url, postgres, environment, tmp_path
):
    await add_campaign(postgres, "spring")
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli", "publish", "--ready-fd", str(writer),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        pass_fds=(writer,), env=environment,
    )  # fmt: skip
    os.close(writer)
    said = await asyncio.to_thread(os.read, reader, 4_096)
    os.close(reader)
    assert json.loads(said)["admin"].startswith("http://127.0.0.1:")
    process.terminate()
    out, err = await asyncio.wait_for(process.communicate(), 15)
    assert (process.returncode, out) == (0, b""), err.decode()
