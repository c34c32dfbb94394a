"""The program `dianzan`: finds the package that a command belongs to, and hands over.

Thin on purpose. A command imports its own package and no other's, and `dianzan --help` imports
none. What went wrong in a way that is not a mistake of ours ends as one line on stderr and exit
code 2; a mistake of ours keeps its traceback.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "up": ("deploy.local.commands", "Run everything on this machine (begin here)."),
    "edge": ("voting.commands", "Run one public edge process."),
    "flush": ("tally.commands", "Run the flusher: journal to Postgres."),
    "watch": ("tally.watch_commands", "Run the watch: flags, holds, releases."),
    "publish": ("tally.publishing.publish_commands", "Run the publisher, or publish by hand."),
    "console": (
        "tally.console_commands",
        "Run the console: pages for staff, and the office's API.",
    ),
    "migrate": ("tally.commands", "Bring the database's schema up to date."),
    "rebuild-hot": ("tally.commands", "Give the hot state back what Postgres has."),
    "tally": ("tally.commands", "Show a campaign's tally."),
    "verify": ("tally.publishing.publish_commands", "Check a published folder."),
    "flags": ("tally.watch_commands", "Show what was flagged."),
    "decide": ("tally.watch_commands", "Hold, release or strike the votes of a flag."),
    "hold-all": ("tally.watch_commands", "Hold every like, while the checks are in trouble."),
    "recount": ("tally.recount_commands", "Judge the stored votes again under other rules."),
    "staff": ("tally.accounts.staff_commands", "Make, change and reset accounts of the console."),
    "audit": ("tally.accounts.staff_commands", "Verify and export the audit log."),
    "campaign": ("voting.commands", "Import a list of candidates."),
    "media": ("voting.commands", "Write photos and videos for a CDN or an object store."),
    "devices": ("voting.commands", "Make device tokens for load tests."),
    "keys": ("tally.log.key_commands", "Keys that sign tokens, and the log's."),
    "portal": ("voting.commands", "Keys and trial assertions of portals that vouch for users."),
    "networks": ("voting.commands", "Build the table that says whose an address is."),
    "loadtest": ("loadtest.commands", "Send a running service a crowd, and report."),
    "backup": ("deploy.backup.commands", "Write everything that lasts into a folder."),
    "restore": ("deploy.backup.commands", "Bring a backup back into a fresh data folder."),
    "retain": ("deploy.backup.commands", "Destroy what is past its time."),
    "plan": ("deploy.plan.commands", "Say what a campaign of a given size needs."),
    "rehearse": ("loadtest.rehearse_command", "Hold the rules against crowds and cheats."),
}
"""Command -> module whose `app` has it, and what `dianzan --help` says of it."""

# What may happen to anybody: module -> exceptions whose own text says what to do.
_ORDINARY = {
    "voting.store_address": ("NotAStore",),
    "voting.keys": ("KeyFileError", "CannotRotate"),
    "deploy.local.servers": ("EmbeddedServerError",),
    "deploy.local.run_folder": ("AlreadyUp",),
    "deploy.local.listeners": ("PortInUse",),
    "deploy.local.children": ("ChildFailed",),
    "voting.edge.app": ("EdgeError",),
    "voting.intake.importer": ("CannotImport",),
    "tally.migrate": ("MigrationError",),
    "voting.shards": ("TooFewShards",),
    "tally.accounts.sealing": ("SealError",),
    "tally.console.app": ("ConsoleError",),
    "tally.log.keys": ("LogKeysError",),
    "tally.log.store": ("LogConflict",),
    "tally.recount": ("RulesError",),
    "asyncpg": ("PostgresError", "InterfaceError"),
    "redis.exceptions": ("RedisError",),
}


class _Commands(TyperGroup):
    """The commands of COMMANDS, each imported when it is called."""

    def list_commands(self, _: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        _let_find_running_servers()
        owners = importlib.import_module(COMMANDS[name][0]).app
        owners.rich_markup_mode = None
        owner = typer.main.get_command(owners)
        assert isinstance(owner, TyperGroup), "an app of several commands"
        return owner.get_command(ctx, name)

    def format_commands(self, _: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dianzan {version('dianzan')}")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text, and half a second less
    pretty_exceptions_enable=False,  # they would print local variables, keys among them
)


@app.callback()
def dianzan(
    _: bool = typer.Option(
        False, "--version", is_eager=True, callback=_show_version, help="Show the version."
    ),
) -> None:
    """Dianzan 点赞: a public voting service, from a like to a tally in Postgres.

    Begin with `dianzan up`. `dianzan COMMAND --help` is the manual of a command.

    Settings come from environment variables DIANZAN_*, from a file .env in the working folder, and
    from the folder that DIANZAN_SECRETS_DIR names. Every command finds the servers of the
    `dianzan up` that runs on the same DIANZAN_DATA_DIR (default ./data) by itself; elsewhere set
    DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN.
    """


def main() -> None:
    """Run the command of sys.argv; the process' exit code tells how it went."""
    try:
        app(prog_name="dianzan")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        reasons = list(_ordinary_reasons(error))
        if not reasons:
            raise
        for reason in reasons:
            with contextlib.suppress(OSError):
                print(f"dianzan: {reason}", file=sys.stderr)
        sys.exit(2)


def _let_find_running_servers() -> None:
    """Put the addresses of this data folder's embedded servers where settings are read from.

    An address that is set wins, `dianzan up` itself excepted from all of this: it starts them. For
    links that `dianzan staff` prints, the console's port is that of the one that runs.
    """
    if "up" in sys.argv[1:2] or "--help" in sys.argv:
        return
    from deploy.local.run_folder import (
        addresses_of_running_servers,
        port_of_running_console,
        shards_of_running_servers,
    )
    from voting.settings import load_settings

    settings = load_settings()
    if "staff" in sys.argv[1:2] and (port := port_of_running_console(settings.data_dir)):
        os.environ["DIANZAN_CONSOLE_PORT"] = str(port)
    if settings.valkey_url and settings.postgres_dsn:
        return
    found = addresses_of_running_servers(settings.data_dir)
    if settings.valkey_url is None and "valkey-server" in found:
        os.environ["DIANZAN_VALKEY_URL"] = found["valkey-server"]
        shards = shards_of_running_servers(settings.data_dir)
        if shards and "shards" not in settings.model_fields_set:
            os.environ["DIANZAN_SHARDS"] = str(shards)
    if settings.postgres_dsn is None and "postgres" in found:
        os.environ["DIANZAN_POSTGRES_DSN"] = found["postgres"]


def _ordinary_reasons(error: BaseException) -> Iterator[str]:
    """What to tell people, a line each; nothing if this error is a mistake of ours."""
    pydantic = sys.modules.get("pydantic")
    if pydantic and isinstance(error, pydantic.ValidationError) and error.title == "Settings":
        for problem in error.errors(include_input=False, include_url=False):
            setting = "_".join(str(part) for part in problem["loc"][:1]).upper()
            yield f"DIANZAN_{setting}: {problem['msg']}"
    elif isinstance(error, OSError) or any(
        isinstance(error, getattr(sys.modules[module], name))
        for module, names in _ORDINARY.items()
        if module in sys.modules
        for name in names
    ):
        # A server's text may be of several lines; its type tells what an empty one means.
        yield " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
