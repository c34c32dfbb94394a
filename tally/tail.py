"""The tail: votes out of the journal while they are young, and what they say about cells.

Reads each shard's stream from a place of its own: it neither trims nor waits for the flusher, and
where the flusher has trimmed past it, it goes on with the oldest that is left. Votes go to
antifraud.detectors.live.LiveCells; what that flags goes into the two small hashes of each campaign
day that the ballot box's function reads. Nobody else writes them.

Nothing here must survive: after a crash the next one reads the retained journal again, two hours
of it at most, and overwrites what the hashes hold.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple, Protocol, cast

from antifraud.limits import Rate
from tally.patience import VALKEY_AWAY
from voting.hot_state import HotState
from voting.journal import (
    CELL,
    CELLS_MAX,
    Entry,
    EntryId,
    capacity_key,
    cells_key,
    journal_key,
    read_entry,
    unwrap_entry,
)

LOOKS_BACK_US = 2 * 3_600 * 1_000_000
"""Of the retained journal, at the start."""
_ENTRIES_READ = 1_024
FORGETS_AFTER_US = 3 * 3_600 * 1_000_000
"""A campaign day without a vote for so long is looked at no more: its marks are gone by then."""

InThread = Callable[..., Awaitable[Any]]


class Mark(Protocol):
    """antifraud.detectors.live.CellMark."""

    @property
    def weight_millinats(self) -> int: ...
    @property
    def agent_class(self) -> int: ...


class Cells(Protocol):
    """antifraud.detectors.live.LiveCells."""

    def add(self, campaign: int, day: date, at_us: int, votes: Any) -> None: ...

    def flagged(self, campaign: int, day: date, now_us: int) -> Mapping[bytes, Mark]: ...

    def capacities(
        self, campaign: int, day: date, per_network: Rate | None
    ) -> Mapping[bytes, int]: ...


class Campaigns(Protocol):
    """Who knows a campaign by its number."""

    async def known(self, number: int) -> "KnownCampaign | None":
        """None where the database has no such campaign."""


class KnownCampaign(NamedTuple):
    """What the tail needs of one."""

    id: str
    per_network: Rate


class Looked(NamedTuple):
    """What one look came to."""

    now_us: int
    votes: int
    cells: int
    """Marked now, over all campaign days."""
    capacities: int


@dataclass(slots=True)
class _Day:
    """One campaign day that votes come for."""

    campaign: KnownCampaign
    last_vote_us: int
    written: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    """Key -> what we know to be in it."""


class Tail:
    """All shards' journals, as `watch` follows them."""

    def __init__(
        self,
        hot: HotState,
        campaigns: Campaigns,
        make_cells: Callable[[int], Awaitable[Cells]],
        in_thread: InThread,
    ) -> None:
        """`make_cells` makes the statistics of one campaign; `in_thread` runs a function in a
        thread: sums over a million votes would hold up everything else."""
        self._hot = hot
        self._campaigns = campaigns
        self._make_cells = make_cells
        self._in_thread = in_thread
        self._places: dict[int, EntryId] = {}
        self._cells: dict[int, Cells] = {}
        self._days: dict[tuple[int, date], _Day] = {}

    def forget_written(self) -> None:
        """The store was away and may be another one: look first at what it holds."""
        for day in self._days.values():
            day.written.clear()

    async def look(self) -> Looked:
        """Read what came, and bring the hashes up to date. Raises JournalError, and redis' errors
        where a shard is away: the others had their look then."""
        now_us = votes = 0
        away: Exception | None = None
        here = []
        for shard in self._hot.shards:
            try:
                seconds, microseconds = await self._hot.of(shard).time()
                its_now_us = seconds * 1_000_000 + microseconds
                votes += await self._read(shard, its_now_us)
            except VALKEY_AWAY as why:
                away = why
            else:
                now_us = max(now_us, its_now_us)
                here.append(shard)
        if not here:
            assert away is not None, "there is a shard"
            raise away
        cells = capacities = 0
        for (number, date_), day in list(self._days.items()):
            marks, factors = await self._in_thread(
                _judge, self._cells[number], number, date_, now_us, day.campaign.per_network
            )
            cells += len(marks)
            capacities += len(factors)
            for shard in here:
                # A cell is marked on all of them: its devices are spread.
                await self._write(day, shard, cells_key(shard, day.campaign.id, date_), marks)
                await self._write(day, shard, capacity_key(shard, day.campaign.id, date_), factors)
            if day.last_vote_us < now_us - FORGETS_AFTER_US and not marks:
                del self._days[number, date_]
        if away is not None:
            raise away
        return Looked(now_us, votes, cells, capacities)

    async def _read(self, shard: int, now_us: int) -> int:
        """Everything after our place; how many votes."""
        valkey, key = self._hot.of(shard), journal_key(shard)
        total = 0
        while True:
            after = self._places.get(shard)
            asked = valkey.xread({key: str(after) if after else "0-0"}, count=_ENTRIES_READ)
            found = await cast(Awaitable[Any], asked)
            entries = _entries_of(found)
            together: defaultdict[tuple[int, date], list[Entry]] = defaultdict(list)
            for one in entries:
                place, packed = unwrap_entry(one)
                entry = read_entry(place, packed)
                self._places[shard] = place
                # A first look at a long journal: what is too old says nothing about now.
                if (
                    isinstance(entry, Entry)
                    and entry.votes_packed
                    and entry.at_us >= now_us - LOOKS_BACK_US
                ):
                    together[entry.campaign, entry.day].append(entry)
            for (campaign, day), theirs in together.items():
                total += await self._add(campaign, day, theirs)
            if len(entries) < _ENTRIES_READ:
                return total

    async def _add(self, number: int, day: date, entries: list[Entry]) -> int:
        campaign = await self._campaigns.known(number)
        if campaign is None:
            return 0
        if number not in self._cells:
            self._cells[number] = await self._make_cells(number)
        at_us = entries[-1].at_us
        known = self._days.setdefault((number, day), _Day(campaign, at_us))
        known.campaign, known.last_vote_us = campaign, max(known.last_vote_us, at_us)
        # One array for all: numpy's price is by the call.
        return int(
            await self._in_thread(
                _add_votes,
                self._cells[number],
                number,
                day,
                at_us,
                b"".join([entry.votes_packed for entry in entries]),
            )
        )

    async def _write(self, day: _Day, shard: int, key: str, wanted: dict[bytes, bytes]) -> None:
        """Make the hash hold what it should, and nothing else."""
        valkey = self._hot.of(shard)
        held = day.written.get(key)
        if held is None:
            held = await cast(Awaitable[dict[bytes, bytes]], valkey.hgetall(key))
        changed = {name: value for name, value in wanted.items() if held.get(name) != value}
        gone = [name for name in held if name not in wanted]
        if changed or gone:
            # Together: the function never reads a half of it.
            async with valkey.pipeline(transaction=True) as pipeline:
                if gone:
                    pipeline.hdel(key, *gone)
                if changed:
                    pipeline.hset(key, mapping=cast(Any, changed))
                await pipeline.execute()
        day.written[key] = wanted


