"""What the public sees of the logs: receipts, checkpoints, tiles, and the page for a voter."""

import asyncio
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from random import Random

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from antifraud.limits import PERIODS_US, Rate
from antifraud.screen import Decision
from tally.flusher import Flusher, FlusherMetrics
from tally.holds import Action, OneFlag, decide
from tally.log.integrator import integrate, sign_grown
from tally.log.signed_note import VerifierKey, open_note
from tests.conftest import wait_until_async
from tests.decided import Poll
from tests.journal_builder import make_vote
from tests.logged import KEYS, leaf_of, records_of
from tests.naive_tree import tree_hash
from voting.ballot import Position
from voting.checkpoint import Checkpoint
from voting.edge import log_desk
from voting.log_reader import Log
from voting.merkle import hash_leaf, root_by_inclusion


async def get(edge, path, **options):
    async with edge.http.get(f"{edge.url}{path}", **options) as answer:
        return answer, await answer.read()


async def ask(edge, receipt):
    async with edge.http.get(f"{edge.url}/v1/receipts/{receipt}") as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def logged(edge, postgres):
    """The edge's campaign with 600 votes in Postgres: integrates, signs, gives receipts."""

    class Logged(Poll):
        async def take_in(self):
            while (await integrate(self.connection, KEYS)).more:
                pass
            await sign_grown(self.connection, KEYS)
            edge.parts.logs._notes.clear()  # what was asked a moment ago

        def receipt(self, index, campaign=1):
            position = Position(*self.positions[index][1:])
            return edge.parts.receipts.seal([position], campaign)[0]

    poll = Logged(postgres, None)
    random = Random(7)
    for _ in range(6):
        verdicts = [random.choice((Decision.COUNT, Decision.HOLD)) for _ in range(100)]
        await poll.add([make_vote(random, random.randint(1, 5), each) for each in verdicts])
    return poll


def proven(body):
    """The checkpoint of an answer, if its proof and its signature hold."""
    signed = Checkpoint.read(open_note(body["checkpoint"], KEYS.signer.verifier))
    root = root_by_inclusion(
        hash_leaf(bytes.fromhex(body["record"])),
        body["index"],
        body["size"],
        [bytes.fromhex(each) for each in body["proof"]],
    )
    assert (signed.size, signed.root) == (body["size"], root)
    return signed


async def test_receipt_leads_to_its_own_leaf_under_a_signed_root(edge, postgres, logged):
    assert await ask(edge, logged.receipt(0)) == (202, {"state": "accepted"})
    await logged.take_in()
    rows = await postgres.fetch("SELECT * FROM votes ORDER BY seq")
    seen = set()
    for index in (0, 1, 255, 256, 300, 511, 512, 599):
        status, body = await ask(edge, logged.receipt(index))
        assert (status, body["state"]) == (200, "logged")
        assert set(body) == {"state", "index", "size", "record", "proof", "checkpoint"}
        assert proven(body).origin == "dianzan-test/spring/votes"
        assert bytes.fromhex(body["record"]) == leaf_of(rows[index])
        seen.add(body["index"])
    assert len(seen) == 8


async def test_leaf_past_the_last_signature_is_accepted_and_no_more(edge, postgres, logged):
    await logged.take_in()
    await logged.add([make_vote(Random(1), 1, Decision.COUNT)])
    await integrate(postgres, KEYS)
    assert await ask(edge, logged.receipt(600)) == (202, {"state": "accepted"})
    assert proven((await ask(edge, logged.receipt(599)))[1]).size == 600
    await logged.take_in()
    status, body = await ask(edge, logged.receipt(600))
    assert (status, proven(body).size) == (200, 601)


