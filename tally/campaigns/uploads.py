"""A campaign folder as it is uploaded: a zip, or its files one by one -> a folder to be checked.

What comes is never trusted. Of a zip only these files are taken, by their names alone:
campaign.toml, the list, pictures in photos/, videos in videos/, and cover.jpg; nothing in it says
where a file is written. Sizes
are counted while it is unpacked, whatever its own index says, and links are no files. All problems
are listed, as for what is in the files (voting/intake).

Not in the memory: the largest file is read in pieces.
"""

import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from voting.intake.folder import COVER, PHOTOS, VIDEOS
from voting.intake.manifest import FILE as MANIFEST
from voting.intake.photos import BYTES_MAX as PHOTO_BYTES_MAX
from voting.intake.problems import Problem, error, warning
from voting.intake.videos import BYTES_MAX as VIDEO_BYTES_MAX
from voting.intake.videos import SUFFIXES as VIDEO_SUFFIXES

ARCHIVE_BYTES_MAX = 3 << 30
"""Of an upload; and of what is in it, which are pictures and videos and do not grow. A campaign
with more of them is imported by the command."""
FILES_MAX = 3_000
TEXT_BYTES_MAX = 20_000_000
"""Of the list, and of campaign.toml."""
_SHEETS = ("candidates.xlsx", "candidates.csv")
_BYTES_MAX_IN = {PHOTOS: PHOTO_BYTES_MAX, VIDEOS: VIDEO_BYTES_MAX}
_PIECE = 1 << 20
_PROBLEMS_MAX = 200
_ENCRYPTED, _UTF8 = 0x1, 0x800
_LITTER = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._)", re.IGNORECASE)
_CANNOT = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a method of compression that Python does not know
    RuntimeError,  # encrypted
    ValueError,
    OSError,
)


class _Wanted(NamedTuple):
    """One file of a campaign folder."""

    path: Path
    """Within the folder."""
    bytes_max: int


def unpack(archive: BinaryIO, folder: Path, *, bytes_max: int = ARCHIVE_BYTES_MAX) -> list[Problem]:
    """Write what a zip holds of a campaign folder into `folder`, which is empty; what is wrong with
    the zip. Never raises for what is in it; OSError where `folder` cannot be written."""
    try:
        with zipfile.ZipFile(archive) as zip_:
            members = [one for one in zip_.infolist() if not one.is_dir()]
            return _unpack(zip_, members, folder, bytes_max)
    except _CANNOT as why:
        if isinstance(why, OSError) and why.errno:
            raise  # the disk is full, not the zip broken
        return [error("upload", f"is no zip that can be read: {_short(why)}")]


def _unpack(
    zip_: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, bytes_max: int
) -> list[Problem]:
    if len(members) > FILES_MAX:
        return [error("upload", f"holds more than {FILES_MAX} files")]
    named = [(one, _name_of(one)) for one in members]
    named = [(one, name) for one, name in named if not _LITTER.search(name)]
    above = _common_folder([name for _, name in named])
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    left = bytes_max
    for member, name in named:
        fault, wanted = _judge(member, name, above)
        if wanted is not None:
            key = unicodedata.normalize("NFC", wanted.path.as_posix()).casefold()
            if key in taken:
                fault, wanted = f"is {taken[key]} once more", None
            taken.setdefault(key, name)
        if wanted is None:
            problems.append(error(name, fault))
            continue
        try:
            with zip_.open(member) as content:
                written = _write(content, folder / wanted.path, min(wanted.bytes_max, left))
        except _CANNOT as why:
            if isinstance(why, OSError) and why.errno:
                raise
            problems.append(error(name, f"cannot be unpacked: {_short(why)}"))
            continue
        if written is None and left < wanted.bytes_max:
            problems.append(error("upload", f"holds more than {bytes_max:,} bytes"))
            break
        if written is None:
            problems.append(error(name, f"is larger than {wanted.bytes_max:,} bytes"))
            continue
        left -= written
    return _bounded(problems)


