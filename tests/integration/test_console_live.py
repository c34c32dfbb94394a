"""Live pages: what they show and to whom, and the stream that keeps them up to date."""

import asyncio
import contextlib
import html
import itertools
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from antifraud.screen import Decision
from tally.console import live as live_pages
from tally.console.live import cells, frame, signed_percent
from tally.live_view import Numbers, Range, Ranked, Sums, Trend
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.console import console, running_console  # noqa: F401  # a fixture
from tests.decided import counted
from tests.journal_builder import make_vote
from tests.unit.test_charts import elements
from voting.campaign import Candidate
from voting.journal import tally_key

KEY = tally_key(0, "spring")
SHOWN = {"Accept-Language": "en"}


@pytest.fixture
async def spring(postgres, valkey):
    """A campaign with five candidates and some votes, in the hot state alone."""
    await add_campaign(postgres, "spring")
    await valkey.hset(KEY, mapping={"1": 40, "2": 60, "h2": 20, "s3": 5, "r1:6": 7, "r1:4": 3})
    return "/campaigns/spring"


def text_of(answer_text):
    """What a reader sees, in one line."""
    body = re.sub(r"<(head|script|svg).*?</\1>", " ", answer_text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


async def read(client, path):
    answer = await client.get(path)
    assert answer.status == 200, (path, answer.status, answer.headers.get("Location"))
    return await answer.text()


def rows_of(page):
    """(id, whether it is hidden) of the table's rows, in their order."""
    return re.findall(r'<tr id="(c\d+)"[^>]*?( hidden)?>', page)


# Pages.


async def test_home_leads_to_the_campaign_that_opened_last_and_else_to_the_list(
    console, postgres  # noqa: F811
):  # fmt: skip
    async with console.client_as("viewer") as client:
        assert (await client.get("/")).headers["Location"] == "/campaigns"
        now = datetime.now(UTC)
        await add_campaign(postgres, "old", opens_at=now - timedelta(days=9))
        await add_campaign(postgres, "new", opens_at=now - timedelta(days=2))
        await add_campaign(postgres, "later", opens_at=now + timedelta(days=2))
        await add_campaign(postgres, "rehearsal", opens_at=now - timedelta(days=1))
        await postgres.execute("UPDATE campaigns SET is_test = true WHERE id = 'rehearsal'")
        await postgres.execute("UPDATE catalog SET version = version + 1")

        async def leads():
            return (await client.get("/")).headers["Location"] == "/campaigns/new"

        await wait_until_async(leads, 3, what="the way to the new one")
        page = text_of(await read(client, "/campaigns"))
        assert page.count("春天的活动") == 4
        assert page.count("测试：不计入任何结果") == 1


async def test_an_installation_without_campaigns_says_so(console):  # noqa: F811
    async with console.client_as("admin", **SHOWN) as client:
        assert "There is no campaign yet" in text_of(await read(client, "/campaigns"))
        assert "There is no campaign yet" in text_of(await read(client, "/parts"))


async def test_the_office_is_led_to_its_own_pages_and_shown_no_live_number(
    console, spring  # noqa: F811
):  # fmt: skip
    async with console.client_as("office") as client:
        assert not (await client.get("/")).headers["Location"].startswith("/campaigns/")
        for path in (spring, f"{spring}/candidates", f"{spring}/stream?once=1", "/parts"):
            assert (await client.get(path)).status == 403, path


async def test_overview_shows_the_numbers_and_that_they_add_up(console, spring):  # noqa: F811
    async with console.client_as("viewer", **SHOWN) as client:
        page = text_of(await read(client, spring))
    for shown in ("Counted 100", "Received 135", "Held 20", "Refused 10", "struck: 5"):
        assert shown in page
    assert "too fast 7" in page
    assert "day's likes used up 3" in page
    assert page.index("候选人2 单位 60") < page.index("候选人1 单位 40")
    assert re.search(r"As of 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", page)


async def test_a_campaign_that_nobody_voted_in_is_shown_empty(console, postgres):  # noqa: F811
    await add_campaign(postgres, "spring")
    async with console.client_as("viewer", **SHOWN) as client:
        page = text_of(await read(client, "/campaigns/spring"))
        assert "No like is counted yet." in page
        assert "Nothing was received yet." in page
        assert "Nothing to draw yet" in page
        assert "Not counted yet" in page
        assert "No like is counted yet." in text_of(await read(client, "/campaigns/spring/hall"))
        await read(client, "/campaigns/spring/candidates/c001")


async def test_what_is_not_there_is_not_found(console, spring):  # noqa: F811
    async with console.client_as("viewer") as client:
        for path in (
            "/campaigns/none",
            "/campaigns/none/candidates",
            "/campaigns/none/hall",
            "/campaigns/none/stream",
            "/campaigns/none/stream?once=1",
            f"{spring}/candidates/none",
            f"{spring}/stream?page=candidate&candidate=none&once=1",
        ):
            assert (await client.get(path)).status == 404, path


async def test_what_cannot_be_meant_is_refused(console, spring):  # noqa: F811
    async with console.client_as("viewer") as client:
        for query in ("range=year", "page=secret", "once=maybe", "candidate=" + "x" * 101):
            assert (await client.get(f"{spring}/stream?{query}")).status == 422, query


async def test_a_course_is_drawn_and_told_as_a_table_for_every_range(
    console,  # noqa: F811
    postgres,
):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    await add_campaign(postgres, "spring", opens_at=now - timedelta(days=20))
    await postgres.execute("INSERT INTO watermarks VALUES (0, 1, 0, 0, now())")
    for minutes in range(1, 12):
        at = now - timedelta(minutes=minutes)
        await postgres.execute("INSERT INTO minute_totals VALUES (1, $1, 30, 2)", at)
        await postgres.execute("INSERT INTO minutes VALUES (1, $1, 1, 30, 2)", at)
    in_table = re.compile(r'<td class="n">([\d,]+)</td><td class="n">[\d,]+</td>')
    async with console.client_as("viewer", **SHOWN) as client:
        for range_, path in itertools.product(
            Range, ("/campaigns/spring", "/campaigns/spring/candidates/c001")
        ):
            page = await read(client, f"{path}?range={range_}")
            drawings = re.findall(r'<svg class="chart only-\w+".*?</svg>', page, flags=re.S)
            assert len(drawings) == 2, (path, range_)
            assert any(one.tag == "path" for one in elements(drawings[0]))
            assert sum(int(n.replace(",", "")) for n in in_table.findall(page)) == 330
            assert f'href="?range={range_}" aria-current' in page


async def test_candidates_are_all_there_with_rank_share_trend_and_held_share(
    console, spring, postgres  # noqa: F811
):  # fmt: skip
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    await postgres.execute("INSERT INTO watermarks VALUES (0, 1, 0, 0, now())")
    for minutes, votes in ((10, 33), (90, 30)):
        at = now - timedelta(minutes=minutes)
        await postgres.execute("INSERT INTO minutes VALUES (1, $1, 2, $2)", at, votes)
    async with console.client_as("viewer", **SHOWN) as client:
        page = await read(client, f"{spring}/candidates")
    assert rows_of(page) == [("c2", ""), ("c1", ""), ("c3", ""), ("c4", ""), ("c5", "")]
    assert "1 2 候选人2 单位 单位 省级 60 60.00 % +10 % 25.0 %" in text_of(page)
    assert "2 1 候选人1 单位 单位 省级 40 40.00 % – 0.0 %" in text_of(page)


ASKED = {
    "sort=number": ["c1", "c2", "c3", "c4", "c5"],
    "sort=number&way=down": ["c5", "c4", "c3", "c2", "c1"],
    "sort=counted&way=up": ["c3", "c4", "c5", "c1", "c2"],
    "sort=held": ["c2", "c1", "c3", "c4", "c5"],
    "sort=trend": ["c1", "c2", "c3", "c4", "c5"],
    "sort=nonsense&way=left": ["c2", "c1", "c3", "c4", "c5"],
    "q=候选人4": ["c4"],
    "q=C004": ["c4"],
    "q=单位+4": ["c4"],
    "q=nobody": [],
    "channel=省级": ["c2", "c1", "c3", "c4", "c5"],
    "channel=学会": [],
    "unit=单位&q=3&sort=number": ["c3"],
}


async def test_sort_and_filter_work_without_a_script(console, spring):  # noqa: F811
    async with console.client_as("viewer", **SHOWN) as client:
        for query, shown in ASKED.items():
            page = await read(client, f"{spring}/candidates?{query}")
            rows = rows_of(page)
            assert [id_ for id_, hidden in rows if not hidden] == shown, query
            assert len(rows) == 5, "the browser may show those that are hidden"
            assert f'<output data-count="#candidates">{len(shown)}</output>' in page
            none = re.search(r'data-none="#candidates"( hidden)?', page)
            assert bool(none[1]) == bool(shown)


async def test_a_search_comes_back_escaped(console, spring):  # noqa: F811
    async with console.client_as("viewer") as client:
        hostile = '"><script>alert(1)</script>'
        page = await read(client, f"{spring}/candidates?q={hostile}&channel={hostile}")
    assert "<script>alert" not in page
    assert hostile not in page


HOSTILE = "<img src=x onerror=alert(1)>\"'&\n<b>"


async def test_html_in_every_name_stays_text_on_pages_and_in_updates(
    console, spring, postgres  # noqa: F811
):  # fmt: skip
    await postgres.execute(
        "UPDATE candidates SET name = $1, unit = $1, channel = $1, organisation = $1, title = $1",
        HOSTILE,
    )
    await postgres.execute("UPDATE campaigns SET title = $1", HOSTILE)
    await postgres.execute("UPDATE catalog SET version = version + 1")
    await postgres.execute(
        "INSERT INTO parts VALUES ('edge', $1, now(), $2)", HOSTILE, json.dumps({"why": HOSTILE})
    )
    async with console.client_as("viewer") as client:
        for path in (
            "/campaigns",
            spring,
            f"{spring}/candidates",
            f"{spring}/candidates/c001",
            f"{spring}/hall",
            "/parts",
        ):
            page = await read(client, path)
            assert "&lt;img" in page, path
            assert "<img src=x" not in page, path
        for path in (f"{spring}/stream?once=1", f"{spring}/stream?page=hall&once=1"):
            blocks = json.loads(await read(client, path))
            assert any("&lt;img" in block for block in blocks.values())
            assert not any("<img" in block for block in blocks.values())


async def test_staff_see_a_blind_campaign_and_are_told_that_it_is(
    console,  # noqa: F811
    postgres,
    valkey,
):
    async with console.client_as("viewer", **SHOWN) as client:
        for counts in ("staff", "after-close", "daily"):
            await add_campaign(postgres, counts, rules={"counts": counts})
            await valkey.hset(tally_key(0, counts), mapping={"1": 4321})

            async def known(counts=counts):
                return (await client.get(f"/campaigns/{counts}")).status == 200

            await wait_until_async(known, 3, what="the campaign")
            for path in (f"/campaigns/{counts}", f"/campaigns/{counts}/hall"):
                page = text_of(await read(client, path))
                assert "4,321" in page
                assert "not public: for staff only" in page


async def test_a_pause_is_said_with_its_reason(console, postgres):  # noqa: F811
    await add_campaign(postgres, "spring", paused_because="系统维护")
    async with console.client_as("viewer", **SHOWN) as client:
        page = text_of(await read(client, "/campaigns/spring"))
    assert "paused" in page
    assert "Paused: 系统维护" in page


async def test_the_hall_shows_twenty_and_nothing_of_the_console(
    console, postgres, valkey  # noqa: F811
):  # fmt: skip
    await add_campaign(postgres, "spring", candidates=30)
    await valkey.hset(KEY, mapping={str(n): 100 - n for n in range(1, 31)})
    async with console.client_as("viewer") as client:
        page = await read(client, "/campaigns/spring/hall")
    assert '<body class="hall">' in page
    assert page.count('<span class="who-is">') == 20
    assert 'data-clock="Asia/Shanghai"' in page


async def test_flags_on_a_candidates_votes_are_shown_and_opened_by_reviewers(
    console, poll  # noqa: F811
):  # fmt: skip
    flag = await poll.flag(await poll.add(counted(30)))
    for role, opens in (("viewer", False), ("reviewer", True)):
        async with console.client_as(role, **SHOWN) as client:
            page = await read(client, "/campaigns/spring/candidates/c001")
            assert "这里随便取两票" in page
            assert (f'href="/flags/{flag}"' in page) == opens
            assert "None." in text_of(await read(client, "/campaigns/spring/candidates/c002"))


# Parts.


async def test_parts_say_whether_the_sums_hold_and_which_do_not(
    console, poll, valkey  # noqa: F811
):  # fmt: skip
    await poll.add([*counted(9), make_vote(poll.builder.random, 2, Decision.HOLD)])
    async with console.client_as("viewer", **SHOWN) as client:
        page = text_of(await read(client, "/parts"))
        assert "they hold 10 votes" in page
        assert "Edge – never seen" in page
        assert "Hot state – well" in page
    await valkey.hincrby(tally_key(0, "spring"), "1", 2)
    console.app.state.showing.reconciled._seconds = 0
    async with console.client_as("viewer", **SHOWN) as client:
        page = text_of(await read(client, "/parts"))
        assert "1 sums are off" in page
        assert "1 counted 11 9 2" in page


async def test_without_the_store_pages_show_what_is_stored_and_say_so(
    poll, postgres, postgres_dsn, tmp_path
):
    poll.builder.at_us = int(time.time() * 1e6)
    await poll.add(counted(7))
    nowhere = "redis://127.0.0.1:1"
    async with (
        running_console(tmp_path, nowhere, postgres_dsn, postgres) as alone,
        alone.client_as("viewer", **SHOWN) as client,
    ):
        page = text_of(await read(client, "/campaigns/spring"))
        assert "Counted 7" in page
        assert "the hot state is away: these are the stored votes" in page
        page = text_of(await read(client, "/parts"))
        assert "Hot state – down It does not answer." in page
        assert "cannot be told now" in page


# Streams.


class Events:
    """A stream as a browser reads it."""

    def __init__(self, answer):
        self.answer = answer
        self.comments = 0

    async def next(self, seconds=5.0):
        """(event, data), or None at the end of the stream."""
        event, lines = "", []
        async with asyncio.timeout(seconds):
            async for raw in self.answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    lines.append(line[6:])
                elif not line and event:
                    return event, "\n".join(lines)
        return None

    async def until(self, wanted, seconds=5.0):
        """Data of the next event of this name; what came on the way is in `passed`."""
        self.passed = []
        async with asyncio.timeout(seconds):
            while (found := await self.next(seconds)) is not None:
                if found[0] == wanted:
                    return found[1]
                self.passed.append(found[0])
        raise AssertionError(f"the stream ended without {wanted}")


@contextlib.asynccontextmanager
async def streaming(client, path):
    async with client.session.get(path, allow_redirects=False) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield Events(answer)


@contextlib.asynccontextmanager
async def looking_on(console, path):  # noqa: F811
    """(a viewer's browser, the stream that it reads)."""
    async with (
        console.client_as("viewer", **SHOWN) as client,
        streaming(client, path) as events,
    ):
        yield client, events


async def test_a_like_is_on_the_stream_within_two_seconds(console, spring, valkey):  # noqa: F811
    async with looking_on(console, f"{spring}/stream") as (_, events):
        assert "100" in text_of(await events.until("numbers"))
        await events.until("as-of")
        await valkey.hincrby(KEY, "1", 1)
        began = time.monotonic()
        while "101" not in text_of(await events.until("numbers")):
            pass
        assert time.monotonic() - began < 2


async def test_only_what_changed_is_sent(console, spring, valkey):  # noqa: F811
    async with looking_on(console, f"{spring}/stream?page=candidates") as (_, events):
        first = json.loads(await events.until("cells"))
        assert set(first) == {"c1", "c2", "c3", "c4", "c5"}
        for _ in range(2):
            await events.until("as-of")
        assert set(events.passed) <= {"sums"}, "nothing has changed"
        await valkey.hincrby(KEY, "h2", 40)
        assert json.loads(await events.until("cells")) == {
            "c2": ["1", "60", "60.00 %", "–", "50.0 %"]
        }


async def test_a_viewer_who_went_is_looked_for_no_more(console, spring):  # noqa: F811
    async def gone():
        return console.app.state.showing.streams.total() == 0

    for _ in range(3):
        async with looking_on(console, f"{spring}/stream") as (_, events):
            await events.until("as-of")
            assert console.app.state.showing.streams.total() == 1
        await wait_until_async(gone, what="the end of the stream")
    watched = await console.app.state.showing.live.look("spring")
    assert watched._viewers == 0


async def test_a_stream_ends_when_its_session_does(
    console, spring, postgres, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(live_pages, "SESSION_ASKED_EVERY_SECONDS", 0.1)
    async with looking_on(console, f"{spring}/stream") as (client, events):
        await events.until("as-of")
        await postgres.execute("DELETE FROM staff_sessions")
        await events.until("signed-out")
        assert await events.next() is None
        answer = await client.get(f"{spring}/stream?once=1")
        assert answer.status in (302, 303, 401)


@pytest.mark.parametrize("change", ["disabled_at = now()", "role = 'office'"])
async def test_a_stream_ends_when_somebody_is_made_something_else(
    console, spring, postgres, monkeypatch, change  # noqa: F811
):  # fmt: skip
    """Somebody who is disabled while they look, or may not look any more."""
    monkeypatch.setattr(live_pages, "SESSION_ASKED_EVERY_SECONDS", 0.1)
    async with looking_on(console, f"{spring}/stream") as (_, events):
        await events.until("as-of")
        await postgres.execute(f"UPDATE staff SET {change}")
        await events.until("signed-out")


async def test_nobody_has_more_streams_than_are_meant(
    console, spring, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(live_pages, "STREAMS_OF_ONE_MAX", 2)
    monkeypatch.setattr(live_pages, "STREAMS_MAX", 3)
    path = f"{spring}/stream"
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(console.client_as("viewer"))
        other = await stack.enter_async_context(console.client_as("viewer"))
        for _ in range(2):
            await stack.enter_async_context(streaming(one, path))
        assert (await one.get(path)).status == 429
        assert (await one.get(f"{path}?once=1")).status == 200, "who is refused may ask again"
        await stack.enter_async_context(streaming(other, path))
        assert (await other.get(path)).status == 429


async def test_a_quiet_stream_is_kept_alive(console, spring, monkeypatch):  # noqa: F811
    monkeypatch.setattr(live_pages, "KEEP_ALIVE_SECONDS", 0.0)
    async with looking_on(console, "/parts/stream") as (_, events):
        await events.until("as-of")

        async def nothing_new(request):
            return {}

        monkeypatch.setattr(live_pages, "_parts_blocks", nothing_new)
        with contextlib.suppress(TimeoutError):
            await events.next(3)
        assert events.comments >= 1


async def test_polling_gives_all_of_it_at_once(console, spring):  # noqa: F811
    async with console.client_as("viewer", **SHOWN) as client:
        for page, names in (
            ("overview", {"as-of", "numbers", "chart", "chart-table", "top", "outcomes",
                          "networks", "health"}),
            ("candidates", {"as-of", "sums", "cells"}),
            ("hall", {"as-of", "hall-numbers", "hall-top"}),
            ("candidate&candidate=c001", {"as-of", "candidate-numbers", "chart", "chart-table"}),
        ):  # fmt: skip
            answer = await client.get(f"{spring}/stream?once=1&page={page}")
            assert answer.content_type == "application/json"
            assert set(await answer.json()) == names
            assert answer.headers["Cache-Control"] == "no-store"
        assert set(json.loads(await read(client, "/parts/stream?once=1"))) == {
            "as-of", "parts", "reconciled",
        }  # fmt: skip


async def test_what_a_page_asks_for_live_is_what_its_stream_sends(console, spring):  # noqa: F811
    async with console.client_as("viewer") as client:
        for path in (
            spring,
            f"{spring}/candidates",
            f"{spring}/candidates/c001",
            f"{spring}/hall",
            "/parts",
        ):
            page = await read(client, path)
            (address,) = re.findall(r'data-live-from="([^"]+)"', page)
            blocks = json.loads(await read(client, html.unescape(address) + (
                "&once=1" if "?" in address else "?once=1")))  # fmt: skip
            assert set(re.findall(r'data-live="([^"]+)"', page)) | {"cells"} >= set(blocks)
            assert set(re.findall(r'data-live="([^"]+)"', page)) <= set(blocks)


async def test_both_languages_are_made_apart(console, spring):  # noqa: F811
    for _ in range(2):
        for language, word in (("en", "Counted"), ("zh-CN", "计入")):
            async with console.client_as("viewer", **{"Accept-Language": language}) as client:
                blocks = json.loads(await read(client, f"{spring}/stream?once=1"))
                assert word in blocks["numbers"]


async def test_an_open_stream_does_not_hold_up_the_stop(
    spring, postgres, postgres_dsn, valkey_url, tmp_path
):
    async with contextlib.AsyncExitStack() as stack:
        async with running_console(tmp_path, valkey_url, postgres_dsn, postgres) as own:
            client = await stack.enter_async_context(own.client_as("viewer"))
            for path in (f"{spring}/stream", "/parts/stream"):
                events = await stack.enter_async_context(streaming(client, path))
                await events.until("as-of")
            began = time.monotonic()
        assert time.monotonic() - began < 4


# Small things.


@pytest.mark.parametrize(
    ("change", "shown"),
    [(None, "–"), (0.0, "0 %"), (0.004, "0 %"), (0.126, "+13 %"), (-0.5, "−50 %"),
     (123.4, "+12,340 %")],
)  # fmt: skip
def test_a_change_has_its_sign(change, shown):
    assert signed_percent(change) == shown


def test_cells_are_rank_counted_share_trend_and_held_share():
    candidate = Candidate(7, "c7", "n", "", "", "", "", "")
    row = Ranked(3, candidate, Sums(1_234, 66), 0.0123, Trend(90, 100))
    assert cells(row) == ["3", "1,234", "1.23 %", "−10 %", "5.1 %"]
    assert Numbers(0, {7: row.sums}, {}).in_all.received == 1_300


def test_an_event_keeps_its_lines():
    assert frame("numbers", "a\nb") == b"event: numbers\ndata: a\ndata: b\n\n"
