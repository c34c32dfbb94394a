"""LiveCells: the burst cells of the last minutes, while votes come in.

A cell is one network and one candidate. `watch` adds every vote that it reads from the journal and
asks every few seconds which cells look stuffed and which shared networks have proved large; the
store's function only reads the answers. The evidence is that of the near-line bursts, and so are
the thresholds but for one.

Memory is bounded whatever comes: at most `votes_max` votes are kept, so that in a surge the window
becomes shorter (at 25,000 votes a second and the default, 40 s: a cell of one vote a second still
shows). With the default a campaign day takes at most about 70 MB, and DAYS_MAX of them are kept.

What is new is only gathered; it is sorted in when somebody asks or when BATCH votes have come, a
whole batch at a time, because numpy's price is by the call. Not safe to share between threads.
"""

from collections import deque
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Baselines, Ints
from antifraud.detectors.buckets import FRESH_BUCKETS, dwell_bucket, lead_bucket
from antifraud.detectors.bursts import OPENS_AT, expected, surprise
from antifraud.detectors.evidence import (
    AGENT_RATIO,
    DATACENTRE_SHARE,
    DWELL_MISFIT,
    LEAST_NATS,
    LEAST_VOTES,
    STACK_MISFIT,
)
from antifraud.detectors.live_learning import SharedNetworks, Usual
from antifraud.detectors.mix import Counts, Mix, count, judge_mix
from antifraud.limits import Rate
from antifraud.networks import NetworkClass

VOTE_DTYPE = np.dtype(
    [
        ("device", ">u8"),
        ("network", ">u8"),
        ("network_wide", ">u8"),
        ("candidate", ">u2"),
        ("click", "V6"),
        ("asn", ">u4"),
        ("network_class", "u1"),
        ("user_agent_class", "u1"),
        ("tls_hash", ">u4"),
        ("token_age_seconds", ">u4"),
        ("token_level", "u1"),
        ("dwell_centiseconds", ">u2"),
        ("rules", ">u2"),
        ("score", ">i2"),
        ("reasons", "V3"),
        ("verdict", "u1"),
    ]
)
"""One vote as the journal packs it: 57 bytes, big-endian. `np.frombuffer(entry.votes_packed,
VOTE_DTYPE)` reads a whole entry without copying."""

WINDOW_SECONDS = 600
VOTES_MAX = 1 << 20
"""Kept per campaign day, at 42 bytes each."""
BATCH = 8_192
DAYS_MAX = 4
"""Campaign days kept; the one that got no vote for longest goes first."""
MARKS_MAX = 4_096
"""What the store's hash of cells may hold; the heaviest marks stay."""

ONE_KIND_MILLINATS = 6_600
"""On the prior of -4,600 this ends at 2,000: challenged."""
TWO_KINDS_MILLINATS = 9_600
"""5,000: held, and released after 20 hours unless the near-line pass finds the same."""

LIVE_AGE_MISFIT = 1.2
"""Above the near-line threshold: the first forty of a campus have all just followed one link, and
come to 0.9."""
LEARNED_LEAST_VOTES = 2_000
"""Votes outside busy cells after which what is learned from them is taken for usual."""
LEAST_LIVE_VOTES = 12
"""Twelve taps within a tenth of a second of each other are nats enough (LEAST_NATS); what is less
blatant needs thirty votes and more by the same measure."""
AGENT_DOMINATES = 0.6
"""A mark is only for one phone model where that has this share of the cell: neighbours with other
phones are spared."""

_SLOT_BITS = 18
_SLOTS = 1 << _SLOT_BITS
"""Of the hashed counters: with VOTES_MAX votes four a counter on average; and a counter only says
where to look, what is in a cell is counted exactly."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_TOO = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(64 - _SLOT_BITS)
_COMES, _GOES = np.int32(1), np.int32(-1)
_DWELL_BUCKET = dwell_bucket(np.arange(65_536)).astype(np.uint8)


class CellMark(NamedTuple):
    """What the store's function adds to ballots of a cell."""

    weight_millinats: int
    agent_class: int
    """The only user agent class that it is for; 0 = all."""


class Seen(NamedTuple):
    """A batch of votes, one array a fact."""

    network: NDArray[np.uint64]
    wide: NDArray[np.uint64]
    candidate: NDArray[np.uint16]
    cls: NDArray[np.uint8]
    agent: NDArray[np.uint8]
    tls: NDArray[np.uint32]
    dwell: NDArray[np.uint8]
    age: NDArray[np.uint8]
    """Lead of the token (buckets.py)."""
    cell: NDArray[np.uint32]
    """Counter of (network, candidate)."""
    wide_cell: NDArray[np.uint32]
    """Counter of (network_wide, candidate)."""


