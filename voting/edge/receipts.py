"""GET /v1/receipts/{receipt}."""

from aiohttp import web

from voting.edge.answers import public_json, public_problem
from voting.edge.parts import EDGE


async def get_receipt(request: web.Request) -> web.Response:
    """404 for what is not one of ours; 202 for one whose vote is not in a public log yet, which
    is every one as long as there is no log."""
    if request.app[EDGE].receipts.open(request.match_info["receipt"]) is None:
        return public_problem("not-found")
    answer = public_json({"state": "accepted"}, "no-store")
    answer.set_status(202)
    return answer
