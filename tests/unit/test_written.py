"""What people write down: kept as typed, without what nobody sees."""

import pytest

from tally.written import TOO_LONG, UNSEEN, tidy, unfit, unseen_in


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" \u3000一 \r\n\r\n二\r三\u2028四\n", "一 \n\n二\n三\n四"),
        ("表\t格", "表 格"),
        ("e\u0301", "é"),
        (" \n\t", ""),
    ],
)
def test_lines_stay_and_their_ends_are_of_one_kind(typed, kept):
    assert tidy(typed, 100) == kept
    assert unseen_in(kept) is None


@pytest.mark.parametrize(
    ("character", "which"),
    [
        ("\u202e", "U+202E"), ("\a", "U+0007"), ("\x1b", "U+001B"), ("\x1c", "U+001C"),
        ("\0", "U+0000"), ("\u200b", "U+200B"), ("\ufffd", "U+FFFD"),
    ],
)  # fmt: skip
def test_what_nobody_sees_is_named_and_refused(character, which):
    text = tidy(f"第一行\n甲{character}乙", 100)
    assert unseen_in(text) == which
    why = unfit(text, 100)
    assert why.told(lambda text, **values: (text, values)) == (UNSEEN, {"which": which})


def test_what_is_too_long_is_refused_and_not_cut():
    text = tidy("e\u0301" * 60, 100)
    assert len(text) == 120
    assert str(unfit(text, 100)) == TOO_LONG
    assert unfit("长" * 100, 100) is None
