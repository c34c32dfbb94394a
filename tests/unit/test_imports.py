"""What waits for a second person is what was checked."""

import json
from dataclasses import replace

from tally.campaigns.imports import KIND, from_json, summary_of, to_json
from tests.assertions import PORTAL, Portal
from tests.campaign_folders import (
    HEADER,
    MANIFEST,
    csv_bytes,
    grid,
    jpeg,
    people,
    write_folder,
)
from tests.films import film
from voting.campaign import Identity
from voting.changes import Kind, Recorded
from voting.intake.folder import check_folder
from voting.intake.save import Compared


def test_a_checked_folder_comes_back_as_it_was(tmp_path):
    rows = people(3)
    rows[0]["姓名"] = "=HYPERLINK(1)"
    rows[1] |= {"照片": "b.jpg;c.jpg", "详细事迹": "一\n二", "视频": "a.mp4"}
    manifest = MANIFEST.replace('order = "random"', 'order = "listed"')
    keys = f'identity = "required"\n[portal.keys]\n"{PORTAL}" = "{Portal().line}"\n'
    manifest = manifest.replace("\n[channels]", f"{keys}\n[channels]")
    manifest += '[page]\nlead = "为创造者点赞"\nabout = "一\\n二"\ncover = "c.jpg"\n'
    photos = {name: jpeg((50, n), at_least_bytes=2_000_000)
              for n, name in enumerate(("b.jpg", "c.jpg"), 50)}  # fmt: skip
    folder = write_folder(tmp_path / "f", photos=photos, manifest=manifest)
    cells = grid(rows, (*HEADER, "详细事迹", "视频"))
    (folder / "candidates.csv").write_bytes(csv_bytes(cells))
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").write_bytes(film())
    checked = check_folder(folder, tmp_path)
    assert checked.ok
    again = from_json(json.loads(json.dumps(to_json(checked))))
    assert checked.manifest.page.about == "一\n二"
    assert again.manifest.rules.identity is Identity.REQUIRED
    assert list(again.manifest.portal_keys) == [PORTAL]
    # Of the cover only the picture is known from here on.
    assert again.manifest == replace(checked.manifest, cover=None)
    assert (again.cover, len(checked.more_photo_ids)) == (checked.cover, 1)
    assert again.more_photo_ids == checked.more_photo_ids
    assert (again.video_ids, again.videos) == (checked.video_ids, ())
    assert len(again.video_ids) == len(checked.videos) == 1
    assert again.roster == checked.roster
    assert again.photo_ids == checked.photo_ids
    assert (again.cards, again.problems) == ((), ())


def test_what_was_staged_before_there_were_stories_can_still_be_imported(tmp_path):
    checked = check_folder(write_folder(tmp_path / "f"), tmp_path)
    stored = json.loads(json.dumps(to_json(checked)))
    for name in ("more_photo_ids", "cover", "video_ids"):
        del stored[name]
    del stored["manifest"]["page"], stored["manifest"]["portal_keys"]
    for one in stored["roster"]["candidates"]:
        del one["story"], one["video"]
    again = from_json(stored)
    assert again.manifest == checked.manifest
    assert again.roster == checked.roster
    assert (again.more_photo_ids, again.cover, again.video_ids) == ({}, None, {})


def test_what_would_change_is_summed_up_and_said():
    changes = [Recorded(Kind.QUOTA), *[Recorded(Kind.CANDIDATE_ADDED)] * 3]
    compared = Compared(1, True, False, 7, [], changes, {})
    assert summary_of(compared) == {"quota": 1, "candidate-added": 3}
    content = {"campaign": "stars", "staged": 1, "changes": summary_of(compared)}
    said = KIND.describe(content, lambda text: text)
    assert said == "stars: Import · Other quotas × 1 · Candidate added × 3"
    # Whoever agrees to a portal's key sees its fingerprint.
    keyed = content | {"changes": {}, "ground": {PORTAL: "None → 8b2f aab2", "candidate c1": "x"}}
    assert KIND.describe(keyed, str).endswith(f"· {PORTAL}: None → 8b2f aab2")
    assert KIND.describe(content | {"changes": {}}, str) == "stars: Import · nothing changes"
