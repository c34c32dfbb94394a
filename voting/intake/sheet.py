"""candidates.xlsx or candidates.csv -> rows of text under known names.

The header is found among the first rows by its names (staff put a title above it), the columns
may stand in any order. What a cell says is not judged here but in `roster`.
"""

import csv
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from voting.intake import xlsx_reader
from voting.intake.problems import Problem, error, warning
from voting.intake.text import clean, squeeze

FILES = ("candidates.xlsx", "candidates.csv")

ID = "编号"
PLACE = "序号"
BIRTH = "出生年月"
PHOTO = "照片"
STORY = "详细事迹"
VIDEO = "视频"
REQUIRED = ("推荐渠道", "推荐单位", "姓名", "工作单位", "职务职称", "主要事迹")
NOT_NEEDED = ("性别", "民族", BIRTH)
"""Known and never stored; the month of birth only tells two people of one name apart."""
OPTIONAL = (PHOTO, STORY, VIDEO)
KNOWN = frozenset({ID, PLACE, *OPTIONAL, *REQUIRED, *NOT_NEEDED})

HEADER_AMONG_ROWS = 10
_NAMES_THAT_MAKE_A_HEADER = 3

FILE_BYTES_MAX = 20_000_000
UNPACKED_BYTES_MAX = 200_000_000
ROWS_MAX = 10_000
COLUMNS_MAX = 100
_RECORDS_MAX = 1_048_576
_READER_SECONDS = 120


class Row(NamedTuple):
    """One row with something in it."""

    number: int
    """From 1, as the sheet shows it."""
    cells: dict[str, str]
    """Column name -> clean text, "" where empty; known columns only."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The list as staff wrote it."""

    file: str
    header_row: int
    columns: frozenset[str]
    """The known ones that are there."""
    rows: tuple[Row, ...]


Table = Iterable[list[str]]


def read_sheet(folder: Path) -> tuple[Sheet | None, list[Problem]]:
    """The sheet, or None where there is none that can be read; and what is wrong with its form."""
    found = [name for name in FILES if (folder / name).exists()]
    if not found:
        return None, [
            error(FILES[0], "is missing, and so is candidates.csv: one of them is needed")
        ]
    if len(found) == 2:
        return None, [error(FILES[1], "stands beside candidates.xlsx: take one of them away")]
    file = found[0]
    try:
        if not (folder / file).is_file():
            return None, [error(file, "is no file")]
        size = (folder / file).stat().st_size
        if size > FILE_BYTES_MAX:
            return None, [error(file, f"is larger than {FILE_BYTES_MAX // 1_000_000} MB")]
        tables = _read_xlsx(folder / file) if file == FILES[0] else _read_csv(folder / file)
        return _first_with_header(file, tables)
    except _Unreadable as why:
        return None, [error(file, str(why), row=why.row)]
    except OSError as why:
        return None, [error(file, f"cannot be read: {why.strerror}")]


class _Unreadable(Exception):
    """Never leaves this module."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def _first_with_header(file: str, tables: list[Table]) -> tuple[Sheet | None, list[Problem]]:
    for table in tables:
        rows = list(table)
        header = _header_index(rows[:HEADER_AMONG_ROWS])
        if header is not None:
            return _under_header(file, rows, header)
    return None, [
        error(
            file,
            f"none of the first {HEADER_AMONG_ROWS} rows has the column names "
            f"({', '.join((PLACE, *REQUIRED))})",
        )
    ]


def _header_index(rows: list[list[str]]) -> int | None:
    known = [len(KNOWN.intersection(map(squeeze, row))) for row in rows]
    most = max(known, default=0)
    return known.index(most) if most >= _NAMES_THAT_MAKE_A_HEADER else None


def _under_header(file: str, rows: list[list[str]], header: int) -> tuple[Sheet, list[Problem]]:
    problems: list[Problem] = []
    header_row = header + 1
    columns: dict[str, int] = {}
    names = [squeeze(cell) for cell in rows[header]]
    for index, name in enumerate(names):
        if name in columns:
            problems.append(
                error(file, "stands twice in the header", row=header_row, column=name, value=name)
            )
        elif name in KNOWN:
            columns[name] = index
        elif name:
            problems.append(
                warning(
                    file, "is no known column: not read", row=header_row, column=name, value=name
                )
            )
    for name in REQUIRED:
        if name not in columns:
            problems.append(error(file, "is missing from the header", row=header_row, column=name))
    if ID not in columns and PLACE not in columns:
        problems.append(
            error(
                file,
                f"is missing from the header: {ID} or {PLACE} is needed to tell candidates by",
                row=header_row,
                column=ID,
            )
        )
    if PHOTO not in columns:
        problems.append(
            warning(
                file, "is not in the header: no candidate has one", row=header_row, column=PHOTO
            )
        )
    found: list[Row] = []
    nameless: set[int] = set()
    for number, row in enumerate(rows[header_row:], header_row + 1):
        if not any(map(clean, row)):
            continue
        for index, cell in enumerate(row):
            unnamed = index >= len(names) or not names[index]
            if unnamed and index not in nameless and clean(cell):
                nameless.add(index)
                problems.append(_beyond_the_names(file, number, index, cell, len(names)))
        found.append(
            Row(
                number,
                {
                    name: clean(row[index]) if index < len(row) else ""
                    for name, index in columns.items()
                },
            )
        )
    if not found:
        problems.append(error(file, "has no candidate below the header"))
    return Sheet(file, header_row, frozenset(columns), tuple(found)), problems


def _beyond_the_names(file: str, row: int, index: int, cell: str, width: int) -> Problem:
    if file == "candidates.csv" and index >= width:
        message = (
            "is one cell more than the header has: a comma inside a text needs quotes around it"
        )
        return error(file, message, row=row, column=_letters(index), value=clean(cell))
    message = "is under no column name: not read, here and below"
    return warning(file, message, row=row, column=_letters(index), value=clean(cell))


def _letters(index: int) -> str:
    """0 -> A, 26 -> AA, as a sheet shows a column without a name."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


