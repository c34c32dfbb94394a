"""Whose request this is: the client's address, through trusted proxies only, with the network that
it is in and the program that sent it.

The walk starts at the socket's peer, which cannot be forged, and goes through X-Forwarded-For
from right to left for as long as it stands on a trusted proxy. An entry that is no address ends
it at the last good one (an address with a port is none). Known weakness: whoever is trusted is
believed; trust only proxies that append what they see.
"""

import ipaddress
from collections.abc import Callable
from functools import lru_cache

import structlog

from antifraud.networks import NetworkTable, builtin, is_address, prefixes_of
from voting.edge.client_facts import Client, client_of
from voting.edge.sender import Sender
from voting.pseudonyms import Place
from voting.settings import Network

log = structlog.get_logger()

_FORWARDED_CHARACTERS_KEPT_MAX = 512
"""Of a longer X-Forwarded-For the place is worked out anew: its sender chooses what is kept."""


class ClientAddress:
    """Finds clients for one set of trusted proxies: their addresses, networks and programs."""

    def __init__(self, trusted: tuple[Network, ...], table: NetworkTable | None = None) -> None:
        self._trusted = trusted
        self._table = table or builtin()
        self._told_unreadable = False
        self.on_use: Callable[[], None] = lambda: None
        """Called when places that were given out are out of date."""
        # Proxies are few and clients repeat: 4 us become 0.1. Bounded, as clients choose the keys.
        self._is_trusted = lru_cache(maxsize=4_096)(self._look_up)
        # Who likes one candidate likes the next one soon.
        self._place_behind = lru_cache(maxsize=4_096)(self._walk_to_place)

    def use(self, table: NetworkTable) -> None:
        """From now on networks are what this table says."""
        self._table = table
        self._place_behind.cache_clear()
        self.on_use()

    def client(self, sender: Sender) -> Client:
        """What program the client is. A trusted proxy's word on its TLS is believed."""
        proxied = bool(self._trusted) and self._is_trusted(sender.peer)
        return client_of(sender, proxied=proxied)

    def place(self, sender: Sender) -> Place:
        """Where the client is."""
        forwarded_for = sender.forwarded_for
        if self._trusted and forwarded_for is not None:
            short = len(forwarded_for) <= _FORWARDED_CHARACTERS_KEPT_MAX
            place_behind = self._place_behind if short else self._walk_to_place
            return place_behind(sender.peer, forwarded_for)
        return self._place_of(sender.peer)

    def _walk_to_place(self, peer: str, forwarded_for: str) -> Place:
        return self._place_of(self.walk(peer, forwarded_for))

    def _place_of(self, address: str) -> Place:
        prefixes = prefixes_of(address)
        return Place(prefixes, self._table.look_up(prefixes))

    def walk(self, peer: str, forwarded_for: str) -> str:
        """The client's address, given the peer's and the header's."""
        address = peer
        entries = forwarded_for.split(",")
        while entries and self._is_trusted(address):
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
