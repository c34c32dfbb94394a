"""What is taken of a portal's assertion, and above all what is not."""

import base64
import hashlib
import hmac
import json
import statistics
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.assertions import PORTAL, Portal, part, url64
from voting import identity
from voting.campaign import Campaign, VotingWindow
from voting.identity import (
    ASSERTION_CHARACTERS_MAX,
    Assertion,
    Flaw,
    KeyFault,
    Refused,
    device_of,
    fingerprint,
    read_assertion,
    read_key,
)
from voting.keys import Keys

NOW = 1_790_000_000
ZONE = ZoneInfo("Asia/Shanghai")
OURS, OTHER = Portal(), Portal("https://other.example.cn")
KEYS = Keys.make()


def campaign_of(id_="spring", **keys):
    window = VotingWindow(datetime(2026, 7, 1, tzinfo=ZONE), datetime(2026, 8, 1, tzinfo=UTC), ZONE)
    portal_keys = keys or {OURS.origin: OURS.public, OTHER.origin: OTHER.public}
    return Campaign(1, id_, "", window, portal_keys=portal_keys)


SPRING = campaign_of()


def judged(text, campaign=SPRING, now=NOW):
    """The assertion, or the word for what is wrong with it."""
    read = read_assertion(text, campaign, now)
    if isinstance(read, Refused):
        return read.flaw
    return read if read.is_signed() else Flaw.SIGNATURE


def vouched(subject="openid-1", **changed):
    return OURS.vouch(subject, at=NOW, **changed)


def test_a_portals_word_is_taken():
    read = judged(vouched("openid-1"))
    assert (read.campaign, read.portal, read.subject) == ("spring", PORTAL, "openid-1")
    assert "openid-1" not in repr(read)


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["spring"]},
        {"exp": NOW + 600},
        {"exp": NOW + 299.5, "iat": NOW - 0.5},
        {"nbf": NOW},
        {"jti": "1", "name": "unknown claims are nobody's business"},
    ],
)
def test_what_jwt_libraries_write_is_taken(changed):
    assert isinstance(judged(vouched(**changed)), Assertion)


@pytest.mark.parametrize("header", [{"alg": "EdDSA"}, {"alg": "EdDSA", "typ": "jwt", "kid": "7"}])
def test_headers_that_jwt_libraries_write_are_taken(header):
    assert isinstance(judged(vouched(header=header)), Assertion)


@pytest.mark.parametrize(
    "subject",
    [
        "1",
        "oX8-_abc",
        "用户甲",
        "\0",
        "a\nb",
        "\U0001f600" * 200,
        "𠮷",
        '"};--',
        "e\u0301",
        "a" * 200,
    ],
)
def test_a_subject_is_any_text(subject):
    assert judged(vouched(subject)).subject == subject


@pytest.mark.parametrize(
    "subject",
    ["", "a" * 201, "\U0001f600" * 201, 17, None, ..., True, ["a"], {"id": 1}, "\ud83d", "a\udc00"],
)
def test_what_is_no_subject_is_refused(subject):
    assert judged(vouched(subject)) is Flaw.MALFORMED


@pytest.mark.parametrize(
    ("changed", "flaw"),
    [
        ({"exp": NOW - 61, "iat": NOW - 300}, Flaw.TIME),
        ({"iat": NOW + 61, "exp": NOW + 300}, Flaw.TIME),
        ({"nbf": NOW + 61}, Flaw.TIME),
        ({"iat": NOW - 301}, Flaw.TIME),  # ten minutes and a second
        ({"exp": NOW}, Flaw.TIME),
        ({"exp": NOW - 5}, Flaw.TIME),
        ({"exp": (NOW + 300) * 1000, "iat": NOW * 1000}, Flaw.TIME),
        ({"exp": ...}, Flaw.TIME),
        ({"iat": ...}, Flaw.TIME),
        ({"exp": str(NOW + 300)}, Flaw.TIME),
        ({"iat": True}, Flaw.TIME),
        ({"iat": -1}, Flaw.TIME),
        ({"exp": 10**300}, Flaw.TIME),
        ({"exp": 1e308}, Flaw.TIME),
        ({"nbf": None}, Flaw.TIME),
        ({"aud": "summer"}, Flaw.AUDIENCE),
        ({"aud": ["spring", "summer"]}, Flaw.AUDIENCE),
        ({"aud": []}, Flaw.AUDIENCE),
        ({"aud": {"spring": 1}}, Flaw.AUDIENCE),
        ({"aud": ...}, Flaw.AUDIENCE),
        ({"aud": "Spring"}, Flaw.AUDIENCE),
        ({"iss": PORTAL + "/"}, Flaw.PORTAL),
        ({"iss": "http://www.example.cn"}, Flaw.PORTAL),
        ({"iss": "https://evil.example"}, Flaw.PORTAL),
        ({"iss": [PORTAL]}, Flaw.PORTAL),
        ({"iss": None}, Flaw.PORTAL),
        ({"iss": ...}, Flaw.PORTAL),
        # A sound word of one portal that says it is of another one.
        ({"iss": OTHER.origin}, Flaw.SIGNATURE),
    ],
)
def test_claims_that_are_wrong_are_refused(changed, flaw):
    sound = OURS.claims(at=NOW)
    changed = dict(changed)
    if changed.get("exp") == NOW:
        sound["iat"] = NOW
    said = {name: value for name, value in (sound | changed).items() if value is not ...}
    assert judged(OURS.sign({"alg": "EdDSA"}, said)) is flaw


