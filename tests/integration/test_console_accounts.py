"""Accounts in the console: one's own, and what admins do with everybody's; the audit log's page."""

import asyncio
import base64
import re
import time

import pytest

from tally import audit
from tally.accounts import credentials
from tally.accounts import staff as accounts
from tests.console import PASSWORD, console  # noqa: F401  # a fixture

NEW = "a brand new sentence"


async def actions(console):  # noqa: F811
    return [row.action async for row in audit.rows(console.connection)]


async def row_of(console, staff):  # noqa: F811
    return await console.connection.fetchrow("SELECT * FROM staff WHERE number = $1", staff.number)


async def test_ones_own_password_changes_and_other_sessions_end(console):  # noqa: F811
    person = await console.add_person()
    async with console.client_as(person.staff) as here, console.client_as(person.staff) as there:
        fields = {"present": PASSWORD, "password": NEW, "again": NEW}
        answer = await here.post("/account/password", fields)
        assert answer.headers["Location"] == "/account?said=password-changed"
        assert "密码已更改" in await (await here.get("/account?said=password-changed")).text()
        assert (await there.get("/account")).status == 303
    async with console.client() as client:
        assert (await person.enter_password(client)).status == 403
        assert (await person.enter_password(client, NEW)).status == 303
    assert await actions(console) == ["staff.password"]


@pytest.mark.parametrize(
    ("present", "password", "again", "said"),
    [
        ("wrong password, really", NEW, NEW, "当前密码不正确"),
        (PASSWORD, "short", "short", "至少 12 个字符"),
        (PASSWORD, NEW, NEW + "x", "两次输入不一致"),
        (PASSWORD, "password 123456789", "password 123456789", "太容易"),
        (PASSWORD, "x" * 300, "x" * 300, "最多 200"),
    ],
)
async def test_a_password_that_is_not_right_is_said(console, present, password, again, said):  # noqa: F811
    person = await console.add_person()
    async with console.client_as(person.staff) as client:
        fields = {"present": present, "password": password, "again": again}
        answer = await client.post("/account/password", fields)
        assert answer.status == 403
        assert said in await answer.text()
    assert (await row_of(console, person.staff))["password_hash"] == (
        await console.connection.fetchval("SELECT password_hash FROM staff")
    )
    assert await actions(console) == []


async def test_a_session_left_open_is_no_place_to_guess(console):  # noqa: F811
    person = await console.add_person()
    async with console.client_as(person.staff) as client:
        fields = {"present": "wrong password, really", "password": NEW, "again": NEW}
        for _ in range(accounts.FREE_FAILURES):
            assert (await client.post("/account/password", fields)).status == 403
        fields["present"] = PASSWORD
        assert (await client.post("/account/password", fields)).status == 429


async def test_another_authenticator_needs_the_present_one_and_proves_itself(console):  # noqa: F811
    person = await console.add_person()
    before = (await row_of(console, person.staff))["totp_secret"]
    async with console.client_as(person.staff) as client:
        for fields in (
            {"present": "wrong password, really", "code": person.code()},
            {"present": PASSWORD, "code": "000000"},
            {"present": PASSWORD},
        ):
            answer = await client.post("/account/authenticator", fields)
            assert answer.status == 403
        page = await client.post(
            "/account/authenticator", {"present": PASSWORD, "code": person.code()}
        )
        text = await page.text()
        sealed = re.search(r'name="sealed" value="(\w+)"', text)[1]
        shown = re.search(r'class="secret"[^>]*>([A-Z2-7 ]+)<', text)[1]
        assert (await row_of(console, person.staff))["totp_secret"] == before
        secret = base64.b32decode(shown.replace(" ", ""))
        wrong = await client.post("/account/enrol", {"sealed": sealed, "code": person.code()})
        assert wrong.status == 403
        code = credentials.code_at(secret, time.time())
        done = await client.post("/account/enrol", {"sealed": sealed, "code": code})
        assert done.headers["Location"] == "/account?said=authenticator-changed"
    assert (await row_of(console, person.staff))["totp_secret"] != before
    assert await actions(console) == ["staff.enrol"]


