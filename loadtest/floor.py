"""The floor under the store: the commands that a batch of likes needs, and nothing else.

The same crowd, the same bytes in the same keys, but no function: one transaction per batch, sent
from here, with every answer known beforehand. What the store takes for it is hashing, memory, the
append-only file and its fsync.
"""

import hashlib
import itertools
import socket
from collections.abc import Iterator, Sequence

import hiredis

from loadtest.crowds import Like, plan_likes
from loadtest.processes import cpu_seconds
from loadtest.stacks import DEVICES_AT_ONCE, LIKES_PER_DEVICE
from loadtest.store import Store

_VOTE_BYTES = 57
_LIKE_BYTES = 15
_HEADER_BYTES = 34
_DAY, _NETWORKS, _TALLY, _HEAD, _JOURNAL = b"day", b"networks", b"tally", b"head", b"journal"


def measure_bare_commands(
    store: Store, *, likes: int, batch: int, candidates: int, seed: int
) -> float:
    """Microseconds of the store's CPU per like."""
    commands = list(_transactions(likes, batch, candidates, seed))
    replies = hiredis.Reader()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(store.socket))
        before = cpu_seconds([store.pid])
        for packed, answers in commands:
            line.sendall(packed)
            for _ in range(answers):
                while (reply := replies.gets()) is False:
                    replies.feed(line.recv(1 << 16))
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
        return (cpu_seconds([store.pid]) - before) / likes * 1e6


def _transactions(
    likes: int, batch: int, candidates: int, seed: int
) -> Iterator[tuple[bytes, int]]:
    """(bytes of a batch's commands, how many replies they have)."""
    devices = int(likes / LIKES_PER_DEVICE) + DEVICES_AT_ONCE
    crowd = itertools.islice(plan_likes(candidates, seed=seed, devices=devices), likes)
    records: dict[int, bytes] = {}
    tally: dict[int, int] = {}
    while given := list(itertools.islice(crowd, batch)):
        ids = [_id(like.device, seed) for like in given]
        fields = [
            b"%d" % like.candidate for like in {each.candidate: each for each in given}.values()
        ]
        for like in given:
            record = records.get(like.device, bytes(8))
            records[like.device] = record + bytes(_LIKE_BYTES)
            tally[like.candidate] = tally.get(like.candidate, 0) + 1
        words: Sequence[tuple[bytes, ...]] = (
            (b"MULTI",),
            (b"TIME",),
            (b"HMGET", _HEAD, b"replid", b"epoch", b"seq"),
            (b"HMGET", _DAY, *(device for device, _ in ids)),
            (b"HMGET", _NETWORKS, *(network for _, network in ids)),
            (b"XADD", _JOURNAL, b"*", b"e", bytes(_HEADER_BYTES + _VOTE_BYTES * len(given))),
            (b"HSET", _HEAD, b"seq", b"1"),
            (b"HSET", _DAY, *_pairs(given, ids, records)),
            (b"HSET", _NETWORKS, *itertools.chain(*((network, bytes(16)) for _, network in ids))),
            (b"HMGET", _TALLY, *fields),
            (b"HSET", _TALLY, *itertools.chain(*((f, b"%d" % tally[int(f)]) for f in fields))),
            (b"EXEC",),
        )
        yield b"".join(hiredis.pack_command(each) for each in words), len(words)  # type: ignore[arg-type]


def _pairs(
    given: list[Like], ids: list[tuple[bytes, bytes]], records: dict[int, bytes]
) -> Iterator[bytes]:
    for like, (device, _) in zip(given, ids, strict=True):
        yield device
        yield records[like.device]


def _id(device: int, seed: int) -> tuple[bytes, bytes]:
    """What stands for a device, and for its network."""
    digest = hashlib.blake2b(b"%d %d" % (seed, device), digest_size=16).digest()
    return digest[:8], digest[8:]
