"""Real servers for the tests, out of the wheels, one of each per session."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis
import structlog
from hypothesis import settings
from structlog.testing import LogCapture

from deploy.local.servers import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey
from tally.migrate import migrate

# A rule is as true on a busy machine as on an idle one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def wait_until(condition, seconds=10.0, what="the condition"):
    """Wait for a condition with a deadline; a test never just sleeps."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.01)
    return found


async def wait_until_async(condition, seconds=10.0, what="the condition"):
    """The same for a coroutine function."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        await asyncio.sleep(0.01)
    return found


def captured_logs(monkeypatch, *modules):
    """What these modules log, as it comes."""
    capture = LogCapture()
    for module in modules:
        monkeypatch.setattr(module, "log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries


@contextlib.contextmanager
def running(server: EmbeddedServer) -> Iterator[subprocess.Popen]:
    """The server's process, ready; stopped in order at the end."""
    server.prepare()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(server.command(), stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: process.poll() is not None or server.is_ready(), what=server.name)
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(f"{server.name} ended: {log.read().decode()[-500:]}")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(server.stop_signal)
            process.wait(20)


_IN_MEMORY = Path("/dev/shm")  # noqa: S108
_IN_MEMORY_BYTES_MIN = 4 << 30


def _servers_parent() -> Path | None:
    """Memory where there is enough of it: processes are killed here, power is never cut, and the
    disk is half of what these servers cost. `dianzan up` has its data on the disk in its tests."""
    try:
        enough = shutil.disk_usage(_IN_MEMORY).free >= _IN_MEMORY_BYTES_MIN
    except OSError:
        enough = False
    return _IN_MEMORY if enough and os.access(_IN_MEMORY, os.W_OK) else None


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    # Not pytest's own folder: its path can be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="dz-", dir=_servers_parent()) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def valkey_server(servers_folder: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(servers_folder, memory_mb=512)
    with running(server):
        yield server


@pytest.fixture(scope="session")
def postgres_server(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(servers_folder)
    server.prepare()
    with (servers_folder / "postgres" / "postgresql.conf").open("a") as config:
        # Processes are killed here, power is not cut: a test's database need not reach the disk.
        config.write("fsync = off\n")
    with running(server):
        yield server


@pytest.fixture
async def valkey(valkey_server: EmbeddedValkey) -> AsyncIterator[redis.Redis]:
    """An empty Valkey (functions gone too), by redis-py, bytes in and out."""
    client = redis.Redis.from_url(valkey_server.url)
    await client.flushall()
    await client.function_flush()
    yield client
    await client.aclose()


@pytest.fixture
def valkey_url(valkey: redis.Redis, valkey_server: EmbeddedValkey) -> str:
    """URL of the same empty Valkey."""
    return valkey_server.url


@pytest.fixture(scope="session")
async def _migrated_template(postgres_server: EmbeddedPostgres) -> str:
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute("CREATE DATABASE migrated")
    await admin.close()
    await migrate(postgres_server.url.replace("@/dianzan", "@/migrated"))
    return "migrated"


@pytest.fixture
async def postgres_dsn(
    postgres_server: EmbeddedPostgres, _migrated_template: str
) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute(f"CREATE DATABASE test TEMPLATE {_migrated_template}")
    yield postgres_server.url.replace("@/dianzan", "@/test")
    await admin.execute("DROP DATABASE test WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def postgres(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


class OneShard:
    """A hot state (voting/hot_state.py) of shard 0 alone, behind a client that is there."""

    shards = range(1)

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def of(self, shard: int) -> redis.Redis:
        assert shard == 0
        return self._client