def test_clocks_may_differ_by_a_minute():
    text = vouched()
    assert isinstance(judged(text, now=NOW - 60), Assertion)
    assert isinstance(judged(text, now=NOW + 359), Assertion)
    assert judged(text, now=NOW - 61) is Flaw.TIME
    assert judged(text, now=NOW + 360) is Flaw.TIME


def test_what_is_wrong_is_said_to_the_portals_programmer():
    expired = read_assertion(vouched(), SPRING, NOW + 1_000)
    assert expired.detail.startswith("expired 700 s ago")
    assert expired.portal == PORTAL
    assert "milliseconds" in read_assertion(vouched(exp=NOW * 1000), SPRING, NOW).detail
    assert "quotes" in read_assertion(vouched(12), SPRING, NOW).detail
    assert "slash" in read_assertion(vouched(iss=PORTAL + "/"), SPRING, NOW).detail


def test_a_campaign_without_keys_takes_nobody():
    assert judged(vouched(), campaign_of(**{"https://a.cn": OURS.public})) is Flaw.PORTAL


def test_another_portals_key_signs_nobody_of_ours():
    assert judged(Portal(PORTAL).vouch(at=NOW)) is Flaw.SIGNATURE
    swapped = campaign_of(**{OURS.origin: OTHER.public, OTHER.origin: OURS.public})
    assert judged(vouched(), swapped) is Flaw.SIGNATURE


CLAIMS = OURS.claims(at=NOW)


def signed_by(header, sign):
    signed = f"{part(header)}.{part(CLAIMS)}"
    return f"{signed}.{url64(sign(signed.encode()))}"


def test_other_algorithms_are_refused_whoever_signed_by_them():
    pem = OURS.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (OURS.public, pem, OURS.line.encode()):

        def by_hmac(signed, secret=secret):
            return hmac.digest(secret, signed, hashlib.sha256)

        assert judged(signed_by({"alg": "HS256"}, by_hmac)) is Flaw.ALGORITHM
        assert judged(signed_by({"alg": "EdDSA"}, by_hmac)) is Flaw.SIGNATURE
    assert judged(signed_by({"alg": "none"}, lambda _: b"")) is Flaw.ALGORITHM
    assert judged(signed_by({"alg": "EdDSA"}, lambda _: b"")) is Flaw.SIGNATURE
    for alg in (
        "None",
        "eddsa",
        "EDDSA",
        "Ed25519",
        "Ed448",
        "ES256",
        "RS256",
        "",
        None,
        0,
        ["EdDSA"],
    ):
        assert judged(signed_by({"alg": alg}, OURS.private.sign)) is Flaw.ALGORITHM, alg
    assert judged(signed_by({"typ": "JWT"}, OURS.private.sign)) is Flaw.ALGORITHM
    other_curve = ed448.Ed448PrivateKey.generate()
    assert judged(signed_by({"alg": "EdDSA", "crv": "Ed448"}, other_curve.sign)) is Flaw.SIGNATURE
    p256 = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives import hashes

    text = signed_by({"alg": "EdDSA"}, lambda s: p256.sign(s, ec.ECDSA(hashes.SHA256())))
    assert judged(text) is Flaw.SIGNATURE


def test_extensions_and_other_kinds_are_refused():
    for header in (
        {"alg": "EdDSA", "crit": ["b64"], "b64": False},
        {"alg": "EdDSA", "crit": []},
    ):
        assert judged(vouched(header=header)) is Flaw.ALGORITHM
    for kind in ("at+jwt", "JWE", 1, None):
        assert judged(vouched(header={"alg": "EdDSA", "typ": kind})) is Flaw.MALFORMED


def test_a_key_that_comes_along_is_no_key():
    """Whoever signs with a key of their own may name it as they like."""
    own = Portal(PORTAL)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": url64(own.public)}
    header = {
        "alg": "EdDSA",
        "jwk": jwk,
        "jku": "https://evil.example/keys",
        "kid": "../../dev/null",
    }
    assert judged(own.vouch(at=NOW, header=header)) is Flaw.SIGNATURE


