"""Where the store is: one server, a pair that fails over behind Sentinel, or a Cluster.

`DIANZAN_VALKEY_URL`, and what a shard's server is found by each time somebody connects:

    redis://[user:password@]host:6379[/db]       that server (rediss:// by TLS, unix:///path)
    sentinel://[user:password@]host:26379,host:26379/NAME
                                                 the primary of NAME, as a Sentinel says; further
                                                 Sentinels, commas between, where one is away
    cluster://[user:password@]host:6379,host:6379
                                                 the primary of the shard's slot, as any node says
    redis://one redis://two                      shard n is at number n modulo how many there are;
                                                 neither their number nor their order may change

`sentinels://` and `clusters://` speak TLS with the servers (and nodes). User and password are the
servers'; the Sentinels' own go into the query, `?sentinel_username=...&sentinel_password=...`.

What a Sentinel or a node says can be out of date: whoever connects makes sure that it met a
primary, and asks anew where it did not.
"""

import ssl as tls
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from voting.journal import head_key

_DIRECT = {"redis": False, "rediss": True, "unix": False}
_ASKED = {
    "sentinel": ("sentinel", False, 26379),
    "sentinels": ("sentinel", True, 26379),
    "cluster": ("cluster", False, 6379),
    "clusters": ("cluster", True, 6379),
}
"""Scheme -> who is asked, whether by TLS, port of whom has none."""


_Made = TypeVar("_Made")


class NotAStore(ValueError):
    """A URL that names no store. The message says why, without the URL's secrets."""


class NoPrimary(ConnectionError):
    """Nobody who was asked knows a primary just now. It passes: ask again."""


class Endpoint(NamedTuple):
    """A server to connect to: `path` of a socket, or host and port."""

    host: str
    port: int
    path: str = ""


