"""The sitter: face, beard, hat and robe, all drawn to one measure.

A head is drawn in its own coordinates: origin between the ears, facing left, hairline at y = -118,
chin at about y = 160; whoever faces right is mirrored. A robe is drawn on the page (960 x 1200)
and never mirrored, since its left lapel lies over the right one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from voting.demo.portraits.brush import INK, Point, Sheet, polygon, scatter, through

BLACK = "#2f2a2b"
BLACK_LIT = "#474043"
GOLD = "#c99a3e"


@dataclass(frozen=True)
class Face:
    """What makes one face another."""

    jaw: float = 0
    """Wider (+) or narrower (-) at the jaw."""
    long: float = 0
    """Longer (+) or shorter (-) at the chin."""
    cheek: float = 0
    skin: str = "#e6c3a0"
    shade: str = "#cf9f79"
    hair: str = "#322b2b"
    brow: str = "level"
    """level | raised | bushy | fine | knit"""
    eye: str = "calm"
    """calm | smiling | keen | lowered"""
    beard: str = "none"
    """none | moustache | goatee | three | full | flowing"""
    age: int = 1
    """0 to 3: how many lines."""
    lips: str = "#b5705c"
    nose: float = 0


def head(face: Face, hat: Callable[[Sheet, Face], None]) -> Sheet:
    """The head with its hat, in the head's own coordinates."""
    sheet = Sheet()
    _hair_behind(sheet, face)
    _skull(sheet, face)
    _features(sheet, face)
    _BEARDS[face.beard](sheet, face)
    hat(sheet, face)
    return sheet


def _outline(face: Face) -> list[Point]:
    j, c, k = face.jaw, face.long, face.cheek
    return [
        (-92, -128),
        (-101, -80),
        (-103, -46),
        (-95, -16),
        (-101 - k, 14),
        (-104 - k, 42),
        (-97 - k * 0.7 - j * 0.5, 78),
        (-82 - j, 112 + c * 0.5),
        (-60 - j * 0.8, 140 + c * 0.9),
        (-30, 158 + c),
        (0 + j * 0.2, 156 + c),
        (32 + j * 0.7, 138 + c * 0.7),
        (66 + j, 106 + c * 0.3),
        (88 + j * 0.8, 66),
        (100 + k * 0.3, 20),
        (104, -40),
        (96, -128),
    ]


def _hair_behind(sheet: Sheet, face: Face) -> None:
    sheet.shape(
        [(60, -150), (130, -128), (158, -60), (150, 6), (128, 48), (104, 66), (86, 30), (80, -60)],
        face.hair,
    )


def _skull(sheet: Sheet, face: Face) -> None:
    # Ear first, the cheek overlaps it.
    sheet.shape(
        [(92, -20), (108, -34), (123, -24), (121, 6), (112, 36), (100, 46), (92, 30)],
        face.skin,
        3,
    )
    sheet.brush([(104, -18), (114, -12), (112, 10), (105, 26)], 3.2, face.shade)
    outline = through(_outline(face), 8)
    sheet.path(polygon(outline), face.skin)
    # One flat shadow along the near side and under the cheekbone.
    j, c = face.jaw, face.long
    sheet.shape(
        [
            (100, -110),
            (103, -30),
            (100, 22),
            (88 + j * 0.8, 66),
            (66 + j, 106 + c * 0.3),
            (32 + j * 0.7, 138 + c * 0.7),
            (-6, 157 + c),
            (20 + j * 0.4, 126 + c * 0.5),
            (50 + j * 0.5, 84),
            (68, 30),
            (76, -30),
            (72, -100),
        ],
        face.shade,
        opacity=0.55,
    )
    sheet.oval(36, 46, 30, 18, "#c8664e", opacity=0.13, turn=-12)
    sheet.oval(-84, 46, 14, 18, "#c8664e", opacity=0.15)
    sheet.path(polygon(outline[8:-8], closed=False), stroke=INK, width=3.2)
    # Hair from the temple to before the ear.
    sheet.shape(
        [(58, -138), (98, -132), (108, -70), (103, -22), (95, 6), (88, -14), (82, -62), (66, -106)],
        face.hair,
    )
    for i in range(3):
        sheet.brush([(84 + i * 6, -20), (88 + i * 4, 4), (90 + i * 3, 20 - i * 4)], 3, face.hair)


