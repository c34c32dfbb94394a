"""What the console does not let in, and what it says when it is not well."""

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path

import aiohttp
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from yarl import URL

from tally.console import app as console_app
from tally.console import limits, wire
from tally.console.limits import STORE_TIMEOUT_SECONDS, limiter
from tally.console.parts import SignedIn
from tests.conftest import captured_logs, running, wait_until_async
from tests.console import console, running_console  # noqa: F401  # fixtures


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "OURS"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "OURS.evil.example"},
        {"Referer": "https://evil.example/OURS"},
        {"Origin": "https://evil.example", "Referer": "OURS/account"},
        {},
    ],
    ids=str,
)
async def test_a_form_of_another_site_changes_nothing(console, headers):  # noqa: F811
    async with console.client_as("admin") as client:
        client.session.headers.clear()
        client.session.headers.update(
            {name: value.replace("OURS", console.url) for name, value in headers.items()}
        )
        fields = {"name": "mallory", "shown_as": "M", "role": "admin"}
        answer = await client.post("/staff", fields)
        assert answer.status == 403
        assert (await client.request("DELETE", "/staff")).status == 403
        assert (await client.get("/staff")).status == 200
    assert await console.connection.fetchval("SELECT count(*) FROM staff") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "OURS"},
        {"Referer": "OURS/staff"},
    ],
    ids=str,
)
async def test_a_form_of_our_own_is_taken_from_browsers_old_and_new(console, headers):  # noqa: F811
    async with console.client_as("admin") as client:
        client.session.headers.clear()
        client.session.headers.update(
            {name: value.replace("OURS", console.url) for name, value in headers.items()}
        )
        fields = {"name": "li", "shown_as": "李", "role": "viewer"}
        assert (await client.post("/staff", fields)).status == 200


