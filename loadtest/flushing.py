"""The flusher against a bare binary COPY: the same rows, into the same Postgres.

The journal is written here, by the layout that voting/journal.py draws and with bytes of the
bench's own making, while the flusher is stopped (SIGSTOP); its time runs from the moment when it
may go on to the commit of the last entry. The peer sends the very rows, assembled beforehand, by
one COPY into a table of the same columns, partition and unique index, and adds up nothing; beside
it, for the eye, the same in transactions as large as the flusher's.
"""

import asyncio
import itertools
import os
import random
import signal
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import redis

from loadtest.crowds import plan_likes
from loadtest.processes import Clock
from loadtest.report import Figure
from loadtest.service import CAMPAIGN, CANDIDATES, Service, ServiceError, running_service

VOTES_PER_ENTRY = 64
BATCH_VOTES = 4_096
"""Of one transaction of the flusher."""

_SHARD, _EPOCH = 0, 1
_JOURNAL, _FIELD = "{s0}:journal", "e"
_HEADER = struct.Struct(">BBHHIQQHH")
_VOTE = struct.Struct(">8s8s8sH6sIBBIIBHHh3sB")
_ENTRY_LASTS_US = 2_560
"""25,000 likes a second, a surge."""

# Width and value of each column, in the order of the table `votes`.
_ROW = struct.Struct(">H Ii Ih Ii Iq Iq Ih Ii I8s I2x6s I8s I8s Iq Ih Ih Iq Iq Ih Ii Ii Ih Ii Ih")
_COPY_OPENING = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_CLOSING = b"\xff\xff"
_POSTGRES_EPOCH_DAYS = 10_957
_POSTGRES_EPOCH_US = 946_684_800_000_000

_COMMITTED_SECONDS_MAX = 120.0
_POLL_SECONDS = 0.005


class Written(NamedTuple):
    """Votes as the journal and as COPY take them."""

    entries: list[bytes]
    rows: bytes
    votes: int

    @property
    def batches(self) -> list[bytes]:
        """The rows once more, BATCH_VOTES at a time."""
        size = BATCH_VOTES * _ROW.size
        end = len(self.rows) - len(_COPY_CLOSING)
        return [
            _COPY_OPENING + self.rows[at : min(at + size, end)] + _COPY_CLOSING
            for at in range(len(_COPY_OPENING), end, size)
        ]


def make_votes(
    count: int, *, campaign: int, at_us: int, day_number: int, first_seq: int, seed: int
) -> Written:
    """`count` votes in entries of VOTES_PER_ENTRY, by a crowd as the load runs have it."""
    dice = random.Random(seed)
    likes = plan_likes(CANDIDATES, seed=seed, devices=count)
    pseudonyms: dict[int, bytes] = {}
    entries: list[bytes] = []
    rows = [_COPY_OPENING]
    left = count
    while left:
        n = min(VOTES_PER_ENTRY, left)
        votes = [
            _HEADER.pack(
                1, _SHARD, _EPOCH, campaign, day_number, at_us, first_seq + count - left, n, 0
            )
        ]
        for seq, like in enumerate(itertools.islice(likes, n), first_seq + count - left):
            device = pseudonyms.setdefault(like.device, dice.randbytes(24))
            click = dice.randbytes(6)
            age = dice.randrange(86_400)
            device, network, wide = device[:8], device[8:16], device[16:]
            number = like.candidate + 1
            votes.append(
                _VOTE.pack(
                    *(device, network, wide, number, click, 0, 0, 0, 0, age, 1, 0, 1, 0),
                    *(bytes(3), 0),
                )
            )
            rows.append(
                _ROW.pack(
                    22,
                    *(4, day_number - _POSTGRES_EPOCH_DAYS, 2, _SHARD, 4, _EPOCH, 8, seq),
                    *(8, at_us - _POSTGRES_EPOCH_US, 2, campaign, 4, number),
                    *(8, device, 8, click, 8, network, 8, wide),
                    *(8, 0, 2, 0, 2, 0, 8, 0, 8, age, 2, 1, 4, 0, 4, 1, 2, 0, 4, 0, 2, 0),
                )
            )
        entries.append(b"".join(votes))
        left -= n
        at_us += _ENTRY_LASTS_US
    rows.append(_COPY_CLOSING)
    return Written(entries, b"".join(rows), count)


def measure_flusher(folder: Path, *, rounds: int, votes: int) -> list[Figure]:
    """The figure of the flusher. Nothing is pinned: either side may use both cores."""
    with running_service(folder) as service:
        service.import_campaign()
        return [asyncio.run(_measure(service, rounds, votes))]


