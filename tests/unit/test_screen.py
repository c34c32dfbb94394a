"""The table of heuristics, and the conclusions that are drawn from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud import signals as facts
from antifraud.heuristics import DAY_SECONDS, HEURISTICS, REASON_NAMES, RULES, RULES_VERSION, Rules
from antifraud.networks import NetworkClass
from antifraud.screen import BANDS, Decision, conclude, screen, screen_by
from antifraud.signals import Signals
from antifraud.user_agents import AUTOMATION, FIRST_MODEL

PHONE = FIRST_MODEL + 7


def honest(**other):
    return Signals(
        **{
            "network_class": NetworkClass.MOBILE,
            "user_agent_class": PHONE,
            "token_level": 1,
            "token_age_seconds": 600,
            "dwell_centiseconds": 450,
        }
        | other
    )


def decision(signals, **store):
    verdict = screen(signals)
    return conclude(verdict.score, verdict.reasons, **store).decision


def names(signals):
    return [REASON_NAMES[code] for code in screen(signals).reasons if code]


def test_of_whom_nothing_is_known_the_prior_is_all():
    verdict = screen(Signals())
    assert (verdict.score, verdict.reasons, verdict.rules) == (-4_600, bytes(3), RULES_VERSION)


def test_codes_and_names_are_each_one_rules():
    codes = [rule.code for rule in HEURISTICS]
    assert len(set(codes)) == len(codes)
    assert all(16 <= code <= 255 for code in codes)
    assert len({rule.name for rule in HEURISTICS}) == len(codes)


@pytest.mark.parametrize("rule", HEURISTICS, ids=lambda rule: rule.name)
def test_no_fact_alone_challenges_anybody_but_what_is_beyond_doubt(rule):
    alone = round(1000 * (RULES.prior_nats + rule.weight_nats))
    assert (alone >= BANDS.challenge) is (rule.family == "replay")


@pytest.mark.parametrize(
    "other",
    [
        {"token_age_seconds": 0, "dwell_centiseconds": 90},  # a first tap, quickly
        {"token_age_seconds": 2, "dwell_centiseconds": 60},  # a very quick one
        {"network_class": NetworkClass.DATACENTRE},  # by a cloud's exit
        {"oddities": facts.NO_FETCH_METADATA | facts.NO_LANGUAGE},  # an odd web view
        {"oddities": facts.OTHER_AGENT},  # an updated phone
        {"dwell_centiseconds": 0},  # a page of the time before there were views
        {"token_age_seconds": 40 * 86_400, "token_level": 2},
    ],
)
def test_honest_people_are_counted(other):
    assert decision(honest(**other)) is Decision.COUNT


@pytest.mark.parametrize("kind", [NetworkClass.MOBILE, NetworkClass.HOME, NetworkClass.UNKNOWN])
def test_a_script_in_a_hurry_is_challenged(kind):
    script = honest(
        network_class=kind,
        user_agent_class=AUTOMATION,
        token_age_seconds=0,
        dwell_centiseconds=20,
    )
    assert decision(script) is Decision.CHALLENGE
    assert names(script) == ["automation", "dwell-below-0.8s", "token-fresh"]


def test_a_script_in_a_datacentre_is_held():
    script = honest(
        network_class=NetworkClass.DATACENTRE,
        user_agent_class=AUTOMATION,
        token_age_seconds=0,
        dwell_centiseconds=20,
        token_level=1 | facts.PROVEN,
    )
    assert decision(script, proven=True) is Decision.HOLD


def test_at_home_nothing_is_held_against_anyone_but_a_forged_view():
    program = honest(
        network_class=NetworkClass.PRIVATE,
        user_agent_class=AUTOMATION,
        token_age_seconds=0,
        dwell_centiseconds=10,
    )
    assert decision(program) is Decision.COUNT
    forger = honest(network_class=NetworkClass.PRIVATE, oddities=facts.BAD_VIEW)
    assert decision(forger) is Decision.REFUSE


def test_a_family_weighs_no_more_than_its_cap():
    driven = honest(
        user_agent_class=AUTOMATION, oddities=facts.TLS_UNLIKE_AGENT | facts.NO_LANGUAGE
    )
    assert screen(driven).score == round(1000 * (RULES.prior_nats + 5.0 + 0.5))


def test_reasons_are_the_three_weightiest_that_speak_against_a_vote():
    assert names(
        honest(
            network_class=NetworkClass.DATACENTRE,
            user_agent_class=AUTOMATION,
            token_age_seconds=1,
            dwell_centiseconds=30,
        )
    ) == ["automation", "datacentre", "dwell-below-0.8s"]
    assert names(honest(token_age_seconds=90_000)) == []


def test_other_rules_judge_otherwise_and_say_which_they_are():
    strict = screen_by(Rules(version=7, prior_nats=0.0, weights_nats={"datacentre": 5.0}))
    verdict = strict(honest(network_class=NetworkClass.DATACENTRE))
    assert (verdict.score, verdict.rules) == (3_500, 7)  # the family's cap
    assert strict(honest(user_agent_class=AUTOMATION)).score == 0


@pytest.mark.parametrize("level", [3, 3 | facts.PROVEN])
def test_of_whom_a_portal_vouches_for_a_tokens_age_says_nothing(level):
    """Theirs is new with each browser; they are trusted as a token is that has waited a day."""
    matured = honest(token_age_seconds=2 * DAY_SECONDS, token_level=2)
    for age in (0, 3, 600, 40 * DAY_SECONDS):
        vouched = honest(token_age_seconds=age, token_level=level)
        assert screen(vouched) == screen(matured)
        assert names(vouched) == []


def test_vouching_saves_no_script():
    script = honest(
        network_class=NetworkClass.DATACENTRE,
        user_agent_class=AUTOMATION,
        token_level=3 | facts.PROVEN,
        dwell_centiseconds=20,
        oddities=facts.NO_LANGUAGE,
    )
    assert decision(script, proven=True) is Decision.HOLD
    assert decision(honest(token_level=3 | facts.PROVEN), proven=True) is Decision.COUNT


any_signals = st.builds(
    Signals,
    network_class=st.sampled_from(NetworkClass),
    user_agent_class=st.integers(0, 255),
    token_age_seconds=st.integers(0, 2**32 - 1),
    token_level=st.integers(0, 0x33),
    dwell_centiseconds=st.integers(0, 65_535),
    oddities=st.integers(0, 127),
)


@given(any_signals)
def test_a_score_is_the_prior_and_the_capped_sum_of_what_holds(signals):
    by_family: dict[str, float] = {}
    for rule in HEURISTICS:
        if rule.holds(signals):
            by_family[rule.family] = by_family.get(rule.family, 0) + rule.weight_nats
    caps = RULES.family_caps_nats
    total = sum(min(caps.get(family, 1e9), nats) for family, nats in by_family.items())
    score = max(-32_000, min(32_000, round(1000 * (RULES.prior_nats + total))))
    assert screen(signals).score == score


@pytest.mark.parametrize(
    ("score", "store", "expected"),
    [
        (-4_600, {}, Decision.COUNT),
        (1_499, {}, Decision.COUNT),
        (1_500, {}, Decision.CHALLENGE),
        (1_500, {"challenges": False}, Decision.HOLD),
        (1_500, {"proven": True}, Decision.COUNT),
        (1_500, {"proven": True, "slowly": True}, Decision.HOLD),
        (1_499, {"proven": True, "slowly": True}, Decision.COUNT),
        (1_500, {"proven": True, "challenges": False}, Decision.COUNT),
        (4_000, {"proven": True}, Decision.HOLD),
        (12_000, {}, Decision.REFUSE),
        (-4_600, {"over_limit": True}, Decision.HOLD),
        (-4_600, {"over_new_devices": True}, Decision.CHALLENGE),
        (-4_600, {"over_new_devices": True, "challenges": False}, Decision.HOLD),
        (-4_600, {"over_new_devices": True, "proven": True}, Decision.COUNT),
        (-4_600, {"cell_weight": 8_700}, Decision.HOLD),
        (-4_600, {"cell_weight": 8_700, "proven": True}, Decision.HOLD),
        (11_000, {"over_limit": True}, Decision.REFUSE),
    ],
)
def test_conclusions(score, store, expected):
    assert conclude(score, **store).decision is expected


def test_the_stores_reasons_come_first():
    concluded = conclude(
        0, b"\x20\x21\x22", over_limit=True, over_new_devices=True, cell_weight=1_000
    )
    assert concluded.reasons == b"\x01\x03\x02"
    assert concluded.score == 1_500 + 2_000 + 1_000
