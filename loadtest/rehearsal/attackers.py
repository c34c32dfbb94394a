"""The attackers A1 to A13: who stuffs, from where, with what, and how well they hide it.

Four levels of camouflage, each with what the one before it has:

    none      one or two kinds of client, a machine's haste, tokens of now, a machine's rhythm
    ua        user agents as honest people of that class of network have them, and heads to match
    ua+dwell  times to the tap replayed from people as well, and waited for
    full      all facts of real ballots replayed, each person's together: agent, TLS stack (a real
              browser, or a library that imitates one), dwell, token age and level; and the hours

and three durations: an hour, a day, and the whole campaign. A campaign of 30 days is simulated in
as many days as the country has, so "30d" spreads an attack over all of them; it is denser by 30
over days than it would be, and so is the honest crowd.

Assumed to the attackers' favour: every script solves challenges (the scheme is public) and waits as
long as a phone would (the service makes everybody wait 1.5 s, so there is nothing to win by being
quicker); nobody makes a mistake; each vote has a token of its own; A4 and A8 have as many addresses
as votes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from antifraud.networks import NetworkClass
from antifraud.signals import (
    BAD_VIEW,
    NO_FETCH_METADATA,
    NO_LANGUAGE,
    OTHER_NETWORK,
    PROVEN,
)
from loadtest.rehearsal.ballots import (
    GIVES_UP,
    SOLVES,
    Array,
    Ballots,
    Label,
    make_ballots,
    mixed,
    stream,
    together,
)
from loadtest.rehearsal.crowd import GATHERINGS
from loadtest.rehearsal.population import (
    DAY_US,
    HOUR_US,
    NOWHERE,
    Country,
    Kind,
    draw,
    draw_agents,
    script_tls,
)

CAMOUFLAGES = ("none", "ua", "ua+dwell", "full")
DURATIONS = ("1h", "1d", "30d")
SIZES = (100, 300, 1_000, 10_000, 100_000)
_UA, _DWELL, _FULL = 1, 2, 3
"""What a camouflage has, by its place in CAMOUFLAGES."""


@dataclass(frozen=True, slots=True)
class Order:
    """One attack to be carried out."""

    name: str
    size: int
    camouflage: str
    duration: str
    number: int = 1
    """Tells attacks of one kind, size and camouflage apart."""

    @property
    def level(self) -> int:
        return CAMOUFLAGES.index(self.camouflage)

    @property
    def label(self) -> Label:
        return Label(self.name, self.size, self.camouflage, self.duration, self.number)


@dataclass
class Means:
    """What an attacker has, one row a vote where it is an array."""

    network: Array
    agent: Array
    """Used at camouflage none."""
    genuine_client: bool
    """A real browser engine: its TLS and its heads fit what it claims to be."""
    dwell_seconds: Array
    """Used below ua+dwell."""
    age_seconds: Array
    """Used below full."""
    oddities: Array | int = 0
    level: Array | int = 1
    solves: int = SOLVES
    minted_together: bool = False
    """`age_seconds` is the age at the attack's begin: the tokens grow old while it goes on."""
    always_full: bool = False
    """People: nothing of theirs is made up, whatever the camouflage says."""


class People:
    """Honest ballots that attackers have recorded, and replay: each fact as often as it is there,
    and those of one person together."""

    def __init__(self, honest: Ballots) -> None:
        gathered = np.array([label.source in GATHERINGS for label in honest.labels], dtype=bool)
        ordinary = ~gathered[honest.label] & (honest["oddities"] == 0)
        classes = honest["network_class"]
        self._honest = honest
        self._rows = {
            each: np.flatnonzero(ordinary & (classes == each))
            for each in (NetworkClass.MOBILE, NetworkClass.HOME, NetworkClass.CAMPUS)
        }

    def some(self, dice: np.random.Generator, classes: Array) -> Ballots:
        """A ballot of somebody in a network of each of these classes; of a phone where no people
        are in such a one."""
        rows = dice.choice(self._rows[NetworkClass.MOBILE], len(classes))
        for each in (NetworkClass.HOME, NetworkClass.CAMPUS):
            mine = np.flatnonzero(classes == each)
            rows[mine] = dice.choice(self._rows[each], len(mine))
        return self._honest.at(rows)


