"""What the long-lived commands of this package have in common: a metrics port, and their end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import structlog
import typer
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, start_http_server

from tally.commands import address_of, fail
from tally.disks import disk_of
from voting import process
from voting.journal import JournalError
from voting.settings import Settings, load_settings

Body = Callable[
    [Settings, asyncio.Event, Callable[[], None], CollectorRegistry], Coroutine[Any, Any, None]
]
"""(settings, what is set when it has to stop, what to call once when it serves, where its metrics
go)."""


def serve(
    name: str, body: Body, failed: str, *, ready_fd: int | None, lifeline_fd: int | None
) -> None:
    """Run one process to its end. Exits with 1 where the journal or the database is not what it
    should be (`failed` is the log's word for that), with 2 where it cannot run."""
    settings = load_settings()
    address_of(settings, settings.valkey_url, "DIANZAN_VALKEY_URL")
    address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")
    admin_host, admin_port = settings.admin_address(supervised=ready_fd is not None)

    async def live(child: process.Child) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge(
            "dianzan_disk_used_share",
            "Share of the data folder's disk that is used.",
            registry=registry,
        ).set_function(lambda: disk_of(settings.data_dir).used_share)
        try:
            server, thread = start_http_server(admin_port, admin_host, registry)
        except OSError as why:
            fail(
                f"the admin port {admin_host}:{admin_port} cannot be opened: {why.strerror}: "
                "set DIANZAN_ADMIN_HOST, DIANZAN_ADMIN_PORT (0 = any free)"
            )
        try:
            await body(
                settings,
                child.stop_event,
                lambda: child.announce({"admin": f"http://{admin_host}:{server.server_port}"}),
                registry,
            )
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    try:
        process.run(
            live,
            process=name,
            log_level=settings.log_level,
            ready_fd=ready_fd,
            lifeline_fd=lifeline_fd,
        )
    except (JournalError, asyncpg.PostgresError) as why:
        # Not to be waited out, and no traceback: the message says which entry and what is wrong.
        structlog.get_logger().critical(failed, why=f"{type(why).__name__}: {why}")
        raise typer.Exit(1) from None
