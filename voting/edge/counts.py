"""GET counts: as JSON for pages and caches, as an image for where no script runs."""

from functools import lru_cache
from html import escape

from aiohttp import hdrs, web

from voting.campaign import Campaign
from voting.edge.answers import WITHDRAWN, Answer, HeaderBlock, public_headers, public_problem
from voting.edge.campaigns import campaign_of, candidate_of
from voting.edge.parts import EDGE, Edge

_CACHE = "public, max-age=2, stale-while-revalidate=10"
_HIDDEN = "–"


async def get_counts(request: web.Request) -> web.Response:
    """GET /v1/campaigns/{campaign}/counts."""
    campaign = campaign_of(request)
    if campaign is None:
        return public_problem(request.app[EDGE].catalog.unknown)
    answer = counts_answer(request.app[EDGE], campaign, request.headers.get(hdrs.IF_NONE_MATCH))
    return public_problem("store-down") if answer is None else answer.response()


def counts_answer(edge: Edge, campaign: Campaign, if_none_match: str | None) -> Answer | None:
    """The counts as they are published; None while nothing is known."""
    published = edge.board.published(campaign)
    if published is None:
        return None
    made = _counts_headers(published.etag)
    if if_none_match is not None and published.etag in if_none_match:
        return Answer(304, made)
    # The view is new now and then where the counts are not: the ETag is weak, and speaks of these.
    return Answer(200, made, edge.encoded_counts.of(campaign, published))


@lru_cache(maxsize=256)
def _counts_headers(etag: str) -> HeaderBlock:
    made = public_headers("application/json; charset=utf-8", _CACHE)
    made[hdrs.ETAG] = etag
    return HeaderBlock(made)


async def get_count_image(request: web.Request) -> web.Response:
    """GET /v1/campaigns/{campaign}/counts/{candidate}.svg; a dash where counts are hidden."""
    campaign = campaign_of(request)
    if campaign is None:
        return public_problem(request.app[EDGE].catalog.unknown)
    candidate = candidate_of(request, campaign)
    if candidate is None:
        return public_problem("unknown-candidate")
    if candidate.withdrawn:
        return public_problem("unknown-candidate", title=WITHDRAWN)
    likes = request.app[EDGE].board.likes(campaign, candidate.number, None)
    return web.Response(
        body=_image(candidate.name, _HIDDEN if likes is None else f"{likes:,}"),
        headers=public_headers("image/svg+xml; charset=utf-8", _CACHE),
    )


def _image(name: str, count: str) -> bytes:
    width = 44 + 11 * len(count)
    label = escape(f"{name} 点赞数 {count}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="28" role="img"'
        f' aria-label="{label}"><title>{label}</title>'
        f'<rect width="{width}" height="28" rx="14" fill="#c8321e"/>'
        '<path fill="#fff" d="M20 21c-5-4-8-6.5-8-9.500a4 4 0 0 1 8-1.500 4 4 0 0 1 8 1.500'
        'c0 3-3 5.500-8 9.500z"/>'
        f'<text x="34" y="19" fill="#fff" font-family="sans-serif" font-size="15"'
        f' font-weight="600">{escape(count)}</text></svg>'
    ).encode()
