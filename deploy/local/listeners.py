"""Listening sockets of the edge, one per worker on one port (SO_REUSEPORT), and of the console.

The supervisor opens them and keeps them open for its life, so that a process that dies costs its
clients a wait in the socket's queue and not a refusal.
"""

import contextlib
import socket
from collections.abc import Iterator

BACKLOG = 4096


class PortInUse(Exception):
    """Somebody else listens there; the message names the setting."""


@contextlib.contextmanager
def listening(
    host: str, port: int, count: int, *, part: str = "edge"
) -> Iterator[list[socket.socket]]:
    """`count` sockets that listen on the same host and port (0 = any free); raises PortInUse, in
    which `part` names the settings."""
    with contextlib.ExitStack() as opened:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            if port:
                # Without SO_REUSEPORT first: with it, two services of one user would share the
                # port, and each get some of the other's likes, without a word.
                with socket.socket(family) as probe:
                    _bind(probe, address, alone=True)
            sockets = []
            for _ in range(count):
                listener = opened.enter_context(socket.socket(family))
                _bind(listener, address, alone=False)
                address = listener.getsockname()  # the first one's port is everybody's
                sockets.append(listener)
        except OSError as why:
            raise PortInUse(
                f"the {part} cannot listen on {host} port {port} ({why.strerror}): "
                f"set DIANZAN_{part.upper()}_PORT (0 = any free) or DIANZAN_{part.upper()}_HOST"
            ) from None
        yield sockets


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port, *_ = listener.getsockname()
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (a name, no bind)
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def _bind(listener: socket.socket, address: tuple[object, ...], *, alone: bool) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not alone:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
    listener.bind(address)
    listener.listen(BACKLOG)
