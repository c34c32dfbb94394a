"""What each sitter is known for: motifs in the moon behind, things on the table before."""

from math import atan2, cos, degrees, radians, sin

from voting.demo.portraits.brush import INK, Point, Sheet, arc, polygon, scatter, through

MOON = (480.0, 470.0, 400.0)
"""Centre and radius of the moon behind every head; the clip path "moon" is the same."""

PALE = "#f3e4d4"


def star_seal(sheet: Sheet) -> None:
    """天文历算: three stars joined by a line."""
    points = [(16.0, 50.0), (34.0, 18.0), (55.0, 40.0)]
    sheet.line([points[0], points[1]], PALE, 3)
    sheet.line([points[1], points[2]], PALE, 3)
    for x, y in points:
        sheet.dot(x, y, 7, PALE)


def leaf_seal(sheet: Sheet) -> None:
    """医药农学: a sprig."""
    sheet.line([(35, 58), (35, 16)], PALE, 4)
    for y in (26, 40):
        sheet.shape([(35, y + 10), (48, y - 8), (58, y - 8), (52, y + 4)], PALE)
        sheet.shape([(35, y + 10), (22, y - 8), (12, y - 8), (18, y + 4)], PALE)


def tool_seal(sheet: Sheet) -> None:
    """工艺技术: a square and a hammer."""
    sheet.line([(18, 56), (50, 24)], PALE, 6)
    sheet.flat([(34, 14), (56, 36), (48, 44), (26, 22)], PALE)
    sheet.line([(16, 16), (16, 34)], PALE, 4)
    sheet.line([(40, 56), (56, 56)], PALE, 4)


BRONZE, BRONZE_DARK, BRONZE_LIT = "#6f8a6a", "#465c47", "#9db38c"
JADE = "#6f9c86"


def _ring(sheet: Sheet, rx: float, ry: float, turn: float, width: float, colour: str) -> None:
    x, y, _ = MOON
    sheet.oval(x, y, rx, ry, "none", width, colour, turn=turn)


def armillary(sheet: Sheet) -> None:
    colour, dark = "#8a6a34", "#6b4f24"
    _ring(sheet, 372, 372, 0, 15, colour)
    _ring(sheet, 372, 372, 0, 2, "#e7cf98")
    _ring(sheet, 350, 128, -24, 12, colour)
    _ring(sheet, 350, 128, -24, 2, "#e7cf98")
    _ring(sheet, 350, 150, 34, 12, dark)
    _ring(sheet, 120, 356, 12, 12, colour)
    for i in range(72):
        a = radians(i * 5)
        long = 14 if i % 6 == 0 else 7
        x, y, _ = MOON
        sheet.line(
            [
                (x + 372 * cos(a), y + 372 * sin(a)),
                (x + (372 - long) * cos(a), y + (372 - long) * sin(a)),
            ],
            "#4d3717",
            2,
        )
    stars(sheet, 26, "#fbf1d6")


def stars(sheet: Sheet, count: int, colour: str, reach: float = 330) -> None:
    x, y, _ = MOON
    for i in range(count):
        angle = radians(i * 137.5)
        far = 190 + (reach - 190) * abs(scatter(i + 3))
        sheet.dot(x + far * cos(angle), y + far * sin(angle) - 20, 3.5 + abs(scatter(i, 4)), colour)


def seismoscope(sheet: Sheet) -> None:
    x, base = 196.0, 1128.0
    sheet.oval(x, base, 142, 20, "#00000044")
    # The jar: lid, neck, belly, foot.
    sheet.shape(
        [
            (x - 62, base - 16),
            (x - 112, base - 90),
            (x - 112, base - 170),
            (x - 70, base - 226),
            (x, base - 240),
            (x + 70, base - 226),
            (x + 112, base - 170),
            (x + 112, base - 90),
            (x + 62, base - 16),
            (x, base - 8),
        ],
        BRONZE,
        3.4,
    )
    sheet.shape(
        [
            (x + 20, base - 14),
            (x + 60, base - 100),
            (x + 50, base - 220),
            (x + 96, base - 196),
            (x + 110, base - 130),
            (x + 96, base - 60),
            (x + 62, base - 18),
        ],
        BRONZE_DARK,
        opacity=0.55,
    )
    sheet.shape(
        [
            (x - 56, base - 226),
            (x - 44, base - 276),
            (x, base - 296),
            (x + 44, base - 276),
            (x + 56, base - 226),
            (x, base - 216),
        ],
        BRONZE_LIT,
        3.2,
    )
    sheet.dot(x, base - 302, 13, BRONZE, 3)
    for dy in (-196, -60):
        half = 98 if dy == -196 else 100
        sheet.line(
            [(x - half, base + dy), (x, base + dy + 12), (x + half, base + dy)], BRONZE_DARK, 4
        )
    sheet.line([(x - 100, base - 60), (x, base - 46), (x + 100, base - 60)], BRONZE_LIT, 2)
    for i in range(5):
        sheet.brush(
            [
                (x - 60 + i * 30, base - 78),
                (x - 46 + i * 30, base - 110),
                (x - 60 + i * 30 + 6, base - 100),
            ],
            6,
            BRONZE_LIT,
        )
    # Dragons head down, each with a ball; toads wait below.
    for dx, side in ((-110, -1), (0, 1), (110, 1)):
        top = base - 176 if dx else base - 160
        _dragon(sheet, x + dx, top, side if dx else 1, bool(dx))
        _toad(sheet, x + dx * 1.22, base + 14 if dx else base + 24, side)


def _dragon(sheet: Sheet, x: float, y: float, side: int, edge: bool) -> None:
    lean = 14 * side if edge else 0
    sheet.brush(
        [
            (x - lean * 1.4, y - 40),
            (x + lean * 0.4, y - 20),
            (x + lean, y + 20),
            (x + lean * 1.2, y + 56),
        ],
        30,
        BRONZE_DARK,
    )
    sheet.brush(
        [(x - lean * 1.2, y - 36), (x + lean * 0.5, y - 16), (x + lean, y + 20)],
        12,
        BRONZE_LIT,
        opacity=0.7,
    )
    hx, hy = x + lean * 1.2, y + 52
    sheet.shape(
        [
            (hx - 17, hy - 18),
            (hx + 17, hy - 18),
            (hx + 15, hy + 10),
            (hx + 6, hy + 18),
            (hx - 6, hy + 18),
            (hx - 15, hy + 10),
        ],
        BRONZE_LIT,
        2.8,
    )
    sheet.brush([(hx - 12, hy - 16), (hx - 24, hy - 32), (hx - 22, hy - 46)], 6, BRONZE_DARK)
    sheet.brush([(hx + 12, hy - 16), (hx + 24, hy - 32), (hx + 22, hy - 46)], 6, BRONZE_DARK)
    sheet.dot(hx - 7, hy - 5, 3, INK)
    sheet.dot(hx + 7, hy - 5, 3, INK)
    sheet.dot(hx, hy + 20, 9, "#d3a544", 2.6)


def _toad(sheet: Sheet, x: float, y: float, side: int) -> None:
    sheet.shape(
        [
            (x - 36, y),
            (x - 34, y - 24),
            (x - 20, y - 44),
            (x + 2, y - 50),
            (x + 24, y - 40),
            (x + 36, y - 18),
            (x + 36, y),
        ],
        BRONZE,
        3,
    )
    sheet.shape([(x - 16, y - 50), (x, y - 56), (x + 16, y - 50), (x, y - 40)], "#2b2a22", 2.6)
    sheet.dot(x - 24, y - 42, 6, "#d9c98a", 2.2)
    sheet.dot(x + 24, y - 40, 6, "#d9c98a", 2.2)
    sheet.line([(x - 34, y - 2), (x - 20, y - 16), (x - 12, y - 1)], INK, 2.4)
    sheet.line([(x + 34, y - 2), (x + 20, y - 16), (x + 12, y - 1)], INK, 2.4)


