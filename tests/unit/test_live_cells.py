"""LiveCells: one-prefix attacks are marked while they run, crowds that vote together are not."""

from datetime import date

import numpy as np
import pytest

from antifraud.detectors import detect
from antifraud.detectors.live import (
    DAYS_MAX,
    MARKS_MAX,
    ONE_KIND_MILLINATS,
    TWO_KINDS_MILLINATS,
    VOTE_DTYPE,
    CellMark,
    LiveCells,
)
from antifraud.limits import Rate
from antifraud.screen import BANDS
from tests.detector_crowds import CAMPUS, DATACENTRE, HOME, MOBILE, START_US, Crowd, honest
from voting.journal import VOTE, Vote

DAY = date(2026, 7, 6)
CAMPAIGN = 7
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
PRIOR_MILLINATS = -4_600


def as_journal(crowd):
    """(votes in order of time, moments, groups)"""
    columns, groups = crowd.table()
    order = np.argsort(columns["at_us"], kind="stable")
    votes = np.zeros(len(order), VOTE_DTYPE)
    for name in VOTE_DTYPE.names:
        if name in columns:
            votes[name] = columns[name][order]
    return votes, columns["at_us"][order], groups[order]


def watch(cells, crowd, *, every_us=10_000_000):
    """Feed a crowd in entries of up to 64 votes; (moment, candidate, mark) of each first mark."""
    votes, moments, _ = as_journal(crowd)
    marked, next_look = [], int(moments[0])
    seen = set()
    for first in range(0, len(votes), 64):
        now = int(moments[first])
        cells.add(CAMPAIGN, DAY, now, votes[first : first + 64])
        if now >= next_look:
            next_look = now + every_us
            for key, mark in cells.flagged(CAMPAIGN, DAY, now).items():
                if key not in seen:
                    seen.add(key)
                    marked.append((now, int.from_bytes(key[8:], "big"), mark))
    return marked


def busy_hour(seed=1):
    return Crowd(seed, hours=1).add("crowd", 60_000)


def test_the_array_has_the_bytes_of_the_journal():
    """Field by field, as voting.journal.Vote packs them."""
    vote = Vote(
        b"device__", b"network_", b"net-wide", 513, b"click_", 4134, 1, 40, 77, 99, 18, 345, 2,
        -4_600, b"\1\2\3", 2,
    )  # fmt: skip
    assert VOTE_DTYPE.itemsize == VOTE.size == 57
    assert VOTE_DTYPE.names == Vote._fields
    (read,) = np.frombuffer(VOTE.pack(*vote), VOTE_DTYPE)
    for name, value in vote._asdict().items():
        kept = read[name]
        if isinstance(value, int):
            assert int(kept) == value
        elif len(value) == 8:
            assert int(kept).to_bytes(8, "big") == value
        else:
            assert kept.tobytes() == value


@pytest.mark.parametrize("network_class", [MOBILE, CAMPUS, HOME, DATACENTRE])
def test_a_script_behind_one_address_is_marked_within_a_minute(network_class):
    """75 votes a minute."""
    crowd = busy_hour().single_address(
        3_000, 55, network_class=network_class, minutes=40, at_hour=0.2
    )
    marked = watch(LiveCells(), crowd)
    assert {candidate for _, candidate, _ in marked} == {55}
    first_us, _, mark = marked[0]
    assert first_us - (START_US + 0.2 * HOUR_US) < 60_000_000
    assert mark == CellMark(TWO_KINDS_MILLINATS, 40)


def test_a_rotated_24_is_marked_as_one_wide_network():
    crowd = busy_hour()
    crowd.single_address(
        3_000,
        55,
        network=(20 << 40) + np.arange(3_000) % 254,
        network_wide=(20 << 24) + 55,
        minutes=40,
        at_hour=0.2,
    )
    cells = LiveCells()
    marked = watch(cells, crowd)
    assert marked[0][0] - (START_US + 0.2 * HOUR_US) < 60_000_000
    key = ((20 << 24) + 55).to_bytes(8, "big") + (55).to_bytes(2, "big")
    assert key in cells.flagged(CAMPAIGN, DAY, START_US + int(0.5 * HOUR_US))


def test_phones_of_the_crowd_do_not_hide_it_and_the_mark_is_for_all_of_them():
    crowd = busy_hour()
    crowd.single_address(
        3_000, 55, user_agent_class=crowd.models_of_the_crowd(3_000), minutes=40, at_hour=0.2
    )
    marked = watch(LiveCells(), crowd)
    assert {mark for _, _, mark in marked} == {CellMark(TWO_KINDS_MILLINATS, 0)}


def test_one_kind_of_evidence_is_challenged_only():
    crowd = busy_hour()
    crowd.single_address(
        3_000,
        55,
        user_agent_class=crowd.models_of_the_crowd(3_000),
        token_age_seconds=crowd.rng.lognormal(3.2, 1.0, 3_000),
        tls_hash=0,
        minutes=40,
        at_hour=0.2,
    )
    marked = watch(LiveCells(), crowd)
    assert {mark for _, _, mark in marked} == {CellMark(ONE_KIND_MILLINATS, 0)}


def test_the_weights_end_in_the_bands_that_they_are_for():
    assert BANDS.challenge <= PRIOR_MILLINATS + ONE_KIND_MILLINATS < BANDS.hold
    assert BANDS.hold <= PRIOR_MILLINATS + TWO_KINDS_MILLINATS < BANDS.refuse


