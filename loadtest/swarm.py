"""A swarm: one order, carried out by several processes that begin together."""

import json
import math
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from typing import Any

import msgspec

from loadtest.crowds import address_of
from loadtest.targets import CannotLoad, Target
from loadtest.voters import Order, Report

_READY_WITHIN_SECONDS = 120
_FINISH_WITHIN_SECONDS = 60
_LIKES_PER_DEVICE = 5.5
_LIKES_DEVIATION = 2.9


class SwarmError(Exception):
    """A process of the swarm could not do its part."""


def split(order: Order, processes: int, tokens: int) -> list[Order]:
    """An order for each process: connections, rate, requests and tokens in equal parts, no token
    in two of them."""
    share = tokens // processes

    def part(whole: int, number: int) -> int:
        return whole // processes + (number < whole % processes)

    return [
        msgspec.structs.replace(
            order,
            seed=order.seed + number,
            connections=part(order.connections, number),
            requests_max=part(order.requests_max, number),
            first_token=order.first_token + number * share,
            devices=share or None,
            rate_per_second=None
            if order.rate_per_second is None
            else order.rate_per_second / processes,
            rate_to_per_second=None
            if order.rate_to_per_second is None
            else order.rate_to_per_second / processes,
        )
        for number in range(processes)
    ]


def devices_needed(requests: float, mix: dict[str, float], processes: int) -> int:
    """Devices that give the likes of so many requests, with room for chance. Without likes one of
    each process where a token is shown, or 0."""
    likes = requests * mix.get("likes", 0) / sum(mix.values()) / processes
    if not likes:
        return processes if mix.get("proofs") else 0
    # Both the number of likes asked for and what each device gives are drawn.
    likes += 4 * math.sqrt(likes)
    devices = likes / _LIKES_PER_DEVICE
    return processes * math.ceil(devices + 4 * _LIKES_DEVIATION * math.sqrt(devices) / 5.5 + 1)


def candidates_of(target: Target, campaign: str) -> list[str]:
    """Ids of the campaign's candidates that may be liked; CannotLoad."""
    status, body = _ask(target, "GET", f"/v1/campaigns/{campaign}/candidates")
    if status != 200:
        raise CannotLoad(f"{target.url} has no campaign {campaign!r} (status {status})")
    try:
        found = [str(each["id"]) for each in json.loads(body)["candidates"]]
    except (ValueError, KeyError, TypeError):
        raise CannotLoad(f"{target.url} does not answer as the service does") from None
    if not found:
        raise CannotLoad(f"the campaign {campaign!r} has no candidates")
    return found


def obtain_tokens(
    target: Target, campaign: str, devices: int, on_token: Callable[[], None]
) -> list[str]:
    """Tokens of new devices, one request each; CannotLoad."""
    tokens = []
    seed = secrets.randbits(16)
    connection = HTTPConnection(target.address, target.port, timeout=10)
    try:
        for number in range(devices):
            status, body = _ask(
                target,
                "POST",
                "/v1/devices",
                json.dumps({"campaign": campaign}),
                address_of(number, seed),
                connection,
            )
            if status != 201:
                raise CannotLoad(f"{target.url} gave no device token (status {status})")
            tokens.append(str(json.loads(body)["token"]))
            on_token()
    finally:
        connection.close()
    return tokens


def _ask(
    target: Target,
    method: str,
    path: str,
    body: str | None = None,
    address: str = "11.0.0.1",
    connection: HTTPConnection | None = None,
) -> tuple[int, bytes]:
    used = connection or HTTPConnection(target.address, target.port, timeout=10)
    try:
        headers = {"Host": target.host_header, "X-Forwarded-For": address}
        if body is not None:
            headers["Content-Type"] = "text/plain;charset=UTF-8"
        used.request(method, path, body, headers)
        answer = used.getresponse()
        return answer.status, answer.read()
    except Exception as why:
        raise CannotLoad(f"{target.url} does not answer: {why or type(why).__name__}") from None
    finally:
        if connection is None:
            used.close()


class Swarm:
    """The processes of one run. Ended in `close`, whatever happened."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self._members: list[subprocess.Popen[bytes]] = []
        self._reports: list[bytes] = [b""] * len(orders)
        self._readers: list[threading.Thread] = []

    def prepare(self) -> None:
        """Start every process and wait until its requests are built and it is connected."""
        for order in self._orders:
            member = subprocess.Popen(
                [sys.executable, "-m", "loadtest.voters", "--in-step"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C is for us: we pass it on.
                start_new_session=True,
            )
            self._members.append(member)
            assert member.stdin is not None
            member.stdin.write(msgspec.json.encode(order) + b"\n")
            member.stdin.flush()
        watch = threading.Timer(_READY_WITHIN_SECONDS, self.close)
        watch.start()
        try:
            for member in self._members:
                assert member.stderr is not None
                said = member.stderr.readline()
                if said != b"ready\n":
                    rest = (said + member.stderr.read()).decode(errors="replace").strip()
                    raise SwarmError(rest.splitlines()[-1] if rest else "a generator ended early")
        finally:
            watch.cancel()

    def begin(self) -> None:
        """All at once."""

        def gather(number: int, member: subprocess.Popen[bytes]) -> None:
            assert member.stdout is not None
            self._reports[number] = member.stdout.read()

        for number, member in enumerate(self._members):
            thread = threading.Thread(target=gather, args=(number, member), daemon=True)
            thread.start()
            self._readers.append(thread)
        for member in self._members:
            assert member.stdin is not None
            member.stdin.write(b"\n")
            member.stdin.flush()

    def stop_early(self) -> None:
        for member in self._members:
            if member.poll() is None:
                member.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Whether all have finished; at most so long."""
        for thread in self._readers:
            thread.join(seconds / len(self._readers))
        return not any(thread.is_alive() for thread in self._readers)

    def reports(self) -> list[Report]:
        if not self.wait(_FINISH_WITHIN_SECONDS):
            raise SwarmError("a generator did not finish")
        made = []
        for member, report in zip(self._members, self._reports, strict=True):
            if member.wait(10) or not report:
                assert member.stderr is not None
                said = member.stderr.read().decode(errors="replace").strip()
                raise SwarmError(said.splitlines()[-1] if said else "a generator ended early")
            made.append(msgspec.json.decode(report, type=Report))
        return made

    def close(self) -> None:
        for member in self._members:
            if member.poll() is None:
                member.kill()
            member.wait(10)
        for thread in self._readers:
            thread.join(10)
        for member in self._members:
            for pipe in (member.stdin, member.stdout, member.stderr):
                if pipe is not None:
                    pipe.close()


