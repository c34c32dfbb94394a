"""How a peer serves: aiohttp on uvloop, on a free port of the loopback.

It prints one line of JSON when it serves, {"port": N, "pid": N}, and ends when its standard input
does, so that it cannot outlive whoever measures it. Both kindnesses that our own edge allows
itself are the peers' too: no access log, and a garbage collector told what stays.
"""

import asyncio
import gc
import json
import os
import sys

import uvloop
from aiohttp import web


def serve(app: web.Application) -> None:
    """Serve until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app))


async def _serve(app: web.Application) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096, shutdown_timeout=1).start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

        def read_input() -> None:
            if not os.read(sys.stdin.fileno(), 4_096):
                ended.set()

        loop.add_reader(sys.stdin.fileno(), read_input)
        print(json.dumps({"port": runner.addresses[0][1], "pid": os.getpid()}), flush=True)
        await ended.wait()
        loop.remove_reader(sys.stdin.fileno())
    finally:
        await runner.cleanup()
