"""`dianzan media ...`: photos and videos outside of the edge."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from voting.settings import load_settings

media = typer.Typer(no_args_is_help=True)


@media.callback()
def photos_and_videos() -> None:
    """Photos and videos for a CDN or an object store."""


@media.command("export")
def export(
    folder: Annotated[
        Path,
        typer.Argument(
            file_okay=False, metavar="FOLDER", help="Where to write; made if it is missing."
        ),
    ],
) -> None:
    """Write all photos and videos that campaigns show, as files to be synced to an object store.

    FOLDER gets v1/photos/ (each picture as .webp and .jpg, in card size and as -large) and
    v1/videos/: the paths below DIANZAN_MEDIA_URL, so that a store that holds FOLDER as it is, or a
    CDN before the edge, can stand behind that address.

    Only what is not there yet is written, each file whole or not at all: run it after each import,
    and again where it was stopped. Nothing is removed. What is behind a name never changes, so sync
    new files alone and let them be kept for good: Cache-Control: public, max-age=31536000,
    immutable; Access-Control-Allow-Origin: *. Content types follow the suffixes (.mov is
    video/quicktime). Set DIANZAN_MEDIA_URL, on every edge, when the first sync is done; without it
    the edges serve everything themselves.

    Exit code 0: FOLDER is complete; 1: videos are missing from the data folder; 2: cannot run.
    """
    from voting.media_export import CannotExport, export_media

    settings = load_settings()
    dsn = settings.postgres_dsn
    if dsn is None:
        typer.echo("no database: start `dianzan up`, or set DIANZAN_POSTGRES_DSN", err=True)
        raise typer.Exit(2)
    try:
        done = asyncio.run(export_media(dsn.get_secret_value(), settings.media_path, folder))
    except (CannotExport, OSError) as why:
        reason = str(why) if isinstance(why, CannotExport) else os.strerror(why.errno or 0)
        typer.echo(f"Not complete: {reason}", err=True)
        raise typer.Exit(2) from None
    for name in done.missing:
        typer.echo(f"{name}: is not in {settings.media_path}", err=True)
    typer.echo(f"{done.written} files written, {done.there} were there already.", err=True)
    if done.missing:
        raise typer.Exit(1)
