"""What is to be destroyed after its time.

    keys of networks' pseudonyms   of days that lie in the window of no campaign that is open, or
                                   closed less than the dispute window ago. Without a day's key
                                   nobody can tell any more which address a vote of that day came
                                   from.
    ended sessions of staff        after the security log's time: when somebody was signed in

The votes stay: their device pseudonyms follow from the installation's own key, which all campaigns
share. That is destroyed by hand, with the last campaign (secrets/keys.json and its copies).
"""

from datetime import timedelta
from typing import NamedTuple

import asyncpg

_KEYS = """
FROM pseudonym_keys AS k WHERE k.day < current_date - 1 AND NOT EXISTS (
    SELECT FROM campaigns AS c
    WHERE k.day BETWEEN (c.opens_at AT TIME ZONE c.time_zone)::date - 1
                    AND (c.closes_at AT TIME ZONE c.time_zone)::date + 1
      AND c.closes_at > now() - $1::interval)
"""
_SESSIONS = "FROM staff_sessions WHERE seen_at < now() - $1::interval"


class Retained(NamedTuple):
    """What was destroyed, or would be."""

    keys: int
    """Days whose key is gone."""
    first_day: str | None
    last_day: str | None
    sessions: int


async def retain(
    connection: asyncpg.Connection, *, dispute: timedelta, log: timedelta, dry_run: bool
) -> Retained:
    """Destroy what is past its time; with `dry_run` only count it. All or nothing."""
    async with connection.transaction():
        row = await connection.fetchrow(
            f"SELECT count(*) AS keys, min(k.day)::text, max(k.day)::text {_KEYS}",
            dispute,
        )
        sessions = await connection.fetchval(
            f"SELECT count(*) {_SESSIONS}",
            log,
        )
        if not dry_run:
            await connection.execute(f"DELETE {_KEYS}", dispute)
            await connection.execute(f"DELETE {_SESSIONS}", log)
    return Retained(row["keys"], row["min"], row["max"], sessions)
