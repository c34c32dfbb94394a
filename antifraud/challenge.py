"""Challenges: work that a device does once, before it may vote or when its vote looks odd.

By the ALTCHA scheme, version 2, as the library `altcha` makes and checks it: find the counter for
which SHA-256(salt, nonce, counter) begins with what the server says. Two ways lead through:

    usual    2^bits counters at most, answered as soon as it is solved
    slow     a 16th of that, but not before `wait` seconds are over: for phones without power. The
             level of such a device says so (LOW_END)

and a third for no JavaScript at all: a `ticket`, a wait without work.

Why this algorithm. A client needs nothing but arithmetic: no WebCrypto, which pages without TLS and
old web views do not have, no WebAssembly; 100 lines of script, in a worker or in slices beside the
page. The server decides the counter beforehand (ALTCHA's "deterministic" way), which gives a work
that is bounded, where a search for leading zeros may take five times its mean, and any size between
two powers of sixteen. Making one costs the server one hash and two HMACs, checking one the same,
whatever its bits: 110 to 150 us each as measured with the library, five likes' worth, so whoever
makes and checks them bounds how many a second (voting/edge/issuing.py). What is misshapen or was
never ours is refused for 20 us. A memory-hard or iterated function (Argon2, PBKDF2) would close the
gap between a phone and a rented server from 400 times to 15, but cost us milliseconds for each
token that somebody asks for, which is a worse gift to an attacker than a cheap solution.

What it is not: a price. Rented cores do 10 million of these a second, so that the dearest one is a
tenth of a second there. It forces a client to run a program for each device, ties each solution to
a device and a network prefix, and takes time in which rates can be counted.

What a challenge is bound to stands in its `data`, signed with it: `for` is a keyed hash over
device, prefix, moment and kind, so that neither the device nor the address can be read from it. The
prefix should be a wide one (IPv4 /24, IPv6 /48): carriers change a phone's address from one
connection to the next, within such a prefix, and what is bound to the address alone would never be
taken from them. Who keeps record of spent ones (`Checked.nonce`) makes them serve once.

Several machines may make and check: where their clocks differ by less than 5 s, nobody notices but
who took the slow way, and waits so much longer or shorter.

Pure but for what the library does: it takes its random numbers from the system, and looks at the
system's clock once more when it checks (it must agree with `now` to a second).
"""

import base64
import enum
import hashlib
import hmac
import json
import math
import secrets
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import altcha

from antifraud import base64url
from antifraud.user_agents import FIRST_MODEL

BASE_BITS = 16
"""40,000 hashes on average: 0.15 s on a usual phone."""
MOST_BITS = 20
"""A million at most: 25 s on a phone that does 40,000 a second, the slowest that was considered."""
SLOW_BITS_LESS = 4
SLOW_WAIT_SECONDS = 10
"""At BASE_BITS, and so much more for each bit above it."""
VALID_SECONDS = 120
TICKET_VALID_SECONDS = 900
DWELL_SECONDS = 1.5
"""An answer to a solution is not given before, counted from the challenge."""

PHONE_HASHES_PER_SECOND_MAX = 4_000_000
HASHES_PER_SECOND_MAX = 20_000_000
"""No browser does more, with all its cores: a phone, anything else. The fastest phone that was
measured does a fourth of it."""

_ALGORITHM = "SHA-256"
_COUNTER_LEAST_PART = 4
"""A counter is at least this part of the most: no challenge is solved at once."""
_CLOCKS_MAY_DIFFER_SECONDS = 5.0
"""A challenge from this far in the future is one of just now, made by a clock that is ahead."""
_CLOCKS_USUALLY_DIFFER_SECONDS = 0.2
"""Nobody is called too fast for this."""
_SOLUTION_CHARACTERS_MAX = 3_000
_BINDING_SIZE = 12
_BOUND = struct.Struct(">12sQBBB")
_TICKET = struct.Struct(">BHIB")
_TICKET_MAC_SIZE = 13
_TICKET_LENGTH = 28


def difficulty(load: float, most_bits: int = MOST_BITS) -> int:
    """Bits of a challenge, given how many new devices a prefix asks for as a multiple of what it
    may: one bit more each time that doubles, up to `most_bits`."""
    if load <= 1:
        return BASE_BITS
    return min(most_bits, BASE_BITS + int(math.log2(min(load, 1e9))))


def slow_wait_seconds(bits: int) -> int:
    """How long the slow way takes where the usual one has so many bits."""
    return SLOW_WAIT_SECONDS * (1 + bits - BASE_BITS)


class Finding(enum.Enum):
    """What a solution, or a ticket, is."""

    SOLVED = "solved"
    MALFORMED = "malformed"
    REFUSED = "refused"
    """Forged, wrong, or for another device or prefix."""
    EXPIRED = "expired"
    EARLY = "early"
    """Right, and too soon for the slow way."""
    TOO_FAST = "too-fast"
    """Right, and sooner than a browser could have found it."""
    UNCHECKED = "unchecked"
    """Well-formed and bound as it should be; nobody looked further, for too many come."""


