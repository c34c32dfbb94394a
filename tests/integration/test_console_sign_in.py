"""Signing in to the console, by those who may and those who may not."""

import asyncio
import contextlib
import hashlib
import re
import time
from datetime import timedelta
from statistics import median
from types import SimpleNamespace

import pytest

from tally import audit
from tally.accounts import credentials
from tally.accounts import staff as accounts
from tally.console import sessions, sign_in
from tally.console.limits import InMemory
from tests.conftest import wait_until_async
from tests.console import PASSWORD, console, running_console  # noqa: F401  # fixtures

COOKIE = "dianzan-console"


def cookie_of(client, name=COOKIE):
    return next((c.value for c in client.session.cookie_jar if c.key == name), None)


async def failures(console, person):  # noqa: F811
    return await console.connection.fetchval(
        "SELECT failures FROM staff WHERE number = $1", person.staff.number
    )


async def fail(console, client, person):  # noqa: F811
    """One wrong password, and wait until it is written down."""
    before = await failures(console, person)
    assert (await person.enter_password(client, "wrong password, really")).status == 403

    async def counted():
        return await failures(console, person) > before

    await wait_until_async(counted, what="the failure")


async def lock(console, person):  # noqa: F811
    await console.connection.execute(
        "UPDATE staff SET failures = 9, locked_until = now() + interval '15 minutes'"
        " WHERE number = $1",
        person.staff.number,
    )


async def test_password_then_code_then_the_page_that_was_wanted(console):  # noqa: F811
    person = await console.add_person("reviewer")
    async with console.client() as client:
        first = await person.enter_password(client, back="/audit?actor=li")
        assert first.headers["Location"] == "/sign-in/code?back=%2Faudit%3Factor%3Dli"
        assert (await client.get("/account")).status == 303, "half signed in is not signed in"
        second = await client.post(
            "/sign-in/code", {"code": person.code(), "back": "/audit?actor=li"}
        )
        assert second.headers["Location"] == "/audit?actor=li"
        assert (await client.get("/account")).status == 200
    log = [row async for row in audit.rows(console.connection)]
    assert [(row.actor, row.action) for row in log] == [(person.staff.name, "staff.sign-in")]


async def test_the_session_has_another_id_after_each_step_and_the_old_one_is_void(console):  # noqa: F811
    person = await console.add_person()
    async with console.client() as client:
        await person.enter_password(client)
        half = cookie_of(client)
        await client.post("/sign-in/code", {"code": person.code()})
        whole = cookie_of(client)
    assert half != whole
    async with console.client(half) as thief:
        assert (await thief.get("/account")).status == 303
        assert (await thief.get("/sign-in/code")).status == 303
    ids = await console.connection.fetch("SELECT id FROM staff_sessions")
    assert [row["id"] for row in ids] == [hashlib.sha256(whole.encode()).digest()]


async def test_a_session_that_somebody_planted_is_not_kept(console):  # noqa: F811
    person = await console.add_person()
    async with console.client("p" * 43) as client:
        await person.sign_in(client)
        assert cookie_of(client) != "p" * 43
    async with console.client("p" * 43) as thief:
        assert (await thief.get("/account")).status == 303


