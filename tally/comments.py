"""Comments of the staff on cases: they decide nothing, and are never changed or deleted."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg

from tally import audit
from tally.store import read_queries
from tally.written import tidy, unfit

SQL = read_queries(Path(__file__).with_suffix(".sql"))
TEXT_CHARACTERS_MAX = 2_000
COMMENTS_MAX = 500
"""Of one case."""


@dataclass(frozen=True, slots=True)
class Comment:
    number: int
    at: datetime
    by: str
    """As shown."""
    text: str


async def add_comment(
    connection: asyncpg.Connection,
    campaign: int,
    case: int,
    *,
    by: int,
    name: str,
    role: str,
    text: str,
) -> bool:
    """Write it down, with its audit entry; whether it was: not for an empty or `unfit` text, a case
    that is not there, or one that has COMMENTS_MAX."""
    text = tidy(text, TEXT_CHARACTERS_MAX)
    if not text or unfit(text, TEXT_CHARACTERS_MAX) is not None:
        return False
    async with connection.transaction():
        if await connection.fetchval(SQL["count_comments"], case) >= COMMENTS_MAX:
            return False
        number = await connection.fetchval(SQL["add_comment"], campaign, case, by, text)
        if number is None:
            return False
        await audit.append(
            connection,
            actor=name,
            role=role,
            action="case.comment",
            subject=f"flag {case}",
            details={"comment": number},
        )
    return True


async def list_comments(connection: asyncpg.Connection, case: int) -> list[Comment]:
    """Of a case, oldest first."""
    rows = await connection.fetch(SQL["list_comments"], case, COMMENTS_MAX)
    return [Comment(*row) for row in rows]
