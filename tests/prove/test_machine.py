"""Faults as Hypothesis chooses them: where it finds something, it says the shortest way there."""

import asyncio
import random
import threading

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.prove.faults import FAULTS, possible
from tests.prove.walk import Crowd, Walked, check
from tests.prove.world import World

STEPS, EXAMPLES = 10, 3


class Machine(RuleBasedStateMachine):
    """One service and its clients for each example; a step is a fault, several at once, a pause or
    a comparison."""

    @initialize()
    def begin(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.walked = Walked(0)
        self.dice = random.Random(0)
        self.struck = 0
        self.world = World(0)
        self._do(self.world.__aenter__())
        self.crowd = self._do(self._crowd())

    async def _crowd(self):
        return Crowd(self.world, 6)

    def _do(self, what):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(240)

    @rule(fault=st.sampled_from(FAULTS))
    def strike(self, fault):
        if fault in possible(self.world):
            self._do(fault.strike(self.world, self.dice))
            self.struck += 1

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=2, max_size=3, unique=True))
    def strike_together(self, faults):
        async def all_of_them():
            await asyncio.gather(
                *(
                    one.strike(self.world, self.dice)
                    for one in faults
                    if one in possible(self.world)
                )
            )

        self._do(all_of_them())
        self.struck += 1

    @rule(seconds=st.floats(0, 1.5))
    def pause(self, seconds):
        self._do(asyncio.sleep(seconds))

    @precondition(lambda self: self.struck >= 3)
    @rule()
    def compare(self):
        self.struck = 0
        self._do(check(self.world, self.crowd, self.walked))
        assert self.walked.ok, self.walked.as_text()

    @invariant()
    def clients_go_on(self):
        for task in self.crowd._tasks:
            assert not task.done(), task

    def teardown(self):
        try:
            self._do(check(self.world, self.crowd, self.walked))
            assert self.walked.ok, self.walked.as_text()
        finally:
            try:
                self._do(self.crowd.end())
            finally:
                self._do(self.world.__aexit__(None, None, None))
                self.loop.call_soon_threadsafe(self.loop.stop)
                self.thread.join(10)
                self.loop.close()


Machine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    # The same each time: a run of CI must not depend on luck. The walk has seeds.
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestMachine(Machine.TestCase):
    pass
