"""Whose request this is: the client's address, through trusted proxies only.

The walk starts at the socket's peer, which cannot be forged, and goes through X-Forwarded-For
from right to left for as long as it stands on a trusted proxy. An entry that is no address ends
it at the last good one. Known weakness: whoever is trusted is believed; trust only proxies that
append what they see.
"""

import ipaddress
from functools import lru_cache

from antifraud.networks import is_address, prefixes_of
from voting.edge.sender import Sender
from voting.pseudonyms import Place
from voting.settings import Network

_FORWARDED_CHARACTERS_KEPT_MAX = 512
"""Of a longer X-Forwarded-For the place is worked out anew: its sender chooses what is kept."""


class ClientAddress:
    """Finds clients' addresses for one set of trusted proxies."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        # Proxies are few and clients repeat: 4 us become 0.1. Bounded, as clients choose the keys.
        self._is_trusted = lru_cache(maxsize=4_096)(self._look_up)
        # Who likes one candidate likes the next one soon.
        self._place_behind = lru_cache(maxsize=4_096)(self._walk_to_place)

    def place(self, sender: Sender) -> Place:
        """Where the client is."""
        forwarded_for = sender.forwarded_for
        if self._trusted and forwarded_for is not None:
            short = len(forwarded_for) <= _FORWARDED_CHARACTERS_KEPT_MAX
            place_behind = self._place_behind if short else self._walk_to_place
            return place_behind(sender.peer, forwarded_for)
        return Place(prefixes_of(sender.peer))

    def _walk_to_place(self, peer: str, forwarded_for: str) -> Place:
        return Place(prefixes_of(self.walk(peer, forwarded_for)))

    def walk(self, peer: str, forwarded_for: str) -> str:
        """The client's address, given the peer's and the header's."""
        address = peer
        entries = forwarded_for.split(",")
        while entries and self._is_trusted(address):
            entry = entries.pop().strip()
            if not is_address(entry):
                break
            address = entry
        return address

    def _look_up(self, address: str) -> bool:
        try:
            held = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = held.ipv4_mapped if isinstance(held, ipaddress.IPv6Address) else None
        return any((mapped or held) in network for network in self._trusted)
