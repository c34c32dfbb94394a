"""A count as an image, for where no script runs: SVG for pages, PNG for mails.

    GET /v1/campaigns/{campaign}/counts/{candidate}.svg or .png

    ?theme=dark       on a dark page
    &color=b8291a     six hexadecimal digits: the mark's colour
    &height=28        20, 28, 40 or 56 pixels; 56 shown at 28 is sharp on a phone

What else stands in the query is ignored, and so is a value that is none of these. A dash where the
counts are hidden, or not known yet. Both forms are plain and without any font of ours: SVG takes
the reader's, PNG the one that Pillow brings along.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from typing import NamedTuple

from aiohttp import web
from PIL import Image, ImageDraw, ImageFont

from voting.edge.answers import WITHDRAWN, public_headers, public_problem
from voting.edge.campaigns import campaign_of, candidate_of
from voting.edge.counts import COUNTS_CACHE
from voting.edge.parts import EDGE
from voting.edge.site import colours
from voting.edge.site.colours import is_colour

HEIGHTS = (20, 28, 40, 56)
_USUAL_HEIGHT = 28
_HIDDEN = "–"
_RED = "#b8291a"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# A thumb in a square of 24: (command, points). Both forms are drawn from it.
_THUMB = (
    (("M", 2.5, 10.5), ("L", 6, 10.5), ("L", 6, 21), ("L", 2.5, 21)),
    (
        *(("M", 8, 20.5), ("L", 8, 10.3), ("L", 11.8, 3)),
        ("C", 13.8, 3, 14.9, 4.4, 14.5, 6.3),
        *(("L", 13.8, 9.5), ("L", 19.3, 9.5)),
        ("C", 20.7, 9.5, 21.6, 10.7, 21.3, 12.1),
        ("L", 19.8, 18.9),
        ("C", 19.5, 20.2, 18.6, 21, 17.3, 21),
        ("L", 9.5, 21),
    ),
)


class Look(NamedTuple):
    """How an image is to look."""

    ground: str
    ink: str
    """Both as #rrggbb."""
    height: int


async def get_count_image(request: web.Request) -> web.Response:
    """GET /v1/campaigns/{campaign}/counts/{candidate}.svg or .png."""
    campaign = campaign_of(request)
    if campaign is None:
        return public_problem(request.app[EDGE].catalog.unknown)
    candidate = candidate_of(request, campaign)
    if candidate is None:
        return public_problem("unknown-candidate")
    if candidate.withdrawn:
        return public_problem("unknown-candidate", title=WITHDRAWN)
    likes = request.app[EDGE].board.likes(campaign, candidate.number, None)
    text = _HIDDEN if likes is None else f"{likes:,}"
    look = look_of(request.query)
    keys = (f"campaign-{campaign.id}", f"counts-{campaign.id}")
    if request.match_info["kind"] == "png":
        made = public_headers("image/png", COUNTS_CACHE, *keys)
        return web.Response(body=as_png(text, look), headers=made)
    made = public_headers("image/svg+xml; charset=utf-8", COUNTS_CACHE, *keys)
    # It can be opened as a page too, with a candidate's name in it.
    made["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return web.Response(body=as_svg(candidate.name, text, look), headers=made)


def look_of(query: Mapping[str, str]) -> Look:
    """What a query asks for, as far as it is understood."""
    colour = "#" + query.get("color", "").lower()
    ground, ink = _coloured(colour if is_colour(colour) else _RED, query.get("theme") == "dark")
    height = next((h for h in HEIGHTS if str(h) == query.get("height")), _USUAL_HEIGHT)
    return Look(ground, ink, height)


@lru_cache(maxsize=256)
def _coloured(colour: str, dark: bool) -> tuple[str, str]:
    """(ground, ink), which is legible on it."""
    if dark:
        scheme = colours.dark(colour)
        return scheme.soft, scheme.accent
    # One of the two always is (4.58 at the least): the colour itself stays as it was named.
    return colour, max(("#ffffff", "#000000"), key=lambda ink: colours.contrast(colour, ink))


def as_svg(name: str, text: str, look: Look) -> bytes:
    # Drawn 28 high; digits are told how wide to be, whatever the font.
    digits = round(8.8 * sum(0.5 if letter == "," else 1 for letter in text), 1)
    width = 48 + digits
    label = escape(_NOT_XML.sub("", f"{name} 点赞数 {text}"), quote=True)
    thumb = "".join(
        "".join(f"{command}{' '.join(map(str, points))}" for command, *points in shape) + "z"
        for shape in _THUMB
    )
    scale = look.height / _USUAL_HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale:g}" height="{look.height}"'
        f' viewBox="0 0 {width:g} 28" role="img" aria-label="{label}"><title>{label}</title>'
        f'<rect width="{width:g}" height="28" rx="14" fill="{look.ground}"/>'
        f'<path transform="translate(13 4.6) scale(.75)" fill="{look.ink}" d="{thumb}"/>'
        f'<text x="36" y="19.2" fill="{look.ink}" font-family="system-ui,sans-serif"'
        f' font-size="15" font-weight="600" textLength="{digits:g}"'
        f' lengthAdjust="spacingAndGlyphs">{text}</text></svg>'
    ).encode()


