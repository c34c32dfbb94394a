"""The function library against the rules in plain Python, under random histories.

What the function asks its server, its time and its replication id, is replaced by a hash of the
test's, so that histories can jump over midnights, over the window's ends and back, and see servers
change under callers that know it and callers that do not.
"""

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antifraud.capacity import CAPACITIES
from antifraud.limits import Rate
from antifraud.networks import NetworkClass, Prefixes
from antifraud.screen import Verdict
from antifraud.signals import Signals
from tally import closing
from tests.model import Mark, Model, Tap
from voting import ballot_box, journal
from voting.ballot import Ballot, Outcome
from voting.campaign import Campaign, Identity, Limits, Rules, VotingWindow, microseconds
from voting.pseudonyms import Place

ZONE = ZoneInfo("Asia/Shanghai")
OPENS = datetime(2026, 7, 1, 8, tzinfo=ZONE)
CLOSES = datetime(2026, 7, 5, 18, tzinfo=ZONE)
SERVER = "{s0}:test-server"

DEVICES = [bytes([d]) * 8 for d in (0, 1, 2, 3)]
NETWORKS = [b"net-%d" % n + b"\0\0\0" for n in (1, 2)]
# Bytes that look like other fields of a record: candidates 0 and 1, epochs, seqs.
CLICKS = [bytes(6), b"\0\1\0\1\0\1", b"\0\0\0\0\0\1", b"clickA", b"clickB", b"\1\0\1\0\1\0"] + [
    b"c%05d" % n for n in range(20)
]

PER_CANDIDATE = [1, 1, 2, 3]
PER_DAY = [0, 1, 2, 3]
PER_LIFE = [0, 0, 2, 5]
PER_DEVICE = [2, 7, 30]
PER_NETWORK = [1, 3, 1200]
PAUSED = [None] * 9 + ["a test"]
IDENTITIES = [Identity.OPTIONAL] * 5 + [Identity.REQUIRED]
CANDIDATES = [1, 2, 3, 255, 256, 65_535]
SCORES = [0] * 6 + [-800, 1_499, 1_500, 3_999, 4_000, 11_999, 12_000, 32_000]
NETWORK_CLASSES = [0, 0, 1, 2, 4, 5]
WIDES = [b"wide\0\0\0\1", b"wide\0\0\0\2"]
AGES = [0, 0, 3, 86_399, 86_400, 4_000_000_000]
LEVELS = [1, 1, 2, 3, 0x10, 0x11, 0x13, 0x31, 0x22]
AGENTS = [0, 1, 40, 41]
WEIGHTS = [-500, 0, 1, 1_600, 6_200, 30_000]
FACTORS = [1, 2, 3, 255]
REASONS = [bytes(3), b"\x11\x12\x13", b"\x11\0\0"]
JUMPS_US = [86_400_000_000, 43_200_000_000, 600_000_000, -600_000_000, -86_400_000_000]
SERVERS = "ssssssst"  # is it still the same server, or the next one?
CALLERS = "kkko"  # does the caller know it, or an older one?
CLOSINGS = [None] * 8 + [True, True, False, False]  # closes, opens again before the batch


def campaign_of(
    per_candidate, per_day, per_life, device, network, paused, identity=Identity.OPTIONAL
):
    return Campaign(
        number=7,
        id="model",
        title="",
        window=VotingWindow(OPENS, CLOSES, ZONE),
        rules=Rules(
            likes_per_candidate_per_day=per_candidate,
            candidates_per_day=per_day,
            likes_per_campaign=per_life,
            identity=identity,
        ),
        limits=Limits(Rate(device, 60_000_000), Rate(network, 60_000_000)),
        paused_because=paused,
    )


