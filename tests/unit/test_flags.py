"""What leaving votes out does to the places, and how evidence adds up."""

from antifraud.flags import KIND_NATS, RankEffect, places, rank_effect, score_of


def test_equals_share_the_better_place():
    assert places({1: 10, 2: 30, 3: 10, 4: 5}) == {2: 1, 1: 2, 3: 2, 4: 4}


def test_only_those_whose_place_changes_are_named():
    tallies = {1: 100, 2: 90, 3: 80, 4: 10}
    assert rank_effect(tallies, {1: 15}) == RankEffect({1: -1, 2: 1})
    assert rank_effect(tallies, {4: 5}) == {}


def test_votes_of_somebody_who_is_not_in_the_tallies_change_nothing():
    assert rank_effect({1: 10, 2: 5}, {9: 4}) == {}


def test_two_strong_kinds_stay_held_when_nobody_looks_and_one_does_not():
    assert score_of([("client", 1), ("dwell", 1)]) >= 6
    assert score_of([("age", 1), ("pace", 1)]) >= 6
    assert score_of([("client", 0), ("dwell", 0)]) < 4
    assert all(score_of([(kind, 1)]) < 4 for kind in KIND_NATS)


def test_strength_is_bounded():
    assert score_of([("dwell", 99)]) == score_of([("dwell", 1)])
    assert score_of([("dwell", -1)]) == score_of([("dwell", 0)])
