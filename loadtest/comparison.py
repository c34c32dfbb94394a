"""The same like through the service and through what others would build: how many, at what cost.

Rounds are interleaved, since these machines change speed while one looks, and a ratio is taken
within a round. After the last one each stack must have exactly the likes that it acknowledged.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from loadtest.floor import measure_bare_commands
from loadtest.mixes import MIXES
from loadtest.peers.running import PEERS, PeerAbsent
from loadtest.processes import Cores, pin, running_on
from loadtest.report import Figure
from loadtest.service import CANDIDATES, Service, running_service
from loadtest.stacks import (
    Stack,
    cost_ratios,
    cost_us,
    fixed_answer_stack,
    medians,
    peer_stack,
    service_stack,
)
from loadtest.store import Store, running_store
from loadtest.voters import Report

AIOHTTP, FAST_LANE, BARE = "aiohttp", "fast-lane", "bare-protocol"

# About as many likes a second as a core of 2026 takes: how much to prepare for the first round.
_PER_SECOND = {
    "first-written": 1_000,
    "redis-py": 4_000,
    "nginx-lua": 14_000,
    "go": 14_000,
    "go-group-commit": 20_000,
    AIOHTTP: 11_000,
    FAST_LANE: 22_000,
}

_COSTS = (
    # Peer, the fast lane's cost over its at most.
    ("nginx-lua", 0.50),
    ("go", 0.55),
    ("go-group-commit", 1.0),
    ("first-written", 0.04),
    (AIOHTTP, 0.45),
)


def measure_stacks(
    folder: Path, cores: Cores, *, rounds: int, seconds: float
) -> tuple[list[Figure], dict[str, Any]]:
    """Figures of cost and throughput; and {"stacks", "honest_mix", "floor_us", "absent"}: per
    stack what was seen (medians)."""

    stacks: dict[str, Stack] = {}
    absent: dict[str, str] = {}
    honest: dict[str, list[Report]] = {}
    floors: list[float] = []
    bare_us: list[tuple[float, float]] = []
    with running_on({cores.other}), contextlib.ExitStack() as opened:
        for name in (AIOHTTP, FAST_LANE):
            lane = opened.enter_context(running_service(folder / name, fast_lane=name == FAST_LANE))
            # Twice: for the honest mix as well.
            stacks[name] = service_stack(
                name, lane, cores, per_second=_PER_SECOND[name], seconds=2 * rounds * seconds
            )
        service = lane
        for name in PEERS:
            (folder / name).mkdir()
            try:
                stacks[name] = opened.enter_context(
                    peer_stack(
                        name,
                        service,
                        folder / name,
                        cores,
                        per_second=_PER_SECOND[name],
                        seconds=rounds * seconds,
                    )
                )
            except PeerAbsent as why:
                absent[name] = str(why)
                print(f"skipped: {name}: {why}", file=sys.stderr, flush=True)
        bare = opened.enter_context(
            fixed_answer_stack(BARE, "bare_protocol", stacks[FAST_LANE].tokens, cores)
        )
        bare_store = opened.enter_context(_bare_store(service, folder, cores))
        for seed in range(1, rounds + 1):
            for stack in (*stacks.values(), bare):
                stack.reports.append(stack.load(seconds, seed=seed))
                bare.tokens_used = 0
            commands_us = measure_bare_commands(
                bare_store,
                likes=int(20_000 * seconds),
                batch=_ballots_per_batch(service),
                candidates=CANDIDATES,
                seed=seed,
            )
            bare_us.append((bare.reports[-1].cpu_us["edge"], commands_us))
            floors.append(sum(bare_us[-1]))
            for name in (AIOHTTP, FAST_LANE):
                honest.setdefault(name, []).append(
                    stacks[name].load(seconds, seed=1_000 + seed, mix=MIXES["honest"])
                )
        kept = {name: stack.checked() for name, stack in stacks.items()}
    ours = stacks[FAST_LANE].reports
    figures = [
        Figure(
            f"cost-over-{name}",
            f"CPU of edge + store per like, fast lane over {name}",
            "",
            cost_ratios(ours, stacks[name].reports),
            most,
        )
        for name, most in _COSTS
        if name in stacks
    ]
    figures.append(
        Figure(
            "cost-over-redis-py",
            "the same, aiohttp alone over redis-py",
            "",
            cost_ratios(stacks[AIOHTTP].reports, stacks["redis-py"].reports),
            0.45,
        )
    )
    figures.append(
        Figure(
            "cost-over-floor",
            "the same, fast lane over bare protocol + bare commands",
            "",
            [cost_us(mine) / floor for mine, floor in zip(ours, floors, strict=True)],
            2.4,
            details={"bare_protocol_us_and_bare_commands_us": bare_us},
        )
    )
    if "nginx-lua" in stacks:
        theirs = stacks["nginx-lua"].reports
        figures.append(
            Figure(
                "throughput-over-nginx-lua",
                "likes/s of edge and store on one core, fast lane over nginx-lua",
                "",
                [
                    mine.per_second / other.per_second
                    for mine, other in zip(ours, theirs, strict=True)
                ],
                1.6,
                at_most=False,
            )
        )
    return figures, {
        "stacks": {name: medians(stack.reports, cores) for name, stack in stacks.items()},
        "honest_mix": {name: medians(reports, cores) for name, reports in honest.items()},
        "floor_us": round(median(floors), 2),
        "kept": kept,
        "absent": absent,
    }


@contextlib.contextmanager
def _bare_store(service: Service, folder: Path, cores: Cores) -> Iterator[Store]:
    with running_store(service.store(), folder / "bare-store") as store:
        pin(store.pid, {cores.measured})
        yield store


def _ballots_per_batch(service: Service) -> int:
    """Of the edge's batches so far, the mean."""
    with urlopen(f"{service.ready['admin']}/metrics", timeout=10) as answer:  # noqa: S310
        lines = dict(
            line.rsplit(" ", 1)
            for line in answer.read().decode().splitlines()
            if line and not line.startswith("#")
        )
    sums = {
        name: sum(float(value) for key, value in lines.items() if key.startswith(name))
        for name in ("dianzan_batch_ballots_sum", "dianzan_batch_ballots_count")
    }
    return max(1, round(sums["dianzan_batch_ballots_sum"] / sums["dianzan_batch_ballots_count"]))
