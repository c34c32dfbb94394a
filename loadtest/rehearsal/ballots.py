"""Ballots: a labelled crowd as columns, one array each, and as a Parquet file.

A column says what the service would know of each ballot; labels say who sent it, which no detector
may look at. `columns.md` is the same for people who bring a crowd of their own.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Column(NamedTuple):
    """One column of a crowd."""

    kind: type[np.generic]
    least: int
    most: int
    meaning: str


_U64 = 2**64 - 1

COLUMNS: dict[str, Column] = {
    "at_us": Column(np.int64, 0, 2**62, "moment of the ballot, microseconds since 1970 in UTC"),
    "day": Column(np.int32, 0, 65_535, "campaign day in Asia/Shanghai, days since 1970-01-01"),
    "candidate": Column(np.uint16, 1, 65_535, "number of the candidate"),
    "device": Column(np.uint64, 0, _U64, "pseudonym of the device token; the same every day"),
    "network": Column(np.uint64, 0, _U64, "pseudonym of the IPv4 /32 or IPv6 /64, new each day"),
    "network_wide": Column(np.uint64, 0, _U64, "pseudonym of the /24 or /48, new each day"),
    "asn": Column(np.uint32, 0, 2**32 - 1, "autonomous system, 0 = not known"),
    "network_class": Column(
        np.uint8, 0, 5, "0 unknown, 1 mobile, 2 home, 3 campus, 4 datacentre, 5 private"
    ),
    "user_agent_class": Column(
        np.uint8, 0, 255, "antifraud.user_agents: 0 none, 1 automation, 2-31 desktop, 32-255 phone"
    ),
    "tls_hash": Column(np.uint32, 0, 2**32 - 1, "hash of the TLS fingerprint, 0 = not known"),
    "token_age_seconds": Column(np.uint32, 0, 2**32 - 1, "age of the device token"),
    "token_level": Column(np.uint8, 0, 255, "level 0-3, +16 challenge solved, +32 the slow route"),
    "dwell_centiseconds": Column(
        np.uint16, 0, 65_535, "from the card's appearance to the tap, 0 = not known"
    ),
    "oddities": Column(np.uint8, 0, 127, "bits of antifraud.signals"),
    "solves": Column(
        np.uint8, 0, 2, "what it does when challenged: 0 gives up, 1 solves, 2 by the slow route"
    ),
}  # fmt: skip
"""What stands in a crowd, in this order."""

LABELS = {
    "source": "who sent it: a group of honest people (no capital A and number), or A1 to A13",
    "size": "planned votes of the attack that the ballot belongs to, 0 = honest",
    "camouflage": "none, ua, ua+dwell or full; empty = honest",
    "duration": "1h, 1d or 30d; empty = honest",
    "attack": "number that tells attacks of one kind, size and camouflage apart, 0 = honest",
}

GIVES_UP, SOLVES, SOLVES_SLOWLY = 0, 1, 2

ZONE_SECONDS = 8 * 3600
"""Asia/Shanghai is UTC+8 and has been for as long as this project can be asked about."""


class Label(NamedTuple):
    """Whom a ballot is of."""

    source: str
    size: int = 0
    camouflage: str = ""
    duration: str = ""
    attack: int = 0

    @property
    def is_attack(self) -> bool:
        return self.source[:1] == "A" and self.source[1:].isdigit()


class BadCrowd(ValueError):
    """A file that is no crowd; its text names the column and what is wrong with it."""


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """A crowd: columns of one length, and the label of each row."""

    columns: Mapping[str, Array]
    label: Array
    """Index in `labels`, one for each row."""
    labels: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    @property
    def is_attack(self) -> Array:
        """For each row whether it belongs to an attack."""
        return np.array([label.is_attack for label in self.labels], dtype=bool)[self.label]

    def at(self, rows: Array) -> "Ballots":
        """These rows, in this order."""
        return Ballots(
            {name: column[rows] for name, column in self.columns.items()},
            self.label[rows],
            self.labels,
        )

    def in_order(self) -> "Ballots":
        """By time; what comes at the same microsecond in the order in which it stands here."""
        return self.at(np.argsort(self["at_us"], kind="stable"))


def make_ballots(label: Label, rows: int, **columns: Array | int) -> Ballots:
    """Ballots of one label. Every column but `day` must be given; a number stands for all rows."""
    made: dict[str, Array] = {}
    for name, column in COLUMNS.items():
        if name == "day":
            at_seconds = np.asarray(columns["at_us"]) // 1_000_000
            made[name] = ((at_seconds + ZONE_SECONDS) // 86_400).astype(np.int32)
            continue
        values = np.asarray(columns[name])
        made[name] = np.broadcast_to(values, rows).astype(column.kind)
    return Ballots(made, np.zeros(rows, dtype=np.int32), (label,))


def together(parts: Sequence[Ballots]) -> Ballots:
    """All of them, one after the other; equal labels become one."""
    labels: dict[Label, int] = {}
    numbers = []
    for part in parts:
        known = np.array([labels.setdefault(each, len(labels)) for each in part.labels])
        numbers.append(known[part.label].astype(np.int32))
    return Ballots(
        {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS},
        np.concatenate(numbers),
        tuple(labels),
    )


def mixed(*values: Array | int) -> Array:
    """64 bits out of whole numbers, as a keyed hash gives pseudonyms: equal for equal numbers only,
    and without any pattern of theirs (the finaliser of SplitMix64; Steele and others, 2014)."""
    state: Array = np.asarray(np.uint64(0x9E3779B97F4A7C15))
    with np.errstate(over="ignore"):
        for value in values:
            state = np.bitwise_xor(state, np.asarray(value).astype(np.uint64))
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state)


def stream(seed: int, part: str) -> np.random.Generator:
    """The dice of one part of a run. Each part has its own, so that a change to one of them leaves
    what the others draw as it was."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(part.encode())]))
    )


