"""What was signed last: no database that was put back is signed for, whatever it grew to since."""

import json
import shutil
from dataclasses import replace
from random import Random

import pytest

from tally.log.integrator import integrate, sign_grown
from tally.log.keys import LogKeys
from tally.log.last_signed import LastSigned
from tally.log.store import LogConflict
from tally.publishing.publication import (
    PUBLISHER,
    Asked,
    Kind,
    begin,
    publish,
    publishing,
    read_published,
    resume,
    write_folder,
)
from tests.campaigns import add_campaign
from tests.decided import Poll
from tests.journal_builder import make_vote
from tests.logged import KEYS
from voting import whole_files

BY_HAND = Asked(Kind.PROVISIONAL, "li")
VOTES = "dianzan-test/spring/votes"
LOGGED = (
    "logs, log_tiles, log_ranges, log_watermarks, checkpoints, hourly_mix, votes, watermarks, "
    "tallies, publications"
)


@pytest.fixture
def keys(tmp_path):
    """Keys that remember what they signed."""
    return replace(KEYS, last_signed=tmp_path / "last-signed.json")


@pytest.fixture
async def poll(postgres):
    """A campaign in Postgres alone."""
    await add_campaign(postgres, "spring")
    return Poll(postgres, None)


async def add(poll, votes, seed=0):
    random = Random(seed)
    await poll.add([make_vote(random, random.randint(1, 4)) for _ in range(votes)])


async def put_back(postgres):
    """To a copy of before the first vote."""
    async with postgres.transaction():
        await postgres.execute("SET LOCAL session_replication_role = replica")
        await postgres.execute(f"TRUNCATE {LOGGED} CASCADE")
    return Poll(postgres, None)


async def notes(postgres):
    return await postgres.fetchval(
        "SELECT count(*) FROM logs WHERE log = 0 AND checkpoint IS NOT NULL"
    )


async def test_a_log_that_lost_leaves_is_not_signed_nor_when_others_took_their_place(
    postgres, poll, keys
):
    await add(poll, 300)
    await integrate(postgres, keys)
    assert await sign_grown(postgres, keys) == 2
    assert LastSigned.load(keys).logs[VOTES][0] == 300
    older = await put_back(postgres)
    # Fewer than were signed, as many, and more, over several tiles.
    for seed, votes in enumerate((299, 1, 500), 1):
        await add(older, votes, seed)
        await integrate(postgres, keys)
        with pytest.raises(LogConflict, match="put back to an older copy"):
            await sign_grown(postgres, keys)
        assert await notes(postgres) == 0
    with pytest.raises(LogConflict, match="put back to an older copy"):
        await publish(postgres, keys, 1, BY_HAND)
    assert await postgres.fetchval("SELECT count(*) FROM publications") == 0
    # Keys that know nothing of it do not see it: that is what the file is for.
    assert await sign_grown(postgres, KEYS) == 2


async def test_the_same_votes_once_more_are_the_same_log_and_are_signed(postgres, poll, keys):
    await add(poll, 300)
    await integrate(postgres, keys)
    await sign_grown(postgres, keys)
    older = await put_back(postgres)
    await add(older, 300)
    await add(older, 7, seed=1)
    await integrate(postgres, keys)
    assert await sign_grown(postgres, keys) == 2


async def test_it_is_on_the_disk_before_a_note_leaves_and_once_for_all_of_them(
    postgres, poll, keys, monkeypatch
):
    await add_campaign(postgres, "autumn")
    await add(poll, 20)
    await integrate(postgres, keys)
    synced = []
    whole = whole_files.os.fsync

    def fsync(descriptor):
        synced.append(descriptor)
        whole(descriptor)

    monkeypatch.setattr(whole_files.os, "fsync", fsync)
    assert await sign_grown(postgres, keys) == 4
    assert len(synced) == 2, "the file, and its name"
    assert await sign_grown(postgres, keys) == 0
    assert len(synced) == 2, "nothing was signed"
    assert keys.last_signed.stat().st_mode & 0o777 == 0o600

    class DiskFull(OSError):
        pass

    def full(_):
        raise DiskFull

    await add(poll, 5, seed=1)
    await integrate(postgres, keys)
    monkeypatch.setattr(whole_files.os, "fsync", full)
    shown = await postgres.fetch("SELECT checkpoint FROM logs ORDER BY campaign, log")
    with pytest.raises(DiskFull):
        await sign_grown(postgres, keys)
    with pytest.raises(DiskFull):
        await publish(postgres, keys, 1, BY_HAND)
    assert await postgres.fetch("SELECT checkpoint FROM logs ORDER BY campaign, log") == shown
    assert await postgres.fetchval("SELECT manifest_hash FROM publications") is None
    monkeypatch.undo()
    assert len(await resume(postgres, keys)) == 1


