"""The catalog that an edge serves: held in memory, followed each second.

Owner: one per edge process, with its own pool of Postgres connections. While Postgres is away the
edge goes on with what it holds.
"""

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg
import structlog

from voting.ballot_box import BallotBoxes
from voting.campaign import Campaign, Picture, Video, moment_at
from voting.catalog import PhotoForm, catalog_version, load_campaigns, load_photo
from voting.heartbeat import Heartbeat
from voting.pseudonyms import Pseudonyms
from voting.shards import TooFewShards, check_shards

log = structlog.get_logger()

_FOLLOW_EVERY_SECONDS = 0.8
"""An import must be in force within 2 s on every worker."""
_PHOTOS_HELD_BYTES_MAX = 48 * 2**20
_ASK_TIMEOUT_SECONDS = 5.0

DATABASE_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended an idle session
)
"""What a database that is away, restarts or is overloaded shows itself as."""


_CONFIGURED_WRONG = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedTableError,
)


class CatalogError(Exception):
    """Waiting does not mend it: the password, the database's name, that it is not migrated, or
    that votes are on shards that this process does not know."""


class LiveCatalog:
    """Campaigns by id, kept up to date by `follow()`; tells the ballot boxes and the pseudonyms
    what they need of the database."""

    def __init__(self, dsn: str, pseudonyms: Pseudonyms, boxes: BallotBoxes) -> None:
        self._dsn = dsn
        self._pseudonyms = pseudonyms
        self._boxes = boxes
        self._pool: asyncpg.Pool | None = None
        self._version = -1
        self._photos: OrderedDict[tuple[str, PhotoForm], bytes] = OrderedDict()
        self._photos_bytes = 0
        self._fetching: dict[tuple[str, PhotoForm], asyncio.Task[bytes | None]] = {}
        self._days: set[date] = set()
        self.campaigns: dict[str, Campaign] = {}
        self.pictures: dict[str, Picture] = {}
        """Of all campaigns, by id: no others are shown, however many ids somebody makes up."""
        self.videos: dict[str, Video] = {}
        """The same."""
        self.changed = asyncio.Event()
        """Set at each change; whoever acts on it clears it."""
        self.heartbeat: Heartbeat | None = None
        """Goes along with each look at the database."""

    @property
    def unknown(self) -> str:
        """The problem where a campaign is not found: that there is none, or that nobody knows."""
        return "unknown-campaign" if self.read else "store-down"

    @property
    def read(self) -> bool:
        """Whether the database was read whole; it may have no campaign."""
        return bool(self._days)

    @property
    def loaded(self) -> bool:
        """Whether all is there that a vote needs of the database."""
        return bool(self.campaigns) and self.read

    async def open(self) -> None:
        """Make ready; connects when the first question is asked."""
        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=3, command_timeout=_ASK_TIMEOUT_SECONDS, timeout=5
        )

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def follow(self) -> None:
        """Load now, then what changed, each second, until cancelled."""
        away = False
        while True:
            try:
                await self._refresh()
            except TooFewShards as why:
                raise CatalogError(str(why)) from None
            except _CONFIGURED_WRONG as why:
                raise CatalogError(f"the database refuses the edge: {why}") from None
            except DATABASE_AWAY as why:
                if not away:
                    log.warning("catalog-away", why=str(why) or type(why).__name__)
                away = True
            else:
                if away:
                    log.info("catalog-back")
                away = False
            await asyncio.sleep(_FOLLOW_EVERY_SECONDS)

    async def photo(self, photo_id: str, form: PhotoForm) -> bytes | None:
        """A form of one of `pictures`, out of memory or Postgres; the least recently shown are let
        go. Raises DATABASE_AWAY."""
        key = (photo_id, form)
        if key in self._photos:
            self._photos.move_to_end(key)
            return self._photos[key]
        if photo_id not in self.pictures:
            return None
        # A crowd that comes for the same picture costs one query.
        fetching = self._fetching.get(key)
        if fetching is None:
            fetching = self._fetching[key] = asyncio.create_task(self._fetch_photo(photo_id, form))
            fetching.add_done_callback(lambda _: self._fetching.pop(key, None))
        return await asyncio.shield(fetching)

    async def _fetch_photo(self, photo_id: str, form: PhotoForm) -> bytes | None:
        async with self._connection() as connection:
            content = await load_photo(connection, photo_id, form)
        if content is not None:
            self._photos[photo_id, form] = content
            self._photos_bytes += len(content)
            while self._photos_bytes > _PHOTOS_HELD_BYTES_MAX:
                _, old = self._photos.popitem(last=False)
                self._photos_bytes -= len(old)
        return content

    async def published_until(
        self, campaign: Campaign, until_us: int
    ) -> tuple[dict[int, int], tuple[tuple[int, int], ...]] | None:
        """(counts by candidate number, each shard's last (epoch, seq)) of all votes before a whole
        minute, in the states that they were in then; None while the database does not have all of
        them. The same whenever it is asked: what was decided since is taken back. Raises
        DATABASE_AWAY."""
        until = moment_at(until_us)
        day = campaign.window.day_at(until_us - 1).date
        async with self._connection() as connection, connection.transaction():
            # No decision is under way from here on ("dzdc", tally/queries.sql): one that was taken
            # before `until` is there to be seen.
            await connection.execute("SELECT pg_advisory_xact_lock_shared(1685742691, 0)")
            complete_until = await connection.fetchval(
                "SELECT least(min(at), clock_timestamp()) FROM watermarks"
                " WHERE shard < $1 HAVING count(*) = $1",
                len(self._boxes),
            )
            if complete_until is None or complete_until < until:
                return None
            rows = await connection.fetch(
                "SELECT candidate, sum(counted)::bigint FROM minutes"
                " WHERE campaign = $1 AND minute < $2 GROUP BY candidate",
                campaign.number,
                until,
            )
            since = await connection.fetch(
                "SELECT v.candidate, sum((l.from_state = 0)::int - (l.to_state = 0)::int)"
                " FROM decisions AS d JOIN decision_votes AS l ON l.decision = d.number"
                " CROSS JOIN unnest(l.seqs) AS listed (seq)"
                " JOIN votes AS v"
                " ON (v.day, v.shard, v.epoch, v.seq) = (l.day, l.shard, l.epoch, listed.seq)"
                " WHERE d.campaign = $1 AND d.at >= $2 AND l.from_state <> l.to_state"
                " AND v.at < $2 GROUP BY v.candidate",
                campaign.number,
                until,
            )
            reached = await connection.fetch(
                # Each by the unique index, from its end: the day is not read.
                "SELECT coalesce(epoch, 0), coalesce(seq, 0)"
                " FROM generate_series(0, $4 - 1) AS shards (shard) LEFT JOIN LATERAL ("
                "  SELECT epoch, seq FROM votes WHERE day = $1 AND votes.shard = shards.shard"
                "  AND campaign = $2 AND at < $3 ORDER BY epoch DESC, seq DESC LIMIT 1"
                " ) AS last ON true ORDER BY shards.shard",
                day,
                campaign.number,
                until,
                len(self._boxes),
            )
        counts = dict(rows)
        for candidate, moved_back in since:
            counts[candidate] = counts.get(candidate, 0) + moved_back
        return counts, tuple((epoch, seq) for epoch, seq in reached)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        assert self._pool is not None, "open() comes first"
        async with self._pool.acquire(timeout=_ASK_TIMEOUT_SECONDS) as connection:
            yield connection

    async def _refresh(self) -> None:
        async with self._connection() as connection:
            await check_shards(connection, len(self._boxes))
            # The version first: what changes after it is loaded next time.
            version = await catalog_version(connection)
            if version != self._version:
                campaigns = await load_campaigns(connection)
                await self._keep_pseudonym_keys(connection)
                # Those that did not change stay the same objects: plans made from them hold.
                self.campaigns = {
                    key: held if (held := self.campaigns.get(key)) == campaign else campaign
                    for key, campaign in campaigns.items()
                }
                self.pictures = {
                    key: one
                    for campaign in campaigns.values()
                    for key, one in campaign.pictures.items()
                }
                self.videos = {
                    key: one
                    for campaign in campaigns.values()
                    for key, one in campaign.videos.items()
                }
                self._version = version
                self.changed.set()
                log.info("catalog-loaded", version=version, campaigns=len(campaigns))
            for shard, epoch in await connection.fetch("SELECT shard, epoch FROM watermarks"):
                # Highest epoch that Postgres has rows of.
                if (box := self._boxes.of(shard)) is not None:
                    box.epoch_floor = epoch
            await self._keep_pseudonym_keys(connection)
            # Last, for nothing of the catalog may wait for it.
            if self.heartbeat is not None:
                await self.heartbeat.beat(connection)

    async def _keep_pseudonym_keys(self, connection: asyncpg.Connection) -> None:
        """Keys for yesterday up to three days ahead, so that Postgres may be away over midnight.
        Whichever edge comes first makes them; all read the same."""
        today = (await connection.fetchval("SELECT now()")).date()
        days = {today + timedelta(days=ahead) for ahead in range(-1, 4)}
        if days == self._days:
            return
        await connection.executemany(
            "INSERT INTO pseudonym_keys (day, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            [(day, secrets.token_bytes(32)) for day in sorted(days)],
        )
        rows = await connection.fetch(
            "SELECT day, key FROM pseudonym_keys WHERE day = ANY($1)", list(days)
        )
        self._pseudonyms.learn_days({day: bytes(key) for day, key in rows})
        self._days = days
