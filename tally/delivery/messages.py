"""What each event says to people: the text of a mail and of a robot's message.

Plain text, no markup: a candidate's name or a stranger's objection in it can be nothing but text.
Chinese first, then a line of English.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tally.delivery.outbox import Event

MARK = "【点赞】"
"""Each message begins with it: a robot that asks for a keyword can be given 点赞."""
_VALUE_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Message:
    """One message: a line, and what stands below it."""

    title: str
    text: str

    def whole(self, bytes_max: int) -> str:
        """Title and text, cut where a receiver takes no more."""
        text = f"{self.title}\n{self.text}".encode()
        if len(text) <= bytes_max:
            return text.decode()
        return text[: bytes_max - 3].decode(errors="ignore") + "…"


_TITLES: Mapping[Event, tuple[str, str]] = {
    Event.PUBLISHED: ("计票结果已发布", "A tally was published"),
    Event.CLOSED: ("活动已截止点赞", "A campaign was closed"),
    Event.REOPENED: ("活动重新开放点赞", "A campaign was opened again"),
    Event.NOTICE: ("公告已发布", "A public notice was put up"),
    Event.FLAG: ("有案卷可能影响名次，请核查", "A flag of high effect waits for a decision"),
    Event.PROPOSAL: ("有提议等待第二人批准", "A proposal waits for a second person"),
    Event.OBJECTION: ("收到一条异议", "An objection was received"),
    Event.PART_DOWN: ("部件停止响应", "A part is down"),
    Event.PART_BACK: ("部件已恢复", "A part is back"),
    Event.LAG: ("数据落后超过限度", "Data is behind by more than allowed"),
    Event.LAG_OVER: ("数据已赶上", "Data has caught up"),
    Event.RECONCILIATION_OFF: ("对账不一致，请立即核查", "Reconciliation is off"),
    Event.RECONCILIATION_WELL: ("对账恢复一致", "Reconciliation is right again"),
    Event.DISK_NEARLY_FULL: ("磁盘将满", "The disk is nearly full"),
    Event.DISK_WELL: ("磁盘空间恢复正常", "The disk has room again"),
    Event.DEAD_LETTERS: ("有通知未能送达", "News could not be delivered"),
    Event.DEAD_LETTERS_GONE: ("未送达的通知已处理", "No undelivered news is left"),
    Event.TEST: ("测试消息，请忽略", "A test message"),
}

_PUBLICATION_KINDS = {
    "scheduled": "定时",
    "provisional": "临时",
    "close": "截止",
    "final": "最终",
}


def _as_it_is(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


_LINES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("title", "活动", _as_it_is),
    ("campaign", "活动编号", _as_it_is),
    ("number", "期号", _as_it_is),
    ("withdraws", "撤回的公告", _as_it_is),
    ("kind", "类别", lambda kind: _PUBLICATION_KINDS.get(str(kind), str(kind))),
    ("as_of", "截至", _as_it_is),
    ("manifest_sha256", "清单 SHA-256", _as_it_is),
    ("flag", "案卷", _as_it_is),
    ("votes", "涉及票数", _as_it_is),
    ("places", "最多变动名次", _as_it_is),
    ("sentence", "证据", _as_it_is),
    ("proposal", "提议", _as_it_is),
    ("objection", "异议", _as_it_is),
    ("part", "部件", _as_it_is),
    ("instance", "实例", _as_it_is),
    ("what", "对象", _as_it_is),
    ("behind_seconds", "落后秒数", _as_it_is),
    ("free_mb", "剩余空间（MB）", _as_it_is),
    ("used_percent", "已用（%）", _as_it_is),
    ("destination", "目的地", _as_it_is),
    ("dead_letters", "未送达条数", _as_it_is),
    ("why", "说明", _as_it_is),
    ("reason", "理由", _as_it_is),
    ("by", "经办人", _as_it_is),
    ("asked_by", "发起人", _as_it_is),
    ("since", "开始于", _as_it_is),
    ("at", "时间", _as_it_is),
    ("url", "链接", _as_it_is),
)
"""Content key -> label, in the order in which they are said; other keys are for programs."""


def message(event: Event, subject: str, content: Mapping[str, Any]) -> Message:
    """What this event says."""
    chinese, english = _TITLES[event]
    lines = [
        f"{label}：{_one_line(say(content[key]))}"
        for key, label, say in _LINES
        if content.get(key) not in (None, "")
    ]
    lines.append(f"{english} ({_one_line(subject)})")
    return Message(MARK + chinese, "\n".join(lines))


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _VALUE_CHARACTERS_MAX else line[: _VALUE_CHARACTERS_MAX - 1] + "…"
