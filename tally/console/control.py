"""Pages of a campaign's life: its state, every change that may be made of it, its candidates.

A change goes over three steps, each a page that works without a script: its form, what will happen
(was, becomes, whether the public is shown it, whether it takes a second person), and it is done or
proposed. The form carries the version of the campaign that it was made from: where somebody changed
it meanwhile, the answer says what, and nothing is done. What may be changed when is
tally/campaigns/campaign_changes.py's to say.
"""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from redis.exceptions import RedisError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect

from tally import proposals
from tally.campaigns.campaign_changes import (
    FIELD_TITLES,
    REASON_CHARACTERS_MAX,
    TITLES,
    WHEN,
    CampaignNow,
    CandidateNow,
    Change,
    ChangeRefused,
    Entry,
    Fault,
    NeedsSecondPerson,
    StaleChange,
    State,
    UnknownCampaign,
    apply,
    content_of,
    list_campaigns,
    list_candidates,
    look,
    read_campaign,
    read_candidate,
    read_changes,
)
from tally.closing import ClosingError, keep_closings
from tally.console import pages
from tally.console.parts import Admin, Console, Role, Staff, Viewing, console_of, limiter
from tally.console.problem_words import in_chinese
from tally.translated import N_, Translate
from voting.campaign import Identity, Order, Visibility
from voting.catalog import PhotoForm, load_photo
from voting.changes import Kind
from voting.identity import key_shown
from voting.intake.photos import BYTES_MAX as PHOTO_BYTES_MAX
from voting.intake.photos import examine
from voting.intake.roster import FIELDS
from voting.intake.save import known_photos, write_photos

log = structlog.get_logger()
router = APIRouter()

CARDS_A_PAGE = 48
CHANGES_A_PAGE = 200
_NEWEST_CHANGES = 8
_FORM_BYTES_MAX = PHOTO_BYTES_MAX + (1 << 20)
_PART_BYTES_MAX = 64 << 10
_CLOSE_SECONDS = 2.0
_PHOTO_ID = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_LOCAL = "%Y-%m-%dT%H:%M"

STATES = {
    State.BEFORE: ("info", N_("Not open yet")),
    State.OPEN: ("good", N_("Open")),
    State.AFTER: ("", N_("Closed")),
}
VISIBILITIES = {
    Visibility.LIVE: N_("Shown live"),
    Visibility.DAILY: N_("Shown once a day"),
    Visibility.AFTER_CLOSE: N_("Shown after the close"),
    Visibility.STAFF: N_("Shown to staff alone"),
}
ORDERS = {Order.RANDOM: N_("Random"), Order.LISTED: N_("As listed")}
IDENTITIES = {Identity.OPTIONAL: N_("Optional"), Identity.REQUIRED: N_("Required")}
NO_LIMIT = N_("no limit")


class Input(NamedTuple):
    """One field of a form."""

    name: str
    form: str
    """moment, number, choice, minute, text, area, photo, hidden."""
    hint: str = ""
    choices: Mapping[str, str] = {}
    most: int = 0
    """Characters."""


class Form(NamedTuple):
    """The form of one kind of change."""

    ask: str
    """What its button and its page are called."""
    effect: str
    """What happens, in words."""
    inputs: tuple[Input, ...] = ()
    danger: bool = False


_OFFSET = N_("In the campaign's time zone, unless you write an offset.")
_ZERO = N_("0 = no limit.")
_YES_NO = {"yes": N_("A rehearsal"), "no": N_("The real thing")}
_AREAS = {"summary": "area", "story": "area"}
_HINTS = {
    "story": N_("For the candidate's page; may be empty. Each line becomes a paragraph."),
}
_PERSON = (
    *(
        Input(
            one.name,
            _AREAS.get(one.name, "text"),
            _HINTS.get(one.name, ""),
            {},
            one.most_characters,
        )
        for one in FIELDS
    ),
    Input("photo", "photo", N_("A JPEG of up to 50 MB; it is shown in two sizes.")),
)

