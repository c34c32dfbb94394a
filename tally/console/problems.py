"""What went wrong, as a page in the reader's language; for the office's interface, and for scripts
that ask for it, as application/problem+json (RFC 9457)."""

import contextlib
import traceback
from http import HTTPStatus
from urllib.parse import quote

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from slowapi.errors import RateLimitExceeded
from starlette.exceptions import HTTPException

from tally.accounts.staff import StaffError
from tally.console import pages, sessions
from tally.console.guard import OFFICE_API, SAFE_METHODS
from tally.console.hashing import Busy
from tally.console.parts import Forbidden, NotSignedIn, TooMany, console_of
from tally.patience import POSTGRES_AWAY
from tally.translated import N_

log = structlog.get_logger()

RETRY_AFTER_SECONDS = {429: 60, 503: 5}

_TEXTS = {
    400: (N_("That was not understood"), N_("Go back and check what you entered.")),
    401: (N_("Please sign in"), N_("You are not signed in, or not any more.")),
    403: (
        N_("Not allowed"),
        N_(
            "Your role does not allow this, or the request did not come from a page of the console."
        ),
    ),
    404: (N_("Not found"), N_("There is nothing at this address.")),
    405: (N_("Not allowed"), N_("This address does not take that kind of request.")),
    409: (
        N_("Meanwhile something changed"),
        N_("Somebody was faster, or it was done already. Look at the page again."),
    ),
    413: (N_("Too large"), N_("What you sent is larger than is taken here.")),
    415: (N_("That was not understood"), N_("This kind of content is not taken here.")),
    422: (N_("That was not understood"), N_("Go back and check what you entered.")),
    429: (N_("Too many requests"), N_("Wait a minute, then try again.")),
    500: (N_("Something is broken"), N_("It was written down in the log of the console.")),
    503: (
        N_("Out of order for the moment"),
        N_(
            "The database does not answer. Likes are taken all the same. "
            "Try again in a few seconds."
        ),
    ),
}
"""Status -> what people read."""


def problem(
    request: Request, status: int, *, why: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The answer to what went wrong. `why`: a text of ours that says it better, translated."""
    headers = dict(headers or {})
    if status in RETRY_AFTER_SECONDS:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS[status]))
    title, text = _TEXTS.get(status, _TEXTS[400 if status < 500 else 500])
    if wants_json(request):
        _ = pages.translator("en")
        return JSONResponse(
            {
                "type": "about:blank",
                "title": _(title) if status in _TEXTS else HTTPStatus(status).phrase,
                "status": status,
                "detail": why or _(text),
            },
            status,
            headers,
            media_type="application/problem+json",
        )
    return pages.render(
        request,
        "problem.html",
        staff=getattr(request.state, "staff", None),
        status=status,
        headers=headers,
        problem=status,
        heading=title,
        text=text,
        why=why,
    )


def wants_json(request: Request) -> bool:
    path = request.url.path
    return path == OFFICE_API or path.startswith(f"{OFFICE_API}/")


def install(app: FastAPI) -> None:
    """Answers of this application to what is raised in it."""
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(RateLimitExceeded, _too_many)
    app.add_exception_handler(TooMany, _too_many)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(StaffError, _changed_meanwhile)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(asyncpg.DataError, _unreadable)  # a number that no column holds
    for away in POSTGRES_AWAY:
        app.add_exception_handler(away, _postgres_away)
    app.add_exception_handler(Exception, _broken)


async def _not_signed_in(request: Request, _: Exception) -> Response:
    if wants_json(request) or request.headers.get("accept", "").startswith("text/event-stream"):
        return problem(request, 401)
    if request.method not in SAFE_METHODS:
        return problem(request, 401)
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        # A link in a message: the browser keeps a SameSite=Strict cookie back on the way here, and
        # brings it when a page of ours asks for the same once more.
        return pages.render(request, "again.html")
    where = pages.here(request)
    back = "" if where == "/" else f"?back={quote(where, safe='')}"
    return RedirectResponse(f"/sign-in{back}", 303)


async def _forbidden(request: Request, _: Exception) -> Response:
    return problem(request, 403)


async def _too_many(request: Request, _: Exception) -> Response:
    return problem(request, 429)


async def _busy(request: Request, _: Exception) -> Response:
    say = pages.translator_of(request)
    why = say(N_("Too many people sign in just now. Try again in a few seconds."))
    return problem(request, 503, why=why)


async def _changed_meanwhile(request: Request, _: Exception) -> Response:
    return problem(request, 409)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not hasattr(request.state, "staff"):
        # Who loses the way keeps the navigation.
        with contextlib.suppress(NotSignedIn, *POSTGRES_AWAY):
            request.state.staff = await sessions.staff_of(request)
    return problem(request, error.status_code, headers=dict(error.headers or {}))


async def _unreadable(request: Request, _: Exception) -> Response:
    return problem(request, 422)


async def _postgres_away(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and not _comes_out_of(error, "asyncpg"):
        log.error("console-broken", path=request.url.path, exc_info=error)
        return problem(request, 500)
    console_of(request).postgres.lost(error)
    return problem(request, 503)


def _comes_out_of(error: BaseException, package: str) -> bool:
    """Whether code of this package raised it: a refused connection and a missing file of our own
    are the same to Python."""
    frames = traceback.walk_tb(error.__traceback__)
    names = (str(frame.f_globals.get("__name__", "")) for frame, _ in frames)
    return any(name.partition(".")[0] == package for name in names)


async def _broken(request: Request, _: Exception) -> Response:
    # Starlette logs the traceback after this answer (uvicorn's logger, which is ours).
    return problem(request, 500)
