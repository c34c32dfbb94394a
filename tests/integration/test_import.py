"""The import on a real database: from a folder to what the edge loads."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.campaign_folders import MANIFEST, grid, jpeg, people, places, write_folder, write_xlsx
from voting.campaign import Limits, Rules
from voting.catalog import (
    PhotoForm,
    catalog_version,
    limits_from_json,
    limits_to_json,
    load_campaigns,
    load_photo,
    rules_from_json,
    rules_to_json,
)
from voting.intake import demo, save
from voting.intake.commands import campaign as campaign_commands
from voting.intake.demo import import_demo
from voting.intake.importer import CannotImport, import_folder

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "campaign-sample"

OPEN = MANIFEST.replace("2026-11-01", "2020-11-01")
NOT_OPEN = MANIFEST.replace("2026-11-01", "2098-11-01").replace("2027-07", "2099-07")


@pytest.fixture
def bring(tmp_path, postgres_dsn):
    """Import rows; keyword arguments as for write_folder and import_folder."""

    async def run(rows=None, *, manifest=OPEN, photos=None, form="csv", **options):
        folder = write_folder(tmp_path / "f", rows, manifest=manifest, photos=photos, form=form)
        return await import_folder(folder, postgres_dsn, **options)

    return run


async def everything(postgres):
    """All that an import may write, but the time of the import and the version."""
    return (
        await postgres.fetch(
            "SELECT number, id, title, time_zone, opens_at, closes_at, rules, limits, origins,"
            " channels, paused_because FROM campaigns ORDER BY number"
        ),
        await postgres.fetch("SELECT * FROM candidates ORDER BY campaign, number"),
        await postgres.fetch("SELECT * FROM photos ORDER BY id"),
    )


async def numbers(postgres):
    return {row["id"]: row["number"] for row in await postgres.fetch("SELECT * FROM candidates")}


async def test_what_was_imported_is_what_the_edge_loads(bring, postgres):
    rows = people(3)
    rows[1]["照片"] = "b.jpg"
    photo = jpeg((1350, 1700), at_least_bytes=2_000_000)
    report = await bring(rows, photos={"b.jpg": photo})
    assert (report.imported, report.candidates, report.problems) == (True, 3, ())

    campaign = (await load_campaigns(postgres))["stars"]
    assert (campaign.number, campaign.title) == (1, "“最美科技工作者”网络点赞（测试）")
    assert campaign.window.opens_at == datetime(2020, 11, 1, tzinfo=UTC)
    assert campaign.window.opens_at.utcoffset() == timedelta(hours=8)
    assert campaign.rules == Rules(candidates_per_day=10)
    assert campaign.limits == Limits()
    assert campaign.origins == ("https://www.example.cn",)
    assert [(c.number, c.id) for c in campaign.candidates] == [
        (1, "c001"),
        (2, "c002"),
        (3, "c003"),
    ]
    candidate = campaign.by_id["c002"]
    assert (candidate.name, candidate.organisation) == (rows[1]["姓名"], rows[1]["工作单位"])
    assert (candidate.unit, candidate.channel) == (rows[1]["推荐单位"], rows[1]["推荐渠道"])
    assert (candidate.title, candidate.summary) == (rows[1]["职务职称"], rows[1]["主要事迹"])
    assert not candidate.withdrawn

    picture = campaign.pictures[candidate.photo]
    for form in PhotoForm:
        content = await load_photo(postgres, candidate.photo, form)
        size = picture[3:] if form.value.startswith("large") else picture[1:3]
        assert Image.open(io.BytesIO(content)).size == size
    assert await load_photo(postgres, "0" * 24, PhotoForm.JPEG) is None


async def test_rules_and_limits_survive_the_database(bring, postgres):
    manifest = (
        OPEN.replace('"random"', '"listed"')
        .replace('"live"', '"daily"')
        .replace('18:00"', '07:05"')
        .replace("likes_per_campaign = 0", "likes_per_campaign = 99")
        .replace("30/minute", "7/second")
    )
    await bring(manifest=manifest)
    campaign = (await load_campaigns(postgres))["stars"]
    assert rules_from_json(rules_to_json(campaign.rules)) == campaign.rules
    assert limits_from_json(limits_to_json(campaign.limits)) == campaign.limits
    row = await postgres.fetchrow("SELECT rules, limits, channels FROM campaigns")
    assert json.loads(row["rules"]) == {
        "likes_per_candidate_per_day": 1,
        "candidates_per_day": 10,
        "likes_per_campaign": 99,
        "order": "listed",
        "counts": "daily",
        "counts_daily_at": "07:05",
        "identity": "optional",
    }
    assert json.loads(row["limits"]) == {"per_device": "7/second", "per_network": "1200/minute"}
    assert json.loads(row["channels"]) == {"省级": 10, "学会": 2, "企业": 2}


async def test_744_candidates_come_in_whole_and_in_order(bring, postgres):
    report = await bring(people(), form="xlsx")
    assert (report.imported, report.candidates, report.problems) == (True, 744, ())
    campaign = (await load_campaigns(postgres))["stars"]
    assert [c.id for c in campaign.candidates] == [f"c{n:03}" for n in range(1, 745)]
    assert [c.number for c in campaign.candidates] == list(range(1, 745))


async def test_the_offices_own_sample_is_imported(postgres, postgres_dsn):
    if not SAMPLE.is_dir():
        pytest.skip(f"there is no sample at {SAMPLE}")
    report = await import_folder(SAMPLE, postgres_dsn)
    assert (report.imported, report.candidates, report.problems) == (True, 744, ())
    campaign = (await load_campaigns(postgres))["zmkj-sample"]
    assert len(campaign.candidates) == 744
    assert [c.id for c in campaign.candidates if c.photo] == ["c001", "c002", "c003"]


async def test_importing_twice_leaves_the_same_rows(bring, postgres):
    rows = people(3)
    rows[0]["照片"] = "a.jpg"
    photos = {"a.jpg": jpeg(at_least_bytes=2_000_000)}
    await bring(rows, photos=photos)
    before, version = await everything(postgres), await catalog_version(postgres)
    report = await bring(rows, photos=photos)
    assert report.imported
    assert await everything(postgres) == before
    assert await catalog_version(postgres) == version + 1


async def test_importing_again_updates_and_keeps_numbers(bring, postgres):
    rows = people(3)
    await bring(rows)
    given = await numbers(postgres)
    rows[2]["主要事迹"] = "另有新的事迹。"
    rows.reverse()
    rows.append(people(4)[3])
    report = await bring(
        rows, manifest=OPEN.replace("candidates_per_day = 10", "candidates_per_day = 5")
    )
    assert (report.imported, report.problems) == (True, ())
    campaign = (await load_campaigns(postgres))["stars"]
    assert campaign.rules.candidates_per_day == 5
    assert [c.id for c in campaign.candidates] == ["c003", "c002", "c001", "c004"]
    assert campaign.by_id["c003"].summary == "另有新的事迹。"
    assert await numbers(postgres) == given | {"c004": 4}


async def test_a_pause_is_not_ended_by_an_import(bring, postgres):
    await bring()
    await postgres.execute("UPDATE campaigns SET paused_because = '核查'")
    await bring()
    assert (await load_campaigns(postgres))["stars"].paused_because == "核查"


async def test_each_campaign_has_a_number_of_its_own(bring, postgres):
    await bring()
    await bring(manifest=OPEN.replace('"stars"', '"moons"'))
    await bring()
    campaigns = await load_campaigns(postgres)
    assert {key: value.number for key, value in campaigns.items()} == {"stars": 1, "moons": 2}
    assert all(len(value.candidates) == 3 for value in campaigns.values())


# Nothing by halves.


async def test_one_error_keeps_everything_out(bring, postgres):
    rows = people(3)
    rows[0]["照片"] = "a.jpg"
    rows[2]["姓名"] = ""
    report = await bring(rows, photos={"a.jpg": jpeg(at_least_bytes=2_000_000)})
    assert not report.imported
    assert places(report.problems) == [("candidates.csv", 5, "姓名")]
    assert await everything(postgres) == ([], [], [])
    assert await catalog_version(postgres) == 0


async def test_a_check_writes_nothing(bring, postgres):
    report = await bring(check=True)
    assert (report.ok, report.imported, report.not_compared_because) == (True, False, None)
    assert await everything(postgres) == ([], [], [])
    assert await catalog_version(postgres) == 0


async def test_an_import_that_dies_half_way_leaves_nothing(bring, postgres, monkeypatch):
    await bring()
    before = await everything(postgres), await catalog_version(postgres)

    async def die(*_):
        raise OSError("the machine is gone")

    monkeypatch.setattr(save, "_write_candidates", die)
    with pytest.raises(CannotImport, match="the machine is gone"):
        await bring(people(5), manifest=OPEN.replace("“最美", "最美"))
    assert (await everything(postgres), await catalog_version(postgres)) == before


async def test_two_imports_at_once_give_no_number_twice(bring, postgres, tmp_path, postgres_dsn):
    folders = [
        write_folder(tmp_path / name, people(50), manifest=OPEN.replace("stars", name))
        for name in ("a", "b", "c")
    ]
    reports = await asyncio.gather(
        *(import_folder(folder, postgres_dsn) for folder in (*folders, *folders))
    )
    assert all(report.imported for report in reports)
    campaigns = await load_campaigns(postgres)
    assert sorted(campaign.number for campaign in campaigns.values()) == [1, 2, 3]
    assert await catalog_version(postgres) == 6


async def test_a_known_photo_is_not_written_again(bring, postgres):
    rows = people(2)
    rows[0]["照片"] = "a.jpg"
    photos = {"a.jpg": jpeg(at_least_bytes=2_000_000)}
    await bring(rows, photos=photos)
    await postgres.execute("UPDATE photos SET webp = 'kept'")
    rows[1]["照片"] = "a.jpg"
    await bring(rows, photos=photos)
    assert await postgres.fetchval("SELECT webp FROM photos") == b"kept"
    assert await postgres.fetchval("SELECT count(DISTINCT photo) FROM candidates") == 1


async def test_numbers_that_run_out_are_an_error(bring, postgres):
    await bring()
    await postgres.execute("UPDATE candidates SET number = 65535 WHERE id = 'c003'")
    report = await bring(people(4))
    assert not report.imported
    assert "65535 candidate numbers" in report.problems[0].message


# A changed list under votes.


async def test_a_renumbered_list_is_refused_once_the_campaign_has_opened(bring, postgres):
    rows = people(5)
    await bring(rows)
    before = await everything(postgres)
    renumbered = [person | {"序号": n} for n, person in enumerate(rows[1:], 1)]
    report = await bring(renumbered)
    assert not report.imported
    assert places(report.problems, "error") == [
        *(("candidates.csv", row, "序号") for row in range(3, 7)),
        ("candidates.csv", None, "序号"),
    ]
    first, gone = report.problems[0], report.problems[-1]
    for word in ("c001", rows[0]["姓名"], rows[1]["姓名"], "votes", "--accept-changes"):
        assert word in first.message
    for word in ("c005", "will be withdrawn", "--accept-changes"):
        assert word in gone.message
    assert await everything(postgres) == before


async def test_a_renumbered_list_is_refused_by_a_check_too(bring):
    rows = people(3)
    await bring(rows)
    rows[0]["姓名"], rows[1]["姓名"] = rows[1]["姓名"], rows[0]["姓名"]
    report = await bring(rows, check=True)
    assert not report.ok
    assert places(report.problems) == [("candidates.csv", 3, "序号"), ("candidates.csv", 4, "序号")]


async def test_a_corrected_name_is_taken_when_staff_say_so(bring, postgres):
    rows = people(3)
    await bring(rows)
    rows[0]["姓名"] = "甄正名"
    assert not (await bring(rows)).imported
    report = await bring(rows, accept_changes=True)
    assert report.imported
    assert places(report.problems, "warning") == [("candidates.csv", 3, "序号")]
    assert (await load_campaigns(postgres))["stars"].by_id["c001"].name == "甄正名"


async def test_before_the_opening_a_changed_name_is_a_warning(bring, postgres):
    rows = people(3)
    await bring(rows, manifest=NOT_OPEN)
    rows[0]["姓名"] = "甄正名"
    report = await bring(rows, manifest=NOT_OPEN)
    assert report.imported
    assert places(report.problems, "warning") == [("candidates.csv", 3, "序号")]
    assert (await load_campaigns(postgres))["stars"].by_id["c001"].name == "甄正名"


async def test_whether_it_has_opened_is_not_for_the_new_manifest_to_say(bring):
    rows = people(3)
    await bring(rows)
    rows[0]["姓名"] = "甄正名"
    assert not (await bring(rows, manifest=NOT_OPEN)).imported


async def test_who_is_missing_is_withdrawn_only_when_staff_say_so(bring, postgres):
    rows = people(3)
    await bring(rows, manifest=NOT_OPEN)
    given = await numbers(postgres)
    refused = await bring(rows[:2], manifest=NOT_OPEN)
    assert not refused.imported
    assert places(refused.problems, "error") == [("candidates.csv", None, "序号")]
    assert rows[2]["姓名"] in refused.problems[0].message
    report = await bring(rows[:2], manifest=NOT_OPEN, accept_changes=True)
    assert report.imported
    assert places(report.problems, "warning") == [("candidates.csv", None, "序号")]
    campaign = (await load_campaigns(postgres))["stars"]
    assert [c.withdrawn for c in campaign.candidates] == [False, False, True]
    assert await numbers(postgres) == given

    again = await bring(rows[:2], manifest=NOT_OPEN)
    assert (again.imported, again.problems) == (True, ())


async def test_the_time_of_a_withdrawal_stays_the_first(bring, postgres):
    await bring(people(3))
    await bring(people(2), accept_changes=True)
    withdrawn_at = await postgres.fetchval("SELECT max(withdrawn_at) FROM candidates")
    await bring(people(2), accept_changes=True)
    assert await postgres.fetchval("SELECT max(withdrawn_at) FROM candidates") == withdrawn_at


async def test_who_comes_back_comes_back_with_the_same_number(bring, postgres):
    rows = people(4)
    await bring(rows[:3])
    await bring(rows[:2], accept_changes=True)
    # In between somebody new came: not with the number of who left.
    await bring([*rows[:2], rows[3]])
    assert (await numbers(postgres))["c004"] == 4
    refused = await bring(rows)
    assert places(refused.problems, "error") == [("candidates.csv", 5, "序号")]
    assert "was withdrawn on" in refused.problems[0].message
    report = await bring(rows, accept_changes=True)
    assert report.imported
    campaign = (await load_campaigns(postgres))["stars"]
    assert not any(c.withdrawn for c in campaign.candidates)
    assert await numbers(postgres) == {"c001": 1, "c002": 2, "c003": 3, "c004": 4}


async def test_another_time_zone_is_refused_once_the_campaign_has_opened(bring, postgres):
    await bring()
    moved = OPEN.replace("Asia/Shanghai", "Asia/Tokyo")
    refused = await bring(manifest=moved)
    assert places(refused.problems, "error") == [("campaign.toml", None, "campaign.time_zone")]
    assert (await bring(manifest=moved, accept_changes=True)).imported
    assert (await load_campaigns(postgres))["stars"].window.zone.key == "Asia/Tokyo"


async def test_changes_are_named_beside_the_folders_own_errors(bring):
    rows = people(4)
    await bring(rows)
    changed = [person.copy() for person in rows[:3]]
    changed[0]["姓名"] = "甄正名"
    changed[1]["职务职称"] = ""
    report = await bring(changed)
    assert set(places(report.problems, "error")) == {
        ("candidates.csv", 4, "职务职称"),
        ("candidates.csv", 3, "序号"),
        ("candidates.csv", None, "序号"),
    }


async def test_nobody_is_called_missing_while_an_id_cannot_be_read(bring):
    rows = people(3)
    await bring(rows)
    rows[2]["序号"] = "三"
    report = await bring(rows)
    assert places(report.problems) == [("candidates.csv", 5, "序号")]


# The command, and the demo.


async def test_the_command_says_that_it_has_imported(tmp_path, postgres_dsn, postgres, monkeypatch):
    monkeypatch.setenv("DIANZAN_POSTGRES_DSN", postgres_dsn)
    folder = write_folder(tmp_path / "f")
    (folder / "candidates.csv").unlink()
    write_xlsx(folder, grid(people(3)))

    def run(*options):
        return CliRunner().invoke(campaign_commands, ["import", str(folder), *options])

    done = await asyncio.to_thread(run)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "3 candidates, 0 errors, 0 warnings: imported.\n"
    done = await asyncio.to_thread(run, "--json")
    assert json.loads(done.stdout) == {"ok": True, "candidates": 3, "problems": []}
    write_xlsx(folder, grid(people(2)))
    done = await asyncio.to_thread(run, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["ok"] is False
    done = await asyncio.to_thread(run, "--json", "--accept-changes")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["candidates"] == 2
    assert (await load_campaigns(postgres))["stars"].by_id["c003"].withdrawn


async def test_a_database_without_tables_is_said_to_need_them(tmp_path, postgres_dsn):
    dsn = postgres_dsn.replace("@/test", "@/postgres")
    with pytest.raises(CannotImport, match="dianzan migrate"):
        await import_folder(write_folder(tmp_path / "f"), dsn)
    report = await import_folder(tmp_path / "f", dsn, check=True)
    assert "dianzan migrate" in report.not_compared_because


async def test_the_demo_comes_into_an_empty_database_once(postgres_dsn, postgres):
    await import_demo(postgres_dsn)
    campaigns = await load_campaigns(postgres)
    assert list(campaigns) == ["demo"]
    assert all(candidate.photo for candidate in campaigns["demo"].candidates)
    before, version = await everything(postgres), await catalog_version(postgres)
    await import_demo(postgres_dsn)
    assert (await everything(postgres), await catalog_version(postgres)) == (before, version)


async def test_the_demo_leaves_a_database_with_another_campaign_alone(
    bring, postgres_dsn, postgres
):
    await bring()
    await import_demo(postgres_dsn)
    assert list(await load_campaigns(postgres)) == ["stars"]


async def test_a_damaged_demo_is_said(postgres_dsn, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    with pytest.raises(CannotImport, match=r"campaign\.toml"):
        await import_demo(postgres_dsn)


async def test_the_catalog_is_one_moments_state(postgres):
    async with postgres.transaction():
        with pytest.raises(asyncpg.InterfaceError):
            await load_campaigns(postgres)
