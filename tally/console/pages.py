"""Pages: templates, two languages, the navigation, and the messages that a page may begin with.

    return pages.render(request, "live.html", staff=staff, campaign=campaign)
    return pages.back("/flags/12", said="held")          # after a form: 303, and a message

In templates: `{{ _("English text") }}`, `{{ _("{n} votes", n=votes | number) }}`,
`{{ at | moment(zone) }}`, `{{ 1234567 | number }}`, `{{ 0.123 | percent }}`,
`{{ static("console.css") }}`. Everything is escaped.

Texts are English in the code; their Chinese is in locale/zh/<area>.po, one msgid and one msgstr
each, read at start. In Python, `_ = pages.translator_of(request)`; a text that stands in a table is
marked `N_("...")` there and translated where it is shown. A test holds texts and files together.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, tzinfo
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import jinja2
from babel.messages.pofile import read_po
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup, escape

from tally.console.parts import Role, Staff
from tally.translated import N_, Translate

LANGUAGES = {"zh": "zh-CN", "en": "en"}
"""Language -> the tag in a page. The first one is the house's."""
LANGUAGE_COOKIE = "dianzan-language"


def day_typed(text: str) -> date | None:
    """A day as a form sends it; None where it is none that we could mean."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2000 <= day.year < 3000 else None


class Entry(NamedTuple):
    """One entry of the navigation."""

    label: str
    path: str
    roles: frozenset[Role]


_ALL = frozenset(Role)
_OURS = frozenset({Role.VIEWER, Role.REVIEWER, Role.ADMIN})
_REVIEWERS = frozenset({Role.REVIEWER, Role.ADMIN})
_ANSWERING = frozenset({Role.REVIEWER, Role.ADMIN, Role.OFFICE})
_ADMINS = frozenset({Role.ADMIN})

NAVIGATION = (
    # In the order of a day's work. Each area adds its own line.
    Entry(N_("Live"), "/campaigns", _OURS),
    Entry(N_("Flags"), "/flags", _OURS),
    Entry(N_("Proposals"), "/proposals", _OURS),
    Entry(N_("Objections"), "/objections", _ANSWERING),
    Entry(N_("Public notice"), "/notice", frozenset({Role.OFFICE})),
    Entry(N_("Campaign control"), "/control", _OURS),
    Entry(N_("Publications"), "/publications", _ALL),
    Entry(N_("Votes by day"), "/exports", _REVIEWERS),
    Entry(N_("News and keys"), "/destinations", _ADMINS),
    Entry(N_("Audit log"), "/audit", _REVIEWERS),
    Entry(N_("Parts"), "/parts", _OURS),
    Entry(N_("Staff"), "/staff", _ADMINS),
)

SAID: dict[str, tuple[str, str]] = {
    # Key in ?said= -> (kind: good, info or bad; text). Each area adds its own lines.
    "saved": ("good", N_("Saved.")),
    "change-made": ("good", N_("Done. It is in force within 2 seconds.")),
    "change-proposed": ("info", N_("Proposed: it is done when a second person agrees.")),
    "imported": ("good", N_("Imported. Cards are there within 2 seconds.")),
    "password-changed": ("good", N_("Your password is changed; other sessions are ended.")),
    "authenticator-changed": ("good", N_("Your new authenticator is enrolled.")),
    "staff-added": ("good", N_("The account is made: it awaits its first sign-in.")),
    "staff-disabled": ("good", N_("The account is disabled, and its sessions are ended.")),
    "final-proposed": ("good", N_("Proposed. Now somebody else has to agree.")),
    "destination-added": ("good", N_("Added. Send a test to see whether it arrives.")),
    "destination-off": ("good", N_("Switched off. What waited for it is among the dead letters.")),
    "destination-on": ("good", N_("Switched on.")),
    "test-written": ("good", N_("The test is on its way: it is sent within seconds.")),
    "letter-again": ("good", N_("It goes again, with all its tries.")),
    "key-revoked": ("good", N_("The key is revoked.")),
    "case-held": ("good", N_("Decided: the votes are held.")),
    "case-released": ("good", N_("Decided: the votes count.")),
    "reason-wanted": ("bad", N_("Nothing was done: a text is wanted.")),
    "comment-added": ("good", N_("Your comment is written down.")),
    "proposed": ("good", N_("Proposed. Now somebody else has to agree.")),
    "proposal-approved": ("good", N_("Agreed to, and done.")),
    "proposal-rejected": ("good", N_("Refused. Nothing was done.")),
    "proposal-withdrawn": ("info", N_("Taken back. Nothing was done.")),
    "notice-proposed": ("good", N_("Proposed. Now somebody else has to agree to this text.")),
    "objection-entered": ("good", N_("Written down. It waits for an answer.")),
    "objection-answered": ("good", N_("The answer is recorded.")),
    "name-deleted": ("good", N_("The name is deleted.")),
    "signed-out": ("info", N_("You are signed out.")),
    "signed-out-everywhere": ("good", N_("All other sessions of yours are ended.")),
}


@functools.cache
def _catalog() -> Mapping[str, str]:
    """English -> Chinese, out of every area's file."""
    found: dict[str, str] = {}
    folder = Path(__file__).with_name("locale") / "zh"
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file):
                if isinstance(message.id, str) and message.id and isinstance(message.string, str):
                    found[message.id] = message.string
    return found


