"""What a User-Agent is taken for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud.user_agents import (
    AUTOMATION,
    FIRST_MODEL,
    UNKNOWN,
    agent_class,
    sends_fetch_metadata,
)

WECHAT = (
    "Mozilla/5.0 (Linux; Android 13; {model} Build/TP1A.220905.001; wv) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile Safari/537.36 XWEB/1160065 "
    "MMWEBSDK/20231202 MicroMessenger/8.0.47.2560(0x28002F30) NetType/4G Language/zh_CN"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS {version} like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.48(0x18003030) NetType/WIFI"
)


def test_a_phone_model_is_one_bucket_in_every_app():
    browser = (
        "Mozilla/5.0 (Linux; U; Android 13; zh-cn; V2166A) AppleWebKit/537.36 Chrome/109.0.0.0 "
        "Mobile Safari/537.36"
    )
    assert agent_class(WECHAT.format(model="V2166A")) == agent_class(browser) >= FIRST_MODEL


def test_other_models_are_mostly_other_buckets():
    buckets = {agent_class(WECHAT.format(model=f"M{number:04}")) for number in range(200)}
    assert len(buckets) > 100
    assert min(buckets) >= FIRST_MODEL


def test_iphones_are_told_apart_by_their_system():
    assert agent_class(IPHONE.format(version="17_4")) == agent_class(
        IPHONE.format(version="17_6_1")
    )
    assert agent_class(IPHONE.format(version="17_4")) != agent_class(IPHONE.format(version="16_0"))


def test_harmony_is_a_phone():
    assert (
        agent_class("Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 Chrome/114.0.0.0")
        >= FIRST_MODEL
    )


@pytest.mark.parametrize(
    "text",
    [
        "curl/8.5.0",
        "Python/3.11 aiohttp/3.9.1",
        "python-requests/2.31.0",
        "okhttp/4.12.0",
        "Go-http-client/1.1",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0.0.0 Safari/537.36",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "Googlebot/2.1",
    ],
)
def test_programs_are_automation(text):
    assert agent_class(text) == AUTOMATION


def test_a_phone_whose_maker_is_called_like_a_robot_is_a_phone():
    assert agent_class(WECHAT.format(model="CUBOT")) >= FIRST_MODEL


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0.0.0", 2),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0", 12),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17.2 Safari/605.1.15", 3),
        ("Mozilla/5.0 (iPad; CPU OS 17_2 like Mac OS X) Version/17.2 Mobile/15E148 Safari", 11),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0", 17),
        ("Something that nobody has heard of", 31),
    ],
)
def test_desktops_and_tablets_are_classes_of_their_own(text, number):
    assert agent_class(text) == number


def test_none_is_unknown():
    assert agent_class("") == UNKNOWN


@given(st.text(max_size=2_000))
def test_any_text_is_one_byte(text):
    assert 0 <= agent_class(text) <= 255


def test_a_long_one_costs_no_more_than_its_beginning():
    assert agent_class("(" * 511 + "curl/8") == agent_class("(" * 511)
    assert agent_class("Android 9; " * 100_000) == agent_class("Android 9; " * 46)


@pytest.mark.parametrize(
    ("text", "sends"),
    [
        ("Chrome/75.0.3770.100 Mobile", False),
        ("Chrome/76.0.3809.89 Mobile", True),
        ("Gecko/20100101 Firefox/89.0", False),
        ("Gecko/20100101 Firefox/90.0", True),
        ("Version/16.3 Mobile/15E148 Safari/604.1", False),
        ("Version/16.4 Mobile/15E148 Safari/604.1", True),
        (IPHONE.format(version="17_4"), False),
        ("", False),
    ],
)
def test_who_sends_fetch_metadata_is_known_by_version(text, sends):
    assert sends_fetch_metadata(text) is sends
