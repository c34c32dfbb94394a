"""What takes two persons: who may, what is executed, once, and together with its record."""

import asyncio
import json

import asyncpg
import pytest

from tally import audit, proposals
from tally.accounts import staff
from tally.case_decisions import (
    NeedsSecond,
    content_of,
    decide_alone,
    persons_of,
    preview,
)
from tally.case_files import read_case
from tally.holds import WATCH, Action, Case, Decider, DecisionError, OneFlag, State, decide
from tally.proposal_kinds import CannotBeDone
from tally.proposals import (
    Outcome,
    approve,
    list_proposals,
    look_now,
    propose,
    read_proposal,
    reject,
    seen,
    withdraw,
)
from tally.tallies import read_campaign, read_tally
from tests.campaigns import add_campaign
from tests.decided import counted
from tests.staff_members import add_person

UNSEEN = "甲\u202e乙"


@pytest.fixture
async def office(poll, postgres):
    """A case of 8 votes, with a strike on it proposed by li; wang may agree."""
    return await Office(poll, postgres).begun()


class Office:
    def __init__(self, poll, postgres):
        self.poll, self.postgres = poll, postgres

    async def begun(self):
        self.li = await add_person(self.postgres, "li")
        self.wang = await add_person(self.postgres, "wang", "admin")
        self.votes = await self.poll.add([*counted(5, 1), *counted(3, 2)])
        self.flag = await self.poll.flag(self.votes)
        self.campaign = await read_campaign(self.postgres, "spring")
        return self

    async def propose(self, action=Action.STRIKE, by=None, reason="同一台手机"):
        content = content_of(self.campaign, [self.flag], action)
        answer = await propose(
            self.postgres, "decide", campaign=1, content=content, reason=reason, by=by or self.li
        )
        assert answer.done, answer
        return answer.number

    async def approve(self, number, by=None, connection=None):
        """As somebody who looks at it now, and agrees to what they see."""
        connection = connection or self.postgres
        shown = await look_now(connection, await read_proposal(connection, number))
        return await approve(connection, number, by=by or self.wang, shown=seen(shown))

    async def told(self):
        return [
            (row.actor, row.action, row.subject)
            for row in [row async for row in audit.rows(self.postgres)]
        ]


async def test_a_strike_is_proposed_by_one_and_executed_when_another_agrees(office, postgres):
    number = await office.propose()
    assert await office.poll.states() == [State.COUNTED] * 8
    answer = await office.approve(number)
    assert (answer.outcome, answer.said) == (Outcome.DONE, "decision 1: 8 votes moved")
    assert await office.poll.states() == [State.STRUCK] * 8
    row = await postgres.fetchrow("SELECT decided_by, reason, action FROM decisions")
    assert tuple(row) == ("li+wang", "同一台手机", "strike")
    assert persons_of(row["decided_by"]) == ("li", "wang")
    proposal = await read_proposal(postgres, number)
    assert (proposal.state, proposal.settled_by, proposal.answer) == (
        "approved", office.wang, "decision 1: 8 votes moved",
    )  # fmt: skip
    assert await office.told() == [
        ("li", "proposal.made", f"proposal {number}"),
        ("li", "case.strike", "flag 1"),
        ("wang", "proposal.approved", f"proposal {number}"),
    ]
    strike = json.loads([row async for row in audit.rows(postgres)][1].details)
    assert strike["approved_by"] == "wang"
    assert strike["candidates"] == {"1": [-5, 0, 5], "2": [-3, 0, 3]}
    assert (await audit.verify(postgres)).broken_at is None


async def test_nobody_agrees_to_their_own_proposal_and_the_database_would_not_take_it(
    office, postgres
):
    number = await office.propose()
    assert (await office.approve(number, by=office.li)).outcome is Outcome.OWN
    assert (await reject(postgres, number, by=office.li, reason="x")).outcome is Outcome.OWN
    with pytest.raises(asyncpg.CheckViolationError):
        await postgres.execute(
            "UPDATE proposals SET state = 'approved', settled_by = proposed_by, settled_at = now()"
        )
    assert await office.poll.states() == [State.COUNTED] * 8
    assert [proposal.number for proposal in await list_proposals(postgres)] == [number]


