"""Flags become cases, the queue begins with what matters most, the commands act on them."""

import asyncio
import json
import os
import signal
from urllib.request import urlopen

import pytest

from tally.case_files import UnknownFlag, read_case, read_cases
from tally.cases import CONTINUES_FROM_VOTES, add_flags
from tally.holds import WATCH, Action, Case, OneFlag, State, decide
from tally.tallies import read_campaign, read_tally
from tests.campaigns import add_campaign
from tests.conftest import wait_until_async
from tests.decided import counted


async def flags_of(postgres):
    rows = await postgres.fetch("SELECT number, continues, votes FROM flags ORDER BY number")
    return [tuple(row) for row in rows]


async def test_votes_that_are_listed_already_are_no_new_flag(poll, postgres):
    votes = list(await poll.add(counted(100)))
    assert len(await add_flags(postgres, 1, [poll.found(votes)])) == 1
    assert await add_flags(postgres, 1, [poll.found(votes), poll.found(votes[20:])]) == []
    assert await flags_of(postgres) == [(1, None, 100)]


async def test_a_case_continues_with_its_new_votes_once_they_are_enough(poll, postgres):
    votes = list(await poll.add(counted(100)))
    await add_flags(postgres, 1, [poll.found(votes[:60])])
    few = votes[: 60 + CONTINUES_FROM_VOTES - 1]
    assert await add_flags(postgres, 1, [poll.found(few)]) == []
    (added,) = await add_flags(postgres, 1, [poll.found(votes)])
    assert (added.number, added.votes) == (2, 40)
    assert await flags_of(postgres) == [(1, None, 60), (2, 1, 40)]
    # What shares with the second flag is the first one's case, too.
    more = list(await poll.add(counted(50, seed=2)))
    await add_flags(postgres, 1, [poll.found([*votes[70:], *more])])
    assert (await flags_of(postgres))[-1] == (3, 1, 50)


async def test_a_set_that_shares_little_is_a_case_of_its_own_without_the_shared_votes(
    poll, postgres
):
    votes = list(await poll.add(counted(200)))
    await add_flags(postgres, 1, [poll.found(votes[:100])])
    await add_flags(postgres, 1, [poll.found(votes[90:200])])
    assert await flags_of(postgres) == [(1, None, 100), (2, None, 100)]


async def test_flags_of_one_pass_that_share_votes_are_one_case(poll, postgres):
    votes = list(await poll.add(counted(200)))
    found = [poll.found(votes[:50]), poll.found(votes[:150]), poll.found(votes[140:200])]
    await add_flags(postgres, 1, found)
    assert await flags_of(postgres) == [(1, None, 150), (2, None, 50)]


async def test_a_flag_lists_days_and_epochs_apart_and_says_whom_it_would_move(poll, postgres):
    first = await poll.add([*counted(10, 1), *counted(8, 2)])
    poll.builder.new_epoch()
    second = await poll.add(counted(4, 1), seconds=86_400)
    await poll.flag([*first[:3], *second])
    rows = await postgres.fetch("SELECT epoch, seqs FROM flag_votes ORDER BY day")
    assert [tuple(row) for row in rows] == [(1, [1, 2, 3]), (2, [19, 20, 21, 22])]
    flag = await postgres.fetchrow("SELECT * FROM flags")
    assert json.loads(flag["candidates"]) == {"1": 7}
    assert json.loads(flag["effect"]) == {"1": -1, "2": 1}
    assert json.loads(flag["evidence"]) == {"votes": 7, "agent_ratio": 21.5}


