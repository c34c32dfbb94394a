"""Secrets that the database keeps without being able to read them: staff's TOTP secrets, what
webhooks are signed with.

Sealed by AES-256-GCM under the installation's console key, one file made once and readable by its
owner only: {"seal": "64 hex digits"}. Who has a copy of the database alone has none of them.
Without the file they are lost: staff enrol anew (`dianzan staff reset`), destinations get new
secrets.
"""

import contextlib
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voting.whole_files import written_aside

_NONCE_BYTES = 12


class SealError(Exception):
    """The console's key file is missing or damaged, or something was sealed by another key or for
    another use. The message says what to do and quotes no secret."""


class Seal:
    """Seals and opens. Each sealed text belongs to one use, such as b"totp 7": moved elsewhere in
    the database it does not open."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "<Seal>"

    def close(self, secret: bytes, use: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, use)

    def open(self, sealed: bytes, use: bytes) -> bytes:
        """What was sealed for this use; SealError where it was not, or by another key."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], use)
        except (InvalidTag, ValueError):
            raise SealError("sealed by another console key, or for another use") from None

    @classmethod
    def load_or_make(cls, path: Path) -> "Seal":
        """Load the key file, or make it first. Who comes second loads what the first one made."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps({"seal": secrets.token_bytes(32).hex()})
            # A link fails where the name exists, so two makers cannot end with two keys.
            with (
                written_aside(path, text.encode(), 0o600) as aside,
                contextlib.suppress(FileExistsError),
            ):
                path.hardlink_to(aside)
        try:
            key = bytes.fromhex(json.loads(path.read_text())["seal"])
            if len(key) != 32:
                raise ValueError
        except OSError as why:
            raise SealError(
                f"the console's key file {path} cannot be read: {why.strerror}"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise SealError(
                f"the console's key file {path} is damaged: restore it from a copy"
            ) from None
        return cls(key)
