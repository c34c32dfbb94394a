"""The store for everything that is not on the vote path: redis-py's client, by shard.

A client of a shard finds the shard's primary anew whenever it connects (see store_address.py), and
whatever says that it is the wrong server now (MOVED, ASK, READONLY) ends the connection. So a
failover or a slot that moved looks like a server that was away for a moment, which every caller
here waits out already.
"""

import contextlib
from typing import Any

import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, TryAgainError

from voting.store_address import NoPrimary, StoreAddress, made_by_shard

_TIMEOUT_SECONDS = 5.0


class HotState:
    """A client for each shard; shards that are always on one server share theirs. Close it."""

    def __init__(self, url: str, shards: int) -> None:
        """`url` as in DIANZAN_VALKEY_URL; NotAStore where it is none. Nothing is opened yet."""
        self.shards = range(shards)
        self._by_shard = made_by_shard(url, shards, _client)

    def of(self, shard: int) -> redis.Redis:
        """The shard's client. It tries once: who uses it tries again by itself, and tries of its
        own would delay a stop. Raises redis' errors."""
        return self._by_shard[shard]

    def servers(self) -> list[redis.Redis]:
        """Every client once. In a Cluster, which may move each shard, one for each shard: two of
        them may talk to one server."""
        return list(dict.fromkeys(self._by_shard))

    async def aclose(self) -> None:
        for client in self.servers():
            await client.aclose()

    async def __aenter__(self) -> "HotState":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _client(address: StoreAddress, shard: int) -> redis.Redis:
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.asks is None:
        return redis.Redis.from_url(address.url, **options)
    login = address.login()
    pool = redis.ConnectionPool(
        connection_class=_TlsToPrimary if login.pop("ssl", False) else _ToPrimary,
        address=address,
        shard=shard,
        **login,
        **options,
    )
    return redis.Redis.from_pool(pool)


class _ToPrimary(Connection):
    """To whoever is the shard's primary when it connects."""

    def __init__(self, *, address: StoreAddress, shard: int, **options: Any) -> None:
        self._address = address
        self._shard = shard
        super().__init__(**options)

    async def _connect(self) -> None:
        try:
            endpoint = await self._address.resolve(self._shard, _TIMEOUT_SECONDS)
        except NoPrimary as why:
            raise redis.ConnectionError(str(why)) from why
        self.host, self.port = endpoint.host, endpoint.port
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except BaseException:
            self._address.mistrust()
            raise

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health=check_health)
        await self.send_command("ROLE")
        role = await self.read_response()
        if role[0] not in (b"master", "master"):
            self._address.mistrust()
            raise redis.ConnectionError("this server is a replica: the primary is another one")

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except (AskError, ReadOnlyError, TryAgainError, ClusterDownError) as why:
            # Nothing was executed. The rest of what was asked is not worth reading.
            with contextlib.suppress(redis.RedisError, OSError):
                await self.disconnect(nowait=True)
            raise redis.ConnectionError(f"another server has this shard: {why}") from why


class _TlsToPrimary(_ToPrimary, SSLConnection):
    pass
