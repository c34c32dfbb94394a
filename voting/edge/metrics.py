"""Metrics of one edge process, in a registry of its own.

Hot counters are plain integers, read by a collector when somebody asks: a labelled
prometheus_client counter costs 1 us per like, this 0.05; a Counter keyed by an Enum 0.4.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from voting.ballot import Cast, Outcome


class EdgeMetrics:
    """Counts what the edge does. `gauges` are read at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._outcomes = [0] * (1 + max(Outcome))
        self._again = 0
        self.in_lane = 0
        """Requests that the fast lane answered."""
        self.by_aiohttp = 0
        """Requests that aiohttp answered."""
        self.problems: Counter[str] = Counter()
        self.identities: Counter[tuple[str, str]] = Counter()
        """Portals' assertions by (portal, what became of it); of none of ours the portal is ""."""
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._batch_seconds = Histogram(
            "dianzan_batch_seconds",
            "From a batch's call of the store to its answer, fsync included.",
            registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2),
        )
        self._batch_ballots = Histogram(
            "dianzan_batch_ballots",
            "Ballots in one batch.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def count(self, cast: Cast) -> None:
        """One ballot whose client is told what became of it."""
        self._outcomes[cast.outcome] += 1
        self._again += cast.again

    @property
    def counted(self) -> int:
        """Votes made since the start, held ones included."""
        return self._outcomes[Outcome.COUNTED] + self._outcomes[Outcome.HELD] - self._again

    def gauge(self, name: str) -> float:
        """What a gauge shows now; 0 where there is none yet."""
        return self.gauges[name][1]() if name in self.gauges else 0.0

    def observe_batch(self, ballots: int, seconds: float) -> None:
        self._batch_ballots.observe(ballots)
        self._batch_seconds.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        ballots = CounterMetricFamily(
            "dianzan_ballots", "Ballots cast, by what became of them.", labels=["outcome"]
        )
        for outcome in Outcome:
            ballots.add_metric([outcome.name.lower().replace("_", "-")], self._outcomes[outcome])
        yield ballots
        yield CounterMetricFamily(
            "dianzan_clicks_again",
            "Ballots whose click was cast before; part of outcome counted.",
            value=self._again,
        )
        requests = CounterMetricFamily(
            "dianzan_requests", "Requests, by who answered them.", labels=["lane"]
        )
        requests.add_metric(["fast"], self.in_lane)
        requests.add_metric(["aiohttp"], self.by_aiohttp)
        yield requests
        problems = CounterMetricFamily(
            "dianzan_requests_refused", "Requests that became no ballot.", labels=["problem"]
        )
        for problem, count in sorted(self.problems.items()):
            problems.add_metric([problem], count)
        yield problems
        identities = CounterMetricFamily(
            "dianzan_identities",
            "Assertions of portals about their users, by what became of them.",
            labels=["portal", "result"],
        )
        for (portal, result), count in sorted(self.identities.items()):
            identities.add_metric([portal, result], count)
        yield identities
        for name, (help_text, read) in self.gauges.items():
            yield GaugeMetricFamily(name, help_text, value=read())

    def render(self) -> bytes:
        return generate_latest(self.registry)