async def test_answer_tells_neither_the_candidate_nor_whether_the_vote_is_held(
    edge, postgres, logged
):
    held = next(n for n, vote in enumerate(logged.votes) if vote.verdict == Decision.HOLD)
    counted = next(n for n, vote in enumerate(logged.votes) if vote.verdict == Decision.COUNT)
    await logged.take_in()
    before = [(await ask(edge, logged.receipt(n)))[1] for n in (held, counted)]
    for body, index in zip(before, (held, counted), strict=True):
        assert body.keys() == before[0].keys()
        candidate = logged.votes[index].candidate
        assert candidate.to_bytes(2, "big") + logged.votes[index].click not in bytes.fromhex(
            body["record"]
        )
    # A release later on moves nothing of it.
    flag = await logged.flag([held])
    await decide(postgres, OneFlag(flag), Action.RELEASE, by="王老师", reason="复核")
    await logged.take_in()
    assert (await ask(edge, logged.receipt(held)))[1] == before[0]


async def test_receipts_that_are_not_ours_are_not_found(edge, logged):
    await logged.take_in()
    good = logged.receipt(5)
    turned = good[:-1] + ("A" if good[-1] != "A" else "Q")
    hostile = [
        turned, good[:-1], good + "A", good + "==", good.lower(), "A" * 22, "%00" * 22, "-" * 22,
        "é" * 22, "' OR 1=1 --", "x" * 4000, "..%2f..%2fetc", "%0d%0aX: y",
    ]  # fmt: skip
    for receipt in hostile:
        answer, _ = await get(edge, f"/v1/receipts/{receipt}")
        assert answer.status == 404, receipt
        assert "X" not in answer.headers


async def test_receipt_made_for_another_campaign_finds_no_leaf_of_this_one(edge, logged):
    await logged.take_in()
    assert (await ask(edge, logged.receipt(5)))[0] == 200
    for other in (2, 32_767):
        assert await ask(edge, logged.receipt(5, campaign=other)) == (202, {"state": "accepted"})


async def test_like_is_in_the_log_once_flusher_and_integrator_have_passed(
    edge, postgres, postgres_dsn, valkey_url
):
    receipt = (await edge.like(await edge.token()))[1]["receipt"]
    assert (await ask(edge, receipt))[0] == 202
    stop = asyncio.Event()
    flusher = Flusher(
        postgres_dsn=postgres_dsn,
        valkey_url=valkey_url,
        stop=stop,
        ready=lambda: None,
        metrics=FlusherMetrics(CollectorRegistry()),
        flush_every_seconds=0.02,
    )
    task = asyncio.create_task(flusher.run())
    try:

        async def merged():
            await integrate(postgres, KEYS)
            await sign_grown(postgres, KEYS)
            return (await ask(edge, receipt))[0] == 200

        await wait_until_async(merged)
    finally:
        stop.set()
        await task
    proven((await ask(edge, receipt))[1])


async def test_database_away_is_said_and_nothing_else_is(edge, postgres, logged, monkeypatch):
    await logged.take_in()

    async def away(*_):
        raise asyncpg.CannotConnectNowError("starting")

    monkeypatch.setattr(log_desk, "find_leaf", away)
    answer, body = await get(edge, f"/v1/receipts/{logged.receipt(1)}")
    assert (answer.status, b"store-down" in body) == (503, True)
    assert answer.headers["Retry-After"]
    answer, page = await get(edge, f"/receipt?receipt={logged.receipt(1)}")
    assert answer.status == 503
    assert "暂时无法查询" in page.decode()


