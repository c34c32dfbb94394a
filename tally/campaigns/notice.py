"""The public notice (公告): a draft in Chinese of what was struck, how, and where to object.

It follows from the database and from the few fields that somebody fills in: the same of both gives
the same text, byte for byte. Numbers before and after are of one moment. The list of struck votes
is a CSV file of its own, whose SHA-256 stands in the notice: whoever gets the list can tell that it
is the one that was meant. It names no person, no device and no address; a vote is known by its
place in the journal.

Known weakness: it is a draft. Whether its words do is for those to say who sign it.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg

from antifraud.flags import places
from tally.canonical import canonical
from tally.case_decisions import persons_of
from tally.store import SQL as TALLY_SQL
from tally.store import read_queries
from voting.campaign import Campaign
from voting.notices import Concerned, Notice, PublicNotice, chinese_day

SQL = read_queries(Path(__file__).with_suffix(".sql"))

FIELD_CHARACTERS_MAX = 120
DAYS_MAX = 60
LIST_HEADER = "day,shard,epoch,seq,candidate,decision"

_KINDS = {
    "client": "手机型号或加密连接特征异常集中",
    "dwell": "从看到卡片到点赞的用时异常整齐",
    "age": "设备令牌的领取与使用时间异常集中",
    "network": "来自租用服务器的机房网络",
    "pace": "投票间隔异常均匀",
    "repeat": "同一线路同一款手机反复更换设备令牌",
}
"""Families of evidence (antifraud.flags.KIND_NATS), for the public."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What somebody fills in; "" leaves a blank to be filled in by hand."""

    issuer: str = ""
    """Who signs."""
    contact: str = ""
    """Whom to write to, and how: telephone, mail, address."""
    title: str = ""
    begins: date | None = None
    """First day of the period for objections; None = the notice's day."""
    days: int = 5
    dated: date | None = None
    """None = the day of the cut-off."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the notice says, out of the database, as of one moment."""

    campaign: Campaign
    cut_off: datetime
    """In the campaign's zone: the close, or up to when nothing is missing where it is not over."""
    closed: bool
    concerned: tuple[Concerned, ...]
    """By their number."""
    moved: int
    """Candidates without struck votes whose place is another one."""
    counted: int
    held: int
    struck: int
    decisions: int
    cases: int
    persons: int
    """How many different people decided."""
    by_two: bool
    """Whether two people decided each time."""
    kinds: tuple[str, ...]
    rules: tuple[int, ...]
    """Versions of the rules in force at the decisions."""
    detectors: tuple[int, ...]
    list_sha256: str
    publication: tuple[int, str] | None
    """The last one's number, and its manifest's SHA-256."""
    counts_as_of: datetime
    """The moment that the numbers are of: the close, or the last decision if that was later. In a
    campaign that is not over they move with every vote."""
    objections: tuple[int, int]
    """How many were received, and how many of them answered."""

    @property
    def before(self) -> int:
        return self.counted + self.struck

    @property
    def ground(self) -> str:
        """SHA-256 of what must not move between the draft and its being put up: all of its
        numbers, or, where the campaign is not over, all but those that every vote moves."""
        said = {
            "campaign": self.campaign.title,
            "closed": self.closed,
            "closes_at": self.campaign.window.closes_at.isoformat(),
            "struck": [
                [one.number, one.name, one.organisation, one.struck] for one in self.concerned
            ],
            "decisions": [self.decisions, self.cases, self.persons, self.by_two],
            "found": [self.kinds, self.rules, self.detectors],
            "list": self.list_sha256,
        }
        if self.closed:
            said |= {
                "sums": [self.counted, self.held, self.struck, self.moved],
                "places": [
                    [one.before, one.after, one.place_before, one.place_after]
                    for one in self.concerned
                ],
            }
        return hashlib.sha256(canonical(said)).hexdigest()


