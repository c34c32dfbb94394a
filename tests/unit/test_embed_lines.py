"""The lines that a portal pastes: right HTML whatever a candidate is called, and nothing inline."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.browser.stand_in import demo_campaign
from voting.campaign import Candidate, Identity, Rules
from voting.edge.site.colours import contrast
from voting.edge.site.embed import origin_of
from voting.edge.site.errors import wants_page
from voting.edge.site.lines import ELEMENTS, Build, Choice, Route, escaped, lines, markup

BASE = "https://likes.example.cn/"
BUILD = Build("v1.7", "sha384-abc+/=")
HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&quot;--></like-card>"


class Seen(HTMLParser):
    """Elements with their attributes, and the text, as a browser would have them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def one(self, tag):
        [found] = [attributes for name, attributes in self.elements if name == tag]
        return found


def choice(name="张衡", **looks):
    campaign = demo_campaign()
    candidate = Candidate(1, "zhang-heng", name, "所", "单位", "渠道", "研究员", "事迹")
    return Choice(campaign, candidate, **looks)


def made(route, chosen, base=BASE, media=""):
    return lines(route, chosen, base, BUILD, media)


@pytest.mark.parametrize("route", Route)
@given(name=st.one_of(st.just(HOSTILE), st.text(min_size=1)))
def test_whatever_a_candidate_is_called_the_lines_have_the_same_elements(route, name):
    plain, hostile = (Seen(made(route, choice(each)).html) for each in ("张衡", name))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    for (_, attributes), (_, usual) in zip(hostile.elements, plain.elements, strict=True):
        assert attributes.keys() == usual.keys()


@pytest.mark.parametrize("route", [Route.BUTTON, Route.IFRAME, Route.FORM, Route.IMAGE, Route.CARD])
def test_the_name_is_read_as_it_is(route):
    seen = Seen(made(route, choice(HOSTILE)).html)
    values = [value for _, attributes in seen.elements for value in attributes.values() if value]
    assert any(HOSTILE in text for text in (seen.text, *values))


def test_what_cannot_be_seen_is_written_as_a_number():
    """A name that turns the line round would show another line than it copies."""
    assert escaped("a\u202eb\u200bc\x07d") == "a&#x202e;b&#x200b;c d"


@pytest.mark.parametrize("route", ELEMENTS)
def test_an_elements_lines_pin_the_script_and_hold_a_link_for_where_none_runs(route):
    seen = Seen(made(route, choice(theme="dark", language="en")).html)
    script = seen.one("script")
    assert script["src"] == f"{BASE}embed/v1.7/like.js"
    assert script["integrity"] == BUILD.integrity
    assert script["crossorigin"] == "anonymous"
    assert "async" in script
    element = seen.one(f"like-{route}")
    assert element["campaign"] == "demo"
    assert element.get("candidate") == (None if route is Route.WALL else "zhang-heng")
    assert (element["theme"], element["lang"]) == ("dark", "en")
    assert seen.one("a")["href"].startswith(BASE)
    newest = Seen(made(route, choice(pinned=False)).html).one("script")
    assert newest["src"] == f"{BASE}embed/v1/like.js"
    assert "integrity" not in newest


def test_where_only_users_of_portals_may_like_the_elements_ask_for_the_portals_word():
    campaign = demo_campaign(rules=Rules(identity=Identity.REQUIRED))
    chosen = Choice(campaign, campaign.candidates[0])
    for route in Route:
        has = "identity=" in made(route, chosen).html
        assert has == (route in ELEMENTS)
        assert "identity=" not in markup(route, chosen, "../"), "the preview asks nobody"


