"""`make bench`: does every group of figures still run, on the real service?"""

import json
import subprocess
import sys

import pytest

GROUPS = {
    "stacks": {
        *("cost-over-first-written", "cost-over-redis-py", "cost-over-aiohttp"),
        "cost-over-floor",
    },
    "overload": {"latency-at-70", "goodput-at-1.3", "goodput-at-2", "overload-memory"},
    "bare": {"throughput", "latency"},
    "flusher": {"flusher"},
    "start": {"start", "rest"},
    "device-day": {"device-day"},
    "stalls": {"stall-growth", "stall-rewrite"},
    "growth": {"growth-devices", "growth-workers"},
    "fsync": {"fsync"},
    "requests": {"devices", "devices-with-proof", "counts"},
    "idle": {"idle-connection", "idle-held"},
    "shards": {"shards", "cluster"},
    "soak": {"soak", "soak-store"},
}
OF_PEERS = {
    "nginx-lua": {"cost-over-nginx-lua", "throughput-over-nginx-lua"},
    "go": {"cost-over-go"},
    "go-group-commit": {"cost-over-go-group-commit"},
}
"""Figures that are there where the peer's program is."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_figures_is_measured_and_written(group, tmp_path):
    # The bench asserts by itself that the tally is what was acknowledged.
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", "--quick", "--only", group, "--out", out],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    wanted = set(GROUPS[group])
    for peer, figures in OF_PEERS.items():
        wanted |= figures if peer in written["stacks"] else set()
    assert set(written["figures"]) == wanted
    assert all(
        figure["measured"] > 0 or figure["unit"] == "MB" for figure in written["figures"].values()
    )
    assert all(figure["what"] in done.stdout for figure in written["figures"].values())
    if group == "stacks":
        assert {"aiohttp", "fast-lane", "redis-py", "first-written"} <= set(written["stacks"])
        assert set(OF_PEERS) == (set(written["stacks"]) | set(written["absent"])) & set(OF_PEERS)
        assert written["floor_us"] > 0
        for stack in written["stacks"].values():
            assert {"likes_per_s", "p50_ms", "p99_ms", "edge_us", "store_us"} <= set(stack)


def test_an_unknown_group_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", "--only", "nothing"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "no such group: nothing" in done.stderr
