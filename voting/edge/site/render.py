"""What all public pages share: the templates, the frame's values, addresses, headers, and a bounded
store of pages that are made once and answered many times.

A page writes no absolute path: the edge may be mounted under a path of a portal's own domain, which
only the proxy before it knows. `root` leads from a page to the edge's root.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup, escape
from multidict import CIMultiDict

from voting.campaign import Campaign
from voting.edge import widget
from voting.edge.answers import headers, problem, public_headers
from voting.edge.compressed import Body, answer, vary_by_encoding
from voting.edge.parts import EDGE
from voting.edge.sender import sender_of
from voting.edge.site.budget import BUDGETS
from voting.edge.site.kept import BASE, KEPT, STATES
from voting.edge.site.static import asset
from voting.edge.site.theme import banner_colour, theme_digest

SHORT = "public, max-age=5, stale-while-revalidate=30, stale-if-error=60"
"""Cache-Control of pages that show what may change any second."""
_DEPTH_MAX = 24
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.~-]{1,64}){1,8}")
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

    That of DIANZAN_PUBLIC_ORIGINS which the request names, else the first of them; without that
    setting what the request says. With the scheme and the path that a trusted proxy says. Known
    weakness: without the setting a client names the host, and a cache before the edge must keep
    pages by Host, as caches do.
    """
    edge = request.app[EDGE]
    sender = sender_of(request)
    host = sender.host or ""
    proxied = edge.client_address.trusts(sender.peer)
    origins = edge.settings.public_origins
    if origins:
        named = (one for one in origins if urlsplit(one).netloc == host.lower())
        origin = next(named, "")
        if not origin:
            return f"{origins[0]}/"
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


def path_of(request: web.Request) -> str:
    """The page's own path, without a slash at its beginning: the one spelling of it, however many
    a request could choose (%62 is b)."""
    route = request.match_info.route
    if route.resource is None:
        return request.rel_url.raw_path.lstrip("/")
    return route.resource.url_for(**request.match_info).raw_path.lstrip("/")


def base_to_keep(request: web.Request) -> str:
    """What a page that is kept says in place of its base, which is put in for each request; ""
    where there is none."""
    return BASE if public_base(request) else ""


def state_of(request: web.Request, campaign: Campaign) -> int:
    """A number for this state of a campaign, for what is kept."""
    return request.app[STATES].number_of(campaign.id, campaign)


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


def render(request: web.Request, template: str, *, base: str | None = None, **values: Any) -> str:
    """The text of the page at this address."""
    if base is None:
        base = public_base(request)
    return fill(template, root=root_of(request), base=base, path=path_of(request), **values)


def page(
    request: web.Request,
    template: str,
    *,
    policy: str,
    cache: str = "no-store",
    status: int = 200,
    **values: Any,
) -> web.Response:
    """A page that is made for this request alone; see `within_budget`."""
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
    etag: str = "",
) -> web.Response:
    """A page's bytes with its headers; 304 where the client has them. `surrogate_key`: the names
    by which a CDN can be told to forget it."""
    made = headers("text/html; charset=utf-8", cache)
    made["Content-Security-Policy"] = policy
    # Not no-referrer: it would make a form's Origin "null", which is foreign.
    made["Referrer-Policy"] = "strict-origin-when-cross-origin"
    made["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if surrogate_key:
        made["Surrogate-Key"] = surrogate_key
    return _answer(request, body, made, status, etag)


def _answer(
    request: web.Request, body: Body, made: CIMultiDict[str], status: int, etag: str
) -> web.Response:
    if etag:
        made[hdrs.ETAG] = etag
        if _is_known(request, etag):
            vary_by_encoding(made)
            return web.Response(status=304, headers=made)
    return answer(request, body, made, status=status)


def _is_known(request: web.Request, etag: str) -> bool:
    """By the weak comparison of RFC 9110: a page in gzip is the same page."""
    return any(
        one.value == "*" or f'W/"{one.value}"' == etag for one in request.if_none_match or ()
    )


def kept_page(
    request: web.Request,
    template: str,
    *,
    made_from: tuple[int | str, ...],
    make_values: Callable[[], dict[str, Any]],
    policy: str,
    cache: str = SHORT,
    surrogate_key: str = "",
) -> web.Response:
    """A page that is the same for everybody until something of `made_from` changes. `make_values`
    is called only when it has to be made; an absolute address in it begins with `base_to_keep`."""
    base = public_base(request)
    kept = request.app[KEPT].get(
        page_key(request, template),
        made_from,
        lambda: render(request, template, base=base_to_keep(request), **make_values()).encode(),
    )
    return send(
        request,
        kept.at(base),
        policy=policy,
        cache=cache,
        surrogate_key=surrogate_key,
        etag=kept.etag(base),
    )


def page_key(request: web.Request, *more: object) -> tuple[object, ...]:
    """What tells this page from others: its path, whether it has a base, and `more`."""
    return (path_of(request), bool(base_to_keep(request)), *more)


def within_budget(
    request: web.Request, kind: str, make: Callable[[], web.Response]
) -> web.Response:
    """A page that nobody else will ask for, where there is time for one more of its kind; else 503
    with Retry-After. It is made on the loop that takes likes."""
    budget = request.app[BUDGETS].of(kind)
    if budget.spent:
        return problem("overloaded")
    with budget.measured():
        return make()


def public_text(
    request: web.Request,
    body: Body,
    content_type: str,
    cache: str = SHORT,
    etag: str = "",
) -> web.Response:
    """robots.txt and the like."""
    return _answer(request, body, public_headers(content_type, cache), 200, etag)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text that has line breaks."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shortened(text: str, characters_max: int) -> str:
    """On one line, cut at the end of a sentence where there is one in the second half."""
    text = " ".join(text.split())
    if len(text) <= characters_max:
        return text
    cut = text[: characters_max - 1]
    end = max(cut.rfind(mark) for mark in "。！？.!?")
    return cut[: end + 1] if end >= characters_max // 2 else cut.rstrip("，、；：,;: ") + "…"


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
