"""The office API: what keys open, what they do not, and what is answered."""

import json
from datetime import UTC, datetime, timedelta

import aiohttp
import asyncpg
import pytest

from tally.console import office
from tally.console.limits import InMemory
from tally.console.office import UNPACKED_ARCHIVE_BYTES_MAX, hidden_until
from tally.delivery.office_keys import Scope, find_key, make_key, revoke_key
from tests.campaigns import add_campaign
from tests.console import console  # noqa: F401  # a fixture
from tests.decided import Poll, counted
from tests.publications import add_publication
from voting.campaign import Campaign, Rules, Visibility, VotingWindow

ROOT = "/office/v1/campaigns"


@pytest.fixture(autouse=True)
def no_wrong_keys_yet():
    office._wrong_keys.storage.reset()
    office._good_before.clear()
    office._without_scope = InMemory(office.NO_SCOPE_LIMIT)


class Program:
    """A program of the office, with a key."""

    def __init__(self, url, key):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.session = aiohttp.ClientSession(url, headers=headers)

    async def get(self, path, **headers):
        """(status, body as JSON where it is some, else bytes, headers)."""
        async with self.session.get(path, headers=headers, allow_redirects=False) as answer:
            body = await answer.read()
            if "json" in answer.content_type and body:
                body = json.loads(body)
            return answer.status, body, answer.headers

    async def post(self, path, body):
        async with self.session.post(path, json=body) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers


@pytest.fixture
async def program(console, postgres):  # noqa: F811
    """`await program("tally:read")`: a program with a new key of these scopes."""
    made = []

    async def make(*scopes, key=None):
        if key is None:
            _, key = await make_key(postgres, "程序", scopes, "li")
        made.append(Program(console.url, key))
        return made[-1]

    yield make
    for each in made:
        await each.session.close()


@pytest.fixture
async def published(postgres):
    """Campaign "spring" with two publications and a third whose files are not made."""
    await add_campaign(postgres)
    return [
        await add_publication(postgres, 1),
        await add_publication(postgres, 2, kind="final", approved_by="wang", counted=120),
        await add_publication(postgres, 3, made=False),
    ]


# Keys.

EVERYTHING = {
    f"{ROOT}": "publications:read",
    f"{ROOT}/spring/publications": "publications:read",
    f"{ROOT}/spring/publications/latest": "publications:read",
    f"{ROOT}/spring/publications/1": "publications:read",
    f"{ROOT}/spring/publications/1/archive.zip": "publications:read",
    f"{ROOT}/spring/publications/1/files/tally.json": "publications:read",
    f"{ROOT}/spring/tally": "tally:read",
    f"{ROOT}/spring/checkpoints": "log:read",
    f"{ROOT}/spring/objections": "objections:read",
    f"{ROOT}/spring/objections/1": "objections:read",
}
WRITES = {f"{ROOT}/spring/objections": "objections:write"}
OBJECTION = {"received_from": "某大学", "text": "对第 3 期的名次有异议", "candidate": "c002"}


def test_every_call_is_in_the_table():
    paths = office.description()["paths"]
    for method, table in (("get", EVERYTHING), ("post", WRITES)):
        shown = {
            path.format(campaign="spring", number=1, name="tally.json")
            for path, methods in paths.items()
            if method in methods
        }
        assert shown == set(table)


@pytest.mark.usefixtures("published")
async def test_a_key_opens_what_its_scope_says_and_nothing_else(program):
    writer = await program("objections:write")
    assert (await writer.post(f"{ROOT}/spring/objections", OBJECTION))[0] == 201
    for scope in Scope:
        one = await program(scope.value)
        for path, needed in WRITES.items():
            status, body, _ = await one.post(path, OBJECTION)
            assert status == (201 if needed == scope else 403), path
        for path, needed in EVERYTHING.items():
            status, body, _ = await one.get(path)
            if needed == scope:
                assert status == 200, path
            else:
                assert status == 403, path
                assert body["detail"] == f"this key has no scope {needed}"


