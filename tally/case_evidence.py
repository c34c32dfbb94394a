"""What a case's votes look like beside everybody else's: mixes, course, hours, and a sample.

Made for people who have to decide. Bounded whatever the case's size: mixes and course rest on
LOOKED_AT_MAX of its votes, evenly spread over it (all, where there are no more), what they are
held against on as many of the campaign's other votes in between, or on what the detectors learned
from a whole day. A case of 300,000 votes takes 0.3 s, most of it for its list.

Nothing here names a device, a network or a click; a vote of the sample has its place in the
journal, by which whoever may read the database finds it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.buckets import (
    AGE_BUCKETS,
    AGE_PER_OCTAVE,
    AGENTS,
    CLASSES,
    DWELL_BUCKETS,
    DWELL_PER_OCTAVE,
    dwell_bucket,
    lead_bucket,
)
from antifraud.heuristics import REASON_NAMES
from antifraud.networks import NetworkClass
from tally.holds import State
from tally.store import read_queries
from voting.campaign import Campaign

SQL = read_queries(Path(__file__).with_suffix(".sql"))

LOOKED_AT_MAX = 20_000
OTHERS_MAX = 10_000
SAMPLE_MAX = 50
BARS_MAX = 10
"""Phone models that are told apart; the rest is one."""
COURSE_STEPS_MAX = 96
USUAL_HOURS_OVER = timedelta(days=7)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bar:
    """One value of a fact, with its share of the case's votes and of the usual ones."""

    low: float
    """The value; of a range its lower end, in seconds."""
    high: float | None
    """The range's upper end; None: it is no range, or has no end."""
    here: float
    usual: float | None


@dataclass(frozen=True, slots=True)
class Facet:
    """One fact about votes: how it is spread among the case's, and usually."""

    name: str
    """agent, dwell, age, network or level."""
    bars: tuple[Bar, ...]
    """Shares of those of which it is known; they add up to 1 with `rest`."""
    rest: tuple[float, float | None] = (0.0, None)
    """What has no bar of its own, here and usually."""
    unknown: float = 0.0
    """Share of the case's votes of which it is not known."""


@dataclass(frozen=True, slots=True)
class Step:
    """Votes of one step of the course."""

    at: datetime
    here: int
    """The case's; where it is larger than LOOKED_AT_MAX an estimate."""
    others: int
    """The campaign's others, counted or held."""


@dataclass(frozen=True, slots=True)
class SampleVote:
    """One vote of the case, as people may see it."""

    position: str
    """shard:epoch:seq, its place in the journal."""
    at: datetime
    candidate: int
    network: NetworkClass
    agent: int
    token_level: int
    token_age_seconds: int
    dwell_seconds: float | None
    """None: not known."""
    score_nats: float
    reasons: tuple[str, ...]
    """Names of heuristics, the weightiest first."""
    state: State


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the case is held against."""

    day: date | None
    """The day that the detectors learned it from; None: the campaign's other votes of the hours."""
    votes: int


