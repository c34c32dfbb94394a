"""`dianzan watch`: looks at the votes while they come and after, and acts on what it finds.

Its background lives are one table, see `_LIVES`:

    adjudications  what was decided in Postgres reaches the hot state
    tail           the journal's votes -> suspicious cells and learned capacities, which the ballot
                   box reads
    near-line      Postgres' votes -> the detectors -> flags, and holds where two kinds of evidence
                   agree; once a day over all days
    releases       what nobody decided in time goes free
    fingerprints   which TLS fingerprints each user agent has, for the edges

One per installation, by an advisory lock; a second one stands by. It may die between any two
lines: decisions are whole in Postgres or not there, the hot state is sent what it lacks, and all
else is read again. Where a server is away it waits, each life for itself.
"""

import asyncio
import contextlib
import functools
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from redis.exceptions import OutOfMemoryError

from tally import fingerprints
from tally.adjudications import AdjudicationError, HotTallies, replay
from tally.day_files import kept_days
from tally.holds import WATCH, Action, Decided, OneFlag, decide, release_undecided
from tally.lives import Life, OnePerInstallation
from tally.patience import POSTGRES_AWAY, VALKEY_AWAY, ended_in_time
from tally.store import SQL
from tally.tail import Cells, KnownCampaign, Tail
from voting.campaign import VotingWindow, microseconds
from voting.catalog import load_campaigns
from voting.heartbeat import Facts, Heartbeat, Part, beating, instance_name
from voting.hot_state import HotState
from voting.settings import Settings
from voting.shards import check_shards

if TYPE_CHECKING:
    from antifraud.detectors import Baselines
    from tally.near_line import Desk

LOOK_EVERY_SECONDS = 5.0
"""At the journal: a cell is marked as soon as it has votes enough to tell."""
REPLAY_EVERY_SECONDS = 1.0
RELEASE_EVERY_SECONDS = 300.0
FINGERPRINTS_EVERY_SECONDS = 900.0
BASELINES_FROM_VOTES = 5_000
"""A day with fewer teaches nothing that could be relied on."""
_CAMPAIGNS_HOLD_SECONDS = 60.0
_STOP_SECONDS = 4.0
"""For a pass that is cut short."""
_HOLD_REASON = "two independent kinds of evidence"

_STORE_AWAY = (*VALKEY_AWAY, OutOfMemoryError)
_SERVERS_AWAY = (*POSTGRES_AWAY, *_STORE_AWAY)

log = structlog.get_logger()

_Found = TypeVar("_Found")


