"""Identity: what a portal says of a user of its own, signed, and the device that follows from it.

An assertion is a compact JWS with JWT claims, signed by the portal with its own Ed25519 key:

    {"alg": "EdDSA", "typ": "JWT"} . {"iss", "aud", "sub", "iat", "exp"} . signature

    iss   the portal's origin, as campaign.toml has it under [portal.keys]
    aud   the campaign's id
    sub   the portal's stable id of the user, 1 to 200 characters, any: an account's number, an
          openid of WeChat
    iat   when it was made, exp when it ends: at most 10 minutes later (epoch seconds)

Promise: only who holds a portal's private key makes an assertion that is taken, for that portal and
that campaign alone; we hold public keys, so whoever reads all that we have forges nobody. One
subject is one device, on every browser and however often its assertion is sent again, and nobody
without the installation's key tells a subject from its device or back. The subject itself goes no
further than the functions below: it is in no store, no log and no answer.

Known weakness: whoever takes an assertion on its way, while it is valid, becomes that device. A
portal's word is taken: one that signs for people who are not there makes as many devices as it
likes, within the limits of their networks and before the eyes of the detectors. Subjects are
compared character by character: "e" with an accent as one character or as two are two people.

No JWT library: one algorithm, one form and five claims are less to read than what keeps a library
from taking more ("none", a public key as an HMAC's secret, keys out of the header, a lenient
base64); the curve itself is `cryptography`'s.
"""

import binascii
import enum
import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voting.campaign import Campaign
from voting.device import following_device_id
from voting.keys import Keys

ASSERTION_CHARACTERS_MAX = 3_900
"""As many as a subject of 200 characters can need, however it is escaped; and what a request's body
has room for."""
SUBJECT_CHARACTERS_MAX = 200
VALID_SECONDS_MAX = 600
CLOCK_SKEW_SECONDS = 60
_KEY_SIZE, _SIGNATURE_SIZE = 32, 64
_EPOCH_SECONDS_MAX = 1e11
"""Of any moment: beyond it a number is none."""


class Flaw(enum.StrEnum):
    """What is wrong with an assertion, in a word for metrics."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    PORTAL = "unknown-portal"
    AUDIENCE = "audience"
    TIME = "time"
    SIGNATURE = "signature"


class Refused(NamedTuple):
    """An assertion that is not taken."""

    flaw: Flaw
    detail: str
    """For the portal's programmer. Nothing of the assertion is in it but its times."""
    portal: str = ""
    """Which one it says it is of, where that is one of the campaign's: unproven."""


class Assertion(NamedTuple):
    """One that says what it should; whether its portal signed it is `is_signed`'s to say."""

    campaign: str
    """Campaign.id"""
    portal: str
    """Origin; one with a key in that campaign."""
    subject: str
    signed: bytes
    """What the signature is over."""
    signature: bytes
    key: bytes
    """The portal's public key."""

    def __repr__(self) -> str:
        return f"<Assertion of {self.portal} for {self.campaign}>"

    def is_signed(self) -> bool:
        """Whether the portal signed it. Costs 0.1 ms: the dearest thing that a request to the
        edge can ask for."""
        try:
            _public_key(self.key).verify(self.signature, self.signed)
        except InvalidSignature:
            return False
        return True


def read_assertion(text: str, campaign: Campaign, now: float) -> Assertion | Refused:
    """What the text says, as far as it can be told without looking at its signature. Pure."""
    if len(text) > ASSERTION_CHARACTERS_MAX:
        return _malformed(f"longer than {ASSERTION_CHARACTERS_MAX} characters")
    parts = text.split(".")
    if len(parts) != 3 or not text.isascii():
        return _malformed("must be a compact JWT: three parts in base64url, points between")
    header, claims, signature = map(_decoded, parts)
    if header is None or claims is None or signature is None:
        return _malformed("a part is no base64url (without padding)")
    head, said = _object(header), _object(claims)
    if head is None:
        return _malformed("the header is no JSON object, or names a member twice")
    if said is None:
        return _malformed("the claims are no JSON object, or name a member twice")
    if head.get("alg") != "EdDSA":
        return Refused(Flaw.ALGORITHM, "alg must be EdDSA (Ed25519); nothing else is taken")
    if "crit" in head:
        return Refused(Flaw.ALGORITHM, "crit: no extension is understood here")
    kind = head.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        return _malformed("typ must be JWT, or left out")
    portal = said.get("iss")
    key = campaign.portal_keys.get(portal) if isinstance(portal, str) else None
    if not isinstance(portal, str) or key is None:
        return Refused(
            Flaw.PORTAL,
            "iss is no portal of this campaign that has a key: it must be the portal's origin as "
            "in [portal.keys], scheme and host without a slash at the end",
        )
    if said.get("aud") not in (campaign.id, [campaign.id]):
        detail = "aud must be the id of the campaign that is asked for"
        return Refused(Flaw.AUDIENCE, detail, portal)
    fault = _fault_of_subject(said.get("sub"))
    if fault:
        return Refused(Flaw.MALFORMED, fault, portal)
    untimely = _fault_of_times(said, now)
    if untimely:
        return Refused(Flaw.TIME, untimely, portal)
    if len(signature) != _SIGNATURE_SIZE:
        return Refused(Flaw.SIGNATURE, "the signature must be the 64 bytes of Ed25519", portal)
    signed = f"{parts[0]}.{parts[1]}".encode()
    return Assertion(campaign.id, portal, said["sub"], signed, signature, key)