async def test_the_cookie_is_for_this_host_alone_and_no_script_reads_it(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    async with running_console(
        tmp_path, valkey_url, postgres_dsn, postgres, console_origin="https://console.example.cn"
    ) as running:
        person = await running.add_person()
        async with running.client() as client:
            answer = await person.enter_password(client)
            assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        (cookie,) = answer.headers.getall("Set-Cookie")
        name, *attributes = cookie.split("; ")
        assert name.startswith("__Host-dianzan=")
        assert {each.lower() for each in attributes} == {
            *("httponly", "secure", "path=/", "samesite=strict")
        }


async def test_over_plain_http_nobody_signs_in_but_on_this_machine(console):  # noqa: F811
    person = await console.add_person()
    async with console.client(Host="console.example.cn") as client:
        answer = await person.enter_password(client)
        assert answer.status == 403
        assert "DIANZAN_CONSOLE_ORIGIN" in await answer.text()
        assert "Set-Cookie" not in answer.headers
    async with console.client(Host="console.example.cn", **{"X-Forwarded-Proto": "https"}) as liar:
        assert (await person.enter_password(liar)).status == 403, "only a trusted proxy is believed"


@pytest.mark.parametrize("where", ["https://console.example.cn", "http://console.example.cn"])
async def test_a_proxy_that_says_it_is_this_machine_lets_nobody_in(console, where):  # noqa: F811
    """nginx with nothing but a proxy_pass: its Host is ours, its browsers' Origin is not."""
    person = await console.add_person()
    async with console.client(Origin=where) as client:
        answer = await person.enter_password(client)
        assert answer.status == 403
        assert cookie_of(client) is None
    async with console.client(Origin=console.url) as client:
        assert (await person.enter_password(client)).status == 303


async def test_behind_a_trusted_proxy_the_client_and_its_scheme_are_what_it_says(
    tmp_path, valkey_url, postgres_dsn, postgres
):
    async with running_console(
        tmp_path, valkey_url, postgres_dsn, postgres, trusted_proxies="127.0.0.0/8"
    ) as running:
        person = await running.add_person()
        headers = {"Host": "c.example.cn", "X-Forwarded-Proto": "https"}
        async with running.client(**headers, **{"X-Forwarded-For": "6.6.6.6, 1.2.3.4"}) as client:
            answer = await person.enter_password(client)
            assert answer.headers["Set-Cookie"].startswith("__Host-dianzan=")
            for _ in range(60):
                await client.get("/set-up")
            assert (await client.get("/set-up")).status == 429
        async with running.client(**headers, **{"X-Forwarded-For": "1.2.3.5"}) as other:
            assert (await other.get("/set-up")).status == 403


@pytest.mark.parametrize("forged", ["", "x", "a" * 43, "a" * 44, "../../etc/passwd", "\u00e9" * 43])
async def test_a_forged_session_is_none(console, forged):  # noqa: F811
    async with console.client(forged) as client:
        assert (await client.get("/account")).status == 303


@pytest.mark.parametrize(
    ("column", "age"),
    [("seen_at", sessions.IDLE), ("begun_at", sessions.ABSOLUTE)],
)
async def test_a_session_ends_when_it_was_idle_and_in_any_case_after_a_working_day(
    console,  # noqa: F811
    column,
    age,
):
    async with console.client_as("viewer") as client:
        await console.connection.execute(
            f"UPDATE staff_sessions SET {column} = now() - $1::interval",
            age - timedelta(minutes=1),
        )
        assert (await client.get("/account")).status == 200
        await console.connection.execute(
            f"UPDATE staff_sessions SET {column} = now() - $1::interval", age
        )
        assert (await client.get("/account")).status == 303


async def test_each_request_keeps_a_session_from_being_idle(console):  # noqa: F811
    async with console.client_as("viewer") as client:
        await console.connection.execute(
            "UPDATE staff_sessions SET seen_at = now() - interval '20 minutes'"
        )
        await client.get("/account")
        idle = await console.connection.fetchval("SELECT now() - seen_at FROM staff_sessions")
        assert idle < timedelta(seconds=5)


async def test_who_was_disabled_is_out_at_once_and_a_role_that_changed_counts_at_once(console):  # noqa: F811
    async with console.client_as("admin") as client:
        assert (await client.get("/staff")).status == 200
        await console.connection.execute("UPDATE staff SET role = 'viewer'")
        assert (await client.get("/staff")).status == 403
        await console.connection.execute("UPDATE staff SET disabled_at = now()")
        assert (await client.get("/account")).status == 303


async def test_signing_out_ends_the_session_and_everywhere_ends_the_others(console):  # noqa: F811
    staff = await console.add_staff("viewer")
    async with console.client_as(staff) as here, console.client_as(staff) as there:
        async with console.client_as(staff) as third:
            assert (await third.post("/sign-out")).headers["Location"] == "/sign-in?said=signed-out"
            assert (await third.get("/account")).status == 303
        assert (await here.post("/sign-out-everywhere")).status == 303
        assert (await here.get("/account")).status == 200
        assert (await there.get("/account")).status == 303


async def test_sessions_of_one_person_are_bounded(console):  # noqa: F811
    person = await console.add_person(totp_secret=None)
    for _ in range(sessions.SESSIONS_MAX + 3):
        async with console.connection.transaction():
            await sessions.begin(console.connection, person.staff.number, complete=True)
    kept = await console.connection.fetchval("SELECT count(*) FROM staff_sessions")
    assert kept == sessions.SESSIONS_MAX


async def test_nobody_a_wrong_password_a_locked_and_a_disabled_account_get_one_answer(console):  # noqa: F811
    person = await console.add_person()
    locked, disabled = await console.add_person(), await console.add_person()
    await lock(console, locked)
    await console.connection.execute(
        "UPDATE staff SET disabled_at = now() WHERE number = $1", disabled.staff.number
    )
    answers = []
    async with console.client() as client:
        for name, password in (
            ("nobody", PASSWORD),
            (person.staff.name, "wrong password, really"),
            (locked.staff.name, PASSWORD),
            (disabled.staff.name, PASSWORD),
        ):
            answer = await client.post("/sign-in", {"name": name, "password": password})
            text = (await answer.text()).replace(name, "NAME")
            answers.append((answer.status, re.sub(r"\s+", " ", text)))
            assert "Set-Cookie" not in answer.headers
    assert len(set(answers)) == 1
    assert answers[0][0] == 403


async def test_an_unknown_name_takes_as_long_as_a_known_one(console):  # noqa: F811
    person = await console.add_person()
    took = {"nobody": [], person.staff.name: []}
    async with console.client() as client:
        for _ in range(9):
            for name, seconds in took.items():
                began = time.perf_counter()
                await client.post("/sign-in", {"name": name, "password": "wrong, but long enough"})
                seconds.append(time.perf_counter() - began)
    unknown, known = (median(seconds) for seconds in took.values())
    # Without the same work it would be a fifth.
    assert 0.6 < unknown / known < 1.6


async def test_failures_lock_for_longer_and_longer_and_the_right_ones_forget_them(console):  # noqa: F811
    person = await console.add_person()
    waits = []
    async with console.client() as client:
        for n in range(1, accounts.FREE_FAILURES + 6):
            await fail(console, client, person)
            wait = await console.connection.fetchval(
                "SELECT locked_until - now() FROM staff WHERE number = $1", person.staff.number
            )
            if n < accounts.FREE_FAILURES:
                assert wait is None
            else:
                waits.append(round(wait / timedelta(minutes=1)))
            await console.connection.execute("UPDATE staff SET locked_until = now()")
        assert waits == [1, 2, 4, 8, 15, 15]
        await person.sign_in(client)
    assert await failures(console, person) == 0
    locks = [row async for row in audit.rows(console.connection) if row.action == "staff.lock"]
    assert len(locks) == len(waits)


async def test_guesses_at_a_locked_account_change_nothing_and_do_not_prolong_it(console):  # noqa: F811
    person = await console.add_person()
    await lock(console, person)
    before = await console.connection.fetchrow("SELECT failures, locked_until FROM staff")
    async with console.client() as client:
        for _ in range(3):
            assert (await person.enter_password(client, "wrong password, really")).status == 403
        assert (await person.enter_password(client)).status == 403
    assert await console.connection.fetchrow("SELECT failures, locked_until FROM staff") == before


async def test_who_guesses_cannot_keep_out_a_browser_that_was_in_before(console):  # noqa: F811
    person = await console.add_person()
    async with console.client() as own:
        await person.sign_in(own)
        await own.post("/sign-out")
        await lock(console, person)
        await console.connection.execute("UPDATE staff SET totp_step = 0")
        assert (await person.sign_in(own)).status == 303
        assert (await own.get("/account")).status == 200
        known = cookie_of(own, "dianzan-known")
    other = await console.add_person()
    await lock(console, other)
    async with console.client() as client:
        client.session.cookie_jar.update_cookies({"dianzan-known": known})
        assert (await other.enter_password(client)).status == 403, "it knows one person alone"
        client.session.cookie_jar.update_cookies({"dianzan-known": known[:-4] + "AAAA"})
        await lock(console, person)
        assert (await person.enter_password(client)).status == 403, "forged"


async def test_a_known_browser_may_not_guess_without_end_either(console, monkeypatch):  # noqa: F811
    person = await console.add_person()
    async with console.client() as own:
        await person.sign_in(own)
        await lock(console, person)
        whose = str(person.staff.number)
        while console.app.state.console.known_tries.admits(whose):
            pass
        assert (await person.enter_password(own)).status == 403


async def test_wrong_guesses_from_a_known_browser_use_up_its_tries(console):  # noqa: F811
    person = await console.add_person()
    tries = InMemory("3/hour")
    object.__setattr__(console.app.state.console, "known_tries", tries)
    async with console.client() as own:
        await person.sign_in(own)
        await lock(console, person)
        for _ in range(3):
            assert (await person.enter_password(own, "wrong password, really")).status == 403
        assert (await person.enter_password(own)).status == 403, "a guess too many, if a right one"


async def test_a_code_is_taken_once(console):  # noqa: F811
    person = await console.add_person()
    code = person.code()
    async with console.client() as first, console.client() as second:
        await person.enter_password(first)
        await person.enter_password(second)
        assert (await first.post("/sign-in/code", {"code": code})).headers["Location"] == "/"
        again = await second.post("/sign-in/code", {"code": code})
        assert again.status == 403
        assert "用过" in await again.text()
        earlier = await second.post("/sign-in/code", {"code": person.code(-1)})
        assert earlier.status == 403, "a step before the one that was taken is not taken"
        assert (await second.post("/sign-in/code", {"code": person.code(1)})).status == 303


async def test_of_many_requests_with_one_code_one_gets_in(console):  # noqa: F811
    person = await console.add_person()
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(console.client()) for _ in range(5)]
        for client in clients:
            await person.enter_password(client)
        code = person.code()
        answers = await asyncio.gather(
            *(client.post("/sign-in/code", {"code": code}) for client in clients)
        )
    assert sorted(answer.status for answer in answers)[0] == 303
    inside = await console.connection.fetchval("SELECT count(*) FROM staff_sessions WHERE complete")
    assert inside == 1


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "000000 OR 1=1"])
async def test_what_is_no_code_is_refused(console, code):  # noqa: F811
    person = await console.add_person()
    async with console.client() as client:
        await person.enter_password(client)
        assert (await client.post("/sign-in/code", {"code": code})).status == 403


