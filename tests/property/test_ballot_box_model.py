"""The function library against the rules in plain Python, under random histories.

The function's one source of time, `TIME`, is replaced by a key of the test's, so that histories
can jump over midnights, over the window's ends, and back.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import redis.asyncio as redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antifraud.limits import Rate
from antifraud.networks import Prefixes
from antifraud.screen import Verdict
from antifraud.signals import Signals
from tests.model import Model, Tap
from voting import ballot_box, journal
from voting.ballot import Ballot, Outcome
from voting.campaign import Campaign, Limits, Rules, VotingWindow, microseconds

ZONE = ZoneInfo("Asia/Shanghai")
OPENS = datetime(2026, 7, 1, 8, tzinfo=ZONE)
CLOSES = datetime(2026, 7, 5, 18, tzinfo=ZONE)
CLOCK = "{s0}:test-clock"

DEVICES = [bytes([d]) * 8 for d in (0, 1, 2, 3)]
NETWORKS = [b"net-%d" % n + b"\0\0\0" for n in (1, 2)]
# Bytes that look like other fields of a record: candidates 0 and 1, epochs, seqs.
CLICKS = [bytes(6), b"\0\1\0\1\0\1", b"\0\0\0\0\0\1", b"clickA", b"clickB", b"\1\0\1\0\1\0"] + [
    b"c%05d" % n for n in range(20)
]

campaigns = st.builds(
    lambda per_candidate, per_day, life, device, network, paused: Campaign(
        number=7,
        id="model",
        title="",
        window=VotingWindow(OPENS, CLOSES, ZONE),
        rules=Rules(
            likes_per_candidate_per_day=per_candidate,
            candidates_per_day=per_day,
            likes_per_campaign=life,
        ),
        limits=Limits(Rate(device, 60_000_000), Rate(network, 60_000_000)),
        paused_because="a test" if paused else None,
    ),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([0, 0, 2, 5]),
    st.sampled_from([2, 7, 30]),
    st.sampled_from([1, 3, 1200]),
    st.sampled_from([False] * 9 + [True]),
)
taps = st.builds(
    Tap,
    device=st.sampled_from(DEVICES),
    network=st.sampled_from(NETWORKS),
    candidate=st.sampled_from([1, 2, 3, 255, 256, 65_535]),
    click=st.sampled_from(CLICKS),
    score=st.sampled_from([0] * 6 + [-800, 1_499, 1_500, 3_999, 4_000, 11_999, 12_000, 32_000]),
    network_class=st.sampled_from([0, 0, 0, 4]),
)
# How far the clock moves before a batch: mostly a little, sometimes over midnight, or back.
steps_us = st.one_of(
    st.integers(0, 3_000_000),
    st.integers(0, 3_000_000),
    st.integers(0, 3_600 * 1_000_000),
    st.sampled_from([86_400_000_000, 43_200_000_000, 600_000_000, -600_000_000, -86_400_000_000]),
)
batches = st.lists(
    st.tuples(steps_us, st.lists(taps, min_size=1, max_size=12), st.sampled_from("aaaaaaab")),
    min_size=1,
    max_size=12,
)
starts = st.sampled_from(
    [
        OPENS - timedelta(minutes=5),
        OPENS,
        datetime(2026, 7, 2, 23, 59, 58, tzinfo=ZONE),
        CLOSES - timedelta(seconds=2),
    ]
)


@pytest.fixture
async def function(valkey: redis.Redis) -> str:
    """The cast function with the test's clock; its name."""
    real = "call('TIME')\n  local now"
    assert ballot_box.LIBRARY.count(real) == 1
    source = ballot_box.LIBRARY.replace(
        real, f"call('HMGET', '{CLOCK}', 's', 'us')\n  local now"
    ).replace(ballot_box.CAST_FUNCTION, "cast_by_clock")
    source = source.replace(ballot_box.SNAPSHOT_FUNCTION, "unused_here").replace(
        source.partition("\n")[0], "#!lua name=by_clock"
    )
    await valkey.function_load(source, replace=True)
    return "cast_by_clock"


