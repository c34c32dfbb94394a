"""The near-line desk: votes out of Postgres on a desk of DuckDB, and the detectors' look at them.

    recent votes    every vote once, as it comes into Postgres; those of the last hours stay, the
                    young ones in memory, the others in small Parquet files of ours
    past days       one Parquet file per campaign day, written when the day is over and whole
    a pass          the detectors over one campaign's recent votes, or over a day, or over all days

Everything here can be lost and is made again from Postgres. Nothing in it names a person: it holds
what `votes` holds, pseudonyms included, so the folder is as private as the database.

Blocks for seconds: whoever has an event loop calls the lower half of it in a thread, one call at a
time (`interrupt` may come from another).
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import numpy as np
from numpy.typing import NDArray

from antifraud.detectors import Baselines, Found, detect
from tally.cases import FoundFlag
from tally.day_files import day_file
from tally.store import SQL
from tally.vote_arrays import CopiedRows, vote_ids

RECENT_US = 2 * 3_600 * 1_000_000
"""What a pass looks back."""
MEMORY_MB = 512
"""Of DuckDB; what does not fit goes to files of its own in the desk's folder."""
YOUNG_VOTES_MAX = 200_000
YOUNG_US_MAX = 600 * 1_000_000
"""So many votes, or votes of so long, are in memory before they become a file."""
_TAKEN_AT_ONCE = 1 << 17
"""Rows of COPY (24 MB) that are cut into arrays at a time."""

_POSTGRES_DAYS = 10_957
_POSTGRES_US = 946_684_800_000_000
"""2000-01-01, in days and microseconds since 1970."""

_COPIED = (
    *("day", "shard", "epoch", "seq", "at", "campaign", "candidate", "device", "network"),
    *("network_wide", "asn", "network_class", "user_agent_class", "tls_hash"),
    *("token_age_seconds", "token_level", "dwell_centiseconds", "score"),
)
_AS_THEY_ARE = {
    "campaign": np.int16,
    "candidate": np.int32,
    "device": np.int64,
    "network": np.int64,
    "network_wide": np.int64,
    "asn": np.int64,
    "network_class": np.int16,
    "user_agent_class": np.int16,
    "tls_hash": np.int64,
    "token_age_seconds": np.int64,
    "token_level": np.int16,
    "dwell_centiseconds": np.int32,
    "score": np.int16,
}
_TABLE = """
CREATE OR REPLACE TABLE {name} (
    vote BIGINT, at_us BIGINT, day INTEGER, campaign SMALLINT, candidate INTEGER, device BIGINT,
    network BIGINT, network_wide BIGINT, asn BIGINT, network_class SMALLINT,
    user_agent_class SMALLINT, tls_hash BIGINT, token_age_seconds BIGINT, token_level SMALLINT,
    dwell_centiseconds INTEGER, score SMALLINT
)
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a shard's votes are on the desk."""

    epoch: int
    seq: int
    at: datetime

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.seq


@dataclass(frozen=True, slots=True)
class _File:
    """Recent votes that went to a file."""

    path: Path
    last_us: int


