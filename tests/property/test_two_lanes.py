"""The fast lane and aiohttp alone give the same answers to whatever comes on a connection, and the
same votes come of it.

Two edges over one store, one with the lane and one without. Each has campaigns of its own in the
same states, so that what one is told does not depend on what the other has done.
"""

import asyncio
import gzip
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antifraud.heuristics import REASON_NAMES
from antifraud.limits import Rate
from antifraud.signals import PROVEN
from antifraud.user_agents import agent_class
from tests.assertions import Portal
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import RunningEdge, running_edge
from tests.wire import chunked, get, like, like_body, minted, post, wired
from voting import journal
from voting.edge import issuing, store_watch, vouching
from voting.edge.client_facts import tls_hash
from voting.store_line import StoreDown, StoreLine

# One name is as long as the other, so that both sides' requests are.
SIDES = ("left1", "right")
STILL, SECRET, LATER = "still", "secret", "later"
"""Nobody votes there: both sides read the same counts, or that these are for staff, or that the
campaign has not begun."""
UNBOUNDED = {"per_network": "999999/second"}
STATES = {
    "open": {},
    "spent": {"rules": {"candidates_per_day": 1}},
    "life": {"rules": {"likes_per_campaign": 2}},
    "slow": {"limits": {"per_device": "2/minute"}},
    # The first like from an address is counted, the next 19 are held, what follows is throttled.
    "crowd": {"limits": {"per_network": "1/hour"}},
    # Near the window's ends the store decides, far from them the edge.
    "shut": {"closes": timedelta(seconds=-5)},
    "over": {"closes": timedelta(days=-1)},
    "soon": {"opens": timedelta(minutes=10)},
    "later": {"opens": timedelta(days=1)},
    "paused": {"paused": "检查"},
    "signed": {"rules": {"identity": "required"}},
    "signed-off": {"rules": {"identity": "required"}, "paused": "检查"},
}
WITHDRAWN = "c005"
VOUCHES = Portal()

ALLOWED = b"Origin: https://www.example.cn\r\n"
COMPARED = (
    *("content-type", "cache-control", "server", "vary", "allow", "x-content-type-options"),
    *("access-control-allow-origin", "access-control-expose-headers"),
    *("access-control-allow-methods", "access-control-allow-headers"),
    *("content-encoding", "surrogate-key", "timing-allow-origin", "cross-origin-resource-policy"),
)
PRESENT = ("retry-after", "etag", "date")
# Of its own, or as the moment wants it: who counts when and where is not what is compared here.
VARIES = ("token", "likes", "counts", "as_of", "view", "challenge")


@dataclass
class Side:
    """What the requests of one side are made from, for one example."""

    name: str
    edge: RunningEdge
    address: bytes
    """Where its crowd comes from."""
    tokens: dict[str, str] = field(default_factory=dict)
    """By state: one device per campaign."""

    def campaign(self, state):
        return f"{self.name}-{state}"

    def token(self, state):
        if state not in self.tokens:
            self.tokens[state] = minted(self.edge, self.campaign(state))
        return self.tokens[state]

    def token_of_tomorrow(self, state):
        campaign = self.edge.parts.catalog.campaigns[self.campaign(state)]
        return self.edge.parts.mint.issue(campaign, time.time() + 86_400)

    def vouched(self, state, seconds_ago=0):
        """The token of somebody whom a portal vouches for, of the same device each time."""
        campaign = self.edge.parts.catalog.campaigns[self.campaign(state)]
        issued_at = time.time() - seconds_ago
        device = self.edge.parts.mint.new(campaign, issued_at, level=3 | PROVEN)
        device = msgspec.structs.replace(device, device_id=b"\0" + self.address[-11:].zfill(11))
        return self.edge.parts.mint.sign(device)

    def identity(self, state, **changed):
        """The body of a request for a device of level 3."""
        campaign = self.campaign(state)
        assertion = VOUCHES.vouch("openid-1", changed.pop("aud", campaign), **changed)
        return json.dumps({"campaign": campaign, "identity": assertion}).encode()

    def newcomer(self, state):
        """The token of a device that has not solved its first challenge."""
        campaign = self.edge.parts.catalog.campaigns[self.campaign(state)]
        return self.edge.parts.mint.issue(campaign, time.time(), level=0)

    def view(self, state, *, of_another=False):
        """A stamp of now, of the device's own or of another's."""
        parts = self.edge.parts
        campaign = parts.catalog.campaigns[self.campaign(state)]
        device = parts.mint.verify(self.token(state), campaign, time.time())
        owner = bytes(12) if of_another else device.device_id
        return parts.views.make(time.time() - 5, owner)

    def like(
        self, state, candidate="c001", click="click-0001", token=None, campaign=None, **members
    ):
        """The body of a like."""
        return like_body(
            self.token(state) if token is None else token,
            candidate,
            click,
            campaign or self.campaign(state),
            **members,
        )

    async def sums(self):
        """What its campaigns' likes have come to."""
        box = self.edge.parts.ballot_boxes.of(0)
        return {state: (await box.snapshot(self.campaign(state))).sums for state in STATES}


