"""videos/ -> videos that browsers play, at most three minutes long.

A video is served as it came: it is looked at, and copied whole (voting/media_files.py). Its headers
are read by `containers`; where ffprobe is installed, it is asked too, for it opens the streams
themselves. Neither is trusted with more than its bounds: ffprobe runs with little memory, time and
output, may open no network and no other file, and what it says can only add to what is wrong.
"""

import functools
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voting.intake.containers import Film, Unsound, read_film

SUFFIXES = (".mp4", ".mov")
SECONDS_MAX = 180
_GRACE_SECONDS = 1.0
"""What is cut to three minutes ends with its last whole frame, or sound."""
BYTES_MAX = 500_000_000
BYTES_WISHED_MAX = 150_000_000
_PIECE = 1 << 20

_PLAYED = frozenset({"avc1", "avc3", "av01", "vp09", "vp08"})
_PLAYED_BY_SOME = {"hvc1": "HEVC", "hev1": "HEVC", "dvh1": "HEVC", "dvhe": "HEVC"}
_HEARD = frozenset({"mp4a", ".mp3", "Opus", "fLaC", "alac", "lpcm", "sowt", "twos"})

FFPROBE_SECONDS = 20
_FFPROBE_OUTPUT_BYTES = 200_000
_FFPROBE_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """One sound video, still where it was found."""

    id: str
    kind: str
    size_bytes: int
    seconds: float
    width: int | None
    height: int | None
    source: Path


@dataclass(frozen=True, slots=True)
class ExaminedVideo:
    """What became of one file of videos/."""

    video: FoundVideo | None = None
    fault: str | None = None
    """Why it cannot be taken."""
    doubts: tuple[str, ...] = ()
    """Why many would not see it, though it is taken."""


def examine_videos(
    paths: Iterable[Path], progress: Callable[[int], None] = lambda done: None
) -> dict[Path, ExaminedVideo]:
    """Look at each; one after the other, for the disk is what takes the time."""
    found: dict[Path, ExaminedVideo] = {}
    for path in paths:
        found[path] = examine_video(path)
        progress(len(found))
    return found


def examine_video(path: Path, ffprobe: str | None = "ffprobe") -> ExaminedVideo:
    """Look at one video; never raises for what is in it. `ffprobe`: the program's name, None = do
    without."""
    if not path.name.lower().endswith(SUFFIXES):
        return ExaminedVideo(fault="is not named .mp4 or .mov")
    try:
        if not path.is_file():
            return ExaminedVideo(fault="is no file")
        size = path.stat().st_size
        if size > BYTES_MAX:
            return ExaminedVideo(fault=f"is larger than {BYTES_MAX // 1_000_000} MB")
        with path.open("rb") as file:
            film = read_film(file, size)
            seconds = _length(film, path, ffprobe)
            file.seek(0)
            digest = hashlib.sha256()
            while piece := file.read(_PIECE):
                digest.update(piece)
    except Unsound as why:
        return ExaminedVideo(fault=str(why))
    except OSError as why:
        return ExaminedVideo(fault=f"cannot be read: {why.strerror}")
    if seconds > SECONDS_MAX + _GRACE_SECONDS:
        return ExaminedVideo(
            fault=f"is {as_clock(seconds)} long; at most {as_clock(SECONDS_MAX)} can be taken"
        )
    video = FoundVideo(
        digest.hexdigest()[:32], film.kind, size, seconds, film.width, film.height, path
    )
    return ExaminedVideo(video, doubts=tuple(_doubts(film, size)))


def as_clock(seconds: float) -> str:
    """185.2 -> 3:05."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _doubts(film: Film, size: int) -> Iterable[str]:
    for codec in film.video_codecs:
        if codec in _PLAYED_BY_SOME:
            yield f"is in {_PLAYED_BY_SOME[codec]}, which many browsers do not play: H.264 is safe"
        elif codec not in _PLAYED:
            yield f"has pictures ({codec}) that no browser plays: save it anew as H.264"
    for codec in film.sound_codecs:
        if codec not in _HEARD:
            yield f"has sound ({codec}) that few browsers play: save it anew with AAC"
    if size > BYTES_WISHED_MAX:
        yield f"has {size // 1_000_000} MB, which is much on a phone: 1080p at 5 Mbit/s is enough"


# ffprobe.


_BOUNDED = """
import os, resource, sys
memory, seconds, output = map(int, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.execv(sys.argv[4], sys.argv[4:])
"""
"""A program before ffprobe, for limits that are its own: set in a child between fork and exec, they
would need Python to run there, beside threads that hold its locks."""


def _length(film: Film, path: Path, ffprobe: str | None) -> float:
    """The longest that anybody says; raises Unsound where ffprobe cannot open it."""
    program = shutil.which(ffprobe) if ffprobe else None
    if program is None or not _works(program):
        return film.seconds
    said = _ask(program, path)
    if said is None:
        raise Unsound("is cut off or damaged: ffprobe cannot read it")
    if not any(stream.get("codec_type") == "video" for stream in said.get("streams", ())):
        raise Unsound("has no picture, or none that is known")
    try:
        return max(film.seconds, float(said.get("format", {}).get("duration", 0)))
    except (TypeError, ValueError):
        return film.seconds


@functools.lru_cache(maxsize=8)
def _works(program: str) -> bool:
    """Whether it runs at all within the bounds: one that lacks a library must not refuse every
    video."""
    return _run(program, "-version") is not None


def _ask(program: str, path: Path) -> dict[str, Any] | None:
    """What ffprobe says; None where it fails, or is not done within its bounds."""
    text = _run(
        *(program, "-v", "quiet", "-protocol_whitelist", "file", "-f", "mov"),
        *("-print_format", "json", "-show_entries", "format=duration:stream=codec_type"),
        # A name that begins with a dash is none here, nor one with a colon a protocol.
        f"file:{path.absolute()}",
    )
    try:
        said = json.loads(text or b"")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _run(program: str, *arguments: str) -> bytes | None:
    """Its output; None where it fails, or is not done within its bounds."""
    command = [
        *(sys.executable, "-I", "-c", _BOUNDED),
        *(str(_FFPROBE_MEMORY_BYTES), str(FFPROBE_SECONDS), str(_FFPROBE_OUTPUT_BYTES)),
        *(program, *arguments),
    ]
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=FFPROBE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return None
        output.seek(0)
        return output.read(_FFPROBE_OUTPUT_BYTES) if done.returncode == 0 else None
