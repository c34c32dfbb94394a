"""The report as one page that needs nothing else: no script, no network, pictures drawn here."""

from collections.abc import Mapping
from math import log10
from typing import Any

from jinja2 import Environment, PackageLoader

from loadtest.rehearsal.attackers import ATTACKERS, CAMOUFLAGES
from loadtest.rehearsal.report import KEPT_PER_1000, SEEN, ours

_WIDE, _LABEL, _BAR, _GAP = 640, 160, 14, 8


def as_page(document: Mapping[str, Any]) -> str:
    """HTML of the document that `evaluate.as_document` makes."""
    pages = Environment(loader=PackageLoader("loadtest.rehearsal", "."), autoescape=True)
    return pages.get_template("report_page.html").render(
        document=document,
        honest=_honest_bars(document),
        heat=_heat_map(document),
        beside=_beside(document),
        times=_times(document),
        costs=_costs(document),
        attackers=ATTACKERS,
        seen=SEEN,
        kept_per_1000=KEPT_PER_1000,
    )


def _honest_bars(document: Mapping[str, Any]) -> dict[str, Any]:
    """Held and refused in each group, in ppm, on a scale whose marks are powers of ten: with the
    whisker up to the upper bound."""
    rows = []
    groups = [("all", document["honest"]), *document["honest"]["by_group"].items()]
    for place, (name, each) in enumerate(groups):
        votes = max(1, each["votes"])
        hit = (each["held"] + each["refused"]) / votes * 1e6
        upper = max(each["held_bounds"][1], each["refused_bounds"][1]) * 1e6
        rows.append(
            {
                "name": name,
                "y": place * (_BAR + _GAP) + 24,
                "width": round(_on_powers(hit), 1),
                "upper": round(_LABEL + _on_powers(upper), 1),
                "text": f"{hit:,.0f} ppm of {each['votes']:,}",
            }
        )
    marks = [(round(_LABEL + _on_powers(10.0**power), 1), text) for power, text in _PPM_MARKS]
    return {
        "rows": rows,
        "marks": marks,
        "left": _LABEL,
        "target": round(_LABEL + _on_powers(100), 1),
        "height": len(rows) * (_BAR + _GAP) + 30,
    }


_PPM_MARKS = ((0, "1"), (1, "10"), (2, "100 ppm"), (3, "1,000"), (4, "1 %"), (5, "10 %"))


def _on_powers(ppm: float) -> float:
    """0 at half a ppm, the whole width at 100 %."""
    return max(0.0, (log10(max(ppm, 0.5)) - log10(0.5)) / (6 - log10(0.5)) * (_WIDE - _LABEL - 20))


_CELL, _CELL_HIGH, _HEAT_LEFT, _HEAT_TOP, _HEAT_LEAST = 25, 24, 190, 46, 68


def _heat_map(document: Mapping[str, Any]) -> dict[str, Any]:
    """Recall of each attack by size and camouflage: a square each, dark = found."""
    sizes = sorted({int(size) for by_size in document["attacks"].values() for size in by_size})
    # A block of columns for each camouflage, wide enough for its name.
    block = max(_HEAT_LEAST, len(sizes) * _CELL + 8)
    squares = []
    for row, (name, by_size) in enumerate(document["attacks"].items()):
        for size, by_camouflage in by_size.items():
            for camouflage, cell in by_camouflage.items():
                if camouflage not in CAMOUFLAGES:
                    continue
                place = CAMOUFLAGES.index(camouflage) * block + sizes.index(int(size)) * _CELL
                squares.append(
                    {
                        "x": _HEAT_LEFT + place,
                        "y": _HEAT_TOP + row * _CELL_HIGH,
                        "share": cell["recall"],
                        "text": f"{cell['recall'] * 100:.0f}",
                        "title": f"{name}, {int(size):,} votes, {camouflage}: {cell['kept']:,} of "
                        f"{cell['votes']:,} kept",
                    }
                )
    return {
        "squares": squares,
        "rows": [
            (
                f"{name} {ATTACKERS[name].what}" if name in ATTACKERS else name,
                _HEAT_TOP + row * _CELL_HIGH,
            )
            for row, name in enumerate(document["attacks"])
        ],
        "sizes": [
            (_HEAT_LEFT + number * block + (place + 0.5) * _CELL, _short(size))
            for number in range(len(CAMOUFLAGES))
            for place, size in enumerate(sizes)
        ],
        "camouflages": [
            (_HEAT_LEFT + number * block, camouflage)
            for number, camouflage in enumerate(CAMOUFLAGES)
        ],
        "width": _HEAT_LEFT + len(CAMOUFLAGES) * block,
        "height": _HEAT_TOP + 4 + len(document["attacks"]) * _CELL_HIGH,
    }


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 else str(size)


def _beside(document: Mapping[str, Any]) -> dict[str, Any]:
    """What each rule finds, and what it takes for an attack of the campuses and companies."""
    rules = [
        (name, each["precision"], each["recall"], each["campus_and_employer_flagged_share"])
        for name, each in document["baselines"].items()
    ]
    own = ours(document)
    rules.append(("dianzan", own["precision"], own["recall"], own["campus_and_employer_share"]))
    rows = []
    for number, (name, precision, recall, campus) in enumerate(rules):
        top = 10 + number * 74
        bars = [
            ("precision", precision, "good"),
            ("recall", recall, "good"),
            ("bursts of campuses hit", campus, "bad"),
        ]
        rows.append(
            {
                "name": name,
                "y": top + 10,
                "bars": [
                    {
                        "y": top + 16 + place * 18,
                        "label": label,
                        "width": round(share * 380, 1),
                        "text": f"{share:.1%}",
                        "kind": kind,
                    }
                    for place, (label, share, kind) in enumerate(bars)
                ],
            }
        )
    return {"rows": rows, "height": 14 + len(rows) * 74}


def _times(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attacks of an hour: how long until they are detected."""
    made = []
    for name, by_size in document["attacks"].items():
        for size, by_camouflage in by_size.items():
            for camouflage, cell in by_camouflage.items():
                times = cell["time_to_detect"].get("1h")
                if times is None or int(size) < 1_000:
                    continue
                made.append(
                    {
                        "attack": name,
                        "size": int(size),
                        "camouflage": camouflage,
                        "median": times["median_seconds"],
                        "longest": times["longest_seconds"],
                        "detected": f"{times['detected']} of {times['attacks']}",
                    }
                )
    return made


def _costs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Yuan per counted vote, by attack and camouflage, over sizes of 1,000 and more."""
    made = []
    for name, by_size in document["attacks"].items():
        row: dict[str, Any] = {"attack": name}
        for camouflage in CAMOUFLAGES:
            costs = [
                cell["cost_per_kept_vote_yuan"]
                for size, by_camouflage in by_size.items()
                if int(size) >= 1_000
                for kind, cell in by_camouflage.items()
                if kind == camouflage
            ]
            kept = [cost for cost in costs if cost is not None]
            row[camouflage] = min(kept) if kept else ("nothing kept" if costs else "")
        made.append(row)
    return made