HEADS = (
    *(b"",) * 12,
    *(ALLOWED,) * 8,
    *(b"Origin: https://evil.example\r\n", b"Origin: null\r\n"),
    *(b"Expect: 100-continue\r\n", b"Expect: 200-maybe\r\n", b"X-Odd: \xe4\xbd\xa0\r\n"),
    *(b"Connection: keep-alive\r\n", b"Content-Encoding: gzip\r\n", ALLOWED + ALLOWED),
    *(b"X-Forwarded-For: 1.2.3.4\r\n", b"Accept: */*\r\ncookie: a=b\r\n"),
    # A datacentre's address, once with all that speaks against a script.
    b"X-Forwarded-For: 8.8.8.8\r\n",
    b"X-Forwarded-For: 8.8.8.8\r\nUser-Agent: curl/8.5\r\n",
    b"User-Agent: Mozilla/5.0 (Linux; Android 13; V2166A) Chrome/116.0.0.0 Mobile\r\n",
    b"User-Agent: \xe4\xbd\xa0\r\nAccept-Language: zh-CN\r\n",
    b"Accept-Language: zh\r\nAccept-Language: en\r\nSec-Fetch-Site: cross-site\r\n",
    b"X-JA4: t13d1516h2_8daaf6152771_b186095e22b6\r\n",
    b"X-Long: %b\r\n" % (b"a" * 3_000),
    *(b"Accept-Encoding: gzip\r\n", b"Accept-Encoding: gzip, deflate, br\r\n") * 3,
    *(b"Accept-Encoding: gzip;q=0\r\n", b"Accept-Encoding: *\r\n", b"Accept-Encoding:\r\n"),
    b"Accept-Encoding: br\r\naccept-encoding: gzip\r\n",
)
TYPES = (
    *(b"text/plain", b"application/json", b"text/plain;charset=UTF-8") * 6,
    *(b"text/plain; charset=gbk", b"text/html", b"TEXT/PLAIN", b""),
)
# From the side and the state of the campaign that is meant. In this order one device gets ANSWERED.
LIKES = tuple(
    lambda side, state, candidate=candidate, click=click: side.like(state, candidate, click)
    for candidate, click in (
        *(("c001", "click-0001"), ("c001", "click-0002"), ("c002", "click-0003")),
        *(("c003", "click-0004"), ("c004", "click-0005")),
    )
)
ANSWERED = {
    "open": [201, 200, 201, 201, 409],
    "spent": [201, 200, 409, 409, 409],
    "life": [201, 200, 201, 409, 409],
    "slow": [201, 200, 201, 429, 429],
    "crowd": [201, 200, 201, 201, 409],
    **dict.fromkeys(("shut", "over", "soon", "later", "paused", "signed", "signed-off"), [403] * 5),
}
BODIES = (
    *(
        lambda side, state, candidate=candidate, click=click: side.like(state, candidate, click)
        for candidate, click in (
            *(("c002", "click-0001"), ("c999", "click-0006"), ("c001", "no"), ("", "click-0007")),
            *((WITHDRAWN, "click-0009"),) * 2,
        )
    ),
    lambda side, state: side.like(state, token="x" + side.token(state)[1:]),
    lambda side, state: side.like(state, token=""),
    lambda side, state: side.like(state, token=side.token_of_tomorrow(state)),
    # A device of another campaign; of this one it may be known already.
    *(lambda side, state: side.like(state, token=side.token("life")),) * 2,
    lambda side, state: side.like(state, campaign="nosuch"),
    lambda side, state: side.like(state, "c003", "click-0010")[:-1] + b',"a":[1]}',
    lambda side, state: side.like(state, token=side.newcomer(state)),
    *(lambda side, state: side.like(state, "c003", "click-0017", token=side.vouched(state)),) * 2,
    lambda side, state: side.like(state, "c003", "click-0018", side.vouched(state, 86_400)),
    lambda side, state: b'{"token":"%b"}' % side.vouched(state, 86_400).encode(),
    *(lambda side, state: side.identity(state),) * 3,
    lambda side, state: side.identity(state, aud="elsewhere"),
    lambda side, state: side.identity(state, iss="https://evil.example"),
    lambda side, state: side.identity(state, header={"alg": "none"}),
    lambda side, state: side.identity(state)[:-8] + b'AAAAAA"}',
    lambda side, state: b'{"campaign":"%b","identity":7}' % side.campaign(state).encode(),
    lambda side, state: b'{"campaign":"%b","identity":""}' % side.campaign(state).encode(),
    lambda side, state: b'{"campaign":"%b","identity":null}' % side.campaign(state).encode(),
    lambda side, state: side.like(state, "c003", "click-0011", view=side.view(state)),
    lambda side, state: side.like(state, "c003", "click-0012", view=side.view(state), dwell_ms=30),
    lambda side, state: side.like(state, "c003", "click-0013", view=side.view(state), dwell_ms="x"),
    lambda side, state: side.like(
        state, "c003", "click-0014", view=side.view(state, of_another=True)
    ),
    lambda side, state: side.like(state, "c003", "click-0015", view="never one of ours"),
    lambda side, state: side.like(state, "c003", "click-0016", view=7),
    lambda side, state: side.like(state)[:-1],
    lambda side, state: b"",
    lambda side, state: b"null",
    lambda side, state: b'{"campaign":"\xff"}',
    lambda side, state: b'{"campaign":"\\ud800"}',
    lambda side, state: b"[" * 3_000,
    lambda side, state: b'{"campaign":"%b"}' % side.campaign(state).encode(),
    lambda side, state: b'{"campaign":1}',
    lambda side, state: b'{"token":"%b"}' % side.token(state).encode(),
    lambda side, state: b'{"token":1}',
)
GETS = (
    *(b"/v1/campaigns/still/counts",) * 6,
    *(b"/v1/campaigns/nosuch/counts", b"/v1/campaigns/secret/counts", b"/healthz", b"/nope"),
    b"/v1/campaigns/later/counts",
    *(b"/v1/campaigns/still/counts?a=b", b"/v1/likes", b"/v1/campaigns/st%69ll/counts"),
)
NONE_MATCH = (b"", b"", b'If-None-Match: "x"\r\n', b"If-None-Match: %b\r\n")

