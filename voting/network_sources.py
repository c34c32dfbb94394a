"""Files that a table of networks is built from: ASN data and operators' lists.

Everything that is wrong is found and told at once, with file, row and column; of ASN data, where a
wrong file is wrong half a million times, only the beginning.
"""

import csv
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from antifraud.network_claims import RANK_ASN, RANK_OPERATOR, Claim, numbers_of
from antifraud.networks import NetworkClass, builtin
from antifraud.organisations import class_of_name, well_known
from voting.intake.problems import Problem, error

PROBLEMS_OF_ASN_DATA_MAX = 20
"""After so many the file is taken for a wrong one, and not read on."""
OPERATOR_COLUMNS = ("cidr", "class", "asn", "note")
_ASN_MAX = (1 << 32) - 1
_CLASSES = {
    "mobile": NetworkClass.MOBILE,
    "home": NetworkClass.HOME,
    "campus": NetworkClass.CAMPUS,
    "datacentre": NetworkClass.DATACENTRE,
    "datacenter": NetworkClass.DATACENTRE,
    "unknown": NetworkClass.UNKNOWN,
    "private": NetworkClass.PRIVATE,
}


@dataclass(slots=True)
class Sources:
    """What was read so far."""

    ipv4: list[Claim] = field(default_factory=list)
    ipv6: list[Claim] = field(default_factory=list)
    class_of_asn: dict[int, NetworkClass] = field(default_factory=dict)
    """What operators say of whole ASNs; it goes before the built-in list."""
    problems: list[Problem] = field(default_factory=list)
    too_narrow: int = 0
    """Ranges of IPv6 that hold no whole /64, and are left out."""


class _AsnRow(NamedTuple):
    """As the file has it: both ends belong to the range."""

    version: int
    first: int
    last: int
    asn: int
    organisation: str


def read_operators(path: Path, sources: Sources) -> None:
    """Read a list of an operator. Columns, in any order, named in the first row:

    cidr   an address or a network in CIDR notation, in IPv6 a /64 or wider
    class  mobile, home, campus, datacentre, unknown or private
    asn    (may be missing) the ASN of these addresses; without `cidr` the class of a whole ASN
    note   (may be missing) not read
    """
    faults_before = len(sources.problems)
    rows = _rows(path, sources.problems)
    header = next(rows, None)
    if header is None:
        return
    columns = [name.strip().casefold() for name in header[1]]
    for name in columns:
        if name not in OPERATOR_COLUMNS or columns.count(name) > 1:
            fault = "comes twice" if name in OPERATOR_COLUMNS else "is no column of such a list"
            message = f"{fault}: the columns are {', '.join(OPERATOR_COLUMNS)}"
            sources.problems.append(error(str(path), message, row=header[0], value=name))
    for name in {"cidr", "class"} - set(columns):
        message = "a column that must be there is missing from the first row"
        sources.problems.append(error(str(path), message, row=header[0], column=name))
    if len(sources.problems) > faults_before:
        return
    seen: dict[ipaddress.IPv4Network | ipaddress.IPv6Network | int, tuple[int, object]] = {}
    for number, cells in rows:
        if len(cells) > len(columns):
            message = f"has {len(cells)} cells under {len(columns)} columns"
            sources.problems.append(error(str(path), message, row=number))
            continue
        row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
        found = _operator_row(str(path), number, row, sources.problems)
        if found is None:
            continue
        network, network_class, asn = found
        key = asn if network is None else network
        what = (network_class, asn)
        before = seen.setdefault(key, (number, what))
        if before[1] != what:
            message = f"says otherwise than row {before[0]} about the same addresses"
            value = row.get("cidr") or row.get("asn")
            sources.problems.append(error(str(path), message, row=number, value=value))
        elif network is None:
            sources.class_of_asn[asn] = network_class
        else:
            claims = sources.ipv4 if network.version == 4 else sources.ipv6
            claims.append(Claim(*numbers_of(network), RANK_OPERATOR, asn, network_class))


def _operator_row(
    file: str, number: int, row: Mapping[str, str], problems: list[Problem]
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network | None, NetworkClass, int] | None:
    """One row: (network or none, class, ASN); None where something is wrong with it."""
    cidr, name, asn_text = row.get("cidr", ""), row.get("class", ""), row.get("asn", "")
    faults = len(problems)
    network = None
    if cidr:
        try:
            network = ipaddress.ip_network(cidr)
        except ValueError as why:
            fault = "has bits set right of its prefix" if "host bits" in str(why) else "is none"
            message = f"an address or a network in CIDR notation is needed, this {fault}"
            problems.append(error(file, message, row=number, column="cidr", value=cidr))
        else:
            if unfit := _why_unfit(network):
                problems.append(error(file, unfit, row=number, column="cidr", value=cidr))
    elif not asn_text:
        problems.append(error(file, "neither a network nor an ASN", row=number, column="cidr"))
    network_class = _CLASSES.get(name.casefold())
    if network_class is None:
        message = "a class is needed: mobile, home, campus, datacentre, unknown or private"
        problems.append(error(file, message, row=number, column="class", value=name))
    asn = _asn(asn_text) if asn_text else 0
    if asn is None:
        message = f"an ASN is a number from 0 to {_ASN_MAX}"
        problems.append(error(file, message, row=number, column="asn", value=asn_text))
    if len(problems) > faults or network_class is None or asn is None:
        return None
    return network, network_class, asn


