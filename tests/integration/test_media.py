"""Photos and videos from the folder that staff make to the browser, or to an object store."""

import asyncio
import io
import json
import os
import struct

import aiohttp
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.campaign_folders import HEADER, MANIFEST, csv_bytes, grid, jpeg, people, write_folder
from tests.conftest import wait_until_async
from tests.films import FTYP, QUICKTIME, film, index
from tests.integration.conftest import running_edge
from tests.lanes import later, only_connection, remember_lanes, wait_for
from voting.catalog import load_campaigns
from voting.commands import app as commands
from voting.edge import videos
from voting.intake import importer
from voting.intake.importer import CannotImport, import_folder

OPEN = MANIFEST.replace("2026-11-01", "2020-11-01")
PAGE = '[page]\nlead = "为创造者点赞"\ncolour = "#b8291a"\ncover = "cover.jpg"\n'
FOR_GOOD = "public, max-age=31536000, immutable"
LONG = FTYP + struct.pack(">I4s", 3_000_008, b"mdat") + os.urandom(3_000_000) + index()


@pytest.fixture
def bring(tmp_path, postgres_dsn):
    """Import candidates with stories, photos and videos: c001 has all, c002 a photo."""

    async def run(*, film=LONG, manifest=OPEN + PAGE, video="a.mp4", **options):
        rows = people(3)
        rows[0] |= {"照片": "a.jpg;b.jpg", "详细事迹": "第一段。\n第二段。", "视频": video}
        rows[1] |= {"照片": "c.jpg"}
        files = {
            "a.jpg": jpeg((1350, 1700)),
            "b.jpg": jpeg((800, 500), (0, 90, 0)),
            "c.jpg": jpeg((300, 400), (0, 0, 90)),
        }
        folder = write_folder(tmp_path / "f", photos=files, manifest=manifest)
        (folder / "cover.jpg").write_bytes(jpeg((1600, 900), (9, 9, 9)))
        header = (*HEADER, "详细事迹", "视频")
        (folder / "candidates.csv").write_bytes(csv_bytes(grid(rows, header)))
        (folder / "videos").mkdir(exist_ok=True)
        (folder / "videos" / "a.mp4").write_bytes(film)
        options.setdefault("media", tmp_path / "media")
        return await import_folder(folder, postgres_dsn, **options)

    return run


def kept(tmp_path):
    folder = tmp_path / "media" / "videos"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# Import.


async def test_what_was_imported_is_what_the_edge_loads(bring, postgres, tmp_path):
    report = await bring()
    assert (report.imported, [p for p in report.problems if p.level == "error"]) == (True, [])
    campaign = (await load_campaigns(postgres))["stars"]
    first, second, third = campaign.candidates
    assert first.story == "第一段。\n第二段。"
    assert (second.story, second.more_photos, second.video) == ("", (), None)
    pictures = campaign.pictures
    assert pictures[first.photo][1:] == (476, 600, 1191, 1500)
    assert [pictures[one][1:] for one in first.more_photos] == [(480, 300, 800, 500)]
    assert pictures[second.photo][1:] == (300, 400, 300, 400)
    assert third.photo is None
    assert (campaign.page.lead, campaign.page.colour) == ("为创造者点赞", "#b8291a")
    assert pictures[campaign.page.cover][1:] == (480, 270, 1200, 675)
    video = campaign.videos[first.video]
    assert (video.kind, video.size_bytes, video.seconds) == ("mp4", len(LONG), 2.0)
    assert kept(tmp_path) == [f"{video.id}.mp4"]
    assert (tmp_path / "media" / "videos" / f"{video.id}.mp4").read_bytes() == LONG


async def test_importing_twice_changes_nothing(bring, postgres, tmp_path):
    await bring()
    before = await postgres.fetch("SELECT * FROM candidates ORDER BY number")
    file = tmp_path / "media" / "videos" / kept(tmp_path)[0]
    inode = file.stat().st_ino
    await bring()
    assert await postgres.fetch("SELECT * FROM candidates ORDER BY number") == before
    assert await postgres.fetchval("SELECT count(*) FROM campaign_changes") == 1
    assert file.stat().st_ino == inode


async def test_a_second_import_makes_the_large_pictures_that_are_missing(bring, postgres):
    await bring()
    cards = await postgres.fetch("SELECT id, webp FROM photos ORDER BY id")
    await postgres.execute(
        "UPDATE photos SET large_width = NULL, large_height = NULL, large_webp = NULL,"
        " large_jpeg = NULL, webp = webp || '\\x00'"
    )
    older = await postgres.fetch("SELECT id, webp FROM photos ORDER BY id")
    await bring()
    assert await postgres.fetchval("SELECT count(*) FROM photos WHERE large_width IS NULL") == 0
    assert await postgres.fetch("SELECT id, webp FROM photos ORDER BY id") == older != cards
    assert await postgres.fetchval("SELECT count(*) FROM campaign_changes") == 1


