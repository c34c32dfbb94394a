"""deploy/valkey/users.conf and deploy/postgres/roles.sql: each process under a user of its own."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import asyncpg
import pytest
import redis

from deploy.local.servers import _POSTGRES_CONFIG, EmbeddedPostgres, EmbeddedValkey
from tally.migrate import migrate
from tests.acceptance.conftest import PROGRAM
from tests.campaign_folders import MANIFEST, people, write_folder
from tests.conftest import running, wait_until
from tests.nginx import free_port
from voting.keys import Keys

DEPLOY = Path(__file__).parents[2] / "deploy"
PROCESSES = ("edge", "flush", "watch", "publish", "console")
CAMPAIGN = "stars"
PATIENCE_SECONDS = 60


class Installation:
    """Two servers with our users, and whatever runs on them."""

    def __init__(self, folder: Path, valkey_port: int, owner_dsn: str) -> None:
        self.folder = folder
        self.owner_dsn = owner_dsn
        self._valkey_port = valkey_port

    def valkey_url(self, user: str) -> str:
        return f"redis://{user}:{_password(user)}@127.0.0.1:{self._valkey_port}"

    def dsn(self, process: str) -> str:
        return self.owner_dsn.replace("//dianzan@", f"//dianzan_{process}@")

    def environment(self, process: str, **settings: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if "DIANZAN_" not in name}
        return clean | {
            "DIANZAN_DATA_DIR": str(self.folder / "data"),
            "DIANZAN_ADMIN_PORT": "0",
            "DIANZAN_CONSOLE_PORT": "0",
            "DIANZAN_VALKEY_URL": self.valkey_url(process if process in PROCESSES else "operator"),
            "DIANZAN_POSTGRES_DSN": self.dsn(process) if process in PROCESSES else self.owner_dsn,
            "DIANZAN_CHALLENGE": "off",
            **settings,
        }

    def dianzan(self, process: str, *words: object) -> str:
        done = subprocess.run(
            [PROGRAM, *map(str, words)],
            env=self.environment(process),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, process: str, query: str, *words: object) -> list[asyncpg.Record]:
        async def asked():
            dsn = self.dsn(process) if process in PROCESSES else self.owner_dsn
            connection = await asyncpg.connect(dsn)
            try:
                # Whatever it is, it leaves nothing.
                async with connection.transaction():
                    return await connection.fetch(query, *words)
            finally:
                await connection.close()

        return asyncio.run(asked())


def _password(user: str) -> str:
    return f"password-of-{user}"


def _users() -> str:
    """The file, with passwords of ours."""

    def hashed(match):
        return "#" + hashlib.sha256(_password(match[1].lower()).encode()).hexdigest()

    return re.sub(
        r"#SHA256-OF-([A-Z]+)-PASSWORD", hashed, (DEPLOY / "valkey/users.conf").read_text()
    )


def _conf() -> str:
    return (DEPLOY / "postgres/postgresql.conf").read_text()


async def _prepare(dsn: str) -> None:
    """As the owner, twice: it may be run again."""
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(2):
            await connection.execute((DEPLOY / "postgres/roles.sql").read_text())
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def installation():
    # Not pytest's own folder: its path can be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="dz-") as name:
        folder = Path(name)
        (folder / "users.conf").write_text(_users())
        port = free_port()
        (folder / "valkey.conf").write_text(
            f"include {folder}/users.conf\nbind 127.0.0.1\nport {port}\ndir {folder}\n"
            'appendonly yes\nappendfsync always\nsave ""\nmaxmemory 256mb\n'
        )
        postgres = EmbeddedPostgres(folder / "database")
        postgres.prepare()
        with (folder / "database/postgres/postgresql.conf").open("a") as config:
            # Its own socket, and no certificate.
            config.write(re.sub(r"^(listen_addresses|ssl) .*", "", _conf(), flags=re.MULTILINE))
        with (folder / "valkey.log").open("wb") as log:
            valkey = subprocess.Popen(
                [EmbeddedValkey(folder / "unused").command()[0], folder / "valkey.conf"],
                stdout=log,
                stderr=log,
            )
        try:
            with running(postgres):
                asyncio.run(_prepare(postgres.url))
                made = Installation(folder, port, postgres.url)
                wait_until(lambda: _answers(made), 30, "valkey")
                yield made
        finally:
            valkey.terminate()
            valkey.wait(30)


def _answers(installation: Installation) -> bool:
    with redis.Redis.from_url(installation.valkey_url("operator")) as client:
        try:
            return client.ping()
        except redis.ConnectionError:
            return False


# Valkey


def test_valkey_does_not_start_before_every_user_has_a_password(tmp_path):
    written = tmp_path / "valkey.conf"
    written.write_text(f"port {free_port()}\ninclude {DEPLOY}/valkey/users.conf\n")
    done = subprocess.run(
        [EmbeddedValkey(tmp_path / "unused").command()[0], written],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0


def test_nobody_comes_in_without_a_name(installation):
    url = re.sub("//.*@", "//", installation.valkey_url("edge"))
    with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


ALLOWED = [
    ("edge", "FCALL cast 1 {s0}:head"),
    ("edge", "XADD {s63}:journal * entry x"),
    ("edge", "CONFIG GET appendfsync"),
    # A solution of a challenge serves once.
    ("edge", "SET {s0}:spent:nonce 1 NX EX 240"),
    # What a failover lost is compared and given back.
    ("flush", "HGETALL {s0}:tally:stars"),
    ("flush", "HSETNX {s0}:life:stars device 1"),
    ("flush", "FCALL give_back 2 {s0}:day:stars:1 {s0}:life:stars"),
    ("flush", "XTRIM {s0}:journal MINID 5-0"),
    ("flush", "UNLINK {s0}:day:stars:1"),
    ("flush", "SCAN 0 MATCH {s0}:* COUNT 500"),
    ("flush", "BGREWRITEAOF"),
    ("flush", "WAITAOF 1 1 500"),
    ("watch", "DEL {s0}:fingerprints"),
    ("watch", "FCALL adjudicate 3 {s0}:head {s0}:journal {s0}:tally:stars"),
    ("publish", "FCALL close 2 {s0}:head {s0}:journal"),
    ("publish", "XREVRANGE {s0}:journal + - COUNT 1"),
    ("console", "INCRBY dianzan:limits:LIMITER/address 1"),
    ("replica", "PSYNC ? -1"),
    ("sentinel", "PUBLISH __sentinel__:hello x"),
]
REFUSED = [
    *((user, command) for user in PROCESSES for command in (
        "FLUSHALL", "CONFIG SET appendonly no", "SHUTDOWN", "ACL SETUSER edge on", "KEYS *",
        "EVAL x 0", "FUNCTION FLUSH", "FUNCTION DELETE cast", "MONITOR", "DEBUG SLEEP 1",
        "HGETALL another", "REPLICAOF NO ONE",
    )),
    *((user, "XTRIM {s0}:journal MINID 5-0") for user in PROCESSES if user != "flush"),
    *((user, "UNLINK {s0}:head") for user in PROCESSES if user != "flush"),
    *((user, "DEL {s0}:head") for user in PROCESSES if user != "watch"),
    *((user, "CONFIG GET primaryauth") for user in PROCESSES if user != "edge"),
    ("edge", "INCRBY dianzan:limits:LIMITER/address 1"),
    ("replica", "HGETALL {s0}:head"),
    ("sentinel", "HGETALL {s0}:head"),
]  # fmt: skip


def test_a_valkey_user_may_what_its_process_does_and_nothing_else(installation):
    with redis.Redis.from_url(
        installation.valkey_url("operator"), decode_responses=True
    ) as operator:

        def said(user, command):
            return operator.execute_command("ACL", "DRYRUN", user, *command.split())

        assert {each: said(*each) for each in ALLOWED} == dict.fromkeys(ALLOWED, "OK")
        assert [each for each in REFUSED if said(*each) == "OK"] == []


# Postgres


def test_postgres_takes_the_configuration_and_it_keeps_what_the_embedded_one_keeps(installation):
    lines = re.findall(r"^(\w+) = (.*)$", _conf(), re.MULTILINE)
    for name, value in lines:
        if name not in ("listen_addresses", "ssl"):
            assert _one(installation, f"SHOW {name}") == value.strip("'"), name
    its_own = ("listen_addresses", "port", "unix_socket", "cluster_name")
    embedded = re.findall(r"^(\w+) = (.*)$", _POSTGRES_CONFIG, re.MULTILINE)
    assert [
        line for line in embedded if line not in lines and not line[0].startswith(its_own)
    ] == []


EVERY_ROLE_IS_REFUSED = (
    "UPDATE votes SET candidate = 1",
    "DELETE FROM votes",
    "TRUNCATE votes",
    "ALTER TABLE votes DISABLE TRIGGER ALL",
    "UPDATE audit_log SET actor = 'x'",
    "DELETE FROM decisions",
    "UPDATE checkpoints SET note = ''",
    "DELETE FROM publications",
    "DROP TABLE tallies",
    "CREATE TABLE mine (n integer)",
    "CREATE ROLE mine",
)
REFUSED_BUT = (
    # statement, and who alone is not refused
    ("INSERT INTO votes DEFAULT VALUES", ("flush",)),
    ("SELECT make_day_of_votes('2030-01-01')", ("flush",)),
    ("SELECT device FROM votes", ("flush", "watch", "publish", "console")),
    ("SELECT seq FROM votes", PROCESSES),
    ("SELECT key FROM pseudonym_keys", ("edge",)),
    ("SELECT password_hash FROM staff", ("console",)),
    ("SELECT id FROM staff_sessions", ("console",)),
    ("SELECT key_hash FROM office_keys", ("console",)),
    ("UPDATE tallies SET counted = 0", ("flush", "watch", "publish", "console")),
    ("UPDATE watermarks SET seq = 0", ("flush",)),
    ("UPDATE campaigns SET closes_at = closes_at", ("console",)),
    ("INSERT INTO flags DEFAULT VALUES", ("watch",)),
    ("INSERT INTO notices DEFAULT VALUES", ("console",)),
    ("INSERT INTO log_tiles DEFAULT VALUES", ("publish",)),
)


def _is_refused(installation, process, statement):
    try:
        installation.ask(process, statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    except asyncpg.PostgresError:
        return False  # allowed, and wrong otherwise
    return False


@pytest.mark.parametrize("process", PROCESSES)
def test_a_postgres_role_may_what_its_process_does_and_nothing_else(installation, process):
    for statement in EVERY_ROLE_IS_REFUSED:
        assert _is_refused(installation, process, statement), statement
    for statement, admitted in REFUSED_BUT:
        assert _is_refused(installation, process, statement) == (process not in admitted), statement


def test_whatever_a_role_may_read_or_write_is_still_there():
    """A table that roles.sql does not name is no process' table, or was forgotten."""
    named = set(re.findall(r"\w+", (DEPLOY / "postgres/roles.sql").read_text()))
    schema = (DEPLOY.parent / "tally/schema.sql").read_text()
    assert set(re.findall(r"^CREATE TABLE (\w+)", schema, re.MULTILINE)) - named == set()


