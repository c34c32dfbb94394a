"""Signed notes: a text that ends with a newline, an empty line, and a line per signature.

    — dianzan-1a2b3c4d Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5...

A signature line carries the key's name and, in base64, 4 bytes that tell its key from others of
that name and the Ed25519 signature of the text. A verifier key is one line too, for people to
compare: name, those 4 bytes in hex, and 0x01 with the public key in base64, by plus signs.

Source: https://c2sp.org/signed-note.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ED25519 = b"\1"
_NAME = re.compile(r"[^\s+]+")
_SIGNATURES_MAX = 100


class NoteError(ValueError):
    """A note that no known key signed, or a text that is no note."""


def is_key_name(name: str) -> bool:
    """Whether a key may have this name: not empty, no white space, no plus sign."""
    return _NAME.fullmatch(name) is not None


def key_id(name: str, public: bytes) -> bytes:
    """The 4 bytes that tell a key from others of its name."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key, and its name."""

    name: str
    public: bytes

    def __str__(self) -> str:
        kind_and_key = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{key_id(self.name, self.public).hex()}+{kind_and_key}"

    @classmethod
    def read(cls, line: str) -> "VerifierKey":
        """Out of its line; NoteError where that is none, or was not copied whole."""
        try:
            name, id_, encoded = line.strip().split("+", 2)
            kind_and_key = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise NoteError("this is no verifier key") from None
        key = cls(name, kind_and_key[1:])
        if kind_and_key[:1] != _ED25519 or len(key.public) != 32 or not is_key_name(name):
            raise NoteError("this is no verifier key of Ed25519")
        if id_ != key_id(name, key.public).hex():
            raise NoteError("the verifier key is damaged: its id is another key's")
        return key


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A key's secret half, and its name. Its repr tells nothing of the secret."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise NoteError("a key's name is empty, or holds white space or a plus sign")

    @property
    def verifier(self) -> VerifierKey:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return VerifierKey(self.name, public.public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, text: str) -> str:
        """The note of this text, with our signature. The same text gives the same note."""
        _check_text(text)
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        line = base64.b64encode(key_id(self.name, self.verifier.public) + signature).decode()
        return f"{text}\n— {self.name} {line}\n"


def open_note(note: str, key: VerifierKey) -> str:
    """The text of a note that this key signed, whoever else did. Raises NoteError otherwise; also
    where a signature that claims to be this key's is not."""
    text, parted, below = note.rpartition("\n\n")
    text += "\n"
    lines = below.split("\n")
    if not parted or lines.pop() != "" or not 0 < len(lines) <= _SIGNATURES_MAX:
        raise NoteError("this is no signed note")
    _check_text(text)
    wanted = key_id(key.name, key.public)
    signed = False
    for line in lines:
        try:
            dash, name, encoded = line.split(" ")
            id_and_signature = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise NoteError("this is no signed note") from None
        if dash != "—" or len(id_and_signature) < 5 or not is_key_name(name):
            raise NoteError("this is no signed note")
        if name != key.name or id_and_signature[:4] != wanted:
            continue
        try:
            public = Ed25519PublicKey.from_public_bytes(key.public)
            public.verify(id_and_signature[4:], text.encode())
        except InvalidSignature:
            raise NoteError(f"the signature of {key.name} is wrong") from None
        signed = True
    if not signed:
        raise NoteError(f"{key.name} did not sign this note")
    return text


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text == "\n":
        raise NoteError("a note's text ends with a newline, and is not empty")
    if any(char != "\n" and (ord(char) < 0x20 or ord(char) == 0x7F) for char in text):
        raise NoteError("a note's text holds a control character")
