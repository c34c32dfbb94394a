"""The flusher's rules that need no server."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tally
from antifraud.screen import Decision
from tally.flusher import BATCH_VOTES, RetainedWindow, take_batch
from tally.rows import (
    COLUMNS,
    ROW_SIZE,
    Batch,
    copy_rows,
    first_difference,
    sum_minutes,
    sum_refusals,
)
from tally.store import SQL, Gap, Watermark, follow
from tests.journal_builder import NOON_US, JournalBuilder, make_vote
from voting.ballot import Outcome, Position
from voting.journal import EntryId, JournalError, Refusal

START = Watermark(epoch=0, entry=-1, seq=0, at_us=0)


def test_every_query_has_its_purpose_and_is_used():
    package = Path(tally.__file__).parent
    text = (package / "queries.sql").read_text()
    code = "".join(path.read_text() for path in package.glob("*.py"))
    assert len(SQL) == text.count("-- name: ")
    for name, statement in SQL.items():
        assert f'SQL["{name}"]' in code
        assert statement
        assert "--" not in statement
    assert re.findall(r"^-- name: (\w+)\n(?!-- )", text, flags=re.M) == []


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 2**30))
def test_a_row_that_differs_in_any_byte_is_told_by_position_and_column(sizes, where):
    builder = JournalBuilder(where)
    for size in sizes:
        entry = builder.entry(size + 1).placed.entry
        stored = copy_rows([entry])
        assert first_difference(entry, bytes(stored)) is None

        row, byte = divmod(where % (entry.vote_count * ROW_SIZE), ROW_SIZE)
        stored[19 + row * ROW_SIZE + byte] ^= 1
        found = first_difference(entry, bytes(stored))
        column = _column_at(byte)
        if column == "seq":
            # Ours is missing, or hidden by the one that took its place, which Postgres forbids.
            assert found is not None
        elif column is not None:  # else a length or the number of fields, which Postgres sets
            assert found.column == column
            assert found.position == Position(0, 1, entry.first_seq + row)


def _column_at(byte: int) -> str | None:
    at = 2
    for name, width in COLUMNS.items():
        if at + 4 <= byte < at + 4 + width:
            return name
        at += 4 + width
    return None


def test_a_row_that_is_not_stored_is_told_by_position():
    entry = JournalBuilder().entry(3).placed.entry
    stored = copy_rows([entry])
    without_second = stored[: 19 + ROW_SIZE] + stored[19 + 2 * ROW_SIZE :]
    found = first_difference(entry, bytes(without_second))
    assert (found.position, found.column) == (Position(0, 1, 2), None)


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.floats(0, 90), st.lists(st.integers(0, 7), max_size=8)),
        max_size=6,
    )
)
def test_sums_are_what_counting_one_by_one_gives(batches):
    builder = JournalBuilder()
    entries, minutes, refusals = [], Counter(), Counter()
    for campaign, seconds, choices in batches:
        votes = [
            make_vote(builder.random, 1 + n // 2, (Decision.COUNT, Decision.HOLD)[n % 2])
            for n in choices
        ]
        refused = [Refusal(1 + n % 3, Outcome.THROTTLED, n) for n in choices]
        built = builder.entry(votes, refused, campaign=campaign, seconds=seconds)
        entries.append(built.placed.entry)
        for vote in votes:
            minutes[campaign, builder.at_us // 60_000_000, vote.candidate, vote.verdict] += 1
        for refusal in refused:
            refusals[campaign, refusal.candidate, Outcome.THROTTLED.value] += refusal.ballots

    found = Counter()
    for campaign, minute, candidate, counted, held in sum_minutes(entries):
        found[campaign, minute, candidate, Decision.COUNT] += counted
        found[campaign, minute, candidate, Decision.HOLD] += held
    assert +found == +minutes
    assert {tuple(key): n for *key, n in sum_refusals(entries)} == dict(refusals)


@pytest.mark.parametrize("verdict", [Decision.CHALLENGE, Decision.REFUSE])
def test_a_vote_that_is_neither_counted_nor_held_is_never_summed(verdict):
    builder = JournalBuilder()
    entry = builder.entry([make_vote(builder.random, 1, verdict)])
    with pytest.raises(JournalError, match=f"verdict {verdict.value} is neither"):
        list(Batch([entry.placed]).parts())


def test_an_entry_follows_the_one_before_it():
    builder = JournalBuilder()
    watermark = START
    for votes in (3, 0, 1):
        built = builder.entry(votes)
        watermark, gap = follow(watermark, built.placed)
        assert gap is None
        assert (watermark.id, watermark.seq) == (built.id, builder.seq)
    assert watermark.at_us == NOON_US + 3000


def test_a_clock_that_went_back_does_not_take_the_watermarks_time_back():
    builder = JournalBuilder()
    first, second = builder.entry(), builder.entry(seconds=-60)
    watermark, _ = follow(START, first.placed)
    assert follow(watermark, second.placed)[0].at_us == watermark.at_us


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ((1, 7, 21), "entry 1-6 is missing: 1-7 comes next"),
        ((1, 5, 21), "entry 1-6 is missing: 1-5 comes next"),
        ((1, 6, 22), "entry 1-6 begins with seq 22, expected 21"),
        ((1, 6, 20), "entry 1-6 begins with seq 20, expected 21"),
        ((2, 1, 21), "entry 2-0 is missing: 2-1 comes after 1-5"),
        ((0, 6, 21), "entry 0-6 comes after 1-5"),
    ],
)
def test_a_gap_within_an_epoch_stops_the_flusher(entry, says):
    builder = JournalBuilder()
    builder.epoch, builder.number, builder.seq = entry[0], entry[1], entry[2] - 1
    with pytest.raises(JournalError, match=says):
        follow(Watermark(1, 5, 20, 0), builder.entry().placed)


@pytest.mark.parametrize("seq_moves", [-4, 0, 4])
def test_a_new_epoch_goes_on_and_tells_what_its_seq_misses_or_repeats(seq_moves):
    builder = JournalBuilder()
    builder.seq = 20
    builder.new_epoch(seq_moves)
    built = builder.entry()
    watermark, gap = follow(Watermark(1, 5, 20, 0), built.placed)
    assert watermark.id == EntryId(2, 0)
    assert watermark.seq == 21 + seq_moves
    wanted = Gap(EntryId(1, 5), EntryId(2, 0), seq_moves, 20) if seq_moves else None
    assert gap == wanted


def test_the_first_epoch_of_an_installation_needs_no_predecessor():
    builder = JournalBuilder()
    builder.epoch = 3  # the store was restarted before its first vote
    assert follow(START, builder.entry().placed)[1] is None


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12))
def test_a_batch_is_whole_entries_from_the_front_and_bounded(sizes):
    builder = JournalBuilder()
    vote = make_vote(builder.random)
    read = [(built.id, built.packed) for built in (builder.entry([vote] * n) for n in sizes)]
    batch = take_batch(read)
    votes = [placed.entry.vote_count for placed in batch]
    assert votes == sizes[: len(votes)]
    assert sum(votes) <= BATCH_VOTES
    assert len(votes) == len(sizes) or sum(votes) + sizes[len(votes)] > BATCH_VOTES


def test_an_entry_larger_than_a_batch_goes_alone():
    builder = JournalBuilder()
    vote = make_vote(builder.random)
    large = builder.entry([vote] * (BATCH_VOTES + 1))
    small = builder.entry([vote])
    batch = take_batch([(large.id, large.packed), (small.id, small.packed)])
    assert [placed.id for placed in batch] == [large.id]


def test_an_entry_that_cannot_be_read_is_named():
    with pytest.raises(JournalError, match=r"entry 4-2: an entry of 3 bytes"):
        take_batch([(EntryId(4, 2), b"abc")])


def test_an_entry_of_an_unknown_refusal_is_named():
    built = JournalBuilder().entry(1, [Refusal(1, Outcome.REFUSED, 1)])
    unknown = bytearray(built.packed)
    unknown[-3] = 200
    with pytest.raises(JournalError, match=r"entry 1-0: .*200"):
        take_batch([(built.id, bytes(unknown))])


@given(st.integers(100, 2000), st.lists(st.integers(36, 300), min_size=1, max_size=80))
def test_the_window_keeps_what_is_to_be_retained_and_hardly_more(retain_bytes, sizes):
    window, first_kept = RetainedWindow(retain_bytes), 0
    for n, size in enumerate(sizes):
        window.add(EntryId(1, n), size)
        cut = window.cut()
        if cut is not None:
            assert cut.number > first_kept
            first_kept = cut.number
        kept = sizes[first_kept : n + 1]
        assert window.entries == len(kept)
        assert sum(kept) >= min(retain_bytes, sum(sizes[: n + 1]))
        # A chunk ends with the entry that fills it.
        assert sum(kept) < retain_bytes + retain_bytes / 64 + 300