def translator(language: str) -> Translate:
    """Translates into this language; `{name}` in a text is filled with the value of that name."""
    catalog = _catalog() if language == "zh" else {}

    def translate(text: str, **values: object) -> str:
        found = catalog.get(text) or text
        return found.format(**values) if values else found

    return translate


def language_of(request: Request) -> str:
    """As chosen by the link at the foot of a page, else as the browser prefers, else Chinese."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    best, best_weight = "zh", 0.0
    for part in request.headers.get("accept-language", "")[:200].split(","):
        tag, _, rest = part.strip().partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and weight > best_weight:
            best, best_weight = language, weight
    return best


def translator_of(request: Request) -> Translate:
    return translator(language_of(request))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}"


def _percent(share: float | None, digits: int = 1) -> str:
    """0.123 -> 12.3 %."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _moment(
    at: datetime | None, zone: str | tzinfo = "Asia/Shanghai", *, seconds: bool = False
) -> Markup:
    """A time in the campaign's zone, as an element that programs read too."""
    if at is None:
        return Markup("–")
    there = at.astimezone(ZoneInfo(zone) if isinstance(zone, str) else zone)
    shown = there.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}">{}</time>').format(
        there.isoformat(timespec="seconds"), shown
    )


@functools.cache
def static(name: str) -> str:
    """Address of a file in static/: another one when its content is another."""
    content = files("tally.console").joinpath("static", name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tally.console"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"number": _number, "percent": _percent, "moment": _moment}
_templates.globals |= {"static": static}


def render(
    request: Request,
    template: str,
    *,
    staff: Staff | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """A page, in the reader's language, with whoever is signed in and the message of ?said=."""
    return HTMLResponse(fragment(request, template, staff=staff, **context), status, headers)


def fragment(request: Request, template: str, *, staff: Staff | None = None, **context: Any) -> str:
    """The same as text: the inside of an element that is kept up to date, for instance."""
    language = language_of(request)
    path = request.url.path
    said = SAID.get(request.query_params.get("said", ""))
    own = {
        "_": translator(language),
        "language": language,
        "language_tag": LANGUAGES[language],
        "staff": staff,
        # `section`: which entry a page belongs to that lies under another one's address.
        "navigation": _navigation(staff, context.get("section", path)),
        "said": said,
        "path": path,
        "here": here(request),
    }
    return _templates.get_template(template).render(own | context)


def here(request: Request) -> str:
    """The address of this page, for links that come back to it."""
    query = request.url.query
    return own_path(request.url.path + (f"?{query}" if query else ""))


class Link(NamedTuple):
    label: str
    path: str
    current: bool


def _navigation(staff: Staff | None, path: str) -> list[Link]:
    if staff is None:
        return []
    entries = [entry for entry in NAVIGATION if staff.role in entry.roles]
    # A campaign's own page of an area belongs to that area: /campaigns/demo/flags/7 to /flags.
    of_campaign, campaign, area = [*path.split("/"), "", "", ""][1:4]
    if of_campaign == "campaigns" and campaign and f"/{area}" in {one.path for one in entries}:
        path = f"/{area}"
    return [Link(entry.label, entry.path, _is_under(path, entry.path)) for entry in entries]


def _is_under(path: str, entry: str) -> bool:
    return path == entry or (entry != "/" and path.startswith(f"{entry}/"))


def back(path: str, *, said: str | None = None) -> RedirectResponse:
    """After a form: go to this page of ours and read that. `said`: a key of SAID."""
    assert said is None or said in SAID, said
    if said is not None:
        path += ("&" if "?" in path else "?") + f"said={said}"
    return RedirectResponse(path, 303)


def own_path(text: str, otherwise: str = "/") -> str:
    """`text` where it is the path of a page of this console, else `otherwise`: an address from
    outside must lead nowhere else (`//evil.example`, `/\\evil.example`, `https:...`)."""
    parts = urlsplit(text)
    if (
        not text.startswith("/")
        or text.startswith(("//", "/\\"))
        or "\\" in text
        or any(ord(character) < 0x21 or ord(character) == 0x7F for character in text)
        or parts.scheme
        or parts.netloc
        or len(text) > 500
    ):
        return otherwise
    return text


def show(texts: Iterable[object]) -> Markup:
    """Several texts, a line each."""
    return Markup("<br>").join(escape(text) for text in texts)


Describe = Callable[[Any, Translate], str]