def _why_unfit(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str | None:
    if isinstance(network, ipaddress.IPv4Network):
        return None
    if network.network_address.scope_id:
        return "a zone is no part of a network"
    if network.network_address.ipv4_mapped:
        return "IPv4 addresses are to be written as such"
    if network.prefixlen > 64:
        return "narrower than a /64, which is one subscriber"
    return None


def take_builtin(sources: Sources) -> None:
    """Begin with what the built-in table knows."""
    for ranges, claims, end in (
        (builtin().ipv4, sources.ipv4, 1 << 32),
        (builtin().ipv6, sources.ipv6, 1 << 64),
    ):
        lasts = (start - 1 for start in (*ranges.starts[1:], end))
        for (first, asn, network_class), last in zip(ranges, lasts, strict=True):
            if asn:
                now = sources.class_of_asn.get(asn, network_class)
                claims.append(Claim(first, last, RANK_ASN, asn, now))


def read_asn_data(path: Path, sources: Sources, *, well_known_only: bool = False) -> None:
    """Read ASN data: rows of first address, last address, ASN, organisation; no header.

    The format of the npm package @ip-location-db/asn, addresses in numbers (its `-num` files)
    included. With `well_known_only` only the ASNs of the built-in list are taken.
    """
    faults_before = len(sources.problems)
    listed = {**well_known(), **sources.class_of_asn}
    class_of = dict(listed)
    rows = 0
    for number, cells in _rows(path, sources.problems):
        rows += 1
        row = _asn_row(cells)
        if isinstance(row, str):
            value = ",".join(cells)
            sources.problems.append(error(str(path), row, row=number, value=value))
            if len(sources.problems) - faults_before >= PROBLEMS_OF_ASN_DATA_MAX:
                message = "not read on: this is no ASN data, or it is damaged"
                sources.problems.append(error(str(path), message, row=number))
                return
            continue
        if row.asn == 0 or (well_known_only and row.asn not in listed):
            continue
        network_class = class_of.get(row.asn)
        if network_class is None:
            network_class = class_of[row.asn] = class_of_name(row.organisation)
        first, last = row.first, row.last
        if row.version == 6:
            # Whole /64s only: rounded inwards.
            first, last = (first + (1 << 64) - 1) >> 64, ((last + 1) >> 64) - 1
            if last < first:
                sources.too_narrow += 1
                continue
        claims = sources.ipv4 if row.version == 4 else sources.ipv6
        claims.append(Claim(first, last, RANK_ASN, row.asn, network_class))
    if not rows and len(sources.problems) == faults_before:
        sources.problems.append(error(str(path), "holds no row"))


def _asn_row(cells: list[str]) -> _AsnRow | str:
    """The row, or what is wrong with it."""
    if len(cells) not in (3, 4):
        return f"has {len(cells)} cells: first address, last address, ASN, organisation are needed"
    first, last = _address(cells[0]), _address(cells[1])
    if first is None or last is None:
        return "does not begin with two addresses"
    # In numbers ::1 looks like 0.0.0.1; where ranges of IPv6 begin, no number is that small.
    version = max(first[0], last[0])
    if first[0] != last[0] and not (cells[0].isdecimal() and cells[1].isdecimal()):
        return "begins with addresses of two families"
    if last[1] < first[1]:
        return "ends before it begins"
    asn = _asn(cells[2])
    if asn is None:
        return f"has no ASN, a number from 0 to {_ASN_MAX}, in its third place"
    return _AsnRow(version, first[1], last[1], asn, cells[3] if len(cells) == 4 else "")


def _address(text: str) -> tuple[int, int] | None:
    """(version, number) of an address, also of one that is written as a number."""
    if text.isascii() and text.isdecimal():
        number = int(text) if len(text) <= 39 else 1 << 128
        if number >= 1 << 128:
            return None
        return (4 if number < 1 << 32 else 6), number
    # ipaddress would take 2 s of a build instead of 0.3.
    family, version = (socket.AF_INET6, 6) if ":" in text else (socket.AF_INET, 4)
    try:
        return version, int.from_bytes(socket.inet_pton(family, text))
    except (OSError, ValueError):
        return None


def _asn(text: str) -> int | None:
    text = text.strip().casefold().removeprefix("as")
    if not (text.isascii() and text.isdecimal()) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= _ASN_MAX else None


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """(row from 1, cells) of a CSV file in UTF-8; empty rows are passed over."""
    number = 0
    try:
        # What is no UTF-8 can only be a name or a note: nothing hangs on its bytes.
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            for number, cells in enumerate(csv.reader(file), 1):
                if any(cells):
                    yield number, cells
    except OSError as why:
        problems.append(error(str(path), f"cannot be read: {why.strerror}"))
    except csv.Error as why:
        problems.append(error(str(path), f"is no CSV: {why}", row=number + 1))
