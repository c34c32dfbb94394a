"""What can be said of the widget's files without a browser."""

import gzip
import re
from pathlib import Path

import pytest

DIST = Path(__file__).parents[2] / "voting" / "widget" / "dist"
BUILDS = sorted(folder.name for folder in DIST.iterdir())


@pytest.mark.parametrize("build", BUILDS)
def test_script_is_under_five_kilobytes_gzipped(build):
    assert len(gzip.compress((DIST / build / "like.js").read_bytes(), 9)) < 5_000


@pytest.mark.parametrize("build", BUILDS)
def test_script_makes_no_markup_out_of_text_and_writes_nothing_to_the_console(build):
    script = (DIST / build / "like.js").read_text()
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


@pytest.mark.parametrize("build", BUILDS)
def test_script_keeps_to_es2017(build):
    """By the forms that later editions brought and that one writes without thinking."""
    script = (DIST / build / "like.js").read_text()
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
    assert f"'../{build}/like.css'" in (DIST / build / "like.js").read_text()
    assert (DIST / build / "like.css").is_file()
