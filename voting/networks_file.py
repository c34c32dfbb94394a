"""The table of networks in force: the operator's file while it is sound, else the one before.

`dianzan networks build` puts a new file in the place of the old one; every process looks every
few seconds whether that has happened. A damaged file is refused as a whole, with its reason in the
log, and the table before it stays; at the start that is the built-in one.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog

from antifraud import networks
from antifraud.networks import NetworkTable, TableError

log = structlog.get_logger()

LOOK_EVERY_SECONDS = 10.0


class _Seen(NamedTuple):
    """What tells one state of a file from another."""

    inode: int
    modified_ns: int
    size: int


class _Found(NamedTuple):
    """One look at the file."""

    seen: _Seen | None
    """None where the file could not be read: that is tried again each time."""
    table: NetworkTable | None
    refused_because: str | None


class NetworksFile:
    """`table` is the one in force; never without one.

    Known weakness: a file that is written in place, to the same size and within one tick of the
    file system's clock, is not seen to have changed. `dianzan networks build` replaces it.
    """

    def __init__(
        self, path: Path | None, on_change: Callable[[NetworkTable], None] | None = None
    ) -> None:
        """Reads the file (some 10 ms for the whole world). No path: the built-in table, for good.

        `on_change` is called with each table that comes into force after this one, in the thread
        of whoever refreshes.
        """
        self._path = path
        self._on_change = on_change
        self._seen: _Seen | None = None
        self._refused_because: str | None = None
        self.table = networks.builtin()
        if path is not None:
            self._take(self._look(), at_start=True)

    def refresh(self) -> bool:
        """Look once; whether another table came into force."""
        return self._path is not None and self._take(self._look())

    async def follow(self, every_seconds: float = LOOK_EVERY_SECONDS) -> NoReturn:
        """Look again and again until cancelled; the reading is done in a thread.

        Nothing that the file does ends it. What `on_change` raises does: that is a mistake of ours.
        """
        while True:
            await asyncio.sleep(every_seconds)
            if self._path is not None:
                self._take(await asyncio.to_thread(self._look))

    def _look(self) -> _Found | None:
        """What is in the file; None where it is as it was. Changes nothing here."""
        assert self._path is not None
        try:
            # Before it is opened: a file that comes into its place meanwhile is seen next time.
            state = self._path.stat()
            seen = _Seen(state.st_ino, state.st_mtime_ns, state.st_size)
            if seen == self._seen:
                return None
            return _Found(seen, networks.read(self._path), None)
        except TableError as why:
            return _Found(seen, None, str(why))
        except OSError as why:
            return _Found(None, None, why.strerror or type(why).__name__)

    def _take(self, found: _Found | None, *, at_start: bool = False) -> bool:
        """Let it come into force, or say why not; once for each state of the file."""
        if found is None:
            return False
        self._seen = found.seen
        if found.table is None:
            if found.refused_because != self._refused_because or found.seen is not None:
                in_force = "built-in" if at_start else "the one before"
                log.warning(
                    "networks-refused",
                    file=str(self._path),
                    why=found.refused_because,
                    in_force=in_force,
                    identity=self.table.identity,
                )
            self._refused_because = found.refused_because
            return False
        self._refused_because = None
        if found.table.identity == self.table.identity and not at_start:
            return False
        self.table = found.table
        log.info(
            "networks-loaded",
            file=str(self._path),
            ranges=len(found.table.ipv4) + len(found.table.ipv6),
            identity=found.table.identity,
        )
        if self._on_change is not None and not at_start:
            self._on_change(self.table)
        return True