def _features(sheet: Sheet, face: Face) -> None:
    _eyes(sheet, face)
    _brows(sheet, face)
    n = face.nose
    # Nose: bridge, tip, wing; its shadow lies on the near side.
    sheet.shape(
        [(-44, -14), (-42, 20), (-50, 50), (-36, 60), (-20, 54), (-24, 36), (-34, 6)],
        face.shade,
        opacity=0.5,
    )
    sheet.brush(
        [(-50, -22), (-52, 4), (-60 - n, 30), (-68 - n, 50), (-62 - n * 0.6, 61), (-48, 61)], 4.6
    )
    sheet.brush([(-24, 38), (-17, 50), (-22, 60), (-32, 59)], 4)
    sheet.brush([(-52, 61), (-44, 57), (-37, 61)], 3)
    # Mouth: one line, the lips hardly tinted.
    sheet.shape([(-62, 90), (-50, 85), (-43, 87), (-34, 84), (-8, 91), (-36, 93)], face.lips)
    sheet.shape([(-56, 93), (-34, 94), (-14, 93), (-28, 103), (-44, 103)], face.lips, opacity=0.75)
    smile = 3 if face.eye == "smiling" else 0
    sheet.brush(
        [(-67, 89 - smile), (-54, 91), (-44, 90), (-32, 92), (-6, 90), (2, 86 - smile)], 4.4
    )
    sheet.brush([(-48, 112), (-36, 115), (-22, 112)], 3, face.shade)
    if face.age >= 1:
        sheet.brush([(-10, 54), (6, 68), (10, 86)], 2.8, "#8c5f46", opacity=0.75)
    if face.age >= 2:
        sheet.brush([(8, 16), (22, 21), (36, 18)], 2.4, "#8c5f46", opacity=0.6)
        sheet.brush([(-64, -78), (-30, -84), (20, -80)], 2.6, "#8c5f46", opacity=0.5)
        sheet.brush([(58, -8), (70, -14), (78, -22)], 2.4, "#8c5f46", opacity=0.6)
        sheet.brush([(58, -2), (70, 0), (80, -4)], 2.2, "#8c5f46", opacity=0.6)
    if face.age >= 3:
        sheet.brush([(-72, -96), (-30, -101), (26, -97)], 2.4, "#8c5f46", opacity=0.45)
        sheet.brush([(30, 62), (42, 82), (44, 100)], 2.6, "#8c5f46", opacity=0.5)
        sheet.brush([(-86, 20), (-78, 24), (-70, 22)], 2.2, "#8c5f46", opacity=0.6)


def _eyes(sheet: Sheet, face: Face) -> None:
    for x, wide in ((-71.0, 17.0), (17.0, 25.0)):
        y = -8.0
        if face.eye == "lowered":
            sheet.brush([(x - wide, y - 2), (x, y + 6), (x + wide, y - 1)], 6)
            sheet.brush([(x - wide * 0.8, y - 12), (x, y - 12), (x + wide, y - 8)], 2.4)
            for lash in (-0.5, 0, 0.5):
                sheet.line([(x + wide * lash, y + 4), (x + wide * lash * 1.2, y + 10)], width=1.8)
            continue
        lift = {"calm": 8.0, "smiling": 7.0, "keen": 10.0}[face.eye]
        low = {"calm": 4.5, "smiling": 1.5, "keen": 5.0}[face.eye]
        sheet.shape(
            [(x - wide, y + 1), (x - wide * 0.3, y - lift), (x + wide, y - 1), (x, y + low + 1)],
            "#f3e8d8",
        )
        sheet.oval(x - 4, y - lift * 0.28 - 0.5, lift * 0.82, lift * 0.86, INK)
        sheet.dot(x - 6.5, y - lift * 0.45, 1.8, "#f3e8d8")
        sheet.brush(
            [
                (x - wide - 2, y + 2),
                (x - wide * 0.4, y - lift),
                (x + wide * 0.3, y - lift * 0.9),
                (x + wide + 5, y - (3 if face.eye != "smiling" else -2)),
            ],
            6,
        )
        sheet.brush([(x - wide * 0.6, y + low), (x, y + low + 2.5), (x + wide, y + 1)], 2.4)
        if face.eye != "keen":
            sheet.brush(
                [(x - wide * 0.7, y - lift - 7), (x, y - lift - 9), (x + wide, y - lift - 3)],
                2.2,
                "#8c5f46",
            )
        if face.age >= 2:
            sheet.brush(
                [(x - wide * 0.5, y + 13), (x, y + 16), (x + wide * 0.8, y + 12)], 2, "#8c5f46"
            )


def _brows(sheet: Sheet, face: Face) -> None:
    colour = face.hair
    for x, wide, far in ((-72.0, 21.0, True), (16.0, 34.0, False)):
        y = -38.0
        inner, outer = (x + wide, x - wide) if far else (x - wide, x + wide)
        if face.brow == "fine":
            sheet.brush([(inner, y + 2), (x, y - 9), (outer, y + 1)], 4.4, colour)
        elif face.brow == "raised":
            sheet.brush([(inner, y + 3), (x, y - 10), (outer, y - 8)], 9.5, colour)
        elif face.brow == "knit":
            sheet.brush([(inner, y + 9), (x, y - 4), (outer, y - 3)], 10.5, colour)
        elif face.brow == "bushy":
            for i in range(5):
                sheet.brush(
                    [
                        (inner + (x - inner) * i * 0.18, y + 4 - i),
                        (x, y - 8 + i),
                        (outer + (outer - x) * 0.12, y + 6 + i * 5),
                    ],
                    5.5,
                    colour,
                )
        else:
            sheet.brush([(inner, y + 4), (x, y - 5), (outer, y + 3)], 8.5, colour)


def _no_beard(sheet: Sheet, face: Face) -> None:
    pass


def _moustache(sheet: Sheet, face: Face, *, droop: float = 24) -> None:
    for side in (-1, 1):
        start = -45 + side * 4
        reach = 27 if side < 0 else 44
        for i in range(3):
            sheet.brush(
                [
                    (start, 74 + i * 2),
                    (start + side * reach * 0.55, 77 + i * 3),
                    (start + side * (reach - i * 3), 88 + droop * (0.5 + i * 0.15)),
                    (start + side * (reach + 3 - i * 4), 92 + droop),
                ],
                6 - i,
                face.hair,
                "out",
            )


