"""Import in the console: an upload is checked while its page says how far that is, all problems are
listed with file, row and column, and what it would change is shown before anybody says yes.

    POST /imports          the upload -> a job
    GET  /imports/{job}    how far it is; then its problems, its first cards, what would change
    POST /imports/{job}    import it, or, where the campaign has opened, propose it

A job lives in this process, for an hour: whoever starts the console anew uploads anew.
"""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import asyncpg
import structlog
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from tally import proposals
from tally.campaigns.campaign_changes import REASON_CHARACTERS_MAX, TITLES
from tally.campaigns.imports import (
    CannotStage,
    import_now,
    needs_second_person,
    stage,
    summary_of,
)
from tally.campaigns.uploads import ARCHIVE_BYTES_MAX, FILES_MAX, gather, unpack
from tally.console import pages
from tally.console.control import REFUSED, sent
from tally.console.parts import Admin, Console, Staff, console_of, limiter
from tally.console.problem_words import in_chinese, in_english
from tally.translated import N_, Translate
from voting.catalog import PhotoForm, load_photo
from voting.changes import Kind
from voting.intake.folder import Checked, check_folder
from voting.intake.importer import forget_unnamed_videos, keep_videos
from voting.intake.problems import Level, Problem, errors_in
from voting.intake.save import Compared, compare, known_photos, write_photos
from voting.intake.text import clean, fault_of
from voting.intake.videos import BYTES_MAX as VIDEO_BYTES_MAX
from voting.media_files import importing

log = structlog.get_logger()
router = APIRouter()

JOBS_MAX = 4
"""Uploads that are held at once; each has its pictures on the disk."""
JOB_SECONDS = 3_600.0
PROBLEMS_SHOWN_MAX = 1_000
PHOTOS_AT_ONCE = 40
CARDS_PREVIEWED = 6
_FREE_BYTES = 1 << 30
"""Of the disk, that stay free whatever is uploaded."""

Text = Annotated[str, Form(max_length=1_000)]

NO_REASON = N_("Give a reason of at most {most} characters, without control characters.")
NO_ROOM = N_("There is not enough room on this machine's disk for an upload of this size.")
NO_ROOM_FOR_VIDEOS = N_(
    "The videos could not be copied into the data folder: ask who runs this machine for room."
)
TOO_MANY_JOBS = N_("Too many uploads are being worked on. Finish one, or wait an hour.")
GONE = N_("This upload is not here any more: upload it once more.")
NOTHING = N_("Choose a zip, or the files of a campaign.")
BROKEN = N_("The upload could not be checked: it was written down in the log of the console.")


@dataclass
class Job:
    """One upload on its way."""

    id: str
    staff: Staff
    folder: Path
    begun: float = field(default_factory=time.monotonic)
    problems: list[Problem] = field(default_factory=list)
    """Of the upload itself."""
    done: int = 0
    of: int = 0
    """Pictures and videos."""
    checked: Checked | None = None
    broken: bool = False
    busy: bool = False
    """Somebody is importing it."""
    task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self.checked is not None or self.broken


