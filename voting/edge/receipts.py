"""GET /v1/receipts/{receipt}; the page /receipt (site/receipt.py) says the same to people.

An answer never tells whom the vote is for, nor whether it is held: who could show that to another
could sell it, or learn how to pass. What opens a leaf is in the log as it is published after the
close (`dianzan publish --with-log`); an edge has no key to it.
"""

from aiohttp import web

from voting.edge.answers import public_json, public_problem
from voting.edge.log_desk import IN_VAIN, LogDamaged
from voting.edge.logs import no_answer
from voting.edge.parts import EDGE


async def get_receipt(request: web.Request) -> web.Response:
    """404 for what is not one of ours; 202 for one whose vote is not in the signed log yet, for up
    to a minute; 200 with its leaf, the proof and the checkpoint that the proof leads to."""
    edge = request.app[EDGE]
    opened = edge.receipts.open(request.match_info["receipt"])
    if opened is None:
        return public_problem("not-found")
    try:
        leaf = await edge.logs.leaf(*opened)
    except IN_VAIN as why:
        return no_answer(why)
    except LogDamaged:
        return public_problem("defect")
    if leaf is None:
        answer = public_json({"state": "accepted"}, "no-store")
        answer.set_status(202)
        return answer
    return public_json(
        {
            "state": "logged",
            "index": leaf.index,
            "size": leaf.size,
            "record": leaf.record.hex(),
            "proof": [each.hex() for each in leaf.proof],
            "checkpoint": leaf.note,
        },
        "no-store",
    )