async def cast(valkey, function, campaign, taps, now_us, replid, challenges):
    """One call, as `_Lane._send` makes it. None where the function says: another day."""
    day = campaign.window.day_at(now_us)
    yesterday = campaign.window.day_at(day.starts_at_us - 1)
    await valkey.hset(CLOCK, mapping={"s": now_us // 1_000_000, "us": now_us % 1_000_000})
    bodies = [
        journal.pack_body(
            Ballot(tap.candidate, tap.device, Prefixes(b"", b""), tap.click),
            tap.network,
            b"wide\0\0\0\0",
            Signals(network_class=tap.network_class),
            Verdict(tap.score, bytes(3)),
        )
        for tap in taps
    ]
    reply = await valkey.fcall(
        function,
        7,
        journal.head_key(0),
        journal.journal_key(0),
        journal.tally_key(0, campaign.id),
        journal.day_key(0, campaign.id, day.date),
        journal.day_key(0, campaign.id, yesterday.date),
        journal.network_key(0, campaign.id, day.date),
        journal.life_key(0, campaign.id),
        ballot_box._pack_plan(campaign, day, 0, 0, challenges),
        replid,
        *(tap.device for tap in taps),
        *(tap.network for tap in taps),
        *(tap.candidate for tap in taps),
        *bodies,
    )
    status, at_us = ballot_box._ANSWERED.unpack_from(reply)
    assert (status, at_us) == (0, now_us)
    return list(ballot_box._ANSWER.iter_unpack(reply[ballot_box._ANSWERED.size :]))


@pytest.mark.timeout(240)
async def test_function_does_what_the_rules_say(valkey: redis.Redis, function: str):
    histories = 0

    @settings(
        max_examples=400,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(campaigns, starts, batches, st.booleans())
    def history(campaign, start, batches, challenges):
        nonlocal histories
        histories += 1
        runner.run(_one_history(valkey, function, campaign, start, batches, challenges))

    runner = _Here()
    await runner.drive(history)
    assert histories >= 400


class _Here:
    """Runs coroutines of a synchronous Hypothesis test on the test's own loop."""

    async def drive(self, test):
        import asyncio

        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(test)

    def run(self, coroutine):
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def _one_history(valkey, function, campaign, start, batches, challenges):
    await valkey.flushdb()
    model = Model(campaign, challenges=challenges)
    now_us = microseconds(start)
    for step_us, batch, replid in batches:
        now_us += step_us
        answers = await cast(valkey, function, campaign, batch, now_us, replid, challenges)
        expected = model.cast(batch, now_us, replid)
        for tap, (code, remaining, wait_ms, epoch, seq), want in zip(
            batch, answers, expected, strict=True
        ):
            got = (
                Outcome.COUNTED if code == 0 else Outcome(code),
                code == 0,
                (epoch, seq) if seq else None,
                None if remaining == 0xFFFF else remaining,
                wait_ms,
            )
            assert got == (
                want.outcome,
                want.again,
                want.position,
                want.remaining,
                -(-want.wait_us // 1000),
            ), tap
    await _assert_same_state(valkey, campaign, model)


async def _assert_same_state(valkey, campaign, model):
    """Tally and journal say what the model says; the journal alone gives the tally."""
    sums = {
        field.decode(): int(n)
        for field, n in (await valkey.hgetall(journal.tally_key(0, campaign.id))).items()
    }
    assert sums == (
        {str(c): n for c, n in model.counted.items()}
        | {f"h{c}": n for c, n in model.held.items()}
        | {f"r{c}:{outcome.value}": n for (c, outcome), n in model.refused.items()}
    )
    entries = await valkey.xrange(journal.journal_key(0))
    votes, refused = [], {}
    last = (0, -1)
    for stream_id, fields in entries:
        entry = journal.unpack_entry(fields[journal.ENTRY_FIELD])
        place = journal.EntryId.parse(stream_id)
        assert place.epoch == entry.epoch
        assert place == ((last[0], last[1] + 1) if place.epoch == last[0] else (place.epoch, 0))
        assert place > last
        last = place
        assert entry.vote_count or entry.refusals
        votes += [(entry.epoch, entry.first_seq + n, vote) for n, vote in enumerate(entry.votes())]
        for refusal in entry.refusals:
            key = (refusal.candidate, refusal.outcome)
            refused[key] = refused.get(key, 0) + refusal.ballots
    assert refused == model.refused
    assert [
        (epoch, seq, v.device, v.network, v.candidate, v.click, v.score, v.reasons)
        for epoch, seq, v in votes
    ] == [
        (epoch, seq, t.device, t.network, t.candidate, t.click, score, reasons)
        for epoch, seq, t, score, reasons in model.votes
    ]
    assert [seq for _, seq, _ in votes] == list(range(1, len(votes) + 1))
