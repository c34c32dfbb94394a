"""From a folder to the database: the whole import."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from voting.intake.folder import Checked, check_folder
from voting.intake.problems import Problem, errors_in
from voting.intake.save import known_photos, save
from voting.intake.videos import FoundVideo
from voting.media_files import alone, clean_up, importing, keep_video

_CONNECT_SECONDS = 10


class CannotImport(Exception):
    """The import cannot run, whatever the folder holds; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an import."""

    candidates: int
    """Rows of the list."""
    problems: tuple[Problem, ...]
    imported: bool
    not_compared_because: str | None = None
    """With `check`: why the list was not held against the database."""

    @property
    def ok(self) -> bool:
        return errors_in(self.problems) == 0


async def import_folder(
    folder: Path,
    dsn: str | None,
    *,
    check: bool = False,
    accept_changes: bool = False,
    media: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Check the folder and, unless `check`, bring it into the database.

    `check` works without a database (dsn None, or one that does not answer); then only the
    folder itself is judged. `media`: where videos are kept (voting/media_files.py); None = a
    folder with videos cannot be imported. `progress` hears (photos and videos done, those in all),
    in another thread. Raises CannotImport.
    """
    absent = None
    async with contextlib.AsyncExitStack() as stack:
        connection: asyncpg.Connection | None = None
        photos: frozenset[str] = frozenset()
        try:
            connection = await stack.enter_async_context(_connected(dsn))
            with _in_plain_words():
                photos = await known_photos(connection)
        except CannotImport as why:
            if not check:
                raise
            connection, absent = None, str(why)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dianzan-")))
        try:
            checked = await asyncio.to_thread(check_folder, folder, scratch, photos, progress)
        except OSError as why:
            raise CannotImport(f"no room for the pictures in {scratch}: {why.strerror}") from None
        problems = list(checked.problems)
        if connection is not None:
            async with _kept_videos(
                connection, checked if not check and checked.ok else None, media
            ):
                with _in_plain_words():
                    problems += await save(
                        connection, checked, accept_changes=accept_changes, write=not check
                    )
        imported = not check and errors_in(problems) == 0
        return Report(checked.candidates, tuple(problems), imported, absent)


@contextlib.asynccontextmanager
async def _kept_videos(
    connection: asyncpg.Connection, checked: Checked | None, media: Path | None
) -> AsyncIterator[None]:
    """The folder's videos are in their place meanwhile, for the rows that are to name them; at the
    end those that none names are gone."""
    if checked is None or not checked.videos:
        yield
        return
    if media is None:
        raise CannotImport("there are videos, and no folder to keep them in")
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(importing(media))
            await asyncio.to_thread(keep_videos, media, checked.videos)
        except OSError as why:
            raise CannotImport(f"videos cannot be kept in {media}: {why.strerror}") from None
        yield
    with _in_plain_words():
        await forget_unnamed_videos(connection, media)


def keep_videos(media: Path, videos: Iterable[FoundVideo]) -> None:
    """Copy them to their places; OSError. Called while `importing`."""
    for one in videos:
        keep_video(media, one.source, one.id, one.kind)


async def forget_unnamed_videos(connection: asyncpg.Connection, media: Path) -> None:
    """Remove files that no row names, unless somebody imports just now."""
    with alone(media) as nobody_else:
        if nobody_else:
            rows = await connection.fetch("SELECT id, kind FROM videos")
            named = {f"{row['id']}.{row['kind']}" for row in rows}
            await asyncio.to_thread(clean_up, media, named)


@contextlib.asynccontextmanager
async def _connected(dsn: str | None) -> AsyncIterator[asyncpg.Connection]:
    if dsn is None:
        raise CannotImport("no database: start `dianzan up`, or set DIANZAN_POSTGRES_DSN")
    with _in_plain_words():
        try:
            connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
        except ValueError:
            # Its text may quote what was taken for a port and is a piece of a password.
            raise CannotImport("DIANZAN_POSTGRES_DSN is no Postgres DSN") from None
    try:
        yield connection
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


@contextlib.contextmanager
def _in_plain_words() -> Iterator[None]:
    try:
        yield
    except asyncpg.UndefinedTableError:
        raise CannotImport("the database has no tables yet: run `dianzan migrate`") from None
    except TimeoutError:
        raise CannotImport("the database does not answer") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as why:
        raise CannotImport(f"the database: {why}") from None
