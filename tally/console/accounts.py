"""Accounts: one's own (/account), and, for admins, everybody's (/staff)."""

import time
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tally.accounts import credentials
from tally.accounts.staff import (
    EXPECTED,
    Account,
    By,
    StaffError,
    add,
    disable,
    enable,
    get,
    list_accounts,
    note_failure,
    reset,
    set_password,
    set_role,
    set_totp,
    use_step,
)
from tally.console import pages, sessions
from tally.console.parts import Admin, Role, SignedIn, Staff, TooMany, console_of, limiter
from tally.console.sign_in import (
    PASSWORD_PROBLEMS,
    Password,
    Text,
    enrol_page,
    open_totp,
    read_enrolment,
    seal_totp,
)
from tally.translated import N_

router = APIRouter()

ROLES = {
    Role.VIEWER: (N_("Viewer"), N_("looks on")),
    Role.REVIEWER: (N_("Reviewer"), N_("decides on flags, proposes and approves strikes")),
    Role.ADMIN: (N_("Admin"), N_("campaigns, accounts, keys; publishes")),
    Role.OFFICE: (N_("Selection office"), N_("publications, the public notice, objections")),
}
"""Role -> what it is called, and what it may do."""

REFUSED = {
    "bad-name": N_("A name is a small letter or digit, then up to 31 of a-z 0-9 . _ -"),
    "bad-shown-as": N_("What is shown has 1 to 60 characters."),
    "bad-role": N_("There is no such role."),
    "name-taken": N_("There is an account with this name already."),
    "subject-taken": N_("Another account is bound to this subject of the identity provider."),
    "oneself": N_("Nobody changes their own role or disables themselves."),
    "last-admin": N_("This is the last admin: make another one first."),
    "changed-meanwhile": N_("The account was changed meanwhile: look again."),
}
"""StaffError.word -> what people read."""

WRONG_PASSWORD = N_("The present password is not right.")
WRONG_BOTH = N_("Password or code is not right, or the code was used before.")


@router.get("/account")
@limiter.limit("120/minute")
async def get_account(request: Request, staff: SignedIn) -> Response:
    return await _account_page(request, staff)


@router.post("/account/password")
@limiter.limit("10/minute")
async def post_password(
    request: Request,
    staff: SignedIn,
    present: Password = "",
    password: Password = "",
    again: Password = "",
) -> Response:
    console = console_of(request)
    account = await _own_account(request, staff)
    if not await _right_password(request, account, present):
        return await _account_page(request, staff, password_error=WRONG_PASSWORD)
    wrong = "not-twice" if password != again else None
    wrong = credentials.password_problem(password, account.name) or wrong
    if wrong is not None:
        return await _account_page(request, staff, password_error=PASSWORD_PROBLEMS[wrong])
    password_hash = await console.hashing.hash(password)
    session = await sessions.find(request)
    async with console.pool.acquire() as connection:
        await set_password(connection, account, password_hash, by=_by(staff), action="password")
        # Whoever has the old one may be in somewhere.
        await connection.execute(
            sessions.SQL["end_sessions_of"], account.number, session.id if session else b""
        )
    return pages.back("/account", said="password-changed")


@router.post("/account/authenticator")
@limiter.limit("10/minute")
async def post_authenticator(
    request: Request, staff: SignedIn, present: Password = "", code: Text = ""
) -> Response:
    """Another authenticator: asks for password and code of the present one, shows a new secret."""
    account = await _own_account(request, staff)
    session = await sessions.find(request)
    if session is None:
        raise HTTPException(409)
    right = await _right_password(request, account, present)
    if not right or not await _right_code(request, account, code):
        return await _account_page(request, staff, authenticator_error=WRONG_BOTH)
    return enrol_page(request, account, session, back="/account", action="/account/enrol")


@router.post("/account/enrol")
@limiter.limit("20/minute")
async def post_account_enrol(
    request: Request, staff: SignedIn, code: Text = "", sealed: Text = ""
) -> Response:
    """Only post_authenticator seals for a session that is complete."""
    account = await _own_account(request, staff)
    session = await sessions.find(request)
    if session is None:
        raise HTTPException(409)
    enrolled = read_enrolment(request, session, sealed, code)
    if enrolled is None:
        return await _account_page(request, staff, authenticator_error=WRONG_BOTH)
    secret, step = enrolled
    async with console_of(request).pool.acquire() as connection:
        await set_totp(
            connection, account, seal_totp(request, account, secret), step, by=_by(staff)
        )
    return pages.back("/account", said="authenticator-changed")


@router.get("/staff")
@limiter.limit("120/minute")
async def get_staff(request: Request, staff: Admin) -> Response:
    return await _staff_page(request, staff)


