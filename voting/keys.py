"""The keys of one installation: what signs tokens, seals receipts and makes pseudonyms.

One file, made once, readable by its owner only. Every edge of an installation needs the same one.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


class KeyFileError(Exception):
    """The key file is missing or damaged; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Keys:
    """All 32 bytes long. Never in a log, never in an error's text."""

    device: dict[int, bytes]
    """Key id (1 to 255) -> key that signs device tokens; the newest has the highest id."""
    receipt: bytes
    pseudonym: bytes
    """Makes a device's pseudonym out of its id: who destroys it cuts every stored vote off from
    the tokens in browsers."""

    def __repr__(self) -> str:
        return f"<Keys of {len(self.device)} device key(s)>"

    @classmethod
    def load(cls, path: Path) -> "Keys":
        try:
            text = path.read_text()
        except FileNotFoundError:
            raise KeyFileError(
                f"no key file at {path}: copy the installation's, "
                "or let `dianzan up` make the first one"
            ) from None
        except OSError as why:
            raise KeyFileError(f"the key file {path} cannot be read: {why.strerror}") from None
        try:
            held = json.loads(text)
            keys = cls(
                {int(key_id): bytes.fromhex(key) for key_id, key in held["device"].items()},
                bytes.fromhex(held["receipt"]),
                bytes.fromhex(held["pseudonym"]),
            )
            lengths = {len(key) for key in (*keys.device.values(), keys.receipt, keys.pseudonym)}
            if lengths != {32} or not all(0 < key_id < 256 for key_id in keys.device):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            # No cause: its text could quote a key.
            raise KeyFileError(f"the key file {path} is damaged: restore it from a copy") from None
        return keys

    @classmethod
    def load_or_make(cls, path: Path) -> "Keys":
        """Load, or make the file first. Whoever comes second loads what the first one made."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps(
                {
                    "device": {"1": secrets.token_hex(32)},
                    "receipt": secrets.token_hex(32),
                    "pseudonym": secrets.token_hex(32),
                }
            )
            # Whole or not at all: written aside, fsynced, then linked into place. A link fails
            # where the name exists, so two makers cannot end with two sets of keys.
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.unlink(missing_ok=True)  # of a process that was killed here under the same pid
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                path.hardlink_to(aside)
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        return cls.load(path)