def _chin_tuft(sheet: Sheet, face: Face, length: float, wide: float) -> None:
    c = face.long
    tip = 150 + c + length
    sheet.shape(
        [
            (-62, 132 + c),
            (-38, 122 + c),
            (-8, 132 + c),
            (0 + wide * 0.2, 160 + c),
            (-14 + wide * 0.3, (150 + c + tip) / 2 + 16),
            (-32, tip),
            (-50 - wide * 0.2, (150 + c + tip) / 2 + 10),
            (-66 - wide * 0.1, 158 + c),
        ],
        face.hair,
    )
    _strands(
        sheet, face, [(-54, 130 + c), (-40, 126 + c), (-26, 126 + c), (-12, 132 + c)], -34, tip
    )


def _strands(sheet: Sheet, face: Face, roots: list[Point], x_tip: float, y_tip: float) -> None:
    """Hairs in a lighter ink over a beard."""
    light = lighter(face.hair)
    for i, (x, y) in enumerate(roots):
        sheet.brush(
            [
                (x, y + 6),
                ((x + x_tip) / 2 + (x - x_tip) * 0.28 + scatter(i, 4), (y + y_tip) / 2),
                (x_tip + (x - x_tip) * 0.16, y_tip - 14 - abs(scatter(i, 18))),
            ],
            3.2,
            light,
        )


def lighter(colour: str) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    toward = 255 if sum(parts) < 420 else 90
    return "#" + "".join(f"{int(part + (toward - part) * 0.26):02x}" for part in parts)


def _goatee(sheet: Sheet, face: Face) -> None:
    _moustache(sheet, face, droop=14)
    c = face.long
    for i in range(9):
        x = -58 + i * 6.0
        sheet.brush(
            [
                (x, 132 + c - abs(i - 4)),
                (-34 + (x + 34) * 0.85, 172 + c),
                (-34 + (x + 34) * 0.25, 236 + c - abs(i - 4) * 12),
            ],
            11,
            face.hair,
        )
    for i in range(3):
        x = -44 + i * 10.0
        sheet.brush(
            [(x, 146 + c), (-34 + (x + 34) * 0.7, 178 + c), (-34, 212 + c)], 2.6, lighter(face.hair)
        )


def _three(sheet: Sheet, face: Face) -> None:
    """Three long strands, as a scholar wears them."""
    _chin_tuft(sheet, face, 128, 16)
    for x, tip in ((66 + face.jaw, 40.0), (-84 - face.jaw, -78.0)):
        y = 92 if x > 0 else 100
        bend = 1 if x > 0 else -1
        for i in range(4):
            sheet.brush(
                [
                    (x - bend * i * 4, y + i * 4),
                    (x - bend * i * 5 + bend * 4, y + 60),
                    (tip - bend * i * 4, y + 108),
                    (tip - bend * (8 + i * 3), y + 158 - i * 8),
                ],
                7.5,
                face.hair,
            )
    _moustache(sheet, face, droop=52)


def _full(sheet: Sheet, face: Face, *, length: float = 118, wide: float = 1.0) -> None:
    j, c = face.jaw, face.long
    tip = 156 + c + length
    middle = 156 + c + length * 0.45
    sheet.shape(
        [
            (98, 22),
            (92 + j, 66),
            (84 + j * wide, 120),
            (64 * wide, middle),
            (16 * wide, tip - 24),
            (-30, tip),
            (-66 * wide, tip - 30),
            (-94 * wide, middle - 4),
            (-102 - j, 116),
            (-98 - j * 0.5, 80),
            (-82 - j * 0.5, 96),
            (-66, 116),
            (-36, 122),
            (4, 112),
            (36, 98),
            (70, 62),
            (86, 24),
        ],
        face.hair,
    )
    _strands(
        sheet,
        face,
        [
            (-92, 104),
            (-76, 114),
            (-58, 122),
            (-40, 126),
            (-20, 124),
            (0, 118),
            (22, 112),
            (44, 102),
            (64, 86),
            (80, 60),
        ],
        -30,
        tip,
    )
    sheet.shape([(-58, 104), (-36, 106), (-14, 104), (-24, 116), (-46, 116)], face.skin)
    _moustache(sheet, face, droop=30)


def _flowing(sheet: Sheet, face: Face) -> None:
    _full(sheet, face, length=206, wide=1.04)
    _moustache(sheet, face, droop=70)


_BEARDS: dict[str, Callable[[Sheet, Face], None]] = {
    "none": _no_beard,
    "moustache": _moustache,
    "goatee": _goatee,
    "three": _three,
    "full": _full,
    "flowing": _flowing,
}


# Hats. Each was worn in its sitter's time; the front is to the left.


