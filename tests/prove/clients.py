"""Who likes: each client keeps a file of its own, in which a line is on the disk before it goes on.

    sent CLICK CANDIDATE      before the first try
    told CLICK STATUS         when there was an answer that is one
    none CLICK                when the client gave up: nobody knows

So a like that was acknowledged is in a file, whatever became of the service, and whatever is stored
was sent.
"""

import asyncio
import itertools
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

_TRY_SECONDS = 3.0
_PAUSE_SECONDS = 0.02
_REST_SECONDS = 0.06
"""Between two likes, at most: a dozen clients give some 300 a second."""
_ANSWERS = frozenset({200, 201, 403, 409, 429})
LIKES_PER_DEVICE = 4


@dataclass
class Told:
    """What the clients' files say, all together."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """Click -> candidate, of what was answered 201."""
    unknown: dict[str, str] = field(default_factory=dict)
    """The same of what has no answer."""
    statuses: Counter[int] = field(default_factory=Counter)


def read_files(folder: Path) -> Told:
    """What was told until now, out of the files alone."""
    told = Told()
    for path in sorted(folder.glob("client-*")):
        sent: dict[str, str] = {}
        for line in path.read_text().splitlines():
            what, click, *rest = line.split(" ")
            if what == "sent":
                sent[click] = rest[0]
            elif what == "told":
                told.statuses[int(rest[0])] += 1
                candidate = sent.pop(click)
                if rest[0] == "201":
                    told.acknowledged[click] = candidate
        told.unknown |= sent
    return told


class Client:
    """One of them."""

    def __init__(self, number, folder, world, seed):
        self._number = number
        self._world = world
        self._random = random.Random(f"{seed} {number}")
        self._clicks = itertools.count()
        self._file = (folder / f"client-{number:03}").open("a", buffering=1)
        self.retries = 0
        self.acknowledged = 0
        self.liking = False
        """A click of it has no answer yet."""

    def _write(self, *words):
        self._file.write(" ".join(map(str, words)) + "\n")
        os.fsync(self._file.fileno())

    def close(self):
        self._file.close()

    async def like_until(self, stop: asyncio.Event, rest: asyncio.Event) -> None:
        """New devices, some likes each, until `stop`; pauses while `rest` is not set."""
        timeout = aiohttp.ClientTimeout(total=_TRY_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while not stop.is_set():
                token = self._world.new_token()
                address = f"10.{self._random.randrange(256)}.{self._random.randrange(256)}.1"
                for candidate in self._random.sample(self._world.candidates, LIKES_PER_DEVICE):
                    await rest.wait()
                    if stop.is_set():
                        return
                    self.liking = True
                    await self._like(http, token, address, candidate, stop)
                    self.liking = False
                    await asyncio.sleep(self._random.uniform(0, _REST_SECONDS))

    async def _like(self, http, token, address, candidate, stop):
        click = f"click-{self._number:03}-{next(self._clicks):07}"
        self._write("sent", click, candidate)
        body = {
            "token": token,
            "campaign": self._world.campaign_id,
            "candidate": candidate,
            "click": click,
        }
        headers = {"X-Forwarded-For": address}
        # Some give up soon: then nobody knows.
        for attempt in range(self._random.choice((1, 3, 200))):
            edge = self._random.choice(self._world.edges)
            try:
                async with http.post(f"{edge}/v1/likes", json=body, headers=headers) as answer:
                    status = answer.status
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
            if status in _ANSWERS:
                self._write("told", click, status)
                self.acknowledged += status == 201
                return
            assert status in (0, 503), f"an answer that the contract does not know: {status}"
            self.retries += 1
            if stop.is_set():
                break
            await asyncio.sleep(_PAUSE_SECONDS if attempt < 20 else 10 * _PAUSE_SECONDS)
        self._write("none", click)
