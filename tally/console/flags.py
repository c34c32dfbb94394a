"""Cases: the queue of flags, one case with its evidence, decisions on one or on several.

Whoever looks on sees all of it; reviewers decide. A decision is shown before it is taken: the form
hands back what it showed, and where it would move something else by then, it is shown again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from tally import comments, proposals
from tally.campaigns import objections
from tally.case_decisions import (
    CASES_MAX,
    Changed,
    NeedsSecond,
    content_of,
    decide_alone,
    persons_of,
    preview,
    previews_of_case,
)
from tally.case_evidence import Bar, CaseEvidence, Facet, read_evidence
from tally.case_files import CaseFile, FlagOfCase, UnknownFlag, read_case, read_cases
from tally.console import case_charts, charts, pages
from tally.console.case_words import (
    ACTIONS,
    KINDS,
    REASONS,
    RULES,
    STATES,
    agent_name,
    figures_of,
    range_name,
    seconds,
    sentence_of,
)
from tally.console.live import NETWORKS, newest_open, phase_of
from tally.console.parts import (
    Reviewing,
    Role,
    Staff,
    Viewing,
    campaign_asked,
    console_of,
    limiter,
)
from tally.console.problems import problem
from tally.holds import Action, Decided, Decider, State
from tally.proposal_kinds import CannotBeDone
from tally.proposals import Outcome
from tally.translated import Translate
from tally.written import tidy, unfit
from voting.campaign import Campaign, Candidate, Visibility
from voting.catalog import load_campaigns

router = APIRouter()

CASES_A_PAGE = 50
NUMBER_MAX = 2**31 - 1
REASON_CHARACTERS_MAX = 2_000
TYPED_CHARACTERS_MAX = 2 * REASON_CHARACTERS_MAX
"""Of what a form sends: two for a line's end, which its field counts as one."""

_Number = Annotated[int, Path(ge=1, le=NUMBER_MAX)]
_Numbers = Annotated[list[Annotated[int, Query(ge=1, le=NUMBER_MAX)]], Query(max_length=CASES_MAX)]
_FormNumbers = Annotated[list[Annotated[int, Form(ge=1, le=NUMBER_MAX)]], Form()]


def page_of(campaign: Campaign) -> dict[str, Any]:
    """What the head of every page of a campaign shows."""
    return {
        "campaign": campaign,
        "phase": phase_of(campaign, datetime.now().astimezone()),
        "is_public": campaign.rules.counts is Visibility.LIVE,
        "zone": campaign.window.zone,
    }


def may_decide(staff: Staff) -> bool:
    return staff.role in (Role.REVIEWER, Role.ADMIN)


async def newest_campaign(request: Request) -> Campaign:
    """The open one that opened last, else the last one; 404 where there is none."""
    async with console_of(request).pool.acquire() as connection:
        campaigns = await load_campaigns(connection)
    campaign = newest_open(campaigns, datetime.now().astimezone()) or max(
        campaigns.values(), key=lambda one: one.window.opens_at, default=None
    )
    if campaign is None:
        raise HTTPException(404)
    return campaign


@router.get("/flags")
@limiter.limit("120/minute")
async def get_newest_flags(request: Request, staff: Viewing) -> Response:
    """The queue of the campaign that matters now."""
    campaign = await newest_campaign(request)
    return RedirectResponse(f"/campaigns/{campaign.id}/flags", 303)


@router.get("/flags/{number}")
@limiter.limit("120/minute")
async def get_flag(request: Request, staff: Viewing, number: _Number) -> Response:
    """A flag's case, whatever campaign it is of."""
    async with console_of(request).pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT c.id, coalesce(f.continues, f.number) AS case_of FROM flags AS f"
            " JOIN campaigns AS c ON c.number = f.campaign WHERE f.number = $1",
            number,
        )
    if row is None:
        raise HTTPException(404)
    return RedirectResponse(f"/campaigns/{row['id']}/flags/{row['case_of']}", 303)


# The queue.


@dataclass(frozen=True, slots=True)
class Asked:
    """What the queue is filtered by; "" = anything."""

    show: str = "open"
    rule: str = ""
    candidate: str = ""

    def address(self, campaign: Campaign, **other: object) -> str:
        said = {"show": self.show, "rule": self.rule, "candidate": self.candidate, **other}
        found = urlencode({name: value for name, value in said.items() if value})
        return f"/campaigns/{campaign.id}/flags" + (f"?{found}" if found else "")


SHOWS = ("open", "decided", "all")