def as_png(text: str, look: Look) -> bytes:
    """The bytes of a PNG with a palette, put together from parts that are drawn once: whatever is
    asked for costs some 0.1 ms, and nothing of it has to be kept."""
    parts = [_part(part, look.height) for part in ("left", *text, "right")]
    rows = b"".join(b"\0%b" % b"".join(row) for row in zip(*parts, strict=True))
    width = sum(len(part[0]) for part in parts)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, look.height, 8, 3, 0, 0, 0)),
            _palette(look.ground, look.ink),
            _chunk(b"IDAT", zlib.compress(rows)),
            _chunk(b"IEND", b""),
        )
    )


_STEPS = 64
_LAST = _STEPS - 1


@lru_cache(maxsize=256)
def _palette(ground: str, ink: str) -> bytes:
    """Two chunks: first the ground, from transparent to opaque; then from the ground to the ink."""
    back, front = bytes.fromhex(ground[1:]), bytes.fromhex(ink[1:])
    steps = range(_STEPS)
    mixed = bytes(
        round(b + (f - b) * n / _LAST) for n in steps for b, f in zip(back, front, strict=True)
    )
    return _chunk(b"PLTE", back * _STEPS + mixed) + _chunk(
        b"tRNS", bytes(round(255 * n / _LAST) for n in steps)
    )


_FINER = 4
"""So many times larger a part is drawn, for smooth edges."""


@lru_cache(maxsize=128)
def _part(part: str, height: int) -> tuple[bytes, ...]:
    """The rows of one part as indices into the palette: "left" (with the thumb), a character, or
    "right"."""
    unit = height * _FINER / _USUAL_HEIGHT
    font = ImageFont.load_default(size=15 * unit)
    units = {"left": 36, "right": 14, _HIDDEN: 11}.get(part)
    # All digits are as wide as the widest.
    drawn = units * unit if units else max(font.getlength(one) for one in _alike(part)) + unit / 3
    width = round(drawn / _FINER)
    size = (width * _FINER, height * _FINER)
    ground, ink = Image.new("L", size), Image.new("L", size)
    draw_ground, draw_ink = ImageDraw.Draw(ground), ImageDraw.Draw(ink)
    round_end = {"left": (0, 3 * size[0]), "right": (-2 * size[0], size[0] - 1)}.get(part)
    if round_end:
        left, right = round_end
        draw_ground.rounded_rectangle((left, 0, right, size[1] - 1), radius=14 * unit, fill=255)
    else:
        ground.paste(255, (0, 0, *size))
    if part == "left":
        for shape in _THUMB:
            corners = [((13 + x * 0.75) * unit, (4.6 + y * 0.75) * unit) for x, y in _flat(shape)]
            draw_ink.polygon(corners, fill=255)
    elif part == _HIDDEN:  # which not every font has
        draw_ink.rectangle((unit, 14 * unit, size[0] - unit, 15.5 * unit), fill=255)
    elif part != "right":
        draw_ink.text(
            (size[0] / 2, 19.2 * unit),
            part,
            fill=255,
            font=font,
            anchor="ms",
            stroke_width=unit / 4,
        )
    grounds, inks = (
        one.resize((width, height), Image.Resampling.BOX).tobytes() for one in (ground, ink)
    )
    indices = bytes(
        _STEPS + i * _LAST // 255 if i else g * _LAST // 255
        for g, i in zip(grounds, inks, strict=True)
    )
    return tuple(indices[at : at + width] for at in range(0, len(indices), width))


def _alike(character: str) -> str:
    return "0123456789" if character.isdigit() else character


def _flat(shape: tuple[tuple[str | float, ...], ...]) -> list[tuple[float, float]]:
    """Its corners, and eight points of each curve."""
    points: list[tuple[float, float]] = []
    for command, *numbers in shape:
        at = [float(number) for number in numbers]
        if command != "C":
            points.append((at[0], at[1]))
            continue
        (x0, y0), (x1, y1, x2, y2, x3, y3) = points[-1], at
        for n in range(1, 9):
            t, u = n / 8, 1 - n / 8
            points.append(
                (
                    u**3 * x0 + 3 * u * u * t * x1 + 3 * u * t * t * x2 + t**3 * x3,
                    u**3 * y0 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t**3 * y3,
                )
            )
    return points


def _chunk(name: bytes, content: bytes) -> bytes:
    return b"%b%b%b%b" % (
        struct.pack(">I", len(content)),
        name,
        content,
        struct.pack(">I", zlib.crc32(name + content)),
    )
