"""Exports: the votes of one campaign day as a file, without personal data.

    at                       of the vote, to the second; CSV: in the campaign's zone, Parquet: UTC
    candidate_number, candidate, name   for whom
    state                    counted, held or struck, by the decisions of now
    verdict                  counted or held, as it was judged when it came
    score_millinats, reasons, rules_version   why: up to three names of reasons, a space between
    network_class            mobile, home, campus ...
    user_agent_class         none, automation, desktop-N, or phone-N, one of 224 buckets of models
    token_level, challenge_solved   of the device's token
    token_age_from_seconds   lower bound of its step in TOKEN_AGE_STEPS_SECONDS
    dwell_from_ms            lower bound of the time from card to tap in steps; empty = not known

Left out: device, click, network pseudonyms, ASN, TLS fingerprint, and the position. A position
would tie a row to a leaf of the public log and so, once the log is opened, to a click that a voter
(or whoever has their phone) knows; a number in its place would say no more than the row's place in
the file. Rows are ordered by what they show and by nothing else, for the order of votes is the
order of leaves.

Known weakness: who knows of a person that they tapped for a candidate in a certain second, and
finds one row there, sees what kind of network and phone that was, and whether the vote counts. That
is why exports are for reviewers and admins alone, and each is written into the audit log.

Neither file is ever in memory whole. CSV streams out of Postgres as it is read, texts made safe for
sheets. Parquet, which no sheet opens, is built in a folder under data_dir/exports, by DuckDB within
a bound of memory, and is unlinked before the first byte of it is sent: an interrupted download
leaves nothing behind, and of a process that was killed while it built one, `sweep` takes the rest
away.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from antifraud.heuristics import REASON_NAMES
from antifraud.networks import NetworkClass
from antifraud.user_agents import AUTOMATION, FIRST_MODEL, UNKNOWN
from tally.delivery.outbox import Connect
from tally.holds import State
from tally.store import read_queries
from voting.campaign import Campaign

if TYPE_CHECKING:
    from numpy.typing import NDArray

SQL = read_queries(Path(__file__).with_name("exports.sql"))

TOKEN_AGE_STEPS_SECONDS = (0, 10, 60, 600, 3_600, 86_400, 7 * 86_400)
DWELL_STEPS_CENTISECONDS = (0, 1, 50, 100, 200, 500, 1_000, 3_000, 6_000)
"""Lower bounds. Dwell 0 = not known."""

AT_ONCE_MAX = 2
"""Exports of one console process."""
EXPORT_SECONDS_MAX = 1_800
"""For one, its download included: a reader that dawdles must not keep a snapshot for ever."""
CHUNK_BYTES = 64 * 1024
_CHUNKS_WAITING_MAX = 16
_ROWS_AT_ONCE = 100_000
_MEMORY_MB = 256
"""DuckDB's, for one export."""
_ABANDONED_AFTER_SECONDS = 2 * EXPORT_SECONDS_MAX

FORMULA_STARTS = (*"=+-@＝＋－＠", "\t", "\r", "\0", "\n")
"""The wide ones too: sheets of some languages take them for the others."""

_COARSE_WIDTHS = {
    "second": 8,
    "candidate": 4,
    "state": 2,
    "verdict": 2,
    "score": 2,
    "reasons": 4,
    "rules": 4,
    "network_class": 2,
    "user_agent_class": 2,
    "token_level": 2,
    "token_age": 4,
    "dwell": 4,
}
"""Columns of coarse_votes with their widths."""


def formula_safe(text: str) -> str:
    """A text that no sheet takes for a formula, a NUL taken out of it."""
    safe = text.replace("\0", "")
    return f"'{safe}" if text.startswith(FORMULA_STARTS) else safe


def _names(known: Mapping[int, str], count: int, otherwise: str) -> list[str]:
    return [known.get(number, otherwise.format(number)) for number in range(count)]


def _agent_name(number: int) -> str:
    if number == UNKNOWN:
        return "none"
    if number == AUTOMATION:
        return "automation"
    if number < FIRST_MODEL:
        return f"desktop-{number}"
    return f"phone-{number - FIRST_MODEL}"


STATE_NAMES = _names({state.value: state.name.lower() for state in State}, 256, "state-{}")
_REASONS: list[str | None] = [None, *_names(REASON_NAMES, 256, "reason-{}")[1:]]
"""0 = none."""
_NETWORKS = _names({kind.value: kind.name.lower() for kind in NetworkClass}, 256, "class-{}")
_AGENTS = [_agent_name(number) for number in range(256)]


@dataclass(frozen=True, slots=True)
class Day:
    """A day that has votes."""

    day: date
    counted: int
    held: int


