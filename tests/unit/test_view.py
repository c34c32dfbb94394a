"""Views: how long ago a card was shown, at most, and to whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.keys import Keys
from voting.view import SHARED_SECONDS, VALID_SECONDS, VIEW_LENGTH, NoView, Views

KEYS = Keys({1: b"a" * 32, 2: b"b" * 32}, b"r" * 32, b"p" * 32)
VIEWS = Views(KEYS)
NOW = 1_800_000_000.25
DEVICE, OTHER = b"d" * 12, b"e" * 12


@pytest.mark.parametrize("device", [None, DEVICE])
@given(since=st.floats(0, VALID_SECONDS))
def test_view_says_how_long_ago_it_was_made(device, since):
    view = VIEWS.make(NOW, device)
    assert len(view) == VIEW_LENGTH <= 44
    assert VIEWS.read(view, DEVICE, NOW + since) == pytest.approx(since, abs=0.002)


def test_bound_view_is_nobody_elses_and_an_unbound_one_everybodys():
    bound, unbound = VIEWS.make(NOW, DEVICE), VIEWS.make(NOW)
    assert VIEWS.read(bound, OTHER, NOW) is NoView.BAD
    assert VIEWS.read(bound, None, NOW) is NoView.BAD
    assert VIEWS.read(bound, DEVICE, NOW) == 0
    for device in (DEVICE, OTHER, None):
        assert VIEWS.read(unbound, device, NOW) == 0


def test_old_view_says_no_more_than_a_day():
    """That a page lay open for a week is nobody's fault."""
    assert VIEWS.read(VIEWS.make(NOW), None, NOW + 7 * 86_400) == VALID_SECONDS


def test_view_from_the_future_says_nothing_but_clocks_may_differ():
    view = VIEWS.make(NOW)
    assert VIEWS.read(view, None, NOW - 60) == 0
    assert VIEWS.read(view, None, NOW - 3_600) is NoView.UNKNOWN


@pytest.mark.parametrize("device", [None, DEVICE])
def test_view_of_the_previous_key_is_taken_and_of_one_that_is_not_held_is_nobodys_fault(device):
    """A retired one, or one that this edge has not learnt yet."""
    view = Views(Keys({1: b"a" * 32}, b"r" * 32, b"p" * 32)).make(NOW, device)
    assert VIEWS.read(view, device, NOW) == 0
    others = Views(Keys({2: b"b" * 32}, b"r" * 32, b"p" * 32))
    assert others.read(view, device, NOW) is NoView.UNKNOWN
    forged = Views(Keys({1: b"x" * 32}, b"r" * 32, b"p" * 32))
    assert forged.read(view, device, NOW) is NoView.BAD


def test_no_view_at_all_is_none_and_no_forgery():
    assert VIEWS.read("", DEVICE, NOW) is NoView.UNKNOWN


def test_page_that_stays_open_through_two_rotations_can_still_like():
    views, keys, at = Views(KEYS), KEYS, NOW
    view = views.make(at)
    for _ in range(2):
        keys = keys.rotated(at)
        at += 100
        views.learn(keys)
        assert views.read(view, DEVICE, at) is not NoView.BAD
    assert views.read(view, DEVICE, at) is NoView.UNKNOWN


def test_keys_of_tokens_make_no_views():
    """Each use has keys of its own."""
    used = KEYS.derived("view")
    assert used != KEYS.device
    assert used != KEYS.derived("challenge")
    assert all(len(key) == 32 for key in used.values())


@given(st.integers(0, VIEW_LENGTH - 1), st.sampled_from("ABCDwxyz0189-_+/=\n\u4f60"))
@pytest.mark.parametrize("device", [None, DEVICE])
def test_view_with_another_character_is_none(device, at, character):
    view = VIEWS.make(NOW, device)
    changed = view[:at] + character + view[at + 1 :]
    if changed != view:
        # Where its key is another one, nobody can tell; else it is forged.
        assert isinstance(VIEWS.read(changed, DEVICE, NOW), NoView)
        if at > 1:
            assert VIEWS.read(changed, DEVICE, NOW) is NoView.BAD


@given(st.text(max_size=60))
def test_no_text_is_a_view_by_chance_or_raises(text):
    assert isinstance(VIEWS.read(text, DEVICE, NOW), NoView)


def test_shared_view_is_made_once_a_second_and_no_more():
    views = Views(KEYS)
    first = views.shared(NOW)
    assert views.shared(NOW + SHARED_SECONDS / 2) == first
    second = views.shared(NOW + SHARED_SECONDS)
    assert second != first
    assert views.shared(NOW) != second, "a clock that went back makes no view of the future"


def test_views_are_unlike_one_another():
    assert len({VIEWS.make(NOW) for _ in range(100)}) == 100
