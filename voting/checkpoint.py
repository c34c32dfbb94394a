"""A checkpoint: a signed statement of a log's size and root at one moment, as C2SP has it.

    dianzan-1a2b3c4d/spring/votes          origin: which log of which installation
    20852163                               leaves
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=      root, base64
    time 2026-07-05T04:00:00Z              lines of ours: what else is said, one each

The signatures are below, after an empty line (tally/log/signed_note.py). Reading does not check
them.

Sources: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note.
"""

import base64
from dataclasses import dataclass

from voting.merkle import HASH_BYTES


class CheckpointError(ValueError):
    """A text that is no checkpoint, or what would not become one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed."""

    origin: str
    size: int
    root: bytes
    lines: tuple[str, ...] = ()
    """Extension lines: none is empty."""

    def text(self) -> str:
        """The note's text, which ends with a newline."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.lines)
        if self.size < 0 or not all(line and line.isprintable() for line in lines):
            raise CheckpointError("a line of a checkpoint is empty or not printable")
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def read(cls, text: str) -> "Checkpoint":
        """Out of a note's text, which ends with a newline."""
        try:
            origin, size, root, *lines, end = text.split("\n")
            checkpoint = cls(origin, int(size), base64.b64decode(root, validate=True), tuple(lines))
            # Each statement has one form: an int() takes "+7" and "1_000" as well.
            if end or len(checkpoint.root) != HASH_BYTES or checkpoint.text() != text:
                raise ValueError
        except ValueError:
            raise CheckpointError("this is no checkpoint") from None
        return checkpoint

    @classmethod
    def of_note(cls, note: str) -> "Checkpoint":
        """Out of a signed note. Its signatures are not looked at."""
        text, _, _ = note.rpartition("\n\n")
        return cls.read(f"{text}\n")
