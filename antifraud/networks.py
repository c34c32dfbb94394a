"""What an IP address stands for: the prefix that is limited, the wider one, and a class.

One subscriber holds at least an IPv6 /64 (RFC 6177), so that is the unit there; in IPv4 it is
the address. /24 and /48 are the neighbourhoods in which rented addresses come.
"""

import enum
import socket

import msgspec


class NetworkClass(enum.IntEnum):
    """Kind of network, as stored with each vote. UNKNOWN until a table of networks says more."""

    UNKNOWN = 0
    MOBILE = 1
    HOME = 2
    CAMPUS = 3
    DATACENTRE = 4
    PRIVATE = 5
    """No public address: this machine, a house network, or a proxy that nobody declared."""


class Prefixes(msgspec.Struct, frozen=True, gc=False):
    """Packed address prefixes; the first byte tells IPv4 (4) from IPv6 (6)."""

    network: bytes
    """IPv4 /32 or IPv6 /64: what a limit counts by."""
    wide: bytes
    """IPv4 /24 or IPv6 /48."""


_MAPPED_IPV4 = bytes(10) + b"\xff\xff"


def prefixes_of(address: str) -> Prefixes:
    """The prefixes of a numeric address; ValueError where it is none.

    An IPv4 address that comes mapped into IPv6 (::ffff:a.b.c.d) is that IPv4 address.
    """
    try:
        packed = _pack(address)
    except (OSError, ValueError) as why:
        raise ValueError(f"{address!r} is no IP address") from why
    if packed[:12] == _MAPPED_IPV4:
        packed = packed[12:]
    if len(packed) == 4:
        return Prefixes(b"\4" + packed, b"\4" + packed[:3])
    return Prefixes(b"\6" + packed[:8], b"\6" + packed[:6])


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
