"""The list: found in whatever form staff save it, and its cells checked one by one."""

import random
import struct
import zipfile

import pytest
import xlsxwriter

from tests.campaign_folders import (
    HEADER,
    csv_bytes,
    grid,
    people,
    places,
    write_csv,
    write_xlsx,
)
from voting.intake import sheet as sheets
from voting.intake.roster import read_roster
from voting.intake.sheet import read_sheet

CHANNELS = {"省级": 10, "学会": 2, "企业": 2}
CSV = "candidates.csv"
XLSX = "candidates.xlsx"


def roster_of(folder, channels=CHANNELS):
    """(roster, problems) of the list in the folder."""
    sheet, problems = read_sheet(folder)
    assert sheet is not None, problems
    roster, more = read_roster(sheet, channels)
    return roster, problems + more


def changed(rows, row, **cells):
    """The rows with cells of one changed; `row` as the sheet counts (the first is in row 3)."""
    return [person | cells if n == row else person for n, person in enumerate(rows, 3)]


def without(*columns):
    return tuple(name for name in HEADER if name not in columns)


# Forms.


@pytest.mark.parametrize("write", [write_xlsx, write_csv])
def test_a_list_of_744_below_a_title_is_read_whole(tmp_path, write):
    write(tmp_path, grid(people()))
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert len(roster.candidates) == 744
    first, last = roster.candidates[0], roster.candidates[-1]
    assert (first.row, first.id, first.channel) == (3, "c001", "省级")
    assert (last.row, last.id, last.channel) == (746, "c744", "企业")
    assert (first.name, first.organisation) == (people(1)[0]["姓名"], people(1)[0]["工作单位"])
    assert (first.title, first.photo) == (people(1)[0]["职务职称"], None)
    assert (first.unit, first.summary) == (people(1)[0]["推荐单位"], people(1)[0]["主要事迹"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_csv_is_read_in_each_encoding_that_office_programs_write(tmp_path, encoding):
    rows = changed(people(3), 3, 姓名="喆镕𠀀")
    write_csv(tmp_path, grid(rows, title="" if encoding == "utf-8-sig" else "表"), encoding)
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert roster.candidates[0].name == "喆镕𠀀"


def test_columns_may_stand_in_any_order(tmp_path):
    header = list(HEADER)
    random.Random(5).shuffle(header)
    write_csv(tmp_path, grid(people(3), header=header))
    shuffled, problems = roster_of(tmp_path)
    write_csv(tmp_path, grid(people(3)))
    assert problems == []
    assert shuffled == roster_of(tmp_path)[0]


def test_header_names_may_be_spaced_and_broken_as_in_forms(tmp_path):
    cells = grid(people(1))
    cells[1] = [name.replace("姓名", "姓  名 ").replace("单位", "\n单位") for name in cells[1]]
    write_xlsx(tmp_path, cells)
    assert roster_of(tmp_path)[1] == []


def test_empty_rows_are_passed_over_and_still_counted(tmp_path):
    cells = grid(people(3))
    cells[4:4] = [[], ["", "  ", "\u3000"]]
    write_csv(tmp_path, [*cells, [], []])
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert [candidate.row for candidate in roster.candidates] == [3, 4, 7]


def test_a_cell_with_line_breaks_is_one_row_of_a_csv(tmp_path):
    write_csv(tmp_path, grid(changed(people(3), 3, 主要事迹="第一段。\r\n\r\n第二段。")))
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert [candidate.row for candidate in roster.candidates] == [3, 4, 5]
    assert roster.candidates[0].summary == "第一段。 第二段。"


def test_the_sheet_with_the_header_is_taken_out_of_several(tmp_path):
    write_xlsx(tmp_path, grid(people(3)), more_sheets=[[], [["说明", "请按模板填写"]]])
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert len(roster.candidates) == 3


def test_text_is_trimmed_composed_and_numbers_have_no_point(tmp_path):
    rows = changed(people(1), 3, 姓名="\u3000Zoe\u0301 ", 职务职称=12.0, 工作单位=0.5)
    write_xlsx(tmp_path, grid(rows))
    roster, _ = roster_of(tmp_path)
    [candidate] = roster.candidates
    assert (candidate.name, candidate.title, candidate.organisation) == ("Zoé", "12", "0.5")


# Files that are no list.


def refused(folder):
    sheet, [problem] = read_sheet(folder)
    assert sheet is None
    assert problem.level == "error"
    return problem


def test_no_list_or_two_lists_is_an_error(tmp_path):
    assert "is missing" in refused(tmp_path).message
    write_csv(tmp_path, grid(people(1)))
    write_xlsx(tmp_path, grid(people(1)))
    assert "take one of them away" in refused(tmp_path).message


def test_a_list_without_its_header_is_an_error(tmp_path):
    write_csv(tmp_path, grid(people(3))[2:])
    assert "column names" in refused(tmp_path).message


def test_a_header_below_the_tenth_row_is_not_looked_for(tmp_path):
    write_csv(tmp_path, [["x"]] * 9 + grid(people(1), title=""))
    assert read_sheet(tmp_path)[0].header_row == 10
    write_csv(tmp_path, [["x"]] * 10 + grid(people(1), title=""))
    assert "first 10 rows" in refused(tmp_path).message


def test_a_header_with_nobody_below_is_an_error(tmp_path):
    write_csv(tmp_path, grid([]))
    _, [problem] = read_sheet(tmp_path)
    assert "no candidate" in problem.message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (csv_bytes(grid(people(1)))[:-1] + b"\xff\xff", "neither UTF-8 nor GB18030"),
        (csv_bytes(grid(people(1)), "utf-16"), "UTF-16"),
        (csv_bytes(grid(people(1))) + b'"no end', "no CSV"),
        (csv_bytes([["x"] * 101]), "100 columns"),
        (csv_bytes([["x"]] * 10_001), "10000 rows"),
        (b"\n" * 1_048_577, "10000 rows"),
        (b"x" * 20_000_001, "20 MB"),
        (b"", "column names"),
    ],
)
def test_a_csv_that_cannot_be_read_is_an_error(tmp_path, content, word):
    (tmp_path / CSV).write_bytes(content)
    problem = refused(tmp_path)
    assert word in problem.message
    assert problem.file == CSV


