"""The demo campaign, into an empty database."""

from pathlib import Path

import asyncpg

FOLDER = Path(__file__).parent.parent / "demo"


async def import_demo(dsn: str) -> None:
    """Import the packaged demo campaign when the database has no campaign at all.

    Its warnings (drawn portraits are small files) are nobody's business. CannotImport where the
    database does not answer, or the package is damaged.
    """
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM campaigns)"):
            return
    finally:
        await connection.close()
    # Late: every other start is spared the libraries for pictures and sheets.
    from voting.intake.importer import CannotImport, import_folder
    from voting.intake.problems import Level

    report = await import_folder(FOLDER, dsn)
    if not report.imported:
        faults = [
            f"{problem.file} row {problem.row} {problem.column}: {problem.message}"
            for problem in report.problems
            if problem.level is Level.ERROR
        ]
        raise CannotImport(f"the demo campaign in {FOLDER} is damaged: {'; '.join(faults)}")
