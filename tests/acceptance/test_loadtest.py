"""`dianzan loadtest` against the real service: the figures it prints are the ones to be had."""

import json
import os
import signal
import subprocess

import pytest

from tests.acceptance.conftest import PROGRAM, Service, a_service
from tests.conftest import wait_until


@pytest.fixture(scope="module")
def loaded():
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8") as loaded:
        loaded.up()
        yield loaded


def received(service: Service) -> int:
    done = service.dianzan("tally", "--campaign", "demo", "--hot", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["received"]


@pytest.mark.parametrize("mix", ["honest", "hostile"])
def test_every_answer_is_an_expected_one_and_the_tally_has_what_was_acknowledged(loaded, mix):
    before = received(loaded)
    out = loaded.folder / f"{mix}.json"
    done = loaded.dianzan(
        *("loadtest", loaded.ready["edge"], "--campaign", "demo", "--mix", mix, "--rate", 200),
        *("--seconds", 3, "--warm-up", 0.5, "--processes", 2, "--connections", 16, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert set(report["kinds"]) == set(report["mix"])
    assert report["unexpected"] == report["lost"] == 0, done.stdout
    assert report["acknowledged"] > 100
    assert received(loaded) - before == report["acknowledged"]
    assert f"likes acknowledged: {report['acknowledged']:,} " in done.stdout
    assert sum(second["answers"] for second in report["by_second"]) == sum(
        kind["requests"] for kind in report["kinds"].values()
    )


def test_ctrl_c_ends_the_run_early_and_still_reports_it(loaded):
    before = received(loaded)
    said = loaded.folder / "said"
    with said.open("w") as stderr:
        run = subprocess.Popen(
            [
                *(PROGRAM, "loadtest", loaded.ready["edge"], "--campaign", "demo"),
                *("--mix", "likes", "--rate", "50", "--seconds", "60", "--warm-up", "0"),
            ],
            env=loaded.environment,
            cwd=loaded.folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            wait_until(lambda: received(loaded) > before or run.poll() is not None, 60)
            os.kill(run.pid, signal.SIGINT)
            printed, _ = run.communicate(timeout=30)
        finally:
            run.kill()
            run.wait(10)
    assert run.returncode == 0, said.read_text()
    assert "Ended early by Ctrl-C" in printed
    assert f"likes acknowledged: {received(loaded) - before:,} " in printed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--campaign", "nothing"), "no campaign 'nothing'"),
        (("--campaign", "demo", "--mix", "nothing"), "--mix nothing"),
        (("--campaign", "demo", "--ramp", "1:2"), "FROM:TO:DURATION"),
        (("--campaign", "demo", "--rate", "5", "--closed"), "exclude each other"),
        (("--campaign", "demo", "--devices", "1", "--rate", "500"), "too few tokens"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(loaded, options, why):
    done = loaded.dianzan("loadtest", loaded.ready["edge"], *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert why in done.stderr
