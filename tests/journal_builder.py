"""Makes journals as the store's function leaves them, without it: explicit ids, chosen bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from random import Random

import redis.asyncio as redis

from antifraud.screen import Decision
from tally.rows import Placed
from voting.ballot import Outcome
from voting.journal import (
    CLOSING_LAYOUT,
    ENTRY_FIELD,
    HEADER,
    LAYOUT,
    REFUSAL,
    VOTE,
    EntryId,
    Refusal,
    Vote,
    journal_key,
    unpack_entry,
)

DAY = date(2026, 7, 5)
NOON_US = int(datetime(2026, 7, 5, 12, tzinfo=UTC).timestamp()) * 1_000_000


def make_vote(
    random: Random, candidate: int | None = None, verdict: Decision | None = None
) -> Vote:
    """A vote with every field drawn over its whole range, where none is given."""
    return Vote(
        device=random.randbytes(8),
        network=random.randbytes(8),
        network_wide=random.randbytes(8),
        candidate=candidate or random.randint(1, 750),
        click=random.randbytes(6),
        asn=random.getrandbits(32),
        network_class=random.getrandbits(8),
        user_agent_class=random.getrandbits(8),
        tls_hash=random.getrandbits(32),
        token_age_seconds=random.getrandbits(32),
        token_level=random.getrandbits(8),
        dwell_centiseconds=random.getrandbits(16),
        rules=random.getrandbits(16),
        score=random.randint(-32_768, 32_767),
        reasons=random.randbytes(3),
        verdict=random.choice((Decision.COUNT, Decision.HOLD)) if verdict is None else verdict,
    )


def pack_entry(
    id_: EntryId,
    first_seq: int,
    votes: Sequence[Vote] = (),
    refusals: Iterable[Refusal] = (),
    *,
    shard: int = 0,
    campaign: int = 1,
    day: date = DAY,
    at_us: int = NOON_US,
) -> bytes:
    refusals = list(refusals)
    return b"".join(
        (
            HEADER.pack(
                LAYOUT,
                shard,
                id_.epoch,
                campaign,
                (day - date(1970, 1, 1)).days,
                at_us,
                first_seq,
                len(votes),
                len(refusals),
            ),
            *(VOTE.pack(*vote) for vote in votes),
            *(REFUSAL.pack(r.candidate, r.outcome.value, r.ballots) for r in refusals),
        )
    )


@dataclass(frozen=True, slots=True)
class Built:
    """One entry as it lies in the stream."""

    id: EntryId
    packed: bytes

    @property
    def placed(self) -> Placed:
        return Placed(self.id, unpack_entry(self.packed))


class JournalBuilder:
    """Entries that follow each other; `seed` decides their votes."""

    def __init__(self, seed: int = 0, *, shard: int = 0) -> None:
        self.random = Random(seed)
        self.shard = shard
        self.epoch = 1
        self.number = 0
        self.seq = 0
        self.at_us = NOON_US

    def entry(
        self,
        votes: int | Sequence[Vote] = 1,
        refusals: Iterable[Refusal] = (),
        *,
        seconds: float = 0.001,
        **fields: object,
    ) -> Built:
        """The next entry, `seconds` after the one before."""
        if isinstance(votes, int):
            votes = [make_vote(self.random) for _ in range(votes)]
        self.at_us += int(seconds * 1e6)
        id_ = EntryId(self.epoch, self.number)
        fields = {"shard": self.shard, "at_us": self.at_us, **fields}
        packed = pack_entry(id_, self.seq + 1, votes, refusals, **fields)
        self.number += 1
        self.seq += len(votes)
        return Built(id_, packed)

    def closing(self, *, closed: bool = True, campaign: int = 1) -> Built:
        """The next entry, that closes the campaign or opens it again."""
        self.at_us += 1_000
        id_ = EntryId(self.epoch, self.number)
        self.number += 1
        places = (CLOSING_LAYOUT, self.shard, self.epoch, campaign, closed)
        return Built(id_, HEADER.pack(*places, self.at_us, self.seq + 1, 0, 0))

    def refusals(self, number: int) -> list[Refusal]:
        return [
            Refusal(candidate, self.random.choice((Outcome.THROTTLED, Outcome.QUOTA_SPENT)), 3)
            for candidate in self.random.sample(range(1, 20), number)
        ]

    def new_epoch(self, seq_moves: int = 0) -> None:
        """The store was started anew, or lost its tail (negative), or more than that."""
        self.epoch += 1
        self.number = 0
        self.seq += seq_moves


async def write(valkey: redis.Redis, entries: Iterable[Built], shard: int = 0) -> None:
    """Into the stream, as the function would have."""
    async with valkey.pipeline(transaction=False) as pipeline:
        for entry in entries:
            pipeline.xadd(journal_key(shard), {ENTRY_FIELD: entry.packed}, id=str(entry.id))
        await pipeline.execute()
