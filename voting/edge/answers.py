"""Outcome -> HTTP, and every other answer that is not an ordinary page. The only such table."""

import json
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from voting.ballot import VOTES, Cast, Outcome
from voting.campaign import Campaign, Candidate

STATUS = {
    Outcome.COUNTED: 201,
    Outcome.HELD: 201,  # the same answer as COUNTED: do not teach the bot
    Outcome.REPEATED: 200,
    Outcome.QUOTA_SPENT: 409,
    Outcome.CHALLENGE: 428,
    Outcome.THROTTLED: 429,
    Outcome.REFUSED: 403,
    Outcome.CLOSED: 403,
    Outcome.NOT_OPEN: 403,
    Outcome.PAUSED: 403,
    Outcome.CLICK_REUSED: 400,
    Outcome.OVERLOADED: 503,
    Outcome.STORE_DOWN: 503,
    Outcome.IDENTITY_REQUIRED: 403,
}

PROBLEMS = {
    # word in `outcome`: (status, title)
    "quota-spent": (409, "今日点赞次数已用完"),
    "challenge": (428, "请先完成验证"),
    "throttled": (429, "点赞太快，请稍后再试"),
    "refused": (403, "本次点赞未被接受"),
    "wrong-origin": (403, "此页面未获准嵌入点赞"),
    "closed": (403, "点赞已结束"),
    "not-open": (403, "点赞尚未开始"),
    "paused": (403, "点赞暂停中"),
    "identity-required": (403, "请先在门户网站登录，再点赞"),
    "bad-identity": (401, "登录凭证无效，请刷新页面重试"),
    "bad-token": (401, "设备令牌无效，请重新获取"),
    "unknown-candidate": (404, "没有这位候选人"),
    "unknown-campaign": (404, "没有这项活动"),
    "not-found": (404, "没有这个地址"),
    "wrong-method": (405, "此地址不接受这种请求方法"),
    "late": (408, "请求未能及时送达"),
    "malformed": (400, "请求格式有误"),
    "too-large": (413, "请求内容过大"),
    "wrong-range": (416, "请求的范围不在文件之内"),
    "wrong-expectation": (417, "不支持的 Expect 请求头"),
    "wrong-media-type": (415, "请求内容的类型不被接受"),
    "overloaded": (503, "当前访问量过大，请稍后重试"),
    "store-down": (503, "服务暂时不可用，请稍后重试"),
    "defect": (500, "服务出错"),
}

WITHDRAWN = "这位候选人已退出"
"""Title of unknown-candidate where the candidate was in the campaign once."""

_WORDS = {outcome: outcome.name.lower().replace("_", "-") for outcome in Outcome}
_WORDS[Outcome.CLICK_REUSED] = "malformed"
_RETRY_AFTER_503_SECONDS = 2
FOR_GOOD = "public, max-age=31536000, immutable"
"""Cache-Control of what never changes behind its address."""
_JSON = "application/json; charset=utf-8"
_PROBLEM_JSON = "application/problem+json; charset=utf-8"
_SERVER = "dianzan"


def headers(content_type: str, cache_control: str = "no-store") -> CIMultiDict[str]:
    """Headers of an answer, to which a handler may add."""
    return CIMultiDict(
        {
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CACHE_CONTROL: cache_control,
            hdrs.SERVER: _SERVER,
            "X-Content-Type-Options": "nosniff",
        }
    )


SURROGATE_KEY = "Surrogate-Key"
"""Names of what an answer was made from, by which a CDN can be told to forget it: campaign-{id} on
all of a campaign, counts-{id} on what shows its counts, candidates-{id}, notice-{id}."""


def public_headers(content_type: str, cache_control: str, *surrogate_keys: str) -> CIMultiDict[str]:
    """Headers of public data: any page may read it, so that a CDN keeps one copy, and may see how
    long it took. `surrogate_keys`: what a CDN may purge its copy by."""
    made = headers(content_type, cache_control)
    made[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    made["Cross-Origin-Resource-Policy"] = "cross-origin"
    made["Timing-Allow-Origin"] = "*"
    if surrogate_keys:
        made[SURROGATE_KEY] = " ".join(surrogate_keys)
    return made


class HeaderBlock:
    """Headers that many answers share. Never changed once made."""

    __slots__ = ("_heads", "fields")

    def __init__(self, fields: CIMultiDict[str]) -> None:
        self.fields = fields
        self._heads: dict[int, tuple[int, bytes]] = {}

    def head(self, status: int) -> bytes:
        """All of a head but what the body says; the same for a second."""
        now = int(time.time())
        made = self._heads.get(status)
        if made is None or made[0] != now:
            fields = {**self.fields, hdrs.DATE: formatdate(now, usegmt=True)}
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}"
            made = self._heads[status] = (now, head.encode())
        return made[1]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer before it is HTTP: what the fast lane and aiohttp say alike."""

    status: int
    headers: HeaderBlock
    body: bytes = b""

    def response(self) -> web.Response:
        """For aiohttp; it may be changed."""
        body = self.body if self.status != 304 else None
        return web.Response(body=body, status=self.status, headers=self.headers.fields.copy())

    def wire(self, rest: bytes = b"") -> bytes:
        """All its bytes, for HTTP/1.1; `rest`: more lines for its head."""
        body = self.body
        head = self.headers.head(self.status)
        if self.status == 304:
            return b"%b%b\r\n" % (head, rest)  # it may name no length but that of the 200
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, rest, len(body), body)


LAST = b"Connection: close\r\n"
"""Line of a head that says that nothing more is answered on this connection."""


@lru_cache(maxsize=1_024)
def _post_headers(
    content_type: str, origin: str | None, retry_after_seconds: int | None = None
) -> HeaderBlock:
    """Of an answer to a POST; `origin` is one that is allowed to read it, so they are few."""
    made = headers(content_type)
    allow(made, origin)
    if retry_after_seconds is not None:
        made[hdrs.RETRY_AFTER] = str(retry_after_seconds)
    return HeaderBlock(made)


def json_answer(body: Any, *, status: int = 200, origin: str | None = None) -> Answer:
    """An answer to a POST; `origin` is one that is allowed to read it."""
    return Answer(status, _post_headers(_JSON, origin), dumps(body))


def public_json(body: Any, cache_control: str, *surrogate_keys: str) -> web.Response:
    return web.Response(
        body=dumps(body),
        headers=public_headers(_JSON, cache_control, *surrogate_keys),
    )


def refusal(
    word: str,
    *,
    status: int | None = None,
    title: str | None = None,
    detail: str | None = None,
    origin: str | None = None,
    retry_after_seconds: int | None = None,
    **members: Any,
) -> Answer:
    """An application/problem+json answer (RFC 9457). `detail` and members must say nothing that
    the client did not send or may not know."""
    usual_status, usual_title = PROBLEMS[word]
    status = status or usual_status
    body: dict[str, Any] = {
        "type": f"urn:dianzan:problem:{word}",
        "title": title or usual_title,
        "status": status,
        "outcome": word,
    }
    if detail:
        body["detail"] = detail
    if retry_after_seconds is None and status == 503:
        retry_after_seconds = _RETRY_AFTER_503_SECONDS
    made = _post_headers(_PROBLEM_JSON, origin, retry_after_seconds)
    return Answer(status, made, dumps(body | members))


def problem(word: str, **said: Any) -> web.Response:
    """The same as aiohttp's."""
    return refusal(word, **said).response()