def test_a_member_that_stands_twice_is_refused():
    twice = json.dumps(CLAIMS)[:-1] + ', "sub": "somebody else"}'
    assert judged(OURS.sign({"alg": "EdDSA"}, twice.encode())) is Flaw.MALFORMED
    header = b'{"alg": "none", "alg": "EdDSA"}'
    assert judged(OURS.sign(header, CLAIMS)) is Flaw.MALFORMED
    deep = json.dumps(CLAIMS)[:-1] + ', "x": {"a": 1, "a": 2}}'
    assert judged(OURS.sign({"alg": "EdDSA"}, deep.encode())) is Flaw.MALFORMED


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b'{"iat": NaN}',
        b'{"iat": -Infinity}',
        b"[" * 2_600,
        b'{"a":' * 500,
        b"1" * 2_600,
    ],
)
def test_parts_that_are_no_object_are_refused(content):
    assert judged(OURS.sign({"alg": "EdDSA"}, content)) is Flaw.MALFORMED
    assert judged(OURS.sign(content, CLAIMS)) is Flaw.MALFORMED


def test_huge_ones_are_refused_unread():
    huge = vouched("a" * 200, pad="x" * 3_900)
    assert len(huge) > ASSERTION_CHARACTERS_MAX
    assert judged(huge) is Flaw.MALFORMED
    begun = time.perf_counter()
    for text in ("." * 4_000_000, "a" * 4_000_000, "[" * 4_000_000):
        assert judged(text) is Flaw.MALFORMED
    assert time.perf_counter() - begun < 1


def test_there_is_one_spelling_of_an_assertion():
    text = vouched()
    head, claims, signature = text.split(".")
    # 64 bytes leave four bits over in the last character.
    other_end = chr(ord(signature[-1]) + 1)
    for spelled in (
        *(f"{text}=", f"{text}==", f"{text}.", f".{text}", f" {text}", f"{text}\n"),
        f"{head}.{claims}.{signature}\0",
        f"{head}.{claims}.{signature[:-1]}{other_end}",
        f"{head[:4]}\n{head[4:]}.{claims}.{signature}",
        f"{head}.{claims}.{base64.b64encode(b'x' * 62 + bytes((255, 255))).decode()}",
        f"{head}.{claims}",
        f"{head}.{claims}.{signature}.{signature}",
        f"{head}.{claims}.{signature}é",
        f"{head}.{claims}.{signature[:-3]}１",
        "",
    ):
        assert judged(spelled) in (Flaw.MALFORMED, Flaw.SIGNATURE), spelled


@given(st.integers(0, 2**16), st.characters(max_codepoint=255))
def test_one_character_changed_is_another_assertion(at, character):
    text = vouched()
    at %= len(text)
    changed = text[:at] + character + text[at + 1 :]
    if changed != text:
        assert isinstance(judged(changed), Flaw)


@given(st.one_of(st.text(), st.binary().map(lambda raw: f"{url64(raw)}.{url64(raw)}.{url64(raw)}")))
def test_whatever_comes_is_answered(text):
    assert isinstance(judged(text), Flaw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(("alg", "typ", "crit", "kid")), json_values),
    st.dictionaries(st.sampled_from(("iss", "aud", "sub", "iat", "exp", "nbf")), json_values),
)
def test_odd_values_of_any_member_are_answered(header, claims):
    """Each signed by the portal itself: what is taken is what the rules allow, and no more."""
    text = OURS.sign({"alg": "EdDSA"} | header, OURS.claims(at=NOW) | claims)
    read = judged(text)
    if isinstance(read, Assertion):
        said = OURS.claims(at=NOW) | claims
        assert said["iss"] == PORTAL
        assert said["aud"] in ("spring", ["spring"])
        assert 1 <= len(said["sub"]) <= 200
        assert 0 < said["exp"] - said["iat"] <= 600
        assert "crit" not in header


@given(st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()))
def test_every_subject_comes_out_as_it_went_in(subject):
    assert judged(vouched(subject)).subject == subject


def test_the_dearest_refusal_before_the_signature_is_cheap():
    """What is refused without a look at the signature costs less than that look."""
    deep = OURS.sign(
        {"alg": "EdDSA"},
        (json.dumps(CLAIMS)[:-1] + ', "a": %s}' % ("[" * 900 + "]" * 900)).encode(),
    )
    sound = read_assertion(vouched(), SPRING, NOW)

    def cost(call):
        begun = time.perf_counter()
        for _ in range(20):
            call()
        return time.perf_counter() - begun

    costs = [
        (cost(lambda: read_assertion(deep, SPRING, NOW + 9_999)), cost(sound.is_signed))
        for _ in range(7)
    ]
    assert statistics.median(reading / checking for reading, checking in costs) < 3


# Devices.


