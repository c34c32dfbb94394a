"""The near-line detectors: what looks stuffed in a table of votes, as flags with evidence.

    buckets        how dwell, token age and the rest are cut, and the table `seen`
    baselines      what honest crowds look like, per class of network
    mix            how unlike a crowd's the mix of a set of votes is
    crowd          what to expect of one candidate's honest votes

    lockstep       sightings: votes that agree in more facts than chance allows, from anywhere
    bursts         sightings: many votes from one network for one candidate, with an odd mix
    preminted      sightings: tokens made together and kept for later
    reminting      sightings: one phone coming back with new tokens

    parting        which of a candidate's votes are one other source's, and which the crowd's
    evidence       what speaks against them, in independent families
    merge          sightings of the same votes become one flag, with its sentence
    live           LiveCells: the burst cells of the last minutes, while votes come in
    live_learning  what is usual today, and how large shared networks are

Pure: no clock, no file, no network. DuckDB is a calculator here.
"""

from dataclasses import dataclass

import duckdb
import numpy as np

from antifraud.detectors import buckets, bursts, lockstep, preminted, reminting
from antifraud.detectors.baselines import Baselines, Breakdowns, breakdowns, learn
from antifraud.detectors.merge import explain
from antifraud.detectors.sightings import NETWORKS
from antifraud.flags import Flag

__all__ = ["Baselines", "Found", "detect"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one pass over the votes gave."""

    flags: tuple[Flag, ...]
    """The strongest first."""
    baselines: Baselines
    """Of these votes without the flagged ones: hand them to tomorrow's run."""


def detect(
    db: duckdb.DuckDBPyConnection,
    *,
    baselines: Baselines | None = None,
    learn_anew: bool = True,
) -> Found:
    """Flags over the table or view `votes` of `db`.

    Needs the columns vote (unique), at_us, day, candidate, device, network, network_wide, asn,
    network_class, user_agent_class, tls_hash, token_age_seconds, token_level,
    dwell_centiseconds, score, without NULLs; unknown is 0. The order of the rows does not matter.
    Temporary tables that it makes are gone when it returns.

    `baselines`: of yesterday, or None to learn them from these votes. `learn_anew=False` saves a
    tenth of the time where nobody wants new ones: Found.baselines are then those that were used.
    """
    try:
        buckets.see(db)
        counted = breakdowns(db)
        known = baselines or learn(counted)
        if counted.total == 0:
            return Found((), known)
        issued = preminted.issued(db)
        addresses = {
            network: bursts.addresses_of(db, network, counted.total) for network in NETWORKS
        }
        sightings = [
            *lockstep.find(db, lockstep.Expected(counted, known)),
            *preminted.find(db, issued),
            *bursts.find(db, counted, known, addresses),
            *reminting.find(db),
        ]
        flags = sorted(
            explain(db, sightings, known, issued, addresses),
            key=lambda flag: (-flag.score, -len(flag.votes), int(flag.votes[0])),
        )
        if not learn_anew:
            return Found(tuple(flags), known)
        return Found(tuple(flags), learn(_without(db, counted, flags)))
    finally:
        buckets.forget(db)


def _without(db: duckdb.DuckDBPyConnection, counted: Breakdowns, flags: list[Flag]) -> Breakdowns:
    """What is left of the counts without the flagged votes."""
    if not flags:
        return counted
    db.register("given_votes", {"vote": np.concatenate([flag.votes for flag in flags])})
    try:
        db.execute(
            "CREATE OR REPLACE TEMP TABLE picked AS"
            " SELECT cls, c, u, d, a, tls FROM seen SEMI JOIN given_votes USING (vote)"
        )
    finally:
        db.unregister("given_votes")
    return counted.minus(breakdowns(db, "picked"))