# CSV


def _read_csv(path: Path) -> list[Table]:
    return [_records(_decoded(path.read_bytes()))]


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Unreadable("is in UTF-16: save it as “CSV UTF-8”")
    # GB18030 second: few of its texts are valid UTF-8 by chance, but many a UTF-8 text is valid
    # GB18030.
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise _Unreadable("is neither UTF-8 nor GB18030: save it as “CSV UTF-8”")


def _records(text: str) -> Iterator[list[str]]:
    """A row is a record, as a sheet would show it, whatever line breaks its cells hold."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = filled = 0
    try:
        for number, record in enumerate(reader, 1):
            width = max((i for i, cell in enumerate(record, 1) if cell), default=0) if record else 0
            filled += width > 0
            if width > COLUMNS_MAX:
                raise _Unreadable(f"has more than {COLUMNS_MAX} columns", number)
            # Empty rows at the end are usual, but cost memory too.
            if filled > ROWS_MAX or number > _RECORDS_MAX:
                raise _Unreadable(f"has more than {ROWS_MAX} rows", number)
            yield record[:width]
    except csv.Error as why:
        raise _Unreadable(f"is no CSV: {why}", number + 1) from None


# XLSX


def _read_xlsx(path: Path) -> list[Table]:
    _check_unpacked_size(path)
    # -I: nothing of the environment or the working folder reaches it.
    command = [
        sys.executable,
        "-I",
        xlsx_reader.__file__,
        str(path.absolute()),
        str(ROWS_MAX),
        str(COLUMNS_MAX),
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_READER_SECONDS)  # noqa: S603
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        # It died of a limit, or of the file.
        raise _Unreadable(
            "is damaged, or has a cell far away from the list: copy the list alone into a new file"
        ) from None
    if "fault" in answer:
        raise _Unreadable(answer["fault"])
    return [rows for _, rows in answer["sheets"]]


def _check_unpacked_size(path: Path) -> None:
    """Bytes are counted as they come out: what the zip directory says of them may be a lie."""
    left = UNPACKED_BYTES_MAX
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > left:
                    raise _Unreadable(_TOO_LARGE)
                counted = copy(member)
                counted.file_size = 1 << 62  # else zipfile stops at what is claimed
                with archive.open(counted) as file:
                    while chunk := file.read(1 << 20):
                        left -= len(chunk)
                        if left < 0:
                            raise _Unreadable(_TOO_LARGE)
    except (_Unreadable, OSError):
        raise
    except Exception as why:
        # Damage shows in many ways here: BadZipFile, zlib.error, struct.error, RuntimeError ...
        raise _Unreadable(_what_it_is(path)) from why


_TOO_LARGE = f"unpacks to more than {UNPACKED_BYTES_MAX // 1_000_000} MB"
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(len(_OLE)) == _OLE:
            return "is an old .xls file, or has a password: save it as .xlsx without one"
    return "is damaged or no XLSX file"
