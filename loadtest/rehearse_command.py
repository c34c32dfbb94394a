"""`dianzan rehearse`: how well the rules tell cheats from crowds, on crowds of known people."""

import json
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import psutil
import typer

from loadtest.targets import CannotLoad

if TYPE_CHECKING:
    from loadtest.rehearsal.evaluate import Counted, Plan

app = typer.Typer(no_args_is_help=True)

_SEEDS = "101,102"
"""Held out: rules were tuned on 1 to 5."""
_VOTES, _VOTES_LIVE = 1_000_000, 1_500
_DIE = signal.SIG_DFL
_VOTES_LEAST = 20_000
"""Fewer are mostly the crowds that vote together, of which a period has so many."""


@app.callback()
def _several() -> None:
    """Rehearsals."""


@app.command("rehearse")
def rehearse(
    seeds: Annotated[
        str, typer.Option(help="Seeds, commas between. Rules were tuned on 1 to 5: use others.")
    ] = _SEEDS,
    votes: Annotated[
        int | None,
        typer.Option(
            min=100, max=20_000_000, help="Honest votes for each seed: 1000000, with --url 1500."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=31, help="Simulated days.")] = 5,
    attacks: Annotated[
        str | None, typer.Option(help="Only these, such as A1,A9; `none` for honest people alone.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Only attacks of these sizes, such as 300,1000.")
    ] = None,
    camouflage: Annotated[
        str | None, typer.Option(help="Only these of none,ua,ua+dwell,full.")
    ] = None,
    challenges: Annotated[
        bool, typer.Option(help="Whether the service sets challenges (DIANZAN_CHALLENGE).")
    ] = True,
    tls: Annotated[bool, typer.Option(help="Whether a proxy tells TLS fingerprints.")] = True,
    homes: Annotated[
        bool,
        typer.Option(help="Whether the table of networks tells home lines; the built-in does not."),
    ] = True,
    compare: Annotated[
        bool, typer.Option(help="Run the plain burst rule and MIDAS-R as well.")
    ] = True,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=64, help="Seeds at a time; default: one a core.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the document and nothing else on stdout.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one page with pictures.")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE.parquet", help="Judge the labelled crowd in a file."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write the crowd of one seed, and stop."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Rehearse through HTTP with the service at http://HOST:PORT.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="With --url: campaign to like in.")] = None,
    seconds: Annotated[float, typer.Option(min=5, max=900, help="With --url: over so long.")] = 60,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="With --url: a host beyond loopback that may be loaded."),
    ] = None,
) -> None:
    """Hold the rules against crowds of honest people and attacks, all of it made up and labelled.

    Each seed draws an honest crowd and the attacks A1 to A13 on it, lets the very rules that serve
    judge every ballot (screening, limits, live cells), runs the near-line detectors over what they
    let in, and counts. Figures come with 95 % Wilson bounds, each target of the project with holds
    or MISSES, and two rules that others use beside them. Nothing is stored, and nobody is asked.

    --input takes a crowd of your own, one row a ballot, in any order. Whole numbers:
    at_us (microseconds since 1970, UTC), day (in Asia/Shanghai, days since 1970), candidate,
    device, network (IPv4 address or IPv6 /64, any 64-bit pseudonym), network_wide (/24 or /48),
    asn, network_class (0 unknown, 1 mobile, 2 home, 3 campus, 4 datacentre, 5 private),
    user_agent_class, tls_hash, token_age_seconds, token_level, dwell_centiseconds, oddities;
    0 = not known. Text: source (a group of honest people, or A1 to A13). May be missing: solves,
    size, camouflage, duration, attack. loadtest/rehearsal/columns.md says more; --write makes one.

    --url sends a small crowd to a running service, as phones and scripts do, and says what it
    answered to whom. It must trust this machine for addresses (DIANZAN_TRUSTED_PROXIES), and the
    campaign gets real likes.
    """
    from loadtest.rehearsal.ballots import BadCrowd

    try:
        if url is not None:
            _alone("--url", input_file, write, html)
            _through_http(url, campaign, votes or _VOTES_LIVE, seconds, allow or [], seeds, as_json)
            return
        if campaign is not None or allow:
            raise CannotLoad("--campaign and --allow go with --url")
        if input_file is not None and (votes, attacks, sizes, camouflage) != (None,) * 4:
            raise CannotLoad(
                "--input takes a file whole: --votes, --attacks, --sizes and "
                "--camouflage say what to draw"
            )
        plan = _read_plan(votes, days, attacks, sizes, camouflage, challenges, tls, homes, compare)
        if write is not None:
            _alone("--write", input_file, html)
            _write_crowd(write, _read_seeds(seeds), plan)
            return
        document = _document(input_file, seeds, plan, jobs)
        if html is not None:
            from loadtest.rehearsal.page import as_page

            html.write_text(as_page(document))
    except (CannotLoad, BadCrowd, OSError, BrokenProcessPool) as why:
        _fail(str(why))
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        from loadtest.rehearsal.report import as_text

        print(as_text(document))


