"""What an address stands for: its prefixes, and what the tables say of it."""

import asyncio
import csv
import ipaddress
import itertools
import json
import os
import random
import struct
import zlib
from importlib import resources
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from antifraud import networks as tables
from antifraud.network_claims import NOT_PUBLIC, RANK_ASN, Claim, table_of
from antifraud.networks import (
    Network,
    NetworkClass,
    NetworkTable,
    TableError,
    builtin,
    is_address,
    prefixes_of,
)
from antifraud.organisations import class_of_asn, class_of_name, well_known
from tests.conftest import wait_until_async
from voting.network_commands import networks
from voting.networks_file import NetworksFile

ROOT = Path(__file__).parents[2]
MOBILE, HOME, CAMPUS = NetworkClass.MOBILE, NetworkClass.HOME, NetworkClass.CAMPUS
DATACENTRE, PRIVATE, UNKNOWN = (
    NetworkClass.DATACENTRE,
    NetworkClass.PRIVATE,
    NetworkClass.UNKNOWN,
)


def class_in(table, address):
    return table.look_up(prefixes_of(address)).network_class


# Addresses and their prefixes.


@pytest.mark.parametrize(
    ("address", "network", "wide", "middle"),
    [
        ("1.2.3.4", "04 01020304", "04 010203", "04 010203"),
        ("::ffff:1.2.3.4", "04 01020304", "04 010203", "04 010203"),
        ("::FFFF:102:304", "04 01020304", "04 010203", "04 010203"),
        ("::ffff:10.0.0.1", "04 0a000001", "04 0a0000", "04 0a0000"),
        (
            "2400:1:2:3344:5:6:7:8",
            "06 2400000100023344",
            "06 240000010002",
            "06 24000001000233",
        ),
        ("2400:1:2:3344::%eth0", "06 2400000100023344", "06 240000010002", "06 24000001000233"),
        ("::1", "06 0000000000000000", "06 000000000000", "06 00000000000000"),
    ],
)
def test_prefixes_of_an_address(address, network, wide, middle):
    found = prefixes_of(address)
    assert found.network == bytes.fromhex(network)
    assert found.wide == bytes.fromhex(wide)
    assert found.middle == bytes.fromhex(middle)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_through_every_tunnel(inside):
    teredo = ipaddress.IPv6Address(
        (0x20010000_AABBCCDD_8000_F227 << 32) | (int(inside) ^ 0xFFFFFFFF)
    )
    for carrier in (
        ipaddress.IPv6Address(0x0064FF9B << 96 | int(inside)),
        ipaddress.IPv6Address(0x2002 << 112 | int(inside) << 80 | 0x1234 << 64 | 7),
        teredo,
    ):
        found = prefixes_of(str(carrier))
        if inside.is_global:
            assert found == prefixes_of(str(inside))
        else:
            # Nobody public comes from there: it is not made a private client of ours.
            assert found.network == b"\6" + carrier.packed[:8]
            assert class_in(builtin(), str(carrier)) is not PRIVATE


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " 1.2.3.4",
        "1.2.3.4 ",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.256",
        "0x1.2.3.4",
        "16909060",
        "1.2.3.4/32",
        "1.2.3.4:80",
        "[::1]",
        "::1::",
        "::g",
        "%eth0",
        "%",
        ":",
        "1.2.3.4%eth0",
        "localhost",
        "1.2.3.4\0",
        "::\0",
        "1.2.3.４",
        "\u0661.2.3.4",
        "::1\n",
        "\ud800",
        "::\udcff",
        "点赞",
        "9" * 1_000_000,
        ":" * 1_000_000,
        "::" + "0" * 100_000,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_address_is_an_error_that_does_not_repeat_all_of_it(text):
    assert not is_address(text)
    with pytest.raises(ValueError, match="no IP address") as refused:
        prefixes_of(text)
    assert len(str(refused.value)) < 300


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text):
    if is_address(text):
        prefixes_of(text)
    else:
        with pytest.raises(ValueError, match="no IP address"):
            prefixes_of(text)


# The built-in table.


