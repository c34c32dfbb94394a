"""This package's commands about suspicion, for `dianzan` to mount: watch, flags, decide.

Exit codes: 0 done; 1 the journal or the database is not what it should be; 2 cannot run, or asked
for what there is not. What any command may meet is left to `dianzan` to say.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import asyncpg
import typer

from tally.audit import append
from tally.commands import address_of, answer_to, fail
from tally.holds import WATCH, Action, Case, Decided, DecisionError, State
from tally.holds import decide as take_decision
from tally.store import SQL
from tally.tallies import read_campaign
from voting.campaign import Campaign
from voting.settings import load_settings

if TYPE_CHECKING:
    from tally.case_files import CaseFile

app = typer.Typer()

_Answer = TypeVar("_Answer")


@app.callback()
def _watch_commands() -> None:
    """Suspicion: what was flagged, and what is decided on it."""


@app.command()
def watch(
    ready_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Where `dianzan up` hears that we are ready.")
    ] = None,
    lifeline_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Ends when `dianzan up` does.")
    ] = None,
) -> None:
    """Look at the votes while they come and after, until SIGTERM or Ctrl-C: mark suspicious
    networks for the ballot box, flag what looks stuffed, hold what two kinds of evidence speak
    against, release what nobody decided in 20 hours, and bring every decision to the hot state.

    Needs DIANZAN_VALKEY_URL and DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data
    folder; keeps past days' votes in history/ there (as private as the database; it can be deleted
    and is made again). A second one stands by and takes over when the first one ends. Where a
    server is away it waits for it. Prints nothing on stdout; logs go to stderr, metrics are at
    /metrics on DIANZAN_ADMIN_HOST:DIANZAN_ADMIN_PORT.
    """
    # The other commands need none of these.
    from tally import watch as watching
    from tally.serving import serve

    serve("watch", watching.watch, "watch-failed", ready_fd=ready_fd, lifeline_fd=lifeline_fd)


@app.command()
def flags(
    flag: Annotated[
        int | None, typer.Argument(help="Number of a flag: everything about its case.")
    ] = None,
    campaign: Annotated[
        str | None, typer.Option(help="Id of the campaign whose queue is shown.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Cases that were decided on, too.")] = False,
) -> None:
    """Show what was flagged: `dianzan flags --campaign ID` the queue, those first that move places
    most; `dianzan flags N` one case, with its evidence and the places with and without its votes.

    A flag claims that a set of votes is stuffed; it never accuses a candidate, for votes can be
    stuffed by a rival. Flags of the same votes are one case, under the first one's number. A case
    is open until somebody decides on it (`dianzan decide`), and again when more of it is found.
    With --json the queue is {"campaign", "cases": [...]}, a case an object. Needs
    DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data folder.
    """
    from tally.case_files import UnknownFlag, read_case, read_cases

    async def read_one(connection: asyncpg.Connection, number: int) -> "CaseFile":
        known = await _campaign_of_flag(connection, number)
        try:
            return await read_case(connection, known, number)
        except UnknownFlag as why:
            fail(str(why.args[0]))

    async def read_queue(connection: asyncpg.Connection, id_: str) -> "list[CaseFile]":
        return await read_cases(connection, await read_campaign(connection, id_), closed=all_)

    if flag is not None:
        case = _ask(lambda connection: read_one(connection, flag))
        typer.echo(_as_json(case.as_json()) if json_ else _whole(case))
    elif campaign is not None:
        queue = _ask(lambda connection: read_queue(connection, campaign))
        if json_:
            cases = [case.as_json() for case in queue]
            typer.echo(_as_json({"campaign": campaign, "cases": cases}))
        else:
            typer.echo(_table(queue) if queue else "Nothing waits for a decision.")
    else:
        fail("say a flag's number, or --campaign ID for the queue")


@app.command()
def decide(
    flag: Annotated[int, typer.Argument(help="Number of a flag.")],
    action: Annotated[
        Action, typer.Argument(help="hold: set aside. release: count. strike: take out.")
    ],
    by: Annotated[str, typer.Option(help="Name of who decides.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would move.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Decide on the votes of a flag and of all flags of the same case.

    In the console whatever strikes votes, or brings struck ones back, needs a second person. This
    command asks for none: whoever has the database's address could write into it anyway. What it
    does is in the audit log, with the role "command".

    The decision is recorded with its name and reason, and can never be changed or deleted: undo it
    by another decision. It speaks of every vote of the case, also of those that are in the wanted
    state already: nothing that `watch` does by itself changes a vote that a person has spoken of.
    Counts in public follow within a few seconds. received = counted + held + struck + refused stays
    as it is. Needs DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data folder (whose
    `watch` brings it to the hot state).
    """
    if by.strip().lower() == WATCH:
        fail(f"{WATCH!r} is what the rules decide by themselves: say a person's name")

    async def take(connection: asyncpg.Connection) -> tuple[Decided, Campaign]:
        known = await _campaign_of_flag(connection, flag)
        try:
            decided = await take_decision(
                connection, Case(flag), action, by=by, reason=reason, dry_run=dry_run
            )
        except DecisionError as why:
            fail(str(why))
        assert decided is not None, "a person's decision is always recorded"
        return decided, known

    decided, known = _ask(take)
    ids = {candidate.number: candidate.id for candidate in known.candidates}
    moved = {
        ids.get(delta.candidate, str(delta.candidate)): {
            "counted": delta.counted,
            "held": delta.held,
            "struck": delta.struck,
        }
        for delta in decided.deltas
    }
    if json_:
        typer.echo(
            _as_json(
                {
                    "decision": decided.number,
                    "campaign": known.id,
                    "flag": flag,
                    "action": action.value,
                    "votes": decided.votes,
                    "moved": decided.moved,
                    "candidates": moved,
                }
            )
        )
        return
    did = "Decision " + str(decided.number) if decided.number else "Would be decided"
    typer.echo(
        f"{did}: {action.value} {decided.votes:,} votes of flag {flag}; {decided.moved:,} move"
    )
    for id_, kinds in moved.items():
        typer.echo(f"  {id_}  " + "  ".join(f"{kind} {n:+,}" for kind, n in kinds.items() if n))