@pytest.mark.parametrize("role", ["viewer", "office"])
async def test_who_looks_on_neither_proposes_nor_settles(office, postgres, role):
    looker = await add_person(postgres, "looker", role)
    content = content_of(office.campaign, [1], Action.STRIKE)
    answer = await propose(postgres, "decide", campaign=1, content=content, reason="x", by=looker)
    assert answer.outcome is Outcome.NOT_ALLOWED
    number = await office.propose()
    assert (await office.approve(number, by=looker)).outcome is Outcome.NOT_ALLOWED
    assert (await reject(postgres, number, by=looker, reason="x")).outcome is Outcome.NOT_ALLOWED
    assert (await withdraw(postgres, number, by=looker)).outcome is Outcome.NOT_ALLOWED
    assert len(await list_proposals(postgres)) == 1


async def test_whoever_was_disabled_settles_nothing_whatever_session_is_left(office, postgres):
    number = await office.propose()
    await postgres.execute("UPDATE staff SET disabled_at = now() WHERE number = $1", office.wang)
    assert (await office.approve(number)).outcome is Outcome.NOT_ALLOWED


@pytest.mark.parametrize("change", ["disabled_at = now()", "role = 'viewer'"])
async def test_what_somebody_proposed_who_may_not_any_more_is_not_executed(
    office, postgres, change
):
    number = await office.propose()
    await postgres.execute(f"UPDATE staff SET {change} WHERE number = $1", office.li)
    assert (await office.approve(number)).outcome is Outcome.PROPOSER_GONE
    assert await office.poll.states() == [State.COUNTED] * 8
    assert (await reject(postgres, number, by=office.wang, reason="人已离任")).done


async def test_two_who_agree_at_once_execute_once(office, postgres, postgres_dsn):
    number = await office.propose()
    zhao = await add_person(postgres, "zhao")
    others = [await asyncpg.connect(postgres_dsn) for _ in range(2)]
    try:
        answers = await asyncio.gather(
            office.approve(number, office.wang, others[0]), office.approve(number, zhao, others[1])
        )
    finally:
        for connection in others:
            await connection.close()
    assert {answer.outcome for answer in answers} == {Outcome.DONE, Outcome.SETTLED}
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 1
    assert await postgres.fetchval("SELECT count(*) FROM audit_log") == 3


async def test_one_agrees_and_another_refuses_at_once_and_one_of_it_happens(
    office, postgres, postgres_dsn
):
    number = await office.propose()
    zhao = await add_person(postgres, "zhao")
    others = [await asyncpg.connect(postgres_dsn) for _ in range(2)]
    try:
        agreed, refused = await asyncio.gather(
            office.approve(number, office.wang, others[0]),
            reject(others[1], number, by=zhao, reason="再看看"),
        )
    finally:
        for connection in others:
            await connection.close()
    assert agreed.done != refused.done
    struck = (await read_tally(postgres, "spring")).struck
    assert struck == (8 if agreed.done else 0)
    state = (await read_proposal(postgres, number)).state
    assert state == ("approved" if agreed.done else "rejected")


async def test_what_was_not_shown_is_not_agreed_to(office, postgres):
    number = await office.propose()
    proposal = await read_proposal(postgres, number)
    shown = seen(await look_now(postgres, proposal))
    assert shown == seen(proposal.ground)
    # The case grows between the look and the word.
    more = await office.poll.add(counted(20, 1, seed=4))
    await office.poll.flag([*office.votes, *more])
    answer = await approve(postgres, number, by=office.wang, shown=shown)
    assert answer.outcome is Outcome.GROUND_CHANGED
    assert await office.poll.states() == [State.COUNTED] * 28
    assert (await read_proposal(postgres, number)).state == "open"
    # A fresh look tells both, and that is agreed to.
    now = await look_now(postgres, proposal)
    assert (proposal.ground["votes"], now["votes"]) == (8, 28)
    answer = await approve(postgres, number, by=office.wang, shown=seen(now))
    assert answer.said == "decision 1: 28 votes moved"


async def test_an_answer_without_a_look_is_no_agreement(office, postgres):
    number = await office.propose()
    assert (await approve(postgres, number, by=office.wang)).outcome is Outcome.GROUND_CHANGED


async def test_a_proposal_is_settled_once(office, postgres):
    number = await office.propose()
    assert (await reject(postgres, number, by=office.wang, reason=" ")).outcome is Outcome.NO_REASON
    assert (await reject(postgres, number, by=office.wang, reason="证据不足")).done
    for answer in (
        await office.approve(number),
        await reject(postgres, number, by=office.wang, reason="x"),
        await withdraw(postgres, number, by=office.li),
    ):
        assert answer.outcome is Outcome.SETTLED
    assert (await read_proposal(postgres, number)).answer == "证据不足"
    assert await list_proposals(postgres) == []
    assert [one.number for one in await list_proposals(postgres, settled=True)] == [number]


