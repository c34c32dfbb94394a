"""The vote path's connections to the store, by shard.

Shards that are always on one server share one line. In a Cluster, which may move each shard, each
has a line of its own: what says that one of them moved must not cost the others their connection.
"""

import asyncio

from voting.store_address import StoreAddress, made_by_shard
from voting.store_line import StoreDown, StoreLine


class StoreLines:
    """The lines of one process. `run()` keeps all of them connected."""

    def __init__(
        self,
        url: str,
        shards: int,
        *,
        timeout_seconds: float = 2.0,
        library: str = "",
        on_replicas: bool = False,
    ) -> None:
        """`url` as in DIANZAN_VALKEY_URL, NotAStore where it is none; the rest as in StoreLine."""

        def line(address: StoreAddress, shard: int) -> StoreLine:
            return StoreLine(
                address,
                shard=shard,
                timeout_seconds=timeout_seconds,
                library=library,
                on_replicas=on_replicas,
            )

        self._by_shard = made_by_shard(url, shards, line)

    def of(self, shard: int) -> StoreLine:
        """StoreDown where this process does not know the shard yet: others, started later, do."""
        if shard >= len(self._by_shard):
            raise StoreDown(f"shard {shard} is not known here")
        return self._by_shard[shard]

    def distinct(self) -> list[StoreLine]:
        """Every line once."""
        return list(dict.fromkeys(self._by_shard))

    @property
    def connected(self) -> bool:
        """Whether every shard can be reached now."""
        return all(line.connected for line in self.distinct())

    async def run(self) -> None:
        """Keep all of them connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            for line in self.distinct():
                group.create_task(line.run())
