"""What the card page says, in Chinese and in English, and the choices that a portal makes for it by
the page's address.

    ?lang=zh|en  &theme=light|dark|auto  &color=b8291a

A value that is none of these is ignored. The campaign's own texts stay as they are written.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from voting.campaign import Campaign, Phase
from voting.edge.answers import PROBLEMS
from voting.edge.site.colours import DEFAULT, is_colour
from voting.edge.site.moments import chinese, clock

THEMES = ("light", "dark", "auto")
_AUTO = "auto"


class Choices(NamedTuple):
    """How one card page is to look."""

    lang: str
    theme: str
    colour: str
    """As #rrggbb; "" = the campaign's."""
    kept: Mapping[str, str]
    """What the portal chose, as its address says it: kept over every press."""


def choices_of(query: Mapping[str, str]) -> Choices:
    lang, theme = query.get("lang", ""), query.get("theme", "")
    colour = "#" + query.get("color", "").lower()
    kept = {}
    if lang in WORDS:
        kept["lang"] = lang
    if theme in THEMES:
        kept["theme"] = theme
    if is_colour(colour):
        kept["color"] = colour[1:]
    return Choices(
        kept.get("lang", "zh"), kept.get("theme", _AUTO), colour if "color" in kept else "", kept
    )


def colour_of(campaign: Campaign, choices: Choices) -> str:
    """The card's colour as rrggbb: the portal's, else the campaign's, else ours."""
    said = choices.colour or campaign.page.colour
    return (said if is_colour(said) else DEFAULT)[1:].lower()


WORDS = {
    "zh": {
        "like": "点赞",
        "liked": "今日已点赞",
        "spent": "点赞次数已用完",
        "not-open": "尚未开始",
        "paused": "暂停中",
        "closed": "已结束",
        "identity": "请在门户网站登录后点赞",
        "withdrawn": "这位候选人已退出，不再接受点赞。",
        "withdrawn-title": "（已退出）",
        "test": "（测试，不计入结果）",
        "left": "今日还可点赞 {} 次",
        "left-one": "今日还可点赞 1 次",
        "wait": "请等待 {} 秒，然后再按一次“点赞”",
        "now": "请再按一次“点赞”",
        "why-wait": (
            "为防止刷票，需要稍等片刻验证这台设备。页面不会自动刷新，等待期间请不要关闭。"
        ),
        "likes": "个赞",
        "receipt": "查看回执",
        "story": "人物介绍",
        "rules": "活动规则",
        "opens": "点赞尚未开始，{}（{}）开始",
        "closed-at": "点赞已于 {}（{}）结束",
        "paused-because": "点赞暂停中：{}",
    },
    "en": {
        "like": "Like",
        "liked": "Liked today",
        "spent": "No likes left",
        "not-open": "Not open yet",
        "paused": "Paused",
        "closed": "Closed",
        "identity": "Sign in to the portal to like",
        "withdrawn": "This candidate has withdrawn and takes no more likes.",
        "withdrawn-title": " (withdrawn)",
        "test": " (a test: it does not count)",
        "left": "{} likes left today",
        "left-one": "1 like left today",
        "wait": "Please wait {} seconds, then press “Like” again",
        "now": "Please press “Like” once more",
        "why-wait": (
            "A moment's wait proves that this is no program. The page does not reload by itself;"
            " please leave it open."
        ),
        "likes": "likes",
        "receipt": "See the receipt",
        "story": "About",
        "rules": "Rules",
        "opens": "Not open yet: opens on {} ({})",
        "closed-at": "Closed on {} ({})",
        "paused-because": "Paused: {}",
    },
}

SAID = {
    "zh": {
        "counted": "点赞成功，感谢您的支持",
        "repeated": "今日已点赞",
        "identity-ended": "登录已过期，请回到门户网站重新登录后再点赞",
    }
    | {word: title for word, (_, title) in PROBLEMS.items()},
    "en": {
        "counted": "Your like is counted. Thank you!",
        "repeated": "You have liked this candidate today already",
        "quota-spent": "You have no likes left today",
        "challenge": "Please prove first that you are no program",
        "throttled": "Too fast: please try again in a moment",
        "refused": "This like was not accepted",
        "wrong-origin": "This page may not take likes",
        "closed": "Closed: no more likes are taken",
        "not-open": "Not open yet",
        "paused": "Paused",
        "identity-required": "Please sign in to the portal first",
        "identity-ended": "Your sign-in has ended: please go back to the portal and sign in again",
        "unknown-candidate": "There is no such candidate",
        "malformed": "The request was not understood; please try again",
        "overloaded": "Too many visitors just now: please try again in a moment",
        "store-down": "The service is away for a moment: please try again",
    },
}
"""What became of a press, by the public contract's word."""


def said_of_phase(campaign: Campaign, phase: Phase, lang: str) -> str | None:
    """Why no likes are taken now, with the time or the reason; None while they are."""
    words, window = WORDS[lang], campaign.window
    if phase is Phase.NOT_OPEN:
        return words["opens"].format(*_moment(campaign, window.opens_at, lang))
    if phase is Phase.CLOSED:
        return words["closed-at"].format(*_moment(campaign, window.closes_at, lang))
    if phase is Phase.PAUSED:
        return words["paused-because"].format(campaign.paused_because)
    return None


def _moment(campaign: Campaign, at: datetime, lang: str) -> tuple[str, str]:
    """(a time, whose clock it is)."""
    if lang == "zh":
        return chinese(campaign, at), clock(campaign)
    zone = campaign.window.zone
    whose = "Beijing time" if zone.key == "Asia/Shanghai" else zone.key
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M"), whose
