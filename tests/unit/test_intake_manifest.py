"""campaign.toml: what is taken, and how each mistake is named."""

import base64
from datetime import UTC, datetime, time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from antifraud.limits import Rate
from tests.campaign_folders import MANIFEST
from voting.campaign import Identity, Limits, Order, Rules, Visibility
from voting.intake.manifest import read_manifest


def read(folder, text):
    (folder / "campaign.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(folder)


def test_the_form_that_staff_write_is_taken_as_it_stands(tmp_path):
    manifest, problems = read(tmp_path, MANIFEST)
    assert problems == []
    assert manifest.id == "stars"
    assert manifest.title == "“最美科技工作者”网络点赞（测试）"
    assert manifest.window.opens_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert manifest.window.zone.key == "Asia/Shanghai"
    assert manifest.rules == Rules(1, 10, 0, Order.RANDOM, Visibility.LIVE, time(18))
    assert manifest.limits == Limits(Rate.parse("30/minute"), Rate.parse("1200/minute"))
    assert manifest.origins == ("https://www.example.cn",)
    assert manifest.channels == {"省级": 10, "学会": 2, "企业": 2}


def test_all_but_the_campaign_itself_may_be_left_out(tmp_path):
    manifest, problems = read(tmp_path, MANIFEST[: MANIFEST.index("[rules]")])
    assert problems == []
    assert (manifest.rules, manifest.limits) == (Rules(), Limits())
    assert (manifest.origins, manifest.channels) == ((), None)


KEY, OTHER_KEY = (
    base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    for _ in range(2)
)
WITH_KEYS = MANIFEST.replace(
    'origins = ["https://www.example.cn"]\n',
    f"""origins = ["https://www.example.cn", "https://m.example.cn:8443"]
identity = "required"

[portal.keys]
"https://WWW.example.cn:443" = "{KEY}"
"https://m.example.cn:8443" = " {OTHER_KEY.rstrip("=")} "
""",
)


def test_portals_have_keys_and_may_be_all_who_let_people_like(tmp_path):
    manifest, problems = read(tmp_path, WITH_KEYS)
    assert problems == []
    assert manifest.rules.identity is Identity.REQUIRED
    assert manifest.portal_keys == {
        "https://www.example.cn": KEY,
        "https://m.example.cn:8443": OTHER_KEY,
    }
    assert read(tmp_path, MANIFEST)[0].rules.identity is Identity.OPTIONAL


PRIVATE = base64.b64encode(
    Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
).decode()
OURS = "portal.keys.https://WWW.example.cn:443"


@pytest.mark.parametrize(
    ("sound", "mistaken", "column", "said"),
    [
        (KEY, "AAAA", OURS, "32 bytes"),
        (KEY, "A" * 43 + "=", OURS, "anybody can sign"),
        (KEY, "-----BEGIN PUBLIC KEY-----", OURS, "base64"),
        (f'"{KEY}"', "5", OURS, "in quotes"),
        ('"https://m.example.cn:8443" =', '"m.example.cn" =', "portal.keys.m.example.cn", "scheme"),
        (', "https://m.example.cn:8443"]', "]", "portal.keys", "none of portal.origins"),
        ('m.example.cn:8443" =', 'www.example.cn" =', "portal.keys", "twice"),
        ("required", "mandatory", "portal.identity", "'optional' or 'required'"),
    ],
    ids=["length", "weak", "pem", "type", "origin", "no-portal", "twice", "rule"],
)
def test_mistakes_in_portals_keys_are_named(tmp_path, sound, mistaken, column, said):
    assert sound in WITH_KEYS
    manifest, problems = read(tmp_path, WITH_KEYS.replace(sound, mistaken))
    assert manifest is None
    assert [(problem.column, said in problem.message) for problem in problems] == [(column, True)]


def test_nobody_could_like_where_no_portal_has_a_key(tmp_path):
    text = MANIFEST.replace("[portal]", '[portal]\nidentity = "required"')
    manifest, (problem,) = read(tmp_path, text)
    assert manifest is None
    assert problem.column == "portal.identity"
    assert "nobody could like" in problem.message


def test_a_private_key_that_was_pasted_is_in_no_list_of_problems(tmp_path):
    manifest, (problem,) = read(tmp_path, WITH_KEYS.replace(KEY, PRIVATE))
    assert manifest is None
    assert problem.message.startswith("is a private key")
    assert PRIVATE[:20] not in str(problem)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    manifest, problems = read(tmp_path, b"\xef\xbb\xbf" + MANIFEST.replace("\n", "\r\n").encode())
    assert problems == []
    assert manifest.id == "stars"


def test_a_time_in_quotes_is_taken_when_it_has_its_offset(tmp_path):
    quoted = MANIFEST.replace("2026-11-01T08:00:00+08:00", '"2026-11-01T08:00:00+08:00"')
    manifest, problems = read(tmp_path, quoted)
    assert problems == []
    assert manifest.window.opens_at == datetime(2026, 11, 1, tzinfo=UTC)


MISTAKES = [
    ('id = "stars"', 'id = "Stars"', "campaign.id", "a-z"),
    ('id = "stars"', 'id = "-stars"', "campaign.id", "begin"),
    ('id = "stars"', 'id = "stars\\n"', "campaign.id", "a-z"),
    ('id = "stars"', f'id = "{"a" * 49}"', "campaign.id", "48"),
    ('id = "stars"', "id = 5", "campaign.id", "text in quotes"),
    ('id = "stars"\n', "", "campaign.id", "is missing"),
    ('title = "', 'title = "\\u0007', "campaign.title", "control character"),
    ('title = "“最美科技工作者”网络点赞（测试）"', 'title = "  "', "campaign.title", "is empty"),
    ("Asia/Shanghai", "Asia/Shangai", "campaign.time_zone", "known time zone"),
    ("Asia/Shanghai", "../../etc/passwd", "campaign.time_zone", "known time zone"),
    ("Asia/Shanghai", "Asia", "campaign.time_zone", "known time zone"),
    ("08:00:00+08:00", "08:00:00", "campaign.opens_at", "no offset"),
    ("2026-11-01T08:00:00+08:00", '"2026-11-01T08:00:00"', "campaign.opens_at", "no offset"),
    ("2026-11-01T08:00:00+08:00", '"soon"', "campaign.opens_at", "with offset"),
    ("2026-11-01T08:00:00+08:00", "2026-11-01", "campaign.opens_at", "with offset"),
    ("2026-11-01T08:00:00+08:00", "1793491200", "campaign.opens_at", "with offset"),
    ("2026-11-01T08:00:00+08:00", "0001-01-01T00:00:00+08:00", "campaign.opens_at", "2000"),
    ("2027-07-31", "2026-10-31", "campaign.closes_at", "after opens_at"),
    ("2027-07-31T18", "2026-11-01T08", "campaign.closes_at", "after opens_at"),
    ("closes_at", "close_at", "campaign.close_at", "not a known key"),
    ("candidates_per_day = 10", "candidates_per_day = -1", "rules.candidates_per_day", "0"),
    ("candidates_per_day = 10", 'candidates_per_day = "1"', "rules.candidates_per_day", "whole"),
    ("candidates_per_day = 10", "candidates_per_day = 1.5", "rules.candidates_per_day", "whole"),
    ("candidates_per_day = 10", "candidates_per_day = true", "rules.candidates_per_day", "whole"),
    ("per_campaign = 0", "per_campaign = 99999999", "rules.likes_per_campaign", "1000000"),
    ("e_per_day = 1\n", "e_per_day = 0\n", "rules.likes_per_candidate_per_day", "1"),
    ('order = "random"', 'order = "by-name"', "rules.order", "'random' or 'listed'"),
    ('counts = "live"', 'counts = "never"', "rules.counts", "'daily'"),
    ('"18:00"', '"6 pm"', "rules.counts_daily_at", "18:00"),
    ('"18:00"', '"24:00"', "rules.counts_daily_at", "18:00"),
    ('"18:00"', "18:00:00", "rules.counts_daily_at", "in quotes"),
    ("30/minute", "30/fortnight", "limits.per_device", "no rate"),
    ('"1200/minute"', "1200", "limits.per_network", "in quotes"),
    ("https://www.example.cn", "https://www.example.cn/", "portal.origins", "no path"),
    ("https://www.example.cn", "www.example.cn", "portal.origins", "scheme"),
    ("https://www.example.cn", "javascript://x", "portal.origins", "scheme"),
    ("https://www.example.cn", "https://u@example.cn", "portal.origins", "scheme"),
    ("https://www.example.cn", "https://*.example.cn", "portal.origins", "no host"),
    ("https://www.example.cn", "https://示例.cn", "portal.origins", "xn--"),
    ("https://www.example.cn", "https://[::g]", "portal.origins", "no host"),
    ("https://www.example.cn", "https://a.cn:99999", "portal.origins", "65535"),
    ('["https://www.example.cn"]', '"https://www.example.cn"', "portal.origins", "list"),
    ('"学会" = 2', '"学会" = 0', "channels.学会", "1"),
    ('"学会" = 2', '"" = 2', "channels", "is empty"),
    ('"学会" = 2', '"  省级 " = 2', "channels", "twice"),
    ("[portal]", "[portals]", "portals", "not a known key"),
    ("[campaign]", "[campaign.x]", "campaign.x", "not a known key"),
]


@pytest.mark.parametrize(("right", "wrong", "column", "word"), MISTAKES)
def test_a_mistake_is_named_by_its_key(tmp_path, right, wrong, column, word):
    assert right in MANIFEST
    manifest, problems = read(tmp_path, MANIFEST.replace(right, wrong, 1))
    assert manifest is None
    named = {problem.column: problem.message for problem in problems}
    assert any(key.startswith(column) and word in named[key] for key in named), named
    assert {(problem.level, problem.file) for problem in problems} == {("error", "campaign.toml")}


def test_all_mistakes_are_named_at_once(tmp_path):
    text = MANIFEST
    for right, wrong in (
        ('id = "stars"', 'id = "*"'),
        ("08:00:00+08:00", "08:00:00"),
        ("30/minute", "often"),
        ('"学会" = 2', '"学会" = -2'),
    ):
        text = text.replace(right, wrong, 1)
    _, problems = read(tmp_path, text)
    assert [problem.column for problem in problems] == [
        "campaign.id",
        "campaign.opens_at",
        "limits.per_device",
        "channels.学会",
    ]
    assert problems[0].value == "*"


def test_broken_toml_is_named_by_its_line(tmp_path):
    text = MANIFEST.replace("likes_per_campaign = 0", "likes_per_campaign = ")
    line = next(n for n, row in enumerate(text.splitlines(), 1) if row == "likes_per_campaign = ")
    _, [problem] = read(tmp_path, text)
    assert (problem.file, problem.row, problem.column) == ("campaign.toml", line, None)


def test_toml_that_breaks_off_is_named_by_its_last_line(tmp_path):
    _, [problem] = read(tmp_path, '[campaign]\nid = "stars')
    assert problem.row == 2


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (MANIFEST.encode("gb18030"), "UTF-8"),
        (b"#" * 70_000, "larger"),
        (b"a = " + b"[" * 30_000, "nested"),
        (b"a = " + b"9" * 5_000, "no TOML"),
        (b"a = 2026-13-41T00:00:00Z", "no TOML"),
        (b"", "is missing"),
    ],
)
def test_whatever_the_file_holds_it_is_a_problem_and_no_crash(tmp_path, content, word):
    manifest, problems = read(tmp_path, content)
    assert manifest is None
    assert any(word in problem.message for problem in problems)


def test_a_missing_file_is_said(tmp_path):
    _, [problem] = read_manifest(tmp_path)
    assert (problem.file, problem.message) == ("campaign.toml", "is missing")


def test_origins_are_kept_as_browsers_send_them(tmp_path):
    origins = '["HTTPS://WWW.Example.CN:443", "http://[2001:DB8::0:1]:8080", "http://a.cn:80"]'
    text = MANIFEST.replace('["https://www.example.cn"]', origins)
    manifest, problems = read(tmp_path, text)
    assert problems == []
    assert manifest.origins == (
        "https://www.example.cn",
        "http://[2001:db8::1]:8080",
        "http://a.cn",
    )
