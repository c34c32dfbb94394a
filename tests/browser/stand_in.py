"""A small server that keeps the public contract as the widget sees it, and does what a test says.

It is the edge's shape without its depths: tokens are counted, not signed; a device's day is a set.
"""

import asyncio
import base64
import csv
import functools
import hashlib
import io
import itertools
import json
import time
from datetime import datetime
from html import escape
from pathlib import Path
from zoneinfo import ZoneInfo

from aiohttp import web
from PIL import Image

from antifraud.challenge import BASE_BITS, Challenges, Finding
from voting.campaign import Campaign, Candidate, Rules, VotingWindow
from voting.edge.answers import PROBLEMS

VOTING = Path(__file__).parents[2] / "voting"
NEWEST = max((VOTING / "widget" / "dist").glob("v1.*"), key=lambda at: int(at.name[3:])).name
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'self'"
)
PORTAL = """<!doctype html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>示例新闻网</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="portal.css">
<script src="embed/v1/like.js" async></script>
</head>
<body class="{theme}">
<header><h1>示例新闻网</h1><a class="go" href="#cards">去点赞</a></header>
<main id="cards"><h2>候选人</h2><div class="grid">
{cards}
</div></main>
</body>
</html>
"""
SHEET = """
body { margin: 0; padding: 0 12px; font: 16px/1.6 system-ui, sans-serif; color: #222; }
body.dark { background: #14110f; color: #f3ebe6; }
body.dark .go { color: #9cc4ff; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, 296px); gap: 12px; }
like-card { display: flex; min-height: 440px; --like-photo-ratio: 60%; }
like-button { display: block; min-height: 44px; }
"""
"""A page of news as plain as can be: what the cards need of a portal, which is their room."""


def demo_campaign(**changes) -> Campaign:
    zone = ZoneInfo("Asia/Shanghai")
    with (VOTING / "demo" / "candidates.csv").open(encoding="utf-8") as lines:
        candidates = tuple(
            Candidate(
                number=number,
                id=row["编号"],
                name=row["姓名"],
                organisation=row["工作单位"],
                unit=row["推荐单位"],
                channel=row["推荐渠道"],
                title=row["职务职称"],
                summary=row["主要事迹"],
                photo=row["编号"],
            )
            for number, row in enumerate(csv.DictReader(lines), 1)
        )
    values = {
        "number": 1,
        "id": "demo",
        "title": "示例活动",
        "window": VotingWindow(
            datetime(2026, 1, 1, tzinfo=zone), datetime(2036, 1, 1, tzinfo=zone), zone
        ),
        "rules": Rules(candidates_per_day=10),
        "candidates": candidates,
    }
    return Campaign(**values | changes)


@functools.cache
def _card_size(kind: str) -> bytes:
    """Any picture of a card's size; Chromium spends long on twelve large ones."""
    image = io.BytesIO()
    with Image.open(VOTING / "demo" / "photos" / "zhang-heng.jpg") as photo:
        photo.resize((480, 600)).save(image, kind)
    return image.getvalue()


def _id(token: str) -> bytes:
    return token.encode().ljust(12, b".")[:12]


