"""Charts, as SVG made on the server: courses over time, bars, spark lines.

Everything that a browser shows of them comes from attributes and classes (console.css), for the
console's policy allows no inline style; so light and dark need no second chart. A course comes in
two shapes, for wide and for narrow screens: text in a scaled drawing would scale with it. Each
has a title and a description; pages give the same numbers in a table to whoever reads no pictures.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a course: a value for each of its moments, None where there is none."""

    label: str
    values: Sequence[float | None]
    colour: int = 1
    """1 to 6: class s1 to s6."""
    filled: bool = False


class Shape(NamedTuple):
    """Units are CSS pixels at the width that the shape is meant for."""

    name: str
    width: int
    height: int
    left: int
    labels: int
    """Of the time axis, at most."""


_WIDE = Shape("only-wide", 840, 250, 52, 9)
_NARROW = Shape("only-narrow", 340, 210, 44, 4)
_TOP, _BOTTOM, _RIGHT = 12, 26, 10
_LINE_ACROSS = Markup(
    '<path class="{}" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
)
_MARK_BELOW = Markup(
    '<path class="grid" d="M{} {}v5"/><text x="{}" y="{}" text-anchor="{}">{}</text>'
)


def course(
    title: str,
    description: str,
    moments: Sequence[datetime],
    series: Sequence[Series],
) -> Markup:
    """Values over time, in both shapes. `moments` ascend, and are in the zone that their labels are
    to show. Empty where there is nothing to draw: the caller says so in words."""
    if len(moments) < 2:
        return Markup("")
    return Markup("").join(
        _course(shape, title, description, moments, series) for shape in (_WIDE, _NARROW)
    )


def _course(
    shape: Shape,
    title: str,
    description: str,
    moments: Sequence[datetime],
    series: Sequence[Series],
) -> Markup:
    known = [value for one in series for value in one.values if value is not None]
    top, ticks = scale(max(known, default=0.0))
    first, last = moments[0].timestamp(), moments[-1].timestamp()
    across = shape.width - shape.left - _RIGHT
    down = shape.height - _TOP - _BOTTOM

    def x(moment: datetime) -> float:
        return shape.left + across * (moment.timestamp() - first) / (last - first)

    def y(value: float) -> float:
        return _TOP + down * (1 - value / top)

    parts = [_opening(f"chart {shape.name}", shape.width, shape.height, title, description)]
    for tick in ticks:
        at = _round(y(tick))
        parts.append(
            _LINE_ACROSS.format(
                "grid" if tick else "axis",
                *(shape.left, at, shape.width - _RIGHT),
                *(shape.left - 7, _round(y(tick) + 4), short(tick)),
            )
        )
    for moment, label in time_labels(moments[0], moments[-1], shape.labels):
        at = _round(x(moment))
        parts.append(
            _MARK_BELOW.format(
                at, _TOP + down, at, shape.height - 8, _anchor(x(moment), shape), label
            )
        )
    places = [x(moment) for moment in moments]
    for one in series:
        for run in _runs(places, one.values):
            line = "L".join(f"{_round(at)} {_round(y(value))}" for at, value in run)
            if one.filled:
                parts.append(
                    Markup('<path class="area s{}" d="M{} {}L{}L{} {}Z"/>').format(
                        one.colour, _round(run[0][0]), _round(y(0)), line,
                        _round(run[-1][0]), _round(y(0)),
                    )
                )  # fmt: skip
            parts.append(Markup('<path class="s{}" d="M{}"/>').format(one.colour, line))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _opening(classes: str, width: int, height: int, title: str, description: str) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        "<title>{}</title><desc>{}</desc>"
    ).format(classes, width, height, width, height, title, title, description)


def _anchor(at: float, shape: Shape) -> str:
    """Labels at the ends stay inside."""
    if at < shape.left + 18:
        return "start"
    return "end" if at > shape.width - 30 else "middle"


def _runs(
    places: Sequence[float], values: Sequence[float | None]
) -> list[list[tuple[float, float]]]:
    """Neighbours that have a value; a gap ends a line."""
    found: list[list[tuple[float, float]]] = []
    open_ = False
    for at, value in zip(places, values, strict=True):
        if value is None:
            open_ = False
            continue
        if not open_:
            found.append([])
            open_ = True
        found[-1].append((at, value))
    return found


