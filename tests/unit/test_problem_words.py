"""Every sentence that says what is wrong with a campaign folder has its Chinese."""

import ast
import re
from pathlib import Path

import pytest

from tally.console.problem_words import in_chinese, in_english

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(
        path
        for path in sorted((ROOT / "voting" / "intake").glob("*.py"))
        if path.name not in ("commands.py", "demo.py", "importer.py")
    ),
    ROOT / "tally" / "campaigns" / "uploads.py",
]
SENTENCE = re.compile(
    r"(is|has|must|names|holds|stands|lets|unpacks|none|was|cannot|would|the|no|sheet|\S+ \(?\S+\)?"
    r" (is|was|puts)|\S+ (is|was)) .*|is (empty|missing)"
)
PIECES = {"this is right"}
"""Of a sentence that is put together."""


def sentences():
    """All texts of these modules that are predicates, each value as a word."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        aside = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr | ast.JoinedStr)
            for inner in (node.values if isinstance(node, ast.JoinedStr) else [node.value])
        }
        for node in ast.walk(tree):
            if id(node) in aside:
                continue
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    part.value if isinstance(part, ast.Constant) else f"V{n}"
                    for n, part in enumerate(node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if SENTENCE.fullmatch(text) and not text.startswith("V0; ") and text not in PIECES:
                yield path.name, text


def test_every_sentence_has_its_chinese():
    found = list(sentences())
    assert len(found) > 80
    missing = [(name, text) for name, text in found if not re.search("[一-鿿]", in_chinese(text))]
    assert missing == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("is empty", "是空的"),
        ("is larger than 50 MB", "大于 50 MB"),
        ("Input should be greater than or equal to 0", "须不小于 0"),
        ("Input should be 'random' or 'listed'", "须为 'random' or 'listed'"),
        ("String should have at most 48 characters", "最多 48 个"),
        (
            "c003 (张三) is in the campaign and not in this list: will be withdrawn, votes and "
            "number stay; import with --accept-changes if that is meant",
            "c003（张三）在活动中而不在名单上：将作退出处理，票数和号码保留",
        ),
        ("c003 was 张三 and is 李四 now", "c003 原为张三，现为李四"),
        (
            "c003 was 张三 and is 李四 now: the votes of 张三 would go to 李四. If the list was "
            "renumbered, give everyone the former number; if only a name was corrected, "
            "import with --accept-changes if that is meant",
            "c003 原为张三，现为李四：张三的票将归李四。如果名单重新编了号，请用回原来的编号；"
            "只是更正姓名才可以确认",
        ),
        ("something new", "something new"),
    ],
)
def test_values_stay_in_the_sentence(english, chinese):
    assert in_chinese(english) == chinese


def test_english_without_what_only_the_command_line_can_do():
    assert in_english("x; import with --accept-changes if that is meant") == "x"
