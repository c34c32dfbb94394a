"""How fast the log is: figures that the service was sized by. The bound of a whole integration is
half of what is wanted, for a machine that has other work; what was measured is printed (-s)."""

import random
import secrets
import time

import pytest

from tally.log.integrator import integrate
from tally.log.leaves import LoggedVote, VoteLeaves
from tally.log.merkle import GrowingTree
from tally.log.store import Head, LogWriter
from tests.campaigns import add_campaign
from tests.decided import Poll, counted
from tests.logged import KEYS
from voting.log_reader import Log, prove_inclusion
from voting.merkle import EMPTY_ROOT, HASH_BYTES, MerkleError, inclusion_ranges

LEAVES_A_SECOND, PROOF_MS = 100_000, 5.0

pytestmark = pytest.mark.slow


def test_leaves_are_hashed_four_times_as_fast_as_they_must_be():
    votes = [LoggedVote(seq, seq, b"\0\1", b"sixbyt") for seq in range(LEAVES_A_SECOND)]
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        records = VoteLeaves(1, bytes(32)).records(0, 1, votes)
        LogWriter(1, Log.VOTES, Head(0, EMPTY_ROOT, None), GrowingTree(), b"").append(records)
        best = max(best, len(votes) / (time.perf_counter() - started))
    print(f"hashing alone: {best:,.0f} leaves a second")
    assert best > 2 * LEAVES_A_SECOND


async def test_integration_keeps_up_with_ten_times_an_ordinary_peak(postgres):
    await add_campaign(postgres)
    poll = Poll(postgres, None)
    votes = counted(4_000)
    for _ in range(50):
        await poll.add(votes)
    started = time.perf_counter()
    total = 0
    while (step := await integrate(postgres, KEYS)).votes:
        total += step.votes
    speed = total / (time.perf_counter() - started)
    print(f"from Postgres to Postgres: {speed:,.0f} leaves a second")
    assert total == 200_000
    assert speed > LEAVES_A_SECOND / 2


async def test_proof_is_quick_in_a_log_of_ten_million(postgres):
    await add_campaign(postgres)
    await integrate(postgres, KEYS)
    size, chunk = 10_000_000, 250_000
    tree = GrowingTree()
    writer = LogWriter(1, Log.VOTES, Head(0, EMPTY_ROOT, None), tree, b"")
    for _ in range(size // chunk):
        # Straight into the tiles: no proof looks at the entries.
        writer._keep(tree.append(secrets.token_bytes(chunk * HASH_BYTES)))
        await writer.save_tiles(postgres, all_of_them=True)
    times = []
    for _ in range(300):
        index = random.randrange(size)
        started = time.perf_counter()
        proof = await prove_inclusion(postgres, 1, Log.VOTES, index, size)
        times.append((time.perf_counter() - started) * 1000)
        assert len(proof) == len(inclusion_ranges(index, size))
    times.sort()
    print(f"a proof at 10 M leaves: median {times[150]:.2f} ms, 99 % {times[297]:.2f} ms")
    assert times[150] < PROOF_MS
    with pytest.raises(MerkleError):
        await prove_inclusion(postgres, 1, Log.VOTES, 0, size + 1)
