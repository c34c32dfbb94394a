"""A small server that keeps the public contract as the widget sees it, and does what a test says.

It is the edge's shape without its depths: tokens are counted, not signed; a device's day is a set.
"""

import asyncio
import base64
import csv
import functools
import io
import itertools
import json
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import jinja2
from aiohttp import web
from PIL import Image

from antifraud.challenge import BASE_BITS, Challenges, Finding
from voting.campaign import Campaign, Candidate, Rules, VotingWindow

VOTING = Path(__file__).parents[2] / "voting"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'self'"
)
STATUS = {
    "quota-spent": 409,
    "challenge": 428,
    "throttled": 429,
    "refused": 403,
    "unknown-candidate": 404,
    "closed": 403,
    "not-open": 403,
    "paused": 403,
    "overloaded": 503,
    "store-down": 503,
    "defect": 500,
}


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
    """One server of one test."""

    def __init__(self, campaign: Campaign | None = None) -> None:
        self.campaign = campaign or demo_campaign()
        self.counts: dict[str, int] | None = {c.id: 0 for c in self.campaign.candidates}
        self.liked: dict[str, dict[str, str]] = {}
        """Token -> candidate -> the click that counted."""
        self.asked: list[tuple[str, dict]] = []
        """(path, JSON body) of every request under /v1, in order; {} for a GET."""
        self.next_outcomes: list[str] = []
        """What the next likes are refused with, whatever they are; then all is as usual."""
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
        app.add_routes(
            [
                web.get("/", self._portal),
                web.get("/static/{name}", self._static),
                web.get("/embed/{version}/{name}", self._widget),
                web.get("/v1/photos/{photo}.{kind}", self._photo),
                web.get("/v1/campaigns/demo/candidates", self._candidates),
                web.get("/v1/campaigns/demo/counts", self._counts),
                web.post("/v1/devices", self._devices),
                web.post("/v1/devices/state", self._state),
                web.post("/v1/devices/proof", self._proof),
                web.post("/v1/likes", self._likes),
            ]
        )
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
        if request.path.startswith("/v1") and "/photos/" not in request.path:
            body = {}
            if request.method == "POST":
                assert request.content_type == "text/plain", "a preflight would be needed"
                body = json.loads(await request.text())
            self.asked.append((request.path, body))
            if self.away:
                return self._cut(request)
        return await handler(request)

    def _cut(self, request) -> web.Response:
        request.transport.abort()
        return web.Response()

    async def _portal(self, _):
        templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(VOTING / "edge" / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        text = templates.get_template("portal.html").render(
            campaign=self.campaign, candidates=list(self.campaign.candidates)
        )
        return web.Response(
            text=text, content_type="text/html", headers={"Content-Security-Policy": POLICY}
        )

    async def _static(self, request):
        return self._file(VOTING / "edge" / "static" / request.match_info["name"])

    async def _widget(self, request):
        version = request.match_info["version"]
        version = "v1.0" if version == "v1" else version
        return self._file(VOTING / "widget" / "dist" / version / request.match_info["name"])

    def _file(self, path: Path) -> web.Response:
        return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix])

    async def _photo(self, request):
        kind = "webp" if request.match_info["kind"] == "webp" else "jpeg"
        return web.Response(body=_card_size(kind), content_type=f"image/{kind}")

    async def _candidates(self, _):
        public = [
            {
                "id": c.id,
                "name": c.name,
                "organisation": c.organisation,
                "channel": c.channel,
                "title": c.title,
                "summary": "" if c.withdrawn else c.summary,
                "photo": {
                    "webp": f"/v1/photos/{c.photo}.webp",
                    "jpeg": f"/v1/photos/{c.photo}.jpg",
                }
                if c.photo
                else None,
                **({"withdrawn": True} if c.withdrawn else {}),
            }
            for c in self.campaign.candidates
        ]
        return web.json_response(
            {
                "candidates": [one for one in public if "withdrawn" not in one],
                "withdrawn": [one for one in public if "withdrawn" in one],
            }
        )

    async def _counts(self, _):
        self.views_given.append(self.view)
        return web.json_response(
            {"as_of": "2026-07-01T08:00:00+08:00", "counts": self.counts, "view": self.view}
        )

    async def _devices(self, _):
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
            return self._refuse(word, STATUS[word], another)
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
            {"liked": list(self.liked[token]), "remaining_today": 10 - len(self.liked[token])}
        )

    async def _likes(self, request):
        like = json.loads(await request.text())
        await self.gate.wait()
        if like["token"] not in self.liked:
            return self._refuse("bad-token", 401)
        if like["token"] in self.unproven:
            return self._refuse("challenge", 428, self._challenge(like["token"]))
        if self.next_outcomes:
            outcome = self.next_outcomes.pop(0)
            return self._refuse(outcome, STATUS[outcome])
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
        body = {"outcome": outcome, "candidate": candidate, "remaining_today": 10 - len(day)}
        if self.counts is not None:
            body["likes"] = self.counts[candidate]
        return web.json_response(body, status=201 if outcome == "counted" else 200)

    def _refuse(self, outcome: str, status: int, challenge: dict | None = None) -> web.Response:
        headers = {}
        if outcome in ("throttled", "overloaded", "store-down"):
            headers["Retry-After"] = str(self.retry_after)
        return web.json_response(
            {"type": f"urn:x:{outcome}", "title": "…", "status": status, "outcome": outcome}
            | ({"challenge": challenge} if challenge else {}),
            status=status,
            headers=headers,
            content_type="application/problem+json",
        )
