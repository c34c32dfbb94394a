"""A whole console in the test's own process, on real Postgres and Valkey.

from tests.console import console  # noqa: F401  # a fixture

async def test_a_viewer_sees_it(console):
    async with console.client_as("viewer") as client:
        answer = await client.get("/live")
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from tally.accounts import credentials
from tally.console import app as console_app
from tally.console import limits
from tally.console.parts import Role, Staff
from voting.settings import load_settings

PASSWORD = "correct horse battery staple"
PASSWORD_HASH = credentials.hash_password(PASSWORD)


@dataclass
class Person:
    """Somebody at a keyboard, with PASSWORD and an authenticator in hand."""

    staff: Staff
    secret: bytes | None

    def code(self, steps_from_now=0):
        return credentials.code_at(self.secret, time.time() + 30 * steps_from_now)

    async def enter_password(self, client, password=PASSWORD, **fields):
        return await client.post(
            "/sign-in", {"name": self.staff.name, "password": password, **fields}
        )

    async def sign_in(self, client, **fields):
        """All the way in: the last answer."""
        assert (await self.enter_password(client, **fields)).status == 303
        return await client.post("/sign-in/code", {"code": self.code(), **fields})


@dataclass
class RunningConsole:
    """What a test needs of a console."""

    url: str
    app: object
    """The FastAPI application, with `app.state.console`."""
    connection: object
    """The test's own connection to the console's database."""
    settings: object
    stop: asyncio.Event
    running: asyncio.Task

    async def add_staff(self, role="viewer", name=None, **columns):
        """Somebody with this role, without a password unless `columns` say otherwise."""
        name = name or f"{role}-{secrets.token_hex(4)}"
        columns = {"name": name, "shown_as": f"员工 {name}", "role": str(role), **columns}
        values = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        number = await self.connection.fetchval(
            f"INSERT INTO staff ({', '.join(columns)}) VALUES ({values}) RETURNING number",
            *columns.values(),
        )
        return Staff(number, name, columns["shown_as"], Role(role))

    async def begin_session(self, staff, *, complete=True):
        """The cookie's value of a session of theirs."""
        value = secrets.token_urlsafe(32)
        await self.connection.execute(
            "INSERT INTO staff_sessions VALUES ($1, $2, now(), now(), $3)",
            hashlib.sha256(value.encode()).digest(),
            staff.number,
            complete,
        )
        return value

    async def add_person(self, role="viewer", **columns):
        """Somebody who has a password and, unless `totp_secret=None`, an authenticator."""
        columns.setdefault("password_hash", PASSWORD_HASH)
        staff = await self.add_staff(role, **columns)
        secret = None
        if "totp_secret" not in columns:
            secret = credentials.new_totp_secret()
            sealed = self.app.state.console.seal.close(secret, b"totp %d" % staff.number)
            await self.connection.execute(
                "UPDATE staff SET totp_secret = $2 WHERE number = $1", staff.number, sealed
            )
        return Person(staff, secret)

    @contextlib.asynccontextmanager
    async def client(self, cookie=None, **headers):
        """Somebody's browser, without a session unless a cookie is given. Paths alone are enough:
        `client.get("/")`. It follows no redirect unless told to."""
        headers = {"Sec-Fetch-Site": "same-origin", **headers}
        jar = aiohttp.CookieJar(unsafe=True)  # an address of 127.0.0.1 sets cookies too
        if cookie:
            jar.update_cookies({"dianzan-console": cookie}, URL(self.url))
        async with aiohttp.ClientSession(self.url, headers=headers, cookie_jar=jar) as session:
            yield _Client(session)

    @contextlib.asynccontextmanager
    async def client_as(self, role, **headers):
        """A browser signed in as somebody new with this role, who is `client.staff`; None as role
        is nobody."""
        if role is None:
            async with self.client(**headers) as client:
                yield client
            return
        staff = role if isinstance(role, Staff) else await self.add_staff(role)
        cookie = await self.begin_session(staff)
        async with self.client(cookie, **headers) as client:
            client.staff = staff
            yield client


class _Client:
    """aiohttp's session, with redirects left to the test."""

    def __init__(self, session):
        self.session = session
        self.staff = None

    async def request(self, method, path, **options):
        """The answer, its body read."""
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, path, **options) as answer:
            await answer.read()
            return answer

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def post(self, path, data=None, **options):
        return await self.request("POST", path, data=data, **options)


@contextlib.asynccontextmanager
async def running_console(
    tmp_path, valkey_url, postgres_dsn, connection, *, store_timeout_seconds=5.0, **overrides
):
    """`store_timeout_seconds`: a busy machine must not make the store look away, and limits be
    counted in two places."""
    settings = load_settings(
        data_dir=tmp_path,
        valkey_url=valkey_url,
        postgres_dsn=postgres_dsn,
        **{"console_port": 0, "console_host": "127.0.0.1"} | overrides,
    )
    stop, announced, made = asyncio.Event(), asyncio.Event(), []
    build_app = console_app.build_app

    def remember(console):
        made.append(build_app(console))
        return made[-1]

    console_app.build_app = remember
    store_timeout = limits.STORE_TIMEOUT_SECONDS
    limits.STORE_TIMEOUT_SECONDS = store_timeout_seconds
    listening = console_app.listen(settings)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    running = asyncio.create_task(
        console_app.run(settings, stop, announced.set, CollectorRegistry(), listening)
    )
    try:
        waiting = asyncio.create_task(announced.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=15)
        if running.done():
            running.result()
        yield RunningConsole(url, made[0], connection, settings, stop, running)
    finally:
        console_app.build_app = build_app
        limits.STORE_TIMEOUT_SECONDS = store_timeout
        stop.set()
        waiting.cancel()
        await asyncio.wait_for(running, 15)


@pytest.fixture
async def console(tmp_path, valkey_url, postgres_dsn, postgres):
    """A console without campaigns and staff; `console.client_as("reviewer")` makes somebody."""
    async with running_console(tmp_path, valkey_url, postgres_dsn, postgres) as running:
        yield running
