"""From claims to ranges of addresses to a table of networks.

Claims may overlap: the highest rank wins, among equals the narrowest, among those the last. So a
data centre's /24 inside a carrier's /12 keeps its own class, and an operator's list goes before
everything.
"""

import heapq
import ipaddress
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from antifraud.networks import NetworkClass, NetworkTable, Ranges

RANK_ASN = 0
"""Out of ASN data."""
RANK_NOT_PUBLIC = 1
"""The addresses below."""
RANK_OPERATOR = 2
"""Out of an operator's list. It may name private addresses too: of a campus that we are in."""


class Claim(NamedTuple):
    """First and last are numbers of IPv4 addresses, or of IPv6 /64s; both belong to it."""

    first: int
    last: int
    rank: int
    asn: int
    network_class: NetworkClass


NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            # IPv4: IANA's special-purpose registry, and multicast.
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # a carrier's inside: seen here, it is no carrier's NAT but ours
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
            # IPv6: the same.
            "::/64",  # loopback is in it
            "64:ff9b:1::/48",
            "100::/64",
            "2001:2::/48",
            "2001:10::/28",
            "2001:20::/28",
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
"""Addresses that no public client has: PRIVATE in every table. RFC 6890 and its registries."""


def numbers_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[int, int]:
    """First and last as claims count them; an IPv6 network is a /64 or wider."""
    first, last = int(network.network_address), int(network.broadcast_address)
    return (first >> 64, last >> 64) if network.version == 6 else (first, last)


def table_of(ipv4: Iterable[Claim], ipv6: Iterable[Claim]) -> NetworkTable:
    """The table in which each address is what its strongest claim says."""
    claims: dict[int, list[Claim]] = {4: list(ipv4), 6: list(ipv6)}
    for network in NOT_PUBLIC:
        claims[network.version].append(
            Claim(*numbers_of(network), RANK_NOT_PUBLIC, 0, NetworkClass.PRIVATE)
        )
    return NetworkTable(_settle(claims[4], "I"), _settle(claims[6], "Q"))


def _settle(claims: list[Claim], code: str) -> Ranges:
    """Where claims overlap, the strongest; where neighbours are equal, one range."""
    starts, asns, classes = array(code), array("I"), bytearray()
    top = (1 << 8 * starts.itemsize) - 1
    # From left to right over every place where something begins or ends. `open_` holds what
    # covers that place, the strongest on top, and below it also what has ended meanwhile.
    places = sorted({0, *(c.first for c in claims), *(c.last + 1 for c in claims if c.last < top)})
    waiting = sorted(range(len(claims)), key=lambda number: claims[number].first, reverse=True)
    open_: list[tuple[int, int, int]] = []
    before = None
    for place in places:
        while waiting and claims[waiting[-1]].first == place:
            number = waiting.pop()
            claim = claims[number]
            heapq.heappush(open_, (-claim.rank, claim.last - claim.first, -number))
        while open_ and claims[-open_[0][2]].last < place:
            heapq.heappop(open_)
        strongest = claims[-open_[0][2]] if open_ else None
        here = (strongest.asn, int(strongest.network_class)) if strongest else (0, 0)
        if here != before:
            starts.append(place)
            asns.append(here[0])
            classes.append(here[1])
            before = here
    return Ranges(starts, asns, bytes(classes))
