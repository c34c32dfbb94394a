"""The country that a rehearsal takes place in: candidates, networks, phones, hours of a day.

Nothing here is measured on real voters. Each figure is an assumption with its reason beside it,
and honest people were drawn to be as awkward for detectors as life is: heavy tails, neighbours
behind one address, one phone make in a whole company.
"""

import functools
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from zlib import crc32

import numpy as np

from antifraud.networks import NetworkClass
from antifraud.user_agents import FIRST_MODEL, MODELS
from loadtest.rehearsal.ballots import Array, mixed, stream

CANDIDATES = 750
ZIPF_EXPONENT = 0.9
"""How much more the first candidates get than the last ones (evaluation protocol)."""
HOME_BOOST = 8
"""How much more somebody of one's own province is liked (evaluation protocol)."""
PER_PROVINCE = 10
"""Candidates that each province puts forward; the others are of societies and companies."""

PROVINCES = np.array(
    [127, 101, 98, 85, 84, 74, 67, 66, 61, 58, 50, 47, 45, 42, 42, 40, 39, 35, 32, 31, 26, 25, 25,
     24, 23, 22, 14, 10, 7, 6, 4], dtype=float
)  # fmt: skip
"""People in millions, the largest first: public census figures, rounded."""
PROVINCES = PROVINCES / PROVINCES.sum()
NOWHERE = len(PROVINCES)
"""Province number of candidates without one, and of crowds from everywhere."""

BEGINS_AT = datetime(2026, 7, 3, tzinfo=timezone(timedelta(hours=8)))
"""A Friday: the simulated days hold a weekend."""
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000

HOURS = np.array(
    [1.3, 0.7, 0.4, 0.3, 0.3, 0.6, 1.6, 3.2, 4.6, 5.0, 5.2, 5.4, 6.6, 5.6, 4.6, 4.5, 4.6, 5.0, 5.6,
     6.6, 7.6, 7.8, 6.2, 3.0]
)  # fmt: skip
"""Votes by hour in Asia/Shanghai: up by eight, a peak at noon and a higher one after dinner, as
news portals publish of their phone readers."""


class Kind(IntEnum):
    """What stands behind an address. The service sees the class alone, not the kind."""

    MOBILE = 0
    """A carrier's NAT: hundreds of phones of one province behind one address."""
    HOME = 1
    """One household's line."""
    HOME_NAT = 2
    """A cheap broadband provider's NAT: dozens of households behind one address of class home."""
    OFFICE = 3
    """A small company: 5 to 40 people behind one business line, mostly of class home."""
    V6_MOBILE = 4
    """A phone's own /64, another one with each attachment; many phones in a /48."""
    V6_HOME = 5
    """A household's /64; some dozens of households in a /48."""
    CAMPUS = 6
    """A university's or a large employer's 1 to 4 addresses."""
    HOSTING = 7
    """A rented server: VPN users come from there, and scripts."""


SHARES = {
    Kind.MOBILE: 0.40,
    Kind.HOME: 0.27,
    Kind.HOME_NAT: 0.05,
    Kind.OFFICE: 0.03,
    Kind.V6_MOBILE: 0.12,
    Kind.V6_HOME: 0.08,
    Kind.CAMPUS: 0.05,
}
"""Of the votes: 40 % carrier NAT, 35 % home lines, 20 % IPv6, 5 % campus (evaluation protocol; the
division of the home lines and of IPv6 is ours)."""

CLASS_OF = {
    Kind.MOBILE: NetworkClass.MOBILE,
    Kind.HOME: NetworkClass.HOME,
    Kind.HOME_NAT: NetworkClass.HOME,
    Kind.OFFICE: NetworkClass.HOME,
    Kind.V6_MOBILE: NetworkClass.MOBILE,
    Kind.V6_HOME: NetworkClass.HOME,
    Kind.CAMPUS: NetworkClass.CAMPUS,
    Kind.HOSTING: NetworkClass.DATACENTRE,
}
_ASNS = {
    NetworkClass.MOBILE: (9808, 56040, 4134, 4837, 24400),
    NetworkClass.HOME: (4134, 4837, 9808, 17621, 9394),
    NetworkClass.CAMPUS: (4538, 9811, 23910, 24362),
    NetworkClass.DATACENTRE: (37963, 45090, 55990, 38365, 14618),
    NetworkClass.UNKNOWN: (0,),
    NetworkClass.PRIVATE: (0,),
}
"""Numbers that such networks have in public registries; what matters is that they are few."""

