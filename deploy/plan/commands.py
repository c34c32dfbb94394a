"""Command of this package: `dianzan plan`."""

import re
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from deploy.plan.figures import CannotRead, read_figures
from deploy.plan.model import Demand, Figures, Plan, Stage, peak_of, plan
from loadtest.report import number, table

app = typer.Typer()

_BENCH = Path("build/bench.json")
_STEPS = ((1e6, 1_000), (1e7, 5_000), (1e8, 25_000), (3e8, 100_000), (1e9, 250_000))
"""Likes in all and at the peak of a second, for the table of what gives out first."""


@app.callback()
def _group() -> None:
    """What a campaign needs."""


@app.command("plan")
def plan_campaign(
    likes: Annotated[str, typer.Option(help="Likes in all: 500k, 100M, 1G.")],
    days: Annotated[int, typer.Option(min=1, max=3660, help="Days that it is open.")] = 31,
    peak: Annotated[
        float | None,
        typer.Option(min=1, max=1e7, help="Likes a second at the worst; default: a mean day's."),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(help=f"What `make bench` wrote; default: {_BENCH}, where there is one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a campaign of this size needs: cores, shards, memory, disk, network.

    A model, not a measurement: it multiplies what one like costs (by `make bench` on this machine,
    else by the shipped reference) and keeps every part at most 60 % busy at the peak. Every figure
    is listed with where it comes from. Below saturation likes cost up to twice as much, because
    batches are smaller; a burst within a second waits longer than the mean that is said.
    Likes that are refused, pages and pictures are not in it: a CDN has to carry those.

    Exit codes: 0 planned, 1 planned, and a part is past what this version can run, 2 not planned.
    """
    source = bench or (_BENCH if _BENCH.exists() else None)
    try:
        figures = read_figures(source)
        wanted = read_count(likes)
        demand = Demand(wanted, days, peak or peak_of(wanted, days, figures))
        planned = plan(demand, figures)
    except (CannotRead, ValueError) as why:
        _fail(str(why))
    steps = [plan(Demand(each, days, at), figures) for each, at in _STEPS]
    if as_json:
        print(
            msgspec.json.format(
                msgspec.json.encode(
                    {
                        "plan": planned,
                        "cores": planned.cores,
                        "first_to_give_out": planned.bottleneck.name,
                        "within": planned.within,
                        "steps": [
                            {
                                "likes": step.demand.likes,
                                "peak": step.demand.peak,
                                "cores": step.cores,
                                "first_to_give_out": step.bottleneck.name,
                                "within": step.within,
                            }
                            for step in steps
                        ],
                        "figures": figures,
                    }
                ),
                indent=1,
            ).decode()
        )
    else:
        print(_as_text(planned, steps))
        print("\n" + table(*_figures_table(figures)))
    if not planned.within:
        raise typer.Exit(1)


def read_count(text: str) -> float:
    """500k, 100M, 1.5G (or 1.5B) as a number; ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGB]?)", text)
    if not match or not float(match[1]):
        raise ValueError(f"--likes {text}: a number above 0, perhaps with k, M or G (a billion)")
    return float(match[1]) * {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}[match[2]]


def _as_text(planned: Plan, steps: list[Plan]) -> str:
    demand = planned.demand
    lines = [
        f"{demand.likes:,.0f} likes in {demand.days} days, {demand.peak:,.0f}/s at the peak",
        "",
        table(
            ("part", "one carries /s", "wanted", "busy", "wait ms", "at most"),
            [_stage_row(stage) for stage in planned.stages],
        ),
        "",
        table(
            ("beside them", ""),
            [
                ("store memory, the newest days", f"{number(planned.store_memory_gb)} GB"),
                ("store disk, with room to rewrite", f"{number(planned.store_disk_gb)} GB"),
                ("Postgres disk", f"{number(planned.postgres_disk_gb)} GB"),
                ("network in", f"{number(planned.in_mbit_s)} Mbit/s"),
                ("network out", f"{number(planned.out_mbit_s)} Mbit/s"),
                ("connections held", number(planned.connections)),
                ("edge memory for them", f"{number(planned.edge_memory_gb)} GB"),
            ],
        ),
        "",
        table(
            ("likes", "peak /s", "cores", "first to give out", "it runs"),
            [
                (
                    f"{step.demand.likes:,.0f}",
                    f"{step.demand.peak:,.0f}",
                    str(step.cores),
                    step.bottleneck.name,
                    "yes" if step.within else "NO",
                )
                for step in steps
            ],
        ),
    ]
    for stage in planned.stages:
        if not stage.within:
            lines += [
                "",
                f"{stage.name}: {stage.wanted} wanted, this version runs {stage.most}: it carries "
                f"{number(stage.carries or 0)}/s fully busy; above that "
                + ("voters get 503." if stage.waits_ms is not None else "it lags until later."),
            ]
    return "\n".join(lines)


def _stage_row(stage: Stage) -> tuple[str, ...]:
    return (
        stage.name,
        number(stage.one_carries),
        str(stage.wanted),
        f"{stage.busy:.0%}",
        "" if stage.waits_ms is None else number(stage.waits_ms),
        "" if stage.most is None else f"{stage.most}{'' if stage.within else ' (!)'}",
    )


def _figures_table(figures: Figures) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return (
        ("figure", "value", "from"),
        [
            (each.what, f"{number(each.value)} {each.unit}".strip(), each.source)
            for each in figures.values()
        ],
    )


def _fail(why: str) -> NoReturn:
    print(f"dianzan plan: {why}", file=sys.stderr)
    raise typer.Exit(2)