@pytest.mark.parametrize(
    ("address", "network_class", "asn"),
    [
        ("52.95.110.1", DATACENTRE, 16509),
        ("2600:1f18::1", DATACENTRE, 14618),
        ("47.95.0.1", DATACENTRE, 37963),
        ("111.230.1.1", DATACENTRE, 45090),
        ("5.9.0.1", DATACENTRE, 24940),
        ("8.8.8.8", DATACENTRE, 15169),
        ("120.204.17.5", MOBILE, 24400),
        ("2409:8000::1", MOBILE, 56048),
        ("240e::1", MOBILE, 4134),
        ("2408:8000::1", MOBILE, 4837),
        ("59.66.0.1", CAMPUS, 4538),
        ("101.6.8.193", CAMPUS, 4538),
        ("2402:f000::1", CAMPUS, 45576),
        ("73.0.0.1", HOME, 7922),
        ("::ffff:8.8.8.8", DATACENTRE, 15169),
        ("64:ff9b::808:808", DATACENTRE, 15169),
    ],
)
def test_the_builtin_table_knows_the_well_known(address, network_class, asn):
    assert builtin().look_up(prefixes_of(address)) == Network(asn, network_class)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.1", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.1.1"),
        *("172.16.0.1", "172.31.255.255", "192.0.2.1", "192.168.255.255", "198.18.0.1"),
        *("198.51.100.7", "203.0.113.7", "224.0.0.1", "255.255.255.255", "::ffff:127.0.0.1"),
        *("::", "::1", "fe80::1%eth0", "fc00::1", "fdff::1", "2001:db8::1", "3fff::1", "ff02::1"),
        "64:ff9b:1::1",
    ],
)
def test_what_is_not_public_is_private_in_every_table(address):
    empty = table_of([], [])
    for table in (builtin(), empty):
        assert table.look_up(prefixes_of(address)) == Network(0, PRIVATE)


