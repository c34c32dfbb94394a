"""What people write down for good: reasons, comments, objections and the answers to them.

It is kept as it was typed, in as many lines, but for what nobody sees: a character that has no
width or turns the line round makes a record read otherwise than it was written, and is refused.
"""

import re
import unicodedata

from tally.proposal_kinds import CannotBeDone
from tally.translated import N_
from voting.intake.text import fault_of

TOO_LONG = N_("The text is too long.")
UNSEEN = N_(
    "The text holds a character that cannot be seen ({which}). Delete it, or type the words around "
    "it anew."
)

_LINE_END = re.compile(r"\r\n|[\r\v\f\u0085\u2028\u2029]")


def tidy(text: str, characters_max: int) -> str:
    """Trimmed, in NFC, with "\\n" between its lines and no tabs. What is longer than
    `characters_max` is not put in NFC (which takes quadratic time over a long run of combining
    marks): it will be refused."""
    text = _LINE_END.sub("\n", text.strip()).replace("\t", " ")
    return text if len(text) > characters_max else unicodedata.normalize("NFC", text)


def unseen_in(text: str) -> str | None:
    """The first character that cannot be seen, as "U+202E"; None where there is none."""
    fault = fault_of(text.replace("\n", " "))
    found = re.search(r"U\+[0-9A-F]{4,6}", fault or "")
    return found[0] if found else fault


def unfit(text: str, characters_max: int) -> CannotBeDone | None:
    """Why a tidy text is not taken; None where it is. Whether it may be empty is the caller's to
    say."""
    if len(text) > characters_max:
        return CannotBeDone(TOO_LONG)
    if which := unseen_in(text):
        return CannotBeDone(UNSEEN, which=which)
    return None
