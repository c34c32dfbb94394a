"""Vouching: devices of people whom a portal vouches for (level 3; voting/identity.py).

They solve no challenge and are no new devices of their network's: the portal let their people in.
Their network's limit of votes is theirs too, and detectors see their votes like all others.

Looking at a signature costs as much as five likes, so floods of them are bounded: 500 a second in
one process (6 % of a core), past which the answer is 503 `overloaded`, and of those that were wrong
60 a minute and network, past which that network's are not looked at for the rest of it. Likes are
not touched. Weakness: who sends wrong ones out of very many networks uses up the bound of all, so
that honest people have to come again later.
"""

import time
from collections import Counter
from collections.abc import Callable

from antifraud.limits import PERIODS_US, Rate, take, wait_us
from antifraud.signals import PROVEN, VOUCHED
from voting.campaign import Campaign
from voting.device import DeviceToken, Mint
from voting.edge.issuing import Budget, Issued
from voting.identity import NOT_SIGNED, Assertion, Refused, device_of, read_assertion
from voting.keys import Keys
from voting.pseudonyms import Place
from voting.remembered import remember

_WRONG_AT_MOST = Rate(60, PERIODS_US["minute"])
_NETWORKS_MAX = 65_536
"""Networks whose wrong signatures are counted; some 150 bytes each."""


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
        self._monotonic = monotonic
        self._checks = Budget(monotonic)
        self._wrong: dict[bytes, int] = {}
        """Network -> when it may send wrong ones again at the full rate: GCRA's next_free."""

    def device(
        self,
        campaign: Campaign,
        assertion: str,
        place: Place,
        agent_class: int,
        now: float,
        *,
        shard: int = 0,
    ) -> Issued | Refused | None:
        """The device of the person whom this assertion is about; None where too many are being
        looked at."""
        read = read_assertion(assertion, campaign, now)
        if isinstance(read, Refused):
            return self._refuse(read, read.portal)
        network = place.prefixes.network
        if self._sends_wrong_ones(network) or not self._checks.take():
            return None
        if not read.is_signed():
            self._count_wrong(network)
            return self._refuse(NOT_SIGNED, read.portal)
        self._results[read.portal, "vouched"] += 1
        device = self._device_of(read, campaign, place, agent_class, now, shard)
        return Issued(self._mint.sign(device, now), device.rung, None, device)

    def _device_of(
        self,
        assertion: Assertion,
        campaign: Campaign,
        place: Place,
        agent_class: int,
        now: float,
        shard: int,
    ) -> DeviceToken:
        return DeviceToken(
            device_of(assertion, self._keys, shard=shard),
            int(now),
            campaign.number,
            place.network.network_class,
            agent_class,
            VOUCHED | PROVEN,
        )

    def _refuse(self, why: Refused, portal: str) -> Refused:
        self._results[portal, why.flaw.value] += 1
        return why

    def _sends_wrong_ones(self, network: bytes) -> bool:
        wrong = self._wrong.get(network)
        return wrong is not None and wait_us(_WRONG_AT_MOST, wrong, self._now_us()) > 0

    def _count_wrong(self, network: bytes) -> None:
        _, wrong = take(_WRONG_AT_MOST, self._wrong.get(network, 0), self._now_us())
        remember(self._wrong, network, wrong, _NETWORKS_MAX)

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)
