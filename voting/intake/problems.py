"""Problem: one thing that is wrong in the folder, and where."""

import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

_VALUE_MAX = 80


class Level(enum.StrEnum):
    """An error keeps the whole folder out; a warning is only said."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """The text is of staff's making: whoever shows it on a terminal takes control characters out.

    Values are cut to 80 characters.
    """

    level: Level
    file: str
    """Path within the folder."""
    row: int | None
    """The sheet's row from 1, header included; in campaign.toml the line of a syntax error."""
    column: str | None
    """Name of the column; in campaign.toml the key, as in "rules.order"."""
    value: str | None
    message: str

    def __post_init__(self) -> None:
        if self.value is not None and len(self.value) > _VALUE_MAX:
            object.__setattr__(self, "value", self.value[: _VALUE_MAX - 1] + "…")
        # A file's name need not be UTF-8 and then holds surrogates, which nothing can write.
        for name in ("file", "value", "message"):
            text = getattr(self, name)
            if text is not None and not text.isascii():
                text = text.encode("utf-8", "backslashreplace").decode()
                object.__setattr__(self, name, text)

    def as_json(self) -> dict[str, Any]:
        """A member of "problems" in the answer of `dianzan campaign import --json`."""
        return asdict(self)


def error(
    file: str,
    message: str,
    *,
    row: int | None = None,
    column: str | None = None,
    value: str | None = None,
) -> Problem:
    return Problem(Level.ERROR, file, row, column, value, message)


def warning(
    file: str,
    message: str,
    *,
    row: int | None = None,
    column: str | None = None,
    value: str | None = None,
) -> Problem:
    return Problem(Level.WARNING, file, row, column, value, message)


def errors_in(problems: Iterable[Problem]) -> int:
    return sum(problem.level is Level.ERROR for problem in problems)
