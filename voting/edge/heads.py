"""Heads of HTTP/1.1 requests: as far as the fast lane must understand them, and no further.

`read_head` is strict on purpose. Whatever it does not take (None) is aiohttp's to judge, so a
doubt here costs speed and never correctness; and what it takes has one meaning by RFC 9112, so
that both agree where the request ends.
"""

import re
from typing import NamedTuple

import msgspec

from voting.remembered import remember

HEAD_END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z]{3,8}) (/[\x21-\x7e]*+) HTTP/1\.1")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):([\t\x20-\x7e\x80-\xff]*+)")
# The headers that say where a request ends, who sent it, or what must be done first.
_FACTS = frozenset(
    {
        *(b"content-length", b"content-type", b"content-encoding", b"origin", b"host"),
        *(b"x-forwarded-for", b"if-none-match", b"connection", b"transfer-encoding", b"expect"),
        *(b"user-agent", b"accept-language", b"sec-fetch-site", b"x-ja4", b"accept-encoding"),
        *(b"upgrade", b"http2-settings"),
        b"sec-websocket-key1",  # which aiohttp refuses
    }
)
# Nothing is asked of these but that they come once: aiohttp refuses them twice.
_SINGLE = frozenset(
    {
        *(b"server", b"etag", b"max-forwards"),
        *(b"content-location", b"content-range"),
    }
)
_PLAIN_FACTS = frozenset(
    {
        *(b"content-length", b"content-type", b"origin", b"host", b"x-forwarded-for"),
        *(b"if-none-match", b"connection", b"accept-encoding"),
        *(b"user-agent", b"accept-language", b"sec-fetch-site", b"x-ja4"),
    }
)
_BODY_BYTES_MAX = 1 << 40


class _Fact(NamedTuple):
    """A header line that says one of the above."""

    name: bytes
    """In lower case."""
    value: bytes
    text: str
    plain: bool
    """It asks for nothing that is not plain, and its value is ASCII."""


# A crowd's heads differ in a line or two: the others are looked up, 0.1 us instead of 1. Lines that
# are one client's own are not kept, nor long ones.
_NO_FACT = _Fact(b"", b"", "", True)
_OWN_FACTS = frozenset({b"x-forwarded-for", b"if-none-match"})
_lines_held: dict[bytes, _Fact] = {}
_first_lines_held: dict[bytes, tuple[bytes, bytes]] = {}
_LINES_HELD_MAX = 4_096
_LINE_BYTES_HELD_MAX = 512
# aiohttp refuses from 8,190 bytes and from 128 lines on.
_LINE_BYTES_MAX = 8_000
_LINES_MAX = 100


_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_CHUNK_LINE_BYTES_MAX = 8_190


