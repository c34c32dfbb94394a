"""The edge behind nginx, as deploy/nginx/ has it: below a path of a portal's, or on its own."""

import asyncio
import json
import re
import time
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from aiohttp import web
from yarl import URL

from antifraud.networks import prefixes_of
from tests.assertions import Portal, add_keys
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.nginx import FOLDER, client_at, free_port, needs_nginx, running_nginx
from voting import journal
from voting.pseudonyms import Place

pytestmark = needs_nginx

CARD = "/embed/v1/card/spring/c001"
MOUNTS = {"first-party.conf": "/likes", "cdn.conf": ""}
PROXY, CLIENT = "127.0.0.1", "127.0.0.9"
"""Where nginx comes from, and where a browser does."""

each_file = pytest.mark.parametrize("include", MOUNTS)


@pytest.fixture
async def campaign(postgres):
    await add_campaign(postgres, "spring", candidates=40)


@pytest.fixture
def started(tmp_path, valkey_url, postgres_dsn, campaign):
    def start(**options):
        options = {"trusted_proxies": PROXY} | options
        return running_edge(tmp_path, valkey_url, postgres_dsn, **options)

    return start


class Links(HTMLParser):
    """Where a page's links, forms, pictures, scripts and styles lead."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        for name in ("href", "src", "action", "poster"):
            if said.get(name) and said.get("rel") != "canonical":
                self.found.append(said[name])
        for source in (said.get("srcset") or "").split(","):
            if source.strip():
                self.found.append(source.split()[0])


async def test_card_works_below_the_mount_without_javascript(started, tmp_path):
    async with started() as edge, running_nginx(tmp_path / "n", edge.port) as nginx:
        url = f"{nginx.url}/likes{CARD}"
        async with edge.http.get(url) as answer:
            assert answer.status == 200
            assert answer.headers["X-Portal"] == "yes", "the portal's own headers stay"
            page = await answer.text()
        action = re.search(r'<form[^>]*method="post"[^>]*>', page)[0]
        target = urljoin(url, (re.search(r'action="([^"]*)"', action) or ["", ""])[1])
        assert urlsplit(target).path == f"/likes{CARD}"
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        async with edge.http.post(
            target, data=fields, allow_redirects=False, headers={"Origin": nginx.url}
        ) as answer:
            assert answer.status == 303
            back = urljoin(url, answer.headers["Location"])
            cookie = answer.headers["Set-Cookie"]
        assert urlsplit(back).path == f"/likes{CARD}"
        assert "Path=/likes/embed/v1/card/spring;" in cookie
        headers = {"Cookie": f"session=secret; {cookie.partition(';')[0]}; other=1"}
        async with edge.http.get(back, headers=headers) as answer:
            assert answer.status == 200
            assert "点赞成功" in await answer.text()
        # Without what the address says: the cookie alone tells that this device liked.
        async with edge.http.get(url, headers=headers) as answer:
            assert "今日已点赞" in await answer.text()
        await edge.wait_for_counts("spring", {"c001": 1})


async def test_element_likes_by_the_mount_as_its_base(started, tmp_path, postgres):
    portal = Portal()
    await add_keys(postgres, portal)
    async with started() as edge, running_nginx(tmp_path / "n", edge.port) as nginx:
        base = f"{nginx.url}/likes"
        headers = {"Origin": nginx.url, "Content-Type": "text/plain"}
        for asked in ({}, {"identity": portal.vouch("a")}):
            body = json.dumps({"campaign": "spring"} | asked)
            async with edge.http.post(f"{base}/v1/devices", data=body, headers=headers) as answer:
                assert answer.status == 201
                token = (await answer.json())["token"]
            like = {"token": token, "campaign": "spring", "candidate": "c002", "click": "click-01"}
            async with edge.http.post(
                f"{base}/v1/likes", data=json.dumps(like), headers=headers
            ) as answer:
                assert answer.status == 201
                assert (await answer.json())["outcome"] == "counted"
        async with edge.http.post(
            f"{base}/v1/likes", data="{}", headers=headers | {"Origin": "https://evil.example"}
        ) as answer:
            assert answer.status in (400, 403)
        async with edge.http.get(f"{base}/embed/v1/like.js") as answer:
            assert answer.status == 200
            assert "javascript" in answer.headers["Content-Type"]


@each_file
async def test_every_link_of_every_page_leads_somewhere(started, tmp_path, include):
    mount = MOUNTS[include]
    async with started() as edge, running_nginx(tmp_path / "n", edge.port, include) as nginx:
        to_see = [
            f"{nginx.url}{mount}{path}"
            for path in (
                *("/", "/campaigns/spring", "/campaigns/spring/candidates/c001", "/receipt"),
                *("/campaigns/spring/rules", "/campaigns/spring/privacy", CARD, "/embed/"),
                "/campaigns/spring/ranking",
            )
        ]
        seen, astray, broken = set(to_see), [], []
        while to_see:
            url = to_see.pop()
            async with edge.http.get(url, headers={"Accept": "text/html"}) as answer:
                status = answer.status
                is_page = answer.content_type == "text/html"
                text = await answer.text() if is_page else ""
            if status >= 400:
                broken.append((status, url))
            links = Links()
            links.feed(text)
            for link in links.found:
                there, _, _ = urljoin(url, link).partition("#")
                parts = urlsplit(there)
                if f"{parts.scheme}://{parts.netloc}" != nginx.url or there in seen:
                    continue
                if not parts.path.startswith(f"{mount}/"):
                    astray.append((url, link))
                elif len(seen) < 400:
                    seen.add(there)
                    to_see.append(there)
        assert astray == []
        assert broken == []
        assert len(seen) > 20


@each_file
async def test_counts_are_asked_for_once_and_shown_a_minute_while_the_edge_is_away(
    started, tmp_path, include
):
    mount = MOUNTS[include]
    async with (
        client_at(CLIENT) as http,
        started() as edge,
        running_nginx(tmp_path / "n", edge.port, include) as nginx,
    ):
        token = await edge.token()
        assert (await edge.like(token))[0] == 201
        await edge.wait_for_counts("spring", {"c001": 1})
        url = f"{nginx.url}{mount}/v1/campaigns/spring/counts"
        before = _requests(edge)

        async def ask():
            async with http.get(url) as answer:
                assert answer.status == 200
                return await answer.json()

        told = await asyncio.gather(*(ask() for _ in range(60)))
        assert {body["counts"]["c001"] for body in told} == {1}
        # One, and one more for each two seconds that this took.
        assert _requests(edge) - before < 20
        # The edge ends; nginx goes on.
        edge.child.stop_event.set()

        async def edge_is_away():
            try:
                async with edge.http.get(f"{edge.url}/healthz"):
                    return False
            except OSError:
                return True

        await wait_until_async(edge_is_away, what="the edge gone")
        for seconds in (5, 20, 20):
            nginx.age(seconds)
            for _ in range(3):
                assert (await ask())["counts"]["c001"] == 1
        async with http.post(f"{nginx.url}{mount}/v1/likes", data="{}") as answer:
            assert answer.status in (502, 504)
        nginx.age(20)
        async with http.get(url) as answer:
            assert answer.status == 502


def _requests(edge):
    return edge.parts.metrics.in_lane + edge.parts.metrics.by_aiohttp


@each_file
@pytest.mark.parametrize("edge_is", ["there", "away"])
async def test_counts_that_were_hidden_are_not_shown_to_the_first_who_comes_after_a_pause(
    started, tmp_path, postgres, include, edge_is
):
    """Nobody asked since: what the cache holds is as old as it is."""
    mount = MOUNTS[include]
    shown = {
        "/v1/campaigns/spring/counts": b'"c001":1',
        "/v1/campaigns/spring/counts/c001.svg": b">1<",
        "/campaigns/spring/ranking": '共获 <b class="number">1</b>'.encode(),
    }
    async with (
        client_at(CLIENT) as http,
        started() as edge,
        running_nginx(tmp_path / "n", edge.port, include) as nginx,
    ):
        assert (await edge.like(await edge.token()))[0] == 201
        await edge.wait_for_counts("spring", {"c001": 1})

        async def ask(path, base=f"{nginx.url}{mount}"):
            async with http.get(f"{base}{path}") as answer:
                return answer.status, await answer.read()

        for path, count in shown.items():
            status, body = await ask(path)
            assert (status, count in body) == (200, True), (path, body)
        rules = json.dumps({"counts": "after-close"})
        await postgres.execute("UPDATE campaigns SET rules = $1", rules)
        await postgres.execute("UPDATE catalog SET version = version + 1")

        async def hidden():
            told = [(await ask(path, edge.url))[1] for path in shown]
            return not any(count in body for count, body in zip(shown.values(), told, strict=True))

        await wait_until_async(hidden, what="the counts hidden")
        if edge_is == "away":
            edge.child.stop_event.set()

            async def is_away():
                try:
                    await ask("/healthz", edge.url)
                except OSError:
                    return True

            await wait_until_async(is_away, what="the edge gone")
        aged = 0
        for path, count in shown.items():
            # 2 s fresh and 10 stale, pages 5 and 30; 60 stale while the edge is away.
            until = 66 if edge_is == "away" else 36 if "ranking" in path else 13
            nginx.age(until - aged)
            aged = until
            status, body = await ask(path)
            assert (status, count in body) == (200 if edge_is == "there" else 502, False), path


async def test_what_is_fetched_anew_is_the_new(started, tmp_path):
    async with started() as edge, running_nginx(tmp_path / "n", edge.port) as nginx:
        url = f"{nginx.url}/likes/v1/campaigns/spring/counts"

        async def shown():
            async with edge.http.get(url) as answer:
                return (await answer.json())["counts"]["c001"]

        assert await shown() == 0
        assert (await edge.like(await edge.token()))[0] == 201

        async def is_new():
            nginx.age(3)
            return await shown() == 1

        await wait_until_async(is_new, what="the new count through the cache")


@each_file
async def test_both_forms_of_an_answer_are_kept_apart(started, tmp_path, include):
    mount = MOUNTS[include]
    async with started() as edge, running_nginx(tmp_path / "n", edge.port, include) as nginx:
        url = f"{nginx.url}{mount}/v1/campaigns/spring/counts"
        for accepted, encoding in (
            ("gzip, deflate, br", "gzip"),
            ("identity", None),
            ("br", None),
            ("gzip;q=0", None),
            ("deflate,gzip", "gzip"),
            ("x-gzip-not", None),
        ):
            headers = {"Accept-Encoding": accepted}
            async with edge.http.get(url, headers=headers) as answer:
                assert answer.headers.get("Content-Encoding") == encoding, accepted
                assert len((await answer.json())["counts"]) == 40
                etag = answer.headers["ETag"]
            async with edge.http.get(url, headers=headers | {"If-None-Match": etag}) as answer:
                assert answer.status in (200, 304)


@each_file
async def test_the_client_is_who_it_is(started, tmp_path, include, valkey):
    """Whatever it writes into X-Forwarded-For itself; and nginx is nobody's address."""
    mount = MOUNTS[include]
    async with (
        started() as edge,
        running_nginx(tmp_path / "n", edge.port, include) as nginx,
        client_at(CLIENT) as http,
    ):
        day = edge.parts.catalog.campaigns["spring"].window.day_at(time.time_ns() // 1000)
        for n, forged in enumerate(({}, {"X-Forwarded-For": "8.8.8.8"}, {"X-JA4": "t13d1516h2"})):
            body = {
                "token": await edge.token(),
                "campaign": "spring",
                "candidate": "c001",
                "click": f"click-{n:08}",
            }
            url = f"{nginx.url}{mount}/v1/likes"
            async with http.post(url, json=body, headers=forged) as answer:
                assert answer.status == 201
            ((_, fields),) = await valkey.xrevrange(journal.journal_key(0), count=1)
            (vote,) = journal.unpack_entry(fields[journal.ENTRY_FIELD]).votes()
            place = Place(prefixes_of(CLIENT))
            expected, _ = edge.parts.pseudonyms.networks(place, day.date)
            assert vote.network == expected
            assert vote.tls_hash == 0, "a client's own fingerprint is not believed"


# What an edge is told, by a server that writes it down.


@pytest.fixture
async def heard():
    """(port, requests as (method, path, headers) of all that it got): it answers like an edge."""
    got = []

    async def answer(request):
        got.append((request.method, request.raw_path, request.headers))
        if request.headers.get("User-Agent") == "unlucky":
            request.transport.abort()
        made = {"Cache-Control": "no-store", "Location": "/embed/x"}
        if request.path.endswith(".mp4"):
            part = request.headers.get("Range")
            made |= {"Accept-Ranges": "bytes", "Cache-Control": "public, max-age=31536000"}
            if part == "bytes=2-4":
                made["Content-Range"] = "bytes 2-4/10"
                return web.Response(status=206, body=b"234", headers=made)
            return web.Response(body=b"0123456789", headers=made)
        return web.Response(status=200, text="x", headers=made)

    app = web.Application(client_max_size=100_000)
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], got
    await runner.cleanup()


