"""A whole edge in the test's own process, on real Valkey and Postgres."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from dataclasses import dataclass

import aiohttp
import pytest

from deploy.local.servers import EmbeddedValkey
from tests.campaigns import add_campaign
from tests.conftest import running, wait_until_async
from tests.decided import Poll
from tests.topologies import running_cluster, running_pair
from voting.edge import app as edge_app
from voting.keys import Keys
from voting.process import Child
from voting.settings import load_settings


class ReadyChild(Child):
    """A Child that remembers that it was announced."""

    def __init__(self):
        super().__init__()
        self.announced = asyncio.Event()
        self.facts = {}

    def announce(self, facts=None):
        self.facts = facts or {}
        self.announced.set()


@dataclass
class RunningEdge:
    """What a test needs of an edge."""

    url: str
    port: int
    http: aiohttp.ClientSession
    parts: object
    child: ReadyChild

    async def token(self, campaign="spring"):
        answer = await self.http.post(f"{self.url}/v1/devices", json={"campaign": campaign})
        assert answer.status == 201, await answer.text()
        return (await answer.json())["token"]

    async def like(self, token, candidate="c001", click=None, campaign="spring", **options):
        """(status, body) of one like; a new click id unless one is given."""
        body = {
            "token": token,
            "campaign": campaign,
            "candidate": candidate,
            "click": click or f"click-{next(_clicks):08}",
        }
        async with self.http.post(f"{self.url}/v1/likes", json=body, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def wait_for_campaign(self, campaign_id):
        async def known():
            return campaign_id in self.parts.catalog.campaigns

        await wait_until_async(known, what=f"campaign {campaign_id} on the edge")

    async def wait_for_counts(self, campaign_id, wanted):
        async def shown():
            url = f"{self.url}/v1/campaigns/{campaign_id}/counts"
            async with self.http.get(url) as answer:
                body = await answer.json(content_type=None)
            counts = body.get("counts") or {}
            return all(counts.get(key) == n for key, n in wanted.items())

        await wait_until_async(shown, what=f"counts {wanted}")


_clicks = itertools.count()


@contextlib.asynccontextmanager
async def running_edge(tmp_path, valkey_url, postgres_dsn, **overrides):
    settings = load_settings(
        data_dir=tmp_path, valkey_url=valkey_url, postgres_dsn=postgres_dsn, **overrides
    )
    Keys.load_or_make(settings.keys_path)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    listening.setblocking(False)
    port = listening.getsockname()[1]
    child = ReadyChild()
    made = []
    build_app = edge_app.build_app

    def remember(parts):
        made.append(parts)
        return build_app(parts)

    edge_app.build_app = remember
    task = asyncio.create_task(edge_app.run_edge(settings, listening, child))
    try:
        announced = asyncio.create_task(child.announced.wait())
        await asyncio.wait((task, announced), return_when=asyncio.FIRST_COMPLETED, timeout=15)
        if task.done():
            task.result()
        async with aiohttp.ClientSession() as http:
            yield RunningEdge(f"http://127.0.0.1:{port}", port, http, made[0], child)
    finally:
        edge_app.build_app = build_app
        child.stop_event.set()
        announced.cancel()
        await asyncio.wait_for(task, 15)


@pytest.fixture
async def edge(tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge with the campaign "spring": five candidates, three of them a day."""
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as running:
        yield running


class Finished:
    """How a command ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out.decode(), err.decode()


@pytest.fixture
def environment(tmp_path, valkey_url, postgres_dsn):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIANZAN_")}
    return {
        **kept,
        "DIANZAN_DATA_DIR": str(tmp_path),
        "DIANZAN_VALKEY_URL": valkey_url,
        "DIANZAN_POSTGRES_DSN": postgres_dsn,
        "DIANZAN_FLUSH_EVERY_MS": "20",
        "DIANZAN_ADMIN_PORT": "0",
    }


@pytest.fixture
def start(environment):
    """Starts `dianzan` with these arguments."""

    async def start(*arguments, pass_fds=(), without=(), stdin=None):
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.cli", *arguments,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, pass_fds=pass_fds,
            env={name: value for name, value in environment.items() if name not in without},
        )  # fmt: skip

    return start


@pytest.fixture
def dianzan(start):
    """Runs `dianzan` to its end."""

    async def run(*arguments, **options):
        process = await start(*arguments, **options)
        out, err = await asyncio.wait_for(process.communicate(), 20)
        return Finished(process.returncode, out, err)

    return run


@pytest.fixture
async def poll(postgres, valkey):
    """A campaign with four candidates, to be voted in."""
    await add_campaign(postgres, "spring", candidates=4)
    return Poll(postgres, valkey)


@pytest.fixture
async def cluster(tmp_path_factory):
    """Primaries of shard 0, 1 and 2, then their replicas in the same order."""
    async with running_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
async def pair(tmp_path_factory):
    """A primary and its replica."""
    async with running_pair(tmp_path_factory.mktemp("pair")) as nodes:
        yield nodes


@pytest.fixture
async def own_store(tmp_path):
    """A store of the test's own, which may be stopped and killed, and its process."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    server = EmbeddedValkey(folder, memory_mb=64)
    with running(server) as process:
        try:
            yield server, process
        finally:
            process.send_signal(signal.SIGCONT)
