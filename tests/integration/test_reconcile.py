"""Reconciliation: hot sums = Postgres + journal, and what differs is named by its candidate."""

import itertools
from random import Random

import asyncpg
import pytest

from antifraud.screen import Decision
from tally.adjudications import HotTallies, replay
from tally.holds import Action, Case, decide
from tally.reconcile import NotComparable, Off, reconcile
from tally.rows import Batch
from tally.store import ShardStore
from tally.tallies import read_campaign
from tests.conftest import OneShard
from tests.decided import counted
from tests.journal_builder import make_vote, write
from voting.ballot import Outcome
from voting.journal import (
    ENTRY_FIELD,
    JournalError,
    Refusal,
    journal_key,
    tally_key,
)

KEY = tally_key(0, "spring")


@pytest.fixture
async def campaign(poll, postgres):
    return await read_campaign(postgres, "spring")


class Journalled:
    """Votes in the hot state and the journal that Postgres does not have yet."""

    def __init__(self, poll):
        self.poll, self.valkey = poll, poll.valkey

    async def add(self, votes, refusals=(), *, hot=True, **fields):
        built = self.poll.builder.entry(votes, refusals, **fields)
        await write(self.valkey, [built])
        entry = built.placed.entry
        if hot and entry.campaign == self.poll.campaign:
            for vote in entry.votes():
                kind = "h" if vote.verdict else ""
                await self.valkey.hincrby(KEY, f"{kind}{vote.candidate}", 1)
            for refusal in entry.refusals:
                field = f"r{refusal.candidate}:{refusal.outcome.value}"
                await self.valkey.hincrby(KEY, field, refusal.ballots)
        return built


@pytest.fixture
def journal(poll):
    return Journalled(poll)


async def test_an_empty_campaign_holds(postgres, valkey, campaign):
    found = await reconcile(postgres, OneShard(valkey), campaign)
    assert found.holds
    assert (found.votes, found.in_journal) == (0, 0)


async def test_what_is_stored_and_what_waits_in_the_journal_make_the_hot_sums(
    poll, postgres, valkey, campaign, journal
):
    random = Random(1)
    await poll.add([*counted(5), make_vote(random, 2, Decision.HOLD)])
    throttled = Refusal(3, Outcome.THROTTLED, 7)
    await journal.add([make_vote(random, 2, Decision.HOLD), *counted(2, 3)], [throttled])
    await journal.add(counted(1, 4), campaign=2)
    found = await reconcile(postgres, OneShard(valkey), campaign)
    assert found.off == ()
    assert (found.votes, found.in_journal) == (9, 3)


@pytest.mark.parametrize(
    ("field", "by", "off"),
    [
        ("1", 3, Off(1, "counted", 8, 5)),
        ("1", -1, Off(1, "counted", 4, 5)),
        ("h2", 1, Off(2, "held", 1, 0)),
        ("s4", 2, Off(4, "struck", 2, 0)),
        ("r3:6", 1, Off(3, "refused: throttled", 8, 7)),
    ],
)
async def test_a_damaged_sum_is_found_and_named(
    poll, postgres, valkey, campaign, journal, field, by, off
):
    await poll.add(counted(5))
    await journal.add(counted(2, 3), [Refusal(3, Outcome.THROTTLED, 7)])
    await valkey.hincrby(KEY, field, by)
    found = await reconcile(postgres, OneShard(valkey), campaign)
    assert not found.holds
    assert found.off == (off,)


async def test_a_sum_that_somebody_edited_in_postgres_is_found(poll, postgres, valkey, campaign):
    await poll.add(counted(5))
    await postgres.execute("UPDATE tallies SET counted = 50 WHERE candidate = 1")
    assert (await reconcile(postgres, OneShard(valkey), campaign)).off == (
        Off(1, "counted", 5, 50),
    )


async def test_a_vote_that_the_hot_state_lost_is_found(poll, postgres, valkey, campaign, journal):
    await poll.add(counted(2))
    await journal.add(counted(3), hot=False)
    assert (await reconcile(postgres, OneShard(valkey), campaign)).off == (Off(1, "counted", 2, 5),)