@each_file
async def test_what_is_the_portals_stays_with_the_portal(tmp_path, heard, include):
    port, got = heard
    mount = MOUNTS[include]
    device = "A" * 52
    async with (
        running_nginx(tmp_path / "n", port, include) as nginx,
        client_at(CLIENT) as http,
    ):
        secrets = {
            "Cookie": f"session=s3cret; dianzan-device={device}; dianzan-devices=b",
            "Authorization": "Bearer s3cret",
            "Referer": "https://www.example.cn/my?ticket=s3cret",
            "X-JA4": "forged",
            "X-Forwarded-For": "8.8.8.8",
            "X-Forwarded-Prefix": "/evil",
            "X-Forwarded-Proto": "https",
            "User-Agent": "tester",
            "Accept-Language": "zh",
            "Sec-Fetch-Site": "same-origin",
        }
        async with http.get(f"{nginx.url}{mount}{CARD}?said=counted", headers=secrets) as answer:
            location = answer.headers["Location"]
        assert location == f"{mount}/embed/x"
        async with http.post(f"{nginx.url}{mount}/v1/likes", data="{}", headers={"Cookie": "a=b"}):
            pass
    (_, path, headers), (method, second_path, others) = got
    assert path == f"{CARD}?said=counted"
    assert (method, second_path) == ("POST", "/v1/likes")
    assert headers["Cookie"] == f"dianzan-device={device}"
    assert "Cookie" not in others
    for name in ("Authorization", "Referer", "X-JA4"):
        assert name not in headers
    assert "s3cret" not in repr(headers)
    assert headers["X-Forwarded-For"] == f"8.8.8.8, {CLIENT}"
    assert headers.get("X-Forwarded-Prefix", "") == mount
    assert headers["X-Forwarded-Proto"] == "http"
    assert headers["Host"] == f"127.0.0.1:{nginx.port}"
    assert headers["User-Agent"] == "tester"
    assert headers["Accept-Language"] == "zh"
    assert headers["Sec-Fetch-Site"] == "same-origin"


