"""View: a signed stamp that says when its holder was shown a card, at the earliest.

36 base64url characters, 27 bytes, big-endian:

    +--------+-------+------------+-------+-----+
    | key id | bound |   at ms    | nonce | MAC |
    |   u8   |  u8   |     6      |   7   | 12  |
    +--------+-------+------------+-------+-----+

MAC = keyed BLAKE2b over all that stands before it and, where `bound` is 1, over the device id: as a
bound view it is that device's alone. What caches keep for everybody (counts, candidates) carries
unbound ones.

Promise: nobody without a key makes a view, so nobody can claim to have looked at a card for longer
than since its view was made; and a bound one serves no other device. Known weakness: nobody proves
to have looked at all. An unbound one may be passed on; who keeps one has looked for long. One of a
key that is not held (retired, or not learnt yet) cannot be told from a made-up one: it says
nothing, as if none had come, and is held against nobody.
"""

import enum
import hashlib
import hmac
import secrets
import struct

from antifraud import base64url
from voting.keys import Keys
from voting.remembered import remember

VIEW_LENGTH = 36
VALID_SECONDS = 86_400
"""An older one says no more than this."""

SHARED_SECONDS = 1.0
"""So long `shared` gives out the same one."""

_KNOWN_MAX = 4_096
_BODY = struct.Struct(">BBHI7s")
_MAC_SIZE = 12
_CLOCK_SKEW_SECONDS = 300


class NoView(enum.Enum):
    """Why a view says nothing of how long ago a card was shown."""

    UNKNOWN = "unknown"
    """There is none, or it is not known whose: an honest page's, may be."""
    BAD = "bad"
    """Misshapen, forged, or bound to another device: no page of ours sends it."""


class Views:
    """Makes and reads views with an installation's keys."""

    def __init__(self, keys: Keys) -> None:
        self.learn(keys)

    def learn(self, keys: Keys) -> None:
        """From now on these are the keys."""
        self._keys = keys
        self._hashes = {
            key_id: hashlib.blake2b(key=key, digest_size=_MAC_SIZE, person=b"dz-view")
            for key_id, key in keys.derived("view").items()
        }
        # Thousands come with the view that caches keep for them all: 2.5 us become 0.2.
        self._known: dict[str, float] = {}
        self._shared = ""
        self._shared_at = 0.0

    def make(self, now: float, device_id: bytes | None = None) -> str:
        """A new one, for this device alone if one is given."""
        key_id = self._keys.signing(now)
        at_ms = int(now * 1000)
        body = _BODY.pack(
            key_id,
            device_id is not None,
            at_ms >> 32,
            at_ms & 0xFFFFFFFF,
            secrets.token_bytes(7),
        )
        return base64url.encode(body + self._mac(key_id, body, device_id))

    def shared(self, now: float) -> str:
        """An unbound one for what many read; the same for a second, so that it costs nothing."""
        if not 0 <= now - self._shared_at < SHARED_SECONDS:
            self._shared, self._shared_at = self.make(now), now
        return self._shared

    def read(self, view: str, device_id: bytes | None, now: float) -> float | NoView:
        """Seconds since it was made; UNKNOWN where it is empty, by a key that is not held, or made
        in the future by more than a clock's error, which is an edge's fault.

        At most VALID_SECONDS: a page may lie open for days before its reader likes, and that it is
        old is nobody's fault.
        """
        made_at: float | NoView | None = self._known.get(view)
        if made_at is None:
            made_at = self._moment(view, device_id)
        if isinstance(made_at, NoView):
            return made_at
        if now - made_at < -_CLOCK_SKEW_SECONDS:
            return NoView.UNKNOWN
        return min(max(now - made_at, 0.0), float(VALID_SECONDS))

    def _moment(self, view: str, device_id: bytes | None) -> float | NoView:
        """When it was made, epoch seconds, or why that is not known."""
        if not view:
            return NoView.UNKNOWN
        if len(view) != VIEW_LENGTH:
            return NoView.BAD
        raw = base64url.decode(view)
        if raw is None:
            return NoView.BAD
        body = raw[: _BODY.size]
        key_id, bound, high, low, _ = _BODY.unpack(body)
        if key_id not in self._hashes:
            return NoView.UNKNOWN
        if bound > 1 or (bound and device_id is None):
            return NoView.BAD
        mac = self._mac(key_id, body, device_id if bound else None)
        if not hmac.compare_digest(mac, raw[_BODY.size :]):
            return NoView.BAD
        moment: float = (high << 32 | low) / 1000
        return moment if bound else remember(self._known, view, moment, _KNOWN_MAX)

    def _mac(self, key_id: int, body: bytes, device_id: bytes | None) -> bytes:
        keyed = self._hashes[key_id].copy()
        keyed.update(body)
        if device_id is not None:
            keyed.update(device_id)
        return keyed.digest()
