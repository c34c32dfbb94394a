"""One campaign's numbers now, for people who look on.

The three numbers and the ranking come from the hot state, where a like is at once; everything that
has a past comes from Postgres' roll-ups (a row a minute), never from votes. What staff see is not
blind: who shows it to anybody else asks the campaign's visibility first.

`Live` polls a campaign each second as long as somebody looks, one poll for all who do, and not at
all otherwise.
"""

import asyncio
import contextlib
import enum
import functools
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import asyncpg
import structlog

from antifraud.networks import NetworkClass
from tally.parts import Acquire, PartStatus, look_at_parts
from tally.patience import POSTGRES_AWAY, VALKEY_AWAY, set_within
from tally.store import read_queries
from tally.tallies import UnknownCampaign
from voting.ballot import Outcome
from voting.campaign import Campaign, Candidate, moment_at
from voting.catalog import catalog_version, load_campaigns
from voting.hot_state import HotState
from voting.journal import JournalError, TallyField, parse_tally_field, tally_key

_SQL = read_queries(Path(__file__).with_name("live_view.sql"))

POLL_SECONDS = 1.0
STORE_SECONDS = 1.0
"""Then the store is taken for away, and Postgres is asked."""
LINGER_SECONDS = 10.0
"""A poll goes on so long after the last viewer: who asks each few seconds keeps it alive."""
RATE_OVER_SECONDS = 10.0
RATES_KEPT = 120
_TOO_SOON_US = 300_000
TREND_SECONDS = 15.0
PARTS_SECONDS = 2.0
POINTS_MAX = 400

log = structlog.get_logger()

_Found = TypeVar("_Found")


class Sums(NamedTuple):
    """Votes and refusals of one candidate, or of all."""

    counted: int = 0
    held: int = 0
    struck: int = 0
    refused: int = 0

    @property
    def votes(self) -> int:
        """Whatever was decided about them: never falls."""
        return self.counted + self.held + self.struck

    @property
    def received(self) -> int:
        return self.votes + self.refused


@dataclass(frozen=True, slots=True)
class Numbers:
    """All sums of a campaign at one moment."""

    at_us: int
    by_candidate: Mapping[int, Sums]
    refused_by: Mapping[Outcome, int]

    @property
    def in_all(self) -> Sums:
        return Sums(*map(sum, zip(*self.by_candidate.values(), strict=True)))


class Source(enum.StrEnum):
    """Where the numbers come from."""

    HOT = "hot"
    POSTGRES = "postgres"
    """The hot state is away: some seconds late."""


class Trend(NamedTuple):
    """Votes that count, of two hours."""

    last_hour: int
    hour_before: int

    @property
    def change(self) -> float | None:
        """0.12 = twelve percent more than the hour before; None where that had none."""
        return self.last_hour / self.hour_before - 1 if self.hour_before else None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate among all."""

    rank: int
    """Equal counts share one; they are listed by number."""
    candidate: Candidate
    sums: Sums
    share: float
    """Of all votes that count."""
    trend: Trend | None

    @property
    def held_share(self) -> float:
        """Of the candidate's own votes that are not struck."""
        alive = self.sums.counted + self.sums.held
        return self.sums.held / alive if alive else 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of a campaign at a moment."""

    campaign: Campaign
    source: Source
    at: datetime
    """In the campaign's zone; nothing older is missing."""
    complete_until: datetime | None
    """Up to when Postgres has everything; None before the first flush, or while it is away."""
    sums: Sums
    refused_by: Mapping[Outcome, int]
    ranking: tuple[Ranked, ...]
    rate: float | None
    """Votes a second, over RATE_OVER_SECONDS; None at the first look."""
    rates: tuple[float, ...]
    """The same at each look before, oldest first, RATES_KEPT at most."""


# Reading.


@functools.lru_cache(maxsize=65_536)
def _field(name: bytes) -> TallyField:
    """Names come again each second."""
    return parse_tally_field(name)


def _sum_up(at_us: int, fields: Iterable[tuple[TallyField, int]]) -> Numbers:
    places = {"": 0, "h": 1, "s": 2, "r": 3}
    sums: dict[int, list[int]] = {}
    refused_by: Counter[Outcome] = Counter()
    for found, ballots in fields:
        sums.setdefault(found.candidate, [0, 0, 0, 0])[places[found.kind]] += ballots
        if found.outcome is not None:
            refused_by[found.outcome] += ballots
    return Numbers(at_us, {number: Sums(*four) for number, four in sums.items()}, +refused_by)


