"""The program `dianzan` itself: thin, lazy, and plain about what went wrong."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from deploy import cli
from deploy.local.servers import EmbeddedServerError
from voting.keys import KeyFileError


def dianzan(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_lists_every_command_and_imports_no_package_of_theirs():
    program = """
import json, sys
from deploy import cli
try:
    cli.app(["--help"], prog_name="dianzan")
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    shown, modules = done.stdout.rsplit("\n", 2)[:2]
    for command in cli.COMMANDS:
        assert f"  {command} " in shown
    heavy = {"aiohttp", "asyncpg", "pydantic", "redis", "rich", "voting", "tally", "antifraud"}
    assert not heavy & set(json.loads(modules))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_own_help(command):
    done = dianzan(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: dianzan {command} ")


def test_the_flusher_imports_nothing_of_the_edge_and_the_supervisor_neither():
    for module in ("tally.commands", "deploy.local.supervisor"):
        program = f"import {module}, sys; print('voting.edge.app' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n", module


def test_the_version_is_the_packages():
    assert dianzan("--version").stdout == f"dianzan {version('dianzan')}\n"


def test_an_unknown_command_is_a_usage_error():
    done = dianzan("vote")
    assert done.returncode == 2
    assert "No such command 'vote'" in done.stderr


def test_every_wrong_setting_is_named_in_a_line_of_its_own_and_no_value_is_shown():
    done = dianzan("tally", "--campaign", "x", DIANZAN_EDGE_PORT="s3cret", DIANZAN_DEMO="s3cret")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["DIANZAN_EDGE_PORT", "DIANZAN_DEMO"]
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        KeyFileError("the key file is damaged"),
        EmbeddedServerError("no server\nfor this machine"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
    ],
)
def test_an_ordinary_failure_is_one_line_and_exit_code_2(error, monkeypatch, capsys):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("dianzan: ")
    assert said.count("\n") == 1
    assert len(said) > len("dianzan: \n")


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def fail(**_):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_url_that_names_no_store_is_said_in_one_line_without_its_password():
    done = dianzan(
        "flush",
        DIANZAN_VALKEY_URL="sentinel://edge:secret@one,two",
        DIANZAN_POSTGRES_DSN="postgresql://nowhere.invalid/x",
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = [each for each in done.stderr.splitlines() if each.startswith("dianzan: ")]
    assert "sentinel://host/NAME" in line
    assert "secret" not in done.stderr
