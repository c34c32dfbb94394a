"""The card page without a browser: what it says in each state, what it keeps over a press, and what
it believes of its address. Its device and tickets are test_edge_devices'."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urljoin

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from voting.ballot import Cast, Outcome
from voting.edge import cards
from voting.edge.board import Board
from voting.edge.card_words import SAID
from voting.store_line import StoreDown

CARD = "/embed/v1/card/spring/c001"
MOMENT = r"\d+年\d+月\d+日 \d+:\d\d（北京时间）"


async def shown(edge, path=CARD, **headers):
    async with edge.http.get(edge.url + path, headers=headers) as answer:
        assert answer.status == 200
        return await answer.text()


async def press(edge, path=CARD, cookie=None, **fields):
    """(status, where it leads, the cookie)."""
    headers = {"Origin": edge.url} | ({"Cookie": cookie} if cookie else {})
    async with edge.http.post(
        edge.url + path, data=fields, headers=headers, allow_redirects=False
    ) as answer:
        kept = answer.headers.get("Set-Cookie", "").partition(";")[0]
        return answer.status, answer.headers.get("Location"), kept


def form_in(page):
    """The form's action, None where there is no form."""
    found = re.search(r'<form method="post" action="([^"]*)"', page)
    return found and found[1].replace("&amp;", "&")


async def test_before_the_opening_and_after_the_close_the_card_says_when_and_has_no_form(
    edge, postgres
):
    now = datetime.now(UTC)
    await add_campaign(postgres, "later", opens_at=now + timedelta(days=1))
    await add_campaign(
        postgres, "over", opens_at=now - timedelta(days=2), closes_at=now - timedelta(days=1)
    )
    await edge.wait_for_campaign("over")
    for campaign, zh, en in (
        ("later", f"点赞尚未开始，{MOMENT}开始", "Not open yet: opens on 20"),
        ("over", f"点赞已于 {MOMENT}结束", "Closed on 20"),
    ):
        for lang, said in (("zh", zh), ("en", en)):
            # What is true now goes before what an address says.
            page = await shown(edge, f"/embed/v1/card/{campaign}/c001?lang={lang}&said=counted")
            [message] = re.findall(r'role="status">([^<]+)<', page)
            assert re.match(said, message)
            assert form_in(page) is None
            assert "今日还可" not in page
            assert "left today" not in page
        async with edge.http.post(
            f"{edge.url}/embed/v1/card/{campaign}/c001", data={}, allow_redirects=False
        ) as answer:
            word = {"later": "not-open", "over": "closed"}[campaign]
            assert answer.headers["Location"] == f"./c001?said={word}"


async def test_what_is_left_of_a_devices_likes_is_said_and_when_nothing_is(edge):
    assert "今日还可点赞 3 次" in await shown(edge)
    cookie = None
    for n, left in ((1, "今日还可点赞 2 次"), (2, "今日还可点赞 1 次"), (3, None)):
        path = f"/embed/v1/card/spring/c00{n}"
        _, leads_to, cookie = await press(edge, path, cookie)
        assert leads_to.startswith(f"./c00{n}?said=counted&receipt=")
        page = await shown(edge, path, Cookie=cookie)
        assert "今日已点赞" in page
        assert (left in page) if left else ("今日还可" not in page)
    page = await shown(edge, "/embed/v1/card/spring/c004", Cookie=cookie)
    assert "点赞次数已用完" in page
    assert form_in(page) is None
    assert (await press(edge, "/embed/v1/card/spring/c004", cookie))[1].endswith("said=quota-spent")


async def test_what_a_portal_chose_is_kept_over_a_press(edge):
    chosen = "lang=en&theme=dark&color=ffdd00"
    page = await shown(edge, f"{CARD}?{chosen}")
    assert form_in(page) == f"?{chosen}"
    assert '<html lang="en" data-theme="dark"' in page
    assert "static/colour/ffdd00.css" in page
    status, leads_to, cookie = await press(edge, f"{CARD}?{chosen}")
    assert status == 303
    assert re.fullmatch(rf"\./c001\?said=counted&receipt=[\w-]{{22}}&{chosen}", leads_to)
    page = await shown(edge, CARD + leads_to.removeprefix("./c001"), Cookie=cookie)
    assert "Your like is counted. Thank you!" in page
    assert '<html lang="en" data-theme="dark"' in page


