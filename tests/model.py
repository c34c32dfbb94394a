"""The rules of the ballot box in plain Python: what `ballot_box.lua` must do, without its bytes.

Kept as simple as the rules allow, so that a reader can check it against design.md by eye; speed
does not matter here. Built from antifraud's own pure rules, so that the function is held against
those too.
"""

from dataclasses import dataclass, field
from datetime import date

from antifraud.capacity import CAPACITIES, FAR_FACTOR
from antifraud.limits import Rate, take, wait_us
from antifraud.networks import NetworkClass
from antifraud.screen import Decision, conclude
from antifraud.signals import LEVEL_BITS, LOW_END, PROVEN, VOUCHED
from voting.ballot import REFUSALS, Outcome
from voting.campaign import Campaign, CampaignDay, Identity

GRACE_US = 15 * 60 * 1_000_000
DAY_SECONDS = 86_400


@dataclass
class Tap:
    """One ballot as the model sees it."""

    device: bytes
    network: bytes
    candidate: int
    click: bytes
    score: int = 0
    network_class: int = 0
    reasons: bytes = bytes(3)
    wide: bytes = b"wide\0\0\0\0"
    age: int = 0
    level: int = 1
    agent: int = 0


@dataclass
class Mark:
    """What `watch` said of a cell."""

    weight: int
    agent: int = 0
    """Only of this user agent class; 0 = of any."""


@dataclass
class Given:
    """One like that became a vote."""

    candidate: int
    click: bytes
    epoch: int
    seq: int


@dataclass
class Answer:
    outcome: Outcome
    again: bool = False
    position: tuple[int, int] | None = None
    remaining: int | None = None
    wait_us: int = 0


