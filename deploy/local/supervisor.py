"""`dianzan up`: everything on this machine, from an empty folder to a page that can be clicked.

    embedded Valkey and Postgres (each unless an address of another is set)
      -> schema -> demo campaign (into an empty database) -> keys
      -> edge workers, flusher, watch, publisher, console -> the ready line

Stopping goes the other way: edges finish what they have taken while the console ends, the flusher
moves the rest of the journal while watch and publisher end, then the servers. A kill -9 instead
loses nothing either: what was answered is on the disk, our own processes see their lifeline end,
and the next `up` ends the servers that are left.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
from aiohttp import web

from deploy.local.admin import admin_app
from deploy.local.children import Kept, KeptProcess, KeptServer, end_orphans
from deploy.local.listeners import PortInUse, listening, url_of
from deploy.local.run_folder import RunFolder, hold_run_folder
from deploy.local.servers import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey, private_folder
from tally.migrate import migrate
from voting.campaign import Campaign
from voting.catalog import load_campaigns
from voting.keys import Keys
from voting.settings import Settings

# Seconds after the stop began at which a stage that has not ended is killed. What a stage does not
# need goes to the next; the whole stays under the 20 s that are promised.
_EDGES_END_BY = 6.5
_FLUSHER_ENDS_BY = 12.5
_VALKEY_ENDS_BY = 15.0
_POSTGRES_ENDS_BY = 18.5
_SAY_WHAT_IS_AWAITED_EVERY_SECONDS = 10.0
_CONNECT_TIMEOUT_SECONDS = 10.0


async def up(settings: Settings) -> None:
    """Run everything until SIGTERM, SIGINT or SIGHUP; then stop it in order and return.

    Raises AlreadyUp, PortInUse, EmbeddedServerError, ChildFailed and what the servers raise, each
    with one line that says what to do; everything that was started is stopped by then.
    """
    stop = asyncio.Event()
    _on_stop_signals(stop.set)
    _make_data_folder(settings)
    with hold_run_folder(settings.data_dir) as run:
        async with contextlib.AsyncExitStack() as opened:
            starting = asyncio.create_task(_start(settings, run, opened))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                _say("Stopping before everything was started ...")
                starting.cancel()
                await asyncio.wait({starting})
                return
            everything = starting.result()
            failures = [asyncio.create_task(child.until_failed()) for child in everything]
            await asyncio.wait({stopping, *failures}, return_when=asyncio.FIRST_COMPLETED)
            for failure in failures:
                if failure.done():
                    failure.result()  # a mistake of ours: the rest is stopped, and it is shown
            _say("Stopping in order (at most 20 s) ...")
        _say("Stopped.")


async def _start(
    settings: Settings, run: RunFolder, opened: contextlib.AsyncExitStack
) -> list[Kept]:
    """Start everything and say so; what it started, `opened` stops."""
    begun = time.monotonic()
    children: list[Kept] = []
    servers = await asyncio.to_thread(_embedded_servers, settings)
    # Before anything is opened: an orphaned edge still listens on our port.
    await asyncio.to_thread(end_orphans, run, list(servers.values()), _say)
    run.forget_servers()

    # Opened first, closed last but for the children, so that a port in use is known at once.
    listeners = opened.enter_context(
        listening(settings.edge_host, settings.edge_port, settings.edge_workers)
    )
    [console_listener] = opened.enter_context(
        listening(settings.console_host, settings.console_port, 1, part="console")
    )
    run.note_console(console_listener.getsockname()[1])
    admin_url = await opened.enter_async_context(_admin(settings, lambda: children))
    lifeline_fd = opened.enter_context(_lifeline())
    keys_were_there = settings.keys_path.exists()
    Keys.load_or_make(settings.keys_path)
    if not keys_were_there:
        _say(f"Made the keys of this installation: {settings.keys_path} (keep a copy)")

    opened.push_async_callback(_stop_all, children, [*listeners, console_listener])
    logs = private_folder(settings.data_dir / "logs")
    for server in servers.values():
        _say(f"Starting {server.name} ...")
        children.append(KeptServer(server, logs, run, _say))
        children[-1].start()
    await _all_ready(children)
    run.note_servers(list(servers.values()))
    run.note_shards(settings.shards)
    opened.callback(run.forget_servers)

    valkey_url = _address(servers, "valkey-server", settings.valkey_url)
    postgres_dsn = _address(servers, "postgres", settings.postgres_dsn)
    campaign = await _prepare_database(settings, postgres_dsn)

    environment = {
        **os.environ,
        "DIANZAN_DATA_DIR": str(settings.data_dir),
        "DIANZAN_VALKEY_URL": valkey_url,
        "DIANZAN_POSTGRES_DSN": postgres_dsn,
    }

    def own(name: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> KeptProcess:
        return KeptProcess(
            name,
            arguments,
            environment=environment,
            lifeline_fd=lifeline_fd,
            pass_fds=pass_fds,
            run=run,
            say=_say,
        )

    _say(
        f"Starting {len(listeners)} edge worker(s), the flusher, watch, the publisher and the "
        "console ..."
    )
    console_fd = console_listener.fileno()
    processes = [
        *(own(name, name) for name in ("flush", "watch", "publish")),
        own("console", "console", "--listen-fd", str(console_fd), pass_fds=(console_fd,)),
    ]
    for worker, listener in enumerate(listeners):
        listen_fd = listener.fileno()
        processes.append(
            own(
                f"edge-{worker}",
                *("edge", "--listen-fd", str(listen_fd), "--worker", str(worker)),
                pass_fds=(listen_fd,),
            )
        )
    children += processes
    for process in processes:
        process.start()
    await _all_ready(processes)

    _announce(
        {
            "ready": True,
            "pid": os.getpid(),
            "edge": url_of(listeners[0]),
            "console": url_of(console_listener),
            "admin": admin_url,
            "campaign": campaign,
            "valkey": valkey_url,
            "postgres": postgres_dsn,
            "data": str(settings.data_dir),
        },
        time.monotonic() - begun,
        first_account=not await _has_staff(postgres_dsn),
    )
    return children


async def _prepare_database(settings: Settings, dsn: str) -> str | None:
    """Bring the schema up to date and see to a campaign; the id of the one to show, if any."""
    for name in await migrate(dsn, shards=settings.shards):
        _say(f"Applied migration {name}")
    campaigns = await _campaigns(dsn)
    if not campaigns and settings.demo:
        # Only now: what reads sheets and pictures would stay in memory for nothing.
        from voting.intake.demo import import_demo

        _say("Importing the demo campaign ...")
        await import_demo(dsn)
        campaigns = await _campaigns(dsn)
    return "demo" if "demo" in campaigns else next(iter(campaigns), None)


async def _campaigns(dsn: str) -> dict[str, Campaign]:
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_SECONDS)
    try:
        return await load_campaigns(connection)
    finally:
        await connection.close()


async def _has_staff(dsn: str) -> bool:
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_SECONDS)
    try:
        has: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM staff)")
        return has
    finally:
        await connection.close()


async def _all_ready(children: list[Kept] | list[KeptProcess]) -> None:
    """Wait until each is ready; raises what keeps one of them from it."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(_SAY_WHAT_IS_AWAITED_EVERY_SECONDS)
            names = [child.name for child in children if child.state != "ready"]
            _say(f"Still waiting for {', '.join(names)} ...")

    telling = asyncio.create_task(tell())
    try:
        async with asyncio.TaskGroup() as waiting:
            for child in children:
                waiting.create_task(child.until_ready())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    finally:
        telling.cancel()


