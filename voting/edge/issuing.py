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

What a network asks for above its capacity makes its challenges harder, but a stranger's devices
only so far: those of the wider prefixes (IPv4 /24; IPv6 /56, /48) add one bit at most, and on
networks that strangers share (mobile, campus, unknown) two bits are the most. Counts end a little
above what the hardest challenge stands for, so that after a flood, however long, a shared network
is back at its capacity in 1.5 of its rate's periods, a wide one in 0.8, and a home or a rented
server, which may be asked for the most, in 2.9.

Challenges are bound to the wide prefix, not the address, which carriers change with the
connection (antifraud/challenge.py).

A challenge costs as much as five likes to make, a solution to check, so floods of them are
bounded: who asks again within 20 s gets the same one again, and past 500 new ones or 500 checks in
a second the process answers 503 `overloaded` (each 5 to 8 % of a core). Weakness: the bound is
one for all, so in such a flood honest devices that need a challenge come back later; likes of
devices that need none are not touched. The same one again is this process's: one that was solved
at another process meanwhile is given out here until its 20 s are over, and refused as spent.

An address that is no public one is never challenged in mode adaptive: nothing is known of who is
behind it, a proxy that nobody declared included (DIANZAN_TRUSTED_PROXIES).

Known weakness: counts are bounded, so who comes from very many networks is forgotten again and
begins anew. The function in the store, which judges the first vote of each device by exact
counts, does not forget.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from antifraud.capacity import CAPACITIES
from antifraud.challenge import (
    BASE_BITS,
    DWELL_SECONDS,
    MOST_BITS,
    Challenges,
    Checked,
    Finding,
    difficulty,
)
from antifraud.limits import Rate, take, wait_us
from antifraud.networks import NetworkClass
from antifraud.signals import LOW_END, PROVEN
from voting import journal
from voting.campaign import Campaign
from voting.device import DeviceToken, Mint, following_device_id
from voting.keys import Keys
from voting.pseudonyms import Place
from voting.remembered import remember
from voting.store_line import StoreLine

Mode = Literal["off", "adaptive", "always"]

_NETWORKS_MAX = 65_536
"""Prefixes whose devices are counted; some 250 bytes each."""
_SHARED = frozenset({NetworkClass.UNKNOWN, NetworkClass.MOBILE, NetworkClass.CAMPUS})
"""An address of these is many strangers'."""
_SHARED_MOST_BITS = BASE_BITS + 2
_WIDER_MOST_BITS = BASE_BITS + 1
_LOAD_ABOVE = 1.1
"""A count stands for no more than so many times what asks for the hardest challenge: it stays the
hardest for a tenth of a period after the last device, and is forgotten soon."""
_AT_MOST = Rate(50, 100_000)
"""New challenges, and checks of solutions: 500 a second each, evenly enough that no like waits
for more than 8 ms of them."""
_SAME_AGAIN_SECONDS = 20
"""A sixth of the time that a challenge is valid."""
_GIVEN_MAX = 8_192
"""Challenges that may be given again; some 1.5 kB each."""
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


class _Given(NamedTuple):
    """A challenge that was given out."""

    challenge: dict[str, Any]
    bits: int
    at: float


class _Loads(NamedTuple):
    """How much of its capacity a place uses: 1.0 = all."""

    own: float
    wider: float
    """The busiest of the prefixes round it."""