# Most of what is drawn is well-formed, so that most of it is for the lane and comes to a vote.
GOOD = st.tuples(
    st.just(b"/v1/likes"),
    st.sampled_from(LIKES),
    st.sampled_from((b"", b"", ALLOWED)),
    st.just(b"text/plain"),
)
POSTS = st.tuples(
    st.sampled_from(
        (*(b"/v1/likes",) * 5, *(b"/v1/devices",) * 2, b"/v1/devices/proof", b"/v1/devices/state")
    ),
    st.sampled_from((*LIKES, *BODIES)),
    st.sampled_from(HEADS),
    st.sampled_from(TYPES),
)
READS = st.tuples(
    st.sampled_from((*(b"GET",) * 8, b"HEAD", b"OPTIONS", b"DELETE")),
    st.sampled_from(GETS),
    st.sampled_from(NONE_MATCH),
    st.sampled_from(HEADS),
)
# The same again, at once or after its answer: 40 are more than wait at once on either way.
TIMES = st.sampled_from((*(1,) * 24, 2, 2, 3, 40))
ASKED = st.lists(
    st.tuples(st.one_of(GOOD, GOOD, GOOD, POSTS, POSTS, READS), TIMES), min_size=1, max_size=8
)
# After these the connection is aiohttp's, or over: they come last.
LAST = st.sampled_from(
    (
        "",
        "",
        "chunked",
        "large",
        "old",
        "close",
        "hostless",
        "two agents",
        "long line",
        "many lines",
    )
)


