"""Device tokens, receipts and pseudonyms: what cannot be made without a key."""

import base64
import struct
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud.networks import prefixes_of
from antifraud.signals import LOW_END, PROVEN
from voting.ballot import Position
from voting.campaign import Campaign, VotingWindow
from voting.device import TOKEN_LENGTH, VALID_SECONDS, VOUCHED_VALID_SECONDS, Mint
from voting.keys import Keys
from voting.pseudonyms import Place, Pseudonyms
from voting.receipt import Receipts

ZONE = ZoneInfo("Asia/Shanghai")
WINDOW = VotingWindow(datetime(2026, 1, 1, tzinfo=ZONE), datetime(2027, 1, 1, tzinfo=ZONE), ZONE)
CAMPAIGN = Campaign(1, "one", "", WINDOW)
OTHER = Campaign(2, "two", "", WINDOW)
KEYS = Keys({1: b"a" * 32}, b"r" * 32, b"p" * 32)
NOW = 1_800_000_000.5


def test_token_carries_what_it_was_issued_with():
    token = Mint(KEYS).issue(CAMPAIGN, NOW, level=1)
    assert len(token) == TOKEN_LENGTH
    read = Mint(KEYS).verify(token, CAMPAIGN, NOW)
    assert (read.issued_at, read.campaign, read.level, read.shard) == (int(NOW), 1, 1, 0)


def test_two_tokens_are_two_devices():
    mint = Mint(KEYS)
    tokens = [mint.issue(CAMPAIGN, NOW) for _ in range(100)]
    assert len({mint.verify(token, CAMPAIGN, NOW).device_id for token in tokens}) == 100


def test_token_of_another_campaign_key_or_time_is_refused():
    token = Mint(KEYS).issue(CAMPAIGN, NOW)
    assert Mint(KEYS).verify(token, OTHER, NOW) is None
    assert Mint(Keys({1: b"b" * 32}, b"r" * 32, b"p" * 32)).verify(token, CAMPAIGN, NOW) is None
    assert Mint(KEYS).verify(token, CAMPAIGN, NOW - 3_600) is None


def test_previous_key_is_accepted_and_a_retired_one_is_not():
    token = Mint(KEYS).issue(CAMPAIGN, NOW)
    both = Keys({1: b"a" * 32, 2: b"b" * 32}, b"r" * 32, b"p" * 32)
    assert Mint(both).verify(token, CAMPAIGN, NOW)
    assert Mint(both).verify(Mint(both).issue(CAMPAIGN, NOW), CAMPAIGN, NOW)
    only_new = Keys({2: b"b" * 32}, b"r" * 32, b"p" * 32)
    assert Mint(only_new).verify(token, CAMPAIGN, NOW) is None


def test_new_key_signs_when_its_time_has_come_and_not_before():
    keys = Keys({1: b"a" * 32, 2: b"b" * 32}, b"r" * 32, b"p" * 32, {2: int(NOW) + 60})
    only_old = Mint(Keys({1: b"a" * 32}, b"r" * 32, b"p" * 32))
    only_new = Mint(Keys({2: b"b" * 32}, b"r" * 32, b"p" * 32))
    before, after = (Mint(keys).issue(CAMPAIGN, at) for at in (NOW + 59, NOW + 61))
    assert only_old.verify(before, CAMPAIGN, NOW + 61)
    assert only_new.verify(before, CAMPAIGN, NOW + 61) is None
    assert only_new.verify(after, CAMPAIGN, NOW + 61)
    assert only_old.verify(after, CAMPAIGN, NOW + 61) is None


def test_mint_that_learns_other_keys_knows_tokens_of_these_alone():
    mint = Mint(KEYS)
    first = mint.issue(CAMPAIGN, NOW)
    mint.learn(Keys({1: b"a" * 32, 2: b"b" * 32}, b"r" * 32, b"p" * 32))
    second = mint.issue(CAMPAIGN, NOW)
    assert mint.verify(first, CAMPAIGN, NOW)
    mint.learn(Keys({2: b"b" * 32}, b"r" * 32, b"p" * 32))
    assert mint.verify(first, CAMPAIGN, NOW) is None
    assert mint.verify(second, CAMPAIGN, NOW)


