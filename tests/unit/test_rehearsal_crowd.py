"""The honest crowd of a rehearsal: what the evaluation protocol says of it, and the seed."""

import numpy as np
import pytest

from antifraud.networks import NetworkClass
from loadtest.rehearsal import crowd as honest
from loadtest.rehearsal.ballots import mixed, stream
from loadtest.rehearsal.crowd import (
    CAMPUS_BURSTS,
    CASCADES,
    EMPLOYER_BURSTS,
    GROUPS,
    honest_crowd,
)
from loadtest.rehearsal.population import (
    CANDIDATES,
    HOME_BOOST,
    HOURS,
    NOWHERE,
    Kind,
    draw,
    make_country,
)

VOTES, DAYS = 200_000, 5


@pytest.fixture(scope="module")
def country():
    return make_country(7, VOTES, DAYS)


@pytest.fixture(scope="module")
def crowd(country):
    return honest_crowd(country, VOTES)


def of(crowd, *groups):
    numbers = [n for n, label in enumerate(crowd.labels) if label.source in groups]
    return crowd.at(np.flatnonzero(np.isin(crowd.label, numbers)))


def test_the_crowd_has_exactly_the_votes_that_were_asked_for_and_nobody_repeats(crowd):
    assert len(crowd) == VOTES
    keys = mixed(crowd["device"], crowd["day"], crowd["candidate"])
    assert len(np.unique(keys)) == VOTES
    assert not crowd.is_attack.any()


def test_the_same_seed_draws_the_same_crowd_and_another_one_another():
    first, again, other = (
        honest_crowd(make_country(seed, 20_000, 3), 20_000) for seed in (1, 1, 2)
    )
    assert first.labels == again.labels
    for name, column in first.columns.items():
        assert np.array_equal(column, again[name]), name
    assert not np.array_equal(first["device"], other["device"])


def test_each_part_has_dice_of_its_own():
    assert stream(1, "a").random() == stream(1, "a").random()
    assert stream(1, "a").random() != stream(1, "b").random()
    assert stream(1, "a").random() != stream(2, "a").random()


def test_networks_have_the_shares_of_the_protocol(crowd):
    """40 % carrier NAT, 35 % home lines, 20 % IPv6 (of phones and homes), 5 % campus."""
    shares = np.bincount(crowd["network_class"], minlength=6) / VOTES
    # IPv6 is 12 % of phones and 8 % of homes; what votes together is mostly on phones.
    assert shares[NetworkClass.MOBILE] == pytest.approx(0.50, abs=0.04)
    assert shares[NetworkClass.HOME] == pytest.approx(0.42, abs=0.04)
    assert 0.05 <= shares[NetworkClass.CAMPUS] <= 0.09
    assert 0.0003 <= shares[NetworkClass.DATACENTRE] <= 0.003
    assert len(of(crowd, "v6")) / VOTES == pytest.approx(0.16, abs=0.03)


def test_four_votes_of_ten_come_with_a_token_of_the_same_visit(crowd):
    assert (crowd["token_age_seconds"] < 1_800).mean() == pytest.approx(0.40, abs=0.04)
    assert (crowd["token_level"] == 2).mean() > 0.3
    assert np.array_equal(crowd["token_level"] == 2, crowd["token_age_seconds"] >= 86_400)


