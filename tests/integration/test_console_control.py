"""The console's pages of a campaign's life, as people use them: form, what will happen, done."""

import io
import re
import zipfile
from datetime import UTC, datetime, timedelta
from html import unescape
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from tally import proposals
from tally.campaigns.campaign_changes import WHEN, Change, apply, read_campaign, read_changes
from tally.closing import is_closed
from tally.console import control_import
from tally.console.control import FORMS, _zoned
from tests.campaign_folders import HEADER, MANIFEST, csv_bytes, grid, jpeg, people
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.console import console  # noqa: F401  # a fixture
from tests.films import film
from voting.catalog import load_campaigns
from voting.changes import Kind

HOUR = timedelta(hours=1)
OPEN = MANIFEST.replace("2026-11-01", "2020-11-01")
NOT_OPEN = MANIFEST.replace("2026-11-01", "2098-11-01").replace("2027-07", "2099-07")


@pytest.fixture
async def spring(console, postgres):  # noqa: F811
    """An open campaign."""
    await add_campaign(postgres, "spring")
    return console


@pytest.fixture
async def later(console, postgres):  # noqa: F811
    """One that has not opened."""
    now = datetime.now(UTC)
    await add_campaign(postgres, "spring", opens_at=now + HOUR, closes_at=now + 48 * HOUR)
    return console


def hidden(text):
    """What a page's last form sends along."""
    form = text[text.rindex("<form", 0, text.rindex('name="step"')) :]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
    return {unescape(name): unescape(value) for name, value in found}


async def change(client, kind, fields=None, campaign="spring", where="", **more):
    """Through all three steps; the last answer, and the page before it."""
    path = f"/control/{campaign}/change/{kind}"
    form = await client.get(path + where)
    assert form.status == 200, await form.text()
    sent = hidden(await form.text()) | {"reason": "有原因", **(fields or {})}
    confirm = await client.post(path, sent)
    text = await confirm.text()
    if confirm.status != 200:
        return confirm, text
    return await client.post(path, hidden(text) | more), text


async def test_the_list_and_a_campaigns_page_show_where_it_stands(spring):
    async with spring.client_as("viewer") as client:
        listed = await (await client.get("/control")).text()
        assert "春天的活动" in listed
        assert "进行中" in listed
        assert "/imports" not in listed
        page = await (await client.get("/control/spring")).text()
        for shown in ("https://www.example.cn", "每天人数", "30/minute", "5 位候选人"):
            assert shown in page
        assert "/change/" not in page, "who looks on has no buttons"
    async with spring.client_as("admin") as client:
        page = await (await client.get("/control/spring")).text()
        assert "/control/spring/change/paused" in page
        assert "/control/spring/change/opened" not in page, "it is open"
        assert "/control/spring/change/resumed" not in page, "it is not paused"


async def test_pages_speak_english_too(spring):
    async with spring.client_as("admin", **{"Accept-Language": "en"}) as client:
        for path in ("/control", "/control/spring", "/control/spring/change/quota", "/imports"):
            page = await (await client.get(path)).text()
            assert 'lang="en"' in page
            words = re.sub(r"<[^>]+>", " ", page).replace("春天的活动", "").replace("中文", "")
            assert not re.search("[\u4e00-\u9fff]", re.sub("员工 |示例", "", words)), path


async def test_a_pause_is_asked_for_shown_and_done(spring, postgres):
    async with spring.client_as("admin") as client:
        done, confirm = await change(client, "paused", {"reason": "机房检修"})
        assert "2 秒内停止接受点赞" in confirm
        assert "规则页将显示" in confirm
        assert done.status == 303
        assert done.headers["Location"] == "/control/spring?said=change-made"
        page = await (await client.get(done.headers["Location"])).text()
        assert "机房检修" in page
        assert "/change/resumed" in page
    campaign = await read_campaign(postgres, "spring")
    assert campaign.paused_because == "机房检修"
    (entry,) = await read_changes(postgres, 1)
    assert entry.changed_by == client.staff.name
    row = await postgres.fetchrow("SELECT actor, role FROM audit_log WHERE action LIKE 'campaign%'")
    assert tuple(row) == (client.staff.name, "admin")