@dataclass(frozen=True, slots=True)
class CaseEvidence:
    """Everything about one case that can be drawn."""

    votes: int
    looked_at: int
    first: datetime
    last: datetime
    baseline: Baseline
    others: int
    """Other votes of the same hours that were looked at: what network and level stand beside."""
    facets: tuple[Facet, ...]
    step: timedelta
    course: tuple[Step, ...]
    hours: tuple[tuple[float, float | None], ...]
    """Share of the case's votes in each hour of the day, and of the campaign's in a week."""
    sample: tuple[SampleVote, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Positions of votes, by the places (day, shard, epoch) that they lie at."""

    days: list[date]
    shards: list[int]
    epochs: list[int]
    place: Ints
    """Index into these, of each vote."""
    seq: Ints

    def __len__(self) -> int:
        return len(self.seq)

    def pick(self, rows: Ints | NDArray[np.bool_]) -> "_Places":
        return _Places(self.days, self.shards, self.epochs, self.place[rows], self.seq[rows])

    @property
    def arguments(self) -> tuple[list[date], list[int], list[int], list[int], list[int]]:
        return (
            self.days, self.shards, self.epochs,
            (self.place + 1).tolist(), self.seq.tolist(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    at: Floats
    network: Ints
    agent: Ints
    age: Ints
    level: Ints
    dwell: Ints

    def __len__(self) -> int:
        return len(self.at)


async def read_evidence(
    connection: asyncpg.Connection, campaign: Campaign, case: int
) -> CaseEvidence | None:
    """Of the case with this number (its first flag's); None where the campaign has no such case."""
    places = await _places(connection, campaign, case)
    if places is None:
        return None
    zone = campaign.window.zone
    looked_at = places.pick(_spread(len(places), LOOKED_AT_MAX))
    here = await _facts(connection, campaign, looked_at)
    others = await _facts(connection, campaign, _between(places))
    first, last = (datetime.fromtimestamp(at(), UTC) for at in (here.at.min, here.at.max))
    baseline, usual = await _usual(connection, campaign, here, others)
    scale = len(places) / len(here)
    step, course = await _course(connection, campaign, here, scale, first, last)
    return CaseEvidence(
        votes=len(places),
        looked_at=len(here),
        first=first.astimezone(zone),
        last=last.astimezone(zone),
        baseline=baseline,
        others=len(others),
        facets=_facets(here, others, usual),
        step=step,
        course=course,
        hours=await _hours(connection, campaign, here, first, last),
        sample=await _sample(connection, campaign, places),
    )


async def _places(connection: asyncpg.Connection, campaign: Campaign, case: int) -> _Places | None:
    rows = await connection.fetch(SQL["read_case_lists"], campaign.number, case)
    if not rows:
        return None
    lists = [np.asarray(row["seqs"], np.int64) for row in rows]
    return _Places(
        [row["day"] for row in rows],
        [row["shard"] for row in rows],
        [row["epoch"] for row in rows],
        np.repeat(np.arange(len(rows)), [len(one) for one in lists]),
        np.concatenate(lists),
    )


def _spread(number: int, at_most: int) -> Ints:
    """Indices evenly spread over so many, the first and the last among them."""
    if number <= at_most:
        return np.arange(number)
    return np.linspace(0, number - 1, at_most).astype(np.int64)


def _between(places: _Places) -> _Places:
    """Positions around and between a case's, evenly spread, which are not the case's."""
    found = []
    for number in range(len(places.days)):
        of_place = np.sort(places.seq[places.place == number])
        low, high = int(of_place[0]), int(of_place[-1])
        # As many before and after as there are within, so that a case without a gap has others.
        around = max(500, (high - low) // 4)
        low, high = max(1, low - around), high + around
        share = max(200, round(OTHERS_MAX * len(of_place) / len(places)))
        wanted = np.unique(np.linspace(low, high, min(share, high - low + 1)).astype(np.int64))
        at = np.minimum(np.searchsorted(of_place, wanted), len(of_place) - 1)
        rest = wanted[of_place[at] != wanted]
        found.append((np.full(len(rest), number), rest))
    place = np.concatenate([one for one, _ in found])
    seq = np.concatenate([one for _, one in found])
    chosen = _spread(len(seq), OTHERS_MAX)
    return _Places(places.days, places.shards, places.epochs, place[chosen], seq[chosen])


async def _facts(connection: asyncpg.Connection, campaign: Campaign, places: _Places) -> _Facts:
    row = await connection.fetchrow(SQL["read_facts"], campaign.number, *places.arguments)
    at, *columns = (column or [] for column in row)
    return _Facts(np.asarray(at, np.float64), *(np.asarray(one, np.int64) for one in columns))


async def _usual(
    connection: asyncpg.Connection, campaign: Campaign, here: _Facts, others: _Facts
) -> tuple[Baseline, dict[str, Floats | None]]:
    """What to hold agent, dwell and age against: shares by bucket, unknown (bucket 0 of the first
    two) left out; None where nothing is known."""
    row = await connection.fetchrow(SQL["read_learned"], campaign.number)
    if row is None:
        return Baseline(None, len(others)), {
            "agent": _shares(others.agent, AGENTS, known_from=1),
            "dwell": _shares(dwell_bucket(others.dwell), DWELL_BUCKETS, known_from=1),
            "age": _shares(lead_bucket(others.age, others.dwell), AGE_BUCKETS, known_from=0),
        }
    # Of phones on carriers' networks where the case is on those, and so on.
    classes = np.bincount(np.minimum(here.network, CLASSES - 1), minlength=CLASSES)
    weights = classes / max(1, int(classes.sum()))
    usual: dict[str, Floats | None] = {}
    for name, buckets in (("agent", AGENTS), ("dwell", DWELL_BUCKETS), ("age", AGE_BUCKETS)):
        table = np.asarray(json.loads(row[name]), np.float64)
        usual[name] = weights @ table if table.shape == (CLASSES, buckets) else None
    return Baseline(row["day"], row["votes"]), usual


def _shares(values: Ints, buckets: int, *, known_from: int) -> Floats | None:
    counts = np.bincount(np.clip(values, 0, buckets - 1), minlength=buckets).astype(np.float64)
    counts[:known_from] = 0
    total = counts.sum()
    return counts / total if total else None


def _facets(here: _Facts, others: _Facts, usual: dict[str, Floats | None]) -> tuple[Facet, ...]:
    dwell = dwell_bucket(here.dwell)
    return (
        _agents(here.agent, usual["agent"]),
        _steps("dwell", dwell, usual["dwell"], _dwell_edges(), known_from=1),
        _steps("age", lead_bucket(here.age, here.dwell), usual["age"], _age_edges(), known_from=0),
        _kinds("network", _known(here.network), _known(others.network), len(NetworkClass)),
        _kinds("level", here.level, others.level, 8),
    )


def _known(classes: Ints) -> Ints:
    """As `network_class` does it."""
    return np.where(classes < len(NetworkClass), classes, NetworkClass.UNKNOWN)


def _agents(agents: Ints, usual: Floats | None) -> Facet:
    shares = _shares(agents, AGENTS, known_from=1)
    unknown = float((agents == 0).mean())
    if shares is None:
        return Facet("agent", (), unknown=unknown)
    # The case's own most common ones, then the crowd's that are missing here.
    most = [int(one) for one in np.argsort(-shares, kind="stable") if shares[one] > 0][:BARS_MAX]
    if usual is not None:
        crowd = [int(one) for one in np.argsort(-usual, kind="stable")]
        most += [one for one in crowd if one not in most][: max(0, BARS_MAX - len(most))]
    bars = tuple(
        Bar(one, None, float(shares[one]), None if usual is None else float(usual[one]))
        for one in most
    )
    rest = (
        max(0.0, 1.0 - sum(bar.here for bar in bars)),
        None if usual is None else max(0.0, 1.0 - sum(bar.usual or 0.0 for bar in bars)),
    )
    return Facet("agent", bars, rest, unknown)


def _dwell_edges() -> list[tuple[int, int, float, float | None]]:
    """(first bucket, last bucket, from seconds, to seconds), two buckets a bar."""
    edges = []
    for first in range(1, DWELL_BUCKETS, 2):
        last = min(first + 1, DWELL_BUCKETS - 1)
        low = 0.0 if first == 1 else 0.1 * 2 ** ((first - 1) / DWELL_PER_OCTAVE)
        high = None if last == DWELL_BUCKETS - 1 else 0.1 * 2 ** (last / DWELL_PER_OCTAVE)
        edges.append((first, last, low, high))
    return edges


def _age_edges() -> list[tuple[int, int, float, float | None]]:
    """The same of leads; bucket 0 (younger than the look at the card) is a bar of its own, from
    below zero."""
    edges: list[tuple[int, int, float, float | None]] = [(0, 0, -1.0, 0.0)]
    for first in range(1, AGE_BUCKETS, 2):
        last = min(first + 1, AGE_BUCKETS - 1)
        low = 2 ** ((first - 1) / AGE_PER_OCTAVE) - 1
        high = None if last == AGE_BUCKETS - 1 else 2 ** (last / AGE_PER_OCTAVE) - 1
        edges.append((first, last, low, high))
    return edges


def _steps(
    name: str,
    buckets: Ints,
    usual: Floats | None,
    edges: Sequence[tuple[int, int, float, float | None]],
    *,
    known_from: int,
) -> Facet:
    unknown = float((buckets < known_from).mean())
    shares = _shares(buckets, edges[-1][1] + 1, known_from=known_from)
    if shares is None:
        return Facet(name, (), unknown=unknown)
    bars = [
        Bar(
            low,
            high,
            float(shares[first : last + 1].sum()),
            None if usual is None else float(usual[first : last + 1].sum()),
        )
        for first, last, low, high in edges
    ]
    seen = [n for n, bar in enumerate(bars) if max(bar.here, bar.usual or 0.0) >= 0.002]
    return Facet(name, tuple(bars[seen[0] : seen[-1] + 1]) if seen else (), unknown=unknown)


def _kinds(name: str, here: Ints, others: Ints, values: int) -> Facet:
    shares = _shares(here, values, known_from=0)
    usual = _shares(others, values, known_from=0)
    assert shares is not None, "a case has votes"
    return Facet(
        name,
        tuple(
            Bar(value, None, float(shares[value]), None if usual is None else float(usual[value]))
            for value in range(values)
            if shares[value] > 0 or (usual is not None and usual[value] > 0)
        ),
    )


_STEPS = tuple(timedelta(minutes=n) for n in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440))


async def _course(
    connection: asyncpg.Connection,
    campaign: Campaign,
    here: _Facts,
    scale: float,
    first: datetime,
    last: datetime,
) -> tuple[timedelta, tuple[Step, ...]]:
    """The case's votes and the campaign's others, with a quarter of its time before and after."""
    around = max(timedelta(minutes=10), (last - first) / 4)
    low, high = first - around, last + around
    step = next((one for one in _STEPS if (high - low) / one <= COURSE_STEPS_MAX), None)
    if step is None:
        step = timedelta(days=-(-(high - low) // (COURSE_STEPS_MAX * timedelta(days=1))))
    origin = datetime.combine(
        low.astimezone(campaign.window.zone).date(), datetime.min.time(), campaign.window.zone
    )
    low = origin + (low - origin) // step * step
    steps = int((high - low) / step) + 1
    rows = await connection.fetch(
        SQL["sum_course"], campaign.number, low, low + steps * step, origin, step
    )
    together = np.zeros(steps, np.int64)
    for row in rows:
        together[int((row["at"] - low) / step)] = row["votes"]
    of_case = np.bincount(
        ((here.at - low.timestamp()) // step.total_seconds()).astype(np.int64), minlength=steps
    )
    of_case = np.round(of_case * scale).astype(np.int64)
    return step, tuple(
        Step(
            (low + n * step).astimezone(campaign.window.zone),
            int(of_case[n]),
            max(0, int(together[n] - of_case[n])),
        )
        for n in range(steps)
    )


async def _hours(
    connection: asyncpg.Connection,
    campaign: Campaign,
    here: _Facts,
    first: datetime,
    last: datetime,
) -> tuple[tuple[float, float | None], ...]:
    zone = campaign.window.zone
    # One offset for all of it: a change of the clock within a case moves its hours by one.
    offset = last.astimezone(zone).utcoffset() or timedelta()
    hours = ((here.at + offset.total_seconds()) // 3600 % 24).astype(np.int64)
    shares = np.bincount(hours, minlength=24) / len(hours)
    rows = await connection.fetch(
        SQL["sum_hours"], campaign.number, first - USUAL_HOURS_OVER, last, zone.key
    )
    usual = np.zeros(24)
    for row in rows:
        usual[row["hour"]] = row["votes"]
    total = usual.sum()
    return tuple(
        (float(shares[hour]), float(usual[hour] / total) if total else None) for hour in range(24)
    )


async def _sample(
    connection: asyncpg.Connection, campaign: Campaign, places: _Places
) -> tuple[SampleVote, ...]:
    chosen = places.pick(_spread(len(places), SAMPLE_MAX))
    rows = await connection.fetch(
        SQL["read_sample"],
        campaign.number,
        [places.days[n] for n in chosen.place],
        [places.shards[n] for n in chosen.place],
        [places.epochs[n] for n in chosen.place],
        chosen.seq.tolist(),
    )
    return tuple(
        SampleVote(
            f"{row['shard']}:{row['epoch']}:{row['seq']}",
            row["at"].astimezone(campaign.window.zone),
            row["candidate"],
            network_class(row["network_class"]),
            row["user_agent_class"],
            row["token_level"],
            row["token_age_seconds"],
            row["dwell_centiseconds"] / 100 if row["dwell_centiseconds"] else None,
            row["score"] / 1000,
            reasons_of(row["reasons"]),
            State(row["state"]),
        )
        for row in rows
    )


def network_class(number: int) -> NetworkClass:
    """A class that this version does not know is UNKNOWN."""
    return NetworkClass(number) if number < len(NetworkClass) else NetworkClass.UNKNOWN


def reasons_of(packed: int) -> tuple[str, ...]:
    """Names of `votes.reasons`: three codes of 8 bits, the weightiest highest."""
    codes = [packed >> shift & 0xFF for shift in (16, 8, 0)]
    return tuple(REASON_NAMES.get(code, str(code)) for code in codes if code)