FORMS: Mapping[Kind, Form] = {
    Kind.PAUSED: Form(
        N_("Pause"),
        N_("No likes are taken from within 2 seconds on. The public reads your reason."),
        danger=True,
    ),
    Kind.RESUMED: Form(N_("Resume"), N_("Likes are taken again within 2 seconds.")),
    Kind.OPENED: Form(N_("Open now"), N_("Likes are taken from now on, before the set time.")),
    Kind.EXTENDED: Form(
        N_("Extend"),
        N_("Likes are taken until the new time."),
        (Input("closes_at", "moment", _OFFSET),),
    ),
    Kind.CLOSED: Form(
        N_("Close now"),
        N_("Likes end now, before the set time. What was answered until then counts."),
        danger=True,
    ),
    Kind.REOPENED: Form(
        N_("Open again"),
        N_(
            "Likes are taken again until the new time. That it was closed before stays in the "
            "record, for everybody to see; what was sealed stays sealed."
        ),
        (Input("closes_at", "moment", _OFFSET),),
        danger=True,
    ),
    Kind.WINDOW: Form(
        N_("Change times"),
        N_("Likes are taken in the new time alone."),
        (Input("opens_at", "moment", _OFFSET), Input("closes_at", "moment", _OFFSET)),
    ),
    Kind.QUOTA: Form(
        N_("Change quotas"),
        N_("In force within 2 seconds. Likes that were given stay, and count towards the quotas."),
        (
            Input("likes_per_candidate_per_day", "number"),
            Input("candidates_per_day", "number", _ZERO),
            Input("likes_per_campaign", "number", _ZERO),
        ),
    ),
    Kind.VISIBILITY: Form(
        N_("Change visibility"),
        N_(
            "In force within 2 seconds on every path: cards, data, images. Staff see counts always."
        ),
        (
            Input("counts", "choice", choices={one.value: VISIBILITIES[one] for one in Visibility}),
            Input("counts_daily_at", "minute", N_("Where counts are shown once a day.")),
            Input("order", "choice", choices={one.value: ORDERS[one] for one in Order}),
        ),
    ),
    Kind.LIMITS: Form(
        N_("Change limits"),
        N_("In force within 2 seconds. Above a network's limit likes are held, not refused."),
        (
            Input("per_device", "text", N_("As in 30/minute: second, minute or hour."), most=20),
            Input("per_network", "text", N_("As in 1200/minute."), most=20),
        ),
    ),
    Kind.CANDIDATE_ADDED: Form(
        N_("Add a candidate"),
        N_("Their card is there within 2 seconds, at the end of the list, without a like."),
        (
            Input("id", "text", N_("1 to 32 of A-Z, a-z, 0-9, _ and -; never changed."), most=32),
            *_PERSON,
        ),
    ),
    Kind.CANDIDATE_CORRECTED: Form(
        N_("Correct"),
        N_(
            "The card shows it within 2 seconds. Votes stay with the candidate's number: another "
            "name is right only where it is the same person."
        ),
        _PERSON,
    ),
    Kind.CANDIDATE_WITHDRAWN: Form(
        N_("Withdraw"),
        N_(
            "The card says that they have withdrawn, and takes no likes. Votes and number stay; "
            "the publication notes it."
        ),
        danger=True,
    ),
    Kind.CANDIDATE_RETURNED: Form(
        N_("Let come back"), N_("The card takes likes again. All votes are there still.")
    ),
    Kind.PORTAL_OFF: Form(
        N_("Switch off"),
        N_("Every card on this portal stops taking likes within 2 seconds."),
        (Input("origin", "hidden"),),
        danger=True,
    ),
    Kind.PORTAL_ON: Form(
        N_("Switch on"),
        N_("Cards on this portal take likes again within 2 seconds."),
        (Input("origin", "hidden"),),
    ),
    Kind.TEST: Form(
        N_("Rehearsal or not"),
        N_(
            "Of a rehearsal nothing is published, it counts nowhere, and its rules take one "
            "person. From the opening on this stays as it is."
        ),
        (Input("is_test", "choice", choices=_YES_NO),),
    ),
}
"""What staff can do, in the order of the page. A test holds it to campaign_changes.WHEN."""

