"""Runbooks are run: each command block against a real service, and the down ones while it is."""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import PROGRAM, a_service
from tests.acceptance.test_nothing_is_lost import tokens_of
from tests.acceptance.voters import Voters
from tests.conftest import wait_until

FOLDER = Path(__file__).parents[2] / "deploy" / "runbooks"
RUNBOOKS = sorted(FOLDER.glob("*.md"))


def blocks(runbook):
    return re.findall(r"^```sh\n(.*?)^```", runbook.read_text(), re.MULTILINE | re.DOTALL)


def run(service, block):
    folders = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    told = {
        "ADMIN": service.ready["admin"],
        "CAMPAIGN": service.ready["campaign"],
        "USER_NAME": "li",
    }
    return subprocess.run(
        ["bash", "-c", f"set -eo pipefail\n{block}"],
        env=service.environment | {"PATH": folders} | told,
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def service():
    """A service of this module's own: its keys are rotated and its parts killed."""
    with a_service() as service:
        service.up()
        yield service


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_links_lead_to_runbooks_and_a_page_is_a_page(runbook):
    text = runbook.read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 60
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (FOLDER / link).is_file(), link


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_every_block_runs_and_says_something(service, runbook):
    assert blocks(runbook)
    for block in blocks(runbook):
        done = run(service, block)
        assert done.returncode == 0, (block, done.stderr)
        assert done.stdout, block


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"), [("store-down", "valkey-server"), ("postgres-down", "postgres")]
)
def test_the_first_block_answers_while_the_part_is_down_and_the_last_once_it_is_back(
    service, name, part
):
    first, *_, last = blocks(FOLDER / f"{name}.md")
    before = service.pids()[part]
    os.kill(before, signal.SIGKILL)
    down = run(service, first)
    assert down.returncode == 0, down.stderr
    assert part in down.stdout
    wait_until(
        lambda: (
            service.pids().get(part, before) != before
            and run(service, 'curl -sf "$ADMIN/healthz"').returncode == 0
        ),
        60,
        f"{part} started again",
    )
    # Each part finds it again at its own pace; a block that reads through it may still be refused.
    wait_until(lambda: run(service, last).returncode == 0, 40, "the last block to run")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_drill_of_a_backup_counts_what_was_counted_and_leaves_nothing(service):
    campaign = service.ready["campaign"]
    voters = Voters(service.ready["edge"], campaign, ["zhang-heng"])
    told = asyncio.run(voters.vote(tokens_of(service, 7, campaign), 1))
    assert told.acknowledged
    make, restore, drill, _ = blocks(FOLDER / "backup.md")
    for block in (make, restore):
        done = run(service, block)
        assert done.returncode == 0, done.stderr
    counted = run(service, f'dianzan tally --campaign "{campaign}"').stdout.splitlines()[1]
    done = run(service, drill)
    assert done.returncode == 0, done.stderr
    # Out of the database, and out of a store that began empty.
    assert done.stdout.count(counted) == 2, (counted, done.stdout)
    assert not list(service.folder.glob("drill*"))