async def test_the_queue_begins_with_what_moves_places_and_ends_without_what_was_decided(
    poll, postgres
):
    await poll.add([*counted(30, 1), *counted(20, 2), *counted(10, 3)])
    harmless = await poll.flag(range(5))
    moving = await poll.flag(range(30, 48))
    single = await poll.flag(range(50, 52), kinds=("agent",))
    campaign = await read_campaign(postgres, "spring")
    queue = await read_cases(postgres, campaign)
    assert [case.number for case in queue] == [moving, harmless, single]
    assert queue[0].effect == {"c002": -1, "c003": 1}
    assert queue[0].ranks == {"c002": (2, 3), "c003": (3, 2)}

    # A hold by `watch` moves the votes and leaves the case open; the places are told all the same.
    await decide(postgres, OneFlag(moving), Action.HOLD, by=WATCH, reason="自动")
    (first, *_) = await read_cases(postgres, campaign)
    assert (first.number, first.state(State.HELD), first.places_moved) == (moving, 18, 1)

    await decide(postgres, Case(moving), Action.STRIKE, by="王老师", reason="刷票")
    assert [case.number for case in await read_cases(postgres, campaign)] == [harmless, single]
    everything = await read_cases(postgres, campaign, closed=True)
    assert {case.number for case in everything} == {harmless, moving, single}

    # More of it opens the case again.
    more = await poll.add(counted(12, 2, seed=3))
    await poll.flag([*range(30, 48), *more])
    (first, *_) = await read_cases(postgres, campaign)
    assert (first.number, first.votes, first.state(State.STRUCK)) == (moving, 30, 18)
    assert [decision.by for decision in first.decisions] == [WATCH, "王老师"]
    assert await read_case(postgres, campaign, first.flags[1].number) == first


async def test_a_decision_on_any_flag_of_a_case_is_one_on_all_of_it(poll, postgres):
    votes = list(await poll.add(counted(100)))
    await poll.flag(votes[:60])
    second = await poll.flag(votes)
    decided = await decide(postgres, Case(second), Action.HOLD, by="王老师", reason="x")
    assert decided.votes == 100
    # ... and a part of it for `watch`, which holds what is new.
    decided = await decide(postgres, OneFlag(second), Action.RELEASE, by=WATCH, reason="x")
    assert decided is None


async def test_a_flag_of_another_campaign_is_unknown_here(poll, postgres):
    await poll.flag(await poll.add(counted(10)))
    await add_campaign(postgres, "autumn")
    with pytest.raises(UnknownFlag, match="campaign autumn has no flag 1"):
        await read_case(postgres, await read_campaign(postgres, "autumn"), 1)


# The commands.


async def test_dianzan_flags_shows_the_queue_and_one_case(dianzan, poll, postgres):
    done = await dianzan("flags", "--campaign", "spring")
    assert (done.code, done.out) == (0, "Nothing waits for a decision.\n")
    await poll.add([*counted(30, 1), *counted(20, 2)])
    await poll.flag(range(20))
    done = await dianzan("flags", "--campaign", "spring", "--json")
    shown = json.loads(done.out)
    assert done.out.count("\n") == 1
    assert shown["campaign"] == "spring"
    (case,) = shown["cases"]
    assert case["flag"] == 1
    assert case["candidates"] == {"c001": 20}
    assert case["effect"] == {"c001": -1, "c002": 1}
    assert (case["counted"], case["held"], case["struck"]) == (20, 0, 0)
    assert case["flags"][0]["evidence"] == {"votes": 20, "agent_ratio": 21.5}
    assert case["open"] is True

    table = await dianzan("flags", "--campaign", "spring")
    assert "这里随便取两票" in table.out
    one = await dianzan("flags", "1")
    for said in ("20 votes", "agent_ratio = 21.5", "c001", "1 -> 2", "这里随便取两票"):
        assert said in one.out
    assert json.loads((await dianzan("flags", "1", "--json")).out) == case


