"""What every route of the console is given.

    @router.get("/flags")
    @limiter.limit("120/minute")
    async def get_flags(request: Request, staff: Reviewing) -> Response: ...

Every route is limited, and says who may use it: `SignedIn` (whoever is signed in, the selection
office too), `Viewing` (staff of ours: viewers, reviewers, admins), `Reviewing` (reviewers and
admins), `Admin`, `Office` (the selection office, and admins), or `Answering` (reviewers, admins and
the selection office: objections). Tests walk all routes and assert both.
"""

import asyncio
import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, HTTPException, Request

from tally.accounts.sealing import Seal
from tally.accounts.staff import KNOWN_PER_HOUR
from tally.console.hashing import Hashing
from tally.console.limits import STRANGERS, InMemory, address_key, limiter
from tally.patience import Reach
from tally.tallies import UnknownCampaign, read_campaign
from voting.campaign import Campaign
from voting.hot_state import HotState
from voting.proxies import TrustedProxies
from voting.settings import Settings

__all__ = [
    "Admin",
    "Answering",
    "Console",
    "Forbidden",
    "NotSignedIn",
    "Office",
    "Reviewing",
    "Role",
    "SignedIn",
    "Staff",
    "TooMany",
    "Viewing",
    "console_of",
    "limiter",
    "still_signed_in",
]


class Role(enum.StrEnum):
    """What somebody may do. Each may do what those before it may, `office` apart."""

    VIEWER = "viewer"
    """Looks on."""
    REVIEWER = "reviewer"
    """Decides on flags, proposes and approves strikes."""
    ADMIN = "admin"
    """Campaigns, accounts, keys; publishes."""
    OFFICE = "office"
    """The selection office: publications, the public notice, objections."""


@dataclass(frozen=True, slots=True)
class Staff:
    """Who is signed in."""

    number: int
    name: str
    shown_as: str
    role: Role


@dataclass(frozen=True, slots=True)
class Console:
    """What the application holds as long as it lives; opened and closed by app.py."""

    settings: Settings
    pool: asyncpg.Pool
    hot: HotState
    seal: Seal
    proxies: TrustedProxies
    hashing: Hashing = field(default_factory=Hashing)
    strangers: InMemory = field(default_factory=lambda: InMemory(STRANGERS))
    known_tries: InMemory = field(default_factory=lambda: InMemory(f"{KNOWN_PER_HOUR}/hour"))
    """Of browsers that somebody signed in with before, while the account is locked."""
    postgres: Reach = field(default_factory=lambda: Reach("postgres"))
    """Says once in the log that it is away, and once that it is back."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process has to stop: a stream that goes on ends then."""


def console_of(request: Request) -> Console:
    console: Console = request.app.state.console
    return console


async def campaign_asked(connection: asyncpg.Connection, campaign_id: str) -> Campaign:
    """The campaign of an address; 404 where there is none."""
    try:
        return await read_campaign(connection, campaign_id)
    except UnknownCampaign:
        raise HTTPException(404) from None


class NotSignedIn(Exception):
    """Nobody is signed in, or not any more: the answer is the sign-in page."""


class TooMany(Exception):
    """More than is admitted, by a limit that is not slowapi's."""


class Forbidden(Exception):
    """Whoever is signed in may not do this."""


async def _signed_in(request: Request) -> Staff:
    from tally.console import sessions  # it needs the types above

    try:
        staff = await sessions.staff_of(request)
    except NotSignedIn:
        if not console_of(request).strangers.admits(address_key(request)):
            raise TooMany from None
        raise
    request.state.staff = staff
    return staff


def _one_of(*roles: Role) -> Callable[..., Coroutine[Any, Any, Staff]]:
    async def one_of(request: Request) -> Staff:
        staff = await _signed_in(request)
        if staff.role not in roles:
            raise Forbidden
        return staff

    return one_of


SignedIn = Annotated[Staff, Depends(_one_of(*Role))]
Viewing = Annotated[Staff, Depends(_one_of(Role.VIEWER, Role.REVIEWER, Role.ADMIN))]
Reviewing = Annotated[Staff, Depends(_one_of(Role.REVIEWER, Role.ADMIN))]
Admin = Annotated[Staff, Depends(_one_of(Role.ADMIN))]
Answering = Annotated[Staff, Depends(_one_of(Role.REVIEWER, Role.ADMIN, Role.OFFICE))]
Office = Annotated[Staff, Depends(_one_of(Role.OFFICE, Role.ADMIN))]


async def still_signed_in(request: Request) -> bool:
    """Whether the session that a long answer (a stream) was begun with is good still, and its
    person's role the one that it was begun with; a stream asks every 30 s or so. Keeps it from
    being idle: whoever has a live page open is there."""
    from tally.console import sessions

    begun_as: Staff = request.state.staff
    try:
        return (await sessions.staff_of(request)).role is begun_as.role
    except NotSignedIn:
        return False