async def test_what_changes_is_recorded_and_the_public_hears_only_that_it_did(bring, postgres):
    await bring()
    await bring(film=film(), manifest=OPEN + PAGE.replace("为创造者", "给发明者"))
    row = await postgres.fetchrow("SELECT was, became FROM campaign_changes WHERE candidate = 1")
    was, became = json.loads(row["was"]), json.loads(row["became"])
    assert was.keys() == became.keys() == {"video"}
    [change] = (await load_campaigns(postgres))["stars"].changes
    assert [tuple(one) for one in change.fields] == [("video", None, None)]
    page = await postgres.fetchrow("SELECT kind, became FROM campaign_changes WHERE number = 2")
    assert (page["kind"], json.loads(page["became"])) == ("imported", {"lead": "给发明者点赞"})


async def test_a_list_without_them_takes_story_and_video_away_again(
    bring, postgres, postgres_dsn, tmp_path
):
    await bring()
    folder = write_folder(tmp_path / "g", manifest=OPEN)
    report = await import_folder(folder, postgres_dsn, media=tmp_path / "media")
    assert report.imported
    campaign = (await load_campaigns(postgres))["stars"]
    assert (campaign.candidates[0].story, campaign.candidates[0].video) == ("", None)
    assert (campaign.page.lead, campaign.page.cover) == ("", None)
    assert len(kept(tmp_path)) == 1, "an earlier list may come back"


async def test_only_checking_copies_nothing(bring, tmp_path):
    await bring(check=True)
    assert not (tmp_path / "media").exists()


async def test_a_folder_with_an_error_leaves_no_video(bring, postgres, tmp_path):
    report = await bring(film=film()[:-1])
    assert not report.imported
    assert kept(tmp_path) == []
    assert await postgres.fetchval("SELECT count(*) FROM videos") == 0


async def test_what_an_import_left_behind_is_gone_after_the_next(bring, tmp_path, monkeypatch):
    async def dies(*_, **__):
        raise OSError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(importer, "save", dies)
        with pytest.raises(CannotImport):
            await bring(film=film())
    assert len(kept(tmp_path)) == 1
    await bring()
    [left] = kept(tmp_path)
    assert (tmp_path / "media" / "videos" / left).stat().st_size == len(LONG)


async def test_videos_need_a_folder_that_can_be_written(bring, tmp_path):
    with pytest.raises(CannotImport, match="no folder to keep them in"):
        await bring(media=None)
    (tmp_path / "file").touch()
    with pytest.raises(CannotImport, match="cannot be kept"):
        await bring(media=tmp_path / "file")


async def test_the_command_keeps_videos_in_the_data_folder(
    bring, tmp_path, postgres_dsn, monkeypatch
):
    await bring(check=True)
    monkeypatch.setenv("DIANZAN_POSTGRES_DSN", postgres_dsn)
    monkeypatch.setenv("DIANZAN_DATA_DIR", str(tmp_path / "data"))
    command = ["campaign", "import", str(tmp_path / "f")]
    done = await asyncio.to_thread(CliRunner().invoke, commands, command)
    assert (done.exit_code, "imported." in done.stderr) == (0, True), done.stderr
    assert len(list((tmp_path / "data" / "media" / "videos").iterdir())) == 1


# The edge.


@pytest.fixture
def lanes(monkeypatch):
    """The lanes that edges of this test make, to look at their connections and their clock."""
    return remember_lanes(monkeypatch)


@pytest.fixture
async def edge(bring, tmp_path, valkey_url, postgres_dsn, postgres):
    await bring()
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as running:
        await running.wait_for_campaign("stars")
        yield running


