"""How much a network may do, by its class: votes as shares of the campaign's limit, new devices as
rates of their own.

A campaign's `per_network` is what a shared address (a carrier's NAT, a campus) may send; a home or
a rented server gets a part of it. Above its capacity a network's votes are held, far above it, or
from a datacentre, refused; above its rate of new devices each new one has to solve a challenge.
Shared networks that prove larger get a factor on top (`watch` learns it), never a smaller one: the
rates here are floors.

Source of the rates of new devices: measurements and reasoning in the fraud findings of the
project (a home holds a few phones with two or three web views each).
"""

from typing import NamedTuple

from antifraud.limits import PERIODS_US, Rate
from antifraud.networks import NetworkClass

FAR_FACTOR = 20
"""Above its capacity a network's votes are held, above this many times its capacity refused."""

LEARNED_MAX = 255
"""The largest factor that a learned capacity can have."""


class Capacity(NamedTuple):
    """What one class of network may do. `None` = no limit of this kind."""

    part: int
    """The campaign's `per_network`, divided by this, is the limit of votes."""
    new_devices: Rate | None
    """First votes of new devices per network (IPv4 address or IPv6 /64)."""
    new_devices_wide: Rate | None
    """The same per /24 or /48."""

    def votes(self, per_network: Rate) -> Rate:
        """The limit of votes of one network of this class, in a campaign with this limit."""
        return Rate(max(1, per_network.burst // self.part), per_network.period_us)


def _hourly(devices: int) -> Rate:
    return Rate(devices, PERIODS_US["hour"])


CAPACITIES: dict[NetworkClass, Capacity] = {
    NetworkClass.UNKNOWN: Capacity(1, _hourly(300), _hourly(1_200)),
    NetworkClass.MOBILE: Capacity(1, _hourly(300), _hourly(6_000)),
    NetworkClass.HOME: Capacity(20, _hourly(6), _hourly(200)),
    NetworkClass.CAMPUS: Capacity(1, _hourly(300), _hourly(6_000)),
    NetworkClass.DATACENTRE: Capacity(100, _hourly(2), _hourly(8)),
    NetworkClass.PRIVATE: Capacity(1, None, None),
}
"""A table that covers every class; the numbers of the classes are its order."""
