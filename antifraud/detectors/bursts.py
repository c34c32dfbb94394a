"""Bursts: many votes from one network for one candidate, judged by their mix.

A cell is (network, candidate) or (the /24 or /48, candidate). ASNs are left out: those of carriers
hold a fifth of the country, and what is odd within one shows in lockstep all the same.

Being a burst opens a cell and is no evidence: a rule that went by it alone flagged every honest
campus. What is looked at is what the votes are like, given the class of their network: phones, TLS
stacks, dwell, leads (mix.py), and how evenly they follow each other. Campuses and companies that
vote together pass: they have few phone models and hurry, but their taps spread as people's do.

Known weakness: who replays people's times, from one network, with phones to match, passes as well.
"""

from collections.abc import Iterator, Mapping

import duckdb
import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Baselines, Breakdowns, Floats
from antifraud.detectors.buckets import weighed
from antifraud.detectors.crowd import BUSY_VOTES, Addresses
from antifraud.detectors.evidence import AGE_MISFIT, DWELL_MISFIT, LEAST_NATS, LEAST_VOTES, PACE
from antifraud.detectors.mix import count, judge_mix
from antifraud.detectors.sightings import NETWORKS, Sighting, whole

OPENS_AT = 40.0
"""Nats of surprise at which a cell is looked into."""

CELLS_AT_ONCE = 4_096
"""Counts of so many cells are in memory at a time (5 MB)."""


def surprise(n: Floats, expected: Floats) -> Floats:
    """S = n ln(n/mu) - n + mu: how unlikely (nats) n votes are where mu were expected; 0 where
    there are fewer than expected."""
    mu = np.maximum(expected, 1e-9)
    size = np.maximum(n, 1e-9)
    return np.where(n > mu, size * np.log(size / mu) - size + mu, 0.0)


def expected(cell: Floats, network: Floats, candidate: Floats, total: float) -> Floats:
    """How many votes a cell should have: the votes of its network for others x the candidate's
    share elsewhere. Without the cell's own votes on either side: whoever gives all the votes that
    there are would else be usual. One vote is added on each side."""
    result: Floats = (
        np.maximum(network - cell + 1, 1.0)
        * np.maximum(candidate - cell + 1, 1.0)
        / np.maximum(total - cell + 1, 1.0)
    )
    return result


def find(
    db: duckdb.DuckDBPyConnection,
    counted: Breakdowns,
    baselines: Baselines,
    addresses: Mapping[str, Addresses],
) -> Iterator[Sighting]:
    """Burst cells of `seen` whose mix is not a crowd's."""
    c, votes = counted.age.columns["c"], counted.age.votes.astype(np.float64)
    of_candidate = weighed(c, votes, 1)
    for network in NETWORKS:
        opened = _opened(db, network, of_candidate, addresses[network])
        for start in range(0, len(opened["c"]), CELLS_AT_ONCE):
            few = {name: column[start : start + CELLS_AT_ONCE] for name, column in opened.items()}
            yield from _judged(db, network, few, baselines)


def addresses_of(db: duckdb.DuckDBPyConnection, network: str, total: int) -> Addresses:
    """The busy networks ("net") or wide networks ("wide") of `seen`."""
    found = db.execute(
        f"SELECT {network} AS place, count(*) AS n FROM seen GROUP BY ALL HAVING n >= {BUSY_VOTES}"
    ).fetchnumpy()
    networks, votes = whole(found["place"]), whole(found["n"])
    order = np.argsort(networks)
    return Addresses(networks[order], votes[order], total)


def _opened(
    db: duckdb.DuckDBPyConnection, network: str, of_candidate: Floats, addresses: Addresses
) -> dict[str, NDArray[np.generic]]:
    """place, c, n, nats of the cells that are opened."""
    cells = db.execute(
        f"SELECT {network} AS place, c, count(*) AS n FROM seen WHERE {network} <> 0"
        f" GROUP BY ALL HAVING n >= {LEAST_VOTES} ORDER BY place, c"
    ).fetchnumpy()
    n = np.asarray(cells["n"], np.float64)
    of_place = addresses.share(whole(cells["place"])) * addresses.total
    mu = expected(n, of_place, of_candidate[whole(cells["c"])], addresses.total)
    nats = surprise(n, mu)
    opened = nats > OPENS_AT
    return {name: column[opened] for name, column in (cells | {"nats": nats}).items()}


def _judged(
    db: duckdb.DuckDBPyConnection,
    network: str,
    cells: dict[str, NDArray[np.generic]],
    baselines: Baselines,
) -> Iterator[Sighting]:
    sets = len(cells["c"])
    db.register("given_cells", {**cells, "row": np.arange(sets)})
    try:
        found = db.execute(
            f"""
            SELECT row, us, cls, u, d, a, tls FROM seen
            JOIN given_cells ON {network} = place AND seen.c = given_cells.c
            ORDER BY row, us
            """
        ).fetchnumpy()
    finally:
        db.unregister("given_cells")
    seen = {name: whole(column) for name, column in found.items()}
    mix = judge_mix(
        count(
            sets, seen["row"], seen["cls"], seen["u"], seen["d"], seen["a"], seen["tls"], baselines
        ),
        baselines,
    )
    votes = mix.votes
    # Phones alone open nothing: company phones are as alike as a farm's.
    odd = (
        (mix.dwell_misfit > DWELL_MISFIT / 2) & (votes * mix.dwell_misfit > LEAST_NATS)
        | (mix.age_misfit > AGE_MISFIT / 2) & (votes * mix.age_misfit > LEAST_NATS)
        | (_paces(seen["row"], seen["us"], sets) < PACE)
    )
    places = whole(cells["place"])
    for row in np.flatnonzero(odd).tolist():
        yield Sighting(
            "burst",
            int(cells["c"][row]),
            {network: int(places[row])},
            float(cells["nats"][row]),
            int(votes[row]),
        )


def _paces(row: NDArray[np.int64], us: NDArray[np.int64], sets: int) -> Floats:
    """Variation of the gaps within each set; `row` and `us` ascend."""
    same = row[1:] == row[:-1]
    gaps, of = np.diff(us)[same].astype(np.float64), row[1:][same]
    number = np.maximum(np.bincount(of, minlength=sets), 1)
    mean = np.bincount(of, gaps, sets) / number
    spread = np.sqrt(np.maximum(np.bincount(of, gaps * gaps, sets) / number - mean * mean, 0))
    return np.where(mean > 0, spread / np.maximum(mean, 1e-9), np.inf)
