"""The report of a rehearsal: each target held against its figure, and tables for a terminal."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.rehearsal.attackers import ATTACKERS
from loadtest.rehearsal.costs import HUMAN_PRICE_YUAN
from loadtest.rehearsal.intervals import wilson

SEEN = ("A1", "A2", "A3", "A5", "A6", "A7", "A9", "A10")
"""Attacks whose recall is promised; A4 and A8 cannot be seen, and are reported as they are."""
WEAK_CAMOUFLAGE = ("none", "ua")
GATHERED = ("campus-burst", "employer-burst")
KEPT_PER_1000 = {"A1": 1, "A2": 50, "A3": 50, "A5": 50, "A6": 50, "A7": 150, "A4": 500}


@dataclass(frozen=True, slots=True)
class Target:
    """One promise of notes/fraud.md, and how it stands."""

    name: str
    measured: float | None
    """None = nothing to measure it on in this run."""
    target: float
    at_most: bool
    unit: str = ""
    detail: str = ""

    @property
    def holds(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.target if self.at_most else self.measured >= self.target

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            # JSON knows no infinity; a target that was never met is missed all the same.
            "measured": None if self.measured == math.inf else self.measured,
            "target": self.target,
            "at_most": self.at_most,
            "unit": self.unit,
            "detail": self.detail,
            "holds": self.holds,
        }


def targets(document: Mapping[str, Any]) -> list[Target]:
    """Every target, with the figure of this run. Shares of honest people are upper Wilson bounds,
    so a small run misses them for its size alone; recalls are shares as counted."""
    honest = document["honest"]
    there = [honest["by_group"][name] for name in GATHERED if name in honest["by_group"]]
    votes = sum(each["votes"] for each in there)
    held = sum(each["held"] for each in there)
    refused = sum(each["refused"] for each in there)
    flags = document["flags"]
    made = [
        Target(
            "honest likes refused",
            _ppm(honest["refused_bounds"][1]),
            5,
            True,
            "ppm",
            f"upper bound; {honest['refused']:,} of {honest['votes']:,}",
        ),
        Target(
            "honest likes held",
            _ppm(honest["held_bounds"][1]),
            100,
            True,
            "ppm",
            f"upper bound; {honest['held']:,} of {honest['votes']:,}",
        ),
        Target(
            "of those restored within 24 h, with nobody deciding",
            honest["restored_share"] if honest["held"] else None,
            0.99,
            False,
            "",
            f"the rest of {honest['held']:,} waits for staff",
        ),
        Target(
            "campus and employer bursts held",
            100 * wilson(held, votes)[1] if votes else None,
            0.1,
            True,
            "%",
            f"upper bound; {held:,} of {votes:,}",
        ),
        Target("campus and employer bursts refused", refused if votes else None, 0, True, "votes"),
        Target(
            "precision of automatic flags, by votes",
            flags["precision"] if flags["votes"] else None,
            0.99,
            False,
            "",
            f"{flags['attack_votes']:,} of {flags['votes']:,}",
        ),
    ]
    for name in SEEN:
        made.append(_recall(document, name, "at 1,000 and more", 0.90, lambda size: size >= 1_000))
        made.append(_recall(document, name, "at 300", 0.60, lambda size: size == 300))
    for name, most in KEPT_PER_1000.items():
        votes, kept = _sum(document, name, lambda size: size >= 1_000)
        made.append(
            Target(
                f"{name} kept per 1,000",
                round(1000 * kept / votes, 1) if votes else None,
                most,
                True,
                "votes",
                f"{kept:,} of {votes:,}, camouflage none and ua, 1,000 and more",
            )
        )
    made += _times(document)
    near = document["near_line"]["daily"]
    made.append(
        Target(
            "near-line CPU a vote, daily pass over all",
            near["us_per_vote"] if near["votes"] else None,
            3.0,
            True,
            "us",
            f"{near['passes']:,} passes of {near['votes'] // max(1, near['passes']):,} votes",
        )
    )
    made.append(_cheapest(document))
    return made


def _ppm(share: float) -> float:
    return round(share * 1e6, 2)


def _cells(
    document: Mapping[str, Any],
    name: str,
    wanted: Any,
    camouflages: Iterable[str] = WEAK_CAMOUFLAGE,
) -> list[dict[str, Any]]:
    return [
        cell
        for size, by_camouflage in document["attacks"].get(name, {}).items()
        if wanted(int(size))
        for camouflage, cell in by_camouflage.items()
        if camouflage in camouflages
    ]


def _sum(document: Mapping[str, Any], name: str, wanted: Callable[[int], bool]) -> tuple[int, int]:
    cells = _cells(document, name, wanted)
    return sum(cell["votes"] for cell in cells), sum(cell["kept"] for cell in cells)


def _recall(
    document: Mapping[str, Any], name: str, what: str, least: float, wanted: Callable[[int], bool]
) -> Target:
    """The worst of the cells: a size and a camouflage are a promise each."""
    cells = [
        (cell["recall"], int(size), camouflage)
        for size, by_camouflage in document["attacks"].get(name, {}).items()
        if wanted(int(size))
        for camouflage, cell in by_camouflage.items()
        if camouflage in WEAK_CAMOUFLAGE
    ]
    worst = min(cells, default=None)
    return Target(
        f"recall {name} {what}",
        None if worst is None else worst[0],
        least,
        False,
        "",
        "" if worst is None else f"the worst cell: {worst[1]:,} votes, {worst[2]}",
    )


def _times(document: Mapping[str, Any]) -> list[Target]:
    """The median over attacks of an hour, camouflage none and ua. Of 1,000 votes an hour the first
    minute has seventeen, which is less than any rule asks for; so they have a line of their own."""
    made = []
    for one_prefix, what, most in ((True, "one prefix", 60.0), (False, "distributed", 600.0)):
        names = [
            name for name in SEEN if ATTACKERS[name].one_prefix is one_prefix and name != "A10"
        ]
        for large, of in ((False, "1,000 votes"), (True, "10,000 votes and more")):
            seconds = sorted(
                each
                for name in names
                for cell in _cells(document, name, _sizes_for_time(large))
                for each in cell["time_to_detect"].get("1h", {}).get("seconds", ())
            )
            undetected = sum(
                times["attacks"] - times["detected"]
                for name in names
                for cell in _cells(document, name, _sizes_for_time(large))
                if (times := cell["time_to_detect"].get("1h"))
            )
            all_of_them = seconds + [math.inf] * undetected
            made.append(
                Target(
                    f"time to detect, {what}, {of} in an hour",
                    all_of_them[len(all_of_them) // 2] if all_of_them else None,
                    most,
                    True,
                    "s",
                    f"median; {len(seconds)} of {len(all_of_them)} found",
                )
            )
    return made


def _sizes_for_time(large: bool) -> Callable[[int], bool]:
    return (lambda size: size >= 10_000) if large else (lambda size: 1_000 <= size < 10_000)


def _cheapest(document: Mapping[str, Any]) -> Target:
    """The cheapest automated vote that counts, A4 apart, over sizes of 1,000 and more and the
    camouflages that are promised."""
    cheapest: tuple[float, str] | None = None
    for name, attacker in ATTACKERS.items():
        if name == "A4" or not attacker.automated:
            continue
        for size, by_camouflage in document["attacks"].get(name, {}).items():
            for camouflage, cell in by_camouflage.items():
                cost = cell["cost_per_kept_vote_yuan"]
                if int(size) < 1_000 or camouflage not in WEAK_CAMOUFLAGE or cost is None:
                    continue
                if cheapest is None or cost < cheapest[0]:
                    cheapest = (cost, f"{name}, {int(size):,} votes, {camouflage}")
    return Target(
        "cheapest automated vote, camouflage none and ua",
        None if cheapest is None else cheapest[0],
        HUMAN_PRICE_YUAN,
        False,
        "yuan",
        "" if cheapest is None else cheapest[1],
    )


# --- for a terminal -------------------------------------------------------------------------------


def as_text(document: Mapping[str, Any]) -> str:
    """The report as people read it."""
    from loadtest.report import table

    honest = document["honest"]
    lines = [
        f"Rehearsal: {_whence(document)}; {honest['votes']:,} honest votes and "
        f"{document['ballots'] - honest['votes']:,} of attacks in {document['days']} days; "
        f"challenges {'on' if document['challenges'] else 'off'}, TLS fingerprints "
        f"{'known' if document['tls_known'] else 'not known'}, home lines "
        f"{'known' if document['homes_known'] else 'not known'}; rules "
        f"{document['rules_version']}, detectors {document['detectors_version']}",
        "",
        "TARGETS (shares of honest people: upper bounds of 95 %)",
        table(
            ("target", "measured", "promised", "", "of"),
            [
                (
                    each["name"],
                    "never"
                    if each["holds"] is False and each["measured"] is None
                    else _figure(each["measured"]),
                    _promised(each),
                    {True: "holds", False: "MISSES", None: "-"}[each["holds"]],
                    each["detail"],
                )
                for each in document["targets"]
            ],
        ),
        "",
        "HONEST PEOPLE (ppm with 95 % bounds)",
        table(
            (
                "group",
                "votes",
                "refused",
                "bounds",
                "held",
                "bounds",
                "restored",
                "challenged",
                "left",
            ),
            [
                _honest_row(name, each)
                for name, each in [("all", honest), *honest["by_group"].items()]
            ],
        ),
        "",
        "ATTACKS (recall = share refused, held, flagged automatically, or left at a challenge)",
        table(
            (
                *("attack", "size", "camouflage", "votes", "kept", "recall", "bounds", "found"),
                *(
                    "refused",
                    "held",
                    "by flag",
                    "challenged",
                    "restored",
                    "yuan/kept",
                    "1h found in",
                ),
            ),
            [
                _attack_row(name, size, camouflage, cell)
                for name, by_size in document["attacks"].items()
                for size, by_camouflage in by_size.items()
                for camouflage, cell in by_camouflage.items()
            ],
        ),
        "",
        "BESIDE OURS, ON THE SAME CROWDS",
        table(
            ("rule", "AUC", "precision", "recall", "honest flagged", "campus, employer flagged"),
            [
                *(
                    (
                        name,
                        f"{each['auc']:.3f}",
                        f"{each['precision']:.3f}",
                        f"{each['recall']:.3f}",
                        f"{each['honest_flagged_share'] * 1e6:,.0f} ppm",
                        f"{each['campus_and_employer_flagged_share']:.1%}",
                    )
                    for name, each in document["baselines"].items()
                ),
                _ours_row(document),
            ],
        ),
        "",
        "FLAGS BY RULE",
        table(
            ("rule", "flags", "automatic", "votes", "precision"),
            [
                (
                    rule,
                    f"{each['flags']:,}",
                    f"{each['automatic']:,}",
                    f"{each['votes']:,}",
                    f"{each['precision']:.4f}",
                )
                for rule, each in document["flags"]["by_rule"].items()
            ],
        ),
        "",
        "NEAR-LINE PASSES (a pass has a fixed cost, which a small window does not spread)",
        table(
            ("window", "passes", "votes each", "CPU each", "CPU a vote"),
            [
                (
                    kind,
                    f"{near['passes']:,}",
                    f"{near['votes'] // max(1, near['passes']):,}",
                    f"{near['seconds'] / max(1, near['passes']) * 1000:,.0f} ms",
                    f"{near['us_per_vote']:.2f} us",
                )
                for kind, near in document["near_line"].items()
            ],
        ),
        "",
        "A rival's stuffing (A11): of the honest votes for its "
        f"{document['joe_job']['candidates']:,} candidates "
        f"{document['joe_job']['honest_held']:,} of {document['joe_job']['honest_votes']:,} held",
        "",
        "seconds of this machine: "
        + ", ".join(f"{name} {value:g}" for name, value in document["seconds"].items()),
    ]
    return "\n".join(lines)


def _whence(document: Mapping[str, Any]) -> str:
    seeds = document["seeds"]
    return f"seeds {', '.join(map(str, seeds))}" if seeds else "a crowd from a file"


def _promised(target: Mapping[str, Any]) -> str:
    sign = "<=" if target["at_most"] else ">="
    return f"{sign} {target['target']:g} {target['unit']}".strip()


def _figure(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"


def _ppm_text(hits: int, votes: int) -> str:
    return f"{hits / max(1, votes) * 1e6:,.0f}"


def _honest_row(name: str, each: Mapping[str, Any]) -> tuple[str, ...]:
    def bounds(which: str) -> str:
        low, high = each[f"{which}_bounds"]
        return f"{low * 1e6:,.0f}-{high * 1e6:,.0f}"

    return (
        name,
        f"{each['votes']:,}",
        _ppm_text(each["refused"], each["votes"]),
        bounds("refused"),
        _ppm_text(each["held"], each["votes"]),
        bounds("held"),
        f"{each['restored_share']:.1%}" if each["held"] else "",
        _ppm_text(each["challenged"], each["votes"]),
        _ppm_text(each["gave_up"], each["votes"]),
    )


def _attack_row(name: str, size: str, camouflage: str, cell: Mapping[str, Any]) -> tuple[str, ...]:
    times = cell["time_to_detect"].get("1h")
    cost = cell["cost_per_kept_vote_yuan"]
    low, high = cell["recall_bounds"]
    return (
        name,
        f"{int(size):,}",
        camouflage,
        f"{cell['votes']:,}",
        f"{cell['kept']:,}",
        f"{cell['recall']:.3f}",
        f"{low:.3f}-{high:.3f}",
        f"{cell['mostly_stopped']}/{cell['attacks']}",
        f"{cell['refused']:,}",
        f"{cell['held']:,}",
        f"{cell['held_by_flag']:,}",
        f"{cell['challenged']:,}",
        f"{cell['restored']:,}",
        "-" if cost is None else f"{cost:.2f}",
        ""
        if times is None
        else "never"
        if times["median_seconds"] is None
        else f"{times['median_seconds']:,.0f} s",
    )


def ours(document: Mapping[str, Any]) -> dict[str, float]:
    """Everything together: what screening, limits and detectors stopped, against whom they hit."""
    cells = [
        cell
        for by_size in document["attacks"].values()
        for by_camouflage in by_size.values()
        for cell in by_camouflage.values()
    ]
    votes = sum(cell["votes"] for cell in cells)
    stopped = votes - sum(cell["kept"] for cell in cells)
    honest = document["honest"]
    hit = honest["refused"] + honest["held"]
    gathered = [honest["by_group"][name] for name in GATHERED if name in honest["by_group"]]
    gathered_votes = sum(each["votes"] for each in gathered)
    gathered_hit = sum(each["held"] + each["refused"] for each in gathered)
    return {
        "precision": stopped / (stopped + hit) if stopped + hit else 1.0,
        "recall": stopped / max(1, votes),
        "honest_share": hit / max(1, honest["votes"]),
        "campus_and_employer_share": gathered_hit / max(1, gathered_votes),
    }


def _ours_row(document: Mapping[str, Any]) -> tuple[str, ...]:
    own = ours(document)
    return (
        "dianzan, all of it",
        "-",
        f"{own['precision']:.3f}",
        f"{own['recall']:.3f}",
        f"{own['honest_share'] * 1e6:,.0f} ppm",
        f"{own['campus_and_employer_share']:.1%}",
    )
