"""`dianzan plan`: what it multiplies, where its figures come from, what it says of limits."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.plan.commands import app, read_count
from deploy.plan.figures import ASSUMED, REFERENCE, CannotRead, read_figures
from deploy.plan.model import Demand, plan

FIGURES = read_figures(None)


def planned(*arguments):
    return CliRunner().invoke(app, ["plan", *arguments])


def test_every_part_is_at_most_as_busy_at_the_peak_as_is_assumed():
    at_most = FIGURES["busy_at_most"].value

    @given(st.floats(1e3, 1e9), st.floats(1, 1e6))
    def holds(likes, peak):
        if peak < likes / 86_400:
            return
        for stage in plan(Demand(likes, 1, peak), FIGURES).stages:
            assert stage.busy <= at_most * 1.000001
            # ... and one fewer would be busier than that.
            if stage.wanted > 1:
                assert peak / (stage.one_carries * (stage.wanted - 1)) > at_most

    holds()


def test_a_dearer_like_takes_more_cores_and_longer():
    def edge(us):
        dearer = msgspec.structs.replace(FIGURES["edge_us"], value=us)
        return plan(Demand(1e8, 31, 25_000), FIGURES | {"edge_us": dearer}).stages[0]

    assert edge(100).wanted > edge(20).wanted
    assert edge(100).waits_ms > edge(20).waits_ms


def test_disk_and_memory_follow_from_the_likes_by_hand():
    found = plan(Demand(1e8, 10, 25_000), FIGURES)
    device_days = 1e7 / FIGURES["likes_per_device_day"].value
    bytes_each = FIGURES["device_day_bytes"].value * FIGURES["hot_days"].value
    assert found.store_memory_gb == pytest.approx(device_days * bytes_each / 1e9)
    assert found.postgres_disk_gb == pytest.approx(FIGURES["postgres_bytes"].value / 10)
    assert found.in_mbit_s == pytest.approx(25_000 * FIGURES["request_bytes"].value * 8 / 1e6)


def test_the_first_to_give_out_is_what_carries_least_and_cannot_be_more():
    slow = msgspec.structs.replace(FIGURES["log_rows_per_s"], value=10.0)
    found = plan(Demand(1e6, 31, 100), FIGURES | {"log_rows_per_s": slow})
    assert found.bottleneck.name == "log (cores)"
    assert not found.bottleneck.within
    slow = msgspec.structs.replace(FIGURES["watch_us"], value=1e6)
    found = plan(Demand(1e6, 31, 100), FIGURES | {"watch_us": slow})
    assert found.bottleneck.name == "watch (cores)"


def test_a_peak_below_the_mean_is_refused():
    with pytest.raises(ValueError, match="below the mean"):
        plan(Demand(1e9, 1, 1_000), FIGURES)
    assert planned("--likes", "1G", "--days", "1", "--peak", "1000").exit_code == 2


def test_what_the_bench_measured_replaces_the_reference_and_nothing_else(tmp_path):
    bench = tmp_path / "bench.json"
    figures = {"flusher": {"details": {"rounds": [{"flusher_rows_per_s": 9.0}]}}}
    seen = {"figures": figures, "stacks": {"fast-lane": {"edge_us": 77.0}}}
    bench.write_text(json.dumps(seen))
    found = read_figures(bench)
    assert (found["edge_us"].value, found["edge_us"].source) == (77.0, "measured here")
    assert found["flush_rows_per_s"].value == 9.0
    unlike = {name for name in found if found[name] != (REFERENCE | ASSUMED)[name]}
    assert unlike == {"edge_us", "flush_rows_per_s"}


def test_nothing_is_taken_from_a_quick_bench(tmp_path):
    bench = tmp_path / "bench.json"
    seen = {"quick": True, "figures": {}, "stacks": {"fast-lane": {"edge_us": 77.0}}}
    bench.write_text(json.dumps(seen))
    assert read_figures(bench) == FIGURES


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "nonsense"])
def test_a_file_that_is_no_bench_is_refused_by_name(tmp_path, text):
    bench = tmp_path / "other.json"
    bench.write_text(text)
    with pytest.raises(CannotRead, match=r"other\.json"):
        read_figures(bench)


def test_counts_are_read_with_their_letter():
    assert [read_count(text) for text in ("5", "500k", "100M", "1.5G")] == [5, 5e5, 1e8, 1.5e9]
    for wrong in ("0", "", "-1", "1T", "many", "0k"):
        with pytest.raises(ValueError, match="--likes"):
            read_count(wrong)


def test_the_table_and_the_json_say_the_same_and_name_every_assumption(tmp_path):
    bench = tmp_path / "bench.json"
    bench.write_text('{"figures": {}}')
    arguments = ("--likes", "100M", "--peak", "25000", "--bench", str(bench))
    text, as_json = planned(*arguments), planned(*arguments, "--json")
    assert text.exit_code == as_json.exit_code == 0
    found = json.loads(as_json.stdout)
    for stage in found["plan"]["stages"]:
        (line,) = (
            each for each in text.stdout.splitlines() if each.startswith(stage["name"] + " ")
        )
        assert str(stage["wanted"]) in line.split()
    for figure in (REFERENCE | ASSUMED).values():
        assert figure.what in text.stdout
        assert figure.source in text.stdout
    assert [step["peak"] for step in found["steps"]][-1] == 250_000


def test_what_this_version_cannot_run_is_said_and_the_exit_code_tells(tmp_path):
    bench = tmp_path / "bench.json"
    bench.write_text('{"figures": {}}')
    found = planned("--likes", "1G", "--peak", "250000", "--bench", str(bench))
    assert found.exit_code == 1
    assert "this version runs 1" in found.stdout