def written(asked, side, state):
    """The bytes of one request for one side."""
    if asked[0].startswith(b"/"):
        path, body, more, content_type = asked
        if state == "crowd":
            more = b"X-Forwarded-For: %b\r\n" % side.address + more
        return post(path, body(side, state), more=more, content_type=content_type)
    method, path, match, more = asked
    published = side.edge.parts.board.published(side.edge.parts.catalog.campaigns[STILL])
    match = match.replace(b"%b", published.etag.encode())
    return method + get(path, match + more)[3:]


def ending(kind, side, state):
    body = side.like(state, click="click-last")
    return {
        "": b"",
        "chunked": chunked(b"/v1/likes", body),
        "large": post(b"/v1/likes", body + b" " * 5_000, more=ALLOWED),
        "old": post(b"/v1/likes", body, version=b"1.0"),
        "close": post(b"/v1/likes", body, more=b"Connection: close\r\n"),
        "hostless": post(b"/v1/likes", body).replace(b"Host: x\r\n", b""),
        "two agents": post(b"/v1/likes", body, more=b"User-Agent: a\r\n" * 2),
        "long line": post(b"/v1/likes", body, more=b"X-Long: %b\r\n" % (b"a" * 8_200)),
        "many lines": post(b"/v1/likes", body, more=b"X-Many: a\r\n" * 130),
    }[kind]


def shape(answer, receipts):
    """What a client may rely on. A receipt stands for a vote: the first one that this client was
    told is 0, and so on."""
    body = answer.body
    if answer.headers.get("content-encoding") == "gzip" and body:
        body = gzip.decompress(body)
    try:
        said = json.loads(body)
        if isinstance(said, dict):
            said = {name: None if name in VARIES else said[name] for name in said}
            if "receipt" in said:
                said["receipt"] = receipts.setdefault(said["receipt"], len(receipts))
    except ValueError:
        said = body
    told = {name: answer.headers.get(name) for name in COMPARED}
    told |= {name: name in answer.headers for name in PRESENT}
    return answer.status, told, said


async def told(edge, requests, last=b"", *, pipelined, cut=0):
    """The shape of each answer, and whether the connection is open after them. The last request
    goes when all others are answered: aiohttp alone forgets those that come in one segment with
    what it cannot parse."""
    seen, receipts = [], {}
    async with wired(edge) as wire:
        for together in [requests] if pipelined else [[request] for request in requests]:
            seen += await answers_to(wire, together, receipts, cut)
        if last:
            seen += await answers_to(wire, [last], receipts, cut)
        wire.send(get(b"/healthz"))
        try:
            seen.append((await wire.answer()).status)
        except (EOFError, ConnectionError):
            seen.append("closed")
    return seen


async def answers_to(wire, requests, receipts, cut):
    """The shapes of the answers to requests that are sent in two pieces, whoever's they are."""
    sent = b"".join(requests)
    at = cut % len(sent)
    for piece in (sent[:at], sent[at:]):
        wire.send(piece)
        for _ in range(3):
            await asyncio.sleep(0)  # so that the pieces may, and need not, come apart
    return [
        shape(await wire.answer(to=request.split(b" ", 1)[0]), receipts) for request in requests
    ]


