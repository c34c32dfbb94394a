"""Telling apart which of a candidate's votes are one other source's, and which are the crowd's.

Two components explain the votes: the crowd, as the baselines have it, and one other source whose
phones, dwell times, leads, TLS stacks, hours and networks are learned from the votes themselves
(expectation and maximisation, naive Bayes over the facts). Every vote is judged by what was
learned from the *other* votes, and only votes that the crowd hardly explains are taken: people who
happen to be beside a stuffer are spared.

Known weakness: a source of fewer than thirty votes is left alone, and so is one that is unlike the
crowd in nothing that a vote carries.
"""

import numpy as np
from numpy.typing import NDArray

from antifraud.detectors.baselines import Floats, Ints
from antifraud.detectors.buckets import AGE_BUCKETS, AGENTS, DWELL_BUCKETS, FRESH_BUCKETS, weighed
from antifraud.detectors.crowd import Addresses, Crowd
from antifraud.detectors.sightings import NETWORKS, Votes

ROUNDS = 10
SETTLED = 0.02
_MOVING = 5e-4
"""When fewer of the votes than this have a chance that moved by more than SETTLED, it is done."""
_OUT = 1e-4
"""Votes below this after the first rounds are the crowd's for good: 3 of 4 need no more looking."""
_FIRST_ROUNDS = 2
CROWD_LEAST = 0.05
"""Of the votes looked at: so many are taken for the crowd's before anything is known of them."""
_SMOOTH = 2.0
"""Votes taken for new in any source, whatever it shows: no certainty from a few."""


def part(votes: Votes, crowd: Crowd, start: Floats) -> Floats:
    """For each vote how likely (0 to 1) it is the other source's, beginning with `start`."""
    facts = _Facts(votes, crowd)
    chance = np.clip(start.astype(np.float64), 0.0, 1.0)
    total_votes = len(votes)
    everyone = np.arange(total_votes)
    for number in range(ROUNDS):
        if chance.sum() < 1:
            break
        updated = facts.chance(chance)
        moved = np.abs(updated - chance) > SETTLED
        chance = updated
        if moved.mean() < _MOVING:
            break
        if number + 1 == _FIRST_ROUNDS:
            left = chance > _OUT
            if left.sum() < 0.7 * total_votes:
                facts.drop(~left)
                everyone, chance = everyone[left], chance[left]
    whole_chance = np.zeros(total_votes)
    whole_chance[everyone] = chance
    return whole_chance


class _Facts:
    """The facts of the votes that are still looked at, as places in tables of shares, and the
    logarithm of how likely each is for the crowd."""

    _OF_A_VOTE = ("u", "d", "a", "stack", "hour", "issue", "known_u", "known_d", "known_stack",
                  "old", "crowd_u", "crowd_stack", "crowd_issue")  # fmt: skip

    def __init__(self, votes: Votes, crowd: Crowd) -> None:
        self.size = len(votes)
        self.u, self.d, self.a, self.stack = votes.u, votes.d, votes.a, np.maximum(votes.stack, 0)
        self.known_u, self.known_d = votes.u > 0, votes.d > 0
        self.known_stack, self.old = votes.stack >= 0, votes.a >= FRESH_BUCKETS
        self.agent_shares = crowd.agent
        self.crowd = crowd
        self.dropped_of_dwell = np.zeros(DWELL_BUCKETS)
        self.dropped_of_age = np.zeros(AGE_BUCKETS)
        self.stack_of_agent = crowd.baselines.stack
        self.crowd_u = np.log(crowd.agent)[self.u]
        self.crowd_stack = np.log(crowd.baselines.stack[self.u, self.stack])
        hours, self.hour = np.unique(votes.vh, return_inverse=True)
        self.hour_shares = np.bincount(self.hour, minlength=len(hours)) / max(len(votes), 1)
        self.dropped_of_hour = np.zeros(len(hours))
        self.networks = [
            _NetworkFact(getattr(votes, name), crowd.addresses[name]) for name in NETWORKS
        ]
        issues, self.issue = np.unique(votes.h, return_inverse=True)
        self.issue_shares = crowd.issued.share(issues)
        self.crowd_issue = np.log(self.issue_shares)[self.issue]

    def drop(self, rows: NDArray[np.bool_]) -> None:
        """These are the crowd's; their hours and networks go on counting as its."""
        for network in self.networks:
            network.drop(rows)
        self.dropped_of_dwell += np.bincount(self.d[rows], minlength=DWELL_BUCKETS)
        self.dropped_of_age += np.bincount(self.a[rows], minlength=AGE_BUCKETS)
        self.dropped_of_hour += np.bincount(self.hour[rows], minlength=len(self.dropped_of_hour))
        for name in self._OF_A_VOTE:
            setattr(self, name, getattr(self, name)[~rows])

    def chance(self, chance: Floats) -> Floats:
        """One round: learn the other source from these chances, and judge every vote anew."""
        total, rest = float(chance.sum()), 1 - chance
        odds = np.full(len(chance), np.log(total / max(self.size - total, CROWD_LEAST * self.size)))

        def add(theirs: Floats, crowds: Floats, known: NDArray[np.bool_] | None = None) -> None:
            gain = theirs - crowds
            if known is not None:
                gain = np.where(known, gain, 0.0)
            # A fact in which the source is like the crowd says nothing, and what was learned of it
            # is noise.
            if float((chance * gain).sum()) > LEAST_GAIN * total:
                np.add(odds, gain, out=odds)

        # The crowd's own hurry is that of the votes that are left to it.
        dwell = self.crowd.dwell(weighed(self.d, rest, DWELL_BUCKETS) + self.dropped_of_dwell)
        age = self.crowd.age(weighed(self.a, rest, AGE_BUCKETS) + self.dropped_of_age)
        add(_log_share(self.a, chance, age / age.sum()), np.log(age)[self.a])
        for column, known, shares, crowds in (
            (self.u, self.known_u, self.agent_shares, self.crowd_u),
            (self.d, self.known_d, dwell / dwell.sum(), np.log(dwell)[self.d]),
            (self.issue, self.old, self.issue_shares, self.crowd_issue),
        ):
            add(_log_share(column, chance * known, shares), crowds, known)
        if self.known_stack.any():
            weight = chance * self.known_stack
            expected = weighed(self.u, weight, AGENTS) @ self.stack_of_agent + 1e-6
            theirs = _log_share(self.stack, weight, expected / expected.sum())
            add(theirs, self.crowd_stack, self.known_stack)
        add(
            _log_share(self.hour, chance, self.hour_shares),
            _log_share(self.hour, rest, self.hour_shares, self.dropped_of_hour),
        )
        # The address and the network around it are one fact: whichever tells more.
        gains = [network.gain(chance) for network in self.networks]
        told = [float((chance * gain).sum()) for gain in gains]
        best = int(np.argmax(told))
        if told[best] > LEAST_GAIN * total:
            odds += gains[best]
        result: Floats = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        return result


