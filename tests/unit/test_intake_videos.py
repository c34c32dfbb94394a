"""videos/: what is taken, what is not, and how little of a file is believed."""

import contextlib
import io
import stat
import struct
import tracemalloc

import pytest

from tests.campaign_folders import HEADER, csv_bytes, grid, people, places, write_folder
from tests.films import FTYP, QUICKTIME, SAMPLES, box, film, header, index, track, wide_box
from voting.intake import containers, videos
from voting.intake.containers import Unsound, read_film
from voting.intake.folder import check_folder
from voting.intake.videos import as_clock, examine_video

CSV = "candidates.csv"
DAMAGED = "is cut off or damaged"
UNREAD = f"{DAMAGED}: ffprobe cannot read it"
FRAGMENTS = "is in fragments, as streams are: save it as one ordinary MP4"


@pytest.fixture
def look(tmp_path):
    """Examine these bytes as a file, by our own check alone."""

    def run(content, name="film.mp4"):
        path = tmp_path / name
        path.write_bytes(content)
        return examine_video(path, ffprobe=None)

    return run


# What is taken.


def test_a_sound_film_is_taken_with_what_it_says_of_itself(look):
    found = look(film(milliseconds=65_500))
    assert (found.fault, found.doubts) == (None, ())
    assert (found.video.kind, found.video.seconds) == ("mp4", 65.5)
    assert (found.video.width, found.video.height) == (1920, 1080)
    assert found.video.size_bytes == len(film(milliseconds=65_500))
    assert len(found.video.id) == 32


def test_the_id_is_of_the_bytes_alone(look):
    assert look(film()).video.id == look(film(), "another.mp4").video.id
    assert look(film()).video.id != look(film(milliseconds=2_001)).video.id


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (film(), "mp4"),
        (film(brand=QUICKTIME), "mov"),
        (SAMPLES + index(), "mov"),  # from before there was ftyp
        (box(b"wide") + SAMPLES + index(), "mov"),
    ],
)
def test_the_kind_is_said_by_the_bytes_and_not_by_the_name(look, content, kind):
    assert look(content, "film.mp4").video.kind == kind
    assert look(content, "film.MOV").video.kind == kind


def test_a_film_that_a_phone_turned_has_its_size_as_it_is_shown(look):
    video = look(film(track(turned=True))).video
    assert (video.width, video.height) == (1080, 1920)


@pytest.mark.parametrize(
    "content",
    [
        FTYP + wide_box(b"mdat", b"two samples") + index(),
        FTYP + index() + box(b"mdat", b"to the end", size=0),
        FTYP + box(b"free", bytes(99)) + SAMPLES + box(b"uuid", bytes(40)) + index(),
        FTYP + SAMPLES + box(b"moov", header(b"mvhd", 2_000, wide=True), track()),
        FTYP + SAMPLES + index(more=bytes(4)),  # as QuickTime ends a list
        FTYP + SAMPLES + index(track(), track(b"soun", b"mp4a"), track(b"tmcd", b"tmcd")),
    ],
)
def test_every_form_that_the_format_allows_is_taken(look, content):
    assert look(content).fault is None


def test_three_minutes_and_the_last_frame_are_taken_and_no_more(look):
    assert look(film(milliseconds=180_900)).fault is None
    assert look(film(milliseconds=181_500)).fault == "is 3:01 long; at most 3:00 can be taken"


def test_a_size_that_no_screen_has_is_not_passed_on(look):
    video = look(film(track(size=(65_000, 2)))).video
    assert (video.width, video.height) == (None, None)


@pytest.mark.parametrize(
    ("tracks", "words"),
    [
        ([track(codec=b"hvc1")], "many browsers do not play"),
        ([track(codec=b"apch")], "has pictures (apch) that no browser plays"),
        ([track(codec=b"\0\xff<>")], "has pictures (??<>) that no browser plays"),
        ([track(), track(b"soun", b"ac-3")], "has sound (ac-3) that few browsers play"),
    ],
)
def test_what_browsers_do_not_play_is_doubted_and_taken(look, tracks, words):
    found = look(film(*tracks))
    assert found.video is not None
    [doubt] = found.doubts
    assert words in doubt


def test_much_for_a_phone_is_doubted(look, monkeypatch):
    monkeypatch.setattr(videos, "BYTES_WISHED_MAX", 100)
    assert "much on a phone" in look(film()).doubts[0]


