"""The ballot box: group commit of ballots into the store.

While one call of the function is in flight, ballots gather; the next call carries them all. One
batch costs one round trip, one journal entry and one fsync. Under low load nothing waits: the
first ballot leaves with the current turn of the event loop.

Owner: one `BallotBox` per shard and edge process (`BallotBoxes`). A crash of the edge with a batch
in flight leaves ballots whose fate their clients do not know: the same click again finds the first
answer, or is cast now.
"""

import asyncio
import random
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import hiredis
import msgspec
import structlog

from antifraud.capacity import CAPACITIES, FAR_FACTOR
from antifraud.heuristics import STORE_WEIGHTS
from antifraud.limits import Rate
from antifraud.screen import BANDS, Verdict
from antifraud.signals import Signals
from voting import journal
from voting.ballot import Ballot, Cast, Outcome, Position
from voting.campaign import Campaign, CampaignDay, Identity
from voting.function_library import read_library
from voting.pseudonyms import Pseudonyms
from voting.receipt import Receipts
from voting.store_line import StoreDown, StoreLine, StoreMoved

log = structlog.get_logger()

BATCH_MAX = 256
"""Ballots in one call. The store serves nobody else meanwhile: about 1.5 ms at this size."""

_PLAN = struct.Struct(">BBHHIQQQQBHHIQQhhhhhBB")
_CLASS_RATES = struct.Struct(">8Q")
_ANSWERED = struct.Struct(">BQ")
_ANSWER = struct.Struct(">BHIHQ")
_HOLD_ALL = (-0x8000, -0x8000, 0x7FFF)
"""Bands by which no score is challenged or refused, and every one is held."""
_CAST, _WRONG_DAY = 0, 1
_AGAIN = 0
_NO_QUOTA = 0xFFFF
_OUTCOMES = {outcome.value: outcome for outcome in Outcome} | {_AGAIN: Outcome.COUNTED}


LIBRARY, _VERSION = read_library("ballot_box")

CAST_FUNCTION = f"cast_{_VERSION}"
SNAPSHOT_FUNCTION = f"snapshot_{_VERSION}"


class BallotBoxError(Exception):
    """The function's answer is not what this version understands."""


class Snapshot(NamedTuple):
    """Sums of one campaign on one shard, and the position up to which they hold."""

    at_us: int
    epoch: int
    seq: int
    sums: dict[bytes, int]
    """Field of the tally hash (see journal.py) -> sum."""


OnCast = Callable[[Cast], None]


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """One ballot on its way."""

    ballot: Ballot
    signals: Signals
    verdict: Verdict
    on_cast: OnCast