async def list_days(connection: asyncpg.Connection, campaign: Campaign) -> list[Day]:
    """Newest first."""
    rows = await connection.fetch(SQL["list_days"], campaign.number, campaign.window.zone.key)
    return [Day(row["day"], int(row["counted"]), int(row["held"])) for row in rows]


class Busy(Exception):
    """AT_ONCE_MAX exports are under way."""


class Slots:
    """Who exports now. One per process."""

    def __init__(self, at_once: int = AT_ONCE_MAX) -> None:
        self._free = at_once

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Raises Busy."""
        if self._free <= 0:
            raise Busy
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


# CSV.


async def csv_votes(connect: Connect, campaign: Campaign, day: date) -> AsyncIterator[bytes]:
    """The file in pieces, UTF-8 with the mark that sheets want. Raises where Postgres does, and
    TimeoutError after EXPORT_SECONDS_MAX; whoever closes it early ends the query.

    Postgres sorts the day, on its disk where it has to, before the first row comes: some seconds a
    million votes. Here at most _CHUNKS_WAITING_MAX pieces wait for a slow reader.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + EXPORT_SECONDS_MAX
    waiting: asyncio.Queue[bytes] = asyncio.Queue(_CHUNKS_WAITING_MAX)
    copying = asyncio.create_task(_copy_csv(connect, campaign, day, waiting))
    try:
        # Each wait on its own: a timeout around a `yield` would belong to whoever asked first.
        while piece := await asyncio.wait_for(waiting.get(), until - loop.time()):
            yield piece
        await copying
    finally:
        copying.cancel()
        # It may wait for room for pieces that nobody will take.
        while not copying.done():
            while not waiting.empty():
                waiting.get_nowait()
            await asyncio.wait({copying}, timeout=0.05)
        if not copying.cancelled():
            copying.exception()  # told already, or nobody is left to tell


async def _copy_csv(
    connect: Connect, campaign: Campaign, day: date, waiting: asyncio.Queue[bytes]
) -> None:
    """Put the file into the queue; after the last piece, or an error, an empty one."""
    gathered = bytearray(b"\xef\xbb\xbf")

    async def take(chunk: bytes) -> None:
        gathered.extend(chunk)
        if len(gathered) >= CHUNK_BYTES:
            await waiting.put(bytes(gathered))
            gathered.clear()

    try:
        async with connect() as connection:
            await connection.copy_from_query(
                SQL["named_votes"].format(coarse=SQL["coarse_votes"]),
                *_parameters(campaign, day),
                campaign.window.zone.key,
                STATE_NAMES,
                _REASONS,
                _NETWORKS,
                _AGENTS,
                *_candidate_names(campaign),
                output=take,
                format="csv",
                header=True,
                timeout=EXPORT_SECONDS_MAX,
            )
        if gathered:
            await waiting.put(bytes(gathered))
    finally:
        await waiting.put(b"")


def _parameters(campaign: Campaign, day: date) -> tuple[Any, ...]:
    return (
        campaign.number,
        day,
        list(TOKEN_AGE_STEPS_SECONDS),
        list(DWELL_STEPS_CENTISECONDS),
    )


def _candidate_names(campaign: Campaign) -> tuple[list[str | None], list[str | None]]:
    """Ids and names by number from 0, as a sheet may have them."""
    highest = max((candidate.number for candidate in campaign.candidates), default=0)
    ids: list[str | None] = [None] * (highest + 1)
    names = list(ids)
    for candidate in campaign.candidates:
        ids[candidate.number] = formula_safe(candidate.id)
        names[candidate.number] = formula_safe(candidate.name)
    return ids, names


# Parquet.


