"""What can happen, as a table. Each fault comes, stays a while, and is over when it returns; the
walk goes on as soon as that, while processes still start and connections are still made."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import redis.asyncio as redis

from tests.conftest import wait_until_async
from tests.prove.proxy import Way
from tests.prove.world import World

PARTS = (
    *("edge-0", "edge-1", "flush", "watch", "publish", "postgres"),
    # Of the one store, or of the pair.
    *("valkey", "valkey-a", "valkey-b", "sentinel-0"),
)
_PAIR = ("valkey-a", "valkey-b")
PROXIES = ("store of the edges", "store of the rest", "database")


class Fault(NamedTuple):
    name: str
    strike: Callable[[World, random.Random], Awaitable[None]]
    weight: int = 1
    needs: str = ""
    """A part, a proxy, or what World.can."""


def _kill(part):
    async def strike(world, dice):
        world.parts[part].send(signal.SIGKILL)

    return strike


async def _kill_everything(world, dice):
    for part in world.parts.values():
        part.send(signal.SIGKILL)


def _stop(part):
    async def strike(world, dice):
        world.parts[part].send(signal.SIGSTOP)
        try:
            await asyncio.sleep(dice.uniform(0.1, 1.5))
        finally:
            world.parts[part].send(signal.SIGCONT)

    return strike


def _cut(proxy, way):
    async def strike(world, dice):
        one = world.proxies[proxy]
        one.delay_seconds = dice.uniform(0.02, 0.5)
        one.way = way
        try:
            await asyncio.sleep(dice.uniform(0.2, 1.5))
        finally:
            one.way = Way.PASS
            if way in (Way.SWALLOW, Way.ONE_WAY):
                # What it swallowed never comes: whoever waits for it has to see that.
                one.reset()

    return strike


def _reset(proxy):
    async def strike(world, dice):
        for _ in range(dice.randint(1, 4)):
            world.proxies[proxy].reset()
            await asyncio.sleep(dice.uniform(0.01, 0.2))

    return strike


async def _two_at_once(world, dice):
    await asyncio.gather(*(one.strike(world, dice) for one in dice.sample(possible(world), 2)))


async def _another(world, name):
    """Until the Sentinels name another one, or do not."""

    async def named():
        return await world.primary() not in (name, None)

    # Sentinels who were not scheduled for two seconds decide nothing for the next thirty.
    with contextlib.suppress(AssertionError):
        await wait_until_async(named, 40, "another primary")


async def _primary_killed(world, dice):
    if (name := await world.primary()) is None:
        return
    part = world.parts[name]
    part.held_back = True
    part.send(signal.SIGKILL)
    try:
        await _another(world, name)
        await asyncio.sleep(dice.uniform(0, 1))
    finally:
        part.held_back = False


async def _primary_hangs(world, dice):
    """It comes to in the belief that it is still the one."""
    if (name := await world.primary()) is None:
        return
    world.parts[name].send(signal.SIGSTOP)
    try:
        await _another(world, name)
        await asyncio.sleep(dice.uniform(0, 1))
    finally:
        world.parts[name].send(signal.SIGCONT)


async def _one_after_the_other(world, dice):
    """Who was promoted dies before the other one has caught up."""
    await _primary_killed(world, dice)
    await asyncio.sleep(dice.uniform(0, 0.5))
    await _primary_killed(world, dice)


async def _by_the_operator(world, dice):
    """The primary lives, takes likes, and is told to be none."""
    if (name := await world.primary()) is None:
        return
    await world.ask_a_sentinel_to_fail_over()
    await _another(world, name)


async def _both_killed(world, dice):
    for name in _PAIR:
        world.parts[name].send(signal.SIGKILL)


async def _replica_away(world, dice):
    """Nothing can be acknowledged meanwhile."""
    part = world.parts[_PAIR[await world.primary() == _PAIR[0]]]
    part.held_back = True
    part.send(signal.SIGKILL)
    try:
        await asyncio.sleep(dice.uniform(0.5, 3))
    finally:
        part.held_back = False


async def _replication_cut(world, dice):
    with contextlib.suppress(redis.RedisError, OSError):
        async with world.store() as store:
            for _ in range(dice.randint(1, 4)):
                await store.client_kill_filter(_type="replica")
                await asyncio.sleep(dice.uniform(0.01, 0.2))


async def _postgres_away_for_long(world, dice):
    part = world.parts["postgres"]
    part.held_back = True
    part.send(signal.SIGKILL)
    try:
        await asyncio.sleep(dice.uniform(3, 6))
    finally:
        part.held_back = False


async def _out_of_memory(world, dice):
    """maxmemory falls to what is used; the edges may see it before the store refuses."""
    async with world.store() as store:
        with contextlib.suppress(redis.RedisError, OSError):
            most = (await store.config_get("maxmemory"))["maxmemory"]
            used = (await store.info("memory"))["used_memory"]
            await store.config_set("maxmemory", used)
            try:
                await asyncio.sleep(dice.uniform(0.2, 1.5))
            finally:
                # One that was started anew meanwhile has its own.
                with contextlib.suppress(redis.RedisError, OSError):
                    await store.config_set("maxmemory", most)


async def _clock(world, dice):
    world.move_clock(dice.choice((-540, -60, -5, 5, 60, 540)))
    try:
        await asyncio.sleep(dice.uniform(0.2, 1.5))
    finally:
        world.move_clock(0)


async def _disk_full(world, dice):
    with world.full_disk():
        await asyncio.sleep(dice.uniform(0.2, 1.0))


async def _rewrite(world, dice):
    """No fault: what the store does in a quiet hour, here among faults."""
    async with world.store() as store:
        with contextlib.suppress(redis.RedisError, OSError):
            await store.bgrewriteaof()


def _possible(world, fault):
    needs = fault.needs
    return not needs or world.can.get(needs, needs in world.parts or needs in world.proxies)


FAULTS = (
    *(Fault(f"kill -9 {part}", _kill(part), 3, part) for part in PARTS),
    Fault("kill -9 everything", _kill_everything, 2),
    *(Fault(f"SIGSTOP {part}", _stop(part), 2, part) for part in PARTS),
    *(
        Fault(f"{way.value}: {proxy}", _cut(proxy, way), 1, proxy)
        for proxy in PROXIES
        for way in (Way.DELAY, Way.SWALLOW, Way.ONE_WAY, Way.REFUSE)
    ),
    *(Fault(f"reset: {proxy}", _reset(proxy), 2, proxy) for proxy in PROXIES),
    Fault("failover: primary killed", _primary_killed, 8, "fail over"),
    Fault("failover: primary hangs and comes to", _primary_hangs, 6, "fail over"),
    Fault("failover: one after the other killed", _one_after_the_other, 3, "fail over"),
    Fault("failover: by the operator", _by_the_operator, 4, "fail over"),
    Fault("kill -9 both stores", _both_killed, 2, "fail over"),
    Fault("replica away", _replica_away, 2, "fail over"),
    Fault("replication cut", _replication_cut, 3, "fail over"),
    Fault("Postgres away for long", _postgres_away_for_long),
    Fault("store out of memory", _out_of_memory, 2),
    Fault("store's clock moved", _clock, 3, "move the clock"),
    Fault("store's disk full", _disk_full, 2, "fill the disk"),
    Fault("store's file rewritten", _rewrite),
)
TWO_AT_ONCE = Fault("two at once", _two_at_once, 6)


def possible(world: World) -> list[Fault]:
    """Those that can happen here."""
    return [one for one in FAULTS if _possible(world, one)]


def choose(world: World, dice: random.Random) -> Fault:
    """The next one, of those that are possible here."""
    known = [*possible(world), TWO_AT_ONCE]
    return dice.choices(known, [one.weight for one in known])[0]