def make_attack(country: Country, order: Order, rank: int, people: People) -> Ballots:
    """The ballots of one attack on the candidate of this rank, as many as its size says."""
    dice = stream(country.seed, f"{order}")
    means = _ATTACKERS[order.name].means(country, dice, order)
    count, level = order.size, _FULL if means.always_full else order.level
    at_us = _moments(country, dice, order, level)
    replayed = people.some(dice, country.networks.network_class[means.network])
    agent, tls, oddities = _client(dice, means, level, replayed)
    dwell = (means.dwell_seconds * 100).clip(1, 65_535).astype(np.int64)
    if level >= _DWELL:
        dwell = replayed["dwell_centiseconds"].astype(np.int64)
    # A page view is no older than its token: whoever claims to have looked has waited.
    age_us = dwell * 10_000 + (means.age_seconds * 1e6).astype(np.int64)
    levels = np.broadcast_to(np.asarray(means.level), count)
    if means.minted_together:
        age_us = (means.age_seconds * 1e6).astype(np.int64) + at_us - at_us.min()
    if level >= _FULL:
        age_us = replayed["token_age_seconds"].astype(np.int64) * 1_000_000
        levels = replayed["token_level"]
    oddities |= _moved_to_datacentre(country, dice, means.network, age_us)
    identity = mixed(country.seed, 5, int(dice.integers(2**62)), np.arange(count))
    return make_ballots(
        order.label,
        count,
        at_us=at_us,
        candidate=int(country.number_of_rank[rank]),
        device=identity,
        **country.networks.columns(means.network, at_us),
        user_agent_class=agent,
        tls_hash=tls,
        token_age_seconds=age_us // 1_000_000,
        token_level=levels,
        dwell_centiseconds=dwell,
        oddities=oddities,
        solves=means.solves,
    )


def _moments(country: Country, dice: np.random.Generator, order: Order, level: int) -> Array:
    """When the votes come, in the order of the votes' rows."""
    count = order.size
    if order.duration == "30d":
        first, length = country.begins_us, country.days * DAY_US
    else:
        length = HOUR_US if order.duration == "1h" else DAY_US
        latest = country.days * DAY_US - length
        first = country.begins_us + int(dice.uniform(0, latest))
    if level >= _FULL and order.duration != "1h":
        # Replayed rhythm: moments of the crowd's own hours that lie in the attack's time.
        drawn = country.moments(dice, 8 * count + 64)
        inside = drawn[(drawn >= first) & (drawn < first + length)]
        while len(inside) < count:
            more = country.moments(dice, 8 * count + 64)
            inside = np.concatenate([inside, more[(more >= first) & (more < first + length)]])
        return np.sort(inside[:count])
    if level >= _FULL:
        return np.sort(first + dice.integers(0, length, count))
    # A loop with a pause: even, with a little noise of the network.
    steps = np.arange(count) + dice.normal(0, 0.15, count)
    at_us = first + ((steps + 0.5).clip(0, count - 1) / count * length).astype(np.int64)
    return np.asarray(at_us)


def _client(
    dice: np.random.Generator, means: Means, level: int, replayed: Ballots
) -> tuple[Array, Array, Array]:
    """(agent classes, TLS hashes, oddities)"""
    count = len(replayed)
    oddities = np.zeros(count, np.int64) | means.oddities
    if level >= _FULL:
        return replayed["user_agent_class"], replayed["tls_hash"], oddities
    agent = replayed["user_agent_class"] if level >= _UA else means.agent
    if means.genuine_client:
        # One build of one app does it all; the agent may be a lie, the engine below it stays what
        # it is: the most usual one.
        return agent, np.full(count, _most_frequent(replayed["tls_hash"]), np.uint32), oddities
    tls = np.full(count, script_tls(int(dice.integers(0, 3))), np.uint32)
    if level < _UA:
        # Who does not care for the agent does not care for the other heads.
        oddities |= np.where(agent > 1, NO_LANGUAGE | NO_FETCH_METADATA, 0)
    return agent, tls, oddities


def _moved_to_datacentre(
    country: Country, dice: np.random.Generator, network: Array, age_us: Array
) -> Array:
    """The oddity of tokens that were asked for through one address of a pool, and are used through
    one of a hosting company."""
    hosted = country.networks.network_class[network] == NetworkClass.DATACENTRE
    elsewhere = dice.random(len(network)) < 1 - hosted.mean()
    return np.where(hosted & elsewhere & (age_us > HOUR_US), OTHER_NETWORK, 0)


