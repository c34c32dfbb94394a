"""What candidates and campaigns show beside the card: stories, further photos, [page] and cover."""

import pytest
from PIL import Image

from tests.campaign_folders import (
    HEADER,
    MANIFEST,
    csv_bytes,
    grid,
    jpeg,
    people,
    places,
    write_folder,
    write_xlsx,
)
from voting.campaign import Page
from voting.intake.folder import check_folder
from voting.intake.manifest import read_manifest
from voting.intake.roster import read_roster
from voting.intake.sheet import read_sheet

CSV = "candidates.csv"
TOML = "campaign.toml"
ENOUGH = 2_000_000
PAGE = '''
[page]
lead = "  为创造者点赞  "
about = """
第一段。\t续。

 第二段。\r
"""
organiser = "示例组委会"
contact = "示例热线 400-000-0000"
colour = "#B8291A"
'''


def story_of(folder, text, form=None):
    """(story, problems) of a list with this one."""
    cells = grid([people(1)[0] | {"详细事迹": text}], (*HEADER, "详细事迹"))
    if form == "xlsx":
        write_xlsx(folder, cells)
    else:
        (folder / CSV).write_bytes(csv_bytes(cells))
    sheet, problems = read_sheet(folder)
    roster, more = read_roster(sheet, None)
    return roster.candidates[0].story, problems + more


# Stories.


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_story_keeps_its_paragraphs_and_nothing_else_of_its_form(tmp_path, form):
    text = " 第一段。\n\n　　第二段\t有制表符。 \n \n第三段。\n"
    story, problems = story_of(tmp_path, text, form)
    assert (story, problems) == ("第一段。\n第二段 有制表符。\n第三段。", [])


def test_breaks_of_every_system_are_breaks(tmp_path):
    story, problems = story_of(tmp_path, "一\r\n二\r三\u2028四\u2029五\x0b六\u0085七")
    assert (story, problems) == ("一\n二\n三\n四\n五\n六\n七", [])


def test_a_story_may_be_missing(tmp_path):
    assert story_of(tmp_path, "") == ("", [])
    assert story_of(tmp_path, "\n \n") == ("", [])


def test_a_story_of_5000_characters_is_taken_and_no_longer_one(tmp_path):
    longest = "字" * 2_499 + "\n" + "句" * 2_500
    for form in ("csv", "xlsx"):
        (tmp_path / form).mkdir()
        assert story_of(tmp_path / form, longest, form) == (longest, [])
        for more in (1, 10_000):
            _, problems = story_of(tmp_path / form, longest + "字" * more, form)
            assert places(problems, "error") == [(f"candidates.{form}", 3, "详细事迹")]
            assert "more than 5000 characters" in problems[0].message


def test_what_cannot_be_seen_must_not_be_in_a_story(tmp_path):
    for text, level in (("a\u202eb", "error"), ("a\x07b", "error"), ("a\n\ue000", "warning")):
        _, problems = story_of(tmp_path, text)
        assert [(p.level, p.row, p.column) for p in problems] == [(level, 3, "详细事迹")]


def test_markup_in_a_story_is_text(tmp_path):
    text = "<script>alert(1)</script>\n[链接](javascript:alert(1))"
    assert story_of(tmp_path, text) == (text, [])


# Several photos.


@pytest.fixture
def check(tmp_path):
    def run(named, files, manifest=MANIFEST, beside=None):
        rows = [
            person | {"照片": name} for person, name in zip(people(len(named)), named, strict=True)
        ]
        folder = write_folder(tmp_path / "f", rows, photos=files, manifest=manifest)
        for name, content in (beside or {}).items():
            (folder / name).write_bytes(content)
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return check_folder(folder, scratch)

    return run


def photo(side):
    return jpeg((side, side), at_least_bytes=ENOUGH)


@pytest.mark.parametrize("between", [";", "；", "、", "\n", " ;\n "])
def test_photos_are_listed_in_one_cell_and_the_first_is_the_cards(check, between):
    checked = check([between.join(("b.jpg", "a.jpg", "c.JPG"))], {
        "a.jpg": photo(50), "b.jpg": photo(60), "c.jpg": photo(70),
    })  # fmt: skip
    assert checked.problems == ()
    width = {card.id: card.width for card in checked.cards}
    assert width[checked.photo_ids["c001"]] == 60
    assert [width[one] for one in checked.more_photo_ids["c001"]] == [50, 70]


def test_a_name_may_hold_what_stands_between_names(check):
    checked = check(["a;b.jpg", "a.jpg"], {"a;b.jpg": photo(50), "a.jpg": photo(60)})
    assert checked.problems == ()
    assert set(checked.photo_ids) == {"c001", "c002"}
    assert checked.more_photo_ids == {}


def test_problems_of_further_photos_are_said_by_their_names(check):
    checked = check(
        ["a.jpg;gone.jpg;../b.jpg;bad.jpg;a.jpg", "b.jpg;a.jpg"],
        {"a.jpg": photo(50), "b.jpg": jpeg((60, 60)), "bad.jpg": b"no picture"},
    )
    assert [(p.level, p.row, p.column, p.value) for p in checked.problems] == [
        ("error", 3, "照片", "gone.jpg"),
        ("error", 3, "照片", "../b.jpg"),
        ("warning", 3, "照片", "a.jpg"),
        ("warning", 4, "照片", "a.jpg"),
        ("error", 3, "照片", "bad.jpg"),
        ("warning", 4, "照片", "b.jpg"),
    ]
    said = [p.message for p in checked.problems]
    assert (said[2], said[3]) == ("is named twice here", "is the photo of row 3 too")


