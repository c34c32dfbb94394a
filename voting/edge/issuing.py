"""Issuing: what a new device gets, and what an old one must solve.

    DIANZAN_CHALLENGE   a new device gets
    off                 rung 1 at once
    adaptive            rung 1 below its network's capacity (antifraud/capacity.py), above it rung 0
                        and a challenge, the harder the further above
    always              rung 0 and a challenge

How many devices a network asks for is counted in this process alone, without the store: each
worker gives its share of the capacity (at least one device), so all of them together give out the
capacity, or one device each where they are more than that. The count fades with the rate's own
period. Networks that prove larger (learned capacity) are not known here: they get challenges above
what their class has, which refuses nobody.

An address that is no public one is never challenged in mode adaptive: nothing is known of who is
behind it, a proxy that nobody declared included (DIANZAN_TRUSTED_PROXIES).

Known weakness: counts are bounded, so who comes from very many networks is forgotten again and
begins anew. The function in the store, which judges the first vote of each device by exact
counts, does not forget.
"""

import asyncio
import math
from typing import Any, Literal, NamedTuple

import msgspec

from antifraud.capacity import CAPACITIES
from antifraud.challenge import (
    BASE_BITS,
    DWELL_SECONDS,
    MOST_BITS,
    Challenges,
    Checked,
    difficulty,
)
from antifraud.limits import Rate
from antifraud.signals import LOW_END, PROVEN
from voting import journal
from voting.campaign import Campaign
from voting.device import DeviceToken, Mint
from voting.keys import Keys
from voting.pseudonyms import Place
from voting.remembered import remember
from voting.store_line import StoreLine

Mode = Literal["off", "adaptive", "always"]

_NETWORKS_MAX = 65_536
"""Prefixes whose devices are counted; some 250 bytes each."""
_LOAD_MAX = 2 ** (MOST_BITS - BASE_BITS) * 2
"""A count stands for no more than so many times the capacity: after a flood a network is back at
its capacity within four of the rate's periods."""
_FIRST_PROOF_SECONDS = 3_600
_MIDDLE_TIMES = 2
"""An IPv6 /56 is one line with several /64s in it: so many times what one of them may."""


class Issued(NamedTuple):
    """A new device."""

    token: str
    level: int
    """The rung."""
    challenge: dict[str, Any] | None
    """What it must solve before it can vote."""
    device: DeviceToken


class _Count(msgspec.Struct, gc=False):
    """Devices of one prefix, fading."""

    devices: float
    at: float


