"""Backed up while it runs, destroyed, and back."""

import asyncio
import json
import os
import shutil
import signal
import subprocess

import asyncpg
import pytest

from deploy.backup.programs import BackupError
from deploy.backup.restore import read_backup, restore
from tests.acceptance.conftest import PROGRAM, Service, a_service
from tests.acceptance.test_nothing_is_lost import (
    CAMPAIGN,
    import_campaign,
    settled,
    tally,
    tokens_of,
    voters,
)
from tests.conftest import wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A service with votes, and a backup that was made in the midst of further ones."""
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8") as service:
        service.up()
        import_campaign(service, tmp_path_factory.mktemp("campaign"))
        service.tokens = tokens_of(service, 60, CAMPAIGN)
        service.crowd = voters(service, 7)
        asyncio.run(service.crowd.vote(service.tokens[:40], 5, at_once=16))
        service.before = dict(service.crowd.told.acknowledged)
        service.tally_before = settled(service)
        out = service.folder / "backup"
        backing_up = subprocess.Popen(
            [PROGRAM, "backup", "--out", out, "--with-keys"],
            env=service.environment,
            cwd=service.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        asyncio.run(service.crowd.vote(service.tokens[40:50], 5, at_once=4))
        said = backing_up.communicate(timeout=60)[1]
        assert backing_up.returncode == 0, said
        service.backup = out
        yield service


def clicks_in(service):
    async def read():
        connection = await asyncpg.connect(service.ready["postgres"])
        try:
            return await connection.fetchval("SELECT count(*) FROM votes")
        finally:
            await connection.close()

    return asyncio.run(read())


def test_a_backup_holds_all_that_was_acknowledged_before_it_and_comes_back(original, tmp_path):
    manifest = read_backup(original.backup)
    assert {"database.dump", "files/secrets/keys.json"} <= manifest["files"].keys()
    assert original.backup.stat().st_mode & 0o077 == 0
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8") as copy:
        done = copy.dianzan("restore", original.backup)
        assert done.returncode == 0, done.stderr
        assert not list(copy.folder.glob(".data*"))
        copy.up()
        # The hot state began empty, and has been told.
        total = settled(copy)
        assert len(original.before) <= clicks_in(copy)
        assert clicks_in(copy) <= len(original.crowd.told.acknowledged)
        for candidate, likes in original.tally_before["counts"].items():
            assert likes <= total["counts"][candidate]
        # Devices are who they were, and what they liked they have liked.
        again = voters(copy, 7)
        again.told.acknowledged.clear()
        told = asyncio.run(again.vote(original.tokens[:40], 5, at_once=16))
        assert told.statuses[401] == 0
        assert settled(copy)["counted"] >= total["counted"]
        # It publishes on, for what was signed before is borne out.
        published = copy.dianzan(
            "publish", "--campaign", CAMPAIGN, "--now", "--out", tmp_path / "published"
        )
        assert published.returncode == 0, published.stderr
        assert copy.dianzan("verify", tmp_path / "published").returncode == 0


@pytest.fixture
def target(tmp_path):
    return {"data_dir": tmp_path / "data", "dsn": None, "keys": None}


def test_a_damaged_backup_is_refused_by_the_files_name(original, tmp_path, target):
    copy = tmp_path / "copy"
    shutil.copytree(original.backup, copy)
    dump = copy / "database.dump"
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    with pytest.raises(BackupError, match=r"database\.dump is damaged"):
        restore(copy, **target)
    dump.unlink()
    with pytest.raises(BackupError, match=r"database\.dump is missing"):
        restore(copy, **target)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(BackupError, match="is no backup"):
        restore(copy, **target)
    assert not target["data_dir"].exists()


def test_nothing_is_restored_without_keys_or_over_something(original, tmp_path, target):
    copy = tmp_path / "copy"
    shutil.copytree(original.backup, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["keys"] = False
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="has no keys"):
        restore(copy, **target)
    with pytest.raises(BackupError, match="no keys of an installation"):
        restore(copy, **target | {"keys": tmp_path})
    target["data_dir"].mkdir()
    (target["data_dir"] / "something").touch()
    with pytest.raises(BackupError, match="is not empty"):
        restore(original.backup, **target)
    assert [path.name for path in target["data_dir"].iterdir()] == ["something"]


def test_a_restore_that_is_killed_leaves_nothing_half_and_the_next_one_works(original):
    with a_service() as service:
        assert isinstance(service, Service)
        process = subprocess.Popen(
            [PROGRAM, "restore", original.backup],
            env=service.environment,
            cwd=service.folder,
            stderr=subprocess.DEVNULL,
        )
        aside = service.folder / ".data.restoring"
        pid_file = aside / "postgres" / "postmaster.pid"
        wait_until(
            lambda: (aside / "restore.log").exists() and pid_file.exists(), 60, "the database"
        )
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        assert not service.data_dir.exists()
        # Its server outlived it, and is in nobody's way.
        done = service.dianzan("restore", original.backup)
        assert done.returncode == 0, done.stderr
        assert service.data_dir.exists()
        assert not aside.exists()


def test_a_backup_that_fails_leaves_nothing(original, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    done = original.dianzan("backup", "--out", out)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    done = original.dianzan(
        "backup",
        "--out",
        tmp_path / "other",
        DIANZAN_POSTGRES_DSN=str(original.ready["postgres"]).replace("@/dianzan", "@/nothing"),
    )
    assert done.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_backup_left_is_not_in_the_next_one(original, tmp_path):
    left = tmp_path / ".again.unfinished"
    (left / "files").mkdir(parents=True)
    (left / "files" / "half").write_text("of a backup that was killed")
    out = tmp_path / "again"
    done = original.dianzan("backup", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "without keys" in done.stderr
    assert not any("half" in name or "secrets" in name for name in read_backup(out)["files"])
    assert not left.exists()


def test_into_a_database_elsewhere_it_comes_only_where_that_is_empty(original, target):
    url = str(original.ready["postgres"])

    async def make():
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE DATABASE restored")
        await connection.close()

    asyncio.run(make())
    elsewhere = url.replace("@/dianzan", "@/restored")
    with pytest.raises(BackupError, match="is not empty"):
        restore(original.backup, **target | {"dsn": url})
    restore(original.backup, **target | {"dsn": elsewhere})
    assert (target["data_dir"] / "secrets" / "keys.json").exists()

    async def count():
        connection = await asyncpg.connect(elsewhere)
        votes = await connection.fetchval("SELECT count(*) FROM votes")
        await connection.close()
        return votes

    assert asyncio.run(count()) >= len(original.before)


def test_a_backup_that_is_told_to_end_leaves_nothing(original, tmp_path):
    flusher = original.pids()["flush"]
    os.kill(flusher, signal.SIGSTOP)
    try:
        # It waits for this one, which nobody brings into Postgres.
        asyncio.run(original.crowd.vote(original.tokens[50:52], 1, at_once=1))
        process = subprocess.Popen(
            [PROGRAM, "backup", "--out", tmp_path / "out"],
            env=original.environment,
            cwd=original.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until((tmp_path / ".out.unfinished" / "files").exists, 60, "its beginning")
        process.terminate()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 143, said
        assert not list(tmp_path.iterdir())
    finally:
        os.kill(flusher, signal.SIGCONT)


def test_the_tally_of_the_service_was_not_touched(original):
    """Last: all of the above happened beside it."""
    told = original.crowd.told
    total = settled(original)
    assert total["counted"] + total["held"] == len(told.acknowledged)
    assert tally(original)["counts"] == total["counts"]
