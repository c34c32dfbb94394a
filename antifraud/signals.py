"""Signals: the facts about one request that the edge knows, for judging.

Unknown is 0 in every field, so that a fact which a later part learns to gather changes no
layout and no rule that does not ask for it.

The first group is stored with the vote, byte for byte as it is here: near-line detectors and a
recount see the same. What stands in `oddities` is judged once and not stored, but for the reason
codes that it gives.
"""

import msgspec

from antifraud.networks import NetworkClass

LEVEL_BITS = 0x0F
"""The part of a token's level byte that is its level: 0 cannot vote, 1 votes, 2 confirmed, 3 one
identity."""
VOUCHED = 3
"""The level of a device whose person a portal vouches for: what its token's age, which begins anew
with each browser, would say of others says nothing of it."""
PROVEN = 0x10
"""Bit of a level byte: a challenge was solved for this token."""
LOW_END = 0x20
"""Bit of a level byte: by the route for slow phones and for no JavaScript."""

NO_LANGUAGE = 0x01
"""Oddity: no Accept-Language, which every browser sends."""
NO_FETCH_METADATA = 0x02
"""Oddity: no Sec-Fetch-Site from a browser whose version sends it."""
TLS_UNLIKE_AGENT = 0x04
"""Oddity: a TLS fingerprint that this user agent was hardly ever seen with."""
OTHER_AGENT = 0x08
"""Oddity: the token was issued to another class of user agent."""
OTHER_NETWORK = 0x10
"""Oddity: the token was issued in a network of another class."""
BAD_VIEW = 0x40
"""Oddity: a `view` that is not one of ours, is out of date, or is another device's."""


class Signals(msgspec.Struct, frozen=True, gc=False):
    """Facts about one request. Times in seconds unless the name says otherwise."""

    network_class: NetworkClass = NetworkClass.UNKNOWN
    asn: int = 0
    user_agent_class: int = 0
    """See `antifraud.user_agents`."""
    tls_hash: int = 0
    token_age_seconds: int = 0
    token_level: int = 0
    """The level byte: LEVEL_BITS, PROVEN, LOW_END."""
    dwell_centiseconds: int = 0
    """From the card's appearance to the click; 0 = not known."""

    oddities: int = 0
    """The bits above."""
