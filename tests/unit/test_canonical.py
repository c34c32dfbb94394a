"""Canonical JSON is RFC 8785 for what we write."""

import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.canonical import INTEGER_MAX, NotCanonical, canonical
from tally.verify import canonical as independent

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def test_the_examples_of_rfc_8785():
    # 3.2.2.2 and 3.2.3 of the RFC, without its fractions.
    assert canonical({"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"}) == (
        '{"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()
    )
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    assert list(json.loads(canonical(dict.fromkeys(keys)))) == [
        "\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip
    assert canonical({"literals": [None, True, False]}) == b'{"literals":[null,true,false]}'


@given(VALUES)
def test_it_says_what_it_was_given(value):
    assert json.loads(canonical(value)) == value


@given(VALUES)
def test_the_verifiers_own_way_comes_to_the_same_bytes(value):
    assert independent(value) == canonical(value)


@given(VALUES)
def test_it_is_a_fixed_point(value):
    assert canonical(json.loads(canonical(value))) == canonical(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [0.5]}, r"\$\.a\[0\]: a float"),
        (INTEGER_MAX + 1, "too large"),
        ({"a": "\ud800"}, "surrogate"),
        ({"\udc00": 1}, "surrogate"),
        ({1: 1}, "no string"),
        ({"a": b"x"}, "bytes"),
        (float("nan"), "float"),
    ],
)
def test_what_has_no_canonical_text_is_refused_by_its_place(value, says):
    with pytest.raises(NotCanonical, match=says):
        canonical(value)


def test_an_enums_value_is_written_and_not_its_name():
    class Word(enum.StrEnum):
        ONE = "one"

    class Number(enum.IntEnum):
        TWO = 2

    assert canonical([Word.ONE, Number.TWO]) == b'["one",2]'
