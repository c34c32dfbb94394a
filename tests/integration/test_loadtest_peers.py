"""The bench's peers do the same work as our edge: each counts, refuses and limits alike."""

import contextlib
import itertools
import json
import secrets

import aiohttp
import psutil
import pytest
from aiohttp.test_utils import TestServer

from loadtest.crowds import ORIGIN
from loadtest.peers import bare_aiohttp
from loadtest.peers.checks import CAMPAIGN, Rules, Setup, mint
from loadtest.peers.running import PEERS, PeerAbsent, running_peer
from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from voting.ballot_box import LIBRARY

_clicks = itertools.count()


class Peer:
    """The peer under test, spoken to as our edge is."""

    def __init__(self, url, http, key):
        self._url, self._http, self._key = url, http, key

    async def token(self, campaign=None):
        return next(mint(self._key, 1))

    async def like(self, token, candidate="c001", click=None, campaign=CAMPAIGN, **options):
        body = {
            "token": token,
            "campaign": campaign,
            "candidate": candidate,
            "click": click or f"click-{next(_clicks):08}",
        }
        async with self._http.post(f"{self._url}/v1/likes", json=body, **options) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture(params=PEERS)
def peer(request):
    """Each of them in turn."""
    return PEERS[request.param]


@pytest.fixture
async def start_peer(peer, valkey_url, tmp_path):
    key = secrets.token_bytes(32)
    library = tmp_path / "library.lua"
    library.write_text(LIBRARY)
    async with contextlib.AsyncExitStack() as opened:

        async def start(**rules):
            setup = Setup(valkey_url, key, Rules(**rules), str(tmp_path), str(library))
            try:
                running = opened.enter_context(running_peer(peer.module, setup.as_environment()))
            except PeerAbsent as why:
                pytest.skip(str(why))
            http = await opened.enter_async_context(aiohttp.ClientSession())
            return Peer(f"http://127.0.0.1:{running.port}", http, key)

        yield start


@pytest.fixture
async def edge(tmp_path, valkey_url, postgres_dsn, postgres):
    """Our own, with campaigns under the rules that the peers get."""
    common = {"candidates": 744, "rules": {"candidates_per_day": 3}}
    await add_campaign(postgres, "peer", **common)
    await add_campaign(postgres, "slow", **common, limits={"per_device": "2/minute"})
    await add_campaign(postgres, "crowd", **common, limits={"per_network": "2/minute"})
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as running:
        yield running


def told(status_and_body):
    """What a client is told, but for what each makes in a way of its own."""
    status, body = status_and_body
    kept = ("outcome", "candidate", "remaining_today") if status <= 201 else ("outcome",)
    return status, {name: body.get(name) for name in kept}


async def checked_likes(stack, campaign):
    """Answers to likes of every sort."""
    token = await stack.token(campaign)

    async def like(*arguments, **options):
        return told(await stack.like(*arguments, **{"campaign": campaign, **options}))

    return [
        await like(token, click="the-same-click"),
        await like(token, click="the-same-click"),
        await like(token),
        await like(token, "c002", click="the-same-click"),
        await like(token, "c002"),
        await like(token, "c744"),
        await like(token, "c003"),
        await like(token, "c002"),
        await like(await stack.token(campaign)),
        await like(token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"), "c004"),
        await like("no token", "c004"),
        await like(token, "nobody"),
        await like(token, campaign="nowhere"),
        await like(token, click="short"),
        await like(token, headers={"Origin": "https://elsewhere.example"}),
        await like(token, "c002", headers={"Origin": ORIGIN}),
    ]


async def test_a_peer_answers_every_sort_of_like_as_our_edge_does(start_peer, edge):
    ours = await checked_likes(edge, "peer")
    assert [status for status, _ in ours] == [
        *(201, 201, 200, 400, 201, 201, 409, 200),
        *(201, 401, 401, 404, 404, 400, 403, 200),
    ]
    assert await checked_likes(await start_peer(likes_per_day=3), "peer") == ours


async def test_a_peer_counts_each_vote_once_and_keeps_it(start_peer, peer, valkey):
    started = await start_peer()
    for candidate in ("c001", "c002"):
        for n in range(5):
            status, body = await started.like(
                await started.token(), candidate, f"{candidate}-{n}-c"
            )
            assert status == 201
            assert body["likes"] > 0
    assert await valkey.hgetall(peer.tally_key) == {b"1": b"5", b"2": b"5"}
    assert await valkey.xlen(peer.journal_key) == 10


async def throttled_after(stack, campaign):
    token = await stack.token(campaign)
    return [(await stack.like(token, f"c{n:03}", campaign=campaign))[0] for n in (1, 2, 3)]


async def test_a_peer_limits_a_device_as_our_edge_does(start_peer, edge):
    ours = await throttled_after(edge, "slow")
    assert ours == [201, 201, 429]
    assert await throttled_after(await start_peer(likes_per_day=3, per_device=2), "peer") == ours


async def crowd(stack, campaign):
    return [
        (await stack.like(await stack.token(campaign), campaign=campaign))[0] for _ in range(46)
    ]


async def test_a_peer_holds_and_then_refuses_a_crowd_as_our_edge_does(
    start_peer, peer, edge, valkey
):
    # Both refill: one more counts after 30 s, one more is held after 1.5 s.
    for stack, campaign in ((edge, "crowd"), (await start_peer(per_network=2), "peer")):
        statuses = await crowd(stack, campaign)
        assert statuses[:40] == [201] * 40
        assert 429 in statuses[40:]
        assert set(statuses[40:]) <= {201, 429}
    ours = (await edge.parts.ballot_boxes.of(0).snapshot("crowd")).sums
    theirs = await valkey.hgetall(peer.tally_key)
    assert 2 <= ours[b"1"] <= 3
    assert 2 <= int(theirs[b"1"]) <= 3
    assert ours[b"h1"] >= 37
    assert int(theirs[b"h1"]) >= 37


async def test_the_bare_answer_is_like_that_to_a_counted_like(edge):
    server = TestServer(bare_aiohttp.make_app())
    await server.start_server()
    try:
        answers = []
        for url in (edge.url, str(server.make_url("")).rstrip("/")):
            body = {
                "token": await edge.token("peer"),
                "campaign": "peer",
                "candidate": "c017",
                "click": "a-click-of-mine",
            }
            async with edge.http.post(
                f"{url}/v1/likes", data=json.dumps(body), headers={"Origin": ORIGIN}
            ) as answer:
                kept = {
                    k: v for k, v in answer.headers.items() if k not in ("Date", "Content-Length")
                }
                answers.append((answer.status, kept, set(await answer.json(content_type=None))))
        assert answers[0] == answers[1]
        assert answers[0][0] == 201
    finally:
        await server.close()


def test_a_peer_ends_when_its_standard_input_does():
    with running_peer("bare_aiohttp", {}) as running:
        assert running.port > 0
        (pid,) = running.pids
        assert psutil.Process(pid).is_running()
    assert not psutil.pid_exists(pid)