def calculator() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory, on one core, that leaves stdout to the report: its progress bar would go
    there, whatever stdout is."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET enable_progress_bar = false")
    return connection


def register(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, Array]
) -> None:
    """A table of DuckDB out of arrays."""
    connection.register("arrays", dict(columns))
    connection.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM arrays')
    connection.unregister("arrays")


def write_parquet(ballots: Ballots, path: Path) -> None:
    """The crowd as a file, with its labels; OSError."""
    label = {
        name: np.array([getattr(each, name) for each in ballots.labels])[ballots.label]
        for name in LABELS
        if name in ("size", "attack")
    }
    texts = {
        name: np.array([getattr(each, name) for each in ballots.labels], dtype=object)
        for name in ("source", "camouflage", "duration")
    }
    with calculator() as connection:
        register(
            connection,
            "crowd",
            {**ballots.columns, **label, "label": ballots.label, "row": np.arange(len(ballots))},
        )
        register(connection, "named", {"label": np.arange(len(ballots.labels)), **texts})
        wanted = ", ".join([*COLUMNS, *LABELS])
        try:
            connection.execute(
                f"COPY (SELECT {wanted} FROM crowd JOIN named USING (label) ORDER BY row)"
                " TO $path (FORMAT parquet, COMPRESSION zstd)",
                {"path": str(path)},
            )
        except duckdb.IOException as why:
            raise OSError(f"{path}: {_line(why)}") from None


def read_parquet(path: Path) -> Ballots:
    """The crowd in a file; BadCrowd names the column and what is wrong with it.

    `solves` may be missing (then everybody solves), and so may the labels' numbers (`size`,
    `attack`) and texts but for `source`. Other columns are left alone.
    """
    if not path.is_file():
        raise BadCrowd(f"{path}: no such file")
    with calculator() as connection:
        try:
            shape = connection.execute("DESCRIBE SELECT * FROM read_parquet($1)", [str(path)])
            there = {str(row[0]): str(row[1]) for row in shape.fetchall()}
        except duckdb.Error as why:
            raise BadCrowd(f"{path}: no Parquet file ({_line(why)})") from None
        _check_columns(path, there)
        asked = [_asked(name, there) for name in (*COLUMNS, *LABELS)]
        connection.execute(
            f"CREATE TABLE crowd AS SELECT {', '.join(asked)} FROM read_parquet($1)", [str(path)]
        )
        return _read_columns(connection, path)