def scroll(sheet: Sheet, x: float, y: float, long: float, colour: str, end: str) -> None:
    """A rolled book, lying."""
    sheet.box(x - 16, y - 17, long + 32, 15, end, 2.8, round_by=5)
    sheet.box(x, y - 30, long, 38, colour, 3.2, round_by=17)
    sheet.line([(x + 10, y - 19), (x + long - 12, y - 19)], "#ffffff88", 3)
    sheet.box(x + long * 0.44, y - 30, 14, 38, "#a8322a", 2.6)


def books(
    sheet: Sheet, x: float, y: float, count: int, colours: tuple[str, ...] = ("#35527a",)
) -> None:
    """Thread-bound volumes, lying in a pile."""
    for i in range(count):
        top = y - (i + 1) * 27
        shift = scatter(i + int(x), 9)
        cover = colours[i % len(colours)]
        sheet.box(x + shift, top, 190, 27, cover, 3, round_by=2)
        sheet.box(x + shift + 6, top + 5, 184, 17, "#efe6d2", 1.6)
        for line in range(3):
            sheet.line(
                [(x + shift + 10, top + 9 + line * 4.4), (x + shift + 186, top + 9 + line * 4.4)],
                "#b9ab90",
                1,
            )
        for stitch in (0, 1):
            sheet.line(
                [(x + shift + 3 + stitch * 3, top + 2), (x + shift + 3 + stitch * 3, top + 25)],
                "#f3ead6",
                1.4,
            )


def circle_division(sheet: Sheet) -> None:
    x, y, _ = MOON
    deep = "#2f5560"
    sheet.dot(x, y, 372, "none", 4, deep)
    for sides, colour, width in ((6, deep, 3.6), (12, "#a8493a", 2.8), (24, deep, 1.8)):
        corners = [
            (
                x + 372 * cos(radians(360 / sides * i - 90)),
                y + 372 * sin(radians(360 / sides * i - 90)),
            )
            for i in range(sides)
        ]
        sheet.flat(corners, "none", width, colour)
    for i in range(12):
        a = radians(30 * i)
        sheet.line([(x, y), (x + 372 * cos(a), y + 372 * sin(a))], deep, 1.4, 0.6)
    for i in range(6):
        a = radians(60 * i - 90)
        sheet.dot(x + 372 * cos(a), y + 372 * sin(a), 8, "#a8493a", 2)


def rods(sheet: Sheet) -> None:
    """Counting rods say 355 over 113: ones and hundreds stand, tens lie."""
    sheet.flat([(56, 1188), (86, 1010), (366, 1010), (352, 1188)], "#efe4cc", 3.2)
    sheet.flat([(70, 1176), (97, 1022), (354, 1022), (341, 1176)], "none", 2, "#b08c5a")
    for row, digits in ((0, (3, 5, 5)), (1, (1, 1, 3))):
        middle = 1061 + row * 76
        colour = "#9c2f28" if row == 0 else "#27424f"
        for column, digit in enumerate(digits):
            x = 144 + column * 80 - row * 6
            for i in range(digit):
                shift = (i - (digit - 1) / 2) * 11
                if column == 1:
                    sheet.line([(x - 27, middle + shift), (x + 27, middle + shift)], colour, 6.4)
                else:
                    sheet.line(
                        [(x + shift, middle - 26), (x + shift - 1, middle + 26)], colour, 6.4
                    )
    sheet.line([(106, 1099), (330, 1099)], INK, 3)
    # The case of rods.
    sheet.box(720, 980, 66, 140, "#7a5230", 3.4, round_by=8)
    sheet.oval(753, 982, 33, 10, "#3b2717", 3)
    for i in range(7):
        sheet.line(
            [(731 + i * 7.4, 984), (722 + i * 11, 896 + abs(i - 3) * 9)],
            "#9c2f28" if i % 2 else "#d8c190",
            6.4,
        )
    sheet.line([(722, 1030), (784, 1030)], "#d9b35c", 4)
    sheet.line([(722, 1086), (784, 1086)], "#d9b35c", 4)
    scroll(sheet, 800, 1122, 112, "#dccfae", "#5d3d24")


def sky_chart(sheet: Sheet) -> None:
    """Circles round the pole, the Dipper, and mountains below."""
    x, y, r = MOON
    for far in (150, 230, 310, 378):
        sheet.dot(x, y - 40, far if far < 378 else r - 22, "none", 2, "#eef3f6", opacity=0.55)
    for i in range(24):
        a = radians(i * 15)
        sheet.line(
            [(x + 150 * cos(a), y - 40 + 150 * sin(a)), (x + 378 * cos(a), y - 20 + 378 * sin(a))],
            "#eef3f6",
            1.3,
            0.35,
        )
    stars(sheet, 20, "#f7f3df", 360)
    dipper = [
        (150.0, 300.0),
        (196.0, 262.0),
        (238.0, 236.0),
        (286.0, 232.0),
        (300.0, 180.0),
        (376.0, 150.0),
        (392.0, 204.0),
    ]
    sheet.path(polygon(dipper, closed=False), stroke="#fff7d8", width=2.6)
    sheet.line([(286, 232), (392, 204)], "#fff7d8", 2.6)
    for px, py in dipper:
        sheet.dot(px, py, 8, "#fff2b8", 2, "#7a6a34")
    hills = Sheet()
    for height, colour, edge in (
        (560, "#6f89a5", "#8fa6bf"),
        (620, "#5a7590", "#7790aa"),
        (680, "#47617c", "#647e99"),
    ):
        top: list[Point] = [
            (60 + i * 60, height + scatter(i + height, 52) + abs(i - 7) * 4) for i in range(15)
        ]
        hills.path(polygon([*through(top, 8), (910, 900), (50, 900)]), colour)
        for px, py in top[1:-1:2]:
            hills.brush([(px, py + 4), (px + 14, py + 36), (px + 8, py + 70)], 5, edge)
    sheet.within(hills, 'clip-path="url(#moon)"')


def hung_needle(sheet: Sheet) -> None:
    """A magnetic needle on a thread of silk, over a ring of twenty-four directions."""
    x, y = 196.0, 1098.0
    sheet.oval(x, y + 22, 140, 26, "#00000044")
    sheet.oval(x, y, 134, 40, "#6f4a2c", 3.4)
    sheet.oval(x, y - 8, 134, 40, "#b98850", 3.4)
    sheet.oval(x, y - 8, 112, 31, "none", 2.4, "#5f3f22")
    sheet.oval(x, y - 8, 80, 21, "#efe4cc", 2.4)
    for i in range(24):
        a = radians(i * 15)
        sheet.line(
            [(x + 84 * cos(a), y - 8 + 22 * sin(a)), (x + 108 * cos(a), y - 8 + 30 * sin(a))],
            "#3a2616",
            4 if i % 6 == 0 else 2,
        )
    # The stand.
    sheet.line([(x - 112, y - 14), (x - 104, y - 214)], "#5f3f22", 11)
    sheet.line([(x - 116, y - 212), (x + 26, y - 222)], "#5f3f22", 11)
    sheet.dot(x - 110, y - 214, 10, "#d9b35c", 2.6)
    sheet.dot(x + 26, y - 222, 8, "#d9b35c", 2.6)
    sheet.line([(x + 2, y - 218), (x + 2, y - 62)], "#f7efe0", 2)
    sheet.flat([(x + 2, y - 71), (x + 92, y - 84), (x + 2, y - 51)], "#b3372d", 2.6)
    sheet.flat([(x + 2, y - 71), (x - 88, y - 38), (x + 2, y - 51)], "#3a4654", 2.6)
    sheet.dot(x + 2, y - 61, 6, "#d9b35c", 2.2)
    books(sheet, 690, 1130, 5, ("#35527a", "#35527a", "#7a4436"))


