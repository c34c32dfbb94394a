"""One rehearsal: a crowd is drawn, judged, passed over and counted, seed by seed; and what was
counted becomes the document of `dianzan rehearse --json`."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from antifraud.flags import DETECTORS_VERSION
from antifraud.heuristics import RULES_VERSION
from antifraud.networks import NetworkClass
from loadtest.rehearsal import baselines, nearline
from loadtest.rehearsal.attackers import ATTACKERS, CAMOUFLAGES, SIZES, carry_out, plan
from loadtest.rehearsal.ballots import Array, Ballots, read_parquet, together
from loadtest.rehearsal.costs import YUAN_PER_ATTEMPT, cost_per_kept_vote
from loadtest.rehearsal.crowd import honest_crowd
from loadtest.rehearsal.intervals import wilson
from loadtest.rehearsal.judging import Judged, Outcome, judge
from loadtest.rehearsal.population import make_country

DAYS = 5
"""Simulated days unless asked otherwise."""

RELEASED_BELOW_NATS = 6.0
"""What nobody decided on is released after 20 h if its score is below this."""

DETECTED_VOTES = 10
"""An attack counts as detected when so many of its votes have been stopped."""


class Cell(NamedTuple):
    """Attacks of one kind, size, camouflage and duration."""

    attack: str
    size: int
    camouflage: str
    duration: str


@dataclass
class Counted:
    """What was counted; everything in it adds up over seeds."""

    honest: dict[str, Counter[str]] = field(default_factory=dict)
    """Group -> votes, refused, held, held_by_flag, restored, challenged, gave_up, marked."""
    attacks: dict[Cell, Counter[str]] = field(default_factory=dict)
    """Cell -> attacks, votes, refused, held, flagged, left, kept, restored, challenged,
    mostly_stopped, asked."""
    seconds_to_detect: dict[Cell, list[float]] = field(default_factory=dict)
    """One number an attack, infinite where it was never detected."""
    flags: Counter[str] = field(default_factory=Counter)
    rules: dict[str, Counter[str]] = field(default_factory=dict)
    baselines: dict[str, Counter[str]] = field(default_factory=dict)
    auc: dict[str, list[float]] = field(default_factory=dict)
    joe_job: Counter[str] = field(default_factory=Counter)
    """Of the candidates that A11 stuffs for: candidates, honest_votes, honest_held."""
    passes: Counter[str] = field(default_factory=Counter)
    """"<kind>-passes", "<kind>-votes", "<kind>-us"."""
    days: int = 0
    """Of the longest crowd."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Of this machine's time, by part of the run; in whole milliseconds."""

    def add(self, other: "Counted") -> None:
        _add(self.honest, other.honest)
        _add(self.attacks, other.attacks)
        _add(self.rules, other.rules)
        _add(self.baselines, other.baselines)
        for cell, times in other.seconds_to_detect.items():
            self.seconds_to_detect.setdefault(cell, []).extend(times)
        for name, each in other.auc.items():
            self.auc.setdefault(name, []).extend(each)
        self.flags.update(other.flags)
        self.joe_job.update(other.joe_job)
        self.passes.update(other.passes)
        self.days = max(self.days, other.days)
        self.seconds.update(other.seconds)


def _add(mine: dict[Any, Counter[str]], theirs: Mapping[Any, Counter[str]]) -> None:
    for key, counter in theirs.items():
        mine.setdefault(key, Counter()).update(counter)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rehearsed. Everything that a worker process has to know."""

    votes: int = 1_000_000
    """Honest ones, for each seed."""
    days: int = DAYS
    attacks: tuple[str, ...] = tuple(ATTACKERS)
    sizes: tuple[int, ...] = SIZES
    camouflages: tuple[str, ...] = CAMOUFLAGES
    challenges: bool = True
    tls: bool = True
    """Whether TLS fingerprints are known: they are only behind a proxy that tells them."""
    homes: bool = True
    """Whether the table of networks tells home lines from a carrier's phones. The built-in one does
    not (carriers announce both under the same numbers); an operator's own can."""
    compare: bool = True
    """Whether the burst rule and MIDAS-R are run as well."""