class Checked(NamedTuple):
    """A finding, with what else is known by it."""

    finding: Finding
    nonce: str = ""
    """Of a right solution: what may be spent once."""
    seconds_since: float = 0.0
    """Since the challenge was made."""
    wait_seconds: float = 0.0
    """EARLY: when to come back."""
    slow: bool = False
    """It went the slow way."""


class _Data(NamedTuple):
    """What we put into a challenge's `data`."""

    key_id: int
    at_ms: int
    bits: int
    wait_seconds: int
    bound_to: str


class Challenges:
    """Makes and checks challenges and tickets with these secrets (key id -> 32 bytes)."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._secrets = {key_id: _Secrets(key) for key_id, key in keys.items()}

    def make(
        self,
        key_id: int,
        device_id: bytes,
        prefix: bytes,
        now: float,
        *,
        bits: int = BASE_BITS,
        slow: bool = False,
    ) -> dict[str, Any]:
        """A challenge for this device at this prefix, as the client gets it. `bits` are those of
        the usual way; the slow one is worked out from them."""
        made_of = self._secrets[key_id]
        wait_seconds = slow_wait_seconds(bits) if slow else 0
        bits -= SLOW_BITS_LESS if slow else 0
        at_ms = int(now * 1000)
        data = {
            "key": key_id,
            "at": at_ms,
            "bits": bits,
            "wait": wait_seconds,
            "for": made_of.binding(device_id, prefix, at_ms, bits, wait_seconds),
        }
        most = 1 << bits
        least = most // _COUNTER_LEAST_PART
        made = altcha.create_challenge(
            _ALGORITHM,
            1,
            counter=least + secrets.randbelow(most - least),
            expires_at=int(now) + VALID_SECONDS,
            data=data,
            hmac_secret=made_of.challenge,
            hmac_key_secret=made_of.solution,
        )
        return made.to_dict()

    def check(
        self,
        solution: object,
        device_id: bytes,
        prefix: bytes,
        now: float,
        *,
        user_agent_class: int = 0,
        may_verify: Callable[[], bool] = lambda: True,
    ) -> Checked:
        """What a client's solution is: ALTCHA's payload as base64 or as an object. `may_verify` is
        asked once, after all that is cheap to see (20 us), before what is not (100 us more)."""
        payload = _read_payload(solution)
        data = _read_data(payload.challenge.parameters.data) if payload is not None else None
        if payload is None or data is None:
            return Checked(Finding.MALFORMED)
        made_of = self._secrets.get(data.key_id)
        if made_of is None or not hmac.compare_digest(
            made_of.binding(device_id, prefix, data.at_ms, data.bits, data.wait_seconds),
            data.bound_to,
        ):
            return Checked(Finding.REFUSED)
        # From here on we know that `data` was written by us, for this device at this prefix.
        since = now - data.at_ms / 1000
        if since > VALID_SECONDS:
            return Checked(Finding.EXPIRED)
        parameters, counter = payload.challenge.parameters, payload.solution.counter
        if (
            since < -_CLOCKS_MAY_DIFFER_SECONDS
            or _hash_of(parameters, counter) != payload.solution.derived_key
        ):
            return Checked(Finding.REFUSED)
        if not may_verify():
            return Checked(Finding.UNCHECKED)
        told = altcha.verify_solution(payload, made_of.challenge, hmac_key_secret=made_of.solution)
        if told.expired:
            return Checked(Finding.EXPIRED)
        if not told.verified:
            return Checked(Finding.REFUSED)
        slow = data.wait_seconds > 0
        checked = Checked(Finding.SOLVED, parameters.nonce, max(0.0, since), slow=slow)
        if slow:
            left = data.wait_seconds - checked.seconds_since
            return (
                checked if left <= 0 else checked._replace(finding=Finding.EARLY, wait_seconds=left)
            )
        # What seems to come from the future was timed by another clock: no time to judge by.
        if since >= 0 and solved_too_fast(counter, since, user_agent_class):
            return checked._replace(finding=Finding.TOO_FAST)
        return checked

    def ticket(self, key_id: int, device_id: bytes, prefix: bytes, now: float, bits: int) -> str:
        """For a form that can do no work: it is worth as much as a slow solution once its wait is
        over, to this device at this prefix. May be used more than once; it is the same device."""
        at_ms = int(now * 1000)
        body = _TICKET.pack(key_id, at_ms >> 32, at_ms & 0xFFFFFFFF, slow_wait_seconds(bits))
        mac = self._secrets[key_id].ticket_mac(body, device_id, prefix)
        return base64url.encode(body + mac)

    def check_ticket(self, ticket: str, device_id: bytes, prefix: bytes, now: float) -> Checked:
        """What a ticket is worth now."""
        if len(ticket) != _TICKET_LENGTH:
            return Checked(Finding.MALFORMED)
        raw = base64url.decode(ticket)
        if raw is None:
            return Checked(Finding.MALFORMED)
        body = raw[: _TICKET.size]
        key_id, high, low, wait_seconds = _TICKET.unpack(body)
        made_of = self._secrets.get(key_id)
        if made_of is None or not hmac.compare_digest(
            made_of.ticket_mac(body, device_id, prefix), raw[_TICKET.size :]
        ):
            return Checked(Finding.REFUSED)
        since = now - (high << 32 | low) / 1000
        if since > TICKET_VALID_SECONDS:
            return Checked(Finding.EXPIRED)
        if since < wait_seconds:
            left = min(wait_seconds - since, wait_seconds)
            return Checked(Finding.EARLY, wait_seconds=left, slow=True)
        return Checked(Finding.SOLVED, seconds_since=since, slow=True)


def solved_too_fast(counter: int, seconds: float, user_agent_class: int) -> bool:
    """Whether no browser of this kind tries so many counters in this time and what clocks usually
    differ by. Sees only the very hasty, and of phones alone, at MOST_BITS: below that the allowance
    covers the work, and who solves quickly may wait before handing in."""
    phone = user_agent_class >= FIRST_MODEL
    most = PHONE_HASHES_PER_SECOND_MAX if phone else HASHES_PER_SECOND_MAX
    return counter > most * (max(0.0, seconds) + _CLOCKS_USUALLY_DIFFER_SECONDS)


class _Secrets:
    """What one key signs with; the keys of each use are told apart."""

    __slots__ = ("_binding", "_ticket", "challenge", "solution")

    def __init__(self, key: bytes) -> None:
        def derived(person: bytes, size: int = 32) -> "hashlib.blake2b":
            return hashlib.blake2b(key=key, digest_size=size, person=person)

        self.challenge = derived(b"dz-challenge").digest()
        self.solution = derived(b"dz-solution").digest()
        self._binding = derived(b"dz-binding", _BINDING_SIZE)
        self._ticket = derived(b"dz-ticket", _TICKET_MAC_SIZE)

    def binding(
        self, device_id: bytes, prefix: bytes, at_ms: int, bits: int, wait_seconds: int
    ) -> str:
        keyed = self._binding.copy()
        keyed.update(_BOUND.pack(device_id, at_ms, bits, wait_seconds, len(prefix)) + prefix)
        return keyed.hexdigest()

    def ticket_mac(self, body: bytes, device_id: bytes, prefix: bytes) -> bytes:
        keyed = self._ticket.copy()
        keyed.update(body + device_id + prefix)
        return keyed.digest()


def _read_payload(solution: object) -> altcha.Payload | None:
    """ALTCHA's payload out of whatever a client sent; None where it is none."""
    if isinstance(solution, str):
        if len(solution) > _SOLUTION_CHARACTERS_MAX:
            return None
        try:
            solution = json.loads(base64.b64decode(solution, validate=True))
        except (ValueError, RecursionError):
            return None
    if not isinstance(solution, dict):
        return None
    try:
        payload = altcha.Payload.from_dict(solution)
    except (KeyError, TypeError, AttributeError):
        return None
    solved, challenge = payload.solution, payload.challenge
    usable = (
        type(solved.counter) is int
        and 0 <= solved.counter < 1 << 32
        and _is_hex(solved.derived_key, 64)
        and _is_hex(challenge.parameters.nonce, 32)
        and _is_hex(challenge.parameters.salt, 32)
        and _is_hex(challenge.signature, 64)
    )
    return payload if usable else None


def _read_data(data: object) -> _Data | None:
    if not isinstance(data, dict):
        return None
    numbers = [data.get(name) for name in ("key", "at", "bits", "wait")]
    bound_to = data.get("for")
    limits = zip(numbers, (0xFF, 1 << 47, 0xFF, 0xFF), strict=True)
    if not all(type(number) is int and 0 <= number <= most for number, most in limits):
        return None
    if not _is_hex(bound_to, 2 * _BINDING_SIZE):
        return None
    return _Data(data["key"], data["at"], data["bits"], data["wait"], data["for"])


_HEX = frozenset("0123456789abcdef")


def _is_hex(text: object, length: int) -> bool:
    return isinstance(text, str) and len(text) == length and _HEX.issuperset(text)


def _hash_of(parameters: altcha.ChallengeParameters, counter: int) -> str:
    """The key that this counter gives: a solution names both, and ALTCHA's quick way looks at the
    key alone."""
    guess = bytes.fromhex(parameters.salt + parameters.nonce) + counter.to_bytes(4, "big")
    return hashlib.sha256(guess).hexdigest()
