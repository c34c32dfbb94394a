"""Browsers that somebody signed in with before: for them a lock of the account does not hold
(tally/accounts/staff.py says why). A cookie says so, sealed with the console's key: it opens
nothing, it only lets its holder try."""

import base64
import json
import time

from fastapi import Request
from fastapi.responses import Response

from tally.accounts.sealing import SealError
from tally.console.parts import console_of

KEPT_SECONDS = 180 * 86_400
PEOPLE_MAX = 5
"""Of one browser; the first ones are forgotten."""
_USE = b"known browser"


def knows(request: Request, staff: int) -> bool:
    return any(number == staff for number, _ in _read(request))


def remember(request: Request, response: Response, staff: int) -> None:
    now = int(time.time())
    others = [[number, until] for number, until in _read(request) if number != staff]
    people = [*others, [staff, now + KEPT_SECONDS]][-PEOPLE_MAX:]
    sealed = console_of(request).seal.close(json.dumps(people).encode(), _USE)
    response.set_cookie(
        _cookie_name(request),
        base64.urlsafe_b64encode(sealed).decode().rstrip("="),
        max_age=KEPT_SECONDS,
        path="/",
        secure=request.state.seen.https,
        httponly=True,
        samesite="strict",
    )


def _read(request: Request) -> list[tuple[int, int]]:
    value = request.cookies.get(_cookie_name(request), "")[:1_000]
    try:
        sealed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        people = json.loads(console_of(request).seal.open(sealed, _USE))
    except (SealError, ValueError):
        return []
    now = time.time()
    return [(number, until) for number, until in people if until > now]


def _cookie_name(request: Request) -> str:
    return "__Host-dianzan-known" if request.state.seen.https else "dianzan-known"
