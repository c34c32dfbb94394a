"""Which moment's counts the public may see, and which notice has to wait for it."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.campaign import Campaign, Rules, Visibility, VotingWindow, microseconds
from voting.visibility import is_blind, public_as_of_us

ZONE = ZoneInfo("Asia/Shanghai")
OPENS = datetime(2026, 7, 1, 9, tzinfo=ZONE)
CLOSES = datetime(2026, 7, 31, 12, tzinfo=ZONE)
FIRST_HOUR = datetime(2026, 7, 31, 18, tzinfo=ZONE)
"""The first publication hour after the close."""


def campaign(counts):
    rules = Rules(counts=counts, counts_daily_at=time(18))
    return Campaign(1, "demo", "活动", VotingWindow(OPENS, CLOSES, ZONE), rules)


@pytest.mark.parametrize(
    ("counts", "now", "public"),
    [
        (Visibility.LIVE, OPENS, OPENS),
        (Visibility.STAFF, CLOSES + timedelta(days=30), None),
        (Visibility.AFTER_CLOSE, CLOSES - timedelta(seconds=1), None),
        (Visibility.AFTER_CLOSE, CLOSES, CLOSES),
        (Visibility.DAILY, OPENS + timedelta(hours=8), None),
        (Visibility.DAILY, OPENS + timedelta(hours=9), OPENS + timedelta(hours=9)),
        (Visibility.DAILY, CLOSES, FIRST_HOUR - timedelta(days=1)),
        (Visibility.DAILY, FIRST_HOUR, FIRST_HOUR),
    ],
)
def test_the_moment_whose_counts_are_public(counts, now, public):
    expected = None if public is None else microseconds(public)
    assert public_as_of_us(campaign(counts), microseconds(now)) == expected


@pytest.mark.parametrize(
    ("counts", "of", "now", "blind"),
    [
        (Visibility.LIVE, CLOSES, OPENS, False),
        (Visibility.STAFF, OPENS, FIRST_HOUR, True),
        (Visibility.AFTER_CLOSE, OPENS, CLOSES - timedelta(seconds=1), True),
        (Visibility.AFTER_CLOSE, CLOSES, CLOSES, False),
        (Visibility.DAILY, CLOSES, FIRST_HOUR - timedelta(seconds=1), True),
        (Visibility.DAILY, CLOSES, FIRST_HOUR, False),
        (Visibility.DAILY, FIRST_HOUR + timedelta(hours=1), FIRST_HOUR + timedelta(hours=2), True),
        (Visibility.DAILY, FIRST_HOUR + timedelta(hours=1), FIRST_HOUR + timedelta(days=1), False),
    ],
)
def test_a_notice_waits_until_its_counts_are_public(counts, of, now, blind):
    assert is_blind(campaign(counts), of, microseconds(now)) is blind
    assert not is_blind(campaign(counts), None, microseconds(now)), "without numbers it never does"


@given(st.sampled_from(Visibility), st.integers(-50_000_000, 50_000_000))
def test_nothing_is_public_before_it_happened(counts, seconds):
    now_us = microseconds(OPENS) + seconds * 1_000_000
    public = public_as_of_us(campaign(counts), now_us)
    assert public is None or public <= now_us
