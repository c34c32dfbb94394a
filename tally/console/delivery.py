"""Pages of what goes out: publications, destinations of news, the outbox, keys of the office API.

Secrets are shown once, on the answer to the form that made them, and are kept nowhere else in the
clear; that is why these two forms answer with a page and not with a redirect.
"""

import re
import uuid
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response

from tally import audit, proposals
from tally.console import pages
from tally.console.office import SQL as OFFICE_SQL
from tally.console.office import archive_answer, archive_name, find_publication
from tally.console.parts import (
    Admin,
    Reviewing,
    Role,
    SignedIn,
    Staff,
    console_of,
    limiter,
)
from tally.console.problems import problem
from tally.delivery import outbox
from tally.delivery.destinations import (
    DestinationError,
    add_destination,
    check_destination,
    set_disabled,
)
from tally.delivery.destinations import (
    Form as DestinationForm,
)
from tally.delivery.office_keys import SQL as KEYS_SQL
from tally.delivery.office_keys import OfficeKeyError, Scope, make_key, revoke_key
from tally.delivery.outbox import ENDS, SQL, WANTED, Event
from tally.proposals import Outcome
from tally.translated import N_, Translate

router = APIRouter()

PUBLICATIONS_A_PAGE = 50
LETTERS_SHOWN_MAX = 200
_NUMBER_MAX = 2**31 - 1

KINDS = {
    "scheduled": ("", N_("scheduled")),
    "provisional": ("warn", N_("provisional")),
    "close": ("info", N_("at the close")),
    "final": ("good", N_("final")),
}
EVENTS = {
    Event.PUBLISHED: N_("A publication"),
    Event.CLOSED: N_("A campaign closed"),
    Event.REOPENED: N_("A campaign opened again"),
    Event.NOTICE: N_("A public notice put up"),
    Event.FLAG: N_("Flag of high effect"),
    Event.PROPOSAL: N_("Proposal waiting"),
    Event.OBJECTION: N_("Objection received"),
    Event.PART_DOWN: N_("Part down"),
    Event.PART_BACK: N_("Part back"),
    Event.LAG: N_("Data behind"),
    Event.LAG_OVER: N_("Data caught up"),
    Event.RECONCILIATION_OFF: N_("Reconciliation off"),
    Event.RECONCILIATION_WELL: N_("Reconciliation right again"),
    Event.DISK_NEARLY_FULL: N_("Disk nearly full"),
    Event.DISK_WELL: N_("Disk has room again"),
    Event.DEAD_LETTERS: N_("News not delivered"),
    Event.DEAD_LETTERS_GONE: N_("No undelivered news left"),
    Event.TEST: N_("Test"),
}
FORMS = {
    DestinationForm.WEBHOOK: N_("Webhook"),
    DestinationForm.WECOM: N_("WeCom group robot"),
    DestinationForm.DINGTALK: N_("DingTalk group robot"),
    DestinationForm.MAIL: N_("Mail"),
}
SCOPES = {
    Scope.PUBLICATIONS_READ: N_("campaigns and their publications"),
    Scope.TALLY_READ: N_("the running tally, as far as its visibility allows"),
    Scope.LOG_READ: N_("checkpoints of the log"),
    Scope.OBJECTIONS_READ: N_("objections and their answers"),
    Scope.OBJECTIONS_WRITE: N_("hand in objections"),
}
REFUSALS = (
    # What destinations.py and office_keys.py refuse with.
    N_("this is no address, or too long a one"),
    N_("this is no address: https://... is needed"),
    N_("this is neither a name nor an IP address"),
    N_("a user and a password have no place in the address"),
    N_("a part after # is never sent: leave it out"),
    N_("only https:// is allowed here"),
    N_("this address is in a private network, which is not allowed"),
    N_("a name of 1 to 64 characters is needed"),
    N_("this form is not known"),
    N_("at least one kind of news is needed"),
    N_("this is no secret of a robot"),
    N_("this is no mail address"),
    N_("there are 50 destinations already: switch one off"),
    N_("at least one scope is needed"),
    N_("there are 50 keys already: revoke one"),
)
PROPOSAL_REFUSALS = {
    Outcome.NOT_ALLOWED: N_("Your role may not propose this."),
    Outcome.NO_REASON: N_("A reason is needed, of 2,000 characters at most."),
    Outcome.TOO_MANY: N_("Too many proposals wait already: settle some first."),
}
LETTER_STATES = {
    "dead": N_("Dead letters"),
    "waiting": N_("Waiting"),
    "sent": N_("Sent"),
}


