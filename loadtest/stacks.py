"""The same like through the service and through its peers: how many, at what cost, how fast.

Every stack's server runs alone on one core; stores, flusher, Postgres and the generator share the
other. Rounds are interleaved, since these machines change speed while one looks, and a ratio is
taken within a round.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loadtest.peers import redis_py
from loadtest.processes import Cores, pin, running_on
from loadtest.report import Figure, median_of
from loadtest.service import (
    CAMPAIGN,
    CANDIDATE_IDS,
    Service,
    ServiceError,
    running_service,
    until,
)
from loadtest.store import running_store
from loadtest.voters import Order, Report

CONNECTIONS = 128
OPEN_CONNECTIONS = 256
_LIKES_PER_DEVICE = 5.5
_DEVICES_AT_ONCE = 1_000
_FLUSHED_SECONDS_MAX = 30


@dataclass
class Stack:
    """Something that takes likes, and what was sent to it."""

    name: str
    port: int
    campaign: str
    tokens: Path
    watched: dict[str, list[int]]
    per_second_guess: float
    """How many requests to prepare for a second at full speed."""
    tokens_used: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    reports: list[Report] = field(default_factory=list)
    """Of the closed-loop rounds."""

    def load(self, seconds: float, *, seed: int, rate_per_second: float | None = None) -> Report:
        """One run by devices that were not seen before; closed loop unless there is a rate."""
        warm_up = min(1.0, seconds / 2)
        per_second = rate_per_second or self.per_second_guess * 1.6
        report = send(
            Order(
                port=self.port,
                campaign=self.campaign,
                candidates=CANDIDATE_IDS,
                tokens_file=str(self.tokens),
                first_token=self.tokens_used,
                seed=seed,
                connections=CONNECTIONS if rate_per_second is None else OPEN_CONNECTIONS,
                rate_per_second=rate_per_second,
                requests_max=int(per_second * 1.1 * (seconds + warm_up)),
                warm_up_seconds=warm_up,
                seconds=seconds,
                watched=self.watched,
            )
        )
        self.tokens_used += report.devices
        self.accepted.update(report.accepted)
        if rate_per_second is None:
            self.per_second_guess = report.per_second
        refused = {status: n for status, n in report.answers.items() if status != 201}
        if refused or report.lost:
            raise ServiceError(f"{self.name} did not take all likes: {refused}, {report.lost} lost")
        return report


def send(order: Order) -> Report:
    """Carry out an order in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.voters"],
        input=msgspec.json.encode(order),
        capture_output=True,
        timeout=order.warm_up_seconds + order.seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"the generator failed: {done.stderr.decode()[-500:]}")
    return msgspec.json.decode(done.stdout, type=Report)


