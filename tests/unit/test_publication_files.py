"""What follows from counts, and the tables for people."""

import csv
import io
import json
import zipfile
from datetime import UTC, datetime

import pytest
import python_calamine
from hypothesis import given
from hypothesis import strategies as st

from tally import verify
from tally.publishing import publication_files
from tally.publishing.publication_files import (
    CandidateTally,
    Made,
    make_files,
    ranked,
    share_ppm,
    tally_candidates,
    what_if_held_counted,
)
from tests.published import SIGNER, DrawnCampaign

COUNTS = st.dictionaries(st.integers(1, 65_535), st.integers(0, 5), max_size=12)


def candidate(number, counted=0, held=0, *, withdrawn=False):
    return CandidateTally(
        number, f"c{number}", "名", "所", "省", "省级", withdrawn, counted, held, 0, 0
    )


@given(COUNTS)
def test_a_rank_is_one_more_than_how_many_have_more(votes):
    assert ranked(votes) == {
        number: 1 + sum(other > n for other in votes.values()) for number, n in votes.items()
    }


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_share_is_the_nearest_whole_number_of_parts_per_million(counted, others):
    of = counted + others
    ppm = share_ppm(counted, of)
    assert ppm == verify._share_ppm(counted, of)
    if of:
        assert abs(2 * (ppm * of - counted * 1_000_000)) <= of


@given(COUNTS, COUNTS, st.sets(st.integers(1, 65_535), max_size=3))
def test_candidates_come_by_rank_and_what_if_says_whose_would_change(counted, held, gone):
    numbers = sorted(counted.keys() | held.keys() | gone)
    listed = tally_candidates(
        [
            candidate(n, counted.get(n, 0), held.get(n, 0), withdrawn=n in gone)
            for n in numbers
        ]
    )  # fmt: skip
    standing = [each for each in listed if not each["withdrawn"]]
    assert listed[: len(standing)] == standing
    assert [each["rank"] for each in standing] == sorted(each["rank"] for each in standing)
    assert all(each["rank"] is None for each in listed[len(standing) :])
    changes = {one["number"]: one for one in what_if_held_counted({"candidates": listed})}
    for each in standing:
        then = 1 + sum(
            other["counted"] + other["held"] > each["counted"] + each["held"] for other in standing
        )
        change = changes.get(each["number"])
        assert (change is None) == (then == each["rank"])
        assert change is None or change["rank_if_held_counted"] == then


@pytest.fixture(scope="module")
def made():
    drawn = DrawnCampaign()
    return make_files(drawn.content(), drawn.checkpoints(), SIGNER)


def test_the_workbook_opens_elsewhere_and_holds_the_tally(made):
    tally = json.loads(made.files["tally.json"])
    workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(made.files["tally.xlsx"]))
    rows = workbook.get_sheet_by_name("计票结果").to_python()
    assert rows[0][:3] == ["名次", "编号", "姓名"]
    for row, each in zip(rows[1:], tally["candidates"], strict=True):
        assert row[1:3] == [each["id"], each["name"]]
        assert row[6:11] == [
            each[kind] for kind in ("received", "counted", "held", "struck", "refused")
        ]
        assert round(row[11] * 1_000_000) == each["share_ppm"]


def test_no_cell_of_a_table_can_be_taken_for_a_formula(made):
    for name in ("tally.csv", "decisions.csv"):
        text = made.files[name].decode("utf-8-sig")
        for row in csv.reader(io.StringIO(text, newline="")):
            starts = (*"=+-@＝＋－＠", "\t", "\r", "\n")
            assert not any(cell.startswith(starts) for cell in row)
    with zipfile.ZipFile(io.BytesIO(made.files["tally.xlsx"])) as workbook:
        assert b"<f>" not in workbook.read("xl/worksheets/sheet1.xml")
        assert b"hyperlink" not in workbook.read("xl/worksheets/sheet1.xml")


def test_an_archive_is_the_same_each_time_and_comes_back_whole(made):
    as_of = datetime(2026, 7, 5, tzinfo=UTC)
    packed = made.archive(as_of)
    assert packed == made.archive(as_of)
    assert Made.unpack(packed) == made
    assert made.archive(datetime(1970, 1, 1, tzinfo=UTC)), "before the first flush"


def test_what_is_not_final_says_so_wherever_people_look(made):
    assert "非最终结果" in made.files["README.txt"].decode()
    workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(made.files["tally.xlsx"]))
    assert any("非最终结果" in str(row) for row in workbook.get_sheet_by_name("汇总").to_python())
    assert json.loads(made.files["manifest.json"])["kind"] == "provisional"


def test_what_is_refused_as_too_large_is_what_the_verifier_does_not_read():
    assert publication_files.FILE_BYTES_MAX == verify.MEMORY_MAX_BYTES


def test_a_publication_whose_decisions_are_too_many_to_check_is_refused(monkeypatch):
    content = DrawnCampaign(votes=300, decisions=4).content()
    publication_files.check_sizes(content)
    monkeypatch.setattr(publication_files, "FILE_BYTES_MAX", 1_000)
    with pytest.raises(publication_files.TooLarge, match=r"would be 0\.0 MiB"):
        publication_files.check_sizes(content)