def _gauze(sheet: Sheet, edges: tuple[Point, Point, Point, Point], opacity: float = 0.35) -> None:
    """A weave of thin lines over a four-cornered field: top left, top right, bottom right,
    bottom left."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = edges
    for i in range(1, 12):
        t = i / 12
        sheet.line(
            [(ax + (bx - ax) * t, ay + (by - ay) * t), (dx + (cx - dx) * t, dy + (cy - dy) * t)],
            "#8a8085",
            1.3,
            opacity,
        )
        sheet.line(
            [(ax + (dx - ax) * t, ay + (dy - ay) * t), (bx + (cx - bx) * t, by + (cy - by) * t)],
            "#8a8085",
            1.3,
            opacity,
        )


def _cord(sheet: Sheet, face: Face, colour: str) -> None:
    """From the hat past the ear to a bow under the chin."""
    c, j = face.long, face.jaw
    sheet.line([(96, -70), (90, 20), (74 + j, 104), (24, 154 + c), (-24, 166 + c)], colour, 5)
    sheet.line([(-98, -60), (-102, 30), (-88 - j, 110), (-56, 152 + c), (-24, 166 + c)], colour, 5)


def _cord_ends(sheet: Sheet, face: Face, colour: str) -> None:
    c = face.long
    sheet.brush([(-24, 168 + c), (-34, 214 + c), (-30, 262 + c)], 9, colour)
    sheet.brush([(-22, 168 + c), (-10, 210 + c), (-14, 250 + c)], 9, colour)
    sheet.dot(-23, 168 + c, 8, colour, 2.4)


def ridged_crown(sheet: Sheet, face: Face) -> None:
    """进贤冠 of the Han: a cap, and over it a crest that slopes to the back."""
    sheet.shape(
        [
            (-104, -84),
            (-112, -132),
            (-94, -178),
            (-20, -196),
            (70, -192),
            (132, -200),
            (164, -150),
            (160, -70),
            (150, -22),
            (132, -40),
            (106, -84),
            (40, -108),
            (-40, -106),
        ],
        BLACK,
        3,
    )
    sheet.brush([(-106, -86), (-40, -110), (40, -110), (104, -86), (140, -36)], 8, "#7c2f28")
    sheet.flat(
        [(-112, -164), (-100, -300), (-56, -304), (150, -206), (152, -170), (30, -186)],
        BLACK_LIT,
        3.2,
    )
    sheet.flat(
        [(-100, -300), (-56, -304), (150, -206), (150, -192), (-62, -288), (-102, -284)], GOLD, 2.4
    )
    for y in (0, 26, 52):
        sheet.line([(-92, -270 + y), (128 - y * 0.5, -196 + y * 0.22)], GOLD, 3.4, 0.9)
    _cord(sheet, face, "#7c2f28")
    _cord_ends(sheet, face, "#7c2f28")


def gauze_cage(sheet: Sheet, face: Face) -> None:
    """漆纱笼冠 of the Southern dynasties: a tall lacquered gauze that lets the small crown shine
    through."""
    sheet.shape(
        [
            (-98, -96),
            (-84, -150),
            (0, -172),
            (100, -160),
            (152, -80),
            (140, -30),
            (110, -80),
            (30, -112),
            (-50, -112),
        ],
        face.hair,
    )
    sheet.flat([(-18, -160), (-34, -236), (64, -240), (60, -160)], "#8a5a32", 3)
    sheet.line([(-52, -204), (96, -200)], GOLD, 7)
    cage = through(
        [
            (-124, -74),
            (-126, -150),
            (-110, -306),
            (-96, -326),
            (20, -338),
            (128, -326),
            (146, -306),
            (168, -140),
            (172, -40),
            (160, 34),
            (132, 44),
            (128, -20),
            (104, -86),
            (30, -116),
            (-50, -114),
            (-100, -92),
        ],
        8,
    )
    sheet.path(polygon(cage), "#2a2527", INK, 3.4, 0.86)
    _gauze(sheet, ((-108, -312), (138, -316), (150, -110), (-120, -110)), 0.5)
    sheet.line([(-120, -88), (-50, -114), (30, -116), (104, -88), (130, -24)], "#b98b47", 4)
    sheet.line([(-112, -306), (20, -320), (146, -306)], "#b98b47", 3.4)
    _cord(sheet, face, "#3a4a5c")
    _cord_ends(sheet, face, "#3a4a5c")


def _official_cap(sheet: Sheet, *, back: float = -276, round_top: bool = False) -> None:
    lift = 18 if round_top else 0
    sheet.shape(
        [
            (24, -120),
            (16, back + 26),
            (40, back - lift),
            (118, back - lift),
            (152, back + 34),
            (160, -120),
            (150, -30),
            (110, -84),
        ],
        BLACK,
        3,
    )
    sheet.shape(
        [
            (-104, -82),
            (-112, -140),
            (-96, -192),
            (-40, -208),
            (40, -204),
            (96, -170),
            (116, -90),
            (44, -106),
            (-44, -104),
        ],
        BLACK_LIT,
        3,
    )
    sheet.brush([(-104, -84), (-44, -106), (44, -108), (114, -88), (146, -38)], 9, "#1d191a")
    sheet.brush([(-98, -150), (-60, -190), (20, -196)], 4, "#6a6266", opacity=0.8)


def long_wings(sheet: Sheet, face: Face) -> None:
    """展脚幞头 of the Song: straight wings, so long that ministers could not whisper in court."""
    _official_cap(sheet)


def long_wings_behind(sheet: Sheet) -> None:
    for side, reach in ((-1, 366), (1, 400)):
        sheet.flat(
            [
                (36, -118),
                (36 + side * reach * 0.5, -126),
                (36 + side * reach, -150),
                (36 + side * (reach + 3), -136),
                (36 + side * reach * 0.5, -106),
                (36, -98),
            ],
            BLACK,
            3,
        )


def short_wings(sheet: Sheet, face: Face) -> None:
    """乌纱帽 of the Ming: two short, broad wings."""
    _official_cap(sheet, back=-254, round_top=True)


def short_wings_behind(sheet: Sheet) -> None:
    for side, x in ((-1, -150.0), (1, 226.0)):
        sheet.oval(x, -112, 92, 31, BLACK, 3, turn=side * 5)
        sheet.oval(x, -112, 78, 20, "none", 1.8, "#7d7479", turn=side * 5)


def marten_cap(sheet: Sheet, face: Face) -> None:
    """武弁 of a Han palace attendant: gauze dome, gold plate in front, a marten's tail."""
    dome = through(
        [
            (-110, -80),
            (-120, -160),
            (-98, -246),
            (-40, -286),
            (40, -290),
            (112, -256),
            (150, -180),
            (164, -80),
            (160, 0),
            (138, 10),
            (128, -40),
            (104, -88),
            (40, -110),
            (-44, -108),
        ],
        8,
    )
    sheet.path(polygon(dome), "#332b2c", INK, 3.4)
    _gauze(sheet, ((-84, -250), (100, -258), (140, -116), (-112, -112)), 0.34)
    sheet.brush([(-110, -82), (-44, -110), (40, -112), (106, -90), (136, -36)], 11, "#7a2a2a")
    sheet.shape(
        [(-88, -128), (-84, -196), (-52, -214), (-20, -194), (-16, -128), (-52, -116)], GOLD, 3
    )
    sheet.oval(-52, -166, 13, 24, "#8f6420", 2)
    sheet.brush([(-64, -160), (-78, -144), (-74, -130)], 7, "#8f6420")
    sheet.brush([(-40, -160), (-27, -144), (-31, -130)], 7, "#8f6420")
    sheet.dot(-58, -188, 4, "#8f6420")
    sheet.dot(-46, -188, 4, "#8f6420")
    for i in range(9):
        # A marten's tail: long hairs over one another, the lit ones last.
        out = i * 6.0
        sheet.brush(
            [
                (112, -226),
                (138 + out * 0.3, -284 - out * 0.3),
                (184 + out * 0.6, -290 - out * 0.2),
                (208 + out * 0.7, -214),
                (190 + out, -108 + abs(i - 4) * 7),
            ],
            26 if i < 6 else 8,
            ("#6f4526", "#7d5230", "#8f6138")[i % 3] if i < 6 else "#c08d56",
        )
    sheet.oval(116, -224, 11, 15, GOLD, 2.6)
    _cord(sheet, face, "#7a2a2a")
    _cord_ends(sheet, face, "#7a2a2a")


