"""The like as one would first write it: FastAPI, pydantic, slowapi, and a command to the store for
each step.

    python -m loadtest.peers.first_written    (settings: see loadtest.peers.checks)

No straw man: one pooled client, hiredis parses, uvicorn has uvloop and httptools and writes no
access log, the campaign is in memory, no step asks the store twice. Pydantic reads the body by
hand, since FastAPI takes JSON only where the request says that it is, and a page that spares
itself a preflight says text/plain. 20 times the network's limit is slowapi's, which refuses and
knows nothing else; the limit itself, above which a like is held, and the device's are counters
here.

Known weaknesses, all of which the other stacks are without:
- Likes of one device that come at the same moment may exceed its quota, though none counts twice.
- A process that dies between two commands leaves a like half done: in the device's day and not in
  the journal, or in the journal and not in the tally; or a counter that never starts anew.
- A limit is a window that begins with its first like, so twice as many pass around a window's end.
- slowapi counts every request, repeated and malformed ones too, and only then is the body read.
- slowapi waits for the store without asyncio, and so does every other request meanwhile.
"""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from socket import socket
from typing import NamedTuple

import redis.asyncio as redis
from pydantic import BaseModel, Field, ValidationError

from loadtest.crowds import ORIGIN
from loadtest.peers.checks import (
    ABSENT,
    CAMPAIGN,
    CANDIDATES,
    Rules,
    Setup,
    click_hash,
    client_address,
    pack_vote,
    pseudonym,
    verified,
)
from loadtest.peers.serving import announce

try:
    import httptools  # noqa: F401 (uvicorn's parser)
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse
    from slowapi import Limiter
    from slowapi.errors import RateLimitExceeded
except ModuleNotFoundError as why:
    print(f"{why}; the extra `bench` has it", file=sys.stderr)
    sys.exit(ABSENT)

_CONNECTIONS_MAX = 1_024
_MINUTE_SECONDS = 60
_DAY_SECONDS = 86_400
_COUNTED, _HELD = b"\0", b"\2"
_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": ORIGIN,
    "Vary": "Origin",
}
_PROBLEM_HEADERS = {**_HEADERS, "Content-Type": "application/problem+json; charset=utf-8"}

_Handler = Callable[[Request], Awaitable[Response]]


class LikeRequest(BaseModel):
    """Body of POST /v1/likes."""

    token: str
    campaign: str
    candidate: str
    click: str = Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")


class Vote(NamedTuple):
    """A like of a verified device for a candidate that there is."""

    number: int
    click: str
    device: bytes
    network: bytes
    wide: bytes
    day: int
    token_age_seconds: int


class Cast(NamedTuple):
    """What became of it."""

    status: int
    outcome: str
    likes: int = 0
    remaining: int = 0
    wait_seconds: int = 0


class Store:
    """What is kept of the votes.

    day:<day>:<device>  hash    candidate -> click
    device:<device>     string  likes in the minute that began with the first one
    network:<network>   string  the same
    tally               hash    candidate -> counted, "h" candidate -> held
    journal             stream  one entry per vote
    """

    def __init__(self, client: redis.Redis, rules: Rules) -> None:
        self._redis = client
        self._rules = rules

    async def cast(self, vote: Vote) -> Cast:
        day_key = f"day:{vote.day}:{vote.device.hex()}"
        liked = await self._redis.hgetall(day_key)
        remaining = self._rules.likes_per_day - len(liked)
        candidate = str(vote.number)
        if liked.get(candidate) == vote.click:
            return Cast(201, "counted", await self._likes(candidate), remaining)
        if vote.click in liked.values():
            return Cast(400, "malformed")
        if candidate in liked:
            return Cast(200, "repeated", await self._likes(candidate), remaining)
        if remaining <= 0:
            return Cast(409, "quota-spent")
        device_key = f"device:{vote.device.hex()}"
        if await self._count(device_key) > self._rules.per_device:
            wait_seconds = await self._redis.ttl(device_key)
            return Cast(429, "throttled", wait_seconds=max(1, wait_seconds))
        held = await self._count(f"network:{vote.network.hex()}") > self._rules.per_network
        if not await self._redis.hsetnx(day_key, candidate, vote.click):
            # The same device was quicker by another request.
            return Cast(200, "repeated", await self._likes(candidate), remaining - 1)
        if not liked:
            await self._redis.expire(day_key, 2 * _DAY_SECONDS)
        await self._redis.xadd("journal", {"v": _packed(vote) + (_HELD if held else _COUNTED)})
        if held:
            await self._redis.hincrby("tally", f"h{candidate}", 1)
            likes = await self._likes(candidate)
        else:
            likes = await self._redis.hincrby("tally", candidate, 1)
        return Cast(201, "counted", likes, remaining - 1)

    async def _likes(self, candidate: str) -> int:
        return int(await self._redis.hget("tally", candidate) or 0)

    async def _count(self, key: str) -> int:
        count: int = await self._redis.incr(key)
        if count == 1:
            await self._redis.expire(key, _MINUTE_SECONDS)
        return count


