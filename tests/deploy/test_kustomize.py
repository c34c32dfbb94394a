"""deploy/kustomize/: what stands there is Kubernetes', and agrees with code and compose."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.cli import COMMANDS
from tally.accounts.sealing import Seal
from tests.deploy import test_compose
from tests.deploy.test_prometheus import metrics_of_the_code
from voting.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "kustomize"
OVERLAYS = sorted(path.parent for path in FOLDER.glob("overlays/*/kustomization.yaml"))
KUBECTL = shutil.which("kubectl")
PORTS = {
    "http": {"edge": "edge_port", "console": "console_port"},
    "admin": dict.fromkeys(("edge", "flush", "watch", "publish", "console"), "admin_port"),
}


def objects(folder):
    return [
        each
        for file in sorted(folder.glob("*.yaml"))
        if file.name != "kustomization.yaml"
        for each in yaml.safe_load_all(file.read_text())
    ]


BASE = objects(FOLDER / "base")
PODS = {
    each["metadata"]["name"]: each["spec"]["template"]["spec"]
    for each in BASE
    if each["kind"] in ("Deployment", "Job")
}


def kustomization(folder):
    return yaml.safe_load((folder / "kustomization.yaml").read_text())


def literals(folder):
    [generator] = kustomization(folder)["configMapGenerator"]
    return dict(each.split("=", 1) for each in generator["literals"])


def named(kind, name):
    [found] = [e for e in BASE if (e["kind"], e["metadata"]["name"]) == (kind, name)]
    return found


def validated(documents):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for each in documents:
        kubernetes_validate.validate(each, "1.37", strict=True)


def test_every_object_is_what_kubernetes_takes():
    validated(BASE)
    for overlay in OVERLAYS:
        validated(objects(overlay))


def test_every_file_is_listed():
    for folder in (FOLDER / "base", *OVERLAYS):
        there = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert {name for name in kustomization(folder)["resources"] if name[0] != "."} == there


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_is_built_and_is_what_kubernetes_takes(overlay):
    built = subprocess.run(
        (KUBECTL, "kustomize", overlay), check=False, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    documents = list(yaml.safe_load_all(built.stdout))
    validated(documents)
    assert {each["kind"] for each in documents} >= {each["kind"] for each in BASE} | {"Ingress"}
    by_kind = {each["kind"]: each for each in documents}
    told, scaler = by_kind["ConfigMap"]["data"], by_kind["HorizontalPodAutoscaler"]["spec"]
    assert told["DIANZAN_EDGE_WORKERS"] == str(scaler["maxReplicas"])
    for setting in told:
        assert setting.removeprefix("DIANZAN_").lower() in Settings.model_fields, setting


def test_runs_the_same_processes_as_compose():
    commands = {name: pod["containers"][0]["args"] for name, pod in PODS.items()}
    assert all(args[0] in COMMANDS for args in commands.values())
    compose = {service["command"][0] for service in test_compose.OURS.values()}
    # Keys are a Secret here, which is made by hand.
    assert {args[0] for args in commands.values()} == compose - {"keys"}


def test_every_setting_is_there_and_most_edges_are_what_the_scaler_allows():
    for folder in (FOLDER / "base", *OVERLAYS):
        for setting in literals(folder):
            assert setting.removeprefix("DIANZAN_").lower() in Settings.model_fields, setting
    for pod in PODS.values():
        for setting in pod["containers"][0].get("env", ()):
            assert setting["name"].removeprefix("DIANZAN_").lower() in Settings.model_fields
    scaler = named("HorizontalPodAutoscaler", "edge")["spec"]
    workers = literals(FOLDER / "base")["DIANZAN_EDGE_WORKERS"]
    assert workers == str(scaler["maxReplicas"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_nobody_and_writes_only_its_volumes(name):
    pod = PODS[name]
    [container] = pod["containers"]
    assert container["image"] == "dianzan"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = re.search(r"^USER (\d+):", (FOLDER.parent / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert str(pod["securityContext"]["runAsUser"]) == user
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    for volume in pod["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440
            assert mounts[volume["name"]]["readOnly"] is True
    assert literals(FOLDER / "base")["DIANZAN_SECRETS_DIR"] == mounts["secrets"]["mountPath"]
    for setting in container.get("env", ()):
        if setting["name"].endswith("_FILE"):
            folder = str(Path(setting["value"]).parent)
            assert folder in {mount["mountPath"] for mount in mounts.values()}


@pytest.mark.parametrize("name", sorted(PODS.keys() - {"migrate"}))
def test_ports_are_the_settings_and_probes_ask_what_the_code_answers(name):
    [container] = PODS[name]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port, number in ports.items():
        assert number == Settings.model_fields[PORTS[port][name]].default
    answers = {
        ("http", "/healthz"): ("edge", "console"),
        ("http", "/readyz"): ("edge",),
        ("admin", "/metrics"): tuple(PODS),
    }
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if kind in container:
            asked = container[kind]["httpGet"]
            assert name in answers[asked["port"], asked["path"]]
    assert {"startupProbe", "livenessProbe"} <= container.keys()
    assert ("readinessProbe" in container) == ("http" in ports)


def test_an_edge_has_time_to_leave():
    pod = PODS["edge"]
    waits = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + 20
    strategy = named("Deployment", "edge")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxUnavailable"] == 0


def test_whoever_is_selected_is_there():
    for each in BASE:
        spec = each.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector).get("app.kubernetes.io/component")
        assert wanted is None or wanted in PODS, each["metadata"]["name"]
        if each["kind"] == "Deployment":
            labels = spec["template"]["metadata"]["labels"]
            assert labels == spec["selector"]["matchLabels"]


def test_the_scaler_asks_for_a_metric_of_the_code():
    metrics = named("HorizontalPodAutoscaler", "edge")["spec"]["metrics"]
    assert {each["type"] for each in metrics} == {"Resource", "Pods"}
    asked = {each["pods"]["metric"]["name"] for each in metrics if each["type"] == "Pods"}
    assert asked <= metrics_of_the_code()


def test_each_policy_s_ports_are_ours_or_the_servers():
    ports = {
        port["port"]
        for each in BASE
        if each["kind"] == "NetworkPolicy"
        for rule in (*each["spec"].get("ingress", ()), *each["spec"].get("egress", ()))
        for port in rule["ports"]
    }
    ours = {Settings.model_fields[f"{part}_port"].default for part in ("edge", "console", "admin")}
    assert ports == ours | {53, 443, 465, 587, 5432, 6379, 26379}
    [nobody] = [e for e in BASE if e["metadata"]["name"] == "nobody"]
    assert nobody["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_console_s_key_as_the_readme_makes_it_is_one(tmp_path):
    readme = (FOLDER.parent / "README.md").read_text()
    [line] = re.findall(r"^(printf .*) > console\.json$", readme, re.MULTILINE)
    made = subprocess.run(("bash", "-c", line), check=True, capture_output=True, text=True).stdout
    assert len(bytes.fromhex(json.loads(made)["seal"])) == 32
    path = tmp_path / "console.json"
    path.write_text(made)
    Seal.load_or_make(path)
    assert path.read_text() == made
