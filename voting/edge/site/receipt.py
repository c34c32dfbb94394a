"""GET /receipt[?receipt=...]: a form, and what is known of the receipt; without a script.

It never tells whom the vote is for, nor whether it is held: see receipts.py.
"""

from datetime import datetime
from typing import Any

from aiohttp import hdrs, web

from voting.campaign import Campaign
from voting.checkpoint import Checkpoint
from voting.edge.log_desk import IN_VAIN, LogDamaged, LoggedLeaf, OverAsked
from voting.edge.parts import EDGE, Edge
from voting.edge.site.render import page, policy, within_budget
from voting.merkle import hash_leaf
from voting.receipt import LENGTH

_STATUS = {"unknown": 404, "busy": 503, "away": 503, "damaged": 500}
_RETRY_AFTER_SECONDS = "2"


async def get_receipt_page(request: web.Request) -> web.Response:
    edge = request.app[EDGE]
    receipt = request.query.get("receipt", "").strip()
    shown: dict[str, Any] = {"leaf": None, "campaign": None}
    opened = edge.receipts.open(receipt)
    if opened is None:
        return _page(request, "unknown" if receipt else "asks", receipt, **shown)
    campaign, position = opened
    try:
        leaf = await edge.logs.leaf(campaign, position)
    except OverAsked:
        return _page(request, "busy", receipt, **shown)
    except IN_VAIN:
        return _page(request, "away", receipt, **shown)
    except LogDamaged:
        return _page(request, "damaged", receipt, **shown)
    shown["campaign"] = _campaign(edge, campaign)
    if leaf is None:
        return _page(request, "accepted", receipt, **shown)
    shown["leaf"] = leaf
    return _page(request, "logged", receipt, **shown)


def _page(
    request: web.Request,
    state: str,
    receipt: str,
    *,
    leaf: LoggedLeaf | None,
    campaign: Campaign | None,
) -> web.Response:
    return within_budget(
        request,
        "receipt",
        lambda: _shown(request, state, receipt, leaf=leaf, campaign=campaign),
    )


def _shown(
    request: web.Request,
    state: str,
    receipt: str,
    *,
    leaf: LoggedLeaf | None,
    campaign: Campaign | None,
) -> web.Response:
    checkpoint = None if leaf is None else Checkpoint.of_note(leaf.note)
    status = _STATUS.get(state, 200)
    made = page(
        request,
        "receipt.html",
        policy=policy(forms="'self'"),
        status=status,
        state=state,
        receipt=receipt[: 4 * LENGTH],  # whatever was sent, a form shows no more
        length=LENGTH,
        campaign=campaign,
        leaf=leaf,
        leaf_hash=None if leaf is None else hash_leaf(leaf.record).hex(),
        checkpoint=checkpoint,
        time=None if checkpoint is None else _time(checkpoint, campaign),
        log_root=None if checkpoint is None else checkpoint.root.hex(),
    )
    made.headers["Referrer-Policy"] = "no-referrer"  # a receipt is in the address
    if status == 503:
        made.headers[hdrs.RETRY_AFTER] = _RETRY_AFTER_SECONDS
    return made


def _campaign(edge: Edge, number: int) -> Campaign | None:
    return next((c for c in edge.catalog.campaigns.values() if c.number == number), None)


def _time(checkpoint: Checkpoint, campaign: Campaign | None) -> datetime | None:
    """Up to when the signed log misses nothing, in the campaign's zone."""
    for line in checkpoint.lines:
        if line.startswith("time "):
            moment = datetime.fromisoformat(line.removeprefix("time "))
            return moment if campaign is None else moment.astimezone(campaign.window.zone)
    return None
