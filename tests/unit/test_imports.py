"""What waits for a second person is what was checked."""

import json

from tally.campaigns.imports import KIND, from_json, summary_of, to_json
from tests.campaign_folders import MANIFEST, jpeg, people, write_folder
from voting.changes import Kind, Recorded
from voting.intake.folder import check_folder
from voting.intake.save import Compared


def test_a_checked_folder_comes_back_as_it_was(tmp_path):
    rows = people(3)
    rows[0]["姓名"] = "=HYPERLINK(1)"
    rows[1]["照片"] = "b.jpg"
    manifest = MANIFEST.replace('order = "random"', 'order = "listed"')
    photos = {"b.jpg": jpeg(at_least_bytes=2_000_000)}
    folder = write_folder(tmp_path / "f", rows, manifest=manifest, photos=photos)
    checked = check_folder(folder, tmp_path)
    assert checked.ok
    again = from_json(json.loads(json.dumps(to_json(checked))))
    assert again.manifest == checked.manifest
    assert again.roster == checked.roster
    assert again.photo_ids == checked.photo_ids
    assert (again.cards, again.problems) == ((), ())


def test_what_would_change_is_summed_up_and_said():
    changes = [Recorded(Kind.QUOTA), *[Recorded(Kind.CANDIDATE_ADDED)] * 3]
    compared = Compared(1, True, False, 7, [], changes, {})
    assert summary_of(compared) == {"quota": 1, "candidate-added": 3}
    content = {"campaign": "stars", "staged": 1, "changes": summary_of(compared)}
    said = KIND.describe(content, lambda text: text)
    assert said == "stars: Import · Other quotas × 1 · Candidate added × 3"
    assert KIND.describe(content | {"changes": {}}, str) == "stars: Import · nothing changes"
