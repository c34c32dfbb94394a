"""Hours of ordinary days in minutes: does memory stay flat?

So many likes as the campaign's mean rate makes of the hours, among other requests of honest
visitors, as fast as one machine takes them beside the rest. What works by the clock works more
often meanwhile: the detectors each 15 s, the store's file rewritten each 64 MiB, a journal window
of 16 MiB. Memory is looked at after each of 24 slices, and the last third held against the middle
one; the first is for warming up.

The store is judged by what it has for each device of the day, for a day's devices are there to be
remembered. Weakness: what `watch` holds is the votes of the last two hours by the clock, which here
are all of them: it grows, and is told apart. A leak by time and not by work would not show.
"""

import statistics
from pathlib import Path
from typing import Any

from loadtest.footprint import memory_by_part
from loadtest.mixes import parse_mix
from loadtest.processes import Cores, running_on
from loadtest.report import Figure
from loadtest.service import running_service
from loadtest.stacks import service_stack

LIKES_PER_SECOND = 100_000_000 / (31 * 86_400)
"""Of the campaign, day and night: 37."""
_SLICES = 24
_REQUESTS_PER_SECOND = 5_000
_CONNECTIONS = 256
_MIX = "likes=8,repeats=0.4,again=0.1,counts=2,devices=0.5"
_BUSIER = {
    "DIANZAN_WATCH_EVERY_SECONDS": "15",
    "DIANZAN_STORE_REWRITE_MB": "64",
    "DIANZAN_JOURNAL_RETAIN_MB": "16",
}
_STEADY = ("edge", "flush", "publish", "console", "up")
"""Parts that nothing gives a reason to grow."""


def measure_soak(folder: Path, cores: Cores, *, hours: float = 8) -> list[Figure]:
    """Figures of memory after that many hours of likes. Nothing is pinned but the edge and the
    store, to one core."""
    mix = parse_mix(_MIX)
    likes = LIKES_PER_SECOND * 3_600 * hours
    seconds = likes / mix["likes"] / _REQUESTS_PER_SECOND / _SLICES
    memory: list[dict[str, float]] = []
    store_bytes: list[float] = []
    with (
        running_on({cores.other}),
        running_service(folder, settings=_BUSIER) as service,
        service.store() as store,
    ):
        stack = service_stack(
            "soak",
            service,
            cores,
            per_second=_REQUESTS_PER_SECOND * mix["likes"] / 2,
            seconds=_SLICES * seconds,
        )
        for seed in range(1, _SLICES + 1):
            stack.load(
                seconds,
                seed=seed,
                rate_per_second=_REQUESTS_PER_SECOND,
                connections=_CONNECTIONS,
                mix=mix,
            )
            memory.append(memory_by_part(service))
            store_bytes.append(float(store.info("memory")["used_memory"]) / stack.tokens_used)
        kept = stack.checked()
    by_part = {part: [each[part] for each in memory] for part in memory[0]}
    by_part.pop("other")
    grown = {part: _grown(of_part) for part, of_part in by_part.items()}
    details: dict[str, Any] = {
        "hours": hours,
        "last_third_over_middle": {part: round(ratio, 3) for part, ratio in grown.items()},
        "mb": {part: [round(each, 1) for each in of_part] for part, of_part in by_part.items()},
        "kept": kept,
    }
    return [
        Figure(
            "soak",
            f"memory after the likes of {hours:g} h, last third over middle, worst of "
            f"{', '.join(_STEADY)}",
            "",
            [max(grown[part] for part in _STEADY)],
            1.1,
            details=details,
        ),
        Figure(
            "soak-store",
            "the same of the store, per device of the day",
            "",
            [_grown(store_bytes)],
            1.1,
            details={"bytes_per_device": [round(each) for each in store_bytes]},
        ),
    ]


def _grown(samples: list[float]) -> float:
    """Median of the last third over that of the middle one."""
    third = len(samples) // 3
    return statistics.median(samples[-third:]) / statistics.median(samples[third:-third])
