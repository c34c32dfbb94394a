"""What people read where a page cannot be answered: a problem, in the frame of the pages.

The status, the word and whatever else the answer says in its head stay as they are; programs get
their problem+json as before. One place makes one out of the other, so that no handler has to know
who asks.
"""

import json
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from voting.edge.parts import EDGE
from voting.edge.site.render import page, policy, within_budget

_PROBLEM = "application/problem+json"
_PAGE = "text/html"
_API = "/v1/"
"""Whatever is asked here is answered to programs."""
_ACCEPT_CHARACTERS_MAX = 1_000
_AGAIN = frozenset({408, 429, 500, 503})
"""Statuses for which the same address is worth another try."""
_WORDS = {
    "not-found": ("这里没有您要的页面", "地址可能抄错了，或者页面已经撤下。"),
    "unknown-campaign": ("没有这项活动", "地址可能抄错了，或者活动已经撤下。"),
    "unknown-candidate": ("没有这位候选人", "地址可能抄错了，或者名单有过变更。"),
    "wrong-method": ("这个地址不能这样打开", "请从下面的链接重新进入。"),
    "wrong-origin": (
        "点赞没有被接受",
        "点按“点赞”的网页没有登记在这项活动里。请到活动主页点赞。",
    ),
    "malformed": ("点赞没有被接受", "提交的内容不完整。请打开点赞页再点一次。"),
    "overloaded": ("现在访问的人太多", "请稍等几秒再试。已经接受的点赞不受影响。"),
    "store-down": ("服务暂时不可用", "请稍等几秒再试。已经接受的点赞不受影响。"),
    "defect": ("服务出错了", "请稍后再试；如果仍然如此，请告诉主办方。"),
}
_ENGLISH = {
    404: "There is no such page.",
    405: "This address cannot be opened like that.",
    403: "The like was not taken.",
    410: "This page is gone.",
    503: "Please try again in a moment.",
}
_PASSED_ON = (hdrs.RETRY_AFTER, hdrs.ALLOW, hdrs.SET_COOKIE)


def for_people(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """The same answer, as a page where it is a problem and a browser asked for a page; as it is
    where that is too much to make for everybody right now."""
    if (
        answer.status < 400
        or answer.content_type != _PROBLEM
        or not isinstance(answer, web.Response)
        or request.path.startswith(_API)
        or not wants_page(",".join(request.headers.getall(hdrs.ACCEPT, ())))
    ):
        return answer
    made = within_budget(request, "error", lambda: _page(request, answer))
    return made if made.content_type == _PAGE else answer


def _page(request: web.Request, answer: web.Response) -> web.Response:
    told: dict[str, Any] = json.loads(answer.body or b"{}")  # type: ignore[arg-type]
    campaign_id, candidate_id = _whom(request)
    campaign = request.app[EDGE].catalog.campaigns.get(campaign_id)
    candidate = None if campaign is None else campaign.by_id.get(candidate_id)
    title, advice = _WORDS.get(told.get("outcome", ""), (told.get("title", ""), ""))
    made = page(
        request,
        "error.html",
        # It may come in the frame of a portal whose iframe asked for what is not there.
        policy=policy(frames="*"),
        status=answer.status,
        campaign=campaign,
        candidate=candidate,
        title=title,
        advice=advice,
        detail=told.get("detail", ""),
        english=_ENGLISH.get(answer.status, ""),
        code=answer.status,
        again=_again(request) if answer.status in _AGAIN else "",
    )
    for name in _PASSED_ON:
        for value in answer.headers.getall(name, ()):
            made.headers.add(name, value)
    made.headers[hdrs.VARY] = f"{made.headers[hdrs.VARY]}, {hdrs.ACCEPT}"
    return made


def wants_page(accept: str) -> bool:
    """Whether this Accept asks for HTML by its name. `*/*` alone is a program's."""
    for item in accept[:_ACCEPT_CHARACTERS_MAX].lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        if kind == _PAGE:
            return not any(each.replace(" ", "") in ("q=0", "q=0.0") for each in parameters)
    return False


def _whom(request: web.Request) -> tuple[str, str]:
    """Ids of campaign and candidate as far as the address names them, known or not."""
    match request.path.split("/"):
        case ["", "campaigns", campaign, "candidates", candidate]:
            return campaign, candidate
        case ["", "campaigns", campaign, *_]:
            return campaign, ""
        case ["", "embed", "v1", "card", campaign, candidate]:
            return campaign, candidate
    return "", ""


def _again(request: web.Request) -> str:
    """The same address, relative to itself: its last part, and what was asked of it."""
    if request.method not in ("GET", "HEAD"):
        return ""
    last = quote(request.path.rpartition("/")[2])
    query = request.rel_url.raw_query_string
    return (f"./{last}" if last else "./") + (f"?{query}" if query else "")
