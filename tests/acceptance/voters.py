"""Voters who do not give up: they send each click until they have an answer that is one.

What they were told is what the service has promised. They keep it, and the tests hold it against
the database.
"""

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

ANSWERS = frozenset({200, 201, 400, 401, 403, 404, 409, 429})
"""Statuses after which a client does not try the same click again (429: not soon)."""


@dataclass
class Told:
    """What the voters were told."""

    statuses: Counter = field(default_factory=Counter)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Click -> candidate, of every like answered with 201."""
    retries: int = 0


class Voters:
    """Devices of one campaign, each with its own made-up address."""

    def __init__(self, edge: str, campaign: str, candidates: list[str], seed: int = 1):
        self.edge = edge
        self.campaign = campaign
        self.candidates = candidates
        self.random = random.Random(seed)
        self.told = Told()
        self._clicks = itertools.count()
        self._seed = seed

    async def vote(self, tokens: list[str], likes_per_device: int, at_once: int = 64) -> Told:
        """Every device likes this often; some like a candidate twice or more than they may."""
        devices = iter(enumerate(tokens))
        connector = aiohttp.TCPConnector(limit=at_once, force_close=False)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:

            async def one_after_another():
                for number, token in devices:
                    for candidate in self.random.choices(self.candidates, k=likes_per_device):
                        await self._like(http, number, token, candidate)

            await asyncio.gather(*(one_after_another() for _ in range(at_once)))
        return self.told

    async def _like(self, http, number, token, candidate):
        click = f"click-{self._seed}-{next(self._clicks):07}"
        body = {
            "token": token,
            "campaign": self.campaign,
            "candidate": candidate,
            "click": click,
        }
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        headers = {"X-Forwarded-For": address}
        for attempt in range(400):
            try:
                async with http.post(f"{self.edge}/v1/likes", json=body, headers=headers) as answer:
                    status = answer.status
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
            if status in ANSWERS:
                self.told.statuses[status] += 1
                if status == 201:
                    self.told.acknowledged[click] = candidate
                return
            assert status in (0, 503), f"an answer that the contract does not know: {status}"
            self.told.retries += 1
            await asyncio.sleep(0.02 if attempt < 50 else 0.2)
        raise AssertionError(f"no answer to {click}")
