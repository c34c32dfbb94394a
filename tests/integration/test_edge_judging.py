"""What an edge makes of where a like comes from, what sent it, and how it came about."""

import asyncio
import ipaddress
import itertools
import time

import pytest

from antifraud.heuristics import REASON_NAMES
from antifraud.network_claims import Claim, numbers_of, table_of
from antifraud.networks import NetworkClass
from antifraud.user_agents import AUTOMATION, agent_class
from tests.campaigns import add_campaign
from tests.challenges import solve
from tests.conftest import wait_until_async
from tests.integration.conftest import running_edge
from voting import journal
from voting.edge.client_facts import tls_hash
from voting.edge.sender import Sender
from voting.networks_file import NetworksFile

PHONE = {
    "User-Agent": "Mozilla/5.0 (Linux; Android 13; V2166A Build/TP1A; wv) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile Safari/537.36 MicroMessenger/8.0.47",
    "Accept-Language": "zh-CN,zh;q=0.9",
    "Sec-Fetch-Site": "cross-site",
}
HOME, CLOUD, CARRIER = "24.0.{}.{}", "34.0.{}.{}", "36.0.{}.{}"


def table(**classes):
    """24.0/16 is homes, 34.0/16 a datacentre, 36.0/16 a carrier, each of an ASN of that number."""
    claims = []
    for number, network_class in ((24, "HOME"), (34, "DATACENTRE"), (36, "MOBILE")):
        first, last = numbers_of(ipaddress.ip_network(f"{number}.0.0.0/16"))
        kind = NetworkClass[classes.get(f"n{number}", network_class)]
        claims.append(Claim(first, last, 0, number, kind))
    return table_of(claims, [])


@pytest.fixture
async def edge(tmp_path, valkey_url, postgres_dsn, postgres, monkeypatch):
    monkeypatch.setattr(NetworksFile.follow, "__defaults__", (0.05,))
    networks = tmp_path / "networks.bin"
    networks.write_bytes(table().to_bytes())
    await add_campaign(postgres, "spring", rules={"candidates_per_day": 0})
    async with running_edge(
        tmp_path,
        valkey_url,
        postgres_dsn,
        trusted_proxies="127.0.0.1",
        challenge="adaptive",
        networks_file=networks,
    ) as edge:
        yield edge


_numbers = itertools.count()


