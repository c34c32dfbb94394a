"""Videos in the data folder: whole or not there, and nothing is swept away that is wanted."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from voting import media_files
from voting.media_files import alone, clean_up, importing, keep_video, video_path

CONTENT = b"not a film, which nobody here asks for" * 99
ID = hashlib.sha256(CONTENT).hexdigest()[:32]


@pytest.fixture
def media(tmp_path):
    return tmp_path / "media"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.mp4"
    path.write_bytes(CONTENT)
    return path


def in_folder(media):
    return sorted(path.name for path in (media / "videos").iterdir())


def test_a_video_is_kept_whole_under_its_digest(media, source):
    keep_video(media, source, ID, "mp4")
    assert video_path(media, ID, "mp4").read_bytes() == CONTENT
    assert in_folder(media) == [f"{ID}.mp4"]


def test_one_that_is_there_is_not_copied_again(media, source):
    keep_video(media, source, ID, "mp4")
    before = video_path(media, ID, "mp4").stat()
    keep_video(media, source, ID, "mp4")
    assert video_path(media, ID, "mp4").stat().st_ino == before.st_ino


def test_one_that_is_there_and_cut_off_is_mended(media, source):
    keep_video(media, source, ID, "mp4")
    os.truncate(video_path(media, ID, "mp4"), 10)
    keep_video(media, source, ID, "mp4")
    assert video_path(media, ID, "mp4").read_bytes() == CONTENT


def test_what_changed_since_it_was_looked_at_is_not_taken(media, source):
    source.write_bytes(CONTENT + b"!")
    with pytest.raises(media_files.ChangedMeanwhile):
        keep_video(media, source, ID, "mp4")
    assert in_folder(media) == []


def test_the_content_is_on_the_disk_before_its_name_is(media, source, monkeypatch):
    done = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("sync") or fsync(fd))
    monkeypatch.setattr(Path, "rename", lambda a, b: done.append("name") or rename(a, b))
    keep_video(media, source, ID, "mp4")
    assert done == ["sync", "name", "sync"]


def test_a_full_disk_leaves_nothing_behind(media, source, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep_video(media, source, ID, "mp4")
    assert in_folder(media) == []


def test_what_no_row_names_is_removed_and_nothing_else(media, source):
    keep_video(media, source, ID, "mp4")
    folder = media / "videos"
    for name in ("0" * 32 + ".mov", "." + "0" * 32 + ".mp4.4711", "README", "0" * 32 + ".mp4.bak"):
        (folder / name).write_bytes(b"x")
    with alone(media) as nobody_else:
        assert nobody_else
        assert clean_up(media, {f"{ID}.mp4"}) == 2
    assert in_folder(media) == ["0" * 32 + ".mp4.bak", f"{ID}.mp4", "README"]


def test_a_folder_that_is_not_there_is_clean(media):
    assert clean_up(media, ()) == 0


async def test_nothing_is_cleaned_up_while_somebody_imports(media):
    async with importing(media), importing(media):
        with alone(media) as nobody_else:
            assert not nobody_else
    with alone(media) as nobody_else:
        assert nobody_else


async def test_who_comes_to_import_waits_for_the_clean_up_without_stopping_the_rest(media):
    begun = asyncio.Event()

    async def come():
        async with importing(media):
            begun.set()

    with alone(media):
        coming = asyncio.create_task(come())
        for _ in range(5):
            await asyncio.sleep(0)  # the loop goes round
        assert not begun.is_set()
    await asyncio.wait_for(coming, 5)
    assert begun.is_set()
