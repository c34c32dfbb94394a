"""`dianzan campaign import` as people and programs see it; what needs a database is elsewhere."""

import json

import pytest
from typer.testing import CliRunner

from tests.campaign_folders import MANIFEST, jpeg, people, write_folder
from voting.intake.commands import campaign, table_of
from voting.intake.problems import Problem, error, warning


@pytest.fixture(autouse=True)
def _away_from_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIANZAN_POSTGRES_DSN", raising=False)


def run(*arguments):
    return CliRunner().invoke(campaign, ["import", *map(str, arguments)])


def test_a_check_needs_no_database(tmp_path):
    done = run(write_folder(tmp_path / "f"), "--check")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "3 candidates, 0 errors, 0 warnings: only checked, nothing imported." in done.stderr
    assert "Not held against what is imported already: no database" in done.stderr


def test_a_check_goes_on_when_the_database_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("DIANZAN_POSTGRES_DSN", "postgresql://u:secret@127.0.0.1:1/none")
    done = run(write_folder(tmp_path / "f"), "--check")
    assert done.exit_code == 0
    assert "Not held against" in done.stderr
    assert "secret" not in done.output


@pytest.mark.parametrize(
    "dsn",
    [None, "postgresql://u:secret@127.0.0.1:1/none", "secret://", "postgresql://u:secret/x@host/d"],
)
def test_an_import_without_a_database_cannot_run(tmp_path, monkeypatch, dsn):
    if dsn:
        monkeypatch.setenv("DIANZAN_POSTGRES_DSN", dsn)
    done = run(write_folder(tmp_path / "f"), "--json")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Nothing imported: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.output


def test_a_folder_that_is_not_there_cannot_be_imported(tmp_path):
    assert run(tmp_path / "nowhere", "--check").exit_code == 2
    (tmp_path / "file").touch()
    assert run(tmp_path / "file", "--check").exit_code == 2


def test_json_is_all_that_stands_on_stdout(tmp_path):
    rows = people(3)
    rows[1]["姓名"] = ""
    rows[2]["照片"] = "丙.jpg"
    folder = write_folder(tmp_path / "f", rows, photos={"丙.jpg": jpeg()})
    done = run(folder, "--check", "--json")
    assert done.exit_code == 1
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer.keys() == {"ok", "candidates", "problems"}
    assert (answer["ok"], answer["candidates"]) == (False, 3)
    assert answer["problems"] == [
        {
            "level": "error",
            "file": "candidates.csv",
            "row": 4,
            "column": "姓名",
            "value": "",
            "message": "is empty",
        },
        {
            "level": "warning",
            "file": "candidates.csv",
            "row": 5,
            "column": "照片",
            "value": "丙.jpg",
            "message": "the office asks for at least 2 MB",
        },
    ]


def test_warnings_alone_leave_the_folder_sound(tmp_path):
    folder = write_folder(tmp_path / "f", photos={"nobody.jpg": jpeg()})
    done = run(folder, "--check", "--json")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert [problem["level"] for problem in answer["problems"]] == ["warning"]


def test_people_get_every_problem_by_file_and_row(tmp_path):
    rows = people(3)
    rows[2]["姓名"] = ""
    rows[0]["推荐渠道"] = "街道"
    manifest = MANIFEST.replace("30/minute", "often")
    done = run(write_folder(tmp_path / "f", rows, manifest=manifest), "--check")
    lines = done.stderr.splitlines()
    assert lines[0] == "campaign.toml"
    assert "limits.per_device" in lines[1]
    assert "often" in lines[1]
    assert lines[2] == "candidates.csv"
    assert lines[3].split() == ["error", "row", "5", "姓名", "is", "empty"]
    assert lines[-1].startswith("3 candidates, 2 errors, 0 warnings: ")


def test_everything_that_is_missing_is_said_of_an_empty_folder(tmp_path):
    (tmp_path / "f").mkdir()
    answer = json.loads(run(tmp_path / "f", "--check", "--json").stdout)
    assert [(p["file"], p["row"]) for p in answer["problems"]] == [
        ("campaign.toml", None),
        ("candidates.xlsx", None),
    ]


def test_the_table_stands_in_columns_also_with_wide_characters():
    lines = table_of(
        [
            warning("a.csv", "said", row=12, column="工作单位", value="x"),
            error("a.csv", "said", row=3, column="姓名", value="甲乙"),
        ]
    )
    assert lines == [
        "a.csv",
        "  error    row 3   姓名      甲乙  said",
        "  warning  row 12  工作单位  x     said",
    ]


def test_staffs_text_cannot_move_the_terminals_cursor():
    shown = "".join(table_of([error("a\x1b[2J", "\x1b]0;x\x07\n", column="\r", value="\u202e")]))
    assert shown.isprintable()


def test_values_are_cut_to_80_characters():
    assert len(error("f", "m", value="x" * 81).value) == 80
    assert error("f", "m", value="x" * 80).value == "x" * 80
    assert isinstance(error("f", "m"), Problem)
    assert error("f", "m").value is None


def test_the_help_is_a_manual():
    shown = " ".join(run("--help").output.split())
    for word in ("campaign.toml", "编号", "--check", "--json", "--accept-changes", "Exit code"):
        assert word in shown


def test_the_help_says_that_two_persons_are_the_consoles_rule_and_not_the_operators():
    shown = " ".join(run("--help").output.split())
    assert "the machine's operator, whom the console's rule of two persons does not bind" in shown
    assert "public list of its changes" in shown