class Issuing:
    """Gives out devices and challenges. One per edge process."""

    def __init__(self, mint: Mint, keys: Keys, mode: Mode = "off", workers: int = 1) -> None:
        """`workers`: edge processes that share the capacity of a network."""
        self.mode: Mode = mode
        self._mint = mint
        self._workers = workers
        self._counts: dict[bytes, _Count] = {}
        self.learn(keys)

    def learn(self, keys: Keys) -> None:
        """From now on these are the keys."""
        self._keys = keys
        self._challenges = Challenges(keys.derived("challenge"))

    def issue(
        self,
        campaign: Campaign,
        place: Place,
        agent_class: int,
        now: float,
        *,
        slow: bool = False,
        shard: int = 0,
    ) -> Issued:
        """A new device at this place; `slow`: its challenge, if any, goes the slow way."""
        load = self._load(place, now, devices=1)
        open_door = self.mode == "off" or (self.mode == "adaptive" and load <= 1)
        device = self._mint.new(
            campaign,
            now,
            shard=shard,
            level=int(open_door),
            network_class=place.network.network_class,
            user_agent_class=agent_class,
        )
        token = self._mint.sign(device, now)
        if open_door:
            return Issued(token, 1, None, device)
        challenge = self._make(device, place, now, difficulty(load), slow)
        return Issued(token, 0, challenge, device)

    def challenge_for(
        self, token: DeviceToken, place: Place, now: float, *, slow: bool = False
    ) -> dict[str, Any]:
        """A challenge for a device that there is already."""
        return self._make(token, place, now, self.bits_at(place, now), slow)

    def check(
        self, solution: object, token: DeviceToken, place: Place, agent_class: int, now: float
    ) -> Checked:
        """What this device's solution is."""
        return self._challenges.check(
            solution,
            token.device_id,
            place.prefixes.network,
            now,
            user_agent_class=agent_class,
        )

    def ticket_for(self, token: DeviceToken, place: Place, now: float) -> str:
        """For a form that can do no work: see `Challenges.ticket`."""
        return self._challenges.ticket(
            self._keys.signing(now),
            token.device_id,
            place.prefixes.network,
            now,
            self.bits_at(place, now),
        )

    def check_ticket(self, ticket: str, token: DeviceToken, place: Place, now: float) -> Checked:
        return self._challenges.check_ticket(ticket, token.device_id, place.prefixes.network, now)

    def prove(self, token: DeviceToken, now: float, *, slow: bool) -> tuple[str, int]:
        """(the token of this device once its challenge is solved, its rung).

        A device that kept its first challenge waiting for long begins its life now: else tokens
        could mature for nothing."""
        if not token.rung and now - token.issued_at > _FIRST_PROOF_SECONDS:
            token = msgspec.structs.replace(token, issued_at=int(now))
        level = token.level_at(now) | PROVEN
        if not token.rung:
            level += 1
        # What it once showed the usual way stays shown.
        if slow and not token.proven:
            level |= LOW_END
        elif not slow:
            level &= ~LOW_END
        return self._mint.promote(token, level, now), level & 0x0F

    def renew(self, token: DeviceToken, now: float) -> tuple[str, int]:
        """(the token of this device as its age, and the mode, have it, its rung)."""
        level = token.level_at(now)
        if self.mode == "off" and not level:
            level = 1
        return self._mint.promote(token, level, now), level & 0x0F

    def bits_at(self, place: Place, now: float) -> int:
        """How hard a challenge is there now."""
        return difficulty(self._load(place, now, devices=0))

    def _make(
        self, token: DeviceToken, place: Place, now: float, bits: int, slow: bool
    ) -> dict[str, Any]:
        return self._challenges.make(
            self._keys.signing(now),
            token.device_id,
            place.prefixes.network,
            now,
            bits=bits,
            slow=slow,
        )

    def _load(self, place: Place, now: float, *, devices: int) -> float:
        """How much of its capacity the busiest of the place's prefixes uses, with these more."""
        capacity = CAPACITIES[place.network.network_class]
        prefixes = place.prefixes
        load = 0.0
        if capacity.new_devices is not None:
            load = self._part(prefixes.network, capacity.new_devices, 1, now, devices)
            if prefixes.middle != prefixes.wide:
                rate = capacity.new_devices
                part = self._part(prefixes.middle, rate, _MIDDLE_TIMES, now, devices)
                load = max(load, part)
        if capacity.new_devices_wide is not None:
            part = self._part(prefixes.wide, capacity.new_devices_wide, 1, now, devices)
            load = max(load, part)
        return load

    def _part(self, prefix: bytes, rate: Rate, times: int, now: float, devices: int) -> float:
        share = max(1.0, rate.burst * times / self._workers)
        count = self._counts.get(prefix)
        if count is None:
            if devices:
                remember(self._counts, prefix, _Count(devices, now), _NETWORKS_MAX)
            return devices / share
        gone_us = 1_000_000 * max(0.0, now - count.at)
        held: float = count.devices * math.exp(-gone_us / rate.period_us) + devices
        held = min(held, share * _LOAD_MAX)
        if devices:
            count.devices, count.at = held, now
        return held / share


class ProofDesk:
    """Where solutions are handed in: each waits here until its time and serves once."""

    WAITING_MAX = 4_096
    """So many at a time; past it the answer is 503."""
    _REMEMBERED_SECONDS = 240
    """Twice as long as a challenge is valid."""

    def __init__(self, line: StoreLine) -> None:
        self._line = line
        self.waiting = 0

    @property
    def full(self) -> bool:
        return self.waiting >= self.WAITING_MAX

    async def spend(self, shard: int, solved: Checked) -> bool:
        """Whether it served now, for the first time; not before DWELL_SECONDS after its challenge
        was made. StoreDown: nobody knows, and the same solution again may be told that it was
        spent; another challenge helps.

        It waits first: whoever hangs up meanwhile has spent nothing.
        """
        self.waiting += 1
        try:
            await asyncio.sleep(max(0.0, DWELL_SECONDS - solved.seconds_since))
            spent = await self._line.ask(
                "SET",
                journal.spent_key(shard, solved.nonce),
                b"1",
                "NX",
                "EX",
                self._REMEMBERED_SECONDS,
            )
        finally:
            self.waiting -= 1
        return spent is not None
