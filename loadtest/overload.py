"""How it feels at 70 % of what is possible, and what happens when more comes than that.

Open loop: moments of sending are fixed beforehand, and a latency counts from its intended moment.
What is possible is measured first, in a closed loop, on the same service.
"""

from pathlib import Path

import psutil

from loadtest.processes import Cores, running_on
from loadtest.report import Figure, median_of, number
from loadtest.service import running_service
from loadtest.stacks import Stack, service_stack
from loadtest.voters import Report

_PER_SECOND = 22_000
_CALM_CONNECTIONS = 512
_CROWD_CONNECTIONS = 4_000
"""More than the edge lets wait: in an overload each of them has a request under way."""
_COUNTED = 201


def measure_overload(folder: Path, cores: Cores, *, rounds: int, seconds: float) -> list[Figure]:
    """Figures of latency at 70 % of saturation, and of goodput at 1.3 and 2 times of it."""
    with running_on({cores.other}), running_service(folder) as service:
        ours = service_stack(
            "fast-lane", service, cores, per_second=_PER_SECOND, seconds=5 * rounds * seconds
        )
        for seed in range(1, rounds + 1):
            ours.reports.append(ours.load(seconds, seed=seed))
        most = median_of([report.per_second for report in ours.reports])
        calm = [
            ours.load(
                seconds,
                seed=100 + seed,
                rate_per_second=0.7 * most,
                connections=_CALM_CONNECTIONS,
            )
            for seed in range(1, rounds + 1)
        ]
        edge = psutil.Process(ours.watched["edge"][0])
        memory_mb = [edge.memory_info().rss / 1e6]
        crowded: dict[float, list[Report]] = {1.3: [], 2.0: []}
        for seed in range(1, rounds + 1):
            for factor, reports in crowded.items():
                reports.append(_overload(ours, seconds, 1_000 + seed, factor * most))
                memory_mb.append(edge.memory_info().rss / 1e6)
        kept = ours.checked()
    figures = [
        Figure(
            "latency-at-70",
            f"p99 at 70 % of saturation ({number(0.7 * most)}/s, open loop)",
            "ms",
            [report.p99_ms for report in calm],
            12,
            details={
                "p50_ms": [report.p50_ms for report in calm],
                "send_lag_p99_ms": [report.send_lag_p99_ms for report in calm],
            },
        )
    ]
    for (factor, reports), target in zip(crowded.items(), (0.9, 0.25), strict=True):
        figures.append(
            Figure(
                f"goodput-at-{factor:g}",
                f"likes counted at {factor:g} x saturation, over the peak ({number(most)}/s)",
                "",
                [_goodput(report) / most for report in reports],
                target,
                at_most=False,
                details={
                    "answers_per_s": [report.per_second for report in reports],
                    "refused_p50_ms": [report.refused_p50_ms for report in reports],
                    "refused_p99_ms": [report.refused_p99_ms for report in reports],
                    "p50_ms": [report.p50_ms for report in reports],
                    "generator_busy": [report.own_busy for report in reports],
                    "kept": kept,
                },
            )
        )
    figures.append(
        Figure(
            "overload-memory",
            "memory of the edge that the last overload added to what the first one took",
            "MB",
            [memory_mb[-1] - memory_mb[1]],
            10,
            details={"rss_mb": memory_mb},
        )
    )
    return figures


def _overload(stack: Stack, seconds: float, seed: int, per_second: float) -> Report:
    return stack.load(
        seconds,
        seed=seed,
        rate_per_second=per_second,
        connections=_CROWD_CONNECTIONS,
        overload=True,
    )


def _goodput(report: Report) -> float:
    """Likes a second that were acknowledged."""
    return report.measured_answers.get(_COUNTED, 0) / report.measured_seconds
