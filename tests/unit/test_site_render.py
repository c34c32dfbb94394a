"""What the public pages share: ways to the root, words made safe, pages that are kept."""

import contextlib
import gc
import gzip
import re
import weakref
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from voting.campaign import Campaign, Candidate, VotingWindow
from voting.edge.site import campaign as campaign_site
from voting.edge.site.budget import Budget
from voting.edge.site.kept import BASE, HOSTS_MAX, KeptPage, KeptPages, States
from voting.edge.site.ranking import ROWS_MAX, ranked
from voting.edge.site.render import (
    linked,
    paragraphs,
    phrases,
    policy,
    root_of,
    shortened,
)
from voting.edge.site.robots import ADDRESSES_MAX, parts_of, sitemap


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


def page_of(kept, key, made_from, text=b"page"):
    return kept.get(key, made_from, lambda: text)


def test_a_page_is_kept_until_something_it_was_made_from_is_another():
    kept, made = KeptPages(), []

    def make():
        made.append(1)
        return b"page"

    first = kept.get(("a",), (1, "x"), make)
    assert kept.get(("a",), (1, "x"), make) is first
    for made_from in ((2, "x"), (2, "y"), (2, "y", 1)):
        assert kept.get(("a",), made_from, make).at("").plain == b"page"
    assert len(made) == 4
    assert len(kept) == 1
    assert kept.find(("a",), (3, "y", 1)) is None
    assert kept.bytes_kept == 0


def test_kept_pages_are_bounded_in_number_and_bytes():
    kept = KeptPages(pages_max=3, bytes_max=4_000)
    for n in range(10):
        page_of(kept, (n,), ())
    assert len(kept) == 3
    assert kept.find((7,), ()) is not None  # asked for again: now (8,) goes first
    page_of(kept, (10,), (), b"x" * 900)
    assert kept.find((8,), ()) is None
    for n in range(20, 30):
        page_of(kept, (n,), (), b"x" * 900)
        assert kept.bytes_kept <= 4_000
    page_of(kept, (99,), (), b"x" * 9_000)
    assert len(kept) == 1  # the one that was just made is answered, however large


def test_what_is_made_of_a_page_for_hosts_counts_with_the_next_page():
    kept = KeptPages(bytes_max=10_000)
    for n in range(3):
        page = page_of(kept, (n,), (), b"x" * 900)
        for host in range(HOSTS_MAX):
            page.at(f"https://{host}.example.cn/")
    assert kept.bytes_kept > 10_000
    page_of(kept, (9,), (), b"x")
    assert kept.bytes_kept <= 10_000
    assert kept.find((2,), ()) is not None


def test_a_page_is_put_together_for_any_host_and_compressed_for_a_few():
    page = KeptPage(f"<a href={BASE}b>{BASE}".encode() + b"." * 400)
    hosts = [f"https://{n}.example.cn/" for n in range(50)]
    for host in hosts + hosts:
        body = page.at(host)
        assert body.plain == f"<a href={host}b>{host}".encode() + b"." * 400
        if host in hosts[:HOSTS_MAX]:
            assert gzip.decompress(body.form(gzip=True)) == body.plain
            assert page.at(host) is body
        else:
            assert body.form(gzip=True) == body.plain
    assert page.cost < 5 * len(page.at("").plain) + 500
    assert len({page.etag(host) for host in hosts}) == 50
    assert all(re.fullmatch(r'W/"[0-9a-f]{18}"', page.etag(host)) for host in hosts)
    assert page.etag("a") == KeptPage(page.at(BASE).plain).etag("a"), "the same on every edge"


def test_a_state_has_a_number_while_it_is_the_same_object_and_only_the_last_one_is_held():
    class State:
        pass

    states, one = States(), State()
    first = states.number_of("spring", one)
    assert states.number_of("spring", one) == first
    assert states.number_of("autumn", one) != first
    gone = weakref.ref(one)
    two = State()
    second = states.number_of("spring", two)
    states.number_of("autumn", two)
    del one
    gc.collect()
    assert gone() is None
    # ... and no later object gets the number of one that is gone, wherever it lies in memory.
    assert len({first, second, *(states.number_of("spring", State()) for _ in range(50))}) == 52


