"""The rule of every limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud.limits import Rate, take, wait_us

rates = st.builds(
    Rate, st.integers(1, 2_000), st.sampled_from([1_000_000, 60_000_000, 3_600_000_000])
)


@given(rates, st.lists(st.integers(0, 10_000_000), max_size=200))
def test_never_admits_more_than_the_burst_plus_the_refill(rate, gaps_us):
    now, next_free, admitted = 0, 0, 0
    for gap in gaps_us:
        now += gap
        ok, next_free = take(rate, next_free, now)
        admitted += ok
    assert admitted <= rate.burst + now // rate.interval_us


@given(rates)
def test_a_rested_key_may_spend_its_whole_burst_at_once(rate):
    next_free, admitted = 0, 0
    now = 10**15
    for _ in range(rate.burst + 3):
        ok, next_free = take(rate, next_free, now)
        admitted += ok
    assert admitted == rate.burst


@given(rates, st.integers(0, 10**16), st.integers(0, 10**16))
def test_after_the_wait_it_admits_and_a_moment_before_it_does_not(rate, next_free, now):
    wait = wait_us(rate, next_free, now)
    assert take(rate, next_free, now)[0] == (wait == 0)
    if wait:
        start = take(rate, next_free, now)[1]
        assert take(rate, start, now + wait)[0]
        assert not take(rate, start, now + wait - 1)[0]


@given(rates, st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_clock_that_went_back_costs_one_window_at_most(rate, next_free, now):
    assert wait_us(rate, next_free, now) <= rate.window_us


@given(rates)
def test_a_rate_is_written_as_it_is_read(rate):
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "30", "0/minute", "30/day", "-1/minute", "1.5/second", "٣/minute"]
)
def test_what_is_no_rate_says_what_one_is(text):
    with pytest.raises(ValueError, match="30/minute"):
        Rate.parse(text)
