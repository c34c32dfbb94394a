"""deploy/compose.yaml and the nginx.conf that it mounts agree, with each other and the code."""

import asyncio
import contextlib
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from deploy.cli import COMMANDS
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.deploy.test_grafana import OF_UP_ALONE, exposed, shown_in_dashboards
from tests.deploy.test_tls import write_certificate
from tests.nginx import NGINX, needs_nginx
from voting.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "dianzan" in service["image"]}
NGINX_CONF = (FOLDER / "nginx" / "compose.conf").read_text()
TOOL = shutil.which("docker-compose", path=Path(sys.executable).parent)
ASKED = {"PUBLIC_ORIGIN": "https://likes.example.cn", "CONSOLE_ORIGIN": "https://c.example.cn:8444"}
HOST = str(ipaddress.IPv4Address("127.96.0.0") + os.getpid())
"""An address of this process's own: a port that is free there stays so."""


@pytest.mark.skipif(TOOL is None, reason="docker-compose is not installed")
def test_compose_finds_nothing_wrong_and_asks_for_the_two_addresses():
    def config(**told):
        return subprocess.run(
            (TOOL, "-f", FOLDER / "compose.yaml", "config", "-q"),
            env={"PATH": os.environ["PATH"], **told},
            check=False,
            capture_output=True,
            text=True,
        )

    well = config(**ASKED)
    assert (well.returncode, well.stdout, well.stderr) == (0, "", "")
    for name in ASKED:
        without = config(**{other: value for other, value in ASKED.items() if other != name})
        assert without.returncode != 0
        assert name in without.stderr


def test_every_command_is_one_of_ours_and_every_setting_is_there():
    assert OURS
    for name, service in OURS.items():
        assert service["command"][0] in COMMANDS, name
        for setting in service["environment"]:
            assert setting.removeprefix("DIANZAN_").lower() in Settings.model_fields, setting
        for secret in service["secrets"]:
            assert secret.removeprefix("dianzan_") in Settings.model_fields, secret


