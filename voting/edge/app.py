"""The edge process: its routes, its parts, its life."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator

import asyncpg
import structlog
from aiohttp import hdrs, web

from voting.ballot_box import LIBRARY, BallotBox
from voting.device import Mint
from voting.edge import campaigns, counts, devices, likes, origins, pages, receipts, widget
from voting.edge.answers import headers, problem
from voting.edge.board import Board, watch_memory
from voting.edge.client_address import ClientAddress
from voting.edge.live_catalog import LiveCatalog
from voting.edge.metrics import EdgeMetrics
from voting.edge.parts import EDGE, Edge
from voting.edge.protocol import EdgeServer
from voting.keys import Keys
from voting.process import Child
from voting.pseudonyms import Pseudonyms
from voting.receipt import Receipts
from voting.settings import Settings
from voting.store_line import StoreDown, StoreLine

log = structlog.get_logger()

_DRAIN_SECONDS = 5.0
_BACKLOG = 4_096


class EdgeError(Exception):
    """The edge cannot start; the message says why."""


def build_app(edge: Edge) -> web.Application:
    """Every public route."""
    app = web.Application()
    app[EDGE] = edge
    app.add_routes(
        [
            web.post("/v1/likes", likes.post_like),
            web.post("/v1/devices", devices.post_device),
            web.post("/v1/devices/state", devices.post_device_state),
            *(
                web.options(path, origins.preflight)
                for path in ("/v1/likes", "/v1/devices", "/v1/devices/state")
            ),
            web.get("/v1/campaigns/{campaign}", campaigns.get_campaign),
            web.get("/v1/campaigns/{campaign}/candidates", campaigns.get_candidates),
            web.get("/v1/campaigns/{campaign}/counts", counts.get_counts),
            web.get("/v1/campaigns/{campaign}/counts/{candidate}.svg", counts.get_count_image),
            web.get(r"/v1/photos/{photo:[0-9a-f]{8,64}}.{kind:webp|jpg}", campaigns.get_photo),
            web.get("/v1/receipts/{receipt}", receipts.get_receipt),
            web.get(r"/embed/{version:v1(?:\.\d{1,4})?}/{name:like\.\w+}", widget.get_widget),
            web.get("/embed/v1/card/{campaign}/{candidate}", pages.get_card),
            web.post("/embed/v1/card/{campaign}/{candidate}", pages.post_card),
            web.get("/static/{name}", pages.get_static),
            web.get("/healthz", campaigns.get_health),
            web.get("/readyz", campaigns.get_ready),
            web.get("/", pages.get_portal),
            web.route("*", "/{anything:.*}", _no_route),
        ]
    )
    return app


async def _no_route(request: web.Request) -> web.Response:
    """404, or 405 where the path is one of ours and the method is not."""
    allowed: set[str] = set()
    for resource in list(request.app.router.resources())[:-1]:
        allowed |= (await resource.resolve(request))[1]
    if not allowed:
        return problem("not-found")
    answer = problem("wrong-method")
    answer.headers[hdrs.ALLOW] = ", ".join(sorted(allowed))
    return answer


async def run_edge(
    settings: Settings, listening: socket.socket | None, child: Child, *, admin_port: int = 0
) -> None:
    """Serve until `child.stop_event`; then drain. `listening` is the supervisor's socket, None =
    open one. /metrics is on the loopback's `admin_port`, 0 = any free."""
    if settings.valkey_url is None or settings.postgres_dsn is None:
        raise EdgeError(
            "the edge needs a store and a database: `dianzan up` is not running on "
            f"{settings.data_dir}, and DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN are not set"
        )
    keys = Keys.load(settings.keys_path)
    pseudonyms = Pseudonyms(keys)
    metrics = EdgeMetrics()
    line = StoreLine(
        settings.valkey_url.get_secret_value(),
        timeout_seconds=settings.store_timeout_ms / 1000,
        library=LIBRARY,
    )
    box = BallotBox(
        line,
        pseudonyms,
        waiting_max=settings.edge_waiting_max,
        observe_batch=metrics.observe_batch,
    )
    catalog = LiveCatalog(settings.postgres_dsn.get_secret_value(), pseudonyms, box)
    edge = Edge(
        settings=settings,
        catalog=catalog,
        board=Board(catalog, box),
        ballot_box=box,
        mint=Mint(keys),
        pseudonyms=pseudonyms,
        receipts=Receipts(keys),
        client_address=ClientAddress(settings.trusted_proxies),
        metrics=metrics,
    )
    async with contextlib.AsyncExitStack() as stack:
        await _open_catalog(catalog, child)
        stack.push_async_callback(catalog.close)
        if child.stop_event.is_set():
            return
        # What runs beside the requests, as one table.
        for background in (
            line.run(),
            catalog.follow(),
            edge.board.follow(),
            watch_memory(line, box, settings.store_memory_ceiling_percent),
        ):
            await stack.enter_async_context(_running(background))
        await _until_ready(edge, child)
        await _warn_of_a_careless_store(line)
        admin_url = await stack.enter_async_context(_admin_site(edge, admin_port))
        server = await stack.enter_async_context(_public_site(edge, listening))
        metrics.gauges |= {
            "dianzan_connections": ("Open connections.", lambda: len(server.connections)),
            "dianzan_connections_refused": (
                "Connections refused at the cap, since the start.",
                lambda: server.connections_refused,
            ),
            "dianzan_ballots_waiting": ("Ballots waiting or in flight.", lambda: box.waiting),
            "dianzan_store_connected": ("1 while the store answers.", lambda: box.ready),
        }
        # What is alive now stays for good: the collector need not walk it again. Measured: p99
        # 27 -> 16 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        log.info("edge-serves", admin=admin_url)
        child.announce({"admin": admin_url})
        await child.stop_event.wait()
        log.info("edge-drains")


