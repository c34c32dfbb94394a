"""Judging: what the service makes of a crowd, ballot by ballot in the order of time.

The edge's half is `antifraud.screen.screen` itself. The store's half is written here once more, in
Python, from the same pure rules that the store's function is held against by its own property test
(limits.take, CAPACITIES, conclude): a run of millions through a store would take hours. The third
part is what `watch` tells the other two: LiveCells, fed what became a vote and asked for marks each
LIVE_EVERY_SECONDS, and the TLS fingerprints that each agent is known with.

Left out, and what that means: devices and networks lie on one shard (a network's limit is divided
among several otherwise, with the full burst on each); a challenge is solved at once (an honest one
takes seconds); the issuing of tokens is not limited here (that is the edge's, and costs attackers
more than is shown).
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from antifraud.capacity import CAPACITIES, FAR_FACTOR
from antifraud.detectors import Baselines
from antifraud.detectors.live import VOTE_DTYPE, LiveCells
from antifraud.limits import PERIODS_US, Rate, take
from antifraud.networks import NetworkClass
from antifraud.screen import Conclusion, Decision, conclude, screen
from antifraud.signals import (
    LEVEL_BITS,
    LOW_END,
    PROVEN,
    TLS_UNLIKE_AGENT,
    VOUCHED,
    Signals,
)
from loadtest.rehearsal.ballots import (
    COLUMNS,
    GIVES_UP,
    SOLVES_SLOWLY,
    Array,
    Ballots,
    mixed,
)

PER_NETWORK = Rate(1_200, PERIODS_US["minute"])
PER_DEVICE = Rate(30, PERIODS_US["minute"])
"""A campaign's usual limits (those of the demo campaign)."""

LIVE_EVERY_SECONDS = 15
"""How often cells are looked for here; `watch` looks every 5 s, which would take three times as
long. The promise is within 60 s of the first votes."""
_CAPACITIES_EVERY = 10
"""Learned capacities are asked for at every so manieth look."""

FINGERPRINTS_EVERY_SECONDS = 900
FINGERPRINTS_LOOK_BACK_SECONDS = 2 * 86_400
FINGERPRINTS_LATELY_SECONDS = 2 * 3_600
FINGERPRINT_AGENT_VOTES_LEAST = 500
FINGERPRINT_SHARE_LEAST = 0.002
FINGERPRINT_LATELY_SHARE_LEAST = 0.02
FINGERPRINT_VOTES_LEAST = 3
"""As tally/fingerprints.py has them."""

_BASELINES_FROM_VOTES = 5_000
"""As `watch` has it: a day with fewer teaches nothing."""

_NEW_FOR_SECONDS = 86_400
"""A device counts as new while its token is younger, as in the store's function."""
_CHUNK = 1 << 17
"""Rows that are made Python numbers at a time: memory."""
_CAMPAIGN = 1


class Outcome(IntEnum):
    """What became of a ballot."""

    COUNTED = 1
    HELD = 2
    REPEATED = 3
    GAVE_UP = 5
    """Challenged, and gone."""
    THROTTLED = 6
    REFUSED = 7
    WITHHELD = 8
    """Never sent: its sender has left this network at a challenge."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What became of each ballot of a crowd, one array each in the crowd's order."""

    outcome: Array
    score: Array
    """Final, milli-nats."""
    token_level: Array
    """With what was proven meanwhile."""
    challenged: Array
    """Whether this ballot was answered with a challenge first."""
    marked: Array
    """Whether a live cell's weight was on it."""

    @property
    def is_vote(self) -> Array:
        return np.isin(self.outcome, (Outcome.COUNTED, Outcome.HELD))


@dataclass(slots=True)
class _Network:
    near: int = 0
    far: int = 0
    newest: int = 0


class _Rates:
    """The limits of one class of network with one learned factor."""

    __slots__ = ("far", "near", "new", "new_wide")

    def __init__(self, network_class: int, factor: int) -> None:
        capacity = CAPACITIES[NetworkClass(network_class)]
        near = capacity.votes(PER_NETWORK)
        self.near = near.times(factor)
        self.far = near.times(FAR_FACTOR).times(factor)
        self.new = capacity.new_devices.times(factor) if capacity.new_devices else None
        self.new_wide = (
            capacity.new_devices_wide.times(factor) if capacity.new_devices_wide else None
        )


Learn = Callable[[Ballots, Judged, Array, Baselines | None], Baselines]
"""(crowd, what is judged so far, rows of a day's votes, what was usual before) -> what is usual."""


