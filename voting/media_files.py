"""Files of media in the data folder: videos, by the digests of what is in them.

    media/videos/<id>.<kind>    one video, whole or not there
    media/.lock                 held shared by whoever imports, alone by whoever cleans up

Whoever imports puts the files there first and then, in its transaction, the rows that name them; so
a row without its file is never seen. What an import leaves behind that failed between the two is
removed after a later one. Videos that were named once stay, as photos do: a list that waits for its
second person, or a correction, may name them again.

A crash at any point leaves whole files, or none, and pieces beside them that are removed likewise.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

VIDEOS = "videos"
_PIECE = 1 << 20
_NAME = re.compile(r"[0-9a-f]{8,64}\.(mp4|mov)", re.ASCII)
_PIECES = re.compile(r"\.[0-9a-f]{8,64}\.(mp4|mov)\.[0-9]+", re.ASCII)


class ChangedMeanwhile(OSError):
    """The source is not what it was when it was looked at."""


def video_path(media: Path, video_id: str, kind: str) -> Path:
    """Where a video lies."""
    return media / VIDEOS / f"{video_id}.{kind}"


@contextlib.asynccontextmanager
async def importing(media: Path) -> AsyncIterator[None]:
    """Nothing is cleaned up meanwhile. Held from before the first file is put there until the rows
    that name it are committed."""
    with contextlib.ExitStack() as stack:
        while True:
            # Asked for again and again: whoever waited here for one that awaits something on the
            # same event loop would wait for good.
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(_locked(media, fcntl.LOCK_SH | fcntl.LOCK_NB))
                break
            await asyncio.sleep(0.02)
        yield


def keep_video(media: Path, source: Path, video_id: str, kind: str) -> None:
    """Copy a video to its place, unless it is there; raises OSError, ChangedMeanwhile among it.
    `video_id` is the beginning of the SHA-256 of its bytes."""
    target = video_path(media, video_id, kind)
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        with source.open("rb") as read, aside.open("xb") as file:
            digest = hashlib.sha256()
            while piece := read.read(_PIECE):
                digest.update(piece)
                file.write(piece)
            if not digest.hexdigest().startswith(video_id):
                raise ChangedMeanwhile(0, "the file changed while it was imported", str(source))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
    finally:
        aside.unlink(missing_ok=True)
    # A name is on the disk only when its folder is.
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clean_up(media: Path, named: Collection[str]) -> int:
    """Remove the videos that are none of `named` ("<id>.<kind>", as the rows have it now), and
    pieces of copies; how many. Only while one is `alone`, and with names that were read since."""
    folder = media / VIDEOS
    removed = 0
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        is_one = _NAME.fullmatch(path.name) and path.name not in named
        if is_one or _PIECES.fullmatch(path.name):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


@contextlib.contextmanager
def alone(media: Path) -> Iterator[bool]:
    """Whether nobody imports, nor begins to until the end."""
    try:
        with _locked(media, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield True
    except BlockingIOError:
        yield False


@contextlib.contextmanager
def _locked(media: Path, how: int) -> Iterator[None]:
    media.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(media / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)  # and the lock with it
