"""python -m voting.edge.costs: the table of where a like's microseconds go."""

from voting.edge import costs


async def test_every_step_of_a_counted_like_is_timed():
    """`measure` raises where one like of its own was not answered 201."""
    steps = await costs.measure(rounds=1)
    assert len({step.name for step in steps}) == len(steps) == 13
    assert all(step.microseconds > 0 for step in steps)
