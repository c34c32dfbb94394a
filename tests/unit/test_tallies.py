"""The word Tally."""

from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tally.tallies import Tally

NOON = datetime(2026, 7, 5, 12, 0, 0, 123_456, ZoneInfo("Asia/Shanghai"))
sums = st.integers(0, 2**40)


@given(sums, sums, sums, sums)
def test_received_is_the_sum_of_what_became_of_the_ballots(counted, held, struck, refused):
    tally = Tally("spring", NOON, counted, held, struck, refused, {"c001": counted})
    assert tally.received == counted + held + struck + refused
    assert tally.as_json()["received"] == tally.received


def test_its_json_has_the_members_of_the_contract_and_an_offset_in_its_time():
    found = Tally("spring", NOON, 2, 0, 0, 5, {"c001": 2, "c002": 0}).as_json()
    assert list(found) == [
        "campaign", "as_of", "received", "counted", "held", "struck", "refused", "counts",
    ]  # fmt: skip
    assert found["as_of"] == "2026-07-05T12:00:00.123+08:00"
    assert found["counts"] == {"c001": 2, "c002": 0}