def judge(
    ballots: Ballots,
    *,
    challenges: bool = True,
    live: bool = True,
    learn: Learn | None = None,
) -> Judged:
    """Judge a crowd that stands in order of time.

    With `learn` the live cells know each morning what was usual the day before, as those of `watch`
    do; without it they find out by themselves. Takes some 12 us a ballot, and 0.7 ms for each look
    at the live cells.
    """
    return _Judge(ballots, challenges, live, learn).run()


class _Judge:
    """One run over one crowd."""

    def __init__(self, ballots: Ballots, challenges: bool, live: bool, learn: Learn | None) -> None:
        count = len(ballots)
        self._ballots = ballots
        self._challenges = challenges
        self._live = LiveCells() if live else None
        self._learn = learn
        self._votes_of_day: list[int] = []
        self._outcome = np.zeros(count, np.uint8)
        self._score = np.zeros(count, np.int16)
        self._level = ballots["token_level"].copy()
        self._challenged = np.zeros(count, bool)
        self._marked = np.zeros(count, bool)
        self._networks: dict[int, _Network] = {}
        self._devices: dict[int, int] = {}
        """Device -> next_free; only devices that have given a vote today."""
        self._proven: dict[int, int] = {}
        """Device -> bits of its level byte."""
        self._left: set[tuple[int, int]] = set()
        """(attack, network) that an attacker who gives up has left."""
        self._marks: dict[tuple[int, int], tuple[int, int]] = {}
        """(network or wide network, candidate) -> (milli-nats, agent class)"""
        self._factors: dict[int, int] = {}
        self._rates: dict[tuple[int, int], _Rates] = {}
        self._fingerprints = Fingerprints()
        self._fresh_votes: list[int] = []
        self._fresh_counted: list[int] = []
        self._look_number = 0

    def run(self) -> Judged:
        day, next_look = -1, 0
        look_every_us = LIVE_EVERY_SECONDS * 1_000_000
        given: set[tuple[int, int]] = set()
        learn_every_us = FINGERPRINTS_EVERY_SECONDS * 1_000_000
        next_learning = 0
        for tap in _taps(self._ballots):
            if tap.day != day:
                self._look(day, next_look)
                self._end_day()
                day, next_look = tap.day, tap.at_us + look_every_us
                # Pseudonyms and records of yesterday are no more; marks are a day's as well.
                for held in (self._networks, self._devices, self._marks, self._factors):
                    held.clear()
                given.clear()
            elif tap.at_us >= next_look:
                self._look(day, tap.at_us)
                next_look = tap.at_us + look_every_us
            if tap.at_us >= next_learning:
                self._learn_fingerprints(tap.at_us)
                next_learning = tap.at_us + learn_every_us
            if tap.may_repeat:
                if (tap.device, tap.candidate) in given:
                    self._outcome[tap.number] = Outcome.REPEATED
                    continue
                if self._cast(tap):
                    given.add((tap.device, tap.candidate))
            else:
                self._cast(tap)
        return self._judged()

    def _judged(self) -> Judged:
        return Judged(self._outcome, self._score, self._level, self._challenged, self._marked)

    def _end_day(self) -> None:
        rows = np.array(self._votes_of_day, np.int64)
        self._votes_of_day.clear()
        if self._live and self._learn and len(rows) >= _BASELINES_FROM_VOTES:
            known = self._live.baselines
            self._live.baselines = self._learn(self._ballots, self._judged(), rows, known)

    def _cast(self, tap: "_Tap") -> bool:
        """One ballot, as the store's function takes it; whether it became a vote."""
        number, now, network_class = tap.number, tap.at_us, tap.network_class
        if tap.leaves_for_good and (tap.label, tap.network) in self._left:
            self._outcome[number] = Outcome.WITHHELD
            return False
        rates = self._rates_of(network_class, self._factors.get(tap.network, 1))
        device_free = self._devices.get(tap.device)
        near = self._networks.get(tap.network) or _Network()
        device_ok, device_next = take(PER_DEVICE, device_free or 0, now)
        far_ok, far_next = take(rates.far, near.far, now)
        near_ok, near_next = take(rates.near, near.near, now)
        if not (device_ok and far_ok and (near_ok or network_class != _DATACENTRE)):
            self._outcome[number] = Outcome.THROTTLED
            return False
        new_ok, newest_next, wide_next = True, None, 0
        is_new = tap.age < _NEW_FOR_SECONDS and tap.level & LEVEL_BITS < VOUCHED
        if device_free is None and rates.new is not None and is_new:
            assert rates.new_wide is not None
            far_off = self._networks.get(tap.wide)
            narrow_ok, newest_next = take(rates.new, near.newest, now)
            wide_ok, wide_next = take(rates.new_wide, far_off.newest if far_off else 0, now)
            new_ok = narrow_ok and wide_ok

        conclusion = self._judge(tap, over_limit=not near_ok, over_new_devices=not new_ok)
        if conclusion is None:
            return False
        self._score[number] = conclusion.score
        if conclusion.decision is Decision.REFUSE:
            self._outcome[number] = Outcome.REFUSED
            return False
        held = conclusion.decision is Decision.HOLD
        self._outcome[number] = Outcome.HELD if held else Outcome.COUNTED
        self._devices[tap.device] = device_next
        near.near, near.far = near_next, far_next
        self._networks[tap.network] = near
        if newest_next is not None and new_ok:
            near.newest = newest_next
            self._networks.setdefault(tap.wide, _Network()).newest = wide_next
        self._fresh_votes.append(number)
        if not held and tap.tls and tap.agent > 1:
            self._fresh_counted.append(number)
        return True

    def _judge(self, tap: "_Tap", *, over_limit: bool, over_new_devices: bool) -> Conclusion | None:
        """The conclusion, behind a challenge if it takes one; None: its sender is gone."""
        number = tap.number
        level = tap.level | self._proven.get(tap.device, 0)
        oddities = tap.oddities
        if tap.tls and self._fingerprints.unlike(tap.agent, tap.tls):
            oddities |= TLS_UNLIKE_AGENT
        weight = self._weight(tap) if self._marks else 0
        self._marked[number] = weight > 0
        for challenged in (False, True):
            verdict = screen(
                Signals(
                    _CLASSES[tap.network_class],
                    tap.asn,
                    tap.agent,
                    tap.tls,
                    tap.age,
                    level,
                    tap.dwell,
                    oddities,
                )
            )
            conclusion = conclude(
                verdict.score,
                verdict.reasons,
                proven=bool(level & PROVEN),
                slowly=bool(level & LOW_END),
                challenges=self._challenges,
                over_limit=over_limit,
                over_new_devices=over_new_devices,
                cell_weight=weight,
            )
            if conclusion.decision is not Decision.CHALLENGE:
                break
            assert not challenged, "who has proven itself is asked no more"
            self._challenged[number] = True
            if tap.solves == GIVES_UP:
                if tap.leaves_for_good:
                    self._left.add((tap.label, tap.network))
                self._outcome[number] = Outcome.GAVE_UP
                return None
            level |= PROVEN | (LOW_END if tap.solves == SOLVES_SLOWLY else 0)
            self._proven[tap.device] = level & (PROVEN | LOW_END)
        self._level[number] = level
        return conclusion

    def _rates_of(self, network_class: int, factor: int) -> _Rates:
        key = (network_class, factor)
        rates = self._rates.get(key)
        if rates is None:
            rates = self._rates[key] = _Rates(network_class, factor)
        return rates

    def _weight(self, tap: "_Tap") -> int:
        heaviest = 0
        for place in (tap.network, tap.wide):
            mark = self._marks.get((place, tap.candidate))
            if mark is not None and mark[1] in (0, tap.agent) and mark[0] > heaviest:
                heaviest = mark[0]
        return heaviest

    def _look(self, day: int, now: int) -> None:
        """Hand what became votes to the live cells, and take their marks."""
        if self._live is None or day < 0:
            return
        when = date(1970, 1, 1) + timedelta(days=day)
        if self._fresh_votes:
            rows = np.array(self._fresh_votes)
            self._votes_of_day += self._fresh_votes
            self._fresh_votes.clear()
            self._live.add(_CAMPAIGN, when, now, self._as_journal(rows))
        self._marks = {
            (int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")): (
                mark.weight_millinats,
                mark.agent_class,
            )
            for key, mark in self._live.flagged(_CAMPAIGN, when, now).items()
        }
        self._look_number += 1
        if self._look_number % _CAPACITIES_EVERY == 0:
            self._factors = {
                int.from_bytes(network, "big"): factor
                for network, factor in self._live.capacities(_CAMPAIGN, when, PER_NETWORK).items()
            }

    def _learn_fingerprints(self, now: int) -> None:
        rows = np.array(self._fresh_counted, np.int64)
        self._fresh_counted.clear()
        agents, hashes = self._ballots["user_agent_class"][rows], self._ballots["tls_hash"][rows]
        self._fingerprints.learn(now, agents, hashes)

    def _as_journal(self, rows: Array) -> Array:
        votes = np.zeros(len(rows), VOTE_DTYPE)
        assert VOTE_DTYPE.names is not None
        for name in VOTE_DTYPE.names:
            if name in self._ballots.columns:
                votes[name] = self._ballots[name][rows]
        votes["token_level"] = self._level[rows]
        votes["score"] = self._score[rows]
        return votes