@router.post("/staff")
@limiter.limit("30/minute")
async def post_staff(
    request: Request,
    staff: Admin,
    name: Text = "",
    shown_as: Text = "",
    role: Text = "",
    way: Text = "password",
) -> Response:
    name = name.strip()
    async with console_of(request).pool.acquire() as connection:
        try:
            account = await add(
                connection,
                name,
                role,
                shown_as=shown_as.strip() or None,
                oidc_subject=EXPECTED + name if way == "oidc" else None,
                by=_by(staff),
            )
        except StaffError as why:
            entered = {"name": name[:32], "shown_as": shown_as[:60], "role": role, "way": way}
            return await _staff_page(request, staff, error=REFUSED[why.word], entered=entered)
    if way == "oidc":
        return pages.back("/staff", said="staff-added")
    return _link_page(request, staff, account)


@router.post("/staff/{number}/role")
@limiter.limit("30/minute")
async def post_role(request: Request, staff: Admin, number: int, role: Text = "") -> Response:
    async with console_of(request).pool.acquire() as connection:
        try:
            await set_role(connection, number, role, by=_by(staff))
        except StaffError as why:
            return await _refused(request, staff, why)
    return pages.back("/staff", said="saved")


@router.post("/staff/{number}/disable")
@limiter.limit("30/minute")
async def post_disable(request: Request, staff: Admin, number: int) -> Response:
    async with console_of(request).pool.acquire() as connection:
        try:
            await disable(connection, number, by=_by(staff))
        except StaffError as why:
            return await _refused(request, staff, why)
    return pages.back("/staff", said="staff-disabled")


@router.post("/staff/{number}/enable")
@limiter.limit("30/minute")
async def post_enable(request: Request, staff: Admin, number: int) -> Response:
    async with console_of(request).pool.acquire() as connection:
        try:
            await enable(connection, number, by=_by(staff))
        except StaffError as why:
            return await _refused(request, staff, why)
    return pages.back("/staff", said="saved")


@router.post("/staff/{number}/reset")
@limiter.limit("30/minute")
async def post_reset(
    request: Request, staff: Admin, number: int, what: Annotated[str, Form()] = "both"
) -> Response:
    """Take away the password, or password and authenticator; shows a new set-up link."""
    async with console_of(request).pool.acquire() as connection:
        try:
            account = await reset(
                connection, number, by=_by(staff), password=True, totp=what == "both"
            )
        except StaffError as why:
            return await _refused(request, staff, why)
    return _link_page(request, staff, account)


async def _account_page(
    request: Request,
    staff: Staff,
    *,
    password_error: str | None = None,
    authenticator_error: str | None = None,
) -> Response:
    account = await _own_account(request, staff)
    async with console_of(request).pool.acquire() as connection:
        open_sessions = await connection.fetchval(
            sessions.SQL["count_sessions_of"], staff.number, sessions.IDLE, sessions.ABSOLUTE
        )
    return pages.render(
        request,
        "account.html",
        staff=staff,
        status=403 if password_error or authenticator_error else 200,
        account=account,
        role=ROLES[staff.role],
        open_sessions=open_sessions,
        password_error=password_error,
        authenticator_error=authenticator_error,
    )


async def _staff_page(
    request: Request,
    staff: Staff,
    *,
    error: str | None = None,
    entered: dict[str, str] | None = None,
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        accounts = await list_accounts(connection)
    return pages.render(
        request,
        "staff.html",
        staff=staff,
        status=409 if error else 200,
        accounts=accounts,
        roles=ROLES,
        error=error,
        entered=entered or {"name": "", "shown_as": "", "role": "viewer", "way": "password"},
        expected=EXPECTED,
        by_oidc=console_of(request).settings.oidc_issuer is not None,
    )


async def _refused(request: Request, staff: Staff, why: StaffError) -> Response:
    if why.word == "unknown":
        raise HTTPException(404)
    return await _staff_page(request, staff, error=REFUSED[why.word])


def _link_page(request: Request, staff: Staff, account: Account) -> Response:
    """Shown once, in this answer alone: the link is kept nowhere."""
    token = credentials.close_set_up(console_of(request).seal, account.set_up, time.time())
    return pages.render(
        request,
        "staff_link.html",
        staff=staff,
        account=account,
        link=f"{request.state.seen.origin}/set-up?token={quote(token)}",
    )


async def _own_account(request: Request, staff: Staff) -> Account:
    async with console_of(request).pool.acquire() as connection:
        account = await get(connection, staff.number)
    assert account is not None, "accounts are never deleted"
    return account


async def _right_password(request: Request, account: Account, password: str) -> bool:
    """A wrong one counts as at sign-in: a session left open must not be a place to guess."""
    if account.locked:
        raise TooMany
    right = await console_of(request).hashing.check(account.password_hash, password)
    if not right:
        async with console_of(request).pool.acquire() as connection:
            await note_failure(connection, account)
    return right


async def _right_code(request: Request, account: Account, code: str) -> bool:
    """... and a code too. Whoever has no authenticator yet (by OIDC alone) needs none."""
    if account.totp_secret is None:
        return True
    step = credentials.matching_step(open_totp(request, account), code, time.time())
    async with console_of(request).pool.acquire() as connection:
        if step is not None and await use_step(connection, account, step):
            return True
        await note_failure(connection, account)
    return False


def _by(staff: Staff) -> By:
    return By(staff.name, staff.role)