async def test_dianzan_decide_says_beforehand_and_then_moves(dianzan, poll, postgres):
    await poll.flag(await poll.add([*counted(5, 1), *counted(3, 2)]))
    order = ("decide", "1", "strike", "--by", "王老师", "--reason", "刷票")
    tried = await dianzan(*order, "--dry-run")
    assert tried.code == 0
    assert tried.out.splitlines() == [
        "Would be decided: strike 8 votes of flag 1; 8 move",
        "  c001  counted -5  struck +5",
        "  c002  counted -3  struck +3",
    ]
    assert await postgres.fetchval("SELECT count(*) FROM decisions") == 0
    done = await dianzan(*order, "--json")
    assert json.loads(done.out) == {
        "decision": 1,
        "campaign": "spring",
        "flag": 1,
        "action": "strike",
        "votes": 8,
        "moved": 8,
        "candidates": {
            "c001": {"counted": -5, "held": 0, "struck": 5},
            "c002": {"counted": -3, "held": 0, "struck": 3},
        },
    }
    undone = await dianzan("decide", "1", "release", "--by", "李老师", "--reason", "查明了")
    assert "Decision 2: release 8 votes" in undone.out
    assert (await read_tally(postgres, "spring")).counted == 8
    closed = await dianzan("flags", "--campaign", "spring", "--all", "--json")
    (case,) = json.loads(closed.out)["cases"]
    assert [decision["by"] for decision in case["decisions"]] == ["王老师", "李老师"]
    shown = await dianzan("flags", "1")
    assert "release 8 votes (8 moved) by 李老师: 查明了" in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("flags",), "say a flag's number, or --campaign ID for the queue"),
        (("flags", "7"), "there is no flag 7"),
        (("flags", "--campaign", "winter"), "no campaign 'winter'; known: spring"),
        (("decide", "7", "hold", "--by", "王", "--reason", "x"), "there is no flag 7"),
        (("decide", "1", "hold", "--by", " Watch", "--reason", "x"), "say a person's name"),
        (("decide", "1", "hold", "--by", "王", "--reason", " "), "a decision needs a name and"),
    ],
)
async def test_what_cannot_be_is_said_in_one_line(dianzan, poll, arguments, said):
    await poll.flag(await poll.add(counted(10)))
    done = await dianzan(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [("watch",), ("flags", "1"), ("decide", "1", "hold", "--by", "王", "--reason", "x")],
)
async def test_without_servers_a_command_says_what_is_missing(
    dianzan,
    tmp_path,
    command,
):
    done = await dianzan(*command, without=("DIANZAN_VALKEY_URL", "DIANZAN_POSTGRES_DSN"))
    assert (done.code, done.out) == (2, "")
    assert f"`dianzan up` is not running on the data folder {tmp_path}" in done.err
    assert done.err.count("\n") == 1


async def test_dianzan_watch_announces_itself_serves_metrics_and_stops_on_sigterm(
    start,
    poll,
    postgres,
):
    read_end, write_end = os.pipe()
    process = await start("watch", "--ready-fd", str(write_end), pass_fds=(write_end,))
    os.close(write_end)
    with os.fdopen(read_end) as ready:
        announced = json.loads(await asyncio.to_thread(ready.readline))
    url = f"{announced['admin']}/metrics"

    async def told():
        metrics = await asyncio.to_thread(lambda: urlopen(url).read().decode())  # noqa: S310
        return "dianzan_watch_look_seconds_count 1.0" in metrics and "dianzan_watch_lag" in metrics

    await wait_until_async(told, what="the metrics")
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in err


async def test_dianzan_watch_says_in_one_line_why_it_cannot_go_on(dianzan, valkey, postgres):
    await valkey.xadd("{s0}:journal", {"x": "y"}, id="1-0")
    done = await dianzan("watch")
    assert (done.code, done.out) == (1, "")
    said = json.loads(done.err.splitlines()[-1])
    assert said["event"] == "watch-failed"
    assert said["why"] == "JournalError: entry 1-0 has no field 'e'"


async def test_a_process_of_the_watch_says_nothing_that_names_a_device_or_a_network(
    start,
    poll,
    postgres,
):
    process = await start("watch")
    votes = await poll.add(counted(40, 2))
    await poll.flag(votes)

    async def held():
        return await postgres.fetchval("SELECT count(*) FROM decisions")

    # A flag that nobody held is held at the first pass.
    await wait_until_async(held, 15, what="the hold")
    process.send_signal(signal.SIGTERM)
    _, err = await asyncio.wait_for(process.communicate(), 10)
    text = err.decode()
    for vote in poll.votes:
        for name in (vote.device, vote.network, vote.network_wide):
            assert name.hex() not in text
            assert str(int.from_bytes(name, "big", signed=True)) not in text
