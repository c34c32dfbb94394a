"""The console's application, and its life.

A request passes guard.py (whose it is, headers, CSRF), FastAPI's limit of bodies, the dependency
that says who is signed in, slowapi's limit of the route, and the route. What goes wrong on the way
ends in problems.py.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Generator
from importlib import import_module

import asyncpg
import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from tally.accounts.sealing import Seal
from tally.console import problems
from tally.console.guard import Guard
from tally.console.limits import limiter
from tally.console.parts import Console
from tally.console.wire import DeadlineProtocol
from voting.heartbeat import Facts, Heartbeat, Part, beating, instance_name
from voting.hot_state import HotState
from voting.proxies import TrustedProxies
from voting.settings import Settings

log = structlog.get_logger()

ROUTERS = (
    # Modules of this package that have a `router`; each area adds its own line.
    "live",
    "control",
    "control_import",
    "sign_in",
    "oidc",
    "accounts",
    "audit_pages",
    "flags",
    "proposal_pages",
    "objections",
    "notice",
    "delivery",
    "exports",
    "office",
)

BODY_BYTES_MAX = 64 * 1024
"""Of any request; a route that takes files says `max_body_size=` itself."""
CONNECTIONS_MAX = 500
HEAD_BYTES_MAX = 32 * 1024
STOPS_WITHIN_SECONDS = 3
"""After that, what still runs is cut off."""
POOL_MAX = 10
COMMAND_TIMEOUT_SECONDS = 20.0


def build_app(console: Console) -> FastAPI:
    """The application; `console` is open, and closed by whoever opened it."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # It redirects to what Host says, over http where a proxy has https.
        redirect_slashes=False,
        max_body_size=BODY_BYTES_MAX,
        debug=False,
    )
    app.state.console = console
    app.state.limiter = limiter
    problems.install(app)
    app.mount("/static", _Static(packages=[("tally.console", "static")]), name="static")
    app.add_api_route("/healthz", get_healthz, methods=["GET", "HEAD"])
    for module in ROUTERS:
        app.include_router(import_module(f"tally.console.{module}").router)
    return app


def guarded(app: FastAPI, console: Console) -> Guard:
    """What is served: the guard stands outside of everything, so that the page of an error has its
    headers too."""
    return Guard(app, proxies=console.proxies, origin=console.settings.console_origin)


async def get_healthz(request: Request) -> Response:
    """Alive. Limited by address alone, like everything."""
    return PlainTextResponse("ok\n")


class _Static(StaticFiles):
    """Files whose address carries their hash: kept for a year."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = scope.get("query_string", b"").startswith(b"v=")
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if versioned else "no-cache"
        )
        return response


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Console]:
    """Everything that the console holds. Connects to nothing yet: it starts while its servers are
    away, and says so on its pages."""
    seal = Seal.load_or_make(settings.console_key_path)
    valkey_url = _secret(settings.valkey_url)
    limiter.use(valkey_url)
    pool = asyncpg.create_pool(
        _secret(settings.postgres_dsn),
        min_size=0,
        max_size=POOL_MAX,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        timeout=5,
        server_settings={"application_name": "dianzan console"},
    )
    async with pool, HotState(valkey_url, settings.shards) as hot:
        console = Console(settings, pool, hot, seal, TrustedProxies(settings.trusted_proxies))
        try:
            yield console
        finally:
            console.hashing.close()


async def run(
    settings: Settings,
    stop: asyncio.Event,
    announce: Callable[[], None],
    registry: CollectorRegistry,
    listening: socket.socket | None = None,
) -> None:
    """Serve until `stop`; then what runs has STOPS_WITHIN_SECONDS. `listening`: a socket to serve
    on, instead of the settings' address. Raises ConsoleError, SealError."""
    async with opened(settings) as console:
        listening = listening or listen(settings)
        config = uvicorn.Config(
            guarded(build_app(console), console),
            http=DeadlineProtocol,  # h11: strict, and its speed is not what staff wait for
            ws="none",
            lifespan="off",
            log_config=None,  # ours: JSON on stderr
            access_log=False,  # addresses may hold one-time links
            proxy_headers=False,  # guard.py walks them
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=STOPS_WITHIN_SECONDS,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        )
        # It tells of its start and end in several lines that say less than ours, and has a line
        # for each request that is none: whoever sends those would write our log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        server = _Server(config)
        dsn = _secret(settings.postgres_dsn)
        heartbeat = Heartbeat(Part.CONSOLE, instance_name(), lambda: _facts(server))
        async with beating(dsn, heartbeat):
            await _serve(server, listening, console, stop, announce)


async def _serve(
    server: uvicorn.Server,
    listening: socket.socket,
    console: Console,
    stop: asyncio.Event,
    announce: Callable[[], None],
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(0.01)
        if server.started:
            host, port, *_ = listening.getsockname()
            log.info("console-serves", host=host, port=port)
            announce()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        console.stopping.set()
        server.should_exit = True
        stopping.cancel()
        await serving
        listening.close()


def _facts(server: uvicorn.Server) -> Facts:
    return {
        "connections": len(server.server_state.connections),
        "limits_in_memory": limiter.in_memory,
    }


def _secret(setting: SecretStr | None) -> str:
    assert setting is not None, "the command checks that it is there"
    return setting.get_secret_value()


class _Server(uvicorn.Server):
    """Without signal handlers of its own: voting.process has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class ConsoleError(Exception):
    """The console cannot be run; the message says what to do."""


def listen(settings: Settings) -> socket.socket:
    """Its port; ConsoleError where it cannot be had."""
    host, port = settings.console_host, settings.console_port
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(address[:2], family=family, backlog=256)
    except OSError as why:
        raise ConsoleError(
            f"port {port} of the console cannot be opened on {host} ({why.strerror}): set "
            "DIANZAN_CONSOLE_PORT (0 = any free) or DIANZAN_CONSOLE_HOST"
        ) from None
    listening.setblocking(False)
    return listening