# What is not.


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"1234567", "is not an MP4 or MOV but something else"),
        (b"\x1aE\xdf\xa3" + bytes(99), "is not an MP4 or MOV but a WebM or MKV"),
        (b"RIFF" + bytes(99), "is not an MP4 or MOV but an AVI"),
        (b"\xff\xd8\xff" + bytes(99), "is not an MP4 or MOV but a JPEG"),
        (FTYP, f"{DAMAGED}: it has no index (moov)"),
        (FTYP + SAMPLES, f"{DAMAGED}: it has no index (moov)"),
        (FTYP + index(), f"{DAMAGED}: it has no pictures in it (mdat)"),
        (FTYP + box(b"mdat") + index(), f"{DAMAGED}: it has no pictures in it (mdat)"),
        (film()[:-1], DAMAGED),
        (FTYP + index() + SAMPLES[:-3], DAMAGED),
        (film() + b"\0\0", DAMAGED),
        (FTYP + SAMPLES + box(b"moov", track()),
         f"{DAMAGED}: it does not say how long it is (mvhd)"),
        (film(track(b"soun", b"mp4a")), "has no picture, or none that is known"),
        (film(milliseconds=0), "has no length"),
        (FTYP + SAMPLES + index(more=box(b"mvex")), FRAGMENTS),
        (film() + box(b"moof"), FRAGMENTS),
        (FTYP + SAMPLES + box(b"moov", box(b"cmov")),
         "has a compressed index: save it anew as MP4"),
    ],
)  # fmt: skip
def test_what_is_no_whole_film_is_an_error(look, content, fault):
    assert look(content).fault == fault


@pytest.mark.parametrize(
    "content",
    [
        FTYP + box(b"moov", size=7),
        FTYP + box(b"moov", size=2**32 - 1),
        FTYP + wide_box(b"mdat", b"x", size=15),
        FTYP + wide_box(b"mdat", b"x", size=2**64 - 1) + index(),
        FTYP + wide_box(b"mdat")[:12],
        FTYP + SAMPLES + box(b"moov", box(b"trak", size=9_999)),
        FTYP + SAMPLES + box(b"moov", box(b"mvhd", bytes(10))),
        FTYP + SAMPLES + box(b"moov", header(b"mvhd", 9), box(b"trak", box(b"tkhd", bytes(9)))),
        FTYP + SAMPLES + index(track(samples=struct.pack(">II", 1, 1)).replace(
            b"stts\0\0\0\0\0\0\0\1", b"stts\0\0\0\0\xff\xff\xff\xff")),
    ],
)  # fmt: skip
def test_a_box_that_lies_about_its_size_is_damage(look, content):
    assert look(content).fault == DAMAGED


def test_a_clock_that_does_not_go_is_damage(look):
    fault = f"{DAMAGED}: it counts no time"
    assert look(FTYP + SAMPLES + index(scale=0)).fault == fault
    assert look(film(track(scale=0))).fault == fault


def test_a_length_that_is_not_the_samples_length_does_not_pass_for_it(look):
    hour = struct.pack(">II", 3_600, 1_000)
    assert look(film(track(samples=hour))).fault == "is 60:00 long; at most 3:00 can be taken"
    assert look(film(track(milliseconds=3_600_000))).fault is not None
    # What a track does not know, another may.
    unknown = track(milliseconds=2**32 - 1, samples=struct.pack(">II", 2, 1_000))
    assert look(film(unknown)).video.seconds == 2.0


def test_numbers_of_64_bits_are_only_numbers(look):
    longest = box(b"moov", header(b"mvhd", 2**64 - 2, 1, wide=True), track())
    assert "long; at most 3:00" in look(FTYP + SAMPLES + longest).fault
    many = struct.pack(">II", 2**32 - 1, 2**32 - 1) * 1_000
    assert "long; at most 3:00" in look(film(track(samples=many))).fault


def test_boxes_within_boxes_within_boxes_lead_nowhere(look):
    deep = b""
    for _ in range(2_000):
        deep = box(b"moov", box(b"trak", box(b"mdia", deep)))
    assert look(FTYP + SAMPLES + index(more=deep)).fault is None
    assert look(FTYP + SAMPLES + deep).fault is not None


def test_very_many_boxes_are_too_many(look, monkeypatch):
    assert look(FTYP + box(b"free") * 10_001 + index()).fault == "has more than 10000 parts"
    many = index(more=box(b"free") * 10_001)
    assert look(FTYP + SAMPLES + many).fault == "has more than 10000 parts"
    assert look(film(*[track()] * 33)).fault == "has more than 32 tracks"
    monkeypatch.setattr(containers, "INDEX_BYTES_MAX", 500)
    assert "has an index of more than" in look(FTYP + SAMPLES + index(more=bytes(999))).fault


