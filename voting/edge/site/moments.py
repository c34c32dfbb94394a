"""Times as the public reads them, in the campaign's time zone, and where a campaign stands."""

from datetime import datetime
from typing import NamedTuple

from voting.campaign import Campaign, Phase, moment_at


class Standing(NamedTuple):
    """Where a campaign stands at a moment, in words."""

    phase: Phase
    word: str
    """As 进行中."""
    left: str
    """As 还有 12 天; "" where nothing is waited for."""
    until: str
    """The moment that `left` leads to, as a sentence; when it closed, where it has."""


_WORDS = {
    Phase.NOT_OPEN: "尚未开始",
    Phase.OPEN: "进行中",
    Phase.PAUSED: "暂停中",
    Phase.CLOSED: "已结束",
}


def standing(campaign: Campaign, now_us: int) -> Standing:
    """As of this moment. It changes at most once an hour, and on the last day each hour."""
    phase, window = campaign.phase_at(now_us), campaign.window
    now = moment_at(now_us, window.zone)
    if phase is Phase.CLOSED:
        return Standing(phase, _WORDS[phase], "", f"{chinese(campaign, window.closes_at)}结束")
    if phase is Phase.NOT_OPEN:
        left = f"距开始{_span(now, window.opens_at)}"
        return Standing(phase, _WORDS[phase], left, f"{chinese(campaign, window.opens_at)}开始")
    left = f"距结束{_span(now, window.closes_at)}"
    return Standing(phase, _WORDS[phase], left, f"{chinese(campaign, window.closes_at)}结束")


def _span(now: datetime, then: datetime) -> str:
    seconds = (then - now).total_seconds()
    days, hours = int(seconds // 86_400), int(seconds // 3_600)
    if days >= 2:
        return f"还有 {days} 天"
    return f"还有 {hours} 小时" if hours else "不到 1 小时"


def chinese(campaign: Campaign, at: datetime) -> str:
    """As 2026年7月1日 9:00."""
    at = at.astimezone(campaign.window.zone)
    return f"{at.year}年{at.month}月{at.day}日 {at.hour}:{at.minute:02}"


def clock(campaign: Campaign) -> str:
    """The name of the campaign's time."""
    key = campaign.window.zone.key
    return "北京时间" if key == "Asia/Shanghai" else f"{key} 时间"
