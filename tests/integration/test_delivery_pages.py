"""Pages of what goes out: destinations, the outbox, keys, publications."""

import json
import re

import pytest

from tally.console import delivery
from tally.delivery import outbox
from tally.delivery.destinations import open_access
from tally.delivery.outbox import WANTED, Event
from tests.campaigns import add_campaign
from tests.console import console  # noqa: F401  # a fixture
from tests.publications import add_publication

GOOD = {
    "shown_as": "评选办公室",
    "form": "webhook",
    "address": "https://office.example/hook?token=abcdefgh",
    "events": [event.value for event in WANTED],
}


async def audit_of(postgres):
    rows = await postgres.fetch("SELECT actor, action, details FROM audit_log ORDER BY number")
    return [(row["action"], row["details"]) for row in rows]


async def test_a_webhook_s_secret_is_shown_once_and_is_what_letters_are_signed_with(
    console,  # noqa: F811
    postgres,
):
    async with console.client_as("admin") as client:
        answer = await client.post("/destinations", GOOD)
        assert answer.status == 201
        text = await answer.text()
        shown = re.search(r'class="secret">([^<]{43})<', text)[1]
        row = await postgres.fetchrow("SELECT * FROM destinations")
        seal = console.app.state.console.seal
        access = open_access(seal, row["form"], row["address"], row["secret"])
        assert (access.secret, access.query) == (shown, "token=abcdefgh")
        page = await (await client.get("/destinations")).text()
        assert "评选办公室" in page
        assert shown not in page
        assert "abcdefgh" not in page
    ((action, details),) = await audit_of(postgres)
    assert action == "destination.add"
    assert "abcdefgh" not in details
    assert shown not in details


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"address": "http://office.example/"}, "这里只允许 https://"),
        ({"address": "https://10.0.0.1/"}, "该地址属于内部网络"),
        ({"form": "mail"}, "这不是有效的邮箱地址"),
        ({"events": []}, "至少选择一种通知"),
        ({"shown_as": "<script>alert(1)</script>", "address": "x"}, "应为 https://"),
    ],
)
async def test_a_destination_that_cannot_be_is_said_in_chinese_with_what_was_typed(
    console,  # noqa: F811
    postgres,
    wrong,
    said,
):
    async with console.client_as("admin") as client:
        answer = await client.post("/destinations", GOOD | wrong)
        text = await answer.text()
    assert answer.status == 422
    assert said in text
    assert "<script>alert" not in text
    assert await postgres.fetchval("SELECT count(*) FROM destinations") == 0
    assert await audit_of(postgres) == []


async def test_a_destination_is_tried_out_switched_off_and_on_again(console, postgres):  # noqa: F811
    async with console.client_as("admin") as client:
        await client.post("/destinations", GOOD | {"form": "dingtalk", "secret": "SEC1"})
        number = await postgres.fetchval("SELECT number FROM destinations")
        answer = await client.post(f"/destinations/{number}/test")
        assert answer.headers["Location"] == "/outbox?state=waiting&said=test-written"
        assert "测试" in await (await client.get("/outbox?state=waiting")).text()
        await client.post(f"/destinations/{number}/disable")
        await client.post(f"/destinations/{number}/disable")
        assert await outbox.add(postgres, Event.PUBLISHED, "spring/1", {}) == 0
        dead = await (await client.get("/outbox")).text()
        assert "目的地已停用" in dead
        await client.post(f"/destinations/{number}/enable")
        assert await outbox.add(postgres, Event.PUBLISHED, "spring/1", {}) == 1
        assert (await client.post("/destinations/999/test")).status == 404
        assert (await client.post("/destinations/99999999999/disable")).status == 404
    assert [action for action, _ in await audit_of(postgres)] == [
        "destination.add",
        "destination.test",
        "destination.off",
        "destination.on",
    ]


async def test_a_dead_letter_is_sent_again_by_hand_and_once(console, postgres):  # noqa: F811
    async with console.client_as("admin") as client:
        await client.post("/destinations", GOOD)
        await outbox.add(postgres, Event.PUBLISHED, "spring/1", {"campaign": "spring"})
        letter = await postgres.fetchval(
            "UPDATE outbox SET given_up_at = now(), tries = 12, last_error = '<b>500</b>'"
            " RETURNING id"
        )
        page = await (await client.get("/outbox")).text()
        assert "&lt;b&gt;500&lt;/b&gt;" in page
        answer = await client.post(f"/outbox/{letter}/again")
        assert answer.status == 303
        assert (await client.post(f"/outbox/{letter}/again")).status == 409
        assert (await client.post("/outbox/nonsense/again")).status == 404
        number = await postgres.fetchval("SELECT number FROM destinations")
        await client.post(f"/destinations/{number}/disable")
        answer = await client.post(f"/outbox/{letter}/again")
        assert answer.status == 409
        assert "目的地已停用：重新启用" in await answer.text()
        await client.post(f"/destinations/{number}/enable")
        assert (await client.post(f"/outbox/{letter}/again")).status == 303
    row = await postgres.fetchrow("SELECT * FROM outbox")
    assert (row["given_up_at"], row["tries"]) == (None, 0)


