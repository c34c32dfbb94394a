"""What staff are shown of a case: true to its votes, bounded, and without anything personal."""

import json
from datetime import date, timedelta
from random import Random

import numpy as np
import pytest

from antifraud.detectors import Baselines
from antifraud.detectors.buckets import AGE_BUCKETS, AGENTS, CLASSES, DWELL_BUCKETS
from antifraud.heuristics import HEURISTICS
from antifraud.networks import NetworkClass
from antifraud.screen import Decision
from tally import case_evidence
from tally.case_evidence import read_evidence, reasons_of
from tally.holds import Action, Case, State, decide
from tally.tallies import read_campaign
from tests.journal_builder import make_vote

HOUR = 3600.0


def people(number, candidate=1, seed=0):
    """Votes with every phone, and looks at the card of a second to a minute."""
    random = Random(seed)
    return [
        make_vote(random, candidate, Decision.COUNT)._replace(
            network_class=NetworkClass.MOBILE,
            user_agent_class=random.randint(32, 255),
            dwell_centiseconds=random.randint(100, 6_000),
            token_age_seconds=random.randint(60, 10**6),
            token_level=1,
        )
        for _ in range(number)
    ]


def machines(number, candidate=2, seed=1):
    """Votes of one phone, two seconds each, out of a datacentre, with new tokens."""
    return [
        vote._replace(
            network_class=NetworkClass.DATACENTRE,
            user_agent_class=77,
            dwell_centiseconds=200,
            token_age_seconds=4,
            token_level=2,
        )
        for vote in people(number, candidate, seed)
    ]


@pytest.fixture
async def mixed(poll, postgres):
    """40 votes of machines, flagged, among 200 of people, some minutes apart."""
    chosen = []
    for minute in range(4):
        await poll.add(people(50, seed=minute), seconds=60)
        chosen += await poll.add(machines(10, seed=minute), seconds=5)
    await poll.flag(chosen)
    poll.flagged = chosen
    return poll


async def evidence_of(postgres, case=1):
    return await read_evidence(postgres, await read_campaign(postgres, "spring"), case)


def facet(evidence, name):
    (found,) = [one for one in evidence.facets if one.name == name]
    return found


async def test_mixes_stand_beside_the_other_votes_of_the_same_hours(mixed, postgres):
    evidence = await evidence_of(postgres)
    assert (evidence.votes, evidence.looked_at) == (40, 40)
    assert evidence.others == 200
    assert evidence.baseline.day is None
    agent = facet(evidence, "agent")
    assert (agent.bars[0].low, agent.bars[0].here) == (77, 1.0)
    assert agent.bars[0].usual < 0.05
    assert len(agent.bars) == 10
    (dwell,) = [bar for bar in facet(evidence, "dwell").bars if bar.here]
    assert dwell.low < 2.0 <= dwell.high
    assert dwell.usual < 0.2
    (age,) = [bar for bar in facet(evidence, "age").bars if bar.here]
    assert age.low <= 2 < age.high, "its token is 4 s old, 2 of them it looked at the card"
    networks = {bar.low: (bar.here, bar.usual) for bar in facet(evidence, "network").bars}
    assert networks == {NetworkClass.MOBILE: (0.0, 1.0), NetworkClass.DATACENTRE: (1.0, 0.0)}
    levels = {bar.low: (bar.here, bar.usual) for bar in facet(evidence, "level").bars}
    assert levels == {1: (0.0, 1.0), 2: (1.0, 0.0)}


async def test_shares_of_every_fact_add_up_to_all_votes(mixed, postgres):
    for one in (await evidence_of(postgres)).facets:
        for side in ("here", "usual"):
            rest = one.rest[side == "usual"] or 0
            total = sum(getattr(bar, side) for bar in one.bars) + rest
            assert total == pytest.approx(1.0, abs=0.05), one.name


async def test_where_the_detectors_learned_a_day_that_is_the_usual_mix_of_its_networks(
    mixed, postgres
):
    tables = {
        "agent": np.full((CLASSES, AGENTS), 1 / AGENTS),
        "dwell": np.full((CLASSES, DWELL_BUCKETS), 1 / DWELL_BUCKETS),
        "age": np.full((CLASSES, AGE_BUCKETS), 1 / AGE_BUCKETS),
    }
    tables["agent"][NetworkClass.DATACENTRE] = 0
    tables["agent"][NetworkClass.DATACENTRE, 77] = 0.25
    learned = Baselines(
        **tables, stacks=np.zeros(0, np.int64), stack=np.ones((AGENTS, 1)), votes=12_345
    )
    await postgres.execute(
        "INSERT INTO baselines VALUES (1, $1, $2)",
        date(2026, 7, 4),
        json.dumps(learned.as_dict()),
    )
    evidence = await evidence_of(postgres)
    assert (evidence.baseline.day, evidence.baseline.votes) == (date(2026, 7, 4), 12_345)
    assert facet(evidence, "agent").bars[0].usual == 0.25, "all of the case is in datacentres"


async def test_the_course_counts_every_vote_once_the_cases_and_the_others(mixed, postgres):
    evidence = await evidence_of(postgres)
    assert evidence.step == timedelta(minutes=1)
    assert sum(step.here for step in evidence.course) == 40
    assert sum(step.others for step in evidence.course) == 200
    assert evidence.course[0].at <= evidence.first <= evidence.last <= evidence.course[-1].at
    assert evidence.course[0].at.tzinfo.key == "Asia/Shanghai"
    assert sum(here for here, _ in evidence.hours) == pytest.approx(1)
    assert sum(usual for _, usual in evidence.hours) == pytest.approx(1)
    assert evidence.hours[evidence.first.hour][0] > 0


