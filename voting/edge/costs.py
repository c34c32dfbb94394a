"""Where the microseconds of one like go in this process, and what answering GET counts takes.

    python -m voting.edge.costs

Runs the fast lane over a store that answers at once and a network that swallows, and times each
step by itself over a batch of 64, the fastest of many rounds. What a request costs beyond that is
the event loop's and the kernel's (`make bench` measures the whole, from outside). Known weakness:
the caches of a loop this small stay warm; under load each step takes up to half more.
"""

import asyncio
import ipaddress
import tempfile
import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

from antifraud.screen import screen
from voting import ballot_box
from voting.ballot_box import BallotBox, BallotBoxes
from voting.campaign import Campaign, Candidate, Rules, VotingWindow
from voting.device import Mint
from voting.edge import fast_lane
from voting.edge.board import Board, counts_at
from voting.edge.client_address import ClientAddress
from voting.edge.client_facts import client_of
from voting.edge.encoded import EncodedCandidates, EncodedCounts
from voting.edge.heads import HEAD_END
from voting.edge.issuing import Issuing, ProofDesk
from voting.edge.known_devices import KnownDevices
from voting.edge.known_fingerprints import KnownFingerprints
from voting.edge.likes import Tap, answer_tap, put_tap, read_tap, signals_of
from voting.edge.live_catalog import LiveCatalog
from voting.edge.log_desk import LogDesk
from voting.edge.loop_lag import LoopLag
from voting.edge.metrics import EdgeMetrics
from voting.edge.parts import Edge
from voting.edge.vouching import Vouching
from voting.keys import Keys
from voting.pseudonyms import Pseudonyms
from voting.receipt import Receipts
from voting.settings import load_settings
from voting.store_line import OnReply, StoreLine, Word
from voting.view import Views

BATCH = 64
_ROUNDS = 30
_PEER = "127.0.0.1"
_ORIGIN = "https://www.example.cn"
_HEAD = (
    "POST /v1/likes HTTP/1.1\r\nHost: likes.example.cn\r\nConnection: keep-alive\r\n"
    "Content-Length: {length}\r\n"
    "User-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/138.0.0.0 Mobile Safari/537.36\r\n"
    "Content-Type: text/plain;charset=UTF-8\r\nAccept: */*\r\n"
    f"Origin: {_ORIGIN}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n"
    f"Referer: {_ORIGIN}/\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: zh-CN,zh;q=0.9\r\nX-Forwarded-For: {address}\r\n\r\n"
)
_COUNTS_HEAD = (
    "GET /v1/campaigns/spring/counts HTTP/1.1\r\nHost: likes.example.cn\r\n"
    "Connection: keep-alive\r\nUser-Agent: a CDN\r\nAccept: */*\r\n{more}"
    "X-Forwarded-For: {address}\r\n\r\n"
)
CANDIDATES = 750


class Step(NamedTuple):
    """One row of the table."""

    name: str
    microseconds: float
    """Per request."""


class _Line:
    """A store that counts every ballot, when it is told to."""

    connected = True
    replid = b"0" * 40

    def __init__(self) -> None:
        self.words: tuple[Word, ...] = ()
        self._on_reply: OnReply | None = None

    def call(self, *words: Word, on_reply: OnReply) -> None:
        self.words, self._on_reply = words, on_reply

    def answer(self) -> None:
        assert self._on_reply is not None
        now_us = time.time_ns() // 1000
        self._on_reply(
            ballot_box._ANSWERED.pack(ballot_box._CAST, now_us)
            + b"".join(ballot_box._ANSWER.pack(1, 9, 0, 1, seq) for seq in range(1, BATCH + 1))
        )


class _Catalog:
    """One campaign that never changes."""

    unknown = "unknown-campaign"

    def __init__(self, campaign: Campaign) -> None:
        self.campaigns = {campaign.id: campaign}


