"""This package's command of the console: `dianzan console`."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from voting.settings import Settings

app = typer.Typer()


@app.callback()
def _console_commands() -> None:
    """Staff's pages."""


@app.command()
def console(
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    lifeline_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the console: staff's pages, and the selection office's interface.

    Needs DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data
    folder (which runs a console already). Listens on DIANZAN_CONSOLE_HOST:DIANZAN_CONSOLE_PORT in
    plain http; metrics are at /metrics on DIANZAN_ADMIN_HOST:DIANZAN_ADMIN_PORT, logs on stderr.
    SIGTERM ends it within 5 s.

    Nobody may sign in at first: `dianzan staff add NAME --role admin` makes the first account.

    Open it to others only behind a proxy that speaks TLS: set DIANZAN_CONSOLE_ORIGIN to what
    browsers call it, and DIANZAN_TRUSTED_PROXIES to the proxy's address. Over plain http nobody
    signs in, but for a browser on this machine that calls it localhost or 127.0.0.1.
    """
    from tally.console import app as console_app
    from tally.serving import serve

    listening = None
    if listen_fd is not None:
        listening = socket.socket(fileno=listen_fd)
        listening.setblocking(False)
        os.set_inheritable(listen_fd, False)

    async def body(
        settings: Settings,
        stop: asyncio.Event,
        announce: Callable[[], None],
        registry: CollectorRegistry,
    ) -> None:
        await console_app.run(settings, stop, announce, registry, listening)

    serve("console", body, "console-failed", ready_fd=ready_fd, lifeline_fd=lifeline_fd)