@each_file
@pytest.mark.parametrize(
    ("path", "times"),
    [(CARD, 1), ("/v1/devices", 1), ("/v1/devices/proof", 1), ("/v1/likes", 2)],
)
async def test_only_what_may_be_told_twice_is_sent_to_another_edge(
    tmp_path, heard, include, path, times
):
    """The first edge has got it, and ended before it answered."""
    port, got = heard
    async with (
        running_nginx(tmp_path / "n", port, include, port) as nginx,
        client_at(CLIENT) as http,
    ):
        url = f"{nginx.url}{MOUNTS[include]}{path}"
        async with http.post(url, data="a=b", headers={"User-Agent": "unlucky"}) as answer:
            assert answer.status == 502
        assert [(method, asked) for method, asked, _ in got] == [("POST", path)] * times


@each_file
async def test_what_an_edge_cannot_have_got_goes_to_another_one(tmp_path, heard, include):
    port, got = heard
    async with (
        running_nginx(tmp_path / "n", free_port(), include, port) as nginx,
        client_at(CLIENT) as http,
    ):
        for path in (CARD, "/v1/devices", "/v1/devices/proof", "/v1/likes"):
            url = f"{nginx.url}{MOUNTS[include]}{path}"
            async with http.post(url, data="a=b", allow_redirects=False) as answer:
                assert answer.status == 200, path
        assert len(got) == 4


