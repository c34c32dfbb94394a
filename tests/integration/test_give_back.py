"""What the hot state lost and Postgres has comes back, after a failover and into an empty store."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tally.reconcile import reconcile
from tally.tallies import read_campaign, read_hot_tally, read_tally
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.integration.test_shards import flushing, stored
from tests.topologies import (
    HOST,
    PATIENCE_SECONDS,
    Node,
    connected_replica,
    free_ports,
    in_touch,
    started,
)
from voting.hot_state import HotState
from voting.journal import head_key
from voting.shards import declare_shards


class Snapshot:
    """The whole store as it was, to be set back to: a replica that had no more."""

    def __init__(self, kept):
        self._kept = kept

    @classmethod
    async def of(cls, valkey):
        return cls({key: await valkey.dump(key) for key in await valkey.keys("*")})

    async def restore(self, valkey):
        await valkey.delete(*await valkey.keys("*"))
        for key, dumped in self._kept.items():
            await valkey.restore(key, 0, dumped)


@pytest.fixture
async def spring(postgres):
    return await add_campaign(
        postgres, "spring", rules={"candidates_per_day": 3, "likes_per_campaign": 3}
    )


async def agreed(postgres, url, shards=1):
    """Hot sums are what Postgres and the journal say, once the flusher has mended them."""
    campaign = await read_campaign(postgres, "spring")
    async with HotState(url, shards) as hot:

        async def the_same():
            return not (await reconcile(postgres, hot, campaign)).off

        await wait_until_async(the_same, PATIENCE_SECONDS, what="equal sums")
        return (await read_hot_tally(hot, campaign)).counts


async def liked(edge, *likes):
    """(token, candidate, click) -> each was counted."""
    for token, candidate, click in likes:
        status, body = await edge.like(token, candidate, click=click)
        assert (status, body.get("outcome")) == (201, "counted"), body


async def kept(valkey, postgres_dsn, edge, *likes, votes=1):
    """Likes that Postgres has, and the store with them."""
    await liked(edge, *likes)
    await stored(postgres_dsn, votes)
    return await Snapshot.of(valkey)


async def test_a_store_that_went_back_is_told_before_anybody_votes(
    tmp_path, valkey, valkey_url, postgres_dsn, postgres, spring
):
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        first, second = await edge.token(), await edge.token()
        async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1):
            had = await kept(valkey, postgres_dsn, edge, (first, "c001", "click-0001"))
            lost = ((first, "c002", "click-0002"), (second, "c002", "click-0003"))
            await kept(valkey, postgres_dsn, edge, *lost, votes=3)
        await had.restore(valkey)
        with capture_logs() as logs:
            async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1):
                counts = await agreed(postgres, valkey_url)
                assert (counts["c001"], counts["c002"]) == (1, 2)
                # The same click has its first answer, another one is a repeat, quotas hold.
                await liked(edge, (second, "c002", "click-0003"))
                assert (await edge.like(second, "c002"))[0] == 200
                await liked(edge, (first, "c003", "click-0004"))
                assert (await edge.like(first, "c004"))[0] == 409
                tally = await stored(postgres_dsn, 4)
                assert tally.counts == await agreed(postgres, valkey_url)
        (told,) = [log for log in logs if log["event"] == "hot-state-went-back"]
        assert (told["behind"], told["given_back"], told["counted_again"]) == (2, 2, 0)
        # Positions went on behind what Postgres has: no gap, and another epoch.
        assert not [log for log in logs if log["event"].startswith("journal-")]
        rows = await postgres.fetch("SELECT epoch, seq FROM votes ORDER BY seq")
        assert [row["seq"] for row in rows] == [1, 2, 3, 4]
        assert rows[3]["epoch"] > rows[2]["epoch"]


async def test_likes_that_came_meanwhile_stay_and_the_lost_ones_join_them(
    tmp_path, valkey, valkey_url, postgres_dsn, postgres, spring
):
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        first, second = await edge.token(), await edge.token()
        async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1):
            had = await kept(valkey, postgres_dsn, edge, (first, "c001", "click-0001"))
            lost = ((first, "c002", "click-0002"), (second, "c001", "click-0003"))
            await kept(valkey, postgres_dsn, edge, *lost, votes=3)
        await had.restore(valkey)
        # As a replica that was promoted: with another id, so that an epoch begins.
        await valkey.hset(head_key(0), "replid", "another")
        # It has forgotten this one: who is not sure that it was counted sends it again.
        await liked(edge, (second, "c001", "click-0003"), (second, "c002", "click-0004"))
        with capture_logs() as logs:
            async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1):
                tally = await stored(postgres_dsn, 5)

                async def told():
                    return [log for log in logs if log["event"] == "hot-state-went-back"]

                (said,) = await wait_until_async(told, PATIENCE_SECONDS, what="its loss")
                assert (said["behind"], said["given_back"], said["counted_again"]) == (2, 2, 1)
                assert tally.counts == await agreed(postgres, valkey_url)
                assert (await edge.like(first, "c002"))[0] == 200
        assert "journal-went-back" in [log["event"] for log in logs]


async def test_an_empty_store_is_rebuilt_as_often_as_one_likes(
    tmp_path, valkey, valkey_url, postgres_dsn, postgres, spring, dianzan, environment
):
    await declare_shards(postgres, 2)
    environment["DIANZAN_SHARDS"] = "2"
    async with running_edge(tmp_path, valkey_url, postgres_dsn, shards=2) as edge:
        tokens = [await edge.token() for _ in range(12)]
        for number, token in enumerate(tokens):
            await liked(edge, (token, "c001", f"click-a{number:03}"))
            await liked(edge, (token, "c002", f"click-b{number:03}"))
        async with flushing(tmp_path, valkey_url, postgres_dsn):
            before = await stored(postgres_dsn, 24)
        await valkey.flushall()
        for given in (24, 0):
            done = await dianzan("rebuild-hot")
            assert done.code == 0, done.err
            *lines, sums = done.out.splitlines()
            assert sums == f"sums: raised by {given} ballots"
            assert [line.partition(":")[0] for line in lines] == ["shard 0", "shard 1"]
            assert sum(int(line.split()[2]) for line in lines) == given
            assert await agreed(postgres, valkey_url, shards=2) == before.counts
        for number, token in enumerate(tokens):
            await liked(edge, (token, "c002", f"click-b{number:03}"))
            assert (await edge.like(token, "c001"))[0] == 200
            await liked(edge, (token, "c003", f"click-c{number:03}"))
            assert (await edge.like(token, "c004"))[0] == 409, "of the campaign's three"
        async with flushing(tmp_path, valkey_url, postgres_dsn):
            after = await stored(postgres_dsn, 36)
            assert after.counts == await agreed(postgres, valkey_url, shards=2)
        assert after.counts["c001"] == after.counts["c002"] == after.counts["c003"] == 12


async def test_what_devices_gave_on_other_days_counts_again_where_nothing_is_known(
    tmp_path, valkey, valkey_url, postgres_dsn, postgres, spring
):
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        token = await edge.token()
        for number in range(1, 4):
            await liked(edge, (token, f"c{number:03}", f"click-{number:04}"))
        async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1):
            await stored(postgres_dsn, 3)
        # Two days ago, as far as Postgres is concerned.
        await postgres.execute("ALTER TABLE votes DISABLE TRIGGER votes_only_grow")
        await postgres.execute("CREATE TABLE votes_past PARTITION OF votes DEFAULT")
        await postgres.execute("UPDATE votes SET day = day - 2")
        await valkey.flushall()
        async with flushing(tmp_path, valkey_url, postgres_dsn, shards=1):
            await agreed(postgres, valkey_url)
            status, body = await edge.like(token, "c004")
            assert (status, body["outcome"]) == (409, "quota-spent")


@pytest.mark.timeout(400)
async def test_a_primary_that_dies_under_load_loses_nothing_that_was_acknowledged(
    tmp_path, pair, postgres_dsn, postgres, spring
):
    """DIANZAN_ACK=replica, Sentinels that decide by themselves."""
    first, second = pair
    ports = free_ports(3)
    sentinels = [
        Node(tmp_path / f"sentinel-{n}", port, "sentinel down-after-milliseconds likes 1500",
             "sentinel failover-timeout likes 4000", sentinel_of=first.port)
        for n, port in enumerate(ports)
    ]  # fmt: skip
    url = f"sentinel://{','.join(f'{HOST}:{port}' for port in ports)}/likes"
    answers = {}
    async with started(*sentinels):
        for sentinel in sentinels:
            await connected_replica(sentinel)
        await in_touch(sentinels)
        async with (
            running_edge(tmp_path, url, postgres_dsn, ack="replica") as edge,
            flushing(tmp_path, url, postgres_dsn, shards=1, ack="replica"),
        ):
            # Made before: while the store is away a new device gets its token all the same.
            tokens = [await edge.token() for _ in range(400)]
            over = asyncio.Event()

            async def like(tokens):
                for number, token in enumerate(tokens):
                    click = f"click-{token[-8:]}"
                    # Again and again, the same click, until somebody knows.
                    while True:
                        status, _ = await edge.like(token, f"c{number % 5 + 1:03}", click=click)
                        answers.setdefault(click, []).append(status)
                        if status != 503:
                            break
                    if over.is_set():
                        return

            likers = [asyncio.create_task(like(tokens[n::8])) for n in range(8)]

            async def counted(more_than):
                return sum(statuses[-1] == 201 for statuses in answers.values()) > more_than

            await wait_until_async(lambda: counted(60), PATIENCE_SECONDS, what="likes before")
            first.process.kill()

            async def promoted():
                return await second.replication("role") == "master"

            await wait_until_async(promoted, 2 * PATIENCE_SECONDS, what="another primary")
            # A replica for it, else nothing can be acknowledged.
            third = Node(tmp_path / "third", free_ports(1)[0], f"replicaof {HOST} {second.port}")
            async with started(third):
                await wait_until_async(
                    lambda: counted(200), PATIENCE_SECONDS, what="likes after the failover"
                )
                over.set()
                await asyncio.gather(*likers)
                acknowledged = sum(statuses[-1] == 201 for statuses in answers.values())
                await stored(postgres_dsn, acknowledged)
                counts = await agreed(postgres, url)
        tally = await read_tally(postgres_dsn, "spring")
        assert tally.counted == acknowledged == len(answers)
        assert tally.counts == counts
        assert {status for statuses in answers.values() for status in statuses} <= {201, 503}