def somewhere(network=HOME):
    """An address of its own /24."""
    number = next(_numbers)
    return network.format(number % 256, 1 + number // 256)


class Browser:
    """One device, as the widget of a phone would be."""

    def __init__(self, edge, address, **headers):
        self.edge = edge
        self.headers = {"X-Forwarded-For": address} | PHONE | headers
        self.token, self.view = None, None

    async def post(self, path, body):
        url = f"{self.edge.url}/v1/{path}"
        async with self.edge.http.post(url, json=body, headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def begin(self):
        status, body = await self.post("devices", {"campaign": "spring"})
        assert status == 201
        self.token, self.view = body["token"], body["view"]
        return body

    async def like(self, candidate="c001", **members):
        body = {"token": self.token, "campaign": "spring", "candidate": candidate}
        click = {"click": f"click-{next(_numbers):08}"}
        return await self.post("likes", body | click | members)


async def last_vote(valkey):
    ((_, fields),) = await valkey.xrevrange(journal.journal_key(0), count=1)
    return list(journal.unpack_entry(fields[journal.ENTRY_FIELD]).votes())[-1]


def reasons(vote):
    return [REASON_NAMES[code] for code in vote.reasons if code]


async def sums(valkey):
    return {
        field.decode(): int(n)
        for field, n in (await valkey.hgetall(journal.tally_key(0, "spring"))).items()
    }


async def test_a_phone_at_home_is_counted_with_its_facts(edge, valkey):
    phone = Browser(edge, somewhere(), **{"X-JA4": "t13d1516h2_8daaf6152771"})
    await phone.begin()
    status, _ = await phone.like(view=phone.view, dwell_ms=0)
    assert status == 201
    vote = await last_vote(valkey)
    assert (vote.network_class, vote.asn) == (NetworkClass.HOME, 24)
    assert vote.user_agent_class == agent_class(PHONE["User-Agent"])
    assert vote.tls_hash == tls_hash("t13d1516h2_8daaf6152771")
    assert vote.dwell_centiseconds == 1
    assert reasons(vote) == ["dwell-below-0.8s", "token-fresh"]
    assert await sums(valkey) == {"1": 1}


async def test_a_script_in_a_datacentre_is_held_and_told_that_it_counts(edge, valkey):
    script = Browser(edge, somewhere(CLOUD), **{"User-Agent": "python-requests/2.31"})
    await script.begin()
    status, body = await script.like(view=script.view, dwell_ms=0)
    assert (status, body["outcome"]) == (201, "counted")
    vote = await last_vote(valkey)
    assert vote.user_agent_class == AUTOMATION
    assert reasons(vote) == ["automation", "datacentre", "dwell-below-0.8s"]
    assert await sums(valkey) == {"h1": 1}


async def test_new_devices_above_a_homes_rate_solve_a_challenge_and_count(edge, valkey):
    """Six of an hour are let in; the seventh is asked, whichever edge it got its token from."""
    address = somewhere()
    family = [Browser(edge, address) for _ in range(7)]
    for phone in family:
        # As from another edge, which has not seen the others.
        edge.parts.issuing._counts.clear()
        assert (await phone.begin())["level"] == 1
    answers = [(await phone.like())[0] for phone in family]
    assert answers == [201] * 6 + [428]
    status, body = await family[6].like("c002")
    assert (status, body["outcome"]) == (428, "challenge")
    status, proven = await family[6].post(
        "devices/proof", {"token": family[6].token, "solution": solve(body["challenge"])}
    )
    assert (status, proven["level"]) == (200, 1)
    family[6].token = proven["token"]
    assert [(await family[6].like(each))[0] for each in ("c001", "c002")] == [201, 201]
    assert await sums(valkey) == {"1": 7, "2": 1}


async def test_a_carriers_crowd_is_let_in(edge, valkey):
    address = somewhere(CARRIER)
    crowd = [Browser(edge, address) for _ in range(40)]
    for phone in crowd:
        assert (await phone.begin())["level"] == 1
    assert {(await phone.like())[0] for phone in crowd} == {201}
    assert await sums(valkey) == {"1": 40}


async def test_above_its_limit_a_datacentre_is_told_when_to_come_back(edge, valkey):
    address = somewhere(CLOUD)
    script = Browser(edge, address)
    await script.begin()
    campaign = edge.parts.catalog.campaigns["spring"]
    answers = []
    yesterday = time.time() - 100_000
    for number in range(14):
        token = edge.parts.mint.issue(campaign, yesterday, level=0x11)
        script.token = token
        answers.append(await script.like(f"c00{1 + number % 5}"))
    assert [status for status, _ in answers] == [201] * 12 + [429] * 2
    assert answers[-1][1]["outcome"] == "throttled"


async def test_a_cell_that_watch_marked_is_held_for_that_agent_alone(edge, valkey):
    place = edge.parts.client_address
    address = somewhere()
    found = place.place(Sender("127.0.0.1", forwarded_for=address))
    campaign = edge.parts.catalog.campaigns["spring"]
    day = campaign.window.day_at(edge.parts.ballot_boxes.of(0).store_now_us()).date
    network, _ = edge.parts.pseudonyms.networks(found, day)
    await valkey.hset(
        journal.cells_key(0, "spring", day),
        network + (1).to_bytes(2, "big"),
        journal.CELL.pack(8_700, agent_class(PHONE["User-Agent"])),
    )
    farm, neighbour = Browser(edge, address), Browser(edge, address, **{"User-Agent": "X11; Other"})
    for phone in (farm, neighbour):
        await phone.begin()
        assert (await phone.like("c001"))[0] == (await phone.like("c002"))[0] == 201
    assert await sums(valkey) == {"h1": 1, "1": 1, "2": 2}


async def test_a_view_of_another_device_is_refused_and_its_own_is_not(edge, valkey):
    mine, other = Browser(edge, somewhere()), Browser(edge, somewhere())
    await mine.begin()
    await other.begin()
    status, body = await mine.like(view=other.view)
    assert (status, body["outcome"]) == (403, "refused")
    assert (await mine.like(view=mine.view))[0] == 201
    assert await sums(valkey) == {"1": 1, "r1:7": 1}


async def test_a_fingerprint_that_no_such_phone_has_is_a_reason(edge, valkey):
    agent = agent_class(PHONE["User-Agent"])
    usual = tls_hash("usual").to_bytes(4, "big")
    await valkey.hset(journal.fingerprints_key(0), str(agent), usual)
    await edge.parts.fingerprints.refresh()
    for fingerprint, said in (("usual", []), ("python", ["tls-unlike-agent"])):
        phone = Browser(edge, somewhere(), **{"X-JA4": fingerprint})
        await phone.begin()
        assert (await phone.like())[0] == 201
        found = reasons(await last_vote(valkey))
        assert [name for name in found if name != "token-fresh"] == said


async def test_a_fingerprint_is_believed_of_trusted_proxies_alone(
    tmp_path, valkey_url, postgres_dsn, postgres, valkey
):
    await add_campaign(postgres, "spring")
    async with running_edge(tmp_path, valkey_url, postgres_dsn) as edge:
        phone = Browser(edge, somewhere(), **{"X-JA4": "claimed"})
        await phone.begin()
        assert (await phone.like())[0] == 201
    vote = await last_vote(valkey)
    assert (vote.tls_hash, vote.network_class) == (0, NetworkClass.PRIVATE)


@pytest.mark.parametrize(
    "agent", ["", "x" * 7_000, "\x7f\x01", "(" * 3_000, "Android 9; ;;;)", "é" * 200]
)
async def test_an_agent_of_any_bytes_costs_nobody_anything(edge, agent):
    phone = Browser(edge, somewhere())
    await phone.begin()
    head = (
        "POST /v1/likes HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        f"X-Forwarded-For: {phone.headers['X-Forwarded-For']}\r\nContent-Length: 2\r\n"
        "User-Agent: "
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head + agent.encode() + b"\r\n\r\n{}")
    status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
    assert status == b"400"
    writer.close()
    assert (await phone.like())[0] == 201


async def test_a_new_table_of_networks_is_in_force_without_a_restart(edge, valkey, tmp_path):
    address = somewhere()
    phone = Browser(edge, address)
    await phone.begin()
    assert (await phone.like("c001"))[0] == 201
    assert (await last_vote(valkey)).network_class == NetworkClass.HOME
    networks = tmp_path / "networks.bin"
    networks.with_suffix(".new").write_bytes(table(n24="CAMPUS").to_bytes())
    networks.with_suffix(".new").replace(networks)

    async def learned():
        place = edge.parts.client_address.place(Sender("127.0.0.1", forwarded_for=address))
        return place.network.network_class is NetworkClass.CAMPUS

    await wait_until_async(learned, what="the new table")
    assert (await phone.like("c002"))[0] == 201
    assert (await last_vote(valkey)).network_class == NetworkClass.CAMPUS
