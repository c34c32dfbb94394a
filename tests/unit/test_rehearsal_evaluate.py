"""From a crowd to the document: counting, the shape of the JSON, targets, the page, and files."""

import json
import math
import re
import warnings

import duckdb
import numpy as np
import pytest

from antifraud.flags import DETECTORS_VERSION, Flag
from loadtest.rehearsal.ballots import (
    COLUMNS,
    LABELS,
    BadCrowd,
    Label,
    calculator,
    make_ballots,
    read_parquet,
    together,
    write_parquet,
)
from loadtest.rehearsal.evaluate import Counted, Plan, as_document, count, draw_crowd
from loadtest.rehearsal.judging import Judged, Outcome
from loadtest.rehearsal.nearline import Findings
from loadtest.rehearsal.page import as_page
from loadtest.rehearsal.report import Target, as_text, targets

START_US = 1_783_000_000_000_000
SECOND_US = 1_000_000
ATTACK = Label("A3", 20, "ua", "1h", 1)


def ballots(label, rows, **columns):
    usual = {name: 0 for name in COLUMNS if name != "day"} | {
        "at_us": START_US + np.arange(rows) * SECOND_US,
        "candidate": 1,
        "device": np.arange(rows) + 1_000 * len(label.source),
        "network_class": 1,
        "token_level": 1,
        "solves": 1,
    }
    return make_ballots(label, rows, **usual | columns)


def judged(crowd, outcome, **more):
    rows = len(crowd)
    usual = {
        "score": np.zeros(rows, np.int16),
        "token_level": crowd["token_level"],
        "challenged": np.zeros(rows, bool),
        "marked": np.zeros(rows, bool),
    }
    return Judged(np.asarray(outcome, np.uint8), **usual | more)


def findings(rows, *flags):
    found = Findings(np.full(rows, -1), np.full(rows, -1), np.full(rows, -99.0))
    for flag, moment in flags:
        found.flags.append((flag, moment, False))
        found.asked_at_us[flag.votes] = moment
        if flag.automatic:
            found.held_at_us[flag.votes] = moment
            found.score[flag.votes] = flag.score
    return found


def flag(votes, kinds=("agent", "dwell"), score=7.0):
    rows = np.array(votes, np.int64)
    return Flag(("lockstep",), DETECTORS_VERSION, kinds, {}, "。", {1: len(rows)}, score, rows)


@pytest.fixture
def counted():
    """Ten people and an attack of twenty: of the people one is refused and one held; of the attack
    five are refused, five held by score, eight flagged, and two kept."""
    crowd = together([ballots(Label("campus-burst"), 10), ballots(ATTACK, 20)])
    people = [Outcome.COUNTED] * 8 + [Outcome.REFUSED, Outcome.HELD]
    attack = [Outcome.REFUSED] * 5 + [Outcome.HELD] * 5 + [Outcome.COUNTED] * 10
    score = np.where(np.arange(30) == 9, 4_500, 0).astype(np.int16)
    score[15:20] = 7_000
    found = findings(
        30,
        (flag(range(20, 28)), START_US + 300 * SECOND_US),
        (flag([0, 1], kinds=("agent",)), START_US + 300 * SECOND_US),
    )
    return count(crowd, judged(crowd, people + attack, score=score), found)


def test_people_are_counted_by_what_became_of_them(counted):
    people = counted.honest["campus-burst"]
    assert people["votes"] == 10
    assert people["refused"] == 1
    assert people["held"] == 1
    assert people["restored"] == 1  # a score below 6 is released by itself
    assert people["held_by_flag"] == 0
    assert people["asked"] == 2


def test_kept_is_what_is_counted_and_not_held_automatically(counted):
    (cell, attack), *rest = counted.attacks.items()
    assert not rest
    assert (cell.attack, cell.size, cell.camouflage, cell.duration) == ("A3", 20, "ua", "1h")
    assert attack["votes"] == 20
    assert attack["kept"] == 2
    assert attack["refused"] == 5
    assert attack["held"] == 13
    assert attack["held_by_flag"] == 8
    assert attack["restored"] == 0
    assert attack["attacks"] == attack["mostly_stopped"] == 1


def test_an_attack_is_detected_when_ten_of_its_votes_are_stopped(counted):
    assert counted.seconds_to_detect == {next(iter(counted.attacks)): [9.0]}


def test_what_is_stopped_by_a_pass_is_stopped_at_its_moment():
    crowd = ballots(ATTACK, 20)
    passed = findings(20, (flag(range(20)), START_US + 300 * SECOND_US))
    found = count(crowd, judged(crowd, [Outcome.COUNTED] * 20), passed)
    assert list(found.seconds_to_detect.values()) == [[300.0]]
    unseen = count(crowd, judged(crowd, [Outcome.COUNTED] * 20), findings(20))
    assert list(unseen.seconds_to_detect.values()) == [[math.inf]]


