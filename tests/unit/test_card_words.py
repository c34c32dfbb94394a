"""Words and choices of the card page."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.ballot import Outcome
from voting.campaign import Campaign, Page, Phase, VotingWindow
from voting.edge.answers import word_of
from voting.edge.card_words import SAID, WORDS, choices_of, colour_of, said_of_phase

CAMPAIGN = Campaign(
    1,
    "spring",
    "春天的活动",
    VotingWindow(
        datetime(2026, 7, 1, 1, tzinfo=UTC),
        datetime(2026, 7, 31, 16, tzinfo=UTC),
        ZoneInfo("Asia/Shanghai"),
    ),
    paused_because="机房检修",
    page=Page(colour="#0A7D4F"),
)


def test_both_languages_have_the_same_words():
    assert WORDS["zh"].keys() == WORDS["en"].keys()


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_of_a_press_is_said_in_both_languages(outcome):
    assert SAID["zh"][word_of(outcome)]
    assert SAID["en"][word_of(outcome)]


def test_phases_are_said_with_their_time_or_reason():
    assert said_of_phase(CAMPAIGN, Phase.OPEN, "zh") is None
    for phase, lang, said in (
        (Phase.NOT_OPEN, "zh", "点赞尚未开始，2026年7月1日 9:00（北京时间）开始"),
        (Phase.NOT_OPEN, "en", "Not open yet: opens on 2026-07-01 09:00 (Beijing time)"),
        (Phase.CLOSED, "zh", "点赞已于 2026年8月1日 0:00（北京时间）结束"),
        (Phase.PAUSED, "zh", "点赞暂停中：机房检修"),
    ):
        assert said_of_phase(CAMPAIGN, phase, lang) == said


def test_choices_are_kept_and_what_is_none_is_not():
    chosen = choices_of({"lang": "en", "theme": "dark", "color": "FFDD00", "said": "x"})
    assert chosen == ("en", "dark", "#ffdd00", {"lang": "en", "theme": "dark", "color": "ffdd00"})
    assert choices_of({"lang": "fr", "theme": "x", "color": "red"}) == ("zh", "auto", "", {})


def test_the_portals_colour_goes_before_the_campaigns():
    assert colour_of(CAMPAIGN, choices_of({"color": "ffdd00"})) == "ffdd00"
    assert colour_of(CAMPAIGN, choices_of({})) == "0a7d4f"


@given(st.dictionaries(st.sampled_from(("lang", "theme", "color")), st.text(max_size=8)))
def test_nothing_of_a_query_is_kept_but_what_is_known(query):
    chosen = choices_of(query)
    assert set(chosen.kept.items()) <= {(k, v.lower()) for k, v in query.items()}
    assert chosen.lang in WORDS
