"""The honest crowd: people, their phones, their visits, and the likes that they give in them.

Most of it is background: people of each kind of network who come by the hours of the day, some
once, a few every day, and like one candidate or several in a row. On top of it are the crowds that
look like cheating and are not: a cascade of shares, a campus and a company that vote together, a
school class at ten o'clock, a shop full of one make of phone, a candidate who was on television,
families, private windows, and people with two browsers.

Everything is drawn from the seed. What is assumed stands in constants, each with its reason.
"""

from dataclasses import dataclass

import numpy as np

from antifraud.networks import NetworkClass
from antifraud.signals import (
    NO_FETCH_METADATA,
    NO_LANGUAGE,
    OTHER_AGENT,
    OTHER_NETWORK,
)
from loadtest.rehearsal.ballots import (
    GIVES_UP,
    SOLVES,
    SOLVES_SLOWLY,
    Array,
    Ballots,
    Label,
    make_ballots,
    mixed,
    stream,
    together,
)
from loadtest.rehearsal.population import (
    DAY_US,
    HOUR_US,
    NEWEST_IPHONE,
    SHARES,
    WECHAT_SHARE,
    Country,
    Kind,
    draw,
    draw_agents,
    tls_of,
)

VISITS = np.arange(1, 21.0) ** -2.2
"""Visits of a person in the period, from 1 on: half come once, a few every day and more."""
LIKES = np.arange(1, 11.0) ** -1.9
"""Likes in a visit, from 1 to 10 (a usual quota): most came for one card, some work down a list."""

OLD_TOKEN_SHARE = 0.34
"""People whose token was given out before the period. Calibrated so that 40 % of all votes come
with a token of the same visit (evaluation protocol)."""
_OLD_TOKEN_DAYS = 6.0
"""Mean age of those at the begin of the period (exponential)."""

DWELL_MEDIAN_SECONDS = {
    Kind.MOBILE: 6.0, Kind.HOME: 7.0, Kind.HOME_NAT: 7.5, Kind.OFFICE: 5.0, Kind.V6_MOBILE: 6.0,
    Kind.V6_HOME: 7.0, Kind.CAMPUS: 5.0, Kind.HOSTING: 6.0,
}  # fmt: skip
"""From the card's appearance to the tap: one reads a name and a line or two."""
DWELL_SPREAD = 0.85
"""Sigma of its logarithm, as reading times in web logs have it."""
_DWELL_LEAST_SECONDS = 0.55
"""A thumb that waits for the button, at its quickest."""
_DWELL_UNKNOWN_SHARE = 0.03
"""Embedded cards whose beacon did not come, and the form without JavaScript."""
_BROWSES_FIRST_SHARE = 0.35
_BROWSES_SECONDS = 60.0
"""Some look around before they like (mean, exponential): the token is older than the tap then."""

_MOVES_SHARE = 0.15
"""Of later visits, those from another kind of network: Wi-Fi at home, the carrier outside."""
_VPN_SHARE = 0.003
"""People who come through a VPN's rented server now and then: some 0.1 % of all votes do."""
_TWO_JARS_SHARE = 0.12
"""People who use WeChat's web view and a browser: two tokens, both honest."""
_PRIVATE_MODE_SHARE = 0.004
"""People whose window forgets: a new token with each visit."""
_FAMILY_PHONE_SHARE = 0.01
"""Phones that several people of a family use: more likes, and no favourite."""

_ODD_HEADS_SHARE = 0.004
"""Old web views that claim a version which sends Sec-Fetch, and do not."""
_NO_LANGUAGE_SHARE = 1e-4
_NO_AGENT_SHARE = 3e-5
_TLS_ODD_SHARE = 0.0015
"""A browser newer than anybody else's."""
_TLS_ODD_OFFICE_SHARE = 0.02
"""Offices whose firewall opens TLS: its fingerprint stands beside the browser's name."""
_AGENT_CHANGES_SHARE = 0.001
"""Of later visits, those after a system update: another class than the token was given to."""

