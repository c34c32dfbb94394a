"""Who runs on a data folder: the lock, and the notes for whoever comes after."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local.run_folder import (
    AlreadyUp,
    addresses_of_running_servers,
    hold_run_folder,
    port_of_running_console,
)


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_folder_is_held_by_one_at_a_time_and_the_second_learns_by_whom(tmp_path):
    with (
        hold_run_folder(tmp_path),
        pytest.raises(AlreadyUp, match=f"pid {os.getpid()}"),
        hold_run_folder(tmp_path),
    ):
        pass
    with hold_run_folder(tmp_path):
        pass  # free again


def test_a_noted_child_that_still_lives_is_an_orphan_of_the_next_run(tmp_path, sleeper):
    with hold_run_folder(tmp_path) as run:
        run.note("edge-0", sleeper.pid, signal.SIGTERM)
    with hold_run_folder(tmp_path) as run:
        [orphan] = run.orphans()
    assert (orphan.name, orphan.process.pid) == ("edge-0", sleeper.pid)
    assert orphan.stop_signal == signal.SIGTERM


def test_a_child_that_ended_is_no_orphan_reaped_or_not(tmp_path, sleeper):
    with hold_run_folder(tmp_path) as run:
        run.note("edge-0", sleeper.pid, signal.SIGTERM)
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert run.orphans() == [], "a zombie"
        sleeper.wait()
        assert run.orphans() == []


def test_a_later_owner_of_a_noted_pid_is_no_orphan(tmp_path, sleeper):
    with hold_run_folder(tmp_path) as run:
        run.note("edge-0", sleeper.pid, signal.SIGTERM)
        notes = tmp_path / "run" / "processes.json"
        noted = json.loads(notes.read_text())
        noted["edge-0"]["create_time"] -= 0.01
        notes.write_text(json.dumps(noted))
        assert run.orphans() == []


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"edge-0": 1}', '{"edge-0": {"pid": "x"}}'])
def test_torn_notes_name_nobody(tmp_path, torn):
    with hold_run_folder(tmp_path) as run:
        (tmp_path / "run" / "processes.json").write_text(torn)
        assert run.orphans() == []


class Valkey:
    """As much of a Valkey as answers, on a socket of its own."""

    name = "valkey-server"

    def __init__(self, folder):
        self.socket_path = folder / "v.sock"
        self.url = f"unix://{self.socket_path}"

    @contextlib.contextmanager
    def running(self, answer=b"+PONG\r\n"):
        def serve(listener):
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as line:
                        line.recv(16)
                        line.sendall(answer)

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket_path))
            listener.listen()
            serving = threading.Thread(target=serve, args=(listener,))
            serving.start()
            yield
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
        self.socket_path.unlink()


def test_a_server_is_found_only_while_it_takes_commands(tmp_path):
    valkey = Valkey(tmp_path)
    with hold_run_folder(tmp_path) as run:
        assert addresses_of_running_servers(tmp_path) == {}
        run.note_servers([valkey])
        assert addresses_of_running_servers(tmp_path, patience_seconds=0) == {}
        with valkey.running(b"-LOADING\r\n"):
            assert addresses_of_running_servers(tmp_path, patience_seconds=0) == {}
        with valkey.running():
            assert addresses_of_running_servers(tmp_path) == {valkey.name: valkey.url}


def test_a_server_that_is_away_is_waited_for_while_somebody_is_there_to_start_it(tmp_path):
    valkey = Valkey(tmp_path)
    with hold_run_folder(tmp_path) as run, ThreadPoolExecutor() as threads:
        run.note_servers([valkey])
        found = threads.submit(addresses_of_running_servers, tmp_path, 30)
        with valkey.running():
            assert found.result(30) == {valkey.name: valkey.url}
    (tmp_path / "run" / "up.lock").write_text(str(2**22 + 1))  # above every pid
    begun = time.monotonic()
    assert addresses_of_running_servers(tmp_path, 30) == {}
    assert time.monotonic() - begun < 10


def test_the_console_is_found_only_while_its_up_runs(tmp_path):
    assert port_of_running_console(tmp_path) is None
    with hold_run_folder(tmp_path) as run:
        assert port_of_running_console(tmp_path) is None
        run.note_console(8123)
        assert port_of_running_console(tmp_path) == 8123
    (tmp_path / "run" / "up.lock").write_text(str(2**22 + 1))  # above every pid
    assert port_of_running_console(tmp_path) is None


def test_a_folder_that_is_not_there_has_no_servers(tmp_path):
    assert addresses_of_running_servers(tmp_path / "nowhere") == {}
