"""Fast lanes of edges, to look at their connections and to turn their clock."""

from tests.conftest import wait_until_async
from voting.edge import app as edge_app
from voting.edge.fast_lane import FastLane


def remember_lanes(monkeypatch):
    """The lanes that edges make from now on, in their order."""
    made = []

    def remember(*args, **options):
        made.append(FastLane(*args, **options))
        return made[-1]

    monkeypatch.setattr(edge_app, "FastLane", remember)
    return made


async def wait_for(condition, what):
    async def holds():
        return condition()

    return await wait_until_async(holds, what=what)


async def only_connection(lane):
    await wait_for(lambda: len(lane.connections) == 1, "the connection")
    return next(iter(lane.connections))


def later(lane, seconds):
    """Let the lane believe that so many seconds went by, and act on it."""
    then = lane.now() + seconds
    lane.now = lambda: then
    lane.end_late()
