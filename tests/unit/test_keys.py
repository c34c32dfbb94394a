"""The key file: made once, rotated under running edges, never shown."""

import json
import threading
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from deploy.cli import app
from voting import keys as key_file
from voting.campaign import Campaign, VotingWindow
from voting.device import Mint
from voting.edge.key_watch import KeyWatch
from voting.keys import SIGNS_AFTER_SECONDS, CannotRotate, KeyFileError, Keys, rotate

NOW = 1_800_000_000.5
ZONE = ZoneInfo("Asia/Shanghai")
WINDOW = VotingWindow(datetime(2026, 1, 1, tzinfo=ZONE), datetime(2027, 1, 1, tzinfo=ZONE), ZONE)


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "secrets" / "keys.json"
    Keys.load_or_make(made)
    return made


def secrets_of(keys):
    return [key.hex() for key in (*keys.device.values(), keys.receipt, keys.pseudonym)]


def test_keys_are_made_once_closed_to_others_and_never_shown(tmp_path):
    path = tmp_path / "secrets" / "keys.json"
    with pytest.raises(KeyFileError, match="no key file"):
        Keys.load(path)
    keys = Keys.load_or_make(path)
    assert Keys.load_or_make(path) == keys == Keys.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]
    for secret in secrets_of(keys):
        assert secret not in repr(keys)


def test_file_of_an_earlier_version_still_loads(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(
        json.dumps({"device": {"1": "ab" * 32}, "receipt": "cd" * 32, "pseudonym": "ef" * 32})
    )
    keys = Keys.load(path)
    assert keys.signing(NOW) == keys.signing(0) == 1
    assert rotate(path, NOW).device[1] == bytes.fromhex("ab" * 32)


@pytest.mark.parametrize(
    "damage", ["", "{}", "[]", "null", '{"device": {"1": "zz"}}', "short", "id", "none", "time"]
)
def test_damaged_key_file_is_said_without_quoting_it(tmp_path, damage):
    path = tmp_path / "keys.json"
    secret = "ab" * 32
    file = {"device": {"1": secret}, "receipt": secret, "pseudonym": secret}
    other = {
        "short": {"device": {"1": secret[:-2]}},
        "id": {"device": {"256": secret}},
        "none": {"device": {}},
        "time": {"signs_from": {"2": 1}},
    }
    path.write_text(json.dumps(file | other[damage]) if damage in other else damage)
    with pytest.raises(KeyFileError, match="damaged") as caught:
        Keys.load(path)
    assert "abab" not in str(caught.value)


def test_key_file_of_any_bytes_is_damaged_and_no_defect(tmp_path):
    path = tmp_path / "keys.json"
    for content in (b"\xff\xfe", b"[" * 100_000, b'{"device":{"1":1e999}}', b"\0" * 10):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match="damaged"):
            Keys.load(path)


def test_rotation_keeps_the_key_that_signed_and_the_new_one_waits_for_its_minute(path):
    before = Keys.load(path)
    after = rotate(path, NOW)
    assert after == Keys.load(path)
    assert sorted(after.device) == [1, 2]
    assert after.device[1] == before.device[1] != after.device[2]
    assert (after.receipt, after.pseudonym) == (before.receipt, before.pseudonym)
    assert after.signing(NOW) == after.signing(NOW + SIGNS_AFTER_SECONDS - 1) == 1
    assert after.signing(NOW + SIGNS_AFTER_SECONDS) == 2
    assert after.signing(0) == 1, "where a clock stands before everything"


def test_third_key_drops_the_first_and_no_rotation_comes_before_the_last_one_signs(path):
    rotate(path, NOW)
    held = path.read_bytes()
    with pytest.raises(CannotRotate, match="begins to sign in"):
        rotate(path, NOW + 30)
    assert path.read_bytes() == held
    third = rotate(path, NOW + 100)
    assert sorted(third.device) == [2, 3]
    assert [third.signing(NOW + at) for at in (100, 159, 161)] == [2, 2, 3]


def test_leaked_keys_go_at_once_and_the_new_one_signs_at_once(path):
    rotate(path, NOW)
    before = Keys.load(path)
    after = rotate(path, NOW + 5, leaked=True)  # one that waits for its minute is no reason to wait
    assert after == Keys.load(path)
    assert sorted(after.device) == [3], "a token names its key: no old name for another key"
    assert after.signing(NOW + 5) == after.signing(0) == 3
    assert not set(before.device.values()) & set(after.device.values())
    assert (after.receipt, after.pseudonym) == (before.receipt, before.pseudonym)
    assert sorted(rotate(path, NOW + 6).device) == [3, 4]


def test_token_made_with_a_leaked_key_outlives_rotations_but_not_that_of_the_leaked():
    keys = Keys.make()
    campaign = Campaign(1, "one", "", WINDOW)
    token, at = Mint(keys).issue(campaign, NOW), NOW
    for _ in range(3):
        keys = keys.rotated(at)
        at += 100
        mint = Mint(keys)
        read = mint.verify(token, campaign, at)
        token = mint.promote(read, read.level, at)
    keys = keys.without_leaked(at)
    assert Mint(keys).verify(token, campaign, at) is None


def test_ids_begin_again_after_the_last_one_and_two_keys_never_have_the_same(path):
    at = NOW
    seen = set()
    for _ in range(260):
        keys = rotate(path, at)
        at += 100
        assert len(keys.device) == 2
        seen |= set(keys.device)
    assert seen == set(range(1, 256))
    assert keys.signing(at) in keys.device


