"""Counts as the load generator asks for them: with the ETag of what it has."""

import pytest

from loadtest.crowds import build_get
from loadtest.voters import etag_of


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
