"""Where a process that runs by itself tells how it is."""

import socket

import aiohttp
import pytest

from tests.conftest import wait_until_async
from voting.keys import Keys
from voting.settings import Settings

HOST = "127.0.0.9"


@pytest.mark.parametrize(
    ("command", "metric"),
    [("edge", "dianzan_store_connected"), ("flush", "dianzan_flush_lag_seconds")],
)
async def test_metrics_are_at_the_address_of_the_settings_and_nowhere_else(
    environment, start, tmp_path, command, metric
):
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    environment |= {
        "DIANZAN_ADMIN_HOST": HOST,
        "DIANZAN_ADMIN_PORT": str(port),
        "DIANZAN_EDGE_PORT": "0",
    }
    Keys.load_or_make(Settings(data_dir=tmp_path).keys_path)
    process = await start(command)
    try:
        async with aiohttp.ClientSession() as http:

            async def told():
                try:
                    answer = await http.get(f"http://{HOST}:{port}/metrics")
                except aiohttp.ClientConnectionError:
                    return None
                return await answer.text()

            text = await wait_until_async(told, 60, "/metrics")
            assert f"\n{metric} " in text
            with pytest.raises(aiohttp.ClientConnectionError):
                await http.get(f"http://127.0.0.1:{port}/metrics")
    finally:
        process.terminate()
        await process.communicate()
