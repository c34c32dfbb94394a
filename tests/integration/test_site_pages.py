"""The public pages by HTTP: what they say, to whom, from where, and how long it is kept."""

import asyncio
import gc
import inspect
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote, urljoin, urlsplit

import jinja2
import pytest
from yarl import URL

from tally.housekeeping import DAYS_KEPT
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.public_campaigns import _CHANNELS as CHANNELS
from tests.public_campaigns import add_public_campaign
from voting.campaign import Campaign, Candidate, VotingWindow, moment_at
from voting.edge.site import robots
from voting.edge.site.budget import Budget, Budgets
from voting.edge.site.campaign import FOUND_MAX
from voting.edge.site.kept import KeptPages
from voting.edge.site.moments import standing
from voting.edge.site.privacy import HOT_DAYS
from voting.edge.site.ranking import ranked
from voting.journal import tally_key

PAGES = ("", "/candidates/c001", "/ranking", "/rules", "/privacy")


@pytest.fixture
async def site(tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge with "spring": eight people with everything that a page can show."""
    await add_public_campaign(postgres, candidates=8, photos=2)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as running:
        yield running


async def fetch(edge, path, **options):
    async with edge.http.get(edge.url + path, **options) as answer:
        return answer, await answer.text()


async def page_says(edge, path, text, seconds=5):
    async def said():
        return text in (await fetch(edge, path))[1]

    await wait_until_async(said, seconds=seconds, what=f"{text!r} on {path}")


async def changed(postgres, sql, *values):
    await postgres.execute(sql, *values)
    await postgres.execute("UPDATE catalog SET version = version + 1")


class Read(HTMLParser):
    """A page taken apart: tags with attributes, and the text of it."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.texts = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    def all(self, tag, **wanted):
        return [
            attributes
            for name, attributes in self.tags
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def meta(self, name):
        found = [
            one["content"]
            for one in self.all("meta")
            if name in (one.get("property"), one.get("name"))
        ]
        return found[0] if found else None

    def addresses(self):
        for _, attributes in self.tags:
            for name in ("href", "src", "action", "poster"):
                if attributes.get(name):
                    yield attributes[name]
            for part in (attributes.get("srcset") or "").split(","):
                if part.strip():
                    yield part.split()[0]


async def test_the_campaigns_page_shows_everybody_and_the_rules_in_force(site):
    answer, page = await fetch(site, "/campaigns/spring")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    read, campaign = Read(page), site.parts.catalog.campaigns["spring"]
    for candidate in campaign.candidates:
        assert read.all("a", href=f"../campaigns/spring/candidates/{candidate.id}")
        assert read.all("a", href=f"../embed/v1/card/spring/{candidate.id}")
        assert candidate.name in read.text
        assert candidate.organisation in read.text
    assert campaign.page.lead in read.text
    assert campaign.page.organiser in read.text
    assert "每台设备每天最多为 3 位候选人点赞。" in read.text
    assert "进行中 · 距结束还有 29 天" in read.text
    assert "8 位" in read.text
    assert len(read.all("img", loading="lazy")) == 8
    assert [one["fetchpriority"] for one in read.all("img") if "fetchpriority" in one] == ["high"]
    assert all(one["width"] and one["height"] for one in read.all("img"))


async def test_a_candidates_page_tells_the_story_and_is_shared_well(site):
    _, page = await fetch(site, "/campaigns/spring/candidates/c001")
    read = Read(page)
    candidate = site.parts.catalog.campaigns["spring"].by_id["c001"]
    assert all(line in read.text for line in candidate.story.split("\n"))
    assert read.all("like-button", campaign="spring", candidate="c001", name=candidate.name)
    assert read.all("a", href="../../../embed/v1/card/spring/c001")
    (video,) = read.all("video")
    assert video["src"] == "../../../v1/videos/abcdef0123456789.mp4"
    assert (video["preload"], "controls" in video, "playsinline" in video) == ("none", True, True)
    assert read.meta("og:title") == f"{candidate.name} - “匠心星火”科技人物网络点赞"
    assert read.meta("og:type") == "profile"
    assert candidate.organisation in read.meta("og:description") == read.meta("description")
    assert read.meta("og:url") == f"{site.url}/campaigns/spring/candidates/c001"
    assert read.all("link", rel="canonical")[0]["href"] == read.meta("og:url")
    async with site.http.get(read.meta("og:image")) as answer:
        assert (answer.status, answer.content_type) == (200, "image/jpeg")
    assert read.meta("robots") is None


async def test_every_picture_style_and_page_that_the_pages_name_is_there(site):
    seen = {}
    for path in PAGES:
        here = f"{site.url}/campaigns/spring{path}"
        _, page = await fetch(site, f"/campaigns/spring{path}")
        for address in Read(page).addresses():
            if urlsplit(address).scheme == "mailto" or "/v1/videos/" in address:
                continue
            assert not address.startswith("/"), address
            whole = urljoin(here, address).partition("#")[0]
            if whole not in seen:
                async with site.http.get(whole) as answer:
                    seen[whole] = answer.status
    assert len(seen) > 40
    assert {address: status for address, status in seen.items() if status != 200} == {}


async def test_pages_say_where_they_are_behind_a_proxy_that_is_trusted_and_to_no_other(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_public_campaign(postgres, candidates=2, photos=1)
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/likes"}

    async def canonical(edge, **headers):
        _, page = await fetch(edge, "/campaigns/spring", headers=headers)
        found = Read(page).all("link", rel="canonical")
        return found[0]["href"] if found else None

    at = "/campaigns/spring"
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        assert (
            await canonical(edge, Host="news.example.cn", **told) == f"http://news.example.cn{at}"
        )
        for hostile in ('a"><script>', "a b", "a/b", "x" * 300):
            assert await canonical(edge, Host=hostile) is None
    trusting = {"trusted_proxies": "127.0.0.0/8"}
    async with running_edge(tmp_path, valkey_url, postgres_dsn, **trusting) as edge:
        host = {"Host": "news.example.cn"}
        assert await canonical(edge, **host, **told) == f"https://news.example.cn/likes{at}"
        for prefix in ('/"><script>', "//evil.example", "/../..", "likes", "/a b"):
            hostile = told | {"X-Forwarded-Prefix": prefix, "X-Forwarded-Proto": "javascript"}
            assert await canonical(edge, **host, **hostile) == f"http://news.example.cn{at}"
    named = {"public_origins": "https://likes.example.cn", "trusted_proxies": "127.0.0.0/8"}
    async with running_edge(tmp_path, valkey_url, postgres_dsn, **named) as edge:
        # One page has one address, wherever it is mounted.
        assert await canonical(edge, **host, **told) == f"https://likes.example.cn{at}"


async def test_a_page_that_is_asked_for_at_one_of_the_public_origins_says_that_one(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_public_campaign(postgres, candidates=2, photos=0)
    named = {
        "public_origins": "https://www.example.cn,https://likes.example.cn",
        "trusted_proxies": "127.0.0.0/8",
    }
    told = {"X-Forwarded-Prefix": "/likes"}
    async with running_edge(tmp_path, valkey_url, postgres_dsn, **named) as edge:
        for host, base in (
            ("likes.example.cn", "https://likes.example.cn/likes"),
            ("WWW.example.cn", "https://www.example.cn/likes"),
            ("other.example.cn", "https://www.example.cn"),
        ):
            _, page = await fetch(edge, "/campaigns/spring", headers={"Host": host, **told})
            (link,) = Read(page).all("link", rel="canonical")
            assert link["href"] == f"{base}/campaigns/spring"


@pytest.fixture
def renders(monkeypatch):
    """Names of the templates of whole pages, as often as they are rendered."""
    seen = Counter()
    render = jinja2.Template.render

    def counted(template, *arguments, **values):
        seen[template.name] += 1
        return render(template, *arguments, **values)

    monkeypatch.setattr(jinja2.Template, "render", counted)
    return seen


async def test_another_host_or_spelling_costs_no_other_page(site, renders, monkeypatch):
    # The order of the candidates stands for the whole test.
    monkeypatch.setattr("voting.edge.site.campaign.ORDER_KEPT_SECONDS", 1_000_000_000)
    monkeypatch.setattr("voting.edge.site.ranking.STANDS_SECONDS", 1_000)
    pages = {
        "campaign.html": ("spring", "sprin%67", "%73pring"),
        "candidate.html": ("spring/candidates/c001", "s%70ring/%63andidates/%63001"),
        "ranking.html": ("spring/ranking", "sp%72ing/ranking"),
        "privacy.html": ("spring/privacy", "%73%70%72%69%6e%67/privacy"),
    }
    for template, spellings in pages.items():
        await fetch(site, f"/campaigns/{spellings[0]}")
        before = renders[template]
        own = f"campaigns/{spellings[0]}"
        for n in range(12):
            host = f"{n}.example.cn"
            for spelling in spellings:
                address = URL(f"{site.url}/campaigns/{spelling}", encoded=True)
                async with site.http.get(address, headers={"Host": host}) as answer:
                    assert answer.status == 200
                    read = Read(await answer.text())
                assert read.all("link", rel="canonical")[0]["href"] == f"http://{host}/{own}"
                assert read.meta("og:url") == f"http://{host}/{own}"
                image = read.meta("og:image")
                assert image is None or image.startswith(f"http://{host}/v1/photos/")
                assert "\ue000" not in read.text
        assert renders[template] - before <= 1, template  # the counts may come in between


async def test_the_rules_are_not_written_out_for_each_reader(site, renders, monkeypatch):
    monkeypatch.setattr("voting.edge.site.rules._STANDS_US", 10**15)
    for _ in range(10):
        await fetch(site, "/campaigns/spring/rules")
    assert renders["rules.html"] == 1


async def test_what_nobody_else_asks_for_is_refused_where_there_is_no_time_for_it(
    edge, monkeypatch
):
    alone = ("/campaigns/spring?q=x", "/embed/?color=%23123456", "/receipt?receipt=x")
    browser = {"Accept": "text/html"}
    for path in alone[:2]:
        assert (await fetch(edge, path))[0].status == 200
    monkeypatch.setattr(Budget, "spent", property(lambda _: True))
    for path in alone:
        answer, text = await fetch(edge, path, headers=browser)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        # There is no time for an error page either.
        assert json.loads(text)["outcome"] == "overloaded"
    answer, _ = await fetch(edge, "/nowhere", headers=browser)
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    for path in PAGES:
        assert (await fetch(edge, f"/campaigns/spring{path}"))[0].status == 200
    assert (await edge.like(await edge.token()))[0] == 201


async def test_searches_that_are_too_many_leave_other_pages_their_time(edge, monkeypatch):
    of = Budgets.of
    spent = Budget(burst_seconds=float("-inf"))
    monkeypatch.setattr(
        Budgets, "of", lambda self, kind: spent if kind == "search" else of(self, kind)
    )
    answer, page = await fetch(edge, "/campaigns/spring?q=x", headers={"Accept": "text/html"})
    assert answer.status == 503
    assert "现在访问的人太多" in page
    assert (await fetch(edge, "/embed/"))[0].status == 200


async def test_the_site_map_is_made_once_for_each_state_of_the_campaigns(
    site, postgres, monkeypatch
):
    made = []
    sitemap = robots.sitemap
    monkeypatch.setattr(robots, "sitemap", lambda *said: made.append(1) or sitemap(*said))
    for n in range(8):
        _, text = await fetch(site, "/sitemap.xml", headers={"Host": f"{n}.example.cn"})
        assert f"<loc>http://{n}.example.cn/campaigns/spring/candidates/c008</loc>" in text
    assert len(made) == 1
    assert (await fetch(site, "/sitemap-1.xml"))[0].status == 404
    await changed(postgres, "UPDATE candidates SET withdrawn_at = now() WHERE id = 'c008'")

    async def left_out():
        return "c008" not in (await fetch(site, "/sitemap.xml"))[1]

    await wait_until_async(left_out, what="the site map without c008")
    assert len(made) == 2


async def test_what_is_kept_holds_no_state_of_a_campaign_that_is_over(site, postgres):
    def alive():
        gc.collect()
        return sum(isinstance(one, Campaign) for one in gc.get_objects())

    for n in range(1, 9):
        await changed(postgres, "UPDATE candidates SET summary = $1 WHERE number = 1", f"第{n}稿")
        await page_says(site, "/campaigns/spring/candidates/c001", f"第{n}稿")
        # A page of each state stays, for nobody asks for it again.
        await fetch(site, f"/campaigns/spring/candidates/c00{n}")
        await fetch(site, f"/campaigns/spring?channel={quote(CHANNELS[n % 2])}")
    # The present one, and the one before where nobody asked since.
    assert alive() <= 3


async def test_the_campaigns_page_is_compressed_before_anybody_finds_it(site, monkeypatch):
    seen = []
    keep = KeptPages.keep

    def looked_at(self, key, made_from, page):
        if "campaign" in key:
            seen.extend(body._gzipped is not None for body in page._bodies.values())
        return keep(self, key, made_from, page)

    monkeypatch.setattr(KeptPages, "keep", looked_at)
    await asyncio.gather(*(fetch(site, "/campaigns/spring") for _ in range(5)))
    assert seen
    assert all(seen)


@pytest.mark.parametrize("page", ["", "/candidates/c001", "/ranking", "/privacy", "/notice"])
async def test_a_cache_that_has_the_page_hears_that_it_is_the_same(
    site, postgres, monkeypatch, page
):
    monkeypatch.setattr("voting.edge.site.campaign.ORDER_KEPT_SECONDS", 1_000_000_000)
    monkeypatch.setattr("voting.edge.site.ranking.STANDS_SECONDS", 1_000)
    await site.wait_for_counts("spring", {"c001": 0})
    path = f"/campaigns/spring{page}"
    first, _ = await fetch(site, path)
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    for known, encoding in ((etag, "gzip"), (f'"x", {etag}', "identity"), ("*", "gzip")):
        headers = {"If-None-Match": known, "Accept-Encoding": encoding}
        answer, text = await fetch(site, path, headers=headers)
        assert (answer.status, text) == (304, "")
        for name in ("ETag", "Cache-Control", "Surrogate-Key", "Vary"):
            assert answer.headers[name] == first.headers[name]
    answer, text = await fetch(site, path, headers={"If-None-Match": 'W/"another"'})
    assert (answer.status, answer.headers["ETag"]) == (200, etag)
    # Another host is another page, and another state too.
    answer, _ = await fetch(site, path, headers={"Host": "x.example.cn", "If-None-Match": etag})
    assert answer.status == 200
    await changed(postgres, "UPDATE campaigns SET title = '另一个名字'")
    await page_says(site, path, "另一个名字")
    answer, _ = await fetch(site, path, headers={"If-None-Match": etag})
    assert (answer.status, answer.headers["ETag"] != etag) == (200, True)


async def test_a_page_comes_compressed_and_a_cache_may_keep_it_for_seconds(site):
    for path in PAGES:
        answer, page = await fetch(
            site, f"/campaigns/spring{path}", headers={"Accept-Encoding": "gzip"}
        )
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in answer.headers["Vary"]
        kept = r"public, max-age=\d+, stale-while-revalidate=\d+(, stale-if-error=60)?"
        assert re.fullmatch(kept, answer.headers["Cache-Control"])
        assert "campaign-spring" in answer.headers["Surrogate-Key"].split()
        plain, same = await fetch(
            site, f"/campaigns/spring{path}", headers={"Accept-Encoding": "identity"}
        )
        assert "Content-Encoding" not in plain.headers
        assert same == page or path in (
            "/rules",
            "",
        )  # it says the second; the order's minute may end


async def test_pages_have_no_inline_script_or_style_and_a_policy_that_forbids_them(site):
    for path in PAGES:
        answer, page = await fetch(site, f"/campaigns/spring{path}")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy.split("frame-ancestors")[0]
        read = Read(page)
        assert read.all("style") == []
        assert all("src" in script for script in read.all("script"))
        for _, attributes in read.tags:
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
    answer, _ = await fetch(site, "/campaigns/spring")
    assert answer.headers["Content-Security-Policy"].endswith(
        "frame-ancestors 'self' https://www.example.cn"
    )


async def test_hostile_texts_are_text_wherever_they_are_shown(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\u202e"
    page = dict.fromkeys(("lead", "about", "organiser", "contact"), hostile)
    page["colour"] = "red;}body{background:url(https://evil.example)"
    await add_public_campaign(postgres, candidates=3, photos=1, title=hostile, page=page)
    await changed(
        postgres,
        "UPDATE candidates SET name = $1, organisation = $1, unit = $1, channel = $1, title = $1,"
        " summary = $1, story = $1 WHERE number < 3",
        hostile,
    )
    await changed(
        postgres, "UPDATE candidates SET withdrawn_at = now(), name = $1 WHERE number = 2", hostile
    )
    await changed(postgres, "UPDATE campaigns SET paused_because = $1", hostile)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        for path in (
            *PAGES,
            "/candidates/c002",
            f"?q={quote(hostile)}",
            f"?channel={quote(hostile)}",
            "/theme.css",
        ):
            answer, text = await fetch(edge, f"/campaigns/spring{path}")
            assert answer.status == 200, path
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "evil.example" not in text
            assert "49" not in Read(text).text.replace(hostile, ""), "no template is made of a text"
            if path == "/theme.css":
                continue
            read = Read(text)
            assert hostile.split("{{", maxsplit=1)[0] in read.text
            assert not [one for _, one in read.tags if any(key.startswith("on") for key in one)]


async def test_who_has_withdrawn_is_named_so_and_nothing_speaks_for_them(site, postgres):
    await changed(postgres, "UPDATE candidates SET withdrawn_at = now() WHERE id = 'c001'")
    await page_says(site, "/campaigns/spring/candidates/c001", "这位候选人已退出，不再接受点赞。")
    answer, page = await fetch(site, "/campaigns/spring/candidates/c001")
    read, candidate = Read(page), site.parts.catalog.campaigns["spring"].by_id["c001"]
    assert answer.status == 200
    assert read.meta("robots") == "noindex"
    assert candidate.summary not in page
    assert candidate.story.split("\n")[0] not in page
    assert not read.all("video") + read.all("like-button") + read.all("script")
    assert read.meta("og:image") is None
    _, wall = await fetch(site, "/campaigns/spring")
    assert f'id="{candidate.id}"' not in wall
    assert "已退出：" in wall
    assert "7 位" in Read(wall).text
    assert "c001" not in (await fetch(site, "/sitemap.xml"))[1]
    assert "candidates/c001" not in (await fetch(site, "/campaigns/spring/ranking"))[1]


async def test_a_rehearsal_says_so_on_every_page_and_is_not_to_be_found(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_public_campaign(postgres, "real", candidates=2, photos=0)
    await add_public_campaign(postgres, "rehearsal", candidates=2, photos=0, is_test=True)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        for path in PAGES:
            _, page = await fetch(edge, f"/campaigns/rehearsal{path}")
            assert "测试活动" in page
            assert Read(page).meta("robots").startswith("noindex")
            _, page = await fetch(edge, f"/campaigns/real{path}")
            assert "测试活动" not in page
            assert Read(page).meta("robots") is None
        _, sitemap = await fetch(edge, "/sitemap.xml")
        assert f"<loc>{edge.url}/campaigns/real/candidates/c001</loc>" in sitemap
        assert "rehearsal" not in sitemap
        _, robots = await fetch(edge, "/robots.txt")
        assert f"Sitemap: {edge.url}/sitemap.xml" in robots
        assert "Disallow: /v1/" in robots


async def test_a_pause_and_the_days_that_are_left_are_told(site, postgres):
    await changed(postgres, "UPDATE campaigns SET paused_because = '机房检修'")
    for path in ("", "/candidates/c001", "/rules"):
        await page_says(site, f"/campaigns/spring{path}", "点赞暂停中：机房检修")


async def test_the_ranking_follows_the_board(tmp_path, valkey, valkey_url, postgres_dsn, postgres):
    rules = {"counts": "after-close"}
    await add_public_campaign(postgres, candidates=5, photos=0, rules=rules)
    for candidate, likes in ((2, 70), (3, 1_234), (4, 70)):
        await valkey.hset(tally_key(0, "spring"), str(candidate), likes)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        _, page = await fetch(edge, "/campaigns/spring/ranking")
        assert "点赞数尚未公布" in page
        assert "后公布。" in page
        assert "1,234" not in page
        assert "1,234" not in (await fetch(edge, "/campaigns/spring/candidates/c003"))[1]
        await changed(postgres, "UPDATE campaigns SET rules = '{}'")
        await page_says(edge, "/campaigns/spring/ranking", "1,234")
        _, page = await fetch(edge, "/campaigns/spring/ranking")
        rows = re.findall(
            r'<td class="rank">(\d+)</td>.*?candidates/(c\d+)".*?"figure">([\d,]+)<.*?>([\d.]+)%',
            page,
        )
        assert rows == [
            ("1", "c003", "1,234", "89.81"),
            ("2", "c002", "70", "5.09"),
            ("2", "c004", "70", "5.09"),
            ("4", "c001", "0", "0.00"),
            ("4", "c005", "0", "0.00"),
        ]
        assert "1,374</b> 次点赞" in page
        await page_says(edge, "/campaigns/spring/candidates/c003", "1,234")
        # What was kept is not shown once the campaign hides it again.
        await changed(postgres, """UPDATE campaigns SET rules = '{"counts": "staff"}'""")
        await page_says(edge, "/campaigns/spring/ranking", "点赞数尚未公布")
        assert "1,234" not in (await fetch(edge, "/campaigns/spring/ranking"))[1]
        assert "1,234" not in (await fetch(edge, "/campaigns/spring/candidates/c003"))[1]


async def test_without_a_script_the_server_finds(site):
    campaign = site.parts.catalog.campaigns["spring"]

    async def found(query):
        _, page = await fetch(site, f"/campaigns/spring{query}")
        read = Read(page)
        return {one["id"] for one in read.all("li", **{"class": "person"})}, page

    everybody = {candidate.id for candidate in campaign.candidates}
    assert (await found(""))[0] == everybody
    channel = campaign.candidates[0].channel
    ids, page = await found(f"?channel={quote(channel)}")
    assert ids == {c.id for c in campaign.candidates if c.channel == channel} != everybody
    assert Read(page).meta("robots") == "noindex, follow"
    name = campaign.candidates[0].name
    ids, _ = await found(f"?q={quote('  ' + name)}")
    assert "c001" in ids
    assert ids == {c.id for c in campaign.candidates if name in c.name}
    ids, page = await found(f"?q={quote('没有这个人')}")
    assert ids == set()
    assert "没有找到候选人" in page
    assert (await found("?channel=no-such"))[0] == everybody
    assert (await found("?q=" + "x" * 3_000))[0] == set()


async def test_a_search_shows_so_many_at_most(tmp_path, valkey_url, postgres_dsn, postgres):
    await add_campaign(postgres, candidates=FOUND_MAX + 5)
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        _, page = await fetch(edge, f"/campaigns/spring?q={quote('候选人')}")
        assert len(Read(page).all("li", **{"class": "person"})) == FOUND_MAX
        assert f"找到 {FOUND_MAX + 5} 位" in page
        assert f"只显示前 {FOUND_MAX} 位" in page


async def test_the_order_is_random_where_the_rules_say_so_and_the_lists_where_not(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_public_campaign(postgres, "random", candidates=40, photos=0)
    await add_public_campaign(
        postgres, "listed", candidates=40, photos=0, rules={"order": "listed"}
    )

    async def order(edge, campaign):
        _, page = await fetch(edge, f"/campaigns/{campaign}")
        return [one["id"] for one in Read(page).all("li", **{"class": "person"})], page

    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        listed = [f"c{n:03}" for n in range(1, 41)]
        shown, page = await order(edge, "listed")
        assert shown == listed
        assert "随机排列，每分钟" not in page
        shown, page = await order(edge, "random")
        assert shown != listed
        assert sorted(shown) == listed
        assert "随机排列，每分钟" in page


async def test_the_campaigns_colour_is_a_file_of_its_own(site):
    _, page = await fetch(site, "/campaigns/spring")
    (theme,) = [
        one["href"]
        for one in Read(page).all("link", rel="stylesheet")
        if "theme.css" in one["href"]
    ]
    answer, css = await fetch(site, "/" + theme.removeprefix("../"))
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "--accent:#9d2a1c" in css
    answer, _ = await fetch(site, "/campaigns/spring/theme.css?older")
    assert answer.headers["Cache-Control"] == "public, max-age=60"


async def test_the_privacy_notice_says_whom_to_ask_and_the_codes_own_numbers(site, postgres):
    _, page = await fetch(site, "/campaigns/spring/privacy")
    text = Read(page).text
    assert "office@example.cn" in text
    assert "180 天" in text
    assert HOT_DAYS == DAYS_KEPT
    assert f"最近 {DAYS_KEPT} 天" in text
    assert "In English" in text
    assert "门户网站可以为已登录的用户" not in text
    await changed(
        postgres,
        "UPDATE campaigns SET portal_keys = $1, page = '{}'",
        json.dumps({"https://www.example.cn": "A" * 43 + "="}),
    )
    await page_says(site, "/campaigns/spring/privacy", "门户网站可以为已登录的用户")
    await page_says(site, "/campaigns/spring/privacy", "没有在这里登记联系方式")


async def test_the_privacy_notice_claims_no_more_than_the_code_keeps(site):
    text = " ".join(Read((await fetch(site, "/campaigns/spring/privacy"))[1]).text.split())
    # Addresses stay in caches of the process's memory, which have no end in time.
    assert "片刻" not in text
    assert "只留在内存里" in text
    assert "服务重启即消失" in text
    assert "is gone when the service restarts" in text
    # A device has another pseudonym in each campaign, a network has not.
    pseudonyms = site.parts.pseudonyms
    assert pseudonyms.device(b"d" * 16, "spring") != pseudonyms.device(b"d" * 16, "autumn")
    assert "campaign" not in inspect.signature(pseudonyms.networks).parameters
    assert "各活动之间互不相通" not in text
    assert "网络代号每天更换，但同一天里在各活动中相同" in text
    assert "the same in all campaigns" in text
    # The operator's command asks for no second person.
    assert "剔除须由两名工作人员" not in text
    assert "技术人员另可用命令单独剔除" in text
    assert "the operator of the machine can do it alone" in text
    assert "从不发送" in text
    assert "never sent" in text


async def test_an_unknown_campaign_or_candidate_is_404(site):
    for path in (
        "/campaigns/winter",
        "/campaigns/winter/ranking",
        "/campaigns/winter/privacy",
        "/campaigns/winter/theme.css",
        "/campaigns/winter/candidates/c001",
        "/campaigns/spring/candidates/nobody",
    ):
        assert (await fetch(site, path))[0].status == 404, path


def a_campaign(opens_at, closes_at, **changes):
    from zoneinfo import ZoneInfo

    window = VotingWindow(opens_at, closes_at, ZoneInfo("Asia/Shanghai"))
    return Campaign(1, "a", "甲", window, **changes)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2026-06-28T12:00", ("not-open", "尚未开始", "距开始还有 2 天")),
        ("2026-06-30T11:00", ("not-open", "尚未开始", "距开始还有 13 小时")),
        ("2026-07-01T00:00", ("open", "进行中", "距结束还有 31 天")),
        ("2026-07-30T23:59", ("open", "进行中", "距结束还有 24 小时")),
        ("2026-07-31T23:30", ("open", "进行中", "距结束不到 1 小时")),
        ("2026-08-01T00:00", ("closed", "已结束", "")),
    ],
)
def test_where_a_campaign_stands_is_told_in_words(at, words):
    from zoneinfo import ZoneInfo

    zone = ZoneInfo("Asia/Shanghai")
    campaign = a_campaign(datetime(2026, 7, 1, tzinfo=zone), datetime(2026, 8, 1, tzinfo=zone))
    now = datetime.fromisoformat(at).replace(tzinfo=zone)
    now_us = int(now.timestamp()) * 1_000_000
    assert moment_at(now_us, zone) == now
    assert standing(campaign, now_us)[:3] == words


def test_equal_counts_share_a_rank_and_stand_in_listed_order():
    now = datetime.now(UTC)
    people = tuple(
        Candidate(n, f"c{n}", "名", "所", "单位", "省", "员", "事", withdrawn=n == 4)
        for n in range(1, 7)
    )
    campaign = a_campaign(now, now + timedelta(days=1), candidates=people)
    rows = ranked(campaign, {1: 5, 2: 9, 3: 5, 4: 99, 6: 5})
    assert [(row.rank, row.candidate.number, row.likes) for row in rows] == [
        (1, 2, 9), (2, 1, 5), (2, 3, 5), (2, 6, 5), (5, 5, 0),
    ]  # fmt: skip
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert [row.rank for row in ranked(campaign, {})] == [1, 1, 1, 1, 1]
