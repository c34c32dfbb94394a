"""The audit log: what staff, commands and parts of the service did, in a chain that shows a change.

Each row's hash is SHA-256 over the canonical JSON (tally/canonical.py) of

    {"number": 7, "at": "2026-07-01T04:05:06.123456Z", "actor": "li", "role": "reviewer",
     "action": "case.strike", "subject": "flag 12", "details": "{...}", "previous": "64 hex digits"}

where `details` is the text as it is stored and `previous` the hash of the row before (of the first
one: zeros). A row that was changed, left out or put in between breaks the chain from there on.

Known weakness: who may write to the whole table can compute the chain anew, or cut off its end.
Against that the head (number and hash) has to be kept elsewhere. Publications carry it, signed:
`verify` looks for the head of each that the database has. Who may write to those too is found out
by a publication that somebody else has: `dianzan audit verify --number N --hash H` says whether its
head is in the chain still.
"""

import getpass
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from tally.canonical import canonical
from tally.store import read_queries

SQL = read_queries(Path(__file__).with_name("audit.sql"))
BEGINNING = bytes(32)
"""The hash before the first row."""
TEXT_CHARACTERS_MAX = 300
DETAILS_BYTES_MAX = 256 * 1024
_ROWS_AT_ONCE = 200


class Head(NamedTuple):
    """The last row: what to keep elsewhere."""

    number: int
    """0 = there is none yet."""
    hash: bytes


class Row(NamedTuple):
    number: int
    at: datetime
    actor: str
    role: str
    action: str
    subject: str
    details: str
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk over the whole chain came to."""

    rows: int
    """Those that fit, from the first one on."""
    head: Head
    """The last one of them."""
    broken_at: int | None = None
    """Number of the first row that does not fit; None = all do."""
    why: str = ""


async def append(
    connection: asyncpg.Connection,
    *,
    actor: str,
    role: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> int:
    """Write one row in the caller's transaction; its number. To be called last in it: from here to
    the commit everybody else's row waits.

    `actor`: a person's name, or a part's ("watch", "publish"); `role`: that person's role at this
    time, or "part", or "command" for who sits at the machine; `action`: "case.strike"; `subject`:
    "flag 12". `details`: strings, integers, lists and mappings; no secret.

    Raises ValueError for a name, action or subject that is empty or longer than
    TEXT_CHARACTERS_MAX, details longer than DETAILS_BYTES_MAX, and what canonical() does not take.
    """
    assert connection.is_in_transaction(), "a row belongs to what it tells of"
    for text in (actor, role, action, subject):
        if not 0 < len(text) <= TEXT_CHARACTERS_MAX:
            raise ValueError(f"1 to {TEXT_CHARACTERS_MAX} characters wanted: {text[:40]!r}")
    told = canonical(dict(details or {})).decode()
    if len(told.encode()) > DETAILS_BYTES_MAX:
        raise ValueError(f"details of {action} are longer than {DETAILS_BYTES_MAX} bytes")
    await connection.execute(SQL["lock_audit"])
    # A statement of its own: it sees what the lock's last holder committed.
    last = await connection.fetchrow(SQL["read_audit_head"])
    if last is None:
        number, previous = 0, BEGINNING
        now: datetime = await connection.fetchval(SQL["read_audit_clock"])
    else:
        number, previous, now = last["number"], last["hash"], last["now"]
    row = Row(number + 1, now, actor, role, action, subject, told, previous, b"")
    await connection.execute(SQL["add_audit"], *row[:-1], hash_of(row))
    return row.number


def hash_of(row: Row) -> bytes:
    """What its hash has to be."""
    return hashlib.sha256(
        canonical(
            {
                "number": row.number,
                "at": _moment(row.at),
                "actor": row.actor,
                "role": row.role,
                "action": row.action,
                "subject": row.subject,
                "details": row.details,
                "previous": row.previous.hex(),
            }
        )
    ).digest()


async def head(connection: asyncpg.Connection) -> Head:
    """The last row that is committed, as this transaction sees it."""
    last = await connection.fetchrow(SQL["read_audit_head"])
    return Head(0, BEGINNING) if last is None else Head(last["number"], last["hash"])


async def verify(connection: asyncpg.Connection, known: Head | None = None) -> Verified:
    """Walk the whole chain, in a snapshot of its own, without holding it in memory: some 30,000
    rows a second. `known`: a head that was kept elsewhere, and must be in it, as must those that
    publications carry.

    The connection must be in no transaction.
    """
    last = Head(0, BEGINNING)
    # Before the walk's snapshot: what was published by now is in it.
    published = await connection.fetch(SQL["list_published_heads"])
    kept = {Head(row["number"], bytes.fromhex(row["hash"])) for row in published}
    if known is not None:
        kept.add(known)
    kept.discard(last)
    numbers = {one.number for one in kept}
    async for row in rows(connection):
        why = _misfit(row, last)
        if not why and row.number in numbers:
            found = Head(row.number, row.hash)
            if any(one.number == row.number and one != found for one in kept):
                why = "its hash is not the one that was kept"
        if why:
            return Verified(last.number, last, row.number, why)
        last = Head(row.number, row.hash)
    missing = [number for number in numbers if not 0 < number <= last.number]
    if missing:
        why = f"row {max(missing)} is missing: the end is cut off"
        return Verified(last.number, last, last.number + 1, why)
    return Verified(last.number, last)


def _misfit(row: Row, last: Head) -> str:
    """Why this row does not follow `last`; "" where it does."""
    if row.number != last.number + 1:
        return f"row {last.number + 1} is missing"
    if row.previous != last.hash:
        return "it does not follow the row before"
    if hash_of(row) != row.hash:
        return "it was changed: its hash is another"
    return ""


async def rows(connection: asyncpg.Connection) -> AsyncIterator[Row]:
    """Every row in order, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(SQL["read_audit"], prefetch=_ROWS_AT_ONCE):
            yield Row(*row)


def as_json(row: Row) -> bytes:
    """A row as `dianzan audit export` writes it: what was hashed, and the hash."""
    return canonical(
        {
            **row._asdict(),
            "at": _moment(row.at),
            "previous": row.previous.hex(),
            "hash": row.hash.hex(),
        }
    )


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def operator() -> str:
    """Who runs a command on this machine, for the log: the account's name, by the system."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
