"""What reaches the edge as bytes: malformed, slow, oversized, smuggled. Never a 500, never a
traceback, never a connection that stays for nothing."""

import asyncio
import re
import time

import pytest

from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from voting.edge import bodies, protocol

POST = b"POST /v1/likes HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
GOOD_GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def talk(edge, sent, *, wait=5.0):
    """All that the edge answers to these bytes until it closes or `wait` seconds of silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(sent)
    got = b""
    try:
        async with asyncio.timeout(wait):
            while chunk := await reader.read(65_536):
                got += chunk
    except (TimeoutError, ConnectionResetError):
        pass
    writer.transport.abort()
    return got


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"H%d: 1\r\n" % n for n in range(500))
        + b"\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1e3\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
        POST + b"Content-Length: 5000\r\n\r\n" + b"x" * 5_000,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5_000 + b"\r\n0\r\n\r\n",
        POST + b"Expect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_malformed_http_is_4xx_or_closed_and_costs_no_log(edge, capfd, sent):
    capfd.readouterr()
    answer = await talk(edge, sent, wait=1.0)
    assert all(400 <= status < 500 for status in statuses(answer)), answer
    assert answer == b"" or statuses(answer)
    assert await talk(edge, GOOD_GET, wait=0.5)
    logged = "".join(capfd.readouterr())
    assert "Traceback" not in logged
    assert "127.0.0.1" not in logged


async def test_body_that_breaks_off_is_400_or_nobodys_and_costs_no_log(edge, capfd):
    capfd.readouterr()
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for pieces in ((head, b"zz\r\n"), (head, b"2\r\n{}", b"xx"), (head + b"1\r\n{\r\n", b"\0")):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)  # a segment of its own
        assert statuses(await asyncio.wait_for(reader.read(), 5)) == [400]
        writer.transport.abort()
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head)
    await asyncio.sleep(0.05)
    writer.transport.abort()
    assert await talk(edge, GOOD_GET, wait=0.5)
    logged = "".join(capfd.readouterr())
    assert "Traceback" not in logged
    assert "127.0.0.1" not in logged


async def test_too_large_bodies_are_413_however_they_are_framed(edge):
    for sent in (
        POST + b"Content-Length: 4097\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5_000 + b"\r\n0\r\n\r\n",
    ):
        assert statuses(await talk(edge, sent, wait=2))[:1] == [413]


async def test_head_that_does_not_come_ends_the_connection(edge, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS_MAX", 0.3)
    for begun in (b"", b"POST /v1/likes HT", POST):
        started = time.monotonic()
        await talk(edge, begun, wait=8)
        assert time.monotonic() - started < 5, begun


async def test_second_head_on_a_connection_has_its_deadline_too(edge, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS_MAX", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(GOOD_GET)
    await reader.readuntil(b"true}")
    writer.write(b"GET /heal")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.transport.abort()


async def test_head_that_drips_ends_the_connection_too(edge, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS_MAX", 0.5)
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    with pytest.raises(OSError):  # noqa: PT011  # reset or broken pipe, as the kernel likes
        for _ in range(100):
            writer.write(b"A")
            await writer.drain()
            await asyncio.sleep(0.1)
    writer.transport.abort()


async def test_idle_keep_alive_connection_outlives_the_heads_deadline(edge, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS_MAX", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    for pause in (2.0, 0):
        writer.write(GOOD_GET)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b" 200 " in head
        await reader.readexactly(14)
        await asyncio.sleep(pause)
    writer.transport.abort()


async def test_body_that_does_not_come_is_408(edge, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS_MAX", 0.3)
    monkeypatch.setattr(protocol, "BODY_SECONDS_MAX", 0.3)
    answer = await talk(edge, POST + b"Content-Length: 100\r\n\r\n{", wait=6)
    assert statuses(answer) == [408]


async def test_body_that_comes_in_pieces_is_taken(edge):
    token = await edge.token()
    body = (
        b'{"token":"%b","campaign":"spring","candidate":"c001","click":"click-pieces"}'
        % token.encode()
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body))
    for at in range(0, len(body), 40):
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(body[at : at + 40])
    assert b" 201 " in await asyncio.wait_for(reader.readline(), 5)
    writer.transport.abort()


async def test_both_ways_to_a_like_give_the_same_answer(edge):
    """The usual request is answered past aiohttp's router and response, an unusual one is not."""
    token = await edge.token()

    async def answers(version, more):
        seen = []
        for candidate, click in (
            *(("c001", "click-both-1"), ("c001", "click-both-2")),
            *(("c002", "click-both-1"), ("c009", "click-both-3"), ("c001", "bad")),
        ):
            body = b'{"token":"%b","campaign":"spring","candidate":"%b","click":"%b"}' % (
                token.encode(),
                candidate.encode(),
                click.encode(),
            )
            sent = POST.replace(b"HTTP/1.1", version) + more
            sent += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            head, _, body = (await talk(edge, sent, wait=0.5)).partition(b"\r\n\r\n")
            status, *headers = head.split(b"\r\n")
            told = {header for header in headers if not header.startswith(b"Date")}
            seen.append((status.split(b" ", 1)[1], told - {b"Connection: close"}, body))
        return seen

    await edge.like(token, click="click-both-1")
    await edge.wait_for_counts("spring", {"c001": 1})
    for origin in (b"", b"Origin: https://www.example.cn\r\n"):
        usual = await answers(b"HTTP/1.1", origin)
        assert [status[:3] for status, _, _ in usual] == [b"201", b"200", b"400", b"404", b"400"]
        assert await answers(b"HTTP/1.1", origin + b"Connection: close\r\n") == usual
        assert await answers(b"HTTP/1.0", origin) == usual