_SOLVES_SLOWLY_SHARE = 0.02
_GIVES_UP_SHARE = 0.005
"""People for whom a challenge takes the slow route (old phones, no JavaScript), or who leave."""


@dataclass
class People:
    """Columns, one row a person."""

    kind: Array
    province: Array
    agent: Array
    tls: Array
    other_tls: Array
    """Of their other browser."""
    network: Array
    """Where they are when they are where they live."""
    slowness: Array
    """Their own factor on the time to a tap."""
    oddities: Array
    solves: Array
    group: Array
    """Index of GROUPS."""

    def __len__(self) -> int:
        return len(self.kind)


@dataclass
class Visits:
    """Columns, one row a visit."""

    person: Array
    starts_us: Array
    device: Array
    issued_us: Array
    network: Array
    tls: Array
    likes: Array
    first_rank: Array
    """The candidate that they came for, -1 = none in particular."""
    oddities: Array
    dwell_median: Array

    def __len__(self) -> int:
        return len(self.person)


_GROUP_OF = {
    Kind.MOBILE: "mobile", Kind.HOME: "home", Kind.HOME_NAT: "home-nat", Kind.OFFICE: "office",
    Kind.V6_MOBILE: "v6", Kind.V6_HOME: "v6", Kind.CAMPUS: "campus", Kind.HOSTING: "vpn",
}  # fmt: skip
_BY_HABIT = ("two-jars", "private-mode", "family-phone")
GATHERINGS = (
    "cascade", "campus-burst", "employer-burst", "school-class", "phone-shop", "television",
    "family",
)  # fmt: skip
"""Crowds that come together."""
GROUPS = (*dict.fromkeys(_GROUP_OF.values()), *_BY_HABIT, *GATHERINGS)
"""Every group of honest people."""
_GROUP = {name: number for number, name in enumerate(GROUPS)}

CASCADES, CAMPUS_BURSTS, EMPLOYER_BURSTS = 40, 12, 6
"""In a period, whatever its length (evaluation protocol)."""


def honest_crowd(country: Country, votes: int) -> Ballots:
    """So many honest ballots, exactly, in no particular order. Nobody likes the same candidate
    twice on one day with one token: that would be a repeat, and no vote."""
    gathered = _gatherings(country, votes)
    held = sum(map(len, gathered))
    if held > votes * 0.8:
        raise ValueError(f"{votes:,} votes are too few for the crowds that vote together: {held:,}")
    surplus = 1.03
    while True:
        background = [
            _background(country, kind, round((votes - held) * share * surplus))
            for kind, share in SHARES.items()
        ]
        whole = _once_a_day(together([*gathered, *background]))
        too_many = len(whole) - votes
        if too_many >= 0:
            return _without(country, whole, too_many)
        surplus *= 1.05


def _without(country: Country, whole: Ballots, too_many: int) -> Ballots:
    """Less so many ballots of the background."""
    of_gatherings = np.array([label.source in GATHERINGS for label in whole.labels])
    rows = np.flatnonzero(~of_gatherings[whole.label])
    dropped = stream(country.seed, "dropped").choice(rows, too_many, replace=False)
    kept = np.ones(len(whole), bool)
    kept[dropped] = False
    return whole.at(np.flatnonzero(kept))


def _once_a_day(ballots: Ballots) -> Ballots:
    order = np.argsort(ballots["at_us"], kind="stable")
    keys = mixed(ballots["device"], ballots["day"], ballots["candidate"])[order]
    _, first = np.unique(keys, return_index=True)
    return ballots.at(np.sort(order[first]))


# --- background -----------------------------------------------------------------------------------


def _background(country: Country, kind: Kind, votes: int) -> Ballots:
    """People of one kind of network who come when they come."""
    dice = stream(country.seed, f"background-{kind.name}")
    mean_visits = (VISITS * np.arange(1, 21)).sum() / VISITS.sum()
    mean_likes = (LIKES * np.arange(1, 11)).sum() / LIKES.sum()
    # A list of likes loses one now and then to a candidate that came up twice.
    people = _people(country, dice, kind, max(4, round(votes / mean_visits / mean_likes * 1.06)))
    visits = _visits(country, dice, people)
    return _likes(country, dice, people, visits)


