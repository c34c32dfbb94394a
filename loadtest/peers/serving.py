"""How a peer in Python serves: aiohttp on uvloop, on a free port of the loopback.

It prints its line and ends with its standard input, as loadtest.peers.checks says. Both kindnesses
that our own edge allows itself are the peers' too: no access log, and a garbage collector told
what stays.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable

import uvloop
from aiohttp import web


def serve(app: web.Application) -> None:
    """Serve until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app))


def announce(port: int, end: Callable[[], None]) -> None:
    """Say that this process serves; `end` is called once standard input has ended."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    loop = asyncio.get_running_loop()

    def read_input() -> None:
        if not os.read(sys.stdin.fileno(), 4_096):
            loop.remove_reader(sys.stdin.fileno())
            end()

    loop.add_reader(sys.stdin.fileno(), read_input)
    print(json.dumps({"port": port, "pids": [os.getpid()]}), flush=True)


async def _serve(app: web.Application) -> None:
    ended = asyncio.Event()
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096, shutdown_timeout=1).start()
        announce(runner.addresses[0][1], ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()
