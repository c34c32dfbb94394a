"""The like inside the web server: nginx with lua-nginx-module, and one function call to the store
for each request.

    python -m loadtest.peers.nginx_lua    (settings: see loadtest.peers.checks)

The checks, the function and what is kept are those of `redis-py`; nginx_like.lua does them. Not
crippled: LuaJIT, nginx's own OpenSSL by FFI with a context keyed beforehand, a pool of connections
to the store that fits the clients, whole requests in one buffer, constant headers from the
configuration, no access log. One worker, since the bench gives each stack one core; its master
sleeps. Like `redis-py` it seals no receipt and knows no epochs.

Known weaknesses:
- cjson lets invalid UTF-8 pass, which then fits no token, candidate or click; a body above 16 KiB
  is answered with nginx's own 413.
- The port is looked for before nginx binds it: another program may take it in between, and then
  the peer does not start.
- Killed by SIGKILL, this wrapper leaves nginx behind; by SIGTERM or its standard input's end it
  does not.
"""

import base64
import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import redis

from loadtest.crowds import ORIGIN
from loadtest.peers.checks import ABSENT, CAMPAIGN, CANDIDATES, Setup

_HERE = Path(__file__).parent
_NGINX = "/usr/sbin/nginx"
_MODULES = "/usr/lib/nginx/modules"
_NEEDED = {
    "nginx-light": _NGINX,
    "libnginx-mod-http-ndk": f"{_MODULES}/ndk_http_module.so",
    "libnginx-mod-http-lua": f"{_MODULES}/ngx_http_lua_module.so",
    "lua-nginx-redis": "/usr/share/lua/5.1/nginx/redis.lua",
    "lua-cjson": "/usr/lib/*/lua/5.1/cjson.so",
}
"""Debian's package -> a file of it."""

_READY_SECONDS_MAX = 10.0
_STOP_SECONDS_MAX = 5.0

# Every file is relative to the folder that nginx is started with; none is outside of it. A client
# takes two connections, its own and one to the store.
_CONFIG = """\
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    keepalive_requests 1000000000;
    keepalive_timeout 75s;
    client_header_buffer_size 4k;
    client_body_buffer_size 16k;
    client_max_body_size 16k;

    lua_package_path "{here}/?.lua;;";
    lua_socket_connect_timeout 5s;
    lua_socket_send_timeout 5s;
    lua_socket_read_timeout 5s;
    init_by_lua_block {{ require("nginx_like") }}

    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type "application/json; charset=utf-8";
        add_header Cache-Control no-store always;
        add_header X-Content-Type-Options nosniff always;
        add_header Access-Control-Allow-Origin {origin} always;
        add_header Vary Origin always;
        location = /v1/likes {{
            if ($request_method != POST) {{ return 405; }}
            content_by_lua_block {{ require("nginx_like").post_like() }}
        }}
        location / {{ return 404; }}
    }}
}}
"""


def main() -> None:
    absent = [package for package, file in _NEEDED.items() if not any(Path("/").glob(file[1:]))]
    if absent:
        print(f"not installed (Debian's packages): {', '.join(absent)}", file=sys.stderr)
        sys.exit(ABSENT)
    # By an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    setup = Setup.from_environment()
    with redis.Redis.from_url(setup.redis_url) as store:
        store.function_load((_HERE / "like.lua").read_text(), replace=True)
    with _running_nginx(setup) as (port, pids):
        print(json.dumps({"port": port, "pids": pids}), flush=True)
        sys.stdin.buffer.read()


@contextlib.contextmanager
def _running_nginx(setup: Setup) -> Iterator[tuple[int, list[int]]]:
    """(port, pids of its worker and master) of an nginx that answers; stopped at the end."""
    folder = Path(setup.folder)
    port = _free_port()
    (folder / "nginx.conf").write_text(
        _CONFIG.format(
            modules=_MODULES,
            # Its worker has to reach the store's socket, which is only ours.
            user="user root;" if os.geteuid() == 0 else "",
            here=_HERE,
            port=port,
            origin=ORIGIN,
        )
    )
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    log = folder / "nginx.log"
    with log.open("wb") as stderr:
        master = subprocess.Popen(
            [_NGINX, "-p", folder, "-c", "nginx.conf", "-e", "stderr"],
            # The key is in the environment, which only this user can read, and in no file.
            env={"PEER_LIKE": _settings(setup)},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            # Ctrl-C is for this wrapper, which then stops nginx.
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(master, port, log)
        workers = [worker.pid for worker in psutil.Process(master.pid).children()]
        yield port, [*workers, master.pid]
    finally:
        _stop(master)


def _settings(setup: Setup) -> str:
    """What nginx_like.lua is told."""
    return json.dumps(
        {
            "key": base64.b64encode(setup.key).decode(),
            "store": f"unix:{setup.redis_socket}",
            "campaign": CAMPAIGN,
            "candidates": CANDIDATES,
            "origin": ORIGIN,
            "limits": [str(n) for n in (setup.rules.likes_per_day, *setup.rules.limits)],
        }
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_until_it_answers(master: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS_MAX
    while True:
        # An answer, not a connection: the master listens before there is a worker.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except OSError:
            if master.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"nginx does not serve: {log.read_text()[-1_000:]}")
        else:
            return
        finally:
            connection.close()
        time.sleep(0.02)


def _stop(master: subprocess.Popen[bytes]) -> None:
    """In order; by force where that takes too long."""
    master.terminate()
    try:
        master.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(master.pid, signal.SIGKILL)
        master.wait()


if __name__ == "__main__":
    main()
