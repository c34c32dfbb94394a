"""Edges end and begin again, and nobody's request fails."""

import asyncio
import collections
import contextlib
import random
import re
import signal
import sys

import aiohttp
import pytest
import redis.asyncio as redis

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.nginx import free_port, needs_nginx, running_nginx
from tests.wire import get, like, minted, wired
from voting.edge import app, protocol
from voting.keys import Keys

PATIENCE_SECONDS = 60
PEOPLE = 12
CARD = "/embed/v1/card/spring/c001"


class EdgeProcess:
    """`dianzan edge` at a port of its own, as on a host of its own."""

    def __init__(self, environment):
        self.port, self.admin_port = free_port(), free_port()
        self._environment = {
            **environment,
            "DIANZAN_EDGE_PORT": str(self.port),
            "DIANZAN_TRUSTED_PROXIES": "127.0.0.1",
            "DIANZAN_CHALLENGE": "off",
            "DIANZAN_ADMIN_PORT": str(self.admin_port),
        }
        self._process = None

    async def start(self, http):
        """Until it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy.cli", "edge"),
            env=self._environment,
            stderr=asyncio.subprocess.DEVNULL,
        )

        async def ready():
            assert self._process.returncode is None, "the edge ended"
            with contextlib.suppress(OSError):
                async with http.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                    return answer.status == 200

        await wait_until_async(ready, PATIENCE_SECONDS, what="a ready edge")

    async def gets_likes(self, http):
        """Until nginx asks it again."""

        async def counted():
            async with http.get(f"http://127.0.0.1:{self.admin_port}/metrics") as answer:
                return re.search(r'ballots_total\{outcome="counted"\} [1-9]', await answer.text())

        await wait_until_async(counted, PATIENCE_SECONDS, what="a like at the edge")

    async def stop(self):
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(self._process.wait(), PATIENCE_SECONDS) == 0


@contextlib.asynccontextmanager
async def running_edges(environment, http, count=2):
    edges = [EdgeProcess(environment) for _ in range(count)]
    try:
        for edge in edges:
            await edge.start(http)
        yield edges
    finally:
        for edge in edges:
            await edge.stop()


class Crowd:
    """People behind one nginx, each of whom does one thing after the other until told to end."""

    def __init__(self, url):
        self._url = url
        self.ended = False
        self.answers = collections.Counter()
        """By what was asked and the status."""
        self.failures = []

    async def person(self, http, number):
        random_ = random.Random(number)
        likes = 0
        while not self.ended:
            address = f"10.{random_.randrange(256)}.{random_.randrange(256)}.{number + 1}"
            headers = {"X-Forwarded-For": address}
            device = await self._ask(
                http, "POST", "/v1/devices", 201, headers, json={"campaign": "spring"}
            )
            if device is not None:
                likes += 1
                like = {
                    "token": device["token"],
                    "campaign": "spring",
                    "candidate": "c001",
                    "click": f"click-{number:04}-{likes:06}",
                }
                await self._ask(http, "POST", "/v1/likes", 201, headers, json=like)
            await self._ask(http, "GET", "/healthz", 200, headers)
            await self._ask(http, "POST", CARD, 303, headers, data={})
            await asyncio.sleep(random_.random() * 0.05)  # else all connections are always at work

    async def _ask(self, http, method, path, wanted, headers, **body):
        try:
            async with http.request(
                method, self._url + path, headers=headers, allow_redirects=False, **body
            ) as answer:
                status, text = answer.status, await answer.read()
                self.answers[method, path, status] += 1
                if status != wanted:
                    self.failures.append((method, path, status, text[:200]))
                elif answer.content_type == "application/json":
                    return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as why:
            self.failures.append((method, path, why))


@pytest.mark.slow
@needs_nginx
async def test_edges_are_restarted_one_by_one_and_no_request_fails(
    tmp_path, environment, postgres, valkey_url
):
    await add_campaign(postgres, "spring", limits={"per_network": "900000/second"})
    Keys.load_or_make(tmp_path / "secrets" / "keys.json")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        running_edges(environment, http) as edges,
        running_nginx(tmp_path / "n", edges[0].port, "cdn.conf", edges[1].port) as nginx,
    ):
        crowd = Crowd(nginx.url)
        people = [asyncio.create_task(crowd.person(http, n)) for n in range(PEOPLE)]
        for edge in edges:
            await edge.stop()
            await edge.start(http)
            await edge.gets_likes(http)
        crowd.ended = True
        await asyncio.gather(*people)
    assert crowd.failures == []
    liked = crowd.answers["POST", "/v1/likes", 201] + crowd.answers["POST", CARD, 303]
    hot = redis.Redis.from_url(valkey_url)
    sums = await hot.hgetall("{s0}:tally:spring")
    await hot.aclose()
    assert sum(map(int, sums.values())) == liked


@pytest.mark.parametrize("lane", ["on", "off"])
async def test_an_edge_that_ends_answers_who_asks_on_a_connection_that_was_idle(
    tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch, lane
):
    """And says that it is the last answer: a proxy then sends nothing more on this connection."""
    for module, name in (
        (protocol, "QUIET_SECONDS"),
        (app, "QUIET_SECONDS"),
        (app, "_DRAIN_SECONDS"),
    ):
        monkeypatch.setattr(module, name, PATIENCE_SECONDS)
    await add_campaign(postgres, "spring")
    asked = (
        lambda edge: like(minted(edge), "c002", "click-00001"),
        lambda _: get(b"/v1/campaigns/spring/counts"),
        lambda _: get(b"/v1/campaigns/spring"),
    )
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane=lane) as edge,
        contextlib.AsyncExitStack() as stack,
    ):
        await edge.wait_for_counts("spring", {})
        wires = []
        for _ in asked:
            wires.append(wire := await stack.enter_async_context(wired(edge)))
            first = await wire.ask(get(b"/healthz"), wait=PATIENCE_SECONDS)
            assert (first.status, "connection" in first.headers) == (200, False)
        edge.child.stop_event.set()

        async def takes_nobody_new():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            except OSError:
                return True
            writer.close()
            return False

        await wait_until_async(takes_nobody_new, PATIENCE_SECONDS, what="a closed listener")
        for wire, request in zip(wires, asked, strict=True):
            answer = await wire.ask(request(edge), wait=PATIENCE_SECONDS)
            assert (answer.status, answer.headers["connection"]) in ((200, "close"), (201, "close"))
            assert await wire.rest(PATIENCE_SECONDS) == b""