class Desk:
    """One installation's desk, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder` (data_dir/history) is made where it is not there; the days in it are kept."""
        self._days_folder = folder
        self._recent_folder = folder / "recent"
        # Of a desk before this one: it is copied anew.
        shutil.rmtree(self._recent_folder, ignore_errors=True)
        for each in (folder, self._recent_folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = duckdb.connect(
            config={
                "threads": 1,
                "memory_limit": f"{MEMORY_MB}MB",
                "temp_directory": str(self._recent_folder / "spilled"),
                "preserve_insertion_order": False,
            }
        )
        self._db.execute("SET enable_progress_bar = false")  # it would go to stdout
        self._db.execute(_TABLE.format(name="young"))
        self._young = 0
        self._young_first_us = 0
        self._last_us = 0
        self._files: list[_File] = []
        self._places: dict[int, _Place] = {}
        self._files_made = 0

    def close(self) -> None:
        self._db.close()
        shutil.rmtree(self._recent_folder, ignore_errors=True)

    def interrupt(self) -> None:
        """End the query that runs, from another thread; it raises duckdb.InterruptException."""
        self._db.interrupt()

    # From Postgres.

    async def copy_recent(self, connection: asyncpg.Connection, in_thread: Any) -> int:
        """Bring what came into Postgres since the last time (at first: what is not older than
        RECENT_US), each vote once; how many. `in_thread` runs a function in a thread."""
        copied = 0
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            # One moment's state: all votes up to each shard's watermark are there, none after.
            for row in await connection.fetch(SQL["read_watermarks"]):
                place = self._places.get(row["shard"])
                until = _Place(row["epoch"], row["seq"], row["at"])
                if until.seq == 0 or (place and place.position == until.position):
                    continue
                since = until.at - timedelta(microseconds=RECENT_US)
                for day in _days_between((place or until).at, until.at):
                    copied += await self._copy(
                        connection,
                        in_thread,
                        "young",
                        SQL["copy_recent_votes"].format(columns=", ".join(_COPIED)),
                        day,
                        row["shard"],
                        *(place.position if place else (0, 0)),
                        since,
                    )
                self._places[row["shard"]] = until
        await in_thread(self._tidy)
        return copied

    async def copy_day(self, connection: asyncpg.Connection, in_thread: Any, day: date) -> int:
        """Write a past day's file, whole or not at all; how many votes it has."""
        await in_thread(self._db.execute, _TABLE.format(name="past"))
        copied = await self._copy(
            connection,
            in_thread,
            "past",
            SQL["copy_day_votes"].format(columns=", ".join(_COPIED)),
            day,
        )
        await in_thread(self._write_day, day)
        return copied

    async def _copy(
        self, connection: asyncpg.Connection, in_thread: Any, table: str, query: str, *what: Any
    ) -> int:
        rows = CopiedRows(_COPIED)

        async def take(chunk: bytes) -> None:
            rows.add(chunk)
            if rows.waiting >= _TAKEN_AT_ONCE:
                await in_thread(self._put, table, rows.take())

        await connection.copy_from_query(query, *what, output=take, format="binary")
        if rows.waiting:
            await in_thread(self._put, table, rows.take())
        return rows.rows

    def _put(self, table: str, rows: NDArray[Any]) -> None:
        at_us = rows["at"].astype(np.int64) + _POSTGRES_US
        columns = {
            "vote": vote_ids(rows["shard"], rows["epoch"], rows["seq"]),
            "at_us": at_us,
            "day": rows["day"].astype(np.int32) + np.int32(_POSTGRES_DAYS),
            **{name: rows[name].astype(kind) for name, kind in _AS_THEY_ARE.items()},
        }
        self._db.register("taken", columns)
        try:
            self._db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM taken")
        finally:
            self._db.unregister("taken")
        if table == "young":
            self._young_first_us = min(self._young_first_us or at_us.min(), int(at_us.min()))
            self._last_us = max(self._last_us, int(at_us.max()))
            self._young += len(rows)
            if self._young >= YOUNG_VOTES_MAX:
                self._file_young()

    def _file_young(self) -> None:
        self._files_made += 1
        path = self._recent_folder / f"{self._files_made}.parquet"
        self._db.execute(f"COPY young TO {_quoted(path)} (FORMAT parquet)")
        self._db.execute(_TABLE.format(name="young"))
        self._files.append(_File(path, self._last_us))
        self._young = self._young_first_us = 0

    def _tidy(self) -> None:
        """Young votes that are not young any more become a file; files grown old go."""
        if self._young and self._last_us - self._young_first_us >= YOUNG_US_MAX:
            self._file_young()
        while self._files and self._files[0].last_us < self._last_us - RECENT_US:
            self._files.pop(0).path.unlink(missing_ok=True)

    # Past days.

    def _write_day(self, day: date) -> None:
        path = day_file(self._days_folder, day)
        aside = path.with_suffix(".unfinished")
        # Ordered by campaign, so that a pass over one of them skips the rest.
        self._db.execute(
            f"COPY (SELECT * FROM past ORDER BY campaign, vote) TO {_quoted(aside)}"
            " (FORMAT parquet, COMPRESSION zstd)"
        )
        self._db.execute("DROP TABLE past")
        aside.replace(path)

    # The detectors' look.

    def campaigns(self, days: Sequence[date] | None = None) -> list[int]:
        """Campaigns that have votes: recent ones, or of these days."""
        with self._votes(days):
            found = self._db.execute("SELECT DISTINCT campaign FROM all_votes ORDER BY 1")
            return [campaign for (campaign,) in found.fetchall()]

    def detect(
        self,
        campaign: int,
        baselines: Baselines | None,
        days: Sequence[date] | None = None,
        *,
        learns: bool = False,
    ) -> tuple[list[FoundFlag], Baselines, int]:
        """One pass over a campaign's recent votes, or over all of these days: what was found,
        what a crowd looks like (learned anew from these votes where asked for, else what was
        used), how many votes it looked at."""
        with self._votes(days):
            self._db.execute(
                "CREATE OR REPLACE TEMP VIEW votes AS"
                f" SELECT * EXCLUDE (campaign) FROM all_votes WHERE campaign = {int(campaign)}"
            )
            try:
                ((votes,),) = self._db.execute("SELECT count(*) FROM votes").fetchall()
                found: Found = detect(self._db, baselines=baselines, learn_anew=learns)
                return self._placed(found), found.baselines, int(votes)
            finally:
                self._db.execute("DROP VIEW IF EXISTS votes")

    @contextlib.contextmanager
    def _votes(self, days: Sequence[date] | None) -> Iterator[None]:
        """The view `all_votes`."""
        if days is None:
            sources = [f"SELECT * FROM young WHERE at_us >= {self._last_us - RECENT_US}"]
            files = [file.path for file in self._files]
            only = f" WHERE at_us >= {self._last_us - RECENT_US}"
        else:
            sources, only = [], ""
            files = [day_file(self._days_folder, day) for day in days]
        if files:
            listed = ", ".join(map(_quoted, files))
            sources.append(f"SELECT * FROM read_parquet([{listed}]){only}")
        self._db.execute(
            "CREATE OR REPLACE TEMP VIEW all_votes AS " + " UNION ALL BY NAME ".join(sources)
        )
        try:
            yield
        finally:
            self._db.execute("DROP VIEW IF EXISTS all_votes")

    def _placed(self, found: Found) -> list[FoundFlag]:
        """Flags with the day and the candidate of each of their votes."""
        if not found.flags:
            return []
        # A result that was not read to its end, of a detector say, would stand in the way.
        self._db.abort()
        self._db.register(
            "wanted", {"vote": np.unique(np.concatenate([flag.votes for flag in found.flags]))}
        )
        try:
            # One query for all: each costs a look at every vote.
            of = self._db.execute(
                "SELECT vote, day, candidate FROM votes SEMI JOIN wanted USING (vote) ORDER BY vote"
            ).fetchnumpy()
        finally:
            self._db.unregister("wanted")
        placed = []
        for flag in found.flags:
            at = np.searchsorted(of["vote"], flag.votes)
            placed.append(
                FoundFlag(
                    flag, of["day"][at].astype(np.int64), of["candidate"][at].astype(np.int64)
                )
            )
        return placed


def _days_between(first: datetime, last: datetime) -> list[date]:
    """Campaign days, of whatever time zone, that votes of this stretch can have. Two hours before
    `first` are in it."""
    start = (first - timedelta(hours=14)).date()
    return [
        start + timedelta(days=n)
        for n in range(((last + timedelta(hours=14)).date() - start).days + 1)
    ]


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