def draw_crowd(seed: int, wanted: Plan) -> Ballots:
    """The labelled crowd of one seed, in order of time."""
    country = make_country(seed, wanted.votes, wanted.days)
    honest = honest_crowd(country, wanted.votes)
    orders = plan(
        seed,
        wanted.votes,
        attacks=wanted.attacks,
        sizes=wanted.sizes,
        camouflages=wanted.camouflages,
    )
    crowd = together([honest, carry_out(country, orders, honest)]) if orders else honest
    return _as_the_edge_tells(crowd.in_order(), wanted)


def _as_the_edge_tells(crowd: Ballots, wanted: Plan) -> Ballots:
    columns = dict(crowd.columns)
    if not wanted.tls:
        columns["tls_hash"] = np.zeros_like(columns["tls_hash"])
    if not wanted.homes:
        classes = columns["network_class"]
        columns["network_class"] = np.where(
            classes == NetworkClass.HOME, np.uint8(NetworkClass.MOBILE), classes
        )
    return Ballots(columns, crowd.label, crowd.labels)


def rehearse_seed(seed: int, wanted: Plan) -> Counted:
    """One seed from the draw to the counts."""
    began = time.perf_counter()
    crowd = draw_crowd(seed, wanted)
    return _rehearse(crowd, wanted, time.perf_counter() - began)


def rehearse_file(path: Path, wanted: Plan) -> Counted:
    """The crowd in a file; BadCrowd."""
    began = time.perf_counter()
    crowd = _as_the_edge_tells(read_parquet(path).in_order(), wanted)
    return _rehearse(crowd, wanted, time.perf_counter() - began)


def _rehearse(crowd: Ballots, wanted: Plan, drawn_in: float) -> Counted:
    clock = [time.perf_counter()]

    def lap() -> int:
        clock.append(time.perf_counter())
        return round(1000 * (clock[-1] - clock[-2]))

    judged = judge(crowd, challenges=wanted.challenges, learn=nearline.learn_of_day)
    judging = lap()
    findings = nearline.pass_over(crowd, judged)
    passing = lap()
    counted = count(crowd, judged, findings)
    if wanted.compare:
        for name, scores, threshold in (
            ("burst-rule", baselines.burst_scores(crowd), baselines.BURST_OPENS_AT),
            ("midas-r", baselines.midas_r_scores(crowd), None),
        ):
            measured = baselines.measure(crowd, scores, threshold)
            counted.auc[name] = [measured.auc]
            counted.baselines[name] = Counter(
                hits=measured.hits,
                false_alarms=measured.false_alarms,
                attack_votes=measured.attack_votes,
                honest_votes=measured.honest_votes,
                gathered_flagged=measured.gathered_flagged,
                gathered_votes=measured.gathered_votes,
            )
    counted.seconds.update(
        drawing=round(1000 * drawn_in), judging=judging, passes=passing, comparing=lap()
    )
    counted.seconds["ballots"] += len(crowd)
    counted.days = len(np.unique(crowd["day"]))
    return counted


# --- counting -------------------------------------------------------------------------------------


