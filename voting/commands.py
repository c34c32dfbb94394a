"""Commands of this package: `dianzan edge`, `devices`, `keys`, `campaign`, `media`, `networks`,
`portal`."""

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from voting.intake.commands import campaign as campaign_commands
from voting.key_commands import keys
from voting.media_commands import media
from voting.network_commands import networks
from voting.portal_commands import portal
from voting.settings import load_settings

app = typer.Typer()
devices = typer.Typer(no_args_is_help=True, help="Device tokens.")


@app.command()
def edge(
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    worker: Annotated[int, typer.Option(help="Number of this worker, for its logs.")] = 0,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    lifeline_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run one public edge process.

    Needs Valkey or Redis 7+, Postgres with its migrations applied, and the installation's key
    file. Listens on DIANZAN_EDGE_HOST:DIANZAN_EDGE_PORT; metrics are at /metrics on
    DIANZAN_ADMIN_HOST:DIANZAN_ADMIN_PORT, logs on stderr. SIGTERM drains and ends it. `dianzan up`
    runs as many as there are DIANZAN_EDGE_WORKERS.
    """
    from voting import process
    from voting.edge.app import run_edge

    settings = load_settings()
    admin = settings.admin_address(supervised=ready_fd is not None)
    listening = None
    if listen_fd is not None:
        listening = socket.socket(fileno=listen_fd)
        listening.setblocking(False)
        os.set_inheritable(listen_fd, False)
    process.run(
        lambda child: run_edge(settings, listening, child, admin=admin, worker=worker),
        log_level=settings.log_level,
        ready_fd=ready_fd,
        lifeline_fd=lifeline_fd,
        process=f"edge-{worker}",
    )


@devices.command("mint")
def mint(
    number: Annotated[int, typer.Argument(min=1, max=10_000_000, metavar="N")],
    campaign: Annotated[str, typer.Option(help="Id of the campaign that they are for.")],
    out: Annotated[Path, typer.Option(help="File to write, one token a line.")],
) -> None:
    """Make N level-1 device tokens for load tests, as many on each shard.

    An operator's tool: whoever has the file has N devices. It is written readable by its owner
    only.
    """
    import asyncpg

    from voting.campaign import Campaign
    from voting.catalog import load_campaigns
    from voting.device import Mint
    from voting.keys import Keys

    settings = load_settings()
    if settings.postgres_dsn is None:
        typer.echo("no database: start `dianzan up`, or set DIANZAN_POSTGRES_DSN", err=True)
        raise typer.Exit(2)
    dsn = settings.postgres_dsn.get_secret_value()

    async def find() -> Campaign | None:
        connection = await asyncpg.connect(dsn)
        try:
            return (await load_campaigns(connection)).get(campaign)
        finally:
            await connection.close()

    found = asyncio.run(find())
    if found is None:
        typer.echo(f"there is no campaign {campaign!r}", err=True)
        raise typer.Exit(2)
    issuer = Mint(Keys.load(settings.keys_path))
    now = time.time()
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # also where the file was there before
    with os.fdopen(descriptor, "w") as file:
        file.writelines(
            issuer.issue(found, now, shard=n % settings.shards) + "\n" for n in range(number)
        )
    typer.echo(f"{number} tokens for {campaign} in {out}", err=True)


app.add_typer(campaign_commands, name="campaign")
app.add_typer(devices, name="devices")
app.add_typer(keys, name="keys")
app.add_typer(networks, name="networks")
app.add_typer(portal, name="portal")
app.add_typer(media, name="media")
