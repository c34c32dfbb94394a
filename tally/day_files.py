"""Past campaign days' votes, each day in a Parquet file of its own.

Made from Postgres when a day is over and whole, and made again where one is missing.
"""

from datetime import date
from pathlib import Path


def kept_days(folder: Path) -> list[date]:
    """Days that have their file, oldest first."""
    return sorted(date.fromisoformat(path.stem) for path in folder.glob("????-??-??.parquet"))


def day_file(folder: Path, day: date) -> Path:
    return folder / f"{day.isoformat()}.parquet"