async def read_facts(connection: asyncpg.Connection, campaign: Campaign) -> Facts:
    """Everything that the notice says. The connection must be in no transaction. 2 us for each
    struck vote, 4 more for their list where nobody asked for it since the last decision."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await gather_facts(connection, campaign)


async def gather_facts(connection: asyncpg.Connection, campaign: Campaign) -> Facts:
    """The same in a transaction of the caller's, who sees to it that nobody decides meanwhile."""
    rows = await connection.fetch(SQL["read_sums"], campaign.number)
    strikes = await connection.fetch(SQL["read_strikes"], campaign.number)
    cases = sorted({row["case_of"] for row in strikes if row["case_of"] is not None})
    flags = await connection.fetch(SQL["read_kinds"], campaign.number, cases)
    as_of = await connection.fetchval(TALLY_SQL["read_as_of"])
    published = await connection.fetchrow(SQL["read_last_publication"], campaign.number)
    objections = await connection.fetchrow(SQL["count_objections"], campaign.number)
    decided = await connection.fetchrow(SQL["read_list_key"], campaign.number)
    digest = await _list_sha256(connection, campaign, decided)
    zone = campaign.window.zone
    as_of = (as_of or datetime.fromtimestamp(0, UTC)).astimezone(zone)
    closed = as_of >= campaign.window.closes_at
    standing = [row for row in rows if not row["withdrawn"]]
    before = places({row["number"]: row["counted"] + row["struck"] for row in standing})
    after = places({row["number"]: row["counted"] for row in standing})
    struck_from = {row["number"] for row in rows if row["struck"]}
    kinds = {kind for row in flags for kind in row["kinds"]}
    people = [persons_of(row["decided_by"]) for row in strikes]
    return Facts(
        campaign=campaign,
        cut_off=campaign.window.closes_at if closed else as_of.replace(second=0, microsecond=0),
        closed=closed,
        concerned=tuple(
            Concerned(
                row["number"],
                row["name"],
                row["organisation"],
                row["counted"] + row["struck"],
                row["struck"],
                row["counted"],
                before.get(row["number"], 0),
                after.get(row["number"], 0),
            )
            for row in sorted(rows, key=lambda row: row["number"])
            if row["struck"]
        ),
        moved=sum(
            before[number] != after[number] for number in before if number not in struck_from
        ),
        counted=sum(row["counted"] for row in rows),
        held=sum(row["held"] for row in rows),
        struck=sum(row["struck"] for row in rows),
        decisions=len(strikes),
        cases=len(cases),
        persons=len({person for of_one in people for person in of_one}),
        by_two=bool(people) and all(len(of_one) == 2 for of_one in people),
        kinds=tuple(kind for kind in _KINDS if kind in kinds),
        rules=tuple(sorted({row["rules"] for row in strikes})),
        detectors=tuple(sorted({row["version"] for row in flags})),
        list_sha256=digest,
        publication=None
        if published is None
        else (published["number"], bytes(published["manifest_hash"]).hex()),
        # A decision is in no counts of its own moment.
        counts_as_of=max(campaign.window.closes_at, decided["at"] + timedelta(microseconds=1))
        if closed
        else as_of,
        objections=(objections["received"], objections["answered"]),
    )


_digests: dict[tuple[int, int, int, datetime], str] = {}
"""(database, campaign, last decision and its time) -> SHA-256 of the list, which is another one
only after the next decision."""
_DIGESTS_MAX = 64


async def _list_sha256(
    connection: asyncpg.Connection, campaign: Campaign, row: asyncpg.Record
) -> str:
    key = (row["database"], campaign.number, row["decision"], row["at"])
    if key not in _digests:
        digest = hashlib.sha256()

        async def add(chunk: bytes) -> None:
            digest.update(chunk)

        await copy_struck(connection, campaign, add)
        while len(_digests) >= _DIGESTS_MAX:
            del _digests[next(iter(_digests))]
        _digests[key] = digest.hexdigest()
    return _digests[key]


async def copy_struck(
    connection: asyncpg.Connection, campaign: Campaign, sink: Callable[[bytes], Awaitable[None]]
) -> None:
    """The list of struck votes as CSV, in pieces, ascending by place; a header, then a vote a line:
    day, shard, epoch, seq, number of the candidate, number of the decision."""
    await connection.copy_from_query(
        SQL["copy_struck"], campaign.number, output=sink, format="csv", header=True, timeout=600
    )


def draft(facts: Facts, fields: Fields) -> Notice:
    """The notice's paragraphs. No I/O."""
    campaign = facts.campaign
    dated = fields.dated or facts.cut_off.date()
    begins = fields.begins or dated
    ends = begins + timedelta(days=fields.days - 1)
    return Notice(
        title=fields.title or f"关于{_named(campaign)}异常票核查情况的公告",
        opening=_opening(facts),
        sections=tuple(
            (heading, paragraphs)
            for heading, paragraphs in (
                ("一、核查依据与方法", _method(facts)),
                ("二、核查结果", _result(facts)),
                ("三、剔除清单与核验", _list(facts)),
                ("四、异议的提出与处理", _objections(facts, fields, begins, ends)),
            )
        ),
        concerned=facts.concerned,
        sums=(facts.before, facts.struck, facts.counted),
        issuer=fields.issuer or "（发布单位）",
        dated=chinese_day(dated),
        contact=fields.contact,
        begins=begins,
        ends=ends,
        counts_as_of=facts.counts_as_of,
    )


def withdrawal(campaign: Campaign, taken_back: PublicNotice, *, why: str, dated: date) -> Notice:
    """The notice that takes another one back. It has no numbers, and says nothing that the other
    one says. No I/O."""
    number, put_up = taken_back.number, taken_back.at.astimezone(campaign.window.zone).date()
    return Notice(
        title=f"关于撤回{_named(campaign)}第 {number} 号公告的公告",
        opening=(
            f"{chinese_day(put_up)}发布的{_named(campaign)}第 {number} 号公告，"
            "自本公告发布之日起撤回，不再作为依据。",
            f"撤回原因：{why}",
            "被撤回的公告没有删除，仍可查阅。",
        ),
        sections=(),
        issuer=taken_back.notice.issuer,
        dated=chinese_day(dated),
        contact=taken_back.notice.contact,
        withdraws=number,
    )