@pytest.mark.usefixtures("published")
async def test_without_a_good_key_nothing_is_said(console, program, postgres):  # noqa: F811
    id_, key = await make_key(postgres, "程序", ["publications:read"], "li")
    other_id, other = await make_key(postgres, "另一个", ["publications:read"], "li")
    _, _, secret = other.split("_", 2)
    bad = [
        "",
        "nonsense",
        key[:-1],
        key + "A",
        key.upper(),
        f"dzk_{id_}_{secret}",  # another key's secret
        f"dzk_{'a' * 10}_{secret}",
        "dzk_" + "a" * 5000,
    ]
    for wrong in bad:
        one = await program(key=wrong)
        status, body, headers = await one.get(ROOT)
        assert status == 401, wrong
        assert headers["WWW-Authenticate"] == 'Bearer realm="office"'
        assert headers["Content-Type"] == "application/problem+json"
        assert body["status"] == 401
    assert (await (await program(key=key)).get(ROOT))[0] == 200
    await revoke_key(postgres, id_)
    assert (await (await program(key=key)).get(ROOT))[0] == 401
    assert (await (await program(key=other)).get(ROOT))[0] == 200, other_id
    async with aiohttp.ClientSession(console.url) as session:
        for header in (f"Basic {other}", other, f"Bearer {other} x", "Bearer"):
            async with session.get(ROOT, headers={"Authorization": header}) as answer:
                assert answer.status == 401, header


async def test_a_session_of_staff_opens_nothing_here(console):  # noqa: F811
    async with console.client_as("admin") as client:
        answer = await client.get(ROOT)
        assert answer.status == 401
        assert answer.content_type == "application/problem+json"


async def test_that_a_key_is_used_is_remembered_to_the_minute(program, postgres):
    one = await program("publications:read")
    await one.get(ROOT)
    used = await postgres.fetchval("SELECT used_at FROM office_keys")
    assert datetime.now(UTC) - used < timedelta(minutes=1)
    await one.get(ROOT)
    assert await postgres.fetchval("SELECT used_at FROM office_keys") == used
    await postgres.execute("UPDATE office_keys SET used_at = now() - interval '2 minutes'")
    await one.get(ROOT)
    assert await postgres.fetchval("SELECT used_at > now() - interval '1 minute' FROM office_keys")


async def test_a_key_whose_hash_is_another_s_does_not_open(postgres):
    _, key = await make_key(postgres, "程序", ["tally:read"], "li")
    await postgres.execute("UPDATE office_keys SET key_hash = $1", bytes(32))
    assert await find_key(postgres, key) is None


async def test_a_flood_of_wrong_keys_is_not_even_looked_at_and_locks_nobody_out(
    program, postgres, monkeypatch
):
    good = await program("publications:read")
    assert (await good.get(ROOT))[0] == 200
    looked = []

    async def look(connection, key):
        looked.append(key)
        return await find_key(connection, key)

    monkeypatch.setattr(office, "find_key", look)
    statuses = []
    for n in range(office.WRONG_KEYS_PER_MINUTE + 20):
        wrong = await program(key=f"dzk_{n:010}_{'a' * 43}")
        statuses.append((await wrong.get(ROOT))[0])
    assert set(statuses[: office.WRONG_KEYS_PER_MINUTE]) == {401}
    assert set(statuses[office.WRONG_KEYS_PER_MINUTE :]) == {429}
    assert len(looked) == office.WRONG_KEYS_PER_MINUTE
    assert (await good.get(ROOT))[0] == 200


async def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_its_neighbour_is_not(
    program,
):
    hasty, other = await program("publications:read"), await program("publications:read")
    path = f"{ROOT}/spring/publications/1/archive.zip"
    # On a busy machine the store may be too slow for a limit, which then is counted in memory.
    for _ in range(250):
        status, body, headers = await hasty.get(path)
        if status == 429:
            break
        assert status == 404
    assert (status, body["status"]) == (429, 429)
    assert int(headers["Retry-After"]) > 0
    assert headers["Content-Type"] == "application/problem+json"
    assert (await other.get(path))[0] == 404


