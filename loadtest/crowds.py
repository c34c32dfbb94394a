"""Crowds: who likes whom, in which order, and the bytes of each request.

A crowd is drawn beforehand and from a seed, so that two stacks can be shown the same one and no
drawing happens while anything is measured.
"""

import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

ZIPF_EXPONENT = 0.9
"""How much more the first candidates get than the last ones."""

ORIGIN = "https://www.example.cn"
"""Of the portal whose page the likes come from; the campaign of a load run allows it."""

HOST = "likes.example.cn"

_AT_ONCE = 1_000
"""Devices that are busy at any moment: one device's likes do not come in a row."""

_AGENT = (
    "User-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/138.0.0.0 Mobile Safari/537.36\r\n"
)
# As Chrome on a phone sends it from the portal's page: text/plain needs no preflight.
_HEAD = (
    "POST {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "Connection: keep-alive\r\n"
    "Content-Length: {length}\r\n"
    'sec-ch-ua-platform: "Android"\r\n'
    f"{_AGENT}"
    'sec-ch-ua: "Chromium";v="138", "Not)A;Brand";v="24"\r\n'
    "Content-Type: text/plain;charset=UTF-8\r\n"
    "sec-ch-ua-mobile: ?1\r\n"
    "Accept: */*\r\n"
    "Origin: {origin}\r\n"
    "Sec-Fetch-Site: cross-site\r\n"
    "Sec-Fetch-Mode: cors\r\n"
    "Referer: {origin}/\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: zh-CN,zh;q=0.9\r\n"
    "X-Forwarded-For: {address}\r\n"
    "\r\n"
)
_GET = (
    "GET {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "Connection: keep-alive\r\n"
    f"{_AGENT}"
    "Accept: */*\r\n"
    "Origin: {origin}\r\n"
    "Referer: {origin}/\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: zh-CN,zh;q=0.9\r\n"
    "{more}"
    "\r\n"
)
_BODY = (
    '{{"token":"{token}","campaign":"{campaign}","candidate":"{candidate}",{seen}'
    '"click":"{click}"}}'
)
_SEEN = '"view":"{view}","dwell_ms":4200,'


class Like(NamedTuple):
    """One like that somebody is going to give."""

    device: int
    """0, 1, 2 ... in the order of their first likes."""
    candidate: int
    """Index in the list of candidates."""


def plan_likes(
    candidates: int, *, seed: int, likes_per_device: tuple[int, int] = (1, 10), devices: int
) -> Iterator[Like]:
    """All likes of so many devices, mixed: each device gives `likes_per_device` (from, to; drawn
    evenly), every one for another candidate, drawn by Zipf."""
    dice = random.Random(seed)
    weights = list(itertools.accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(candidates)))
    places = range(candidates)
    fewest, most = (min(likes, candidates) for likes in likes_per_device)

    def wishes() -> list[int]:
        wanted: dict[int, None] = {}
        likes = dice.randint(fewest, most)
        while len(wanted) < likes:
            wanted[dice.choices(places, cum_weights=weights)[0]] = None
        return list(wanted)

    numbers = itertools.count()
    to_come = max(0, devices - _AT_ONCE)
    busy = [(-1, wishes()) for _ in range(devices - to_come)]
    while busy:
        at = int(dice.random() * len(busy))
        device, wanted = busy[at]
        if device < 0:
            device = next(numbers)
            busy[at] = (device, wanted)
        yield Like(device, wanted.pop())
        if not wanted:
            if to_come:
                to_come -= 1
                busy[at] = (-1, wishes())
            else:
                busy[at] = busy[-1]
                busy.pop()


def address_of(device: int, seed: int) -> str:
    """Where a device is: one of 16 million addresses, nearly always one of its own."""
    drawn = (device * 2_654_435_761 + seed * 40_503) & 0xFFFFFF  # Knuth's multiplicative hash
    return f"11.{drawn >> 16}.{drawn >> 8 & 255}.{drawn & 255}"


def build_post(path: str, body: str, address: str, host: str = HOST, origin: str = ORIGIN) -> bytes:
    """The bytes of a POST as a page sends it."""
    length = len(body.encode())
    head = _HEAD.format(path=path, host=host, origin=origin, length=length, address=address)
    return (head + body).encode()


@functools.lru_cache(maxsize=64)
def build_get(path: str, host: str = HOST, origin: str = ORIGIN, etag: str = "") -> bytes:
    """The bytes of a GET as a page sends it; with an ETag it asks for what is newer. Remembered:
    it is made between two answers, and making it costs 2 us."""
    more = f"If-None-Match: {etag}\r\n" if etag else ""
    return _GET.format(path=path, host=host, origin=origin, more=more).encode()


def build_request(
    campaign: str,
    candidate: str,
    token: str,
    click: str,
    address: str,
    host: str = HOST,
    origin: str = ORIGIN,
    view: str = "",
) -> bytes:
    """The bytes of one like; some 850 with the token and the view of the service. The body ends
    with the click."""
    seen = _SEEN.format(view=view) if view else ""
    body = _BODY.format(token=token, campaign=campaign, candidate=candidate, click=click, seen=seen)
    return build_post("/v1/likes", body, address, host, origin)


def with_another_click(request: bytes) -> bytes:
    """The same like by another click: ids end in -NNNNNNNN, and here in rNNNNNNNN."""
    return request[:-11] + b"r" + request[-10:]


def build_requests(
    likes: Iterable[Like],
    *,
    campaign: str,
    candidates: Sequence[str],
    tokens: Sequence[str],
    seed: int,
    host: str = HOST,
    origin: str = ORIGIN,
    view: str = "",
) -> Iterator[bytes]:
    """The bytes of these likes, each with a click id of its own."""
    for number, (device, candidate) in enumerate(likes):
        yield build_request(
            campaign,
            candidates[candidate],
            tokens[device],
            f"{seed:08x}-{number:08d}",
            address_of(device, seed),
            host=host,
            origin=origin,
            view=view,
        )
