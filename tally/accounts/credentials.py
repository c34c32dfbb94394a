"""What staff sign in with: passwords, codes of an authenticator app, one-time set-up links. No I/O.

Passwords are kept as argon2id with OWASP's parameters (19 MiB, 2 passes, 1 lane): 25 to 40 ms and
19 MiB for each look, of whoever asks. So looking blocks, and whoever serves many bounds how many
look at once (tally/console/accounts.py).
"""

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass

import argon2
import pyotp
import segno

from tally.accounts.sealing import Seal, SealError

PASSWORD_CHARACTERS_MIN = 12
PASSWORD_CHARACTERS_MAX = 200
SET_UP_SECONDS = 24 * 3600
"""How long a set-up link is good."""
CODE_SECONDS = 30
CODE_DIGITS = 6
DRIFT_STEPS = 1
"""How far an authenticator's clock may be off, either way."""

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODYS = _hasher.hash(secrets.token_urlsafe(32))
"""What an unknown name's password is compared with, so that it takes as long."""

_TOO_EASY = (
    *("password", "passw0rd", "qwertyuiop", "1q2w3e4r5t", "asdfghjkl", "iloveyou", "letmein"),
    *("woaini", "admin", "dianzan", "welcome", "abcdefgh"),
)
"""What of a password is worth nothing, whatever stands around it; digits neither."""
_WORTH_CHARACTERS_MIN = 5


def password_problem(password: str, name: str) -> str | None:
    """Why this password is not taken, in a word; None where it is. Length is what counts (NIST SP
    800-63B): no rules about kinds of characters, but the best-known ones are not taken."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        return "too-short"
    if len(password) > PASSWORD_CHARACTERS_MAX:
        return "too-long"
    rest = password.casefold()
    for worthless in (name, *_TOO_EASY):
        rest = rest.replace(worthless, "")
    if len({character for character in rest if not character.isdigit()}) < _WORTH_CHARACTERS_MIN:
        return "too-easy"
    return None


def hash_password(password: str) -> str:
    """Blocks for 25 to 40 ms, and takes 19 MiB."""
    return _hasher.hash(password)


def check_password(password_hash: str | None, password: str) -> bool:
    """The same. None (nobody, or somebody without a password) takes as long, and is False."""
    if len(password) > PASSWORD_CHARACTERS_MAX:
        password = ""
    try:
        _hasher.verify(password_hash or _NOBODYS, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return password_hash is not None


def is_old(password_hash: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def new_totp_secret() -> bytes:
    return secrets.token_bytes(20)


def matching_step(secret: bytes, code: str, now: float) -> int | None:
    """The 30 s step whose code this is, of those within DRIFT_STEPS of now; None = of none. Whoever
    takes it must see to it that no step is taken twice."""
    code = code.replace(" ", "")
    if len(code) != CODE_DIGITS or not (code.isascii() and code.isdigit()):
        return None
    totp = pyotp.TOTP(_base32(secret), digits=CODE_DIGITS, interval=CODE_SECONDS)
    current = int(now) // CODE_SECONDS
    found = None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.generate_otp(step), code):
            found = step
    return found


def code_at(secret: bytes, now: float) -> str:
    """What an authenticator app shows."""
    totp = pyotp.TOTP(_base32(secret), digits=CODE_DIGITS, interval=CODE_SECONDS)
    return totp.generate_otp(int(now) // CODE_SECONDS)


def totp_text(secret: bytes) -> str:
    """To be typed into an app, in groups of four."""
    text = _base32(secret)
    return " ".join(text[n : n + 4] for n in range(0, len(text), 4))


def totp_picture(secret: bytes, name: str) -> str:
    """To be taken in by an app's camera: SVG, without styles."""
    address = pyotp.TOTP(_base32(secret)).provisioning_uri(name=name, issuer_name="Dianzan")
    code = segno.make(address, error="m", micro=False)
    return code.svg_inline(border=1, omitsize=True, svgclass=None, lineclass=None)


def _base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a set-up link says, once it was opened."""

    staff: int
    mark: str
    """Of the account as it was: it is another one as soon as the link was used."""


def mark_of(password_hash: str | None, totp_secret: bytes | None, totp_step: int) -> str:
    held = [password_hash, totp_secret.hex() if totp_secret else None, totp_step]
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()[:32]


def close_set_up(seal: Seal, set_up: SetUp, now: float) -> str:
    """The secret part of a set-up link."""
    text = json.dumps([set_up.staff, set_up.mark, int(now) + SET_UP_SECONDS])
    return base64.urlsafe_b64encode(seal.close(text.encode(), b"set-up")).decode().rstrip("=")


def open_set_up(seal: Seal, token: str, now: float) -> SetUp | None:
    """None where it is not one of ours, or too old. Whether it was used, its mark says."""
    try:
        sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        staff, mark, until = json.loads(seal.open(sealed, b"set-up"))
    except (SealError, ValueError):
        return None
    return SetUp(staff, mark) if now < until else None