def _people(country: Country, dice: np.random.Generator, kind: Kind, count: int) -> People:
    kinds = np.full(count, kind)
    vpn = (dice.random(count) < _VPN_SHARE) & (kind in (Kind.MOBILE, Kind.HOME, Kind.OFFICE))
    kinds[vpn] = Kind.HOSTING
    province = country.some_provinces(dice, count)
    agent = draw_agents(dice, country.phones.mixes[kind], count)
    tls = country.phones.tls(dice, agent, WECHAT_SHARE[kind])
    # The other browser of those who use two: whatever it is, it is not the same app.
    other_tls = country.phones.tls(dice, agent, 0.3)
    if kind in (Kind.HOME, Kind.V6_HOME):
        network = _households(country, dice, kind, province, people_each=2.2)
    elif kind is Kind.V6_MOBILE:
        network = country.lines(dice, kind, province)
    else:
        network = country.shared(dice, kind, province)
        province = country.networks.province[network].astype(np.int64)
    network[vpn] = country.shared(dice, Kind.HOSTING, province[vpn])
    group = np.array([_GROUP[_GROUP_OF[each]] for each in Kind])[kinds]
    habit = dice.random(count)
    edges = np.cumsum([_TWO_JARS_SHARE, _PRIVATE_MODE_SHARE, _FAMILY_PHONE_SHARE])
    chosen = np.searchsorted(edges, habit, side="right")
    for number, name in enumerate(_BY_HABIT):
        group[(chosen == number) & ~vpn] = _GROUP[name]
    return People(
        kinds,
        province,
        agent,
        tls,
        other_tls,
        network,
        dice.lognormal(0, 0.25, count),
        _honest_oddities(dice, kinds, agent, tls, other_tls),
        _honest_solving(dice, count),
        group,
    )


def _honest_oddities(dice: np.random.Generator, kinds: Array, agent: Array, *tls: Array) -> Array:
    """What stays with a person. `agent` is changed where none is sent, `tls` where something else
    than the browser makes the connection."""
    count = len(kinds)
    oddities = np.where(
        (dice.random(count) < _ODD_HEADS_SHARE) & (agent >= 32), NO_FETCH_METADATA, 0
    )
    oddities |= np.where(dice.random(count) < _NO_LANGUAGE_SHARE, NO_LANGUAGE, 0)
    share = np.where(kinds == Kind.OFFICE, _TLS_ODD_OFFICE_SHARE, _TLS_ODD_SHARE)
    odd = dice.random(count) < share
    for mine in tls:
        mine[odd] = np.where(kinds[odd] == Kind.OFFICE, tls_of("firewall"), tls_of("newest"))
    agent[dice.random(count) < _NO_AGENT_SHARE] = 0
    return oddities


def _honest_solving(dice: np.random.Generator, count: int) -> Array:
    drawn = dice.random(count)
    return np.where(
        drawn < _GIVES_UP_SHARE,
        GIVES_UP,
        np.where(drawn < _GIVES_UP_SHARE + _SOLVES_SLOWLY_SHARE, SOLVES_SLOWLY, SOLVES),
    )


def _households(
    country: Country, dice: np.random.Generator, kind: Kind, province: Array, people_each: float
) -> Array:
    """A network for each person, shared by as many on average (Poisson: some live alone)."""
    order = np.argsort(province, kind="stable")
    homes = max(1, round(len(province) / people_each))
    # Neighbours in the order of provinces share a home: a household is of one province.
    home_of = np.sort(dice.integers(0, homes, len(province)))
    _, first, number = np.unique(home_of, return_index=True, return_inverse=True)
    lines = country.lines(dice, kind, province[order][first])
    network = np.zeros(len(province), np.int64)
    network[order] = lines[number]
    return network


