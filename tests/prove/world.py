"""The whole service as separate processes, each of which can be killed, stopped and cut off.

    clients ──► edge-0, edge-1 ──[store of the edges]──► Valkey, two shards
                      └──────────[database]────────────► Postgres
    flush, watch, publish ──[store of the rest]──► Valkey;  ──[database]──► Postgres

With `pair` the store is a primary and its replica, three Sentinels say which is which, and likes
are acknowledged when both have them on their disks; nothing stands between them and the service
then.

Names in brackets are proxies (proxy.py). What was killed is started again by itself, as a
supervisor would. The store's clock can be moved where libfaketime is there, and its disk filled
where a tmpfs can be mounted; `can` says so.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import redis.asyncio as redis

from deploy.local.servers import EmbeddedPostgres, EmbeddedValkey
from tally.migrate import migrate
from tally.reconcile import NotComparable, reconcile
from tally.tallies import read_campaign, read_hot_tally
from tests.conftest import wait_until_async
from tests.prove.checker import Kept
from tests.prove.proxy import Proxy, Way
from tests.topologies import HOST, Node, connected_replica, free_ports, in_sync, in_touch
from voting.device import Mint
from voting.hot_state import HotState
from voting.keys import Keys

SHARDS = 2
CAMPAIGN = "proof"
CANDIDATES = 20
SETTLED_SECONDS = 120
_DISK_BYTES = 512 << 20
_STORE_MB = 192
_PROGRAM = Path(sys.executable).with_name("dianzan")


def _faketime() -> str | None:
    """libfaketime's library, where its package is installed."""
    if (spec := importlib.util.find_spec("libfaketime")) is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.rglob("libfaketime.so.1"))
    return str(found[0]) if found else None


