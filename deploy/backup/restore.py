"""Bring a backup back: into a data folder that is fresh, and an embedded Postgres in it or an empty
database elsewhere.

Everything is checked first and built beside; one rename ends it. A restore that is killed leaves a
folder `.NAME.restoring`, which the next one removes, and an empty database stays empty."""

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from deploy.backup.backup import DUMP, LAYOUT, MANIFEST
from deploy.backup.programs import (
    FILES,
    SECRETS,
    BackupError,
    copy_kept,
    digest_of,
    run_program,
    to_disk,
)
from deploy.local.run_folder import AlreadyUp, hold_run_folder
from deploy.local.servers import EmbeddedPostgres, private_folder
from voting.keys import KeyFileError, Keys

_READY_SECONDS = 60


def read_backup(folder: Path) -> dict[str, Any]:
    """Its manifest, once every file was found to be what that says; BackupError names one that is
    not."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        files = dict(manifest["files"])
        layout = manifest["layout"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BackupError(f"{folder} is no backup: its {MANIFEST} cannot be read") from None
    if layout != LAYOUT:
        raise BackupError(f"{folder} was made by another version: layout {layout}, not {LAYOUT}")
    if DUMP not in files:
        raise BackupError(f"{folder} holds no database")
    for name, expected in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BackupError(f"{name}: not in the backup's folder")
        if not path.is_file():
            raise BackupError(f"{name} is missing in the backup")
        if path.stat().st_size != expected["bytes"] or digest_of(path) != expected["sha256"]:
            raise BackupError(f"{name} is damaged: it is not what the manifest says")
    return manifest


def restore(folder: Path, *, data_dir: Path, dsn: str | None, keys: Path | None) -> dict[str, Any]:
    """The manifest of what was restored. `data_dir` must not exist, or be empty. `dsn`: an empty
    database to restore into; None = an embedded one in the data folder. `keys`: the folder of the
    installation's keys, for a backup without. Raises BackupError."""
    manifest = read_backup(folder)
    secrets = _find_keys(folder, manifest, keys)
    if data_dir.exists() and any(data_dir.iterdir()):
        raise BackupError(
            f"{data_dir} is not empty: set DIANZAN_DATA_DIR to a fresh folder, and put this one "
            "aside when the new one works"
        )
    aside = data_dir.with_name(f".{data_dir.name}.restoring")
    private_folder(aside)
    try:
        # Two at once would build into one folder.
        with hold_run_folder(aside):
            for path in aside.iterdir():
                if path.name != "run":
                    shutil.rmtree(path, ignore_errors=True)
            copy_kept(folder / "files", aside, FILES)
            shutil.copytree(secrets, aside / SECRETS)
            private_folder(aside / SECRETS)
            to_disk(aside)
            if dsn is None:
                _into_embedded(folder, aside)
            else:
                _into_empty(folder, dsn)
            shutil.rmtree(aside / "run", ignore_errors=True)
            aside.rename(data_dir)
    except AlreadyUp:
        raise BackupError(f"another restore into {data_dir} is under way") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _find_keys(folder: Path, manifest: dict[str, Any], keys: Path | None) -> Path:
    if keys is None and manifest["keys"]:
        keys = folder / "files" / SECRETS
    if keys is None:
        raise BackupError(
            "the backup has no keys, and without them every device would be a new one: give "
            "--keys the folder `secrets` of the data folder that it was made of"
        )
    try:
        Keys.load(keys / "keys.json")
    except (KeyFileError, OSError) as why:
        raise BackupError(f"these are no keys of an installation: {why}") from None
    return keys


def _into_embedded(folder: Path, data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    # Of a restore that was killed.
    orphans = server.running()
    for orphan in orphans:
        orphan.kill()
    psutil.wait_procs(orphans, _READY_SECONDS)
    shutil.rmtree(data_dir / "postgres", ignore_errors=True)
    server.prepare()
    with (data_dir / "restore.log").open("wb") as log:
        process = subprocess.Popen(
            server.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (data_dir / "restore.log").read_text(errors="replace")
                raise BackupError(f"Postgres did not start: {said[-500:]}")
            time.sleep(0.05)
        _pg_restore(folder, server.url)
    finally:
        process.send_signal(server.stop_signal)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    (data_dir / "restore.log").unlink()


async def _tables_in(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        tables: int = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p')"
        )
        return tables
    finally:
        await connection.close()


def _into_empty(folder: Path, dsn: str) -> None:
    if asyncio.run(_tables_in(dsn)):
        raise BackupError(
            "the database of DIANZAN_POSTGRES_DSN is not empty: make one of another name, and "
            "name that"
        )
    _pg_restore(folder, dsn)


def _pg_restore(folder: Path, dsn: str) -> None:
    # One transaction: all of it is there, or nothing.
    run_program(
        "pg_restore",
        dsn,
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        str(folder / DUMP),
    )
