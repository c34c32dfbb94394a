"""News is written with what it tells of, goes to whoever wants it, at least once, and nobody who
hangs holds up the others."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.header import decode_header
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.accounts.sealing import Seal
from tally.delivery import outbox
from tally.delivery.couriers import Couriers, dingtalk_query, mail_envelope
from tally.delivery.destinations import (
    DestinationError,
    add_destination,
    check_destination,
    check_url,
    is_public,
    set_disabled,
)
from tally.delivery.messages import message
from tally.delivery.outbox import (
    TRIES_MAX,
    WANTED,
    Event,
    Letter,
    NotTaken,
    PostOffice,
    pause_after,
)
from tests.conftest import captured_logs, wait_until_async
from tests.receivers import dawdle, dawdle_with_the_head, hang, mail_server, receiver
from voting.settings import load_settings

NEWS = {"campaign": "spring", "number": 3, "kind": "scheduled"}


class Desk:
    """Destinations, and a post office with real couriers."""

    def __init__(self, postgres, dsn, settings):
        self.postgres, self.dsn, self.settings = postgres, dsn, settings
        self.seal = Seal.load_or_make(settings.console_key_path)
        self.secrets = {}

    async def add(self, form, address, *, secret="", events=WANTED):
        new = check_destination(
            shown_as=f"one by {form}", form=form, address=address, secret=secret,
            events=events, private=True,
        )  # fmt: skip
        number = await add_destination(self.postgres, self.seal, new, "li")
        self.secrets[number] = new.access.secret
        return number

    async def news(self, subject="spring/3", event=Event.PUBLISHED, content=NEWS):
        async with self.postgres.transaction():
            return await outbox.add(self.postgres, event, subject, content)

    @contextlib.asynccontextmanager
    async def connect(self):
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def post(self, settings=None):
        async with (
            Couriers(settings or self.settings) as couriers,
            PostOffice(self.connect, couriers.deliver) as post,
        ):
            yield post

    async def send(self, settings=None):
        async with self.post(settings) as post:
            return await post.send_due()

    async def letters(self):
        return await self.postgres.fetch(
            "SELECT *, next_try_at - now() AS pause FROM outbox ORDER BY made_at, destination"
        )

    async def make_all_due(self):
        await self.postgres.execute("UPDATE outbox SET next_try_at = now()")


@pytest.fixture
def settings(tmp_path):
    return load_settings(data_dir=tmp_path, private_destinations=True)


@pytest.fixture
def desk(postgres, postgres_dsn, settings):
    return Desk(postgres, postgres_dsn, settings)


@pytest.fixture
def short_deadline(monkeypatch):
    monkeypatch.setattr(outbox, "DEADLINE_SECONDS", 0.7)


def signed(received, secret):
    """Whether a letter is signed, checked as couriers.py says."""
    timestamp = received.headers["Dianzan-Timestamp"]
    want = hmac.new(secret.encode(), timestamp.encode() + b"." + received.body, hashlib.sha256)
    assert abs(time.time() - int(timestamp)) < 300
    return hmac.compare_digest("v1=" + want.hexdigest(), received.headers["Dianzan-Signature"])


# What is written.


async def test_news_is_one_letter_for_each_destination_that_wants_it_and_only_once(desk):
    first = await desk.add("webhook", "https://a.example/hook")
    second = await desk.add("mail", "office@example.cn", events=["published"])
    await desk.add("webhook", "https://b.example/hook", events=["objection"])
    off = await desk.add("webhook", "https://c.example/hook")
    await set_disabled(desk.postgres, off, disabled=True)
    assert await desk.news() == 2
    assert await desk.news() == 0
    assert {row["destination"] for row in await desk.letters()} == {first, second}


async def test_news_of_what_did_not_happen_is_not_sent(desk):
    await desk.add("webhook", "https://a.example/hook")
    with contextlib.suppress(ZeroDivisionError):
        async with desk.postgres.transaction():
            await outbox.add(desk.postgres, Event.PUBLISHED, "spring/3", NEWS)
            raise ZeroDivisionError
    assert await desk.letters() == []


async def test_who_comes_later_is_not_told_of_what_was_before(desk):
    await desk.add("webhook", "https://a.example/hook")
    before = datetime.now(UTC) - timedelta(hours=1)
    assert await outbox.add(desk.postgres, Event.FLAG, "flag 1", {}, happened_at=before) == 0


async def test_of_an_end_hears_who_heard_of_the_beginning_and_it_begins_anew(desk):
    told = await desk.add("webhook", "https://a.example/hook", events=["part-down"])
    await outbox.add(desk.postgres, Event.PART_DOWN, "flush since 1", {})
    await desk.add("webhook", "https://b.example/hook", events=["part-down"])
    assert await outbox.unended(desk.postgres, Event.PART_DOWN) == ["flush since 1"]
    assert await outbox.add_end(desk.postgres, Event.PART_DOWN, "flush since 1", {}) == 1
    assert await outbox.add_end(desk.postgres, Event.PART_DOWN, "flush since 1", {}) == 0
    assert await outbox.unended(desk.postgres, Event.PART_DOWN) == []
    rows = await desk.letters()
    assert [(row["destination"], row["event"]) for row in rows] == [
        (told, "part-down"),
        (told, "part-back"),
    ]


async def test_what_was_sent_long_ago_goes_and_nothing_is_told_anew_by_that(desk):
    await desk.add("webhook", "https://a.example/hook")
    postgres = desk.postgres
    for event, subject in (
        (Event.FLAG, "flag 1"),
        (Event.FLAG, "flag 2"),
        (Event.PUBLISHED, "spring/3"),
        (Event.CLOSED, "spring/0"),
        (Event.LAG, "log since 1"),
        (Event.LAG, "log since 2"),
        (Event.LAG, "log since 3"),
    ):
        await outbox.add(postgres, event, subject, {})
    for ended in (1, 2):
        await outbox.add_end(postgres, Event.LAG, f"log since {ended}", {})
    await outbox.add_test(postgres, 1, "li")
    old = "now() - interval '91 days'"
    await postgres.execute(f"UPDATE outbox SET sent_at = {old}, made_at = {old}")
    await postgres.execute(
        "UPDATE outbox SET sent_at = NULL, given_up_at = made_at WHERE subject = 'flag 2'"
    )
    await postgres.execute(
        "UPDATE outbox SET sent_at = now() WHERE event = 'lag-over' AND subject = 'log since 2'"
    )
    assert await outbox.forget_old(postgres) == 4
    assert {(row["event"], row["subject"]) for row in await desk.letters()} == {
        ("flag-of-high-effect", "flag 2"),  # a dead letter
        ("published", "spring/3"),
        ("closed", "spring/0"),
        ("lag", "log since 2"),  # it is not long since it ended
        ("lag-over", "log since 2"),
        ("lag", "log since 3"),  # it is still on
    }
    assert await outbox.unended(postgres, Event.LAG) == ["log since 3"]
    assert await outbox.forget_old(postgres) == 0
    assert await desk.news() == 0, "a publication is told once for ever"


@pytest.mark.parametrize(
    ("subject", "content"),
    [
        ("", {}),
        ("two\nlines", {}),
        ("a" * 201, {}),
        ("a", {"n": float("nan")}),
        ("a", {"n": object()}),
        ("a", {"n": "x" * 17_000}),
    ],
)
async def test_news_that_cannot_be_sent_is_refused(desk, subject, content):
    with pytest.raises(ValueError):  # noqa: PT011 # each says something else
        await outbox.add(desk.postgres, Event.PUBLISHED, subject, content)


async def test_a_character_that_the_database_cannot_hold_does_not_end_the_transaction(desk):
    await desk.add("webhook", "https://a.example/hook")
    content = {"why": ["a\0b", {"c": "\0"}], "n": 7}
    assert await outbox.add(desk.postgres, Event.PUBLISHED, "spring/1", content) == 1
    (row,) = await desk.letters()
    assert json.loads(row["content"]) == {"why": ["a\ufffdb", {"c": "\ufffd"}], "n": 7}


# A webhook.


async def test_a_webhook_gets_a_signed_letter_and_knows_it_by_its_id(desk):
    async with receiver() as office:
        number = await desk.add("webhook", f"{office.url}/hook?from=dianzan&token=abcdefgh")
        await desk.news()
        done = await desk.send()
        assert (done.sent, done.failed) == (1, 0)
        (letter,) = office.received
        assert letter.path == "/hook?from=dianzan&token=abcdefgh"
        assert signed(letter, desk.secrets[number])
        (row,) = await desk.letters()
        assert letter.json == {
            "id": str(row["id"]),
            "event": "published",
            "subject": "spring/3",
            "made_at": row["made_at"].isoformat(timespec="milliseconds"),
            "content": NEWS,
        }
        assert letter.headers["Dianzan-Id"] == str(row["id"])
        assert letter.headers["Dianzan-Event"] == "published"
        assert row["sent_at"] is not None
        assert (await desk.send()).sent == 0


async def test_neither_the_address_nor_the_row_shows_what_gives_access(desk):
    number = await desk.add("webhook", "https://a.example/hook?token=abcdefgh")
    row = await desk.postgres.fetchrow("SELECT * FROM destinations")
    assert row["address"] == "https://a.example/hook"
    assert b"abcdefgh" not in row["secret"]
    assert desk.secrets[number].encode() not in row["secret"]


async def test_a_secret_that_was_copied_to_another_row_does_not_open(desk):
    await desk.add("webhook", "https://a.example/hook?token=abcdefgh")
    await desk.postgres.execute("UPDATE destinations SET address = 'https://evil.example/'")
    await desk.news()
    assert (await desk.send()).failed == 1
    (row,) = await desk.letters()
    assert "does not open" in row["last_error"]


async def test_who_answers_500_gets_it_again_later_and_at_last_it_is_a_dead_letter(desk):
    async with receiver((500, b"oh")) as office:
        await desk.add("webhook", office.url)
        await desk.news()
        for tries in range(1, TRIES_MAX + 1):
            done = await desk.send()
            assert (await desk.send()).failed == 0, "not due yet"
            (row,) = await desk.letters()
            assert (row["tries"], row["last_error"]) == (tries, "answered with status 500")
            if tries < TRIES_MAX:
                wanted = pause_after(tries, 0.5)
                assert 0.85 * wanted < row["pause"] <= 1.1 * wanted
                assert (done.failed, row["given_up_at"]) == (1, None)
            await desk.make_all_due()
        assert done.given_up == 1
        assert row["given_up_at"] is not None
        assert (await desk.send()).failed == 0, "a dead letter stays"
        ids = {letter.headers["Dianzan-Id"] for letter in office.received}
        assert (len(office.received), len(ids)) == (TRIES_MAX, 1)

        office.answer = (204, b"")
        assert await outbox.send_again(desk.postgres, row["id"]) == "published spring/3"
        assert await outbox.send_again(desk.postgres, row["id"]) is None
        assert (await desk.send()).sent == 1


async def test_who_hangs_holds_up_nobody_else(desk):
    async with receiver(hang) as hanging, receiver() as quick:
        await desk.add("webhook", hanging.url)
        await desk.add("webhook", quick.url)
        for number in range(20):
            await desk.news(f"spring/{number}")
        async with desk.post() as post:
            sending = asyncio.create_task(post.send_due())

            async def all_arrived():
                return len(quick.received) == 20

            await wait_until_async(all_arrived, 8, "the quick one's letters")
            assert not sending.done()
            assert len(hanging.received) == outbox.PER_DESTINATION
            # What comes while one hangs goes, too.
            await desk.news("spring/99")

            async def one_more():
                return len(quick.received) == 21

            await wait_until_async(one_more, 8, "the letter that came meanwhile")
            assert not sending.done()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("answer", [hang, dawdle_with_the_head])
@pytest.mark.usefixtures("short_deadline")
async def test_a_webhook_that_answers_in_crumbs_or_never_is_given_its_time_and_no_more(
    desk, answer
):
    async with receiver(answer) as slow:
        await desk.add("webhook", slow.url)
        await desk.news()
        began = time.monotonic()
        assert (await desk.send()).failed == 1
        assert time.monotonic() - began < 5
        (row,) = await desk.letters()
        assert row["last_error"] == "no answer within 0.7 s"


async def test_a_status_is_answer_enough_whatever_trickles_in_behind_it(desk):
    async with receiver(dawdle) as slow:
        await desk.add("webhook", slow.url)
        await desk.news()
        began = time.monotonic()
        assert (await desk.send()).sent == 1
        assert time.monotonic() - began < 5


async def test_a_redirect_is_not_followed(desk):
    async with receiver() as elsewhere:
        location = f"Location: {elsewhere.url}/\r\n".encode()
        async with receiver((307, b""), headers=location) as leading:
            await desk.add("webhook", leading.url)
            await desk.news()
            assert (await desk.send()).failed == 1
            assert len(leading.received) == 1
        assert elsewhere.received == []
    (row,) = await desk.letters()
    assert row["last_error"] == "answered with status 307"


async def test_nobody_there_is_said_so(desk):
    async with receiver() as gone:
        await desk.add("webhook", gone.url)
    await desk.news()
    assert (await desk.send()).failed == 1
    (row,) = await desk.letters()
    assert row["last_error"].startswith("cannot be reached")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_private_networks_are_not_reached_by_any_name_unless_they_may(desk, tmp_path, host):
    async with receiver() as inside:
        port = urlsplit(inside.url).port
        await desk.add("webhook", f"https://{host}:{port}/")
        await desk.news()
        closed = load_settings(data_dir=tmp_path)
        assert (await desk.send(closed)).failed == 1
        assert inside.received == []
    (row,) = await desk.letters()
    assert "private network" in row["last_error"]


async def test_a_crash_after_delivery_brings_the_letter_again_under_its_id(desk, monkeypatch):
    async with receiver() as office:
        await desk.add("webhook", office.url)
        await desk.news()

        async def crash(self, letter, to):
            await couriers.deliver(letter, to)
            raise asyncio.CancelledError

        async with Couriers(desk.settings) as couriers:
            post = PostOffice(desk.connect, lambda letter, to: crash(None, letter, to))
            with contextlib.suppress(asyncio.CancelledError):
                await post.send_due()
        assert len(office.received) == 1
        assert (await desk.send()).sent == 0, "leased: somebody may be at it"
        await desk.make_all_due()
        assert (await desk.send()).sent == 1
        first, second = office.received
        assert first.headers["Dianzan-Id"] == second.headers["Dianzan-Id"]
        assert first.body == second.body


async def test_two_post_offices_send_each_letter_once(desk):
    async with receiver() as office:
        await desk.add("webhook", office.url)
        for number in range(30):
            await desk.news(f"spring/{number}")
        both = await asyncio.gather(desk.send(), desk.send())
        assert sum(done.sent for done in both) == 30
        ids = [letter.headers["Dianzan-Id"] for letter in office.received]
        assert len(ids) == len(set(ids)) == 30


async def test_a_courier_s_defect_is_a_failed_try_and_names_nothing(desk, monkeypatch):
    logs = captured_logs(monkeypatch, outbox)
    await desk.add("webhook", "https://a.example/hook")
    await desk.news()

    async def broken(letter, to):
        raise RuntimeError("secret-1234")

    async with PostOffice(desk.connect, broken) as post:
        assert (await post.send_due()).failed == 1
    (row,) = await desk.letters()
    assert "secret-1234" not in row["last_error"]
    assert "courier-failed" in [entry["event"] for entry in logs]


async def test_what_waits_for_one_that_is_switched_off_becomes_dead_letters(desk):
    async with receiver() as office:
        number = await desk.add("webhook", office.url)
        await desk.news()
        assert await set_disabled(desk.postgres, number, disabled=True) == "one by webhook"
        assert await set_disabled(desk.postgres, number, disabled=True) is None
        assert (await desk.send()).sent == 0
        (row,) = await desk.letters()
        assert row["given_up_at"] is not None
        # It would wait unseen, and be dead no more.
        assert await outbox.send_again(desk.postgres, row["id"]) is None
        await set_disabled(desk.postgres, number, disabled=False)
        await outbox.send_again(desk.postgres, row["id"])
        assert (await desk.send()).sent == 1


async def test_a_test_letter_goes_to_one_that_asked_for_other_news(desk):
    async with receiver() as office:
        number = await desk.add("webhook", office.url, events=["objection"])
        await outbox.add_test(desk.postgres, number, "li")
        await outbox.add_test(desk.postgres, number, "li")
        assert (await desk.send()).sent == 2
        assert {letter.headers["Dianzan-Event"] for letter in office.received} == {"test"}


async def test_the_publisher_s_process_sends_what_is_due(desk, start, environment):
    environment["DIANZAN_PRIVATE_DESTINATIONS"] = "true"
    async with receiver() as office:
        number = await desk.add("webhook", office.url)
        await outbox.add_test(desk.postgres, number, "li")
        publisher = await start("publish")
        try:

            async def arrived():
                assert publisher.returncode is None, (await publisher.communicate())[1].decode()
                return office.received

            await wait_until_async(arrived, 20, "the test letter")
        finally:
            if publisher.returncode is None:
                publisher.terminate()
            await asyncio.wait_for(publisher.communicate(), 20)
        assert signed(office.received[0], desk.secrets[number])


# Robots.


async def test_wecom_gets_plain_text_and_has_to_say_that_it_took_it(desk):
    async with receiver((200, b'{"errcode":0,"errmsg":"ok"}')) as robot:
        await desk.add("wecom", f"{robot.url}/cgi-bin/webhook/send?key=693a91f6-7000")
        sentence = "**好** <font>\n@all 甲" + "长" * 2000
        await desk.news("flag 1", Event.FLAG, {"flag": 1, "votes": 1234, "sentence": sentence})
        assert (await desk.send()).sent == 1
        (letter,) = robot.received
        assert letter.path == "/cgi-bin/webhook/send?key=693a91f6-7000"
        assert letter.json["msgtype"] == "text"
        text = letter.json["text"]["content"]
        assert text.startswith("【点赞】有案卷可能影响名次")
        assert "涉及票数：1,234" in text
        assert len(text.encode()) <= 2048

        robot.answer = (200, b'{"errcode":93000,"errmsg":"invalid webhook url 693a91f6-7000"}')
        await desk.news("flag 2", Event.FLAG, {"flag": 2})
        assert (await desk.send()).failed == 1
    row = (await desk.letters())[-1]
    assert row["last_error"] == "errcode 93000: invalid webhook url ***"


async def test_dingtalk_is_signed_as_its_robots_check_it(desk):
    async with receiver((200, b'{"errcode":0,"errmsg":"ok"}')) as robot:
        await desk.add("dingtalk", f"{robot.url}/robot/send?access_token=abc", secret="SECabc+/=")
        await desk.news()
        assert (await desk.send()).sent == 1
        query = parse_qs(urlsplit(robot.received[0].path).query)
        (timestamp,), (sign,) = query["timestamp"], query["sign"]
        want = hmac.new(b"SECabc+/=", f"{timestamp}\nSECabc+/=".encode(), hashlib.sha256)
        assert base64.b64decode(sign) == want.digest()
        assert abs(time.time() * 1000 - int(timestamp)) < 60_000
        assert query["access_token"] == ["abc"]
        assert "【点赞】计票结果已发布" in robot.received[0].json["text"]["content"]


def test_a_dingtalk_signature_is_quoted_for_a_url():
    for moment in range(50):
        query = dingtalk_query("SEC", moment)
        assert not set("+/") & set(query)
        assert query.count("=") == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"errcode":"0"}',
        b'{"errcode":130101,"errmsg":"send too fast"}',
        b"[" * 4096,
        b" " * 100_000,
    ],
)
async def test_a_robot_that_says_anything_else_did_not_take_it(desk, answer):
    async with receiver((200, answer)) as robot:
        await desk.add("dingtalk", f"{robot.url}/robot/send?access_token=abcdefgh")
        await desk.news()
        assert (await desk.send()).failed == 1


@pytest.mark.usefixtures("short_deadline")
async def test_a_robot_that_dawdles_is_not_waited_for(desk):
    async with receiver(dawdle) as robot:
        await desk.add("wecom", robot.url)
        await desk.news()
        assert (await desk.send()).failed == 1


# Mail.


async def test_mail_goes_by_the_server_of_the_settings(desk, tmp_path):
    await desk.add("mail", "office@example.cn")
    await desk.news()
    assert (await desk.send()).failed == 1
    (row,) = await desk.letters()
    assert row["last_error"] == "no mail server: set DIANZAN_SMTP_URL and DIANZAN_MAIL_FROM"
    await desk.make_all_due()
    async with mail_server() as (url, mails):
        settings = load_settings(data_dir=tmp_path, smtp_url=url, mail_from="dz@example.cn")
        assert (await desk.send(settings)).sent == 1
    ((sender, to, text),) = mails
    assert ("<dz@example.cn>" in sender, "<office@example.cn>" in to) == (True, True)
    mail = message_from_bytes(text.removesuffix(b"\r\n.\r\n"))
    ((title, charset),) = decode_header(mail["Subject"])
    assert title.decode(charset) == "【点赞】计票结果已发布"
    assert mail["Dianzan-Id"] == str(row["id"])
    assert "活动编号：spring" in mail.get_payload(decode=True).decode()


@pytest.mark.usefixtures("short_deadline")
async def test_a_mail_server_that_hangs_is_cut_off(desk, tmp_path):
    await desk.add("mail", "office@example.cn")
    await desk.news()
    async with mail_server(hangs=True) as (url, _):
        settings = load_settings(data_dir=tmp_path, smtp_url=url, mail_from="dz@example.cn")
        began = time.monotonic()
        assert (await desk.send(settings)).failed == 1
        assert time.monotonic() - began < 5


async def test_a_mail_server_that_refuses_is_quoted_by_its_code_alone(desk, tmp_path):
    await desk.add("mail", "office@example.cn")
    await desk.news()
    async with mail_server(refuses=True) as (url, _):
        settings = load_settings(data_dir=tmp_path, smtp_url=url, mail_from="dz@example.cn")
        assert (await desk.send(settings)).failed == 1
    (row,) = await desk.letters()
    assert row["last_error"] == "the mail server refused the recipient"


@pytest.mark.parametrize("address", ["a@b.cn\r\nBcc: c@d.cn", "a@b.cn\nX: y", "\r\n"])
def test_an_address_adds_no_header(address):
    letter = Letter("id", Event.TEST, "x\r\nBcc: c@d.cn", {}, datetime.now(UTC), 1)
    with pytest.raises(NotTaken):
        mail_envelope(letter, address, "dz@example.cn")
    with pytest.raises(NotTaken):
        mail_envelope(letter, "a@b.cn", address)
    assert "Bcc" not in mail_envelope(letter, "a@b.cn", "dz@example.cn").keys()  # noqa: SIM118


# What a destination can be.


@pytest.mark.parametrize(
    "address",
    [
        "http://office.example/hook",
        "https://10.1.2.3/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://user:word@office.example/",
        "https://office.example/#part",
        "ftp://office.example/",
        "https:///path",
        "https://127.1/",
        "https://2130706433/",
        "https://127.0.0.1./",
        "https://office.example:99999/",
        "office.example",
        "https://office.example/ \r\nX: y",
        "https://office.example/" + "a" * 1000,
        "",
    ],
)
def test_an_address_that_letters_must_not_go_to_is_refused(address):
    with pytest.raises(DestinationError):
        check_url(address, private=False)


@pytest.mark.parametrize("address", ["https://office.example:8443/a?b=c", "https://8.8.8.8/"])
def test_an_address_of_the_internet_is_taken(address):
    check_url(address, private=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("0.0.0.1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("224.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("fec0::1", False),
        ("::10.0.0.1", False),
        ("::ffff:0:a00:1", False),
        ("5f00::1", False),
        ("3fff::1", False),
    ],
)
def test_public_is_what_the_internet_routes(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "wrong",
    [
        {"shown_as": " "},
        {"shown_as": "a" * 65},
        {"shown_as": "a\nb"},
        {"form": "telegram"},
        {"form": "mail"},
        {"form": "mail", "address": "a@b.cn\nBcc: c@d.cn"},
        {"form": "mail", "address": "a@b"},
        {"events": []},
        {"events": ["published", "part-back"]},
        {"events": ["nonsense"]},
        {"form": "dingtalk", "secret": "SEC\n"},
        {"form": "dingtalk", "secret": "密"},
    ],
)
def test_a_destination_that_cannot_be_is_refused_with_its_reason(wrong):
    good = {
        "shown_as": "办公室", "form": "webhook", "address": "https://office.example/hook",
        "secret": "", "events": ["published"], "private": False,
    }  # fmt: skip
    check_destination(**good)
    if wrong.get("secret") == "SEC\n":
        wrong["secret"] = "SEC\n1"
    with pytest.raises(DestinationError):
        check_destination(**good | wrong)


# Rules.


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_pauses_double_from_a_minute_to_six_hours_and_spread_by_a_tenth(tries, drawn):
    pause = pause_after(tries, drawn)
    even = timedelta(minutes=min(2 ** (tries - 1), 360))
    assert 0.9 * even <= pause <= 1.1 * even


def test_all_tries_take_most_of_a_day():
    whole = sum((pause_after(n, 0.5) for n in range(1, TRIES_MAX)), timedelta())
    assert timedelta(hours=12) < whole < timedelta(hours=30)


@pytest.mark.parametrize("event", list(Event))
def test_every_event_says_something_in_chinese_and_english(event):
    said = message(event, "demo/3", {"campaign": "demo", "votes": 12_345})
    assert said.title.startswith("【点赞】")
    assert any("\u4e00" <= c <= "\u9fff" for c in said.title.removeprefix("【点赞】"))
    assert said.text.endswith("(demo/3)")
    assert "12,345" in said.text


def test_a_message_is_cut_at_a_character():
    whole = message(Event.FLAG, "x", {"sentence": "长" * 300}).whole(200)
    assert len(whole.encode()) <= 200
    assert whole.endswith("…")
    json.dumps(whole)