@pytest.mark.parametrize(
    "address", ["11.0.0.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "192.169.0.0", "2d00::"]
)
def test_what_is_beside_it_is_not(address):
    assert table_of([], []).look_up(prefixes_of(address)) == Network(0, UNKNOWN)


def test_not_public_is_never_less_than_what_the_standard_library_calls_private():
    dice = random.Random(7)
    for _ in range(20_000):
        address = ipaddress.IPv4Address(dice.getrandbits(32))
        if address.is_private or address.is_multicast:
            assert any(address in each for each in NOT_PUBLIC if each.version == 4), address


def test_every_asn_of_the_list_is_in_the_table_with_its_class_and_no_other_is():
    found = {}
    for _, asn, network_class in itertools.chain(builtin().ipv4, builtin().ipv6):
        found.setdefault(asn, set()).add(network_class)
    assert found.pop(0) == {UNKNOWN, PRIVATE}
    assert found == {asn: {network_class} for asn, network_class in well_known().items()}


def test_the_list_of_asns_names_each_once():
    text = (ROOT / "antifraud" / "well_known_asns.csv").read_text()
    asns = [int(row["asn"]) for row in csv.DictReader(text.splitlines())]
    assert len(asns) == len(set(asns)) == len(well_known())


def test_the_builtin_table_is_small_and_says_where_it_is_from():
    folder = resources.files("antifraud")
    assert len((folder / "networks_builtin.bin").read_bytes()) < 400_000
    said = (folder / "networks_builtin.md").read_text()
    for owed in ("routeviews.org", "nro.net", "db-ip.com", "licenses/by/4.0", "well_known_asns"):
        assert owed in said


# Classes by name.


@pytest.mark.parametrize(
    ("name", "network_class"),
    [
        ("Example State University", CAMPUS),
        ("Universitaet Beispielstadt", CAMPUS),
        ("Sample County School District 4", CAMPUS),
        ("China Education and Research Network (CERNET)", CAMPUS),
        ("Example Cloud University", CAMPUS),
        ("Example Hosting Ltd", DATACENTRE),
        ("EXAMPLECLOUD INC.", DATACENTRE),
        ("Fast VPS SRL", DATACENTRE),
        ("Example Data Center B.V.", DATACENTRE),
        ("CHINANET Sample province IDC network", DATACENTRE),
        ("Example Mobile Communications", MOBILE),
        ("Sample County Wireless LLC", MOBILE),
        ("China Unicom", MOBILE),
        ("Vodafone Exampleland", MOBILE),
        ("Example Telecom S.A.", HOME),
        ("EXEMPLO TELECOMUNICACOES LTDA", HOME),
        ("Sample Cable Broadband", HOME),
        ("Example Cloud and Fiber Telecom", UNKNOWN),
        ("Example Manufacturing Co.", UNKNOWN),
        ("Ghostwriters United", UNKNOWN),
        ("Universal Widgets", UNKNOWN),
        ("", UNKNOWN),
        ("示例大学", UNKNOWN),
        ("\ud800\0" * 1_000_000, UNKNOWN),
    ],
    ids=lambda value: ascii(str(value)[:20]),
)
def test_a_name_suggests_a_class_or_nothing(name, network_class):
    assert class_of_name(name) is network_class


def test_the_list_goes_before_the_name():
    assert class_of_asn(37963, "Hangzhou Advertising Co.,Ltd.") is DATACENTRE
    assert class_of_asn(36183, "Example Hosting") is UNKNOWN
    assert class_of_asn(64_500, "Example Hosting") is DATACENTRE


# Refused tables, and what is said of them.


def refusal(packed):
    with pytest.raises(TableError) as refused:
        NetworkTable.from_bytes(packed)
    return str(refused.value)


def forged(n4, n6, packed):
    """A table with a checksum that fits."""
    checked = struct.pack("<II", n4, n6) + packed
    return b"DZ-NETS\1" + tables._checksum(checked) + checked


def test_a_refusal_says_what_is_wrong():
    sound = builtin().to_bytes()
    assert refusal(b"") == "it is empty"
    assert "no table of networks" in refusal(b"PK\3\4" + bytes(100))
    assert refusal(sound[:20]) == "it ends after 20 bytes, within its head"
    assert "is of version 2" in refusal(b"DZ-NETS\2" + sound[8:])
    assert "0 ranges" in refusal(sound[:24] + bytes(8) + sound[32:])
    assert "4294967295 ranges" in refusal(sound[:24] + b"\xff" * 8 + sound[32:])
    assert "checksum" in refusal(sound[:-1])
    assert "checksum" in refusal(sound[:5_000] + b"\0" * 9 + sound[5_009:])
    assert "cannot be unpacked" in refusal(forged(1, 1, b"rubbish"))


def test_a_bomb_is_not_unpacked():
    bomb = zlib.compress(bytes(1 << 28), 9)
    assert "do not unpack to the 22 bytes" in refusal(forged(1, 1, bomb))
    assert "do not unpack" in refusal(forged(1, 1, zlib.compress(bytes(21))))
    assert "do not unpack" in refusal(forged(1, 1, zlib.compress(bytes(22)) + b"more"))


def test_a_table_of_another_byte_order_is_the_same(monkeypatch):
    packed = builtin().to_bytes()
    monkeypatch.setattr(tables.sys, "byteorder", "big")
    # What this machine reads as big-endian it also writes as such: the bytes do not change.
    swapped = NetworkTable(*(_swapped(each) for each in (builtin().ipv4, builtin().ipv6)))
    assert swapped.to_bytes() == packed


def _swapped(ranges):
    columns = [column[:] for column in (ranges.starts, ranges.asns)]
    for column in columns:
        column.byteswap()
    return tables.Ranges(*columns, ranges.classes)


# The file in force.

TABLE = table_of([Claim(0x01020300, 0x010203FF, RANK_ASN, 64_500, CAMPUS)], [])
OTHER = table_of([Claim(0x01020300, 0x010203FF, RANK_ASN, 64_500, HOME)], [])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "networks.bin"
    path.write_bytes(TABLE.to_bytes())
    return path


def replace(path, packed):
    aside = path.with_name("aside")
    aside.write_bytes(packed)
    aside.rename(path)


def test_without_a_file_the_builtin_table_is_in_force():
    held = NetworksFile(None)
    assert held.table is builtin()
    assert not held.refresh()


def test_a_new_file_comes_into_force_and_is_told_once(file):
    told = []
    held = NetworksFile(file, told.append)
    assert held.table.identity == TABLE.identity
    assert not held.refresh()
    replace(file, OTHER.to_bytes())
    assert held.refresh()
    assert class_in(held.table, "1.2.3.4") is HOME
    assert not held.refresh()
    assert told == [held.table]


def test_the_same_table_in_a_new_file_is_no_news(file):
    told = []
    held = NetworksFile(file, told.append)
    os.utime(file, ns=(1, 1))
    assert not held.refresh()
    assert told == []


def test_a_corrupt_file_is_refused_once_and_the_table_before_stays(file):
    held = NetworksFile(file)
    replace(file, TABLE.to_bytes()[:-1])
    with capture_logs() as logs:
        assert not held.refresh()
        assert not held.refresh()
    assert held.table.identity == TABLE.identity
    (said,) = logs
    assert said["event"] == "networks-refused"
    assert "checksum" in said["why"]
    assert said["identity"] == TABLE.identity
    replace(file, OTHER.to_bytes())
    assert held.refresh()


@pytest.mark.parametrize("packed", [None, b"", b"rubbish", TABLE.to_bytes()[:40]])
def test_at_the_start_a_refused_file_leaves_the_builtin_table(tmp_path, packed):
    path = tmp_path / "networks.bin"
    if packed is not None:
        path.write_bytes(packed)
    with capture_logs() as logs:
        held = NetworksFile(path)
    assert held.table is builtin()
    assert [(said["event"], said["in_force"]) for said in logs] == [
        ("networks-refused", "built-in")
    ]
    replace(path, TABLE.to_bytes())
    assert held.refresh()


def test_a_file_that_goes_away_is_told_once_and_taken_again_when_it_is_back(file):
    held = NetworksFile(file)
    file.unlink()
    with capture_logs() as logs:
        for _ in range(3):
            assert not held.refresh()
    assert [said["why"] for said in logs] == ["No such file or directory"]
    assert held.table.identity == TABLE.identity
    replace(file, OTHER.to_bytes())
    assert held.refresh()


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with capture_logs() as logs:
            assert NetworksFile(path).table is builtin()
        assert logs[0]["why"] == "it is no regular file"


def test_a_file_larger_than_any_table_is_not_read(tmp_path):
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(TableError, match="more than any table"):
        tables.read(path)


async def test_a_process_follows_its_file(file):
    told = []
    held = NetworksFile(file, told.append)
    following = asyncio.create_task(held.follow(every_seconds=0.01))
    try:
        replace(file, b"rubbish")
        replace(file, OTHER.to_bytes())

        async def is_told():
            return told

        await wait_until_async(is_told)
        assert told[0].identity == OTHER.identity
        assert not following.done()
    finally:
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following


# The commands.

IPV4 = """\
1.0.0.0,1.0.0.255,64500,"Example Hosting, Inc."
1.2.0.0,1.2.255.255,64501,Sample University
5.6.7.8,5.6.7.8,64502,Example Telecom
"""
IPV6 = """\
2400:1::,2400:1:ffff:ffff:ffff:ffff:ffff:ffff,64503,Example Mobile
2400:2::,2400:2::ffff,64503,Example Mobile
"""


@pytest.fixture(autouse=True)
def _away_from_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIANZAN_NETWORKS_FILE", raising=False)
    structlog.reset_defaults()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "v4.csv").write_text(IPV4)
    (tmp_path / "v6.csv").write_text(IPV6)
    return ("--asn", "v4.csv", "--asn", "v6.csv")