class _NetworkFact:
    """From which network, or wide network, each vote came."""

    def __init__(self, networks: Ints, addresses: Addresses) -> None:
        numbers, self.place = np.unique(networks, return_inverse=True)
        self.shares = addresses.share(numbers)
        self.dropped = np.zeros(len(numbers))
        self.dropped_new = 0.0

    def drop(self, rows: NDArray[np.bool_]) -> None:
        dropped = np.bincount(self.place[rows], minlength=len(self.dropped))
        everywhere = np.bincount(self.place, minlength=len(self.dropped))
        self.dropped_new += float(dropped[everywhere == 1].sum())
        self.dropped += dropped
        self.place = self.place[~rows]

    def gain(self, chance: Floats) -> Floats:
        theirs = _log_share(self.place, chance, self.shares)
        crowds = _log_share(self.place, 1 - chance, self.shares, self.dropped, self.dropped_new)
        result: Floats = theirs - crowds
        return result


LEAST_GAIN = 0.02
"""Nats a vote, by votes that were not learned from: what a fact must tell to be used."""


def _log_share(
    column: Ints,
    weight: Floats,
    usual: Floats,
    before: Floats | None = None,
    new_before: float = 0.0,
) -> Floats:
    """For each vote the logarithm of how likely a source of these weights has its bucket, going by
    the *other* votes: one that spoke for itself would pull itself in wherever votes are few.

    A bucket that none of the others has is new, and then any is as likely as it is for everybody
    (`usual`). How often one is new is learned from the same votes (Good and Turing): with an
    address for each vote nearly always, and then the fact says nothing; with six addresses for all
    hardly ever, and then it says much.
    """
    counts = weighed(column, weight, len(usual))
    total = float(weight.sum())
    if before is not None:
        counts = counts + before
        total += float(before.sum())
    others = np.maximum(counts[column] - weight, 0.0)
    new = (float(weight[others < 0.5].sum()) + new_before + _SMOOTH) / (total + _SMOOTH)
    seen = others / max(total, 1.0)
    result: Floats = np.log((1 - new) * seen + new * usual[column] + _NEVER)
    return result


_NEVER = 1e-12


def pure(chance: Floats) -> NDArray[np.bool_]:
    """The surest votes of which together at most one in a hundred is expected to be honest."""
    order = np.argsort(-chance, kind="stable")
    wrong = np.cumsum(1 - chance[order]) / np.arange(1, len(order) + 1)
    most = int(np.searchsorted(wrong, HONEST_SHARE_MAX, side="right"))
    chosen = np.zeros(len(chance), bool)
    chosen[order[:most]] = True
    return chosen & (chance > SURE)


SURE = 0.9
"""A vote less sure than this stays the crowd's, however sure the others are."""

HONEST_SHARE_MAX = 0.002
"""Of the votes of a flag, by what the two components say."""
