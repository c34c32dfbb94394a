"""What the stored votes teach of TLS fingerprints reaches the store, where edges read it."""

from datetime import UTC, datetime

from antifraud.screen import Decision
from tally import fingerprints
from tally.rows import Batch
from tally.store import ShardStore
from tests.campaigns import add_campaign
from tests.conftest import OneShard
from tests.journal_builder import JournalBuilder, make_vote
from voting.journal import fingerprints_key


async def test_fingerprints_of_counted_votes_are_learned_and_put_where_edges_read_them(
    postgres, valkey
):
    await add_campaign(postgres, "spring")
    now = datetime.now(UTC)
    journal = JournalBuilder(2)

    def votes(number, agent, tls, verdict=Decision.COUNT):
        return [
            make_vote(journal.random, 1, verdict)._replace(user_agent_class=agent, tls_hash=tls)
            for _ in range(number)
        ]

    entry = journal.entry(
        [
            *(*votes(600, 40, 7), *votes(50, 40, 9), *votes(1, 40, 11)),
            *votes(900, 40, 13, Decision.HOLD),
            *votes(30, 41, 7),
            *votes(700, 42, 0),
        ],
        day=now.date(),
        at_us=int(now.timestamp() * 1e6),
    )
    store = ShardStore(postgres, 0)
    assert await store.try_lock()
    await store.open()
    await store.add_entries(Batch([entry.placed]))
    known = await fingerprints.learn(postgres)
    assert known == {40: [7, 9]}
    await valkey.hset(fingerprints_key(0), "99", b"of yesterday")
    await fingerprints.publish(OneShard(valkey), known)
    assert await valkey.hgetall(fingerprints_key(0)) == {b"40": bytes((0, 0, 0, 7, 0, 0, 0, 9))}
    await fingerprints.publish(OneShard(valkey), {})
    assert await valkey.hgetall(fingerprints_key(0)) == {}
