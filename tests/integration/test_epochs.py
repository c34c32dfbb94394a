"""Epochs move when the store is another one, and only then."""

from voting import journal


async def test_worker_that_knows_an_older_replication_id_moves_no_epoch(edge, valkey):
    """A live primary changes its id when its first replica comes: the connections stay."""
    token = await edge.token()
    await edge.like(token)
    line = edge.parts.ballot_boxes.of(0).line
    for known in (b"00", line.replid, b"01", line.replid):
        line.replid = known
        await edge.like(await edge.token())
    snapshot = await edge.parts.ballot_boxes.of(0).snapshot("spring")
    assert (snapshot.epoch, snapshot.seq) == (1, 5)


async def test_journal_without_an_epoch_left_says_so_before_anything_is_written(edge, valkey):
    await edge.like(await edge.token())
    await valkey.hset(journal.head_key(0), mapping={"epoch": 65_535, "replid": "00"})
    edge.parts.ballot_boxes.of(0).line.replid = b"00ff"
    entries = await valkey.xlen(journal.journal_key(0))
    status, body = await edge.like(await edge.token())
    assert (status, body["outcome"]) == (503, "store-down")
    assert await valkey.xlen(journal.journal_key(0)) == entries
