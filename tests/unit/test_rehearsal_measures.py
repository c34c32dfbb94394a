"""What a rehearsal measures with: intervals, the rules beside ours, and the cost model."""

import numpy as np
import pytest

from loadtest.rehearsal.ballots import Label, make_ballots, together
from loadtest.rehearsal.baselines import (
    auc,
    burst_scores,
    generous_threshold,
    measure,
    midas_r_scores,
)
from loadtest.rehearsal.costs import (
    HUMAN_PRICE_YUAN,
    YUAN_PER_ATTEMPT,
    YUAN_PER_SOLUTION,
    cost_per_kept_vote,
)
from loadtest.rehearsal.intervals import wilson

MINUTE_US = 60_000_000
START_US = 1_782_997_200_000_000
"""A whole hour."""


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        # Published examples: Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(hits, trials, low, high):
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilsons_interval_at_its_ends():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 5)[1] == 1.0
    low, high = wilson(0, 10_000_000)
    assert low == 0
    assert high == pytest.approx(3.84e-7, rel=0.01)


def stream_of(*edges):
    """Ballots of (minute, network, candidate, votes), honest; votes are spread over the minute."""
    parts = []
    for minute, network, candidate, votes in edges:
        source = "A1" if network == 99 else "mobile"
        parts.append(
            make_ballots(
                Label(source),
                votes,
                at_us=START_US + minute * MINUTE_US + np.arange(votes) * (MINUTE_US // votes),
                candidate=candidate,
                device=np.arange(votes),
                network=network,
                network_wide=0,
                asn=0,
                network_class=1,
                user_agent_class=40,
                tls_hash=0,
                token_age_seconds=0,
                token_level=1,
                dwell_centiseconds=500,
                oddities=0,
                solves=1,
            )
        )
    return together(parts).in_order()


def test_midas_r_finds_a_sudden_edge_in_a_steady_stream():
    steady = [(minute, network, 1, 2) for minute in range(100) for network in range(5)]
    crowd = stream_of(*steady, (90, 99, 2, 60))
    scores = midas_r_scores(crowd, tick_us=MINUTE_US)
    attack = crowd.is_attack
    assert auc(attack, scores) > 0.9
    assert np.median(scores[attack]) > 20 * np.median(scores[~attack])


def test_midas_r_counts_as_its_paper_says():
    """One edge alone, 1 vote in each of 3 ticks and then 5: worked out by hand."""
    crowd = stream_of((0, 1, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1), (3, 1, 1, 5))
    scores = midas_r_scores(crowd, tick_us=MINUTE_US, decay=0.5)
    # Tick 4 (t = 4): current 1 + .5 + .25 halved once more = .875, total 3 before it.
    current, total, expected = 0.875, 3.0, []
    for _ in range(5):
        current, total = current + 1, total + 1
        expected.append((current * 4 - total) ** 2 / (total * 3))
    assert scores[0] == 0
    assert scores[-5:] == pytest.approx(expected)


def test_the_burst_rule_scores_cells_of_thirty_and_more_by_their_surprise():
    crowd = stream_of(
        *((minute, network, 1, 1) for minute in range(50) for network in range(20)),
        (5, 99, 2, 29),
        (10, 98, 3, 100),
    )
    scores = burst_scores(crowd)
    assert (scores[crowd["network"] == 99] == 0).all()
    # mu = 100 votes of the network x 100 of the candidate / all 1,129 of the hour
    mu = 100 * 100 / 1_129
    expected = 100 * np.log(100 / mu) - 100 + mu
    assert scores[crowd["network"] == 98] == pytest.approx(np.full(100, expected))


def test_auc_is_the_chance_that_a_fake_scores_higher():
    assert auc(np.array([True, False]), np.array([2.0, 1.0])) == 1
    assert auc(np.array([True, False]), np.array([1.0, 2.0])) == 0
    assert auc(np.array([True, False, True, False]), np.ones(4)) == 0.5
    assert auc(np.array([True, True]), np.ones(2)) == 0.5


def test_the_generous_threshold_flags_as_many_as_there_are_fakes():
    positive = np.array([True, False, False, True])
    scores = np.array([3.0, 4.0, 1.0, 2.0])
    assert generous_threshold(positive, scores) == 3.0
    assert generous_threshold(np.zeros(4, bool), scores) > 4


def test_measures_count_hits_false_alarms_and_bursts_of_campuses():
    crowd = stream_of((0, 1, 1, 4), (1, 99, 1, 6))
    found = measure(crowd, np.arange(10.0), 2.0)
    assert (found.hits, found.false_alarms) == (6, 2)
    assert (found.attack_votes, found.honest_votes) == (6, 4)
    assert found.gathered_votes == 0


def test_a_kept_vote_costs_all_attempts_and_solutions_over_what_is_kept():
    assert cost_per_kept_vote("A1", 1_000, 0, 100) == pytest.approx(
        1_000 * YUAN_PER_ATTEMPT["A1"] / 100
    )
    dearer = cost_per_kept_vote("A1", 1_000, 1_000, 100)
    assert dearer is not None
    assert dearer > 0.3
    assert cost_per_kept_vote("A1", 1_000, 0, 0) is None


def test_proof_of_work_is_no_price_and_every_attempt_is_of_the_market():
    assert YUAN_PER_SOLUTION < 0.0001
    for attack, yuan in YUAN_PER_ATTEMPT.items():
        assert 0.03 <= yuan <= 0.2 or attack == "A8"
    assert YUAN_PER_ATTEMPT["A8"] >= HUMAN_PRICE_YUAN
