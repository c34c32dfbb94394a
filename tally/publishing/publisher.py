"""`dianzan publish`, the process: what was recorded becomes a log, and what was counted goes out.

Its background lives are one table, see `_LIVES`:

    lock            asks whether the installation is still ours
    log             what Postgres got becomes leaves
    checkpoints     logs that have grown are signed
    closings        what has closed gets its `close` entries, and is sealed
    publications    what a crash left, what two persons agreed on, what the hour wants
    outbox          news goes to whom it is for
    housekeeping    lets go of news that was sent long ago
    alerts          looks for what somebody should know
    reconciliation  holds the hot state against Postgres

Where the public may not see the counts yet (`after-close`, `staff`), the hour wants none before the
close: nothing with counts in it leaves the house by itself. The logs' checkpoints go on.

One per installation, by an advisory lock; a second one stands by. It may die between any two lines:
leaves are whole in Postgres or not there, publications go on from the step that they had reached,
news comes again under its id. Where a server is away it waits, each life for itself. A campaign
that is at odds with itself costs the others nothing, but for the log, which is one transaction over
all of them (integrator.py).
"""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from datetime import time as time_of_day
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from redis.exceptions import OutOfMemoryError

from tally.canonical import NotCanonical
from tally.closing import ClosingError, flushed_closings, keep_closings
from tally.delivery.alerts import LOOK_EVERY_SECONDS as ALERTS_EVERY_SECONDS
from tally.delivery.alerts import RECONCILIATION_FACT, Alerts
from tally.delivery.outbox import Addressee, Letter, PostOffice, forget_old
from tally.holds import release_undecided
from tally.lives import Life, OnePerInstallation
from tally.log.integrator import integrate, sign_grown
from tally.log.keys import LogKeys
from tally.log.store import LogConflict
from tally.patience import POSTGRES_AWAY, VALKEY_AWAY, ended_in_time
from tally.publishing.final_seal import AGREED, agreed_sums, asked_by
from tally.publishing.publication import (
    PUBLISHER,
    SQL,
    Asked,
    Kind,
    PublicationError,
    Published,
    publish,
    read_published,
    resume,
    write_folder,
)
from tally.publishing.publication_files import MANIFEST, FolderInUse
from tally.reconcile import NotComparable, reconcile
from tally.tallies import TallyError
from voting.campaign import Campaign, Visibility
from voting.catalog import load_campaigns, rules_from_json
from voting.heartbeat import Facts, Heartbeat, Part, beating, instance_name
from voting.hot_state import HotState
from voting.journal import EntryId, JournalError
from voting.settings import Settings
from voting.shards import check_shards

if TYPE_CHECKING:
    from tally.delivery.couriers import Couriers

INTEGRATE_EVERY_SECONDS = 1.0
CHECKPOINT_EVERY_SECONDS = 10.0
CLOSE_EVERY_SECONDS = 1.0
PUBLISH_EVERY_SECONDS = 2.0
SEND_EVERY_SECONDS = 1.0
HOUSEKEEPING_EVERY_SECONDS = 3_600.0
RECONCILE_EVERY_SECONDS = 60.0
SCHEDULED_EVERY = timedelta(days=1)
"""While a campaign is open, at its `counts_daily_at`."""

_CONNECTIONS_MAX = 6
_STOP_SECONDS = 4.0
"""For a step that is cut short."""

_STORE_AWAY = (*VALKEY_AWAY, OutOfMemoryError)
_SERVERS_AWAY = (*POSTGRES_AWAY, *_STORE_AWAY)
_AT_ODDS = (
    LogConflict,
    TallyError,
    PublicationError,
    FolderInUse,
    ClosingError,
    NotCanonical,
)
"""Waiting does not mend them, people do; the other lives go on meanwhile."""

log = structlog.get_logger()