async def read_hot_numbers(hot: HotState, campaign_id: str) -> Numbers:
    """Out of the hot state, each shard's as of one moment: one HGETALL a shard. Raises JournalError
    for a field that is not ours, VALKEY_AWAY."""
    moments, fields = [], []
    for shard in hot.shards:
        async with hot.of(shard).pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.hgetall(tally_key(shard, campaign_id))
            (seconds, micro), found = await pipeline.execute()
        moments.append(seconds * 1_000_000 + micro)
        fields += [(_field(name), int(ballots)) for name, ballots in found.items()]
    return _sum_up(min(moments), fields)


async def read_stored_numbers(connection: asyncpg.Connection, campaign: Campaign) -> Numbers | None:
    """Out of Postgres; None before the first flush."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        complete_until = await connection.fetchval(_SQL["read_complete_until"])
        rows = await connection.fetch(_SQL["read_sums"], campaign.number)
        refusals = await connection.fetch(_SQL["read_refusals"], campaign.number)
    if complete_until is None:
        return None
    fields = [
        (TallyField(kind, row["candidate"], None), row[name])
        for row in rows
        for kind, name in (("", "counted"), ("h", "held"), ("s", "struck"))
    ]
    fields += [
        (TallyField("r", row["candidate"], Outcome(row["outcome"])), row["ballots"])
        for row in refusals
    ]
    return _sum_up(round(complete_until.timestamp() * 1e6), fields)


def rank(
    campaign: Campaign, numbers: Numbers, trends: Mapping[int, Trend] | None = None
) -> tuple[Ranked, ...]:
    """Every candidate, most votes first. Votes for a number that the campaign does not know are in
    its sums and not here."""
    none = Sums()
    rows = sorted(
        ((numbers.by_candidate.get(c.number, none), c) for c in campaign.candidates),
        key=lambda row: (-row[0].counted, row[1].number),
    )
    total = sum(sums.counted for sums, _ in rows)
    ranked, place, before = [], 0, None
    for n, (sums, candidate) in enumerate(rows, 1):
        if sums.counted != before:
            place, before = n, sums.counted
        trend = trends.get(candidate.number, Trend(0, 0)) if trends is not None else None
        ranked.append(Ranked(place, candidate, sums, sums.counted / total if total else 0.0, trend))
    return tuple(ranked)


async def read_trends(
    connection: asyncpg.Connection, campaign: Campaign, until: datetime
) -> dict[int, Trend]:
    """The last whole hour before `until` and the one before it, of every candidate with votes in
    them. Reads up to 90,000 roll-up rows."""
    rows = await connection.fetch(
        _SQL["read_trend"], campaign.number, until.replace(second=0, microsecond=0)
    )
    return {row["candidate"]: Trend(row["last_hour"], row["hour_before"]) for row in rows}


async def read_complete_until(connection: asyncpg.Connection) -> datetime | None:
    """Up to when Postgres has everything."""
    moment: datetime | None = await connection.fetchval(_SQL["read_complete_until"])
    return moment


async def read_networks(
    connection: asyncpg.Connection, campaign: Campaign, since: datetime
) -> list[tuple[NetworkClass, int, int]]:
    """(class, votes, held by their own verdict) since an hour, most votes first. A class that this
    version does not know counts as unknown."""
    found: dict[NetworkClass, list[int]] = {}
    for row in await connection.fetch(_SQL["read_networks"], campaign.number, since):
        try:
            network_class = NetworkClass(row["network_class"])
        except ValueError:
            network_class = NetworkClass.UNKNOWN
        sums = found.setdefault(network_class, [0, 0])
        sums[0] += row["votes"]
        sums[1] += row["held"]
    return sorted(
        ((class_, votes, held) for class_, (votes, held) in found.items()),
        key=lambda row: (-row[1], row[0]),
    )


# Courses.


class Range(enum.StrEnum):
    """How far back a course goes."""

    QUARTER = "15m"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Span(NamedTuple):
    whole: timedelta
    step: timedelta
    """So that there are POINTS_MAX at most, and midnight begins one."""


SPANS = {
    Range.QUARTER: Span(timedelta(minutes=15), timedelta(minutes=1)),
    Range.HOUR: Span(timedelta(hours=1), timedelta(minutes=1)),
    Range.DAY: Span(timedelta(days=1), timedelta(minutes=5)),
    Range.WEEK: Span(timedelta(days=7), timedelta(minutes=30)),
    Range.MONTH: Span(timedelta(days=31), timedelta(hours=2)),
}


class Point(NamedTuple):
    """One step of a course."""

    at: datetime
    counted: int
    held: int
    minutes: float
    """How much of the step is over."""

    @property
    def counted_a_minute(self) -> float:
        return self.counted / self.minutes

    @property
    def held_a_minute(self) -> float:
        return self.held / self.minutes


@dataclass(frozen=True, slots=True)
class Course:
    """Votes over time."""

    range: Range
    step: timedelta
    points: tuple[Point, ...]
    until: datetime
    """Nothing older is missing."""

    @property
    def counted(self) -> int:
        return sum(point.counted for point in self.points)

    @property
    def held(self) -> int:
        return sum(point.held for point in self.points)


def steps(campaign: Campaign, range_: Range, until: datetime) -> list[datetime]:
    """When the steps of a course begin: from midnight on in steps, within the range, not before the
    campaign opened, and none that is not at least a minute old."""
    zone = campaign.window.zone
    whole, step = SPANS[range_]
    until = until.astimezone(zone)
    first = max(until - whole, campaign.window.opens_at.astimezone(zone))
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    # In elapsed time: a day of 23 hours has fewer steps.
    at = midnight + step * ((first - midnight) // step)
    found = []
    while (until - at) >= timedelta(minutes=1):
        found.append(at)
        at = (at.astimezone(UTC) + step).astimezone(zone)
    return found[-POINTS_MAX:]


async def read_course(
    connection: asyncpg.Connection,
    campaign: Campaign,
    range_: Range,
    *,
    candidate: int | None = None,
) -> Course:
    """The votes of a campaign or of one candidate over time, up to where Postgres has everything
    or to the campaign's end: by the minute of the vote, in the states that they are in now."""
    complete_until = await read_complete_until(connection)
    until = min(complete_until or campaign.window.opens_at, campaign.window.closes_at)
    until = until.astimezone(campaign.window.zone)
    begins = steps(campaign, range_, until) if complete_until is not None else []
    step = SPANS[range_].step
    if not begins:
        return Course(range_, step, (), until)
    words: list[Any] = [campaign.number, begins[0], until, step]
    if candidate is None:
        rows = await connection.fetch(_SQL["read_course"], *words)
    else:
        rows = await connection.fetch(_SQL["read_candidate_course"], *words, candidate)
    found = {row["at"]: (row["counted"], row["held"]) for row in rows}
    minute = timedelta(minutes=1)
    return Course(
        range_,
        step,
        tuple(Point(at, *found.get(at, (0, 0)), min(step, until - at) / minute) for at in begins),
        until,
    )


