"""Addresses of photos and videos, and which bytes a Range asks for."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from voting.campaign import Campaign, Picture, Video, VotingWindow
from voting.edge.media import media_origin, photo_members, picture, video
from voting.edge.videos import OutOfRange, span_of
from voting.settings import Settings

NOW = datetime(2026, 7, 1, tzinfo=UTC)
CAMPAIGN = Campaign(
    1,
    "spring",
    "春天的活动",
    VotingWindow(NOW, NOW + timedelta(days=1), ZoneInfo("Asia/Shanghai")),
    pictures={
        "aa11": Picture("aa11", 476, 600, 1191, 1500),
        "bb22": Picture("bb22", 476, 600),
        "cc33": Picture("cc33", 90, 120, 90, 120),
    },
    videos={
        "dd44": Video("dd44", "mp4", 1_000, 125.4, 1920, 1080),
        "ee55": Video("ee55", "mov", 1_000, 9.0),
    },
)


def test_the_json_of_a_photo_has_both_sizes_and_their_forms():
    assert photo_members(CAMPAIGN, "aa11", None) == {
        "webp": "/v1/photos/aa11.webp",
        "jpeg": "/v1/photos/aa11.jpg",
        "width": 476,
        "height": 600,
        "large": {
            "webp": "/v1/photos/aa11-large.webp",
            "jpeg": "/v1/photos/aa11-large.jpg",
            "width": 1191,
            "height": 1500,
        },
    }


@pytest.mark.parametrize("photo", ["bb22", "cc33"])
def test_there_is_no_large_one_where_it_is_not_made_or_not_larger(photo):
    assert photo_members(CAMPAIGN, photo, None)["large"] is None
    shown = picture(CAMPAIGN, photo, "", None)
    assert shown.largest == (shown.webp, shown.jpeg, shown.width, shown.height)


def test_who_has_no_photo_has_none():
    assert photo_members(CAMPAIGN, None, None) is None
    assert photo_members(CAMPAIGN, "ff00", None) is None
    assert video(CAMPAIGN, None, "", None) is None


def test_with_a_media_url_all_addresses_are_there():
    url = "https://media.example.cn/likes"
    members = photo_members(CAMPAIGN, "aa11", url)
    assert members["webp"] == f"{url}/v1/photos/aa11.webp"
    assert members["large"]["jpeg"] == f"{url}/v1/photos/aa11-large.jpg"
    assert picture(CAMPAIGN, "aa11", "../../", url).jpeg == f"{url}/v1/photos/aa11.jpg"
    assert video(CAMPAIGN, "ee55", "../../", url).src == f"{url}/v1/videos/ee55.mov"


def test_without_one_templates_write_the_way_from_their_page():
    assert picture(CAMPAIGN, "aa11", "../../", None).webp == "../../v1/photos/aa11.webp"
    shown = video(CAMPAIGN, "dd44", "", None)
    assert (shown.src, shown.media_type, shown.length) == (
        "v1/videos/dd44.mp4", "video/mp4", "2:05",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (None, ""),
        ("https://media.example.cn", "https://media.example.cn"),
        ("https://media.example.cn:8443/likes/", "https://media.example.cn:8443"),
        ("http://[::1]:9000/bucket", "http://[::1]:9000"),
    ],
)
def test_pages_allow_the_origin_of_the_media(url, origin):
    assert media_origin(Settings(media_url=url)) == origin


@pytest.mark.parametrize(
    "url",
    ["media.example.cn", "//media.example.cn", "https://media.example.cn; script-src *",
     "https://u:p@media.example.cn", "https://media.example.cn/?a=", "https://m.cn/a b",
     "https://m.cn/\"onerror=", "https://m.cn//x"],
)  # fmt: skip
def test_a_media_url_cannot_break_out_of_a_page_or_its_policy(url):
    with pytest.raises(ValidationError):
        Settings(media_url=url)


# Ranges.


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (None, None),
        ("bytes=0-", (0, 1_000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=999-", (999, 1_000)),
        ("bytes=10-99999", (10, 1_000)),
        ("bytes=-5", (995, 1_000)),
        ("bytes=-99999", (0, 1_000)),
        # May be answered by the whole.
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=0-1,5-6", None),
        ("bytes=a-b", None),
        ("bytes=٠-٩", None),
        ("bytes = 0-1", None),
        ("lines=0-1", None),
        ("bytes=0-" + "9" * 5_000, None),
    ],
)
def test_a_range_is_one_span_or_nothing(asked, span):
    assert span_of(asked, 1_000) == span


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=5000-"])
def test_a_range_behind_the_end_is_refused(asked):
    with pytest.raises(OutOfRange):
        span_of(asked, 1_000)


@given(st.integers(1, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_span_is_within_the_file(size, first, last):
    for asked in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            span = span_of(asked, size)
        except OutOfRange:
            continue
        assert span is None or 0 <= span.begin < span.end <= size
