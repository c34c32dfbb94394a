"""Whatever `read_head` takes, aiohttp's parser understands as the same request; so neither can be
led to see another request's beginning where the other sees a body."""

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from voting.edge import heads
from voting.edge.heads import read_head

FIRST_LINES = st.one_of(
    st.sampled_from(
        (
            *(b"POST /v1/likes HTTP/1.1", b"POST /v1/likes HTTP/1.1", b"GET / HTTP/1.1"),
            *(b"post /v1/likes HTTP/1.1", b"POST  /v1/likes HTTP/1.1", b"GET /a?b#c HTTP/1.1"),
            *(b"POST /v1/likes HTTP/1.0", b"POST /v1/likes HTTP/1.1 ", b"\r\nGET / HTTP/1.1"),
            *(b"GET http://x/ HTTP/1.1", b"CONNECT /a HTTP/1.1", b"GET // HTTP/1.1"),
            *(b"GET /%zz HTTP/1.1", b"NOSUCH / HTTP/1.1", b"GET /[ HTTP/1.1", b"PRI * HTTP/2.0"),
            *(
                b"GET //[ HTTP/1.1",
                b"GET //a:b/ HTTP/1.1",
                b"OPTIONS * HTTP/1.1",
                b"QUERY / HTTP/1.1",
            ),
        )
    ),
    st.binary(max_size=20).map(lambda path: b"GET /%b HTTP/1.1" % path),
)
NAMES = st.sampled_from(
    (
        *(b"Host", b"Content-Length", b"content-length", b"Content-Type", b"Origin"),
        *(b"Transfer-Encoding", b"X-Forwarded-For", b"If-None-Match", b"Connection", b"Expect"),
        *(b"Upgrade", b"Content-Encoding", b"Content-Length ", b" Content-Length", b"", b"X-Odd"),
        *(b"Content_Length", b"Content\x00-Length", b"HTTP2-Settings", b"Sec-WebSocket-Key1"),
        *(b"User-Agent", b"Server", b"ETag", b"Max-Forwards", b"Content-Location"),
        b"Accept-Encoding",
    )
)
VALUES = st.one_of(
    st.sampled_from(
        (
            *(b"x", b"0", b"2", b"2", b"+2", b"-2", b"2, 2", b"0x2", b"002", b"2 ", b"\t2", b""),
            *(b"chunked", b"Chunked", b"gzip, chunked", b"identity", b"close", b"keep-alive"),
            *(b"text/plain", b"upgrade", b"websocket", b"h2c", b"a\r\n folded", b"a\rb", b"a\nb"),
            *(b"\xb2", b"\xe4\xbd\xa0", b"2" * 15, b"2" * 40, b"a" * 9_000, b"100-continue"),
            *(b"chunked\x0b", b"2\x0c", b"\x7f", b"\xa02"),
        )
    ),
    st.binary(max_size=12),
)
ENDS = st.sampled_from((b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"))
COLONS = st.sampled_from((b": ", b": ", b":", b":\t", b" :", b""))
LINES = st.tuples(NAMES, COLONS, VALUES, ENDS).map(b"".join)
# Heads of one meaning are rare by chance: half of what is tried is near one.
GOOD_LINES = st.sampled_from(
    (
        *(b"Content-Length: 2\r\n", b"Content-Type: text/plain\r\n", b"origin:https://a.cn \r\n"),
        *(b"X-Forwarded-For: 1.2.3.4\r\n", b'If-None-Match:\t"a"\r\n', b"Accept:\r\n"),
        *(b"Connection: keep-alive\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: x\r\n"),
        *(b"Accept-Encoding: gzip\r\n", b"accept-encoding: br\r\n"),
        *(b"User-Agent: a\r\n", b"user-agent: b\r\n", b"X: %b\r\n" % (b"a" * 8_189)),
    )
)
HEADS = st.builds(
    lambda first, host, lines, more: b"%b\r\n%b%b%b\r\n" % (first, host, b"".join(lines), more),
    FIRST_LINES,
    st.sampled_from((*(b"Host: x\r\n",) * 8, b"", b"Host:\r\n")),
    st.one_of(
        st.lists(GOOD_LINES, max_size=4),
        st.lists(st.one_of(LINES, GOOD_LINES, GOOD_LINES), max_size=4),
    ),
    st.sampled_from((*(b"",) * 8, b"X: a\r\n" * 90, b"X: a\r\n" * 128)),
)
LIKE = b"POST /v1/likes HTTP/1.1\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


def parsed(sent):
    """What aiohttp's parser makes of these bytes."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(
            BaseProtocol(loop),
            loop,
            2**16,
            max_line_size=8_190,
            max_field_size=8_190,
            auto_decompress=False,
        )
        return parser.feed_data(sent)[0]
    finally:
        loop.close()


@settings(max_examples=800)
@example(LIKE + b"Host: x\r\nSec-WebSocket-Key1: x\r\n\r\n")
@example(LIKE + b"\r\n")
@example(LIKE + b"Host: x\r\nUser-Agent: a\r\nuser-agent: a\r\n\r\n")
@example(LIKE + b"Host: x\r\n" + b"X: a\r\n" * 128 + b"\r\n")
@example(LIKE + b"Host: x\r\nX: " + b"a" * 8_300 + b"\r\n\r\n")
@given(HEADS)
def test_head_that_is_taken_has_the_same_meaning_for_aiohttp(raw):
    head = read_head(raw)
    if head is None:
        return
    short = head.body_bytes is not None and head.body_bytes <= 100
    body = b"x" * head.body_bytes if short else b""
    chunks = head.body_bytes is None
    if chunks:
        body = b"2\r\nxx\r\n0\r\n\r\n"
    try:
        requests = parsed(raw + body + (NEXT if short or chunks else b""))
    except (HttpProcessingError, ValueError):
        # It answers 400 and ends the connection: no further request can be smuggled. But what the
        # lane may answer by itself must be good.
        assert not (head.plain and head.target == b"/v1/likes")
        return
    message, content = requests[0]
    assert message.method == head.method.decode()
    assert message.path == head.target.decode()
    assert message.chunked is chunks
    if short or chunks:
        assert [message.path for message, _ in requests[1:]] == ["/next"]
        got = b"".join(content._buffer) if body else b""
        assert got == (b"xx" if chunks else body)
    else:
        assert len(requests) == 1
    if not head.plain:
        return
    assert not message.should_close
    assert not message.upgrade
    for name, value in (
        ("Content-Type", head.content_type),
        ("Origin", head.origin),
        ("Host", head.host),
        ("X-Forwarded-For", head.forwarded_for),
        ("If-None-Match", head.if_none_match),
        ("Accept-Encoding", head.accept_encoding),
    ):
        assert message.headers.get(name) == value
        assert len(message.headers.getall(name, ())) <= 1
    length = message.headers.get("Content-Length")
    assert int(length or 0) == head.body_bytes or head.body_bytes == 1 << 40


def test_usual_heads_are_taken_and_plain():
    for lines in (b"", b"Content-Length: 2\r\n", b"ORIGIN: https://a.cn\r\nAccept: */*\r\n"):
        head = read_head(b"POST /v1/likes HTTP/1.1\r\nHost: x\r\n%b\r\n" % lines)
        assert head is not None
        assert head.plain


def test_lines_that_are_remembered_are_few_and_short():
    for n in range(3 * heads._LINES_HELD_MAX):
        read_head(b"GET /%d HTTP/1.1\r\nHost: x\r\nX-%d: a\r\n\r\n" % (n, n))
    read_head(b"GET /%b HTTP/1.1\r\nHost: x\r\nX-Long: %b\r\n\r\n" % (b"a" * 300, b"b" * 300))
    read_head(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
    for held in (heads._lines_held, heads._first_lines_held):
        assert heads._LINES_HELD_MAX / 2 < len(held) <= heads._LINES_HELD_MAX
        assert max(map(len, held)) <= heads._LINE_BYTES_HELD_MAX
    assert b"X-Forwarded-For: 1.2.3.4" not in heads._lines_held
