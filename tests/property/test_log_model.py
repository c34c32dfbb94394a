"""Whatever is voted and decided, and in whatever steps it is taken in: the logs are RFC 6962 trees
of exactly that, each size has one root, and the rulings over the leaves are the tally."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antifraud.screen import Decision
from tally.holds import WATCH, Action, OneFlag, decide
from tally.log.integrator import integrate, sign_checkpoint, sign_grown, snapshot
from tally.log.signed_note import open_note
from tally.log.store import read_head
from tests.campaigns import add_campaign
from tests.decided import Poll, sums
from tests.journal_builder import DAY, make_vote
from tests.logged import (
    KEYS,
    assert_log_is_sound,
    assert_sizes_had_one_root,
    fold,
    watched_sizes,
)
from voting.checkpoint import Checkpoint
from voting.log_reader import Log

TABLES = (
    "flags", "flag_votes", "decisions", "decision_votes", "adjudications", "log_ranges",
    "checkpoints", "comments",
)  # fmt: skip
VERDICTS = (Decision.COUNT, Decision.COUNT, Decision.HOLD)
PLAIN = (
    "vote_state", "tallies", "minutes", "minute_totals", "watermarks", "log_watermarks", "logs",
    "log_tiles", "hourly_mix", "objections",
)  # fmt: skip


@pytest.fixture
async def clear(postgres):
    """Begins anew: tables that only grow have to be let shrink for once."""

    async def clear():
        async with postgres.transaction():
            for table in (*TABLES, "votes"):
                await postgres.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for row in await postgres.fetch(
                "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
                " WHERE inhparent = 'votes'::regclass"
            ):
                await postgres.execute(f"DROP TABLE {row['name']}")
            await postgres.execute(f"TRUNCATE {', '.join((*TABLES, *PLAIN))}")
            for table in (*TABLES, "votes"):
                await postgres.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    await add_campaign(postgres, "spring", candidates=4)
    await add_campaign(postgres, "autumn", candidates=4)
    return clear


events = st.lists(
    st.one_of(
        st.tuples(
            st.just("votes"),
            st.integers(0, 3),  # campaign and shard
            st.integers(1, 40),
            st.sampled_from([-1, 0, 0, 0, 1]),  # days: zones differ, and midnight is a moment
        ),
        st.tuples(st.just("epoch"), st.integers(0, 1), st.integers(-5, 5)),
        st.tuples(st.just("decide"), st.sampled_from(Action), st.booleans(), st.integers(0, 99)),
        st.tuples(st.just("step"), st.sampled_from([1, 7, 64, 1_000])),
        st.tuples(st.just("sign")),
    ),
    max_size=25,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.integers(0, 10_000), events)
async def test_logs_are_the_trees_of_what_was_voted_and_decided(clear, postgres, seed, events):
    await clear()
    random, seen = Random(seed), {}
    polls = [
        Poll(postgres, None, campaign, name, shard, seed + shard)
        for campaign, name in ((1, "spring"), (2, "autumn"))
        for shard in (0, 1)
    ]
    for shard in (0, 1):  # one journal a shard, whatever is voted on
        polls[2 + shard].builder = polls[shard].builder
    flags = []
    for event in events:
        match event:
            case "votes", which, number, days:
                votes = [
                    make_vote(random, random.randint(1, 4), random.choice(VERDICTS))
                    for _ in range(number)
                ]
                added = await polls[which].add(votes, day=DAY + timedelta(days=days))
                chosen = random.sample(added, random.randint(1, number))
                flags.append(await polls[which].flag(chosen))
            case "epoch", shard, moves:
                builder = polls[shard].builder
                builder.new_epoch(max(moves, -builder.seq))
            case "decide", action, by_watch, which if flags:
                by = WATCH if by_watch and action is not Action.STRIKE else "王老师"
                flag = OneFlag(flags[which % len(flags)])
                await decide(postgres, flag, action, by=by, reason="复核")
            case "step", leaves_max:
                await integrate(postgres, KEYS, leaves_max=leaves_max)
                await watched_sizes(postgres, seen)
            case ("sign",):
                await sign_grown(postgres, KEYS)

    for campaign in (1, 2):
        if await postgres.fetchval("SELECT count(*) FROM logs"):
            await assert_log_is_sound(postgres, campaign, random)
        async with snapshot(postgres, KEYS, campaign) as heads:
            # In the same transaction: the two heads are exactly this tally.
            votes = await assert_log_is_sound(postgres, campaign, random)
            assert await fold(postgres, campaign, votes) == await sums(
                postgres, "tallies", campaign
            )
            assert heads.votes.size == len(votes)
            assert heads.rulings == await read_head(postgres, campaign, Log.RULINGS)
            note = await sign_checkpoint(postgres, KEYS, campaign, Log.VOTES, keep=True)
        said = Checkpoint.read(open_note(note, KEYS.signer.verifier))
        assert (said.size, said.root) == (heads.votes.size, heads.votes.root)
        assert said.origin == f"dianzan-test/{('spring', 'autumn')[campaign - 1]}/votes"
    await watched_sizes(postgres, seen)
    for row in await postgres.fetch("SELECT campaign, log, size, root FROM checkpoints"):
        key = row["campaign"], row["log"], row["size"]
        assert seen.setdefault(key, bytes(row["root"])) == bytes(row["root"])
    await assert_sizes_had_one_root(postgres, seen)
    await _assert_mix_is_counted(postgres)


async def _assert_mix_is_counted(postgres):
    counted = await postgres.fetch("SELECT * FROM hourly_mix ORDER BY 1, 2, 3")
    wanted = await postgres.fetch(
        "SELECT campaign, date_trunc('hour', at) AS hour, network_class, count(*) AS votes,"
        " count(*) FILTER (WHERE verdict = 2) AS held FROM votes GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    assert [tuple(row) for row in counted] == [tuple(row) for row in wanted]
