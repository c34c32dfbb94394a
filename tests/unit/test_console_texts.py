"""Texts of the console: every one has its Chinese, and no Chinese is left over."""

import ast
import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from jinja2 import Environment, nodes

from tally.console import pages

ROOT = Path(__file__).parents[2]
CONSOLE = ROOT / "tally" / "console"
CATALOGS = sorted((CONSOLE / "locale" / "zh").glob("*.po"))
MARKS = {"_", "N_", "translate", "say"}
"""What a text is marked with in Python."""


def texts_of_templates():
    for path in sorted((CONSOLE / "templates").glob("*.html")):
        for call in Environment().parse(path.read_text()).find_all(nodes.Call):  # noqa: S701
            if isinstance(call.node, nodes.Name) and call.node.name == "_":
                chosen = call.args[0]
                either = isinstance(chosen, nodes.CondExpr)
                for each in (chosen.expr1, chosen.expr2) if either else (chosen,):
                    if isinstance(each, nodes.Const):
                        yield path.name, each.value


def texts_of_code():
    for path in sorted((ROOT / "tally").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and _name(node.func) in MARKS:
                chosen = node.args[0]
                either = isinstance(chosen, ast.IfExp)
                for each in (chosen.body, chosen.orelse) if either else (chosen,):
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        yield path.name, each.value


def _name(function):
    return getattr(function, "id", None)


TEXTS = {text: where for where, text in (*texts_of_code(), *texts_of_templates())}


def messages(path):
    with path.open("rb") as file:
        return [message for message in read_po(file) if message.id]


def test_every_text_has_its_chinese():
    catalog = {m.id: m.string for path in CATALOGS for m in messages(path)}
    missing = {text: where for text, where in TEXTS.items() if not catalog.get(text)}
    assert missing == {}


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.name)
def test_no_chinese_is_left_over_and_its_places_are_those_of_the_english(path):
    for message in messages(path):
        assert message.id in TEXTS, f"{message.id!r} stands nowhere"
        places = re.compile(r"\{(\w+)[^}]*\}")
        assert set(places.findall(message.string)) == set(places.findall(message.id)), message.id


def test_a_text_that_two_areas_use_has_one_chinese():
    found = {}
    for path in CATALOGS:
        for message in messages(path):
            assert found.setdefault(message.id, message.string) == message.string, message.id


def test_values_are_filled_in_and_an_unknown_text_stays_english():
    assert pages.translator("en")("{n} votes of {n}", n=3) == "3 votes of 3"
    assert pages.translator("zh")("no such text {n}", n=3) == "no such text 3"
    assert pages.translator("zh")("Sign in") == "登录"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "zh"),
        ("en-GB,en;q=0.9", "en"),
        ("fr, en;q=0.5, zh;q=0.8", "zh"),
        ("de", "zh"),
        ("en;q=oops, zh-TW", "zh"),
        ("*;q=0.5,en;q=0.1" + ",x" * 10_000, "en"),
    ],
)
def test_the_language_is_the_browsers_and_chinese_where_it_names_neither(header, language):
    from starlette.requests import Request

    scope = {"type": "http", "headers": [(b"accept-language", header.encode())]}
    assert pages.language_of(Request(scope)) == language


@pytest.mark.parametrize(
    "text",
    [
        *("//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example"),
        *("javascript:alert(1)", "/x\r\nSet-Cookie: a=b", "/\t/evil.example", "x", "", "/" * 600),
        *("/a\\..\\b", "http:/evil.example", " /x"),
    ],
)
def test_a_way_back_from_outside_never_leads_outside(text):
    assert pages.own_path(text) == "/"


@pytest.mark.parametrize("text", ["/", "/flags/12?x=1&y=%2F", "/audit?actor=%E6%9D%8E"])
def test_a_way_back_to_a_page_of_ours_stays(text):
    assert pages.own_path(text) == text
