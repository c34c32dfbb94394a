"""Does the comparison find what it is for?"""

import pytest

from tests.prove.checker import Kept, compare
from tests.prove.clients import read_files
from voting.pseudonyms import click_hash


def vote(click, candidate):
    return int.from_bytes(click_hash(click), "big"), candidate


@pytest.fixture
def told(tmp_path):
    """Two likes that were acknowledged, a refused one, one that nobody knows of, and one whose
    client was cut off while it sent it."""
    (tmp_path / "client-000").write_text(
        "sent a c001\ntold a 201\nsent b c002\ntold b 201\nsent c c001\ntold c 409\n"
    )
    (tmp_path / "client-001").write_text("sent d c002\nnone d\nsent e c003\n")
    return read_files(tmp_path)


def kept(votes, leaves=None, stored=None, hot=None):
    sums = {}
    for _, candidate in votes:
        sums[candidate] = sums.get(candidate, 0) + 1
    return Kept(
        votes,
        sums if stored is None else stored,
        sums if hot is None else hot,
        len(votes) if leaves is None else leaves,
    )


WHOLE = [vote("a", "c001"), vote("b", "c002")]


def test_the_files_tell_who_was_told_what(told):
    assert told.acknowledged == {"a": "c001", "b": "c002"}
    assert told.unknown == {"d": "c002", "e": "c003"}
    assert told.statuses == {201: 2, 409: 1}


@pytest.mark.parametrize("unknown", [[], [vote("d", "c002")], [vote("e", "c003")]])
def test_what_nobody_knows_of_may_be_there_or_not(told, unknown):
    assert compare(told, kept(WHOLE + unknown)).none


def test_a_lost_like_is_found(told):
    assert compare(told, kept(WHOLE[:1])).lost == ["b"]


def test_a_like_for_another_candidate_is_lost_and_foreign(told):
    found = compare(told, kept([WHOLE[0], vote("b", "c003")]))
    assert (found.lost, found.foreign) == (["b"], [vote("b", "c003")])


def test_a_doubled_like_is_found(told):
    found = compare(told, kept([*WHOLE, WHOLE[1]]))
    assert found.doubled == [WHOLE[1][0]]
    assert not found.lost


@pytest.mark.parametrize("click", ["c", "never sent"])
def test_a_like_that_was_refused_or_never_sent_is_foreign(told, click):
    assert compare(told, kept([*WHOLE, vote(click, "c001")])).foreign == [vote(click, "c001")]


@pytest.mark.parametrize(
    "wrong",
    [{"leaves": 1}, {"stored": {"c001": 1}}, {"hot": {"c001": 1, "c002": 2}}, {"hot": {}}],
)
def test_sums_and_leaves_that_differ_are_found(told, wrong):
    found = compare(told, kept(WHOLE, **wrong))
    assert len(found.sums) == 1
    assert not found.none
