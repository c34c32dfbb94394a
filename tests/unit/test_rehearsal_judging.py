"""The store's half of the rules as a rehearsal has it, held against the model of the ballot box."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antifraud.capacity import CAPACITIES, FAR_FACTOR
from antifraud.networks import NetworkClass
from antifraud.screen import screen
from antifraud.signals import BAD_VIEW, LOW_END, PROVEN, Signals
from loadtest.rehearsal import judging
from loadtest.rehearsal.ballots import (
    COLUMNS,
    GIVES_UP,
    SOLVES,
    SOLVES_SLOWLY,
    Label,
    make_ballots,
    together,
)
from loadtest.rehearsal.judging import (
    PER_DEVICE,
    PER_NETWORK,
    Fingerprints,
    Outcome,
    judge,
    known_fingerprints,
)
from tally import fingerprints as tally_fingerprints
from tests.model import Model, Tap
from voting.ballot import Outcome as StoreOutcome
from voting.campaign import Campaign, Limits, VotingWindow

START_US = 1_783_000_000_000_000
SECOND_US = 1_000_000

USUAL = {
    "network": 7,
    "network_wide": 8,
    "asn": 9808,
    "network_class": NetworkClass.MOBILE,
    "user_agent_class": 40,
    "tls_hash": 5,
    "token_age_seconds": 100_000,
    "token_level": 2,
    "dwell_centiseconds": 600,
    "oddities": 0,
    "solves": SOLVES,
    "candidate": 1,
}


HONEST = Label("mobile")


def ballots(rows=1, label=HONEST, *, every_us=SECOND_US, **columns):
    """Usual votes of a device each, a second apart, but for what is said otherwise."""
    given_columns = USUAL | {
        "at_us": START_US + np.arange(rows) * every_us,
        "device": np.arange(rows) + 1_000,
    }
    return make_ballots(label, rows, **given_columns | columns)


def outcomes(crowd, **how):
    return judge(crowd, **({"live": False} | how)).outcome.tolist()


def test_a_usual_vote_counts():
    assert outcomes(ballots(3)) == [Outcome.COUNTED] * 3


def test_the_same_like_again_is_a_repeat_and_the_next_day_it_is_not():
    same = ballots(2, device=1)
    assert outcomes(same) == [Outcome.COUNTED, Outcome.REPEATED]
    assert outcomes(ballots(2, device=1, every_us=86_400 * SECOND_US)) == [Outcome.COUNTED] * 2


def test_a_like_that_was_turned_away_may_be_tried_again():
    columns = {"device": 1, "oddities": np.array([BAD_VIEW, 0])}
    assert outcomes(ballots(2, **columns)) == [Outcome.REFUSED, Outcome.COUNTED]


def test_a_device_in_a_hurry_is_throttled():
    fast = ballots(40, device=1, candidate=np.arange(1, 41), every_us=1_000)
    assert outcomes(fast) == [Outcome.COUNTED] * 30 + [Outcome.THROTTLED] * 10


def test_above_its_limit_a_networks_votes_are_held_and_far_above_it_throttled():
    limit = PER_NETWORK.burst
    flood = ballots(limit * FAR_FACTOR + 50, every_us=0)
    seen = outcomes(flood)
    assert seen[:limit] == [Outcome.COUNTED] * limit
    assert set(seen[limit : limit * FAR_FACTOR]) == {Outcome.HELD}
    assert set(seen[limit * FAR_FACTOR :]) == {Outcome.THROTTLED}


def test_a_datacentre_is_throttled_at_its_limit():
    limit = CAPACITIES[NetworkClass.DATACENTRE].votes(PER_NETWORK).burst
    seen = outcomes(ballots(limit + 5, network_class=NetworkClass.DATACENTRE, every_us=1))
    assert seen[limit:] == [Outcome.THROTTLED] * 5


def test_new_devices_above_their_rate_are_challenged_and_what_they_solve_stays_proven():
    new = {"token_age_seconds": 30, "token_level": 1, "network_class": NetworkClass.HOME}
    home = ballots(9, **new)
    judged = judge(home, live=False)
    assert judged.outcome.tolist() == [Outcome.COUNTED] * 9
    assert judged.challenged.tolist() == [False] * 6 + [True] * 3
    assert judged.token_level.tolist() == [1] * 6 + [1 | PROVEN] * 3
    slowly = judge(ballots(7, **new, solves=SOLVES_SLOWLY), live=False)
    assert slowly.token_level[-1] == 1 | PROVEN | LOW_END
    # A wait costs a cheat nothing: such a vote waits as well.
    assert slowly.outcome.tolist() == [Outcome.COUNTED] * 6 + [Outcome.HELD]
    # Where there are no challenges they are held.
    assert outcomes(home, challenges=False) == [Outcome.COUNTED] * 6 + [Outcome.HELD] * 3


def test_who_gives_up_is_gone_and_an_adaptive_attacker_leaves_the_network_for_good():
    new = {
        "token_age_seconds": 30,
        "token_level": 1,
        "network_class": NetworkClass.HOME,
        "solves": GIVES_UP,
    }
    person = outcomes(ballots(8, **new))
    assert person == [Outcome.COUNTED] * 6 + [Outcome.GAVE_UP] * 2
    adaptive = outcomes(ballots(8, Label("A13", 8, "none", "1h", 1), **new))
    assert adaptive == [Outcome.COUNTED] * 6 + [Outcome.GAVE_UP, Outcome.WITHHELD]


def test_scores_are_those_of_screen():
    crowd = ballots(2, user_agent_class=np.array([40, 1]))
    judged = judge(crowd, live=False)
    for row in range(2):
        signals = Signals(
            *(int(crowd[name][row]) for name in ("network_class", "asn", "user_agent_class")),
            *(int(crowd[name][row]) for name in ("tls_hash", "token_age_seconds", "token_level")),
            *(int(crowd[name][row]) for name in ("dwell_centiseconds", "oddities")),
        )
        assert judged.score[row] == screen(signals).score


def test_a_farm_behind_one_network_is_marked_while_it_is_at_work():
    """Live cells see one phone model, one dwell and newborn tokens, and say so within a minute."""
    dice = np.random.default_rng(1)
    crowd = ballots(
        4_000,
        every_us=500_000,
        network=np.arange(4_000) % 400,
        network_wide=10_000 + np.arange(4_000) % 400,
        candidate=1 + np.arange(4_000) % 50,
        user_agent_class=dice.integers(32, 256, 4_000),
        dwell_centiseconds=dice.integers(100, 3_000, 4_000),
        token_age_seconds=dice.integers(10, 1_000_000, 4_000),
    )
    farm = ballots(
        1_000,
        Label("A9", 1_000, "none", "1h", 1),
        at_us=START_US + 1_500 * SECOND_US + np.arange(1_000) * 300_000,
        device=np.arange(1_000) + 900_000,
        candidate=60,
        network=399_999,
        dwell_centiseconds=50,
        token_age_seconds=3,
        token_level=1,
    )
    whole = together([crowd, farm]).in_order()
    judged = judge(whole)
    attack = whole.is_attack
    assert judged.marked[attack].mean() > 0.7
    assert (judged.outcome[attack] != Outcome.COUNTED).mean() > 0.7
    assert not judged.marked[~attack].any()
    assert not judge(whole, live=False).marked.any()


def test_every_column_of_a_crowd_is_read():
    assert set(COLUMNS) == set(ballots().columns)


_PLACES = st.sampled_from([(1, 101, 1), (2, 101, 2), (3, 103, 4), (4, 104, 0), (5, 105, 5)])
"""(network, wide network, class)"""

_TAPS = st.tuples(
    st.integers(0, 20_000_000),
    _PLACES,
    st.integers(1, 12),
    st.integers(1, 4),
    st.sampled_from([10, 90_000]),
    st.sampled_from([0, BAD_VIEW]),
    st.sampled_from([1, 40]),
    st.sampled_from([GIVES_UP, SOLVES]),
    st.sampled_from([50, 150, 900]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_TAPS, min_size=1, max_size=120), st.booleans())
def test_the_store_would_say_the_same(taps, challenges):
    """Against tests/model.py, which the store's function itself is held against: any order of
    ballots, classes and moments gives the same outcomes, challenges included."""
    at = np.cumsum([tap[0] for tap in taps])
    crowd = ballots(
        len(taps),
        at_us=START_US + at,
        device=np.array([tap[2] for tap in taps]),
        candidate=np.array([tap[3] for tap in taps]),
        network=np.array([tap[1][0] for tap in taps]),
        network_wide=np.array([tap[1][1] for tap in taps]),
        network_class=np.array([tap[1][2] for tap in taps]),
        token_age_seconds=np.array([tap[4] for tap in taps]),
        token_level=1,
        oddities=np.array([tap[5] for tap in taps]),
        user_agent_class=np.array([tap[6] for tap in taps]),
        solves=np.array([tap[7] for tap in taps]),
        dwell_centiseconds=np.array([tap[8] for tap in taps]),
    )
    assert outcomes(crowd, challenges=challenges) == _by_the_model(crowd, challenges)


def _by_the_model(crowd, challenges):
    window = VotingWindow(
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2035, 1, 1, tzinfo=UTC),
        ZoneInfo("Asia/Shanghai"),
    )
    campaign = Campaign(1, "c", "c", window, limits=Limits(PER_DEVICE, PER_NETWORK))
    model = Model(campaign, challenges=challenges, replid="r")
    proven: dict[int, int] = {}
    seen = []
    for row in range(len(crowd)):
        device = int(crowd["device"][row])

        def answer(row=row, device=device):
            level = int(crowd["token_level"][row]) | proven.get(device, 0)
            signals = Signals(
                NetworkClass(int(crowd["network_class"][row])),
                int(crowd["asn"][row]),
                int(crowd["user_agent_class"][row]),
                int(crowd["tls_hash"][row]),
                int(crowd["token_age_seconds"][row]),
                level,
                int(crowd["dwell_centiseconds"][row]),
                int(crowd["oddities"][row]),
            )
            verdict = screen(signals)
            tap = Tap(
                device.to_bytes(8, "big"),
                int(crowd["network"][row]).to_bytes(8, "big"),
                int(crowd["candidate"][row]),
                f"{row}-{level}".encode(),
                verdict.score,
                int(crowd["network_class"][row]),
                verdict.reasons,
                int(crowd["network_wide"][row]).to_bytes(8, "big"),
                int(crowd["token_age_seconds"][row]),
                level,
                int(crowd["user_agent_class"][row]),
            )
            return model.cast([tap], int(crowd["at_us"][row]), "r", "r")[0].outcome

        outcome = answer()
        if outcome is StoreOutcome.CHALLENGE and crowd["solves"][row] == SOLVES:
            proven[device] = PROVEN
            outcome = answer()
        seen.append(_AS_HERE[outcome])
    return seen


_AS_HERE = {
    StoreOutcome.COUNTED: Outcome.COUNTED,
    StoreOutcome.HELD: Outcome.HELD,
    StoreOutcome.REPEATED: Outcome.REPEATED,
    StoreOutcome.CHALLENGE: Outcome.GAVE_UP,
    StoreOutcome.THROTTLED: Outcome.THROTTLED,
    StoreOutcome.REFUSED: Outcome.REFUSED,
}


def test_numbers_of_outcomes_that_both_have_are_the_stores():
    for store, here in _AS_HERE.items():
        assert store.value == here.value or here is Outcome.GAVE_UP
    with pytest.raises(KeyError):
        _AS_HERE[StoreOutcome.CLOSED]


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from([40, 41]), st.integers(1, 6)),
        st.tuples(st.integers(1, 3_000), st.integers(0, 300)),
        min_size=1,
    )
)
def test_fingerprints_become_known_as_they_do_in_the_service(seen):
    votes = {agent << 32 | tls: max(n, lately) for (agent, tls), (n, lately) in seen.items()}
    lately = {agent << 32 | tls: late for (agent, tls), (_, late) in seen.items() if late}
    theirs = tally_fingerprints.known_fingerprints(
        tally_fingerprints.Sighting(agent, tls, max(n, late), late)
        for (agent, tls), (n, late) in seen.items()
    )
    mine = known_fingerprints(votes, lately)
    assert {agent: sorted(hashes) for agent, hashes in mine.items()} == theirs


def test_figures_of_fingerprints_are_the_services():
    assert judging.FINGERPRINT_AGENT_VOTES_LEAST == tally_fingerprints.AGENT_VOTES_LEAST
    assert judging.FINGERPRINT_SHARE_LEAST == tally_fingerprints.SHARE_LEAST
    assert judging.FINGERPRINT_LATELY_SHARE_LEAST == tally_fingerprints.LATELY_SHARE_LEAST
    look_back = tally_fingerprints.LOOK_BACK.total_seconds()
    assert look_back == judging.FINGERPRINTS_LOOK_BACK_SECONDS
    assert tally_fingerprints.LATELY.total_seconds() == judging.FINGERPRINTS_LATELY_SECONDS


def test_a_fingerprint_that_an_agent_never_has_counts_against_it_once_that_is_known():
    crowd = ballots(2_000, every_us=2 * SECOND_US, network=np.arange(2_000))
    late = START_US + 4_100 * SECOND_US
    script = ballots(2, at_us=np.array([START_US, late]), device=np.array([1, 2]), tls_hash=77)
    whole = together([crowd, script]).in_order()
    judged = judge(whole, live=False)
    scores = judged.score[whole["tls_hash"] == 77]
    usual = int(judged.score[whole["tls_hash"] == 5][0])
    assert scores.tolist() == [usual, usual + 3_000]


def test_fingerprints_older_than_two_days_are_forgotten():
    known = Fingerprints()
    known.learn(START_US, np.full(600, 40), np.full(600, 5))
    assert known.unlike(40, 6)
    assert not known.unlike(40, 5)
    known.learn(START_US + 2 * 86_400 * SECOND_US, np.full(700, 40), np.full(700, 6))
    assert known.unlike(40, 5)
    assert not known.unlike(41, 6)
