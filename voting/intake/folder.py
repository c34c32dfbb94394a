"""A whole folder, checked: all problems at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voting.intake.manifest import FILE as MANIFEST_FILE
from voting.intake.manifest import Manifest, read_manifest
from voting.intake.photos import (
    BYTES_WISHED,
    Card,
    Examined,
    PhotoFolder,
    examine_all,
    is_plain_name,
)
from voting.intake.problems import Problem, error, errors_in, warning
from voting.intake.roster import Listed, Roster, read_roster
from voting.intake.sheet import PHOTO, read_sheet

PHOTOS = "photos"
LIKES_PER_DEVICE_DAY_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What a folder holds, as far as it could be read."""

    manifest: Manifest | None
    roster: Roster | None
    photo_ids: dict[str, str]
    """Candidate id -> photo id, where there is a sound one."""
    cards: tuple[Card, ...]
    """New pictures; their files live as long as the scratch folder."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return errors_in(self.problems) == 0

    @property
    def candidates(self) -> int:
        return len(self.roster.candidates) if self.roster else 0


def check_folder(
    folder: Path,
    scratch: Path,
    known_photos: frozenset[str] = frozenset(),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Checked:
    """Read and check everything. Touches nothing but `scratch`; never raises for what is in the
    folder."""
    manifest, problems = read_manifest(folder)
    sheet, sheet_problems = read_sheet(folder)
    problems += sheet_problems
    roster = None
    photo_ids: dict[str, str] = {}
    cards: dict[str, Card] = {}
    if sheet is not None:
        roster, roster_problems = read_roster(sheet, manifest.channels if manifest else None)
        problems += roster_problems
        if manifest is not None:
            problems += _too_many_likes(manifest, len(roster.candidates))
        wanted, photo_problems = _wanted_photos(folder / PHOTOS, roster)
        problems += photo_problems
        examined = examine_all(
            wanted, known_photos, scratch, lambda done: progress(done, len(wanted))
        )
        for path, candidates in wanted.items():
            problems += _photo_problems(roster.file, candidates[0], examined[path])
            photo_id, card = examined[path].id, examined[path].card
            if photo_id is not None:
                photo_ids.update((candidate.id, photo_id) for candidate in candidates)
            if card is not None:
                cards[card.id] = card
    return Checked(manifest, roster, photo_ids, tuple(cards.values()), tuple(problems))


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


def _wanted_photos(folder: Path, roster: Roster) -> tuple[dict[Path, list[Listed]], list[Problem]]:
    """The files that rows name, each with its candidates in listed order."""
    problems: list[Problem] = []
    wanted: dict[Path, list[Listed]] = {}
    try:
        photos = PhotoFolder(folder)
    except OSError as why:
        return {}, [error(PHOTOS, f"cannot be read: {why.strerror}")]
    for candidate in roster.candidates:
        if candidate.photo is None:
            continue
        name = photos.find(candidate.photo) if is_plain_name(candidate.photo) else None
        if not is_plain_name(candidate.photo):
            message = "must be a file's name alone, without a folder"
        elif name is None:
            message = f"is not in {PHOTOS}/"
        else:
            sharing = wanted.setdefault(folder / name, [])
            sharing.append(candidate)
            if len(sharing) == 1:
                continue
            message = f"is the photo of row {sharing[0].row} too"
            problems.append(_of_photo(warning, roster.file, candidate, message))
            continue
        problems.append(_of_photo(error, roster.file, candidate, message))
    named = {path.name for path in wanted}
    problems += [
        warning(f"{PHOTOS}/{name}", "no row names it: not imported")
        for name in photos.names
        if name not in named and not name.startswith(".")
    ]
    return wanted, problems


def _photo_problems(file: str, candidate: Listed, examined: Examined) -> list[Problem]:
    if examined.fault:
        return [_of_photo(error, file, candidate, examined.fault)]
    if examined.too_small:
        message = f"the office asks for at least {BYTES_WISHED // 1_000_000} MB"
        return [_of_photo(warning, file, candidate, message)]
    return []


def _of_photo(level: Callable[..., Problem], file: str, candidate: Listed, message: str) -> Problem:
    return level(file, message, row=candidate.row, column=PHOTO, value=candidate.photo)
