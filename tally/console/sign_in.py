"""Signing in and out, a page for each step:

    /sign-in           name and password (or /sign-in/oidc, by an identity provider: oidc.py)
    /sign-in/code      the authenticator's code
    /sign-in/enrol     ... or, the first time, an authenticator is enrolled
    /set-up?token=     a one-time link: choose a password, then on to one of the two

A name that is not known, a wrong password and an account that is locked or disabled get one
answer, after the same work; what differs is written down after it was sent. Each step forward
begins another session (sessions.py); a wrong code ends it where the account is locked.
"""

import time
from typing import Annotated
from urllib.parse import quote

import asyncpg
import structlog
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from starlette.background import BackgroundTask

from tally.accounts import credentials, staff
from tally.accounts.sealing import SealError
from tally.accounts.staff import Account, By, StaffError
from tally.console import known_browsers, pages, sessions
from tally.console.parts import SignedIn, console_of, limiter
from tally.console.problems import problem
from tally.translated import N_

router = APIRouter()
log = structlog.get_logger()

Text = Annotated[str, Form(max_length=500)]
Password = Annotated[str, Form(max_length=1_000)]

WRONG = N_(
    "That was not right, or the account is locked for a while after several failures. "
    "Check name and password, and wait some minutes before you try again."
)
WRONG_CODE = N_("This code is not right, or was used before. Wait for the next one.")
PASSWORD_PROBLEMS = {
    "too-short": N_("A password has 12 characters at least. A sentence is easy to remember."),
    "too-long": N_("A password has 200 characters at most."),
    "too-easy": N_("This password is too easy to guess."),
    "not-twice": N_("The two entries differ."),
}


@router.get("/sign-in")
@limiter.limit("60/minute")
async def get_sign_in(request: Request, back: str = "/") -> Response:
    return _sign_in_page(request, pages.own_path(back))


@router.post("/sign-in")
@limiter.limit("20/minute")
async def post_sign_in(
    request: Request, name: Text = "", password: Password = "", back: Text = "/"
) -> Response:
    back = pages.own_path(back)
    if not request.state.seen.may_sign_in:
        return _needs_https(request)
    console = console_of(request)
    name = name.strip().lower()
    async with console.pool.acquire() as connection:
        account = await staff.find(connection, name)
    # Whatever there is to say no to is said after the same work. A try is one whatever came of it.
    may_try = account is not None and _may_try(request, account)
    right = await console.hashing.check(account.password_hash if account else None, password)
    if account is None or not right or not may_try:
        log.info("sign-in-refused", address=request.state.address)
        answer = _sign_in_page(request, back, name=name, error=WRONG, status=403)
        if account is not None and not right:
            answer.background = BackgroundTask(_note_failure, request, account)
        return answer
    if credentials.is_old(account.password_hash or ""):
        await _hash_anew(request, account, password)
    return await _to_second_step(request, account, back)


@router.get("/sign-in/code")
@limiter.limit("60/minute")
async def get_code(request: Request, back: str = "/") -> Response:
    account = await _half_signed_in(request)
    if account is None or account.totp_secret is None:
        return _from_the_start(back)
    return pages.render(request, "sign_in_code.html", back=pages.own_path(back), error=None)


@router.post("/sign-in/code")
@limiter.limit("20/minute")
async def post_code(request: Request, code: Text = "", back: Text = "/") -> Response:
    back = pages.own_path(back)
    console = console_of(request)
    session = await sessions.find(request)
    account = await _half_signed_in(request)
    if session is None or account is None or account.totp_secret is None:
        return _from_the_start(back)
    async with console.pool.acquire() as connection, connection.transaction():
        # Held to the end: of many codes that come at once each finds what came of the one before.
        account = await staff.hold(connection, account.number)
        if account.totp_secret is None:
            return _from_the_start(back)  # reset just now
        secret = console.seal.open(account.totp_secret, _totp_use(account))
        step = credentials.matching_step(secret, code, time.time())
        if (
            step is not None
            and _may_try(request, account)
            and await staff.use_step(connection, account, step)
        ):
            return await _signed_in(request, connection, account, back, session=session)
        await staff.note_failure(connection, account)
        account = await staff.hold(connection, account.number)
        if account.locked:
            await connection.execute(sessions.SQL["end_session"], session.id)
            return _from_the_start(back)
        return pages.render(request, "sign_in_code.html", status=403, back=back, error=WRONG_CODE)


@router.get("/sign-in/enrol")
@limiter.limit("60/minute")
async def get_enrol(request: Request, back: str = "/") -> Response:
    session = await sessions.find(request)
    account = await _half_signed_in(request)
    if session is None or account is None or account.totp_secret is not None:
        return _from_the_start(back)
    return enrol_page(request, account, session, back=pages.own_path(back))


