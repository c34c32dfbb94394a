"""What the public pages share: ways to the root, words made safe, pages that are kept."""

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from voting.edge.compressed import Body
from voting.edge.site.render import (
    KeptPages,
    linked,
    paragraphs,
    phrases,
    policy,
    root_of,
    shortened,
)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/", "./"),
        ("/receipt", "./"),
        ("/embed/", "../"),
        ("/campaigns/spring", "../"),
        ("/campaigns/spring/rules?q=a/b/c", "../../"),
        ("/campaigns/spring/candidates/c001", "../../../"),
        ("/campaigns/a%2Fb/rules", "../../"),
        ("/" * 5_000, "./"),
    ],
)
def test_the_root_is_as_far_away_as_the_address_is_deep(path, root):
    assert root_of(make_mocked_request("GET", path)) == root


@given(st.text(max_size=300), st.integers(2, 120))
def test_a_shortened_text_is_short_and_begins_as_the_whole(text, most):
    short = shortened(text, most)
    assert len(short) <= most
    assert " ".join(text.split()).startswith(short.rstrip("…"))


def test_a_shortened_text_ends_with_a_sentence_where_it_can():
    assert shortened("第一句话说完了。第二句话还很长很长很长很长", 14) == "第一句话说完了。"
    assert shortened("一句话没有说完就要被切断了", 8) == "一句话没有说完…"
    assert shortened("短", 8) == "短"


def test_addresses_in_a_text_become_links_and_nothing_else_does():
    made = linked("写信：a.b@example.cn，或看 https://example.cn/a?b=1&c=2 。<b>\"'")
    assert made == (
        '写信：<a href="mailto:a.b@example.cn" rel="nofollow">a.b@example.cn</a>，或看'
        ' <a href="https://example.cn/a?b=1&amp;c=2" rel="nofollow">'
        "https://example.cn/a?b=1&amp;c=2</a> 。&lt;b&gt;&#34;&#39;"
    )
    assert "<a" not in linked("javascript:alert(1) data:text/html,x @ http:// https://")


@given(st.text(max_size=200))
def test_no_text_becomes_markup_by_its_links_or_phrases(text):
    hostile = f"<script>{text}</script>"
    assert "<script" not in linked(hostile)
    assert "<script" not in phrases(hostile)


def test_a_title_breaks_at_its_own_marks():
    def parts(title):
        return str(phrases(title)).replace("</span>", "").split('<span class="phrase">')[1:]

    assert parts("“匠心星火”科技人物网络点赞（演示）") == [
        "“匠心星火”",
        "科技人物网络点赞",
        "（演示）",
    ]
    assert parts("春天的活动") == ["春天的活动"]
    assert parts("寻找“最美”的人、事。") == ["寻找", "“最美”", "的人、", "事。"]


def test_paragraphs_are_lines_with_something_in_them():
    assert paragraphs("一\r\n\n  二 \n\t\n三") == ["一", "二", "三"]


def test_a_page_is_kept_until_something_it_was_made_from_is_another():
    kept, made = KeptPages(), []

    def make():
        made.append(1)
        return b"page"

    one, other = object(), object()
    first = kept.get(("a",), (one, 1, "x"), make)
    assert kept.get(("a",), (one, 1, "x"), make) is first
    assert isinstance(first, Body)
    for made_from in ((other, 1, "x"), (other, 2, "x"), (other, 2, "y"), (other, 2, "y", 1)):
        assert kept.get(("a",), made_from, make).plain == b"page"
    assert len(made) == 5
    assert len(kept) == 1
    # Equal is not the same: a campaign is compared by identity.
    assert kept.find(("a",), ([], 2, "y", 1)) is None
    assert kept.bytes_kept == 0


def test_kept_pages_are_bounded_in_number_and_bytes():
    kept = KeptPages(pages_max=3, bytes_max=4_000)
    for n in range(10):
        kept.get((n,), (), lambda: b"x")
    assert len(kept) == 3
    assert kept.find((7,), ()) is not None  # asked for again: now (8,) goes first
    kept.get((10,), (), lambda: b"x" * 900)
    assert kept.find((8,), ()) is None
    for n in range(20, 30):
        kept.get((n,), (), lambda: b"x" * 900)
        assert kept.bytes_kept <= 4_000
    kept.get((99,), (), lambda: b"x" * 9_000)
    assert len(kept) == 1  # the one that was just made is answered, however large


def test_a_policy_allows_no_script_and_no_frame_unless_it_is_said():
    strict = policy()
    assert "script-src" not in strict
    assert "unsafe" not in strict
    assert "frame-ancestors 'none'" in strict
    assert "script-src 'self'" in policy(scripts=True)
    assert "img-src 'self' https://media.example.cn;" in policy(media="https://media.example.cn")