# Both


@pytest.mark.slow
def test_a_campaign_from_the_first_like_to_its_close_under_these_users(installation):
    """Votes, a decision and its way to the hot state, log, publication and seal: nobody is refused
    anything that it needs."""
    write_folder(
        installation.folder / "campaign",
        people(12),
        manifest=MANIFEST.replace("2027-07-31", "2099-07-31"),
    )
    installation.dianzan("owner", "campaign", "import", installation.folder / "campaign")
    Keys.load_or_make(installation.folder / "data" / "secrets" / "keys.json")
    tokens = installation.folder / "tokens"
    installation.dianzan("owner", "devices", "mint", 20, "--campaign", CAMPAIGN, "--out", tokens)
    port = free_port()
    processes, logs = [], {name: installation.folder / f"{name}.log" for name in PROCESSES}
    try:
        for name in PROCESSES:
            with logs[name].open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [PROGRAM, name],
                        env=installation.environment(name, DIANZAN_EDGE_PORT=str(port)),
                        cwd=installation.folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )
        _until(
            installation,
            lambda: _one(installation, "SELECT count(DISTINCT name) FROM parts") == 5,
            "parts",
        )
        edge = f"http://127.0.0.1:{port}"
        _until(installation, lambda: _serves(edge), "the edge")
        for number, token in enumerate(tokens.read_text().split()):
            assert _like(edge, token, f"click-{number:04}") == 201
        _until(installation, lambda: _sums(installation, "counted") == 20, "Postgres")
        _strike_one(installation)
        _until(
            installation, lambda: _hot(installation)["struck"] == 1, "the decision in the hot state"
        )
        _until(
            installation,
            lambda: _one(installation, "SELECT sum(size)::int FROM logs WHERE log = 0") == 20,
            "log",
        )
        folder = installation.folder / "published"
        installation.dianzan("publish", "publish", "--campaign", CAMPAIGN, "--now", "--out", folder)
        installation.dianzan("publish", "verify", folder)
        _close(installation)
        _until(
            installation,
            lambda: (
                _one(installation, "SELECT count(*) FROM publications WHERE kind = 'close'") == 1
            ),
            "the seal",
        )
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
    for name, log in logs.items():
        refused = [
            line
            for line in log.read_text().splitlines()
            if re.search("permission denied|must be owner|NOPERM|no permissions", line)
        ]
        assert refused == [], name


