"""Charts: what is drawn, and that a page with them needs no style and no script."""

import itertools
import math
import re
from datetime import datetime, timedelta
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.console import charts

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 7, 5, 12, tzinfo=SHANGHAI)


def moments(number, step=timedelta(minutes=5), first=NOON):
    return [first + n * step for n in range(number)]


def elements(markup):
    """Every element of all drawings, as a parser that forgives nothing reads them."""
    return [
        element
        for element in ElementTree.fromstring(f"<all>{markup}</all>").iter()  # noqa: S314
        if element.tag != "all"
    ]


def drawn(values, **fields):
    return charts.course(
        "点赞", "每分钟", moments(len(values)), [charts.Series("计入", values, **fields)]
    )


def points_of(path):
    return [tuple(map(float, pair.split())) for pair in path.get("d")[1:].split("L")]


def lines(markup, colour=1):
    return [one for one in elements(markup) if one.get("class") == f"s{colour}"]


def test_a_course_has_a_shape_for_wide_and_one_for_narrow_screens():
    shapes = [one.get("class") for one in elements(drawn([1, 2, 3])) if one.tag == "svg"]
    assert shapes == ["chart only-wide", "chart only-narrow"]


def test_each_drawing_says_what_it_shows():
    for svg in (one for one in elements(drawn([1, 2, 3])) if one.tag == "svg"):
        assert svg.get("role") == "img"
        assert svg.get("aria-label") == svg.find("title").text == "点赞"
        assert svg.find("desc").text == "每分钟"


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=60))
def test_every_value_is_inside_and_higher_means_higher_up(values):
    for path in lines(drawn(values)):
        found = points_of(path)
        assert len(found) == len(values)
        assert all(0 <= x <= 840 and 0 <= y <= 250 for x, y in found)
        assert [x for x, _ in found] == sorted(x for x, _ in found)
        placed = zip(values, (y for _, y in found), strict=True)
        for (value, y), (next_value, next_y) in itertools.pairwise(placed):
            assert value <= next_value or y <= next_y


def test_a_gap_ends_a_line_and_a_lone_value_breaks_nothing():
    wide = lines(drawn([1, 2, None, 4, None, 6]))[:3]
    assert [len(points_of(path)) for path in wide] == [2, 1, 1]


@pytest.mark.parametrize("values", [[], [5]])
def test_what_cannot_be_drawn_is_left_to_words(values):
    assert drawn(values) == ""
    assert charts.spark("x", values) == ""


def test_names_are_text_whatever_is_in_them():
    hostile = '<script>alert(1)</script>"\' onload="x'
    markup = (
        charts.course(hostile, hostile, moments(3), [charts.Series(hostile, [1, 2, 3])])
        + charts.spark(hostile, [1, 2])
        + charts.bar(0.5, title=hostile)
        + charts.stack(hostile, [charts.Slice(hostile, 1, 1)])
        + charts.legend([(hostile, 1)])
    )
    assert {one.tag for one in elements(markup)} <= {
        "svg", "title", "desc", "path", "text", "rect", "p", "span", "i",
    }  # fmt: skip
    assert not any(name.startswith("on") for one in elements(markup) for name in one.attrib)


def test_nothing_is_styled_where_it_stands():
    markup = drawn([1, 2, 3], filled=True) + charts.bar(0.3) + charts.spark("x", [1, 2])
    assert not re.search(r"\bstyle\b|<style|javascript:|\burl\(", markup)


@given(st.floats(1e-6, 1e12))
def test_an_axis_has_few_round_steps_and_holds_the_highest_value(most):
    top, ticks = charts.scale(most)
    assert ticks[0] == 0
    assert math.isclose(ticks[-1], top)
    assert 2 <= len(ticks) <= 6
    assert top >= most * 0.999999
    assert top <= 2.6 * most
    step = ticks[1]
    leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(math.isclose(leading, nice, rel_tol=1e-6) for nice in (1, 2, 5))


@pytest.mark.parametrize("most", [0.0, -3.0, math.inf, math.nan])
def test_an_axis_of_nothing_is_there_all_the_same(most):
    assert charts.scale(most) == (1.0, [0.0, 1.0])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.25, "0.25"), (5, "5"), (950, "950"), (1_200, "1.2k"), (35_000, "35k"),
     (1_500_000, "1.5M")],
)  # fmt: skip
def test_numbers_at_an_axis_are_short(value, shown):
    assert charts.short(value) == shown


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)),
    st.timedeltas(timedelta(minutes=15), timedelta(days=31)),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York"]),
    st.integers(3, 9),
)
def test_times_at_an_axis_are_few_round_and_within(first, span, zone, most):
    first = first.replace(tzinfo=ZoneInfo(zone))
    last = first + span
    labels = charts.time_labels(first, last, most)
    assert len(labels) <= most
    for moment, label in labels:
        assert first <= moment <= last
        assert label in (moment.strftime("%H:%M"), moment.strftime("%m-%d"))
        assert moment.second == 0


def test_midnight_is_said_as_its_date():
    labels = charts.time_labels(NOON, NOON + timedelta(days=1), 9)
    assert [label for _, label in labels if "-" in label] == ["07-06"]
    assert labels[0] == (NOON, "12:00")


@pytest.mark.parametrize(("share", "width"), [(-1, "0"), (0, "0"), (0.5, "50"), (7, "100")])
def test_a_bar_is_never_longer_than_the_whole(share, width):
    assert elements(charts.bar(share))[-1].get("width") == width


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=8))
def test_parts_of_a_whole_fill_it(amounts):
    slices = [charts.Slice(str(n), amount, 1 + n % 6) for n, amount in enumerate(amounts)]
    rects = [one for one in elements(charts.stack("x", slices)) if one.tag == "rect"]
    assert len(rects) == sum(amount > 0 for amount in amounts)
    if rects:
        assert math.isclose(sum(float(one.get("width")) for one in rects), 100, abs_tol=0.01)