@pytest.mark.parametrize("seed", [2, 3])
def test_campuses_companies_shops_and_shared_links_are_not_marked(seed):
    assert watch(LiveCells(), honest(seed, hours=24), every_us=5 * MINUTE_US) == []


def test_yesterdays_baselines_serve_from_the_first_minute():
    """With the doors just open there is no crowd yet to compare with."""
    db, _ = honest(4).database()
    yesterday = detect(db).baselines
    crowd = Crowd(5).single_address(300, 55, minutes=2, at_hour=0)
    marked = watch(LiveCells(yesterday), crowd, every_us=5_000_000)
    assert marked[0][2] == CellMark(TWO_KINDS_MILLINATS, 40)


def test_a_cell_that_turns_clean_is_unmarked():
    crowd = busy_hour().single_address(600, 55, minutes=5, at_hour=0.1)
    cells = LiveCells()
    watch(cells, crowd)
    assert cells.flagged(CAMPAIGN, DAY, START_US + 2 * HOUR_US) == {}


def test_days_and_campaigns_are_apart():
    crowd = busy_hour().single_address(600, 55, minutes=5, at_hour=0.9)
    cells = LiveCells()
    watch(cells, crowd)
    now = START_US + HOUR_US
    assert cells.flagged(CAMPAIGN, DAY, now)
    assert cells.flagged(CAMPAIGN + 1, DAY, now) == {}
    assert cells.flagged(CAMPAIGN, date(2026, 7, 7), now) == {}


def test_unknown_everywhere_marks_nothing():
    votes = np.zeros(5_000, VOTE_DTYPE)
    votes["candidate"] = 3
    votes["network"] = 9
    votes["device"] = np.arange(5_000)
    cells = LiveCells()
    cells.add(CAMPAIGN, DAY, START_US, votes)
    assert cells.flagged(CAMPAIGN, DAY, START_US + MINUTE_US) == {}


def test_a_script_that_came_first_does_not_make_a_company_odd():
    """Slow stuffing out of unknown networks all hour, and then a company of that class votes."""
    crowd = busy_hour()
    crowd.script(600, 12, network_class=0, minutes=59, at_hour=0)
    crowd.employer_burst(55, 400, minutes=10, at_hour=0.7, network_class=0)
    assert {candidate for _, candidate, _ in watch(LiveCells(), crowd)} <= {12}


def test_an_unknown_network_is_no_cell():
    crowd = busy_hour().single_address(1_000, 55, network=0, network_wide=0, minutes=5, at_hour=0.2)
    assert watch(LiveCells(), crowd) == []


def test_memory_is_bounded_whatever_comes():
    """By votes and by campaign days; the window becomes shorter instead."""
    cells = LiveCells(votes_max=20_000)
    votes, _, _ = as_journal(busy_hour())
    for day in range(1, 9):
        for number, first in enumerate(range(0, len(votes), 5_000)):
            cells.add(CAMPAIGN, date(2026, 7, day), START_US + number, votes[first : first + 5_000])
            cells.flagged(CAMPAIGN, date(2026, 7, day), START_US + number)
    assert cells.votes_kept <= DAYS_MAX * 20_000


def test_never_more_marks_than_the_store_takes():
    crowd = Crowd(6, hours=1)
    crowd.add("crowd", 20_000)
    addresses = MARKS_MAX + 200
    crowd.script(
        addresses * 20,
        55,
        network=(30 << 40) + np.arange(addresses * 20) % addresses,
        network_wide=(30 << 40) + np.arange(addresses * 20) % addresses,
        minutes=4,
        at_hour=0.9,
    )
    votes, moments, _ = as_journal(crowd)
    cells = LiveCells()
    cells.add(CAMPAIGN, DAY, int(moments[-1]), votes)
    marks = cells.flagged(CAMPAIGN, DAY, int(moments[-1]))
    assert 1_000 < len(marks) <= MARKS_MAX


def test_a_campus_that_proves_large_gets_more_room():
    """900 newcomers in an hour where 300 are usual: 1.5 times as much again."""
    crowd = busy_hour().campus_burst(55, 900, addresses=1, minutes=30, at_hour=0.1)
    cells = LiveCells()
    watch(cells, crowd)
    network = ((9 << 40) + (55 << 20)).to_bytes(8, "big")
    assert cells.capacities(CAMPAIGN, DAY)[network] in (3, 4, 5)


def test_votes_count_for_capacity_where_the_campaigns_limit_is_known():
    crowd = busy_hour().campus_burst(55, 900, addresses=1, minutes=30, at_hour=0.1)
    cells = LiveCells()
    watch(cells, crowd)
    network = ((9 << 40) + (55 << 20)).to_bytes(8, "big")
    tight = cells.capacities(CAMPAIGN, DAY, Rate.parse("100/hour"))
    assert tight[network] in (13, 14)


def test_neither_scripts_nor_homes_prove_large():
    crowd = busy_hour()
    crowd.single_address(2_000, 55, network_class=MOBILE, minutes=50, at_hour=0)
    crowd.add("home", 2_000, network_class=HOME, network=77, at_us=crowd.moments(2_000, 0, 50))
    cells = LiveCells()
    watch(cells, crowd)
    assert (
        cells.capacities(CAMPAIGN, DAY, Rate.parse("100/hour"))
        .keys()
        .isdisjoint({((20 << 40) + 55).to_bytes(8, "big"), (77).to_bytes(8, "big")})
    )
