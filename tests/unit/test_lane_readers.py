"""How long a connection of the fast lane is let be whose client reads an answer, and sends nothing:
with a fake transport and a fake clock."""

import pytest

from voting.edge import protocol
from voting.edge.fast_lane import FastLane

NEARLY = protocol.KEEP_ALIVE_SECONDS - 5


class Socket:
    """A transport whose client takes what the test says."""

    def __init__(self):
        self.unread, self.ended = 0, False

    def get_extra_info(self, name):
        return ("192.0.2.1", 5)

    def get_write_buffer_size(self):
        return self.unread

    def is_closing(self):
        return self.ended

    def abort(self):
        self.ended = True

    close = abort


@pytest.fixture
async def lane():
    """A lane whose clock is `lane.clock`."""
    lane = FastLane(None, None, connections_max=9)
    lane.clock = 1_000.0
    lane.now = lambda: lane.clock
    return lane


@pytest.fixture
async def reading(lane):
    """(connection, socket) with an answer of 8 MB that was begun."""
    connection, socket = lane(), Socket()
    connection.connection_made(socket)
    connection._held_since = 0.0  # its request has come
    socket.unread = 8_000_000
    connection.pause_writing()
    return connection, socket


def pass_by(lane, seconds):
    """As the edge does it: it looks each second."""
    for _ in range(int(seconds)):
        lane.clock += 1
        lane.end_late()


async def test_who_reads_one_piece_after_the_other_may_take_its_time(lane, reading):
    connection, socket = reading
    for _ in range(5):
        pass_by(lane, NEARLY)
        assert not socket.ended
        connection.resume_writing()
        connection.pause_writing()


async def test_who_reads_one_large_answer_slowly_may_take_its_time(lane, reading):
    _, socket = reading
    for _ in range(5):
        pass_by(lane, NEARLY)
        assert not socket.ended
        socket.unread -= 1_000_000


async def test_who_reads_nothing_is_gone(lane, reading):
    _, socket = reading
    pass_by(lane, NEARLY)
    assert not socket.ended
    pass_by(lane, 10)
    assert socket.ended


async def test_who_has_read_to_the_end_has_the_keep_alive_from_then_on(lane, reading):
    connection, socket = reading
    pass_by(lane, NEARLY)
    socket.unread = 0
    connection.resume_writing()
    pass_by(lane, NEARLY)
    assert not socket.ended
    pass_by(lane, 10)
    assert socket.ended