class Jobs:
    """The uploads that this process works on; kept in app.state."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def new(self, staff: Staff) -> Job | None:
        """None where there are too many."""
        now = time.monotonic()
        for job in [one for one in self._jobs.values() if now - one.begun > JOB_SECONDS]:
            self.end(job)
        if len(self._jobs) >= JOBS_MAX:
            return None
        folder = Path(tempfile.mkdtemp(prefix="dianzan-import-"))
        job = Job(secrets.token_urlsafe(12), staff, folder)
        # Also where this process ends before the job does.
        weakref.finalize(job, shutil.rmtree, folder, ignore_errors=True)
        self._jobs[job.id] = job
        return job

    def find(self, id_: str) -> Job | None:
        return self._jobs.get(id_)

    def end(self, job: Job) -> None:
        """Forget it, and everything of it on the disk."""
        self._jobs.pop(job.id, None)
        if job.task is not None:
            job.task.cancel()
        shutil.rmtree(job.folder, ignore_errors=True)


def _jobs_of(request: Request) -> Jobs:
    jobs: Jobs | None = getattr(request.app.state, "import_jobs", None)
    if jobs is None:
        jobs = request.app.state.import_jobs = Jobs()
    return jobs


@router.get("/imports")
@limiter.limit("60/minute")
async def get_imports(request: Request, staff: Admin) -> Response:
    return _upload_page(request, staff)


@router.post("/imports", max_body_size=ARCHIVE_BYTES_MAX + (16 << 20))
@limiter.limit("20/minute")
async def post_imports(request: Request, staff: Admin) -> Response:
    """Read here, not by FastAPI before it knows who sends it: an upload may be gigabytes."""
    length = int(request.headers.get("content-length") or ARCHIVE_BYTES_MAX)
    # Once as it comes, once unpacked.
    if shutil.disk_usage(tempfile.gettempdir()).free < 2 * length + _FREE_BYTES:
        return _upload_page(request, staff, NO_ROOM, status=507)
    jobs = _jobs_of(request)
    async with sent(request, max_files=FILES_MAX, max_fields=10) as form:
        files = [
            one for one in form.getlist("files") if isinstance(one, UploadFile) and one.filename
        ]
        if not files:
            return _upload_page(request, staff, NOTHING, status=422)
        job = jobs.new(staff)
        if job is None:
            return _upload_page(request, staff, TOO_MANY_JOBS, status=429)
        try:
            into = job.folder / "campaign"
            job.problems = await asyncio.to_thread(_take, files, into)
        except OSError as why:
            log.warning("upload-not-written", why=why.strerror)
            jobs.end(job)
            return _upload_page(request, staff, NO_ROOM, status=507)
        except BaseException:
            jobs.end(job)
            raise
    job.task = asyncio.create_task(_check(job, console_of(request)))
    return pages.back(f"/imports/{job.id}")


def _take(files: list[UploadFile], into: Path) -> list[Problem]:
    into.mkdir()
    names = [file.filename or "" for file in files]
    if len(files) == 1 and names[0].lower().endswith(".zip"):
        return unpack(files[0].file, into)
    pairs = [(name, file.file) for name, file in zip(names, files, strict=True)]
    return gather(pairs, into)


async def _check(job: Job, console: Console) -> None:
    """In a thread; the page asks how far it is."""
    folder = job.folder

    def progress(done: int, of: int) -> None:
        job.done, job.of = done, of

    try:
        async with console.pool.acquire() as connection:
            known = await known_photos(connection)
        scratch = folder / "cards"
        scratch.mkdir()
        job.checked = await asyncio.to_thread(
            check_folder, folder / "campaign", scratch, known, progress
        )
    except Exception:
        log.exception("import-not-checked")
        job.broken = True


@router.get("/imports/{job_id}")
@limiter.limit("120/minute")
async def get_import(request: Request, staff: Admin, job_id: str) -> Response:
    job = _jobs_of(request).find(job_id)
    if job is None:
        return _upload_page(request, staff, GONE, status=404)
    return await _job_page(request, staff, job)


@router.get("/imports/{job_id}/photos/{photo_id}")
@limiter.limit("600/minute")
async def get_import_photo(request: Request, staff: Admin, job_id: str, photo_id: str) -> Response:
    """A picture of an upload: new ones are with the job, the others are known already."""
    job = _jobs_of(request).find(job_id)
    if job is None or job.checked is None or photo_id not in job.checked.photo_ids.values():
        raise HTTPException(404)
    card = next((one for one in job.checked.cards if one.id == photo_id), None)
    if card is not None:
        content: bytes | None = await asyncio.to_thread(card.jpeg.read_bytes)
    else:
        async with console_of(request).pool.acquire() as connection:
            content = await load_photo(connection, photo_id, PhotoForm.JPEG)
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="image/jpeg")


@router.post("/imports/{job_id}")
@limiter.limit("20/minute")
async def post_import(
    request: Request,
    staff: Admin,
    job_id: str,
    step: Text = "",
    reason: Text = "",
    accept: Text = "",
) -> Response:
    jobs = _jobs_of(request)
    job = jobs.find(job_id)
    if job is None:
        return _upload_page(request, staff, GONE, status=404)
    if step == "discard":
        jobs.end(job)
        return pages.back("/imports")
    if job.checked is None or job.busy:
        raise HTTPException(409)
    reason = clean(reason)
    if not reason or len(reason) > REASON_CHARACTERS_MAX or fault_of(reason):
        return await _job_page(request, staff, job, NO_REASON, reason=reason, status=422)
    job.busy = True
    try:
        console = console_of(request)
        async with console.pool.acquire() as connection:
            said = await _import_with_videos(
                console, connection, staff, job, job.checked, reason, accepted=accept == "yes"
            )
    except _NotImported as why:
        return await _job_page(request, staff, job, why.why, reason=reason, status=422)
    finally:
        job.busy = False
    assert job.checked.manifest is not None
    jobs.end(job)
    return pages.back(f"/control/{job.checked.manifest.id}", said=said)


class _NotImported(Exception):
    """Nothing was written; the page says why: by its problems, or in this text of ours."""

    def __init__(self, why: str | None = None) -> None:
        super().__init__(why or "")
        self.why = why


async def _import_with_videos(
    console: Console,
    connection: asyncpg.Connection,
    staff: Staff,
    job: Job,
    checked: Checked,
    reason: str,
    *,
    accepted: bool,
) -> str:
    """As `_import`, with the videos' files in their place before the rows that name them."""
    if not checked.videos:
        return await _import(connection, staff, job, checked, reason, accepted=accepted)
    media = console.settings.media_path
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(importing(media))
            await asyncio.to_thread(keep_videos, media, checked.videos)
        except OSError as why:
            log.warning("videos-not-kept", why=why.strerror)
            raise _NotImported(NO_ROOM_FOR_VIDEOS) from None
        said = await _import(connection, staff, job, checked, reason, accepted=accepted)
    await forget_unnamed_videos(connection, media)
    return said