def test_a_csv_at_the_bounds_is_read(tmp_path):
    rows = grid(people(1)) + [[]] * 20_000
    rows[2] = rows[2] + [""] * 200
    write_csv(tmp_path, rows)
    assert roster_of(tmp_path)[1] == []


def test_a_broken_csv_is_named_by_its_row(tmp_path):
    cells = csv_bytes(grid(people(3))).split(b"\r\n")
    cells[3] = b'"x"y' + cells[3]
    (tmp_path / CSV).write_bytes(b"\r\n".join(cells))
    assert refused(tmp_path).row == 4


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no XLSX"),
        (b"not a workbook", "no XLSX"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "old .xls file, or has a password"),
    ],
)
def test_a_file_that_is_no_workbook_is_an_error(tmp_path, content, word):
    (tmp_path / XLSX).write_bytes(content)
    assert word in refused(tmp_path).message


def test_a_workbook_cut_off_or_scratched_is_an_error(tmp_path):
    path = write_xlsx(tmp_path, grid(people()))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(tmp_path).message
    scratched = bytearray(whole)
    for at in range(2_000, 30_000, 50):
        scratched[at] ^= 0x55
    path.write_bytes(scratched)
    assert "damaged" in refused(tmp_path).message


def test_a_zip_that_holds_no_workbook_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / XLSX, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "damaged or no XLSX" in refused(tmp_path).message


def test_a_workbook_that_unpacks_to_too_much_is_refused_by_what_its_directory_says(tmp_path):
    with zipfile.ZipFile(tmp_path / XLSX, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", bytes(200_000_001))
    assert "unpacks to more than 200 MB" in refused(tmp_path).message


def test_a_workbook_whose_directory_lies_about_its_size_is_refused_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "UNPACKED_BYTES_MAX", 1_000_000)
    path = tmp_path / XLSX
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", bytes(5_000_000))
    claims = struct.pack("<I", 5_000_000)
    whole = path.read_bytes()
    assert whole.count(claims) == 2
    path.write_bytes(whole.replace(claims, struct.pack("<I", 10)))
    assert "unpacks to more than" in refused(tmp_path).message


def test_a_cell_far_away_from_the_list_is_an_error_and_no_crash(tmp_path):
    path = tmp_path / XLSX
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(grid(people(3))):
            sheet.write_row(number, 0, row)
        # A dense table up to here would have 17 billion cells.
        sheet.write(1_048_575, 16_383, "x")
    assert "far away from the list" in refused(tmp_path).message
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet().write(10_000, 2, "x")
    assert "reaches to row 10001" in refused(tmp_path).message


def test_a_workbook_at_the_bounds_is_read(tmp_path):
    cells = grid(people(1)) + [[]] * 9_996 + [["", "", "", "", "x"]]
    write_xlsx(tmp_path, cells)
    assert read_sheet(tmp_path)[0].rows[-1].number == 10_000
    write_xlsx(tmp_path, [["x"] * 101])
    assert "100 columns" in refused(tmp_path).message


def test_one_text_in_very_many_cells_is_refused(tmp_path):
    write_xlsx(tmp_path, [["长" * 4_000] * 100] * 200)
    assert "more than 50000000 characters" in refused(tmp_path).message


# Columns.


