"""`dianzan loadtest`: how much a running service takes, and how that feels."""

import contextlib
import json
import platform
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer

from loadtest.mixes import MIXES, parse_mix
from loadtest.targets import CannotLoad, read_target

app = typer.Typer(no_args_is_help=True)

_CLOSED_PER_SECOND = 15_000
"""Requests to prepare for each second and process of a closed loop; it ends when they are sent."""
_CLOSED_DEVICES = 2_000
_LINE_EVERY_SECONDS = 5


@app.callback()
def _several() -> None:
    """Load tests."""


@app.command("loadtest")
def loadtest(
    url: Annotated[str, typer.Argument(help="The edge: http://HOST[:PORT]; no TLS.")],
    campaign: Annotated[str, typer.Option(help="Id of the campaign to like in.")],
    mix: Annotated[
        str, typer.Option(help=f"{', '.join(MIXES)}, or shares such as likes=8,counts=4.")
    ] = "honest",
    rate: Annotated[
        float | None, typer.Option(min=1, max=1e6, help="Open loop: requests a second.")
    ] = None,
    ramp: Annotated[
        str | None,
        typer.Option(help="Open loop with a rising rate: FROM:TO:DURATION, 500:8000:60s."),
    ] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="Closed loop: as much as the connections carry.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Measured time.")] = 10,
    warm_up: Annotated[float, typer.Option(min=0, max=600, help="Seconds before that.")] = 1,
    connections: Annotated[int, typer.Option(min=1, max=60_000)] = 128,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Generators.")] = 1,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Device tokens, one a line (`dianzan devices mint`)."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="Devices to use; without --tokens, to ask for."),
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Page that the likes come from; default: the target's own.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A host beyond loopback that may be loaded.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one page.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31, help="Draw the same again.")] = None,
) -> None:
    """Send a running service a crowd, and say what it made of it.

    Open loop (--rate, --ramp): moments of sending are fixed beforehand, and a latency counts from
    its intended moment. Closed loop (--closed): each connection sends as soon as it is answered.
    The default is --rate 500. Ctrl-C ends the run early and still reports it.

    The campaign gets real likes: "likes acknowledged" is what `dianzan tally` must have grown by.
    Devices tell their addresses by X-Forwarded-For; a service that does not trust this machine for
    it (DIANZAN_TRUSTED_PROXIES) sees one network, and limits it.
    """
    from loadtest.swarm import (
        Swarm,
        SwarmError,
        candidates_of,
        devices_needed,
        merged,
        obtain_tokens,
        split,
    )
    from loadtest.voters import Order

    try:
        if sum((rate is not None, ramp is not None, closed)) > 1:
            raise CannotLoad("--rate, --ramp and --closed exclude each other")
        shares = parse_mix(mix)
        first: float | None = None if closed else (rate or 500)
        last: float | None = None
        if ramp is not None:
            first, last, seconds = read_ramp(ramp)
        if connections < processes:
            raise CannotLoad("every process needs a connection: fewer --processes")
        target = read_target(url, allow or [])
        candidates = candidates_of(target, campaign)
        if first is None:
            requests = float(int(_CLOSED_PER_SECOND * (seconds + warm_up)) * processes)
        else:
            mean = first if last is None else (first + last) / 2
            requests = first * warm_up + mean * seconds
            requests += 4 * requests**0.5
        needed = devices_needed(requests, shares, processes)
        with tempfile.TemporaryDirectory(prefix="dz-load-") as folder:
            if tokens is not None:
                held = [line for line in tokens.read_text().splitlines() if line][:devices]
            else:
                wanted = devices or (min(needed, _CLOSED_DEVICES) if closed else needed)
                with progress("device tokens", wanted) as advance:
                    held = obtain_tokens(target, campaign, wanted, lambda: advance(1))
            least = processes if closed and shares.get("likes") else needed
            if len(held) < least:
                raise CannotLoad(
                    f"too few tokens: this run may need {least:,} devices, there are {len(held):,}"
                )
            tokens_file = Path(folder) / "tokens"
            tokens_file.touch(0o600)
            tokens_file.write_text("".join(token + "\n" for token in held))
            order = Order(
                port=target.port,
                host=target.address,
                allowed=target.allowed,
                host_header=target.host_header,
                origin=origin or target.url,
                campaign=campaign,
                candidates=candidates,
                tokens_file=str(tokens_file),
                seed=secrets.randbits(31) if seed is None else seed,
                connections=connections,
                rate_per_second=first,
                rate_to_per_second=last,
                requests_max=int(requests),
                warm_up_seconds=warm_up,
                seconds=seconds,
                mix=shares,
            )
            about: dict[str, Any] = {
                "target": target.url,
                "campaign": campaign,
                "begun": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, {platform.system()}",
                "rate": "closed" if first is None else ramp or first,
            }
            with contextlib.closing(Swarm(split(order, processes, len(held)))) as swarm:
                swarm.prepare()
                _run(swarm, warm_up + seconds)
                report = merged(swarm.reports(), order, about)
        if json_file is not None:
            json_file.write_text(json.dumps(report, indent=1) + "\n")
        if html is not None:
            from loadtest.report_page import as_page

            html.write_text(as_page(report))
    except (CannotLoad, SwarmError, OSError) as why:
        _fail(str(why))
    print(as_text(report))