async def test_no_authenticator_is_enrolled_without_having_asked_for_it(console):  # noqa: F811
    person = await console.add_person()
    secret = credentials.new_totp_secret()
    async with console.client_as(person.staff) as client:
        fields = {"sealed": secret.hex(), "code": credentials.code_at(secret, time.time())}
        assert (await client.post("/account/enrol", fields)).status == 403


async def test_an_admin_makes_an_account_and_gets_a_link_once(console):  # noqa: F811
    async with console.client_as("admin") as client:
        fields = {"name": "wang", "shown_as": "王芳", "role": "reviewer"}
        answer = await client.post("/staff", fields)
        text = await answer.text()
        link = re.search(r'class="secret">(http[^<]+)<', text)[1]
        assert link.startswith(f"{console.url}/set-up?token=")
        assert link not in await (await client.get("/staff")).text()
        assert "王芳" in await (await client.get("/staff")).text()
    async with console.client() as new:
        assert "王芳" in await (await new.get(link.removeprefix(console.url))).text()
    assert await actions(console) == ["staff.add"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Wang"}, "小写字母"),
        ({"name": ""}, "小写字母"),
        ({"name": "w" * 33}, "小写字母"),
        ({"name": "taken"}, "已有同名账号"),
        ({"role": "root"}, "没有这个角色"),
        ({"shown_as": "x" * 61}, "1 至 60"),
        ({"shown_as": "a\u202eb"}, "1 至 60"),
    ],
)
async def test_an_account_that_cannot_be_is_said_and_what_was_entered_stays(console, fields, said):  # noqa: F811
    await console.add_staff("viewer", name="taken")
    async with console.client_as("admin") as client:
        fields = {"name": "wang", "shown_as": "王芳", "role": "viewer", **fields}
        answer = await client.post("/staff", fields)
        assert answer.status == 409
        assert said in await answer.text()
    assert await console.connection.fetchval("SELECT count(*) FROM staff") == 2


async def test_a_role_changes_at_once(console):  # noqa: F811
    async with console.client_as("admin") as admin, console.client_as("viewer") as other:
        assert (await other.get("/audit")).status == 403
        path = f"/staff/{other.staff.number}/role"
        assert (await admin.post(path, {"role": "reviewer"})).status == 303
        assert (await other.get("/audit")).status == 200
        assert (await admin.post(path, {"role": "root"})).status == 409
    (row,) = [row async for row in audit.rows(console.connection)]
    assert (row.action, row.subject) == ("staff.role", f"staff {other.staff.name}")
    assert row.details == '{"became":"reviewer","was":"viewer"}'


async def test_a_disabled_account_is_out_at_once_and_enabled_it_is_as_before(console):  # noqa: F811
    person = await console.add_person()
    async with console.client_as("admin") as admin, console.client_as(person.staff) as other:
        assert (await admin.post(f"/staff/{person.staff.number}/disable")).status == 303
        assert (await other.get("/account")).status == 303
        async with console.client() as client:
            assert (await person.enter_password(client)).status == 403
            assert (await admin.post(f"/staff/{person.staff.number}/enable")).status == 303
            assert (await other.get("/account")).status == 303, "its sessions are gone"
            assert (await person.sign_in(client)).status == 303
    assert await actions(console) == ["staff.disable", "staff.enable", "staff.sign-in"]


async def test_what_is_reset_is_gone_at_once_and_a_link_makes_it_anew(console):  # noqa: F811
    person = await console.add_person()
    async with console.client_as("admin") as admin, console.client_as(person.staff) as other:
        answer = await admin.post(f"/staff/{person.staff.number}/reset", {"what": "both"})
        link = re.search(r'class="secret">(http[^<]+)<', await answer.text())[1]
        assert (await other.get("/account")).status == 303
    async with console.client() as client:
        assert (await person.enter_password(client)).status == 403
        token = link.partition("token=")[2]
        fields = {"token": token, "password": NEW, "again": NEW}
        assert (await client.post("/set-up", fields)).headers["Location"] == "/sign-in/enrol"


