"""Latencies as HDR histograms: recorded in microseconds, sent between processes as text."""

import collections
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

_HIGHEST_US = 600_000_000
_DIGITS = 3


def fold(latencies: Iterable[float]) -> str:
    """Seconds -> an encoded histogram. Longer than ten minutes counts as ten minutes."""
    made = HdrHistogram(1, _HIGHEST_US, _DIGITS)
    by_us = collections.Counter(int(latency * 1e6) for latency in latencies)
    for microseconds, count in by_us.items():
        made.record_value(min(max(microseconds, 1), _HIGHEST_US), count)
    return str(made.encode().decode("ascii"))


def merge(encoded: Iterable[str]) -> HdrHistogram:
    """One histogram of all that these hold."""
    merged = HdrHistogram(1, _HIGHEST_US, _DIGITS)
    for text in encoded:
        merged.decode_and_add(text.encode("ascii"))
    return merged


def percentiles_ms(histogram: HdrHistogram) -> dict[str, float]:
    """p50_ms ... max_ms; zeros of an empty one."""
    if not histogram.get_total_count():
        return dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"), 0.0)
    shares = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "p999_ms": 99.9, "max_ms": 100}
    return {name: histogram.get_value_at_percentile(share) / 1e3 for name, share in shares.items()}


def curve_ms(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """(percentile, ms) as far as there are values to tell percentiles apart."""
    shares = (0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.975, 99.99)
    count = histogram.get_total_count()
    return [
        (share, histogram.get_value_at_percentile(share) / 1e3)
        for share in shares
        if count * (100 - share) >= 100
    ]