@dataclass(slots=True)
class BuiltFile:
    """A file without a name: it is gone when it is closed, or the process ends."""

    descriptor: int
    size: int
    """Bytes."""

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def read(self) -> AsyncIterator[bytes]:
        """In pieces; closed at the end, or when its reader is. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + EXPORT_SECONDS_MAX
        try:
            while piece := await asyncio.to_thread(os.read, self.descriptor, 4 * CHUNK_BYTES):
                if loop.time() > until:
                    raise TimeoutError
                yield piece
        finally:
            self.close()


async def parquet_votes(connect: Connect, campaign: Campaign, day: date, folder: Path) -> BuiltFile:
    """Build it; raises OSError where the disk is full, asyncpg's errors, TimeoutError. Cancelled or
    failed, it leaves nothing behind."""
    from tally.vote_arrays import CopiedRows

    # Blocks for a moment only: a folder is made and, at the end, two or three files removed.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # noqa: ASYNC240
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as made:
        place = Path(made)
        builder = await asyncio.to_thread(_Builder, place, campaign)
        try:
            rows = CopiedRows(_COARSE_WIDTHS, _COARSE_WIDTHS)

            async def take(chunk: bytes) -> None:
                rows.add(chunk)
                if rows.waiting >= _ROWS_AT_ONCE:
                    await builder.run(builder.put, rows.take())

            async with asyncio.timeout(EXPORT_SECONDS_MAX), connect() as connection:
                await connection.copy_from_query(
                    SQL["coarse_votes"],
                    *_parameters(campaign, day),
                    output=take,
                    format="binary",
                    timeout=EXPORT_SECONDS_MAX,
                )
                if rows.waiting:
                    await builder.run(builder.put, rows.take())
            await builder.run(builder.write)
            descriptor = os.open(builder.path, os.O_RDONLY)
        finally:
            await builder.close()
    return BuiltFile(descriptor, os.fstat(descriptor).st_size)


class _Builder:
    """One file in the making. DuckDB is asked by one thread at a time."""

    def __init__(self, place: Path, campaign: Campaign) -> None:
        import duckdb

        self.path = place / "votes.parquet"
        self._db = duckdb.connect(
            str(place / "rows.duckdb"),
            config={
                "threads": 1,
                "memory_limit": f"{_MEMORY_MB}MB",
                "temp_directory": str(place),
            },
        )
        self._db.execute(
            "CREATE TABLE coarse (second BIGINT, candidate INTEGER, state SMALLINT,"
            " verdict SMALLINT, score SMALLINT, reasons INTEGER, rules INTEGER,"
            " network_class SMALLINT, user_agent_class SMALLINT, token_level SMALLINT,"
            " token_age INTEGER, dwell INTEGER)"
        )
        ids = {c.number: (c.id, c.name) for c in campaign.candidates}
        self._db.execute(
            "CREATE TABLE named AS SELECT number, id, name FROM"
            " (SELECT unnest($1::INTEGER[]) AS number, unnest($2::VARCHAR[]) AS id,"
            " unnest($3::VARCHAR[]) AS name)",
            [list(ids), [i for i, _ in ids.values()], [name for _, name in ids.values()]],
        )

    async def run(self, do: Any, *arguments: Any) -> None:
        """In a thread, to its end: cancelled, what it does is cut short first."""
        running = asyncio.get_running_loop().run_in_executor(None, do, *arguments)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                self._db.interrupt()
                await asyncio.wait({running}, timeout=0.05)
            running.exception()
            raise

    def put(self, rows: "NDArray[Any]") -> None:
        columns = {
            name: rows[name].astype(rows.dtype[name].newbyteorder("=")) for name in _COARSE_WIDTHS
        }
        self._db.register("taken", columns)
        try:
            self._db.execute("INSERT INTO coarse SELECT * FROM taken")
        finally:
            self._db.unregister("taken")

    def write(self) -> None:
        def listed(names: Sequence[str | None]) -> str:
            return json.dumps(names).replace("'", "''").replace('"', "'").replace("null", "NULL")

        reason = " ".join(
            f"{listed(_REASONS)}[(reasons >> {shift} & 255) + 1]," for shift in (16, 8, 0)
        ).rstrip(",")
        path = str(self.path).replace("'", "''")
        self._db.execute(
            f"""
            COPY (
                SELECT to_timestamp(second) AS at,
                    candidate AS candidate_number, id AS candidate, name,
                    {listed(STATE_NAMES[:8])}[state + 1] AS state,
                    {listed(STATE_NAMES[:8])}[verdict + 1] AS verdict,
                    score AS score_millinats,
                    concat_ws(' ', {reason}) AS reasons,
                    rules AS rules_version,
                    {listed(_NETWORKS)}[network_class + 1] AS network_class,
                    {listed(_AGENTS)}[user_agent_class + 1] AS user_agent_class,
                    (token_level & 15)::TINYINT AS token_level,
                    (token_level & 16) <> 0 AS challenge_solved,
                    token_age AS token_age_from_seconds,
                    nullif(dwell, 0) * 10 AS dwell_from_ms
                FROM coarse LEFT JOIN named ON number = candidate
            ) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_AT_ONCE})
            """
        )

    async def close(self) -> None:
        await asyncio.shield(asyncio.to_thread(self._db.close))


def exports_folder(data_dir: Path) -> Path:
    return data_dir / "exports"


def sweep(folder: Path) -> None:
    """Remove what exports of a killed process left; those of others that run now stay."""
    before = time.time() - _ABANDONED_AFTER_SECONDS
    for path in folder.glob("export-*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                shutil.rmtree(path)
