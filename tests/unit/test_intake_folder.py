"""What only the manifest and the list together can tell."""

import pytest

from tests.campaign_folders import MANIFEST, people, places, write_folder
from voting.intake.folder import check_folder


@pytest.mark.parametrize(
    ("likes", "candidates_per_day", "count", "fine"),
    [(1, 0, 744, True), (2, 0, 744, False), (100, 10, 744, True), (100, 11, 744, False)],
)
def test_likes_that_one_device_may_give_in_a_day_are_bounded(
    tmp_path, likes, candidates_per_day, count, fine
):
    manifest = MANIFEST.replace("per_candidate_per_day = 1", f"per_candidate_per_day = {likes}")
    manifest = manifest.replace(
        "candidates_per_day = 10", f"candidates_per_day = {candidates_per_day}"
    )
    folder = write_folder(tmp_path / "folder", people(count), manifest=manifest)
    checked = check_folder(folder, tmp_path)
    assert places(checked.problems, "error") == (
        [] if fine else [("campaign.toml", None, "rules.likes_per_candidate_per_day")]
    )
