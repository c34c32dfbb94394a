"""deploy/valkey/valkey.conf in a real Valkey."""

import re
import subprocess
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.servers import EmbeddedValkey
from tests.conftest import wait_until
from tests.nginx import free_port
from voting.edge import store_watch

FILE = Path(__file__).parents[2] / "deploy" / "valkey" / "valkey.conf"


@pytest.fixture
def own_valkey(tmp_path):
    """Its URL without a password; a server with the file's lines on a port and a folder of ours."""
    port = free_port()
    text = FILE.read_text()
    secrets = tmp_path / "secrets.conf"
    secrets.write_text("requirepass open-sesame\n")
    for line, ours in (
        ("include /etc/valkey/secrets.conf", f"include {secrets}"),
        ("bind * -::*", "bind 127.0.0.1"),
        ("port 6379", f"port {port}"),
        ("dir /var/lib/valkey", f"dir {tmp_path}"),
    ):
        assert len(re.findall(f"^{re.escape(line)}$", text, re.MULTILINE)) == 1
        text = text.replace(f"\n{line}\n", f"\n{ours}\n")
    written = tmp_path / "valkey.conf"
    written.write_text(text)
    program = EmbeddedValkey(tmp_path / "unused").command()[0]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, written], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), what="valkey")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _answers(port):
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        try:
            return client.ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False


def test_has_all_that_the_edge_asks_of_a_store(own_valkey):
    with redis.Redis.from_url(
        f"redis://:open-sesame@{own_valkey}", decode_responses=True
    ) as client:
        for setting, needed, _ in store_watch._NEEDED:
            assert client.config_get(setting) == {setting: needed}


def test_nobody_gets_in_without_the_password(own_valkey):
    with (
        redis.Redis.from_url(f"redis://{own_valkey}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.info()


def test_differs_from_the_embedded_one_in_nothing_that_keeps_votes(tmp_path):
    """What the embedded server is told, an own one is told too, but where it lies and listens."""
    embedded = EmbeddedValkey(tmp_path, memory_mb=4_096)
    embedded.prepare()
    lines = (tmp_path / "valkey" / "valkey.conf").read_text().splitlines()
    its_own = ("port ", "unixsocket", "dir ", "proc-title-template", "maxmemory ")
    told = {line for line in lines if line and not line.startswith(its_own)}
    assert told - set(FILE.read_text().splitlines()) == set()
