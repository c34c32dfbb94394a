"""Each detector finds what it is for, and takes no more than that."""

import json

import numpy as np
import pytest

from antifraud.detectors import Baselines, detect
from tests.detector_crowds import (
    CAMPUS,
    DATACENTRE,
    HOME,
    MOBILE,
    START_US,
    Crowd,
    database_of,
    honest,
)

DAY_S = 86_400


def judged(crowd, **settings):
    db, groups = crowd.database()
    return detect(db, **settings), groups


def recall(found, groups, group="attack", *, automatic=True):
    votes = [flag.votes for flag in found.flags if flag.automatic or not automatic]
    held = np.concatenate(votes) if votes else np.zeros(0, np.int64)
    return (groups[held] == group).sum() / (groups == group).sum(), (groups[held] != group).sum()


def test_a_script_behind_thousands_of_homes_is_lockstep():
    found, groups = judged(honest(1).script(600, 88))
    flag = found.flags[0]
    assert flag.rules[0] == "lockstep"
    assert {"client", "dwell"} <= set(flag.kinds)
    assert recall(found, groups) == (1.0, 0)


@pytest.mark.parametrize("votes", [300, 3_000])
def test_phone_models_of_the_crowd_do_not_hide_a_machine(votes):
    """Camouflage "ua": what is left is the haste, and a TLS stack that no such phone has."""
    crowd = honest(2)
    crowd.script(votes, 88, user_agent_class=crowd.models_of_the_crowd(votes))
    found, groups = judged(crowd)
    share, wrong = recall(found, groups)
    assert share >= 0.9
    assert wrong <= votes // 100


def test_nor_does_an_unknown_tls_stack():
    crowd = honest(2, tls=False)
    crowd.script(1_000, 88, user_agent_class=crowd.models_of_the_crowd(1_000))
    found, groups = judged(crowd)
    share, wrong = recall(found, groups)
    assert share >= 0.9
    assert wrong <= 10


@pytest.mark.parametrize("network_class", [MOBILE, CAMPUS])
def test_a_script_behind_one_address_is_told_from_its_neighbours(network_class):
    """The NAT's honest people keep their votes."""
    crowd = honest(3)
    crowd.add(
        "neighbours",
        120,
        candidate=88,
        network_class=network_class,
        network=(20 << 40) + 88,
        network_wide=(20 << 24) + 88,
    )
    crowd.single_address(200, 88, network_class=network_class)
    found, groups = judged(crowd)
    assert recall(found, groups) == (1.0, 0)


def test_a_rented_server_is_a_kind_of_evidence_beside_others():
    found, groups = judged(honest(4).single_address(300, 88, network_class=DATACENTRE))
    assert "network" in found.flags[0].kinds
    assert recall(found, groups) == (1.0, 0)


def test_tokens_minted_together_and_kept_are_found_by_their_hour():
    """People's dwell, people's phones, people's addresses: only the tokens were made in one hour,
    and the votes follow each other like a clock."""
    crowd = honest(5, hours=48)
    votes = 800
    at_us = START_US + 30 * 3_600_000_000 + np.arange(votes) * 9_000_000
    minted_us = START_US + 3 * 3_600_000_000 + crowd.rng.integers(0, 3_000_000_000, votes)
    crowd.add(
        "attack",
        votes,
        candidate=88,
        at_us=at_us,
        token_age_seconds=(at_us - minted_us) // 1_000_000,
        token_level=2,
    )
    found, groups = judged(crowd)
    flag = found.flags[0]
    assert "preminted" in flag.rules
    assert set(flag.kinds) == {"age", "pace"}
    share, wrong = recall(found, groups)
    assert share >= 0.9
    assert wrong <= 8


def test_one_phone_that_comes_back_with_new_tokens_is_found_on_many_lines():
    crowd = honest(6)
    lines = np.repeat(np.arange(40), 15)
    crowd.script(
        600,
        88,
        network=(21 << 40) + (lines << 16),
        network_wide=(21 << 24) + lines,
        user_agent_class=32 + lines % 50,
    )
    found, groups = judged(crowd)
    flag = found.flags[0]
    assert "reminting" in flag.rules
    assert "repeat" in flag.kinds
    assert recall(found, groups) == (1.0, 0)


