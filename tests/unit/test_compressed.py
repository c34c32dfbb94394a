"""Answers in gzip: who takes it, and that it is the same."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.edge.compressed import Body, Stem, accepts_gzip


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br", False),
        ("identity", False),
        ("br;q=1, gzip;q=0.2", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip; q=0.001", True),
        ("gzip;q=1.000", True),
        ("gzip;q=1.5", False),
        ("gzip;q=x", False),
        ("gzip;q=", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("br,gzip", True),
        (",, ;;, gzip", True),
        ("gzipped", False),
        ("é", False),
    ],
)
def test_gzip_is_given_to_who_takes_it_and_to_nobody_else(said, takes):
    assert accepts_gzip(said) is takes


@given(st.text(max_size=60))
def test_no_header_however_odd_is_an_error(said):
    accepts_gzip(said)


@given(st.binary(max_size=2_000), st.lists(st.binary(max_size=100), max_size=4))
def test_bodies_with_the_same_beginning_are_compressed_right(beginning, ends):
    stem = Stem(beginning)
    for end in ends:
        body = stem.body(end)
        assert body.plain == beginning + end
        assert gzip.decompress(body.gzipped) == body.plain
        assert body.gzipped is body.gzipped, "made once"


def test_the_same_bytes_are_compressed_to_the_same_bytes():
    assert Body(b"x" * 999).gzipped == Body(b"x" * 999).gzipped


def test_what_is_small_is_not_compressed():
    assert Body(b"x" * 200).form(gzip=True) == b"x" * 200
    assert len(Body(b"x" * 400).form(gzip=True)) < 50