_WHYS = (
    # What outbox.py and couriers.py write into last_error -> what a page says.
    (r"answered with status (?P<n>\d+)", N_("answered with status {n}")),
    (r"no answer within (?P<n>[\d.]+) s", N_("no answer within {n} s")),
    (r"errcode (?P<n>\S+): (?P<said>.*)", N_("the robot refused it: {n} {said}")),
    (r"cannot be reached.*", N_("cannot be reached")),
    (r"the connection failed: .*", N_("the connection failed")),
    (r"the robot's answer is none of a robot's", N_("the answer is none of a robot's")),
    (r"its name cannot be looked up", N_("its name cannot be looked up")),
    (r"its name leads into a private network", N_("its name leads into a private network")),
    (r"its certificate is not good", N_("its certificate is not good")),
    (r"its secret does not open.*", N_("its secret does not open: is it another key file?")),
    (r"no mail server: .*", N_("no mail server is set")),
    (r"the mail server answered (?P<n>\d+)", N_("the mail server answered {n}")),
    (r"the mail server refused the recipient", N_("the mail server refused the recipient")),
    (r"the mail server's TLS is not good", N_("the mail server's TLS is not good")),
    (r"the mail server failed: .*", N_("the mail server failed")),
    (r"the destination was switched off", N_("the destination was switched off")),
)


def why_not(text: str | None, _: Translate) -> str:
    """Why a letter was not taken, in the reader's language; as it is where that is not known."""
    for pattern, known in (*_WHYS, *((re.escape(text), text) for text in REFUSALS)):
        if found := re.fullmatch(pattern, text or ""):
            return _(known, **found.groupdict())
    return text or ""


# Publications.


@router.get("/publications")
@limiter.limit("120/minute")
async def get_campaigns_published(request: Request, staff: SignedIn) -> Response:
    """Every campaign with its latest publication; straight to the only one."""
    async with console_of(request).pool.acquire() as connection:
        rows = await connection.fetch(OFFICE_SQL["list_campaigns"])
    if len(rows) == 1:
        return pages.back(f"/campaigns/{rows[0]['id']}/publications")
    return pages.render(request, "publications_all.html", staff=staff, campaigns=rows)


@router.get("/campaigns/{campaign}/publications")
@limiter.limit("120/minute")
async def get_publications(
    request: Request, staff: SignedIn, campaign: str, before: int | None = None
) -> Response:
    return await _publications_page(request, staff, campaign, before)


async def _publications_page(
    request: Request,
    staff: Staff,
    campaign: str,
    before: int | None = None,
    *,
    refusal: str = "",
    reason: str = "",
    status: int = 200,
) -> Response:
    before = None if before is None else max(1, min(before, _NUMBER_MAX))
    async with console_of(request).pool.acquire() as connection:
        of = await connection.fetchrow(OFFICE_SQL["find_campaign"], campaign)
        if of is None:
            raise HTTPException(404)
        rows = await connection.fetch(
            OFFICE_SQL["list_publications"], of["number"], before, None, PUBLICATIONS_A_PAGE + 1
        )
    older = len(rows) > PUBLICATIONS_A_PAGE
    rows = rows[:PUBLICATIONS_A_PAGE]
    number, kind = (rows[0]["number"], rows[0]["kind"]) if rows else (1, "close")
    return pages.render(
        request,
        "publications.html",
        staff=staff,
        section="/publications",
        status=status,
        campaign=of,
        zone=ZoneInfo(of["time_zone"]),
        publications=rows,
        kinds=KINDS,
        archive=archive_name(of["id"], number, kind),
        older=rows[-1]["number"] if older else None,
        newest=before is not None,
        may_propose=staff.role in (Role.REVIEWER, Role.ADMIN),
        may_export=staff.role in (Role.REVIEWER, Role.ADMIN),
        refusal=refusal,
        reason=reason,
    )


@router.get("/campaigns/{campaign}/publications/{number}/archive.zip")
@limiter.limit("60/minute")
async def get_archive(request: Request, staff: SignedIn, campaign: str, number: int) -> Response:
    """The folder as a zip."""
    async with console_of(request).pool.acquire() as connection:
        of = await connection.fetchrow(OFFICE_SQL["find_campaign"], campaign)
        row = None
        if of is not None and 0 < number <= _NUMBER_MAX:
            row = await find_publication(connection, of["number"], number)
    if of is None or row is None:
        raise HTTPException(404)
    return archive_answer(request, of, row)


