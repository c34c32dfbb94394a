"""The verifiable logs for whoever checks them, by the paths of C2SP tlog-tiles:

    GET /v1/logs/key                                            what checkpoints are signed with
    GET /v1/logs/{campaign}/{votes|rulings}/checkpoint
    GET /v1/logs/{campaign}/{votes|rulings}/tile/{level}/{number}[.p/{width}]
    GET /v1/logs/{campaign}/{votes|rulings}/tile/entries/{number}[.p/{width}]

No entry of `votes` tells a candidate, a device or a network. A ruling names a leaf, and with a
receipt at hand that would tell whether its vote is held: so `rulings` shows one checkpoint an hour
until the campaign has closed, and its tiles only then; where counts are hidden from the public
nothing at all until then, for with few other votes its size alone would tell how many of one's own
are held. How many votes there are is in a log's size, whatever the campaign's visibility; how many
for whom is nowhere.
"""

from aiohttp import web

from voting.campaign import Visibility
from voting.edge.answers import FOR_GOOD, public_headers, public_problem
from voting.edge.campaigns import campaign_of
from voting.edge.log_desk import IN_VAIN, OverAsked
from voting.edge.parts import EDGE
from voting.log_reader import Log
from voting.merkle import ENTRIES_LEVEL, TileId, read_tile_path

LOGS = {log.word: log for log in Log}

_TEXT = "text/plain; charset=utf-8"
_FOR_NOW = "public, max-age=5"
_AFTER_CLOSE = "public when the campaign has closed"


async def get_key(request: web.Request) -> web.Response:
    """GET /v1/logs/key: the verifier key as C2SP signed-note writes it, a line."""
    try:
        key = await request.app[EDGE].logs.verifier_key()
    except IN_VAIN as why:
        return no_answer(why)
    if key is None:
        return public_problem("not-found", detail="nothing is signed yet")
    return web.Response(body=f"{key}\n".encode(), headers=public_headers(_TEXT, _FOR_NOW))


async def get_checkpoint(request: web.Request) -> web.Response:
    """GET .../checkpoint: a signed note."""
    edge = request.app[EDGE]
    campaign, log = campaign_of(request), LOGS[request.match_info["log"]]
    if campaign is None:
        return public_problem(edge.catalog.unknown)
    counts_are_live = campaign.rules.counts is Visibility.LIVE
    if log is Log.RULINGS and not (counts_are_live or _is_over(request)):
        return public_problem("not-found", detail=_AFTER_CLOSE)
    try:
        note = await edge.logs.checkpoint(
            campaign.number, log, kept=log is Log.RULINGS and not _is_over(request)
        )
    except IN_VAIN as why:
        return no_answer(why)
    if note is None:
        return public_problem("not-found", detail="nothing is signed yet")
    return web.Response(body=note.encode(), headers=public_headers(_TEXT, _FOR_NOW))


async def get_tile(request: web.Request) -> web.Response:
    """GET .../tile/...: hashes side by side, or entries each after its length (u16)."""
    edge = request.app[EDGE]
    campaign, log = campaign_of(request), LOGS[request.match_info["log"]]
    if campaign is None:
        return public_problem(edge.catalog.unknown)
    if log is Log.RULINGS and not _is_over(request):
        return public_problem("not-found", detail=_AFTER_CLOSE)
    level, place = request.match_info["level"], read_tile_path(request.match_info["tile"])
    if place is None:
        return public_problem("not-found")
    number, width = place
    tile = TileId(ENTRIES_LEVEL if level == "entries" else int(level), number)
    try:
        content = await edge.logs.tile(campaign.number, log, tile, width)
    except IN_VAIN as why:
        return no_answer(why)
    if content is None:
        return public_problem("not-found", detail="the log is not as long")
    return web.Response(body=content, headers=public_headers("application/octet-stream", FOR_GOOD))


def no_answer(why: BaseException) -> web.Response:
    """The answer to a question that was asked in vain."""
    return public_problem("overloaded" if isinstance(why, OverAsked) else "store-down")


def _is_over(request: web.Request) -> bool:
    """Whether the campaign has closed, by the store's time."""
    campaign = campaign_of(request)
    now_us = request.app[EDGE].ballot_boxes.store_now_us()
    return campaign is not None and now_us >= campaign.window.closes_at_us
