"""The first that a request meets and the last that an answer does: whose it is, whether a browser
was tricked into sending it, and what browsers may do with the answer.

A request that changes something (neither GET nor HEAD) must come from one of our own pages: its
Sec-Fetch-Site says same-origin, or, of a browser that sends none, its Origin (or, without one, its
Referer) is ours. The selection office's interface (/office/v1) takes no cookie, and its clients are
no browsers: there it is not asked for.
"""

import ipaddress
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antifraud.networks import is_address
from tally.console.limits import REQUESTS, InMemory, network_of
from tally.console.wire import with_deadline
from voting.proxies import TrustedProxies

OFFICE_API = "/office/v1"
SAFE_METHODS = frozenset({"GET", "HEAD"})

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
"""Of every answer. Nothing inline: a script or style that came in by a name would not run. The
Referer stays, for our own pages only: it is what tells a request of ours where a browser sends
neither of the better headers."""
NO_STORE = "no-store"
HSTS = "max-age=31536000"
_PLAIN = "text/plain"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request's sender and way here, as far as they can be believed; in request.state.seen."""

    address: str
    """The client's, through trusted proxies."""
    https: bool
    origin: str
    """What the browser has in its address bar: scheme and host."""
    may_sign_in: bool
    """https, or a loopback name."""


class Guard:
    """Middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxies: TrustedProxies,
        origin: str | None,
        requests: str = REQUESTS,
    ) -> None:
        """`origin`: what browsers call the console, where that is set; `requests`: how many of one
        address are admitted."""
        self._app = app
        self._proxies = proxies
        self._origin = origin
        self._requests = InMemory(requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        seen = self._see(scope, headers)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["seen"], state["address"] = seen, seen.address

        replaced = False

        async def send_guarded(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                if message["status"] == 413 and answer.get("content-type", "").startswith(_PLAIN):
                    # FastAPI's limit of bodies stands outside of what makes pages of problems.
                    await self._refuse(413, scope, receive, send_guarded)
                    replaced = True
                    return
                for name, value in HEADERS.items():
                    answer.setdefault(name, value)
                answer.setdefault("Cache-Control", NO_STORE)
                if seen.https:
                    answer["Strict-Transport-Security"] = HSTS
            await send(message)

        if not self._requests.admits(network_of(seen.address)):
            await self._refuse(429, scope, receive, send_guarded)
        elif not is_ours(scope["method"], scope["path"], headers, seen.origin):
            await self._refuse(403, scope, receive, send_guarded)
        else:
            await self._app(scope, with_deadline(receive, headers), send_guarded)

    def _see(self, scope: Scope, headers: Headers) -> Seen:
        client = scope.get("client")
        peer = client[0] if client and is_address(client[0]) else "127.0.0.1"
        address, scheme = peer, scope["scheme"]
        if self._proxies.trusts(peer):
            forwarded = ",".join(headers.getlist("x-forwarded-for"))
            if forwarded:
                address = self._proxies.walk(peer, forwarded)
            # The last word is the nearest proxy's.
            said = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            scheme = said if said in ("http", "https") else scheme
        origin = self._origin or f"{scheme}://{headers.get('host', '')}".lower()
        https = origin.startswith("https://")
        # A proxy that passes on its own name for us (nginx' habit) makes everybody look like this
        # machine's: a browser's Origin says where it really is.
        here = _is_loopback(origin) and _is_loopback(headers.get("origin", origin))
        return Seen(address, https, origin, https or here)

    async def _refuse(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        from tally.console.problems import problem  # it renders pages, which know of us

        response: Response = problem(Request(scope, receive), status)
        await response(scope, receive, send)


def is_ours(method: str, path: str, headers: Headers, origin: str) -> bool:
    """Whether one of our own pages sent this, or it changes nothing."""
    if method in SAFE_METHODS or path.startswith(f"{OFFICE_API}/"):
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    sender = headers.get("origin")
    if sender is not None:
        return sender.lower() == origin
    referrer = urlsplit(headers.get("referer", ""))
    return f"{referrer.scheme}://{referrer.netloc}".lower() == origin


def _is_loopback(origin: str) -> bool:
    try:
        name = urlsplit(origin).hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