def _named(campaign: Campaign) -> str:
    """The campaign in a sentence: quotes within quotes are single ones."""
    title = " ".join(campaign.title.split()).replace("“", "‘").replace("”", "’")
    return f"“{title}”" + ("" if "点赞" in title else "网络点赞")


def _opening(facts: Facts) -> tuple[str, ...]:
    campaign = facts.campaign
    at = _chinese_moment(facts.cut_off)
    period = (
        f"{_named(campaign)}已于 {at} 截止。"
        if facts.closed
        else f"{_named(campaign)}正在进行。本公告所列数据截至 {at}。"
    )
    if not facts.struck:
        return (
            period + "为维护活动的公开、公平、公正，我们对点赞数据进行了核查，"
            "截至上述时间没有剔除任何一票。现将有关情况公告如下。",
        )
    return (
        period + "为维护活动的公开、公平、公正，我们对点赞数据进行了核查，"
        "对确认为异常的点赞作了剔除。现将有关情况公告如下。",
    )


def _method(facts: Facts) -> tuple[str, ...]:
    found = "；".join(_KINDS[kind] for kind in facts.kinds)
    versions = "、".join(f"第 {number} 版" for number in facts.rules)
    detectors = "、".join(f"第 {number} 版" for number in facts.detectors)
    paragraphs = [
        "核查以票为对象，不以人为对象：异常票只说明这些票不是公众的真实点赞，"
        "不说明候选人本人与之有关。核查只使用与点赞有关的技术特征，不使用个人身份信息。",
    ]
    if found:
        paragraphs.append(f"本次剔除所依据的证据种类：{found}。单独一种迹象不足以自动处置一票。")
    if versions:
        paragraphs.append(
            f"适用的规则版本：判票规则{versions}"
            + (f"，检测规则{detectors}" if detectors else "")
            + "。"
        )
    if facts.decisions:
        how = "，每一项均由一人提出、另一人复核同意" if facts.by_two else ""
        paragraphs.append(
            f"剔除由人工决定：共 {facts.decisions:,} 项决定，涉及 {facts.cases:,} 组异常票，"
            f"由 {facts.persons:,} 名工作人员作出{how}。每项决定的理由、时间和经办人"
            "均记入不可更改的审计日志。"
        )
    return tuple(paragraphs)


def _result(facts: Facts) -> tuple[str, ...]:
    kept = (
        f"另有 {facts.held:,} 票仍在核查，暂不计入，核查后另行公布。"
        if facts.held
        else "没有仍在核查的票。"
    )
    sums = (
        f"截至 {_chinese_moment(facts.cut_off)}，核查前有效点赞 {facts.before:,} 票，"
        f"剔除 {facts.struck:,} 票，核查后 {facts.counted:,} 票。{kept}"
    )
    if not facts.concerned:
        return (sums,)
    moved = (
        f"除表列候选人外，另有 {facts.moved:,} 位候选人的名次随之变化，其票数没有变化。"
        if facts.moved
        else "其他候选人的票数和名次没有变化。"
    )
    return (sums, f"涉及候选人 {len(facts.concerned):,} 位，核查前后的票数见下表。{moved}")


def _list(facts: Facts) -> tuple[str, ...]:
    paragraphs = ["没有被剔除的票，剔除清单为空。"]
    if facts.struck:
        paragraphs = [
            "被剔除的票没有删除，全部保留备查，并可经新的决定恢复。"
            f"剔除清单逐票列出（共 {facts.struck:,} 票），其 SHA-256 校验值为：",
            facts.list_sha256,
        ]
    if facts.publication is not None:
        number, manifest = facts.publication
        paragraphs += [
            f"最近一次公布的计票结果为第 {number} 号，其文件目录（manifest.json）的 SHA-256 值为：",
            manifest,
        ]
    return tuple(paragraphs)


def _objections(facts: Facts, fields: Fields, begins: date, ends: date) -> tuple[str, ...]:
    received, answered = facts.objections
    so_far = f"本公告起草时，已收到异议 {received:,} 件，其中已答复 {answered:,} 件。"
    return (
        f"公示期为 {chinese_day(begins)}至{chinese_day(ends)}，共 {fields.days} 天。"
        "对核查结果有异议的，请在公示期内以书面形式提出，写明姓名、联系方式、"
        "所涉候选人和具体理由。我们将逐件登记、复核并答复。",
        f"受理方式：{fields.contact or '（联系人、电话、邮箱、地址）'}",
        *((so_far,) if received else ()),
    )


def _chinese_moment(at: datetime) -> str:
    return f"{chinese_day(at.date())} {at:%H:%M}"
