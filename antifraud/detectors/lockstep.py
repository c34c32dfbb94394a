"""Lockstep: votes for one candidate that agree in more facts than chance allows, from wherever they
come.

Cells are (candidate, one or two facts): phone model, dwell, lead of the token, TLS stack, over
all hours and within single ones. How many votes a cell should have follows from the candidate's
votes and from what people are like, with the candidate's own crowd allowed for: a hurried or a new
crowd has more quick taps and fresh tokens, spread as people's are. A cell with six times its share
and 20 nats of surprise is a sighting; `parting` then finds all that belongs to its source.
"""

from collections.abc import Iterator

import duckdb
import numpy as np

from antifraud.detectors.baselines import Baselines, Breakdown, Breakdowns, Floats, Ints
from antifraud.detectors.buckets import AGE_BUCKETS, CLASSES, DWELL_BUCKETS, product, weighed
from antifraud.detectors.bursts import surprise
from antifraud.detectors.crowd import DWELL_KERNEL, LEAD_KERNEL, own_shares
from antifraud.detectors.sightings import Sighting, whole

RATIO = 6.0
"""Times the expected votes."""
RATIO_OF_SMOOTH = 3.0
"""The same of cells of dwell and lead alone, whose expectation has the candidate's own crowd in it,
smoothed as people spread: people come to 1.4 times that at most, a machine that is nearly all of a
candidate's votes to three and more."""
SURPRISE = 20.0
"""Nats: with a million cells looked at, chance gives one such in e^20 / 1e6 = 485 runs."""
LEAST_IN_CELL = 10
SHAPES = (
    ("d", "a"),
    ("u", "d"),
    ("u", "a"),
    ("s", "d"),
    ("s", "a"),
    ("a",),
    ("d",),
)
HOURLY_SHAPES = (("d", "a"), ("a",), ("d",))
"""u = phone model, d = dwell, a = lead of the token, s = TLS stack. Within single hours fewer
shapes are enough: an hour's attack is most of what its candidate gets then."""
HOURLY_FROM = 4
"""Hours in the table from which on single ones are looked at; two are hardly more than one."""


class Expected:
    """How many votes of each fact a candidate's crowd should have."""

    def __init__(self, counted: Breakdowns, baselines: Baselines) -> None:
        self.baselines = baselines
        self.numbers = np.unique(counted.age.columns["c"])
        cls = self._table(counted.age, "cls", CLASSES)
        self.votes = cls.sum(axis=1)
        weights = cls / np.maximum(self.votes, 1)[:, None]
        self.u = product(weights, baselines.agent)
        self.d = product(weights, baselines.dwell)
        dwell = self._table(counted.dwell, "d", DWELL_BUCKETS)
        self.d[:, 1:] = own_shares(self.d[:, 1:], dwell[:, 1:], DWELL_KERNEL)
        self.a = product(weights, baselines.age)
        age = self._table(counted.age, "a", AGE_BUCKETS)
        self.a[:, 1:] = own_shares(self.a[:, 1:], age[:, 1:], LEAD_KERNEL)
        self.s = product(self.u, baselines.stack)

    def _table(self, counted: Breakdown, column: str, buckets: int) -> Floats:
        flat = self.row(counted.columns["c"]) * buckets + counted.columns[column]
        votes = counted.votes.astype(np.float64)
        table = weighed(flat, votes, len(self.numbers) * buckets)
        return table.reshape(len(self.numbers), buckets)

    def row(self, candidate: Ints) -> Ints:
        return np.searchsorted(self.numbers, candidate)

    def shares(self, row: Ints, facts: dict[str, Ints]) -> Floats:
        """What part of the candidate's votes should have all these facts."""
        share = np.ones(len(row))
        for name in ("u", "d", "a"):
            if name in facts:
                share = share * getattr(self, name)[row, facts[name]]
        if "s" in facts:
            place = self.baselines.stack_index(facts["s"])
            if "u" in facts:
                share = share * self.baselines.stack[facts["u"], place]
            else:
                share = share * self.s[row, place]
        return share


def find(db: duckdb.DuckDBPyConnection, expected: Expected) -> Iterator[Sighting]:
    """Cells of `seen` with far more votes than expected."""
    hours = db.execute("SELECT count(DISTINCT vh) FROM seen").fetchall()[0][0]
    for shape in SHAPES:
        yield from _unusual(db, expected, shape, hourly=False)
    if hours >= HOURLY_FROM:
        for shape in HOURLY_SHAPES:
            yield from _unusual(db, expected, shape, hourly=True)


_NAME = {"u": "u", "d": "d", "a": "a", "s": "tls"}
_KNOWN = {"u": "u > 0", "d": "d > 0", "s": "tls > 0", "a": "true"}


def _unusual(
    db: duckdb.DuckDBPyConnection, expected: Expected, shape: tuple[str, ...], *, hourly: bool
) -> Iterator[Sighting]:
    facts = [*shape, "vh"] if hourly else list(shape)
    columns = ", ".join(_NAME.get(fact, fact) + f" AS {fact}" for fact in facts)
    known = " AND ".join(_KNOWN[fact] for fact in shape)
    of_hour = "JOIN (SELECT c, vh, count(*) AS of FROM seen GROUP BY ALL) USING (c, vh)"
    found = db.execute(
        f"""
        SELECT * FROM (
            SELECT c, {columns}, count(*) AS n FROM seen WHERE {known}
            GROUP BY ALL HAVING n >= {LEAST_IN_CELL}
        ) {of_hour if hourly else ""}
        """
    ).fetchnumpy()
    cells = {name: whole(column) for name, column in found.items()}
    row = expected.row(cells["c"])
    total = cells["of"].astype(np.float64) if hourly else expected.votes[row]
    mu = total * expected.shares(row, {fact: cells[fact] for fact in shape})
    n = cells["n"].astype(np.float64)
    nats = surprise(n, mu)
    if "s" in cells:
        cells["stack"] = expected.baselines.stack_index(cells.pop("s"))
        facts = ["stack" if fact == "s" else fact for fact in facts]
    ratio = RATIO_OF_SMOOTH if set(shape) <= {"d", "a"} and "d" in shape else RATIO
    for place in np.flatnonzero((n > ratio * mu) & (nats > SURPRISE)).tolist():
        yield Sighting(
            "lockstep",
            int(cells["c"][place]),
            {fact: int(cells[fact][place]) for fact in facts},
            float(nats[place]),
            int(n[place]),
        )
