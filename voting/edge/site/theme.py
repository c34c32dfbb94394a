"""GET /campaigns/{campaign}/theme.css: the campaign's colours as custom properties. A file and not
a style in the page, so that the pages' policy stays style-src 'self'."""

from functools import lru_cache

from aiohttp import web

from voting.edge.answers import FOR_GOOD, problem, public_headers
from voting.edge.campaigns import campaign_of
from voting.edge.compressed import Body, answer
from voting.edge.parts import EDGE
from voting.edge.site import colours
from voting.edge.site.static import digest_of

_FOR_A_WHILE = "public, max-age=60"


async def get_theme(request: web.Request) -> web.Response:
    """Kept for good where it is asked for by its digest, as the pages do."""
    campaign = campaign_of(request)
    if campaign is None:
        return problem(request.app[EDGE].catalog.unknown)
    body, digest = _theme(campaign.page.colour)
    cache = FOR_GOOD if request.query_string == digest else _FOR_A_WHILE
    return answer(request, body, public_headers("text/css; charset=utf-8", cache))


def theme_digest(colour: str) -> str:
    return _theme(colour)[1]


def banner_colour(colour: str) -> str:
    """For the browser's own frame (theme-color)."""
    return colours.banner(colour).top


@lru_cache(maxsize=256)
def _theme(colour: str) -> tuple[Body, str]:
    css = css_of(colour).encode()
    return Body(css), digest_of(css)


def css_of(colour: str) -> str:
    """The style sheet; `colour` as it stands in the campaign, whatever that is."""
    head = colours.banner(colour)
    head_rules = "".join(f"--banner-{name}:{value};" for name, value in head._asdict().items())
    light, dark = _properties(colours.light(colour)), _properties(colours.dark(colour))
    return (
        f":root{{{head_rules}{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{{light}}}}}\n"
    )


def _properties(scheme: colours.Scheme) -> str:
    return "".join(
        f"--{name.replace('_', '-')}:{value};" for name, value in scheme._asdict().items()
    )