async def test_only_who_proposed_it_takes_it_back(office, postgres):
    number = await office.propose()
    assert (await withdraw(postgres, number, by=office.wang)).outcome is Outcome.NOT_ALLOWED
    assert (await withdraw(postgres, number, by=office.li)).done
    assert (await office.approve(number)).outcome is Outcome.SETTLED


async def test_a_proposal_that_is_not_there_is_unknown(office, postgres):
    assert (await approve(postgres, 77, by=office.wang)).outcome is Outcome.UNKNOWN
    assert (await reject(postgres, 77, by=office.wang, reason="x")).outcome is Outcome.UNKNOWN
    assert (await withdraw(postgres, 77, by=office.wang)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("cases", "said"),
    [([9], "there is no case 9"), ([], "1 to 50 cases"), (range(1, 60), "1 to 50")],
)
async def test_what_cannot_be_done_is_not_proposed(office, postgres, cases, said):
    content = content_of(office.campaign, cases, Action.STRIKE)
    answer = await propose(
        postgres, "decide", campaign=1, content=content, reason="x", by=office.li
    )
    assert answer.outcome is Outcome.IMPOSSIBLE
    assert said in answer.said
    assert await postgres.fetchval("SELECT count(*) FROM proposals") == 0
    assert await postgres.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_a_reason_is_wanted_and_bounded_and_so_is_what_waits(office, postgres, monkeypatch):
    content = content_of(office.campaign, [1], Action.STRIKE)
    for reason in ("", "  ", "长" * 2_001):
        answer = await propose(
            postgres, "decide", campaign=1, content=content, reason=reason, by=office.li
        )
        assert answer.outcome is Outcome.NO_REASON
    monkeypatch.setattr(proposals, "OPEN_MAX", 1)
    await office.propose()
    answer = await propose(
        postgres, "decide", campaign=1, content=content, reason="x", by=office.li
    )
    assert answer.outcome is Outcome.TOO_MANY


async def test_a_crash_at_any_statement_leaves_all_of_an_approval_or_nothing(
    office, postgres, postgres_dsn, monkeypatch
):
    number = await office.propose()
    before = await _everything(postgres)

    class Crash(Exception):
        pass

    whole = asyncpg.Connection._do_execute
    dies_at, finished = 0, False
    while not finished:
        connection = await asyncpg.connect(postgres_dsn)
        steps = iter(range(1_000))

        async def dying(self, *arguments, steps=steps, dies_at=dies_at, **options):
            if next(steps) == dies_at:
                raise Crash
            return await whole(self, *arguments, **options)

        shown = seen((await read_proposal(postgres, number)).ground)
        monkeypatch.setattr(asyncpg.Connection, "_do_execute", dying)
        try:
            answer = await approve(connection, number, by=office.wang, shown=shown)
            finished = True
        except Crash:
            pass
        finally:
            monkeypatch.setattr(asyncpg.Connection, "_do_execute", whole)
            connection.terminate()
        if not finished:
            assert await _everything(postgres) == before
        dies_at += 1
    assert answer.done
    assert dies_at > 15, "it has as many steps"
    assert await office.poll.states() == [State.STRUCK] * 8


async def _everything(postgres):
    return {
        table: await postgres.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        for table in (
            "proposals", "decisions", "decision_votes", "vote_state", "adjudications", "tallies",
            "minutes", "audit_log",
        )
    }  # fmt: skip


# One person's decisions.


async def test_one_reviewer_holds_and_releases_and_strikes_nothing(office, postgres):
    by = Decider("li", "reviewer")
    (held,) = await decide_alone(postgres, office.campaign, [1], Action.HOLD, by=by, reason="等等")
    assert held.moved == 8
    assert isinstance(
        await decide_alone(postgres, office.campaign, [1], Action.STRIKE, by=by, reason="x"),
        NeedsSecond,
    )
    assert await office.poll.states() == [State.HELD] * 8
    (released,) = await decide_alone(
        postgres, office.campaign, [1], Action.RELEASE, by=by, reason="查明"
    )
    assert released.moved == 8
    assert [told[:2] for told in await office.told()] == [
        ("li", "case.hold"),
        ("li", "case.release"),
    ]


@pytest.mark.parametrize("action", [Action.RELEASE, Action.HOLD])
async def test_what_two_struck_one_alone_does_not_bring_back(office, postgres, action):
    await office.approve(await office.propose())
    by = Decider("li", "reviewer")
    assert isinstance(
        await decide_alone(postgres, office.campaign, [1], action, by=by, reason="x"), NeedsSecond
    )
    assert await office.poll.states() == [State.STRUCK] * 8
    assert (await office.approve(await office.propose(action))).done
    assert State.STRUCK not in await office.poll.states()
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 2, "undo is a new decision"


