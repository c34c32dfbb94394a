"""The edge process: its routes, its parts, its life."""

import asyncio
import contextlib
import gc
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import structlog
from aiohttp import HttpVersion11, hdrs, web

from voting.ballot_box import LIBRARY, BallotBox, BallotBoxes
from voting.device import Mint
from voting.edge import (
    campaigns,
    cards,
    count_images,
    counts,
    devices,
    likes,
    logs,
    origins,
    photos,
    receipts,
    videos,
    widget,
)
from voting.edge.answers import Answer, WrittenAnswer, headers, problem
from voting.edge.board import Board
from voting.edge.client_address import ClientAddress
from voting.edge.encoded import EncodedCandidates, EncodedCounts
from voting.edge.fast_lane import FastLane
from voting.edge.issuing import Issuing, ProofDesk
from voting.edge.key_watch import KeyWatch
from voting.edge.known_devices import KnownDevices
from voting.edge.known_fingerprints import KnownFingerprints
from voting.edge.live_catalog import CatalogError, LiveCatalog
from voting.edge.log_desk import LogDesk
from voting.edge.loop_lag import LoopLag, yields
from voting.edge.metrics import EdgeMetrics
from voting.edge.parts import EDGE, Edge
from voting.edge.protocol import QUIET_SECONDS, EdgeServer
from voting.edge.site import campaign as campaign_site
from voting.edge.site import candidate as candidate_site
from voting.edge.site import (
    embed,
    errors,
    home,
    notice,
    privacy,
    ranking,
    receipt,
    robots,
    rules,
    static,
    theme,
)
from voting.edge.site.budget import BUDGETS, Budgets
from voting.edge.site.kept import KEPT, STATES, KeptPages, States
from voting.edge.store_watch import watch_stores
from voting.edge.vouching import Vouching
from voting.heartbeat import Heartbeat, Part, instance_name
from voting.keys import Keys
from voting.networks_file import NetworksFile
from voting.process import Child
from voting.pseudonyms import Pseudonyms
from voting.receipt import Receipts
from voting.settings import Settings
from voting.store_lines import StoreLines
from voting.view import Views

log = structlog.get_logger()

_START_SECONDS = 5.0
_DRAIN_SECONDS = 5.0
_LAST_ACCEPTS_SECONDS = 0.1
_BACKLOG = 4_096


class EdgeError(Exception):
    """The edge cannot start; the message says why."""


