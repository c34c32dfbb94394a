"""What a new device gets: by mode, by network, by how many came before it."""

import itertools
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


def office(mode="adaptive", workers=1, monotonic=None):
    """Without a clock it has all the time it needs."""
    return Issuing(Mint(KEYS), KEYS, mode, workers, monotonic or itertools.count().__next__)


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


@pytest.mark.parametrize(
    ("network_class", "most_bits", "hours"),
    [
        (NetworkClass.MOBILE, BASE_BITS + 2, 1.5),
        (NetworkClass.CAMPUS, BASE_BITS + 2, 1.5),
        (NetworkClass.UNKNOWN, BASE_BITS + 2, 1.5),
        (NetworkClass.HOME, MOST_BITS, 3.1),
        (NetworkClass.DATACENTRE, MOST_BITS, 3.6),
    ],
)
def test_a_flood_makes_challenges_so_hard_and_is_forgiven_so_soon_however_long_it_was(
    network_class, most_bits, hours
):
    """What strangers share is never made very hard by one of them. A home or a server needs some
    minutes more than a flood of its own to be let in, as one device is much of its capacity."""
    desk, where = office(), place(network_class=network_class)
    rungs(desk, 5_000, where)
    assert desk.bits_at(where, NOW) == desk.bits_at(where, NOW + 60) == most_bits
    assert rungs(desk, 1, where, NOW + 0.9 * hours * HOUR) == [0]
    desk = office()
    rungs(desk, 5_000, where)
    assert desk.bits_at(where, NOW + hours * HOUR) == BASE_BITS
    assert rungs(desk, 1, where, NOW + hours * HOUR) == [1]


def test_neighbours_flood_adds_one_bit_and_is_forgiven_within_the_hour():
    desk = office()
    for n in range(250):
        rungs(desk, 60, place(f"203.0.113.{n}", NetworkClass.MOBILE))
    quiet = place("203.0.113.251", NetworkClass.MOBILE)
    assert desk.bits_at(quiet, NOW) == BASE_BITS + 1
    assert rungs(desk, 1, quiet, NOW + 0.9 * HOUR) == [1]


def test_flood_out_of_other_networks_of_an_ipv6_line_adds_one_bit():
    desk = office()
    for n in range(200):
        desk.issue(CAMPAIGN, place(f"2001:db8:1:{n:x}::7"), PHONE, NOW)
    assert desk.bits_at(place("2001:db8:1:ff::7"), NOW) == BASE_BITS + 1


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
    neighbour, stranger = place("203.0.113.8"), place("203.0.114.7")
    assert desk.check(solution, issued.device, neighbour, PHONE, later).finding is Finding.SOLVED, (
        "a carrier's next address"
    )
    for device, where in ((other.device, place()), (issued.device, stranger)):
        assert desk.check(solution, device, where, PHONE, later).finding is Finding.REFUSED


# Floods.


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds


def nonce(challenge):
    return challenge["parameters"]["nonce"]


def test_who_asks_again_gets_the_same_challenge_for_a_while():
    desk = office("always")
    issued = desk.issue(CAMPAIGN, place(), PHONE, NOW)
    first = nonce(issued.challenge)

    def again(at=NOW, token=issued.device, where=None, **how):
        return nonce(desk.challenge_for(token, where or place(), at, **how))

    assert again() == again(NOW + 19) == first
    assert again(where=place("203.0.113.9")) == first, "it is bound to the wide prefix"
    assert again(where=place("203.0.114.9")) != first
    assert again(slow=True) != first
    assert again(token=Mint(KEYS).new(CAMPAIGN, NOW)) != first
    assert again(NOW + 21) != first
    fresh = again(NOW + 21)
    desk.learn(KEYS)
    assert again(NOW + 21) != fresh, "other keys"


def test_challenge_that_was_solved_is_not_given_again():
    desk, now = office("always"), time.time()
    issued = desk.issue(CAMPAIGN, place(), PHONE, now)
    checked = desk.check(solve(issued.challenge), issued.device, place(), PHONE, now + 1)
    assert checked.finding is Finding.SOLVED
    again = desk.challenge_for(issued.device, place(), now + 1)
    assert nonce(again) != nonce(issued.challenge)


def test_challenge_that_became_harder_is_made_anew():
    desk = office("always")
    issued = desk.issue(CAMPAIGN, place(), PHONE, NOW)
    rungs(desk, 100, place())
    harder = desk.challenge_for(issued.device, place(), NOW)
    assert nonce(harder) != nonce(issued.challenge)


def test_what_may_be_given_again_is_bounded(monkeypatch):
    monkeypatch.setattr(issuing_module, "_GIVEN_MAX", 50)
    desk = office("always")
    rungs(desk, 400, place())
    assert len(desk._given) <= 50


def test_new_challenges_are_so_many_a_second_and_open_doors_and_old_ones_are_not_counted():
    clock, where = Clock(), place(network_class=NetworkClass.PRIVATE)
    desk = office("always", monotonic=clock)

    def made(times):
        issued = [desk.issue(CAMPAIGN, where, PHONE, NOW) for _ in range(times)]
        return [each for each in issued if each is not None]

    first, *_ = burst = made(300)
    assert len(burst) == 50
    assert desk.challenge_for(first.device, where, NOW) == first.challenge
    assert desk.challenge_for(first.device, where, NOW, slow=True) is None
    assert desk.issue_to_form(CAMPAIGN, where, PHONE, NOW), "a form needs none"
    told = 0
    for _ in range(100):
        clock.seconds += 0.01
        told += len(made(20))
    assert 490 <= told <= 510
    desk = office("adaptive", monotonic=clock)
    assert rungs(desk, 1_000, where) == [1] * 1_000


def test_solutions_are_checked_so_many_a_second_and_what_is_cheap_to_refuse_is_not_counted():
    clock, now = Clock(), time.time()
    desk = office("always", monotonic=clock)
    issued = desk.issue(CAMPAIGN, place(), PHONE, now)
    solution = solve(issued.challenge)

    def check(solution, where=None):
        return desk.check(solution, issued.device, where or place(), PHONE, now + 1).finding

    for _ in range(200):
        assert check(solution, place("198.51.100.1")) is Finding.REFUSED
        assert check({}) is Finding.MALFORMED
    assert not desk.checks_no_more
    found = [check(solution) for _ in range(60)]
    assert found == [Finding.SOLVED] * 50 + [Finding.UNCHECKED] * 10
    assert desk.checks_no_more
    clock.seconds += 0.1
    assert check(solution) is Finding.SOLVED


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
