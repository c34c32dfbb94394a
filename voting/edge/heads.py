"""Heads of HTTP/1.1 requests: as far as the fast lane must understand them, and no further.

`read_head` is strict on purpose. Whatever it does not take (None) is aiohttp's to judge, so a
doubt here costs speed and never correctness; and what it takes has one meaning by RFC 9112, so
that both agree where the request ends.
"""

import re

import msgspec

HEAD_END = b"\r\n\r\n"

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_HEAD = re.compile(
    rb"(?P<method>[A-Z]{3,8}) (?P<target>/[\x21-\x7e]*+) HTTP/1\.1\r\n"
    rb"(?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*+\r\n"
)
# The headers that say where a request ends, who sent it, or what must be done first.
_FACT = re.compile(
    rb"\r\n(content-(?:length|type|encoding)|origin|host|x-forwarded-for|if-none-match"
    rb"|connection|transfer-encoding|expect|upgrade|http2-settings):"
    rb"([^\r]*+)",
    re.IGNORECASE,
)
_PLAIN_FACTS = frozenset(
    {
        *(b"content-length", b"content-type", b"origin", b"host", b"x-forwarded-for"),
        *(b"if-none-match", b"connection"),
    }
)
_BODY_BYTES_MAX = 1 << 40


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
    """Nothing in it asks for more than an answer on a connection that stays open, and no header
    that is read below comes twice."""
    content_length: bool = False
    """Whether it names a length, be it 0."""
    content_type: str | None = None
    origin: str | None = None
    host: str | None = None
    forwarded_for: str | None = None
    if_none_match: str | None = None


def read_head(head: bytes) -> Head | None:
    """The head that these bytes are, its empty line included; None where they are not one that
    is understood here."""
    line = _HEAD.fullmatch(head)
    if line is None or line["method"] == b"CONNECT":
        return None
    found = [(name.lower(), value.strip(b" \t")) for name, value in _FACT.findall(head)]
    facts = dict(found)
    twice = len(facts) != len(found)
    if b"upgrade" in facts or b"http2-settings" in facts:
        return None
    body_bytes: int | None = 0
    length = facts.get(b"content-length")
    if length is not None:
        # Two lengths, or a length and chunks: that is how requests are smuggled.
        if twice or not length.isdigit() or b"transfer-encoding" in facts:
            return None
        body_bytes = int(length) if len(length) < 16 else _BODY_BYTES_MAX
    elif b"transfer-encoding" in facts:
        if twice or facts[b"transfer-encoding"].lower() != b"chunked":
            return None
        body_bytes = None
    plain = (
        not twice
        and facts.keys() <= _PLAIN_FACTS
        and facts.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and all(map(bytes.isascii, facts.values()))
    )

    def text(name: bytes) -> str | None:
        value = facts.get(name)
        return value.decode("latin-1") if value is not None and plain else None

    return Head(
        line["method"],
        line["target"],
        body_bytes,
        plain,
        length is not None,
        text(b"content-type"),
        text(b"origin"),
        text(b"host"),
        text(b"x-forwarded-for"),
        text(b"if-none-match"),
    )