def _most_frequent(values: Array) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[np.argmax(counts)])


# --- who attacks, and from where ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attacker:
    """One kind of attack."""

    what: str
    means: Callable[[Country, np.random.Generator, Order], Means]
    one_prefix: bool = False
    """All of it comes out of one address or one /24: to be found within a minute."""
    automated: bool = True


def _machine_haste(dice: np.random.Generator, count: int) -> Array:
    """A script's time from card to tap: what its loop takes."""
    base = dice.choice([0.3, 0.5, 1.0, 1.5])
    return np.asarray((base + dice.normal(0, 0.05, count)).clip(0.1))


def _token_of_now(dice: np.random.Generator, count: int) -> Array:
    """Asked for, perhaps proven, used: seconds."""
    return np.asarray(dice.uniform(1, 4) + dice.exponential(0.7, count))


def _script(
    dice: np.random.Generator, order: Order, network: Array, *, library_share: float = 0.5
) -> Means:
    """An HTTP library in a loop. Half of them say what they are, the others have copied one
    phone's User-Agent."""
    count = order.size
    model = 1 if dice.random() < library_share else int(dice.integers(32, 256))
    return Means(
        network=network,
        agent=np.full(count, model, np.uint8),
        genuine_client=False,
        dwell_seconds=_machine_haste(dice, count),
        age_seconds=_token_of_now(dice, count),
    )


