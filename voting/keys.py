"""The keys of one installation: what signs tokens, seals receipts and makes pseudonyms.

One file, made once, readable by its owner only. Every edge of an installation needs the same one.

    {
      "device": {"1": "64 hex digits", "2": "64 hex digits"},
      "signs_from": {"2": 1800000060},
      "receipt": "64 hex digits",
      "pseudonym": "64 hex digits"
    }

Device keys sign tokens, and what challenges and views are signed with is derived from them. Two
are live at most: `rotated` adds one and keeps the one that signs until then, so a token survives
one rotation, and two only if it was signed anew in between, which an edge does for whoever holds a
good one and asks (POST /v1/devices/proof). That goes for tokens made with a stolen key as well:
after an ordinary rotation whoever has it keeps what it made, for ever if it likes, and makes more
until the next one. A key that became known is answered by `without_leaked`: all old ones go at
once, and with them every token in use.

A new key of `rotated` signs only from `signs_from` on (epoch seconds; not there = always did): by
then every edge has read the file again, and knows the key before the first token signed with it
comes. Edges' clocks may differ by what is left of that delay after their next look at the file,
50 s. One of `without_leaked` signs at once: until all edges have looked, 10 s, one does not take
what another signs.

A crash while the file is written leaves the old one; what was being written beside it holds keys
too, is closed to others, and is replaced by the next attempt.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from voting.whole_files import written_aside

SIGNS_AFTER_SECONDS = 60
"""From the moment a key was added to the moment it signs."""


class KeyFileError(Exception):
    """The key file is missing or damaged; the message says what to do."""


class CannotRotate(Exception):
    """Now is no time for a new key; the message says why."""


@dataclass(frozen=True, slots=True)
class Keys:
    """All 32 bytes long. Never in a log, never in an error's text."""

    device: dict[int, bytes]
    """Key id (1 to 255) -> key that signs device tokens."""
    receipt: bytes
    pseudonym: bytes
    """Makes a device's pseudonym out of its id: who destroys it cuts every stored vote off from
    the tokens in browsers."""
    signs_from: Mapping[int, int] = field(default_factory=dict)
    """Key id -> epoch seconds from which on it signs; a key that is not here always did."""

    def __repr__(self) -> str:
        return f"<Keys of {len(self.device)} device key(s)>"

    def signing(self, now: float) -> int:
        """Id of the device key that signs now: the last one whose time has come. Where a clock
        stands before all of their times, the first one."""
        starts = self.signs_from
        if len(self.device) == 1:
            return next(iter(self.device))
        due = [key_id for key_id in self.device if starts.get(key_id, 0) <= now]
        if not due:
            return min(self.device, key=lambda key_id: (starts[key_id], key_id))
        return max(due, key=lambda key_id: (starts.get(key_id, 0), key_id))

    def derived(self, use: str) -> dict[int, bytes]:
        """Key id -> a key for another use than tokens. Whoever learns one learns nothing of the
        device keys or of another use's keys."""
        person = f"dz-{use}".encode()
        return {
            key_id: hashlib.blake2b(key=key, digest_size=32, person=person).digest()
            for key_id, key in self.device.items()
        }

    @property
    def identity(self) -> bytes:
        """Makes devices that follow from something: from what portals say of their users, from the
        click of a form. It lasts as the pseudonyms' key
        does, which it is derived from: people stay who they are when tokens' keys are rotated, and
        who destroys that one cuts votes off from people too."""
        return hashlib.blake2b(key=self.pseudonym, digest_size=32, person=b"dz-identity").digest()

    def rotated(self, now: float) -> "Keys":
        """With a new device key beside the one that signs now; CannotRotate while the last new one
        has not begun to."""
        waiting = max((at - now for at in self.signs_from.values()), default=0)
        if waiting > 0:
            raise CannotRotate(
                f"the newest key begins to sign in {math.ceil(waiting)} s; rotate again after that"
            )
        signing = self.signing(now)
        new = signing % 255 + 1
        return replace(
            self,
            device={signing: self.device[signing], new: secrets.token_bytes(32)},
            signs_from={
                **{k: at for k, at in self.signs_from.items() if k == signing},
                new: int(now) + SIGNS_AFTER_SECONDS,
            },
        )

    def without_leaked(self, now: float) -> "Keys":
        """With one new device key, which signs at once, and no other: all tokens, challenges and
        views made until now are worth nothing. Its id is no old one's."""
        newest = max(self.device, key=lambda key_id: (self.signs_from.get(key_id, 0), key_id))
        new = newest % 255 + 1
        return replace(self, device={new: secrets.token_bytes(32)}, signs_from={new: int(now)})

    @classmethod
    def make(cls) -> "Keys":
        """All of a new installation's."""
        return cls({1: secrets.token_bytes(32)}, secrets.token_bytes(32), secrets.token_bytes(32))

    @classmethod
    def load(cls, path: Path) -> "Keys":
        try:
            text = path.read_text()
        except FileNotFoundError:
            raise KeyFileError(
                f"no key file at {path}: copy the installation's, "
                "or make the first one with `dianzan keys make`"
            ) from None
        except OSError as why:
            raise KeyFileError(f"the key file {path} cannot be read: {why.strerror}") from None
        except ValueError:
            raise _damaged(path) from None
        try:
            held = json.loads(text)
            keys = cls(
                {int(key_id): bytes.fromhex(key) for key_id, key in held["device"].items()},
                bytes.fromhex(held["receipt"]),
                bytes.fromhex(held["pseudonym"]),
                {int(key_id): int(at) for key_id, at in held.get("signs_from", {}).items()},
            )
            lengths = {len(key) for key in (*keys.device.values(), keys.receipt, keys.pseudonym)}
            if lengths != {32} or not all(0 < key_id < 256 for key_id in keys.device):
                raise ValueError
            if not keys.device or not keys.signs_from.keys() <= keys.device.keys():
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            # No cause: its text could quote a key.
            raise _damaged(path) from None
        return keys

    @classmethod
    def load_or_make(cls, path: Path) -> "Keys":
        """Load, or make the file first. Whoever comes second loads what the first one made."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # A link fails where the name exists, so two makers cannot end with two sets of keys.
            with (
                _written_aside(path, cls.make()) as aside,
                contextlib.suppress(FileExistsError),
            ):
                path.hardlink_to(aside)
        return cls.load(path)

    def _text(self) -> str:
        return json.dumps(
            {
                "device": {str(key_id): key.hex() for key_id, key in self.device.items()},
                "signs_from": {str(key_id): at for key_id, at in self.signs_from.items()},
                "receipt": self.receipt.hex(),
                "pseudonym": self.pseudonym.hex(),
            }
        )


def rotate(path: Path, now: float, *, leaked: bool = False) -> Keys:
    """Put a new device key into the file, and say what is in it then; `leaked`: and no old one.
    One at a time: who comes second waits, and finds the first one's key waiting for its time
    (CannotRotate), unless its own were leaked."""
    path = path.resolve()  # a link stays a link
    with _locked(path.parent):
        held = Keys.load(path)
        keys = held.without_leaked(now) if leaked else held.rotated(now)
        with _written_aside(path, keys) as aside:
            aside.replace(path)
    return keys


def _written_aside(path: Path, keys: Keys) -> AbstractContextManager[Path]:
    """A file beside `path` with these keys. It has the owner of the file that it may replace."""

    def keep_owner(descriptor: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            _keep_owner(descriptor, path.stat())

    return written_aside(path, keys._text().encode(), 0o600, adjust=keep_owner)


def _keep_owner(descriptor: int, before: os.stat_result) -> None:
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except PermissionError:
        # Nobody reads it by its group, so that may go. Its owner may not: the edges, which run as
        # that one, could not read what we would leave them.
        if before.st_uid != os.geteuid():
            raise CannotRotate("the key file is another user's: rotate as that one") from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among those who ask this; ends with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _damaged(path: Path) -> KeyFileError:
    return KeyFileError(f"the key file {path} is damaged: restore it from a copy")
