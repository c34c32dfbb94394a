"""Signals: the facts about one request that the edge knows, for judging.

Unknown is 0 in every field, so that a fact which a later part learns to gather changes no
layout and no rule that does not ask for it.
"""

import msgspec

from antifraud.networks import NetworkClass


class Signals(msgspec.Struct, frozen=True, gc=False):
    """Facts about one request. Times in seconds unless the name says otherwise."""

    network_class: NetworkClass = NetworkClass.UNKNOWN
    asn: int = 0
    user_agent_class: int = 0
    tls_hash: int = 0
    token_age_seconds: int = 0
    token_level: int = 0
    dwell_centiseconds: int = 0
    """From the card's appearance to the click."""
