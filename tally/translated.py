"""Texts for people: English where they are made, translated where they are shown.

The Chinese of each is in console/locale/zh; a test holds texts and files together.
"""

from typing import Protocol


def N_(text: str) -> str:
    """Marks a text that is translated where it is shown."""
    return text


class Translate(Protocol):
    """English -> the language of whoever reads it; `{name}` is filled in: _("{n} votes", n=3)."""

    def __call__(self, text: str, **values: object) -> str: ...