async def _measure(service: Service, rounds: int, votes: int) -> Figure:
    (flusher,) = service.pids("flush")
    postgres = await asyncpg.connect(service.ready["postgres"])
    ratios: list[float] = []
    details: list[dict[str, float]] = []
    try:
        campaign = await postgres.fetchval("SELECT number FROM campaigns WHERE id = $1", CAMPAIGN)
        for seed in range(rounds):
            zone = timezone(timedelta(hours=8))
            now = datetime.now(UTC).astimezone(zone)
            written = make_votes(
                votes,
                campaign=campaign,
                at_us=int(now.timestamp()) * 1_000_000,
                day_number=(now.date() - datetime(1970, 1, 1, tzinfo=zone).date()).days,
                first_seq=1 + seed * votes,
                seed=seed,
            )
            in_batches = await _copy(postgres, written.batches)
            copying = await _copy(postgres, [written.rows])
            flushing = await _flush(
                postgres, written, service, flusher, seed * len(written.entries)
            )
            await _compare(postgres, campaign, votes * (seed + 1))
            ratios.append(copying["seconds"] / flushing["seconds"])
            details.append(
                {
                    "flusher_rows_per_s": votes / flushing["seconds"],
                    "copy_rows_per_s": votes / copying["seconds"],
                    "copy_in_batches_rows_per_s": votes / in_batches["seconds"],
                    "flusher_us": flushing["flusher"] / votes * 1e6,
                    "flusher_backend_us": flushing["backend"] / votes * 1e6,
                    "copy_backend_us": copying["backend"] / votes * 1e6,
                }
            )
    finally:
        await postgres.close()
    return Figure(
        "flusher",
        f"flusher's rows/s over a bare binary COPY's ({votes:,} rows)",
        "",
        ratios,
        0.4,
        at_most=False,
        details={"rounds": details},
    )


async def _copy(postgres: asyncpg.Connection, batches: list[bytes]) -> dict[str, float]:
    await postgres.execute("DROP TABLE IF EXISTS bench_votes")
    await postgres.execute(
        "CREATE TABLE bench_votes (LIKE votes INCLUDING ALL) PARTITION BY RANGE (day)"
    )
    await postgres.execute(
        "CREATE TABLE bench_votes_all PARTITION OF bench_votes"
        " FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
    )
    await postgres.execute("CHECKPOINT")
    clock = Clock({"backend": [await postgres.fetchval("SELECT pg_backend_pid()")]})
    clock.start()
    begun = time.perf_counter()
    for rows in batches:
        await postgres.copy_to_table("bench_votes", source=_in_pieces(rows), format="binary")
    return {"seconds": time.perf_counter() - begun, **clock.groups()}


async def _in_pieces(rows: bytes) -> Any:
    for at in range(0, len(rows), 1 << 20):
        yield rows[at : at + (1 << 20)]


async def _flush(
    postgres: asyncpg.Connection, written: Written, service: Service, flusher: int, first: int
) -> dict[str, float]:
    os.kill(flusher, signal.SIGSTOP)
    try:
        _write_journal(service.store(), written.entries, first)
        await postgres.execute("CHECKPOINT")
        last = first + len(written.entries) - 1
        # Its shard's lock ("dzfl"), which the very connection holds that writes.
        backend = await postgres.fetchval(
            "SELECT pid FROM pg_locks"
            " WHERE locktype = 'advisory' AND classid = 1685743212 AND objid = 0"
        )
        clock = Clock({"flusher": [flusher], "backend": [backend]})
        clock.start()
    finally:
        os.kill(flusher, signal.SIGCONT)
    begun = time.perf_counter()
    while (
        await postgres.fetchval("SELECT entry FROM watermarks WHERE shard = $1", _SHARD)
    ) != last:
        if time.perf_counter() - begun > _COMMITTED_SECONDS_MAX:
            raise ServiceError(f"the flusher did not bring {written.votes} votes in time")
        await asyncio.sleep(_POLL_SECONDS)
    return {"seconds": time.perf_counter() - begun, **clock.groups()}


def _write_journal(store: redis.Redis, entries: list[bytes], first: int) -> None:
    numbers = itertools.count(first)
    for some in _batched(entries, 256):
        with store.pipeline(transaction=False) as pipeline:
            for entry in some:
                pipeline.xadd(_JOURNAL, {_FIELD: entry}, id=f"{_EPOCH}-{next(numbers)}")
            pipeline.execute()


async def _compare(postgres: asyncpg.Connection, campaign: int, votes: int) -> None:
    """Assert that the flusher wrote what COPY wrote, and summed it."""
    differing = await postgres.fetchval(
        "SELECT count(*) FROM (SELECT * FROM bench_votes EXCEPT SELECT * FROM votes) AS _"
    )
    rows = await postgres.fetchval("SELECT count(*) FROM votes")
    counted = await postgres.fetchval(
        "SELECT sum(counted)::bigint FROM tallies WHERE campaign = $1", campaign
    )
    minutes = await postgres.fetchval(
        "SELECT sum(counted)::bigint FROM minutes WHERE campaign = $1", campaign
    )
    if differing or not rows == counted == minutes == votes:
        raise ServiceError(
            f"{votes} votes were written: {rows} rows, {differing} unlike COPY's, tallies of "
            f"{counted}, minutes of {minutes}"
        )


def _batched(entries: list[bytes], size: int) -> Iterator[list[bytes]]:
    for at in range(0, len(entries), size):
        yield entries[at : at + size]