def _alone(option: str, *others: Path | None) -> None:
    if any(other is not None for other in others):
        raise CannotLoad(f"{option} excludes the options that read or write other files")


def _read_plan(
    votes: int | None,
    days: int,
    attacks: str | None,
    sizes: str | None,
    camouflage: str | None,
    challenges: bool,
    tls: bool,
    homes: bool,
    compare: bool,
) -> "Plan":
    from loadtest.rehearsal.attackers import ATTACKERS, CAMOUFLAGES, SIZES
    from loadtest.rehearsal.evaluate import Plan

    if votes is not None and votes < _VOTES_LEAST:
        raise CannotLoad(f"--votes {votes}: at least {_VOTES_LEAST:,} without --url")
    wanted_sizes = [str(size) for size in SIZES]
    if sizes is not None:
        wanted_sizes = [part.strip() for part in sizes.split(",")]
        for part in wanted_sizes:
            if not part.isdecimal() or not 10 <= int(part) <= 1_000_000:
                raise CannotLoad(f"--sizes {sizes}: {part!r} is no size from 10 to 1000000")
    return Plan(
        votes=votes or _VOTES,
        days=days,
        attacks=() if attacks == "none" else _some("--attacks", attacks, ATTACKERS),
        sizes=tuple(map(int, wanted_sizes)),
        camouflages=_some("--camouflage", camouflage, CAMOUFLAGES),
        challenges=challenges,
        tls=tls,
        homes=homes,
        compare=compare,
    )


def _some(option: str, text: str | None, known: Any) -> tuple[str, ...]:
    if text is None:
        return tuple(known)
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        if part not in known:
            raise CannotLoad(f"{option} {text}: {part!r} is not one of {', '.join(known)}")
    return parts


def _read_seeds(text: str) -> list[int]:
    found = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) >= 2**31:
            raise CannotLoad(f"--seeds {text}: whole numbers with commas between")
        found.append(int(part))
    if len(set(found)) < len(found):
        raise CannotLoad(f"--seeds {text}: one of them stands there twice")
    return found


def _write_crowd(path: Path, seeds: Sequence[int], plan: "Plan") -> None:
    from loadtest.rehearsal.ballots import write_parquet
    from loadtest.rehearsal.evaluate import draw_crowd

    if len(seeds) != 1:
        raise CannotLoad("--write takes one seed: --seeds 101")
    crowd = draw_crowd(seeds[0], plan)
    write_parquet(crowd, path)
    _say(f"{path}: {len(crowd):,} ballots of seed {seeds[0]}")


def _document(
    input_file: Path | None, seeds: str, plan: "Plan", jobs: int | None
) -> dict[str, Any]:
    from loadtest.rehearsal.evaluate import as_document, rehearse_file

    if input_file is not None:
        counted, numbers = rehearse_file(input_file, plan), []
    else:
        numbers = _read_seeds(seeds)
        cores = psutil.cpu_count() or 1
        counted = _all_seeds(numbers, plan, jobs or min(cores, len(numbers)))
    return as_document(counted, numbers, plan)


def _all_seeds(numbers: Sequence[int], plan: "Plan", jobs: int) -> "Counted":
    from loadtest.rehearsal.evaluate import Counted, rehearse_seed

    whole = Counted()
    if jobs == 1:
        for number in numbers:
            whole.add(rehearse_seed(number, plan))
            _say(f"seed {number}: done")
        return whole
    # Spawned: a fork would take DuckDB's threads with it and leave them dead. Ctrl-C ends each of
    # them at once and without a word.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, _DIE)
    ) as pool:
        for number, counted in zip(
            numbers, pool.map(rehearse_seed, numbers, [plan] * len(numbers)), strict=True
        ):
            whole.add(counted)
            _say(f"seed {number}: done")
    return whole


def _through_http(
    url: str,
    campaign: str | None,
    votes: int,
    seconds: float,
    allow: list[str],
    seeds: str,
    as_json: bool,
) -> None:
    from loadtest.rehearsal.live import as_text, rehearse_live
    from loadtest.targets import read_target

    if campaign is None:
        raise CannotLoad("--url needs --campaign: the one to like in")
    if votes > 100_000:
        raise CannotLoad(f"--votes {votes}: at most 100,000 through HTTP")
    target = read_target(url, allow)
    document = rehearse_live(
        target, campaign, votes=votes, seconds=seconds, seed=_read_seeds(seeds)[0], say=_say
    )
    print(json.dumps(document, ensure_ascii=False) if as_json else as_text(document))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(why: str) -> NoReturn:
    _say(f"dianzan: {' '.join(why.split())}")
    raise typer.Exit(2)