campaigns = st.builds(
    campaign_of,
    *map(
        st.sampled_from,
        (PER_CANDIDATE, PER_DAY, PER_LIFE, PER_DEVICE, PER_NETWORK, PAUSED, IDENTITIES),
    ),
)
taps = st.builds(
    Tap,
    *map(
        st.sampled_from,
        (
            *(DEVICES, NETWORKS, CANDIDATES, CLICKS, SCORES, NETWORK_CLASSES, REASONS),
            *(WIDES, AGES, LEVELS, AGENTS),
        ),
    ),
)
# What `watch` says before a batch: marks of cells, and capacities.
watched = st.one_of(
    st.just(([], [])),
    st.tuples(
        st.lists(
            st.tuples(
                *map(st.sampled_from, (NETWORKS + WIDES, CANDIDATES, WEIGHTS, AGENTS)),
            ),
            max_size=6,
        ),
        st.lists(st.tuples(st.sampled_from(NETWORKS), st.sampled_from(FACTORS)), max_size=2),
    ),
)
# How far the clock moves before a batch: mostly a little, sometimes over midnight, or back.
steps_us = st.one_of(
    st.integers(0, 3_000_000),
    st.integers(0, 3_000_000),
    st.integers(0, 3_600 * 1_000_000),
    st.sampled_from(JUMPS_US),
)
batches = st.lists(
    st.tuples(
        steps_us,
        st.lists(taps, min_size=1, max_size=12),
        st.sampled_from(SERVERS),
        st.sampled_from(CALLERS),
        watched,
        st.sampled_from(CLOSINGS),
    ),
    min_size=1,
    max_size=12,
)
STARTS = [
    OPENS - timedelta(minutes=5),
    OPENS,
    datetime(2026, 7, 2, 23, 59, 58, tzinfo=ZONE),
    CLOSES - timedelta(seconds=2),
]


def history_of(seed):
    """The same by a plain generator: a tenth of the cost of Hypothesis', without its shrinking."""
    chance = random.Random(seed)
    pick = chance.choice

    def step_us():
        most = pick([3_000_000, 3_000_000, 3_600_000_000, 0])
        return chance.randint(0, most) if most else pick(JUMPS_US)

    def watched_now():
        if chance.random() < 0.7:
            return [], []
        return (
            [
                tuple(map(pick, (NETWORKS + WIDES, CANDIDATES, WEIGHTS, AGENTS)))
                for _ in range(chance.randint(0, 6))
            ],
            [(pick(NETWORKS), pick(FACTORS)) for _ in range(chance.randint(0, 2))],
        )

    return (
        campaign_of(
            *map(
                pick,
                (PER_CANDIDATE, PER_DAY, PER_LIFE, PER_DEVICE, PER_NETWORK, PAUSED, IDENTITIES),
            )
        ),
        pick(STARTS),
        [
            (
                step_us(),
                [
                    Tap(
                        *map(
                            pick,
                            (
                                *(DEVICES, NETWORKS, CANDIDATES, CLICKS),
                                *(SCORES, NETWORK_CLASSES, REASONS),
                                *(WIDES, AGES, LEVELS, AGENTS),
                            ),
                        )
                    )
                    for _ in range(chance.randint(1, 12))
                ],
                pick(SERVERS),
                pick(CALLERS),
                watched_now(),
                pick(CLOSINGS),
            )
            for _ in range(chance.randint(1, 12))
        ],
        chance.random() < 0.5,
    )


def _for_test(source, name, functions):
    """A library with the test's server facts, under names of the test's."""
    for real, ours in (
        ("call('TIME')\n  local now", f"call('HMGET', '{SERVER}', 's', 'us')\n  local now"),
        ("call('INFO', 'replication')", f"call('HGET', '{SERVER}', 'info')"),
        *functions.items(),
        (source.partition("\n")[0], f"#!lua name={name}"),
    ):
        assert source.count(real) == 1
        source = source.replace(real, ours)
    return source


@pytest.fixture
def store(valkey_server):
    """The functions with the test's server facts, on an empty Valkey."""
    cast_names = {ballot_box.CAST_FUNCTION: "cast_by_test", ballot_box.SNAPSHOT_FUNCTION: "unused"}
    with redis.Redis.from_url(valkey_server.url) as client:
        for source in (
            _for_test(ballot_box.LIBRARY, "by_test", cast_names),
            _for_test(closing.LIBRARY, "closing_by_test", {closing.FUNCTION: "close_by_test"}),
        ):
            client.function_load(source, replace=True)
        yield client
        client.function_flush()


