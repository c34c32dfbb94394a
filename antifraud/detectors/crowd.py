"""Crowd: how the honest votes for one candidate are expected to look, from the baselines, the
candidate's own hurry and novelty, and the networks and hours of everybody."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from antifraud.detectors.baselines import Baselines, Floats, Ints, collision, mixture
from antifraud.detectors.buckets import (
    AGE_BUCKETS,
    CLASSES,
    DWELL_BUCKETS,
    FRESH_BUCKETS,
    product,
    weighed,
)
from antifraud.detectors.sightings import Votes

# People differ by this many buckets (one standard deviation): what a candidate's own crowd has
# more of than others is believed only where it is spread at least so.
_DWELL_SPREAD = 4.0
_LEAD_SPREAD = 2.5


def _spread(buckets: int, spread: float) -> Floats:
    places = np.arange(buckets)
    kernel = np.exp(-0.5 * ((places[:, None] - places[None, :]) / spread) ** 2)
    result: Floats = kernel / kernel.sum(axis=1, keepdims=True)
    return result


DWELL_KERNEL = _spread(DWELL_BUCKETS - 1, _DWELL_SPREAD)
LEAD_KERNEL = _spread(AGE_BUCKETS - 1, _LEAD_SPREAD)


def own_shares(usual: Floats, counts: Floats, kernel: Floats) -> Floats:
    """What to expect of a candidate's crowd: the usual shares or, where larger, the candidate's
    own ones smoothed as people spread. Rows are candidates; need not add up to 1."""
    total = np.maximum(counts.sum(axis=-1, keepdims=True), 1.0)
    result: Floats = np.maximum(
        usual, product(np.atleast_2d(counts / total), kernel).reshape(usual.shape)
    )
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Addresses:
    """How many votes of everybody came from each busy network."""

    networks: Ints
    """Ascending."""
    votes: Ints
    total: int
    """Votes of all networks together."""

    def share(self, networks: Ints) -> Floats:
        """What part of all votes comes from each of these; a quiet one is as good as another."""
        if len(self.networks) == 0:
            return np.full(len(networks), QUIET_VOTES / max(self.total, 1))
        place = np.minimum(np.searchsorted(self.networks, networks), len(self.networks) - 1)
        known = self.networks[place] == networks
        return np.where(known, self.votes[place], QUIET_VOTES) / max(self.total, 1)


QUIET_VOTES = 3
"""Taken for the votes of a network that is not busy."""
BUSY_VOTES = 8
"""From so many on a network is counted by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Issued:
    """When the old tokens of everybody were issued, by the hour."""

    hours: Ints
    """Ascending."""
    shares: Floats

    @property
    def collision(self) -> float:
        """Chance that two random ones are of the same hour."""
        return float(collision(self.shares)) if len(self.shares) else 1.0

    def share(self, hour: Ints) -> Floats:
        """What part of the old tokens was issued in each of these hours."""
        if len(self.hours) == 0:
            return np.ones(len(hour))
        place = np.minimum(np.searchsorted(self.hours, hour), len(self.hours) - 1)
        return np.where(self.hours[place] == hour, self.shares[place], float(self.shares.min()))


class Crowd:
    """What is expected of the honest votes for one candidate."""

    def __init__(
        self,
        votes: Votes,
        baselines: Baselines,
        issued: Issued,
        addresses: Mapping[str, Addresses],
    ) -> None:
        self.baselines = baselines
        self.issued = issued
        self.addresses = addresses
        cls = np.bincount(votes.cls, minlength=CLASSES).astype(np.float64)
        self.agent = mixture(baselines.agent, cls)
        self.usual_dwell = mixture(baselines.dwell, cls)
        self.usual_age = mixture(baselines.age, cls)

    def dwell(self, counts: Floats) -> Floats:
        """Shares of dwell to expect where those of the crowd that are known have these counts."""
        shares = self.usual_dwell.copy()
        shares[1:] = own_shares(shares[1:], counts[1:], DWELL_KERNEL)
        return shares

    def age(self, counts: Floats) -> Floats:
        """The same of leads."""
        shares = self.usual_age.copy()
        shares[1:] = own_shares(shares[1:], counts[1:], LEAD_KERNEL)
        return shares

    def old_ratios(self, votes: Votes, part: Floats) -> tuple[float, float]:
        """How many times more often than usual two old tokens have the same lead, and the same
        hour of issue."""
        old = votes.a >= FRESH_BUCKETS
        lead = weighed(votes.a[old], part[old], AGE_BUCKETS)
        usual = self.usual_age.copy()
        usual[:FRESH_BUCKETS] = 0
        usual = usual / max(float(usual.sum()), 1e-12)
        hours, place = np.unique(votes.h[old], return_inverse=True)
        hour = weighed(place, part[old], len(hours)) if len(hours) else np.zeros(1)
        return (
            _same(lead) / max(float(collision(usual)), 1e-9),
            _same(hour) / max(self.issued.collision, 1e-9),
        )


def _same(counts: Floats) -> float:
    total = float(counts.sum())
    if total < 2:
        return 0.0
    return max(0.0, float((counts * (counts - 1)).sum())) / (total * (total - 1))
