"""Twelve portraits: each sitter between a table of things and a moon of motifs."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from voting.demo.portraits import cover, figure, things
from voting.demo.portraits.brush import Sheet
from voting.demo.portraits.figure import Face, Robe

WIDE, HIGH = 960, 1200
TABLE = 1062.0
_HEAD_AT = (480, 452)
_HEAD_SCALE = 1.2

Drawing = Callable[[Sheet], None]


def _nothing(sheet: Sheet) -> None:
    pass


@dataclass(frozen=True)
class Portrait:
    face: Face
    hat: Callable[[Sheet, Face], None]
    robe: Robe
    paper: str
    moon: str
    behind: Drawing
    """In and around the moon."""
    before: Drawing
    """On the table."""
    hat_behind: Drawing = _nothing
    wood: str = "#5a3d2b"
    seal: Drawing = field(default=_nothing)
    right: bool = False
    """Faces right."""


def picture(portrait: Portrait) -> str:
    """The whole SVG."""
    sheet = Sheet()
    sheet.box(0, 0, WIDE, HIGH, portrait.paper)
    sheet.add(f'<rect width="{WIDE}" height="{HIGH}" fill="url(#light)"/>')
    _frame(sheet)
    drawn = Sheet()
    drawn.dot(*things.MOON, portrait.moon)
    portrait.behind(drawn)
    head = Sheet()
    portrait.hat_behind(head)
    front = figure.head(portrait.face, portrait.hat)
    mirrored = "-" if portrait.right else ""
    place = (
        f'transform="translate({_HEAD_AT[0]} {_HEAD_AT[1]}) '
        f'scale({mirrored}{_HEAD_SCALE} {_HEAD_SCALE})"'
    )
    drawn.within(head, place)
    figure.robe(drawn, portrait.robe, portrait.face)
    drawn.within(front, place)
    _table(drawn, portrait.wood)
    portrait.before(drawn)
    sheet.within(drawn, 'filter="url(#hand)"')
    _seal(sheet, portrait)
    sheet.add(f'<rect width="{WIDE}" height="{HIGH}" filter="url(#grain)" opacity=".33"/>')
    return _DOCUMENT.format(wide=WIDE, high=HIGH, content=sheet)


WITH_THINGS = ("zhang-heng", "li-shizhen", "bi-sheng", "huang-daopo")
"""Whose things are a picture of their own."""


def still(portrait: Portrait) -> str:
    """The SVG of a sitter's things, without the sitter."""
    sheet = Sheet()
    sheet.box(0, 0, WIDE, HIGH, portrait.paper)
    sheet.add(f'<rect width="{WIDE}" height="{HIGH}" fill="url(#light)"/>')
    _frame(sheet)
    drawn = Sheet()
    drawn.dot(*things.MOON, portrait.moon)
    portrait.behind(drawn)
    _table(drawn, portrait.wood)
    portrait.before(drawn)
    sheet.within(drawn, 'filter="url(#hand)"')
    _seal(sheet, portrait)
    return _DOCUMENT.format(wide=WIDE, high=HIGH, content=sheet)