def test_promoted_token_is_the_same_device_on_another_rung():
    mint = Mint(KEYS)
    token = mint.new(CAMPAIGN, NOW, level=0, network_class=1, user_agent_class=77)
    promoted = mint.verify(mint.promote(token, 1 | PROVEN), CAMPAIGN, NOW)
    assert promoted == msgspec.structs.replace(token, level=1 | PROVEN)
    assert (promoted.rung, promoted.proven) == (1, True)
    assert (token.rung, token.proven) == (0, False)
    assert mint.verify(mint.sign(token), CAMPAIGN, NOW) == token


@pytest.mark.parametrize("level", range(256))
def test_only_well_formed_levels_are_signed_and_taken(level):
    """Rungs 0 to 3; PROVEN from rung 1 on; LOW_END with PROVEN alone."""
    mint = Mint(KEYS)
    token = mint.new(CAMPAIGN, NOW, level=level)
    rung, flags = level & 0x0F, level & 0xF0
    allowed = {0} if rung == 0 else {0, PROVEN, PROVEN | LOW_END} if rung <= 3 else set()
    if flags in allowed:
        assert mint.verify(mint.sign(token), CAMPAIGN, NOW).level == level
        return
    with pytest.raises(ValueError, match="no level"):
        mint.sign(token)
    with pytest.raises(ValueError, match="no level"):
        mint.promote(mint.new(CAMPAIGN, NOW), level)
    # Signed all the same, by a version that knew more of them.
    body = struct.pack(
        ">BB12sIHBBB", 1, 1, token.device_id, token.issued_at, CAMPAIGN.number, 0, 0, level
    )
    signed = base64.urlsafe_b64encode(body + mint._mac(1, body)).decode()
    assert mint.verify(signed, CAMPAIGN, NOW) is None


@given(st.integers(0, TOKEN_LENGTH - 1), st.sampled_from("ABCDwxyz0189-_"))
def test_token_with_another_character_is_none(at, character):
    """Every byte is signed: its level, its classes, its time."""
    token = Mint(KEYS).issue(CAMPAIGN, NOW)
    changed = token[:at] + character + token[at + 1 :]
    assert (Mint(KEYS).verify(changed, CAMPAIGN, NOW) is not None) is (changed == token)


@pytest.mark.parametrize("length", [0, 1, 12, 39, TOKEN_LENGTH - 1, TOKEN_LENGTH - 4])
def test_truncated_token_is_none(length):
    assert Mint(KEYS).verify(Mint(KEYS).issue(CAMPAIGN, NOW)[:length], CAMPAIGN, NOW) is None


def test_device_is_confirmed_when_it_is_a_day_old_if_it_may_vote():
    for level, later in ((0, 0), (1, 2), (1 | PROVEN, 2 | PROVEN), (2, 2), (3, 3)):
        token = Mint(KEYS).new(CAMPAIGN, NOW, level=level)
        assert token.level_at(NOW + 86_399) == level
        assert token.level_at(NOW + 86_400) == later


@given(st.text(max_size=80))
def test_no_text_verifies_by_chance_or_raises(text):
    assert Mint(KEYS).verify(text, CAMPAIGN, NOW) is None


@given(st.text(alphabet="ABCDwxyz0189-_+/=", min_size=TOKEN_LENGTH, max_size=TOKEN_LENGTH))
def test_no_text_of_the_right_length_verifies(text):
    assert Mint(KEYS).verify(text, CAMPAIGN, NOW) is None


def test_token_has_one_spelling():
    token = Mint(KEYS).issue(CAMPAIGN, NOW)
    for other in (token.replace("-", "+"), token.replace("_", "/"), token + "=", token + "\n"):
        if other != token:
            assert Mint(KEYS).verify(other, CAMPAIGN, NOW) is None


@given(
    st.integers(0, 255), st.integers(0, 65_535), st.integers(0, 2**40 - 1), st.integers(1, 65_535)
)
def test_receipt_opens_to_its_position(shard, epoch, seq, campaign):
    receipts = Receipts(KEYS)
    position = Position(shard, epoch, seq)
    [receipt] = receipts.seal([position], campaign)
    assert len(receipt) == 22
    assert receipts.seal([position] * 3, campaign) == [receipt] * 3
    assert receipts.open(receipt) == (campaign, position)
    assert Receipts(Keys({1: b"a" * 32}, b"s" * 32, b"p" * 32)).open(receipt) is None


