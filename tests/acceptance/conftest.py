"""The real service in a temporary folder: `dianzan up` with free ports, and its commands."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from deploy.local.run_folder import runs
from tests.conftest import wait_until

PROGRAM = Path(sys.executable).with_name("dianzan")
_DIES_WITH_THE_TESTS = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
"""A test run that is killed cannot clean up; its service stops all the same."""
_STARTER = ThreadPoolExecutor(1)
"""Starts every service: the signal comes when the thread that started it ends, and a test may be
in a thread of its own."""
READY_WITHIN_SECONDS = 60
"""Not the promise (5 s, measured by hand): what a busy machine may need."""


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every living process that works on the data folder, whoever its parent is now."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if not runs(process):
                continue
            if str(data_dir) in " ".join(process.cmdline()) or (
                process.environ().get("DIANZAN_DATA_DIR") == str(data_dir)
            ):
                for each in (process, *process.children(recursive=True)):
                    found[each.pid] = each
    found.pop(os.getpid(), None)
    return list(found.values())


class Service:
    """One data folder, and the `dianzan up` on it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, object] = {}
        """The ready line of the `up` that runs."""
        self.said = ""
        """What all `up`s so far have written to stderr."""
        self.printed = ""
        """What the `up` that runs has written to stdout."""
        self._gathering: list[threading.Thread] = []
        self.settings = {
            "DIANZAN_DATA_DIR": str(self.data_dir),
            "DIANZAN_EDGE_PORT": "0",
            "DIANZAN_ADMIN_PORT": "0",
            "DIANZAN_CONSOLE_PORT": "0",
            "DIANZAN_EDGE_WORKERS": "1",
            "DIANZAN_STORE_MEMORY_MB": "512",
            **settings,
        }

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if "DIANZAN_" not in name}
        return clean | self.settings

    def dianzan(self, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, on the same data folder."""
        return subprocess.run(
            [PROGRAM, *map(str, arguments)],
            env=self.environment | settings,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, **settings: str) -> None:
        """Begin a `dianzan up`; `until_ready` waits for it."""
        self.ready, self.printed = {}, ""
        self.process = process = _STARTER.submit(
            subprocess.Popen,
            [*_DIES_WITH_THE_TESTS, PROGRAM, "up"],
            env=self.environment | settings,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ).result()

        def gather_stdout() -> None:
            with process.stdout as lines:
                for line in lines:
                    self.printed += line

        def gather_stderr() -> None:
            with process.stderr as lines:
                for line in lines:
                    self.said += line

        self._gathering = [
            threading.Thread(target=gather, daemon=True)
            for gather in (gather_stdout, gather_stderr)
        ]
        for thread in self._gathering:
            thread.start()

    def until_ready(self) -> dict[str, object]:
        assert self.process is not None
        wait_until(
            lambda: "\n" in self.printed or self.process.poll() is not None,
            READY_WITHIN_SECONDS,
            "the ready line",
        )
        assert self.printed, f"it ended; it said: {self.said}"
        self.ready = json.loads(self.printed)
        return self.ready

    def up(self, **settings: str) -> dict[str, object]:
        self.start(**settings)
        return self.until_ready()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it in order; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(30)
        for thread in self._gathering:
            thread.join(10)
        return code

    def pids(self) -> dict[str, int]:
        """Name -> pid of each child that `up` has noted."""
        noted = json.loads((self.data_dir / "run" / "processes.json").read_text())
        return {name: held["pid"] for name, held in noted.items()}

    def end(self) -> None:
        """End whatever is left, in order if that is possible."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(25)
        kill_all(processes_of(self.data_dir))
        if self.process is not None:
            self.wait()


def kill_all(processes: list[psutil.Process]) -> None:
    """kill -9, all at once, and wait until none of them runs."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not any(map(runs, processes)), what="the end of what was killed")


@contextlib.contextmanager
def a_service(**settings: str) -> Iterator[Service]:
    """A new data folder; nothing runs on it yet. Everything on it is ended at the end."""
    # Not pytest's own folder: its path can be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        service = Service(Path(folder).resolve(), **settings)
        try:
            yield service
        finally:
            service.end()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service with the demo campaign, up for all tests: `service.ready` is the ready line,
    `service.dianzan(*arguments)` runs a command. Leave it running."""
    with a_service() as service:
        service.up()
        yield service