class WatchMetrics:
    """What a watch tells of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.votes = Counter(
            "dianzan_watch_votes", "Votes read from the journal.", registry=registry
        )
        self.cells = Gauge(
            "dianzan_watch_cells", "Cells marked as suspicious now.", registry=registry
        )
        self.capacities = Gauge(
            "dianzan_watch_capacities",
            "Networks with a learned capacity above their class's.",
            registry=registry,
        )
        self.look_seconds = Histogram(
            "dianzan_watch_look_seconds",
            "One look at the journal and at the cells.",
            buckets=(0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15),
            registry=registry,
        )
        self.pass_seconds = Histogram(
            "dianzan_watch_pass_seconds",
            "One near-line pass: copying, detecting, flagging, holding.",
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 1200),
            registry=registry,
        )
        self.pass_votes = Gauge(
            "dianzan_watch_pass_votes", "Votes that the last pass looked at.", registry=registry
        )
        self.failed_passes = Counter(
            "dianzan_watch_failed_passes", "Near-line passes that failed.", registry=registry
        )
        self.flags = Counter("dianzan_watch_flags", "Flags written.", registry=registry)
        self.held = Counter(
            "dianzan_watch_held_votes", "Votes that were held automatically.", registry=registry
        )
        self.released = Counter(
            "dianzan_watch_released_votes",
            "Votes released because nobody decided.",
            registry=registry,
        )
        self.adjudications = Counter(
            "dianzan_watch_adjudications",
            "Decisions' effects brought to the hot state.",
            registry=registry,
        )
        self._looked_at = math.nan
        Gauge(
            "dianzan_watch_lag_seconds",
            "Time since the last look at the journal; NaN on a standby.",
            registry=registry,
        ).set_function(lambda: time.monotonic() - self._looked_at)

    @property
    def facts(self) -> Facts | None:
        """For its heartbeat; None before the first look, and so on a standby."""
        if math.isnan(self._looked_at):
            return None
        return {"looked_seconds_ago": round(time.monotonic() - self._looked_at, 1)}

    def looked(self) -> None:
        self._looked_at = time.monotonic()


class Watch(OnePerInstallation):
    """One installation's watch. `run` ends when `stop` is set."""

    name = "watch"
    lock = SQL["lock_watch"]
    unlock = SQL["unlock_watch"]

    def __init__(
        self,
        *,
        postgres_dsn: str,
        valkey_url: str,
        folder: Path,
        stop: asyncio.Event,
        ready: Callable[[], None],
        metrics: WatchMetrics,
        every_seconds: float = 300,
        shards: int,
    ) -> None:
        """`folder`: where past days' votes are kept (data_dir/history)."""
        super().__init__(
            postgres_dsn=postgres_dsn, stop=stop, ready=ready, every_seconds=every_seconds
        )
        self._valkey_url = valkey_url
        self._folder = folder
        self._metrics = metrics
        self._shards = shards
        self._campaigns = _Campaigns(postgres_dsn)
        self._desk: Desk | None = None
        self._seen: list[tuple[int, int, int]] | None = None
        """Watermarks (shard, epoch, seq) that the last pass has seen."""
        self._at_odds: dict[int, str] = {}
        """By shard."""
        self._baselines: dict[int, Baselines | None] = {}
        self._cells: dict[int, Any] = {}

    @property
    def lives(self) -> tuple[Life, ...]:
        return _LIVES

    @contextlib.asynccontextmanager
    async def _begun(self, held: asyncpg.Connection) -> AsyncIterator[None]:
        await check_shards(held, self._shards)
        hot = HotState(self._valkey_url, self._shards)
        self._held = held
        self._hot = hot
        self._tail = Tail(hot, self._campaigns, self._make_cells, self._in_thread)
        self._seen = None
        try:
            yield
        finally:
            await hot.aclose()
            await self._clear_desk()

    # Lives.

    async def replay(self) -> None:
        """Also tells us, each second, that the lock is still ours: it is as alive as the
        connection. Where that is lost, somebody else may have it."""
        away: Exception | None = None
        for shard in self._hot.shards:
            try:
                applied = await replay(self._held, HotTallies(self._hot.of(shard), shard), shard)
            except AdjudicationError as why:
                if self._at_odds.get(shard) != str(why):
                    log.error("adjudications-at-odds", why=str(why))
                self._at_odds[shard] = str(why)
                continue
            except VALKEY_AWAY as why:
                away = why  # the others get theirs
                continue
            self._at_odds.pop(shard, None)
            if applied:
                self._metrics.adjudications.inc(applied)
                log.info("adjudications-applied", shard=shard, adjudications=applied)
        if away is not None:
            raise away

    async def follow_journal(self) -> None:
        began = time.monotonic()
        try:
            looked = await self._tail.look()
        except VALKEY_AWAY:
            self._tail.forget_written()
            raise
        self._metrics.look_seconds.observe(time.monotonic() - began)
        self._metrics.votes.inc(looked.votes)
        self._metrics.cells.set(looked.cells)
        self._metrics.capacities.set(looked.capacities)
        self._metrics.looked()

    async def release(self) -> None:
        now = datetime.now(UTC)
        async with self._connected() as connection:
            for row in await connection.fetch(SQL["list_campaigns"]):
                for decided in await release_undecided(connection, row["number"], now):
                    self._metrics.released.inc(decided.moved)
                    self._log_decision(decided)

    async def learn_fingerprints(self) -> None:
        async with self._connected() as connection:
            known = await fingerprints.learn(connection)
        await fingerprints.publish(self._hot, known)

    async def pass_near_line(self) -> None:
        """Copy what came, look at it, and act; then the day's work, where a day is over."""
        async with self._connected() as connection:
            marks = await connection.fetch(SQL["read_watermarks"])
            seen = [(row["shard"], row["epoch"], row["seq"]) for row in marks if row["seq"]]
            over = await _days_over(connection, set(kept_days(self._folder)))
            if not over and seen == (self._seen or []):
                # Without a new vote there is nothing to see that was not seen.
                return
            try:
                await self._pass(connection, over)
                self._seen = seen
            except _SERVERS_AWAY:
                await self._clear_desk()
                raise
            except Exception:
                # A defect of a detector, a full disk: the other lives go on, and the next pass may
                # do better. With a new desk: a copy that was cut short would come twice.
                await self._clear_desk()
                self._metrics.failed_passes.inc()
                log.exception("near-line-pass-failed")

    async def _pass(self, connection: asyncpg.Connection, over: list[date]) -> None:
        began = time.monotonic()
        if self._desk is None:
            self._desk = await self._in_thread(_make_desk, self._folder)
        copied = await self._desk.copy_recent(connection, self._in_thread)
        looked_at = 0
        for campaign in await self._in_thread(self._desk.campaigns):
            looked_at += await self._detect(connection, campaign, None)
        self._metrics.pass_votes.set(looked_at)
        self._metrics.pass_seconds.observe(time.monotonic() - began)
        log.info(
            "near-line-pass",
            copied=copied,
            votes=looked_at,
            seconds=round(time.monotonic() - began, 2),
        )
        if over:
            await self._close_days(connection, over)

    async def _clear_desk(self) -> None:
        if self._desk is not None:
            desk, self._desk = self._desk, None
            await asyncio.to_thread(desk.close)

    async def _close_days(self, connection: asyncpg.Connection, over: list[date]) -> None:
        """For days that are over: their files, what the last one teaches, a look over all."""
        assert self._desk is not None, "a pass opens it"
        with_votes = []
        for day in over:
            votes = await self._desk.copy_day(connection, self._in_thread, day)
            log.info("day-kept", day=day.isoformat(), votes=votes)
            if votes:
                with_votes.append(day)
        newest, days = with_votes[-1:], kept_days(self._folder)
        if not newest:
            return
        for campaign in await self._in_thread(self._desk.campaigns, newest):
            await self._detect(connection, campaign, newest, learns=True)
        if len(days) > 1:
            for campaign in await self._in_thread(self._desk.campaigns, days):
                await self._detect(connection, campaign, days)

    async def _detect(
        self,
        connection: asyncpg.Connection,
        campaign: int,
        days: list[date] | None,
        *,
        learns: bool = False,
    ) -> int:
        """One pass over one campaign's votes; how many they are."""
        assert self._desk is not None, "a pass opens it"
        from tally.cases import add_flags

        baselines = await self._known_baselines(connection, campaign)
        found, learned, votes = await self._in_thread(
            functools.partial(self._desk.detect, campaign, baselines, days, learns=learns)
        )
        for added in await add_flags(connection, campaign, found):
            self._metrics.flags.inc()
            log.info("flagged", flag=added.number, votes=added.votes, score=added.score)
        for row in await connection.fetch(SQL["list_flags_to_hold"], campaign, WATCH):
            decided = await decide(
                connection, OneFlag(row["number"]), Action.HOLD, by=WATCH, reason=_HOLD_REASON
            )
            if decided is not None:
                self._metrics.held.inc(decided.moved)
                self._log_decision(decided, flag=row["number"])
        if learns and learned.votes >= BASELINES_FROM_VOTES and days:
            await connection.execute(
                SQL["keep_baselines"], campaign, days[-1], json.dumps(learned.as_dict())
            )
            self._baselines[campaign] = learned
            if campaign in self._cells:
                self._cells[campaign].baselines = learned
        return votes

    # What lives share.

    async def _make_cells(self, campaign: int) -> Cells:
        # Late: this brings numpy and DuckDB, 60 MB that an idle installation need not hold.
        from antifraud.detectors.live import LiveCells

        async with self._connected() as connection:
            baselines = await self._known_baselines(connection, campaign)
        self._cells[campaign] = cells = LiveCells(baselines)
        return cells

    async def _known_baselines(
        self, connection: asyncpg.Connection, campaign: int
    ) -> "Baselines | None":
        """Yesterday's, or of the last day that taught any; None on the first day: detectors then
        learn from the votes at hand."""
        if campaign not in self._baselines:
            from antifraud.detectors import Baselines

            learned = await connection.fetchval(SQL["read_baselines"], campaign)
            try:
                known = Baselines.from_dict(json.loads(learned)) if learned else None
            except (KeyError, ValueError):
                log.warning("baselines-unreadable", campaign=campaign)  # another version's
                known = None
            self._baselines[campaign] = known
        return self._baselines[campaign]

    async def _in_thread(self, do: Callable[..., _Found], *arguments: Any) -> _Found:
        """Run it in a thread, to its end: a stop cuts the query short that runs in it, for nobody
        else may use the desk before that."""
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(None, functools.partial(do, *arguments))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            until = loop.time() + _STOP_SECONDS
            while not running.done() and loop.time() < until:
                if self._desk is not None:
                    self._desk.interrupt()
                # Again and again: between two queries there is none to cut short.
                await asyncio.wait({running}, timeout=0.1)
            if running.done() and not running.cancelled():
                running.exception()  # nobody else asks
            raise

    def _log_decision(self, decided: Decided, *, flag: int | None = None) -> None:
        log.info(
            "decided",
            decision=decided.number,
            action=decided.action.value,
            flag=flag,
            votes=decided.votes,
            moved=decided.moved,
        )


