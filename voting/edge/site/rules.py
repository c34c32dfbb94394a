"""The public rules page: the rules in force, in words made from them, and every change since the
opening with its time and reason. It shows no count, whatever the visibility."""

from datetime import datetime
from typing import Any, NamedTuple

from aiohttp import web

from antifraud.limits import PERIODS_US, Rate
from voting.campaign import (
    Campaign,
    Changed,
    ChangedField,
    Identity,
    Order,
    Phase,
    Visibility,
    moment_at,
)
from voting.changes import Kind
from voting.edge.answers import problem
from voting.edge.campaigns import campaign_of
from voting.edge.parts import EDGE
from voting.edge.site.render import kept_page, policy, state_of

_CHANGES_SHOWN_MAX = 2_000
_STANDS_US = 5_000_000


class Words(NamedTuple):
    """One thing in the two languages of the page."""

    zh: str
    en: str


_KINDS = {
    Kind.PAUSED: Words("暂停点赞", "Paused"),
    Kind.RESUMED: Words("恢复点赞", "Resumed"),
    Kind.OPENED: Words("提前开始", "Opened early"),
    Kind.EXTENDED: Words("延长活动", "Extended"),
    Kind.CLOSED: Words("提前结束", "Closed early"),
    Kind.REOPENED: Words("结束后重新开放", "Opened again after the close"),
    Kind.WINDOW: Words("调整活动时间", "Other opening or closing time"),
    Kind.QUOTA: Words("调整点赞次数", "Other quotas"),
    Kind.VISIBILITY: Words("调整票数公布方式或展示顺序", "Other visibility of counts, or order"),
    Kind.LIMITS: Words("调整频率限制", "Other rate limits"),
    Kind.IDENTITY: Words("调整登录要求", "Other rule on signing in at a portal"),
    Kind.PORTAL_KEYS: Words("更换网站的签名公钥", "Other keys that portals sign with"),
    Kind.CANDIDATE_ADDED: Words("增加候选人", "Candidate added"),
    Kind.CANDIDATE_CORRECTED: Words("更正候选人资料", "Candidate's details corrected"),
    Kind.CANDIDATE_WITHDRAWN: Words("候选人退出", "Candidate withdrawn"),
    Kind.CANDIDATE_RETURNED: Words("候选人恢复", "Candidate came back"),
    Kind.PORTAL_OFF: Words("停用嵌入网站", "Portal switched off"),
    Kind.PORTAL_ON: Words("恢复嵌入网站", "Portal switched on again"),
}
_FIELDS = {
    "opens_at": Words("开始时间", "opens"),
    "closes_at": Words("结束时间", "closes"),
    "time_zone": Words("时区", "time zone"),
    "likes_per_candidate_per_day": Words("每位候选人每天次数", "likes per candidate and day"),
    "candidates_per_day": Words("每天人数", "candidates per day"),
    "likes_per_campaign": Words("活动期间总次数", "likes in the whole campaign"),
    "counts": Words("票数公布", "counts"),
    "counts_daily_at": Words("每天公布时间", "hour of the daily counts"),
    "order": Words("展示顺序", "order"),
    "per_device": Words("单台设备频率", "rate of one device"),
    "per_network": Words("单个网络频率", "rate of one network"),
    "origin": Words("网站", "portal"),
    "name": Words("姓名", "name"),
    "organisation": Words("工作单位", "organisation"),
    "unit": Words("推荐单位", "put forward by"),
    "channel": Words("推荐渠道", "channel"),
    "title": Words("职务职称", "title"),
    "summary": Words("主要事迹", "summary"),
    "photo": Words("照片", "photo"),
    "story": Words("详细事迹", "story"),
    "more_photos": Words("更多照片", "more photos"),
    "video": Words("视频", "video"),
    "identity": Words("登录要求", "sign-in at a portal"),
}
_VISIBILITIES = {
    Visibility.LIVE: Words("实时公布", "shown live"),
    Visibility.DAILY: Words("每天定时公布", "shown once a day"),
    Visibility.AFTER_CLOSE: Words("活动结束后公布", "shown after the close"),
    Visibility.STAFF: Words("活动期间不公布", "not shown"),
}
_ORDERS = {
    Order.RANDOM: Words("随机排列", "random"),
    Order.LISTED: Words("按名单排列", "as listed"),
}
STATES = {
    Phase.NOT_OPEN: Words("尚未开始", "Not open yet"),
    Phase.OPEN: Words("进行中", "Open"),
    Phase.PAUSED: Words("暂停中", "Paused"),
    Phase.CLOSED: Words("已结束", "Closed"),
}
_IDENTITIES = {
    Identity.OPTIONAL: Words("不要求登录", "not required"),
    Identity.REQUIRED: Words("须先登录", "required"),
}
_NO_LIMIT = Words("不限", "no limit")
_PERIODS = {"second": "秒", "minute": "分钟", "hour": "小时"}


async def get_rules(request: web.Request) -> web.Response:
    """GET /campaigns/{campaign}/rules."""
    edge = request.app[EDGE]
    campaign = campaign_of(request)
    if campaign is None:
        return problem(edge.catalog.unknown)
    now_us = edge.ballot_boxes.store_now_us()
    return kept_page(
        request,
        "rules.html",
        # It says the moment that it is of: 2,000 changes are not written out for each reader.
        made_from=(
            state_of(request, campaign),
            campaign.phase_at(now_us),
            now_us // _STANDS_US,
        ),
        make_values=lambda: {"campaign": campaign, **values(campaign, now_us)},
        policy=policy(frames="'self' *"),
        surrogate_key=f"campaign-{campaign.id}",
    )


