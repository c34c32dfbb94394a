"""The demo campaign's folder: people, facts and portraits."""

import csv
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from voting.demo.portraits.draw import PORTRAITS, picture

DEMO = Path(__file__).parents[2] / "voting" / "demo"
MANIFEST = tomllib.loads((DEMO / "campaign.toml").read_text())
with (DEMO / "candidates.csv").open(encoding="utf-8") as lines:
    ROWS = list(csv.DictReader(lines))


def test_there_are_twelve_people_in_three_channels():
    assert len({row["编号"] for row in ROWS}) == len(ROWS) == 12
    assert {row["推荐渠道"] for row in ROWS} == set(MANIFEST["channels"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["编号"])
def test_each_person_has_a_short_fact_and_a_portrait_of_card_shape(row):
    assert all(row.values())
    assert 40 <= len(row["主要事迹"]) <= 90
    photo = DEMO / "photos" / row["照片"]
    assert 100_000 < photo.stat().st_size < 210_000
    with Image.open(photo) as image:
        assert (image.format, image.size) == ("JPEG", (960, 1200))


@pytest.mark.parametrize("name", PORTRAITS)
def test_the_drawing_is_what_the_code_draws_and_needs_no_font(name):
    drawn = picture(PORTRAITS[name])
    assert (DEMO / "portraits" / f"{name}.svg").read_text() == drawn
    assert "<text" not in drawn
    assert "<image" not in drawn


def test_every_person_is_drawn():
    assert set(PORTRAITS) == {row["编号"] for row in ROWS}
