"""POST /v1/likes through a whole edge: every outcome, and every bad input with its answer."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from voting.campaign import moment_at

DAY = 86_400_000_000


async def test_like_is_counted_once_and_shown(edge):
    token = await edge.token()
    status, body = await edge.like(token)
    assert status == 201
    assert body == {
        "outcome": "counted",
        "candidate": "c001",
        "likes": 1,
        "remaining_today": 2,
        "receipt": body["receipt"],
    }
    await edge.wait_for_counts("spring", {"c001": 1, "c002": 0})


async def test_same_click_gets_the_first_answer_again_and_counts_once(edge):
    token = await edge.token()
    first = await edge.like(token, click="the-same-click")
    assert await edge.like(token, click="the-same-click") == first
    assert (await edge.like(token, candidate="c002"))[0] == 201
    status, body = await edge.like(token, click="the-same-click")
    # The numbers are of now.
    assert (status, body["receipt"], body["remaining_today"]) == (201, first[1]["receipt"], 1)
    await edge.wait_for_counts("spring", {"c001": 1, "c002": 1})


async def test_second_like_for_a_candidate_is_repeated(edge):
    token = await edge.token()
    await edge.like(token)
    status, body = await edge.like(token)
    assert status == 200
    assert body == {"outcome": "repeated", "candidate": "c001", "likes": 1, "remaining_today": 2}


async def test_spent_quota_is_409_and_says_that_nothing_is_left(edge):
    token = await edge.token()
    for n in (1, 2, 3):
        assert (await edge.like(token, f"c00{n}"))[0] == 201
    status, body = await edge.like(token, "c004")
    assert (status, body["outcome"], body["remaining_today"]) == (409, "quota-spent", 0)


async def test_throttled_says_when_to_come_back(edge, postgres):
    await add_campaign(postgres, "slow", limits={"per_device": "2/minute"})
    await edge.wait_for_campaign("slow")
    token = await edge.token("slow")
    for n in (1, 2):
        assert (await edge.like(token, f"c00{n}", campaign="slow"))[0] == 201
    body = {"token": token, "campaign": "slow", "candidate": "c003", "click": "click-throttled"}
    async with edge.http.post(f"{edge.url}/v1/likes", json=body) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
        assert answer.content_type == "application/problem+json"


async def test_crowd_behind_one_address_is_held_and_cannot_tell(edge, postgres, valkey):
    await add_campaign(postgres, "crowd", limits={"per_network": "2/hour"})
    await edge.wait_for_counts("crowd", {"c001": 0})
    answers = [await edge.like(await edge.token("crowd"), campaign="crowd") for _ in range(4)]
    assert [status for status, _ in answers] == [201] * 4
    assert {body["outcome"] for _, body in answers} == {"counted"}
    assert len({frozenset(body) for _, body in answers}) == 1
    snapshot = await edge.parts.ballot_boxes.of(0).snapshot("crowd")
    assert snapshot.sums == {b"1": 2, b"h1": 2}


@pytest.mark.parametrize(
    ("campaign", "outcome"),
    [
        ({"opens_at": timedelta(hours=-2), "closes_at": timedelta(seconds=-5)}, "closed"),
        ({"opens_at": timedelta(days=-2), "closes_at": timedelta(days=-1)}, "closed"),
        ({"opens_at": timedelta(seconds=60), "closes_at": timedelta(days=1)}, "not-open"),
        ({"opens_at": timedelta(days=1), "closes_at": timedelta(days=2)}, "not-open"),
        ({"paused_because": "检查"}, "paused"),
    ],
)
async def test_outside_the_window_is_403_with_the_window(edge, postgres, campaign, outcome):
    now = datetime.now(UTC)
    times = {key: now + value for key, value in campaign.items() if key != "paused_because"}
    await add_campaign(postgres, "other", **{**campaign, **times})
    await edge.wait_for_campaign("other")
    status, body = await edge.like(await edge.token("other"), campaign="other")
    assert (status, body["outcome"]) == (403, outcome)
    assert body["opens_at"] < body["closes_at"]
    assert body["title"]
    assert body.get("paused_because") == campaign.get("paused_because")


async def test_the_same_click_is_answered_after_the_close_too(edge, postgres):
    closes_at = datetime.now(UTC) + timedelta(seconds=2)
    await add_campaign(postgres, "closing", closes_at=closes_at)
    await edge.wait_for_campaign("closing")
    token = await edge.token("closing")
    first = await edge.like(token, campaign="closing", click="before-the-close")
    assert first[0] == 201

    async def closed():
        return (await edge.like(token, "c002", campaign="closing"))[1]["outcome"] == "closed"

    await wait_until_async(closed)
    again = await edge.like(token, campaign="closing", click="before-the-close")
    assert (again[0], again[1]["receipt"]) == (201, first[1]["receipt"])


def body_of(**members):
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    ("change", "status", "outcome"),
    [
        ({"token": None}, 400, "malformed"),
        ({"token": 5}, 400, "malformed"),
        ({"click": "short"}, 400, "malformed"),
        ({"click": "x" * 65}, 400, "malformed"),
        ({"click": "with space"}, 400, "malformed"),
        ({"click": "点赞点赞点赞点赞"}, 400, "malformed"),
        ({"click": "newline1\n"}, 400, "malformed"),
        ({"campaign": "no-such"}, 404, "unknown-campaign"),
        ({"campaign": "no-such", "token": "forged"}, 404, "unknown-campaign"),
        ({"candidate": "c999"}, 404, "unknown-candidate"),
        ({"candidate": ""}, 404, "unknown-candidate"),
        ({"token": ""}, 401, "bad-token"),
        ({"token": "A" * 52}, 401, "bad-token"),
        ({"token": "é" * 52}, 401, "bad-token"),
        ({"token": "A" * 3_000}, 401, "bad-token"),
    ],
)
async def test_wrong_member_gets_its_answer(edge, change, status, outcome):
    members = {
        "token": await edge.token(),
        "campaign": "spring",
        "candidate": "c001",
        "click": "click-good",
    } | change
    async with edge.http.post(f"{edge.url}/v1/likes", json=members) as answer:
        body = await answer.json(content_type="application/problem+json")
        assert (answer.status, body["outcome"], body["status"]) == (status, outcome, status)
        assert body["type"]
        assert body["title"]


async def test_tampered_or_foreign_tokens_are_refused(edge, postgres):
    await add_campaign(postgres, "other")
    await edge.wait_for_campaign("other")
    token = await edge.token()
    for n in range(len(token)):
        other = "A" if token[n] != "A" else "B"
        status, _ = await edge.like(token[:n] + other + token[n + 1 :])
        assert status == 401, n
    assert (await edge.like(token, campaign="other"))[0] == 401
    assert (await edge.like(token))[0] == 201


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"null", {}, 400),
        (b"\xff\xfe{}", {}, 400),
        (b'{"token":"\xff"}', {}, 400),
        (b"[" * 4_000, {}, 400),
        (b"{}" + b" " * 4_095, {}, 413),
        (b"{}", {"Content-Type": "application/xml"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": ""}, 415),
        (gzip.compress(b"0" * 10_000_000)[:4_000], {"Content-Encoding": "gzip"}, 415),
        (b"{}", {"Content-Encoding": "br"}, 415),
    ],
)
async def test_wrong_body_gets_its_answer(edge, body, headers, status):
    headers = {"Content-Type": "application/json"} | headers
    async with edge.http.post(f"{edge.url}/v1/likes", data=body, headers=headers) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "text/plain;charset=UTF-8", "TEXT/PLAIN; a=b"],
)
async def test_both_media_types_are_taken_with_any_parameters(edge, content_type):
    members = body_of(
        token=await edge.token(), campaign="spring", candidate="c001", click="click-1234", more=[1]
    )
    headers = {"Content-Type": content_type}
    async with edge.http.post(f"{edge.url}/v1/likes", data=members, headers=headers) as answer:
        assert answer.status == 201


@pytest.mark.parametrize(
    ("origin", "status", "allowed"),
    [
        (None, 201, None),
        ("https://www.example.cn", 201, "https://www.example.cn"),
        ("own", 201, "own"),
        ("https://evil.example", 403, None),
        ("http://www.example.cn", 403, None),
        ("https://www.example.cn.evil.example", 403, None),
        ("null", 403, None),
        ("", 403, None),
    ],
)
async def test_only_the_portals_pages_and_our_own_may_like(edge, origin, status, allowed):
    own = edge.url
    headers = {} if origin is None else {"Origin": own if origin == "own" else origin}
    members = body_of(
        token=await edge.token(), campaign="spring", candidate="c001", click="click-1234"
    )
    headers["Content-Type"] = "text/plain"
    async with edge.http.post(f"{edge.url}/v1/likes", data=members, headers=headers) as answer:
        assert answer.status == status
        if status == 403:
            assert (await answer.json(content_type=None))["outcome"] == "wrong-origin"
        got = answer.headers.get("Access-Control-Allow-Origin")
        assert got == (own if allowed == "own" else allowed)


async def test_ballots_of_another_day_than_the_stores_are_cast_on_the_stores_day(edge, postgres):
    """Midnight between edge and store: nothing is lost, nothing lands on a wrong day."""
    box = edge.parts.ballot_boxes.of(0)
    await postgres.execute(
        "UPDATE campaigns SET opens_at = now() - interval '50 days',"
        " closes_at = now() + interval '50 days'"
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def reloaded():
        window = edge.parts.catalog.campaigns["spring"].window
        return window.closes_at - window.opens_at > timedelta(days=99)

    await wait_until_async(reloaded)
    token = await edge.token()
    for wrong_by in (DAY, -DAY, 40 * DAY):
        box.clock_offset_us = wrong_by
        box._queues.clear()
        status, _ = await edge.like(token, "c001" if wrong_by == DAY else "c002")
        assert status in (200, 201)
        assert abs(box.clock_offset_us) < 5_000_000
    campaign = edge.parts.catalog.campaigns["spring"]
    keys = await box.line.ask("KEYS", "*:day:*")
    today = moment_at(box.store_now_us(), campaign.window.zone).date()
    assert keys == [f"{{s0}}:day:spring:{today}".encode()]


async def test_many_devices_at_once_are_each_counted_once(edge):
    tokens = await asyncio.gather(*(edge.token() for _ in range(100)))
    answers = await asyncio.gather(*(edge.like(token) for token in tokens for _ in range(2)))
    statuses = sorted(status for status, _ in answers)
    assert statuses == [200] * 100 + [201] * 100
    receipts = {body["receipt"] for status, body in answers if status == 201}
    assert len(receipts) == 100
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 100}


async def test_client_that_hangs_up_in_mid_batch_hurts_nobody_else(edge):
    tokens = [await edge.token() for _ in range(40)]

    async def hang_up(token):
        body = body_of(token=token, campaign="spring", candidate="c001", click="click-gone")
        _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(
            b"POST /v1/likes HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        writer.transport.abort()

    results = await asyncio.gather(
        *(hang_up(token) for token in tokens[:20]), *(edge.like(token) for token in tokens[20:])
    )
    assert [status for status, _ in results[20:]] == [201] * 20
    # And whoever hung up finds the answer with the same click.
    again = [await edge.like(token, click="click-gone") for token in tokens[:20]]
    assert [status for status, _ in again] == [201] * 20
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 40}


async def test_store_away_is_503_at_once_and_comes_back(
    tmp_path, servers_folder, postgres_dsn, postgres
):
    from deploy.local.servers import EmbeddedValkey
    from tests.conftest import running

    await add_campaign(postgres, "spring")
    folder = servers_folder / "away"
    folder.mkdir(mode=0o700, exist_ok=True)
    server = EmbeddedValkey(folder, memory_mb=64)
    with running(server) as process:
        async with running_edge(tmp_path, server.url, postgres_dsn) as edge:
            token = await edge.token()
            assert (await edge.like(token))[0] == 201
            process.kill()
            process.wait()
            status, body = await edge.like(token, "c002", click="click-while-away")
            assert (status, body["outcome"]) == (503, "store-down")
            async with edge.http.get(f"{edge.url}/readyz") as answer:
                assert answer.status == 503
            with running(server):

                async def back():
                    return (await edge.like(token, "c002", click="click-while-away"))[0] == 201

                await wait_until_async(back, what="the like after the store's return")
                # What was acknowledged before the kill is there, and the epoch moved.
                snapshot = await edge.parts.ballot_boxes.of(0).snapshot("spring")
                assert snapshot.sums == {b"1": 1, b"2": 1}
                assert (snapshot.epoch, snapshot.seq) == (2, 2)


async def test_nearly_full_store_is_503_before_the_store_refuses(edge, valkey):
    token = await edge.token()
    assert (await edge.like(token))[0] == 201
    used = (await valkey.info("memory"))["used_memory"]
    before = (await valkey.config_get("maxmemory"))["maxmemory"]
    await valkey.config_set("maxmemory", int(used * 1.05))
    try:

        async def refused():
            return (await edge.like(token, "c002"))[1]["outcome"] == "overloaded"

        await wait_until_async(refused)
    finally:
        await valkey.config_set("maxmemory", before)

    async def taken():
        return (await edge.like(token, "c003"))[0] == 201

    await wait_until_async(taken)


async def test_too_many_waiting_ballots_are_503_at_once(edge):
    box = edge.parts.ballot_boxes.of(0)
    token = await edge.token()
    box._waiting_max = 0
    status, body = await edge.like(token)
    assert (status, body["outcome"]) == (503, "overloaded")
    box._waiting_max = 100
    assert (await edge.like(token))[0] == 201


async def test_emptied_store_gets_its_functions_back_and_a_later_epoch(edge, valkey, postgres):
    token = await edge.token()
    assert (await edge.like(token))[0] == 201
    await postgres.execute("INSERT INTO watermarks VALUES (0, 41, 7, 99, now())")
    await valkey.flushall()
    await valkey.function_flush()

    async def floor_known():
        return edge.parts.ballot_boxes.of(0).epoch_floor == 41

    await wait_until_async(floor_known)

    async def cast():
        return (await edge.like(token, "c002"))[0] == 201

    await wait_until_async(cast)
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).epoch == 42
