"""A long walk over the faults, and what came of it.

    make prove                                             1,000 faults, half an hour
    python -m tests.prove.walk --faults 50 --seed 3        a short one, with its own seed
    python -m tests.prove.walk --pair --faults 200         over a pair of stores that fails over

The seed decides which faults come, in which order and for how long; what they hit is the machine's
to decide. Each check has all clients rest, heals everything and compares (checker.py). Writes
build/prove.json and build/prove.txt (prove-pair). Exit code 1: something was lost, doubled, or does
not add up.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.conftest import wait_until_async
from tests.prove.checker import Findings, compare
from tests.prove.clients import Client, read_files
from tests.prove.faults import choose
from tests.prove.world import SETTLED_SECONDS, World

_PAUSES = 0.7
_AGAIN_SECONDS = 20


@dataclass
class Walked:
    """The whole walk."""

    seed: int
    pair: bool = False
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0
    checks: int = 0
    acknowledged: int = 0
    unknown: int = 0
    unknown_stored: int = 0
    stored: int = 0
    retries: int = 0
    failovers: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    @property
    def ok(self) -> bool:
        return self.findings.none

    def as_json(self) -> dict[str, object]:
        found = {name: value for name, value in vars(self).items() if name != "findings"}
        return found | {"findings": asdict(self.findings), "ok": self.ok}

    def as_text(self) -> str:
        lines = [
            f"{sum(self.faults.values()):,} faults in {self.seconds / 60:.0f} minutes, seed "
            f"{self.seed}; compared {self.checks} times",
            f"acknowledged {self.acknowledged:,}, all of them stored: "
            f"{'no' if self.findings.lost else 'yes'}",
            f"stored {self.stored:,} = acknowledged + {self.unknown_stored:,} of "
            f"{self.unknown:,} whose client had no answer",
            f"lost {len(self.findings.lost)}, doubled {len(self.findings.doubled)}, foreign "
            f"{len(self.findings.foreign)}, sums that differ {len(self.findings.sums)}",
            f"tries again: {self.retries:,}",
            *([f"failovers: {self.failovers:,}"] if self.pair else []),
            "",
            *(f"{count:5}  {name}" for name, count in self.faults.most_common()),
            "",
            "started anew: "
            + ", ".join(f"{name} {times}" for name, times in self.restarts.items()),
        ]
        if self.impossible:
            lines.append(f"not possible here: {', '.join(self.impossible)}")
        lines += self.findings.sums
        return "\n".join(lines) + "\n"


class Crowd:
    """Clients at work, who can be asked to rest."""

    def __init__(self, world: World, number: int) -> None:
        self._folder = world.folder / "clients"
        self._folder.mkdir()
        self._stop, self._go = asyncio.Event(), asyncio.Event()
        self.clients = [Client(n, self._folder, world, world.seed) for n in range(number)]
        self._go.set()
        self._tasks = [
            asyncio.create_task(client.like_until(self._stop, self._go)) for client in self.clients
        ]

    @contextlib.asynccontextmanager
    async def resting(self):
        """Nobody likes meanwhile: each has its answer, or has given up."""
        self._go.clear()
        async with asyncio.timeout(SETTLED_SECONDS):
            while any(client.liking for client in self.clients):
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)
        yield read_files(self._folder)
        self._go.set()

    @property
    def acknowledged(self) -> int:
        return sum(client.acknowledged for client in self.clients)

    async def acknowledged_again(self, likes: int = 20) -> None:
        """Until so many more were acknowledged, or it takes too long for a walk."""
        wanted = self.acknowledged + likes

        async def enough():
            return self.acknowledged >= wanted

        with contextlib.suppress(AssertionError):
            await wait_until_async(enough, _AGAIN_SECONDS, "likes")

    async def end(self) -> None:
        self._stop.set()
        self._go.set()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients:
            client.close()
        for result in results:
            if isinstance(result, BaseException):
                raise result


async def check(world: World, crowd: Crowd, walked: Walked) -> None:
    """Heal, rest, compare; what is wrong is in `walked` from then on."""
    await world.heal()
    async with crowd.resting() as told:
        kept = await world.kept()
        found = compare(told, kept)
    if kept.leaves < 0:
        found.sums.append(f"no rest within {SETTLED_SECONDS} s: {world.why_not_at_rest}")
    walked.checks += 1
    walked.findings = found
    walked.acknowledged, walked.unknown = len(told.acknowledged), len(told.unknown)
    walked.stored = len(kept.votes)
    walked.unknown_stored = walked.stored - walked.acknowledged
    walked.retries = sum(client.retries for client in crowd.clients)
    walked.failovers = world.failovers
    walked.restarts = {name: part.starts - 1 for name, part in world.parts.items()}


async def walk(
    faults: int,
    seed: int,
    *,
    pair: bool = False,
    clients: int = 12,
    check_every: int = 50,
    say=lambda line: None,
) -> Walked:
    """Walk, and compare every so often; ends early where something is wrong."""
    dice = random.Random(seed)
    walked = Walked(seed, pair)
    began = time.monotonic()
    async with World(seed, pair=pair) as world:
        walked.impossible = [what for what, can in world.can.items() if not can]
        crowd = Crowd(world, clients)
        try:
            for number in range(1, faults + 1):
                fault = choose(world, dice)
                walked.faults[fault.name] += 1
                await fault.strike(world, dice)
                await asyncio.sleep(dice.uniform(0, 0.6))
                # Who was away has to catch up before anything is acknowledged on two disks: faults
                # without a pause would hit a service at rest.
                if world.pair and dice.random() < _PAUSES:
                    await crowd.acknowledged_again()
                if number % check_every == 0 or number == faults:
                    await check(world, crowd, walked)
                    walked.seconds = time.monotonic() - began
                    say(
                        f"{number} faults, {walked.seconds:.0f} s: {walked.acknowledged:,} "
                        f"acknowledged, {walked.stored:,} stored"
                    )
                    if not walked.ok:
                        break
        finally:
            await crowd.end()
        if not walked.ok:
            walked.findings.sums += last_words(world)
    return walked


def last_words(world: World) -> list[str]:
    """The end of each process's log, for whoever has to find out."""
    return [
        f"--- {path.name}\n{path.read_text(errors='replace')[-2_000:]}"
        for path in sorted(world.logs.iterdir())
    ]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--faults", type=int, default=1_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--clients", type=int, default=12)
    options.add_argument("--pair", action="store_true", help="Over a pair that fails over.")
    options.add_argument("--out", type=Path, default=Path("build"))
    asked = options.parse_args()
    begun = datetime.now(UTC)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    walked = asyncio.run(
        walk(asked.faults, asked.seed, pair=asked.pair, clients=asked.clients, say=say)
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    name = "prove-pair" if asked.pair else "prove"
    (asked.out / f"{name}.json").write_text(
        json.dumps({"begun": begun.isoformat(timespec="seconds"), **walked.as_json()}, indent=1)
    )
    (asked.out / f"{name}.txt").write_text(walked.as_text())
    print(walked.as_text())
    return 0 if walked.ok else 1


if __name__ == "__main__":
    sys.exit(main())
