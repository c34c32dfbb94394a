"""Counts as the load generator asks for them: with the ETag of what it has."""

import asyncio

import pytest

from loadtest.crowds import build_get
from loadtest.voters import Order, carry_out, etag_of


@pytest.mark.parametrize("name", ["ETag", "Etag", "etag"])
def test_an_etag_is_found_however_it_is_spelled(name):
    answer = f'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{name}: W/"a-1"\r\nX: y\r\n\r\n{{}}'
    assert etag_of(answer.encode()) == 'W/"a-1"'


def test_an_etag_is_read_from_the_head_alone():
    body = b'\r\netag: "x"\r\n'
    assert etag_of(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + body) == ""


def test_the_etag_is_sent_back_as_it_came():
    assert b'\r\nIf-None-Match: "a-1"\r\n' in build_get("/v1/campaigns/c/counts", etag='"a-1"')
    assert b"If-None-Match" not in build_get("/v1/campaigns/c/counts")


class Counts(asyncio.Protocol):
    """A server of counts that never change."""

    def __init__(self, asked):
        self._asked = asked

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._asked.append(b'\r\nIf-None-Match: "a"\r\n' in data)
        known = self._asked[-1]
        self._transport.write(
            b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'
            if known
            else b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 2\r\n\r\n{}'
        )


@pytest.mark.parametrize(
    ("kind", "whole"), [("counts", 50), ("counts-whole", 100), ("counts-known", 1)]
)
async def test_counts_are_asked_for_whole_or_as_what_is_known(kind, whole, tmp_path):
    (tmp_path / "tokens").touch()
    asked = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Counts(asked), "127.0.0.1", 0)
    async with server:
        report = await carry_out(
            Order(
                port=server.sockets[0].getsockname()[1],
                campaign="c",
                candidates=["a"],
                tokens_file=str(tmp_path / "tokens"),
                mix={kind: 1.0},
                requests_max=100,
                connections=1,
                warm_up_seconds=0,
                seconds=30,
            )
        )
    assert asked.count(False) == whole
    assert report.answers == {200: whole} | ({304: 100 - whole} if whole < 100 else {})
