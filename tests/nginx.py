"""A real nginx before an edge: exactly the files of deploy/nginx/, and the lines of its README."""

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

FOLDER = Path(__file__).parents[1] / "deploy" / "nginx"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

_FRAME = """\
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/html;
{beside}
    server {{
        listen 127.0.0.1:{port};
        root {folder}/portal;
        add_header X-Portal yes always;
        include {include};
    }}
}}
"""


@dataclass
class RunningNginx:
    """What a test needs of it."""

    url: str
    port: int
    folder: Path

    def page(self, name, text):
        """Put a page of the portal's own beside what is mounted."""
        (self.folder / "portal" / name).write_text(text)

    def age(self, seconds):
        """Let all that its cache holds be that much older: nginx looks at the file's head each
        time, where until when it is fresh stands behind the version of the format."""
        for file in (self.folder / "cache").iterdir():
            if "." in file.name:
                continue  # it is just being written
            with file.open("r+b") as kept:
                version, fresh_until = _CACHED.unpack(kept.read(_CACHED.size))
                assert version == 5, "nginx writes another format"
                kept.seek(0)
                kept.write(_CACHED.pack(version, fresh_until - seconds))


_CACHED = struct.Struct("@Nq")
"""The first fields of a file of the cache."""


def configuration(folder, include, edge_ports, port):
    """The text of a whole nginx.conf: the test's frame, the lines of the README, the file."""
    beside = re.findall(r"^```nginx\n(.*?)^```", (FOLDER / "README.md").read_text(), re.M | re.S)[0]
    for line, ours in (
        (
            "server 127.0.0.1:8080 fail_timeout=1s;",
            " ".join(f"server 127.0.0.1:{each} fail_timeout=1s;" for each in edge_ports),
        ),
        ("/var/cache/nginx/dianzan", f"{folder}/cache"),
    ):
        assert beside.count(line) == 1
        beside = beside.replace(line, ours)
    return _FRAME.format(
        user=pwd.getpwuid(os.getuid()).pw_name,
        folder=folder,
        port=port,
        beside=beside,
        include=FOLDER / include,
    )


@contextlib.asynccontextmanager
async def running_nginx(folder, edge_port, include="first-party.conf", *other_ports):
    """nginx before the edge at this port, or edges; `nginx -t` must find nothing to say."""
    assert NGINX is not None
    (folder / "portal").mkdir(parents=True)
    port = free_port()
    written = folder / "nginx.conf"
    written.write_text(configuration(folder, include, (edge_port, *other_ports), port))
    options = ("-p", folder, "-c", written, "-e", "stderr")
    tested = await asyncio.create_subprocess_exec(
        NGINX, "-t", *options, stderr=asyncio.subprocess.PIPE
    )
    _, said = await tested.communicate()
    assert tested.returncode == 0, said.decode()
    doubts = [line for line in said.decode().splitlines() if "[" in line and '"user"' not in line]
    assert doubts == []
    process = await asyncio.create_subprocess_exec(NGINX, *options)
    try:
        await _until_it_listens(process, port)
        yield RunningNginx(f"http://127.0.0.1:{port}", port, folder)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


async def _until_it_listens(process, port):
    async with asyncio.timeout(10):
        while True:
            assert process.returncode is None, "nginx ended"
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def client_at(address):
    """An HTTP client that comes from this address of the machine."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
