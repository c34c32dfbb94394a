"""GET /v1/receipts/{receipt}, and the page /receipt that says the same to people.

An answer never tells whom the vote is for, nor whether it is held: who could show that to another
could sell it, or learn how to pass. What opens a leaf is in the log as it is published after the
close (`dianzan publish --with-log`); an edge has no key to it.
"""

from datetime import datetime
from typing import Any

import jinja2
from aiohttp import web

from voting.campaign import Campaign
from voting.checkpoint import Checkpoint
from voting.edge.answers import headers, public_json, public_problem
from voting.edge.log_desk import IN_VAIN, LogDamaged, LoggedLeaf, OverAsked
from voting.edge.logs import no_answer
from voting.edge.parts import EDGE, Edge
from voting.merkle import hash_leaf
from voting.receipt import LENGTH

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
_STATUS = {"unknown": 404, "busy": 503, "away": 503, "damaged": 500}
_RETRY_AFTER_SECONDS = "2"

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("voting.edge"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)


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


async def get_receipt_page(request: web.Request) -> web.Response:
    """GET /receipt[?receipt=...]: a form, and what is known of the receipt; without a script."""
    edge = request.app[EDGE]
    receipt = request.query.get("receipt", "").strip()
    shown: dict[str, Any] = {"leaf": None, "campaign": None}
    opened = edge.receipts.open(receipt)
    if opened is None:
        return _page("unknown" if receipt else "asks", receipt, **shown)
    campaign, position = opened
    try:
        leaf = await edge.logs.leaf(campaign, position)
    except OverAsked:
        return _page("busy", receipt, **shown)
    except IN_VAIN:
        return _page("away", receipt, **shown)
    except LogDamaged:
        return _page("damaged", receipt, **shown)
    shown["campaign"] = _campaign(edge, campaign)
    if leaf is None:
        return _page("accepted", receipt, **shown)
    shown["leaf"] = leaf
    return _page("logged", receipt, **shown)


def _page(
    state: str, receipt: str, *, leaf: LoggedLeaf | None, campaign: Campaign | None
) -> web.Response:
    checkpoint = None if leaf is None else Checkpoint.of_note(leaf.note)
    text = _templates.get_template("receipt.html").render(
        state=state,
        receipt=receipt[: 4 * LENGTH],  # whatever was sent, a form shows no more
        length=LENGTH,
        campaign=campaign,
        leaf=leaf,
        leaf_hash=None if leaf is None else hash_leaf(leaf.record).hex(),
        checkpoint=checkpoint,
        time=None if checkpoint is None else _time(checkpoint, campaign),
        root=None if checkpoint is None else checkpoint.root.hex(),
    )
    made = headers("text/html; charset=utf-8")
    made["Content-Security-Policy"] = _POLICY
    made["Referrer-Policy"] = "no-referrer"  # a receipt is in the address
    status = _STATUS.get(state, 200)
    if status == 503:
        made["Retry-After"] = _RETRY_AFTER_SECONDS
    return web.Response(body=text.encode(), status=status, headers=made)


def _campaign(edge: Edge, number: int) -> Campaign | None:
    return next((c for c in edge.catalog.campaigns.values() if c.number == number), None)


def _time(checkpoint: Checkpoint, campaign: Campaign | None) -> datetime | None:
    """Up to when the signed log misses nothing, in the campaign's zone."""
    for line in checkpoint.lines:
        if line.startswith("time "):
            moment = datetime.fromisoformat(line.removeprefix("time "))
            return moment if campaign is None else moment.astimezone(campaign.window.zone)
    return None
