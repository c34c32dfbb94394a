"""The one table from Outcome to HTTP."""

from voting.ballot import REFUSALS, VOTES, Outcome
from voting.edge import answers


def test_every_outcome_has_a_status():
    assert set(answers.STATUS) == set(Outcome)


def test_held_answers_as_counted():
    assert answers.STATUS[Outcome.HELD] == answers.STATUS[Outcome.COUNTED]
    assert answers.word_of(Outcome.HELD) == answers.word_of(Outcome.COUNTED)


def test_every_outcome_that_is_a_problem_is_one_of_the_problems():
    for outcome in set(Outcome) - VOTES - {Outcome.REPEATED}:
        status, title = answers.PROBLEMS[answers.word_of(outcome)]
        assert status == answers.STATUS[outcome]
        assert title


def test_outcomes_numbers_are_the_functions():
    """ballot_box.lua names them by number."""
    from voting.ballot_box import LIBRARY

    assert (
        "local AGAIN, COUNTED, HELD, REPEATED, QUOTA_SPENT, CHALLENGE = 0, 1, 2, 3, 4, 5" in LIBRARY
    )
    assert [o.value for o in (Outcome.COUNTED, Outcome.HELD, Outcome.REPEATED)] == [1, 2, 3]
    assert [o.value for o in (Outcome.QUOTA_SPENT, Outcome.CHALLENGE)] == [4, 5]
    assert (
        "local THROTTLED, REFUSED, CLOSED, NOT_OPEN, PAUSED, CLICK_REUSED = 6, 7, 8, 9, 10, 11"
        in LIBRARY
    )
    assert {o.value for o in REFUSALS} == {4, 6, 7}
    assert [Outcome.CLOSED.value, Outcome.NOT_OPEN.value, Outcome.PAUSED.value] == [8, 9, 10]
    assert Outcome.CLICK_REUSED.value == 11


def test_a_ballots_bytes_are_as_many_as_the_function_reads():
    from voting import journal
    from voting.ballot_box import LIBRARY

    assert f"local VOTE = {journal.VOTE.size} " in LIBRARY