class ChunkedBody:
    """Finds where a chunked body ends, as its bytes come. Its content is aiohttp's to read."""

    __slots__ = ("_left", "_line", "_trailers", "ended")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the chunk that have not come yet, the line break after it included."""
        self._line = b""
        """The beginning of a line."""
        self._trailers = False
        self.ended = False

    def end_in(self, data: bytes, at: int) -> int | None:
        """How far the body reaches in `data` from `at` on; `ended` says whether that is its end.
        None = it is not understood here."""
        while at < len(data) and not self.ended:
            if self._left:
                step = min(self._left, len(data) - at)
                at, self._left = at + step, self._left - step
                continue
            line_end = data.find(b"\n", at) + 1 or len(data)
            line = self._line + data[at:line_end]
            at = line_end
            if not line.endswith(b"\n"):
                self._line = line
                if len(line) > _CHUNK_LINE_BYTES_MAX:
                    return None
                continue
            self._line = b""
            if self._trailers:
                if not line.endswith(b"\r\n"):
                    return None
                self.ended = line == b"\r\n"
                continue
            chunk = _CHUNK_LINE.fullmatch(line)
            if chunk is None:
                return None
            size = int(chunk[1], 16)
            self._trailers = size == 0
            self._left = size + 2 if size else 0
        return at


class Head(msgspec.Struct, frozen=True, gc=False):
    """A head with one meaning."""

    method: bytes
    target: bytes
    body_bytes: int | None
    """Length of the body that follows; None = it comes in chunks."""
    plain: bool
    """It names its host, nothing in it asks for more than an answer on a connection that stays
    open, and no header comes twice that is read below or must not."""
    content_length: bool = False
    """Whether it names a length, be it 0."""
    content_type: str | None = None
    origin: str | None = None
    host: str | None = None
    forwarded_for: str | None = None
    if_none_match: str | None = None
    accept_encoding: str | None = None
    user_agent: str | None = None
    accepts_language: bool = False
    fetch_metadata: bool = False
    tls_fingerprint: str | None = None


def read_head(head: bytes) -> Head | None:
    """The head that these bytes are, its empty line included; None where they are not one that
    is understood here."""
    if not head.endswith(HEAD_END):
        return None
    first, *lines = head[: -len(HEAD_END)].split(b"\r\n")
    if len(lines) > _LINES_MAX:
        return None
    request = _first_lines_held.get(first) or _read_first_line(first)
    if request is None:
        return None
    facts: dict[bytes, _Fact] = {}
    plain, twice = True, False
    for line in lines:
        fact = _lines_held.get(line) or _read_line(line)
        if fact is None:
            return None
        if fact is not _NO_FACT:
            twice = twice or fact.name in facts
            plain = plain and fact.plain
            facts[fact.name] = fact
    if b"upgrade" in facts or b"http2-settings" in facts:
        return None
    body_bytes: int | None = 0
    length = facts.get(b"content-length")
    if length is not None:
        # Two lengths, or a length and chunks: that is how requests are smuggled.
        if twice or not length.value.isdigit() or b"transfer-encoding" in facts:
            return None
        body_bytes = int(length.value) if len(length.value) < 16 else _BODY_BYTES_MAX
    elif b"transfer-encoding" in facts:
        if twice or facts[b"transfer-encoding"].value.lower() != b"chunked":
            return None
        body_bytes = None
    host = facts.get(b"host")
    if twice or not plain or host is None:
        return Head(*request, body_bytes, False, length is not None)
    content_type, origin = facts.get(b"content-type"), facts.get(b"origin")
    forwarded_for = facts.get(b"x-forwarded-for")
    if_none_match = facts.get(b"if-none-match")
    accept_encoding = facts.get(b"accept-encoding")
    user_agent, fingerprint = facts.get(b"user-agent"), facts.get(b"x-ja4")
    return Head(
        *request,
        body_bytes,
        True,
        length is not None,
        content_type and content_type.text,
        origin and origin.text,
        host.text,
        forwarded_for and forwarded_for.text,
        if_none_match and if_none_match.text,
        accept_encoding and accept_encoding.text,
        user_agent and user_agent.text,
        b"accept-language" in facts,
        b"sec-fetch-site" in facts,
        fingerprint and fingerprint.text,
    )


def _read_first_line(line: bytes) -> tuple[bytes, bytes] | None:
    """(method, target)."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None or found[1] == b"CONNECT":
        return None
    request = (found[1], found[2])
    if len(line) <= _LINE_BYTES_HELD_MAX:
        remember(_first_lines_held, line, request, _LINES_HELD_MAX)
    return request


def _read_line(line: bytes) -> _Fact | None:
    """What a header line says, _NO_FACT where that is nothing that is asked here; None where it is
    no header line that is understood here."""
    found = _LINE.fullmatch(line) if len(line) <= _LINE_BYTES_MAX else None
    if found is None:
        return None
    name, value = found[1].lower(), found[2].strip(b" \t")
    fact = _NO_FACT
    if name in _FACTS:
        plain = (
            name in _PLAIN_FACTS
            and value.isascii()
            and (name != b"connection" or value.lower() == b"keep-alive")
        )
        fact = _Fact(name, value, value.decode("latin-1"), plain)
    elif name in _SINGLE:
        fact = _Fact(name, b"", "", True)
    if name not in _OWN_FACTS and len(line) <= _LINE_BYTES_HELD_MAX:
        remember(_lines_held, line, fact, _LINES_HELD_MAX)
    return fact