NOT_SIGNED = Refused(
    Flaw.SIGNATURE,
    "the signature is not of this portal's key over the two parts before it: is it the key whose "
    "public half is in [portal.keys], and was nothing changed after signing?",
)
"""What there is to say where `is_signed` is false."""


def device_of(assertion: Assertion, keys: Keys, *, shards: int) -> bytes:
    """The id of the device that this subject is: the same on every browser and after each rotation
    of the keys that sign tokens. `shards`: Campaign.derived_shards."""
    parts = (assertion.campaign, assertion.portal, assertion.subject)
    return following_device_id(
        keys.identity, b"dz-identity", *(part.encode() for part in parts), shards=shards
    )


# Reading, strictly: there is one spelling of each assertion.


def _malformed(detail: str) -> Refused:
    return Refused(Flaw.MALFORMED, detail)


def _decoded(part: str) -> bytes | None:
    """The bytes of a part, or None where it is not the one spelling of them."""
    try:
        raw = binascii.a2b_base64(
            part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4), strict_mode=True
        )
    except ValueError:
        return None
    return raw if urlsafe_b64encode(raw).rstrip(b"=") == part.encode() else None


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_no_such_number)
    except (ValueError, RecursionError):  # what is no UTF-8 is a ValueError too
        return None
    return read if isinstance(read, dict) else None


def _members(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, value in pairs:
        # One reader may take the first of two, another one the last.
        if name in held:
            raise ValueError("a member twice")
        held[name] = value
    return held


def _no_such_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _fault_of_subject(subject: Any) -> str | None:
    if not isinstance(subject, str):
        return "sub must be text: put a number into quotes"
    if not 1 <= len(subject) <= SUBJECT_CHARACTERS_MAX:
        return f"sub must have 1 to {SUBJECT_CHARACTERS_MAX} characters"
    try:
        subject.encode()
    except UnicodeEncodeError:
        return "sub holds half a character (a lone surrogate)"
    return None


def _fault_of_times(said: dict[str, Any], now: float) -> str | None:
    iat, exp, nbf = said.get("iat"), said.get("exp"), said.get("nbf", 0)
    if not (_is_moment(iat) and _is_moment(exp) and _is_moment(nbf)):
        return "iat and exp must be there, in seconds since 1970 (not milliseconds)"
    if not 0 < exp - iat <= VALID_SECONDS_MAX:
        return f"exp must come after iat, by {VALID_SECONDS_MAX} seconds at most"
    if exp + CLOCK_SKEW_SECONDS <= now:
        return f"expired {now - exp:.0f} s ago: make one for each page, or look at the clock"
    if max(iat, nbf) > now + CLOCK_SKEW_SECONDS:
        return f"begins in {max(iat, nbf) - now:.0f} s: look at the clock"
    return None


def _is_moment(value: Any) -> TypeGuard[float]:
    # A bool is an int to Python.
    return type(value) in (int, float) and 0 <= value < _EPOCH_SECONDS_MAX


@lru_cache(maxsize=1_024)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


# Public keys, as people hand them over.

_DER_PUBLIC = bytes.fromhex("302a300506032b6570032100")
"""Before the 32 bytes in what openssl writes into a PEM file."""
_DER_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")


class KeyFault(enum.StrEnum):
    """Why a text is no portal's public key."""

    NO_BASE64 = "is no base64"
    PRIVATE = "is a private key: make a new pair, and write only its public half here"
    LENGTH = "is no Ed25519 public key: that has 32 bytes"
    POINT = "is no Ed25519 public key: a part of it is missing, or it is another text"
    WEAK = "is a key with which anybody can sign"


def read_key(text: str) -> bytes | KeyFault:
    """The 32 bytes of a portal's public key: they in base64, or what stands between the lines of
    the PEM file that openssl makes of it."""
    bare = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        raw = binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except ValueError:
        return KeyFault.NO_BASE64
    if raw.startswith(_DER_PRIVATE) or len(raw) == 2 * _KEY_SIZE:  # libsodium's has 64 bytes
        return KeyFault.PRIVATE
    raw = raw.removeprefix(_DER_PUBLIC) if len(raw) > _KEY_SIZE else raw
    if len(raw) != _KEY_SIZE:
        return KeyFault.LENGTH
    return _fault_of_point(raw) or raw


def fingerprint(key: bytes) -> str:
    """What people compare on the telephone: SHA-256 of the key's 32 bytes, 32 of its digits."""
    digits = hashlib.sha256(key).hexdigest()[:32]
    return " ".join(digits[at : at + 4] for at in range(0, 32, 4))


def key_shown(stored: str) -> str:
    """The fingerprint of a key as the database and campaign.toml have it."""
    return fingerprint(binascii.a2b_base64(stored))


_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_WEAK_Y = frozenset(
    {
        *(0, 1, _P - 1),
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""y of the eight points of small order: a signature under one of these can be made by anybody."""


def _fault_of_point(raw: bytes) -> KeyFault | None:
    """What speaks against these 32 bytes as a key: OpenSSL looks at them only when it verifies, and
    takes weak ones. 32 zero bytes, as stand in many an example, are one."""
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    if y % _P in _WEAK_Y:
        return KeyFault.WEAK
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    on_curve = y < _P and pow(x_squared, (_P - 1) // 2, _P) == 1
    return None if on_curve else KeyFault.POINT
