"""Processes as the measurements see them: which they are, where they run, what they cost."""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil


class Cores(NamedTuple):
    """Two cores: one for what is measured, one for everything else."""

    measured: int
    other: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first two that this process may use; OSError where it may use one alone."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise OSError("two cores are needed: one for the server, one for the rest")
        return cls(*allowed[:2])


def pin(pid: int, cores: Iterable[int]) -> None:
    """Keep a process, all of its threads included, on these cores."""
    wanted = set(cores)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), wanted)


@contextlib.contextmanager
def running_on(cores: Iterable[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end_input(process: subprocess.Popen[str]) -> None:
    """End a process that ends when its standard input does; by force where it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes have used, in steps of 10 ms."""
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


class Clock:
    """What time and CPU time pass from `start` on: of named groups of processes, of the cores, and
    of this process itself."""

    def __init__(self, watched: Mapping[str, Iterable[int]]) -> None:
        self._watched = {name: list(pids) for name, pids in watched.items()}
        self._groups: dict[str, float] = {}
        self._idle: list[float] = []
        self._own = 0.0

    def start(self) -> None:
        self._groups = self._read_groups()
        self._idle = self._read_idle()
        self._own = self._read_own()

    def groups(self) -> dict[str, float]:
        """CPU seconds per group since the start."""
        return {name: now - self._groups[name] for name, now in self._read_groups().items()}

    def own(self) -> float:
        """CPU seconds of this process since the start."""
        return self._read_own() - self._own

    def idle(self) -> list[float]:
        """Seconds that each core had nothing to do since the start, or waited for the disk."""
        return [now - then for now, then in zip(self._read_idle(), self._idle, strict=True)]

    def _read_groups(self) -> dict[str, float]:
        return {name: cpu_seconds(pids) for name, pids in self._watched.items()}

    @staticmethod
    def _read_idle() -> list[float]:
        return [core.idle + core.iowait for core in psutil.cpu_times(percpu=True)]

    @staticmethod
    def _read_own() -> float:
        times = os.times()
        return times.user + times.system


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, those that end meanwhile left out."""
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


def pss_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of these processes, a page that n processes share counted as 1/n in each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def file_system_of(folder: Path) -> str:
    """Kind of file system that the folder is on: on tmpfs an fsync costs nothing."""
    found = ""
    kind = "unknown"
    for partition in psutil.disk_partitions(all=True):
        if folder.resolve().is_relative_to(partition.mountpoint) and len(
            partition.mountpoint
        ) >= len(found):
            found, kind = partition.mountpoint, partition.fstype
    return kind
