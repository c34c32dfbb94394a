"""Pre-minted tokens: made together, kept to ripen, used later for one candidate.

Old tokens of one candidate's votes that were issued within the same hour, far more of them than
that hour issued for everybody. What looks alike and is honest: a television evening issues
thousands of tokens, and these people come back for the same candidate; their phones and taps are a
crowd's, so that one kind of evidence stays one.
"""

from collections.abc import Iterator

import duckdb
import numpy as np

from antifraud.detectors.buckets import FRESH_BUCKETS
from antifraud.detectors.bursts import surprise
from antifraud.detectors.crowd import Issued
from antifraud.detectors.evidence import LEAST_VOTES
from antifraud.detectors.sightings import Sighting, whole

RATIO = 6.0
SURPRISE = 20.0


def issued(db: duckdb.DuckDBPyConnection) -> Issued:
    """When the old tokens in `seen` were issued.

    No candidate adds more than a tenth to any hour's tokens, nor less than three: whoever minted a
    thousand in one hour for one candidate does not make that hour usual.
    """
    found = db.execute(
        f"""
        WITH cell AS (
            SELECT h, c, count(*) AS n FROM seen WHERE a >= {FRESH_BUCKETS} GROUP BY ALL
        ), middle AS (
            SELECT h, c, n, greatest(3, sum(n) OVER (PARTITION BY h) / 10) AS most FROM cell
        )
        SELECT h, sum(least(n, most))::DOUBLE AS n FROM middle GROUP BY h ORDER BY h
        """
    ).fetchnumpy()
    votes = np.asarray(found["n"], np.float64)
    return Issued(whole(found["h"]), votes / max(float(votes.sum()), 1.0))


def find(db: duckdb.DuckDBPyConnection, usual: Issued) -> Iterator[Sighting]:
    """Hours of issue that one candidate's old tokens have far too often."""
    found = db.execute(
        f"""
        SELECT h, c, n, of FROM (
            SELECT h, c, count(*) AS n FROM seen WHERE a >= {FRESH_BUCKETS}
            GROUP BY ALL HAVING n >= {LEAST_VOTES}
        ) JOIN (
            SELECT c, count(*) AS of FROM seen WHERE a >= {FRESH_BUCKETS} GROUP BY c
        ) USING (c)
        """
    ).fetchnumpy()
    h, c = whole(found["h"]), whole(found["c"])
    n = np.asarray(found["n"], np.float64)
    mu = np.asarray(found["of"], np.float64) * usual.share(h)
    nats = surprise(n, mu)
    for place in np.flatnonzero((n > RATIO * mu) & (nats > SURPRISE)).tolist():
        yield Sighting(
            "preminted", int(c[place]), {"h": int(h[place])}, float(nats[place]), int(n[place])
        )
