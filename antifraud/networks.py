"""What an IP address stands for: the prefixes that are limited, an ASN and a class.

One subscriber holds at least an IPv6 /64 (RFC 6177), so that is the unit there; in IPv4 it is
the address. /24 and /48 are the neighbourhoods in which rented addresses come, /56 is what many
lines get.

A `NetworkTable` says whose an address is. `builtin()` is the small one that comes with the
package (`networks_builtin.md` has its source, licence and attribution: RouteViews, NRO and DB-IP,
CC BY 4.0, by way of ip-location-db); `dianzan networks build` makes one of the whole world, with
operators' own lists on top. Known weakness of each: an ASN is one owner, not one use. A carrier's
ASN that carries phones and homes has the class of its crowds (MOBILE), until an operator's list
says which of its addresses are which; proxies in homes are HOME.

The bytes of a table, little-endian:

    offset  size
     0       8   b"DZ-NETS" and the version, 1
     8      16   BLAKE2b-128 of all that follows
    24       4   n4, ranges of IPv4
    28       4   n6, ranges of IPv6
    32           by zlib:
         8*n6    first /64 of each IPv6 range, ascending, the first one 0
         4*n4    first address of each IPv4 range, the same
         4*n4    ASN of each IPv4 range, 0 = not known
         4*n6    ASN of each IPv6 range
           n4    class of each IPv4 range, a NetworkClass
           n6    class of each IPv6 range

A range ends where the next one begins, the last at the end of its family: what nobody holds is a
range too (UNKNOWN, ASN 0), and so are the addresses that are not public (PRIVATE).
"""

import enum
import functools
import hashlib
import importlib.resources
import io
import ipaddress
import operator
import socket
import struct
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import msgspec


class NetworkClass(enum.IntEnum):
    """Kind of network, as stored with each vote."""

    UNKNOWN = 0
    MOBILE = 1
    """A carrier: a crowd behind each address (CGNAT)."""
    HOME = 2
    """Lines of homes and small firms."""
    CAMPUS = 3
    """Universities, schools, research: a crowd again."""
    DATACENTRE = 4
    """Rented servers."""
    PRIVATE = 5
    """No public address: this machine, a house network, or a proxy that nobody declared."""


class Prefixes(msgspec.Struct, frozen=True, gc=False):
    """Packed address prefixes; the first byte tells IPv4 (4) from IPv6 (6)."""

    network: bytes
    """IPv4 /32 or IPv6 /64: what a limit counts by."""
    wide: bytes
    """IPv4 /24 or IPv6 /48."""
    middle: bytes = b""
    """IPv6 /56; of an IPv4 address the same as `wide`."""


_MAPPED_IPV4 = bytes(10) + b"\xff\xff"
_NAT64 = b"\0\x64\xff\x9b" + bytes(8)
_TEREDO = b"\x20\x01\0\0"
_6TO4 = b"\x20\x02"
_MAY_HOLD_IPV4 = frozenset({_MAPPED_IPV4[:2], _NAT64[:2], _TEREDO[:2], _6TO4})
_QUOTED_MAX = 64


def prefixes_of(address: str) -> Prefixes:
    """The prefixes of a numeric address; ValueError where it is none.

    An IPv6 address that only carries an IPv4 one is that IPv4 address: mapped (::ffff:a.b.c.d),
    NAT64's well-known prefix (64:ff9b::/96), 6to4 (2002::/16) and Teredo (2001::/32, the client's
    address, not the server's that all its clients share). Else one IPv4 address would be 65,536
    networks. The answers go to the address inside, so that it cannot be made up; one that is not
    public cannot come that way, and is not believed (mapped ones, which the kernel makes, are).
    A zone (%eth0) is no part of the address.
    """
    try:
        packed = _pack(address)
    except (OSError, ValueError) as why:
        quoted = address[:_QUOTED_MAX]
        raise ValueError(f"{quoted!r} is no IP address") from why
    if len(packed) == 16 and packed[:2] in _MAY_HOLD_IPV4:
        packed = _ipv4_inside(packed) or packed
    if len(packed) == 4:
        wide = b"\4" + packed[:3]
        return Prefixes(b"\4" + packed, wide, wide)
    return Prefixes(b"\6" + packed[:8], b"\6" + packed[:6], b"\6" + packed[:7])


