"""What the hot requests beside a like cost the edge: a device's token, with and without a proof,
and the counts that every open page asks for.

One kind at a time, in a closed loop. Only the edge's CPU counts: none of them asks the store. Half
of the requests for counts say what they have (If-None-Match), and are answered with 304.
Known weakness: all requests for counts have one head, which the edge knows after the first one, so
what a head costs that it reads for the first time is in the devices' figures alone.
"""

from pathlib import Path
from statistics import median

from loadtest.processes import Cores, running_on
from loadtest.report import Figure
from loadtest.service import CANDIDATES, running_service
from loadtest.stacks import service_stack
from loadtest.voters import Report

# About as many a second as a core of 2026 answers: how much to prepare for the first round.
_PER_SECOND = {
    "devices": 25_000,
    "proofs": 25_000,
    "counts": 60_000,
    "counts-whole": 60_000,
    "counts-known": 60_000,
}


def measure_requests(folder: Path, cores: Cores, *, rounds: int, seconds: float) -> list[Figure]:
    """Figures of the edge's CPU per request, one kind alone at a time."""
    per_second = dict(_PER_SECOND)
    seen: dict[str, list[Report]] = {kind: [] for kind in per_second}
    with running_on({cores.other}), running_service(folder) as service:
        # No kind uses up a device.
        stack = service_stack("fast-lane", service, cores, per_second=1, seconds=1)
        for seed in range(1, rounds + 1):
            for kind, reports in seen.items():
                stack.per_second = per_second[kind]
                reports.append(stack.load(seconds, seed=seed, mix={kind: 1.0}))
                per_second[kind] = stack.per_second
    costs = {kind: [report.cpu_us["edge"] for report in reports] for kind, reports in seen.items()}
    return [
        Figure(
            "devices",
            "CPU of the edge per new device's token",
            "us",
            costs["devices"],
            70,
            details=_medians(seen["devices"]),
        ),
        Figure(
            "devices-with-proof",
            "the same, with the proof that follows",
            "us",
            [sum(both) for both in zip(costs["devices"], costs["proofs"], strict=True)],
            100,
            details={"proof_us": costs["proofs"], **_medians(seen["proofs"])},
        ),
        Figure(
            "counts",
            f"CPU of the edge per request for the counts of {CANDIDATES} candidates",
            "us",
            costs["counts"],
            15,
            details={
                "whole_200_us": costs["counts-whole"],
                "unchanged_304_us": costs["counts-known"],
                **_medians(seen["counts"]),
            },
        ),
    ]


def _medians(reports: list[Report]) -> dict[str, float]:
    return {
        "per_s": median(report.per_second for report in reports),
        "p99_ms": median(report.p99_ms for report in reports),
        "generator_us": median(report.own_cpu_us for report in reports),
        "generator_busy": median(report.own_busy for report in reports),
    }
