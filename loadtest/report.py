"""What a bench says: figures against their targets, as a table and as JSON."""

import statistics
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec


class Figure(msgspec.Struct):
    """One figure, measured in rounds; the median counts."""

    name: str
    what: str
    unit: str
    rounds: list[float]
    target: float | None = None
    """None = measured and said, nothing is promised."""
    at_most: bool = True
    """Whether the target is a ceiling or a floor."""
    details: dict[str, Any] = {}

    @property
    def measured(self) -> float:
        return statistics.median(self.rounds)

    @property
    def holds(self) -> bool | None:
        if self.target is None:
            return None
        return self.measured <= self.target if self.at_most else self.measured >= self.target

    def as_json(self) -> dict[str, Any]:
        as_built: dict[str, Any] = msgspec.to_builtins(self)
        return as_built | {"measured": self.measured, "holds": self.holds}


def median_of(rounds: Sequence[float]) -> float:
    return statistics.median(rounds)


def number(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns by width as a terminal shows it; the first is text, the others are to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    shown = []
    for line in lines:
        cells = [
            cell + " " * (width - _width(cell)) if n == 0 else " " * (width - _width(cell)) + cell
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(cells).rstrip())
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def figures_table(figures: Sequence[Figure]) -> str:
    words = {True: "yes", False: "NO", None: ""}
    return table(
        ("figure", "measured", "target", "holds", "rounds"),
        [
            (
                figure.what,
                f"{number(figure.measured)} {figure.unit}".strip(),
                ""
                if figure.target is None
                else f"{'<=' if figure.at_most else '>='} {number(figure.target)}",
                words[figure.holds],
                " ".join(map(number, figure.rounds)),
            )
            for figure in figures
        ],
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