class PublisherMetrics:
    """What a publisher tells of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leaves = Counter(
            "dianzan_publish_leaves", "Votes that became leaves of a log.", registry=registry
        )
        self.rulings = Counter(
            "dianzan_publish_rulings",
            "Leaves of the logs of what takes votes out and back in.",
            registry=registry,
        )
        self.integrate_seconds = Histogram(
            "dianzan_publish_integrate_seconds",
            "One step of the integrator that had something to do.",
            buckets=(0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15),
            registry=registry,
        )
        self.checkpoints = Counter(
            "dianzan_publish_checkpoints", "Checkpoints signed.", registry=registry
        )
        self.publications = Counter(
            "dianzan_publish_publications", "Publications made.", ["kind"], registry=registry
        )
        self.publish_seconds = Histogram(
            "dianzan_publish_publication_seconds",
            "One publication, from its numbers to its archive.",
            buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
            registry=registry,
        )
        self.letters = Counter(
            "dianzan_publish_letters", "News sent, or not.", ["outcome"], registry=registry
        )
        self.at_odds = Gauge(
            "dianzan_publish_at_odds",
            "Lives that cannot go on until somebody looks at them; the log says why.",
            registry=registry,
        )
        self.off = Gauge(
            "dianzan_publish_sums_off",
            "Sums of the hot state that are not what Postgres and the journal say.",
            registry=registry,
        )
        self._integrated_at = math.nan
        self.reconciliation: str | None = None
        """Campaigns whose sums differ; None = not known yet."""
        Gauge(
            "dianzan_publish_lag_seconds",
            "Time since everything in Postgres was in the logs; NaN on a standby.",
            registry=registry,
        ).set_function(lambda: time.monotonic() - self._integrated_at)

    def integrated(self) -> None:
        self._integrated_at = time.monotonic()

    @property
    def facts(self) -> Facts | None:
        """For its heartbeat; None before the first step, and so on a standby."""
        if math.isnan(self._integrated_at):
            return None
        facts: Facts = {"log_seconds_ago": round(time.monotonic() - self._integrated_at, 1)}
        if self.reconciliation is not None:
            facts[RECONCILIATION_FACT] = self.reconciliation
        return facts


class Publisher(OnePerInstallation):
    """One installation's publisher. `run` ends when `stop` is set."""

    name = "publisher"
    lock = SQL["lock_publisher"]
    unlock = SQL["unlock_publisher"]

    def __init__(
        self,
        settings: Settings,
        keys: LogKeys,
        *,
        postgres_dsn: str,
        valkey_url: str,
        stop: asyncio.Event,
        ready: Callable[[], None],
        metrics: PublisherMetrics,
    ) -> None:
        super().__init__(
            postgres_dsn=postgres_dsn,
            stop=stop,
            ready=ready,
            every_seconds=INTEGRATE_EVERY_SECONDS,
        )
        self._settings = settings
        self._keys = keys
        self._valkey_url = valkey_url
        self._metrics = metrics
        self._folder: Path = settings.data_dir / "publications"
        self._sealed: dict[int, set[tuple[int, EntryId]]] = {}
        """Campaign -> the closings that its last seal goes up to, as far as they are known."""
        self._kept: set[Path] = set()
        """Folders that were there, and what the database says."""
        self._complaints: dict[str, str] = {}
        """What -> why it cannot be done, as it was said last."""
        self._sums_off: dict[str, int] = {}
        """Campaign -> sums that differ, as far as it could be compared."""

    @property
    def lives(self) -> tuple[Life, ...]:
        return _LIVES

    @contextlib.asynccontextmanager
    async def _begun(self, held: asyncpg.Connection) -> AsyncIterator[None]:
        self._held = held
        # Kept open between steps: one a second would be a process of the server's a second.
        async with contextlib.AsyncExitStack() as opened:
            self._pool = await opened.enter_async_context(
                asyncpg.create_pool(
                    self._postgres_dsn,
                    min_size=0,
                    max_size=_CONNECTIONS_MAX,
                    max_inactive_connection_lifetime=60,
                    timeout=10,
                    command_timeout=600,
                )
            )
            # Cut off at the end: nobody waits for a server that may hang.
            opened.callback(self._pool.terminate)
            await check_shards(held, self._settings.shards)
            self._hot = await opened.enter_async_context(
                HotState(self._valkey_url, self._settings.shards)
            )
            couriers = await opened.enter_async_context(_LateCouriers(self._settings))
            self._office = await opened.enter_async_context(
                PostOffice(self._acquire, couriers.deliver)
            )
            self._alerts = Alerts(self._settings, self._acquire, self._hot)
            yield

    def _acquire(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        connection: AbstractAsyncContextManager[asyncpg.Connection] = self._pool.acquire()
        return connection

    # Lives.

    async def keep_lock(self) -> None:
        """It is as alive as its connection; where that is lost, somebody else may have it."""
        await self._held.fetchval("SELECT 1")

    async def integrate(self) -> None:
        async with self._complaining("log"), self._acquire() as connection:
            while True:
                began = time.monotonic()
                step = await integrate(connection, self._keys)
                if step.votes or step.rulings:
                    self._metrics.integrate_seconds.observe(time.monotonic() - began)
                    self._metrics.leaves.inc(step.votes)
                    self._metrics.rulings.inc(step.rulings)
                if not step.more:
                    break
            self._metrics.integrated()

    async def sign(self) -> None:
        async with self._complaining("checkpoints"), self._acquire() as connection:
            signed = await sign_grown(connection, self._keys, guard=self._complaining)
            self._metrics.checkpoints.inc(signed)

    async def close(self) -> None:
        """What has closed gets its entries; once the flusher has passed them, it is sealed."""
        async with self._complaining("closings"), self._acquire() as connection:
            kept = await keep_closings(connection, self._hot, guard=self._complaining)
            for campaign, shard in kept.closed:
                log.info("campaign-closed", campaign=campaign, shard=shard)
            for campaign, shard in kept.reopened:
                log.info("campaign-reopened", campaign=campaign, shard=shard)
            for row in await connection.fetch(SQL["list_for_publishing"]):
                if row["closes_at"] <= row["now"]:
                    await self._seal(connection, row)

    async def _seal(self, connection: asyncpg.Connection, row: asyncpg.Record) -> None:
        closings = await flushed_closings(connection, row["number"])
        if closings is None:
            return
        entries = {(shard, closing.entry) for shard, closing in closings.items()}
        if self._sealed.get(row["number"]) == entries:
            return
        seals = await connection.fetch(SQL["list_seals"], row["number"])
        if any(_sealed(seal) == entries for seal in seals):
            self._sealed[row["number"]] = entries
            return
        # What nobody decided by now counts: it was held by the rules alone.
        async with self._complaining(f"seal of {row['id']}"):
            for decided in await release_undecided(
                connection, row["number"], row["now"], before_seal=True
            ):
                log.info("released-before-seal", decision=decided.number, votes=decided.moved)
            await self._publish(connection, row["number"], Asked(Kind.CLOSE, PUBLISHER))

    async def publish(self) -> None:
        async with self._acquire() as connection:
            async with self._complaining("unfinished publications"):
                for published in await resume(connection, self._keys, guard=self._complaining):
                    self._published(published)
            for row in await connection.fetch(SQL["list_approved_finals"], AGREED):
                await self._publish_final(connection, row)
            for row in await connection.fetch(SQL["list_for_publishing"]):
                if scheduled_is_due(row):
                    async with self._complaining(f"scheduled publication of {row['id']}"):
                        asked = Asked(Kind.SCHEDULED, PUBLISHER)
                        await self._publish(connection, row["number"], asked)
            await self._keep_folders(connection)

    async def _publish_final(self, connection: asyncpg.Connection, row: asyncpg.Record) -> None:
        proposal = row["number"]

        async def settle(within: asyncpg.Connection, became: str) -> None:
            await within.execute(SQL["answer_final"], proposal, AGREED, became)
            log.info("final-seal", proposal=proposal, became=became)

        async with self._complaining(f"proposal {proposal}"):
            try:
                await self._publish(
                    connection,
                    row["campaign"],
                    asked_by(row["proposed_by"], row["approved_by"]),
                    agreed=agreed_sums(json.loads(row["content"])),
                    settle=settle,
                )
            except PublicationError as why:
                # It was opened again, or became a rehearsal: not to be tried for ever.
                await settle(connection, f"not made: {why}")

    async def _publish(
        self, connection: asyncpg.Connection, campaign: int, asked: Asked, **agreed: Any
    ) -> None:
        began = time.monotonic()
        published = await publish(connection, self._keys, campaign, asked, **agreed)
        if published is not None:
            self._metrics.publish_seconds.observe(time.monotonic() - began)
            self._published(published)

    def _published(self, published: Published) -> None:
        content = published.content
        self._metrics.publications.labels(content.kind).inc()
        log.info(
            "published",
            campaign=content.campaign,
            number=content.number,
            kind=content.kind,
            votes=content.tally["logs"]["votes"]["size"],
            manifest=published.made.manifest_hash.hex(),
        )

    async def _keep_folders(self, connection: asyncpg.Connection) -> None:
        """Each finished publication has its folder; what is missing is written again."""
        # Counts that nobody outside may see yet.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for row in await connection.fetch(SQL["list_finished"]):
            folder = self._folder / row["campaign_id"] / str(row["number"])
            is_there = folder.is_dir()
            if is_there and folder in self._kept:
                continue
            async with self._complaining(str(folder)):
                if is_there:
                    await asyncio.to_thread(_check_folder, folder, bytes(row["manifest_hash"]))
                    self._kept.add(folder)
                    continue
                published = await read_published(connection, row["campaign"], row["number"])
                if published is not None:
                    await write_folder(connection, self._keys, published, folder)

    async def send(self) -> None:
        sent = await self._office.send_due()
        for outcome in ("sent", "failed", "given_up"):
            self._metrics.letters.labels(outcome).inc(getattr(sent, outcome))

    async def tidy(self) -> None:
        async with self._acquire() as connection:
            await forget_old(connection)

    async def look(self) -> None:
        await self._alerts.look()

    async def reconcile(self) -> None:
        off = {}
        async with self._acquire() as connection:
            for id_, campaign in (await load_campaigns(connection)).items():
                try:
                    off[id_] = await self._count_off(connection, campaign)
                except NotComparable as why:
                    log.info("not-reconciled", campaign=id_, why=str(why))
                    if id_ in self._sums_off:
                        off[id_] = self._sums_off[id_]
                except JournalError as why:
                    # It does not pass: whoever reads the journal next meets it too.
                    log.error("journal-unreadable", campaign=id_, why=str(why))
                    off[id_] = 1
        self._sums_off = off
        self._metrics.off.set(sum(off.values()))
        if off:
            self._metrics.reconciliation = ", ".join(sorted(id_ for id_, n in off.items() if n))

    async def _count_off(self, connection: asyncpg.Connection, campaign: Campaign) -> int:
        """How many of a campaign's sums differ."""
        found = await reconcile(connection, self._hot, campaign)
        if not found.holds:
            # Once more: only what is wrong twice is wrong.
            found = await reconcile(connection, self._hot, campaign)
        if not found.holds:
            first = found.off[0]
            log.error(
                "sums-off",
                campaign=campaign.id,
                sums=len(found.off),
                first=f"candidate {first.candidate} {first.kind}: {first.hot} in the hot "
                f"state, {first.expected} expected",
            )
        return len(found.off)

    @contextlib.asynccontextmanager
    async def _complaining(self, what: str) -> AsyncIterator[None]:
        """Something that may be at odds: said once, tried again at the next step."""
        try:
            yield
        except _AT_ODDS as why:
            said = f"{type(why).__name__}: {why}"
            if self._complaints.get(what) != said:
                log.error("at-odds", what=what, why=said)
            self._complaints[what] = said
        else:
            if self._complaints.pop(what, None) is not None:
                log.info("at-odds-no-more", what=what)
        self._metrics.at_odds.set(len(self._complaints))


class _LateCouriers:
    """Couriers from the first letter on: what speaks HTTP is 7 MB that an installation without
    destinations need not hold."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = contextlib.AsyncExitStack()
        self._couriers: Couriers | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._opened.aclose()

    async def deliver(self, letter: Letter, to: Addressee) -> None:
        async with self._opening:
            if self._couriers is None:
                from tally.delivery.couriers import Couriers

                couriers = Couriers(self._settings)
                self._couriers = await self._opened.enter_async_context(couriers)
        await self._couriers.deliver(letter, to)


_LIVES = (
    Life("lock", Publisher.keep_lock, INTEGRATE_EVERY_SECONDS, ()),
    Life("log", Publisher.integrate, INTEGRATE_EVERY_SECONDS, POSTGRES_AWAY),
    Life("checkpoints", Publisher.sign, CHECKPOINT_EVERY_SECONDS, POSTGRES_AWAY),
    Life("closings", Publisher.close, CLOSE_EVERY_SECONDS, _SERVERS_AWAY),
    Life("publications", Publisher.publish, PUBLISH_EVERY_SECONDS, POSTGRES_AWAY),
    Life("outbox", Publisher.send, SEND_EVERY_SECONDS, POSTGRES_AWAY),
    Life("housekeeping", Publisher.tidy, HOUSEKEEPING_EVERY_SECONDS, POSTGRES_AWAY),
    Life("alerts", Publisher.look, ALERTS_EVERY_SECONDS, _SERVERS_AWAY),
    Life("reconciliation", Publisher.reconcile, RECONCILE_EVERY_SECONDS, _SERVERS_AWAY),
)


def _check_folder(folder: Path, manifest_hash: bytes) -> None:
    """Raises PublicationError where it holds another publication than the database has under this
    number: one of the two was put back to an older copy, and two things were signed."""
    manifest = folder / MANIFEST
    if not manifest.is_file() or sha256(manifest.read_bytes()).digest() != manifest_hash:
        raise PublicationError(
            f"{folder} is not the publication that the database has under this number: was the "
            "database put back to an older copy? Keep both and ask what was handed out"
        )


def last_due(at: time_of_day, zone: ZoneInfo, now: datetime) -> datetime:
    """The last moment up to now at which the clock wants a publication."""
    local = now.astimezone(zone)
    due = datetime.combine(local.date(), at, zone)
    if due > local:
        due = datetime.combine(local.date() - SCHEDULED_EVERY, at, zone)
    return due


def scheduled_is_due(campaign: Any) -> bool:
    """Whether an open campaign (a row of list_for_publishing) waits for its publication of the
    day. One that was missed is made up for, once; none for a time before it was imported, and none
    at all where its counts are not for the public before the close."""
    now = campaign["now"]
    if not campaign["opens_at"] <= now < campaign["closes_at"]:
        return False
    rules = rules_from_json(campaign["rules"])
    if rules.counts in (Visibility.AFTER_CLOSE, Visibility.STAFF):
        return False
    due = last_due(rules.counts_daily_at, ZoneInfo(campaign["time_zone"]), now)
    since = max(campaign["opens_at"], campaign["imported_at"])
    made = campaign["scheduled_at"]
    return bool(since <= due and (made is None or made < due))


def _sealed(seal: asyncpg.Record) -> set[tuple[int, EntryId]]:
    return {(each["shard"], EntryId.parse(each["entry"])) for each in json.loads(seal["closings"])}


async def run_publisher(
    settings: Settings,
    stop: asyncio.Event,
    ready: Callable[[], None],
    registry: CollectorRegistry | None = None,
) -> None:
    """Publish until `stop` is set, and return. The key is made where there is none.

    `ready` is called once, when it is at work or stands by. Both addresses must be set. Raises
    LogKeysError, and asyncpg's errors where the database is not ours or not migrated; waits out
    everything else, and says what people have to look at.
    """
    if settings.postgres_dsn is None or settings.valkey_url is None:
        raise ValueError("the publisher needs postgres_dsn and valkey_url")
    dsn = settings.postgres_dsn.get_secret_value()
    metrics = PublisherMetrics(registry or CollectorRegistry())
    publisher = Publisher(
        settings,
        LogKeys.load_or_make(settings.log_keys_path, settings.last_signed_path),
        postgres_dsn=dsn,
        valkey_url=settings.valkey_url.get_secret_value(),
        stop=stop,
        ready=ready,
        metrics=metrics,
    )
    async with beating(dsn, Heartbeat(Part.PUBLISH, instance_name(), lambda: metrics.facts)):
        if not await ended_in_time(publisher.run(), stop, _STOP_SECONDS + 1):
            log.warning("publisher-stopped-early")