async def test_codes_are_taken_one_step_off_either_way_and_no_further(
    console,  # noqa: F811
    monkeypatch,
):
    # In the middle of a step, and it stays there: the request would else take the clock further.
    now = time.time() // 30 * 30 + 15
    monkeypatch.setattr(sign_in, "time", SimpleNamespace(time=lambda: now))
    for steps, taken in ((-2, False), (-1, True), (1, True), (2, False)):
        person = await console.add_person()
        async with console.client() as client:
            await person.enter_password(client)
            code = credentials.code_at(person.secret, now + 30 * steps)
            answer = await client.post("/sign-in/code", {"code": code})
            assert (answer.status == 303) is taken, steps


async def test_wrong_codes_lock_and_end_the_half_session(console):  # noqa: F811
    person = await console.add_person()
    wrong = f"{(int(person.code()) + 500_000) % 1_000_000:06}"
    async with console.client() as client:
        await person.enter_password(client)
        answers = [await client.post("/sign-in/code", {"code": wrong}) for _ in range(5)]
        assert [answer.status for answer in answers] == [403] * 4 + [303]
        assert answers[-1].headers["Location"] == "/sign-in"
        # ... and the right password does not make the guesses free again.
        assert (await person.enter_password(client)).status == 403
    assert await failures(console, person) == 5


