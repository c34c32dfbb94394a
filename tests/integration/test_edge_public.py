"""What the public and the portal read: campaigns, candidates, counts, cards, devices, receipts."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from aiohttp import CookieJar

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from voting.edge import app as edge_app
from voting.edge.live_catalog import LiveCatalog

ZONE = ZoneInfo("Asia/Shanghai")


async def get(edge, path, **options):
    async with edge.http.get(f"{edge.url}{path}", **options) as answer:
        return answer, await answer.read()


async def test_campaign_says_its_rules_window_and_the_servers_time(edge):
    async with edge.http.get(f"{edge.url}/v1/campaigns/spring") as answer:
        body = await answer.json()
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert body["title"] == "春天的活动"
    assert body["rules"]["candidates_per_day"] == 3
    assert body["rules"]["likes_per_campaign"] is None
    assert body["counts"] == "live"
    opens, now, closes = (
        datetime.fromisoformat(body[key]) for key in ("opens_at", "server_time", "closes_at")
    )
    assert opens < now < closes
    assert now.utcoffset() == timedelta(hours=8)


async def test_candidates_come_listed_or_in_an_order_that_a_seed_fixes(edge):
    async def ids(query):
        async with edge.http.get(f"{edge.url}/v1/campaigns/spring/candidates{query}") as answer:
            return [candidate["id"] for candidate in (await answer.json())["candidates"]]

    listed = await ids("")
    assert listed == ["c001", "c002", "c003", "c004", "c005"]
    assert sorted(await ids("?order=random")) == listed
    orders = {tuple(await ids(f"?order=random&seed={n}")) for n in range(20)}
    assert len(orders) > 5
    assert await ids("?order=random&seed=7") == await ids("?order=random&seed=7")
    assert all(sorted(order) == listed for order in orders)


async def test_withdrawn_candidate_is_neither_shown_nor_liked(edge, postgres):
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE id = 'c002'")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def gone():
        _, body = await get(edge, "/v1/campaigns/spring/candidates")
        return "c002" not in [one["id"] for one in json.loads(body)["candidates"]]

    await wait_until_async(gone, seconds=2, what="a change of the catalog")
    status, body = await edge.like(await edge.token(), "c002")
    assert (status, body["outcome"]) == (404, "unknown-candidate")
    assert body["title"] == "这位候选人已退出"
    _, body = await get(edge, "/v1/campaigns/spring/candidates")
    assert json.loads(body)["withdrawn"] == [
        {
            "id": "c002",
            "name": "候选人2",
            "organisation": "所",
            "title": "研究员",
            "summary": "",
            "photo": None,
            "withdrawn": True,
        }
    ]
    _, body = await get(edge, "/v1/campaigns/spring/counts")
    assert "c002" not in json.loads(body)["counts"]
    answer, body = await get(edge, "/v1/campaigns/spring/counts/c002.svg")
    assert (answer.status, json.loads(body)["outcome"]) == (404, "unknown-candidate")


async def test_the_card_of_somebody_who_withdrew_says_so_and_has_no_button(edge, postgres):
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE id = 'c002'")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def said():
        _, body = await get(edge, "/embed/v1/card/spring/c002")
        return "已退出" in body.decode() and "<form" not in body.decode()

    await wait_until_async(said, seconds=2, what="a change of the catalog")
    url = f"{edge.url}/embed/v1/card/spring/c002"
    async with edge.http.post(url, data={"click": "click-0001"}, allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Location"] == "./c002"
        assert "Set-Cookie" not in answer.headers


async def test_counts_have_every_candidate_and_an_etag(edge):
    answer, _ = await get(edge, "/v1/campaigns/spring/counts")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "max-age" in answer.headers["Cache-Control"]
    unchanged, body = await get(
        edge, "/v1/campaigns/spring/counts", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert (unchanged.status, body) == (304, b"")
    await edge.like(await edge.token())
    await edge.wait_for_counts("spring", {"c001": 1, "c005": 0})
    changed, _ = await get(
        edge, "/v1/campaigns/spring/counts", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert changed.status == 200


@pytest.mark.parametrize("mode", ["daily", "after-close", "staff"])
@pytest.mark.parametrize("store", ["there", "away"])
async def test_counts_that_are_hidden_from_now_on_are_hidden_at_once(edge, postgres, mode, store):
    """Also while the store is away, and before the flusher has brought what daily counts need."""
    await edge.like(await edge.token())
    await edge.wait_for_counts("spring", {"c001": 1})
    if store == "away":
        line = edge.parts.ballot_boxes.of(0).line

        async def never():
            raise OSError("away")

        line._connect = never
        line.drop()
    await postgres.execute(
        "UPDATE campaigns SET rules = $1", json.dumps({"counts": mode, "counts_daily_at": "00:00"})
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def changed():
        return edge.parts.catalog.campaigns["spring"].rules.counts == mode

    await wait_until_async(changed)
    async with edge.http.get(f"{edge.url}/v1/campaigns/spring/counts") as answer:
        assert (await answer.json())["counts"] is None
    _, image = await get(edge, "/v1/campaigns/spring/counts/c001.svg")
    assert "–" in image.decode()


@pytest.mark.parametrize("mode", ["daily", "after-close", "staff"])
async def test_hidden_counts_are_hidden_on_every_path(edge, postgres, mode):
    at = (datetime.now(ZONE) + timedelta(hours=1)).strftime("%H:%M")
    await add_campaign(
        postgres,
        "blind",
        rules={"counts": mode, "counts_daily_at": at},
        opens_at=datetime.now(UTC) - timedelta(minutes=5),
    )
    await edge.wait_for_campaign("blind")
    token = await edge.token("blind")

    async def known():
        return (await get(edge, "/v1/campaigns/blind/counts"))[0].status == 200

    await wait_until_async(known)
    for n in (1, 2):
        status, body = await edge.like(token, f"c00{n}", campaign="blind")
        assert status == 201
        assert "likes" not in body
    _, again = await edge.like(token, "c001", campaign="blind")
    assert again["outcome"] == "repeated"
    assert "likes" not in again
    await edge.parts.board.refresh()
    async with edge.http.get(f"{edge.url}/v1/campaigns/blind/counts") as answer:
        counts = await answer.json()
    assert counts["counts"] is None
    if mode == "staff":
        assert counts["visible_from"] is None
    else:
        visible_from = datetime.fromisoformat(counts["visible_from"])
        campaign = edge.parts.catalog.campaigns["blind"]
        if mode == "after-close":
            assert visible_from == campaign.window.closes_at
        else:
            assert visible_from.strftime("%H:%M") == at
            assert visible_from > datetime.now(UTC)
    _, image = await get(edge, "/v1/campaigns/blind/counts/c001.svg")
    assert "–" in image.decode()
    _, card = await get(edge, "/embed/v1/card/blind/c001")
    assert not re.search(r">\s*[12]\s*<", card.decode())


async def test_daily_counts_are_those_of_the_last_publication_hour(edge, postgres, valkey):
    now = datetime.now(ZONE)
    hour = now.replace(second=0, microsecond=0) - timedelta(minutes=2)
    number = await add_campaign(
        postgres,
        "daily",
        rules={"counts": "daily", "counts_daily_at": hour.strftime("%H:%M")},
        opens_at=now - timedelta(days=2),
    )
    for minutes, counted in ((-60, 40), (-1, 2), (0, 500), (1, 500)):
        await postgres.execute(
            "INSERT INTO minutes VALUES ($1, $2, 1, $3, 7)",
            number,
            hour + timedelta(minutes=minutes),
            counted,
        )
    await edge.wait_for_campaign("daily")
    await edge.parts.board.refresh()
    # The database does not have all before the hour yet: nothing is published.
    async with edge.http.get(f"{edge.url}/v1/campaigns/daily/counts") as answer:
        assert (await answer.json())["counts"] is None
    await postgres.execute("INSERT INTO watermarks VALUES (0, 1, 1, 1, $1)", hour)
    await edge.wait_for_counts("daily", {"c001": 42, "c002": 0})
    status, body = await edge.like(await edge.token("daily"), campaign="daily")
    assert (status, body["likes"]) == (201, 43)
    _, body = await edge.like(await edge.token("daily"), campaign="daily")
    assert body["likes"] == 43


async def test_counts_after_the_close_are_shown(edge, postgres):
    await add_campaign(
        postgres,
        "over",
        rules={"counts": "after-close"},
        opens_at=datetime.now(UTC) - timedelta(days=2),
        closes_at=datetime.now(UTC) - timedelta(hours=1),
    )
    await edge.wait_for_campaign("over")
    await edge.wait_for_counts("over", {"c001": 0})


async def test_device_state_knows_what_was_liked_today(edge):
    token = await edge.token()
    await edge.like(token, "c002")
    body = {"token": token, "campaign": "spring"}
    async with edge.http.post(f"{edge.url}/v1/devices/state", json=body) as answer:
        told = await answer.json()
    device_id = edge.parts.mint.open(token, time.time()).device_id
    assert edge.parts.views.read(told.pop("view"), device_id, time.time()) < 5
    assert told == {"liked": ["c002"], "remaining_today": 2}
    for wrong, status in (
        ({"token": "x", "campaign": "spring"}, 401),
        ({"token": token, "campaign": "none"}, 404),
        ({"token": token}, 400),
        ({"token": 1, "campaign": "spring"}, 400),
    ):
        async with edge.http.post(f"{edge.url}/v1/devices/state", json=wrong) as answer:
            assert answer.status == status


async def test_devices_answer_portals_and_refuse_strangers(edge):
    for origin, status in (("https://www.example.cn", 201), ("https://evil.example", 403)):
        async with edge.http.post(
            f"{edge.url}/v1/devices", json={"campaign": "spring"}, headers={"Origin": origin}
        ) as answer:
            assert answer.status == status
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == (origin if status == 201 else None)
        async with edge.http.options(
            f"{edge.url}/v1/devices",
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
        ) as answer:
            assert answer.status == (204 if status == 201 else 403)


async def test_card_form_works_without_javascript_and_remembers_its_device(edge):
    path = "/embed/v1/card/spring/c001"
    answer, page = await get(edge, path)
    assert (
        "frame-ancestors 'self' https://www.example.cn" in answer.headers["Content-Security-Policy"]
    )
    assert "Set-Cookie" not in answer.headers
    click = re.search(rb'name="click"\s+value="([^"]+)"', page)[1].decode()

    async def press(click, cookie=None, origin=edge.url):
        headers = {"Origin": origin} | ({"Cookie": cookie} if cookie else {})
        async with edge.http.post(
            f"{edge.url}{path}", data={"click": click}, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers

    status, headers = await press(click)
    assert status == 303
    counted = headers["Location"]
    assert re.fullmatch(r"\./c001\?said=counted&receipt=[\w-]{22}", counted)
    cookie = headers["Set-Cookie"]
    for attribute in ("Partitioned", "Secure", "SameSite=None", "HttpOnly", "Path=/embed"):
        assert attribute.lower() in cookie.lower()
    jar = cookie.partition(";")[0]
    assert (await press("another-click", jar))[1]["Location"] == "./c001?said=repeated"
    assert (await press(click, jar))[1]["Location"] == counted
    assert (await press("bad click", jar))[0] == 400
    assert (await press(click, jar, "https://evil.example"))[0] == 403
    assert (await press(click, jar, "null"))[0] == 403
    _, page = await get(edge, path, headers={"Cookie": jar})
    assert "今日已点赞" in page.decode()
    _, page = await get(edge, f"{path}?said=<script>alert(1)</script>")
    assert b"alert(1)" not in page
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}


async def test_names_cannot_bring_markup_into_a_page(edge, postgres):
    await postgres.execute("UPDATE candidates SET name = '<b>&\"x', summary = '<script>1</script>'")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def changed():
        return b"&lt;b&gt;" in (await get(edge, "/embed/v1/card/spring/c001"))[1]

    await wait_until_async(changed)
    _, page = await get(edge, "/embed/v1/card/spring/c001")
    assert b"<script>" not in page
    _, image = await get(edge, "/v1/campaigns/spring/counts/c001.svg")
    assert b"<b>" not in image


async def test_receipt_is_accepted_and_a_made_up_one_is_not(edge):
    _, body = await edge.like(await edge.token())
    receipt = body["receipt"]
    assert (await get(edge, f"/v1/receipts/{receipt}"))[0].status == 202
    turned = ("A" if receipt[0] != "A" else "B") + receipt[1:]
    assert (await get(edge, f"/v1/receipts/{turned}"))[0].status == 404


async def test_photos_are_served_in_both_forms_for_good(edge, postgres):
    await postgres.execute("INSERT INTO photos VALUES ('0123456789abcdef', 1, 1, 'webp!', 'jpeg!')")
    await postgres.execute("UPDATE candidates SET photo = '0123456789abcdef' WHERE number = 1")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def known():
        return (await get(edge, "/v1/photos/0123456789abcdef.webp"))[0].status == 200

    await wait_until_async(known)
    for kind, content in (("webp", b"webp!"), ("jpg", b"jpeg!")):
        answer, body = await get(edge, f"/v1/photos/0123456789abcdef.{kind}")
        assert (answer.status, body) == (200, content)
        assert "immutable" in answer.headers["Cache-Control"]


async def test_metrics_count_what_happened(edge):
    token = await edge.token()
    await edge.like(token, click="click-metric")
    await edge.like(token, click="click-metric")
    await edge.like(token)
    await edge.like("forged", "c001")
    async with edge.http.get(f"{edge.child.facts['admin']}/metrics") as answer:
        text = await answer.text()
    for line in (
        'dianzan_ballots_total{outcome="counted"} 2.0',
        'dianzan_ballots_total{outcome="repeated"} 1.0',
        "dianzan_clicks_again_total 1.0",
        'dianzan_requests_refused_total{problem="bad-token"} 1.0',
        "dianzan_store_connected 1.0",
    ):
        assert line in text.splitlines()


async def test_edge_goes_on_while_the_database_is_away(
    edge, postgres, postgres_dsn, postgres_server
):
    """Likes need the store alone; what changes in the database is seen when it is back."""
    token = await edge.token()
    catalog = edge.parts.catalog
    pool = catalog._pool
    await pool.expire_connections()
    pool.terminate()
    assert (await edge.like(token))[0] == 201
    await asyncio.sleep(0)
    assert (await get(edge, "/v1/campaigns/spring/candidates"))[0].status == 200


async def test_each_campaigns_card_has_a_device_of_its_own(edge, postgres):
    await add_campaign(postgres, "autumn")
    await edge.wait_for_campaign("autumn")
    edge.http._cookie_jar = CookieJar(unsafe=True, treat_as_secure_origin=edge.url)
    said = []
    for n, campaign in enumerate(("spring", "autumn", "spring", "autumn")):
        async with edge.http.post(
            f"{edge.url}/embed/v1/card/{campaign}/c001", data={"click": f"click-{n:04}"}
        ) as answer:
            said.append(answer.url.query["said"])
    assert said == ["counted", "counted", "repeated", "repeated"]


async def test_errors_can_be_read_by_the_pages_that_may_ask(edge):
    for path in ("campaigns/none", "campaigns/none/counts", "receipts/short"):
        answer, _ = await get(edge, f"/v1/{path}")
        assert answer.headers["Access-Control-Allow-Origin"] == "*", path
    for origin, allowed in (
        ("https://www.example.cn", "https://www.example.cn"),
        ("https://evil.example", None),
    ):
        for path in ("likes", "devices", "devices/state", "devices/proof"):
            for body in (b"{", b'{"campaign":"none","token":"","candidate":"","click":"12345678"}'):
                headers = {"Origin": origin, "Content-Type": "text/plain"}
                async with edge.http.post(
                    f"{edge.url}/v1/{path}", data=body, headers=headers
                ) as answer:
                    assert 400 <= answer.status < 500
                    assert answer.headers.get("Access-Control-Allow-Origin") == allowed, path


async def test_no_origin_however_odd_is_a_500(edge):
    for origin in ("http://[", "http://a℀b", "http://", "://", "x" * 500, "http://a:b:c", "☃"):
        for method in ("POST", "OPTIONS"):
            headers = {"Origin": origin.encode().decode("latin-1")}
            async with edge.http.request(
                method, f"{edge.url}/v1/devices", json={"campaign": "spring"}, headers=headers
            ) as answer:
                assert answer.status == 403, origin


async def test_named_origins_are_believed_instead_of_the_host(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_campaign(postgres, "spring")
    async with running_edge(
        tmp_path, valkey_url, postgres_dsn, public_origins="https://likes.example.cn"
    ) as edge:
        for origin, host, status in (
            ("http://evil.example", "evil.example", 403),
            ("https://likes.example.cn", "inside:8080", 201),
        ):
            async with edge.http.post(
                f"{edge.url}/v1/devices",
                json={"campaign": "spring"},
                headers={"Origin": origin, "Host": host},
            ) as answer:
                assert answer.status == status


async def test_proof_of_a_good_token_keeps_its_level(edge):
    token = await edge.token()
    for given, status in ((token, 200), ("x" * 52, 401), (None, 400)):
        body = {"token": given}
        async with edge.http.post(f"{edge.url}/v1/devices/proof", json=body) as answer:
            assert answer.status == status
            if status == 200:
                told = await answer.json()
                assert told.pop("view")
                assert told == {"token": token, "level": 1}


async def test_edge_without_its_database_serves_and_says_503(
    tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch
):
    """A worker that restarts in an outage must not leave its clients without an answer."""
    monkeypatch.setattr(edge_app, "_START_SECONDS", 0.2)
    await add_campaign(postgres, "spring")
    nowhere = f"postgresql://dianzan@/test?host={tmp_path}"
    async with running_edge(tmp_path, valkey_url, nowhere) as edge:
        assert (await get(edge, "/healthz"))[0].status == 200
        assert (await get(edge, "/readyz"))[0].status == 503
        assert (await edge.like("x" * 52))[0] == 503
        edge.parts.catalog._dsn = postgres_dsn
        await edge.parts.catalog.open()
        await edge.wait_for_campaign("spring")
        assert (await get(edge, "/readyz"))[0].status == 200
        assert (await edge.like(await edge.token()))[0] == 201


async def test_edge_on_a_database_without_tables_gives_up_and_says_why(
    tmp_path, valkey_url, postgres_server
):
    empty = postgres_server.url.replace("@/dianzan", "@/postgres")
    with pytest.raises(edge_app.EdgeError, match='relation "catalog" does not exist'):
        async with running_edge(tmp_path, valkey_url, empty):
            await asyncio.sleep(5)


async def test_part_that_fails_takes_the_edge_down_loudly(
    tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch
):
    async def fail(self):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(LiveCatalog, "_refresh", fail)
    with pytest.raises(edge_app.EdgeError, match="a defect"):
        async with running_edge(tmp_path, valkey_url, postgres_dsn):
            await asyncio.sleep(5)


async def test_cookie_is_never_set_by_the_vote_api(edge):
    edge.http._cookie_jar = CookieJar(unsafe=True)
    token = await edge.token()
    await edge.like(token)
    assert not list(edge.http.cookie_jar)
