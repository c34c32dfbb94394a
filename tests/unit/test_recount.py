"""Judging stored votes again, by rules in a file."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud import heuristics
from antifraud.heuristics import DWELL_STEPS, RULES, STORE_WEIGHTS, TOKEN_AGE_STEPS, Rules
from antifraud.networks import NetworkClass
from antifraud.screen import Decision, conclude, screen
from antifraud.signals import PROVEN, Signals
from tally.holds import State
from tally.recount import Alike, RulesError, RuleSet, read_rules, recount, write_rules

NEAR = 7
DATACENTRE_HELD = RuleSet(
    Rules(weights_nats={**RULES.weights_nats, "datacentre": 9.0}, family_caps_nats={})
)


def step_of(value, steps):
    return sum(value >= step for step in steps)


def stored(signals, *, candidate=NEAR, votes=1, state=None, **store):
    """A vote as the edge and the store would have left it."""
    verdict = screen(signals)
    concluded = conclude(
        verdict.score, verdict.reasons, proven=bool(signals.token_level & PROVEN), **store
    )
    assert concluded.decision in (Decision.COUNT, Decision.HOLD)
    return Alike(
        candidate,
        int(signals.network_class),
        min(signals.user_agent_class, 2),
        step_of(signals.token_age_seconds, TOKEN_AGE_STEPS),
        signals.token_level,
        step_of(signals.dwell_centiseconds, DWELL_STEPS),
        verdict.rules,
        concluded.score,
        int.from_bytes(concluded.reasons, "big"),
        int(concluded.decision),
        state,
        votes,
    )


def facts(**other):
    return Signals(
        **{
            "network_class": NetworkClass.MOBILE,
            "user_agent_class": 40,
            "token_level": 1 | PROVEN,
            "token_age_seconds": 600,
            "dwell_centiseconds": 450,
        }
        | other
    )


any_facts = st.builds(
    facts,
    network_class=st.sampled_from(NetworkClass),
    user_agent_class=st.sampled_from([0, 1, 2, 40, 255]),
    token_age_seconds=st.integers(0, 200_000),
    dwell_centiseconds=st.integers(0, 1_000),
    token_level=st.sampled_from([1 | PROVEN, 2 | PROVEN]),
)
# One at most, and nothing that speaks against a vote beside it: three reasons have room.
stores = st.sampled_from(
    [{}, {"over_limit": True}, {"over_new_devices": True}, {"cell_weight": 5_000}]
)


@given(st.lists(st.tuples(any_facts, stores, st.integers(1, 5)), max_size=20))
def test_under_the_rules_in_force_nothing_is_another(votes):
    groups = [
        stored(signals, votes=n, **store)
        for signals, store, n in votes
        if conclude(screen(signals).score, **store).decision is not Decision.REFUSE
    ]
    found = recount(groups, RuleSet())
    assert found.now == found.then
    assert (found.would_hold, found.would_count) == (0, 0)
    assert found.votes == sum(group.votes for group in groups)


def test_a_heavier_reason_holds_what_it_speaks_against_and_nothing_else():
    cloud = stored(facts(network_class=NetworkClass.DATACENTRE), votes=5)
    home = stored(facts(network_class=NetworkClass.HOME), votes=3)
    found = recount([cloud, home], DATACENTRE_HELD)
    assert found.now == Counter({NEAR: 8})
    assert found.then == Counter({NEAR: 3})
    assert found.would_hold == 5


def test_a_lighter_reason_gives_back_what_was_held():
    held = stored(facts(), votes=4, cell_weight=9_000)
    assert held.verdict == Decision.HOLD
    lenient = RuleSet(Rules(prior_nats=-14.0))
    assert recount([held], lenient).would_count == 4


def test_what_came_above_a_limit_stays_held_whatever_the_weights():
    held = stored(facts(), over_limit=True)
    assert recount([held], RuleSet(Rules(prior_nats=-20.0))).would_count == 0


def test_a_fact_that_is_not_stored_is_known_by_its_reason():
    odd = stored(facts(oddities=8), votes=2)
    assert odd.reasons >> 16 == 29
    strict = RuleSet(
        Rules(weights_nats={**RULES.weights_nats, "other-agent": 20.0}, family_caps_nats={})
    )
    assert recount([odd, stored(facts())], strict).would_hold == 2


def test_who_would_be_challenged_stays_counted_and_is_told_apart():
    unproven = stored(facts(token_level=1, network_class=NetworkClass.DATACENTRE), votes=3)
    found = recount(
        [unproven],
        RuleSet(Rules(weights_nats={**RULES.weights_nats, "datacentre": 6.2}, family_caps_nats={})),
    )
    assert found.then == found.challenged == Counter({NEAR: 3})


@pytest.mark.parametrize("state", State)
def test_what_was_decided_stays_decided(state):
    group = stored(facts(network_class=NetworkClass.DATACENTRE), votes=9, state=int(state))
    found = recount([group], DATACENTRE_HELD)
    assert found.decided == 9
    assert found.now == found.then
    assert found.now[NEAR] == (9 if state is State.COUNTED else 0)


def test_votes_of_the_version_before_heuristics_are_judged_by_their_facts():
    first = Alike(NEAR, 4, 2, 2, 1 | PROVEN, 4, 1, 0, 0, 0, None, 6)
    assert recount([first], RuleSet()).then == Counter({NEAR: 6})
    assert recount([first], DATACENTRE_HELD).would_hold == 6


def test_votes_of_an_unknown_version_are_an_error():
    with pytest.raises(RulesError, match="judged by rules 99"):
        recount([stored(facts())._replace(rules=99)], RuleSet())


def test_the_rules_in_force_come_back_out_of_their_file(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(write_rules(RuleSet()))
    assert read_rules(path) == RuleSet()


def test_a_file_changes_what_it_names(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        "version = 3\nprior_nats = -5.0\n[weights_nats]\ndatacentre = 4.5\nnew-devices = 1.0\n"
        "[family_caps_nats]\nnetwork = 9.0\n[bands_nats]\nhold = 3.5\n"
    )
    held = read_rules(path)
    assert (held.rules.version, held.rules.prior_nats) == (3, -5.0)
    assert held.rules.weights_nats["datacentre"] == 4.5
    assert held.rules.weights_nats["automation"] == RULES.weights_nats["automation"]
    assert held.rules.family_caps_nats["network"] == 9.0
    assert held.store == STORE_WEIGHTS._replace(new_devices=1_000)
    assert held.bands.hold == 3_500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prior_nats = [", "this is no TOML"),
        ("[weights_nats]\ndatacenter = 3.0", "there is no datacenter; known: "),
        ("[weights_nats]\ndatacentre = 'much'", "weights_nats.datacentre: "),
        ("prior = 3", "prior: "),
        ("prior_nats = nan", "prior_nats: "),
        ("[bands_nats]\nhold = 1.0", "must not go down"),
        ("version = -1", "version: "),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, text, said):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(RulesError, match=r"rules\.toml") as failed:
        read_rules(path)
    assert said in str(failed.value)


@given(st.integers(0, 300_000), st.integers(0, 70_000), st.integers(0, 255))
def test_between_two_steps_all_values_are_judged_alike(age, dwell, agent):
    def judged(age, dwell, agent):
        return screen(
            facts(
                token_age_seconds=age, dwell_centiseconds=min(dwell, 65_535), user_agent_class=agent
            )
        )

    assert judged(age, dwell, agent) == judged(
        TOKEN_AGE_STEPS[step_of(age, TOKEN_AGE_STEPS) - 1],
        DWELL_STEPS[step_of(dwell, DWELL_STEPS) - 1],
        min(agent, 2),
    )


def test_every_oddity_has_one_rule():
    bits = [rule.oddity for rule in heuristics.HEURISTICS if rule.oddity]
    assert len(set(bits)) == len(bits)
