"""Accounts of staff: made, changed, reset. Everything that changes one writes the audit log in its
own transaction.

There is no default password and no default account. Somebody new gets a set-up link that is good
once and for a day, chooses a password behind it and enrols an authenticator; `dianzan staff add`
makes the first admin.

Wrong passwords and codes lock an account: after FREE_FAILURES in a row for 1 minute, then 2, 4, 8
and 15 at most, and what comes while it is locked changes nothing. A stranger who keeps guessing
could so keep it locked for ever; therefore the lock does not hold for browsers that the person has
signed in with before (they have a cookie that says so, sealed; of those, KNOWN_PER_HOUR tries an
hour are let through). Somebody under attack who has no such browser gets a set-up link from an
admin, or from `dianzan staff reset` at the machine.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from tally import audit
from tally.accounts.credentials import SetUp, mark_of
from tally.store import read_queries

SQL = read_queries(Path(__file__).with_name("staff.sql"))

ROLES = ("viewer", "reviewer", "admin", "office")
FREE_FAILURES = 5
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(minutes=15)
KNOWN_PER_HOUR = 20
NAME_RULE = "a small letter or digit, then up to 31 of a-z 0-9 . _ -"
SHOWN_AS_CHARACTERS_MAX = 60
EXPECTED = "name:"
"""In `oidc_subject`, before the name under which the identity provider knows somebody who has not
come by it yet."""


class StaffError(ValueError):
    """What cannot be done with an account. `word` says it to programs, the message to people."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


@dataclass(frozen=True, slots=True)
class By:
    """Who changes an account: a person, or who sits at the machine (role "command")."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Account:
    """One row, as it was read."""

    number: int
    name: str
    shown_as: str
    role: str
    password_hash: str | None
    totp_secret: bytes | None
    """Sealed."""
    totp_step: int
    oidc_subject: str | None
    failures: int
    locked: bool
    locked_until: datetime | None
    disabled_at: datetime | None

    def __repr__(self) -> str:
        return f"<Account {self.number} {self.name}>"

    @property
    def set_up(self) -> SetUp:
        """What a set-up link of this moment says."""
        mark = mark_of(self.password_hash, self.totp_secret, self.totp_step)
        return SetUp(self.number, mark)


async def add(
    connection: asyncpg.Connection,
    name: str,
    role: str,
    *,
    by: By,
    shown_as: str | None = None,
    password_hash: str | None = None,
    oidc_subject: str | None = None,
) -> Account:
    """A new account. StaffError: bad-name, bad-shown-as, bad-role, name-taken, subject-taken."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,31}", name):
        raise StaffError("bad-name", f"{name!r} is no name of an account: {NAME_RULE}")
    shown_as = (shown_as or name).strip()
    if not 0 < len(shown_as) <= SHOWN_AS_CHARACTERS_MAX or not shown_as.isprintable():
        raise StaffError(
            "bad-shown-as", f"what is shown has 1 to {SHOWN_AS_CHARACTERS_MAX} characters"
        )
    _check_role(role)
    async with connection.transaction():
        try:
            number = await connection.fetchval(
                SQL["add_staff"], name, shown_as, role, password_hash, oidc_subject
            )
        except asyncpg.UniqueViolationError:
            raise StaffError("subject-taken", "another account has this subject") from None
        if number is None:
            raise StaffError("name-taken", f"there is an account {name} already")
        await _audit(connection, by, "add", name, role=role, shown_as=shown_as)
    account = await find(connection, name)
    assert account is not None, "accounts are never deleted"
    return account


async def find(connection: asyncpg.Connection, name: str) -> Account | None:
    row = await connection.fetchrow(SQL["find_staff_by_name"], name[:100])
    return Account(*row) if row else None


async def get(connection: asyncpg.Connection, number: int) -> Account | None:
    row = await connection.fetchrow(SQL["find_staff"], number)
    return Account(*row) if row else None


async def hold(connection: asyncpg.Connection, number: int) -> Account:
    """Somebody who is there, as they are, and stay to the end of the transaction."""
    return Account(*await connection.fetchrow(SQL["hold_staff"], number))


async def list_accounts(connection: asyncpg.Connection) -> Sequence[Any]:
    """Everybody, for a table: no hash and no secret."""
    rows: Sequence[Any] = await connection.fetch(SQL["list_staff"])
    return rows


async def set_role(connection: asyncpg.Connection, number: int, role: str, *, by: By) -> None:
    """In force with that person's next request. StaffError: bad-role, unknown, oneself,
    last-admin."""
    _check_role(role)
    async with connection.transaction():
        account = await _changed(connection, number, by)
        if role != "admin":
            await _leave_an_admin(connection, account)
        await connection.execute(SQL["set_role"], number, role)
        await _audit(connection, by, "role", account.name, was=account.role, became=role)


async def disable(connection: asyncpg.Connection, number: int, *, by: By) -> None:
    """Sessions end at once. StaffError: unknown, oneself, last-admin."""
    async with connection.transaction():
        account = await _changed(connection, number, by)
        await _leave_an_admin(connection, account)
        await connection.execute(SQL["set_disabled"], number, True)
        await connection.execute(SQL["end_all_sessions"], number)
        await _audit(connection, by, "disable", account.name)


