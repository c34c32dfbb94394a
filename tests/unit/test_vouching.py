"""How many signatures are looked at, of whom: nobody uses up the looks of all."""

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from antifraud.limits import Rate
from antifraud.networks import prefixes_of
from tests.assertions import PORTAL, Portal
from voting.campaign import Campaign, VotingWindow
from voting.device import Mint
from voting.edge import issuing
from voting.edge import vouching as vouching_module
from voting.edge.issuing import Issued
from voting.edge.vouching import Vouching
from voting.identity import NOT_SIGNED
from voting.keys import Keys
from voting.pseudonyms import Place

ZONE = ZoneInfo("Asia/Shanghai")
WINDOW = VotingWindow(datetime(2026, 1, 1, tzinfo=ZONE), datetime(2027, 1, 1, tzinfo=ZONE), ZONE)
KEYS = Keys({1: b"a" * 32}, b"r" * 32, b"p" * 32)
NOW = 1_800_000_000
PORTAL_OF_ALL, FORGER = Portal(), Portal()
CAMPAIGN = Campaign(1, "spring", "", WINDOW, portal_keys={PORTAL: PORTAL_OF_ALL.public})
WRONG = FORGER.vouch(iat=NOW, exp=NOW + 300)
HONEST, NEIGHBOUR = "203.0.113.7", "203.0.113.8"


class Desk:
    """Vouching with a clock that stands still."""

    def __init__(self):
        self.seconds = 0.0
        self.vouching = Vouching(Mint(KEYS), KEYS, Counter(), lambda: self.seconds)

    def ask(self, assertion, address=HONEST, campaign=CAMPAIGN):
        place = Place(prefixes_of(address))
        return self.vouching.device(campaign, assertion, place, 0, NOW)

    def forged(self, times, address=HONEST):
        return [self.ask(WRONG, address) for _ in range(times)]


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def quick_desk(monkeypatch):
    """One whose looks for all are no bound."""
    monkeypatch.setattr(issuing, "_AT_MOST", Rate(1_000_000, 1_000_000))
    return Desk()


def right(subject="openid-1"):
    return PORTAL_OF_ALL.vouch(subject, iat=NOW, exp=NOW + 300)


def test_one_right_assertion_a_thousand_times_takes_one_look(desk):
    again = right()
    assert all(isinstance(desk.ask(again), Issued) for _ in range(1_000))
    assert isinstance(desk.ask(right("another"), "198.51.100.9"), Issued)


def test_what_was_right_once_is_still_read_anew(desk):
    again = right()
    assert isinstance(desk.ask(again), Issued)
    place = Place(prefixes_of(HONEST))
    late = desk.vouching.device(CAMPAIGN, again, place, 0, NOW + 400)
    assert "expired" in late.detail
    other_key = Campaign(1, "spring", "", WINDOW, portal_keys={PORTAL: FORGER.public})
    assert desk.ask(again, campaign=other_key) is NOT_SIGNED
    off = Campaign(1, "spring", "", WINDOW)
    assert "[portal.keys]" in desk.ask(again, campaign=off).detail


def test_what_was_right_once_is_right_with_that_signature_alone(desk):
    said, _, signature = right().rpartition(".")
    _, _, other = right("another").rpartition(".")
    assert isinstance(desk.ask(f"{said}.{signature}"), Issued)
    assert desk.ask(f"{said}.{other}") is NOT_SIGNED


def test_no_more_right_ones_are_remembered_than_there_is_room_for(quick_desk, monkeypatch):
    monkeypatch.setattr(vouching_module, "_RIGHT_MAX", 8)
    for n in range(50):
        assert isinstance(quick_desk.ask(right(f"user {n}")), Issued)
        assert len(quick_desk.vouching._right) <= 8


def test_honest_people_behind_a_forgers_address_come_through_by_trying_again(quick_desk):
    told = quick_desk.forged(300)
    assert told[:60] == [NOT_SIGNED] * 60
    assert told[-1] is None
    assert quick_desk.ask(right()) is None
    quick_desk.seconds += 0.3
    assert isinstance(quick_desk.ask(right()), Issued)
    # They are helped while the forger goes on as well, if not as soon.
    quick_desk.forged(300)
    assert isinstance(quick_desk.ask(right()), Issued), "known by now"


def test_of_a_suspect_five_are_looked_at_a_second_however_many_it_sends(quick_desk):
    quick_desk.forged(100)
    looked_at = 0
    for _ in range(100):
        quick_desk.seconds += 0.1
        looked_at += sum(told is NOT_SIGNED for told in quick_desk.forged(20))
    # In these 10 s: five a second, and one that is free of suspicion again.
    assert 50 <= looked_at <= 61


def test_forgers_out_of_one_ipv6_48_leave_the_looks_to_all_others(desk):
    looked_at = 0
    for n in range(2_000):
        desk.seconds += 0.001
        looked_at += desk.ask(WRONG, f"2001:db8:1:{n:x}::1") is NOT_SIGNED
    assert 240 <= looked_at <= 240 + 8 + 30, "240 a minute; and of a suspect ten a second"
    assert isinstance(desk.ask(right(), "2001:db8:2::1"), Issued)


def test_one_address_does_not_make_its_neighbours_suspects(quick_desk):
    for _ in range(60):
        quick_desk.seconds += 1
        quick_desk.forged(200)
    assert isinstance(quick_desk.ask(right("neighbour"), NEIGHBOUR), Issued)
    assert quick_desk.forged(59, NEIGHBOUR) == [NOT_SIGNED] * 59