@pytest.mark.parametrize(
    "name", ["推荐渠道", "推荐单位", "姓名", "工作单位", "职务职称", "主要事迹"]
)
def test_a_missing_column_is_named_once(tmp_path, name):
    write_xlsx(tmp_path, grid(people(3), header=without(name)))
    _, problems = roster_of(tmp_path)
    assert places(problems) == [(XLSX, 2, name)]
    assert "missing" in problems[0].message


def test_without_any_column_to_tell_candidates_by_nothing_goes(tmp_path):
    write_csv(tmp_path, grid(people(3), header=without("序号")))
    roster, problems = roster_of(tmp_path)
    assert places(problems) == [(CSV, 2, "编号")]
    assert "序号" in problems[0].message
    assert not roster.ids_are_known


def test_a_column_twice_is_an_error(tmp_path):
    write_csv(tmp_path, grid(people(3), header=(*HEADER, "姓名")))
    _, problems = roster_of(tmp_path)
    assert places(problems, "error") == [(CSV, 2, "姓名")]


def test_no_photo_column_is_one_warning(tmp_path):
    write_csv(tmp_path, grid(people(3), header=without("照片")))
    _, problems = roster_of(tmp_path)
    assert places(problems, "warning") == places(problems) == [(CSV, 2, "照片")]


def test_an_unknown_column_is_a_warning_and_a_personal_one_is_not_read(tmp_path):
    write_csv(tmp_path, grid(people(3), header=(*HEADER, "备注")))
    roster, problems = roster_of(tmp_path)
    assert places(problems, "warning") == places(problems) == [(CSV, 2, "备注")]
    assert "汉族" not in repr(roster)


def test_cells_under_no_name_are_a_warning_in_a_workbook(tmp_path):
    cells = grid(people(3))
    cells[3].append("内部意见")
    cells[4].append("内部意见")
    write_xlsx(tmp_path, cells)
    _, problems = roster_of(tmp_path)
    assert places(problems, "warning") == places(problems) == [(XLSX, 4, "L")]


def test_a_comma_without_quotes_is_an_error_in_a_csv(tmp_path):
    cells = grid(people(3))
    cells[3].insert(9, "扎根一线")
    cells[3][-1] = "a.jpg"
    write_csv(tmp_path, cells)
    _, problems = roster_of(tmp_path)
    assert (CSV, 4, "L") in places(problems, "error")
    assert any("comma" in problem.message for problem in problems)


# Ids.


def test_the_id_is_the_number_column_where_there_is_one(tmp_path):
    rows = [person | {"编号": f"ID_{n}-x"} for n, person in enumerate(people(2))]
    write_csv(tmp_path, grid(rows, header=("编号", *HEADER)))
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert [candidate.id for candidate in roster.candidates] == ["ID_0-x", "ID_1-x"]
    assert roster.id_column == "编号"


@pytest.mark.parametrize("wrong", ["", "有字", "a b", "a" * 33, "a/b", "<b>"])
def test_an_unusable_number_is_an_error(tmp_path, wrong):
    rows = [person | {"编号": f"p{n}"} for n, person in enumerate(people(3))]
    write_csv(tmp_path, grid(changed(rows, 4, 编号=wrong), header=("编号", *HEADER)))
    roster, problems = roster_of(tmp_path)
    assert places(problems) == [(CSV, 4, "编号")]
    assert problems[0].value == wrong
    assert not roster.ids_are_known


@pytest.mark.parametrize(
    ("place", "candidate_id"),
    [(1, "c001"), (99, "c099"), (1000, "c1000"), ("007", "c007"), (12.0, "c012")],
)
def test_else_the_id_is_made_of_the_place(tmp_path, place, candidate_id):
    write_xlsx(tmp_path, grid(changed(people(1), 3, 序号=place)))
    assert roster_of(tmp_path)[0].candidates[0].id == candidate_id


@pytest.mark.parametrize("wrong", ["", 0, -1, 1.5, "一", "1a", "¹", "1e3", True])
def test_an_unusable_place_is_an_error(tmp_path, wrong):
    write_xlsx(tmp_path, grid(changed(people(3), 4, 序号=wrong)))
    assert places(roster_of(tmp_path)[1]) == [(XLSX, 4, "序号")]


def test_an_id_twice_is_an_error_that_names_the_first(tmp_path):
    write_csv(tmp_path, grid(changed(people(3), 5, 序号="001")))
    _, [problem] = roster_of(tmp_path)
    assert places([problem]) == [(CSV, 5, "序号")]
    assert "c001 is in row 3" in problem.message


# Cells.


