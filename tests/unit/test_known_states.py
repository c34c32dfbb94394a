"""Where a case's votes are follows from the decisions on it, or is not told at all."""

from datetime import UTC, datetime, timedelta

from tally.case_files import FlagOfCase, TakenDecision, known_states
from tally.holds import WATCH, State

NOON = datetime(2026, 7, 5, 12, tzinfo=UTC)


def flag(number, votes, minute):
    at = NOON + timedelta(minutes=minute)
    return FlagOfCase(number, at, (), 1, (), {}, "", 1.0, True, votes, {1: votes})


def decision(action, of_flag, votes, minute, by="li"):
    at = NOON + timedelta(minutes=minute)
    return TakenDecision(minute, at, of_flag, action, "x", 2, by, votes, votes)


TWO = (flag(1, 10, 0), flag(4, 10, 1))


def test_nothing_is_known_before_a_decision():
    assert known_states(TWO, ()) == {}


def test_a_persons_word_is_on_the_case_or_on_one_flag_as_its_sum_says():
    assert known_states(TWO, [decision("strike", 4, 20, 5)]) == {
        1: State.STRUCK,
        4: State.STRUCK,
    }
    assert known_states(TWO, [decision("strike", 4, 10, 5)]) == {4: State.STRUCK}


def test_a_flag_that_came_after_the_decision_is_not_decided_by_it():
    flags = (*TWO, flag(7, 5, 9))
    assert known_states(flags, [decision("hold", 1, 20, 5)]).keys() == {1, 4}


def test_watch_holds_what_no_person_has_spoken_of():
    assert known_states(TWO, [decision("hold", 1, 10, 5, WATCH)]) == {1: State.HELD}
    # On the whole case, by way of the flag that a person released: it speaks of the other one,
    # though the sum is the first one's.
    taken = [decision("release", 1, 10, 5), decision("hold", 1, 10, 6, WATCH)]
    assert known_states(TWO, taken) == {1: State.COUNTED, 4: State.HELD}


def test_watch_releases_what_is_held_and_no_person_has_spoken_of():
    held = [decision("hold", 1, 10, 5, WATCH), decision("hold", 4, 10, 6, WATCH)]
    assert known_states(TWO, [*held, decision("release", 4, 10, 7, WATCH)]) == {
        1: State.HELD,
        4: State.COUNTED,
    }
    assert set(known_states(TWO, [*held, decision("release", 4, 20, 7, WATCH)]).values()) == {
        State.COUNTED
    }


def test_what_cannot_be_told_is_asked_of_the_votes():
    # Three held by their own verdicts: which ones, only the votes say.
    assert known_states(TWO, [decision("release", 1, 3, 5, WATCH)]) == {}
    # And a hold of some of a flag's votes, the rest of which were struck at first.
    assert known_states(TWO, [decision("hold", 1, 7, 5, WATCH)]) == {}