def sun_and_gnomon(sheet: Sheet) -> None:
    """高表: a high gnomon, its beam between two dragons' heads, and the sun at noon."""
    x, y, _ = MOON
    sheet.dot(232, 190, 66, "#e8c66a")
    sheet.dot(232, 190, 66, "none", 3, "#a8652c")
    for i in range(20):
        a = radians(i * 18)
        sheet.line(
            [
                (232 + 80 * cos(a), 190 + 80 * sin(a)),
                (232 + (100 + i % 2 * 16) * cos(a), 190 + (100 + i % 2 * 16) * sin(a)),
            ],
            "#a8652c",
            4,
        )
    # Graduated half circle, as on the simplified instrument.
    for far, width in ((380, 9), (350, 3)):
        sheet.path(polygon(arc(x, y, far, 150, 395), closed=False), stroke="#8c5a2e", width=width)
    for i in range(50):
        a = radians(150 + i * 5)
        sheet.line(
            [
                (x + 352 * cos(a), y + 352 * sin(a)),
                (x + (376 if i % 5 else 386) * cos(a), y + (376 if i % 5 else 386) * sin(a)),
            ],
            "#8c5a2e",
            2,
        )
    sheet.flat([(776, 1070), (786, 236), (846, 236), (856, 1070)], "#8d8474", 3.4)
    sheet.flat([(826, 236), (846, 236), (856, 1070), (832, 1070)], "#6d6558")
    for i in range(11):
        py = 330 + i * 66
        sheet.line([(780, py), (852, py + scatter(i, 2))], "#574f43", 2.4)
    for side in (-1, 1):
        sheet.brush(
            [
                (816 + side * 20, 250),
                (816 + side * 54, 236),
                (816 + side * 62, 196),
                (816 + side * 40, 176),
            ],
            24,
            BRONZE,
        )
        sheet.shape(
            [
                (816 + side * 30, 190),
                (816 + side * 40, 160),
                (816 + side * 62, 158),
                (816 + side * 60, 184),
            ],
            BRONZE_LIT,
            2.6,
        )
    sheet.line([(764, 152), (868, 152)], BRONZE_DARK, 13)
    sheet.line([(764, 150), (868, 150)], BRONZE_LIT, 4)
    sheet.line([(274, 240), (768, 150)], "#f6e3a6", 2.6, 0.6)


def shadow_ruler(sheet: Sheet) -> None:
    """圭: the long measure on which the beam's shadow falls; beside it a small 简仪."""
    sheet.flat([(470, 1134), (930, 1134), (930, 1172), (470, 1172)], "#a39a88", 3.4)
    sheet.flat([(484, 1104), (930, 1104), (930, 1134), (470, 1134)], "#c3baa6", 3.4)
    for i in range(30):
        px = 500 + i * 14.6
        sheet.line([(px, 1134), (px - 3, 1120 if i % 5 else 1110)], "#4d463b", 2)
    sheet.flat([(640, 1104), (668, 1104), (660, 1134), (630, 1134)], "#4d463b", opacity=0.5)
    x, y = 186.0, 1130.0
    sheet.oval(x, y, 144, 16, "#00000044")
    sheet.box(x - 132, y - 32, 264, 30, BRONZE_DARK, 3.4, round_by=4)
    for side in (-1, 1):
        sheet.brush(
            [
                (x + side * 100, y - 28),
                (x + side * 122, y - 90),
                (x + side * 88, y - 130),
                (x + side * 72, y - 180),
            ],
            18,
            BRONZE,
        )
        sheet.shape(
            [
                (x + side * 66, y - 170),
                (x + side * 60, y - 196),
                (x + side * 80, y - 204),
                (x + side * 90, y - 184),
            ],
            BRONZE_LIT,
            2.4,
        )
    sheet.oval(x, y - 150, 86, 86, "none", 12, BRONZE)
    sheet.oval(x, y - 150, 86, 86, "none", 2, BRONZE_LIT)
    sheet.oval(x, y - 150, 84, 30, "none", 9, BRONZE_DARK, turn=-38)
    sheet.oval(x, y - 150, 84, 30, "none", 2, BRONZE_LIT, turn=-38)
    sheet.line([(x - 56, y - 86), (x + 56, y - 214)], "#d3a544", 7)
    sheet.dot(x, y - 150, 9, "#d3a544", 2.6)


def bamboo_slips(sheet: Sheet) -> None:
    for left in (104, 664):
        count = 8
        for i in range(count):
            x = left + i * 25
            top = 176 + scatter(i + left, 10)
            sheet.box(x, top, 21, 560, "#d8bd80" if i % 3 else "#c9a968", 2.4, "#6a5228", 2)
            py = top + 26.0
            while py < top + 520:
                # Writing seen from afar: no character is meant.
                kind = int(abs(scatter(int(py * 3) + i * 7 + left, 5)))
                if kind < 3:
                    sheet.line([(x + 5, py), (x + 15, py + scatter(int(py), 2))], "#4a3a20", 2, 0.8)
                if kind in (0, 2, 4):
                    sheet.line([(x + 6, py + 6), (x + 15, py + 5)], "#4a3a20", 2, 0.8)
                if kind in (1, 2):
                    sheet.brush(
                        [(x + 11, py), (x + 8, py + 6), (x + 5, py + 11)],
                        2.6,
                        "#4a3a20",
                        opacity=0.8,
                    )
                if kind in (3, 4):
                    sheet.brush(
                        [(x + 6, py - 2), (x + 10, py + 4), (x + 15, py + 11)],
                        2.8,
                        "#4a3a20",
                        opacity=0.8,
                    )
                py += 20
        for y in (222, 452, 686):
            sheet.line([(left - 6, y), (left + 204, y + 4)], "#8a4a34", 4)
            sheet.line([(left - 6, y + 8), (left + 204, y + 12)], "#8a4a34", 3)


def medicine_pot(sheet: Sheet) -> None:
    x, y = 196.0, 1132.0
    for i, dx in enumerate((-26, 8, 36)):
        sheet.brush(
            [
                (x + dx, y - 236),
                (x + dx - 20, y - 280),
                (x + dx + 16, y - 326),
                (x + dx - 6, y - 390 + i * 16),
            ],
            13,
            "#f6f1e4",
            opacity=0.75,
        )
    # Brazier, pot, lid, handle.
    sheet.flat([(x - 82, y - 96), (x + 82, y - 96), (x + 66, y), (x - 66, y)], "#7c4a34", 3.4)
    sheet.shape(
        [(x - 30, y - 12), (x - 34, y - 44), (x, y - 62), (x + 34, y - 44), (x + 30, y - 12)],
        "#2a1712",
        3,
    )
    sheet.shape(
        [(x - 20, y - 12), (x - 16, y - 34), (x - 2, y - 54), (x + 14, y - 34), (x + 20, y - 12)],
        "#e07b32",
    )
    sheet.shape([(x - 9, y - 12), (x - 4, y - 32), (x + 8, y - 12)], "#f4c95a")
    sheet.shape(
        [
            (x - 92, y - 130),
            (x - 80, y - 190),
            (x, y - 208),
            (x + 80, y - 190),
            (x + 92, y - 130),
            (x + 56, y - 94),
            (x - 56, y - 94),
        ],
        "#9b6b4a",
        3.4,
    )
    sheet.shape(
        [
            (x + 20, y - 96),
            (x + 50, y - 150),
            (x + 40, y - 198),
            (x + 84, y - 180),
            (x + 90, y - 130),
            (x + 60, y - 98),
        ],
        "#6f4730",
        opacity=0.55,
    )
    sheet.brush([(x + 78, y - 176), (x + 124, y - 196), (x + 158, y - 192)], 22, "#9b6b4a")
    sheet.brush([(x - 80, y - 172), (x - 112, y - 196), (x - 122, y - 190)], 20, "#9b6b4a")
    sheet.oval(x, y - 204, 62, 15, "#845538", 3.2)
    sheet.dot(x, y - 220, 12, "#845538", 3)
    # Scales' pan, herbs and a mat.
    sheet.shape([(668, 1126), (700, 1098), (900, 1094), (926, 1124), (800, 1142)], "#cdb98d", 3)
    for i in range(6):
        _sprig(sheet, 706 + i * 34, 1118, -72 + i * 6, 74, ("#5d7d4c", "#7b9a58", "#8a6a3c")[i % 3])
    sheet.brush([(720, 1112), (800, 1104), (890, 1112)], 10, "#a8493a")