@dataclass
class Model:
    campaign: Campaign
    challenges: bool = False
    closed: bool = False
    """By an entry of the journal, whatever the window says."""
    replid: str | None = None
    epoch: int = 0
    seq: int = 0
    likes: dict[tuple[date, bytes], list[Given]] = field(default_factory=dict)
    device_free: dict[tuple[date, bytes], int] = field(default_factory=dict)
    near_free: dict[tuple[date, bytes], int] = field(default_factory=dict)
    far_free: dict[tuple[date, bytes], int] = field(default_factory=dict)
    new_free: dict[tuple[date, bytes], int] = field(default_factory=dict)
    """Of networks and of wide ones: no two of them are named alike."""
    cells: dict[tuple[date, bytes, int], Mark] = field(default_factory=dict)
    """(day, network or wide network, candidate) -> mark."""
    capacities: dict[tuple[date, bytes], int] = field(default_factory=dict)
    life: dict[bytes, int] = field(default_factory=dict)
    counted: dict[int, int] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    refused: dict[tuple[int, Outcome], int] = field(default_factory=dict)
    votes: list[tuple[int, int, Tap, int, bytes, Decision]] = field(default_factory=list)
    """(epoch, seq, tap, final score, final reasons, verdict)"""

    def cast(self, taps: list[Tap], now_us: int, replid: str, known: str) -> list[Answer]:
        """One batch, on the server with this replication id, by a caller who knows that or an
        older one. A new epoch is kept only if the batch leaves a journal entry."""
        another = self.replid not in (known, replid)
        epoch = self.epoch + another
        day = self.campaign.window.day_at(now_us)
        yesterday = self.campaign.window.day_at(day.starts_at_us - 1)
        left_a_trace = False
        answers = []
        for tap in taps:
            answer = self._cast_one(tap, now_us, epoch, day, yesterday)
            answers.append(answer)
            is_vote = answer.position is not None and answer.outcome in (
                Outcome.COUNTED,
                Outcome.HELD,
            )
            left_a_trace |= (is_vote and not answer.again) or answer.outcome in REFUSALS
        if left_a_trace:
            self.epoch = epoch
            if another:
                self.replid = replid
        return answers

    def close(self, *, closed: bool, replid: str) -> bool:
        """Close or open again, on the server with this replication id; whether that left an entry
        in the journal, and with it a new epoch where the server is another one."""
        if self.closed is closed:
            return False
        self.closed = closed
        if self.replid != replid:
            self.epoch += 1
            self.replid = replid
        return True

    def _cast_one(
        self, tap: Tap, now: int, epoch: int, day: CampaignDay, yesterday: CampaignDay
    ) -> Answer:
        window, rules = self.campaign.window, self.campaign.rules
        today = self.likes.setdefault((day.date, tap.device), [])
        earlier = self.likes.get((yesterday.date, tap.device), [])
        recent = [*today, *(earlier if now < day.starts_at_us + GRACE_US else [])]

        for given in recent:
            if given.click == tap.click:
                if given.candidate != tap.candidate:
                    return Answer(Outcome.CLICK_REUSED, remaining=self._remaining(tap, today))
                return Answer(
                    Outcome.COUNTED,
                    again=True,
                    position=(given.epoch, given.seq),
                    remaining=self._remaining(tap, today),
                )

        if self.closed or now >= window.closes_at_us:
            return Answer(Outcome.CLOSED, remaining=self._remaining(tap, today))
        if now < window.opens_at_us:
            return Answer(Outcome.NOT_OPEN, remaining=self._remaining(tap, today))
        if self.campaign.paused_because is not None:
            return Answer(Outcome.PAUSED, remaining=self._remaining(tap, today))
        if rules.identity is Identity.REQUIRED and tap.level & LEVEL_BITS != VOUCHED:
            return Answer(Outcome.IDENTITY_REQUIRED, remaining=self._remaining(tap, today))

        mine = [given for given in today if given.candidate == tap.candidate]
        if len(mine) >= rules.likes_per_candidate_per_day:
            return Answer(
                Outcome.REPEATED,
                position=(mine[-1].epoch, mine[-1].seq),
                remaining=self._remaining(tap, today),
            )
        liked = {given.candidate for given in today}
        spent = (
            bool(rules.candidates_per_day) and not mine and len(liked) >= rules.candidates_per_day
        )
        spent |= bool(rules.likes_per_campaign) and (
            self.life.get(tap.device, 0) >= rules.likes_per_campaign
        )
        if spent:
            return self._refuse(tap, Outcome.QUOTA_SPENT, today)

        limits = self.campaign.limits
        capacity = CAPACITIES[NetworkClass(tap.network_class)]
        factor = self.capacities.get((day.date, tap.network), 1)
        votes = capacity.votes(limits.per_network)
        near, far = _Grown(votes, factor), _Grown(votes.times(FAR_FACTOR), factor)
        device_key, network_key = (day.date, tap.device), (day.date, tap.network)
        free = (
            self.device_free.get(device_key, 0),
            self.far_free.get(network_key, 0),
            self.near_free.get(network_key, 0),
        )
        device_ok, device_next = take(limits.per_device, free[0], now)
        far_ok, far_next = take(far, free[1], now)
        near_ok, near_next = take(near, free[2], now)
        if not device_ok:
            wait = wait_us(limits.per_device, free[0], now)
            return self._refuse(tap, Outcome.THROTTLED, today, wait)
        if not far_ok:
            return self._refuse(tap, Outcome.THROTTLED, today, wait_us(far, free[1], now))
        if not near_ok and tap.network_class == NetworkClass.DATACENTRE:
            wait = wait_us(near, free[2], now)
            return self._refuse(tap, Outcome.THROTTLED, today, wait)

        new_ok, new_next = self._new_device(tap, today, day.date, now, factor)
        marks = (
            self.cells.get((day.date, place, tap.candidate)) for place in (tap.network, tap.wide)
        )
        decision, score, reasons = conclude(
            tap.score,
            tap.reasons,
            proven=bool(tap.level & PROVEN),
            slowly=bool(tap.level & LOW_END),
            challenges=self.challenges,
            over_limit=not near_ok,
            over_new_devices=not new_ok,
            cell_weight=max(
                (mark.weight for mark in marks if mark and mark.agent in (0, tap.agent)), default=0
            ),
        )
        if decision is Decision.REFUSE:
            return self._refuse(tap, Outcome.REFUSED, today)
        if decision is Decision.CHALLENGE:
            return Answer(Outcome.CHALLENGE, remaining=self._remaining(tap, today))

        self.seq += 1
        today.append(Given(tap.candidate, tap.click, epoch, self.seq))
        self.device_free[device_key] = device_next
        self.far_free[network_key] = far_next
        self.near_free[network_key] = near_next
        if new_ok:
            self.new_free |= new_next
        if rules.likes_per_campaign:
            self.life[tap.device] = self.life.get(tap.device, 0) + 1
        self.votes.append((epoch, self.seq, tap, score, reasons, decision))
        held = decision is Decision.HOLD
        sums = self.held if held else self.counted
        sums[tap.candidate] = sums.get(tap.candidate, 0) + 1
        return Answer(
            Outcome.HELD if held else Outcome.COUNTED,
            position=(epoch, self.seq),
            remaining=self._remaining(tap, today),
        )

    def _new_device(
        self, tap: Tap, today: list[Given], day: date, now: int, factor: int
    ) -> tuple[bool, dict[tuple[date, bytes], int]]:
        """Whether its networks' rates of new devices admit this one, and what they become."""
        capacity = CAPACITIES[NetworkClass(tap.network_class)]
        vouched = tap.level & LEVEL_BITS == VOUCHED
        if today or capacity.new_devices is None or tap.age >= DAY_SECONDS or vouched:
            return True, {}
        becomes = {}
        admitted_by_all = True
        for place, rate in (
            (tap.network, capacity.new_devices),
            (tap.wide, capacity.new_devices_wide),
        ):
            before = self.new_free.get((day, place), 0)
            admitted, becomes[day, place] = take(_Grown(rate, factor), before, now)
            admitted_by_all &= admitted
        return admitted_by_all, becomes

    def _refuse(self, tap: Tap, outcome: Outcome, today: list[Given], wait_us: int = 0) -> Answer:
        key = (tap.candidate, outcome)
        self.refused[key] = self.refused.get(key, 0) + 1
        return Answer(outcome, remaining=self._remaining(tap, today), wait_us=wait_us)

    def _remaining(self, tap: Tap, today: list[Given]) -> int | None:
        rules = self.campaign.rules
        quotas = []
        if rules.candidates_per_day:
            quotas.append(rules.candidates_per_day - len({given.candidate for given in today}))
        if rules.likes_per_campaign:
            quotas.append(rules.likes_per_campaign - self.life.get(tap.device, 0))
        return max(0, min(quotas)) if quotas else None


class _Grown:
    """So many times a rate in the same window, as the function counts it: by a shorter interval, in
    whole microseconds."""

    def __init__(self, rate: Rate, factor: int) -> None:
        self.interval_us = max(1, rate.interval_us // factor)
        self.window_us = rate.window_us
