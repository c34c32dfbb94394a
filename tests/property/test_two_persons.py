"""Whatever reviewers try in whatever order: no vote becomes struck, or stops being it, by one of
them alone, and what two agreed to is what they were shown.

Real Postgres. The model is the set of struck votes, which only an approved proposal changes.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tally.case_decisions import Changed, NeedsSecond, content_of, decide_alone
from tally.holds import Action, Decider, State
from tally.proposals import approve, look_now, propose, read_proposal, reject, seen
from tally.tallies import read_campaign
from tests.campaigns import add_campaign
from tests.decided import Poll, counted, sums
from tests.staff_members import add_person

PEOPLE = ("li", "wang")
CASES = (1, 2)

attempts = st.lists(
    st.one_of(
        st.tuples(
            st.just("alone"), st.sampled_from(PEOPLE), st.sampled_from(CASES),
            st.sampled_from(list(Action)),
        ),
        st.tuples(
            st.just("propose"), st.sampled_from(PEOPLE), st.sampled_from(CASES),
            st.sampled_from(list(Action)),
        ),
        # Which of the proposals so far, by whom, and whether what was shown is of now.
        st.tuples(
            st.just("approve"), st.sampled_from(PEOPLE), st.integers(0, 5), st.booleans(),
        ),
        st.tuples(st.just("reject"), st.sampled_from(PEOPLE), st.integers(0, 5), st.none()),
    ),
    max_size=12,
)  # fmt: skip


@pytest.fixture
async def fresh(postgres):
    """A campaign of its own for each example: two cases of three votes."""
    people = {name: await add_person(postgres, name) for name in PEOPLE}
    made = 0

    async def fresh():
        nonlocal made
        made += 1
        number = await add_campaign(postgres, f"c{made}", candidates=2)
        # A shard of its own: positions are told apart by it, within an epoch.
        poll = Poll(postgres, None, campaign=number, campaign_id=f"c{made}", shard=made % 128)
        poll.builder.epoch = 1 + made // 128
        votes = await poll.add([*counted(3, 1), *counted(3, 2)])
        flags = [await poll.flag(votes[:3]), await poll.flag(votes[3:])]
        return poll, flags, await read_campaign(postgres, f"c{made}")

    fresh.people = people
    return fresh


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(attempts)
async def test_no_vote_is_struck_or_brought_back_by_one_person(fresh, postgres, attempts):
    poll, flags, campaign = await fresh()
    made, struck = [], set()
    for what, name, which, how in attempts:
        by = fresh.people[name]
        if what == "alone":
            decided = await decide_alone(
                postgres, campaign, [flags[which - 1]], how,
                by=Decider(name, "reviewer"), reason="x",
            )  # fmt: skip
            wants_two = how is Action.STRIKE or which in struck
            # Struck votes that are struck once more move nothing: that is no strike.
            if how is Action.STRIKE and which in struck:
                wants_two = False
            assert isinstance(decided, NeedsSecond) == wants_two
            assert not isinstance(decided, Changed)
        elif what == "propose":
            content = content_of(campaign, [flags[which - 1]], how)
            answer = await propose(
                postgres, "decide", campaign=campaign.number, content=content, reason="x", by=by
            )
            assert answer.done
            made.append([answer.number, name, which, how, "open"])
        elif made:
            proposal = made[which % len(made)]
            number, proposer, case, action, state = proposal
            if what == "reject":
                answer = await reject(postgres, number, by=by, reason="x")
                assert answer.done == (state == "open" and name != proposer)
                if answer.done:
                    proposal[4] = "rejected"
                continue
            shown = await look_now(postgres, await read_proposal(postgres, number))
            answer = await approve(
                postgres, number, by=by, shown=seen(shown) if how else "something else"
            )
            assert answer.done == (state == "open" and name != proposer and how)
            if answer.done:
                proposal[4] = "approved"
                (struck.add if action is Action.STRIKE else struck.discard)(case)
        states = await poll.states()
        for case in CASES:
            of_case = set(states[3 * case - 3 : 3 * case])
            assert len(of_case) == 1, "a case is decided whole"
            assert (of_case == {State.STRUCK}) == (case in struck)
    for row in await postgres.fetch(
        "SELECT state FROM proposals WHERE campaign = $1 ORDER BY number", campaign.number
    ):
        assert row["state"] == made.pop(0)[4]
    tallied = await sums(postgres, "tallies", campaign.number)
    assert tallied.total() == 6
    assert sum(n for (_, state), n in tallied.items() if state is State.STRUCK) == 3 * len(struck)