def test_more_photos_than_a_page_shows_are_an_error(check):
    files = {f"{n}.jpg": photo(50 + n) for n in range(13)}
    assert check([";".join(list(files)[:12])], files).ok
    checked = check([";".join(files)], files)
    assert places(checked.problems, "error") == [(CSV, 3, "照片")]
    assert "more than 12 photos" in checked.problems[0].message


# [page].


def read(folder, text):
    (folder / TOML).write_text(text, newline="")
    return read_manifest(folder)


def test_a_page_is_taken_as_it_stands(tmp_path):
    manifest, problems = read(tmp_path, MANIFEST + PAGE)
    assert problems == []
    assert manifest.page == Page(
        "为创造者点赞", "第一段。 续。\n第二段。", "示例组委会", "示例热线 400-000-0000", "#b8291a"
    )
    assert manifest.cover is None


def test_a_campaign_without_a_page_has_an_empty_one(tmp_path):
    manifest, problems = read(tmp_path, MANIFEST)
    assert (manifest.page, manifest.cover, problems) == (Page(), None, [])


@pytest.mark.parametrize(
    ("right", "wrong", "column", "word"),
    [
        ("#B8291A", "b8291a", "page.colour", '"#b8291a"'),
        ("#B8291A", "#b82", "page.colour", '"#b8291a"'),
        ("#B8291A", "#b8291a;}", "page.colour", '"#b8291a"'),
        ("#B8291A", "url(//x)", "page.colour", '"#b8291a"'),
        ('"#B8291A"', "0xb8291a", "page.colour", '"#b8291a"'),
        ("为创造者点赞", "长" * 121, "page.lead", "120"),
        ("为创造者点赞", "a\\nb", "page.lead", "control character"),
        ("第一段。", "长" * 5_001, "page.about", "5000"),
        ("第一段。", "a\\u0007", "page.about", "control character"),
        ("第一段。", "a\\u202e", "page.about", "invisible character"),
        ("示例组委会", "长" * 101, "page.organiser", "100"),
        ("示例热线", "长" * 201, "page.contact", "200"),
        ('"示例组委会"', "5", "page.organiser", "text in quotes"),
        ("organiser", "organizer", "page.organizer", "not a known key"),
        ("[page]", "[pages]", "pages", "not a known key"),
        ('colour = "', 'cover = ""\ncolour = "', "page.cover", "is empty"),
    ],
)
def test_mistakes_of_a_page_are_named_by_their_keys(tmp_path, right, wrong, column, word):
    assert right in PAGE
    manifest, problems = read(tmp_path, MANIFEST + PAGE.replace(right, wrong))
    assert manifest is None
    [problem] = problems
    assert (problem.file, problem.level, problem.column) == (TOML, "error", column)
    assert word in problem.message


def test_a_character_of_a_private_font_on_the_page_is_a_warning(tmp_path):
    page = PAGE.replace("第二段", "\ue000").replace("示例组委会", "\ue001")
    manifest, problems = read(tmp_path, MANIFEST + page)
    assert manifest is not None
    assert [(p.level, p.column) for p in problems] == [
        ("warning", "page.about"),
        ("warning", "page.organiser"),
    ]


# Its cover.


def with_cover(name):
    return MANIFEST + PAGE + f'cover = "{name}"\n'


def test_a_cover_is_a_photo_of_the_folder(check):
    files = {"a.jpg": photo(50), "sky.jpg": jpeg((1600, 900))}
    checked = check(["a.jpg"], files, with_cover("sky.jpg"))
    assert checked.problems == ()
    [cover] = [card for card in checked.cards if card.id == checked.cover]
    assert (cover.width, cover.height) == (480, 270)
    assert (cover.large_width, cover.large_height) == (1200, 675)
    with Image.open(cover.large_webp) as image:
        assert image.size == (1200, 675)


def test_a_cover_may_be_a_candidates_photo(check):
    checked = check(["a.jpg"], {"a.jpg": photo(50)}, with_cover("a.jpg"))
    assert checked.problems == ()
    assert checked.cover == checked.photo_ids["c001"]


def test_a_cover_may_lie_beside_the_manifest(check):
    beside = {"cover.jpg": jpeg((1600, 900))}
    checked = check(["a.jpg"], {"a.jpg": photo(50)}, with_cover("cover.jpg"), beside)
    assert checked.problems == ()
    assert checked.cover is not None


def test_a_cover_that_nothing_names_is_a_warning(check):
    checked = check(["a.jpg"], {"a.jpg": photo(50)}, MANIFEST + PAGE, {"cover.jpg": b"x"})
    assert places(checked.problems, "warning") == places(checked.problems)
    assert places(checked.problems) == [("cover.jpg", None, None)]
    assert checked.cover is None


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("gone.jpg", None, "is not in photos/"),
        ("cover.jpg", None, "is not in photos/"),
        ("../cover.jpg", b"x", "without a folder"),
        ("cover.jpg", b"<svg/>", "is not a JPEG but an SVG"),
        ("cover.jpg", jpeg((8_000, 5_001)), "megapixels"),
        ("cover.jpg", jpeg((900, 900))[:-9], "cut off or damaged"),
    ],
)
def test_a_cover_that_cannot_be_taken_is_an_error_at_its_key(check, name, content, word):
    beside = {} if content is None else {"cover.jpg": content}
    checked = check(["a.jpg"], {"a.jpg": photo(50)}, with_cover(name), beside)
    [problem] = [p for p in checked.problems if p.level == "error"]
    assert places([problem]) == [(TOML, None, "page.cover")]
    assert word in problem.message
    assert checked.cover is None