def _entries_of(found: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Entries of the one stream that an XREAD asked for; protocol 2 and 3 answer differently."""
    if not found:
        return []
    if isinstance(found, dict):
        (batches,) = found.values()
        return [entry for batch in batches for entry in batch]
    ((_, entries),) = found
    return list(entries)


# In a thread.


def _add_votes(cells: Cells, campaign: int, day: date, at_us: int, packed: bytes) -> int:
    import numpy as np

    from antifraud.detectors.live import VOTE_DTYPE

    votes = np.frombuffer(packed, VOTE_DTYPE)
    cells.add(campaign, day, at_us, votes)
    return len(votes)


def _judge(
    cells: Cells, campaign: int, day: date, now_us: int, per_network: Rate
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """(cells, capacities) as they lie in their hashes."""
    flagged = cells.flagged(campaign, day, now_us)
    loudest = sorted(flagged.items(), key=lambda item: -item[1].weight_millinats)[:CELLS_MAX]
    factors = cells.capacities(campaign, day, per_network)
    largest = sorted(factors.items(), key=lambda item: -item[1])[:CELLS_MAX]
    return (
        {cell: CELL.pack(mark.weight_millinats, mark.agent_class) for cell, mark in loudest},
        {network: bytes((factor,)) for network, factor in largest},
    )
