"""What a like costs as the service outgrows one worker, one shard and one server.

Rounds are interleaved with those of one worker and one shard on one server. A shard more means a
batch more for the same ballots: the ratio is that, and what it costs to keep the shards apart. In
the Cluster each shard has a server of its own, reached by TCP where the embedded one has a socket
of Unix.

Weakness: but for the second worker everything measured shares one core, so this is CPU time per
like and no throughput.
"""

import contextlib
from pathlib import Path

from loadtest.processes import Cores, pin, running_on
from loadtest.report import Figure
from loadtest.service import running_service
from loadtest.stacks import Stack, cost_ratios, medians, service_stack
from loadtest.store import running_cluster

_PER_SECOND = 22_000
_ONE, _TWO, _CLUSTER = "1 worker x 1 shard", "2 workers x 2 shards", "cluster"
_TWO_SHARDS = {"DIANZAN_SHARDS": "2"}


def measure_shards(folder: Path, cores: Cores, *, rounds: int, seconds: float) -> list[Figure]:
    """Figures of cost with two workers and two shards, and in a Cluster, over one of each."""
    with running_on({cores.other}), contextlib.ExitStack() as opened:
        one = opened.enter_context(running_service(folder / "one"))
        two = opened.enter_context(running_service(folder / "two", workers=2, settings=_TWO_SHARDS))
        url, nodes = opened.enter_context(running_cluster(one.store(), folder / "nodes"))
        cluster = opened.enter_context(
            running_service(folder / "cluster", settings={**_TWO_SHARDS, "DIANZAN_VALKEY_URL": url})
        )
        stacks: dict[str, Stack] = {
            name: service_stack(
                name,
                service,
                cores,
                per_second=_PER_SECOND,
                seconds=rounds * seconds,
                store=nodes if service is cluster else (),
            )
            for name, service in ((_ONE, one), (_TWO, two), (_CLUSTER, cluster))
        }
        # A worker is there to use a core that another one leaves free: each has its own.
        for pid in stacks[_TWO].watched["edge"][1:]:
            pin(pid, {cores.other})
        for seed in range(1, rounds + 1):
            for stack in stacks.values():
                stack.reports.append(stack.load(seconds, seed=seed))
        kept = {name: stack.checked() for name, stack in stacks.items()}
    seen = {
        name: {**medians(stack.reports, cores), "kept": kept[name]}
        for name, stack in stacks.items()
    }
    return [
        Figure(
            "shards",
            "CPU of edge + store per like, 2 workers x 2 shards over 1 x 1",
            "",
            cost_ratios(stacks[_TWO].reports, stacks[_ONE].reports),
            1.25,
            details={name: seen[name] for name in (_ONE, _TWO)},
        ),
        Figure(
            "cluster",
            "the same, 1 worker and 2 shards in a Cluster of 2 over one server",
            "",
            cost_ratios(stacks[_CLUSTER].reports, stacks[_ONE].reports),
            1.35,
            details={name: seen[name] for name in (_ONE, _CLUSTER)},
        ),
    ]
