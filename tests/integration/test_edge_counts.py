"""Counts, candidates and images as portals' servers and CDNs meet them."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from tests.wire import get, wired
from voting.edge.count_images import as_png, look_of
from voting.store_line import StoreDown

COUNTS = b"/v1/campaigns/spring/counts"
CANDIDATES = b"/v1/campaigns/spring/candidates"
GZIP = b"Accept-Encoding: gzip\r\n"


@pytest.fixture(params=["on", "off"])
async def either(request, tmp_path, valkey_url, postgres_dsn, postgres):
    """An edge with the fast lane, and one without."""
    await add_campaign(postgres, "spring", candidates=40)
    async with running_edge(tmp_path, valkey_url, postgres_dsn, fast_lane=request.param) as edge:
        yield edge


async def asked(edge, path, more=b""):
    async with wired(edge) as wire:
        return await wire.ask(get(path, more))


async def test_counts_come_as_they_are_taken_with_what_a_cdn_needs(either):
    plain, packed = await asked(either, COUNTS), await asked(either, COUNTS, GZIP)
    for answer in (plain, packed):
        assert answer.status == 200
        assert answer.headers["surrogate-key"] == "campaign-spring counts-spring"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "stale-while-revalidate" in answer.headers["cache-control"]
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["timing-allow-origin"] == "*"
        assert answer.headers["etag"].startswith('W/"')
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body)
    assert json.loads(gzip.decompress(packed.body))["counts"] == plain.said["counts"]
    for more in (b"", GZIP):
        known = f"If-None-Match: {plain.headers['etag']}\r\n".encode()
        same = await asked(either, COUNTS, more + known)
        assert (same.status, same.body) == (304, b"")
        assert same.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in same.headers


async def test_counts_say_the_state_and_a_new_state_is_a_new_etag(either, postgres):
    before = await asked(either, COUNTS)
    campaign = either.parts.catalog.campaigns["spring"]
    assert {name: before.said[name] for name in ("state", "paused_because")} == {
        "state": "open",
        "paused_because": None,
    }
    assert datetime.fromisoformat(before.said["opens_at"]) == campaign.window.opens_at
    assert datetime.fromisoformat(before.said["closes_at"]) == campaign.window.closes_at
    assert before.said["view"]
    await postgres.execute("UPDATE campaigns SET paused_because = '机房检修'")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def paused():
        return (await asked(either, COUNTS)).said["state"] == "paused"

    await wait_until_async(paused, 5, "the pause")
    known = f"If-None-Match: {before.headers['etag']}\r\n".encode()
    after = await asked(either, COUNTS, known)
    assert (after.status, after.said["paused_because"]) == (200, "机房检修")
    assert after.said["counts"] == before.said["counts"]


@pytest.mark.parametrize("visibility", ["live", "daily", "after-close", "staff"])
async def test_phase_moves_by_the_clock_whatever_is_shown_and_while_the_store_is_away(
    edge, postgres, visibility, monkeypatch
):
    now = datetime.now(UTC)
    await add_campaign(
        postgres,
        "soon",
        rules={"counts": visibility},
        opens_at=now + timedelta(hours=1),
        closes_at=now + timedelta(hours=2),
    )
    await edge.wait_for_campaign("soon")
    board, box = edge.parts.board, edge.parts.ballot_boxes.of(0)
    await board.refresh()
    campaign = edge.parts.catalog.campaigns["soon"]
    told = []

    async def away(_):
        raise StoreDown

    monkeypatch.setattr(box, "snapshot", away)
    for hours in (0, 1.5, 3):
        monkeypatch.setattr(box, "clock_offset_us", int(hours * 3_600e6))
        await board.refresh()
        published = board.published(campaign)
        told.append((json.loads(published.body)["state"], published.etag))
    assert [state for state, _ in told] == ["not-open", "open", "closed"]
    assert len({etag for _, etag in told}) == 3


async def test_candidates_are_listed_once_for_all_and_known_again(either, postgres):
    listed, packed = await asked(either, CANDIDATES), await asked(either, CANDIDATES, GZIP)
    assert listed.headers["surrogate-key"] == "campaign-spring candidates-spring"
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body))["candidates"] == listed.said["candidates"]
    assert gzip.decompress(packed.body) == listed.body, "one copy for all"
    known = f"If-None-Match: {listed.headers['etag']}\r\n".encode()
    same = await asked(either, CANDIDATES, known)
    assert (same.status, same.headers["vary"]) == (304, "Accept-Encoding")
    await postgres.execute("UPDATE candidates SET name = '改名' WHERE number = 1")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def renamed():
        return (await asked(either, CANDIDATES, known)).status == 200

    await wait_until_async(renamed, 5, "the other name")
    assert (await asked(either, CANDIDATES)).said["candidates"][0]["name"] == "改名"


async def test_random_orders_are_whole_and_only_the_one_of_all_is_compressed(edge):
    path = b"/v1/campaigns/spring/candidates?order=random"
    first, second = await asked(edge, path, GZIP), await asked(edge, path, GZIP)
    assert gzip.decompress(first.body) == gzip.decompress(second.body), "the same for a minute"
    seeded = await asked(edge, path + b"&seed=7", GZIP)
    assert "content-encoding" not in seeded.headers
    assert seeded.headers["vary"] == "Accept-Encoding"
    assert sorted(one["id"] for one in seeded.said["candidates"]) == [
        f"c00{n}" for n in range(1, 6)
    ]


async def test_candidates_may_be_asked_for_by_their_ids(either, postgres):
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE id = 'c003'")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def gone():
        return (await asked(either, CANDIDATES + b"?only=c003")).said["withdrawn"] != []

    await wait_until_async(gone, 5, "who withdrew")
    some = await asked(either, CANDIDATES + b"?only=c005,c001,none,c003,c001,,%00", GZIP)
    told = json.loads(gzip.decompress(some.body))
    assert [one["id"] for one in told["candidates"]] == ["c001", "c005"]
    assert [one["id"] for one in told["withdrawn"]] == ["c003"]
    assert told["view"]
    known = f"If-None-Match: {some.headers['etag']}\r\n".encode()
    assert (await asked(either, CANDIDATES + b"?only=c001", known)).status == 304
    many = b",".join(b"c%03d" % n for n in range(51))
    assert (await asked(either, CANDIDATES + b"?only=" + many)).status == 400
    none = await asked(either, CANDIDATES + b"?only=")
    assert (none.said["candidates"], none.said["withdrawn"]) == ([], [])


async def test_campaign_says_which_pages_may_embed_it(edge):
    answer = await asked(edge, b"/v1/campaigns/spring")
    assert answer.said["origins"] == ["https://www.example.cn"]
    assert answer.headers["surrogate-key"] == "campaign-spring"


IMAGE = b"/v1/campaigns/spring/counts/c001."


async def test_images_show_the_count_in_both_forms(edge):
    await edge.like(await edge.token())
    await edge.parts.board.refresh()
    svg, png = await asked(edge, IMAGE + b"svg"), await asked(edge, IMAGE + b"png?theme=dark")
    assert b">1</text>" in svg.body
    assert png.body == as_png("1", look_of({"theme": "dark"}))
    assert (svg.headers["content-type"], png.headers["content-type"]) == (
        "image/svg+xml; charset=utf-8",
        "image/png",
    )
    for image in (svg, png):
        assert image.headers["surrogate-key"] == "campaign-spring counts-spring"
        assert image.headers["access-control-allow-origin"] == "*"
    assert "sandbox" in svg.headers["content-security-policy"]


async def test_hostile_query_of_an_image_is_as_good_as_none(edge):
    hostile = b"?color=%22%3E%3Cscript%3E&theme=%00&height=1e9&" + b"x" * 2_000
    for kind in (b"svg", b"png"):
        usual = await asked(edge, IMAGE + kind)
        odd = await asked(edge, IMAGE + kind + hostile)
        assert (odd.status, odd.body) == (200, usual.body)
    assert (await asked(edge, IMAGE + b"gif")).status == 404
    assert (await asked(edge, IMAGE.replace(b"c001", b"none") + b"png")).status == 404


async def test_image_of_hidden_counts_is_a_dash(edge, postgres):
    await add_campaign(postgres, "blind", rules={"counts": "staff"})
    await edge.wait_for_campaign("blind")
    await edge.like(await edge.token("blind"), campaign="blind")
    await edge.parts.board.refresh()
    png = await asked(edge, IMAGE.replace(b"spring", b"blind") + b"png")
    assert png.body == as_png("–", look_of({}))
    svg = await asked(edge, IMAGE.replace(b"spring", b"blind") + b"svg")
    assert ">–</text>" in svg.body.decode()