async def test_a_case_over_weeks_has_no_more_steps_than_one_over_minutes(poll, postgres):
    chosen = []
    for day in range(30):
        chosen += await poll.add(
            machines(4, seed=day), seconds=24 * HOUR, day=date(2026, 7, 6) + timedelta(days=day)
        )
    await poll.flag(chosen)
    evidence = await evidence_of(postgres)
    assert len(evidence.course) <= case_evidence.COURSE_STEPS_MAX + 1
    assert sum(step.here for step in evidence.course) == 120


async def test_of_a_large_case_an_even_part_is_looked_at(poll, postgres, monkeypatch):
    monkeypatch.setattr(case_evidence, "LOOKED_AT_MAX", 50)
    monkeypatch.setattr(case_evidence, "OTHERS_MAX", 60)
    chosen = []
    for minute in range(10):
        await poll.add(people(60, seed=minute), seconds=30)
        chosen += await poll.add(machines(60, seed=minute), seconds=30)
    await poll.flag(chosen)
    evidence = await evidence_of(postgres)
    assert (evidence.votes, evidence.looked_at) == (600, 50)
    assert 0 < evidence.others <= 60
    assert sum(step.here for step in evidence.course) == pytest.approx(600, abs=20)
    with_votes = [step.here for step in evidence.course if step.here]
    assert len(with_votes) == 10, "none of its minutes is missing"


async def test_a_case_without_any_other_votes_says_so(poll, postgres):
    await poll.flag(await poll.add(machines(20)))
    evidence = await evidence_of(postgres)
    assert evidence.others == 0
    assert all(bar.usual is None for bar in facet(evidence, "network").bars)
    assert all(bar.usual is None for bar in facet(evidence, "dwell").bars)


async def test_votes_of_which_nothing_is_known_are_told_apart(poll, postgres):
    unknown = [vote._replace(user_agent_class=0, dwell_centiseconds=0) for vote in machines(10)]
    await poll.flag(await poll.add(unknown))
    evidence = await evidence_of(postgres)
    assert (facet(evidence, "agent").unknown, facet(evidence, "dwell").unknown) == (1.0, 1.0)
    assert facet(evidence, "agent").bars == facet(evidence, "dwell").bars == ()
    assert all(vote.dwell_seconds is None for vote in evidence.sample)


async def test_other_campaigns_votes_of_the_same_shard_are_no_others(mixed, poll, postgres):
    # Between the case's positions, on the same shard.
    await poll.add(people(50, seed=9), campaign=2)
    more = await poll.add(machines(12, seed=8))
    await poll.flag([*more])
    evidence = await evidence_of(postgres, 2)
    assert all(bar.here in (0.0, 1.0) for bar in facet(evidence, "level").bars)
    assert evidence.others <= 240


async def test_every_fact_at_its_ends_is_shown(poll, postgres):
    """Bytes are drawn over their whole range here, as no edge would send them."""
    random = Random(5)
    extreme = [make_vote(random, 1, Decision.HOLD) for _ in range(30)]
    await poll.flag(await poll.add(extreme))
    evidence = await evidence_of(postgres)
    assert {vote.network for vote in evidence.sample} <= set(NetworkClass)
    assert len(evidence.sample) == 30


# The sample.


async def test_the_sample_is_spread_over_the_case_and_bounded(poll, postgres):
    chosen = []
    for minute in range(8):
        chosen += await poll.add(machines(20, seed=minute), seconds=60)
    flag = await poll.flag(chosen)
    await decide(postgres, Case(flag), Action.STRIKE, by="王老师", reason="x")
    sample = (await evidence_of(postgres)).sample
    assert len(sample) == case_evidence.SAMPLE_MAX
    assert sample == tuple(sorted(sample, key=lambda vote: vote.at))
    assert len({vote.at.replace(second=0) for vote in sample}) == 8
    assert {vote.state for vote in sample} == {State.STRUCK}
    assert sample[0].position == "0:1:1"


async def test_nothing_shown_of_a_vote_names_a_device_a_network_or_a_click(mixed, postgres):
    shown = repr(await evidence_of(postgres))
    for vote in mixed.votes:
        for name in (vote.device, vote.network, vote.network_wide, vote.click):
            assert name.hex() not in shown
            assert str(int.from_bytes(name, "big")) not in shown
            assert str(int.from_bytes(name, "big", signed=True)) not in shown


def test_reasons_are_told_by_name_the_weightiest_first():
    fresh = next(rule for rule in HEURISTICS if rule.name == "token-fresh")
    assert reasons_of(fresh.code << 16 | 3 << 8 | 2) == ("token-fresh", "cell", "new-devices")
    assert reasons_of(0) == ()
    assert reasons_of(250) == ("250",), "one that this version does not know"


async def test_a_case_that_is_not_there_has_no_evidence(mixed, postgres):
    assert await evidence_of(postgres, 99) is None
    # This one continues the first: it is no case of its own.
    await mixed.flag([*mixed.flagged, *await mixed.add(machines(12, seed=7))])
    assert (await evidence_of(postgres, 1)).votes == 52
    assert await evidence_of(postgres, 2) is None
