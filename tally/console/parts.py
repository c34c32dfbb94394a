"""What every route of the console is given.

    @router.get("/flags")
    @limiter.limit("120/minute")
    async def get_flags(request: Request, staff: SignedIn) -> Response: ...

Every route is limited, and says who may see it: `SignedIn` (whoever is signed in), `Reviewing`
(reviewers and admins) or `Admin`. A test walks all routes and asserts both.
"""

import enum
from dataclasses import dataclass

import asyncpg
import redis.asyncio as redis
from fastapi import Request

from voting.settings import Settings


class Role(enum.StrEnum):
    """What somebody may do. Each may see what those before it see, `office` apart."""

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
    valkey: redis.Redis


def console_of(request: Request) -> Console:
    console: Console = request.app.state.console
    return console