def _sprig(sheet: Sheet, x: float, y: float, turn: float, long: float, colour: str) -> None:
    a = radians(turn)
    ex, ey = x + long * cos(a), y + long * sin(a)
    sheet.brush([(x, y), ((x + ex) / 2 + 4, (y + ey) / 2), (ex, ey)], 5, colour, "out")
    for i in range(1, 6):
        t = i / 6
        px, py = x + (ex - x) * t, y + (ey - y) * t
        for side in (-1, 1):
            b = radians(turn + side * 48)
            size = 20 * (1.2 - t * 0.6) * long / 80
            _leaf(sheet, px, py, px + size * cos(b), py + size * sin(b), size * 0.34, colour)
    _leaf(
        sheet,
        ex,
        ey,
        ex + 15 * cos(a) * long / 80,
        ey + 15 * sin(a) * long / 80,
        5 * long / 80,
        colour,
    )


def _leaf(
    sheet: Sheet, x: float, y: float, ex: float, ey: float, half: float, fill: str, vein: str = ""
) -> None:
    mx, my = x + (ex - x) * 0.45, y + (ey - y) * 0.45
    length = ((ex - x) ** 2 + (ey - y) ** 2) ** 0.5 or 1
    nx, ny = -(ey - y) / length * half, (ex - x) / length * half
    d = (
        f"M{x:.1f} {y:.1f}Q{mx + nx * 1.7:.1f} {my + ny * 1.7:.1f} {ex:.1f} {ey:.1f}"
        f"Q{mx - nx * 1.7:.1f} {my - ny * 1.7:.1f} {x:.1f} {y:.1f}Z"
    )
    sheet.path(d, fill, INK if vein else fill, 2 if vein else 0.6)
    if vein:
        sheet.line([(x, y), (ex, ey)], vein, 2)


def millet(sheet: Sheet) -> None:
    """Furrows below, bowed ears of millet on both sides."""
    x, _, _ = MOON
    sheet.dot(210, 232, 62, "#c9523a", opacity=0.9)
    field = Sheet()
    field.path(
        polygon(
            [*through([(60, 610), (280, 588), (500, 600), (900, 580)], 8), (900, 900), (60, 900)]
        ),
        "#b59443",
    )
    for i in range(15):
        foot = -420 + i * 130.0
        field.brush(
            [(foot, 900), (x + (foot - x) * 0.62, 740), (x + (foot - x) * 0.3, 596)],
            9,
            "#8b7430",
            "out",
        )
    sheet.within(field, 'clip-path="url(#moon)"')
    for side in (-1, 1):
        for i in range(3):
            fx = x + side * (238 + i * 62)
            top = 300 + i * 92
            stalk: list[Point] = [
                (fx - side * 44, 960),
                (fx - side * 24, 640),
                (fx - side * 6, top + 60),
                (fx + side * 22, top),
                (fx + side * 58, top + 40),
                (fx + side * 68, top + 150),
            ]
            for foot, tip, rise in ((600, 96, 70), (690, 110, 46), (770, 84, 30)):
                bx = fx - side * 26
                edge = [
                    (bx, foot + 6.0),
                    (bx + side * tip * 0.45, foot - rise),
                    (bx + side * tip, foot - rise * 0.5 + 26),
                ]
                sheet.brush(edge, 19, ("#7c8a3c", "#6a7a33", "#879646")[i], "out")
            sheet.line(stalk, "#6f7a35", 6)
            ear = through(stalk, 14)[46:]
            for k, (px, py) in enumerate(ear):
                size = 11 - abs(k - len(ear) / 2) / len(ear) * 9
                for side_by in (-1, 1):
                    sheet.dot(
                        px + side_by * size * 0.8 + scatter(k, 3),
                        py + side_by * 3,
                        size * 0.8,
                        ("#d79a35", "#b9772a", "#e3b455")[(k + side_by) % 3],
                        1.2,
                        "#6a4a1c",
                    )


def jars(sheet: Sheet) -> None:
    for x, y, size, glaze in ((150.0, 1128.0, 1.0, "#7a5236"), (296.0, 1142.0, 0.66, "#54605a")):
        s = size
        sheet.oval(x, y, 100 * s, 15 * s, "#00000044")
        sheet.shape(
            [
                (x - 54 * s, y),
                (x - 92 * s, y - 80 * s),
                (x - 86 * s, y - 150 * s),
                (x - 46 * s, y - 194 * s),
                (x + 46 * s, y - 194 * s),
                (x + 86 * s, y - 150 * s),
                (x + 92 * s, y - 80 * s),
                (x + 54 * s, y),
            ],
            glaze,
            3.4,
        )
        sheet.brush(
            [(x - 70 * s, y - 150 * s), (x - 78 * s, y - 90 * s), (x - 56 * s, y - 30 * s)],
            11 * s,
            "#ffffff",
            opacity=0.3,
        )
        sheet.shape(
            [
                (x - 64 * s, y - 172 * s),
                (x - 52 * s, y - 214 * s),
                (x, y - 228 * s),
                (x + 52 * s, y - 214 * s),
                (x + 64 * s, y - 172 * s),
                (x + 30 * s, y - 184 * s),
                (x, y - 176 * s),
                (x - 34 * s, y - 186 * s),
            ],
            "#b8433a",
            3.2,
        )
        sheet.line(
            [(x - 54 * s, y - 192 * s), (x, y - 184 * s), (x + 54 * s, y - 192 * s)],
            "#e6d9b0",
            5 * s,
        )
    # A basket of grain, and a hoe's blade before it.
    x, y = 776.0, 1132.0
    sheet.shape(
        [
            (x - 116, y - 82),
            (x - 60, y - 128),
            (x + 10, y - 146),
            (x + 72, y - 124),
            (x + 118, y - 82),
        ],
        "#d9a540",
        3.2,
    )
    for i in range(44):
        px = x - 92 + (i * 37) % 188
        py = y - 88 - abs(scatter(i, 1)) * 46 * (1 - abs(px - x) / 130)
        sheet.dot(px, py, 5.4, ("#f0cd72", "#b9772a", "#e3b455")[i % 3], 1)
    sheet.flat([(x - 124, y - 86), (x + 124, y - 86), (x + 96, y), (x - 96, y)], "#b08a4e", 3.4)
    for i in range(4):
        sheet.line(
            [(x - 118 + i * 7, y - 66 + i * 20), (x + 118 - i * 7, y - 66 + i * 20)], "#6a4a1c", 2.4
        )
    for i in range(12):
        sheet.line([(x - 108 + i * 19.6, y - 84), (x - 84 + i * 15.4, y - 2)], "#6a4a1c", 2)
    sheet.line([(x - 124, y - 86), (x + 124, y - 86)], "#8a5f2a", 9)


