"""`dianzan staff` and `dianzan audit`: the first admin, and who guards the guards."""

import asyncio
import json
import os
import re

import pytest

from deploy.local.run_folder import hold_run_folder
from tally.accounts import credentials


async def feed(start, *arguments, stdin):
    """Run a command with this on its stdin."""
    read, write = os.pipe()
    os.write(write, stdin.encode())
    os.close(write)
    process = await start(*arguments, stdin=read)
    os.close(read)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, out.decode(), err.decode()


async def test_the_first_admin_gets_a_link_and_no_password(dianzan, postgres):
    done = await dianzan("staff", "add", "li", "--role", "admin", "--shown-as", "李明")
    assert done.code == 0, done.err
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/set-up\?token=[\w-]+\n", done.out)
    assert "next: open this link" in done.err
    row = await postgres.fetchrow("SELECT * FROM staff")
    assert (row["name"], row["shown_as"], row["role"]) == ("li", "李明", "admin")
    assert row["password_hash"] is None
    log = await postgres.fetchrow("SELECT * FROM audit_log")
    assert (log["action"], log["role"], log["subject"]) == ("staff.add", "command", "staff li")


async def test_the_link_leads_to_the_console_that_runs_whatever_port_it_has(
    dianzan, postgres, environment, tmp_path
):
    environment["DIANZAN_CONSOLE_PORT"] = "0"
    done = await dianzan("staff", "add", "li", "--role", "admin")
    assert re.fullmatch(r"/set-up\?token=[\w-]+\n", done.out)
    assert "open it behind the console's address" in done.err
    with hold_run_folder(tmp_path) as run:
        run.note_console(12345)
        done = await dianzan("staff", "reset", "li")
        assert done.out.startswith("http://127.0.0.1:12345/set-up?token=")
        environment["DIANZAN_CONSOLE_ORIGIN"] = "https://console.example.cn"
        done = await dianzan("staff", "reset", "li")
        assert done.out.startswith("https://console.example.cn/set-up?token=")


async def test_a_password_comes_by_stdin_and_never_back(start, postgres):
    arguments = ("staff", "add", "li", "--role", "viewer", "--password-stdin")
    code, out, err = await feed(start, *arguments, stdin="a sentence that is long\n")
    assert code == 0, err
    assert "a sentence" not in out + err
    kept = await postgres.fetchval("SELECT password_hash FROM staff")
    assert credentials.check_password(kept, "a sentence that is long")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("password", ["short", "password12345678", "", "li li li li li li li"])
async def test_a_password_that_is_too_easy_makes_no_account(start, postgres, password):
    arguments = ("staff", "add", "li", "--role", "viewer", "--password-stdin")
    code, out, err = await feed(start, *arguments, stdin=f"{password}\n")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert await postgres.fetchval("SELECT count(*) FROM staff") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("staff", "add", "Li", "--role", "admin"), "no name of an account"),
        (("staff", "add", "li", "--role", "root"), "no role"),
        (("staff", "disable", "nobody"), "no account 'nobody'"),
        (("staff", "reset", "nobody"), "no account 'nobody'"),
        (("audit", "verify", "--number", "3", "--hash", "xyz"), "64 hex digits"),
    ],
)
async def test_what_cannot_be_done_is_one_line_and_exit_code_2(dianzan, arguments, said):
    done = await dianzan(*arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


async def test_an_account_is_changed_reset_and_listed(dianzan, postgres):
    for name in ("li", "wang"):
        await dianzan("staff", "add", name, "--role", "admin")
    assert (await dianzan("staff", "role", "wang", "reviewer")).code == 0
    last = await dianzan("staff", "disable", "li")
    assert last.code == 2
    assert "last admin" in last.err
    assert (await dianzan("staff", "disable", "wang")).code == 0
    listed = (await dianzan("staff", "list")).out
    assert re.search(r"^li +admin +not-set-up", listed, re.M)
    assert re.search(r"^wang +reviewer +disabled", listed, re.M)
    assert (await dianzan("staff", "enable", "wang")).code == 0
    await postgres.execute(
        "UPDATE staff SET failures = 9, locked_until = now() + interval '1 hour'"
    )
    reset = await dianzan("staff", "reset", "wang")
    assert "/set-up?token=" in reset.out
    assert await postgres.fetchval("SELECT locked_until FROM staff WHERE name = 'wang'") is None


async def test_the_chain_is_verified_against_a_head_that_was_noted(dianzan, postgres):
    await dianzan("staff", "add", "li", "--role", "admin")
    noted = (await dianzan("audit", "verify")).out.split()
    await dianzan("staff", "add", "wang", "--role", "viewer")
    done = await dianzan("audit", "verify", "--number", noted[0], "--hash", noted[1])
    assert (done.code, done.out.split()[0]) == (0, "2")
    exported = (await dianzan("audit", "export")).out.splitlines()
    assert [json.loads(line)["subject"] for line in exported] == ["staff li", "staff wang"]
    await postgres.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await postgres.execute("UPDATE audit_log SET actor = 'somebody else' WHERE number = 1")
    done = await dianzan("audit", "verify")
    assert (done.code, done.out) == (1, "")
    assert "row 1 does not fit" in done.err


async def test_the_console_runs_as_a_process_of_its_own_and_stops_in_time(start, environment):
    environment["DIANZAN_CONSOLE_PORT"] = "0"
    ready, ready_there = os.pipe()
    process = await start("console", "--ready-fd", str(ready_there), pass_fds=(ready_there,))
    os.close(ready_there)
    with os.fdopen(ready) as announcement:
        said = json.loads(await asyncio.to_thread(announcement.readline))
    assert said["admin"].startswith("http://127.0.0.1:")
    process.terminate()
    out, err = await asyncio.wait_for(process.communicate(), 5)
    assert (process.returncode, out) == (0, b"")
    events = [json.loads(line) for line in err.decode().splitlines()]
    assert [event["event"] for event in events] == ["console-serves"]
    assert events[0]["process"] == "console"


async def test_a_port_that_is_taken_is_said(start, environment):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment["DIANZAN_CONSOLE_PORT"] = str(taken.getsockname()[1])
        process = await start("console")
        _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert "DIANZAN_CONSOLE_PORT" in err.decode()