@router.get("/campaigns/{campaign_id}/flags")
@limiter.limit("60/minute")
async def get_flags(
    request: Request,
    staff: Viewing,
    campaign_id: str,
    show: str = "open",
    rule: Annotated[str, Query(max_length=60)] = "",
    candidate: Annotated[str, Query(max_length=100)] = "",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """Cases, those first that move places most."""
    asked = Asked(show if show in SHOWS else "open", rule, candidate.strip())
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        cases = await read_cases(connection, campaign, closed=asked.show != "open")
        waiting = await proposals.list_proposals(connection, campaign.number)
    if asked.show == "decided":
        cases = [case for case in cases if not case.open]
    rules = sorted({rule for case in cases for flag in case.flags for rule in flag.rules})
    cases = [case for case in cases if _fits(case, asked, campaign)]
    first = (page - 1) * CASES_A_PAGE
    return pages.render(
        request,
        "flags.html",
        staff=staff,
        **page_of(campaign),
        asked=asked,
        cases=cases[first : first + CASES_A_PAGE],
        found=len(cases),
        votes=sum(case.votes for case in cases),
        rules=rules,
        rule_names=RULES,
        kind_names=KINDS,
        state=State,
        proposed=_proposed(waiting),
        sentence=_sentences(request),
        newer=asked.address(campaign, page=page - 1) if page > 1 else None,
        older=asked.address(campaign, page=page + 1) if len(cases) > first + CASES_A_PAGE else None,
        decides=may_decide(staff),
        cases_max=CASES_MAX,
    )


def _fits(case: CaseFile, asked: Asked, campaign: Campaign) -> bool:
    if asked.rule and not any(asked.rule in flag.rules for flag in case.flags):
        return False
    if not asked.candidate:
        return True
    wanted = asked.candidate.casefold()
    return any(
        wanted in (id_.casefold(), str(campaign.by_id[id_].number))
        or wanted in campaign.by_id[id_].name.casefold()
        for id_ in case.candidates
    )


def _proposed(waiting: list[proposals.Proposal]) -> dict[int, list[proposals.Proposal]]:
    """Case -> open proposals on it."""
    found: dict[int, list[proposals.Proposal]] = {}
    for one in waiting:
        if one.kind == "decide":
            for case in one.content["cases"]:
                found.setdefault(case, []).append(one)
    return found


def _sentences(request: Request) -> Callable[[FlagOfCase], str]:
    language, _ = pages.language_of(request), pages.translator_of(request)
    return lambda flag: sentence_of(flag, language, _)


# One case.


@router.get("/campaigns/{campaign_id}/flags/preview")
@limiter.limit("60/minute")
async def get_preview(
    request: Request,
    staff: Reviewing,
    campaign_id: str,
    action: Action,
    case: _Numbers,
) -> Response:
    """What a decision on these cases would move."""
    return await _preview_page(request, staff, campaign_id, action, case)


async def _preview_page(
    request: Request,
    staff: Staff,
    campaign_id: str,
    action: Action,
    cases: list[int],
    *,
    reason: str = "",
    changed: bool = False,
    refused: str = "",
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        try:
            found = await preview(connection, campaign, cases, action)
        except CannotBeDone as why:
            return problem(request, 409, why=why.told(pages.translator_of(request)))
    return pages.render(
        request,
        "flags_preview.html",
        staff=staff,
        status=409 if changed else 422 if refused else 200,
        **page_of(campaign),
        preview=found,
        actions=ACTIONS,
        by_number=_by_number(campaign),
        reason=reason,
        changed=changed,
        refused=refused,
        reason_max=REASON_CHARACTERS_MAX,
    )


def _by_number(campaign: Campaign) -> dict[int, Candidate]:
    return {candidate.number: candidate for candidate in campaign.candidates}


@router.get("/campaigns/{campaign_id}/flags/{number}")
@limiter.limit("60/minute")
async def get_case(request: Request, staff: Viewing, campaign_id: str, number: _Number) -> Response:
    return await _case_page(request, staff, campaign_id, number)


async def _case_page(
    request: Request,
    staff: Staff,
    campaign_id: str,
    number: int,
    *,
    comment: str = "",
    refused: str = "",
) -> Response:
    _, language = pages.translator_of(request), pages.language_of(request)
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        try:
            case = await read_case(connection, campaign, number)
        except UnknownFlag:
            raise HTTPException(404) from None
        if case.number != number:
            return RedirectResponse(f"/campaigns/{campaign.id}/flags/{case.number}", 303)
        evidence = await read_evidence(connection, campaign, case.number)
        said = await comments.list_comments(connection, case.number)
        waiting = await proposals.list_proposals(connection, campaign.number)
        objected = await objections.list_of_case(connection, campaign.number, case.number)
    assert evidence is not None, "it was read above"
    return pages.render(
        request,
        "flag.html",
        staff=staff,
        status=422 if refused else 200,
        **page_of(campaign),
        case=case,
        sentence=sentence_of(case.main, language, _),
        sentences=[sentence_of(flag, language, _) for flag in case.flags],
        figures=figures_of(case.main),
        kind_names=KINDS,
        rule_names=RULES,
        states=STATES,
        state=State,
        actions=ACTIONS,
        action=Action,
        previews=previews_of_case(case, campaign),
        ranks=_ranks(case, campaign),
        evidence=evidence,
        course=_course(evidence, _),
        bar=charts.bar,
        pictures=_pictures(evidence, _),
        network_names=NETWORKS,
        reason_names=REASONS,
        agent_name=lambda agent: agent_name(agent, _),
        seconds=lambda value: seconds(value, _),
        by_number=_by_number(campaign),
        comments=said,
        comment=comment,
        refused=refused,
        # Who only looks on does not see objections: they name people outside.
        objected=objected if may_decide(staff) else [],
        proposed=_proposed(waiting).get(case.number, []),
        persons_of=persons_of,
        decides=may_decide(staff),
        reason_max=REASON_CHARACTERS_MAX,
        comment_max=comments.TEXT_CHARACTERS_MAX,
    )


@dataclass(frozen=True, slots=True)
class Rank:
    """A candidate whom the case concerns."""

    id: str
    name: str
    number: int
    votes: int
    """Of the case."""
    with_them: int
    """Place."""
    without: int


RANKS_SHOWN = 60


def _ranks(case: CaseFile, campaign: Campaign) -> list[Rank]:
    found = [
        Rank(
            id_,
            campaign.by_id[id_].name,
            campaign.by_id[id_].number,
            sum(case.candidates.get(id_, {}).values()),
            *case.ranks[id_],
        )
        for id_ in case.ranks
    ]
    # Those whose votes they are first, then those who move most.
    return sorted(
        found, key=lambda one: (-one.votes, -abs(one.with_them - one.without), one.with_them)
    )[:RANKS_SHOWN]


@dataclass(frozen=True, slots=True)
class Picture:
    """One fact, drawn."""

    title: str
    explained: str
    drawn: object
    """Markup; empty: `rows` are bars."""
    rows: tuple[tuple[str, float, float | None], ...]
    """(label, share here, usual share)"""


def _pictures(evidence: CaseEvidence, _: Translate) -> list[Picture]:
    facets = {facet.name: facet for facet in evidence.facets}
    agent = facets["agent"]
    phones = [_row(bar, agent_name(int(bar.low), _)) for bar in agent.bars]
    if agent.rest[0] > 0.0005 or (agent.rest[1] or 0.0) > 0.0005:
        phones.append((_("all others"), *agent.rest))
    found = [
        Picture(
            _("Phone models"),
            _("A model is told by its group. Many votes of one model are a sign of one source."),
            "",
            tuple(phones),
        ),
        _columns(
            facets["dwell"],
            _("From the card to the tap"),
            _("People differ by a factor of ten and more; programs wait for the same time."),
            _,
        ),
        _columns(
            facets["age"],
            _("Age of the device token when the card appeared"),
            _("A token is made when a browser first sees a card, and kept."),
            _,
        ),
        Picture(
            _("Networks"),
            _("Where the votes came from, as far as the table of networks knows."),
            "",
            tuple(
                _row(bar, _(NETWORKS[network]))
                for bar in facets["network"].bars
                for network in NETWORKS
                if network == bar.low
            ),
        ),
        Picture(
            _("Hours of the day"),
            _("Beside the campaign's votes of the week before."),
            case_charts.columns(
                _("Hours of the day"),
                _("Share of the votes by hour, the case's and the campaign's."),
                [
                    case_charts.Column(f"{hour}", here, usual)
                    for hour, (here, usual) in enumerate(evidence.hours)
                ],
            ),
            tuple((f"{h}:00", here, usual) for h, (here, usual) in enumerate(evidence.hours)),
        ),
        Picture(
            _("Level of the tokens"),
            _("1: made at once; 2: after a challenge was solved."),
            "",
            tuple(_row(bar, _("level {n}", n=int(bar.low))) for bar in facets["level"].bars),
        ),
    ]
    return [picture for picture in found if picture.rows]


def _row(bar: Bar, label: str) -> tuple[str, float, float | None]:
    return label, bar.here, bar.usual


def _columns(facet: Facet, title: str, explained: str, _: Translate) -> Picture:
    rows = tuple(_row(bar, range_name(bar, _)) for bar in facet.bars)
    values = [
        case_charts.Column(
            _("younger") if bar.low < 0 else seconds(bar.low, _), bar.here, bar.usual
        )
        for bar in facet.bars
    ]
    return Picture(
        title,
        explained,
        case_charts.columns(
            title, _("Share of the votes by time, the case's and the usual."), values
        ),
        rows,
    )


_SMALL = 0.05
"""A case below this part of the others is drawn by itself: on their scale it is a flat line."""


def _course(evidence: CaseEvidence, _: Translate) -> Markup:
    """The case's votes over the campaign's others, on one scale where both can be seen on it."""
    moments = [step.at for step in evidence.course]
    here = charts.Series(_("this case"), [step.here for step in evidence.course], 1, filled=True)
    others = charts.Series(_("others"), [step.others for step in evidence.course], 6)
    together = max(step.here for step in evidence.course) >= _SMALL * max(
        step.others for step in evidence.course
    )
    title = _("Course")
    about = _("Votes of the case, and the campaign's other votes, over time.")
    drawn = [[others, here]] if together else [[here], [others]]
    return Markup("").join(charts.course(title, about, moments, series) for series in drawn)


# Deciding.

_SAID = {Action.HOLD: "case-held", Action.RELEASE: "case-released"}


@router.post("/campaigns/{campaign_id}/flags/decide")
@limiter.limit("60/minute")
async def post_decide(
    request: Request,
    staff: Reviewing,
    campaign_id: str,
    action: Annotated[Action, Form()],
    case: _FormNumbers,
    reason: Annotated[str, Form(max_length=TYPED_CHARACTERS_MAX)],
) -> Response:
    """Decide on these cases; what strikes votes or brings struck ones back is proposed instead.
    The form says what it showed, for each action that it offers (`shown-hold` ...)."""
    cases = sorted(set(case))
    shown = str((await request.form()).get(f"shown-{action.value}", ""))
    here = f"/campaigns/{campaign_id}/flags"
    back = f"{here}/{cases[0]}" if len(cases) == 1 else here
    reason = tidy(reason, REASON_CHARACTERS_MAX)
    if not reason:
        return pages.back(back, said="reason-wanted")
    if (why_not := unfit(reason, REASON_CHARACTERS_MAX)) is not None:
        told = why_not.told(pages.translator_of(request))
        return await _preview_page(
            request, staff, campaign_id, action, cases, reason=reason, refused=told
        )
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        decided: list[Decided] | NeedsSecond | Changed
        try:
            if action is Action.STRIKE:
                found = await preview(connection, campaign, cases, action)
                decided = Changed() if found.shown != shown else NeedsSecond()
            else:
                decided = await decide_alone(
                    connection,
                    campaign,
                    cases,
                    action,
                    by=Decider(staff.name, staff.role),
                    reason=reason,
                    shown=shown,
                )
        except CannotBeDone as why:
            return problem(request, 409, why=why.told(pages.translator_of(request)))
        if isinstance(decided, NeedsSecond):
            answer = await proposals.propose(
                connection,
                "decide",
                campaign=campaign.number,
                content=content_of(campaign, cases, action),
                reason=reason,
                by=staff.number,
            )
            return proposed(request, answer)
    if isinstance(decided, Changed):
        return await _preview_page(
            request, staff, campaign_id, action, cases, reason=reason, changed=True
        )
    return pages.back(back, said=_SAID[action])


def proposed(request: Request, answer: proposals.Answer) -> Response:
    """To the proposal that was made, or why there is none."""
    _ = pages.translator_of(request)
    match answer.outcome:
        case Outcome.DONE:
            return pages.back(f"/proposals/{answer.number}", said="proposed")
        case Outcome.NOT_ALLOWED:
            return problem(request, 403)
        case Outcome.TOO_MANY:
            return problem(request, 409, why=_("Too many proposals wait already."))
        case _other:
            return problem(request, 409, why=answer.why.told(_) if answer.why else None)


@router.post("/campaigns/{campaign_id}/flags/{number}/comments")
@limiter.limit("30/minute")
async def post_comment(
    request: Request,
    staff: Reviewing,
    campaign_id: str,
    number: _Number,
    text: Annotated[str, Form(max_length=2 * comments.TEXT_CHARACTERS_MAX)],
) -> Response:
    text = tidy(text, comments.TEXT_CHARACTERS_MAX)
    if (why_not := unfit(text, comments.TEXT_CHARACTERS_MAX)) is not None:
        told = why_not.told(pages.translator_of(request))
        return await _case_page(request, staff, campaign_id, number, comment=text, refused=told)
    async with console_of(request).pool.acquire() as connection:
        campaign = await campaign_asked(connection, campaign_id)
        written = await comments.add_comment(
            connection,
            campaign.number,
            number,
            by=staff.number,
            name=staff.name,
            role=staff.role,
            text=text,
        )
    here = f"/campaigns/{campaign_id}/flags/{number}"
    return pages.back(here, said="comment-added" if written else "reason-wanted")
