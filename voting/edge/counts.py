"""GET counts: all counts of a campaign at once, for pages and caches."""

from functools import lru_cache

from aiohttp import hdrs, web

from voting.campaign import Campaign
from voting.edge.answers import Answer, HeaderBlock, public_headers, public_problem
from voting.edge.campaigns import campaign_of
from voting.edge.compressed import GZIP, request_accepts_gzip, vary_by_encoding
from voting.edge.parts import EDGE, Edge

COUNTS_CACHE = "public, max-age=2, stale-while-revalidate=10, stale-if-error=60"
"""What is said of counts may be some seconds old, and nobody waits while a CDN asks anew."""


async def get_counts(request: web.Request) -> web.Response:
    """GET /v1/campaigns/{campaign}/counts."""
    campaign = campaign_of(request)
    if campaign is None:
        return public_problem(request.app[EDGE].catalog.unknown)
    answer = counts_answer(
        request.app[EDGE],
        campaign,
        request.headers.get(hdrs.IF_NONE_MATCH),
        gzip=request_accepts_gzip(request),
    )
    return public_problem("store-down") if answer is None else answer.response()


def counts_answer(
    edge: Edge, campaign: Campaign, if_none_match: str | None, *, gzip: bool
) -> Answer | None:
    """The counts as they are published; None while nothing is known."""
    published = edge.board.published(campaign)
    if published is None:
        return None
    if if_none_match is not None and published.etag in if_none_match:
        return Answer(304, _counts_headers(campaign.id, published.etag, False))
    # The view is new now and then where the counts are not: the ETag is weak, and speaks of these.
    body = edge.encoded_counts.of(campaign, published)
    gzip = gzip and body.worth_it
    made = _counts_headers(campaign.id, published.etag, gzip)
    return Answer(200, made, body.form(gzip=gzip))


@lru_cache(maxsize=256)
def _counts_headers(campaign_id: str, etag: str, gzip: bool) -> HeaderBlock:
    made = public_headers(
        "application/json; charset=utf-8",
        COUNTS_CACHE,
        f"campaign-{campaign_id}",
        f"counts-{campaign_id}",
    )
    made[hdrs.ETAG] = etag
    vary_by_encoding(made)
    if gzip:
        made[hdrs.CONTENT_ENCODING] = GZIP
    return HeaderBlock(made)