def build_app(edge: Edge) -> web.Application:
    """Every public route."""
    app = web.Application()
    app[EDGE] = edge
    app[videos.READERS] = videos.Readers()
    app[KEPT] = KeptPages()
    app[STATES] = States()
    app[BUDGETS] = Budgets()
    app[robots.SITEMAPS] = robots.Sitemaps()
    app[campaign_site.WALL] = campaign_site.Wall()
    app[ranking.RANKINGS] = ranking.Rankings()
    app.add_routes(
        [
            web.post("/v1/likes", likes.post_like),
            web.post("/v1/devices", devices.post_device),
            web.post("/v1/devices/proof", devices.post_device_proof),
            web.post("/v1/devices/state", devices.post_device_state),
            *(
                web.options(path, origins.preflight)
                for path in (
                    "/v1/likes",
                    "/v1/devices",
                    "/v1/devices/proof",
                    "/v1/devices/state",
                )
            ),
            web.get("/v1/campaigns/{campaign}", campaigns.get_campaign),
            web.get("/v1/campaigns/{campaign}/candidates", campaigns.get_candidates),
            web.get("/v1/campaigns/{campaign}/counts", counts.get_counts),
            web.get(
                "/v1/campaigns/{campaign}/counts/{candidate}.{kind:svg|png}",
                count_images.get_count_image,
            ),
            web.get(
                r"/v1/photos/{photo:[0-9a-f]{8,64}}{size:(?:-large)?}.{kind:webp|jpg}",
                photos.get_photo,
            ),
            web.get(r"/v1/videos/{video:[0-9a-f]{8,64}}.{kind:mp4|mov}", videos.get_video),
            web.get("/v1/receipts/{receipt}", receipts.get_receipt),
            web.get("/receipt", receipt.get_receipt_page),
            web.get("/v1/logs/key", logs.get_key),
            web.get(r"/v1/logs/{campaign}/{log:votes|rulings}/checkpoint", logs.get_checkpoint),
            web.get(
                r"/v1/logs/{campaign}/{log:votes|rulings}/tile/{level:[0-7]|entries}/{tile:.+}",
                logs.get_tile,
            ),
            web.get(
                r"/embed/{version:v1(?:\.\d{1,4})?}/{name:like(?:-\w+)?\.\w+}",
                widget.get_widget,
            ),
            web.get("/embed/v1/card/{campaign}/{candidate}", cards.get_card),
            web.post("/embed/v1/card/{campaign}/{candidate}", cards.post_card),
            web.get("/campaigns/{campaign}", campaign_site.get_campaign_page),
            web.get(
                "/campaigns/{campaign}/candidates/{candidate}",
                candidate_site.get_candidate_page,
            ),
            web.get("/campaigns/{campaign}/ranking", ranking.get_ranking),
            web.get("/campaigns/{campaign}/rules", rules.get_rules),
            web.get("/campaigns/{campaign}/privacy", privacy.get_privacy),
            web.get("/campaigns/{campaign}/theme.css", theme.get_theme),
            web.get("/campaigns/{campaign}/notice", notice.get_newest_notice),
            web.get(
                r"/campaigns/{campaign}/notice/{number:[1-9][0-9]{0,5}}",
                notice.get_notice,
            ),
            web.get("/robots.txt", robots.get_robots),
            web.get("/sitemap.xml", robots.get_sitemap),
            web.get("/sitemap-{part:[1-9][0-9]{0,3}}.xml", robots.get_sitemap),
            web.get("/static/{name}", static.get_static),
            web.get("/static/colour/{colour:[0-9a-f]{6}}.css", cards.get_colour),
            web.get("/healthz", campaigns.get_health),
            web.get("/readyz", campaigns.get_ready),
            web.get("/embed", embed.get_embed_without_slash),
            web.get("/embed/", embed.get_embed),
            web.get("/", home.get_home),
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
    settings: Settings,
    listening: socket.socket | None,
    child: Child,
    *,
    admin: tuple[str, int] = ("127.0.0.1", 0),
    worker: int = 0,
) -> None:
    """Serve until `child.stop_event`; then drain. `listening` is the supervisor's socket, None =
    open one. /metrics is on the host and port `admin`, 0 = any free. `worker`: which of this host's
    edges it is."""
    if settings.valkey_url is None or settings.postgres_dsn is None:
        raise EdgeError(
            "the edge needs a store and a database: `dianzan up` is not running on "
            f"{settings.data_dir}, and DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN are not set"
        )
    keys = Keys.load(settings.keys_path)
    mint, views, pseudonyms = Mint(keys), Views(keys), Pseudonyms(keys)
    known_devices = KnownDevices(mint, pseudonyms)
    metrics = EdgeMetrics()
    lines = StoreLines(
        settings.valkey_url.get_secret_value(),
        settings.shards,
        timeout_seconds=settings.store_timeout_ms / 1000,
        library=LIBRARY,
        on_replicas=settings.ack == "replica",
    )
    receipts = Receipts(keys)
    boxes = BallotBoxes(
        [
            BallotBox(
                lines.of(shard),
                pseudonyms,
                receipts,
                shard=shard,
                shards=settings.shards,
                # Together as many as one process may hold; a little more where that is odd.
                waiting_max=math.ceil(settings.edge_waiting_max / settings.shards),
                moving_seconds=settings.store_timeout_ms / 1000,
                late_seconds=settings.edge_queue_ms / 1000,
                challenges=settings.challenge != "off",
                observe_batch=metrics.observe_batch,
            )
            for shard in range(settings.shards)
        ]
    )
    issuing = Issuing(
        mint,
        keys,
        settings.challenge,
        settings.edge_workers,
        shard_of_new=boxes.shard_of_new,
    )
    key_watch = KeyWatch(
        settings.keys_path,
        keys,
        (mint.learn, views.learn, issuing.learn, lambda _: known_devices.forget()),
    )
    client_address = ClientAddress(settings.trusted_proxies)
    networks = NetworksFile(settings.networks_file, client_address.use)
    client_address.use(networks.table)
    catalog = LiveCatalog(settings.postgres_dsn.get_secret_value(), pseudonyms, boxes)
    edge = Edge(
        settings=settings,
        catalog=catalog,
        board=Board(catalog, boxes),
        ballot_boxes=boxes,
        mint=mint,
        issuing=issuing,
        proof_desk=ProofDesk(lines.of),
        vouching=Vouching(mint, keys, metrics.identities),
        views=views,
        fingerprints=KnownFingerprints(lines.of(0)),
        known_devices=known_devices,
        pseudonyms=pseudonyms,
        receipts=receipts,
        logs=LogDesk(settings.postgres_dsn.get_secret_value()),
        client_address=client_address,
        encoded_candidates=EncodedCandidates(views, settings.media_url),
        encoded_counts=EncodedCounts(views),
        metrics=metrics,
        loop_lag=LoopLag(),
    )
    catalog.heartbeat = Heartbeat(
        Part.EDGE,
        instance_name(worker),
        lambda: {
            "waiting": boxes.waiting,
            "connections": round(metrics.gauge("dianzan_connections")),
            "counted": metrics.counted,
            "store_connected": boxes.all_ready,
        },
    )
    failures: list[BaseException] = []

    def give_up(why: BaseException) -> None:
        failures.append(why)
        child.stop_event.set()

    async with contextlib.AsyncExitStack() as stack:
        await catalog.open()
        stack.push_async_callback(catalog.close)
        await edge.logs.open()
        stack.push_async_callback(edge.logs.close)
        # What runs beside the requests, as one table.
        for background in (
            lines.run(),
            catalog.follow(),
            edge.board.follow(),
            networks.follow(),
            edge.fingerprints.follow(),
            key_watch.follow(),
            edge.loop_lag.follow(),
            watch_stores(boxes, settings.store_memory_ceiling_percent),
        ):
            await stack.enter_async_context(_running(background, give_up))
        await _until_ready(edge, child)
        metrics.gauges |= {
            "dianzan_ballots_waiting": ("Ballots waiting or in flight.", lambda: boxes.waiting),
            "dianzan_store_late": (
                "Batches that the store is late with.",
                lambda: sum(box.late_batches for box in boxes),
            ),
            "dianzan_store_clock_offset_seconds": (
                "The store's clock less this machine's, of the shard where it is furthest off.",
                lambda: max((box.clock_offset_us for box in boxes), key=abs) / 1e6,
            ),
            "dianzan_store_memory_share": (
                "Share of its maxmemory that the fullest store uses.",
                lambda: max(box.memory_share for box in boxes),
            ),
            "dianzan_loop_lag_seconds": (
                "How late the event loop is, smoothed over some looks.",
                lambda: edge.loop_lag.seconds,
            ),
            "dianzan_store_connected": (
                "1 while every shard's store answers.",
                lambda: boxes.all_ready,
            ),
        }
        admin_url = await stack.enter_async_context(_admin_site(edge, *admin))
        await stack.enter_async_context(_public_site(edge, listening, give_up))
        # What is alive now stays for good: the collector need not walk it again. Measured: p99
        # 27 -> 16 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        log.info("edge-serves", admin=admin_url)
        child.announce({"admin": admin_url})
        await child.stop_event.wait()
        log.info("edge-drains")
    if failures:
        raise EdgeError(str(failures[0])) from failures[0]


async def _until_ready(edge: Edge, child: Child) -> None:
    """Wait for store and database, bounded: an edge without them serves, and says 503."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            # Not for a campaign: an empty database is complete.
            while not (  # noqa: ASYNC110
                (edge.ballot_boxes.all_ready and edge.catalog.read) or child.stop_event.is_set()
            ):
                await asyncio.sleep(0.02)
            await edge.board.refresh()


@contextlib.asynccontextmanager
async def _public_site(
    edge: Edge, listening: socket.socket | None, give_up: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    settings = edge.settings
    app = build_app(edge)
    runner = web.AppRunner(app)
    await runner.setup()
    server = EdgeServer(
        _dispatcher(edge, app),
        request_factory=app._make_request,
        connections_max=settings.edge_connections_max,
    )
    lane = None
    if settings.fast_lane == "on":
        lane = FastLane(edge, server.behind, connections_max=settings.edge_connections_max)
        edge.client_address.on_use = lane.known.clear
    front = lane or server
    edge.metrics.gauges |= {
        "dianzan_connections": ("Open connections.", lambda: len(front.connections)),
        "dianzan_connections_refused": (
            "Connections refused at the cap, since the start.",
            lambda: front.connections_refused,
        ),
    }
    loop = asyncio.get_running_loop()
    if listening is None:
        listener = await loop.create_server(
            front, settings.edge_host, settings.edge_port, backlog=_BACKLOG, reuse_port=True
        )
    else:
        listener = await loop.create_server(front, sock=listening, backlog=_BACKLOG)
    try:
        async with _running(_end_late(server, lane), give_up):
            yield
    finally:
        # Who waits in our backlog would be reset by closing the listener: take them in first.
        await asyncio.sleep(_LAST_ACCEPTS_SECONDS)
        listener.close()
        server.draining = True
        if lane is not None:
            await lane.drain(_DRAIN_SECONDS)
        else:
            await server.until_left(QUIET_SECONDS)
        server.pre_shutdown()
        await server.shutdown(_DRAIN_SECONDS)
        await runner.cleanup()


async def _end_late(server: EdgeServer, lane: FastLane | None) -> None:
    """Each second close the connections on which something is overdue, until cancelled."""
    while True:
        await asyncio.sleep(1)
        server.end_late()
        if lane is not None:
            lane.end_late()


@contextlib.asynccontextmanager
async def _admin_site(edge: Edge, host: str, port: int) -> AsyncIterator[str]:
    """/metrics on an address of this process's own; a supervisor gathers them."""

    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=edge.metrics.render(), headers=headers("text/plain; version=0.0.4")
        )

    app = web.Application()
    app.add_routes([web.get("/metrics", get_metrics), web.get("/healthz", campaigns.get_health)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def _dispatcher(
    edge: Edge, app: web.Application
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The usual like goes straight to its handler, which saves the router's 17 of 250 us; all else
    through the application. What aiohttp refuses by itself becomes a problem like all others."""

    async def handle(request: web.Request) -> web.StreamResponse:
        edge.metrics.by_aiohttp += 1
        message = request._message
        if (edge.loop_lag.behind or edge.ballot_boxes.crowded) and yields(
            message.method, message.path
        ):
            edge.metrics.problems["put-off"] += 1
            return errors.for_people(request, problem("overloaded"))
        if (
            message.path == "/v1/likes"
            and message.method == "POST"
            and message.version == HttpVersion11
            and not message.should_close
            and hdrs.EXPECT not in message.headers
        ):
            answer = await likes.take_like(edge, request)
            return WrittenAnswer(answer) if isinstance(answer, Answer) else answer
        try:
            return errors.for_people(request, await app._handle(request))
        except web.HTTPExpectationFailed:
            return problem("wrong-expectation")
        except web.HTTPException as refusal:
            word = "not-found" if refusal.status == 404 else "malformed"
            return errors.for_people(request, problem(word))

    return handle


@contextlib.asynccontextmanager
async def _running(
    background: Coroutine[Any, Any, None], give_up: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """A background life. Where one fails, an edge that seems to work and does not would be left:
    it is said, and the whole edge gives up, so that its supervisor starts another."""
    task = asyncio.create_task(background)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (why := task.exception()) is not None:
            if not isinstance(why, CatalogError):
                log.critical("edge-part-failed", exc_info=why)
            give_up(why)

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
