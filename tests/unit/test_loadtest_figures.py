"""The bench's arithmetic, its tables, and the bytes that it makes by itself."""

import os
import time
from datetime import UTC, datetime

import psutil
import pytest

from loadtest.flushing import make_votes
from loadtest.processes import Clock, Cores, cpu_seconds, file_system_of, pss_bytes, running_on
from loadtest.report import Figure, figures_table, number, table
from tally.rows import copy_rows
from voting.journal import unpack_entry


def test_the_median_of_the_rounds_is_held_against_the_target():
    assert Figure("a", "a", "", [0.2, 0.9, 0.6], 0.5, at_most=False).holds is True
    assert Figure("a", "a", "", [0.2, 0.9, 0.4], 0.5, at_most=False).holds is False
    assert Figure("a", "a", "", [10, 15, 40], 15).holds is True
    assert Figure("a", "a", "", [10, 16, 40], 15).holds is False
    assert Figure("a", "a", "", [10.0]).holds is None


def test_a_figure_as_json_says_what_was_measured_and_whether_it_holds():
    figure = Figure("latency", "p99", "ms", [3.0, 1.0, 2.0], 15, details={"at": 5})
    assert figure.as_json() == {
        "name": "latency",
        "what": "p99",
        "unit": "ms",
        "rounds": [3.0, 1.0, 2.0],
        "target": 15,
        "at_most": True,
        "details": {"at": 5},
        "measured": 2.0,
        "holds": True,
    }


def test_a_miss_is_shown_as_one():
    shown = figures_table([Figure("a", "something", "ms", [16.04, 17, 15.9], 15)])
    assert shown.splitlines()[-1].split() == [
        "something",
        "16",
        "ms",
        "<=",
        "15",
        "NO",
        "16",
        "17",
        "15.9",
    ]


def test_columns_align_with_wide_characters_in_them():
    lines = table(("name", "n"), [("点赞", "1"), ("like", "22")]).splitlines()
    assert lines == ["name   n", "----  --", "点赞   1", "like  22"]


def test_numbers_show_three_digits():
    assert [number(n) for n in (0.12345, 12.345, 123.45, 12345.6, 0)] == [
        *("0.123", "12.3", "123", "12,346", "0"),
    ]


def test_made_votes_are_what_the_journal_and_the_flusher_know():
    now = datetime(2026, 7, 5, 12, tzinfo=UTC)
    written = make_votes(
        1_000,
        campaign=7,
        at_us=int(now.timestamp()) * 1_000_000,
        day_number=20_639,
        first_seq=501,
        seed=1,
    )
    entries = [unpack_entry(packed) for packed in written.entries]
    assert [entry.vote_count for entry in entries] == [64] * 15 + [40]
    assert [entry.first_seq for entry in entries] == [501 + 64 * n for n in range(16)]
    assert {entry.day for entry in entries} == {now.date()}
    # The peer's rows are the very ones that the flusher would send.
    assert written.rows == copy_rows(entries)


def test_batches_of_rows_are_the_same_rows():
    written = make_votes(
        10_000, campaign=1, at_us=1_783_252_800_000_000, day_number=20_639, first_seq=1, seed=1
    )
    opening, closing = written.rows[:19], written.rows[-2:]
    assert len(written.batches) == 3
    assert all(b.startswith(opening) and b.endswith(closing) for b in written.batches)
    assert b"".join(batch[19:-2] for batch in written.batches) == written.rows[19:-2]


def test_cpu_time_of_a_process_is_told_as_a_difference():
    clock = Clock({"own": [os.getpid()]})
    clock.start()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert 0.15 <= clock.groups()["own"] <= 1
    assert 0.15 <= clock.own() <= 1
    assert cpu_seconds([os.getpid()]) >= clock.groups()["own"]


def test_a_process_is_put_back_on_its_cores():
    before = os.sched_getaffinity(0)
    with running_on({min(before)}):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_two_cores_are_taken_or_the_lack_is_said():
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > 1:
        assert Cores.of_this_machine() == tuple(allowed[:2])
    with running_on({allowed[0]}), pytest.raises(OSError, match="two cores"):
        Cores.of_this_machine()


def test_memory_and_file_systems_are_known(tmp_path):
    assert pss_bytes([psutil.Process()]) > 1_000_000
    assert file_system_of(tmp_path) != "unknown"
