"""Counts as images: right pictures whatever is asked for, legible, and cheap."""

import io
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voting.edge.count_images import HEIGHTS, Look, _part, as_png, as_svg, look_of
from voting.edge.site.colours import contrast

USUAL = look_of({})
HIDDEN = "–"
QUERIES = st.dictionaries(
    st.sampled_from(("theme", "color", "height", "size", "x")),
    st.one_of(st.text(max_size=8), st.sampled_from(("dark", "b8291a", "FFDD00", "56", "light"))),
)


def picture(png):
    image = Image.open(io.BytesIO(png))
    image.verify()
    return Image.open(io.BytesIO(png)).convert("RGBA")


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("text", ["0", "8", "133,742", "1,234,567", HIDDEN])
def test_png_is_a_whole_picture_of_its_height_with_its_colours(text, height):
    look = USUAL._replace(height=height)
    shown = picture(as_png(text, look))
    assert shown.height == height
    assert height < shown.width < 5 * height
    assert shown.getpixel((0, 0))[3] == 0, "round"
    colours = {pixel for _, pixel in shown.getcolors(9_999)}
    assert (*bytes.fromhex(look.ground[1:]), 255) in colours
    assert (*bytes.fromhex(look.ink[1:]), 255) in colours


def test_other_numbers_are_other_pictures_and_digits_are_of_one_width():
    pictures = {as_png(f"{n}", USUAL) for n in range(10)}
    assert len(pictures) == 10
    assert len({picture(png).width for png in pictures}) == 1
    assert as_png(HIDDEN, USUAL) not in pictures


@given(QUERIES)
def test_whatever_is_asked_for_is_a_known_look_and_legible(query):
    look = look_of(query)
    assert look.height in HEIGHTS
    for colour in (look.ground, look.ink):
        assert re.fullmatch("#[0-9a-f]{6}", colour)
    assert contrast(look.ground, look.ink) >= 4.5


@given(st.integers(0, 0xFFFFFF), st.sampled_from(("dark", "light")))
def test_every_colour_is_legible(colour, theme):
    look = look_of({"color": f"{colour:06X}", "theme": theme})
    assert contrast(look.ground, look.ink) >= 4.5
    if theme == "light":
        assert look.ground == f"#{colour:06x}", "a portal's colour is its own"


def test_hostile_values_are_ignored():
    for hostile in ("red", "#b8291a", "b8291", "b8291ab", '"><script>', "１２３４５６", "00 000"):
        assert look_of({"color": hostile, "theme": hostile, "height": hostile}) == USUAL
    assert look_of({"height": "99999"}) == look_of({"height": "028"}) == USUAL


@given(st.text(max_size=40), st.integers(0, 10**9), QUERIES)
def test_svg_is_well_formed_whatever_somebody_is_called(name, likes, query):
    root = ET.fromstring(as_svg(name, f"{likes:,}", look_of(query)))  # noqa: S314
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags == ["svg", "title", "rect", "path", "text"]
    assert root.findtext("{*}text") == f"{likes:,}"
    assert float(root.get("height")) in HEIGHTS


def test_parts_of_pictures_are_drawn_once_and_are_few():
    _part.cache_clear()
    for n in range(2_000):
        for height in HEIGHTS:
            as_png(f"{n * 7_919:,}", Look("#000000", "#ffffff", height))
    assert _part.cache_info().misses == len(HEIGHTS) * len("0123456789,") + 2 * len(HEIGHTS)