class StandIn:
    """One server of one test. `mount` is a path under which all of it is served."""

    def __init__(self, campaign: Campaign | None = None, mount: str = "") -> None:
        self.mount = mount
        self.lang = "zh-CN"
        self.element = "like-card"
        self.attributes: dict[str, str] = {}
        """Of every element on the page."""
        self.cards: str | None = None
        """What stands on the page in place of one element for each candidate."""
        self.policy = POLICY
        self.phase = "open"
        self.opens_at = "2026-07-01T08:00:00+08:00"
        self.closes_at = "2026-08-01T00:00:00+08:00"
        self.paused_because: str | None = None
        self.quota: int | None = 10
        self.identities: dict[str, str] = {}
        """Assertion -> the token of whom it stands for."""
        self.logged_in = ""
        """What the portal says of its visitor, at /me; "go" = it leads to where one logs in, of
        another origin."""
        self.campaign = campaign or demo_campaign()
        self.counts: dict[str, int] | None = {c.id: 0 for c in self.campaign.candidates}
        self.liked: dict[str, dict[str, str]] = {}
        """Token -> candidate -> the click that counted."""
        self.asked: list[tuple[str, dict]] = []
        """(path, JSON body) of every request under /v1, in order; {} for a GET."""
        self.fresh_seconds: int | None = None
        """So long a browser may take the counts for fresh, and five times as long show them while
        it asks for the next ones, as the edge says; None = it is not told."""
        self.next_outcomes: list[str] = []
        """What the next likes are refused with, whatever they are; then all is as usual.
        "firewall" = by something before the service, with a page of its own."""
        self.retry_after = 2
        self.cut_answers = 0
        """So many likes are counted, but the connection ends before their answer."""
        self.away = False
        """Every /v1 request loses its connection."""
        self.gate = asyncio.Event()
        """Answers to likes wait while it is clear."""
        self.gate.set()
        self.portals: set[str] = set()
        """Foreign origins that may hand in likes."""
        self.challenge_bits = 0
        """Every new device has to solve a challenge of so many bits first; 0 = none has."""
        self.unproven: set[str] = set()
        """Tokens whose next like is answered with a challenge."""
        self.proof_gate = asyncio.Event()
        """Answers to solutions wait while it is clear."""
        self.proof_gate.set()
        self.next_proofs: list[str] = []
        """What the next solutions are answered, whatever they are: "refused", or "challenge" for
        another one."""
        self.view = "view-1"
        self.views_given: list[str] = []
        self._challenges = Challenges({1: bytes(32)})
        self._numbers = itertools.count(1)

    def asked_for(self, ending: str) -> list[dict]:
        return [body for path, body in self.asked if path.endswith(ending)]

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        routes = (
            ("GET", "/", self._portal),
            ("GET", "/portal.css", self._sheet_of_portal),
            ("GET", "/elsewhere", self._elsewhere),
            ("GET", "/me", self._me),
            ("GET", "/embed/{version}/{name}", self._widget),
            ("GET", "/v1/photos/{photo}.{kind}", self._photo),
            ("GET", "/v1/campaigns/demo", self._campaign),
            ("GET", "/v1/campaigns/demo/candidates", self._candidates),
            ("GET", "/v1/campaigns/demo/counts", self._counts),
            ("POST", "/v1/devices", self._devices),
            ("POST", "/v1/devices/state", self._state),
            ("POST", "/v1/devices/proof", self._proof),
            ("POST", "/v1/likes", self._likes),
        )
        app.add_routes([web.route(method, self.mount + path, do) for method, path, do in routes])
        return app

    @web.middleware
    async def _note(self, request, handler):
        origin = request.headers.get("Origin")
        home = origin is None or origin.endswith(f"//{request.host}")
        if request.method == "POST" and not home and origin not in self.portals:
            return self._refuse("wrong-origin", 403)
        answer = await self._answer(request, handler)
        if not home:
            allowed = origin if request.method == "POST" else "*"
            answer.headers["Access-Control-Allow-Origin"] = allowed
            answer.headers["Access-Control-Expose-Headers"] = "Retry-After"
        return answer

    async def _answer(self, request, handler):
        path = request.path.removeprefix(self.mount)
        if path.startswith("/v1") and "/photos/" not in path:
            body = {}
            if request.method == "POST":
                assert request.content_type == "text/plain", "a preflight would be needed"
                body = json.loads(await request.text())
            self.asked.append((path, body))
            if self.away:
                return self._cut(request)
        return await handler(request)

    def _cut(self, request) -> web.Response:
        request.transport.abort()
        return web.Response()

    async def _portal(self, _):
        attributes = "".join(f' {name}="{escape(text)}"' for name, text in self.attributes.items())
        cards = self.cards
        if cards is None:
            cards = "\n".join(
                f'<{self.element} campaign="demo" candidate="{escape(c.id)}"{attributes}>'
                f'<a href="{self.mount}/embed/v1/card/demo/{escape(c.id)}">{escape(c.name)}</a>'
                f"</{self.element}>"
                for c in self.campaign.candidates
            )
        theme = self.attributes.get("theme", "light")
        return web.Response(
            text=PORTAL.format(lang=self.lang, cards=cards, theme=theme),
            content_type="text/html",
            headers={"Content-Security-Policy": self.policy},
        )

    async def _sheet_of_portal(self, _):
        return web.Response(text=SHEET, content_type="text/css")

    async def _elsewhere(self, _):
        return web.Response(text="<title>另一页</title>", content_type="text/html")

    async def _me(self, _):
        if self.logged_in == "go":
            raise web.HTTPFound("https://login.example.cn/")
        return web.Response(text=self.logged_in)

    async def _widget(self, request):
        version = request.match_info["version"]
        version = NEWEST if version == "v1" else version
        return self._file(VOTING / "widget" / "dist" / version / request.match_info["name"])

    def _file(self, path: Path) -> web.Response:
        return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix])

    async def _photo(self, request):
        kind = "webp" if request.match_info["kind"] == "webp" else "jpeg"
        return web.Response(body=_card_size(kind), content_type=f"image/{kind}")

    async def _campaign(self, _):
        rules = {"order": self.campaign.rules.order}
        return web.json_response({"id": "demo", "rules": rules, "origins": sorted(self.portals)})

    async def _candidates(self, request):
        only = request.query.get("only", "").split(",") if "only" in request.query else None
        public = [
            {
                "id": c.id,
                "name": c.name,
                "organisation": c.organisation,
                "unit": c.unit,
                "channel": c.channel,
                "title": c.title,
                "summary": "" if c.withdrawn else c.summary,
                "photo": {
                    "webp": f"/v1/photos/{c.photo}.webp",
                    "jpeg": f"/v1/photos/{c.photo}.jpg",
                    "width": 480,
                    "height": 600,
                    "large": None,
                }
                if c.photo
                else None,
                **({"withdrawn": True} if c.withdrawn else {}),
            }
            for c in self.campaign.candidates
            if only is None or c.id in only
        ]
        return web.json_response(
            {
                "candidates": [one for one in public if "withdrawn" not in one],
                "withdrawn": [one for one in public if "withdrawn" in one],
            }
        )

    async def _counts(self, _):
        self.views_given.append(self.view)
        fresh = self.fresh_seconds
        headers = {}
        if fresh is not None:
            may = f"public, max-age={fresh}, stale-while-revalidate={5 * fresh}"
            headers = {"Cache-Control": may}
        return web.json_response(
            {
                "as_of": "2026-07-01T08:00:00+08:00",
                "counts": self.counts,
                "state": self.phase,
                "paused_because": self.paused_because,
                "view": self.view,
                **self._window(),
            },
            headers=headers,
        )

    def _window(self) -> dict:
        return {"opens_at": self.opens_at, "closes_at": self.closes_at}

    async def _devices(self, request):
        wanted = json.loads(await request.text())
        if "identity" in wanted:
            if wanted["identity"] not in self.identities:
                return self._refuse("bad-identity", 401)
            token = self.identities[wanted["identity"]]
            self.liked.setdefault(token, {})
            return web.json_response({"token": token, "level": 3}, status=201)
        token = f"token-{next(self._numbers)}"
        self.liked[token] = {}
        device = {"token": token, "level": 0 if self.challenge_bits else 1}
        if self.challenge_bits:
            self.unproven.add(token)
            device["challenge"] = self._challenge(token)
        return web.json_response(device, status=201)

    def _challenge(self, token: str, *, slow: bool = False) -> dict:
        bits = BASE_BITS if slow else self.challenge_bits or 10
        return self._challenges.make(1, _id(token), b"\4", time.time(), bits=bits, slow=slow)

    async def _proof(self, request):
        wanted = json.loads(await request.text())
        token = wanted["token"]
        if "solution" not in wanted:
            return self._refuse("challenge", 428, self._challenge(token, slow=wanted["slow"]))
        await self.proof_gate.wait()
        if self.next_proofs:
            word = self.next_proofs.pop(0)
            another = self._challenge(token) if word == "challenge" else None
            return self._refuse(word, PROBLEMS[word][0], another)
        solution = json.loads(base64.b64decode(wanted["solution"]))
        # The clock of a page under test is not ours.
        finding = self._challenges.check(solution, _id(token), b"\4", time.time()).finding
        assert finding in (Finding.SOLVED, Finding.EARLY), finding
        better = f"{token}-proven"
        self.liked[better] = self.liked[token]
        return web.json_response({"token": better, "level": 1})

    async def _state(self, request):
        token = (await request.json())["token"]
        if token not in self.liked:
            return self._refuse("bad-token", 401)
        return web.json_response(
            {"liked": list(self.liked[token]), "remaining_today": self._remaining(token)}
        )

    def _remaining(self, token: str) -> int | None:
        return None if self.quota is None else self.quota - len(self.liked[token])

    async def _likes(self, request):
        like = json.loads(await request.text())
        await self.gate.wait()
        if like["token"] not in self.liked:
            return self._refuse("bad-token", 401)
        if like["token"] in self.unproven:
            return self._refuse("challenge", 428, self._challenge(like["token"]))
        if self.next_outcomes:
            outcome = self.next_outcomes.pop(0)
            if outcome == "firewall":
                return web.Response(status=403, text="<h1>403</h1>", content_type="text/html")
            return self._refuse(outcome, PROBLEMS[outcome][0])
        day, candidate = self.liked[like["token"]], like["candidate"]
        again = day.get(candidate) == like["click"]
        outcome = "repeated" if candidate in day and not again else "counted"
        if candidate not in day:
            day[candidate] = like["click"]
            if self.counts is not None:
                self.counts[candidate] += 1
        if self.cut_answers:
            self.cut_answers -= 1
            return self._cut(request)
        body = {"outcome": outcome, "candidate": candidate, "remaining_today": None}
        body["remaining_today"] = self._remaining(like["token"])
        if self.counts is not None:
            body["likes"] = self.counts[candidate]
        if outcome == "counted":
            body["receipt"] = self.receipt_of(like["click"])
        return web.json_response(body, status=201 if outcome == "counted" else 200)

    def receipt_of(self, click: str) -> str:
        """22 characters, the same for the same click."""
        return base64.urlsafe_b64encode(hashlib.sha256(click.encode()).digest()).decode()[:22]

    def _refuse(self, outcome: str, status: int, challenge: dict | None = None) -> web.Response:
        headers = {}
        if outcome in ("throttled", "overloaded", "store-down"):
            headers["Retry-After"] = str(self.retry_after)
        problem = {
            "type": f"urn:x:{outcome}",
            "title": PROBLEMS[outcome][1],
            "status": status,
            "outcome": outcome,
        }
        if challenge:
            problem["challenge"] = challenge
        if outcome in ("closed", "not-open", "paused"):
            problem |= self._window()
        if outcome == "quota-spent":
            problem["remaining_today"] = 0
        return web.json_response(
            problem,
            status=status,
            headers=headers,
            content_type="application/problem+json",
        )
