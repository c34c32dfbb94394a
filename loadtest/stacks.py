"""Stacks: whatever takes the like, ready to be measured.

A stack's servers run on one core: its edge, and the store that it waits for. Whoever sends the
load has the other core, with what works beside a like and not for it (the service's flusher and
Postgres, which no peer has).
"""

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loadtest.mixes import KINDS, MIXES
from loadtest.peers.checks import CAMPAIGN as PEER_CAMPAIGN
from loadtest.peers.checks import CANDIDATES, Rules, Setup, mint
from loadtest.peers.running import PEERS, PeerError, running_peer
from loadtest.processes import Cores, pin
from loadtest.report import median_of
from loadtest.service import CAMPAIGN, CANDIDATE_IDS, Service, ServiceError, until
from loadtest.store import Store, running_store
from loadtest.voters import Order, Report

CONNECTIONS = 256
LIKES_PER_DEVICE = 5.5
DEVICES_AT_ONCE = 1_000
"""Of a crowd; so many devices have not given all their likes when a run ends."""
_AHEAD = 1.5
"""Requests that are prepared, over those that are thought to be needed."""
_FLUSHED_SECONDS_MAX = 60


@dataclass
class Stack:
    """Something that takes likes, and what was sent to it."""

    name: str
    port: int
    campaign: str
    tokens: Path
    watched: dict[str, list[int]]
    """"edge" and "store": the processes whose CPU time is told apart."""
    check: Callable[[Counter[str]], object] = lambda accepted: None
    """Raises ServiceError where the stack has other likes than were acknowledged."""
    per_second: float = 12_000
    """At full speed, as far as is known: how much to prepare for."""
    tokens_used: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    reports: list[Report] = field(default_factory=list)
    """Of the rounds that count."""

    def load(
        self,
        seconds: float,
        *,
        seed: int,
        rate_per_second: float | None = None,
        connections: int = CONNECTIONS,
        mix: Mapping[str, float] = MIXES["likes"],
        overload: bool = False,
        candidates: int = len(CANDIDATE_IDS),
    ) -> Report:
        """One run by devices that were not seen before; closed loop unless there is a rate.
        ServiceError where an answer is not the expected one; `overload` expects 503 as well."""
        warm_up = _warm_up(seconds)
        per_second = rate_per_second or self.per_second * _AHEAD
        report = send(
            Order(
                port=self.port,
                campaign=self.campaign,
                candidates=CANDIDATE_IDS[:candidates],
                tokens_file=str(self.tokens),
                first_token=self.tokens_used,
                seed=seed,
                connections=connections,
                rate_per_second=rate_per_second,
                requests_max=int(per_second * 1.1 * (seconds + warm_up)),
                warm_up_seconds=warm_up,
                seconds=seconds,
                mix=dict(mix),
                watched=self.watched,
            )
        )
        self.tokens_used += report.devices
        self.accepted.update(report.accepted)
        if rate_per_second is None:
            self.per_second = report.per_second
        unexpected = {
            (kind, status): count
            for kind, seen in report.kinds.items()
            for status, count in seen.statuses.items()
            if status not in KINDS[kind].expected and not (overload and status == 503)
        }
        if unexpected or report.lost:
            raise ServiceError(
                f"{self.name} did not answer as it should: {unexpected}, {report.lost} lost"
            )
        return report

    def checked(self) -> dict[str, Any]:
        """Assert that it has the likes that it acknowledged, and no others."""
        self.check(self.accepted)
        return {"acknowledged": self.accepted.total(), "kept": "equal"}


def send(order: Order) -> Report:
    """Carry out an order in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.voters"],
        input=msgspec.json.encode(order),
        capture_output=True,
        timeout=order.warm_up_seconds + order.seconds + 90,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"the generator failed: {done.stderr.decode()[-500:]}")
    return msgspec.json.decode(done.stdout, type=Report)


def service_stack(
    name: str,
    service: Service,
    cores: Cores,
    *,
    per_second: float,
    seconds: float,
    store: Sequence[int] = (),
) -> Stack:
    """A running service with the campaign of the load runs, and tokens for so many seconds of
    load at such a rate. `store`: its store's processes, where they are not its own."""
    service.pin_edge(cores.measured)
    store = store or service.pids("valkey-server")
    for pid in store:
        pin(pid, {cores.measured})
    service.import_campaign()
    return Stack(
        name,
        service.port,
        CAMPAIGN,
        service.mint(_devices(per_second, seconds)),
        {"edge": service.pids("edge"), "store": list(store)},
        lambda accepted: check_tally(service, accepted),
        per_second,
    )


