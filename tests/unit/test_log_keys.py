"""The file of the log's keys: made once, never shown, never replaced."""

import json
import stat

import pytest

from tally.log.keys import LogKeys, LogKeysError
from tally.log.signed_note import open_note


def test_keys_are_made_once_for_the_owner_alone(tmp_path):
    path = tmp_path / "secrets" / "log.json"
    made = LogKeys.load_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert LogKeys.load_or_make(path) == LogKeys.load(path) == made
    assert [each.name for each in path.parent.iterdir()] == ["log.json"]


def test_who_comes_second_takes_what_the_first_one_made(tmp_path, monkeypatch):
    path = tmp_path / "log.json"
    make, first = LogKeys.make, []

    def make_late():
        # While we were making ours, another process was quicker.
        monkeypatch.setattr(LogKeys, "make", make)
        first.append(LogKeys.load_or_make(path))
        return make()

    monkeypatch.setattr(LogKeys, "make", make_late)
    assert LogKeys.load_or_make(path) == first[0] == LogKeys.load(path)


def test_installations_have_names_and_keys_of_their_own():
    one, two = LogKeys.make(), LogKeys.make()
    assert one.name != two.name
    assert {len(one.signing), len(one.salts)} == {32}
    assert open_note(one.signer.sign("text\n"), one.signer.verifier) == "text\n"
    assert one.salts_check != two.salts_check
    assert one.campaign_salts(1) != one.campaign_salts(2) != two.campaign_salts(2)


def test_secrets_are_in_no_repr_and_no_error(tmp_path):
    keys = LogKeys.make()
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"name": "a", "signing": keys.signing.hex(), "salts": "zz"}))
    with pytest.raises(LogKeysError) as failed:
        LogKeys.load(path)
    for secret in (keys.signing, keys.salts):
        assert secret.hex() not in repr(keys)
        assert repr(secret) not in repr(keys)
        assert secret.hex() not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"name": "a"}', '{"name": 1, "signing": "00", "salts": "00"}', "\udcff"],
)
def test_damaged_file_is_said_to_be_damaged(tmp_path, text):
    path = tmp_path / "log.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LogKeysError, match="damaged"):
        LogKeys.load(path)


@pytest.mark.parametrize("name", ["", "two words", "a+b"])
def test_name_that_no_key_may_have_is_damage(tmp_path, name):
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"name": name, "signing": "00" * 32, "salts": "11" * 32}))
    with pytest.raises(LogKeysError, match="damaged"):
        LogKeys.load(path)


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(LogKeysError, match="copy the installation's"):
        LogKeys.load(tmp_path / "log.json")
    with pytest.raises(LogKeysError, match="cannot be read"):
        LogKeys.load(tmp_path)