def set_server(pipeline, now_us, server):
    pipeline.hset(
        SERVER,
        mapping={
            "s": now_us // 1_000_000,
            "us": now_us % 1_000_000,
            "info": f"role:master\r\nmaster_replid:{server}\r\nmaster_replid2:00\r\n",
        },
    )


def close(store, campaign, closed, now_us, server):
    """Whether it left an entry, as tally.closing asks for it."""
    with store.pipeline(transaction=False) as pipeline:
        set_server(pipeline, now_us, server)
        pipeline.fcall(
            "close_by_test",
            2,
            journal.head_key(0),
            journal.journal_key(0),
            closing._ORDER.pack(journal.CLOSING_LAYOUT, 0, 0, campaign.number, closed, now_us),
        )
        _, (status, entry) = pipeline.execute()
    assert status in (closing._APPLIED, closing._DONE)
    if closed or status == closing._APPLIED:
        assert store.xrange(journal.journal_key(0), entry, entry)
    return status == closing._APPLIED


def cast(store, campaign, taps, now_us, server, known_replid, challenges):
    """One call, as `_Queue._send` makes it."""
    day = campaign.window.day_at(now_us)
    yesterday = campaign.window.day_at(day.starts_at_us - 1)
    bodies = [
        journal.pack_ballot(
            Ballot(tap.candidate, tap.device, Place(Prefixes(b"", b"")), tap.click),
            tap.network,
            tap.wide,
            Signals(
                network_class=tap.network_class,
                user_agent_class=tap.agent,
                token_age_seconds=tap.age,
                token_level=tap.level,
            ),
            Verdict(tap.score, tap.reasons),
        )
        for tap in taps
    ]
    with store.pipeline(transaction=False) as pipeline:
        set_server(pipeline, now_us, server)
        pipeline.fcall(
            "cast_by_test",
            9,
            journal.head_key(0),
            journal.journal_key(0),
            journal.tally_key(0, campaign.id),
            journal.day_key(0, campaign.id, day.date),
            journal.day_key(0, campaign.id, yesterday.date),
            journal.network_key(0, campaign.id, day.date),
            journal.life_key(0, campaign.id),
            journal.cells_key(0, campaign.id, day.date),
            journal.capacity_key(0, campaign.id, day.date),
            ballot_box._pack_plan(campaign, day, 0, 0, challenges),
            known_replid,
            b"".join(bodies),
        )
        _, reply = pipeline.execute()
    status, at_us = ballot_box._ANSWERED.unpack_from(reply)
    assert (status, at_us) == (0, now_us)
    return list(ballot_box._ANSWER.iter_unpack(reply[ballot_box._ANSWERED.size :]))


@pytest.mark.timeout(240)
def test_function_does_what_the_rules_say(store):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(campaigns, st.sampled_from(STARTS), batches, st.booleans())
    def history(campaign, start, batches, challenges):
        _one_history(store, campaign, start, batches, challenges)

    history()


@pytest.mark.timeout(240)
def test_function_does_what_the_rules_say_in_a_thousand_histories(store):
    for seed in range(1_000):
        try:
            _one_history(store, *history_of(seed))
        except AssertionError as why:
            raise AssertionError(f"history_of({seed})") from why


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_function_does_what_the_rules_say_in_new_histories_each_time(store):
    first = random.SystemRandom().randrange(10**9)
    for seed in range(first, first + 4_000):
        try:
            _one_history(store, *history_of(seed))
        except AssertionError as why:
            raise AssertionError(f"history_of({seed})") from why


def test_a_wide_network_has_a_rate_of_new_devices_of_its_own(store):
    """Twelve new devices in twelve networks of one datacentre's /24: the ninth is too many."""
    store.flushdb()
    campaign = campaign_of(1, 0, 0, 30, 1200, None)
    taps = [
        Tap(b"device%02d" % n, b"net---%02d" % n, 1, b"c%05d" % n, network_class=4)
        for n in range(24)
    ]
    now_us = microseconds(OPENS)
    answers = [
        code
        for batch in (taps[:12], taps[12:])
        for code, *_ in cast(store, campaign, batch, now_us, "00", "00", True)
    ]
    assert answers == [Outcome.COUNTED] * 8 + [Outcome.CHALLENGE] * 16
    # Who has solved a challenge is counted, and takes nothing from its own network's rate.
    proven = Tap(b"device99", b"net---99", 1, b"c00099", network_class=4, level=0x11)
    ((code, *_),) = cast(store, campaign, [proven], now_us, "00", "00", True)
    assert code == Outcome.COUNTED
    day = campaign.window.day_at(now_us).date
    assert store.hget(journal.network_key(0, campaign.id, day), b"net---99")[16:] == bytes(8)


