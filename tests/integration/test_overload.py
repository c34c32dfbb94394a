"""More likes at once than there is room for: who waits, who is refused; nothing is lost."""

import asyncio
import contextlib

import pytest

from tests.campaigns import add_campaign
from tests.integration.conftest import running_edge
from tests.wire import get, like, minted, wired
from voting.edge import fast_lane

CROWD = 120
ROOM = 8


@pytest.fixture
async def narrow(tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge in which few ballots may wait."""
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn, edge_waiting_max=ROOM) as running:
        yield running


async def crowd_at_once(edge):
    """The statuses of one like each, sent by a crowd in one moment on connections of their own."""
    async with contextlib.AsyncExitStack() as opened:
        wires = [await opened.enter_async_context(wired(edge)) for _ in range(CROWD)]
        tokens = [minted(edge) for _ in wires]
        for n, (wire, token) in enumerate(zip(wires, tokens, strict=True)):
            wire.send(like(token, "c001", f"click-crowd-{n}"))
        answers = await asyncio.gather(*(wire.answer(to=b"POST") for wire in wires))
    assert all(a.headers["retry-after"] == "2" for a in answers if a.status == 503)
    return [answer.status for answer in answers]


async def counted(edge):
    return (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums.get(b"1", 0)


async def test_who_is_not_refused_waits_and_is_counted(narrow, monkeypatch):
    monkeypatch.setattr(fast_lane, "_REFUSED_AT_MOST", 0)
    assert await crowd_at_once(narrow) == [201] * CROWD
    assert await counted(narrow) == CROWD


async def test_the_likes_that_were_acknowledged_are_those_that_are_counted(narrow):
    statuses = await crowd_at_once(narrow)
    assert set(statuses) <= {201, 503}
    assert statuses.count(201) == await counted(narrow) >= ROOM
    outcomes = narrow.parts.metrics.registry
    refused = outcomes.get_sample_value("dianzan_ballots_total", {"outcome": "overloaded"})
    assert refused == statuses.count(503)


async def test_a_full_store_refuses_everybody_at_once(narrow, monkeypatch):
    monkeypatch.setattr(fast_lane, "_REFUSED_AT_MOST", 0)
    narrow.parts.ballot_boxes.of(0).refusing = True
    assert await crowd_at_once(narrow) == [503] * CROWD
    assert await counted(narrow) == 0


async def test_who_waited_goes_on_when_the_store_never_answers(narrow, monkeypatch, valkey):
    """Their likes get 503 one after the other, as each batch runs out of time."""
    monkeypatch.setattr(fast_lane, "_REFUSED_AT_MOST", 0)
    narrow.parts.ballot_boxes.of(0).line._timeout_seconds = 0.05
    await valkey.client_pause(3_000)
    async with wired(narrow) as first, wired(narrow) as second:
        for n in range(ROOM):
            first.send(like(minted(narrow), "c001", f"click-first-{n}"))
        second.send(like(minted(narrow), "c002", "click-second") + get(b"/healthz"))
        assert [(await first.answer(to=b"POST")).status for _ in range(ROOM)] == [503] * ROOM
        assert (await second.answer(to=b"POST")).status == 503
        assert (await second.answer()).status == 200


async def test_a_client_that_sends_on_while_it_waits_is_not_read_for_ever(narrow, monkeypatch):
    monkeypatch.setattr(fast_lane, "_REFUSED_AT_MOST", 0)
    box = narrow.parts.ballot_boxes.of(0)
    monkeypatch.setattr(type(box), "full", True)
    async with wired(narrow) as wire:
        wire.send(get(b"/healthz") * 600_000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await wire.writer.drain()
        assert wire.writer.transport.get_write_buffer_size() > 0
        monkeypatch.undo()
        assert (await wire.answer()).status == 200
