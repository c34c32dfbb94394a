"""The cover of the demo campaign: what the twelve left behind, under the night sky.

Drawn of the same things as the portraits, without any person or text, in the shape of a card that
is shared.
"""

from voting.demo.portraits import figure, things
from voting.demo.portraits.brush import Point, Sheet, scatter

WIDE, HIGH = 1200, 675
_TABLE = 592.0
_SCALE = 0.5
"""Of the portraits' things."""
_THINGS = (
    # what, where its own left edge comes, in the order of the table
    (things.seismoscope, 36),
    (things.movable_type, 226),
    (things.cotton, 690),
)


def cover() -> str:
    """The whole SVG."""
    sheet = Sheet()
    sheet.add(f'<rect width="{WIDE}" height="{HIGH}" fill="url(#sky)"/>')
    drawn = Sheet()
    _stars(drawn)
    drawn.dot(850, 300, 205, "#f3dfae", opacity=0.95)
    rings = Sheet()
    things.armillary(rings)
    drawn.within(rings, 'transform="translate(593 49) scale(.535)"')
    _mountains(drawn)
    _table(drawn)
    for thing, left in _THINGS:
        standing = Sheet()
        thing(standing)
        at = f"translate({left} {_TABLE - 1062 * _SCALE:g}) scale({_SCALE})"
        drawn.within(standing, f'transform="{at}"')
    sheet.within(drawn, 'filter="url(#hand)"')
    return _DOCUMENT.format(wide=WIDE, high=HIGH, content=sheet)


def _stars(sheet: Sheet) -> None:
    for n in range(90):
        x, y = WIDE * (scatter(n) + 1) / 2, 400 * (scatter(n + 500) + 1) / 2
        sheet.dot(x, y, 1.2 + (scatter(n + 900) + 1), "#fdf3d3", opacity=0.75)
    dipper: list[Point] = [
        *((132, 214), (214, 176), (282, 186), (352, 212), (372, 276), (468, 284), (480, 214)),
        (352, 212),
    ]
    sheet.path(
        "M" + "L".join(f"{x} {y}" for x, y in dipper), stroke="#f1d48a", width=2, opacity=0.8
    )
    for x, y in dipper[:-1]:
        sheet.dot(x, y, 6.5, "#ffe9b0")


def _mountains(sheet: Sheet) -> None:
    for at, high, colour in ((420, 92, "#4a688a"), (476, 74, "#36516f"), (530, 52, "#263c56")):
        ridge: list[Point] = [(-20, HIGH)]
        ridge += [(x, at - high * (0.5 + scatter(x + at, 0.5))) for x in range(-20, WIDE + 80, 75)]
        ridge.append((WIDE + 60, HIGH))
        sheet.flat(ridge, colour)
    for n in range(5):
        y = 470 + n * 22
        x = 120 + 210 * n
        sheet.brush([(x, y), (x + 150, y - 5), (x + 330, y + 2)], 9, "#e8dcc0", opacity=0.16)


def _table(sheet: Sheet) -> None:
    wood = "#5a3d2b"
    sheet.box(-20, _TABLE, WIDE + 40, 26, figure.lighter(wood), 2.4)
    sheet.box(-20, _TABLE + 26, WIDE + 40, 120, wood, 2.4)
    for x in range(-30, WIDE + 40, 44):
        sheet.path(
            f"M{x} {_TABLE + 66}V{_TABLE + 44}H{x + 30}"
            f"V{_TABLE + 60}H{x + 12}V{_TABLE + 52}H{x + 21}",
            stroke=figure.lighter(wood),
            width=2,
            opacity=0.8,
        )


_DOCUMENT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">
<defs>
<linearGradient id="sky" x1="0" y1="0" x2="0" y2="1">
<stop offset="0" stop-color="#1c2d4c"/>
<stop offset=".5" stop-color="#42618a"/>
<stop offset=".72" stop-color="#d3a27a"/>
</linearGradient>
<filter id="hand" x="0" y="0" width="100%" height="100%">
<feTurbulence type="fractalNoise" baseFrequency=".018" numOctaves="3" seed="7" result="wave"/>
<feDisplacementMap in="SourceGraphic" in2="wave" scale="4" xChannelSelector="R" \
yChannelSelector="G"/>
</filter>
<clipPath id="moon"><circle cx="480" cy="470" r="400"/></clipPath>
</defs>
{content}
</svg>
"""