def test_each_wide_network_of_a_batch_has_its_own_budget(store):
    store.flushdb()
    campaign = campaign_of(1, 0, 0, 30, 1200, None)
    taps = [
        Tap(b"device%02d" % n, b"net---%02d" % n, 1, b"c%05d" % n, network_class=4, wide=wide)
        for n, wide in enumerate((WIDES[0], WIDES[0], WIDES[1]))
    ]
    now_us = microseconds(OPENS)
    cast(store, campaign, taps, now_us, "00", "00", True)
    kept = journal.network_key(0, campaign.id, campaign.window.day_at(now_us).date)
    interval_us = CAPACITIES[NetworkClass.DATACENTRE].new_devices_wide.interval_us
    assert [int.from_bytes(store.hget(kept, wide), "big") - now_us for wide in WIDES] == [
        2 * interval_us,
        interval_us,
    ]


@pytest.mark.parametrize("step_us", [0, 60_000_000])
def test_a_networks_rate_of_new_devices_is_kept_whatever_its_limit_of_votes_does(store, step_us):
    """One home, eight new devices at once or one each minute: the seventh is one too many, be the
    limit of votes in use or not."""
    store.flushdb()
    campaign = campaign_of(1, 0, 0, 30, 1200, None)
    answers = []
    for n in range(8):
        tap = Tap(b"device%02d" % n, b"one-home", 1, b"c%05d" % n, network_class=2, level=1)
        now_us = microseconds(OPENS) + n * step_us
        ((code, *_),) = cast(store, campaign, [tap], now_us, "00", "00", True)
        answers.append(code)
    assert answers == [Outcome.COUNTED] * 6 + [Outcome.CHALLENGE] * 2


def test_whom_a_portal_vouches_for_is_no_new_device_and_is_limited_as_any_other(store):
    """One home, eight people new today, then one who is not vouched for: its rate of new devices
    is untouched. Above its limit of votes they are held like all others."""
    store.flushdb()
    campaign, strict = (campaign_of(1, 0, 0, 30, most, None) for most in (1200, 1))
    now_us = microseconds(OPENS)

    def answers(level, numbers, campaign=campaign):
        taps = [
            Tap(b"device%02d" % n, b"one-home", 1, b"c%05d" % n, network_class=2, level=level)
            for n in numbers
        ]
        return [code for code, *_ in cast(store, campaign, taps, now_us, "00", "00", True)]

    assert answers(0x13, range(8)) == [Outcome.COUNTED] * 8
    day = campaign.window.day_at(now_us).date
    kept = store.hget(journal.network_key(0, campaign.id, day), b"one-home")
    assert kept[16:] == bytes(8)
    assert answers(0x01, [8]) == [Outcome.COUNTED]
    store.flushdb()
    assert answers(0x13, range(3), strict) == [Outcome.COUNTED, Outcome.HELD, Outcome.HELD]


def damage_mark(store, campaign, day):
    key = journal.cells_key(0, campaign.id, day)
    for length in (0, 1, 2, 4, 5):
        store.hset(key, NETWORKS[0] + length.to_bytes(2, "big"), b"\x7f" * length)


def damage_factor(value):
    def damage(store, campaign, day):
        store.hset(journal.capacity_key(0, campaign.id, day), NETWORKS[0], value)

    return damage


def damage_keys(store, campaign, day):
    store.set(journal.cells_key(0, campaign.id, day), "no hash")
    store.set(journal.capacity_key(0, campaign.id, day), "no hash")


def damage_network(store, campaign, day):
    key = journal.network_key(0, campaign.id, day)
    store.hset(key, mapping={NETWORKS[0]: b"12345", WIDES[0]: b"12345"})