_LIVES = (
    Life("adjudications", Watch.replay, REPLAY_EVERY_SECONDS, _STORE_AWAY),
    Life("tail", Watch.follow_journal, LOOK_EVERY_SECONDS, _SERVERS_AWAY),
    Life("near-line", Watch.pass_near_line, None, _SERVERS_AWAY),
    Life("releases", Watch.release, RELEASE_EVERY_SECONDS, _SERVERS_AWAY),
    Life("fingerprints", Watch.learn_fingerprints, FINGERPRINTS_EVERY_SECONDS, _SERVERS_AWAY),
)


class _Campaigns:
    """Campaigns by number, read anew each minute, and when there is one that we do not know."""

    def __init__(self, postgres_dsn: str) -> None:
        self._postgres_dsn = postgres_dsn
        self._known: dict[int, KnownCampaign] = {}
        self._read_at = -math.inf

    async def known(self, number: int) -> KnownCampaign | None:
        age = time.monotonic() - self._read_at
        if age > _CAMPAIGNS_HOLD_SECONDS or (number not in self._known and age > 1):
            connection = await asyncpg.connect(self._postgres_dsn, timeout=10, command_timeout=60)
            try:
                self._known = {
                    campaign.number: KnownCampaign(campaign.id, campaign.limits.per_network)
                    for campaign in (await load_campaigns(connection)).values()
                }
            finally:
                connection.terminate()
            self._read_at = time.monotonic()
        return self._known.get(number)