async def test_flood_of_receipts_is_turned_away_and_likes_go_on(edge, logged, monkeypatch):
    await logged.take_in()
    gate = edge.parts.logs._leaves_gate
    monkeypatch.setattr(gate, "_rate", Rate(10, PERIODS_US["hour"]))
    token = await edge.token()
    answers = await asyncio.gather(*(ask(edge, logged.receipt(n)) for n in range(200)))
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= 10
    answer, page = await get(edge, f"/receipt?receipt={logged.receipt(0)}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert "查询的人太多" in page.decode()
    assert (await edge.like(token))[0] == 201
    # Mirrors have a budget of their own, and so has who waits for the database.
    assert (await get(edge, "/v1/logs/spring/votes/checkpoint"))[0].status == 200
    monkeypatch.setattr(gate, "_rate", Rate(10_000, PERIODS_US["second"]))
    gate._next_free_us = 0
    monkeypatch.setattr(edge.parts.logs, "_waiting", log_desk._WAITING_MAX)
    assert (await ask(edge, logged.receipt(0)))[0] == 503


async def test_tiles_in_memory_are_bounded_and_read_again_when_they_grew(
    edge, postgres, logged, monkeypatch
):
    monkeypatch.setattr(log_desk, "_TILES_HELD_BYTES_MAX", 30_000)
    for _ in range(4):
        await logged.take_in()
        for index in range(0, len(logged.positions), 97):
            proven((await ask(edge, logged.receipt(index)))[1])
            assert edge.parts.logs._tiles_bytes <= 30_000
            held = edge.parts.logs._tiles.values()
            assert edge.parts.logs._tiles_bytes == sum(map(len, held))
        await logged.add([make_vote(Random(3), 1, Decision.COUNT) for _ in range(90)])


async def test_log_that_does_not_prove_what_was_signed_gives_no_proof(edge, postgres, logged):
    await logged.take_in()
    await postgres.execute(
        "UPDATE log_tiles SET content = set_byte(content, 40, get_byte(content, 40) # 1)"
        " WHERE level = 0 AND number = 0"
    )
    answer, _ = await get(edge, f"/v1/receipts/{logged.receipt(0)}")
    assert answer.status == 500
    answer, page = await get(edge, f"/receipt?receipt={logged.receipt(0)}")
    assert answer.status == 500
    assert "账本核对不一致" in page.decode()


async def test_whole_log_can_be_mirrored_and_gives_the_signed_root(edge, postgres, logged):
    await logged.take_in()
    answer, key = await get(edge, "/v1/logs/key")
    assert answer.content_type == "text/plain"
    verifier = VerifierKey.read(key.decode())
    answer, note = await get(edge, "/v1/logs/spring/votes/checkpoint")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    signed = Checkpoint.read(open_note(note.decode(), verifier))
    assert signed.size == 600
    entries, hashes = [], b""
    for path, width in (("000", 256), ("001", 256), ("002.p/88", 88)):
        answer, content = await get(edge, f"/v1/logs/spring/votes/tile/entries/{path}")
        assert (answer.status, len(content)) == (200, width * 41)
        assert "immutable" in answer.headers["Cache-Control"]
        while content:
            length = int.from_bytes(content[:2], "big")
            entries.append(content[2 : 2 + length])
            content = content[2 + length :]
        hashes += (await get(edge, f"/v1/logs/spring/votes/tile/0/{path}"))[1]
    assert tree_hash(entries) == signed.root
    assert hashes == b"".join(map(hash_leaf, entries))
    _, above = await get(edge, "/v1/logs/spring/votes/tile/1/000.p/2")
    assert above == tree_hash(entries[:256]) + tree_hash(entries[256:512])


async def test_partial_tile_stays_what_it_was_when_it_has_grown(edge, logged):
    await logged.take_in()
    _, before = await get(edge, "/v1/logs/spring/votes/tile/0/002.p/88")
    await logged.add([make_vote(Random(1), 1, Decision.COUNT) for _ in range(300)])
    await logged.take_in()
    answer, after = await get(edge, "/v1/logs/spring/votes/tile/0/002.p/88")
    assert (answer.status, after) == (200, before)
    answer, _ = await get(edge, "/v1/logs/spring/votes/tile/0/003.p/133")
    assert answer.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "none/votes/checkpoint", "spring/devices/checkpoint", "spring/votes/tile/0/9",
        "spring/votes/tile/8/000", "spring/votes/tile/-1/000", "spring/votes/tile/0/000.p/256",
        "spring/votes/tile/0/x999/999", "spring/votes/tile/entries/..%2f000",
        "spring/votes/tile/0/x" + "9" * 500, "spring/votes/tile/0/" + "x999/" * 6 + "999",
        "spring/votes/tile/0/x999/x999/x999/x999/x999/999", "spring/votes/tile/7/000",
        "spring/votes/tile/00/000",
    ],
)  # fmt: skip
async def test_path_that_is_no_tile_of_the_log_is_not_found(edge, logged, path):
    await logged.take_in()
    answer, _ = await get(edge, f"/v1/logs/{path}")
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"


