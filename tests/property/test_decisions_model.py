"""Whatever is decided in whatever order: Postgres, the hot state and a plain model agree.

Real servers. The model is a list of votes, each with its state and whoever spoke of it last.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antifraud.screen import Decision
from tally.adjudications import HotTallies, replay
from tally.case_files import read_cases
from tally.holds import WATCH, Action, Case, OneFlag, State, decide, release_undecided
from tally.tallies import read_campaign
from tests.campaigns import add_campaign
from tests.decided import Poll, hot_sums, sums
from tests.journal_builder import make_vote
from voting.campaign import microseconds

SHARDS = (0, 1)
OF_ACTION = {
    Action.HOLD: State.HELD,
    Action.RELEASE: State.COUNTED,
    Action.STRIKE: State.STRUCK,
}
GROWING = ("flags", "flag_votes", "decisions", "decision_votes", "adjudications", "comments")
SUMS = ("tallies", "minutes", "minute_totals")


class Model:
    """What should be."""

    def __init__(self, verdicts, candidates):
        self.states = [State(verdict) for verdict in verdicts]
        self.candidates = candidates
        self.last_by = [None] * len(verdicts)

    def decide(self, votes, action, by):
        """The votes that it spoke of, and the moves."""
        spoken, moves = [], Counter()
        for n in votes:
            state = self.states[n]
            if by == WATCH:
                if self.last_by[n] not in (None, WATCH) or action is Action.STRIKE:
                    continue
                if state is State.STRUCK or (action is Action.RELEASE and state is not State.HELD):
                    continue
            spoken.append(n)
            self.last_by[n] = by
            if state is not OF_ACTION[action]:
                self.states[n] = OF_ACTION[action]
                moves[self.candidates[n], state] -= 1
                moves[self.candidates[n], OF_ACTION[action]] += 1
        return spoken, moves

    def sums(self):
        return Counter(zip(self.candidates, self.states, strict=True))


@pytest.fixture
async def clear(postgres, valkey):
    """Begins anew: tables that only grow have to be let shrink for once."""

    async def clear():
        await valkey.flushall()
        async with postgres.transaction():
            for table in (*GROWING, "votes"):
                await postgres.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for row in await postgres.fetch(
                "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
                " WHERE inhparent = 'votes'::regclass"
            ):
                await postgres.execute(f"DROP TABLE {row['name']}")
            names = ", ".join((*GROWING, "vote_state", *SUMS, "watermarks", "objections"))
            await postgres.execute(f"TRUNCATE {names}")
            for table in (*GROWING, "votes"):
                await postgres.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    await add_campaign(postgres, "spring", candidates=4)
    return clear


orders = st.lists(
    st.tuples(
        st.sampled_from(Action),
        st.sampled_from([WATCH, WATCH, "王老师", "李老师"]),
        st.integers(0, 5),  # which flag
        st.booleans(),  # its whole case
        st.booleans(),  # replay afterwards
    ),
    max_size=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.integers(0, 10_000), orders)
async def test_any_decisions_in_any_order_move_postgres_the_hot_state_and_the_model_alike(
    clear, postgres, valkey, seed, orders
):
    await clear()
    random = Random(seed)
    polls = [Poll(postgres, valkey, shard=shard, seed=seed + shard) for shard in SHARDS]
    for poll in polls:
        for _ in range(3):
            votes = [
                make_vote(
                    random,
                    random.randint(1, 4),
                    random.choice((Decision.COUNT, Decision.COUNT, Decision.HOLD)),
                )
                for _ in range(20)
            ]
            await poll.add(votes, seconds=random.choice((1, 40, 90)))
    # Flags lie on one shard each here; the two shards' votes are 0..59 and 60..119.
    model = Model(
        [vote.verdict for poll in polls for vote in poll.votes],
        [vote.candidate for poll in polls for vote in poll.votes],
    )
    flags, cases = [], {}
    for number in range(6):
        shard = number % 2
        free = [n for n in range(60) if not any(n + 60 * shard in held for _, held in flags)]
        chosen = random.sample(free, 10)
        # The same case once more, with others.
        again = (
            [n - 60 * shard for n in flags[-2][1]] if number >= 4 and random.random() < 0.7 else []
        )
        flag = await polls[shard].flag([*chosen, *again])
        flags.append((flag, [n + 60 * shard for n in chosen]))
        cases[flag] = cases[flags[-3][0]] if again else flag
    received = model.sums().total()

    for action, by, which, whole, replayed in orders:
        flag, votes = flags[which]
        if whole:
            votes = [n for f, held in flags if cases[f] == cases[flag] for n in held]
        spoken, moves = model.decide(votes, action, by)
        decided = await decide(
            postgres, Case(flag) if whole else OneFlag(flag), action, by=by, reason="复核"
        )
        if by == WATCH and not spoken:
            assert decided is None
        else:
            assert decided.votes == len(spoken)
            found = Counter()
            for delta in decided.deltas:
                for state, moved in zip(State, delta[1:], strict=True):
                    found[delta.candidate, state] += moved
            assert {key: n for key, n in found.items() if n} == {
                k: n for k, n in moves.items() if n
            }
        if replayed:
            for shard in SHARDS:
                await replay(postgres, HotTallies(valkey, shard), shard)

    for shard in SHARDS:
        await replay(postgres, HotTallies(valkey, shard), shard)
        assert await replay(postgres, HotTallies(valkey, shard), shard) == 0
    # Two polls look at one table: each finds its own shard's states.
    states = []
    for poll in polls:
        rows = await postgres.fetch(
            "SELECT v.seq, coalesce(s.state, v.verdict) AS state FROM votes v"
            " LEFT JOIN vote_state s USING (day, shard, epoch, seq)"
            " WHERE v.shard = $1 ORDER BY v.seq",
            poll.shard,
        )
        states += [State(row["state"]) for row in rows]
    assert states == model.states
    assert await sums(postgres, "tallies", 1) == +model.sums()
    assert await sums(postgres, "minutes", 1) == +Counter(
        {key: n for key, n in model.sums().items() if key[1] is not State.STRUCK}
    )
    hot = sum([await hot_sums(valkey, shard, "spring") for shard in SHARDS], Counter())
    assert hot == +model.sums()
    assert hot.total() == received, "the sum always holds"
    await _assert_states_follow_from_the_decisions(postgres)
    await _assert_cases_know_where_their_votes_are(postgres, flags, cases, model)


async def _assert_cases_know_where_their_votes_are(postgres, flags, cases, model):
    """What follows from the decisions alone is what the votes say, one by one."""
    wanted = {}
    for flag, votes in flags:
        of_case = wanted.setdefault(cases[flag], Counter())
        of_case.update((model.candidates[n], model.states[n]) for n in votes)
    campaign = await read_campaign(postgres, "spring")
    found = await read_cases(postgres, campaign, closed=True)
    number = {candidate.id: candidate.number for candidate in campaign.candidates}
    assert wanted == {
        case.number: Counter(
            {
                (number[id_], state): votes
                for id_, states in case.candidates.items()
                for state, votes in states.items()
            }
        )
        for case in found
    }


async def _assert_states_follow_from_the_decisions(postgres):
    replayed, decided_by = {}, {}
    for row in await postgres.fetch("SELECT * FROM decision_votes ORDER BY decision"):
        for seq in row["seqs"]:
            position = (row["day"], row["shard"], row["epoch"], seq)
            if position in replayed:
                assert row["from_state"] == replayed[position]
            replayed[position], decided_by[position] = row["to_state"], row["decision"]
    stored = await postgres.fetch("SELECT day, shard, epoch, seq, state, decision FROM vote_state")
    assert {tuple(row)[:4]: row["state"] for row in stored} == replayed
    assert {tuple(row)[:4]: row["decision"] for row in stored} == decided_by


async def test_the_release_of_what_nobody_decided_is_told_by_age_score_and_who_spoke(
    clear, postgres, valkey
):
    await clear()
    poll = Poll(postgres, valkey)
    at = datetime.now(UTC)
    poll.builder.at_us = microseconds(at - timedelta(hours=30))
    random = Random(1)

    def held(score):
        return make_vote(random, 1, Decision.HOLD)._replace(score=score)

    await poll.add([held(5_999), held(6_000), held(-4_600)])
    weak = await poll.add([make_vote(random, 2, Decision.COUNT) for _ in range(4)])
    strong = await poll.add([make_vote(random, 3, Decision.COUNT) for _ in range(4)])
    decided = await poll.add([make_vote(random, 4, Decision.COUNT) for _ in range(4)])
    for votes, score in ((weak, 5.9), (strong, 6.0), (decided, 1.0)):
        flag = await poll.flag(votes, score=score)
        await decide(postgres, OneFlag(flag), Action.HOLD, by=WATCH, reason="自动")
    await decide(postgres, Case(flag), Action.HOLD, by="王老师", reason="像是刷票")
    before = await poll.states()

    # Too early for what was flagged just now; the votes came long before.
    first = await release_undecided(postgres, 1, at + timedelta(hours=19))
    assert [one.votes for one in first] == [2]
    assert await poll.states() == [State.COUNTED, State.HELD, State.COUNTED, *before[3:]]

    second = await release_undecided(postgres, 1, at + timedelta(hours=20, minutes=1))
    assert [one.votes for one in second] == [4]
    assert await poll.states() == [
        State.COUNTED, State.HELD, State.COUNTED,
        *[State.COUNTED] * 4, *[State.HELD] * 4, *[State.HELD] * 4,
    ]  # fmt: skip
    assert await release_undecided(postgres, 1, at + timedelta(hours=40)) == []
    assert await release_undecided(postgres, 1, at, before_seal=True) == []


async def test_before_a_seal_nothing_waits_for_its_20_hours(clear, postgres, valkey):
    await clear()
    poll = Poll(postgres, valkey)
    votes = await poll.add([make_vote(Random(n), 1, Decision.COUNT) for n in range(5)])
    flag = await poll.flag(votes, score=5.0)
    await decide(postgres, OneFlag(flag), Action.HOLD, by=WATCH, reason="自动")
    (released,) = await release_undecided(postgres, 1, datetime.now(UTC), before_seal=True)
    assert released.moved == 5
    assert set(await poll.states()) == {State.COUNTED}
