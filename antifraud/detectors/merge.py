"""From cells to cases: the sources behind the sightings of one candidate, taken apart one after the
other. Cells that share three tenths of their votes with a source are the same case.
"""

from collections.abc import Iterable, Iterator, Mapping

import duckdb
import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Baselines, Ints
from antifraud.detectors.crowd import Addresses, Crowd, Issued
from antifraud.detectors.evidence import LEAST_VOTES, Evidence, weigh
from antifraud.detectors.parting import part, pure
from antifraud.detectors.sightings import COLUMNS, Sighting, Votes, votes_of, whole
from antifraud.flags import DETECTORS_VERSION, Flag, score_of

SHARED = 0.3
"""Of a cell's votes: with so many in a source, the cell belongs to its case."""

LEAST_IN_CELL = 10
LEFT = 0.5
"""Of a cell's votes: with fewer left by the sources taken before, it leads to no other one."""

SOURCES_MAX = 8
"""Sources taken apart per candidate and pass; the rest shows in the next one."""
TRIED = 0.7
"""Of a cell's votes: with so many in cells that were followed already, it leads nowhere new."""
TRIES_MAX = 10
"""Cells followed per candidate and pass."""
CELLS_MAX = 120
"""Cells kept per candidate, the most surprising ones of each detector first."""

VOTES_AT_ONCE = 1_000_000
"""Votes in memory at a time, or one candidate's where those are more (100 bytes each)."""

_ORDER = ("lockstep", "preminted", "burst", "reminting")
"""Which cells are followed first: the ones that gather a source over all its networks."""


def explain(
    db: duckdb.DuckDBPyConnection,
    sightings: Iterable[Sighting],
    baselines: Baselines,
    issued: Issued,
    addresses: Mapping[str, Addresses],
) -> Iterator[Flag]:
    """Flags for what stands behind the sightings over `seen`."""
    of_candidate: dict[int, list[Sighting]] = {}
    for sighting in sightings:
        of_candidate.setdefault(sighting.candidate, []).append(sighting)
    for candidate, votes in _votes_for(db, sorted(of_candidate), baselines):
        cells = of_candidate[candidate]
        cells.sort(
            key=lambda one: (_ORDER.index(one.rule), -one.surprise, sorted(one.facts.items()))
        )
        del cells[CELLS_MAX:]
        yield from _cases(candidate, votes, cells, baselines, issued, addresses)


def _cases(
    candidate: int,
    votes: Votes,
    cells: list[Sighting],
    baselines: Baselines,
    issued: Issued,
    addresses: Mapping[str, Addresses],
) -> Iterator[Flag]:
    found = tries = 0
    crowd = Crowd(votes, baselines, issued, addresses)
    tried = np.zeros(len(votes), bool)
    while cells and found < SOURCES_MAX and tries < TRIES_MAX:
        cell, *cells = cells
        start = cell.rows(votes)
        size = int(start.sum())
        if size < max(LEAST_IN_CELL, LEFT * cell.votes) or (start & tried).sum() > TRIED * size:
            continue
        tries += 1
        tried |= start
        near = _near(votes, cell)
        here = votes.pick(near)
        chance = part(here, crowd, start[near].astype(np.float64))
        chosen = pure(chance)
        if int(chosen.sum()) < LEAST_VOTES:
            continue
        evidence = weigh(here, np.where(chance > 0.1, chance, 0.0), crowd)
        taken = np.zeros(len(votes), bool)
        taken[np.flatnonzero(near)[chosen]] = True
        same = [one for one in cells if _belongs(one.rows(votes), taken)]
        if speaks(evidence, int(chosen.sum())):
            found += 1
            yield _flag(candidate, [cell, *same], evidence, votes.vote[taken])
        cells = [one for one in cells if one not in same]
        votes, tried = votes.pick(~taken), tried[~taken]
        crowd = Crowd(votes, baselines, issued, addresses)


def speaks(evidence: Evidence, votes: int) -> bool:
    """Whether so many votes are worth a flag.

    Alike phones alone are every company with phones of its own, and every shop; with a rented
    server, a company behind a proxy in the cloud. An even rhythm alone is nothing. What else stands
    alone must be more than a handful: among a campaign's thousands of small crowds some are odd by
    chance.
    """
    if len(evidence.kinds) >= 2:
        return evidence.kinds.keys() not in ({"pace", "network"}, {"client", "network"})
    return votes >= LEAST_ALONE and bool(evidence.kinds.keys() - {"client", "pace", "network"})


