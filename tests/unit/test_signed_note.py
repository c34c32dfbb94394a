"""Signed notes and checkpoints, byte for byte as C2SP has them, and nothing that is nearly one."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.log.signed_note import NoteError, SignerKey, VerifierKey, key_id, open_note
from voting.checkpoint import Checkpoint, CheckpointError

# The example of the format's first implementation: golang.org/x/mod/sumdb/note.
SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NOTE = (
    f"{TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvq"
    "fqdngotpRZb6KE6RyyBwJnAM=\n"
)
ANOTHER = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33"
    "WWd1RvMc+QQ=\n"
)
# The example of https://c2sp.org/signed-note.
C2SP_VERIFIER = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKu"
    "wHjG1Yu72IneyaQM=\n"
)

signer = SignerKey("PeterNeumann", SEED)
verifier = VerifierKey.read(VERIFIER)


def test_key_and_note_are_those_of_the_reference():
    assert str(signer.verifier) == VERIFIER
    assert verifier == signer.verifier
    assert signer.sign(TEXT) == NOTE
    assert open_note(NOTE, verifier) == TEXT


def test_note_of_the_specification_opens():
    key = VerifierKey.read(C2SP_VERIFIER)
    assert open_note(C2SP_NOTE, key) == "This is an example message.\n"


def test_key_id_begins_the_hash_of_name_kind_and_key():
    hashed = hashlib.sha256(b"PeterNeumann\n\x01" + verifier.public).digest()
    assert key_id("PeterNeumann", verifier.public) == hashed[:4] == bytes.fromhex("c74f20a3")


def test_note_that_others_signed_as_well_opens():
    assert open_note(NOTE + ANOTHER, verifier) == TEXT
    text, _, signatures = NOTE.partition("\n\n")
    assert open_note(f"{text}\n\n{ANOTHER}{signatures}", verifier) == TEXT


def test_note_that_the_key_did_not_sign_does_not_open():
    text = NOTE.partition("\n\n")[0]
    for note in (
        f"{text}\n\n{ANOTHER}",  # by another one alone
        C2SP_NOTE,
        SignerKey("PeterNeumann", bytes(32)).sign(TEXT),  # of the same name
        SignerKey("Peter", SEED).sign(TEXT),
    ):
        with pytest.raises(NoteError, match="did not sign"):
            open_note(note, verifier)


@given(st.integers(0, len(NOTE) - 1), st.sampled_from("aA9+/=— \n\x00é"))
def test_note_with_one_character_changed_does_not_open(place, char):
    if NOTE[place] == char:
        return
    with pytest.raises(NoteError):
        open_note(NOTE[:place] + char + NOTE[place + 1 :], verifier)


@given(st.text(max_size=200))
def test_what_is_no_note_is_said_to_be_none(text):
    with pytest.raises(NoteError):
        open_note(text, verifier)
    with pytest.raises(NoteError):
        VerifierKey.read(text)


def test_signatures_without_end_are_not_read():
    with pytest.raises(NoteError):
        open_note(NOTE + ANOTHER * 200, verifier)


def test_damaged_verifier_key_is_refused():
    name, id_, key = VERIFIER.split("+", 2)
    for wrong in (
        f"{name}+{id_}",
        f"{name}+c74f20a4+{key}",
        f"{name}x+{id_}+{key}",
        f"{name}+{id_}+{key[:-4]}",
        f"{name}+173116ae+Z{key[1:]}",  # another kind of key
        f" +{id_}+{key}",
    ):
        with pytest.raises(NoteError):
            VerifierKey.read(wrong)


@pytest.mark.parametrize("text", ["", "\n", "no newline", "bell\x07\n", "return\r\n"])
def test_text_that_no_note_may_have_is_not_signed(text):
    with pytest.raises(NoteError):
        signer.sign(text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\t"])
def test_name_that_no_key_may_have_is_refused(name):
    with pytest.raises(NoteError):
        SignerKey(name, SEED)


def test_secret_is_not_in_the_repr():
    assert SEED.hex() not in repr(signer)
    assert repr(SEED) not in repr(signer)


# The example of https://c2sp.org/tlog-checkpoint, its signatures left out.
EXAMPLE = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_checkpoint_is_origin_size_and_root():
    checkpoint = Checkpoint.read(EXAMPLE)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a9186")
    assert checkpoint.text() == EXAMPLE
    assert Checkpoint.of_note(signer.sign(EXAMPLE)) == checkpoint


@given(st.integers(0, 2**63), st.binary(min_size=32, max_size=32))
def test_checkpoint_reads_back_with_its_lines(size, root):
    checkpoint = Checkpoint("dianzan/春天/votes", size, root, ("time 2026-07-05T04:00:00Z", "two"))
    assert Checkpoint.of_note(signer.sign(checkpoint.text())) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        EXAMPLE[:-1],
        EXAMPLE + "\n",
        EXAMPLE.replace("20852163", "+20852163"),
        EXAMPLE.replace("20852163", "020852163"),
        EXAMPLE.replace("20852163", "20_852_163"),
        EXAMPLE.replace("20852163", "-1"),
        EXAMPLE.replace("CsUY", ""),
        EXAMPLE.replace("q2I=", "q2J="),  # bits that base64 does not need
        EXAMPLE.replace("behind", "be\thind"),
        "\n" + EXAMPLE,
        EXAMPLE + "one\n\ntwo\n",
    ],
)
def test_what_is_nearly_a_checkpoint_is_none(text):
    with pytest.raises(CheckpointError):
        Checkpoint.read(text)
