"""Public notices (公告): the text as it was put up, and reading it.

The newest stands; those before it stay as they were. A notice is text and numbers only: whoever
renders it escapes it. `tally.campaigns.notice_proposals` puts it up; it takes two persons there.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import asyncpg


@dataclass(frozen=True, slots=True)
class Concerned:
    """A candidate with struck votes."""

    number: int
    name: str
    organisation: str
    before: int
    struck: int
    after: int
    place_before: int
    """0 = withdrawn."""
    place_after: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice, ready to be set."""

    title: str
    opening: tuple[str, ...]
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    """Heading and paragraphs; the table of the concerned stands in the second one."""
    issuer: str
    dated: str
    concerned: tuple[Concerned, ...] = ()
    sums: tuple[int, int, int] | None = None
    """Before, struck, after: of all candidates."""
    contact: str = ""
    begins: date | None = None
    """First day of the period for objections; None = there is none."""
    ends: date | None = None
    """Its last day."""
    counts_as_of: datetime | None = None
    """Its numbers are those of this moment: who hides the counts of that moment hides the notice.
    None = it has no numbers."""
    withdraws: int | None = None
    """Number of the notice that it takes back."""

    def as_text(self) -> str:
        """Plain text, for a mail or an editor."""
        lines = [self.title, "", *(f"　　{paragraph}" for paragraph in self.opening)]
        for number, (heading, paragraphs) in enumerate(self.sections):
            lines += ["", heading, *(f"　　{paragraph}" for paragraph in paragraphs)]
            if number == 1 and self.concerned:
                lines += ["", *self._table(), ""]
        return "\n".join([*lines, "", f"　　{self.issuer}", f"　　{self.dated}", ""])

    def _table(self) -> list[str]:
        assert self.sums is not None, "a table has its sums"
        before, struck, after = self.sums
        return [
            "编号\t候选人\t核查前\t剔除\t核查后\t名次变化",
            *(
                f"{one.number}\t{_flat(one.name)}（{_flat(one.organisation)}）\t{one.before:,}\t"
                f"{one.struck:,}\t{one.after:,}\t{place_change(one)}"
                for one in self.concerned
            ),
            f"\t全部候选人合计\t{before:,}\t{struck:,}\t{after:,}\t",
        ]


@dataclass(frozen=True, slots=True)
class PublicNotice:
    """A notice that was put up."""

    number: int
    """1, 2 ... within its campaign."""
    at: datetime
    """When it was put up."""
    notice: Notice


def place_change(one: Concerned) -> str:
    """A candidate's place before and after."""
    if not one.place_before:
        return "已退出"
    if one.place_before == one.place_after:
        return f"第 {one.place_before} 名，不变"
    return f"第 {one.place_before} 名 → 第 {one.place_after} 名"


def chinese_day(day: date) -> str:
    """As official papers write it."""
    return f"{day.year} 年 {day.month} 月 {day.day} 日"


def _flat(text: str) -> str:
    """In one cell of a line."""
    return " ".join(text.split())


async def load_notices(connection: asyncpg.Connection) -> dict[int, tuple[PublicNotice, ...]]:
    """By campaign number, the newest last."""
    rows = await connection.fetch(
        "SELECT campaign, number, at, content::text FROM notices ORDER BY campaign, number"
    )
    found: defaultdict[int, list[PublicNotice]] = defaultdict(list)
    for row in rows:
        notice = PublicNotice(row["number"], row["at"], _read(row["content"]))
        found[row["campaign"]].append(notice)
    return {campaign: tuple(notices) for campaign, notices in found.items()}


@lru_cache(maxsize=128)
def _read(content: str) -> Notice:
    """Kept, for they never change: an edge reads them all whenever anything of a campaign does."""
    return notice_from_json(json.loads(content))


# How a notice lies in the database: by field name, days and moments in ISO form, each of the
# concerned as a list, for there may be hundreds. A field that is not there takes its default.


def notice_to_json(notice: Notice) -> dict[str, Any]:
    fields = asdict(notice)
    fields["concerned"] = [list(asdict(one).values()) for one in notice.concerned]
    for name in ("begins", "ends", "counts_as_of"):
        fields[name] = fields[name] and fields[name].isoformat()
    return fields


def notice_from_json(stored: Mapping[str, Any]) -> Notice:
    fields = dict(stored)
    fields["opening"] = tuple(fields["opening"])
    fields["sections"] = tuple((heading, tuple(said)) for heading, said in fields["sections"])
    fields["concerned"] = tuple(Concerned(*one) for one in fields.get("concerned", ()))
    sums, as_of = fields.get("sums"), fields.get("counts_as_of")
    fields["sums"] = sums and tuple(sums)
    fields["counts_as_of"] = as_of and datetime.fromisoformat(as_of)
    for name in ("begins", "ends"):
        day = fields.get(name)
        fields[name] = day and date.fromisoformat(day)
    return Notice(**fields)