def count(crowd: Ballots, judged: Judged, findings: nearline.Findings) -> Counted:
    """What became of whom."""
    outcome = judged.outcome
    repeated = outcome == Outcome.REPEATED
    by_flag = findings.held_at_us >= 0
    by_score = outcome == Outcome.HELD
    nats = np.maximum(judged.score / 1000, findings.score)
    facts = {
        "votes": ~repeated,
        "refused": (outcome == Outcome.REFUSED) | (outcome == Outcome.THROTTLED),
        "held": by_score | by_flag,
        "held_by_flag": by_flag,
        "restored": (by_score | by_flag) & (nats < RELEASED_BELOW_NATS),
        "kept": (outcome == Outcome.COUNTED) & ~by_flag,
        "left": (outcome == Outcome.GAVE_UP) | (outcome == Outcome.WITHHELD),
        "challenged": judged.challenged,
        "marked": judged.marked,
        "asked": findings.asked_at_us >= 0,
    }
    sums = {
        name: np.bincount(crowd.label[fact], minlength=len(crowd.labels))
        for name, fact in facts.items()
    }
    stopped_at = _stopped_at(crowd, judged, findings)
    rows_of = _rows_of(crowd)
    counted = Counted()
    for number, label in enumerate(crowd.labels):
        counts = Counter({name: int(of_label[number]) for name, of_label in sums.items()})
        if not counts["votes"]:
            continue
        if not label.is_attack:
            counted.honest.setdefault(label.source, Counter()).update(counts)
            continue
        cell = Cell(label.source, label.size, label.camouflage, label.duration)
        counts["attacks"] = 1
        counts["mostly_stopped"] = int(counts["kept"] <= counts["votes"] / 2)
        counted.attacks.setdefault(cell, Counter()).update(counts)
        rows = rows_of(number)
        began = int(crowd["at_us"][rows].min())
        counted.seconds_to_detect.setdefault(cell, []).append(
            _seconds_to_detect(stopped_at[rows], began)
        )
    _count_flags(crowd, findings, counted)
    _count_joe_job(crowd, by_score | by_flag, counted)
    return counted


def _count_joe_job(crowd: Ballots, held: Array, counted: Counted) -> None:
    of_rival = np.array([label.source == "A11" for label in crowd.labels])[crowd.label]
    smeared = np.unique(crowd["candidate"][of_rival])
    theirs = np.isin(crowd["candidate"], smeared) & ~crowd.is_attack
    counted.joe_job.update(
        candidates=len(smeared),
        honest_votes=int(theirs.sum()),
        honest_held=int((theirs & held).sum()),
    )


def _rows_of(crowd: Ballots) -> Callable[[int], Array]:
    order = np.argsort(crowd.label, kind="stable")
    bounds = np.searchsorted(crowd.label[order], np.arange(len(crowd.labels) + 1))
    return lambda number: order[bounds[number] : bounds[number + 1]]


def _stopped_at(crowd: Ballots, judged: Judged, findings: nearline.Findings) -> Array:
    """Moment at which each ballot was stopped, for good or until somebody decides; never = the
    largest number."""
    never = np.iinfo(np.int64).max
    at_once = ~np.isin(judged.outcome, (Outcome.COUNTED, Outcome.REPEATED))
    late = np.where(findings.held_at_us >= 0, findings.held_at_us, never)
    return np.where(at_once, crowd["at_us"], late)


def _seconds_to_detect(stopped_at: Array, began: int) -> float:
    if len(stopped_at) < DETECTED_VOTES:
        return math.inf
    moment = int(np.partition(stopped_at, DETECTED_VOTES - 1)[DETECTED_VOTES - 1])
    return math.inf if moment == np.iinfo(np.int64).max else (moment - began) / 1e6


def _count_flags(crowd: Ballots, findings: nearline.Findings, counted: Counted) -> None:
    attack = crowd.is_attack
    held, asked = findings.held_at_us >= 0, findings.asked_at_us >= 0
    counted.flags.update(
        held_votes=int(held.sum()),
        held_attack_votes=int((held & attack).sum()),
        asked_only_votes=int((asked & ~held).sum()),
        asked_only_attack_votes=int((asked & ~held & attack).sum()),
    )
    for flag, _, daily in findings.flags:
        fakes = int(attack[flag.votes].sum())
        right = int(fakes * 2 >= len(flag.votes))
        kind = "automatic" if flag.automatic else "staff"
        counted.flags.update({kind: 1, f"{kind}_right": right})
        for rule in flag.rules:
            counted.rules.setdefault(rule, Counter()).update(
                flags=1,
                automatic=int(flag.automatic),
                votes=len(flag.votes),
                attack_votes=fakes,
                daily=int(daily),
            )
    for kind, (passes, votes, cpu) in findings.cost.items():
        counted.passes.update(
            {f"{kind}-passes": passes, f"{kind}-votes": votes, f"{kind}-us": round(cpu * 1e6)}
        )


