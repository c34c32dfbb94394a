"""Any colour that a campaign gives -> colours that can be read (WCAG 2 AA), in light and in dark.

The hue is the campaign's; lightness is moved, in OKLCH, until the contrast is what it must be. So
a yellow is dark on white paper and stays yellow on black. Nothing but six hexadecimal digits is
taken for a colour, so that no text of a campaign gets into a style sheet.
"""

import math
import re
from typing import NamedTuple

DEFAULT = "#b8291a"
"""Where nobody chose one: of the pages, and of the elements (like.css)."""
_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_CONTRAST_OF_TEXT = 4.6
"""AA wants 4.5; rounding to 8 bits takes a little."""
_CONTRAST_OF_SHAPES = 3.1
_STEPS = 24

Rgb = tuple[float, float, float]
"""Linear light, 0 to 1."""


class Scheme(NamedTuple):
    """The colours of one scheme, light or dark, each as #rrggbb."""

    paper: str
    """Behind everything."""
    card: str
    """Behind cards and boxes."""
    soft: str
    """Behind what stands out a little."""
    line: str
    ink: str
    muted: str
    """Text of second rank: AA on paper, card and soft."""
    accent: str
    """Text and links in the campaign's colour: AA on paper, card and soft."""
    fill: str
    """Buttons: 3:1 against paper and card."""
    on_fill: str
    """Text on fill: AA."""
    focus: str


class Banner(NamedTuple):
    """The head of the campaign's page: deep in both schemes."""

    top: str
    bottom: str
    ink: str
    """AA on both ends and on what is between."""
    gold: str
    """The same, for small things."""


def light(colour: str) -> Scheme:
    lightness, chroma, hue = _lch(colour)
    tint = min(chroma, 0.009)
    paper = _hex_of(0.984, tint * 0.5, hue)
    card = "#ffffff"
    soft = _hex_of(0.953, tint * 1.6, hue)
    return Scheme(
        paper=paper,
        card=card,
        soft=soft,
        line=_hex_of(0.9, tint, hue),
        ink=_hex_of(0.24, tint, hue),
        muted=_against((0.5, tint * 1.2, hue), (paper, card, soft), _CONTRAST_OF_TEXT),
        accent=_against((lightness, chroma, hue), (paper, card, soft), _CONTRAST_OF_TEXT),
        **_button((lightness, chroma, hue), (paper, card), darker=True),
        focus=_against((0.5, 0.16, 255.0), (paper, card, soft), _CONTRAST_OF_TEXT),
    )


def dark(colour: str) -> Scheme:
    lightness, chroma, hue = _lch(colour)
    tint = min(chroma, 0.009)
    paper = _hex_of(0.19, tint * 0.8, hue)
    card = _hex_of(0.235, tint, hue)
    soft = _hex_of(0.28, tint * 1.4, hue)
    backs = (paper, card, soft)
    return Scheme(
        paper=paper,
        card=card,
        soft=soft,
        line=_hex_of(0.36, tint, hue),
        ink=_hex_of(0.94, tint * 0.6, hue),
        muted=_against((0.75, tint, hue), backs, _CONTRAST_OF_TEXT, up=True),
        accent=_against(
            (max(lightness, 0.7), min(chroma, 0.14), hue), backs, _CONTRAST_OF_TEXT, up=True
        ),
        **_button((max(lightness, 0.5), chroma, hue), (paper, card), darker=False),
        focus=_against((0.75, 0.12, 245.0), backs, _CONTRAST_OF_TEXT, up=True),
    )


def banner(colour: str) -> Banner:
    """From the colour, deepened until white can be read on it, down to a deeper one."""
    lightness, chroma, hue = _lch(colour)
    top = _hex_of(min(lightness, 0.4), min(chroma, 0.14), hue)
    bottom = _hex_of(min(lightness, 0.4) * 0.62, min(chroma, 0.09), hue)
    gold_hue = 85.0
    return Banner(
        top=top,
        bottom=bottom,
        ink=_against((0.985, 0.008, gold_hue), (top, bottom), 7.0, up=True),
        gold=_against((0.86, 0.09, gold_hue), (top, bottom), _CONTRAST_OF_TEXT, up=True),
    )


def is_colour(text: str) -> bool:
    return _HEX.fullmatch(text) is not None


def contrast(one: str, other: str) -> float:
    """WCAG's ratio, 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


Lch = tuple[float, float, float]


def _button(wanted: Lch, backs: tuple[str, ...], *, darker: bool) -> dict[str, str]:
    """A fill that is seen on its backs, and white or black text that is read on it."""
    lightness, chroma, hue = wanted
    step = -0.02 if darker else 0.02
    for _ in range(50):
        fill = _hex_of(lightness, chroma, hue)
        seen = all(contrast(fill, back) >= _CONTRAST_OF_SHAPES for back in backs)
        on_fill = "#ffffff" if contrast("#ffffff", fill) >= _CONTRAST_OF_TEXT else "#1a1512"
        if seen and contrast(on_fill, fill) >= _CONTRAST_OF_TEXT:
            break
        lightness += step
    return {"fill": fill, "on_fill": on_fill}


def _against(wanted: Lch, backs: tuple[str, ...], ratio: float, *, up: bool = False) -> str:
    """The colour, moved to dark (or up, to light) no further than the contrast needs."""
    lightness, chroma, hue = wanted

    def reads(at: float) -> bool:
        return all(contrast(_hex_of(at, chroma, hue), back) >= ratio for back in backs)

    if reads(lightness):
        return _hex_of(lightness, chroma, hue)
    good, bad = (1.0 if up else 0.0), lightness
    for _ in range(_STEPS):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if reads(middle) else (good, middle)
    return _hex_of(good, chroma, hue)


def _luminance(colour: str) -> float:
    red, green, blue = _linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(colour: str) -> Rgb:
    def light_of(digits: str) -> float:
        value = int(digits, 16) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return light_of(colour[1:3]), light_of(colour[3:5]), light_of(colour[5:7])


def _lch(colour: str) -> Lch:
    """OKLCH (Björn Ottosson's OKLab in polar form); hue in degrees."""
    red, green, blue = _linear(colour if is_colour(colour) else DEFAULT)
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    middle = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    lightness = 0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short
    return lightness, math.hypot(a, b), math.degrees(math.atan2(b, a))


def _hex_of(lightness: float, chroma: float, hue: float) -> str:
    """With as much of the chroma as a screen can show at this lightness."""
    lightness = min(max(lightness, 0.0), 1.0)
    inside = _rgb_of(lightness, chroma, hue)
    if not _on_screen(inside):
        low, high = 0.0, chroma
        for _ in range(_STEPS // 2):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if _on_screen(_rgb_of(lightness, middle, hue)) else (low, middle)
            )
        inside = _rgb_of(lightness, low, hue)
    return "#" + "".join(f"{_byte(part):02x}" for part in inside)


def _on_screen(rgb: Rgb) -> bool:
    return all(-0.0005 <= part <= 1.0005 for part in rgb)


def _rgb_of(lightness: float, chroma: float, hue: float) -> Rgb:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )


def _byte(part: float) -> int:
    part = min(max(part, 0.0), 1.0)
    curved = part * 12.92 if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055
    return round(curved * 255)
