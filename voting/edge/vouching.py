"""Vouching: devices of people whom a portal vouches for (level 3; voting/identity.py).

They solve no challenge and are no new devices of their network's: the portal let their people in.
Their network's limit of votes is theirs too, and detectors see their votes like all others.

Looking at a signature costs as much as five likes, so floods of them are bounded: 500 a second in
one process (6 % of a core), past which the answer is 503 `overloaded`. Three things keep one sender
from using that up for all:

- An assertion that was right once is not looked at again, however often it is sent.
- A network that sends more than 60 wrong ones a minute is a suspect: of it five a second are looked
  at, so that honest people behind the same address come through by trying again. What is wrong
  among those is not counted.
- So is a wide network (IPv4 /24, IPv6 /48) from 240 a minute on, with ten a second: somebody's /48
  has 65,536 networks in it.

Likes are not touched. Weakness: who sends wrong ones out of three dozen wide networks uses up the
bound of all, so that honest people have to come again later; and a portal that hands out new
assertions without a limit of its own lets whoever is signed in there do so alone.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable

from antifraud.limits import PERIODS_US, Rate, take, wait_us
from antifraud.networks import Prefixes
from antifraud.signals import PROVEN, VOUCHED
from voting.campaign import Campaign
from voting.device import DeviceToken, Mint
from voting.edge.issuing import Budget, Issued
from voting.identity import NOT_SIGNED, Assertion, Refused, device_of, read_assertion
from voting.keys import Keys
from voting.pseudonyms import Place
from voting.remembered import remember

_WRONG_AT_MOST = Rate(60, PERIODS_US["minute"])
_WRONG_AT_MOST_WIDE = Rate(240, PERIODS_US["minute"])
_OF_A_SUSPECT = Rate(5, PERIODS_US["second"])
_OF_A_WIDE_SUSPECT = Rate(10, PERIODS_US["second"])
"""More than of one network: its neighbours are not shut out by one of them."""
_NETWORKS_MAX = 65_536
"""Networks whose wrong signatures are counted; some 150 bytes each."""
_RIGHT_MAX = 65_536
"""Assertions that were right; some 150 bytes each."""


class Suspects:
    """Networks that send many wrong signatures, and how many of theirs are looked at. In both
    dictionaries: network, or wide network (no two are written alike) -> GCRA's next_free."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wrong: dict[bytes, int] = {}
        self._looked_at: dict[bytes, int] = {}

    def bounds_of(self, prefixes: Prefixes) -> list[tuple[bytes, Rate]]:
        """What of these is a suspect, with the rate that it has; none, mostly."""
        now_us = self._now_us()
        return [
            (prefix, bound)
            for prefix, wrong, bound in (
                (prefixes.network, _WRONG_AT_MOST, _OF_A_SUSPECT),
                (prefixes.wide, _WRONG_AT_MOST_WIDE, _OF_A_WIDE_SUSPECT),
            )
            if wait_us(wrong, self._wrong.get(prefix, 0), now_us) > 0
        ]

    def take(self, bounds: list[tuple[bytes, Rate]]) -> bool:
        """One more of a suspect's; False where that is too much for any of its bounds."""
        now_us = self._now_us()
        taken = [
            (prefix, *take(bound, self._looked_at.get(prefix, 0), now_us))
            for prefix, bound in bounds
        ]
        if not all(admitted for _, admitted, _ in taken):
            return False
        for prefix, _, next_free in taken:
            remember(self._looked_at, prefix, next_free, _NETWORKS_MAX)
        return True

    def count(self, prefixes: Prefixes) -> None:
        """A wrong one."""
        now_us = self._now_us()
        for prefix, rate in (
            (prefixes.network, _WRONG_AT_MOST),
            (prefixes.wide, _WRONG_AT_MOST_WIDE),
        ):
            _, wrong = take(rate, self._wrong.get(prefix, 0), now_us)
            remember(self._wrong, prefix, wrong, _NETWORKS_MAX)

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)


class Vouching:
    """Takes portals' assertions. One per edge process."""

    def __init__(
        self,
        mint: Mint,
        keys: Keys,
        results: Counter[tuple[str, str]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`results` is counted in: (portal, what became of its assertion)."""
        self._mint = mint
        self._keys = keys
        self._results = results
        self._checks = Budget(monotonic)
        self._suspects = Suspects(monotonic)
        self._right: dict[bytes, None] = {}
        """Digests of assertions, with the key that signed them. That one is still valid, and its
        key the portal's, is read anew each time."""

    def device(
        self,
        campaign: Campaign,
        assertion: str,
        place: Place,
        agent_class: int,
        now: float,
    ) -> Issued | Refused | None:
        """The device of the person whom this assertion is about; None where too many are being
        looked at."""
        read = read_assertion(assertion, campaign, now)
        if isinstance(read, Refused):
            return self._refuse(read, read.portal)
        digest = hashlib.blake2b(read.key + read.signature + read.signed, digest_size=16).digest()
        if digest not in self._right:
            bounds = self._suspects.bounds_of(place.prefixes)
            if (bounds and not self._suspects.take(bounds)) or not self._checks.take():
                return None
            if not read.is_signed():
                if not bounds:
                    self._suspects.count(place.prefixes)
                return self._refuse(NOT_SIGNED, read.portal)
            remember(self._right, digest, None, _RIGHT_MAX)
        self._results[read.portal, "vouched"] += 1
        device = self._device_of(read, campaign, place, agent_class, now)
        return Issued(self._mint.sign(device, now), device.rung, None, device)

    def _device_of(
        self,
        assertion: Assertion,
        campaign: Campaign,
        place: Place,
        agent_class: int,
        now: float,
    ) -> DeviceToken:
        return DeviceToken(
            device_of(assertion, self._keys, shards=campaign.derived_shards),
            int(now),
            campaign.number,
            place.network.network_class,
            agent_class,
            VOUCHED | PROVEN,
        )

    def _refuse(self, why: Refused, portal: str) -> Refused:
        self._results[portal, why.flaw.value] += 1
        return why
