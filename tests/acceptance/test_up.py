"""`dianzan up`, as whoever runs it sees it: started, refused, killed in every way, stopped."""

import contextlib
import json
import os
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from deploy.local.run_folder import runs
from tests.acceptance.conftest import Service, a_service, kill_all, processes_of
from tests.conftest import wait_until

OWN = ("edge-0", "flush", "watch", "publish", "console")
SERVERS = ("valkey-server", "postgres")


@pytest.fixture(scope="module")
def warm() -> Iterator[Service]:
    """A data folder for these tests alone, that has been up before."""
    with a_service() as warm:
        warm.up()
        yield warm


@pytest.fixture
def down(warm: Service) -> Service:
    """The warm folder with nothing running on it."""
    warm.end()
    warm.said = ""
    return warm


@pytest.fixture
def up(warm: Service) -> Service:
    """The warm folder, up and well: the one that the last test left, if it is."""
    warm.said = ""
    if warm.process.poll() is not None or not serves(warm):
        warm.end()
        warm.up()
    return warm


def get(url) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own)
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def health(service: Service) -> dict:
    return json.loads(get(f"{service.ready['admin']}/healthz")[1])


def serves(service: Service) -> bool:
    """Whether every process is ready and the edge takes votes, if there is a campaign."""
    edge = service.ready["edge"]
    with contextlib.suppress(OSError):
        return (
            get(f"{service.ready['admin']}/healthz")[0] == 200
            and get(f"{edge}/readyz" if service.ready["campaign"] else f"{edge}/healthz")[0] == 200
        )
    return False


def test_the_ready_line_names_everything_and_is_all_of_stdout(service):
    ready = service.ready
    assert list(ready) == [
        *("ready", "pid", "edge", "console", "admin", "campaign", "valkey", "postgres", "data")
    ]
    assert ready["ready"] is True
    assert ready["pid"] == service.process.pid
    assert ready["campaign"] == "demo"
    assert ready["data"] == str(service.data_dir)
    assert get(ready["edge"])[0] == 200
    assert "登录" in get(f"{ready['console']}/sign-in")[1].decode()
    assert service.printed.count("\n") == 1
    assert ready["edge"] in service.said, "people are shown where to click"
    assert ready["console"] in service.said
    assert "dianzan staff add NAME --role admin" in service.said, "nobody has an account yet"


def test_a_process_list_shows_each_part(service):
    lines = {name: psutil.Process(pid).cmdline() for name, pid in service.pids().items()}
    assert " ".join(psutil.Process(service.ready["pid"]).cmdline()).endswith("dianzan up")
    assert "dianzan edge " in " ".join(lines["edge-0"])
    for name in ("flush", "watch", "publish", "console"):
        assert f"dianzan {name} " in " ".join(lines[name])
    assert "valkey-server " in " ".join(lines["valkey-server"])
    assert "postgres " in " ".join(lines["postgres"])


def test_each_child_lives_in_a_session_of_its_own(service):
    for pid in service.pids().values():
        assert os.getsid(pid) == pid


def test_the_data_folder_is_closed_to_others(service):
    for folder in (service.data_dir, *(service.data_dir / n for n in ("run", "logs", "secrets"))):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0, folder


def test_health_names_every_process_and_metrics_are_labelled_with_theirs(service):
    status, body = get(f"{service.ready['admin']}/healthz")
    assert status == 200
    assert set(json.loads(body)["processes"]) == {*OWN, *SERVERS}
    metrics = get(f"{service.ready['admin']}/metrics")[1].decode()
    assert 'dianzan_process_restarts_total{process="postgres"} 0.0' in metrics
    assert 'dianzan_process_ready{process="edge-0"} 1.0' in metrics
    assert 'outcome="counted",process="edge-0"' in metrics


def test_other_commands_find_the_servers_by_the_data_folder_alone(service):
    tally = service.dianzan("tally", "--campaign", "demo", "--json")
    assert tally.returncode == 0, tally.stderr
    assert json.loads(tally.stdout)["campaign"] == "demo"
    assert service.dianzan("migrate").returncode == 0


def test_other_commands_wait_for_servers_that_are_just_being_started_again(up):
    for name in SERVERS:
        os.kill(up.pids()[name], signal.SIGKILL)
    tally = up.dianzan("tally", "--campaign", "demo", "--json", "--hot")
    assert tally.returncode == 0, tally.stderr