def test_re_minting_is_no_rule_where_a_thousand_people_share_an_address():
    crowd = honest(6, votes=20_000)
    crowd.add("nat", 400, candidate=88, network_class=MOBILE, network=5, user_agent_class=40)
    found, _ = judged(crowd)
    assert not any("reminting" in flag.rules for flag in found.flags)


def test_two_sources_of_one_candidate_are_two_cases():
    crowd = honest(7)
    crowd.script(500, 88, group="one", user_agent_class=40, at_hour=8)
    crowd.script(
        500,
        88,
        group="other",
        user_agent_class=70,
        dwell_centiseconds=crowd.rng.normal(900, 30, 500),
        tls_hash=999,
        at_hour=20,
    )
    found, groups = judged(crowd)
    assert [len(flag.votes) for flag in found.flags if flag.automatic] == [500, 500]
    for flag in found.flags:
        assert len(set(groups[flag.votes])) == 1


def test_many_cells_of_one_source_are_one_case():
    crowd = honest(8)
    crowd.script(2_000, 88, user_agent_class=40 + np.arange(2_000) % 4)
    found, _ = judged(crowd)
    assert len(found.flags) == 1
    assert found.flags[0].evidence["cells"] > 1


def test_a_rival_cannot_take_honest_votes_down_by_stuffing_loudly():
    """Sets of votes are flagged, never candidates."""
    crowd = honest(9)
    crowd.add("believers", 3_000, candidate=88)
    crowd.single_address(5_000, 88, network_class=DATACENTRE)
    found, groups = judged(crowd)
    assert recall(found, groups) == (1.0, 0)


def test_yesterdays_baselines_find_what_fills_todays_only_candidate():
    """One candidate, nobody to compare with: only yesterday's crowd tells."""
    yesterday, _ = judged(honest(10))
    crowd = Crowd(11, candidates=1)
    crowd.add("crowd", 2_000)
    crowd.script(2_000, 1)
    found, groups = judged(crowd, baselines=yesterday.baselines)
    assert recall(found, groups) == (1.0, 0)


def test_the_baselines_handed_on_are_of_the_unflagged_votes():
    plain, _ = judged(honest(12))
    stuffed, _ = judged(honest(12).script(20_000, 88))
    assert abs(stuffed.baselines.votes - plain.baselines.votes) < 20
    for name in ("agent", "dwell", "age"):
        mine, clean = getattr(stuffed.baselines, name), getattr(plain.baselines, name)
        assert np.allclose(mine, clean, atol=1e-3)
    kept, _ = judged(honest(12).script(500, 88), baselines=plain.baselines, learn_anew=False)
    assert kept.baselines is plain.baselines


def test_baselines_survive_json():
    found, _ = judged(honest(13, votes=20_000))
    again = Baselines.from_dict(json.loads(json.dumps(found.baselines.as_dict())))
    assert np.allclose(again.agent, found.baselines.agent, atol=1e-8)
    assert (again.stacks == found.baselines.stacks).all()
    broken = found.baselines.as_dict()
    broken["age"] = broken["age"][:3]
    with pytest.raises(ValueError, match="age"):
        Baselines.from_dict(broken)


def test_a_flag_says_in_one_sentence_what_is_wrong():
    found, _ = judged(honest(1).script(600, 88))
    flag = found.flags[0]
    assert flag.candidates == {88: 600}
    assert flag.sentence.startswith("这 600 票里，任意两票来自同一手机型号的可能性是平常的 ")
    assert flag.sentence.endswith("。")
    assert flag.score >= 6
    assert json.loads(json.dumps(flag.evidence)) == flag.evidence


def test_one_kind_of_evidence_asks_the_staff():
    """A person's phones and rhythm, and a machine's dwell: people must look at it."""
    crowd = honest(14)
    crowd.add(
        "attack",
        600,
        candidate=88,
        network_class=HOME,
        dwell_centiseconds=crowd.rng.normal(180, 10, 600),
        at_us=crowd.moments(600, 9, 60),
    )
    found, groups = judged(crowd)
    assert [flag.kinds for flag in found.flags] == [("dwell",)]
    assert not found.flags[0].automatic
    assert found.flags[0].score < 4
    assert recall(found, groups, automatic=False)[0] > 0.8


def test_pseudonyms_of_all_64_bits_are_welcome():
    full, groups = honest(15, votes=20_000).single_address(300, 88).table()
    for name in ("device", "network", "network_wide"):
        full[name] = full[name].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = detect(database_of(full))
    assert recall(found, groups) == (1.0, 0)