async def test_several_cases_are_decided_together_each_under_its_own_number(
    office, postgres, valkey
):
    other = await office.poll.flag(await office.poll.add(counted(4, 3, seed=8)))
    by = Decider("li", "reviewer")
    decided = await decide_alone(
        postgres, office.campaign, [office.flag, other], Action.HOLD, by=by, reason="x"
    )
    assert [(one.number, one.moved, len(one.deltas)) for one in decided] == [(1, 8, 2), (2, 4, 1)]
    assert [tuple(row) for row in await postgres.fetch(
        "SELECT number, flag, votes, moved FROM decisions ORDER BY number"
    )] == [(1, 1, 8, 8), (2, 2, 4, 4)]  # fmt: skip
    tally = await read_tally(postgres, "spring")
    assert (tally.counted, tally.held) == (0, 12)
    assert await postgres.fetchval("SELECT sum(held) FROM minutes") == 12
    numbers = await postgres.fetch("SELECT number, decision FROM adjudications ORDER BY number")
    assert [tuple(row) for row in numbers] == [(1, 1), (2, 2)]


async def test_of_several_cases_all_are_decided_or_none(office, postgres):
    by = Decider("li", "reviewer")
    with pytest.raises(CannotBeDone, match="there is no case 9"):
        await decide_alone(postgres, office.campaign, [1, 9], Action.HOLD, by=by, reason="x")
    await add_campaign(postgres, "autumn")
    await postgres.execute(
        "INSERT INTO flags SELECT 2, at, 2, continues, rules, version, kinds, evidence, sentence,"
        " score, automatic, votes, candidates, effect FROM flags"
    )
    with pytest.raises(CannotBeDone, match="there is no case 2"):
        await decide_alone(postgres, office.campaign, [1, 2], Action.HOLD, by=by, reason="x")
    assert await office.poll.states() == [State.COUNTED] * 8
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0


async def test_a_decision_may_be_a_part_of_a_transaction_and_go_with_it(office, postgres):
    transaction = postgres.transaction()
    await transaction.start()
    for action in (Action.HOLD, Action.RELEASE, Action.STRIKE):
        await decide(postgres, Case(1), action, by="王老师", reason="x")
    assert await office.poll.states() == [State.STRUCK] * 8
    await transaction.rollback()
    assert await office.poll.states() == [State.COUNTED] * 8
    assert await postgres.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_nobody_decides_in_the_rules_name(office, postgres):
    with pytest.raises(DecisionError, match="not a person"):
        await decide(postgres, Case(1), Action.HOLD, by=Decider("watch", "reviewer"), reason="x")
    with pytest.raises(DecisionError, match="at most 100 characters"):
        await decide(postgres, Case(1), Action.HOLD, by="名" * 101, reason="x")


async def test_what_the_rules_and_commands_decide_is_in_the_audit_log_too(office, postgres):
    await decide(postgres, OneFlag(1), Action.HOLD, by=WATCH, reason="自动")
    await decide(postgres, Case(1), Action.STRIKE, by="王老师", reason="命令")
    rows = [row async for row in audit.rows(postgres)]
    assert [(row.actor, row.role, row.action) for row in rows] == [
        ("watch", "part", "case.hold"),
        ("王老师", "command", "case.strike"),
    ]
    # A trial is none.
    await decide(postgres, Case(1), Action.RELEASE, by="王老师", reason="x", dry_run=True)
    assert await postgres.fetchval("SELECT count(*) FROM audit_log") == 2


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("before", [None, Action.HOLD, Action.STRIKE])
async def test_a_preview_says_what_the_decision_then_moves(office, postgres, before, action):
    if before is not None:
        await decide(postgres, Case(1), before, by="王老师", reason="x")
    shown = await preview(postgres, office.campaign, [1], action)
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == (before is not None)
    decided = await decide(postgres, Case(1), action, by="王老师", reason="x")
    assert (shown.votes, shown.moved) == (decided.votes, decided.moved)
    assert sorted((m.candidate, m.counted, m.held, m.struck) for m in shown.moves) == [
        tuple(delta) for delta in decided.deltas
    ]
    counts = dict(await postgres.fetch("SELECT candidate, counted FROM tallies"))
    assert all(move.likes[1] == counts[move.candidate] for move in shown.moves)