class Network:
    """A connection's other end: counts what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return _PEER, 1

    def is_closing(self) -> bool:
        return False

    def write(self, wire: bytes) -> None:
        self.written.append(wire)


async def measure(rounds: int = _ROUNDS) -> list[Step]:
    """All steps, in the order of a like's life."""
    now = datetime.now(UTC)
    campaign = Campaign(
        1,
        "spring",
        "",
        VotingWindow(now - timedelta(days=1), now + timedelta(days=2), ZoneInfo("Asia/Shanghai")),
        Rules(candidates_per_day=10),
        origins=(_ORIGIN,),
        candidates=tuple(
            Candidate(number, f"c{number:03}", "", "", "", "", "", "")
            for number in range(1, CANDIDATES + 1)
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys.load_or_make(Path(folder) / "keys.json")
    mint, pseudonyms = Mint(keys), Pseudonyms(keys)
    pseudonyms.learn_days({campaign.window.day_at(time.time_ns() // 1000).date: bytes(32)})
    line = _Line()
    box = BallotBox(cast(StoreLine, line), pseudonyms, Receipts(keys))
    catalog = cast(LiveCatalog, _Catalog(campaign))
    boxes = BallotBoxes([box])
    board = Board(catalog, boxes)
    # No two alike, as late in a campaign: what compresses worst.
    counts = {number: number * 271_828 % 314_159 for number in range(1, CANDIDATES + 1)}
    board._publish(
        campaign, None, lambda: counts_at(campaign, time.time_ns() // 1000, ((0, 0),), counts)
    )
    metrics = EdgeMetrics()
    edge = Edge(
        settings=load_settings(_env_file=None),
        catalog=catalog,
        board=board,
        ballot_boxes=boxes,
        mint=mint,
        issuing=Issuing(mint, keys, "adaptive", 1),
        proof_desk=ProofDesk(lambda _: cast(StoreLine, line)),
        vouching=Vouching(mint, keys, metrics.identities),
        views=Views(keys),
        fingerprints=KnownFingerprints(cast(StoreLine, line)),
        known_devices=KnownDevices(mint, pseudonyms),
        pseudonyms=pseudonyms,
        receipts=Receipts(keys),
        logs=LogDesk(""),
        client_address=ClientAddress((ipaddress.ip_network("127.0.0.0/8"),)),
        encoded_candidates=EncodedCandidates(Views(keys)),
        encoded_counts=EncodedCounts(Views(keys)),
        metrics=metrics,
        loop_lag=LoopLag(),
    )
    requests = []
    for number in range(BATCH):
        token = edge.mint.issue(campaign, time.time())
        view = edge.views.make(time.time())
        body = (
            f'{{"token":"{token}","campaign":"spring","candidate":"c{number * 7 + 1:03}",'
            f'"click":"00000001-{number:08}","view":"{view}","dwell_ms":4200}}'
        )
        head = _HEAD.format(length=len(body), address=f"11.22.33.{number}")
        requests.append((head.encode(), body.encode()))
    return _measure_steps(edge, line, requests, rounds) + _measure_counts(edge, rounds)


def _measure_steps(
    edge: Edge, line: _Line, requests: list[tuple[bytes, bytes]], rounds: int
) -> list[Step]:
    heads, bodies = zip(*requests, strict=True)
    whole = [head + body for head, body in requests]
    (box,) = edge.ballot_boxes

    def per_like(name: str, run: Callable[[], Any]) -> Step:
        run()
        return Step(name, min(timeit.repeat(run, number=1, repeat=rounds)) / BATCH * 1e6)

    lane = fast_lane.FastLane(edge, cast(Any, None), connections_max=BATCH)
    key = fast_lane.key_of(_PEER)
    read = [cast(Any, lane.read(head, _PEER)) for head in heads]
    asked = [
        (body, known.sender, known.place, known.client)
        for body, known in zip(bodies, read, strict=True)
    ]
    connections = [lane() for _ in whole]
    networks = [Network() for _ in whole]
    for connection, network in zip(connections, networks, strict=True):
        connection.connection_made(cast(Any, network))

    def judged(taps: list[Tap]) -> None:
        for tap in taps:
            put_tap(edge, tap, lambda _: None)
        box.waiting = 0
        queue = box._queues["spring"]
        queue._gathering.clear()
        queue._busy = True

    taps = [cast(Tap, read_tap(edge, *facts)) for facts in asked]
    views = [body[-54:-18].decode() for body in bodies]
    now = time.time()
    steps = [
        per_like("head, unknown", lambda: [lane.read(head, _PEER) for head in heads]),
        per_like(
            "framed, head known",
            lambda: [lane.known[key + one[: one.find(HEAD_END) + len(HEAD_END)]] for one in whole],
        ),
        per_like(
            "body, token (known), campaign, candidate, view",
            lambda: [read_tap(edge, *facts) for facts in asked],
        ),
        per_like("of which the view", lambda: [edge.views.read(one, None, now) for one in views]),
        per_like("token, unknown", lambda: [edge.mint._read(t) for t in _tokens(bodies)]),
        per_like("signals, judging, ballot", lambda: judged(taps)),
        per_like(
            "of which signals and screening",
            lambda: [screen(signals_of(edge, tap, int(now))) for tap in taps],
        ),
        per_like(
            "place and client of a head, unknown",
            lambda: [
                (edge.client_address._place_of(f"11.22.33.{n}"), client_of(known.sender))
                for n, known in enumerate(read)
            ],
        ),
    ]
    queue = box._queues["spring"]

    def all_in_process() -> None:
        for connection, one in zip(connections, whole, strict=True):
            connection.data_received(one)
        lane._serve_all()
        queue._send()
        line.answer()

    casts: list[Any] = []
    for tap in taps:
        put_tap(edge, tap, casts.append)
    waiting = list(queue._gathering)

    def send() -> None:
        queue._gathering.extend(waiting)
        queue._send()

    steps.append(per_like("batch packed and sent", send))

    def land() -> None:
        line.answer()
        box.waiting = 0
        queue._busy = True

    steps.append(per_like("answers read, receipts sealed", land))
    landed = list(zip(taps, casts[:BATCH], strict=True))
    answers = [answer_tap(edge, tap, each) for tap, each in landed]
    steps += [
        per_like("answer", lambda: [answer_tap(edge, tap, each) for tap, each in landed]),
        per_like("answer's bytes", lambda: [answer.wire() for answer in answers]),
        per_like("all of it in the lane, heads and tokens known", all_in_process),
    ]
    statuses = {wire[9:12] for network in networks for wire in network.written}
    if statuses != {b"201"}:
        raise AssertionError(f"not every like was counted: {statuses}")
    return steps


def _measure_counts(edge: Edge, rounds: int) -> list[Step]:
    """GET counts, by clients whose heads are known."""
    published = edge.board.published(edge.catalog.campaigns["spring"])
    assert published is not None
    gzip = "Accept-Encoding: gzip, deflate, br\r\n"
    return [
        _measure_get(edge, "plain", "", b"200", rounds),
        _measure_get(edge, "gzip", gzip, b"200", rounds),
        _measure_get(edge, "304", f"If-None-Match: {published.etag}\r\n", b"304", rounds),
    ]


def _measure_get(edge: Edge, name: str, more: str, status: bytes, rounds: int) -> Step:
    lane = fast_lane.FastLane(edge, cast(Any, None), connections_max=BATCH)
    asked = []
    for number in range(BATCH):
        connection, network = lane(), Network()
        connection.connection_made(cast(Any, network))
        head = _COUNTS_HEAD.format(more=more, address=f"11.22.33.{number}")
        asked.append((connection, head.encode()))

    def answer_all() -> None:
        for connection, head in asked:
            connection.data_received(head)
        lane._serve_all()

    answer_all()
    took = min(timeit.repeat(answer_all, number=1, repeat=rounds)) / BATCH * 1e6
    written = network.written[0]
    if written[9:12] != status:
        raise AssertionError(f"counts were answered {written[:12]!r}")
    size = len(written) - written.index(HEAD_END) - len(HEAD_END)
    return Step(f"counts of {CANDIDATES}, {name}, {size:,} bytes", took)


def _tokens(bodies: tuple[bytes, ...]) -> list[str]:
    return [body[10:62].decode() for body in bodies]


def main() -> None:
    for step in asyncio.run(measure()):
        print(f"{step.name:<48}{step.microseconds:7.2f} us")


if __name__ == "__main__":
    main()