@pytest.mark.parametrize(
    ("column", "longest"),
    [
        ("姓名", 50),
        ("工作单位", 100),
        ("推荐单位", 100),
        ("推荐渠道", 20),
        ("职务职称", 100),
        ("主要事迹", 1_000),
    ],
)
def test_empty_and_overlong_cells_are_errors(tmp_path, column, longest):
    rows = changed(people(3), 3, **{column: "长" * longest})
    rows = changed(rows, 4, **{column: "长" * (longest + 1)})
    rows = changed(rows, 5, **{column: " \u3000 "})
    write_csv(tmp_path, grid(rows))
    _, problems = roster_of(tmp_path, channels=None)
    assert places(problems) == [(CSV, 4, column), (CSV, 5, column)]
    assert str(longest) in problems[0].message
    assert len(problems[0].value) == min(80, longest + 1)
    assert "empty" in problems[1].message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("甲\x07乙", "U+0007"),
        ("甲\n乙", "control"),
        ("甲\x00乙", "U+0000"),
        ("甲\u202e乙", "U+202E"),
        ("甲\u200b乙", "U+200B"),
        ("甲\ufffd乙", "wrong encoding"),
    ],
)
def test_what_cannot_be_seen_must_not_be_in_a_cell(tmp_path, text, word):
    write_csv(tmp_path, grid(changed(people(3), 4, 姓名=text)))
    _, [problem] = roster_of(tmp_path)
    assert places([problem], "error") == [(CSV, 4, "姓名")]
    assert word in problem.message


def test_a_character_of_a_private_font_is_a_warning(tmp_path):
    write_csv(tmp_path, grid(changed(people(3), 4, 姓名="甄\ue863")))
    assert places(roster_of(tmp_path)[1], "warning") == [(CSV, 4, "姓名")]


def test_markup_is_text(tmp_path):
    write_csv(tmp_path, grid(changed(people(1), 3, 姓名="<b>甄</b>", 主要事迹="=1+1 & more")))
    roster, problems = roster_of(tmp_path)
    assert problems == []
    assert roster.candidates[0].name == "<b>甄</b>"


def test_a_channel_that_the_manifest_does_not_know_is_an_error(tmp_path):
    write_csv(tmp_path, grid(changed(people(3), 4, 推荐渠道="街道")))
    _, problems = roster_of(tmp_path)
    assert places(problems) == [(CSV, 4, "推荐渠道")]
    assert problems[0].value == "街道"
    assert roster_of(tmp_path, channels=None)[1] == []


def test_a_unit_over_its_quota_is_a_warning_with_all_its_figures(tmp_path):
    rows = [person | {"推荐单位": "示例学会9", "推荐渠道": "学会"} for person in people(4)]
    write_csv(tmp_path, grid(rows))
    _, [problem] = roster_of(tmp_path)
    assert places([problem], "warning") == [(CSV, 5, "推荐单位")]
    for word in ("示例学会9", "学会", "4", "2"):
        assert word in problem.message


# People.


def test_two_people_may_have_one_name(tmp_path):
    rows = changed(people(3), 4, 姓名=people(1)[0]["姓名"])
    write_csv(tmp_path, grid(rows))
    assert roster_of(tmp_path)[1] == []


def test_two_people_of_one_name_and_house_are_told_apart_by_birth(tmp_path):
    same = {"姓名": "甄一一", "工作单位": "示例院"}
    rows = changed(people(3), 3, **same, 出生年月="1960-01")
    write_csv(tmp_path, grid(changed(rows, 5, **same, 出生年月="1961-01")))
    assert roster_of(tmp_path)[1] == []
    write_csv(tmp_path, grid(changed(rows, 5, **same, 出生年月="1960-01")))
    _, [problem] = roster_of(tmp_path)
    assert places([problem], "error") == [(CSV, 5, "姓名")]
    assert "row 3" in problem.message


def test_where_no_birth_is_given_the_title_tells_people_apart(tmp_path):
    same = {"姓名": "甄一一", "工作单位": "示例院", "职务职称": "教授"}
    rows = changed(people(3), 3, **same)
    header = without("出生年月")
    write_csv(tmp_path, grid(changed(rows, 5, **same), header=header))
    assert places(roster_of(tmp_path)[1], "error") == [(CSV, 5, "姓名")]
    write_csv(tmp_path, grid(changed(rows, 5, **same | {"职务职称": "技师"}), header=header))
    assert roster_of(tmp_path)[1] == []


def test_every_mistake_is_listed_at_once(tmp_path):
    rows = changed(people(6), 3, 姓名="")
    rows = changed(rows, 4, 推荐渠道="街道")
    rows = changed(rows, 5, 主要事迹="长" * 1_001, 职务职称="")
    rows = changed(rows, 6, 序号="x")
    write_xlsx(tmp_path, grid(changed(rows, 8, 序号=1)))
    _, problems = roster_of(tmp_path)
    assert set(places(problems)) == {
        (XLSX, 3, "姓名"),
        (XLSX, 4, "推荐渠道"),
        (XLSX, 5, "主要事迹"),
        (XLSX, 5, "职务职称"),
        (XLSX, 6, "序号"),
        (XLSX, 8, "序号"),
    }
