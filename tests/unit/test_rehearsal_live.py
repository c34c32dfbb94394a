"""The rehearsal through HTTP, without a service: who comes, and how a challenge is solved."""

import time

import numpy as np
import pytest

from antifraud.challenge import Challenges, Finding
from antifraud.networks import NetworkClass, builtin, prefixes_of
from antifraud.user_agents import AUTOMATION, FIRST_MODEL, agent_class
from loadtest.rehearsal.ballots import Label, make_ballots, together
from loadtest.rehearsal.live import as_text, draw_voters, solve
from loadtest.rehearsal.nearline import PASS_US, QUIET_US, WATCHED_US, _schedule

DEVICE, PREFIX = b"d" * 12, b"\4\1\2\3\4"


@pytest.fixture(scope="module")
def voters():
    return draw_voters(12, votes=300, seconds=60, seed=1)


def class_of(voter):
    return builtin().look_up(prefixes_of(voter.address)).network_class


def test_a_small_crowd_and_six_attacks_come_in_order_of_time(voters):
    groups = {voter.group for voter in voters}
    assert groups == {
        *("mobile", "home", "campus-burst"),
        *("A1 none", "A1 ua", "A2 ua", "A9 none", "A12 ua", "A13 ua"),
    }
    starts = [voter.starts for voter in voters]
    assert starts == sorted(starts)
    assert 0 <= starts[0] <= starts[-1] <= 60
    honest = [voter for voter in voters if not voter.group.startswith("A")]
    assert 300 <= sum(len(voter.candidates) for voter in honest) <= 305
    assert all(voter.dwell_seconds * len(voter.candidates) <= 15 for voter in honest)


def test_the_same_seed_sends_the_same_people(voters):
    assert draw_voters(12, votes=300, seconds=60, seed=1) == voters
    assert draw_voters(12, votes=300, seconds=60, seed=2) != voters


def test_addresses_are_of_the_class_that_each_claims(voters):
    for group, network_class in (
        ("A1 ua", NetworkClass.DATACENTRE),
        ("A9 none", NetworkClass.MOBILE),
        ("mobile", NetworkClass.MOBILE),
        ("campus-burst", NetworkClass.CAMPUS),
    ):
        found = {class_of(voter) for voter in voters if voter.group == group}
        assert found == {network_class}, group
    assert len({voter.address for voter in voters if voter.group == "campus-burst"}) == 1
    rotated = {voter.address.rpartition(".")[0] for voter in voters if voter.group == "A2 ua"}
    assert len(rotated) == 1


def test_user_agents_are_phones_and_a_library(voters):
    for voter in voters:
        number = agent_class(voter.user_agent)
        assert (number == AUTOMATION) == (voter.group == "A1 none")
        assert number >= FIRST_MODEL or number == AUTOMATION


@pytest.mark.parametrize("slow", [False, True])
def test_a_solution_is_what_the_service_takes(slow):
    challenges = Challenges({1: b"k" * 32})
    made_at = time.time() - 20
    challenge = challenges.make(1, DEVICE, PREFIX, made_at, slow=slow)
    checked = challenges.check(solve(challenge), DEVICE, PREFIX, time.time())
    assert checked.finding is Finding.SOLVED
    assert checked.slow is slow


@pytest.mark.parametrize("wrong", [{}, {"parameters": {}}, {"parameters": {"salt": 1}}])
def test_what_is_no_challenge_is_not_solved(wrong):
    with pytest.raises(ValueError, match="no challenge"):
        solve(wrong)


def test_the_report_says_that_held_likes_look_counted():
    said = as_text(
        {
            "target": "http://127.0.0.1:1",
            "campaign": "demo",
            "seed": 1,
            "seconds": 8.0,
            "groups": {
                "mobile": {"devices": 2, "likes": 3, "challenged": 0, "answers": {"counted": 3}},
                "A1 ua": {"devices": 1, "likes": 1, "challenged": 1, "answers": {"left": 1}},
            },
            "problem": "",
        }
    )
    assert "group" in said.splitlines()[2]
    assert "dianzan tally --campaign demo --json" in said


def test_near_line_passes_are_hourly_five_minutes_after_a_short_attack_and_daily_at_midnight():
    day_us = 86_400_000_000
    midnight = 1_783_008_000_000_000  # in Asia/Shanghai, 16:00 UTC
    assert (midnight // 1_000_000 + 8 * 3600) % 86_400 == 0
    usual = {
        "candidate": 1, "device": 1, "network": 1, "network_wide": 1, "asn": 0,
        "network_class": 1, "user_agent_class": 40, "tls_hash": 0, "token_age_seconds": 1,
        "token_level": 1, "dwell_centiseconds": 1, "oddities": 0, "solves": 1,
    }  # fmt: skip
    people = np.arange(midnight - 5 * QUIET_US + 1, midnight + 1_000_000, 60_000_000)
    began = midnight - 3 * QUIET_US + 7_000_000
    crowd = together(
        [
            make_ballots(Label("home"), len(people), at_us=people, **usual),
            make_ballots(
                Label("A1", 1_000, "none", "1h", 1), 2, at_us=np.array([began, began + 9]), **usual
            ),
            make_ballots(Label("A1", 1_000, "none", "1d", 2), 1, at_us=np.array([began]), **usual),
        ]
    ).in_order()
    passes = _schedule(crowd, crowd["at_us"], None)
    assert passes == sorted(passes)
    assert [moment for moment, daily in passes if daily] == [midnight, midnight + day_us]
    two_hours = [moment for moment, daily in passes if not daily]
    after = [moment for moment in two_hours if began < moment <= began + WATCHED_US]
    assert after == list(range(began - 7_000_000 + PASS_US, began + WATCHED_US, PASS_US))
    assert {moment for moment in two_hours if moment % QUIET_US == 0} >= {
        midnight - QUIET_US * n for n in range(5)
    }