async def test_an_office_key_is_shown_once_and_revoked_for_good(console, postgres):  # noqa: F811
    async with console.client_as("admin") as client:
        form = {"shown_as": "办公室的程序", "scopes": ["publications:read", "tally:read"]}
        answer = await client.post("/office-keys", form)
        assert answer.status == 201
        key = re.search(r"dzk_[a-z0-9]{10}_[A-Za-z0-9_-]{43}", await answer.text())[0]
        page = await (await client.get("/office-keys")).text()
        assert key not in page
        id_ = key.split("_")[1]
        assert f"dzk_{id_}_…" in page
        stored = await postgres.fetchrow("SELECT * FROM office_keys")
        assert key.encode() not in stored["key_hash"]
        assert (await client.post(f"/office-keys/{id_}/revoke")).status == 303
        assert (await client.post(f"/office-keys/{id_}/revoke")).status == 404
        refused = await client.post("/office-keys", {"shown_as": "x", "scopes": ["everything"]})
        assert refused.status == 422
        assert "至少选择一项权限" in await refused.text()
    actions = await audit_of(postgres)
    assert [action for action, _ in actions] == ["office-key.make", "office-key.revoke"]
    assert key.split("_", 2)[2] not in json.dumps(actions)


async def test_publications_are_listed_with_their_hash_and_handed_out(console, postgres):  # noqa: F811
    await add_campaign(postgres)
    first = await add_publication(postgres, 1, kind="scheduled")
    last = await add_publication(postgres, 2, kind="final", approved_by="wang")
    await add_publication(postgres, 3, made=False)
    async with console.client_as("office") as client:
        assert (
            (await client.get("/publications"))
            .headers["Location"]
            .endswith("/campaigns/spring/publications")
        )
        page = await (await client.get("/campaigns/spring/publications")).text()
        for each in (first, last):
            assert each.manifest_hash.hex() in page
        assert "核准：wang" in page
        assert "/publications/3/" not in page, "its files are not made yet"
        name = "spring-0002-final"
        assert f"unzip {name}.zip -d {name}\ndianzan verify {name}<" in page
        assert "/exports" not in page
        assert "提议最终发布" not in page
        path = "/campaigns/spring/publications/2/archive.zip"
        async with client.session.get(path) as answer:
            assert answer.status == 200
            assert await answer.read() == last.archive
        assert answer.headers["Content-Disposition"] == (
            'attachment; filename="spring-0002-final.zip"'
        )
        for nowhere in ("spring/publications/3", "spring/publications/0", "winter/publications/1"):
            answer = await client.get(f"/campaigns/{nowhere}/archive.zip")
            assert answer.status == 404
    async with console.client_as("viewer") as client:
        page = await (await client.get("/campaigns/spring/publications?before=2")).text()
        assert first.manifest_hash.hex() in page
        assert last.manifest_hash.hex() not in page


async def test_the_final_seal_is_proposed_after_the_close_and_waits_for_another(
    console,  # noqa: F811
    postgres,
):
    await add_campaign(postgres)
    path = "/campaigns/spring/publications/final"
    async with console.client_as("reviewer") as client:
        for form, said in (
            ({"reason": "公示期已过"}, "活动尚未截止"),
            ({"reason": " "}, "需要填写理由"),
        ):
            answer = await client.post(path, form)
            assert answer.status == 409
            assert said in await answer.text()
        await postgres.execute("INSERT INTO closings VALUES (1, 0, 1, 5, 0, now(), true)")
        await postgres.execute("INSERT INTO watermarks VALUES (0, 1, 5, 0, now())")
        answer = await client.post(path, {"reason": "公示期已过"})
        assert answer.headers["Location"].endswith("/publications?said=final-proposed")
        staff = client.staff
    row = await postgres.fetchrow("SELECT * FROM proposals")
    assert (row["kind"], row["state"], row["proposed_by"]) == ("publish", "open", staff.number)
    assert await postgres.fetchval("SELECT count(*) FROM publications") == 0


async def test_of_a_rehearsal_nothing_is_shown_as_published(console, postgres):  # noqa: F811
    await add_campaign(postgres)
    await add_publication(postgres, 1)
    await postgres.execute("UPDATE campaigns SET is_test = true")
    async with console.client_as("admin") as client:
        assert (await client.get("/campaigns/spring/publications")).status == 404
        assert "还没有活动" in await (await client.get("/publications")).text()


def test_whatever_is_refused_has_its_chinese():
    import inspect

    from tally.delivery import destinations, office_keys

    raised = set()
    for module in (destinations, office_keys):
        pattern = r'raise (?:DestinationError|OfficeKeyError)\(\s*"([^"]+)"'
        raised |= set(re.findall(pattern, inspect.getsource(module)))
    assert raised == set(delivery.REFUSALS)
