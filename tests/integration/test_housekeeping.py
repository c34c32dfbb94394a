"""Old days leave the hot state; a clock that jumps takes nobody's memory."""

from datetime import date, timedelta

from tally.housekeeping import rewrite_long_file, unlink_past_days
from tests.conftest import wait_until_async
from voting import journal

TODAY = date(2026, 7, 10)


async def put(valkey, campaign, day):
    await valkey.hset(journal.day_key(0, campaign, day), "device", "record")
    await valkey.hset(journal.network_key(0, campaign, day), "network", "record")


async def test_the_newest_days_of_each_campaign_stay(valkey):
    for back in range(10):
        await put(valkey, "busy", TODAY - timedelta(days=back))
    await put(valkey, "quiet", TODAY - timedelta(days=300))
    await valkey.hset(journal.tally_key(0, "busy"), "1", 5)
    await valkey.hset(journal.life_key(0, "busy"), "device", 5)
    gone = await unlink_past_days(valkey, 0)
    assert len(gone) == 2 * 6
    left = {key.decode() for key in await valkey.keys()}
    assert left == {
        journal.tally_key(0, "busy"),
        journal.life_key(0, "busy"),
        journal.day_key(0, "quiet", TODAY - timedelta(days=300)),
        journal.network_key(0, "quiet", TODAY - timedelta(days=300)),
        *(
            name(0, "busy", TODAY - timedelta(days=back))
            for back in range(4)
            for name in (journal.day_key, journal.network_key)
        ),
    }
    assert await unlink_past_days(valkey, 0) == []


async def test_a_clock_that_jumped_a_year_ahead_costs_no_recent_day(valkey):
    for day in (TODAY - timedelta(days=1), TODAY, TODAY + timedelta(days=365)):
        await put(valkey, "busy", day)
    assert await unlink_past_days(valkey, 0) == []


async def test_a_file_that_grew_is_written_anew_and_a_short_one_is_not(valkey):
    for _ in range(200):
        await valkey.set("key", "x" * 10_000)
    assert not await rewrite_long_file(valkey, 1 << 30)
    assert await rewrite_long_file(valkey, 1 << 20)

    async def short():
        about = await valkey.info("persistence")
        return not about["aof_rewrite_in_progress"] and about["aof_current_size"] < 1 << 20

    await wait_until_async(short)
    assert not await rewrite_long_file(valkey, 1 << 20)