def run(*arguments):
    return CliRunner().invoke(networks, list(map(str, arguments)))


def build(*arguments):
    return run("build", "--out", "networks.bin", *arguments)


def test_a_table_is_built_and_summed_up(data):
    done = build(*data)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "datacentre" in done.stderr
    assert "Left out: 1 ranges of IPv6 without a whole /64." in done.stderr
    table = tables.read(Path("networks.bin"))
    assert table.look_up(prefixes_of("1.0.0.9")) == Network(64_500, DATACENTRE)
    assert table.look_up(prefixes_of("1.2.3.4")) == Network(64_501, CAMPUS)
    assert table.look_up(prefixes_of("5.6.7.8")) == Network(64_502, HOME)
    assert table.look_up(prefixes_of("5.6.7.9")) == Network(0, UNKNOWN)
    assert table.look_up(prefixes_of("2400:1:2:3::4")) == Network(64_503, MOBILE)
    assert Path("networks.bin").stat().st_mode & 0o777 == 0o644


def test_json_is_all_that_stands_on_stdout(data):
    done = build(*data, "--json")
    answer = json.loads(done.stdout)
    assert answer["ok"]
    assert answer["problems"] == []
    assert answer["left_out"] == 1
    assert answer["identity"] == tables.read(Path("networks.bin")).identity
    assert answer["bytes"] == Path("networks.bin").stat().st_size
    assert answer["classes"]["campus"] == {"ranges": 1, "ipv4_share": 2**-16, "ipv6_32s": 0.0}
    assert answer["classes"]["mobile"] == {"ranges": 1, "ipv4_share": 0.0, "ipv6_32s": 1.0}
    assert done.stderr == ""


def test_the_same_data_gives_the_same_bytes_and_numbers_are_addresses_too(data, tmp_path):
    build(*data)
    first = Path("networks.bin").read_bytes()
    rows = list(csv.reader((IPV4 + IPV6).splitlines()))
    with Path("num.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [*(int(ipaddress.ip_address(text)) for text in row[:2]), *row[2:]] for row in rows
        )
    build("--asn", "num.csv")
    assert Path("networks.bin").read_bytes() == first


