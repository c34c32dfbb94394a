"""`dianzan recount` over votes in a real Postgres: what would be another, with nothing touched."""

import asyncio
import json
import os
import sys

import pytest

from antifraud.heuristics import RULES_VERSION
from antifraud.networks import NetworkClass
from antifraud.screen import Decision
from tally.recount import RuleSet, read_rules, recount_campaign
from tally.rows import Batch
from tally.store import ShardStore
from tests.campaigns import add_campaign
from tests.journal_builder import JournalBuilder, make_vote
from voting.ballot import Outcome
from voting.journal import Refusal

STRICT = """
[weights_nats]
datacentre = 9.0
[family_caps_nats]
network = 9.0
"""


def vote(random, candidate, network_class=NetworkClass.HOME, *, score=-4_100, held=False):
    """Of a phone, ten minutes after its token, by the rules in force."""
    return make_vote(random, candidate, Decision.HOLD if held else Decision.COUNT)._replace(
        network_class=int(network_class),
        user_agent_class=40,
        token_age_seconds=600,
        token_level=0x11,
        dwell_centiseconds=450,
        rules=RULES_VERSION,
        score=score,
        reasons=bytes(3),
    )


@pytest.fixture
async def month(postgres):
    """Three candidates' votes: at home, out of a datacentre, held above a limit, and refusals."""
    await add_campaign(postgres, "spring", candidates=3)
    journal = JournalBuilder(4)
    random = journal.random
    entries = [
        journal.entry([vote(random, 1) for _ in range(5)]),
        journal.entry(
            [
                *(vote(random, 2) for _ in range(2)),
                *(
                    vote(random, 2, NetworkClass.DATACENTRE, score=-1_100)._replace(
                        reasons=b"\x10\0\0"
                    )
                    for _ in range(3)
                ),
            ],
            [Refusal(2, Outcome.THROTTLED, 7)],
        ),
        journal.entry(
            [vote(random, 3, held=True, score=-2_600)._replace(reasons=b"\1\0\0") for _ in range(4)]
        ),
    ]
    store = ShardStore(postgres, 0)
    assert await store.try_lock()
    await store.open()
    await store.add_entries(Batch([entry.placed for entry in entries]))


@pytest.fixture
def strict(tmp_path):
    path = tmp_path / "strict.toml"
    path.write_text(STRICT)
    return path


async def everything(postgres):
    return [
        await postgres.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")
        for table in ("votes", "tallies", "refusals", "minutes", "minute_totals", "watermarks")
    ]


async def test_other_rules_hold_what_they_speak_against(month, postgres, postgres_dsn, strict):
    before = await everything(postgres)
    report = (await recount_campaign(postgres_dsn, "spring", read_rules(strict))).as_json()
    assert report["votes"] == 14
    assert report["candidates"] == {
        "c001": {"now": 5, "then": 5, "difference": 0, "challenged": 0},
        "c002": {"now": 5, "then": 2, "difference": -3, "challenged": 0},
        "c003": {"now": 0, "then": 0, "difference": 0, "challenged": 0},
    }
    assert (report["would_hold"], report["would_count"], report["cannot_judge"]) == (3, 0, 7)
    assert await everything(postgres) == before


async def test_the_rules_in_force_change_nothing(month, postgres_dsn):
    report = (await recount_campaign(postgres_dsn, "spring", RuleSet())).as_json()
    assert all(each["difference"] == 0 for each in report["candidates"].values())


async def run(dsn, *arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.cli", "recount", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DIANZAN_POSTGRES_DSN": dsn, "DIANZAN_VALKEY_URL": "redis://unused:1"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, out.decode(), err.decode()


async def test_the_command_prints_the_difference_and_what_it_cannot_know(
    month, postgres_dsn, strict
):
    code, out, _ = await run(postgres_dsn, "--campaign", "spring", "--rules", str(strict))
    assert code == 0
    assert "14 votes judged again" in out
    assert "not judged: 7 ballots that were refused, which left no row" in out
    assert out.splitlines()[-1].split() == ["c002", "5", "2", "-3"]
    code, out, _ = await run(postgres_dsn, "--campaign", "spring", "--rules", str(strict), "--json")
    assert json.loads(out)["would_hold"] == 3


async def test_what_is_wrong_is_one_line(month, postgres_dsn, strict, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[weights_nats]\nnonsense = 1.0")
    for arguments, said in (
        (("--campaign", "spring", "--rules", str(wrong)), "there is no nonsense"),
        (("--campaign", "spring", "--rules", str(tmp_path / "absent")), "No such file"),
        (("--campaign", "autumn", "--rules", str(strict)), "no campaign 'autumn'"),
        (("--campaign", "spring"), "--rules FILE"),
    ):
        code, out, err = await run(postgres_dsn, *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert said in err