def test_a_command_on_a_folder_without_an_up_says_so_in_one_line(down):
    tally = down.dianzan("tally", "--campaign", "demo", "--json")
    assert tally.returncode == 2
    assert tally.stdout == ""
    assert tally.stderr.count("\n") == 1
    assert "dianzan up" in tally.stderr


def test_a_second_up_on_one_folder_is_refused_and_names_the_first(service):
    second = service.dianzan("up")
    assert second.returncode == 2
    assert second.stdout == ""
    assert f"pid {service.ready['pid']}" in second.stderr
    assert serves(service)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_signal_stops_everything_in_order_and_leaves_no_process(up, number):
    begun = time.monotonic()
    assert up.stop(number) == 0
    assert time.monotonic() - begun < 20
    assert processes_of(up.data_dir) == []
    assert "killed" not in up.said
    assert "SIGKILL" not in up.said


def test_a_second_ctrl_c_changes_nothing(up):
    up.process.send_signal(signal.SIGINT)
    wait_until(lambda: "Stopping" in up.said, what="the begin of the stop")
    assert up.stop(signal.SIGINT) == 0
    assert processes_of(up.data_dir) == []


@pytest.mark.parametrize("name", [*OWN, *SERVERS])
def test_a_child_that_is_killed_comes_back_and_it_is_said(up, name):
    restarts = health(up)["processes"][name]["restarts"]
    killed = up.pids()[name]
    os.kill(killed, signal.SIGKILL)
    wait_until(
        lambda: up.pids().get(name, killed) != killed and serves(up), 30, f"{name} to come back"
    )
    assert f"{name} was ended by SIGKILL" in up.said
    wait_until(lambda: f"{name} is back" in up.said, what="the word that it is back")
    assert health(up)["processes"][name]["restarts"] == restarts + 1


def test_health_is_degraded_while_a_child_is_away(up):
    # Killed again and again, it waits longer each time: long enough to be seen.
    seen = []

    def degraded() -> bool:
        with contextlib.suppress(KeyError, ProcessLookupError):
            os.kill(up.pids()["flush"], signal.SIGKILL)
        seen.append(get(f"{up.ready['admin']}/healthz")[0])
        return seen[-1] == 503

    wait_until(degraded, what="a degraded health")
    wait_until(lambda: serves(up), 30, "everything to be back")


def test_the_port_waits_for_a_worker_that_died_and_refuses_nobody(up):
    host, port = up.ready["edge"].removeprefix("http://").split(":")
    os.kill(up.pids()["edge-0"], signal.SIGKILL)
    with socket.create_connection((host, int(port)), 5) as client:
        client.settimeout(30)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_after_kill_9_of_everything_the_next_up_goes_on(up):
    made = (up.data_dir / "secrets" / "keys.json").read_bytes()
    kill_all(processes_of(up.data_dir))
    assert up.wait() == -signal.SIGKILL
    up.up()
    wait_until(lambda: serves(up), what="serving")
    assert (up.data_dir / "secrets" / "keys.json").read_bytes() == made
    assert up.stop() == 0


def test_after_kill_9_of_the_supervisor_its_processes_end_and_the_next_up_ends_its_servers(up):
    left = {name: psutil.Process(pid) for name, pid in up.pids().items()}
    up.process.kill()
    wait_until(
        lambda: not any(runs(left[name]) for name in OWN), 15, "the end of our own processes"
    )
    assert all(runs(left[name]) for name in SERVERS)
    up.wait()
    up.up()
    assert not any(runs(process) for process in left.values())
    for name in SERVERS:
        assert f"{name}, pid {left[name].pid}, is left from a killed run" in up.said
    assert serves(up)
    assert up.stop() == 0


@pytest.mark.slow
def test_servers_that_no_note_names_are_found_all_the_same(up):
    left = {name: psutil.Process(up.pids()[name]) for name in SERVERS}
    up.process.kill()
    up.wait()
    (up.data_dir / "run" / "processes.json").unlink()
    up.up()
    assert not any(runs(process) for process in left.values())
    assert up.stop() == 0