def test_operators_win_over_asns_and_narrow_networks_over_wide_ones(data):
    Path("ours.csv").write_text(
        "\ufeffclass,cidr,asn,note\n"
        "mobile,1.2.3.0/24,64510,carrier NAT\n"
        "Home,1.2.3.4,,one line in it\n"
        "datacenter,2400:1::/48,AS64511,\n"
        "campus,10.20.0.0/16,,the house that we are in\n"
        ",,,\n"
        "campus,,64500,all of it\n",
        encoding="utf-8",
    )
    assert build(*data, "--operators", "ours.csv").exit_code == 0
    table = tables.read(Path("networks.bin"))
    assert table.look_up(prefixes_of("1.2.3.5")) == Network(64_510, MOBILE)
    assert table.look_up(prefixes_of("1.2.3.4")) == Network(0, HOME)
    assert table.look_up(prefixes_of("1.2.4.0")) == Network(64_501, CAMPUS)
    assert table.look_up(prefixes_of("2400:1::1")) == Network(64_511, DATACENTRE)
    assert table.look_up(prefixes_of("2400:1:1::1")) == Network(64_503, MOBILE)
    assert table.look_up(prefixes_of("10.20.1.1")) == Network(0, CAMPUS)
    assert table.look_up(prefixes_of("10.21.1.1")) == Network(0, PRIVATE)
    assert table.look_up(prefixes_of("1.0.0.1")) == Network(64_500, CAMPUS)


def test_without_asn_data_the_builtin_table_is_the_base():
    assert build().exit_code == 0
    assert Path("networks.bin").read_bytes() == builtin().to_bytes()
    Path("ours.csv").write_text("cidr,class,asn\n8.8.8.0/24,campus,\n,home,4134\n")
    assert build("--operators", "ours.csv").exit_code == 0
    table = tables.read(Path("networks.bin"))
    assert class_in(table, "8.8.8.8") is CAMPUS
    assert class_in(table, "240e::1") is HOME
    assert class_in(table, "52.95.110.1") is DATACENTRE


def test_only_the_well_known_are_taken_where_that_is_wanted(tmp_path):
    Path("v4.csv").write_text(IPV4 + "9.0.0.0,9.0.0.255,37963,Example\n")
    assert build("--asn", "v4.csv", "--well-known-only").exit_code == 0
    table = tables.read(Path("networks.bin"))
    assert table.look_up(prefixes_of("9.0.0.1")) == Network(37963, DATACENTRE)
    assert table.look_up(prefixes_of("1.2.3.4")) == Network(0, UNKNOWN)


