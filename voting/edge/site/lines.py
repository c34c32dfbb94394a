"""The lines that a portal pastes into its pages, for each way to embed; no I/O.

Whatever a candidate is called, the lines are right HTML: what is pasted shows the name and runs
nothing of it. They need no inline style and no inline script, so that they work under a strict
policy. Colours of the elements go into the portal's own style sheet for the same reason.
"""

import enum
import html
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from voting.campaign import Campaign, Candidate, Identity
from voting.edge.site import colours


class Route(enum.StrEnum):
    """A way to embed."""

    CARD = "card"
    BUTTON = "button"
    WALL = "wall"
    IFRAME = "iframe"
    FORM = "form"
    IMAGE = "image"


ELEMENTS = (Route.CARD, Route.BUTTON, Route.WALL)
THEMES = ("auto", "light", "dark")
LANGUAGES = ("zh", "en")
FRAME_WIDTH, FRAME_HEIGHT = 320, 740
IDENTITY = "/my/like-identity"
"""An address of the portal's, to be replaced."""
IMAGE_HEIGHT = 28
"""The image's own, in pixels."""
_CALLED = {"zh": "为{}点赞", "en": "Like {}"}
_ALL_OF = {"zh": "查看全部人物并点赞", "en": "See all candidates and like them"}
_COUNT_OF = {"zh": "{}的点赞数", "en": "Likes of {}"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody wants to embed, and how it shall look."""

    campaign: Campaign
    candidate: Candidate
    theme: str = "auto"
    """One of THEMES."""
    colour: str = ""
    """As #b8291a; "" = the campaign's."""
    language: str = ""
    """One of LANGUAGES; "" = Chinese, or for the elements whatever is next to the page's."""
    pinned: bool = True
    """One build for good, with its hash, or always the newest."""


class Build(NamedTuple):
    """The script that pinned lines name."""

    version: str
    """As v1.1."""
    integrity: str
    """As sha384-..."""


class Lines(NamedTuple):
    """What to paste for one route."""

    route: Route
    html: str
    css: str
    """For the portal's style sheet; "" where nothing is needed."""
    policy: tuple[str, ...]
    """What a strict Content-Security-Policy of the portal's page has to allow."""


def lines(route: Route, choice: Choice, base: str, build: Build, media: str = "") -> Lines:
    """`base` is the service's public address with a slash at its end, `media` the origin of
    photos, where it is another."""
    identity = IDENTITY if choice.campaign.rules.identity is Identity.REQUIRED else ""
    made = markup(route, choice, base, identity)
    if route in ELEMENTS:
        made = f"{_script(choice, base, build)}\n{made}"
    return Lines(route, made, _css(route, choice), _policy(route, base, media))


def markup(route: Route, choice: Choice, base: str, identity: str = "") -> str:
    """The HTML of one route without its script; `base` may be relative. `identity`: where an
    element gets the portal's word for its user, if it must."""
    campaign, candidate = choice.campaign, choice.candidate
    language = choice.language or "zh"
    card = f"{base}embed/v1/card/{campaign.id}/{candidate.id}"
    called = _CALLED[language].format(candidate.name)
    if route is Route.WALL:
        fallback = _link(f"{base}campaigns/{campaign.id}", _ALL_OF[language])
        attributes = {"campaign": campaign.id} | _looks(choice, identity)
        return _element("like-wall", attributes, fallback)
    if route in ELEMENTS:
        attributes = {"campaign": campaign.id, "candidate": candidate.id}
        attributes |= _looks(choice, identity)
        if route is Route.BUTTON:
            # What it is called for those who hear it, without a request for the list.
            attributes["name"] = candidate.name
        return _element(f"like-{route}", attributes, _link(card, called))
    if route is Route.IFRAME:
        frame = {
            "src": card + _query(choice),
            "title": called,
            "width": str(FRAME_WIDTH),
            "height": str(FRAME_HEIGHT),
            "loading": "lazy",
            "frameborder": "0",  # the one way that no policy on styles refuses
        }
        return f"<iframe{_attributes(frame)}></iframe>"
    if route is Route.FORM:
        form = {"method": "post", "action": card + _query(choice)}
        return f"<form{_attributes(form)}>\n  <button>{escaped(called)}</button>\n</form>"
    counts = f"{base}v1/campaigns/{campaign.id}/counts/{candidate.id}"
    image = {
        "src": f"{counts}.svg{_image_query(choice)}",
        "alt": _COUNT_OF[language].format(candidate.name),
        "height": str(IMAGE_HEIGHT),
    }
    return f"<a{_attributes({'href': card})}><img{_attributes(image)}></a>"


def escaped(text: str) -> str:
    """As HTML, between tags and in quoted attributes. What cannot be seen, or turns the line round,
    is written as a number: the line that is shown is the line that is copied."""
    return "".join(_visible(character) for character in html.escape(text))


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return " "
    return f"&#x{ord(character):x};" if category in ("Cf", "Zl", "Zp") else character


def _script(choice: Choice, base: str, build: Build) -> str:
    if not choice.pinned:
        return f"<script{_attributes({'src': f'{base}embed/v1/like.js'})} async></script>"
    pinned = {
        "src": f"{base}embed/{build.version}/like.js",
        "integrity": build.integrity,
        "crossorigin": "anonymous",
    }
    return f"<script{_attributes(pinned)} async></script>"


def _element(name: str, attributes: dict[str, str], fallback: str) -> str:
    return f"<{name}{_attributes(attributes)}>\n  {fallback}\n</{name}>"


def _link(address: str, text: str) -> str:
    return f"<a{_attributes({'href': address})}>{escaped(text)}</a>"


def _attributes(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{escaped(value)}"' for name, value in attributes.items())


def _looks(choice: Choice, identity: str) -> dict[str, str]:
    """Attributes of an element beside whom it is for."""
    made = {"theme": choice.theme, "lang": choice.language, "identity": identity}
    return {name: value for name, value in made.items() if value}


def _query(choice: Choice) -> str:
    """The same for the card's page."""
    asked = [f"theme={choice.theme}"]
    if choice.language:
        asked.append(f"lang={choice.language}")
    if choice.colour:
        asked.append(f"color={choice.colour.removeprefix('#')}")
    return "?" + "&".join(asked)


def _image_query(choice: Choice) -> str:
    """The same for the image, which cannot know what its reader's system prefers."""
    asked = ["theme=dark"] if choice.theme == "dark" else []
    if choice.colour:
        asked.append(f"color={choice.colour.removeprefix('#')}")
    return f"?{'&'.join(asked)}" if asked else ""


def _css(route: Route, choice: Choice) -> str:
    """Room for what is on its way, so that nothing moves when it comes; and the colour, moved as
    far as it must be to be read in light and in dark."""
    rules = {
        Route.CARD: ["display: flex", "min-height: 480px"],
        Route.BUTTON: ["display: inline-block", "min-height: 44px"],
        Route.WALL: ["display: block", "min-height: 100vh"],
    }.get(route)
    if rules is None:
        return ""
    name = f"like-{route}"
    if choice.colour:
        rules += _colours(colours.dark if choice.theme == "dark" else colours.light, choice)
    made = _rule(name, rules)
    if choice.colour and choice.theme == "auto":
        dark = _rule(name, _colours(colours.dark, choice)).replace("\n", "\n  ")
        made += f"\n@media (prefers-color-scheme: dark) {{\n  {dark}\n}}"
    return made


def _colours(scheme: Callable[[str], colours.Scheme], choice: Choice) -> list[str]:
    """A button in the accent, on a soft ground, and filled with it once it is liked."""
    made = scheme(choice.colour)
    on_colour = made.paper if scheme is colours.dark else made.card
    return [
        f"--like-color: {made.accent}",
        f"--like-on-color: {on_colour}",
        f"--like-soft: {made.soft}",
        f"--like-hover: {made.soft}",
    ]


def _rule(name: str, declarations: list[str]) -> str:
    return f"{name} {{\n{''.join(f'  {each};{chr(10)}' for each in declarations)}}}"


def _policy(route: Route, base: str, media: str) -> tuple[str, ...]:
    origin = "/".join(base.split("/", 3)[:3])
    if route is Route.IFRAME:
        return (f"frame-src {origin}",)
    if route is Route.FORM:
        return (f"form-action {origin}",)
    if route is Route.IMAGE:
        return (f"img-src {origin}",)
    return (
        f"script-src {origin}",
        f"style-src {origin}",
        f"img-src {origin}{f' {media}' if media else ''}",
        f"connect-src {origin}",
        "worker-src blob:",
    )
