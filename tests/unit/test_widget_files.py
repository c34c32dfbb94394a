"""What can be said of the widget's files without a browser."""

import base64
import gzip
import hashlib
import re
from pathlib import Path

import pytest

from voting.widget.build import BUILD, built

DIST = Path(__file__).parents[2] / "voting" / "widget" / "dist"
BUILDS = sorted(folder.name for folder in DIST.iterdir())
SCRIPTS = sorted(str(script.relative_to(DIST)) for script in DIST.glob("*/*.js"))


@pytest.mark.parametrize("build", BUILDS)
def test_script_is_under_five_kilobytes_gzipped_and_what_it_loads_under_three(build):
    assert len(gzip.compress((DIST / build / "like.js").read_bytes(), 9)) < 5_000
    assert len(gzip.compress((DIST / build / "like-work.js").read_bytes(), 9)) < 3_000


def test_newest_build_is_what_its_source_makes():
    """`python voting/widget/build.py` was forgotten where this fails."""
    assert {item.name: item.read_bytes() for item in (DIST / BUILD).iterdir()} == built()


@pytest.mark.parametrize("build", BUILDS)
def test_what_the_script_loads_is_pinned_by_its_hash(build):
    digest = hashlib.sha256((DIST / build / "like-work.js").read_bytes()).digest()
    assert f"sha256-{base64.b64encode(digest).decode()}" in (DIST / build / "like.js").read_text()


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_makes_no_markup_out_of_text_and_writes_nothing_to_the_console(script):
    script = (DIST / script).read_text()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "console.",
        "document.cookie",
    ):
        assert forbidden not in script


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_keeps_to_es2017(script):
    """By the forms that later editions brought and that one writes without thinking."""
    script = (DIST / script).read_text()
    for newer in (
        r"\?\.",  # optional chaining
        r"\?\?",
        r"catch\s*\{",
        r"\{\s*\.\.\.",  # object spread
        r",\s*\.\.\.\w+\s*\}",
        r"\.finally\(",
        r"\bfor await\b",
        r"\.flat(Map)?\(",
        r"Object\.fromEntries",
        r"\.(replaceAll|matchAll|at)\(",
        r"\bimport\b|\bexport\b",
        r"\d_\d",
    ):
        assert not re.search(newer, script), newer


@pytest.mark.parametrize("build", BUILDS)
def test_style_is_taken_from_the_same_build(build):
    assert f"'../{build}/'" in (DIST / build / "like.js").read_text()
    assert (DIST / build / "like.css").is_file()