def test_all_problems_of_operators_lists_are_listed_at_once_and_the_old_table_stays(file):
    before = file.read_bytes()
    Path("a.csv").write_text(
        "cidr,class,asn\n"
        "1.2.3.4/24,mobile,\n"
        "rubbish,mobile,\n"
        "1.2.3.0/24,phone,\n"
        "1.2.3.0/24,home,many\n"
        ",home,\n"
        "2400:1::/65,home,\n"
        "::ffff:1.2.3.0/120,home,\n"
        "fe80::%eth0/64,home,\n"
        "1.2.3.0/24,home,4294967296\n"
        "5.5.5.0/24,home,1\n"
        "5.5.5.0/24,campus,1\n"
        "5.5.5.0/24,home,1\n"
        "1.2.3.0/24,home,1,more\n"
        "x,y,z\n"
    )
    Path("b.csv").write_text("cidr,klass,cidr\n1.2.3.4,home,\n")
    done = build("--operators", "a.csv", "--operators", "b.csv", "--operators", "none.csv")
    assert done.exit_code == 2
    assert file.read_bytes() == before
    for row in (*range(2, 11), 12, 14, 15):
        assert f"error  row {row} " in done.stderr, row
    for row in (11, 13):
        assert f"error  row {row} " not in done.stderr
    for said in ("bits set right", "klass", "comes twice", "No such file", "otherwise than row 11"):
        assert said in done.stderr

    done = build("--operators", "a.csv", "--json")
    assert done.exit_code == 2
    answer = json.loads(done.stdout)
    assert not answer["ok"]
    wrong = {(problem["row"], problem["column"]) for problem in answer["problems"]}
    assert {(2, "cidr"), (4, "class"), (5, "asn"), (6, "cidr"), (15, "class")} <= wrong
    assert all(problem["file"] == "a.csv" for problem in answer["problems"])
    assert file.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["a.csv", "b.csv", "networks.bin"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no row"),
        (b"PK\3\4\0\0\0\0" * 100, "has 1 cells"),
        (b"ip,country\n" * 500, "not read on"),
        (b"1.0.0.0,1.0.0.255\n", "has 2 cells"),
        (b"1.0.0.255,1.0.0.0,1,Example\n", "ends before it begins"),
        (b"1.0.0.0,2400::,1,Example\n", "two families"),
        (b"1.0.0.0,1.0.0.255,x,Example\n", "no ASN"),
        (b"1.0.0.0,1.0.0.255,-1,Example\n", "no ASN"),
        (b"1.0.0.0/24,1.0.0.255,1,Example\n", "two addresses"),
        (b"1,340282366920938463463374607431768211456,1,Example\n", "two addresses"),
        (b"1" * 5_000 + b",2,1,Example\n", "two addresses"),
        (b'1.0.0.0,1.0.0.255,1,"' + b"x" * 200_000 + b'"\n', "is no CSV"),
        ("1.0.0.0,1.0.0.255,1,点赞\n".encode("utf-16"), "two addresses"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_wrong_file_of_asn_data_is_a_clear_error_and_the_old_table_stays(file, text, said):
    before = file.read_bytes()
    Path("asn.csv").write_bytes(text)
    done = build("--asn", "asn.csv")
    assert done.exit_code == 2
    assert "asn.csv" in done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") < 30
    assert file.read_bytes() == before


def test_names_in_another_encoding_are_no_fault(file):
    Path("asn.csv").write_bytes("1.0.0.0,1.0.0.255,64500,点赞 Hosting\n".encode("gb18030"))
    assert build("--asn", "asn.csv").exit_code == 0
    assert class_in(tables.read(file), "1.0.0.1") is DATACENTRE


def test_a_list_named_as_the_output_by_mistake_is_not_overwritten(data):
    done = run("build", *data, "--out", "v4.csv")
    assert done.exit_code == 2
    assert "is no table of networks: not replaced" in done.stderr
    assert Path("v4.csv").read_text() == IPV4


def test_a_damaged_table_is_replaced_and_a_link_is_followed(data):
    Path("real.bin").write_bytes(builtin().to_bytes()[:100])
    Path("networks.bin").symlink_to("real.bin")
    assert build(*data).exit_code == 0
    assert Path("networks.bin").is_symlink()
    assert class_in(tables.read(Path("real.bin")), "1.2.3.4") is CAMPUS


def test_a_build_that_cannot_be_written_leaves_nothing_behind(data, monkeypatch, file):
    before = file.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voting.whole_files.os.fsync", fail)
    done = build(*data)
    assert isinstance(done.exception, OSError)
    assert file.read_bytes() == before
    assert not list(Path().glob(".networks*"))


def test_show_tells_the_class_of_each_address(file):
    done = run("show", "--table", file, "1.2.3.4", "::ffff:1.2.3.5", "127.0.0.1", "2400::1")
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["1.2.3.4", "campus", "AS64500", "1.2.3.4/32"],
        ["::ffff:1.2.3.5", "campus", "AS64500", "1.2.3.5/32"],
        ["127.0.0.1", "private", "-", "127.0.0.1/32"],
        ["2400::1", "unknown", "-", "2400::/64"],
    ]


def test_show_looks_into_the_table_of_the_settings_else_the_builtin_one(file, monkeypatch):
    assert "datacentre" in run("show", "8.8.8.8").stdout
    monkeypatch.setenv("DIANZAN_NETWORKS_FILE", str(file))
    (shown,) = json.loads(run("show", "--json", "8.8.8.8").stdout)
    assert shown == {
        "address": "8.8.8.8",
        "class": "unknown",
        "asn": 0,
        "network": "8.8.8.8/32",
    }


def test_show_refuses_a_corrupt_table_and_what_is_no_address(file):
    done = run("show", "1.2.3.4", "rubbish", "1.2.3", "--table", file)
    assert done.exit_code == 2
    assert "campus" in done.stdout
    assert done.stderr.splitlines() == ["'rubbish' is no IP address", "'1.2.3' is no IP address"]
    file.write_bytes(TABLE.to_bytes()[:-3])
    done = run("show", "1.2.3.4", "--table", file)
    assert done.exit_code == 2
    assert "networks.bin is refused: its checksum does not fit" in done.stderr
