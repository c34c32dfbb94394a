"""/embed/ for portals' programmers, the home page and the error pages, by HTTP."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from voting.edge import widget

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>"


class Texts(HTMLParser):
    """Texts of elements with an id, as people read and copy them; all tags with attributes."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags, self._open = {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in ("meta", "link", "input", "img", "br", "source"):
            self._open.append(attributes.get("id"))

    def handle_endtag(self, tag):
        if self._open:
            self._open.pop()

    def handle_data(self, data):
        for name in filter(None, self._open):
            self.texts[name] = self.texts.get(name, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


async def page_of(edge, path, status=200, **options):
    async with edge.http.get(edge.url + path, headers=BROWSER, **options) as answer:
        assert answer.status == status, path
        assert answer.content_type == "text/html"
        return answer, await answer.text()


async def changed(edge, postgres, sql, *values):
    """Change the catalog, and wait until the edge has it."""
    await postgres.execute(sql, *values)
    version = await postgres.fetchval("UPDATE catalog SET version = version + 1 RETURNING version")

    async def known():
        return edge.parts.catalog._version >= version

    await wait_until_async(known, what="a change of the catalog")


async def test_without_a_script_every_way_has_its_lines(edge):
    answer, text = await page_of(edge, "/embed/")
    seen = Texts(text)
    for route in ("card", "button", "wall", "iframe", "form", "image"):
        assert edge.url in seen.texts[f"html-{route}"]
        assert seen.texts[f"policy-{route}"]
    pinned = Texts(seen.texts["html-card"]).all("script")[0]
    assert pinned["src"] == f"{edge.url}/embed/{widget.NEWEST}/like.js"
    async with edge.http.get(pinned["src"]) as script:
        assert script.status == 200
        assert script.headers["Access-Control-Allow-Origin"] == "*"
    assert pinned["integrity"] == widget.integrity(widget.NEWEST, "like.js")
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "max-age" in answer.headers["Cache-Control"]


async def test_the_address_says_what_is_chosen_and_nonsense_is_as_if_not_said(edge):
    chosen = "?candidate=c003&route=iframe&theme=dark&lang=en&color=%230a5c36"
    _, text = await page_of(edge, f"/embed/{chosen}")
    seen = Texts(text)
    line = Texts(seen.texts["html-iframe"]).all("iframe")[0]
    assert line["src"] == (f"{edge.url}/embed/v1/card/spring/c003?theme=dark&lang=en&color=0a5c36")
    assert "html-card" not in seen.texts
    [option] = [each for each in seen.all("option") if each.get("value") == "c003"]
    assert "selected" in option
    nonsense = "?candidate=c001&route=x&theme=x&lang=x&color=red;}&build=x"
    assert (
        Texts((await page_of(edge, f"/embed/{nonsense}"))[1]).texts["html-card"]
        == (Texts((await page_of(edge, "/embed/"))[1]).texts["html-card"])
    )
    _, text = await page_of(edge, "/embed/?candidate=%3Cscript%3Ealert(1)")
    assert "没有候选人“&lt;script&gt;alert(1)”" in text
    _, text = await page_of(edge, "/embed/?build=newest")
    assert "integrity" not in Texts(text).texts["html-card"]


async def test_the_script_of_the_page_asks_for_the_lines_alone(edge):
    async with edge.http.get(f"{edge.url}/embed/?part=lines&route=card&candidate=c002") as answer:
        text = await answer.text()
    assert len(text) < 6_000
    assert "<option" not in text
    assert 'candidate="c002"' in Texts(text).texts["html-card"]


@pytest.mark.parametrize(
    "address", ["/embed/", "/embed/?part=lines&origin=x", "/embed/?campaign=spring"]
)
async def test_hostile_names_break_out_of_nothing(edge, postgres, address):
    usual = [tag for tag, _ in Texts((await page_of(edge, address))[1]).tags]
    await changed(edge, postgres, "UPDATE candidates SET name = $1, organisation = $1", HOSTILE)
    await changed(edge, postgres, "UPDATE campaigns SET title = $1", HOSTILE)
    _, text = await page_of(edge, address)
    seen = Texts(text)
    assert [tag for tag, _ in seen.tags] == usual
    # ... nor does what is copied out of it.
    pasted = Texts(seen.texts["html-card"])
    assert [tag for tag, _ in pasted.tags] == ["script", "like-card", "a"]


async def test_an_origin_is_held_against_the_campaigns_list(edge):
    for typed, said in (
        ("https://www.example.cn/news/1.html", "已登记"),
        ("WWW.EXAMPLE.CN", "已登记"),
        ("http://www.example.cn", "没有登记"),
        ("https://example.cn", "没有登记"),
        ("javascript:alert(1)", "不是网页的域名"),
        ('"><script>', "不是网页的域名"),
    ):
        _, text = await page_of(edge, "/embed/", params={"origin": typed})
        # Whatever was typed is text.
        assert said in text, typed
        assert '"><script>' not in text


async def test_what_is_said_of_counts_is_what_counts_answer(edge):
    await edge.wait_for_counts("spring", {"c001": 0})
    _, text = await page_of(edge, "/embed/")
    seen = Texts(text)
    address = f"{edge.url}/v1/campaigns/spring/counts"
    command = seen.texts["curl"].splitlines()[1]
    etag = re.search(r"If-None-Match: (.+?)'", command)[1]
    assert command.endswith(address)
    async with edge.http.get(address, headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
    async with edge.http.get(address) as answer:
        for name in ("Cache-Control", "ETag", "Surrogate-Key"):
            assert f"{name}: {answer.headers[name]}" in Texts(text).texts["main"]


async def test_a_test_campaign_is_shown_to_who_knows_its_id_alone(edge, postgres):
    await add_campaign(postgres, "rehearsal")
    await changed(edge, postgres, "UPDATE campaigns SET is_test = true WHERE id = 'rehearsal'")
    for path in ("/embed/", "/"):
        _, text = await page_of(edge, path)
        assert "rehearsal" not in text
    _, text = await page_of(edge, "/embed/?campaign=rehearsal")
    assert "（测试）" in text
    _, text = await page_of(edge, "/embed/?campaign=nobody", status=404)
    assert "没有这项活动" in text


async def test_who_withdrew_is_not_offered(edge, postgres):
    await changed(edge, postgres, "UPDATE candidates SET withdrawn_at = now() WHERE id = 'c001'")
    _, text = await page_of(edge, "/embed/?candidate=c001")
    assert "没有候选人“候选人1”（或已退出）" in text
    assert [each["value"] for each in Texts(text).all("option")][1] == "c002"
    await changed(edge, postgres, "UPDATE candidates SET withdrawn_at = now()")
    _, text = await page_of(edge, "/embed/")
    assert "还没有候选人" in text


async def test_the_address_without_its_slash_leads_there(edge):
    async with edge.http.get(f"{edge.url}/embed?campaign=spring", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "embed/")


async def test_lines_and_links_follow_the_mount(tmp_path, valkey_url, postgres_dsn, postgres):
    await add_campaign(postgres, "spring")
    async with running_edge(
        tmp_path, valkey_url, postgres_dsn,
        public_origins="https://www.example.cn", trusted_proxies="127.0.0.1",
    ) as edge:  # fmt: skip
        mounted = BROWSER | {"Host": "www.example.cn", "X-Forwarded-Prefix": "/likes"}
        async with edge.http.get(f"{edge.url}/embed/", headers=mounted) as answer:
            seen = Texts(await answer.text())
    assert "https://www.example.cn/likes/embed/v1/card/spring/c001" in seen.texts["html-iframe"]
    assert seen.texts["policy-iframe"] == "frame-src https://www.example.cn"
    for tag, attributes in seen.tags:
        for name in ("href", "src", "action"):
            assert not attributes.get(name, "").startswith("/"), (tag, attributes)


async def test_home_without_the_demo_lists_the_open_campaigns(edge, postgres):
    soon, long_ago = (datetime.now(UTC) + timedelta(days=d) for d in (3, -9))
    await add_campaign(postgres, "autumn", opens_at=soon, closes_at=soon + timedelta(days=9))
    await add_campaign(
        postgres, "winter", opens_at=long_ago, closes_at=long_ago + timedelta(days=1)
    )
    await changed(edge, postgres, "UPDATE campaigns SET title = $1 WHERE id = 'spring'", HOSTILE)
    _, text = await page_of(edge, "/")
    assert "<script" not in text
    text = text[text.index("<main") :]
    places = [
        text.index(each) for each in ("进行", "/spring", "即将", "/autumn", "已经", "/winter")
    ]
    assert places == sorted(places)
    await changed(edge, postgres, "UPDATE campaigns SET is_test = true")
    _, text = await page_of(edge, "/")
    assert "现在没有正在进行的活动" in text
    assert "campaigns/" not in text


PROBLEMS = {
    "/nothing-here": (404, "not-found"),
    "/embed/v1/card/spring/nobody": (404, "unknown-candidate"),
    "/embed/v1/card/nowhere/c001": (404, "unknown-campaign"),
    "/campaigns/nowhere/rules": (404, "unknown-campaign"),
    "/embed/v9/like.js": (404, "not-found"),
    "/embed/?campaign=nowhere": (404, "unknown-campaign"),
    "/" + "a/" * 400: (404, "not-found"),
}


@pytest.mark.parametrize("path", PROBLEMS)
async def test_people_read_a_page_and_programs_a_problem_of_the_same_status(edge, path):
    status, word = PROBLEMS[path]
    answer, text = await page_of(edge, path, status)
    assert re.search(r'<a class="button[^"]*" href="[^"]+"', text), "no way back"
    assert "<script" not in text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Accept" in answer.headers["Vary"].split(", ")
    async with edge.http.get(edge.url + path) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        assert json.loads(await answer.text())["outcome"] == word


async def test_the_api_answers_problems_whoever_asks(edge):
    for path in ("/v1/campaigns/nowhere", "/v1/nothing-here", "/v1/receipts/x"):
        async with edge.http.get(edge.url + path, headers=BROWSER) as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"


async def test_an_error_page_leads_back_to_whom_it_concerns(edge):
    _, text = await page_of(edge, "/embed/v1/card/spring/nobody", 404)
    assert 'href="../../../../campaigns/spring"' in text
    url = f"{edge.url}/embed/v1/card/spring/c002"
    foreign = BROWSER | {"Origin": "https://elsewhere.example"}
    async with edge.http.post(url, data={"click": "click-0001"}, headers=foreign) as answer:
        assert (answer.status, answer.content_type) == (403, "text/html")
        assert 'href="../../../../campaigns/spring/candidates/c002"' in await answer.text()


async def test_a_method_that_is_not_taken_says_which_are(edge):
    async with edge.http.post(f"{edge.url}/receipt", headers=BROWSER) as answer:
        assert (answer.status, answer.content_type) == (405, "text/html")
        assert "GET" in answer.headers["Allow"]
    async with edge.http.head(f"{edge.url}/nothing", headers=BROWSER) as answer:
        assert (answer.status, answer.content_type) == (404, "text/html")
        assert await answer.read() == b""


async def test_while_nothing_is_known_pages_ask_to_try_again(edge):
    catalog = edge.parts.catalog
    catalog.campaigns, catalog._days = {}, set()  # as before the first look at the database
    for path, again in (
        ("/", "./"),
        ("/embed/?campaign=spring&theme=dark", "./?campaign=spring&amp;theme=dark"),
        ("/campaigns/spring/rules", "./rules"),
    ):
        answer, text = await page_of(edge, path, 503)
        assert answer.headers["Retry-After"]
        assert f'href="{again}"' in text
