"""Sender: who sent a request, as far as its head and its connection say."""

import msgspec
from aiohttp import hdrs, web


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Nothing of it is believed yet but the peer."""

    peer: str
    """Address of the socket's other end."""
    host: str | None = None
    origin: str | None = None
    forwarded_for: str | None = None
    """All lines of X-Forwarded-For, commas between."""


def sender_of(request: web.BaseRequest) -> Sender:
    headers = request.headers
    return Sender(
        peer_address(request._transport_peername),
        headers.get(hdrs.HOST),
        headers.get(hdrs.ORIGIN),
        ",".join(headers.getall(hdrs.X_FORWARDED_FOR, ())) or None,
    )


def peer_address(peername: object) -> str:
    """Of a transport's peername; who comes by a Unix socket is on this machine."""
    return peername[0] if isinstance(peername, tuple) else "127.0.0.1"