class Budget:
    """What this process does at most, by _AT_MOST."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next_free_us = 0

    def take(self) -> bool:
        """One more; False where that is too much."""
        admitted, self._next_free_us = take(_AT_MOST, self._next_free_us, self._now_us())
        return admitted

    @property
    def spent(self) -> bool:
        return wait_us(_AT_MOST, self._next_free_us, self._now_us()) > 0

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)


class Issuing:
    """Gives out devices and challenges. One per edge process."""

    def __init__(
        self,
        mint: Mint,
        keys: Keys,
        mode: Mode = "off",
        workers: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
        shard_of_new: Callable[[], int] = lambda: 0,
    ) -> None:
        """`workers`: edge processes that share the capacity of a network. `monotonic`: the clock
        of the budgets. `shard_of_new`: which shard a new device gets."""
        self.mode: Mode = mode
        self._mint = mint
        self._workers = workers
        self._shard_of_new = shard_of_new
        self._counts: dict[bytes, _Count] = {}
        self._made = Budget(monotonic)
        self._checked = Budget(monotonic)
        self.learn(keys)

    def learn(self, keys: Keys) -> None:
        """From now on these are the keys."""
        self._keys = keys
        self._challenges = Challenges(keys.derived("challenge"))
        self._given: dict[bytes, _Given] = {}

    def issue(
        self,
        campaign: Campaign,
        place: Place,
        agent_class: int,
        now: float,
        *,
        slow: bool = False,
    ) -> Issued | None:
        """A new device at this place; `slow`: its challenge, if any, goes the slow way. None where
        it needs one and too many are being made."""
        device, loads = self._new(campaign, place, agent_class, now)
        challenge = None
        if not device.rung:
            challenge = self._make(device, place, now, _bits(place, loads), slow)
            if challenge is None:
                return None
        return Issued(self._mint.sign(device, now), device.rung, challenge, device)

    def issue_to_form(
        self, campaign: Campaign, place: Place, agent_class: int, now: float, click: str = ""
    ) -> str:
        """The token of a new device that can do no work: where it needs a challenge, it gets a
        ticket when it votes.

        With the form's `click` it is the same device each time that click comes from this network
        by this kind of program: a press that is sent again because its answer, and with it the
        cookie, was lost counts once. A portal that writes one fixed click into its page makes one
        device of all who press there, but of no more than one network and kind of program at once.
        """
        device, _ = self._new(campaign, place, agent_class, now)
        if click:
            device_id = self._device_of_click(campaign, place, agent_class, click)
            device = msgspec.structs.replace(device, device_id=device_id)
        return self._mint.sign(device, now)

    def _device_of_click(
        self, campaign: Campaign, place: Place, agent_class: int, click: str
    ) -> bytes:
        parts = (campaign.id.encode(), place.prefixes.wide, b"%d" % agent_class, click.encode())
        return following_device_id(
            self._keys.identity, b"dz-form-click", *parts, shards=campaign.derived_shards
        )

    def _new(
        self, campaign: Campaign, place: Place, agent_class: int, now: float
    ) -> tuple[DeviceToken, _Loads]:
        """(a new device, on rung 0 where it needs a challenge; the loads with it)."""
        loads = self._loads(place, now, devices=1)
        open_door = self.mode == "off" or (self.mode == "adaptive" and max(loads) <= 1)
        device = self._mint.new(
            campaign,
            now,
            shard=self._shard_of_new(),
            level=int(open_door),
            network_class=place.network.network_class,
            user_agent_class=agent_class,
        )
        return device, loads

    def challenge_for(
        self, token: DeviceToken, place: Place, now: float, *, slow: bool = False
    ) -> dict[str, Any] | None:
        """A challenge for a device that there is already; None where too many are being made."""
        return self._make(token, place, now, self.bits_at(place, now), slow)

    @property
    def checks_no_more(self) -> bool:
        """Whether a solution would only be told UNCHECKED now."""
        return self._checked.spent

    def check(
        self, solution: object, token: DeviceToken, place: Place, agent_class: int, now: float
    ) -> Checked:
        """What this device's solution is."""
        checked = self._challenges.check(
            solution,
            token.device_id,
            place.prefixes.wide,
            now,
            user_agent_class=agent_class,
            may_verify=self._checked.take,
        )
        if checked.finding in (Finding.SOLVED, Finding.TOO_FAST):
            # It serves no more: who asks again needs another one.
            self._given.pop(_given_to(token, place, checked.slow), None)
        return checked

    def ticket_for(self, token: DeviceToken, place: Place, now: float) -> str:
        """For a form that can do no work: see `Challenges.ticket`."""
        return self._challenges.ticket(
            self._keys.signing(now),
            token.device_id,
            place.prefixes.wide,
            now,
            self.bits_at(place, now),
        )

    def check_ticket(self, ticket: str, token: DeviceToken, place: Place, now: float) -> Checked:
        return self._challenges.check_ticket(ticket, token.device_id, place.prefixes.wide, now)

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
        return _bits(place, self._loads(place, now, devices=0))

    def _make(
        self, token: DeviceToken, place: Place, now: float, bits: int, slow: bool
    ) -> dict[str, Any] | None:
        """One that was given lately, or a new one; None where too many are being made."""
        key = _given_to(token, place, slow)
        given = self._given.get(key)
        if given and given.bits == bits and 0 <= now - given.at < _SAME_AGAIN_SECONDS:
            return given.challenge
        if not self._made.take():
            return None
        challenge = self._challenges.make(
            self._keys.signing(now),
            token.device_id,
            place.prefixes.wide,
            now,
            bits=bits,
            slow=slow,
        )
        return remember(self._given, key, _Given(challenge, bits, now), _GIVEN_MAX).challenge

    def _loads(self, place: Place, now: float, *, devices: int) -> _Loads:
        """How much of its capacity the place uses, with these devices more."""
        capacity = CAPACITIES[place.network.network_class]
        prefixes, rate = place.prefixes, capacity.new_devices
        own = wider = 0.0
        if rate is not None:
            most_bits = _most_bits(place)
            own = self._part(prefixes.network, rate, 1, most_bits, now, devices)
            if prefixes.middle != prefixes.wide:
                wider = self._part(
                    prefixes.middle, rate, _MIDDLE_TIMES, _WIDER_MOST_BITS, now, devices
                )
        rate = capacity.new_devices_wide
        if rate is not None:
            part = self._part(prefixes.wide, rate, 1, _WIDER_MOST_BITS, now, devices)
            wider = max(wider, part)
        return _Loads(own, wider)

    def _part(
        self, prefix: bytes, rate: Rate, times: int, most_bits: int, now: float, devices: int
    ) -> float:
        share = max(1.0, rate.burst * times / self._workers)
        count = self._counts.get(prefix)
        if count is None:
            if devices:
                remember(self._counts, prefix, _Count(devices, now), _NETWORKS_MAX)
            return devices / share
        gone_us = 1_000_000 * max(0.0, now - count.at)
        held: float = count.devices * math.exp(-gone_us / rate.period_us) + devices
        held = min(held, share * _LOAD_ABOVE * 2 ** (most_bits - BASE_BITS))
        if devices:
            count.devices, count.at = held, now
        return held / share


