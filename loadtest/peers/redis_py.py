"""The like as one would build it with care and without batches: aiohttp, and one function call by
redis-py for each request.

    python -m loadtest.peers.redis_py    (settings: see loadtest.peers.checks)

It checks what our edge checks (token, shape of the body, click, campaign, candidate, two limits,
once per device, candidate and day, quota of the day) and keeps what ours keeps (device, tally,
journal), each vote in a call and a journal entry of its own. Not crippled: hiredis parses, one
pooled client, msgspec decodes, the campaign is in memory, the function does few commands. It seals
no receipt, knows no epochs, no refusal sums and no yesterday, which is to its advantage.
"""

import re
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import redis.asyncio as redis
from aiohttp import web

from loadtest.crowds import ORIGIN
from loadtest.peers.checks import (
    CAMPAIGN,
    CANDIDATES,
    Setup,
    click_hash,
    client_address,
    pack_vote,
    pseudonym,
    verified,
)
from loadtest.peers.serving import serve

_CONNECTIONS_MAX = 1_024

_CLICK = re.compile(r"[A-Za-z0-9_-]{8,64}")
_STATUS = {1: 201, 2: 201, 3: 200, 4: 409, 6: 429, 11: 400}
_WORDS = {4: "quota-spent", 6: "throttled", 11: "malformed"}
_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": ORIGIN,
    "Vary": "Origin",
}


class LikeRequest(msgspec.Struct):
    """Body of POST /v1/likes."""

    token: str
    campaign: str
    candidate: str
    click: str


class Peer:
    """The state of one process."""

    def __init__(self, setup: Setup) -> None:
        self._key = setup.key
        self._rules = setup.rules
        # One for each request in flight: with 32 and a queue it is slower, with 8 by half.
        self._redis = redis.Redis.from_url(setup.redis_url, max_connections=_CONNECTIONS_MAX)
        self._decode = msgspec.json.Decoder(LikeRequest).decode

    async def open(self) -> None:
        source = Path(__file__).with_name("like.lua").read_text()
        await self._redis.function_load(source, replace=True)

    async def close(self) -> None:
        await self._redis.aclose()

    async def post_like(self, request: web.Request) -> web.Response:
        try:
            like = self._decode(await request.read())
        except msgspec.DecodeError:
            return _problem(400, "malformed")
        if _CLICK.fullmatch(like.click) is None:
            return _problem(400, "malformed")
        if like.campaign != CAMPAIGN:
            return _problem(404, "unknown-campaign")
        if request.headers.get("Origin", ORIGIN) != ORIGIN:
            return _problem(403, "wrong-origin")
        token = verified(self._key, like.token)
        if token is None:
            return _problem(401, "bad-token")
        number = CANDIDATES.get(like.candidate)
        if number is None:
            return _problem(404, "unknown-candidate")
        device_id, issued_at = token
        now = time.time()
        day = int(now) // 86_400
        address = client_address(request.headers.get("X-Forwarded-For", request.remote or ""))
        device = pseudonym(self._key, device_id)
        network = pseudonym(self._key, address.encode())
        wide = pseudonym(self._key, address.rpartition(".")[0].encode())
        click = click_hash(like.click)
        outcome, remaining, wait_ms, likes = await self._redis.fcall(
            "like",
            4,
            f"day:{day}",
            f"net:{day}",
            "tally",
            "journal",
            device,
            network,
            struct.pack(">H", number),
            number,
            click,
            pack_vote(device, network, wide, number, click, max(0, int(now) - issued_at)),
            self._rules.likes_per_day,
            *self._rules.limits,
        )
        status = _STATUS[outcome]
        if status > 201:
            return _problem(status, _WORDS[outcome], wait_ms)
        word = "repeated" if outcome == 3 else "counted"
        return web.Response(
            body=(
                f'{{"outcome":"{word}","candidate":"{like.candidate}","likes":{likes},'
                f'"remaining_today":{remaining}}}'
            ).encode(),
            status=status,
            headers=_HEADERS,
        )


def make_app(setup: Setup) -> web.Application:
    peer = Peer(setup)

    async def opened(_: web.Application) -> AsyncIterator[None]:
        await peer.open()
        yield
        await peer.close()

    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.add_routes([web.post("/v1/likes", peer.post_like)])
    return app


def _problem(status: int, word: str, wait_ms: int = 0) -> web.Response:
    headers = {**_HEADERS, "Content-Type": "application/problem+json; charset=utf-8"}
    if wait_ms:
        headers["Retry-After"] = str(max(1, -(-wait_ms // 1000)))
    return web.Response(
        body=msgspec.json.encode({"status": status, "outcome": word}),
        status=status,
        headers=headers,
    )


if __name__ == "__main__":
    serve(make_app(Setup.from_environment()))