def _rented_servers(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A1: one to four servers of a hosting company."""
    servers = int(dice.integers(1, 5))
    network = country.networks.add(
        Kind.HOSTING, np.full(servers, NOWHERE), np.repeat(country.networks.new_wides(1), servers)
    )
    return _script(dice, order, network[dice.integers(0, servers, order.size)])


def _rotated_24(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A2: every address of one rented /24 in turn. Half of those who let them are in no table of
    hosting companies."""
    known = dice.random() < 0.5
    network = country.networks.add(
        Kind.HOSTING,
        np.full(254, NOWHERE),
        np.repeat(country.networks.new_wides(1), 254),
        np.full(254, NetworkClass.DATACENTRE if known else NetworkClass.UNKNOWN, np.uint8),
    )
    return _script(dice, order, network[np.arange(order.size) % 254], library_share=0.3)


def _proxy_addresses(
    country: Country, dice: np.random.Generator, addresses: int, *, homes_only: bool = False
) -> Array:
    """A pool as proxy sellers have it: infected or paid home lines of every province, some phones,
    some servers. Some of the homes have honest people too."""
    province = country.some_provinces(dice, addresses)
    kinds = np.array([Kind.HOME, Kind.HOME_NAT, Kind.V6_HOME, Kind.MOBILE, Kind.HOSTING])
    weights = [0.7, 0.1, 0.2, 0, 0] if homes_only else [0.45, 0.08, 0.05, 0.17, 0.25]
    kind = kinds[draw(dice, np.array(weights), addresses)]
    network = np.zeros(addresses, np.int64)
    for each in kinds:
        rows = np.flatnonzero(kind == each)
        pick = country.shared if each in country.shared_networks else country.lines
        network[rows] = pick(dice, Kind(each), province[rows])
    occupied = country.networks.of_kind(Kind.HOME)
    shared = np.flatnonzero((kind == Kind.HOME) & (dice.random(addresses) < 0.3))
    network[shared] = dice.choice(occupied, len(shared))
    return network


def _proxy_pool(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A3: a script behind a pool of open and cheap proxies, each used some ten times."""
    pool = _proxy_addresses(country, dice, max(20, order.size // 10))
    return _script(dice, order, pool[dice.integers(0, len(pool), order.size)], library_share=0.2)


def _residential(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A4: a real browser driven through residential proxies, an address of its own for each vote;
    with full camouflage nothing distinguishes such a vote from an honest one."""
    count = order.size
    return Means(
        network=_proxy_addresses(country, dice, count, homes_only=True),
        agent=np.full(count, int(draw_agents(dice, country.phones.mixes[Kind.MOBILE], 1)[0])),
        genuine_client=True,
        dwell_seconds=(2.0 + dice.normal(0, 0.3, count)).clip(0.3),
        age_seconds=4.0 + dice.exponential(2.0, count),
    )


def _emulators(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A5: a studio of Android emulators, a handful of device profiles, behind the studio's lines
    and a few proxies."""
    count = order.size
    addresses = int(min(60, max(3, count // 50)))
    pool = _proxy_addresses(country, dice, addresses, homes_only=True)
    profiles = dice.integers(32, 256, int(dice.integers(3, 7)))
    return Means(
        network=pool[dice.integers(0, addresses, count)],
        agent=profiles[dice.integers(0, len(profiles), count)].astype(np.uint8),
        genuine_client=True,
        dwell_seconds=(dice.uniform(1.0, 3.0) + dice.normal(0, 0.25, count)).clip(0.2),
        age_seconds=3.0 + dice.exponential(1.5, count),
    )


def _click_farm(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A6: shelves of real phones of a few old models in one city, SIM cards of one carrier, an
    auto-clicker, the browser's data wiped after each vote."""
    count = order.size
    province = int(country.some_provinces(dice, 1)[0])
    gates = np.unique(country.shared(dice, Kind.MOBILE, np.full(12, province)))[:6]
    models = draw_agents(dice, country.phones.mixes[Kind.HOME_NAT], int(dice.integers(2, 5)))
    return Means(
        network=gates[dice.integers(0, len(gates), count)],
        agent=models[dice.integers(0, len(models), count)],
        genuine_client=True,
        dwell_seconds=(dice.uniform(1.2, 3.0) * dice.lognormal(0, 0.15, count)).clip(0.3),
        age_seconds=4.0 + dice.exponential(2.0, count),
    )


def _aged_tokens(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A7: tokens minted and proven days ahead, in one go, then used behind a proxy pool: they are
    old, of level 2, and need no challenge any more."""
    count = order.size
    pool = _proxy_addresses(country, dice, max(20, count // 10))
    means = _script(dice, order, pool[dice.integers(0, len(pool), count)], library_share=0.0)
    means.age_seconds = dice.uniform(3, 10) * 86_400 + dice.uniform(0, 3_600, count)
    means.minted_together = True
    means.level = 2 | PROVEN
    return means


def _paid_people(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A8: people of a task platform, each with their own phone at their own place, paid some tenths
    of a yuan. There is nothing to see but that they came."""
    count = order.size
    province = country.some_provinces(dice, count)
    kind = np.where(dice.random(count) < 0.6, Kind.MOBILE, Kind.HOME)
    network = np.zeros(count, np.int64)
    for each, pick in ((Kind.MOBILE, country.shared), (Kind.HOME, country.lines)):
        rows = np.flatnonzero(kind == each)
        network[rows] = pick(dice, each, province[rows])
    return Means(
        network=network,
        agent=draw_agents(dice, country.phones.mixes[Kind.MOBILE], count),
        genuine_client=True,
        dwell_seconds=np.zeros(count),
        age_seconds=np.zeros(count),
        always_full=True,
    )


def _one_nat(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A9: a script on a laptop behind one carrier's NAT, or in a dormitory, among honest people."""
    kind = Kind.MOBILE if dice.random() < 0.6 else Kind.CAMPUS
    nat = country.shared(dice, kind, country.some_provinces(dice, 1))
    return _script(dice, order, np.repeat(nat, order.size), library_share=0.2)


def _low_and_slow(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A10: a few votes an hour from a few dozen home lines, over as long as there is."""
    addresses = int(min(400, max(12, order.size // 25)))
    pool = _proxy_addresses(country, dice, addresses, homes_only=True)
    return _script(dice, order, pool[dice.integers(0, addresses, order.size)], library_share=0.0)


def _joe_job(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A11: a rival stuffs for somebody, loudly, so that they are disqualified: A1 and A3 mixed.
    Here it counts that the honest votes of that candidate stay."""
    count = order.size
    loud, pool = _rented_servers(country, dice, order), _proxy_pool(country, dice, order)
    network = np.where(dice.random(count) < 0.5, loud.network, pool.network)
    return _script(dice, order, network)


def _replayed_nonces(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A12: one recorded page view, shown again with new tokens. The stamp that a page gets is its
    device's alone; whoever replays times to the tap has learned to take the one that comes with
    the counts, which is anybody's, and is a proxy pool from then on."""
    pool = _proxy_addresses(country, dice, max(10, order.size // 20))
    means = _script(dice, order, pool[dice.integers(0, len(pool), order.size)], library_share=0.2)
    if order.level < _DWELL:
        oddities = np.full(order.size, BAD_VIEW)
        oddities[0] = 0
        means.oddities = oddities
    return means


def _adaptive(country: Country, dice: np.random.Generator, order: Order) -> Means:
    """A13: tries address after address and leaves each one at its first challenge."""
    pool = _proxy_addresses(country, dice, max(20, order.size // 10))
    means = _script(dice, order, pool[dice.integers(0, len(pool), order.size)], library_share=0.0)
    means.solves = GIVES_UP
    return means


_ATTACKERS = {
    "A1": Attacker("datacentre script", _rented_servers, one_prefix=True),
    "A2": Attacker("/24 rotation", _rotated_24, one_prefix=True),
    "A3": Attacker("proxy pool", _proxy_pool),
    "A4": Attacker("mimic residential proxies", _residential),
    "A5": Attacker("emulator farm", _emulators),
    "A6": Attacker("click farm", _click_farm),
    "A7": Attacker("aged tokens", _aged_tokens),
    "A8": Attacker("paid humans", _paid_people, automated=False),
    "A9": Attacker("single-NAT script", _one_nat, one_prefix=True),
    "A10": Attacker("low and slow", _low_and_slow),
    "A11": Attacker("joe-job on a rival", _joe_job),
    "A12": Attacker("nonce replay", _replayed_nonces),
    "A13": Attacker("adaptive", _adaptive),
}
ATTACKERS: dict[str, Attacker] = _ATTACKERS

# --- which attacks a rehearsal has ----------------------------------------------------------------

ATTACK_SHARE_MAX = 0.5
"""Stuffed votes per honest one, at most: a third of what comes. More would be a campaign that
nobody could save, and "usual" would mean the attackers."""


def plan(
    seed: int,
    honest_votes: int,
    *,
    attacks: Sequence[str] = tuple(ATTACKERS),
    sizes: Sequence[int] = SIZES,
    camouflages: Sequence[str] = CAMOUFLAGES,
) -> list[Order]:
    """The attacks of one seed: each kind at each size and camouflage once, the small ones first,
    none and ua before the stronger two, as long as ATTACK_SHARE_MAX allows.

    Durations take turns from cell to cell and from seed to seed. Of the largest a seed has room for
    a few only, so which ones takes turns as well: five seeds of two million have twenty of 100,000.
    """
    budget = ATTACK_SHARE_MAX * honest_votes
    planned: list[Order] = []
    for size in sorted(sizes):
        cells = [
            (name, camouflage)
            for wanted in (("none", "ua"), ("ua+dwell", "full"))
            for camouflage in wanted
            if camouflage in camouflages
            for name in ATTACKERS
            if name in attacks
        ]
        easy = sum(camouflage in ("none", "ua") for _, camouflage in cells)
        for part in (cells[:easy], cells[easy:]):
            room = int(max(0, budget) // size)
            # Where not all of them have room, the next seed goes on where this one ended.
            turn = (seed * room) % len(part) if part and room < len(part) else 0
            for name, camouflage in (part[turn:] + part[:turn])[:room]:
                planned.append(
                    Order(name, size, camouflage, _duration(seed, name, size, camouflage))
                )
                budget -= size
    return planned


def _duration(seed: int, name: str, size: int, camouflage: str) -> str:
    if name == "A10":
        return "30d"
    place = (
        int(name[1:]) + SIZES.index(size) + CAMOUFLAGES.index(camouflage) if size in SIZES else 0
    )
    return DURATIONS[(seed + place) % len(DURATIONS)]


def carry_out(country: Country, orders: Sequence[Order], honest: Ballots) -> Ballots:
    """All ballots of these attacks, by attackers who have recorded these honest ones. Each has a
    candidate of its own as far as there are some: ranks 5 to 400, those who could still win
    something by it."""
    ranks = _targets(stream(country.seed, "targets"))
    people = People(honest)
    return together([make_attack(country, order, next(ranks), people) for order in orders])


def _targets(dice: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (int(rank) for rank in 5 + dice.permutation(395))
