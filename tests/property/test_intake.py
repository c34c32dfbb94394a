"""Whatever staff put into the folder: the import says where it is wrong, and never falls over."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.campaign_folders import HEADER, MANIFEST, csv_bytes, grid, jpeg, people, write_xlsx
from voting.intake.commands import table_of
from voting.intake.folder import check_folder
from voting.intake.roster import FIELDS, Listed
from voting.intake.save import Held, numbers_for
from voting.intake.text import fault_of

LISTS = ("candidates.csv", "candidates.xlsx")

# Any text, and the text that does harm elsewhere.
ANY_CELL = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(("", " ", "\u3000", "0", "-1", "1e9", "c001", "省级", "a.jpg", "../a.jpg")),
    st.text("甲乙\u0301\u202e\x00\r\n\t\",'=/\\", max_size=40),
    st.integers(95, 1_005).map("长".__mul__),
)
ROWS = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys((*HEADER, "编号"), ANY_CELL)),
    min_size=1,
    max_size=6,
).map(lambda odd: [person | cells for person, cells in zip(people(6), odd, strict=False)])
HEADERS = st.permutations(HEADER).flatmap(
    lambda names: st.sampled_from((names, [*names, "编号"], [*names, "备注"], names[:-2]))
)


def check(files: dict[str, bytes | Path]):
    """All that is wrong with a folder of these files."""
    with tempfile.TemporaryDirectory(prefix="dz-") as scratch:
        folder = Path(scratch) / "folder"
        (folder / "photos").mkdir(parents=True)
        for name, content in ({"campaign.toml": MANIFEST.encode()} | files).items():
            (folder / name).write_bytes(content)
        checked = check_folder(folder, Path(scratch))
    for problem in checked.problems:
        assert problem.file
        assert problem.message
        if problem.column is not None and problem.file in LISTS:
            assert problem.row is not None
            assert problem.row >= 1
        assert len(problem.value or "") <= 80
        json.dumps(problem.as_json(), ensure_ascii=False).encode()
    assert all(line.isprintable() for line in table_of(checked.problems))
    return checked


@settings(max_examples=80, deadline=None)
@given(ROWS, HEADERS)
def test_any_text_in_any_cell_of_a_csv_is_a_candidate_or_a_problem_with_its_place(rows, header):
    content = csv_bytes(grid(rows, header=header))
    checked = check({"candidates.csv": content, "photos/a.jpg": jpeg()})
    if checked.ok:
        for candidate in checked.roster.candidates:
            for field in FIELDS:
                text = getattr(candidate, field.name)
                assert int(field.needed) <= len(text) <= field.most_characters
                assert fault_of(text) is None
        assert len({candidate.id for candidate in checked.roster.candidates}) == len(rows)


@settings(max_examples=15, deadline=None)
@given(ROWS, HEADERS)
def test_any_text_in_any_cell_of_a_workbook_is_the_same_as_in_a_csv(rows, header):
    # What a workbook cannot hold is left out: xlsxwriter would write it as something else.
    rows = [
        {name: "".join(c for c in str(cell) if c.isprintable()) for name, cell in row.items()}
        for row in rows
    ]
    cells = grid(rows, header=header)
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        workbook = write_xlsx(Path(folder), cells, text_alone=True).read_bytes()
    of_csv = check({"candidates.csv": csv_bytes(cells)})
    of_workbook = check({"candidates.xlsx": workbook})
    assert of_workbook.roster.candidates == of_csv.roster.candidates
    assert [(p.row, p.column, p.message) for p in of_workbook.problems] == [
        (p.row, p.column, p.message) for p in of_csv.problems
    ]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(("campaign.toml", "candidates.csv")))
def test_any_bytes_for_a_file_are_problems_and_no_crash(content, name):
    files = {"candidates.csv": csv_bytes(grid(people(3)))} | {name: content}
    assert not check(files).ok


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_photo_with_any_bytes_changed_is_a_card_or_a_problem(data):
    photo = bytearray(jpeg((40, 50), comment=b"c" * 20))
    for _ in range(data.draw(st.integers(1, 8))):
        photo[data.draw(st.integers(0, len(photo) - 1))] = data.draw(st.integers(0, 255))
    rows = [people(1)[0] | {"照片": "a.jpg"}]
    checked = check({"candidates.csv": csv_bytes(grid(rows)), "photos/a.jpg": bytes(photo)})
    assert checked.ok == (len(checked.cards) == 1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_changed_line_of_the_manifest_is_taken_or_named(data):
    lines = MANIFEST.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    odd = st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=30),
        st.sampled_from(("x = 1", "[[a]]", "id = 1979-05-27", "title = nan", "a.b.c = []")),
        st.sampled_from(lines),
    )
    lines[at] = lines[at].partition("=")[0] + "=" * data.draw(st.integers(0, 1)) + data.draw(odd)
    files = {"candidates.csv": csv_bytes(grid(people(3)))}
    checked = check(files | {"campaign.toml": "\n".join(lines).encode()})
    named = [problem for problem in checked.problems if problem.file == "campaign.toml"]
    assert (checked.manifest is None) == bool(named)


@given(
    st.lists(st.sets(st.integers(0, 30), max_size=12), min_size=1, max_size=8),
)
def test_a_number_is_given_once_and_never_to_anyone_else(lists):
    held: dict[str, int] = {}
    for ids in lists:
        listed = [Listed(n, str(n), *[""] * 6, None) for n in ids]
        numbers = numbers_for([Held(number, key, "", None) for key, number in held.items()], listed)
        assert set(numbers) == {candidate.id for candidate in listed}
        for key, number in numbers.items():
            assert held.setdefault(key, number) == number
        assert len(set(held.values())) == len(held)