def read_ramp(text: str) -> tuple[float, float, float]:
    """(from, to, seconds) of FROM:TO:DURATION; CannotLoad."""
    try:
        first, last, seconds = (float(part) for part in text.removesuffix("s").split(":"))
    except ValueError:
        raise CannotLoad(f"--ramp {text}: FROM:TO:DURATION, such as 500:8000:60s") from None
    if not (1 <= first <= 1e6 and 1 <= last <= 1e6 and 0.1 <= seconds <= 3600):
        raise CannotLoad(f"--ramp {text}: rates from 1 to a million, at most 3600s")
    return first, last, seconds


def as_text(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    from loadtest.report import number, table

    rows = [
        (
            kind,
            f"{seen['requests']:,}",
            number(seen["per_second"]),
            *(number(seen[p]) for p in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")),
            " ".join(f"{status}:{count}" for status, count in seen["statuses"].items()),
        )
        for kind, seen in report["kinds"].items()
    ]
    generator = report["generator"]
    refused_within = f" within {report['refused_p99_ms']} ms at p99" if report["refused"] else ""
    lines = [
        f"{report['target']}  campaign {report['campaign']}  rate {report['rate']}  "
        f"{report['processes']} processes  {report['connections']} connections  "
        f"{report['seconds']} s measured",
        "",
        table(
            ("kind", "requests", "per s", "p50 ms", "p90", "p99", "p99.9", "max", "status"), rows
        ),
        "",
        f"unexpected answers: {report['unexpected']:,}   refused by overload (503): "
        f"{report['refused']:,}{refused_within}   lost: {report['lost']:,}",
        f"likes acknowledged: {report['acknowledged']:,} (warm-up included)",
        f"generator: {generator['cpu_us']} us of CPU per answer, busiest process "
        f"{generator['busy']:.0%} of a core, late in sending by {generator['send_lag_p99_ms']} ms "
        "at p99",
    ]
    if generator["limit"]:
        lines.append(
            "THE GENERATOR WAS THE LIMIT: these are its figures, not the service's. "
            "Use more --processes or a machine of its own."
        )
    if report["interrupted"]:
        lines.append("Ended early by Ctrl-C; the report is of what was measured.")
    return "\n".join(lines)


@contextlib.contextmanager
def progress(what: str, whole: float) -> Iterator[Callable[[float], None]]:
    """A bar on stderr; where that is no terminal, a line each five seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=whole)
            yield lambda step: bar.advance(task, step)
        return
    done = 0.0
    said = time.monotonic()

    def advance(step: float) -> None:
        nonlocal done, said
        done += step
        if time.monotonic() - said >= _LINE_EVERY_SECONDS:
            said = time.monotonic()
            print(f"{what}: {done:.0f} of {whole:.0f}", file=sys.stderr, flush=True)

    yield advance


def _run(swarm: Any, seconds: float) -> None:
    """Let it run to its end; the first Ctrl-C ends it early, with a report."""
    before = signal.signal(signal.SIGINT, lambda *_: swarm.stop_early())
    try:
        with progress("seconds", seconds) as advance:
            swarm.begin()
            # Said here: only now does Ctrl-C end the run with a report.
            print("the crowd is coming ...", file=sys.stderr, flush=True)
            began = then = time.monotonic()
            while not swarm.wait(0.2) and time.monotonic() - began < seconds + 60:
                now = time.monotonic()
                advance(max(0.0, min(now - then, seconds - (then - began))))
                then = now
    finally:
        signal.signal(signal.SIGINT, before)


def _fail(why: str) -> NoReturn:
    print(f"dianzan: {' '.join(why.split())}", file=sys.stderr)
    raise typer.Exit(2)
