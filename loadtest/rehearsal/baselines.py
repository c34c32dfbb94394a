"""What others would use, on the same crowd: the plain burst rule, and MIDAS-R.

Both look at edges (network, candidate). Both see every ballot, as if nothing had been screened
before, and both are given what favours them: the burst rule the true volume of each hour, MIDAS-R
large sketches and a threshold that knows how many attack votes there are.
"""

from dataclasses import dataclass

import numpy as np

from loadtest.rehearsal.ballots import Array, Ballots, mixed

_HOUR_US = 3_600_000_000

BURST_LEAST_VOTES = 30
BURST_OPENS_AT = 40.0


@dataclass(frozen=True, slots=True)
class Measured:
    """How well scores tell attacks from people."""

    auc: float
    threshold: float
    hits: int
    """Attack votes at or above the threshold."""
    false_alarms: int
    """Honest votes at or above it."""
    attack_votes: int
    honest_votes: int
    gathered_flagged: int
    """Of the honest bursts of campuses and employers, votes at or above it."""
    gathered_votes: int


def burst_scores(ballots: Ballots) -> Array:
    """For each ballot the surprise of its cell (network, candidate, hour): n ln(n / mu) - n + mu,
    where mu is what the network's and the candidate's votes of that hour lead to expect; 0 for
    cells that are no larger than that."""
    hour = ballots["at_us"] // _HOUR_US
    n = _counts(mixed(ballots["network"], ballots["candidate"], hour))
    of_network = _counts(mixed(ballots["network"], hour))
    of_candidate = _counts(mixed(ballots["candidate"], hour))
    of_hour = _counts(hour)
    # Lone votes expect nearly nothing: a hundredth of a vote keeps the logarithm in bounds.
    mu = np.maximum(of_network * of_candidate / of_hour, 0.01)
    surprise = n * np.log(n / mu) - n + mu
    return np.where((n > mu) & (n >= BURST_LEAST_VOTES), surprise, 0.0)


def _counts(keys: Array) -> Array:
    """How often each value comes."""
    _, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(counts[which].astype(float))


TICK_US = 300_000_000
"""MIDAS-R's unit of time: five minutes."""
MIDAS_ROWS = 2
MIDAS_COLUMNS = 1 << 16
"""Far more than the 1,024 of the paper's experiments, for there are far more edges."""
MIDAS_DECAY = 0.5


def midas_r_scores(
    ballots: Ballots,
    *,
    tick_us: int = TICK_US,
    rows: int = MIDAS_ROWS,
    columns: int = MIDAS_COLUMNS,
    decay: float = MIDAS_DECAY,
) -> Array:
    """MIDAS-R's score of each edge, in order of time.

    Count-min sketches keep, of edges, of sources and of destinations, the count of the current tick
    (a, which fades by `decay` from tick to tick) and of all time (s). With t the number of the
    tick, the score is the largest of the three values of chi-squared (a - s/t)^2 t^2 / (s (t - 1)):
    how far this tick is from the mean of all. Source: S. Bhatia, B. Hooi, M. Yoon, K. Shin,
    C. Faloutsos, "MIDAS: Microcluster-Based Detector of Anomalies in Edge Streams", AAAI 2020,
    sections "MIDAS" and "MIDAS-R". Written from the paper's description.
    """
    keys = [
        mixed(ballots["network"], ballots["candidate"]),
        mixed(ballots["network"]),
        mixed(ballots["candidate"]),
    ]
    places = [
        [(mixed(key, row) % np.uint64(columns)).astype(np.int64) for row in range(rows)]
        for key in keys
    ]
    current = [np.zeros((rows, columns)) for _ in keys]
    total = [np.zeros((rows, columns)) for _ in keys]
    tick = ballots["at_us"] // tick_us
    scores = np.zeros(len(ballots))
    starts = np.flatnonzero(np.concatenate([[True], tick[1:] != tick[:-1]]))
    ends = np.concatenate([starts[1:], [len(ballots)]])
    before = int(tick[0]) if len(tick) else 0
    first = before
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        now = int(tick[start])
        t = now - first + 1
        part = slice(start, end)
        for kind in range(len(keys)):
            current[kind] *= decay ** (now - before)
            a = np.full(end - start, np.inf)
            s = np.full(end - start, np.inf)
            for row in range(rows):
                place = places[kind][row][part]
                seen = _so_far(place)
                a = np.minimum(a, current[kind][row][place] + seen)
                s = np.minimum(s, total[kind][row][place] + seen)
                np.add.at(current[kind][row], place, 1.0)
                np.add.at(total[kind][row], place, 1.0)
            if t > 1:
                scores[part] = np.maximum(scores[part], (a * t - s) ** 2 / (s * (t - 1)))
        before = now
    return scores


def _so_far(places: Array) -> Array:
    """How often each value has come up to here, itself included."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.concatenate([begins, [len(places)]]))
    seen = np.empty(len(places))
    seen[order] = np.arange(len(places)) - np.repeat(begins, lengths) + 1
    return seen


def measure(ballots: Ballots, scores: Array, threshold: float | None = None) -> Measured:
    """How well these scores do; without a threshold at the generous one."""
    attack = ballots.is_attack
    gathered = np.array(
        [label.source in ("campus-burst", "employer-burst") for label in ballots.labels]
    )[ballots.label]
    if threshold is None:
        threshold = generous_threshold(attack, scores)
    flagged = scores >= threshold
    return Measured(
        auc(attack, scores),
        threshold,
        int((flagged & attack).sum()),
        int((flagged & ~attack).sum()),
        int(attack.sum()),
        int((~attack).sum()),
        int((flagged & gathered).sum()),
        int(gathered.sum()),
    )


def auc(positive: Array, scores: Array) -> float:
    """Chance that a random positive scores above a random negative, ties half; 0.5 of none."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return 0.5
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = ends - (counts - 1) / 2
    ranks = float(middle[which[positive]].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def generous_threshold(positive: Array, scores: Array) -> float:
    """The score from which on as many votes are flagged as there are attack votes: what nobody who
    runs such a rule knows, and the line at which precision and recall are equal."""
    wanted = int(positive.sum())
    if not wanted:
        return float(scores.max(initial=0.0)) + 1.0
    return float(np.partition(scores, len(scores) - wanted)[len(scores) - wanted])