def is_address(text: str) -> bool:
    """Whether this is a numeric IP address."""
    try:
        _pack(text)
    except (OSError, ValueError):
        return False
    return True


def _pack(address: str) -> bytes:
    # inet_pton: 0.1 us, where ipaddress takes 2 to 4.
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return socket.inet_pton(socket.AF_INET, address)


def _ipv4_inside(packed: bytes) -> bytes | None:
    if packed[:12] == _MAPPED_IPV4:
        return packed[12:]
    if packed[:12] == _NAT64:
        inside = packed[12:]
    elif packed[:2] == _6TO4:
        inside = packed[2:6]
    elif packed[:4] == _TEREDO:
        inside = bytes(byte ^ 0xFF for byte in packed[12:])  # written inverted (RFC 4380)
    else:
        return None
    return inside if ipaddress.IPv4Address(inside).is_global else None


class Network(msgspec.Struct, frozen=True, gc=False):
    """Whose an address is, as far as a table knows."""

    asn: int
    """Number of the autonomous system; 0 = not known."""
    network_class: NetworkClass


UNKNOWN_NETWORK = Network(0, NetworkClass.UNKNOWN)


class TableError(Exception):
    """These bytes are no table of networks; the message says in what way."""


MAGIC = b"DZ-NETS"
"""What every table begins with, whatever its version."""
_VERSION = 1
_HEAD = struct.Struct("<7sB16sII")
_CHECKED_FROM = 24
"""The checksum is over the bytes from here on."""
_FAMILY_MAX = 1 << 24
"""Ranges of one family: IPv4 has no more /24s."""
_BYTES_MAX = _HEAD.size + (9 + 13) * _FAMILY_MAX
_CLASS_OF = tuple(NetworkClass)
_CLASS_BYTES = bytes(_CLASS_OF)
_ORDER_AT_ONCE = 16_384

_ipv4_number = struct.Struct(">xI").unpack
_ipv6_number = struct.Struct(">xQ").unpack


class Ranges(msgspec.Struct, frozen=True, gc=False):
    """Columns of one family: where each range begins (an IPv4 address, an IPv6 /64), whose it is.

    `starts` ascends from 0; all three are of one length. 9 bytes a range in IPv4, 13 in IPv6.
    """

    starts: "array[int]"
    asns: "array[int]"
    classes: bytes

    def __iter__(self) -> Iterator[tuple[int, int, NetworkClass]]:
        for start, asn, network_class in zip(self.starts, self.asns, self.classes, strict=True):
            yield start, asn, _CLASS_OF[network_class]

    def __len__(self) -> int:
        return len(self.starts)


