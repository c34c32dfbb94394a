"""Mixes: which kinds of requests a run consists of, and what each is answered with."""

from typing import NamedTuple

from loadtest.targets import CannotLoad


class Kind(NamedTuple):
    """One kind of request."""

    expected: frozenset[int]
    """Statuses that it is answered with where all is well; 503 is told apart for every kind."""
    what: str


KINDS = {
    "likes": Kind(frozenset({201}), "a like that this device has not given today"),
    "repeats": Kind(frozenset({200}), "another click for a candidate that the device likes"),
    "again": Kind(frozenset({201}), "the same click again, as after a lost answer"),
    "counts": Kind(frozenset({200, 304}), "the counts, half of them with If-None-Match"),
    "counts-whole": Kind(frozenset({200}), "the counts, never with If-None-Match"),
    "counts-known": Kind(frozenset({200, 304}), "the counts, from the second on If-None-Match"),
    "devices": Kind(frozenset({201}), "a token for a new device"),
    "proofs": Kind(frozenset({200}), "a token shown again, for the level that its age has earned"),
    "bad-token": Kind(frozenset({401}), "a like with a token that nobody gave out"),
    "malformed": Kind(frozenset({400}), "a like whose body is cut short"),
    "unknown-candidate": Kind(frozenset({404}), "a like for nobody"),
    "wrong-path": Kind(frozenset({404}), "a path that there is not"),
}
OVERLOADED = 503

MIXES = {
    "likes": {"likes": 1.0},
    # One visitor of a page: a token, some likes and a second tap, and the counts as they change.
    "honest": {"likes": 5.5, "repeats": 0.4, "again": 0.1, "counts": 6.0, "devices": 1.0},
    "hostile": {
        "likes": 4.0,
        "repeats": 2.0,
        "again": 1.0,
        "counts": 1.0,
        "devices": 1.0,
        "bad-token": 1.0,
        "malformed": 1.0,
        "unknown-candidate": 1.0,
        "wrong-path": 1.0,
    },
}
_OF_ANOTHER = ("repeats", "again")
"""Kinds that need a like that was given before."""


def parse_mix(text: str) -> dict[str, float]:
    """Kind -> share of 1, from a name in MIXES or from `likes=8,repeats=1`; CannotLoad."""
    weights: dict[str, float] = {}
    if text in MIXES:
        weights = MIXES[text]
    else:
        for part in text.split(","):
            kind, equals, weight = part.strip().partition("=")
            if kind not in KINDS or not equals:
                raise CannotLoad(
                    f"--mix {text}: {part.strip()!r} is not one of {', '.join(MIXES)}, nor a "
                    f"kind=weight with one of {', '.join(KINDS)}"
                )
            if kind in weights:
                raise CannotLoad(f"--mix {text}: {kind} is named twice")
            try:
                weights[kind] = float(weight)
            except ValueError:
                raise CannotLoad(f"--mix {text}: {weight!r} is not a number") from None
            if not 0 <= weights[kind] <= 1e6:
                raise CannotLoad(f"--mix {text}: a weight is a number from 0 to a million")
    whole = sum(weights.values())
    if not whole:
        raise CannotLoad(f"--mix {text}: one weight at least must be more than 0")
    shares = {kind: weight / whole for kind, weight in weights.items() if weight}
    if not shares.get("likes") and any(kind in shares for kind in _OF_ANOTHER):
        raise CannotLoad(f"--mix {text}: repeats and again need likes that they repeat")
    return shares
