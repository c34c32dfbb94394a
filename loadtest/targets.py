"""Where load may go: loopback, and hosts that the operator names."""

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit


class CannotLoad(ValueError):
    """A load test that must not or cannot begin; its text says why, in a line."""


class Target(NamedTuple):
    """A service under load."""

    url: str
    host_header: str
    address: str
    port: int
    allowed: str | None
    """The address again where it is not loopback."""


def read_target(url: str, allow: list[str]) -> Target:
    """The target that a URL means; CannotLoad before a byte is sent where load must not go there.

    A name counts as loopback only if every address that it has is; another host must be named in
    `allow` as it stands in the URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as why:
        raise CannotLoad(f"{url}: {why}") from None
    if parts.scheme == "https":
        raise CannotLoad(f"{url}: no TLS here; load a plain http:// address behind it")
    if parts.scheme != "http" or not host:
        raise CannotLoad(f"{url}: a target is http://HOST[:PORT]")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise CannotLoad(f"{url}: a target has no path: http://HOST[:PORT]")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as why:
        raise CannotLoad(f"{host}: {why.strerror}") from None
    addresses = [str(each[4][0]) for each in found]
    loopback = all(ipaddress.ip_address(address).is_loopback for address in addresses)
    if not loopback and host not in [name.strip("[]").lower() for name in allow]:
        raise CannotLoad(
            f"{host} is not loopback: load goes elsewhere only with --allow {host}, and only where "
            "you may put it"
        )
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout=5).close()
        except OSError:
            continue
        return Target(
            f"http://{parts.netloc}", parts.netloc, address, port, None if loopback else address
        )
    raise CannotLoad(f"nobody listens at {url}")
