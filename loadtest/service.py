"""The service as its operators know it: processes, commands, and the line that says it is ready."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import redis

from loadtest.crowds import ORIGIN
from loadtest.processes import family, pin

CAMPAIGN = "bench"
CANDIDATES = 744
CANDIDATE_IDS = [f"c{number:03}" for number in range(1, CANDIDATES + 1)]

_READY_SECONDS_MAX = 60
_STOP_SECONDS_MAX = 25
_COMMAND_SECONDS_MAX = 120


class ServiceError(Exception):
    """The service did not do what its contract says; the message holds what it said."""


class Service:
    """One `dianzan up` over a data folder of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        fast_lane: bool = True,
        workers: int = 1,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`settings`: further ones, DIANZAN_... -> value; the rest as the service has it by
        itself."""
        self.folder = folder
        self._fast_lane = fast_lane
        self._workers = workers
        self._settings = settings
        self._log = folder / "up.log"
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        """Its ready line."""
        self.ready_seconds = 0.0
        """From its start to its ready line."""

    @property
    def port(self) -> int:
        return int(self.ready["edge"].rpartition(":")[2])

    def start(self) -> None:
        """Run until the ready line; ServiceError."""
        begun = time.monotonic()
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [_program(), "up"],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._process = process
        assert process.stdout is not None
        with _alarm(_READY_SECONDS_MAX):
            line = process.stdout.readline()
        if not line:
            raise ServiceError(f"`dianzan up` ended: {self._log.read_text()[-500:]}")
        self.ready_seconds = time.monotonic() - begun
        self.ready = json.loads(line)

    def stop(self) -> None:
        """In order; what does not end in time is killed, its children too."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            members = family(process.pid)
            process.terminate()
            _, left = psutil.wait_procs(members, _STOP_SECONDS_MAX)
            for each in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait(5)
        if process.stdout is not None:
            process.stdout.close()

    def dianzan(self, *arguments: object) -> str:
        """One command on the same data folder, to its end; what it printed. ServiceError."""
        done = subprocess.run(
            [_program(), *map(str, arguments)],
            env=self._environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS_MAX,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(
                f"`dianzan {arguments[0]}` failed: {(done.stdout + done.stderr)[-500:]}"
            )
        return done.stdout

    def import_campaign(self) -> None:
        """The campaign of the load runs, open, with CANDIDATES; returns when the edge serves it."""
        write_campaign(self.folder / "campaign")
        self.dianzan("campaign", "import", self.folder / "campaign")
        time.sleep(2.2)  # the promise: every worker serves it within 2 s

    def mint(self, devices: int) -> Path:
        """A file of so many device tokens."""
        path = self.folder / "tokens"
        self.dianzan("devices", "mint", devices, "--campaign", CAMPAIGN, "--out", path)
        return path

    def tally(self, *, hot: bool) -> dict[str, Any]:
        """The campaign's tally out of Postgres, or of the hot state."""
        options = ["--hot"] if hot else []
        tally: dict[str, Any] = json.loads(
            self.dianzan("tally", "--campaign", CAMPAIGN, "--json", *options)
        )
        return tally

    def store(self) -> redis.Redis:
        return redis.Redis.from_url(self.ready["valkey"])

    def library(self) -> str:
        """Source of the function library that the edge has loaded into the store."""
        with self.store() as store:
            (loaded,) = store.function_list(withcode=True)
        fields = dict(zip(loaded[::2], loaded[1::2], strict=True))
        code: bytes = fields[b"library_code"]
        return code.decode()

    def processes(self) -> list[psutil.Process]:
        """All of them, `dianzan up` itself first."""
        assert self._process is not None
        return family(self._process.pid)

    def pids(self, part: str) -> list[int]:
        """The processes whose command line shows this part: edge, flush, valkey-server, postgres
        (the latter with all that it forked)."""
        found = []
        for process in self.processes()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend of Postgres that went
                words = [Path(word).name for word in " ".join(process.cmdline()).split()[:3]]
                if part in words or (part == "postgres" and process.name() == part):
                    found.append(process.pid)
        if not found:
            raise ServiceError(f"no process of `dianzan up` shows {part!r} in its command line")
        return found

    def pin_edge(self, core: int) -> None:
        for pid in self.pids("edge"):
            pin(pid, {core})

    def _environment(self) -> dict[str, str]:
        ours = {
            "DIANZAN_DATA_DIR": str(self.folder / "data"),
            "DIANZAN_EDGE_PORT": "0",
            "DIANZAN_ADMIN_PORT": "0",
            "DIANZAN_CONSOLE_PORT": "0",
            "DIANZAN_EDGE_WORKERS": str(self._workers),
            "DIANZAN_FAST_LANE": "on" if self._fast_lane else "off",
            "DIANZAN_TRUSTED_PROXIES": "127.0.0.0/8",
        }
        theirs = {k: v for k, v in os.environ.items() if not k.startswith("DIANZAN_")}
        return theirs | ours | dict(self._settings)


@contextlib.contextmanager
def running_service(
    folder: Path,
    *,
    fast_lane: bool = True,
    workers: int = 1,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Service]:
    """`dianzan up` on a new folder; stopped at the end, come what may."""
    folder.mkdir(parents=True)
    service = Service(folder, fast_lane=fast_lane, workers=workers, settings=settings)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def write_campaign(folder: Path) -> None:
    """A campaign folder as staff make it: CANDIDATES made-up people, open for a day around now."""
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC).replace(microsecond=0)
    (folder / "campaign.toml").write_text(
        f"""\
[campaign]
id = "{CAMPAIGN}"
title = "点赞压力测试"
time_zone = "{_zone_of_morning(now)}"
opens_at = {(now - timedelta(days=1)).isoformat()}
closes_at = {(now + timedelta(days=2)).isoformat()}

[rules]
likes_per_candidate_per_day = 1
candidates_per_day = 10

[limits]
per_device = "30/minute"
per_network = "1200/minute"

[portal]
origins = ["{ORIGIN}"]
"""
    )
    with (folder / "candidates.csv").open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(("序号", "推荐渠道", "推荐单位", "姓名", "工作单位", "职务职称", "主要事迹"))
        for number in range(1, CANDIDATES + 1):
            unit = f"示例学会{number}"
            sheet.writerow((number, "学会", unit, f"候选人{number}", unit, "研究员", "事迹。"))


def _zone_of_morning(now: datetime) -> str:
    """A time zone in which it is between 6 and 7: no day ends while something is measured, which
    would make likes of repeats."""
    ahead = (6 - now.hour + 12) % 24 - 12
    return f"Etc/GMT{-ahead:+d}"  # their signs are the other way round


def until(condition: Any, seconds: float, what: str) -> None:
    """Wait for a condition; ServiceError where it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    """Ends a blocking read that takes longer, by TimeoutError. Main thread only."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"nothing came within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _program() -> str:
    beside = Path(sys.executable).with_name("dianzan")
    if not beside.is_file():
        raise ServiceError(f"there is no program `dianzan` at {beside}: install the package")
    return str(beside)
