"""What a leaf of a log says, byte by byte. No I/O. Everything is big-endian.

A vote (log VOTES), 39 bytes:

    u8   version, 1
    u16  campaign
    u32  hour: epoch seconds // 3600
    32   commitment: SHA-256(salt 16 || candidate u16 || position 8 || click 6)

    position = shard u8, epoch u16, seq u40;
    salt = the first 16 bytes of HMAC-SHA256(the campaign's key, position)

Nothing of it tells the candidate as long as the salt is not known, and nothing at all the device
or the network. The voter's own click is in it: one receipt cannot serve two voters. With the log,
after the close, comes for each leaf what opens it, 36 bytes, from which the leaf follows:

    position 8, candidate u16, click 6, salt 16, hour u32

A ruling (log RULINGS), 27 bytes:

    u8   version, 1
    u64  leaf of the vote
    u8   state it gets: 0 counted, 2 held, 4 struck
    u32  number of the decision; 0 = by the vote's own verdict, when its leaf was appended
    u32  version of the rules
    u64  when, epoch milliseconds
    u8   who: 0 the verdict, 1 `watch`, 2 a person

A vote with no ruling is counted; else its last ruling says.
"""

import enum
import struct
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

VERSION = 1

_VOTE_HEAD = struct.Struct(">BHI")
_RULING = struct.Struct(">BQBIIQB")
_POSITION = struct.Struct(">Q")
_HOUR = struct.Struct(">I")
VOTE_BYTES = _VOTE_HEAD.size + 32
RULING_BYTES = _RULING.size
OPENING_BYTES = 36

_HOUR_US = 3_600_000_000
_SHARD_SHIFT, _EPOCH_SHIFT = 56, 40
_BLOCK_BYTES = 64
_SALT_BYTES = 16


class LeafError(ValueError):
    """What does not fit into a leaf, or a leaf that is not one of ours."""


class LoggedVote(NamedTuple):
    """What a leaf is made from."""

    seq: int
    at_us: int
    candidate: bytes
    """2 bytes."""
    click: bytes
    """6 bytes."""


class Role(enum.IntEnum):
    """Who ruled."""

    VERDICT = 0
    WATCH = 1
    PERSON = 2


class Ruling(NamedTuple):
    """One change of one vote's state."""

    leaf: int
    state: int
    decision: int
    rules: int
    at_ms: int
    role: int

    def pack(self) -> bytes:
        return _RULING.pack(VERSION, *self)

    @classmethod
    def unpack(cls, record: bytes) -> "Ruling":
        """LeafError for what is no ruling of this version."""
        if len(record) != RULING_BYTES or record[0] != VERSION:
            raise LeafError("this is no ruling that this version can read")
        return cls(*_RULING.unpack(record)[1:])


class VoteLeaves:
    """Makes leaves of one campaign's votes. Holds the key of its salts."""

    def __init__(self, campaign: int, salts: bytes) -> None:
        """`salts`: the campaign's key, 32 bytes."""
        self._campaign = campaign
        # HMAC by hand: its two pads in front of one-shot hashes cost 0.9 us, where hmac.digest
        # takes 2.4 and copied states 1.3.
        block = salts.ljust(_BLOCK_BYTES, b"\0")
        self._inner = bytes(byte ^ 0x36 for byte in block)
        self._outer = bytes(byte ^ 0x5C for byte in block)

    def records(self, shard: int, epoch: int, votes: Iterable[LoggedVote]) -> list[bytes]:
        """The leaf of each vote, about 2.5 us."""
        inner, outer, pack = self._inner, self._outer, _POSITION.pack
        first = _first_position(shard, epoch)
        heads: dict[int, bytes] = {}
        records = []
        for seq, at_us, candidate, click in votes:
            hour = at_us // _HOUR_US
            head = heads.get(hour)
            if head is None:
                head = heads[hour] = _VOTE_HEAD.pack(VERSION, self._campaign, hour)
            position = pack(first | seq)
            salt = sha256(outer + sha256(inner + position).digest()).digest()[:_SALT_BYTES]
            records.append(head + sha256(salt + candidate + position + click).digest())
        return records

    def openings(self, shard: int, epoch: int, votes: Iterable[LoggedVote]) -> list[bytes]:
        """What opens the leaf of each vote."""
        inner, outer, pack, hours = self._inner, self._outer, _POSITION.pack, _HOUR.pack
        first = _first_position(shard, epoch)
        openings = []
        for seq, at_us, candidate, click in votes:
            position = pack(first | seq)
            salt = sha256(outer + sha256(inner + position).digest()).digest()[:_SALT_BYTES]
            openings.append(position + candidate + click + salt + hours(at_us // _HOUR_US))
        return openings


def bundle(records: Sequence[bytes]) -> bytes:
    """Entries as C2SP tlog-tiles keeps them: each after its length, u16."""
    if not records:
        return b""
    length = len(records[0]).to_bytes(2, "big")
    return length + length.join(records)


def unbundle(content: bytes, record_bytes: int) -> list[bytes]:
    """The records of a bundle in which each has this length."""
    step = 2 + record_bytes
    return [content[at + 2 : at + step] for at in range(0, len(content), step)]


def _first_position(shard: int, epoch: int) -> int:
    """Position of seq 0; a seq is or-ed to it."""
    if not (0 <= shard < 1 << 8 and 0 <= epoch < 1 << 16):
        raise LeafError(f"shard {shard}, epoch {epoch} have no place in a leaf")
    return shard << _SHARD_SHIFT | epoch << _EPOCH_SHIFT
