"""Re-minting: one phone at home that comes back again and again with a new token.

The same home line, phone model and TLS stack, the same candidate, one day, and a fresh token each
time. Families (phones of one make), private windows and a shop's demonstration phones do that a few
times; so a line counts from the sixth vote on, and the votes need a second kind of evidence, as all
do. One token likes a candidate once a day in every usual campaign, so votes stand for tokens. Off
for mobile and campus networks, where a thousand people share an address. Whom a portal vouches for
counts like all others: their tokens are always new, but six accounts of one phone for one candidate
are as odd as six tokens.
"""

from collections.abc import Iterator

import duckdb

from antifraud.detectors.buckets import FRESH_BUCKETS
from antifraud.detectors.sightings import Sighting, whole
from antifraud.networks import NetworkClass

LEAST_TOKENS = 6
"""New tokens of one phone model on one line for one candidate."""

_SHARED = (NetworkClass.MOBILE, NetworkClass.CAMPUS, NetworkClass.UNKNOWN)


def find(db: duckdb.DuckDBPyConnection) -> Iterator[Sighting]:
    """Home lines with far too many new tokens of one phone."""
    shared = ", ".join(str(int(one)) for one in _SHARED)
    found = db.execute(
        f"""
        SELECT net, c, u, count(*) AS n FROM seen
        WHERE net <> 0 AND u > 0 AND a < {FRESH_BUCKETS} AND cls NOT IN ({shared})
        GROUP BY net, c, u, tls HAVING n >= {LEAST_TOKENS}
        """
    ).fetchnumpy()
    cells = {name: whole(column) for name, column in found.items()}
    for net, c, u, n in zip(
        *(cells[name].tolist() for name in ("net", "c", "u", "n")), strict=True
    ):
        yield Sighting("reminting", c, {"net": net, "u": u}, float(n), n)
