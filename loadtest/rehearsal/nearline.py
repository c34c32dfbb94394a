"""Near-line passes over what became votes, as `watch` makes them: every few minutes over the last
two hours, and daily over everything.

The service passes every five minutes. Here the passes through the quiet hours are an hour apart, so
that days fit into a minute; after the first vote of each attack of an hour they are the true five
minutes, for that is where the time until it is found is measured. Each vote is in the window of two
passes and of a daily one: what the service would see at a luckier moment between them is missed, so
recall is rather a little too low than too high.
"""

import time
from dataclasses import dataclass, field

import numpy as np

from antifraud.detectors import Baselines, detect
from antifraud.flags import Flag
from loadtest.rehearsal.ballots import ZONE_SECONDS, Array, Ballots, calculator, register
from loadtest.rehearsal.judging import Judged

_MINUTE_US = 60_000_000
PASS_US = 5 * _MINUTE_US
WINDOW_US = 120 * _MINUTE_US
QUIET_US = 60 * _MINUTE_US
WATCHED_US = 30 * _MINUTE_US
"""So long after a short attack's begin passes are five minutes apart."""
WATCHED_VOTES = 1_000
"""Attacks of an hour with so many votes are watched: of those a time is promised."""
_DAY_US = 86_400_000_000
_LEAST_VOTES = 30
"""A pass over fewer finds nothing by any rule."""


@dataclass(eq=False)
class Findings:
    """What the passes found, one array element a ballot where it is an array."""

    held_at_us: Array
    """Moment of the pass that set the vote aside automatically, -1 = none did."""
    asked_at_us: Array
    """Moment of the first pass that flagged it at all, for staff or automatically; -1 = none."""
    score: Array
    """Nats of the strongest automatic flag on it."""
    flags: list[tuple[Flag, int, bool]] = field(default_factory=list)
    """(flag, moment, whether of a daily pass)"""
    cost: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    """Kind of pass -> (passes, votes looked at, seconds of CPU)."""


def pass_over(ballots: Ballots, judged: Judged, *, ends_us: int | None = None) -> Findings:
    """All passes of the period over the votes that the judging left."""
    count = len(ballots)
    findings = Findings(
        np.full(count, -1, np.int64), np.full(count, -1, np.int64), np.full(count, -99.0)
    )
    votes = np.flatnonzero(judged.is_vote)
    if not len(votes):
        return findings
    with calculator() as db:
        # Under another name than any rule uses: each pass sees its window of it as `votes`.
        register(db, "whole", _as_rows(ballots, judged, votes))
        at_us = ballots["at_us"][votes]
        baselines: Baselines | None = None
        for moment, daily in _schedule(ballots, at_us, ends_us):
            first = 0 if daily else moment - WINDOW_US
            low, high = np.searchsorted(at_us, [first, moment])
            if high - low < _LEAST_VOTES:
                continue
            db.execute(
                "CREATE OR REPLACE TEMP VIEW votes AS SELECT * FROM whole"
                f" WHERE at_us >= {int(at_us[low])} AND at_us < {moment}"
            )
            began = time.process_time()
            found = detect(db, baselines=baselines, learn_anew=daily)
            _add_cost(findings, "daily" if daily else "2h", high - low, time.process_time() - began)
            for flag in found.flags:
                _note(findings, flag, moment, daily)
            if daily:
                baselines = found.baselines
    return findings


def learn_of_day(
    ballots: Ballots, judged: Judged, votes: Array, known: Baselines | None
) -> Baselines:
    """What was usual in these votes of one day, those left out that a pass over them flags."""
    with calculator() as db:
        register(db, "votes", _as_rows(ballots, judged, votes))
        return detect(db, baselines=known).baselines


def _as_rows(ballots: Ballots, judged: Judged, votes: Array) -> dict[str, Array]:
    rows = {
        name: column[votes]
        for name, column in ballots.columns.items()
        if name not in ("oddities", "solves")
    }
    rows["token_level"] = judged.token_level[votes]
    rows["score"] = judged.score[votes]
    return {"vote": votes.astype(np.int64), **rows}


def _schedule(ballots: Ballots, at_us: Array, ends_us: int | None) -> list[tuple[int, bool]]:
    """(moment, whether daily), ascending; at midnight the daily pass comes last."""
    first, last = int(at_us[0]), ends_us or int(at_us[-1]) + PASS_US
    moments = set(range(first - first % QUIET_US + QUIET_US, last + QUIET_US, QUIET_US))
    for number, label in enumerate(ballots.labels):
        if label.duration == "1h" and label.size >= WATCHED_VOTES:
            rows = np.flatnonzero(ballots.label == number)
            if len(rows):
                began = int(ballots["at_us"][rows].min())
                grid = began - began % PASS_US
                moments.update(range(grid + PASS_US, grid + WATCHED_US + 1, PASS_US))
    zone_us = ZONE_SECONDS * 1_000_000
    midnight = first - (first + zone_us) % _DAY_US + _DAY_US
    days = [(moment, True) for moment in range(midnight, last + _DAY_US, _DAY_US)]
    return sorted([(moment, False) for moment in moments if moment <= days[-1][0]] + days)


def _note(findings: Findings, flag: Flag, moment: int, daily: bool) -> None:
    findings.flags.append((flag, moment, daily))
    fresh = flag.votes[findings.asked_at_us[flag.votes] < 0]
    findings.asked_at_us[fresh] = moment
    if flag.automatic:
        fresh = flag.votes[findings.held_at_us[flag.votes] < 0]
        findings.held_at_us[fresh] = moment
        findings.score[flag.votes] = np.maximum(findings.score[flag.votes], flag.score)


def _add_cost(findings: Findings, kind: str, votes: int, seconds: float) -> None:
    passes, before, cpu = findings.cost.get(kind, (0, 0, 0.0))
    findings.cost[kind] = (passes + 1, before + int(votes), cpu + seconds)