class BallotBox:
    """Casts ballots on one shard. `put` never raises for what happens on an ordinary day."""

    def __init__(
        self,
        line: StoreLine,
        pseudonyms: Pseudonyms,
        receipts: Receipts,
        *,
        shard: int = 0,
        shards: int = 1,
        waiting_max: int = 2_048,
        moving_seconds: float = 2.0,
        late_seconds: float = 1.0,
        challenges: bool = False,
        observe_batch: Callable[[int, float], None] = lambda ballots, seconds: None,
    ) -> None:
        """`shards`: of how many this is one: a network has this part of its rate here, and the
        whole burst. `moving_seconds`: so long ballots wait for a primary that is being changed.
        `late_seconds`: while a batch is under way for longer, no further ballot is taken.
        `observe_batch` hears of every answered batch: how many ballots, how many seconds."""
        self.line = line
        self._pseudonyms = pseudonyms
        self._receipts = receipts
        self._shard = shard
        self._shards = shards
        self._waiting_max = waiting_max
        self._moving_seconds = moving_seconds
        self._late_seconds = late_seconds
        self._challenges = challenges
        self._observe_batch = observe_batch
        self._queues: dict[str, _Queue] = {}
        self.waiting = 0
        """Ballots that wait or are in flight."""
        self.late_batches = 0
        """Batches that are under way for too long: whoever came now would wait longer still."""
        self.refusing = False
        """Set by whoever watches the store's memory: no ballot is taken while it is true."""
        self.memory_share = 0.0
        """Of the store's maxmemory, by the same."""
        self.epoch_floor = 0
        """Highest epoch known from Postgres: a store that lost its head starts above it."""
        self.clock_offset_us = 0
        """The store's clock less ours, as of its last answer."""

    @property
    def ready(self) -> bool:
        """Whether a ballot could be cast now."""
        return self.line.connected and not self.refusing

    @property
    def full(self) -> bool:
        """Whether a ballot that came now would be OVERLOADED."""
        # `stands_still` written out: asked twice for each like, a property in it costs 0.2 us.
        return self.refusing or self.late_batches > 0 or self.waiting >= self._waiting_max

    @property
    def crowded(self) -> bool:
        """Whether as many wait as may."""
        return self.waiting >= self._waiting_max

    @property
    def stands_still(self) -> bool:
        """Whether no ballot is taken now, however few wait: the store has no room, or is late."""
        return self.refusing or self.late_batches > 0

    def store_now_us(self) -> int:
        """The store's time, as well as this process knows it."""
        return time.time_ns() // 1000 + self.clock_offset_us

    def put(
        self,
        campaign: Campaign,
        ballot: Ballot,
        signals: Signals,
        verdict: Verdict,
        on_cast: OnCast,
    ) -> None:
        """Cast one ballot; `on_cast` hears once what became of it, at once where there is no
        room. OVERLOADED: it was not cast. STORE_DOWN: nobody knows; the same click again finds
        out. A callback, for a future parked and woken costs 2.5 us."""
        if self.full:
            on_cast(_OVERLOADED)
            return
        queue = self._queues.get(campaign.id)
        if queue is None:
            queue = self._queues[campaign.id] = _Queue(self, campaign)
        self.waiting += 1
        queue.add(campaign, _Waiting(ballot, signals, verdict, on_cast))

    async def snapshot(self, campaign_id: str) -> Snapshot:
        """The campaign's sums; StoreDown where the store does not answer."""
        reply = await self.line.ask(
            "FCALL_RO",
            SNAPSHOT_FUNCTION,
            2,
            journal.head_key(self._shard),
            journal.tally_key(self._shard, campaign_id),
        )
        at_us, epoch, seq, fields = reply
        self.clock_offset_us = int(at_us) - time.time_ns() // 1000
        sums = dict(zip(fields[::2], map(int, fields[1::2]), strict=True))
        return Snapshot(int(at_us), int(epoch), int(seq), sums)

    async def device_day(self, campaign: Campaign, device: bytes, day: CampaignDay) -> bytes:
        """The device-day record (see journal.py), empty where there is none."""
        key = journal.day_key(self._shard, campaign.id, day.date)
        return await self.line.ask("HGET", key, device) or b""

    async def likes_in_campaign(self, campaign: Campaign, device: bytes) -> int:
        """Likes of a device in the whole campaign; counted only where they are limited."""
        return int(
            await self.line.ask("HGET", journal.life_key(self._shard, campaign.id), device) or 0
        )


class BallotBoxes:
    """The ballot boxes of all shards. A device's ballots go into its shard's, whatever becomes of
    the others: where one shard is away, the others' devices vote on."""

    def __init__(self, boxes: Sequence[BallotBox]) -> None:
        """By shard, from 0 on."""
        self._boxes = list(boxes)

    def __iter__(self) -> Iterator[BallotBox]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)

    def of(self, shard: int) -> BallotBox | None:
        """None where this edge does not know the shard yet: others, started later, do."""
        return self._boxes[shard] if shard < len(self._boxes) else None

    def shard_of_new(self) -> int:
        """The shard of a new device: any, but of those that take ballots now where some do."""
        ready = [shard for shard, box in enumerate(self._boxes) if box.ready]
        return random.choice(ready) if ready else random.randrange(len(self._boxes))  # noqa: S311

    @property
    def ready(self) -> bool:
        """Whether a ballot of some shard could be cast now."""
        return any(box.ready for box in self._boxes)

    @property
    def all_ready(self) -> bool:
        """Whether every ballot could."""
        return all(box.ready for box in self._boxes)

    @property
    def full(self) -> bool:
        """Whether a ballot that came now would be OVERLOADED, whosever it is."""
        for box in self._boxes:  # noqa: SIM110  # asked for each like: a generator costs 0.3 us
            if not box.full:
                return False
        return True

    @property
    def crowded(self) -> bool:
        """Whether as many ballots wait as may, on every shard."""
        return all(box.crowded for box in self._boxes)

    @property
    def stand_still(self) -> bool:
        """Whether no shard takes a ballot now, however few wait."""
        return all(box.stands_still for box in self._boxes)

    @property
    def waiting(self) -> int:
        """Ballots that wait or are in flight."""
        return sum(box.waiting for box in self._boxes)

    def store_now_us(self) -> int:
        """The time of shard 0's store, as well as this process knows it: one for all that is shown.
        Each shard's votes are stamped and judged by its own."""
        return self._boxes[0].store_now_us()


_OVERLOADED = Cast(Outcome.OVERLOADED)
_STORE_DOWN = Cast(Outcome.STORE_DOWN)
_MOVED_TRY_SECONDS = 0.02


