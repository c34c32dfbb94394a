"""What is destroyed after its time, and what is not."""

from datetime import UTC, datetime, timedelta

import pytest

from deploy.backup.retain import retain
from tests.campaigns import add_campaign

NOW = datetime.now(UTC)
TODAY = NOW.date()
DISPUTE, LOG = timedelta(days=30), timedelta(days=183)


@pytest.fixture
async def days(postgres):
    """A key for each of the last 120 days."""
    await postgres.executemany(
        "INSERT INTO pseudonym_keys VALUES ($1, $2)",
        [(TODAY - timedelta(days=ago), bytes(32)) for ago in range(120)],
    )

    async def left():
        rows = await postgres.fetch("SELECT day FROM pseudonym_keys")
        return {(TODAY - row["day"]).days for row in rows}

    return left


async def campaign(postgres, name, opened_ago, closed_ago):
    await add_campaign(
        postgres,
        name,
        opens_at=NOW - timedelta(days=opened_ago),
        closes_at=NOW - timedelta(days=closed_ago),
    )


async def destroy(postgres, **options):
    return await retain(postgres, dispute=DISPUTE, log=LOG, dry_run=False, **options)


async def test_keys_go_when_nobody_may_dispute_their_days_any_more(postgres, days):
    await campaign(postgres, "long-over", 110, 80)
    await campaign(postgres, "over", 60, 20)
    await campaign(postgres, "open", 5, -5)
    would = await retain(postgres, dispute=DISPUTE, log=LOG, dry_run=True)
    assert await days() == set(range(120)), "a dry run"
    done = await destroy(postgres)
    assert would == done
    left = await days()
    assert {3, 20, 40, 60} <= left, "of a campaign that may be disputed, or is open"
    assert not left & {85, 100, 110}, "of one that is over for good"
    assert {0, 1} <= left, "of days whose likes may still come"
    assert 15 not in left, "between two campaigns"
    assert done.keys == 120 - len(left)
    assert (await destroy(postgres)).keys == 0


async def test_overlapping_campaigns_keep_what_one_of_them_needs(postgres, days):
    await campaign(postgres, "over", 100, 50)
    await campaign(postgres, "longer", 90, 10)
    await destroy(postgres)
    left = await days()
    assert {60, 80, 90} <= left
    assert not left & {95, 100}


async def test_sessions_of_staff_go_after_the_logs_time(postgres):
    number = await postgres.fetchval(
        "INSERT INTO staff (name, shown_as, role) VALUES ('li', '李', 'viewer') RETURNING number"
    )
    for ago in (1, 182, 184, 400):
        await postgres.execute(
            "INSERT INTO staff_sessions VALUES ($1, $2, $3, $3, true)",
            bytes([ago % 256]) * 32,
            number,
            NOW - timedelta(days=ago),
        )
    assert (await destroy(postgres)).sessions == 2
    assert await postgres.fetchval("SELECT count(*) FROM staff_sessions") == 2


async def test_the_command_says_what_it_would_do(dianzan, postgres, days):
    await campaign(postgres, "long-over", 110, 80)
    asked = await dianzan("retain", "--dry-run")
    assert asked.code == 0, asked.err
    assert "would be destroyed" in asked.out
    assert await days() == set(range(120))
    done = await dianzan("retain", "--dispute-days", "100")
    assert done.code == 0
    assert {85, 100} <= await days(), "it closed 80 days ago"
