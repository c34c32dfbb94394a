"""The database's schema, built by numbered SQL files.

`migrations/NNNN_name.sql`, counted from 0001 without a gap, each applied once, in a transaction of
its own together with its row in `migrations`. A file is never edited once it was applied anywhere:
what it did cannot be seen again; the next number corrects it.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from voting.shards import check_shards, declare_shards

MIGRATIONS = Path(__file__).with_name("migrations")

_FILE_NAME = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
_LOCK = int.from_bytes(b"dzschema")
"""Advisory lock of whoever migrates; a session holds it, so it ends with the connection."""

# Not in schema.sql: it belongs to this module, and must be there before the first migration.
_OWN_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The files and the database do not fit together, or a file failed; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All files in order; MigrationError for a misnamed one, a gap or a number given twice."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        named = _FILE_NAME.fullmatch(path.name)
        if not named:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql")
        # Text, so that a checkout with other line ends has the same checksum.
        migrations.append(Migration(int(named[1]), named[2], path.read_text(encoding="utf-8")))
    for expected, migration in enumerate(migrations, 1):
        if migration.number != expected:
            raise MigrationError(f"migrations: {expected:04} expected, {migration} found")
    return migrations


async def migrate(dsn: str, folder: Path = MIGRATIONS, *, shards: int | None = None) -> list[str]:
    """Bring the database up to date; the names of what was applied now, in order. `shards`: how
    many there are from now on, at least.

    Any number of processes may call it at once: one works, the others wait and find nothing to
    do. Raises MigrationError, TooFewShards; what was applied before the failure stays applied.
    """
    migrations = read_migrations(folder)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_OWN_TABLE)
        applied = await connection.fetch(
            "SELECT number, name, checksum FROM migrations ORDER BY number"
        )
        _compare(migrations, applied)
        names = []
        for migration in migrations[len(applied) :]:
            await _apply(connection, migration)
            names.append(str(migration))
        if shards is not None:
            await declare_shards(connection, shards)
            await check_shards(connection, shards)
        return names
    finally:
        await connection.close()


def _compare(migrations: Sequence[Migration], applied: Sequence[asyncpg.Record]) -> None:
    """What the database holds must be the beginning of what the files say."""
    if len(applied) > len(migrations):
        newest = applied[-1]
        raise MigrationError(
            f"the database is at {newest['number']:04}_{newest['name']}, newer than this version, "
            f"which knows {len(migrations):04} at most: run the newer version"
        )
    # strict=False: files that are not applied yet come after.
    for migration, row in zip(migrations, applied, strict=False):
        if row["number"] != migration.number:
            raise MigrationError(
                f"the database has no row for {migration} but one for {row['number']:04}: "
                "its table `migrations` was edited"
            )
        if row["checksum"] != migration.checksum:
            raise MigrationError(
                f"{migration} is not the file that was applied (checksum {row['checksum'][:12]}, "
                f"now {migration.checksum[:12]}): restore it, and put the change into a new one"
            )


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        # A crash in here leaves neither the change nor its row.
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as why:
        raise MigrationError(f"{migration} failed and was undone: {why}") from why
