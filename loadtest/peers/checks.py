"""What every peer of the bench checks alike: tokens, pseudonyms, one campaign and its rules.

A peer is a process, started as `python -m loadtest.peers.<module>` with its settings in the
environment (`Setup`). Once it serves it prints one line of JSON, {"port": N, "pids": [N, ...]}
(the processes whose CPU time is its), and it ends when its standard input does, so that it cannot
outlive whoever measures it. Where a program that it needs is not installed it says so in one line
on standard error and exits with ABSENT.

A peer's token is 52 base64url characters, as long as ours, 39 bytes:

    +-------------+-----------+-------------+--------+-----+
    | version (1) | device id | issued at s | unused | MAC |
    |     u8      |    12     |     u32     |   6    | 16  |
    +-------------+-----------+-------------+--------+-----+

MAC = the first 16 bytes of HMAC-SHA256 over all that stands before it: what every one of these
platforms has at hand. Pseudonyms of device and networks are HMAC-SHA256 with the same key, cut to
8 bytes; a click's hash is SHA-256 cut to 6.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import struct
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

CAMPAIGN = "peer"
CANDIDATES = {f"c{number:03}": number for number in range(1, 745)}
ABSENT = 3
MINUTE_US = 60_000_000

_TOKEN = struct.Struct(">B12sI6x")
_MAC_SIZE = 16
_VOTE = struct.Struct(">8s8s8sH6sIB")


class Rules(NamedTuple):
    """Of the one campaign; the rates are a burst, refilled evenly over a minute. Above its
    network's limit a like is held, above 20 times the limit refused."""

    likes_per_day: int = 10
    per_device: int = 30
    per_network: int = 1_200

    @property
    def limits(self) -> tuple[int, ...]:
        """Interval and window in microseconds: of a device, a network, 20 times a network."""
        return (
            *(MINUTE_US // self.per_device, MINUTE_US),
            *(MINUTE_US // self.per_network, MINUTE_US),
            *(MINUTE_US // self.per_network // 20, MINUTE_US),
        )


class Setup(NamedTuple):
    """What a peer is told when it starts."""

    redis_url: str
    """unix:///path/of/a/socket"""
    key: bytes
    """32 bytes, of tokens and pseudonyms."""
    rules: Rules
    folder: str
    """Where it may write."""
    library_file: str = ""
    """Source of the service's own function library; only `go-group-commit` uses it."""

    @classmethod
    def from_environment(cls) -> Self:
        return cls(
            os.environ["PEER_REDIS_URL"],
            bytes.fromhex(os.environ["PEER_KEY"]),
            Rules(**json.loads(os.environ["PEER_RULES"])),
            os.environ["PEER_FOLDER"],
            os.environ["PEER_LIBRARY_FILE"],
        )

    def as_environment(self) -> Mapping[str, str]:
        return {
            "PEER_REDIS_URL": self.redis_url,
            "PEER_KEY": self.key.hex(),
            "PEER_RULES": json.dumps(self.rules._asdict()),
            "PEER_FOLDER": self.folder,
            "PEER_LIBRARY_FILE": self.library_file,
        }

    @property
    def redis_socket(self) -> str:
        return self.redis_url.removeprefix("unix://")


def mint(key: bytes, number: int) -> Iterator[str]:
    """So many device tokens."""
    now = int(time.time())
    for _ in range(number):
        body = _TOKEN.pack(1, secrets.token_bytes(12), now)
        yield base64.urlsafe_b64encode(body + _mac(key, body)).decode()


def verified(key: bytes, token: str) -> tuple[bytes, int] | None:
    """(device id, issued at), or None where the MAC is not ours."""
    try:
        raw = base64.urlsafe_b64decode(token)
        _, device_id, issued_at = _TOKEN.unpack(raw[:-_MAC_SIZE])
    except (ValueError, struct.error):
        return None
    if not hmac.compare_digest(_mac(key, raw[:-_MAC_SIZE]), raw[-_MAC_SIZE:]):
        return None
    return device_id, issued_at


def pseudonym(key: bytes, of: bytes) -> bytes:
    """Eight bytes that stand for a device or a network."""
    return hmac.digest(key, of, "sha256")[:8]


def click_hash(click: str) -> bytes:
    """Six bytes that stand for a click id."""
    return hashlib.sha256(click.encode()).digest()[:6]


def client_address(forwarded_for: str) -> str:
    """The last entry of X-Forwarded-For: what the proxy in front has seen."""
    return forwarded_for.rpartition(",")[2].strip()


def pack_vote(
    device: bytes, network: bytes, wide: bytes, candidate: int, click: bytes, age_seconds: int
) -> bytes:
    """What a peer's journal keeps of a vote, but for its verdict. `age_seconds`: the token's."""
    return _VOTE.pack(device, network, wide, candidate, click, age_seconds, 1)


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_SIZE]
