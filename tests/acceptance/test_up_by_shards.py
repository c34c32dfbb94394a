"""`dianzan up` with several shards: one service like any other."""

import asyncio

import pytest

from tests.acceptance.conftest import a_service
from tests.acceptance.test_nothing_is_lost import (
    CAMPAIGN,
    assert_kept,
    import_campaign,
    tokens_of,
    voters,
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_shards_are_one_service_and_stay_so(tmp_path):
    with a_service(DIANZAN_TRUSTED_PROXIES="127.0.0.0/8") as service:
        service.up()
        import_campaign(service, tmp_path / "campaign")
        first = voters(service, 1)
        told = asyncio.run(first.vote(tokens_of(service, 20, CAMPAIGN), 3, at_once=8))
        service.stop()
        # From now on there are three; other commands know it by the data folder alone.
        service.up(DIANZAN_SHARDS="3")
        more = voters(service, 2)
        tokens = tokens_of(service, 60, CAMPAIGN)
        again = asyncio.run(more.vote(tokens, 3, at_once=8))
        told.acknowledged |= again.acknowledged
        told.statuses += again.statuses
        assert_kept(service, told)
        published = service.dianzan(
            "publish", "--campaign", CAMPAIGN, "--now", "--out", tmp_path / "published"
        )
        assert published.returncode == 0, published.stderr
        verified = service.dianzan("verify", tmp_path / "published")
        assert verified.returncode == 0, verified.stdout
        service.stop()
        # Fewer would not know of some votes.
        service.start(DIANZAN_SHARDS="2")
        assert service.wait() == 2
        assert "there are votes on 3 shards: set DIANZAN_SHARDS to 3" in service.said