async def test_looking_at_what_will_happen_changes_nothing(spring, postgres):
    async with spring.client_as("admin") as client:
        form = hidden(await (await client.get("/control/spring/change/paused")).text())
        await client.post("/control/spring/change/paused", form | {"reason": "x"})
    assert await read_changes(postgres, 1) == []


async def test_a_change_that_takes_two_is_proposed_and_done_by_another_admin(spring, postgres):
    async with spring.client_as("admin") as client:
        fields = {"counts": "staff", "counts_daily_at": "18:00", "order": "random"}
        done, confirm = await change(client, "visibility", fields)
        assert "须两人" in confirm
        assert "实时公布" in confirm
        assert "仅工作人员可见" in confirm
        assert done.headers["Location"] == "/control/spring?said=change-proposed"
        page = await (await client.get("/control/spring")).text()
        assert "等待第二人同意" in page
    assert (await read_campaign(postgres, "spring")).rules.counts == "live"
    (proposal,) = await proposals.list_proposals(postgres, 1)
    other = await spring.add_staff("admin")
    shown = proposals.seen(await proposals.look_now(postgres, proposal))
    assert (
        await proposals.approve(postgres, proposal.number, by=client.staff.number, shown=shown)
    ).outcome is proposals.Outcome.OWN
    answer = await proposals.approve(postgres, proposal.number, by=other.number, shown=shown)
    assert answer.done, answer
    assert (await read_campaign(postgres, "spring")).rules.counts == "staff"
    (entry,) = await read_changes(postgres, 1)
    assert (entry.changed_by, entry.approved_by) == (client.staff.name, other.name)


async def test_what_is_wrong_is_said_at_its_field_and_what_was_entered_stays(spring):
    async with spring.client_as("admin") as client:
        quota = {"likes_per_candidate_per_day": "0", "candidates_per_day": "7"}
        answer, page = await change(client, "quota", quota | {"likes_per_campaign": "x"})
        assert answer.status == 422
        assert page.count("须为") == 2
        assert 'value="7"' in page
        answer, page = await change(client, "paused", {"reason": ""})
        assert (answer.status, "不能为空" in page) == (422, True)


async def test_a_form_of_before_somebody_elses_change_is_answered_with_that_change(
    spring, postgres
):
    async with spring.client_as("admin") as client:
        path = "/control/spring/change/paused"
        form = hidden(await (await client.get(path)).text()) | {"reason": "我的原因"}
        confirm = hidden(await (await client.post(path, form)).text())
        await apply(
            postgres, "spring", Change(Kind.CANDIDATE_WITHDRAWN, {}, "c002", "本人要求"),
            by="wang", role="admin", made_from=None,
        )  # fmt: skip
        for sent in (form, confirm):
            answer = await client.post(path, sent)
            page = await answer.text()
            assert answer.status == 409
            assert "候选人退出" in page
            assert "本人要求" in page
    assert (await read_campaign(postgres, "spring")).paused_because is None


async def test_what_cannot_be_done_now_is_not_done_by_whoever_knows_the_address(spring, postgres):
    async with spring.client_as("admin") as client:
        answer, page = await change(client, "opened")
        assert (answer.status, "活动进行中不能这样做" in page) == (422, True)
        for path in (
            "imported",
            "nonsense",
            "candidate-corrected",
            "candidate-corrected?candidate=x",
        ):
            assert (await client.get(f"/control/spring/change/{path}")).status == 404
        assert (await client.get("/control/winter/change/paused")).status == 404
        sent = {"step": "do", "reason": "x", "made_from": "-1"}
        assert (await client.post("/control/spring/change/paused", sent)).status == 422
    assert await read_changes(postgres, 1) == []


