"""A client's address through trusted proxies.

The walk starts at the socket's peer, which cannot be forged, and goes through X-Forwarded-For
from right to left for as long as it stands on a trusted proxy. An entry that is no address ends
it at the last good one (an address with a port is none). Known weakness: whoever is trusted is
believed; trust only proxies that append what they see.
"""

import ipaddress
from functools import lru_cache

import structlog

from antifraud.networks import is_address
from voting.settings import Network

log = structlog.get_logger()


class TrustedProxies:
    """The networks of one installation's proxies."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._told_unreadable = False
        # Proxies are few and clients repeat: 4 us become 0.1. Bounded, as clients choose the keys.
        self.trusts = lru_cache(maxsize=4_096)(self._look_up)
        """Whether this address is one of them."""

    def walk(self, peer: str, forwarded_for: str) -> str:
        """The client's address, given the peer's and the header's."""
        address = peer
        entries = forwarded_for.split(",")
        while entries and self.trusts(address):
            entry = entries.pop().strip()
            if not is_address(entry):
                self._tell_unreadable()
                break
            address = entry
        return address

    def _tell_unreadable(self) -> None:
        """Once: a proxy that writes something else makes one crowd of everybody behind it."""
        if not self._told_unreadable:
            self._told_unreadable = True
            log.warning("forwarded-for-unreadable", harm="who comes that way counts as the proxy")

    def _look_up(self, address: str) -> bool:
        try:
            held = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = held.ipv4_mapped if isinstance(held, ipaddress.IPv6Address) else None
        return any((mapped or held) in network for network in self._trusted)
