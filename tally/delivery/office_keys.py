"""Keys of the office API: what the selection office's programs show.

    dzk_<id, 10 of a-z0-9>_<43 characters: 256 random bits>

The key is shown once and not kept: the database has its SHA-256, which is enough for 256 random
bits. Found by its id, compared in constant time.
"""

import enum
import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tally.store import read_queries

SQL = read_queries(Path(__file__).with_name("office_keys.sql"))

KEYS_MAX = 50
NAME_CHARACTERS_MAX = 64
_ID_CHARACTERS = string.ascii_lowercase + string.digits
_KEY = re.compile(r"dzk_([a-z0-9]{10})_[A-Za-z0-9_-]{43}", re.ASCII)


class Scope(enum.StrEnum):
    """What a key may be used for."""

    PUBLICATIONS_READ = "publications:read"
    """Campaigns and what is published of them."""
    TALLY_READ = "tally:read"
    """The tally of now, unsigned, as far as the campaign's visibility allows."""
    LOG_READ = "log:read"
    """Checkpoints of the logs."""
    OBJECTIONS_READ = "objections:read"
    OBJECTIONS_WRITE = "objections:write"


class OfficeKeyError(ValueError):
    """A key that cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class OfficeKey:
    """A key that was shown and is good."""

    id: str
    shown_as: str
    scopes: frozenset[Scope]


async def make_key(
    connection: asyncpg.Connection, shown_as: str, scopes: Iterable[str], by: str
) -> tuple[str, str]:
    """(id, the key itself), in the caller's transaction. Raises OfficeKeyError."""
    shown_as, wanted = shown_as.strip(), sorted(set(scopes))
    if not 0 < len(shown_as) <= NAME_CHARACTERS_MAX or not shown_as.isprintable():
        raise OfficeKeyError("a name of 1 to 64 characters is needed")
    if not wanted or not set(wanted) <= {scope.value for scope in Scope}:
        raise OfficeKeyError("at least one scope is needed")
    if await connection.fetchval(SQL["count_live"]) >= KEYS_MAX:
        raise OfficeKeyError("there are 50 keys already: revoke one")
    id_ = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(10))
    key = f"dzk_{id_}_{secrets.token_urlsafe(32)}"
    await connection.execute(SQL["add_key"], id_, shown_as, hash_of(key), wanted, by)
    return id_, key


async def find_key(connection: asyncpg.Connection, key: str) -> OfficeKey | None:
    """Whose key this is; None for one that is made up, revoked or damaged. Remembers, to the
    minute, that it was used."""
    if not (parts := _KEY.fullmatch(key)):
        return None
    row = await connection.fetchrow(SQL["read_key"], parts[1])
    if row is None or not hmac.compare_digest(row["key_hash"], hash_of(key)):
        return None
    if row["stale"]:
        await connection.execute(SQL["say_used"], row["id"])
    known = {scope.value for scope in Scope}
    scopes = frozenset(Scope(scope) for scope in row["scopes"] if scope in known)
    return OfficeKey(row["id"], row["shown_as"], scopes)


async def revoke_key(connection: asyncpg.Connection, id_: str) -> str | None:
    """From now on it is worth nothing; its name, None where there is no such live key."""
    name: str | None = await connection.fetchval(SQL["revoke"], id_)
    return name


def hash_of(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()