async def test_times_are_taken_in_the_campaigns_zone(later, postgres):
    zone = ZoneInfo("Asia/Shanghai")
    opens = (datetime.now(zone) + 3 * HOUR).replace(second=0, microsecond=0)
    async with later.client_as("admin") as client:
        done, _ = await change(
            client, "window",
            {
                "opens_at": opens.strftime("%Y-%m-%dT%H:%M"),
                "closes_at": (opens + 24 * HOUR).strftime("%Y-%m-%dT%H:%M"),
            },
        )  # fmt: skip
        assert done.status == 303
        assert (await read_campaign(postgres, "spring")).window.opens_at == opens
        answer, page = await change(
            client, "window", {"opens_at": "2090-01-02T00:00", "closes_at": "2090-01-01T00:00"}
        )
        assert (answer.status, "须晚于开始时间" in page) == (422, True)


@pytest.mark.parametrize(
    ("text", "zoned"),
    [
        ("2026-07-01T08:00", "2026-07-01T08:00:00+02:00"),
        ("2026-07-01T08:00+08:00", "2026-07-01T08:00+08:00"),
        ("2026-03-29T02:30", "2026-03-29T02:30"),  # the clocks go from 2 to 3
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_a_time_that_no_clock_shows_is_left_to_be_refused(text, zoned):
    assert _zoned(text, ZoneInfo("Europe/Berlin")) == zoned


async def test_closing_now_closes_the_journal_at_once(later, postgres, valkey):
    """Of a rehearsal, which takes one person."""
    async with later.client_as("admin") as client:
        for kind, fields in (("test", {"is_test": "yes"}), ("opened", {}), ("closed", {})):
            done, _ = await change(client, kind, fields)
            assert done.status == 303, kind
        assert await is_closed(valkey, 0, 1)
        until = (datetime.now(ZoneInfo("Asia/Shanghai")) + HOUR).strftime("%Y-%m-%dT%H:%M")
        done, confirm = await change(client, "reopened", {"closes_at": until})
        assert "曾经结束一事留在记录中" in confirm
        assert await is_closed(valkey, 0, 1) is None


async def test_candidates_are_added_corrected_withdrawn_and_come_back(spring, postgres):
    person = {
        "id": "c-new", "name": "<b>新人</b>", "organisation": "=1+1", "unit": "北京市",
        "channel": "省级", "title": "研究员", "summary": "一段\n两段",
    }  # fmt: skip
    async with spring.client_as("admin") as client:
        form = hidden(await (await client.get("/control/spring/change/candidate-added")).text())
        data = aiohttp.FormData({**form, "reason": "补报", **person})
        data.add_field("photo_file", jpeg((900, 1200)), filename="a.jpg", content_type="image/jpeg")
        confirm = await client.post("/control/spring/change/candidate-added", data)
        text = await confirm.text()
        assert confirm.status == 200, text
        assert "&lt;b&gt;新人&lt;/b&gt;" in text
        assert "<b>新人" not in text
        done = await client.post("/control/spring/change/candidate-added", hidden(text))
        assert done.headers["Location"] == "/control/spring/candidates/c-new?said=change-made"
        row = await postgres.fetchrow("SELECT * FROM candidates WHERE id = 'c-new'")
        assert (row["number"], row["name"], row["summary"]) == (6, "<b>新人</b>", "一段 两段")
        assert row["photo"]
        photo = await client.get(f"/photos/{row['photo']}")
        assert (photo.status, photo.content_type) == (200, "image/jpeg")

        where = "?candidate=c-new"
        done, _ = await change(client, "candidate-corrected", {"name": "新人"}, where=where)
        assert done.status == 303
        assert await postgres.fetchval("SELECT photo FROM candidates WHERE id = 'c-new'")
        done, _ = await change(client, "candidate-withdrawn", where=where)
        page = await (await client.get("/control/spring/candidates/c-new")).text()
        assert "已退出" in page
        assert page.count('id="change-') == 3
        done, _ = await change(client, "candidate-returned", where=where)
        assert done.status == 303
        listed = await (await client.get("/control/spring/candidates")).text()
        assert "新人" in listed
        history = await (await client.get("/control/spring/history?public=1")).text()
        assert history.count('id="change-') == 4


async def test_a_story_is_written_corrected_and_taken_away(spring, postgres):
    where = "?candidate=c001"
    story = "<script>alert(1)</script>\r\n\r\n　第二段\t续。\n"
    kept = "<script>alert(1)</script>\n第二段 续。"
    async with spring.client_as("admin") as client:
        done, confirm = await change(client, "candidate-corrected", {"story": story}, where=where)
        assert (done.status, "详细事迹" in confirm) == (303, True)
        assert "<script>alert" not in confirm
        assert await postgres.fetchval("SELECT story FROM candidates WHERE id = 'c001'") == kept
        page = await (await client.get("/control/spring/candidates/c001")).text()
        assert "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p><p>第二段 续。</p>" in page
        form = await (await client.get(f"/control/spring/change/candidate-corrected{where}")).text()
        assert unescape(form).count(kept) == 1
        preview = await (await client.get("/control/spring/preview")).text()
        assert "候选人页面: 详细事迹" in preview
        for wrong, why in (("长" * 5_001, "5000"), ("a\u202e", "U+202E")):
            answer, page = await change(
                client, "candidate-corrected", {"story": wrong}, where=where
            )
            assert (answer.status, why in page) == (422, True)
        done, _ = await change(client, "candidate-corrected", {"story": ""}, where=where)
        assert done.status == 303
        row = await postgres.fetchrow("SELECT story, more_photos FROM candidates WHERE id = 'c001'")
        assert tuple(row) == ("", [])
        history = await (await client.get("/control/spring/history")).text()
        assert "第二段 续。" in history
    [first, second] = await read_changes(postgres, 1)
    assert (first.became, second.became) == ({"story": ""}, {"story": kept})
    told = (await load_campaigns(postgres))["spring"].changes
    assert [[tuple(one) for one in change.fields] for change in told] == [
        [("story", None, None)], [("story", None, None)],
    ]  # fmt: skip


async def test_correcting_a_name_leaves_photos_story_and_video(spring, postgres):
    await postgres.execute("INSERT INTO videos VALUES ('abcdef0123456789', 'mp4', 9, 1)")
    await postgres.execute(
        "UPDATE candidates SET story = '一', more_photos = '{abcdef01}', video = 'abcdef0123456789'"
    )
    async with spring.client_as("admin") as client:
        where = "?candidate=c001"
        done, _ = await change(client, "candidate-corrected", {"name": "新名"}, where=where)
        assert done.status == 303
        row = await postgres.fetchrow(
            "SELECT name, story, more_photos, video FROM candidates WHERE id = 'c001'"
        )
        assert tuple(row) == ("新名", "一", ["abcdef01"], "abcdef0123456789")
        page = await (await client.get("/control/spring/candidates/c001")).text()
        assert 'src="/photos/abcdef01"' in page
    (entry,) = await read_changes(postgres, 1)
    assert entry.became == {"name": "新名"}


async def test_a_picture_that_is_none_is_said(spring, postgres):
    async with spring.client_as("admin") as client:
        path = "/control/spring/change/candidate-corrected"
        form = hidden(await (await client.get(f"{path}?candidate=c001")).text())
        for content in (b"", b"GIF89a", b"<svg onload=alert(1)>", jpeg()[:40]):
            data = aiohttp.FormData({**form, "reason": "换照片"})
            data.add_field("photo_file", content, filename="a.jpg", content_type="image/jpeg")
            answer = await client.post(path, data)
            assert (answer.status, "无法采用" in await answer.text()) == (422, True)
    assert await postgres.fetchval("SELECT count(*) FROM photos") == 0


async def test_a_portal_is_switched_off_and_on(spring, postgres):
    async with spring.client_as("admin") as client:
        where = "?origin=https%3A%2F%2Fwww.example.cn"
        done, confirm = await change(client, "portal-off", where=where)
        assert "https://www.example.cn" in confirm
        assert done.status == 303
        assert (await read_campaign(postgres, "spring")).origins_off == ("https://www.example.cn",)
        done, _ = await change(client, "portal-on", where=where)
        assert (await read_campaign(postgres, "spring")).origins_off == ()
        answer, page = await change(client, "portal-off", where="?origin=https%3A%2F%2Fevil.cn")
        assert (answer.status, "不是启用中的嵌入网站" in page) == (422, True)


async def test_cards_are_shown_as_the_public_gets_them_page_by_page(spring, postgres):
    await postgres.execute(
        "INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel,"
        " title, summary) SELECT 1, n, 'x' || n, n, 'x' || n, '所', '', '', '', '事迹'"
        " FROM generate_series(6, 60) AS n"
    )
    async with spring.client_as("viewer") as client:
        first = await (await client.get("/control/spring/preview")).text()
        assert first.count("<article") == 48
        last = await (await client.get("/control/spring/preview?page=99")).text()
        assert last.count("<article") == 12
        assert (await client.get("/photos/../etc/passwd")).status == 404
        assert (await client.get("/photos/%00")).status == 404


async def test_counts_are_on_no_page_of_control(spring, postgres):
    """They are on the live pages, for those who may see them."""
    await postgres.execute("INSERT INTO tallies VALUES (1, 1, 7654321, 0, 0)")
    async with spring.client_as("viewer") as client:
        for path in ("", "/candidates", "/candidates/c001", "/preview", "/history"):
            page = await (await client.get(f"/control/spring{path}")).text()
            assert "7654321" not in page.replace(",", "")


# Import.


def folder(rows=None, manifest=NOT_OPEN, photos=None, above=""):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{above}campaign.toml", manifest)
        cells = grid(people(3) if rows is None else rows)
        archive.writestr(f"{above}candidates.csv", csv_bytes(cells))
        for name, content in (photos or {}).items():
            archive.writestr(f"{above}photos/{name}", content)
    return packed.getvalue()


async def upload(client, *files):
    """The page of the job when it is checked, and its path."""
    data = aiohttp.FormData()
    for name, content in files:
        data.add_field("files", io.BytesIO(content), filename=name)
    answer = await client.post("/imports", data)
    assert answer.status == 303, await answer.text()
    path = answer.headers["Location"]

    async def checked():
        page = await (await client.get(path)).text()
        return "正在检查" not in page and page

    return path, await wait_until_async(checked, what="the check")


async def test_a_campaign_is_uploaded_checked_and_imported(console, postgres):  # noqa: F811
    rows = people(3)
    rows[0]["照片"] = "张.jpg"
    photos = {"张.jpg": jpeg(at_least_bytes=2_000_000)}
    async with console.client_as("admin") as client:
        path, page = await upload(client, ("stars.zip", folder(rows, photos=photos, above="x/")))
        assert "没有问题" in page
        assert "新的活动" in page
        assert await postgres.fetchval("SELECT count(*) FROM campaigns") == 0
        done = await client.post(path, {"step": "import", "reason": "首次导入"})
        assert done.headers["Location"] == "/control/stars?said=imported"
        assert await postgres.fetchval("SELECT count(*) FROM candidates") == 3
        assert await postgres.fetchval("SELECT count(*) FROM photos") == 1
        (entry,) = await read_changes(postgres, 1)
        assert (entry.kind, entry.reason) == (Kind.IMPORTED, "首次导入")
        assert entry.changed_by == client.staff.name
        action = await postgres.fetchval(
            "SELECT action FROM audit_log ORDER BY number DESC LIMIT 1"
        )
        assert action == "campaign.imported"
        assert (await client.get(path)).status == 404, "the upload is gone"


def folder_with_all(manifest=NOT_OPEN):
    """Stories, further photos, a cover and a video."""
    rows = people(3)
    rows[0] |= {"照片": "a.jpg、b.jpg", "详细事迹": "一\n二", "视频": "片.mp4"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        page = '[page]\nlead = "为创造者点赞"\ncover = "cover.jpg"\n'
        archive.writestr("campaign.toml", manifest + page)
        header = (*HEADER, "详细事迹", "视频")
        archive.writestr("candidates.csv", csv_bytes(grid(rows, header)))
        archive.writestr("photos/a.jpg", jpeg((900, 1200), at_least_bytes=2_000_000))
        archive.writestr("photos/b.jpg", jpeg((800, 500), at_least_bytes=2_000_000))
        archive.writestr("videos/片.mp4", film())
        archive.writestr("cover.jpg", jpeg((1600, 900)))
    return packed.getvalue()


async def test_stories_photos_cover_and_videos_come_along(console, postgres):  # noqa: F811
    media = console.settings.media_path / "videos"
    async with console.client_as("admin") as client:
        path, page = await upload(client, ("stars.zip", folder_with_all()))
        assert "没有问题" in page
        assert "1 张照片 · 另有 1 张照片 · 1 篇详细事迹 · 1 个视频 · 封面" in page
        assert not media.exists(), "only checked so far"
        assert "候选人页面: 详细事迹 · 另有 1 张照片 · 视频" in page
        [card] = re.findall(rf'src="({path}/photos/[0-9a-f]+)"', page)
        picture = await client.get(card)
        assert (picture.status, picture.content_type) == (200, "image/jpeg")
        for wrong in (card[:-1], f"{path}/photos/..%2f..%2fcampaign.toml"):
            assert (await client.get(wrong)).status == 404
        done = await client.post(path, {"step": "import", "reason": "首次导入"})
        assert done.headers["Location"] == "/control/stars?said=imported"
        assert (await client.get(card)).status == 404, "the upload is gone"
        path, page = await upload(client, ("stars.zip", folder_with_all()))
        [card] = re.findall(rf'src="({path}/photos/[0-9a-f]+)"', page)
        assert (await client.get(card)).status == 200, "a picture that was there already"
    campaign = (await load_campaigns(postgres))["stars"]
    first = campaign.by_id["c001"]
    assert (first.story, len(first.more_photos)) == ("一\n二", 1)
    assert (media / f"{first.video}.mp4").read_bytes() == film()
    assert campaign.pictures[campaign.page.cover].large_width == 1200
    assert campaign.page.lead == "为创造者点赞"


async def test_a_proposed_import_brings_all_of_it_when_a_second_person_agrees(
    console,  # noqa: F811
    postgres,
):
    async with console.client_as("admin") as client:
        path, _ = await upload(client, ("stars.zip", folder(manifest=OPEN)))
        await client.post(path, {"step": "import", "reason": "首次导入"})
        path, _ = await upload(client, ("stars.zip", folder_with_all(OPEN)))
        done = await client.post(path, {"step": "import", "reason": "补充资料"})
        assert done.headers["Location"] == "/control/stars?said=change-proposed"
    (proposal,) = await proposals.list_proposals(postgres, 1)
    told = await proposals.look_now(postgres, proposal)
    assert told["lead"] == " → 为创造者点赞"
    assert told["candidate c001"].endswith("(photo, story, more_photos, video)")
    other = await console.add_staff("admin")
    shown = proposals.seen(told)
    answer = await proposals.approve(postgres, proposal.number, by=other.number, shown=shown)
    assert answer.done, answer
    campaign = (await load_campaigns(postgres))["stars"]
    first = campaign.by_id["c001"]
    assert (first.story, len(first.more_photos)) == ("一\n二", 1)
    assert campaign.page.cover in campaign.pictures
    assert (console.settings.media_path / "videos" / f"{first.video}.mp4").is_file()


async def test_videos_that_cannot_be_kept_are_said_and_nothing_is_imported(
    console,  # noqa: F811
    postgres,
):
    console.settings.media_path.write_bytes(b"a file where the folder should be")
    async with console.client_as("admin") as client:
        path, _ = await upload(client, ("stars.zip", folder_with_all()))
        done = await client.post(path, {"step": "import", "reason": "首次导入"})
        assert (done.status, "视频未能复制到数据文件夹" in await done.text()) == (422, True)
    assert await postgres.fetchval("SELECT count(*) FROM campaigns") == 0


async def test_files_may_come_one_by_one(console, postgres):  # noqa: F811
    async with console.client_as("admin") as client:
        path, page = await upload(
            client,
            ("campaign.toml", NOT_OPEN.encode()),
            ("candidates.csv", csv_bytes(grid(people(3)))),
        )
        assert "没有问题" in page
        await client.post(path, {"step": "import", "reason": "首次导入"})
    assert await postgres.fetchval("SELECT count(*) FROM candidates") == 3


async def test_all_problems_are_listed_with_their_places_and_nothing_is_imported(
    console,  # noqa: F811
    postgres,
):
    rows = people(3)
    rows[0]["姓名"] = ""
    rows[1]["推荐渠道"] = "<script>alert(1)</script>"
    rows[2]["照片"] = "missing.jpg"
    manifest = NOT_OPEN.replace("candidates_per_day = 10", "candidates_per_day = -1")
    async with console.client_as("admin") as client:
        content = folder(rows, manifest, {"../evil.jpg": b"x"})
        path, page = await upload(client, ("stars.zip", content))
        for shown in (
            "campaign.toml",
            "candidates.csv",
            "姓名",
            "推荐渠道",
            "missing.jpg",
            "evil.jpg",
        ):
            assert shown in page
        assert "<script>alert" not in page
        assert "是空的" in page
        assert "须不小于 0" in page
        assert "有错误时不能导入" in page
        assert 'value="import"' not in page
        answer = await client.post(path, {"step": "import", "reason": "硬来", "accept": "yes"})
        assert answer.status == 422
    assert await postgres.fetchval("SELECT count(*) FROM campaigns") == 0


async def test_over_an_open_campaign_an_import_is_proposed_with_what_it_changes(
    console,  # noqa: F811
    postgres,
):
    async with console.client_as("admin") as client:
        path, _ = await upload(client, ("stars.zip", folder(manifest=OPEN)))
        await client.post(path, {"step": "import", "reason": "首次导入"})
        rows = people(5)
        rows[0]["姓名"] = "改名"
        rows[4]["照片"] = "b.jpg"
        photos = {"b.jpg": jpeg(at_least_bytes=2_000_000)}
        content = folder([rows[0], *rows[2:]], OPEN, photos)
        path, page = await upload(client, ("again.zip", content))
        assert "另一位管理员同意后才导入" in page
        assert "候选人退出 × 1" in page
        assert "增加候选人 × 2" in page
        refused = await client.post(path, {"step": "import", "reason": "更新名单"})
        assert refused.status == 422, "the doubtful changes must be meant"
        done = await client.post(path, {"step": "import", "reason": "更新名单", "accept": "yes"})
        assert done.headers["Location"] == "/control/stars?said=change-proposed"
    assert await postgres.fetchval("SELECT count(*) FROM candidates") == 3
    (proposal,) = await proposals.list_proposals(postgres, 1)
    said = proposals.KINDS["import"].describe(proposal.content, lambda text: text)
    assert said.startswith("stars: Import · ")
    assert "Candidate withdrawn × 1" in said
    told = await proposals.look_now(postgres, proposal)
    assert told["candidate c001"] == f"candidate-corrected: {people(1)[0]['姓名']} → 改名 (name)"
    assert told["candidate c002"].startswith("candidate-withdrawn: ")
    other = await console.add_staff("admin")
    async with console.client_as(other) as client_of_other:
        page = unescape(await (await client_of_other.get("/proposals/1")).text())
    for said in (
        f'c001</dt><dd class="wrap">更正候选人资料: {people(1)[0]["姓名"]} → 改名 (姓名)</dd>',
        f'c002</dt><dd class="wrap">候选人退出: {people(2)[1]["姓名"]}</dd>',
        f'c005</dt><dd class="wrap">增加候选人: {people(5)[4]["姓名"]}</dd>',
    ):
        assert said in page
    shown = proposals.seen(await proposals.look_now(postgres, proposal))
    answer = await proposals.approve(postgres, proposal.number, by=other.number, shown=shown)
    assert answer.done, answer
    assert await postgres.fetchval("SELECT count(*) FROM candidates") == 5
    entries = await read_changes(postgres, 1, after=1)
    assert {entry.kind for entry in entries} == {
        Kind.CANDIDATE_ADDED, Kind.CANDIDATE_CORRECTED, Kind.CANDIDATE_WITHDRAWN,
    }  # fmt: skip
    assert {(entry.changed_by, entry.approved_by, entry.in_public) for entry in entries} == {
        (client.staff.name, other.name, True)
    }
    photo = await postgres.fetchval("SELECT photo FROM candidates WHERE id = 'c005'")
    assert photo == await postgres.fetchval("SELECT id FROM photos")


async def test_rules_that_an_import_changes_are_shown_to_whoever_is_to_agree(
    console,  # noqa: F811
    postgres,
):
    async with console.client_as("admin") as client, console.client_as("admin") as other:
        path, _ = await upload(client, ("stars.zip", folder(manifest=OPEN)))
        await client.post(path, {"step": "import", "reason": "首次导入"})
        manifest = OPEN.replace(
            "likes_per_candidate_per_day = 1", "likes_per_candidate_per_day = 9"
        )
        assert manifest != OPEN
        path, _ = await upload(client, ("again.zip", folder(manifest=manifest)))
        done = await client.post(path, {"step": "import", "reason": "更新名单"})
        assert done.headers["Location"] == "/control/stars?said=change-proposed"
        for page in ("/proposals", "/proposals/1"):
            text = await (await other.get(page)).text()
            assert "每位候选人每天次数: 1 → 9" in unescape(text), page
        assert '每位候选人每天次数</dt><dd class="wrap">1 → 9</dd>' in unescape(text)


async def test_an_import_that_was_compared_with_another_state_is_not_agreed_to(
    console,  # noqa: F811
    postgres,
):
    async with console.client_as("admin") as client:
        path, _ = await upload(client, ("stars.zip", folder(manifest=OPEN)))
        await client.post(path, {"step": "import", "reason": "首次导入"})
        path, _ = await upload(client, ("again.zip", folder(people(4), OPEN)))
        await client.post(path, {"step": "import", "reason": "更新名单"})
    (proposal,) = await proposals.list_proposals(postgres, 1)
    shown = proposals.seen(await proposals.look_now(postgres, proposal))
    await apply(
        postgres, "stars", Change(Kind.PAUSED, reason="x"), by="li", role="admin", made_from=None
    )
    other = await console.add_staff("admin")
    answer = await proposals.approve(postgres, proposal.number, by=other.number, shown=shown)
    assert (answer.outcome, "changed since" in answer.said) == (
        proposals.Outcome.IMPOSSIBLE, True,
    )  # fmt: skip
    async with console.client_as(other) as client:
        page = await (await client.get("/proposals/1")).text()
        assert "活动在此之后已被更改，请重新导入" in page
    assert await postgres.fetchval("SELECT count(*) FROM candidates") == 3


async def test_uploads_are_bounded_in_number_and_can_be_discarded(
    console,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(control_import, "JOBS_MAX", 2)
    async with console.client_as("admin") as client:
        first, _ = await upload(client, ("a.zip", folder()))
        await upload(client, ("b.zip", b"no zip"))
        jobs = console.app.state.import_jobs
        kept = jobs.find(first.rpartition("/")[2]).folder
        data = aiohttp.FormData()
        data.add_field("files", folder(), filename="c.zip")
        assert (await client.post("/imports", data)).status == 429
        assert (await client.post(first, {"step": "discard"})).status == 303
        assert not kept.exists()
        await upload(client, ("c.zip", folder()))
        assert (await client.get("/imports/nonsense")).status == 404
        assert (await client.post("/imports", {"files": "text"})).status == 422


async def test_an_upload_without_room_on_the_disk_is_said_before_it_is_read(
    console,  # noqa: F811
    monkeypatch,
):
    full = control_import.shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr(control_import.shutil, "disk_usage", lambda _: full)
    async with console.client_as("admin") as client:
        data = aiohttp.FormData()
        data.add_field("files", folder(), filename="a.zip")
        answer = await client.post("/imports", data)
        assert (answer.status, "磁盘空间不足" in await answer.text()) == (507, True)


async def test_what_is_too_large_is_refused_while_it_comes(spring):
    async with spring.client_as("admin") as client:
        data = aiohttp.FormData({"reason": "x", "made_from": "0"})
        data.add_field("photo_file", io.BytesIO(bytes(52_000_000)), filename="a.jpg")
        try:
            answer = await client.post("/control/spring/change/candidate-added", data)
        except aiohttp.ClientError:
            return  # it hung up, which says the same
        assert answer.status == 413


def test_every_change_that_there_is_has_its_form():
    assert set(FORMS) == set(WHEN)
