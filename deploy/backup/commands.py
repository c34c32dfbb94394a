"""Commands of this package: `dianzan backup`, `restore`, `retain`."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from deploy.backup.programs import BackupError
from tally.commands import address_of, fail
from voting.settings import load_settings

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Back up and come back."""


@app.command()
def backup(
    out: Annotated[Path, typer.Option(help="Folder to write; new, or empty.")],
    with_keys: Annotated[
        bool,
        typer.Option(
            "--with-keys", help="The installation's keys too: then the folder is all there is."
        ),
    ] = False,
) -> None:
    """Write everything that lasts into a folder, while the service runs.

    In it is every like that was acknowledged before this began; the flusher must run, for it waits
    until they are in Postgres. The hot state is not in it: it comes back out of Postgres. Without
    --with-keys the folder is of no use to a thief, nor to you without a copy of `secrets` in the
    data folder. Needs DIANZAN_POSTGRES_DSN and DIANZAN_VALKEY_URL, or a running `dianzan up` on the
    same data folder.

    Exit codes: 0 written, 2 not written (the reason is on stderr).
    """
    from deploy.backup.backup import make_backup

    settings = load_settings()
    with _in_plain_words():
        manifest = asyncio.run(
            make_backup(
                out,
                data_dir=settings.data_dir,
                dsn=address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN"),
                valkey_url=address_of(settings, settings.valkey_url, "DIANZAN_VALKEY_URL"),
                shards=settings.shards,
                with_keys=with_keys,
            )
        )
    size = sum(each["bytes"] for each in manifest["files"].values())
    _say(f"{out}: {manifest['votes_at_least']:,} votes, {size / 1e6:,.1f} MB")
    if not with_keys:
        _say(f"without keys: keep a copy of {settings.keys_path.parent} elsewhere")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `backup` wrote.")],
    keys: Annotated[
        Path | None, typer.Option(help="Folder of the keys, for a backup without.")
    ] = None,
) -> None:
    """Bring a backup back into a fresh data folder (DIANZAN_DATA_DIR), on which nothing runs.

    Into the embedded Postgres of that folder; where DIANZAN_POSTGRES_DSN is set, into that
    database, which must be empty. Every file is checked first; an interrupted restore leaves
    nothing half. Then start the service with an empty store: the flusher gives today's likes and
    the sums back to it.

    Exit codes: 0 restored, 2 not restored (the reason is on stderr).
    """
    from deploy.backup.restore import restore as bring_back

    settings = load_settings()
    dsn = settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else None
    with _in_plain_words():
        manifest = bring_back(folder, data_dir=settings.data_dir, dsn=dsn, keys=keys)
    _say(f"restored {manifest['votes_at_least']:,} votes of {manifest['begun']}")
    _say("what was signed after that is not known here: tell whoever holds a newer checkpoint")


@app.command()
def retain(
    dispute_days: Annotated[
        int, typer.Option(min=1, max=3650, help="After the close, votes may be disputed so long.")
    ] = 90,
    log_days: Annotated[
        int, typer.Option(min=1, max=3650, help="How long the security log is kept.")
    ] = 183,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be destroyed.")
    ] = False,
) -> None:
    """Destroy what is past its time: the daily keys that tie votes to networks, ended sessions.

    Cannot be undone. Run it daily. Needs DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the
    same data folder.
    """
    from deploy.backup.retain import retain as destroy

    settings = load_settings()

    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")

    async def run() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await destroy(
                connection,
                dispute=timedelta(days=dispute_days),
                log=timedelta(days=log_days),
                dry_run=dry_run,
            )
        finally:
            await connection.close()

    with _in_plain_words():
        done = asyncio.run(run())
    word = "would be destroyed" if dry_run else "destroyed"
    days = f" ({done.first_day} to {done.last_day})" if done.keys else ""
    typer.echo(f"keys of {done.keys} days{days} {word}")
    typer.echo(f"{done.sessions} ended sessions {word}")


@contextlib.contextmanager
def _in_plain_words() -> Iterator[None]:
    # Whoever ends us lets us clean up, and end what we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except BackupError as why:
        fail(str(why))
    except OSError as why:
        fail(f"{why.filename or 'a server'}: {why.strerror or why}")
    except asyncpg.UndefinedTableError:
        fail("the database is not migrated: run `dianzan migrate`")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