async def test_a_waiting_card_keeps_what_a_portal_chose_beside_its_ticket(edge, monkeypatch):
    async def challenged(*_):
        return Cast(Outcome.CHALLENGE)

    monkeypatch.setattr(cards, "cast_tap", challenged)
    _, leads_to, cookie = await press(edge, f"{CARD}?theme=dark")
    query = dict(parse_qsl(leads_to.partition("?")[2]))
    assert set(query) == {"said", "ticket", "device", "theme"}
    page = await shown(edge, CARD + leads_to.removeprefix("./c001"), Cookie=cookie)
    assert re.search(r"请等待 \d+ 秒", page)
    assert form_in(page) == "?theme=dark"


@pytest.mark.parametrize(
    "query",
    [
        "lang=fr&theme=pink&color=red",
        "lang=%3Cscript%3E&theme=%22%3E&color=%22%3E%3Cscript%3E&said=%3Cscript%3E",
        "color=%EF%BC%91%EF%BC%92%EF%BC%93456",
        "ticket=%3Cscript%3E&device=%3Cscript%3E",
        "lang=en%0d%0aSet-Cookie:a=b",
        "x=" + "y" * 3_000,
    ],
)
async def test_hostile_query_is_as_good_as_none(edge, query):
    def still(page):
        return re.sub(r'name="(click|view)" value="[^"]+"', "", page)

    page = await shown(edge, f"{CARD}?{query}")
    assert still(page) == still(await shown(edge))
    _, leads_to, _ = await press(edge, f"{CARD}?{query}")
    assert re.fullmatch(r"\./c001\?said=counted&receipt=[\w-]{22}", leads_to)


async def test_a_counted_press_is_in_the_count_beside_it_at_once(edge, monkeypatch):
    """The board is up to a second old; here it stands still."""

    async def never(_):
        return None

    await edge.wait_for_counts("spring", {"c001": 0})
    monkeypatch.setattr(Board, "refresh", never)
    _, leads_to, cookie = await press(edge)
    path = CARD + leads_to.removeprefix("./c001")
    assert '<span class="count">1</span>' in await shown(edge, path, Cookie=cookie)
    # It is no number that anybody may write into an address.
    for forged in ("A" * 22, "好" * 22, "x"):
        page = await shown(edge, f"{CARD}?said=counted&receipt={forged}")
        assert '<span class="count">0</span>' in page


async def test_a_counted_press_leads_to_its_receipt_and_a_held_one_looks_the_same(edge, postgres):
    await add_campaign(postgres, "crowd", limits={"per_network": "1/hour"})
    await edge.wait_for_counts("crowd", {"c001": 0})
    path, links = "/embed/v1/card/crowd/c001", []
    for _ in range(2):
        _, leads_to, cookie = await press(edge, path)
        page = await shown(edge, path + leads_to.removeprefix("./c001"), Cookie=cookie)
        receipt = leads_to.partition("receipt=")[2]
        links += re.findall(r'<p class="receipt"><a href="([^"]+)"([^>]*)>(.+?)</a>', page)
        assert links[-1][0] == f"../../../../receipt?receipt={receipt}"
        async with edge.http.get(urljoin(edge.url + path, links[-1][0])) as answer:
            assert answer.status == 200
    assert links[0][1:] == links[1][1:] == (' target="_blank" rel="noopener"', "查看回执")
    assert (await edge.parts.ballot_boxes.of(0).snapshot("crowd")).sums == {b"1": 1, b"h1": 1}
    # Nothing that others write into an address, and no other campaign's, is taken for one.
    for other in (f"{path}?said=counted&receipt={'A' * 22}", f"{CARD}?receipt={receipt}"):
        assert 'class="receipt"' not in await shown(edge, other)


