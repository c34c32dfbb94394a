"""The fast lane and aiohttp alone give the same answers to whatever comes on a connection.

Two edges over one store, one with the lane and one without. Each has a campaign of its own with
the same rules, so that what one is told does not depend on what the other has done.
"""

import asyncio
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from tests.wire import chunked, get, like, like_body, minted, post, wired

CAMPAIGNS = ("left1", "right")
ALLOWED = b"Origin: https://www.example.cn\r\n"
COMPARED = (
    *("content-type", "cache-control", "server", "vary", "allow", "x-content-type-options"),
    *("access-control-allow-origin", "access-control-expose-headers"),
    *("access-control-allow-methods", "access-control-allow-headers"),
)
PRESENT = ("retry-after", "etag", "date")
# Of its own, or as the moment wants it: who counts when and where is not what is compared here.
VARIES = ("receipt", "token", "likes", "counts", "as_of")

HEADS = (
    *(b"",) * 12,
    *(ALLOWED,) * 8,
    *(b"Origin: https://evil.example\r\n", b"Origin: null\r\n"),
    *(b"Expect: 100-continue\r\n", b"Expect: 200-maybe\r\n", b"X-Odd: \xe4\xbd\xa0\r\n"),
    *(b"Connection: keep-alive\r\n", b"Content-Encoding: gzip\r\n", ALLOWED + ALLOWED),
    *(b"X-Forwarded-For: 1.2.3.4\r\n", b"Accept: */*\r\ncookie: a=b\r\n"),
)
TYPES = (
    *(b"text/plain", b"application/json", b"text/plain;charset=UTF-8") * 6,
    *(b"text/plain; charset=gbk", b"text/html", b"TEXT/PLAIN", b""),
)
# From the token and the campaign of this side.
BODIES = (
    *(
        lambda token, campaign, candidate=candidate, click=click: like_body(
            token, candidate, click, campaign
        )
        # Most of what is drawn is well-formed, so that most of it is for the lane.
        for candidate, click in 3
        * (
            *(("c001", "click-0001"), ("c001", "click-0002"), ("c002", "click-0001")),
            *(("c002", "click-0003"), ("c003", "click-0004"), ("c004", "click-0005")),
            *(("c999", "click-0006"), ("c001", "no"), ("", "click-0007")),
        )
    ),
    lambda token, campaign: like_body("x" + token[1:], "c001", "click-0008", campaign),
    lambda token, campaign: like_body("", "c001", "click-0008", campaign),
    lambda token, campaign: like_body(token, "c001", "click-0008", "nosuch"),
    lambda token, campaign: like_body(token, "c005", "click-0009", campaign)[:-1] + b',"a":[1]}',
    lambda token, campaign: like_body(token, "c001", "click-0010", campaign)[:-1],
    lambda token, campaign: b"",
    lambda token, campaign: b"null",
    lambda token, campaign: b'{"campaign":"\xff"}',
    lambda token, campaign: b"[" * 3_000,
    lambda token, campaign: b'{"campaign":"%b"}' % campaign.encode(),
    lambda token, campaign: b'{"campaign":1}',
)
GETS = (
    *(b"/v1/campaigns/still/counts",) * 6,
    *(b"/v1/campaigns/nosuch/counts", b"/healthz", b"/nope"),
    *(b"/v1/campaigns/still/counts?a=b", b"/v1/likes", b"/v1/campaigns/st%69ll/counts"),
)
NONE_MATCH = (b"", b"", b'If-None-Match: "x"\r\n', b"If-None-Match: %b\r\n")

POSTS = st.tuples(
    st.sampled_from((b"/v1/likes", b"/v1/likes", b"/v1/likes", b"/v1/devices")),
    st.sampled_from(BODIES),
    st.sampled_from(HEADS),
    st.sampled_from(TYPES),
)
READS = st.tuples(
    st.sampled_from((*(b"GET",) * 8, b"HEAD", b"OPTIONS", b"DELETE")),
    st.sampled_from(GETS),
    st.sampled_from(NONE_MATCH),
    st.sampled_from(HEADS),
)
# After these the connection is aiohttp's, or over: they come last.
LAST = st.sampled_from(("", "", "chunked", "large", "old", "close"))