async def test_a_code_is_not_taken_that_was_on_its_way_when_the_account_was_locked(
    console,  # noqa: F811
    monkeypatch,
):
    """Else whoever sends hundreds of codes at once has hundreds of tries, not five."""
    person = await console.add_person()
    on_its_way, locked = asyncio.Event(), asyncio.Event()
    half_signed_in = sign_in._half_signed_in

    async def and_then_wait(request):
        account = await half_signed_in(request)
        on_its_way.set()
        await locked.wait()
        return account

    async with console.client() as client:
        await person.enter_password(client)
        monkeypatch.setattr(sign_in, "_half_signed_in", and_then_wait)
        answering = asyncio.create_task(client.post("/sign-in/code", {"code": person.code()}))
        await on_its_way.wait()
        await lock(console, person)
        locked.set()
        assert (await answering).headers["Location"] == "/sign-in"
        assert (await client.get("/account")).status == 303


async def test_a_half_session_does_not_wait_for_ever(console):  # noqa: F811
    person = await console.add_person()
    async with console.client() as client:
        await person.enter_password(client)
        await console.connection.execute(
            "UPDATE staff_sessions SET begun_at = begun_at - interval '10 minutes'"
        )
        answer = await client.post("/sign-in/code", {"code": person.code()})
        assert answer.headers["Location"] == "/sign-in"


