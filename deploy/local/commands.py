"""Command of this package: `dianzan up`."""

import asyncio

import typer

from voting.settings import load_settings

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Everything on this machine."""


@app.command()
def up() -> None:
    """Run everything on this machine, until Ctrl-C or SIGTERM.

    Starts an embedded Valkey and an embedded Postgres (unless DIANZAN_VALKEY_URL or
    DIANZAN_POSTGRES_DSN names another), brings the schema up to date, imports the demo campaign
    into an empty database, makes the key file, and runs DIANZAN_EDGE_WORKERS edge processes, the
    flusher, watch, the publisher and the console. Needs nothing installed but this package, and no
    root. Everything that lasts is in DIANZAN_DATA_DIR (default ./data); one `dianzan up` at a time
    runs on one such folder.

    Prints one line of JSON on stdout when all is ready, and nothing else there: ready, pid (takes
    SIGTERM), edge, console, admin, campaign, valkey, postgres, data. An address that you set
    yourself is in it as you set it. Progress goes to stderr, the embedded servers' output to
    logs/ in the data folder.

    A child that dies is started again, after 0.1 s at first and 5 s at most, and it is said on
    stderr. Stopping is in order and takes 20 s at most. After a kill -9 the next `dianzan up` goes
    on where this one was. <admin>/healthz and <admin>/metrics tell of all processes.

    Exit codes: 0 stopped in order, 2 could not run (the reason is on stderr).

    \b
    Ports (0 = any free):
      DIANZAN_EDGE_PORT     8080  the public edge, on DIANZAN_EDGE_HOST (127.0.0.1)
      DIANZAN_CONSOLE_PORT  8090  the console, on DIANZAN_CONSOLE_HOST (127.0.0.1)
      DIANZAN_ADMIN_PORT    9090  health and metrics, on DIANZAN_ADMIN_HOST (127.0.0.1)
    """
    from deploy.local import supervisor

    asyncio.run(supervisor.up(load_settings()))
