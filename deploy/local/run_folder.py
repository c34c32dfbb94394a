"""`<data>/run`: who runs on this data folder. A lock, and notes for whoever comes after.

    up.lock          held (flock) by the one `dianzan up` of this folder; holds its pid
    processes.json   name -> pid, create_time and stop signal of each child
    servers.json     addresses of the embedded servers, for other commands
    shards.json      how many shards those servers have
    console.json     the port of the console, for links to it

The lock is the truth, and the kernel drops it with its holder. The notes outlive a kill -9: from
them the next `up` knows the orphans, each told from a later owner of its pid by its create_time.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.local.servers import EmbeddedServer, answers, private_folder

_LOCK = "up.lock"
_PROCESSES = "processes.json"
_SERVERS = "servers.json"
_SHARDS = "shards.json"
_CONSOLE = "console.json"


class AlreadyUp(Exception):
    """Another `dianzan up` holds this data folder; the message says which."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process that outlived the `up` that started it."""

    name: str
    process: psutil.Process
    stop_signal: int


def runs(process: psutil.Process) -> bool:
    """Whether it is more than an entry that nobody has reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class RunFolder:
    """The run folder of the one who holds its lock; see `hold_run_folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes: dict[str, dict[str, Any]] = {}

    def note(self, name: str, pid: int, stop_signal: int) -> None:
        """Remember a child that was just started. A crash before this leaves a Python child, which
        ends by its lifeline, or an embedded server, which `EmbeddedServer.running` finds."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._notes[name] = {
                "pid": pid,
                "create_time": psutil.Process(pid).create_time(),
                "stop_signal": int(stop_signal),
            }
            self._write(_PROCESSES, self._notes)

    def forget(self, name: str) -> None:
        if self._notes.pop(name, None) is not None:
            self._write(_PROCESSES, self._notes)

    def note_servers(self, servers: Sequence[EmbeddedServer]) -> None:
        """Let other commands find the servers."""
        self._write(
            _SERVERS,
            {
                server.name: {"url": server.url, "socket": str(server.socket_path)}
                for server in servers
            },
        )

    def forget_servers(self) -> None:
        (self._folder / _SERVERS).unlink(missing_ok=True)

    def note_shards(self, shards: int) -> None:
        """Let other commands know how many they have."""
        self._write(_SHARDS, {"shards": shards})

    def note_console(self, port: int) -> None:
        """Let other commands make links to it."""
        self._write(_CONSOLE, {"port": port})

    def orphans(self) -> list[Orphan]:
        """Those of the last run's children that still live."""
        found = []
        for name, held in _read(self._folder / _PROCESSES).items():
            with contextlib.suppress(psutil.NoSuchProcess, KeyError, TypeError):
                process = psutil.Process(held["pid"])
                if process.create_time() == held["create_time"] and runs(process):
                    found.append(Orphan(name, process, held["stop_signal"]))
        return found

    def _write(self, name: str, content: dict[str, Any]) -> None:
        # A full disk costs the note, not the service.
        with contextlib.suppress(OSError):
            aside = self._folder / f".{name}"
            aside.write_text(json.dumps(content, indent=1) + "\n")
            aside.replace(self._folder / name)


@contextlib.contextmanager
def hold_run_folder(data_dir: Path) -> Iterator[RunFolder]:
    """The run folder of data_dir, ours alone inside; raises AlreadyUp."""
    folder = private_folder(data_dir / "run")
    with (folder / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise AlreadyUp(
                f"`dianzan up` runs already on {data_dir}, pid {pid}: "
                "stop it first, or set another DIANZAN_DATA_DIR"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        # The file stays: to remove it would let two hold a lock on two files of its name.
        yield RunFolder(folder)


def addresses_of_running_servers(data_dir: Path, patience_seconds: float = 10) -> dict[str, str]:
    """Server name ("valkey-server", "postgres") -> URL of each embedded one that answers.

    One that does not is waited for as long as an `up` is there to start it again.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        noted = _read(data_dir / "run" / _SERVERS)
        found = {
            name: held["url"] for name, held in noted.items() if answers(name, Path(held["socket"]))
        }
        if len(found) == len(noted) or time.monotonic() > deadline or not _is_up(data_dir):
            return found
        time.sleep(0.05)


def shards_of_running_servers(data_dir: Path) -> int | None:
    """How many shards the servers of this folder have; None where no `up` has said it."""
    shards = _read(data_dir / "run" / _SHARDS).get("shards")
    return shards if isinstance(shards, int) else None


def port_of_running_console(data_dir: Path) -> int | None:
    """Where the console of the `up` on this folder listens; None where none runs."""
    port = _read(data_dir / "run" / _CONSOLE).get("port")
    return port if isinstance(port, int) and _is_up(data_dir) else None


def _is_up(data_dir: Path) -> bool:
    # By its pid: to try the lock would be to hold it, and to refuse an `up` that starts just then.
    try:
        return runs(psutil.Process(int((data_dir / "run" / _LOCK).read_text())))
    except (OSError, ValueError, psutil.NoSuchProcess):
        return False


def _read(path: Path) -> dict[str, Any]:
    """What is noted; nothing where nothing is, or where a full disk tore it."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