# --- networks -------------------------------------------------------------------------------------


@dataclass
class Networks:
    """Addresses, numbered from 0, and the wider networks that they lie in."""

    seed: int
    kind: Array = field(default_factory=lambda: np.zeros(0, np.uint8))
    network_class: Array = field(default_factory=lambda: np.zeros(0, np.uint8))
    asn: Array = field(default_factory=lambda: np.zeros(0, np.uint32))
    province: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    wide: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    wides: int = 0

    def new_wides(self, count: int) -> Array:
        """Numbers of so many new /24s or /48s."""
        self.wides += count
        return np.arange(self.wides - count, self.wides)

    def add(
        self,
        kind: Kind,
        province: Array,
        wide: Array,
        network_class: Array | NetworkClass | None = None,
    ) -> Array:
        """Numbers of new networks, one for each province and wide network given. One wide network
        belongs to one provider."""
        if network_class is None:
            network_class = CLASS_OF[kind]
        first, count = len(self.kind), len(province)
        classes = np.broadcast_to(np.asarray(network_class, np.uint8), count)
        asn = np.zeros(count, np.uint32)
        for each, numbers in _ASNS.items():
            mine = classes == each
            # The first providers of the list are the largest: the wide network decides evenly
            # over a list in which they stand once, which is skew enough for counts by ASN.
            chosen = mixed(self.seed, 77, wide[mine]) % np.uint64(len(numbers))
            asn[mine] = np.array(numbers, np.uint32)[chosen.astype(np.int64)]
        self.kind = np.concatenate([self.kind, np.full(count, kind, np.uint8)])
        self.network_class = np.concatenate([self.network_class, classes])
        self.asn = np.concatenate([self.asn, asn])
        self.province = np.concatenate([self.province, province.astype(np.int8)])
        self.wide = np.concatenate([self.wide, wide.astype(np.int64)])
        return np.arange(first, first + count)

    def of_kind(self, kind: Kind) -> Array:
        return np.flatnonzero(self.kind == kind)

    def columns(self, networks: Array, at_us: Array) -> dict[str, Array]:
        """What a ballot from these addresses carries. The key of the pseudonyms changes at
        midnight in Asia/Shanghai, as the service's does."""
        day = (at_us + 8 * HOUR_US) // DAY_US
        return {
            "network": mixed(self.seed, 1, day, networks),
            "network_wide": mixed(self.seed, 2, day, self.wide[networks]),
            "asn": self.asn[networks],
            "network_class": self.network_class[networks],
        }


# --- phones and browsers --------------------------------------------------------------------------


def _bucket(model: str) -> int:
    return FIRST_MODEL + crc32(model.encode()) % MODELS


IPHONES = {26: 0.28, 18: 0.40, 17: 0.14, 16: 0.10, 15: 0.08}
"""Version of iOS -> share of iPhones: Apple tells no model, so a version is as good as one."""
_IPHONE_BUCKETS = {version: _bucket(f"iphone {version}") for version in IPHONES}
NEWEST_IPHONE = _IPHONE_BUCKETS[max(IPHONES)]

ANDROID_MODELS = 3_000
"""Phone models in use; the most usual one has about 1 % of the people, most have next to none."""
_MODEL_EXPONENT = 0.75
_REDUCED_SHARE = 0.04
"""Of Android browsers, those that send a reduced User-Agent and claim the model "K"."""
_DESKTOPS = {2: 0.36, 12: 0.22, 9: 0.12, 3: 0.09, 14: 0.08, 16: 0.08, 11: 0.03, 17: 0.02}
"""Class of antifraud.user_agents -> share of the desktops and tablets."""

IPHONE_SHARE = {
    Kind.MOBILE: 0.23, Kind.HOME: 0.26, Kind.HOME_NAT: 0.10, Kind.OFFICE: 0.30,
    Kind.V6_MOBILE: 0.27, Kind.V6_HOME: 0.28, Kind.CAMPUS: 0.40, Kind.HOSTING: 0.35,
}  # fmt: skip
"""Of phones: more among students and office workers, fewer behind cheap broadband."""
DESKTOP_SHARE = {
    Kind.MOBILE: 0.004, Kind.HOME: 0.08, Kind.HOME_NAT: 0.05, Kind.OFFICE: 0.35,
    Kind.V6_MOBILE: 0.002, Kind.V6_HOME: 0.07, Kind.CAMPUS: 0.20, Kind.HOSTING: 0.45,
}  # fmt: skip
WECHAT_SHARE = {
    Kind.MOBILE: 0.64, Kind.HOME: 0.52, Kind.HOME_NAT: 0.66, Kind.OFFICE: 0.58,
    Kind.V6_MOBILE: 0.60, Kind.V6_HOME: 0.50, Kind.CAMPUS: 0.60, Kind.HOSTING: 0.30,
}  # fmt: skip
"""Of phones, those that vote inside WeChat and not in a browser: the card is shared there."""