def soft_wrap(sheet: Sheet, face: Face) -> None:
    """A craftsman's head cloth, knotted behind."""
    cloth, fold = "#56657a", "#3d495b"
    sheet.shape(
        [(140, -70), (196, -66), (216, -20), (196, 70), (176, 96), (182, 20), (160, -20)], fold, 3
    )
    sheet.shape([(140, -60), (178, -20), (182, 60), (158, 118), (140, 92), (156, 30)], cloth, 3)
    sheet.shape(
        [
            (-106, -76),
            (-116, -128),
            (-100, -190),
            (-50, -226),
            (30, -236),
            (108, -210),
            (154, -150),
            (162, -80),
            (148, -34),
            (124, -62),
            (60, -100),
            (-40, -104),
        ],
        cloth,
        3.2,
    )
    sheet.brush([(-108, -80), (-40, -106), (50, -104), (122, -66), (150, -36)], 22, fold)
    sheet.brush([(-92, -180), (-30, -150), (60, -140), (140, -90)], 6, fold)
    sheet.brush([(-50, -222), (20, -190), (100, -170), (150, -110)], 6, fold)
    sheet.brush([(40, -232), (100, -200), (146, -150)], 5, fold)
    sheet.shape([(-64, -122), (-92, -142), (-112, -186), (-84, -178), (-58, -140)], cloth, 3)
    sheet.shape([(-60, -122), (-46, -158), (-14, -186), (-22, -150), (-48, -118)], cloth, 3)
    sheet.oval(-60, -124, 15, 13, fold, 3)
    sheet.oval(154, -66, 18, 15, fold, 3)


def square_cap(sheet: Sheet, face: Face) -> None:
    """四方平定巾 of the Ming: a box of black gauze, wider at its top."""
    sheet.flat([(-38, -92), (-30, -300), (176, -282), (152, -40), (112, -84)], "#262122", 3.2)
    sheet.flat([(-106, -80), (-142, -276), (-30, -300), (-38, -104)], BLACK_LIT, 3.2)
    sheet.flat([(-142, -276), (-30, -300), (176, -282), (60, -272)], "#5b5256", 2.6)
    _gauze(sheet, ((-136, -270), (-32, -292), (-38, -108), (-106, -84)), 0.32)
    sheet.line([(-34, -296), (-38, -104)], "#6c6267", 3)
    sheet.brush([(-106, -82), (-40, -106), (40, -106), (112, -84), (150, -42)], 9, "#1b1718")
    sheet.brush([(96, -250), (110, -160), (118, -100)], 4, "#544b4f")


