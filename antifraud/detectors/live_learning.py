"""What LiveCells learns on the way: what is usual today, and how large shared networks are."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from antifraud.capacity import CAPACITIES, LEARNED_MAX
from antifraud.detectors.baselines import (
    SHRINK_VOTES,
    STACK_SHRINK_VOTES,
    Baselines,
    Floats,
    few_votes,
)
from antifraud.detectors.buckets import AGE_BUCKETS, AGENTS, CLASSES, DWELL_BUCKETS
from antifraud.detectors.evidence import AGENT_RATIO, DWELL_MISFIT
from antifraud.detectors.mix import Counts, judge_mix
from antifraud.limits import Rate
from antifraud.networks import NetworkClass

Bytes = NDArray[np.uint8]

_STACKS_MAX = 255
"""TLS stacks told apart; the rest counts as one rare stack."""


LEARNED_LEAST_SHARE = 0.1
"""As baselines.CLASS_LEAST_SHARE, and more careful: here no other candidates' votes tell what of a
class is one stuffer's, and at night there are few of anything."""


class Usual:
    """The mix of the votes outside busy cells, added up as they come."""

    def __init__(self) -> None:
        self._agent = np.zeros((CLASSES, AGENTS))
        self._dwell = np.zeros((CLASSES, DWELL_BUCKETS))
        self._age = np.zeros((CLASSES, AGE_BUCKETS))
        self._stacks = np.zeros(0, np.int64)
        self._stack = np.zeros((AGENTS, 0))
        self._made: Baselines | None = None

    def add(
        self,
        cls: Bytes,
        agent: Bytes,
        dwell: Bytes,
        age: Bytes,
        tls: NDArray[np.uint32],
        rows: NDArray[np.bool_],
    ) -> None:
        """The votes of these rows."""
        self._made = None
        of_class = cls[rows].astype(np.int64)
        for table, column in ((self._agent, agent), (self._dwell, dwell), (self._age, age)):
            width = table.shape[1]
            flat = np.bincount(of_class * width + column[rows], minlength=CLASSES * width)
            np.add(table, flat.reshape(table.shape), out=table)
        known = rows & (tls > 0)
        if not known.any():
            return
        hashes = tls[known].astype(np.int64)
        self._meet(np.unique(hashes))
        place = np.minimum(np.searchsorted(self._stacks, hashes), len(self._stacks) - 1)
        same = self._stacks[place] == hashes
        width = len(self._stacks)
        flat = np.bincount(
            agent[known][same].astype(np.int64) * width + place[same], minlength=AGENTS * width
        )
        np.add(self._stack, flat.reshape(AGENTS, width), out=self._stack)

    def _meet(self, hashes: NDArray[np.int64]) -> None:
        fresh = np.setdiff1d(hashes, self._stacks, assume_unique=True)
        fresh = fresh[: max(0, _STACKS_MAX - len(self._stacks))]
        if len(fresh):
            all_of_them = np.concatenate([self._stacks, fresh])
            order = np.argsort(all_of_them)
            wider = np.concatenate([self._stack, np.zeros((AGENTS, len(fresh)))], axis=1)
            self._stacks, self._stack = all_of_them[order], wider[:, order]

    def baselines(self) -> Baselines:
        """Of everything added so far; kept until more comes."""
        if self._made is None:
            joint = np.concatenate([self._stack, np.zeros((AGENTS, 1))], axis=1)
            overall = joint.sum(axis=0) + 1e-6
            joint = joint + STACK_SHRINK_VOTES * overall / overall.sum()
            self._made = Baselines(
                agent=_shares(self._agent, known_from=1),
                dwell=_shares(self._dwell, known_from=1),
                age=_shares(self._age, known_from=0),
                stacks=self._stacks,
                stack=joint / joint.sum(axis=1, keepdims=True),
                votes=int(self._age.sum()),
            )
        return self._made


def _shares(counts: Floats, *, known_from: int) -> Floats:
    known = counts.copy()
    known[:, :known_from] = 0
    # As in baselines.py: what comes out of rented servers says nothing about people.
    known[NetworkClass.DATACENTRE] = 0
    known[few_votes(known.sum(axis=1), LEARNED_LEAST_SHARE)] = 0
    everybody = known.sum(axis=0) + 1e-6
    mixed = known + SHRINK_VOTES * everybody / everybody.sum()
    shares: Floats = mixed / mixed.sum(axis=1, keepdims=True)
    return shares


LEARNS = (NetworkClass.UNKNOWN, NetworkClass.MOBILE, NetworkClass.CAMPUS)
"""A home or a rented server does not prove larger by sending more."""
PEAK_TIMES = 1.5
"""What a network may do, times its busiest hour so far."""
TRACKED_FROM = 100
"""Votes of one network in one hour from which on its mix is kept."""
TRACKED_MAX = 4_096
"""Networks tracked in one hour, and remembered over the day."""
_HOUR_US = 3_600_000_000
_SLOTS = 1 << 16
_MIX = np.uint64(0x9E3779B97F4A7C15)


