"""What a User-Agent says, as one byte: automation, a desktop browser, or the bucket of a phone.

Promise: the same text is the same byte on every machine and in every version, for it is stored
with the vote. Known weakness: anybody can send anybody's User-Agent; the byte says what was
claimed. 224 buckets for some thousands of phone models: two models share one now and then, which
statistics over crowds bear. Browsers that send a reduced User-Agent all claim the model "K".

A library would know more, but ua-parser takes 0.9 ms for one that it has not seen, and whoever
invents a new one for each request makes us pay that. This takes 6 to 10 us, and
50 for the worst text that was found.
"""

import re
from zlib import crc32

UNKNOWN = 0
"""None was sent."""
AUTOMATION = 1
"""A program that does not pretend to be a browser, or a browser that says it is driven by one."""
FIRST_MODEL = 32
MODELS = 224

READ_CHARACTERS_MAX = 512
"""What stands behind is not looked at, whatever its sender put there."""

# Looked for one by one: a regular expression that ignores case takes ten times as long.
_PROGRAMS = (
    *("spider", "crawl", "curl/", "wget/", "python", "aiohttp", "httpx", "okhttp", "java/"),
    *(
        "jakarta",
        "go-http",
        "node-fetch",
        "node.js",
        "axios",
        "undici",
        "libwww",
        "lwp::",
        "scrapy",
    ),
    *("headless", "phantomjs", "selenium", "webdriver", "puppeteer", "playwright", "postman"),
    *("insomnia", "httpclient", "winhttp", "php/", "guzzle", "rest-client", "ruby/", "perl/"),
)
_ROBOT = re.compile(r"(?<!cu)bot\b")
_ANDROID = re.compile(
    r"Android [0-9.]+;(?: [a-z]{2}[-_][a-zA-Z]{2};)? ([^;)]{1,64}?)(?: Build/|[;)])"
)
_HARMONY = re.compile(r"\(Phone; (OpenHarmony [0-9]+)")
_IPHONE = re.compile(r"\((iPhone|iPod)[^()]{0,40} OS ([0-9]{1,2})[_.]")

# The first that is found says the class.
_DESKTOPS = (
    (9, "WindowsWechat"),
    (10, "MacWechat"),
    (11, "iPad"),
    (12, "Edg/"),
    (13, "OPR/"),
    (14, "QQBrowser"),
    (15, "MetaSr"),
    (16, "360SE"),
    (17, "Firefox/"),
    (18, "CrOS"),
    (2, "Windows NT"),
    (3, "Macintosh"),
    (4, "X11; "),
)
_ELSE = 31


def agent_class(user_agent: str) -> int:
    """0 to 255: UNKNOWN, AUTOMATION, 2 to 31 a desktop or a tablet, from FIRST_MODEL on a phone."""
    if not user_agent:
        return UNKNOWN
    text = user_agent[:READ_CHARACTERS_MAX]
    lower = text.lower()
    if _ROBOT.search(lower) or any(word in lower for word in _PROGRAMS):
        return AUTOMATION
    phone = _ANDROID.search(text) or _HARMONY.search(text)
    if phone:
        return _bucket(phone[1])
    iphone = _IPHONE.search(text)
    if iphone:
        # Apple tells no model; the system's version is what tells crowds of them apart.
        return _bucket(f"{iphone[1]} {iphone[2]}")
    for number, mark in _DESKTOPS:
        if mark in text:
            return number
    return _ELSE


def _bucket(model: str) -> int:
    return FIRST_MODEL + crc32(model.strip().lower().encode(errors="replace")) % MODELS


_CHROME = re.compile(r"Chrome/([0-9]{2,3})\.")
_FIREFOX = re.compile(r"Firefox/([0-9]{2,3})\.")
_SAFARI = re.compile(r"Version/([0-9]{2})\.([0-9]{1,2})[^ ]* (?:Mobile/[0-9A-Z]+ )?Safari/")


def sends_fetch_metadata(user_agent: str) -> bool:
    """Whether this browser, by its own version, sends Sec-Fetch-Site to a secure address: Chrome
    from 76 on, Firefox from 90, Safari from 16.4. What is not clearly one of them: no."""
    text = user_agent[:READ_CHARACTERS_MAX]
    if found := _CHROME.search(text):
        return int(found[1]) >= 76
    if found := _FIREFOX.search(text):
        return int(found[1]) >= 90
    if found := _SAFARI.search(text):
        return (int(found[1]), int(found[2])) >= (16, 4)
    return False
