"""Answers in gzip for those who take it: compressed once, and not per request.

What is compressed is public and the same for everybody, or holds no secret beside something that an
attacker could choose; else its length would tell (BREACH). gzip alone: every client has it, and a
CDN makes Brotli out of it where it likes. A body is compressed when the first client asks for it
so, level 6: 750 candidates take some 10 ms, counts of them half of one.
"""

import re
import zlib
from collections.abc import Mapping, MutableMapping

from aiohttp import hdrs, web

GZIP = "gzip"
_LEVEL = 6
_SMALL_BYTES = 256
"""Below it gzip saves less than its own head and the header that names it."""
_USUAL = frozenset({"gzip, deflate, br", "gzip, deflate, br, zstd", "gzip, deflate", "gzip"})
"""As browsers and CDNs spell it: looked up, not taken apart."""
_NAMES = frozenset({GZIP, "x-gzip"})
_WEIGHT = re.compile(r"1(\.0{0,3})?|0\.(?!0*$)\d{1,3}")
"""Above 0."""
_BY = "Accept-Encoding"


class Body:
    """Bytes of an answer, and their gzip form. Never changed once made."""

    __slots__ = ("_gzipped", "_stem", "plain")

    def __init__(self, plain: bytes, stem: "Stem | None" = None) -> None:
        """`stem`: what it begins with, where that is compressed already."""
        self.plain = plain
        self._stem = stem
        self._gzipped: bytes | None = None

    @property
    def gzipped(self) -> bytes:
        """Made when it is first asked for."""
        if self._gzipped is None:
            stem = self._stem or _NO_STEM
            self._gzipped = stem.end(self.plain[len(stem.plain) :])
            self._stem = None
        return self._gzipped

    def form(self, *, gzip: bool) -> bytes:
        """What is sent to who takes gzip, or does not."""
        return self.gzipped if gzip and self.worth_it else self.plain

    @property
    def worth_it(self) -> bool:
        return len(self.plain) >= _SMALL_BYTES


class Stem:
    """How bodies begin that differ in their end alone: compressed once, continued often."""

    __slots__ = ("_begun", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._begun: tuple[bytes, zlib._Compress] | None = None

    def body(self, end: bytes) -> Body:
        return Body(self.plain + end, self)

    def end(self, end: bytes) -> bytes:
        """gzip of it and this end."""
        if self._begun is None:
            # 31 = a window of 32 kB, in a gzip frame whose time is 0: the same bytes each time.
            compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
            self._begun = (compressor.compress(self.plain), compressor)
        written, compressor = self._begun
        going_on = compressor.copy()
        return written + going_on.compress(end) + going_on.flush()


_NO_STEM = Stem(b"")


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether this Accept-Encoding (all its lines, commas between) takes gzip, by RFC 9110. What
    is not understood does not: plain bytes serve everybody."""
    if not accept_encoding:
        return False
    if accept_encoding in _USUAL:
        return True
    named: bool | None = None
    any_other = False
    for item in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        if coding in _NAMES:
            named = bool(named) or _has_weight(parameters)
        elif coding == "*":
            any_other = _has_weight(parameters)
    return any_other if named is None else named


def request_accepts_gzip(request: web.BaseRequest) -> bool:
    return accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())))


def answer(
    request: web.BaseRequest, body: Body, headers: Mapping[str, str], status: int = 200
) -> web.Response:
    """This body in the form that the client takes. A cache keeps both: `Vary`."""
    gzip = request_accepts_gzip(request)
    made = web.Response(body=body.form(gzip=gzip), status=status, headers=headers)
    vary_by_encoding(made.headers)
    if gzip and body.worth_it:
        made.headers[hdrs.CONTENT_ENCODING] = GZIP
    return made


def vary_by_encoding(headers: MutableMapping[str, str]) -> None:
    """Say that the answer depends on Accept-Encoding, beside what it depends on already."""
    varies = headers.get(hdrs.VARY)
    headers[hdrs.VARY] = f"{varies}, {_BY}" if varies else _BY


def _has_weight(parameters: list[str]) -> bool:
    """Whether a coding's parameters leave it a weight above 0."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return _WEIGHT.fullmatch(value.strip()) is not None
    return True