_ANDROID_WECHAT = {"xweb-1": 0.62, "xweb-2": 0.28, "x5": 0.10}
_ANDROID_BROWSERS = {
    "webview-1": 0.30, "webview-2": 0.15, "uc": 0.14, "quark": 0.08, "qq": 0.12, "huawei": 0.13,
    "chrome": 0.08,
}  # fmt: skip
_SCRIPT_TLS = tuple(crc32(f"library/{name}".encode()) for name in ("go", "requests", "node"))


def tls_of(name: str) -> int:
    """The hash of the fingerprint of one kind of TLS client."""
    return crc32(f"tls/{name}".encode()) or 1


class Phones:
    """Who votes with what: a mix of agent classes for each kind of network, and TLS to match."""

    def __init__(self, seed: int) -> None:
        dice = stream(seed, "phones")
        weights = np.arange(1, ANDROID_MODELS + 1, dtype=float) ** -_MODEL_EXPONENT
        buckets = FIRST_MODEL + dice.integers(0, MODELS, ANDROID_MODELS)
        self._androids: dict[Kind, Array] = {}
        for kind in Kind:
            # Each kind of network its own taste: half as much or twice as much of a model.
            own = weights * dice.lognormal(0, 0.5, ANDROID_MODELS)
            mix = np.bincount(buckets, own, 256)
            mix = mix / mix.sum() * (1 - _REDUCED_SHARE)
            mix[_bucket("k")] += _REDUCED_SHARE
            self._androids[kind] = mix
        self.mixes = {
            kind: self.mix_of(self._androids[kind], IPHONE_SHARE[kind], DESKTOP_SHARE[kind])
            for kind in Kind
        }

    @staticmethod
    def mix_of(androids: Array, iphones: float, desktops: float) -> Array:
        """Probability of each of the 256 agent classes."""
        mix = androids * (1 - iphones) * (1 - desktops)
        for version, share in IPHONES.items():
            mix[_IPHONE_BUCKETS[version]] += iphones * (1 - desktops) * share
        for number, share in _DESKTOPS.items():
            mix[number] += desktops * share
        return np.asarray(mix / mix.sum())

    def community(self, dice: np.random.Generator, kind: Kind) -> Array:
        """The mix of one circle of people: colleagues, a year of students, an elderly dance group.
        They talk each other into phones, so theirs is no fair draw of the country's."""
        androids = self._androids[kind] * dice.lognormal(0, 0.6, 256)
        androids = androids / androids.sum()
        middle = IPHONE_SHARE[kind]
        return self.mix_of(
            androids, dice.beta(6 * middle, 6 * (1 - middle)), DESKTOP_SHARE[kind] / 2
        )

    def tls(self, dice: np.random.Generator, agents: Array, wechat_share: float) -> Array:
        """TLS hashes that these agents really have."""
        apps = _draw(dice, _app_mix(wechat_share), len(agents))
        return np.asarray(_TLS_TABLE[agents, apps])


def _app_mix(wechat_share: float) -> Array:
    return np.array(
        [share * wechat_share for share in _ANDROID_WECHAT.values()]
        + [share * (1 - wechat_share) for share in _ANDROID_BROWSERS.values()]
    )


def _make_tls_table() -> Array:
    """Agent class by app -> TLS hash."""
    apps = [*_ANDROID_WECHAT, *_ANDROID_BROWSERS]
    table = np.zeros((256, len(apps)), np.uint32)
    for number in range(FIRST_MODEL, 256):
        table[number] = [tls_of(app) for app in apps]
    # Every app on iOS uses the system's TLS.
    for version, number in _IPHONE_BUCKETS.items():
        table[number] = tls_of(f"ios-{version}")
    table[_bucket("k")] = [tls_of("chrome" if n % 3 else "webview-1") for n in range(len(apps))]
    for number in range(2, 32):
        table[number] = tls_of({3: "safari", 11: "ios-18", 17: "firefox"}.get(number, "chromium"))
        table[number, ::4] = tls_of("chromium-older")
    table[:2] = _SCRIPT_TLS[0]
    return table