class Fingerprints:
    """Which TLS fingerprints each agent is known with, as `watch` learns them out of the votes that
    count. What the near-line passes hold later is still in here, so scripts become known a little
    sooner than in the service."""

    def __init__(self) -> None:
        self._parts: deque[tuple[int, Counter[int]]] = deque()
        """(moment, agent and fingerprint in one number -> votes) of each time between two looks."""
        self._votes: Counter[int] = Counter()
        self._known: dict[int, frozenset[int]] = {}

    def unlike(self, agent: int, tls: int) -> bool:
        """Whether this agent is never seen with this fingerprint, and with others often."""
        known = self._known.get(agent)
        return known is not None and tls not in known

    def learn(self, now: int, agents: Array, hashes: Array) -> None:
        """These counted too, until now."""
        pairs, votes = np.unique(
            agents.astype(np.int64) << 32 | hashes.astype(np.int64), return_counts=True
        )
        part = Counter(dict(zip(pairs.tolist(), votes.tolist(), strict=True)))
        self._parts.append((now, part))
        self._votes.update(part)
        while self._parts[0][0] <= now - FINGERPRINTS_LOOK_BACK_SECONDS * 1_000_000:
            self._votes.subtract(self._parts.popleft()[1])
        lately: Counter[int] = Counter()
        for moment, each in reversed(self._parts):
            if moment <= now - FINGERPRINTS_LATELY_SECONDS * 1_000_000:
                break
            lately.update(each)
        self._known = known_fingerprints(self._votes, lately)


