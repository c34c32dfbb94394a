"""deploy/prometheus/: the rules name what the code has, and fire when they should."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def metrics_of_the_code():
    """Names as they stand in the source: counters without their `_total`."""
    return {
        name
        for package in ("voting", "tally", "deploy")
        for file in (ROOT / package).rglob("*.py")
        for name in re.findall(r'"(dianzan_[a-z_]+)"', file.read_text())
    }


def test_every_metric_that_a_rule_names_is_in_the_code():
    named = set()
    for file in ("rules.yml", "rules_test.yml"):
        named |= set(re.findall(r"\bdianzan_[a-z_]+", (FOLDER / file).read_text()))
    assert named
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named}
    assert bare - metrics_of_the_code() == set()


def test_every_rule_says_how_bad_it_is_and_what_it_means():
    rules = (FOLDER / "rules.yml").read_text().split("- alert: ")[1:]
    assert rules
    for rule in rules:
        assert re.search(r"labels: \{severity: (page|ticket)\}", rule), rule
        assert re.search(r'summary: "\S', rule), rule


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "containers.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=["configuration", "containers", "rules"],
)
def test_promtool_finds_nothing_wrong(arguments):
    ended = subprocess.run(
        (PROMTOOL, *arguments), check=False, cwd=FOLDER, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
