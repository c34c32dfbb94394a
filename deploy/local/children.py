"""The children of `dianzan up`: each is started, watched, started again, and stopped in order.

    Kept            one child, kept alive: back-off, states, stopping
    KeptServer      an embedded Valkey or Postgres; its output goes to a log file
    KeptProcess     one of our own (`dianzan edge`, `dianzan flush`); it says itself when it serves

Each child lives in a session of its own, so that Ctrl-C reaches the supervisor alone.
"""

import asyncio
import contextlib
import enum
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from deploy.local.run_folder import Orphan, RunFolder, runs
from deploy.local.servers import EmbeddedServer, EmbeddedServerError

BACK_OFF_FIRST_SECONDS = 0.1
BACK_OFF_MAX_SECONDS = 5.0
HEALTHY_AFTER_SECONDS = 30.0
"""A child that lived so long gets the shortest back-off again."""
STARTS_BEFORE_GIVING_UP = 6
"""A child that never once was ready is tried so often (about 3 s in all); then `up` ends."""
LOG_ROTATES_AT_BYTES = 10 * 2**20
ORPHANS_END_WITHIN_SECONDS = 15.0

Say = Callable[[str], None]
"""Tell people something, in one line."""


class ChildFailed(Exception):
    """A child cannot be started at all; the message says why."""


class State(enum.StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """It died, and comes back after its back-off."""
    STOPPED = "stopped"


class Kept(ABC):
    """One child that is kept alive from `start()` until `stop()`."""

    last_resorts: tuple[signal.Signals, ...] = (signal.SIGKILL,)
    """For one that does not stop in time; one after the other."""

    def __init__(self, name: str, stop_signal: signal.Signals, run: RunFolder, say: Say) -> None:
        self.name = name
        self.stop_signal = stop_signal
        self.state = State.STOPPED
        self.restarts = 0
        self._run = run
        self._say = say
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep(), name=self.name)

    async def until_ready(self) -> None:
        """Return when it is ready for the first time; raises ChildFailed, EmbeddedServerError or
        OSError where it cannot be started."""
        assert self._keeping is not None, "start() comes first"
        waiting = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({waiting, self._keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._keeping.done():
            await self._keeping

    async def until_failed(self) -> None:
        """Return when it is stopped; raises what ended the keeping of it before, if anything."""
        if self._keeping is not None:
            await asyncio.shield(self._keeping)

    async def stop(self, until: float) -> None:
        """Stop it in order; kill it when the loop's clock reads `until`. Never raises."""
        self._stopping.set()
        self._signal(self.stop_signal)
        if self._keeping is None:
            return
        loop = asyncio.get_running_loop()
        for last_resort in self.last_resorts:
            await asyncio.wait({self._keeping}, timeout=max(0.0, until - loop.time()))
            if self._keeping.done():
                return
            self._say(f"{self.name} did not stop in time: {last_resort.name}")
            self._signal(last_resort)
            until = loop.time() + 1
        await asyncio.wait({self._keeping}, timeout=5)

    @abstractmethod
    async def _spawn(self) -> Process:
        """Start its process; raises EmbeddedServerError or OSError where that cannot be."""

    @abstractmethod
    async def _until_serving(self, process: Process) -> None:
        """Return when this very process serves; wait for ever where it does not."""

    async def _keep(self) -> None:
        pause = BACK_OFF_FIRST_SECONDS
        failures = 0
        try:
            while not self._stopping.is_set():
                self.state = State.STARTING
                begun = time.monotonic()
                ending = await self._live()
                self._run.forget(self.name)
                if self._stopping.is_set():
                    break
                failures += 1
                if not self._ready.is_set() and failures == STARTS_BEFORE_GIVING_UP:
                    raise ChildFailed(f"{self.name} does not start: it {ending}")
                if time.monotonic() - begun >= HEALTHY_AFTER_SECONDS:
                    pause = BACK_OFF_FIRST_SECONDS
                self.state = State.WAITING
                self.restarts += 1
                self._say(f"{self.name} {ending}; it comes back in {pause:.1f} s")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(2 * pause, BACK_OFF_MAX_SECONDS)
        finally:
            self.state = State.STOPPED

    async def _live(self) -> str:
        """One life, from the start of a process to its end; says how it ended."""
        try:
            self._process = await self._spawn()
        except (EmbeddedServerError, OSError) as why:
            if not self._ready.is_set():
                raise  # it never ran here: that does not mend itself
            return f"did not start ({why})"
        self._run.note(self.name, self._process.pid, self.stop_signal)
        if self._stopping.is_set():  # while it was being started
            self._signal(self.stop_signal)
        serving = asyncio.create_task(self._announce(self._process))
        try:
            code = await self._process.wait()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            self._process = None
        ending = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
        return ending + self._last_words()

    async def _announce(self, process: Process) -> None:
        await self._until_serving(process)
        self.state = State.READY
        if self._ready.is_set():
            self._say(f"{self.name} is back, pid {process.pid}")
        self._ready.set()

    def _last_words(self) -> str:
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class KeptServer(Kept):
    """An embedded server; its data folder is made ready before each start."""

    def __init__(self, server: EmbeddedServer, logs: Path, run: RunFolder, say: Say) -> None:
        super().__init__(server.name, server.stop_signal, run, say)
        self._server = server
        self._log = logs / f"{server.name}.log"
        if server.name == "postgres":
            # "Immediate": like a crash, from which it recovers; its backends end too, which a
            # SIGKILL of the first process alone leaves to them.
            self.last_resorts = (signal.SIGQUIT, signal.SIGKILL)

    async def _spawn(self) -> Process:
        await asyncio.to_thread(self._server.prepare)
        if self._log.exists() and self._log.stat().st_size > LOG_ROTATES_AT_BYTES:
            self._log.replace(self._log.with_name(f"{self._log.name}.1"))
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._server.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _until_serving(self, process: Process) -> None:
        begun = time.monotonic()
        while not await asyncio.to_thread(self._server.is_ready):  # noqa: ASYNC110 (not ours)
            # A store that loads a long journal is asked less often.
            await asyncio.sleep(0.02 if time.monotonic() - begun < 5 else 0.5)

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - 500))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" (last in {self._log}: {last})" if last else ""