# --- the document ---------------------------------------------------------------------------------


def as_document(counted: Counted, seeds: Sequence[int], wanted: Plan) -> dict[str, Any]:
    """{"honest": {"votes", "refused", "held", "by_group": {...}},
    "attacks": {attack: {size: {camouflage: {"votes", "kept", "recall", ...}}}},
    "flags": {"precision", ...}, "baselines": {"burst-rule": {...}, "midas-r": {...}},
    "near_line", "targets", "rules_version", "detectors_version", "seeds", ...}

    Numbers of votes are counts, shares are of 1, bounds are two-sided 95 % Wilson bounds.
    """
    from loadtest.rehearsal.report import targets

    whole: Counter[str] = Counter()
    for counts in counted.honest.values():
        whole.update(counts)
    document: dict[str, Any] = {
        "honest": {
            **_honest(whole),
            "by_group": {
                group: _honest(counts) for group, counts in sorted(counted.honest.items())
            },
        },
        "attacks": _attacks(counted),
        "flags": _flags(counted),
        "baselines": {
            name: _baseline(counts, counted.auc[name]) for name, counts in counted.baselines.items()
        },
        "joe_job": {
            name: counted.joe_job[name] for name in ("candidates", "honest_votes", "honest_held")
        },
        "near_line": _near_line(counted.passes),
        "seeds": list(seeds),
        "honest_votes_per_seed": wanted.votes,
        "days": counted.days,
        "challenges": wanted.challenges,
        "tls_known": wanted.tls,
        "homes_known": wanted.homes,
        "rules_version": RULES_VERSION,
        "detectors_version": DETECTORS_VERSION,
        "seconds": {
            name: round(value / 1000, 1)
            for name, value in counted.seconds.items()
            if name != "ballots"
        },
        "ballots": counted.seconds["ballots"],
    }
    document["targets"] = [target.as_json() for target in targets(document)]
    return document


def _share(hits: int, trials: int) -> float:
    return round(hits / trials, 9) if trials else 0.0


def _bounds(hits: int, trials: int) -> list[float]:
    return [round(bound, 9) for bound in wilson(hits, trials)]


def _honest(counts: Mapping[str, int]) -> dict[str, Any]:
    votes, held = counts["votes"], counts["held"]
    return {
        "votes": votes,
        "refused": counts["refused"],
        "held": held,
        "refused_bounds": _bounds(counts["refused"], votes),
        "held_bounds": _bounds(held, votes),
        "held_by_flag": counts["held_by_flag"],
        "restored_share": _share(counts["restored"], held) if held else 1.0,
        "challenged": counts["challenged"],
        "challenged_share": _share(counts["challenged"], votes),
        "gave_up": counts["left"],
        "marked": counts["marked"],
    }


def _attacks(counted: Counted) -> dict[str, Any]:
    names = [name for name in ATTACKERS if any(cell.attack == name for cell in counted.attacks)]
    names += sorted({cell.attack for cell in counted.attacks} - set(names))
    return {
        name: {
            str(size): {
                camouflage: _attack(counted, name, size, camouflage)
                for camouflage in _camouflages(counted, name, size)
            }
            for size in sorted({c.size for c in counted.attacks if c.attack == name})
        }
        for name in names
    }


def _camouflages(counted: Counted, name: str, size: int) -> list[str]:
    there = {c.camouflage for c in counted.attacks if c.attack == name and c.size == size}
    return [each for each in CAMOUFLAGES if each in there] + sorted(there - set(CAMOUFLAGES))