def test_rotated_file_is_closed_whole_and_alone_in_its_folder(path):
    path.chmod(0o644)
    rotate(path, NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("leaked", [False, True])
def test_group_that_cannot_be_kept_is_let_go(path, monkeypatch, leaked):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(key_file.os, "fchown", forbidden)
    assert rotate(path, NOW, leaked=leaked) == Keys.load(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_of_another_user_is_not_replaced_by_one_that_they_cannot_read(path, monkeypatch):
    def forbidden(*_):
        raise PermissionError

    before = path.read_bytes()
    monkeypatch.setattr(key_file.os, "fchown", forbidden)
    monkeypatch.setattr(key_file.os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(CannotRotate, match="another user's"):
        rotate(path, NOW)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]


def test_link_to_a_key_file_stays_a_link(path, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    keys = rotate(link, NOW)
    assert link.is_symlink()
    assert Keys.load(path) == keys


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_crash_half_way_leaves_the_old_keys_and_the_next_rotation_goes_through(
    path, monkeypatch, step
):
    before = path.read_bytes()

    class Crashed(BaseException):
        """Nothing after it runs, no clean-up either."""

    def crash(*_):
        raise Crashed

    with monkeypatch.context() as patch:
        patch.setattr(key_file.os if step == "fsync" else key_file.Path, step, crash)
        patch.setattr(key_file.Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Crashed):
            rotate(path, NOW)
    assert path.read_bytes() == before
    left = [item for item in path.parent.iterdir() if item != path]
    assert all(item.stat().st_mode & 0o777 == 0o600 for item in left)
    assert sorted(rotate(path, NOW).device) == [1, 2]
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]


def test_two_who_rotate_at_once_make_one_new_key(path):
    told = []

    def once():
        try:
            told.append(sorted(rotate(path, NOW).device))
        except CannotRotate:
            told.append("refused")

    both = [threading.Thread(target=once) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(map(str, told)) == ["[1, 2]", "refused"]
    assert sorted(Keys.load(path).device) == [1, 2]


# The edge's look at it.


def test_watch_tells_of_new_keys_once(path):
    told = []
    watch = KeyWatch(path, Keys.load(path), (told.append,))
    watch.look()
    assert told == []
    rotated = rotate(path, NOW)
    watch.look()
    watch.look()
    assert told == [rotated]
    assert watch.keys == rotated


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other", "closed"])
def test_damaged_file_is_refused_once_and_the_keys_in_use_stay(path, damage):
    keys, text, told = Keys.load(path), path.read_text(), []
    watch = KeyWatch(path, keys, (told.append,))
    if damage == "gone":
        path.unlink()
    elif damage == "closed":
        path.unlink()
        path.mkdir()
    else:
        other = text.replace(keys.pseudonym.hex(), "00" * 32)
        path.write_text({"empty": "", "cut": text[:150], "other": other}[damage])
    with capture_logs() as logs:
        watch.look()
        watch.look()
    assert [line["event"] for line in logs] == ["keys-refused"]
    assert told == []
    assert watch.keys == keys
    for secret in secrets_of(keys):
        assert secret not in str(logs)
        assert secret[:16] not in str(logs)
    if path.is_dir():
        path.rmdir()
    path.write_text(text)
    rotated = rotate(path, NOW)
    watch.look()
    assert told == [rotated]


# The command.


@pytest.fixture
def dianzan(path, monkeypatch):
    monkeypatch.setenv("DIANZAN_KEYS_FILE", str(path))
    monkeypatch.setenv("DIANZAN_VALKEY_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("DIANZAN_POSTGRES_DSN", "postgres://127.0.0.1:1/none")
    return lambda *words: CliRunner().invoke(app, ["keys", *words])


def test_commands_rotate_and_show_ids_and_times_and_never_a_key(path, dianzan):
    shown = dianzan("show")
    assert shown.output == "1\tsigns\tfrom the beginning\n"
    rotated = dianzan("rotate")
    assert rotated.exit_code == 0
    assert rotated.output.startswith("1\tsigns\tfrom the beginning\n2\tsigns in 60 s\tfrom 20")
    again = dianzan("rotate")
    assert isinstance(again.exception, CannotRotate)
    keys = Keys.load(path)
    path.write_text(path.read_text().replace(str(keys.signs_from[2]), str(int(time.time()) - 864)))
    assert dianzan("show").output.splitlines()[0] == "1\told\tfrom the beginning"
    assert dianzan("show").output.endswith(", 0.0 days\n")
    said = shown.output + rotated.output + str(again.exception) + dianzan("show").output
    for secret in secrets_of(keys):
        assert secret[:12] not in said


def test_command_for_leaked_keys_leaves_the_new_one_alone(path, dianzan):
    dianzan("rotate")
    told = dianzan("rotate", "--leaked")
    assert told.exit_code == 0
    assert told.output.startswith("3\tsigns\tfrom 20")
    assert told.output.count("\n") == 1


def test_command_without_a_key_file_says_so(path, dianzan):
    path.unlink()
    for words in (["show"], ["rotate"]):
        assert isinstance(dianzan(*words).exception, KeyFileError)
    assert list(path.parent.iterdir()) == []


def test_command_makes_the_file_where_there_is_none_and_leaves_one_that_is_there(path, dianzan):
    path.unlink()
    made = dianzan("make")
    assert made.exit_code == 0
    assert str(path) in made.stderr
    assert made.stdout == "1\tsigns\tfrom the beginning\n"
    first = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    again = dianzan("make")
    assert (again.stdout, again.stderr) == (made.stdout, "")
    assert path.read_bytes() == first
