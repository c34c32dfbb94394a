"""The rehearsal through HTTP: a small crowd against a running service, request by request, as
phones and scripts send them.

What it shows that the fast rehearsal cannot: that the service, with its edge, its store and its
challenges, answers people and cheats as the rules say. What it cannot show: anything that needs
days or millions (token ages, the near-line passes), and held votes, for those are answered as
counted ones; `dianzan tally --campaign ID --json` says afterwards how many were held.

Bounded: as many voters as asked for, over as many seconds, through at most CONNECTIONS connections;
what is not through GRACE_SECONDS after that is given up and reported as such.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import multiprocessing
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from antifraud.networks import NetworkClass, NetworkTable, builtin, prefixes_of
from loadtest.rehearsal.ballots import stream
from loadtest.rehearsal.crowd import LIKES
from loadtest.rehearsal.population import ZIPF_EXPONENT, draw
from loadtest.swarm import candidates_of
from loadtest.targets import Target
from loadtest.voters import BadAnswer, read_answer

CONNECTIONS = 64
GRACE_SECONDS = 30.0
_ANSWER_WITHIN_SECONDS = 20.0
_VISIT_MAX_SECONDS = 15.0
"""Nobody here looks at all their cards together for longer: the run is bounded."""
_SOLVE_BITS_MAX = 22
"""No challenge of the service is larger; what is, is no challenge of it."""

_MODELS = tuple(
    f"{maker}{number}"
    for maker in ("SM-S", "V2", "PG", "22", "ALN-AL", "M2", "RMX", "NTH-AN")
    for number in range(301, 331)
)
"""Made-up phone models in the shape of real ones."""
_CHROME = "138.0.0.0"


@dataclass(frozen=True, slots=True)
class Voter:
    """One device of the crowd."""

    group: str
    starts: float
    """Seconds since the run's begin."""
    address: str
    user_agent: str
    browser: bool
    """Whether it sends the heads that a browser sends."""
    candidates: tuple[int, ...]
    """Places in the list of candidates, one after the other."""
    dwell_seconds: float
    solves: bool = True
    replays_view: bool = False
    """Shows the group's first view, which is another device's."""


# --- who comes ------------------------------------------------------------------------------------


