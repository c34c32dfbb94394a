"""The forms of DIANZAN_VALKEY_URL."""

import pytest

from voting.hot_state import HotState
from voting.store_address import Endpoint, NotAStore, StoreAddress
from voting.store_lines import StoreLines


@pytest.mark.parametrize(
    ("url", "endpoint", "database", "by_tls"),
    [
        ("redis://store", Endpoint("store", 6379), "", False),
        ("redis://store:7000/3", Endpoint("store", 7000), "3", False),
        ("rediss://store:7000?db=4", Endpoint("store", 7000), "4", True),
        (
            "unix:///run/valkey.sock?db=2",
            Endpoint("127.0.0.1", 6379, "/run/valkey.sock"),
            "2",
            False,
        ),
    ],
)
async def test_one_server_is_where_its_url_says(url, endpoint, database, by_tls):
    address = StoreAddress(url)
    assert await address.resolve(7) == endpoint
    assert (address.asks, address.database, address.tls) == (None, database, by_tls)


@pytest.mark.parametrize("scheme", ["redis", "sentinel", "clusters"])
def test_user_and_password_may_hold_any_character(scheme):
    name = "/likes" if scheme == "sentinel" else ""
    address = StoreAddress(f"{scheme}://ed%40ge:p%3Aw%2F@one:1,two:2{name}".replace(",two:2", ""))
    assert (address.user, address.password) == ("ed@ge", "p:w/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://user:secret@store",
        "sentinel://user:secret@one,two",
        "sentinel:///likes",
        "cluster://user:secret@one/0",
        "redis://store http://user:secret@store",
        "redis://user:secret/more@store",
        "cluster://one,user:secret/more@store",
    ],
)
def test_what_is_no_url_of_a_store_is_refused_without_its_secrets(url):
    with pytest.raises(NotAStore, match=r"\S") as refused:
        HotState(url, 1)
    assert "secret" not in str(refused.value)


def test_one_connection_is_not_made_to_several_urls():
    with pytest.raises(ValueError, match="one URL"):
        StoreAddress("redis://one redis://two")


def test_shards_of_one_server_share_a_connection_and_a_client():
    for url, servers in (
        ("redis://one", [0, 0, 0, 0]),
        ("redis://one redis://two redis://three", [0, 1, 2, 0]),
        ("sentinel://one,two/likes", [0, 0, 0, 0]),
        ("cluster://one,two", [0, 1, 2, 3]),
    ):
        lines, hot = StoreLines(url, 4), HotState(url, 4)
        for of, distinct in ((lines.of, lines.distinct()), (hot.of, hot.servers())):
            assert [distinct.index(of(shard)) for shard in range(4)] == servers