async def get(edge, path, method="GET", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with edge.http.request(method, edge.url + path, headers=names) as answer:
        return answer, await answer.read()


def stars(edge):
    return edge.parts.catalog.campaigns["stars"]


async def test_photos_are_served_in_two_sizes_for_good(edge):
    async with edge.http.get(f"{edge.url}/v1/campaigns/stars/candidates") as answer:
        listed = (await answer.json())["candidates"]
    photo = listed[0]["photo"]
    for size, pixels in ((photo, (476, 600)), (photo["large"], (1191, 1500))):
        assert (size["width"], size["height"]) == pixels
        for form, kind in (("webp", "WEBP"), ("jpeg", "JPEG")):
            answer, body = await get(edge, size[form])
            assert (answer.status, answer.headers["Cache-Control"]) == (200, FOR_GOOD)
            with Image.open(io.BytesIO(body)) as image:
                assert (image.format, image.size) == (kind, pixels)
            again, nothing = await get(edge, size[form], If_None_Match=answer.headers["ETag"])
            assert (again.status, nothing) == (304, b"")
            assert again.headers["Cache-Control"] == FOR_GOOD
            head, nothing = await get(edge, size[form], "HEAD")
            assert (head.status, nothing) == (200, b"")
            assert head.headers["Content-Length"] == str(len(body))
    assert listed[1]["photo"]["large"] is None
    for more in (*stars(edge).candidates[0].more_photos, stars(edge).page.cover):
        assert (await get(edge, f"/v1/photos/{more}.jpg"))[0].status == 200


async def test_an_older_photo_stands_in_for_its_large_size_until_that_is_there(edge, postgres):
    photo = stars(edge).candidates[0].photo
    await postgres.execute(
        "UPDATE photos SET large_width = NULL, large_height = NULL, large_webp = NULL,"
        " large_jpeg = NULL"
    )
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def older():
        return edge.parts.catalog.pictures[photo].large_width is None

    await wait_until_async(older, what="the older picture")
    small, card = await get(edge, f"/v1/photos/{photo}.jpg")
    answer, body = await get(edge, f"/v1/photos/{photo}-large.jpg")
    assert (answer.status, body) == (200, card)
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.headers["ETag"] == small.headers["ETag"]


def video_of(edge):
    [video] = stars(edge).videos.values()
    return f"/v1/videos/{video.id}.mp4"


async def test_a_video_is_served_whole_and_in_ranges(edge):
    path = video_of(edge)
    whole, body = await get(edge, path)
    assert (whole.status, body) == (200, LONG)
    assert whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["Cache-Control"] == FOR_GOOD
    assert whole.headers["Accept-Ranges"] == "bytes"
    size = len(LONG)
    for asked, begin, end in (
        ("bytes=0-", 0, size), ("bytes=0-1", 0, 2), ("bytes=2000000-2999999", 2_000_000, 3_000_000),
        ("bytes=-100", size - 100, size), (f"bytes={size - 1}-{size + 99}", size - 1, size),
    ):  # fmt: skip
        part, body = await get(edge, path, Range=asked)
        assert (part.status, body) == (206, LONG[begin:end])
        assert part.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{size}"
        assert part.headers["Content-Length"] == str(end - begin)
    for asked in ("bytes=0-1,5-6", "bytes=x", "pages=1-2"):
        answer, body = await get(edge, path, Range=asked)
        assert (answer.status, len(body)) == (200, size)


async def test_a_range_behind_the_end_is_416(edge):
    answer, body = await get(edge, video_of(edge), Range=f"bytes={len(LONG)}-")
    assert (answer.status, json.loads(body)["outcome"]) == (416, "wrong-range")
    assert answer.headers["Content-Range"] == f"bytes */{len(LONG)}"
    assert "immutable" not in answer.headers["Cache-Control"]


async def test_a_range_of_another_state_gets_the_whole(edge):
    path = video_of(edge)
    etag = (await get(edge, path, "HEAD"))[0].headers["ETag"]
    for if_range, status in (
        (etag, 206), ('"another"', 200), ("Wed, 01 Jul 2026 00:00:00 GMT", 200), (f"W/{etag}", 200),
    ):  # fmt: skip
        answer, _ = await get(edge, path, Range="bytes=0-9", If_Range=if_range)
        assert answer.status == status, if_range


async def test_who_has_the_video_hears_that_alone(edge):
    path = video_of(edge)
    head, body = await get(edge, path, "HEAD")
    assert (head.status, body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(LONG))
    answer, body = await get(edge, path, If_None_Match=head.headers["ETag"], Range="bytes=0-1")
    assert (answer.status, body) == (304, b"")


async def test_only_videos_that_candidates_have_are_served(edge, tmp_path, postgres):
    path = video_of(edge)
    stray = tmp_path / "media" / "videos" / ("0" * 32 + ".mp4")
    stray.write_bytes(film())
    for other in (
        f"/v1/videos/{stray.name}",
        path.replace(".mp4", ".mov"),
        path.replace("/v1/videos/", "/v1/videos/..%2F"),
        "/v1/videos/..%2f..%2fsecrets%2fkeys.mp4",
        "/v1/videos/.lock",
    ):
        assert (await get(edge, other))[0].status == 404, other
    await postgres.execute("UPDATE candidates SET video = NULL")
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def gone():
        return (await get(edge, path, "HEAD"))[0].status == 404

    await wait_until_async(gone, what="the video to go")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("HEAD", {}),
        ("GET", {"If_None_Match": "*"}),
        ("HEAD", {"If_None_Match": "*"}),
        ("GET", {"Range": "bytes=9999999-"}),
    ],
)
async def test_a_video_whose_file_is_lost_is_not_found(edge, tmp_path, method, headers):
    (tmp_path / "media" / "videos" / kept(tmp_path)[0]).unlink()
    answer, _ = await get(edge, video_of(edge), method, **headers)
    assert answer.status == 404
    assert "immutable" not in answer.headers["Cache-Control"]


