"""Bodies of requests: how large, how long, of which type, and what is in them."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pydantic
from aiohttp import hdrs, web

from voting.edge.answers import Answer, problem, refusal
from voting.edge.protocol import BODY_BYTES_MAX, BODY_SECONDS_MAX

Parsed = TypeVar("Parsed")

JSON_TYPES = ("application/json", "text/plain")
FORM_TYPES = ("application/x-www-form-urlencoded",)
USUAL_JSON_TYPES = frozenset(
    {*JSON_TYPES, "text/plain;charset=UTF-8", "application/json; charset=utf-8"}
)
"""As they are nearly always spelled: looked up, not taken apart."""
_USUAL = {JSON_TYPES: USUAL_JSON_TYPES, FORM_TYPES: frozenset(FORM_TYPES)}
_CLICK = re.compile(r"[A-Za-z0-9_-]{8,64}")


class LikeRequest(msgspec.Struct, gc=False):
    """Body of POST /v1/likes; unknown members are ignored."""

    token: str
    campaign: str
    candidate: str
    click: str
    view: str | None = None
    """Signed stamp of when the card was shown."""
    dwell_ms: float | None = None
    """How long the page says that the card was in sight before the tap."""


class DeviceRequest(pydantic.BaseModel):
    """Body of POST /v1/devices."""

    model_config = pydantic.ConfigDict(strict=True)
    campaign: str
    slow: bool = False
    """Rather less work and a wait, if there is a challenge."""
    identity: str | None = None
    """A portal's assertion of who this is: see voting/identity.py."""


class DeviceStateRequest(pydantic.BaseModel):
    """Body of POST /v1/devices/state."""

    model_config = pydantic.ConfigDict(strict=True)
    campaign: str
    token: str


class DeviceProofRequest(pydantic.BaseModel):
    """Body of POST /v1/devices/proof."""

    model_config = pydantic.ConfigDict(strict=True)
    token: str
    solution: Any = None
    """Of a challenge, by the scheme of ALTCHA: its payload as base64 or as an object. Without one
    the token comes back with the level that its age has earned, or with a challenge."""
    slow: bool = False
    """Rather less work and a wait."""


decode_like = msgspec.json.Decoder(LikeRequest).decode
"""0.2 us; pydantic takes 1.0 on this, the one body that comes a thousand times a second."""

CLICK_RULE = "click: 8 to 64 characters out of A-Z a-z 0-9 _ -"


def is_click(text: str) -> bool:
    return _CLICK.fullmatch(text) is not None


async def read_body(
    request: web.Request, types: tuple[str, ...] = JSON_TYPES
) -> bytes | web.Response:
    """The body's bytes, or the answer that refuses it."""
    headers = request.headers
    if (
        headers.get(hdrs.CONTENT_TYPE) not in _USUAL[types] and request.content_type not in types
    ) or hdrs.CONTENT_ENCODING in headers:
        return problem("wrong-media-type", detail="accepted: " + ", ".join(types))
    length = request.content_length
    if length is not None and length > BODY_BYTES_MAX:
        return _too_large()
    content = request.content
    try:
        if content.is_eof():
            # It came with the head, as nearly every body does: no timer, no task switch.
            body = content.read_nowait()
            return body if len(body) <= BODY_BYTES_MAX else _too_large()
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await content.read(BODY_BYTES_MAX + 1)
            while not content.is_eof() and len(body) <= BODY_BYTES_MAX:
                body += await content.read(BODY_BYTES_MAX + 1 - len(body))
    except TimeoutError:
        return _refuse_rest(problem("late"))
    except web.RequestPayloadError:
        return _refuse_rest(problem("malformed", detail="the body is not what its head announced"))
    if len(body) > BODY_BYTES_MAX:
        return _too_large()
    return body


def parse(validate: Callable[[bytes], Parsed], body: bytes, origin: str | None) -> Parsed | Answer:
    """A body's content by a pydantic model's `model_validate_json`, or the answer that says what
    is wrong with it, which `origin` may read."""
    try:
        return validate(body)
    except pydantic.ValidationError as why:
        first = why.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where}: {first['msg']}" if where else first["msg"]
        return refusal("malformed", detail=detail, origin=origin)


def _too_large() -> web.Response:
    return _refuse_rest(problem("too-large", detail=f"at most {BODY_BYTES_MAX} bytes"))


def _refuse_rest(answer: web.Response) -> web.Response:
    """This answer, and the connection ends: its remaining bytes are nobody's request."""
    answer.force_close()
    return answer