async def test_pipelined_likes_are_answered_in_their_order(edge):
    token = await edge.token()
    sent = b""
    for n in (1, 2, 3):
        body = b'{"token":"%b","campaign":"spring","candidate":"c00%d","click":"click-pipe%d"}' % (
            token.encode(),
            n,
            n,
        )
        sent += POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    answer = await talk(edge, sent, wait=1)
    assert statuses(answer) == [201, 201, 201]
    places = [answer.index(b'"candidate":"c00%d"' % n) for n in (1, 2, 3)]
    assert places == sorted(places)


async def test_connections_above_the_cap_are_turned_away(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, edge_connections_max=3) as edge:
        held = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(3)]
        for _, writer in held:
            writer.write(GOOD_GET)
        for reader, _ in held:
            assert b" 200 " in await reader.readline()
        assert await talk(edge, GOOD_GET, wait=1) == b""
        for _, writer in held:
            writer.transport.abort()

        async def again():
            return await talk(edge, GOOD_GET, wait=0.5)

        from tests.conftest import wait_until_async

        assert await wait_until_async(again)


async def test_unknown_paths_and_methods_are_problems(edge):
    for method, path, status in (
        ("GET", "/nope", 404),
        ("GET", "/v1/likes", 405),
        ("DELETE", "/v1/campaigns/spring", 405),
        ("GET", "/v1/campaigns/none", 404),
        ("GET", "/v1/campaigns/none/counts", 404),
        ("GET", "/v1/campaigns/spring/counts/none.svg", 404),
        ("GET", "/v1/campaigns/spring/candidates?order=fast", 400),
        ("GET", "/v1/photos/00000000.webp", 404),
        ("GET", "/v1/receipts/AAAAAAAAAAAAAAAAAAAAAA", 404),
        ("GET", "/v1/receipts/short", 404),
        ("GET", "/embed/v1/like.exe", 404),
        ("GET", "/embed/v1.9999/like.js", 404),
        ("GET", "/embed/v1/card/spring/none", 404),
        ("GET", "/static/..%2f..%2fsettings.py", 404),
        ("GET", "/%ff%fe", 404),
    ):
        async with edge.http.request(method, f"{edge.url}{path}") as answer:
            assert answer.status == status, path
            assert answer.content_type == "application/problem+json", path
            if status == 405:
                assert answer.headers["Allow"]


async def test_stopping_edge_answers_what_it_has_taken(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        tokens = [await edge.token() for _ in range(20)]
        likes = [asyncio.create_task(edge.like(token)) for token in tokens]
        # All are on their connections; the last may not be read yet when the stop comes.
        while len(edge.http.connector._acquired) < 20 or not edge.parts.ballot_boxes.of(0).waiting:
            await asyncio.sleep(0)
        edge.child.stop_event.set()
        answers = await asyncio.gather(*likes)
        assert [status for status, _ in answers] == [201] * 20
    assert int(await _hot_count(valkey_url)) == 20


async def _hot_count(valkey_url):
    import redis.asyncio as redis

    client = redis.Redis.from_url(valkey_url)
    try:
        return await client.hget("{s0}:tally:spring", "1") or 0
    finally:
        await client.aclose()
