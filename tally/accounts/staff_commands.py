"""Commands about accounts and the audit log: `dianzan staff`, `dianzan audit`.

They write the audit log with role "command" and the name of the system's user who runs them: who
may run them may read the database anyhow.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import asyncpg
import typer

from tally import audit as audit_log
from tally.accounts import credentials
from tally.accounts import staff as accounts
from tally.accounts.sealing import Seal
from tally.accounts.staff import EXPECTED, Account, By, StaffError
from tally.commands import address_of, answer_to, fail
from voting.settings import Settings, load_settings

app = typer.Typer()
staff = typer.Typer(no_args_is_help=True, help="Accounts of the console.")
audit = typer.Typer(no_args_is_help=True, help="The audit log.")
app.add_typer(staff, name="staff")
app.add_typer(audit, name="audit")

Name = Annotated[str, typer.Argument(help=f"Name to sign in with: {accounts.NAME_RULE}.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin, one line.")
]
AskPassword = Annotated[
    bool, typer.Option("--ask-password", help="Ask for the password on the terminal.")
]
_Found = TypeVar("_Found")


@staff.command("add")
def add(
    name: Name,
    role: Annotated[str, typer.Option(help=f"One of: {', '.join(accounts.ROLES)}.")],
    shown_as: Annotated[str | None, typer.Option(help="How pages call them; else NAME.")] = None,
    password_stdin: PasswordStdin = False,
    ask_password: AskPassword = False,
    oidc: Annotated[
        bool,
        typer.Option(
            "--oidc",
            help="Signs in by the identity provider, which knows them as NAME; bound to "
            "the provider's subject at the first sign-in.",
        ),
    ] = False,
    oidc_subject: Annotated[
        str | None, typer.Option(help="The same, with the provider's subject known already.")
    ] = None,
) -> None:
    """Make an account: the first admin's, for instance.

    There is no default password. Prints a link on stdout that is good once and for 24 hours:
    whoever opens it chooses the password and enrols an authenticator. Or give the password by
    --ask-password or --password-stdin; the authenticator is enrolled at the first sign-in.
    """
    settings = load_settings()
    password = _read_password(name, password_stdin, ask_password)
    subject = oidc_subject or (EXPECTED + name if oidc else None)

    async def make(connection: asyncpg.Connection) -> Account:
        return await accounts.add(
            connection,
            name,
            role,
            by=_by(),
            shown_as=shown_as,
            password_hash=credentials.hash_password(password) if password else None,
            oidc_subject=subject,
        )

    account = _asked(settings, make)
    typer.echo(f"made the account {name}, {role}", err=True)
    if password is not None:
        typer.echo("next: sign in, and enrol an authenticator there", err=True)
    elif subject is not None:
        typer.echo("next: sign in by the identity provider", err=True)
    else:
        _print_link(settings, account)


@staff.command("list")
def list_() -> None:
    """Show all accounts, a line each: name, role, state, last seen, shown as."""

    async def look(connection: asyncpg.Connection) -> Any:
        return await accounts.list_accounts(connection)

    rows = _asked(load_settings(), look)
    if not rows:
        typer.echo("there is no account yet: dianzan staff add NAME --role admin", err=True)
    for row in rows:
        seen: datetime | None = row["seen_at"]
        typer.echo(
            f"{row['name']:<20} {row['role']:<9} {_state(row):<12} "
            f"{seen.astimezone().isoformat(' ', 'minutes') if seen else '-':<23} {row['shown_as']}"
        )


@staff.command("disable")
def disable(name: Name) -> None:
    """End an account's sessions, and let nobody sign in with it. Its past stays as it is."""
    _change(name, lambda connection, number: accounts.disable(connection, number, by=_by()))
    typer.echo(f"disabled {name}", err=True)


@staff.command("enable")
def enable(name: Name) -> None:
    """Let somebody sign in again, with password and authenticator of before."""
    _change(name, lambda connection, number: accounts.enable(connection, number, by=_by()))
    typer.echo(f"enabled {name}", err=True)


@staff.command("role")
def role_(
    name: Name,
    role: Annotated[str, typer.Argument(help=f"One of: {', '.join(accounts.ROLES)}.")],
) -> None:
    """Give an account another role, in force with its next request."""
    _change(name, lambda connection, number: accounts.set_role(connection, number, role, by=_by()))
    typer.echo(f"{name} is {role} now", err=True)