def brimmed_hat(sheet: Sheet, face: Face) -> None:
    """钹笠 of the Yuan: a cymbal of felt with a finial, and a string of beads under the chin."""
    felt, dark = "#a9713c", "#6f4521"
    c, j = face.long, face.jaw
    beads = through(
        [
            (112, -50),
            (104, 30),
            (80 + j, 118),
            (20, 168 + c),
            (-40, 172 + c),
            (-90 - j, 120),
            (-106, 20),
            (-108, -60),
        ],
        6,
    )
    sheet.line(
        [
            (112, -50),
            (104, 30),
            (80 + j, 118),
            (20, 168 + c),
            (-40, 172 + c),
            (-90 - j, 120),
            (-106, 20),
            (-108, -60),
        ],
        dark,
        2.2,
    )
    for i, (x, y) in enumerate(beads[3::4]):
        sheet.dot(x, y, 8 if i % 3 else 10, "#b8433a" if i % 3 else "#e2c66a", 2.2)
    sheet.shape(
        [
            (-92, -110),
            (-84, -190),
            (-30, -240),
            (40, -246),
            (110, -206),
            (142, -110),
            (60, -90),
            (-40, -92),
        ],
        felt,
        3.2,
    )
    sheet.brush([(-62, -200), (-20, -226), (40, -230)], 7, "#cf9a61", opacity=0.9)
    for i in range(5):
        sheet.line([(-58 + i * 40, -106), (-30 + i * 22, -238 + abs(i - 2) * 4)], dark, 2, 0.6)
    sheet.shape(
        [
            (-200, -70),
            (-150, -104),
            (-92, -122),
            (24, -132),
            (132, -116),
            (200, -86),
            (246, -42),
            (160, -54),
            (40, -76),
            (-60, -84),
            (-150, -66),
        ],
        felt,
        3.2,
    )
    sheet.brush([(-196, -70), (-60, -90), (60, -80), (240, -44)], 7, dark)
    sheet.brush([(-90, -122), (20, -134), (136, -114)], 10, dark)
    sheet.shape([(-8, -240), (-14, -262), (10, -276), (34, -262), (28, -240)], GOLD, 3)
    sheet.dot(10, -286, 15, "#b8433a", 3)
    sheet.dot(6, -291, 4, "#f0cfc0")


def notched_cap(sheet: Sheet, face: Face) -> None:
    """东坡巾: a high inner box, and an outer wall that opens over the brow."""
    sheet.flat([(-86, -100), (-96, -322), (128, -312), (140, -100)], "#453f46", 3.2)
    sheet.line([(14, -318), (18, -110)], "#5f5760", 3)
    sheet.flat([(-106, -80), (-120, -252), (-66, -236), (-22, -104)], "#332d33", 3.2)
    sheet.flat(
        [(-22, -104), (30, -244), (170, -252), (152, -40), (112, -86), (40, -106)], "#332d33", 3.2
    )
    sheet.line([(-114, -246), (-70, -230), (-28, -110)], "#7d737d", 2.4)
    sheet.line([(-16, -110), (34, -236), (164, -244)], "#7d737d", 2.4)
    sheet.brush([(-106, -82), (-40, -106), (40, -108), (112, -86), (150, -42)], 9, "#1b1718")
    sheet.dot(-22, -116, 9, "#6f9c86", 2.6)


def cloth_hood(sheet: Sheet, face: Face) -> None:
    """幅巾 of a Han scholar: one piece of undyed cloth, tied round the head."""
    cloth, fold = "#b8ab93", "#8d7f68"
    sheet.shape(
        [
            (-104, -74),
            (-115, -122),
            (-98, -172),
            (-46, -198),
            (4, -210),
            (26, -246),
            (76, -258),
            (112, -224),
            (152, -172),
            (174, -100),
            (170, -24),
            (150, 10),
            (126, -50),
            (60, -94),
            (-40, -100),
        ],
        cloth,
        3.2,
    )
    sheet.brush([(-106, -78), (-40, -104), (60, -98), (126, -56), (156, 2)], 20, fold)
    sheet.brush([(-84, -166), (0, -160), (90, -140), (166, -70)], 5, fold)
    sheet.brush([(-20, -198), (50, -196), (116, -172), (168, -100)], 5, fold)
    sheet.brush([(6, -212), (50, -206), (108, -220)], 5.5, fold)
    sheet.brush([(50, -246), (74, -238), (92, -222)], 4, fold)
    sheet.oval(164, -24, 16, 20, fold, 3)


def cloth_hood_behind(sheet: Sheet) -> None:
    sheet.shape(
        [
            (140, -40),
            (186, -30),
            (214, 60),
            (222, 180),
            (206, 270),
            (150, 290),
            (120, 200),
            (116, 60),
        ],
        "#a3957c",
        3,
    )
    sheet.brush([(166, -10), (178, 100), (172, 240)], 6, "#8d7f68")
    sheet.brush([(192, 20), (202, 130), (196, 230)], 5, "#8d7f68")