async def test_nothing_is_shown_before_anything_is_signed(edge, logged):
    for path in ("key", "spring/votes/checkpoint", "spring/rulings/checkpoint"):
        assert (await get(edge, f"/v1/logs/{path}"))[0].status == 404


async def test_rulings_are_shown_hourly_while_open_and_whole_after_the_close(
    edge, postgres, logged
):
    await logged.take_in()
    _, first = await get(edge, "/v1/logs/spring/rulings/checkpoint")
    size = Checkpoint.of_note(first.decode()).size
    assert size == len(await records_of(postgres, 1, Log.RULINGS)) > 0
    await logged.add([make_vote(Random(1), 1, Decision.HOLD)])
    await logged.take_in()
    # The next one is in the log and signed, and whoever made it cannot see it here.
    assert (await get(edge, "/v1/logs/spring/rulings/checkpoint"))[1] == first
    for level in ("entries", "0"):
        path = f"/v1/logs/spring/rulings/tile/{level}/000.p/1"
        answer, body = await get(edge, path)
        assert (answer.status, b"when the campaign has closed" in body) == (404, True)
    await postgres.execute(
        "UPDATE campaigns SET closes_at = $1", datetime.now(UTC) - timedelta(seconds=1)
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def shown():
        edge.parts.logs._notes.clear()
        _, note = await get(edge, "/v1/logs/spring/rulings/checkpoint")
        return Checkpoint.of_note(note.decode()).size == size + 1

    await wait_until_async(shown)
    answer, content = await get(edge, "/v1/logs/spring/rulings/tile/entries/000.p/1")
    assert (answer.status, len(content)) == (200, 29)


@pytest.mark.parametrize("counts", ["daily", "after-close", "staff"])
async def test_nothing_of_rulings_is_shown_before_the_close_where_counts_are_hidden(
    edge, postgres, logged, counts
):
    await logged.take_in()
    path = "/v1/logs/spring/rulings/checkpoint"
    assert (await get(edge, path))[0].status == 200
    await postgres.execute(
        "UPDATE campaigns SET rules = jsonb_set(rules, '{counts}', to_jsonb($1::text))", counts
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def hidden():
        return (await get(edge, path))[0].status == 404

    await wait_until_async(hidden)
    assert (await get(edge, "/v1/logs/spring/votes/checkpoint"))[0].status == 200
    await postgres.execute(
        "UPDATE campaigns SET closes_at = $1", datetime.now(UTC) - timedelta(seconds=1)
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def shown():
        return (await get(edge, path))[0].status == 200

    await wait_until_async(shown)


# The page.


async def page_of(edge, receipt):
    answer, body = await get(edge, "/receipt", params={"receipt": receipt})
    return answer, body.decode()


async def test_page_says_what_is_known_of_a_receipt(edge, logged):
    answer, page = await get(edge, "/receipt")
    assert answer.status == 200
    assert "输入点赞后得到的回执编号" in page.decode()
    answer, page = await page_of(edge, logged.receipt(41))
    assert (answer.status, "尚未写入公开账本" in page) == (200, True)
    await logged.take_in()
    answer, page = await page_of(edge, f"  {logged.receipt(41)}\n")
    assert answer.status == 200
    assert "已写入公开账本" in page
    assert "第 42 条，共 600 条" in page
    assert f'href="./v1/receipts/{logged.receipt(41)}"' in page
    assert "2026年7月5日" in page  # in the campaign's zone
    assert "不显示这次点赞给了谁" in page
    answer, page = await page_of(edge, "nonsense")
    assert (answer.status, "这不是本站发出的回执" in page) == (404, True)


async def test_page_runs_no_script_and_escapes_what_was_sent(edge, logged):
    hostile = "\"><script>alert(1)</script><img src=x onerror=alert(1)>' {{ 7*7 }}" * 20
    answer, page = await page_of(edge, hostile)
    assert answer.status == 404
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert page.count("alert(1)") < 5
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    seen = set()

    class Attributes(HTMLParser):
        def handle_starttag(self, tag, attrs):
            seen.update(name for name, _ in attrs)

    Attributes().feed(page)
    assert not {name for name in seen if name.startswith("on") or name == "style"}
