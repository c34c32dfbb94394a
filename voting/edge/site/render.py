"""What all public pages share: the templates, the frame's values, addresses, headers, and a bounded
store of pages that are made once and answered many times.

A page writes no absolute path: the edge may be mounted under a path of a portal's own domain, which
only the proxy before it knows. `root` leads from a page to the edge's root.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jinja2
from aiohttp import web
from markupsafe import Markup, escape

from voting.campaign import Campaign
from voting.edge import widget
from voting.edge.answers import headers, public_headers
from voting.edge.compressed import Body, answer
from voting.edge.parts import EDGE
from voting.edge.sender import sender_of
from voting.edge.site.static import asset
from voting.edge.site.theme import banner_colour, theme_digest

SHORT = "public, max-age=5, stale-while-revalidate=30"
"""Cache-Control of pages that show what may change any second."""
_DEPTH_MAX = 24
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.~-]{1,64}){1,8}")
_PAGES_KEPT_MAX = 256
_PAGES_KEPT_BYTES_MAX = 32_000_000
_DOTS = frozenset({".", ".."})

templates = jinja2.Environment(
    loader=jinja2.PackageLoader("voting.edge"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
templates.globals |= {
    "asset": asset,
    "banner_colour": banner_colour,
    "theme_digest": theme_digest,
    "widget": widget.NEWEST,
}


def root_of(request: web.BaseRequest) -> str:
    """The relative way from this page to the edge's root: "./" from /receipt, "../../" from
    /campaigns/spring/rules. Of the path as it was sent: an encoded slash is none to a browser."""
    depth = request.rel_url.raw_path.count("/") - 1
    # Deeper than any page of ours: what is said there need not be right, but must stay short.
    return "../" * depth if 0 < depth <= _DEPTH_MAX else "./"


def public_base(request: web.Request) -> str:
    """The edge's root as an absolute address that ends with a slash, for what must be absolute:
    links that are shared, site maps. "" where nobody says a name that could be one.

    The first of DIANZAN_PUBLIC_ORIGINS; else what the request says, with the scheme and the path
    that a trusted proxy says. Known weakness: without that setting a client names the host; so a
    page is kept by this base, and a cache before the edge must keep it by Host, as caches do.
    """
    edge = request.app[EDGE]
    sender = sender_of(request)
    host = sender.host or ""
    proxied = edge.client_address.trusts(sender.peer)
    origins = edge.settings.public_origins
    if origins:
        origin = origins[0]
        if urlsplit(origin).netloc != host.lower():
            return f"{origin}/"
    elif not _HOST.fullmatch(host):
        return ""
    else:
        told = request.headers.get("X-Forwarded-Proto", "") if proxied else ""
        scheme = told if told in ("http", "https") else request.scheme
        origin = f"{scheme}://{host}"
    prefix = request.headers.get("X-Forwarded-Prefix", "").rstrip("/") if proxied else ""
    if not _PREFIX.fullmatch(prefix) or not _DOTS.isdisjoint(prefix.split("/")):
        prefix = ""
    return f"{origin}{prefix}/"


def policy(
    *, scripts: bool = False, frames: str = "'none'", forms: str = "'none'", media: str = ""
) -> str:
    """A Content-Security-Policy. `scripts`: the page has scripts of ours, which ask ours.
    `frames`: who may embed it. `forms`: where its forms may go. `media`: an origin of pictures and
    videos beside the edge."""
    own = f"'self' {media}".rstrip()
    said = [
        "default-src 'none'",
        "style-src 'self'",
        f"img-src {own}",
        f"media-src {own}",
        "base-uri 'none'",
        f"form-action {forms}",
        f"frame-ancestors {frames}",
    ]
    if scripts:
        said[1:1] = ["script-src 'self'", "worker-src 'self'", "connect-src 'self'"]
    return "; ".join(said)


def frame_ancestors(campaign: Campaign) -> str:
    """Who may embed a page that takes likes."""
    return " ".join(("'self'", *campaign.origins))


def fill(template: str, *, root: str, base: str = "", path: str = "", **values: Any) -> str:
    """A page's text, wherever it will be. `campaign` (or None) chooses the frame's title, links
    and colours; `base` and `path` say its own address, where that is known."""
    frame: dict[str, Any] = {"campaign": None, "root": root, "base": base, "path": path}
    return templates.get_template(template).render(frame | values)


def render(request: web.Request, template: str, **values: Any) -> str:
    """The text of the page at this address."""
    path = request.rel_url.raw_path.lstrip("/")
    base = public_base(request)
    return fill(template, root=root_of(request), base=base, path=path, **values)


def page(
    request: web.Request,
    template: str,
    *,
    policy: str,
    cache: str = "no-store",
    status: int = 200,
    **values: Any,
) -> web.Response:
    """A page that is made for this request alone."""
    body = Body(render(request, template, **values).encode())
    return send(request, body, policy=policy, cache=cache, status=status)


def send(
    request: web.Request,
    body: Body,
    *,
    policy: str,
    cache: str = "no-store",
    status: int = 200,
    surrogate_key: str = "",
) -> web.Response:
    """A page's bytes with its headers. `surrogate_key`: the names by which a CDN can be told to
    forget it."""
    made = headers("text/html; charset=utf-8", cache)
    made["Content-Security-Policy"] = policy
    # Not no-referrer: it would make a form's Origin "null", which is foreign.
    made["Referrer-Policy"] = "strict-origin-when-cross-origin"
    made["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if surrogate_key:
        made["Surrogate-Key"] = surrogate_key
    return answer(request, body, made, status=status)


@dataclass(slots=True)
class _Kept:
    made_from: tuple[object, ...]
    body: Body
    cost: int


class KeptPages:
    """Pages that were made, by key, each with what it was made from. Bounded in number and bytes;
    who was asked for longest ago goes first."""

    def __init__(
        self, pages_max: int = _PAGES_KEPT_MAX, bytes_max: int = _PAGES_KEPT_BYTES_MAX
    ) -> None:
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._pages_max = pages_max
        self._bytes_max = bytes_max
        self.bytes_kept = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: tuple[object, ...], made_from: tuple[object, ...]) -> Body | None:
        """The page of this key, unless something that it was made from is another object (or, for
        numbers and texts, another value) by now."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if not _same(kept.made_from, made_from):
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return kept.body

    def keep(self, key: tuple[object, ...], made_from: tuple[object, ...], plain: bytes) -> Body:
        """Keep what was just made."""
        if key in self._kept:
            self._forget(key)
        # Its compressed form comes later, and is some third of it.
        kept = _Kept(made_from, Body(plain), len(plain) * 4 // 3)
        self._kept[key] = kept
        self.bytes_kept += kept.cost
        while len(self._kept) > self._pages_max or (
            self.bytes_kept > self._bytes_max and len(self._kept) > 1
        ):
            self._forget(next(iter(self._kept)))
        return kept.body

    def get(
        self, key: tuple[object, ...], made_from: tuple[object, ...], make: Callable[[], bytes]
    ) -> Body:
        """The page of this key, made now where it has to be."""
        found = self.find(key, made_from)
        return self.keep(key, made_from, make()) if found is None else found

    def _forget(self, key: tuple[object, ...]) -> None:
        self.bytes_kept -= self._kept.pop(key).cost


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Campaigns are compared by identity: comparing them by value would walk 750 candidates."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, str | int | float) and a == b)
        for a, b in zip(one, other, strict=True)
    )


