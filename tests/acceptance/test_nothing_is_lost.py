"""Every acknowledged like is in Postgres, once, whatever is killed on the way."""

import asyncio
import json
import os
import signal
from collections import Counter

import asyncpg
import pytest

from tests.acceptance.conftest import a_service, kill_all, processes_of
from tests.acceptance.voters import Voters
from tests.campaign_folders import MANIFEST, people, write_folder
from tests.conftest import wait_until
from voting.pseudonyms import click_hash

CAMPAIGN = "stars"
OPEN_FOR_LONG = MANIFEST.replace("2027-07-31", "2099-07-31")


def import_campaign(service, folder):
    """744 candidates, made up."""
    write_folder(folder, people(744), manifest=OPEN_FOR_LONG, form="xlsx")
    done = service.dianzan("campaign", "import", folder, "--json")
    report = json.loads(done.stdout)
    assert report["ok"], report
    assert report["candidates"] == 744


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A service with a campaign of 744 candidates, its devices, and a proxy's word believed."""
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8") as service:
        service.up()
        import_campaign(service, tmp_path_factory.mktemp("campaign"))
        yield service


def tokens_of(service, number, campaign):
    path = service.folder / f"tokens-{number}"
    done = service.dianzan("devices", "mint", number, "--campaign", campaign, "--out", path)
    assert done.returncode == 0, done.stderr
    return path.read_text().split()


def tally(service, *options):
    done = service.dianzan("tally", "--campaign", CAMPAIGN, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def settled(service):
    """The tally in Postgres, once it is that of the hot state."""

    def same():
        flushed, hot = tally(service), tally(service, "--hot")
        del flushed["as_of"], hot["as_of"]
        return flushed if flushed == hot else None

    return wait_until(same, seconds=30, what="Postgres' tally = the hot tally")


def votes_in_postgres(service):
    """(click hash as stored, candidate id) of every vote of the campaign."""

    async def read():
        connection = await asyncpg.connect(service.ready["postgres"])
        try:
            return await connection.fetch(
                "SELECT click, id FROM votes JOIN candidates ON candidates.campaign ="
                " votes.campaign AND number = candidate WHERE votes.campaign ="
                " (SELECT number FROM campaigns WHERE id = $1)",
                CAMPAIGN,
            )
        finally:
            await connection.close()

    return asyncio.run(read())


def assert_kept(service, told):
    """Acknowledged = stored, and every sum is the sum of its parts."""
    total = settled(service)
    assert total["received"] == sum(
        total[part] for part in ("counted", "held", "struck", "refused")
    )
    assert total["counted"] == sum(total["counts"].values())
    assert len(total["counts"]) == 744
    stored = Counter((row["click"], row["id"]) for row in votes_in_postgres(service))
    assert max(stored.values(), default=1) == 1, "a click that is stored twice"
    acknowledged = {
        (int.from_bytes(click_hash(click), "big"), candidate)
        for click, candidate in told.acknowledged.items()
    }
    assert len(acknowledged) == len(told.acknowledged)
    # Both ways: nothing acknowledged is missing, and nobody who retries until he has his answer
    # leaves a vote that he was not told of.
    assert acknowledged == stored.keys()
    assert total["counted"] + total["held"] == len(stored)
    # A retried refusal may count again, never less.
    assert total["refused"] >= told.statuses[409] + told.statuses[429]


def voters(service, seed):
    candidates = list(tally(service)["counts"])
    return Voters(service.ready["edge"], CAMPAIGN, candidates, seed)


def test_tally_is_the_sum_of_what_voters_were_told(crowd):
    crowd_of = voters(crowd, 1)
    # Few candidates: repeats come about, and one device in many spends its quota.
    crowd_of.candidates = crowd_of.candidates[:14]
    told = asyncio.run(crowd_of.vote(tokens_of(crowd, 120, CAMPAIGN), 16))
    assert told.statuses.keys() == {200, 201, 409}
    assert_kept(crowd, told)
    crowd.told = told


KILLS = ["edge-0", "flush", "valkey-server", "postgres", "everything"]


def test_kill_9_of_each_part_and_of_all_loses_no_acknowledged_like(crowd):
    told = asyncio.run(_vote_while_killing(crowd, devices=500, likes_per_device=5, rounds=1))
    assert told.retries, "nothing was hit"
    told.acknowledged |= crowd.told.acknowledged
    told.statuses += crowd.told.statuses
    assert_kept(crowd, told)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hundred_thousand_likes_through_kills_are_all_kept(tmp_path):
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8") as service:
        service.up()
        import_campaign(service, tmp_path)
        told = asyncio.run(
            _vote_while_killing(service, devices=20_000, likes_per_device=5, rounds=3)
        )
        assert sum(told.statuses.values()) == 100_000
        assert told.retries
        assert_kept(service, told)


async def _vote_while_killing(service, *, devices, likes_per_device, rounds):
    tokens = await asyncio.to_thread(tokens_of, service, devices, CAMPAIGN)
    crowd_of = await asyncio.to_thread(voters, service, devices)
    voting = asyncio.create_task(crowd_of.vote(tokens, likes_per_device))
    wanted = devices * likes_per_device
    kills = KILLS * rounds
    for number, name in enumerate(kills, 1):
        # Spread over the run by what was answered, not by time.
        while not voting.done() and (
            sum(crowd_of.told.statuses.values()) < wanted * number / (len(kills) + 2)
        ):
            await asyncio.sleep(0.005)
        assert not voting.done(), f"the run was over before {name} was killed"
        await asyncio.to_thread(_kill, service, name)
        if name == "everything":
            crowd_of.edge = service.ready["edge"]
    return await voting


def _kill(service, name):
    if name != "everything":
        os.kill(service.pids()[name], signal.SIGKILL)
        return
    kill_all(processes_of(service.data_dir))
    service.wait()
    # The same port again: clients know no other.
    service.settings["DIANZAN_EDGE_PORT"] = service.ready["edge"].rpartition(":")[2]
    service.up()
