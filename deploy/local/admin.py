"""The admin port of `dianzan up`: one place to ask how all of its processes are.

/metrics   every process' metrics, each sample with a label `process`, and our own
/healthz   each process' state; 503 while one of them is not ready
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from deploy.local.children import Kept, KeptProcess, State

_FETCH_TIMEOUT = aiohttp.ClientTimeout(total=2)
_METRICS_MAX_BYTES = 4 * 2**20

Children = Callable[[], Sequence[Kept]]


def admin_app(children: Children) -> web.Application:
    """The application; `children` says who there is at the moment of the call."""

    async def healthz(_: web.Request) -> web.Response:
        kept = children()
        well = all(child.state is State.READY for child in kept)
        return web.json_response(
            {
                "status": "ok" if well else "degraded",
                "processes": {
                    child.name: {
                        "state": child.state,
                        "pid": child.pid,
                        "restarts": child.restarts,
                    }
                    for child in kept
                },
            },
            status=200 if well else 503,
            headers={"Cache-Control": "no-store"},
        )

    async def metrics(_: web.Request) -> web.Response:
        kept = children()
        asked = {
            child.name: child.facts["admin"]
            for child in kept
            if isinstance(child, KeptProcess) and "admin" in child.facts
        }
        async with aiohttp.ClientSession(timeout=_FETCH_TIMEOUT) as session:
            texts = await asyncio.gather(*(_fetch(session, url) for url in asked.values()))
        answered = {name: text for name, text in zip(asked, texts, strict=True) if text is not None}
        # Parsing is a few milliseconds a process, and nobody else waits for this loop.
        return web.Response(
            body=_exposition([*merged(answered), *_own_metrics(kept)]),
            headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"},
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    return app


def merged(texts: dict[str, str]) -> list[Metric]:
    """Metric families of several processes as one list, each sample labelled with its process.

    A process whose text cannot be parsed is left out.
    """
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        try:
            parsed = list(text_string_to_metric_families(text))
        except ValueError:
            continue
        for family in parsed:
            whole = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            whole.samples += [
                sample._replace(labels={**sample.labels, "process": process})
                for sample in family.samples
            ]
    return list(families.values())


def _own_metrics(kept: Sequence[Kept]) -> Iterable[Metric]:
    restarts = CounterMetricFamily(
        "dianzan_process_restarts", "How often this process was started again.", labels=["process"]
    )
    ready = GaugeMetricFamily(
        "dianzan_process_ready", "1 while this process serves, else 0.", labels=["process"]
    )
    for child in kept:
        restarts.add_metric([child.name], child.restarts)
        ready.add_metric([child.name], child.state is State.READY)
    return restarts, ready


def _exposition(families: Sequence[Metric]) -> bytes:
    class Once(Collector):
        def collect(self) -> Iterable[Metric]:
            return families

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry)


async def _fetch(session: aiohttp.ClientSession, admin_url: str) -> str | None:
    """One process' metrics; nothing where it does not answer in time."""
    try:
        async with session.get(f"{admin_url}/metrics") as answer:
            if answer.status != 200:
                return None
            body = await answer.content.read(_METRICS_MAX_BYTES)
            while not answer.content.at_eof() and len(body) < _METRICS_MAX_BYTES:
                body += await answer.content.read(_METRICS_MAX_BYTES - len(body))
            return body.decode()
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
        return None