def small_crown(sheet: Sheet, face: Face) -> None:
    """小冠 of the Northern dynasties: bare combed hair, a little crown, a long pin."""
    sheet.shape(
        [
            (-100, -92),
            (-106, -130),
            (-84, -176),
            (-20, -200),
            (60, -200),
            (130, -172),
            (160, -110),
            (158, -40),
            (130, 10),
            (104, -40),
            (92, -84),
            (30, -112),
            (-50, -112),
        ],
        face.hair,
    )
    light = lighter(face.hair)
    for i in range(8):
        sheet.brush(
            [(-92 + i * 26, -108 + abs(i - 3) * 4), (-60 + i * 22, -150), (-2 + i * 8, -190)],
            3,
            light,
            opacity=0.8,
        )
    sheet.shape([(-20, -190), (-28, -232), (24, -262), (80, -240), (84, -192)], face.hair, 3)
    sheet.flat(
        [(-40, -188), (-54, -250), (-20, -270), (90, -262), (110, -240), (100, -186), (30, -176)],
        "#6d4a2a",
        3.2,
    )
    sheet.line([(-46, -214), (104, -210)], GOLD, 4)
    for x in (-22, 14, 50, 82):
        sheet.line([(x, -184), (x - 2, -262)], GOLD, 2.6)
    sheet.line([(-112, -226), (170, -218)], GOLD, 8)
    sheet.dot(-116, -226, 10, "#e6d9b0", 2.6)


def kerchief(sheet: Sheet, face: Face) -> None:
    """A countrywoman's kerchief, indigo with a resist pattern, over parted hair."""
    blue, deep, pale = "#33507a", "#243b5e", "#dfe6ec"
    # Parted hair under the cloth.
    sheet.shape(
        [(-100, -40), (-108, -100), (-80, -140), (-40, -134), (-60, -100), (-88, -70)], face.hair
    )
    sheet.shape(
        [
            (-50, -136),
            (30, -140),
            (100, -120),
            (110, -40),
            (100, 0),
            (84, -40),
            (50, -86),
            (-10, -112),
        ],
        face.hair,
    )
    sheet.shape(
        [(136, -60), (190, -40), (206, 30), (190, 110), (166, 126), (160, 60), (146, 10)], deep, 3
    )
    sheet.shape(
        [
            (-112, -76),
            (-122, -132),
            (-98, -196),
            (-40, -232),
            (30, -242),
            (104, -222),
            (158, -160),
            (170, -80),
            (160, -10),
            (136, 8),
            (122, -40),
            (80, -98),
            (0, -128),
            (-60, -118),
        ],
        blue,
        3.2,
    )
    sheet.brush([(-112, -80), (-60, -120), (0, -130), (80, -102), (126, -40), (142, 4)], 13, pale)
    sheet.brush([(-112, -80), (-60, -120), (0, -130), (80, -102), (126, -40), (142, 4)], 5, deep)
    for i, (x, y) in enumerate(
        [
            (-84, -158),
            (-44, -192),
            (-40, -150),
            (6, -214),
            (10, -166),
            (58, -194),
            (56, -142),
            (104, -176),
            (100, -120),
            (142, -136),
            (138, -80),
        ]
    ):
        for turn in range(5):
            angle = turn * 72 + i * 17
            px = x + 8 * _cos(angle)
            py = y + 8 * _cos(angle - 90)
            sheet.dot(px, py, 4, pale)
        sheet.dot(x, y, 3, deep)
    sheet.oval(150, -20, 16, 18, deep, 3)
    sheet.line([(110, 44), (110, 58)], "#8b9aa6", 3)
    sheet.dot(110, 66, 9, "#6f9c86", 2.6)


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


# Robes.


@dataclass(frozen=True)
class Robe:
    cloth: str
    sleeve: str
    fold: str
    border: str
    inner: str = "#f1eadc"
    collar: str = "crossed"
    """crossed | round"""
    trim: str = ""
    """A thin line along the border."""
    badge: str = ""
    """square | roundels | dots | checks"""


def robe(sheet: Sheet, dress: Robe, face: Face) -> None:
    """Shoulders, crossed sleeves and collar; the neck too, since it lies between them."""
    body = through(
        [
            (404, 640),
            (352, 676),
            (276, 706),
            (216, 742),
            (168, 830),
            (132, 950),
            (104, 1080),
            (860, 1080),
            (832, 950),
            (794, 830),
            (744, 742),
            (686, 706),
            (610, 676),
            (558, 640),
        ],
        8,
    )
    sheet.path(polygon(body), dress.cloth)
    if dress.badge == "roundels":
        for x, y in ((286, 790), (674, 790), (380, 900), (590, 900), (480, 1000)):
            sheet.dot(x, y, 42, "none", 3, dress.trim, 0.75)
            sheet.dot(x, y, 26, "none", 2.4, dress.trim, 0.6)
            for turn in range(6):
                sheet.dot(
                    x + 16 * _cos(turn * 60),
                    y + 16 * _cos(turn * 60 - 90),
                    7,
                    dress.trim,
                    opacity=0.6,
                )
    elif dress.badge == "dots":
        for row in range(8):
            for column in range(13):
                x = 180 + column * 52 + (row % 2) * 26
                y = 730 + row * 42
                if 170 + (1080 - y) * 0.2 < x < 790 - (1080 - y) * 0.2:
                    sheet.dot(x, y, 4, dress.trim, opacity=0.55)
    # Neck, with the chin's shadow on it.
    sheet.flat([(428, 560), (540, 560), (552, 664), (484, 760), (414, 664)], face.skin)
    sheet.shape(
        [(424, 560), (545, 556), (548, 640), (500, 660), (440, 640)], face.shade, opacity=0.85
    )
    sheet.brush([(430, 560), (432, 620), (412, 662)], 4)
    sheet.brush([(540, 560), (540, 620), (556, 662)], 4)
    if dress.collar == "round":
        _round_collar(sheet, dress)
    else:
        _crossed_collar(sheet, dress)
    _sleeves(sheet, dress)
    sheet.path(polygon(body), stroke=INK, width=3.6)


