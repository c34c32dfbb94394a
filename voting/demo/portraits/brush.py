"""Drawing by hand, in code: shapes, ink lines and brush strokes that become SVG text.

Standard library only. Nothing here is random, so that the same code draws the same picture.
"""

import math
from collections.abc import Iterable, Sequence

Point = tuple[float, float]

INK = "#2b2420"


def number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def scatter(index: int, spread: float = 1.0) -> float:
    """A fixed, irregular number in [-spread, spread] for this index."""
    wave = math.sin(index * 12.9898 + 4.1414) * 43758.5453
    return ((wave - math.floor(wave)) * 2 - 1) * spread


def through(points: Sequence[Point], steps: int = 14) -> list[Point]:
    """A smooth line through the points (Catmull-Rom)."""
    ends = [points[0], *points, points[-1]]
    line: list[Point] = []
    for (x0, y0), (x1, y1), (x2, y2), (x3, y3) in zip(
        ends, ends[1:], ends[2:], ends[3:], strict=False
    ):
        for step in range(steps):
            t = step / steps
            t2, t3 = t * t, t * t * t
            line.append(
                (
                    0.5
                    * (
                        2 * x1
                        + (x2 - x0) * t
                        + (2 * x0 - 5 * x1 + 4 * x2 - x3) * t2
                        + (3 * x1 - x0 - 3 * x2 + x3) * t3
                    ),
                    0.5
                    * (
                        2 * y1
                        + (y2 - y0) * t
                        + (2 * y0 - 5 * y1 + 4 * y2 - y3) * t2
                        + (3 * y1 - y0 - 3 * y2 + y3) * t3
                    ),
                )
            )
    return [*line, points[-1]]


def polygon(points: Iterable[Point], *, closed: bool = True) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) + ("Z" if closed else "")


def arc(x: float, y: float, radius: float, start: float, end: float) -> list[Point]:
    """Points on a circle, degrees clockwise from the right."""
    steps = max(6, int(abs(end - start) / 6))
    return [
        (
            x + radius * math.cos(math.radians(start + (end - start) * i / steps)),
            y + radius * math.sin(math.radians(start + (end - start) * i / steps)),
        )
        for i in range(steps + 1)
    ]


class Sheet:
    """A pile of SVG elements, the first one lowest."""

    def __init__(self) -> None:
        self._elements: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._elements)

    def add(self, element: str) -> None:
        self._elements.append(element)

    def within(self, content: "Sheet", attributes: str) -> None:
        self.add(f"<g {attributes}>\n{content}\n</g>")

    def path(
        self,
        d: str,
        fill: str = "none",
        stroke: str = INK,
        width: float = 0,
        opacity: float = 1,
    ) -> None:
        line = (
            f' stroke="{stroke}" stroke-width="{number(width)}" stroke-linecap="round"'
            ' stroke-linejoin="round"'
            if width
            else ""
        )
        faint = f' opacity="{opacity:g}"' if opacity != 1 else ""
        self.add(f'<path d="{d}" fill="{fill}"{line}{faint}/>')

    def shape(
        self,
        points: Sequence[Point],
        fill: str,
        width: float = 0,
        stroke: str = INK,
        opacity: float = 1,
    ) -> None:
        """A closed smooth blob through the points."""
        count = len(points)
        # Three times round and the middle taken, so that the seam is as smooth as the rest.
        line = through([*points, *points, *points, points[0]])[count * 14 : count * 28]
        self.path(polygon(line), fill, stroke, width, opacity)

    def flat(
        self,
        points: Sequence[Point],
        fill: str,
        width: float = 0,
        stroke: str = INK,
        opacity: float = 1,
    ) -> None:
        """A closed shape with straight sides."""
        self.path(polygon(points), fill, stroke, width, opacity)

    def line(
        self,
        points: Sequence[Point],
        stroke: str = INK,
        width: float = 3,
        opacity: float = 1,
    ) -> None:
        """A smooth line of even width."""
        smooth = through(points) if len(points) > 2 else points
        self.path(polygon(smooth, closed=False), "none", stroke, width, opacity)

    def dot(
        self,
        x: float,
        y: float,
        radius: float,
        fill: str,
        width: float = 0,
        stroke: str = INK,
        opacity: float = 1,
    ) -> None:
        self.oval(x, y, radius, radius, fill, width, stroke, opacity)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: str,
        width: float = 0,
        stroke: str = INK,
        opacity: float = 1,
        turn: float = 0,
    ) -> None:
        line = f' stroke="{stroke}" stroke-width="{number(width)}"' if width else ""
        faint = f' opacity="{opacity:g}"' if opacity != 1 else ""
        turned = f' transform="rotate({number(turn)} {number(x)} {number(y)})"' if turn else ""
        self.add(
            f'<ellipse cx="{number(x)}" cy="{number(y)}" rx="{number(rx)}" ry="{number(ry)}"'
            f' fill="{fill}"{line}{faint}{turned}/>'
        )

    def box(
        self,
        x: float,
        y: float,
        wide: float,
        high: float,
        fill: str,
        width: float = 0,
        stroke: str = INK,
        round_by: float = 0,
        opacity: float = 1,
    ) -> None:
        line = f' stroke="{stroke}" stroke-width="{number(width)}"' if width else ""
        faint = f' opacity="{opacity:g}"' if opacity != 1 else ""
        self.add(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(wide)}" height="{number(high)}"'
            f' rx="{number(round_by)}" fill="{fill}"{line}{faint}/>'
        )

    def brush(
        self,
        points: Sequence[Point],
        width: float,
        fill: str = INK,
        press: str = "both",
        opacity: float = 1,
    ) -> None:
        """A stroke that swells and thins as a brush's does.

        press: `both` thins at both ends, `out` starts full and thins, `in` the reverse.
        """
        line = through(points, 10)
        left: list[Point] = []
        right: list[Point] = []
        last = len(line) - 1
        for i, (x, y) in enumerate(line):
            t = i / last
            (ax, ay), (bx, by) = line[max(0, i - 1)], line[min(last, i + 1)]
            length = math.hypot(bx - ax, by - ay) or 1
            swell = {
                "both": math.sin(math.pi * min(1, max(0, t * 0.94 + 0.03))) ** 0.75,
                "out": (1 - t) ** 0.7 * min(1, 0.45 + t * 6),
                "in": t**0.7,
            }[press]
            half = width * swell / 2 + 0.4
            nx, ny = -(by - ay) / length * half, (bx - ax) / length * half
            left.append((x + nx, y + ny))
            right.append((x - nx, y - ny))
        self.path(polygon([*left, *reversed(right)]), fill, opacity=opacity)