@pytest.fixture
async def both(tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch):
    """The edge with the lane and the edge without. Nobody looks at the store's memory after the
    start."""
    monkeypatch.setattr(store_watch, "_LOOK_EVERY_SECONDS", 3_600)
    # Nor does it depend on the moment who gets a challenge.
    monkeypatch.setattr(issuing, "_AT_MOST", Rate(1_000_000, 1_000_000))
    monkeypatch.setattr(vouching, "_WRONG_AT_MOST", Rate(1_000_000, 1_000_000))
    monkeypatch.setattr(vouching, "_WRONG_AT_MOST_WIDE", Rate(1_000_000, 1_000_000))
    now = datetime.now(UTC)
    for state, made in STATES.items():
        for side in SIDES:
            await add_campaign(
                postgres,
                f"{side}-{state}",
                opens_at=now + made.get("opens", timedelta(days=-2)),
                closes_at=now + made.get("closes", timedelta(days=9)),
                limits=UNBOUNDED | made.get("limits", {}),
                rules=made.get("rules"),
                paused_because=made.get("paused"),
            )
    await add_campaign(postgres, STILL, candidates=40)  # enough to be worth compressing
    await add_campaign(postgres, SECRET, rules={"counts": "staff"})
    await add_campaign(postgres, LATER, opens_at=now + timedelta(days=1))
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE id = $1", WITHDRAWN)
    keys = json.dumps({VOUCHES.origin: VOUCHES.line})
    await postgres.execute("UPDATE campaigns SET portal_keys = $1", keys)
    options = {"trusted_proxies": "127.0.0.1", "challenge": "adaptive"}
    async with (
        running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane="on", **options) as fast,
        running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane="off", **options) as alone,
    ):
        yield fast, alone


_addresses = (b"10.%d.%d.%d" % (n >> 16, n >> 8 & 255, n & 255) for n in range(1 << 24))


def sides_of(both):
    address = next(_addresses)
    return [Side(name, edge, address) for name, edge in zip(SIDES, both, strict=True)]


async def answer_alike(both, state, asked, last, pipelined, cut):
    """Ask both edges the same, on one connection each, and compare."""
    answers = []
    sides = sides_of(both)
    for side in sides:
        requests = [written(one, side, state) for one, times in asked for _ in range(times)]
        final = ending(last, side, state)
        answers.append(await told(side.edge, requests, final, pipelined=pipelined, cut=cut))
    assert answers[0] == answers[1]
    assert await sides[0].sums() == await sides[1].sums()
    assert both[1].parts.metrics.in_lane == 0


any_connection = given(
    state=st.sampled_from(("open", "open", *STATES)),
    asked=ASKED,
    last=LAST,
    pipelined=st.booleans(),
    cut=st.integers(0, 3_000),
)
one_edge_for_all = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=200, suppress_health_check=one_edge_for_all)
@any_connection
async def test_both_ways_answer_a_connection_alike(both, state, asked, last, pipelined, cut):
    await answer_alike(both, state, asked, last, pipelined, cut)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=4_000, suppress_health_check=one_edge_for_all)
@any_connection
async def test_both_ways_answer_many_connections_alike(both, state, asked, last, pipelined, cut):
    await answer_alike(both, state, asked, last, pipelined, cut)


each_pace = pytest.mark.parametrize("pipelined", [False, True], ids=["one-by-one", "pipelined"])


@each_pace
async def test_both_ways_answer_alike_in_every_state_of_a_campaign(both, pipelined):
    sides = sides_of(both)
    for state, answered in ANSWERED.items():
        fast, alone = [
            await told(
                side.edge,
                [written((b"/v1/likes", body, b"", b"text/plain"), side, state) for body in LIKES],
                pipelined=pipelined,
            )
            for side in sides
        ]
        assert fast == alone
        assert statuses(fast) == [*answered, 200]
    sums = await sides[0].sums()
    assert sums == await sides[1].sums()
    assert sums["crowd"] == {b"1": 1, b"h2": 1, b"h3": 1, b"r4:4": 1}
    for side in sides:
        # Known by now, and of another campaign.
        strangers = [
            post(b"/v1/likes", side.like(state, token=side.token("open")))
            for state in STATES
            if state != "open"
        ]
        answers = await told(side.edge, strangers, pipelined=pipelined)
        assert statuses(answers) == [*[401] * len(strangers), 200]
    assert await sides[0].sums() == await sides[1].sums() == sums


