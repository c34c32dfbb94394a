"""Any colour of a campaign gives pages that can be read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import voting
from voting.edge.site.colours import DEFAULT, banner, contrast, dark, is_colour, light
from voting.edge.site.static import STATIC
from voting.edge.site.theme import css_of

WIDGET = Path(voting.__file__).parent / "widget"
any_colour = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")
EDGES = ["#000000", "#ffffff", "#808080", "#ffff00", "#00ff00", "#0000ff", "#ff00ff", "#777777"]


def assert_readable(colour):
    for scheme in (light(colour), dark(colour)):
        for text in (scheme.ink, scheme.muted, scheme.accent, scheme.focus):
            for back in (scheme.paper, scheme.card, scheme.soft):
                assert contrast(text, back) >= 4.5, (colour, text, back)
        assert contrast(scheme.on_fill, scheme.fill) >= 4.5, colour
        for back in (scheme.paper, scheme.card):
            assert contrast(scheme.fill, back) >= 3, colour
    head = banner(colour)
    for back in (head.top, head.bottom):
        assert contrast(head.ink, back) >= 7, colour
        assert contrast(head.gold, back) >= 4.5, colour


@given(any_colour)
def test_text_and_buttons_of_any_colour_can_be_read_in_light_and_dark(colour):
    assert_readable(colour)


@pytest.mark.parametrize("colour", EDGES)
def test_so_do_the_colours_at_the_edges(colour):
    assert_readable(colour)


def test_where_nobody_chose_a_colour_pages_and_elements_have_the_same():
    css = (WIDGET / "src" / "like.css").read_text(encoding="utf-8")
    assert f"--_fill: var(--like-color, {DEFAULT});" in css
    assert light(DEFAULT).fill == DEFAULT


def test_a_colour_that_can_be_read_stays_as_it_was_given():
    assert light("#b8291a").accent == light("#b8291a").fill == "#b8291a"


def test_contrast_is_wcags():
    assert contrast("#000000", "#ffffff") == contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@given(st.text(max_size=40) | st.sampled_from(["red", "#fff", "#b8291a;}body{", "#B8291A\n"]))
def test_nothing_but_a_colour_gets_into_the_style_sheet(text):
    css = css_of(text)
    if is_colour(text):
        assert css != css_of("")
    else:
        assert css == css_of("")
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789#:;{}-@() \n")
    assert set(css) <= allowed


def test_the_style_sheets_own_theme_is_the_default_one():
    css = STATIC["site.css"][0].plain.decode()
    theme = css.split("/* theme */\n")[1].split("/* end of theme */")[0]
    assert theme == css_of("") == css_of(DEFAULT)
