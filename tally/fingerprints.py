"""Which TLS fingerprints each class of user agent comes with, learned from votes that count.

Edges read it (voting/edge/known_fingerprints.py), and take a fingerprint that is not here for a
reason to doubt. A share is what makes one known, so a flood can teach its own only by being a part
of an agent's whole crowd, which the near-line detectors see.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from tally.store import SQL
from voting.hot_state import HotState
from voting.journal import fingerprints_key

LOOK_BACK = timedelta(days=2)
LATELY = timedelta(hours=2)

AGENT_VOTES_LEAST = 500
"""Of an agent with fewer, nothing is said."""
SHARE_LEAST = 0.002
LATELY_SHARE_LEAST = 0.02
"""A browser's new version comes to this within hours of its release."""
_VOTES_LEAST = 3


class Sighting(NamedTuple):
    """Votes of one agent with one fingerprint."""

    agent_class: int
    tls_hash: int
    votes: int
    lately: int
    """Of the votes, those of the last LATELY."""


def known_fingerprints(seen: Iterable[Sighting]) -> dict[int, list[int]]:
    """Agent class -> its fingerprints, ascending."""
    by_agent = defaultdict(list)
    for sighting in seen:
        by_agent[sighting.agent_class].append(sighting)
    known = {}
    for agent, sightings in by_agent.items():
        votes = sum(one.votes for one in sightings)
        if votes < AGENT_VOTES_LEAST:
            continue
        lately = sum(one.lately for one in sightings)
        known[agent] = sorted(
            one.tls_hash
            for one in sightings
            if one.votes >= max(_VOTES_LEAST, votes * SHARE_LEAST)
            or one.lately >= max(_VOTES_LEAST, lately * LATELY_SHARE_LEAST)
        )
    return known


async def learn(connection: asyncpg.Connection) -> dict[int, list[int]]:
    """What the stored votes teach now. One look over two days' votes."""
    rows = await connection.fetch(SQL["count_fingerprints"], LOOK_BACK, LATELY)
    return known_fingerprints(Sighting(*row.values()) for row in rows)


async def publish(hot: HotState, known: Mapping[int, Iterable[int]]) -> None:
    """Put it where edges read it, whole or not at all."""
    fields: list[str | bytes] = []
    for agent, hashes in known.items():
        fields += [str(agent), b"".join(struct.pack(">I", one) for one in hashes)]
    async with hot.of(0).pipeline(transaction=True) as pipeline:
        pipeline.delete(fingerprints_key(0))
        if fields:
            pipeline.hset(fingerprints_key(0), items=fields)
        await pipeline.execute()
