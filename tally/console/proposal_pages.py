"""Proposals: what waits for a second person, and settling it."""

import re
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request
from fastapi.responses import Response

from tally import proposals
from tally.campaigns.campaign_changes import FIELD_TITLES, TITLES
from tally.campaigns.notice_proposals import notice_of
from tally.case_decisions import Preview, preview
from tally.console import pages
from tally.console.parts import Reviewing, Viewing, console_of, limiter
from tally.console.problems import problem
from tally.holds import Action
from tally.proposal_kinds import CannotBeDone, Content, seen
from tally.proposals import Answer, Outcome, Proposal
from tally.tallies import read_campaign
from tally.translated import N_, Translate
from voting.changes import Kind as ChangeKind
from voting.notices import place_change

router = APIRouter()

REASON_CHARACTERS_MAX = proposals.REASON_CHARACTERS_MAX
TYPED_CHARACTERS_MAX = 2 * REASON_CHARACTERS_MAX
"""Of what a form sends: two for a line's end, which its field counts as one."""
_Number = Annotated[int, Path(ge=1, le=2**31 - 1)]

STATES = {
    # State -> (badge, text)
    proposals.State.OPEN: ("warn", N_("waits")),
    proposals.State.APPROVED: ("good", N_("agreed to")),
    proposals.State.REJECTED: ("bad", N_("turned down")),
    proposals.State.WITHDRAWN: ("", N_("taken back")),
}
KIND_NAMES = {
    "decide": N_("Decision on votes"),
    "change": N_("Change of a campaign"),
    "import": N_("Import"),
    "publish": N_("Publication"),
    "notice": N_("Public notice"),
}
REFUSALS = {
    Outcome.SETTLED: N_("Somebody settled it meanwhile."),
    Outcome.OWN: N_("You proposed it yourself: somebody else has to agree."),
    Outcome.NOT_ALLOWED: N_("Your role does not settle this."),
    Outcome.PROPOSER_GONE: N_(
        "Whoever proposed it may not any more. Somebody else has to propose it anew."
    ),
    Outcome.SAME_HAND: N_(
        "One of you two made, reset or enabled the other's account, or changed its role, within "
        "the last 7 days: somebody else has to agree."
    ),
    Outcome.NO_REASON: N_("A reason is wanted."),
    Outcome.TOO_MANY: N_("Too many proposals wait already."),
}
"""Why it was not settled; the other outcomes have pages of their own."""


@router.get("/proposals")
@limiter.limit("120/minute")
async def get_proposals(
    request: Request, staff: Viewing, show: Annotated[str, Query(max_length=20)] = "open"
) -> Response:
    """Those that wait, or the last ones that were settled, of all campaigns."""
    settled = show == "settled"
    async with console_of(request).pool.acquire() as connection:
        found = await proposals.list_proposals(connection, settled=settled)
    _ = pages.translator_of(request)
    return pages.render(
        request,
        "proposals.html",
        staff=staff,
        found=[(one, describe(one, _)) for one in found],
        settled=settled,
        states=STATES,
        kind_names=KIND_NAMES,
    )


def describe(proposal: Proposal, _: Translate) -> str:
    kind = proposals.KINDS.get(proposal.kind)
    return proposal.kind if kind is None else kind.describe(proposal.content, _)


@router.get("/proposals/{number}")
@limiter.limit("120/minute")
async def get_proposal(request: Request, staff: Viewing, number: _Number) -> Response:
    return await _proposal_page(request, staff, number)


async def _proposal_page(
    request: Request,
    staff: Viewing,
    number: int,
    *,
    status: int = 200,
    refused: str = "",
    changed: bool = False,
    reason: str = "",
) -> Response:
    _ = pages.translator_of(request)
    async with console_of(request).pool.acquire() as connection:
        proposal = await proposals.read_proposal(connection, number)
        if proposal is None:
            raise HTTPException(404)
        campaign = await read_campaign(connection, proposal.campaign_id)
        now, moves, impossible = None, None, ""
        if proposal.state is proposals.State.OPEN:
            try:
                now = await proposals.look_now(connection, proposal)
                if proposal.kind == "decide":
                    moves = await preview(
                        connection, campaign, proposal.content["cases"],
                        Action(proposal.content["action"]),
                    )  # fmt: skip
            except CannotBeDone as why:
                impossible = why.told(_)
    kind = proposals.KINDS.get(proposal.kind)
    may_settle = kind is not None and staff.role in kind.roles
    return pages.render(
        request,
        "proposal.html",
        staff=staff,
        status=status,
        campaign=campaign,
        zone=campaign.window.zone,
        proposal=proposal,
        what=describe(proposal, _),
        kind_name=KIND_NAMES.get(proposal.kind, proposal.kind),
        state=STATES[proposal.state],
        is_open=proposal.state is proposals.State.OPEN,
        is_own=proposal.proposed_by == staff.number,
        may_settle=may_settle,
        moves=moves,
        by_number={candidate.number: candidate for candidate in campaign.candidates},
        now=now,
        # What was shown to whoever proposed it is not what it would move now.
        grew=now is not None and bool(proposal.ground) and now != proposal.ground,
        shown="" if now is None else _shown(proposal, now, moves),
        impossible=impossible,
        would="" if now is None else describe(_as_it_is(proposal, now), _),
        parts=_parts(now or {}, _) if proposal.kind == "import" else [],
        # What is agreed to is this very text: its hash is in the ground.
        notice=notice_of(proposal.content) if proposal.kind == "notice" else None,
        place_change=place_change,
        answer=_answer(proposal, _),
        refused=refused,
        changed=changed,
        reason=reason,
        reason_max=REASON_CHARACTERS_MAX,
    )