@router.post("/campaigns/{campaign}/publications/final")
@limiter.limit("20/minute")
async def propose_final(
    request: Request, staff: Reviewing, campaign: str, reason: Annotated[str, Form()] = ""
) -> Response:
    """Propose the final seal: somebody else has to agree."""
    _ = pages.translator_of(request)
    async with console_of(request).pool.acquire() as connection:
        of = await connection.fetchrow(OFFICE_SQL["find_campaign"], campaign)
        if of is None:
            raise HTTPException(404)
        answer = await proposals.propose(
            connection,
            "publish",
            campaign=of["number"],
            content={"campaign": of["id"]},
            reason=reason,
            by=staff.number,
        )
    if answer.done:
        return pages.back(f"/campaigns/{of['id']}/publications", said="final-proposed")
    refusal = answer.why.told(_) if answer.why else _(PROPOSAL_REFUSALS[answer.outcome])
    return await _publications_page(
        request, staff, campaign, refusal=refusal, reason=reason, status=409
    )


# Destinations.


@router.get("/destinations")
@limiter.limit("120/minute")
async def get_destinations(request: Request, staff: Admin) -> Response:
    return await _destinations_page(request, staff)


async def _destinations_page(
    request: Request,
    staff: Staff,
    *,
    refusal: str = "",
    typed: dict[str, Any] | None = None,
    status: int = 200,
) -> Response:
    console = console_of(request)
    async with console.pool.acquire() as connection:
        rows = await connection.fetch(SQL["list_destinations"])
    return pages.render(
        request,
        "destinations.html",
        staff=staff,
        status=status,
        destinations=rows,
        events=EVENTS,
        ends=ENDS,
        wanted=WANTED,
        forms=FORMS,
        mail_is_set=console.settings.smtp_url is not None and bool(console.settings.mail_from),
        refusal=refusal,
        typed={"shown_as": "", "form": "webhook", "address": "", "events": list(WANTED)}
        | (typed or {}),
    )