@pytest.mark.parametrize(
    "damage",
    [damage_mark, damage_factor(b""), damage_factor(b"\0"), damage_keys, damage_network],
)
def test_what_is_damaged_beside_the_votes_keeps_nobody_from_voting(store, damage):
    store.flushdb()
    campaign = campaign_of(1, 0, 0, 30, 1200, None)
    now_us = microseconds(OPENS)
    damage(store, campaign, campaign.window.day_at(now_us).date)
    taps = [
        Tap(DEVICES[n % 4], NETWORKS[0], n, b"c%05d" % n, -4_600, wide=WIDES[0]) for n in range(6)
    ]
    for batch in (taps[:3], taps[3:]):
        answers = cast(store, campaign, batch, now_us, "00", "00", True)
        assert [code for code, *_ in answers] == [Outcome.COUNTED] * 3


def _one_history(store, campaign, start, batches, challenges):
    store.flushdb()
    model = Model(campaign, challenges=challenges)
    now_us = microseconds(start)
    servers = ["00"]
    closings = []
    for step_us, batch, server, caller, (marks, capacities), closes in batches:
        now_us += step_us
        day = campaign.window.day_at(now_us).date
        for place, candidate, weight, agent in marks:
            model.cells[day, place, candidate] = Mark(weight, agent)
            store.hset(
                journal.cells_key(0, campaign.id, day),
                place + candidate.to_bytes(2, "big"),
                journal.CELL.pack(weight, agent),
            )
        for network, factor in capacities:
            model.capacities[day, network] = factor
            store.hset(journal.capacity_key(0, campaign.id, day), network, bytes((factor,)))
        if server == "t":
            servers.append(f"{len(servers):02x}")
        known = servers[-1] if caller == "k" else servers[max(0, len(servers) - 2)]
        if closes is not None:
            left_an_entry = model.close(closed=closes, replid=servers[-1])
            assert close(store, campaign, closes, now_us, servers[-1]) == left_an_entry
            if left_an_entry:
                closings.append((closes, model.epoch, model.seq + 1, now_us))
        answers = cast(store, campaign, batch, now_us, servers[-1], known, challenges)
        expected = model.cast(batch, now_us, servers[-1], known)
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
    _assert_same_state(store, campaign, model, closings)


def _assert_same_state(store, campaign, model, closings):
    """Tally and journal say what the model says; the journal alone gives the tally."""
    sums = {
        field.decode(): int(n)
        for field, n in store.hgetall(journal.tally_key(0, campaign.id)).items()
    }
    assert sums == (
        {str(c): n for c, n in model.counted.items()}
        | {f"h{c}": n for c, n in model.held.items()}
        | {f"r{c}:{outcome.value}": n for (c, outcome), n in model.refused.items()}
    )
    entries = store.xrange(journal.journal_key(0))
    votes, refused, closed = [], {}, []
    last = (0, -1)
    for stream_id, fields in entries:
        entry = journal.unpack_entry(fields[journal.ENTRY_FIELD])
        place = journal.EntryId.parse(stream_id)
        assert place.epoch == entry.epoch
        assert place == ((last[0], last[1] + 1) if place.epoch == last[0] else (place.epoch, 0))
        assert place > last
        last = place
        if isinstance(entry, journal.Closing):
            closed.append((entry.closed, entry.epoch, entry.first_seq, entry.at_us))
            continue
        assert not closed or not closed[-1][0], "nothing comes behind the entry that closed it"
        assert entry.vote_count or entry.refusals
        votes += [(entry.epoch, entry.first_seq + n, vote) for n, vote in enumerate(entry.votes())]
        for refusal in entry.refusals:
            key = (refusal.candidate, refusal.outcome)
            refused[key] = refused.get(key, 0) + refusal.ballots
    assert closed == closings
    assert refused == model.refused
    assert [
        (epoch, seq, v.device, v.network, v.candidate, v.click, v.score, v.reasons, v.verdict)
        for epoch, seq, v in votes
    ] == [
        (epoch, seq, t.device, t.network, t.candidate, t.click, score, reasons, verdict)
        for epoch, seq, t, score, reasons, verdict in model.votes
    ]
    assert [seq for _, seq, _ in votes] == list(range(1, len(votes) + 1))
