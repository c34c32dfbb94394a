"""What one like costs, in seconds of processor, bytes and seconds of disk.

From build/bench.json where `make bench` wrote one; what it did not measure is the shipped
reference, and each figure says which of the two it is.
"""

import json
import statistics
from pathlib import Path
from typing import Any, Literal

import msgspec

Source = Literal["measured here", "reference", "assumed"]


class UnitFigure(msgspec.Struct, frozen=True):
    """One cost of one thing."""

    value: float
    unit: str
    source: Source
    what: str


class CannotRead(Exception):
    """The bench's file is none; the text says which, and why."""


REFERENCE = {
    "edge_us": UnitFigure(31.4, "us", "reference", "edge CPU of a like, at saturation"),
    "store_us": UnitFigure(12.9, "us", "reference", "store CPU of a like, at saturation"),
    "device_us": UnitFigure(83.2, "us", "reference", "edge CPU of a new device with its proof"),
    "counts_us": UnitFigure(13.0, "us", "reference", "edge CPU of a request for all counts"),
    "device_day_bytes": UnitFigure(
        210, "bytes", "reference", "store memory of a device-day of 10 likes"
    ),
    "connection_kb": UnitFigure(1.62, "kB", "reference", "edge memory of an idle connection"),
    "watch_us": UnitFigure(2.6, "us", "reference", "near-line CPU of a like"),
    "log_rows_per_s": UnitFigure(80_000, "1/s", "reference", "votes into the log, beside work"),
    "fsync_ms": UnitFigure(0.31, "ms", "reference", "one fdatasync of the store's disk"),
    "flush_rows_per_s": UnitFigure(
        81_000, "1/s", "reference", "journal to commit, beside other work"
    ),
    "postgres_us": UnitFigure(5.6, "us", "reference", "Postgres CPU of a like, rows and log"),
    "postgres_bytes": UnitFigure(
        285, "bytes", "reference", "a like in Postgres: 200 of its row and index, 85 of the log"
    ),
    "aof_bytes": UnitFigure(
        200, "bytes", "reference", "a like in the store's append-only file, full batches"
    ),
}
"""Of two shared cores of an AMD EPYC, 2026-11-24; the fsync is of the first measurements.

Flushing, Postgres and the append-only file: 87,665 likes at 7,900/s through `dianzan up`, beside
other work, 2026-11-27. What Postgres keeps of its write-ahead log (1 GB by default) is not in it.
"""

ASSUMED = {
    "daily_peak_share": UnitFigure(
        0.12, "", "assumed", "share of a day's likes in its busiest hour"
    ),
    "busy_at_most": UnitFigure(0.6, "", "assumed", "share of a part's time that the peak takes"),
    "likes_per_device_day": UnitFigure(5, "", "assumed", "likes of a device on a day it comes"),
    "counts_per_like": UnitFigure(
        0.05, "", "assumed", "requests for counts that reach the edge past the CDN, per like"
    ),
    "new_devices_per_like": UnitFigure(0.1, "", "assumed", "new devices per like at the peak"),
    "request_bytes": UnitFigure(850, "bytes", "assumed", "a like as the edge receives it"),
    "answer_bytes": UnitFigure(450, "bytes", "assumed", "its answer"),
    "connection_seconds": UnitFigure(15, "s", "assumed", "how long a voter's connection stays"),
    "hot_days": UnitFigure(3, "", "assumed", "days whose device records are in the store"),
}

# Path in bench.json -> figure it replaces.
_MEASURED = {
    ("stacks", "fast-lane", "edge_us"): "edge_us",
    ("stacks", "fast-lane", "store_us"): "store_us",
    ("figures", "devices-with-proof", "measured"): "device_us",
    ("figures", "counts", "measured"): "counts_us",
    ("figures", "device-day", "measured"): "device_day_bytes",
    ("figures", "idle-connection", "measured"): "connection_kb",
}


def read_figures(bench: Path | None) -> dict[str, UnitFigure]:
    """All figures by name; those that this file of the bench has replace the reference.

    A quick bench proves little, so nothing is taken from one. CannotRead where the file is no
    bench's.
    """
    figures = REFERENCE | ASSUMED
    if bench is None:
        return figures
    try:
        seen = json.loads(bench.read_text())
    except (OSError, ValueError) as why:
        raise CannotRead(f"{bench}: {why}") from None
    if not isinstance(seen, dict) or "figures" not in seen:
        raise CannotRead(f"{bench}: not what `make bench` writes")
    if seen.get("quick"):
        return figures
    for path, name in _MEASURED.items():
        value = _at(seen, path)
        if isinstance(value, int | float) and value > 0:
            figures[name] = msgspec.structs.replace(
                figures[name], value=float(value), source="measured here"
            )
    rows = [
        each["flusher_rows_per_s"]
        for each in _at(seen, ("figures", "flusher", "details", "rounds")) or ()
    ]
    if rows:
        figures["flush_rows_per_s"] = UnitFigure(
            statistics.median(rows), "1/s", "measured here", "journal to commit, full entries"
        )
    return figures


def _at(seen: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        seen = seen.get(key) if isinstance(seen, dict) else None
    return seen
