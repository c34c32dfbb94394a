"""What can be said of the widget's files without a browser."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDGET = ROOT / "voting" / "widget"
DIST = WIDGET / "dist"
NODE_MODULES = ROOT / "tests" / "browser" / "node_modules"
BUILDS = sorted((folder.name for folder in DIST.glob("v1.*")), key=lambda name: int(name[3:]))
NEWEST = BUILDS[-1]
SCRIPTS = sorted(str(script.relative_to(DIST)) for script in DIST.glob("*/*.js"))
FIRST = "sha256-gbRc3E+TI90v1dcO4EOstGKGNRqYXVkvW2F8y1+ahUU="
HASHES = json.loads((DIST / "hashes.json").read_text())


def gzipped(build, name):
    return len(gzip.compress((DIST / build / name).read_bytes(), 9))


@pytest.mark.parametrize("build", BUILDS)
def test_script_is_under_five_kilobytes_gzipped_and_the_work_of_a_challenge_under_three(
    build,
):
    assert gzipped(build, "like.js") < 5_000
    assert gzipped(build, "like-work.js") < 3_000


def test_script_and_wall_are_under_nine_kilobytes_together():
    assert gzipped(NEWEST, "like.js") + gzipped(NEWEST, "like-wall.js") < 9_000


def test_what_few_pages_need_and_the_style_are_small_as_well():
    assert gzipped(NEWEST, "like-more.js") < 3_000
    assert gzipped(NEWEST, "like.css") < 2_500
    assert gzipped(NEWEST, "like-wall.css") < 3_500


@pytest.mark.parametrize("build", BUILDS)
def test_build_is_what_was_noted_when_it_was_made(build):
    """Pages pin these files by hash. Where this fails for the newest, `make widget` was forgotten;
    where it fails for another one, a frozen build was touched: take that back."""
    found = {
        item.name: {kind: _integrity(item, kind) for kind in ("sha256", "sha384")}
        for item in (DIST / build).iterdir()
    }
    assert found == HASHES[build]


def test_first_build_is_for_ever_what_it_was():
    """The note itself could be changed: this is the first one's, by heart."""
    assert HASHES["v1.0"]["like.js"]["sha256"] == FIRST


def _integrity(path, kind):
    digest = hashlib.new(kind, path.read_bytes()).digest()
    return f"{kind}-{base64.b64encode(digest).decode()}"


@pytest.fixture(scope="module")
def node():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node on this machine")
    return node


@pytest.fixture(scope="module")
def tools(node):
    if not (WIDGET / "node_modules" / "esbuild").exists():
        pytest.skip("the build's tools are not installed: npm ci in voting/widget")
    return node


def test_newest_build_is_what_its_source_makes(tools, tmp_path):
    subprocess.run([tools, "build.mjs", tmp_path], cwd=WIDGET, check=True, timeout=60)
    made = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    assert made == {item.name: item.read_bytes() for item in (DIST / NEWEST).iterdir()}


@pytest.mark.slow
def test_source_has_no_type_error(tools):
    compiler = WIDGET / "node_modules" / "typescript" / "bin" / "tsc"
    found = subprocess.run(
        [tools, compiler, "--noEmit"],
        check=False,
        cwd=WIDGET,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("build", BUILDS)
def test_scripts_that_the_script_loads_are_pinned_by_their_hash(build):
    loaded = [item for item in (DIST / build).glob("*.js") if item.name != "like.js"]
    scripts = "".join(item.read_text() for item in (DIST / build).glob("*.js"))
    for item in loaded:
        assert _integrity(item, "sha256") in scripts, item.name


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_makes_no_markup_out_of_text(script):
    script = (DIST / script).read_text()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "document.cookie",
        "cookieStore",
    ):
        assert forbidden not in script


@pytest.mark.parametrize("script", SCRIPTS)
def test_only_what_a_programmer_has_to_mend_is_written_to_the_console(script):
    """A page's origin or identity that the campaign does not accept; both are in like-more.js."""
    text = (DIST / script).read_text()
    assert text.count("console.") == (2 if script.endswith("like-more.js") else 0)
    assert text.count("console.") == text.count("console.error(")


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_calls_nothing_that_es2017_does_not_have(script):
    """What a syntax check cannot see, by the names that one writes without thinking."""
    script = (DIST / script).read_text()
    for newer in (
        r"\.finally\(",
        r"\.flat(Map)?\(",
        r"Object\.fromEntries",
        r"\.(replaceAll|matchAll|at|allSettled|any|replaceChildren|structuredClone)\(",
        r"\b(globalThis|BigInt|queueMicrotask|structuredClone|WeakRef)\b",
        r"\.randomUUID\(",
    ):
        assert not re.search(newer, script), newer


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_parses_as_es2017(node, script):
    """By acorn at ecmaVersion 8: no newer form of the language is anywhere in it."""
    if not (NODE_MODULES / "acorn").exists():
        pytest.skip("acorn is not installed: npm ci in tests/browser")
    check = (
        "const acorn = require(process.argv[1]);"
        "acorn.parse(require('fs').readFileSync(process.argv[2], 'utf8'), { ecmaVersion: 8 });"
    )
    found = subprocess.run(
        [node, "-e", check, NODE_MODULES / "acorn", DIST / script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("build", BUILDS)
def test_style_is_taken_from_the_same_build(build):
    assert f"../{build}/" in (DIST / build / "like.js").read_text()
    assert (DIST / build / "like.css").is_file()


@pytest.mark.parametrize("folder", [WIDGET, ROOT / "tests" / "browser"], ids=["widget", "tests"])
def test_tools_are_locked_without_the_name_of_a_registry(folder):
    lock = (folder / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert "resolved" not in lock
    assert not re.search(r'"https?://(?!(opencollective|github|www|tidelift|paypal)\b)', lock)
    wanted = json.loads((folder / "package.json").read_text())["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values()), "pinned"
