"""Reads one XLSX file and prints its sheets as JSON: {"sheets": [[name, [[cell, ...], ...]], ...]}
or {"fault": why not}. Cells are text.

A program of its own, run by `sheet.py`, because the parser builds a dense table: one stray cell in
row 1,048,576 asks for gigabytes, and where it cannot have them it aborts the whole process. Here
that costs this process alone, and memory and time are bounded.

    python xlsx_reader.py FILE MOST_ROWS MOST_COLUMNS
"""

import json
import resource
import sys
from datetime import date, datetime, time, timedelta

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 60
TEXT_MAX = 50_000_000
"""Characters in all; a shared string in ten thousand cells is small in the file and large here."""
CELL_MAX = 6_000
SHEETS_MAX = 20

Cell = int | float | str | bool | time | date | datetime | timedelta


def text_of(cell: Cell) -> str:
    """As one would type it: a whole number has no ".0", a date no midnight."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date().isoformat()
    return str(cell)[:CELL_MAX]


def read(path: str, most_rows: int, most_columns: int) -> dict[str, object]:
    # Late, so that the limits hold for it.
    from python_calamine import CalamineError, CalamineWorkbook

    sheets = []
    characters = 0
    try:
        with CalamineWorkbook.from_path(path) as book:
            for name in book.sheet_names[:SHEETS_MAX]:
                sheet = book.get_sheet_by_name(name)
                last_row, last_column = sheet.end or (-1, -1)  # from 0
                if last_row >= most_rows or last_column >= most_columns:
                    return {
                        "fault": f"sheet {name!r} reaches to row {last_row + 1}, column "
                        f"{last_column + 1}; at most {most_rows} rows and {most_columns} columns "
                        "are read: copy the list alone into a new file"
                    }
                rows = [
                    [text_of(cell) for cell in row]
                    for row in sheet.to_python(skip_empty_area=False)
                ]
                characters += sum(len(cell) for row in rows for cell in row)
                if characters > TEXT_MAX:
                    return {"fault": f"holds more than {TEXT_MAX} characters"}
                sheets.append((name, rows))
    except CalamineError as why:
        return {"fault": f"is damaged or no XLSX file: {str(why)[:200]}"}
    return {"sheets": sheets}


def main() -> None:
    path, most_rows, most_columns = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(read(path, int(most_rows), int(most_columns)), sys.stdout)


if __name__ == "__main__":
    main()