def measure_stacks(
    folder: Path, cores: Cores, *, rounds: int, seconds: float
) -> tuple[list[Figure], dict[str, Any]]:
    """Figures of throughput, cost and latency; and per stack what was seen (medians)."""
    with running_on({cores.other}), contextlib.ExitStack() as opened:
        # aiohttp is compared with aiohttp: without the fast lane in front of it.
        service = opened.enter_context(running_service(folder / "service", fast_lane=False))
        service.pin_edge(cores.measured)
        service.import_campaign()
        # Enough for closed and open rounds at twice what any machine has shown.
        likes = rounds * (seconds + 1) * 1.6 * (25_000 + 12_500)
        devices = int(likes / _LIKES_PER_DEVICE) + 2 * rounds * _DEVICES_AT_ONCE
        ours = Stack(
            "aiohttp",
            service.port,
            CAMPAIGN,
            service.mint(devices),
            {"edge": service.pids("edge"), "store": service.pids("valkey-server")},
            12_000,
        )
        bare_port, bare_pid = opened.enter_context(running_peer("bare_aiohttp", cores.measured, {}))
        # A fixed answer needs no token of its own.
        bare = Stack("bare", bare_port, CAMPAIGN, ours.tokens, {"edge": [bare_pid]}, 25_000)
        peer = opened.enter_context(_redis_py(service, folder / "peer", cores, devices // 3))
        stacks = (bare, ours, peer)
        for seed in range(1, rounds + 1):
            for stack in stacks:
                stack.reports.append(stack.load(seconds, seed=seed))
                bare.tokens_used = 0
        half = 0.5 * median_of([report.per_second for report in ours.reports])
        paced = [
            ours.load(seconds, seed=100 + seed, rate_per_second=half)
            for seed in range(1, rounds + 1)
        ]
        checked = check_tally(service, ours.accepted)
    seen = {stack.name: _medians(stack.reports, cores) for stack in stacks}
    seen["aiohttp at half its rate"] = _medians(paced, cores)
    figures = [
        Figure(
            "throughput",
            "likes/s over requests/s of bare aiohttp",
            "",
            [
                mine.per_second / fixed.per_second
                for mine, fixed in zip(ours.reports, bare.reports, strict=True)
            ],
            0.5,
            at_most=False,
            details={"tally": checked},
        ),
        Figure(
            "cost",
            "CPU of edge + store per like over redis-py's",
            "",
            [
                sum(mine.cpu_us.values()) / sum(theirs.cpu_us.values())
                for mine, theirs in zip(ours.reports, peer.reports, strict=True)
            ],
            0.45,
        ),
        Figure(
            "latency",
            f"p99 at half of that rate ({half:,.0f}/s, open loop)",
            "ms",
            [report.p99_ms for report in paced],
            15,
        ),
    ]
    return figures, seen


def check_tally(service: Service, accepted: Counter[str]) -> dict[str, Any]:
    """Assert that Postgres and the hot state have exactly the likes that were acknowledged."""
    total = accepted.total()
    until(
        lambda: service.tally(hot=False)["received"] >= total,
        _FLUSHED_SECONDS_MAX,
        f"a tally of {total} in Postgres",
    )
    for hot in (False, True):
        tally = service.tally(hot=hot)
        where = "the hot state" if hot else "Postgres"
        sums = {word: tally[word] for word in ("received", "counted", "held", "struck", "refused")}
        if sums["received"] != sums["counted"] + sums["held"] + sums["struck"] + sums["refused"]:
            raise ServiceError(f"in {where} the sums are not right: {sums}")
        wrong = {
            candidate: (count, accepted[candidate])
            for candidate, count in tally["counts"].items()
            if count != accepted[candidate]
        }
        if wrong or sums["counted"] != total:
            raise ServiceError(
                f"{where} has {sums['counted']} likes, {total} were acknowledged; candidates that "
                f"differ (has, acknowledged): {dict(list(wrong.items())[:5])}"
            )
    return {"acknowledged": total, "postgres": "equal", "hot": "equal"}


@contextlib.contextmanager
def running_peer(module: str, core: int, settings: dict[str, str]) -> Iterator[tuple[int, int]]:
    """(port, pid) of a peer of loadtest.peers on this core."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"loadtest.peers.{module}"],
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ServiceError(f"the peer {module} did not start")
        pin(process.pid, {core})
        yield json.loads(line)["port"], process.pid
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@contextlib.contextmanager
def _redis_py(service: Service, folder: Path, cores: Cores, devices: int) -> Iterator[Stack]:
    key = secrets.token_bytes(32)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(running_store(service.store(), folder))
        settings = {"PEER_REDIS_URL": store.url, "PEER_KEY": key.hex()}
        port, pid = opened.enter_context(running_peer("redis_py", cores.measured, settings))
        tokens = folder / "tokens"
        tokens.write_text("".join(token + "\n" for token in redis_py.mint(key, devices)))
        watched = {"edge": [pid], "store": [store.pid]}
        yield Stack("redis-py", port, redis_py.CAMPAIGN, tokens, watched, 5_000)


def _medians(reports: list[Report], cores: Cores) -> dict[str, float]:
    def median(of: Any) -> float:
        return round(median_of([of(report) for report in reports]), 3)

    return {
        "likes_per_s": median(lambda r: r.per_second),
        "p50_ms": median(lambda r: r.p50_ms),
        "p99_ms": median(lambda r: r.p99_ms),
        "edge_us": median(lambda r: r.cpu_us["edge"]),
        "store_us": median(lambda r: r.cpu_us.get("store", 0.0)),
        "generator_us": median(lambda r: r.own_cpu_us),
        "edge_share": median(lambda r: r.cpu_us["edge"] * r.per_second / 1e6),
        "edge_core_busy": median(lambda r: r.busy[cores.measured]),
        "other_core_busy": median(lambda r: r.busy[cores.other]),
    }
