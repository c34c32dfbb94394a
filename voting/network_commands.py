"""`dianzan networks ...`: the table that says whose an address is."""

import ipaddress
import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from antifraud import networks as tables
from antifraud.networks import NetworkClass, NetworkTable, Prefixes, TableError, prefixes_of
from voting.settings import load_settings
from voting.whole_files import written_aside

networks = typer.Typer(no_args_is_help=True, help="Tables of networks: whose an address is.")

_READABLE_BY_ALL = 0o644
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and no more.")]


@networks.command("build")
def build(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table; replaced as a whole.")],
    asn: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="ASN data (CSV), IPv4 or IPv6; may be given again."),
    ] = None,
    operators: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="An operator's list (CSV); may be given again, the last one wins."
        ),
    ] = None,
    well_known_only: Annotated[
        bool,
        typer.Option(
            "--well-known-only",
            help="Only the ASNs of the built-in list: how the built-in table is made.",
        ),
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """Build a table of networks from ASN data and operators' lists.

    ASN data: rows of first address, last address, ASN, organisation, without a header. The npm
    package @ip-location-db/asn has them (asn-ipv4.csv and asn-ipv6.csv; CC BY 4.0, to be
    attributed to RouteViews, NRO and DB-IP). An ASN's class is the one of the built-in list, else
    what its organisation's name suggests. Without ASN data the built-in table is the base.

    An operator's list: a CSV whose first row names its columns, in any order: cidr (an address or
    a network; IPv6 /64 or wider), class (mobile, home, campus, datacentre, unknown, private), and
    if wanted asn and note. A row without cidr gives the class of its whole ASN. Operators' lists
    win over ASN data, narrower networks over wider ones.

    Point DIANZAN_NETWORKS_FILE at the table; running edges take a new one within seconds. All
    problems are listed at once, and with one problem nothing is written.

    Exit code 0: written; 2: problems, or it cannot be written: the table before stays.
    """
    from antifraud.network_claims import table_of
    from voting.network_sources import Sources, read_asn_data, read_operators, take_builtin

    out = out.resolve()  # through a link: what it points at is replaced, not the link
    if not _may_be_replaced(out):
        typer.echo(f"{out} exists and is no table of networks: not replaced", err=True)
        raise typer.Exit(2)
    sources = Sources()
    for path in operators or ():
        read_operators(path, sources)
    if not asn:
        take_builtin(sources)
    for path in asn or ():
        read_asn_data(path, sources, well_known_only=well_known_only)
    if sources.problems:
        _tell_problems(sources.problems, as_json=as_json)
        raise typer.Exit(2)
    table = table_of(sources.ipv4, sources.ipv6)
    size = _replace(out, table.to_bytes())
    holdings = holdings_of(table)
    if as_json:
        answer = {
            "ok": True,
            "out": str(out),
            "bytes": size,
            "identity": table.identity,
            "left_out": sources.too_narrow,
            "classes": {name: held._asdict() for name, held in holdings.items()},
            "problems": [],
        }
        typer.echo(json.dumps(answer, ensure_ascii=False).encode())
        return
    for line in _summary(holdings):
        typer.echo(line, err=True)
    if sources.too_narrow:
        typer.echo(f"Left out: {sources.too_narrow} ranges of IPv6 without a whole /64.", err=True)
    typer.echo(f"{out}: {size:,} bytes, identity {table.identity}", err=True)


@networks.command("show")
def show(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...")],
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table to look in; else DIANZAN_NETWORKS_FILE, else the built-in one.",
        ),
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Show what addresses are classed as: address, class, ASN, and what a limit counts by.

    Exit code 0; 2: the table is refused, or one of these is no address.
    """
    path = table or load_settings().networks_file
    try:
        held = tables.builtin() if path is None else tables.read(path)
    except TableError as why:
        typer.echo(f"{path} is refused: {why}", err=True)
        raise typer.Exit(2) from None
    found, wrong = [], []
    for address in addresses:
        try:
            prefixes = prefixes_of(address)
        except ValueError as why:
            wrong.append(str(why))
            continue
        network = held.look_up(prefixes)
        found.append(
            {
                "address": address,
                "class": network.network_class.name.lower(),
                "asn": network.asn,
                "network": _text_of(prefixes),
            }
        )
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False).encode())
    else:
        for line in _columns([list(map(_asn_as_text, row.items())) for row in found]):
            typer.echo(line)
    for line in wrong:
        typer.echo(line, err=True)
    if wrong:
        raise typer.Exit(2)


class Holding(NamedTuple):
    """What one class has in a table."""

    ranges: int = 0
    ipv4_share: float = 0.0
    """Of all IPv4 addresses, those that are not public included."""
    ipv6_32s: float = 0.0
    """In IPv6 /32s, what an operator usually gets."""


def holdings_of(table: NetworkTable) -> dict[str, Holding]:
    """Class -> what is in the table of it, and "unlisted": what nobody said anything of."""
    holdings = {each.name.lower(): Holding() for each in NetworkClass}
    holdings["unlisted"] = Holding()
    for ranges, end, share in ((table.ipv4, 1 << 32, True), (table.ipv6, 1 << 64, False)):
        ends = chain(ranges.starts[1:], (end,))
        for (start, asn, network_class), next_start in zip(ranges, ends, strict=True):
            listed = asn or network_class is not NetworkClass.UNKNOWN
            name = network_class.name.lower() if listed else "unlisted"
            number, ipv4, ipv6 = holdings[name]
            part = (next_start - start) / (1 << 32)  # of IPv4; in IPv6 of /64s, so in /32s
            held = (ipv4 + part, ipv6) if share else (ipv4, ipv6 + part)
            holdings[name] = Holding(number + 1, *held)
    return holdings


def _summary(holdings: dict[str, Holding]) -> list[str]:
    rows = [["class", "ranges", "of IPv4", "IPv6 /32s"]]
    for name, held in holdings.items():
        ipv6 = "the rest" if name == "unlisted" else f"{held.ipv6_32s:,.0f}"
        rows.append([name, f"{held.ranges:,}", f"{100 * held.ipv4_share:.2f} %", ipv6])
    return _columns(rows)


def _tell_problems(problems: list[Any], *, as_json: bool) -> None:
    from voting.intake.commands import table_of as lines_of

    if as_json:
        answer = {"ok": False, "problems": [problem.as_json() for problem in problems]}
        typer.echo(json.dumps(answer, ensure_ascii=False).encode())
        return
    for line in lines_of(problems):
        typer.echo(line, err=True)
    number = len(problems)
    typer.echo(f"{number} problem{'s' * (number > 1)}: no table written.", err=True)


def _may_be_replaced(out: Path) -> bool:
    """Whether nothing but an older table would be lost: not a list that was named by mistake."""
    if not out.exists():
        return True
    if not out.is_file():
        return False
    with out.open("rb") as file:
        return file.read(len(tables.MAGIC)) in (b"", tables.MAGIC)


def _replace(out: Path, packed: bytes) -> int:
    """Put these bytes in the file's place and give their number.

    A crash at any point leaves the old table or the new one: written aside, fsynced, renamed.
    """
    # The edge may run under another user; there is nothing in it that is secret.
    with written_aside(out, packed, _READABLE_BY_ALL) as aside:
        tables.read(aside)  # what does not come back from the disk must not replace anything
        aside.rename(out)
    return len(packed)


def _text_of(prefixes: Prefixes) -> str:
    packed = prefixes.network
    if len(packed) == 5:
        return str(ipaddress.IPv4Network((packed[1:], 32)))
    return str(ipaddress.IPv6Network((packed[1:] + bytes(8), 64)))


def _asn_as_text(item: tuple[str, Any]) -> str:
    name, value = item
    if name == "asn":
        return f"AS{value}" if value else "-"
    return str(value)


def _columns(rows: list[list[str]]) -> list[str]:
    """Lines with their columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
