"""What is uploaded as a campaign folder: only its three kinds of files come out, within bounds."""

import io
import stat
import struct
import zipfile

import pytest

from tally.campaigns import uploads
from tally.campaigns.uploads import gather, unpack
from tests.campaign_folders import MANIFEST, csv_bytes, grid, jpeg, people
from voting.intake.folder import check_folder

SHEET = csv_bytes(grid(people(3)))


def zipped(files, **options):
    """A zip with these files: name, or a ready ZipInfo -> content."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    packed.seek(0)
    return packed


def found_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


@pytest.mark.parametrize("above", ["", "my-campaign/", "我的活动/"])
def test_a_folder_comes_out_as_it_was_zipped(folder, tmp_path, above):
    rows = people(3)
    rows[0]["照片"] = "a.jpg"
    files = {
        "campaign.toml": MANIFEST,
        "candidates.csv": csv_bytes(grid(rows)),
        "photos/a.jpg": jpeg(at_least_bytes=2_000_000),
    }
    archive = zipped({above + name: content for name, content in files.items()})
    assert unpack(archive, folder) == []
    assert found_in(folder) == ["campaign.toml", "candidates.csv", "photos/a.jpg"]
    assert check_folder(folder, tmp_path).ok


def test_videos_and_a_cover_come_out_too(folder):
    files = {"videos/a.mp4": b"one", "videos/b.MOV": b"two", "cover.jpg": b"three"}
    assert unpack(zipped({f"x/{name}": content for name, content in files.items()}), folder) == []
    assert found_in(folder) == sorted(files)


@pytest.mark.parametrize("only", ["photos", "videos"])
def test_the_folders_of_a_campaign_are_no_folder_above_it(folder, only):
    assert unpack(zipped({f"{only}/a.jpg": b"x"}), folder) == []
    assert found_in(folder) == [f"{only}/a.jpg"]


def test_a_video_has_a_bound_of_its_own(folder, monkeypatch):
    monkeypatch.setitem(uploads._BYTES_MAX_IN, "videos", 1_000)
    files = {"videos/a.mp4": bytes(1_001), "photos/a.jpg": bytes(1_001)}
    (problem,) = unpack(zipped(files), folder)
    assert (problem.file, problem.message) == ("videos/a.mp4", "is larger than 1,000 bytes")
    assert found_in(folder) == ["photos/a.jpg"]


def test_what_systems_leave_in_zips_is_passed_over(folder):
    litter = {
        "__MACOSX/._campaign.toml": b"x",
        ".DS_Store": b"x",
        "photos/Thumbs.db": b"x",
        "photos/._a.jpg": b"x",
    }
    assert unpack(zipped({"campaign.toml": MANIFEST, **litter}), folder) == []
    assert found_in(folder) == ["campaign.toml"]


def test_names_that_windows_wrote_in_gbk_are_read_as_they_were_meant(folder):
    packed = zipped({"photos/XXXX.jpg": b"x"}).getvalue()
    meant = "张三".encode("gb18030")
    assert unpack(io.BytesIO(packed.replace(b"XXXX", meant)), folder) == []
    assert found_in(folder) == ["photos/张三.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        *("../campaign.toml", "/campaign.toml", "photos/../../a.jpg", "photos/a/../../../b.jpg"),
        *("C:/campaign.toml", "photos\\..\\a.jpg", "photos/a\x00b.jpg", "photos/a\nb.jpg"),
        *("evil.py", "photos/inner/a.jpg", "photos.zip", "candidates.xls", "photos/" + "a" * 300),
    ],
)
def test_a_name_that_leads_elsewhere_or_is_none_of_ours_is_a_problem(folder, name):
    packed = zipped({"campaign.toml": MANIFEST, name.replace("\x00", "\x01"): b"x"})
    (problem,) = unpack(packed, folder)
    assert "leads elsewhere" in problem.message or "no part of a campaign" in problem.message
    assert found_in(folder.parent) == ["into/campaign.toml"]


def test_a_link_is_no_file(folder):
    link = zipfile.ZipInfo("candidates.csv")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    (problem,) = unpack(zipped({link: "/etc/passwd"}), folder)
    assert (problem.file, "link" in problem.message) == ("candidates.csv", True)
    assert found_in(folder) == []


def test_an_encrypted_file_is_said(folder):
    packed = bytearray(zipped({"campaign.toml": MANIFEST}).getvalue())
    for signature, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        packed[packed.index(signature) + at] |= 1
    (problem,) = unpack(io.BytesIO(bytes(packed)), folder)
    assert problem.message == "is encrypted"


def test_a_bomb_is_stopped_where_it_becomes_too_large_whatever_its_index_says(folder):
    content = bytes(30_000_000)
    packed = bytearray(zipped({"candidates.csv": content}).getvalue())
    assert len(packed) < 50_000
    at = packed.index(b"PK\x01\x02")
    struct.pack_into("<I", packed, at + 24, 1_000)  # it claims to be small
    (problem,) = unpack(io.BytesIO(bytes(packed)), folder)
    assert problem.file == "candidates.csv"
    assert found_in(folder) == []

    (problem,) = unpack(zipped({"candidates.csv": content}), folder)
    assert problem.message == "is larger than 20,000,000 bytes"
    assert found_in(folder) == []


def test_all_files_together_are_bounded(folder):
    photos = {f"photos/{n}.jpg": bytes(400_000) for n in range(5)}
    problems = unpack(zipped(photos), folder, bytes_max=1_000_000)
    assert [problem.message for problem in problems] == ["holds more than 1,000,000 bytes"]
    assert sum(path.stat().st_size for path in folder.rglob("*.jpg")) <= 1_000_000


def test_too_many_files_are_one_problem(folder, monkeypatch):
    monkeypatch.setattr(uploads, "FILES_MAX", 10)
    (problem,) = unpack(zipped({f"photos/{n}.jpg": b"" for n in range(11)}), folder)
    assert problem.message == "holds more than 10 files"
    assert found_in(folder) == []
    (problem,) = gather([(f"{n}.jpg", io.BytesIO()) for n in range(11)], folder)
    assert problem.message == "holds more than 10 files"


def test_a_file_that_is_there_twice_is_a_problem_and_the_first_one_stays(folder):
    files = {"photos/a.jpg": b"one", "photos/b.jpg": b"two", "photos/A.JPG": b"three"}
    packed = io.BytesIO(zipped(files).getvalue().replace(b"photos/b.jpg", b"photos/a.jpg"))
    assert [problem.message for problem in unpack(packed, folder)] == [
        "is photos/a.jpg once more"
    ] * 2
    assert found_in(folder) == ["photos/a.jpg"]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"not a zip", b"PK\x05\x06" + bytes(17), bytes(100_000)]
)
def test_what_is_no_zip_is_said(folder, content):
    (problem,) = unpack(io.BytesIO(content), folder)
    assert problem.message.startswith("is no zip that can be read")


def test_a_damaged_file_is_said_and_the_others_come_out(folder):
    files = {"campaign.toml": MANIFEST, "candidates.csv": SHEET}
    packed = bytearray(zipped(files).getvalue())
    at = packed.index(b"candidates.csv") + len("candidates.csv") + 20
    packed[at : at + 20] = bytes(20)
    (problem,) = unpack(io.BytesIO(bytes(packed)), folder)
    assert problem.file == "candidates.csv"
    assert "cannot be unpacked" in problem.message
    assert (folder / "campaign.toml").read_text() == MANIFEST


def test_thousands_of_problems_are_not_listed_one_by_one(folder):
    problems = unpack(zipped({f"evil-{n}": b"" for n in range(500)}), folder)
    assert len(problems) == 201
    assert problems[-1].message == "has 300 more problems"


def test_a_full_disk_is_no_fault_of_the_zip(folder):
    (folder / "photos").write_text("in the way")
    with pytest.raises(OSError, match="photos"):
        unpack(zipped({"photos/a.jpg": b"x"}), folder)


def test_files_that_were_chosen_one_by_one_go_where_they_belong(folder):
    files = [
        ("campaign.toml", MANIFEST.encode()),
        ("C:\\Users\\li\\candidates.csv", SHEET),
        ("张三.jpg", b"one"),
        ("photos/b.JPEG", b"two"),
        ("b.jpeg", b"again"),
        ("film.MP4", b"three"),
        ("cover.jpg", b"four"),
        ("virus.exe", b"x"),
        ("..", b"x"),
        ("", b"x"),
    ]
    problems = gather([(name, io.BytesIO(content)) for name, content in files], folder)
    assert found_in(folder) == [
        "campaign.toml",
        "candidates.csv",
        "photos/b.JPEG",
        "photos/cover.jpg",
        "photos/张三.jpg",
        "videos/film.MP4",
    ]
    assert [problem.file for problem in problems] == ["b.jpeg", "virus.exe", "..", "upload"]


def test_a_chosen_file_that_is_too_large_is_said(folder):
    (problem,) = gather([("a.jpg", io.BytesIO(bytes(2_000)))], folder, bytes_max=1_000)
    assert problem.message == "is larger than 1,000 bytes"
    assert found_in(folder) == []