@contextlib.contextmanager
def peer_stack(
    name: str, service: Service, folder: Path, cores: Cores, *, per_second: float, seconds: float
) -> Iterator[Stack]:
    """A peer over a store of its own, set up as the service's is. PeerAbsent where this machine
    lacks a program that it needs."""
    peer = PEERS[name]
    key = bytes(range(32))
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(running_store(service.store(), folder / "store"))
        pin(store.pid, {cores.measured})
        library = folder / "library.lua"
        library.write_text(service.library())
        setup = Setup(store.url, key, Rules(), str(folder), str(library))
        try:
            running = opened.enter_context(running_peer(peer.module, setup.as_environment()))
        except PeerError as why:
            raise ServiceError(str(why)) from why
        for pid in running.pids:
            pin(pid, {cores.measured})
        tokens = folder / "tokens"
        devices = _devices(per_second, seconds)
        tokens.write_text("".join(token + "\n" for token in mint(key, devices)))
        yield Stack(
            name,
            running.port,
            PEER_CAMPAIGN,
            tokens,
            {"edge": running.pids, "store": [store.pid]},
            lambda accepted: _check_peer(name, store, accepted),
            per_second,
        )


@contextlib.contextmanager
def fixed_answer_stack(name: str, module: str, tokens: Path, cores: Cores) -> Iterator[Stack]:
    """A server that gives a fixed answer; it needs no tokens of its own, and keeps nothing."""
    with running_peer(module, {}) as running:
        for pid in running.pids:
            pin(pid, {cores.measured})
        yield Stack(name, running.port, CAMPAIGN, tokens, {"edge": running.pids}, per_second=40_000)


def _warm_up(seconds: float) -> float:
    return min(1.0, seconds / 2)


def _devices(per_second: float, seconds: float) -> int:
    """How many devices are needed where a machine is half as fast again as was thought."""
    likes = 1.5 * _AHEAD * per_second * seconds * (1 + _warm_up(1))
    return int(likes / LIKES_PER_DEVICE) + 20 * DEVICES_AT_ONCE


def check_tally(service: Service, accepted: Counter[str]) -> dict[str, Any]:
    """Assert that Postgres and the hot state have exactly the likes that were acknowledged."""
    total = accepted.total()
    until(
        lambda: service.tally(hot=False)["counted"] >= total,
        _FLUSHED_SECONDS_MAX,
        f"a tally of {total} in Postgres",
    )
    for hot in (False, True):
        tally = service.tally(hot=hot)
        where = "the hot state" if hot else "Postgres"
        sums = {word: tally[word] for word in ("received", "counted", "held", "struck", "refused")}
        if sums["received"] != sums["counted"] + sums["held"] + sums["struck"] + sums["refused"]:
            raise ServiceError(f"in {where} the sums are not right: {sums}")
        _compare(where, tally["counts"], accepted)
    return {"acknowledged": total, "postgres": "equal", "hot": "equal"}


def _check_peer(name: str, store: Store, accepted: Counter[str]) -> None:
    by_number = {str(number).encode(): each for each, number in CANDIDATES.items()}
    tally = store.client.hgetall(PEERS[name].tally_key)
    kept = {bytes(field): int(count) for field, count in tally.items()}  # type: ignore[arg-type]
    if foreign := set(kept) - set(by_number):
        raise ServiceError(f"{name} has votes that are not counted: {foreign}")
    _compare(name, {by_number[number]: count for number, count in kept.items()}, accepted)


def _compare(where: str, counts: Mapping[str, int], accepted: Counter[str]) -> None:
    wrong = {
        candidate: (counts.get(candidate, 0), accepted[candidate])
        for candidate in counts.keys() | accepted.keys()
        if counts.get(candidate, 0) != accepted[candidate]
    }
    if wrong:
        raise ServiceError(
            f"{where} has {sum(counts.values())} likes, {accepted.total()} were acknowledged; "
            f"candidates that differ (has, acknowledged): {dict(list(wrong.items())[:5])}"
        )


def medians(reports: list[Report], cores: Cores) -> dict[str, float]:
    """What was seen of one stack over its rounds."""

    def median(of: Callable[[Report], float]) -> float:
        return round(median_of([of(report) for report in reports]), 3)

    return {
        "likes_per_s": median(lambda r: r.per_second),
        "p50_ms": median(lambda r: r.p50_ms),
        "p99_ms": median(lambda r: r.p99_ms),
        "edge_us": median(lambda r: r.cpu_us["edge"]),
        "store_us": median(lambda r: r.cpu_us.get("store", 0.0)),
        "generator_us": median(lambda r: r.own_cpu_us),
        "generator_busy": median(lambda r: r.own_busy),
        "servers_core_busy": median(lambda r: r.busy[cores.measured]),
        "other_core_busy": median(lambda r: r.busy[cores.other]),
    }


def cost_us(report: Report) -> float:
    """CPU of edge and store per answer."""
    return sum(report.cpu_us.values())


def cost_ratios(ours: list[Report], theirs: list[Report]) -> list[float]:
    """Of each round, our cost over theirs."""
    return [cost_us(mine) / cost_us(other) for mine, other in zip(ours, theirs, strict=True)]
