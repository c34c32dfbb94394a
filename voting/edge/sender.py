"""Sender: who sent a request, as far as its head and its connection say."""

import msgspec
from aiohttp import hdrs, web

FINGERPRINT = "X-JA4"
"""The header in which a trusted proxy says how its client's TLS looked."""


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Nothing of it is believed yet but the peer."""

    peer: str
    """Address of the socket's other end."""
    host: str | None = None
    origin: str | None = None
    forwarded_for: str | None = None
    """All lines of X-Forwarded-For, commas between."""
    user_agent: str | None = None
    accepts_language: bool = False
    """It has an Accept-Language."""
    fetch_metadata: bool = False
    """It has a Sec-Fetch-Site."""
    tls_fingerprint: str | None = None
    """Believed only where the peer is a trusted proxy."""


def sender_of(request: web.BaseRequest) -> Sender:
    headers = request.headers
    return Sender(
        peer_address(request._transport_peername),
        headers.get(hdrs.HOST),
        headers.get(hdrs.ORIGIN),
        ",".join(headers.getall(hdrs.X_FORWARDED_FOR, ())) or None,
        headers.get(hdrs.USER_AGENT),
        hdrs.ACCEPT_LANGUAGE in headers,
        "Sec-Fetch-Site" in headers,
        headers.get(FINGERPRINT),
    )


def peer_address(peername: object) -> str:
    """Of a transport's peername; who comes by a Unix socket is on this machine."""
    return peername[0] if isinstance(peername, tuple) else "127.0.0.1"
