"""Pictures of a case: how its votes are spread beside everybody's, as SVG made on the server.

As in charts.py: attributes and classes alone, in two shapes for wide and narrow screens, each with
a title and a description; pages give the same numbers in a table.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from tally.console.charts import Shape, scale

HERE, USUAL = 1, 6
"""Colours: the case's votes, and what is usual."""


class Column(NamedTuple):
    """One value, and how often it is here and usually: shares from 0 to 1."""

    label: str
    here: float
    usual: float | None


_WIDE = Shape("only-wide", 620, 200, 46, 9)
_NARROW = Shape("only-narrow", 340, 180, 44, 5)
_TOP, _BOTTOM, _RIGHT = 10, 24, 8


def columns(title: str, description: str, values: Sequence[Column]) -> Markup:
    """Pairs of columns in the values' order, the case's before the usual one; empty where there is
    nothing to draw."""
    if not values:
        return Markup("")
    return Markup("").join(
        _columns(shape, title, description, values) for shape in (_WIDE, _NARROW)
    )


def _columns(shape: Shape, title: str, description: str, values: Sequence[Column]) -> Markup:
    across = shape.width - shape.left - _RIGHT
    down = shape.height - _TOP - _BOTTOM
    top, ticks = scale(100 * max(max(one.here, one.usual or 0.0) for one in values))
    step = across / len(values)
    wide = max(1.0, step * 0.38)
    parts = [
        Markup(
            '<svg class="chart columns {}" viewBox="0 0 {} {}" width="{}" height="{}" role="img"'
            ' aria-label="{}"><title>{}</title><desc>{}</desc>'
        ).format(
            shape.name, shape.width, shape.height, shape.width, shape.height,
            title, title, description,
        )
    ]  # fmt: skip
    for tick in ticks:
        at = round(_TOP + down * (1 - tick / top), 1)
        parts.append(
            Markup(
                '<path class="{}" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{} %</text>'
            ).format(
                "grid" if tick else "axis", shape.left, at, shape.width - _RIGHT,
                shape.left - 6, round(at + 4, 1), f"{tick:g}",
            )
        )  # fmt: skip
    every = -(-len(values) // shape.labels)
    for number, one in enumerate(values):
        left = shape.left + step * number + step / 2
        told = f"{one.label}: {100 * one.here:.1f} %"
        if one.usual is not None:
            told += f" / {100 * one.usual:.1f} %"
        parts.append(Markup("<g><title>{}</title>").format(told))
        for colour, share, at in (
            (HERE, one.here, left - wide),
            (USUAL, one.usual, left),
        ):
            if share:
                high = down * min(1.0, 100 * share / top)
                parts.append(
                    Markup('<rect class="s{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        colour, round(at, 1), round(_TOP + down - high, 1), round(wide, 1),
                        round(high, 1),
                    )
                )  # fmt: skip
        parts.append(Markup("</g>"))
        if number % every == every // 2:
            parts.append(
                Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    round(left, 1), shape.height - 7, one.label
                )
            )
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)