class _Chunk(NamedTuple):
    last_us: int
    seen: Seen


def _slot(hashed: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return (hashed * _MIX >> _SHIFT).astype(np.uint32)


def _read(votes: NDArray[Any]) -> Seen:
    network = votes["network"].astype(np.uint64)
    wide = votes["network_wide"].astype(np.uint64)
    candidate = votes["candidate"].astype(np.uint64)
    dwell = votes["dwell_centiseconds"]
    salt = candidate * _MIX_TOO
    return Seen(
        network,
        wide,
        candidate.astype(np.uint16),
        np.minimum(votes["network_class"], len(NetworkClass) - 1).astype(np.uint8),
        votes["user_agent_class"].copy(),
        votes["tls_hash"].astype(np.uint32),
        _DWELL_BUCKET[dwell],
        lead_bucket(votes["token_age_seconds"].astype(np.int64), dwell.astype(np.int64)).astype(
            np.uint8
        ),
        _slot(network ^ salt),
        _slot(wide ^ salt),
    )


class _Side:
    """Counters of one size of network: single addresses or /24s and /48s."""

    def __init__(self) -> None:
        self.cells = np.zeros(_SLOTS, np.int32)
        self.networks = np.zeros(_SLOTS, np.int32)

    def count(self, cell: NDArray[np.uint32], network: NDArray[np.uint64], sign: np.int32) -> None:
        # 64-bit places and a number of the table's own type: 2 ns a vote, otherwise 120.
        np.add.at(self.cells, cell.astype(np.int64), sign)
        np.add.at(self.networks, _slot(network).astype(np.int64), sign)


class _Day:
    """One campaign day."""

    def __init__(self) -> None:
        self.pending: list[bytes] = []
        self.pending_votes = 0
        self.last_us = 0
        self.chunks: deque[_Chunk] = deque()
        self.unlooked = 0
        """Chunks at the end that came in since the last look."""
        self.kept = 0
        self.sides = (_Side(), _Side())
        self.candidates = np.zeros(65_536, np.int32)
        self.usual = Usual()
        self.shared = SharedNetworks()
        self.marks: dict[bytes, tuple[CellMark, int]] = {}

    # Filling and emptying the window.

    def fold(self, window_us: int, votes_max: int) -> None:
        """Sort in what is pending, let go what is too old or too much."""
        if not self.pending:
            return
        pending, self.pending, self.pending_votes = self.pending, [], 0
        last_us = self.last_us
        # Joined as bytes: concatenating structured arrays takes 40 us each.
        seen = _read(np.frombuffer(b"".join(pending), VOTE_DTYPE))
        self.count(seen, _COMES)
        self.chunks.append(_Chunk(last_us, seen))
        self.unlooked += 1
        quiet = self.sides[0].cells[seen.cell] < LEAST_LIVE_VOTES
        quiet &= self.sides[1].cells[seen.wide_cell] < 2 * LEAST_LIVE_VOTES
        self.usual.add(seen.cls, seen.agent, seen.dwell, seen.age, seen.tls, quiet)
        self.shared.add(
            last_us, seen.network, seen.cls, seen.agent, seen.dwell, seen.age < FRESH_BUCKETS
        )
        self.let_go(last_us - window_us, votes_max)

    def count(self, seen: Seen, sign: np.int32) -> None:
        self.sides[0].count(seen.cell, seen.network, sign)
        self.sides[1].count(seen.wide_cell, seen.wide, sign)
        np.add.at(self.candidates, seen.candidate.astype(np.int64), sign)
        self.kept += int(sign) * len(seen.cell)

    def let_go(self, before_us: int, votes_max: int) -> None:
        while self.chunks and (self.chunks[0].last_us < before_us or self.kept > votes_max):
            self.count(self.chunks.popleft().seen, _GOES)
        self.unlooked = min(self.unlooked, len(self.chunks))

    # Cells.

    def mark(self, baselines: Baselines, now_us: int, window_us: int) -> dict[bytes, CellMark]:
        for wide in (False, True):
            for key, mark in self.look(baselines, wide=wide):
                self.marks[key] = (mark, now_us)
        self.unlooked = 0
        gone = [key for key, (_, seen_us) in self.marks.items() if seen_us < now_us - window_us]
        for key in gone:
            del self.marks[key]
        if len(self.marks) > MARKS_MAX:
            ordered = sorted(self.marks.items(), key=lambda item: -item[1][0].weight_millinats)
            self.marks = dict(ordered[:MARKS_MAX])
        return {key: mark for key, (mark, _) in self.marks.items()}

    def suspects(self, side: _Side, *, wide: bool) -> NDArray[np.bool_] | None:
        """Counters of cells that got votes since the last look and would be opened by their count
        alone; None where there are none."""
        wanted = np.zeros(_SLOTS, bool)
        for number in range(len(self.chunks) - self.unlooked, len(self.chunks)):
            seen = self.chunks[number].seen
            cell, network = (seen.wide_cell, seen.wide) if wide else (seen.cell, seen.network)
            votes = side.cells[cell]
            rows = np.flatnonzero((votes >= LEAST_LIVE_VOTES) & (network != 0))
            nats = self.surprises(side, votes[rows], network[rows], seen.candidate[rows])
            wanted[cell[rows[nats > OPENS_AT]]] = True
        return wanted if wanted.any() else None

    def surprises(
        self,
        side: _Side,
        votes: NDArray[np.signedinteger[Any]],
        network: NDArray[np.uint64],
        candidate: NDArray[np.uint16],
    ) -> NDArray[np.float64]:
        """Of cells with so many votes, in nats."""
        n = votes.astype(np.float64)
        of_network = side.networks[_slot(network)].astype(np.float64)
        of_candidate = self.candidates[candidate].astype(np.float64)
        return surprise(n, expected(n, of_network, of_candidate, self.kept))

    def look(self, baselines: Baselines, *, wide: bool) -> list[tuple[bytes, CellMark]]:
        """Cells of this window whose mix is no crowd's."""
        side = self.sides[1 if wide else 0]
        suspects = self.suspects(side, wide=wide)
        if suspects is None:
            return []
        parts = []
        for chunk in self.chunks:
            rows = suspects[chunk.seen.wide_cell if wide else chunk.seen.cell]
            if rows.any():
                parts.append([column[rows] for column in chunk.seen])
        seen = Seen(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        pseudonym = seen.wide if wide else seen.network
        cells, row, sizes = _group(pseudonym, seen.candidate)
        opened = (sizes >= LEAST_LIVE_VOTES) & (pseudonym[cells] != 0)
        opened &= self.surprises(side, sizes, pseudonym[cells], seen.candidate[cells]) > OPENS_AT
        if not opened.any():
            return []
        rows = opened[row]
        number = (np.cumsum(opened) - 1)[row[rows]]
        cls, agent, dwell, age, tls = (
            column[rows].astype(np.int64)
            for column in (seen.cls, seen.agent, seen.dwell, seen.age, seen.tls)
        )
        counts = count(int(opened.sum()), number, cls, agent, dwell, age, tls, baselines)
        evidence = evidence_in(counts, judge_mix(counts, baselines))
        return [
            (_key(pseudonym[cell], seen.candidate[cell]), _mark(int(kinds), counts.agent[place]))
            for place, (cell, kinds) in enumerate(zip(cells[opened], evidence, strict=True))
            if kinds
        ]


class LiveCells:
    """The burst cells of the last `window_seconds`, per campaign and day.

    `baselines` are yesterday's; without them the votes outside busy cells teach what is usual, and
    nothing is marked until LEARNED_LEAST_VOTES of them have come.
    """

    def __init__(
        self,
        baselines: Baselines | None = None,
        *,
        window_seconds: int = WINDOW_SECONDS,
        votes_max: int = VOTES_MAX,
    ) -> None:
        self.baselines = baselines
        """May be replaced at any time."""
        self._window_us = window_seconds * 1_000_000
        self._votes_max = votes_max
        self._days: dict[tuple[int, date], _Day] = {}

    def add(self, campaign: int, day: date, at_us: int, votes: NDArray[Any]) -> None:
        """Votes (VOTE_DTYPE) of one journal entry, acknowledged at `at_us`."""
        if len(votes) == 0:
            return
        one = self._day(campaign, day)
        one.pending.append(votes.tobytes())
        one.last_us = max(one.last_us, at_us)
        one.pending_votes += len(votes)
        if one.pending_votes >= BATCH:
            one.fold(self._window_us, self._votes_max)

    def flagged(self, campaign: int, day: date, now_us: int) -> dict[bytes, CellMark]:
        """Pseudonym (8 bytes) + candidate (u16, big-endian) -> mark, of networks and wide networks
        alike. A cell keeps its mark for one window after it last looked stuffed."""
        one = self._days.get((campaign, day))
        if one is None:
            return {}
        one.fold(self._window_us, self._votes_max)
        one.let_go(now_us - self._window_us, self._votes_max)
        known = self._baselines_of(one)
        return one.mark(known, now_us, self._window_us) if known else {}

    def capacities(
        self, campaign: int, day: date, per_network: Rate | None = None
    ) -> dict[bytes, int]:
        """Pseudonym of a shared network (8 bytes) -> factor (2 to 255) on its class's capacity:
        see SharedNetworks. `per_network` is the campaign's limit; without it new devices alone
        count. Networks with a marked cell get none."""
        one = self._days.get((campaign, day))
        if one is None:
            return {}
        one.fold(self._window_us, self._votes_max)
        known = self._baselines_of(one)
        marked = {key[:8] for key in one.marks}
        return one.shared.factors(known, per_network, without=marked) if known else {}

    @property
    def votes_kept(self) -> int:
        """Votes in memory now, all days together."""
        return sum(one.kept + one.pending_votes for one in self._days.values())

    def _baselines_of(self, one: _Day) -> Baselines | None:
        """None where nothing is known of crowds yet: then nothing is unlike one."""
        if self.baselines is not None:
            return self.baselines
        learned = one.usual.baselines()
        return learned if learned.votes >= LEARNED_LEAST_VOTES else None

    def _day(self, campaign: int, day: date) -> _Day:
        key = (campaign, day)
        one = self._days.pop(key, None) or _Day()
        self._days[key] = one  # the last in the order of the dict: the most lately used
        while len(self._days) > DAYS_MAX:
            del self._days[next(iter(self._days))]
        return one


def evidence_in(counts: Counts, mix: Mix) -> Ints:
    """How many kinds of evidence there are in each cell."""

    def misfit(
        figure: NDArray[np.float64], threshold: float, known: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        enough = (known > mix.votes / 2) & (known * np.nan_to_num(figure) > LEAST_NATS)
        result: NDArray[np.bool_] = enough & (figure > threshold)
        return result

    agents, stacks = counts.agent[:, 1:].sum(axis=1), counts.stack.sum(axis=1)
    fresh = counts.age[:, :FRESH_BUCKETS].sum(axis=1)
    dwells = counts.dwell[:, 1:].sum(axis=1)
    dwell = misfit(mix.dwell_misfit, DWELL_MISFIT, dwells).astype(np.int64)
    behaviour = dwell + misfit(mix.age_misfit, LIVE_AGE_MISFIT, fresh)
    client = (mix.agent_ratio > AGENT_RATIO) & (agents >= LEAST_VOTES)
    client |= misfit(mix.stack_misfit, STACK_MISFIT, stacks)
    rented = counts.cls[:, NetworkClass.DATACENTRE] > DATACENTRE_SHARE * mix.votes
    # Colleagues have the same few phones and come from one address: without a second sign in how
    # they behave, neither marks anything.
    return np.where(behaviour > 0, behaviour + client + rented, 0)


def _mark(kinds: int, agents: NDArray[np.float64]) -> CellMark:
    weight = TWO_KINDS_MILLINATS if kinds >= 2 else ONE_KIND_MILLINATS
    main = 1 + int(agents[1:].argmax())
    dominates = agents[main] >= AGENT_DOMINATES * max(float(agents.sum()), 1.0)
    return CellMark(weight, main if dominates else 0)


def _key(pseudonym: np.uint64, candidate: np.uint16) -> bytes:
    return int(pseudonym).to_bytes(8, "big") + int(candidate).to_bytes(2, "big")


def _group(pseudonym: NDArray[np.uint64], candidate: NDArray[np.uint16]) -> tuple[Ints, Ints, Ints]:
    """(one row of each cell, number of the cell of each row, rows of each cell)."""
    order = np.lexsort((candidate, pseudonym))
    p, c = pseudonym[order], candidate[order]
    new = np.ones(len(order), bool)
    new[1:] = (p[1:] != p[:-1]) | (c[1:] != c[:-1])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    return order[starts], number, np.diff(np.append(starts, len(order)))