class _Queue:
    """The ballots of one campaign: a batch in flight, and those that gather for the next."""

    def __init__(self, box: BallotBox, campaign: Campaign) -> None:
        self._box = box
        self._campaign = campaign
        self._gathering: deque[_Waiting] = deque()
        self._busy = False
        """A batch is in flight, or about to leave with this turn of the loop."""
        self._moved_at: float | None = None
        """Since when the shard's primary is looked for, with ballots that were not cast."""
        self._late_timer: asyncio.TimerHandle | None = None
        """Until the batch under way is late; None where none is, or it is."""
        self._late = False
        self._plan_of: tuple[Campaign, CampaignDay, int] | None = None
        self._day = campaign.window.day_at(box.store_now_us())
        self._head: tuple[bytes | str | int, ...] = ()

    def add(self, campaign: Campaign, waiting: _Waiting) -> None:
        self._campaign = campaign
        self._gathering.append(waiting)
        if not self._busy:
            self._busy = True
            # Not now: whatever else this turn of the loop brings goes along.
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        gathering = self._gathering
        batch = [gathering.popleft() for _ in range(min(len(gathering), BATCH_MAX))]
        box = self._box
        try:
            self._refresh_plan()
            day = self._day.date
            networks_of = box._pseudonyms.networks
            bodies = []
            for waiting in batch:
                ballot = waiting.ballot
                network, wide = networks_of(ballot.place, day)
                bodies.append(
                    journal.pack_ballot(ballot, network, wide, waiting.signals, waiting.verdict)
                )
            box.line.call(
                *self._head,
                box.line.replid,
                b"".join(bodies),
                on_reply=partial(self._landed, batch, time.monotonic()),
            )
            self._late_timer = asyncio.get_running_loop().call_later(
                box._late_seconds, self._gets_late
            )
        except StoreDown:
            if self._moved_at is not None:
                self._wait_for_primary(batch)
                return
            self._busy = False
            self._answer_all([*batch, *gathering], _STORE_DOWN)
            gathering.clear()
        except Exception:
            # A defect of ours. These ballots get 503; the queue must go on for the next ones.
            log.exception("batch-not-sent")
            self._answer_all(batch, _STORE_DOWN)
            self._next()

    def _gets_late(self) -> None:
        self._late_timer = None
        self._late = True
        self._box.late_batches += 1

    def _landed(self, batch: list[_Waiting], sent_at: float, reply: Any) -> None:
        if self._late_timer is not None:
            self._late_timer.cancel()
        elif self._late:
            self._late = False
            self._box.late_batches -= 1
        self._late_timer = None
        if isinstance(reply, StoreMoved):
            self._wait_for_primary(batch)
            return
        self._moved_at = None
        try:
            if isinstance(reply, bytes):
                self._read_answers(batch, reply)
                self._box._observe_batch(len(batch), time.monotonic() - sent_at)
            else:
                self._refused(batch, reply)
        except Exception:
            log.exception("batch-answer-unread")
            self._answer_all(batch, _STORE_DOWN)
        self._next()

    def _wait_for_primary(self, batch: list[_Waiting]) -> None:
        """These were not cast, for the shard is elsewhere or not ready: they go again, first in
        line, when it is found. Where that takes too long they are OVERLOADED."""
        now = time.monotonic()
        if self._moved_at is None:
            self._moved_at = now
        gathering = self._gathering
        gathering.extendleft(reversed(batch))
        if now - self._moved_at < self._box._moving_seconds:
            asyncio.get_running_loop().call_later(_MOVED_TRY_SECONDS, self._send)
            return
        self._moved_at = None
        self._busy = False
        self._answer_all(list(gathering), _OVERLOADED)
        gathering.clear()

    def _next(self) -> None:
        if self._gathering:
            self._send()
        else:
            self._busy = False

    def _read_answers(self, batch: list[_Waiting], reply: bytes) -> None:
        box = self._box
        status, now_us = _ANSWERED.unpack_from(reply)
        box.clock_offset_us = now_us - time.time_ns() // 1000
        if status == _WRONG_DAY:
            # Midnight passed between us and the store. Nothing was cast; the same ballots go
            # again, first in line, as ballots of the day that the store has.
            self._day = self._campaign.window.day_at(now_us)
            self._gathering.extendleft(reversed(batch))
            return
        if status != _CAST or len(reply) != _ANSWERED.size + len(batch) * _ANSWER.size:
            raise BallotBoxError(f"status {status}, {len(reply)} bytes for {len(batch)} ballots")
        shard = box._shard
        answers = list(_ANSWER.iter_unpack(memoryview(reply)[_ANSWERED.size :]))
        positions = [Position(shard, epoch, seq) for _, _, _, epoch, seq in answers if seq]
        receipts = iter(box._receipts.seal(positions, self._campaign.number))
        places = iter(positions)
        casts = [
            Cast(
                _OUTCOMES[code],
                next(places) if seq else None,
                None if remaining == _NO_QUOTA else remaining,
                wait_ms,
                code == _AGAIN,
                next(receipts) if seq else None,
            )
            for code, remaining, wait_ms, _, seq in answers
        ]
        self._tell(batch, casts)

    def _refused(self, batch: list[_Waiting], why: Any) -> None:
        """The store answered with an error: nothing of this batch was cast."""
        text = str(why)
        if isinstance(why, hiredis.ReplyError):
            log.error("store-refused", why=text[:200], ballots=len(batch))
            if "Function not found" in text:
                # Emptied under us: greet it anew.
                self._box.line.drop()
        self._answer_all(batch, _OVERLOADED if text.startswith("OOM") else _STORE_DOWN)

    def _answer_all(self, batch: list[_Waiting], cast: Cast) -> None:
        self._tell(batch, [cast] * len(batch))

    def _tell(self, batch: list[_Waiting], casts: list[Cast]) -> None:
        self._box.waiting -= len(batch)
        for waiting, cast in zip(batch, casts, strict=True):
            try:
                waiting.on_cast(cast)
            except Exception:
                # One client's answer must not cost the others theirs.
                log.exception("cast-mishandled")

    def _refresh_plan(self) -> None:
        """The plan of the call: made anew when the campaign, the day or the floor is another."""
        box, campaign = self._box, self._campaign
        now_us = box.store_now_us()
        if not self._day.starts_at_us <= now_us < self._day.ends_at_us:
            self._day = campaign.window.day_at(now_us)
        day = self._day
        made = self._plan_of
        if made and made[0] is campaign and made[1] is day and made[2] == box.epoch_floor:
            return
        shard, campaign_id = box._shard, campaign.id
        yesterday = campaign.window.day_at(day.starts_at_us - 1)
        self._head = (
            "FCALL",
            CAST_FUNCTION,
            9,
            journal.head_key(shard),
            journal.journal_key(shard),
            journal.tally_key(shard, campaign_id),
            journal.day_key(shard, campaign_id, day.date),
            journal.day_key(shard, campaign_id, yesterday.date),
            journal.network_key(shard, campaign_id, day.date),
            journal.life_key(shard, campaign_id),
            journal.cells_key(shard, campaign_id, day.date),
            journal.capacity_key(shard, campaign_id, day.date),
            _pack_plan(campaign, day, shard, box.epoch_floor, box._challenges, box._shards),
        )
        self._plan_of = (campaign, day, box.epoch_floor)