_OF_CAMPAIGN = tuple(kind for kind in FORMS if not kind.value.startswith(("candidate-", "portal-")))
REFUSED = {
    proposals.Outcome.NOT_ALLOWED: N_("Your role does not allow this, or not any more."),
    proposals.Outcome.TOO_MANY: N_("Too many proposals wait already: settle some first."),
    proposals.Outcome.NO_REASON: N_("Give a reason."),
}


# Looking.


@router.get("/control")
@limiter.limit("120/minute")
async def get_control(request: Request, staff: Viewing) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaigns = await list_campaigns(connection)
    return pages.render(
        request, "control.html", staff=staff, campaigns=campaigns, states=STATES,
        is_admin=staff.role is Role.ADMIN,
    )  # fmt: skip


@router.get("/control/{campaign_id}")
@limiter.limit("120/minute")
async def get_campaign(request: Request, staff: Viewing, campaign_id: str) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await _campaign(connection, campaign_id)
        candidates = await list_candidates(connection, campaign.number)
        changes = await read_changes(connection, campaign.number, at_most=_NEWEST_CHANGES)
        waiting = [
            one
            for one in await proposals.list_proposals(connection, campaign.number)
            if one.kind in ("change", "import")
        ]
    _ = pages.translator_of(request)
    return pages.render(
        request,
        "control_campaign.html",
        staff=staff,
        campaign=campaign,
        candidates=candidates,
        withdrawn=sum(one.withdrawn_at is not None for one in candidates),
        states=STATES,
        facts=_facts(campaign, _),
        buttons=_buttons(campaign) if staff.role is Role.ADMIN else [],
        forms=FORMS,
        kinds=Kind,
        key_shown=key_shown,
        changes=_shown_changes(campaign, changes, _),
        waiting=[(one, proposals.KINDS[one.kind].describe(one.content, _)) for one in waiting],
        is_admin=staff.role is Role.ADMIN,
    )


