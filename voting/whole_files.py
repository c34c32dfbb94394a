"""Files that are there whole or not at all, whenever the power goes."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def written_aside(
    path: Path,
    content: bytes,
    mode: int,
    *,
    adjust: Callable[[int], None] = lambda descriptor: None,
) -> Iterator[Path]:
    """A file beside `path` with this content, on the disk: for the caller to put into its place by
    a rename or a link. At the end it is gone, if it is still there under its own name, and the
    folder is on the disk. `adjust` gets its descriptor before it is synced."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)  # of a process that was killed here under the same pid
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            adjust(descriptor)
            os.fsync(descriptor)
        yield aside
    finally:
        aside.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