def values(campaign: Campaign, now_us: int) -> dict[str, Any]:
    """What the page shows as of this moment."""
    newest = campaign.changes[: -_CHANGES_SHOWN_MAX - 1 : -1]
    phase = campaign.phase_at(now_us)
    return {
        "state": STATES[phase],
        "rules": rules_in_words(campaign),
        "changes": [_shown(campaign, change) for change in newest],
        "changes_left_out": len(campaign.changes) - len(newest),
        "moment": lambda at: _moment(campaign, at),
        "now": moment_at(now_us, campaign.window.zone),
    }


def rules_in_words(campaign: Campaign) -> list[Words]:
    """Every rule in force as a sentence, out of the very values that are applied."""
    rules, limits, zone = campaign.rules, campaign.limits, campaign.window.zone
    n = rules.likes_per_candidate_per_day
    said = [
        Words(
            f"每台设备每天可为同一位候选人点赞 {n} 次。",
            f"A device may like each candidate {_times(n)} a day.",
        )
    ]
    if rules.candidates_per_day:
        said.append(
            Words(
                f"每台设备每天最多为 {rules.candidates_per_day} 位候选人点赞。",
                f"A device may like at most {rules.candidates_per_day} candidates a day.",
            )
        )
    else:
        said.append(
            Words(
                "每台设备每天可点赞的候选人数不限。",
                "How many candidates a device may like in a day is not limited.",
            )
        )
    if rules.likes_per_campaign:
        said.append(
            Words(
                f"活动期间每台设备最多点赞 {rules.likes_per_campaign} 次。",
                f"A device may give at most {rules.likes_per_campaign} likes in all.",
            )
        )
    if rules.identity is Identity.REQUIRED:
        said.append(
            Words(
                "请先在门户网站登录；同一账号在各设备上合计算作一台设备。",
                "Sign in at a portal first: an account counts as one device, wherever it is used.",
            )
        )
    elif campaign.portal_keys:
        said.append(
            Words(
                "在门户网站登录后点赞的，同一账号在各设备上合计算作一台设备。",
                "Who signs in at a portal counts as one device, wherever the account is used.",
            )
        )
    clock = "北京时间" if zone.key == "Asia/Shanghai" else f"{zone.key} 时间"
    said += [
        Words(f"每天以{clock} 0 时为界。", f"A day begins at midnight, {zone.key}."),
        Words(
            "同一次点击无论重发多少次，只计一次。", "A tap counts once, however often it is sent."
        ),
        _counts_in_words(campaign),
        Words(
            f"候选人{_ORDERS[rules.order].zh}。",
            f"Order of the candidates: {_ORDERS[rules.order].en}.",
        ),
        Words(
            f"每台设备每{_rate(limits.per_device)}，超过后需稍候再点。",
            f"A device that likes more often than {limits.per_device} is asked to wait.",
        ),
        Words(
            f"同一网络出口每{_rate(limits.per_network)}（共用网络另有放宽），超过的部分先搁置复核。",
            f"Above {limits.per_network} from one network (more from shared ones), likes are set"
            " aside for review.",
        ),
        Words(
            "请勿使用程序刷赞；异常点赞先搁置复核，每项决定均有记录。",
            "Please use no programs: odd likes are set aside, and every decision is on record.",
        ),
    ]
    return said


def _counts_in_words(campaign: Campaign) -> Words:
    rules = campaign.rules
    if rules.counts is Visibility.DAILY:
        at = rules.counts_daily_at.isoformat("minutes")
        return Words(f"点赞数每天 {at} 公布。", f"Counts are published daily at {at}.")
    words = _VISIBILITIES[rules.counts]
    return Words(f"点赞数{words.zh}。", f"Counts are {words.en}.")


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _rate(rate: Rate) -> str:
    period = next(name for name, us in PERIODS_US.items() if us == rate.period_us)
    return f"{_PERIODS[period]}最多 {rate.burst} 次"


def _moment(campaign: Campaign, at: datetime) -> str:
    return at.astimezone(campaign.window.zone).strftime("%Y-%m-%d %H:%M:%S")


def _shown(campaign: Campaign, change: Changed) -> dict[str, Any]:
    whom = f"{change.candidate_name}（{change.candidate}）" if change.candidate else ""
    return {
        "at": change.at,
        "what": _KINDS.get(Kind(change.kind), Words(change.kind, change.kind)),
        "whom": whom,
        "fields": [] if change.kind in _SAY_ALL else [_field(campaign, f) for f in change.fields],
        "reason": change.reason,
    }


_SAY_ALL = frozenset({Kind.CANDIDATE_ADDED})
"""Kinds that need no list of fields: what was added is on its card."""


def _field(campaign: Campaign, field: ChangedField) -> dict[str, Any]:
    words = _FIELDS.get(field.name, Words(field.name, field.name))
    if field.was is None and field.became is None:
        return {"words": words, "was": None, "became": None}
    return {
        "words": words,
        "was": _value(campaign, field.name, field.was),
        "became": _value(campaign, field.name, field.became),
    }


def _value(campaign: Campaign, name: str, value: str | None) -> str:
    if value is None:
        return "–"
    if name == "counts" and value in list(Visibility):
        return _VISIBILITIES[Visibility(value)].zh
    if name == "order" and value in list(Order):
        return _ORDERS[Order(value)].zh
    if name == "identity" and value in list(Identity):
        return _IDENTITIES[Identity(value)].zh
    if name in ("candidates_per_day", "likes_per_campaign") and value == "0":
        return _NO_LIMIT.zh
    if name in ("opens_at", "closes_at"):
        return _moment(campaign, datetime.fromisoformat(value))
    return value
