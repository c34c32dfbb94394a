"""A whole folder, checked: all problems at once."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from voting.intake.manifest import FILE as MANIFEST_FILE
from voting.intake.manifest import Manifest, read_manifest
from voting.intake.photos import (
    BYTES_WISHED,
    Card,
    Examined,
    NamedFiles,
    examine_all,
    is_plain_name,
)
from voting.intake.problems import Problem, error, errors_in, warning
from voting.intake.roster import Listed, Roster, read_roster
from voting.intake.sheet import PHOTO, VIDEO, read_sheet
from voting.intake.videos import FoundVideo, examine_videos

PHOTOS = "photos"
VIDEOS = "videos"
COVER = "cover.jpg"
"""The one picture that may lie beside campaign.toml."""
COVER_KEY = "page.cover"
PHOTOS_MAX = 12
"""Of one candidate."""
LIKES_PER_DEVICE_DAY_MAX = 1_000
_BETWEEN_NAMES = re.compile("[;；、\n\r\u2028]")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a folder holds, as far as it could be read."""

    manifest: Manifest | None
    roster: Roster | None
    photo_ids: Mapping[str, str]
    """Candidate id -> photo id of the card's picture, where there is a sound one."""
    cards: tuple[Card, ...]
    """New pictures; their files live as long as the scratch folder."""
    problems: tuple[Problem, ...]
    more_photo_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Candidate id -> photo ids of the further ones, where there are any."""
    cover: str | None = None
    """Photo id."""
    video_ids: Mapping[str, str] = field(default_factory=dict)
    """Candidate id -> video id."""
    videos: tuple[FoundVideo, ...] = ()
    """Their files are in the folder still."""

    @property
    def ok(self) -> bool:
        return errors_in(self.problems) == 0

    @property
    def candidates(self) -> int:
        return len(self.roster.candidates) if self.roster else 0


class _Use(NamedTuple):
    """Where a file of photos/ or videos/ is named."""

    place: Mapping[str, Any]
    """For a problem."""
    candidate: str | None
    """Its id; None = the campaign's cover."""
    row: int | None = None


