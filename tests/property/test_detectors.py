"""What holds for the detectors whatever the votes are."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antifraud.detectors import detect
from tests.detector_crowds import COLUMNS, HOME, Crowd, database_of, honest

# Each example is a pass over a table of its own.
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WHOLE_64 = st.sampled_from([0, 1, 2**31, 2**63 - 1, 2**64 - 1])
ANY_VOTE = st.fixed_dictionaries(
    {
        "at_us": st.integers(0, 2**52),
        "day": st.integers(0, 65_535),
        "candidate": st.integers(1, 65_535),
        "device": WHOLE_64,
        "network": WHOLE_64,
        "network_wide": WHOLE_64,
        "asn": st.sampled_from([0, 4134, 2**32 - 1]),
        "network_class": st.integers(0, 5),
        "user_agent_class": st.integers(0, 255),
        "tls_hash": st.sampled_from([0, 1, 2**32 - 1]),
        "token_age_seconds": st.sampled_from([0, 1, 600, 86_400, 2**32 - 1]),
        "token_level": st.integers(0, 255),
        "dwell_centiseconds": st.sampled_from([0, 1, 9, 10, 300, 65_535]),
        "score": st.integers(-32_000, 32_000),
    }
)


def table_of(votes):
    columns = {name: np.array([vote[name] for vote in votes], np.int64) for name in COLUMNS[:3]}
    for name in COLUMNS[3:]:
        kind = np.uint64 if name in ("device", "network", "network_wide") else np.int64
        columns[name] = np.array([vote[name] for vote in votes], kind)
    columns["vote"] = np.arange(len(votes))
    return columns


def check(found, votes):
    """Every flag is well-formed."""
    taken = set()
    for flag in found.flags:
        ids = flag.votes.tolist()
        assert ids == sorted(set(ids))
        assert taken.isdisjoint(ids)
        taken.update(ids)
        assert sum(flag.candidates.values()) == len(ids) > 0
        assert flag.kinds
        assert flag.automatic == (len(flag.kinds) >= 2)
        assert np.isfinite(flag.score)
        assert all(np.isfinite(value) for value in flag.evidence.values())
        assert flag.sentence
    assert taken <= set(votes)
    for table in (found.baselines.agent, found.baselines.dwell, found.baselines.age):
        assert np.isfinite(table).all()
        assert np.allclose(table.sum(axis=1), 1)
    json.dumps(found.baselines.as_dict(), allow_nan=False)


@FEW
@given(st.lists(ANY_VOTE, min_size=1, max_size=40), st.integers(1, 30))
def test_odd_tables_are_read_and_answered(votes, times):
    """One vote, one candidate, extremes in every column, the same vote many times."""
    columns = table_of(votes * times)
    db = database_of(columns)
    check(detect(db), columns["vote"])
    left = db.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall()
    assert left == [(0,)]


def test_an_empty_table_has_no_flags():
    db = database_of({name: np.zeros(1, np.int64) for name in (*COLUMNS, "vote")})
    db.execute("DELETE FROM votes")
    found = detect(db)
    check(found, [])
    assert found.flags == ()


@FEW
@given(st.integers(1, 2_000), st.integers(1, 3), st.booleans())
def test_what_is_unknown_is_no_agreement(votes, candidates, one_network):
    """A deployment that knows nothing but who is voted for flags nobody."""
    columns = {name: np.zeros(votes, np.int64) for name in COLUMNS}
    columns["vote"] = np.arange(votes)
    columns["device"] = np.arange(votes)
    columns["candidate"] = 1 + np.arange(votes) % candidates
    columns["at_us"] = np.random.default_rng(votes).integers(0, 86_400_000_000, votes)
    columns["network"] += 5 if one_network else 0
    assert detect(database_of(columns)).flags == ()


@pytest.fixture(scope="module")
def stuffed():
    crowd = honest(21, votes=25_000).script(400, 88)
    crowd.single_address(300, 60)
    return crowd.table(shuffle=False)


def held_votes(found):
    return sorted(vote for flag in found.flags for vote in flag.votes.tolist())


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(stuffed, seed):
    columns, _ = stuffed
    order = np.random.default_rng(seed).permutation(len(columns["vote"]))
    shuffled = {name: column[order] for name, column in columns.items()}
    one, other = detect(database_of(columns)), detect(database_of(shuffled))
    assert held_votes(one) == held_votes(other)
    assert [flag.kinds for flag in one.flags] == [flag.kinds for flag in other.flags]
    assert np.allclose(one.baselines.agent, other.baselines.agent)


@settings(max_examples=6, deadline=None)
@given(st.integers(500, 20_000), st.integers(1, 50))
def test_honest_votes_for_others_take_nothing_away_and_add_nothing(stuffed, votes, candidate):
    """What was found stays found, and the newcomers are not in it."""
    columns, groups = stuffed
    crowd = Crowd(votes).add("others", votes, candidate=100 + candidate, network_class=HOME)
    more, _ = crowd.table()
    more["vote"] = more["vote"] + len(groups)
    both = {name: np.concatenate([columns[name], more[name]]) for name in columns}
    held = held_votes(detect(database_of(both)))
    attack = set(np.flatnonzero(groups == "attack").tolist())
    assert len(attack & set(held)) >= 0.95 * len(attack)
    assert len(set(held) - attack) <= 5


def test_threads_do_not_change_the_answer(stuffed):
    columns, _ = stuffed
    db = database_of(columns)
    db.execute("SET threads = 1")
    assert held_votes(detect(db)) == held_votes(detect(database_of(columns)))