async def test_of_who_has_withdrawn_only_the_card_is_served_until_they_return(edge, postgres):
    first = stars(edge).candidates[0]
    film = video_of(edge)
    card, further = (f"/v1/photos/{one}.jpg" for one in (first.photo, *first.more_photos))

    async def served_after(change):
        before = stars(edge)
        await postgres.execute(f"UPDATE candidates SET {change} WHERE id = '{first.id}'")
        await postgres.execute("UPDATE catalog SET version = version + 1")

        async def loaded():
            return stars(edge) is not before

        await wait_until_async(loaded, what="the change")
        paths = (card, further, further.replace(".jpg", "-large.webp"), film)
        return [(await get(edge, path, "HEAD"))[0].status for path in paths]

    assert await served_after("withdrawn_at = now()") == [200, 404, 404, 404]
    assert await served_after("withdrawn_at = NULL") == [200, 200, 200, 200]


async def test_what_another_candidate_shows_too_stays(edge, postgres):
    first, second, _ = stars(edge).candidates
    await postgres.execute(
        "UPDATE candidates SET photo = $1, video = $2 WHERE id = $3",
        *(first.more_photos[0], first.video, second.id),
    )
    await postgres.execute("UPDATE candidates SET withdrawn_at = now() WHERE id = $1", first.id)
    await postgres.execute("UPDATE catalog SET version = version + 1")

    async def withdrawn():
        return stars(edge).candidates[0].withdrawn

    await wait_until_async(withdrawn, what="the change")
    for path in (video_of(edge), f"/v1/photos/{first.more_photos[0]}.jpg"):
        assert (await get(edge, path, "HEAD"))[0].status == 200


async def test_a_video_that_is_shorter_than_it_was_ends_its_connection(edge, tmp_path):
    os.truncate(tmp_path / "media" / "videos" / kept(tmp_path)[0], 1_000_000)
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(edge, video_of(edge))
    assert (await get(edge, "/healthz"))[0].status == 200


