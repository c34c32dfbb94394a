"""How many shards there are, as the database remembers it.

A shard more takes new devices; those that are there stay where their votes are. So the number never
falls, and `dianzan migrate` writes down the highest. Each process has DIANZAN_SHARDS from its own
settings: one that knows fewer would miss votes, and does not start.
"""

import asyncpg


class TooFewShards(Exception):
    """This process was told of fewer shards than there are votes on; the message says what to
    set."""


async def declare_shards(connection: asyncpg.Connection, shards: int) -> None:
    """From now on there are so many, unless there are more already."""
    await connection.execute("UPDATE catalog SET shards = $1 WHERE shards < $1", shards)


async def check_shards(connection: asyncpg.Connection, shards: int) -> None:
    """TooFewShards where the installation has more."""
    known: int = await connection.fetchval("SELECT shards FROM catalog")
    if shards < known:
        raise TooFewShards(f"there are votes on {known} shards: set DIANZAN_SHARDS to {known}")