def check_folder(
    folder: Path,
    scratch: Path,
    known_photos: frozenset[str] = frozenset(),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Checked:
    """Read and check everything. Touches nothing but `scratch`; never raises for what is in the
    folder. `progress` hears of how many pictures and videos how many are done."""
    manifest, problems = read_manifest(folder)
    sheet, sheet_problems = read_sheet(folder)
    problems += sheet_problems
    if sheet is None:
        return Checked(manifest, None, {}, (), tuple(problems))
    roster, roster_problems = read_roster(sheet, manifest.channels if manifest else None)
    problems += roster_problems
    if manifest is not None:
        problems += _too_many_likes(manifest, len(roster.candidates))
    photos = _Wanted(folder / PHOTOS, "photo")
    photos.name_all(roster.file, PHOTO, ((one, one.photo) for one in roster.candidates), PHOTOS_MAX)
    videos = _Wanted(folder / VIDEOS, "video")
    videos.name_all(roster.file, VIDEO, ((one, one.video) for one in roster.candidates), 1)
    if manifest is not None:
        _name_cover(photos, folder, manifest)
    of = len(photos.uses) + len(videos.uses)
    pictures = examine_all(photos.uses, known_photos, scratch, lambda done: progress(done, of))
    films = examine_videos(videos.uses, lambda done: progress(len(pictures) + done, of))
    problems += photos.problems + videos.problems
    for path, uses in photos.uses.items():
        problems += _photo_problems(uses[0], pictures[path])
    for path, uses in videos.uses.items():
        if fault := films[path].fault:
            problems.append(error(message=fault, **uses[0].place))
        problems += [warning(message=doubt, **uses[0].place) for doubt in films[path].doubts]
    photo_ids = photos.ids({path: found.id for path, found in pictures.items()})
    video_ids = videos.ids(
        {path: one.video.id if one.video else None for path, one in films.items()}
    )
    cards = {found.card.id: found.card for found in pictures.values() if found.card}
    found_videos = {one.video.id: one.video for one in films.values() if one.video}
    cover = next(iter(photo_ids.pop(None, ())), None)
    return Checked(
        manifest,
        roster,
        {id_: ids[0] for id_, ids in photo_ids.items() if id_},
        tuple(cards.values()),
        tuple(problems),
        {id_: ids[1:] for id_, ids in photo_ids.items() if id_ and ids[1:]},
        cover,
        {id_: ids[0] for id_, ids in video_ids.items() if id_},
        tuple(found_videos.values()),
    )


def _too_many_likes(manifest: Manifest, candidates: int) -> list[Problem]:
    """A device's record of the day is written anew with each of its likes: one that could hold
    very many would let a few devices fill the store's file."""
    rules = manifest.rules
    most = rules.likes_per_candidate_per_day * min(
        rules.candidates_per_day or candidates, candidates
    )
    if most <= LIKES_PER_DEVICE_DAY_MAX:
        return []
    return [
        error(
            MANIFEST_FILE,
            f"lets one device give {most} likes a day; at most {LIKES_PER_DEVICE_DAY_MAX}: set "
            "candidates_per_day, or fewer likes per candidate",
            column="rules.likes_per_candidate_per_day",
            value=str(rules.likes_per_candidate_per_day),
        )
    ]


class _Wanted:
    """The files of photos/, or of videos/, that are named, each with where; and what is wrong with
    the names."""

    def __init__(self, folder: Path, noun: str) -> None:
        self._noun = noun
        self.folder = folder
        self._problems: list[Problem] = []
        self.uses: dict[Path, list[_Use]] = {}
        self._of_candidate: dict[str | None, list[Path]] = {}
        self._files: NamedFiles | None = None
        try:
            self._files = NamedFiles(folder)
        except OSError as why:
            self._problems.append(error(folder.name, f"cannot be read: {why.strerror}"))

    @property
    def problems(self) -> list[Problem]:
        """Of the names, and of files that nothing names."""
        named = {path.name for path in self.uses if path.parent == self.folder}
        unnamed = [
            warning(f"{self.folder.name}/{name}", "no row names it: not imported")
            for name in (self._files.names if self._files else ())
            if name not in named and not name.startswith(".")
        ]
        return self._problems + unnamed

    def name_all(
        self, file: str, column: str, cells: Iterable[tuple[Listed, str | None]], most: int
    ) -> None:
        """What a column says."""
        for candidate, cell in cells:
            if cell is None:
                continue
            place: dict[str, Any] = {"file": file, "row": candidate.row, "column": column}
            names = list(self._names_in(cell))
            if len(names) > most:
                message = f"names more than {most} {self._noun}s"
                self._problems.append(error(message=message, **place, value=cell))
                names = names[:most]
            first_of: dict[Path, str] = {}
            for name in names:
                use = _Use(place | {"value": name}, candidate.id, candidate.row)
                path = self._find(use, name)
                if path is None:
                    continue
                if path in first_of:
                    self._problems.append(warning(message="is named twice here", **use.place))
                    continue
                first_of[path] = name
                self._use(path, use)

    def _names_in(self, cell: str) -> Iterator[str]:
        # A name may hold what stands between names.
        if self._files is not None and self._files.find(cell) is not None:
            yield cell
            return
        yield from filter(None, (name.strip() for name in _BETWEEN_NAMES.split(cell)))

    def _find(self, use: _Use, name: str) -> Path | None:
        if self._files is None:
            return None
        if not is_plain_name(name):
            message = "must be a file's name alone, without a folder"
        elif (found := self._files.find(name)) is None:
            message = f"is not in {self.folder.name}/"
        else:
            return self.folder / found
        self._problems.append(error(message=message, **use.place))
        return None

    def _use(self, path: Path, use: _Use) -> None:
        others = [one for one in self.uses.get(path, ()) if one.row is not None]
        if others and use.row is not None:
            message = f"is the {self._noun} of row {others[0].row} too"
            self._problems.append(warning(message=message, **use.place))
        self.uses.setdefault(path, []).append(use)
        self._of_candidate.setdefault(use.candidate, []).append(path)

    def name_cover(self, name: str, beside: Path | None) -> None:
        """What [page] says; `beside` is the file beside campaign.toml that it means, if so."""
        use = _Use({"file": MANIFEST_FILE, "column": COVER_KEY, "value": name}, None)
        path = beside or self._find(use, name)
        if path is not None:
            self._use(path, use)

    def has(self, name: str) -> bool:
        return self._files is not None and self._files.find(name) is not None

    def say(self, problem: Problem) -> None:
        self._problems.append(problem)

    def ids(self, id_of: Mapping[Path, str | None]) -> dict[str | None, tuple[str, ...]]:
        """Candidate id (None = the cover) -> ids of what is named and sound."""
        found = {
            candidate: tuple(filter(None, (id_of[path] for path in paths)))
            for candidate, paths in self._of_candidate.items()
        }
        return {candidate: ids for candidate, ids in found.items() if ids}


def _name_cover(photos: _Wanted, folder: Path, manifest: Manifest) -> None:
    beside = folder / COVER
    if manifest.cover is not None:
        in_photos = photos.has(manifest.cover)
        photos.name_cover(
            manifest.cover,
            beside if manifest.cover == COVER and not in_photos and beside.exists() else None,
        )
    if beside.exists() and beside not in photos.uses:
        photos.say(warning(COVER, f"{COVER_KEY} does not name it: not imported"))


def _photo_problems(use: _Use, examined: Examined) -> list[Problem]:
    if examined.fault:
        return [error(message=examined.fault, **use.place)]
    if examined.too_small and use.candidate is not None:
        message = f"the office asks for at least {BYTES_WISHED // 1_000_000} MB"
        return [warning(message=message, **use.place)]
    return []
