"""DeviceToken: the signed, anonymous identity of one browser.

52 base64url characters, 39 bytes, big-endian:

    +---------+--------+-----------+-----------+----------+---------------+----------+-------+-----+
    | version | key id | device id | issued at | campaign | network class | ua class | level | MAC |
    |   u8    |   u8   |    12     |  u32 s    |   u16    |      u8       |    u8    |  u8   | 16  |
    +---------+--------+-----------+-----------+----------+---------------+----------+-------+-----+

The device id's first byte is its shard. Network and ua class are those at its issue. Level: the
low four bits are the rung of the ladder, above them flags (antifraud/signals.py). MAC = keyed
BLAKE2b over all that stands before it.

    rung 0   handed out; cannot vote
    rung 1   a challenge was solved for it (flag PROVEN), or none was asked for
    rung 2   a day old at least
    rung 3   one identity: a portal vouches for its user (voting/identity.py); for a day

`Mint.promote` signs a device anew on another rung: id and time of issue stay, so it is the same
device, and what it liked stays liked. The old token stays good for what it was, and the new one no
longer than it.

Promise: nobody without a key makes a token that verifies, or moves one to another campaign or
level. Known weakness: a token is a bearer's; who copies it is that device. It says nothing about
how many browsers one person has, but on rung 3, where it is one person's on all of them.
"""

import hashlib
import hmac
import secrets
import struct
import time

import msgspec

from antifraud import base64url
from antifraud.signals import LEVEL_BITS, LOW_END, PROVEN, VOUCHED
from voting.campaign import Campaign
from voting.keys import Keys

TOKEN_LENGTH = 52
_LAYOUT = 1
_TOKEN = struct.Struct(">BB12sIHBBB")
_MAC_SIZE = 16
_CLOCK_SKEW_SECONDS = 300
VALID_SECONDS = 180 * 86_400
"""A browser that comes back after half a year is another device: longer than any campaign."""
VOUCHED_VALID_SECONDS = 86_400
"""Of a token on rung 3, which a portal's page gets anew each time it is opened: so long may a page
lie open, and so long at most does a portal's word outlive its being switched off."""

CONFIRMED_AFTER_SECONDS = 86_400
"""A token that is older is on rung 2, if it was on 1."""

LEVELS = frozenset(
    (0, *(rung | flags for rung in (1, 2, 3) for flags in (0, PROVEN, PROVEN | LOW_END)))
)
"""Every level byte that there is: nothing is proven on rung 0, and the slow route proves too."""


def following_device_id(key: bytes, person: bytes, *parts: bytes, shards: int) -> bytes:
    """The id of a device that follows from these parts, the same each time, on one of so many
    shards; nobody without the key can tell which. `person`: what it is made for, at most 16
    bytes."""
    made = hashlib.blake2b(key=key, digest_size=11, person=person)
    for part in parts:
        # With its length before it: no parts can be read as others.
        made.update(len(part).to_bytes(4, "big") + part)
    digest = made.digest()
    return bytes((int.from_bytes(digest, "big") % shards,)) + digest


class DeviceToken(msgspec.Struct, frozen=True, gc=False):
    """A token whose MAC was right."""

    device_id: bytes
    issued_at: int
    """Epoch seconds, by the clock of the edge that issued it."""
    campaign: int
    """Campaign.number"""
    network_class: int
    user_agent_class: int
    level: int
    """The level byte, one of LEVELS."""

    @property
    def shard(self) -> int:
        return self.device_id[0]

    @property
    def rung(self) -> int:
        """Of the ladder: what the public knows as level."""
        return self.level & LEVEL_BITS

    @property
    def proven(self) -> bool:
        return bool(self.level & PROVEN)

    @property
    def valid_until(self) -> int:
        """Epoch seconds; from then on it is none."""
        return self.issued_at + (VOUCHED_VALID_SECONDS if self.rung == VOUCHED else VALID_SECONDS)

    def level_at(self, now: float) -> int:
        """The level byte that it has by now: a day old is confirmed."""
        confirmed = self.rung == 1 and now - self.issued_at >= CONFIRMED_AFTER_SECONDS
        return self.level + 1 if confirmed else self.level