async def test_the_first_sign_in_enrols_an_authenticator(console):  # noqa: F811
    person = await console.add_person(totp_secret=None)
    async with console.client() as client:
        answer = await person.enter_password(client)
        assert answer.headers["Location"] == "/sign-in/enrol"
        page = await (await client.get("/sign-in/enrol")).text()
        assert "<svg" in page
        shown = re.search(r'class="secret"[^>]*>([A-Z2-7 ]+)<', page)[1]
        sealed = re.search(r'name="sealed" value="(\w+)"', page)[1]
        secret = __import__("base64").b32decode(shown.replace(" ", ""))
        wrong = await client.post("/sign-in/enrol", {"sealed": sealed, "code": "000000"})
        assert wrong.status == 403
        assert shown in await wrong.text(), "the same secret: it is in the app already"
        code = credentials.code_at(secret, time.time())
        done = await client.post("/sign-in/enrol", {"sealed": sealed, "code": code})
        assert done.status == 303
        assert (await client.get("/account")).status == 200
    kept = await console.connection.fetchval("SELECT totp_secret FROM staff")
    assert secret not in kept, "the database alone gives no codes"


async def test_a_secret_of_another_session_is_not_enrolled(console):  # noqa: F811
    mallory, person = (
        await console.add_person(totp_secret=None),
        await console.add_person(totp_secret=None),
    )
    async with console.client() as hers, console.client() as his:
        await mallory.enter_password(hers)
        page = await (await hers.get("/sign-in/enrol")).text()
        sealed = re.search(r'name="sealed" value="(\w+)"', page)[1]
        shown = re.search(r'class="secret"[^>]*>([A-Z2-7 ]+)<', page)[1]
        secret = __import__("base64").b32decode(shown.replace(" ", ""))
        await person.enter_password(his)
        code = credentials.code_at(secret, time.time())
        assert (await his.post("/sign-in/enrol", {"sealed": sealed, "code": code})).status == 403


async def test_who_has_an_authenticator_cannot_enrol_another_with_the_password_alone(console):  # noqa: F811
    person = await console.add_person()
    async with console.client() as client:
        await person.enter_password(client)
        assert (await client.get("/sign-in/enrol")).headers["Location"] == "/sign-in"
        answer = await client.post("/sign-in/enrol", {"sealed": "00", "code": "000000"})
        assert answer.headers["Location"] == "/sign-in"


