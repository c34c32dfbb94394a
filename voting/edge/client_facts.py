"""Client: what a request's head says of the program that sent it.

Nothing here identifies anybody, and nothing of it is believed: it is judged (antifraud/
heuristics.py). A crowd's heads are the same few thousand, so each is read once; what is kept is
bounded, because clients choose it.

The TLS fingerprint comes in `X-JA4`, which the proxy that ends TLS must set (and must not let
through from outside); it is read only from trusted proxies. Its hash is stored, never itself.
"""

from zlib import crc32

import msgspec

from antifraud.signals import NO_FETCH_METADATA, NO_LANGUAGE
from antifraud.user_agents import (
    AUTOMATION,
    READ_CHARACTERS_MAX,
    UNKNOWN,
    agent_class,
    sends_fetch_metadata,
)
from voting.edge.sender import Sender
from voting.remembered import remember

_FINGERPRINT_CHARACTERS_MAX = 64
_HELD_MAX = 16_384
"""Some 400 bytes each, 1,000 at most."""


class Client(msgspec.Struct, frozen=True, gc=False):
    """One kind of client."""

    user_agent_class: int = UNKNOWN
    tls_hash: int = 0
    oddities: int = 0
    """NO_LANGUAGE, NO_FETCH_METADATA."""


_held: dict[tuple[str, bool, bool, str], Client] = {}


def client_of(sender: Sender, *, proxied: bool = False) -> Client:
    """What is known of this request's client. `proxied`: a trusted proxy brought it, whose word
    on the client's TLS is believed."""
    key = (
        (sender.user_agent or "")[:READ_CHARACTERS_MAX],
        sender.accepts_language,
        sender.fetch_metadata,
        (sender.tls_fingerprint or "")[:_FINGERPRINT_CHARACTERS_MAX] if proxied else "",
    )
    found = _held.get(key)
    return found if found is not None else remember(_held, key, _read(*key), _HELD_MAX)


def _read(
    user_agent: str, accepts_language: bool, fetch_metadata: bool, fingerprint: str
) -> Client:
    agent = agent_class(user_agent)
    oddities = 0
    if agent not in (UNKNOWN, AUTOMATION):
        # Of those two nothing more need be said.
        if not accepts_language:
            oddities |= NO_LANGUAGE
        if not fetch_metadata and sends_fetch_metadata(user_agent):
            oddities |= NO_FETCH_METADATA
    return Client(agent, tls_hash(fingerprint), oddities)


def tls_hash(fingerprint: str) -> int:
    """32 bits that stand for a fingerprint, 0 for none. Not keyed: a fingerprint is a kind of
    browser's, not a person's."""
    if not fingerprint:
        return 0
    return crc32(fingerprint.encode(errors="replace")) or 1
