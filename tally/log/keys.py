"""The keys of the verifiable log: what signs checkpoints and publications, what makes salts.

One file, made once, readable by its owner only; a file apart from keys.json, because no edge needs
it: whoever takes over an edge cannot sign a tally.

    {
      "name": "dianzan-1a2b3c4d",
      "signing": "64 hex digits",
      "salts": "64 hex digits"
    }

`name` is how the key is called in signed notes, and begins every log's origin. It may be changed
as long as nothing was signed. `signing` is the seed of an Ed25519 key. Out of `salts` come the
salts of all leaves: whoever learns them before the close learns, of every receipt that is shown to
him, whom it liked, by trying all candidates.

The database remembers which keys its logs were begun with, and takes no others (store.py): a
lost file cannot be replaced by a new one. Keep a copy off the machine. There is no rotation: a key
that became known is answered by a new installation, and by saying so.
"""

import contextlib
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from tally.log.signed_note import SignerKey, is_key_name
from voting.whole_files import written_aside


class LogKeysError(Exception):
    """The file of the log's keys is missing or damaged; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Never in a log, never in an error's text; the repr has the name alone."""

    name: str
    signing: bytes = field(repr=False)
    salts: bytes = field(repr=False)
    last_signed: Path | None = field(default=None, compare=False)
    """The file of what they signed last (last_signed.py); None = they remember nothing."""

    @property
    def signer(self) -> SignerKey:
        return SignerKey(self.name, self.signing)

    def campaign_salts(self, campaign: int) -> bytes:
        """The key of one campaign's salts: who learns it learns nothing of another campaign's."""
        return hmac.digest(self.salts, b"campaign" + campaign.to_bytes(2, "big"), "sha256")

    @property
    def salts_check(self) -> bytes:
        """Tells whether two have the same salts, and nothing else of them."""
        return hmac.digest(self.salts, b"check", "sha256")

    @classmethod
    def make(cls) -> "LogKeys":
        """All of a new installation's."""
        signing = secrets.token_bytes(32)
        public = SignerKey("new", signing).verifier.public
        name = f"dianzan-{hashlib.sha256(public).hexdigest()[:8]}"
        return cls(name, signing, secrets.token_bytes(32))

    @classmethod
    def load(cls, path: Path, last_signed: Path | None = None) -> "LogKeys":
        """Out of the file; `last_signed` is for whoever signs."""
        try:
            text = path.read_text()
        except FileNotFoundError:
            raise LogKeysError(
                f"no file of the log's keys at {path}: copy the installation's, or let "
                "`dianzan publish` make the first one"
            ) from None
        except OSError as why:
            raise LogKeysError(
                f"the file of the log's keys {path} cannot be read: {why.strerror}"
            ) from None
        except ValueError:
            raise _damaged(path) from None
        try:
            held = json.loads(text)
            keys = cls(
                held["name"],
                bytes.fromhex(held["signing"]),
                bytes.fromhex(held["salts"]),
                last_signed,
            )
            if not is_key_name(keys.name) or {len(keys.signing), len(keys.salts)} != {32}:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # No cause: its text could quote a key.
            raise _damaged(path) from None
        return keys

    @classmethod
    def load_or_make(cls, path: Path, last_signed: Path | None = None) -> "LogKeys":
        """Load, or make the file first. Whoever comes second loads what the first one made."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # A link fails where the name exists, so two makers cannot end with two sets of keys.
            with (
                written_aside(path, cls.make()._text().encode(), 0o600) as aside,
                contextlib.suppress(FileExistsError),
            ):
                path.hardlink_to(aside)
        return cls.load(path, last_signed)

    def _text(self) -> str:
        return json.dumps(
            {"name": self.name, "signing": self.signing.hex(), "salts": self.salts.hex()}
        )


def _damaged(path: Path) -> LogKeysError:
    return LogKeysError(f"the file of the log's keys {path} is damaged: restore it from a copy")
