"""The key file while the edge runs: whoever rotates keys restarts nothing.

Every few seconds the file is read again, and what works with device keys learns them. A damaged
file is refused and the keys in use stay; nothing of its content is ever logged. A file with other
receipt or pseudonym keys is another installation's: tokens, receipts and what is stored would not
fit together any more, so it is refused as well (the edge takes it when it is started anew).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from voting.keys import KeyFileError, Keys

log = structlog.get_logger()

LOOK_EVERY_SECONDS = 10.0


class KeyWatch:
    """Follows one key file for those who want to learn of its keys."""

    def __init__(
        self, path: Path, keys: Keys, learners: tuple[Callable[[Keys], None], ...]
    ) -> None:
        """`keys` are those in use."""
        self._path = path
        self._learners = learners
        self._refused_because = ""
        self.keys = keys

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            self.look()

    def look(self) -> None:
        """Read the file now (0.1 ms)."""
        try:
            keys = Keys.load(self._path)
        except KeyFileError as why:
            self._refuse(str(why))
            return
        if (keys.receipt, keys.pseudonym) != (self.keys.receipt, self.keys.pseudonym):
            self._refuse(f"the key file {self._path} is of another installation")
            return
        self._refused_because = ""
        if keys == self.keys:
            return
        self.keys = keys
        for learn in self._learners:
            learn(keys)
        log.info("keys-learnt", ids=sorted(keys.device))

    def _refuse(self, why: str) -> None:
        # Once, not every ten seconds.
        if why != self._refused_because:
            log.error("keys-refused", why=why, in_use=sorted(self.keys.device))
            self._refused_because = why
