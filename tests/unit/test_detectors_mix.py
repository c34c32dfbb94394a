"""What is usual, and how unlike it the mix of a set of votes is."""

import numpy as np
import pytest

from antifraud.detectors.baselines import Breakdown, breakdowns, learn, middle_share
from antifraud.detectors.buckets import (
    AGE_BUCKETS,
    DWELL_BUCKETS,
    dwell_bucket,
    forget,
    lead_bucket,
    product,
    see,
)
from antifraud.detectors.bursts import expected, surprise
from antifraud.detectors.crowd import Addresses, Issued
from antifraud.detectors.evidence import (
    AGE_MISFIT,
    AGENT_RATIO,
    DWELL_MISFIT,
    PACE,
    STACK_MISFIT,
    pace,
)
from antifraud.detectors.mix import count, judge_mix
from tests.detector_crowds import HOME, MOBILE, Crowd, database_of


@pytest.fixture(scope="module")
def usual():
    from antifraud.detectors import detect

    db, _ = Crowd(31).add("crowd", 60_000).database()
    return detect(db).baselines


def mix_of(usual, votes=400, *, cls=HOME, agent=None, dwell=None, age=None, tls=0):
    """The mix of one set; what is not given is unknown."""
    whole = np.ones(votes, np.int64)
    dwell = np.zeros(votes) if dwell is None else np.asarray(dwell)
    lead = np.full(votes, 90_000) if age is None else np.asarray(age)
    return judge_mix(
        count(
            1,
            0 * whole,
            cls * whole,
            (0 if agent is None else np.asarray(agent)) * whole,
            dwell_bucket(dwell.astype(np.int64)),
            lead_bucket(lead.astype(np.int64), 0 * whole),
            np.asarray(tls) * whole,
            usual,
        ),
        usual,
    )


@pytest.mark.parametrize("median_seconds", [1.0, 2.0, 4.5, 12.0])
@pytest.mark.parametrize("votes", [60, 400, 4_000])
def test_people_fit_at_any_speed(usual, median_seconds, votes):
    dice = np.random.default_rng(votes)
    dwell = 100 * median_seconds * dice.lognormal(0, 0.7, votes)
    assert mix_of(usual, votes, dwell=dwell).dwell_misfit[0] < DWELL_MISFIT / 2


@pytest.mark.parametrize("seconds", [0.3, 2.0, 8.0, 45.0])
def test_machines_fit_at_none(usual, seconds):
    """A pause of 15 % more or less is still no crowd."""
    dice = np.random.default_rng(1)
    dwell = 100 * seconds * dice.normal(1, 0.15, 400).clip(0.3)
    assert mix_of(usual, dwell=dwell).dwell_misfit[0] > DWELL_MISFIT


def test_tokens_younger_than_the_look_are_not_explained_by_haste(usual):
    votes = np.arange(400)
    columns = count(
        1,
        0 * votes,
        0 * votes + HOME,
        0 * votes,
        0 * votes,
        np.where(votes % 4 > 0, 0, 3),
        0 * votes,
        usual,
    )
    share = usual.age[HOME, 0]
    assert share < 0.35  # this simple crowd has some, for its ages and dwells are drawn apart
    assert judge_mix(columns, usual).age_misfit[0] > AGE_MISFIT / 2


def test_five_company_phones_are_alike_and_nothing_else(usual):
    dice = np.random.default_rng(2)
    mix = mix_of(
        usual,
        agent=dice.choice([40, 55, 70, 80, 99], 400),
        dwell=dice.lognormal(5.3, 0.65, 400),
        age=dice.lognormal(2.8, 0.9, 400),
    )
    assert mix.agent_ratio[0] > AGENT_RATIO
    assert mix.dwell_misfit[0] < DWELL_MISFIT
    assert mix.age_misfit[0] < AGE_MISFIT


def test_a_stack_that_belongs_to_no_such_phone_is_seen(usual):
    crowd = Crowd(31)
    agent = crowd.models_of_the_crowd(400)
    assert mix_of(usual, agent=agent, tls=crowd.tls_of[agent]).stack_misfit[0] < 0.3
    assert mix_of(usual, agent=agent, tls=777).stack_misfit[0] > STACK_MISFIT


def test_what_is_unknown_takes_no_part(usual):
    mix = mix_of(usual)
    assert np.isnan(mix.stack_misfit[0])
    assert np.isnan(mix.dwell_misfit[0])
    assert mix.agent_ratio[0] == 0 or np.isnan(mix.agent_ratio[0])


