"""What aiohttp itself takes: the service without its fast lane beside a handler that does nothing.

Here the edge, or the bare handler, has its core for itself, and the store shares the other with
the generator: it is about the edge alone.
"""

import contextlib
from pathlib import Path

from loadtest.processes import Cores, pin, running_on
from loadtest.report import Figure, median_of
from loadtest.service import running_service
from loadtest.stacks import fixed_answer_stack, service_stack

_PER_SECOND = 11_000


def measure_bare(folder: Path, cores: Cores, *, rounds: int, seconds: float) -> list[Figure]:
    """Figures of throughput over bare aiohttp, and of latency at half of that rate."""
    with running_on({cores.other}), contextlib.ExitStack() as opened:
        service = opened.enter_context(running_service(folder, fast_lane=False))
        ours = service_stack(
            "aiohttp", service, cores, per_second=_PER_SECOND, seconds=2 * rounds * seconds
        )
        for pid in ours.watched["store"]:
            pin(pid, {cores.other})
        bare = opened.enter_context(
            fixed_answer_stack("bare-aiohttp", "bare_aiohttp", ours.tokens, cores)
        )
        for seed in range(1, rounds + 1):
            for stack in (bare, ours):
                stack.reports.append(stack.load(seconds, seed=seed))
                bare.tokens_used = 0
        half = 0.5 * median_of([report.per_second for report in ours.reports])
        paced = [
            ours.load(seconds, seed=100 + seed, rate_per_second=half)
            for seed in range(1, rounds + 1)
        ]
        kept = ours.checked()
    return [
        Figure(
            "throughput",
            "likes/s of aiohttp alone over requests/s of bare aiohttp",
            "",
            [
                mine.per_second / fixed.per_second
                for mine, fixed in zip(ours.reports, bare.reports, strict=True)
            ],
            0.5,
            at_most=False,
            details={"kept": kept},
        ),
        Figure(
            "latency",
            f"p99 at half of that rate ({half:,.0f}/s, open loop)",
            "ms",
            [report.p99_ms for report in paced],
            15,
        ),
    ]