@given(st.text(max_size=30))
def test_made_up_receipt_opens_to_nothing(text):
    assert Receipts(KEYS).open(text) is None


def test_neighbouring_positions_have_unlike_receipts():
    receipts = Receipts(KEYS)
    one, two = receipts.seal([Position(0, 1, seq) for seq in (1, 2)], 1)
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 8


def test_pseudonyms_differ_by_campaign_day_and_key():
    days = [date(2026, 7, 1), date(2026, 7, 2)]
    pseudonyms = Pseudonyms(KEYS)
    pseudonyms.learn_days({days[0]: b"1" * 32, days[1]: b"2" * 32})
    device = b"d" * 12
    assert pseudonyms.device(device, "one") != pseudonyms.device(device, "two")
    here = Place(prefixes_of("1.2.3.4"))
    assert pseudonyms.networks(here, days[0]) != pseudonyms.networks(here, days[1])
    near = Place(prefixes_of("1.2.3.5"))
    assert pseudonyms.networks(here, days[0])[0] != pseudonyms.networks(near, days[0])[0]
    assert pseudonyms.networks(here, days[0])[1] == pseudonyms.networks(near, days[0])[1]
    # What was worked out with keys that are no more is worked out anew.
    before = pseudonyms.networks(here, days[0])
    pseudonyms.learn_days({days[0]: b"3" * 32, days[1]: b"2" * 32})
    assert pseudonyms.networks(here, days[0]) != before
    # The database was away for days: the newest key before the day goes on.
    later = date(2026, 7, 9)
    assert pseudonyms.networks(here, later) == pseudonyms.networks(here, days[1])
    assert pseudonyms.networks(here, date(2026, 6, 1)) == pseudonyms.networks(here, days[0])


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]),
)
def test_every_moment_lies_in_its_campaign_day(at, zone):
    window = VotingWindow(WINDOW.opens_at, WINDOW.closes_at, ZoneInfo(zone))
    moment_us = int(at.replace(tzinfo=UTC).timestamp()) * 1_000_000
    day = window.day_at(moment_us)
    assert day.starts_at_us <= moment_us < day.ends_at_us
    assert window.day_at(day.ends_at_us).starts_at_us == day.ends_at_us


def test_token_is_good_for_half_a_year():
    token = Mint(KEYS).issue(CAMPAIGN, NOW)
    assert Mint(KEYS).open(token, NOW + VALID_SECONDS - 1) is not None
    assert Mint(KEYS).open(token, NOW + VALID_SECONDS) is None


def test_token_of_whom_a_portal_vouches_for_is_good_for_a_day_however_often_it_is_signed_anew():
    mint = Mint(KEYS)
    vouched = mint.new(CAMPAIGN, NOW, level=3 | PROVEN)
    later = NOW + VOUCHED_VALID_SECONDS - 1
    for token in (mint.sign(vouched), mint.promote(vouched, 3 | PROVEN, later)):
        assert mint.verify(token, CAMPAIGN, later) == vouched
        assert mint.open(token, vouched.valid_until) is None
    assert VOUCHED_VALID_SECONDS <= 86_400 < VALID_SECONDS


def test_only_a_token_of_a_portals_person_whose_day_is_over_has_ended():
    mint = Mint(KEYS)
    ended = NOW + VOUCHED_VALID_SECONDS + 1
    vouched = mint.issue(CAMPAIGN, NOW, level=3)
    assert mint.has_ended(vouched, CAMPAIGN, ended)
    assert not mint.has_ended(vouched, CAMPAIGN, NOW)
    assert not mint.has_ended(vouched, OTHER, ended)
    assert not mint.has_ended(vouched[:-1] + "?", CAMPAIGN, ended)
    assert not mint.has_ended("", CAMPAIGN, ended)
    stranger = mint.issue(CAMPAIGN, NOW, level=1)
    assert not mint.has_ended(stranger, CAMPAIGN, NOW + VALID_SECONDS + 1)
