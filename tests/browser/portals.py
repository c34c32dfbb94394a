"""News portals that do not exist, for tests of the whole way: pages on sites of their own, under a
policy that allows the service's origin where it must be and nothing else.

To a browser every name below .localhost is a site of its own, and all of them are this machine.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from html import escape

from aiohttp import web
from playwright.async_api import Locator, Page, Request, expect

POLICY = (
    "default-src 'none'; script-src {edge}; style-src 'self' {edge}; img-src 'self' {edge};"
    " connect-src {edge}; frame-src {edge}; form-action {edge}; worker-src blob:; base-uri 'none';"
    " frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>示例新闻网</title>
<link rel="stylesheet" href="/portal.css">
<script src="{edge}/embed/v1/like.js" async></script>
</head>
<body>
<header><p>示例新闻网</p></header>
<main><h1>身边的科技工作者</h1>
{inside}
</main>
</body>
</html>
"""
SHEET = """
body { margin: 0; padding: 0 12px; font: 16px/1.6 system-ui, sans-serif; color: #222; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
h1, h2, like-wall { grid-column: 1 / -1; }
like-card { display: flex; min-height: 440px; --like-photo-ratio: 60%; }
like-button { display: block; min-height: 44px; }
like-wall { display: block; min-height: 100vh; }
iframe { border: 0; max-width: 100%; }
form button { min-height: 44px; font: inherit; }
@media (prefers-color-scheme: dark) {
  body { background: #14110f; color: #f3ebe6; }
  a { color: #9cc4ff; }
}
"""


@dataclass
class Portals:
    """One server of them all. A page is served on each of them."""

    campaign: str
    edge: str = ""
    """The service's origin."""
    port: int = 0
    pages: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Path -> (language, what stands in the page)."""

    def origin(self, name: str = "portal") -> str:
        return f"http://{name}.localhost:{self.port}"

    def write(self, path: str, *parts: str, name: str = "portal", lang: str = "zh-CN") -> str:
        """Puts a page there; its address on this portal."""
        self.pages[path] = (lang, "\n".join(parts))
        return self.origin(name) + path

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/portal.css":
            return web.Response(text=SHEET, content_type="text/css")
        if request.path not in self.pages:
            return web.Response(status=204)
        lang, inside = self.pages[request.path]
        return web.Response(
            text=PAGE.format(lang=lang, edge=self.edge, inside=inside),
            content_type="text/html",
            headers={"Content-Security-Policy": POLICY.format(edge=self.edge)},
        )

    def card_page(self, candidate: str) -> str:
        return f"{self.edge}/embed/v1/card/{self.campaign}/{candidate}"

    def element(self, tag: str, candidate: str, more: str = "") -> str:
        """A <like-card> or <like-button>."""
        return (
            f'<like-{tag} campaign="{self.campaign}" candidate="{candidate}" {more}>'
            f'<a href="{self.card_page(candidate)}">点赞</a></like-{tag}>'
        )

    def card(self, candidate: str, more: str = "") -> str:
        return self.element("card", candidate, more)

    def button(self, candidate: str, name: str) -> str:
        return self.element("button", candidate, f'name="{escape(name)}"')

    def wall(self, more: str = "") -> str:
        return (
            f'<h2>全部人物</h2><like-wall campaign="{self.campaign}" {more}>'
            f'<a href="{self.edge}/campaigns/{self.campaign}">查看全部</a></like-wall>'
        )

    def frame(self, candidate: str, query: str = "") -> str:
        return (
            f'<iframe src="{self.card_page(candidate)}?{query}" title="点赞" width="320"'
            ' height="680"></iframe>'
        )

    def form(self, candidate: str, query: str = "") -> str:
        return (
            f'<form method="post" action="{self.card_page(candidate)}?{query}">'
            "<button>为这位点赞</button></form>"
        )

    def image(self, candidate: str, kind: str = "svg") -> str:
        counts = f"{self.edge}/v1/campaigns/{self.campaign}/counts/{candidate}.{kind}"
        return (
            f'<p><a href="{self.card_page(candidate)}"><img src="{counts}" height="28"'
            f' alt="点赞数"></a></p>'
        )


@contextlib.asynccontextmanager
async def portals_of(campaign: str) -> AsyncIterator[Portals]:
    """They are there before the service is, whose campaign has to name them."""
    portals = Portals(campaign)
    app = web.Application()
    app.router.add_get("/{path:.*}", portals.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        portals.port = runner.addresses[0][1]
        yield portals
    finally:
        await runner.cleanup()


async def press(button: Locator) -> None:
    """By the keyboard: where a page was scrolled past a frame of another site, Chromium may still
    take a click on the page for one into the frame."""
    await button.press("Enter")


class Seen:
    """One card or button as a visitor meets it, wherever it stands."""

    def __init__(self, host: Locator) -> None:
        self.host = host
        self.button = host.locator("button.button")
        self.count = host.locator(".count")
        self.said = host.get_by_role("status")
        self.hint = host.locator(".hint")

    async def is_ready(self, count: int = 0, label: str = "点赞") -> None:
        await self.host.scroll_into_view_if_needed()  # its inside is made when it is near
        await expect(self.count).to_have_text(str(count))
        await expect(self.button.locator(".label")).to_have_text(label)
        await expect(self.button).to_have_attribute("aria-disabled", "false")
        await expect(self.button).to_have_attribute("aria-pressed", "false")

    async def is_liked(self, count: int, label: str = "已点赞") -> None:
        """By the service's word: what is shown ahead of it is still busy."""
        await expect(self.button).to_have_attribute("aria-busy", "false")
        await expect(self.button).to_have_attribute("aria-pressed", "true")
        await expect(self.button.locator(".label")).to_have_text(label)
        await expect(self.count).to_have_text(str(count))


def card_of(page: Page, candidate: str, tag: str = "like-card") -> Seen:
    return Seen(page.locator(f"{tag}[candidate={candidate}]"))


class Sent:
    """What a page sends to the service's POST routes, as it goes out."""

    def __init__(self, page: Page) -> None:
        self.requests: list[tuple[str, dict[str, object]]] = []
        """(path, body), in order; those of which no answer came too."""
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        if request.method == "POST" and "/v1/" in request.url:
            path = "/v1/" + request.url.split("/v1/", 1)[1]
            self.requests.append((path, request.post_data_json))

    def to(self, path: str) -> list[dict[str, object]]:
        return [body for at, body in self.requests if at == path]

    def clicks(self) -> list[object]:
        return [like["click"] for like in self.to("/v1/likes")]