def public_problem(
    word: str, *, title: str | None = None, detail: str | None = None
) -> web.Response:
    """The same for a GET of public data: any page may read it."""
    answer = problem(word, title=title, detail=detail)
    answer.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    return answer


def like_answer(
    cast: Cast,
    campaign: Campaign,
    candidate: Candidate,
    likes: int | None,
    origin: str | None,
) -> Answer:
    """The answer to POST /v1/likes."""
    outcome = cast.outcome
    if outcome not in _ACCEPTED:
        return _outcome_refusal(cast, campaign, origin)
    if outcome is _REPEATED:
        word, receipt = "repeated", None
    else:
        word, receipt = "counted", cast.receipt
    remaining = "null" if cast.remaining_today is None else cast.remaining_today
    # Written out: json.dumps costs 3 us. A candidate's id and a receipt hold no character that
    # JSON would escape.
    body = (
        f'{{"outcome":"{word}","candidate":"{candidate.id}",'
        + ("" if likes is None else f'"likes":{likes},')
        + f'"remaining_today":{remaining}'
        + ("}" if receipt is None else f',"receipt":"{receipt}"}}')
    )
    return Answer(STATUS[outcome], _post_headers(_JSON, origin), body.encode())


_REPEATED = Outcome.REPEATED
_ACCEPTED = frozenset({*VOTES, _REPEATED})


def _outcome_refusal(cast: Cast, campaign: Campaign, origin: str | None) -> Answer:
    """The answer for an outcome that is no vote and no repeat."""
    outcome = cast.outcome
    members: dict[str, Any] = {}
    retry_after_seconds = None
    detail = None
    if outcome is Outcome.OVERLOADED:
        return overloaded(origin)
    if outcome in (Outcome.CLOSED, Outcome.NOT_OPEN, Outcome.PAUSED):
        members = window_members(campaign)
        if outcome is Outcome.PAUSED:
            detail = members["paused_because"] = campaign.paused_because
    elif outcome is Outcome.THROTTLED:
        retry_after_seconds = max(1, -(-cast.wait_ms // 1000))
    elif outcome is Outcome.QUOTA_SPENT:
        members = {"remaining_today": cast.remaining_today}
    elif outcome is Outcome.CLICK_REUSED:
        detail = "this click id was used for another candidate"
    return refusal(
        _WORDS[outcome],
        status=STATUS[outcome],
        detail=detail,
        origin=origin,
        retry_after_seconds=retry_after_seconds,
        **members,
    )


@lru_cache(maxsize=256)
def overloaded(origin: str | None) -> Answer:
    """503 with Retry-After. Made once: it must cost next to nothing when there is too much."""
    return refusal("overloaded", origin=origin)


class WrittenAnswer(web.StreamResponse):
    """An answer as bytes, for a request to aiohttp that allows it: HTTP/1.1, keep-alive.

    Odd on purpose: it derives from StreamResponse for its type alone and offers the three things
    that aiohttp's connection asks of an answer. web.Response costs 47 of the 250 us that a like
    took where this was measured, most of them for headers that never differ.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._is_last = False

    @property
    def keep_alive(self) -> bool:
        return not self._is_last

    def force_close(self) -> None:
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        protocol = request.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client hung up")
        transport.write(self._answer.wire(LAST if self._is_last else b""))
        if protocol._paused:
            await protocol._drain_helper()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        pass


def word_of(outcome: Outcome) -> str:
    """The machine word of an outcome in the public contract."""
    return "counted" if outcome is Outcome.HELD else _WORDS[outcome]


def window_members(campaign: Campaign) -> dict[str, Any]:
    """The window as answers carry it."""
    window = campaign.window
    return {
        "opens_at": window.opens_at.isoformat(),
        "closes_at": window.closes_at.isoformat(),
        "time_zone": window.zone.key,
    }


def allow(made: CIMultiDict[str], origin: str | None) -> None:
    """Let this one origin read the answer."""
    if origin is not None:
        made[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        made[hdrs.VARY] = "Origin"
        made[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Retry-After"


def dumps(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
