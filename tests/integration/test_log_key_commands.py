"""`dianzan keys publishing`: what checkpoints are checked with, not what they are made with."""

import json

from tally.log.keys import LogKeys
from tally.log.signed_note import VerifierKey


async def test_verifier_key_is_shown_and_the_secret_is_not(dianzan, tmp_path):
    done = await dianzan("keys", "publishing")
    assert done.code == 2
    assert "no file of the log's keys" in done.err
    done = await dianzan("keys", "publishing", "--make")
    assert done.code == 0
    path = tmp_path / "secrets" / "log.json"
    assert f"Made the keys of the log: {path}" in done.err
    again = await dianzan("keys", "publishing", "--make")
    assert (again.code, again.out, again.err) == (0, done.out, "")
    assert (await dianzan("keys", "publishing")).out == done.out
    held = LogKeys.load(path)
    assert VerifierKey.read(done.out) == held.signer.verifier
    for secret in (held.signing, held.salts):
        assert secret.hex() not in done.out + done.err


async def test_the_help_speaks_of_the_log_s_key_too(dianzan):
    done = await dianzan("keys", "--help")
    assert done.code == 0
    assert "the key that signs logs and publications" in " ".join(done.out.split())


async def test_keys_of_tokens_are_shown_as_before(dianzan, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "keys.json").write_text(
        json.dumps({"device": {"1": "ab" * 32}, "receipt": "cd" * 32, "pseudonym": "ef" * 32})
    )
    done = await dianzan("keys", "show")
    assert (done.code, done.out) == (0, "1\tsigns\tfrom the beginning\n")