def _most_bits(place: Place) -> int:
    """How hard a challenge may become by what its own network asks for."""
    return _SHARED_MOST_BITS if place.network.network_class in _SHARED else MOST_BITS


def _bits(place: Place, loads: _Loads) -> int:
    return max(difficulty(loads.own, _most_bits(place)), difficulty(loads.wider, _WIDER_MOST_BITS))


def _given_to(token: DeviceToken, place: Place, slow: bool) -> bytes:
    """What a challenge is given again by. The level is part of it: whoever has proven something
    elsewhere meanwhile is not given what it has solved."""
    return token.device_id + bytes((token.level, slow)) + place.prefixes.wide


class ProofDesk:
    """Where solutions are handed in: each waits here until its time and serves once."""

    WAITING_MAX = 4_096
    """So many at a time; past it the answer is 503."""
    _REMEMBERED_SECONDS = 240
    """Twice as long as a challenge is valid."""

    def __init__(self, line_of: Callable[[int], StoreLine]) -> None:
        """`line_of`: the line of a shard."""
        self._line_of = line_of
        self._waiting: set[str] = set()
        """Nonces."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return self.waiting >= self.WAITING_MAX

    async def spend(self, shard: int, solved: Checked) -> bool:
        """Whether it served now, for the first time; not before DWELL_SECONDS after its challenge
        was made. StoreDown: nobody knows, and the same solution again may be told that it was
        spent; another challenge helps.

        While it waits here, the same one a second time is refused at once, and takes no place;
        whoever hung up meanwhile is helped by another challenge too.
        """
        if solved.nonce in self._waiting:
            return False
        self._waiting.add(solved.nonce)
        try:
            await asyncio.sleep(max(0.0, DWELL_SECONDS - solved.seconds_since))
            spent = await self._line_of(shard).ask(
                "SET",
                journal.spent_key(shard, solved.nonce),
                b"1",
                "NX",
                "EX",
                self._REMEMBERED_SECONDS,
            )
        finally:
            self._waiting.discard(solved.nonce)
        return spent is not None