async def test_a_key_that_asks_for_what_it_may_not_have_is_counted_too(program, monkeypatch):
    monkeypatch.setattr(office, "_without_scope", InMemory("5/minute"))
    hasty, other = await program("tally:read"), await program("tally:read")
    statuses = [(await hasty.get(ROOT))[0] for _ in range(6)]
    assert statuses == [403] * 5 + [429]
    status, body, headers = await hasty.get(f"{ROOT}/spring/publications/1/archive.zip")
    assert (status, int(headers["Retry-After"])) == (429, 60)
    assert "no scope" in body["detail"]
    assert (await other.get(ROOT))[0] == 403, "its neighbour is not"


# Publications.


@pytest.mark.usefixtures("published")
async def test_campaigns_are_listed_but_no_rehearsal(program, postgres):
    await add_campaign(postgres, "winter")
    await postgres.execute("UPDATE campaigns SET is_test = true WHERE id = 'winter'")
    one = await program("publications:read")
    _, body, _ = await one.get(ROOT)
    ((campaign),) = body["campaigns"]
    assert (campaign["id"], campaign["latest"], campaign["candidates"]) == ("spring", 2, 5)
    assert (await one.get(f"{ROOT}/winter/publications"))[0] == 404
    assert (await one.get(f"{ROOT}/nowhere/publications"))[0] == 404


async def test_publications_come_newest_first_with_what_pins_them(program, published):
    one = await program("publications:read")
    _, body, _ = await one.get(f"{ROOT}/spring/publications")
    newest, oldest = body["publications"]
    assert (newest["number"], oldest["number"], body["next_before"]) == (2, 1, None)
    assert newest["manifest_sha256"] == published[1].manifest_hash.hex()
    assert newest["previous_manifest_sha256"] == "ab" * 32
    assert (newest["approved_by_two"], oldest["approved_by_two"]) == (True, False)
    sums = newest["sums"]
    assert sums["received"] == sum(sums[k] for k in ("counted", "held", "struck", "refused"))
    _, page, _ = await one.get(f"{ROOT}/spring/publications?limit=1")
    assert (len(page["publications"]), page["next_before"]) == (1, 2)
    _, page, _ = await one.get(f"{ROOT}/spring/publications?limit=1&before=2")
    assert (page["publications"][0]["number"], page["next_before"]) == (1, None)
    _, page, _ = await one.get(f"{ROOT}/spring/publications?kind=final")
    assert [each["number"] for each in page["publications"]] == [2]
    _, latest, _ = await one.get(f"{ROOT}/spring/publications/latest")
    assert latest["number"] == 2
    _, latest, _ = await one.get(f"{ROOT}/spring/publications/latest?kind=scheduled")
    assert latest["number"] == 1
    assert (await one.get(f"{ROOT}/spring/publications/latest?kind=close"))[0] == 404


async def test_the_archive_and_each_file_come_byte_for_byte(program, published, monkeypatch):
    monkeypatch.setattr(office, "ARCHIVE_PIECE_BYTES", 100)
    one = await program("publications:read")
    path = f"{ROOT}/spring/publications/2"
    status, archive, headers = await one.get(f"{path}/archive.zip")
    assert (status, archive) == (200, published[1].archive)
    assert headers["Content-Length"] == str(len(archive))
    assert headers["Content-Type"] == "application/zip"
    _, body, _ = await one.get(path)
    assert {each["name"]: each["bytes"] for each in body["files"]} == {
        name: len(content) for name, content in published[1].files.items()
    }
    status, csv, _ = await one.get(f"{path}/files/tally.csv")
    assert (status, csv) == (200, published[1].files["tally.csv"])
    _, note, headers = await one.get(f"{path}/files/checkpoints/votes-100")
    assert note == published[1].files["checkpoints/votes-100"]
    assert headers["Content-Disposition"] == 'attachment; filename="votes-100"'
    for nowhere in (
        f"{path}/files/nothing.json",
        f"{path}/files/../manifest.json",
        f"{path}/files/%2e%2e/manifest.json",
        f"{path}/files/tally.json%00",
        f"{ROOT}/spring/publications/3",
        f"{ROOT}/spring/publications/3/archive.zip",
        f"{ROOT}/spring/publications/9/files/tally.json",
    ):
        assert (await one.get(nowhere))[0] == 404, nowhere