async def test_who_lost_the_password_alone_keeps_the_authenticator(console):  # noqa: F811
    person = await console.add_person()
    async with console.client_as("admin") as admin:
        answer = await admin.post(f"/staff/{person.staff.number}/reset", {"what": "password"})
        link = re.search(r'class="secret">(http[^<]+)<', await answer.text())[1]
    async with console.client() as client:
        fields = {"token": link.partition("token=")[2], "password": NEW, "again": NEW}
        assert (await client.post("/set-up", fields)).headers["Location"] == "/sign-in/code"
        assert (await client.post("/sign-in/code", {"code": person.code(1)})).status == 303


async def test_nobody_takes_away_the_last_admin_or_changes_their_own_role(console):  # noqa: F811
    async with console.client_as("admin") as admin:
        own = admin.staff.number
        for path, fields in (
            (f"/staff/{own}/disable", {}),
            (f"/staff/{own}/role", {"role": "viewer"}),
        ):
            answer = await admin.post(path, fields)
            assert answer.status == 409
            assert "自己" in await answer.text()
    by = accounts.By("root", "command")
    with pytest.raises(accounts.StaffError, match="last admin"):
        await accounts.disable(console.connection, own, by=by)
    with pytest.raises(accounts.StaffError, match="last admin"):
        await accounts.set_role(console.connection, own, "viewer", by=by)
    await console.add_staff("admin")
    await accounts.disable(console.connection, own, by=by)


async def test_an_account_that_is_not_there_is_not_found(console):  # noqa: F811
    async with console.client_as("admin") as admin:
        for what in ("role", "disable", "enable", "reset"):
            assert (await admin.post(f"/staff/999/{what}", {"role": "viewer"})).status == 404


async def add_rows(connection, number, actor="li", action="case.strike"):
    for n in range(number):
        async with connection.transaction():
            await audit.append(
                connection,
                actor=actor,
                role="reviewer",
                action=action,
                subject=f"flag {n}",
                details={"reason": "<b>同一脚本</b>"},
            )


async def test_the_log_is_searched_and_turned_page_by_page(console):  # noqa: F811
    await add_rows(console.connection, 105)
    await add_rows(console.connection, 3, actor="wang", action="staff.add")
    async with console.client_as("reviewer") as client:
        text = await (await client.get("/audit")).text()
        assert text.count('data-label="序号"') == 100
        older = re.search(r'href="(/audit\?before=\d+)"', text)[1]
        assert (await (await client.get(older)).text()).count('data-label="序号"') == 8
        for query, rows in (
            ("actor=wang", 3),
            ("action=staff.", 3),
            ("action=staff.&actor=li", 0),
            ("subject=FLAG+104", 1),
            ("until=2001-01-01", 0),
            ("since=2001-01-01&actor=wang&until=2999-12-31", 3),
            ("since=tomorrow&actor=wang", 3),
            ("actor=%25&before=3", 0),
        ):
            text = await (await client.get(f"/audit?{query}")).text()
            assert text.count('data-label="序号"') == rows, query
        assert "没有找到" in text
        assert "<b>同一脚本" not in await (await client.get("/audit")).text()


async def test_the_page_verifies_the_chain_and_says_where_it_is_broken(console):  # noqa: F811
    await add_rows(console.connection, 5)
    head = await audit.head(console.connection)
    async with console.client_as("reviewer") as client:
        text = await (await client.post("/audit/verify")).text()
        assert "链条完好：全部 5 行吻合" in text
        assert head.hash.hex() in text
        await console.connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        await console.connection.execute("UPDATE audit_log SET actor = 'x' WHERE number = 4")
        text = await (await client.post("/audit/verify")).text()
        assert "链条已断：第 4 行不吻合" in text


async def test_one_walk_over_the_chain_goes_on_at_a_time(console, monkeypatch):  # noqa: F811
    walks, go_on, walk = asyncio.Event(), asyncio.Event(), audit.verify

    async def slow(connection):
        walks.set()
        await go_on.wait()
        return await walk(connection)

    monkeypatch.setattr(audit, "verify", slow)
    async with console.client_as("reviewer") as one, console.client_as("reviewer") as other:
        first = asyncio.create_task(one.post("/audit/verify"))
        await walks.wait()
        answer = await other.post("/audit/verify")
        assert (answer.status, "请一分钟后再试" in await answer.text()) == (409, True)
        go_on.set()
        assert "链条完好" in await (await first).text()
        assert "链条完好" in await (await other.post("/audit/verify")).text()