def test_the_middle_of_the_candidates_is_not_moved_by_one_of_them():
    dice = np.random.default_rng(3)
    honest = dice.multinomial(1_000, [0.5, 0.3, 0.15, 0.05], 100).astype(float)
    stuffed = honest.copy()
    stuffed[7, 3] += 500_000
    assert np.allclose(middle_share(honest), [0.5, 0.3, 0.15, 0.05], atol=0.01)
    assert middle_share(stuffed)[3] < 0.06


def test_a_breakdown_without_another_is_of_the_rest():
    whole = Breakdown({"c": np.array([1, 1, 2]), "u": np.array([3, 4, 3])}, np.array([5, 6, 7]))
    part = Breakdown({"c": np.array([2, 1]), "u": np.array([3, 4])}, np.array([7, 2]))
    rest = whole.minus(part)
    found = dict(zip(zip(*map(np.ndarray.tolist, rest.columns.values()), strict=True),
                     rest.votes.tolist(), strict=True))  # fmt: skip
    assert found == {(1, 3): 5, (1, 4): 4}


def test_the_buckets_of_sql_are_those_of_python():
    dice = np.random.default_rng(4)
    columns, _ = Crowd(5).add("crowd", 3_000).table()
    columns["dwell_centiseconds"] = dice.integers(0, 65_536, 3_000)
    columns["dwell_centiseconds"][:200] = np.arange(200)
    columns["token_age_seconds"] = (2.0 ** dice.uniform(0, 32, 3_000)).astype(np.int64)
    db = database_of(columns)
    assert see(db) == 3_000
    rows = db.execute("SELECT vote, d, a FROM seen ORDER BY vote").fetchnumpy()
    order = np.argsort(columns["vote"])
    dwell, age = columns["dwell_centiseconds"][order], columns["token_age_seconds"][order]
    assert (rows["d"] == dwell_bucket(dwell)).all()
    assert (rows["a"] == lead_bucket(age, dwell)).all()
    assert rows["d"].max() < DWELL_BUCKETS
    assert rows["a"].max() < AGE_BUCKETS
    forget(db)


def test_the_pace_of_a_loop_and_of_people():
    dice = np.random.default_rng(6)
    loop = np.arange(300) * 1_000_000 + dice.normal(0, 150_000, 300).astype(np.int64)
    people = np.sort(dice.integers(0, 300_000_000, 300))
    assert pace(loop) < PACE < pace(people)
    assert pace(loop[:20]) == float("inf")
    assert pace(np.zeros(100, np.int64)) == float("inf")


def test_more_than_expected_surprises_and_less_does_not():
    assert surprise(np.array([30.0]), np.array([1.0]))[0] == pytest.approx(73.04, abs=0.01)
    assert surprise(np.array([3.0]), np.array([30.0]))[0] == 0
    assert surprise(np.array([5.0]), np.array([0.0]))[0] > 40


def test_a_cell_is_not_expected_because_it_is_there():
    """One network with all the votes there are is no usual network."""
    one = np.array([50.0])
    assert expected(one, one, one, 50.0)[0] == 1
    assert expected(one, np.array([1_050.0]), np.array([10_050.0]), 100_050.0)[0] == pytest.approx(
        100, rel=0.01
    )


def test_where_little_is_known_of_networks_and_hours_all_are_as_likely():
    nowhere = Addresses(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    assert (nowhere.share(np.array([1, 2])) == nowhere.share(np.array([3, 4]))).all()
    never = Issued(np.zeros(0, np.int64), np.zeros(0))
    assert never.share(np.array([5])).tolist() == [1.0]
    assert never.collision == 1.0


def test_products_a_few_rows_at_a_time_are_products():
    dice = np.random.default_rng(7)
    left, right = dice.random((1_000, 256)), dice.random((256, 30))
    assert np.allclose(product(left, right), left @ right)


def test_a_class_that_is_hardly_known_is_taken_for_all(usual):
    """No vote of an unknown class in that crowd: its mix is everybody's."""
    assert np.allclose(usual.agent[0], usual.agent[5])
    assert not np.allclose(usual.agent[0], usual.agent[MOBILE])


def test_stuffers_do_not_make_an_empty_class_their_own():
    """Nobody is in the class of unknown networks but a script: what is usual there stays what is
    usual elsewhere."""
    crowd = Crowd(32).add("crowd", 40_000)
    for candidate in range(20, 40):
        crowd.script(50, candidate, network_class=0)
    db, _ = crowd.database()
    see(db)
    assert learn(breakdowns(db)).agent[0, 40] < 0.05
    forget(db)
