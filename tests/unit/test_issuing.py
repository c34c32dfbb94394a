"""What a new device gets: by mode, by network, by how many came before it."""

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud.capacity import CAPACITIES
from antifraud.challenge import BASE_BITS, MOST_BITS, Finding
from antifraud.networks import Network, NetworkClass, prefixes_of
from antifraud.signals import LOW_END, PROVEN
from tests.challenges import solve
from voting.campaign import Campaign, VotingWindow
from voting.device import Mint
from voting.edge import issuing as issuing_module
from voting.edge.issuing import Issuing
from voting.keys import Keys
from voting.pseudonyms import Place

ZONE = ZoneInfo("Asia/Shanghai")
WINDOW = VotingWindow(datetime(2026, 1, 1, tzinfo=ZONE), datetime(2027, 1, 1, tzinfo=ZONE), ZONE)
CAMPAIGN = Campaign(1, "one", "", WINDOW)
KEYS = Keys({1: b"a" * 32}, b"r" * 32, b"p" * 32)
NOW = 1_800_000_000.5
HOUR = 3_600
PHONE = 77


def office(mode="adaptive", workers=1):
    return Issuing(Mint(KEYS), KEYS, mode, workers)


def place(address="203.0.113.7", network_class=NetworkClass.HOME):
    return Place(prefixes_of(address), Network(64_500, network_class))


def rungs(office, number, where, now=NOW):
    return [office.issue(CAMPAIGN, where, PHONE, now).level for _ in range(number)]


def test_token_says_where_and_what_it_was_issued_to():
    issued = office().issue(CAMPAIGN, place(network_class=NetworkClass.CAMPUS), PHONE, NOW)
    token = Mint(KEYS).verify(issued.token, CAMPAIGN, NOW)
    assert token == issued.device
    assert (token.network_class, token.user_agent_class) == (NetworkClass.CAMPUS, PHONE)
    assert (token.level, token.issued_at) == (1, int(NOW)), "nothing is proven"


def test_mode_off_never_challenges_and_mode_always_does():
    for where in (place(), place(network_class=NetworkClass.PRIVATE)):
        assert set(rungs(office("off"), 50, where)) == {1}
        assert set(rungs(office("always"), 50, where)) == {0}
    issued = office("always").issue(CAMPAIGN, place(), PHONE, NOW)
    assert issued.challenge["parameters"]["data"]["bits"] == BASE_BITS
    assert office("off").issue(CAMPAIGN, place(), PHONE, NOW).challenge is None


@pytest.mark.parametrize("network_class", [c for c in NetworkClass if c != NetworkClass.PRIVATE])
def test_adaptive_opens_the_door_up_to_the_capacity_of_the_network(network_class):
    capacity = CAPACITIES[network_class].new_devices.burst
    told = rungs(office(), capacity + 5, place(network_class=network_class))
    assert told == [1] * capacity + [0] * 5


def test_private_addresses_are_never_challenged_in_mode_adaptive():
    assert set(rungs(office(), 3_000, place("192.168.1.7", NetworkClass.PRIVATE))) == {1}


def test_neighbours_share_the_wider_networks_capacity_and_strangers_nothing():
    desk = office()
    wide = CAPACITIES[NetworkClass.HOME].new_devices_wide.burst
    told = [rungs(desk, 1, place(f"203.0.113.{n}"))[0] for n in range(wide + 10)]
    assert told == [1] * wide + [0] * 10
    assert rungs(desk, 1, place("198.51.100.1")) == [1]


def test_ipv6_line_with_many_networks_has_twice_the_capacity_of_one():
    desk = office()
    one = CAPACITIES[NetworkClass.HOME].new_devices.burst
    told = [rungs(desk, 1, place(f"2001:db8:1:{n:x}::7"))[0] for n in range(2 * one + 3)]
    assert told == [1] * (2 * one) + [0] * 3
    assert rungs(desk, 1, place("2001:db8:1:100::7")) == [1], "the next /56"


def test_capacity_comes_back_with_time():
    desk = office()
    rungs(desk, 20, place())
    assert rungs(desk, 1, place(), NOW + 60) == [0]
    assert rungs(desk, 1, place(), NOW + 3 * HOUR) == [1]


def test_a_flood_is_forgiven_within_hours_however_long_it_was():
    desk = office()
    rungs(desk, 20_000, place())
    assert desk.bits_at(place(), NOW) == MOST_BITS
    assert desk.bits_at(place(), NOW + 4 * HOUR) == BASE_BITS
    assert rungs(desk, 1, place(), NOW + 4 * HOUR) == [1]


def test_challenges_get_harder_as_a_network_asks_for_more_and_no_harder_than_that():
    desk, seen = office(), []
    for _ in range(400):
        issued = desk.issue(CAMPAIGN, place(), PHONE, NOW)
        if issued.challenge:
            seen.append(issued.challenge["parameters"]["data"]["bits"])
    assert seen == sorted(seen)
    assert set(seen) == set(range(BASE_BITS, MOST_BITS + 1))


def test_looking_at_the_difficulty_counts_nothing():
    desk = office()
    token = Mint(KEYS).new(CAMPAIGN, NOW)
    for _ in range(50):
        desk.challenge_for(token, place(), NOW)
    assert rungs(desk, 1, place()) == [1]


