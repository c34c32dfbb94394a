"""A Valkey of the bench's own, set up exactly as the service sets up its own."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import redis

_READY_SECONDS_MAX = 10.0


class Store(NamedTuple):
    """A running server."""

    url: str
    pid: int
    socket: Path
    client: redis.Redis


@contextlib.contextmanager
def running_store(like: redis.Redis, folder: Path) -> Iterator[Store]:
    """The binary and the configuration of the server behind `like`, with another folder and
    socket. Stopped at the end; its files are the caller's to remove."""
    info = like.info("server")
    folder.mkdir(mode=0o700, parents=True)
    path = folder / "valkey.sock"
    config = folder / "bench-valkey.conf"
    # Of two lines of one name the last one counts.
    config.write_text(f"{Path(info['config_file']).read_text()}\ndir {folder}\nunixsocket {path}\n")
    with (folder / "valkey.log").open("wb") as log:
        process = subprocess.Popen(
            [info["executable"], str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    client = redis.Redis.from_url(f"unix://{path}")
    try:
        _until_it_answers(client)
        yield Store(f"unix://{path}", process.pid, path, client)
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _until_it_answers(client: redis.Redis) -> None:
    deadline = time.monotonic() + _READY_SECONDS_MAX
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
