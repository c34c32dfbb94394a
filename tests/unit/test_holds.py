"""The rule of who may move a vote from where to where."""

import itertools

from antifraud.screen import Decision
from tally.holds import LEADS_TO, WATCH, Action, State, speaks_of


def test_a_person_may_lead_any_vote_from_any_state_to_any_other():
    for state, action in itertools.product(State, Action):
        for last_by in (None, WATCH, "李老师"):
            assert speaks_of(state, action, by="王老师", last_by=last_by)
    assert set(LEADS_TO.values()) == set(State), "whatever was done can be undone"


def test_watch_holds_what_counts_releases_what_is_held_and_strikes_nothing():
    for last_by in (None, WATCH):
        spoken = {
            (state, action)
            for state, action in itertools.product(State, Action)
            if speaks_of(state, action, by=WATCH, last_by=last_by)
        }
        assert spoken == {
            (State.COUNTED, Action.HOLD),
            (State.HELD, Action.HOLD),
            (State.HELD, Action.RELEASE),
        }


def test_watch_never_speaks_of_a_vote_that_a_person_has_spoken_of():
    for state, action in itertools.product(State, Action):
        assert not speaks_of(state, action, by=WATCH, last_by="王老师")


def test_a_vote_without_a_decision_is_in_the_state_of_its_verdict():
    assert int(State.COUNTED) == int(Decision.COUNT)
    assert int(State.HELD) == int(Decision.HOLD)
    assert int(State.STRUCK) not in set(map(int, Decision))