def test_frame_form_and_image_lead_to_the_card_and_to_the_count():
    looks = choice(theme="dark", language="en", colour="#0a5c36")
    card = f"{BASE}embed/v1/card/demo/zhang-heng"
    query = "?theme=dark&lang=en&color=0a5c36"
    frame = Seen(made(Route.IFRAME, looks).html).one("iframe")
    assert frame["src"] == card + query
    assert frame["title"]
    form = Seen(made(Route.FORM, looks).html).one("form")
    assert (form["method"], form["action"]) == ("post", card + query)
    image = Seen(made(Route.IMAGE, looks).html)
    assert (
        image.one("img")["src"]
        == f"{BASE}v1/campaigns/demo/counts/zhang-heng.svg?theme=dark&color=0a5c36"
    )
    assert image.one("img")["alt"]
    assert image.one("a")["href"] == card


@pytest.mark.parametrize("route", Route)
def test_nothing_is_inline_so_that_a_strict_policy_suffices(route):
    line = made(route, choice(colour="#0a5c36"))
    for tag, attributes in Seen(line.html).elements:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "style"
    assert not any("unsafe" in directive for directive in line.policy)


@pytest.mark.parametrize("colour", ["#0a5c36", "#ffe000", "#000000", "#ffffff", "#8899ff"])
def test_a_colour_is_moved_until_it_can_be_read_in_light_and_in_dark(colour):
    css = made(Route.CARD, choice(colour=colour)).css
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    assert made(Route.CARD, choice(colour=colour, theme="light")).css == light.strip()
    for rules in (light, dark):
        said = dict(re.findall(r"(--like-[a-z-]+): (#[0-9a-f]{6});", rules))
        for ground in ("soft", "hover", "on-color"):
            assert contrast(said["--like-color"], said[f"--like-{ground}"]) >= 4.5
    assert "--like" not in made(Route.CARD, choice()).css


@pytest.mark.parametrize(
    ("route", "directives"),
    [
        (Route.IFRAME, {"frame-src"}),
        (Route.FORM, {"form-action"}),
        (Route.IMAGE, {"img-src"}),
        (Route.CARD, {"script-src", "style-src", "img-src", "connect-src", "worker-src"}),
    ],
)
def test_the_policy_names_the_service_without_its_path(route, directives):
    line = made(route, choice(), "https://www.example.cn/likes/", "https://media.example.cn")
    assert {each.split()[0] for each in line.policy} == directives
    for directive in line.policy:
        if not directive.startswith("worker-src"):
            assert directive.split()[1] == "https://www.example.cn"
    if route is Route.CARD:
        assert "img-src https://www.example.cn https://media.example.cn" in line.policy


def test_the_preview_is_what_is_copied_at_another_address():
    for route in Route:
        for base in (BASE, "../"):
            assert markup(route, choice(HOSTILE), base) in made(route, choice(HOSTILE), base).html


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("https://www.example.cn", "https://www.example.cn"),
        ("HTTPS://WWW.Example.cn:443/news/1.html?a=b#c", "https://www.example.cn"),
        ("www.example.cn/", "https://www.example.cn"),
        ("http://localhost:8080/x", "http://localhost:8080"),
        ("http://example.cn:80", "http://example.cn"),
        ("https://新闻.cn", "https://xn--efvy88h.cn"),
        ("http://[2001:DB8::1]:81/", "http://[2001:db8::1]:81"),
        ("https://user:secret@example.cn", "https://example.cn"),
        ("ftp://example.cn", ""),
        ("javascript:alert(1)", ""),
        ("file:///home/x.html", ""),
        ("null", "https://null"),
        ("https://", ""),
        ("https://[::1", ""),
        ("https://a b.cn", ""),
        ("https://example.cn:99999", ""),
        ('https://"><script>', ""),
        ("https://" + "a" * 70 + ".cn", ""),
        ("", ""),
    ],
)
def test_what_somebody_types_becomes_the_origin_that_a_browser_sends(typed, read):
    assert origin_of(typed) == read


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, TEXT/HTML ; q=0.5", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0", False),
        ("text/html; q=0.0, */*", False),
        ("text/htmlx", False),
        ("," * 100_000, False),
    ],
)
def test_only_who_names_html_gets_an_error_page(accept, page):
    assert wants_page(accept) is page
