"""Campaign folders as staff would make them, with made-up people."""

import csv
import io
import random
from pathlib import Path

import xlsxwriter
from PIL import Image

HEADER = (
    *("序号", "推荐渠道", "推荐单位", "姓名", "性别", "民族", "出生年月"),
    *("工作单位", "职务职称", "主要事迹", "照片"),
)

MANIFEST = """\
[campaign]
id = "stars"
title = "“最美科技工作者”网络点赞（测试）"
time_zone = "Asia/Shanghai"
opens_at = 2026-11-01T08:00:00+08:00
closes_at = 2027-07-31T18:00:00+08:00

[rules]
likes_per_candidate_per_day = 1
candidates_per_day = 10
likes_per_campaign = 0
order = "random"
counts = "live"
counts_daily_at = "18:00"

[limits]
per_device = "30/minute"
per_network = "1200/minute"

[portal]
origins = ["https://www.example.cn"]

[channels]
"省级" = 10
"学会" = 2
"企业" = 2
"""

_SURNAMES = "甄乐寻墨闻砚舟岚霁澄"
_GIVEN = "一二三四五六七八九十百千"
_UNITS = (
    *((f"示例省{n}", "省级", 10) for n in range(1, 33)),
    *((f"示例学会{n}", "学会", 2) for n in range(1, 171)),
    *((f"示例企业{n}", "企业", 2) for n in range(1, 43)),
)
"""32 * 10 + 212 * 2 = 744 candidates, every unit at its quota."""


def people(count: int = 744) -> list[dict[str, object]]:
    """Rows of the list: cell by column. Some share a name, none a name and an organisation."""
    dice = random.Random(744)
    rows: list[dict[str, object]] = []
    for unit, channel, quota in _UNITS:
        for _ in range(quota):
            place = len(rows) + 1
            rows.append(
                {
                    "序号": place,
                    "推荐渠道": channel,
                    "推荐单位": unit,
                    "姓名": dice.choice(_SURNAMES) + "".join(dice.choices(_GIVEN, k=2)),
                    "性别": dice.choice("男女"),
                    "民族": "汉族",
                    "出生年月": f"{dice.randrange(1940, 1990)}-{dice.randrange(1, 13):02}",
                    "工作单位": f"{unit}研究院第{place}室",
                    "职务职称": dice.choice(("教授", "研究员", "高级工程师")),
                    "主要事迹": "潜心研究三十年，成果在生产中广泛应用。",
                    "照片": "",
                }
            )
    return rows[:count]


def grid(rows: list[dict[str, object]], header=HEADER, title="候选人汇总表（示例数据）"):
    """Title, header and rows as a sheet has them: the first candidate is in row 3."""
    above = [[title]] if title else []
    return [*above, list(header), *([row.get(name, "") for name in header] for row in rows)]


def write_xlsx(folder: Path, cells, more_sheets=(), *, text_alone=False) -> Path:
    """Sheets `more_sheets` come before the one with `cells`; with `text_alone` "=1" is a text."""
    path = folder / "candidates.xlsx"
    forms = {"strings_to_formulas": not text_alone, "strings_to_urls": not text_alone}
    with xlsxwriter.Workbook(path, forms) as book:
        for sheet_cells in (*more_sheets, cells):
            sheet = book.add_worksheet()
            for number, row in enumerate(sheet_cells):
                sheet.write_row(number, 0, row)
    return path


def csv_bytes(cells, encoding="utf-8") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(cells)
    return text.getvalue().encode(encoding)


def write_csv(folder: Path, cells, encoding="utf-8") -> Path:
    path = folder / "candidates.csv"
    path.write_bytes(csv_bytes(cells, encoding))
    return path


def jpeg(size=(90, 120), colour=(200, 30, 30), at_least_bytes=0, mode="RGB", **options) -> bytes:
    """A sound JPEG; made large by a noisy trailer, as phones put films behind their photos."""
    encoded = io.BytesIO()
    Image.new(mode, size, colour).save(encoded, "JPEG", **options)
    missing = max(0, at_least_bytes - encoded.tell())
    return encoded.getvalue() + random.Random(missing).randbytes(missing)


def write_folder(folder: Path, rows=None, *, photos=None, manifest=MANIFEST, form="csv") -> Path:
    """A whole folder; 3 candidates unless `rows` says otherwise, `photos` = name -> bytes."""
    folder.mkdir(exist_ok=True)
    (folder / "campaign.toml").write_text(manifest)
    cells = grid(people(3) if rows is None else rows)
    (write_csv if form == "csv" else write_xlsx)(folder, cells)
    if photos is not None:
        (folder / "photos").mkdir(exist_ok=True)
        for name, content in photos.items():
            (folder / "photos" / name).write_bytes(content)
    return folder


def places(problems, level=None) -> list[tuple[str, int | None, str | None]]:
    """Where the problems are: (file, row, column) each."""
    return [
        (problem.file, problem.row, problem.column)
        for problem in problems
        if level is None or problem.level == level
    ]