@router.get("/control/{campaign_id}/history")
@limiter.limit("120/minute")
async def get_history(
    request: Request, staff: Viewing, campaign_id: str, public: str = ""
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await _campaign(connection, campaign_id)
        changes = await read_changes(
            connection, campaign.number, public_only=public == "1", at_most=CHANGES_A_PAGE
        )
    _ = pages.translator_of(request)
    return pages.render(
        request, "control_history.html", staff=staff, campaign=campaign, public=public == "1",
        changes=_shown_changes(campaign, changes, _), most=CHANGES_A_PAGE,
    )  # fmt: skip


@router.get("/control/{campaign_id}/candidates")
@limiter.limit("120/minute")
async def get_candidates(request: Request, staff: Viewing, campaign_id: str) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await _campaign(connection, campaign_id)
        candidates = await list_candidates(connection, campaign.number)
    return pages.render(
        request, "control_candidates.html", staff=staff, campaign=campaign, candidates=candidates,
        may_add=staff.role is Role.ADMIN and campaign.allows(Kind.CANDIDATE_ADDED),
    )  # fmt: skip


@router.get("/control/{campaign_id}/candidates/{candidate_id}")
@limiter.limit("120/minute")
async def get_candidate(
    request: Request, staff: Viewing, campaign_id: str, candidate_id: str
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await _campaign(connection, campaign_id)
        candidate = await _candidate(connection, campaign, candidate_id)
        history = await read_changes(connection, campaign.number, candidate=candidate.number)
    _ = pages.translator_of(request)
    kinds = (
        [Kind.CANDIDATE_CORRECTED, Kind.CANDIDATE_WITHDRAWN]
        if candidate.withdrawn_at is None
        else [Kind.CANDIDATE_RETURNED, Kind.CANDIDATE_CORRECTED]
    )
    return pages.render(
        request, "control_candidate.html", staff=staff, campaign=campaign, candidate=candidate,
        history=_shown_changes(campaign, history, _), titles=FIELD_TITLES,
        kinds=kinds if staff.role is Role.ADMIN else [], forms=FORMS,
    )  # fmt: skip


@router.get("/control/{campaign_id}/preview")
@limiter.limit("60/minute")
async def get_preview(
    request: Request, staff: Viewing, campaign_id: str, page: int = 1
) -> Response:
    """Cards as the public gets them, without a count and with a button that does nothing."""
    async with console_of(request).pool.acquire() as connection:
        campaign = await _campaign(connection, campaign_id)
        candidates = await list_candidates(connection, campaign.number)
    pages_in_all = max(1, -(-len(candidates) // CARDS_A_PAGE))
    page = min(max(1, page), pages_in_all)
    return pages.render(
        request, "control_preview.html", staff=staff, campaign=campaign, page=page,
        pages=pages_in_all,
        candidates=candidates[(page - 1) * CARDS_A_PAGE : page * CARDS_A_PAGE],
    )  # fmt: skip


@router.get("/photos/{photo_id}")
@limiter.limit("600/minute")
async def get_photo(request: Request, staff: Viewing, photo_id: str) -> Response:
    """A candidate's picture as the card has it."""
    photo = None
    if _PHOTO_ID.fullmatch(photo_id):
        async with console_of(request).pool.acquire() as connection:
            photo = await load_photo(connection, photo_id, PhotoForm.JPEG)
    if photo is None:
        raise HTTPException(404)
    return Response(photo, media_type="image/jpeg")


# Changing.


@dataclass(slots=True)
class _Asked:
    """What a form says, or is to say."""

    kind: Kind
    campaign: CampaignNow
    candidate: CandidateNow | None = None
    entered: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    made_from: int = 0
    faults: tuple[Fault, ...] = ()

    @property
    def change(self) -> Change:
        zone = self.campaign.zone
        values = {
            each.name: _zoned(self.entered[each.name], zone)
            if each.form == "moment"
            else self.entered[each.name]
            for each in FORMS[self.kind].inputs
            if each.name in self.entered
        }
        candidate = self.candidate.id if self.candidate else None
        return Change(self.kind, values, candidate, self.reason)

    @property
    def home(self) -> str:
        """The page that the form was opened from."""
        base = f"/control/{self.campaign.id}"
        return f"{base}/candidates/{self.candidate.id}" if self.candidate else base


@router.get("/control/{campaign_id}/change/{kind}")
@limiter.limit("120/minute")
async def get_change(
    request: Request,
    staff: Admin,
    campaign_id: str,
    kind: str,
    candidate: str = "",
    origin: str = "",
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        asked = await _asked(connection, campaign_id, kind, candidate)
    asked.made_from = asked.campaign.version
    asked.entered = _as_it_is(asked) | ({"origin": origin} if origin else {})
    return _form_page(request, staff, asked)


@router.post("/control/{campaign_id}/change/{kind}", max_body_size=_FORM_BYTES_MAX)
@limiter.limit("60/minute")
async def post_change(request: Request, staff: Admin, campaign_id: str, kind: str) -> Response:
    # Read here, not by FastAPI before it knows who sends it: a picture is up to 50 MB.
    async with sent(request, max_files=1, max_fields=40, max_part_size=_PART_BYTES_MAX) as form:
        said = {name: text for name, text in form.items() if isinstance(text, str)}
        photo = form.get("photo_file")
        console = console_of(request)
        async with console.pool.acquire() as connection:
            asked = await _asked(connection, campaign_id, kind, said.get("candidate", ""))
            asked.entered = {name: text for name, text in said.items() if name in FIELD_TITLES}
            asked.reason, asked.made_from = said.get("reason", ""), _whole(said.get("made_from"))
            if isinstance(photo, UploadFile) and photo.filename:
                words = in_chinese if pages.language_of(request) == "zh" else str
                fault = await _take_photo(connection, photo, asked, words)
                if fault is not None:
                    asked.faults = (fault,)
                    return _form_page(request, staff, asked, status=422)
            if said.get("photo_gone") == "yes":
                asked.entered["photo"] = ""
            try:
                if said.get("step") == "do":
                    return await _do(request, staff, connection, asked)
                return await _confirm(request, staff, connection, asked)
            except StaleChange as stale:
                return _stale_page(request, staff, asked, stale.since)
            except ChangeRefused as refused:
                asked.faults = refused.faults
                return _form_page(request, staff, asked, status=422)


async def _confirm(
    request: Request, staff: Staff, connection: asyncpg.Connection, asked: _Asked
) -> Response:
    """What will happen, and a button."""
    campaign = asked.campaign
    if asked.made_from != campaign.version:
        since = await read_changes(connection, campaign.number, after=asked.made_from)
        raise StaleChange(since)
    change = asked.change
    ground = await look(connection, campaign.id, change)
    _ = pages.translator_of(request)
    return pages.render(
        request,
        "control_confirm.html",
        staff=staff,
        asked=asked,
        change=change,
        form=FORMS[asked.kind],
        rows=_rows(campaign, ground["was"], ground["becomes"], _),
        in_public=campaign.shows_in_public(asked.kind),
        two_persons=campaign.needs_second_person(asked.kind),
    )


async def _do(
    request: Request, staff: Staff, connection: asyncpg.Connection, asked: _Asked
) -> Response:
    campaign, change = asked.campaign, asked.change
    try:
        applied = await apply(
            connection,
            campaign.id,
            change,
            by=staff.name,
            role=staff.role,
            made_from=asked.made_from,
        )
    except NeedsSecondPerson:
        answer = await proposals.propose(
            connection,
            "change",
            campaign=campaign.number,
            content=content_of(campaign.id, change),
            reason=change.reason,
            by=staff.number,
        )
        if answer.done:
            return pages.back(asked.home, said="change-proposed")
        text = REFUSED.get(answer.outcome, answer.said or answer.outcome.value)
        asked.faults = (Fault("kind", text),)
        return _form_page(request, staff, asked, status=422)
    if applied.campaign.state is not campaign.state:
        await _keep_closings(console_of(request), connection)
    if asked.kind is Kind.CANDIDATE_ADDED:
        added = change.values["id"].strip()
        return pages.back(f"/control/{campaign.id}/candidates/{added}", said="change-made")
    return pages.back(asked.home, said="change-made")


async def _keep_closings(console: Console, connection: asyncpg.Connection) -> None:
    """The journals' entries at once. Where the store is away, the publisher writes them when it is
    back: until then the ballot box goes by the window."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await keep_closings(connection, console.hot)
    except (RedisError, ClosingError, OSError, TimeoutError) as why:
        log.warning("closing-left-to-the-publisher", why=f"{type(why).__name__}: {why}")


async def _asked(
    connection: asyncpg.Connection, campaign_id: str, kind: str, candidate_id: str
) -> _Asked:
    with contextlib.suppress(ValueError):
        known = Kind(kind)
        if known in FORMS:
            campaign = await _campaign(connection, campaign_id)
            candidate = None
            if kind.startswith("candidate-") and known is not Kind.CANDIDATE_ADDED:
                candidate = await _candidate(connection, campaign, candidate_id)
            return _Asked(known, campaign, candidate)
    raise HTTPException(404)


async def _campaign(connection: asyncpg.Connection, campaign_id: str) -> CampaignNow:
    try:
        return await read_campaign(connection, campaign_id)
    except UnknownCampaign:
        raise HTTPException(404) from None


async def _candidate(
    connection: asyncpg.Connection, campaign: CampaignNow, candidate_id: str
) -> CandidateNow:
    candidate = None
    if re.fullmatch("[A-Za-z0-9_-]{1,32}", candidate_id):
        candidate = await read_candidate(connection, campaign.number, candidate_id)
    if candidate is None:
        raise HTTPException(404)
    return candidate


def _as_it_is(asked: _Asked) -> dict[str, str]:
    """What a form begins with."""
    campaign, rules = asked.campaign, asked.campaign.rules
    match asked.kind:
        case Kind.EXTENDED | Kind.WINDOW | Kind.REOPENED:
            return {
                "opens_at": campaign.window.opens_at.strftime(_LOCAL),
                "closes_at": campaign.window.closes_at.strftime(_LOCAL),
            }
        case Kind.QUOTA:
            return {
                "likes_per_candidate_per_day": str(rules.likes_per_candidate_per_day),
                "candidates_per_day": str(rules.candidates_per_day),
                "likes_per_campaign": str(rules.likes_per_campaign),
            }
        case Kind.VISIBILITY:
            return {
                "counts": rules.counts.value,
                "counts_daily_at": rules.counts_daily_at.isoformat("minutes"),
                "order": rules.order.value,
            }
        case Kind.LIMITS:
            return {
                "per_device": str(campaign.limits.per_device),
                "per_network": str(campaign.limits.per_network),
            }
        case Kind.TEST:
            return {"is_test": "yes" if campaign.is_test else "no"}
        case Kind.CANDIDATE_CORRECTED if asked.candidate is not None:
            held = asked.candidate.facts()
            return {one.name: held[one.name] or "" for one in FORMS[asked.kind].inputs}
    return {}


def _form_page(request: Request, staff: Staff, asked: _Asked, *, status: int = 200) -> Response:
    _ = pages.translator_of(request)
    said = {fault.field: _(fault.text, **fault.values) for fault in asked.faults}
    inputs = FORMS[asked.kind].inputs
    elsewhere = [text for name, text in said.items() if name not in {i.name for i in inputs}]
    if not asked.campaign.allows(asked.kind) and not elsewhere:
        elsewhere = [_(N_("This cannot be done now."))]
    return pages.render(
        request,
        "control_form.html",
        staff=staff,
        status=status,
        asked=asked,
        form=FORMS[asked.kind],
        titles=FIELD_TITLES,
        faults=said,
        elsewhere=[text for text in elsewhere if text != said.get("reason")],
        reason_most=REASON_CHARACTERS_MAX,
        in_public=asked.campaign.shows_in_public(asked.kind),
    )


def _stale_page(request: Request, staff: Staff, asked: _Asked, since: list[Entry]) -> Response:
    _ = pages.translator_of(request)
    return pages.render(
        request,
        "control_stale.html",
        staff=staff,
        status=409,
        asked=asked,
        campaign=asked.campaign,
        changes=_shown_changes(asked.campaign, since, _),
    )


async def _take_photo(
    connection: asyncpg.Connection,
    photo: UploadFile,
    asked: _Asked,
    words: Callable[[str], str],
) -> Fault | None:
    """Make the card's picture of an upload and keep it under its id; what is wrong with it, if so.
    The picture of a change that is never made stays, and is shown nowhere."""
    known = await known_photos(connection)
    with tempfile.TemporaryDirectory(prefix="dianzan-") as folder:
        path = Path(folder) / "photo.jpg"
        examined = await asyncio.to_thread(_examine, photo, path, known)
        if examined.id is None:
            return Fault("photo", N_("cannot be taken: {why}"), {"why": words(examined.fault)})
        if examined.card is not None:
            await write_photos(connection, [examined.card])
    asked.entered["photo"] = examined.id
    return None


def _examine(photo: UploadFile, path: Path, known: frozenset[str]) -> Any:
    with path.open("wb") as file:
        while piece := photo.file.read(1 << 20):
            file.write(piece)
    return examine(path, known, path.parent)


def _whole(text: str | None) -> int:
    if text is None or not re.fullmatch("[0-9]{1,9}", text):
        raise HTTPException(422)
    return int(text)


def _zoned(text: str, zone: ZoneInfo) -> str:
    """A moment as a browser's field has it, with the campaign's offset. What is none, or is not
    there because the clocks were put forward, stays as it is and is refused."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    if moment.utcoffset() is not None:
        return text
    there = moment.replace(tzinfo=zone)
    back = there.astimezone(ZoneInfo("UTC")).astimezone(zone)
    return there.isoformat() if back.replace(tzinfo=None) == moment else text


@contextlib.asynccontextmanager
async def sent(request: Request, **limits: int) -> AsyncIterator[FormData]:
    """A form that a route reads by itself, its files closed at the end."""
    try:
        async with request.form(**limits) as form:
            yield form
    except ClientDisconnect:
        raise HTTPException(400) from None  # nobody reads it


# How things are shown.


class Row(NamedTuple):
    """One field of a change."""

    title: str
    was: str
    becomes: str


class Shown(NamedTuple):
    """One entry of the list of changes."""

    entry: Entry
    title: str
    rows: list[Row]


def _shown_changes(campaign: CampaignNow, entries: list[Entry], _: Translate) -> list[Shown]:
    return [
        Shown(one, _(TITLES[one.kind]), _rows(campaign, one.was, one.became, _)) for one in entries
    ]


def _rows(
    campaign: CampaignNow, was: Mapping[str, Any], becomes: Mapping[str, Any], _: Translate
) -> list[Row]:
    return [
        Row(
            _(FIELD_TITLES.get(name, name)),
            _value(campaign, name, was.get(name), _) if name in was else "",
            _value(campaign, name, becomes.get(name), _),
        )
        for name in becomes
    ]


def _value(campaign: CampaignNow, name: str, value: Any, _: Translate) -> str:
    if name in ("opens_at", "closes_at") and value == "now":
        return _(N_("now"))
    if name in ("opens_at", "closes_at") and isinstance(value, str):
        moment = datetime.fromisoformat(value).astimezone(campaign.zone)
        return moment.strftime("%Y-%m-%d %H:%M:%S")
    if name == "counts" and value in list(Visibility):
        return _(VISIBILITIES[Visibility(value)])
    if name == "order" and value in list(Order):
        return _(ORDERS[Order(value)])
    if name == "identity" and value in list(Identity):
        return _(IDENTITIES[Identity(value)])
    if name in ("candidates_per_day", "likes_per_campaign") and value == 0:
        return _(NO_LIMIT)
    if isinstance(value, bool):
        return _(N_("yes") if value else N_("no"))
    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _facts(campaign: CampaignNow, _: Translate) -> list[tuple[str, str]]:
    rules, limits = campaign.rules, campaign.limits
    facts = {
        "opens_at": campaign.window.opens_at.isoformat(),
        "closes_at": campaign.window.closes_at.isoformat(),
        "time_zone": campaign.zone.key,
        "likes_per_candidate_per_day": rules.likes_per_candidate_per_day,
        "candidates_per_day": rules.candidates_per_day,
        "likes_per_campaign": rules.likes_per_campaign,
        "counts": rules.counts.value,
        **(
            {"counts_daily_at": rules.counts_daily_at.isoformat("minutes")}
            if rules.counts is Visibility.DAILY
            else {}
        ),
        "order": rules.order.value,
        "per_device": str(limits.per_device),
        "per_network": str(limits.per_network),
        "identity": rules.identity.value,
    }
    return [(_(FIELD_TITLES[name]), _value(campaign, name, facts[name], _)) for name in facts]


def _buttons(campaign: CampaignNow) -> list[Kind]:
    """What can be done of the whole campaign now."""
    unfit = Kind.RESUMED if campaign.paused_because is None else Kind.PAUSED
    return [kind for kind in _OF_CAMPAIGN if campaign.allows(kind) and kind is not unfit]


assert set(FORMS) == set(WHEN)