@router.post("/sign-in/enrol")
@limiter.limit("20/minute")
async def post_enrol(
    request: Request, code: Text = "", sealed: Text = "", back: Text = "/"
) -> Response:
    back = pages.own_path(back)
    console = console_of(request)
    session = await sessions.find(request)
    account = await _half_signed_in(request)
    if session is None or account is None or account.totp_secret is not None:
        return _from_the_start(back)
    enrolled = read_enrolment(request, session, sealed, code)
    if enrolled is None:
        return enrol_page(
            request, account, session, back=back, sealed=sealed, error=WRONG_CODE, status=403
        )
    secret, step = enrolled
    async with console.pool.acquire() as connection, connection.transaction():
        await staff.set_totp(
            connection,
            account,
            console.seal.close(secret, _totp_use(account)),
            step,
            by=By(account.name, account.role),
        )
        return await _signed_in(request, connection, account, back, session=session)


@router.get("/set-up")
@limiter.limit("30/minute")
async def get_set_up(request: Request, token: str = "") -> Response:
    account = await _whom_a_link_is_for(request, token)
    if account is None:
        return _link_is_void(request)
    return pages.render(request, "set_up.html", account=account, token=token, error=None)


@router.post("/set-up")
@limiter.limit("20/minute")
async def post_set_up(
    request: Request, token: Text = "", password: Password = "", again: Password = ""
) -> Response:
    if not request.state.seen.may_sign_in:
        return _needs_https(request)
    console = console_of(request)
    account = await _whom_a_link_is_for(request, token)
    if account is None:
        return _link_is_void(request)
    wrong = "not-twice" if password != again else None
    wrong = credentials.password_problem(password, account.name) or wrong
    if wrong is not None:
        return pages.render(
            request,
            "set_up.html",
            status=422,
            account=account,
            token=token,
            error=PASSWORD_PROBLEMS[wrong],
        )
    password_hash = await console.hashing.hash(password)
    by = By(account.name, account.role)
    async with console.pool.acquire() as connection:
        try:
            await staff.set_password(connection, account, password_hash, by=by, action="set-up")
        except StaffError:
            return _link_is_void(request)  # used at the same time
    response = await _to_second_step(request, account, "/")
    known_browsers.remember(request, response, account.number)
    return response


@router.post("/sign-out")
@limiter.limit("60/minute")
async def post_sign_out(request: Request) -> Response:
    session = await sessions.find(request)
    if session is not None:
        async with console_of(request).pool.acquire() as connection:
            await connection.execute(sessions.SQL["end_session"], session.id)
    response = pages.back("/sign-in", said="signed-out")
    sessions.drop_cookie(request, response)
    return response


@router.post("/sign-out-everywhere")
@limiter.limit("20/minute")
async def post_sign_out_everywhere(request: Request, staff: SignedIn) -> Response:
    """End all other sessions of oneself."""
    session = await sessions.find(request)
    async with console_of(request).pool.acquire() as connection:
        await connection.execute(
            sessions.SQL["end_sessions_of"], staff.number, session.id if session else b""
        )
    return pages.back("/account", said="signed-out-everywhere")


@router.get("/language/{language}")
@limiter.limit("60/minute")
async def get_language(request: Request, language: str, back: str = "/") -> Response:
    """Keep the language that was chosen, and go back to where it was chosen."""
    response = RedirectResponse(pages.own_path(back), 303)
    if language in pages.LANGUAGES:
        response.set_cookie(
            pages.LANGUAGE_COOKIE,
            language,
            max_age=365 * 86_400,
            path="/",
            secure=request.state.seen.https,
            httponly=True,
            samesite="lax",
        )
    return response


def enrol_page(
    request: Request,
    account: Account,
    session: sessions.Session,
    *,
    back: str,
    sealed: str | None = None,
    error: str | None = None,
    status: int = 200,
    action: str = "/sign-in/enrol",
) -> Response:
    """A new secret, as a picture and to be typed, in a form that asks for a code of it. The secret
    comes back with the form, sealed for this session alone: until it is proven it is kept nowhere.
    """
    seal = console_of(request).seal
    secret = None
    if sealed is not None:
        secret = _opened(request, session, sealed)
    if secret is None:
        secret = credentials.new_totp_secret()
        sealed = seal.close(secret, _enrol_use(session)).hex()
    return pages.render(
        request,
        "enrol.html",
        staff=session.staff if session.complete else None,
        status=status,
        picture=credentials.totp_picture(secret, account.name),
        secret=credentials.totp_text(secret),
        sealed=sealed,
        back=back,
        action=action,
        error=error,
    )


def read_enrolment(
    request: Request, session: sessions.Session, sealed: str, code: str
) -> tuple[bytes, int] | None:
    """The new secret and the step of the code that proves it; None where it does not."""
    secret = _opened(request, session, sealed)
    step = None if secret is None else credentials.matching_step(secret, code, time.time())
    return None if secret is None or step is None else (secret, step)


