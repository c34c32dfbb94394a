"""A short walk over the faults. `make prove` is the long one."""

import asyncio
import shutil
import signal

import pytest

from tests.prove.clients import read_files
from tests.prove.faults import possible
from tests.prove.walk import Crowd, Walked, check, walk
from tests.prove.world import World


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_on_a_short_walk():
    walked = asyncio.run(walk(14, seed=11, check_every=7))
    assert walked.ok, walked.as_text()
    assert walked.checks == 2
    assert walked.acknowledged > 100
    assert walked.retries, "nothing was hit"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_where_the_store_fails_over():
    walked = asyncio.run(walk(12, seed=2, pair=True, check_every=6, clients=6))
    assert walked.ok, walked.as_text()
    assert walked.failovers >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_fault_by_itself_is_survived():
    async def one_after_another():
        import random

        dice = random.Random(4)
        walked = Walked(4)
        async with World(4) as world:
            crowd = Crowd(world, 8)
            try:
                for fault in possible(world):
                    await fault.strike(world, dice)
                    await asyncio.sleep(0.2)
                await check(world, crowd, walked)
            finally:
                await crowd.end()
        return walked

    walked = asyncio.run(one_after_another())
    assert walked.ok, walked.as_text()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_service_that_loses_likes_is_found_out():
    """The walk itself, over a store that was set back behind everybody's back."""

    async def set_back():
        walked = Walked(5)
        async with World(5) as world:
            crowd = Crowd(world, 4)
            try:
                await check(world, crowd, walked)
                assert walked.ok, walked.as_text()
                # Nobody flushes: what is in the journal is nowhere else.
                world.parts["flush"].held_back = True
                world.parts["flush"].send(signal.SIGKILL)
                valkey = world.parts["valkey"]
                valkey.held_back = True
                before = world.folder / "before"
                valkey.send(signal.SIGSTOP)
                shutil.copytree(
                    world._store_home / "valkey",
                    before,
                    ignore=shutil.ignore_patterns("*.sock"),
                )
                valkey.send(signal.SIGCONT)
                had = len(read_files(world.folder / "clients").acknowledged)
                while len(read_files(world.folder / "clients").acknowledged) < had + 20:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(valkey.end)
                shutil.rmtree(world._store_home / "valkey")
                shutil.copytree(before, world._store_home / "valkey")
                await check(world, crowd, walked)
            finally:
                await crowd.end()
        return walked

    walked = asyncio.run(set_back())
    assert len(walked.findings.lost) >= 20