async def _days_over(connection: asyncpg.Connection, kept: set[date]) -> list[date]:
    """Campaign days with votes that are over in every campaign's zone, and whole in the database,
    without those that are kept already; oldest first."""
    complete_until = await connection.fetchval(SQL["read_as_of"])
    if complete_until is None:
        return []
    windows: list[VotingWindow] = [
        campaign.window for campaign in (await load_campaigns(connection)).values()
    ]
    names = [row["name"] for row in await connection.fetch(SQL["list_partitions"])]
    days = {datetime.strptime(name, "votes_%Y%m%d").replace(tzinfo=UTC).date() for name in names}
    until_us = microseconds(complete_until)
    return sorted(
        day
        for day in days - kept
        if all(window.day_on(day).ends_at_us <= until_us for window in windows)
    )


def _make_desk(folder: Path) -> "Desk":
    from tally.near_line import Desk

    return Desk(folder)


async def watch(
    settings: Settings,
    stop: asyncio.Event,
    ready: Callable[[], None],
    registry: CollectorRegistry | None = None,
) -> None:
    """Watch until `stop` is set, and return.

    `ready` is called once, when it is at work or stands by. Both addresses must be set. Raises
    JournalError for a journal that it cannot read, and asyncpg's errors where the database is not
    ours or not migrated; waits out everything else.
    """
    if settings.postgres_dsn is None or settings.valkey_url is None:
        raise ValueError("watch needs postgres_dsn and valkey_url")
    dsn = settings.postgres_dsn.get_secret_value()
    metrics = WatchMetrics(registry or CollectorRegistry())
    watch_ = Watch(
        postgres_dsn=dsn,
        valkey_url=settings.valkey_url.get_secret_value(),
        folder=settings.data_dir / "history",
        stop=stop,
        ready=ready,
        metrics=metrics,
        every_seconds=settings.watch_every_seconds,
        shards=settings.shards,
    )
    async with beating(dsn, Heartbeat(Part.WATCH, instance_name(), lambda: metrics.facts)):
        if not await ended_in_time(watch_.run(), stop, _STOP_SECONDS + 1):
            log.warning("watch-stopped-early")