async def test_a_preview_says_whose_place_moves_though_no_vote_of_theirs_does(office, postgres):
    await office.poll.add(counted(4, 3, seed=5))
    shown = await preview(postgres, office.campaign, [1], Action.STRIKE)
    assert [(m.candidate, m.place) for m in shown.moves] == [(1, (1, 2)), (2, (3, 2))]
    assert [(m.candidate, m.likes, m.place) for m in shown.others] == [
        (3, (4, 4), (2, 1)),
        (4, (0, 0), (4, 2)),
    ]


@pytest.mark.parametrize(
    ("decided_by", "persons"),
    [
        ("watch", ()),
        ("li+wang", ("li", "wang")),
        ("li", ("li",)),
        ("王老师+李老师", ("王老师+李老师",)),
    ],
)
def test_who_decided_is_read_out_of_what_was_recorded(decided_by, persons):
    assert persons_of(decided_by) == persons


async def test_a_case_file_names_both(office, postgres):
    await office.approve(await office.propose())
    case = await read_case(postgres, office.campaign, 1)
    assert not case.open
    assert [decision.by for decision in case.decisions] == ["li+wang"]


async def test_a_reason_with_what_cannot_be_seen_is_refused_and_lines_stay(office, postgres):
    content = content_of(office.campaign, [1], Action.STRIKE)
    answer = await propose(
        postgres, "decide", campaign=1, content=content, reason=UNSEEN, by=office.li
    )
    assert (answer.outcome, "U+202E" in answer.said) == (Outcome.UNFIT_REASON, True)
    number = await office.propose(reason=" 一\r\n二 ")
    assert (await read_proposal(postgres, number)).reason == "一\n二"
    answer = await reject(postgres, number, by=office.wang, reason=UNSEEN)
    assert answer.outcome is Outcome.UNFIT_REASON
    assert (await read_proposal(postgres, number)).state == "open"
    with pytest.raises(DecisionError, match=r"U\+202E"):
        await decide(postgres, Case(1), Action.HOLD, by="li", reason=UNSEEN)


async def _take_in_hand(connection, how, number, name, by):
    match how:
        case "add":
            await staff.add(connection, name, "admin", by=by)
        case "reset":
            await staff.reset(connection, number, by=by, password=False, totp=True)
        case "enable":
            await staff.disable(connection, number, by=by)
            await staff.enable(connection, number, by=by)
        case "role":
            await staff.set_role(connection, number, "viewer", by=by)
            await staff.set_role(connection, number, "admin", by=by)


@pytest.mark.parametrize("how", ["add", "reset", "enable", "role"])
@pytest.mark.parametrize("who_agrees", ["the other", "whoever did it"])
async def test_who_had_the_others_account_in_hand_is_no_second_person(
    office, postgres, how, who_agrees
):
    chief = staff.By("wang", "admin")
    other = None if how == "add" else await add_person(postgres, "zhao", "admin")
    await _take_in_hand(postgres, how, other, "zhao", chief)
    other = other or (await staff.find(postgres, "zhao")).number
    pair = (office.wang, other) if who_agrees == "the other" else (other, office.wang)
    number = await office.propose(by=pair[0])
    assert (await office.approve(number, by=pair[1])).outcome is Outcome.SAME_HAND
    assert await office.poll.states() == [State.COUNTED] * 8
    assert (await office.approve(number, by=office.li)).done, "a third person may"


@pytest.mark.parametrize("how", ["add", "reset", "enable", "role"])
async def test_what_a_command_did_to_an_account_is_nobodys_of_the_staff(office, postgres, how):
    # The user of the machine may have any name.
    other = None if how == "add" else await add_person(postgres, "zhao", "admin")
    await _take_in_hand(postgres, how, other, "zhao", staff.By("wang", "command"))
    other = other or (await staff.find(postgres, "zhao")).number
    number = await office.propose(by=office.wang)
    assert (await office.approve(number, by=other)).done


async def test_after_seven_days_they_are_two_persons(office, postgres, monkeypatch):
    await staff.reset(postgres, office.li, by=staff.By("wang", "admin"), password=True, totp=False)
    number = await office.propose()
    assert (await office.approve(number)).outcome is Outcome.SAME_HAND
    await postgres.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    await postgres.execute("UPDATE audit_log SET at = at - $1::interval", proposals.HANDS_OFF)
    assert (await office.approve(number)).done


async def test_what_one_did_to_oneself_or_to_a_third_one_is_no_matter(office, postgres):
    await add_person(postgres, "zhao")
    for number, by in ((office.wang, "wang"), (office.li, "li"), (3, "wang")):
        await staff.reset(postgres, number, by=staff.By(by, "admin"), password=True, totp=False)
    assert (await office.approve(await office.propose())).done