def known_fingerprints(
    votes: Mapping[int, int], lately: Mapping[int, int]
) -> dict[int, frozenset[int]]:
    """Agent class -> its fingerprints, out of the counts of (agent << 32 | fingerprint)."""
    of_agent: Counter[int] = Counter()
    lately_of_agent: Counter[int] = Counter()
    for pair, count in votes.items():
        of_agent[pair >> 32] += count
    for pair, count in lately.items():
        lately_of_agent[pair >> 32] += count
    known: dict[int, set[int]] = {
        agent: set() for agent, count in of_agent.items() if count >= FINGERPRINT_AGENT_VOTES_LEAST
    }
    for pair, count in votes.items():
        agent = pair >> 32
        if agent not in known:
            continue
        share = of_agent[agent] * FINGERPRINT_SHARE_LEAST
        lately_share = lately_of_agent[agent] * FINGERPRINT_LATELY_SHARE_LEAST
        if count >= max(FINGERPRINT_VOTES_LEAST, share) or lately.get(pair, 0) >= max(
            FINGERPRINT_VOTES_LEAST, lately_share
        ):
            known[agent].add(pair & 0xFFFFFFFF)
    return {agent: frozenset(hashes) for agent, hashes in known.items()}


_CLASSES = list(NetworkClass)
_DATACENTRE = int(NetworkClass.DATACENTRE)


class _Tap(NamedTuple):
    """One ballot as Python's numbers."""

    number: int
    at_us: int
    day: int
    candidate: int
    device: int
    network: int
    wide: int
    asn: int
    network_class: int
    agent: int
    tls: int
    age: int
    level: int
    dwell: int
    oddities: int
    solves: int
    label: int
    leaves_for_good: bool
    may_repeat: bool


def _may_repeat(ballots: Ballots) -> Array:
    """Whether some other ballot of the day is of the same device for the same candidate."""
    keys = mixed(ballots["device"], ballots["day"], ballots["candidate"])
    _, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(counts[which] > 1)


def _taps(ballots: Ballots) -> Iterator[_Tap]:
    """The ballots, one by one."""
    leaves_for_good = np.array([label.source == "A13" for label in ballots.labels], dtype=bool)
    columns = [column for name, column in ballots.columns.items() if name in COLUMNS]
    columns += [ballots.label, leaves_for_good[ballots.label], _may_repeat(ballots)]
    for first in range(0, len(ballots), _CHUNK):
        part = slice(first, first + _CHUNK)
        numbers = range(first, min(first + _CHUNK, len(ballots)))
        made = zip(numbers, *(column[part].tolist() for column in columns), strict=True)
        yield from map(_Tap._make, made)
