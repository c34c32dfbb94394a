"""The demo campaign's folder: people, facts and portraits."""

import csv
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from voting.demo.portraits import cover
from voting.demo.portraits.draw import PORTRAITS, WITH_THINGS, picture, still
from voting.intake.folder import check_folder

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
    photo = DEMO / "photos" / row["照片"].split(";")[0]
    assert 100_000 < photo.stat().st_size < 210_000
    with Image.open(photo) as image:
        assert (image.format, image.size) == ("JPEG", (960, 1200))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["编号"])
def test_each_person_has_a_story_of_a_few_paragraphs(row):
    paragraphs = row["详细事迹"].split("\n")
    assert 3 <= len(paragraphs) <= 4
    assert all(20 <= len(paragraph) <= 160 for paragraph in paragraphs)


def test_some_have_a_second_picture():
    further = [name for row in ROWS for name in row["照片"].split(";")[1:]]
    assert further == [
        f"{name}-things.jpg" for name in sorted(WITH_THINGS, key=list(PORTRAITS).index)
    ]
    for name in further:
        assert (DEMO / "photos" / name).stat().st_size < 120_000


def test_the_page_says_that_it_is_a_demo_and_has_a_small_cover():
    page = MANIFEST["page"]
    assert "演示" in page["about"]
    assert "虚构" in page["organiser"]
    with Image.open(DEMO / "photos" / page["cover"]) as image:
        assert image.size == (cover.WIDE, cover.HIGH)
    assert (DEMO / "photos" / page["cover"]).stat().st_size < 100_000


def test_the_demo_has_nothing_to_complain_of_but_small_files(tmp_path):
    checked = check_folder(DEMO, tmp_path)
    assert {p.message for p in checked.problems} == {"the office asks for at least 2 MB"}
    assert checked.ok


@pytest.mark.parametrize("drawing", [cover.cover(), *(still(PORTRAITS[n]) for n in WITH_THINGS)])
def test_what_is_drawn_beside_the_portraits_needs_no_font_either(drawing):
    assert "<text" not in drawing
    assert "<image" not in drawing


@pytest.mark.parametrize("name", PORTRAITS)
def test_the_drawing_is_what_the_code_draws_and_needs_no_font(name):
    drawn = picture(PORTRAITS[name])
    assert (DEMO / "portraits" / f"{name}.svg").read_text() == drawn
    assert "<text" not in drawn
    assert "<image" not in drawn


def test_every_person_is_drawn():
    assert set(PORTRAITS) == {row["编号"] for row in ROWS}