def merged(reports: Sequence[Report], order: Order, about: dict[str, Any]) -> dict[str, Any]:
    """The document of a run, out of the reports of its processes.

    {"target", "campaign", "begun", "seconds", "mix", "rate", "processes", "connections",
     "generator": {"cpu_us", "busy", "send_lag_p99_ms", "limit": bool},
     "kinds": {kind: {"requests", "per_second", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms",
                      "curve": [[percentile, ms]], "statuses": {status: count}}},
     "unexpected", "refused", "refused_p99_ms", "acknowledged", "lost", "interrupted",
     "by_second": [{"second", "offered_per_s", "answers", "refused", "unexpected", "p50_ms",
                    "p99_ms", ...}]}

    Everything but `acknowledged` and `lost` is of the measured time, without the warm-up;
    `acknowledged` is what the campaign's tally must have grown by, at least: a lost like may have
    been counted as well. Status 0: without an answer at the end. `limit`: a core of the generator
    was busy for more than 90 %, or it sent later than intended by more than 3 ms at p99.
    `refused_p99_ms`: of the process where it was longest. `offered_per_s`: what the order asks for
    in that second, null in a closed loop.
    """
    from loadtest.histograms import curve_ms, merge, percentiles_ms
    from loadtest.mixes import KINDS, OVERLOADED

    seconds = max(report.measured_seconds for report in reports)
    answers = sum(sum(report.measured_answers.values()) for report in reports)
    cpu = sum(
        report.own_cpu_us * max(1, sum(report.measured_answers.values())) for report in reports
    )
    lag = max(report.send_lag_p99_ms for report in reports)
    busy = max(report.own_busy for report in reports)
    kinds: dict[str, Any] = {}
    unexpected = refused = 0
    for kind, (expected, _) in KINDS.items():
        parts = [report.kinds[kind] for report in reports if kind in report.kinds]
        if not parts:
            continue
        statuses: dict[int, int] = {}
        for part in parts:
            for status, count in part.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
        requests = sum(statuses.values())
        histogram = merge(part.histogram for part in parts)
        refused += statuses.get(OVERLOADED, 0)
        unexpected += sum(
            count
            for status, count in statuses.items()
            if status not in expected and status != OVERLOADED
        )
        kinds[kind] = {
            "requests": requests,
            "per_second": round(requests / seconds, 1),
            **percentiles_ms(histogram),
            "curve": curve_ms(histogram),
            "statuses": {str(status): statuses[status] for status in sorted(statuses)},
        }
    by_second = []
    for second in sorted({second for report in reports for second in report.seconds}):
        here = [report.seconds[second] for report in reports if second in report.seconds]
        by_second.append(
            {
                "second": second,
                "offered_per_s": _offered(order, second + 0.5),
                "answers": sum(each.answers for each in here),
                "refused": sum(each.refused for each in here),
                "unexpected": sum(each.unexpected for each in here),
                **percentiles_ms(merge(each.histogram for each in here)),
            }
        )
    return {
        **about,
        "seconds": round(seconds, 3),
        "mix": order.mix,
        "processes": len(reports),
        "connections": order.connections,
        "generator": {
            "cpu_us": round(cpu / max(1, answers), 1),
            "busy": round(busy, 3),
            "send_lag_p99_ms": round(lag, 3),
            "limit": busy > 0.9 or lag > 3,
        },
        "kinds": kinds,
        "unexpected": unexpected,
        "refused": refused,
        "refused_p99_ms": round(max(report.refused_p99_ms for report in reports), 3),
        "acknowledged": sum(sum(report.accepted.values()) for report in reports),
        "lost": sum(report.lost for report in reports),
        "interrupted": any(report.interrupted for report in reports),
        "by_second": by_second,
    }


def _offered(order: Order, moment: float) -> float | None:
    """Requests a second that an order asks for, so many seconds after its warm-up."""
    first, last = order.rate_per_second, order.rate_to_per_second
    if first is None or last is None:
        return first
    return round(first + (last - first) * min(1.0, moment / order.seconds), 1)