@each_file
async def test_an_address_that_is_another_place_to_a_browser_is_not_there(tmp_path, heard, include):
    """One slash more, or fewer: what a page says of its own root would lead elsewhere."""
    port, got = heard
    mount = MOUNTS[include]
    async with running_nginx(tmp_path / "n", port, include) as nginx, client_at(CLIENT) as http:
        nginx.page("own.html", "the portal's")

        async def status(path):
            async with http.get(URL(f"{nginx.url}{path}", encoded=True)) as answer:
                return answer.status

        for path in (
            *(f"{mount}/campaigns/demo%2Franking", f"{mount}/campaigns%2fdemo?a=b"),
            *(f"{mount}//campaigns/demo", f"{mount}/campaigns//demo", f"{mount}/campaigns/demo//"),
            *(f"{mount}/embed/v1/card/spring%2Fc001", f"{mount or '/x'}%2fcampaigns/demo"),
            *(f"{mount}//v1/receipts/abc", f"{mount}/v1/videos//a.mp4"),
        ):
            assert await status(path) == 404, path
        assert got == []
        asked = "/embed/v1/card/spring/c001?identity=https://a.example%2Fb//c"
        assert await status(f"{mount}{asked}") == 200
        assert got[-1][1] == asked
        if mount:
            assert await status("//own.html") == 200, "what is the portal's is the portal's to say"


