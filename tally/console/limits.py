"""How often what may be asked: slowapi, with what it leaves to its users.

    @router.get("/flags")
    @limiter.limit("120/minute")      # below the route, above the function
    async def get_flags(request: Request, ...): ...

Counted per staff member where somebody is signed in, else per client address (IPv6 by /64), and per
function, in the store that all consoles of an installation share.

slowapi is synchronous: it asks the store inside the event loop. So the store has 50 ms to answer,
is not asked twice, and where it does not answer the same limits are counted in this process'
memory, until a probe (after 1, 2, 4 ... 32 s) finds it again. An outage so costs a stall of 0.1 s
once, and half as much for each probe, and never opens the door. Known weakness: what was used up in
the store is free again in memory, once per outage. Where the store's primary is looked for
(Sentinel, Cluster), each console counts in its own memory alone: `limits` would look for it inside
the event loop.

Before all that, in memory alone: every request by address (REQUESTS; guard.py), and those that come
without a session to where one is needed (STRANGERS), which never get as far as a route's limit.
"""

import logging

import redis
import structlog
from fastapi import Request
from limits import parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry
from slowapi import Limiter

from antifraud.networks import prefixes_of
from voting.store_address import StoreAddress

log = structlog.get_logger()

STORE_TIMEOUT_SECONDS = 0.05
REQUESTS = "3000/minute"
"""Of one address, whatever it asks for: an office full of live pages behind one address is 15 a
second."""
STRANGERS = "120/minute"
"""Requests of one address to pages that need a session, without one."""


def key_of(request: Request) -> str:
    """Whose request this is, for counting."""
    staff = getattr(request.state, "staff", None)
    return f"staff {staff.number}" if staff is not None else f"address {address_key(request)}"


def address_key(request: Request) -> str:
    """The client's network, as guard.py found it: IPv4 /32 or IPv6 /64."""
    address: str = getattr(request.state, "address", "") or "127.0.0.1"
    return network_of(address)


def network_of(address: str) -> str:
    return prefixes_of(address).network.hex()


class ConsoleLimiter(Limiter):
    """slowapi's, made before the store's address is known: routes are decorated at import."""

    _is_away = False

    def __init__(self) -> None:
        super().__init__(
            key_func=key_of, key_style="endpoint", in_memory_fallback_enabled=True, enabled=True
        )
        self.logger.setLevel(logging.ERROR)
        self.enabled = True  # whatever RATELIMIT_ENABLED says: that is slowapi's, not a setting

    def use(self, store_url: str | None) -> None:
        """Count here from now on, from nothing; None = in memory alone. Does not connect. Raises
        NotAStore."""
        if store_url is None or StoreAddress(store_url).asks is not None:
            self._storage = MemoryStorage()
        else:
            # Our own pool: `limits` knows no unix:// URLs. One try, whatever redis-py's habit is:
            # each of them stalls the loop.
            pool = redis.ConnectionPool.from_url(
                store_url,
                socket_timeout=STORE_TIMEOUT_SECONDS,
                socket_connect_timeout=STORE_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            self._storage = RedisStorage(
                "redis://", connection_pool=pool, key_prefix="dianzan:limits"
            )
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._fallback_storage = MemoryStorage()
        self._fallback_limiter = FixedWindowRateLimiter(self._fallback_storage)
        self._storage_dead = False

    @property
    def _storage_dead(self) -> bool:
        """slowapi's own word for it; said once per change, where slowapi says it at each request
        that it refuses as well."""
        return self._is_away

    @_storage_dead.setter
    def _storage_dead(self, away: bool) -> None:
        if away != self._is_away:
            log.warning("limits-in-memory") if away else log.info("limits-in-store")
        self._is_away = away

    @property
    def in_memory(self) -> bool:
        """Whether the store is away just now."""
        return self._storage_dead

    def is_on(self, endpoint: object) -> bool:
        """Whether this very function is limited: named so here, and wrapped (a decorator above the
        route's leaves the route with the bare function)."""
        name = f"{getattr(endpoint, '__module__', '')}.{getattr(endpoint, '__name__', '')}"
        return name in self._route_limits and hasattr(endpoint, "__wrapped__")


limiter = ConsoleLimiter()


class InMemory:
    """A limit of this process alone, that costs nothing and waits for nobody."""

    def __init__(self, limit: str) -> None:
        """`limit` as slowapi reads it: "120/minute"."""
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = parse(limit)

    def admits(self, whose: str) -> bool:
        """Count one of `whose`; whether that is within the limit."""
        return self._limiter.hit(self._limit, whose)