def device(subject="a", portal=OURS, campaign="spring", keys=KEYS):
    read = read_assertion(portal.vouch(subject, campaign, at=NOW), campaign_of(campaign), NOW)
    return device_of(read, keys, shards=1)


def test_one_person_is_one_device_however_often_and_wherever():
    assert device() == device()
    at_once = read_assertion(vouched("a", exp=NOW + 30), SPRING, NOW)
    assert device_of(at_once, KEYS, shards=1) == device()
    assert len(device()) == 12


def test_people_are_spread_over_the_shards_and_each_stays_on_theirs():
    def on(person, shards):
        read = Assertion("spring", "https://portal.example.cn", person, b"", b"", b"")
        return device_of(read, KEYS, shards=shards)

    people = [f"p{n}" for n in range(40)]
    assert {on(person, 3)[0] for person in people} == {0, 1, 2}
    assert [on(person, 3) for person in people] == [on(person, 3) for person in people]
    assert [on(person, 3)[1:] for person in people] == [on(person, 1)[1:] for person in people]


def test_people_of_others_are_others():
    others = {
        *(device(), device("b"), device("A"), device("a ")),
        *(device("é"), device("e\u0301")),
        *(device(portal=OTHER), device(campaign="summer"), device(keys=Keys.make())),
    }
    assert len(others) == 9


def test_no_two_of_three_parts_are_read_as_three_others():
    parts = [
        ("ab", "c", "d"),
        ("a", "bc", "d"),
        ("a", "b", "cd"),
        ("", "abcd", ""),
        ("abcd", "", ""),
    ]
    made = {device_of(Assertion(*three, b"", b"", b""), KEYS, shards=1) for three in parts}
    assert len(made) == len(parts)


def test_people_stay_who_they_are_when_keys_that_sign_tokens_are_rotated():
    later = KEYS.without_leaked(NOW)
    assert device(keys=later) == device(keys=KEYS)
    assert device(keys=KEYS.rotated(NOW)) == device(keys=KEYS)


def test_nobody_gets_from_a_device_to_a_subject_without_the_key():
    """Not even with every other key of the installation: the identity's own is none of them."""
    held = {KEYS.identity, KEYS.pseudonym, KEYS.receipt, *KEYS.device.values()}
    assert len(held) == 4
    guessed = hashlib.blake2b(b"spring" + PORTAL.encode() + b"a", digest_size=11).digest()
    assert device()[1:] != guessed


# Keys, as people hand them over.


def test_a_public_key_is_read_however_it_was_written():
    der = OURS.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for text in (OURS.line, f" {OURS.line}\n", url64(OURS.public), base64.b64encode(der).decode()):
        assert read_key(text) == OURS.public


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", KeyFault.LENGTH),
        ("not base64!", KeyFault.NO_BASE64),
        ("密钥", KeyFault.NO_BASE64),
        (base64.b64encode(b"x" * 31).decode(), KeyFault.LENGTH),
        (base64.b64encode(b"x" * 33).decode(), KeyFault.LENGTH),
        (base64.b64encode(b"\xff" * 32).decode(), KeyFault.POINT),
        (base64.b64encode(b"\2" + bytes(31)).decode(), KeyFault.POINT),
        (base64.b64encode(bytes(32)).decode(), KeyFault.WEAK),
        (base64.b64encode(b"\1" + bytes(31)).decode(), KeyFault.WEAK),
    ],
)
def test_what_is_no_public_key_is_said(text, fault):
    assert read_key(text) is fault


def test_a_private_key_is_not_taken_for_a_public_one():
    raw = OURS.private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    libsodium = OURS.private.private_bytes_raw() + OURS.public
    for secret in (raw, libsodium):
        assert read_key(base64.b64encode(secret).decode()) is KeyFault.PRIVATE


def test_keys_with_which_anybody_signs_are_refused():
    """Each of them takes one and the same signature for every eighth text at least; that is what
    makes them weak, and OpenSSL takes them."""
    nothing = b"\1" + bytes(63)
    for y in identity._WEAK_Y:
        for spelled in (y, y + identity._P):
            if spelled >= 1 << 255:
                continue
            for sign in (0, 1):
                raw = (spelled | sign << 255).to_bytes(32, "little")
                assert read_key(base64.b64encode(raw).decode()) is KeyFault.WEAK
        raw = y.to_bytes(32, "little")
        taken = [Assertion("", "", "", b"%d" % n, nothing, raw).is_signed() for n in range(100)]
        assert any(taken)


def test_sound_keys_are_not_refused():
    for _ in range(200):
        public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        assert read_key(base64.b64encode(public).decode()) == public


def test_a_fingerprint_can_be_read_aloud():
    shown = fingerprint(OURS.public)
    assert len(shown.split(" ")) == 8
    assert shown.replace(" ", "") == hashlib.sha256(OURS.public).hexdigest()[:32]