def _shown(proposal: Proposal, now: Content, moves: Preview | None) -> str:
    """What the page's form hands back. The table of moves is what people look at: where it was read
    a moment later than the ground and is another, only the table counts."""
    return seen(now) if moves is None else moves.shown


_PUT_UP = re.compile(r"notice [a-z0-9-]+/([0-9]+)")
_DECIDED = re.compile(r"decision ([0-9, ]+): ([0-9]+) votes moved")


def _answer(proposal: Proposal, _: Translate) -> str:
    """What came of it, in the reader's language where it is what we say ourselves."""
    told = proposal.answer or ""
    if (put_up := _PUT_UP.fullmatch(told)) is not None:
        return _("Put up as notice {number}.", number=put_up[1])
    decided = _DECIDED.fullmatch(told)
    if proposal.state is not proposals.State.APPROVED or decided is None:
        return told if proposal.state is proposals.State.REJECTED else _(told)
    return _("Decision {numbers}: {n} votes moved.", numbers=decided[1], n=f"{int(decided[2]):,}")


def _as_it_is(proposal: Proposal, now: Content) -> Proposal:
    """With what it would do now in the place of what it would have done then."""
    return replace(proposal, content={**proposal.content, "ground": now})


_PERSON = "candidate "
_CHANGED = re.compile(rf"(?:^|(?<=; ))({'|'.join(kind.value for kind in ChangeKind)}): ")
_FIELDS = re.compile(r"(?<=\()[a-z_]+(?:, [a-z_]+)*(?=\)(?:$|; ))")


def _parts(now: Content, _: Translate) -> list[tuple[str, str]]:
    """Every rule and person that an import changes, as (who or what, how): imports.py's lines, in
    the reader's language where the words are ours."""

    def title(name: str) -> str:
        return _(FIELD_TITLES.get(name, name))

    def told(line: str) -> str:
        line = _CHANGED.sub(lambda found: f"{_(TITLES[ChangeKind(found[1])])}: ", line)
        return _FIELDS.sub(lambda found: ", ".join(map(title, found[0].split(", "))), line)

    return [
        (name.removeprefix(_PERSON), told(line))
        if name.startswith(_PERSON)
        else (title(name), line)
        for name, line in now.items()
        if isinstance(line, str)
    ]


@router.post("/proposals/{number}/approve")
@limiter.limit("30/minute")
async def post_approve(
    request: Request,
    staff: Reviewing,
    number: _Number,
    shown: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Agree, and have it done."""
    async with console_of(request).pool.acquire() as connection:
        answer = await proposals.approve(connection, number, by=staff.number, shown=shown)
    return await _settled(request, staff, number, answer, "proposal-approved")


@router.post("/proposals/{number}/reject")
@limiter.limit("30/minute")
async def post_reject(
    request: Request,
    staff: Reviewing,
    number: _Number,
    reason: Annotated[str, Form(max_length=TYPED_CHARACTERS_MAX)] = "",
) -> Response:
    async with console_of(request).pool.acquire() as connection:
        answer = await proposals.reject(connection, number, by=staff.number, reason=reason)
    return await _settled(request, staff, number, answer, "proposal-rejected", reason)


@router.post("/proposals/{number}/withdraw")
@limiter.limit("30/minute")
async def post_withdraw(request: Request, staff: Reviewing, number: _Number) -> Response:
    """Take one's own back."""
    async with console_of(request).pool.acquire() as connection:
        answer = await proposals.withdraw(connection, number, by=staff.number)
    return await _settled(request, staff, number, answer, "proposal-withdrawn")


async def _settled(
    request: Request, staff: Reviewing, number: int, answer: Answer, said: str, reason: str = ""
) -> Response:
    _ = pages.translator_of(request)
    match answer.outcome:
        case Outcome.DONE:
            return pages.back(f"/proposals/{number}", said=said)
        case Outcome.UNKNOWN:
            raise HTTPException(404)
        case Outcome.GROUND_CHANGED:
            return await _proposal_page(request, staff, number, status=409, changed=True)
        case Outcome.IMPOSSIBLE:
            return problem(request, 409, why=answer.why.told(_) if answer.why else None)
        case refused:
            return await _proposal_page(
                request, staff, number, status=403 if refused is Outcome.NOT_ALLOWED else 409,
                refused=answer.why.told(_) if answer.why else _(REFUSALS[refused]), reason=reason,
            )  # fmt: skip