def herbs(sheet: Sheet) -> None:
    """Plants as a herbal shows them: branch, leaf, flower and fruit."""
    x, _, _ = MOON
    green, deep, pale = "#41684a", "#2f5138", "#6f9565"
    for side in (-1, 1):
        stem: list[Point] = [
            (x + side * 200, 850),
            (x + side * 300, 700),
            (x + side * 336, 500),
            (x + side * 300, 290),
            (x + side * 210, 140),
        ]
        sheet.line(stem, deep, 7)
        line = through(stem, 10)
        for i in range(4, 40, 4):
            px, py = line[i]
            out = 1 if (i // 4) % 2 else -1
            angle = radians(-90 + side * (18 - i) + out * 62)
            size = 96 if side < 0 else 78
            if side < 0:
                _leaf(
                    sheet,
                    px,
                    py,
                    px + size * cos(angle),
                    py + size * sin(angle),
                    19,
                    green if out > 0 else pale,
                    "#dbe6cf",
                )
            else:
                for k in (-26, 0, 26):
                    b = angle + radians(k)
                    _leaf(
                        sheet,
                        px,
                        py,
                        px + size * cos(b),
                        py + size * sin(b),
                        9,
                        pale if k else green,
                        "#dbe6cf",
                    )
        px, py = line[-1]
        if side < 0:
            for i in range(7):
                a = radians(i * 51)
                sheet.oval(px + 24 * cos(a), py + 24 * sin(a), 19, 12, "#d9b3a8", 2, turn=i * 51)
            sheet.dot(px, py, 13, "#d9a540", 2.4)
        else:
            for i in range(9):
                sheet.dot(px + scatter(i, 40), py + scatter(i + 20, 32), 12, "#b8382d", 2.2)
    for dx, dy in ((-262, 640), (-318, 420), (316, 640)):
        for i in range(3):
            sheet.dot(
                x + dx + i * 16 - 14,
                dy + abs(i - 1) * 8,
                11,
                "#b8382d" if dx > 0 else "#c98c3a",
                2.2,
            )


def apothecary(sheet: Sheet) -> None:
    # A gourd, a mortar, ginseng on an open book.
    x, y = 128.0, 1130.0
    sheet.oval(x, y, 80, 13, "#00000044")
    sheet.shape(
        [
            (x - 40, y - 2),
            (x - 76, y - 60),
            (x - 52, y - 118),
            (x - 26, y - 142),
            (x - 44, y - 188),
            (x - 18, y - 224),
            (x + 18, y - 224),
            (x + 44, y - 188),
            (x + 26, y - 142),
            (x + 52, y - 118),
            (x + 76, y - 60),
            (x + 40, y - 2),
        ],
        "#c58a3e",
        3.4,
    )
    sheet.brush([(x - 54, y - 90), (x - 58, y - 54), (x - 40, y - 20)], 11, "#ecc583", opacity=0.85)
    sheet.brush(
        [(x - 26, y - 206), (x - 32, y - 184), (x - 24, y - 164)], 8, "#ecc583", opacity=0.85
    )
    sheet.brush([(x, y - 224), (x + 4, y - 246), (x + 22, y - 262)], 11, "#6f7a35", "out")
    sheet.brush([(x - 30, y - 142), (x, y - 132), (x + 30, y - 142)], 11, "#a8322a")
    sheet.brush([(x + 22, y - 138), (x + 50, y - 104), (x + 42, y - 66)], 7, "#a8322a")
    x = 268.0
    sheet.line([(x + 10, y - 80), (x + 62, y - 176)], "#8d8a84", 17)
    sheet.line([(x + 10, y - 80), (x + 62, y - 176)], "#b7b4ac", 8)
    sheet.flat(
        [
            (x - 62, y - 92),
            (x + 62, y - 92),
            (x + 40, y - 18),
            (x + 54, y + 4),
            (x - 54, y + 4),
            (x - 40, y - 18),
        ],
        "#8d8a84",
        3.4,
    )
    sheet.oval(x, y - 92, 62, 15, "#5c5a55", 3.2)
    sheet.brush([(x - 44, y - 70), (x - 34, y - 26)], 8, "#c9c6be")
    # The open book with a drawn plant.
    sheet.flat([(640, 1136), (664, 1072), (776, 1078), (786, 1146)], "#f2ead6", 3.2)
    sheet.flat([(786, 1146), (776, 1078), (892, 1066), (928, 1130)], "#e8dec6", 3.2)
    for i in range(6):
        sheet.line(
            [(806 + i * 16, 1086 - i * 1.6), (816 + i * 17, 1132 - i * 2.2)], "#6d6250", 2, 0.7
        )
    _sprig(sheet, 716, 1134, -92, 46, "#41684a")
    # Ginseng lying before it.
    root = "#d9b47c"
    sheet.brush([(560, 1160), (610, 1148), (664, 1162)], 34, root)
    for dx, dy in ((-34, 20), (-44, 4), (-30, -14)):
        sheet.brush([(580, 1158), (548, 1158 + dy * 0.6), (548 + dx, 1158 + dy)], 9, root, "out")
    sheet.brush([(656, 1160), (676, 1152), (690, 1154)], 13, root)
    sheet.brush([(590, 1150), (604, 1156), (600, 1164)], 2.6, "#7d5a2c")
    sheet.brush([(626, 1148), (636, 1156), (630, 1166)], 2.6, "#7d5a2c")


def euclid(sheet: Sheet) -> None:
    """A triangle in its circle, and how the centre is found: each side halved with compasses."""
    x, y, _ = MOON
    deep, red = "#6d3a30", "#9c2f28"
    far = 372.0
    turns = (-64, 38, 168)
    sheet.dot(x, y, far, "none", 4.4, deep)
    corners = [(x + far * cos(radians(t)), y + far * sin(radians(t))) for t in turns]
    sheet.flat(corners, "#f3e4d4", 4, red, 0.55)
    sheet.flat(corners, "none", 4, red)
    for i in range(3):
        (px, py), (qx, qy) = corners[i], corners[(i + 1) % 3]
        mx, my = (px + qx) / 2, (py + qy) / 2
        out = ((mx - x) ** 2 + (my - y) ** 2) ** 0.5
        ux, uy = (mx - x) / out, (my - y) / out
        sheet.line([(x, y), (x + ux * (far + 18), y + uy * (far + 18))], deep, 2.6, 0.85)
        half = ((px - qx) ** 2 + (py - qy) ** 2) ** 0.5 / 2
        reach = (half**2 + (far - 26 - out) ** 2) ** 0.5
        for cx, cy in ((px, py), (qx, qy)):
            toward = degrees(atan2(y + uy * (far - 26) - cy, x + ux * (far - 26) - cx))
            sheet.path(
                polygon(arc(cx, cy, reach, toward - 8, toward + 8), closed=False),
                stroke=deep,
                width=3,
            )
    for px, py in corners:
        sheet.dot(px, py, 12, red, 2.4)


def sweet_potatoes(sheet: Sheet) -> None:
    skin, flesh = "#a04a52", "#e6a35a"
    for x, y, turn, size in ((116, 1120, -14, 1.0), (224, 1136, 10, 1.06), (168, 1082, 4, 0.86)):
        potato = Sheet()
        potato.shape(
            [(-86, 6), (-60, -22), (0, -34), (58, -22), (88, -4), (56, 24), (0, 34), (-56, 26)],
            skin,
            3.4,
        )
        potato.brush([(-50, -12), (0, -22), (46, -14)], 8, "#d08a86", opacity=0.75)
        for i in range(5):
            potato.brush(
                [
                    (-48 + i * 24, 2 + i % 2 * 10),
                    (-40 + i * 24, 5 + i % 2 * 10),
                    (-32 + i * 24, 2 + i % 2 * 10),
                ],
                3,
                "#6d2c38",
            )
        sheet.within(potato, f'transform="translate({x} {y}) rotate({turn}) scale({size})"')
    sheet.oval(300, 1146, 30, 32, skin, 3.4)
    sheet.oval(303, 1146, 24, 26, flesh, 2)
    sheet.oval(304, 1146, 13, 15, "#f1bd7c")
    vine: list[Point] = [(60, 1090), (120, 1030), (210, 1034), (280, 1084)]
    sheet.line(vine, "#4f6f3c", 5)
    for px, py, turn in ((84, 1058, -120), (134, 1022, -70), (190, 1026, -100), (246, 1052, -40)):
        heart = Sheet()
        heart.shape(
            [(0, 0), (-30, -10), (-34, -38), (0, -66), (34, -38), (30, -10)], "#5d8a48", 2.8
        )
        heart.line([(0, 0), (0, -52)], "#cfe0b8", 2)
        sheet.within(heart, f'transform="translate({px} {py}) rotate({turn + 90})"')
    # A telescope on its stand.
    sheet.line([(776, 1124), (790, 1010)], "#5f3f22", 9)
    sheet.line([(850, 1124), (806, 1010)], "#5f3f22", 9)
    sheet.line([(730, 1128), (790, 1014)], "#5f3f22", 9)
    tube = Sheet()
    tube.box(-120, -21, 110, 42, "#7a2f2a", 3.2, round_by=3)
    tube.box(-10, -16, 84, 32, "#9c4a38", 3.2, round_by=3)
    tube.box(74, -11, 54, 22, "#7a2f2a", 3.2, round_by=3)
    for bx, half in ((-126, 24), (-18, 23), (68, 18), (124, 13)):
        tube.box(bx, -half, 12, half * 2, "#d9b35c", 2.8, round_by=3)
    sheet.within(tube, 'transform="translate(800 996) rotate(14)"')
    sheet.dot(798, 1008, 12, "#d9b35c", 3)


def drying_paper(sheet: Sheet) -> None:
    """Sheets on a line, and a twig of the paper mulberry."""
    for y, xs in ((196, (96, 204, 648, 760)), (470, (84, 196, 690, 800))):
        sheet.line([(72, y - 4), (480, y + 10), (888, y - 4)], "#6b5a48", 4)
        for i, x in enumerate(xs):
            sway = scatter(x, 6)
            sheet.flat(
                [
                    (x, y),
                    (x + 92, y + 4),
                    (x + 94 + sway, y + 206),
                    (x + 48, y + 212 + sway),
                    (x - 2 + sway, y + 206),
                ],
                "#f6efe0" if i % 2 else "#efe5d0",
                2.8,
                "#6b5a48",
            )
            for k in range(5):
                sheet.line(
                    [(x + 12 + k * 17, y + 20), (x + 12 + k * 17 + sway * 0.5, y + 190)],
                    "#cfc2a8",
                    1.6,
                )
            sheet.box(x + 10, y - 10, 8, 22, "#8a6a3c", 2)
            sheet.box(x + 74, y - 8, 8, 22, "#8a6a3c", 2)


def paper_making(sheet: Sheet) -> None:
    # A pile of sheets; the mould with its screen; leaves of the paper mulberry.
    for i in range(12):
        y = 1124 - i * 9
        shift = scatter(i, 5)
        sheet.flat(
            [(52 + shift, y), (326 + shift, y), (332 + shift, y + 10), (47 + shift, y + 10)],
            "#f7f0e0" if i % 2 else "#e9dfc8",
            2,
            "#8a7a62",
        )
    sheet.flat([(66, 1016), (306, 1014), (334, 1026), (50, 1026)], "#fbf6ea", 2.6)
    sheet.box(120, 998, 128, 20, JADE, 3, round_by=9)
    sheet.line([(132, 1004), (232, 1004)], "#b9d6c6", 3)
    mould = Sheet()
    mould.box(-130, -78, 260, 156, "#efe6d0", 0)
    for i in range(33):
        mould.line([(-124, -74 + i * 4.7), (124, -74 + i * 4.7)], "#b79a62", 1.7)
    for i in range(5):
        mould.line([(-92 + i * 46, -76), (-92 + i * 46, 76)], "#7a5a30", 2.4)
    for a, b in (
        ((-136, -84), (136, -84)),
        ((136, -84), (136, 84)),
        ((136, 84), (-136, 84)),
        ((-136, 84), (-136, -84)),
    ):
        mould.line([a, b], INK, 17)
        mould.line([a, b], "#8a5f38", 11)
    sheet.within(mould, 'transform="translate(776 1058) rotate(-9)"')
    for px, py, turn in ((640, 1150, -60), (690, 1166, -10), (610, 1168, -120)):
        leaf = Sheet()
        leaf.shape(
            [
                (0, 0),
                (-26, -16),
                (-40, -44),
                (-18, -48),
                (-6, -84),
                (6, -84),
                (18, -48),
                (40, -44),
                (26, -16),
            ],
            "#6c8a52",
            2.8,
        )
        leaf.line([(0, 2), (0, -70)], "#dbe6cf", 2)
        leaf.line([(0, -18), (-26, -40)], "#dbe6cf", 1.6)
        leaf.line([(0, -18), (26, -40)], "#dbe6cf", 1.6)
        sheet.within(leaf, f'transform="translate({px} {py}) rotate({turn + 90})"')


# Simple characters as strokes in a 10 x 10 square. Those up to 天 look the same mirrored, as
# they stand on a type.
_GLYPHS: tuple[tuple[tuple[Point, ...], ...], ...] = (
    (((2, 1), (8, 1), (8, 9), (2, 9), (2, 1)), ((2, 5), (8, 5))),  # 日
    (((1, 1.5), (9, 1.5), (9, 9), (1, 9), (1, 1.5)), ((1, 5), (9, 5)), ((5, 1.5), (5, 9))),  # 田
    (
        ((5, 0.5), (5, 9.5)),
        ((0.5, 3.5), (9.5, 3.5)),
        ((5, 3.5), (1, 8.5)),
        ((5, 3.5), (9, 8.5)),
    ),  # 木
    (((1.5, 1.5), (8.5, 1.5)), ((2, 5), (8, 5)), ((0.8, 9), (9.2, 9)), ((5, 1.5), (5, 9))),  # 王
    (((1, 3), (1, 9), (9, 9), (9, 3)), ((5, 0.5), (5, 9))),  # 山
    (((1.5, 2.5), (8.5, 2.5), (8.5, 7), (1.5, 7), (1.5, 2.5)), ((5, 0.3), (5, 9.8))),  # 中
    (((0.8, 3.5), (9.2, 3.5)), ((5, 0.5), (4.6, 4), (1, 9.3)), ((5, 4), (9, 9.3))),  # 大
    (((1.5, 2), (8.5, 2)), ((5, 2), (5, 9)), ((0.8, 9), (9.2, 9))),  # 工
    (((2, 1.5), (8, 1.5), (8, 9), (2, 9), (2, 1.5)), ((2, 4), (8, 4)), ((2, 6.5), (8, 6.5))),  # 目
    (((5, 0.5), (5, 9.5)), ((1, 4.5), (9, 4.5))),  # 十
    (((1.5, 2), (8.5, 2), (8.5, 8.5), (1.5, 8.5), (1.5, 2)),),  # 口
    (
        ((1, 1.8), (9, 1.8)),
        ((0.6, 4.6), (9.4, 4.6)),
        ((5, 1.8), (1, 9.4)),
        ((5, 4.8), (9, 9.4)),
    ),  # 天
    (
        ((2.4, 9.4), (3, 1.2), (8, 1.2), (8, 9.4)),
        ((3, 3.8), (8, 3.8)),
        ((2.8, 6.4), (8, 6.4)),
    ),  # 月
    (((2, 1.2), (1.6, 9)), ((5, 2), (5, 8)), ((8.4, 1), (8.4, 9.4))),  # 川
    (
        ((5, 0.6), (5, 9.4)),
        ((1, 3.4), (3.8, 3.4), (1, 8.4)),
        ((8.6, 2.4), (5.6, 4.6), (9, 8.8)),
    ),  # 水
    (
        ((5, 0.6), (4.6, 5), (1, 9.4)),
        ((5, 5), (9, 9.4)),
        ((1.8, 3), (2.6, 5.2)),
        ((8.4, 2.6), (7.2, 5)),
    ),  # 火
    (((2, 3.8), (8, 3.8)), ((5, 0.6), (5, 9)), ((0.8, 9), (9.2, 9))),  # 土
    (
        ((1, 1.4), (9, 1.4)),
        ((4.6, 1.4), (1, 6.6)),
        ((3.4, 5), (8.4, 5), (8.4, 9.2), (3.4, 9.2), (3.4, 5)),
    ),  # 石
    (((5, 0.8), (4.6, 4), (1, 9.4)), ((5, 3.6), (9, 9.4))),  # 人
    (((5, 0.8), (5, 9)), ((5, 4.2), (8, 4.2)), ((0.8, 9), (9.2, 9))),  # 上
    (((0.8, 1.4), (9.2, 1.4)), ((5, 1.4), (5, 9.4)), ((5, 3.6), (7.6, 5.4))),  # 下
    (((5, 0.8), (5, 9.4)), ((2.6, 3.6), (1, 7)), ((7.4, 3.4), (9, 7))),  # 小
    (((0.8, 5), (9.2, 5)),),  # 一
    (((1.8, 2.8), (8.2, 2.8)), ((0.8, 8), (9.2, 8))),  # 二
    (((1.4, 1.6), (8.6, 1.6)), ((2, 5), (8, 5)), ((0.8, 8.8), (9.2, 8.8))),  # 三
)
_NAMES = "日田木王山中大工目十口天月川水火土石人上下小一二三"
_PRIMER = ("天日月山川水火木土石田人", "一二三上中下大小人口目工", "山水日月天")
"""What a child's first lesson might print."""


def _glyph(
    sheet: Sheet,
    which: int,
    x: float,
    y: float,
    size: float,
    colour: str,
    width: float,
    flat: float = 1,
) -> None:
    for stroke in _GLYPHS[which]:
        points = [(x + px * size / 10, y + py * size * flat / 10) for px, py in stroke]
        sheet.path(polygon(points, closed=False), stroke=colour, width=width)


def printed_page(sheet: Sheet) -> None:
    """A printed leaf, its columns ruled, hung behind him."""
    for left in (92, 656):
        sheet.flat(
            [(left, 150), (left + 212, 146), (left + 214, 760), (left + 2, 764)], "#f1ead8", 3
        )
        sheet.box(left + 16, 172, 180, 566, "none", 5, "#3a342e")
        sheet.box(left + 24, 180, 164, 550, "none", 1.6, "#3a342e")
        for column in range(4):
            if column:
                sheet.line(
                    [(left + 24 + column * 41, 180), (left + 24 + column * 41, 730)], "#a8493a", 1.6
                )
            # Columns run from the right.
            text = _PRIMER[3 - column] if column else ""
            for row, sign in enumerate(text if left > 400 else _PRIMER[(column + 1) % 2]):
                _glyph(
                    sheet,
                    _NAMES.index(sign),
                    left + 30 + column * 41,
                    190 + row * 44,
                    29,
                    "#3a342e",
                    3.4,
                )


def movable_type(sheet: Sheet) -> None:
    clay, top, dark = "#b98a63", "#dcb58c", "#7d5638"
    # The iron plate with its frame, seen from above.
    sheet.flat([(58, 1108), (84, 976), (356, 976), (376, 1108)], "#4b4a4d", 3.4)
    sheet.flat([(58, 1108), (376, 1108), (376, 1130), (58, 1130)], "#333236", 3.2)
    for row in range(3):
        for column in range(6):
            if row == 2 and column > 3:
                continue
            y = 984 + row * 40
            inset = 20 - row * 8
            wide = (246 + row * 16) / 6
            x = 74 + inset + column * wide
            sheet.flat(
                [(x, y + 32), (x + wide - 3, y + 32), (x + wide - 3, y + 38), (x, y + 38)],
                dark,
                1.6,
            )
            sheet.flat([(x, y), (x + wide - 3, y), (x + wide - 3, y + 32), (x, y + 32)], top, 2.2)
            _glyph(
                sheet, (row * 6 + column * 5 + 1) % 12, x + 7, y + 5, wide - 17, "#4a2f1c", 3, 0.82
            )
    # Loose types in front; one large enough to read.
    for x, y, size, which in (
        (690, 1040, 92, 2),
        (808, 1062, 74, 5),
        (772, 1112, 56, 1),
        (622, 1118, 46, 3),
        (884, 1122, 44, 4),
    ):
        depth = size * 0.3
        sheet.flat([(x, y), (x + size, y), (x + size, y + size), (x, y + size)], top, 3.2)
        sheet.flat(
            [(x, y), (x + depth, y - depth), (x + size + depth, y - depth), (x + size, y)],
            "#ecd0ac",
            3.2,
        )
        sheet.flat(
            [
                (x + size, y),
                (x + size + depth, y - depth),
                (x + size + depth, y + size - depth),
                (x + size, y + size),
            ],
            clay,
            3.2,
        )
        _glyph(sheet, which, x + size * 0.16, y + size * 0.15, size * 0.68, "#4a2f1c", size * 0.085)


def spinning_wheel(sheet: Sheet) -> None:
    x, y, _ = MOON
    wood, dark = "#8a5f45", "#5f3d2a"
    sheet.dot(x, y, 372, "none", 20, wood)
    sheet.dot(x, y, 382, "none", 2.6, dark)
    sheet.dot(x, y, 362, "none", 2.6, dark)
    for i in range(12):
        a = radians(i * 30 + 15)
        sheet.line(
            [(x + 40 * cos(a), y + 40 * sin(a)), (x + 364 * cos(a), y + 364 * sin(a))], dark, 13
        )
        sheet.line(
            [(x + 40 * cos(a), y + 40 * sin(a)), (x + 364 * cos(a), y + 364 * sin(a))], wood, 8
        )
    for i in range(24):
        a, b = radians(i * 15), radians(i * 15 + 90)
        sheet.line(
            [
                (x + 386 * cos(a), y + 386 * sin(a)),
                (x + 300 * cos((a + b) / 2), y + 300 * sin((a + b) / 2)),
            ],
            "#f4ede4",
            1.4,
            0.5,
        )


def cotton(sheet: Sheet) -> None:
    for px, py, ex, ey in ((150, 1130, 70, 960), (160, 1130, 176, 922), (168, 1130, 276, 980)):
        sheet.brush([(px, py), ((px + ex) / 2 + 12, (py + ey) / 2), (ex, ey)], 9, "#6b5236", "out")
        for turn in (200, 340, 90):
            a = radians(turn)
            _leaf(
                sheet,
                ex,
                ey + 14,
                ex + 50 * cos(a),
                ey + 14 + 50 * sin(a) * 0.8,
                12,
                "#8a6a3c",
                "#d9c39a",
            )
        for dx, dy, size in ((-24, -8, 28), (22, -8, 28), (0, -32, 29), (0, 6, 25)):
            sheet.dot(ex + dx, ey + dy, size, "#fbf8f0", 2.6, "#8b8274")
        for dx, dy in ((-20, -6), (18, -10), (0, -30)):
            sheet.brush(
                [(ex + dx - 8, ey + dy), (ex + dx, ey + dy + 7), (ex + dx + 9, ey + dy + 2)],
                3,
                "#c9c0b0",
            )
    sheet.shape(
        [(96, 1134), (92, 1062), (128, 1040), (190, 1040), (226, 1062), (222, 1134)], "#7a8fa6", 3.4
    )
    sheet.brush([(106, 1070), (160, 1062), (212, 1070)], 5, "#dfe6ec")
    sheet.brush([(104, 1082), (160, 1074), (214, 1082)], 3, "#dfe6ec")
    # Three spindles, as on her wheel, and folded cloth of many colours.
    for i in range(3):
        x = 652 + i * 48
        sheet.line([(x, 1112), (x + 6, 928)], "#5f3d2a", 7)
        sheet.shape(
            [
                (x - 16, 1084),
                (x - 20, 1030),
                (x - 4, 968),
                (x + 10, 968),
                (x + 26, 1030),
                (x + 18, 1084),
            ],
            ("#f6f0e4", "#c9777a", "#5d7fa0")[i],
            3,
        )
        for k in range(6):
            sheet.brush(
                [(x - 15 + k, 1074 - k * 17), (x + 4, 1068 - k * 17), (x + 21 - k, 1062 - k * 17)],
                2.6,
                "#00000055",
            )
    for i, colour in enumerate(("#33507a", "#a8493a", "#e3d2a8", "#486b5a")):
        y = 1132 - i * 28
        sheet.box(778 - i * 3, y - 26, 156, 28, colour, 3.2, round_by=10)
        for k in range(6):
            cx = 796 + k * 23 - i * 3
            pale = "#f4ede4" if i != 2 else "#a8493a"
            if i % 2:
                sheet.flat(
                    [(cx - 7, y - 12), (cx, y - 20), (cx + 7, y - 12), (cx, y - 4)],
                    pale,
                    opacity=0.85,
                )
            else:
                sheet.path(
                    polygon([(cx - 9, y - 8), (cx, y - 17), (cx + 9, y - 8)], closed=False),
                    stroke=pale,
                    width=3,
                    opacity=0.85,
                )


def water_wheel(sheet: Sheet) -> None:
    """筒车: the stream turns it, its bamboo tubes lift the water."""
    x, y, _ = MOON
    wood, dark = "#7d4f30", "#54331e"
    for far in (366, 250):
        sheet.dot(x, y, far, "none", 13, wood)
        sheet.dot(x, y, far + 7, "none", 2.2, dark)
        sheet.dot(x, y, far - 7, "none", 2.2, dark)
    for i in range(16):
        a = radians(i * 22.5)
        sheet.line([(x, y), (x + 366 * cos(a), y + 366 * sin(a))], dark, 8)
        sheet.line([(x, y), (x + 366 * cos(a), y + 366 * sin(a))], wood, 4)
        tube = Sheet()
        tube.box(-34, -13, 68, 26, "#c9a55c", 2.8, round_by=4)
        tube.oval(34, 0, 6, 13, "#5d7f93", 2.4)
        tube.line([(-12, -12), (-12, 12)], "#7d6330", 2.4)
        sheet.within(
            tube,
            f'transform="translate({x + 372 * cos(a):.1f} {y + 372 * sin(a):.1f}) '
            f'rotate({i * 22.5 + 70})"',
        )
    stream = Sheet()
    stream.path(
        polygon(
            [
                *through(
                    [
                        (60, 706),
                        (200, 688),
                        (330, 712),
                        (480, 690),
                        (640, 714),
                        (780, 690),
                        (910, 708),
                    ],
                    8,
                ),
                (910, 900),
                (60, 900),
            ]
        ),
        "#6f9fb0",
        opacity=0.9,
    )
    for i in range(5):
        stream.brush(
            [(60, 742 + i * 28), (200, 724 + i * 28), (330, 746 + i * 28), (470, 728 + i * 28)],
            6,
            "#d6e6e8",
            opacity=0.8,
        )
        stream.brush(
            [(500, 742 + i * 28), (640, 724 + i * 28), (770, 748 + i * 28), (900, 730 + i * 28)],
            6,
            "#d6e6e8",
            opacity=0.8,
        )
    sheet.within(stream, 'clip-path="url(#moon)"')


def forge(sheet: Sheet) -> None:
    x, y = 190.0, 1132.0
    sheet.flat([(x - 116, y), (x - 92, y - 206), (x + 92, y - 206), (x + 116, y)], "#8a6148", 3.4)
    for row in range(5):
        yy = y - 40 * row - 38
        sheet.line([(x - 111 + row * 4.6, yy), (x + 111 - row * 4.6, yy)], "#5f3f2c", 2.4)
        for k in range(4):
            bx = x - 84 + k * 52 + (row % 2) * 24
            if abs(bx - x) < 100 - row * 4:
                sheet.line([(bx, yy), (bx, yy + 38)], "#5f3f2c", 2.2)
    sheet.shape(
        [(x - 50, y), (x - 54, y - 70), (x, y - 116), (x + 54, y - 70), (x + 50, y)], "#23130e", 3.4
    )
    sheet.shape(
        [
            (x - 38, y),
            (x - 36, y - 46),
            (x - 10, y - 98),
            (x + 10, y - 70),
            (x + 22, y - 88),
            (x + 38, y - 40),
            (x + 38, y),
        ],
        "#d8552b",
    )
    sheet.shape(
        [(x - 24, y), (x - 18, y - 40), (x - 2, y - 72), (x + 14, y - 44), (x + 24, y)], "#f09a3c"
    )
    sheet.shape(
        [(x - 12, y), (x - 6, y - 26), (x + 2, y - 44), (x + 12, y - 20), (x + 12, y)], "#f9d878"
    )
    sheet.shape(
        [
            (x - 58, y - 206),
            (x - 64, y - 246),
            (x - 30, y - 300),
            (x - 8, y - 258),
            (x + 12, y - 326),
            (x + 40, y - 262),
            (x + 62, y - 250),
            (x + 56, y - 206),
        ],
        "#d8552b",
        3,
    )
    sheet.shape(
        [
            (x - 34, y - 206),
            (x - 30, y - 236),
            (x + 6, y - 286),
            (x + 32, y - 236),
            (x + 30, y - 206),
        ],
        "#f4b450",
    )
    sheet.oval(x, y - 206, 92, 15, "#5a3a28", 3.2)
    # A celadon vase, ears of rice, three volumes.
    x = 690.0
    sheet.shape(
        [
            (x - 30, y),
            (x - 52, y - 62),
            (x - 44, y - 112),
            (x - 18, y - 142),
            (x - 20, y - 174),
            (x + 20, y - 174),
            (x + 18, y - 142),
            (x + 44, y - 112),
            (x + 52, y - 62),
            (x + 30, y),
        ],
        "#9fc0b0",
        3.4,
    )
    sheet.brush([(x - 34, y - 100), (x - 40, y - 66), (x - 26, y - 24)], 9, "#e6f2ea")
    sheet.oval(x, y - 174, 22, 6, "#557a6a", 2.8)
    sheet.line([(x - 46, y - 106), (x, y - 98), (x + 46, y - 106)], "#557a6a", 2.4)
    for i in range(3):
        stalk: list[Point] = [
            (x - 4 + i * 4, y - 174),
            (x - 20 + i * 24, y - 252),
            (x + 2 + i * 36, y - 288),
            (x + 40 + i * 36, y - 262 + i * 10),
        ]
        sheet.line(stalk, "#6f7a35", 4)
        for k, (px, py) in enumerate(through(stalk, 9)[15:]):
            sheet.oval(
                px + scatter(k, 6), py + 4, 8, 4.6, "#e3b455", 1.4, "#7d5a1c", turn=40 + k * 9
            )
    books(sheet, 752, 1134, 3, ("#35527a", "#35527a", "#8a4436"))