async def enable(connection: asyncpg.Connection, number: int, *, by: By) -> None:
    """With the password and the authenticator of before."""
    async with connection.transaction():
        account = await _changed(connection, number, by)
        await connection.execute(SQL["set_disabled"], number, False)
        await _audit(connection, by, "enable", account.name)


async def reset(
    connection: asyncpg.Connection, number: int, *, by: By, password: bool, totp: bool
) -> Account:
    """Take away the password, the authenticator, or both, and unlock; sessions end at once. The
    account as it is then: its `set_up` makes a new link. StaffError: unknown."""
    async with connection.transaction():
        account = await _changed(connection, number, by, oneself=True)
        await connection.execute(SQL["reset_staff"], number, password, totp)
        await connection.execute(SQL["end_all_sessions"], number)
        await _audit(connection, by, "reset", account.name, password=password, totp=totp)
    after = await get(connection, number)
    assert after is not None, "accounts are never deleted"
    return after


async def set_password(
    connection: asyncpg.Connection, account: Account, password_hash: str, *, by: By, action: str
) -> None:
    """Instead of the one that `account` was read with. StaffError: changed-meanwhile."""
    async with connection.transaction():
        done = await connection.fetchval(
            SQL["set_password"], account.number, password_hash, account.password_hash
        )
        if done is None:
            raise _changed_meanwhile()
        await _audit(connection, by, action, account.name)


async def set_totp(
    connection: asyncpg.Connection, account: Account, sealed: bytes, step: int, *, by: By
) -> None:
    """Enrol this authenticator instead of the one that `account` was read with; `step`: whose code
    proved it. StaffError: changed-meanwhile."""
    async with connection.transaction():
        done = await connection.fetchval(
            SQL["set_totp"], account.number, sealed, step, account.totp_secret
        )
        if done is None:
            raise _changed_meanwhile()
        await _audit(connection, by, "enrol", account.name)


async def use_step(connection: asyncpg.Connection, account: Account, step: int) -> bool:
    """Take a code's step; False where it, or a later one, was taken before."""
    return await connection.fetchval(SQL["use_totp_step"], account.number, step) is not None


async def note_failure(connection: asyncpg.Connection, account: Account) -> None:
    """A wrong password or code. Says so in the audit log when it locks, so at most once a wait."""
    async with connection.transaction():
        locked_until = await connection.fetchval(
            SQL["note_failure"], account.number, FREE_FAILURES, FIRST_WAIT, LONGEST_WAIT
        )
        if locked_until is not None:
            await audit.append(
                connection,
                actor="console",
                role="part",
                action="staff.lock",
                subject=f"staff {account.name}",
                details={"failures": account.failures + 1},
            )


async def note_success(connection: asyncpg.Connection, account: Account, *, way: str) -> None:
    """Somebody is signed in, by `way`: "password" or "oidc". In the caller's transaction."""
    await connection.execute(SQL["note_success"], account.number)
    await _audit(connection, By(account.name, account.role), "sign-in", account.name, way=way)


async def find_by_subject(
    connection: asyncpg.Connection, subject: str, name: str | None
) -> Account | None:
    """Whose this subject of the identity provider is. Somebody who is expected under this name is
    bound to the subject now, for good."""
    if subject.startswith(EXPECTED):
        return None  # no provider's: it would be whoever is still expected
    row = await connection.fetchrow(SQL["find_staff_by_subject"], subject)
    if row is not None:
        return Account(*row)
    if name is None:
        return None
    async with connection.transaction():
        row = await connection.fetchrow(SQL["find_staff_by_subject"], EXPECTED + name)
        if row is None:
            return None
        account = Account(*row)
        bound = await connection.fetchval(
            SQL["bind_subject"], account.number, subject, EXPECTED + name
        )
        if bound is None:
            return None
        by = By(account.name, account.role)
        await _audit(connection, by, "bind", account.name, subject=subject[:200])
    return account


async def _changed(
    connection: asyncpg.Connection, number: int, by: By, *, oneself: bool = False
) -> Account:
    """The account, with all accounts locked to the transaction's end."""
    accounts = [Account(*row) for row in await connection.fetch(SQL["lock_staff"])]
    account = next((each for each in accounts if each.number == number), None)
    if account is None:
        raise StaffError("unknown", "there is no such account")
    if account.name == by.name and by.role != "command" and not oneself:
        raise StaffError("oneself", "nobody changes their own role or disables themselves")
    return account


async def _leave_an_admin(connection: asyncpg.Connection, account: Account) -> None:
    accounts = [Account(*row) for row in await connection.fetch(SQL["lock_staff"])]
    admins = [each for each in accounts if each.role == "admin" and each.disabled_at is None]
    if [each.number for each in admins] == [account.number]:
        raise StaffError("last-admin", f"{account.name} is the last admin: make another one first")


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise StaffError("bad-role", f"{role!r} is no role: {', '.join(ROLES)}")


def _changed_meanwhile() -> StaffError:
    return StaffError("changed-meanwhile", "the account was changed meanwhile: look again")


async def _audit(
    connection: asyncpg.Connection, by: By, action: str, name: str, **details: str | bool
) -> None:
    await audit.append(
        connection,
        actor=by.name,
        role=by.role,
        action=f"staff.{action}",
        subject=f"staff {name}",
        details=details,
    )