def make_app(setup: Setup) -> FastAPI:
    client = redis.Redis.from_url(
        setup.redis_url, max_connections=_CONNECTIONS_MAX, decode_responses=True
    )
    store = Store(client, setup.rules)
    limiter = Limiter(key_func=_address_of, storage_uri=f"redis+{setup.redis_url}")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)
    app.state.limiter = limiter
    limited: Callable[[_Handler], _Handler] = limiter.limit(
        f"{20 * setup.rules.per_network}/minute"
    )

    @app.post("/v1/likes")
    @limited
    async def post_like(request: Request) -> Response:
        try:
            like = LikeRequest.model_validate_json(await request.body())
        except ValidationError:
            return _problem(400, "malformed")
        if like.campaign != CAMPAIGN:
            return _problem(404, "unknown-campaign")
        if request.headers.get("Origin", ORIGIN) != ORIGIN:
            return _problem(403, "wrong-origin")
        token = verified(setup.key, like.token)
        if token is None:
            return _problem(401, "bad-token")
        number = CANDIDATES.get(like.candidate)
        if number is None:
            return _problem(404, "unknown-candidate")
        cast = await store.cast(_vote(setup.key, like, number, token, _address_of(request)))
        if cast.status > 201:
            return _problem(cast.status, cast.outcome, cast.wait_seconds)
        return JSONResponse(
            {
                "outcome": cast.outcome,
                "candidate": like.candidate,
                "likes": cast.likes,
                "remaining_today": cast.remaining,
            },
            cast.status,
            _HEADERS,
        )

    @app.exception_handler(RateLimitExceeded)
    async def refuse(request: Request, _: RateLimitExceeded) -> Response:
        limit, of = request.state.view_rate_limit
        starts_anew_at = limiter.limiter.get_window_stats(limit, *of).reset_time
        return _problem(429, "throttled", max(1, int(starts_anew_at - time.time())))

    return app


class _Server(uvicorn.Server):
    """Says that it serves, and ends with its standard input."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        announce(self.servers[0].sockets[0].getsockname()[1], self._end)

    def _end(self) -> None:
        self.should_exit = True


def serve(app: FastAPI) -> None:
    """Serve until standard input ends."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        loop="uvloop",
        http="httptools",
        ws="none",
        backlog=4_096,
        access_log=False,
        log_level="warning",
        # The handler looks at X-Forwarded-For itself, as the other stacks do.
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    _Server(config).run()


def _address_of(request: Request) -> str:
    peer = request.client.host if request.client else ""
    return client_address(request.headers.get("X-Forwarded-For", peer))


def _vote(
    key: bytes, like: LikeRequest, number: int, token: tuple[bytes, int], address: str
) -> Vote:
    device_id, issued_at = token
    now = int(time.time())
    return Vote(
        number,
        like.click,
        pseudonym(key, device_id),
        pseudonym(key, address.encode()),
        pseudonym(key, address.rpartition(".")[0].encode()),
        now // _DAY_SECONDS,
        max(0, now - issued_at),
    )


def _packed(vote: Vote) -> bytes:
    return pack_vote(
        vote.device,
        vote.network,
        vote.wide,
        vote.number,
        click_hash(vote.click),
        vote.token_age_seconds,
    )


def _problem(status: int, outcome: str, wait_seconds: int = 0) -> Response:
    headers = _PROBLEM_HEADERS
    if wait_seconds:
        headers = {**headers, "Retry-After": str(wait_seconds)}
    return JSONResponse({"status": status, "outcome": outcome}, status, headers)


if __name__ == "__main__":
    serve(make_app(Setup.from_environment()))
