"""python -m voting.edge.costs: where the microseconds of a like and of counts go."""

import re

from voting.edge import costs


async def test_every_step_of_a_counted_like_is_timed_and_counts_are_small():
    """`measure` raises where one like of its own was not answered 201, or counts not as asked."""
    steps = await costs.measure(rounds=1)
    assert len({step.name for step in steps}) == len(steps) == 16
    assert all(step.microseconds > 0 for step in steps)
    counts = next(step.name for step in steps if ", gzip, " in step.name)
    size = int(re.search(r"([\d,]+) bytes", counts)[1].replace(",", ""))
    assert size < 6_000, counts
