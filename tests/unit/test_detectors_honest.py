"""What looks like fraud and is not: nothing of it may be held."""

import numpy as np
import pytest

from antifraud.detectors import detect
from tests.detector_crowds import CAMPUS, DATACENTRE, HOME, honest


@pytest.fixture(scope="module")
def found():
    db, groups = honest(7).database()
    return detect(db), groups


def held_of(found, group):
    flags, groups = found[0].flags, found[1]
    held = [flag.votes for flag in flags if flag.automatic]
    return int((groups[np.concatenate(held)] == group).sum()) if held else 0


@pytest.mark.parametrize(
    "group", ["crowd", "campus", "employer", "cascade", "family", "private", "shop"]
)
def test_no_honest_group_is_held(found, group):
    """Campuses, company phones, shared links, families, private windows and a phone shop."""
    assert held_of(found, group) == 0


def test_company_phones_are_not_even_asked_about(found):
    """Five models behind two addresses, quick and new: the likeness of phones alone is no flag."""
    assert found[0].flags == ()


def test_a_crowd_that_hurries_is_no_machine():
    """Told to vote before the meeting begins: three times as fast, still spread as people are."""
    crowd = honest(8, votes=30_000)
    crowd.add(
        "meeting",
        800,
        candidate=150,
        network_class=CAMPUS,
        network=77,
        network_wide=7,
        dwell_centiseconds=crowd.rng.lognormal(5.0, 0.6, 800).clip(30, 65_535),
        at_us=crowd.moments(800, 10, 12),
        **crowd.newcomers(800, 0.95),
    )
    db, _ = crowd.database()
    assert detect(db).flags == ()


def test_a_make_of_phone_that_one_candidate_is_loved_by_is_no_lockstep():
    """The maker's own people, from their homes, over the whole day."""
    crowd = honest(9, votes=30_000)
    crowd.add("makers", 900, candidate=140, network_class=HOME, user_agent_class=77)
    db, _ = crowd.database()
    assert not any(flag.automatic for flag in detect(db).flags)


def test_an_evening_on_television_is_no_minting_of_tokens():
    """Thousands of tokens of one hour that come back next day for the same candidate."""
    crowd = honest(10, votes=40_000, hours=48)
    hour_us = 3_600_000_000
    evening = crowd.moments(2_500, 20, 60)
    later = evening + (hour_us * crowd.rng.uniform(11, 26, 2_500)).astype(np.int64)
    crowd.add("evening", 2_500, candidate=33, at_us=evening, token_age_seconds=20)
    crowd.add(
        "again", 2_500, candidate=33, at_us=later, token_age_seconds=(later - evening) // 1_000_000
    )
    db, _ = crowd.database()
    assert not any(flag.automatic for flag in detect(db).flags)


def test_a_company_behind_a_proxy_in_the_cloud_is_left_alone():
    crowd = honest(11, votes=30_000)
    crowd.employer_burst(140, 400, network_class=DATACENTRE)
    db, _ = crowd.database()
    assert detect(db).flags == ()
