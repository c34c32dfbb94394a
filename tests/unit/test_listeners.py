"""Listening sockets of the edge and the console."""

import socket

import pytest

from deploy.local.listeners import PortInUse, listening, url_of


def test_all_workers_listen_on_one_free_port():
    with listening("127.0.0.1", 0, 3) as listeners:
        assert len({listener.getsockname() for listener in listeners}) == 1
        port = listeners[0].getsockname()[1]
        assert url_of(listeners[0]) == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port), 5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_in_use_is_refused_even_where_its_holder_would_share_it(shares):
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=shares) as taken,
        pytest.raises(PortInUse, match="DIANZAN_EDGE_PORT"),
        listening("127.0.0.1", taken.getsockname()[1], 1),
    ):
        pass


def test_whose_port_it_is_is_said():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(PortInUse, match=r"the console .* DIANZAN_CONSOLE_PORT"),
        listening("127.0.0.1", taken.getsockname()[1], 1, part="console"),
    ):
        pass


def test_an_address_that_is_not_this_machines_is_said():
    with pytest.raises(PortInUse, match="DIANZAN_EDGE_HOST"), listening("192.0.2.1", 0, 1):
        pass


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")],  # noqa: S104
)
def test_a_service_open_to_all_is_shown_as_a_browser_here_finds_it(host, shown):
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with listening(host, 0, 1) as [listener]:
        assert url_of(listener).startswith(shown)
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 5).close()
