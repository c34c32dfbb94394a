"""Make a backup. The service may run, and goes on; see the package's docstring."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg

from deploy.backup.programs import (
    FILES,
    SECRETS,
    BackupError,
    copy_kept,
    digest_of,
    files_below,
    run_program,
    to_disk,
)
from tally.publishing.publication import PublicationError, journal_ends, until_flushed
from voting.hot_state import HotState
from voting.shards import check_shards

MANIFEST = "manifest.json"
DUMP = "database.dump"
LAYOUT = 1


async def make_backup(
    out: Path, *, data_dir: Path, dsn: str, valkey_url: str, shards: int, with_keys: bool
) -> dict[str, Any]:
    """The manifest of what was written to `out`, which must be new or empty. Holds every like that
    was acknowledged before this began. Raises BackupError, and what a server raises that is away;
    nothing is left then."""
    with _built_aside(out) as aside:
        begun = datetime.now(UTC)
        # Before the database: its copy must bear out what was signed.
        copy_kept(data_dir, aside / "files", (*FILES, *((SECRETS,) if with_keys else ())))
        connection = await asyncpg.connect(dsn)
        try:
            await check_shards(connection, shards)
            async with HotState(valkey_url, shards) as hot:
                ends = await journal_ends(hot)
            try:
                await until_flushed(connection, ends)
            except PublicationError as why:
                raise BackupError(str(why)) from None
            run_program(
                "pg_dump",
                dsn,
                "--format=custom",
                "--compress=gzip:1",
                "--no-owner",
                "--no-privileges",
                f"--file={aside / DUMP}",
            )
            votes = await connection.fetchval(
                "SELECT coalesce(sum(counted + held + struck), 0)::bigint FROM tallies"
            )
        finally:
            await connection.close()
        manifest = {
            "layout": LAYOUT,
            "version": version("dianzan"),
            "begun": begun.isoformat(timespec="seconds"),
            "shards": shards,
            "votes_at_least": int(votes),
            "keys": with_keys,
            "files": {
                str(path.relative_to(aside)): {
                    "sha256": digest_of(path),
                    "bytes": path.stat().st_size,
                }
                for path in files_below(aside)
            },
        }
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


@contextlib.contextmanager
def _built_aside(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` at the end, by one rename; gone where something failed."""
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BackupError(f"{out} is there already: a backup gets a folder of its own")
    aside = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    # What is in it makes people of pseudonyms: as private as the data folder.
    aside.mkdir(mode=0o700, parents=True)
    try:
        yield aside
        to_disk(aside)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