async def test_a_body_that_is_too_large_is_refused_however_it_comes(console):  # noqa: F811
    async def in_pieces():
        for _ in range(70):
            yield b"a" * 1024

    async with console.client_as("admin") as client:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for body in (b"name=" + b"a" * 70_000, in_pieces()):
            answer = await client.post("/staff", body, headers=form)
            assert answer.status == 413
            assert "过大" in await answer.text()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xff\xfe=%ff&name=%", "application/x-www-form-urlencoded"),
        (b"{", "application/json"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data"),
        (b"&" * 60_000, "application/x-www-form-urlencoded"),
        (b"name=a" + b"&x=" * 15_000, "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_that_is_none_is_a_clear_no(console, body, content_type):  # noqa: F811
    async with console.client_as("admin") as client:
        answer = await client.post("/staff", body, headers={"Content-Type": content_type})
        assert 400 <= answer.status < 500


async def test_a_head_that_is_too_large_is_refused(console):  # noqa: F811
    async with console.client() as client:
        answer = await client.get("/sign-in", headers={"X": "x" * 200_000})
        assert answer.status in (400, 431)


@pytest.mark.parametrize("sent", [b"", b"GET /sign-in HTTP/1.1\r\nHost: x\r\n"])
async def test_who_sends_no_whole_head_loses_the_connection(console, monkeypatch, sent):  # noqa: F811
    monkeypatch.setattr(wire, "HEAD_WITHIN_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(console.url).port)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_a_second_head_has_a_deadline_too_and_an_answer_in_time_has_none(
    own_routes,
    console,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(wire, "HEAD_WITHIN_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(console.url).port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(2) == b"ok"
    writer.write(b"GET /sign")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_who_sends_no_whole_body_is_not_waited_for(console, monkeypatch):  # noqa: F811
    monkeypatch.setattr(wire, "BODY_WITHIN_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(console.url).port)
    writer.write(
        b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nname="
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert answer.startswith(b"HTTP/1.1 400 ")
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET  /  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"x" * 100_000,
    ],
    ids=lambda head: repr(head[:20]),
)
async def test_what_is_no_http_is_refused_and_writes_no_log(console, caplog, head):  # noqa: F811
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(console.url).port)
    writer.write(head + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 4")
    assert caplog.records == []
    writer.close()


async def test_a_number_that_no_column_holds_is_no_broken_console(console):  # noqa: F811
    async with console.client_as("admin") as client:
        answer = await client.post("/staff/99999999999999999999/role", {"role": "viewer"})
        assert answer.status == 404
        assert (await client.get("/audit?before=-99999999999999999999999")).status == 200


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_pages_of_what_went_wrong_speak_the_readers_language(console, language):  # noqa: F811
    said = {
        "zh": {404: "未找到", 403: "无权操作", 405: "无权操作"},
        "en": {404: "Not found", 403: "Not allowed", 405: "Not allowed"},
    }[language]
    async with console.client_as("viewer", **{"Accept-Language": language}) as client:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("GET", "/staff", 403),
            ("DELETE", "/staff", 405),
        ):
            answer = await client.request(method, path)
            text = await answer.text()
            assert answer.status == status
            assert said[status] in text
            assert f'lang="{"zh-CN" if language == "zh" else "en"}"' in text


async def test_no_answer_leads_to_where_a_forged_host_says(console):  # noqa: F811
    async with console.client_as("admin", Host="evil.example") as client:
        for path in ("/staff/", "/office/v1", "/", "/nowhere"):
            answer = await client.get(path)
            assert "evil.example" not in answer.headers.get("Location", ""), path


async def test_the_offices_interface_gets_problems_as_json(console):  # noqa: F811
    async with console.client_as("viewer") as client:
        answer = await client.get("/office/v1/nowhere")
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"
        body = json.loads(await answer.text())
        assert (body["status"], body["title"]) == (404, "Not found")


async def test_the_language_that_was_chosen_stays(console):  # noqa: F811
    async with console.client() as client:
        assert "登录" in await (await client.get("/sign-in")).text()
        answer = await client.get("/language/en?back=/sign-in")
        assert answer.headers["Location"] == "/sign-in"
        assert "Sign in" in await (await client.get("/sign-in")).text()
        await client.get("/language/xx")
        assert "Sign in" in await (await client.get("/sign-in")).text()


class OwnRoutes:
    """Routes that no console has: one that is broken, one that never ends, one that is limited."""

    router = APIRouter()
    begun = None

    @staticmethod
    @router.get("/broken")
    async def broken(request: Request):
        secret = "s3cret-in-a-variable"
        raise ZeroDivisionError(f"not for the page: {len(secret)}")

    @staticmethod
    @router.get("/endless")
    async def endless(request: Request):
        OwnRoutes.begun.set()
        await asyncio.Event().wait()

    @staticmethod
    @router.get("/slow")
    async def slow(request: Request):
        await asyncio.sleep(0.5)  # longer than a head may take in the test
        return PlainTextResponse("ok")

    @staticmethod
    @router.get("/missing")
    async def missing(request: Request):
        open("/no/such/file")  # noqa: ASYNC230, PTH123, SIM115

    @staticmethod
    @router.get("/limited")
    @limiter.limit("3/minute")
    async def limited(request: Request, staff: SignedIn):
        return PlainTextResponse("ok")


@pytest.fixture
def own_routes(monkeypatch):
    build_app = console_app.build_app

    def with_ours(parts):
        app = build_app(parts)
        app.include_router(OwnRoutes.router)
        return app

    monkeypatch.setattr(console_app, "build_app", with_ours)
    OwnRoutes.begun = asyncio.Event()


async def test_a_mistake_of_ours_shows_nothing_of_itself(own_routes, console):  # noqa: F811
    async with console.client() as client:
        for path in ("/broken", "/missing"):
            answer = await client.get(path)
            text = await answer.text()
            assert answer.status == 500
            assert "出现故障" in text
            for told in ("Traceback", "ZeroDivision", "s3cret", "not for the page", "/no/such"):
                assert told not in text
            assert answer.headers["Content-Security-Policy"]


class Wire:
    """A Unix socket in front of Postgres' own, that can be cut and mended."""

    def __init__(self, folder, real_dsn):
        database, _, folder_there = real_dsn.partition("?host=")
        self._there = f"{folder_there.partition('&')[0]}/.s.PGSQL.5432"
        self._here = f"{folder}/.s.PGSQL.5432"
        self.dsn = f"{database}?host={folder}"
        self._writers = set()
        self._server = None

    async def mend(self):
        self._server = await asyncio.start_unix_server(self._carry, self._here)

    def cut(self):
        self._server.close()
        Path(self._here).unlink(missing_ok=True)
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader, writer):
        reader_there, writer_there = await asyncio.open_unix_connection(self._there)
        self._writers |= {writer, writer_there}
        await asyncio.gather(self._pour(reader, writer_there), self._pour(reader_there, writer))

    async def _pour(self, reader, writer):
        with contextlib.suppress(OSError):
            while some := await reader.read(65_536):
                writer.write(some)
            writer.close()


async def test_without_postgres_pages_say_so_and_come_back_with_it(
    tmp_path, servers_folder, valkey_url, postgres_dsn, postgres
):
    # Not pytest's own folder: its path can be too long for a socket.
    folder = servers_folder / "wire"
    folder.mkdir()
    wire = Wire(folder, postgres_dsn)
    await wire.mend()
    async with (
        running_console(tmp_path, valkey_url, wire.dsn, postgres) as console,  # noqa: F811
        console.client_as("viewer") as client,
    ):
        assert (await client.get("/account")).status == 200
        wire.cut()
        for _ in range(3):
            answer = await client.get("/account")
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "5"
            assert "数据库没有应答" in await answer.text()
        assert (await client.get("/sign-in")).status == 200
        assert (await client.get("/nowhere")).status == 404
        await wire.mend()
        assert (await client.get("/account")).status == 200
    wire.cut()


async def test_it_starts_while_postgres_is_away(tmp_path, valkey_url):
    dsn = f"postgresql://nobody@/nowhere?host={tmp_path}"
    async with (
        running_console(tmp_path, valkey_url, dsn, None) as console,  # noqa: F811
        console.client("x" * 43) as client,
    ):
        assert (await client.get("/account")).status == 503
        assert (await client.get("/healthz")).status == 200


STALL_SECONDS_MAX = 1.0
"""A busy machine's pauses included: the stall itself is 0.1 s."""


class StallWatch:
    """How long the event loop stood still at most."""

    async def __aenter__(self):
        self.worst = 0.0
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()

    async def _watch(self):
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            self.worst = max(self.worst, now - last)
            last = now


@pytest.fixture
async def own_valkey(tmp_path_factory, servers_folder):
    """A store of this test's own, that may be stopped; its process."""
    from deploy.local.servers import EmbeddedValkey

    folder = servers_folder / "stalled"
    folder.mkdir(exist_ok=True)
    server = EmbeddedValkey(folder, memory_mb=64)
    with running(server) as process:
        yield server.url, process
        process.send_signal(signal.SIGCONT)


async def test_a_store_that_stands_still_neither_stalls_the_console_nor_opens_its_door(
    own_routes, tmp_path, own_valkey, postgres_dsn, postgres, monkeypatch
):
    said = captured_logs(monkeypatch, limits)
    url, process = own_valkey
    async with (
        running_console(
            tmp_path, url, postgres_dsn, postgres, store_timeout_seconds=STORE_TIMEOUT_SECONDS
        ) as console,  # noqa: F811
        console.client_as("viewer") as client,
    ):
        assert (await client.get("/limited")).status == 200
        process.send_signal(signal.SIGSTOP)
        async with StallWatch() as stall:
            statuses = [(await client.get("/limited")).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429], "counted in memory, from nothing"
        assert limiter.in_memory
        assert [entry["event"] for entry in said] == ["limits-in-memory"]
        assert stall.worst < STALL_SECONDS_MAX
        process.send_signal(signal.SIGCONT)

        async def is_found_again():
            await client.get("/account")
            return not limiter.in_memory

        await wait_until_async(is_found_again, 60, what="the store to be found again")


async def test_a_store_that_takes_connections_and_says_nothing_is_the_same(
    own_routes, tmp_path, postgres_dsn, postgres
):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"redis://127.0.0.1:{black_hole.getsockname()[1]}"
        async with running_console(
            tmp_path, url, postgres_dsn, postgres, store_timeout_seconds=STORE_TIMEOUT_SECONDS
        ) as console:
            async with console.client_as("viewer") as client, StallWatch() as stall:
                statuses = [(await client.get("/limited")).status for _ in range(4)]
            assert statuses == [200, 200, 200, 429]
            assert stall.worst < STALL_SECONDS_MAX


async def test_a_store_that_is_not_there_is_the_same(own_routes, tmp_path, postgres_dsn, postgres):
    url = f"unix://{tmp_path}/no.sock"
    async with (
        running_console(
            tmp_path, url, postgres_dsn, postgres, store_timeout_seconds=STORE_TIMEOUT_SECONDS
        ) as console,  # noqa: F811
        console.client_as("viewer") as client,
    ):
        statuses = [(await client.get("/limited")).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize("scheme", ["sentinel", "cluster"])
async def test_where_the_primary_is_looked_for_the_console_counts_in_memory(
    own_routes, tmp_path, postgres_dsn, postgres, scheme
):
    url = f"{scheme}://127.0.0.1:1" + ("/likes" if scheme == "sentinel" else "")
    async with (
        running_console(tmp_path, url, postgres_dsn, postgres) as console,  # noqa: F811
        console.client_as("viewer") as client,
    ):
        statuses = [(await client.get("/limited")).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_all_consoles_count_in_one_store(own_routes, console, tmp_path):  # noqa: F811
    async with console.client_as("viewer") as client:
        for _ in range(3):
            await client.get("/limited")
        # Another process: it knows nothing of this one's memory.
        limiter.use(console.settings.valkey_url.get_secret_value())
        assert (await client.get("/limited")).status == 429


async def test_a_stop_waits_for_nobody_who_hangs_on(
    own_routes, tmp_path, valkey_url, postgres_dsn, postgres
):
    async with (
        running_console(tmp_path, valkey_url, postgres_dsn, postgres) as console,  # noqa: F811
        aiohttp.ClientSession() as session,
    ):
        hanging = asyncio.create_task(session.get(f"{console.url}/endless"))
        await OwnRoutes.begun.wait()
        began = time.monotonic()
        console.stop.set()
        await asyncio.wait_for(console.running, 10)
        assert time.monotonic() - began < 5
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_no_request_writes_a_line_with_its_address_into_the_log(console, capsys):  # noqa: F811
    async with console.client() as client:
        await client.get("/set-up?token=one-time-secret")
    said = capsys.readouterr()
    assert "one-time-secret" not in said.out + said.err


async def test_passwords_are_looked_at_in_threads_of_their_own(console):  # noqa: F811
    hashing = console.app.state.console.hashing
    await hashing.check(None, "x")
    assert any(thread.name.startswith("password") for thread in threading.enumerate())