def test_workers_share_a_networks_capacity_and_each_gives_one_at_least():
    capacity = CAPACITIES[NetworkClass.CAMPUS].new_devices.burst
    told = rungs(office(workers=4), capacity, place(network_class=NetworkClass.CAMPUS))
    assert sum(told) == capacity // 4
    assert rungs(office(workers=64), 2, place()) == [1, 0]


def test_a_clock_that_goes_back_forgives_nothing_and_punishes_nobody():
    desk = office()
    rungs(desk, 10, place())
    assert rungs(desk, 1, place(), NOW - HOUR) == [0]
    assert rungs(desk, 1, place("198.51.100.1"), NOW - HOUR) == [1]


def test_counts_are_bounded_whatever_comes(monkeypatch):
    monkeypatch.setattr(issuing_module, "_NETWORKS_MAX", 100)
    desk = office()
    for n in range(1_000):
        desk.issue(CAMPAIGN, place(f"2001:db8:{n:x}::1"), PHONE, NOW)
        assert len(desk._counts) <= 100 + 3


# Proofs.


def test_proof_makes_a_device_vote_and_the_slow_way_is_remembered():
    desk = office("always")
    device = desk.issue(CAMPAIGN, place(), PHONE, NOW).device
    mint = Mint(KEYS)
    for slow, level in ((False, 1 | PROVEN), (True, 1 | PROVEN | LOW_END)):
        text, rung = desk.prove(device, NOW, slow=slow)
        read = mint.verify(text, CAMPAIGN, NOW)
        assert (read.level, rung) == (level, 1)
        assert (read.device_id, read.issued_at) == (device.device_id, device.issued_at)


def test_proof_of_a_device_that_votes_already_keeps_its_rung_and_better_proof_stays():
    desk, mint = office(), Mint(KEYS)
    usual, slow = 1 | PROVEN, 1 | PROVEN | LOW_END
    for level, went_slow, after in (
        (1, False, usual),
        (1, True, slow),
        (usual, True, usual),
        (slow, False, usual),
        (slow, True, slow),
    ):
        text, _ = desk.prove(mint.new(CAMPAIGN, NOW, level=level), NOW, slow=went_slow)
        assert mint.verify(text, CAMPAIGN, NOW).level == after
    text, rung = desk.prove(mint.new(CAMPAIGN, NOW), NOW + 86_400, slow=False)
    assert (mint.verify(text, CAMPAIGN, NOW).level, rung) == (2 | PROVEN, 2)


def test_token_that_waited_for_its_first_proof_does_not_mature_meanwhile():
    """Else a cheat could mint a million, and prove each when it is a day old."""
    desk, mint = office("always"), Mint(KEYS)
    device = desk.issue(CAMPAIGN, place(), PHONE, NOW).device
    late = NOW + 2 * 86_400
    text, rung = desk.prove(device, late, slow=False)
    read = mint.verify(text, CAMPAIGN, late)
    assert rung == 1
    assert read.issued_at == int(late)
    assert read.device_id == device.device_id


def test_renewal_gives_what_age_and_mode_allow():
    mint = Mint(KEYS)
    young, old = mint.new(CAMPAIGN, NOW), mint.new(CAMPAIGN, NOW - 90_000)
    assert [office().renew(token, NOW)[1] for token in (young, old)] == [1, 2]
    unproven = mint.new(CAMPAIGN, NOW, level=0)
    assert office("off").renew(unproven, NOW)[1] == 1
    assert office("always").renew(unproven, NOW)[1] == 0


def test_challenges_are_checked_by_device_and_place():
    desk, now = office("always"), time.time()
    issued = desk.issue(CAMPAIGN, place(), PHONE, now)
    other = desk.issue(CAMPAIGN, place(), PHONE, now)
    solution = solve(issued.challenge)
    later = now + 1
    assert desk.check(solution, issued.device, place(), PHONE, later).finding is Finding.SOLVED
    for device, where in ((other.device, place()), (issued.device, place("203.0.113.8"))):
        assert desk.check(solution, device, where, PHONE, later).finding is Finding.REFUSED


def test_rotated_keys_take_the_challenges_of_the_previous_one():
    desk, now = office("always"), time.time()
    issued = desk.issue(CAMPAIGN, place(), PHONE, now)
    ticket = desk.ticket_for(issued.device, place(), now)
    rotated = KEYS.rotated(now - 120)
    desk.learn(rotated)
    assert rotated.signing(now) == 2
    solution = solve(issued.challenge)
    assert desk.check(solution, issued.device, place(), PHONE, now + 1).finding is Finding.SOLVED
    checked = desk.check_ticket(ticket, issued.device, place(), now + 60)
    assert checked.finding is Finding.SOLVED
    fresh = desk.challenge_for(issued.device, place(), now)
    assert fresh["parameters"]["data"]["key"] == 2


@given(st.lists(st.floats(0, 600), max_size=60), st.sampled_from(list(NetworkClass)))
def test_never_more_open_doors_than_the_capacity_and_what_comes_back(gaps, network_class):
    """Fading counts give back at most the rate."""
    desk, at, opened = office(), NOW, 0
    rate = CAPACITIES[network_class].new_devices
    for gap in gaps:
        at += gap
        opened += desk.issue(CAMPAIGN, place(network_class=network_class), PHONE, at).level
    if rate is not None:
        assert opened <= rate.burst * (1 + (at - NOW) / HOUR) + 1