async def test_who_has_a_copy_gets_304_until_something_changes(program, published, postgres):
    one = await program("publications:read", "tally:read", "log:read")
    path = f"{ROOT}/spring/publications"
    for known in (
        ROOT,
        path,
        f"{path}/latest",
        f"{path}/2/archive.zip",
        f"{path}/2/files/tally.csv",
    ):
        _, _, headers = await one.get(known)
        assert headers["Cache-Control"] == "private, no-cache"
        for said in (headers["ETag"], f"W/{headers['ETag']}", f'"x", {headers["ETag"]}', "*"):
            status, body, again = await one.get(known, **{"If-None-Match": said})
            assert (status, body, again["ETag"]) == (304, b"", headers["ETag"]), known
        assert (await one.get(known, **{"If-None-Match": '"other"'}))[0] == 200
    absent = f"{path}/2/files/absent.csv"
    for said in ("*", '"other"', ""):
        assert (await one.get(absent, **{"If-None-Match": said}))[0] == 404
    _, _, before = await one.get(path)
    await add_publication(postgres, 4)
    assert (await one.get(path, **{"If-None-Match": before["ETag"]}))[0] == 200


async def test_an_archive_too_large_to_look_into_is_handed_out_whole_alone(
    program, published, monkeypatch
):
    assert UNPACKED_ARCHIVE_BYTES_MAX > 10_000_000
    monkeypatch.setattr(office, "UNPACKED_ARCHIVE_BYTES_MAX", 10)
    one = await program("publications:read")
    path = f"{ROOT}/spring/publications/2"
    assert (await one.get(f"{path}/files/tally.csv"))[0] == 404
    assert (await one.get(f"{path}/archive.zip"))[0] == 200


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    "path",
    [
        "spring/publications?limit=0",
        "spring/publications?limit=101",
        "spring/publications?before=x",
        "spring/publications?kind=secret",
        "spring/publications/0",
        "spring/publications/x",
        "spring/publications/99999999999",
        "spring/checkpoints?log=other",
        "spring/checkpoints?before=-1",
        "a%20b/publications",
        f"{'a' * 100}/publications",
    ],
)
async def test_what_is_not_understood_is_said_where(program, path):
    one = await program("publications:read", "log:read")
    status, body, headers = await one.get(f"{ROOT}/{path}")
    assert (status, headers["Content-Type"]) == (422, "application/problem+json")
    assert ": " in body["detail"]


# The running tally.


async def test_the_running_tally_says_that_it_is_provisional_and_unsigned(program, poll):
    await poll.add(counted(7, 2))
    one = await program("tally:read")
    status, body, _ = await one.get(f"{ROOT}/spring/tally")
    assert status == 200
    assert (body["provisional"], body["signed"]) == (True, False)
    assert body["counts"] == {"c001": 0, "c002": 7, "c003": 0, "c004": 0}
    assert body["sums"]["counted"] == 7


@pytest.mark.parametrize("visibility", ["daily", "after-close", "staff"])
async def test_what_the_campaign_hides_is_hidden_here(program, postgres, visibility):
    await add_campaign(postgres, rules={"counts": visibility, "counts_daily_at": "18:00"})
    poll = Poll(postgres, None)
    await poll.add(counted(7, 2))
    one = await program("tally:read")
    _, body, _ = await one.get(f"{ROOT}/spring/tally")
    assert (body["counts"], body["sums"]) == (None, None)
    assert "7" not in json.dumps(
        {k: v for k, v in body.items() if k not in ("as_of", "visible_from")}
    )


