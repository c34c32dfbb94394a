"""Photos and videos of all campaigns -> a folder that an object store can hold as it is."""

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg

from voting.campaign import Campaign
from voting.catalog import PhotoForm, load_campaigns, load_photo
from voting.media_files import video_path

_CONNECT_SECONDS = 10
_ENDINGS = {
    PhotoForm.WEBP: ".webp",
    PhotoForm.JPEG: ".jpg",
    PhotoForm.LARGE_WEBP: "-large.webp",
    PhotoForm.LARGE_JPEG: "-large.jpg",
}
_LARGE = (PhotoForm.LARGE_WEBP, PhotoForm.LARGE_JPEG)


class CannotExport(Exception):
    """The database does not answer, or is not one of ours; the message says it."""


@dataclass(slots=True)
class Exported:
    """What came of it."""

    written: int
    there: int
    missing: list[str]
    """Videos whose files are not in the data folder of this machine."""


async def export_media(dsn: str, media: Path, folder: Path) -> Exported:
    """Write what is not there yet; raises CannotExport, and OSError of `folder`."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    except ValueError:
        # Its text may quote a piece of a password.
        raise CannotExport("DIANZAN_POSTGRES_DSN is no Postgres DSN") from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as why:
        raise CannotExport(f"the database: {why or type(why).__name__}") from None
    try:
        campaigns = await load_campaigns(connection)
        return await _export(connection, campaigns.values(), media, folder)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as why:
        raise CannotExport(f"the database: {why}") from None
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


async def _export(
    connection: asyncpg.Connection, campaigns: Collection[Campaign], media: Path, folder: Path
) -> Exported:
    photos, videos = folder / "v1" / "photos", folder / "v1" / "videos"
    for each in (photos, videos):
        each.mkdir(parents=True, exist_ok=True)
    done = Exported(0, 0, [])
    pictures = {key: one for campaign in campaigns for key, one in campaign.pictures.items()}
    for key, picture in sorted(pictures.items()):
        for form, ending in _ENDINGS.items():
            if form in _LARGE and picture.large_width is None:
                continue
            target = photos / f"{key}{ending}"
            if target.exists():
                done.there += 1
                continue
            content = await load_photo(connection, key, form)
            if content is not None:
                _write(target, partial(_fill, content))
                done.written += 1
    films = {key: one for campaign in campaigns for key, one in campaign.videos.items()}
    for key, film in sorted(films.items()):
        target, source = videos / f"{key}.{film.kind}", video_path(media, key, film.kind)
        if target.exists():
            done.there += 1
        elif not source.is_file():
            done.missing.append(target.name)
        else:
            _write(target, partial(shutil.copyfile, source))
            done.written += 1
    return done


def _fill(content: bytes, aside: Path) -> None:
    aside.write_bytes(content)


def _write(target: Path, fill: Callable[[Path], object]) -> None:
    """Whole, or not at all: whoever syncs meanwhile passes over names that begin with a dot, and
    what has its name is on the disk."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fill(aside)
        descriptor = os.open(aside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.rename(target)
    finally:
        aside.unlink(missing_ok=True)
