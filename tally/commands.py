"""This package's commands, for `dianzan` to mount: flush, migrate, rebuild-hot, tally.

Exit codes: 0 done; 1 the journal, or what was made of it, is not what it should be; 2 cannot run.
What any command may meet (a server away, a setting that is wrong) is left to `dianzan` to say.
"""

import asyncio
import json
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from pydantic import SecretStr

from tally.migrate import migrate as migrate_database
from tally.tallies import (
    Tally,
    TallyError,
    UnknownCampaign,
    read_campaign,
    read_hot_tally,
    read_tally,
)
from voting.hot_state import HotState
from voting.settings import Settings, load_settings
from voting.shards import check_shards

app = typer.Typer()

_Answer = TypeVar("_Answer")


@app.callback()
def _tally_commands() -> None:
    """Counting likes: from the journal to totals."""


@app.command()
def flush(
    shard: Annotated[
        list[int] | None,
        typer.Option(help="Only this shard; may be given several times.", min=0),
    ] = None,
    ready_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Where `dianzan up` hears that we are ready.")
    ] = None,
    lifeline_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Ends when `dianzan up` does.")
    ] = None,
) -> None:
    """Bring the journal's votes into Postgres, each once, until SIGTERM or Ctrl-C.

    Needs DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data
    folder. It flushes every shard that nobody else does: a second one stands by, and takes over
    each shard whose flusher ends. Where a server is away it waits for it. Prints nothing on stdout;
    logs go to stderr, metrics are at /metrics on DIANZAN_ADMIN_HOST:DIANZAN_ADMIN_PORT.
    """
    # The other commands need none of these.
    from tally import flusher
    from tally.serving import serve

    only = sorted(set(shard or ()))
    if only and only[-1] >= load_settings().shards:
        fail(f"there is no shard {only[-1]}: DIANZAN_SHARDS is {load_settings().shards}")
    serve(
        "flush",
        partial(flusher.flush, only=only),
        "flusher-failed",
        ready_fd=ready_fd,
        lifeline_fd=lifeline_fd,
    )


@app.command()
def migrate() -> None:
    """Bring the database up to date, and print what was applied, a name a line.

    Needs DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data folder (which has
    migrated already). May be run at any time and by several at once.
    """
    settings = load_settings()
    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")
    for name in asyncio.run(migrate_database(dsn, shards=settings.shards)):
        typer.echo(name)


@app.command("rebuild-hot")
def rebuild_hot() -> None:
    """Give the hot state back what Postgres has: for a store that is empty, or that lost something.

    Today's likes come back, so that who liked has liked, and the sums are raised to what Postgres
    and the journal say; limits begin unused. Pause the campaigns that are open meanwhile, or who
    liked may like again before it is known. Waits for what the flusher has to bring into Postgres
    first, so it must run. May be run again, and again at any time: nothing is given twice. Needs
    DIANZAN_POSTGRES_DSN and DIANZAN_VALKEY_URL, or a running `dianzan up` on the same data folder.
    """
    from tally.give_back import mend_sums, rebuild
    from tally.publishing.publication import PublicationError, journal_ends, until_flushed
    from tally.reconcile import NotComparable

    settings = load_settings()
    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")
    valkey_url = address_of(settings, settings.valkey_url, "DIANZAN_VALKEY_URL")

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await check_shards(connection, settings.shards)
            async with HotState(valkey_url, settings.shards) as hot:
                await until_flushed(connection, await journal_ends(hot))
                for shard, done in (await rebuild(connection, hot)).items():
                    typer.echo(f"shard {shard}: {done.given} of today's likes given back")
                mended = await mend_sums(connection, hot, 0)
                typer.echo(f"sums: raised by {mended} ballots")
        finally:
            await connection.close()

    try:
        answer_to(run())
    except (PublicationError, NotComparable) as why:
        fail(str(why))


@app.command()
def tally(
    campaign: Annotated[str, typer.Option(help="Id of the campaign.")],
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    hot: Annotated[
        bool, typer.Option("--hot", help="Out of the hot state, where a like is at once.")
    ] = False,
) -> None:
    """Print a campaign's tally: received = counted + held + struck + refused, and the likes of
    every candidate.

    Out of Postgres, where a like is within 5 seconds; `as_of` is the moment up to which nothing
    is missing. Needs DIANZAN_POSTGRES_DSN, with --hot DIANZAN_VALKEY_URL too, or a running
    `dianzan up` on the same data folder.
    """
    settings = load_settings()
    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")
    valkey_url = address_of(settings, settings.valkey_url, "DIANZAN_VALKEY_URL") if hot else None
    try:
        found = answer_to(_read(dsn, valkey_url, settings.shards, campaign))
    except TallyError as why:
        typer.echo(f"dianzan: {why}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(found.as_json(), ensure_ascii=False) if json_ else _table(found))


async def _read(dsn: str, valkey_url: str | None, shards: int, campaign_id: str) -> Tally:
    if valkey_url is None:
        return await read_tally(dsn, campaign_id)
    connection = await asyncpg.connect(dsn)
    try:
        await check_shards(connection, shards)
        campaign = await read_campaign(connection, campaign_id)
    finally:
        await connection.close()
    async with HotState(valkey_url, shards) as hot:
        return await read_hot_tally(hot, campaign)


def _table(found: Tally) -> str:
    """For eyes."""
    width = max(map(len, (*found.counts, "candidate")))
    return "\n".join(
        (
            f"{found.campaign}, as of {found.as_of.isoformat(' ', timespec='seconds')}",
            f"received {found.received:,} = counted {found.counted:,} + held {found.held:,} "
            f"+ struck {found.struck:,} + refused {found.refused:,}",
            "",
            f"{'candidate':<{width}}  {'likes':>11}",
            *(f"{id_:<{width}}  {likes:>11,}" for id_, likes in found.counts.items()),
        )
    )


def answer_to(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Ask the database; ends the command where it does not know."""
    try:
        return asyncio.run(question)
    except UnknownCampaign as why:
        fail(str(why.args[0]))
    except asyncpg.UndefinedTableError:
        fail("the database is not migrated: run `dianzan migrate`")


def address_of(settings: Settings, address: SecretStr | None, variable: str) -> str:
    if address is None:
        fail(
            f"`dianzan up` is not running on the data folder {settings.data_dir}, and {variable} "
            "is not set"
        )
    return address.get_secret_value()


def fail(message: str) -> NoReturn:
    typer.echo(f"dianzan: {message}", err=True)
    raise typer.Exit(2)