def test_of_a_large_file_only_headers_are_held(look, tmp_path):
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.write(FTYP + struct.pack(">I4s", 100_000_008, b"mdat"))
        file.seek(100_000_000, 1)
        file.write(index())
    tracemalloc.start()
    try:
        found = examine_video(path, ffprobe=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.video.size_bytes == path.stat().st_size
    assert peak < 8_000_000


def test_a_file_over_500_mb_is_not_read(tmp_path):
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(500_000_001)
    assert examine_video(path).fault == "is larger than 500 MB"


def test_every_cut_and_every_changed_byte_has_an_answer():
    whole = film(track(), track(b"soun", b"mp4a"))
    for length in range(len(whole)):
        with pytest.raises(Unsound):
            read_film(io.BytesIO(whole[:length]), length)
    for at in range(len(whole)):
        for byte in (b"\0", b"\x7f", b"\xff"):
            changed = whole[:at] + byte + whole[at + 1 :]
            with contextlib.suppress(Unsound):  # whatever it is, no other exception
                assert read_film(io.BytesIO(changed), len(changed)).seconds > 0


def test_clocks_are_written_as_people_write_them():
    assert [as_clock(s) for s in (0.4, 59.9, 60, 185.2)] == ["0:00", "0:59", "1:00", "3:05"]


# ffprobe, where there is one.


@pytest.fixture
def ffprobe(tmp_path, monkeypatch):
    """A program of that name that does what the test says."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def stand_in(script: str, version: int = 0) -> None:
        program = folder / "ffprobe"
        program.write_text(f'#!/bin/sh\n[ "$1" = -version ] && exit {version}\n{script}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return stand_in


SAYS = 'echo \'{"streams": [{"codec_type": "%s"}], "format": {"duration": "%s"}}\''


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (SAYS % ("video", "2.0"), None),
        (SAYS % ("video", "200.5"), "is 3:20 long; at most 3:00 can be taken"),
        (SAYS % ("video", "N/A"), None),
        (SAYS % ("audio", "2.0"), "has no picture, or none that is known"),
        ("echo '{}'", "has no picture, or none that is known"),
        ("exit 1", UNREAD),
        ("echo nonsense", UNREAD),
        ("echo '[]'", UNREAD),
        # More than it may write, or longer than it may take.
        ("while :; do echo 01234567890123456789; done", UNREAD),
        ("exec sleep 60", UNREAD),
    ],
)  # fmt: skip
def test_ffprobe_can_only_add_to_what_is_wrong(tmp_path, ffprobe, monkeypatch, script, fault):
    monkeypatch.setattr(videos, "FFPROBE_SECONDS", 1)
    ffprobe(script)
    path = tmp_path / "film.mp4"
    path.write_bytes(film())
    assert examine_video(path).fault == fault


def test_an_ffprobe_that_does_not_run_at_all_is_passed_over(tmp_path, ffprobe):
    ffprobe("exit 127", version=127)
    path = tmp_path / "film.mp4"
    path.write_bytes(film())
    assert examine_video(path).fault is None


def test_ffprobe_opens_this_file_and_nothing_else(tmp_path, ffprobe):
    ffprobe(f'echo "$@" > {tmp_path}/asked; ' + SAYS % ("video", "2.0"))
    path = tmp_path / "-i http.mp4"
    path.write_bytes(film())
    assert examine_video(path).fault is None
    asked = (tmp_path / "asked").read_text()
    assert "-protocol_whitelist file -f mov" in asked
    assert asked.rstrip().endswith(f"file:{path}")


# In a folder.


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check a folder whose rows name these videos, with these files in videos/."""
    monkeypatch.setattr(videos, "_length", lambda film, path, ffprobe: film.seconds)

    def run(named, files):
        folder = write_folder(tmp_path / "f")
        rows = [
            person | {"视频": name} for person, name in zip(people(len(named)), named, strict=True)
        ]
        (folder / CSV).write_bytes(csv_bytes(grid(rows, (*HEADER, "视频"))))
        (folder / "videos").mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / "videos" / name).write_bytes(content)
        return check_folder(folder, tmp_path)

    return run


def test_a_video_comes_with_its_candidate(check):
    checked = check(["", "a.mp4"], {"a.mp4": film()})
    assert checked.problems == ()
    [video] = checked.videos
    assert checked.video_ids == {"c002": video.id}
    assert video.source.read_bytes() == film()


def test_problems_of_videos_are_said_at_their_cells(check):
    checked = check(
        ["gone.mp4", "../a.mp4", "cut.mp4", "a.mp4", "a.mp4", "a.mp4;b.mp4", "h.mp4"],
        {"a.mp4": film(), "b.mp4": film(), "cut.mp4": film()[:-1], "old.mov": b"",
         "h.mp4": film(track(codec=b"hvc1"))},
    )  # fmt: skip
    assert places(checked.problems, "error") == [(CSV, row, "视频") for row in (3, 4, 8, 5)]
    assert places(checked.problems, "warning") == [
        (CSV, 7, "视频"), (CSV, 8, "视频"), ("videos/b.mp4", None, None),
        ("videos/old.mov", None, None), (CSV, 9, "视频"),
    ]  # fmt: skip
    said = {problem.message for problem in checked.problems}
    assert {"is the video of row 6 too", "names more than 1 videos", DAMAGED} <= said


def test_a_list_without_the_column_has_no_videos_and_no_problem(tmp_path):
    checked = check_folder(write_folder(tmp_path / "f"), tmp_path)
    assert (checked.videos, checked.problems) == ((), ())