class StoreAddress:
    """One URL of DIANZAN_VALKEY_URL, parsed. It keeps who of those who are asked answered last."""

    def __init__(self, url: str) -> None:
        """Raises NotAStore."""
        if len(url.split()) != 1:
            raise NotAStore("one URL of a store wanted here")
        parts = urlsplit(url)
        scheme = parts.scheme
        if scheme not in _DIRECT and scheme not in _ASKED:
            raise NotAStore(
                f"{scheme}:// is no scheme of a store: redis, rediss, unix, sentinel(s), cluster(s)"
            )
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.user = unquote(parts.username) if parts.username else None
        self.password = unquote(parts.password) if parts.password else None
        self.url = url
        self.database = ""
        self.asks: str | None = None
        """Who knows where a shard is: "sentinel", "cluster", or None = it never moves."""
        self._name = ""
        self._sentinel_login: dict[str, str] = {}
        if scheme in _DIRECT:
            self.tls = _DIRECT[scheme]
            in_path = "" if scheme == "unix" else parts.path.strip("/")
            self.database = in_path or query.get("db", "")
            path = unquote(parts.path) if scheme == "unix" else ""
            self._known = [Endpoint(parts.hostname or "127.0.0.1", _port(parts, 6379), path)]
            return
        self.asks, self.tls, port = _ASKED[scheme]
        hosts = parts.netloc.rpartition("@")[2]
        self._known = [_endpoint(each, port) for each in hosts.split(",") if each]
        self._name = unquote(parts.path.strip("/"))
        if not self._known:
            raise NotAStore(f"{scheme}:// names no host")
        if self.asks == "sentinel" and not self._name:
            raise NotAStore(f"{scheme}:// needs the name of what it watches: {scheme}://host/NAME")
        if self.asks == "cluster" and self._name:
            raise NotAStore("a Cluster has no databases: nothing may follow its hosts")
        self._sentinel_login = {
            word: query[f"sentinel_{word}"]
            for word in ("username", "password")
            if f"sentinel_{word}" in query
        }

    async def resolve(self, shard: int, timeout_seconds: float = 2.0) -> Endpoint:
        """The shard's server, asked anew. NoPrimary where nobody knows one; each who is asked has
        `timeout_seconds`."""
        if self.asks is None:
            return self._known[0]
        said = []
        for asked in list(self._known):
            try:
                found = await self._ask(asked, shard, timeout_seconds)
            except (OSError, ValueError) as why:
                said.append(f"{asked.host}:{asked.port}: {str(why) or type(why).__name__}")
                continue
            if found is None:
                said.append(f"{asked.host}:{asked.port} knows none")
                continue
            # First in line the next time.
            self._known.remove(asked)
            self._known.insert(0, asked)
            return found
        raise NoPrimary(f"no primary of shard {shard}: {'; '.join(said)}")

    def mistrust(self) -> None:
        """Whom it sent us to is no primary, or does not answer: ask somebody else first."""
        if self.asks is not None:
            self._known.append(self._known.pop(0))

    def login(self) -> dict[str, Any]:
        """User, password and TLS as redis-py's connections want them."""
        words: dict[str, Any] = {"username": self.user, "password": self.password}
        if self.tls:
            words["ssl"] = True
        return words

    def context(self) -> tls.SSLContext | None:
        """For a connection by other means."""
        return tls.create_default_context() if self.tls else None

    async def _ask(self, asked: Endpoint, shard: int, timeout_seconds: float) -> Endpoint | None:
        # Not for who has one server: an edge without redis-py is 6 MB smaller.
        import redis.asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        login: Mapping[str, Any] = self._sentinel_login if self.asks == "sentinel" else self.login()
        client = redis.Redis(
            host=asked.host,
            port=asked.port,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            **login,
        )
        # Through `Any`: redis-py would make objects of its own of these answers.
        pool: Any = client.connection_pool
        try:
            async with client:
                connection: Any = await pool.get_connection()
                try:
                    if self.asks == "sentinel":
                        await connection.send_command(
                            "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name
                        )
                        found = await connection.read_response()
                        return Endpoint(found[0].decode(), int(found[1])) if found else None
                    await connection.send_command("CLUSTER", "SLOTS")
                    return _owner(await connection.read_response(), shard, asked)
                finally:
                    await pool.release(connection)
        except redis.RedisError as why:
            raise NoPrimary(str(why) or type(why).__name__) from why


def made_by_shard(url: str, shards: int, make: Callable[[StoreAddress, int], _Made]) -> list[_Made]:
    """What `make(address, shard)` gives for each shard of DIANZAN_VALKEY_URL, in their order.
    Shards that are always on one server share theirs. Raises NotAStore."""
    if not (addresses := [StoreAddress(each) for each in url.split()]):
        raise NotAStore("the store has no URL")
    made: dict[tuple[int, int], _Made] = {}
    by_shard = []
    for shard in range(shards):
        number = shard % len(addresses)
        address = addresses[number]
        key = (number, shard if address.asks == "cluster" else 0)
        if key not in made:
            made[key] = make(address, shard)
        by_shard.append(made[key])
    return by_shard


def _owner(slots: list[Any], shard: int, asked: Endpoint) -> Endpoint | None:
    """Of an answer to CLUSTER SLOTS: who has the shard's slot."""
    from redis.crc import key_slot

    slot = key_slot(head_key(shard).encode())
    for first, last, primary, *_ in slots:
        if first <= slot <= last:
            # A node that does not know how it is called by others is called as we did.
            host = (primary[0] or b"").decode()
            return Endpoint(asked.host if host in ("", "?") else host, int(primary[1]))
    return None


def _endpoint(text: str, port: int) -> Endpoint:
    parts = urlsplit(f"//{text}")
    return Endpoint(parts.hostname or "127.0.0.1", _port(parts, port))


def _port(parts: SplitResult, otherwise: int) -> int:
    try:
        return parts.port or otherwise
    except ValueError:
        # What stands there may be half of a password.
        raise NotAStore(
            "a port of the store is no number; in a password / is written %2F, and @ %40"
        ) from None