class NetworkTable:
    """Address -> Network. Immutable; `look_up` takes 0.5 to 1.2 us.

    Held in memory: the table of the whole world (470,000 ranges of IPv4, 180,000 of IPv6) takes
    6.9 MB, the built-in one 1.1 MB."""

    __slots__ = ("_asns4", "_asns6", "_classes4", "_classes6", "_starts4", "_starts6", "identity")

    def __init__(self, ipv4: Ranges, ipv6: Ranges, identity: str = "") -> None:
        self._starts4, self._asns4, self._classes4 = ipv4.starts, ipv4.asns, ipv4.classes
        self._starts6, self._asns6, self._classes6 = ipv6.starts, ipv6.asns, ipv6.classes
        self.identity = identity or self.to_bytes()[8:_CHECKED_FROM].hex()
        """The checksum in hexadecimal: two tables of one identity are the same table."""

    @property
    def ipv4(self) -> Ranges:
        return Ranges(self._starts4, self._asns4, self._classes4)

    @property
    def ipv6(self) -> Ranges:
        return Ranges(self._starts6, self._asns6, self._classes6)

    def look_up(self, prefixes: Prefixes) -> Network:
        """Whose the address of these prefixes is; ASN 0 and UNKNOWN where nobody said."""
        # The first start is 0, so that there is always a range to the left.
        packed = prefixes.network
        if len(packed) == 5:
            at = bisect_right(self._starts4, _ipv4_number(packed)[0]) - 1
            return Network(self._asns4[at], _CLASS_OF[self._classes4[at]])
        at = bisect_right(self._starts6, _ipv6_number(packed)[0]) - 1
        return Network(self._asns6[at], _CLASS_OF[self._classes6[at]])

    def to_bytes(self) -> bytes:
        """The table as the module's docstring draws it; `from_bytes` takes it back."""
        columns = (self._starts6, self._starts4, self._asns4, self._asns6)
        plain = b"".join(
            (
                *(_little_endian(column).tobytes() for column in columns),
                self._classes4,
                self._classes6,
            )
        )
        checked = struct.pack("<II", len(self._starts4), len(self._starts6)) + zlib.compress(plain)
        return MAGIC + bytes([_VERSION]) + _checksum(checked) + checked

    @classmethod
    def from_bytes(cls, packed: bytes) -> "NetworkTable":
        """A table out of its bytes, checked as a whole; TableError says what is wrong with them."""
        if not packed:
            raise TableError("it is empty")
        if packed[: len(MAGIC)] != MAGIC[: len(packed)]:
            raise TableError("it is no table of networks (other first bytes)")
        if len(packed) < _HEAD.size:
            raise TableError(f"it ends after {len(packed)} bytes, within its head")
        _, version, checksum, n4, n6 = _HEAD.unpack_from(packed)
        if version != _VERSION:
            raise TableError(f"it is of version {version}; this program reads {_VERSION}")
        if not (0 < n4 <= _FAMILY_MAX and 0 < n6 <= _FAMILY_MAX):
            raise TableError(f"its head tells of {n4} ranges of IPv4 and {n6} of IPv6")
        if _checksum(memoryview(packed)[_CHECKED_FROM:]) != checksum:
            raise TableError("its checksum does not fit: some of its bytes are missing or others")
        # The checksum speaks for the bytes, what follows for whoever wrote them.
        plain = _unpack(packed[_HEAD.size :], 9 * n4 + 13 * n6)
        columns = []
        at = 0
        for code, number in (("Q", n6), ("I", n4), ("I", n4), ("I", n6)):
            column = array(code)
            size = number * column.itemsize
            column.frombytes(plain[at : at + size])
            columns.append(_little_endian(column))
            at += size
        starts6, starts4, asns4, asns6 = columns
        ipv4 = Ranges(starts4, asns4, plain[at : at + n4])
        ipv6 = Ranges(starts6, asns6, plain[at + n4 :])
        for family, ranges in (("IPv4", ipv4), ("IPv6", ipv6)):
            if not _ascends_from_zero(ranges.starts):
                raise TableError(f"its ranges of {family} do not ascend from 0")
            if ranges.classes.translate(None, _CLASS_BYTES):
                raise TableError(f"its ranges of {family} have a class that there is none of")
        return cls(ipv4, ipv6, checksum.hex())


def read(path: Path) -> NetworkTable:
    """The table in a file; OSError where it cannot be read, TableError where it is damaged."""
    # A pipe would let us wait for ever, a device never end.
    if path.exists() and not path.is_file():
        raise TableError("it is no regular file")
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        if size > _BYTES_MAX:
            raise TableError(f"it has {size} bytes, more than any table")
        file.seek(0)
        return NetworkTable.from_bytes(file.read(size))


@functools.cache
def builtin() -> NetworkTable:
    """The table that comes with the package: well-known carriers, clouds and universities.

    Everybody else is UNKNOWN with ASN 0. Made by `dianzan networks build --well-known-only`.
    """
    file = importlib.resources.files("antifraud") / "networks_builtin.bin"
    return NetworkTable.from_bytes(file.read_bytes())


def _checksum(checked: bytes | memoryview) -> bytes:
    return hashlib.blake2b(checked, digest_size=16).digest()


def _unpack(packed: bytes, size: int) -> bytes:
    """What zlib packed, if it is of this size; never more memory than for that."""
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, size + 1)
    except zlib.error:
        raise TableError("its ranges cannot be unpacked") from None
    if len(plain) != size or not unpacker.eof or unpacker.unused_data:
        raise TableError(f"its ranges do not unpack to the {size} bytes that its head tells of")
    return plain


def _ascends_from_zero(starts: "array[int]") -> bool:
    # In pieces: one call over half a million would keep the event loop waiting for 20 ms, as C
    # code holds the interpreter's lock to its end.
    pieces = range(0, len(starts), _ORDER_AT_ONCE)
    return starts[0] == 0 and all(
        all(
            map(
                operator.lt,
                starts[at : at + _ORDER_AT_ONCE],
                starts[at + 1 : at + 1 + _ORDER_AT_ONCE],
            )
        )
        for at in pieces
    )


def _little_endian(column: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column