@router.post("/destinations")
@limiter.limit("20/minute")
async def post_destination(
    request: Request,
    staff: Admin,
    shown_as: Annotated[str, Form()] = "",
    form: Annotated[str, Form()] = "",
    address: Annotated[str, Form()] = "",
    secret: Annotated[str, Form()] = "",
    events: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Add one. A webhook's secret is shown now and never again."""
    console = console_of(request)
    _ = pages.translator_of(request)
    try:
        new = check_destination(
            shown_as=shown_as,
            form=form,
            address=address,
            secret=secret,
            events=events or [],
            private=console.settings.private_destinations,
        )
        async with console.pool.acquire() as connection, connection.transaction():
            number = await add_destination(connection, console.seal, new, staff.name)
            await audit.append(
                connection,
                actor=staff.name,
                role=staff.role,
                action="destination.add",
                subject=f"destination {number}",
                details={
                    "shown_as": new.shown_as,
                    "form": new.form.value,
                    "address": new.address,
                    "events": [event.value for event in new.events],
                },
            )
    except DestinationError as why:
        typed = {
            "shown_as": shown_as[:64],
            "form": form,
            "address": address[:1000],
            "events": events or [],
        }
        return await _destinations_page(
            request, staff, refusal=_(str(why)), typed=typed, status=422
        )
    if new.form is DestinationForm.WEBHOOK:
        return pages.render(
            request,
            "destination_added.html",
            staff=staff,
            section="/destinations",
            status=201,
            destination=new,
            secret=new.access.secret,
        )
    return pages.back("/destinations", said="destination-added")


@router.post("/destinations/{number}/test")
@limiter.limit("20/minute")
async def test_destination(request: Request, staff: Admin, number: int) -> Response:
    """Write a test letter; the publisher sends it within seconds."""
    async with console_of(request).pool.acquire() as connection, connection.transaction():
        name = await _destination_name(connection, number)
        await outbox.add_test(connection, number, staff.shown_as)
        await audit.append(
            connection,
            actor=staff.name,
            role=staff.role,
            action="destination.test",
            subject=f"destination {number}",
            details={"shown_as": name},
        )
    return pages.back("/outbox?state=waiting", said="test-written")


@router.post("/destinations/{number}/disable")
@limiter.limit("20/minute")
async def disable_destination(request: Request, staff: Admin, number: int) -> Response:
    await _switch(request, staff, number, disabled=True)
    return pages.back("/destinations", said="destination-off")


@router.post("/destinations/{number}/enable")
@limiter.limit("20/minute")
async def enable_destination(request: Request, staff: Admin, number: int) -> Response:
    await _switch(request, staff, number, disabled=False)
    return pages.back("/destinations", said="destination-on")


async def _switch(request: Request, staff: Staff, number: int, *, disabled: bool) -> None:
    async with console_of(request).pool.acquire() as connection, connection.transaction():
        await _destination_name(connection, number)
        name = await set_disabled(connection, number, disabled=disabled)
        if name is not None:
            await audit.append(
                connection,
                actor=staff.name,
                role=staff.role,
                action="destination.off" if disabled else "destination.on",
                subject=f"destination {number}",
                details={"shown_as": name},
            )


async def _destination_name(connection: Any, number: int) -> str:
    name = None
    if 0 < number <= _NUMBER_MAX:
        name = await connection.fetchval(SQL["find_destination"], number)
    if name is None:
        raise HTTPException(404)
    return str(name)


# The outbox.


@router.get("/outbox")
@limiter.limit("120/minute")
async def get_outbox(request: Request, staff: Admin, state: str = "dead") -> Response:
    """Letters: dead ones, those that wait, and what was sent."""
    _ = pages.translator_of(request)
    state = state if state in LETTER_STATES else "dead"
    async with console_of(request).pool.acquire() as connection:
        counts = await connection.fetchrow(SQL["count_letters"])
        rows = await connection.fetch(SQL["list_letters"], state, LETTERS_SHOWN_MAX)
    return pages.render(
        request,
        "outbox.html",
        staff=staff,
        section="/destinations",
        state=state,
        states=LETTER_STATES,
        counts=counts,
        letters=rows,
        whys={row["id"]: why_not(row["last_error"], _) for row in rows},
        shown_max=LETTERS_SHOWN_MAX,
        events={event.value: text for event, text in EVENTS.items()},
        tries_max=outbox.TRIES_MAX,
    )


@router.post("/outbox/{letter}/again")
@limiter.limit("60/minute")
async def send_letter_again(request: Request, staff: Admin, letter: str) -> Response:
    try:
        id_ = uuid.UUID(letter)
    except ValueError:
        raise HTTPException(404) from None
    async with console_of(request).pool.acquire() as connection, connection.transaction():
        about = await outbox.send_again(connection, id_)
        if about is not None:
            await audit.append(
                connection,
                actor=staff.name,
                role=staff.role,
                action="outbox.again",
                subject=f"letter {id_}",
                details={"about": about},
            )
        switched_off = about is None and await connection.fetchval(SQL["waits_for_switch"], id_)
    if about is None:
        _ = pages.translator_of(request)
        if switched_off:
            why = _("Its destination is switched off: it can go again when that is on.")
        else:
            why = _("This is no dead letter, or not any more.")
        return problem(request, 409, why=why)
    return pages.back("/outbox?state=waiting", said="letter-again")


# Keys of the office API.


@router.get("/office-keys")
@limiter.limit("120/minute")
async def get_office_keys(request: Request, staff: Admin) -> Response:
    return await _keys_page(request, staff)


async def _keys_page(
    request: Request,
    staff: Staff,
    *,
    refusal: str = "",
    typed: dict[str, Any] | None = None,
    status: int = 200,
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        rows = await connection.fetch(KEYS_SQL["list_keys"])
    return pages.render(
        request,
        "office_keys.html",
        staff=staff,
        section="/destinations",
        status=status,
        keys=rows,
        scopes=SCOPES,
        refusal=refusal,
        typed={"shown_as": "", "scopes": [Scope.PUBLICATIONS_READ.value]} | (typed or {}),
    )


@router.post("/office-keys")
@limiter.limit("20/minute")
async def post_office_key(
    request: Request,
    staff: Admin,
    shown_as: Annotated[str, Form()] = "",
    scopes: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Make one; it is shown now and never again."""
    try:
        async with console_of(request).pool.acquire() as connection, connection.transaction():
            id_, key = await make_key(connection, shown_as, scopes or [], staff.name)
            await audit.append(
                connection,
                actor=staff.name,
                role=staff.role,
                action="office-key.make",
                subject=f"office key {id_}",
                details={"shown_as": shown_as.strip(), "scopes": sorted(set(scopes or []))},
            )
    except OfficeKeyError as why:
        _ = pages.translator_of(request)
        typed = {"shown_as": shown_as[:64], "scopes": scopes or []}
        return await _keys_page(request, staff, refusal=_(str(why)), typed=typed, status=422)
    return pages.render(
        request,
        "office_key_made.html",
        staff=staff,
        section="/destinations",
        status=201,
        shown_as=shown_as.strip(),
        key=key,
        origin=request.state.seen.origin,
    )


@router.post("/office-keys/{key}/revoke")
@limiter.limit("20/minute")
async def revoke_office_key(request: Request, staff: Admin, key: str) -> Response:
    async with console_of(request).pool.acquire() as connection, connection.transaction():
        name = await revoke_key(connection, key)
        if name is not None:
            await audit.append(
                connection,
                actor=staff.name,
                role=staff.role,
                action="office-key.revoke",
                subject=f"office key {key}",
                details={"shown_as": name},
            )
    if name is None:
        raise HTTPException(404)
    return pages.back("/office-keys", said="key-revoked")