SCRIPT = b"X-Forwarded-For: 1.2.3.4\r\nUser-Agent: curl/8.5\r\n"


@each_pace
async def test_both_ways_judge_alike(both, pipelined):
    """Who has not solved a challenge, whose view is another's, and who is a script."""
    asked = [
        (lambda side: side.like("open", token=side.newcomer("open")), b""),
        (lambda side: side.like("open", view=side.view("open", of_another=True)), b""),
        (lambda side: side.like("open", view=side.view("open"), dwell_ms=30), SCRIPT),
        (lambda side: side.like("open", view=side.view("open"), dwell_ms=3_000), b""),
    ]
    fast, alone = [
        await told(
            side.edge,
            [post(b"/v1/likes", body(side), more=more) for body, more in asked],
            pipelined=pipelined,
        )
        for side in sides_of(both)
    ]
    assert fast == alone
    assert statuses(fast) == [428, 403, 428, 201, 200]
    assert "challenge" in fast[0][2]
    assert fast[1][2]["outcome"] == "refused"


async def test_both_ways_keep_the_same_facts(both, valkey):
    head = (
        b"X-Forwarded-For: 8.8.8.8\r\nAccept-Language: zh-CN\r\nX-JA4: t13d1516h2\r\n"
        b"User-Agent: Mozilla/5.0 (Linux; Android 13; V2166A) AppleWebKit/537.36\r\n"
    )
    sides = sides_of(both)
    kept = []
    for side in sides:
        body = side.like("open", view=side.view("open"), dwell_ms=1_200)
        await told(side.edge, [post(b"/v1/likes", body, more=head)], pipelined=False)
        ((_, fields),) = await valkey.xrevrange(journal.journal_key(0), count=1)
        (vote,) = journal.unpack_entry(fields[journal.ENTRY_FIELD]).votes()
        kept.append(vote._replace(device=b"", network=b"", network_wide=b""))
    assert kept[0] == kept[1]
    vote = kept[0]
    assert (vote.asn, vote.network_class) == (15_169, 4)
    assert vote.user_agent_class == agent_class("(Linux; Android 13; V2166A)")
    assert vote.tls_hash == tls_hash("t13d1516h2")
    assert vote.dwell_centiseconds == 120
    assert REASON_NAMES[vote.reasons[0]] == "datacentre"


def one_of_each(side):
    """One request of each kind that the lane answers, and some that it does not."""
    return [
        *(post(b"/v1/likes", side.like("open", f"c00{n}", f"click-000{n}")) for n in (1, 2, 9)),
        post(b"/v1/likes", side.like("open", click="click-0004"), more=ALLOWED),
        post(b"/v1/likes", side.like("open"), more=b"Origin: https://evil.example\r\n"),
        post(b"/v1/likes", side.like("open", token="")),
        post(b"/v1/likes", b"{}"),
        post(b"/v1/likes", side.like("over")),
        post(b"/v1/devices", b'{"campaign":"%b"}' % side.campaign("open").encode(), more=ALLOWED),
        post(b"/v1/devices/proof", b'{"token":"%b"}' % side.token("open").encode()),
        post(b"/v1/devices/state", side.like("open"), more=ALLOWED),
        get(b"/v1/campaigns/still/counts"),
        get(b"/healthz"),
        chunked(b"/v1/likes", side.like("open", "c003", "click-0005")),
    ]


async def both_told(both, *, pipelined):
    """What either edge answers to one of each."""
    return [
        await told(side.edge, one_of_each(side), pipelined=pipelined) for side in sides_of(both)
    ]


def statuses(answers):
    return [answer if isinstance(answer, int) else answer[0] for answer in answers]


@each_pace
async def test_both_ways_answer_alike_while_the_store_is_nearly_full(both, pipelined):
    for edge in both:
        edge.parts.ballot_boxes.of(0).refusing = True
    fast, alone = await both_told(both, pipelined=pipelined)
    assert fast == alone
    assert statuses(fast) == [*[503] * 8, 201, 200, 200, 200, 200, 503, 200]
    assert fast[0][2]["outcome"] == "overloaded"
    for edge in both:
        edge.parts.ballot_boxes.of(0).refusing = False
    fast, alone = await both_told(both, pipelined=pipelined)
    assert fast == alone
    assert 503 not in statuses(fast)