def test_repeats_are_counted_nowhere():
    crowd = ballots(Label("home"), 4)
    outcome = [Outcome.COUNTED, Outcome.REPEATED, Outcome.COUNTED, Outcome.REPEATED]
    assert count(crowd, judged(crowd, outcome), findings(4)).honest["home"]["votes"] == 2


def test_precision_is_of_the_votes_in_automatic_flags():
    crowd = together([ballots(Label("home"), 10), ballots(ATTACK, 20)])
    found = findings(30, (flag(range(9, 30)), START_US), (flag([0], kinds=("agent",)), START_US))
    document = as_document(count(crowd, judged(crowd, [Outcome.COUNTED] * 30), found), [1], Plan())
    flags = document["flags"]
    assert flags["precision"] == pytest.approx(20 / 21)
    assert (flags["votes"], flags["attack_votes"]) == (21, 20)
    assert (flags["automatic"], flags["staff"], flags["staff_right"]) == (1, 1, 0)
    assert flags["by_rule"]["lockstep"]["flags"] == 2


def test_a_rivals_stuffing_is_counted_by_the_honest_votes_that_it_costs():
    rival = Label("A11", 20, "none", "1h", 1)
    crowd = together([ballots(Label("home"), 10), ballots(rival, 20)])
    found = findings(30, (flag([3, *range(10, 30)]), START_US))
    counted = count(crowd, judged(crowd, [Outcome.COUNTED] * 30), found)
    assert counted.joe_job == {"candidates": 1, "honest_votes": 10, "honest_held": 1}


def test_counts_of_seeds_add_up(counted):
    whole = Counted()
    whole.add(counted)
    whole.add(counted)
    assert whole.honest["campus-burst"]["votes"] == 20
    assert next(iter(whole.attacks.values()))["kept"] == 4
    assert next(iter(whole.seconds_to_detect.values())) == [9.0, 9.0]
    assert whole.flags["held_votes"] == 16


def test_the_document_has_the_shape_that_was_agreed(counted):
    document = json.loads(json.dumps(as_document(counted, [101], Plan()), allow_nan=False))
    honest = document["honest"]
    assert (honest["votes"], honest["refused"], honest["held"]) == (10, 1, 1)
    assert honest["by_group"]["campus-burst"]["votes"] == 10
    cell = document["attacks"]["A3"]["20"]["ua"]
    assert (cell["votes"], cell["kept"], cell["recall"]) == (20, 2, 0.9)
    low, high = cell["recall_bounds"]
    assert low < 0.9 < high
    assert document["flags"]["precision"] == 1.0
    assert document["baselines"] == {}
    assert document["seeds"] == [101]
    assert cell["cost_per_kept_vote_yuan"] == pytest.approx(20 * 0.05 / 2)
    assert cell["time_to_detect"]["1h"]["median_seconds"] == 9.0


def test_a_target_holds_or_misses_or_was_not_measured():
    assert Target("a", 1.0, 2.0, True).holds is True
    assert Target("a", 3.0, 2.0, True).holds is False
    assert Target("a", 3.0, 2.0, False).holds is True
    assert Target("a", None, 2.0, True).holds is None
    never = Target("a", math.inf, 60, True).as_json()
    assert (never["measured"], never["holds"]) == (None, False)


def test_targets_are_those_of_the_protocol(counted):
    held_against = {each.name: each for each in targets(as_document(counted, [1], Plan()))}
    assert held_against["honest likes refused"].target == 5
    assert held_against["honest likes held"].target == 100
    assert held_against["campus and employer bursts held"].target == 0.1
    assert held_against["campus and employer bursts refused"].measured == 1
    assert held_against["precision of automatic flags, by votes"].target == 0.99
    for name in ("A1", "A2", "A3", "A5", "A6", "A7", "A9", "A10"):
        assert held_against[f"recall {name} at 1,000 and more"].target == 0.9
        assert held_against[f"recall {name} at 300"].target == 0.6
    kept = {name: held_against[f"{name} kept per 1,000"].target for name in ("A1", "A2", "A7")}
    assert kept == {"A1": 1, "A2": 50, "A7": 150}
    assert held_against["cheapest automated vote, camouflage none and ua"].target == 0.3


def test_the_report_says_what_holds_and_what_misses(counted):
    document = as_document(counted, [1], Plan())
    said = as_text(document)
    assert "MISSES" in said
    assert re.search(r"^A3 +20 +ua +20 +2 +0\.900", said, re.MULTILINE)
    assert re.search(r"^campus-burst +10 ", said, re.MULTILINE)