_DOCUMENT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">
<defs>
<radialGradient id="light" cx="50%" cy="38%" r="78%">
<stop offset="0" stop-color="#fff" stop-opacity=".3"/>
<stop offset=".55" stop-color="#fff" stop-opacity="0"/>
<stop offset="1" stop-color="#3b2a18" stop-opacity=".3"/>
</radialGradient>
<filter id="hand" x="0" y="0" width="100%" height="100%">
<feTurbulence type="fractalNoise" baseFrequency=".018" numOctaves="3" seed="7" result="wave"/>
<feDisplacementMap in="SourceGraphic" in2="wave" scale="5.5" xChannelSelector="R" \
yChannelSelector="G"/>
</filter>
<filter id="grain" x="0" y="0" width="100%" height="100%">
<feTurbulence type="fractalNoise" baseFrequency=".55" numOctaves="3" seed="3"/>
<feColorMatrix values="0 0 0 0 .24  0 0 0 0 .18  0 0 0 0 .1  .9 .6 0 0 -.56"/>
</filter>
<clipPath id="moon"><circle cx="480" cy="470" r="400"/></clipPath>
</defs>
{content}
</svg>
"""


def _table(sheet: Sheet, wood: str) -> None:
    sheet.box(-20, TABLE, WIDE + 40, 46, figure.lighter(wood), 3.4)
    sheet.box(-20, TABLE + 46, WIDE + 40, 160, wood, 3.4)
    for i in range(4):
        y = TABLE + 12 + i * 9
        sheet.brush([(40 + i * 130, y), (260 + i * 140, y + 2), (470 + i * 120, y)], 2.4, wood)
    sheet.line([(0, TABLE + 64), (WIDE, TABLE + 64)], "#00000055", 3)
    for x in range(-30, WIDE + 40, 66):
        sheet.path(
            f"M{x} {TABLE + 120}V{TABLE + 86}H{x + 46}"
            f"V{TABLE + 112}H{x + 18}V{TABLE + 100}H{x + 32}",
            stroke=figure.lighter(wood),
            width=3,
            opacity=0.8,
        )


def _frame(sheet: Sheet) -> None:
    sheet.box(22, 22, WIDE - 44, HIGH - 44, "none", 2.4, "#3a2c20", 2, 0.55)
    sheet.box(31, 31, WIDE - 62, HIGH - 62, "none", 1, "#3a2c20", 2, 0.45)


def _seal(sheet: Sheet, portrait: Portrait) -> None:
    seal = Sheet()
    seal.box(0, 0, 70, 70, "#a8322a", round_by=9)
    portrait.seal(seal)
    sheet.within(seal, 'transform="translate(56 56)" filter="url(#hand)"')


PORTRAITS: dict[str, Portrait] = {
    "zhang-heng": Portrait(
        Face(jaw=2, long=2, brow="raised", eye="keen", beard="three", age=1),
        figure.ridged_crown,
        Robe("#7d2f2a", "#70282a", "#4e1a1c", "#2c2526", trim="#c99a3e"),
        "#e3d5b8",
        "#cbb27e",
        things.armillary,
        things.seismoscope,
        seal=things.star_seal,
    ),
    "zu-chongzhi": Portrait(
        Face(
            jaw=-8,
            long=8,
            cheek=-3,
            skin="#ecceaf",
            shade="#d3a983",
            brow="fine",
            eye="calm",
            beard="goatee",
        ),
        figure.gauze_cage,
        Robe("#e0d6bd", "#d6cab0", "#a3967a", "#2f5560", inner="#f7f2e6", trim="#9fb7ae"),
        "#cfd9d3",
        "#a3bab1",
        things.circle_division,
        things.rods,
        seal=things.star_seal,
        right=True,
    ),
    "shen-kuo": Portrait(
        Face(
            jaw=8,
            long=-4,
            cheek=3,
            skin="#e4bd97",
            shade="#c9976f",
            brow="level",
            eye="smiling",
            beard="full",
            age=2,
            hair="#4a4340",
        ),
        figure.long_wings,
        Robe("#a63a33", "#983129", "#6b1d1a", "#8f2c26", collar="round"),
        "#d3dae1",
        "#7f98b3",
        things.sky_chart,
        things.hung_needle,
        hat_behind=figure.long_wings_behind,
        seal=things.star_seal,
    ),
    "guo-shoujing": Portrait(
        Face(
            jaw=12,
            long=0,
            cheek=5,
            skin="#d9ac82",
            shade="#ba855b",
            brow="bushy",
            eye="keen",
            beard="full",
            age=2,
            nose=2,
        ),
        figure.brimmed_hat,
        Robe("#2f5a5e", "#294f53", "#17363a", "#20393e", trim="#c99a3e", badge="roundels"),
        "#e8dac2",
        "#d9b584",
        things.sun_and_gnomon,
        things.shadow_ruler,
        seal=things.star_seal,
        right=False,
    ),
    "zhang-zhongjing": Portrait(
        Face(
            jaw=-4,
            long=4,
            cheek=-4,
            skin="#dfb78f",
            shade="#c08f66",
            brow="knit",
            eye="calm",
            beard="three",
            age=3,
            hair="#6d665f",
        ),
        figure.cloth_hood,
        Robe("#6d5a45", "#625040", "#423327", "#d6c8a8", trim="#8a6a3c"),
        "#dfe1cf",
        "#b3c09b",
        things.bamboo_slips,
        things.medicine_pot,
        hat_behind=figure.cloth_hood_behind,
        seal=things.leaf_seal,
    ),
    "jia-sixie": Portrait(
        Face(
            jaw=10,
            long=-6,
            cheek=6,
            skin="#d6a577",
            shade="#b37f54",
            brow="level",
            eye="smiling",
            beard="moustache",
            age=1,
        ),
        figure.small_crown,
        Robe("#56704c", "#4b6443", "#304428", "#3a3128", trim="#d9a540"),
        "#efe4c6",
        "#e3c77c",
        things.millet,
        things.jars,
        seal=things.leaf_seal,
        right=True,
    ),
    "li-shizhen": Portrait(
        Face(
            jaw=-2,
            long=6,
            cheek=-2,
            skin="#e2bb94",
            shade="#c5936b",
            hair="#c9c4ba",
            brow="bushy",
            eye="smiling",
            beard="flowing",
            age=3,
        ),
        figure.square_cap,
        Robe("#46637c", "#3d586f", "#263c50", "#ece4d2", trim="#8aa0ad"),
        "#dbe4d5",
        "#a5c09c",
        things.herbs,
        things.apothecary,
        seal=things.leaf_seal,
    ),
    "xu-guangqi": Portrait(
        Face(
            jaw=-6,
            long=10,
            cheek=0,
            skin="#e7c29d",
            shade="#cb9a73",
            brow="raised",
            eye="calm",
            beard="three",
            age=2,
            hair="#57504c",
        ),
        figure.short_wings,
        Robe("#9c2f2c", "#8f2926", "#651816", "#86241f", collar="round", badge="square"),
        "#eaddd3",
        "#d8ac97",
        things.euclid,
        things.sweet_potatoes,
        hat_behind=figure.short_wings_behind,
        seal=things.leaf_seal,
        right=True,
    ),
    "cai-lun": Portrait(
        Face(
            jaw=4,
            long=-6,
            cheek=5,
            skin="#eccfb2",
            shade="#d2a886",
            brow="fine",
            eye="calm",
            age=1,
            lips="#b0604f",
        ),
        figure.marten_cap,
        Robe("#54405e", "#4a3753", "#2d2034", "#2c2430", trim="#c99a3e"),
        "#ded7cf",
        "#b9a9a0",
        things.drying_paper,
        things.paper_making,
        seal=things.tool_seal,
        right=True,
    ),
    "bi-sheng": Portrait(
        Face(
            jaw=6,
            long=-2,
            cheek=2,
            skin="#cf9d70",
            shade="#aa774d",
            brow="bushy",
            eye="keen",
            beard="goatee",
            age=2,
        ),
        figure.soft_wrap,
        Robe("#8d8f7c", "#80826f", "#595b4b", "#646655", inner="#ddd6c4"),
        "#dcdcd5",
        "#adb1a8",
        things.printed_page,
        things.movable_type,
        seal=things.tool_seal,
    ),
    "huang-daopo": Portrait(
        Face(
            jaw=-2,
            long=-8,
            cheek=6,
            skin="#e3b891",
            shade="#c79069",
            hair="#5a5450",
            brow="fine",
            eye="smiling",
            age=2,
            lips="#b4574a",
            nose=-4,
        ),
        figure.kerchief,
        Robe(
            "#6484a2",
            "#587893",
            "#375470",
            "#2c4366",
            inner="#f3e7d8",
            trim="#dfe6ec",
            badge="dots",
        ),
        "#e7dde1",
        "#cdb0bd",
        things.spinning_wheel,
        things.cotton,
        seal=things.tool_seal,
    ),
    "song-yingxing": Portrait(
        Face(
            jaw=-6,
            long=4,
            cheek=-4,
            skin="#e0b58b",
            shade="#c18d62",
            brow="knit",
            eye="keen",
            beard="goatee",
            age=1,
        ),
        figure.notched_cap,
        Robe("#5b6270", "#51586a", "#343a47", "#e8dfcc", trim="#5b6270"),
        "#e8d8c9",
        "#d99d74",
        things.water_wheel,
        things.forge,
        seal=things.tool_seal,
        right=True,
    ),
}


def render(svg: Path, jpeg: Path, chromium: str, wide: int = WIDE, high: int = HIGH) -> None:
    """One SVG as a JPEG of its own size, drawn by headless Chromium."""
    from PIL import Image  # the only need of it here; drawing itself wants nothing installed

    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        page = Path(folder) / "page.html"
        page.write_text(
            f'<style>*{{margin:0}}</style><img src="{svg.absolute().as_uri()}" width={wide}>'
        )
        subprocess.run(  # noqa: S603 - our own files, a fixed program
            [
                chromium,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
                f"--user-data-dir={folder}/profile",
                f"--window-size={wide},{high + 200}",
                f"--screenshot={shot}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        with Image.open(shot) as image:
            image.convert("RGB").crop((0, 0, wide, high)).save(
                jpeg, quality=82, progressive=True, optimize=True
            )


def main() -> None:
    folder = Path(__file__).parent
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(PORTRAITS)
    for name in names:
        svg = folder / f"{name}.svg"
        svg.write_text(picture(PORTRAITS[name]))
        print(svg.name, svg.stat().st_size)
        if "--render" in sys.argv:
            jpeg = folder.parent / "photos" / f"{name}.jpg"
            render(svg, jpeg, chromium)
            print(jpeg.name, jpeg.stat().st_size)
    if "--render" in sys.argv:
        _render_others(folder.parent / "photos", chromium)


def _render_others(photos: Path, chromium: str) -> None:
    """The pictures that are drawn out of what the portraits have, and kept as JPEGs alone."""
    drawings = {"cover": (cover.cover(), cover.WIDE, cover.HIGH)}
    drawings |= {f"{name}-things": (still(PORTRAITS[name]), WIDE, HIGH) for name in WITH_THINGS}
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, wide, high) in drawings.items():
            svg, jpeg = Path(folder) / f"{name}.svg", photos / f"{name}.jpg"
            svg.write_text(content)
            render(svg, jpeg, chromium, wide, high)
            print(jpeg.name, jpeg.stat().st_size)


if __name__ == "__main__":
    main()