LEAST_ALONE = 100
"""Votes with one kind of evidence from which on the staff is asked."""


def _near(votes: Votes, cell: Sighting) -> NDArray[np.bool_]:
    """Where the source is looked for: the burst's own network, or everywhere."""
    if not cell.network:
        return np.ones(len(votes), bool)
    return Sighting(cell.rule, cell.candidate, cell.network, 0, 0).rows(votes)


def _belongs(cell: NDArray[np.bool_], taken: NDArray[np.bool_]) -> bool:
    votes = int(cell.sum())
    return votes > 0 and int((cell & taken).sum()) >= SHARED * votes


def _votes_for(
    db: duckdb.DuckDBPyConnection, candidates: list[int], baselines: Baselines
) -> Iterator[tuple[int, Votes]]:
    """(candidate, all its votes in the order of their ids), VOTES_AT_ONCE at a time."""
    if not candidates:
        return
    db.register("given_candidates", {"c": np.array(candidates, np.int64)})
    try:
        sizes = db.execute(
            "SELECT c, count(*) FROM seen WHERE c IN (SELECT c FROM given_candidates)"
            " GROUP BY c ORDER BY c"
        ).fetchall()
    finally:
        db.unregister("given_candidates")
    for group in _groups(sizes):
        db.register("given_candidates", {"c": np.array(group, np.int64)})
        try:
            found = db.execute(
                f"SELECT c, {COLUMNS} FROM seen WHERE c IN (SELECT c FROM given_candidates)"
                " ORDER BY c, vote"
            ).fetchnumpy()
        finally:
            db.unregister("given_candidates")
        c: Ints = whole(found.pop("c"))
        votes = votes_of(found, baselines)
        for one in group:
            low, high = np.searchsorted(c, [one, one + 1])
            yield one, votes.pick(np.arange(low, high))


def _groups(sizes: list[tuple[int, int]]) -> Iterator[list[int]]:
    group: list[int] = []
    votes = 0
    for candidate, size in sizes:
        if group and votes + size > VOTES_AT_ONCE:
            yield group
            group, votes = [], 0
        group.append(candidate)
        votes += size
    if group:
        yield group


def _flag(candidate: int, cells: list[Sighting], evidence: Evidence, votes: Ints) -> Flag:
    return Flag(
        rules=tuple(sorted({one.rule for one in cells}, key=_ORDER.index)),
        version=DETECTORS_VERSION,
        kinds=tuple(sorted(evidence.kinds)),
        evidence={
            "votes": len(votes),
            "cells": len(cells),
            "surprise": round(cells[0].surprise, 1),
            **evidence.figures,
        },
        sentence=sentence(evidence, len(votes)),
        candidates={candidate: len(votes)},
        score=score_of(evidence.kinds.items()),
        votes=votes,
    )


def sentence(evidence: Evidence, votes: int) -> str:
    """What speaks against these votes, for somebody who knows no statistics."""
    figures, parts = evidence.figures, []
    if "client" in evidence.kinds:
        if figures.get("agent_ratio", 0) > 2:
            parts.append(
                f"任意两票来自同一手机型号的可能性是平常的 {_times(figures['agent_ratio'])} 倍"
            )
        if figures.get("tls_misfit", 0) > 1:
            parts.append("加密连接的特征与所称的手机不符")
    if "dwell" in evidence.kinds:
        parts.append("从看到卡片到点赞的用时整齐得不像真人")
    if "age" in evidence.kinds:
        if max(figures.get("issue_ratio", 0), figures.get("lead_ratio", 0)) > 5:
            parts.append("所用的设备令牌是同一时段成批领取、存放后才使用的")
        else:
            parts.append("设备令牌从领取到使用的间隔整齐得不像真人")
    if "pace" in evidence.kinds:
        parts.append("一票接一票的间隔像节拍器一样均匀")
    if "repeat" in evidence.kinds:
        parts.append("同一条家庭线路上的同一款手机一再换新令牌来投")
    if "network" in evidence.kinds:
        parts.append("几乎全部来自租用的服务器")
    return f"这 {votes} 票里，" + "，".join(parts) + "。"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
