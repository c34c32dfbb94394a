"""Crowds for the detectors' tests: honest votes with the look-alikes of fraud, and plantings.

Columns as the detectors read them, made with numpy from a seed: no more realistic than the tests
need (the rehearsal has the large crowd).
"""

import duckdb
import numpy as np

MOBILE, HOME, CAMPUS, DATACENTRE = 1, 2, 3, 4
HOUR_US = 3_600_000_000
START_US = 1_751_328_000_000_000  # a July midnight in Shanghai, more or less
COLUMNS = (
    "at_us",
    "day",
    "candidate",
    "device",
    "network",
    "network_wide",
    "asn",
    "network_class",
    "user_agent_class",
    "tls_hash",
    "token_age_seconds",
    "token_level",
    "dwell_centiseconds",
    "score",
)
SHARES = {MOBILE: 0.45, HOME: 0.5, CAMPUS: 0.05}
MODELS = 90


class Crowd:
    """Votes gathered batch by batch, with the name of the group that each is of."""

    def __init__(self, seed=1, *, candidates=200, hours=24, tls=True):
        self.rng = np.random.default_rng(seed)
        self.candidates, self.hours, self.tls = candidates, hours, tls
        self.batches, self.groups = [], []
        self.devices = 1 << 40
        # Each class of network has its own mix of phones.
        self.models = {}
        for network_class in SHARES:
            shares = 1 / (np.arange(MODELS) + 3.0)
            shares *= self.rng.lognormal(0, 0.5, MODELS)
            self.models[network_class] = shares / shares.sum()
        self.tls_of = self.rng.integers(1, 12, 256) * 2_654_435 + 1

    def new_devices(self, votes):
        self.devices += votes
        return np.arange(self.devices - votes, self.devices)

    def add(self, group, votes, **columns):
        """Votes whose columns are as given, and as an honest crowd's where they are not."""
        if votes == 0:
            return self
        rng = self.rng
        network_class = np.broadcast_to(
            columns.get("network_class")
            if columns.get("network_class") is not None
            else rng.choice(list(SHARES), votes, p=list(SHARES.values())),
            votes,
        )
        full = {"network_class": network_class}
        full["at_us"] = START_US + (rng.beta(2, 2, votes) * self.hours * HOUR_US).astype(np.int64)
        popularity = 1 / (np.arange(self.candidates) + 1.0) ** 0.9
        full["candidate"] = 1 + rng.choice(self.candidates, votes, p=popularity / popularity.sum())
        full["device"] = self.new_devices(votes)
        address = np.select(
            [network_class == MOBILE, network_class == HOME, network_class == CAMPUS],
            [rng.integers(0, 3_000, votes), rng.integers(0, 400_000, votes),
             rng.integers(0, 400, votes)],
            rng.integers(0, 2_000, votes),
        )  # fmt: skip
        full["network"] = network_class.astype(np.int64) << 40 | address << 8 | 1
        full["asn"] = 4_000 + network_class * 100 + address % 31
        model = np.zeros(votes, np.int64)
        for one in np.unique(network_class):
            here = network_class == one
            shares = self.models.get(int(one), self.models[HOME])
            model[here] = 32 + rng.choice(MODELS, here.sum(), p=shares)
        full["user_agent_class"] = model
        new = rng.random(votes) < 0.4
        full["token_age_seconds"] = np.where(
            new, rng.lognormal(3.2, 1.0, votes), rng.uniform(600, 86_400 * 12, votes)
        ).astype(np.int64)
        full["token_level"] = np.where(new, 1, 2)
        full["dwell_centiseconds"] = np.clip(rng.lognormal(6.1, 0.75, votes), 30, 65_535).astype(
            np.int64
        )
        full["score"] = np.full(votes, -4_600)
        full.update({name: np.broadcast_to(value, votes) for name, value in columns.items()})
        full.setdefault("network_wide", np.asarray(full["network"]) >> 16)
        full.setdefault(
            "tls_hash", self.tls_of[full["user_agent_class"]] if self.tls else np.zeros(votes)
        )
        full["day"] = (np.asarray(full["at_us"]) - START_US) // (24 * HOUR_US) + 20_270
        self.batches.append({name: np.asarray(full[name]).astype(np.int64) for name in COLUMNS})
        self.groups.append(np.full(votes, group))
        return self

    # Honest look-alikes.

    def campus_burst(self, candidate, votes, *, addresses=2, minutes=40, at_hour=10):
        return self.add(
            "campus",
            votes,
            candidate=candidate,
            network_class=CAMPUS,
            network=(9 << 40) + (candidate << 20) + self.rng.integers(0, addresses, votes),
            network_wide=(9 << 24) + candidate,
            asn=4_538,
            at_us=self.moments(votes, at_hour, minutes),
            **self.newcomers(votes, 0.7),
        )

    def employer_burst(
        self, candidate, votes, *, addresses=2, minutes=45, at_hour=11, network_class=CAMPUS
    ):
        """Company phones of five models, quick, with fresh tokens, out of a few addresses."""
        model = 32 + self.rng.choice(
            self.rng.choice(MODELS, 5, replace=False), votes, p=(0.4, 0.25, 0.15, 0.1, 0.1)
        )
        newcomers = self.newcomers(votes, 0.95)
        newcomers["dwell_centiseconds"] = self.rng.lognormal(5.3, 0.65, votes).clip(60, 65_535)
        return self.add(
            "employer",
            votes,
            candidate=candidate,
            network_class=network_class,
            network=(10 << 40) + (candidate << 20) + self.rng.integers(0, addresses, votes),
            network_wide=(10 << 24) + candidate,
            asn=9_999,
            user_agent_class=model,
            at_us=self.moments(votes, at_hour, minutes),
            **newcomers,
        )

    def cascade(self, candidate, votes, *, minutes=90, at_hour=15):
        """A link passed round in chats: many networks, newcomers, in a hurry."""
        newcomers = self.newcomers(votes, 0.85)
        newcomers["dwell_centiseconds"] = np.clip(self.rng.lognormal(5.7, 0.7, votes), 60, 65_535)
        return self.add(
            "cascade",
            votes,
            candidate=candidate,
            at_us=self.moments(votes, at_hour, minutes),
            **newcomers,
        )

    def family_phones(self, candidate, homes):
        """Four phones of one make behind each home address."""
        home = np.repeat(np.arange(homes), 4)
        model = np.repeat(32 + self.rng.integers(0, MODELS, homes), 4)
        return self.add(
            "family",
            homes * 4,
            candidate=candidate,
            network_class=HOME,
            network=(11 << 40) + (home << 16),
            user_agent_class=model,
            asn=4_134,
        )

    def phone_shop(self, candidate, votes, *, at_hour=9):
        """Demonstration phones of one type behind one line, tried by visitors all day."""
        newcomers = self.newcomers(votes, 0.9)
        return self.add(
            "shop",
            votes,
            candidate=candidate,
            network_class=HOME,
            network=(13 << 40) + (candidate << 20),
            user_agent_class=61,
            at_us=self.moments(votes, at_hour, 600),
            asn=4_134,
            **newcomers,
        )

    def private_mode(self, candidate, people, *, votes_each=3):
        """People whose browser forgets its token: a new one for each like, on the same phone."""
        person = np.repeat(np.arange(people), votes_each)
        model = np.repeat(32 + self.rng.integers(0, MODELS, people), votes_each)
        return self.add(
            "private",
            people * votes_each,
            candidate=candidate,
            network_class=HOME,
            network=(12 << 40) + (person << 16),
            user_agent_class=model,
            token_age_seconds=self.rng.lognormal(3.0, 0.8, people * votes_each),
            asn=4_134,
        )

    def newcomers(self, votes, share):
        new = self.rng.random(votes) < share
        return {
            "token_age_seconds": np.where(
                new, self.rng.lognormal(2.8, 0.9, votes), self.rng.uniform(600, 9e5, votes)
            ),
            "token_level": np.where(new, 1, 2),
        }

    def moments(self, votes, at_hour, minutes):
        spread = self.rng.beta(1.5, 3, votes) * minutes * 60_000_000
        return (START_US + at_hour * HOUR_US + spread).astype(np.int64)

    # Plantings.

    def script(self, votes, candidate, *, group="attack", minutes=60, at_hour=9, **columns):
        """One program: one user agent, machine-tight dwell, tokens voted with at once."""
        rng = self.rng
        given = {
            "network_class": HOME,
            "user_agent_class": 40,
            "dwell_centiseconds": rng.normal(180, 12, votes),
            "token_age_seconds": rng.uniform(2, 6, votes),
            "token_level": 1,
            "at_us": START_US
            + at_hour * HOUR_US
            + (rng.random(votes) * minutes * 60_000_000).astype(np.int64),
        }
        if self.tls:
            given["tls_hash"] = 777
        return self.add(group, votes, candidate=candidate, **(given | columns))

    def models_of_the_crowd(self, votes, network_class=HOME):
        return 32 + self.rng.choice(MODELS, votes, p=self.models[network_class])

    def single_address(self, votes, candidate, *, network_class=MOBILE, **columns):
        return self.script(
            votes,
            candidate,
            **(
                {
                    "network_class": network_class,
                    "network": (20 << 40) + candidate,
                    "network_wide": (20 << 24) + candidate,
                }
                | columns
            ),
        )

    def table(self, shuffle=True):
        """(columns with `vote`, group of each vote): a vote's id is its place."""
        full = {name: np.concatenate([one[name] for one in self.batches]) for name in COLUMNS}
        groups = np.concatenate(self.groups)
        order = self.rng.permutation(len(groups)) if shuffle else np.arange(len(groups))
        full = {name: column[order] for name, column in full.items()}
        full["vote"] = np.arange(len(groups))
        return full, groups[order]

    def database(self):
        """(connection with the table `votes`, group of each vote)."""
        full, groups = self.table()
        return database_of(full), groups


def database_of(columns):
    db = duckdb.connect()
    db.execute("SET threads = 2")
    db.register("given", columns)
    db.execute("CREATE TABLE votes AS SELECT * FROM given")
    db.unregister("given")
    return db


def honest(seed=1, votes=60_000, **settings):
    """An honest day with all look-alikes."""
    crowd = Crowd(seed, **settings)
    crowd.add("crowd", votes)
    crowd.campus_burst(17, 600)
    crowd.campus_burst(90, 250, addresses=1)
    crowd.employer_burst(33, 500)
    crowd.employer_burst(120, 150, addresses=1)
    crowd.cascade(60, 800)
    crowd.cascade(5, 2_000)
    crowd.family_phones(44, 60)
    crowd.private_mode(71, 40)
    crowd.phone_shop(101, 55)
    return crowd
