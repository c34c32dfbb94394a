"""Staff's text, as it is stored: trimmed, in NFC, without what cannot be seen."""

import re
import unicodedata

LENGTH_MAX = 6_000
"""Longer text is cut here before anything else looks at it: every field is shorter, and NFC takes
quadratic time over a long run of combining marks."""

_BREAKS = re.compile(r"[ \u3000]*[\t\n\v\f\r\u0085\u2028\u2029]+[ \u3000]*")
_PARAGRAPHS = re.compile(r"[\n\v\f\r\u0085\u2028\u2029]+")
_INVISIBLE = re.compile(
    "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"  # no width, or turn the line
    "\ufff9-\ufffb\ufffe\uffff\ufffd]"
)


def clean(text: str) -> str:
    """Trimmed (full-width spaces too) and in NFC."""
    return unicodedata.normalize("NFC", text[:LENGTH_MAX]).strip()


def on_one_line(text: str) -> str:
    """Line breaks and tabs as one space each."""
    return _BREAKS.sub(" ", text)


def in_paragraphs(text: str) -> str:
    """Paragraphs between single line breaks, each trimmed; empty lines are left out."""
    lines = (on_one_line(line).strip() for line in _PARAGRAPHS.split(text))
    return "\n".join(line for line in lines if line)


def squeeze(text: str) -> str:
    """Without any white space: "姓  名" and "推荐\\n渠道" are 姓名 and 推荐渠道."""
    return "".join(clean(text).split())


def fault_of(text: str, *, paragraphs: bool = False) -> str | None:
    """What must not be in a text, in words; None where it is sound. With `paragraphs` line breaks
    (as `in_paragraphs` makes them) may be in it."""
    for character in text:
        if paragraphs and character == "\n":
            continue
        category = unicodedata.category(character)
        if category in ("Cc", "Cs", "Zl", "Zp"):
            return f"holds a control character (U+{ord(character):04X})"
    found = _INVISIBLE.search(text)
    if found is None:
        return None
    if found[0] == "\ufffd":
        return "holds a replacement character (U+FFFD): it was saved in a wrong encoding"
    return f"holds an invisible character (U+{ord(found[0]):04X}): type it anew"


def private_use(text: str) -> str | None:
    """The first character that only some fonts know; None where there is none."""
    return next((c for c in text if unicodedata.category(c) == "Co"), None)
