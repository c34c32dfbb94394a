"""What an import changes of a campaign that is there is written down, and shown once it is open."""

import json

import pytest

from tests.campaign_folders import MANIFEST, jpeg, people, write_folder
from voting.catalog import load_campaigns
from voting.intake.importer import import_folder

OPEN = MANIFEST.replace("2026-11-01", "2020-11-01")
NOT_OPEN = MANIFEST.replace("2026-11-01", "2098-11-01").replace("2027-07", "2099-07")


@pytest.fixture
def bring(tmp_path, postgres_dsn):
    async def run(rows, manifest=OPEN, photos=None):
        folder = write_folder(tmp_path / "f", rows, manifest=manifest, photos=photos)
        report = await import_folder(folder, postgres_dsn, accept_changes=True)
        assert report.imported, report.problems

    return run


async def changes(postgres, after=0):
    rows = await postgres.fetch(
        "SELECT kind, candidate, was::text, became::text, changed_by, in_public"
        " FROM campaign_changes WHERE number > $1 ORDER BY number",
        after,
    )
    return [
        (row["kind"], row["candidate"], json.loads(row["was"]), json.loads(row["became"]))
        for row in rows
    ]


async def test_a_first_import_is_one_entry_that_the_public_is_not_shown(bring, postgres):
    await bring(people(3))
    assert await changes(postgres) == [("imported", None, {}, {"candidates": 3})]
    row = await postgres.fetchrow("SELECT changed_by, in_public FROM campaign_changes")
    assert tuple(row) == ("import", False)
    assert (await load_campaigns(postgres))["stars"].changes == ()


async def test_the_same_again_is_no_change(bring, postgres):
    await bring(people(3))
    await bring(people(3))
    assert len(await changes(postgres)) == 1


async def test_each_rule_and_candidate_that_changes_has_its_entry(bring, postgres):
    await bring(people(3))
    rows = people(4)
    rows[0]["姓名"] = "改名"
    rows[1]["照片"] = "b.jpg"
    manifest = (
        OPEN.replace('counts = "live"', 'counts = "staff"')
        .replace("candidates_per_day = 10", "candidates_per_day = 20")
        .replace("2027-07-31", "2027-08-31")
        .replace('per_device = "30/minute"', 'per_device = "20/minute"')
        .replace("（测试）", "")
    )
    await bring([*rows[:2], rows[3]], manifest, {"b.jpg": jpeg(at_least_bytes=2_000_000)})
    photo = await postgres.fetchval("SELECT id FROM photos")
    found = await changes(postgres, 1)
    by_kind = {(kind, candidate): (was, became) for kind, candidate, was, became in found}
    name = people(1)[0]["姓名"]
    assert by_kind["imported", None][1] == {"title": "“最美科技工作者”网络点赞"}
    assert by_kind["window", None] == (
        {"closes_at": "2027-07-31T18:00:00+08:00"},
        {"closes_at": "2027-08-31T18:00:00+08:00"},
    )
    assert by_kind["quota", None] == ({"candidates_per_day": 10}, {"candidates_per_day": 20})
    assert by_kind["visibility", None] == ({"counts": "live"}, {"counts": "staff"})
    assert by_kind["limits", None] == ({"per_device": "30/minute"}, {"per_device": "20/minute"})
    assert by_kind["candidate-corrected", 1] == ({"name": name}, {"name": "改名"})
    assert by_kind["candidate-corrected", 2] == ({"photo": None}, {"photo": photo})
    assert by_kind["candidate-added", 4][1]["id"] == "c004"
    assert by_kind["candidate-withdrawn", 3] == ({}, {})
    assert len(by_kind) == len(found) == 9

    shown = (await load_campaigns(postgres))["stars"].changes
    assert [one.kind for one in shown] == [
        "window", "quota", "visibility", "limits", "candidate-corrected", "candidate-corrected",
        "candidate-added", "candidate-withdrawn",
    ]  # fmt: skip
    await bring(people(3), manifest)
    assert ("candidate-returned", 3, {}, {}) in await changes(postgres, 10)


async def test_before_the_opening_the_public_is_shown_nothing_of_it(bring, postgres):
    await bring(people(3), NOT_OPEN)
    await bring(people(4), NOT_OPEN.replace("candidates_per_day = 10", "candidates_per_day = 2"))
    assert [kind for kind, *_ in await changes(postgres, 1)] == ["quota", "candidate-added"]
    assert (await load_campaigns(postgres))["stars"].changes == ()


async def test_what_is_switched_off_stays_off_over_an_import(bring, postgres):
    await bring(people(3))
    await postgres.execute(
        "UPDATE campaigns SET origins_off = origins, is_test = true, paused_because = 'x'"
    )
    await bring(people(4))
    campaign = (await load_campaigns(postgres))["stars"]
    assert (campaign.origins, campaign.is_test, campaign.paused_because) == ((), True, "x")


async def test_portals_keys_and_the_rule_on_identity_are_changes_of_their_own(bring, postgres):
    from tests.assertions import PORTAL, Portal
    from voting.identity import fingerprint

    first, second = Portal(), Portal()

    def manifest(portal, identity="optional"):
        keys = f'identity = "{identity}"\n[portal.keys]\n"{PORTAL}" = "{portal.line}"\n'
        return OPEN.replace(f'origins = ["{PORTAL}"]\n', f'origins = ["{PORTAL}"]\n{keys}')

    await bring(people(3))
    await bring(people(3), manifest(first))
    await bring(people(3), manifest(second, "required"))
    await bring(people(3), manifest(second, "required"))
    assert dict((await load_campaigns(postgres))["stars"].portal_keys) == {PORTAL: second.public}
    await bring(people(3))
    shown = [fingerprint(portal.public) for portal in (first, second)]
    assert (await changes(postgres))[1:] == [
        ("portal-keys", None, {PORTAL: None}, {PORTAL: shown[0]}),
        ("identity", None, {"identity": "optional"}, {"identity": "required"}),
        ("portal-keys", None, {PORTAL: shown[0]}, {PORTAL: shown[1]}),
        ("identity", None, {"identity": "required"}, {"identity": "optional"}),
        ("portal-keys", None, {PORTAL: shown[1]}, {PORTAL: None}),
    ]
    public = (await load_campaigns(postgres))["stars"].changes
    assert [change.kind for change in public] == ["portal-keys", "identity"] * 2 + ["portal-keys"]
    assert public[1].fields == (("identity", "optional", "required"),)


async def test_a_portal_that_is_off_signs_nobody_in(bring, postgres):
    from tests.assertions import PORTAL, Portal

    keys = f'[portal.keys]\n"{PORTAL}" = "{Portal().line}"\n'
    await bring(people(3), OPEN.replace("[channels]", f"{keys}\n[channels]"))
    assert set((await load_campaigns(postgres))["stars"].portal_keys) == {PORTAL}
    await postgres.execute("UPDATE campaigns SET origins_off = origins")
    assert (await load_campaigns(postgres))["stars"].portal_keys == {}