def _visits(country: Country, dice: np.random.Generator, people: People) -> Visits:
    times = 1 + draw(dice, VISITS, len(people))
    person = np.repeat(np.arange(len(people)), times)
    count = len(person)
    starts = country.moments(dice, count)
    order = np.lexsort((starts, person))
    starts = starts[order]
    begins = np.concatenate([[True], person[1:] != person[:-1]])
    group = people.group[person]

    # Whose token is it, and since when? Jar 1 is the second browser, later ones private windows.
    place = np.arange(count) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    jar = np.zeros(count, np.int64)
    two = group == _GROUP["two-jars"]
    jar[two] = dice.random(int(two.sum())) < 0.4
    private = group == _GROUP["private-mode"]
    jar[private] = 2 + place[private]
    device = mixed(country.seed, 3, people.network[person], person, jar, int(people.kind[0]))
    _, first, which = np.unique(device, return_index=True, return_inverse=True)
    first_start = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(first_start, which, starts)
    issued = first_start
    old = (dice.random(len(first)) < OLD_TOKEN_SHARE) & ~private[first]
    age = dice.exponential(_OLD_TOKEN_DAYS * DAY_US, len(first)).astype(np.int64)
    issued = np.where(old, np.minimum(country.begins_us - age, issued), issued)
    issued_us = issued[which]
    is_new = issued_us == starts

    network = _where(country, dice, people, person, is_new)
    classes = country.networks.network_class
    # Where was the token given out? Where its first visit was, an old one where its person lives.
    issued_at = np.where(old[which], people.network[person], network[first][which])
    moved = (classes[network] == NetworkClass.DATACENTRE) & (
        classes[issued_at] != NetworkClass.DATACENTRE
    )
    oddities = np.where(moved, OTHER_NETWORK, 0)
    oddities |= np.where(~is_new & (dice.random(count) < _AGENT_CHANGES_SHARE), OTHER_AGENT, 0)
    likes = 1 + draw(dice, LIKES, count)
    family = group == _GROUP["family-phone"]
    likes[family] = dice.integers(3, 11, int(family.sum()))
    # Six of ten visits are for the one whom this person likes.
    favourite = country.wishes(dice, people.province)[person]
    first_rank = np.where((dice.random(count) < 0.6) & ~family, favourite, -1)
    tls = np.where(jar == 1, people.other_tls[person], people.tls[person])
    median = np.array([DWELL_MEDIAN_SECONDS[kind] for kind in Kind])[people.kind[person]]
    return Visits(
        person, starts, device, issued_us, network, tls, likes, first_rank, oddities, median
    )


def _where(
    country: Country, dice: np.random.Generator, people: People, person: Array, is_new: Array
) -> Array:
    """The network of each visit."""
    kind, province = people.kind[person], people.province[person]
    network = people.network[person].copy()
    # A carrier's NAT gives another address now and then, a phone's /64 lasts as long as it is
    # attached, a campus has a few addresses for everybody.
    for each, share in ((Kind.MOBILE, 0.7), (Kind.CAMPUS, 0.5)):
        rows = np.flatnonzero((kind == each) & (dice.random(len(kind)) < share))
        if each is Kind.MOBILE:
            network[rows] = country.shared(dice, each, province[rows])
        else:
            network[rows] = _another_of_campus(country, dice, network[rows])
    rows = np.flatnonzero((kind == Kind.V6_MOBILE) & (dice.random(len(kind)) < 0.6))
    network[rows] = country.lines(dice, Kind.V6_MOBILE, province[rows])

    moves = ~is_new & (dice.random(len(kind)) < _MOVES_SHARE)
    for_mobile = np.isin(kind, (Kind.MOBILE, Kind.V6_MOBILE))
    rows = np.flatnonzero(moves & for_mobile)
    # A phone in somebody's Wi-Fi: an office, a cafe, a friend's home.
    network[rows] = country.shared(dice, Kind.HOME_NAT, province[rows])
    rows = np.flatnonzero(moves & ~for_mobile)
    network[rows] = country.shared(dice, Kind.MOBILE, province[rows])
    # A VPN is switched on for some visits only.
    rows = np.flatnonzero((kind == Kind.HOSTING) & (dice.random(len(kind)) < 0.5))
    network[rows] = country.shared(dice, Kind.HOME_NAT, province[rows])
    return network