async def test_a_press_that_is_sent_again_without_its_cookie_is_the_same_devices(edge):
    """Its answer was lost, and with it the device."""
    click = {"click": "one-click-of-a-form"}
    _, counted, _ = await press(edge, **click)
    assert (await press(edge, **click))[1] == counted, "the same vote, by its receipt"
    other = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0", "Origin": edge.url}
    async with edge.http.post(
        edge.url + CARD, data=click, headers=other, allow_redirects=False
    ) as answer:
        assert answer.headers["Location"] != counted, "another program is another device"
    assert (await press(edge, click="another-click-of-it"))[1] != counted
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 3}


async def test_every_press_of_a_form_without_a_click_is_a_click_of_its_own(edge):
    _, leads_to, cookie = await press(edge)
    assert "said=counted" in leads_to
    assert (await press(edge, cookie=cookie))[1].endswith("said=repeated")
    assert (await press(edge, cookie=cookie, click="short"))[0] == 400
    assert (await edge.parts.ballot_boxes.of(0).snapshot("spring")).sums == {b"1": 1}


async def test_card_needs_no_script_and_no_address_of_its_own(edge):
    page = await shown(edge)
    assert "<script" not in page
    assert "style=" not in page
    for address in re.findall(r'(?:href|src|srcset|action)="([^"]*)"', page):
        assert re.match(r"\?|\.\./\.\./\.\./\.\./(static|campaigns)/", address), address


async def test_card_whose_page_nobody_frames_has_a_ground(edge):
    assert 'class="alone"' in await shown(edge, **{"Sec-Fetch-Dest": "document"})
    assert 'class="alone"' not in await shown(edge, **{"Sec-Fetch-Dest": "iframe"})


async def test_card_is_shown_while_the_store_is_away(edge, monkeypatch):
    _, _, cookie = await press(edge)

    async def away(*_):
        raise StoreDown

    monkeypatch.setattr(edge.parts.ballot_boxes.of(0), "device_day", away)
    assert form_in(await shown(edge, Cookie=cookie)) == "?"


async def test_where_only_those_a_portal_vouches_for_may_like_the_card_says_so(edge, postgres):
    rules = {"identity": "required"}
    await add_campaign(postgres, "members", rules=rules)
    await edge.wait_for_campaign("members")
    page = await shown(edge, "/embed/v1/card/members/c001")
    assert "请在门户网站登录后点赞" in page
    assert form_in(page) is None
    _, leads_to, cookie = await press(edge, "/embed/v1/card/members/c001")
    assert leads_to == "./c001?said=identity-required"
    page = await shown(edge, "/embed/v1/card/members/c001?said=identity-required", Cookie=cookie)
    assert SAID["zh"]["identity-required"] in page


async def test_colours_are_files_and_of_nothing_but_six_digits(edge):
    async with edge.http.get(f"{edge.url}/static/colour/ffdd00.css") as answer:
        sheet = await answer.text()
        assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert sheet.count("--accent:") == 4
    for odd in ("red", "FFDD00", "ffdd001", "ffdd00.css%7d", "%66fdd0"):
        async with edge.http.get(f"{edge.url}/static/colour/{odd}.css") as answer:
            assert answer.status == 404, odd
    address = re.search(r"static/colour/[0-9a-f]{6}\.css\?[0-9a-f]+", await shown(edge))[0]
    async with edge.http.get(f"{edge.url}/{address}") as answer:
        assert "immutable" in answer.headers["Cache-Control"]


async def test_the_campaigns_colour_is_the_cards(edge, postgres):
    await postgres.execute("""UPDATE campaigns SET page = '{"colour": "#0a7d4f"}'""")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def green():
        return "colour/0a7d4f.css" in await shown(edge)

    await wait_until_async(green, 5, "the campaign's colour")
    assert "colour/ffdd00.css" in await shown(edge, f"{CARD}?color=ffdd00")
