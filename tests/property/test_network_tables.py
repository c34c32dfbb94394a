"""A table of networks says what its claims say, and a damaged one says nothing."""

import ipaddress
import itertools
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antifraud.network_claims import (
    NOT_PUBLIC,
    RANK_ASN,
    RANK_NOT_PUBLIC,
    RANK_OPERATOR,
    Claim,
    numbers_of,
    table_of,
)
from antifraud.networks import (
    Network,
    NetworkClass,
    NetworkTable,
    Ranges,
    TableError,
    prefixes_of,
)

CLASSES = st.sampled_from(NetworkClass)
# Few and crowded, so that claims overlap, touch and contain each other.
NUMBERS = {
    4: st.one_of(
        st.integers(0x01020300, 0x01020320),
        st.integers(0, (1 << 32) - 1),
        st.sampled_from((0, (1 << 32) - 1)),
    ),
    6: st.one_of(
        st.integers(0x2400000000000000, 0x2400000000000020),
        st.integers(0, (1 << 64) - 1),
        st.sampled_from((0, (1 << 64) - 1)),
    ),
}


def claims(version):
    return st.lists(
        st.builds(
            lambda ends, rank, asn, network_class: Claim(*sorted(ends), rank, asn, network_class),
            st.tuples(NUMBERS[version], NUMBERS[version]),
            st.sampled_from((RANK_ASN, RANK_OPERATOR)),
            st.integers(0, 5),
            CLASSES,
        ),
        max_size=12,
    )


def naive(address, held):
    """By reading every claim, with the standard library's addresses."""
    number = int(address) >> (64 if address.version == 6 else 0)
    best = (-1, 0, 0)
    found = Network(0, NetworkClass.UNKNOWN)
    private = [
        Claim(*numbers_of(each), RANK_NOT_PUBLIC, 0, NetworkClass.PRIVATE)
        for each in NOT_PUBLIC
        if address in each
    ]
    for order, claim in enumerate((*held, *private)):
        strength = (claim.rank, claim.first - claim.last, order)
        if claim.first <= number <= claim.last and strength > best:
            best, found = strength, Network(claim.asn, claim.network_class)
    return found


@given(st.data(), claims(4), claims(6))
def test_an_address_is_what_its_strongest_claim_says(data, ipv4, ipv6):
    table = table_of(ipv4, ipv6)
    edges = [n for c in ipv4 for n in (c.first - 1, c.first, c.last, c.last + 1)]
    for number in (*edges, data.draw(NUMBERS[4])):
        address = ipaddress.IPv4Address(number % (1 << 32))
        assert table.look_up(prefixes_of(str(address))) == naive(address, ipv4)
    edges = [n for c in ipv6 for n in (c.first - 1, c.first, c.last, c.last + 1)]
    for number in (*edges, data.draw(NUMBERS[6])):
        address = ipaddress.IPv6Address((number % (1 << 64)) << 64 | 1)
        if len(prefixes_of(str(address)).network) == 9:  # does not only carry an IPv4 address
            assert table.look_up(prefixes_of(str(address))) == naive(address, ipv6)


@given(claims(4), claims(6))
def test_no_two_neighbours_in_a_table_are_equal(ipv4, ipv6):
    table = table_of(ipv4, ipv6)
    for ranges in (table.ipv4, table.ipv6):
        rows = list(ranges)
        assert rows[0][0] == 0
        for before, after in itertools.pairwise(rows):
            assert before[0] < after[0]
            assert before[1:] != after[1:]


@given(claims(4), claims(6))
def test_a_table_comes_back_from_its_bytes(ipv4, ipv6):
    table = table_of(ipv4, ipv6)
    again = NetworkTable.from_bytes(table.to_bytes())
    assert (again.ipv4, again.ipv6) == (table.ipv4, table.ipv6)
    assert again.identity == table.identity
    assert again.to_bytes() == table.to_bytes()


PACKED = table_of(
    [Claim(0x01020300, 0x010203FF, RANK_ASN, 64_500, NetworkClass.HOME)],
    [Claim(0x2400 << 48, (0x2401 << 48) - 1, RANK_ASN, 64_501, NetworkClass.CAMPUS)],
).to_bytes()


@pytest.mark.parametrize("at", range(len(PACKED)))
def test_any_other_byte_is_refused(at):
    for change in (1, 0x80, 0xFF):
        damaged = bytearray(PACKED)
        damaged[at] ^= change
        with pytest.raises(TableError, match=r"^it"):
            NetworkTable.from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", range(len(PACKED)))
def test_any_part_of_a_table_is_refused(length):
    with pytest.raises(TableError, match=r"^it"):
        NetworkTable.from_bytes(PACKED[:length])


@given(st.binary(max_size=200))
def test_whatever_follows_a_table_makes_it_none(more):
    if more:
        with pytest.raises(TableError, match="checksum"):
            NetworkTable.from_bytes(PACKED + more)


@given(st.binary(max_size=2_000))
def test_no_bytes_raise_anything_but_a_refusal(junk):
    for packed in (junk, PACKED[:8] + junk, PACKED[:24] + junk):
        with pytest.raises(TableError):
            NetworkTable.from_bytes(packed)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 255))
def test_a_sound_checksum_over_unsound_ranges_is_no_help(starts, network_class):
    number = len(starts)
    ipv4 = Ranges(array("I", starts), array("I", [0] * number), bytes([network_class] * number))
    ipv6 = Ranges(array("Q", [0]), array("I", [0]), b"\0")
    packed = NetworkTable(ipv4, ipv6).to_bytes()
    sound = starts[0] == 0 and starts == sorted(set(starts)) and network_class <= max(NetworkClass)
    if sound:
        assert NetworkTable.from_bytes(packed).ipv4 == ipv4
    else:
        with pytest.raises(TableError, match="IPv4"):
            NetworkTable.from_bytes(packed)
