"""Objections received in the public notice period: written down, looked at, answered.

Staff that decide and the selection office see and answer them; who only looks on does not, for
they carry the names of people outside.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request
from fastapi.responses import RedirectResponse, Response

from tally.campaigns import objections
from tally.campaigns.objections import Clerk, Refused
from tally.console import pages
from tally.console.flags import newest_campaign, page_of
from tally.console.parts import Admin, Answering, Staff, campaign_asked, console_of, limiter
from tally.translated import N_
from tally.written import UNSEEN, tidy, unseen_in

router = APIRouter()

A_PAGE = 50
_Number = Annotated[int, Path(ge=1, le=2**31 - 1)]

REFUSALS = {
    Refused.NO_NAME: N_("Say who objects, as they name themselves."),
    Refused.NO_TEXT: N_("There is no text."),
    Refused.TOO_LONG: N_("The text is too long."),
    Refused.UNSEEN: UNSEEN,
    Refused.UNKNOWN_CANDIDATE: N_("This campaign has no such candidate."),
    Refused.UNKNOWN_FLAG: N_("This campaign has no such case."),
    Refused.TOO_MANY: N_("This campaign has too many objections already."),
}


def _told(request: Request, refused: Refused | None, *typed: str) -> str | None:
    """Why what was typed was refused, in the reader's language."""
    if refused is None:
        return None
    unseen = (unseen_in(tidy(text, objections.TEXT_CHARACTERS_MAX)) for text in typed)
    which = next(filter(None, unseen), "")
    return pages.translator_of(request)(REFUSALS[refused], which=which)


@router.get("/objections")
@limiter.limit("120/minute")
async def get_newest_objections(request: Request, staff: Answering) -> Response:
    """Those of the campaign that matters now."""
    campaign = await newest_campaign(request)
    return RedirectResponse(f"/campaigns/{campaign.id}/objections", 303)


@router.get("/objections/{number}")
@limiter.limit("120/minute")
async def get_objection_by_number(request: Request, staff: Answering, number: _Number) -> Response:
    """One of them, whatever campaign it is of: news of it leads here."""
    async with console_of(request).pool.acquire() as connection:
        campaign = await objections.find_campaign(connection, number)
    if campaign is None:
        raise HTTPException(404)
    return RedirectResponse(f"/campaigns/{campaign}/objections/{number}", 303)


@router.get("/campaigns/{campaign_id}/objections")
@limiter.limit("120/minute")
async def get_objections(
    request: Request,
    staff: Answering,
    campaign_id: str,
    show: Annotated[str, Query(max_length=20)] = "open",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    return await _list_page(request, staff, campaign_id, answered=show == "answered", page=page)


async def _list_page(
    request: Request,
    staff: Staff,
    campaign_id: str,
    *,
    answered: bool = False,
    page: int = 1,
    refused: Refused | None = None,
    entered: dict[str, str] | None = None,
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        found = await objections.list_objections(
            connection,
            campaign.number,
            answered=answered,
            at_most=A_PAGE + 1,
            after=(page - 1) * A_PAGE,
        )
        all_of_them, waiting = await objections.counts(connection, campaign.number)
    entered = entered or {"received_from": "", "text": "", "candidate": "", "flag": ""}
    here = f"/campaigns/{campaign.id}/objections?show={'answered' if answered else 'open'}"
    return pages.render(
        request,
        "objections.html",
        staff=staff,
        status=200 if refused is None else 400,
        **page_of(campaign),
        found=found[:A_PAGE],
        answered=answered,
        waiting=waiting,
        done=all_of_them - waiting,
        by_number={candidate.number: candidate for candidate in campaign.candidates},
        newer=f"{here}&page={page - 1}" if page > 1 else None,
        older=f"{here}&page={page + 1}" if len(found) > A_PAGE else None,
        refused=_told(request, refused, entered["received_from"], entered["text"]),
        entered=entered,
        name_max=objections.NAME_CHARACTERS_MAX,
        text_max=objections.TEXT_CHARACTERS_MAX,
    )


@router.post("/campaigns/{campaign_id}/objections")
@limiter.limit("30/minute")
async def post_objection(
    request: Request,
    staff: Answering,
    campaign_id: str,
    received_from: Annotated[str, Form(max_length=1_000)] = "",
    text: Annotated[str, Form(max_length=20_000)] = "",
    candidate: Annotated[str, Form(max_length=100)] = "",
    flag: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Write one down."""
    number = flag.strip().removeprefix("#")
    if number and not (number.isdecimal() and 0 < int(number) < 2**31):
        written: int | Refused = Refused.UNKNOWN_FLAG
    else:
        async with console_of(request).pool.acquire() as connection:
            campaign = await campaign_asked(connection, campaign_id)
            written = await objections.enter(
                connection,
                campaign,
                received_from=received_from,
                text=text,
                candidate=candidate,
                flag=int(number) if number else None,
                by=Clerk(staff.name, staff.role),
            )
    if isinstance(written, Refused):
        entered = {
            "received_from": received_from, "text": text, "candidate": candidate, "flag": flag,
        }  # fmt: skip
        return await _list_page(request, staff, campaign_id, refused=written, entered=entered)
    return pages.back(f"/campaigns/{campaign_id}/objections/{written}", said="objection-entered")


@router.get("/campaigns/{campaign_id}/objections/{number}")
@limiter.limit("120/minute")
async def get_objection(
    request: Request, staff: Answering, campaign_id: str, number: _Number
) -> Response:
    return await _objection_page(request, staff, campaign_id, number)


async def _objection_page(
    request: Request,
    staff: Staff,
    campaign_id: str,
    number: int,
    *,
    refused: Refused | None = None,
    text: str = "",
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        objection = await objections.read_objection(connection, campaign.number, number)
    if objection is None:
        raise HTTPException(404)
    return pages.render(
        request,
        "objection.html",
        staff=staff,
        status=200 if refused is None else 400,
        **page_of(campaign),
        objection=objection,
        by_number={candidate.number: candidate for candidate in campaign.candidates},
        days=(datetime.now().astimezone() - objection.at).days,
        refused=_told(request, refused, text),
        text=text,
        text_max=objections.TEXT_CHARACTERS_MAX,
    )


@router.post("/campaigns/{campaign_id}/objections/{number}/answer")
@limiter.limit("30/minute")
async def post_answer(
    request: Request,
    staff: Answering,
    campaign_id: str,
    number: _Number,
    text: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        refused = await objections.answer(
            connection, campaign, number, text=text, by=Clerk(staff.name, staff.role)
        )
    if refused is Refused.UNKNOWN:
        raise HTTPException(404)
    if refused is not None:
        return await _objection_page(
            request, staff, campaign_id, number, refused=refused, text=text
        )
    return pages.back(f"/campaigns/{campaign_id}/objections/{number}", said="objection-answered")


@router.post("/campaigns/{campaign_id}/objections/{number}/forget")
@limiter.limit("30/minute")
async def post_forget(
    request: Request, staff: Admin, campaign_id: str, number: _Number
) -> Response:
    """Delete the name of whoever objected, once they have their answer."""
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        forgotten = await objections.forget_name(
            connection, campaign, number, by=Clerk(staff.name, staff.role)
        )
    if not forgotten:
        raise HTTPException(409)
    return pages.back(f"/campaigns/{campaign_id}/objections/{number}", said="name-deleted")
