"""The buckets in which the detectors count, and the table `seen` that holds every vote in them.

Dwell and token age are cut in steps of a constant ratio: people differ by factors, not by seconds.
`seen` is a temporary table of the given connection, 45 bytes a vote; DuckDB spills it to disk
where the connection has a limit of memory and a folder for it.
"""

import importlib.resources

import duckdb
import numpy as np
from numpy.typing import NDArray

DWELL_PER_OCTAVE = 4
"""Steps of 19 %: machines that wait "about two seconds" stay within two or three of them, people
spread over fifteen."""
DWELL_BUCKETS = 52
"""0 = not known, 1 = up to 0.12 s, 51 = above 9 minutes."""

AGE_PER_OCTAVE = 2
AGE_BUCKETS = 48
"""Of the *lead*: the token's age when the card appeared, which is its age less the dwell. The age
itself follows the dwell in people whose token is made when the page opens, and two facts that
follow each other are one. 0 = the token is younger than the look at the card, 1 = below half a
second, 14 = about a minute and a half, 47 = some months and more."""

FRESH_BUCKETS = 20
"""Leads below this bucket (12 minutes) are "fresh": the token was made for this visit."""

AGENTS = 256
CLASSES = 6


def query(name: str) -> str:
    """The text of a query of this package, `name`.sql."""
    return (importlib.resources.files(__package__) / f"{name}.sql").read_text(encoding="utf-8")


def dwell_bucket(centiseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `seen.sql` does it."""
    steps: NDArray[np.float64] = np.floor(
        DWELL_PER_OCTAVE * np.log2(np.maximum(centiseconds, 10) / 10)
    )
    bucket = np.minimum(DWELL_BUCKETS - 1, 1 + steps.astype(np.int64))
    known: NDArray[np.int64] = np.where(centiseconds > 0, bucket, 0)
    return known


def lead_bucket(
    token_age_seconds: NDArray[np.int64], dwell_centiseconds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """As `seen.sql` does it."""
    seconds = np.maximum(token_age_seconds - dwell_centiseconds // 100, -0.5)
    steps: NDArray[np.float64] = np.floor(AGE_PER_OCTAVE * np.log2(seconds + 1.0))
    bucket: NDArray[np.int64] = np.clip(1 + steps.astype(np.int64), 0, AGE_BUCKETS - 1)
    return bucket


def weighed(
    column: NDArray[np.int64], weight: NDArray[np.float64], buckets: int
) -> NDArray[np.float64]:
    """Sum of the weights in each bucket."""
    return np.asarray(np.bincount(column, weight, buckets), np.float64)


_PRODUCT_MAX = 200_000


def product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """left @ right, a few rows at a time: from 262,144 multiplications on OpenBLAS wakes a thread
    for each core, and their waiting for each other cost a quarter of a pass."""
    rows = max(1, _PRODUCT_MAX // max(1, right.size))
    if len(left) <= rows:
        return np.asarray(left @ right, np.float64)
    parts = [left[first : first + rows] @ right for first in range(0, len(left), rows)]
    return np.concatenate(parts)


def see(db: duckdb.DuckDBPyConnection) -> int:
    """Make `seen` out of `votes`; how many there are."""
    db.execute(query("seen"))
    return int(db.execute("SELECT count(*) FROM seen").fetchall()[0][0])


def forget(db: duckdb.DuckDBPyConnection) -> None:
    """Take away what `see` and the detectors made."""
    for name in ("seen", "cells", "picked"):
        db.execute(f"DROP TABLE IF EXISTS temp.{name}")