async def _stop_all(children: list[Kept], listeners: list[socket.socket]) -> None:
    begun = asyncio.get_running_loop().time()
    # With our copies closed, a port whose workers stop refuses, and nobody waits in its queue.
    for listener in listeners:
        listener.close()
    stages: tuple[tuple[Callable[[str], bool], float], ...] = (
        (lambda name: name.startswith("edge-") or name == "console", _EDGES_END_BY),
        (lambda name: name in ("flush", "watch", "publish"), _FLUSHER_ENDS_BY),
        (lambda name: name == "valkey-server", _VALKEY_ENDS_BY),
        (lambda name: name == "postgres", _POSTGRES_ENDS_BY),
    )
    for belongs, ends_by in stages:
        await asyncio.gather(
            *(child.stop(begun + ends_by) for child in children if belongs(child.name))
        )


def _embedded_servers(settings: Settings) -> dict[str, EmbeddedServer]:
    """In the order in which they are stopped. Blocks: as root it tries what Postgres may do."""
    servers: list[EmbeddedServer] = []
    if settings.valkey_url is None:
        servers.append(EmbeddedValkey(settings.data_dir, settings.store_memory_mb))
    if settings.postgres_dsn is None:
        servers.append(EmbeddedPostgres(settings.data_dir))
    return {server.name: server for server in servers}


def _address(servers: dict[str, EmbeddedServer], name: str, setting: Any) -> str:
    return servers[name].url if name in servers else str(setting.get_secret_value())


@contextlib.asynccontextmanager
async def _admin(settings: Settings, children: Callable[[], list[Kept]]) -> AsyncIterator[str]:
    runner = web.AppRunner(admin_app(children), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.admin_host, settings.admin_port, shutdown_timeout=1)
        try:
            await site.start()
        except OSError as why:
            raise PortInUse(
                f"the admin port {settings.admin_port} cannot be opened ({why.strerror}): "
                "set DIANZAN_ADMIN_PORT (0 = any free)"
            ) from None
        host, port, *_ = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """The end that children read; the other end is ours alone and closes with us, come what may."""
    there, ours = os.pipe()
    try:
        yield there
    finally:
        os.close(there)
        os.close(ours)


def _make_data_folder(settings: Settings) -> None:
    """Closed to others where we make it. One that is there already is left as it is (it might be
    somebody's home); everything private in it is in folders of its own that are closed."""
    if not settings.data_dir.exists():
        private_folder(settings.data_dir)


def _on_stop_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, act)
    loop.add_signal_handler(signal.SIGINT, act)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        loop.add_signal_handler(signal.SIGHUP, act)


def _announce(ready: dict[str, Any], seconds: float, *, first_account: bool) -> None:
    """The one line on stdout for programs, and a few on stderr for people."""
    nobody = (
        "                 nobody may sign in yet: dianzan staff add NAME --role admin\n"
        if first_account
        else ""
    )
    _say(
        f"\n  点赞服务已启动 · Dianzan is ready ({seconds:.1f} s)\n\n"
        f"    click here   {ready['edge']}/\n"
        f"    console      {ready['console']}/\n"
        f"{nobody}"
        f"    metrics      {ready['admin']}/metrics\n"
        f"    data folder  {ready['data']}\n"
        f"    to stop      Ctrl-C, or kill {ready['pid']}\n"
    )
    with contextlib.suppress(OSError):  # whoever started us need not listen
        print(json.dumps(ready), flush=True)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed terminal must not stop the service
        print(text, file=sys.stderr, flush=True)