@app.command("hold-all")
def hold_all(
    campaign: Annotated[str, typer.Option(help="Id of the campaign.")],
    by: Annotated[str, typer.Option(help="Name of who decides.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")],
    off: Annotated[bool, typer.Option("--off", help="Count again.")] = False,
) -> None:
    """Take every like and count none yet: for when the checks themselves are in trouble.

    Whoever likes hears what they always hear; their vote is held, also where it would have been
    counted, challenged or refused by its score. Quotas and limits go on. Edges follow within 2 s.
    Afterwards `--off`; the held votes are decided on as all held ones are, by flags and by time.
    It is in the audit log. Needs DIANZAN_POSTGRES_DSN, or a running `dianzan up` on the same data
    folder.
    """

    async def switch(connection: asyncpg.Connection) -> None:
        known = await read_campaign(connection, campaign)
        async with connection.transaction():
            await connection.execute(
                SQL["set_holds_all"], known.number, None if off else reason.strip()
            )
            await connection.execute(SQL["move_catalog"])
            await append(
                connection,
                actor=by,
                role="command",
                action="campaign.hold-all-off" if off else "campaign.hold-all",
                subject=f"campaign {campaign}",
                details={"reason": reason},
            )

    if not (by.strip() and reason.strip()):
        fail("a name and a reason are wanted")
    _ask(switch)
    typer.echo(f"{campaign}: likes are {'counted again' if off else 'all held'}")


def _ask(question: Callable[[asyncpg.Connection], Awaitable[_Answer]]) -> _Answer:
    """Ask the database one thing; ends the command where it does not know."""
    settings = load_settings()
    dsn = address_of(settings, settings.postgres_dsn, "DIANZAN_POSTGRES_DSN")

    async def ask() -> _Answer:
        connection = await asyncpg.connect(dsn)
        try:
            return await question(connection)
        finally:
            await connection.close()

    return answer_to(ask())


async def _campaign_of_flag(connection: asyncpg.Connection, flag: int) -> Campaign:
    id_ = await connection.fetchval(SQL["read_flag_campaign_id"], flag)
    if id_ is None:
        fail(f"there is no flag {flag}")
    return await read_campaign(connection, id_)


def _as_json(of: object) -> str:
    return json.dumps(of, ensure_ascii=False)


def _table(queue: "list[CaseFile]") -> str:
    """For eyes."""
    lines = [f"{'flag':>6}  {'votes':>9}  {'held':>9}  {'places':>6}  {'score':>6}  claim"]
    lines += [
        f"{case.number:>6}  {case.votes:>9,}  {case.state(State.HELD):>9,}"
        f"  {case.places_moved:>6}  {case.score:>6.1f}  {case.flags[-1].sentence}"
        for case in queue
    ]
    return "\n".join(lines)


def _whole(case: "CaseFile") -> str:
    lines = [
        f"Flag {case.number} of campaign {case.campaign}: {case.votes:,} votes, score "
        f"{case.score:.1f}, {'open' if case.open else 'decided'}",
        "  ".join(f"{state.name.lower()} {case.state(state):,}" for state in State),
        "",
    ]
    for flag in case.flags:
        zone = flag.at.astimezone()
        lines += [
            f"{zone:%Y-%m-%d %H:%M}  flag {flag.number}, {flag.votes:,} votes, "
            f"score {flag.score:.1f}: {', '.join(flag.rules)} (version {flag.version})",
            f"  {flag.sentence}",
            f"  kinds of evidence: {', '.join(flag.kinds)}",
            *(f"    {name} = {value}" for name, value in flag.evidence.items()),
        ]
    width = max(map(len, (*case.ranks, "candidate")))
    lines += ["", f"{'candidate':<{width}}  {'votes':>9}  place with them -> without"]
    for id_, (before, after) in case.ranks.items():
        votes = sum(case.candidates.get(id_, {}).values())
        lines.append(f"{id_:<{width}}  {votes:>9,}  {before} -> {after}")
    lines += ["", "Decisions:"] if case.decisions else []
    lines += [
        f"{decision.at.astimezone():%Y-%m-%d %H:%M}  {decision.number}  {decision.action} "
        f"{decision.votes:,} votes ({decision.moved:,} moved) by {decision.by}: {decision.reason}"
        for decision in case.decisions
    ]
    return "\n".join(lines)