@pytest.mark.parametrize(
    ("visibility", "shown_from"),
    [
        (Visibility.DAILY, datetime(2026, 7, 31, 18, 0)),
        (Visibility.AFTER_CLOSE, datetime(2026, 7, 31, 12, 0)),
    ],
)
def test_hidden_counts_are_shown_when_the_public_sees_the_final_ones(visibility, shown_from):
    from zoneinfo import ZoneInfo

    zone = ZoneInfo("Asia/Shanghai")
    window = VotingWindow(
        datetime(2026, 7, 1, tzinfo=zone), datetime(2026, 7, 31, 12, tzinfo=zone), zone
    )
    campaign = Campaign(1, "spring", "春", window, Rules(counts=visibility))
    shown_from = shown_from.replace(tzinfo=zone)
    assert hidden_until(campaign, shown_from - timedelta(seconds=1)) == (True, shown_from)
    assert hidden_until(campaign, shown_from) == (False, shown_from)
    staff = Campaign(1, "spring", "春", window, Rules(counts=Visibility.STAFF))
    assert hidden_until(staff, shown_from + timedelta(days=900)) == (True, None)


# Checkpoints.


@pytest.mark.usefixtures("published")
async def test_checkpoints_come_with_their_signed_notes(program, postgres):
    for log, size in ((0, 10), (0, 20), (1, 5)):
        await postgres.execute(
            "INSERT INTO checkpoints VALUES (1, $1, $2, $3, now(), $4)",
            log, size, bytes([size]) * 32, f"note {log} {size}",
        )  # fmt: skip
    one = await program("log:read")
    _, body, _ = await one.get(f"{ROOT}/spring/checkpoints")
    assert [(each["size"], each["note"]) for each in body["checkpoints"]] == [
        (20, "note 0 20"),
        (10, "note 0 10"),
    ]
    assert body["checkpoints"][0]["root"] == "14" * 32
    _, body, _ = await one.get(f"{ROOT}/spring/checkpoints?limit=1")
    assert body["next_before"] == 20
    _, body, _ = await one.get(f"{ROOT}/spring/checkpoints?log=rulings")
    assert [each["size"] for each in body["checkpoints"]] == [5]


# Objections.


@pytest.mark.usefixtures("published")
async def test_an_objection_is_handed_in_and_its_answer_read(program, postgres):
    one = await program("objections:read", "objections:write")
    path = f"{ROOT}/spring/objections"
    status, body, headers = await one.post(path, OBJECTION)
    assert (status, headers["Location"]) == (201, f"{path}/{body['number']}")
    assert (body["candidate"], body["answer"]) == ("c002", None)
    _, listed, _ = await one.get(path)
    assert listed == {"objections": [body], "next_after": None}
    row = await postgres.fetchrow("SELECT * FROM objections")
    assert row["entered_by"].startswith("office key ")
    entry = await postgres.fetchrow("SELECT * FROM audit_log")
    assert (entry["action"], entry["actor"]) == ("objection.entered", row["entered_by"])
    assert "某大学" not in entry["details"]

    await postgres.execute("UPDATE objections SET answer = '已核查', answered_at = now()")
    assert (await one.get(path))[1]["objections"] == []
    _, answered, _ = await one.get(f"{path}?answered=true")
    assert answered["objections"][0]["answer"] == "已核查"
    _, again, _ = await one.get(headers["Location"])
    assert again == answered["objections"][0]
    assert (await one.get(f"{path}/99"))[0] == 404


