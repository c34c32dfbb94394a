"""Every figure, kind and reason that a case can have is said in words."""

import ast
from pathlib import Path

import pytest

import antifraud.detectors.evidence
import antifraud.detectors.merge
from antifraud.flags import KIND_NATS
from antifraud.heuristics import REASON_NAMES
from tally.case_evidence import Bar
from tally.case_files import FlagOfCase
from tally.console import case_charts, case_words, pages
from tally.console.case_charts import Column
from tally.console.case_words import (
    CLAIMS,
    FIGURES,
    KINDS,
    REASONS,
    RULES,
    agent_name,
    figures_of,
    range_name,
    seconds,
    sentence_of,
)

ENGLISH = pages.translator("en")


def flag(**fields):
    return FlagOfCase(
        **{
            "number": 1, "at": None, "rules": ("lockstep",), "version": 1, "kinds": ("client",),
            "evidence": {}, "sentence": "这 3 票里，……", "score": 1.0, "automatic": False,
            "votes": 1_234, "candidates": {}, **fields,
        }
    )  # fmt: skip


def written_figures():
    """Names of figures that the detectors write down, out of their source."""
    for module in (antifraud.detectors.evidence, antifraud.detectors.merge):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "figures":
                names = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                yield from (name.value for name in names if isinstance(name, ast.Constant))
            if isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                if keys & {"agent_ratio", "cells"}:
                    yield from keys


def test_every_figure_that_detectors_write_has_its_words():
    written = set(written_figures())
    assert written >= {"agent_ratio", "pace", "lead_ratio", "issue_ratio", "cells"}
    assert written == FIGURES.keys()


def test_every_kind_rule_and_reason_has_its_words():
    assert KINDS.keys() == CLAIMS.keys() == KIND_NATS.keys()
    assert RULES.keys() == set(antifraud.detectors.merge._ORDER)
    assert REASONS.keys() == set(REASON_NAMES.values())


def test_what_speaks_against_votes_comes_first():
    shown = figures_of(flag(evidence={"votes": 40, "pace": 0.2, "agent_ratio": 5.9}))
    assert [(one.label, one.speaks) for one in shown] == [
        ("Rhythm", True), ("Same phone model", False), ("Votes", False),
    ]  # fmt: skip
    assert [one.limit for one in shown] == ["≤ 0.50", "≥ × 6.0", ""]


def test_a_figure_of_a_later_version_stands_under_its_own_name():
    (one,) = figures_of(flag(evidence={"new_thing": "x" * 500}))
    assert (one.label, one.value, one.speaks) == ("new_thing", "x" * 200, False)
    (one,) = figures_of(flag(evidence={"pace": "?"}))
    assert one.label == "pace"


def test_the_claim_is_told_in_the_readers_language():
    one = flag(kinds=("client", "network"))
    assert sentence_of(one, "zh", pages.translator("zh")) == "这 3 票里，……"
    english = sentence_of(one, "en", ENGLISH)
    assert english == (
        "Of these 1,234 votes, the phones are far too alike, or not what they claim to be; "
        "nearly all come from rented servers."
    )
    assert sentence_of(flag(kinds=("unheard-of",)), "en", ENGLISH) == "这 3 票里，……"


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.1, "0.1 s"), (2.0, "2 s"), (59, "59 s"), (90, "2 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_lengths_of_time_are_short(value, told):
    assert seconds(value, ENGLISH) == told


def test_ranges_and_phones_have_names():
    assert range_name(Bar(-1.0, 0.0, 1, None), ENGLISH) == "younger than the look"
    assert range_name(Bar(1.6, 2.3, 1, None), ENGLISH) == "1.6 s – 2.3 s"
    assert range_name(Bar(600.0, None, 1, None), ENGLISH) == "from 10 min"
    assert agent_name(32, ENGLISH) == "phone model 1"
    assert (agent_name(2, ENGLISH), agent_name(31, ENGLISH)) == ("Windows", "another browser")
    assert agent_name(9, ENGLISH) == "WeChat on Windows"


# Pictures.


def test_columns_are_drawn_in_both_shapes_with_what_they_show_in_words():
    drawn = str(
        case_charts.columns("<b>", "about", [Column("a", 0.5, 0.1), Column("<i>", 0.25, None)])
    )
    assert drawn.count("<svg") == drawn.count("</svg>") == 2
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "a: 50.0 % / 10.0 %" in drawn
    assert drawn.count("<rect") == 2 * 3
    assert "style" not in drawn


def test_no_column_is_higher_than_the_picture():
    drawn = str(case_charts.columns("t", "d", [Column("a", 1.0, 0.0), Column("b", 0.0, 1.0)]))
    assert 'y="10.0"' in drawn
    assert 'y="-' not in drawn


def test_of_nothing_there_is_no_picture():
    assert case_charts.columns("t", "d", []) == ""


def test_states_and_actions_have_their_words():
    from tally.holds import Action, State

    assert case_words.STATES.keys() == set(State)
    assert case_words.ACTIONS.keys() == set(Action)
