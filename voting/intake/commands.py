"""`dianzan campaign ...`: what staff do with campaigns."""

import asyncio
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from voting.intake.problems import Level, Problem
from voting.settings import load_settings

campaign = typer.Typer(no_args_is_help=True)


@campaign.callback()
def campaigns() -> None:
    """Campaigns and their candidates."""


@campaign.command("import")
def import_campaign(
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, metavar="FOLDER", help="Folder to import, see above."
        ),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only look: import nothing. Needs no database; where one answers, the list is "
            "held against it too.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help='Print {"ok","candidates","problems"} as JSON on stdout, and no more.'
        ),
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Mean it: candidates missing from the list are withdrawn (votes stay), withdrawn "
            "ones in it come back, names of an open campaign's candidates change.",
        ),
    ] = False,
) -> None:
    """Import a campaign, or update it: checked as a whole, then all or nothing.

    FOLDER holds campaign.toml (id, title, window, rules), the list candidates.xlsx or
    candidates.csv (UTF-8 or GB18030), and photos/ and videos/ with what the list names: JPEGs,
    and MP4 or MOV of at most three minutes and 500 MB (H.264 with AAC is what all browsers play).

    The list's columns, in any order, below a title or not: 推荐渠道 推荐单位 姓名 工作单位
    职务职称 主要事迹, and 编号 or 序号 (a candidate's id: 编号, else "c" and 序号 in three
    digits). Where there is something to show: 照片 (several between ; or 、 or line breaks; the
    first is the card's), 详细事迹 (at most 5000 characters, line breaks kept), 视频 (one file).
    性别 民族 出生年月 may stand there and are not stored.

    How the campaign presents itself may stand in a table [page] of campaign.toml, each as text in
    quotes: lead (one sentence), about (paragraphs, in three quotes), organiser, contact (whom to
    ask, about personal data too), colour (as "#b8291a"), cover (a JPEG of photos/, or "cover.jpg"
    beside campaign.toml; 1200 x 675 is shown well).

    Photos are kept in the database, in two sizes; videos are copied to media/videos/ in
    DIANZAN_DATA_DIR, which edges on other machines must see too, or `dianzan media export` brings
    them to a store (DIANZAN_MEDIA_URL). A list that was imported before there were large photos
    gets them when it is imported again.

    All problems are listed at once, with file, row and column, on stderr. One error, and nothing
    is imported; warnings are only said. Running edges serve what was imported within 2 seconds.

    Who may run this is the machine's operator, whom the console's rule of two persons does not
    bind: what this import changes in an open campaign stands in the public list of its changes
    ("imported list"), and in the staff's as changed by "import".

    Exit code 0: imported (or, with --check, could be); 1: errors; 2: cannot run.
    """
    # Late: `dianzan --help` need not load the libraries for pictures.
    from voting.intake.importer import CannotImport, import_folder

    settings = load_settings()
    dsn = settings.postgres_dsn
    try:
        report = asyncio.run(
            import_folder(
                folder,
                dsn.get_secret_value() if dsn else None,
                check=check,
                accept_changes=accept_changes,
                media=settings.media_path,
                progress=_progress_line(wanted=not as_json and sys.stderr.isatty()),
            )
        )
    except CannotImport as why:
        typer.echo(f"Nothing imported: {why}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        answer = {
            "ok": report.ok,
            "candidates": report.candidates,
            "problems": [problem.as_json() for problem in report.problems],
        }
        # Bytes: the same under every locale.
        typer.echo(json.dumps(answer, ensure_ascii=False).encode())
    else:
        for line in table_of(report.problems):
            typer.echo(line, err=True)
        if report.not_compared_because:
            why_not = report.not_compared_because
            typer.echo(f"Not held against what is imported already: {why_not}", err=True)
        if report.imported:
            outcome = "imported"
        elif check:
            outcome = "only checked, nothing imported"
        else:
            outcome = "nothing imported"
        typer.echo(f"{summary_of(report.candidates, report.problems)}: {outcome}.", err=True)
    if not report.ok:
        raise typer.Exit(1)


def _progress_line(*, wanted: bool) -> Callable[[int, int], None]:
    def show(done: int, of: int) -> None:
        if wanted and (done % 20 == 0 or done == of):
            end = "\n" if done == of else ""
            typer.echo(f"\rPhotos and videos: {done} of {of}{end}", err=True, nl=False)

    return show


def summary_of(candidates: int, problems: Iterable[Problem]) -> str:
    levels = [problem.level for problem in problems]
    return ", ".join(
        f"{number} {word if number == 1 else word + 's'}"
        for number, word in (
            (candidates, "candidate"),
            (levels.count(Level.ERROR), "error"),
            (levels.count(Level.WARNING), "warning"),
        )
    )


def table_of(problems: Iterable[Problem]) -> list[str]:
    """Lines for a terminal: file by file, by row, columns below each other."""
    lines: list[str] = []
    in_order = sorted(problems, key=lambda problem: (problem.file, problem.row or 0))
    for file, of_file in groupby(in_order, key=lambda problem: problem.file):
        cells = [
            (
                problem.level.value,
                "" if problem.row is None else f"row {problem.row}",
                _visible(problem.column or ""),
                _visible(_cut(problem.value or "")),
                _visible(problem.message),
            )
            for problem in of_file
        ]
        widths = [max(map(_width, column)) for column in zip(*cells, strict=True)][:-1]
        lines.append(_visible(file))
        for row in cells:
            padded = (cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=False))
            kept = (cell for cell, width in zip(padded, widths, strict=True) if width)
            lines.append("  " + "  ".join((*kept, row[-1])))
    return lines


def _cut(value: str) -> str:
    return value if len(value) <= 24 else value[:23] + "…"


def _visible(text: str) -> str:
    """Text of staff's making must not move the terminal's cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