def _attack(counted: Counted, name: str, size: int, camouflage: str) -> dict[str, Any]:
    cells = [
        c for c in counted.attacks if (c.attack, c.size, c.camouflage) == (name, size, camouflage)
    ]
    whole: Counter[str] = Counter()
    for cell in cells:
        whole.update(counted.attacks[cell])
    times = {cell.duration: counted.seconds_to_detect[cell] for cell in cells}
    return {
        **_one_attack(name, whole),
        "by_duration": {
            cell.duration: _one_attack(name, counted.attacks[cell]) for cell in sorted(cells)
        },
        "time_to_detect": {duration: _times(each) for duration, each in sorted(times.items())},
    }


def _one_attack(name: str, counts: Mapping[str, int]) -> dict[str, Any]:
    votes, kept = counts["votes"], counts["kept"]
    cost = None
    if name in YUAN_PER_ATTEMPT:
        cost = cost_per_kept_vote(name, votes, counts["challenged"], kept)
    return {
        "votes": votes,
        "kept": kept,
        "recall": _share(votes - kept, votes),
        "recall_bounds": _bounds(votes - kept, votes),
        "attacks": counts["attacks"],
        "mostly_stopped": counts["mostly_stopped"],
        "refused": counts["refused"],
        "held": counts["held"],
        "held_by_flag": counts["held_by_flag"],
        "left": counts["left"],
        "challenged": counts["challenged"],
        "restored": counts["restored"],
        "asked": counts["asked"],
        "cost_per_kept_vote_yuan": None if cost is None else round(cost, 4),
    }


def _times(seconds: Sequence[float]) -> dict[str, Any]:
    found = [each for each in seconds if math.isfinite(each)]
    return {
        "attacks": len(seconds),
        "detected": len(found),
        "median_seconds": round(statistics.median(found), 1) if found else None,
        "longest_seconds": round(max(found), 1) if found else None,
        "seconds": [round(each, 1) for each in sorted(found)],
    }


def _flags(counted: Counted) -> dict[str, Any]:
    flags = counted.flags
    held, right = flags["held_votes"], flags["held_attack_votes"]
    return {
        "precision": _share(right, held) if held else 1.0,
        "precision_bounds": _bounds(right, held),
        "votes": held,
        "attack_votes": right,
        "automatic": flags["automatic"],
        "automatic_right": flags["automatic_right"],
        "staff": flags["staff"],
        "staff_right": flags["staff_right"],
        "staff_votes": flags["asked_only_votes"],
        "staff_attack_votes": flags["asked_only_attack_votes"],
        "by_rule": {
            rule: {
                **counts,
                "precision": _share(counts["attack_votes"], counts["votes"]),
            }
            for rule, counts in sorted(counted.rules.items())
        },
    }


def _baseline(counts: Mapping[str, int], auc: Sequence[float]) -> dict[str, Any]:
    hits, false_alarms = counts["hits"], counts["false_alarms"]
    return {
        "auc": round(statistics.fmean(auc), 4),
        "precision": _share(hits, hits + false_alarms),
        "recall": _share(hits, counts["attack_votes"]),
        "honest_flagged_share": _share(false_alarms, counts["honest_votes"]),
        "campus_and_employer_flagged_share": _share(
            counts["gathered_flagged"], counts["gathered_votes"]
        ),
        "precision_bounds": _bounds(hits, hits + false_alarms),
        "recall_bounds": _bounds(hits, counts["attack_votes"]),
    }


def _near_line(passes: Mapping[str, int]) -> dict[str, Any]:
    made = {}
    for kind in ("2h", "daily"):
        votes, us = passes.get(f"{kind}-votes", 0), passes.get(f"{kind}-us", 0)
        made[kind] = {
            "passes": passes.get(f"{kind}-passes", 0),
            "votes": votes,
            "seconds": round(us / 1e6, 2),
            "us_per_vote": round(us / votes, 3) if votes else 0.0,
        }
    return made