def draw_voters(candidates: int, *, votes: int, seconds: float, seed: int) -> list[Voter]:
    """Some `votes` likes of honest people, a campus that votes together among them, and six attacks
    of a twenty-fifth of that each: their challenges are solved here, on this machine."""
    dice = stream(seed, "live")
    addresses = _Addresses(builtin(), dice)
    voters = _honest(dice, addresses, candidates, votes, seconds)
    size = max(20, votes // 25)
    attacks: list[tuple[str, list[str], str | None, dict[str, Any]]] = [
        ("A1 none", addresses.some(NetworkClass.DATACENTRE, 2), None, {"browser": False}),
        ("A1 ua", addresses.some(NetworkClass.DATACENTRE, 2), "mix", {}),
        ("A2 ua", addresses.neighbours(), "mix", {}),
        ("A9 none", addresses.some(NetworkClass.MOBILE, 1), "one", {}),
        ("A12 ua", addresses.some(NetworkClass.MOBILE, 30), "mix", {"replays_view": True}),
        ("A13 ua", addresses.some(NetworkClass.DATACENTRE, 20), "mix", {"solves": False}),
    ]
    for group, pool, agents, more in attacks:
        target = int(dice.integers(0, candidates))
        begins = float(dice.uniform(0, 0.4)) * seconds
        one = _phone(dice)
        for number in range(size):
            agent = {None: "python-requests/2.32.3", "one": one, "mix": _phone(dice)}[agents]
            voters.append(
                Voter(
                    group,
                    begins + number * 0.4 * seconds / size,
                    pool[number % len(pool)],
                    agent,
                    more.get("browser", True),
                    (target,),
                    0.3,
                    more.get("solves", True),
                    more.get("replays_view", False),
                )
            )
    return sorted(voters, key=lambda voter: voter.starts)


def _honest(
    dice: np.random.Generator,
    addresses: "_Addresses",
    candidates: int,
    votes: int,
    seconds: float,
) -> list[Voter]:
    weights = (np.arange(candidates) + 1.0) ** -ZIPF_EXPONENT
    carriers = addresses.some(NetworkClass.MOBILE, max(2, votes // 150))
    campus = addresses.some(NetworkClass.CAMPUS, 1)[0]
    professor = int(dice.integers(0, candidates))
    voters: list[Voter] = []
    given = 0
    while given < votes:
        kind = dice.random()
        if kind < 0.12:
            # All within a fifth of the time, from one address, for one candidate.
            group, address = "campus-burst", campus
            starts = (0.3 + 0.2 * float(dice.random())) * seconds
            wished: tuple[int, ...] = (professor,)
        else:
            group = "mobile" if kind < 0.6 else "home"
            address = carriers[int(dice.integers(len(carriers)))]
            if group == "home":
                address = addresses.some(NetworkClass.MOBILE, 1)[0]
            starts = float(dice.random()) * seconds
            likes = 1 + int(draw(dice, LIKES[:5], 1)[0])
            wished = tuple(dict.fromkeys(int(place) for place in draw(dice, weights, likes)))
        dwell = 0.6 + float(dice.lognormal(np.log(3.0), 0.7))
        dwell = min(dwell, _VISIT_MAX_SECONDS / len(wished))
        voters.append(Voter(group, starts, address, _phone(dice), True, wished, dwell))
        given += len(wished)
    return voters


def _phone(dice: np.random.Generator) -> str:
    """A User-Agent of some phone, inside WeChat or not."""
    model = _MODELS[int(dice.integers(len(_MODELS)))]
    agent = (
        f"Mozilla/5.0 (Linux; Android 14; {model} Build/UP1A.231005.007) AppleWebKit/537.36 "
        f"(KHTML, like Gecko) Version/4.0 Chrome/{_CHROME} Mobile Safari/537.36"
    )
    return agent + " MicroMessenger/8.0.50" if dice.random() < 0.6 else agent


class _Addresses:
    """IPv4 addresses that the built-in table of networks puts into a class."""

    _TRIES = 200_000

    def __init__(self, table: NetworkTable, dice: np.random.Generator) -> None:
        self._table = table
        self._dice = dice
        self._found: dict[NetworkClass, list[str]] = {}

    def some(self, network_class: NetworkClass, count: int) -> list[str]:
        """So many of a class. Drawn by chance from the whole of IPv4, so a class with few
        addresses takes a while."""
        found = self._found.setdefault(network_class, [])
        tries = 0
        while len(found) < count and tries < self._TRIES:
            for number in self._dice.integers(0x01000000, 0xDF000000, 4_096).tolist():
                address = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
                network = self._table.look_up(prefixes_of(address))
                if network.asn:
                    self._found.setdefault(network.network_class, []).append(address)
            tries += 4_096
            found = self._found[network_class]
        taken, self._found[network_class] = found[:count], found[count:]
        # Better another class than none: a table may hold no campus.
        return taken or self.some(NetworkClass.MOBILE, count)

    def neighbours(self) -> list[str]:
        """Every address of one /24 of a hosting company."""
        first = self.some(NetworkClass.DATACENTRE, 1)[0].rpartition(".")[0]
        return [f"{first}.{last}" for last in range(1, 255)]


# --- what they do ---------------------------------------------------------------------------------


class _GivenUp(Exception):
    """No answer, or none that can be read."""


class _Lines:
    """Connections to the service, each used by one request at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def post(self, voter: Voter, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """(status, the answer's JSON); _GivenUp."""
        async with self._room:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_SECONDS):
                    return await self._ask(_request(self._target, voter, path, body))
            except (OSError, TimeoutError, BadAnswer, ValueError, EOFError) as why:
                raise _GivenUp(f"{path}: {why or type(why).__name__}") from None

    async def _ask(self, request: bytes) -> tuple[int, Any]:
        if self._free:
            reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection(self._target.address, self._target.port)
        kept = False
        try:
            writer.write(request)
            received = b""
            while (answer := read_answer(received)) is None:
                more = await reader.read(65_536)
                if not more:
                    raise EOFError("the connection was closed")
                received += more
            status, whole = answer
            head, _, body = received[:whole].partition(b"\r\n\r\n")
            kept = b"connection: close" not in head.lower() and len(received) == whole
            return status, json.loads(body) if body else None
        finally:
            if kept:
                self._free.append((reader, writer))
            else:
                writer.close()

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _request(target: Target, voter: Voter, path: str, body: dict[str, Any]) -> bytes:
    packed = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {target.host_header}",
        f"Content-Length: {len(packed)}",
        f"X-Forwarded-For: {voter.address}",
        f"User-Agent: {voter.user_agent}",
        "Accept: */*",
    ]
    if voter.browser:
        lines += [
            "Content-Type: text/plain;charset=UTF-8",
            f"Origin: {target.url}",
            f"Referer: {target.url}/",
            "Sec-Fetch-Site: same-origin",
            "Sec-Fetch-Mode: cors",
            "Accept-Language: zh-CN,zh;q=0.9",
        ]
    else:
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + packed


class _Run:
    """One crowd on its way."""

    def __init__(
        self, target: Target, campaign: str, candidates: Sequence[str], solvers: Executor
    ) -> None:
        self._lines = _Lines(target)
        self._solvers = solvers
        self._campaign = campaign
        self._candidates = candidates
        self._first_view: dict[str, str] = {}
        self.answers: dict[str, Counter[str]] = {}
        self.problem = ""
        """What the last request that was given up met."""

    def note(self, voter: Voter, what: str, times: int = 1) -> None:
        self.answers.setdefault(voter.group, Counter())[what] += times

    async def vote(self, voter: Voter) -> None:
        """A device, from its token to its last like."""
        self.note(voter, "devices")
        left = len(voter.candidates)
        try:
            token, view = await self._device(voter)
            if token is None:
                self.note(voter, "no-device", left)
                return
            if voter.replays_view:
                view = self._first_view.setdefault(voter.group, view)
            for place in voter.candidates:
                await asyncio.sleep(voter.dwell_seconds)
                token, word = await self._like(voter, token, view, place)
                self.note(voter, word)
                left -= 1
        except _GivenUp as why:
            self.problem = str(why)
            self.note(voter, "given-up", left)
        except asyncio.CancelledError:
            self.note(voter, "given-up", left)
            raise

    async def _device(self, voter: Voter) -> tuple[str | None, str]:
        status, told = await self._lines.post(voter, "/v1/devices", {"campaign": self._campaign})
        if status != 201:
            return None, ""
        if "challenge" not in told:
            return told["token"], told["view"]
        self.note(voter, "first-challenges")
        if not voter.solves:
            return None, ""
        return await self._prove(voter, told["token"], told["challenge"])

    async def _prove(
        self, voter: Voter, token: str, challenge: dict[str, Any]
    ) -> tuple[str | None, str]:
        loop = asyncio.get_running_loop()
        solution = await loop.run_in_executor(self._solvers, solve, challenge)
        status, told = await self._lines.post(
            voter, "/v1/devices/proof", {"token": token, "solution": solution}
        )
        return (told["token"], told["view"]) if status == 200 else (None, "")

    async def _like(self, voter: Voter, token: str, view: str, place: int) -> tuple[str, str]:
        """(the token as it is afterwards, what was answered)"""
        body = {
            "token": token,
            "campaign": self._campaign,
            "candidate": self._candidates[place],
            "click": secrets.token_urlsafe(12),
            "view": view,
            "dwell_ms": round(voter.dwell_seconds * 1000),
        }
        status, told = await self._lines.post(voter, "/v1/likes", body)
        if status == 428:
            self.note(voter, "challenges")
            if not voter.solves:
                return token, "left"
            better, _ = await self._prove(voter, token, told["challenge"])
            if better is None:
                return token, "not-proven"
            token = better
            status, told = await self._lines.post(voter, "/v1/likes", body | {"token": token})
        return token, str(told.get("outcome", status)) if told else str(status)

    async def close(self) -> None:
        await self._lines.close()


def solve(challenge: dict[str, Any]) -> str:
    """A solution as the widget hands it in; ValueError where it is no challenge of the service."""
    try:
        parameters = challenge["parameters"]
        start = bytes.fromhex(parameters["salt"]) + bytes.fromhex(parameters["nonce"])
        wanted = bytes.fromhex(parameters["keyPrefix"])
        if parameters["algorithm"] != "SHA-256" or parameters["cost"] != 1:
            raise ValueError("another algorithm")
    except (KeyError, TypeError) as why:
        raise ValueError(f"no challenge: {why}") from None
    begun = hashlib.sha256(start)
    for counter in range(1 << _SOLVE_BITS_MAX):
        tried = begun.copy()
        tried.update(counter.to_bytes(4, "big"))
        if tried.digest().startswith(wanted):
            solution = {"counter": counter, "derivedKey": tried.hexdigest()}
            payload = {"challenge": challenge, "solution": solution}
            return base64.b64encode(json.dumps(payload).encode()).decode()
    raise ValueError("no counter solves it")


def rehearse_live(
    target: Target,
    campaign: str,
    *,
    votes: int,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Send a crowd; what was answered to each group. CannotLoad where there is no such campaign.

    {"target", "campaign", "seed", "seconds", "groups": {group: {"devices", "likes", "answers":
    {outcome: likes}, "challenged"}}, "problem"}
    """
    candidates = candidates_of(target, campaign)
    voters = draw_voters(len(candidates), votes=votes, seconds=seconds, seed=seed)
    say(f"{len(voters):,} devices over {seconds:g} s ...")
    run = asyncio.run(_send(target, campaign, candidates, voters, seconds))
    planned: Counter[str] = Counter()
    for voter in voters:
        planned[voter.group] += len(voter.candidates)
    return {
        "target": target.url,
        "campaign": campaign,
        "seed": seed,
        "seconds": seconds,
        "groups": {group: _group(run.answers[group], planned[group]) for group in sorted(planned)},
        "problem": run.problem,
    }


_NO_ANSWERS = ("devices", "first-challenges", "challenges")


def _group(answers: Counter[str], likes: int) -> dict[str, Any]:
    return {
        "devices": answers["devices"],
        "likes": likes,
        "challenged": answers["first-challenges"] + answers["challenges"],
        "answers": {word: n for word, n in sorted(answers.items()) if word not in _NO_ANSWERS},
    }


async def _send(
    target: Target,
    campaign: str,
    candidates: Sequence[str],
    voters: Sequence[Voter],
    seconds: float,
) -> _Run:
    loop = asyncio.get_running_loop()
    # In processes of their own, and not in the way of anybody who waits for an answer. Spawned: a
    # fork would take this loop along.
    solvers = ProcessPoolExecutor(
        os.cpu_count(), multiprocessing.get_context("spawn"), initializer=os.nice, initargs=(10,)
    )
    run = _Run(target, campaign, candidates, solvers)
    began = loop.time()

    async def one(voter: Voter) -> None:
        await asyncio.sleep(max(0.0, began + voter.starts - loop.time()))
        await run.vote(voter)

    tasks = [asyncio.create_task(one(voter)) for voter in voters]
    try:
        _, late = await asyncio.wait(tasks, timeout=seconds + GRACE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            run.problem = f"{len(late):,} devices, still busy {GRACE_SECONDS:g} s after the end"
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (failure := task.exception()) is not None:
                raise failure
    finally:
        await run.close()
        solvers.shutdown(wait=True, cancel_futures=True)
    return run


def as_text(document: dict[str, Any]) -> str:
    """The report for a terminal."""
    from loadtest.report import table

    words = sorted({word for each in document["groups"].values() for word in each["answers"]})
    rows = [
        (
            group,
            f"{each['devices']:,}",
            f"{each['likes']:,}",
            f"{each['challenged']:,}",
            *(f"{each['answers'].get(word, 0):,}" for word in words),
        )
        for group, each in document["groups"].items()
    ]
    lines = [
        f"Rehearsal with {document['target']}  campaign {document['campaign']}  "
        f"seed {document['seed']}  {document['seconds']:g} s",
        "",
        table(("group", "devices", "likes", "challenges", *words), rows),
        "",
        "`counted` is what a held like is told as well: `dianzan tally --campaign "
        f"{document['campaign']} --json` says how many were held. `no-device`: no token, or left "
        "at its first challenge; `left`: left at a later one.",
    ]
    if document["problem"]:
        lines.append(f"Given up, the last of them: {document['problem']}")
    return "\n".join(lines)