def test_every_process_that_up_runs_is_a_service():
    commands = {service["command"][0] for service in OURS.values()}
    assert {"edge", "flush", "watch", "publish", "console", "migrate"} <= commands


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_nobody_and_writes_only_its_volumes(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Our image says its own; others begin as root where nothing is said.
    assert name in OURS or service["user"] not in ("root", "0")
    assert any(str(each).startswith("/tmp") for each in service["tmpfs"])  # noqa: S108
    for mount in service.get("volumes", ()):
        assert mount.split(":")[0].startswith("./") == mount.endswith(".conf:ro"), mount


def test_what_is_mounted_is_there_and_no_secret_is():
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (FOLDER / source).is_file(), source
            else:
                assert source in COMPOSE["volumes"]
        for secret in service.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "/deploy/secrets/" in ignored


def test_every_volume_of_ours_lies_where_the_image_has_a_folder_of_its_user():
    """A new volume is root's where it lies on nothing."""
    made = re.search(
        r"install -d -o 10001 -g 10001 -m 700 (.+)$",
        (FOLDER / "Dockerfile").read_text().replace("\\\n", ""),
        re.MULTILINE,
    )[1].split()
    mounted = {
        mount.split(":")[1] for service in OURS.values() for mount in service.get("volumes", ())
    }
    assert mounted - set(made) == set()


def test_only_the_publisher_has_its_folder_and_edges_cannot_change_a_key():
    owners = {
        name: [owner for owner, service in OURS.items() if f"{name}:" in str(service)]
        for name in ("publish-data", "edge-keys")
    }
    assert owners["publish-data"] == ["publish"]
    for owner in owners["edge-keys"]:
        [mount] = [each for each in OURS[owner]["volumes"] if each.startswith("edge-keys:")]
        assert mount.endswith(":ro") == (owner != "keys")


def test_nginx_knows_every_edge_and_is_believed_by_all_who_stand_behind_it():
    edges = [service for service in OURS.values() if service["command"][0] == "edge"]
    port = Settings.model_fields["edge_port"].default
    upstream = re.search(r"upstream dianzan_edge \{(.*?)\}", NGINX_CONF, re.DOTALL)[1]
    assert re.findall(r"server (\S+) fail_timeout=1s;", upstream) == [
        f"{edge['networks']['inside']['ipv4_address']}:{port}" for edge in edges
    ]
    nginx = SERVICES["nginx"]["networks"]["inside"]["ipv4_address"]
    for service in (*edges, OURS["console"]):
        assert service["environment"]["DIANZAN_TRUSTED_PROXIES"] == f"{nginx}/32"
    for edge in edges:
        assert edge["environment"]["DIANZAN_EDGE_WORKERS"] == str(len(edges))
    console = OURS["console"]["networks"]["inside"]["ipv4_address"]
    console_port = Settings.model_fields["console_port"].default
    assert f"proxy_pass http://{console}:{console_port};" in NGINX_CONF


def test_what_is_published_is_listened_to():
    listened = set(re.findall(r"listen (\d+)", NGINX_CONF))
    assert {port.rsplit(":", 1)[1] for port in SERVICES["nginx"]["ports"]} == listened
    for name, service in SERVICES.items():
        assert ("ports" in service) == (name == "nginx")


def test_prometheus_asks_every_process_that_stays_and_calls_it_as_up_does():
    told = yaml.safe_load((FOLDER / "prometheus" / "containers.yml").read_text())
    [job] = told["scrape_configs"]
    port = Settings.model_fields["admin_port"].default
    asked = {
        target: each["labels"]["process"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    staying = OURS.keys() - {"migrate", "keys"}
    assert asked == {f"{name}:{port}": name for name in staying}
    for service in OURS.values():
        assert service["environment"]["DIANZAN_ADMIN_HOST"] == "0.0.0.0"  # noqa: S104
        assert "DIANZAN_ADMIN_PORT" not in service["environment"]


def test_a_store_finds_the_folder_that_its_file_names_and_keeps_its_votes_on_a_volume():
    [folder] = re.findall(r"^dir (\S+)$", (FOLDER / "valkey" / "valkey.conf").read_text(), re.M)
    for name in ("valkey", "valkey-replica"):
        service = SERVICES[name]
        assert folder in service["tmpfs"]
        kept = service["command"][service["command"].index("--dir") + 1]
        assert f"{name}-data:{kept}" in service["volumes"]


@needs_nginx
def test_nginx_finds_nothing_wrong_in_its_file(tmp_path):
    for name in ("cdn.conf", "tls.conf"):
        text = (FOLDER / "nginx" / name).read_text()
        (tmp_path / name).write_text(text.replace("/etc/nginx/dianzan", str(tmp_path)))
    (tmp_path / "tls").mkdir()
    write_certificate(tmp_path / "tls")
    text = NGINX_CONF
    for line, ours in (
        ("/tmp/", f"{tmp_path}/"),  # noqa: S108  # first: ours may lie in it
        ("/etc/nginx/dianzan", str(tmp_path)),
        ("/var/cache/nginx/dianzan", f"{tmp_path}/cache"),
    ):
        assert line in text
        text = text.replace(line, ours)
    written = tmp_path / "nginx.conf"
    written.write_text(text)
    tested = subprocess.run(
        (NGINX, "-t", "-q", "-p", tmp_path, "-c", written, "-e", "stderr"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (tested.returncode, tested.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_every_service_of_ours_serves_with_these_settings_and_ends_in_time(
    tmp_path, valkey_url, postgres, postgres_dsn
):
    """The commands as they stand there: keys, then all that stay; their secrets as files."""
    await add_campaign(postgres, "spring")  # without one no edge is ready
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "dianzan_valkey_url").write_text(valkey_url)
    (secrets / "dianzan_postgres_dsn").write_text(postgres_dsn)
    with contextlib.ExitStack() as held:
        free = [held.enter_context(socket.socket()) for _ in range(2 * len(OURS))]
        for each in free:
            each.bind((HOST, 0))
        ports = [each.getsockname()[1] for each in free]

    async def started(name):
        environment = {
            "PATH": os.environ["PATH"],
            **OURS[name]["environment"],
            "DIANZAN_DATA_DIR": str(tmp_path / "data"),
            "DIANZAN_SECRETS_DIR": str(secrets),
            "DIANZAN_ADMIN_HOST": HOST,
            "DIANZAN_ADMIN_PORT": str(ports.pop()),
            "DIANZAN_EDGE_HOST": HOST,
            "DIANZAN_EDGE_PORT": str(ports.pop()),
            "DIANZAN_CONSOLE_PORT": "0",
            "DIANZAN_PUBLIC_ORIGINS": ASKED["PUBLIC_ORIGIN"],
            "DIANZAN_CONSOLE_ORIGIN": ASKED["CONSOLE_ORIGIN"],
            "DIANZAN_SHARDS": "1",
            "DIANZAN_ACK": "local",
        }
        environment.pop("DIANZAN_CONSOLE_KEY_FILE", None)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.cli", *OURS[name]["command"],
            env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return process, environment

    for name in ("migrate", "keys"):
        process, _ = await started(name)
        assert await asyncio.wait_for(process.wait(), 60) == 0, name

    running = {}
    try:
        for name in OURS:
            if name not in ("migrate", "keys"):
                running[name] = await started(name)
        told = ""
        async with aiohttp.ClientSession() as http:
            for name, (process, environment) in running.items():

                async def served(environment=environment):
                    port = environment["DIANZAN_ADMIN_PORT"]
                    try:
                        answer = await http.get(f"http://{HOST}:{port}/metrics")
                    except aiohttp.ClientConnectionError:
                        return None
                    return await answer.text() if answer.status == 200 else None

                text = await wait_until_async(served, 60, f"/metrics of {name}")
                assert "process_resident_memory_bytes" in exposed(text), name
                told += text
                assert process.returncode is None
                if OURS[name]["command"][0] == "edge":
                    await _healthy_by_its_own_check(OURS[name], environment)
        assert shown_in_dashboards() - exposed(told) - OF_UP_ALONE == set()
        for process, _ in running.values():
            process.send_signal(signal.SIGTERM)
        for name, (process, _) in running.items():
            assert await asyncio.wait_for(process.wait(), 60) == 0, name
    finally:
        for process, _ in running.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _healthy_by_its_own_check(service, environment):
    kind, program, flag, code = service["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    for what, ours in (("127.0.0.1", HOST), ("8080", environment["DIANZAN_EDGE_PORT"])):
        assert code.count(what) == 1
        code = code.replace(what, ours)

    async def well():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    await wait_until_async(well, 60, "the edge is healthy")