_TLS_TABLE = _make_tls_table()


def script_tls(which: int) -> int:
    """The fingerprint of an HTTP library."""
    return _SCRIPT_TLS[which % len(_SCRIPT_TLS)]


def draw_agents(dice: np.random.Generator, mix: Array, count: int) -> Array:
    """Agent classes by a mix of 256."""
    return _draw(dice, mix, count).astype(np.uint8)


def _draw(dice: np.random.Generator, weights: Array, count: int) -> Array:
    edges = np.cumsum(weights)
    places = np.searchsorted(edges, dice.random(count) * edges[-1], side="right")
    return np.asarray(places.clip(0, len(weights) - 1))


draw = _draw
"""Indices by weights: what Generator.choice does, in a fifth of the time."""

# --- the country ----------------------------------------------------------------------------------


@dataclass
class Country:
    """Everything that honest people and attackers find when they come."""

    seed: int
    days: int
    networks: Networks
    phones: Phones
    number_of_rank: Array
    """Rank from 0 -> Candidate.number."""
    province_of_rank: Array
    wides: dict[Kind, "ByProvince"] = field(default_factory=dict)
    """The /24s and /48s in which households and phones get addresses of their own."""
    shared_networks: dict[Kind, "ByProvince"] = field(default_factory=dict)

    @property
    def begins_us(self) -> int:
        return int(BEGINS_AT.timestamp()) * 1_000_000

    @property
    def ends_us(self) -> int:
        return self.begins_us + self.days * DAY_US

    @functools.cached_property
    def _wishes(self) -> Array:
        """Province (and NOWHERE) by rank: the running sum of what its people wish."""
        weights = (np.arange(CANDIDATES) + 1.0) ** -ZIPF_EXPONENT
        rows = np.where(
            self.province_of_rank[None, :] == np.arange(NOWHERE + 1)[:, None], HOME_BOOST, 1
        )
        rows[NOWHERE] = 1
        edges = np.cumsum(rows * weights, axis=1)
        return np.asarray(edges / edges[:, -1:])

    def wishes(self, dice: np.random.Generator, provinces: Array) -> Array:
        """Ranks of candidates that people of these provinces like."""
        drawn = dice.random(len(provinces))
        ranks = np.zeros(len(provinces), np.int64)
        order = np.argsort(provinces, kind="stable")
        bounds = np.searchsorted(provinces[order], np.arange(NOWHERE + 2))
        for province in range(NOWHERE + 1):
            rows = order[bounds[province] : bounds[province + 1]]
            ranks[rows] = np.searchsorted(self._wishes[province], drawn[rows], side="right")
        return np.asarray(ranks.clip(0, CANDIDATES - 1))

    def moments(self, dice: np.random.Generator, count: int, days: Array | None = None) -> Array:
        """Moments of the period (microseconds), by the hours of a day."""
        if days is None:
            days = dice.integers(0, self.days, count)
        hours = _draw(dice, HOURS, count)
        within = dice.integers(0, HOUR_US, count)
        return np.asarray(self.begins_us + days * DAY_US + hours * HOUR_US + within)

    def some_provinces(self, dice: np.random.Generator, count: int) -> Array:
        return _draw(dice, PROVINCES, count)

    def lines(self, dice: np.random.Generator, kind: Kind, provinces: Array) -> Array:
        """New networks of one household or phone each, in these provinces."""
        return self.networks.add(kind, provinces, self.wides[kind].pick(dice, provinces))

    def shared(self, dice: np.random.Generator, kind: Kind, provinces: Array) -> Array:
        """Shared networks in these provinces; the large ones more often."""
        return self.shared_networks[kind].pick(dice, provinces)


class ByProvince:
    """Things of a province, drawn by their size."""

    def __init__(self, things: Array, provinces: Array, sizes: Array) -> None:
        order = np.argsort(provinces, kind="stable")
        self._things = things[order]
        self._sums = np.concatenate([[0.0], np.cumsum(sizes[order])])
        self._bounds = np.searchsorted(provinces[order], np.arange(NOWHERE + 1))

    def pick(self, dice: np.random.Generator, provinces: Array) -> Array:
        """One thing for each of these provinces. NOWHERE stands for any."""
        provinces = np.where(
            provinces == NOWHERE, _draw(dice, PROVINCES, len(provinces)), provinces
        )
        low, high = self._sums[self._bounds[provinces]], self._sums[self._bounds[provinces + 1]]
        at = np.searchsorted(self._sums, low + dice.random(len(provinces)) * (high - low), "right")
        return np.asarray(self._things[(at - 1).clip(0, len(self._things) - 1)])


