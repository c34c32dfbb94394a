"""What search engines read: /robots.txt and /sitemap.xml."""

from urllib.parse import quote, urlsplit

from aiohttp import web
from markupsafe import escape

from voting.campaign import Campaign
from voting.edge.answers import problem
from voting.edge.parts import EDGE
from voting.edge.site.render import public_base, public_text

_CACHE = "public, max-age=300, stale-while-revalidate=3600"
_ADDRESSES_MAX = 50_000
"""What one site map may hold."""
_PAGES = ("", "/ranking", "/rules", "/privacy")


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
    return public_text(request, "\n".join([*lines, ""]), "text/plain; charset=utf-8", _CACHE)


async def get_sitemap(request: web.Request) -> web.Response:
    """All pages of campaigns that are no tests, and of who is in them."""
    base = public_base(request)
    if not base:
        return problem("malformed")
    campaigns = request.app[EDGE].catalog.campaigns.values()
    text = sitemap(base, [campaign for campaign in campaigns if not campaign.is_test])
    return public_text(request, text, "application/xml; charset=utf-8", _CACHE)


def sitemap(base: str, campaigns: list[Campaign]) -> str:
    addresses = [
        f"{base}campaigns/{quote(campaign.id)}{page}"
        for campaign in campaigns
        for page in (*_PAGES, *(["/notice"] if campaign.notices else []))
    ]
    addresses += [
        f"{base}campaigns/{quote(campaign.id)}/candidates/{quote(candidate.id)}"
        for campaign in campaigns
        for candidate in campaign.candidates
        if not candidate.withdrawn
    ]
    entries = "".join(
        f"<url><loc>{escape(address)}</loc></url>\n" for address in addresses[:_ADDRESSES_MAX]
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n'
    )
