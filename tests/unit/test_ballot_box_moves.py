"""The ballot box while a shard's primary is being changed, and its plan by the number of shards."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from antifraud.limits import Rate
from antifraud.networks import Prefixes
from antifraud.screen import Verdict
from antifraud.signals import Signals
from voting import ballot_box
from voting.ballot import Ballot, Outcome
from voting.ballot_box import BallotBox
from voting.campaign import Campaign, Limits, VotingWindow
from voting.keys import Keys
from voting.pseudonyms import Place, Pseudonyms
from voting.receipt import Receipts
from voting.store_line import StoreDown, StoreMoved

KEYS = Keys({1: b"a" * 32}, b"r" * 32, b"p" * 32)
NOW = datetime.now(UTC)
CAMPAIGN = Campaign(
    1,
    "spring",
    "",
    VotingWindow(NOW - timedelta(days=1), NOW + timedelta(days=2), ZoneInfo("Asia/Shanghai")),
    limits=Limits(per_network=Rate(60, 60_000_000)),
)
BALLOT = Ballot(1, b"device00", Place(Prefixes(b"4own", b"4wide")), b"click0")


class MovingLine:
    """A line that does with each call what it is told to: "moved", "away", or counts it."""

    connected = True
    replid = b"0" * 40

    def __init__(self, *fates):
        self._fates = list(fates)
        self.calls = 0

    def call(self, *words, on_reply):
        self.calls += 1
        fate = self._fates.pop(0) if len(self._fates) > 1 else self._fates[0]
        if fate == "away":
            raise StoreDown("not connected")
        reply = StoreMoved("MOVED 1 127.0.0.1:1")
        if fate == "counts":
            now_us = time.time_ns() // 1000
            reply = ballot_box._ANSWERED.pack(ballot_box._CAST, now_us)
            ballots = len(words[-1]) // 57
            reply += b"".join(
                ballot_box._ANSWER.pack(Outcome.COUNTED, 9, 0, 1, seq + 1) for seq in range(ballots)
            )
        asyncio.get_running_loop().call_soon(on_reply, reply)


@pytest.fixture
def pseudonyms():
    made = Pseudonyms(KEYS)
    made.learn_days({CAMPAIGN.window.day_at(time.time_ns() // 1000).date: bytes(32)})
    return made


async def cast(box, count=3):
    heard = []
    done = asyncio.Event()

    def on_cast(cast):
        heard.append(cast.outcome)
        if len(heard) == count:
            done.set()

    for _ in range(count):
        box.put(CAMPAIGN, BALLOT, Signals(), Verdict(0, bytes(3)), on_cast)
    async with asyncio.timeout(30):
        await done.wait()
    return heard


async def test_ballots_of_a_shard_that_moved_are_cast_where_it_is_found(pseudonyms):
    line = MovingLine("moved", "away", "away", "moved", "counts")
    box = BallotBox(line, pseudonyms, Receipts(KEYS), moving_seconds=60)
    assert await cast(box) == [Outcome.COUNTED] * 3
    assert (line.calls, box.waiting) == (5, 0)


async def test_ballots_of_a_shard_that_is_not_found_were_not_cast(pseudonyms):
    box = BallotBox(MovingLine("moved", "away"), pseudonyms, Receipts(KEYS), moving_seconds=0.1)
    assert await cast(box) == [Outcome.OVERLOADED] * 3
    assert box.waiting == 0
    # And the next one is told by the line itself.
    assert await cast(box, 1) == [Outcome.STORE_DOWN]


def test_each_shard_gives_a_network_its_part_of_the_rate_and_the_whole_burst():
    day = CAMPAIGN.window.day_at(time.time_ns() // 1000)

    def rates(shards):
        packed = ballot_box._pack_plan(CAMPAIGN, day, 0, 0, False, shards)
        return packed[: ballot_box._PLAN.size], list(
            ballot_box._CLASS_RATES.iter_unpack(packed[ballot_box._PLAN.size :])
        )

    (of_one, one), (of_four, four) = rates(1), rates(4)
    assert of_one == of_four
    assert any(any(numbers) for numbers in one)
    for alone, parted in zip(one, four, strict=True):
        assert [4 * number for number in alone] == list(parted)