def _until(installation, condition, what):
    try:
        wait_until(condition, PATIENCE_SECONDS, what)
    except AssertionError as why:
        ends = [log.read_text()[-2000:] for log in sorted(installation.folder.glob("*.log"))]
        raise AssertionError("\n".join((str(why), *ends))) from None


def _one(installation, query):
    return installation.ask("owner", query)[0][0]


def _sums(installation, kind):
    return _one(installation, f"SELECT coalesce(sum({kind}), 0)::int FROM tallies")


def _hot(installation):
    said = installation.dianzan("publish", "tally", "--campaign", CAMPAIGN, "--hot", "--json")
    return json.loads(said)


def _serves(edge):
    try:
        with urllib.request.urlopen(  # noqa: S310
            f"{edge}/v1/campaigns/{CAMPAIGN}", timeout=10
        ) as answer:
            return answer.status == 200
    except OSError:
        return False


def _like(edge, token, click):
    body = {"token": token, "campaign": CAMPAIGN, "candidate": "c001", "click": click}
    request = urllib.request.Request(  # noqa: S310
        f"{edge}/v1/likes",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.status


def _strike_one(installation):
    """A flag on one vote, and a decision by hand under the console's user."""

    async def flag():
        connection = await asyncpg.connect(installation.owner_dsn)
        try:
            await connection.execute(
                "INSERT INTO flags SELECT 1, now(), campaign, NULL, '{speed}', 1, '{pace}', '{}',"
                " 'too fast', 9, false, 1, jsonb_build_object(candidate::text, 1), '{}'"
                " FROM votes LIMIT 1"
            )
            await connection.execute(
                "INSERT INTO flag_votes SELECT 1, day, shard, epoch, ARRAY[seq] FROM votes LIMIT 1"
            )
        finally:
            await connection.close()

    asyncio.run(flag())
    installation.dianzan("console", "decide", 1, "strike", "--by", "A. B.", "--reason", "a test")


def _close(installation):
    async def close():
        connection = await asyncpg.connect(installation.owner_dsn)
        try:
            await connection.execute("UPDATE campaigns SET closes_at = now()")
            await connection.execute("UPDATE catalog SET version = version + 1")
        finally:
            await connection.close()

    asyncio.run(close())
