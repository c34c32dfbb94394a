"""The like as one would build it with care and without batches: aiohttp, and one function call by
redis-py for each request.

    PEER_REDIS_URL=unix:///... PEER_KEY=<64 hex digits> python -m loadtest.peers.redis_py

It checks what our edge checks (token, shape of the body, click, campaign, candidate, two limits,
once per device, candidate and day, quota of the day) and keeps what ours keeps (device, tally,
journal), each vote in a call and a journal entry of its own. Not crippled: hiredis parses, one
pooled client, msgspec decodes, the campaign is in memory, the function does few commands. It seals
no receipt, knows no epochs, no refusal sums and no yesterday, which is to its advantage.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import redis.asyncio as redis
from aiohttp import web

from loadtest.crowds import ORIGIN
from loadtest.peers.serving import serve

CAMPAIGN = "peer"
CANDIDATES = {f"c{number:03}": number for number in range(1, 745)}

_MINUTE_US = 60_000_000
_CONNECTIONS_MAX = 1_024

_TOKEN = struct.Struct(">B12sI")
_MAC_SIZE = 16
_VOTE = struct.Struct(">8s8s8sH6sIB")
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


class Rules(NamedTuple):
    """Of its one campaign; the rates are a burst, refilled evenly over a minute."""

    likes_per_day: int = 10
    per_device: int = 30
    per_network: int = 1_200


class Peer:
    """The state of one process."""

    def __init__(self, url: str, key: bytes, rules: Rules) -> None:
        self._rules = rules
        # One for each request in flight: with 32 and a queue it is slower, with 8 by half.
        self._redis = redis.Redis.from_url(url, max_connections=_CONNECTIONS_MAX)
        self._tokens = hashlib.blake2b(key=key, digest_size=_MAC_SIZE, person=b"peer-token")
        self._pseudonyms = hashlib.blake2b(key=key, digest_size=8, person=b"peer-pseudo")
        self._decode = msgspec.json.Decoder(LikeRequest).decode
        self._limits = (
            *(_MINUTE_US // rules.per_device, _MINUTE_US),
            *(_MINUTE_US // rules.per_network, _MINUTE_US),
            *(_MINUTE_US // rules.per_network // 20, _MINUTE_US),
        )

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
        token = self._verified(like.token)
        if token is None:
            return _problem(401, "bad-token")
        number = CANDIDATES.get(like.candidate)
        if number is None:
            return _problem(404, "unknown-candidate")
        device_id, issued_at = token
        now = time.time()
        day = int(now) // 86_400
        address = request.headers.get("X-Forwarded-For", request.remote or "").rpartition(",")[2]
        device = self._pseudonym(device_id)
        network = self._pseudonym(address.strip().encode())
        wide = self._pseudonym(address.rpartition(".")[0].encode())
        click = hashlib.blake2b(like.click.encode(), digest_size=6).digest()
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
            _VOTE.pack(device, network, wide, number, click, max(0, int(now) - issued_at), 1),
            self._rules.likes_per_day,
            *self._limits,
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

    def _verified(self, token: str) -> tuple[bytes, int] | None:
        """(device id, issued at), or None where the MAC is not ours."""
        try:
            raw = base64.urlsafe_b64decode(token)
            _, device_id, issued_at = _TOKEN.unpack(raw[:-_MAC_SIZE])
        except (ValueError, struct.error):
            return None
        keyed = self._tokens.copy()
        keyed.update(raw[:-_MAC_SIZE])
        if not hmac.compare_digest(keyed.digest(), raw[-_MAC_SIZE:]):
            return None
        return device_id, issued_at

    def _pseudonym(self, of: bytes) -> bytes:
        keyed = self._pseudonyms.copy()
        keyed.update(of)
        return keyed.digest()


def mint(key: bytes, number: int) -> Iterator[str]:
    """So many device tokens."""
    keyed = hashlib.blake2b(key=key, digest_size=_MAC_SIZE, person=b"peer-token")
    now = int(time.time())
    for _ in range(number):
        body = _TOKEN.pack(1, secrets.token_bytes(12), now)
        signing = keyed.copy()
        signing.update(body)
        yield base64.urlsafe_b64encode(body + signing.digest()).decode()


def make_app(url: str, key: bytes, rules: Rules) -> web.Application:
    peer = Peer(url, key, rules)

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
    serve(make_app(os.environ["PEER_REDIS_URL"], bytes.fromhex(os.environ["PEER_KEY"]), Rules()))