def make_country(seed: int, votes: int, days: int) -> Country:
    """Candidates and the networks of so many votes. Attackers and phones add networks later."""
    dice = stream(seed, "country")
    province_of_rank = np.full(CANDIDATES, NOWHERE)
    chosen = dice.permutation(CANDIDATES)[: NOWHERE * PER_PROVINCE]
    province_of_rank[chosen] = np.repeat(np.arange(NOWHERE), PER_PROVINCE)
    country = Country(
        seed,
        days,
        Networks(seed),
        Phones(seed),
        1 + dice.permutation(CANDIDATES),
        province_of_rank,
    )
    _add_shared_networks(country, votes, dice)
    return country


VOTES_PER_NAT_DAY = {Kind.MOBILE: 150, Kind.HOME_NAT: 25, Kind.OFFICE: 6}
"""Mean votes a day behind one shared address: few and large, as at the campaign's height. What
each really has differs by a factor of ten (log-normal)."""
_VOTES_PER_CAMPUS_DAY = 150
_PER_WIDE = {Kind.MOBILE: 20, Kind.HOME_NAT: 4, Kind.OFFICE: 3}
"""Addresses of a shared kind in one /24: a carrier's NAT has them in a row."""
_VOTES_PER_WIDE_DAY = {Kind.HOME: 10, Kind.V6_MOBILE: 150, Kind.V6_HOME: 40}
"""Mean votes a day out of one /24 of home lines, one /48 of phones, one /48 of households."""
_SIZE_SPREAD = 1.0
"""Sigma of the log-normal sizes of networks: the largest of a thousand is twenty times the mean."""


def _add_shared_networks(country: Country, votes: int, dice: np.random.Generator) -> None:
    networks = country.networks

    def provinces_of(count: int) -> Array:
        """Every province has two at least."""
        twice = np.tile(np.arange(NOWHERE), 2)
        return np.sort(
            np.concatenate([twice, country.some_provinces(dice, max(0, count - len(twice)))])
        )

    for kind, daily in VOTES_PER_NAT_DAY.items():
        province = provinces_of(round(votes * SHARES[kind] / country.days / daily))
        place = np.arange(len(province)) - np.searchsorted(province, province)
        _, wide = np.unique(province * 100_000 + place // _PER_WIDE[kind], return_inverse=True)
        classes: Array | None = None
        if kind is Kind.OFFICE:
            # Most business lines are not told from home lines by their ASN.
            mostly_home = dice.random(len(province)) < 0.7
            classes = np.where(mostly_home, NetworkClass.HOME, NetworkClass.CAMPUS)
        wides = networks.new_wides(int(wide.max()) + 1)
        numbers = networks.add(kind, province, wides[wide], classes)
        sizes = dice.lognormal(0, _SIZE_SPREAD, len(province))
        country.shared_networks[kind] = ByProvince(numbers, province, sizes)

    province = provinces_of(
        round(votes * SHARES[Kind.CAMPUS] / country.days / _VOTES_PER_CAMPUS_DAY)
    )
    addresses = dice.integers(1, 5, len(province))
    sizes = np.repeat(dice.lognormal(0, _SIZE_SPREAD, len(province)) / addresses, addresses)
    wides = np.repeat(networks.new_wides(len(province)), addresses)
    province = np.repeat(province, addresses)
    numbers = networks.add(Kind.CAMPUS, province, wides)
    country.shared_networks[Kind.CAMPUS] = ByProvince(numbers, province, sizes)

    servers = max(20, votes // 50_000)
    province = np.tile(np.arange(NOWHERE), servers // NOWHERE + 1)
    wides = networks.new_wides(len(province))
    numbers = networks.add(Kind.HOSTING, province, wides)
    country.shared_networks[Kind.HOSTING] = ByProvince(numbers, province, np.ones(len(province)))

    for kind, daily in _VOTES_PER_WIDE_DAY.items():
        province = provinces_of(round(votes * SHARES[kind] / country.days / daily))
        wides = networks.new_wides(len(province))
        sizes = dice.lognormal(0, _SIZE_SPREAD, len(province))
        country.wides[kind] = ByProvince(wides, province, sizes)
