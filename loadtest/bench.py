"""The bench: every figure that is promised, measured on this machine against its target.

    make bench                                    everything, some minutes
    python -m loadtest.bench --quick              everything once and small: does it still run?
    python -m loadtest.bench --only stacks        one group of figures
    python -m loadtest.bench --only soak          hours of likes: by itself, 6 minutes

Prints tables and writes build/bench.json. It starts the service and all peers itself, over
temporary folders, on loopback and Unix sockets only, and ends them again. Runs on Linux (/proc,
processor affinity) with two cores or more. Nothing else should run meanwhile: what the machine was
busy with before is said, and how busy each core was (where the server's own share of its core is
well under one, something else was the limit, or the generator); a disturbed round shows beside its
neighbours.

Exit code 0: measured, whether the targets hold or not. 1: something failed; above all where the
tally is not what was acknowledged.
"""

import json
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer

from loadtest.bare import measure_bare
from loadtest.beside_likes import measure_requests
from loadtest.comparison import measure_stacks
from loadtest.flushing import measure_flusher
from loadtest.footprint import measure_device_day, measure_start_and_rest
from loadtest.growth import measure_fsync, measure_growth
from loadtest.idle import measure_idle
from loadtest.overload import measure_overload
from loadtest.processes import Cores, file_system_of
from loadtest.report import Figure, figures_table, number, table
from loadtest.service import ServiceError
from loadtest.shards import measure_shards
from loadtest.soak import measure_soak
from loadtest.stalls import measure_stalls

GROUPS = (
    "stacks",
    "overload",
    "growth",
    "fsync",
    "requests",
    "idle",
    "bare",
    "flusher",
    "start",
    "device-day",
    "stalls",
    "shards",
    "soak",
)
_BY_ITSELF = {"soak"}
"""Groups that take long, and run where they are asked for."""


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def bench(
    only: Annotated[
        str, typer.Option(help=f"Groups of figures, commas between: {', '.join(GROUPS)}.")
    ] = ",".join(name for name in GROUPS if name not in _BY_ITSELF),
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round of everything: proves little.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, max=15, help="Rounds; medians count.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=1, max=60, help="Measured seconds of one load run.")
    ] = 5.0,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("build/bench.json"),
    folder: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Where the servers' temporary folders go; a disk, as fsync is measured too.",
        ),
    ] = None,
) -> None:
    """Measure the figures that are promised, and say which of them hold."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise typer.BadParameter(f"no such group: {', '.join(unknown)}", param_hint="--only")
    if quick:
        rounds, seconds = 1, 1.0
    try:
        cores = Cores.of_this_machine()
    except OSError as why:
        _fail(str(why))
    # Whoever ends us lets us end what we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = datetime.now(UTC)
    seen_of_stacks: dict[str, Any] = {"stacks": {}}
    with tempfile.TemporaryDirectory(prefix="dz-bench-", dir=folder) as made:
        work = Path(made).resolve()
        machine = _machine(work, cores)
        print("  ".join(f"{name}: {value}" for name, value in machine.items()), flush=True)

        def measure_all_stacks() -> list[Figure]:
            figures, seen = measure_stacks(work / "stacks", cores, rounds=rounds, seconds=seconds)
            seen_of_stacks.update(seen)
            return figures

        groups: dict[str, Callable[[], list[Figure]]] = {
            "stacks": measure_all_stacks,
            "overload": lambda: measure_overload(
                work / "overload", cores, rounds=rounds, seconds=seconds
            ),
            "growth": lambda: measure_growth(
                work / "growth",
                cores,
                rounds=rounds,
                seconds=seconds,
                devices_many=20_000 if quick else 1_000_000,
                devices_few=2_000 if quick else 10_000,
            ),
            "fsync": lambda: measure_fsync(work / "fsync", cores, rounds=rounds, seconds=seconds),
            "requests": lambda: measure_requests(
                work / "requests", cores, rounds=rounds, seconds=seconds
            ),
            "idle": lambda: measure_idle(
                work / "idle", cores, connections=1_000 if quick else 10_000
            ),
            "bare": lambda: measure_bare(work / "bare", cores, rounds=rounds, seconds=seconds),
            "flusher": lambda: measure_flusher(
                work / "flusher", rounds=rounds, votes=30_000 if quick else 400_000
            ),
            "start": lambda: measure_start_and_rest(
                work / "start", rounds=rounds, idle_seconds=2 if quick else 30
            ),
            "device-day": lambda: measure_device_day(
                work / "day", cores, devices=1_000 if quick else 25_000
            ),
            "stalls": lambda: measure_stalls(
                work / "stalls", cores, devices=100_000 if quick else 5_000_000
            ),
            "shards": lambda: measure_shards(
                work / "shards", cores, rounds=rounds, seconds=seconds
            ),
            "soak": lambda: measure_soak(work / "soak", cores, hours=0.1 if quick else 8),
        }
        figures: list[Figure] = []
        for name in wanted:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            try:
                figures += groups[name]()
            except (ServiceError, OSError) as why:
                _fail(f"{name}: {why}")
    print(f"\n{figures_table(figures)}\n")
    for title in ("stacks", "honest_mix"):
        if seen_of_stacks.get(title):
            print(f"{_stacks_table(title.replace('_', ' '), seen_of_stacks[title])}\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps(
            {
                "begun": begun.isoformat(timespec="seconds"),
                "machine": machine,
                "quick": quick,
                "rounds": rounds,
                "seconds": seconds,
                "figures": {figure.name: figure.as_json() for figure in figures},
                **seen_of_stacks,
            },
            ensure_ascii=False,
            indent=1,
        )
        + "\n"
    )
    missed = [figure.what for figure in figures if figure.holds is False]
    print(f"missed: {'; '.join(missed)}" if missed else "every target holds")
    print(f"written: {out}")


def _machine(work: Path, cores: Cores) -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores used": f"{cores.measured}, {cores.other}",
        "memory GB": round(psutil.virtual_memory().total / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "files on": file_system_of(work),
        "busy before": f"{psutil.cpu_percent(1):.0f} %",
    }


def _stacks_table(title: str, stacks: dict[str, dict[str, float]]) -> str:
    columns = (
        *("likes_per_s", "p50_ms", "p99_ms", "edge_us", "store_us", "generator_us"),
        *("generator_busy", "servers_core_busy", "other_core_busy"),
    )
    return table(
        (title, *(column.replace("_", " ") for column in columns)),
        [(name, *(number(seen[column]) for column in columns)) for name, seen in stacks.items()],
    )


def _fail(why: str) -> NoReturn:
    print(f"bench: {why}", file=sys.stderr)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