def test_the_page_needs_nothing_but_itself(counted):
    with warnings.catch_warnings():
        # A loader that looks for the package's own files is told of them by name.
        warnings.simplefilter("error")
        page = as_page(as_document(counted, [1], Plan()))
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 3
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert "<script" not in page
    assert "A3 proxy pool" in page


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    return draw_crowd(3, Plan(votes=20_000, days=2, sizes=(100,), attacks=("A1", "A13")))


def test_a_crowd_comes_back_from_its_file_as_it_was(drawn, tmp_path):
    path = tmp_path / "crowd.parquet"
    write_parquet(drawn, path)
    again = read_parquet(path)
    assert set(again.labels) == {drawn.labels[n] for n in np.unique(drawn.label)}
    order = np.lexsort((drawn["candidate"], drawn["device"], drawn["at_us"]))
    for name in COLUMNS:
        assert np.array_equal(again[name], drawn[name][order]), name
        assert again[name].dtype == COLUMNS[name].kind
    assert [again.labels[n] for n in again.label] == [drawn.labels[n] for n in drawn.label[order]]


def test_labels_that_may_be_missing_may_be_missing(drawn, tmp_path):
    whole, path = tmp_path / "whole.parquet", tmp_path / "crowd.parquet"
    write_parquet(drawn, whole)
    rewrite(whole, path, "SELECT * EXCLUDE (solves, size, camouflage, duration, attack)")
    again = read_parquet(path)
    assert {label.source for label in again.labels if label.is_attack} == {"A1", "A13"}
    assert (again["solves"] == 1).all()


def rewrite(whole, path, select):
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select} FROM '{whole}') TO '{path}' (FORMAT parquet)")


@pytest.mark.parametrize(
    ("select", "column", "what"),
    [
        ("SELECT * EXCLUDE (device)", "device", "is missing"),
        ("SELECT * EXCLUDE (source)", "source", "is missing"),
        ("SELECT * REPLACE (asn::VARCHAR AS asn)", "asn", "VARCHAR"),
        ("SELECT * REPLACE (dwell_centiseconds / 100 AS dwell_centiseconds)", "dwell_centi", "DOU"),
        ("SELECT * REPLACE (7 AS source)", "source", "text is needed"),
        ("SELECT * REPLACE (9 AS network_class)", "network_class", "value 9"),
        ("SELECT * REPLACE (-1 AS token_age_seconds)", "token_age_seconds", "value -1"),
        ("SELECT * REPLACE (0 AS candidate)", "candidate", "value 0"),
        ("SELECT * REPLACE (70000 AS dwell_centiseconds)", "dwell_centiseconds", "70000"),
        ("SELECT * REPLACE (day + 1 AS day)", "day", "Asia/Shanghai"),
        ("SELECT * REPLACE (nullif(device, device) AS device)", "device", "no value"),
        ("SELECT * REPLACE ('' AS source)", "source", "empty"),
    ],
)
def test_a_bad_file_is_told_by_its_column_and_its_problem(drawn, tmp_path, select, column, what):
    whole, path = tmp_path / "whole.parquet", tmp_path / "bad.parquet"
    write_parquet(drawn, whole)
    rewrite(whole, path, select)
    with pytest.raises(BadCrowd, match=f"column {column}.*{what}"):
        read_parquet(path)


def test_the_calculator_leaves_stdout_to_the_report():
    with calculator() as connection:
        shown = connection.execute("SELECT current_setting('enable_progress_bar')").fetchone()
    assert shown == (False,)


def test_a_file_that_is_none_or_empty_or_no_parquet_is_told(drawn, tmp_path):
    with pytest.raises(BadCrowd, match="no such file"):
        read_parquet(tmp_path / "nothing.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("at_us,day\n")
    with pytest.raises(BadCrowd, match="no Parquet file"):
        read_parquet(text)
    whole, path = tmp_path / "whole.parquet", tmp_path / "empty.parquet"
    write_parquet(drawn, whole)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{whole}' LIMIT 0) TO '{path}' (FORMAT parquet)")
    with pytest.raises(BadCrowd, match="not one ballot"):
        read_parquet(path)


def test_columns_md_and_help_name_every_column():
    from pathlib import Path

    import loadtest.rehearsal
    from loadtest.rehearse_command import rehearse

    said = (Path(loadtest.rehearsal.__file__).parent / "columns.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", said, re.MULTILINE) == [*COLUMNS, *LABELS]
    for name in (*COLUMNS, *LABELS):
        assert re.search(rf"\b{name}\b", rehearse.__doc__), name
