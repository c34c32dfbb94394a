"""Who is signed in: sessions of staff, in the database.

A session's id is 256 random bits in a cookie; the table has its SHA-256 alone, so that who reads
the database signs in as nobody. It begins anew (another id) when the password was right and again
when the code was, ends after 30 minutes without a request and after 8 hours in any case, by signing
out, and at once when the account is disabled. One whose code is awaited still opens nothing but the
page that asks for it, for 10 minutes.

The cookie is `__Host-dianzan`: Secure, HttpOnly, SameSite=Strict, this host's alone. A browser
takes that over https only. So that the console also runs on one's own machine without a
certificate, over plain http to a loopback name (localhost, 127.0.0.0/8, [::1]) it is
`dianzan-console`, without Secure. Over plain http to any other name nobody signs in, and the
sign-in page says what to set.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
from fastapi import Request
from fastapi.responses import Response

from tally.console.guard import Seen
from tally.console.parts import NotSignedIn, Role, Staff, console_of
from tally.store import read_queries

IDLE = timedelta(minutes=30)
ABSOLUTE = timedelta(hours=8)
INCOMPLETE = timedelta(minutes=10)
"""The same two, of one whose code is awaited."""
SEEN_EVERY = timedelta(seconds=30)
"""How often a request is written down: not each of them."""
SESSIONS_MAX = 10
"""Of one person; the oldest end."""

SQL = read_queries(Path(__file__).with_name("sessions.sql"))


@dataclass(frozen=True, slots=True)
class Session:
    id: bytes
    """As the table has it."""
    staff: Staff
    complete: bool


async def staff_of(request: Request) -> Staff:
    """Who sent this; raises NotSignedIn."""
    session = await find(request)
    if session is None or not session.complete:
        raise NotSignedIn
    return session.staff


async def find(request: Request) -> Session | None:
    """The session whose cookie came, complete or not."""
    value = request.cookies.get(cookie_name(request), "")
    if len(value) != 43:  # token_urlsafe(32)
        return None
    id_ = _hash(value)
    console = console_of(request)
    async with console.pool.acquire() as connection:
        row = await connection.fetchrow(SQL["find_session"], id_, IDLE, ABSOLUTE, SEEN_EVERY)
        console.postgres.found()
        if row is None:
            return None
        if not row["complete"]:
            row = await connection.fetchrow(
                SQL["find_session"], id_, INCOMPLETE, INCOMPLETE, SEEN_EVERY
            )
            if row is None:
                return None
        elif row["unseen"]:
            await connection.execute(SQL["see_session"], id_)
    staff = Staff(row["number"], row["name"], row["shown_as"], Role(row["role"]))
    return Session(id_, staff, row["complete"])


async def begin(
    connection: asyncpg.Connection, staff: int, *, complete: bool, instead_of: Session | None = None
) -> str:
    """A new session, instead of the one before: the cookie's value. NotSignedIn where the account
    was disabled meanwhile."""
    value = secrets.token_urlsafe(32)
    if instead_of is not None:
        await connection.execute(SQL["end_session"], instead_of.id)
    begun = await connection.fetchval(SQL["begin_session"], _hash(value), staff, complete)
    if begun is None:
        raise NotSignedIn
    await connection.execute(SQL["drop_old_sessions"], staff, IDLE, ABSOLUTE, SESSIONS_MAX)
    return value


def set_cookie(request: Request, response: Response, value: str) -> None:
    response.set_cookie(
        cookie_name(request),
        value,
        path="/",
        secure=_seen(request).https,
        httponly=True,
        samesite="strict",
    )


def drop_cookie(request: Request, response: Response) -> None:
    response.delete_cookie(
        cookie_name(request),
        path="/",
        secure=_seen(request).https,
        httponly=True,
        samesite="strict",
    )


def cookie_name(request: Request) -> str:
    return "__Host-dianzan" if _seen(request).https else "dianzan-console"


def _seen(request: Request) -> Seen:
    seen: Seen = request.state.seen
    return seen


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
