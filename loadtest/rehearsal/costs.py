"""The cost model: what a stuffed vote that counts costs whoever buys it.

    cost per kept vote = (attempts x price of an attempt + challenges x price of a solution) / kept

The price of an attempt is what the market asks for a machine vote on an unprotected page, 0.03 to
0.2 yuan by the kind of route (asking prices on public task and vote-selling pages, as noted in the
project's findings; low ends, so that the figure is a lower bound): it holds addresses, accounts,
machines and the seller's margin. Not in it: what it costs to write a script, and that a seller
who delivers late is not paid. A vote that is held counts as not delivered; if the staff released it
all the same it would be cheaper, and `restored` in the report says how many that could be.

An attack of which nothing is kept has no cost per kept vote: None.
"""

from collections.abc import Mapping

from antifraud.challenge import MOST_BITS

YUAN_PER_ATTEMPT: Mapping[str, float] = {
    "A1": 0.03,  # a rented server, some yuan a day, hundreds of thousands of requests
    "A2": 0.04,  # a /24 for a day, about 20 yuan a thousand votes with its servers
    "A3": 0.05,  # open and cheap proxies, 5 to 10 yuan a GB, 300 kB a vote, many dead
    "A4": 0.20,  # residential proxies, 20 to 40 yuan a GB, a browser's page of 2 to 5 MB
    "A5": 0.08,  # emulators: 1 to 2 yuan an hour each, a vote in half a minute, with their lines
    "A6": 0.15,  # real phones, SIM cards, somebody who tends the shelves
    "A7": 0.10,  # a proxy's vote, and another visit days before for the token
    "A8": 0.50,  # people: 0.3 to 1.5 yuan
    "A9": 0.03,  # a laptop in a dormitory
    "A10": 0.05,  # home lines by the day
    "A11": 0.05,
    "A12": 0.03,
    "A13": 0.05,
}

HASHES_PER_SECOND = 10e6
"""A rented core at this kind of challenge, as `antifraud.challenge` was measured."""
YUAN_PER_CPU_HOUR = 0.10
YUAN_PER_SOLUTION = 2**MOST_BITS / HASHES_PER_SECOND * YUAN_PER_CPU_HOUR / 3600
"""3e-6 yuan for the hardest one: proof of work is no price. It stands here to be seen."""
YUAN_PER_VISIT_MORE = 0.005
"""A challenge's second request out of the same address: traffic and time of a proxy."""

HUMAN_PRICE_YUAN = 0.3
"""What a paid person costs at least: no automated route should be cheaper."""


def cost_per_kept_vote(attack: str, attempts: int, challenges: int, kept: int) -> float | None:
    """Yuan; None where nothing is kept."""
    if kept <= 0:
        return None
    spent: float = attempts * YUAN_PER_ATTEMPT[attack]
    spent += challenges * (YUAN_PER_SOLUTION + YUAN_PER_VISIT_MORE)
    return spent / kept
