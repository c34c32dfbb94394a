"""One integrator, whole steps, one root per size: also where two come at once, or one dies."""

import asyncio
from random import Random

import asyncpg
import pytest

from antifraud.screen import Decision
from tally.holds import WATCH, Action, OneFlag, decide
from tally.log import integrator
from tally.log.integrator import LEAVES_MAX, integrate, sign_checkpoint, sign_grown, snapshot
from tally.log.keys import LogKeys
from tally.log.leaves import Ruling
from tally.log.signed_note import NoteError, open_note
from tally.log.store import LOG_SQL, LogConflict, read_head, read_rulings
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.decided import Poll, counted, sums
from tests.journal_builder import make_vote
from tests.logged import (
    KEYS,
    assert_log_is_sound,
    assert_sizes_had_one_root,
    fold,
    records_of,
    watched_sizes,
)
from voting.checkpoint import Checkpoint
from voting.log_reader import Log


@pytest.fixture
async def box(postgres):
    """A campaign to vote in, with nothing in its log yet; no hot state."""
    await add_campaign(postgres, "spring", candidates=4)
    return Poll(postgres, None)


@pytest.fixture
async def another(postgres_dsn):
    """A second connection."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


def some(number, seed=0):
    random = Random(seed)
    verdicts = [random.choice((Decision.COUNT, Decision.HOLD)) for _ in range(number)]
    return [make_vote(random, random.randint(1, 4), verdict) for verdict in verdicts]


async def heads(connection):
    rows = await connection.fetch("SELECT campaign, log, size, root FROM logs ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def test_votes_become_leaves_once(postgres, box):
    await box.add(some(700))
    step = await integrate(postgres, KEYS)
    assert (step.votes, step.more) == (700, False)
    assert step.rulings == sum(vote.verdict == Decision.HOLD for vote in box.votes)
    before = await heads(postgres)
    assert (await integrate(postgres, KEYS)).votes == 0
    assert await heads(postgres) == before
    await assert_log_is_sound(postgres, 1, Random(1))


async def test_every_campaign_has_its_logs_from_the_first_step_on(postgres, box):
    await add_campaign(postgres, "trial")
    await postgres.execute("UPDATE campaigns SET is_test = true WHERE id = 'trial'")
    await integrate(postgres, KEYS)
    nothing = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert await heads(postgres) == [(n, log, 0, nothing) for n in (1, 2) for log in (0, 1)]
    async with snapshot(postgres, KEYS, 2) as empty:
        assert (empty.votes.size, empty.rulings.size) == (0, 0)
        note = await sign_checkpoint(postgres, KEYS, 2, Log.VOTES, keep=True)
    assert Checkpoint.of_note(note).size == 0


async def test_step_stops_at_its_limit_and_the_next_goes_on(postgres, box):
    await box.add(some(50))
    steps = [await integrate(postgres, KEYS, leaves_max=20) for _ in range(3)]
    assert [step.votes for step in steps] == [20, 20, 10]
    assert [step.more for step in steps] == [True, True, False]
    await assert_log_is_sound(postgres, 1, Random(1))


async def test_two_integrators_at_once_do_not_append_anything_twice(postgres, another, box):
    seen = {}
    for round_ in range(8):
        await box.add(some(90, round_))
        both = [integrate(each, KEYS, leaves_max=40) for each in (postgres, another)]
        steps = await asyncio.gather(*both)
        assert [step.votes for step in steps] == [40, 40]
        await watched_sizes(postgres, seen)
    while (await integrate(another, KEYS)).more:
        pass
    await watched_sizes(postgres, seen)
    assert len(await records_of(postgres, 1, Log.VOTES)) == 720
    await assert_log_is_sound(postgres, 1, Random(1))
    await assert_sizes_had_one_root(postgres, seen)


WRITES = (
    "make_logs", "add_tiles", "add_range", "add_hourly_mix", "move_log_watermark", "grow_log",
    "advance_logs",
)  # fmt: skip


class Died(Exception):
    """The process, at this point."""


class Dying:
    """A connection that dies at the n-th of these statements, before or after it took effect."""

    def __init__(self, connection, query, nth, after):
        self._connection, self._query, self._left, self._after = connection, query, nth, after

    def __getattr__(self, name):
        return getattr(self._connection, name)

    @property
    def is_dead(self):
        return self._left == 0

    async def _run(self, method, query, *arguments):
        dies = query == self._query
        if dies:
            self._left -= 1
        dies = dies and self._left == 0
        if dies and not self._after:
            self._connection.terminate()
            raise Died
        found = await getattr(self._connection, method)(query, *arguments)
        if dies:
            self._connection.terminate()
            raise Died
        return found

    async def execute(self, query, *arguments):
        return await self._run("execute", query, *arguments)

    async def executemany(self, query, arguments):
        return await self._run("executemany", query, arguments)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", WRITES)
async def test_integrator_that_dies_at_any_write_leaves_nothing_behind(
    postgres, postgres_dsn, box, write, after
):
    await box.add(some(300))
    await integrate(postgres, KEYS)
    await sign_grown(postgres, KEYS)
    added = await box.add(some(300, 1))
    flag = await box.flag(list(added)[:50])
    await decide(postgres, OneFlag(flag), Action.STRIKE, by="王老师", reason="刷票")
    before = await heads(postgres)
    dying = Dying(await asyncpg.connect(postgres_dsn), LOG_SQL[write], 1, after)
    with pytest.raises((Died, asyncpg.InterfaceError)):
        await integrate(dying, KEYS)
    assert dying.is_dead
    assert await heads(postgres) == before
    await assert_log_is_sound(postgres, 1, Random(1))
    # Who comes next goes on from there; the lock went with the connection.
    await integrate(postgres, KEYS)
    votes = await assert_log_is_sound(postgres, 1, Random(2))
    assert len(votes) == 600
    assert await fold(postgres, 1, votes) == await sums(postgres, "tallies", 1)


async def test_integrator_that_dies_after_its_commit_has_integrated(
    postgres, postgres_dsn, box, monkeypatch
):
    await box.add(some(300))
    dying = Dying(await asyncpg.connect(postgres_dsn), LOG_SQL["unlock_logs"], 1, after=False)
    with pytest.raises(Died):
        await integrate(dying, KEYS)
    assert dying.is_dead
    before = await heads(postgres)
    assert (await integrate(postgres, KEYS)).votes == 0
    assert await heads(postgres) == before
    await assert_log_is_sound(postgres, 1, Random(1))


async def test_who_is_cancelled_while_waiting_for_the_lock_does_not_keep_it(
    postgres, another, postgres_dsn, box
):
    await box.add(some(10))
    waiting = await asyncpg.connect(postgres_dsn)
    async with snapshot(postgres, KEYS, 1):
        task = asyncio.create_task(integrate(waiting, KEYS))

        async def waits():
            return await another.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )

        await wait_until_async(waits)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert waiting.is_closed()
    assert (await asyncio.wait_for(integrate(another, KEYS), 5)).votes == 0


async def test_decision_comes_into_the_log_after_its_votes_and_not_before(postgres, box):
    await box.add(some(30))
    added = await box.add(counted(30))
    late = await box.flag(list(added)[20:])
    early = await box.flag([0, 1, 2])
    await decide(postgres, OneFlag(late), Action.HOLD, by=WATCH, reason="自动")
    await decide(postgres, OneFlag(early), Action.STRIKE, by="王老师", reason="刷票")
    verdicts = sum(vote.verdict == Decision.HOLD for vote in box.votes)
    steps = [await integrate(postgres, KEYS, leaves_max=40) for _ in range(2)]
    # The second decision's votes were there, but decisions keep their order.
    assert [step.rulings for step in steps] == [verdicts, 13]
    assert [step.more for step in steps] == [True, False]
    rulings = [ruling async for some in read_rulings(postgres, 1, verdicts + 13) for ruling in some]
    assert {ruling.decision for ruling in rulings[:verdicts]} == {0}
    assert [ruling.decision for ruling in rulings[verdicts:]] == [1] * 10 + [2] * 3
    assert [ruling.role for ruling in rulings[verdicts:]] == [1] * 10 + [2] * 3
    assert [ruling.state for ruling in rulings[verdicts:]] == [2] * 10 + [4] * 3
    assert (await read_head(postgres, 1, Log.RULINGS)).decision == 2


async def test_vote_that_a_decision_left_where_it_was_has_no_ruling(postgres, box):
    await box.add(counted(10))
    flag = await box.flag(range(10))
    await decide(postgres, OneFlag(flag), Action.RELEASE, by="王老师", reason="正常")
    assert (await integrate(postgres, KEYS)).rulings == 0
    assert (await read_head(postgres, 1, Log.RULINGS)).decision == 1


async def test_decision_and_votes_that_race_with_a_snapshot_are_in_it_whole_or_not_at_all(
    postgres, another, postgres_dsn, box
):
    await box.add(some(200))
    flags = [await box.flag(range(n, n + 40)) for n in range(0, 200, 40)]
    third = await asyncpg.connect(postgres_dsn)

    async def deciding():
        for n, flag in enumerate(flags * 2):
            action = (Action.STRIKE, Action.HOLD, Action.RELEASE)[n % 3]
            await decide(third, OneFlag(flag), action, by="王老师", reason="复核")

    racing = Poll(another, None)
    racing.builder = box.builder

    async def voting():
        for n in range(10):
            await racing.add(some(20, n))

    async def publishing():
        for _ in range(8):
            async with snapshot(postgres, KEYS, 1) as taken:
                tallied = await sums(postgres, "tallies", 1)
                rows = await postgres.fetch(
                    "SELECT candidate FROM votes ORDER BY shard, epoch, seq"
                )
                votes = dict(enumerate(rows))
                assert len(votes) == taken.votes.size
                assert await fold(postgres, 1, votes) == tallied

    await asyncio.gather(deciding(), voting(), publishing())
    await third.close()
    async with snapshot(postgres, KEYS, 1) as last:
        votes = await assert_log_is_sound(postgres, 1, Random(1))
        assert await fold(postgres, 1, votes) == await sums(postgres, "tallies", 1)
    assert (last.votes.size, last.rulings.decision) == (400, 10)


async def test_snapshot_sees_nothing_that_was_committed_after_it(postgres, another, box):
    await box.add(some(50))
    async with snapshot(postgres, KEYS, 1) as taken:
        late = Poll(another, None)
        late.builder = box.builder
        await late.add(some(50, 1))
        assert sum((await sums(postgres, "tallies", 1)).values()) == taken.votes.size == 50
    assert (await read_head(postgres, 1, Log.VOTES)).size == 50


async def test_what_a_caller_writes_in_a_snapshot_commits_with_it_or_not_at_all(
    postgres, another, box
):
    await box.add(some(50))

    async def publish(fails):
        async with snapshot(postgres, KEYS, 1):
            await sign_checkpoint(postgres, KEYS, 1, Log.VOTES, keep=True)
            await postgres.execute("CREATE TABLE published (at int)")
            if fails:
                raise Died

    with pytest.raises(Died):
        await publish(fails=True)
    # What the snapshot began with was committed before it: nothing of it is lost or done twice.
    assert await another.fetchval("SELECT count(*) FROM checkpoints") == 0
    assert await another.fetchval("SELECT to_regclass('published')") is None
    await publish(fails=False)
    assert await another.fetchval("SELECT count(*) FROM checkpoints") == 1
    await assert_log_is_sound(postgres, 1, Random(1))


async def test_snapshot_in_a_transaction_is_a_mistake(postgres, box):
    async with postgres.transaction():
        with pytest.raises(RuntimeError):
            await integrate(postgres, KEYS)


async def test_missing_vote_stops_the_log_instead_of_being_passed(postgres, box):
    await box.add(some(20))
    await integrate(postgres, KEYS)
    before = await heads(postgres)
    await box.add(some(20))
    await postgres.execute("ALTER TABLE votes_20260705 DISABLE TRIGGER USER")
    for seq in (21, 30, 40):
        async with postgres.transaction():
            held = await postgres.fetchrow(
                "DELETE FROM votes_20260705 WHERE seq = $1 RETURNING *", seq
            )
        with pytest.raises(LogConflict, match=f"no vote {seq}"):
            await integrate(postgres, KEYS)
        assert await heads(postgres) == before
        await postgres.copy_records_to_table("votes", records=[tuple(held)])
    assert (await integrate(postgres, KEYS)).votes == 20


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM log_tiles WHERE level = 0 AND number = 1", "lacks tiles"),
        ("UPDATE log_tiles SET content = substr(content, 1, 32) WHERE level = 0", "lacks tiles"),
        (
            "UPDATE log_tiles SET content = set_byte(content, 0, get_byte(content, 0) # 1)"
            " WHERE level = 0 AND number = 1",
            "do not give its root",
        ),
        ("DELETE FROM log_tiles WHERE level = -1 AND number = 1", "lacks entries"),
        ("UPDATE logs SET root = '\\x" + "00" * 32 + "' WHERE log = 0", "do not give its root"),
    ],
)
async def test_log_that_was_damaged_does_not_grow(postgres, box, damage, said):
    await box.add(some(300))
    await integrate(postgres, KEYS)
    await postgres.execute(damage)
    await box.add(some(10))
    before = await heads(postgres)
    with pytest.raises(LogConflict, match=said):
        await integrate(postgres, KEYS)
    assert await heads(postgres) == before


async def test_logs_take_no_other_keys_than_they_were_begun_with(postgres, box):
    await integrate(postgres, KEYS)
    for other in (
        LogKeys.make(),
        LogKeys(KEYS.name, KEYS.signing, bytes(32)),
        LogKeys(KEYS.name, bytes(32), KEYS.salts),
        LogKeys("another", KEYS.signing, KEYS.salts),
    ):
        with pytest.raises(LogConflict, match="begun with the keys of dianzan-test"):
            await integrate(postgres, other)
    with pytest.raises(asyncpg.RaiseError, match="only grows"):
        await postgres.execute("DELETE FROM log_identity")
    assert (await integrate(postgres, KEYS)).votes == 0


# Signing.


async def test_checkpoint_says_the_head_and_up_to_when_nothing_is_missing(postgres, box):
    await box.add(some(20))
    await integrate(postgres, KEYS)
    async with snapshot(postgres, KEYS, 1):
        note = await sign_checkpoint(
            postgres, KEYS, 1, Log.RULINGS, lines=("publication 3",), keep=True
        )
    said = Checkpoint.read(open_note(note, KEYS.signer.verifier))
    head = await read_head(postgres, 1, Log.RULINGS)
    assert (said.origin, said.size, said.root) == (
        "dianzan-test/spring/rulings", head.size, head.root,
    )  # fmt: skip
    at = await postgres.fetchval("SELECT min(at) FROM watermarks")
    assert head.at == at
    assert said.lines == (
        f"time {at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
        "publication 3",
    )
    assert await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 1") == note
    assert await postgres.fetchval("SELECT note FROM checkpoints WHERE log = 1") == note
    with pytest.raises(NoteError):
        open_note(note, LogKeys.make().signer.verifier)


async def test_time_stands_still_for_what_is_left_out(postgres, box):
    await box.add(some(30), seconds=10)
    await box.add(some(30), seconds=10)
    await integrate(postgres, KEYS, leaves_max=40)
    flushed = await postgres.fetchval("SELECT at FROM watermarks")
    # The last leaf is of the second entry, whose other votes are of the same moment.
    assert (await read_head(postgres, 1, Log.VOTES)).at <= flushed
    await integrate(postgres, KEYS, leaves_max=40)
    assert (await read_head(postgres, 1, Log.VOTES)).at == flushed
    assert (await read_head(postgres, 1, Log.RULINGS)).at == flushed


async def test_logs_are_signed_when_they_grew_and_one_an_hour_is_kept(postgres, box):
    async def pass_on(seconds, votes=5):
        await box.add(some(votes), seconds=seconds)
        await integrate(postgres, KEYS)
        return await sign_grown(postgres, KEYS)

    def kept(log=0):
        return postgres.fetchval("SELECT count(*) FROM checkpoints WHERE log = $1", log)

    assert await pass_on(1) == 2
    assert await sign_grown(postgres, KEYS) == 0
    assert await kept() == 1
    assert await pass_on(60) == 2
    assert await kept() == 1
    assert await pass_on(3600) == 2
    assert await kept() == 2
    # Where nothing was added, an hour later it is said again, of the same size.
    await postgres.execute("UPDATE watermarks SET at = at + interval '1 hour'")
    await integrate(postgres, KEYS)
    assert await sign_grown(postgres, KEYS) == 2
    assert await sign_grown(postgres, KEYS) == 0
    assert await kept() == 2


async def test_size_gets_no_second_root(postgres, box):
    await box.add(some(20))
    await integrate(postgres, KEYS)
    await sign_grown(postgres, KEYS)
    signed = await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 0")
    # Somebody put the database back, and other votes came.
    for change in ("root = '\\x" + "11" * 32 + "'", "size = 19"):
        await postgres.execute(f"UPDATE logs SET {change} WHERE log = 0")
        with pytest.raises(LogConflict, match="second root"):
            await sign_checkpoint(postgres, KEYS, 1, Log.VOTES, keep=False)
    assert await postgres.fetchval("SELECT checkpoint FROM logs WHERE log = 0") == signed
    # The one that is kept for ever is enough to know.
    await postgres.execute("UPDATE logs SET checkpoint = NULL, size = 20 WHERE log = 0")
    with pytest.raises(LogConflict, match="second root"):
        await sign_checkpoint(postgres, KEYS, 1, Log.VOTES, keep=True)
    with pytest.raises(asyncpg.RaiseError, match="only grows"):
        await postgres.execute("DELETE FROM checkpoints")


async def test_same_head_may_be_signed_again_with_other_lines_and_the_first_is_kept(postgres, box):
    await integrate(postgres, KEYS)
    first = await sign_checkpoint(postgres, KEYS, 1, Log.VOTES, keep=True)
    second = await sign_checkpoint(postgres, KEYS, 1, Log.VOTES, lines=("close",), keep=True)
    assert Checkpoint.of_note(second).lines[1:] == ("close",)
    assert await postgres.fetchval("SELECT note FROM checkpoints") == first


async def test_line_that_would_end_the_statement_early_is_refused(postgres, box):
    await integrate(postgres, KEYS)
    for line in ("", "two\nlines", "\n— dianzan"):
        with pytest.raises(ValueError, match="line"):
            await sign_checkpoint(postgres, KEYS, 1, Log.VOTES, lines=(line,), keep=True)


async def test_campaign_without_a_log_is_unknown(postgres, box):
    await integrate(postgres, KEYS)
    with pytest.raises(LookupError):
        await sign_checkpoint(postgres, KEYS, 9, Log.VOTES, keep=True)
    with pytest.raises(LookupError):
        async with snapshot(postgres, KEYS, 9):
            pass


# How votes lie.


async def test_very_many_runs_are_kept_in_ranges_that_are_quickly_read(postgres, box):
    """Two campaigns whose votes take turns: every run is one vote long."""
    await add_campaign(postgres, "autumn")
    other = Poll(postgres, None, campaign=2, campaign_id="autumn")
    other.builder = box.builder
    for n in range(1_100):
        await box.add(counted(1, n))
        await other.add(counted(1, n))
    await integrate(postgres, KEYS)
    longest = await postgres.fetchval("SELECT max(cardinality(run_seqs)) FROM log_ranges")
    assert longest == 1_024
    for campaign in (1, 2):
        assert len(await assert_log_is_sound(postgres, campaign, Random(1))) == 1_100


def test_a_step_is_bounded():
    assert LEAVES_MAX <= 200_000
    assert Ruling(0, 2, 0, 1, 0, 0).pack()
    assert integrator._ROW.size == 72