def _pack_plan(
    campaign: Campaign,
    day: CampaignDay,
    shard: int,
    epoch_floor: int,
    challenges: bool,
    shards: int = 1,
) -> bytes:
    window, rules, limits = campaign.window, campaign.rules, campaign.limits

    def of_a_network(rate: Rate | None) -> tuple[int, int]:
        # Its devices are spread over the shards, each of which sees a part of them: a part of the
        # rate, but the whole burst, which is window / interval.
        interval_us, window_us = _interval_and_window(rate)
        return interval_us * shards, window_us * shards

    head = _PLAN.pack(
        journal.LAYOUT,
        shard,
        epoch_floor,
        campaign.number,
        day.number,
        day.starts_at_us,
        day.ends_at_us,
        window.opens_at_us,
        window.closes_at_us,
        campaign.paused_because is not None,
        rules.likes_per_candidate_per_day,
        rules.candidates_per_day,
        rules.likes_per_campaign,
        *_interval_and_window(limits.per_device),
        *(_HOLD_ALL if campaign.holds_all else BANDS),
        *STORE_WEIGHTS,
        challenges,
        Outcome.IDENTITY_REQUIRED if rules.identity is Identity.REQUIRED else 0,
    )
    return head + b"".join(
        _CLASS_RATES.pack(
            *of_a_network(votes := capacity.votes(limits.per_network)),
            *of_a_network(votes.times(FAR_FACTOR)),
            *of_a_network(capacity.new_devices),
            *of_a_network(capacity.new_devices_wide),
        )
        for capacity in CAPACITIES.values()
    )


def _interval_and_window(rate: Rate | None) -> tuple[int, int]:
    return (0, 0) if rate is None else (rate.interval_us, rate.window_us)