@pytest.mark.usefixtures("published")
async def test_objections_come_so_many_at_once(program):
    one = await program("objections:read", "objections:write")
    path = f"{ROOT}/spring/objections"
    for _ in range(3):
        await one.post(path, OBJECTION)
    _, first, _ = await one.get(f"{path}?limit=2")
    assert (len(first["objections"]), first["next_after"]) == (2, 2)
    _, rest, _ = await one.get(f"{path}?limit=2&after=2")
    assert (len(rest["objections"]), rest["next_after"]) == (1, None)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    "wrong",
    [
        {"received_from": ""},
        {"received_from": "  "},
        {"received_from": "a" * 201},
        {"text": "第一行\n\u202e"},
        {"text": ""},
        {"text": "a" * 10_001},
        {"text": "a\0b"},
        {"text": "a\ud800b"},
        {"text": 7},
        {"candidate": "nobody"},
        {"answer": "from outside"},
    ],
)
async def test_an_objection_that_cannot_be_is_refused_with_its_reason(program, postgres, wrong):
    one = await program("objections:write")
    status, body, headers = await one.post(f"{ROOT}/spring/objections", OBJECTION | wrong)
    assert (status, headers["Content-Type"]) == (422, "application/problem+json")
    assert body["detail"]
    assert await postgres.fetchval("SELECT count(*) FROM objections") == 0


@pytest.mark.usefixtures("published")
async def test_a_body_that_is_no_json_or_too_large_is_refused(program):
    one = await program("objections:write")
    path = f"{ROOT}/spring/objections"
    for body, status in ((b"{", 422), (b"[]", 422), (b'"x"', 422), (b"[" * 70_000, 413)):
        headers = {"Content-Type": "application/json"}
        async with one.session.post(path, data=body, headers=headers) as answer:
            assert answer.status == status, body[:10]
            assert answer.content_type == "application/problem+json"


# Its description.


async def test_the_description_is_of_these_calls_alone_with_examples_and_problems(program):
    anybody = await program(key="")
    status, document, headers = await anybody.get("/office/v1/openapi.json")
    assert (status, headers["Cache-Control"]) == (200, "public, max-age=300")
    assert all(path.startswith("/office/v1/") for path in document["paths"])
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
            assert "Scope: " in operation["description"], path
            assert {"401", "403", "404", "429"} <= operation["responses"].keys(), path
            assert operation["security"], path
    models = document["components"]["schemas"]
    undescribed = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, schema in model.get("properties", {}).items()
        if not schema.get("description") and not schema.get("examples")
    ]
    # What a name and a format say already.
    assert all(
        one.split(".")[1]
        in {
            "opens_at", "closes_at", "at", "sums", "publications", "campaigns", "checkpoints",
            "files", "log", "approved_by_two", "provisional", "signed", "objections",
        }
        for one in undescribed
    ), undescribed  # fmt: skip


@pytest.mark.usefixtures("published")
async def test_answers_are_what_the_description_says(program):
    one = await program(*Scope)
    await one.post(f"{ROOT}/spring/objections", OBJECTION)
    _, document, _ = await one.get("/office/v1/openapi.json")
    models = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        schema = operations.get("get", {}).get("responses", {}).get("200", {})
        reference = schema.get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" not in reference:
            continue
        model = models[reference["$ref"].rpartition("/")[2]]
        asked = path.format(campaign="spring", number=1, name="tally.json")
        status, body, _ = await one.get(asked)
        assert status == 200, asked
        assert body.keys() == model["properties"].keys(), asked


async def test_people_can_read_it_without_a_key_in_chinese_and_nothing_comes_from_outside(
    program,
):
    anybody = await program(key="")
    status, page, headers = await anybody.get("/office/v1/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = page.decode()
    assert "评选办公室接口" in text
    assert "/office/v1/campaigns/{campaign}/publications/latest" in text
    assert "https://" not in text.replace("https://www.w3.org", "")


async def test_the_database_away_is_said_as_a_problem(console, program):  # noqa: F811
    one = await program("publications:read")

    class Away:
        def acquire(self):
            raise asyncpg.CannotConnectNowError("starting up")

    real = console.app.state.console
    object.__setattr__(real, "pool", Away())
    status, body, headers = await one.get(ROOT)
    assert (status, body["status"]) == (503, 503)
    assert "Retry-After" in headers