def test_a_pid_that_was_given_to_somebody_else_is_left_alone(up):
    """After a reboot, say: the notes and Postgres' own pid file name our own pid."""
    kill_all(processes_of(up.data_dir))
    up.wait()
    notes = up.data_dir / "run" / "processes.json"
    noted = json.loads(notes.read_text())
    for held in noted.values():
        held["pid"] = os.getpid()  # the create_time is not ours
    notes.write_text(json.dumps(noted))
    pid_file = up.data_dir / "postgres" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join((str(os.getpid()), *rest)) + "\n")
    up.up()
    wait_until(lambda: serves(up), what="serving")


@pytest.mark.parametrize("setting", ["DIANZAN_EDGE_PORT", "DIANZAN_ADMIN_PORT"])
def test_a_port_in_use_is_said_with_its_setting_and_nothing_is_left(down, setting):
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        refused = down.dianzan("up", **{setting: str(taken.getsockname()[1])})
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert setting in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes_of(down.data_dir) == []


def test_a_wrong_setting_is_said_in_one_line_and_its_value_is_not(down):
    refused = down.dianzan("up", DIANZAN_EDGE_PORT="a-secret-by-mistake")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("dianzan: DIANZAN_EDGE_PORT: ")
    assert "a-secret-by-mistake" not in refused.stderr


def test_a_damaged_key_file_is_said_and_nothing_is_left(up):
    assert up.stop() == 0
    keys = up.data_dir / "secrets" / "keys.json"
    whole = keys.read_bytes()
    keys.write_bytes(whole[:20])
    try:
        refused = up.dianzan("up")
    finally:
        keys.write_bytes(whole)
    assert refused.returncode == 2
    assert "damaged" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes_of(up.data_dir) == []


def test_a_database_that_refuses_connections_is_said_in_one_line(down):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refused = down.dianzan("up", DIANZAN_POSTGRES_DSN=f"postgresql://x:hush@127.0.0.1:{port}/x")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "hush" not in refused.stderr
    assert processes_of(down.data_dir) == []


def test_servers_of_ones_own_are_used_and_not_touched(service, down):
    """Both addresses set: nothing embedded is started, and nothing of theirs is stopped."""
    theirs = {"DIANZAN_VALKEY_URL": service.ready["valkey"]}
    theirs["DIANZAN_POSTGRES_DSN"] = service.ready["postgres"]
    ready = down.up(**theirs)
    assert (ready["valkey"], ready["postgres"]) == tuple(theirs.values())
    assert set(down.pids()) == set(OWN)
    assert ready["campaign"] == "demo"
    assert down.stop() == 0
    assert serves(service)


@pytest.mark.parametrize(
    "said",
    [
        "Starting postgres",
        pytest.param("Made the keys", marks=pytest.mark.slow),
        pytest.param("Starting 1 edge", marks=pytest.mark.slow),
    ],
)
def test_a_stop_while_it_starts_is_in_order_and_the_next_up_goes_on(said):
    """In a fresh folder, so that initdb may be interrupted."""
    with a_service(DIANZAN_DEMO="0") as fresh:
        fresh.start()
        wait_until(lambda: said in fresh.said, 30, said)
        assert fresh.stop() == 0
        assert fresh.printed == ""
        assert processes_of(fresh.data_dir) == []
        assert fresh.up()["ready"] is True


@pytest.mark.slow
def test_kill_9_in_the_midst_of_initdb_is_mended_by_the_next_up():
    with a_service(DIANZAN_DEMO="0") as fresh:
        fresh.start()
        wait_until((fresh.data_dir / "postgres" / "base").exists, 30, "initdb at work")
        kill_all(processes_of(fresh.data_dir))
        assert (fresh.data_dir / "postgres.unfinished").exists(), "killed too late"
        fresh.wait()
        assert fresh.up()["ready"] is True


@pytest.mark.slow
def test_a_data_folder_with_a_long_and_odd_name_serves(tmp_path):
    with a_service(DIANZAN_DEMO="0") as odd:
        odd.data_dir = odd.folder / ("数据, 'twice' \"quoted\" & long " + "x" * 60) / "data"
        odd.settings["DIANZAN_DATA_DIR"] = str(odd.data_dir)
        odd.up()
        assert serves(odd)
        assert odd.dianzan("migrate").returncode == 0
        assert odd.stop() == 0
        assert processes_of(odd.data_dir) == []
