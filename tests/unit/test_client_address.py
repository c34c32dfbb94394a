"""Whose request it is: never somebody whom an untrusted peer names."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud.networks import prefixes_of
from voting.edge.client_address import ClientAddress
from voting.edge.sender import Sender

NAT64 = ipaddress.ip_network("64:ff9b::/96")
PROXIES = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8")))
NAT64 = ipaddress.ip_network("64:ff9b::/96")
address = ClientAddress(PROXIES)


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("8.8.8.8", "1.2.3.4", "8.8.8.8"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6,1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.9", "1.2.3.4"),
        ("10.0.0.1", "10.0.0.7, 10.0.0.9", "10.0.0.7"),
        ("10.0.0.1", "1.2.3.4, rubbish", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, rubbish, 10.0.0.9", "10.0.0.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4:5678", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4,", "10.0.0.1"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
    ],
)
def test_walk_goes_right_to_left_over_trusted_proxies(peer, header, client):
    assert address.walk(peer, header) == client


@given(st.ip_addresses().filter(lambda a: not any(a in n for n in PROXIES)), st.text())
def test_no_header_moves_a_peer_that_is_not_trusted(peer, header):
    if getattr(peer, "ipv4_mapped", None):
        return
    assert address.walk(str(peer), header) == str(peer)


@given(st.lists(st.one_of(st.text(), st.ip_addresses().map(str)), max_size=6))
def test_the_walk_always_ends_at_an_address(entries):
    prefixes_of(address.walk("10.0.0.1", ",".join(entries)))


@given(st.ip_addresses(v=6))
def test_ipv6_counts_as_its_64(found):
    if found.ipv4_mapped or found.sixtofour or found.teredo or found in NAT64:
        return  # those that carry an IPv4 address: see test_networks.py
    prefixes = prefixes_of(str(found))
    assert prefixes.network == b"\6" + found.packed[:8]
    assert prefixes.middle == b"\6" + found.packed[:7]
    assert prefixes.wide == b"\6" + found.packed[:6]


@given(st.ip_addresses(v=4))
def test_ipv4_is_the_same_however_it_is_written(found):
    prefixes = prefixes_of(str(found))
    assert prefixes == prefixes_of(f"::ffff:{found}")
    assert prefixes.network == b"\4" + found.packed


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "::g", "localhost", "1.2.3.4\0", "😀"]
)
def test_what_is_no_address_is_an_error(text):
    with pytest.raises(ValueError, match="no IP address"):
        prefixes_of(text)


def test_place_of_a_long_header_is_found_and_not_kept():
    kept = ClientAddress(PROXIES)
    for header in ("8.8.8.8", ",".join(["6.6.6.6"] * 500) + ",8.8.8.8"):
        place = kept.place(Sender("10.0.0.1", forwarded_for=header))
        assert place.prefixes == prefixes_of("8.8.8.8")
    assert kept._place_behind.cache_info().currsize == 1


def test_what_a_proxy_writes_that_is_no_address_is_said_once(capsys):
    kept = ClientAddress(PROXIES)
    for _ in range(3):
        kept.walk("10.0.0.1", "unknown")
    assert capsys.readouterr().out.count("forwarded-for-unreadable") == 1