def seal_totp(request: Request, account: Account, secret: bytes) -> bytes:
    return console_of(request).seal.close(secret, _totp_use(account))


def open_totp(request: Request, account: Account) -> bytes:
    assert account.totp_secret is not None
    return console_of(request).seal.open(account.totp_secret, _totp_use(account))


async def finish_by_oidc(request: Request, account: Account, back: str) -> Response:
    """Sign in somebody whom the identity provider vouches for: with its own second factor, if it
    asks for one."""
    async with console_of(request).pool.acquire() as connection, connection.transaction():
        value = await sessions.begin(connection, account.number, complete=True)
        await staff.note_success(connection, account, way="oidc")
    # Not a redirect: on the way from another site a browser keeps a SameSite=Strict cookie back.
    response = pages.render(request, "on.html", back=back)
    sessions.set_cookie(request, response, value)
    return response


def _sign_in_page(
    request: Request, back: str, *, name: str = "", error: str | None = None, status: int = 200
) -> Response:
    return pages.render(
        request,
        "sign_in.html",
        status=status,
        back=back,
        name=name[:32],
        error=error,
        by_oidc=console_of(request).settings.oidc_issuer is not None,
        may_sign_in=request.state.seen.may_sign_in,
    )


def _needs_https(request: Request) -> Response:
    return _sign_in_page(request, "/", status=403)


def _may_try(request: Request, account: Account) -> bool:
    """Whether this account takes a password or a code just now, from this browser."""
    if account.disabled_at is not None:
        return False
    if not account.locked:
        return True
    return known_browsers.knows(request, account.number) and console_of(request).known_tries.admits(
        str(account.number)
    )


async def _to_second_step(request: Request, account: Account, back: str) -> Response:
    async with console_of(request).pool.acquire() as connection:
        value = await sessions.begin(
            connection,
            account.number,
            complete=False,
            instead_of=await sessions.find(request),
        )
    step = "enrol" if account.totp_secret is None else "code"
    response = RedirectResponse(f"/sign-in/{step}{_with_back(back)}", 303)
    sessions.set_cookie(request, response, value)
    return response


async def _signed_in(
    request: Request,
    connection: asyncpg.Connection,
    account: Account,
    back: str,
    *,
    session: sessions.Session,
) -> Response:
    async with connection.transaction():
        value = await sessions.begin(connection, account.number, complete=True, instead_of=session)
        await staff.note_success(connection, account, way="password")
    response = RedirectResponse(back, 303)
    sessions.set_cookie(request, response, value)
    known_browsers.remember(request, response, account.number)
    return response


async def _half_signed_in(request: Request) -> Account | None:
    """Whose password was right, and whose code is awaited."""
    session = await sessions.find(request)
    if session is None or session.complete:
        return None
    async with console_of(request).pool.acquire() as connection:
        return await staff.get(connection, session.staff.number)


async def _whom_a_link_is_for(request: Request, token: str) -> Account | None:
    """None where the link is none of ours, too old or used, or the account disabled."""
    console = console_of(request)
    set_up = credentials.open_set_up(console.seal, token[:500], time.time())
    if set_up is None:
        return None
    async with console.pool.acquire() as connection:
        account = await staff.get(connection, set_up.staff)
    if account is None or account.disabled_at is not None or account.set_up != set_up:
        return None
    return account


async def _note_failure(request: Request, account: Account) -> None:
    async with console_of(request).pool.acquire() as connection:
        await staff.note_failure(connection, account)


async def _hash_anew(request: Request, account: Account, password: str) -> None:
    """With today's parameters; whatever comes between it is tried again next time."""
    console = console_of(request)
    password_hash = await console.hashing.hash(password)
    async with console.pool.acquire() as connection:
        await connection.execute(
            staff.SQL["set_password"], account.number, password_hash, account.password_hash
        )


def _opened(request: Request, session: sessions.Session, sealed: str) -> bytes | None:
    try:
        return console_of(request).seal.open(bytes.fromhex(sealed), _enrol_use(session))
    except (SealError, ValueError):
        return None


def _totp_use(account: Account) -> bytes:
    return b"totp %d" % account.number


def _enrol_use(session: sessions.Session) -> bytes:
    return b"totp-enrol " + session.id


def _link_is_void(request: Request) -> Response:
    _ = pages.translator_of(request)
    return problem(
        request,
        403,
        why=_("This link was used already, or is too old. Ask an admin for a new one."),
    )


def _from_the_start(back: str) -> Response:
    return RedirectResponse(f"/sign-in{_with_back(pages.own_path(back))}", 303)


def _with_back(back: str) -> str:
    return "" if back == "/" else f"?back={quote(back, safe='')}"
