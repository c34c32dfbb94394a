"""Canonical JSON: one value, one text, so that its hash says something.

RFC 8785 for what we write: strings, integers, true, false, null, lists and objects. No fractions:
RFC 8785 writes numbers as ECMAScript does, and where a share is wanted an integer in parts per
million says it without a rounding that somebody else would do in another way.
"""

import json
from collections.abc import Mapping
from typing import Any

INTEGER_MAX = 2**53 - 1
"""What a reader that takes numbers for doubles still reads exactly (RFC 7493)."""


class NotCanonical(ValueError):
    """A value that has no canonical text here; the message says which, by its place."""


def canonical(value: Any) -> bytes:
    """The canonical text, UTF-8. Raises NotCanonical for a fraction, an integer beyond
    ±INTEGER_MAX, half of a surrogate pair, a key that is no string, or anything else than the
    above."""
    return json.dumps(
        _ordered(value, "$"), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).encode()


def _ordered(value: Any, where: str) -> Any:
    """The same with every object's members in canonical order."""
    match value:
        case None | bool():
            return value
        case str():
            return _text(value, where)
        case int():
            if abs(value) > INTEGER_MAX:
                raise NotCanonical(f"{where}: {value} is too large for a JSON number")
            return int(value)
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise NotCanonical(f"{where}: a key that is no string")
                _text(key, where)
            # As RFC 8785 says: by UTF-16 code units, which differs from Unicode's order where
            # one character is above U+FFFF and the other is in U+E000 to U+FFFF.
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
            return {key: _ordered(value[key], f"{where}.{key}") for key in keys}
        case list() | tuple():
            return [_ordered(item, f"{where}[{n}]") for n, item in enumerate(value)]
        case _:
            raise NotCanonical(f"{where}: a {type(value).__name__} has no canonical text")


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotCanonical(f"{where}: half of a surrogate pair") from None
    return str(text)
