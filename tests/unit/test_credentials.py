"""Passwords, codes and set-up links, without a database."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.accounts import credentials
from tally.accounts.credentials import SetUp
from tally.accounts.sealing import Seal, SealError

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at", "code"),
    # RFC 6238, appendix B, SHA-1: the last six of its eight digits.
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_codes_are_those_of_the_rfc(at, code):
    assert credentials.code_at(SECRET, at) == code
    assert credentials.matching_step(SECRET, code, at) == at // 30


@given(st.integers(10**9, 2 * 10**9), st.integers(-4, 4))
def test_a_code_is_good_one_step_off_and_tells_its_own_step(now, off):
    code = credentials.code_at(SECRET, now + 30 * off)
    found = credentials.matching_step(SECRET, code, now)
    if abs(off) <= 1:
        assert found is not None
    elif found is not None:  # by chance: one of the three that are good is the same
        assert credentials.code_at(SECRET, 30 * found) == code


@given(st.text(max_size=20))
def test_anything_may_be_typed_for_a_code(typed):
    found = credentials.matching_step(SECRET, typed, 59)
    assert found is None or typed.replace(" ", "").isdigit()


def test_a_secret_can_be_typed_and_taken_in_by_a_camera():
    assert credentials.totp_text(SECRET) == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
    picture = credentials.totp_picture(SECRET, "li")
    assert picture.startswith("<svg")
    assert "style" not in picture


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("eleven char", "too-short"),
        ("x" * 201, "too-long"),
        ("aaaaaaaaaaaa", "too-easy"),
        ("abababababab", "too-easy"),
        ("123456789012", "too-easy"),
        ("password1234", "too-easy"),
        ("dianzanadmin2026", "too-easy"),
        ("zhangwei12345678", "too-easy"),
        ("Zhangwei-Zhangwei-1", "too-easy"),
        ("correct horse battery", None),
        ("春眠不觉晓，处处闻啼鸟", "too-short"),
        ("春眠不觉晓，处处闻啼鸟。", None),
        ("zhangwei reads poems", None),
    ],
)
def test_which_passwords_are_taken(password, problem):
    assert credentials.password_problem(password, "zhangwei") == problem


def test_a_password_is_kept_as_argon2id_with_owasps_parameters():
    kept = credentials.hash_password("correct horse battery")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert credentials.check_password(kept, "correct horse battery")
    assert not credentials.check_password(kept, "correct horse batterx")
    assert not credentials.check_password(None, "correct horse battery")
    assert not credentials.check_password("rubbish", "correct horse battery")
    assert not credentials.check_password(kept, "x" * 1_000_000)
    assert not credentials.is_old(kept)


def test_nobodys_password_takes_the_same_work(monkeypatch):
    looked = []

    class Hasher:
        def verify(self, kept, password):
            looked.append(kept)
            return True

    monkeypatch.setattr(credentials, "_hasher", Hasher())
    assert credentials.check_password(None, "x") is False
    assert looked[0].startswith("$argon2id$")


@pytest.fixture
def seal(tmp_path):
    return Seal.load_or_make(tmp_path / "secrets" / "console.json")


def test_a_set_up_link_is_good_for_a_day_and_says_whose_it_is(seal):
    token = credentials.close_set_up(seal, SetUp(7, "mark"), 1_000)
    assert credentials.open_set_up(seal, token, 1_000) == SetUp(7, "mark")
    assert credentials.open_set_up(seal, token, 1_000 + credentials.SET_UP_SECONDS) is None


@given(st.text(max_size=300))
def test_no_text_opens_as_a_set_up_link(text):
    assert credentials.open_set_up(Seal(bytes(32)), text, 0) is None


def test_a_link_of_another_installation_or_another_use_is_none(seal):
    other = Seal(bytes(32))
    token = credentials.close_set_up(other, SetUp(7, "mark"), 1_000)
    assert credentials.open_set_up(seal, token, 1_000) is None
    sealed = base64.urlsafe_b64encode(seal.close(b'[7, "mark", 9999999999]', b"totp 7")).decode()
    assert credentials.open_set_up(seal, sealed, 1_000) is None


def test_what_is_sealed_for_one_use_opens_for_no_other(seal):
    sealed = seal.close(b"secret", b"totp 7")
    assert seal.open(sealed, b"totp 7") == b"secret"
    assert b"secret" not in sealed
    for use in (b"totp 8", b"", b"destination 7"):
        with pytest.raises(SealError) as refused:
            seal.open(sealed, use)
        assert "secret" not in str(refused.value).replace("secrets", "")
    for broken in (b"", sealed[:-1], b"x" + sealed[1:]):
        with pytest.raises(SealError):
            seal.open(broken, b"totp 7")


def test_the_key_file_is_made_once_closed_to_others_and_its_damage_is_said(tmp_path):
    path = tmp_path / "secrets" / "console.json"
    first = Seal.load_or_make(path)
    sealed = first.close(b"x", b"y")
    assert Seal.load_or_make(path).open(sealed, b"y") == b"x"
    assert path.stat().st_mode & 0o077 == 0
    key = path.read_text()[12:76]
    for damaged in ("{}", "", '{"seal": "00"}', '{"seal": 7}', "[]"):
        path.write_text(damaged)
        with pytest.raises(SealError, match="damaged") as said:
            Seal.load_or_make(path)
        assert key not in str(said.value)
    assert repr(first) == "<Seal>"
