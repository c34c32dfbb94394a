"""What search engines read: /robots.txt, and the addresses of all pages as site maps.

/sitemap.xml lists them, or where they are too many, /sitemap-1.xml and so on, which do.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from urllib.parse import quote, urlsplit

from aiohttp import web
from markupsafe import escape

from voting.campaign import Campaign
from voting.edge.answers import problem
from voting.edge.compressed import Body
from voting.edge.parts import EDGE
from voting.edge.site.kept import BASE, KEPT, KeptPage
from voting.edge.site.render import public_base, public_text, state_of, within_budget

ADDRESSES_MAX = 10_000
"""So many stand in one site map; search engines read 50,000. Fewer are made faster."""
_CACHE = "public, max-age=300, stale-while-revalidate=3600"
_PAGES = ("", "/ranking", "/rules", "/privacy")
_XML = "application/xml; charset=utf-8"
_INDEX = 0


class Sitemaps:
    """Makes one site map at a time, and remembers how many there are."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._parts: tuple[tuple[int, ...], int] = ((), 0)

    def parts(self, made_from: tuple[int, ...], campaigns: list[Campaign]) -> int:
        if self._parts[0] != made_from:
            self._parts = (made_from, parts_of(campaigns))
        return self._parts[1]


SITEMAPS = web.AppKey("sitemaps", Sitemaps)


async def get_robots(request: web.Request) -> web.Response:
    """Pages and photos for everybody; cards, counts and logs are no pages to be found."""
    base = public_base(request)
    at = urlsplit(base).path or "/"
    lines = [
        "User-agent: *",
        f"Allow: {at}v1/photos/",
        f"Disallow: {at}v1/",
        f"Disallow: {at}embed/v1/card/",
        *([f"Sitemap: {base}sitemap.xml"] if base else []),
    ]
    text = "\n".join([*lines, ""])
    return public_text(request, Body(text.encode()), "text/plain; charset=utf-8", _CACHE)


async def get_sitemap(request: web.Request) -> web.Response:
    """All pages of campaigns that are no tests, and of who is in them. Kept until a campaign
    changes; one is made at a time, in a thread."""
    base = public_base(request)
    if not base:
        return problem("malformed")
    part = int(request.match_info.get("part", _INDEX))
    everything = request.app[EDGE].catalog.campaigns.values()
    campaigns = [campaign for campaign in everything if not campaign.is_test]
    made_from = tuple(state_of(request, campaign) for campaign in campaigns)
    kept, sitemaps = request.app[KEPT], request.app[SITEMAPS]
    if part > sitemaps.parts(made_from, campaigns):
        return problem("not-found")
    key = ("sitemap", part)
    page = kept.find(key, made_from)
    if page is None:
        async with sitemaps.turn:
            page = kept.find(key, made_from)
            if page is None:
                made = await asyncio.to_thread(_make, campaigns, part, base)
                page = kept.keep(key, made_from, made)
    found = page
    # At another base it is 10,000 replacements.
    return within_budget(
        request,
        "sitemap",
        lambda: public_text(request, found.at(base), _XML, _CACHE, found.etag(base)),
    )


def _make(campaigns: list[Campaign], part: int, base: str) -> KeptPage:
    page = KeptPage(sitemap(BASE, campaigns, part).encode())
    _ = page.at(base).gzipped
    return page


def parts_of(campaigns: list[Campaign]) -> int:
    """How many site maps there are beside the first one: 0 where that is enough."""
    addresses = sum(len(_pages_of(each)) + _people_in(each) for each in campaigns)
    return -(-addresses // ADDRESSES_MAX) if addresses > ADDRESSES_MAX else 0


def sitemap(base: str, campaigns: list[Campaign], part: int = _INDEX) -> str:
    """/sitemap.xml, or one of its parts."""
    parts = parts_of(campaigns)
    if part == _INDEX and parts:
        maps = (f"{base}sitemap-{number}.xml" for number in range(1, parts + 1))
        return _written("sitemapindex", "sitemap", maps)
    first = max(0, part - 1) * ADDRESSES_MAX
    return _written(
        "urlset", "url", islice(_addresses(base, campaigns), first, first + ADDRESSES_MAX)
    )


def _written(whole: str, each: str, addresses: Iterable[str]) -> str:
    entries = "".join(f"<{each}><loc>{escape(one)}</loc></{each}>\n" for one in addresses)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{whole} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</{whole}>\n'
    )


def _addresses(base: str, campaigns: list[Campaign]) -> Iterator[str]:
    """The campaigns' own pages first."""
    pages = (
        f"{base}campaigns/{quote(campaign.id)}{page}"
        for campaign in campaigns
        for page in _pages_of(campaign)
    )
    people = (
        f"{base}campaigns/{quote(campaign.id)}/candidates/{quote(candidate.id)}"
        for campaign in campaigns
        for candidate in campaign.standing
    )
    return chain(pages, people)


def _pages_of(campaign: Campaign) -> tuple[str, ...]:
    return (*_PAGES, "/notice") if campaign.notices else _PAGES


def _people_in(campaign: Campaign) -> int:
    return len(campaign.standing)