class SharedNetworks:
    """How much the busiest carrier NATs, campuses and unknown networks do in an hour.

    The factor of a network is 1.5 times its busiest hour, in votes and in fresh tokens, over what
    its class may do; only where its mix is a crowd's. Fresh tokens stand for new devices, and one
    that likes three candidates at once counts three times: the factor errs upwards, which costs
    challenges, not votes.
    """

    def __init__(self) -> None:
        self._hour = -1
        self._counts = np.zeros(_SLOTS, np.int32)
        self._place: dict[int, int] = {}
        self._cls = np.zeros(0, np.int64)
        self._votes = np.zeros(0, np.int64)
        self._fresh = np.zeros(0, np.int64)
        self._agent = np.zeros((0, AGENTS), np.int32)
        self._dwell = np.zeros((0, DWELL_BUCKETS), np.int32)
        self._peaks: dict[int, tuple[int, int, int]] = {}
        """Network -> class, votes and fresh tokens of its busiest hour."""

    def add(
        self,
        at_us: int,
        network: NDArray[np.uint64],
        cls: Bytes,
        agent: Bytes,
        dwell: Bytes,
        fresh: NDArray[np.bool_],
    ) -> None:
        """Votes, none of them later than `at_us`."""
        if at_us // _HOUR_US != self._hour:
            self._begin(at_us // _HOUR_US)
        shared = _LEARNS_BY_CLASS[cls] & (network != 0)
        slot = (network * _MIX >> np.uint64(48)).astype(np.int64)
        np.add.at(self._counts, slot[shared], np.int32(1))
        rows = np.flatnonzero(shared & (self._counts[slot] >= TRACKED_FROM))
        if len(rows) == 0:
            return
        networks, first, which = np.unique(network[rows], return_index=True, return_inverse=True)
        place = np.array(
            [
                self._place_of(one, int(cls[rows[at]]))
                for one, at in zip(networks.tolist(), first.tolist(), strict=True)
            ],
            np.int64,
        )[which]
        tracked = place >= 0
        rows, place = rows[tracked], place[tracked]
        np.add.at(self._votes, place, np.int64(1))
        np.add.at(self._fresh, place, fresh[rows].astype(np.int64))
        for table, column in ((self._agent, agent), (self._dwell, dwell)):
            flat = place * table.shape[1] + column[rows]
            np.add.at(table.reshape(-1), flat, np.int32(1))

    def _begin(self, hour: int) -> None:
        self._hour = hour
        self._counts[:] = 0
        self._place.clear()

    def _place_of(self, network: int, cls: int) -> int:
        """Row of a network in the tables of this hour; -1 = there are too many."""
        place = self._place.get(network)
        if place is not None:
            return place
        place = len(self._place)
        if place >= TRACKED_MAX:
            return -1
        self._place[network] = place
        if place >= len(self._votes):
            self._grow()
        self._cls[place] = cls
        # What came before it was tracked; other networks of the same counter are in it.
        self._votes[place] = TRACKED_FROM - 1
        self._fresh[place] = 0
        self._agent[place] = 0
        self._dwell[place] = 0
        return place

    def _grow(self) -> None:
        more = min(TRACKED_MAX, max(64, 2 * len(self._votes))) - len(self._votes)
        for name in ("_cls", "_votes", "_fresh", "_agent", "_dwell"):
            table = getattr(self, name)
            rows = np.zeros((more, *table.shape[1:]), table.dtype)
            setattr(self, name, np.concatenate([table, rows]))

    def factors(
        self, baselines: Baselines, per_network: Rate | None, *, without: Collection[bytes]
    ) -> dict[bytes, int]:
        """Pseudonym -> factor, of those that need more than their class has."""
        self._note_peaks(baselines)
        found = {}
        for network, (cls, votes, fresh) in self._peaks.items():
            key = network.to_bytes(8, "big")
            factor = _factor(NetworkClass(cls), votes, fresh, per_network)
            if factor > 1 and key not in without:
                found[key] = factor
        return found

    def _note_peaks(self, baselines: Baselines) -> None:
        clean = self._clean(baselines)
        for network, place in self._place.items():
            if not clean[place]:
                continue
            _, votes, fresh = self._peaks.get(network, (0, 0, 0))
            self._peaks[network] = (
                int(self._cls[place]),
                max(votes, int(self._votes[place])),
                max(fresh, int(self._fresh[place])),
            )
        if len(self._peaks) > TRACKED_MAX:
            ordered = sorted(self._peaks.items(), key=lambda item: -item[1][1])
            self._peaks = dict(ordered[:TRACKED_MAX])

    def _clean(self, baselines: Baselines) -> NDArray[np.bool_]:
        """Which networks of this hour look like crowds. Company phones may: twice the ratio at
        which a cell's phones count as evidence is the bound."""
        rows = len(self._place)
        cls = np.zeros((rows, CLASSES))
        cls[np.arange(rows), self._cls[:rows]] = np.maximum(self._agent[:rows].sum(axis=1), 1)
        none = np.zeros((rows, 1))
        mix = judge_mix(
            Counts(
                cls,
                self._agent[:rows].astype(np.float64),
                self._dwell[:rows].astype(np.float64),
                np.zeros((rows, AGE_BUCKETS)),
                none,
                none,
            ),
            baselines,
        )
        odd = (mix.agent_ratio > 2 * AGENT_RATIO) | (mix.dwell_misfit > DWELL_MISFIT)
        return ~odd


_LEARNS_BY_CLASS = np.array([one in LEARNS for one in NetworkClass])


def _factor(cls: NetworkClass, votes: int, fresh: int, per_network: Rate | None) -> int:
    capacity, use = CAPACITIES[cls], 0.0
    if per_network is not None:
        use = votes / _per_hour(capacity.votes(per_network))
    if capacity.new_devices is not None:
        use = max(use, fresh / _per_hour(capacity.new_devices))
    return min(LEARNED_MAX, int(np.ceil(PEAK_TIMES * use)))


def _per_hour(rate: Rate) -> float:
    return rate.burst * _HOUR_US / rate.period_us
