"""The report as one page that needs nothing else: no script, no network."""

import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 240, 60, 28

Points = Sequence[tuple[float, float]]


def as_page(report: dict[str, Any]) -> str:
    """HTML of the document that `loadtest.swarm.merged` makes."""
    seconds = report["by_second"]
    over_time = {
        name: [(each["second"], each[key]) for each in seconds]
        for name, key in (
            ("answers", "answers"),
            ("refused", "refused"),
            ("unexpected", "unexpected"),
            ("p50", "p50_ms"),
            ("p99", "p99_ms"),
            ("max", "max_ms"),
        )
    }
    curves: dict[str, Points] = {
        kind: [(-math.log10(1 - share / 100), ms) for share, ms in seen["curve"]]
        for kind, seen in report["kinds"].items()
    }
    offered: dict[str, Points] = {
        name: [(each["offered_per_s"], each[key]) for each in seconds]
        for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"))
        if len({each["offered_per_s"] for each in seconds}) > 1
    }
    nines = [(0.0, "0 %"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99")]
    charts = [
        (
            "Requests a second",
            _chart({n: over_time[n] for n in ("answers", "refused", "unexpected")}),
        ),
        ("Latency over time, ms", _chart({n: over_time[n] for n in ("p50", "p99", "max")})),
        ("Latency by percentile, ms", _chart(curves, nines)),
    ]
    if offered:
        charts.append(
            ("Latency over the requests offered a second, ms", _chart(offered, unit="/s"))
        )
    pages = Environment(loader=PackageLoader("loadtest", "."), autoescape=True)
    return pages.get_template("report_page.html").render(report=report, charts=charts)


def _chart(
    lines: dict[str, Points],
    marks: Sequence[tuple[float, str]] | None = None,
    unit: str = " s",
) -> dict[str, Any]:
    """What the template draws: each line's name and points, and the marks of both axes; without
    `marks` those across are round numbers of `unit`."""
    right = max([1.0, *(x for points in lines.values() for x, _ in points)])
    top = _round_up(max([0.001, *(y for points in lines.values() for _, y in points)]))
    if marks is None:
        step = _round_up(right / 6)
        marks = [(n * step, f"{n * step:,.12g}{unit}") for n in range(int(right / step) + 1)]

    def across(x: float) -> float:
        return round(_LEFT + x / right * (_WIDTH - _LEFT - 16), 1)

    def down(y: float) -> float:
        return round(_HEIGHT - _BOTTOM - y / top * (_HEIGHT - _BOTTOM - 12), 1)

    return {
        "lines": [
            (name, " ".join(f"{across(x)},{down(y)}" for x, y in points))
            for name, points in lines.items()
        ],
        "across": [(across(x), text) for x, text in marks if x <= right],
        "down": [(down(top * n / 4), f"{top * n / 4:g}") for n in range(5)],
    }


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8, 10 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 4, 5, 8, 10) if unit * step >= value * 0.999999)