def test_votes_follow_the_hours_of_the_day_in_shanghai(crowd):
    hours = (crowd["at_us"] // 3_600_000_000 + 8) % 24
    seen = np.bincount(hours, minlength=24) / VOTES
    assert np.abs(seen - HOURS / HOURS.sum()).max() < 0.02
    assert crowd["day"].max() - crowd["day"].min() == DAYS - 1


def test_candidates_follow_zipf_and_their_own_province(country):
    everywhere = country.wishes(stream(1, "t"), np.full(200_000, NOWHERE))
    seen = np.bincount(everywhere, minlength=CANDIDATES)
    for rank in (1, 9, 99):
        assert seen[0] / seen[rank] == pytest.approx((rank + 1) ** 0.9, rel=0.3)
    own = int(np.flatnonzero(country.province_of_rank < NOWHERE)[3])
    province = int(country.province_of_rank[own])
    at_home = country.wishes(stream(2, "t"), np.full(400_000, province))
    weights = (np.arange(CANDIDATES) + 1.0) ** -0.9
    boosted = np.where(country.province_of_rank == province, HOME_BOOST, 1) * weights
    expected = boosted[own] / boosted.sum()
    assert np.mean(at_home == own) == pytest.approx(expected, rel=0.15)


def test_each_kind_of_network_has_a_mix_of_phones_of_its_own(country):
    mixes = country.phones.mixes
    for one in Kind:
        assert mixes[one].sum() == pytest.approx(1)
        assert mixes[one][:2].sum() == 0
        for other in Kind:
            if one < other:
                assert np.abs(mixes[one] - mixes[other]).sum() > 0.05, (one, other)
    # A long tail: the usual one is an iPhone's, no Android bucket has a tenth.
    assert (np.sort(mixes[Kind.HOME_NAT])[::-1][:3] < 0.1).all()
    assert (mixes[Kind.MOBILE] > 0.0005).sum() > 150


def test_every_group_is_there(crowd):
    assert {label.source for label in crowd.labels} == set(GROUPS)


def test_crowds_that_vote_together_come_in_the_numbers_of_the_protocol():
    assert (CASCADES, CAMPUS_BURSTS, EMPLOYER_BURSTS) == (40, 12, 6)


def test_campus_bursts_come_from_one_to_four_addresses_each(country):
    burst = honest._campus_burst(country, stream(3, "t"), 0.3)
    per_day = {day: burst["network"][burst["day"] == day] for day in np.unique(burst["day"])}
    assert all(1 <= len(np.unique(networks)) <= 4 for networks in per_day.values())
    assert set(burst["network_class"]) == {NetworkClass.CAMPUS}
    spread = np.percentile(burst["at_us"], 95) - np.percentile(burst["at_us"], 5)
    assert spread < 3 * 3_600_000_000


def test_company_phones_are_of_five_models_fast_fresh_and_spread_like_people(country):
    burst = honest._employer_burst(country, stream(4, "t"), 1.0)
    assert len(np.unique(burst["user_agent_class"])) <= 6  # and one or two who send none
    assert (burst["token_age_seconds"] < 1_800).mean() > 0.85
    known = burst["dwell_centiseconds"][burst["dwell_centiseconds"] > 0]
    assert np.median(known) < 600
    assert 0.5 < np.log(known).std() < 0.9
    assert len(np.unique(burst["network"])) <= 2 * len(np.unique(burst["day"]))


def test_pseudonyms_of_networks_change_at_midnight_and_those_of_devices_do_not(crowd):
    office = of(crowd, "office")
    days = [set(office["network"][office["day"] == day]) for day in np.unique(office["day"])]
    assert not days[0] & days[1]
    shared = set(crowd["device"][crowd["day"] == crowd["day"].min()]) & set(
        crowd["device"][crowd["day"] == crowd["day"].min() + 1]
    )
    assert len(shared) > 1_000


def test_a_wide_network_holds_its_networks_and_meets_none_of_their_pseudonyms(crowd):
    pairs = np.unique(mixed(crowd["network"], crowd["network_wide"]))
    assert len(pairs) == len(np.unique(crowd["network"]))
    assert not set(crowd["network"]) & set(crowd["network_wide"])


def test_private_windows_make_a_new_token_each_time_and_family_phones_give_many_likes(crowd):
    private = of(crowd, "private-mode")
    assert (private["token_age_seconds"] < 3_600).mean() > 0.95
    family = of(crowd, "family-phone")
    assert len(family) / len(np.unique(family["device"])) > 4


def test_dwell_is_a_persons(crowd):
    known = crowd["dwell_centiseconds"][crowd["dwell_centiseconds"] > 0]
    assert known.min() >= 55
    assert 450 < np.median(known) < 750
    assert (crowd["dwell_centiseconds"] == 0).mean() == pytest.approx(0.03, abs=0.005)


def test_few_people_are_odd(crowd):
    assert 0 < (crowd["oddities"] > 0).mean() < 0.015
    assert (crowd["user_agent_class"] <= 1).mean() < 2e-4
    assert (crowd["solves"] == 0).mean() == pytest.approx(0.005, abs=0.003)


def test_too_few_votes_for_the_crowds_that_vote_together_are_refused(country):
    with pytest.raises(ValueError, match="too few"):
        honest_crowd(country, 2_000)


def test_drawing_by_weights_follows_the_weights():
    drawn = draw(stream(1, "w"), np.array([0.0, 3.0, 1.0, 0.0]), 40_000)
    assert np.bincount(drawn, minlength=4) / 40_000 == pytest.approx([0, 0.75, 0.25, 0], abs=0.01)
