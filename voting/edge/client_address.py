"""Whose request this is: the client's address, through trusted proxies only, with the network that
it is in and the program that sent it.

The walk through proxies is voting/proxies.py's.
"""

from collections.abc import Callable
from functools import lru_cache

from antifraud.networks import NetworkTable, builtin, prefixes_of
from voting.edge.client_facts import Client, client_of
from voting.edge.sender import Sender
from voting.proxies import TrustedProxies
from voting.pseudonyms import Place
from voting.settings import Network

_FORWARDED_CHARACTERS_KEPT_MAX = 512
"""Of a longer X-Forwarded-For the place is worked out anew: its sender chooses what is kept."""


class ClientAddress:
    """Finds clients for one set of trusted proxies: their addresses, networks and programs."""

    def __init__(self, trusted: tuple[Network, ...], table: NetworkTable | None = None) -> None:
        self._trusted = trusted
        self._table = table or builtin()
        self._proxies = TrustedProxies(trusted)
        self._is_trusted = self._proxies.trusts
        self.on_use: Callable[[], None] = lambda: None
        """Called when places that were given out are out of date."""
        # Who likes one candidate likes the next one soon.
        self._place_behind = lru_cache(maxsize=4_096)(self._walk_to_place)

    def use(self, table: NetworkTable) -> None:
        """From now on networks are what this table says."""
        self._table = table
        self._place_behind.cache_clear()
        self.on_use()

    def trusts(self, peer: str) -> bool:
        """Whether the socket's other end is a trusted proxy, whose headers are believed."""
        return bool(self._trusted) and self._is_trusted(peer)

    def client(self, sender: Sender) -> Client:
        """What program the client is. A trusted proxy's word on its TLS is believed."""
        proxied = self.trusts(sender.peer)
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
        return self._proxies.walk(peer, forwarded_for)