_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
          "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")  # fmt: skip
_MAY_MISS = {
    "solves": str(SOLVES),
    "size": "0",
    "attack": "0",
    "camouflage": "''",
    "duration": "''",
}


def _asked(name: str, there: Mapping[str, str]) -> str:
    return f'"{name}"' if name in there else f'{_MAY_MISS[name]} AS "{name}"'


def _check_columns(path: Path, there: Mapping[str, str]) -> None:
    for name in (*COLUMNS, *LABELS):
        if name not in there:
            if name in _MAY_MISS:
                continue
            raise BadCrowd(f"{path}: column {name} is missing ({_meaning(name)})")
        whole = name in COLUMNS or name in ("size", "attack")
        if whole and there[name] not in _WHOLE:
            raise BadCrowd(
                f"{path}: column {name} is of type {there[name]}, whole numbers are needed "
                f"({_meaning(name)})"
            )
        if not whole and there[name] != "VARCHAR":
            raise BadCrowd(f"{path}: column {name} is of type {there[name]}, text is needed")


def _meaning(name: str) -> str:
    return COLUMNS[name].meaning if name in COLUMNS else LABELS[name]


def _read_columns(connection: duckdb.DuckDBPyConnection, path: Path) -> Ballots:
    """The table `crowd`, checked."""
    rows = _one(connection, "SELECT count(*) FROM crowd")
    if not rows:
        raise BadCrowd(f"{path}: not one ballot in it")
    for name in (*COLUMNS, *LABELS):
        without = _one(connection, f'SELECT count(*) FROM crowd WHERE "{name}" IS NULL')
        if without:
            raise BadCrowd(f"{path}: column {name} has no value in {without:,} of {rows:,} rows")
    for name, column in COLUMNS.items():
        least, most = connection.execute(
            f'SELECT min("{name}"), max("{name}") FROM crowd'
        ).fetchall()[0]
        if least < column.least or most > column.most:
            wrong = least if least < column.least else most
            raise BadCrowd(
                f"{path}: column {name} has the value {wrong}, {column.least} to {column.most} "
                f"are possible ({column.meaning})"
            )
    wrong_day = _one(
        connection,
        f"SELECT count(*) FROM crowd WHERE (at_us // 1000000 + {ZONE_SECONDS}) // 86400 <> day",
    )
    if wrong_day:
        raise BadCrowd(
            f"{path}: column day is not the day of at_us in Asia/Shanghai in {wrong_day:,} rows"
        )
    connection.execute(
        f"CREATE TABLE kinds AS SELECT row_number() OVER () - 1 AS label, * FROM"
        f" (SELECT DISTINCT {', '.join(LABELS)} FROM crowd)"
    )
    found = connection.execute(f"SELECT {', '.join(LABELS)} FROM kinds ORDER BY label").fetchall()
    labels = tuple(Label(*row) for row in found)
    for label in labels:
        if not label.source:
            raise BadCrowd(f"{path}: column source is empty somewhere ({LABELS['source']})")
    same = " AND ".join(f"crowd.{name} = kinds.{name}" for name in LABELS)
    columns: dict[str, Array] = connection.execute(
        f"SELECT {', '.join(f'crowd.{name}' for name in COLUMNS)}, label"
        f" FROM crowd JOIN kinds ON {same} ORDER BY at_us, device, candidate"
    ).fetchnumpy()
    number = np.asarray(columns.pop("label")).astype(np.int32)
    return Ballots(
        {name: np.asarray(columns[name]).astype(COLUMNS[name].kind) for name in COLUMNS},
        number,
        labels,
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _line(why: Exception) -> str:
    return str(why).splitlines()[0]
