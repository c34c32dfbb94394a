"""`dianzan rehearse` as people run it: small, with loose floors."""

import json
import subprocess

import pytest

from tests.acceptance.conftest import PROGRAM, a_service


def rehearse(*arguments, timeout=110):
    return subprocess.run(
        [PROGRAM, "rehearse", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The twenty-second rehearsal, on a seed that nobody tuned on: (document, page)."""
    page = tmp_path_factory.mktemp("rehearsal") / "page.html"
    done = rehearse(
        *("--seeds", 101, "--votes", 40_000, "--days", 2, "--sizes", "300,1000"),
        *("--camouflage", "none,ua", "--json", "--html", page),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), page.read_text()


def test_json_is_all_that_stands_on_stdout_and_has_what_was_agreed(small):
    document, _ = small
    assert document["honest"]["votes"] == 40_000
    assert set(document["baselines"]) == {"burst-rule", "midas-r"}
    for name in (f"A{n}" for n in range(1, 14)):
        for camouflage in ("none", "ua"):
            cell = document["attacks"][name]["300"][camouflage]
            assert cell["votes"] == 300
            assert cell["recall"] == pytest.approx(1 - cell["kept"] / 300)


def test_the_crowd_is_spared(small):
    document, _ = small
    honest = document["honest"]
    assert honest["refused"] == 0
    assert honest["held"] < 0.005 * honest["votes"]
    for group in ("campus-burst", "employer-burst", "school-class"):
        each = honest["by_group"][group]
        assert each["refused"] == 0
        assert each["held"] <= 0.05 * each["votes"], group


def test_stuffers_who_do_not_hide_well_are_stopped(small):
    document, _ = small
    assert document["flags"]["precision"] > 0.95
    for name in ("A1", "A2", "A3", "A5", "A6", "A7", "A9", "A10", "A12"):
        cells = [
            cell
            for by_camouflage in document["attacks"][name].values()
            for cell in by_camouflage.values()
        ]
        kept = sum(cell["kept"] for cell in cells) / sum(cell["votes"] for cell in cells)
        assert kept < 0.35, name
    # Nobody can tell paid people from others, and nobody claims to.
    assert document["attacks"]["A8"]["300"]["none"]["recall"] < 0.2


def test_the_page_shows_it(small):
    document, page = small
    assert page.startswith("<!doctype html>")
    assert "40,000 honest votes" in page
    assert page.count("<svg") == 3
    assert sum(target["holds"] is False for target in document["targets"]) == page.count(
        '<span class="misses">misses</span>'
    )


def test_a_crowd_can_be_written_and_brought_back(tmp_path):
    path = tmp_path / "crowd.parquet"
    drawn = ("--votes", 20_000, "--days", 1, "--sizes", 100, "--attacks", "A1,A9", "--seeds", 7)
    done = rehearse(*drawn, "--write", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "20,800 ballots of seed 7" in done.stderr
    from_file = rehearse("--input", path, "--json", "--no-compare")
    assert from_file.returncode == 0, from_file.stderr
    drawn_anew = rehearse(*drawn, "--json", "--no-compare")
    mine, theirs = (json.loads(each.stdout) for each in (from_file, drawn_anew))
    for part in ("honest", "attacks", "flags"):
        assert mine[part] == theirs[part], part


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--seeds", "one"), "--seeds one"),
        (("--seeds", "1,1"), "twice"),
        (("--attacks", "A14"), "'A14' is not one of A1, "),
        (("--sizes", "many"), "'many' is no size"),
        (("--camouflage", "best"), "'best' is not one of none, ua"),
        (("--votes", "5000"), "at least 20,000"),
        (("--input", "nothing.parquet"), "no such file"),
        (("--input", "a.parquet", "--write", "b.parquet"), "excludes"),
        (("--input", "a.parquet", "--attacks", "A1"), "takes a file whole"),
        (("--seeds", "1,2", "--write", "b.parquet"), "one seed"),
        (("--campaign", "demo"), "go with --url"),
        (("--url", "http://127.0.0.1:1"), "needs --campaign"),
        (("--url", "http://example.org", "--campaign", "demo"), "example.org"),
        (("--url", "https://127.0.0.1", "--campaign", "demo"), "no TLS"),
        (("--url", "http://127.0.0.1:9", "--campaign", "demo"), "nobody listens"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(options, why):
    done = rehearse(*options)
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("dianzan: ")
    assert why in done.stderr


def test_a_running_service_answers_people_and_cheats_as_the_rules_say():
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8", DIANZAN_CHALLENGE="adaptive") as service:
        service.up()
        done = service.dianzan(
            *("rehearse", "--url", service.ready["edge"], "--campaign", "demo"),
            *("--votes", 200, "--seconds", 8, "--seeds", 101, "--json"),
        )
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        tally = json.loads(service.dianzan("tally", "--campaign", "demo", "--hot", "--json").stdout)
        groups = document["groups"]
        people = [groups[name] for name in ("mobile", "home", "campus-burst")]
        for each in people:
            assert set(each["answers"]) <= {"counted"}, document
        assert sum(each["likes"] for each in people) >= 200
        # All but the first show another device's view.
        replayed = groups["A12 ua"]["answers"]
        assert replayed["refused"] == groups["A12 ua"]["likes"] - 1
        # A rented server may have two new devices an hour: the others are challenged.
        assert groups["A1 ua"]["challenged"] > 0
        assert set(groups["A13 ua"]["answers"]) <= {"counted", "no-device", "left", "throttled"}
        assert groups["A13 ua"]["challenged"] > 0
        told = sum(each["answers"].get("counted", 0) for each in groups.values())
        assert tally["received"] - tally["refused"] >= told

        wrong = service.dianzan("rehearse", "--url", service.ready["edge"], "--campaign", "nothing")
        assert wrong.returncode == 2
        assert "no campaign 'nothing'" in wrong.stderr
