"""What a load test decides before and after it sends: where to, in which parts, and the sum."""

import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.commands import read_ramp
from loadtest.histograms import fold, merge, percentiles_ms
from loadtest.mixes import MIXES, parse_mix
from loadtest.report_page import as_page
from loadtest.swarm import devices_needed, merged, split
from loadtest.targets import CannotLoad, read_target
from loadtest.voters import KindReport, Order, Report, SecondReport, ramp_times


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_loopback_may_be_loaded(port):
    target = read_target(f"http://127.0.0.1:{port}", [])
    assert (target.address, target.port, target.allowed) == ("127.0.0.1", port, None)
    assert read_target(f"http://localhost:{port}/", []).allowed is None


@pytest.mark.parametrize(
    ("url", "allow", "why"),
    [
        ("http://192.0.2.1", [], "--allow 192.0.2.1"),
        ("http://192.0.2.1", ["192.0.2.2"], "--allow 192.0.2.1"),
        ("http://[2001:db8::1]:8080", [], "not loopback"),
        ("https://127.0.0.1", [], "no TLS"),
        ("http://127.0.0.1/v1", [], "no path"),
        ("http://127.0.0.1:port", [], "port"),
        ("127.0.0.1:8080", [], "http://HOST"),
    ],
)
def test_other_targets_are_refused(url, allow, why):
    with pytest.raises(CannotLoad, match=why):
        read_target(url, allow)


def test_a_port_that_nobody_listens_at_is_said(port):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    with pytest.raises(CannotLoad, match="nobody listens"):
        read_target(f"http://127.0.0.1:{free}", [])


def test_a_mix_is_shares_of_one():
    assert parse_mix("likes=8, counts=2") == {"likes": 0.8, "counts": 0.2}
    assert all(sum(parse_mix(name).values()) == pytest.approx(1) for name in MIXES)


@pytest.mark.parametrize("text", ["", "dislikes=1", "likes=x", "likes=nan", "likes=0"])
def test_a_mix_that_is_none_is_refused(text):
    with pytest.raises(CannotLoad, match="--mix"):
        parse_mix(text)


@pytest.mark.parametrize("text", ["", "1:2", "1:2:3m", "0:5:10s", "1:2:1e9s", "nan:2:3s"])
def test_a_ramp_that_is_none_is_refused(text):
    with pytest.raises(CannotLoad, match="--ramp"):
        read_ramp(text)
    assert read_ramp("500:8000:60s") == (500, 8000, 60)


def test_a_ramp_goes_evenly_from_rate_to_rate():
    times = list(ramp_times(100, 900, 10, seed=1))
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 10
    assert len(times) == pytest.approx(5_000, rel=0.1)
    # A quarter of the requests is due in the first half: (100 + 500) / 2 * 5 = 1,500.
    assert sum(moment < 5 for moment in times) == pytest.approx(1_500, rel=0.1)


@given(st.integers(1, 9), st.integers(9, 500), st.integers(0, 10_000), st.floats(1, 1e5))
def test_parts_make_the_whole_and_no_token_is_in_two(processes, connections, tokens, rate):
    order = Order(
        port=1,
        campaign="c",
        candidates=["a"],
        tokens_file="t",
        connections=connections,
        rate_per_second=rate,
        requests_max=1_000,
    )
    parts = split(order, processes, tokens)
    assert sum(part.connections for part in parts) == connections
    assert sum(part.requests_max for part in parts) == 1_000
    assert sum(part.rate_per_second for part in parts) == pytest.approx(rate)
    assert len({part.seed for part in parts}) == processes
    used = [
        token
        for part in parts
        for token in range(part.first_token, part.first_token + (part.devices or 0))
    ]
    assert len(set(used)) == len(used)
    assert all(token < tokens for token in used)


def test_devices_are_needed_for_likes_and_proofs_alone():
    assert devices_needed(1_000, {"counts": 1}, 2) == 0
    assert devices_needed(1_000, {"counts": 1, "proofs": 1}, 2) == 2
    assert 182 < devices_needed(1_000, {"likes": 1}, 1) < 300


@given(st.lists(st.floats(0.00001, 100), min_size=1, max_size=50))
def test_histograms_of_parts_merge_to_that_of_the_whole(latencies):
    half = len(latencies) // 2
    parts = merge([fold(latencies[:half]), fold(latencies[half:])])
    assert parts.get_total_count() == len(latencies)
    assert percentiles_ms(parts) == percentiles_ms(merge([fold(latencies)]))
    assert percentiles_ms(parts)["max_ms"] == pytest.approx(
        max(latencies) * 1e3, rel=0.002, abs=0.002
    )


def a_report(**other):
    latencies = fold([0.001, 0.002, 0.003])
    return Report(
        measured_seconds=1,
        measured_answers={201: 1, 503: 1, 500: 1},
        cpu_us={},
        own_cpu_us=10,
        busy=[],
        devices=1,
        accepted={"a": 1},
        kinds={"likes": KindReport({201: 1, 503: 1, 500: 1}, latencies)},
        seconds={0: SecondReport(3, 1, 1, latencies)},
        **other,
    )


ORDER = Order(port=1, campaign="c", candidates=["a"], tokens_file="t")
ABOUT = {"target": "http://<t>", "campaign": "c", "begun": "now", "machine": "m", "rate": 9.0}


def test_a_merged_report_is_the_sum_and_tells_overload_from_what_is_wrong():
    whole = merged([a_report(), a_report(lost=2)], ORDER, ABOUT)
    assert whole["kinds"]["likes"]["statuses"] == {"201": 2, "500": 2, "503": 2}
    assert (whole["refused"], whole["unexpected"]) == (2, 2)
    assert (whole["acknowledged"], whole["lost"]) == (2, 2)
    assert whole["by_second"][0]["answers"] == 6
    assert whole["generator"] == {
        "cpu_us": 10,
        "busy": 0,
        "send_lag_p99_ms": 0,
        "limit": False,
    }


@pytest.mark.parametrize("limit", [{"own_busy": 0.95}, {"send_lag_p99_ms": 5.0}])
def test_a_generator_that_was_the_limit_is_named(limit):
    assert merged([a_report(), a_report(**limit)], ORDER, ABOUT)["generator"]["limit"]


def test_the_page_is_whole_in_itself_and_escapes_what_it_shows():
    page = as_page(merged([a_report()], ORDER, ABOUT))
    assert "http://&lt;t&gt;" in page
    assert "<t>" not in page
    assert page.count("<svg") == 3
    assert "src=" not in page
    assert "<link" not in page
    assert "nan" not in page


def test_a_ramp_is_shown_over_what_it_offered():
    ramp = msgspec.structs.replace(ORDER, rate_per_second=100, rate_to_per_second=300, seconds=2)
    seconds = {n: SecondReport(3, 1, 1, fold([0.001])) for n in (0, 1)}
    whole = merged([msgspec.structs.replace(a_report(), seconds=seconds)], ramp, ABOUT)
    assert [each["offered_per_s"] for each in whole["by_second"]] == [150, 250]
    page = as_page(whole)
    assert page.count("<svg") == 4
    assert "300/s" not in page  # nothing was offered at that rate for a whole second
    assert "200/s" in page