async def _import(
    connection: asyncpg.Connection,
    staff: Staff,
    job: Job,
    checked: Checked,
    reason: str,
    *,
    accepted: bool,
) -> str:
    """Write it or propose it; the key of what is said then. In one transaction: whether it takes a
    second person must not change meanwhile, and no proposal is without what it would bring in."""
    # Pictures first, some at a time: a hundred megabytes in one statement would be cut off as late.
    # They are found by their digests alone, so those of an import that fails are nowhere.
    for start in range(0, len(checked.cards), PHOTOS_AT_ONCE):
        await write_photos(connection, checked.cards[start : start + PHOTOS_AT_ONCE])
    checked = replace(checked, cards=())
    async with connection.transaction():
        compared = None
        if not errors_in([*job.problems, *checked.problems]):
            compared = await compare(connection, checked, accept_changes=accepted)
        if compared is None or errors_in(compared.problems):
            raise _NotImported
        if not needs_second_person(compared):
            await import_now(
                connection,
                checked,
                accept_changes=accepted,
                by=staff.name,
                role=staff.role,
                reason=reason,
            )
            return "imported"
        try:
            campaign, content = await stage(connection, checked, made_by=staff.name, reason=reason)
        except CannotStage:
            raise _NotImported from None
        answer = await proposals.propose(
            connection, "import", campaign=campaign, content=content, reason=reason, by=staff.number
        )
        if not answer.done:
            raise _NotImported(REFUSED.get(answer.outcome, answer.said or answer.outcome.value))
        return "change-proposed"


def _upload_page(
    request: Request, staff: Staff, why: str | None = None, *, status: int = 200
) -> Response:
    return pages.render(
        request,
        "control_import.html",
        staff=staff,
        status=status,
        why=why,
        gigabytes=ARCHIVE_BYTES_MAX >> 30,
        files_most=FILES_MAX,
        video_mb=VIDEO_BYTES_MAX // 1_000_000,
    )


async def _job_page(
    request: Request,
    staff: Staff,
    job: Job,
    why: str | None = None,
    *,
    reason: str = "",
    status: int = 200,
) -> Response:
    compared: Compared | None = None
    problems = list(job.problems)
    needs_accept = False
    if job.checked is not None:
        problems += job.checked.problems
        async with console_of(request).pool.acquire() as connection:
            compared = await compare(connection, job.checked, accept_changes=False)
        if compared is not None:
            # What a person may mean is not an error here: it is asked below.
            needs_accept = bool(errors_in(compared.problems))
    errors = errors_in(problems)
    _ = pages.translator_of(request)
    in_order: Callable[[Problem], tuple[str, int]] = lambda one: (one.file, one.row or 0)  # noqa: E731
    shown = sorted([*problems, *(compared.problems if compared else [])], key=in_order)
    return pages.render(
        request,
        "control_import_job.html",
        staff=staff,
        status=status,
        job=job,
        why=_(why, most=REASON_CHARACTERS_MAX) if why else None,
        broken=BROKEN,
        manifest=job.checked.manifest if job.checked else None,
        candidates=job.checked.candidates if job.checked else 0,
        extras=_extras(job.checked, _) if job.checked else [],
        # What has errors may hold anything.
        previewed=_previewed(job.checked) if job.checked and not errors else [],
        photos_at=f"/imports/{job.id}/photos",
        problems=shown[:PROBLEMS_SHOWN_MAX],
        in_words=in_chinese if pages.language_of(request) == "zh" else in_english,
        problems_in_all=len(shown),
        errors=errors,
        level_error=Level.ERROR,
        needs_accept=needs_accept,
        may_import=compared is not None and not errors,
        is_new=compared is not None and compared.campaign is None,
        two_persons=compared is not None and needs_second_person(compared),
        in_public=compared is not None and compared.has_opened,
        changes=[
            (_(TITLES[Kind(kind)]), number)
            for kind, number in (summary_of(compared).items() if compared else ())
        ],
        reason=reason,
        reason_most=REASON_CHARACTERS_MAX,
    )


class Previewed(NamedTuple):
    """A candidate who is not imported yet, as the card's template takes one."""

    name: str
    organisation: str
    title: str
    summary: str
    photo: str | None
    story: str
    more_photos: tuple[str, ...]
    video: str | None
    withdrawn_at: None = None


def _previewed(checked: Checked) -> list[Previewed]:
    roster = checked.roster.candidates[:CARDS_PREVIEWED] if checked.roster else ()
    return [
        Previewed(
            *(one.name, one.organisation, one.title, one.summary),
            checked.photo_ids.get(one.id),
            one.story,
            checked.more_photo_ids.get(one.id, ()),
            checked.video_ids.get(one.id),
        )
        for one in roster
    ]


def _extras(checked: Checked, _: Translate) -> list[str]:
    """What comes along with the candidates."""
    roster = checked.roster.candidates if checked.roster else ()
    found = (
        (N_("{n} photos"), len(checked.photo_ids)),
        (N_("{n} further photos"), sum(map(len, checked.more_photo_ids.values()))),
        (N_("{n} stories"), sum(bool(one.story) for one in roster)),
        (N_("{n} videos"), len(checked.video_ids)),
    )
    said = [_(text, n=number) for text, number in found if number]
    return [*said, _(N_("a cover"))] if checked.cover else said