async def test_a_decision_holds_before_and_after_the_hot_state_has_heard_of_it(
    poll, postgres, valkey, campaign
):
    flag = await poll.flag(await poll.add(counted(5)))
    await poll.add(counted(2, 2))
    for action in (Action.HOLD, Action.STRIKE, Action.RELEASE):
        await decide(postgres, Case(flag), action, by="王老师", reason="一个脚本")
        assert (await reconcile(postgres, OneShard(valkey), campaign)).off == (), f"before {action}"
        await replay(postgres, HotTallies(valkey, 0), 0)
        assert (await reconcile(postgres, OneShard(valkey), campaign)).off == (), f"after {action}"


async def test_a_decision_on_another_campaign_explains_nothing_here(
    poll, postgres, valkey, campaign
):
    flag = await poll.flag(await poll.add(counted(5)))
    await decide(postgres, Case(flag), Action.STRIKE, by="王老师", reason="一个脚本")
    await postgres.execute("ALTER TABLE decisions DISABLE TRIGGER USER")
    await postgres.execute("UPDATE decisions SET campaign = 2")
    found = await reconcile(postgres, OneShard(valkey), campaign)
    assert found.off == (Off(1, "counted", 5, 0), Off(1, "struck", 0, 5))


async def test_a_journal_that_goes_on_in_a_new_epoch_is_followed(
    poll, postgres, valkey, campaign, journal
):
    await poll.add(counted(2))
    await journal.add(counted(1))
    poll.builder.new_epoch()
    await journal.add(counted(4, 2))
    found = await reconcile(postgres, OneShard(valkey), campaign)
    assert (found.off, found.in_journal) == ((), 5)


async def test_a_hole_in_the_journal_is_not_summed_over(poll, postgres, valkey, campaign, journal):
    await poll.add(counted(2))
    missing = await journal.add(counted(1))
    await journal.add(counted(1))
    await valkey.xdel(journal_key(0), str(missing.id))
    with pytest.raises(NotComparable, match="not followed"):
        await reconcile(postgres, OneShard(valkey), campaign)


async def test_a_flusher_that_is_far_behind_is_said_instead_of_read_after(
    poll, postgres, valkey, campaign, journal, monkeypatch
):
    monkeypatch.setattr("tally.reconcile.ENTRIES_MAX", 3)
    for _ in range(4):
        await journal.add(counted(1))
    with pytest.raises(NotComparable, match="3 entries"):
        await reconcile(postgres, OneShard(valkey), campaign)


async def test_an_entry_that_nobody_can_read_is_said(poll, postgres, valkey, campaign):
    await valkey.xadd(journal_key(0), {ENTRY_FIELD: b"\xff" * 40}, id="1-0")
    with pytest.raises(JournalError, match="entry 1-0"):
        await reconcile(postgres, OneShard(valkey), campaign)


async def test_it_holds_whatever_is_flushed_decided_and_liked_between_its_steps(
    poll, postgres, postgres_dsn, valkey, campaign, journal
):
    other = await asyncpg.connect(postgres_dsn)
    flag = await poll.flag(await poll.add(counted(20)))
    store = ShardStore(other, 0)
    waiting, turns = [], itertools.count()
    whole = valkey.pipeline

    async def meddle(turn):
        waiting.append(await journal.add(counted(3, 1 + turn % 4)))
        if turn % 2:
            await store.add_entries(Batch([built.placed for built in waiting]))
            waiting.clear()
        if turn % 3 == 0:
            action = (Action.HOLD, Action.STRIKE, Action.RELEASE)[turn // 3 % 3]
            await decide(other, Case(flag), action, by="王老师", reason="x")

    def pipeline(**options):
        made = whole(**options)
        execute = made.execute

        async def execute_late():
            # Postgres has been read, the hot sums have not.
            valkey.pipeline = whole
            await meddle(next(turns))
            valkey.pipeline = pipeline
            return await execute()

        made.execute = execute_late
        return made

    try:
        for _ in range(12):
            valkey.pipeline = pipeline
            assert (await reconcile(postgres, OneShard(valkey), campaign)).off == ()
    finally:
        valkey.pipeline = whole
        await other.close()
    assert next(turns) == 12