async def begin_to_read(edge, path):
    """(reader, writer) of a connection that has asked for all of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1_000)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer


async def read_slowly(edge, path):
    """A connection that has asked for all of it and reads nothing."""
    _, writer = await begin_to_read(edge, path)
    return writer


async def test_who_watches_for_minutes_sees_it_to_the_end(lanes, edge, tmp_path):
    path = video_of(edge)
    size = 100_000_000
    os.truncate(tmp_path / "media" / "videos" / path.rpartition("/")[2], size)
    for key, video in list(edge.parts.catalog.videos.items()):
        edge.parts.catalog.videos[key] = video._replace(size_bytes=size)
    reader, writer = await begin_to_read(edge, path)
    try:
        await reader.readuntil(b"\r\n\r\n")
        connection = await only_connection(lanes[0])
        left = size
        while left:
            # More than the kernel's buffers hold: so the edge wrote some of it after the last look.
            piece = min(left, 20_000_000)
            await reader.readexactly(piece)
            left -= piece
            if left > 20_000_000:
                await wait_for(lambda: connection._writing_paused, "the edge to wait for us")
                later(lanes[0], 60)
                assert not connection._transport.is_closing()
    finally:
        writer.transport.abort()


async def test_readers_are_bounded_and_likes_are_taken_meanwhile(edge, monkeypatch, tmp_path):
    monkeypatch.setattr(videos, "READERS_MAX", 3)
    path = video_of(edge)
    # What the kernel's buffers hold must not be all of it.
    large = tmp_path / "media" / "videos" / path.rpartition("/")[2]
    os.truncate(large, 200_000_000)
    for known in (edge.parts.catalog.videos, stars(edge).videos):
        for key, video in list(known.items()):
            known[key] = video._replace(size_bytes=200_000_000)
    slow = [await read_slowly(edge, path) for _ in range(3)]
    try:
        answer, _ = await get(edge, path)
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        assert (await get(edge, path, "HEAD"))[0].status == 200
        status, _ = await edge.like(await edge.token("stars"), campaign="stars")
        assert status == 201
    finally:
        for writer in slow:
            writer.transport.abort()

    async def room():
        return (await get(edge, path, Range="bytes=0-9"))[0].status == 206

    await wait_until_async(room, what="room for another reader")


async def test_who_takes_nothing_is_cut_off(edge, monkeypatch, tmp_path):
    monkeypatch.setattr(videos, "_PIECE_SECONDS_MAX", 0.2)
    path = video_of(edge)
    os.truncate(tmp_path / "media" / "videos" / path.rpartition("/")[2], 200_000_000)
    for key, video in list(edge.parts.catalog.videos.items()):
        edge.parts.catalog.videos[key] = video._replace(size_bytes=200_000_000)
    writer = await read_slowly(edge, path)
    try:

        async def none_left():
            return edge.parts.metrics.gauge("dianzan_connections") <= 1

        await wait_until_async(none_left, what="the end of the slow connection")
    finally:
        writer.transport.abort()


async def test_a_quicktime_film_has_its_own_type(
    bring, tmp_path, valkey_url, postgres_dsn, postgres
):
    await bring(film=film(brand=QUICKTIME))
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        await edge.wait_for_campaign("stars")
        [video] = stars(edge).videos.values()
        answer, body = await get(edge, f"/v1/videos/{video.id}.mov")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "video/quicktime")
        assert body == film(brand=QUICKTIME)


# An object store.


async def test_with_a_media_url_addresses_point_there(
    bring, tmp_path, valkey_url, postgres_dsn, postgres
):
    await bring()
    url = "https://media.example.cn/likes"
    async with running_edge(tmp_path, valkey_url, postgres_dsn, media_url=url) as edge:
        await edge.wait_for_campaign("stars")
        async with edge.http.get(f"{edge.url}/v1/campaigns/stars/candidates") as answer:
            photo = (await answer.json())["candidates"][0]["photo"]
        assert photo["webp"].startswith(f"{url}/v1/photos/")
        assert photo["large"]["jpeg"].startswith(f"{url}/v1/photos/")
        path = photo["webp"].removeprefix(url)
        assert (await get(edge, path))[0].status == 200, "the CDN fetches it from here"


@pytest.fixture
def export(tmp_path, postgres_dsn, monkeypatch):
    """`dianzan media export`: (exit code, what it said)."""
    monkeypatch.setenv("DIANZAN_POSTGRES_DSN", postgres_dsn)
    monkeypatch.setenv("DIANZAN_DATA_DIR", str(tmp_path))

    async def run(folder=tmp_path / "store"):
        command = ["media", "export", str(folder)]
        done = await asyncio.to_thread(CliRunner().invoke, commands, command)
        return done.exit_code, done.stderr

    return run


async def test_an_export_has_every_file_at_its_address_and_writes_only_new_ones(
    bring, export, tmp_path, postgres
):
    await bring()
    code, said = await export()
    assert (code, "17 files written, 0 were there" in said) == (0, True), said
    store = tmp_path / "store"
    campaign = (await load_campaigns(postgres))["stars"]
    for key, picture in campaign.pictures.items():
        for ending, size in (
            ("", picture[1:3]), ("-large", picture[3:]),
        ):  # fmt: skip
            for kind in ("webp", "jpg"):
                with Image.open(store / "v1" / "photos" / f"{key}{ending}.{kind}") as image:
                    assert image.size == size
    [video] = campaign.videos
    assert (store / "v1" / "videos" / f"{video}.mp4").read_bytes() == LONG
    assert len([path for path in store.rglob("*") if path.is_file()]) == 17
    gone = next((store / "v1" / "photos").glob("*-large.webp"))
    gone.unlink()
    code, said = await export()
    assert (code, "1 files written, 16 were there" in said) == (0, True), said


async def test_an_export_says_which_videos_are_elsewhere(bring, export, tmp_path):
    await bring()
    [name] = kept(tmp_path)
    (tmp_path / "media" / "videos" / name).unlink()
    code, said = await export()
    assert (code, name in said) == (1, True)


async def test_an_export_without_a_database_says_so(export, monkeypatch, tmp_path):
    monkeypatch.setenv("DIANZAN_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")
    code, said = await export()
    assert (code, "the database" in said) == (2, True)


async def test_an_export_into_a_file_says_so(bring, export, tmp_path):
    await bring()
    (tmp_path / "file").touch()
    code, said = await export(tmp_path / "file" / "store")
    assert (code, "Not complete" in said) == (2, True)