class KeptProcess(Kept):
    """One of our own: `dianzan <arguments>`, ready when it says so (voting.process.Child)."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        lifeline_fd: int,
        pass_fds: tuple[int, ...] = (),
        run: RunFolder,
        say: Say,
    ) -> None:
        super().__init__(name, signal.SIGTERM, run, say)
        self._arguments = arguments
        self._environment = environment
        self._lifeline_fd = lifeline_fd
        self._pass_fds = pass_fds
        self._ready_fd: int | None = None
        self.facts: dict[str, Any] = {}
        """What the living process announced, such as {"admin": URL}; empty until it serves."""

    async def _spawn(self) -> Process:
        self._ready_fd, ready_there = os.pipe()
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                str(program()),
                *self._arguments,
                *("--ready-fd", str(ready_there), "--lifeline-fd", str(self._lifeline_fd)),
                stdin=subprocess.DEVNULL,
                stdout=2,  # our own stdout carries the ready line and nothing else
                pass_fds=(ready_there, self._lifeline_fd, *self._pass_fds),
                env=self._environment,
                start_new_session=True,
            )
        finally:
            os.close(ready_there)

    async def _until_serving(self, process: Process) -> None:
        assert self._ready_fd is not None, "_spawn() opened it"
        said = await _read_line(self._ready_fd)
        if not said:
            # It closed without a word: it is ending, and its end is seen elsewhere.
            await asyncio.Event().wait()
        self.facts = json.loads(said)

    async def _live(self) -> str:
        try:
            return await super()._live()
        finally:
            self.facts = {}
            if self._ready_fd is not None:
                os.close(self._ready_fd)
                self._ready_fd = None


def program() -> Path:
    """The `dianzan` script, so that a process list shows `dianzan edge`."""
    own = Path(sys.argv[0])
    if own.name == "dianzan" and own.is_file():
        return own.absolute()
    beside = Path(sys.executable).with_name("dianzan")
    if beside.is_file():
        return beside
    raise ChildFailed(f"there is no program `dianzan` at {beside}: install the package")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def _read_line(descriptor: int) -> bytes:
    """What comes until the first line's end or the writer's."""
    loop = asyncio.get_running_loop()
    said = bytearray()
    ended: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        some = os.read(descriptor, 4096)
        said.extend(some)
        if (not some or b"\n" in some) and not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
    return bytes(said)


def end_orphans(run: RunFolder, servers: Sequence[EmbeddedServer], say: Say) -> None:
    """End what a killed `up` left behind, in the order of an orderly stop. Blocks.

    Flushers before the store that they read from; each gets its own stop signal, and SIGKILL after
    ORPHANS_END_WITHIN_SECONDS.
    """
    noted = run.orphans()
    known = {orphan.process.pid for orphan in noted}
    server_names = {server.name for server in servers}
    stages: list[list[Orphan]] = [[o for o in noted if o.name not in server_names]]
    for server in servers:
        found = [
            Orphan(server.name, process, server.stop_signal)
            for process in server.running()
            if process.pid not in known
        ]
        stages.append([*(o for o in noted if o.name == server.name), *found])
    for stage in stages:
        _end(stage, say)


def _end(orphans: Sequence[Orphan], say: Say) -> None:
    for orphan in orphans:
        say(f"{orphan.name}, pid {orphan.process.pid}, is left from a killed run: it is stopped")
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.process.send_signal(orphan.stop_signal)
    processes = [orphan.process for orphan in orphans]
    for process in _alive_after(ORPHANS_END_WITHIN_SECONDS, processes):
        say(f"pid {process.pid} did not stop in time: killed")
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in (*process.children(recursive=True), process):
                each.kill()
    _alive_after(5, processes)


def _alive_after(seconds: float, processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after so long, or none as soon as none does. A zombie does not run:
    in a container nobody may ever reap it."""
    deadline = time.monotonic() + seconds
    while (alive := [process for process in processes if runs(process)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    return alive