class Part:
    """One process, started again when it ends unless it is held back."""

    def __init__(self, name, command, environment, log, before=lambda: None):
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._before = before
        self._process: subprocess.Popen | None = None
        self.held_back = False
        self.starts = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self._before()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def send(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def end(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(30)


class World:
    """Open it with `async with`. Everything it started ends with it."""

    def __init__(self, seed: int, *, pair: bool = False, replicas: int = 1) -> None:
        self.seed = seed
        self.pair = pair
        self._replicas = replicas
        self.parts: dict[str, Part] = {}
        self.proxies: dict[str, Proxy] = {}
        self.edges: list[str] = []
        self.campaign_id = CAMPAIGN
        self.candidates = [f"c{n:03}" for n in range(1, CANDIDATES + 1)]
        self.can: dict[str, bool] = {}
        self._made = 0

    async def __aenter__(self) -> "World":
        self._stack = contextlib.AsyncExitStack()
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dz-")))
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        if self.pair:
            self._prepare_pair()
        else:
            self._prepare_store()
        self._postgres = EmbeddedPostgres(self.folder / "database")
        self._keeping: asyncio.Task | None = None
        self._stack.push_async_callback(self._end)
        self._add("postgres", self._postgres.command, dict(os.environ), self._postgres.prepare)
        for part in self.parts.values():
            part.start()
        await wait_until_async(_soon(self._postgres.is_ready), 60, "postgres")
        targets = {"database": self._postgres.socket_path}
        if self.pair:
            await self._until_a_pair()
        else:
            await wait_until_async(_soon(self._valkey.is_ready), 60, "valkey")
            targets |= {
                "store of the edges": self._valkey.socket_path,
                "store of the rest": self._valkey.socket_path,
            }
        for name, target in targets.items():
            self.proxies[name] = Proxy(name, str(target))
            await self.proxies[name].start()
        await migrate(self._postgres.url, shards=SHARDS)
        await self._make_campaign()
        self._keys = Keys.load_or_make(self.folder / "data" / "secrets" / "keys.json")
        self._mint = Mint(self._keys)
        for number in range(2):
            port = _free_port()
            self.edges.append(f"http://127.0.0.1:{port}")
            self._own(
                f"edge-{number}",
                ("edge", "--worker", str(number)),
                "store of the edges",
                DIANZAN_EDGE_PORT=str(port),
            )
        for name in ("flush", "watch", "publish"):
            self._own(name, (name,), "store of the rest")
        for name in ("edge-0", "edge-1", "flush", "watch", "publish"):
            self.parts[name].start()
        self._keeping = asyncio.create_task(self._keep())
        await self.ready()

    def _prepare_store(self) -> None:
        home = self.folder / "store"
        home.mkdir(mode=0o700)
        self.can["fill the disk"] = os.geteuid() == 0 and (
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "proof", str(home)],
                check=False,
                capture_output=True,
            ).returncode
            == 0
        )
        if self.can["fill the disk"]:
            # Lazily: a process that was just killed may hold it a moment longer.
            self._stack.callback(subprocess.run, ["umount", "-l", str(home)], check=False)
        home.chmod(0o700)
        self._store_home = home
        self._valkey = EmbeddedValkey(home, memory_mb=_STORE_MB)
        self._hot_url = self._valkey.url
        self._add("valkey", self._valkey.command, self._with_a_clock(), self._valkey.prepare)

    def _with_a_clock(self) -> dict[str, str]:
        """The environment of a store whose clock can be moved, where that is possible."""
        environment = dict(os.environ)
        self._clock = self.folder / "clock"
        library = _faketime()
        self.can["move the clock"] = library is not None
        if library is not None:
            self.move_clock(0)
            environment |= {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        return environment

    def _prepare_pair(self) -> None:
        ports = free_ports(4 + self._replicas)
        folder = self.folder / "pair"
        folder.mkdir()
        self.can["fail over"] = True
        self._nodes = {
            "valkey-a": Node(folder / "a", ports[0]),
            **{
                f"valkey-{name}": Node(folder / name, port, f"replicaof {HOST} {ports[0]}")
                for name, port in zip("bcd", ports[4:], strict=False)
            },
        }
        self._sentinels = {
            f"sentinel-{n}": Node(
                folder / f"sentinel-{n}",
                ports[1 + n],
                "sentinel down-after-milliseconds likes 1000",
                "sentinel failover-timeout likes 5000",
                sentinel_of=ports[0],
            )
            for n in range(3)
        }
        environment = self._with_a_clock()
        for name, node in self._nodes.items():
            # One of them alone: a failover then moves the time.
            clock = environment if name == "valkey-a" else dict(os.environ)
            self._add(name, node.command, clock)
        for name, node in self._sentinels.items():
            self._add(name, node.command, dict(os.environ))
        for node in (*self._nodes.values(), *self._sentinels.values()):
            self._stack.push_async_callback(node.client.aclose)
        asked = ",".join(f"{HOST}:{node.port}" for node in self._sentinels.values())
        self._hot_url = f"sentinel://{asked}/likes"

    async def _until_a_pair(self) -> None:
        for node in (*self._nodes.values(), *self._sentinels.values()):
            await node.ready()
        for name in list(self._nodes)[1:]:
            await in_sync(self._nodes[name])
        await self._nodes["valkey-a"].tell("SET", "first", 1)
        await self._nodes["valkey-a"].tell("WAITAOF", 1, self._replicas, 0)
        for sentinel in self._sentinels.values():
            await connected_replica(sentinel)
        await in_touch(self._sentinels.values())

    @property
    def failovers(self) -> int:
        """As the Sentinel saw them that saw most: at least so many."""
        logs = [self.logs / name for name in self.parts if name.startswith("sentinel")]
        return max((log.read_text().count("+switch-master") for log in logs), default=0)

    async def ask_a_sentinel_to_fail_over(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            await self._sentinels["sentinel-1"].tell("SENTINEL", "FAILOVER", "likes")

    async def primary(self) -> str | None:
        """The part that the Sentinels name; None where they do not agree just now."""
        named = set()
        for sentinel in self._sentinels.values():
            with contextlib.suppress(redis.RedisError, OSError):
                _, port = await sentinel.tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "likes")
                named |= {name for name, node in self._nodes.items() if node.port == int(port)}
        return named.pop() if len(named) == 1 else None

    def _add(self, name, command, environment, before=lambda: None) -> None:
        self.parts[name] = Part(name, command, environment, self.logs / name, before)

    def _own(self, name, words, store, **settings) -> None:
        clean = {key: value for key, value in os.environ.items() if "DIANZAN_" not in key}
        database = self.proxies["database"].port
        environment = clean | {
            "DIANZAN_DATA_DIR": str(self.folder / "data"),
            "DIANZAN_ADMIN_PORT": "0",
            "DIANZAN_VALKEY_URL": (
                self._hot_url if self.pair else f"redis://127.0.0.1:{self.proxies[store].port}"
            ),
            "DIANZAN_ACK": "replica" if self.pair else "local",
            "DIANZAN_POSTGRES_DSN": (
                f"postgresql://dianzan@127.0.0.1:{database}/dianzan?sslmode=disable"
            ),
            "DIANZAN_SHARDS": str(SHARDS),
            # Of it half is for the replica's disk.
            "DIANZAN_STORE_TIMEOUT_MS": "1500" if self.pair else "700",
            "DIANZAN_FLUSH_EVERY_MS": "50",
            "DIANZAN_JOURNAL_RETAIN_MB": "1",
            "DIANZAN_CHALLENGE": "off",
            "DIANZAN_TRUSTED_PROXIES": "127.0.0.0/8",
            **settings,
        }
        self._add(name, lambda: [str(_PROGRAM), *words], environment)

    async def _make_campaign(self) -> None:
        now = datetime.now(UTC)
        # It is morning there: a clock that is moved by minutes stays within the day.
        ahead = (8 - now.hour + 12) % 24 - 12
        connection = await asyncpg.connect(self._postgres.url)
        try:
            await connection.execute(
                "INSERT INTO campaigns (number, id, title, time_zone, opens_at, closes_at, rules,"
                " limits, origins, channels) VALUES (1, $1, '证明', $2, $3, $4, '{}',"
                """ '{"per_device": "60/minute", "per_network": "600000/minute"}', '{}', '{}')""",
                CAMPAIGN,
                f"Etc/GMT{-ahead:+d}",
                now - timedelta(days=1),
                now + timedelta(days=1),
            )
            await connection.executemany(
                "INSERT INTO candidates (campaign, number, id, place, name, organisation, unit,"
                " channel, title, summary)"
                " VALUES (1, $1, $2, $1, '候选人', '所', '单位', '省级', '研究员', '事迹')",
                list(enumerate(self.candidates, 1)),
            )
            await connection.execute("UPDATE catalog SET version = version + 1")
            self._campaign = await read_campaign(connection, CAMPAIGN)
        finally:
            await connection.close()

    async def _end(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        for part in reversed(self.parts.values()):
            await asyncio.to_thread(part.end)
        for proxy in self.proxies.values():
            await proxy.stop()

    async def _keep(self) -> None:
        """Start what ended, as a supervisor does."""
        tried = defaultdict(float)
        while True:
            for part in self.parts.values():
                if part.alive or part.held_back or time.monotonic() - tried[part.name] < 0.3:
                    continue
                tried[part.name] = time.monotonic()
                # A server of which something still runs refuses: the next try may do.
                with contextlib.suppress(Exception):
                    await asyncio.to_thread(part.start)
            await asyncio.sleep(0.05)

    # What a walk does with it.

    def new_token(self) -> str:
        """Of a new device, on either shard."""
        self._made += 1
        return self._mint.issue(self._campaign, time.time(), shard=self._made % SHARDS)

    def move_clock(self, seconds: int) -> None:
        """The store's, against everybody else's."""
        self._clock.write_text(f"{seconds:+d}s\n")

    @contextlib.contextmanager
    def full_disk(self):
        """The store's, to its last block."""
        ballast = self._store_home / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def store(self) -> redis.Redis:
        return HotState(self._hot_url, 1).of(0)

    async def heal(self) -> None:
        """Nothing is wrong any more, as far as the faults go."""
        for proxy in self.proxies.values():
            proxy.way = Way.PASS
        for part in self.parts.values():
            part.held_back = False
            part.send(signal.SIGCONT)
        if self.can["move the clock"]:
            self.move_clock(0)
        if self.pair:
            await self._until_all_follow()

    async def _until_all_follow(self) -> None:
        """There is a primary, and the others have caught up with it: without one of them nothing
        is acknowledged."""

        async def all_follow():
            with contextlib.suppress(redis.RedisError, OSError):
                if (primary := await self.primary()) is None:
                    return False
                for name, node in self._nodes.items():
                    info = await node.client.info("replication")
                    if name == primary and info["role"] != "master":
                        return False
                    if name != primary and info.get("master_link_status") != "up":
                        return False
                return True

        await wait_until_async(all_follow, SETTLED_SECONDS, "a primary whom all follow")

    async def ready(self) -> None:
        """All parts run, and a like could be counted at each edge."""

        async def all_alive():
            return all(part.alive for part in self.parts.values())

        await wait_until_async(all_alive, SETTLED_SECONDS, "processes")

        async def database():
            with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
                connection = await asyncpg.connect(self._postgres.url, timeout=5)
                await connection.close()
                return True

        # It may still read what it wrote before it was killed.
        await wait_until_async(database, SETTLED_SECONDS, "the database")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            for edge in self.edges:

                async def takes_likes(edge=edge):
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                        async with http.get(f"{edge}/readyz") as answer:
                            return answer.status == 200

                await wait_until_async(takes_likes, SETTLED_SECONDS, f"{edge} that is ready")

    async def kept(self) -> Kept:
        """What the service has, once Postgres, the hot state and the log are at rest. Nobody may be
        liking."""
        await self.ready()
        connection = await asyncpg.connect(self._postgres.url)
        why = ""
        try:
            async with HotState(self._hot_url, SHARDS) as hot:

                async def at_rest():
                    nonlocal why
                    why = "the servers are away"
                    with contextlib.suppress(redis.RedisError, OSError, NotComparable):
                        found = await reconcile(connection, hot, self._campaign)
                        why = f"{found.in_journal} in the journal alone, off: {found.off}"
                        if found.in_journal or found.off:
                            return None
                        leaves = await connection.fetchval(
                            "SELECT coalesce(sum(size), 0)::bigint FROM logs WHERE log = 0"
                        )
                        why = f"{leaves} leaves for {found.votes} votes"
                        if leaves != found.votes:
                            return None
                        tally = await read_hot_tally(hot, self._campaign)
                        return tally, leaves

                try:
                    tally, leaves = await wait_until_async(at_rest, SETTLED_SECONDS, "rest")
                except AssertionError:
                    # It is for the comparison to say what is wrong.
                    tally, leaves = await read_hot_tally(hot, self._campaign), -1
                votes = await connection.fetch(
                    "SELECT click, id FROM votes JOIN candidates ON candidates.campaign ="
                    " votes.campaign AND number = candidate"
                )
                rows = await connection.fetch(
                    "SELECT id, (counted + held)::bigint FROM tallies JOIN candidates"
                    " ON candidates.campaign = tallies.campaign AND number = candidate"
                )
                hot_sums = dict(tally.counts)
                for candidate, held in (await self._held(hot)).items():
                    hot_sums[candidate] = hot_sums.get(candidate, 0) + held
        finally:
            await connection.close()
        self.why_not_at_rest = why
        return Kept(
            [(row["click"], row["id"]) for row in votes], dict(map(tuple, rows)), hot_sums, leaves
        )

    async def _held(self, hot: HotState) -> dict[str, int]:
        held: defaultdict[str, int] = defaultdict(int)
        for shard in hot.shards:
            fields = await hot.of(shard).hgetall(f"{{s{shard}}}:tally:{CAMPAIGN}")
            for field, votes in fields.items():
                if field.startswith(b"h"):
                    held[f"c{int(field[1:]):03}"] += int(votes)
        return held


def _soon(condition):
    async def asked():
        return condition()

    return asked


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