def _another_of_campus(country: Country, dice: np.random.Generator, network: Array) -> Array:
    campus = country.networks.of_kind(Kind.CAMPUS)
    wides = country.networks.wide[campus]
    low = np.searchsorted(wides, country.networks.wide[network], side="left")
    high = np.searchsorted(wides, country.networks.wide[network], side="right")
    return np.asarray(campus[low + (dice.random(len(network)) * (high - low)).astype(np.int64)])


def _likes(country: Country, dice: np.random.Generator, people: People, visits: Visits) -> Ballots:
    """The ballots of these visits, with the time to each tap."""
    visit = np.repeat(np.arange(len(visits)), visits.likes)
    begins = np.concatenate([[True], visit[1:] != visit[:-1]])
    person = visits.person[visit]
    count = len(visit)
    rank = country.wishes(dice, people.province[person])
    first = begins & (visits.first_rank[visit] >= 0)
    rank[first] = visits.first_rank[visit][first]

    dwell = draw_dwell(dice, visits.dwell_median[visit] * people.slowness[person])
    loading = 0.4 + dice.exponential(0.8, count)
    browsing = np.where(
        dice.random(count) < _BROWSES_FIRST_SHARE, dice.exponential(_BROWSES_SECONDS, count), 0
    )
    scrolling = dice.exponential(4.0, count)
    step = dwell + np.where(begins, loading + browsing, scrolling)
    passed = np.cumsum(step)
    passed -= (passed - step)[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    at_us = visits.starts_us[visit] + (passed * 1e6).astype(np.int64)
    issued_us = visits.issued_us[visit]
    made = {
        "at_us": at_us,
        "candidate": country.number_of_rank[rank],
        "device": visits.device[visit],
        **country.networks.columns(visits.network[visit], at_us),
        "user_agent_class": people.agent[person],
        "tls_hash": visits.tls[visit],
        "token_age_seconds": (at_us - issued_us) // 1_000_000,
        "token_level": token_levels(at_us, issued_us),
        "dwell_centiseconds": known_dwell(dice, dwell),
        "oddities": (people.oddities[person] | visits.oddities[visit]),
        "solves": people.solves[person],
    }
    # Who came just before the end may still be tapping after it.
    inside = np.flatnonzero(at_us < country.ends_us)
    group = people.group[person][inside]
    parts = []
    for number in np.unique(group):
        rows = inside[group == number]
        parts.append(
            make_ballots(
                Label(GROUPS[number]), len(rows), **{name: made[name][rows] for name in made}
            )
        )
    return together(parts)


def draw_dwell(
    dice: np.random.Generator, median_seconds: Array, spread: float = DWELL_SPREAD
) -> Array:
    """Seconds to the tap."""
    drawn = median_seconds * dice.lognormal(0, spread, len(median_seconds))
    return np.asarray(drawn.clip(_DWELL_LEAST_SECONDS, 600))


def known_dwell(dice: np.random.Generator, dwell: Array) -> Array:
    """Centiseconds as the service learns them, 0 where it does not."""
    unknown = dice.random(len(dwell)) < _DWELL_UNKNOWN_SHARE
    return np.where(unknown, 0, (dwell * 100).clip(1, 65_535)).astype(np.uint16)


def token_levels(at_us: Array, issued_us: Array) -> Array:
    """1, or 2 from a day after the token was given out."""
    return np.where(at_us - issued_us >= DAY_US, 2, 1)


# --- crowds that come together --------------------------------------------------------------------


def _gatherings(country: Country, votes: int) -> list[Ballots]:
    # A small rehearsal has small gatherings, so that they stay a small part of it.
    scale = min(1.0, max(0.12, votes / 1_000_000))
    dice = stream(country.seed, "gatherings")
    made = [_cascade(country, dice, scale) for _ in range(CASCADES)]
    made += [_campus_burst(country, dice, scale) for _ in range(CAMPUS_BURSTS)]
    made += [_employer_burst(country, dice, scale) for _ in range(EMPLOYER_BURSTS)]
    made += [_school_class(country, dice) for _ in range(max(4, round(40 * scale)))]
    made += [_phone_shop(country, dice) for _ in range(max(3, round(20 * scale)))]
    made += [_television(country, dice, round(0.004 * votes)) for _ in range(2)]
    made.append(_families(country, dice, max(20, round(0.004 * votes))))
    return made


def _some_size(dice: np.random.Generator, middle: float, spread: float, scale: float) -> int:
    return max(30, round(middle * dice.lognormal(0, spread) * scale))


def _gathering(
    country: Country,
    dice: np.random.Generator,
    source: str,
    *,
    starts_us: Array,
    network: Array,
    province: Array,
    agent: Array,
    rank: int | Array,
    median_seconds: float | Array,
    spread: float = DWELL_SPREAD,
    fresh_share: float,
    wechat_share: float = 0.8,
    likes_more_share: float = 0.2,
) -> Ballots:
    """People who all come for one candidate; some like a few others as well."""
    count = len(starts_us)
    number = _GROUP[source]
    identity = mixed(country.seed, 4, int(dice.integers(2**62)), np.arange(count))
    tls = country.phones.tls(dice, agent, wechat_share)
    kinds = country.networks.kind[network].astype(np.int64)
    people = People(
        kinds,
        province,
        agent,
        tls,
        tls,
        network,
        np.ones(count),
        _honest_oddities(dice, kinds, agent, tls),
        _honest_solving(dice, count),
        np.full(count, number),
    )
    old = dice.random(count) >= fresh_share
    age = dice.exponential(_OLD_TOKEN_DAYS * DAY_US, count).astype(np.int64)
    visits = Visits(
        np.arange(count),
        starts_us,
        identity,
        np.where(old, starts_us - age, starts_us),
        network,
        tls,
        1 + (dice.random(count) < likes_more_share) * dice.integers(1, 5, count),
        np.broadcast_to(np.asarray(rank), count),
        np.zeros(count, np.int64),
        np.broadcast_to(np.asarray(median_seconds, float), count),
    )
    return _likes(country, dice, people, visits)


def _local_rank(country: Country, dice: np.random.Generator, province: int) -> int:
    """A candidate whom this province has reason to gather for: mostly one of its own."""
    own = np.flatnonzero(country.province_of_rank == province)
    if len(own) and dice.random() < 0.7:
        return int(dice.choice(own))
    return int(dice.integers(0, len(country.province_of_rank)))


def _day_moment(country: Country, dice: np.random.Generator, first: float, last: float) -> int:
    """A moment of some day, between these hours."""
    day = int(dice.integers(0, country.days))
    return country.begins_us + day * DAY_US + int(dice.uniform(first, last) * HOUR_US)


def _cascade(country: Country, dice: np.random.Generator, scale: float) -> Ballots:
    """A card shared from chat group to chat group: waves of half an hour, mostly of one province,
    most people new, every one with a phone of their own. Heavy-tailed: the largest are ten times
    the usual one."""
    count = _some_size(dice, 500, 0.9, scale)
    home = int(country.some_provinces(dice, 1)[0])
    province = np.where(dice.random(count) < 0.7, home, country.some_provinces(dice, count))
    kinds = np.array([Kind.MOBILE, Kind.V6_MOBILE, Kind.HOME, Kind.V6_HOME, Kind.HOME_NAT])
    kind = kinds[draw(dice, np.array([0.45, 0.2, 0.18, 0.09, 0.08]), count)]
    network = np.zeros(count, np.int64)
    for each in kinds:
        rows = np.flatnonzero(kind == each)
        pick = country.shared if each in country.shared_networks else country.lines
        network[rows] = pick(dice, Kind(each), province[rows])
    waves = int(dice.integers(3, 9))
    wave_starts = np.sort(dice.uniform(0, 4 * HOUR_US, waves))
    wave = draw(dice, dice.pareto(1.5, waves) + 0.2, count)
    starts = _day_moment(country, dice, 7.5, 19.5) + wave_starts[wave]
    starts = (starts + dice.exponential(dice.uniform(300e6, 1800e6), count)).astype(np.int64)
    return _gathering(
        country,
        dice,
        "cascade",
        starts_us=starts,
        network=network,
        province=province,
        agent=draw_agents(dice, country.phones.community(dice, Kind.MOBILE), count),
        rank=_local_rank(country, dice, home),
        median_seconds=dice.uniform(4.5, 8.0),
        fresh_share=0.75,
        wechat_share=0.9,
    )


def _campus_burst(country: Country, dice: np.random.Generator, scale: float) -> Ballots:
    """A university votes for its professor, from 1 to 4 addresses, within an hour: students with
    their own phones, nearly all new, quick because they know whom they came for."""
    count = _some_size(dice, 900, 0.6, scale)
    network, province = _new_site(country, dice, int(dice.integers(1, 5)), NetworkClass.CAMPUS)
    starts = _day_moment(country, dice, 9, 21) + dice.gamma(2.0, dice.uniform(300e6, 1500e6), count)
    return _gathering(
        country,
        dice,
        "campus-burst",
        starts_us=starts.astype(np.int64),
        network=network[dice.integers(0, len(network), count)],
        province=np.full(count, province),
        agent=draw_agents(dice, country.phones.community(dice, Kind.CAMPUS), count),
        rank=_local_rank(country, dice, province),
        median_seconds=dice.uniform(3.5, 6.0),
        fresh_share=0.85,
        wechat_share=0.75,
    )


def _employer_burst(country: Country, dice: np.random.Generator, scale: float) -> Ballots:
    """A company whose staff have company phones of five models votes for its engineer, from one or
    two addresses: fast, with fresh tokens, and honest. The hardest group: what tells it from a farm
    is that each hand is another one, so the times to the tap spread as people's do."""
    count = _some_size(dice, 500, 0.5, scale)
    # A large employer has a network of its own; many a one is not in any table.
    network_class = NetworkClass.CAMPUS if dice.random() < 0.6 else NetworkClass.UNKNOWN
    network, province = _new_site(country, dice, int(dice.integers(1, 3)), network_class)
    models = draw_agents(dice, country.phones.mixes[Kind.MOBILE], 5)
    shares = dice.dirichlet(np.full(5, 2.0))
    starts = _day_moment(country, dice, 9, 17) + dice.gamma(2.0, dice.uniform(200e6, 1200e6), count)
    return _gathering(
        country,
        dice,
        "employer-burst",
        starts_us=starts.astype(np.int64),
        network=network[dice.integers(0, len(network), count)],
        province=np.full(count, province),
        agent=models[draw(dice, shares, count)],
        rank=_local_rank(country, dice, province),
        median_seconds=dice.uniform(3.0, 5.5),
        spread=0.7,
        fresh_share=0.95,
        wechat_share=0.9,
        likes_more_share=0.1,
    )


def _school_class(country: Country, dice: np.random.Generator) -> Ballots:
    """Thirty to fifty pupils at ten o'clock, told to vote now: five minutes, one address."""
    count = int(dice.integers(30, 51))
    network, province = _new_site(country, dice, 1, NetworkClass.CAMPUS)
    starts = _day_moment(country, dice, 10, 10.02) + dice.exponential(90e6, count)
    return _gathering(
        country,
        dice,
        "school-class",
        starts_us=starts.astype(np.int64),
        network=network[np.zeros(count, np.int64)],
        province=np.full(count, province),
        agent=draw_agents(dice, country.phones.community(dice, Kind.CAMPUS), count),
        rank=_local_rank(country, dice, province),
        median_seconds=dice.uniform(3.5, 6.0),
        fresh_share=0.95,
    )


def _phone_shop(country: Country, dice: np.random.Generator) -> Ballots:
    """A shop whose demonstration phones are all of one type: visitors and staff, over a day, behind
    a business line that counts as a home's."""
    count = int(dice.integers(20, 61))
    network, province = _new_site(country, dice, 1, NetworkClass.HOME)
    model = int(draw_agents(dice, country.phones.mixes[Kind.MOBILE], 1)[0])
    if count % 2:
        model = NEWEST_IPHONE  # half of the shops are of the maker whose phones all look the same
    starts = _day_moment(country, dice, 10, 10.5) + dice.uniform(0, 10 * HOUR_US, count)
    return _gathering(
        country,
        dice,
        "phone-shop",
        starts_us=starts.astype(np.int64),
        network=network[np.zeros(count, np.int64)],
        province=np.full(count, province),
        agent=np.full(count, model, np.uint8),
        rank=_local_rank(country, dice, province),
        median_seconds=6.0,
        fresh_share=0.9,
        wechat_share=0.0,
    )


def _television(country: Country, dice: np.random.Generator, count: int) -> Ballots:
    """A candidate is on the evening programme: the whole country comes within an hour, from
    wherever it lives, each with what it has."""
    province = country.some_provinces(dice, count)
    kinds = np.array(list(SHARES))
    kind = kinds[draw(dice, np.array(list(SHARES.values())), count)]
    network = np.zeros(count, np.int64)
    agent = np.zeros(count, np.uint8)
    for each in SHARES:
        rows = np.flatnonzero(kind == each)
        pick = country.shared if each in country.shared_networks else country.lines
        network[rows] = pick(dice, each, province[rows])
        agent[rows] = draw_agents(dice, country.phones.mixes[each], len(rows))
    starts = _day_moment(country, dice, 20, 20.5) + dice.gamma(1.3, 900e6, count)
    return _gathering(
        country,
        dice,
        "television",
        starts_us=starts.astype(np.int64),
        network=network,
        province=province,
        agent=agent,
        rank=int(dice.integers(0, 60)),
        median_seconds=np.array([DWELL_MEDIAN_SECONDS[each] for each in Kind])[kind],
        fresh_share=0.55,
        wechat_share=0.6,
    )


def _families(country: Country, dice: np.random.Generator, families: int) -> Ballots:
    """Two to five phones of one home, within a quarter of an hour, for the same candidate; in four
    homes of ten the phones are of one make, bought together or handed down."""
    people = dice.integers(2, 6, families)
    family = np.repeat(np.arange(families), people)
    province = country.some_provinces(dice, families)
    home = country.lines(dice, Kind.HOME, province)
    mix = country.phones.mixes[Kind.HOME]
    alike = dice.random(families) < 0.4
    agent = np.where(
        alike[family], draw_agents(dice, mix, families)[family], draw_agents(dice, mix, len(family))
    ).astype(np.uint8)
    starts = country.moments(dice, families)[family] + dice.exponential(240e6, len(family))
    return _gathering(
        country,
        dice,
        "family",
        starts_us=starts.astype(np.int64),
        network=home[family],
        province=province[family],
        agent=agent,
        rank=country.wishes(dice, province)[family],
        median_seconds=7.0,
        fresh_share=0.6,
        wechat_share=0.6,
    )


def _new_site(
    country: Country, dice: np.random.Generator, addresses: int, network_class: NetworkClass
) -> tuple[Array, int]:
    """(addresses of a site that votes together, its province)."""
    province = int(country.some_provinces(dice, 1)[0])
    wide = country.networks.new_wides(1)
    network = country.networks.add(
        Kind.CAMPUS,
        np.full(addresses, province),
        np.repeat(wide, addresses),
        np.full(addresses, network_class, np.uint8),
    )
    return network, province