async def nobody_listens(line):
    raise StoreDown("nobody listens")


@each_pace
async def test_both_ways_answer_alike_while_the_store_is_away(both, pipelined, monkeypatch):
    lines = [edge.parts.ballot_boxes.of(0).line for edge in both]
    with monkeypatch.context() as away:
        away.setattr(StoreLine, "_connect", nobody_listens)
        for line in lines:
            line.drop()
        fast, alone = await both_told(both, pipelined=pipelined)
    assert fast == alone
    likes = [503, 503, 404, 503, 403, 401, 400, 403]
    assert statuses(fast) == [*likes, 201, 200, 503, 200, 200, 503, 200]
    assert fast[0][2]["outcome"] == "store-down"

    async def back():
        return all(line.connected for line in lines)

    await wait_until_async(back, what="the store")
    fast, alone = await both_told(both, pipelined=pipelined)
    assert fast == alone
    assert 503 not in statuses(fast)


async def test_both_ways_answer_alike_when_the_store_is_lost_with_likes_on_their_way(
    both, valkey, monkeypatch
):
    monkeypatch.setattr(StoreLine, "_connect", nobody_listens)
    await valkey.client_pause(60_000, all=False)
    seen = []
    for side in sides_of(both):
        box, receipts = side.edge.parts.ballot_boxes.of(0), {}
        async with wired(side.edge) as wire:
            likes = [side.like("open", f"c00{n}", f"click-{n:04}") for n in (1, 2)]
            wire.send(b"".join(post(b"/v1/likes", body) for body in likes))
            wire.send(get(b"/v1/campaigns/still/counts"))
            await wait_until_async(lambda box=box: waiting(box), what="a like on its way")
            box.line.drop()
            seen.append([shape(await wire.answer(to=b"POST"), receipts) for _ in likes])
            seen[-1].append(shape(await wire.answer(), receipts))
    await valkey.client_unpause()
    assert seen[0] == seen[1]
    assert statuses(seen[0]) == [503, 503, 200]


async def waiting(box):
    return box.waiting


BYTES = st.one_of(
    st.binary(max_size=30), st.sampled_from((b"\r\n", b"\r\n\r\n", b"\x00", b":", b"{", b" "))
)
# (where, how many bytes go, what comes instead)
CHANGES = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 9), BYTES), max_size=4)


any_bytes = given(st.one_of(st.binary(max_size=200), CHANGES))


@settings(max_examples=150, suppress_health_check=one_edge_for_all)
@any_bytes
async def test_no_bytes_cost_more_than_their_own_connection(both, capfd, changed):
    await survive(both[0], capfd, changed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=6_000, suppress_health_check=one_edge_for_all)
@any_bytes
async def test_no_bytes_of_many_cost_more_than_their_own_connection(both, capfd, changed):
    await survive(both[0], capfd, changed)


async def survive(edge, capfd, changed):
    """Send this, and see that it costs nobody else anything."""
    campaign = "left1-open"
    if isinstance(changed, bytes):
        sent = changed
    else:
        sent = b"".join(
            like(minted(edge, campaign), "c001", f"click-fuzz-{n}", campaign) for n in range(3)
        )
        for where, gone, instead in changed:
            at = where % len(sent)
            sent = sent[:at] + instead + sent[at + gone :]
    capfd.readouterr()
    async with wired(edge) as wire:
        wire.send(sent)
        wire.writer.write_eof()
        got = await wire.rest()
    assert not re.search(rb"HTTP/1.1 5", got), got
    async with wired(edge) as wire:
        assert (
            await wire.ask(like(minted(edge, campaign), "c001", "click-after", campaign))
        ).status == 201
    logged = "".join(capfd.readouterr())
    assert "Traceback" not in logged
    assert "127.0.0.1" not in logged