async def test_a_set_up_link_is_good_once_and_ends_in_a_session(console):  # noqa: F811
    account = await accounts.add(
        console.connection, "li", "reviewer", by=accounts.By("root", "command")
    )
    seal = console.app.state.console.seal
    token = credentials.close_set_up(seal, account.set_up, time.time())
    async with console.client() as client:
        assert (await client.get("/set-up", params={"token": token})).status == 200
        for password, again in (
            ("short", "short"),
            (PASSWORD, PASSWORD + "x"),
            ("li password 123456", "li password 123456"),
        ):
            fields = {"token": token, "password": password, "again": again}
            assert (await client.post("/set-up", fields)).status == 422
        fields = {"token": token, "password": PASSWORD, "again": PASSWORD}
        assert (await client.post("/set-up", fields)).headers["Location"] == "/sign-in/enrol"
        assert (await client.get("/sign-in/enrol")).status == 200
        assert (await client.get("/set-up", params={"token": token})).status == 403
        assert (await client.post("/set-up", fields)).status == 403


async def test_a_set_up_link_is_void_when_it_is_old_forged_or_another_was_made(console):  # noqa: F811
    by = accounts.By("root", "command")
    account = await accounts.add(console.connection, "li", "reviewer", by=by)
    seal = console.app.state.console.seal
    now = time.time()
    old = credentials.close_set_up(seal, account.set_up, now - credentials.SET_UP_SECONDS)
    first = credentials.close_set_up(seal, account.set_up, now)
    await accounts.reset(console.connection, account.number, by=by, password=True, totp=True)
    async with console.client() as client:
        for token in (old, first, first[:-4] + "AAAA", "", "é", "A" * 2_000):
            assert (await client.get("/set-up", params={"token": token})).status == 403, token


async def test_of_two_who_use_a_link_at_once_one_sets_the_password(console):  # noqa: F811
    account = await accounts.add(
        console.connection, "li", "reviewer", by=accounts.By("root", "command")
    )
    token = credentials.close_set_up(console.app.state.console.seal, account.set_up, time.time())
    async with console.client() as one, console.client() as other:
        answers = await asyncio.gather(
            *(
                client.post("/set-up", {"token": token, "password": password, "again": password})
                for client, password in ((one, PASSWORD), (other, PASSWORD + " 2"))
            )
        )
    assert sorted(answer.status for answer in answers) == [303, 403]


async def test_a_flood_of_passwords_is_refused_and_the_pages_go_on(console, monkeypatch):  # noqa: F811
    person = await console.add_person()
    async with console.client_as("viewer") as staff, contextlib.AsyncExitStack() as stack:
        # As from many addresses: the limit of one address would end it at once.
        monkeypatch.setattr("tally.console.limits.network_of", lambda address: str(time.time_ns()))
        clients = [await stack.enter_async_context(console.client()) for _ in range(60)]
        flood = asyncio.gather(
            *(person.enter_password(client, "wrong password, really") for client in clients)
        )
        looks = []
        while not flood.done():
            began = time.perf_counter()
            assert (await staff.get("/account")).status == 200
            looks.append(time.perf_counter() - began)
        statuses = {answer.status for answer in await flood}
    assert statuses == {403, 503}, "some were looked at, the rest was told to come again"
    assert median(looks) < 0.5


async def test_the_address_alone_ends_a_flood(console):  # noqa: F811
    async with console.client() as client:
        statuses = [
            (await client.post("/sign-in", {"name": f"n{n}", "password": "x"})).status
            for n in range(21)
        ]
    assert statuses == [403] * 20 + [429]


async def test_names_are_shown_as_text(console):  # noqa: F811
    staff = await console.add_staff("admin", name="eve", shown_as="<b onload=x>&'\"</b>")
    async with console.client_as(staff) as client:
        for path in ("/account", "/staff"):
            text = await (await client.get(path)).text()
            assert "<b onload" not in text
            assert "&lt;b onload=x&gt;&amp;&#39;&#34;&lt;/b&gt;" in text
        answer = await client.post("/sign-in", {"name": '"><script>', "password": "x"})
        assert "<script>" not in await answer.text()