def _round(number: float) -> str | float:
    """A tenth of a pixel is enough, and shorter."""
    rounded = round(number, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def scale(most: float) -> tuple[float, list[float]]:
    """(top of the axis, its ticks from 0 on): 1, 2 or 5 times a power of ten apart, three to six of
    them, so that the highest value is below the top or on it."""
    if not most > 0 or not math.isfinite(most):
        return 1.0, [0.0, 1.0]
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999999)
    steps = max(1, math.ceil(most / step - 1e-9))
    return step * steps, [step * n for n in range(steps + 1)]


def short(value: float) -> str:
    """For an axis: 950, 1.2k, 35k, 1.5M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}".removesuffix(".0") + unit
    return f"{value:.2f}".rstrip("0").rstrip(".")


_TIME_STEPS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 10080, 20160)
)


def time_labels(first: datetime, last: datetime, most: int) -> list[tuple[datetime, str]]:
    """Round moments of the zone between the two, with what to write there: hours and minutes, the
    date at midnight, and only dates where days are apart. `most` of them at most, but one."""
    span = last - first
    step = next((step for step in _TIME_STEPS if span / step <= most), _TIME_STEPS[-1] * 2)
    zone = first.tzinfo
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    at = midnight + step * math.ceil((first - midnight) / step)
    found = []
    # By the clock on the wall: labels stay round over a change of the clock.
    while at <= last:
        is_midnight = at.hour == at.minute == 0
        found.append((at, at.strftime("%m-%d" if is_midnight else "%H:%M")))
        at = (at.replace(tzinfo=None) + step).replace(tzinfo=zone)
    return found[:most]


def spark(title: str, values: Sequence[float], *, colour: int = 1) -> Markup:
    """A small line without axes, 160 by 36; empty for fewer than two values."""
    if len(values) < 2:
        return Markup("")
    width, height, most = 160, 36, max(*values, 1e-9)
    places = [
        (width * n / (len(values) - 1), 3 + (height - 6) * (1 - max(0.0, value) / most))
        for n, value in enumerate(values)
    ]
    line = "L".join(f"{_round(x)} {_round(y)}" for x, y in places)
    return Markup(
        '{}<path class="area s{}" d="M0 {}L{}L{} {}Z"/><path class="s{}" d="M{}"/></svg>'
    ).format(
        _opening("chart spark", width, height, title, title),
        colour, height, line, width, height, colour, line,
    )  # fmt: skip


def bar(share: float, *, colour: int = 1, title: str = "") -> Markup:
    """One horizontal bar: a share of the whole width."""
    return Markup(
        '<svg class="chart barline" viewBox="0 0 100 8" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><rect class="track" width="100" height="8"/>'
        '<rect class="s{}" width="{}" height="8"/></svg>'
    ).format(title, colour, _round(100 * min(1.0, max(0.0, share))))


class Slice(NamedTuple):
    """One part of a whole."""

    label: str
    amount: float
    colour: int


def stack(title: str, slices: Sequence[Slice]) -> Markup:
    """One bar of parts that make a whole, largest first as given; empty where there is nothing."""
    whole = sum(one.amount for one in slices)
    if not whole:
        return Markup("")
    ends = [0.0, *itertools.accumulate(100 * one.amount / whole for one in slices)]
    parts = [
        Markup('<rect class="s{}" x="{}" width="{}" height="14"><title>{}</title></rect>').format(
            one.colour, round(start, 3), round(end - start, 3), one.label
        )
        for one, (start, end) in zip(slices, itertools.pairwise(ends), strict=True)
        if one.amount
    ]
    return Markup(
        '<svg class="chart stack" viewBox="0 0 100 14" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(title, Markup("").join(parts))


def legend(labels: Sequence[tuple[str, int]]) -> Markup:
    """What the colours mean."""
    return Markup('<p class="legend">{}</p>').format(
        Markup("").join(
            Markup('<span><i class="s{}"></i>{}</span>').format(colour, label)
            for label, colour in labels
        )
    )