class CandidateFlag(NamedTuple):
    """A case with votes of one candidate, by its newest flag."""

    case: int
    at: datetime
    sentence: str
    score: float
    votes: int
    """Of this candidate, in all flags of the case."""


async def read_candidate_flags(
    connection: asyncpg.Connection, campaign: Campaign, candidate: int
) -> list[CandidateFlag]:
    """Newest first, 50 at most."""
    rows = await connection.fetch(_SQL["read_candidate_flags"], campaign.number, str(candidate))
    return [
        CandidateFlag(row["case_of"], row["at"], row["sentence"], row["score"], row["votes"])
        for row in rows
    ]


# Looking on.


class Kept(Generic[_Found]):
    """What was read lately: read anew after some seconds, once for all who ask meanwhile. While
    Postgres is away, what was read before stays."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._read_at: dict[object, float] = {}
        self._found: dict[object, _Found] = {}
        self._reading: dict[object, asyncio.Task[_Found]] = {}

    async def get(self, key: object, read: Callable[[], Awaitable[_Found]]) -> _Found:
        """Raises what `read` raises, where nothing was read before."""
        if key in self._found and time.monotonic() - self._read_at[key] < self._seconds:
            return self._found[key]
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(self._read(key, read))
            self._reading[key] = reading
            reading.add_done_callback(functools.partial(self._done, key))
        return await asyncio.shield(reading)

    def _done(self, key: object, reading: "asyncio.Task[_Found]") -> None:
        self._reading.pop(key, None)
        if not reading.cancelled():
            reading.exception()  # whoever asked may have gone

    async def _read(self, key: object, read: Callable[[], Awaitable[_Found]]) -> _Found:
        try:
            found = await read()
        except POSTGRES_AWAY:
            if key not in self._found:
                raise
            found = self._found[key]
        if len(self._found) >= 1_000:  # keys are ours: campaigns, candidates, ranges
            self._found.clear()
        self._found[key], self._read_at[key] = found, time.monotonic()
        return found


class CampaignLive:
    """One campaign's polling. Belongs to `Live`."""

    def __init__(self, live: "Live", campaign_id: str) -> None:
        self._live = live
        self._campaign_id = campaign_id
        self._viewers = 0
        self._wanted_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._votes: deque[tuple[int, int]] = deque()
        self._rates: deque[float] = deque(maxlen=RATES_KEPT)
        self.snapshot: Snapshot | None = None
        self.looks = 0
        """Grows with each look that found something."""

    @property
    def polls(self) -> bool:
        return self._task is not None and not self._task.done()

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator["CampaignLive"]:
        """As long as the block lasts, somebody looks."""
        self._viewers += 1
        self._begin()
        try:
            yield self
        finally:
            self._viewers -= 1
            self._wanted_until = time.monotonic() + LINGER_SECONDS

    async def now(self) -> Snapshot:
        """The newest snapshot, not older than a poll or two where the servers answer. Raises
        UnknownCampaign, and what Postgres raises where there is none yet."""
        self._wanted_until = time.monotonic() + LINGER_SECONDS
        if not self.polls or self.snapshot is None:
            await self._look()
        self._begin()
        assert self.snapshot is not None, "a look makes one or raises"
        return self.snapshot

    async def next(self, seconds: float) -> bool:
        """Wait for the next look; False where none came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._looked.wait()
        except TimeoutError:
            return False
        return True

    def _begin(self) -> None:
        if not self.polls:
            self._task = asyncio.create_task(self._poll(), name=f"live {self._campaign_id}")

    async def _poll(self) -> None:
        try:
            while self._viewers or time.monotonic() < self._wanted_until:
                if self._live.stopping.is_set():
                    return
                began = time.monotonic()
                try:
                    await self._look()
                except (*POSTGRES_AWAY, *VALKEY_AWAY, asyncpg.PostgresError, JournalError) as why:
                    log.debug("live-look-failed", why=f"{type(why).__name__}: {why}"[:200])
                except UnknownCampaign:
                    return
                left = POLL_SECONDS - (time.monotonic() - began)
                await set_within(self._live.stopping, max(0.1, left))
        finally:
            # What comes next is not measured against what was.
            self._votes.clear()
            self._rates.clear()

    async def _look(self) -> None:
        live = self._live
        campaign = await live.campaign(self._campaign_id)
        source = Source.HOT
        numbers: Numbers | None
        try:
            async with asyncio.timeout(STORE_SECONDS):
                numbers = await read_hot_numbers(live.hot, campaign.id)
        except (*VALKEY_AWAY, TimeoutError):
            source = Source.POSTGRES
            async with live.acquire() as connection:
                numbers = await read_stored_numbers(connection, campaign)
            if numbers is None:
                numbers = Numbers(campaign.window.opens_at_us, {}, {})
        complete_until, trends = await live.past(campaign)
        sums = numbers.in_all
        if source is Source.HOT:
            self._measure(numbers.at_us, sums.votes)
        self.snapshot = Snapshot(
            campaign,
            source,
            moment_at(numbers.at_us, campaign.window.zone),
            complete_until,
            sums,
            numbers.refused_by,
            rank(campaign, numbers, trends),
            self._rates[-1] if self._rates and source is Source.HOT else None,
            tuple(self._rates),
        )
        self.looks += 1
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    def _measure(self, at_us: int, votes: int) -> None:
        if self._votes and 0 <= at_us - self._votes[-1][0] < _TOO_SOON_US:
            return  # two looks at once say nothing of a second
        while self._votes and (
            at_us - self._votes[0][0] > (RATE_OVER_SECONDS + POLL_SECONDS / 2) * 1e6
            # A store that was set back, or a clock.
            or self._votes[0][0] >= at_us
            or self._votes[0][1] > votes
        ):
            self._votes.popleft()
        if self._votes:
            then_us, then = self._votes[0]
            self._rates.append((votes - then) / ((at_us - then_us) / 1e6))
        self._votes.append((at_us, votes))


class Live:
    """Everything that is looked on in this process; one for all who look."""

    def __init__(
        self, acquire: Acquire, hot: HotState, stopping: asyncio.Event | None = None
    ) -> None:
        """All polling ends when `stopping` is set."""
        self.acquire = acquire
        self.hot = hot
        self.stopping = stopping or asyncio.Event()
        self._watched: dict[str, CampaignLive] = {}
        self._version = -1
        self._campaigns: dict[str, Campaign] = {}
        self._catalog: Kept[dict[str, Campaign]] = Kept(POLL_SECONDS)
        self._past: Kept[tuple[datetime | None, dict[int, Trend] | None]] = Kept(TREND_SECONDS)
        self._parts: Kept[list[PartStatus]] = Kept(PARTS_SECONDS)
        self._courses: Kept[Course] = Kept(5)
        self._long_courses: Kept[Course] = Kept(60)
        self._networks: Kept[list[tuple[NetworkClass, int, int]]] = Kept(30)

    @property
    def polled(self) -> list[str]:
        """Campaigns that are polled just now."""
        return [id_ for id_, watched in self._watched.items() if watched.polls]

    async def campaigns(self) -> dict[str, Campaign]:
        """By id, a second old at most; while Postgres is away as they were."""
        return await self._catalog.get("", self._read_campaigns)

    async def _read_campaigns(self) -> dict[str, Campaign]:
        async with self.acquire() as connection:
            version = await catalog_version(connection)
            if version != self._version:
                self._campaigns = await load_campaigns(connection)
                self._version = version
        return self._campaigns

    async def campaign(self, campaign_id: str) -> Campaign:
        """Raises UnknownCampaign."""
        campaigns = await self.campaigns()
        if campaign_id not in campaigns:
            raise UnknownCampaign(f"no campaign {campaign_id!r}")
        return campaigns[campaign_id]

    async def look(self, campaign_id: str) -> CampaignLive:
        """Its polling, which begins when somebody uses it. Raises UnknownCampaign."""
        await self.campaign(campaign_id)
        return self._watched.setdefault(campaign_id, CampaignLive(self, campaign_id))

    async def past(self, campaign: Campaign) -> tuple[datetime | None, dict[int, Trend] | None]:
        """(up to when Postgres has everything, trends): some seconds old; (None, None) while
        Postgres is away."""

        async def read() -> tuple[datetime | None, dict[int, Trend] | None]:
            async with self.acquire() as connection:
                complete_until = await read_complete_until(connection)
                if complete_until is None:
                    return None, None
                return complete_until, await read_trends(connection, campaign, complete_until)

        try:
            return await self._past.get(campaign.id, read)
        except POSTGRES_AWAY:
            return None, None

    async def parts(self) -> list[PartStatus]:
        """A few seconds old at most. Never raises for a server that is away."""

        async def read() -> list[PartStatus]:
            return await look_at_parts(self.acquire, self.hot)

        return await self._parts.get("", read)

    async def course(
        self, campaign: Campaign, range_: Range, candidate: int | None = None
    ) -> Course:
        """Some seconds old, a minute where it is long."""

        async def read() -> Course:
            async with self.acquire() as connection:
                return await read_course(connection, campaign, range_, candidate=candidate)

        kept = self._courses
        if range_ in (Range.WEEK, Range.MONTH):
            kept = self._long_courses
        return await kept.get((campaign.id, range_, candidate), read)

    async def networks(
        self, campaign: Campaign, since: datetime
    ) -> list[tuple[NetworkClass, int, int]]:
        """Half a minute old at most."""

        async def read() -> list[tuple[NetworkClass, int, int]]:
            async with self.acquire() as connection:
                return await read_networks(connection, campaign, since)

        return await self._networks.get((campaign.id, since), read)