async def _open_catalog(catalog: LiveCatalog, child: Child) -> None:
    """Postgres may come up after us; nothing can be served before it does."""
    while not child.stop_event.is_set():
        try:
            await catalog.open()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as why:
            await catalog.close()
            log.warning("database-away", why=str(why) or type(why).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.stop_event.wait(), 0.5)
        else:
            return


async def _until_ready(edge: Edge, child: Child) -> None:
    """Wait for the store, bounded: an edge whose store is away serves pages and says 503."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while not (edge.ballot_box.ready or child.stop_event.is_set()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await edge.board.refresh()


async def _warn_of_a_careless_store(line: StoreLine) -> None:
    """Say it where a store of the operator's own would break our promise of durability."""
    for setting, needed, harm in (
        ("appendfsync", b"always", "a like that was answered can be lost with the power"),
        ("appendonly", b"yes", "every like is lost when the store restarts"),
        ("maxmemory-policy", b"noeviction", "a full store forgets who voted"),
    ):
        with contextlib.suppress(StoreDown):  # away, or CONFIG is not for us: nothing is known
            held = await line.ask("CONFIG", "GET", setting)
            if held and held[1] != needed:
                log.warning("store-careless", setting=setting, needed=needed.decode(), harm=harm)


@contextlib.asynccontextmanager
async def _public_site(edge: Edge, listening: socket.socket | None) -> AsyncIterator[EdgeServer]:
    settings = edge.settings
    app = build_app(edge)
    runner = web.AppRunner(app)
    await runner.setup()
    server = EdgeServer(
        app._handle,
        request_factory=app._make_request,
        connections_max=settings.edge_connections_max,
    )
    loop = asyncio.get_running_loop()
    if listening is None:
        listener = await loop.create_server(
            server, settings.edge_host, settings.edge_port, backlog=_BACKLOG, reuse_port=True
        )
    else:
        listener = await loop.create_server(server, sock=listening, backlog=_BACKLOG)
    try:
        async with _running(server.end_late_heads()):
            yield server
    finally:
        # Connections in our backlog would be reset by closing the listener: give the loop turns
        # to take and answer them first. With a supervisor they stay in its copy of the socket.
        listener.close()
        server.pre_shutdown()
        await server.shutdown(_DRAIN_SECONDS)
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _admin_site(edge: Edge, port: int) -> AsyncIterator[str]:
    """/metrics on a loopback port of this process's own; a supervisor gathers them."""

    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=edge.metrics.render(), headers=headers("text/plain; version=0.0.4")
        )

    app = web.Application()
    app.add_routes([web.get("/metrics", get_metrics), web.get("/healthz", campaigns.get_health)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _running(background: "asyncio._CoroutineLike[None]") -> AsyncIterator[None]:
    task = asyncio.create_task(background)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
