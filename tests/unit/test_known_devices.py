"""Devices that are known already: remembering changes how fast an answer is, never the answer."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.campaign import Campaign, VotingWindow
from voting.device import VOUCHED_VALID_SECONDS, Mint
from voting.edge import known_devices
from voting.edge.known_devices import KnownDevices
from voting.keys import Keys
from voting.pseudonyms import Pseudonyms
from voting.remembered import remember

ZONE = ZoneInfo("Asia/Shanghai")
WINDOW = VotingWindow(datetime(2026, 1, 1, tzinfo=ZONE), datetime(2027, 1, 1, tzinfo=ZONE), ZONE)
CAMPAIGNS = (Campaign(1, "one", "", WINDOW), Campaign(2, "two", "", WINDOW))
KEYS = Keys({1: b"a" * 32, 2: b"b" * 32}, b"r" * 32, b"p" * 32)
RETIRED = Keys({1: b"o" * 32, 3: b"c" * 32}, b"r" * 32, b"p" * 32)
NOW = 1_800_000_000.0
MINT, PSEUDONYMS = Mint(KEYS), Pseudonyms(KEYS)
REFUSED = (
    *(MINT.issue(campaign, NOW + 3_600) for campaign in CAMPAIGNS),  # of the future
    *(Mint(RETIRED).issue(campaign, NOW) for campaign in CAMPAIGNS),
    *("", "x" * 52, MINT.issue(CAMPAIGNS[0], NOW)[:-1]),
)
TOKENS = (
    *(MINT.issue(campaign, NOW) for campaign in CAMPAIGNS for _ in range(4)),
    *(MINT.issue(campaign, NOW, level=3) for campaign in CAMPAIGNS for _ in range(2)),
    *REFUSED,
)
ASKED = st.lists(
    st.tuples(
        st.sampled_from(TOKENS),
        st.sampled_from(CAMPAIGNS),
        st.sampled_from((0, 100, 3_000, 50_000)),
    ),
    max_size=40,
)


@given(ASKED, st.integers(1, 6))
def test_known_devices_are_those_that_the_mint_verifies_whatever_was_asked_before(asked, held):
    with pytest.MonkeyPatch.context() as smaller:
        smaller.setattr(known_devices, "_HELD_MAX", held)
        known, now = KnownDevices(MINT, PSEUDONYMS), NOW
        for token, campaign, later in asked:
            now += later
            read = MINT.verify(token, campaign, now)
            device = known.find(token, campaign, now)
            assert (device and device.token) == read
            if device:
                assert device.pseudonym == PSEUDONYMS.device(read.device_id, campaign.id)
            assert len(known._held) <= held


def test_what_the_mint_refuses_is_not_remembered():
    known = KnownDevices(MINT, PSEUDONYMS)
    for token in REFUSED:
        assert all(known.find(token, campaign, NOW) is None for campaign in CAMPAIGNS)
    assert not known._held


def test_known_device_is_none_of_another_campaign():
    known = KnownDevices(MINT, PSEUDONYMS)
    assert known.find(TOKENS[0], CAMPAIGNS[0], NOW)
    assert known.find(TOKENS[0], CAMPAIGNS[1], NOW) is None
    assert known.find(TOKENS[0], CAMPAIGNS[0], NOW)


def test_known_device_of_a_portals_person_is_none_after_its_day():
    known, token = KnownDevices(MINT, PSEUDONYMS), MINT.issue(CAMPAIGNS[0], NOW, level=3)
    assert known.find(token, CAMPAIGNS[0], NOW)
    assert known.find(token, CAMPAIGNS[0], NOW + VOUCHED_VALID_SECONDS - 1)
    assert known.find(token, CAMPAIGNS[0], NOW + VOUCHED_VALID_SECONDS) is None


@given(st.lists(st.integers(0, 50)), st.integers(1, 20))
def test_no_more_is_remembered_than_was_asked_for_and_the_last_is_always(keys, most):
    held = {}
    for n, key in enumerate(keys):
        assert remember(held, key, n, most) == n
        assert held[key] == n
        assert len(held) <= most
        assert all(keys[value] == kept for kept, value in held.items())