KEPT = web.AppKey("kept_pages", KeptPages)


def kept_page(
    request: web.Request,
    template: str,
    *,
    made_from: tuple[object, ...],
    make_values: Callable[[], dict[str, Any]],
    policy: str,
    cache: str = SHORT,
    surrogate_key: str = "",
) -> web.Response:
    """A page that is the same for everybody until something of `made_from` changes. `make_values`
    is called only when it has to be made."""
    body = request.app[KEPT].get(
        page_key(request, template),
        made_from,
        lambda: render(request, template, **make_values()).encode(),
    )
    return send(request, body, policy=policy, cache=cache, surrogate_key=surrogate_key)


def page_key(request: web.Request, *more: object) -> tuple[object, ...]:
    """What tells this page from others: its address as the client knows it, and `more`."""
    return (public_base(request), request.rel_url.raw_path, *more)


def public_text(
    request: web.Request, text: str, content_type: str, cache: str = SHORT
) -> web.Response:
    """robots.txt and the like."""
    return answer(request, Body(text.encode()), public_headers(content_type, cache))


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text that has line breaks."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shortened(text: str, characters_max: int) -> str:
    """On one line, cut at the end of a sentence where there is one in the second half."""
    text = " ".join(text.split())
    if len(text) <= characters_max:
        return text
    cut = text[: characters_max - 1]
    end = max(cut.rfind(mark) for mark in "。；！？.;!?")
    return cut[: end + 1] if end >= characters_max // 2 else cut.rstrip("，、, ") + "…"


_LINK = re.compile(
    r"(?P<mail>[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4})"
    r"|(?P<web>https?://[A-Za-z0-9.-]{1,253}(?::\d{1,5})?(?:/[A-Za-z0-9._~%/?&=+#-]{0,200})?)"
)


def linked(text: str) -> Markup:
    """Text in which mail and web addresses are links; everything else is escaped."""
    made, at = Markup(), 0
    for found in _LINK.finditer(text):
        made += escape(text[at : found.start()])
        target = found[0] if found["web"] else f"mailto:{found[0]}"
        made += Markup('<a href="{}" rel="nofollow">{}</a>').format(target, found[0])
        at = found.end()
    return made + escape(text[at:])


_CLOSING, _OPENING = "”’》〉」』）】：、，—", "“《〈「『（【"
_PHRASE_END = re.compile(f"(?<=[{_CLOSING}])(?=[^{_CLOSING}。])|(?<=[^{_OPENING}])(?=[{_OPENING}])")


def phrases(title: str) -> Markup:
    """A title whose lines break at its own marks, where they can, and not within a word."""
    return Markup("").join(
        Markup('<span class="phrase">{}</span>').format(part) for part in _PHRASE_END.split(title)
    )


def thousands(number: int) -> str:
    return f"{number:,}"


templates.filters |= {
    "paragraphs": paragraphs,
    "shortened": shortened,
    "linked": linked,
    "phrases": phrases,
    "thousands": thousands,
}