class Clock:
    """A time that passes when it is told to."""

    def __init__(self):
        self.now = self.worked = 1_000.0


def a_budget(clock):
    return Budget(0.1, 0.5, lambda: clock.now, lambda: clock.worked)


@given(st.lists(st.tuples(st.floats(0.001, 0.3), st.floats(0, 3)), min_size=1, max_size=60))
def test_pages_for_one_request_get_their_share_of_the_time_and_no_more(steps):
    clock = Clock()
    budget, began, worked = a_budget(clock), clock.now, 0.0
    for cost, pause in steps:
        if not budget.spent:
            with budget.measured():
                clock.worked += cost
                clock.now += cost
            worked += cost
        clock.now += pause
        # The last one may begin with next to nothing left.
        assert worked <= 0.5 + 0.1 * (clock.now - began) + 0.3 + 1e-6


def test_a_budget_that_was_spent_comes_back_and_what_fails_is_charged_too():
    clock = Clock()
    budget = a_budget(clock)
    with contextlib.suppress(ValueError), budget.measured():
        clock.worked += 0.6
        raise ValueError
    assert budget.spent
    clock.now += 2
    assert not budget.spent


def a_list(people, id_="spring"):
    now = datetime.now(UTC)
    window = VotingWindow(now, now + timedelta(days=1), ZoneInfo("Asia/Shanghai"))
    candidates = tuple(
        Candidate(n, f"c{n}", "名", "所", "单位", "省", "员", "事") for n in range(1, people + 1)
    )
    return Campaign(1, id_, "春", window, candidates=candidates)


async def test_cards_that_could_not_be_made_are_made_by_who_asks_next(monkeypatch):
    campaign = a_list(1)
    wall, failing = campaign_site.Wall(), [True]
    picture = campaign_site.picture

    def fails_once(*arguments):
        if failing.pop() if failing else False:
            raise MemoryError
        return picture(*arguments)

    monkeypatch.setattr(campaign_site, "picture", fails_once)
    with pytest.raises(MemoryError):
        await wall.of(campaign, "../", None)
    (card,) = await wall.of(campaign, "../", None)
    assert card.candidate is campaign.candidates[0]


async def test_a_large_campaign_keeps_no_other_waiting_for_its_turn():
    large, small = a_list(1), a_list(1, id_="autumn")
    wall = campaign_site.Wall()
    async with wall.turn(large):
        assert wall.turn(large).locked()
        assert not wall.turn(small).locked()


@pytest.mark.parametrize("people", [10, ADDRESSES_MAX - 4, ADDRESSES_MAX, 2 * ADDRESSES_MAX + 7])
def test_every_page_is_in_one_of_the_site_maps_however_many_there_are(people):
    campaigns, base = [a_list(people)], "https://likes.example.cn/"

    def listed(part):
        return re.findall(r"<loc>([^<]+)</loc>", sitemap(base, campaigns, part))

    parts = parts_of(campaigns)
    whole = listed(0)
    if parts:
        assert whole == [f"{base}sitemap-{n}.xml" for n in range(1, parts + 1)]
        maps = [listed(n) for n in range(1, parts + 1)]
        assert all(0 < len(one) <= ADDRESSES_MAX <= 50_000 for one in maps)
        whole = [address for one in maps for address in one]
    assert len(whole) == len(set(whole)) == people + 4
    assert f"{base}campaigns/spring/candidates/c{people}" in whole
    assert bool(parts) == (people + 4 > ADDRESSES_MAX)


def test_a_ranking_of_thousands_lists_the_first_and_counts_all():
    campaign = a_list(ROWS_MAX + 50)
    counts = {n: n for n in range(1, ROWS_MAX + 51)}
    rows = ranked(campaign, counts)
    assert len(rows) == ROWS_MAX
    assert rows[0].candidate.number == ROWS_MAX + 50
    assert rows[0].share == pytest.approx((ROWS_MAX + 50) / sum(counts.values()))


def test_a_policy_allows_no_script_and_no_frame_unless_it_is_said():
    strict = policy()
    assert "script-src" not in strict
    assert "unsafe" not in strict
    assert "frame-ancestors 'none'" in strict
    assert "script-src 'self'" in policy(scripts=True)
    assert "img-src 'self' https://media.example.cn;" in policy(media="https://media.example.cn")