class Mint:
    """Issues and verifies device tokens with an installation's keys."""

    def __init__(self, keys: Keys) -> None:
        self.learn(keys)

    def learn(self, keys: Keys) -> None:
        """From now on these are the keys; a token of one that is not among them is none any
        more."""
        self._keys = keys
        # A keyed hash is made once and copied per token: saves absorbing the key, 0.2 of 0.6 us.
        self._hashes = {
            key_id: hashlib.blake2b(key=key, digest_size=_MAC_SIZE, person=b"dz-device")
            for key_id, key in keys.device.items()
        }

    def new(
        self,
        campaign: Campaign,
        now: float,
        *,
        shard: int = 0,
        level: int = 1,
        network_class: int = 0,
        user_agent_class: int = 0,
    ) -> DeviceToken:
        """A new device; `sign` makes its token."""
        return DeviceToken(
            bytes((shard,)) + secrets.token_bytes(11),
            int(now),
            campaign.number,
            network_class,
            user_agent_class,
            level,
        )

    def issue(self, campaign: Campaign, now: float, **facts: int) -> str:
        """The token of a new device; `facts` as `new` takes them."""
        return self.sign(self.new(campaign, now, **facts), now)

    def promote(self, token: DeviceToken, level: int, now: float | None = None) -> str:
        """The same device with another level byte. `now`: which key signs; None = by our clock."""
        return self.sign(msgspec.structs.replace(token, level=level), now)

    def sign(self, token: DeviceToken, now: float | None = None) -> str:
        """The token as the device holds it; ValueError where its level is none."""
        if token.level not in LEVELS:
            raise ValueError(f"{token.level:#04x} is no level byte")
        key_id = self._keys.signing(time.time() if now is None else now)
        body = _TOKEN.pack(
            _LAYOUT,
            key_id,
            token.device_id,
            token.issued_at,
            token.campaign,
            token.network_class,
            token.user_agent_class,
            token.level,
        )
        return base64url.encode(body + self._mac(key_id, body))

    def verify(self, token: str, campaign: Campaign, now: float) -> DeviceToken | None:
        """The token's content, or None: not one of ours, or of another campaign."""
        read = self.open(token, now)
        return read if read is not None and read.campaign == campaign.number else None

    def open(self, token: str, now: float) -> DeviceToken | None:
        """The token's content, or None: misshapen, forged, by a retired key, expired, or issued in
        the future by more than a clock's error."""
        read = self._read(token)
        if read is None or not read.issued_at - _CLOCK_SKEW_SECONDS <= now < read.valid_until:
            return None
        return read

    def has_ended(self, token: str, campaign: Campaign, now: float) -> bool:
        """Whether a portal vouched with this token for somebody, and its day is over: they are to
        come from their portal anew, rather than be taken for a stranger."""
        read = self._read(token)
        return (
            read is not None
            and read.campaign == campaign.number
            and read.rung == VOUCHED
            and now >= read.valid_until
        )

    def _read(self, token: str) -> DeviceToken | None:
        if len(token) != TOKEN_LENGTH:
            return None
        raw = base64url.decode(token)
        if raw is None:
            return None
        body = raw[: _TOKEN.size]
        layout, key_id, device_id, issued_at, number, network, agent, level = _TOKEN.unpack(body)
        if layout != _LAYOUT or key_id not in self._hashes:
            return None
        if not hmac.compare_digest(self._mac(key_id, body), raw[_TOKEN.size :]):
            return None
        if level not in LEVELS:
            return None  # signed by a version that knew more rungs
        return DeviceToken(device_id, issued_at, number, network, agent, level)

    def _mac(self, key_id: int, body: bytes) -> bytes:
        keyed = self._hashes[key_id].copy()
        keyed.update(body)
        return keyed.digest()
