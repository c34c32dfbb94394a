"""The attackers of a rehearsal: who they are, how well they hide, and how many there are."""

import numpy as np
import pytest

from antifraud.networks import NetworkClass
from antifraud.signals import BAD_VIEW, NO_LANGUAGE, PROVEN
from loadtest.rehearsal.attackers import (
    ATTACK_SHARE_MAX,
    ATTACKERS,
    CAMOUFLAGES,
    DURATIONS,
    SIZES,
    Order,
    People,
    carry_out,
    make_attack,
    plan,
)
from loadtest.rehearsal.crowd import honest_crowd
from loadtest.rehearsal.population import make_country

HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def country():
    return make_country(5, 60_000, 5)


@pytest.fixture(scope="module")
def people(country):
    return People(honest_crowd(country, 60_000))


@pytest.fixture(scope="module")
def attack(country, people):
    def made(name, camouflage="none", duration="1h", size=1_000):
        return make_attack(country, Order(name, size, camouflage, duration), 20, people)

    return made


def test_all_of_a1_to_a13_are_there():
    assert list(ATTACKERS) == [f"A{n}" for n in range(1, 14)]


@pytest.mark.parametrize("name", ATTACKERS)
@pytest.mark.parametrize("camouflage", CAMOUFLAGES)
def test_each_gives_the_votes_that_were_ordered_for_one_candidate_in_its_time(
    country, attack, name, camouflage
):
    for duration, longest in zip(DURATIONS, (HOUR_US, 24 * HOUR_US, 120 * HOUR_US), strict=True):
        made = attack(name, camouflage, duration, 300)
        assert len(made) == 300
        assert made.is_attack.all()
        assert len(np.unique(made["candidate"])) == 1
        assert len(np.unique(made["device"])) == 300
        assert made["at_us"].min() >= country.begins_us
        assert made["at_us"].max() < country.ends_us
        assert made["at_us"].max() - made["at_us"].min() <= longest


def test_camouflage_changes_what_it_says_and_no_more(attack):
    none, ua, dwell, full = (attack("A3", each) for each in CAMOUFLAGES)
    assert len(np.unique(none["user_agent_class"])) == 1
    for hidden in (ua, dwell, full):
        assert len(np.unique(hidden["user_agent_class"])) > 100
        assert not (hidden["oddities"] & NO_LANGUAGE).any()
    for plain in (none, ua):
        assert plain["dwell_centiseconds"].std() < 40
    for replayed in (dwell, full):
        assert 450 < np.median(replayed["dwell_centiseconds"]) < 750
    for young in (none, ua, dwell):
        waited = young["token_age_seconds"] - young["dwell_centiseconds"] / 100
        assert waited.min() > 0
        assert waited.max() < 60
        assert len(np.unique(young["tls_hash"])) == 1
    assert (full["token_age_seconds"] < 1_800).mean() == pytest.approx(0.4, abs=0.06)
    assert len(np.unique(full["tls_hash"])) > 5


def test_full_camouflage_follows_the_hours_of_the_day(attack):
    hours = (attack("A4", "full", "30d", 10_000)["at_us"] // HOUR_US + 8) % 24
    by_hour = np.bincount(hours, minlength=24)
    assert by_hour[20] > 8 * by_hour[3]
    even = (attack("A4", "ua", "30d", 10_000)["at_us"] // HOUR_US + 8) % 24
    assert np.ptp(np.bincount(even, minlength=24)) < 20


def test_where_each_comes_from(attack):
    def networks(name):
        made = attack(name, "ua")
        return len(np.unique(made["network"])), set(made["network_class"].tolist())

    assert networks("A1")[0] <= 2 * 4
    assert networks("A1")[1] == {NetworkClass.DATACENTRE}
    assert len(np.unique(attack("A2", "ua")["network_wide"])) <= 2
    assert networks("A2")[0] >= 254
    assert 80 <= networks("A3")[0] <= 220
    assert networks("A4")[0] > 900
    assert NetworkClass.DATACENTRE not in networks("A4")[1]
    assert networks("A6")[1] == {NetworkClass.MOBILE}
    assert networks("A9")[0] <= 2


def test_aged_tokens_were_minted_together_and_grow_old_while_they_are_used(attack):
    made = attack("A7", "none", "1d")
    issued = made["at_us"] - made["token_age_seconds"].astype(np.int64) * 1_000_000
    assert np.ptp(issued) < 1.1 * HOUR_US
    assert (made["token_age_seconds"] > 3 * 86_400 - 1).all()
    assert (made["token_level"] == 2 | PROVEN).all()


def test_paid_people_are_people_whatever_their_camouflage_is_called(attack):
    made = attack("A8", "none")
    assert len(np.unique(made["user_agent_class"])) > 100
    assert 450 < np.median(made["dwell_centiseconds"]) < 750
    assert not made["oddities"].any()


def test_a_replayed_view_is_another_devices_but_for_its_first_showing(attack):
    made = attack("A12", "ua")
    assert (made["oddities"] & BAD_VIEW > 0).sum() == 999
    assert not (attack("A12", "full")["oddities"] & BAD_VIEW).any()


def test_only_the_adaptive_one_gives_up(attack):
    assert (attack("A13")["solves"] == 0).all()
    for name in ATTACKERS:
        if name != "A13":
            assert (attack(name)["solves"] > 0).all(), name


def test_the_same_seed_attacks_the_same_way():
    def made():
        country = make_country(3, 20_000, 2)
        honest = honest_crowd(country, 20_000)
        return carry_out(country, plan(3, 20_000, sizes=(100,)), honest)

    first, again = made(), made()
    for name, column in first.columns.items():
        assert np.array_equal(column, again[name]), name


@pytest.mark.parametrize("votes", [20_000, 200_000, 1_000_000, 2_000_000])
@pytest.mark.parametrize("seed", [1, 101])
def test_attacks_are_planned_within_their_share_the_small_ones_first(votes, seed):
    orders = plan(seed, votes)
    assert sum(order.size for order in orders) <= ATTACK_SHARE_MAX * votes
    assert len({(o.name, o.size, o.camouflage) for o in orders}) == len(orders)
    if votes >= 1_000_000:
        there = {(o.name, o.size, o.camouflage) for o in orders}
        for name in ATTACKERS:
            for size in (100, 300, 1_000, 10_000):
                assert {(name, size, "none"), (name, size, "ua")} <= there


def test_five_seeds_of_two_million_have_twenty_attacks_of_a_hundred_thousand():
    largest = [
        (order.name, order.camouflage)
        for seed in range(101, 106)
        for order in plan(seed, 2_000_000)
        if order.size == 100_000
    ]
    assert len(largest) == 20
    assert len(set(largest)) == 20


def test_durations_take_turns():
    orders = [order for seed in (1, 2, 3) for order in plan(seed, 200_000, sizes=(1_000,))]
    for name in ATTACKERS:
        mine = {o.duration for o in orders if o.name == name}
        assert mine == ({"30d"} if name == "A10" else set(DURATIONS))


def test_a_plan_can_be_narrowed():
    orders = plan(1, 100_000, attacks=("A1", "A9"), sizes=(250,), camouflages=("full",))
    assert {(o.name, o.size, o.camouflage) for o in orders} == {
        ("A1", 250, "full"),
        ("A9", 250, "full"),
    }
    assert max(SIZES) == 100_000