@staff.command("reset")
def reset(
    name: Name,
    authenticator_only: Annotated[
        bool, typer.Option("--authenticator-only", help="Keep the password.")
    ] = False,
    password_stdin: PasswordStdin = False,
    ask_password: AskPassword = False,
) -> None:
    """Take away an account's password and authenticator, end its sessions, and unlock it.

    For somebody who lost them, or whom guessing strangers keep locked out. Prints a new set-up
    link, or takes the new password by --ask-password or --password-stdin.
    """
    settings = load_settings()
    password = _read_password(name, password_stdin, ask_password)
    if authenticator_only and password is not None:
        fail("with --authenticator-only the password stays as it is")

    async def take_away(connection: asyncpg.Connection, number: int) -> Account:
        account = await accounts.reset(
            connection, number, by=_by(), password=not authenticator_only, totp=True
        )
        if password is not None:
            password_hash = credentials.hash_password(password)
            await accounts.set_password(
                connection, account, password_hash, by=_by(), action="password"
            )
        return account

    account = _change(name, take_away)
    typer.echo(f"reset {name}", err=True)
    if password is not None or account.password_hash is not None:
        typer.echo("next: sign in, and enrol an authenticator there", err=True)
    else:
        _print_link(settings, account)


@audit.command("verify")
def verify(
    number: Annotated[
        int, typer.Option(min=0, help="Number of a row that was noted before, with --hash.")
    ] = 0,
    hash_: Annotated[str, typer.Option("--hash", help="Its hash, 64 hex digits.")] = "",
) -> None:
    """Walk the audit log's chain from its first row.

    Exit code 0: every row fits; prints their number and the last one's hash, to be noted elsewhere.
    1: one does not; says which is the first. A chain that was made anew as a whole, or cut off at
    its end, only a noted row can tell: --number and --hash say it must be there.
    """
    known = None
    if number or hash_:
        try:
            known = audit_log.Head(number, bytes.fromhex(hash_))
        except ValueError:
            known = None
        if known is None or len(known.hash) != 32:
            fail("--hash: 64 hex digits wanted, as `dianzan audit verify` prints them")

    async def walk(connection: asyncpg.Connection) -> audit_log.Verified:
        return await audit_log.verify(connection, known)

    verified = _asked(load_settings(), walk)
    if verified.broken_at is not None:
        typer.echo(f"dianzan: row {verified.broken_at} does not fit: {verified.why}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{verified.rows} {verified.head.hash.hex()}")


@audit.command("export")
def export() -> None:
    """Print the audit log on stdout, a row a line of canonical JSON: what each hash is of, and the
    hash."""

    async def write(connection: asyncpg.Connection) -> None:
        async for row in audit_log.rows(connection):
            sys.stdout.buffer.write(audit_log.as_json(row) + b"\n")

    _asked(load_settings(), write)
    sys.stdout.buffer.flush()


def _asked(
    settings: Settings, question: Callable[[asyncpg.Connection], Awaitable[_Found]]
) -> _Found:
    """Ask the database; ends the command where it does not know."""
    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")

    async def ask() -> _Found:
        connection = await asyncpg.connect(dsn)
        try:
            return await question(connection)
        finally:
            await connection.close()

    try:
        return answer_to(ask())
    except StaffError as why:
        fail(str(why))


def _change(name: str, change: Callable[[asyncpg.Connection, int], Awaitable[_Found]]) -> _Found:
    async def find_and_change(connection: asyncpg.Connection) -> _Found:
        account = await accounts.find(connection, name)
        if account is None:
            raise StaffError("unknown", f"there is no account {name!r}: see `dianzan staff list`")
        return await change(connection, account.number)

    return _asked(load_settings(), find_and_change)


def _read_password(name: str, from_stdin: bool, ask: bool) -> str | None:
    """The password that was given, if any; ends the command where it is not good enough."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif ask:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        return None
    problem = credentials.password_problem(password, name)
    if problem is not None:
        fail(
            f"this password is {problem.replace('-', ' ')}: "
            f"{credentials.PASSWORD_CHARACTERS_MIN} characters at least, and no common one"
        )
    return password


def _print_link(settings: Settings, account: Account) -> None:
    seal = Seal.load_or_make(settings.console_key_path)
    token = credentials.close_set_up(seal, account.set_up, time.time())
    base = settings.console_origin
    if base is None and settings.console_port:
        base = f"http://127.0.0.1:{settings.console_port}"
    typer.echo(f"{base or ''}/set-up?token={token}")
    where = "open this link" if base else "open it behind the console's address"
    typer.echo(
        f"next: {where} (good once, for 24 hours), choose a password and enrol an authenticator",
        err=True,
    )


def _state(row: Any) -> str:
    if row["disabled_at"] is not None:
        return "disabled"
    if row["locked_until"] is not None:
        return "locked"
    if not row["has_password"] and row["oidc_subject"] is None:
        return "not-set-up"
    return "may-sign-in"


def _by() -> By:
    return By(audit_log.operator(), "command")
