"""deploy/grafana/: every metric and label that a dashboard asks for is in the code."""

import json
import re
from pathlib import Path

import pytest

from tests.deploy.test_prometheus import metrics_of_the_code

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
OF_UP_ALONE = {"dianzan_process_restarts_total"}
"""What the supervisor says of its children, and no process by itself."""
OF_PROMETHEUS = {"instance", "job", "le", "process"}
"""Labels that a scrape gives, a histogram has, or `dianzan up` adds."""


def expressions(dashboard):
    return [
        target["expr"]
        for panel in json.loads(dashboard.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def shown_in_dashboards():
    """The samples' names, as they are exposed."""
    return {
        name
        for dashboard in DASHBOARDS
        for expression in expressions(dashboard)
        for name in re.findall(r"\b(?:dianzan|process)_[a-z_]+\b", expression)
    }


def exposed(text):
    """Names of samples that such an exposition has, those that have no sample yet included."""
    endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    return {
        family + ending
        for family, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
        for ending in endings.get(kind, ("",))
    }


def test_every_metric_is_in_the_code():
    ours = {name for name in shown_in_dashboards() if name.startswith("dianzan_")}
    assert len(ours) > 20
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in ours}
    assert bare - metrics_of_the_code() == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_label_is_one_that_our_metrics_have(dashboard):
    code = "".join(
        file.read_text()
        for package in ("voting", "tally")
        for file in (ROOT / package).rglob("*.py")
    )
    panels = json.loads(dashboard.read_text())["panels"]
    legends = " ".join(t["legendFormat"] for panel in panels for t in panel.get("targets", ()))
    asked = set(re.findall(r"\{\{(\w+)\}\}", legends))
    for expression in expressions(dashboard):
        for listed in re.findall(r"\bby \(([^)]*)\)", expression):
            asked |= set(listed.replace(" ", "").split(","))
    assert asked
    for label in asked - OF_PROMETHEUS:
        assert re.search(rf'(labels=)?\["{label}"\]', code), label


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_beside_each_other_and_ask_whichever_prometheus_is_chosen(dashboard):
    board = json.loads(dashboard.read_text())
    [variable] = board["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
            assert panel["targets"], panel["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