def written(asked, token, campaign, etag):
    """The bytes of one request for one side."""
    if asked[0].startswith(b"/"):
        path, body, more, content_type = asked
        return post(path, body(token, campaign), more=more, content_type=content_type)
    method, path, match, more = asked
    match = match.replace(b"%b", etag)
    return method + get(path, match + more)[3:]


def ending(kind, token, campaign):
    body = like_body(token, "c001", "click-last", campaign)
    return {
        "": b"",
        "chunked": chunked(b"/v1/likes", body),
        "large": post(b"/v1/likes", body + b" " * 5_000, more=ALLOWED),
        "old": post(b"/v1/likes", body, version=b"1.0"),
        "close": post(b"/v1/likes", body, more=b"Connection: close\r\n"),
    }[kind]


def shape(answer):
    """What a client may rely on."""
    try:
        said = json.loads(answer.body)
        if isinstance(said, dict):
            said = {name: None if name in VARIES else said[name] for name in said}
    except ValueError:
        said = answer.body
    told = {name: answer.headers.get(name) for name in COMPARED}
    told |= {name: name in answer.headers for name in PRESENT}
    return answer.status, told, said


async def told(edge, requests, *, pipelined, cut):
    """The shape of each answer, and whether the connection is open after them."""
    seen = []
    async with wired(edge) as wire:
        for sent in [b"".join(requests)] if pipelined else requests:
            at = cut % len(sent)
            for piece in (sent[:at], sent[at:]):
                wire.send(piece)
                for _ in range(3):
                    await asyncio.sleep(0)  # so that the pieces may, and need not, come apart
            if not pipelined:
                seen.append(shape(await wire.answer(to=sent.split(b" ", 1)[0])))
        if pipelined:
            for request in requests:
                seen.append(shape(await wire.answer(to=request.split(b" ", 1)[0])))
        wire.send(get(b"/healthz"))
        try:
            seen.append((await wire.answer()).status)
        except (EOFError, ConnectionError):
            seen.append("closed")
    return seen


@pytest.fixture
async def both(tmp_path, valkey_url, postgres_dsn, postgres):
    """The edge with the lane and the edge without."""
    for campaign in (*CAMPAIGNS, "still"):
        await add_campaign(postgres, campaign)
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane="on") as fast,
        running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane="off") as alone,
    ):
        yield fast, alone


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.one_of(POSTS, POSTS, READS), min_size=1, max_size=6),
    LAST,
    st.booleans(),
    st.integers(0, 3_000),
)
async def test_both_ways_answer_a_connection_alike(both, asked, last, pipelined, cut):
    answers = []
    for edge, campaign in zip(both, CAMPAIGNS, strict=True):
        token = minted(edge, campaign)
        still = edge.parts.catalog.campaigns["still"]
        etag = edge.parts.board.published(still).etag.encode()
        requests = [written(one, token, campaign, etag) for one in asked]
        final = ending(last, token, campaign)
        if final:
            requests.append(final)
        answers.append(await told(edge, requests, pipelined=pipelined, cut=cut))
    assert answers[0] == answers[1]
    assert both[1].parts.metrics.in_lane == 0


BYTES = st.one_of(
    st.binary(max_size=30), st.sampled_from((b"\r\n", b"\r\n\r\n", b"\x00", b":", b"{", b" "))
)
# (where, how many bytes go, what comes instead)
CHANGES = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 9), BYTES), max_size=4)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), CHANGES))
async def test_no_bytes_cost_more_than_their_own_connection(both, capfd, changed):
    edge = both[0]
    if isinstance(changed, bytes):
        sent = changed
    else:
        sent = b"".join(
            like(minted(edge, "left1"), "c001", f"click-fuzz-{n}", "left1") for n in range(3)
        )
        for where, gone, instead in changed:
            at = where % len(sent)
            sent = sent[:at] + instead + sent[at + gone :]
    capfd.readouterr()
    async with wired(edge) as wire:
        wire.send(sent)
        wire.writer.write_eof()
        got = await wire.rest()
    assert not re.search(rb"HTTP/1.1 5", got), got
    async with wired(edge) as wire:
        assert (
            await wire.ask(like(minted(edge, "left1"), "c001", "click-after", "left1"))
        ).status == 201
    logged = "".join(capfd.readouterr())
    assert "Traceback" not in logged
    assert "127.0.0.1" not in logged