def _crossed_collar(sheet: Sheet, dress: Robe) -> None:
    # Two layers of white beneath; the wearer's left lapel comes last and lies on top.
    sheet.flat([(410, 632), (432, 620), (520, 768), (486, 800)], dress.inner, 2.6)
    sheet.flat([(552, 620), (572, 634), (470, 820), (440, 790)], dress.inner, 2.6)
    sheet.flat(
        [(396, 628), (418, 624), (506, 800), (470, 850), (428, 790), (376, 650)], dress.border, 3.2
    )
    sheet.flat(
        [
            (562, 622),
            (588, 640),
            (570, 700),
            (500, 830),
            (396, 990),
            (330, 1000),
            (452, 820),
            (520, 700),
        ],
        dress.border,
        3.2,
    )
    if dress.trim:
        sheet.line([(566, 650), (484, 806), (374, 984)], dress.trim, 3.4)
        sheet.line([(400, 660), (440, 768)], dress.trim, 3.4)


def _round_collar(sheet: Sheet, dress: Robe) -> None:
    sheet.flat([(414, 628), (434, 618), (490, 700), (466, 722)], dress.inner, 2.6)
    sheet.flat([(536, 618), (560, 630), (488, 726), (462, 700)], dress.inner, 2.6)
    ring = [
        (392, 640),
        (420, 690),
        (482, 722),
        (544, 692),
        (576, 640),
        (586, 664),
        (552, 722),
        (482, 756),
        (410, 720),
        (380, 664),
    ]
    sheet.path(polygon(through([*ring, ring[0]], 6)), dress.border, INK, 3.2)
    if dress.trim:
        sheet.line([(396, 664), (424, 704), (482, 736), (540, 706), (572, 664)], dress.trim, 3)
    sheet.brush([(404, 720), (356, 800), (330, 900), (322, 1000)], 4.4)
    sheet.dot(396, 694, 11, dress.border, 3)
    if dress.badge == "square":
        _crane_square(sheet)


def _crane_square(sheet: Sheet) -> None:
    """补子: a crane over waves, the badge of a first-rank minister."""
    sheet.box(384, 770, 196, 186, "#2f4a6d", 3.4, round_by=4)
    sheet.box(394, 780, 176, 166, "none", 2.4, "#d9b35c", 2)
    for i in range(5):
        x = 408 + i * 30
        sheet.line([(x, 938), (x + 15, 918), (x + 30, 938)], "#8fb7c4", 4)
    sheet.dot(548, 806, 13, "#c8493a")
    for x, y in ((416, 806), (430, 800), (444, 808), (540, 862), (552, 856)):
        sheet.dot(x, y, 9, "#e7c873", opacity=0.85)
    white = "#f4efe4"
    sheet.shape([(420, 850), (450, 826), (484, 846), (474, 866), (444, 862)], white, 1.6)
    sheet.shape([(470, 852), (520, 818), (550, 838), (520, 852), (490, 872)], white, 1.6)
    sheet.shape([(456, 858), (486, 850), (500, 872), (480, 890), (458, 878)], white, 1.6)
    sheet.line([(490, 860), (508, 880), (500, 898)], white, 6)
    sheet.dot(500, 900, 5, "#c8493a")
    sheet.line([(462, 884), (448, 906), (434, 910)], INK, 3)
    sheet.line([(470, 886), (462, 908), (448, 916)], INK, 3)


def _sleeves(sheet: Sheet, dress: Robe) -> None:
    for side in (-1, 1):

        def at(x: float, y: float, side: int = side) -> Point:
            return (482 + side * (482 - x), y)

        sheet.path(
            polygon(
                through(
                    [
                        at(206, 764),
                        at(172, 836),
                        at(136, 956),
                        at(108, 1080),
                        at(470, 1090),
                        at(474, 990),
                        at(400, 968),
                        at(336, 916),
                        at(294, 846),
                        at(262, 782),
                        at(230, 752),
                    ],
                    8,
                )
            ),
            dress.sleeve,
        )
        sheet.brush([at(250, 764), at(294, 846), at(336, 916), at(400, 968), at(474, 990)], 5.5)
        sheet.brush([at(206, 820), at(224, 906), at(300, 990)], 5, dress.fold)
        sheet.brush([at(150, 930), at(230, 1010), at(340, 1040)], 5, dress.fold)
        sheet.brush([at(266, 850), at(316, 940), at(396, 1002)], 4.4, dress.fold)
        sheet.flat([at(474, 972), at(420, 958), at(406, 1090), at(474, 1090)], dress.border, 3.2)
        if dress.trim:
            sheet.line([at(430, 962), at(418, 1088)], dress.trim, 3)
    sheet.brush([(482, 978), (480, 1030), (482, 1090)], 4)
    sheet.brush([(282, 722), (312, 780), (322, 850)], 4.4, dress.fold)
    sheet.brush([(680, 722), (650, 780), (640, 850)], 4.4, dress.fold)