async def test_a_publication_s_number_is_given_once(postgres, poll, keys, tmp_path):
    await add(poll, 20)
    first = await publish(postgres, keys, 1, BY_HAND)
    known = LastSigned.load(keys)
    assert known.publications == {"dianzan-test/spring": (1, first.made.manifest_hash)}
    assert known.logs[VOTES][0] == 20
    await publish(postgres, keys, 1, BY_HAND)
    async with postgres.transaction():
        await postgres.execute("SET LOCAL session_replication_role = replica")
        await postgres.execute("DELETE FROM publications WHERE number = 2")
    with pytest.raises(LogConflict, match="publication 2 of spring is not the one"):
        await publish(postgres, keys, 1, BY_HAND)
    await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 500, 20, now(), true)")
    sealed = await publish(postgres, KEYS, 1, Asked(Kind.CLOSE, PUBLISHER))
    assert sealed.number == 2
    with pytest.raises(LogConflict, match="publication 2 of spring is not the one"):
        await publish(postgres, keys, 1, BY_HAND)
    with pytest.raises(LogConflict, match="put back"):
        await write_folder(postgres, keys, sealed, tmp_path / "out", with_log=True)


async def test_what_is_begun_and_was_signed_otherwise_is_not_finished(postgres, poll, keys):
    await add(poll, 20)
    async with publishing(postgres, 1):
        await begin(postgres, keys, 1, BY_HAND)
    LastSigned({}, {"dianzan-test/spring": (1, bytes(32))}).save(keys)
    with pytest.raises(LogConflict, match="publication 1 of spring was signed otherwise"):
        await resume(postgres, keys)
    assert await postgres.fetchval("SELECT manifest_hash FROM publications") is None


async def test_where_the_file_is_lost_the_newest_folder_stands_in(postgres, poll, keys, tmp_path):
    await add(poll, 20)
    for number in (1, 2):
        await add(poll, 10, seed=number)
        found = await publish(postgres, keys, 1, BY_HAND)
        await write_folder(
            postgres, keys, found, tmp_path / "publications" / "spring" / str(number)
        )
    known = LastSigned.load(keys)
    keys.last_signed.unlink()
    (tmp_path / "publications" / "spring" / ".3.1.partial").mkdir()
    (tmp_path / "publications" / "autumn" / "7").mkdir(parents=True)
    (tmp_path / "publications" / "a file").touch()
    assert LastSigned.load(keys) == known
    assert known.logs[VOTES][0] == 40
    older = await put_back(postgres)
    await add(older, 60, seed=9)
    await integrate(postgres, keys)
    with pytest.raises(LogConflict, match="put back"):
        await sign_grown(postgres, keys)
    # Without a folder it begins anew, and so do other keys.
    assert LastSigned.load(replace(LogKeys.make(), last_signed=keys.last_signed)) == LastSigned()
    shutil.rmtree(tmp_path / "publications")
    assert LastSigned.load(keys) == LastSigned()


@pytest.mark.parametrize(
    "damaged", ["", "{", "[]", "{}", '{"logs": {"x": 1}, "publications": {}}', "\xff"]
)
async def test_nothing_is_signed_by_a_damaged_file(postgres, poll, keys, damaged):
    await integrate(postgres, keys)
    keys.last_signed.write_text(damaged, encoding="latin-1")
    with pytest.raises(LogConflict, match=r"last-signed\.json is damaged"):
        await sign_grown(postgres, keys)
    assert await notes(postgres) == 0
    keys.last_signed.write_text(json.dumps({"logs": {}, "publications": {}}))
    assert await sign_grown(postgres, keys) == 2


async def test_by_hand_too_nothing_is_signed_for_a_database_that_was_put_back(
    postgres, poll, valkey, dianzan, tmp_path
):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "log.json").write_text(KEYS._text())
    arguments = ("publish", "--campaign", "spring", "--now", "--out")
    done = await dianzan(*arguments, str(tmp_path / "first"))
    assert done.code == 0, done.err
    await put_back(postgres)
    done = await dianzan(*arguments, str(tmp_path / "second"))
    assert (done.code, done.out) == (1, "")
    assert "put back to an older copy" in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "second").exists()
    assert (await read_published(postgres, 1, 1)) is None