def gather(
    files: Iterable[tuple[str, BinaryIO]], folder: Path, *, bytes_max: int = ARCHIVE_BYTES_MAX
) -> list[Problem]:
    """The same of files that were chosen one by one: the list, campaign.toml, pictures and videos
    by the names that the list has for them."""
    problems: list[Problem] = []
    taken: set[str] = set()
    left = bytes_max
    for number, (given, content) in enumerate(files):
        if number >= FILES_MAX:
            problems.append(error("upload", f"holds more than {FILES_MAX} files"))
            break
        name = PurePosixPath(given.replace("\\", "/")).name  # some browsers send the way to it
        if name.lower().endswith((".jpg", ".jpeg")):
            wanted = _wanted(f"{PHOTOS}/{name}")
        elif name.lower().endswith(VIDEO_SUFFIXES):
            wanted = _wanted(f"{VIDEOS}/{name}")
        else:
            wanted = _wanted(name)
        if wanted is None or _unsound(name):
            problems.append(error(name or "upload", _NOT_OURS))
            continue
        key = unicodedata.normalize("NFC", wanted.path.as_posix()).casefold()
        if key in taken:
            problems.append(error(name, "was chosen twice"))
            continue
        taken.add(key)
        written = _write(content, folder / wanted.path, min(wanted.bytes_max, left))
        if written is None:
            problems.append(error(name, f"is larger than {min(wanted.bytes_max, left):,} bytes"))
            continue
        left -= written
    return _bounded(problems)


_NOT_OURS = (
    f"is no part of a campaign: {MANIFEST}, {' or '.join(_SHEETS)}, JPEGs in {PHOTOS}/, "
    f"MP4 and MOV in {VIDEOS}/, and {COVER} are"
)


def _judge(member: zipfile.ZipInfo, name: str, above: str) -> tuple[str, _Wanted | None]:
    """(what is wrong with it, or which file it is)."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind and not stat.S_ISREG(kind):
        return "is a link or a device, not a file", None
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted", None
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or ":" in parts[0] or _unsound(name):
        return "has a name that leads elsewhere, or cannot be one", None
    return _NOT_OURS, _wanted(name.removeprefix(above))


def _wanted(name: str) -> _Wanted | None:
    if name == MANIFEST or name in _SHEETS:
        return _Wanted(Path(name), TEXT_BYTES_MAX)
    if name == COVER:
        return _Wanted(Path(name), PHOTO_BYTES_MAX)
    folder, _, file = name.rpartition("/")
    if folder in _BYTES_MAX_IN and file and len(file.encode()) <= 200:
        return _Wanted(Path(folder) / file, _BYTES_MAX_IN[folder])
    return None


def _name_of(member: zipfile.ZipInfo) -> str:
    """The name as it was meant: Windows in Chinese writes it in GBK, which zipfile takes for
    cp437."""
    if member.flag_bits & _UTF8:
        return member.filename
    try:
        return member.orig_filename.encode("cp437").decode("gb18030")
    except UnicodeError:
        return member.filename


def _common_folder(names: list[str]) -> str:
    """ "my-campaign/" where everything is in one folder, which is how folders are zipped."""
    first = {name.partition("/")[0] for name in names if "/" in name}
    if len(first) != 1 or not all("/" in name for name in names) or first <= {PHOTOS, VIDEOS}:
        return ""
    return f"{first.pop()}/"


def _unsound(name: str) -> bool:
    return not name or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def _write(content: IO[bytes], path: Path, bytes_max: int) -> int | None:
    """How many bytes were written; None where there are more, of which nothing is kept."""
    path.parent.mkdir(exist_ok=True)
    written, whole = 0, False
    with path.open("xb") as file:
        try:
            while piece := content.read(_PIECE):
                written += len(piece)
                if written > bytes_max:
                    return None
                file.write(piece)
            whole = True
        finally:
            if not whole:
                path.unlink()
    return written


def _bounded(problems: list[Problem]) -> list[Problem]:
    if len(problems) <= _PROBLEMS_MAX:
        return problems
    left = len(problems) - _PROBLEMS_MAX
    return [*problems[:_PROBLEMS_MAX], warning("upload", f"has {left} more problems")]


def _short(why: BaseException) -> str:
    text = str(why) or type(why).__name__
    return "".join(c if c.isprintable() else " " for c in text)[:120]
