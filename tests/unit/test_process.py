"""How a long-lived process starts, speaks, logs and stops: each in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVE = """
import sys
from voting import process

async def serve(child):
    child.announce({"admin": "http://127.0.0.1:1"})
    child.announce({"admin": "never said"})
    await child.stop_event.wait()
    print("stopped in order", flush=True)

process.run(serve, ready_fd=int(sys.argv[1]), lifeline_fd=int(sys.argv[2]))
"""

LOG = """
import logging, sys, structlog
from voting import process
process.configure_logging("info", process="edge-0")
log = structlog.get_logger()
name = "\\u70b9\\u8d5e\\r\\nforged\\x1b[2J\\x85\\u2028line"
log.info("said", name=name, inside=[name], raw=name.encode())
log.debug("below the level")
logging.getLogger("aiohttp.server").warning("of the library: %s", name)
try:
    raise ValueError(name)
except ValueError:
    log.exception("broken")
"""


@contextlib.contextmanager
def child(program, pass_fds=(), arguments=()):
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        pass_fds=pass_fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def serving():
    """A child that has announced itself: (process, what it said, our end of its lifeline)."""
    ready, ready_there = os.pipe()
    lifeline_there, lifeline = os.pipe()
    there = (ready_there, lifeline_there)
    with child(SERVE, there, there) as process:
        for descriptor in there:
            os.close(descriptor)
        with os.fdopen(ready) as announcement, os.fdopen(lifeline, "w") as lifeline_file:
            yield process, announcement.read(), lifeline_file


def stopped_in_order(process):
    out, err = process.communicate(timeout=10)
    return (process.returncode, out, err) == (0, "stopped in order\n", "")


def test_a_child_announces_itself_once_in_one_line_and_closes(serving):
    _, said, _ = serving
    assert said == '{"admin": "http://127.0.0.1:1"}\n'


def test_a_child_stops_in_order_when_its_supervisor_is_gone(serving):
    process, _, lifeline = serving
    lifeline.close()
    assert stopped_in_order(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_child_stops_in_order_on_a_signal_and_a_second_one_changes_nothing(serving, number):
    process, _, _ = serving
    process.send_signal(number)
    process.send_signal(number)
    assert stopped_in_order(process)


def test_a_child_whose_starter_does_not_listen_serves_all_the_same():
    ready, ready_there = os.pipe()
    lifeline_there, lifeline = os.pipe()
    os.close(ready)
    there = (ready_there, lifeline_there)
    with child(SERVE, there, there) as process:
        for descriptor in (*there, lifeline):
            os.close(descriptor)
        assert stopped_in_order(process)


def test_no_event_breaks_a_line_of_the_log():
    with child(LOG) as process:
        _, err = process.communicate(timeout=10)
    assert "点赞" in err
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["event"].split(":")[0] for line in lines] == ["said", "of the library", "broken"]
    assert {line["process"] for line in lines} == {"edge-0"}
    assert lines[0]["name"] == "点赞\r\nforged\x1b[2J\x85\u2028line"
    assert "ValueError" in lines[2]["exception"]


def test_no_event_moves_the_cursor_of_a_terminal():
    leader, follower = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", LOG], stderr=follower, cwd=Path(__file__).parents[2]
    ) as process:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while some := os.read(leader, 4096):
                shown += some
        process.wait(10)
    os.close(leader)
    assert "点赞".encode() in shown
    assert b"ValueError" in shown
    assert b"\x1b[2J" not in shown
    before_traceback = shown.split(b"Traceback")[0]
    assert before_traceback.count(b"\n") == 3, "one line an event"


def test_a_log_that_nobody_reads_raises_into_nobody():
    program = LOG + "\nprint('alive', flush=True)\n"
    with child(program) as process:
        process.stderr.close()
        assert process.stdout.read() == "alive\n"


def test_the_limit_of_open_files_is_raised_to_what_the_system_grants():
    program = """
import resource
from voting import process
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
print(process.raise_open_files_limit() == hard)
"""
    with child(program) as process:
        assert process.communicate(timeout=10)[0] == "True\n"