@each_file
async def test_parts_of_videos_pass_as_parts(tmp_path, heard, include):
    port, got = heard
    async with running_nginx(tmp_path / "n", port, include) as nginx, client_at(CLIENT) as http:
        url = f"{nginx.url}{MOUNTS[include]}/v1/videos/0123456789abcdef.mp4"
        async with http.get(url, headers={"Range": "bytes=2-4"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"234")
            assert answer.headers["Content-Range"] == "bytes 2-4/10"
        assert got[-1][2]["Range"] == "bytes=2-4"


@each_file
async def test_what_may_not_be_kept_is_asked_for_each_time(tmp_path, heard, include):
    port, got = heard
    async with running_nginx(tmp_path / "n", port, include) as nginx, client_at(CLIENT) as http:
        for path in (CARD, "/v1/receipts/abc", "/v1/campaigns/spring/other"):
            before = len(got)
            for _ in range(3):
                async with http.get(f"{nginx.url}{MOUNTS[include]}{path}"):
                    pass
            assert len(got) - before == 3


@each_file
async def test_a_body_that_is_too_large_hears_it_from_the_edge(started, tmp_path, include):
    async with started() as edge, running_nginx(tmp_path / "n", edge.port, include) as nginx:
        url = f"{nginx.url}{MOUNTS[include]}/v1/likes"
        async with edge.http.post(url, data="x" * 5_000) as answer:
            assert answer.status == 413
            assert (await answer.json(content_type=None))["outcome"] == "too-large"
        async with edge.http.post(url, data="x" * 50_000) as answer:
            assert answer.status == 413


def test_the_second_file_is_the_first_one_at_another_place():
    """What both say they say alike, so that a correction is made in both."""

    def said(name):
        text = (FOLDER / name).read_text()
        lines = (line.strip() for line in text.splitlines() if not line.strip().startswith("#"))
        return {re.sub(r"/likes|(?<=dianzan_edge)/[^;]*", "", line) for line in lines} - {""}

    own = {"proxy_cookie_path / /;", "proxy_redirect / /;", "absolute_redirect off;"}
    own.add("proxy_set_header X-Forwarded-Prefix ;")
    assert said("first-party.conf") - said("cdn.conf") <= own
    assert said("cdn.conf") - said("first-party.conf") == {
        'proxy_set_header X-Forwarded-Prefix "";'
    }
