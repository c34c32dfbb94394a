"""Rows of the sheet -> candidates as listed, every cell checked."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from voting.intake.problems import Problem, error, warning
from voting.intake.sheet import BIRTH, ID, PHOTO, PLACE, STORY, VIDEO, Row, Sheet
from voting.intake.text import fault_of, in_paragraphs, on_one_line, private_use

CANDIDATES_MAX = 65_535
"""Numbers of candidates that a campaign has: the journal stores 16 bits."""


class Field(NamedTuple):
    """One column that becomes text of a candidate."""

    name: str
    column: str
    most_characters: int
    lines: bool = False
    """Whether its line breaks are kept."""
    needed: bool = True


FIELDS = (
    Field("name", "姓名", 50),
    Field("organisation", "工作单位", 100),
    Field("unit", "推荐单位", 100),
    Field("channel", "推荐渠道", 20),
    Field("title", "职务职称", 100),
    Field("summary", "主要事迹", 1_000),
    Field("story", STORY, 5_000, lines=True, needed=False),
)

_UNIT = FIELDS[2].column
_CHANNEL = FIELDS[3].column
_SUMMARY = FIELDS[5].column


@dataclass(frozen=True, slots=True)
class Listed:
    """A candidate as the list has it: without a number, photos and video still files' names."""

    row: int
    id: str
    """"" where the row gives none of its own; an error says why."""
    name: str
    organisation: str
    unit: str
    channel: str
    title: str
    summary: str
    photo: str | None
    """The cell: names of files, the card's first."""
    story: str = ""
    video: str | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """All rows, sound or not, in the sheet's order."""

    file: str
    id_column: str
    candidates: tuple[Listed, ...]

    @property
    def ids_are_known(self) -> bool:
        """Where one is not, nobody can be said to be missing."""
        return bool(self.candidates) and all(candidate.id for candidate in self.candidates)


def read_roster(sheet: Sheet, channels: dict[str, int] | None) -> tuple[Roster, list[Problem]]:
    """The candidates, and all that is wrong with their cells."""
    checks = _Checks(sheet)
    id_column = ID if ID in sheet.columns else PLACE
    id_of = checks.id_as_written if id_column == ID else checks.id_from_place
    candidates: list[Listed] = []
    first_row_of: dict[str, int] = {}
    for row in sheet.rows:
        fields = {field.name: checks.text(row, field) for field in FIELDS}
        photo, video = (row.cells.get(column) or None for column in (PHOTO, VIDEO))
        candidate_id = id_of(row) if id_column in sheet.columns else ""
        first_row = first_row_of.setdefault(candidate_id, row.number)
        if candidate_id and first_row != row.number:
            checks.error(row, id_column, f"{candidate_id} is in row {first_row} already")
            candidate_id = ""
        candidates.append(Listed(row.number, candidate_id, photo=photo, video=video, **fields))
    if len(candidates) > CANDIDATES_MAX:
        checks.problems.append(error(sheet.file, f"has more than {CANDIDATES_MAX} candidates"))
    checks.same_person_twice()
    if channels is not None:
        checks.channels(channels)
        checks.quotas(candidates, channels)
    return Roster(sheet.file, id_column, tuple(candidates)), checks.problems


class _Checks:
    """Everything that is asked of rows, and what came out."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.problems: list[Problem] = []

    def error(self, row: Row, column: str, message: str) -> None:
        self._say(error, row, column, message)

    def warning(self, row: Row, column: str, message: str) -> None:
        self._say(warning, row, column, message)

    def _say(self, level: Callable[..., Problem], row: Row, column: str, message: str) -> None:
        value = row.cells.get(column)
        self.problems.append(
            level(self.sheet.file, message, row=row.number, column=column, value=value)
        )

    def text(self, row: Row, field: Field) -> str:
        if field.column not in self.sheet.columns:
            return ""  # said of the header, once
        text = row.cells[field.column]
        if field.lines:
            text = in_paragraphs(text)
        elif field.column == _SUMMARY:
            text = on_one_line(text)  # a paragraph is no mistake there
        if not text and field.needed:
            self.error(row, field.column, "is empty")
        elif len(text) > field.most_characters:
            self.error(row, field.column, f"has more than {field.most_characters} characters")
        if fault := fault_of(text, paragraphs=field.lines):
            self.error(row, field.column, fault)
        elif rare := private_use(text):
            self.warning(
                row, field.column, f"holds U+{ord(rare):04X}, which most devices cannot show"
            )
        return text

    def id_as_written(self, row: Row) -> str:
        text = row.cells[ID]
        if not text:
            self.error(row, ID, "is empty")
        elif not re.fullmatch("[A-Za-z0-9_-]{1,32}", text):
            self.error(row, ID, "must be 1 to 32 of A-Z, a-z, 0-9, _ and -")
        else:
            return text
        return ""

    def id_from_place(self, row: Row) -> str:
        text = row.cells[PLACE]
        if not text:
            self.error(row, PLACE, "is empty")
        elif not re.fullmatch("0{0,8}[1-9][0-9]{0,8}", text):
            self.error(row, PLACE, "must be a whole number from 1")
        else:
            return f"c{int(text):03d}"
        return ""

    def same_person_twice(self) -> None:
        """Name and organisation tell people apart, and the month of birth; where the list has
        none, the title."""
        first_row_of: dict[tuple[str, ...], int] = {}
        for row in self.sheet.rows:
            name, organisation, title = (
                row.cells.get(column, "") for column in ("姓名", "工作单位", "职务职称")
            )
            if not name or not organisation:
                continue
            birth = row.cells.get(BIRTH, "")
            person = (name, organisation, birth, "" if birth else title)
            first_row = first_row_of.setdefault(person, row.number)
            if first_row != row.number:
                self.error(row, "姓名", f"is the person of row {first_row} once more")

    def channels(self, channels: dict[str, int]) -> None:
        for row in self.sheet.rows:
            channel = row.cells.get(_CHANNEL)
            if channel and channel not in channels:
                self.error(row, _CHANNEL, f"is none of [channels]: {', '.join(channels)}")

    def quotas(self, candidates: list[Listed], channels: dict[str, int]) -> None:
        of_unit: defaultdict[tuple[str, str], list[Listed]] = defaultdict(list)
        for candidate in candidates:
            of_unit[candidate.unit, candidate.channel].append(candidate)
        for (unit, channel), listed in of_unit.items():
            quota = channels.get(channel)
            if unit and quota is not None and len(listed) > quota:
                # Where the first one too many stands.
                self.problems.append(
                    warning(
                        self.sheet.file,
                        f"{unit} ({channel}) puts forward {len(listed)} candidates; "
                        f"the quota is {quota}",
                        row=listed[quota].row,
                        column=_UNIT,
                        value=unit,
                    )
                )
